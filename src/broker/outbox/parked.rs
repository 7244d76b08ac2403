//! Outboxes without a connection: what is said waits, bounded as for any other, until somebody takes it.
//!
//! They are always blocked, so that no flush ever meets them; their framing is [`Framing::SockJsLine`] and nobody else's.

use super::{Framing, WritePath};
use crate::model::ConnKey;

impl WritePath {
    /// Gives a key that is no connection an empty outbox.
    pub fn open_parked(&mut self, conn: ConnKey, now_ms: u64) {
        self.open(conn);
        self.set_framing(conn, Framing::SockJsLine);
        let queue = self.lend(conn);
        self.queues[queue].block(0, now_ms, &mut self.segments);
    }

    /// Moves the keys to the end of `into` for which something was queued since the last call.
    pub fn take_parked_ready(&mut self, into: &mut Vec<ConnKey>) {
        for conn in self.parked_ready.drain(..) {
            into.push(conn);
        }
        for &conn in into.iter() {
            if let Some(queue) = self.queue_of(conn) {
                self.queues[queue].listed = false;
            }
        }
    }

    /// What waits, which is whole frames; it waits no more.
    pub fn take_parked(&mut self, conn: ConnKey, now_ms: u64) -> Vec<u8> {
        let Some(queue) = self.queue_of(conn) else { return Vec::new() };
        let mut pieces = Vec::new();
        self.queues[queue].pieces(&self.segments, &mut pieces);
        let taken = pieces.concat();
        self.queues[queue].block(taken.len(), now_ms, &mut self.segments);
        self.forget_holder(conn);
        taken
    }
}
