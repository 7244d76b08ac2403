//! The runtime's side of a connection: writes that go out whole, in part or not at all, and the end.

use super::{
    emulation,
    world::{Host, Socket, World},
};
use crate::{
    broker::core::ShortWrite,
    model::{ConnKey, Disconnect},
};

/// How long a closing connection may take for its last bytes.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

impl World {
    /// One write per dirty connection; sockets take what fits, or less.
    pub(super) fn write(&mut self, at: usize) {
        self.hosts[at].core.begin_flush();
        let mut shorts = Vec::new();
        let mut readers = Vec::new();
        for index in 0..self.hosts[at].core.dirty_len() {
            let stingy = self.chance(self.knobs.short);
            let host = &mut self.hosts[at];
            let mut pieces = Vec::new();
            let conn = host.core.pieces(index, &mut pieces);
            let bytes = pieces.concat();
            let socket = host.sockets.get_mut(conn).expect("a write to a connection that is gone");
            if socket.dead {
                *self.coverage.entry("write: broken".into()).or_default() += 1;
                shorts.push(ShortWrite { index, sent: 0, broken: true });
                continue;
            }
            if socket.swallows {
                continue;
            }
            let client = &mut self.clients[socket.client];
            let room = self.knobs.socket_bytes.saturating_sub(client.socket.len());
            let room = if stingy { self.rng.below(room as u64 + 1) as usize } else { room };
            let sent = bytes.len().min(room);
            client.socket.extend_from_slice(&bytes[..sent]);
            readers.push(socket.client);
            if sent < bytes.len() {
                *self.coverage.entry("write: short".into()).or_default() += 1;
                socket.wants_room = true;
                shorts.push(ShortWrite { index, sent, broken: false });
            }
        }
        self.hosts[at].core.settle(&shorts);
        for index in readers {
            self.read(index);
        }
        self.make_room(at);
    }

    pub(super) fn make_room(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let ready: Vec<_> = host
            .sockets
            .iter()
            .filter(|(_, socket)| socket.wants_room && !socket.dead)
            .filter(|(_, socket)| {
                socket.swallows || self.clients[socket.client].socket.len() < self.knobs.socket_bytes
            })
            .map(|(conn, _)| conn)
            .collect();
        for conn in ready {
            if let Some(socket) = host.sockets.get_mut(conn) {
                socket.wants_room = false;
                host.core.on_writable(conn);
            }
        }
    }

    pub(super) fn drained(&mut self, at: usize) {
        let mut gone = self.hosts[at].core.take_drained();
        let now_ms = self.now.ms;
        let late =
            |socket: &Socket| socket.closing_ms.is_some_and(|since_ms| now_ms > since_ms + CLOSE_TIMEOUT_MS);
        gone.extend(self.hosts[at].sockets.iter().filter(|(_, socket)| late(socket)).map(|(conn, _)| conn));
        for conn in gone {
            self.release(at, conn);
        }
    }

    pub(super) fn release(&mut self, at: usize, conn: ConnKey) {
        let host = &mut self.hosts[at];
        host.core.released(conn);
        host.ended.retain(|&other| other != conn);
        if let Some(socket) = host.sockets.remove(conn)
            && self.clients[socket.client].at == Some((at, conn))
        {
            // The client reads what is left, then the end of the stream.
            self.clients[socket.client].stalled = false;
            self.read(socket.client);
            self.lose(socket.client);
        }
    }

    /// What a transport does with [`Effect::Close`].
    pub(super) fn close(&mut self, at: usize, conn: ConnKey, disconnect: &Disconnect) {
        let Host { core, sockets, .. } = &mut self.hosts[at];
        let Some(socket) = sockets.get_mut(conn).filter(|socket| socket.closing_ms.is_none()) else { return };
        socket.closing_ms = Some(self.now.ms);
        if matches!(disconnect.code, 3008 | 3009) {
            core.drop_queue(conn);
        }
        if !socket.framing.body_end().is_empty() {
            let protocol = self.clients[socket.client].protocol;
            return core.close_after_drain(conn, &emulation::last(protocol, socket.framing, disconnect));
        }
        let mut frame = vec![0x88, 2 + disconnect.reason.len() as u8];
        frame.extend_from_slice(&(disconnect.code as u16).to_be_bytes());
        frame.extend_from_slice(disconnect.reason.as_bytes());
        core.close_after_drain(conn, &frame);
    }
}
