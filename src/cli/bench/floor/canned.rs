//! The answers of the floor: canned, except for the numbers of commands and the payloads.
//!
//! Reads what `corecast bench` writes and nothing more: its order of fields is taken for granted.

use super::{
    conn::{self, Conn},
    turn::Turn,
};
use memchr::memmem;
use std::{io, mem, ops::Range};

/// The accept key for the one key the client uses.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
/// Says that a publication by HTTP was taken, in as many bytes as the server.
const POSTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\n\r\n{\"result\":{}}";
const OFFER: &[u8] = b"Sec-WebSocket-Protocol: centrifuge-protobuf\r\n";

/// Handles all whole frames `conn` has received: setup is answered at once, publications go to `turn`.
pub fn answer(conn: &mut Conn, token: usize, turn: &mut Turn) -> io::Result<()> {
    if !conn.upgraded {
        if conn.input.starts_with(b"POST ") {
            answer_posts(conn, token, turn);
            return Ok(());
        }
        let Some(end) = memmem::find(&conn.input, b"\r\n\r\n") else { return Ok(()) };
        let head: Vec<u8> = conn.input.drain(..end + 4).collect();
        if memmem::find(&head, b"Upgrade: websocket").is_none() {
            conn.done = true;
            return conn::send_all(conn.fd(), page(&head, turn).as_bytes());
        }
        conn.protobuf = memmem::find(&head, OFFER).is_some();
        conn.upgraded = true;
        let offer = if conn.protobuf { OFFER } else { b"" };
        conn::send_all(conn.fd(), &[UPGRADED, offer, b"\r\n"].concat())?;
    }
    let mut input = mem::take(&mut conn.input);
    let mut at = 0;
    while let Some((payload, end)) = unmask_next(&mut input, at) {
        at = end;
        let mut rest = &input[payload];
        while let Some(command) = next_command(&mut rest, conn.protobuf) {
            on_command(conn, token, command, turn)?;
        }
    }
    input.drain(..at);
    conn.input = input;
    Ok(())
}

/// Takes the whole requests to publish: one publication each, for the one subscriber of its channel.
fn answer_posts(conn: &mut Conn, token: usize, turn: &mut Turn) {
    begin(conn, token, turn);
    let mut at = 0;
    while let Some((body, end)) = post(&conn.input, at) {
        at = end;
        if let Some((channel, data)) = posted(&conn.input[body]) {
            turn.note_posted(channel_number(channel), channel, data);
        }
        turn.own.push((token, POSTED.to_vec()));
    }
    conn.input.drain(..at);
}

/// Where the body of the request at `at` lies and ends.
fn post(input: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    const LENGTH: &[u8] = b"Content-Length: ";
    let rest = input.get(at..)?;
    let head = memmem::find(rest, b"\r\n\r\n")? + 4;
    let digits = rest.get(memmem::find(&rest[..head], LENGTH)? + LENGTH.len()..head)?;
    let start = at + head;
    let end = start.checked_add(number(digits))?;
    (end <= input.len()).then_some((start..end, end))
}

/// Channel and payload of `{"channel":"...","data":...}`.
fn posted(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = body.strip_prefix(b"{\"channel\":\"")?;
    let (channel, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
    Some((channel, rest.strip_prefix(b"\",\"data\":")?.strip_suffix(b"}")?))
}

/// The number its digits begin with.
fn number(digits: &[u8]) -> usize {
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum: usize, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
}

/// The number at the end of a name: the client counts its channels.
fn channel_number(channel: &[u8]) -> usize {
    let digits = channel.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    number(&channel[channel.len() - digits..])
}

/// Notes a connection that publishes for the first time.
fn begin(conn: &mut Conn, token: usize, turn: &mut Turn) {
    if !conn.publisher {
        conn.publisher = true;
        turn.began.push(token);
    }
}

/// The two counters the load client reads of a server, under the server's names.
fn page(head: &[u8], turn: &Turn) -> String {
    let (status, body) = if head.starts_with(b"GET /metrics ") {
        let (writes, messages) = (turn.writes, turn.messages);
        ("200 OK", format!("corecast_writes_total {writes}\ncorecast_messages_delivered_total {messages}\n"))
    } else {
        ("404 Not Found", String::new())
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Unmasks the frame at `at`; where its payload lies and where it ends.
fn unmask_next(input: &mut [u8], at: usize) -> Option<(Range<usize>, usize)> {
    let (len, header) = match *input.get(at + 1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*input.get(at + 2..)?.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*input.get(at + 2..)?.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let key: [u8; 4] = *input.get(at + header..)?.first_chunk()?;
    let start = at + header + 4;
    let payload = input.get_mut(start..start.checked_add(len)?)?;
    let wide = u64::from_ne_bytes([key, key].concat().try_into().ok()?);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    Some((start..start + len, start + len))
}

enum Command<'a> {
    Connect(&'a [u8]),
    /// Number and channel.
    Subscribe(&'a [u8], &'a [u8]),
    /// Number, channel and payload.
    Publish(&'a [u8], &'a [u8], &'a [u8]),
    Other(&'a [u8]),
}

/// The id of a command is kept as it is written: digits, or the bytes of a varint.
fn next_command<'a>(rest: &mut &'a [u8], protobuf: bool) -> Option<Command<'a>> {
    if protobuf {
        let len = varint(rest)?;
        let (mut command, after) = rest.split_at_checked(len)?;
        *rest = after;
        if command.first() == Some(&0x08) {
            command = &command[1..];
        }
        let id_start = command;
        varint(&mut command);
        let id = &id_start[..id_start.len() - command.len()];
        let Some((tag, mut body)) = command.split_first() else { return Some(Command::Other(id)) };
        return Some(match tag {
            0x22 => Command::Connect(id),
            0x2a => {
                varint(&mut body)?;
                let length = varint_after_tag(&mut body)?;
                Command::Subscribe(id, body.get(..length)?)
            }
            0x3a => {
                varint(&mut body)?;
                let length = varint_after_tag(&mut body)?;
                let (channel, mut body) = body.split_at_checked(length)?;
                let data = varint_after_tag(&mut body)?;
                Command::Publish(id, channel, body.get(..data)?)
            }
            _ => Command::Other(id),
        });
    }
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    let after_id = line.strip_prefix(b"{\"id\":")?;
    let digits = after_id.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, body) = after_id.split_at(digits);
    Some(if body.starts_with(b",\"connect\"") {
        Command::Connect(id)
    } else if body.starts_with(b",\"subscribe\"") {
        Command::Subscribe(id, json_channel(body, b",\"subscribe\":{\"channel\":\"")?)
    } else if body.starts_with(b",\"publish\"") {
        let channel = json_channel(body, b",\"publish\":{\"channel\":\"")?;
        let data = memmem::find(body, b"\"data\":")? + b"\"data\":".len();
        Command::Publish(id, channel, body.get(data..body.len() - 2)?)
    } else {
        Command::Other(id)
    })
}

/// What stands between `before` and the next quote.
fn json_channel<'a>(body: &'a [u8], before: &[u8]) -> Option<&'a [u8]> {
    let channel = body.strip_prefix(before)?;
    channel.get(..memchr::memchr(b'"', channel)?)
}

fn varint(input: &mut &[u8]) -> Option<usize> {
    let mut value = 0usize;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn varint_after_tag(input: &mut &[u8]) -> Option<usize> {
    *input = input.get(1..)?;
    varint(input)
}

fn on_command(conn: &mut Conn, token: usize, command: Command<'_>, turn: &mut Turn) -> io::Result<()> {
    let (id, json, protobuf): (_, &[u8], &[u8]) = match command {
        Command::Publish(id, channel, data) => {
            begin(conn, token, turn);
            if conn.subscribed {
                turn.note_own(token, id, channel, data, conn.protobuf);
            } else {
                turn.note(token, id, channel, data, conn.protobuf);
            }
            return Ok(());
        }
        Command::Connect(id) => {
            // "client" is field 1 of the result.
            (
                id,
                br#","connect":{"client":"6f1d2c3b-4a59-4687-9abc-def012345678"}}"#,
                b"\x2a\x26\x0a\x246f1d2c3b-4a59-4687-9abc-def012345678",
            )
        }
        Command::Subscribe(id, channel) => {
            conn.subscribed = true;
            turn.seat(channel_number(channel), token, conn.protobuf);
            (id, br#","subscribe":{}}"#, b"\x32\0")
        }
        Command::Other(id) => (id, br#","unsubscribe":{}}"#, b"\x3a\0"),
    };
    let mut frame = Vec::new();
    if conn.protobuf {
        let len = 1 + id.len() + protobuf.len();
        frame.extend_from_slice(&[0x82, len as u8 + 1, len as u8, 0x08]);
        frame.extend_from_slice(id);
        frame.extend_from_slice(protobuf);
    } else {
        let len = b"{\"id\":".len() + id.len() + json.len();
        frame.extend_from_slice(&[0x81, len as u8]);
        frame.extend_from_slice(b"{\"id\":");
        frame.extend_from_slice(id);
        frame.extend_from_slice(json);
    }
    conn::send_all(conn.fd(), &frame)
}
