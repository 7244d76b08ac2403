//! New connections: accepting, placing on a core, running out of descriptors, draining.
//!
//! Without descriptors left, accepting stops and is tried again when a connection closes or after
//! [`RETRY_MS`], never at once. Meanwhile the reserve descriptor is given up to take waiting peers off
//! the queue and close them: they learn that there is no room instead of waiting for nothing.

use super::{Op, Sockets, ring::user_data, target};
use crate::{
    metrics::Counter,
    runtime::{Driver, inbox::AdoptedSocket, mesh::FreshSocket, options::Backend, sys},
    stdx::slab::Key,
};
use io_uring::{cqueue, opcode};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How long after running out of descriptors accepting is tried again.
const RETRY_MS: u64 = 100;
/// Connections taken off a queue at a time by plain calls.
const ACCEPTS_PER_CALL_MAX: usize = 64;
/// Peers turned away at a time while there are no descriptors.
const REFUSALS_MAX: usize = 16;

pub(super) struct Listener {
    /// `None` once accepting has ended for good.
    socket: Option<TcpListener>,
    state: Accepting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    No,
    Armed,
    /// Asked to end; the completion has not come.
    Ending,
    Ended,
}

pub(super) fn listeners(sockets: Vec<TcpListener>, backend: Backend) -> io::Result<Vec<Listener>> {
    let over = |socket: TcpListener| {
        socket.set_nonblocking(backend == Backend::Poll)?;
        Ok(Listener { socket: Some(socket), state: Accepting::No })
    };
    sockets.into_iter().map(over).collect()
}

/// How many connections each core has: the only state cores share, touched once per connection.
#[derive(Clone, Debug)]
pub(crate) struct Loads {
    cores: Arc<[AtomicUsize]>,
    core: usize,
    balance: bool,
}

/// Added to the load of a core that takes no more.
const CLOSED: usize = 1 << 40;

impl Loads {
    pub fn for_cores(count: usize, balance: bool) -> Vec<Self> {
        let cores: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        (0..count).map(|core| Self { cores: cores.clone(), core, balance }).collect()
    }

    /// The core that is to carry a fresh connection; it is counted there already.
    fn place(&self) -> usize {
        let own = self.cores[self.core].load(Ordering::Relaxed);
        let fewest = (0..self.cores.len()).min_by_key(|&core| self.cores[core].load(Ordering::Relaxed));
        let target = match fewest {
            Some(core) if self.balance && self.cores[core].load(Ordering::Relaxed) < own => core,
            _ => self.core,
        };
        self.cores[target].fetch_add(1, Ordering::Relaxed);
        target
    }

    /// A connection that was placed on `from` stays here.
    pub fn took_back(&self, from: usize) {
        self.cores[from].fetch_sub(1, Ordering::Relaxed);
        self.cores[self.core].fetch_add(1, Ordering::Relaxed);
    }

    fn joined(&self) {
        self.cores[self.core].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn left(&self) {
        self.cores[self.core].fetch_sub(1, Ordering::Relaxed);
    }

    fn close(&self) {
        self.cores[self.core].fetch_add(CLOSED, Ordering::Relaxed);
    }
}

impl Sockets {
    /// A listener waits to be armed and may be.
    pub(super) fn needs_arming(&self) -> bool {
        let idle = |listener: &Listener| listener.state == Accepting::No;
        self.accept_again_ms.is_none() && self.listeners.iter().any(idle)
    }

    pub(super) fn arm_listeners<D: Driver>(&mut self, driver: &mut D) {
        if !self.needs_arming() {
            return;
        }
        for index in 0..self.listeners.len() {
            if self.listeners[index].state != Accepting::No {
                continue;
            }
            if self.draining {
                self.end_accepting(driver, index);
                continue;
            }
            let Some(socket) = self.listeners[index].socket.as_ref().map(target) else { continue };
            let entry = match self.backend {
                Backend::Ring => opcode::AcceptMulti::new(socket).flags(libc::SOCK_CLOEXEC).build(),
                Backend::Poll => opcode::PollAdd::new(socket, libc::POLLIN as u32).build(),
            };
            let entry = entry.user_data(user_data(Op::Accept, 0, index as u32));
            // SAFETY: listeners are closed only after their operation has ended, or with the ring.
            unsafe { self.ring.push(&entry) };
            self.listeners[index].state = Accepting::Armed;
        }
    }

    pub(super) fn on_accepted<D: Driver>(&mut self, driver: &mut D, index: u32, entry: &cqueue::Entry) {
        let index = index as usize;
        match (self.backend, entry.result()) {
            (Backend::Ring, fd @ 0..) => {
                // SAFETY: the kernel made this socket for us in this very completion.
                let stream = unsafe { sys::adopt_stream(fd) };
                self.welcome(driver, index, stream);
            }
            (Backend::Poll, 0..) => self.accept_waiting(driver, index, ACCEPTS_PER_CALL_MAX),
            (_, errno) => self.accept_failed(-errno, index),
        }
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if !cqueue::more(entry.flags()) {
            listener.state = Accepting::No;
            if self.draining {
                self.end_accepting(driver, index);
            }
        }
    }

    fn socket(&self, index: usize) -> Option<&TcpListener> {
        self.listeners.get(index)?.socket.as_ref()
    }

    /// Takes waiting connections off the queue by plain calls, as far as that goes without waiting.
    fn accept_waiting<D: Driver>(&mut self, driver: &mut D, index: usize, max: usize) {
        for _ in 0..max {
            let Some(socket) = self.socket(index) else { return };
            match socket.accept() {
                Ok((stream, _)) => self.welcome(driver, index, stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    self.accept_failed(errno, index);
                    if self.accept_again_ms.is_some() {
                        return;
                    }
                }
            }
        }
    }

    fn accept_failed(&mut self, errno: i32, index: usize) {
        if errno == libc::ECANCELED {
            return;
        }
        self.counters.increment(Counter::AcceptFailures);
        // These concern one peer only; all else would come again at once.
        if matches!(errno, libc::ECONNABORTED | libc::EINTR | libc::EAGAIN) {
            return;
        }
        self.accept_again_ms = Some(self.now_ms + RETRY_MS);
        if matches!(errno, libc::EMFILE | libc::ENFILE) {
            self.refuse_waiting(index);
        }
    }

    /// Gives up the reserve descriptor to close what waits in the queue.
    fn refuse_waiting(&mut self, index: usize) {
        drop(self.reserve.take());
        if let Some(socket) = self.socket(index) {
            let _ = socket.set_nonblocking(true);
            for _ in 0..REFUSALS_MAX {
                match socket.accept() {
                    Ok((stream, _)) => drop(stream),
                    Err(_) => break,
                }
            }
            let _ = socket.set_nonblocking(self.backend == Backend::Poll);
        }
        self.reserve = sys::reserve_fd().ok();
    }

    fn welcome<D: Driver>(&mut self, driver: &mut D, listener: usize, stream: TcpStream) {
        // Without an address the peer is gone already.
        let Ok(peer) = stream.peer_addr() else { return };
        // Slower without, but not wrong.
        let _ = stream.set_nodelay(true);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let socket = FreshSocket { stream, listener, peer };
        match self.loads.place() {
            core if core == self.loads.core || self.draining => {
                if core != self.loads.core {
                    self.loads.took_back(core);
                }
                self.carry(driver, socket);
            }
            core => self.handed_over.push((core, socket)),
        }
    }

    /// Makes the socket a connection of this core, on which it is counted already.
    pub fn carry<D: Driver>(&mut self, driver: &mut D, socket: FreshSocket) {
        // The slot may have been somebody's whose end the driver does not know of yet.
        self.bury(driver);
        let FreshSocket { stream, listener, peer } = socket;
        let key = self.begin(stream);
        driver.on_accept(key, listener, peer);
        self.list(key);
    }

    /// Makes a socket from elsewhere a connection of this core.
    pub fn adopt<D: Driver>(&mut self, driver: &mut D, socket: AdoptedSocket) {
        self.loads.joined();
        self.bury(driver);
        let AdoptedSocket { stream, peer, first } = socket;
        let key = self.begin(stream);
        driver.on_adopt(key, peer, &first);
        self.list(key);
    }

    fn begin(&mut self, stream: TcpStream) -> Key {
        let key = self.insert(stream);
        self.counters.increment(Counter::ConnectionsAccepted);
        self.counters.set(Counter::ConnectionsOpen, self.conns.len() as u64);
        key
    }

    /// The socket was to go to `core`, which has no room for it.
    pub fn carry_after_all<D: Driver>(&mut self, driver: &mut D, core: usize, socket: FreshSocket) {
        self.loads.took_back(core);
        self.carry(driver, socket);
    }

    pub(super) fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.loads.close();
        self.accept_again_ms = None;
        for index in 0..self.listeners.len() {
            if self.listeners[index].state == Accepting::Armed {
                self.listeners[index].state = Accepting::Ending;
                let armed = user_data(Op::Accept, 0, index as u32);
                let entry = opcode::AsyncCancel::new(armed).build().user_data(user_data(
                    Op::Aside,
                    0,
                    super::IGNORED,
                ));
                // SAFETY: points to nothing.
                unsafe { self.ring.push(&entry) };
            }
        }
    }

    /// Accepts what the kernel has queued, once, and closes the listener. What arrives between the two is
    /// reset by the kernel.
    fn end_accepting<D: Driver>(&mut self, driver: &mut D, index: usize) {
        if self.socket(index).is_some_and(|socket| socket.set_nonblocking(true).is_ok()) {
            self.accept_waiting(driver, index, usize::MAX);
            self.accept_again_ms = None;
        }
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.state = Accepting::Ended;
            listener.socket = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_connections_go_where_there_are_fewest() {
        let loads = Loads::for_cores(3, true);
        let placed: Vec<usize> = (0..6).map(|_| loads[0].place()).collect();
        assert_eq!(placed, [0, 1, 2, 0, 1, 2]);
        loads[2].left();
        assert_eq!(loads[0].place(), 2);
        loads[2].close();
        loads[0].left();
        assert_eq!(loads[1].place(), 0);
        loads[1].took_back(0);
        assert_eq!(loads[1].place(), 0);
    }

    #[test]
    fn without_balance_they_stay() {
        let loads = Loads::for_cores(2, false);
        assert_eq!((0..3).map(|_| loads[1].place()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
