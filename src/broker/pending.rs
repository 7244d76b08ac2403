//! Questions that left the session side and what to do with their answers.
//!
//! An entry is a key with a generation, a typed continuation and a deadline. Late, duplicated and foreign
//! answers find no entry and are dropped. Continuations are values, never closures: the simulator can list them.

use super::{
    group::Filter,
    hub::HubKey,
    mesh::{AskKey, OwnedKey},
    permission::Grants,
    seam::CoreStats,
    tracks::Wanted,
};
use crate::{
    model::{ClientId, ConnKey, ErrorCode, Position, Unsubscribe},
    stdx::slab::Slab,
};
use std::sync::Arc;

#[derive(Debug)]
pub enum Pending {
    Subscribe(SubscribePending),
    Publish {
        conn: ConnKey,
        id: u32,
    },
    Presence {
        conn: ConnKey,
        id: u32,
    },
    PresenceStats {
        conn: ConnKey,
        id: u32,
    },
    History {
        conn: ConnKey,
        id: u32,
    },
    /// A position check of a channel of this core, which its owner called `owned` then.
    Position {
        hub: HubKey,
        owned: OwnedKey,
    },
    /// One ask that answers one server API call.
    Api {
        call: u64,
    },
    /// The connect of a session waits for the owner of its user.
    Enter {
        conn: ConnKey,
    },
    /// The owner of a user is asked how many cores will answer `gather`.
    Act {
        gather: AskKey,
    },
    /// A JWKS endpoint was asked for its keys.
    Keys {
        endpoint: Arc<str>,
    },
    Track(Box<TrackPending>),
    Broadcast(Box<BroadcastPending>),
    /// One publish of the broadcast under `broadcast`.
    BroadcastItem {
        broadcast: AskKey,
        index: usize,
    },
    Gather(Box<GatherPending>),
}

impl Pending {
    /// The connection whose command this answers.
    #[must_use]
    pub fn conn(&self) -> Option<ConnKey> {
        match self {
            Self::Subscribe(pending) => (!pending.late).then_some(pending.conn),
            Self::Publish { conn, .. }
            | Self::Presence { conn, .. }
            | Self::PresenceStats { conn, .. }
            | Self::History { conn, .. }
            | Self::Enter { conn } => Some(*conn),
            Self::Track(pending) => Some(pending.conn),
            Self::Position { .. }
            | Self::Api { .. }
            | Self::Act { .. }
            | Self::Keys { .. }
            | Self::Broadcast(_)
            | Self::BroadcastItem { .. }
            | Self::Gather(_) => None,
        }
    }
}

/// No offset: the latest publication, wherever it is.
pub const LATEST: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub struct SubscribePending {
    pub conn: ConnKey,
    /// Outlives the session: a subscriber that is gone when the answer comes is unsubscribed by this id.
    pub client: ClientId,
    pub hub: HubKey,
    pub grants: Grants,
    /// Which publications the client wants.
    pub filter: Option<Arc<Filter>>,
    /// The client recovers from this offset; [`LATEST`] where that does not matter, as only the latest is given.
    pub recover_from: Option<u64>,
    pub origin: SubscribeOrigin,
    /// As in [`crate::wire::client::SubscribeResult`].
    pub publish_debounce: u32,
    /// The channel is a map, or another that is no stream.
    pub map: Option<MapPending>,
    /// The client was told that this took too long: nothing waits for the answer any more.
    pub late: bool,
    /// The server API ended it meanwhile.
    pub unsubscribe_after: Option<Unsubscribe>,
}

/// Keys a client wants to track.
#[derive(Debug)]
pub struct TrackPending {
    pub conn: ConnKey,
    pub id: u32,
    pub hub: HubKey,
    /// Of the subscription, in the book of the channel.
    pub serial: u32,
    pub wanted: Vec<Wanted>,
    /// What the client is told of its signatures.
    pub expires: bool,
    pub ttl: u32,
}

impl SubscribePending {
    /// The latest publication is all it can recover.
    #[must_use]
    pub fn wants_latest(&self) -> bool {
        self.recover_from == Some(LATEST)
    }

    /// Not everything is for this subscriber.
    #[must_use]
    pub fn picks(&self) -> bool {
        self.filter.is_some() || self.grants.no_echo
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct MapPending {
    /// The type of subscription.
    pub kind: i32,
    pub recover: bool,
    /// The first page of a map was asked for.
    pub first: bool,
}

#[derive(Clone, Debug)]
pub enum SubscribeOrigin {
    /// A command of the client with this id; the reply says how many seconds its token has (0: none), and this data.
    Client { id: u32, ttl: u32, data: Option<Arc<[u8]>> },
    /// The server API; the client is told by a push with this data.
    Server { data: Option<Arc<[u8]>> },
    /// The connection's token; the client is told in the reply to connect, with this data. Without it the
    /// connection makes no sense and ends.
    Connect { data: Option<Arc<[u8]>> },
}

#[derive(Debug)]
pub struct BroadcastPending {
    pub call: u64,
    pub results: Vec<Result<Option<Position>, ErrorCode>>,
    pub left: usize,
}

/// An answer gathered from several cores; one that stays silent is left out when the deadline comes.
#[derive(Debug)]
pub struct GatherPending {
    pub call: u64,
    pub answered: usize,
    /// How many will answer; `None` while only the owner of a user knows.
    pub expected: Option<usize>,
    pub gathered: Gathered,
}

#[derive(Debug)]
pub enum Gathered {
    Channels(Vec<(Arc<str>, u32)>),
    Stats(Vec<CoreStats>),
    Acted,
}

/// The open questions of a core, by the key that travels with them.
pub type PendingTable = Slab<Pending>;
