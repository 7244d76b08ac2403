//! Against servers of a few lines that send exactly what a case needs.

use super::*;
use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    thread,
};

/// One short text frame of a server.
fn text(payload: &str) -> Vec<u8> {
    [&[0x81, u8::try_from(payload.len()).unwrap()], payload.as_bytes()].concat()
}

fn greeting() -> Vec<u8> {
    let connect = text(r#"{"id":1,"connect":{"client":"k","pong":true}}"#);
    [connect, text(r#"{"id":2,"subscribe":{}}"#)].concat()
}

#[derive(Default)]
struct Frames(Vec<Vec<u8>>);

impl Load for Frames {
    fn on_frame(&mut self, _: usize, frame: &[u8], _: u64) -> Result<bool, BenchError> {
        self.0.push(frame.to_vec());
        Ok(frame == b"{}")
    }
}

fn read_until(stream: &mut TcpStream, done: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut input = Vec::new();
    while !done(&input) {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the client left after {input:?}");
        input.extend_from_slice(&part[..count]);
    }
    input
}

fn accept(listener: &TcpListener, answer: &str) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    read_until(&mut stream, |input| input.ends_with(b"\r\n\r\n"));
    stream.write_all(answer.as_bytes()).unwrap();
    stream
}

fn engine(listener: &TcpListener) -> Engine {
    let url = format!("ws://{}/x", listener.local_addr().unwrap());
    let target = Target::parse(&url).unwrap();
    Engine::new(Options {
        target,
        protocol: Protocol::Json,
        token: String::new(),
        spin: false,
        compression: false,
        transport: Transport::default(),
    })
    .unwrap()
}

fn upgraded() -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {}\r\n\r\n", frames::ACCEPT)
}

// Runs one connection against a server that sends `bytes`, one by one, after the greeting; until the
// load has seen `frames` frames, or the run ended.
fn serve(answer: &str, bytes: &[&[u8]], frames: usize) -> (Result<(), BenchError>, Vec<Vec<u8>>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut engine = engine(&listener);
    let (answer, bytes) = (answer.to_owned(), bytes.concat());
    let server = thread::spawn(move || {
        let mut stream = accept(&listener, &answer);
        if !answer.contains(" 101 ") {
            return Vec::new();
        }
        for byte in &bytes {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let mut load = Frames::default();
    let mut result = engine.open(1, |_| Some("c".into()), &mut load);
    while result.is_ok() && load.0.len() < frames {
        result = engine.poll(Duration::from_millis(100), &mut load);
    }
    drop(engine);
    (result, load.0, server.join().unwrap())
}

#[test]
fn frames_cut_anywhere_arrive_whole() {
    let parts: [&[u8]; 4] = [&greeting(), b"\x81\x03abc", b"\x01\x02de\x89\x01p\x80\x01f", b"\x81\x02{}"];
    let (result, frames, sent) = serve(&upgraded(), &parts, 3);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(frames, [b"abc".to_vec(), b"def".to_vec(), b"{}".to_vec()]);
    // Connect and subscribe in one frame, a pong of the transport, a pong of the protocol: all masked.
    let mut opcodes = Vec::new();
    let mut at = 0;
    while let Some([first, second, ..]) = sent.get(at..) {
        assert_eq!(second & 0x80, 0x80);
        opcodes.push(first & 0x0f);
        at += 6 + usize::from(second & 0x7f);
    }
    assert_eq!(opcodes, [frames::TEXT, frames::PONG, frames::TEXT]);
}

/// A stream that was asked for, answered with `answer` byte by byte; what was seen and what was asked.
fn stream(
    transport: Transport,
    protocol: Protocol,
    answer: &[u8],
    frames: usize,
) -> (Result<(), BenchError>, Vec<Vec<u8>>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/connection/websocket", listener.local_addr().unwrap());
    let (target, token) = (Target::parse(&url).unwrap(), "t".to_owned());
    let options = Options { target, protocol, token, spin: false, compression: false, transport };
    let mut engine = Engine::new(options).unwrap();
    let answer = answer.to_vec();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        // The request is one write of the client.
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).unwrap();
        asked.truncate(count);
        for byte in &answer {
            // The client may have given up.
            let _ = stream.write_all(&[*byte]);
        }
        let _ = stream.read_to_end(&mut Vec::new());
        asked
    });
    let mut load = Frames::default();
    let mut result = engine.open(1, |_| Some("c".into()), &mut load);
    while result.is_ok() && load.0.len() < frames {
        result = engine.poll(Duration::from_millis(100), &mut load);
    }
    drop(engine);
    (result, load.0, server.join().unwrap())
}

const BEGUN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunks(parts: &[&[u8]]) -> Vec<u8> {
    let chunk = |part: &&[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    [BEGUN.as_bytes(), &parts.iter().flat_map(chunk).collect::<Vec<u8>>()].concat()
}

#[test]
fn messages_of_streams_arrive_whole_however_they_are_cut() {
    #[track_caller]
    fn check(transport: Transport, protocol: Protocol, parts: &[&[u8]], want: &[&[u8]], asked: &str) {
        let (result, frames, request) = stream(transport, protocol, &chunks(parts), want.len());
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(frames, want, "{transport:?}");
        let request = String::from_utf8_lossy(&request).into_owned();
        assert!(request.starts_with(asked) && request.contains("subscribe"), "{request}");
    }
    let connect = br#"{"id":1,"connect":{"client":"k","ping":25}}"#;
    let subscribe = br#"{"id":2,"subscribe":{}}"#;
    check(
        Transport::HttpStream,
        Protocol::Json,
        &[
            &[connect, b"\n{\"id\":2,\"sub".as_slice()].concat(),
            b"scribe\":{}}\n",
            b"{\"a\":1}\n{}\n",
            b"{\"b\"",
            b":2}\n",
        ],
        &[b"{\"a\":1}\n{}", b"{\"b\":2}"],
        "POST /connection/http_stream HTTP/1.1\r\n",
    );
    let event = |message: &[u8]| [b"data: ", message, b"\n\n"].concat();
    let (query, last) =
        ("GET /connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22", event(b"{\"b\":2}"));
    check(
        Transport::Sse,
        Protocol::Json,
        &[b"\r\n", &event(connect), &event(subscribe), &event(b"{\"a\":1}"), &last[..9], &last[9..]],
        &[b"{\"a\":1}", b"{\"b\":2}"],
        query,
    );
    let greeting = b"\x07\x08\x01\x2a\x03\x0a\x01k\x04\x08\x02\x32\x00";
    let (result, frames, request) =
        stream(Transport::HttpStream, Protocol::Protobuf, &chunks(&[greeting, b"\x03a", b"bc\x00"]), 1);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(frames, [b"\x03abc\x00"]);
    assert!(String::from_utf8_lossy(&request).contains("\r\nContent-Type: application/octet-stream\r\n"));
}

#[test]
fn streams_that_cannot_be_measured_end_the_run() {
    #[track_caller]
    fn check(answer: &[u8], want: &str) {
        let (result, _, _) = stream(Transport::HttpStream, Protocol::Json, answer, usize::MAX);
        let text = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(want), "{text}");
    }
    let greeting: &[u8] =
        b"{\"id\":1,\"connect\":{\"client\":\"k\",\"ping\":25,\"pong\":true}}\n{\"id\":2,\"subscribe\":{}}\n";
    check(
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        "/connection/http_stream is no http_stream: the server answered HTTP 404",
    );
    check(&[BEGUN.as_bytes(), b"x\r\n"].concat(), "not in chunks");
    check(&chunks(&[greeting, b""]), "end of the body");
    check(&chunks(&[greeting, b"{}\n"]), "pings");
    check(&chunks(&[b"{\"id\":1,\"error\":{\"code\":101,\"message\":\"x\"}}\n"]), "101 x");
}

#[test]
fn whatever_harms_one_connection_ends_the_run() {
    #[track_caller]
    fn check(answer: &str, bytes: &[&[u8]], want: &str) {
        let (result, _, _) = serve(answer, bytes, usize::MAX);
        let text = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(want), "{text}");
    }
    check("HTTP/1.1 503 Busy\r\n\r\n", &[], "HTTP 503 Busy");
    check(&upgraded(), &[&text(r#"{"id":1,"error":{"code":101,"message":"x"}}"#)], "101 x");
    check(&upgraded(), &[&greeting(), b"\x88\x06\x0b\xc0slow"], "3008 slow");
    check(&upgraded(), &[b"\x81\x01x"], "not valid JSON");
    check(&upgraded(), &[&greeting(), b"\x81\x81"], "masked");
}

#[test]
fn too_few_files_are_said_before_any_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut engine = engine(&listener);
    let limit = usize::try_from(sys::raise_file_limit().unwrap()).unwrap();
    let result = engine.open(limit, |_| None, &mut Frames::default());
    assert!(matches!(result, Err(BenchError::Files { .. })), "{result:?}");
    assert_eq!(engine.connections(), 0);
}

#[test]
fn failures_are_counted_where_they_are_forgiven_and_all_can_be_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut engine = engine(&listener);
    // The first and the third are let in, the second is not; then two are cut, and another comes.
    let server = thread::spawn(move || {
        let mut streams = Vec::new();
        let mut reset = false;
        for number in 0..4 {
            let answer = if number == 1 { "HTTP/1.1 503 Busy\r\n\r\n".to_owned() } else { upgraded() };
            let mut stream = accept(&listener, &answer);
            if number != 1 {
                stream.write_all(&greeting()).unwrap();
            }
            if number == 2 {
                reset = is_reset(&stream);
            }
            streams.push(stream);
        }
        // They stay open until the end of the test.
        (reset, streams)
    });
    engine.forgive = true;
    engine.opening_max = 1;
    let channel = |_| Some("c".to_owned());
    engine.open(3, channel, &mut Frames::default()).unwrap();
    assert_eq!((engine.connections(), engine.ready, engine.lost.len()), (3, 2, 1));
    assert!(engine.lost[0].to_string().contains("503"), "{}", engine.lost[0]);
    engine.cut(1, true).unwrap();
    assert_eq!((engine.connections(), engine.ready, engine.lost.len()), (1, 1, 0));
    engine.open(2, channel, &mut Frames::default()).unwrap();
    assert_eq!((engine.connections(), engine.ready), (2, 2));
    let (reset, _streams) = server.join().unwrap();
    assert!(reset, "a cut is a reset");
}

/// Reads to the end: whether it is a reset.
fn is_reset(mut stream: &TcpStream) -> bool {
    stream.read_to_end(&mut Vec::new()).is_err_and(|it| it.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn local_addresses_change_before_their_ports_run_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut engine = engine(&listener);
    let sources: Vec<_> = (0..50_001).map(|_| engine.next_source()).collect();
    assert_eq!((sources[0], sources[24_999]), (None, None));
    assert_eq!(sources[25_000], Some([127, 0, 0, 2].into()));
    assert_eq!(
        (sources[49_999], sources[50_000]),
        (Some([127, 0, 0, 2].into()), Some([127, 0, 0, 3].into()))
    );
}
