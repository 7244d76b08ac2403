//! Tokens whose key is fetched while they wait, and what tokens allow beyond the options of channels.

use super::{One, open_settings};
use crate::{
    auth::{Hs, KeySet, sign},
    config::{ChannelOptions, Settings},
    metrics::Counter,
    model::{Disconnect, Protocol},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as URL};
use std::sync::Arc;

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.token.jwks_public_endpoint = "https://id/keys".into();
    settings
}

fn token(pair: &Ed25519KeyPair, id: &str, claims: &str) -> String {
    let header = format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#);
    let signed = format!("{}.{}", URL.encode(header), URL.encode(claims));
    let signature = URL.encode(pair.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn connect(token: &str) -> String {
    format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)
}

fn keys(pair: &Ed25519KeyPair) -> Arc<KeySet> {
    let x = URL.encode(pair.public_key().as_ref());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","x":"{x}"}}]}}"#);
    Arc::new(KeySet::read(set.as_bytes()).unwrap())
}

fn told(one: &mut One, endpoint: &Arc<str>, keys: Option<&Arc<KeySet>>) {
    one.core.begin_turn(one.now);
    one.core.on_keys(endpoint, keys);
    one.turn();
}

#[test]
fn connect_waits_for_keys_with_what_stands_behind_it() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let mut one = One::new(settings());
    let conn = one.open(Protocol::Json);
    let said = format!(
        "{}\n{}",
        connect(&token(&pair, "1", r#"{"sub":"42"}"#)),
        r#"{"id":2,"history":{"channel":"a"}}"#
    );
    assert!(one.hear(conn, &said).is_empty());
    assert!(one.hear(conn, r#"{"id":3,"history":{"channel":"a"}}"#).is_empty());
    let [endpoint] = &one.fetches.clone()[..] else { panic!("{:?}", one.fetches) };
    assert_eq!(&**endpoint, "https://id/keys");
    told(&mut one, endpoint, Some(&keys(&pair)));
    let heard = one.heard(conn);
    assert!(heard[0].contains(r#""connect":{"client""#), "{heard:?}");
    assert!(heard[1].starts_with(r#"{"id":2"#) && heard[2].starts_with(r#"{"id":3"#), "{heard:?}");
    // Known keys need no question, an unknown one is refused at once.
    let next = one.open(Protocol::Json);
    assert_eq!(one.hear(next, &connect(&token(&pair, "1", "{}"))).len(), 1);
    let other = one.open(Protocol::Json);
    one.hear(other, &connect(&token(&pair, "2", "{}")));
    assert_eq!((one.fetches.len(), &one.closed[..]), (1, &[(other, Disconnect::INVALID_TOKEN)][..]));
}

#[test]
fn a_crowd_of_unknown_keys_asks_once_and_is_told_to_come_back() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let mut one = One::new(settings());
    let conns: Vec<_> = (0..50)
        .map(|n| {
            let conn = one.open(Protocol::Json);
            assert!(one.hear(conn, &connect(&token(&pair, &format!("k{n}"), "{}"))).is_empty());
            conn
        })
        .collect();
    assert_eq!(one.fetches.len(), 1);
    // Nobody answers in time; then the wait is over without a word that would keep them away.
    let mut heard = Vec::new();
    for _ in 0..60 {
        one.later(100);
        heard.extend(conns.iter().flat_map(|&conn| one.heard(conn)));
    }
    let temporary = r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(heard, vec![temporary; 50]);
    assert_eq!((one.fetches.len(), one.core.residue().pending), (1, 0));
    assert!(one.closed.iter().all(|(_, why)| *why == Disconnect::CONNECTION_CLOSED), "{:?}", one.closed);
}

#[test]
fn a_client_that_goes_while_it_waits_leaves_nothing() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let mut one = One::new(settings());
    let conn = one.open(Protocol::Json);
    one.hear(conn, &connect(&token(&pair, "1", "{}")));
    one.core.end_session(conn);
    let endpoint = one.fetches[0].clone();
    told(&mut one, &endpoint, Some(&keys(&pair)));
    assert!(one.written.is_empty());
    for _ in 0..60 {
        one.later(100);
    }
    assert_eq!(one.core.residue(), Default::default());
}

#[test]
fn refresh_and_subscribe_wait_as_well() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let mut settings = settings();
    settings.client.subscription_token.enabled = true;
    settings.client.subscription_token.token.jwks_public_endpoint = "https://id/subs".into();
    let mut one = One::new(settings);
    let conn = one.open(Protocol::Json);
    one.hear(conn, &connect(&token(&pair, "1", r#"{"sub":"42"}"#)));
    let endpoint = one.fetches[0].clone();
    told(&mut one, &endpoint, Some(&keys(&pair)));
    let claims = r#"{"sub":"42","channel":"$a"}"#;
    let subscribe =
        format!(r#"{{"id":2,"subscribe":{{"channel":"$a","token":"{}"}}}}"#, token(&pair, "1", claims));
    assert!(one.hear(conn, &subscribe).is_empty(), "the keys of connections are not those of subscriptions");
    let endpoint = one.fetches[1].clone();
    assert_eq!(&*endpoint, "https://id/subs");
    told(&mut one, &endpoint, Some(&keys(&pair)));
    assert!(one.heard(conn)[0].starts_with(r#"{"id":2,"subscribe":{"#), "{:?}", one.heard(conn));
    let unknown = subscribe.replace("$a", "$b");
    let denied = [r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#];
    assert_eq!(
        one.hear(conn, &unknown.replace(&token(&pair, "1", claims), &token(&pair, "9", claims))),
        denied
    );
    let refresh = format!(r#"{{"id":3,"refresh":{{"token":"{}"}}}}"#, token(&pair, "1", r#"{"sub":"42"}"#));
    assert_eq!(one.hear(conn, &refresh), [r#"{"id":3,"refresh":{}}"#]);
    assert_eq!(one.fetches.len(), 2);
    assert!(one.core.counters().value(Counter::Disconnects) == 0);
}

/// Nothing is allowed by options here.
fn closed_settings() -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.token.hmac_secret_key = "secret".into();
    settings.channel.without_namespace = ChannelOptions {
        presence: true,
        history_size: 10,
        history_ttl: std::time::Duration::from_secs(60),
        ..ChannelOptions::default()
    };
    settings
}

#[test]
fn capabilities_allow_what_options_do_not() {
    let caps = r#"[{"channels":["room*"],"match":"wildcard","allow":["sub","pub"]},
        {"channels":["^hall-[0-9]+$"],"match":"regex","allow":["hst"]},{"channels":["room1","$p"],"allow":["prs","sub"]}]"#;
    let says = |command: &str, want: Result<(), u32>| {
        let mut one = One::new(closed_settings());
        let conn = one.open(Protocol::Json);
        one.hear(conn, &connect(&sign(Hs::Hs256, "secret", &format!(r#"{{"sub":"42","caps":{caps}}}"#))));
        let heard = one.hear(conn, command);
        let ok = match want {
            Ok(()) => !heard[0].contains("error"),
            Err(code) => heard[0].contains(&format!(r#""error":{{"code":{code},"#)),
        };
        assert!(ok, "{command}: {heard:?}");
    };
    for (command, want) in [
        (r#"{"id":2,"subscribe":{"channel":"room7"}}"#, Ok(())),
        (r#"{"id":2,"subscribe":{"channel":"hall-1"}}"#, Err(103)),
        (r#"{"id":2,"subscribe":{"channel":"$p"}}"#, Ok(())),
        (r#"{"id":2,"subscribe":{"channel":"$q"}}"#, Err(103)),
        (r#"{"id":2,"subscribe":{"channel":"nons:room"}}"#, Err(102)),
        (r#"{"id":2,"publish":{"channel":"room7","data":1}}"#, Ok(())),
        (r#"{"id":2,"publish":{"channel":"lobby","data":1}}"#, Err(103)),
        (r#"{"id":2,"history":{"channel":"hall-12"}}"#, Ok(())),
        (r#"{"id":2,"history":{"channel":"hall-x"}}"#, Err(103)),
        (r#"{"id":2,"history":{"channel":"room1"}}"#, Err(103)),
        (r#"{"id":2,"presence":{"channel":"room1"}}"#, Ok(())),
        (r#"{"id":2,"presence":{"channel":"plain:room1"}}"#, Err(108)),
    ] {
        says(command, want);
    }
}

#[test]
fn capabilities_end_with_the_token_that_gave_them() {
    let mut one = One::new(closed_settings());
    let conn = one.open(Protocol::Json);
    let given = r#"{"sub":"42","caps":[{"channels":["a"],"allow":["pub"]}]}"#;
    one.hear(conn, &connect(&sign(Hs::Hs256, "secret", given)));
    let publish = r#"{"id":2,"publish":{"channel":"a","data":1}}"#;
    assert_eq!(one.hear(conn, publish), [r#"{"id":2,"publish":{}}"#]);
    let without = sign(Hs::Hs256, "secret", r#"{"sub":"42"}"#);
    one.hear(conn, &format!(r#"{{"id":3,"refresh":{{"token":"{without}"}}}}"#));
    assert!(one.hear(conn, publish)[0].contains(r#""code":103"#));
    let broken = one.open(Protocol::Json);
    let bad = r#"{"sub":"42","caps":[{"channels":["("],"match":"regex","allow":["pub"]}]}"#;
    one.hear(broken, &connect(&sign(Hs::Hs256, "secret", bad)));
    assert_eq!(one.closed, [(broken, Disconnect::INVALID_TOKEN)]);
}

/// Of what a client says it was subscribed to by the server, it gets what it may have anyway.
#[test]
fn wishes_at_connect_are_granted_as_far_as_options_go() {
    let mut settings = closed_settings();
    settings.channel.without_namespace.allow_subscribe_for_client = true;
    let mut one = One::new(settings);
    let conn = one.open(Protocol::Json);
    let token = sign(Hs::Hs256, "secret", r#"{"sub":"42","channels":["own"]}"#);
    let wishes = r#"{"own":{},"open":{},"$private":{},"nons:x":{},"plain:x":{},"":{}}"#;
    let heard = one.hear(conn, &format!(r#"{{"id":1,"connect":{{"token":"{token}","subs":{wishes}}}}}"#));
    assert!(heard[0].contains(r#""subs":{"own":{},"open":{}}"#), "{heard:?}");
    // Wishes are not of the token: a refresh does not miss them.
    let refresh = one.hear(conn, &format!(r#"{{"id":2,"refresh":{{"token":"{token}"}}}}"#));
    assert_eq!(refresh, [r#"{"id":2,"refresh":{}}"#]);
}
