//! One hostile connection, from its first byte to its end. Everything it sends follows from its number.

use super::{
    Target,
    frame::{broken, close, control, deflated, fragments, opcode_of, whole},
    heard::{Ears, is_documented},
    http,
    message::{commands, connect, encoded, mutated, once_in},
};
use corecast::{model::Protocol, stdx::rng::Rng, wire::websocket::Opcode};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// A server that lets a connection wait for so long has forgotten it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait for an answer that need not come.
const QUIET: Duration = Duration::from_millis(10);

/// What came of connections.
#[derive(Debug, Default)]
pub struct Tally {
    pub sessions: u64,
    /// WebSocket frames and HTTP requests sent.
    pub frames: u64,
    /// Of these, how many were wrong or mutated byte by byte.
    pub mutated: u64,
    /// Messages heard from the server.
    pub messages: u64,
    /// How connections ended, by close code; 0 is an end without a close frame, 1 our own.
    pub ends: BTreeMap<u16, u64>,
    pub statuses: BTreeMap<u16, u64>,
}

impl Tally {
    pub fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.frames += other.frames;
        self.mutated += other.mutated;
        self.messages += other.messages;
        for (code, count) in &other.ends {
            *self.ends.entry(*code).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }
}

/// Connects; waits while this machine has no port to give.
pub fn dial(target: &Target) -> Result<TcpStream, String> {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&target.address, PATIENCE) {
            Ok(stream) => {
                let set = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
                    .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
                set.map_err(|error| format!("socket options: {error}"))?;
                return Ok(stream);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse)
                    && start.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(format!("no connection: {error}")),
        }
    }
}

pub fn upgrade(protocol: Protocol, deflates: bool) -> String {
    let offer = if deflates { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let query = if protocol == Protocol::Json { "" } else { "?cf_protocol=protobuf" };
    format!(
        "GET /connection/websocket{query} HTTP/1.1\r\nHost: attack\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    )
}

/// What is sent, and whether the server may echo a close code of ours.
struct Script {
    protocol: Protocol,
    /// Compression is offered.
    deflates: bool,
    bytes: Vec<u8>,
    /// Where to cut the bytes into writes.
    cuts: Vec<usize>,
    may_close: bool,
    /// The frames are in order, whatever they say: a ping behind them is answered, or the connection closed.
    orderly: bool,
}

/// What the ping at the end of an orderly script carries.
const END: &[u8] = b"the end";

fn script(rng: &mut Rng, tally: &mut Tally) -> Script {
    let protocol = if once_in(rng, 2) { Protocol::Json } else { Protocol::Protobuf };
    let (opcode, deflates) = (opcode_of(protocol), once_in(rng, 2));
    let mut script = Script {
        protocol,
        deflates,
        bytes: upgrade(protocol, deflates).into_bytes(),
        cuts: Vec::new(),
        may_close: false,
        orderly: true,
    };
    let bytes = &mut script.bytes;
    script.cuts.push(bytes.len());
    if !once_in(rng, 16) {
        let hello = encoded(protocol, &connect(rng));
        whole(rng, opcode, &hello, bytes);
        tally.frames += 1;
    }
    for round in 0..rng.below(5) {
        if once_in(rng, 3) {
            script.cuts.push(bytes.len());
        }
        tally.frames += match rng.below(12) {
            0 => {
                control(rng, bytes);
                1
            }
            1 | 2 => {
                let payload = commands(rng, protocol, 2 + round * 300);
                fragments(rng, opcode, &payload, bytes)
            }
            3..=6 if deflates => {
                let payload = commands(rng, protocol, 2 + round * 300);
                deflated(rng, opcode, &payload, bytes);
                1
            }
            _ => {
                let payload = commands(rng, protocol, 2 + round * 300);
                whole(rng, opcode, &payload, bytes);
                1
            }
        };
    }
    // Most often the last frame is one that the connection may not survive.
    let start = bytes.len();
    let payload = commands(rng, protocol, 3000);
    let count = match rng.below(16) {
        0 | 1 => 0,
        2..=8 => {
            let payload = mutated(rng, payload);
            if once_in(rng, 6) {
                fragments(rng, opcode, &payload, bytes)
            } else if deflates && once_in(rng, 2) {
                deflated(rng, opcode, &payload, bytes);
                1
            } else {
                whole(rng, opcode, &payload, bytes);
                1
            }
        }
        9 => {
            script.may_close = true;
            close(rng, bytes);
            1
        }
        _ => {
            (script.may_close, script.orderly) = (true, false);
            broken(rng, opcode, &payload, bytes);
            1
        }
    };
    tally.frames += count;
    tally.mutated += count;
    if once_in(rng, 2) {
        let len = (bytes.len() - start) as u64;
        script.cuts.push(start + rng.below(len + 1) as usize);
    }
    if script.orderly {
        whole(rng, Opcode::Ping, END, bytes);
    }
    if once_in(rng, 16) {
        // All in one segment with the handshake.
        script.cuts.clear();
    }
    script
}

/// Ends that are nobody's fault: the server was faster.
fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

/// False when the peer has ended the connection.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<bool, String> {
    match stream.write_all(bytes) {
        Ok(()) => Ok(true),
        Err(error) if is_end(&error) => Ok(false),
        Err(error) => Err(format!("the server takes nothing: {error}")),
    }
}

/// Runs the connection with this number.
///
/// # Errors
/// What the server did wrong.
pub fn run(target: &Target, seed: u64, number: u64, tally: &mut Tally) -> Result<(), String> {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    tally.sessions += 1;
    if once_in(&mut rng, 16) {
        return http::run(target, &mut rng, tally);
    }
    let script = script(&mut rng, tally);
    let mut stream = dial(target)?;
    let mut sent = 0;
    for cut in script.cuts.iter().copied().chain([script.bytes.len()]) {
        if sent < cut && !send(&mut stream, &script.bytes[sent..cut])? {
            break;
        }
        sent = sent.max(cut);
    }
    match rng.below(12) {
        // Gone in the middle; with something unread this is a reset.
        0 => {
            *tally.ends.entry(1).or_default() += 1;
            Ok(())
        }
        // The end comes with the last bytes.
        1 | 2 => {
            let _ = stream.shutdown(Shutdown::Write);
            listen(&mut stream, &script, None, tally)
        }
        _ if script.orderly => listen(&mut stream, &script, Some(PATIENCE), tally),
        // Nobody knows whether an answer is due.
        _ => listen(&mut stream, &script, Some(QUIET), tally),
    }
}

/// Reads to the end, which must come. `open`: our side is still open, and is closed after a silence of so
/// long, which an orderly script does not allow.
fn listen(
    stream: &mut TcpStream,
    script: &Script,
    open: Option<Duration>,
    tally: &mut Tally,
) -> Result<(), String> {
    let (mut head, mut ears) = (Some(Vec::new()), Ears::new(script.protocol, script.deflates));
    let mut buffer = [0; 16 * 1024];
    let mut open = open;
    let timeout = |stream: &TcpStream, time| stream.set_read_timeout(Some(time)).map_err(|e| e.to_string());
    timeout(stream, open.unwrap_or(PATIENCE))?;
    loop {
        if open.is_some() && ears.closed.is_some() {
            open = None;
            let _ = stream.shutdown(Shutdown::Write);
            timeout(stream, PATIENCE)?;
        } else if open == Some(PATIENCE) && ears.pongs.iter().any(|it| it == END) {
            // A close may follow, when an earlier command waited for another core.
            open = Some(QUIET);
            timeout(stream, QUIET)?;
        }
        let bytes = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => &mut buffer[..len],
            Err(error) if is_end(&error) => break,
            Err(_) if open == Some(QUIET) => {
                open = None;
                let _ = stream.shutdown(Shutdown::Write);
                timeout(stream, PATIENCE)?;
                continue;
            }
            Err(error) => return Err(format!("the server does not let go: {error}")),
        };
        match &mut head {
            None => ears.hear(bytes, |_| {})?,
            Some(collected) => {
                collected.extend_from_slice(bytes);
                let Some(at) = collected.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
                if !collected.starts_with(b"HTTP/1.1 101 ") {
                    return Err(format!("no upgrade: {}", String::from_utf8_lossy(collected)));
                }
                ears.hear(&mut collected[at + 4..], |_| {})?;
                head = None;
            }
        }
    }
    tally.messages += ears.messages;
    let code = match &ears.closed {
        None => 0,
        Some((code, reason)) if is_documented(*code, reason, script.may_close) => code.unwrap_or(1005),
        Some((code, reason)) => return Err(format!("closed with {code:?} {reason:?}")),
    };
    *tally.ends.entry(code).or_default() += 1;
    Ok(())
}
