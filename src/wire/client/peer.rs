//! The client's side: commands to bytes, replies and pushes from bytes. For the command line, load and tests.
//!
//! What [`encode_command`] writes, `decode` reads back; what the server's encoders write, [`decode_replies`]
//! reads back. Fields the server never sets are passed over.

use super::{
    Command, ConnectRequest, DecodeError, FilterNode, HistoryRequest, KeyedItem, PublishRequest, Request,
    Since, SubscribeRequest, TrackBatch, TrackRequest, append,
    reply::Nothing,
    request::Messages,
    schema::{
        command, connect_request, filter_node, history_request, keyed_item, publish_request, refresh_request,
        rpc_request, rpc_result, stream_position, sub_refresh_request, subscribe_request, track_batch,
        unsubscribe_request,
    },
    server,
    sink::{Encode, Sink},
};
use crate::model::Protocol;
use std::borrow::Cow;

/// Appends one command as it stands inside a frame; see [`super::separate`] for several in one.
pub fn encode_command(protocol: Protocol, command: &Command<'_>, out: &mut Vec<u8>) {
    append(protocol, command, out);
}

/// The messages of one frame of the server, in order.
#[must_use]
pub fn decode_replies(protocol: Protocol, frame: &[u8]) -> ServerMessages<'_> {
    ServerMessages(match protocol {
        Protocol::Json => Messages::json(frame),
        Protocol::Protobuf => Messages::protobuf(frame),
    })
}

/// The messages of one frame of the server. Ends after the first error.
#[derive(Debug)]
pub struct ServerMessages<'a>(Messages<'a>);

impl<'a> Iterator for ServerMessages<'a> {
    type Item = Result<ServerMessage<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(server::message, server::message)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage<'a> {
    Ping,
    Reply {
        id: u32,
        reply: ServerReply<'a>,
    },
    Push {
        channel: Cow<'a, str>,
        push: ServerPush<'a>,
    },
    /// About the channel with this number.
    NumberedPush {
        number: u64,
        push: ServerPush<'a>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum ServerReply<'a> {
    Error {
        code: u32,
        message: Cow<'a, str>,
        temporary: bool,
    },
    Connect(Box<Connected<'a>>),
    Subscribe(Box<Subscribed<'a>>),
    Unsubscribe,
    Publish,
    /// Client ids and who they are.
    Presence(Vec<(Cow<'a, str>, PeerInfo<'a>)>),
    PresenceStats {
        clients: u32,
        users: u32,
    },
    History {
        publications: Vec<Received<'a>>,
        offset: u64,
        epoch: Cow<'a, str>,
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
        items: Vec<Received<'a>>,
    },
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Connected<'a> {
    pub client: Cow<'a, str>,
    pub version: Cow<'a, str>,
    pub expires: bool,
    pub ttl: u32,
    pub data: &'a [u8],
    pub subs: Vec<(Cow<'a, str>, Subscribed<'a>)>,
    /// Seconds; 0 = no pings.
    pub ping: u32,
    pub pong: bool,
    pub session: Cow<'a, str>,
    pub node: Cow<'a, str>,
    pub time_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Subscribed<'a> {
    pub expires: bool,
    pub ttl: u32,
    pub recoverable: bool,
    pub positioned: bool,
    pub epoch: Cow<'a, str>,
    pub offset: u64,
    pub publications: Vec<Received<'a>>,
    pub recovered: bool,
    pub was_recovering: bool,
    pub data: &'a [u8],
    pub delta: bool,
    /// The number that stands for the channel; 0: none.
    pub number: u64,
    pub kind: i32,
    pub phase: i32,
    pub cursor: Cow<'a, str>,
    pub state: Vec<Received<'a>>,
    pub publish_debounce: u32,
    /// Milliseconds in which at most one publication comes; 0: any number.
    pub conflation: u32,
}

/// A publication as a subscriber sees it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Received<'a> {
    /// As it stands in the message: see [`super::unquoted`] where deltas were agreed on.
    pub data: &'a [u8],
    /// `data` is a patch of the publication before.
    pub delta: bool,
    pub info: Option<PeerInfo<'a>>,
    pub offset: u64,
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Where it was published, under a pattern.
    pub channel: Cow<'a, str>,
    /// Of a map's entry.
    pub key: Cow<'a, str>,
    pub removed: bool,
    pub score: i64,
    pub epoch: Cow<'a, str>,
    /// Of a key's data, in a shared poll.
    pub version: u64,
}

/// `ClientInfo` as a client sees it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PeerInfo<'a> {
    pub user: Cow<'a, str>,
    pub client: Cow<'a, str>,
    pub conn_info: &'a [u8],
    pub chan_info: &'a [u8],
}

#[derive(Clone, Debug, PartialEq)]
pub enum ServerPush<'a> {
    Publication(Received<'a>),
    Join(PeerInfo<'a>),
    Leave(PeerInfo<'a>),
    Unsubscribe {
        code: u32,
        reason: Cow<'a, str>,
    },
    Subscribe {
        recoverable: bool,
        positioned: bool,
        epoch: Cow<'a, str>,
        offset: u64,
        data: &'a [u8],
    },
    Message {
        data: &'a [u8],
    },
    Disconnect {
        code: u32,
        reason: Cow<'a, str>,
    },
    Refresh {
        expires: bool,
        ttl: u32,
    },
    /// A push of a kind that this client does not know.
    Other,
}

impl Encode for Command<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(command::ID, self.id.into());
        match &self.request {
            Request::None => {}
            Request::Connect(request) => sink.message(command::CONNECT, &**request),
            Request::Subscribe(request) => sink.message(command::SUBSCRIBE, &**request),
            Request::Unsubscribe { channel } => sink.message(command::UNSUBSCRIBE, &Channel(channel)),
            Request::Publish(request) => sink.message(command::PUBLISH, request),
            Request::Presence { channel } => sink.message(command::PRESENCE, &Channel(channel)),
            Request::PresenceStats { channel } => sink.message(command::PRESENCE_STATS, &Channel(channel)),
            Request::History(request) => sink.message(command::HISTORY, request),
            Request::Ping => sink.message(command::PING, &Nothing),
            Request::Send { data } => sink.message(command::SEND, &Send(data)),
            Request::Rpc { method, data } => sink.message(command::RPC, &Rpc { method, data }),
            Request::Refresh { token } => sink.message(command::REFRESH, &Refresh(token)),
            Request::SubRefresh { channel, token } => {
                sink.message(command::SUB_REFRESH, &SubRefresh { channel, token });
            }
            Request::Track(request) => sink.message(command::SUB_REFRESH, &**request),
        }
    }
}

impl Encode for ConnectRequest<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(connect_request::TOKEN, &self.token);
        sink.payload(connect_request::DATA, self.data);
        sink.map(connect_request::SUBS, self.subs.iter().map(|(channel, it)| (&**channel, it)));
        sink.text(connect_request::NAME, &self.name);
        sink.text(connect_request::VERSION, &self.version);
        sink.text_map(connect_request::HEADERS, self.headers.iter().map(|(name, value)| (name, value)));
    }
}

impl Encode for SubscribeRequest<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(subscribe_request::CHANNEL, &self.channel);
        sink.text(subscribe_request::TOKEN, &self.token);
        sink.flag(subscribe_request::RECOVER, self.recover);
        sink.text(subscribe_request::EPOCH, &self.epoch);
        sink.uint(subscribe_request::OFFSET, self.offset);
        sink.payload(subscribe_request::DATA, self.data);
        sink.flag(subscribe_request::POSITIONED, self.positioned);
        sink.flag(subscribe_request::RECOVERABLE, self.recoverable);
        sink.flag(subscribe_request::JOIN_LEAVE, self.join_leave);
        sink.text(subscribe_request::DELTA, &self.delta);
        if let Some(filter) = &self.tags_filter {
            sink.message(subscribe_request::TF, &**filter);
        }
        sink.int(subscribe_request::FLAG, self.flag);
        sink.int(subscribe_request::TYPE, self.kind.into());
        sink.int(subscribe_request::PHASE, self.phase.into());
        sink.text(subscribe_request::CURSOR, &self.cursor);
        sink.int(subscribe_request::LIMIT, self.limit.into());
        sink.flag(subscribe_request::ASC, self.asc);
        sink.uint(subscribe_request::CONFLATION, self.conflation.into());
    }
}

impl Encode for FilterNode<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(filter_node::OP, &self.op);
        sink.text(filter_node::KEY, &self.key);
        sink.text(filter_node::CMP, &self.cmp);
        sink.text(filter_node::VAL, &self.val);
        sink.texts(filter_node::VALS, &self.vals);
        sink.list(filter_node::NODES, self.nodes.iter());
    }
}

impl Encode for PublishRequest<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(publish_request::CHANNEL, &self.channel);
        sink.payload(publish_request::DATA, self.data.unwrap_or_default());
        sink.int(publish_request::TYPE, self.kind.into());
        sink.text(publish_request::KEY, &self.key);
        sink.flag(publish_request::REMOVED, self.removed);
    }
}

impl Encode for HistoryRequest<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(history_request::CHANNEL, &self.channel);
        sink.int(history_request::LIMIT, self.limit.into());
        if let Some(since) = &self.since {
            sink.message(history_request::SINCE, since);
        }
        sink.flag(history_request::REVERSE, self.reverse);
    }
}

impl Encode for Since<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(stream_position::OFFSET, self.offset);
        sink.text(stream_position::EPOCH, &self.epoch);
    }
}

struct Channel<'a>(&'a str);

impl Encode for Channel<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(unsubscribe_request::CHANNEL, self.0);
    }
}

struct Send<'a>(&'a [u8]);

impl Encode for Send<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.payload(rpc_result::DATA, self.0);
    }
}

struct Rpc<'a> {
    method: &'a str,
    data: &'a [u8],
}

impl Encode for Rpc<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.payload(rpc_request::DATA, self.data);
        sink.text(rpc_request::METHOD, self.method);
    }
}

struct Refresh<'a>(&'a str);

impl Encode for Refresh<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(refresh_request::TOKEN, self.0);
    }
}

impl Encode for TrackRequest<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(sub_refresh_request::CHANNEL, &self.channel);
        sink.int(sub_refresh_request::TYPE, self.kind.into());
        sink.list(sub_refresh_request::TRACK, self.track.iter());
        sink.texts(sub_refresh_request::UNTRACK, &self.untrack);
    }
}

impl Encode for TrackBatch<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(track_batch::SIGNATURE, &self.signature);
        sink.list(track_batch::ITEMS, self.items.iter());
    }
}

impl Encode for KeyedItem<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(keyed_item::KEY, &self.key);
        sink.uint(keyed_item::VERSION, self.version);
    }
}

struct SubRefresh<'a> {
    channel: &'a str,
    token: &'a str,
}

impl Encode for SubRefresh<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(sub_refresh_request::CHANNEL, self.channel);
        sink.text(sub_refresh_request::TOKEN, self.token);
    }
}
