//! What goes into the broker of one core and what comes out, in plain values.

pub use super::mesh::{HistoryFilter, KeyMode, MapRead, MapSet, PollSet, Recover, Told};
pub use crate::auth::Overrides;
use crate::{
    metrics::Counters,
    model::{ClientInfo, ConnKey, Disconnect, ErrorCode, Position, Publication, Tags},
    stdx::slab::Key,
};
use std::sync::Arc;

pub use super::denials::Denial;
pub use crate::auth::KeySet;
pub use crate::wire::backend::{PollItem, PollRefresh, PollRefreshed};

/// What the broker wants done by its driver. The driver does it and never decides anything.
#[derive(Debug)]
pub enum Effect {
    /// Stop or go on reading from this connection.
    Pause(ConnKey),
    Resume(ConnKey),
    /// Tell the peer (a close frame with this code and reason, unless the code is 3000), flush, close. For
    /// 3008 and 3009 what waits is dropped first. Ignored for a connection that is closing.
    Close {
        conn: ConnKey,
        disconnect: Disconnect,
    },
    /// A session with a prelude is connected: it will be told what it waits for.
    Connected(ConnKey),
    /// Ask this JWKS endpoint, elsewhere and not here, and tell every core what it says
    /// ([`Core::on_keys`](super::core::Core::on_keys)).
    FetchKeys {
        endpoint: Arc<str>,
    },
    /// Ask a backend, elsewhere and not here, and tell this core what it says
    /// ([`Core::on_backend`](super::core::Core::on_backend)).
    CallBackend(BackendCall),
    /// Answers [`SockJsAsk`] number `call`.
    SockJs {
        call: u64,
        answer: SockJsAnswer,
    },
    /// Answers [`ApiRequest`] number `call`.
    ApiReply {
        call: u64,
        reply: Result<ApiReply, ErrorCode>,
    },
}

/// A question to a backend, answered exactly once under its number.
#[derive(Debug)]
pub struct BackendCall {
    pub id: Key,
    pub request: BackendRequest,
}

#[derive(Debug)]
pub enum BackendRequest {
    PollRefresh(PollRefresh),
}

#[derive(Debug)]
pub enum BackendAnswer {
    PollRefresh(PollRefreshed),
}

/// How a call went. The log has been told why one failed.
#[derive(Debug)]
pub struct BackendResult {
    /// `None`: there is no answer that makes sense.
    pub answer: Option<BackendAnswer>,
    pub micros: u64,
}

/// What a server API call asks, whatever transport it came by.
#[derive(Clone, Debug)]
pub enum ApiRequest {
    Publish {
        channel: Arc<str>,
        data: Box<[u8]>,
        tags: Tags,
        options: PublishOptions,
    },
    Broadcast {
        channels: Vec<Arc<str>>,
        data: Box<[u8]>,
        tags: Tags,
        options: PublishOptions,
    },
    Subscribe {
        target: Target,
        channel: Arc<str>,
        info: Option<Arc<[u8]>>,
        data: Option<Arc<[u8]>>,
        recover_since: Option<Position>,
        overrides: Overrides,
        /// When the subscription ends, in milliseconds since 1970.
        expires_unix_ms: Option<u64>,
    },
    /// An empty channel: from all.
    Unsubscribe {
        target: Target,
        channel: Arc<str>,
    },
    Disconnect {
        target: Target,
        whitelist: Vec<Box<str>>,
        disconnect: Disconnect,
    },
    Refresh {
        target: Target,
        refresh: Refresh,
    },
    Deny(Denial),
    Presence {
        channel: Arc<str>,
    },
    PresenceStats {
        channel: Arc<str>,
    },
    History {
        channel: Arc<str>,
        limit: i32,
        since: Option<(u64, Box<str>)>,
        reverse: bool,
    },
    HistoryRemove {
        channel: Arc<str>,
    },
    MapSet {
        channel: Arc<str>,
        set: MapSet,
    },
    MapRead {
        channel: Arc<str>,
        read: MapRead,
    },
    PollPublish {
        channel: Arc<str>,
        set: Box<PollSet>,
    },
    Channels {
        pattern: Box<str>,
    },
    Info,
}

/// What becomes of the time of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// It is over.
    pub expired: bool,
    /// When it will be, in seconds since 1970; 0: never.
    pub expire_at: u64,
    /// The client's info from now on; `None`: as it was.
    pub info: Option<Arc<[u8]>>,
}

/// Whom an API call concerns: the sessions of a user, or only one of them, or everybody.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// "" is the anonymous user; then `client` or `session` must be given.
    pub user: Box<str>,
    /// Empty: all sessions of the user.
    pub client: Box<str>,
    pub session: Box<str>,
    /// All sessions, whatever the above says. Subscribes nobody: error 108.
    pub all: bool,
}

#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    pub skip_history: bool,
    /// Empty: none. A second publish with the same key within five minutes returns the first result.
    pub idempotency_key: Box<str>,
    /// 0: none. A version not above the last one (of the same epoch, or of an empty one) is suppressed.
    pub version: u64,
    pub version_epoch: Box<str>,
    /// May go out as the difference to the publication before it.
    pub delta: bool,
}

/// Why an entry of a map was left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    Idempotency,
    Version,
    KeyExists,
    KeyNotFound,
}

impl Suppressed {
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Idempotency => "idempotency",
            Self::Version => "version",
            Self::KeyExists => "key_exists",
            Self::KeyNotFound => "key_not_found",
        }
    }
}

#[derive(Clone, Debug)]
pub enum ApiReply {
    Publish {
        position: Option<Position>,
    },
    Broadcast(Vec<Result<Option<Position>, ErrorCode>>),
    /// Subscribe, unsubscribe, disconnect, refresh, history_remove.
    Done,
    Presence(Arc<[Arc<ClientInfo>]>),
    PresenceStats {
        clients: u32,
        users: u32,
    },
    History {
        publications: Vec<Arc<Publication>>,
        position: Position,
    },
    MapSet {
        position: Option<Position>,
        suppressed: Option<Suppressed>,
    },
    MapState {
        entries: Vec<Arc<Publication>>,
        position: Position,
        cursor: Box<str>,
    },
    MapStats {
        keys: u32,
    },
    Channels(Vec<(Arc<str>, u32)>),
    /// One entry per core that answered in time, and how many there are.
    Stats {
        cores: Vec<CoreStats>,
        cores_total: usize,
    },
}

/// What a request of SockJS over HTTP wants.
#[derive(Debug)]
pub enum SockJsAsk {
    /// What the client is to be told, as soon as there is something. A session that is not known begins, for the user a
    /// proxy vouches for.
    Receive { user: Option<Arc<str>> },
    /// What the client says, as it came.
    Send { messages: Box<[u8]> },
    /// Whoever asked to receive under this number has gone.
    Leave { receiver: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SockJsAnswer {
    /// Lines; there may be more, for who asks again.
    Frames(Vec<u8>),
    /// Lines, and no more.
    Last(Vec<u8>),
    Sent,
    /// Nobody has such a session.
    Unknown,
    /// There is no room for another one (`sockjs.http_sessions_max`), or the core that has it is far behind.
    Full,
}

/// What one core tells about itself: `info`, `/metrics` and the balance of the cores are made of these.
#[derive(Clone, Debug, Default)]
pub struct CoreStats {
    pub core: u16,
    /// Sessions past connect.
    pub clients: u32,
    /// Users this core owns that have a session anywhere: each is counted once per node.
    pub users: u32,
    pub subscriptions: u32,
    /// Channels with at least one subscriber whose owner is this core.
    pub channels: u32,
    pub counters: Counters,
}
