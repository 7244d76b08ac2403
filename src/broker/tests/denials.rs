//! Users and tokens that are kept out by the server API.

use super::{One, open_settings};
use crate::{
    auth::{Hs, sign},
    broker::seam::{ApiReply, ApiRequest, Denial},
    config::Settings,
    model::{ConnKey, Disconnect, ErrorCode, Protocol},
};

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.token.hmac_secret_key = "secret".into();
    settings
}

fn token(claims: &str) -> String {
    sign(Hs::Hs256, "secret", claims)
}

/// How a connect with these claims is closed; `None`: it is connected.
fn connect(one: &mut One, claims: &str) -> (ConnKey, Option<Disconnect>) {
    let conn = one.open(Protocol::Json);
    let heard = one.hear(conn, &format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, token(claims)));
    let closed = one.closed.pop().map(|(_, why)| why);
    assert_eq!(heard.is_empty(), closed.is_some(), "{heard:?}");
    (conn, closed)
}

fn invalidate(user: &str, channel: &str) -> Denial {
    Denial::Invalidate { user: user.into(), channel: channel.into(), issued_before: 0, expire_at: 0 }
}

fn call(one: &mut One, denial: Denial) -> Result<(), ErrorCode> {
    one.core.begin_turn(one.now);
    one.core.api(1, ApiRequest::Deny(denial));
    one.turn();
    match one.api.pop() {
        Some((1, Ok(ApiReply::Done))) => Ok(()),
        Some((1, Err(error))) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blocked_user_goes_and_stays_away() {
    let mut one = One::new(settings());
    let (conn, _) = connect(&mut one, r#"{"sub":"a"}"#);
    let (other, _) = connect(&mut one, r#"{"sub":"b"}"#);
    let until = 1_700_000_002;
    call(&mut one, Denial::Block { user: "a".into(), expire_at: until }).unwrap();
    assert_eq!(one.closed, [(conn, Disconnect::PERMISSION_DENIED)]);
    one.closed.clear();
    assert_eq!(connect(&mut one, r#"{"sub":"a"}"#).1, Some(Disconnect::PERMISSION_DENIED));
    assert_eq!(connect(&mut one, "{}").1, None);
    (0..20).for_each(|_| one.later(100));
    assert_eq!(connect(&mut one, r#"{"sub":"a"}"#).1, None, "its time is up");
    call(&mut one, Denial::Block { user: "b".into(), expire_at: 0 }).unwrap();
    assert_eq!(one.closed, [(other, Disconnect::PERMISSION_DENIED)]);
    one.closed.clear();
    assert_eq!(connect(&mut one, r#"{"sub":"b"}"#).1, Some(Disconnect::PERMISSION_DENIED));
    call(&mut one, Denial::Unblock { user: "b".into() }).unwrap();
    assert_eq!(connect(&mut one, r#"{"sub":"b"}"#).1, None);
}

#[test]
fn a_revoked_token_opens_and_prolongs_nothing() {
    let mut one = One::new(settings());
    let claims = r#"{"sub":"a","jti":"t1","iat":1699999999}"#;
    let (conn, _) = connect(&mut one, claims);
    call(&mut one, Denial::Revoke { id: "t1".into(), expire_at: 0 }).unwrap();
    assert_eq!(one.closed.pop(), Some((conn, Disconnect::INVALIDATED)), "what it has opened ends");
    assert_eq!(connect(&mut one, claims).1, Some(Disconnect::INVALID_TOKEN));
    assert_eq!(connect(&mut one, r#"{"sub":"a","jti":"t2","iat":1699999999}"#).1, None);
    let (conn, _) = connect(&mut one, r#"{"sub":"a","jti":"t3","iat":1699999999}"#);
    one.hear(conn, &format!(r#"{{"id":2,"refresh":{{"token":"{}"}}}}"#, token(claims)));
    assert_eq!(one.closed.pop(), Some((conn, Disconnect::INVALID_TOKEN)), "and prolongs nothing");
    call(&mut one, invalidate("a", "")).unwrap();
    one.closed.clear();
    for (claims, want) in [
        (r#"{"sub":"a","iat":1699999999}"#, Some(Disconnect::INVALID_TOKEN)),
        (r#"{"sub":"a"}"#, Some(Disconnect::INVALID_TOKEN)),
        (r#"{"sub":"a","iat":1700000000}"#, None),
        (r#"{"sub":"b","iat":1}"#, None),
    ] {
        assert_eq!(connect(&mut one, claims).1, want, "{claims}");
    }
}

#[test]
fn there_is_room_for_so_many() {
    let mut settings = settings();
    settings.client.denials_max = 1;
    let mut one = One::new(settings);
    call(&mut one, Denial::Revoke { id: "t1".into(), expire_at: 0 }).unwrap();
    assert_eq!(
        call(&mut one, Denial::Revoke { id: "t2".into(), expire_at: 0 }),
        Err(ErrorCode::LimitExceeded)
    );
    let block = |user: &str| Denial::Block { user: user.into(), expire_at: 0 };
    assert_eq!(call(&mut one, block("a")), Ok(()), "users take no room from tokens");
    assert_eq!(call(&mut one, block("b")), Err(ErrorCode::LimitExceeded));
    assert_eq!(one.core.residue().pending, 0);
}

#[test]
fn sessions_of_tokens_that_are_refused_end() {
    let mut one = One::new(settings());
    let rows = [
        r#"{"sub":"a","jti":"t1","iat":1699999999}"#,
        r#"{"sub":"a","jti":"t2","iat":1700000000}"#,
        r#"{"sub":"a"}"#,
        r#"{"sub":"b","jti":"t1","iat":1}"#,
        "{}",
    ];
    let conns = rows.map(|claims| connect(&mut one, claims).0);
    let anonymous = one.client();
    let ended = |one: &mut One| -> Vec<ConnKey> {
        let ended = std::mem::take(&mut one.closed);
        assert!(ended.iter().all(|(_, why)| *why == Disconnect::INVALIDATED), "{ended:?}");
        ended.into_iter().map(|(conn, _)| conn).collect()
    };
    call(&mut one, invalidate("a", "")).unwrap();
    assert_eq!(ended(&mut one), [conns[0], conns[2]], "made before now, or who knows when");
    call(&mut one, Denial::Revoke { id: "t1".into(), expire_at: 0 }).unwrap();
    assert_eq!(ended(&mut one), [conns[3]]);
    // A new token takes the place of the old one.
    let refresh = |claims| format!(r#"{{"id":2,"refresh":{{"token":"{}"}}}}"#, token(claims));
    one.hear(conns[1], &refresh(r#"{"sub":"a","jti":"t4","iat":1700000001}"#));
    call(&mut one, Denial::Revoke { id: "t2".into(), expire_at: 0 }).unwrap();
    assert_eq!(ended(&mut one), []);
    call(&mut one, Denial::Revoke { id: "t4".into(), expire_at: 0 }).unwrap();
    assert_eq!(ended(&mut one), [conns[1]]);
    call(
        &mut one,
        Denial::Invalidate { user: "a".into(), channel: "".into(), issued_before: 0, expire_at: 0 },
    )
    .unwrap();
    assert_eq!(ended(&mut one), []);
    assert_eq!(one.hear(anonymous, r#"{"id":2,"presence_stats":{"channel":"joins:a"}}"#).len(), 1);
}

#[test]
fn subscriptions_of_tokens_that_are_refused_end() {
    const ENDED: &str =
        r#"{"push":{"channel":"$p","unsubscribe":{"code":2502,"reason":"state invalidated"}}}"#;
    const DENIED: &str = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
    let mut settings = settings();
    settings.client.insecure = false;
    let with = |name: &str, more: &str| {
        let token = token(&format!(r#"{{"sub":"a","channel":"$p"{more}}}"#));
        format!(r#"{{"id":2,"{name}":{{"channel":"$p","token":"{token}"}}}}"#)
    };
    let old = r#","iat":1699999999,"jti":"s1""#;
    for denial in
        [Denial::Revoke { id: "s1".into(), expire_at: 0 }, invalidate("a", "$p"), invalidate("a", "")]
    {
        let ends = !matches!(&denial, Denial::Invalidate { channel, .. } if channel.is_empty());
        let mut one = One::new(settings.clone());
        let (conn, _) = connect(&mut one, r#"{"sub":"a","iat":1700000001}"#);
        let (other, _) = connect(&mut one, r#"{"sub":"a","iat":1700000001}"#);
        assert!(one.hear(conn, &with("subscribe", old))[0].contains("subscribe"));
        assert!(
            one.hear(other, &with("subscribe", r#","iat":1700000001,"jti":"s2""#))[0].contains("subscribe")
        );
        call(&mut one, denial.clone()).unwrap();
        assert_eq!(one.heard(conn).iter().any(|it| it == ENDED), ends, "{denial:?}");
        assert!(!one.heard(other).iter().any(|it| it == ENDED), "{denial:?}");
        assert!(one.closed.is_empty());
        if ends {
            assert_eq!(one.hear(conn, &with("subscribe", old)), [DENIED], "{denial:?}");
            assert!(one.hear(conn, &with("subscribe", r#","iat":1700000001"#))[0].contains("subscribe"));
            one.hear(conn, &with("sub_refresh", old));
            assert_eq!(one.closed.pop(), Some((conn, Disconnect::INVALID_TOKEN)), "as with a wrong one");
        }
        one.core.invariants();
    }
}
