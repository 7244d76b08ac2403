//! Entry points for fuzzers: each takes any bytes, feeds a decoder and asserts what must hold for all of them.
//! The same functions run under libFuzzer (`fuzz/`) and, on random and mutated bytes, in the tests.
//!
//! The first bytes steer (how the rest is cut into chunks), the others are input.

use super::{
    backend::PollRefresh,
    client::{self, decode_replies, encode_command},
    deflate::{self, Deflater, InflateError, Inflater, Window},
    fossil,
    http::{BodyDecoder, EMPTY_HEADER, Head, HeadLimits, parse_head},
    json, proxy_protocol, sockjs,
    websocket::{Decoder, Event, Opcode, Options, Role, write_header, write_masked},
};
use crate::model::Protocol;
use std::sync::{Arc, OnceLock};

/// Takes any bytes; panics when something does not hold for them.
pub type Target = fn(&[u8]);

/// All fuzz targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("ws_frames", ws_frames),
    ("inflate", inflate),
    ("fossil", fossil_delta),
    ("json_commands", json_commands),
    ("protobuf_commands", protobuf_commands),
    ("v1_commands", v1_commands),
    ("sockjs", sockjs_frames),
    ("backend", backend_answer),
    ("http_head", http_head),
];

/// Cuts `bytes` as `seed` says; every chunk has at least one byte.
fn chunks(bytes: &[u8], seed: u64) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, seed | 1);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let len = (1 + (state % 23) as usize).min(rest.len());
        let (chunk, tail) = rest.split_at(len);
        rest = tail;
        Some(chunk)
    })
}

fn split_seed(input: &[u8]) -> Option<(u64, &[u8])> {
    let (seed, rest) = input.split_first_chunk::<4>()?;
    Some((u64::from(u32::from_le_bytes(*seed)), rest))
}

/// WebSocket frames from a client: chunking does not matter, limits hold, what was heard can be said again.
pub fn ws_frames(input: &[u8]) {
    let Some((seed, bytes)) = split_seed(input) else { return };
    let options = Options { role: Role::Server, message_size_limit: 2048, compression: seed & 1 == 1 };
    let whole = hear(std::iter::once(bytes), &options);
    assert_eq!(whole, hear(chunks(bytes, seed), &options), "the chunks changed what was heard");

    // A server's frame of each message comes back as it was.
    for (opcode, payload) in &whole {
        let Some(opcode) = opcode else { continue };
        assert!(payload.len() <= options.message_size_limit);
        let mut masked = Vec::new();
        write_masked(&mut masked, *opcode, payload, [seed as u8, 7, 0, 255]);
        assert_eq!(hear(std::iter::once(&masked[..]), &options), [(Some(*opcode), payload.clone())]);
        let mut plain = Vec::new();
        write_header(&mut plain, *opcode, payload.len());
        plain.extend_from_slice(payload);
        let client = Options { role: Role::Client, ..options };
        assert_eq!(hear(std::iter::once(&plain[..]), &client), [(Some(*opcode), payload.clone())]);
    }
}

/// Opcode and payload of each event; `None` for compressed messages, close and the error, told in bytes.
fn hear<'c>(chunks: impl Iterator<Item = &'c [u8]>, options: &Options) -> Vec<(Option<Opcode>, Vec<u8>)> {
    let (mut decoder, mut heard, mut fed) = (Decoder::default(), Vec::new(), 0);
    for chunk in chunks {
        let mut bytes = chunk.to_vec();
        fed += bytes.len();
        let mut frames = decoder.feed(&mut bytes, options);
        loop {
            heard.push(match frames.next() {
                Ok(None) => break,
                Ok(Some(Event::Message { compressed: true, payload, .. })) => (None, payload.to_vec()),
                Ok(Some(Event::Message { kind: super::websocket::MessageKind::Text, payload, .. })) => {
                    assert!(std::str::from_utf8(payload).is_ok());
                    (Some(Opcode::Text), payload.to_vec())
                }
                Ok(Some(Event::Message { payload, .. })) => (Some(Opcode::Binary), payload.to_vec()),
                Ok(Some(Event::Ping(payload))) => (Some(Opcode::Ping), payload.to_vec()),
                Ok(Some(Event::Pong(payload))) => (Some(Opcode::Pong), payload.to_vec()),
                Ok(Some(Event::Close { code, reason })) => (None, format!("close {code:?} {reason}").into()),
                Err(error) => {
                    assert!(matches!(error.close_code(), 1002 | 1007 | 1009));
                    (None, format!("{error:?}").into())
                }
            });
        }
        // What is held is in proportion to what has arrived, never to what was announced.
        assert!(decoder.held_bytes() <= 512 + 2 * fed, "{} bytes held of {fed}", decoder.held_bytes());
    }
    heard
}

/// A delta for any source, and two texts: nothing grows beyond its limit, and a delta makes what it was made for.
pub fn fossil_delta(input: &[u8]) {
    let Some((seed, bytes)) = split_seed(input) else { return };
    let (source, target) = bytes.split_at(seed as usize % (bytes.len() + 1));
    if let Ok(made) = fossil::apply(source, target, 4096) {
        assert!(made.len() <= 4096);
    }
    let literals = match std::str::from_utf8(source).and(std::str::from_utf8(target)) {
        Ok(_) => fossil::Literals::Text,
        Err(_) => fossil::Literals::Bytes,
    };
    let mut encoder = fossil::Encoder::default();
    if let Some(delta) = encoder.delta(source, target, literals) {
        assert!(delta.len() < target.len());
        assert!(literals == fossil::Literals::Bytes || std::str::from_utf8(delta).is_ok());
        assert_eq!(fossil::apply(source, delta, target.len()).as_deref(), Ok(target));
    }
}

/// A compressed message, and an offer of compression: the limit holds, nothing of an earlier message shows, and
/// what came out can be compressed and inflated again.
pub fn inflate(input: &[u8]) {
    let Some((seed, payload)) = split_seed(input) else { return };
    let limit = (seed & 0x3fff) as usize;
    let mut inflater = Inflater::default();
    let fresh = inflater.inflate(payload, limit).map(<[u8]>::to_vec);
    assert!(inflater.capacity() <= limit + 1);
    // Whatever came before: a message that filled the window.
    static BEFORE: OnceLock<Box<[u8]>> = OnceLock::new();
    let before = BEFORE.get_or_init(|| {
        let mut deflater = Deflater::new(deflate::Options::default());
        deflater.deflate(Window::Bits15, &b"before ".repeat(6000)).unwrap_or_default().into()
    });
    assert_eq!(inflater.inflate(before, 50_000).map(<[u8]>::len), Ok(42_000));
    let mut deflater = Deflater::new(deflate::Options { level: 1 + (seed >> 16) as u32 % 9, min_size: 0 });
    // Which error it is may depend on how much room there was: with more, what is wrong behind the limit shows.
    let again = inflater.inflate(payload, limit).map(<[u8]>::to_vec);
    assert_eq!(again.ok(), fresh.clone().ok(), "an earlier message shows");
    match fresh {
        Ok(message) => {
            assert!(message.len() <= limit);
            if !message.is_empty() {
                assert_eq!(inflater.inflate(payload, message.len() - 1), Err(InflateError::TooBig));
            }
            let window = Window::ALL[(seed >> 14) as usize % Window::ALL.len()];
            if let Some(again) = deflater.deflate(window, &message) {
                assert!(again.len() < message.len());
                assert_eq!(inflater.inflate(again, message.len()), Ok(&message[..]));
            }
        }
        Err(InflateError::Corrupt) => assert!(inflater.inflate(payload, usize::MAX >> 1).is_err()),
        Err(InflateError::TooBig) => {}
    }
    let head = [b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Extensions: ", payload, b"\r\n\r\n"].concat();
    let mut slots = [EMPTY_HEADER; 4];
    let limits = HeadLimits { size_max: 1 << 16, uri_max: 100 };
    if let Ok(Some(head)) = parse_head(&head, &mut slots, limits)
        && let Some(agreement) = deflate::negotiate(&head.request)
    {
        assert!(agreement.to_string().is_ascii());
    }
}

/// A frame of JSON commands.
pub fn json_commands(input: &[u8]) {
    commands(Protocol::Json, input);
    let _ = decode_replies(Protocol::Json, input).count();
    let valid = serde_json::from_slice::<&serde_json::value::RawValue>(input).is_ok();
    let deep = input.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > json::DEPTH_MAX as usize;
    assert!(json::is_json(input) == valid || deep, "validity");
    if json::is_json(input) {
        assert!(json::contains_only_json(&json::strip_newlines(input)));
    }
}

/// A frame of Protobuf commands.
pub fn protobuf_commands(input: &[u8]) {
    commands(Protocol::Protobuf, input);
    let _ = decode_replies(Protocol::Protobuf, input).count();
}

/// What was read can be written and read again; it ends after an error; a payload in JSON is one JSON value.
fn commands(protocol: Protocol, frame: &[u8]) {
    let mut commands = client::decode(protocol, frame);
    let mut failed = false;
    for item in commands.by_ref() {
        assert!(!failed, "a command after an error");
        let Ok(mut command) = item else {
            failed = true;
            continue;
        };
        if let client::Request::Publish(request) = &mut command.request {
            if let (Protocol::Json, Some(data)) = (protocol, request.data) {
                assert!(json::contains_only_json(data));
            }
            // Empty bytes and no bytes are the same on the wire.
            request.data = request.data.filter(|data| !data.is_empty());
        }
        let mut again = Vec::new();
        encode_command(protocol, &command, &mut again);
        let mut read = client::decode(protocol, &again);
        assert_eq!(read.next(), Some(Ok(command)));
        assert_eq!(read.next(), None);
    }
    assert!(commands.next().is_none());
}

/// A frame of commands of version 1, in either encoding: it ends after an error; a payload in JSON is one JSON value.
pub fn v1_commands(input: &[u8]) {
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        let mut commands = client::v1::decode(protocol, input);
        let mut failed = false;
        for item in commands.by_ref() {
            assert!(!failed, "a command after an error");
            match item {
                Err(_) => failed = true,
                Ok(client::Command { request: client::Request::Publish(request), .. }) => {
                    let data = request.data.filter(|_| protocol == Protocol::Json);
                    assert!(data.is_none_or(json::contains_only_json));
                }
                Ok(_) => {}
            }
        }
        assert!(commands.next().is_none());
    }
}

/// What a backend says of a shared poll: data that is called JSON can stand in a message, and what it names can be
/// asked for.
pub fn backend_answer(input: &[u8]) {
    let Ok(refreshed) = PollRefresh::answer(input) else { return };
    for item in refreshed.items.iter().filter(|item| item.json) {
        assert!(item.data.as_deref().is_none_or(json::contains_only_json));
    }
    let items: Vec<_> = refreshed.items.iter().map(|item| (Arc::from(&*item.key), item.version)).collect();
    let request = PollRefresh { channel: Arc::from(&*refreshed.epoch), items, versioned: true };
    let body: serde_json::Value = serde_json::from_slice(&request.body()).expect("a request is JSON");
    assert_eq!(body["channel"], *request.channel);
    let asked = body["items"].as_array().expect("a list");
    assert_eq!(asked.len(), request.items.len());
    for (asked, (key, version)) in asked.iter().zip(&request.items) {
        assert_eq!((&asked["key"], &asked["version"]), (&(&**key).into(), &(*version).into()));
    }
}

/// A SockJS frame of a client: what was read can be written and read again.
pub fn sockjs_frames(input: &[u8]) {
    let Ok(messages) = sockjs::decode_messages(input) else { return };
    let mut frame = b"[".to_vec();
    for message in &messages {
        frame.extend_from_slice(if frame.len() > 1 { b",\"" } else { b"\"" });
        let from = frame.len();
        frame.extend_from_slice(message.as_bytes());
        sockjs::quote_from(&mut frame, from);
        frame.push(b'"');
    }
    frame.push(b']');
    assert_eq!(sockjs::decode_messages(&frame).as_ref(), Ok(&messages));
}

/// Heads and bodies of requests, and PROXY headers: more bytes never change a verdict, chunking does not matter.
pub fn http_head(input: &[u8]) {
    const LIMITS: HeadLimits = HeadLimits { size_max: 1024, uri_max: 256 };
    const BODY_MAX: u64 = 300;
    let Some((seed, bytes)) = split_seed(input) else { return };
    let mut slots = [EMPTY_HEADER; 16];
    let whole = parse_head(bytes, &mut slots, LIMITS);
    let mut seen = 0;
    for chunk in chunks(bytes, seed) {
        seen += chunk.len();
        let mut slots = [EMPTY_HEADER; 16];
        match parse_head(&bytes[..seen], &mut slots, LIMITS) {
            Ok(None) => assert!(seen < LIMITS.size_max),
            Ok(Some(head)) => {
                let head = (head.len, head.request.method, head.request.path, head.request.framing);
                let whole = whole.as_ref().expect("good at first").as_ref().expect("complete at first");
                let Head { request, len } = whole;
                assert_eq!(head, (*len, request.method, request.path, request.framing));
                break;
            }
            Err(_) => {
                assert!(whole.is_err(), "wrong at first, then {whole:?}");
                break;
            }
        }
    }
    if let Ok(Some(Head { request, len })) = whole {
        let body = &bytes[len..];
        let once = body_of(request.framing, BODY_MAX, std::iter::once(body));
        let sliced = body_of(request.framing, BODY_MAX, chunks(body, seed));
        assert_eq!(once, sliced);
        assert!(once.0.len() as u64 <= BODY_MAX);
    }
    proxied(bytes);
}

/// The bytes of a body and how it ended: `None` when it has not.
fn body_of<'c>(
    framing: super::http::Framing,
    size_max: u64,
    chunks: impl Iterator<Item = &'c [u8]>,
) -> (Vec<u8>, Option<Result<(), super::http::BodyError>>) {
    use super::http::Body;
    let mut body = Vec::new();
    let mut decoder = match BodyDecoder::new(framing, size_max) {
        Ok(decoder) => decoder,
        Err(error) => return (body, Some(Err(error))),
    };
    // An empty chunk at the end: an end that needs no more bytes is seen.
    for mut chunk in chunks.chain(std::iter::once(&[][..])) {
        loop {
            match decoder.next(&mut chunk) {
                Ok(Some(Body::Data(data))) => body.extend_from_slice(data),
                Ok(Some(Body::End)) => return (body, Some(Ok(()))),
                Ok(None) => break,
                Err(error) => return (body, Some(Err(error))),
            }
        }
        assert!(chunk.is_empty());
    }
    (body, None)
}

fn proxied(bytes: &[u8]) {
    let whole = proxy_protocol::parse(bytes);
    if let Ok(Some(found)) = whole {
        assert_eq!(proxy_protocol::parse(&bytes[..found.len]), whole);
        assert_eq!(proxy_protocol::parse(&bytes[..found.len - 1]), Ok(None));
    }
}

#[cfg(test)]
mod tests;
