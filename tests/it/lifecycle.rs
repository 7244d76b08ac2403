//! Starting, stopping, and what stands in the way of either.

use crate::{
    client::{Frame, PATH, WebSocket, frame, upgrade},
    http,
    server::{PATIENCE, Server, VARIANTS, command, exit_of},
};
use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

#[test]
fn sigterm_and_sigint_drain() {
    for (variant, signal) in VARIANTS.iter().zip(["TERM", "INT", "INT", "TERM"]) {
        let mut server = Server::dev(&[variant[0], variant[1]]);
        let mut clients: Vec<_> = (0..10).map(|_| WebSocket::connected(&server).0).collect();
        let mut idle = server.connect();
        idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
        assert_eq!(http::answer(&mut idle, false).expect("an answer").status, 200);
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.close(), (3001, "shutdown".to_owned()));
        }
        assert!(http::answer(&mut idle, false).is_none());
        assert!(server.ended().success(), "{}", server.said());
        assert!(std::net::TcpStream::connect(server.address).is_err(), "the port is free");
    }
}

#[test]
fn a_client_that_does_not_close_holds_a_drain_no_longer_than_the_timeout() {
    for variant in VARIANTS {
        let mut server =
            Server::dev(&[variant[0], variant[1], "shutdown.timeout=300ms", "websocket.close_timeout=1m"]);
        let (mut client, _) = WebSocket::connected(&server);
        server.signal("TERM");
        assert_eq!(client.frame(), Frame::Close(Some(3001), "shutdown".into()));
        assert!(server.ended().success(), "{}", server.said());
        server.wait_for("shutdown.timeout has passed");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::dev(&["shutdown.timeout=1m", "websocket.close_timeout=1m"]);
    let (mut client, _) = WebSocket::connected(&server);
    server.signal("TERM");
    assert_eq!(client.frame(), Frame::Close(Some(3001), "shutdown".into()));
    server.signal("TERM");
    assert!(!server.ended().success());
    server.wait_for("second signal");
}

/// The exit status and the error output of a server that does not start.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.spawn().expect("the server's program");
    let mut text = String::new();
    child.stderr.take().expect("its error output").read_to_string(&mut text).expect("text");
    (exit_of(&mut child).code(), text)
}

#[test]
fn a_taken_port_is_one_sentence() {
    let server = Server::start(&[]);
    let port = format!("http_server.port={}", server.address.port());
    let (code, text) = refused(command(&[&port, "http_api.key=k"]));
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&server.address.to_string()) && text.contains("taken"), "{text}");
}

#[test]
fn few_open_files() {
    let limited = |soft_hard: &str| {
        let program = env!("CARGO_BIN_EXE_corecast");
        let script = format!(
            "ulimit -n {soft_hard} && exec {program} serve --dev --set http_server.port=0 --set runtime.cores=1"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let (code, text) = refused(limited("16"));
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("ulimit -n") && !text.contains("panicked"), "{text}");

    // Enough to start: existing clients stay when there are no more, and accepting goes on when some have left.
    let server = Server::spawn(limited("64"));
    let (mut client, _) = WebSocket::connected(&server);
    let others: Vec<_> = (0..100).map(|_| server.connect()).collect();
    client.text(r#"{"id":2,"rpc":{"method":"x"}}"#);
    assert_eq!(client.line(), r#"{"id":2,"error":{"code":108,"message":"not available"}}"#);
    drop(others);
    // What came while there were none left may have been turned away.
    let start = Instant::now();
    let mut next = loop {
        assert!(start.elapsed() < PATIENCE, "accepting does not go on");
        let mut stream = server.connect();
        let asked = stream.write_all(upgrade(PATH, "").as_bytes());
        if asked.is_ok() && http::answer(&mut stream, true).is_some() {
            break WebSocket::over(stream);
        }
    };
    next.raw(&frame(0x89, b"alive"));
    assert_eq!(next.frame(), Frame::Pong(b"alive".to_vec()));
}

#[test]
fn dev_mode_prints_lines_to_paste() {
    let server = Server::dev(&[]);
    server.wait_for("/api/publish\n");
    let said = server.said();
    let url = format!("ws://{}/connection/websocket", server.address);
    assert!(said.contains(&format!("corecast sub --url {url} news")), "{said}");
    assert!(said.contains(&format!("http://{}/api/publish", server.address)), "{said}");
}
