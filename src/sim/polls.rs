//! Shared polls over several cores: a small world of its own beside the big one, whose data is a backend's.
//!
//! Clients do as centrifuge-js does: they remember versions across subscriptions, forget them with another epoch, and
//! subscribe again when they are told to. Cores talk late, queues overflow, calls fail or bring what was true when
//! they were asked, the backend changes, removes keys and starts its versions over. In the end every client has what
//! the backend says of the keys it tracks, and when all are gone nothing is left or asked for.

use crate::{
    broker::{
        core::{Core, Seat, SessionStart, ShortWrite},
        mesh::Mesh,
        outbox::{Body, Framing},
        seam::{
            ApiRequest, BackendAnswer, BackendRequest, BackendResult, Effect, PollItem, PollRefreshed,
            PollSet,
        },
    },
    config::{ChannelOptions, Namespace, OrOff, Poll, PollMode, Settings, SubscriptionType},
    model::{ConnKey, Now, Protocol},
    stdx::{rng::Rng, slab::Key},
    wire::client::{ServerMessage, ServerPush, ServerReply, decode_replies},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

const CHANNELS: [&str; 3] = ["bytes:a", "versions:a", "versions:b"];
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Default)]
struct Channel {
    /// Data and version by key.
    truth: BTreeMap<&'static str, (u64, u64)>,
    /// Of keys that are gone, too: they never fall within an epoch.
    versions: BTreeMap<&'static str, u64>,
    epoch: u64,
}

struct Call {
    core: usize,
    id: Key,
    channel: String,
    /// What the backend says of the keys, if it has looked them up already.
    answer: Option<PollRefreshed>,
    keys: Vec<Arc<str>>,
}

/// What a client is doing about its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsubscribed,
    Subscribing(u32),
    Subscribed,
    Unsubscribing(u32),
}

struct Client {
    core: usize,
    conn: ConnKey,
    channel: &'static str,
    state: State,
    epoch: String,
    /// Versions by key that is tracked; 0: none.
    tracked: BTreeMap<&'static str, u64>,
    data: BTreeMap<&'static str, u64>,
    next_id: u32,
    /// Keys of tracks that are not answered.
    asked: BTreeMap<u32, Vec<&'static str>>,
    inbox: Vec<u8>,
    outbox: VecDeque<String>,
}

struct World {
    rng: Rng,
    now: Now,
    cores: Vec<Core>,
    /// From, to.
    queues: Vec<Vec<VecDeque<Mesh>>>,
    channels: BTreeMap<&'static str, Channel>,
    counter: u64,
    calls: Vec<Call>,
    clients: Vec<Client>,
    conns: u32,
    told: u64,
    began_anew: u64,
}

fn settings(queue_max_size: usize) -> Settings {
    let mut settings = Settings::default();
    settings.client.insecure = true;
    settings.client.ping_interval = OrOff::on(Duration::from_secs(3600));
    settings.mesh.queue_max_size = queue_max_size;
    let named = |name: &str, mode| Namespace {
        name: name.into(),
        options: ChannelOptions {
            subscription_type: SubscriptionType::SharedPoll,
            shared_poll: Poll {
                mode,
                refresh_interval: Duration::from_millis(100),
                refresh_batch_size: 2,
                refresh_concurrency: 2,
                ..Poll::default()
            },
            ..ChannelOptions::default()
        },
        ..Namespace::default()
    };
    settings.channel.namespaces =
        vec![named("bytes", PollMode::Versionless), named("versions", PollMode::Versioned)];
    settings
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let count = 1 + rng.below(3) as usize;
        let settings = Arc::new(settings(if rng.below(3) == 0 { 150 } else { 1 << 20 }));
        let now = Now { ms: 1_000, unix_ms: 1_700_000_000_000 };
        let core = |id: usize| {
            let seat = Seat {
                id: id as u16,
                cores: count,
                seed: seed ^ id as u64,
                hash_key: seed,
                node: "n".into(),
            };
            Core::new(seat, Arc::clone(&settings), now)
        };
        let queues = (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect();
        Self {
            rng,
            now,
            cores: (0..count).map(core).collect(),
            queues,
            channels: CHANNELS.into_iter().map(|name| (name, Channel::default())).collect(),
            counter: 0,
            calls: Vec::new(),
            clients: Vec::new(),
            conns: 0,
            told: 0,
            began_anew: 0,
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.rng.below(one_in) == 0
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len() as u64) as usize]
    }

    /// A turn of one core, with what happens in it.
    fn turn(&mut self, at: usize, happens: impl FnOnce(&mut Core)) {
        let core = &mut self.cores[at];
        core.begin_turn(self.now);
        happens(core);
        core.end_turn();
        for effect in core.take_effects() {
            match effect {
                Effect::CallBackend(call) => {
                    let BackendRequest::PollRefresh(refresh) = call.request;
                    let keys = refresh.items.into_iter().map(|(key, _)| key).collect();
                    let channel = refresh.channel.to_string();
                    self.calls.push(Call { core: at, id: call.id, channel, answer: None, keys });
                }
                Effect::Close { disconnect, .. } => panic!("a client is sent away: {disconnect:?}"),
                Effect::ApiReply { reply, .. } => assert!(reply.is_ok(), "{reply:?}"),
                Effect::Pause(_)
                | Effect::Resume(_)
                | Effect::Connected(_)
                | Effect::FetchKeys { .. }
                | Effect::SockJs { .. } => {}
            }
        }
        core.begin_flush();
        for index in 0..core.dirty_len() {
            let mut pieces = Vec::new();
            let conn = core.pieces(index, &mut pieces);
            let client = self.clients.iter_mut().find(|it| it.core == at && it.conn == conn);
            client.into_iter().for_each(|client| client.inbox.extend(pieces.concat()));
        }
        core.settle(&[] as &[ShortWrite]);
        for to in 0..self.cores.len() {
            let sent = std::mem::take(self.cores[at].outgoing(to as u16));
            if !sent.is_empty() {
                self.queues[at][to].extend(sent);
                self.cores[at].outgoing_taken(to as u16);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let count = self.queues[from][to].len();
        let some = if count == 0 { return } else { 1 + self.rng.below(count as u64) as usize };
        let messages: Vec<_> = self.queues[from][to].drain(..some).collect();
        self.turn(to, |core| messages.into_iter().for_each(|message| core.on_mesh(from as u16, message)));
    }

    fn join(&mut self) {
        let core = self.rng.below(self.cores.len() as u64) as usize;
        let conn = Key { index: self.conns, generation: 0 };
        self.conns += 1;
        let channel = self.choose(&CHANNELS);
        self.clients.push(Client {
            core,
            conn,
            channel,
            state: State::Unsubscribed,
            epoch: String::new(),
            tracked: BTreeMap::new(),
            data: BTreeMap::new(),
            next_id: 2,
            asked: BTreeMap::new(),
            inbox: Vec::new(),
            outbox: VecDeque::from([r#"{"id":1,"connect":{}}"#.to_owned()]),
        });
        self.turn(core, |core| {
            core.open(conn);
            core.start_session(conn, SessionStart::new(Protocol::Json, Framing::Lines(Body::ToEnd)));
        });
    }

    fn act(&mut self) {
        if self.clients.len() < 6 && (self.clients.is_empty() || self.chance(4)) {
            return self.join();
        }
        let at = self.rng.below(self.clients.len() as u64) as usize;
        let key = self.choose(&KEYS);
        match self.rng.below(12) {
            0 => {
                let client = self.clients.swap_remove(at);
                self.turn(client.core, |core| core.end_session(client.conn));
            }
            1 if self.clients[at].state == State::Subscribed => {
                let client = &mut self.clients[at];
                let id = client
                    .say(|id, channel| format!(r#"{{"id":{id},"unsubscribe":{{"channel":"{channel}"}}}}"#));
                client.state = State::Unsubscribing(id);
            }
            2..=6 => {
                if self.clients[at].tracked.insert(key, 0).is_none() {
                    self.clients[at].track(&[key]);
                }
            }
            7..=8 => self.clients[at].untrack(key),
            _ => self.clients[at].subscribe(),
        }
    }

    fn hear(&mut self, at: usize) {
        let inbox = std::mem::take(&mut self.clients[at].inbox);
        let lines = inbox.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        for line in lines.collect::<Vec<_>>() {
            for message in decode_replies(Protocol::Json, line) {
                self.clients[at].take(message.unwrap(), &mut self.told, &mut self.began_anew);
            }
        }
    }

    fn speak(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some(text) = client.outbox.pop_front() {
            let (core, conn) = (client.core, client.conn);
            self.turn(core, |core| core.on_message(conn, text.as_bytes()));
        }
    }

    fn change(&mut self) {
        let name = self.choose(&CHANNELS);
        let (key, how) = (self.choose(&KEYS), self.rng.below(20));
        self.counter += 1;
        let data = self.counter;
        let channel = self.channels.get_mut(name).unwrap();
        match how {
            0 => _ = channel.truth.remove(key),
            1 if name != CHANNELS[0] => {
                channel.epoch += 1;
                channel.truth.values_mut().for_each(|(_, version)| *version = 1);
                channel.versions = channel.truth.keys().map(|key| (*key, 1)).collect();
            }
            _ => {
                let version = channel.versions.entry(key).or_default();
                *version += 1;
                channel.truth.insert(key, (data, *version));
            }
        }
        // Its own process has just changed it, and says so.
        if how > 14 && name != CHANNELS[0] {
            let Some(&(data, version)) = channel.truth.get(key) else { return };
            let item = said(key, data, version);
            let set = Box::new(PollSet { item, epoch: channel.epoch_text() });
            let request = ApiRequest::PollPublish { channel: name.into(), set };
            let core = self.rng.below(self.cores.len() as u64) as usize;
            self.turn(core, |core| core.api(1, request));
        }
    }

    /// The backend looks a call up, or its answer arrives, or it fails.
    fn answer(&mut self, fails: bool) {
        if self.calls.is_empty() {
            return;
        }
        let at = self.rng.below(self.calls.len() as u64) as usize;
        let (look_up, channel) = (self.chance(2), &self.channels[&*self.calls[at].channel]);
        let answer = channel.answer(&self.calls[at].keys);
        if fails && look_up {
            self.calls[at].answer.get_or_insert(answer);
            return;
        }
        let mut answers = vec![self.finished(at, fails)];
        let core = answers[0].0;
        // Too many at once for the queue between two cores; each of them would fit.
        while fails && let Some(at) = self.calls.iter().position(|it| it.core == core) {
            answers.push(self.finished(at, fails));
        }
        self.turn(core, |core| answers.into_iter().for_each(|(_, id, result)| core.on_backend(id, result)));
    }

    /// The core of a call, its number and how it went.
    fn finished(&mut self, at: usize, fails: bool) -> (usize, Key, BackendResult) {
        let call = self.calls.swap_remove(at);
        let answer = self.channels[&*call.channel].answer(&call.keys);
        let answer = call.answer.unwrap_or(answer);
        let failed = fails && self.chance(6);
        let answer = (!failed).then_some(BackendAnswer::PollRefresh(answer));
        (call.core, call.id, BackendResult { answer, micros: 1 })
    }

    fn step(&mut self) {
        match self.rng.below(10) {
            0..=1 => self.act(),
            2 => self.change(),
            3 => self.answer(true),
            4 => {
                let ms = self.choose(&[1, 10, 60, 100]);
                self.pass(ms);
            }
            5..=6 => {
                let (from, to) = (self.rng.below(3) as usize, self.rng.below(3) as usize);
                if from.max(to) < self.cores.len() {
                    self.deliver(from, to);
                }
            }
            _ => {
                if !self.clients.is_empty() {
                    let at = self.rng.below(self.clients.len() as u64) as usize;
                    self.hear(at);
                    self.speak(at);
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_ms += ms;
        for at in 0..self.cores.len() {
            self.turn(at, |_| {});
        }
    }

    /// Everything arrives that is on its way.
    fn settle(&mut self) {
        for _ in 0..200 {
            for from in 0..self.cores.len() {
                for to in 0..self.cores.len() {
                    self.deliver(from, to);
                }
            }
            for at in 0..self.clients.len() {
                self.hear(at);
                self.speak(at);
            }
            self.answer(false);
        }
    }

    fn finish(&mut self) {
        // Longer than the longest pause after failures, and some rounds.
        for _ in 0..16 {
            self.clients.iter_mut().for_each(Client::subscribe);
            self.settle();
            self.pass(5_000);
        }
        for _ in 0..6 {
            self.settle();
            self.pass(100);
        }
        self.settle();
        for client in &self.clients {
            assert_eq!(client.state, State::Subscribed);
            let truth = &self.channels[client.channel].truth;
            for key in client.tracked.keys() {
                let want = truth.get(key).map(|(data, _)| *data);
                assert_eq!(
                    client.data.get(key).copied(),
                    want,
                    "{} {key} on core {}",
                    client.channel,
                    client.core
                );
            }
        }
        self.cores.iter().for_each(Core::invariants);
        for client in std::mem::take(&mut self.clients) {
            self.turn(client.core, |core| core.end_session(client.conn));
        }
        self.settle();
        self.pass(60_000);
        self.settle();
        self.pass(60_000);
        assert!(self.calls.is_empty(), "the backend is asked for nobody");
        for core in &self.cores {
            core.invariants();
            assert_eq!(core.residue(), Default::default());
        }
    }
}

fn said(key: &str, data: u64, version: u64) -> PollItem {
    let data = Some(data.to_string().into_bytes().into());
    PollItem { key: key.into(), data, json: true, version, removed: false }
}

impl Channel {
    fn epoch_text(&self) -> Box<str> {
        format!("e{}", self.epoch).into()
    }

    /// What the backend says now. A key it does not have it says is gone, or the client would wait for it.
    fn answer(&self, keys: &[Arc<str>]) -> PollRefreshed {
        let one = |key: &Arc<str>| match self.truth.get(&**key) {
            Some(&(data, version)) => said(key, data, version),
            None => PollItem { data: None, removed: true, ..said(key, 0, 0) },
        };
        PollRefreshed { items: keys.iter().map(one).collect(), epoch: self.epoch_text() }
    }
}

impl Client {
    fn say(&mut self, text: impl FnOnce(u32, &str) -> String) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.outbox.push_back(text(id, self.channel));
        id
    }

    fn subscribe(&mut self) {
        if self.state == State::Unsubscribed {
            let id = self.say(|id, channel| {
                format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}","type":4}}}}"#)
            });
            self.state = State::Subscribing(id);
        }
    }

    fn track(&mut self, keys: &[&'static str]) {
        if self.state != State::Subscribed || keys.is_empty() {
            return;
        }
        let item = |key: &&'static str| format!(r#"{{"key":"{key}","version":{}}}"#, self.tracked[key]);
        let items = keys.iter().map(item).collect::<Vec<_>>().join(",");
        let id = self.say(|id, channel| {
            format!(r#"{{"id":{id},"sub_refresh":{{"channel":"{channel}","type":1,"track":[{{"items":[{items}]}}]}}}}"#)
        });
        self.asked.insert(id, keys.to_vec());
    }

    fn untrack(&mut self, key: &'static str) {
        if self.tracked.remove(key).is_some() {
            self.data.remove(key);
            if self.state == State::Subscribed {
                self.say(|id, channel| {
                    format!(r#"{{"id":{id},"sub_refresh":{{"channel":"{channel}","type":2,"untrack":["{key}"]}}}}"#)
                });
            }
        }
    }

    fn take(&mut self, message: ServerMessage<'_>, told: &mut u64, began_anew: &mut u64) {
        match message {
            ServerMessage::Reply { id, reply: ServerReply::Subscribe(it) } => {
                assert_eq!((self.state, it.kind), (State::Subscribing(id), 4));
                if self.epoch != it.epoch {
                    self.tracked.values_mut().for_each(|version| *version = 0);
                    self.epoch = it.epoch.into_owned();
                }
                self.state = State::Subscribed;
                let keys: Vec<_> = self.tracked.keys().copied().collect();
                self.track(&keys);
            }
            ServerMessage::Reply { id, reply: ServerReply::SubRefresh { items, .. } } => {
                let mine = self.asked.remove(&id);
                if self.state == State::Subscribed {
                    items.iter().for_each(|it| self.told(&it.key, it.removed, it.version, it.data));
                    // Gone while it was asked for: the owner took it up again.
                    for key in mine.unwrap_or_default() {
                        if !self.tracked.contains_key(key) {
                            self.say(|id, channel| {
                                format!(r#"{{"id":{id},"sub_refresh":{{"channel":"{channel}","type":2,"untrack":["{key}"]}}}}"#)
                            });
                        }
                    }
                }
            }
            ServerMessage::Reply { id, reply: ServerReply::Unsubscribe } => {
                if self.state == State::Unsubscribing(id) {
                    self.state = State::Unsubscribed;
                }
            }
            ServerMessage::Reply { id, reply: ServerReply::Error { code, .. } } => {
                // A subscription that ended meanwhile: what was said of it means nothing.
                let keys = self.asked.remove(&id);
                assert!(code == 103 || code == 100, "{code}");
                if self.state == State::Subscribing(id) {
                    self.state = State::Unsubscribed;
                } else if code == 100 {
                    let again: BTreeSet<_> = keys.into_iter().flatten().collect();
                    let again: Vec<_> =
                        again.into_iter().filter(|key| self.tracked.contains_key(key)).collect();
                    self.track(&again);
                }
            }
            ServerMessage::Push { push: ServerPush::Publication(it), .. } => {
                *told += 1;
                if self.state == State::Subscribed {
                    self.told(&it.key, it.removed, it.version, it.data);
                }
            }
            ServerMessage::Push { push: ServerPush::Unsubscribe { code, .. }, .. } => {
                assert_eq!(code, 2500);
                *began_anew += 1;
                if self.state == State::Subscribed {
                    self.state = State::Unsubscribed;
                    self.subscribe();
                }
            }
            ServerMessage::Reply { reply: ServerReply::Connect(_), .. } | ServerMessage::Ping => {}
            other => panic!("{other:?}"),
        }
    }

    fn told(&mut self, key: &str, removed: bool, version: u64, data: &[u8]) {
        let Some((&key, known)) = self.tracked.get_key_value(key) else { return };
        if removed {
            self.tracked.remove(key);
            self.data.remove(key);
        } else if version > *known {
            self.tracked.insert(key, version);
            self.data.insert(key, std::str::from_utf8(data).unwrap().parse().unwrap());
        }
    }
}

#[test]
fn everybody_gets_what_the_backend_says() {
    let (mut told, mut began_anew) = (0, 0);
    for seed in 0..super::number("SIM_SEEDS", 60) {
        println!("polls: seed {seed}");
        let mut world = World::new(seed);
        for step in 0..1_500 {
            world.step();
            if step % 64 == 0 {
                world.cores.iter().for_each(Core::invariants);
            }
        }
        world.finish();
        told += world.told;
        began_anew += world.began_anew;
    }
    assert!(told > 100 && began_anew > 10, "{told} {began_anew}: it tests less than it says");
}
