//! Maps that clients read in pages: between two of them the server knows who has begun, and until when that may go on.

use super::{Refusal, Session};
use crate::{
    broker::{core::Core, hub::HubKey, mesh::MapJoin, permission::option_ms},
    model::{ConnKey, Disconnect, ErrorCode},
};
use std::sync::Arc;

/// How long a client may read a map, when the configuration says nothing.
const CATCH_UP_TIMEOUT_MS: u64 = 5_000;

/// The maps a client has begun to read and is not subscribed to yet: at most `client.channel_limit` of them, and as
/// many again whose first pages it asked for at once.
#[derive(Debug, Default)]
pub struct Readings(Vec<Reading>);

#[derive(Debug)]
struct Reading {
    channel: Arc<str>,
    until_ms: u64,
}

impl Session {
    /// The client got the first page of `channel`. What took too long before is forgotten.
    fn begin_reading(&mut self, channel: Arc<str>, until_ms: u64, now_ms: u64) {
        let Readings(maps) = &mut **self.readings.get_or_insert_default();
        maps.retain(|it| it.channel != channel && now_ms <= it.until_ms);
        maps.push(Reading { channel, until_ms });
    }

    /// It is a subscriber now, or has to begin anew, or wants no more of it.
    pub(super) fn end_reading(&mut self, channel: &str) {
        let Some(Readings(maps)) = self.readings.as_deref_mut() else { return };
        maps.retain(|it| *it.channel != *channel);
        if maps.is_empty() {
            self.readings = None;
        }
    }
}

impl Core {
    /// Whether a client may ask for this part of a map: what follows upon the first page is for who has got that, and for
    /// a while. Who comes back with what it has begins as well.
    pub(super) fn check_reading(&self, conn: ConnKey, channel: &str, join: &MapJoin) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(conn) else { return Ok(()) };
        let maps = session.readings.as_deref().map(|it| &it.0[..]).unwrap_or_default();
        let in_time = |it: &&Reading| self.now.ms <= it.until_ms;
        let reading = maps.iter().find(|it| *it.channel == *channel);
        let comes_back = join.recover && join.phase != MapJoin::STATE;
        match reading {
            None if join.is_first() => {
                let too_many = maps.iter().filter(in_time).count() >= self.settings.client.channel_limit;
                if too_many { Err(ErrorCode::LimitExceeded.into()) } else { Ok(()) }
            }
            _ if join.is_first() || comes_back => Ok(()),
            Some(it) if in_time(&it) => Ok(()),
            Some(_) => Err(Disconnect::SLOW.into()),
            // Of nothing but what changes from now on, or from a place that its owner looks at.
            None if join.phase == MapJoin::LIVE => Ok(()),
            None => Err(ErrorCode::PermissionDenied.into()),
        }
    }

    /// The client got the first page of `channel`.
    pub(super) fn begin_reading(&mut self, conn: ConnKey, channel: Arc<str>) {
        let Ok(options) = self.channels.resolve(&channel) else { return };
        let timeout_ms = match option_ms(options.map.subscribe_catch_up_timeout) {
            0 => CATCH_UP_TIMEOUT_MS,
            ms => u64::from(ms),
        };
        let now_ms = self.now.ms;
        if let Some(session) = self.sessions.get_mut(conn) {
            session.begin_reading(channel, now_ms.saturating_add(timeout_ms), now_ms);
        }
    }

    /// The client reads the channel no further.
    pub(super) fn end_reading(&mut self, conn: ConnKey, hub: HubKey) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.readings.is_some()
            && let Some(channel) = self.hub.get(hub)
        {
            session.end_reading(&channel.name);
        }
    }
}
