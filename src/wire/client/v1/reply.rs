//! Replies and pushes of version 1: a result stands where its type is not said, and a push is a result without an id.

use super::{
    Positions,
    schema::{connect_result, error, publication, push, refresh_result, reply, subscribe, subscribe_result},
};
use crate::{
    model::{ClientId, Publication},
    wire::client::{
        ConnectResult, Push, Reply, SubscribeResult,
        reply::{
            Disconnect, Join, Message, Nothing, Presence, PresenceStats, Refresh, Rpc, SubRefreshResult,
        },
        schema::{Field, history_result},
        sink::{Encode, Sink},
    },
};
use std::sync::Arc;

pub(super) struct ReplyMessage<'r, 'a> {
    pub positions: Positions,
    pub client: ClientId,
    pub id: u32,
    pub reply: &'r Reply<'a>,
}

impl Encode for ReplyMessage<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Self { positions, client, .. } = *self;
        sink.uint(reply::ID, self.id.into());
        match *self.reply {
            Reply::Error(code) => {
                sink.message(reply::ERROR, &Error { code: code.code(), message: code.message() });
            }
            Reply::CustomError { code, message, .. } => sink.message(reply::ERROR, &Error { code, message }),
            Reply::Connect(result) => sink.message(reply::RESULT, &Connected { positions, result }),
            Reply::Subscribe(result) => sink.message(reply::RESULT, &Subscribed { positions, result }),
            Reply::Unsubscribe | Reply::Publish | Reply::Ping => sink.message(reply::RESULT, &Nothing),
            Reply::Presence(clients) => sink.message(reply::RESULT, &Presence(clients)),
            Reply::PresenceStats { clients, users } => {
                sink.message(reply::RESULT, &PresenceStats { clients, users });
            }
            Reply::History { publications, offset, epoch } => {
                sink.message(reply::RESULT, &History { positions, publications, offset, epoch });
            }
            Reply::Rpc { data } => sink.message(reply::RESULT, &Rpc(data)),
            Reply::Refresh { expires, ttl } => {
                sink.message(reply::RESULT, &Refreshed { client, expires, ttl })
            }
            Reply::SubRefresh { expires, ttl, items } => {
                sink.message(reply::RESULT, &SubRefreshResult { expires, ttl, items });
            }
        }
    }
}

struct Error<'a> {
    code: u32,
    message: &'a str,
}

impl Encode for Error<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(error::CODE, self.code.into());
        sink.text(error::MESSAGE, self.message);
    }
}

impl Positions {
    /// Tells one of the three fields, or two.
    fn tell<S: Sink>(self, sink: &mut S, [seq, generation, offset]: [Field; 3], value: u64) {
        match self {
            Self::Offset => sink.uint(offset, value),
            Self::SeqGen => {
                sink.uint(seq, value & u64::from(u32::MAX));
                sink.uint(generation, value >> 32);
            }
        }
    }

    /// Tells a list of publications, in the order such clients expect.
    fn list<'p, S: Sink>(self, sink: &mut S, field: Field, publications: &'p [Arc<Publication>]) {
        let published = |it: &'p Arc<Publication>| Published::new(self, it);
        match self {
            Self::Offset => sink.list(field, publications.iter().map(published)),
            Self::SeqGen => sink.list(field, publications.iter().rev().map(published)),
        }
    }
}

struct Connected<'r, 'a> {
    positions: Positions,
    result: &'r ConnectResult<'a>,
}

impl Encode for Connected<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Self { positions, result } = *self;
        sink.client(connect_result::CLIENT, result.client);
        sink.text(connect_result::VERSION, result.version);
        sink.flag(connect_result::EXPIRES, result.expires);
        sink.uint(connect_result::TTL, result.ttl.into());
        sink.payload(connect_result::DATA, result.data);
        let subs = result.subs.iter().map(|(channel, result)| (*channel, Subscribed { positions, result }));
        sink.map(connect_result::SUBS, subs);
    }
}

struct Subscribed<'r, 'a> {
    positions: Positions,
    result: &'r SubscribeResult<'a>,
}

impl Encode for Subscribed<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        use subscribe_result as field;
        let Self { positions, result } = *self;
        sink.flag(field::EXPIRES, result.expires);
        sink.uint(field::TTL, result.ttl.into());
        sink.flag(field::RECOVERABLE, result.recoverable);
        sink.text(field::EPOCH, result.epoch);
        positions.list(sink, field::PUBLICATIONS, result.publications);
        sink.flag(field::RECOVERED, result.recovered);
        positions.tell(sink, [field::SEQ, field::GEN, field::OFFSET], result.offset);
        sink.flag(field::POSITIONED, result.positioned);
        sink.payload(field::DATA, result.data);
    }
}

struct Refreshed {
    client: ClientId,
    expires: bool,
    ttl: u32,
}

impl Encode for Refreshed {
    fn fields<S: Sink>(&self, sink: &mut S) {
        // Clients take over the id they are told here.
        sink.client(refresh_result::CLIENT, self.client);
        sink.flag(refresh_result::EXPIRES, self.expires);
        sink.uint(refresh_result::TTL, self.ttl.into());
    }
}

struct History<'a> {
    positions: Positions,
    publications: &'a [Arc<Publication>],
    offset: u64,
    epoch: &'a str,
}

impl<'a> Encode for History<'a> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let field = history_result::PUBLICATIONS;
        let published = |it: &'a Arc<Publication>| Published::new(self.positions, it);
        match self.positions {
            Positions::Offset => {
                sink.list_always(field, self.publications.iter().map(published));
                sink.text_always(history_result::EPOCH, self.epoch);
                sink.uint_always(history_result::OFFSET, self.offset);
            }
            // In those days a history said nothing of its position.
            Positions::SeqGen => sink.list_always(field, self.publications.iter().rev().map(published)),
        }
    }
}

struct Published<'a> {
    positions: Positions,
    publication: &'a Publication,
}

impl<'a> Published<'a> {
    fn new(positions: Positions, publication: &'a Publication) -> Self {
        Self { positions, publication }
    }
}

impl Encode for Published<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        use publication as field;
        let Publication { offset, data, info, tags, .. } = self.publication;
        sink.payload(field::DATA, data);
        if let Some(info) = info {
            sink.message(field::INFO, &**info);
        }
        self.positions.tell(sink, [field::SEQ, field::GEN, field::OFFSET], *offset);
        sink.text_map(field::TAGS, tags.iter().map(|(key, value)| (key, value)));
    }
}

/// A push as it stands in a frame.
pub(super) struct PushReply<'p, 'a> {
    pub positions: Positions,
    pub channel: &'p str,
    pub push: &'p Push<'a>,
}

impl Encode for PushReply<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Self { positions, channel, push } = *self;
        sink.message(reply::RESULT, &PushMessage { positions, channel, push });
    }
}

struct PushMessage<'p, 'a> {
    positions: Positions,
    channel: &'p str,
    push: &'p Push<'a>,
}

impl PushMessage<'_, '_> {
    fn data<S: Sink>(&self, sink: &mut S, kind: u64, data: &impl Encode) {
        sink.uint(push::TYPE, kind);
        sink.text(push::CHANNEL, self.channel);
        sink.message(push::DATA, data);
    }
}

impl Encode for PushMessage<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let positions = self.positions;
        match *self.push {
            // Such clients agree on no deltas.
            Push::Publication { publication, .. } | Push::Patched { publication, .. } => {
                self.data(sink, 0, &Published::new(positions, publication));
            }
            Push::Join(info) => self.data(sink, 1, &Join(info)),
            Push::Leave(info) => self.data(sink, 2, &Join(info)),
            Push::Unsubscribe(_) => self.data(sink, 3, &Nothing),
            Push::Message { data } => self.data(sink, 4, &Message(data)),
            Push::Subscribe { recoverable, positioned, epoch, offset, data } => {
                let begun = Subscribe { positions, recoverable, positioned, epoch, offset, data };
                self.data(sink, 5, &begun);
            }
            Push::Connect(result) => self.data(sink, 6, &Connected { positions, result }),
            Push::Disconnect { code, reason } => self.data(sink, 7, &Disconnect { code, reason }),
            Push::Refresh { expires, ttl } => self.data(sink, 8, &Refresh { expires, ttl }),
        }
    }
}

struct Subscribe<'a> {
    positions: Positions,
    recoverable: bool,
    positioned: bool,
    epoch: &'a str,
    offset: u64,
    data: &'a [u8],
}

impl Encode for Subscribe<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        use subscribe as field;
        sink.flag(field::RECOVERABLE, self.recoverable);
        sink.text(field::EPOCH, self.epoch);
        self.positions.tell(sink, [field::SEQ, field::GEN, field::OFFSET], self.offset);
        sink.flag(field::POSITIONED, self.positioned);
        sink.payload(field::DATA, self.data);
    }
}
