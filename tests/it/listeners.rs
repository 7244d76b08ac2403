//! Clients that only listen: `uni_websocket`, `uni_sse`, `uni_http_stream`.

use crate::{
    client::{Frame, WebSocket},
    http::{answer, exchange, field, post},
    server::{Server, VARIANTS, eventually},
    streams::{Stream, posted},
};
use corecast::auth::{Hs, sign};

const SECRET: &str = "client.token.hmac_secret_key=secret";

/// A token of user 42, with a server-side subscription to `news`.
fn token() -> String {
    sign(Hs::Hs256, "secret", r#"{"sub":"42","channels":["news"]}"#)
}

fn websocket(server: &Server, query: &str) -> WebSocket {
    WebSocket::open_at(server, &format!("/connection/uni_websocket{query}"), "").0
}

/// The next message of a listener, whatever brings it; `None`: the end.
trait Listener {
    fn hear(&mut self) -> Option<String>;
}

impl Listener for Stream {
    fn hear(&mut self) -> Option<String> {
        self.message()
    }
}

impl Listener for WebSocket {
    fn hear(&mut self) -> Option<String> {
        match self.frame() {
            Frame::Text(text) => Some(text),
            Frame::Close(..) => None,
            other => panic!("{other:?}"),
        }
    }
}

/// What every listener of `news` is told, from connect to the end.
fn listen(server: &Server, listener: &mut dyn Listener) {
    let connect = listener.hear().expect("the connect");
    assert!(connect.starts_with(r#"{"connect":{"client":""#), "{connect}");
    assert!(connect.contains(r#""subs":{"news":{"recoverable":true,"#), "{connect}");
    assert!(connect.contains(r#""ping":25,"session":""#), "{connect}");
    let joined = listener.hear().expect("its own join");
    assert!(joined.starts_with(r#"{"channel":"news","join":{"info":{"user":"42","client":""#), "{joined}");
    assert_eq!(post(server, "/api/publish", r#"{"channel":"news","data":{"a": 1}}"#).0, 200);
    let publication = listener.hear().expect("the publication");
    assert!(
        publication.starts_with(r#"{"channel":"news","pub":{"data":{"a": 1},"offset":"#),
        "{publication}"
    );
    // The server API subscribes it, by the session it was told.
    let session = connect.split(r#""session":""#).nth(1).unwrap().split('"').next().unwrap();
    let subscribe = format!(r#"{{"user":"42","channel":"more","session":"{session}"}}"#);
    assert_eq!(post(server, "/api/subscribe", &subscribe).0, 200);
    let subscribed = listener.hear().expect("the subscribe");
    assert!(subscribed.starts_with(r#"{"channel":"more","subscribe":{"#), "{subscribed}");
    assert!(listener.hear().expect("the join").starts_with(r#"{"channel":"more","join":"#));
    let end = r#"{"user":"42","disconnect":{"code":4501,"reason":"bye"}}"#;
    assert_eq!(post(server, "/api/disconnect", end).0, 200);
    assert_eq!(listener.hear().as_deref(), Some(r#"{"disconnect":{"code":4501,"reason":"bye"}}"#));
    assert_eq!(listener.hear(), None);
    // Its leaves are not for who comes next.
    for channel in ["news", "more"] {
        let channel = format!(r#"{{"channel":"{channel}"}}"#);
        eventually(|| {
            post(server, "/api/presence_stats", &channel).1.contains(r#""num_clients":0"#).then_some(())
        });
    }
}

#[test]
fn listeners_hear_bare_pushes() {
    let token = token();
    let request = format!(r#"{{"token":"{token}"}}"#);
    let query = format!("%7B%22token%22%3A%22{token}%22%7D");
    for variant in VARIANTS {
        let server = Server::dev(&[variant[0], variant[1], SECRET]);
        let mut by_message = websocket(&server, "");
        by_message.text(&request);
        // What comes behind is passed over.
        by_message.text("garbage");
        listen(&server, &mut by_message);
        listen(&server, &mut websocket(&server, &format!("?cf_connect={query}")));
        let posted = posted("/connection/uni_http_stream", "", &request);
        listen(&server, &mut Stream::open(&server, &posted, ("", "\n")));
        let get = format!("GET /connection/uni_sse?cf_connect={query} HTTP/1.1\r\nHost: a\r\n\r\n");
        for request in [get, crate::streams::posted("/connection/uni_sse", "", &request)] {
            let mut events = Stream::open(&server, &request, ("data: ", "\n\n"));
            assert_eq!(events.chunk().as_deref(), Some(&b"\r\n"[..]));
            listen(&server, &mut events);
        }
    }
}

// Each push is a frame of its own, unless they may be joined.
#[test]
fn frames_of_listeners() {
    let token = token();
    for (join, frames) in [("false", 3), ("true", 1)] {
        let join = format!("uni_websocket.join_push_messages={join}");
        let server = Server::dev(&[SECRET, "runtime.cores=1", &join]);
        let mut listener = websocket(&server, "");
        listener.text(&format!(r#"{{"token":"{token}"}}"#));
        while !listener.hear().unwrap().contains(r#""join":"#) {}
        let batch = r#"{"commands":[{"publish":{"channel":"news","data":1}},{"publish":{"channel":"news","data":2}},{"publish":{"channel":"news","data":3}}],"parallel":true}"#;
        assert_eq!(post(&server, "/api/batch", batch).0, 200);
        let heard: Vec<String> = (0..frames).map(|_| listener.hear().unwrap()).collect();
        let text = heard.join("\n");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(heard.iter().all(|frame| frame.lines().count() == 3 / frames), "{heard:?}");
    }
}

#[test]
fn refused_listeners_are_told_why() {
    let server = Server::start(&[
        SECRET,
        "uni_websocket.enabled=true",
        "uni_sse.enabled=true",
        "uni_http_stream.enabled=true",
        "uni_http_stream.max_request_body_size=200",
        "uni_websocket.message_size_limit=200",
    ]);
    let invalid = (r#"{"disconnect":{"code":3500,"reason":"invalid token"}}"#, 3500);
    let bad = (r#"{"disconnect":{"code":3501,"reason":"bad request"}}"#, 3501);
    // An error to others; who cannot be answered is cut.
    let expired = (r#"{"disconnect":{"code":3005,"reason":"connection expired"}}"#, 3005);
    let old = format!(r#"{{"token":"{}"}}"#, sign(Hs::Hs256, "secret", r#"{"sub":"42","exp":1}"#));
    assert_eq!(post(&server, "/connection/uni_sse", "[").0, 400);
    assert_eq!(post(&server, "/connection/uni_http_stream", "{} x").0, 400);
    assert_eq!(post(&server, "/connection/uni_http_stream", &" ".repeat(201)).0, 413);
    for (request, (reason, code)) in
        [(r#"{"token":"x"}"#, invalid), (&*old, expired), ("null", bad), ("{}", bad)]
    {
        let mut listener = websocket(&server, "");
        listener.text(request);
        assert_eq!(listener.frame(), Frame::Text(reason.into()));
        assert!(matches!(listener.frame(), Frame::Close(Some(closed), _) if closed == code));
        let mut stream =
            Stream::open(&server, &posted("/connection/uni_http_stream", "", request), ("", "\n"));
        assert_eq!(stream.message().as_deref(), Some(reason));
        assert_eq!(stream.message(), None);
    }
    let mut listener = websocket(&server, "");
    listener.text("[");
    assert_eq!(listener.frame(), Frame::Text(bad.0.into()));
    let mut listener = websocket(&server, "");
    listener.text(&" ".repeat(201));
    assert_eq!(listener.frame(), Frame::Close(Some(1009), String::new()));
    // A page may say nothing with its request; of another origin it is not let in.
    let mut stream =
        Stream::open(&server, "GET /connection/uni_sse HTTP/1.1\r\nHost: a\r\n\r\n", ("data: ", "\n\n"));
    stream.chunk();
    assert_eq!(stream.message().as_deref(), Some(bad.0));
    let evil = "GET /connection/uni_sse HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.com\r\n\r\n";
    let answer = exchange(&server, evil);
    assert_eq!((answer.status, field(&answer.head, "access-control-allow-origin")), (403, None));
}

/// What answers a refused connect of one of the two by a status.
fn answering(transport: &str) -> String {
    let transforms = r#"[{"code":109,"to":{"status_code":401,"body":"a new token, please"}},
        {"code":3500,"to":{"status_code":403}},{"code":102,"to":{"status_code":204}}]"#;
    format!(
        r#"{transport}={{"enabled":true,"connect_code_to_http_response":{{"enabled":true,"transforms":{transforms}}}}}"#
    )
}

#[test]
fn refused_listeners_are_answered_by_a_status() {
    let expired = sign(Hs::Hs256, "secret", r#"{"sub":"42","exp":1}"#);
    let unknown = sign(Hs::Hs256, "secret", r#"{"sub":"42","channels":["nowhere:a"]}"#);
    let (sse, stream) = (answering("uni_sse"), answering("uni_http_stream"));
    for variant in VARIANTS {
        let server = Server::start(&[
            SECRET,
            variant[0],
            variant[1],
            &sse,
            &stream,
            "http_api.insecure=true",
            r#"client.allowed_origins=["https://a.b"]"#,
        ]);
        for (path, wrapping) in
            [("/connection/uni_sse", ("data: ", "\n\n")), ("/connection/uni_http_stream", ("", "\n"))]
        {
            for (token, status, text) in [
                (expired.as_str(), 401, "a new token, please"),
                ("x", 403, "invalid token"),
                (unknown.as_str(), 204, ""),
                // Nobody said what becomes of 3501.
                ("", 500, "Internal Server Error\n"),
            ] {
                let connect = format!(r#"{{"token":"{token}"}}"#);
                let answer = exchange(&server, &posted(path, "Origin: https://a.b\r\n", &connect));
                assert_eq!((answer.status, &*answer.body), (status, text), "{path} {connect}");
                assert_eq!(field(&answer.head, "access-control-allow-origin"), Some("https://a.b"));
                assert_eq!(field(&answer.head, "connection"), Some("close"));
            }
            // Users are owned by any core: the response waits for whichever it is.
            for user in 0..8 {
                let claims = format!(r#"{{"sub":"{user}","channels":["news"]}}"#);
                let connect = format!(r#"{{"token":"{}"}}"#, sign(Hs::Hs256, "secret", &claims));
                let mut listener = Stream::open(&server, &posted(path, "", &connect), wrapping);
                assert_eq!(field(&listener.head, "transfer-encoding"), Some("chunked"));
                if path.ends_with("sse") {
                    assert_eq!(listener.chunk().as_deref(), Some(&b"\r\n"[..]));
                }
                assert!(listener.hear().expect("the connect").starts_with(r#"{"connect":{"client":""#));
                let end = format!(r#"{{"user":"{user}","disconnect":{{"code":4501,"reason":"bye"}}}}"#);
                assert_eq!(post(&server, "/api/disconnect", &end).0, 200);
                let bye = r#"{"disconnect":{"code":4501,"reason":"bye"}}"#;
                assert_eq!((listener.hear().as_deref(), listener.hear()), (Some(bye), None));
            }
            // In the form of its request, and behind the answers before it.
            let old =
                exchange(&server, &posted(path, "", r#"{"token":"x"}"#).replace("HTTP/1.1", "HTTP/1.0"));
            assert_eq!((old.status, field(&old.head, "connection")), (403, None));
            let health = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
            let mut pipelined = server.connect();
            let both = format!("{health}{}", posted(path, "", r#"{"token":"x"}"#));
            std::io::Write::write_all(&mut pipelined, both.as_bytes()).expect("a write");
            let statuses = [(); 2].map(|()| answer(&mut pipelined, false).expect("an answer").status);
            assert_eq!(statuses, [200, 403]);
            assert!(answer(&mut pipelined, false).is_none());
        }
    }
}

#[test]
fn pages_ask_before_they_connect() {
    let server = Server::start(&["init.enabled=true", r#"client.allowed_origins=["https://a.b"]"#]);
    let ask = |method: &str, origin: &str| {
        let request = format!("{method} /connection/init HTTP/1.1\r\nHost: a\r\n{origin}\r\n");
        let answer = exchange(&server, &request);
        let allowed = field(&answer.head, "access-control-allow-origin").is_some();
        (answer.status, answer.body, allowed)
    };
    assert_eq!(ask("GET", ""), (200, "{}".into(), false));
    assert_eq!(ask("GET", "Origin: https://a.b\r\n"), (200, "{}".into(), true));
    assert_eq!(ask("OPTIONS", "Origin: https://a.b\r\n"), (204, String::new(), true));
    assert_eq!(ask("GET", "Origin: https://evil.com\r\n").0, 403);
    assert_eq!(ask("POST", "").0, 405);
}

#[test]
fn listeners_may_be_spared_the_last_push_or_the_close_frame() {
    for (push, close) in [(true, true), (false, true), (true, false), (false, false)] {
        let server = Server::start(&[
            SECRET,
            "uni_websocket.enabled=true",
            &format!("uni_websocket.disable_disconnect_push={}", !push),
            &format!("uni_websocket.disable_closing_handshake={}", !close),
        ]);
        let mut listener = websocket(&server, "");
        listener.text(r#"{"token":"x"}"#);
        if push {
            let text = r#"{"disconnect":{"code":3500,"reason":"invalid token"}}"#;
            assert_eq!(listener.frame(), Frame::Text(text.into()));
        }
        if close {
            assert_eq!(listener.frame(), Frame::Close(Some(3500), "invalid token".into()));
        }
        assert_eq!(listener.frame(), Frame::Eof);
    }
}

#[test]
fn listeners_are_pinged_and_need_not_answer() {
    let server = Server::dev(&["client.ping_interval=300ms", "client.pong_timeout=100ms"]);
    let mut stream = Stream::open(&server, &posted("/connection/uni_http_stream", "", ""), ("", "\n"));
    assert!(stream.message().unwrap().starts_with(r#"{"connect":"#));
    for _ in 0..3 {
        assert_eq!(stream.message().as_deref(), Some("{}"));
    }
    // A WebSocket is pinged by a frame as well, and cut if nothing answers that.
    let mut silent = websocket(&server, "");
    silent.text("null");
    assert!(silent.hear().unwrap().starts_with(r#"{"connect":"#));
    assert_eq!((silent.frame(), silent.frame()), (Frame::Ping(vec![]), Frame::Text("{}".into())));
    assert_eq!(silent.frame(), Frame::Text(r#"{"disconnect":{"code":3012,"reason":"no pong"}}"#.into()));
    assert_eq!(silent.frame(), Frame::Close(Some(3012), "no pong".into()));
    let mut alive = websocket(&server, "");
    alive.text("null");
    alive.hear();
    for _ in 0..3 {
        assert_eq!((alive.frame(), alive.frame()), (Frame::Ping(vec![]), Frame::Text("{}".into())));
        alive.raw(&crate::client::frame(0x8a, b""));
    }
}
