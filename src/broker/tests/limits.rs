//! Limits on operations: what is refused, and who has to go.

use super::{One, open_settings};
use crate::{
    broker::{
        core::SessionStart,
        limits::{Sharers, address_rules},
        mesh::{Answer, Ask, Mesh},
        outbox::Framing,
    },
    config::{Bucket, Buckets, Limit, Settings},
    model::{ConnKey, Disconnect, ErrorCode, Protocol},
};
use std::time::Duration;

fn limit(rate: u32) -> Limit {
    let interval = Duration::from_secs(1);
    Limit { enabled: true, buckets: Buckets(vec![Bucket { rate, interval }]) }
}

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = open_settings();
    let limits = &mut settings.client.rate_limit;
    limits.client_command.enabled = true;
    limits.user_command.enabled = true;
    limits.ip_command.enabled = true;
    limits.client_error.enabled = true;
    change(&mut settings);
    settings
}

fn over(id: u32) -> String {
    format!(r#"{{"id":{id},"error":{{"code":111,"message":"too many requests","temporary":true}}}}"#)
}

#[test]
fn every_command_has_its_limit() {
    for (name, command, answer) in [
        ("subscribe", r#""subscribe":{"channel":"joins:a"}"#, r#""error":{"code":105"#),
        ("unsubscribe", r#""unsubscribe":{"channel":"b"}"#, r#""unsubscribe":{}"#),
        ("publish", r#""publish":{"channel":"a","data":1}"#, r#""publish":{}"#),
        ("history", r#""history":{"channel":"a"}"#, r#""history":{"#),
        ("presence", r#""presence":{"channel":"a"}"#, r#""presence":{"#),
        ("presence_stats", r#""presence_stats":{"channel":"a"}"#, r#""presence_stats":{"#),
        ("sub_refresh", r#""sub_refresh":{"channel":"a","token":"x"}"#, r#""error":{"code":103"#),
        ("rpc", r#""rpc":{"method":"a"}"#, r#""error":{"code":108"#),
    ] {
        let mut one = One::new(settings(|settings| {
            let limits = &mut settings.client.rate_limit.client_command;
            *match name {
                "subscribe" => &mut limits.subscribe,
                "unsubscribe" => &mut limits.unsubscribe,
                "publish" => &mut limits.publish,
                "history" => &mut limits.history,
                "presence" => &mut limits.presence,
                "presence_stats" => &mut limits.presence_stats,
                "sub_refresh" => &mut limits.sub_refresh,
                "rpc" => &mut limits.rpc,
                _ => unreachable!(),
            } = limit(2);
        }));
        let conn = one.client();
        let say = |id: u32| format!("{{\"id\":{id},{command}}}");
        one.hear(conn, &say(2));
        let heard = one.hear(conn, &[say(3), say(4)].join("\n"));
        assert!(heard[0].contains(answer), "{name}: {heard:?}");
        assert_eq!(heard[1], over(4), "{name}");
        one.now.ms += 500;
        assert_ne!(one.hear(conn, &say(5)), [over(5)], "{name}: half a second brings one");
        assert_eq!(one.hear(conn, &say(6)), [over(6)], "{name}");
        // No other command is concerned.
        let other = if name == "history" { "presence" } else { "history" };
        let heard = one.hear(conn, &format!(r#"{{"id":7,"{other}":{{"channel":"a"}}}}"#));
        assert!(heard[0].contains(other), "{name}: {heard:?}");
        assert!(one.closed.is_empty(), "{name}");
    }
}

#[test]
fn too_many_errors_end_the_connection_behind_the_last() {
    let mut one = One::new(settings(|settings| {
        settings.client.rate_limit.client_command.publish = limit(1);
        settings.client.rate_limit.client_error.total = limit(2);
    }));
    let conn = one.client();
    let publish = |id: u32| format!(r#"{{"id":{id},"publish":{{"channel":"a","data":1}}}}"#);
    one.hear(conn, &publish(2));
    assert_eq!(one.hear(conn, &[publish(3), publish(4)].join("\n")), [over(3), over(4)]);
    assert!(one.closed.is_empty());
    assert_eq!(one.hear(conn, &[publish(5), publish(6)].join("\n")), [over(5), over(6)]);
    assert_eq!(one.closed, [(conn, Disconnect::TOO_MANY_REQUESTS)]);
}

#[test]
fn messages_without_an_answer_are_passed_over_and_count_as_errors() {
    let mut one = One::new(settings(|settings| {
        settings.client.rate_limit.client_command.send = limit(1);
        settings.client.rate_limit.client_error.total = limit(1);
    }));
    let conn = one.client();
    let send = r#"{"send":{"data":1}}"#;
    assert!(one.hear(conn, &[send, send].join("\n")).is_empty() && one.closed.is_empty());
    one.hear(conn, send);
    assert_eq!(one.closed, [(conn, Disconnect::TOO_MANY_REQUESTS)]);
}

/// A connection of this user from an address with these buckets; its connect is sent.
fn connect(one: &mut One, user: &str, listens: bool) -> ConnKey {
    let conn = ConnKey { index: one.conns, generation: 7 };
    one.conns += 1;
    one.core.open(conn);
    let start = SessionStart::new(Protocol::Json, Framing::WebSocketText);
    let uplink = if listens { crate::broker::core::Uplink::None } else { start.uplink };
    one.core.start_session(conn, SessionStart { user: Some(user.into()), uplink, ..start });
    one.say(conn, if listens { "{}" } else { r#"{"id":1,"connect":{}}"# });
    one.turn();
    conn
}

#[test]
fn users_share_their_limits_among_their_connections() {
    let mut one = One::new(settings(|settings| {
        settings.client.rate_limit.user_command.connect = limit(2);
        settings.client.rate_limit.user_command.history = limit(3);
    }));
    let history = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"a"}}}}"#);
    let first = connect(&mut one, "a", false);
    assert!(one.heard(first)[0].contains("connect"));
    let second = connect(&mut one, "a", false);
    assert!(!one.hear(first, &[history(2), history(3)].join("\n")).contains(&over(3)));
    assert_eq!(one.hear(second, &[history(2), history(3)].join("\n"))[1], over(3));
    // The third is told to come later, and nothing of it stays.
    let third = connect(&mut one, "a", false);
    assert_eq!(one.heard(third), [over(1)]);
    let other = connect(&mut one, "b", false);
    assert!(!one.hear(other, &history(2)).contains(&over(2)), "another user");
    let listener = connect(&mut one, "a", true);
    assert_eq!(one.closed, [(listener, Disconnect::TOO_MANY_REQUESTS)]);
    assert_eq!(one.core.stats().users, 2);
    one.core.end_session(first);
    one.core.end_session(second);
    assert_eq!(one.core.stats().users, 1);
    let again = connect(&mut one, "a", false);
    assert_eq!(one.heard(again), [over(1)], "to go and come back makes nobody new");
}

#[test]
fn the_owner_of_a_user_lends_its_limits_to_other_cores() {
    let make = || {
        settings(|settings| {
            settings.client.rate_limit.user_command.connect = limit(1);
            settings.client.rate_limit.user_command.history = limit(1);
        })
    };
    // What an owner says to another core is what the asker is told in the second half.
    let mut owner = One::of(2, make());
    let user = (0..).map(|n| format!("u{n}")).find(|user| owner.core.owners.of(user) == 0).unwrap();
    let entered = |owner: &mut One, n: u32| {
        owner.core.begin_turn(owner.now);
        let id = ConnKey { index: 100 + n, generation: 1 };
        let ask = Ask::Enter { user: user.as_str().into(), conn: ConnKey { index: n, generation: 9 } };
        owner.core.on_mesh(1, Mesh::Ask { id, ask: Box::new(ask) });
        owner.turn();
        match owner.core.outgoing(1).pop() {
            Some(Mesh::Answer { answer, .. }) => *answer,
            other => panic!("{other:?}"),
        }
    };
    let Answer::Entered(Some(lent)) = entered(&mut owner, 1) else { panic!("the first is let in") };
    assert!(matches!(entered(&mut owner, 2), Answer::Error(ErrorCode::TooManyRequests)));
    let mut asker = One::of(2, make());
    let user = (0..).map(|n| format!("u{n}")).find(|user| asker.core.owners.of(user) == 1).unwrap();
    let conn = connect(&mut asker, &user, false);
    let Some(Mesh::Ask { id, .. }) = asker.core.outgoing(1).pop() else { panic!("asked") };
    asker.core.begin_turn(asker.now);
    asker.core.on_mesh(1, Mesh::Answer { id, answer: Box::new(Answer::Entered(Some(lent))) });
    asker.turn();
    assert!(asker.heard(conn)[0].contains("connect"));
    let channel = (0..).map(|n| format!("c{n}")).find(|name| asker.core.owners.of(name) == 0).unwrap();
    let history = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"{channel}"}}}}"#);
    assert_ne!(asker.hear(conn, &history(2)), [over(2)]);
    assert_eq!(asker.hear(conn, &history(3)), [over(3)]);
}

#[test]
fn what_waits_is_counted_once() {
    let mut one =
        One::of(2, settings(|settings| settings.client.rate_limit.client_command.history = limit(1)));
    let conn = one.client();
    let channel = (0..).map(|n| format!("c{n}")).find(|name| one.core.owners.of(name) == 1).unwrap();
    one.say(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    one.turn();
    let Some(Mesh::Ask { id, .. }) = one.core.outgoing(1).pop() else { panic!("asked") };
    // Presence of a channel that is being subscribed waits.
    let said = [
        format!(r#"{{"id":3,"history":{{"channel":"{channel}"}}}}"#),
        format!(r#"{{"id":4,"history":{{"channel":"{channel}"}}}}"#),
    ];
    let heard = one.hear(conn, &said.join("\n"));
    assert!(heard.is_empty(), "{heard:?}");
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Answer { id, answer: Box::new(Answer::Error(ErrorCode::LimitExceeded)) });
    one.turn();
    let heard = one.heard(conn);
    assert!(heard[0].contains("\"id\":2") && heard[1..] == [over(4)], "{heard:?}");
    assert!(matches!(one.core.outgoing(1).pop(), Some(Mesh::Ask { .. })), "the first one was let through");
}

#[test]
fn an_address_shares_its_limits_whoever_comes_from_it() {
    let settings = settings(|settings| {
        settings.client.rate_limit.ip_command.connect = limit(2);
        settings.client.rate_limit.ip_command.total = limit(3);
    });
    let rules = address_rules(&settings.client.rate_limit).unwrap();
    let mut one = One::new(settings);
    let address = Sharers::new(1).get(1u8, &rules, one.now.ms);
    let connect = |one: &mut One| {
        let conn = ConnKey { index: one.conns, generation: 7 };
        one.conns += 1;
        one.core.open(conn);
        let start = SessionStart::new(Protocol::Json, Framing::WebSocketText);
        let address = Some(std::sync::Arc::clone(&address));
        one.core.start_session(conn, SessionStart { address, ..start });
        let heard = one.hear(conn, r#"{"id":1,"connect":{}}"#);
        (conn, heard)
    };
    let (first, heard) = connect(&mut one);
    assert!(heard[0].contains("connect"));
    connect(&mut one);
    let (third, heard) = connect(&mut one);
    assert_eq!(heard, [over(1)]);
    assert!(one.hear(third, r#"{"id":2,"history":{"channel":"a"}}"#).is_empty(), "it is to go");
    assert_ne!(one.hear(first, r#"{"id":2,"history":{"channel":"a"}}"#), [over(2)]);
    assert_eq!(one.hear(first, r#"{"id":3,"presence":{"channel":"a"}}"#), [over(3)]);
}
