//! Rows of the server API.

use super::{plain, servers};
use crate::{
    client::WebSocket,
    http::{exchange, post, posted},
    server::Server,
};

const BAD_REQUEST: &str = r#"{"error":{"code":107,"message":"bad request"}}"#;
const UNKNOWN: &str = r#"{"code":102,"message":"unknown channel"}"#;

#[test]
fn calls() {
    let at = |offset: u64| format!(r#"{{"result":{{"offset":{offset},"epoch":"E"}}}}"#);
    let kept = |channel: &str| format!(r#"{{"channel":"{channel}","limit":-1}}"#);
    let one = r#"{"result":{"publications":[{"data":1,"offset":1}],"epoch":"E","offset":1}}"#;
    let rows: Vec<(&str, String, String)> = vec![
        ("publish", r#"{"channel":"a","data":{}}"#.into(), at(1)),
        ("publish", r#"{"channel":"plain:a","data":{}}"#.into(), r#"{"result":{}}"#.into()),
        ("publish", r#"{"channel":"","data":{}}"#.into(), BAD_REQUEST.into()),
        ("publish", r#"{"channel":"nons:a","data":{}}"#.into(), format!(r#"{{"error":{UNKNOWN}}}"#)),
        (
            "broadcast",
            r#"{"channels":["a","nons:z"],"data":{}}"#.into(),
            format!(r#"{{"result":{{"responses":[{},{{"error":{UNKNOWN}}}]}}}}"#, at(2)),
        ),
        (
            "batch",
            r#"{"commands":[{"publish":{"channel":"a","data":{}}},{"rpc":{"method":"x"}},{"nope":{}}]}"#.into(),
            r#"{"replies":[{"publish":{"offset":3,"epoch":"E"}},{"error":{"code":104,"message":"method not found"}},{"error":{"code":104,"message":"method not found"}}]}"#.into(),
        ),
        (
            "history",
            r#"{"channel":"a","limit":1,"since":{"offset":1,"epoch":"zzzz"}}"#.into(),
            r#"{"error":{"code":112,"message":"unrecoverable position"}}"#.into(),
        ),
        // What was there before is answered and not published again.
        ("publish", r#"{"channel":"i","data":1,"idempotency_key":"k"}"#.into(), at(1)),
        ("publish", r#"{"channel":"i","data":2,"idempotency_key":"k"}"#.into(), at(1)),
        ("history", kept("i"), one.into()),
        ("publish", r#"{"channel":"v","data":1,"version":5}"#.into(), at(1)),
        ("publish", r#"{"channel":"v","data":2,"version":5}"#.into(), at(1)),
        ("publish", r#"{"channel":"v","data":2,"version":4}"#.into(), at(1)),
        ("history", kept("v"), one.into()),
    ];
    for server in servers() {
        for (method, body, want) in &rows {
            let (status, got) = post(&server, &format!("/api/{method}"), body);
            assert_eq!((status, plain(&got)), (200, want.clone()), "{method} {body}");
        }
        let lines =
            "{\"method\":\"publish\",\"params\":{\"channel\":\"a\",\"data\":{}}}\n{\"method\":\"info\"}";
        let (status, got) = post(&server, "/api", lines);
        let (first, second) = got.split_once('\n').expect("two lines");
        assert_eq!((status, plain(first)), (200, at(4)));
        assert!(second.starts_with(r#"{"result":{"nodes":[{"uid":""#), "{second}");
        let transport = posted(
            "/api/publish",
            "X-Centrifugo-Error-Mode: transport\r\n",
            r#"{"channel":"nons:a","data":{}}"#,
        );
        let got = exchange(&server, &transport);
        assert_eq!((got.status, got.body.as_str()), (404, UNKNOWN));
        let (status, got) = post(&server, "/api/publish", "{");
        assert_eq!(status, 400);
        assert!(got.starts_with("malformed request: "), "{got}");
    }
    let server = Server::start(&["http_api.key=secret"]);
    assert_eq!(post(&server, "/api/publish", "{}"), (401, String::new()));
    assert_eq!(post(&server, "/api/nope", "{}").0, 404);
}

#[test]
fn a_client_is_subscribed() {
    for server in servers() {
        let (mut client, reply) = WebSocket::connected(&server);
        let id = reply.split('"').nth(7).expect("a client").to_owned();
        let mut subscribe = |channel: &str, rest: &str| {
            let body = format!(r#"{{"client":"{id}","channel":"{channel}"{rest}}}"#);
            assert_eq!(post(&server, "/api/subscribe", &body), (200, r#"{"result":{}}"#.into()));
            [plain(&client.line()), plain(&client.line())]
        };
        let told = subscribe("api", r#","data":{"hello": 1}"#);
        let push = r#"{"push":{"channel":"api","subscribe":{"recoverable":true,"epoch":"E","positioned":true,"data":{"hello": 1}}}}"#;
        let join = r#"{"push":{"channel":"api","join":{"info":{"user":"","client":"C"}}}}"#;
        assert_eq!(told, [push, join]);
        // Everything else that may be said.
        let (_, position) = post(&server, "/api/publish", r#"{"channel":"more","data":1}"#);
        let epoch = position.split('"').nth(7).expect("an epoch");
        let rest = format!(
            r#","b64info":"eyJhIjoxfQ==","b64data":"WzJd","recover_since":{{"offset":0,"epoch":"{epoch}"}},"expire_at":99999999999,"override":{{"join_leave":{{"value":false}}}}"#
        );
        let push = r#"{"push":{"channel":"more","subscribe":{"recoverable":true,"epoch":"E","offset":1,"positioned":true,"data":[2]}}}"#;
        let missed = r#"{"push":{"channel":"more","pub":{"data":1,"offset":1}}}"#;
        assert_eq!(subscribe("more", &rest), [push, missed]);
        let (_, presence) = post(&server, "/api/presence", r#"{"channel":"more"}"#);
        let present = r#"{"result":{"presence":{"C":{"user":"","client":"C","chan_info":{"a":1}}}}}"#;
        assert_eq!(plain(&presence), present);
    }
}
