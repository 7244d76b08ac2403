//! The driver of one core that echoes.

use corecast::{
    broker::outbox::{Framing, Limits, WritePath},
    runtime::{Clock, Close, CoreSeat, Driver, End, MeshOut, Net, Next, Short, WriteSource},
    stdx::slab::{Key, SideTable},
    wire::{
        deflate::{self, Agreement, Inflater, Window, negotiate},
        http::{EMPTY_HEADER, HeadLimits, parse_head},
        websocket::{
            self, Decoder, Event, MessageKind, Opcode, Role, check_upgrade, write_close, write_header,
            write_upgrade,
        },
    },
};
use std::net::SocketAddr;

/// Bytes that may wait for a client before its frames are left unread.
const WAITING_MAX: usize = 4 * 1024 * 1024;
const LINGER_MS: u32 = 2000;

enum State {
    /// The handshake, as far as it has come.
    Head(Vec<u8>),
    Open(Decoder, Option<Agreement>),
    Closing,
}

pub struct Echo {
    write: WritePath,
    conns: SideTable<State>,
    message_size_limit: usize,
    inflater: Inflater,
    now: Clock,
    paused: Vec<Key>,
    pauses: Vec<Key>,
    closes: Vec<(Key, Close)>,
}

impl Echo {
    pub fn new(_seat: CoreSeat, message_size_limit: usize) -> Self {
        let limits = Limits {
            queue_max: usize::MAX,
            frame_size_target: 64 * 1024,
            held_max: 64 * 1024 * 1024,
            segment_size: 256 * 1024,
            deflate: deflate::Options::default(),
            deflate_listeners: deflate::Options::default(),
        };
        Self {
            write: WritePath::new(limits),
            conns: SideTable::default(),
            message_size_limit,
            inflater: Inflater::default(),
            now: Clock::default(),
            paused: Vec::new(),
            pauses: Vec::new(),
            closes: Vec::new(),
        }
    }

    fn on_head(&mut self, conn: Key, bytes: &[u8]) {
        let Some(State::Head(head)) = self.conns.get_mut(conn) else { return };
        head.extend_from_slice(bytes);
        let head = std::mem::take(head);
        let mut slots = [EMPTY_HEADER; 100];
        let limits = HeadLimits { size_max: 16 * 1024, uri_max: 8 * 1024 };
        let parsed = match parse_head(&head, &mut slots, limits) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => {
                self.conns.insert(conn, State::Head(head));
                return;
            }
            Err(_) => return self.close(conn, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        };
        let Ok(upgrade) = check_upgrade(&parsed.request) else {
            return self.close(conn, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        };
        let mut response = Vec::new();
        let agreement = negotiate(&parsed.request);
        let extensions = agreement.map(|agreement| agreement.to_string()).unwrap_or_default();
        write_upgrade(&mut response, upgrade.key, None, &extensions);
        self.write.raw(conn, &response);
        self.conns.insert(conn, State::Open(Decoder::default(), agreement));
        let mut rest = head[parsed.len..].to_vec();
        self.on_frames(conn, &mut rest);
    }

    fn on_frames(&mut self, conn: Key, bytes: &mut [u8]) {
        let Some(State::Open(decoder, agreement)) = self.conns.get_mut(conn) else { return };
        let options = websocket::Options {
            role: Role::Server,
            message_size_limit: self.message_size_limit,
            compression: agreement.is_some(),
        };
        let window = agreement.and_then(|agreement| agreement.window);
        let mut frames = decoder.feed(bytes, &options);
        let mut last = Vec::new();
        while last.is_empty() {
            let said = match frames.next() {
                Ok(Some(Event::Message { kind, compressed: true, payload })) => self
                    .inflater
                    .message(kind, payload, self.message_size_limit)
                    .map(|payload| Some(Event::Message { kind, compressed: false, payload })),
                said => said,
            };
            match said {
                Ok(None) => break,
                Ok(Some(Event::Message { kind, payload, .. })) => {
                    let span = self.write.share(framing(kind, window), payload);
                    self.write.push_span(conn, span);
                }
                Ok(Some(Event::Ping(payload))) => {
                    let mut pong = Vec::new();
                    write_header(&mut pong, Opcode::Pong, payload.len());
                    pong.extend_from_slice(payload);
                    self.write.raw(conn, &pong);
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close { code: Some(code), reason })) => write_close(&mut last, code, reason),
                Ok(Some(Event::Close { code: None, .. })) => write_header(&mut last, Opcode::Close, 0),
                Err(error) => write_close(&mut last, error.close_code(), ""),
            }
        }
        if !last.is_empty() {
            self.close(conn, &last);
        } else if self.write.pending(conn) > WAITING_MAX {
            self.pauses.push(conn);
        }
    }

    fn close(&mut self, conn: Key, last: &[u8]) {
        self.conns.insert(conn, State::Closing);
        self.write.close_after_drain(conn, last);
    }

    fn flush(&mut self, net: &mut dyn Net) {
        self.write.begin_flush();
        if self.write.dirty_len() == 0 {
            return;
        }
        let mut shorts: Vec<Short> = Vec::new();
        net.flush(&Writes(&self.write), &mut shorts);
        for short in shorts.iter().filter(|short| short.error.is_some()) {
            let conn = self.write.pieces(short.index, &mut Vec::new());
            self.closes.push((conn, Close::Reset));
        }
        let shorts = shorts.iter().map(|short| (short.index, short.sent, short.error.is_some()));
        self.write.settle(shorts, self.now.ms);
    }
}

fn framing(kind: MessageKind, window: Option<Window>) -> Framing {
    match (kind, window) {
        (MessageKind::Text, None) => Framing::WebSocketText,
        (MessageKind::Binary, None) => Framing::WebSocketBinary,
        (MessageKind::Text, Some(window)) => Framing::DeflateText(window),
        (MessageKind::Binary, Some(window)) => Framing::DeflateBinary(window),
    }
}

struct Writes<'a>(&'a WritePath);

impl WriteSource for Writes<'_> {
    fn len(&self) -> usize {
        self.0.dirty_len()
    }

    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key {
        self.0.pieces(index, pieces)
    }
}

impl Driver for Echo {
    type Message = ();
    type Foreign = ();

    fn begin_turn(&mut self, clock: Clock) {
        self.now = clock;
    }

    fn on_accept(&mut self, conn: Key, _listener: usize, _peer: SocketAddr) {
        self.write.open(conn);
        self.conns.insert(conn, State::Head(Vec::new()));
    }

    fn on_adopt(&mut self, conn: Key, peer: SocketAddr, first: &[u8]) {
        self.on_accept(conn, 0, peer);
        self.on_data(conn, &mut first.to_vec());
    }

    fn on_data(&mut self, conn: Key, bytes: &mut [u8]) {
        match self.conns.get(conn) {
            Some(State::Head(_)) => self.on_head(conn, bytes),
            Some(State::Open(..)) => self.on_frames(conn, bytes),
            Some(State::Closing) | None => {}
        }
    }

    fn on_end(&mut self, conn: Key, _end: End) {
        self.conns.insert(conn, State::Closing);
        self.closes.push((conn, Close::Graceful { linger_ms: 0 }));
    }

    fn on_writable(&mut self, conn: Key) {
        self.write.writable(conn);
    }

    fn on_released(&mut self, conn: Key) {
        self.write.remove(conn);
        self.conns.remove(conn);
    }

    fn on_batch(&mut self, _from: usize, batch: &mut Vec<()>) {
        batch.clear();
    }

    fn on_foreign(&mut self, (): ()) {}

    fn end_turn(&mut self, net: &mut dyn Net, _mesh: &mut dyn MeshOut<()>) -> Next {
        self.flush(net);
        for conn in self.pauses.drain(..) {
            net.pause(conn);
            self.paused.push(conn);
        }
        let write = &self.write;
        self.paused.retain(|&conn| {
            let waits = write.pending(conn) > WAITING_MAX / 2;
            if !waits {
                net.resume(conn);
            }
            waits
        });
        let mut drained = Vec::new();
        self.write.take_drained(&mut drained);
        self.closes.extend(drained.into_iter().map(|conn| (conn, Close::Graceful { linger_ms: LINGER_MS })));
        for (conn, how) in self.closes.drain(..) {
            net.close(conn, how);
        }
        Next::Sleep { until_ms: None }
    }
}
