//! Ends of connections.
//!
//! Closing a descriptor with an armed receive closes nothing: the ring holds the socket and goes on
//! receiving. So a connection ends in steps: FIN and a while of throwing input away (graceful only),
//! then its operations are cancelled, and when the last completion has come the descriptor is closed and
//! the slot freed.

use super::{Conn, Op, Sockets, State, ring::user_data, target};
use crate::{
    metrics::Counter,
    runtime::{Close, Driver, sys},
    stdx::slab::Key,
};
use io_uring::opcode;
use std::{
    cmp::Reverse,
    net::Shutdown,
    time::{Duration, Instant},
};

/// How long the end of a core waits for the kernel to let go of its operations.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(2);

impl Sockets {
    pub(super) fn begin_close(&mut self, key: Key, how: Close) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match (conn.state, how) {
            (State::Releasing, _) | (State::Lingering, Close::Graceful { .. }) => {}
            (_, Close::Reset) => {
                // If it cannot be had, an ordinary close must do.
                let _ = sys::reset_on_close(&conn.stream);
                self.release(key);
            }
            (State::Open, Close::Graceful { linger_ms }) => {
                let said_goodbye = conn.stream.shutdown(Shutdown::Write).is_ok();
                conn.state = State::Lingering;
                if conn.ended || !said_goodbye || linger_ms == 0 {
                    return self.release(key);
                }
                self.lingering.push(Reverse((self.now_ms + u64::from(linger_ms), key)));
                self.list(key);
            }
        }
    }

    /// Cancels what is under way; the rest follows from the completions.
    pub(super) fn release(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state == State::Releasing {
            return;
        }
        conn.state = State::Releasing;
        let polling_out = conn.polling_out;
        self.cancel_receive(key);
        if polling_out {
            self.cancel(key, Op::Writable);
        }
        if self.conns.get(key).is_some_and(|conn| conn.pending == 0) {
            self.done.push(key);
        }
    }

    /// The last completion of one operation of the connection has come.
    pub(super) fn completed(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.pending = conn.pending.saturating_sub(1);
        if conn.state == State::Releasing && conn.pending == 0 {
            self.done.push(key);
        }
    }

    /// Closes descriptors and frees slots of connections that are done, and says so.
    pub(super) fn bury<D: Driver>(&mut self, driver: &mut D) {
        let mut done = std::mem::take(&mut self.done);
        for key in done.drain(..) {
            if self.remove(key).is_some() {
                driver.on_released(key);
            }
        }
        self.done = done;
    }

    fn remove(&mut self, key: Key) -> Option<Conn> {
        let conn = self.conns.remove(key)?;
        self.loads.left();
        self.counters.set(Counter::ConnectionsOpen, self.conns.len() as u64);
        if self.accept_again_ms.is_some() {
            // A descriptor is free again.
            self.accept_again_ms = Some(self.now_ms);
        }
        Some(conn)
    }

    /// Ends what has lingered long enough, and lets a stalled accept try again.
    pub(super) fn keep_time(&mut self, now_ms: u64) {
        while let Some(Reverse((at_ms, key))) = self.lingering.peek().copied()
            && at_ms <= now_ms
        {
            self.lingering.pop();
            if self.conns.get(key).is_some_and(|conn| conn.state == State::Lingering) {
                self.release(key);
            }
        }
        if self.accept_again_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.accept_again_ms = None;
        }
    }

    /// A socket with room again; armed by a short write.
    pub(super) fn poll_out(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.polling_out || conn.state != State::Open {
            return;
        }
        conn.polling_out = true;
        conn.pending += 1;
        let entry = opcode::PollAdd::new(target(&conn.stream), libc::POLLOUT as u32)
            .build()
            .user_data(user_data(Op::Writable, key.generation, key.index));
        // SAFETY: the descriptor stays open until this operation has completed (`pending`).
        unsafe { self.ring.push(&entry) };
    }

    pub(super) fn on_pollable<D: Driver>(&mut self, driver: &mut D, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.polling_out = false;
        if conn.state == State::Open {
            driver.on_writable(key);
        }
    }

    /// The end of the core: closes everything, waiting (not long) for the kernel to let go.
    /// False when it did not, and buffers must not be freed.
    pub fn shut_down<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.begin_drain();
        self.listeners.clear();
        let keys: Vec<Key> = self.conns.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.release(key);
        }
        let started = Instant::now();
        while self.ring.failure().is_none() {
            self.bury(driver);
            if self.conns.is_empty() {
                return true;
            }
            if started.elapsed() > RELEASE_TIME_MAX {
                break;
            }
            self.now_ms += 1;
            self.alarm.set_for_ms = None;
            self.set_alarm(self.now_ms + 10);
            self.ring.enter_and_wait();
            let mut batch = std::mem::take(&mut self.batch);
            self.ring.take(&mut batch, usize::MAX);
            for entry in batch.drain(..) {
                self.complete(driver, &entry);
            }
            self.batch = batch;
        }
        false
    }
}
