//! An echo driver that does what it is told and tells what it saw.

use crate::{
    metrics::{Counter, Counters},
    runtime::{
        Backend, BackendChoice, Clock, Close, CoreSeat, Cores, Driver, End, MeshOut, Net, Next, Options,
        Running, Short, WriteSource, choose_cpus, start,
    },
    stdx::slab::{Key, SideTable},
};
use std::{
    net::SocketAddr,
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

/// Far longer than anything takes; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const BACKENDS: [Backend; 2] = [Backend::Ring, Backend::Poll];

#[derive(Debug)]
pub enum Command {
    Stop,
    Drain,
    /// Stop echoing, only count.
    Swallow,
    /// Close connections whose peer has ended.
    Tidy,
    PauseAll,
    ResumeAll,
    CloseAll(Close),
    /// Send these bytes to every connection, in pieces of this length.
    Send(Vec<u8>, usize),
    /// Send the numbers 0.. to a core, this many to a batch, one batch after the other.
    Count {
        to: usize,
        total: u64,
        batch: u64,
    },
    /// Ask for a turn so many milliseconds from now.
    Alarm(u64),
    Report,
    Panic,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Accepted { core: usize, key: Key, listener: usize, peer: SocketAddr },
    Ended { key: Key, end: End },
    Released { key: Key },
    Done,
    Alarm { late_ms: u64 },
    Counted { from: usize, total: u64 },
    Report { core: usize, received: u64, counters: Box<Counters>, connections: usize },
}

#[derive(Default)]
struct Conn {
    output: Vec<u8>,
    /// Bytes of `output` already taken by the socket.
    sent: usize,
    piece: usize,
    blocked: bool,
    broken: bool,
}

pub struct Echo {
    core: usize,
    seen: Sender<Seen>,
    conns: SideTable<Conn>,
    keys: Vec<Key>,
    commands: Vec<Command>,
    /// Where the counting goes on: to, next, total, batch size.
    counting: Option<(usize, u64, u64, u64)>,
    batch: Vec<u64>,
    expected: u64,
    received: u64,
    swallow: bool,
    tidy: bool,
    ended: Vec<Key>,
    alarm: Option<u64>,
    clock: Clock,
}

/// What the connections of one turn have to say.
struct Writes<'a> {
    conns: &'a SideTable<Conn>,
    keys: Vec<Key>,
}

impl WriteSource for Writes<'_> {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key {
        let key = self.keys[index];
        let conn = self.conns.get(key).expect("listed");
        let rest = &conn.output[conn.sent..];
        if conn.piece == 0 {
            pieces.push(rest)
        } else {
            pieces.extend(rest.chunks(conn.piece))
        }
        key
    }
}

impl Echo {
    pub fn new(seat: &CoreSeat, seen: Sender<Seen>) -> Self {
        Self {
            core: seat.core,
            seen,
            conns: SideTable::default(),
            keys: Vec::new(),
            commands: Vec::new(),
            counting: None,
            batch: Vec::new(),
            expected: 0,
            received: 0,
            swallow: false,
            tidy: false,
            ended: Vec::new(),
            alarm: None,
            clock: Clock::default(),
        }
    }

    fn say(&self, seen: Seen) {
        // The test may be over.
        let _ = self.seen.send(seen);
    }

    fn flush(&mut self, net: &mut dyn Net) {
        let due = |conn: &Conn| conn.sent < conn.output.len() && !conn.blocked && !conn.broken;
        let keys: Vec<Key> =
            self.keys.iter().copied().filter(|key| self.conns.get(*key).is_some_and(due)).collect();
        let writes = Writes { conns: &self.conns, keys };
        let mut shorts: Vec<Short> = Vec::new();
        net.flush(&writes, &mut shorts);
        let keys = writes.keys;
        let mut shorts = shorts.into_iter().peekable();
        for (index, key) in keys.into_iter().enumerate() {
            let conn = self.conns.get_mut(key).expect("listed");
            match shorts.next_if(|short| short.index == index) {
                None => {
                    conn.output.clear();
                    conn.sent = 0;
                }
                Some(Short { sent, error: None, .. }) => {
                    conn.sent += sent;
                    conn.blocked = true;
                }
                Some(Short { error: Some(_), .. }) => {
                    conn.broken = true;
                    net.close(key, Close::Reset);
                }
            }
        }
        assert_eq!(shorts.next(), None, "shorts come in order and name writes of the source");
    }

    fn count_on(&mut self, mesh: &mut dyn MeshOut<u64>) {
        let Some((to, mut next, total, size)) = self.counting else { return };
        loop {
            if self.batch.is_empty() {
                let end = (next + size).min(total);
                self.batch.extend(next..end);
                next = end;
            }
            if self.batch.is_empty() {
                self.counting = None;
                return;
            }
            if !mesh.send(to, &mut self.batch) {
                self.counting = Some((to, next, total, size));
                return;
            }
            assert!(self.batch.is_empty());
        }
    }

    fn obey(&mut self, command: Command, net: &mut dyn Net) -> Option<Next> {
        match command {
            Command::Stop => return Some(Next::Stop),
            Command::Drain => net.stop_accepting(),
            Command::Swallow => self.swallow = true,
            Command::Tidy => self.tidy = true,
            Command::PauseAll => self.keys.iter().for_each(|key| net.pause(*key)),
            Command::ResumeAll => self.keys.iter().for_each(|key| net.resume(*key)),
            Command::CloseAll(how) => self.keys.iter().for_each(|key| net.close(*key, how)),
            Command::Send(bytes, piece) => {
                for key in &self.keys {
                    let conn = self.conns.get_mut(*key).expect("listed");
                    conn.output.extend_from_slice(&bytes);
                    conn.piece = piece;
                }
                self.flush(net);
            }
            Command::Count { to, total, batch } => self.counting = Some((to, 0, total, batch)),
            Command::Alarm(after_ms) => self.alarm = Some(self.clock.ms + after_ms),
            Command::Report => {
                self.say(Seen::Report {
                    core: self.core,
                    received: self.received,
                    counters: Box::new(net.counters().clone()),
                    connections: net.connections(),
                });
                return None;
            }
            Command::Panic => panic!("as told"),
        }
        self.say(Seen::Done);
        None
    }
}

impl Driver for Echo {
    type Message = u64;
    type Foreign = Command;

    fn begin_turn(&mut self, clock: Clock) {
        assert!(clock.ms >= self.clock.ms);
        self.clock = clock;
        if let Some(at) = self.alarm.take_if(|at| *at <= clock.ms) {
            self.say(Seen::Alarm { late_ms: clock.ms - at });
        }
    }

    fn on_accept(&mut self, key: Key, listener: usize, peer: SocketAddr) {
        assert!(!self.keys.iter().any(|known| known.index == key.index), "the slot is still taken");
        self.keys.push(key);
        self.conns.insert(key, Conn::default());
        self.say(Seen::Accepted { core: self.core, key, listener, peer });
    }

    fn on_adopt(&mut self, key: Key, peer: SocketAddr, first: &[u8]) {
        self.on_accept(key, usize::MAX, peer);
        self.on_data(key, &mut first.to_vec());
    }

    fn on_data(&mut self, key: Key, bytes: &mut [u8]) {
        self.received += bytes.len() as u64;
        let conn = self.conns.get_mut(key).expect("data for a live connection");
        if !self.swallow {
            conn.output.extend_from_slice(bytes);
        }
        // The buffer is the driver's to change.
        bytes.fill(0xAA);
    }

    fn on_end(&mut self, key: Key, end: End) {
        self.ended.push(key);
        self.say(Seen::Ended { key, end });
    }

    fn on_writable(&mut self, key: Key) {
        let conn = self.conns.get_mut(key).expect("a live connection");
        assert!(std::mem::replace(&mut conn.blocked, false), "was not blocked");
    }

    fn on_released(&mut self, key: Key) {
        self.conns.remove(key).expect("released once");
        self.keys.retain(|known| *known != key);
        self.say(Seen::Released { key });
    }

    fn on_batch(&mut self, from: usize, batch: &mut Vec<u64>) {
        for number in batch.drain(..) {
            assert_eq!(number, self.expected, "numbers arrive in order");
            self.expected += 1;
        }
        self.say(Seen::Counted { from, total: self.expected });
    }

    fn on_foreign(&mut self, command: Command) {
        self.commands.push(command);
    }

    fn end_turn(&mut self, net: &mut dyn Net, mesh: &mut dyn MeshOut<u64>) -> Next {
        for command in std::mem::take(&mut self.commands) {
            if let Some(next) = self.obey(command, net) {
                return next;
            }
        }
        self.flush(net);
        for key in self.ended.drain(..).filter(|_| self.tidy) {
            net.close(key, Close::Graceful { linger_ms: 1000 });
        }
        self.count_on(mesh);
        Next::Sleep { until_ms: self.alarm }
    }
}

/// Echo cores and what they say.
pub struct Server {
    pub running: Running<Command>,
    pub seen: Receiver<Seen>,
}

pub fn options(cores: usize, backend: Backend) -> Options {
    let choice = match backend {
        Backend::Ring => BackendChoice::Ring,
        Backend::Poll => BackendChoice::Poll,
    };
    Options {
        cpus: choose_cpus(&Cores::Count(cores)).expect("CPUs"),
        backend: choice,
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Options::default()
    }
}

impl Server {
    pub fn start(cores: usize, backend: Backend) -> Self {
        Self::with(options(cores, backend))
    }

    pub fn with(options: Options) -> Self {
        let (say, seen) = mpsc::channel();
        let running = start(options, move |seat| Echo::new(&seat, say.clone())).expect("the cores start");
        Self { running, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    /// Tells one core.
    #[track_caller]
    pub fn tell(&self, core: usize, command: Command) {
        self.running.senders()[core].send(command).expect("the core listens");
    }

    /// The next thing a core says.
    #[track_caller]
    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("a core says something")
    }

    /// Waits for the first thing for which `pick` finds something.
    #[track_caller]
    pub fn until<T>(&self, mut pick: impl FnMut(Seen) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next()) {
                return found;
            }
        }
    }

    /// Tells one core and waits until it has obeyed.
    #[track_caller]
    pub fn order(&self, core: usize, command: Command) {
        self.tell(core, command);
        self.until(|seen| (seen == Seen::Done).then_some(()));
    }

    /// Bytes received, counters and connections of one core.
    #[track_caller]
    pub fn report(&self, core: usize) -> (u64, Counters, usize) {
        self.tell(core, Command::Report);
        self.until(|seen| match seen {
            Seen::Report { received, counters, connections, .. } => Some((received, *counters, connections)),
            _ => None,
        })
    }

    /// Stops all cores in good order. No wake-up may have been lost.
    #[track_caller]
    pub fn stop(self) {
        for core in 0..self.running.cores() {
            let (_, counters, _) = self.report(core);
            assert_eq!(counters.value(Counter::TimerWakes), 0, "core {core} slept over work");
        }
        for core in 0..self.running.cores() {
            self.tell(core, Command::Stop);
        }
        self.running.join().expect("all cores end well");
    }
}

/// Reproducible bytes.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
