//! Clients that only listen: they say how they connect, and nothing else is heard of them.

use super::{State, Step};
use crate::{
    broker::{core::Core, limits::Operation, outbox::Framing, seam::Effect},
    config::ConnectDisconnects,
    metrics::Counter,
    model::{ConnKey, Disconnect, ErrorCode},
    wire::client,
};

impl Core {
    /// The first message connects; what comes behind it is passed over.
    pub(super) fn listen(&mut self, conn: ConnKey, message: &[u8]) {
        let Some(session) = self.sessions.get(conn).filter(|it| it.state == State::New) else { return };
        match client::decode_connect(session.protocol, message) {
            Ok(request) => {
                self.counters.increment(Counter::CommandsReceived);
                if !self.within_limits(conn, Operation::Connect) {
                    self.refuse_connect(conn, 0, ErrorCode::TooManyRequests);
                } else if self.connect(conn, 0, &request) == Step::Wait {
                    self.note_paid(conn);
                    self.hold(conn, message, true);
                }
            }
            Err(_) => {
                self.end(conn, Disconnect::BAD_REQUEST);
            }
        }
    }

    /// What a listener is told before anything else, now that it is connected.
    pub(super) fn tell_prelude(&mut self, conn: ConnKey) {
        let Some(prelude) = self.preludes.remove(&conn) else { return };
        let Some(framing) = self.sessions.get(conn).map(|session| session.framing) else { return };
        // It is no frame.
        self.write.set_framing(conn, Framing::Raw);
        self.write.raw(conn, &prelude.head);
        self.write.set_framing(conn, framing);
        self.effects.push(Effect::Connected(conn));
    }
}

/// A client that only listens cannot be answered with an error: this is how its connection ends instead.
pub(super) fn refusal(error: ErrorCode, said: &ConnectDisconnects) -> Disconnect {
    if let Some(to) = said.transforms.of(error.code()).filter(|_| said.enabled) {
        return Disconnect { code: to.code, reason: to.reason.clone().into() };
    }
    match error {
        ErrorCode::TokenExpired | ErrorCode::Expired => Disconnect::EXPIRED,
        ErrorCode::TooManyRequests => Disconnect::TOO_MANY_REQUESTS,
        ErrorCode::PermissionDenied => Disconnect::PERMISSION_DENIED,
        _ => Disconnect::INTERNAL,
    }
}
