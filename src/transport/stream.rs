//! Sessions in the body of an HTTP response (`http_stream`, `sse`), or told to a gateway in this process: how they end.
//! Nothing is read on them.

use super::{
    driver::{Conn, CoreDriver, Life},
    http::StreamPlan,
    log::Level,
};
use crate::{
    broker::{
        core::{SessionStart, Uplink},
        outbox::{Body, Framing},
    },
    metrics::Counter,
    model::{ConnKey, Disconnect, Protocol},
    runtime::Close,
    stdx::varint::{self, Read},
    wire::client::{Push, encode_bare_push, encode_push},
};
use std::{net::IpAddr, sync::Arc};

/// One such response. Idle it holds no buffer.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    protocol: Protocol,
    framing: Framing,
    uplink: Uplink,
}

impl Stream {
    pub fn new(protocol: Protocol, framing: Framing, uplink: Uplink) -> Self {
        Self { protocol, framing, uplink }
    }

    /// The one of this request.
    pub fn of(plan: &StreamPlan) -> Self {
        Self::new(plan.protocol, plan.framing, plan.uplink)
    }

    /// What tells the client why, and ends the body.
    fn last(self, disconnect: &Disconnect) -> Vec<u8> {
        let mut last = Vec::new();
        if disconnect.code != Disconnect::CONNECTION_CLOSED.code {
            last = farewell(self.protocol, self.framing, self.uplink, disconnect);
        }
        last.extend_from_slice(self.framing.body_end());
        last
    }
}

/// The push that says why a session ends, as a frame.
pub fn farewell(protocol: Protocol, framing: Framing, uplink: Uplink, disconnect: &Disconnect) -> Vec<u8> {
    let push = Push::Disconnect { code: disconnect.code, reason: &disconnect.reason };
    let mut payload = Vec::new();
    if uplink == Uplink::None {
        encode_bare_push(protocol, "", &push, &mut payload);
    } else {
        encode_push(protocol, "", &push, &mut payload);
    }
    framing.frame(&payload)
}

/// What a gateway hands over with the connection of a client: the user a trusted proxy vouches for
/// (`client.user_id_http_header`; empty: none), and the client's request to connect in Protobuf.
#[must_use]
pub fn introduce(user: &str, connect: &[u8]) -> Vec<u8> {
    let mut first = Vec::with_capacity(varint::LEN_MAX + user.len() + connect.len());
    varint::write(&mut first, user.len() as u64);
    first.extend_from_slice(user.as_bytes());
    first.extend_from_slice(connect);
    first
}

/// The two again. `None`: that is no introduction.
fn introduced(first: &[u8]) -> Option<(&str, &[u8])> {
    let Read::Value(len, at) = varint::read(first) else { return None };
    let (user, connect) = first.get(at..)?.split_at_checked(usize::try_from(len).ok()?)?;
    Some((std::str::from_utf8(user).ok()?, connect))
}

impl CoreDriver {
    /// A client that only listens, behind a gateway, as that has introduced it. It is told pushes in Protobuf with their
    /// lengths in front. One for whom there is no room is closed without a word.
    pub(super) fn start_gateway_stream(&mut self, conn: ConnKey, client: IpAddr, first: &[u8]) {
        let Some((user, connect)) = introduced(first) else {
            return self.cut(conn, Close::Graceful { linger_ms: 0 });
        };
        if self.life != Life::Serving {
            return self.cut(conn, Close::Graceful { linger_ms: 0 });
        }
        if let Err(reason) = self.enter(conn, client) {
            self.core.counters().increment(Counter::ConnectionsTurnedAway);
            self.site.report(Level::Info, format_args!("{client}: turned away: {reason}"));
            return self.cut(conn, Close::Graceful { linger_ms: 0 });
        }
        let (protocol, uplink) = (Protocol::Protobuf, Uplink::None);
        let framing = Framing::Delimited(Body::ToEnd);
        let address = self.shared.gate.limits_of(client, self.now.ms);
        let user = (!user.is_empty()).then(|| Arc::from(user));
        let start = SessionStart { uplink, user, address, ..SessionStart::new(protocol, framing) };
        self.core.start_session(conn, start);
        self.conns.insert(conn, Conn::Stream(Stream::new(protocol, framing, uplink)));
        self.core.on_message(conn, connect);
    }

    /// The response that waited for it is a session.
    pub(super) fn begin_stream(&mut self, conn: ConnKey) {
        if let Some(Conn::Awaited(plan)) = self.conns.get(conn) {
            let stream = Stream::of(plan);
            self.conns.insert(conn, Conn::Stream(stream));
        }
    }

    /// The broker ended the session before the listener was connected: the response says so by its status.
    pub(super) fn refuse_stream(&mut self, conn: ConnKey, disconnect: &Disconnect) {
        let Some(Conn::Awaited(plan)) = self.conns.get(conn) else { return };
        let (code, text) = match self.core.take_refusal(conn) {
            Some(error) => (error.code(), error.message()),
            None => (disconnect.code, &*disconnect.reason),
        };
        let date = self.site.date.at(self.now.unix_ms);
        let response = plan.refusal(&self.site.settings, code, text, date);
        // It does not even read the answers before this one.
        if matches!(disconnect.code, 3008 | 3009) {
            self.core.drop_queue(conn);
        }
        let within = self.site.settings.http_server.close_timeout;
        self.close_soon(conn, &response, within);
    }

    /// The broker ended the session.
    pub(super) fn close_stream(&mut self, conn: ConnKey, disconnect: &Disconnect) {
        let Some(&Conn::Stream(stream)) = self.conns.get(conn) else { return };
        let mut within = self.site.settings.http_server.close_timeout;
        let mut last = stream.last(disconnect);
        // It does not read: what waits for it is dropped, and it gets less time.
        if matches!(disconnect.code, 3008 | 3009) {
            within = self.site.settings.websocket.write_timeout.min(within);
            self.core.drop_queue(conn);
            if !stream.framing.has_frames() {
                // Nobody can tell where in a message it stopped.
                last.clear();
            }
        }
        self.close_soon(conn, &last, within);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_introduced_is_known() {
        for user in ["", "42", "ü", &"x".repeat(300)] {
            for connect in [&b""[..], b"\x0a\x01x"] {
                assert_eq!(introduced(&introduce(user, connect)), Some((user, connect)));
            }
        }
        for none in [&b""[..], b"\x05four", b"\x01\xff", &[0xff; 11]] {
            assert_eq!(introduced(none), None, "{none:?}");
        }
    }
}
