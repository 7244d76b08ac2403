//! What only storms need of the engine: many local addresses, cuts, failures that are counted.

use super::{Engine, Load, Stage};
use crate::cli::bench::{BenchError, sys};
use std::{
    net::{IpAddr, Ipv4Addr, Shutdown},
    os::fd::{AsRawFd, RawFd},
    time::{Duration, Instant},
};

/// Connections from one loopback address, below the number of ephemeral ports.
const PER_SOURCE_MAX: usize = 25_000;
/// Time a server has to accept bare connections before the next ones.
const BARE_PAUSE: Duration = Duration::from_millis(2);
/// Loopback addresses used beside the first.
const SOURCES_MAX: usize = 250;

impl Engine {
    /// The local address of the next connection; `None` leaves it to the kernel.
    pub(super) fn next_source(&mut self) -> Option<Ipv4Addr> {
        let source = self.dialled / PER_SOURCE_MAX % SOURCES_MAX;
        self.dialled += 1;
        match self.options.target.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && source > 0 => {
                Some(Ipv4Addr::new(127, 0, 0, u8::try_from(source + 1).unwrap_or(u8::MAX - 1)))
            }
            _ => None,
        }
    }

    /// Counts a failed connection and hangs up.
    pub(super) fn lose(&mut self, index: usize, error: BenchError) {
        let conn = &mut self.conns[index];
        if conn.stage == Stage::Ready {
            self.ready -= 1;
        }
        conn.stage = Stage::Lost;
        // The peer may have hung up before.
        let _ = conn.stream.stream().shutdown(Shutdown::Both);
        // What was built for it must not go to another.
        self.scratch.clear();
        self.lost.push(error);
    }

    /// Closes every connection from number `keep` on, failed ones too: with a reset, or in the usual way,
    /// which keeps their local ports for a minute.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the kernel refuses the reset.
    pub fn cut(&mut self, keep: usize, reset: bool) -> Result<(), BenchError> {
        if reset {
            for conn in self.conns.iter().skip(keep) {
                sys::reset_on_close(conn.stream.stream().as_raw_fd())?;
            }
        }
        self.conns.truncate(keep);
        self.ready = self.conns.iter().filter(|conn| conn.stage == Stage::Ready).count();
        self.lost.clear();
        Ok(())
    }

    /// Opens connections until there are `count`, and sends nothing on them: neither the transport nor the
    /// protocol is spoken. Nothing else of the engine is of use to them.
    ///
    /// # Errors
    /// [`BenchError`] when the file limit is too low or the kernel refuses one.
    pub fn open_bare(&mut self, count: usize) -> Result<(), BenchError> {
        self.check_files(count)?;
        while self.conns.len() < count {
            self.start(None)?;
            if let Some(conn) = self.conns.last_mut() {
                conn.stage = Stage::Ready;
            }
            self.ready += 1;
            // The server's queue of connections has a limit.
            if self.conns.len().is_multiple_of(self.opening_max) {
                std::thread::sleep(BARE_PAUSE);
            }
        }
        Ok(())
    }

    /// Answers pings and hands on what comes, nothing else.
    ///
    /// # Errors
    /// As [`Engine::poll`].
    pub fn rest(&mut self, length: Duration, load: &mut impl Load) -> Result<(), BenchError> {
        let begin = Instant::now();
        while let Some(left) = length.checked_sub(begin.elapsed()) {
            self.poll(left.min(Duration::from_secs(1)), load)?;
        }
        Ok(())
    }

    /// Adds a socket of the scenario's own to the interest list. Its `token`, above any number of
    /// connections, comes back in [`Load::on_socket`].
    ///
    /// # Errors
    /// [`BenchError::Io`] when the kernel does not take it.
    pub fn watch(&self, fd: RawFd, token: u64) -> Result<(), BenchError> {
        Ok(self.epoll.add(fd, token)?)
    }
}
