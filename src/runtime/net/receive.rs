//! Input: arming, pausing, handing bytes to the driver.
//!
//! A receive that ended (for want of buffers, because the kernel chose so, or because it was cancelled by a
//! pause) is put on a list and armed again in order at the end of the turn, when its buffers are back.

use super::{Conn, Op, Sockets, State, buffers, ring::user_data, target};
use crate::{
    metrics::Counter,
    runtime::{Driver, End, options::Backend, sys},
    stdx::slab::Key,
};
use io_uring::{cqueue, opcode};
use std::io;

impl Conn {
    /// A receive should be with the kernel.
    fn needs_input(&self) -> bool {
        match self.state {
            State::Open => self.wants_input && !self.ended,
            State::Lingering => !self.ended,
            State::Releasing => false,
        }
    }
}

impl Sockets {
    pub(super) fn set_wants_input(&mut self, key: Key, wanted: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state != State::Open {
            return;
        }
        conn.wants_input = wanted;
        if wanted {
            self.list(key);
        } else if self.backend == Backend::Ring {
            // A poll is left to fire: nothing is read while paused.
            self.cancel_receive(key);
        }
    }

    /// Puts the connection on the list to be armed, if it should be and is not.
    pub(super) fn list(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.needs_input() && !conn.receiving && !conn.listed {
            conn.listed = true;
            self.to_arm.push_back(key);
        }
    }

    pub(super) fn arm_listed(&mut self) {
        while let Some(key) = self.to_arm.pop_front() {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            conn.listed = false;
            if !conn.needs_input() || conn.receiving {
                continue;
            }
            conn.receiving = true;
            conn.pending += 1;
            let entry = match self.backend {
                Backend::Ring => opcode::RecvMulti::new(target(&conn.stream), buffers::GROUP).build(),
                Backend::Poll => opcode::PollAdd::new(target(&conn.stream), libc::POLLIN as u32).build(),
            };
            let entry = entry.user_data(user_data(Op::Receive, key.generation, key.index));
            // SAFETY: the descriptor stays open until this operation has completed (`pending`).
            unsafe { self.ring.push(&entry) };
        }
    }

    pub(super) fn cancel_receive(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.receiving && !conn.cancelling {
            conn.cancelling = true;
            self.cancel(key, Op::Receive);
        }
    }

    /// Asks the kernel to end an operation of the connection. Its completion, and that of the request, follow.
    pub(super) fn cancel(&mut self, key: Key, op: Op) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.pending += 1;
        let entry = opcode::AsyncCancel::new(user_data(op, key.generation, key.index))
            .build()
            .user_data(user_data(Op::Cancel, key.generation, key.index));
        // SAFETY: points to nothing.
        unsafe { self.ring.push(&entry) };
    }

    pub(super) fn on_received<D: Driver>(&mut self, driver: &mut D, key: Key, entry: &cqueue::Entry) {
        match self.backend {
            Backend::Ring => self.on_multishot(driver, key, entry),
            Backend::Poll => self.on_readable(driver, key),
        }
        if let Some(conn) = self.conns.get_mut(key)
            && !cqueue::more(entry.flags())
        {
            conn.receiving = false;
            conn.cancelling = false;
            self.list(key);
        }
    }

    fn on_multishot<D: Driver>(&mut self, driver: &mut D, key: Key, entry: &cqueue::Entry) {
        match entry.result() {
            0 => self.input_ended(driver, key, End::Eof),
            length @ 1.. => self.counters.add(Counter::BytesReceived, length as u64),
            // Out of buffers, cancelled, or no reason at all: armed again if wanted.
            errno if is_passing(-errno) => {}
            errno => self.input_ended(driver, key, End::Error(-errno)),
        }
        if let (Some(id), Some(buffers)) = (cqueue::buffer_select(entry.flags()), &mut self.buffers)
            && let Ok(length @ 1..) = usize::try_from(entry.result())
            && let Some(bytes) = buffers.lent(id, length)
            && self.conns.get(key).is_some_and(|conn| conn.state == State::Open)
        {
            driver.on_data(key, bytes);
        }
        self.give_back(entry);
    }

    /// Returns the buffer that a completion brought, if it brought one.
    pub(super) fn give_back(&mut self, entry: &cqueue::Entry) {
        if let (Some(id), Some(buffers)) = (cqueue::buffer_select(entry.flags()), &mut self.buffers) {
            buffers.give_back(id);
        }
    }

    fn on_readable<D: Driver>(&mut self, driver: &mut D, key: Key) {
        let Some(conn) = self.conns.get(key).filter(|conn| conn.needs_input()) else { return };
        match sys::receive_now(&conn.stream, &mut self.scratch) {
            Ok(0) => self.input_ended(driver, key, End::Eof),
            Ok(length) => {
                self.counters.add(Counter::BytesReceived, length as u64);
                if conn.state == State::Open {
                    driver.on_data(key, &mut self.scratch[..length]);
                }
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                if error.kind() != io::ErrorKind::WouldBlock && !is_passing(errno) {
                    self.input_ended(driver, key, End::Error(errno));
                }
            }
        }
    }

    fn input_ended<D: Driver>(&mut self, driver: &mut D, key: Key, end: End) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let told = std::mem::replace(&mut conn.ended, true);
        match conn.state {
            State::Open if !told => driver.on_end(key, end),
            State::Lingering => self.release(key),
            State::Open | State::Releasing => {}
        }
    }
}

/// Results of a receive that say nothing about the connection.
fn is_passing(errno: i32) -> bool {
    matches!(errno, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
}
