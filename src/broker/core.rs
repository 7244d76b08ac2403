//! The only way into the broker of one core.
//!
//! A driver calls `begin_turn`, hands in what happened, calls `end_turn`, does the effects, flushes what
//! `dirty_len`/`pieces` name, reports the outcome to `settle` (all of these in `flush`), and moves the batches to the mesh.
//!
//! This file holds the turn, the mesh and the questions a core has open; what clients and callers want is
//! decided in `session` and `calls`, what happens to channels in `shard`.

pub use super::flush::ShortWrite;

use super::{
    denials::Denials,
    emulation::SessionIds,
    group::Groups,
    hub::Hub,
    ids::{ClientIds, Owners},
    limits::{Limits as RateLimits, Shared, Sharers},
    mesh::{Answer, Ask, AskKey, Mesh, Outgoing, Tell},
    outbound::Outbound,
    outbox::{Framing, Limits, WritePath},
    pending::{Pending, PendingTable},
    permission::Namespaces,
    seam::{BackendResult, Effect},
    session::Session,
    shard::Shard,
    sockjs::Visits,
    tracks::Tracks,
    users::{Place, Users},
};
use crate::{
    auth::{TrackVerifier, Verifier},
    config::Settings,
    metrics::{Counter, Counters},
    model::{ConnKey, CoreId, Disconnect, ErrorCode, Now, Protocol},
    stdx::{
        rng::Rng,
        slab::{Key, SideTable},
        wheel::Wheel,
    },
    wire::client::{Dialect, Reply},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// Which core this is and what it shares with its siblings.
#[derive(Clone, Debug)]
pub struct Seat {
    pub id: CoreId,
    pub cores: usize,
    /// Seeds the randomness of this core: client ids, epochs, ping phases. Different for every core.
    pub seed: u64,
    /// Keys the channel-to-core hash: the same on all cores of a process, secret to the outside.
    pub hash_key: u64,
    /// The id of this node, as clients are told it.
    pub node: Arc<str>,
}

/// What a transport knows about a client when its connection is ready for the protocol.
#[derive(Clone, Debug)]
pub struct SessionStart {
    pub protocol: Protocol,
    /// How its messages are wrapped.
    pub framing: Framing,
    pub uplink: Uplink,
    /// The client asked for WebSocket pings instead of protocol pings (`cf_ws_frame_ping_pong=true`).
    pub websocket_pings: bool,
    /// The user a trusted proxy vouches for (`client.user_id_http_header`).
    pub user: Option<Arc<str>>,
    /// The buckets of its address, where addresses are limited.
    pub address: Option<Arc<Shared>>,
    /// Of who only listens: what is sent once it is connected, before anything else. Nothing is before that.
    pub prelude: Option<Box<[u8]>>,
}

impl SessionStart {
    /// A client that speaks on its connection, is pinged by the protocol, and is nobody yet.
    #[must_use]
    pub const fn new(protocol: Protocol, framing: Framing) -> Self {
        Self {
            protocol,
            framing,
            uplink: Uplink::Connection,
            websocket_pings: false,
            user: None,
            address: None,
            prelude: None,
        }
    }
}

/// How what a client says reaches its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// On the connection.
    Connection,
    /// By requests of their own, which name the session ([`Core::emulate`]).
    Requests,
    /// Not at all: the client says how it connects and then listens. It is told bare pushes.
    None,
}

/// Of a listener that is not connected: what it is told first when it is, and why it will not be.
#[derive(Debug)]
pub(super) struct Prelude {
    pub head: Box<[u8]>,
    pub refused: Option<ErrorCode>,
}

#[derive(Debug)]
pub struct Core {
    pub(super) id: CoreId,
    pub(super) cores: usize,
    pub(super) node: Arc<str>,
    pub(super) settings: Arc<Settings>,
    pub(super) channels: Namespaces,
    pub(super) connection_tokens: Verifier,
    pub(super) subscription_tokens: Verifier,
    pub(super) track_signatures: TrackVerifier,
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) ids: ClientIds,
    pub(super) session_ids: SessionIds,
    pub(super) owners: Owners,

    pub(super) write: WritePath,
    pub(super) groups: Groups,
    pub(super) hub: Hub,
    /// Keys of shared polls.
    pub(super) tracks: Tracks,
    pub(super) shard: Shard,
    pub(super) out: Outbound,
    pub(super) pending: PendingTable,

    pub(super) sessions: SideTable<Box<Session>>,
    /// Sessions past connect.
    pub(super) clients: u32,
    pub(super) users: Users,
    pub(super) denials: Denials,
    /// `None`: operations are not counted.
    pub(super) limits: Option<Box<RateLimits>>,
    /// The buckets of the users this core owns.
    pub(super) user_limits: Sharers<Arc<str>>,
    /// Connections that were answered with too many errors in this turn.
    pub(super) offenders: Vec<ConnKey>,
    pub(super) visits: Visits,
    /// Few: of listeners whose response waits for whether they are connected.
    pub(super) preludes: BTreeMap<ConnKey, Prelude>,
    pub(super) anonymous: Arc<str>,
    /// Connections whose next command waits for credit, by the core that has none to give.
    pub(super) credit_waiters: Vec<VecDeque<ConnKey>>,
    pub(super) credit_waiters_count: usize,
    /// Connections whose token waits for the keys of an endpoint. One that is gone is passed over.
    pub(super) key_waiters: HashMap<Arc<str>, Vec<ConnKey>, ahash::RandomState>,
    /// Connections whose held commands may run again.
    pub(super) resume: VecDeque<ConnKey>,
    /// Connections whose last write was short.
    pub(super) blocked: Vec<ConnKey>,
    pub(super) blocked_check_ms: u64,

    pub(super) session_wheel: Wheel,
    pub(super) hub_wheel: Wheel,
    pub(super) pending_wheel: Wheel,
    fired: Vec<u64>,
    /// `client.channel_position_max_time_lag`; `u64::MAX` for none.
    pub(super) lag_max_ms: u64,
    /// When this core meant to run again; running much later means it stood still.
    expected_ms: u64,
    /// Until then nobody is cut for a missing pong: the server itself stood still.
    pub(super) grace_until_ms: u64,

    pub(super) effects: Vec<Effect>,
    pub(super) counters: Counters,
}

impl Core {
    #[must_use]
    pub fn new(seat: Seat, settings: Arc<Settings>, now: Now) -> Self {
        let mut rng = Rng::new(seat.seed);
        let users = Users::new(&settings, rng.next_u64());
        let tracks = Tracks::new(rng.next_u64(), now.ms);
        let denials = Denials::new(settings.client.denials_max, rng.next_u64());
        Self {
            id: seat.id,
            cores: seat.cores,
            node: seat.node,
            channels: Namespaces::new(&settings.channel),
            connection_tokens: Verifier::of_connections(&settings.client),
            subscription_tokens: Verifier::of_subscriptions(&settings.client),
            track_signatures: TrackVerifier::new(&settings.shared_poll, settings.client.insecure),
            now,
            ids: ClientIds::new(seat.hash_key),
            session_ids: SessionIds::new(seat.hash_key, seat.seed),
            owners: Owners::new(seat.hash_key, seat.cores),
            write: WritePath::new(Limits::from(&*settings)),
            groups: Groups::new(settings.websocket.frame_size_target),
            hub: Hub::new(seat.cores, rng.next_u64()),
            tracks,
            shard: Shard::new(
                seat.id,
                Arc::clone(&settings),
                Owners::new(seat.hash_key, seat.cores),
                rng.next_u64(),
            ),
            out: Outbound::new(seat.id, seat.cores, settings.mesh.credit, settings.mesh.queue_max_size),
            pending: PendingTable::default(),
            sessions: SideTable::default(),
            clients: 0,
            users,
            visits: Visits::new(&settings, seat.hash_key),
            denials,
            preludes: BTreeMap::new(),
            limits: RateLimits::new(&settings.client.rate_limit).map(Box::new),
            user_limits: Sharers::new(rng.next_u64()),
            offenders: Vec::new(),
            anonymous: "".into(),
            credit_waiters: (0..seat.cores).map(|_| VecDeque::new()).collect(),
            credit_waiters_count: 0,
            key_waiters: HashMap::with_hasher(ahash::RandomState::with_seeds(rng.next_u64(), 12, 13, 14)),
            resume: VecDeque::new(),
            blocked: Vec::new(),
            blocked_check_ms: u64::MAX,
            session_wheel: Wheel::new(now.ms),
            hub_wheel: Wheel::new(now.ms),
            pending_wheel: Wheel::new(now.ms),
            fired: Vec::new(),
            lag_max_ms: match settings.client.channel_position_max_time_lag.as_millis() {
                0 => u64::MAX,
                lag => u64::try_from(lag).unwrap_or(u64::MAX),
            },
            expected_ms: u64::MAX,
            grace_until_ms: 0,
            effects: Vec::new(),
            counters: Counters::default(),
            rng,
            settings,
        }
    }

    // ---- the turn ----

    pub fn begin_turn(&mut self, now: Now) {
        self.now = now;
        self.groups.begin_turn(now.ms);
        let patience_ms = self.patience_ms();
        if now.ms > self.expected_ms.saturating_add(patience_ms) {
            self.grace_until_ms = now.ms + patience_ms;
        }
    }

    /// Timers, held commands, slow clients, then every touched group is encoded. Afterwards
    /// [`Core::take_effects`] and the writes are complete for this turn.
    pub fn end_turn(&mut self) {
        self.cut_offenders();
        self.fire_timers();
        self.pump();
        self.groups.close_all(&mut self.write, &mut self.counters);
        self.cut_slow();
        // Cutting a slow member closes lists and leaves channels; what that brought is delivered too.
        self.pump();
        self.groups.close_all(&mut self.write, &mut self.counters);
        self.regroup();
        if self.visits.next_deadline().is_some() {
            self.serve_visits();
        }
        if self.shard.next_poll().is_some() {
            self.shard.poll_due(self.now);
            self.effects.extend(self.shard.take_calls().map(Effect::CallBackend));
        }
        self.expected_ms = self.next_deadline().unwrap_or(u64::MAX);
    }

    /// What the driver has to do, in order. Writes made for an effect (close frames) still join this turn's flush.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// [`Core::take_effects`] into memory that is used again.
    pub fn swap_effects(&mut self, into: &mut Vec<Effect>) {
        into.clear();
        std::mem::swap(&mut self.effects, into);
    }

    /// When the core must run again even if nothing happens, on [`Now::ms`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let blocked = (self.blocked_check_ms != u64::MAX).then_some(self.blocked_check_ms);
        [
            self.session_wheel.next_deadline(),
            self.hub_wheel.next_deadline(),
            self.pending_wheel.next_deadline(),
            self.tracks.next_deadline(),
            self.shard.next_deadline(),
            self.shard.next_poll(),
            self.groups.next_deadline(),
            self.visits.next_deadline(),
            blocked,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn fire_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        let now_ms = self.now.ms;
        self.session_wheel.advance(now_ms, &mut fired);
        fired.drain(..).for_each(|bits| self.on_session_timer(bits));
        self.hub_wheel.advance(now_ms, &mut fired);
        fired.drain(..).for_each(|bits| self.on_hub_timer(bits));
        self.pending_wheel.advance(now_ms, &mut fired);
        fired.drain(..).for_each(|bits| self.on_pending_timer(bits));
        self.tracks.fired(now_ms, &mut fired);
        fired.drain(..).for_each(|bits| self.on_track_timer(bits));
        self.fired = fired;
        self.shard.advance(self.now);
        self.groups.release(&mut self.counters);
        self.shard.expire_keys(self.now, &mut self.out);
        self.check_blocked();
        self.check_visits();
    }

    /// Runs what this core asked itself and what held commands may go on, until nothing is left.
    pub(super) fn pump(&mut self) {
        loop {
            self.pump_local();
            let Some(conn) = self.resume.pop_front().or_else(|| self.next_credit_waiter()) else { return };
            self.run_held(conn);
        }
    }

    /// A connection that waits for credit there is. It may be gone, or wait for something else by now: then
    /// the credit is left for the next one.
    fn next_credit_waiter(&mut self) -> Option<ConnKey> {
        if self.credit_waiters_count == 0 {
            return None;
        }
        let out = &self.out;
        let found = |(peer, waiters): (usize, &mut VecDeque<ConnKey>)| {
            if out.has_credit(peer as CoreId) { waiters.pop_front() } else { None }
        };
        let conn = self.credit_waiters.iter_mut().enumerate().find_map(found)?;
        self.credit_waiters_count -= 1;
        Some(conn)
    }

    pub(super) fn pump_local(&mut self) {
        while let Some(message) = self.out.next_local() {
            self.handle(self.id, message);
        }
    }

    // ---- connections ----

    /// A connection exists and may be written to ([`Core::raw`]); it speaks no client protocol yet.
    pub fn open(&mut self, conn: ConnKey) {
        self.write.open(conn);
    }

    /// The connection speaks the client protocol from here on. The stale timer starts.
    pub fn start_session(&mut self, conn: ConnKey, start: SessionStart) {
        self.write.set_framing(conn, start.framing);
        let stale_ms = u64::try_from(self.settings.client.stale_close_delay.as_millis()).unwrap_or(u64::MAX);
        let stale_ms = self.now.ms.saturating_add(stale_ms);
        let mut session = Session::new(start.protocol, start.framing, start.websocket_pings, stale_ms);
        session.uplink = start.uplink;
        if start.uplink == Uplink::None {
            session.dialect = Dialect::Bare;
        }
        session.header_user = start.user.filter(|user| !user.is_empty());
        session.meter = self.limits.as_ref().map(|limits| limits.meter(start.address));
        self.sessions.insert(conn, Box::new(session));
        if let Some(head) = start.prelude {
            self.preludes.insert(conn, Prelude { head, refused: None });
        }
        self.schedule(conn);
    }

    /// Of a session with a prelude that ended before it was connected, once: the error it was refused with; `None` where
    /// it was closed with a disconnect.
    pub fn take_refusal(&mut self, conn: ConnKey) -> Option<ErrorCode> {
        self.preludes.remove(&conn)?.refused
    }

    /// Appends bytes as they are to what the connection will be sent: HTTP answers, WebSocket control frames.
    pub fn raw(&mut self, conn: ConnKey, bytes: &[u8]) {
        self.write.raw(conn, bytes);
    }

    /// Ends the session, if there is one, without an effect: the peer went away or the transport closes it
    /// with a code of its own (1002, 1007, 1009). Subscriptions end, others see the leave.
    pub fn end_session(&mut self, conn: ConnKey) {
        self.forget_session(conn);
        self.pump();
    }

    /// Accept no more bytes for the connection but `last` (a close frame, or nothing), whatever the limits.
    /// When all is written it appears in [`Core::take_drained`].
    pub fn close_after_drain(&mut self, conn: ConnKey, last: &[u8]) {
        self.write.close_after_drain(conn, last);
    }

    /// Connections that were to close and have nothing left to write: send FIN now.
    pub fn take_drained(&mut self) -> Vec<ConnKey> {
        let mut drained = Vec::new();
        self.write.take_drained(&mut drained);
        drained
    }

    /// Drops what still waits for the connection, except the rest of a frame that is partly sent. For
    /// connections that are cut for not reading, before their close frame.
    pub fn drop_queue(&mut self, conn: ConnKey) {
        self.write.drop_queue(conn);
    }

    /// The key is dead: forget the outbox.
    pub fn released(&mut self, conn: ConnKey) {
        self.preludes.remove(&conn);
        self.write.remove(conn);
    }

    /// Bytes waiting to be written for this connection.
    #[must_use]
    pub fn pending_bytes(&self, conn: ConnKey) -> usize {
        self.write.pending(conn)
    }

    /// Ends every session with this code: the node shuts down.
    pub fn disconnect_all(&mut self, disconnect: &Disconnect) {
        let conns: Vec<_> = self.sessions.iter().map(|(conn, _)| conn).collect();
        for conn in conns {
            self.end(conn, disconnect.clone());
        }
        self.pump();
    }

    // ---- questions to other cores ----

    /// Sends an ask for which credit was taken.
    pub(super) fn ask(&mut self, owner: CoreId, ask: Ask, pending: Pending) -> AskKey {
        if let Some(conn) = pending.conn() {
            self.note_ask(conn);
        }
        let id = self.pending.insert(pending);
        // A core answers itself before the turn goes on.
        if owner != self.id {
            self.expire_later(id);
        }
        self.out.send(owner, Mesh::Ask { id, ask: Box::new(ask) });
        id
    }

    pub(super) fn expire_later(&mut self, id: AskKey) {
        let timeout_ms = u64::try_from(self.settings.mesh.ask_timeout.as_millis()).unwrap_or(u64::MAX);
        self.pending_wheel.insert(self.now.ms.saturating_add(timeout_ms), id.to_bits());
    }

    /// Nobody answered in time. A subscribe stays on the books: its late answer must be undone at the owner.
    fn on_pending_timer(&mut self, bits: u64) {
        let id = Key::from_bits(bits);
        match self.pending.get_mut(id) {
            None => {}
            Some(Pending::Subscribe(pending)) => {
                pending.late = true;
                let pending = pending.clone();
                self.on_subscribe_late(id, &pending);
                self.note_answer(pending.conn);
            }
            Some(Pending::Broadcast(_)) => self.finish_broadcast(id),
            Some(Pending::Keys { endpoint }) => {
                let endpoint = Arc::clone(endpoint);
                self.pending.remove(id);
                // An answer that came in time has ended the wait long ago.
                if self.key_waiters.contains_key(&endpoint) {
                    self.on_keys(&endpoint, None);
                }
            }
            Some(Pending::Gather(_)) => self.finish_gather(id),
            Some(_) => {
                if let Some(pending) = self.pending.remove(id) {
                    self.on_answer(id, pending, Answer::Error(ErrorCode::Internal));
                }
            }
        }
    }

    pub fn on_mesh(&mut self, from: CoreId, message: Mesh) {
        self.handle(from, message);
        self.pump();
    }

    fn handle(&mut self, from: CoreId, message: Mesh) {
        match message {
            Mesh::Ask { id, ask } => match *ask {
                Ask::Enter { user, conn } => self.on_enter(Place { core: from, conn }, id, user),
                Ask::Act { gather, act } => self.on_act(from, id, gather, &act),
                ask => self.shard.on_ask(from, id, ask, self.now, &mut self.out),
            },
            Mesh::Tell(Tell::Leave { user, conn }) => self.users.leave(&user, Place { core: from, conn }),
            Mesh::Tell(Tell::Replaced { conn }) => {
                self.end(conn, Disconnect::CONNECTION_LIMIT);
            }
            Mesh::Tell(tell) => self.shard.on_tell(from, tell, self.now, &mut self.out),
            Mesh::Forward { channel, forward } => self.on_forward(from, channel, forward),
            Mesh::Match { hub, publication } => self.on_match(hub, publication),
            Mesh::Answer { id, answer } => {
                self.out.return_credit(from);
                if let Some(pending) = self.pending.remove(id) {
                    self.on_answer(id, pending, *answer);
                }
            }
            Mesh::Emulate { id, emulated } => self.on_emulate(from, id, &emulated),
            Mesh::SockJs(asked) => self.on_sockjs(from, *asked),
            Mesh::SockJsAnswer { call, answer } => self.on_sockjs_answer(from, call, *answer),
            Mesh::Survey { asker, id, survey } => self.on_survey(asker, id, &survey),
            Mesh::SurveyAnswer { id, answer } => self.on_survey_answer(id, *answer),
        }
    }

    fn on_answer(&mut self, key: AskKey, pending: Pending, answer: Answer) {
        if let Some(conn) = pending.conn() {
            self.note_answer(conn);
        }
        match (pending, answer) {
            (Pending::Subscribe(pending), Answer::Subscribed(subscribed)) => {
                self.on_subscribed(key, pending, subscribed);
            }
            (Pending::Subscribe(pending), Answer::MapPage(page)) => self.on_map_page(key, &pending, *page),
            (Pending::Subscribe(pending), answer) => {
                let error = if let Answer::Error(error) = answer { error } else { ErrorCode::Internal };
                self.on_subscribe_refused(key, &pending, error);
                if let Some(channel) = self.hub.get_mut(pending.hub) {
                    channel.waiting -= 1;
                }
                self.release_channel(pending.hub);
            }
            (Pending::Position { hub, owned }, Answer::Position(top)) => {
                self.on_position(hub, owned, top.as_ref());
            }
            // An owner that is slow says nothing about the channel; the next check asks again.
            (Pending::Position { .. }, _) => {}
            (Pending::Track(pending), answer) => self.on_tracked(*pending, answer),
            (Pending::Api { call }, answer) => self.on_api_answer(call, answer),
            (Pending::Enter { conn }, answer) => self.on_entered(conn, answer),
            (Pending::Act { gather }, answer) => self.on_acting(gather, answer),
            (Pending::BroadcastItem { broadcast, index }, answer) => {
                self.on_item_answer(broadcast, index, answer)
            }
            // Answered by their own messages, never by an answer.
            (Pending::Broadcast(_) | Pending::Gather(_) | Pending::Keys { .. }, _) => {}
            (
                Pending::Publish { conn, id }
                | Pending::Presence { conn, id }
                | Pending::PresenceStats { conn, id }
                | Pending::History { conn, id },
                answer,
            ) => self.on_command_answer(conn, id, answer),
        }
    }

    fn on_command_answer(&mut self, conn: ConnKey, id: u32, answer: Answer) {
        match answer {
            Answer::Published { .. } | Answer::MapSet { .. } => self.reply(conn, id, &Reply::Publish),
            Answer::Presence(clients) => {
                let clients = self.presentable(conn, clients);
                self.reply(conn, id, &Reply::Presence(&clients));
            }
            Answer::PresenceStats { clients, users } => {
                self.reply(conn, id, &Reply::PresenceStats { clients, users });
            }
            Answer::History { mut publications, position } => {
                self.withhold(conn, &mut publications);
                let (offset, epoch) = (position.offset, &*position.epoch);
                self.reply(conn, id, &Reply::History { publications: &publications, offset, epoch });
            }
            Answer::Error(error) => self.reply(conn, id, &Reply::Error(error)),
            Answer::Subscribed(_)
            | Answer::MapPage(_)
            | Answer::MapState { .. }
            | Answer::MapStats(_)
            | Answer::Tracked(_)
            | Answer::HistoryRemoved
            | Answer::Position(_)
            | Answer::Entered(_)
            | Answer::Emulated
            | Answer::Acting(_) => {
                self.reply(conn, id, &Reply::Error(ErrorCode::Internal));
            }
        }
    }

    /// A backend has answered call `id`, or has not.
    pub fn on_backend(&mut self, id: Key, result: BackendResult) {
        let BackendResult { answer, micros } = result;
        self.counters.increment(Counter::BackendRequests);
        self.counters.add(Counter::BackendMicros, micros);
        if answer.is_none() {
            self.counters.increment(Counter::BackendErrors);
        }
        self.shard.on_backend(id, answer, self.now, &mut self.out);
        self.pump();
    }

    /// What waits for another core; the driver hands it to the mesh and, when that took it, calls [`Core::outgoing_taken`].
    pub fn outgoing(&mut self, to: CoreId) -> &mut Vec<Mesh> {
        self.out.batch(to)
    }

    pub fn outgoing_taken(&mut self, to: CoreId) {
        self.out.taken(to);
    }

    // ---- counters ----

    /// Says what was compressed.
    pub(super) fn count_deflated(&self, counters: &mut Counters) {
        let stats = self.write.deflate_stats();
        counters.set(Counter::Deflated, stats.messages);
        counters.set(Counter::DeflateBytesIn, stats.bytes_before);
        counters.set(Counter::DeflateBytesOut, stats.bytes_after);
        counters.set(Counter::DeflateInVain, stats.in_vain);
    }

    /// Where the driver of this core counts what it does.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }
}
