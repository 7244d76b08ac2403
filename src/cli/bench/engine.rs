//! The sockets of a run: opens them, reads them all from one thread, and hands each frame to the load.
//!
//! One buffer serves all reads; a connection owns bytes only while a frame is cut in two. Any connection
//! the server refuses or closes ends the run: a benchmark with clients missing says nothing. A scenario that
//! counts what fails says so with [`Engine::forgive`].

mod body;
mod greeting;
mod inflate;
mod reading;
mod storm;
#[cfg(test)]
mod tests;

use super::{BenchError, frames, sys, transport::Transport};
use crate::{
    cli::client::{
        Target,
        message::{self, Body, Subscribed},
    },
    cli::wire::{self, Wire},
    model::Protocol,
    wire::client::{Command, ConnectRequest, SubscribeRequest},
};
use inflate::Inflate;
use std::{
    io::{self, ErrorKind, Write},
    mem,
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

/// Connections that may be on their way in at the same time, unless the scenario says otherwise.
const OPENING_MAX: usize = 128;
/// Descriptors this process needs beside its connections.
pub const FILES_SPARE: u64 = 32;
/// Nothing at all from the server for so long ends the run.
pub const STALL_MAX: Duration = Duration::from_secs(10);
/// Nothing new for so long after the last publication, and nothing comes any more.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
const BUFFER_BYTES: usize = frames::FRAME_MAX + 64 * 1024;

/// What the scenario does with what arrives.
pub trait Load {
    /// One message of the transport on connection `conn`, at `now_ns` of the run. True: a ping was in it.
    ///
    /// # Errors
    /// [`BenchError`] ends the run.
    fn on_frame(&mut self, conn: usize, frame: &[u8], now_ns: u64) -> Result<bool, BenchError>;

    /// What the connect of connection `conn` says beyond the token of all.
    fn introduce(&self, _conn: usize, _request: &mut ConnectRequest<'static>) {}

    /// What the subscribe of connection `conn` asks beyond the channel.
    fn wish(&self, _conn: usize, _request: &mut SubscribeRequest<'static>) {}

    /// Connection `conn` is subscribed, `now_ns` into the run.
    ///
    /// # Errors
    /// [`BenchError`] ends the run.
    fn on_subscribed(&mut self, _: usize, _: Subscribed, _now_ns: u64) -> Result<(), BenchError> {
        Ok(())
    }

    /// Something happened to a socket of the scenario's own: see [`Engine::watch`].
    ///
    /// # Errors
    /// [`BenchError`] ends the run.
    fn on_socket(&mut self, _: u64, _: sys::Ready) -> Result<(), BenchError> {
        Ok(())
    }
}

/// Ignores everything but pings.
pub struct Quiet(pub Protocol);

impl Load for Quiet {
    fn on_frame(&mut self, _: usize, frame: &[u8], _: u64) -> Result<bool, BenchError> {
        Ok(message::decode(self.0, frame)?.iter().any(|it| it.body == Body::Ping))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    /// So many replies are missing: connect, and subscribe if there is a channel.
    Greeting(u8),
    Ready,
    /// Failed, and forgiven.
    Lost,
}

struct Conn {
    stream: Wire,
    stage: Stage,
    channel: Option<String>,
    transport: Transport,
    /// The beginning of a frame or chunk whose end has not come.
    carry: Vec<u8>,
    /// The beginning of a message.
    fragments: Vec<u8>,
    /// What is in fragments is a compressed message.
    compressed: bool,
    /// What the socket did not take.
    out: Vec<u8>,
}

/// What was read, over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub reads: u64,
    pub bytes: u64,
    /// Time spent waiting for the server, in nanoseconds.
    pub idle_ns: u64,
}

/// How connections are made.
pub struct Options {
    pub target: Target,
    pub protocol: Protocol,
    pub token: String,
    /// Ask again and again instead of sleeping, so that the server never pays for waking us.
    pub spin: bool,
    /// Offer permessage-deflate without context takeover.
    pub compression: bool,
    /// Of connections with a channel; the others are WebSockets.
    pub transport: Transport,
}

pub struct Engine {
    options: Options,
    tls: Option<Arc<rustls::ClientConfig>>,
    epoll: sys::Epoll,
    conns: Vec<Conn>,
    ready: usize,
    buffer: Vec<u8>,
    /// Frames being built for one write.
    scratch: Vec<u8>,
    mask: u32,
    /// Where compression was agreed to.
    inflate: Option<Inflate>,
    /// Where the transport is found at the target.
    stream_path: String,
    /// Events as lines.
    lines: Vec<u8>,
    /// Whether the server asks for pongs.
    pong: bool,
    pub traffic: Traffic,
    started: Instant,
    /// Connections that may be on their way in at the same time.
    pub opening_max: usize,
    /// Connections ever begun: decides their local address.
    dialled: usize,
    /// A connection that fails is counted in [`Engine::lost`] instead of ending the run.
    pub forgive: bool,
    /// What befell the connections that failed.
    pub lost: Vec<BenchError>,
}

impl Engine {
    /// # Errors
    /// [`BenchError::Io`] when the kernel refuses an interest list, [`BenchError::Usage`] when the transport does not
    /// go with the rest.
    pub fn new(options: Options) -> Result<Self, BenchError> {
        if options.transport == Transport::Sse && options.protocol != Protocol::Json {
            return Err(BenchError::Usage("sse speaks JSON only"));
        }
        Ok(Self {
            stream_path: options.transport.path(&options.target.path)?,
            lines: Vec::new(),
            inflate: options.compression.then(Inflate::default),
            tls: options.target.tls.then(wire::anybody).transpose()?,
            options,
            epoll: sys::Epoll::new()?,
            conns: Vec::new(),
            ready: 0,
            buffer: vec![0; BUFFER_BYTES],
            scratch: Vec::new(),
            mask: 0x9e37_79b9,
            pong: false,
            traffic: Traffic::default(),
            started: Instant::now(),
            opening_max: OPENING_MAX,
            dialled: 0,
            forgive: false,
            lost: Vec::new(),
        })
    }

    /// No connection takes up the TLS session of an earlier one: each costs a whole handshake.
    ///
    /// # Errors
    /// [`BenchError::Io`] when TLS cannot be set up.
    pub fn never_resume(&mut self) -> Result<(), BenchError> {
        if self.tls.is_some() {
            self.tls = Some(wire::strangers()?);
        }
        Ok(())
    }

    /// Nanoseconds since the run began.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Opens connections until there are `count`, each subscribed to what `channel` says for its number,
    /// and waits until the server has let all of them in.
    ///
    /// # Errors
    /// [`BenchError`] when the file limit is too low or one connection fails.
    pub fn open(
        &mut self,
        count: usize,
        channel: impl Fn(usize) -> Option<String>,
        load: &mut impl Load,
    ) -> Result<(), BenchError> {
        self.check_files(count)?;
        let mut progress = Instant::now();
        let mut settled_before = self.settled();
        while self.settled() < count {
            while self.conns.len() < count && self.conns.len() - self.settled() < self.opening_max {
                self.start(channel(self.conns.len()))?;
            }
            self.poll(Duration::from_millis(100), load)?;
            if self.settled() > settled_before {
                settled_before = self.settled();
                progress = Instant::now();
            } else if progress.elapsed() > STALL_MAX {
                return Err(BenchError::Stalled { what: "the handshakes" });
            }
        }
        Ok(())
    }

    /// Whether this process may have so many connections.
    fn check_files(&self, count: usize) -> Result<(), BenchError> {
        let limit = sys::raise_file_limit()?;
        let needed = u64::try_from(count).unwrap_or(u64::MAX).saturating_add(FILES_SPARE);
        if needed > limit { Err(BenchError::Files { needed, limit }) } else { Ok(()) }
    }

    /// Connections that are let in or have failed.
    fn settled(&self) -> usize {
        self.ready + self.lost.len()
    }

    fn start(&mut self, channel: Option<String>) -> Result<(), BenchError> {
        let to = self.options.target.address;
        let source = self.next_source();
        let stream = sys::connect(to, source).map_err(|source| BenchError::Connect { to, source })?;
        stream.set_nodelay(true)?;
        let token = u64::try_from(self.conns.len()).unwrap_or(u64::MAX);
        self.epoll.add(stream.as_raw_fd(), token)?;
        let stream = match &self.tls {
            None => Wire::Plain(stream),
            Some(config) => Wire::tls(stream, config, &self.options.target.host)?,
        };
        let transport = if channel.is_some() { self.options.transport } else { Transport::Websocket };
        self.conns.push(Conn {
            stream,
            stage: Stage::Connecting,
            channel,
            transport,
            carry: Vec::new(),
            fragments: Vec::new(),
            compressed: false,
            out: Vec::new(),
        });
        Ok(())
    }

    /// Waits up to `timeout` for the server and handles what it sent.
    ///
    /// # Errors
    /// [`BenchError`] when a connection failed or the load ended the run.
    pub fn poll(&mut self, timeout: Duration, load: &mut impl Load) -> Result<(), BenchError> {
        let before = self.now_ns();
        let count = self.epoll.wait(if self.options.spin { Duration::ZERO } else { timeout })?;
        if count == 0 || !self.options.spin {
            self.traffic.idle_ns += self.now_ns() - before;
        }
        let mut buffer = mem::take(&mut self.buffer);
        for index in 0..count {
            let ready = self.epoll.ready(index);
            let Some(conn) = usize::try_from(ready.token).ok().filter(|it| *it < self.conns.len()) else {
                load.on_socket(ready.token, ready)?;
                continue;
            };
            match self.advance(conn, ready, &mut buffer, load) {
                Err(error) if self.forgive => self.lose(conn, error),
                result => result?,
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Adds one frame to the next write.
    pub fn frame(&mut self, opcode: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        frames::append(&mut self.scratch, opcode, self.mask, fill);
    }

    /// Adds one frame of commands to the next write.
    pub fn commands(&mut self, commands: &[Command<'_>]) {
        let protocol = self.options.protocol;
        let opcode = if protocol == Protocol::Json { frames::TEXT } else { frames::BINARY };
        self.frame(opcode, |out| {
            for (at, command) in commands.iter().enumerate() {
                message::encode(protocol, command, at == 0, out);
            }
        });
    }

    /// Adds a frame of one command to the next write.
    pub fn command(&mut self, command: &Command<'_>) {
        self.commands(std::slice::from_ref(command));
    }

    /// Writes what was added, in one call, to connection `index`.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the connection is gone.
    pub fn write(&mut self, index: usize) -> Result<(), BenchError> {
        let conn = &mut self.conns[index];
        let waiting = !conn.out.is_empty();
        conn.out.append(&mut self.scratch);
        // While older bytes wait, the next edge writes all of them.
        if waiting { Ok(()) } else { self.flush(index) }
    }

    fn flush(&mut self, index: usize) -> Result<(), BenchError> {
        let conn = &mut self.conns[index];
        Ok(write_out(&mut conn.stream, &mut conn.out)?)
    }

    /// Waits until `look` says that everything has come, or what it has seen changes no more.
    ///
    /// # Errors
    /// As [`Engine::poll`].
    pub fn drain<L: Load, S: PartialEq>(
        &mut self,
        load: &mut L,
        look: impl Fn(&L) -> (S, bool),
    ) -> Result<(), BenchError> {
        let (mut before, mut since) = (None, Instant::now());
        loop {
            let (seen, complete) = look(load);
            if complete || since.elapsed() >= DRAIN_PATIENCE {
                return Ok(());
            }
            if before.as_ref() != Some(&seen) {
                (before, since) = (Some(seen), Instant::now());
            }
            self.poll(Duration::from_millis(10), load)?;
        }
    }
}

/// Writes what `stream` takes of `out`; the rest stays.
///
/// # Errors
/// Those of the socket, but for a full one.
pub fn write_out(stream: &mut impl Write, out: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    while sent < out.len() {
        match stream.write(&out[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.drain(..sent);
    Ok(())
}
