//! The sockets of one core: accepts, receives, sends and closes on a ring of its own.
//!
//! Both backends live here behind [`Net`]. They share the table of connections, the turn and every rule
//! about closing; they differ in how bytes come and go: multishot operations and batched sends on the one
//! hand, one-shot polls and plain calls on the other.
//!
//! A connection's slot and descriptor are freed only when every operation on it has completed
//! (`close`). Nothing here waits: what cannot go on is put on a list and served in a later turn.

mod accept;
mod buffers;
mod close;
mod receive;
mod ring;
mod send;

use super::{
    Driver, Net, Short, WriteSource,
    bell::Bell,
    mesh::FreshSocket,
    options::{Backend, Options},
};
use crate::{
    metrics::{Counter, Counters},
    stdx::slab::{Key, Slab},
};
use accept::{Listener, Loads};
use buffers::Buffers;
use io_uring::{Probe, cqueue, opcode, types};
use ring::{Op, Ring, split_user_data, user_data};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use accept::Loads as CoreLoads;

/// Completions handled between two looks at the clock.
const COMPLETIONS_PER_ROUND: usize = 64;

struct Conn {
    stream: TcpStream,
    state: State,
    /// Operations whose last completion has not come.
    pending: u16,
    /// A receive (or the poll that stands for it) is with the kernel, …
    receiving: bool,
    /// … and was asked to end.
    cancelling: bool,
    /// On the list of those to be armed again.
    listed: bool,
    polling_out: bool,
    /// Not paused.
    wants_input: bool,
    /// The driver knows that no more input comes, or need not be told.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// FIN is sent; input is thrown away until the peer closes too.
    Lingering,
    /// Waiting for the last completions.
    Releasing,
}

/// What a turn may take.
#[derive(Clone, Copy, Debug)]
struct Budget {
    completions: usize,
    time: Duration,
}

pub(super) struct Sockets {
    // The ring is closed before the buffers are freed: fields are dropped in this order.
    ring: Ring,
    buffers: Option<Buffers>,
    backend: Backend,
    /// Where the poll backend reads to.
    scratch: Box<[u8]>,
    conns: Slab<Conn>,
    /// Current generation of each slot, to complete the short one in user data.
    generations: Vec<u32>,
    listeners: Vec<Listener>,
    /// Accepted here, to be carried by another core.
    handed_over: Vec<(usize, FreshSocket)>,
    loads: Loads,
    reserve: Option<OwnedFd>,
    /// When to try accepting again, on the clock of turns.
    accept_again_ms: Option<u64>,
    draining: bool,
    to_arm: VecDeque<Key>,
    done: Vec<Key>,
    bell: Arc<Bell>,
    /// A poll of the bell is with the kernel.
    bell_armed: bool,
    lingering: BinaryHeap<Reverse<(u64, Key)>>,
    alarm: Alarm,
    gather: send::Gather,
    batch: Vec<cqueue::Entry>,
    budget: Budget,
    now_ms: u64,
    counters: Counters,
}

/// The one timeout kept in the ring: fires at the earliest time asked for, or too early.
#[derive(Default)]
struct Alarm {
    set_for_ms: Option<u64>,
    sequence: u32,
    /// Read by the kernel when the operation is submitted.
    timespec: Box<types::Timespec>,
}

impl Sockets {
    /// Must be called on the thread that will use it.
    pub fn new(
        options: &Options,
        backend: Backend,
        listeners: Vec<TcpListener>,
        loads: Loads,
        bell: Arc<Bell>,
    ) -> io::Result<Self> {
        let ring = match backend {
            Backend::Ring => Ring::deferred()?,
            Backend::Poll => Ring::plain()?,
        };
        let (buffers, scratch) = match backend {
            Backend::Ring => {
                let buffers = Buffers::register(ring.inner(), options.buffer_count, options.buffer_size)?;
                (Some(buffers), 0)
            }
            Backend::Poll => (None, options.buffer_size),
        };
        Ok(Self {
            ring,
            buffers,
            backend,
            scratch: vec![0; scratch].into(),
            conns: Slab::beginning_at(options.first_key),
            generations: Vec::new(),
            listeners: accept::listeners(listeners, backend)?,
            handed_over: Vec::new(),
            loads,
            reserve: Some(super::sys::reserve_fd()?),
            accept_again_ms: None,
            draining: false,
            to_arm: VecDeque::new(),
            done: Vec::new(),
            bell,
            bell_armed: false,
            lingering: BinaryHeap::new(),
            alarm: Alarm::default(),
            gather: send::Gather::default(),
            batch: Vec::with_capacity(COMPLETIONS_PER_ROUND),
            budget: Budget { completions: options.turn_completions_max, time: options.turn_time_max },
            now_ms: 0,
            counters: Counters::default(),
        })
    }

    /// Takes completions and tells the driver, as far as the budget goes.
    pub fn turn<D: Driver>(&mut self, driver: &mut D, started: Instant, now_ms: u64) {
        self.now_ms = now_ms;
        self.bury(driver);
        self.keep_time(now_ms);
        let mut left = self.budget.completions.max(1);
        loop {
            self.ring.enter_if_needed();
            let mut batch = std::mem::take(&mut self.batch);
            self.ring.take(&mut batch, left.min(COMPLETIONS_PER_ROUND));
            left -= batch.len();
            let barren = batch.is_empty();
            for entry in batch.drain(..) {
                self.complete(driver, &entry);
            }
            self.batch = batch;
            if barren || left == 0 || !self.ring.may_have_more() || self.ring.failure().is_some() {
                break;
            }
            if started.elapsed() >= self.budget.time {
                break;
            }
        }
        self.bury(driver);
        self.arm_listed();
        self.arm_listeners(driver);
    }

    fn complete<D: Driver>(&mut self, driver: &mut D, entry: &cqueue::Entry) {
        let Some((op, generation, slot)) = split_user_data(entry.user_data()) else { return };
        match op {
            Op::Accept => return self.on_accepted(driver, slot, entry),
            Op::Aside => return self.on_aside(generation, slot),
            Op::Receive | Op::Send | Op::Writable | Op::Cancel => {}
        }
        let Some(key) = self.key(generation, slot) else {
            // The connection is gone; what the kernel lent for it is not.
            return self.give_back(entry);
        };
        match op {
            Op::Receive => self.on_received(driver, key, entry),
            Op::Writable => self.on_pollable(driver, key),
            _ => {}
        }
        if matches!(op, Op::Cancel) || !cqueue::more(entry.flags()) {
            self.completed(key);
        }
    }

    /// The connection that user data speaks of, if it still exists.
    fn key(&self, generation: u32, slot: u32) -> Option<Key> {
        let current = *self.generations.get(slot as usize)?;
        let key = Key { index: slot, generation: current };
        (current & ring::GENERATION_MASK == generation && self.conns.contains(key)).then_some(key)
    }

    fn insert(&mut self, stream: TcpStream) -> Key {
        let conn = Conn {
            stream,
            state: State::Open,
            pending: 0,
            receiving: false,
            cancelling: false,
            listed: false,
            polling_out: false,
            wants_input: true,
            ended: false,
        };
        let key = self.conns.insert(conn);
        let slot = key.index as usize;
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        self.generations[slot] = key.generation;
        key
    }

    /// Work is waiting that needs no wake-up from outside.
    pub fn has_work(&mut self) -> bool {
        !self.done.is_empty() || !self.to_arm.is_empty() || self.needs_arming() || self.ring.has_some()
    }

    /// Sockets accepted here that another core is to carry.
    pub fn take_handed_over(&mut self) -> Vec<(usize, FreshSocket)> {
        std::mem::take(&mut self.handed_over)
    }

    /// The next time this needs a turn by itself.
    pub fn deadline_ms(&self) -> Option<u64> {
        let lingering = self.lingering.peek().map(|Reverse((at, _))| *at);
        [lingering, self.accept_again_ms].into_iter().flatten().min()
    }

    /// First step of going to sleep: sets the alarm. False: there is work, do not sleep. What the kernel has not
    /// delivered yet ends the sleep at once.
    pub fn may_sleep(&mut self, until_ms: Option<u64>) -> bool {
        if let Some(until_ms) = until_ms {
            if until_ms <= self.now_ms {
                return false;
            }
            self.set_alarm(until_ms);
        }
        !self.has_work() && self.ring.failure().is_none()
    }

    /// Submits what is queued and blocks the thread until something completes or the bell rings. A bell that rang
    /// before is heard as well. Whether there is work, the mail aside.
    pub fn sleep(&mut self) -> bool {
        self.arm_bell();
        self.ring.enter_and_wait();
        let mut rung = false;
        self.ring.sift(|entry| {
            let heard = entry.user_data() == user_data(Op::Aside, 0, BELL);
            rung |= heard;
            heard
        });
        if rung {
            self.hear_bell();
        }
        self.has_work() || self.ring.failure().is_some()
    }

    fn arm_bell(&mut self) {
        if !std::mem::replace(&mut self.bell_armed, true) {
            let poll = opcode::PollAdd::new(target(self.bell.fd()), libc::POLLIN as u32);
            // SAFETY: points to nothing; the bell is open as long as this ring is.
            unsafe { self.ring.push(&poll.build().user_data(user_data(Op::Aside, 0, BELL))) };
        }
    }

    fn hear_bell(&mut self) {
        self.bell_armed = false;
        self.bell.quiet();
    }

    pub fn failure(&self) -> Option<&io::Error> {
        self.ring.failure().map(|failure| &failure.0)
    }

    /// The kernel may still write to the buffers: they are never freed.
    pub fn keep_buffers(&mut self) {
        std::mem::forget(self.buffers.take());
    }

    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn set_alarm(&mut self, at_ms: u64) {
        if self.alarm.set_for_ms.is_some_and(|set| set <= at_ms) {
            return;
        }
        if self.alarm.set_for_ms.is_some() {
            let old = user_data(Op::Aside, self.alarm.sequence, ALARM);
            let remove = opcode::TimeoutRemove::new(old).build().user_data(user_data(Op::Aside, 0, IGNORED));
            // SAFETY: points to nothing.
            unsafe { self.ring.push(&remove) };
        }
        // The kernel must have read the last value before it is overwritten.
        self.ring.submit();
        let wait_ms = at_ms.saturating_sub(self.now_ms);
        *self.alarm.timespec = types::Timespec::from(Duration::from_millis(wait_ms.min(ALARM_MS_MAX)));
        self.alarm.sequence = (self.alarm.sequence + 1) & ring::GENERATION_MASK;
        self.alarm.set_for_ms = Some(at_ms);
        let timeout = opcode::Timeout::new(&raw const *self.alarm.timespec).build().user_data(user_data(
            Op::Aside,
            self.alarm.sequence,
            ALARM,
        ));
        // SAFETY: the timespec is boxed, lives as long as the ring, and changes only after a submit.
        unsafe { self.ring.push(&timeout) };
    }

    fn on_aside(&mut self, sequence: u32, slot: u32) {
        match slot {
            ALARM if sequence == self.alarm.sequence => self.alarm.set_for_ms = None,
            BELL => self.hear_bell(),
            _ => {}
        }
    }
}

/// "Slots" of [`Op::Aside`].
const ALARM: u32 = 0;
const IGNORED: u32 = 1;
const BELL: u32 = 2;
/// Longest single timeout; a later time is reached in several.
const ALARM_MS_MAX: u64 = 3_600_000;

impl Net for Sockets {
    fn pause(&mut self, conn: Key) {
        self.set_wants_input(conn, false);
    }

    fn resume(&mut self, conn: Key) {
        self.set_wants_input(conn, true);
    }

    fn close(&mut self, conn: Key, how: super::Close) {
        self.begin_close(conn, how);
    }

    fn flush(&mut self, source: &dyn WriteSource, shorts: &mut Vec<Short>) {
        match self.backend {
            Backend::Ring => self.flush_ring(source, shorts),
            Backend::Poll => self.flush_plain(source, shorts),
        }
    }

    fn stop_accepting(&mut self) {
        self.begin_drain();
    }

    fn connections(&self) -> usize {
        self.conns.len()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn reset_turn_max(&mut self) {
        self.counters.set(Counter::TurnMicrosMax, 0);
    }
}

/// Whether the ring backend works here, found out by building one.
///
/// # Errors
/// What is missing.
pub(super) fn probe_ring_backend(options: &Options) -> Result<(), String> {
    let ring = Ring::deferred().map_err(|error| format!("deferred task work ({error})"))?;
    let params = ring.inner().params();
    if !params.is_feature_skip_cqe_on_success() || !params.is_feature_nodrop() {
        return Err("silent completions".into());
    }
    let mut probe = Probe::new();
    ring.inner().submitter().register_probe(&mut probe).map_err(|error| error.to_string())?;
    // SEND_ZC came with multishot receive (6.0), which has no operation code of its own.
    if !probe.is_supported(opcode::SendZc::CODE) {
        return Err("multishot receive".into());
    }
    Buffers::register(ring.inner(), options.buffer_count, options.buffer_size)
        .map_err(|error| format!("provided buffer rings ({error})"))?;
    Ok(())
}

/// The descriptor as the ring wants it.
fn target(socket: &impl AsRawFd) -> types::Fd {
    types::Fd(socket.as_raw_fd())
}
