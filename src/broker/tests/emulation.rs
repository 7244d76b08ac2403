//! Clients that get what they are told in one response and speak in requests of their own.

use super::*;
use crate::broker::{
    core::Uplink,
    mesh::{Answer, AskKey, Emulated, Mesh},
    outbox::{Body, Framing},
};

impl One {
    fn stream(&mut self, protocol: Protocol, framing: Framing) -> ConnKey {
        let conn = Key { index: self.conns, generation: 7 };
        self.conns += 1;
        self.core.open(conn);
        let start = SessionStart::new(protocol, framing);
        self.core.start_session(conn, SessionStart { uplink: Uplink::Requests, ..start });
        conn
    }

    /// A client in JSON lines, and its session.
    fn emulated(&mut self) -> (ConnKey, String) {
        let conn = self.stream(Protocol::Json, Framing::Lines(Body::Chunked));
        self.say(conn, r#"{"id":1,"connect":{}}"#);
        self.turn();
        let reply = self.lines(conn).remove(0);
        let session = reply.split(r#""session":""#).nth(1).unwrap().split('"').next().unwrap();
        assert!(reply.contains(r#","node":"node""#), "{reply}");
        (conn, session.to_owned())
    }

    fn lines(&self, conn: ConnKey) -> Vec<String> {
        let bytes: Vec<u8> =
            self.written.iter().filter(|(to, _)| *to == conn).flat_map(|(_, bytes)| bytes.clone()).collect();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
    }

    /// Posts commands for a session; what became of it, and what the client is told.
    fn post(&mut self, conn: ConnKey, session: &str, commands: &str) -> Vec<String> {
        self.core.begin_turn(self.now);
        self.core.emulate(9, session, commands.as_bytes());
        self.turn();
        assert!(matches!(self.api.pop(), Some((9, Ok(ApiReply::Done)))));
        self.lines(conn)
    }
}

#[test]
fn commands_reach_their_session() {
    let mut one = One::new(open_settings());
    let (conn, session) = one.emulated();
    let other = one.client();
    let heard =
        one.post(conn, &session, "{\"id\":2,\"subscribe\":{\"channel\":\"plain:a\"}}\n{\"id\":3,\"rpc\":{}}");
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0], r#"{"id":2,"subscribe":{}}"#);
    let published = r#"{"id":5,"publish":{"channel":"plain:a","data":{}}}"#;
    one.hear(other, published);
    assert!(one.lines(conn)[0].starts_with(r#"{"push":{"channel":"plain:a","pub":{"data":{}"#));
    // What breaks the protocol ends the session as it would on the connection.
    one.post(conn, &session, "{\"id\":1,\"connect\":{}}");
    assert_eq!(one.closed, [(conn, Disconnect::BAD_REQUEST)]);
    // It is gone; whoever asks is told nothing.
    assert!(one.post(conn, &session, "{}").is_empty());
}

#[test]
fn only_the_right_session_is_spoken_for() {
    let mut one = One::new(open_settings());
    let (conn, session) = one.emulated();
    let rpc = r#"{"id":2,"rpc":{}}"#;
    let changed = |at: usize| {
        let digit = if session.as_bytes()[at] == b'0' { "1" } else { "0" };
        let mut changed = session.clone();
        changed.replace_range(at..=at, digit);
        changed
    };
    for wrong in
        (0..32).map(changed).chain(["".into(), "x".into(), session[..31].into(), format!("{session}0")])
    {
        assert!(one.post(conn, &wrong, rpc).is_empty(), "{wrong}");
    }
    // A client that speaks on its connection has no session others could name.
    let websocket = one.client();
    let (same, client) = (one.core.info(websocket).unwrap(), websocket);
    let id = one.core.session_ids.of(0, client, same.client).to_string();
    assert!(one.post(websocket, &id, rpc).is_empty());
    assert_eq!(one.post(conn, &session, rpc).len(), 1);
    // The next connection of the slot is another session.
    one.core.end_session(conn);
    one.core.released(conn);
    one.turn();
    let again = ConnKey { generation: 8, ..conn };
    one.core.open(again);
    let start = SessionStart::new(Protocol::Json, Framing::Lines(Body::Chunked));
    one.core.start_session(again, SessionStart { uplink: Uplink::Requests, ..start });
    one.say(again, r#"{"id":1,"connect":{}}"#);
    one.turn();
    assert!(one.post(again, &session, rpc).is_empty());
}

#[test]
fn commands_cross_to_the_core_of_the_session() {
    let mut one = One::of(2, open_settings());
    let (conn, session) = one.emulated();
    // The other core would send this.
    let emulated =
        Emulated { session: session.parse().unwrap(), commands: br#"{"id":2,"rpc":{}}"#.as_slice().into() };
    let id = AskKey { index: 3, generation: 4 };
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Emulate { id, emulated: Box::new(emulated) });
    one.turn();
    assert_eq!(one.lines(conn), [r#"{"id":2,"error":{"code":108,"message":"not available"}}"#]);
    let sent = std::mem::take(one.core.outgoing(1));
    assert!(
        matches!(&sent[..], [Mesh::Answer { id: to, answer }] if *to == id && matches!(**answer, Answer::Emulated))
    );

    // And a session over there is asked for there, answered when it has been heard, or not in time.
    let (index, generation) = (5, 1);
    let theirs = one.core.session_ids.of(1, Key { index, generation }, crate::model::ClientId(1)).to_string();
    for late in [false, true] {
        one.core.begin_turn(one.now);
        one.core.emulate(7, &theirs, b"{}");
        one.turn();
        assert!(one.api.is_empty());
        let [Mesh::Emulate { id, emulated }] = &std::mem::take(one.core.outgoing(1))[..] else { panic!() };
        assert_eq!(&*emulated.commands, b"{}");
        if late {
            one.later(10_000);
            assert!(matches!(one.api.pop(), Some((7, Err(ErrorCode::Internal)))));
        }
        one.core.on_mesh(1, Mesh::Answer { id: *id, answer: Box::new(Answer::Emulated) });
        one.turn();
        assert_eq!(one.api.pop().is_some(), !late, "answered exactly once");
    }
}

#[test]
fn without_credit_the_request_is_refused_and_too_much_that_waits_ends_the_session() {
    let mut settings = open_settings();
    settings.mesh.credit = 1;
    settings.client.held_max_size = 60;
    let mut one = One::of(2, settings);
    let theirs =
        one.core.session_ids.of(1, Key { index: 5, generation: 1 }, crate::model::ClientId(1)).to_string();
    one.core.begin_turn(one.now);
    one.core.emulate(1, &theirs, b"{}");
    one.core.emulate(2, &theirs, b"{}");
    one.turn();
    assert!(matches!(one.api[..], [(2, Err(ErrorCode::TooManyRequests))]));
    one.api.clear();

    // The core of the channel has no credit to give: everything waits.
    let (conn, session) = one.emulated();
    let owned_there = (0..).map(|n| format!("c{n}")).find(|name| one.core.owner(name) == 1).unwrap();
    let publish = format!(r#"{{"id":2,"publish":{{"channel":"{owned_there}","data":{{}}}}}}"#);
    for _ in 0..2 {
        one.post(conn, &session, &publish);
    }
    assert_eq!(one.closed, []);
    one.post(conn, &session, &publish);
    assert_eq!(one.closed, [(conn, Disconnect::TOO_MANY_REQUESTS)]);
}

// One encoding for all who share a framing, whatever it is.
#[test]
fn every_framing_carries_pings_replies_and_publications() {
    let mut one = One::new(open_settings());
    let json = r#"{"push":{"channel":"plain:a","pub":{"data":{"a": 1}}}}"#;
    for (framing, want) in [
        (Framing::Lines(Body::Chunked), format!("{:x}\r\n{json}\n{json}\n\r\n", 2 * json.len() + 2)),
        (Framing::Lines(Body::ToEnd), format!("{json}\n{json}\n")),
        (Framing::Events(Body::ToEnd), format!("data: {json}\n\ndata: {json}\n\n")),
        (
            Framing::Events(Body::Chunked),
            format!("{:x}\r\ndata: {json}\n\ndata: {json}\n\n\r\n", 2 * json.len() + 16),
        ),
    ] {
        for members in [1, 2] {
            let conns: Vec<_> = (0..members).map(|_| one.stream(Protocol::Json, framing)).collect();
            for &conn in &conns {
                one.say(
                    conn,
                    "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"plain:a\"}}",
                );
                one.turn();
            }
            for _ in 0..2 {
                // A carriage return between tokens would end a line of an event stream.
                let data =
                    if framing == Framing::Events(Body::Chunked) { "{\"a\":\r1}" } else { "{\"a\": 1}" };
                let channel = "plain:a".into();
                let options = PublishOptions::default();
                let request =
                    ApiRequest::Publish { channel, data: data.as_bytes().into(), tags: vec![], options };
                one.core.api(1, request);
            }
            one.turn();
            for &conn in &conns {
                let written = one.written.iter().find(|(to, _)| *to == conn).unwrap();
                assert_eq!(String::from_utf8_lossy(&written.1), want, "{framing:?}, {members}");
                one.core.end_session(conn);
            }
            one.api.clear();
            one.turn();
        }
    }
    let conn = one.stream(Protocol::Protobuf, Framing::Delimited(Body::Chunked));
    one.core.on_message(conn, b"\x04\x08\x01\x22\0");
    one.turn();
    one.later(25_000);
    assert_eq!(one.written, [(conn, b"1\r\n\0\r\n".to_vec())]);
}
