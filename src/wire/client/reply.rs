//! Replies and pushes: which fields they have, in the order of their numbers.

use super::{
    ConnectResult, Push, Reply, SubscribeResult,
    schema::{
        client_info, connect, connect_result, disconnect, error, history_result, join, message,
        presence_result, presence_stats_result, publication, push, refresh, refresh_result, reply,
        rpc_result, sub_refresh_result, subscribe, subscribe_result, unsubscribe,
    },
    sink::{Encode, Sink},
};
use crate::model::{ClientInfo, Extra, Publication};
use std::sync::Arc;

/// A result without fields.
pub(super) struct Nothing;

impl Encode for Nothing {
    fn fields<S: Sink>(&self, _sink: &mut S) {}
}

pub(super) struct ReplyMessage<'r, 'a> {
    pub id: u32,
    pub reply: &'r Reply<'a>,
}

impl Encode for ReplyMessage<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(reply::ID, self.id.into());
        match *self.reply {
            Reply::Error(code) => {
                let (code, message, temporary) = code.parts();
                sink.message(reply::ERROR, &ErrorMessage { code, message, temporary });
            }
            Reply::CustomError { code, message, temporary } => {
                sink.message(reply::ERROR, &ErrorMessage { code, message, temporary });
            }
            Reply::Connect(result) => sink.message(reply::CONNECT, result),
            Reply::Subscribe(result) => sink.message(reply::SUBSCRIBE, result),
            Reply::Unsubscribe => sink.message(reply::UNSUBSCRIBE, &Nothing),
            Reply::Publish => sink.message(reply::PUBLISH, &Nothing),
            Reply::Ping => sink.message(reply::PING, &Nothing),
            Reply::Presence(clients) => sink.message(reply::PRESENCE, &Presence(clients)),
            Reply::PresenceStats { clients, users } => {
                sink.message(reply::PRESENCE_STATS, &PresenceStats { clients, users });
            }
            Reply::History { publications, offset, epoch } => {
                sink.message(reply::HISTORY, &History { publications, offset, epoch });
            }
            Reply::Rpc { data } => sink.message(reply::RPC, &Rpc(data)),
            Reply::Refresh { expires, ttl } => sink.message(reply::REFRESH, &RefreshResult { expires, ttl }),
            Reply::SubRefresh { expires, ttl, items } => {
                sink.message(reply::SUB_REFRESH, &SubRefreshResult { expires, ttl, items });
            }
        }
    }
}

struct ErrorMessage<'a> {
    code: u32,
    message: &'a str,
    temporary: bool,
}

impl Encode for ErrorMessage<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(error::CODE, self.code.into());
        sink.text(error::MESSAGE, self.message);
        sink.flag(error::TEMPORARY, self.temporary);
    }
}

impl Encode for ConnectResult<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.client(connect_result::CLIENT, self.client);
        sink.text(connect_result::VERSION, self.version);
        sink.flag(connect_result::EXPIRES, self.expires);
        sink.uint(connect_result::TTL, self.ttl.into());
        sink.payload(connect_result::DATA, self.data);
        sink.map(connect_result::SUBS, self.subs.iter().map(|(channel, result)| (*channel, result)));
        sink.uint(connect_result::PING, self.ping.into());
        sink.flag(connect_result::PONG, self.pong);
        sink.text(connect_result::SESSION, self.session);
        sink.text(connect_result::NODE, self.node);
        sink.uint(connect_result::TIME, self.time_ms);
    }
}

impl Encode for SubscribeResult<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.flag(subscribe_result::EXPIRES, self.expires);
        sink.uint(subscribe_result::TTL, self.ttl.into());
        sink.flag(subscribe_result::RECOVERABLE, self.recoverable);
        sink.text(subscribe_result::EPOCH, self.epoch);
        match self.patches {
            None => sink.list(subscribe_result::PUBLICATIONS, listed(self.publications, self.epoch)),
            Some(patches) => {
                let patched = self.publications.iter().zip(patches);
                let patched = patched.map(|(it, patch)| Patched { publication: it, patch: patch.as_deref() });
                sink.list(subscribe_result::PUBLICATIONS, patched);
            }
        }
        sink.flag(subscribe_result::RECOVERED, self.recovered);
        sink.uint(subscribe_result::OFFSET, self.offset);
        sink.flag(subscribe_result::POSITIONED, self.positioned);
        sink.payload(subscribe_result::DATA, self.data);
        sink.flag(subscribe_result::WAS_RECOVERING, self.was_recovering);
        sink.flag(subscribe_result::DELTA, self.patches.is_some());
        sink.uint(subscribe_result::ID, self.number.into());
        sink.int(subscribe_result::TYPE, self.kind.into());
        sink.int(subscribe_result::PHASE, self.phase.into());
        sink.text(subscribe_result::CURSOR, self.cursor);
        match self.patches {
            None => sink.list(subscribe_result::STATE, listed(self.state, self.epoch)),
            Some(_) => {
                let whole = self.state.iter().map(|it| Patched { publication: it, patch: None });
                sink.list(subscribe_result::STATE, whole);
            }
        }
        sink.uint(subscribe_result::PUBLISH_DEBOUNCE, self.publish_debounce.into());
        sink.uint(subscribe_result::CONFLATION, self.conflation.into());
    }
}

impl<M: Encode> Encode for &M {
    fn fields<S: Sink>(&self, sink: &mut S) {
        (**self).fields(sink);
    }
}

pub(super) struct Presence<'a>(pub &'a [Arc<ClientInfo>]);

impl Encode for Presence<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.clients(presence_result::PRESENCE, self.0);
    }
}

pub(super) struct PresenceStats {
    pub clients: u32,
    pub users: u32,
}

impl Encode for PresenceStats {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint_always(presence_stats_result::NUM_CLIENTS, self.clients.into());
        sink.uint_always(presence_stats_result::NUM_USERS, self.users.into());
    }
}

struct History<'a> {
    publications: &'a [Arc<Publication>],
    offset: u64,
    epoch: &'a str,
}

impl Encode for History<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.list_always(history_result::PUBLICATIONS, listed(self.publications, self.epoch));
        sink.text_always(history_result::EPOCH, self.epoch);
        sink.uint_always(history_result::OFFSET, self.offset);
    }
}

pub(super) struct Rpc<'a>(pub &'a [u8]);

impl Encode for Rpc<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.payload(rpc_result::DATA, self.0);
    }
}

struct RefreshResult {
    expires: bool,
    ttl: u32,
}

impl Encode for RefreshResult {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.flag(refresh_result::EXPIRES, self.expires);
        sink.uint(refresh_result::TTL, self.ttl.into());
    }
}

pub(super) struct SubRefreshResult<'a> {
    pub expires: bool,
    pub ttl: u32,
    pub items: &'a [Arc<Publication>],
}

impl Encode for SubRefreshResult<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.flag(sub_refresh_result::EXPIRES, self.expires);
        sink.uint(sub_refresh_result::TTL, self.ttl.into());
        sink.list(sub_refresh_result::ITEMS, listed(self.items, ""));
    }
}

impl Encode for ClientInfo {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text_always(client_info::USER, &self.user);
        sink.client(client_info::CLIENT, self.client);
        self.infos(sink);
    }
}

impl ClientInfo {
    /// The fields behind user and client.
    #[inline]
    pub(super) fn infos<S: Sink>(&self, sink: &mut S) {
        sink.payload(client_info::CONN_INFO, self.conn_info.as_deref().unwrap_or_default());
        sink.payload(client_info::CHAN_INFO, self.chan_info.as_deref().unwrap_or_default());
    }
}

struct Published<'a> {
    publication: &'a Publication,
    epoch: &'a str,
}

/// Publications of a list: the first of a stream carries the epoch, as when it was pushed.
fn listed<'a>(
    publications: &'a [Arc<Publication>],
    epoch: &'a str,
) -> impl ExactSizeIterator<Item = Published<'a>> {
    publications.iter().map(move |publication| Published {
        publication,
        epoch: if publication.offset == 1 { epoch } else { "" },
    })
}

impl Encode for Published<'_> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Publication { offset, data, info, tags, time_ms: _, extra, json: _, delta: _ } = self.publication;
        sink.payload(publication::DATA, data);
        if let Some(info) = info {
            sink.message(publication::INFO, &**info);
        }
        sink.uint(publication::OFFSET, *offset);
        sink.text_map(publication::TAGS, tags.iter().map(|(key, value)| (key, value)));
        if let Some(extra) = extra {
            extra.fields(sink);
        }
        sink.text(publication::EPOCH, self.epoch);
        if let Some(extra) = extra {
            sink.uint(publication::VERSION, extra.version);
        }
    }
}

impl Encode for Extra {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(publication::CHANNEL, self.channel.as_deref().unwrap_or_default());
        sink.text(publication::KEY, &self.key);
        sink.flag(publication::REMOVED, self.removed);
        sink.sint(publication::SCORE, self.score);
    }
}

struct Patched<'a> {
    publication: &'a Publication,
    patch: Option<&'a [u8]>,
}

impl Encode for Patched<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Publication { offset, data, info, tags, time_ms: _, extra, json: _, delta: _ } = self.publication;
        let extra = extra.as_deref();
        if extra.is_none_or(|extra| !extra.removed) {
            sink.quoted(publication::DATA, self.patch.unwrap_or(data));
        }
        if let Some(info) = info {
            sink.message(publication::INFO, &**info);
        }
        sink.uint(publication::OFFSET, *offset);
        sink.text_map(publication::TAGS, tags.iter().map(|(key, value)| (key, value)));
        sink.flag(publication::DELTA, self.patch.is_some());
        if let Some(extra) = extra {
            extra.fields(sink);
        }
    }
}

/// How a push says which channel it is about.
#[derive(Clone, Copy)]
pub(super) enum Named<'p> {
    Name(&'p str),
    Number(u32),
}

/// A push as it stands in a reply (`Reply.push`).
pub(super) struct PushReply<'p, 'a> {
    pub channel: Named<'p>,
    pub push: &'p Push<'a>,
}

impl Encode for PushReply<'_, '_> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.message(reply::PUSH, &PushMessage { channel: self.channel, push: self.push });
    }
}

pub(super) struct PushMessage<'p, 'a> {
    pub channel: Named<'p>,
    pub push: &'p Push<'a>,
}

impl Encode for PushMessage<'_, '_> {
    #[inline]
    fn fields<S: Sink>(&self, sink: &mut S) {
        match self.channel {
            Named::Name(name) => sink.text(push::CHANNEL, name),
            Named::Number(number) => sink.uint(push::ID, number.into()),
        }
        match *self.push {
            Push::Publication { publication, epoch } => {
                sink.message(push::PUB, &Published { publication, epoch });
            }
            Push::Patched { publication, patch } => sink.message(push::PUB, &Patched { publication, patch }),
            Push::Join(info) => sink.message(push::JOIN, &Join(info)),
            Push::Leave(info) => sink.message(push::LEAVE, &Join(info)),
            Push::Unsubscribe(it) => {
                sink.message(push::UNSUBSCRIBE, &Unsubscribe { code: it.code, reason: it.reason });
            }
            Push::Subscribe { recoverable, positioned, epoch, offset, data } => {
                sink.message(push::SUBSCRIBE, &Subscribe { recoverable, positioned, epoch, offset, data });
            }
            Push::Message { data } => sink.message(push::MESSAGE, &Message(data)),
            Push::Connect(result) => sink.message(push::CONNECT, &ConnectPush(result)),
            Push::Disconnect { code, reason } => sink.message(push::DISCONNECT, &Disconnect { code, reason }),
            Push::Refresh { expires, ttl } => sink.message(push::REFRESH, &Refresh { expires, ttl }),
        }
    }
}

pub(super) struct Join<'a>(pub &'a ClientInfo);

impl Encode for Join<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.message(join::INFO, self.0);
    }
}

struct Unsubscribe<'a> {
    code: u32,
    reason: &'a str,
}

impl Encode for Unsubscribe<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(unsubscribe::CODE, self.code.into());
        sink.text(unsubscribe::REASON, self.reason);
    }
}

struct Subscribe<'a> {
    recoverable: bool,
    positioned: bool,
    epoch: &'a str,
    offset: u64,
    data: &'a [u8],
}

impl Encode for Subscribe<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.flag(subscribe::RECOVERABLE, self.recoverable);
        sink.text(subscribe::EPOCH, self.epoch);
        sink.uint(subscribe::OFFSET, self.offset);
        sink.flag(subscribe::POSITIONED, self.positioned);
        sink.payload(subscribe::DATA, self.data);
    }
}

pub(super) struct Message<'a>(pub &'a [u8]);

impl Encode for Message<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.payload(message::DATA, self.0);
    }
}

/// How listeners are told what others get in a reply.
struct ConnectPush<'a, 'r>(&'a ConnectResult<'r>);

impl Encode for ConnectPush<'_, '_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        let Self(result) = self;
        sink.client(connect::CLIENT, result.client);
        sink.text(connect::VERSION, result.version);
        sink.payload(connect::DATA, result.data);
        sink.map(connect::SUBS, result.subs.iter().map(|(channel, result)| (*channel, result)));
        sink.flag(connect::EXPIRES, result.expires);
        sink.uint(connect::TTL, result.ttl.into());
        sink.uint(connect::PING, result.ping.into());
        sink.flag(connect::PONG, result.pong);
        sink.text(connect::SESSION, result.session);
        sink.text(connect::NODE, result.node);
        sink.uint(connect::TIME, result.time_ms);
    }
}

pub(super) struct Disconnect<'a> {
    pub code: u32,
    pub reason: &'a str,
}

impl Encode for Disconnect<'_> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.uint(disconnect::CODE, self.code.into());
        sink.text(disconnect::REASON, self.reason);
    }
}

pub(super) struct Refresh {
    pub expires: bool,
    pub ttl: u32,
}

impl Encode for Refresh {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.flag(refresh::EXPIRES, self.expires);
        sink.uint(refresh::TTL, self.ttl.into());
    }
}
