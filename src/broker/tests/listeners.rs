//! Clients that only listen: how they are told that they may not connect, and how long they may take no bytes.

use super::{One, open_settings};
use crate::{
    auth::{Hs, sign},
    broker::{
        core::{SessionStart, ShortWrite, Uplink},
        outbox::{Body, Framing},
    },
    config::{DisconnectTo, Settings, Transforms},
    model::{ConnKey, Disconnect, ErrorCode, Protocol},
};
use std::time::Duration;

const LINES: Framing = Framing::Lines(Body::Chunked);

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.allow_anonymous_connect_without_token = true;
    settings.client.token.hmac_secret_key = "secret".into();
    settings
}

/// A connect with a token that says this.
fn by_token(claims: &str) -> String {
    format!(r#"{{"token":"{}"}}"#, sign(Hs::Hs256, "secret", claims))
}

fn open(one: &mut One, framing: Framing, prelude: Option<&str>) -> ConnKey {
    let conn = ConnKey { index: one.conns, generation: 7 };
    one.conns += 1;
    one.core.open(conn);
    let prelude = prelude.map(|text| text.as_bytes().into());
    let start = SessionStart::new(Protocol::Json, framing);
    one.core.start_session(conn, SessionStart { uplink: Uplink::None, prelude, ..start });
    conn
}

#[test]
fn errors_become_the_disconnects_that_were_configured() {
    let to = |code, reason: &str| DisconnectTo { code, reason: reason.into() };
    let rows = vec![(109, to(4401, "again")), (109, to(4402, "not this")), (3500, to(4500, "no error"))];
    let expired = r#"{"sub":"42","exp":1}"#;
    for (enabled, connect, want) in [
        (true, by_token(expired), (4401, "again")),
        (false, by_token(expired), (3005, "connection expired")),
        (true, by_token(r#"{"sub":"42","channels":["nowhere:a"]}"#), (3004, "internal server error")),
        // This is a disconnect already.
        (true, r#"{"token":"x"}"#.to_owned(), (3500, "invalid token")),
    ] {
        let mut settings = settings();
        let said = &mut settings.client.connect_code_to_unidirectional_disconnect;
        said.enabled = enabled;
        said.transforms = Transforms(rows.clone());
        let mut one = One::new(settings);
        let conn = open(&mut one, LINES, None);
        one.say(conn, &connect);
        one.turn();
        let closed: Vec<_> = one.closed.iter().map(|(conn, it)| (*conn, (it.code, &*it.reason))).collect();
        assert_eq!(closed, [(conn, want)], "{connect}");
    }
}

/// A listener whose response may still become another one hears nothing until it is connected.
#[test]
fn a_prelude_is_told_first_or_never() {
    for (connect, refused) in [
        ("{}".to_owned(), None),
        (by_token(r#"{"exp":1}"#), Some(Some(ErrorCode::TokenExpired))),
        (r#"{"token":"x"}"#.to_owned(), Some(None)),
    ] {
        let mut one = One::new(settings());
        let conn = open(&mut one, LINES, Some("HEAD "));
        one.core.begin_turn(one.now);
        one.turn();
        assert!(one.written.is_empty());
        one.say(conn, &connect);
        one.turn();
        let written: Vec<u8> = one.written.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let text = String::from_utf8(written).unwrap();
        if let Some(refused) = refused {
            assert_eq!((text.as_str(), one.connected.len(), one.closed.len()), ("", 0, 1), "{connect}");
            assert_eq!(one.core.take_refusal(conn), refused, "{connect}");
        } else {
            assert!(text.starts_with("HEAD ") && text.contains("\r\n{\"connect\":{"), "{text}");
            assert_eq!((&one.connected[..], one.closed.len()), (&[conn][..], 0));
        }
        assert_eq!(one.core.take_refusal(conn), None, "{connect}");
    }
}

/// It is no frame: whoever got a part of it gets the rest, and not what is behind.
#[test]
fn a_prelude_that_was_begun_is_sent_to_its_end() {
    let mut one = One::new(settings());
    let conn = open(&mut one, LINES, Some("HEAD "));
    one.say(conn, "{}");
    one.core.end_turn();
    one.core.begin_flush();
    assert!(one.core.pending_bytes(conn) > 50);
    one.core.settle(&[ShortWrite { index: 0, sent: 3, broken: false }]);
    one.core.drop_queue(conn);
    assert_eq!(one.core.pending_bytes(conn), 2);
}

#[test]
fn listeners_over_websocket_have_a_write_timeout_of_their_own() {
    let mut settings = settings();
    settings.uni_websocket.write_timeout = Duration::from_secs(3);
    for (framing, timeout_ms) in [(Framing::listener(false, None), 3000), (LINES, 1000)] {
        let mut one = One::new(settings.clone());
        let conn = open(&mut one, framing, None);
        one.say(conn, "{}");
        one.core.end_turn();
        one.core.begin_flush();
        one.core.settle(&[ShortWrite { index: 0, sent: 3, broken: false }]);
        one.later(timeout_ms - 100);
        assert!(one.closed.is_empty(), "{framing:?}");
        one.later(300);
        assert_eq!(one.closed, [(conn, Disconnect::WRITE_ERROR)], "{framing:?}");
    }
}
