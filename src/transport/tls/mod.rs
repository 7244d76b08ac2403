//! TLS between the runtime and the driver of a core: a driver that wraps another.
//!
//! The driver above sees plain bytes and knows nothing of it; without TLS none of this is in the way. What it writes
//! is sealed per connection, one record for many messages. A write the socket did not take completely is held as
//! ciphertext ([`Session::outgoing`], at most some 64 KiB) and counts as written; until it has gone the driver above
//! is told that the socket takes nothing.
//!
//! Handshakes cost most: those with bytes to look at stand in a queue, and a turn works on it for
//! `http_server.tls.handshake_turn_time_max` at most, so that a storm of them delays the others by no more.

mod acceptor;
mod filter;
mod session;
#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, Material, Ready, Unusable};

use super::log::{Level, Log, Rate};
use crate::{
    runtime::{Clock, Close, Driver, End, MeshOut, Net, Next, Short, WriteSource},
    stdx::slab::Key,
    wire::proxy_protocol,
};
use filter::Filter;
use session::{Phase, Read, Session};
use std::{net::SocketAddr, sync::Arc};

/// `errno` of a protocol error.
const EPROTO: i32 = 71;

/// What a client gets that speaks HTTP without TLS.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 27\r\n\
                         Connection: close\r\n\r\nThis port wants https/wss.\n";

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes a client may send before its handshake is done.
    pub handshake_size_max: usize,
    /// Time in microseconds a turn may spend on handshakes.
    pub handshake_turn_us: u64,
    /// A PROXY protocol header comes before TLS.
    pub proxied: bool,
    /// How long a client that was refused has to close.
    pub linger_ms: u32,
    /// This core also tells what is counted once per process.
    pub first_core: bool,
    /// Microseconds on a monotonic clock.
    pub micros: fn() -> u64,
}

/// A driver behind TLS.
pub struct Tls<D> {
    inner: D,
    filter: Filter,
    log: Arc<dyn Log>,
    rate: Rate,
    now_ms: u64,
    /// Plain bytes for the driver above, which may change them.
    plain: Vec<u8>,
}

impl<D: Driver> Tls<D> {
    #[must_use]
    pub fn new(inner: D, acceptor: Arc<Acceptor>, options: Options, log: Arc<dyn Log>) -> Self {
        let filter = Filter::new(acceptor, options);
        Self { inner, filter, log, rate: Rate::default(), now_ms: 0, plain: Vec::new() }
    }

    /// Works on the queue, at least on its first and as long as the turn may.
    fn shake_hands(&mut self) {
        let options = self.filter.options;
        let begun = (options.micros)();
        while let Some(conn) = self.filter.handshakes.pop_front() {
            self.shake_hand(conn);
            if (options.micros)().saturating_sub(begun) >= options.handshake_turn_us {
                break;
            }
        }
    }

    fn shake_hand(&mut self, conn: Key) {
        let size_max = self.filter.options.handshake_size_max;
        let Some(session) = self.filter.sessions.get_mut(conn) else { return };
        session.queued = false;
        if session.phase == Phase::Proxied && !self.read_proxy_header(conn) {
            return;
        }
        let Some(session) = self.filter.sessions.get_mut(conn) else { return };
        if session.phase != Phase::Handshaking || session.incoming.is_empty() {
            return;
        }
        if is_http(&session.incoming) {
            session.outgoing = NOT_TLS.to_vec();
            return self.fail(conn, "it speaks HTTP without TLS");
        }
        let is_too_long = session.received > size_max;
        self.read(conn, &mut []);
        if is_too_long && self.filter.sessions.get(conn).is_some_and(|it| it.phase == Phase::Handshaking) {
            self.fail(conn, "more than http_server.tls.handshake_size_max");
        }
    }

    /// Hands the header to the driver above, which reads it like one without TLS. False: it is not there yet.
    fn read_proxy_header(&mut self, conn: Key) -> bool {
        let Some(session) = self.filter.sessions.get_mut(conn) else { return false };
        let len = match proxy_protocol::parse(&session.incoming) {
            Ok(None) => return false,
            Ok(Some(header)) => header.len,
            // It complains and closes.
            Err(_) => session.incoming.len(),
        };
        let rest = session.incoming.split_off(len);
        let mut header = std::mem::replace(&mut session.incoming, rest);
        session.phase = Phase::Handshaking;
        self.inner.on_data(conn, &mut header);
        true
    }

    /// Takes bytes of the peer, and does what follows from them.
    fn read(&mut self, conn: Key, bytes: &mut [u8]) {
        let Self { inner, filter, plain, .. } = self;
        let Some(session) = filter.sessions.get_mut(conn) else { return };
        let read = session.read(bytes, &mut |record| {
            plain.clear();
            plain.extend_from_slice(record);
            inner.on_data(conn, plain);
        });
        if session.phase == Phase::Handshaking && !session.is_handshaking() {
            session.phase = Phase::Open;
            filter.done += 1;
            filter.resumed += u64::from(session.is_resumed());
        }
        if !session.outgoing.is_empty() {
            filter.list(conn);
        }
        match read {
            Read::On => {}
            Read::Closed => self.tell_end(conn, End::Eof),
            Read::Failed(error) => self.fail(conn, &error.to_string()),
        }
    }

    /// The connection cannot go on. What is in `outgoing` are its last words.
    fn fail(&mut self, conn: Key, why: &str) {
        let Some(session) = self.filter.sessions.get_mut(conn) else { return };
        let was = std::mem::replace(&mut session.phase, Phase::Failed);
        session.incoming = Vec::new();
        let peer = session.peer;
        let what = if was == Phase::Open { "a TLS connection broke" } else { "a TLS handshake failed" };
        self.report(format_args!("{peer}: {what}: {why}"));
        self.tell_end(conn, End::Error(EPROTO));
    }

    fn tell_end(&mut self, conn: Key, end: End) {
        if let Some(session) = self.filter.sessions.get_mut(conn)
            && !std::mem::replace(&mut session.told, true)
        {
            self.inner.on_end(conn, end);
        }
    }

    fn report(&mut self, line: std::fmt::Arguments<'_>) {
        if self.log.enabled(Level::Debug) && self.rate.take(self.now_ms).is_some() {
            self.log.write(Level::Debug, line);
        }
    }

    /// Tells the driver above what became of the words of TLS itself.
    fn tell_written(&mut self) {
        for (conn, errno) in std::mem::take(&mut self.filter.broken) {
            self.tell_end(conn, End::Error(errno));
        }
        for conn in std::mem::take(&mut self.filter.unblocked) {
            self.inner.on_writable(conn);
        }
    }
}

/// A request line, not a record: those begin with a byte below 32.
fn is_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

impl<D: Driver> Driver for Tls<D> {
    type Message = D::Message;
    type Foreign = D::Foreign;

    fn begin_turn(&mut self, clock: Clock) {
        self.now_ms = clock.ms;
        self.inner.begin_turn(clock);
        self.tell_written();
        self.shake_hands();
    }

    fn on_accept(&mut self, conn: Key, listener: usize, peer: SocketAddr) {
        let phase = if self.filter.options.proxied { Phase::Proxied } else { Phase::Handshaking };
        let session = Session::new(self.filter.acceptor.config(), peer, phase);
        self.inner.on_accept(conn, listener, peer);
        match session {
            Ok(session) => self.filter.sessions.insert(conn, Box::new(session)),
            Err(_) => self.inner.on_end(conn, End::Error(EPROTO)),
        }
    }

    /// It comes from this very process, so there is nothing to hide on it.
    fn on_adopt(&mut self, conn: Key, peer: SocketAddr, first: &[u8]) {
        self.filter.plain.insert(conn, ());
        self.inner.on_adopt(conn, peer, first);
    }

    fn on_data(&mut self, conn: Key, bytes: &mut [u8]) {
        if self.filter.plain.get(conn).is_some() {
            return self.inner.on_data(conn, bytes);
        }
        let size_max = self.filter.options.handshake_size_max;
        let Some(session) = self.filter.sessions.get_mut(conn) else { return };
        match session.phase {
            Phase::Open => self.read(conn, bytes),
            Phase::Proxied | Phase::Handshaking => {
                session.received = session.received.saturating_add(bytes.len());
                session.incoming.extend_from_slice(bytes);
                let is_full = session.received > size_max;
                if !std::mem::replace(&mut session.queued, true) {
                    self.filter.handshakes.push_back(conn);
                }
                if is_full {
                    // The end of a handshake and data behind it, or the end of patience.
                    self.shake_hand(conn);
                }
            }
            Phase::Failed => {}
        }
    }

    fn on_end(&mut self, conn: Key, end: End) {
        // What came before it.
        if self.filter.sessions.get(conn).is_some_and(|session| session.queued) {
            self.shake_hand(conn);
        }
        match self.filter.sessions.get(conn) {
            Some(_) => self.tell_end(conn, end),
            None => self.inner.on_end(conn, end),
        }
    }

    fn on_writable(&mut self, conn: Key) {
        if let Some(session) = self.filter.sessions.get_mut(conn) {
            session.blocked = false;
            self.filter.list(conn);
        } else if self.filter.plain.get(conn).is_some() {
            self.inner.on_writable(conn);
        }
    }

    fn on_released(&mut self, conn: Key) {
        if let Some(session) = self.filter.sessions.remove(conn) {
            let was_tried = session.received > 0 && session.is_handshaking();
            self.filter.failed += u64::from(was_tried);
        }
        self.filter.plain.remove(conn);
        self.inner.on_released(conn);
    }

    fn on_batch(&mut self, from: usize, batch: &mut Vec<Self::Message>) {
        self.inner.on_batch(from, batch);
    }

    fn on_foreign(&mut self, message: Self::Foreign) {
        self.inner.on_foreign(message);
    }

    fn end_turn(&mut self, net: &mut dyn Net, mesh: &mut dyn MeshOut<Self::Message>) -> Next {
        self.filter.write_ready(net);
        self.tell_written();
        self.filter.count(net);
        let next = self.inner.end_turn(&mut Filtered { net, filter: &mut self.filter }, mesh);
        self.filter.write_ready(net);
        match next {
            Next::Sleep { .. } if self.filter.has_work() || !self.filter.unblocked.is_empty() => Next::Again,
            next => next,
        }
    }
}

/// The sockets as the driver above sees them.
struct Filtered<'a> {
    net: &'a mut dyn Net,
    filter: &'a mut Filter,
}

impl Net for Filtered<'_> {
    fn pause(&mut self, conn: Key) {
        self.net.pause(conn);
    }

    fn resume(&mut self, conn: Key) {
        self.net.resume(conn);
    }

    fn close(&mut self, conn: Key, how: Close) {
        self.filter.close(self.net, conn, how);
    }

    fn flush(&mut self, source: &dyn WriteSource, shorts: &mut Vec<Short>) {
        self.filter.flush(self.net, source, shorts);
    }

    fn stop_accepting(&mut self) {
        self.net.stop_accepting();
    }

    fn connections(&self) -> usize {
        self.net.connections()
    }

    fn counters(&self) -> &crate::metrics::Counters {
        &self.filter.counters
    }

    fn reset_turn_max(&mut self) {
        self.net.reset_turn_max();
    }
}
