//! What a client could say, said almost rightly: commands with odd values, and bytes that were right once.

use corecast::{
    model::Protocol,
    stdx::rng::Rng,
    wire::client::{decode, encode_command},
};
use std::fmt::Write as _;

/// Channels the attackers meet in; few, so that what one does concerns others.
const CHANNELS: u64 = 32;

const ODD_CHANNELS: [&str; 10] =
    ["", "storm:1", "$private", "room#1,2", "#", ":", "a:b:c", r"\u0000", r"caf\u00e9 \ud83d\ude00", "é"];

const NUMBERS: [&str; 10] = [
    "0",
    "1",
    "-1",
    "10",
    "2147483647",
    "-2147483648",
    "4294967295",
    "9007199254740993",
    "18446744073709551615",
    "300",
];

/// Numbers that fit nowhere, and what is no number.
const GIANTS: [&str; 8] = [
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "-99999999999999999999",
    "1e999",
    "0.1",
    "-0",
    "00",
    "1e-400",
];

/// Bytes that decoders care about.
const TOKENS: [&[u8]; 22] = [
    b"{",
    b"}",
    b"\"",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x80",
    b"\xff",
    b"\\u",
    b"null",
    b"\x7f",
    b"[[[[",
    b"{\"a\":",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"true",
    b"\"id\":0,",
    b"\xe2\x80\xa8",
];

pub fn pick<'a, T: ?Sized>(rng: &mut Rng, all: &[&'a T]) -> &'a T {
    all[rng.below(all.len() as u64) as usize]
}

/// True once in `times`.
pub fn once_in(rng: &mut Rng, times: u64) -> bool {
    rng.below(times) == 0
}

fn channel(rng: &mut Rng) -> String {
    match rng.below(24) {
        0 => pick(rng, &ODD_CHANNELS).to_owned(),
        1 => "c".repeat(250 + rng.below(12) as usize),
        _ => format!("storm{}", rng.below(CHANNELS)),
    }
}

/// A JSON value, mostly small.
fn value(rng: &mut Rng, depth: u32) -> String {
    match rng.below(if depth > 3 { 7 } else { 10 }) {
        0 => "null".into(),
        1 => "true".into(),
        2 => pick(rng, &NUMBERS).into(),
        3 => r#""\ud83d\ude00\n""#.into(),
        4 if once_in(rng, 40) => format!("\"{}\"", "x".repeat(rng.below(70_000) as usize)),
        4..=6 => format!("\"{}\"", "y".repeat(rng.below(40) as usize)),
        7 => "{ }".into(),
        8 => format!("[{}, {}]", value(rng, depth + 1), value(rng, depth + 1)),
        _ => format!("{{\"a\":{},\t\"b\":{}}}", value(rng, depth + 1), value(rng, depth + 1)),
    }
}

/// Optional fields of a subscribe request.
fn wishes(rng: &mut Rng) -> String {
    let mut out = String::new();
    for field in ["recover", "positioned", "recoverable", "join_leave"] {
        if once_in(rng, 3) {
            let _ = write!(out, ",\"{field}\":true");
        }
    }
    if once_in(rng, 3) {
        let _ = write!(
            out,
            ",\"offset\":{},\"epoch\":\"{}\"",
            rng.below(20),
            pick(rng, &["", "abcd", "\\u0000"])
        );
    }
    match rng.below(24) {
        0 => out.push_str(r#","tf":{"key":"a","op":"eq","val":"b"}"#),
        1 => out.push_str(r#","delta":"fossil""#),
        2 => {
            let _ = write!(out, ",\"type\":{}", rng.below(7));
        }
        3 => {
            let _ = write!(out, ",\"flag\":{}", pick(rng, &NUMBERS));
        }
        4 => {
            let _ = write!(out, ",\"data\":{}", value(rng, 0));
        }
        5 => out.push_str(r#","token":"a.b.c""#),
        _ => {}
    }
    out
}

/// The command that opens a session.
pub fn connect(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => format!(r#"{{"id":1,"connect":{{"name":"js","version":"5","data":{}}}}}"#, value(rng, 0)),
        1 => format!(r#"{{"id":1,"connect":{{"subs":{{"{}":{{"recover":true}}}}}}}}"#, channel(rng)),
        2 => r#"{"id":1,"connect":{"headers":{"X":"y"}}}"#.into(),
        _ => r#"{"id":1,"connect":{}}"#.into(),
    }
}

/// One command in JSON; its form is right, its values need not be.
fn command(rng: &mut Rng, id: u64) -> String {
    let channel = channel(rng);
    let request = match rng.below(32) {
        0..=6 => format!(r#""subscribe":{{"channel":"{channel}"{}}}"#, wishes(rng)),
        7..=9 => format!(r#""unsubscribe":{{"channel":"{channel}"}}"#),
        10..=16 => format!(r#""publish":{{"channel":"{channel}","data":{}}}"#, value(rng, 0)),
        17 | 18 => format!(r#""presence":{{"channel":"{channel}"}}"#),
        19 => format!(r#""presence_stats":{{"channel":"{channel}"}}"#),
        20..=23 => {
            let since = if once_in(rng, 2) { r#","since":{"offset":3,"epoch":"abcd"}"# } else { "" };
            let (limit, reverse) = (pick(rng, &NUMBERS), once_in(rng, 2));
            format!(r#""history":{{"channel":"{channel}","limit":{limit},"reverse":{reverse}{since}}}"#)
                .replace(":false", ":true")
        }
        24 | 25 => format!(r#""rpc":{{"method":"m","data":{}}}"#, value(rng, 0)),
        26 => format!(r#""send":{{"data":{}}}"#, value(rng, 0)),
        27 => r#""refresh":{"token":"t"}"#.into(),
        28 => format!(r#""sub_refresh":{{"channel":"{channel}","token":"t"}}"#),
        29 => format!(r#""presence":{{"channel":"{channel}"}},"subscribe":{{"channel":"{channel}"}}"#),
        30 => format!(r#""connect":{}"#, value(rng, 2)),
        _ => return pick(rng, &["{}", r#"{"id":5}"#, r#"{"id":5,"ping":{}}"#]).into(),
    };
    let id = if once_in(rng, 20) { pick(rng, &NUMBERS).to_owned() } else { id.to_string() };
    format!(r#"{{"id":{id},{request}}}"#)
}

/// JSON commands as a frame of the protocol. What cannot be told in Protobuf is sent as it is.
pub fn encoded(protocol: Protocol, json: &str) -> Vec<u8> {
    if protocol == Protocol::Json {
        return json.as_bytes().to_vec();
    }
    let mut frame = Vec::new();
    for command in decode(Protocol::Json, json.as_bytes()) {
        match command {
            Ok(command) => encode_command(protocol, &command, &mut frame),
            Err(_) => return json.as_bytes().to_vec(),
        }
    }
    frame
}

/// One or several commands in one frame.
pub fn commands(rng: &mut Rng, protocol: Protocol, id: u64) -> Vec<u8> {
    let count = match rng.below(64) {
        0 => 1 + rng.below(300),
        1..=16 => 1 + rng.below(4),
        _ => 1,
    };
    let all: Vec<String> = (0..count).map(|n| command(rng, id + n)).collect();
    encoded(protocol, &all.join("\n"))
}

/// Bytes somewhere between right and random.
pub fn mutated(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    match rng.below(16) {
        0 => return (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect(),
        1 => return nested(rng, &bytes),
        2 => {
            let times = 1 + rng.below(50) as usize;
            bytes = bytes.repeat(times.min(1 + 80_000 / bytes.len().max(1)));
        }
        3 => replace_number(rng, &mut bytes),
        _ => {}
    }
    for _ in 0..=rng.below(4) {
        change(rng, &mut bytes);
    }
    bytes
}

/// The bytes inside very many brackets, or a message inside a message in Protobuf.
fn nested(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let depth = 1 + rng.below(20_000) as usize;
    match rng.below(3) {
        0 => [b"{\"id\":1,\"rpc\":{\"data\":".as_slice(), &b"[".repeat(depth), bytes].concat(),
        1 => [b"{\"a\":".repeat(depth.min(10_000)).as_slice(), bytes].concat(),
        _ => {
            let mut out = bytes.to_vec();
            for _ in 0..depth.min(300) {
                let len = out.len() as u64;
                let mut outer = Vec::new();
                corecast::stdx::varint::write(&mut outer, len);
                outer.push(0x22);
                outer.extend_from_slice(&out);
                out = outer;
            }
            out
        }
    }
}

fn replace_number(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let Some(at) = bytes.iter().position(u8::is_ascii_digit) else { return };
    let len = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let giant = pick(rng, &GIANTS);
    bytes.splice(at..at + len, giant.bytes());
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    let len = rng.below(1 + (bytes.len() - at).min(12) as u64) as usize;
    match rng.below(6) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.next_u64() as u8),
        2 => drop(bytes.drain(at..at + len)),
        3 => drop(bytes.splice(at..at, pick(rng, &TOKENS).iter().copied())),
        4 => bytes.truncate(at),
        _ => {
            let piece = bytes[at..at + len].to_vec();
            let to = rng.below(bytes.len() as u64 + 1) as usize;
            bytes.splice(to..to, piece);
        }
    }
}
