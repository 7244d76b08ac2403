//! Clients of version 1: how they are known, and what is done for them only.

use super::*;
use crate::config::ProtocolV1;

impl One {
    fn end_of(&self, conn: ConnKey) -> Option<(u32, String)> {
        let (_, disconnect) = self.closed.iter().find(|(closed, _)| *closed == conn)?;
        Some((disconnect.code, disconnect.reason.to_string()))
    }
}

fn old_world() -> One {
    let mut settings = open_settings();
    settings.client.protocol_v1 = ProtocolV1::Offset;
    One::new(settings)
}

#[test]
fn a_client_is_known_by_its_first_command() {
    let mut one = old_world();
    let (old, new) = (one.open(Protocol::Json), one.open(Protocol::Json));
    let heard = one.hear(old, "{\"params\":{\"name\":\"js\"},\"id\":1}\n{\"method\":1,\"params\":{\"channel\":\"plain:a\"},\"id\":2}\n{\"method\":7,\"id\":3}");
    assert!(heard[0].starts_with(r#"{"id":1,"result":{"client":""#), "{heard:?}");
    assert_eq!(heard[1..], [r#"{"id":2,"result":{}}"#, r#"{"id":3,"result":{}}"#]);
    one.hear(new, r#"{"id":1,"connect":{}}"#);
    let heard = one.hear(new, r#"{"id":2,"subscribe":{"channel":"plain:a"}}"#);
    assert_eq!(heard, [r#"{"id":2,"subscribe":{}}"#]);
    one.say(new, r#"{"id":3,"publish":{"channel":"plain:a","data":{}}}"#);
    one.turn();
    // Each is told in its own words.
    assert!(one.heard(old)[0].starts_with(r#"{"result":{"channel":"plain:a","data":{"data":{}"#));
    assert!(one.heard(new).iter().any(|it| it.starts_with(r#"{"push":{"channel":"plain:a""#)));
    // What is nothing in version 1 either.
    assert_eq!(
        one.hear(old, r#"{"id":9,"method":77}"#),
        [r#"{"id":9,"error":{"code":104,"message":"method not found"}}"#]
    );
    one.hear(old, r#"{"id":10,"connect":{}}"#);
    assert_eq!(one.end_of(old), Some((3501, r#"{"reason":"bad request","reconnect":false}"#.to_owned())));
}

#[test]
fn who_said_something_else_first_is_not() {
    for first in ["{}", r#"{"id":1,"subscribe":{"channel":"a"}}"#, r#"{"method":0}"#] {
        let mut one = old_world();
        let conn = one.open(Protocol::Json);
        one.hear(conn, first);
        assert_eq!(one.end_of(conn), Some((3501, "bad request".to_owned())), "{first}");
    }
    let mut off = One::new(open_settings());
    let conn = off.open(Protocol::Json);
    off.hear(conn, r#"{"id":1,"params":{}}"#);
    assert_eq!(off.end_of(conn), Some((3501, "bad request".to_owned())));
}

/// The server's own pings are frames of the WebSocket, and have to be answered.
#[test]
fn it_is_pinged_by_frames() {
    let mut one = old_world();
    let conn = one.open(Protocol::Json);
    one.hear(conn, r#"{"id":1}"#);
    one.later(25_000);
    let pinged = one.written.iter().any(|(to, bytes)| *to == conn && bytes.ends_with(&[0x89, 0]));
    assert!(pinged, "{:?}", one.written);
    one.later(9_000);
    assert_eq!(one.end_of(conn), Some((3012, r#"{"reason":"no pong","reconnect":true}"#.to_owned())));
}
