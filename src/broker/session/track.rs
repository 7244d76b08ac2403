//! `sub_refresh` of the types 1 and 2: which keys of a shared poll a client wants to hear of. Which it may, the
//! signatures of its backend say.

use super::{Place, Step};
use crate::{
    auth::{TrackRefused, Tracked},
    broker::{
        core::Core,
        group::publication_is_json,
        hub::HubKey,
        mesh::{Answer, Ask, Mesh, Outgoing, Tell},
        pending::{Pending, TrackPending},
        tracks::Wanted,
    },
    config::{Poll, SubscriptionType},
    metrics::Counter,
    model::{ConnKey, ErrorCode, Protocol, Publication},
    stdx::slab::Key,
    wire::client::{Push, Reply, TrackRequest, encode_push},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Types of `sub_refresh`.
const TRACK: i32 = 1;
const UNTRACK: i32 = 2;

/// What a client may track by what it shows, and for how long that holds.
struct Allowed {
    wanted: Vec<Wanted>,
    expires: bool,
    /// Seconds; the shortest of all signatures.
    ttl: u32,
}

impl Core {
    pub(super) fn track(&mut self, conn: ConnKey, id: u32, request: &TrackRequest<'_>) -> Step {
        let channel = &*request.channel;
        if channel.is_empty() {
            return self.break_protocol(conn);
        }
        // What is untracked may be about to be tracked.
        let untracks = !request.untrack.is_empty();
        if self.is_subscribing(conn, channel) || (untracks && self.has_asks_out(conn)) {
            return Step::Wait;
        }
        let hub = match self.polled(conn, channel) {
            Ok(hub) => hub,
            Err(error) => return self.refuse(conn, id, error),
        };
        match request.kind {
            TRACK if !request.track.is_empty() => self.track_keys(conn, id, hub, request),
            UNTRACK if untracks => {
                self.untrack_keys(conn, hub, request);
                self.reply(conn, id, &Reply::SubRefresh { expires: false, ttl: 0, items: &[] });
                Step::Done
            }
            _ => self.refuse(conn, id, ErrorCode::BadRequest),
        }
    }

    /// The shared poll this client is subscribed to.
    fn polled(&self, conn: ConnKey, channel: &str) -> Result<HubKey, ErrorCode> {
        let subscription = self.find_subscription(conn, channel);
        let live = subscription.filter(|it| matches!(it.place(), Place::Live { .. }));
        let hub = live.ok_or(ErrorCode::PermissionDenied)?.hub;
        let options = self.channels.resolve(channel)?;
        let polls = options.subscription_type == SubscriptionType::SharedPoll;
        polls.then_some(hub).ok_or(ErrorCode::BadRequest)
    }

    fn track_keys(&mut self, conn: ConnKey, id: u32, hub: HubKey, request: &TrackRequest<'_>) -> Step {
        let channel = &*request.channel;
        let Ok(options) = self.channels.resolve(channel) else {
            return self.refuse(conn, id, ErrorCode::UnknownChannel);
        };
        let keys_max = options.shared_poll.max_keys_per_connection;
        let allowed = match self.allowed_keys(conn, request, &options.shared_poll) {
            Ok(allowed) => allowed,
            Err(error) => return self.refuse(conn, id, error),
        };
        let owned = self.hub.get(hub).and_then(|it| Some((it.owner, it.owned?)));
        let Some((owner, owned)) = owned else { return self.refuse(conn, id, ErrorCode::Internal) };
        if !self.out.take_credit(owner) {
            return self.wait_for_credit(conn, owner);
        }
        self.untrack_keys(conn, hub, request);
        let Allowed { wanted, expires, ttl } = allowed;
        if wanted.is_empty() {
            self.out.return_credit(owner);
            self.reply(conn, id, &Reply::SubRefresh { expires, ttl, items: &[] });
            return Step::Done;
        }
        let book = self.tracks.book(hub).filter(|book| book.count_with(conn, &wanted) <= keys_max);
        let Some(book) = book else {
            self.out.return_credit(owner);
            self.tracks.forget_if_empty(hub);
            return self.refuse(conn, id, ErrorCode::LimitExceeded);
        };
        let serial = book.ask(conn, &wanted);
        let keys = wanted.iter().map(|it| (it.key.clone(), it.version)).collect();
        let pending = TrackPending { conn, id, hub, serial, wanted, expires, ttl };
        self.ask(owner, Ask::Track { channel: owned, keys }, Pending::Track(Box::new(pending)));
        Step::Done
    }

    /// The keys of a request, if the client may have all of them.
    fn allowed_keys(
        &self,
        conn: ConnKey,
        request: &TrackRequest<'_>,
        options: &Poll,
    ) -> Result<Allowed, ErrorCode> {
        let user = self.info(conn).ok_or(ErrorCode::Internal)?;
        let delay_ms = u64::try_from(options.track_expired_extra_delay.as_millis()).unwrap_or(u64::MAX);
        let untracked: BTreeSet<_> = request.untrack.iter().map(|key| &**key).collect();
        let mut wanted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut left: Option<u64> = None;
        for batch in &request.track {
            let keys: Vec<_> = batch.items.iter().map(|item| &*item.key).collect();
            if keys.is_empty() || !keys.iter().all(|key| self.is_key(key)) {
                return Err(ErrorCode::BadRequest);
            }
            let tracked = Tracked { user: &user.user, channel: &request.channel, keys: &keys };
            let until = self.track_signatures.verify(&batch.signature, tracked, self.now.unix_ms);
            let until = until.map_err(|refused| match refused {
                TrackRefused::Signature => ErrorCode::PermissionDenied,
                TrackRefused::Expired => ErrorCode::TokenExpired,
            })?;
            let left_ms = until.map(|until| until.saturating_sub(self.now.unix_ms));
            left = [left, left_ms].into_iter().flatten().min();
            let until_ms = match left_ms {
                Some(left_ms) => self.now.ms.saturating_add(left_ms).saturating_add(delay_ms),
                None => u64::MAX,
            };
            for item in batch.items.iter().filter(|item| !untracked.contains(&*item.key)) {
                let (version, longest_ms) = wanted.entry(&item.key).or_default();
                (*version, *longest_ms) = (item.version.max(*version), until_ms.max(*longest_ms));
            }
        }
        let one = |(key, (version, until_ms)): (&str, _)| Wanted { key: key.into(), version, until_ms };
        Ok(Allowed {
            wanted: wanted.into_iter().map(one).collect(),
            expires: left.is_some(),
            ttl: u32::try_from(left.unwrap_or_default() / 1000).unwrap_or(u32::MAX),
        })
    }

    /// Keys are signed as texts between zero bytes.
    fn is_key(&self, key: &str) -> bool {
        !key.is_empty() && key.len() <= self.settings.channel.max_length && !key.contains('\0')
    }

    fn untrack_keys(&mut self, conn: ConnKey, hub: HubKey, request: &TrackRequest<'_>) {
        let keys = request.untrack.iter().map(|key| &**key);
        let dropped = self.tracks.get_mut(hub).map(|book| book.untrack(conn, keys));
        self.drop_keys(hub, dropped.unwrap_or_default());
    }

    /// The owner knows the keys and will tell of them from here on.
    pub(in crate::broker) fn on_tracked(&mut self, pending: TrackPending, answer: Answer) {
        let TrackPending { conn, id, hub, serial, wanted, expires, ttl } = pending;
        let answer = match answer {
            Answer::Tracked(known) => Ok(known),
            Answer::Error(error) => Err(error),
            _ => Err(ErrorCode::Internal),
        };
        let known = answer.as_deref().ok();
        let book = self.tracks.get_mut(hub);
        let (tracks, dropped) =
            book.map(|book| book.answered(conn, serial, &wanted, known)).unwrap_or_default();
        self.drop_keys(hub, dropped);
        self.tracks.arm(hub);
        match answer {
            Ok(mut items) if tracks => {
                self.withhold(conn, &mut items);
                self.counters.add(Counter::MessagesDelivered, items.len() as u64);
                self.reply(conn, id, &Reply::SubRefresh { expires, ttl, items: &items });
            }
            // The subscription is over, and the client knows that.
            Ok(_) => self.reply(conn, id, &Reply::Error(ErrorCode::PermissionDenied)),
            Err(error) => self.reply(conn, id, &Reply::Error(error)),
        }
    }

    /// Tells the owner of a shared poll that nobody on this core wants these keys any more.
    fn drop_keys(&mut self, hub: HubKey, keys: Vec<Box<str>>) {
        self.tracks.forget_if_empty(hub);
        let owned = self.hub.get(hub).and_then(|it| Some((it.owner, it.owned?)));
        if let Some((owner, channel)) = owned
            && !keys.is_empty()
        {
            self.out.send(owner, Mesh::Tell(Tell::Untrack { channel, keys }));
        }
    }

    /// The subscription is over, and what it tracked with it.
    pub(super) fn stop_tracking(&mut self, conn: ConnKey, hub: HubKey) {
        if let Some(dropped) = self.tracks.get_mut(hub).map(|book| book.leave(conn)) {
            self.drop_keys(hub, dropped);
        }
    }

    /// Signatures of keys of this channel may have had their time.
    pub(in crate::broker) fn on_track_timer(&mut self, bits: u64) {
        let (hub, now_ms) = (Key::from_bits(bits), self.now.ms);
        let Some(book) = self.tracks.get_mut(hub).filter(|book| book.armed_ms <= now_ms) else { return };
        book.armed_ms = u64::MAX;
        let dropped = book.expire(now_ms);
        self.drop_keys(hub, dropped);
        self.tracks.arm(hub);
    }

    /// Something is new about a key. It is encoded once for each protocol, however many are told.
    pub(in crate::broker) fn on_item(&mut self, hub: HubKey, publication: &Publication) {
        let Some(conns) = self.tracks.get_mut(hub).map(|book| book.take(publication)) else { return };
        self.tracks.forget_if_empty(hub);
        let Some(name) = self.hub.get(hub).map(|channel| Arc::clone(&channel.name)) else { return };
        let mut encoded: [Option<Vec<u8>>; 2] = [None, None];
        let is_json = publication_is_json(publication);
        for conn in conns {
            let Some(session) = self.sessions.get(conn) else { continue };
            let (protocol, framing) = (session.protocol, session.framing);
            if protocol == Protocol::Json && !is_json && !removes(publication) {
                self.counters.increment(Counter::PublicationsNotJson);
                continue;
            }
            let bytes = encoded[usize::from(protocol == Protocol::Json)].get_or_insert_with(|| {
                let mut bytes = Vec::new();
                encode_push(protocol, &name, &Push::Publication { publication, epoch: "" }, &mut bytes);
                bytes
            });
            self.counters.increment(Counter::MessagesDelivered);
            self.write.message(conn, |out, frame_start| {
                framing.add(protocol, out, frame_start, |out| out.extend_from_slice(bytes));
            });
        }
    }
}

fn removes(publication: &Publication) -> bool {
    publication.extra.as_ref().is_some_and(|extra| extra.removed)
}
