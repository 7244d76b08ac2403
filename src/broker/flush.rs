//! The flush at the end of a turn, and connections that do not take their bytes.

use super::{core::Core, seam::Effect};
use crate::model::{ConnKey, Disconnect};
use std::time::Duration;

/// How often a blocked connection is looked at, in milliseconds.
const BLOCKED_CHECK_MS: u64 = 100;

/// How one write of a flush ended short.
#[derive(Clone, Copy, Debug)]
pub struct ShortWrite {
    pub index: usize,
    pub sent: usize,
    pub broken: bool,
}

impl Core {
    /// Prepares the writes of this turn; call once, before [`Core::dirty_len`].
    pub fn begin_flush(&mut self) {
        self.write.begin_flush();
    }

    /// Number of connections to write to in this turn.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        self.write.dirty_len()
    }

    /// Appends the bytes of write `index` to `pieces`, in order, and names its connection.
    pub fn pieces<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> ConnKey {
        self.write.pieces(index, pieces)
    }

    /// The flush is over: whatever `shorts` (by rising index) does not name went out completely. Broken
    /// connections lose their session; the driver resets them.
    pub fn settle(&mut self, shorts: &[ShortWrite]) {
        let blocked: Vec<_> =
            shorts.iter().map(|short| (self.dirty_conn(short.index), short.broken)).collect();
        self.write.settle(shorts.iter().map(|short| (short.index, short.sent, short.broken)), self.now.ms);
        for (conn, broken) in blocked {
            if broken {
                self.forget_session(conn);
            } else if !self.blocked.contains(&conn) {
                self.blocked.push(conn);
                self.blocked_check_ms = self.blocked_check_ms.min(self.now.ms + BLOCKED_CHECK_MS);
            }
        }
        self.pump();
    }

    fn dirty_conn(&self, index: usize) -> ConnKey {
        self.write.pieces(index, &mut Vec::new())
    }

    pub fn on_writable(&mut self, conn: ConnKey) {
        self.write.writable(conn);
    }

    /// Cuts connections that took no bytes for `websocket.write_timeout`, and listeners over WebSocket for
    /// `uni_websocket.write_timeout` (3009).
    pub(super) fn check_blocked(&mut self) {
        if self.now.ms < self.blocked_check_ms {
            return;
        }
        let ms = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let clients_ms = ms(self.settings.websocket.write_timeout);
        let listeners_ms = ms(self.settings.uni_websocket.write_timeout);
        for conn in std::mem::take(&mut self.blocked) {
            let Some(since_ms) = self.write.blocked_since(conn) else { continue };
            let session = self.sessions.get(conn);
            let listens = session.is_some_and(|it| it.is_bare() && it.framing.is_websocket());
            let timeout_ms = if listens { listeners_ms } else { clients_ms };
            if self.now.ms.saturating_sub(since_ms) < timeout_ms {
                self.blocked.push(conn);
            } else {
                self.cut(conn, Disconnect::WRITE_ERROR);
            }
        }
        self.blocked_check_ms =
            if self.blocked.is_empty() { u64::MAX } else { self.now.ms + BLOCKED_CHECK_MS };
    }

    /// Cuts clients for whom more waits than `client.queue_max_size` (3008).
    pub(super) fn cut_slow(&mut self) {
        let mut slow = Vec::new();
        loop {
            self.write.take_slow(&mut slow);
            if slow.is_empty() {
                return;
            }
            for conn in slow.drain(..) {
                self.cut(conn, Disconnect::SLOW);
            }
        }
    }

    /// Closes a connection that does not take its bytes, whatever it speaks. The driver drops what waits.
    fn cut(&mut self, conn: ConnKey, disconnect: Disconnect) {
        if self.sessions.get(conn).is_some() {
            self.end(conn, disconnect);
        } else {
            self.effects.push(Effect::Close { conn, disconnect });
        }
    }
}
