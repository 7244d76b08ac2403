//! Cores, the queues between them, and time.

use super::{
    CHANNELS, LATE_MS, USERS,
    calls::Call,
    check::Around,
    client::{Client, Habit, Licence},
    denied::Denied,
    keys::{ENDPOINT, SECRET, Signer},
    token::{Caps, Fate, Mint, Skew, Wanted},
};
use crate::{
    auth::KeySet,
    broker::{
        core::{Core, Seat, SessionStart, ShortWrite},
        mesh::Mesh,
        outbox::{Body, Framing},
        seam::{ApiRequest, Effect},
    },
    config::{ChannelOptions, Namespace, OrOff, Settings},
    model::{Now, Protocol},
    sim::Coverage,
    stdx::{rng::Rng, slab::Key},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

pub struct Host {
    core: Core,
    /// It stands still until then.
    still_until_ms: u64,
    turned_ms: u64,
    /// It stood still: until then nobody is cut.
    graced_ms: u64,
    /// Keys that sign tokens: how many it knows.
    known: usize,
    /// What it is to be told of keys, and how many these are.
    keys: VecDeque<(Option<Arc<KeySet>>, usize)>,
}

pub struct World {
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) hosts: Vec<Host>,
    /// From, to.
    queues: Vec<Vec<VecDeque<Mesh>>>,
    pub(super) clients: Vec<Client>,
    conns: u32,
    mint: Mint,
    /// Questions for keys that were not answered.
    fetches: Vec<Arc<str>>,
    delay_ms: (u64, u64),
    patience_ms: u64,
    pong_timeout_ms: u64,
    pub(super) denied: Denied,
    /// By user.
    pub(super) licences: BTreeMap<&'static str, Licence>,
    /// Calls of the server API that a core has not read: the core, the number and the call.
    pub(super) inquiries: Vec<(usize, u64, ApiRequest)>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) calls_next: u64,
    published: u64,
    /// No faults any more: queues are emptied.
    calm: bool,
    skew: Skew,
    pub coverage: Coverage,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(rng: &mut Rng, signer: &Signer) -> Settings {
    let mut settings = Settings::default();
    let client = &mut settings.client;
    client.ping_interval = OrOff::on(Duration::from_secs(3600));
    client.pong_timeout = OrOff::on(ms(500 << rng.below(4)));
    match signer {
        Signer::Secret => client.token.hmac_secret_key = SECRET.into(),
        Signer::Pairs(_) => client.token.jwks_public_endpoint = ENDPOINT.into(),
    }
    let mut delay = || ms(rng.below(2) * rng.below(3_000));
    (client.expired_close_delay, client.expired_sub_close_delay) = (delay(), delay());
    client.denials_max = [2, 1000][rng.below(2) as usize];
    client.held_max_size = 64 << rng.below(8);
    settings.mesh.credit = 1 + rng.below(8) as usize;
    settings.mesh.ask_timeout = ms(250 << rng.below(5));
    let closed = ChannelOptions { presence: true, ..ChannelOptions::default() };
    let open = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..closed.clone()
    };
    settings.channel.namespaces =
        [("p", closed.clone()), ("cap", closed.clone()), ("srv", closed), ("open", open)]
            .map(|(name, options)| Namespace { name: name.into(), options, ..Namespace::default() })
            .into();
    settings
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let cores = 1 + rng.below(3) as usize;
        let signer = Signer::draw(&mut rng);
        let settings = Arc::new(settings(&mut rng, &signer));
        let now = Now { ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let hash_key = rng.next_u64();
        let host = |id: usize| {
            let (seed, node) = (seed ^ ((id as u64) << 32), "node".into());
            let seat = Seat { id: id as u16, cores, seed, hash_key, node };
            let core = Core::new(seat, Arc::clone(&settings), now);
            let known = if signer.count() == 0 { usize::MAX } else { 0 };
            let keys = VecDeque::new();
            Host { core, still_until_ms: 0, turned_ms: now.ms, graced_ms: 0, known, keys }
        };
        let hosts = (0..cores).map(host).collect();
        let millis = |time: Duration| time.as_millis() as u64;
        let client = &settings.client;
        Self {
            rng,
            now,
            hosts,
            queues: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            clients: Vec::new(),
            conns: 0,
            mint: Mint::new(signer),
            fetches: Vec::new(),
            delay_ms: (millis(client.expired_close_delay), millis(client.expired_sub_close_delay)),
            patience_ms: millis(settings.mesh.ask_timeout),
            pong_timeout_ms: client.pong_timeout.ms(),
            denied: Denied::default(),
            licences: USERS.into_iter().map(|user| (user, Licence::default())).collect(),
            inquiries: Vec::new(),
            calls: BTreeMap::new(),
            calls_next: 0,
            published: 0,
            calm: false,
            skew: Skew::of(now),
            coverage: Coverage::new(),
        }
    }

    pub(super) fn count(&mut self, name: &str) {
        *self.coverage.entry(name.into()).or_default() += 1;
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.rng.below(one_in) == 0
    }

    fn core(&mut self) -> usize {
        self.rng.below(self.hosts.len() as u64) as usize
    }

    /// Of a publication; the one behind it is free, too.
    pub(super) fn number(&mut self) -> u64 {
        self.published += 2;
        self.published
    }

    pub fn step(&mut self) {
        let passed = self.rng.below(200);
        self.pass(passed);
        if self.chance(200) {
            self.jump();
        }
        if self.chance(120) {
            self.count("act: core stands still");
            let (core, still_ms) = (self.core(), self.rng.below(6_000));
            self.hosts[core].still_until_ms = self.now.ms + still_ms;
        }
        if self.chance(150) {
            self.mint.signer.rotate(&mut self.rng);
        }
        self.tell_keys();
        self.tend();
        if self.clients.len() < 6 && self.chance(5) {
            self.join();
        }
        if !self.clients.is_empty() {
            let (at, number) = (self.rng.below(self.clients.len() as u64) as usize, self.number());
            if self.chance(100) {
                self.kill(at);
            } else {
                self.clients[at].act(self.now, number, &mut self.rng, &mut self.mint);
            }
        }
        if self.chance(4) {
            self.call();
        }
        for _ in 0..2 {
            let core = self.core();
            if self.hosts[core].still_until_ms <= self.now.ms {
                self.turn(core);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_ms += ms;
    }

    /// The wall clock, which tokens are about, jumps.
    fn jump(&mut self) {
        self.count("act: wall clock jumps");
        self.now.unix_ms = self.now.unix_ms + self.rng.below(8_000) - 4_000;
        let now = self.now;
        self.skew.widen(now);
        self.denied.clock_jumped(now);
        let licences = self.licences.values_mut().chain(self.clients.iter_mut().map(|it| &mut it.licence));
        for (_, _, skew) in licences.flat_map(|licence| &mut licence.subscribed) {
            skew.widen(now);
        }
        for asked in self.clients.iter_mut().flat_map(|client| client.asked.values_mut()) {
            asked.skew.widen(now);
        }
    }

    /// A question for keys is answered to all cores, or it cannot be, or never is.
    fn tell_keys(&mut self) {
        if self.fetches.is_empty() || !(self.calm || self.chance(6)) {
            return;
        }
        let endpoint = self.fetches.remove(0);
        assert_eq!(*endpoint, *ENDPOINT);
        let signer = &self.mint.signer;
        let told = match self.rng.below(6) {
            _ if self.calm => Some((Some(signer.keys()), signer.count())),
            0 => None,
            1 | 2 => Some((None, 0)),
            _ => Some((Some(signer.keys()), signer.count())),
        };
        let Some((keys, count)) = told else { return };
        self.hosts.iter_mut().for_each(|host| host.keys.push_back((keys.clone(), count)));
        self.count(if count > 0 { "keys: told" } else { "keys: not to be had" });
    }

    fn tend(&mut self) {
        for at in 0..self.clients.len() {
            let number = self.number();
            let client = &mut self.clients[at];
            client.tend(self.now, self.delay_ms, &mut self.rng, &mut self.mint);
            if client.habit == Habit::Talks && !client.id.is_empty() && client.asked.len() < 9 {
                client.flood(self.now, number);
                self.count("act: flood");
            }
        }
    }

    fn join(&mut self) {
        let (core, user) = (self.core(), USERS[self.rng.below(USERS.len() as u64) as usize]);
        let habits =
            [Habit::InTime, Habit::InTime, Habit::InTheDelay, Habit::Never, Habit::Badly, Habit::Talks];
        let habit = habits[self.rng.below(habits.len() as u64) as usize];
        let caps = match habit {
            Habit::Talks => Caps { subscribe: true, publish: true },
            _ => Caps { subscribe: self.chance(2), publish: self.chance(2) },
        };
        let subs = [vec![], vec!["srv:a"], vec!["srv:a", "srv:b"]][self.rng.below(3) as usize].clone();
        let fate = if self.chance(30) { Fate::Forged } else { Fate::Good };
        let wanted = Wanted { user, channel: "", caps, subs, fate };
        let mut token = self.mint.token(&mut self.rng, self.now, wanted);
        // Comes back with what another one had.
        if self.chance(4)
            && let Some(other) = self.clients.iter().find(|it| it.user == user && it.habit != Habit::Talks)
            && habit != Habit::Talks
        {
            token = other.token.clone();
        }
        let conn = Key { index: self.conns, generation: 0 };
        self.conns += 1;
        self.clients.push(Client::new(core, conn, habit, token, self.now));
    }

    fn kill(&mut self, at: usize) {
        let client = self.clients.swap_remove(at);
        if !client.opening {
            let core = &mut self.hosts[client.core].core;
            core.end_session(client.conn);
            core.released(client.conn);
        }
    }

    fn turn(&mut self, at: usize) {
        let (now, host) = (self.now, &mut self.hosts[at]);
        if now.ms > host.turned_ms + self.pong_timeout_ms {
            host.graced_ms = now.ms + self.pong_timeout_ms + LATE_MS;
        }
        host.turned_ms = now.ms;
        let known = host.known;
        host.core.begin_turn(now);
        for client in self.clients.iter_mut().filter(|client| client.core == at) {
            client.busy = !client.asked.is_empty();
        }
        self.deliver_input(at);
        let inquiries = std::mem::take(&mut self.inquiries).into_iter();
        let (mine, others): (Vec<_>, Vec<_>) = inquiries.partition(|(to, ..)| *to == at);
        self.inquiries = others;
        for (_, number, request) in mine {
            self.hosts[at].core.api(number, request);
        }
        let (host, endpoint) = (&mut self.hosts[at], ENDPOINT.into());
        while let Some((keys, count)) = host.keys.pop_front() {
            host.core.on_keys(&endpoint, keys.as_ref());
            host.known = host.known.max(count);
        }
        for from in 0..self.hosts.len() {
            let waiting = self.queues[from][at].len() as u64;
            let some = if self.calm { waiting } else { self.rng.below(waiting + 1) } as usize;
            for message in self.queues[from][at].drain(..some) {
                self.hosts[at].core.on_mesh(from as u16, message);
            }
        }
        self.hosts[at].core.end_turn();
        self.effects(at);
        self.flush(at);
        self.effects(at);
        self.read(at, known);
        for to in 0..self.hosts.len() {
            let core = &mut self.hosts[at].core;
            let sent = std::mem::take(core.outgoing(to as u16));
            if !sent.is_empty() {
                core.outgoing_taken(to as u16);
                self.queues[at][to].extend(sent);
            }
        }
    }

    fn deliver_input(&mut self, at: usize) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if client.core != at {
                continue;
            }
            let conn = client.conn;
            if std::mem::take(&mut client.opening) {
                let core = &mut self.hosts[at].core;
                core.open(conn);
                core.start_session(conn, SessionStart::new(Protocol::Json, Framing::Lines(Body::ToEnd)));
            }
            loop {
                let client = &mut self.clients[index];
                if client.paused || client.closed.is_some() {
                    break;
                }
                let Some(message) = client.outbox.pop_front() else { break };
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
                    self.client_of(at, conn).into_iter().for_each(|client| client.paused = paused);
                }
                Effect::Close { conn, disconnect } => {
                    let client = self.client_of(at, conn).expect("one that is there is closed");
                    assert_eq!(client.closed.replace(disconnect.code), None, "closed twice");
                }
                Effect::ApiReply { call, reply } => self.on_api_reply(call, reply),
                Effect::FetchKeys { endpoint } => {
                    self.count("keys: asked for");
                    self.fetches.push(endpoint);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn client_of(&mut self, at: usize, conn: Key) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.core == at && client.conn == conn)
    }

    fn flush(&mut self, at: usize) {
        self.hosts[at].core.begin_flush();
        for index in 0..self.hosts[at].core.dirty_len() {
            let mut pieces = Vec::new();
            let conn = self.hosts[at].core.pieces(index, &mut pieces);
            let bytes = pieces.concat();
            self.client_of(at, conn).expect("nobody is told after the end").inbox.extend(bytes);
        }
        self.hosts[at].core.settle(&[] as &[ShortWrite]);
    }

    /// Clients of this core hear what it said; those that were closed, or refused, are gone.
    fn read(&mut self, at: usize, known: usize) {
        let Self { clients, hosts, now, delay_ms, patience_ms, skew, denied, licences, coverage, .. } = self;
        for client in clients.iter_mut().filter(|client| client.core == at) {
            let licence = &licences[client.user];
            let (now, delay_ms, patience_ms, skew) = (*now, *delay_ms, *patience_ms, *skew);
            let (denied, coverage) = (&*denied, &mut *coverage);
            let mut around = Around { now, delay_ms, patience_ms, known, skew, denied, licence, coverage };
            client.read(&mut around);
            if client.busy {
                client.excused_ms = now.ms + LATE_MS;
            }
            if client.closed.is_none() && !client.id.is_empty() {
                client.check_rights(hosts[at].graced_ms, &around);
            }
        }
        for index in (0..self.clients.len()).rev() {
            let client = &self.clients[index];
            if client.core == at && (client.closed.is_some() || client.leaves) {
                self.kill(index);
            }
        }
    }

    pub fn invariants(&self) {
        self.hosts.iter().for_each(|host| host.core.invariants());
    }

    /// Everything arrives that is on its way.
    fn settle(&mut self) {
        for _ in 0..12 {
            self.tell_keys();
            (0..self.hosts.len()).for_each(|at| self.turn(at));
        }
    }

    /// No faults any more: all is answered, what is published reaches whom it should, then everybody goes.
    pub fn finish(&mut self) {
        self.calm = true;
        for _ in 0..80 {
            self.pass(100);
            self.tell_keys();
            self.tend();
            (0..self.hosts.len()).for_each(|at| self.turn(at));
        }
        self.settle();
        assert!(self.calls.is_empty(), "never answered: {:?}", self.calls);
        for client in &self.clients {
            assert!(client.asked.is_empty(), "never answered: {client:?}");
        }
        for channel in CHANNELS {
            self.publish(channel);
            let number = self.published;
            self.settle();
            self.api(ApiRequest::Presence { channel: channel.into() }, Call::Present(channel));
            self.settle();
            for client in &self.clients {
                let heard = client.subs.get(channel).is_none_or(|sub| sub.heard.contains(&number));
                assert!(heard, "{channel} without {number}: {client:?}");
            }
        }
        self.invariants();
        (0..self.clients.len()).rev().for_each(|at| self.kill(at));
        self.settle();
        for _ in 0..3 {
            self.pass(60_000);
            self.settle();
        }
        for host in &self.hosts {
            assert_eq!(host.core.residue(), Default::default());
        }
    }
}
