//! The driver of one core: its connections, how they end, and the effects of the broker.

use super::{
    exchange::{Asked, HttpConn},
    gate::{Gate, TurnedAway},
    http::{Identity, Site, StreamPlan},
    log::Log,
    sockjs::{Feed, Receiving},
    stream::Stream,
    timer::{Fired, Timer},
    websocket::WebSocket,
};
use crate::{
    broker::{
        core::{Core, Seat},
        seam::{BackendCall, BackendResult, Effect, KeySet},
    },
    config::Settings,
    model::{ConnKey, CoreId, Disconnect, Now},
    runtime::{Close, CoreSeat, Short},
    stdx::{
        slab::{Key, SideTable, Slab},
        wheel::Wheel,
    },
    wire::deflate::Inflater,
};
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize},
        mpsc::SyncSender,
    },
    time::Duration,
};

/// What other threads tell a core.
#[derive(Debug)]
pub enum Foreign {
    /// Accept nothing more, tell every client 3001, answer what was asked, end when all connections are gone
    /// on all cores.
    Drain,
    /// End at once.
    Stop,
    /// What a JWKS endpoint said; `None`: nothing that can be used.
    Keys { endpoint: Arc<str>, keys: Option<Arc<KeySet>> },
    /// How call `id` of this core to a backend went.
    Backend { id: Key, result: BackendResult },
}

/// A call of a core to a backend; answered by [`Foreign::Backend`].
#[derive(Debug)]
pub struct BackendJob {
    pub core: CoreId,
    pub call: BackendCall,
}

/// What the cores of a process share; touched when they drain and at scrapes.
#[derive(Debug)]
pub struct Shared {
    /// Cores that have connections left.
    pub(super) busy: AtomicUsize,
    /// Scrapes so far: each starts a new measurement of the longest turn on every core.
    pub(super) scrapes: AtomicU64,
    /// Origins that were refused and reported.
    pub(super) refused_origins: Mutex<HashSet<String>>,
    pub(super) gate: Gate,
    /// Takes endpoints whose keys are wanted; the answers come as [`Foreign::Keys`].
    pub(super) key_fetches: SyncSender<Arc<str>>,
    /// Takes calls to backends; `None` where nothing is asked of any.
    pub(super) backend: Option<SyncSender<BackendJob>>,
}

impl Shared {
    #[must_use]
    pub fn new(
        cores: usize,
        gate: Gate,
        key_fetches: SyncSender<Arc<str>>,
        backend: Option<SyncSender<BackendJob>>,
    ) -> Self {
        Self {
            busy: AtomicUsize::new(cores),
            scrapes: AtomicU64::new(0),
            refused_origins: Mutex::default(),
            gate,
            key_fetches,
            backend,
        }
    }
}

/// What a connection is. Kept small: an idle WebSocket has no more than this here.
pub(super) enum Conn {
    Http(Box<HttpConn>),
    WebSocket(WebSocket),
    Stream(Stream),
    /// A response that becomes a stream once its listener is connected, or says why it is not.
    Awaited(Box<StreamPlan>),
    /// A response that carries a session of SockJS.
    Feed(Box<Feed>),
    /// Nothing is read any more; what waits is written until the deadline.
    Closing(Timer),
}

const _: () = assert!(size_of::<Conn>() <= 48);

/// What to ask of [`Net`] once it is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Pause,
    Resume,
    Close(Close),
}

pub struct CoreDriver {
    pub(super) core: Core,
    pub(super) site: Site,
    pub(super) conns: SideTable<Conn>,
    /// Clients to be counted out at the gate when they go.
    pub(super) counted: SideTable<IpAddr>,
    pub(super) inflater: Inflater,
    pub(super) wheel: Wheel,
    pub(super) now: Now,
    pub(super) calls: Slab<Asked>,
    /// Connections that wait for what a session of SockJS is told.
    pub(super) receiving: SideTable<Box<Receiving>>,
    /// Calls for the state of the cores, made at the end of the turn.
    pub(super) infos: Vec<Key>,
    /// HTTP connections with responses that are not handed to the broker's outbox yet.
    pub(super) feeding: Vec<ConnKey>,
    pub(super) orders: Vec<(ConnKey, Order)>,
    /// The broker got something after its turn had ended: another turn must follow.
    pub(super) late: bool,
    pub(super) shared: Arc<Shared>,
    pub(super) fired: Vec<u64>,
    effects: Vec<Effect>,
    pub(super) shorts: Vec<Short>,
    pub(super) id: CoreId,
    pub(super) cores: usize,
    pub(super) scrapes: u64,
    pub(super) life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    /// `accepting`: the runtime was not told yet.
    Draining {
        accepting: bool,
    },
    /// No connection is left here.
    Drained,
    Stopped,
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl CoreDriver {
    /// `seed` and `hash_key` as in [`Seat`].
    #[must_use]
    pub fn new(
        seat: &CoreSeat,
        seed: u64,
        hash_key: u64,
        settings: &Arc<Settings>,
        identity: Arc<Identity>,
        shared: Arc<Shared>,
        log: Arc<dyn Log>,
    ) -> Self {
        let id = CoreId::try_from(seat.core).unwrap_or(CoreId::MAX);
        let now = Now::default();
        let node = identity.uid.as_str().into();
        let broker_seat = Seat { id, cores: seat.cores, seed, hash_key, node };
        Self {
            core: Core::new(broker_seat, Arc::clone(settings), now),
            site: Site::new(
                Arc::clone(settings),
                identity,
                seat.pulse.clone(),
                seat.cores,
                Arc::clone(&shared),
                log,
            ),
            conns: SideTable::default(),
            counted: SideTable::default(),
            inflater: Inflater::default(),
            wheel: Wheel::new(now.ms),
            now,
            calls: Slab::default(),
            receiving: SideTable::default(),
            infos: Vec::new(),
            feeding: Vec::new(),
            orders: Vec::new(),
            late: false,
            shared,
            fired: Vec::new(),
            effects: Vec::new(),
            shorts: Vec::new(),
            id,
            cores: seat.cores,
            scrapes: 0,
            life: Life::Serving,
        }
    }

    /// Lets a client in, if there is room.
    pub(super) fn enter(&mut self, conn: ConnKey, address: IpAddr) -> Result<(), TurnedAway> {
        let gate = &self.shared.gate;
        gate.enter(address, self.now.ms)?;
        if gate.counts() {
            self.counted.insert(conn, address);
        }
        Ok(())
    }

    /// The connection is no client any more, if it was one.
    pub(super) fn leave(&mut self, conn: ConnKey) {
        if let Some(address) = self.counted.remove(conn) {
            self.shared.gate.leave(address);
        }
    }

    /// Ends what the connection was: what waits is written, then it is closed, at the latest after `within`.
    pub(super) fn close_soon(&mut self, conn: ConnKey, last: &[u8], within: Duration) {
        let mut timer = Timer::default();
        if let Some(at_ms) = timer.set(self.now.ms.saturating_add(ms(within))) {
            self.wheel.insert(at_ms, conn.to_bits());
        }
        self.leave(conn);
        self.stop_receiving(conn);
        self.conns.insert(conn, Conn::Closing(timer));
        self.core.close_after_drain(conn, last);
    }

    /// Ends a connection nobody listens on any more.
    pub(super) fn cut(&mut self, conn: ConnKey, how: Close) {
        self.core.end_session(conn);
        self.leave(conn);
        self.stop_receiving(conn);
        self.conns.insert(conn, Conn::Closing(Timer::default()));
        self.orders.push((conn, Order::Close(how)));
    }

    pub(super) fn fire_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(self.now.ms, &mut fired);
        for bits in fired.drain(..) {
            let conn = Key::from_bits(bits);
            let outcome = match self.conns.get_mut(conn) {
                Some(Conn::Http(http)) => http.timer.fired(self.now.ms),
                Some(Conn::Closing(timer)) => timer.fired(self.now.ms),
                Some(Conn::WebSocket(_) | Conn::Stream(_) | Conn::Awaited(_) | Conn::Feed(_)) | None => {
                    Fired::Stale
                }
            };
            match (outcome, self.conns.get(conn)) {
                (Fired::Again(at_ms), _) => self.wheel.insert(at_ms, bits),
                (Fired::Due, Some(Conn::Http(_))) => self.on_http_due(conn),
                (Fired::Due, Some(Conn::Closing(_))) => self.cut(conn, Close::Reset),
                _ => {}
            }
        }
        self.fired = fired;
    }

    pub(super) fn do_effects(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            self.core.swap_effects(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Pause(conn) => self.orders.push((conn, Order::Pause)),
                    Effect::Resume(conn) => self.orders.push((conn, Order::Resume)),
                    Effect::Close { conn, disconnect } => self.on_close(conn, &disconnect),
                    Effect::Connected(conn) => self.begin_stream(conn),
                    // Nobody takes it: as good as an endpoint that does not answer.
                    Effect::FetchKeys { endpoint } => {
                        if self.shared.key_fetches.try_send(Arc::clone(&endpoint)).is_err() {
                            self.core.on_keys(&endpoint, None);
                            self.late = true;
                        }
                    }
                    Effect::CallBackend(call) => self.call_backend(call),
                    Effect::ApiReply { call, reply } => self.on_reply(Key::from_bits(call), reply),
                    Effect::SockJs { call, answer } => self.on_sockjs_answer(Key::from_bits(call), answer),
                }
            }
        }
        self.effects = effects;
    }

    /// A call that nobody takes has failed.
    fn call_backend(&mut self, call: BackendCall) {
        let id = call.id;
        let job = BackendJob { core: self.id, call };
        let taken = self.shared.backend.as_ref().is_some_and(|backend| backend.try_send(job).is_ok());
        if !taken {
            self.core.on_backend(id, BackendResult { answer: None, micros: 0 });
            self.late = true;
        }
    }

    fn on_close(&mut self, conn: ConnKey, disconnect: &Disconnect) {
        match self.conns.get(conn) {
            Some(Conn::WebSocket(_)) => self.close_websocket(conn, disconnect),
            Some(Conn::Stream(_)) => self.close_stream(conn, disconnect),
            Some(Conn::Awaited(_)) => self.refuse_stream(conn, disconnect),
            // Half a response is worse than none.
            Some(Conn::Http(_) | Conn::Feed(_)) => {
                self.core.drop_queue(conn);
                self.cut(conn, Close::Reset);
            }
            Some(Conn::Closing(_)) | None => {}
        }
    }
}

impl std::fmt::Debug for CoreDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreDriver").field("id", &self.id).field("connections", &self.conns.len()).finish()
    }
}
