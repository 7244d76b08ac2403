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
    assert!(one.closed.is_empty(), "who is connected stays");
    assert_eq!(connect(&mut one, claims).1, Some(Disconnect::INVALID_TOKEN));
    assert_eq!(connect(&mut one, r#"{"sub":"a","jti":"t2","iat":1699999999}"#).1, None);
    one.hear(conn, &format!(r#"{{"id":2,"refresh":{{"token":"{}"}}}}"#, token(claims)));
    assert_eq!(one.closed.pop(), Some((conn, Disconnect::INVALID_TOKEN)));
    call(&mut one, Denial::Invalidate { user: "a".into(), issued_before: 0, expire_at: 0 }).unwrap();
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
    let block = Denial::Block { user: "a".into(), expire_at: 0 };
    assert_eq!(call(&mut one, block), Err(ErrorCode::LimitExceeded));
    assert_eq!(one.core.residue().pending, 0);
}
