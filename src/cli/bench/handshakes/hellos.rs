//! Clients that say hello and go as soon as they are answered: the work of a whole handshake for the server, key exchange
//! and signature, and hardly any for them. All say the same hello; a server cannot tell.

use super::crowd::Seen;
use crate::cli::{
    bench::{BenchError, engine::STALL_MAX, sys},
    client::Target,
    wire,
};
use rustls::{ClientConnection, pki_types::ServerName};
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

pub struct Hellos {
    target: Target,
    hello: Vec<u8>,
    epoll: sys::Epoll,
    places: Vec<Place>,
    seen: Seen,
    progress: Instant,
}

struct Place {
    stream: TcpStream,
    said: bool,
}

impl Hellos {
    /// # Errors
    /// [`BenchError`] when there is no such server.
    pub fn new(target: Target, places: usize) -> Result<Self, BenchError> {
        let (epoll, hello) = (sys::Epoll::new()?, hello()?);
        let mut hellos = Self {
            target,
            hello,
            epoll,
            places: Vec::with_capacity(places),
            seen: Seen::default(),
            progress: Instant::now(),
        };
        for place in 0..places {
            let stream = hellos.dial(place)?;
            hellos.places.push(Place { stream, said: false });
        }
        Ok(hellos)
    }

    /// # Errors
    /// [`BenchError::Connect`] when a connection cannot be begun, [`BenchError::Stalled`].
    pub fn run(mut self, ended: impl Fn() -> bool) -> Result<Seen, BenchError> {
        let begin = Instant::now();
        while self.seen.done == 0 || !ended() {
            let count = self.epoll.wait(Duration::from_millis(100))?;
            for index in 0..count {
                self.advance(self.epoll.ready(index))?;
            }
            if self.progress.elapsed() > STALL_MAX {
                return Err(BenchError::Stalled { what: "the storm" });
            }
        }
        self.seen.seconds = begin.elapsed().as_secs_f64();
        Ok(self.seen)
    }

    fn dial(&self, place: usize) -> Result<TcpStream, BenchError> {
        let to = self.target.address;
        let stream = sys::connect(to, None).map_err(|source| BenchError::Connect { to, source })?;
        stream.set_nodelay(true)?;
        self.epoll.add(stream.as_raw_fd(), u64::try_from(place).unwrap_or(u64::MAX))?;
        Ok(stream)
    }

    fn advance(&mut self, ready: sys::Ready) -> Result<(), BenchError> {
        let Some(index) = usize::try_from(ready.token).ok().filter(|it| *it < self.places.len()) else {
            return Ok(());
        };
        let place = &mut self.places[index];
        if !place.said && ready.writable {
            // It fits: nothing was sent before.
            place.said = place.stream.write(&self.hello).is_ok_and(|count| count == self.hello.len());
        }
        match place.stream.read(&mut [0; 4096]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !ready.hangup => return Ok(()),
            Ok(count) if count > 0 && place.said => {
                self.seen.done += 1;
                self.progress = Instant::now();
            }
            // Refused, or the server had enough.
            _ => self.seen.failed += 1,
        }
        sys::reset_on_close(place.stream.as_raw_fd())?;
        let stream = self.dial(index)?;
        self.places[index] = Place { stream, said: false };
        Ok(())
    }
}

/// What a client says first, to a server of any name.
fn hello() -> Result<Vec<u8>, BenchError> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut client = ClientConnection::new(wire::strangers()?, name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}
