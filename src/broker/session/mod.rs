//! The protocol state of one client: states, dispatch of its commands, and what it waits for. One file per command.
//!
//! Commands run in arrival order. One that has to wait (its channel is being subscribed, or a core has no
//! credit) is held with everything behind it, bounded by `client.held_max_size`; then reading pauses.

mod connect;
mod connecting;
mod expiry;
mod history;
mod keys;
mod limits;
mod listen;
mod map;
mod ping;
mod presence;
mod publish;
mod reading;
mod refresh;
mod subscribe;
mod subscription;
mod track;
mod unsubscribe;
mod v1;

pub(super) use connect::with_chan_info;
pub use connecting::Connecting;
use reading::Readings;
pub(super) use subscribe::{Joining, shown};
pub use subscription::{Place, Subscription};

use super::{
    core::{Core, Uplink},
    denials::Mark,
    group::{info_is_json, publication_is_json},
    hub::HubKey,
    limits::Meter,
    outbox::Framing,
    seam::Effect,
};
use crate::{
    auth::Caps,
    metrics::Counter,
    model::{ClientInfo, ConnKey, CoreId, Disconnect, ErrorCode, Protocol, Publication, Unsubscribe},
    stdx::snug,
    wire::client::{self, Command, Commands, DecodeError, Dialect, Push, Reply, Request},
};
use std::{collections::VecDeque, sync::Arc};

#[derive(Debug)]
pub struct Session {
    pub protocol: Protocol,
    pub framing: Framing,
    pub dialect: Dialect,
    pub state: State,
    /// Pings are WebSocket frames, not protocol messages.
    pub websocket_pings: bool,
    /// A number may stand for the name of a channel, if the client says so.
    pub reads_numbers: bool,
    pub uplink: Uplink,
    /// The user a proxy vouches for.
    pub header_user: Option<Arc<str>>,
    /// What its connection token said; none without one.
    pub account: Option<Box<Account>>,
    /// Set while connect waits.
    pub connecting: Option<Box<Connecting>>,
    /// When the time of the connection or of a subscription may be up; `u64::MAX`: never.
    pub expiry_due_ms: u64,
    /// Who the client is to others; set by connect.
    pub info: Option<Arc<ClientInfo>>,
    pub subscriptions: Vec<Subscription>,
    /// Maps it reads in pages; none for most.
    pub readings: Option<Box<Readings>>,
    pub held: Option<Box<Held>>,
    /// What it has used of the limits on operations; none without limits.
    pub meter: Option<Box<Meter>>,
    /// Commands that other cores have not answered.
    pub asks_out: u32,
    /// When the next ping is due; while connecting, when the session is stale.
    pub due_ms: u64,
    /// When the answer to the outstanding ping is overdue; 0: none is outstanding.
    pub pong_due_ms: u64,
    /// Pings not answered yet: several when the server held the answers back.
    pub pings_out: u8,
    /// Earliest live entry of this session in the wheel.
    pub wheel_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing but `connect` is allowed.
    New,
    Connected,
    /// Connect waits for the owners of its user and of channels; everything behind it is held.
    Connecting,
    /// Connect was answered with an error. Nothing is answered any more; the client has a moment to leave.
    Refused,
}

/// What a connection token said beyond who the client is.
#[derive(Debug)]
pub struct Account {
    /// When it expires on [`crate::model::Now::ms`], which does not jump; `u64::MAX`: never.
    pub expires_ms: u64,
    /// Its server-side subscriptions, sorted. A refreshed token must say the same.
    pub channels: Box<[Box<str>]>,
    /// For backends.
    pub meta: Option<Arc<[u8]>>,
    /// What it allows beyond what the options of channels do.
    pub caps: Caps,
    /// The token itself.
    pub mark: Mark,
    /// Subscriptions that live on tokens of their own.
    pub sub_marks: Vec<(HubKey, Mark)>,
}

impl Default for Account {
    /// That of a client without a token.
    fn default() -> Self {
        Self {
            expires_ms: u64::MAX,
            channels: Box::default(),
            meta: None,
            caps: Caps::default(),
            mark: Mark::default(),
            sub_marks: Vec::new(),
        }
    }
}

/// Why a command is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key of its token is not known yet.
    Key,
    Error(ErrorCode),
    End(Disconnect),
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Refusal {
    fn from(disconnect: Disconnect) -> Self {
        Self::End(disconnect)
    }
}

/// Messages that wait for earlier commands.
#[derive(Debug, Default)]
pub struct Held {
    pub messages: VecDeque<Box<[u8]>>,
    pub bytes: usize,
    /// Reading was paused because of them.
    pub paused: bool,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answered, asked, or ignored: the next one may run.
    Done,
    /// It was of version 1: read it again, in that language.
    Again,
    /// Cannot start yet; run it again when [`Core::resume`] says so.
    Wait,
    /// The session has ended.
    Ended,
}

impl Session {
    #[must_use]
    pub fn new(protocol: Protocol, framing: Framing, websocket_pings: bool, stale_ms: u64) -> Self {
        Self {
            protocol,
            framing,
            dialect: Dialect::V2,
            state: State::New,
            websocket_pings,
            reads_numbers: protocol == Protocol::Json,
            uplink: Uplink::Connection,
            header_user: None,
            account: None,
            connecting: None,
            expiry_due_ms: u64::MAX,
            info: None,
            subscriptions: Vec::new(),
            readings: None,
            held: None,
            meter: None,
            asks_out: 0,
            due_ms: stale_ms,
            pong_due_ms: 0,
            pings_out: 0,
            wheel_ms: u64::MAX,
        }
    }

    /// The client only listens: what it is told are bare pushes.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.dialect == Dialect::Bare
    }

    #[must_use]
    pub fn find(&self, hub: HubKey) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.hub == hub)
    }

    pub fn find_mut(&mut self, hub: HubKey) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.hub == hub)
    }

    /// Most clients have one subscription.
    pub fn add(&mut self, subscription: Subscription) {
        snug::push(&mut self.subscriptions, subscription);
    }

    pub fn forget(&mut self, hub: HubKey) -> Option<Subscription> {
        let index = self.subscriptions.iter().position(|subscription| subscription.hub == hub)?;
        let subscription = self.subscriptions.swap_remove(index);
        if let Some(account) = &mut self.account {
            account.sub_marks.retain(|(other, _)| *other != hub);
        }
        if self.subscriptions.is_empty() {
            self.subscriptions = Vec::new();
        }
        Some(subscription)
    }
}

impl Core {
    /// One whole transport message of a client (the payload of a WebSocket message). Ignored once the
    /// session has ended.
    pub fn on_message(&mut self, conn: ConnKey, message: &[u8]) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.held.is_some() {
            self.hold(conn, message, false);
        } else {
            self.run(conn, message);
        }
        self.pump();
    }

    /// Runs the commands of `message` until one has to wait.
    ///
    /// A command above `websocket.message_size_limit` breaks the protocol: only compression can bring one.
    fn run(&mut self, conn: ConnKey, message: &[u8]) {
        let Some(session) = self.sessions.get(conn) else { return };
        let protocol = session.protocol;
        match session.dialect {
            Dialect::V2 => self.run_commands(conn, client::decode(protocol, message)),
            Dialect::Bare => self.listen(conn, message),
            Dialect::V1(_) => self.run_commands(conn, client::v1::decode(protocol, message)),
        }
    }

    fn run_commands<'a, const V1: bool>(&mut self, conn: ConnKey, mut commands: Commands<'a, V1>)
    where
        Commands<'a, V1>: Iterator<Item = Result<Command<'a>, DecodeError>>,
    {
        let size_max = self.settings.websocket.message_size_limit;
        loop {
            let rest = commands.rest();
            let step = match commands.next() {
                None => return,
                Some(Ok(command)) if rest.len() - commands.rest().len() <= size_max => {
                    self.counters.increment(Counter::CommandsReceived);
                    if self.limits.is_some() {
                        self.command_within_limits(conn, &command)
                    } else {
                        self.command(conn, &command)
                    }
                }
                Some(Ok(_) | Err(_)) => self.break_protocol(conn),
            };
            match step {
                // Questions to this very core are answered before the next command looks.
                Step::Done => self.pump_local(),
                Step::Again => return self.run(conn, rest),
                Step::Wait => return self.hold(conn, rest, true),
                Step::Ended => return,
            }
        }
    }

    fn command(&mut self, conn: ConnKey, command: &Command<'_>) -> Step {
        let Some(session) = self.sessions.get(conn) else { return Step::Ended };
        let id = command.id;
        match (&command.request, session.state) {
            (Request::Connect(request), State::New) => self.connect(conn, id, request),
            (_, State::Refused) => Step::Done,
            (_, State::Connecting) => Step::Wait,
            (_, State::New) => self.recognise(conn, command),
            (Request::Connect(_), _) => self.break_protocol(conn),
            // Nobody listens to messages without an answer; that is no reason to cut the client.
            (Request::Send { .. }, _) => Step::Done,
            (_, _) if id == 0 => self.pong(conn),
            (Request::None | Request::Ping, _) => self.other_request(conn, command),
            (Request::Subscribe(request), _) => self.subscribe(conn, id, request),
            (Request::Unsubscribe { channel }, _) => self.unsubscribe(conn, id, channel),
            (Request::Publish(request), _) => self.publish(conn, id, request),
            (Request::Presence { channel }, _) => self.presence(conn, id, channel),
            (Request::PresenceStats { channel }, _) => self.presence_stats(conn, id, channel),
            (Request::History(request), _) => self.history(conn, id, request),
            (Request::Rpc { method, .. }, _) => self.rpc(conn, id, method),
            (Request::Refresh { token }, _) => self.refresh(conn, id, token),
            (Request::SubRefresh { channel, token }, _) => self.sub_refresh(conn, id, channel, token),
            (Request::Track(request), _) => self.track(conn, id, request),
        }
    }

    /// Queues one reply. Nothing happens when the session is gone.
    pub(super) fn reply(&mut self, conn: ConnKey, id: u32, reply: &Reply<'_>) {
        let Some(session) = self.sessions.get(conn) else { return };
        let (protocol, framing, dialect) = (session.protocol, session.framing, session.dialect);
        self.counters.increment(Counter::RepliesSent);
        if matches!(reply, Reply::Error(_) | Reply::CustomError { .. }) {
            self.counters.increment(Counter::ReplyErrors);
            self.note_error(conn);
        }
        if let Dialect::V1(positions) = dialect {
            return self.reply_v1(conn, positions, id, reply);
        }
        self.write.message(conn, |out, frame_start| {
            framing.add(protocol, out, frame_start, |out| client::encode_reply(protocol, id, reply, out));
        });
    }

    /// Queues one push that only this client gets.
    pub(super) fn push(&mut self, conn: ConnKey, channel: &str, push: &Push<'_>) {
        let Some(session) = self.sessions.get(conn) else { return };
        let (protocol, framing, dialect) = (session.protocol, session.framing, session.dialect);
        self.write.message(conn, |out, frame_start| {
            framing.add(protocol, out, frame_start, |out| match dialect {
                Dialect::V2 => client::encode_push(protocol, channel, push, out),
                Dialect::Bare => client::encode_bare_push(protocol, channel, push, out),
                Dialect::V1(positions) => client::v1::encode_push(protocol, positions, channel, push, out),
            });
        });
    }

    /// Leaves out of `publications` what this client cannot be told: a payload that is not JSON would break
    /// the frame of a JSON client, or forge messages in it. Live, recovered and in history alike such an
    /// offset is skipped, and counted.
    pub(super) fn withhold(&mut self, conn: ConnKey, publications: &mut Vec<Arc<Publication>>) {
        if self.sessions.get(conn).is_some_and(|session| session.protocol == Protocol::Json) {
            let before = publications.len();
            publications.retain(|publication| publication_is_json(publication));
            self.counters.add(Counter::PublicationsNotJson, (before - publications.len()) as u64);
        }
    }

    /// Clients as this one can be told of them: infos that are not JSON are left out for JSON clients.
    pub(super) fn presentable(
        &self,
        conn: ConnKey,
        clients: Arc<[Arc<ClientInfo>]>,
    ) -> Arc<[Arc<ClientInfo>]> {
        let json = self.sessions.get(conn).is_some_and(|session| session.protocol == Protocol::Json);
        if !json || clients.iter().all(|info| info_is_json(info)) {
            return clients;
        }
        let presentable = |info: &Arc<ClientInfo>| {
            if info_is_json(info) {
                return Arc::clone(info);
            }
            let ClientInfo { user, client, .. } = &**info;
            let user = Arc::clone(user);
            Arc::new(ClientInfo { user, client: *client, conn_info: None, chan_info: None })
        };
        clients.iter().map(presentable).collect()
    }

    pub(super) fn refuse(&mut self, conn: ConnKey, id: u32, error: ErrorCode) -> Step {
        self.reply(conn, id, &Reply::Error(error));
        Step::Done
    }

    pub(super) fn refuse_by(&mut self, conn: ConnKey, id: u32, refusal: Refusal) -> Step {
        match refusal {
            // Whoever can wait for a key has done so.
            Refusal::Key => self.refuse(conn, id, ErrorCode::Internal),
            Refusal::Error(error) => self.refuse(conn, id, error),
            Refusal::End(disconnect) => self.end_behind(conn, disconnect),
        }
    }

    /// The client broke the protocol (3501).
    pub(super) fn break_protocol(&mut self, conn: ConnKey) -> Step {
        self.end_behind(conn, Disconnect::BAD_REQUEST)
    }

    /// A command ends the session. What was asked before is answered first: the end waits for that.
    pub(super) fn end_behind(&mut self, conn: ConnKey, disconnect: Disconnect) -> Step {
        if self.has_asks_out(conn) { Step::Wait } else { self.end(conn, disconnect) }
    }

    /// Commands of this client wait for other cores.
    pub(super) fn has_asks_out(&self, conn: ConnKey) -> bool {
        self.sessions.get(conn).is_some_and(|session| session.asks_out > 0)
    }

    /// Notes that a command of this client was sent to another core.
    pub(super) fn note_ask(&mut self, conn: ConnKey) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.asks_out += 1;
        }
    }

    /// A command of this client was answered, or nobody waits for its answer any more.
    pub(super) fn note_answer(&mut self, conn: ConnKey) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.asks_out = session.asks_out.saturating_sub(1);
            if session.held.is_some() {
                self.resume.push_back(conn);
            }
        }
    }

    /// Ends the session with a code the peer is told.
    pub(super) fn end(&mut self, conn: ConnKey, disconnect: Disconnect) -> Step {
        let disconnect = self.in_words_of(conn, disconnect);
        if self.forget_session(conn) {
            self.counters.increment(Counter::Disconnects);
            match disconnect.code {
                3008 | 3009 => self.counters.increment(Counter::DisconnectsSlow),
                3501 => self.counters.increment(Counter::DisconnectsBadRequest),
                _ => {}
            }
            if !self.end_visit(conn, &disconnect) {
                self.effects.push(Effect::Close { conn, disconnect });
            }
        }
        Step::Ended
    }

    /// Removes the session and its subscriptions; false when there was none.
    pub(super) fn forget_session(&mut self, conn: ConnKey) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let (state, subscriptions) = (session.state, std::mem::take(&mut session.subscriptions));
        for subscription in subscriptions {
            self.leave(conn, &subscription);
        }
        if matches!(state, State::Connecting | State::Connected) {
            self.leave_user(conn);
        }
        let Some(mut session) = self.sessions.remove(conn) else { return false };
        if let Some(connecting) = session.connecting.take() {
            self.undo_connecting(*connecting);
        }
        self.clients -= u32::from(session.state == State::Connected);
        true
    }

    /// Is the client subscribed, and served?
    pub(super) fn is_subscribed(&self, conn: ConnKey, channel: &str) -> bool {
        self.subscription(conn, channel).is_some_and(|place| matches!(place, Place::Live { .. }))
    }

    /// True while the owner has not answered this client's subscribe to the channel: commands about it wait.
    pub(super) fn is_subscribing(&self, conn: ConnKey, channel: &str) -> bool {
        self.subscription(conn, channel).is_some_and(|place| matches!(place, Place::Waiting(_)))
    }

    pub(super) fn subscription(&self, conn: ConnKey, channel: &str) -> Option<Place> {
        self.find_subscription(conn, channel).map(Subscription::place)
    }

    pub(super) fn find_subscription(&self, conn: ConnKey, channel: &str) -> Option<&Subscription> {
        let hub = self.hub.find(channel)?;
        self.sessions.get(conn)?.find(hub)
    }

    /// The client's info, for what others see of it. Only connected sessions have one.
    pub(in crate::broker) fn info(&self, conn: ConnKey) -> Option<Arc<ClientInfo>> {
        self.sessions.get(conn)?.info.clone()
    }

    /// Bytes of messages of this connection that wait for earlier ones.
    #[must_use]
    pub fn held_bytes(&self, conn: ConnKey) -> usize {
        let held = self.sessions.get(conn).and_then(|session| session.held.as_ref());
        held.map_or(0, |held| held.bytes)
    }

    /// Keeps `message` until earlier commands are through; `front`: it was the one being run.
    fn hold(&mut self, conn: ConnKey, message: &[u8], front: bool) {
        let limit = self.settings.client.held_max_size;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let held = session.held.get_or_insert_default();
        held.bytes += message.len();
        if front {
            held.messages.push_front(message.into());
        } else {
            held.messages.push_back(message.into());
        }
        if held.bytes > limit && !held.paused {
            held.paused = true;
            self.effects.push(Effect::Pause(conn));
        }
    }

    /// Something this connection may have waited for has happened: run what is held.
    pub(super) fn run_held(&mut self, conn: ConnKey) {
        loop {
            let Some(session) = self.sessions.get_mut(conn) else { return };
            let Some(held) = &mut session.held else { return };
            let Some(message) = held.messages.pop_front() else {
                let paused = held.paused;
                session.held = None;
                if paused {
                    self.effects.push(Effect::Resume(conn));
                    self.put_off_expiry(conn);
                }
                return;
            };
            held.bytes -= message.len();
            let before = held.messages.len();
            self.run(conn, &message);
            let waits = |core: &Self| {
                let held = core.sessions.get(conn).and_then(|session| session.held.as_ref());
                held.is_some_and(|held| held.messages.len() > before)
            };
            if waits(self) {
                return;
            }
        }
    }

    /// A command of `conn` waits for credit to `owner`.
    pub(super) fn wait_for_credit(&mut self, conn: ConnKey, owner: CoreId) -> Step {
        self.credit_waiters[usize::from(owner)].push_back(conn);
        self.credit_waiters_count += 1;
        Step::Wait
    }

    /// Ends one subscription from the server's side and tells the client.
    pub(super) fn cut_subscription(&mut self, conn: ConnKey, hub: HubKey, unsubscribe: Unsubscribe) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let Some(disconnect) = session.must_leave(unsubscribe) {
            self.end(conn, disconnect);
            return;
        }
        let Some(subscription) = session.forget(hub) else { return };
        let Some(name) = self.hub.get(hub).map(|channel| Arc::clone(&channel.name)) else { return };
        self.leave(conn, &subscription);
        self.push(conn, &name, &Push::Unsubscribe(unsubscribe));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a list has room for and does not use is memory of every client.
    #[test]
    fn subscriptions_take_little_more_room_than_they_need() {
        let framing = Framing::websocket(Protocol::Json, None);
        let mut session = Session::new(Protocol::Json, framing, false, 0);
        for index in 0..200 {
            let key = HubKey { index, generation: 0 };
            session.add(Subscription::new(key, Place::Waiting(key), false, false));
            let (len, room) = (session.subscriptions.len(), session.subscriptions.capacity());
            assert!(room <= len + len / 4, "room for {room} instead of {len}");
        }
    }
}
