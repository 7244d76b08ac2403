//! Frames as Centrifugo 6.9.1 wrote them.

use crate::{
    model::{ClientId, ClientInfo, Disconnect, ErrorCode, Protocol, Publication, Unsubscribe},
    wire::client::{
        ConnectResult, Push, Reply, SubscribeResult, encode_bare_push, encode_push, encode_reply, separate,
    },
};
use std::sync::Arc;

const UUID: &str = "968e0f5c-6a3d-4b57-9a53-6a1f6e2b7c11";

fn client() -> ClientId {
    UUID.parse().unwrap()
}

fn info(user: &str, conn_info: Option<&[u8]>, chan_info: Option<&[u8]>) -> ClientInfo {
    ClientInfo {
        user: user.into(),
        client: client(),
        conn_info: conn_info.map(Into::into),
        chan_info: chan_info.map(Into::into),
    }
}

fn connected() -> ConnectResult<'static> {
    ConnectResult {
        client: client(),
        version: "6.9.1-gf25c7abd OSS",
        expires: false,
        ttl: 0,
        data: b"",
        subs: &[],
        ping: 25,
        pong: true,
        session: "",
        node: "",
        time_ms: 0,
    }
}

fn publication(offset: u64, data: &[u8]) -> Publication {
    Publication { offset, data: data.into(), ..Publication::default() }
}

#[track_caller]
fn check_json(out: &[u8], want: &str) {
    let want = want.replace("UUID", UUID);
    assert_eq!(String::from_utf8_lossy(out), want);
    for line in want.split('\n') {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[track_caller]
fn reply(id: u32, reply: &Reply<'_>, want: &str) {
    let mut out = Vec::new();
    encode_reply(Protocol::Json, id, reply, &mut out);
    check_json(&out, want);
}

#[track_caller]
fn push(channel: &str, push: &Push<'_>, want: &str) {
    let mut out = Vec::new();
    encode_push(Protocol::Json, channel, push, &mut out);
    check_json(&out, want);
}

#[test]
fn json_replies() {
    reply(
        1,
        &Reply::Connect(&connected()),
        r#"{"id":1,"connect":{"client":"UUID","version":"6.9.1-gf25c7abd OSS","ping":25,"pong":true}}"#,
    );
    let subs = [(
        "srv",
        SubscribeResult { recoverable: true, epoch: "GcvgOyAv", positioned: true, ..Default::default() },
    )];
    reply(
        1,
        &Reply::Connect(&ConnectResult { expires: true, ttl: 100, subs: &subs, ping: 3, ..connected() }),
        r#"{"id":1,"connect":{"client":"UUID","version":"6.9.1-gf25c7abd OSS","expires":true,"ttl":100,"subs":{"srv":{"recoverable":true,"epoch":"GcvgOyAv","positioned":true}},"ping":3,"pong":true}}"#,
    );
    let session = ConnectResult {
        session: "s",
        node: "n",
        time_ms: 5,
        data: b"[1]",
        ping: 0,
        pong: false,
        ..connected()
    };
    reply(
        1,
        &Reply::Connect(&session),
        r#"{"id":1,"connect":{"client":"UUID","version":"6.9.1-gf25c7abd OSS","data":[1],"session":"s","node":"n","time":5}}"#,
    );
    reply(
        2,
        &Reply::Subscribe(&SubscribeResult {
            recoverable: true,
            positioned: true,
            epoch: "GtjlrOCt",
            ..Default::default()
        }),
        r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"GtjlrOCt","positioned":true}}"#,
    );
    reply(2, &Reply::Subscribe(&SubscribeResult::default()), r#"{"id":2,"subscribe":{}}"#);
    reply(
        2,
        &Reply::Subscribe(&SubscribeResult {
            recoverable: true,
            epoch: "E",
            publications: &[Arc::new(publication(2, b"{\"i\": 1}")), Arc::new(publication(3, b"{\"i\": 2}"))],
            recovered: true,
            offset: 1,
            positioned: true,
            was_recovering: true,
            ..Default::default()
        }),
        r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","publications":[{"data":{"i": 1},"offset":2},{"data":{"i": 2},"offset":3}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}"#,
    );
    reply(
        2,
        &Reply::Subscribe(&SubscribeResult { expires: true, ttl: 49, data: b"{}", ..Default::default() }),
        r#"{"id":2,"subscribe":{"expires":true,"ttl":49,"data":{}}}"#,
    );
    reply(3, &Reply::Publish, r#"{"id":3,"publish":{}}"#);
    reply(12, &Reply::Unsubscribe, r#"{"id":12,"unsubscribe":{}}"#);
    reply(
        4,
        &Reply::Presence(&[Arc::new(info("", None, None))]),
        r#"{"id":4,"presence":{"presence":{"UUID":{"user":"","client":"UUID"}}}}"#,
    );
    reply(
        4,
        &Reply::Presence(&[Arc::new(info("a", None, None)), Arc::new(info("b", Some(b"1"), None))]),
        r#"{"id":4,"presence":{"presence":{"UUID":{"user":"a","client":"UUID"},"UUID":{"user":"b","client":"UUID","conn_info":1}}}}"#,
    );
    reply(4, &Reply::Presence(&[]), r#"{"id":4,"presence":{"presence":{}}}"#);
    reply(
        5,
        &Reply::PresenceStats { clients: 1, users: 1 },
        r#"{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}"#,
    );
    reply(
        5,
        &Reply::PresenceStats { clients: 0, users: 0 },
        r#"{"id":5,"presence_stats":{"num_clients":0,"num_users":0}}"#,
    );
    let first = Publication { info: Some(Arc::new(info("", None, None))), ..publication(1, b"{}") };
    reply(
        6,
        &Reply::History { publications: &[Arc::new(first)], offset: 1, epoch: "GtjlrOCt" },
        r#"{"id":6,"history":{"publications":[{"data":{},"info":{"user":"","client":"UUID"},"offset":1,"epoch":"GtjlrOCt"}],"epoch":"GtjlrOCt","offset":1}}"#,
    );
    reply(
        7,
        &Reply::History { publications: &[], offset: 0, epoch: "" },
        r#"{"id":7,"history":{"publications":[],"epoch":"","offset":0}}"#,
    );
    reply(
        9,
        &Reply::Error(ErrorCode::NotAvailable),
        r#"{"id":9,"error":{"code":108,"message":"not available"}}"#,
    );
    reply(
        9,
        &Reply::Error(ErrorCode::Internal),
        r#"{"id":9,"error":{"code":100,"message":"internal server error","temporary":true}}"#,
    );
    reply(
        9,
        &Reply::CustomError { code: 400, message: "<no>", temporary: false },
        r#"{"id":9,"error":{"code":400,"message":"\u003cno\u003e"}}"#,
    );
    reply(9, &Reply::Rpc { data: b"{\"price\":\n1}" }, r#"{"id":9,"rpc":{"data":{"price":1}}}"#);
    reply(2, &Reply::Refresh { expires: true, ttl: 199 }, r#"{"id":2,"refresh":{"expires":true,"ttl":199}}"#);
    reply(
        4,
        &Reply::SubRefresh { expires: true, ttl: 49, items: &[] },
        r#"{"id":4,"sub_refresh":{"expires":true,"ttl":49}}"#,
    );
}

#[test]
fn json_pushes() {
    let author = Arc::new(info("", None, None));
    let data = b"{\"x\": [1,\t2] , \"y\":\"<b>\"}";
    push(
        "a",
        &Push::Publication {
            publication: &Publication { info: Some(author), ..publication(1, data) },
            epoch: "GtjlrOCt",
        },
        "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"},\"info\":{\"user\":\"\",\"client\":\"UUID\"},\"offset\":1,\"epoch\":\"GtjlrOCt\"}}}",
    );
    push(
        "srv",
        &Push::Publication {
            publication: &Publication {
                tags: vec![("k".into(), "v".into())],
                ..publication(1, b"{\"a\": 1}")
            },
            epoch: "GcvgOyAv",
        },
        r#"{"push":{"channel":"srv","pub":{"data":{"a": 1},"offset":1,"tags":{"k":"v"},"epoch":"GcvgOyAv"}}}"#,
    );
    push(
        "plain",
        &Push::Publication { publication: &publication(0, b"null"), epoch: "" },
        r#"{"push":{"channel":"plain","pub":{"data":null}}}"#,
    );
    push(
        "a\"b",
        &Push::Join(&info("42", Some(b"{\"n\": 1}"), None)),
        r#"{"push":{"channel":"a\"b","join":{"info":{"user":"42","client":"UUID","conn_info":{"n": 1}}}}}"#,
    );
    push(
        "$p",
        &Push::Leave(&info("", None, Some(b"{\"ci\": 1}"))),
        r#"{"push":{"channel":"$p","leave":{"info":{"user":"","client":"UUID","chan_info":{"ci": 1}}}}}"#,
    );
    push(
        "api",
        &Push::Subscribe {
            recoverable: true,
            positioned: true,
            epoch: "jQPxnSsA",
            offset: 0,
            data: b"{\"hello\": 1}",
        },
        r#"{"push":{"channel":"api","subscribe":{"recoverable":true,"epoch":"jQPxnSsA","positioned":true,"data":{"hello": 1}}}}"#,
    );
    push(
        "api",
        &Push::Unsubscribe(Unsubscribe::SERVER),
        r#"{"push":{"channel":"api","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#,
    );
    push(
        "",
        &Push::Disconnect { code: Disconnect::NO_PONG.code, reason: &Disconnect::NO_PONG.reason },
        r#"{"push":{"disconnect":{"code":3012,"reason":"no pong"}}}"#,
    );
    push("", &Push::Message { data: b"1" }, r#"{"push":{"message":{"data":1}}}"#);
    push("", &Push::Refresh { expires: true, ttl: 9 }, r#"{"push":{"refresh":{"expires":true,"ttl":9}}}"#);
}

// What clients that only listen are told.
#[test]
fn bare_pushes() {
    #[track_caller]
    fn bare(channel: &str, push: &Push<'_>, want: &str) {
        let mut out = Vec::new();
        encode_bare_push(Protocol::Json, channel, push, &mut out);
        check_json(&out, want);
    }
    let connected = ConnectResult { session: "s", pong: false, ping: 60, ..connected() };
    bare(
        "",
        &Push::Connect(&connected),
        r#"{"connect":{"client":"UUID","version":"6.9.1-gf25c7abd OSS","ping":60,"session":"s"}}"#,
    );
    let publication = publication(2, b"{\"a\": 1}");
    bare(
        "news",
        &Push::Publication { publication: &publication, epoch: "" },
        r#"{"channel":"news","pub":{"data":{"a": 1},"offset":2}}"#,
    );
    let invalid = Disconnect::INVALID_TOKEN;
    bare(
        "",
        &Push::Disconnect { code: invalid.code, reason: &invalid.reason },
        r#"{"disconnect":{"code":3500,"reason":"invalid token"}}"#,
    );
    let mut out = Vec::new();
    encode_bare_push(Protocol::Protobuf, "c", &Push::Message { data: b"x" }, &mut out);
    assert_eq!(out, b"\x08\x12\x01c\x42\x03\x0a\x01x");
}

#[test]
fn several_messages_share_a_frame() {
    let mut out = b"before".to_vec();
    let start = out.len();
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        out.truncate(start);
        for id in [3, 4] {
            separate(protocol, &mut out, start);
            encode_reply(protocol, id, &Reply::Publish, &mut out);
        }
        match protocol {
            Protocol::Json => {
                check_json(&out[start..], "{\"id\":3,\"publish\":{}}\n{\"id\":4,\"publish\":{}}")
            }
            Protocol::Protobuf => assert_eq!(out[start..], [4, 8, 3, 0x42, 0, 4, 8, 4, 0x42, 0]),
        }
    }
}

/// `"43 0801 <a> "` with `a` = text given: hex digits and quoted text, spaces between.
fn bytes(hex: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, part) in hex.split('"').enumerate() {
        if index % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
        } else {
            let digits: String = part.split_whitespace().collect();
            for at in (0..digits.len()).step_by(2) {
                out.push(u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            }
        }
    }
    out
}

#[test]
fn protobuf_replies_and_pushes() {
    #[track_caller]
    fn check(out: &[u8], want: &str) {
        let want = bytes(&want.replace("UUID", &format!("\"{UUID}\"")));
        assert_eq!(out, want, "{out:x?}");
    }
    let reply = |id, reply: &Reply<'_>| {
        let mut out = Vec::new();
        encode_reply(Protocol::Protobuf, id, reply, &mut out);
        out
    };
    let push = |channel: &str, push: &Push<'_>| {
        let mut out = Vec::new();
        encode_push(Protocol::Protobuf, channel, push, &mut out);
        out
    };
    check(
        &reply(1, &Reply::Connect(&ConnectResult { ping: 60, ..connected() })),
        r#"43 0801 2a3f 0a24 UUID 1213 "6.9.1-gf25c7abd OSS" 383c 4001"#,
    );
    check(
        &reply(
            2,
            &Reply::Subscribe(&SubscribeResult {
                recoverable: true,
                positioned: true,
                epoch: "GtjlrOCt",
                ..Default::default()
            }),
        ),
        r#"12 0802 320e 1801 3208 "GtjlrOCt" 5001"#,
    );
    check(&reply(3, &Reply::Publish), "04 0803 4200");
    check(&reply(5, &Reply::Presence(&[])), "04 0805 4a00");
    check(
        &push(
            "pb",
            &Push::Publication {
                publication: &Publication {
                    info: Some(Arc::new(info("", None, None))),
                    ..publication(1, b"\x00\xff")
                },
                epoch: "GtjlrOCt",
            },
        ),
        r#"40 223e 1202 "pb" 2238 2202 00ff 2a26 1224 UUID 3001 7208 "GtjlrOCt""#,
    );
}
