//! Rows about what ends a connection and what does not.

use super::{CONNECT, VERSION, plain, servers};
use crate::{
    client::{Frame, PATH, WebSocket, frame},
    http::post,
    server::{Server, VARIANTS},
};
use corecast::auth::{Hs, sign};

const NOT_AVAILABLE: &str = r#"{"id":9,"error":{"code":108,"message":"not available"}}"#;
const RPC: &str = r#"{"id":9,"rpc":{"method":"x"}}"#;

#[test]
fn what_is_said_behind_error_109_is_not_answered() {
    for variant in VARIANTS {
        let server = Server::start(&[variant[0], variant[1], "client.token.hmac_secret_key=secret"]);
        let expired = sign(Hs::Hs256, "secret", r#"{"sub":"42","exp":1}"#);
        let connect = format!(r#"{{"id":1,"connect":{{"token":"{expired}"}}}}"#);
        let mut client = WebSocket::open(&server);
        client.text(&format!("{connect}\n{}", r#"{"id":2,"subscribe":{"channel":"a"}}"#));
        assert_eq!(client.line(), r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#);
        client.text(RPC);
        client.text(&connect);
        client.raw(&frame(0x89, b"?"));
        assert_eq!(client.frame(), Frame::Pong(b"?".to_vec()), "and nothing before it");
    }
}

// Centrifugo disconnects with 3508.
#[test]
fn a_message_for_nobody_is_ignored() {
    for server in servers() {
        let (mut client, _) = WebSocket::connected(&server);
        client.text(r#"{"send":{"data":{}}}"#);
        client.text(RPC);
        assert_eq!(client.line(), NOT_AVAILABLE);
    }
}

#[test]
fn no_pong_and_pings_of_the_websocket() {
    for variant in VARIANTS {
        let server = Server::start(&[
            variant[0],
            variant[1],
            "client.allow_anonymous_connect_without_token=true",
            "client.ping_interval=300ms",
            "client.pong_timeout=100ms",
        ]);
        let (mut client, _) = WebSocket::connected(&server);
        let (mut by_frames, _) =
            WebSocket::open_at(&server, &format!("{PATH}?cf_ws_frame_ping_pong=true"), "");
        by_frames.text(CONNECT);
        let connected = format!(r#"{{"id":1,"connect":{{"client":"C","version":"{VERSION}"}}}}"#);
        assert_eq!(plain(&by_frames.line()), connected);
        assert_eq!(client.line(), "{}");
        assert_eq!(client.close(), (3012, "no pong".to_owned()));
    }
}

#[test]
fn a_message_of_70_kilobytes() {
    for server in servers() {
        let (mut client, _) = WebSocket::connected(&server);
        client.text(&"x".repeat(70 * 1024));
        assert_eq!(client.frame(), Frame::Close(Some(1009), String::new()));
    }
}

// Centrifugo disconnects the subscriber with 3506.
#[test]
fn a_subscriber_in_json_skips_what_is_not() {
    for server in servers() {
        let (mut client, _) = WebSocket::connected(&server);
        client.text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
        let mut told = [client.line(), client.line()];
        told.sort_unstable();
        assert!(told[1].contains(r#""join":"#), "{told:?}");
        let published = |body: &str| {
            let (status, body) = post(&server, "/api/publish", body);
            (status, plain(&body))
        };
        let at = |offset: u64| (200, format!(r#"{{"result":{{"offset":{offset},"epoch":"E"}}}}"#));
        assert_eq!(published(r#"{"channel":"a","b64data":"AP8="}"#), at(1));
        assert_eq!(published(r#"{"channel":"a","data":"text"}"#), at(2));
        assert_eq!(client.line(), r#"{"push":{"channel":"a","pub":{"data":"text","offset":2}}}"#);
        client.text(RPC);
        assert_eq!(client.line(), NOT_AVAILABLE);
    }
}
