//! What is published, and by whom.

use super::ClientId;
use std::sync::Arc;

/// Who a client is to others: in presence, join and leave, and beside its publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Empty for anonymous users.
    pub user: Arc<str>,
    pub client: ClientId,
    /// Of the connection. JSON for JSON clients.
    pub conn_info: Option<Arc<[u8]>>,
    /// Of this connection in this channel.
    pub chan_info: Option<Arc<[u8]>>,
}

/// Key and value pairs beside a publication, in the order they were given.
pub type Tags = Vec<(Box<str>, Box<str>)>;

/// What few publications have beside their data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Extra {
    /// Where it was published, for subscribers of a pattern.
    pub channel: Option<Arc<str>>,
    /// Of the entry it sets or removes, in a map.
    pub key: Box<str>,
    pub removed: bool,
    /// Subscribers were told other data than this, so what comes next is no difference to it.
    pub divided: bool,
    pub score: i64,
    /// Of the key's data, in a shared poll; 0 elsewhere.
    pub version: u64,
}

/// One message of a channel, immutable once its owner core has given it an offset. Crosses cores as `Arc`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Publication {
    /// 0 when the channel keeps no history.
    pub offset: u64,
    /// The payload exactly as published.
    pub data: Box<[u8]>,
    /// Present when a client published it.
    pub info: Option<Arc<ClientInfo>>,
    pub tags: Tags,
    /// Milliseconds since 1970 at which the owner core took it. Not sent to subscribers.
    pub time_ms: u64,
    /// What few publications have.
    pub extra: Option<Box<Extra>>,
    /// Set when `data` is known to be one valid JSON value; otherwise a core checks before it writes to JSON clients.
    pub json: bool,
    /// May go out as the difference to the publication before it, to subscribers who agreed on deltas.
    pub delta: bool,
}
