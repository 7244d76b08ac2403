//! WebSocket connections of the driver: messages to the broker, control frames answered, closing.

use super::driver::{Conn, CoreDriver};
use crate::{
    broker::{
        core::{Core, Uplink},
        outbox::Framing,
    },
    metrics::Counter,
    model::{ConnKey, Disconnect, Protocol},
    wire::sockjs,
    wire::websocket::{Decoder, Event, FrameError, Opcode, Options, Role, write_close, write_header},
};

/// One WebSocket. Idle it holds no buffer.
#[derive(Debug, Default)]
pub struct WebSocket {
    decoder: Decoder,
    /// permessage-deflate was agreed on.
    deflates: bool,
    /// The client only listens.
    listens: bool,
    /// Messages are SockJS frames.
    sockjs: bool,
}

impl WebSocket {
    pub fn new(deflates: bool, listens: bool, sockjs: bool) -> Self {
        Self { decoder: Decoder::default(), deflates, listens, sockjs }
    }
}

/// How the peer's bytes ended the connection.
enum Ended {
    /// It closed; answered with the same code.
    Closed(Option<u16>),
    Broken(FrameError),
}

/// The messages of one SockJS frame. One that cannot be read ends the session as any message that cannot be does.
fn hear_sockjs(core: &mut Core, conn: ConnKey, frame: &[u8]) {
    // Nothing is sent to keep a connection alive, and is no message.
    if frame.is_empty() {
        return;
    }
    match sockjs::decode_messages(frame) {
        Ok(messages) => messages.iter().for_each(|message| core.on_message(conn, message.as_bytes())),
        Err(_) => core.on_message(conn, b""),
    }
}

impl CoreDriver {
    /// Hands every whole message to the broker, in order.
    pub(super) fn on_frames(&mut self, conn: ConnKey, bytes: &mut [u8]) {
        let Self { core, conns, site, inflater, .. } = self;
        let Some(Conn::WebSocket(websocket)) = conns.get_mut(conn) else { return };
        let message_size_limit = if websocket.listens {
            site.settings.uni_websocket.message_size_limit
        } else {
            site.settings.websocket.message_size_limit
        };
        let options = Options { role: Role::Server, message_size_limit, compression: websocket.deflates };
        let (listens, sockjs) = (websocket.listens, websocket.sockjs);
        let mut frames = websocket.decoder.feed(bytes, &options);
        let ended = loop {
            match frames.next() {
                Ok(None) => return,
                Ok(Some(Event::Message { compressed: false, payload, .. })) if sockjs => {
                    hear_sockjs(core, conn, payload);
                }
                Ok(Some(Event::Message { compressed: false, payload, .. })) => core.on_message(conn, payload),
                Ok(Some(Event::Message { kind, payload, .. })) => {
                    let limit = if listens {
                        site.settings.uni_websocket.inflated_size_limit()
                    } else {
                        site.settings.websocket.inflated_size_limit()
                    };
                    // Reading pauses above the limit for what waits, but what has been read goes on: a little
                    // of it must not become a lot.
                    let held_max = site.settings.client.held_max_size.saturating_add(limit);
                    if core.held_bytes(conn) > held_max {
                        break Ended::Broken(FrameError::TooBig);
                    }
                    match inflater.message(kind, payload, limit) {
                        Err(error) => break Ended::Broken(error),
                        Ok(message) => {
                            core.counters().increment(Counter::Inflated);
                            core.counters().add(Counter::InflateBytesIn, payload.len() as u64);
                            core.counters().add(Counter::InflateBytesOut, message.len() as u64);
                            core.on_message(conn, message);
                        }
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    let mut pong = Vec::with_capacity(payload.len() + 2);
                    write_header(&mut pong, Opcode::Pong, payload.len());
                    pong.extend_from_slice(payload);
                    core.raw(conn, &pong);
                }
                Ok(Some(Event::Pong(_))) => core.on_websocket_pong(conn),
                Ok(Some(Event::Close { code, .. })) => break Ended::Closed(code),
                Err(error) => break Ended::Broken(error),
            }
        };
        self.end_websocket(conn, ended);
    }

    fn end_websocket(&mut self, conn: ConnKey, ended: Ended) {
        let mut frame = Vec::new();
        match ended {
            Ended::Closed(Some(code)) => write_close(&mut frame, code, ""),
            // A close without a code is answered without one (RFC 6455 §5.5.1).
            Ended::Closed(None) => write_header(&mut frame, Opcode::Close, 0),
            Ended::Broken(error) => {
                self.site.report(
                    super::log::Level::Debug,
                    format_args!("a client broke the WebSocket protocol: {error}"),
                );
                write_close(&mut frame, error.close_code(), "");
            }
        }
        self.core.end_session(conn);
        let within = self.site.settings.websocket.close_timeout;
        self.close_soon(conn, &frame, within);
    }

    /// The broker ended the session.
    pub(super) fn close_websocket(&mut self, conn: ConnKey, disconnect: &Disconnect) {
        let settings = &self.site.settings;
        let (listens, sockjs) = match self.conns.get(conn) {
            Some(Conn::WebSocket(it)) => (it.listens, it.sockjs),
            _ => (false, false),
        };
        let write_timeout =
            if listens { settings.uni_websocket.write_timeout } else { settings.websocket.write_timeout };
        let mut frame = Vec::new();
        let mut within = settings.websocket.close_timeout;
        match disconnect.code {
            // The peer went away: nobody reads a close frame.
            3000 => {}
            // It does not read: what waits for it is dropped, and it gets less time.
            3008 | 3009 => {
                within = write_timeout.min(within);
                self.core.drop_queue(conn);
            }
            _ => {}
        }
        if let Ok(code) = u16::try_from(disconnect.code)
            && code != 3000
        {
            if listens && !settings.uni_websocket.disable_disconnect_push {
                // Not every listener looks at close frames.
                frame =
                    super::stream::farewell(Protocol::Json, Framing::WebSocketText, Uplink::None, disconnect);
            }
            if sockjs {
                let mut payload = Vec::new();
                sockjs::write_close(&mut payload, disconnect.code, &disconnect.reason);
                frame = Framing::WebSocketText.frame(&payload);
            }
            if !listens || !settings.uni_websocket.disable_closing_handshake {
                write_close(&mut frame, code, &disconnect.reason);
            }
        }
        self.close_soon(conn, &frame, within);
    }
}
