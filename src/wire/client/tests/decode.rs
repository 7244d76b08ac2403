//! What clients send, one row per case.

use crate::{
    model::Protocol,
    wire::client::{
        Command, ConnectRequest, DecodeError, FilterNode, HistoryRequest, PublishRequest, Request, Since,
        SubscribeRequest, decode, decode_connect,
    },
};

type Outcome<'a> = (Vec<Command<'a>>, Option<DecodeError>);

fn drain(protocol: Protocol, frame: &[u8]) -> Outcome<'_> {
    let mut commands = Vec::new();
    let mut items = decode(protocol, frame);
    for item in items.by_ref() {
        match item {
            Ok(command) => commands.push(command),
            Err(error) => {
                assert!(items.next().is_none(), "more after an error");
                return (commands, Some(error));
            }
        }
    }
    (commands, None)
}

#[track_caller]
fn json<'a>(text: &'a str, want: Request<'a>) {
    let (commands, error) = drain(Protocol::Json, text.as_bytes());
    assert_eq!((&commands[..], error), (&[Command { id: 7, request: want }][..], None), "{text}");
}

#[track_caller]
fn fails(text: &str, good: usize, error: DecodeError) {
    let (commands, found) = drain(Protocol::Json, text.as_bytes());
    assert_eq!((commands.len(), found), (good, Some(error)), "{text:?}: {commands:?}");
}

fn publish<'a>(channel: &'a str, data: Option<&'a [u8]>) -> Request<'a> {
    Request::Publish(PublishRequest { channel: channel.into(), data, ..PublishRequest::default() })
}

#[test]
fn json_requests() {
    json(r#"{"id":7,"connect":{}}"#, Request::Connect(Box::default()));
    json(
        r#"{"id":7,"connect":{"token":"t","data":{"a": [1]},"name":"js","version":"","headers":{"X":"y","Z":null},
            "subs":{"news":{"recover":true,"offset":18446744073709551615,"epoch":"abcd"},"b":null},"flag":1}}"#
            .replace('\n', " ")
            .as_str(),
        Request::Connect(Box::new(ConnectRequest {
            token: "t".into(),
            data: br#"{"a": [1]}"#,
            name: "js".into(),
            version: "".into(),
            headers: vec![("X".into(), "y".into()), ("Z".into(), "".into())],
            subs: vec![
                (
                    "news".into(),
                    SubscribeRequest {
                        recover: true,
                        offset: u64::MAX,
                        epoch: "abcd".into(),
                        ..Default::default()
                    },
                ),
                ("b".into(), SubscribeRequest::default()),
            ],
        })),
    );
    json(
        r#"{"id":7,"subscribe":{"channel":"tag:1","tf":{"key":"t","cmp":"eq","val":"x"},"flag":2,"type":1,"phase":2,"cursor":"k","limit":9,"asc":true,"delta":"fossil","positioned":true,"recoverable":true,"join_leave":true,"token":"T","data":1}}"#,
        Request::Subscribe(Box::new(SubscribeRequest {
            channel: "tag:1".into(),
            token: "T".into(),
            data: b"1",
            tags_filter: Some(Box::new(FilterNode {
                key: "t".into(),
                cmp: "eq".into(),
                val: "x".into(),
                ..FilterNode::default()
            })),
            flag: 2,
            kind: 1,
            phase: 2,
            cursor: "k".into(),
            limit: 9,
            asc: true,
            delta: "fossil".into(),
            positioned: true,
            recoverable: true,
            join_leave: true,
            ..Default::default()
        })),
    );
    json(r#"{"subscribe":{"tf":null},"id":7}"#, Request::Subscribe(Box::default()));
    json(r#"{"id":7,"unsubscribe":{"channel":"zzz"}}"#, Request::Unsubscribe { channel: "zzz".into() });
    // The payload is the exact source: spaces, escapes and order stay.
    json(
        "{\"publish\" : {\"data\": {\"x\": [1,\t2] , \"y\":\"\\u003cb>\"} ,\"channel\":\"a\"} , \"id\" : 7 }\r",
        publish("a", Some(b"{\"x\": [1,\t2] , \"y\":\"\\u003cb>\"}")),
    );
    json(r#"{"id":7,"publish":{"channel":"a","data":null}}"#, publish("a", Some(b"null")));
    json(r#"{"id":7,"publish":{"channel":"a"}}"#, publish("a", None));
    json(r#"{"id":7,"publish":{"channel":null}}"#, publish("", None));
    json(r#"{"id":7,"publish":{"channel":"\u00fcml\n"}}"#, publish("üml\n", None));
    json(r#"{"id":7,"presence":{"channel":"a"}}"#, Request::Presence { channel: "a".into() });
    json(r#"{"id":7,"presence_stats":{"channel":"a"}}"#, Request::PresenceStats { channel: "a".into() });
    json(
        r#"{"id":7,"history":{"channel":"a","limit":-1,"since":{"offset":3,"epoch":"e"},"reverse":true}}"#,
        Request::History(HistoryRequest {
            channel: "a".into(),
            limit: -1,
            since: Some(Since { offset: 3, epoch: "e".into() }),
            reverse: true,
        }),
    );
    json(r#"{"id":7,"history":{"since":null}}"#, Request::History(HistoryRequest::default()));
    json(r#"{"id":7,"rpc":{"method":"x","data":{}}}"#, Request::Rpc { method: "x".into(), data: b"{}" });
    json(r#"{"id":7,"rpc":{}}"#, Request::Rpc { method: "".into(), data: b"" });
    json(r#"{"id":7,"send":{"data":{}}}"#, Request::Send { data: b"{}" });
    json(r#"{"id":7,"ping":{}}"#, Request::Ping);
    json(r#"{"id":7,"refresh":{"token":"t"}}"#, Request::Refresh { token: "t".into() });
    json(
        r#"{"id":7,"sub_refresh":{"channel":"c","token":"t"}}"#,
        Request::SubRefresh { channel: "c".into(), token: "t".into() },
    );
    json(r#"{"id":7}"#, Request::None);
    json(r#"{"id":7,"connect":null,"\u0070ublish":{"channel":"a"},"what":[{"a":{}}]}"#, publish("a", None));
}

#[test]
fn json_first_request_of_the_order_wins() {
    json(r#"{"id":7,"ping":{},"rpc":{},"publish":{"channel":"a"},"send":{}}"#, publish("a", None));
    json(r#"{"id":7,"subscribe":{},"connect":{},"publish":{}}"#, Request::Connect(Box::default()));
    json(
        r#"{"id":7,"ping":{},"sub_refresh":{}}"#,
        Request::SubRefresh { channel: "".into(), token: "".into() },
    );
    json(r#"{"id":7,"publish":{"channel":"a"},"publish":{"channel":"b"}}"#, publish("b", None));
}

#[test]
fn json_frames() {
    use DecodeError::{Empty, Json};
    for (text, count) in [
        ("{}", 1),
        ("{}\n", 1),
        ("{\"id\":1}\n{}", 2),
        ("{}\r\n{}\r\n", 2),
        (" {} ", 1),
        ("{\"id\":null}", 1),
    ] {
        let (commands, error) = drain(Protocol::Json, text.as_bytes());
        assert_eq!((commands.len(), error), (count, None), "{text:?}");
    }
    fails("", 0, Empty);
    fails("\n", 0, Json);
    fails("{}\n\n{}", 1, Json);
    fails("{}\n\n", 1, Json);
    fails("{}\n{}\nx\n{}", 2, Json);
    fails("null", 0, Json);
    fails("[]", 0, Json);
    fails("{}{}", 0, Json);
    fails("{}x", 0, Json);
    fails("{", 0, Json);
    fails(r#"{"id":-1}"#, 0, Json);
    fails(r#"{"id":4294967296}"#, 0, Json);
    fails(r#"{"id":1.0}"#, 0, Json);
    fails(r#"{"id":"1"}"#, 0, Json);
    fails(r#"{"publish":[]}"#, 0, Json);
    fails(r#"{"publish":{"channel":1}}"#, 0, Json);
    fails(r#"{"publish":{"data":{"a":}}}"#, 0, Json);
    fails(r#"{"subscribe":{"recover":1}}"#, 0, Json);
    fails(r#"{"subscribe":{"offset":18446744073709551616}}"#, 0, Json);
    fails(r#"{"subscribe":{"tf":"x"}}"#, 0, Json);
    // A request that loses is read all the same.
    fails(r#"{"connect":{},"rpc":{"method":1}}"#, 0, Json);
    fails("{\"publish\":{\"data\":\"a\nb\"}}", 0, Json);
    assert_eq!(drain(Protocol::Json, b"{}\n{\"a\":\"\xff\"}"), (vec![], Some(Json)));
    let nested =
        |depth: usize| format!(r#"{{"id":7,"send":{{"data":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(drain(Protocol::Json, nested(128).as_bytes()).1, None);
    fails(&nested(129), 0, Json);
}

#[test]
fn protobuf_frames() {
    use DecodeError::{Empty, Length, Protobuf};
    #[track_caller]
    fn check(frame: &[u8], want: &[Command<'_>], error: Option<DecodeError>) {
        assert_eq!(drain(Protocol::Protobuf, frame), (want.to_vec(), error), "{frame:x?}");
    }
    let pong = Command { id: 0, request: Request::None };
    check(&[], &[], Some(Empty));
    check(&[0], std::slice::from_ref(&pong), None);
    check(&[0, 0], &[pong.clone(), pong.clone()], None);
    check(&[4, 8, 1, 0x22, 0], &[Command { id: 1, request: Request::Connect(Box::default()) }], None);
    check(
        b"\x08\x08\x02\x2a\x04\x0a\x02pb",
        &[Command {
            id: 2,
            request: Request::Subscribe(Box::new(SubscribeRequest {
                channel: "pb".into(),
                ..Default::default()
            })),
        }],
        None,
    );
    check(
        b"\x0c\x08\x03\x3a\x08\x0a\x02pb\x12\x02\x00\xff\0",
        &[Command { id: 3, request: publish("pb", Some(b"\x00\xff")) }, pong.clone()],
        None,
    );
    check(b"\x04\x3a\x02\x12\x00", &[Command { id: 0, request: publish("", Some(b"")) }], None);
    check(&[5, 8, 1, 0x22, 0], &[], Some(Length));
    check(&[0, 5, 8], std::slice::from_ref(&pong), Some(Length));
    check(&[0x80], &[], Some(Length));
    check(&[0xff; 11], &[], Some(Length));
    check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[], Some(Length));
    check(&[1, 8], &[], Some(Protobuf));
    check(&[2, 0x0a, 0], &[], Some(Protobuf)); // id as bytes
    check(&[2, 0x20, 0], &[], Some(Protobuf)); // connect as a number
    check(&[2, 0, 0], &[], Some(Protobuf)); // field 0
    check(&[3, 0x22, 9, 0], &[], Some(Protobuf)); // longer than what holds it
    check(&[2, 0x7b, 0x7c], &[], Some(Protobuf)); // a group
    check(b"\x05\x3a\x03\x0a\x01\xff", &[], Some(Protobuf)); // channel that is not UTF-8
    // Unknown fields of every wire type are passed over: 100 varint, 101 64 bit, 102 bytes, 103 32 bit.
    check(b"\x18\xa0\x06\x01\xa9\x06\0\0\0\0\0\0\0\0\xb2\x06\x01x\xbd\x06\0\0\0\0\x08", &[], Some(Protobuf));
    check(
        b"\x19\xa0\x06\x01\xa9\x06\0\0\0\0\0\0\0\0\xb2\x06\x01x\xbd\x06\0\0\0\0\x08\x01",
        &[Command { id: 1, request: Request::None }],
        None,
    );
}

#[test]
fn connect_requests_of_listeners() {
    for nothing in ["", " ", "null", "{}", "{\"other\":1}"] {
        assert_eq!(
            decode_connect(Protocol::Json, nothing.as_bytes()),
            Ok(ConnectRequest::default()),
            "{nothing:?}"
        );
    }
    let text = r#"{"token":"t","subs":{"a":{"recover":true,"offset":5,"epoch":"e"}}}"#;
    let request = decode_connect(Protocol::Json, text.as_bytes()).unwrap();
    assert_eq!((&*request.token, &*request.subs[0].0, request.subs[0].1.offset), ("t", "a", 5));
    for wrong in ["x", "[]", "{} {}", "{}\n{}", "{\"token\":1}", "\u{1}"] {
        assert_eq!(decode_connect(Protocol::Json, wrong.as_bytes()), Err(DecodeError::Json), "{wrong:?}");
    }
    assert_eq!(decode_connect(Protocol::Json, b"\xff"), Err(DecodeError::Json));
    // Without a length in front: 1 token, 3 subs (1 channel, 2 request: 3 recover, 6 epoch, 7 offset).
    let bytes = b"\x0a\x01t\x1a\x0c\x0a\x01a\x12\x07\x18\x01\x32\x01e\x38\x05";
    let request = decode_connect(Protocol::Protobuf, bytes).unwrap();
    let (channel, subscribe) = &request.subs[0];
    assert_eq!((&*request.token, &**channel, subscribe.recover, subscribe.offset), ("t", "a", true, 5));
    assert_eq!(decode_connect(Protocol::Protobuf, b""), Ok(ConnectRequest::default()));
    assert_eq!(
        decode_connect(Protocol::Protobuf, b"\x0a\x02t"),
        Err(DecodeError::Protobuf),
        "shorter than it says"
    );
}
