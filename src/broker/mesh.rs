//! What cores say to each other. Between two cores messages keep their order; across pairs there is none.
//!
//! - [`Ask`] goes to the core that owns a channel or a user and is answered exactly once with an [`Answer`].
//!   Asks carry credit (see `core`), so the answers in flight are bounded.
//! - [`Emulated`] goes to the core that has the session, carries credit as well, and is answered so.
//! - [`SockJsAsked`] goes to the core that has the session; one that sends carries credit, one that receives may stay open as
//!   long as its request.
//! - [`Forward`] goes from the owner of a channel to the cores with subscribers.
//! - [`Tell`] is control without an answer; it always fits.
//! - [`Survey`] goes to several cores and is gathered. Where only the owner of a user knows which, it sends
//!   them on and tells the asker how many.
//!
//! A core's questions to itself take the same road through a local queue, so there is one code for both.

use super::{
    emulation::SessionId,
    hub::HubKey,
    limits::Shared,
    seam::{ApiRequest, CoreStats, Denial, PublishOptions, SockJsAnswer, Suppressed},
    sockjs::SockJsAsked,
};
use crate::{
    model::{ClientId, ClientInfo, ConnKey, CoreId, ErrorCode, Position, Publication},
    stdx::slab::Key,
    wire::backend::PollItem,
};
use std::sync::Arc;

/// The asker's pending entry; comes back with the answer. Late ones find nothing.
pub type AskKey = Key;

/// A channel in its owner's shard. The receiving core maps it to its own entry without hashing the name.
pub type OwnedKey = Key;

#[derive(Debug)]
pub enum Mesh {
    Ask {
        id: AskKey,
        ask: Box<Ask>,
    },
    Answer {
        id: AskKey,
        answer: Box<Answer>,
    },
    Forward {
        channel: OwnedKey,
        forward: Forward,
    },
    /// A publication for subscribers of a pattern, under the receiver's own key. Dropped when the queue is full.
    Match {
        hub: HubKey,
        publication: Arc<Publication>,
    },
    Emulate {
        id: AskKey,
        emulated: Box<Emulated>,
    },
    /// About a session of SockJS, to the core that has it.
    SockJs(Box<SockJsAsked>),
    SockJsAnswer {
        call: u64,
        answer: Box<SockJsAnswer>,
    },
    Tell(Tell),
    /// Answered to `asker`, which may not be who sent it.
    Survey {
        asker: CoreId,
        id: AskKey,
        survey: Arc<Survey>,
    },
    SurveyAnswer {
        id: AskKey,
        answer: Box<SurveyAnswer>,
    },
}

const _: () = assert!(size_of::<Mesh>() <= 64);

#[derive(Debug)]
pub enum Ask {
    Subscribe(SubscribeAsk),
    Publish {
        channel: Arc<str>,
        publication: Publication,
        options: PublishOptions,
    },
    Presence {
        channel: Arc<str>,
    },
    PresenceStats {
        channel: Arc<str>,
    },
    History {
        channel: Arc<str>,
        filter: HistoryFilter,
    },
    HistoryRemove {
        channel: Arc<str>,
    },
    /// Sets or removes an entry of a map.
    MapSet {
        channel: Arc<str>,
        set: MapSet,
    },
    MapRead {
        channel: Arc<str>,
        read: MapRead,
    },
    /// A connection tracks these keys of a shared poll, and has these versions of them.
    Track {
        channel: OwnedKey,
        keys: Box<[(Box<str>, u64)]>,
    },
    PollPublish {
        channel: Arc<str>,
        set: Box<PollSet>,
    },
    /// The top of the stream; compared with what this core has been forwarded (position check).
    Position {
        channel: OwnedKey,
    },
    /// A session of this user wants to connect. Whatever the answer, the session's core tells when it is over.
    Enter {
        user: Arc<str>,
        conn: ConnKey,
    },
    /// Have all sessions of the user do this. The cores that have some answer the survey `gather` of the asker.
    Act {
        gather: AskKey,
        act: Arc<ApiRequest>,
    },
}

#[derive(Debug)]
pub struct SubscribeAsk {
    pub channel: Arc<str>,
    pub info: Arc<ClientInfo>,
    /// Where the client's view ended, when it asks for recovery.
    pub recover: Option<Recover>,
    /// Answer error 112 instead of `recovered: false`.
    pub reject_unrecovered: bool,
    /// The subscription is positioned or recoverable: the answer carries a position.
    pub positioned: bool,
    /// The channel is a map: what is wanted of it.
    pub map: Option<Box<MapJoin>>,
    pub shown: Shown,
}

/// How others see a subscriber, where that is not what its namespace says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shown {
    /// In presence.
    pub presence: Option<bool>,
    /// By its join and leave.
    pub join_leave: Option<bool>,
}

impl Shown {
    /// Presence does not show it, and neither do maps of who is in a channel.
    #[must_use]
    pub fn is_hidden(self) -> bool {
        self.presence == Some(false)
    }
}

/// As the fields of a client's subscribe.
#[derive(Debug)]
pub struct MapJoin {
    pub phase: i32,
    pub cursor: Box<str>,
    pub limit: i32,
    pub asc: bool,
    pub offset: u64,
    pub epoch: Box<str>,
    pub recover: bool,
}

impl MapJoin {
    /// Phases of a map subscription on the wire.
    pub const LIVE: i32 = 0;
    pub const STREAM: i32 = 1;
    pub const STATE: i32 = 2;

    /// The first page of the state is wanted.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.phase == Self::STATE && self.cursor.is_empty()
    }
}

/// When an entry is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyMode {
    #[default]
    Always,
    IfNew,
    IfExists,
}

#[derive(Debug, Clone)]
pub struct MapSet {
    pub key: Box<str>,
    pub removed: bool,
    pub score: i64,
    pub mode: KeyMode,
    pub publication: Publication,
    /// What goes into the stream and to subscribers in place of its data.
    pub told: Option<Told>,
    pub options: PublishOptions,
}

/// Data, and whether it is known to be JSON.
#[derive(Debug, Clone)]
pub struct Told {
    pub data: Box<[u8]>,
    pub json: bool,
}

impl MapSet {
    /// An entry without data.
    #[must_use]
    pub fn of(key: Box<str>) -> Self {
        Self {
            key,
            removed: false,
            score: 0,
            mode: KeyMode::Always,
            publication: Publication { json: true, ..Publication::default() },
            told: None,
            options: PublishOptions::default(),
        }
    }

    #[must_use]
    pub fn removal(key: Box<str>) -> Self {
        Self { removed: true, ..Self::of(key) }
    }
}

/// Data of a key of a shared poll, by the server API.
#[derive(Debug, Clone)]
pub struct PollSet {
    pub item: PollItem,
    /// Of whoever publishes; another one than before says that versions start over. Empty: they never do.
    pub epoch: Box<str>,
}

/// What the server API wants of a map.
#[derive(Debug, Clone)]
pub enum MapRead {
    /// A page, of the state as it was at `revision` less what changed since. `limit` 0: the position only.
    State {
        cursor: Box<str>,
        limit: usize,
        /// As [`MapJoin::asc`].
        asc: bool,
        revision: Option<Position>,
    },
    Key(Box<str>),
    Stream(HistoryFilter),
    Stats,
    Clear,
}

/// Whose presence an entry of a map stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Client,
    User,
}

#[derive(Debug, Clone, Default)]
pub struct Recover {
    pub offset: u64,
    /// Empty: any epoch will do.
    pub epoch: Box<str>,
}

#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Most publications returned; 0 asks for the position only.
    pub limit: usize,
    /// Strictly after this offset (strictly before it when `reverse`); the epoch, unless empty, must match.
    pub since: Option<Recover>,
    pub reverse: bool,
}

#[derive(Debug)]
pub enum Answer {
    Subscribed(Subscribed),
    Published {
        position: Option<Position>,
    },
    Presence(Arc<[Arc<ClientInfo>]>),
    PresenceStats {
        clients: u32,
        users: u32,
    },
    History {
        publications: Vec<Arc<Publication>>,
        position: Position,
    },
    HistoryRemoved,
    MapPage(Box<MapPage>),
    MapSet {
        position: Option<Position>,
        suppressed: Option<Suppressed>,
    },
    MapState {
        entries: Vec<Arc<Publication>>,
        position: Position,
        cursor: Box<str>,
    },
    MapStats(u32),
    /// What is known of tracked keys beyond what the connection has.
    Tracked(Vec<Arc<Publication>>),
    Position(Option<Position>),
    /// With the buckets of the user, where it has any.
    Entered(Option<Arc<Shared>>),
    /// So many cores were asked to act.
    Acting(usize),
    Emulated,
    Error(ErrorCode),
}

/// What a client said by a request of its own, for its session on the core that gets this.
#[derive(Debug)]
pub struct Emulated {
    pub session: SessionId,
    pub commands: Box<[u8]>,
}

#[derive(Debug)]
pub struct Subscribed {
    pub channel: OwnedKey,
    /// Top of the stream at the moment of joining: every later publication is forwarded after this answer.
    pub position: Option<Position>,
    /// Missed publications in ascending order; empty unless `recovered`.
    pub publications: Vec<Arc<Publication>>,
    pub recovered: bool,
    /// Entries of a map.
    pub state: Vec<Arc<Publication>>,
}

/// Part of what a subscriber of a map has to know before it is one.
#[derive(Debug)]
pub struct MapPage {
    pub state: Vec<Arc<Publication>>,
    pub publications: Vec<Arc<Publication>>,
    pub position: Position,
    pub cursor: Box<str>,
    pub phase: i32,
}

#[derive(Debug, Clone)]
pub enum Forward {
    Publication(Arc<Publication>),
    /// What is new about a key of a shared poll, for those that track it.
    Item(Arc<Publication>),
    /// A change of a map, and what the entry was before.
    Change {
        publication: Arc<Publication>,
        before: Option<Arc<Publication>>,
    },
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
    /// Publications of this channel were dropped here because the queue was full: positioned subscribers
    /// of the receiving core have insufficient state.
    Gap,
}

#[derive(Debug)]
pub enum Tell {
    /// A subscriber of this core left. Sent once for every [`Answer::Subscribed`] this core received.
    Unsubscribe { channel: OwnedKey, client: ClientId },
    /// Nobody on this core tracks these keys of a shared poll any more.
    Untrack { channel: OwnedKey, keys: Vec<Box<str>> },
    /// A session that asked to enter has ended, or has given up.
    Leave { user: Arc<str>, conn: ConnKey },
    /// From the owner of a user: another session takes this one's place.
    Replaced { conn: ConnKey },
    /// A client came to or left a channel, of which this map keeps who is there.
    Presence { channel: Arc<str>, info: Arc<ClientInfo>, whose: Presence, present: bool },
    /// This core has subscribers of a pattern, which it calls `hub`.
    Watch { pattern: Arc<str>, hub: HubKey },
    /// It has none any more.
    Unwatch { pattern: Arc<str> },
}

/// A question to several cores.
#[derive(Debug)]
pub enum Survey {
    /// Channels with at least one subscriber on the asked core's shard, matching the glob (empty: all).
    Channels {
        pattern: Box<str>,
    },
    Stats,
    /// Subscribe, unsubscribe, refresh or disconnect sessions.
    Act {
        act: Arc<ApiRequest>,
        whom: Whom,
    },
    /// Tokens that every core refuses from now on.
    Deny(Denial),
}

/// Which sessions of the asked core.
#[derive(Debug)]
pub enum Whom {
    /// Those that the owner of the user knows.
    These(Vec<ConnKey>),
    /// The one that the call names by its client or session id.
    Named,
    All,
}

#[derive(Debug)]
pub enum SurveyAnswer {
    Channels(Vec<(Arc<str>, u32)>),
    Stats(Box<CoreStats>),
    Acted,
}

/// Where the shard and the session side put what must leave; `to` may be the core itself.
pub trait Outgoing {
    fn send(&mut self, to: CoreId, message: Mesh);
}
