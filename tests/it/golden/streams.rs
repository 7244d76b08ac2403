//! Rows of the transports without WebSocket, and of clients that only listen.

use super::{CONNECT, VERSION, plainer};
use crate::{
    client::{Frame, WebSocket},
    http::post,
    server::{Server, VARIANTS},
    streams::{Stream, posted},
};

#[test]
fn from_connect_to_no_pong() {
    for variant in [VARIANTS[1], VARIANTS[2]] {
        let pings = ["client.ping_interval=1s", "client.pong_timeout=200ms"];
        let server = Server::dev(&[variant[0], variant[1], pings[0], pings[1]]);
        let streams = [
            Stream::http_stream(&server, CONNECT),
            Stream::sse(&server, "%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"),
        ];
        let events = "GET /connection/uni_sse HTTP/1.1\r\nHost: a\r\n\r\n";
        let listening = [
            (posted("/connection/uni_http_stream", "", "{}"), ("", "\n")),
            (events.to_owned(), ("data: ", "\n\n")),
        ]
        .map(|(request, wrapping)| Stream::open(&server, &request, wrapping));
        let mut websocket = WebSocket::open_at(&server, "/connection/uni_websocket", "").0;
        websocket.text("{}");
        let both = format!(
            r#"{{"id":1,"connect":{{"client":"C","version":"{VERSION}","ping":1,"pong":true,"session":"S","node":"C"}}}}"#
        );
        for mut stream in streams {
            assert_eq!(plainer(&stream.message().expect("a reply")), both);
            assert_eq!(stream.message().as_deref(), Some("{}"));
            let no_pong = r#"{"push":{"disconnect":{"code":3012,"reason":"no pong"}}}"#;
            assert_eq!(stream.message().as_deref(), Some(no_pong));
            assert_eq!(stream.message(), None);
        }
        let bare = format!(r#"{{"connect":{{"client":"C","version":"{VERSION}","ping":1,"session":"S"}}}}"#);
        let [mut lines, mut events] = listening;
        assert_eq!(plainer(&lines.message().expect("a push")), bare);
        assert_eq!(events.chunk().as_deref(), Some(&b"\r\n"[..]));
        assert_eq!(plainer(&events.message().expect("a push")), bare);
        let Frame::Text(push) = websocket.frame() else { panic!("no push") };
        assert_eq!(plainer(&push), bare);
    }
}

#[test]
fn commands_for_an_unknown_node() {
    let server = Server::dev(&[]);
    let body = r#"{"session":"s","node":"elsewhere","data":"{}"}"#;
    assert_eq!(post(&server, "/emulation", body), (404, String::new()));
}
