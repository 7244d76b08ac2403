//! Questions about a channel: presence, history, position.

use super::{
    Shard,
    channel::{Members, Rules},
};
use crate::{
    broker::mesh::{Answer, HistoryFilter, OwnedKey},
    model::{ErrorCode, Now, Position},
};
use std::sync::Arc;

impl Shard {
    pub(super) fn presence(&self, name: &str) -> Result<Answer, ErrorCode> {
        let members = self.members(name)?;
        Ok(Answer::Presence(members.map(|members| members.list()).unwrap_or_default()))
    }

    pub(super) fn presence_stats(&self, name: &str) -> Result<Answer, ErrorCode> {
        let members = self.members(name)?;
        let (clients, users) = members.map_or((0, 0), |members| (members.clients(), members.users()));
        Ok(Answer::PresenceStats { clients, users })
    }

    /// Asking for the history of a channel nobody has published to makes its stream, so that the position
    /// in the answer stays true.
    pub(super) fn history(
        &mut self,
        name: &Arc<str>,
        filter: &HistoryFilter,
        now: Now,
    ) -> Result<Answer, ErrorCode> {
        let is_stream = |rules: &Rules| rules.keeps_history() && !rules.map;
        let (key, rules) = self.look_up_with(name, is_stream)?;
        let key = key.unwrap_or_else(|| self.create(name, rules));
        let stream = self.use_stream(key, now.ms).ok_or(ErrorCode::Internal)?;
        let publications = stream.history.read(filter)?;
        Ok(Answer::History { publications, position: stream.history.position() })
    }

    /// Forgets the publications; the position stays.
    pub(super) fn history_remove(&mut self, name: &str) -> Result<Answer, ErrorCode> {
        let is_stream = |rules: &Rules| rules.keeps_history() && !rules.map;
        let (key, _) = self.look_up_with(name, is_stream)?;
        let channel = key.and_then(|key| self.channels.get_mut(key));
        if let Some(stream) = channel.and_then(|channel| channel.stream.as_deref_mut()) {
            stream.history.clear();
        }
        Ok(Answer::HistoryRemoved)
    }

    /// `None` when the channel is gone or has no place.
    pub(super) fn position(&self, key: OwnedKey) -> Option<Position> {
        let channel = self.channels.get(key)?;
        if let Some(poll) = channel.poll.as_deref() {
            return Some(poll.position());
        }
        Some(channel.stream.as_deref()?.history.position())
    }

    /// `None` when nobody is there.
    fn members(&self, name: &str) -> Result<Option<&Members>, ErrorCode> {
        let (key, _) = self.look_up_with(name, |rules| rules.presence)?;
        let channel = key.and_then(|key| self.channels.get(key));
        Ok(channel.and_then(|channel| channel.members.as_deref()))
    }

    fn look_up_with(
        &self,
        name: &str,
        has: impl Fn(&Rules) -> bool,
    ) -> Result<(Option<OwnedKey>, Rules), ErrorCode> {
        let (key, rules) = self.look_up(name)?;
        if has(&rules) { Ok((key, rules)) } else { Err(ErrorCode::NotAvailable) }
    }
}
