//! Pings, pongs, and the one deadline a session has in the wheel: stale while it has not connected, then the
//! earliest of the next ping, the overdue pong, and the end of a token's time.

use super::{State, Step};
use crate::{
    broker::core::Core,
    model::{ConnKey, Disconnect, ErrorCode},
    stdx::{slab::Key, wheel::on_grid},
    wire::client::{self, Dialect, Reply},
};

/// How long clients get where pings are not answered.
const PATIENCE_MS: u64 = 8_000;

/// An empty WebSocket ping frame.
const WEBSOCKET_PING: [u8; 2] = [0x89, 0];

impl Core {
    /// Pings start at a random point of the second half of the interval, so that clients that connected
    /// together are not pinged together.
    pub(super) fn first_ping_ms(&mut self) -> u64 {
        let interval = self.ping_interval_ms();
        if interval == 0 {
            return u64::MAX;
        }
        self.now.ms + interval / 2 + self.rng.below(interval.div_ceil(2).max(1))
    }

    /// Of calls, only the one is answered that asks whether the server answers.
    pub(super) fn rpc(&mut self, conn: ConnKey, id: u32, method: &str) -> Step {
        let ping = &self.settings.rpc.ping;
        if !ping.enabled || ping.method != method {
            return self.refuse(conn, id, ErrorCode::NotAvailable);
        }
        self.reply(conn, id, &Reply::Rpc { data: &[] });
        Step::Done
    }

    /// 0: there are no pings.
    fn ping_interval_ms(&self) -> u64 {
        self.settings.client.ping_interval.ms()
    }

    /// 0: nobody is to answer them.
    fn pong_timeout_ms(&self) -> u64 {
        self.settings.client.pong_timeout.ms()
    }

    /// How long clients get once more when this server has made them wait.
    pub(in crate::broker) fn patience_ms(&self) -> u64 {
        match self.pong_timeout_ms() {
            0 => PATIENCE_MS,
            timeout_ms => timeout_ms,
        }
    }

    /// Puts the session's earliest deadline into the wheel, unless an entry that fires no later is there.
    pub(crate) fn schedule(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let due_ms = match session.pong_due_ms {
            0 => session.due_ms,
            pong_due_ms => session.due_ms.min(pong_due_ms),
        };
        let due_ms = on_grid(due_ms.min(session.expiry_due_ms));
        if due_ms < session.wheel_ms {
            session.wheel_ms = due_ms;
            self.session_wheel.insert(due_ms, conn.to_bits());
        }
    }

    /// The wheel says a deadline of this session may have come.
    pub(crate) fn on_session_timer(&mut self, bits: u64) {
        let conn = Key::from_bits(bits);
        let now_ms = self.now.ms;
        let grace_until_ms = self.grace_until_ms;
        let patience_ms = self.patience_ms();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.wheel_ms > now_ms {
            // An entry that was overtaken by an earlier one.
            return;
        }
        session.wheel_ms = u64::MAX;
        if session.state != State::Connected {
            let waits = session.state == State::Connecting || session.held.is_some();
            if session.due_ms > now_ms {
                // Another deadline of the same session came first.
            } else if waits || now_ms < grace_until_ms {
                // For this server, whose questions have a deadline of their own, or its connect lies unread in
                // the socket since the server stood still: 3502 would tell the client never to come back.
                session.due_ms = grace_until_ms.max(now_ms + patience_ms);
            } else {
                let refused = session.state == State::Refused;
                self.end(conn, if refused { Disconnect::CONNECTION_CLOSED } else { Disconnect::STALE });
            }
        } else if session.pong_due_ms != 0 && session.pong_due_ms <= now_ms {
            if session.held.is_some() {
                // Its answer may stand behind the commands this core makes wait.
                session.pong_due_ms = now_ms + patience_ms;
            } else if now_ms < grace_until_ms {
                // The server itself stood still: its clients' answers may lie unread in the sockets.
                session.pong_due_ms = grace_until_ms;
            } else {
                self.end(conn, Disconnect::NO_PONG);
            }
        } else if session.due_ms <= now_ms {
            self.ping(conn);
        }
        self.on_expiry_timer(conn);
        self.schedule(conn);
    }

    fn ping(&mut self, conn: ConnKey) {
        let next_ms = self.now.ms + self.ping_interval_ms();
        let pong_timeout_ms = self.pong_timeout_ms();
        let now_ms = self.now.ms;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.due_ms = next_ms;
        session.pings_out = session.pings_out.saturating_add(1);
        let (bare, websocket) = (session.is_bare(), session.websocket_pings);
        // Who only listens has nothing to answer with but the frames of a WebSocket, as has who pings by itself.
        let mute = bare || matches!(session.dialect, Dialect::V1(_));
        // A ping behind an unanswered one does not give the peer more time.
        if (websocket || !mute) && pong_timeout_ms > 0 && session.pong_due_ms == 0 {
            session.pong_due_ms = now_ms + pong_timeout_ms;
        }
        let (protocol, framing, dialect) = (session.protocol, session.framing, session.dialect);
        if matches!(dialect, Dialect::V1(_)) && !framing.heartbeat().is_empty() {
            self.write.raw(conn, framing.heartbeat());
        }
        if websocket {
            self.write.raw(conn, &WEBSOCKET_PING);
        }
        if bare || !websocket && !mute {
            self.write.message(conn, |out, frame_start| {
                framing.add(protocol, out, frame_start, |out| out.extend_from_slice(client::ping(protocol)));
            });
        }
    }

    /// A pong nobody waited for breaks the protocol.
    pub(super) fn pong(&mut self, conn: ConnKey) -> Step {
        let (now_ms, pong_timeout_ms) = (self.now.ms, self.pong_timeout_ms());
        let Some(session) = self.sessions.get_mut(conn) else { return Step::Ended };
        if session.pings_out == 0 || session.websocket_pings {
            return self.break_protocol(conn);
        }
        session.pings_out -= 1;
        session.pong_due_ms =
            if session.pings_out > 0 && pong_timeout_ms > 0 { now_ms + pong_timeout_ms } else { 0 };
        self.schedule(conn);
        Step::Done
    }

    /// The answer to a WebSocket ping; unsolicited ones are allowed there (RFC 6455 §5.5.3).
    pub fn on_websocket_pong(&mut self, conn: ConnKey) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.websocket_pings
        {
            session.pong_due_ms = 0;
            session.pings_out = 0;
        }
    }
}
