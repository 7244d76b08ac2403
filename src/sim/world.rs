//! Cores, queues, sockets and clients, and the seed that moves them.

use super::{
    Coverage,
    client::Client,
    knobs::{self, CHANNELS, Knobs},
    truth::Truth,
};
use crate::{
    broker::{
        core::{Core, Seat, SessionStart, ShortWrite},
        mesh::{Answer, Ask, Forward, Mesh},
        seam::{ApiReply, ApiRequest, Effect, PublishOptions, Target},
    },
    config::Settings,
    metrics::Counter,
    model::{ClientInfo, ConnKey, CoreId, Disconnect, ErrorCode, Now, Position, Protocol},
    stdx::{rng::Rng, slab::Slab},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// How long a closing connection may take for its last bytes.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// What the runtime knows of a connection.
#[derive(Debug)]
struct Socket {
    client: usize,
    /// Messages the client sent, not read yet.
    input: VecDeque<Vec<u8>>,
    paused: bool,
    /// A write was short: the core is told when there is room.
    wants_room: bool,
    /// The client vanished: writes fail.
    dead: bool,
    /// Closing since then; given up after [`CLOSE_TIMEOUT_MS`].
    closing_ms: Option<u64>,
}

struct Host {
    core: Core,
    sockets: Slab<Socket>,
    /// Connections the client side has left, not noticed yet.
    ended: Vec<ConnKey>,
    /// Accepted, not handed to the core yet.
    opening: Vec<(ConnKey, Protocol)>,
    paused_until: u32,
}

/// A server API call and what it must come to.
#[derive(Debug)]
enum Call {
    Publish {
        channel: &'static str,
        payload: Vec<u8>,
    },
    Any,
    /// Asked at the end: everything must agree with it.
    Top(&'static str),
    Present(&'static str),
}

pub struct World {
    rng: Rng,
    knobs: Knobs,
    now: Now,
    steps: u32,
    hosts: Vec<Host>,
    /// `mesh[from][to]`.
    mesh: Vec<Vec<VecDeque<Vec<Mesh>>>>,
    clients: Vec<Client>,
    truth: Truth,
    calls: BTreeMap<u64, Call>,
    calls_next: u64,
    tops: BTreeMap<&'static str, Position>,
    present: BTreeMap<&'static str, Vec<Arc<ClientInfo>>>,
    pub coverage: Coverage,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let knobs = Knobs::draw(&mut rng);
        let settings: Arc<Settings> = Arc::new(Knobs::settings(&mut rng));
        let now = Now { ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let hash_key = rng.next_u64();
        let hosts = (0..knobs.cores)
            .map(|id| {
                let seat = Seat { id: id as CoreId, cores: knobs.cores, seed: rng.next_u64(), hash_key };
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
        Self {
            rng,
            knobs,
            now,
            steps: 0,
            hosts,
            mesh,
            clients,
            truth: Truth::default(),
            calls: BTreeMap::new(),
            calls_next: 0,
            tops: BTreeMap::new(),
            present: BTreeMap::new(),
            coverage: Coverage::new(),
        }
    }

    fn count(&mut self, name: &str) {
        *self.coverage.entry(name.into()).or_default() += 1;
    }

    fn chance(&mut self, per_thousand: u64) -> bool {
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
            self.call();
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

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_ms += ms;
    }

    // ---- clients ----

    fn act(&mut self, index: usize) {
        let channel = CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize];
        if self.clients[index].at.is_none() {
            return self.connect(index);
        }
        if self.chance(self.knobs.kill) {
            self.count("act: kill");
            return self.kill(index);
        }
        if self.chance(self.knobs.stall) {
            self.count("act: stall");
            let client = &mut self.clients[index];
            client.stalled = !client.stalled;
            client.was_stalled = true;
        }
        if self.chance(self.knobs.silent) && self.clients[index].connected {
            self.clients[index].silent = true;
        }
        if self.chance(self.knobs.garbage) {
            self.count("act: garbage");
            self.clients[index].was_rude = true;
            return self.send(index, b"garbage".to_vec());
        }
        let count =
            if self.chance(self.knobs.burst) { 1 + self.rng.below(30) } else { 1 + self.rng.below(2) };
        for _ in 0..count {
            self.command(index, channel);
        }
        self.flush(index);
    }

    fn command(&mut self, index: usize, channel: &'static str) {
        let dice = self.rng.below(20);
        let magnitude = self.rng.below(9);
        let filler = self.rng.below(1 << magnitude) as usize;
        let flag = if self.rng.below(4) == 0 { 2 } else { 0 };
        let recover = self.rng.below(3) > 0;
        let client = &mut self.clients[index];
        if !client.connected {
            return;
        }
        let open = client.subs.contains_key(channel);
        match dice {
            0..=4 if !open => client.subscribe(channel, recover, flag),
            // Subscribing twice is answered 105 and changes nothing.
            0 => client.subscribe(channel, false, 0),
            1 if open => client.unsubscribe(channel),
            2..=3 => client.ask(channel, self.rng.below(4)),
            _ => client.publish(channel, &mut self.truth, filler),
        }
    }

    fn connect(&mut self, index: usize) {
        let core = self.rng.below(self.knobs.cores as u64) as usize;
        let host = &mut self.hosts[core];
        let socket = Socket {
            client: index,
            input: VecDeque::new(),
            paused: false,
            wants_room: false,
            dead: false,
            closing_ms: None,
        };
        let conn = host.sockets.insert(socket);
        host.opening.push((conn, self.clients[index].protocol));
        let returns = !self.clients[index].memory.is_empty();
        self.count(if returns { "act: reconnect and recover" } else { "act: connect" });
        let client = &mut self.clients[index];
        // A socket that takes little per turn cannot keep up.
        client.was_stalled = self.knobs.socket_bytes < 8192 || self.knobs.short > 0;
        client.connect(core, conn);
        // SDKs send their subscribes in the same message.
        let channels: Vec<_> = client.memory.keys().cloned().collect();
        for channel in channels {
            if client.outstanding.len() < 5 {
                client.subscribe(&channel, true, 0);
            }
        }
        self.flush(index);
    }

    fn kill(&mut self, index: usize) {
        if let Some((core, conn)) = self.clients[index].at {
            let host = &mut self.hosts[core];
            if let Some(socket) = host.sockets.get_mut(conn) {
                socket.dead = true;
                host.ended.push(conn);
            }
            self.clients[index].lost();
        }
    }

    fn send(&mut self, index: usize, message: Vec<u8>) {
        let Some((core, conn)) = self.clients[index].at else { return };
        if let Some(socket) = self.hosts[core].sockets.get_mut(conn) {
            socket.input.push_back(message);
        }
    }

    fn flush(&mut self, index: usize) {
        let message = std::mem::take(&mut self.clients[index].outgoing);
        if !message.is_empty() {
            self.send(index, message);
        }
    }

    /// The client reads its socket, if it reads at all, and answers pings.
    fn read(&mut self, index: usize) {
        if self.clients[index].stalled {
            return;
        }
        self.clients[index].read(&mut self.truth, &mut self.coverage);
        self.flush(index);
        if self.clients[index].closed.is_some() {
            self.kill(index);
        }
    }

    // ---- the server API ----

    fn call(&mut self) {
        self.count("act: api");
        let core = self.rng.below(self.knobs.cores as u64) as usize;
        let channel = CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize];
        let index = self.rng.below(self.knobs.clients as u64) as usize;
        let target = Target { client: self.clients[index].id.as_str().into(), ..Target::default() };
        let options = PublishOptions::default();
        let mut call = Call::Any;
        let request = match self.rng.below(10) {
            0..=2 => {
                let payload = self.truth.payload(channel, 1_000_000 + self.calls_next as usize, 10);
                call = Call::Publish { channel, payload: payload.clone() };
                ApiRequest::Publish { channel: channel.into(), data: payload.into(), tags: vec![], options }
            }
            3 => {
                let payload = self.truth.payload("rec:a", 1_000_000 + self.calls_next as usize, 10);
                let channels = vec!["rec:a".into(), "none:x".into()];
                ApiRequest::Broadcast { channels, data: payload.into(), tags: vec![], options }
            }
            4 => ApiRequest::Subscribe {
                target,
                channel: channel.into(),
                info: None,
                data: None,
                recover_since: None,
            },
            5 => ApiRequest::Unsubscribe { target, channel: channel.into() },
            6 => {
                let disconnect = Disconnect { code: 4500, reason: "api".into() };
                ApiRequest::Disconnect { target, whitelist: vec![], disconnect }
            }
            7 => ApiRequest::Channels { pattern: "".into() },
            8 => ApiRequest::Info,
            _ => ApiRequest::HistoryRemove { channel: "rec:c".into() },
        };
        self.api(core, request, call);
    }

    fn api(&mut self, core: usize, request: ApiRequest, call: Call) {
        let number = self.calls_next;
        self.calls_next += 1;
        self.calls.insert(number, call);
        self.hosts[core].core.begin_turn(self.now);
        self.hosts[core].core.api(number, request);
    }

    fn on_api_reply(&mut self, number: u64, reply: Result<ApiReply, ErrorCode>) {
        let call = self.calls.remove(&number).unwrap_or_else(|| panic!("call {number} answered twice"));
        if let Err(error) = &reply {
            self.count(&format!("api: error {}", error.code()));
        }
        match (call, reply) {
            (Call::Publish { channel, payload }, Ok(ApiReply::Publish { position })) => {
                if let Some(position) = position {
                    self.truth.told(channel, &position.epoch, position.offset, &payload);
                }
            }
            (Call::Top(channel), Ok(ApiReply::History { position, .. })) => {
                self.tops.insert(channel, position);
            }
            (Call::Present(channel), Ok(ApiReply::Presence(clients))) => {
                self.present.insert(channel, clients);
            }
            (Call::Any, _) | (Call::Publish { .. }, Err(_)) => {}
            (call, reply) => panic!("{call:?}: {reply:?}"),
        }
    }

    // ---- cores ----

    fn turn(&mut self, at: usize) {
        self.hosts[at].core.begin_turn(self.now);
        for (conn, protocol) in std::mem::take(&mut self.hosts[at].opening) {
            let core = &mut self.hosts[at].core;
            core.open(conn);
            core.start_session(conn, SessionStart { protocol, websocket: true, websocket_pings: false });
        }
        // The news of an end may come behind a write that fails.
        if self.knobs.kill == 0 || self.chance(500) {
            for conn in std::mem::take(&mut self.hosts[at].ended) {
                self.hosts[at].core.end_session(conn);
                self.release(at, conn);
            }
        }
        self.deliver_input(at);
        for from in 0..self.knobs.cores {
            let most = 1 + self.rng.below(3);
            for _ in 0..most {
                let Some(batch) = self.mesh[from][at].pop_front() else { break };
                for message in batch {
                    self.count_mesh(&message);
                    self.hosts[at].core.on_mesh(from as CoreId, message);
                }
            }
        }
        self.hosts[at].core.end_turn();
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
            while let Some(socket) =
                self.hosts[at].sockets.get_mut(conn).filter(|socket| !socket.paused && !socket.dead)
            {
                let Some(message) = socket.input.pop_front() else { break };
                self.hosts[at].core.on_message(conn, &message);
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
                Effect::ApiReply { call, reply } => self.on_api_reply(call, reply),
            }
        }
    }

    /// One write per dirty connection; sockets take what fits, or less.
    fn write(&mut self, at: usize) {
        self.hosts[at].core.begin_flush();
        let mut shorts = Vec::new();
        let mut readers = Vec::new();
        for index in 0..self.hosts[at].core.dirty_len() {
            let stingy = self.chance(self.knobs.short);
            let host = &mut self.hosts[at];
            let mut pieces = Vec::new();
            let conn = host.core.pieces(index, &mut pieces);
            let bytes = pieces.concat();
            let socket = host.sockets.get_mut(conn).expect("a write to a connection that is gone");
            if socket.dead {
                *self.coverage.entry("write: broken".into()).or_default() += 1;
                shorts.push(ShortWrite { index, sent: 0, broken: true });
                continue;
            }
            let client = &mut self.clients[socket.client];
            let room = self.knobs.socket_bytes.saturating_sub(client.socket.len());
            let room = if stingy { self.rng.below(room as u64 + 1) as usize } else { room };
            let sent = bytes.len().min(room);
            client.socket.extend_from_slice(&bytes[..sent]);
            readers.push(socket.client);
            if sent < bytes.len() {
                *self.coverage.entry("write: short".into()).or_default() += 1;
                socket.wants_room = true;
                shorts.push(ShortWrite { index, sent, broken: false });
            }
        }
        self.hosts[at].core.settle(&shorts);
        for index in readers {
            self.read(index);
        }
        self.make_room(at);
    }

    fn make_room(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let ready: Vec<_> = host
            .sockets
            .iter()
            .filter(|(_, socket)| socket.wants_room && !socket.dead)
            .filter(|(_, socket)| self.clients[socket.client].socket.len() < self.knobs.socket_bytes)
            .map(|(conn, socket)| (conn, socket.client))
            .collect();
        for (conn, client) in ready {
            if let Some(socket) = host.sockets.get_mut(conn) {
                socket.wants_room = false;
                host.core.on_writable(conn);
            }
            debug_assert!(client < self.clients.len());
        }
    }

    fn drained(&mut self, at: usize) {
        let mut gone = self.hosts[at].core.take_drained();
        let now_ms = self.now.ms;
        let late =
            |socket: &Socket| socket.closing_ms.is_some_and(|since_ms| now_ms > since_ms + CLOSE_TIMEOUT_MS);
        gone.extend(self.hosts[at].sockets.iter().filter(|(_, socket)| late(socket)).map(|(conn, _)| conn));
        for conn in gone {
            self.release(at, conn);
        }
    }

    fn release(&mut self, at: usize, conn: ConnKey) {
        let host = &mut self.hosts[at];
        host.core.released(conn);
        host.ended.retain(|&other| other != conn);
        if let Some(socket) = host.sockets.remove(conn)
            && self.clients[socket.client].at == Some((at, conn))
        {
            // The client reads what is left, then the end of the stream.
            self.clients[socket.client].stalled = false;
            self.read(socket.client);
            self.clients[socket.client].lost();
        }
    }

    fn hand_over(&mut self, from: usize, to: usize) {
        let host = &mut self.hosts[from];
        let batch = host.core.outgoing(to as CoreId);
        if batch.is_empty() {
            return;
        }
        if self.mesh[from][to].len() >= self.knobs.mesh_batches {
            return self.count("mesh: full");
        }
        self.mesh[from][to].push_back(std::mem::take(batch));
        host.core.outgoing_taken(to as CoreId);
    }

    fn count_mesh(&mut self, message: &Mesh) {
        let name = match message {
            Mesh::Ask { ask, .. } => match **ask {
                Ask::Subscribe(_) => "mesh: ask Subscribe",
                Ask::Publish { .. } => "mesh: ask Publish",
                Ask::Presence { .. } => "mesh: ask Presence",
                Ask::PresenceStats { .. } => "mesh: ask PresenceStats",
                Ask::History { .. } => "mesh: ask History",
                Ask::HistoryRemove { .. } => "mesh: ask HistoryRemove",
                Ask::Position { .. } => "mesh: ask Position",
            },
            Mesh::Answer { answer, .. } => match **answer {
                Answer::Subscribed(_) => "mesh: answer Subscribed",
                Answer::Error(_) => "mesh: answer Error",
                _ => "mesh: answer",
            },
            Mesh::Forward { forward, .. } => match forward {
                Forward::Publication(_) => "mesh: forward Publication",
                Forward::Join(_) => "mesh: forward Join",
                Forward::Leave(_) => "mesh: forward Leave",
                Forward::Gap => "mesh: forward Gap",
            },
            Mesh::Tell(_) => "mesh: tell Unsubscribe",
            Mesh::Survey { .. } => "mesh: survey",
            Mesh::SurveyAnswer { .. } => "mesh: survey answer",
        };
        self.count(name);
    }

    pub fn invariants(&self) {
        for host in &self.hosts {
            host.core.invariants();
        }
    }

    // ---- the end ----

    /// Ends all faults, lets everything arrive, compares, then sends everybody away.
    pub fn finish(&mut self) {
        for knob in [
            &mut self.knobs.kill,
            &mut self.knobs.stall,
            &mut self.knobs.garbage,
            &mut self.knobs.silent,
            &mut self.knobs.pause_core,
            &mut self.knobs.jump,
            &mut self.knobs.short,
            &mut self.knobs.api,
        ] {
            *knob = 0;
        }
        self.settle_down();
        // Long enough for position checks, overdue pongs and questions nobody answered.
        for _ in 0..900 {
            self.pass(100);
            for at in 0..self.knobs.cores {
                self.turn(at);
            }
        }
        self.settle_down();
        self.invariants();
        self.compare();
        for index in 0..self.clients.len() {
            self.kill(index);
        }
        self.settle_down();
        self.invariants();
        for at in 0..self.knobs.cores {
            assert_eq!(self.hosts[at].core.residue(), Default::default(), "core {at} keeps something");
            let stats = self.hosts[at].core.stats();
            assert_eq!(stats.clients, 0);
            for (counter, name) in
                [(Counter::MeshDropped, "counter: dropped"), (Counter::CreditExhausted, "counter: no credit")]
            {
                let count = stats.counters.value(counter);
                if count > 0 {
                    *self.coverage.entry(name.into()).or_default() += count;
                }
            }
        }
    }

    /// Turns all cores until nothing moves.
    fn settle_down(&mut self) {
        for client in &mut self.clients {
            client.stalled = false;
        }
        for round in 0.. {
            assert!(round < 20_000, "the node never comes to rest");
            for index in 0..self.clients.len() {
                self.read(index);
            }
            for at in 0..self.knobs.cores {
                self.make_room(at);
                self.turn(at);
            }
            let quiet = self.mesh.iter().flatten().all(VecDeque::is_empty)
                && self.clients.iter().all(|client| client.socket.is_empty())
                && self.hosts.iter_mut().all(|host| {
                    let cores = self.mesh.len();
                    host.ended.is_empty()
                        && host
                            .sockets
                            .iter()
                            .all(|(_, socket)| socket.input.is_empty() && !socket.wants_room)
                        && (0..cores).all(|to| host.core.outgoing(to as CoreId).is_empty())
                });
            if quiet && round > 3 {
                return;
            }
        }
    }

    /// Everybody has everything, nobody is where he should not be.
    fn compare(&mut self) {
        assert!(self.calls.is_empty(), "calls never answered: {:?}", self.calls);
        for channel in CHANNELS {
            if channel.starts_with("rec") || channel.starts_with("small") {
                let request =
                    ApiRequest::History { channel: channel.into(), limit: 0, since: None, reverse: false };
                self.api(0, request, Call::Top(channel));
                self.settle_down();
            }
            if knobs::has_presence(channel) {
                self.api(0, ApiRequest::Presence { channel: channel.into() }, Call::Present(channel));
                self.settle_down();
            }
        }
        for client in self.clients.iter().filter(|client| client.connected) {
            assert!(client.outstanding.is_empty(), "client {}: never answered: {client:?}", client.index);
            for (channel, sub) in &client.subs {
                if let Some(top) = self.tops.get(channel.as_str()) {
                    let have = (sub.epoch.as_str(), sub.offset);
                    assert_eq!(
                        have,
                        (&*top.epoch, top.offset),
                        "client {} missed the end of {channel}",
                        client.index
                    );
                }
            }
        }
        for (channel, present) in &self.present {
            let mut want: Vec<_> = self
                .clients
                .iter()
                .filter(|client| client.connected && client.subs.contains_key(*channel))
                .map(|client| client.id.clone())
                .collect();
            let mut have: Vec<_> = present.iter().map(|info| info.client.to_string()).collect();
            want.sort();
            have.sort();
            assert_eq!(have, want, "presence of {channel}");
        }
    }

    /// What a transport does with [`Effect::Close`].
    fn close(&mut self, at: usize, conn: ConnKey, disconnect: &Disconnect) {
        let Host { core, sockets, .. } = &mut self.hosts[at];
        let Some(socket) = sockets.get_mut(conn).filter(|socket| socket.closing_ms.is_none()) else { return };
        socket.closing_ms = Some(self.now.ms);
        if matches!(disconnect.code, 3008 | 3009) {
            core.drop_queue(conn);
        }
        let mut frame = vec![0x88, 2 + disconnect.reason.len() as u8];
        frame.extend_from_slice(&(disconnect.code as u16).to_be_bytes());
        frame.extend_from_slice(disconnect.reason.as_bytes());
        core.close_after_drain(conn, &frame);
    }
}
