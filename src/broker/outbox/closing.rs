//! How an outbox ends: at its limit, by a last frame, or because the connection broke.

use super::{Outbox, PRIVATE_MAX, State, WritePath};
use crate::model::ConnKey;

impl WritePath {
    /// Moves the connections that passed their limit since the last call to the end of `into`. They accept
    /// nothing more: cut them with [`WritePath::drop_queue`] and [`WritePath::close_after_drain`].
    pub fn take_slow(&mut self, into: &mut Vec<ConnKey>) {
        into.append(&mut self.slow);
    }

    /// Moves the closing connections whose last byte was sent since the last call to the end of `into`.
    pub fn take_drained(&mut self, into: &mut Vec<ConnKey>) {
        into.append(&mut self.drained);
    }

    /// Drops what waits, except the rest of a frame that is partly sent. The connection accepts bytes again.
    pub fn drop_queue(&mut self, conn: ConnKey) {
        let Some(outbox) = self.outbox_mut(conn) else { return };
        outbox.slow = false;
        let Outbox { state, framing, queue, .. } = *outbox;
        match state {
            State::Span | State::Refusing => self.empty(conn),
            State::Queued => {
                let queue = &mut self.queues[queue as usize];
                queue.drop_unbegun(framing, &mut self.segments);
                if queue.pending() == 0 && !queue.blocked {
                    self.empty(conn);
                    if self.outbox(conn).is_some_and(|outbox| outbox.closing) {
                        self.drained.push(conn);
                    }
                } else if !queue.holds() {
                    self.forget_holder(conn);
                }
            }
            State::Vacant | State::Idle | State::Shut => {}
        }
    }

    /// Ends the outbox: `last` (a close frame, or nothing) is accepted whatever the limit, then nothing more.
    /// Once everything is sent the connection is listed by [`WritePath::take_drained`]. Only the first call counts.
    pub fn close_after_drain(&mut self, conn: ConnKey, last: &[u8]) {
        let Some(outbox) = self.outbox_mut(conn) else { return };
        if outbox.closing || outbox.state == State::Shut {
            return;
        }
        outbox.slow = false;
        if outbox.state == State::Refusing {
            outbox.state = State::Idle;
        }
        let framing = outbox.framing;
        if !last.is_empty()
            && let Some(queue) = self.accepting(conn)
        {
            self.queues[queue].raw(framing, last, &mut self.deflater);
        }
        self.outboxes[conn.index as usize].closing = true;
        if self.pending(conn) == 0 {
            self.empty(conn);
            self.drained.push(conn);
        }
    }

    /// True when the connection was closed and everything is sent, or it broke or is gone.
    #[must_use]
    pub fn is_drained(&self, conn: ConnKey) -> bool {
        self.outbox(conn).is_none_or(|outbox| outbox.state == State::Shut)
    }

    pub(super) fn queue_max(&self) -> usize {
        self.limits.queue_max.min(PRIVATE_MAX)
    }

    pub(super) fn mark_slow(&mut self, conn: ConnKey) {
        let outbox = &mut self.outboxes[conn.index as usize];
        if !outbox.slow && !outbox.closing {
            outbox.slow = true;
            self.slow.push(conn);
        }
    }
}
