//! The end of a turn: what to write, and what became of it.

use super::{State, WritePath};
use crate::model::ConnKey;

impl WritePath {
    /// Makes the dirty list exact. Call it after the last byte of the turn was queued, before
    /// [`WritePath::dirty_len`] and [`WritePath::pieces`].
    pub fn begin_flush(&mut self) {
        self.deflate_open_frames();
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut last = ConnKey::NONE;
        dirty.sort_unstable();
        dirty.retain(|&conn| {
            let again = std::mem::replace(&mut last, conn) == conn;
            !again && self.is_dirty(conn)
        });
        self.dirty = dirty;
    }

    /// What was said to one connection in this turn goes out as one compressed message.
    fn deflate_open_frames(&mut self) {
        while let Some(conn) = self.deflate_open.pop() {
            if let Some(queue) = self.queue_of(conn) {
                self.queues[queue].close_frame(&mut self.deflater);
            }
        }
    }

    fn is_dirty(&self, conn: ConnKey) -> bool {
        self.outbox(conn).is_some_and(|outbox| match outbox.state {
            State::Span => true,
            State::Queued => !self.queues[outbox.queue as usize].blocked,
            State::Vacant | State::Idle | State::Refusing | State::Shut => false,
        })
    }

    /// Number of writes in this flush, at most one per connection.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        debug_assert!(!self.stale, "begin_flush was not called");
        self.dirty.len()
    }

    /// Appends the bytes of write `index` to `out`, in order, and names its connection. At most 513 pieces.
    pub fn pieces<'a>(&'a self, index: usize, out: &mut Vec<&'a [u8]>) -> ConnKey {
        let conn = self.dirty[index];
        let outbox = &self.outboxes[conn.index as usize];
        if outbox.state == State::Span {
            out.push(self.segments.bytes(outbox.span));
        } else if outbox.state == State::Queued {
            self.queues[outbox.queue as usize].pieces(&self.segments, out);
        }
        conn
    }

    /// Ends the flush; call it once per turn, also when nothing was dirty. `shorts` names the writes that
    /// did not go out completely: index, bytes sent, and whether the connection is broken (then what waits
    /// is dropped and nothing more is accepted). Every other write went out; its bytes are gone. Between
    /// [`WritePath::begin_flush`] and here nothing is queued and no connection removed.
    pub fn settle(&mut self, shorts: impl Iterator<Item = (usize, usize, bool)>, now_ms: u64) {
        debug_assert!(!self.stale, "begin_flush was not called");
        for (index, sent, broken) in shorts {
            if let Some(&conn) = self.dirty.get(index) {
                self.short(conn, sent, broken, now_ms);
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for &conn in &dirty {
            let outbox = &mut self.outboxes[conn.index as usize];
            if outbox.state == State::Span && !outbox.closing {
                outbox.state = State::Idle;
            } else {
                self.complete(conn);
            }
        }
        dirty.clear();
        self.dirty = dirty;
        self.stale = false;
        self.segments.end_turn();
        self.keep_budget();
    }

    fn short(&mut self, conn: ConnKey, sent: usize, broken: bool, now_ms: u64) {
        if broken {
            self.empty(conn);
            let outbox = &mut self.outboxes[conn.index as usize];
            (outbox.state, outbox.closing) = (State::Shut, true);
            return;
        }
        if sent >= self.pending(conn) {
            return;
        }
        if self.outboxes[conn.index as usize].state == State::Span {
            self.lend(conn);
        }
        let Some(queue) = self.queue_of(conn) else { return };
        self.queues[queue].block(sent, now_ms, &mut self.segments);
        if self.queues[queue].holds() {
            self.note_holder(conn);
        } else {
            self.forget_holder(conn);
        }
        self.appended(conn, queue, self.outboxes[conn.index as usize].framing);
    }

    /// Everything that waited was sent, unless the connection blocked or broke.
    fn complete(&mut self, conn: ConnKey) {
        let outbox = self.outboxes[conn.index as usize];
        match outbox.state {
            State::Span => {}
            State::Queued if !self.queues[outbox.queue as usize].blocked => self.take_back(outbox.queue),
            State::Queued | State::Vacant | State::Idle | State::Refusing | State::Shut => return,
        }
        let state = outbox.empty_state();
        self.outboxes[conn.index as usize].state = state;
        if state == State::Shut {
            self.drained.push(conn);
        }
    }

    /// The socket takes bytes again: what waits is part of the next flush.
    pub fn writable(&mut self, conn: ConnKey) {
        let Some(queue) = self.queue_of(conn) else { return };
        let queue = &mut self.queues[queue];
        if !std::mem::replace(&mut queue.blocked, false) {
            return;
        }
        if queue.pending() > 0 {
            self.dirty.push(conn);
        } else {
            self.empty(conn);
        }
    }

    /// Copies out of held segments until the budget is kept.
    fn keep_budget(&mut self) {
        while self.segments.held_bytes() > self.limits.held_max
            && let Some((_, conn)) = self.holders.pop_first()
        {
            let queue = &mut self.queues[self.outboxes[conn.index as usize].queue as usize];
            queue.held_as = None;
            queue.copy_out(&mut self.segments);
        }
    }
}
