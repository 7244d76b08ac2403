//! The way out: writes of the driver above sealed into records, and closes that wait for the last of them.

use super::{
    Options,
    acceptor::Acceptor,
    session::{Phase, Session},
};
use crate::{
    metrics::{Counter, Counters},
    runtime::{Close, Net, Short, WriteSource},
    stdx::slab::{Key, SideTable},
};
use std::{collections::VecDeque, sync::Arc};

/// Plain bytes of one connection that are sealed at a time. What of it the socket does not take, the connection
/// holds: so much memory a blocked one costs beside its outbox.
const SEAL_MAX: usize = 64 * 1024;
/// Ciphertext made before it is written.
const ARENA: usize = 512 * 1024;
/// `errno` of a connection that is gone.
const ENOTCONN: i32 = 107;

/// Everything about TLS on one core, beside the driver above.
pub(super) struct Filter {
    pub options: Options,
    pub acceptor: Arc<Acceptor>,
    pub sessions: SideTable<Box<Session>>,
    /// Connections within this process: what is written to them stays as it is.
    pub plain: SideTable<()>,
    /// With bytes of a handshake to look at, first come first served.
    pub handshakes: VecDeque<Key>,
    /// With ciphertext to write, or to be closed.
    ready: Vec<Key>,
    /// Those whose socket broke while their own words were written.
    pub broken: Vec<(Key, i32)>,
    /// Those that took everything, of which the driver above is to be told.
    pub unblocked: Vec<Key>,
    /// Where records are made.
    arena: Box<[u8]>,
    /// Where pieces of one write are joined.
    joined: Vec<u8>,
    /// What the runtime has counted, and TLS.
    pub counters: Counters,
    pub done: u64,
    pub resumed: u64,
    pub failed: u64,
}

/// One sealed write: which of the source, and where in the arena.
struct Sealed {
    index: usize,
    conn: Key,
    from: usize,
    to: usize,
    /// Plain bytes in it and before it, and of the whole write.
    plain: usize,
    total: usize,
}

impl Filter {
    pub fn new(acceptor: Arc<Acceptor>, options: Options) -> Self {
        Self {
            options,
            acceptor,
            sessions: SideTable::default(),
            plain: SideTable::default(),
            handshakes: VecDeque::new(),
            ready: Vec::new(),
            broken: Vec::new(),
            unblocked: Vec::new(),
            arena: vec![0; ARENA].into(),
            joined: Vec::new(),
            counters: Counters::default(),
            done: 0,
            resumed: 0,
            failed: 0,
        }
    }

    pub fn count(&mut self, net: &dyn Net) {
        self.counters = net.counters().clone();
        let (reloads, reloads_failed) = self.acceptor.reloads();
        for (counter, value) in [
            (Counter::TlsHandshakes, self.done),
            (Counter::TlsResumed, self.resumed),
            (Counter::TlsHandshakesFailed, self.failed),
            (Counter::TlsCertificateUntil, self.acceptor.until()),
            // Of the process, not of each core.
            (Counter::TlsReloads, if self.options.first_core { reloads } else { 0 }),
            (Counter::TlsReloadsFailed, if self.options.first_core { reloads_failed } else { 0 }),
        ] {
            self.counters.set(counter, value);
        }
    }

    /// The session has something to write or is to be closed.
    pub fn list(&mut self, conn: Key) {
        if let Some(session) = self.sessions.get_mut(conn)
            && !std::mem::replace(&mut session.listed, true)
        {
            self.ready.push(conn);
        }
    }

    pub fn has_work(&self) -> bool {
        !self.handshakes.is_empty() || !self.ready.is_empty() || !self.broken.is_empty()
    }

    /// Writes what sessions have to say by themselves, and closes those that have said everything.
    pub fn write_ready(&mut self, net: &mut dyn Net) {
        if self.ready.is_empty() {
            return;
        }
        let ready = std::mem::take(&mut self.ready);
        let speaks =
            |conn: &Key| self.sessions.get(*conn).is_some_and(|it| !it.blocked && !it.outgoing.is_empty());
        let writes = Own { conns: ready.iter().copied().filter(speaks).collect(), sessions: &self.sessions };
        let mut shorts = Vec::new();
        net.flush(&writes, &mut shorts);
        let mut shorts = shorts.into_iter().peekable();
        for (index, conn) in writes.conns.into_iter().enumerate() {
            let short = shorts.next_if(|short| short.index == index);
            let Some(session) = self.sessions.get_mut(conn) else { continue };
            match short {
                None => session.outgoing = Vec::new(),
                Some(Short { sent, error: None, .. }) => {
                    session.outgoing.drain(..sent);
                    session.blocked = true;
                }
                Some(Short { error: Some(errno), .. }) => {
                    session.outgoing = Vec::new();
                    self.broken.push((conn, errno));
                }
            }
        }
        for conn in ready {
            let Some(session) = self.sessions.get_mut(conn) else { continue };
            session.listed = false;
            if session.outgoing.is_empty() && std::mem::take(&mut session.inner_blocked) {
                self.unblocked.push(conn);
            }
            match session.closing {
                // There is no time to wait in.
                Some(linger_ms) if session.outgoing.is_empty() || linger_ms == 0 => {
                    net.close(conn, Close::Graceful { linger_ms });
                }
                // The socket takes bytes again, or the driver above loses patience.
                Some(_) | None => {}
            }
        }
    }

    pub fn close(&mut self, net: &mut dyn Net, conn: Key, how: Close) {
        let Some(session) = self.sessions.get_mut(conn) else { return net.close(conn, how) };
        let linger_ms = match (session.phase, how) {
            // The last words say what was wrong.
            (Phase::Failed, _) if !session.blocked && session.closing.is_none() => self.options.linger_ms,
            (Phase::Open, Close::Graceful { linger_ms }) => linger_ms,
            _ => return net.close(conn, how),
        };
        if session.closing.is_none() {
            if session.phase == Phase::Open {
                session.say_goodbye();
            }
            session.closing = Some(linger_ms);
            self.list(conn);
        }
    }

    pub fn flush(&mut self, net: &mut dyn Net, source: &dyn WriteSource, shorts: &mut Vec<Short>) {
        let first = shorts.len();
        let mut sealed = Vec::new();
        let mut again = Vec::new();
        let mut pieces = Vec::new();
        let mut used = 0;
        for index in 0..source.len() {
            pieces.clear();
            let conn = source.write(index, &mut pieces);
            used = self.seal((index, conn), &pieces, 0, used, &mut sealed, shorts);
            if used + Session::sealed_len(SEAL_MAX) > self.arena.len() {
                self.write_sealed(net, &mut sealed, shorts, &mut again);
                used = 0;
            }
        }
        self.write_sealed(net, &mut sealed, shorts, &mut again);
        // Writes longer than what is sealed at a time, as far as their sockets take them.
        while let Some((index, skip)) = again.pop() {
            pieces.clear();
            let conn = source.write(index, &mut pieces);
            self.seal((index, conn), &pieces, skip, 0, &mut sealed, shorts);
            self.write_sealed(net, &mut sealed, shorts, &mut again);
        }
        shorts[first..].sort_unstable_by_key(|short| short.index);
    }

    /// Seals one write from a plain byte on, behind what is in the arena. Returns where that ends now.
    fn seal(
        &mut self,
        (index, conn): (usize, Key),
        pieces: &[&[u8]],
        skip: usize,
        used: usize,
        sealed: &mut Vec<Sealed>,
        shorts: &mut Vec<Short>,
    ) -> usize {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let Some(session) = self.sessions.get_mut(conn) else {
            if self.plain.get(conn).is_none() {
                shorts.push(Short { index, sent: skip, error: Some(ENOTCONN) });
                return used;
            }
            let plain = part(pieces, skip, &mut self.joined);
            let to = used + plain.len();
            self.arena[used..to].copy_from_slice(plain);
            sealed.push(Sealed { index, conn, from: used, to, plain: skip + plain.len(), total });
            return to;
        };
        if session.phase != Phase::Open || total == 0 {
            // There is nobody to read it.
            return used;
        }
        if session.blocked {
            session.inner_blocked = true;
            shorts.push(Short { index, sent: skip, error: None });
            return used;
        }
        let plain = part(pieces, skip, &mut self.joined);
        // What TLS had to say by itself goes first.
        let own = std::mem::take(&mut session.outgoing);
        let wanted = own.len() + Session::sealed_len(plain.len());
        if self.arena.len() - used < wanted {
            // Only a long answer of TLS itself leads here: there is a next time for the rest.
            session.outgoing = own;
            session.inner_blocked = true;
            self.list(conn);
            shorts.push(Short { index, sent: skip, error: None });
            return used;
        }
        let room = &mut self.arena[used..used + wanted];
        room[..own.len()].copy_from_slice(&own);
        match session.seal(plain, &mut room[own.len()..]) {
            Some(len) => {
                let to = used + own.len() + len;
                sealed.push(Sealed { index, conn, from: used, to, plain: skip + plain.len(), total });
                to
            }
            None => {
                shorts.push(Short { index, sent: skip, error: Some(ENOTCONN) });
                used
            }
        }
    }

    fn write_sealed(
        &mut self,
        net: &mut dyn Net,
        sealed: &mut Vec<Sealed>,
        shorts: &mut Vec<Short>,
        again: &mut Vec<(usize, usize)>,
    ) {
        let mut of_net = Vec::new();
        if !sealed.is_empty() {
            net.flush(&Records { sealed: &*sealed, arena: &self.arena }, &mut of_net);
        }
        let mut of_net = of_net.into_iter().peekable();
        for (at, write) in sealed.drain(..).enumerate() {
            let Sealed { index, conn, from, to, plain, total } = write;
            match of_net.next_if(|short| short.index == at) {
                None if plain < total => again.push((index, plain)),
                None => {}
                Some(Short { sent, error: None, .. }) => {
                    let Some(session) = self.sessions.get_mut(conn) else {
                        shorts.push(Short { index, sent: plain - (to - from) + sent, error: None });
                        continue;
                    };
                    session.outgoing = self.arena[from + sent..to].to_vec();
                    session.blocked = true;
                    if plain < total {
                        session.inner_blocked = true;
                        shorts.push(Short { index, sent: plain, error: None });
                    }
                }
                Some(Short { error, .. }) => shorts.push(Short { index, sent: 0, error }),
            }
        }
    }
}

/// At most [`SEAL_MAX`] bytes of the pieces from `skip` on, in one piece.
fn part<'a>(pieces: &[&'a [u8]], mut skip: usize, joined: &'a mut Vec<u8>) -> &'a [u8] {
    if let [whole] = pieces {
        return &whole[skip..whole.len().min(skip + SEAL_MAX)];
    }
    joined.clear();
    for piece in pieces {
        let begun = skip.min(piece.len());
        skip -= begun;
        let rest = &piece[begun..];
        joined.extend_from_slice(&rest[..rest.len().min(SEAL_MAX - joined.len())]);
    }
    joined
}

/// What sessions say by themselves.
struct Own<'a> {
    conns: Vec<Key>,
    sessions: &'a SideTable<Box<Session>>,
}

impl WriteSource for Own<'_> {
    fn len(&self) -> usize {
        self.conns.len()
    }

    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key {
        let conn = self.conns[index];
        pieces.extend(self.sessions.get(conn).map(|session| &session.outgoing[..]));
        conn
    }
}

/// What the driver above says, sealed.
struct Records<'b> {
    sealed: &'b [Sealed],
    arena: &'b [u8],
}

impl WriteSource for Records<'_> {
    fn len(&self) -> usize {
        self.sealed.len()
    }

    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key {
        let Sealed { conn, from, to, .. } = self.sealed[index];
        pieces.push(&self.arena[from..to]);
        conn
    }
}
