//! HTTP on the client port: routes, framing, limits, pipelining, the server API's heads.

use crate::{
    client::upgrade,
    server::{Server, VARIANTS, eventually},
};
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// One answer off a stream; `head_only` for answers to HEAD. `None` at the end of the stream.
pub fn answer(stream: &mut TcpStream, head_only: bool) -> Option<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) if head.is_empty() => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && head.is_empty() => {
                return None;
            }
            other => panic!("{other:?} in a head: {}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).expect("a head");
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
    let len = match field(&head, "content-length") {
        Some(len) if !head_only => len.parse().expect("a length"),
        _ => 0,
    };
    let mut body = vec![0; len];
    stream.read_exact(&mut body).expect("a body");
    Some(Answer { status, head, body: String::from_utf8(body).expect("text") })
}

pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

pub fn exchange(server: &Server, request: &str) -> Answer {
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).expect("a write");
    answer(&mut stream, request.starts_with("HEAD ")).expect("an answer")
}

pub fn get(server: &Server, path: &str) -> (u16, String) {
    let answer = exchange(server, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    (answer.status, answer.body)
}

pub fn post(server: &Server, path: &str, body: &str) -> (u16, String) {
    let answer = exchange(server, &posted(path, "", body));
    (answer.status, answer.body)
}

pub fn posted(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn routes() {
    for variant in VARIANTS {
        let server = Server::start(&[variant[0], variant[1], "http_api.key=secret"]);
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: test\r\n\r\n", 200),
            ("GET /health HTTP/1.1\r\nHost: test\r\n\r\n", 200),
            ("GET /health/ HTTP/1.1\r\nHost: test\r\n\r\n", 404),
            ("GET /nope HTTP/1.1\r\nHost: test\r\n\r\n", 404),
            ("HEAD /metrics HTTP/1.1\r\nHost: test\r\n\r\n", 200),
            ("GET http://test/health?x HTTP/1.1\r\nHost: test\r\n\r\n", 200),
            ("POST /health HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", 405),
            ("GET /connection/websocket HTTP/1.1\r\nHost: test\r\n\r\n", 400),
            ("GET /connection/websocket/ HTTP/1.1\r\nHost: test\r\n\r\n", 404),
            ("POST /connection/websocket HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", 405),
            ("GET /api/publish HTTP/1.1\r\nHost: test\r\n\r\n", 405),
            ("GET /api HTTP/1.1\r\nHost: test\r\n\r\n", 405),
            ("POST /api/nope HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", 404),
            ("POST /api/info HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", 401),
            (
                "POST /api/info HTTP/1.1\r\nHost: test\r\nX-API-Key: secreT\r\nContent-Length: 2\r\n\r\n{}",
                401,
            ),
            (
                "POST /api/info HTTP/1.1\r\nHost: test\r\nX-API-Key: secret\r\nContent-Length: 2\r\n\r\n{}",
                200,
            ),
            (
                "POST /api/info HTTP/1.1\r\nHost: test\r\nAuthorization: apikey secret\r\nContent-Length: 2\r\n\r\n{}",
                200,
            ),
            (
                "POST /api/info HTTP/1.1\r\nHost: test\r\nAuthorization: bearer secret\r\nContent-Length: 2\r\n\r\n{}",
                401,
            ),
            ("POST /api/info?api_key=secret HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}", 200),
            ("POST /api/info?api_key=secret HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n{", 400),
            (
                "POST /api?api_key=secret HTTP/1.1\r\nHost: test\r\nContent-Length: 17\r\n\r\n{\"method\":\"info\"}",
                200,
            ),
            // Framing that two readers could understand differently.
            (
                "POST /api/info HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                400,
            ),
            (
                "POST /api/info HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
                400,
            ),
            ("POST /api/info HTTP/1.1\r\nHost: test\r\nContent-Length: +2\r\n\r\n{}", 400),
            ("POST /api/info HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("\x16\x03\x01\x02\r\n\r\n", 400),
        ] {
            let got = exchange(&server, request);
            assert_eq!(got.status, status, "{variant:?} {request:?}: {got:?}");
        }
        assert_eq!(get(&server, "/health"), (200, "{}".to_owned()));
        assert!(exchange(&server, "GET /api HTTP/1.1\r\nHost: a\r\n\r\n").head.contains("Allow: POST\r\n"));
    }
}

#[test]
fn handshakes() {
    let server = Server::start(&["client.allowed_origins=[\"https://*.good.com\"]"]);
    let websocket = |fields: &str| exchange(&server, &upgrade("/connection/websocket", fields));
    let good = upgrade("/connection/websocket", "");
    for (request, status) in [
        (good.clone(), 101),
        (good.replace("Version: 13", "Version: 12"), 426),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), 400),
        (good.replace("Connection: Upgrade", "Connection: close"), 400),
        (good.replace("dGhl", "dGh"), 400),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400),
    ] {
        assert_eq!(exchange(&server, &request).status, status, "{request}");
    }
    assert!(exchange(&server, &good.replace("13", "8")).head.contains("Sec-WebSocket-Version: 13\r\n"));
    assert_eq!(websocket("Origin: https://a.good.com\r\n").status, 101);
    for origin in ["https://evil.com", "http://a.good.com", "https://evil.com/.good.com", "null"] {
        assert_eq!(websocket(&format!("Origin: {origin}\r\n")).status, 403, "{origin}");
    }
    server.wait_for("add \"https://evil.com\" to client.allowed_origins");
    assert_eq!(websocket("Origin: https://evil.com\r\n").status, 403);
    assert_eq!(websocket("Origin: https://last.com\r\n").status, 403);
    server.wait_for("https://last.com");
    assert_eq!(server.said().matches("\"https://evil.com\"").count(), 1, "reported once");
}

#[test]
fn pipelined_answers_keep_their_order() {
    for variant in VARIANTS {
        let server =
            Server::start(&[variant[0], variant[1], "http_api.insecure=true", "http_server.pipeline_max=4"]);
        let mut stream = server.connect();
        let mut requests = String::new();
        // Calls to other cores between answers that are there at once; more than may be open.
        for index in 0..50 {
            let body = format!(r#"{{"channel":"c{index}","data":{{}}}}"#);
            requests += &posted("/api/publish", "", &body);
            requests += "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
            requests += "HEAD /nope HTTP/1.1\r\nHost: a\r\n\r\n";
        }
        requests +=
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(requests.as_bytes()).expect("a write");
        for _ in 0..50 {
            let publish = answer(&mut stream, false).expect("publish");
            assert_eq!((publish.status, publish.body.as_str()), (200, r#"{"result":{}}"#));
            assert_eq!(answer(&mut stream, false).expect("health").body, "{}");
            assert_eq!(answer(&mut stream, true).expect("nope").status, 404);
        }
        let last = answer(&mut stream, false).expect("the last answer");
        assert!(last.body.starts_with("Corecast"));
        assert_eq!(field(&last.head, "connection"), Some("close"));
        assert!(answer(&mut stream, false).is_none(), "nothing is answered behind close");
    }
}

#[test]
fn bodies() {
    let server = Server::start(&["http_api.insecure=true", "http_server.body_size_max=100"]);
    let chunked = "POST /api/publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    // In pieces, trailers included.
    let mut stream = server.connect();
    for piece in
        [chunked, "10;x=y\r\n{\"channel\":\"c\",\"", "\r\n8\r\ndata\":1}", "\r\n0\r\nT: v\r\n\r", "\n"]
    {
        stream.write_all(piece.as_bytes()).expect("a write");
    }
    assert_eq!(answer(&mut stream, false).expect("an answer").body, r#"{"result":{}}"#);
    // The connection goes on behind it.
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
    assert_eq!(answer(&mut stream, false).expect("an answer").body, "{}");

    let fill = |len: usize| format!(r#"{{"channel":"c","data":"{}"}}"#, "x".repeat(len - 25));
    assert_eq!(fill(100).len(), 100);
    for (body, status) in [(fill(100), 200), (fill(101), 413)] {
        assert_eq!(post(&server, "/api/publish", &body).0, status);
        let in_chunks = format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        assert_eq!(exchange(&server, &in_chunks).status, status);
    }
    assert_eq!(exchange(&server, &format!("{chunked}xyz\r\n")).status, 400);

    // A client that waits to be asked for its body.
    let mut stream = server.connect();
    let request = posted("/api/publish", "Expect: 100-continue\r\n", r#"{"channel":"c","data":1}"#);
    let (head, body) = request.split_at(request.len() - 24);
    stream.write_all(head.as_bytes()).expect("a write");
    assert_eq!(answer(&mut stream, false).expect("continue").status, 100);
    stream.write_all(body.as_bytes()).expect("a write");
    assert_eq!(answer(&mut stream, false).expect("an answer").status, 200);
    // One that nobody wants is not asked for.
    let refused = posted("/nope", "Expect: 100-continue\r\n", "");
    assert_eq!(exchange(&server, &refused.replace("Length: 0", "Length: 5")).status, 404);
}

#[test]
fn heads_at_their_limits() {
    let server = Server::start(&["http_server.header_size_max=1000", "http_server.header_count_max=10"]);
    let sized = |size: usize| {
        let start = "GET /health HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(size - start.len() - 4))
    };
    let counted =
        |count: usize| format!("GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    for (request, status) in [(sized(1000), 200), (sized(1001), 431), (counted(10), 200), (counted(11), 431)]
    {
        assert_eq!(exchange(&server, &request).status, status, "{} bytes", request.len());
    }
    let server = Server::start(&[]);
    let long = |len: usize| format!("GET /health?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 8));
    for (request, status) in [(long(8192), 200), (long(8193), 414)] {
        assert_eq!(exchange(&server, &request).status, status, "{} bytes", request.len());
    }
}

#[test]
fn old_clients_and_half_closed_ones() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").expect("a write");
    assert_eq!(answer(&mut stream, false).expect("an answer").body, "{}");
    assert!(answer(&mut stream, false).is_none());

    let mut stream = server.connect();
    stream.write_all(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("a write");
    let kept = answer(&mut stream, false).expect("an answer");
    assert_eq!(field(&kept.head, "connection"), Some("keep-alive"));
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
    // What was asked before the end is answered.
    stream.shutdown(Shutdown::Write).expect("a shutdown");
    assert_eq!(answer(&mut stream, false).expect("an answer").status, 200);
    assert!(answer(&mut stream, false).is_none());
}

#[test]
fn slow_requests_and_idle_connections_end() {
    for backend in ["runtime.backend=ring", "runtime.backend=poll"] {
        let settings = [backend, "http_server.head_timeout=200ms", "http_server.keep_alive_timeout=300ms"];
        let server = Server::start(&settings);
        let mut dripping = server.connect();
        dripping.write_all(b"GET /health HTTP/1.1\r\n").expect("a write");
        let mut silent = server.connect();
        let mut idle = server.connect();
        idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
        assert_eq!(answer(&mut idle, false).expect("an answer").status, 200);
        assert_eq!(answer(&mut dripping, false).expect("an answer").status, 408);
        for stream in [&mut dripping, &mut silent, &mut idle] {
            assert!(answer(stream, false).is_none());
        }
    }
}

#[test]
fn an_answer_larger_than_what_may_wait_for_a_client_arrives_whole() {
    for variant in VARIANTS {
        let server = Server::start(&[
            variant[0],
            variant[1],
            "http_api.insecure=true",
            "client.queue_max_size=10000",
            "websocket.write_timeout=10s",
            "channel.without_namespace.history_size=100",
            "channel.without_namespace.history_ttl=1m",
        ]);
        let body = format!(r#"{{"channel":"c","data":"{}"}}"#, "x".repeat(100_000));
        for _ in 0..30 {
            assert_eq!(post(&server, "/api/publish", &body).0, 200);
        }
        let (status, body) = post(&server, "/api/history", r#"{"channel":"c","limit":100}"#);
        assert_eq!((status, body.len() > 3_000_000), (200, true));
        assert!(body.ends_with("}}"), "cut");
    }
}

#[test]
fn proxy_headers() {
    let server = Server::start(&["http_server.proxy_protocol=true", "log.level=debug"]);
    let request =
        "PROXY TCP4 192.0.2.7 192.0.2.1 4000 80\r\n".to_owned() + &upgrade("/connection/websocket", "");
    assert_eq!(exchange(&server, &request).status, 101);
    server.wait_for("192.0.2.7");
    let mut bare = server.connect();
    bare.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
    assert!(answer(&mut bare, false).is_none(), "no header, no service");

    let server = Server::start(&["http_server.trusted_proxies=[\"127.0.0.0/8\"]", "log.level=debug"]);
    let forwarded = upgrade("/connection/websocket", "X-Forwarded-For: 192.0.2.8, 192.0.2.9\r\n");
    assert_eq!(exchange(&server, &forwarded).status, 101);
    server.wait_for("192.0.2.9");
}

#[test]
fn error_modes() {
    let unknown = r#"{"channel":"nons:x","data":1}"#;
    for (settings, fields, expected) in [
        (&["http_api.insecure=true"][..], "", (200, r#"{"error":{"code":102,"message":"unknown channel"}}"#)),
        (
            &["http_api.insecure=true"],
            "X-Centrifugo-Error-Mode: transport\r\n",
            (404, r#"{"code":102,"message":"unknown channel"}"#),
        ),
        (
            &["http_api.insecure=true", "http_api.error_mode=transport"],
            "",
            (404, r#"{"code":102,"message":"unknown channel"}"#),
        ),
    ] {
        let server = Server::start(settings);
        let got = exchange(&server, &posted("/api/publish", fields, unknown));
        assert_eq!((got.status, got.body.as_str()), expected);
    }
}

#[test]
fn batch_and_legacy() {
    for variant in VARIANTS {
        let server = Server::start(&[
            variant[0],
            variant[1],
            "http_api.insecure=true",
            "channel.without_namespace.history_size=10",
            "channel.without_namespace.history_ttl=1m",
        ]);
        let (status, body) = post(
            &server,
            "/api/batch",
            r#"{"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":"a","data":2}},{"history":{"channel":"a","limit":5}},{"rpc":{"method":"m"}},{"rpc":{}},{"nope":{}}]}"#,
        );
        assert_eq!(status, 200);
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let replies = &json["replies"];
        assert_eq!(
            (&replies[0]["publish"]["offset"], &replies[1]["publish"]["offset"]),
            (&1.into(), &2.into())
        );
        assert_eq!(replies[2]["history"]["publications"].as_array().map(Vec::len), Some(2), "{body}");
        let codes = [3, 4, 5].map(|at| replies[at]["error"]["code"].as_u64());
        assert_eq!(codes, [Some(104), Some(107), Some(104)], "{body}");
        let lines = "{\"method\":\"publish\",\"params\":{\"channel\":\"a\",\"data\":3}}\n{\"method\":\"presence_stats\",\"params\":{\"channel\":\"a\"}}";
        let (status, body) = post(&server, "/api", lines);
        assert_eq!(status, 200);
        let lines: Vec<_> = body.lines().collect();
        assert!(lines[0].starts_with(r#"{"result":{"offset":3,"#), "{body}");
        assert_eq!(lines[1], r#"{"error":{"code":108,"message":"not available"}}"#);
    }
}

#[test]
fn metrics_and_info_count_all_cores() {
    for variant in VARIANTS {
        let server = Server::dev(&variant);
        let (_clients, _): (Vec<_>, Vec<_>) =
            (0..8).map(|_| crate::client::WebSocket::connected(&server)).unzip();
        let (status, text) = get(&server, "/metrics");
        assert_eq!(status, 200);
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
        };
        assert_eq!(sum("corecast_connections_open"), 9);
        assert_eq!(sum("corecast_http_requests_total"), 9);
        assert_eq!(sum("corecast_timer_found_work_total"), 0);
        assert!(text.contains("\ncorecast_clients 8\n"), "{text}");
        let connections = |json: &serde_json::Value| -> Vec<u64> {
            let cores = json["result"]["nodes"][0]["cores"].as_array().expect("cores");
            cores.iter().filter_map(|core| core["connections"].as_u64()).collect()
        };
        // The connection that asked before may still be on its way out.
        let info = eventually(|| {
            let (_, info) = post(&server, "/api/info", "{}");
            let json: serde_json::Value = serde_json::from_str(&info).expect("JSON");
            (connections(&json).iter().sum::<u64>() == 9).then_some(json)
        });
        assert_eq!(info["result"]["nodes"][0]["num_clients"], 8);
        let connections = connections(&info);
        let wanted = if variant[1].ends_with('2') { 2 } else { 1 };
        assert_eq!(connections.len(), wanted);
        // runtime.balance
        let (least, most) = (connections.iter().min(), connections.iter().max());
        assert!(most.copied() <= least.map(|least| least + 1), "{info}");
    }
}
