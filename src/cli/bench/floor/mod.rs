//! The floor: a server that does nothing but move the bytes, for the load client to compare with.
//!
//! It answers just enough of the protocol, in canned form, for the scenarios to run against it unchanged: same
//! client, same bytes, same order. What arrives from publishers in one turn goes to every subscriber as one
//! frame with one write; then each publisher gets its replies in one write. A publisher that is itself
//! subscribed has a channel of its own and gets push and reply in one write. What is published by HTTP goes to the one
//! subscriber of its channel. No permissions, no pings, no
//! limits, one thread. Not a server for anything else, and on loopback only.
//!
//! Two ways to write: a loop of `send`, and an io_uring that submits all sends at once. A third variant only
//! holds connections, for `corecast bench idle --bare`. It shares no code with
//! the server's runtime, lest an improvement or a fault there moved the yardstick as well.

mod canned;
mod conn;
mod hold;
mod ring;
mod turn;

use super::sys;
use conn::{Conn, Epoll};
use std::{io, mem, net::TcpListener, os::fd::AsRawFd};
use turn::Turn;

const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    Send,
    Uring,
    Hold,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[arg(long, value_enum, default_value_t = Variant::Send)]
    variant: Variant,
    /// Port on 127.0.0.1; 0 takes a free one. It is said on standard error.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Serves until it is killed.
///
/// # Errors
/// Those of the sockets, and of the ring where the kernel has none.
pub fn run(args: &Args) -> io::Result<()> {
    sys::raise_file_limit()?;
    let listener = TcpListener::bind(("127.0.0.1", args.port))?;
    if args.variant == Variant::Hold {
        eprintln!("floor ready on {} ", listener.local_addr()?);
        return hold::run(&listener);
    }
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    let ring = match args.variant {
        Variant::Send | Variant::Hold => None,
        Variant::Uring => Some(ring::build()?),
    };
    epoll.add(listener.as_raw_fd(), u64::MAX)?;
    eprintln!("floor ready on {} ", listener.local_addr()?);
    let mut floor = Floor {
        listener,
        epoll,
        conns: Vec::new(),
        subscribers: Vec::new(),
        turn: Turn::default(),
        buffer: vec![0; BUFFER_BYTES],
    };
    match ring {
        None => floor.run_send(),
        Some(ring) => ring::run(&mut floor, ring),
    }
}

struct Floor {
    listener: TcpListener,
    epoll: Epoll,
    /// By token; closed ones leave a hole.
    conns: Vec<Option<Conn>>,
    /// Tokens in the order of subscribing.
    subscribers: Vec<usize>,
    turn: Turn,
    buffer: Vec<u8>,
}

impl Floor {
    fn run_send(&mut self) -> io::Result<()> {
        let mut events = Epoll::events();
        loop {
            for token in self.epoll.wait(&mut events)? {
                self.on_ready(token)?;
            }
            self.turn.began.clear();
            if self.turn.close(self.protobuf()) {
                for &token in &self.subscribers {
                    if let Some(conn) = &self.conns[token] {
                        conn::send_all(conn.fd(), self.turn.frame())?;
                    }
                }
                self.turn.count_writes(self.subscribers.len());
                self.send_replies()?;
            }
            let mut own = mem::take(&mut self.turn.own);
            for (token, bytes) in own.drain(..) {
                if let Some(conn) = &self.conns[token] {
                    conn::send_all(conn.fd(), &bytes)?;
                }
            }
            self.turn.own = own;
        }
    }

    /// Whoever came last decides: a run speaks one protocol.
    fn protobuf(&self) -> bool {
        self.conns.iter().rev().flatten().next().is_some_and(|conn| conn.protobuf)
    }

    fn send_replies(&mut self) -> io::Result<()> {
        for (token, replies) in self.turn.take_replies() {
            self.turn.writes += 1;
            if let Some(conn) = &self.conns[token] {
                conn::send_all(conn.fd(), &replies)?;
            }
        }
        Ok(())
    }

    /// Handles one descriptor of the interest list.
    fn on_ready(&mut self, token: u64) -> io::Result<()> {
        let Ok(token) = usize::try_from(token) else { return Ok(()) };
        if token == usize::MAX {
            return self.accept();
        }
        let Some(conn) = &mut self.conns[token] else { return Ok(()) };
        let open = conn.receive(&mut self.buffer)?;
        self.on_bytes(token, open)
    }

    /// Handles what connection `token` has received.
    fn on_bytes(&mut self, token: usize, open: bool) -> io::Result<()> {
        let Some(conn) = &mut self.conns[token] else { return Ok(()) };
        let before = conn.subscribed;
        canned::answer(conn, token, &mut self.turn)?;
        if conn.subscribed && !before {
            self.subscribers.push(token);
        }
        if !open || conn.done {
            self.conns[token] = None;
            self.subscribers.retain(|it| *it != token);
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    // Tokens begin anew with each run of the client.
                    if self.conns.iter().all(Option::is_none) {
                        self.conns.clear();
                    }
                    self.epoll.add(stream.as_raw_fd(), self.conns.len() as u64)?;
                    self.conns.push(Some(Conn::new(stream)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
