//! Cores, queues, sockets and clients, and the seed that moves them.

use super::{
    Coverage, api::Call, client::Client, emulation::Stray, knobs::Knobs, maps, mesh::Asked, truth::Truth,
};
use crate::{
    broker::{
        core::{Core, Seat, SessionStart},
        mesh::{AskKey, Mesh},
        outbox::Framing,
        seam::Effect,
    },
    config::Settings,
    model::{ClientInfo, ConnKey, CoreId, Now, Position, Protocol},
    stdx::{rng::Rng, slab::Slab},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// What a client's socket brings.
#[derive(Debug)]
pub enum Input {
    Message(Vec<u8>),
    /// A WebSocket pong.
    Pong,
}

/// What the runtime knows of a connection.
#[derive(Debug)]
pub struct Socket {
    pub client: usize,
    /// Messages the client sent, not read yet.
    pub input: VecDeque<Input>,
    pub paused: bool,
    pub framing: Framing,
    /// A write was short: the core is told when there is room.
    pub wants_room: bool,
    /// The client vanished: writes fail.
    pub dead: bool,
    /// The client is out of reach and nobody was told: writes go nowhere.
    pub swallows: bool,
    /// Closing since then; given up some time after.
    pub closing_ms: Option<u64>,
}

pub struct Host {
    pub core: Core,
    pub sockets: Slab<Socket>,
    /// Connections the client side has left, not noticed yet.
    pub ended: Vec<ConnKey>,
    /// Accepted, not handed to the core yet.
    pub opening: Vec<(ConnKey, SessionStart)>,
    paused_until: u32,
}

pub struct World {
    pub(super) rng: Rng,
    pub(super) knobs: Knobs,
    pub(super) now: Now,
    steps: u32,
    pub(super) hosts: Vec<Host>,
    /// `mesh[from][to]`.
    pub(super) mesh: Vec<Vec<VecDeque<Vec<Mesh>>>>,
    /// Questions to other cores that are not answered, by asker.
    pub(super) asks: Vec<BTreeMap<AskKey, Asked>>,
    /// Questions a core may have open with another one.
    pub(super) credit: usize,
    /// Bytes that may wait for one client.
    pub(super) queue_max: usize,
    /// Publications that come late are losses.
    pub(super) lag_counts: bool,
    pub(super) clients: Vec<Client>,
    pub(super) truth: Truth,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) calls_next: u64,
    /// Requests that come when nobody waits for them any more.
    pub(super) strays: Vec<Stray>,
    pub(super) tops: BTreeMap<&'static str, Position>,
    pub(super) present: BTreeMap<&'static str, Vec<Arc<ClientInfo>>>,
    pub(super) map_states: BTreeMap<&'static str, maps::State>,
    pub coverage: Coverage,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut knobs = Knobs::draw(&mut rng);
        let settings: Arc<Settings> = Arc::new(knobs.settings(&mut rng));
        let now = Now { ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let hash_key = rng.next_u64();
        let hosts = (0..knobs.cores)
            .map(|id| {
                let seat = Seat {
                    id: id as CoreId,
                    cores: knobs.cores,
                    seed: rng.next_u64(),
                    hash_key,
                    node: "node".into(),
                };
                let core = Core::new(seat, Arc::clone(&settings), now);
                Host { core, sockets: Slab::default(), ended: vec![], opening: vec![], paused_until: 0 }
            })
            .collect();
        let clients = (0..knobs.clients)
            .map(|index| {
                Client::new(index, if rng.below(2) == 0 { Protocol::Json } else { Protocol::Protobuf })
            })
            .collect();
        let mesh = (0..knobs.cores).map(|_| (0..knobs.cores).map(|_| VecDeque::new()).collect()).collect();
        let asks = (0..knobs.cores).map(|_| BTreeMap::new()).collect();
        let mut truth = Truth::default();
        truth.maps.key_ttl_ms = knobs.key_ttl_ms;
        Self {
            rng,
            knobs,
            now,
            steps: 0,
            hosts,
            mesh,
            asks,
            credit: settings.mesh.credit,
            queue_max: settings.client.queue_max_size,
            lag_counts: !settings.client.channel_position_max_time_lag.is_zero(),
            clients,
            truth,
            calls: BTreeMap::new(),
            calls_next: 0,
            strays: Vec::new(),
            tops: BTreeMap::new(),
            present: BTreeMap::new(),
            map_states: BTreeMap::new(),
            coverage: Coverage::new(),
        }
    }

    pub(super) fn count(&mut self, name: &str) {
        *self.coverage.entry(name.into()).or_default() += 1;
    }

    pub(super) fn chance(&mut self, per_thousand: u64) -> bool {
        self.rng.below(1000) < per_thousand
    }

    pub fn step(&mut self) {
        self.steps += 1;
        let passed = self.rng.below(20);
        self.pass(passed);
        if self.chance(self.knobs.jump) {
            self.count("act: jump in time");
            let passed = 1_000 + self.rng.below(20_000);
            self.pass(passed);
            self.excuse_everybody();
        }
        if self.chance(self.knobs.pause_core) {
            self.count("act: pause core");
            let core = self.rng.below(self.knobs.cores as u64) as usize;
            self.hosts[core].paused_until = self.steps + self.rng.below(300) as u32;
            self.excuse_everybody();
        }
        if self.chance(self.knobs.api) {
            if self.chance(self.knobs.maps) { self.map_call() } else { self.call() }
        }
        let client = self.rng.below(self.knobs.clients as u64) as usize;
        self.act(client);
        let core = self.rng.below(self.knobs.cores as u64) as usize;
        if self.hosts[core].paused_until <= self.steps {
            self.turn(core);
        }
    }

    /// Time passed in which no socket moved: to the server every client looks as if it did not read.
    fn excuse_everybody(&mut self) {
        for client in &mut self.clients {
            client.was_stalled = true;
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_ms += ms;
    }

    // ---- cores ----

    pub(super) fn turn(&mut self, at: usize) {
        self.hosts[at].core.begin_turn(self.now);
        for (conn, start) in std::mem::take(&mut self.hosts[at].opening) {
            let core = &mut self.hosts[at].core;
            core.open(conn);
            core.start_session(conn, start);
        }
        // The news of an end may come behind a write that fails.
        if self.knobs.kill == 0 || self.chance(500) {
            for conn in std::mem::take(&mut self.hosts[at].ended) {
                self.hosts[at].core.end_session(conn);
                self.release(at, conn);
            }
        }
        self.deliver_input(at);
        self.take_requests(at);
        for from in 0..self.knobs.cores {
            let most = 1 + self.rng.below(3);
            for _ in 0..most {
                let Some(batch) = self.mesh[from][at].pop_front() else { break };
                for message in batch {
                    self.count_mesh(&message);
                    self.note_answer(at, &message);
                    self.hosts[at].core.on_mesh(from as CoreId, message);
                }
            }
        }
        self.hosts[at].core.end_turn();
        self.note_expired(at);
        self.effects(at);
        self.write(at);
        self.effects(at);
        self.drained(at);
        for to in 0..self.knobs.cores {
            self.hand_over(at, to);
        }
    }

    fn deliver_input(&mut self, at: usize) {
        let conns: Vec<_> = self.hosts[at].sockets.iter().map(|(conn, _)| conn).collect();
        for conn in conns {
            while let Some(socket) = self.hosts[at]
                .sockets
                .get_mut(conn)
                .filter(|socket| !socket.paused && !socket.dead && !socket.swallows)
            {
                let Some(input) = socket.input.pop_front() else { break };
                let core = &mut self.hosts[at].core;
                match input {
                    Input::Message(message) => core.on_message(conn, &message),
                    Input::Pong => core.on_websocket_pong(conn),
                }
                self.effects(at);
            }
        }
    }

    fn effects(&mut self, at: usize) {
        for effect in self.hosts[at].core.take_effects() {
            match effect {
                Effect::Pause(conn) | Effect::Resume(conn) => {
                    let paused = matches!(effect, Effect::Pause(_));
                    self.count(if paused { "effect: pause" } else { "effect: resume" });
                    if let Some(socket) = self.hosts[at].sockets.get_mut(conn) {
                        socket.paused = paused;
                    }
                }
                Effect::Close { conn, disconnect } => self.close(at, conn, &disconnect),
                Effect::Connected(conn) => panic!("nobody waits for a response, and {conn:?} is told of"),
                Effect::ApiReply { call, reply } => self.on_api_reply(call, reply),
                Effect::CallBackend(call) => panic!("nobody polls, and a backend is asked {call:?}"),
                Effect::SockJs { call, .. } => panic!("nobody asked {call}"),
                Effect::FetchKeys { endpoint } => panic!("nobody has a token, and {endpoint} is asked"),
            }
        }
    }

    pub fn invariants(&self) {
        for host in &self.hosts {
            host.core.invariants();
        }
    }
}
