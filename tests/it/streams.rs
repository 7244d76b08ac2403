//! Sessions in the body of a response (`http_stream`, `sse`) and the requests that speak for them.

use crate::{
    client::WebSocket,
    http::{Answer, answer, exchange, field, get, post},
    server::{Server, VARIANTS, eventually},
};
use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::TcpStream,
};

const BOTH: [&str; 2] = ["http_stream.enabled=true", "sse.enabled=true"];

/// A client that reads the body of its response chunk by chunk.
pub struct Stream {
    stream: TcpStream,
    pub head: String,
    /// Messages read and not asked for.
    messages: VecDeque<String>,
    /// Bytes in front of the messages of a chunk, and behind each.
    wrapping: (&'static str, &'static str),
    pub ended: bool,
}

impl Stream {
    pub fn open(server: &Server, request: &str, wrapping: (&'static str, &'static str)) -> Self {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).expect("a write");
        let head = answer(&mut stream, true).expect("a head").head;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Self { stream, head, messages: VecDeque::new(), wrapping, ended: false }
    }

    pub fn http_stream(server: &Server, commands: &str) -> Self {
        Self::open(server, &posted("/connection/http_stream", "", commands), ("", "\n"))
    }

    pub fn sse(server: &Server, query: &str) -> Self {
        let request = format!("GET /connection/sse?cf_connect={query} HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut stream = Self::open(server, &request, ("data: ", "\n\n"));
        assert_eq!(stream.chunk().as_deref(), Some(&b"\r\n"[..]));
        stream
    }

    /// The next chunk; `None`: the body has ended.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            assert_eq!(self.stream.read(&mut byte).expect("a chunk"), 1, "the body is cut off");
            line.push(byte[0]);
        }
        let size = std::str::from_utf8(&line[..line.len() - 2]).expect("a size");
        let mut chunk = vec![0; usize::from_str_radix(size, 16).expect("a size") + 2];
        self.stream.read_exact(&mut chunk).expect("a chunk");
        assert_eq!(chunk.split_off(chunk.len() - 2), b"\r\n");
        self.ended = chunk.is_empty();
        (!self.ended).then_some(chunk)
    }

    /// The next message; `None`: the body has ended.
    pub fn message(&mut self) -> Option<String> {
        if let Some(message) = self.messages.pop_front() {
            return Some(message);
        }
        let chunk = String::from_utf8(self.chunk()?).expect("text");
        let (before, behind) = self.wrapping;
        let whole = chunk.strip_suffix(behind).expect("whole messages");
        self.messages = whole
            .split(behind)
            .map(|message| message.strip_prefix(before).expect("a message").to_owned())
            .collect();
        self.messages.pop_front()
    }
}

pub fn posted(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Session and node of a reply to connect.
fn names(reply: &str) -> (String, String) {
    let of = |key: &str| {
        let at = reply.find(key).unwrap_or_else(|| panic!("no {key} in {reply}")) + key.len();
        reply[at..].split('"').next().expect("a value").to_owned()
    };
    (of(r#""session":""#), of(r#""node":""#))
}

fn emulate(server: &Server, (session, node): &(String, String), commands: &str) -> (u16, String) {
    let commands = commands.replace('"', "\\\"").replace('\n', "\\n");
    post(server, "/emulation", &format!(r#"{{"session":"{session}","node":"{node}","data":"{commands}"}}"#))
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const CONNECT_QUERY: &str = "%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D";

/// Connects, subscribes by a request, hears what another client publishes, and is told when it ends.
fn converse(server: &Server, mut stream: Stream) {
    let reply = stream.message().expect("a reply");
    assert!(reply.starts_with(r#"{"id":1,"connect":{"client":""#), "{reply}");
    assert!(reply.contains(r#","ping":25,"pong":true,"session":""#), "{reply}");
    let names = names(&reply);
    // Requests are taken by whatever core their connection is on.
    for id in 2..10 {
        let answer = emulate(server, &names, &format!(r#"{{"id":{id},"rpc":{{}}}}"#));
        assert_eq!(answer, (204, String::new()));
        let error = format!(r#"{{"id":{id},"error":{{"code":108,"message":"not available"}}}}"#);
        assert_eq!(stream.message(), Some(error));
    }
    emulate(server, &names, r#"{"id":100,"subscribe":{"channel":"news"}}"#);
    assert!(stream.message().unwrap().starts_with(r#"{"id":100,"subscribe":{"recoverable":true"#));
    assert!(stream.message().unwrap().starts_with(r#"{"push":{"channel":"news","join":"#));
    let (status, _) = post(server, "/api/publish", r#"{"channel":"news","data":{"a": [1]}}"#);
    assert_eq!(status, 200);
    let push = stream.message().unwrap();
    assert!(push.starts_with(r#"{"push":{"channel":"news","pub":{"data":{"a": [1]},"offset":"#), "{push}");
    emulate(server, &names, "garbage");
    let last = stream.message();
    assert_eq!(last.as_deref(), Some(r#"{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}"#));
    assert_eq!(stream.message(), None);
    assert_eq!(stream.stream.read(&mut [0]).expect("the end"), 0);
    // Nobody is told that there is no such session any more.
    assert_eq!(emulate(server, &names, "{}"), (204, String::new()));
}

#[test]
fn clients_without_websocket() {
    for variant in VARIANTS {
        let server = Server::dev(&variant);
        converse(&server, Stream::http_stream(&server, CONNECT));
        converse(&server, Stream::sse(&server, CONNECT_QUERY));
        // A WebSocket of the same channel gets the same.
        let (mut websocket, _) = WebSocket::connected(&server);
        let both = format!("{CONNECT}\n{}", r#"{"id":2,"subscribe":{"channel":"both"}}"#);
        let mut stream = Stream::http_stream(&server, &both);
        let names = names(&stream.message().unwrap());
        stream.message().unwrap();
        websocket.text(r#"{"id":2,"publish":{"channel":"both","data":"hi"}}"#);
        while !stream.message().unwrap().contains(r#""pub":{"data":"hi","#) {}
        // The client goes: its session with it.
        drop(stream);
        eventually(|| {
            let stats = post(&server, "/api/presence_stats", r#"{"channel":"both"}"#).1;
            stats.contains(r#""num_clients":0"#).then_some(())
        });
        assert_eq!(emulate(&server, &names, "{}").0, 204);
    }
}

#[test]
fn a_request_on_another_core_reaches_the_session() {
    let server = Server::dev(&["runtime.cores=2"]);
    let mut stream = Stream::http_stream(&server, CONNECT);
    let names = names(&stream.message().unwrap());
    let crossed = |server: &Server| -> u64 {
        let page = get(server, "/metrics").1;
        let lines = page.lines().filter(|line| line.starts_with("corecast_mesh_messages_sent_total"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    crossed(&server);
    let of_a_scrape = {
        let before = crossed(&server);
        crossed(&server) - before
    };
    let mut id = 1;
    eventually(|| {
        let before = crossed(&server);
        id += 1;
        assert_eq!(emulate(&server, &names, &format!(r#"{{"id":{id},"rpc":{{}}}}"#)).0, 204);
        assert!(stream.message().unwrap().starts_with(&format!(r#"{{"id":{id},"error""#)));
        // There and back, beside what the page itself costs.
        (crossed(&server) - before == of_a_scrape + 2).then_some(())
    });
}

#[test]
fn streams_end_with_a_reason() {
    let mut server = Server::dev(&["client.stale_close_delay=100ms", "client.token.hmac_secret_key=secret"]);
    let last = |commands: &str| {
        let mut stream = Stream::http_stream(&server, commands);
        let told = stream.message();
        while stream.message().is_some() {}
        told.expect("a reason")
    };
    let reason = |code: u16, reason: &str| {
        format!(r#"{{"push":{{"disconnect":{{"code":{code},"reason":"{reason}"}}}}}}"#)
    };
    assert_eq!(last("x"), reason(3501, "bad request"));
    assert_eq!(last(""), reason(3501, "bad request"));
    assert_eq!(last(r#"{"id":1,"subscribe":{"channel":"a"}}"#), reason(3501, "bad request"));
    assert_eq!(last(r#"{"id":1,"connect":{"token":"x"}}"#), reason(3500, "invalid token"));
    // The end of the server.
    let mut stream = Stream::sse(&server, CONNECT_QUERY);
    stream.message().unwrap();
    server.signal("TERM");
    assert_eq!(stream.message(), Some(reason(3001, "shutdown")));
    assert_eq!(stream.message(), None);
    drop(stream);
    assert!(server.ended().success());
}

#[test]
fn an_old_client_gets_a_body_that_ends_with_the_connection() {
    let server = Server::dev(&[]);
    for (request, want) in [
        (
            format!(
                "POST /connection/http_stream HTTP/1.0\r\nContent-Length: {}\r\n\r\n{CONNECT}\nx",
                CONNECT.len() + 2
            ),
            [
                "{\"id\":1,\"connect\":",
                "}\n{\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\n",
            ],
        ),
        (
            format!("GET /connection/sse?cf_connect={CONNECT_QUERY}%0Ax HTTP/1.0\r\n\r\n"),
            [
                "\r\ndata: {\"id\":1,\"connect\":",
                "}\n\ndata: {\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\n\n",
            ],
        ),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(field(head, "transfer-encoding"), None);
        assert!(body.starts_with(want[0]) && body.ends_with(want[1]), "{body}");
    }
}

#[test]
fn protobuf_over_http_stream() {
    let server = Server::dev(&["client.ping_interval=9s"]);
    let mut stream = server.connect();
    let head = "POST /connection/http_stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(&[head.as_bytes(), b"\x04\x08\x01\x22\0"].concat()).unwrap();
    let answer = answer(&mut stream, true).unwrap();
    assert_eq!(field(&answer.head, "content-type"), Some("application/octet-stream"));
    let mut reader =
        Stream { stream, head: String::new(), messages: VecDeque::new(), wrapping: ("", ""), ended: false };
    let reply = reader.chunk().unwrap();
    let text = String::from_utf8_lossy(&reply);
    // Fields 9 and 10 of the result: session and node.
    let at = text.find("J ").expect("a session") + 2;
    let session = &text[at..at + 32];
    let node = &text[at + 34..at + 70];
    assert_eq!(usize::from(reply[0]) & 0x7f | usize::from(reply[1]) << 7, reply.len() - 2);
    let mut body = vec![0x0a, node.len() as u8];
    body.extend_from_slice(node.as_bytes());
    body.extend_from_slice(b"\x12\x20");
    body.extend_from_slice(session.as_bytes());
    body.extend_from_slice(b"\x1a\x05\x04\x08\x02\x6a\0");
    let mut post = server.connect();
    let head = format!(
        "POST /emulation HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    post.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    assert_eq!(crate::http::answer(&mut post, false).unwrap().status, 204);
    let error = reader.chunk().unwrap();
    assert!(error.starts_with(b"\x15\x08\x02\x12\x11"), "{error:?}");
}

#[test]
fn what_is_refused() {
    let origin = "client.allowed_origins=[\"https://good.com\"]";
    let server = Server::start(&[
        BOTH[0],
        BOTH[1],
        origin,
        "client.insecure=true",
        "http_stream.max_request_body_size=100",
        "emulation.max_request_body_size=120",
    ]);
    let long = "x".repeat(121);
    let node = |node: &str| format!(r#"{{"session":"s","node":"{node}","data":"{{}}"}}"#);
    let good = "Origin: https://good.com\r\n";
    let evil = "Origin: https://evil.com\r\n";
    for (request, status) in [
        (posted("/connection/http_stream", "", &long), 413),
        (posted("/connection/http_stream", evil, CONNECT), 403),
        (posted("/connection/http_stream/", "", CONNECT), 404),
        ("GET /connection/http_stream HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        ("PUT /connection/sse HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        ("GET /connection/sse HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /connection/sse?cf_connect= HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (format!("GET /connection/sse?cf_connect=x HTTP/1.1\r\nHost: a\r\n{evil}\r\n"), 403),
        ("GET /emulation HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        (posted("/emulation", "", &long), 413),
        (posted("/emulation", "Transfer-Encoding: chunked\r\n", ""), 400),
        (posted("/emulation", "", "{"), 400),
        (posted("/emulation", "", r#"{"session":"s","node":"n","data":{}}"#), 400),
        (posted("/emulation", "", &node("elsewhere")), 404),
        (posted("/emulation", evil, &node("elsewhere")), 403),
        (posted("/emulation", good, &node("elsewhere")), 404),
        (format!("OPTIONS /emulation HTTP/1.1\r\nHost: a\r\n{evil}\r\n"), 403),
    ] {
        let got = exchange(&server, &request);
        assert_eq!(got.status, status, "{request:?}: {got:?}");
        assert_eq!(
            field(&got.head, "access-control-allow-origin").is_some(),
            request.contains(good),
            "{request}"
        );
    }
    // Not served unless enabled.
    let server = Server::start(&["sse.enabled=true"]);
    assert_eq!(exchange(&server, &posted("/connection/http_stream", "", CONNECT)).status, 404);
    assert_eq!(exchange(&server, &posted("/emulation", "", &node("elsewhere"))).status, 404);
    let server = Server::start(&[]);
    assert_eq!(exchange(&server, &posted("/emulation", "", &node("elsewhere"))).status, 404);
    assert_eq!(get(&server, "/connection/sse?cf_connect=x").0, 404);
}

#[test]
fn pages_of_allowed_origins_are_told_so() {
    let server = Server::start(&[
        BOTH[0],
        BOTH[1],
        "client.allowed_origins=[\"https://*.good.com\"]",
        "client.insecure=true",
    ]);
    let origin = "Origin: https://a.good.com\r\n";
    #[track_caller]
    fn check(head: &str) {
        for (name, value) in [
            ("access-control-allow-origin", "https://a.good.com"),
            ("access-control-allow-credentials", "true"),
            ("vary", "Origin"),
        ] {
            assert_eq!(field(head, name), Some(value), "{head}");
        }
    }
    for (path, methods) in [
        ("/emulation", "POST, OPTIONS"),
        ("/connection/http_stream", "POST, OPTIONS"),
        ("/connection/sse", "GET, POST, OPTIONS"),
    ] {
        let asked =
            "Access-Control-Request-Headers: content-type,x-a\r\nAccess-Control-Request-Method: POST\r\n";
        let Answer { status, head, .. } =
            exchange(&server, &format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\n{origin}{asked}\r\n"));
        assert_eq!(status, 204);
        check(&head);
        assert_eq!(field(&head, "access-control-allow-headers"), Some("content-type,x-a"));
        assert_eq!(field(&head, "access-control-allow-methods"), Some(methods));
        assert_eq!(field(&head, "access-control-max-age"), Some("300"));
    }
    let stream = Stream::open(&server, &posted("/connection/http_stream", origin, CONNECT), ("", "\n"));
    check(&stream.head);
    assert_eq!(field(&stream.head, "x-accel-buffering"), Some("no"));
    assert_eq!(field(&stream.head, "transfer-encoding"), Some("chunked"));
    assert!(field(&stream.head, "cache-control").unwrap().contains("no-store"));
    // Who is no browser is told nothing of it.
    let stream = Stream::http_stream(&server, CONNECT);
    assert_eq!(field(&stream.head, "access-control-allow-origin"), None);
}

// A session begins when the answers before it are out, and what is sent behind it is not looked at.
#[test]
fn a_stream_stands_behind_the_answers_before_it() {
    let server = Server::dev(&[]);
    let mut stream = server.connect();
    let publish = posted("/api/publish", "", r#"{"channel":"a","data":{}}"#);
    let requests = [publish.as_str(), &posted("/connection/http_stream", "", CONNECT), &publish].concat();
    stream.write_all(requests.as_bytes()).unwrap();
    assert!(answer(&mut stream, false).unwrap().body.contains("\"offset\":1"));
    let head = answer(&mut stream, true).unwrap().head;
    let mut stream = Stream { stream, head, messages: VecDeque::new(), wrapping: ("", "\n"), ended: false };
    assert!(stream.message().unwrap().starts_with(r#"{"id":1,"connect":"#));
    let next = post(&server, "/api/publish", r#"{"channel":"a","data":{}}"#).1;
    assert!(next.contains("\"offset\":2"), "{next}");
}
