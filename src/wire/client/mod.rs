//! The Centrifugal client protocol, version 2: commands in, replies and pushes out, in JSON and in Protobuf.
//!
//! `schema/client.proto` has the field numbers. A frame of a transport carries several messages: JSON
//! separates them by one `\n`, Protobuf puts the length of each in front as a varint.

mod emulation;
mod peer;
mod quick;
mod reply;
mod request;
mod schema;
mod server;
mod sink;
mod source;
pub mod v1;

#[cfg(test)]
mod tests;

pub use super::json::{contains_only_json, strip_newlines};
pub use emulation::{EmulationRequest, decode_emulation};
pub use peer::{
    Connected, PeerInfo, Received, ServerMessage, ServerMessages, ServerPush, ServerReply, Subscribed,
    decode_replies, encode_command,
};
pub use request::Commands;

use crate::{
    model::{ClientId, ClientInfo, ErrorCode, Protocol, Publication, Unsubscribe},
    stdx::varint,
};
use sink::Encode;
use std::{borrow::Cow, sync::Arc};

/// One message from a client. Strings borrow from the frame unless JSON escapes forced a copy;
/// `bytes` fields are always the exact source slice (JSON mode: the raw JSON value).
#[derive(Clone, Debug, PartialEq)]
pub struct Command<'a> {
    /// 0 for `send` and for pongs.
    pub id: u32,
    pub request: Request<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// No request set: with id 0 a pong, otherwise an error of the client.
    None,
    Connect(Box<ConnectRequest<'a>>),
    Subscribe(Box<SubscribeRequest<'a>>),
    Unsubscribe {
        channel: Cow<'a, str>,
    },
    Publish(PublishRequest<'a>),
    Presence {
        channel: Cow<'a, str>,
    },
    PresenceStats {
        channel: Cow<'a, str>,
    },
    History(HistoryRequest<'a>),
    /// Answered in version 1; no SDK of version 2 uses it.
    Ping,
    Send {
        data: &'a [u8],
    },
    Rpc {
        method: Cow<'a, str>,
        data: &'a [u8],
    },
    Refresh {
        token: Cow<'a, str>,
    },
    SubRefresh {
        channel: Cow<'a, str>,
        token: Cow<'a, str>,
    },
    /// `sub_refresh` of another type than 0: which keys of a shared poll the client wants to hear of.
    Track(Box<TrackRequest<'a>>),
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConnectRequest<'a> {
    pub token: Cow<'a, str>,
    pub data: &'a [u8],
    /// Positions of server-side subscriptions the client remembers, by channel.
    pub subs: Vec<(Cow<'a, str>, SubscribeRequest<'a>)>,
    pub name: Cow<'a, str>,
    pub version: Cow<'a, str>,
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscribeRequest<'a> {
    pub channel: Cow<'a, str>,
    pub token: Cow<'a, str>,
    pub recover: bool,
    pub epoch: Cow<'a, str>,
    pub offset: u64,
    pub data: &'a [u8],
    pub positioned: bool,
    pub recoverable: bool,
    pub join_leave: bool,
    pub delta: Cow<'a, str>,
    /// Which publications are wanted.
    pub tags_filter: Option<Box<FilterNode<'a>>>,
    /// Bit 0: channel compaction; bit 1 (value 2): error 112 instead of "not recovered".
    pub flag: i64,
    /// 0 stream, 1 map, 2 map_clients, 3 map_users, 4 shared_poll.
    pub kind: i32,
    /// Of a map: 0 live, 1 its stream, 2 its state.
    pub phase: i32,
    /// Where in the state of a map a page begins.
    pub cursor: Cow<'a, str>,
    /// Entries of a page; 0: as many as the server likes.
    pub limit: i32,
    /// Of a map in the order of scores: the lowest come first.
    pub asc: bool,
    /// At most one publication in so many milliseconds; 0: all of them. Not in Centrifugo's protocol.
    pub conflation: u32,
}

/// A tags filter as a client wrote it: an operator over nodes, or a comparison of one tag.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FilterNode<'a> {
    /// `and`, `or`, `not`; empty for a comparison.
    pub op: Cow<'a, str>,
    pub key: Cow<'a, str>,
    pub cmp: Cow<'a, str>,
    pub val: Cow<'a, str>,
    pub vals: Vec<Cow<'a, str>>,
    pub nodes: Vec<FilterNode<'a>>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct PublishRequest<'a> {
    pub channel: Cow<'a, str>,
    /// `None` when the field was absent. JSON `null` is `Some(b"null")`.
    pub data: Option<&'a [u8]>,
    /// 0 stream, 1 map.
    pub kind: i32,
    /// Of a map: the entry to set, or to remove.
    pub key: Cow<'a, str>,
    pub removed: bool,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct HistoryRequest<'a> {
    pub channel: Cow<'a, str>,
    pub limit: i32,
    pub since: Option<Since<'a>>,
    pub reverse: bool,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Since<'a> {
    pub offset: u64,
    pub epoch: Cow<'a, str>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct TrackRequest<'a> {
    pub channel: Cow<'a, str>,
    /// 1 track, 2 untrack. Never 0, which is a refresh.
    pub kind: i32,
    pub track: Vec<TrackBatch<'a>>,
    /// Keys the client wants no more; with `track`, of those that are in there.
    pub untrack: Vec<Cow<'a, str>>,
}

/// Keys, and the word of the backend that the client may have all of them, in this order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TrackBatch<'a> {
    pub signature: Cow<'a, str>,
    pub items: Vec<KeyedItem<'a>>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct KeyedItem<'a> {
    pub key: Cow<'a, str>,
    /// What the client has of it; 0: nothing.
    pub version: u64,
}

/// What answers a command.
#[derive(Clone, Debug)]
pub enum Reply<'a> {
    Error(ErrorCode),
    /// An error of an application's own handler: 400–1999.
    CustomError {
        code: u32,
        message: &'a str,
        temporary: bool,
    },
    Connect(&'a ConnectResult<'a>),
    Subscribe(&'a SubscribeResult<'a>),
    Unsubscribe,
    Publish,
    /// Only clients of version 1 ping the server.
    Ping,
    Presence(&'a [Arc<ClientInfo>]),
    PresenceStats {
        clients: u32,
        users: u32,
    },
    History {
        publications: &'a [Arc<Publication>],
        offset: u64,
        epoch: &'a str,
    },
    Rpc {
        data: &'a [u8],
    },
    Refresh {
        expires: bool,
        ttl: u32,
    },
    SubRefresh {
        expires: bool,
        ttl: u32,
        /// What is known of keys that are tracked from now on.
        items: &'a [Arc<Publication>],
    },
}

#[derive(Clone, Debug)]
pub struct ConnectResult<'a> {
    pub client: ClientId,
    pub version: &'a str,
    pub expires: bool,
    pub ttl: u32,
    pub data: &'a [u8],
    pub subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// Seconds; 0 = no pings.
    pub ping: u32,
    pub pong: bool,
    pub session: &'a str,
    pub node: &'a str,
    /// Milliseconds since 1970; 0 = not told.
    pub time_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub struct SubscribeResult<'a> {
    pub expires: bool,
    pub ttl: u32,
    pub recoverable: bool,
    pub positioned: bool,
    /// Written only when positioned or recoverable (the caller leaves them empty otherwise).
    pub epoch: &'a str,
    pub offset: u64,
    pub publications: &'a [Arc<Publication>],
    pub recovered: bool,
    pub was_recovering: bool,
    pub data: &'a [u8],
    /// Deltas were agreed on: the publications are written as [`Push::Patched`], each with its patch.
    pub patches: Option<&'a [Patch]>,
    /// The number that stands for the channel in publications, joins and leaves; 0: its name does.
    pub number: u32,
    /// As in [`SubscribeRequest`].
    pub kind: i32,
    pub phase: i32,
    /// Where the next page of a map's state begins; empty: this was the last one.
    pub cursor: &'a str,
    /// Entries of a map.
    pub state: &'a [Arc<Publication>],
    /// Milliseconds between publications of one client; 0: no limit.
    pub publish_debounce: u32,
    /// At most one publication comes in so many milliseconds; 0: all of them.
    pub conflation: u32,
}

/// What makes a publication's payload of the one before (`wire::fossil`); `None`: the payload stands for itself.
pub type Patch = Option<Arc<[u8]>>;

/// What a server sends unasked, about one channel or (with an empty channel) about the connection.
#[derive(Clone, Debug)]
pub enum Push<'a> {
    /// `epoch` is written for the publication with offset 1 only, as upstream does; pass "" otherwise.
    Publication {
        publication: &'a Publication,
        epoch: &'a str,
    },
    /// A publication for those who agreed on deltas. In JSON the payload or the patch, which must be UTF-8,
    /// travels as a string.
    Patched {
        publication: &'a Publication,
        patch: Option<&'a [u8]>,
    },
    Join(&'a ClientInfo),
    Leave(&'a ClientInfo),
    Unsubscribe(Unsubscribe),
    /// A server-side subscription was made.
    Subscribe {
        recoverable: bool,
        positioned: bool,
        epoch: &'a str,
        offset: u64,
        data: &'a [u8],
    },
    Message {
        data: &'a [u8],
    },
    /// The reply to connect, for clients that only listen.
    Connect(&'a ConnectResult<'a>),
    Disconnect {
        code: u32,
        reason: &'a str,
    },
    Refresh {
        expires: bool,
        ttl: u32,
    },
}

/// How messages to a client are put together, in either encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// Version 2.
    V2,
    /// Bare pushes of version 2, without a reply around them: for clients that only listen.
    Bare,
    V1(v1::Positions),
}

/// Why a frame of a client could not be read. Always the client's fault; it is disconnected with 3501.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("empty message")]
    Empty,
    #[error("not valid JSON of a command")]
    Json,
    #[error("not valid Protobuf of a command")]
    Protobuf,
    #[error("a message says it is longer than its frame")]
    Length,
}

/// The ping of the protocol as it stands in a frame.
#[must_use]
pub const fn ping(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Json => b"{}",
        Protocol::Protobuf => b"\0",
    }
}

/// The commands of one frame of a client, in order.
///
/// Yields the commands before the first one that is broken, then its error, then nothing more. JSON: one
/// newline at the end is fine, an empty line in the middle is an error.
#[must_use]
pub fn decode(protocol: Protocol, frame: &[u8]) -> Commands<'_> {
    Commands(match protocol {
        Protocol::Json => request::Messages::json(frame),
        Protocol::Protobuf => request::Messages::protobuf(frame),
    })
}

/// Appends one reply as it stands inside a frame: Protobuf with its length in front, JSON bare. Call
/// [`separate`] before, unless it is known to be the first message of its frame.
///
/// JSON: payloads must be valid JSON ([`contains_only_json`]); raw newlines in them are left out.
pub fn encode_reply(protocol: Protocol, id: u32, reply: &Reply<'_>, out: &mut Vec<u8>) {
    if matches!(reply, Reply::Publish) && id != 0 {
        return quick::published(protocol, id, out);
    }
    append(protocol, &reply::ReplyMessage { id, reply }, out);
}

/// Appends one push as it stands inside a frame; as [`encode_reply`]. An empty `channel`: the push concerns
/// the connection.
pub fn encode_push(protocol: Protocol, channel: &str, push: &Push<'_>, out: &mut Vec<u8>) {
    append(protocol, &reply::PushReply { channel: reply::Named::Name(channel), push }, out);
}

/// The same for a client who knows the channel by this number.
pub fn encode_numbered_push(protocol: Protocol, number: u32, push: &Push<'_>, out: &mut Vec<u8>) {
    append(protocol, &reply::PushReply { channel: reply::Named::Number(number), push }, out);
}

/// The payload or patch in the `data` of a publication for those who agreed on deltas; `None` when it is none.
#[must_use]
pub fn unquoted(protocol: Protocol, data: &[u8]) -> Option<Cow<'_, [u8]>> {
    match protocol {
        Protocol::Protobuf => Some(Cow::Borrowed(data)),
        Protocol::Json => {
            let mut cursor = super::json::Cursor::new(simdutf8::basic::from_utf8(data).ok()?);
            let text = cursor.string().ok()?;
            cursor.finish().ok()?;
            Some(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            })
        }
    }
}

/// Appends one push for a client that only listens: as [`encode_push`], without a reply around it.
pub fn encode_bare_push(protocol: Protocol, channel: &str, push: &Push<'_>, out: &mut Vec<u8>) {
    append(protocol, &reply::PushMessage { channel: reply::Named::Name(channel), push }, out);
}

/// Reads how a client that only listens connects: the request alone; nothing, and `null` in JSON, say nothing.
///
/// # Errors
/// The bytes are no such request.
pub fn decode_connect(protocol: Protocol, bytes: &[u8]) -> Result<ConnectRequest<'_>, DecodeError> {
    request::connect_alone(protocol, bytes)
}

/// Prepares a frame that begins at `frame_start` of `out` for one more message: the newline between JSON
/// messages, nothing when the frame is empty.
#[inline]
pub fn separate(protocol: Protocol, out: &mut Vec<u8>, frame_start: usize) {
    if protocol == Protocol::Json && out.len() > frame_start {
        out.push(b'\n');
    }
}

/// HOT: once per message and group, or per message and connection when the group is one.
#[inline]
fn append(protocol: Protocol, message: &impl Encode, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Json => sink::Json::new(out).object(message),
        Protocol::Protobuf => {
            let mut size = sink::Size(0);
            message.fields(&mut size);
            out.reserve(varint::LEN_MAX + size.0);
            varint::write(out, size.0 as u64);
            message.fields(&mut sink::Bytes(out));
        }
    }
}
