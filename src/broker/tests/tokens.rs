//! Tokens in the life of a session: who may connect, for how long, and to what.

use super::{One, open_settings};
use crate::{
    auth::{Hs, sign},
    broker::{
        core::SessionStart,
        mesh::{Answer, Ask, Forward, Mesh, Subscribed},
        outbox::Framing,
        seam::{ApiRequest, PublishOptions},
    },
    config::{ChannelOptions, Namespace, Settings},
    model::{ConnKey, Disconnect, Position, Protocol, Publication},
    stdx::slab::Key,
};
use std::{sync::Arc, time::Duration};

/// [`One`] begins at second 1 700 000 000.
fn token(claims: &str) -> String {
    sign(Hs::Hs256, "secret", claims)
}

/// Keys, and a namespace where only tokens open doors.
fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.token.hmac_secret_key = "secret".into();
    settings.channel.without_namespace = ChannelOptions {
        allow_user_limited_channels: true,
        allow_publish_for_subscriber: true,
        ..ChannelOptions::default()
    };
    settings.channel.namespaces = vec![Namespace {
        name: "kept".into(),
        options: ChannelOptions {
            history_size: 10,
            history_ttl: Duration::from_secs(300),
            force_recovery: true,
            ..ChannelOptions::default()
        },
        ..Namespace::default()
    }];
    settings
}

fn connect(claims: &str) -> String {
    format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, token(claims))
}

fn with_token(command: &str, channel: &str, claims: &str) -> String {
    format!(r#"{{"id":2,"{command}":{{"channel":"{channel}","token":"{}"}}}}"#, token(claims))
}

/// A client whose token has these claims.
fn client(one: &mut One, claims: &str) -> ConnKey {
    let conn = one.open(Protocol::Json);
    let heard = one.hear(conn, &connect(claims));
    assert!(heard[0].contains(r#""connect":{"client""#), "{heard:?}");
    conn
}

fn connected(rest: &str) -> String {
    let version = crate::broker::VERSION;
    format!(r#"{{"id":1,"connect":{{"client":"ID","version":"{version}",{rest}"ping":25,"pong":true}}}}"#)
}

fn error(id: u32, code: u32, message: &str) -> String {
    format!(r#"{{"id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
}

enum Want {
    Says(String),
    Ends(Disconnect),
}
use Want::{Ends, Says};

#[track_caller]
fn check(one: &mut One, conn: ConnKey, said: &str, want: Want) {
    let heard = one.hear(conn, said);
    match want {
        Says(want) => {
            assert_eq!(heard, [want], "after {said}");
            assert!(one.closed.is_empty(), "after {said}: {:?}", one.closed);
        }
        Ends(want) => {
            assert_eq!((&heard[..], &one.closed[..]), (&[][..], &[(conn, want)][..]), "after {said}")
        }
    }
}

#[test]
fn connect_by_token() {
    let forged = sign(Hs::Hs256, "other", r#"{"sub":"42"}"#);
    let rows = [
        (connect(r#"{"sub":"42"}"#), Says(connected(""))),
        (connect("{}"), Says(connected(""))),
        (connect(r#"{"sub":"42","exp":1700000100}"#), Says(connected(r#""expires":true,"ttl":100,"#))),
        (connect(r#"{"sub":"42","exp":1700000001}"#), Says(connected(r#""expires":true,"ttl":1,"#))),
        (connect(r#"{"exp":99999999999}"#), Says(connected(r#""expires":true,"ttl":31536000,"#))),
        (connect(r#"{"exp":1700000100,"expire_at":0}"#), Says(connected(""))),
        (
            connect(r#"{"exp":1700000100,"expire_at":1700000009}"#),
            Says(connected(r#""expires":true,"ttl":9,"#)),
        ),
        (connect(r#"{"sub":"42","exp":1700000000}"#), Says(error(1, 109, "token expired"))),
        (connect(r#"{"expire_at":1700000000}"#), Says(error(1, 110, "expired"))),
        (connect(r#"{"channels":["nons:x"]}"#), Says(error(1, 102, "unknown channel"))),
        // What clients may call channels binds no token.
        (connect(r#"{"channels":["\u00fc"]}"#), Says(connected("\"subs\":{\"\u{fc}\":{}},"))),
        (connect(r#"{"sub":"42","exp":"1700000100"}"#), Ends(Disconnect::INVALID_TOKEN)),
        (connect(r#"{"sub":"42","nbf":1700000001}"#), Says(error(1, 109, "token expired"))),
        (connect(r#"{"sub":"42","nbf":1700000000}"#), Says(connected(""))),
        (connect(r#"{"exp":1700000100,"expire_at":-1}"#), Says(connected(""))),
        (connect(r#"{"channel":"a"}"#), Ends(Disconnect::INVALID_TOKEN)),
        (format!(r#"{{"id":1,"connect":{{"token":"{forged}"}}}}"#), Ends(Disconnect::INVALID_TOKEN)),
        (r#"{"id":1,"connect":{"token":"bad"}}"#.into(), Ends(Disconnect::INVALID_TOKEN)),
        (r#"{"id":1,"connect":{}}"#.into(), Ends(Disconnect::BAD_REQUEST)),
    ];
    for (said, want) in rows {
        let mut one = One::new(settings());
        let conn = one.open(Protocol::Json);
        check(&mut one, conn, &said, want);
        one.core.invariants();
    }
}

#[test]
fn a_nameless_token_can_be_refused_and_channels_are_limited() {
    let mut settings = settings();
    settings.client.disallow_anonymous_connection_tokens = true;
    settings.client.channel_limit = 2;
    let mut one = One::new(settings.clone());
    let conn = one.open(Protocol::Json);
    check(&mut one, conn, &connect(r#"{"info":{}}"#), Ends(Disconnect::PERMISSION_DENIED));
    for (channels, fits) in [(r#"["a","b"]"#, true), (r#"["a","b","c"]"#, false)] {
        let mut one = One::new(settings.clone());
        let conn = one.open(Protocol::Json);
        one.hear(conn, &connect(&format!(r#"{{"sub":"1","channels":{channels}}}"#)));
        let want = if fits { vec![] } else { vec![(conn, Disconnect::CHANNEL_LIMIT)] };
        assert_eq!(one.closed, want);
    }
}

#[test]
fn a_header_names_the_user_and_a_token_wins() {
    let mut one = One::new(settings());
    let open = |one: &mut One, index, said: &str| {
        let conn = Key { index, generation: 1 };
        one.core.open(conn);
        let user = Some("7".into());
        let start = SessionStart { user, ..SessionStart::new(Protocol::Json, Framing::WebSocketText) };
        one.core.start_session(conn, start);
        one.hear(conn, said);
        one.hear(conn, r#"{"id":2,"subscribe":{"channel":"d#7"}}"#)
    };
    assert_eq!(open(&mut one, 50, r#"{"id":1,"connect":{}}"#), [r#"{"id":2,"subscribe":{}}"#]);
    assert_eq!(open(&mut one, 51, &connect(r#"{"sub":"8"}"#)), [error(2, 103, "permission denied")]);
}

#[test]
fn a_client_that_was_refused_may_leave_and_is_not_listened_to() {
    let mut one = One::new(settings());
    let conn = one.open(Protocol::Json);
    let said = format!("{}\n{}", connect(r#"{"exp":1}"#), r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    assert_eq!(one.hear(conn, &said), [error(1, 109, "token expired")]);
    assert!(one.hear(conn, "garbage 2").is_empty());
    one.closed.clear();
    let mut one = One::new(settings());
    let conn = one.open(Protocol::Json);
    one.hear(conn, &connect(r#"{"exp":1}"#));
    assert!(one.hear(conn, &connect(r#"{"sub":"42"}"#)).is_empty());
    one.later(4_900);
    assert_eq!(one.closed, []);
    one.later(300);
    assert_eq!(one.closed, [(conn, Disconnect::CONNECTION_CLOSED)]);
}

/// Lets time pass and answers pings.
fn wait(one: &mut One, conn: ConnKey, seconds: u64) -> Vec<String> {
    let end = one.now.ms + seconds * 1000;
    let mut heard = Vec::new();
    while one.now.ms < end {
        one.later(100);
        for message in one.heard(conn) {
            if message == "{}" {
                one.hear(conn, "{}");
            } else {
                heard.push(message);
            }
        }
    }
    heard
}

#[test]
fn a_connection_ends_after_its_token_unless_refreshed() {
    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42","exp":1700000010}"#);
    wait(&mut one, conn, 34);
    assert_eq!(one.closed, [], "25 seconds to refresh");
    wait(&mut one, conn, 2);
    assert_eq!(one.closed, [(conn, Disconnect::EXPIRED)]);

    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42","exp":1700000010}"#);
    wait(&mut one, conn, 20);
    let fresh =
        format!(r#"{{"id":9,"refresh":{{"token":"{}"}}}}"#, token(r#"{"sub":"42","exp":1700000120}"#));
    check(&mut one, conn, &fresh, Says(r#"{"id":9,"refresh":{"expires":true,"ttl":100}}"#.into()));
    wait(&mut one, conn, 120);
    assert_eq!(one.closed, []);
    let eternal = format!(r#"{{"id":9,"refresh":{{"token":"{}"}}}}"#, token(r#"{"sub":"42"}"#));
    check(&mut one, conn, &eternal, Says(r#"{"id":9,"refresh":{}}"#.into()));
    wait(&mut one, conn, 60);
    assert_eq!(one.closed, []);
}

/// A refresh may stand behind commands that are made to wait, but not for ever.
#[test]
fn who_never_stops_talking_goes_as_well() {
    let mut settings = settings();
    settings.channel.without_namespace.allow_publish_for_client = true;
    settings.channel.without_namespace.allow_publish_for_anonymous = true;
    let mut one = One::of(2, settings);
    let begun_ms = one.now.ms;
    let conn = client(&mut one, r#"{"exp":1700000010}"#);
    let abroad = (0..100).map(|i| format!("c{i}")).find(|name| one.core.owner(name) == 1).unwrap();
    let talk = [
        format!(r#"{{"id":2,"publish":{{"channel":"{abroad}","data":1}}}}"#),
        r#"{"id":3,"unsubscribe":{"channel":"x"}}"#.into(),
    ];
    while one.closed.is_empty() && one.now.ms < begun_ms + 100_000 {
        one.now.ms += 100;
        one.now.unix_ms += 100;
        one.say(conn, &talk.join("\n"));
        one.turn();
    }
    assert_eq!(one.closed, [(conn, Disconnect::EXPIRED)]);
    // Ten seconds, 25 to refresh, and as long as a question may take.
    let lasted_ms = one.now.ms - begun_ms;
    assert!((40_000..42_000).contains(&lasted_ms), "{lasted_ms}");
}

#[test]
fn where_everything_is_allowed_connections_do_not_expire() {
    let mut settings = settings();
    settings.client.insecure = true;
    for (claims, want) in [
        (r#"{"sub":"42","exp":1700000010}"#, connected("")),
        (r#"{"sub":"42","expire_at":1}"#, connected("")),
        // No token of any time: it is still looked at.
        (r#"{"sub":"42","exp":1700000000}"#, error(1, 109, "token expired")),
    ] {
        let mut one = One::new(settings.clone());
        let conn = one.open(Protocol::Json);
        check(&mut one, conn, &connect(claims), Says(want));
    }
    let mut one = One::new(settings);
    let conn = client(&mut one, r#"{"sub":"42","exp":1700000010}"#);
    wait(&mut one, conn, 40);
    assert_eq!(one.closed, []);
}

#[test]
fn a_jump_of_the_wall_clock_expires_nobody() {
    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42","exp":1700000100}"#);
    one.now.unix_ms += 3_600_000;
    wait(&mut one, conn, 124);
    assert_eq!(one.closed, []);
    wait(&mut one, conn, 2);
    assert_eq!(one.closed, [(conn, Disconnect::EXPIRED)]);
}

#[test]
fn what_a_refresh_must_be() {
    let refresh = |token: &str| format!(r#"{{"id":9,"refresh":{{"token":"{token}"}}}}"#);
    for (claims, want) in [
        (r#"{"sub":"43"}"#, Disconnect::INVALID_TOKEN),
        (r#"{"sub":"42","channel":"a"}"#, Disconnect::INVALID_TOKEN),
        (r#"{"sub":"42","exp":1700000000}"#, Disconnect::EXPIRED),
        (r#"{"sub":"42","expire_at":1700000000}"#, Disconnect::EXPIRED),
        (r#"{"sub":"42","nbf":1700000001}"#, Disconnect::EXPIRED),
        (r#"{"sub":"42","channels":["a"]}"#, Disconnect::INSUFFICIENT_STATE),
    ] {
        let mut one = One::new(settings());
        let conn = client(&mut one, r#"{"sub":"42"}"#);
        check(&mut one, conn, &refresh(&token(claims)), Ends(want));
    }
    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42","channels":["b","a"]}"#);
    let same = refresh(&token(r#"{"sub":"42","subs":{"a":{},"b":{}}}"#));
    check(&mut one, conn, &same, Says(r#"{"id":9,"refresh":{}}"#.into()));
    check(&mut one, conn, &refresh(""), Ends(Disconnect::BAD_REQUEST));
}

#[test]
fn subscribe_by_token() {
    let sub = |channel: &str, claims: &str| with_token("subscribe", channel, claims);
    let forged = sign(Hs::Hs256, "other", r#"{"sub":"42","channel":"$p"}"#);
    let forged = format!(r#"{{"id":2,"subscribe":{{"channel":"$p","token":"{forged}"}}}}"#);
    let rows = [
        (sub("$p", r#"{"sub":"42","channel":"$p"}"#), Says(r#"{"id":2,"subscribe":{}}"#.into())),
        (sub("open", r#"{"sub":"42","channel":"open"}"#), Says(r#"{"id":2,"subscribe":{}}"#.into())),
        (
            sub("$p", r#"{"sub":"42","channel":"$p","exp":1700000050,"data":[1]}"#),
            Says(r#"{"id":2,"subscribe":{"expires":true,"ttl":50,"data":[1]}}"#.into()),
        ),
        (
            sub("kept:a", r#"{"sub":"42","channel":"kept:a","override":{"force_recovery":{"value":false}}}"#),
            Says(r#"{"id":2,"subscribe":{}}"#.into()),
        ),
        (r#"{"id":2,"subscribe":{"channel":"$p"}}"#.into(), Says(error(2, 103, "permission denied"))),
        (r#"{"id":2,"subscribe":{"channel":"open"}}"#.into(), Says(error(2, 103, "permission denied"))),
        (r#"{"id":2,"subscribe":{"channel":"d#42"}}"#.into(), Says(r#"{"id":2,"subscribe":{}}"#.into())),
        (r#"{"id":2,"subscribe":{"channel":"d#4"}}"#.into(), Says(error(2, 103, "permission denied"))),
        (forged, Says(error(2, 103, "permission denied"))),
        (sub("$p", r#"{"sub":"42"}"#), Says(error(2, 103, "permission denied"))),
        (sub("$p", r#"{"sub":"42","channel":"$p","exp":1}"#), Says(error(2, 109, "token expired"))),
        (sub("$p", r#"{"sub":"42","channel":"$p","nbf":1700000001}"#), Says(error(2, 109, "token expired"))),
        (sub("$p", r#"{"sub":"42","channel":"$p","expire_at":1}"#), Says(error(2, 110, "expired"))),
        (
            sub("$p", r#"{"sub":"42","channel":"$p","exp":1700000050,"expire_at":-5}"#),
            Says(r#"{"id":2,"subscribe":{}}"#.into()),
        ),
        (
            sub("kept:a", r#"{"sub":"42","channel":"kept:a","override":{"force_recovery":{}}}"#),
            Says(r#"{"id":2,"subscribe":{}}"#.into()),
        ),
        (sub("$nons:p", r#"{"sub":"42","channel":"$nons:p"}"#), Says(error(2, 102, "unknown channel"))),
        (sub("$p", r#"{"sub":"42","channel":"$q"}"#), Ends(Disconnect::INVALID_TOKEN)),
        (sub("$p", r#"{"sub":"43","channel":"$p"}"#), Ends(Disconnect::INVALID_TOKEN)),
        (sub("$p", r#"{"channel":"$p"}"#), Ends(Disconnect::INVALID_TOKEN)),
        (sub("$p", r#"{"sub":"42","channel":"$p","client":"other"}"#), Ends(Disconnect::INVALID_TOKEN)),
    ];
    for (said, want) in rows {
        let mut one = One::new(settings());
        let conn = client(&mut one, r#"{"sub":"42"}"#);
        check(&mut one, conn, &said, want);
        one.core.invariants();
    }
}

#[test]
fn a_subscription_ends_after_its_token_unless_refreshed() {
    const ENDED: &str =
        r#"{"push":{"channel":"$p","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42"}"#);
    let short = r#"{"sub":"42","channel":"$p","exp":1700000010}"#;
    one.hear(conn, &with_token("subscribe", "$p", short));
    assert!(wait(&mut one, conn, 34).is_empty());
    assert_eq!(wait(&mut one, conn, 2), [ENDED]);
    let old = with_token("subscribe", "$p", short);
    check(&mut one, conn, &old, Says(error(2, 109, "token expired")));

    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42"}"#);
    one.hear(conn, &with_token("subscribe", "$p", short));
    wait(&mut one, conn, 20);
    let fresh = with_token("sub_refresh", "$p", r#"{"sub":"42","channel":"$p","exp":1700000060}"#);
    check(&mut one, conn, &fresh, Says(r#"{"id":2,"sub_refresh":{"expires":true,"ttl":40}}"#.into()));
    assert!(wait(&mut one, conn, 64).is_empty());
    assert_eq!(wait(&mut one, conn, 2), [ENDED]);
    assert_eq!(one.closed, []);
}

#[test]
fn what_a_sub_refresh_must_be() {
    let refresh = |claims: &str| with_token("sub_refresh", "$p", claims);
    let rows = [
        (refresh(r#"{"sub":"42","channel":"$p"}"#), Says(r#"{"id":2,"sub_refresh":{}}"#.into())),
        (refresh(r#"{"sub":"42","channel":"$p","exp":1}"#), Says(error(2, 109, "token expired"))),
        (refresh(r#"{"sub":"42","channel":"$p","nbf":1700000001}"#), Says(error(2, 109, "token expired"))),
        (refresh(r#"{"sub":"42","channel":"$p","expire_at":1}"#), Says(error(2, 110, "expired"))),
        (
            with_token("sub_refresh", "$q", r#"{"sub":"42","channel":"$q"}"#),
            Says(error(2, 103, "permission denied")),
        ),
        (r#"{"id":2,"sub_refresh":{"channel":"$p","token":""}}"#.into(), Says(error(2, 107, "bad request"))),
        (r#"{"id":2,"sub_refresh":{"channel":"","token":"x"}}"#.into(), Ends(Disconnect::BAD_REQUEST)),
        (r#"{"id":2,"sub_refresh":{"channel":"$p","token":"x"}}"#.into(), Ends(Disconnect::INVALID_TOKEN)),
        (refresh(r#"{"sub":"43","channel":"$p"}"#), Ends(Disconnect::INVALID_TOKEN)),
        (refresh(r#"{"sub":"42","channel":"$q"}"#), Ends(Disconnect::INVALID_TOKEN)),
    ];
    for (said, want) in rows {
        let mut one = One::new(settings());
        let conn = client(&mut one, r#"{"sub":"42"}"#);
        one.hear(conn, &with_token("subscribe", "$p", r#"{"sub":"42","channel":"$p"}"#));
        check(&mut one, conn, &said, want);
    }
}

#[test]
fn infos_of_connection_and_channel_are_shown() {
    let mut one = One::new(settings());
    let conn = client(&mut one, r#"{"sub":"42","info":{"n": 1}}"#);
    one.hear(conn, &with_token("subscribe", "$p", r#"{"sub":"42","channel":"$p","info":{"ci":1}}"#));
    let heard = one.hear(conn, r#"{"id":3,"publish":{"channel":"$p","data":1}}"#);
    let shown = r#""info":{"user":"42","client":"ID","conn_info":{"n": 1},"chan_info":{"ci":1}}"#;
    assert!(heard.iter().any(|it| it.contains(shown)), "{heard:?}");
    let fresh = token(r#"{"sub":"42","info":{"n":2}}"#);
    one.hear(conn, &format!(r#"{{"id":9,"refresh":{{"token":"{fresh}"}}}}"#));
    one.hear(conn, r#"{"id":4,"subscribe":{"channel":"d#42"}}"#);
    let heard = one.hear(conn, r#"{"id":5,"publish":{"channel":"d#42","data":1}}"#);
    let shown = r#""info":{"user":"42","client":"ID","conn_info":{"n":2}}"#;
    assert!(heard.iter().any(|it| it.contains(shown)), "{heard:?}");
}

#[test]
fn a_token_brings_subscriptions() {
    let mut one = One::new(settings());
    let conn = one.open(Protocol::Json);
    let claims = r#"{"sub":"42","subs":{"$p":{"data":{"a":1}},"kept:a":{}}}"#;
    let subs = |kept: &str| {
        connected(&format!(
            r#""subs":{{"$p":{{"data":{{"a":1}}}},"kept:a":{{"recoverable":true,"epoch":"E",{kept}}}}},"#
        ))
    };
    let behind = format!("{}\n{}", connect(claims), r#"{"id":2,"rpc":{}}"#);
    assert_eq!(one.hear(conn, &behind), [subs(r#""positioned":true"#), error(2, 108, "not available")]);
    assert_eq!(
        one.hear(conn, r#"{"id":3,"subscribe":{"channel":"$p"}}"#),
        [error(3, 105, "already subscribed")]
    );
    one.core.api(1, publish("kept:a", "7"));
    one.turn();
    assert_eq!(one.heard(conn).len(), 1);
    // Who comes back gets what it missed.
    one.core.begin_turn(one.now);
    one.core.end_session(conn);
    one.core.api(2, publish("kept:a", "8"));
    one.turn();
    let again = one.open(Protocol::Json);
    let back = connect(claims).replace("}}", r#","subs":{"kept:a":{"recover":true,"offset":1}}}}"#);
    let heard = one.hear(again, &back);
    let kept = r#""publications":[{"data":8,"offset":2}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true"#;
    assert_eq!(heard, [subs(kept)]);
    one.core.invariants();
}

fn publish(channel: &str, data: &str) -> ApiRequest {
    let options = PublishOptions::default();
    ApiRequest::Publish { channel: channel.into(), data: data.as_bytes().into(), tags: vec![], options }
}

#[test]
fn every_user_has_a_channel_when_told_so() {
    for (namespace, claims, want) in [
        ("", r#"{"sub":"42"}"#, r##""subs":{"#42":{}},"##),
        ("", r##"{"sub":"42","channels":["#42"]}"##, r##""subs":{"#42":{}},"##),
        (
            "kept",
            r#"{"sub":"42"}"#,
            r##""subs":{"kept:#42":{"recoverable":true,"epoch":"E","positioned":true}},"##,
        ),
        ("", "{}", ""),
        ("", r#"{"sub":"\u00fc"}"#, "\"subs\":{\"#\u{fc}\":{}},"),
    ] {
        let mut settings = settings();
        let personal = &mut settings.client.subscribe_to_user_personal_channel;
        personal.enabled = true;
        personal.personal_channel_namespace = namespace.into();
        let mut one = One::new(settings);
        let conn = one.open(Protocol::Json);
        check(&mut one, conn, &connect(claims), Says(connected(want)));
        // It is none of the token's.
        let fresh = format!(r#"{{"id":9,"refresh":{{"token":"{}"}}}}"#, token(claims));
        check(&mut one, conn, &fresh, Says(r#"{"id":9,"refresh":{}}"#.into()));
    }
}

/// What one core asked the owner of a channel to subscribe.
fn asked(asks: &[Mesh], channel: &str) -> Key {
    let found = asks.iter().find_map(|it| match it {
        Mesh::Ask { id, ask } => match &**ask {
            Ask::Subscribe(ask) if *ask.channel == *channel => Some(*id),
            _ => None,
        },
        _ => None,
    });
    found.expect("a question")
}

fn owned_by(one: &One, core: u16, from: usize) -> String {
    (from..).map(|n| format!("kept:{n}")).find(|it| one.core.owner(it) == core).expect("a name")
}

fn forwarded(one: &mut One, channel: Key, offset: u64) {
    let data = offset.to_string().into_bytes().into();
    let publication = Publication { offset, data, json: true, ..Publication::default() };
    let forward = Forward::Publication(Arc::new(publication));
    one.core.on_mesh(1, Mesh::Forward { channel, forward });
}

/// Two cores; the test is the other one, and answers when it likes.
#[test]
fn what_comes_while_connect_waits_is_recovered() {
    const TWO: &str =
        r#""publications":[{"data":5,"offset":5},{"data":6,"offset":6}],"recovered":true,"offset":4,"#;
    for (early, gap, want) in [
        (0, false, Some(r#""recovered":true,"offset":4,"#)),
        (2, false, Some(TWO)),
        (3, false, Some(r#""offset":7,"#)),
        (1, true, None),
    ] {
        let mut settings = settings();
        settings.client.recovery_max_publication_limit = 2;
        let mut one = One::of(2, settings);
        let (near, far, slow) = (owned_by(&one, 0, 0), owned_by(&one, 1, 0), owned_by(&one, 1, 1000));
        let claims = format!(r#"{{"sub":"42","channels":["{near}","{far}","{slow}"]}}"#);
        let from = format!(r#","subs":{{"{far}":{{"recover":true,"offset":4,"epoch":"e"}}}}}}}}"#);
        let conn = one.open(Protocol::Json);
        let said = connect(&claims).replace("}}", &from) + "\n" + r#"{"id":2,"rpc":{}}"#;
        assert!(one.hear(conn, &said).is_empty(), "nothing is told before all have answered");
        let asks: Vec<_> = std::mem::take(one.core.outgoing(1));
        one.core.outgoing_taken(1);
        let answer = |one: &mut One, channel: &str, key, offset, recovered| {
            let position = Some(Position { offset, epoch: "e".into() });
            let subscribed =
                Subscribed { channel: key, position, publications: vec![], recovered, state: vec![] };
            let answer = Box::new(Answer::Subscribed(subscribed));
            one.core.begin_turn(one.now);
            one.core.on_mesh(1, Mesh::Answer { id: asked(&asks, channel), answer });
        };
        let key = Key { index: 5, generation: 0 };
        answer(&mut one, &far, key, 4, true);
        (5..5 + early).for_each(|offset| forwarded(&mut one, key, offset));
        if gap {
            one.core.on_mesh(1, Mesh::Forward { channel: key, forward: Forward::Gap });
        }
        one.turn();
        assert!(one.heard(conn).is_empty());
        one.core.invariants();
        answer(&mut one, &slow, Key { index: 6, generation: 0 }, 0, false);
        one.turn();
        one.core.invariants();
        if let Some(want) = want {
            let heard = one.heard(conn);
            let rest = r#""positioned":true,"was_recovering":true}"#;
            let sub = format!(r#""{far}":{{"recoverable":true,"epoch":"E",{want}{rest}"#);
            assert!(heard[0].contains(&sub), "{heard:?}, want {sub}");
            assert_eq!(heard[1..], [error(2, 108, "not available")]);
            // It goes on where that ended.
            one.core.begin_turn(one.now);
            forwarded(&mut one, key, 5 + early);
            one.turn();
            assert_eq!(one.heard(conn).len(), 1);
        } else {
            assert_eq!(one.closed, [(conn, Disconnect::INSUFFICIENT_STATE)]);
        }
        one.core.begin_turn(one.now);
        one.core.end_session(conn);
        one.turn();
        one.core.invariants();
        assert_eq!(one.core.residue().hub_channels, 0);
    }
}

/// The client goes, or an owner stays silent, while connect waits.
#[test]
fn a_connect_that_is_given_up_leaves_nothing() {
    for silent in [false, true] {
        let mut one = One::of(2, settings());
        let claims =
            format!(r#"{{"sub":"42","channels":["{}","{}"]}}"#, owned_by(&one, 0, 0), owned_by(&one, 1, 0));
        let conn = one.open(Protocol::Json);
        one.hear(conn, &connect(&claims));
        if silent {
            one.later(5_100);
            assert_eq!(one.closed, [(conn, Disconnect::INTERNAL)]);
        } else {
            one.core.begin_turn(one.now);
            one.core.end_session(conn);
            one.turn();
        }
        one.core.invariants();
        // Only the channel whose owner has not answered is left.
        let residue = one.core.residue();
        assert_eq!((residue.sessions, residue.hub_channels, residue.subscribed_channels), (0, 1, 0));
    }
}
