//! Sessions in the body of an HTTP response (`http_stream`, `sse`): how they end. Nothing is read on them.

use super::driver::{Conn, CoreDriver};
use crate::{
    broker::{core::Uplink, outbox::Framing},
    model::{ConnKey, Disconnect, Protocol},
    wire::client::{Push, encode_bare_push, encode_push},
};

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

impl CoreDriver {
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
