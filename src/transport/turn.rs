//! The turn of one core: what the runtime reports goes to the broker, what the broker wants goes to the runtime.

use super::{
    driver::{Conn, CoreDriver, Foreign, Life, Order, ms},
    exchange::HttpConn,
};
use crate::{
    broker::{
        core::{Core, ShortWrite},
        mesh::Mesh,
        seam::ApiRequest,
    },
    metrics::Counter,
    model::{ConnKey, CoreId, Disconnect, Now},
    runtime::{Clock, Close, Driver, End, MeshOut, Net, Next, WriteSource},
    stdx::slab::Key,
};
use std::{net::SocketAddr, sync::atomic::Ordering};

/// While draining, how often to look whether the other cores are done.
const DRAIN_CHECK_MS: u64 = 10;

/// What the runtime counts, and TLS.
const OF_RUNTIME: [Counter; 17] = [
    Counter::ConnectionsAccepted,
    Counter::ConnectionsOpen,
    Counter::BytesReceived,
    Counter::BytesSent,
    Counter::Writes,
    Counter::ShortWrites,
    Counter::AcceptFailures,
    Counter::TimerWakes,
    Counter::Turns,
    Counter::BusyMicros,
    Counter::TurnMicrosMax,
    Counter::TlsHandshakes,
    Counter::TlsResumed,
    Counter::TlsHandshakesFailed,
    Counter::TlsReloads,
    Counter::TlsReloadsFailed,
    Counter::TlsCertificateUntil,
];

impl CoreDriver {
    fn flush(&mut self, net: &mut dyn Net) {
        self.core.begin_flush();
        let writes = self.core.dirty_len();
        if writes == 0 {
            return;
        }
        self.shorts.clear();
        net.flush(&Writes(&self.core), &mut self.shorts);
        let shorts: Vec<ShortWrite> = self
            .shorts
            .iter()
            .map(|short| ShortWrite { index: short.index, sent: short.sent, broken: short.error.is_some() })
            .collect();
        let broken: Vec<ConnKey> = shorts
            .iter()
            .filter(|short| short.broken)
            .map(|short| self.core.pieces(short.index, &mut Vec::new()))
            .collect();
        self.core.settle(&shorts);
        for conn in broken {
            self.cut(conn, Close::Reset);
        }
    }

    /// What could not be handed to the outbox before may fit into it now.
    fn feed(&mut self) {
        for conn in std::mem::take(&mut self.feeding) {
            if let Some(Conn::Http(http)) = self.conns.get_mut(conn) {
                http.feeding = false;
                self.pump_http(conn);
            } else {
                self.feed_again(conn);
            }
        }
    }

    fn close_drained(&mut self) {
        let linger_ms =
            u32::try_from(self.site.settings.websocket.close_timeout.as_millis()).unwrap_or(u32::MAX);
        for conn in self.core.take_drained() {
            self.orders.push((conn, Order::Close(Close::Graceful { linger_ms })));
        }
    }

    fn obey(&mut self, net: &mut dyn Net) {
        for (conn, order) in self.orders.drain(..) {
            match order {
                Order::Pause => net.pause(conn),
                Order::Resume => net.resume(conn),
                Order::Close(how) => net.close(conn, how),
            }
        }
    }

    fn send_batches(&mut self, mesh: &mut dyn MeshOut<Mesh>) {
        for to in 0..self.cores {
            let Ok(id) = CoreId::try_from(to) else { return };
            if id == self.id {
                continue;
            }
            let batch = self.core.outgoing(id);
            if !batch.is_empty() && mesh.send(to, batch) {
                self.core.outgoing_taken(id);
            }
        }
    }

    fn count(&mut self, net: &mut dyn Net) {
        let scrapes = self.shared.scrapes.load(Ordering::Relaxed);
        if scrapes != self.scrapes {
            self.scrapes = scrapes;
            net.reset_turn_max();
        }
        let counters = self.core.counters();
        for counter in OF_RUNTIME {
            counters.set(counter, net.counters().value(counter));
        }
        counters.add(Counter::HttpRequests, self.site.requests.take());
    }

    fn begin_drain(&mut self) {
        if self.life != Life::Serving {
            return;
        }
        self.life = Life::Draining { accepting: true };
        self.site.draining = true;
        self.core.disconnect_all(&Disconnect::SHUTDOWN);
        let https: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, state)| matches!(state, Conn::Http(_)))
            .map(|(conn, _)| conn)
            .collect();
        https.into_iter().for_each(|conn| self.pump_http(conn));
    }

    /// The end of this core's life, when it has come.
    fn live_on(&mut self, net: &mut dyn Net, next: Next) -> Next {
        if let Life::Draining { accepting } = &mut self.life {
            if std::mem::take(accepting) {
                net.stop_accepting();
            }
            if net.connections() == 0 {
                self.life = Life::Drained;
                self.shared.busy.fetch_sub(1, Ordering::AcqRel);
            }
        }
        match self.life {
            Life::Serving => next,
            Life::Stopped => Next::Stop,
            // Another core may still want an answer from this one.
            Life::Drained if self.shared.busy.load(Ordering::Acquire) == 0 => Next::Stop,
            Life::Drained | Life::Draining { .. } => match next {
                Next::Sleep { until_ms } => {
                    let check_ms = self.now.ms + DRAIN_CHECK_MS;
                    Next::Sleep {
                        until_ms: Some(until_ms.map_or(check_ms, |until_ms| until_ms.min(check_ms))),
                    }
                }
                next => next,
            },
        }
    }
}

/// The broker's writes, as the runtime takes them.
struct Writes<'a>(&'a Core);

impl WriteSource for Writes<'_> {
    fn len(&self) -> usize {
        self.0.dirty_len()
    }

    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key {
        self.0.pieces(index, pieces)
    }
}

impl Driver for CoreDriver {
    type Message = Mesh;
    type Foreign = Foreign;

    fn begin_turn(&mut self, clock: Clock) {
        self.now = Now { ms: clock.ms, unix_ms: clock.unix_ms };
        self.site.now = self.now;
        self.late = false;
        self.core.begin_turn(self.now);
    }

    fn on_accept(&mut self, conn: Key, _listener: usize, peer: SocketAddr) {
        self.core.open(conn);
        let mut http = HttpConn::new(peer, self.site.settings.http_server.proxy_protocol);
        let due_ms = self.now.ms.saturating_add(ms(self.site.settings.http_server.head_timeout));
        if let Some(at_ms) = http.timer.set(due_ms) {
            self.wheel.insert(at_ms, conn.to_bits());
        }
        self.conns.insert(conn, Conn::Http(Box::new(http)));
        if self.life != Life::Serving {
            self.cut(conn, Close::Graceful { linger_ms: 0 });
        }
    }

    fn on_adopt(&mut self, conn: Key, peer: SocketAddr, first: &[u8]) {
        self.core.open(conn);
        self.start_gateway_stream(conn, peer.ip(), first);
    }

    fn on_data(&mut self, conn: Key, bytes: &mut [u8]) {
        match self.conns.get_mut(conn) {
            Some(Conn::WebSocket(_)) => self.on_frames(conn, bytes),
            Some(Conn::Http(http)) => {
                http.http.push(bytes);
                self.pump_http(conn);
            }
            Some(Conn::Stream(_) | Conn::Awaited(_) | Conn::Feed(_) | Conn::Closing(_)) | None => {}
        }
    }

    fn on_end(&mut self, conn: Key, end: End) {
        let how = match end {
            End::Eof => Close::Graceful { linger_ms: 0 },
            End::Error(_) => Close::Reset,
        };
        // Nobody reads what a poll would be answered.
        if self.receiving.get(conn).is_some() {
            return self.cut(conn, how);
        }
        match (self.conns.get_mut(conn), end) {
            // What was asked before the end is still answered.
            (Some(Conn::Http(http)), End::Eof) => {
                http.http.stop();
                self.pump_http(conn);
            }
            // The close frame of this server may still be on its way out.
            (Some(Conn::Closing(_)), End::Eof) if self.core.pending_bytes(conn) > 0 => {}
            (Some(_), _) => self.cut(conn, how),
            (None, _) => {}
        }
    }

    fn on_writable(&mut self, conn: Key) {
        self.core.on_writable(conn);
    }

    fn on_released(&mut self, conn: Key) {
        self.core.end_session(conn);
        self.core.released(conn);
        self.leave(conn);
        self.stop_receiving(conn);
        self.conns.remove(conn);
    }

    fn on_batch(&mut self, from: usize, batch: &mut Vec<Mesh>) {
        let from = CoreId::try_from(from).unwrap_or(CoreId::MAX);
        for message in batch.drain(..) {
            self.core.on_mesh(from, message);
        }
    }

    fn on_foreign(&mut self, message: Foreign) {
        match message {
            Foreign::Drain => self.begin_drain(),
            Foreign::Stop => self.life = Life::Stopped,
            Foreign::Backend { id, result } => self.core.on_backend(id, result),
            Foreign::Keys { endpoint, keys } => self.core.on_keys(&endpoint, keys.as_ref()),
        }
    }

    fn end_turn(&mut self, net: &mut dyn Net, mesh: &mut dyn MeshOut<Mesh>) -> Next {
        self.fire_timers();
        self.count(net);
        for call in std::mem::take(&mut self.infos) {
            self.core.api(call.to_bits(), ApiRequest::Info);
        }
        self.core.end_turn();
        self.late = false;
        self.do_effects();
        self.flush(net);
        self.feed();
        self.do_effects();
        self.close_drained();
        self.obey(net);
        self.send_batches(mesh);
        self.core.begin_flush();
        let next = if self.late || self.core.dirty_len() > 0 {
            Next::Again
        } else {
            let deadlines = [self.core.next_deadline(), self.wheel.next_deadline()];
            Next::Sleep { until_ms: deadlines.into_iter().flatten().min() }
        };
        self.live_on(net, next)
    }
}
