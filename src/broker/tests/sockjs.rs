//! Sessions of SockJS over HTTP: begun, told, heard, ended by requests that name them.

use super::*;
use crate::{broker::seam::SockJsAsk, config::ProtocolV1};

const CONNECT: &str = r#"["{\"id\":1,\"connect\":{}}"]"#;

fn world() -> One {
    let mut settings = open_settings();
    settings.sockjs.enabled = true;
    settings.sockjs.http_sessions_max = 2;
    settings.client.protocol_v1 = ProtocolV1::Offset;
    settings.client.queue_max_size = 2000;
    let mut one = One::new(settings);
    // Connections have keys from here on.
    one.conns = 2;
    one
}

impl One {
    fn ask_sockjs(&mut self, call: u64, session: &str, ask: SockJsAsk) {
        self.core.begin_turn(self.now);
        self.core.sockjs(call, session, ask);
        self.turn();
    }

    /// What a request to receive is answered in this turn.
    fn poll(&mut self, session: &str) -> Option<SockJsAnswer> {
        self.ask_sockjs(7, session, SockJsAsk::Receive { user: None });
        self.answer(7)
    }

    fn answer(&mut self, call: u64) -> Option<SockJsAnswer> {
        let at = self.sockjs.iter().position(|(it, _)| *it == call)?;
        Some(self.sockjs.remove(at).1)
    }

    fn post_sockjs(&mut self, session: &str, messages: &str) -> SockJsAnswer {
        self.ask_sockjs(8, session, SockJsAsk::Send { messages: messages.as_bytes().into() });
        self.answer(8).expect("an answer")
    }

    /// The session is open and its client connected.
    fn visitor(&mut self, session: &str) {
        assert_eq!(self.poll(session), frames("o\n"));
        assert_eq!(self.post_sockjs(session, CONNECT), SockJsAnswer::Sent);
        assert!(text(self.poll(session)).starts_with(r#"a["{\"id\":1,\"connect\":{\"client\":"#));
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.ms += 100;
            self.now.unix_ms += 100;
            self.core.begin_turn(self.now);
            self.turn();
        }
    }
}

fn frames(lines: &str) -> Option<SockJsAnswer> {
    Some(SockJsAnswer::Frames(lines.as_bytes().to_vec()))
}

fn last(lines: &str) -> Option<SockJsAnswer> {
    Some(SockJsAnswer::Last(lines.as_bytes().to_vec()))
}

fn text(answer: Option<SockJsAnswer>) -> String {
    match answer {
        Some(SockJsAnswer::Frames(lines)) => String::from_utf8(lines).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_is_told_by_whoever_asks() {
    let mut one = world();
    one.visitor("a");
    let other = one.client();
    assert_eq!(
        one.post_sockjs("a", r#"["{\"id\":2,\"subscribe\":{\"channel\":\"plain:a\"}}"]"#),
        SockJsAnswer::Sent
    );
    // What comes between two requests waits.
    one.hear(other, r#"{"id":5,"publish":{"channel":"plain:a","data":{}}}"#);
    let told = text(one.poll("a"));
    assert!(
        told.contains(r#"{\"id\":2,\"subscribe\":{}}"#) && told.contains(r#"\"pub\":{\"data\":{}"#),
        "{told}"
    );
    assert!(told.lines().all(|line| line.starts_with("a[\"") && line.ends_with("\"]")), "{told}");
    // A request that finds nothing is answered when something comes.
    assert_eq!(one.poll("a"), None);
    one.hear(other, r#"{"id":6,"publish":{"channel":"plain:a","data":1}}"#);
    assert!(text(one.answer(7)).contains(r#"{\"data\":1"#));
    // Only one may ask at a time.
    assert_eq!(one.poll("a"), None);
    one.ask_sockjs(9, "a", SockJsAsk::Receive { user: None });
    assert_eq!(one.answer(9), last("c[2010,\"Another connection still open\"]\n"));
    one.hear(other, r#"{"id":7,"publish":{"channel":"plain:a","data":2}}"#);
    assert!(text(one.answer(7)).contains(r#"{\"data\":2"#), "who came first waits on");
}

#[test]
fn an_old_client_gets_heartbeats() {
    let mut one = world();
    assert_eq!(one.poll("a"), frames("o\n"));
    one.post_sockjs("a", r#"["{\"id\":1}","{\"method\":7,\"id\":2}"]"#);
    let told = text(one.poll("a"));
    assert!(
        told.contains(r#"{\"id\":1,\"result\":{\"client\":"#) && told.contains(r#"{\"id\":2,\"result\":{}}"#),
        "{told}"
    );
    assert_eq!(one.poll("a"), None);
    let heartbeat = (0..250).find_map(|_| {
        one.wait(100);
        one.answer(7)
    });
    assert_eq!(heartbeat, frames("h\n"));
    // Nothing has to answer it.
    assert_eq!(one.poll("a"), None);
    one.wait(15_000);
    assert_eq!(one.post_sockjs("a", "[]"), SockJsAnswer::Sent);
}

#[test]
fn a_session_nobody_asks_for_ends() {
    let mut one = world();
    one.visitor("a");
    let other = one.client();
    one.post_sockjs("a", r#"["{\"id\":2,\"subscribe\":{\"channel\":\"joins:a\",\"join_leave\":true}}"]"#);
    one.hear(other, r#"{"id":2,"subscribe":{"channel":"joins:a","join_leave":true}}"#);
    text(one.poll("a"));
    // As long as somebody waits for it, it lives.
    assert_eq!(one.poll("a"), None);
    one.wait(12_000);
    assert_eq!(one.post_sockjs("a", "[]"), SockJsAnswer::Sent);
    // Then the one who waited goes.
    one.ask_sockjs(0, "a", SockJsAsk::Leave { receiver: 7 });
    one.wait(4_000);
    assert_eq!(one.post_sockjs("a", "[]"), SockJsAnswer::Sent);
    one.wait(3_000);
    assert_eq!(one.post_sockjs("a", "[]"), SockJsAnswer::Unknown);
    let heard = one.hear(other, r#"{"id":3,"presence_stats":{"channel":"joins:a"}}"#);
    assert_eq!(heard, [r#"{"id":3,"presence_stats":{"num_clients":1,"num_users":1}}"#]);
    // Its place is free for others, under another key.
    assert_eq!(one.poll("b"), frames("o\n"));
    assert_eq!(one.poll("c"), frames("o\n"));
    assert_eq!(one.poll("d"), Some(SockJsAnswer::Full));
}

/// It gives everybody time, once.
#[test]
fn a_core_that_stood_still_forgets_sessions_all_the_same() {
    let mut one = world();
    one.visitor("a");
    one.now.ms += 60_000;
    one.wait(20_000);
    assert_eq!(one.post_sockjs("a", "[]"), SockJsAnswer::Unknown);
    assert_eq!(one.core.residue(), Default::default());
    assert!(one.core.next_deadline().is_none_or(|at| at > one.now.ms), "it would never sleep");
}

#[test]
fn the_end_is_told_once_what_came_before_is() {
    let mut one = world();
    one.visitor("a");
    assert_eq!(one.post_sockjs("a", r#"["{\"id\":2,\"rpc\":{}}","nonsense"]"#), SockJsAnswer::Sent);
    let told = one.poll("a");
    let want = "a[\"{\\\"id\\\":2,\\\"error\\\":{\\\"code\\\":108,\\\"message\\\":\\\"not available\\\"}}\"]\nc[3501,\"bad request\"]\n";
    assert_eq!(told, last(want));
    assert_eq!(one.post_sockjs("a", "[]"), SockJsAnswer::Unknown);
    assert_eq!(one.poll("a"), last("c[3501,\"bad request\"]\n"), "whoever asks again is told again");
    // One who waits is told at once.
    one.visitor("b");
    assert_eq!(one.poll("b"), None);
    one.core.begin_turn(one.now);
    one.core.disconnect_all(&Disconnect::SHUTDOWN);
    one.turn();
    assert_eq!(one.answer(7), last("c[3001,\"shutdown\"]\n"));
}

#[test]
fn what_waits_is_bounded() {
    let mut one = world();
    one.visitor("a");
    let other = one.client();
    one.post_sockjs("a", r#"["{\"id\":2,\"subscribe\":{\"channel\":\"plain:a\"}}"]"#);
    text(one.poll("a"));
    let long = format!(r#"{{"id":5,"publish":{{"channel":"plain:a","data":"{}"}}}}"#, "x".repeat(600));
    for _ in 0..5 {
        one.hear(other, &long);
    }
    assert_eq!(one.poll("a"), last("c[3008,\"slow\"]\n"));
}

#[test]
fn spans_that_wait_are_kept() {
    let mut one = world();
    one.visitor("a");
    one.visitor("b");
    for session in ["a", "b"] {
        one.post_sockjs(session, r#"["{\"id\":2,\"subscribe\":{\"channel\":\"plain:a\"}}"]"#);
        text(one.poll(session));
    }
    let other = one.client();
    // Both get the same bytes, several times and in different turns.
    for n in 0..10 {
        one.hear(other, &format!(r#"{{"id":5,"publish":{{"channel":"plain:a","data":{n}}}}}"#));
    }
    let (a, b) = (text(one.poll("a")), text(one.poll("b")));
    assert_eq!(a, b);
    let found: Vec<_> = (0..10).filter(|n| a.contains(&format!(r#"{{\"data\":{n},"#))).collect();
    assert_eq!(found.len(), 10, "{a}");
}
