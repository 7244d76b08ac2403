//! What Centrifugo 6.9.1 answers, row by row, from this server; ours where we differ on purpose (`docs/MIGRATING.md`).
//!
//! Tokens are in `tokens`; deltas, maps and filters, which no socket changes, are rows of the broker's own tests.

mod api;
mod bytes;
mod ends;
mod streams;

use crate::{
    client::{Frame, PATH, WebSocket},
    server::{Server, VARIANTS},
};

/// A default namespace with everything, and one with nothing.
const CHANNELS: [&str; 12] = [
    "client.allow_anonymous_connect_without_token=true",
    "channel.without_namespace.presence=true",
    "channel.without_namespace.join_leave=true",
    "channel.without_namespace.force_push_join_leave=true",
    "channel.without_namespace.history_size=100",
    "channel.without_namespace.history_ttl=5m",
    "channel.without_namespace.force_recovery=true",
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.allow_subscribe_for_anonymous=true",
    "channel.namespaces=[{\"name\":\"plain\",\"allow_subscribe_for_client\":true,\"allow_subscribe_for_anonymous\":true},{\"name\":\"open\",\"allow_subscribe_for_client\":true,\"allow_subscribe_for_anonymous\":true,\"allow_publish_for_client\":true,\"allow_publish_for_anonymous\":true},{\"name\":\"tag\",\"allow_tags_filter\":true,\"allow_subscribe_for_client\":true,\"allow_subscribe_for_anonymous\":true}]",
    "http_api.insecure=true",
    "runtime.balance=true",
];

const PERMISSIONS: [&str; 6] = [
    "channel.without_namespace.allow_publish_for_client=true",
    "channel.without_namespace.allow_publish_for_anonymous=true",
    "channel.without_namespace.allow_presence_for_client=true",
    "channel.without_namespace.allow_presence_for_anonymous=true",
    "channel.without_namespace.allow_history_for_client=true",
    "channel.without_namespace.allow_history_for_anonymous=true",
];

fn servers() -> impl Iterator<Item = Server> {
    VARIANTS.iter().map(|variant| {
        let settings: Vec<_> = CHANNELS.iter().chain(&PERMISSIONS).chain(variant).copied().collect();
        Server::start(&settings)
    })
}

enum Step {
    Send(&'static str),
    /// These messages, in any order: between a reply and a push nothing is promised.
    Get(&'static [&'static str]),
    Close(u16, &'static str),
}
use Step::{Close, Get, Send};

/// Client ids become C, epochs E.
pub fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((at, len, sign)) = next_name(rest) {
        out.push_str(&rest[..at]);
        out.push_str(sign);
        rest = &rest[at + len..];
    }
    out + rest
}

fn next_name(text: &str) -> Option<(usize, usize, &'static str)> {
    let uuid = |at: usize| {
        text.as_bytes().get(at..at + 36).is_some_and(|it| {
            it.iter().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
        })
    };
    let id = (0..text.len()).find(|&at| uuid(at)).map(|at| (at, 36, "C"));
    let epoch = text.find("\"epoch\":\"").and_then(|at| {
        let start = at + 9;
        let len = text[start..].find('"')?;
        (&text[start..start + len] != "E").then_some((start, len, "E"))
    });
    [id, epoch].into_iter().flatten().min()
}

#[track_caller]
fn play(server: &Server, name: &str, steps: &[Step]) {
    let mut client = WebSocket::open(server);
    for step in steps {
        match step {
            Send(text) => client.text(text),
            Get(expected) => {
                let mut lines: Vec<_> = expected.iter().map(|_| plain(&client.line())).collect();
                let mut expected = expected.to_vec();
                lines.sort_unstable();
                expected.sort_unstable();
                assert_eq!(lines, expected, "{name}");
            }
            Close(code, reason) => assert_eq!(client.close(), (*code, (*reason).to_owned()), "{name}"),
        }
    }
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
/// As [`plain`]; what commands come by has a name of its own as well.
fn plainer(line: &str) -> String {
    let line = plain(line);
    let Some(at) = line.find(r#""session":""#).map(|at| at + 11) else { return line };
    let len = line[at..].find('"').expect("a session");
    format!("{}S{}", &line[..at], &line[at + len..])
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " corecast");
const CONNECTED: &[&str] = &[concat!(
    r#"{"id":1,"connect":{"client":"C","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#" corecast","ping":25,"pong":true}}"#
)];

#[test]
fn replies_and_pushes() {
    for server in servers() {
        play(
            &server,
            "the life of a channel",
            &[
                Send(CONNECT),
                Get(CONNECTED),
                Send(r#"{"id":2,"subscribe":{"channel":"a"}}"#),
                Get(&[
                    r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}"#,
                    r#"{"push":{"channel":"a","join":{"info":{"user":"","client":"C"}}}}"#,
                ]),
                Send("{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"}}}"),
                Get(&[
                    r#"{"id":3,"publish":{}}"#,
                    "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"},\"info\":{\"user\":\"\",\"client\":\"C\"},\"offset\":1,\"epoch\":\"E\"}}}",
                ]),
                Send(
                    "{\"id\":4,\"presence\":{\"channel\":\"a\"}}\n{\"id\":5,\"presence_stats\":{\"channel\":\"a\"}}",
                ),
                Get(&[
                    r#"{"id":4,"presence":{"presence":{"C":{"user":"","client":"C"}}}}"#,
                    r#"{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}"#,
                ]),
                Send(r#"{"id":6,"history":{"channel":"a","limit":10}}"#),
                Get(&[
                    "{\"id\":6,\"history\":{\"publications\":[{\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"},\"info\":{\"user\":\"\",\"client\":\"C\"},\"offset\":1,\"epoch\":\"E\"}],\"epoch\":\"E\",\"offset\":1}}",
                ]),
                Send(r#"{"id":60,"history":{"channel":"a","limit":-1}}"#),
                Get(&[
                    "{\"id\":60,\"history\":{\"publications\":[{\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"},\"info\":{\"user\":\"\",\"client\":\"C\"},\"offset\":1,\"epoch\":\"E\"}],\"epoch\":\"E\",\"offset\":1}}",
                ]),
                Send(r#"{"id":7,"history":{"channel":"a"}}"#),
                Get(&[r#"{"id":7,"history":{"publications":[],"epoch":"E","offset":1}}"#]),
                Send(r#"{"id":8,"subscribe":{"channel":"a"}}"#),
                Get(&[r#"{"id":8,"error":{"code":105,"message":"already subscribed"}}"#]),
                Send(
                    r#"{"id":9,"history":{"channel":"a","limit":1,"reverse":true,"since":{"offset":0,"epoch":""}}}"#,
                ),
                Get(&[r#"{"id":9,"error":{"code":107,"message":"bad request"}}"#]),
                Send(r#"{"id":10,"publish":{"channel":"a","data":null}}"#),
                Get(&[
                    r#"{"id":10,"publish":{}}"#,
                    r#"{"push":{"channel":"a","pub":{"data":null,"info":{"user":"","client":"C"},"offset":2}}}"#,
                ]),
                Send(r#"{"id":11,"unsubscribe":{"channel":"a"}}"#),
                Get(&[r#"{"id":11,"unsubscribe":{}}"#]),
            ],
        );
        play(
            &server,
            "what is refused",
            &[
                Send(r#"{"id":1,"connect":{"unknown":{"a":[1]},"name":"js"},"more":1}"#),
                Get(CONNECTED),
                Send(r#"{"id":2,"publish":{"channel":"a"}}"#),
                Get(&[r#"{"id":2,"error":{"code":107,"message":"bad request"}}"#]),
                Send(r#"{"id":3,"rpc":{"method":"x","data":{}}}"#),
                Get(&[r#"{"id":3,"error":{"code":108,"message":"not available"}}"#]),
                Send(r#"{"id":4,"unsubscribe":{"channel":"zzz"}}"#),
                Get(&[r#"{"id":4,"unsubscribe":{}}"#]),
                Send(r#"{"id":5,"subscribe":{"channel":"nons:x"}}"#),
                Get(&[r#"{"id":5,"error":{"code":102,"message":"unknown channel"}}"#]),
                Send(r#"{"id":6,"subscribe":{"channel":"$p"}}"#),
                Get(&[r#"{"id":6,"error":{"code":103,"message":"permission denied"}}"#]),
                Send(r#"{"id":7,"subscribe":{"channel":"üml"}}"#),
                Get(&[r#"{"id":7,"error":{"code":107,"message":"bad request"}}"#]),
                Send(r#"{"id":8,"publish":{"channel":"plain:a","data":1}}"#),
                Get(&[r#"{"id":8,"error":{"code":103,"message":"permission denied"}}"#]),
                Send(r#"{"id":9,"presence":{"channel":"plain:a"}}"#),
                Get(&[r#"{"id":9,"error":{"code":108,"message":"not available"}}"#]),
                Send(r#"{"id":10,"subscribe":{"channel":"plain:a"}}"#),
                Get(&[r#"{"id":10,"subscribe":{}}"#]),
                Send(r#"{"id":11,"subscribe":{"channel":"tag:1","tf":{"key":"t","cmp":"eq","val":"x"}}}"#),
                Get(&[r#"{"id":11,"subscribe":{}}"#]),
            ],
        );
        names_at_their_limit(&server);
    }
}

fn names_at_their_limit(server: &Server) {
    for (len, fits) in [(255, true), (256, false)] {
        let (mut client, _) = WebSocket::connected(server);
        client.text(&format!(r#"{{"id":2,"subscribe":{{"channel":"{}"}}}}"#, "x".repeat(len)));
        assert_eq!(client.line().contains(r#""subscribe":{"#), fits, "{len}");
    }
}

#[test]
fn what_closes_the_connection() {
    for server in servers() {
        for (name, sent) in [
            ("ping command", r#"{"id":10,"ping":{}}"#),
            ("pong without ping", "{}"),
            ("no request", r#"{"id":2}"#),
            ("garbage", "garbage"),
            ("connect twice", CONNECT),
            ("subscribe to nothing", r#"{"id":2,"subscribe":{"channel":""}}"#),
            ("empty message", ""),
            ("blank line", "\n\n"),
            ("refresh without token", r#"{"id":2,"refresh":{"token":""}}"#),
        ] {
            play(&server, name, &[Send(CONNECT), Get(CONNECTED), Send(sent), Close(3501, "bad request")]);
        }
        play(
            &server,
            "subscribe before connect",
            &[Send(r#"{"id":1,"subscribe":{"channel":"a"}}"#), Close(3501, "bad request")],
        );
        play(
            &server,
            "earlier commands of the frame are answered",
            &[
                Send("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"rpc\":{\"method\":\"x\"}}\ngarbage"),
                Get(CONNECTED),
                Get(&[r#"{"id":2,"error":{"code":108,"message":"not available"}}"#]),
                Close(3501, "bad request"),
            ],
        );
        play(
            &server,
            "bad token",
            &[Send(r#"{"id":1,"connect":{"token":"bad"}}"#), Close(3500, "invalid token")],
        );
    }
}

#[test]
fn recovery() {
    for server in servers() {
        let (mut publisher, _) = WebSocket::connected(&server);
        for id in 2..5 {
            publisher.text(&format!(r#"{{"id":{id},"publish":{{"channel":"r","data":{{"i": {id}}}}}}}"#));
            assert_eq!(publisher.line(), format!(r#"{{"id":{id},"publish":{{}}}}"#));
        }
        publisher.text(r#"{"id":9,"history":{"channel":"r"}}"#);
        let reply = publisher.line();
        let epoch = reply.split("\"epoch\":\"").nth(1).and_then(|it| it.split('"').next()).expect("an epoch");
        let info = r#""info":{"user":"","client":"C"}"#;
        for (offset, epoch, flag, expected) in [
            (1, epoch, 0, format!(r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"E","publications":[{{"data":{{"i": 3}},{info},"offset":2}},{{"data":{{"i": 4}},{info},"offset":3}}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}}}"#)),
            (3, epoch, 0, r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","recovered":true,"offset":3,"positioned":true,"was_recovering":true}}"#.into()),
            (3, "zzzz", 0, r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","offset":3,"positioned":true,"was_recovering":true}}"#.into()),
            (3, "zzzz", 2, r#"{"id":2,"error":{"code":112,"message":"unrecoverable position"}}"#.into()),
        ] {
            let (mut client, _) = WebSocket::connected(&server);
            client.text(&format!(
                r#"{{"id":2,"subscribe":{{"channel":"r","recover":true,"offset":{offset},"epoch":"{epoch}","flag":{flag}}}}}"#
            ));
            assert_eq!(plain(&client.line()), expected, "offset {offset}, epoch {epoch}");
        }
    }
}

#[test]
fn protobuf() {
    for server in servers() {
        for (path, fields) in [
            (format!("{PATH}?cf_protocol=protobuf&cf_protocol_version=v2"), ""),
            (format!("{PATH}?format=protobuf"), ""),
            (PATH.to_owned(), "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n"),
        ] {
            let (mut client, head) = WebSocket::open_at(&server, &path, fields);
            assert_eq!(head.contains("centrifuge-protobuf"), !fields.is_empty(), "{head}");
            client.binary(&[4, 8, 1, 0x22, 0]);
            let Frame::Binary(reply) = client.frame() else { panic!("not binary") };
            assert_eq!(usize::from(reply[0]), reply.len() - 1);
            assert_eq!(&reply[1..4], [8, 1, 0x2a]);
            client.binary(&[0x0c, 8, 2, 0x3a, 8, 0x0a, 2, b'p', b'b', 0x12, 2, 0, 0xff]);
            assert_eq!(client.frame(), Frame::Binary(vec![4, 8, 2, 0x42, 0]));
        }
        let (mut json, head) =
            WebSocket::open_at(&server, PATH, "Sec-WebSocket-Protocol: other, centrifuge-json\r\n");
        assert!(head.contains("Sec-WebSocket-Protocol: centrifuge-json\r\n"), "{head}");
        json.text(CONNECT);
        assert_eq!(plain(&json.line()), CONNECTED[0]);
    }
}

#[test]
fn server_api_reaches_clients() {
    for server in servers() {
        let (mut client, _) = WebSocket::connected(&server);
        client.text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
        let mut lines = [client.line(), client.line()];
        lines.sort_unstable();
        assert!(lines[1].contains("join"), "{lines:?}");
        let call = |method: &str, body: &str| crate::http::post(&server, &format!("/api/{method}"), body);
        let (status, body) = call("publish", r#"{"channel":"a","data":{"a": 1},"tags":{"k":"v"}}"#);
        assert_eq!((status, plain(&body).as_str()), (200, r#"{"result":{"offset":1,"epoch":"E"}}"#));
        assert_eq!(
            plain(&client.line()),
            r#"{"push":{"channel":"a","pub":{"data":{"a": 1},"offset":1,"tags":{"k":"v"},"epoch":"E"}}}"#
        );
        let id = {
            let (_, body) = call("presence", r#"{"channel":"a"}"#);
            body.split('"').nth(5).expect("a client").to_owned()
        };
        let target = format!(r#"{{"client":"{id}","channel":"a"}}"#);
        assert_eq!(call("unsubscribe", &target), (200, r#"{"result":{}}"#.into()));
        assert_eq!(
            client.line(),
            r#"{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
        );
        let target = format!(r#"{{"client":"{id}","disconnect":{{"code":4501,"reason":"bye"}}}}"#);
        assert_eq!(call("disconnect", &target), (200, r#"{"result":{}}"#.into()));
        assert_eq!(client.close(), (4501, "bye".to_owned()));
    }
}
