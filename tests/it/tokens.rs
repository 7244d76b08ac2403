//! The rows of Centrifugo 6.9.1 about tokens, from this server on both backends; ours where we differ on purpose.

use crate::{
    client::{PATH, WebSocket},
    golden,
    server::{Server, VARIANTS},
};
use corecast::auth::{Hs, sign};
use std::time::{SystemTime, UNIX_EPOCH};

const SETTINGS: [&str; 5] = [
    "client.token.hmac_secret_key=secret",
    "client.user_id_http_header=X-User",
    "channel.without_namespace={\"presence\":true,\"join_leave\":true,\"force_push_join_leave\":true,\"history_size\":100,\"history_ttl\":\"5m\",\"force_recovery\":true,\"allow_user_limited_channels\":true}",
    "http_api.insecure=true",
    "runtime.balance=true",
];

fn servers() -> impl Iterator<Item = Server> {
    VARIANTS.iter().map(|variant| {
        let settings: Vec<_> = SETTINGS.iter().chain(variant).copied().collect();
        Server::start(&settings)
    })
}

/// `claims` without their closing brace, good for so many seconds.
fn token(claims: &str, ttl: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let exp = now.checked_add_signed(ttl).expect("in range");
    sign(Hs::Hs256, "secret", &format!(r#"{claims},"exp":{exp}}}"#))
}

fn connect(token: &str) -> String {
    format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)
}

fn connected(server: &Server) -> WebSocket {
    let mut client = WebSocket::open(server);
    client.text(&connect(&token(r#"{"sub":"42""#, 100)));
    let line = plain(&client.line());
    assert!(line.contains(r#""expires":true,"ttl":100,"ping":25,"pong":true"#), "{line}");
    client
}

/// As [`golden::plain`]; a second may have begun since the token was made.
fn plain(line: &str) -> String {
    let later = |line: String, (late, early): (&str, &str)| line.replace(late, early);
    let seconds =
        [("\"ttl\":99", "\"ttl\":100"), ("\"ttl\":199", "\"ttl\":200"), ("\"ttl\":49", "\"ttl\":50")];
    seconds.into_iter().fold(golden::plain(line), later)
}

#[track_caller]
fn says(client: &mut WebSocket, said: &str, want: &str) {
    client.text(said);
    assert_eq!(plain(&client.line()), want, "after {said}");
}

#[track_caller]
fn closes(client: &mut WebSocket, said: &str, code: u16, reason: &str) {
    client.text(said);
    assert_eq!(client.close(), (code, reason.to_owned()), "after {said}");
}

#[test]
fn connections() {
    for server in servers() {
        let mut client = WebSocket::open(&server);
        client.text(&connect(&token(r#"{"sub":"42","info":{"n": 1},"channels":["srv"]"#, 100)));
        let line = plain(&client.line());
        let subs = r#""expires":true,"ttl":100,"subs":{"srv":{"recoverable":true,"epoch":"E","positioned":true}},"ping":25,"pong":true}}"#;
        assert!(line.ends_with(subs), "{line}");
        let join =
            r#"{"push":{"channel":"srv","join":{"info":{"user":"42","client":"C","conn_info":{"n": 1}}}}}"#;
        assert_eq!(plain(&client.line()), join);
        let fresh = token(r#"{"sub":"42","channels":["srv"]"#, 200);
        let fresh = format!(r#"{{"id":2,"refresh":{{"token":"{fresh}"}}}}"#);
        says(&mut client, &fresh, r#"{"id":2,"refresh":{"expires":true,"ttl":200}}"#);

        let mut client = WebSocket::open(&server);
        let expired = r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#;
        says(&mut client, &connect(&token(r#"{"sub":"42""#, -1)), expired);
        closes(&mut WebSocket::open(&server), &connect("bad"), 3500, "invalid token");

        let refresh = |token: &str| format!(r#"{{"id":2,"refresh":{{"token":"{token}"}}}}"#);
        let old = refresh(&token(r#"{"sub":"42""#, -1));
        closes(&mut connected(&server), &old, 3005, "connection expired");
        closes(&mut connected(&server), &refresh(""), 3501, "bad request");
        closes(&mut connected(&server), &refresh("x"), 3500, "invalid token");

        let (mut client, _) = WebSocket::open_at(&server, PATH, "X-User: 7\r\n");
        client.text(r#"{"id":1,"connect":{}}"#);
        assert!(client.line().contains(r#""client":"#));
        client.text(r#"{"id":2,"subscribe":{"channel":"d#7"}}"#);
        assert!(client.line().contains(r#""subscribe":{"#));
        closes(&mut WebSocket::open(&server), r#"{"id":1,"connect":{}}"#, 3501, "bad request");
        // A proxy that knows no user vouches for none.
        let (mut client, _) = WebSocket::open_at(&server, PATH, "X-User: \r\n");
        closes(&mut client, r#"{"id":1,"connect":{}}"#, 3501, "bad request");
    }
}

#[test]
fn subscriptions() {
    for server in servers() {
        let by = |command: &str, id: u32, token: &str| {
            format!(r#"{{"id":{id},"{command}":{{"channel":"$p","token":"{token}"}}}}"#)
        };
        let good = token(r#"{"sub":"42","channel":"$p","info":{"ci":1}"#, 50);
        let old = token(r#"{"sub":"42","channel":"$p""#, -1);
        let mut client = connected(&server);
        let denied = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        let expired = |id| format!(r#"{{"id":{id},"error":{{"code":109,"message":"token expired"}}}}"#);
        says(&mut client, r#"{"id":2,"subscribe":{"channel":"$p"}}"#, denied);
        says(&mut client, &by("subscribe", 2, "bad"), denied);
        says(&mut client, &by("subscribe", 2, &old), &expired(2));
        let told = r#"{"id":2,"subscribe":{"expires":true,"ttl":50,"recoverable":true,"epoch":"E","positioned":true}}"#;
        says(&mut client, &by("subscribe", 2, &good), told);
        let join = plain(&client.line());
        assert!(join.contains(r#""user":"42","client":"C","chan_info":{"ci":1}}"#), "{join}");
        let refreshed = r#"{"id":4,"sub_refresh":{"expires":true,"ttl":50}}"#;
        says(&mut client, &by("sub_refresh", 4, &good), refreshed);
        // Centrifugo answers as if it had no end.
        says(&mut client, &by("sub_refresh", 3, &old), &expired(3));
        closes(&mut client, &by("sub_refresh", 5, "bad"), 3500, "invalid token");
        let other = token(r#"{"sub":"42","channel":"$q""#, 50);
        closes(&mut connected(&server), &by("subscribe", 2, &other), 3500, "invalid token");
    }
}
