//! Clients that speak version 1 of the protocol: how they are told from others, and what is done for them only.
//!
//! They have groups of their own (`Class::dialect`), and nothing here is asked for anybody else's messages.

use super::{Session, Step};
use crate::{
    auth::SubscribeClaims,
    broker::{
        core::{Core, Uplink},
        outbox::Framing,
    },
    config::ProtocolV1,
    model::{ClientId, ConnKey, Disconnect, ErrorCode, Unsubscribe},
    wire::client::{
        Command, Dialect, Reply, Request,
        v1::{self, Positions},
    },
};

impl Session {
    /// Such clients lose their place when a subscription ends, so where others would subscribe again and recover
    /// they reconnect.
    pub(super) fn must_leave(&self, unsubscribe: Unsubscribe) -> Option<Disconnect> {
        let comes_again = matches!(self.dialect, Dialect::V1(_)) && unsubscribe.code >= 2500;
        comes_again.then_some(match unsubscribe {
            Unsubscribe::EXPIRED => Disconnect::SUBSCRIPTION_EXPIRED,
            _ => Disconnect::INSUFFICIENT_STATE,
        })
    }
}

impl Core {
    /// A first command that asks for nothing in version 2 is one of version 1, where such clients are let in: there a
    /// number says what is asked for, and 0, which is connect, is left out.
    pub(super) fn recognise(&mut self, conn: ConnKey, command: &Command<'_>) -> Step {
        let positions = match self.settings.client.protocol_v1 {
            ProtocolV1::Off => None,
            ProtocolV1::Offset => Some(Positions::Offset),
            ProtocolV1::SeqGen => Some(Positions::SeqGen),
        };
        if let Some(positions) = positions
            && command.id != 0
            && command.request == Request::None
            && let Some(session) = self.sessions.get_mut(conn)
            && session.dialect == Dialect::V2
            && session.uplink == Uplink::Connection
        {
            session.dialect = Dialect::V1(positions);
            session.reads_numbers = false;
            // They ping the server by the protocol; the server pings them by frames.
            session.websocket_pings = session.framing != Framing::SockJsLine;
            return Step::Again;
        }
        self.break_protocol(conn)
    }

    /// A command without a request, or a ping.
    pub(super) fn other_request(&mut self, conn: ConnKey, command: &Command<'_>) -> Step {
        let old = self.sessions.get(conn).is_some_and(|session| matches!(session.dialect, Dialect::V1(_)));
        match command.request {
            _ if !old => self.break_protocol(conn),
            Request::Ping => {
                self.reply(conn, command.id, &Reply::Ping);
                Step::Done
            }
            _ => self.refuse(conn, command.id, ErrorCode::MethodNotFound),
        }
    }

    /// In their days a subscription token named the client alone, not its user.
    pub(super) fn takes_client_for_user(&self, conn: ConnKey, claims: &SubscribeClaims) -> bool {
        let old = self.sessions.get(conn).is_some_and(|session| matches!(session.dialect, Dialect::V1(_)));
        old && claims.user.is_empty() && !claims.client.is_empty()
    }

    pub(super) fn speaks(&self, conn: ConnKey, dialect: Dialect) -> bool {
        self.sessions.get(conn).is_some_and(|session| session.dialect == dialect)
    }

    pub(super) fn reply_v1(&mut self, conn: ConnKey, positions: Positions, id: u32, reply: &Reply<'_>) {
        let Some(session) = self.sessions.get(conn) else { return };
        let (protocol, framing) = (session.protocol, session.framing);
        let client = session.info.as_ref().map(|info| info.client).unwrap_or(ClientId(0));
        self.write.message(conn, |out, frame_start| {
            framing.add(protocol, out, frame_start, |out| {
                v1::encode_reply(protocol, positions, client, id, reply, out);
            });
        });
    }

    /// Why a session ends, as its client reads it.
    pub(super) fn in_words_of(&self, conn: ConnKey, disconnect: Disconnect) -> Disconnect {
        match self.sessions.get(conn).map(|session| session.dialect) {
            Some(Dialect::V1(_)) => v1::advice(&disconnect),
            _ => disconnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::outbox::Framing, model::Protocol};

    #[test]
    fn who_would_lose_its_place_reconnects() {
        let mut session = Session::new(Protocol::Json, Framing::WebSocketText, false, 0);
        for unsubscribe in [Unsubscribe::SERVER, Unsubscribe::EXPIRED, Unsubscribe::INSUFFICIENT_STATE] {
            assert_eq!(session.must_leave(unsubscribe), None);
        }
        session.dialect = Dialect::V1(Positions::Offset);
        assert_eq!(session.must_leave(Unsubscribe::SERVER), None);
        assert_eq!(session.must_leave(Unsubscribe::EXPIRED), Some(Disconnect::SUBSCRIPTION_EXPIRED));
        assert_eq!(session.must_leave(Unsubscribe::INSUFFICIENT_STATE), Some(Disconnect::INSUFFICIENT_STATE));
    }
}
