//! What clients of version 1 say and are told, one row per case; and the same requests in the envelopes of both versions.

use super::{
    super::{
        Command, ConnectRequest, ConnectResult, DecodeError, HistoryRequest, PublishRequest, Push, Reply,
        Request, Since, SubscribeRequest, SubscribeResult, encode_command,
        source::{Fields, Source},
        tests::arbitrary_messages as any,
    },
    Positions, advice, decode, encode_push, encode_reply, schema,
};
use crate::{
    model::{ClientId, ClientInfo, Disconnect, ErrorCode, Protocol, Publication, Unsubscribe},
    stdx::varint,
};
use std::{collections::HashMap, sync::Arc};

const CLIENT: ClientId = ClientId(1);
const ID: &str = "00000000-0000-0000-0000-000000000001";

fn all(protocol: Protocol, frame: &[u8]) -> Result<Vec<Command<'_>>, DecodeError> {
    decode(protocol, frame).collect()
}

#[test]
fn requests_in_json() {
    #[track_caller]
    fn check(text: &str, id: u32, request: Request<'_>) {
        assert_eq!(all(Protocol::Json, text.as_bytes()), Ok(vec![Command { id, request }]), "{text}");
    }
    let connect = |it: ConnectRequest<'static>| Request::Connect(Box::new(it));
    check(r#"{"id":1}"#, 1, connect(ConnectRequest::default()));
    check(r#"{"id":1,"params":null}"#, 1, connect(ConnectRequest::default()));
    check(
        r#"{"params":{"token":"t","data":{"a": 1},"name":"js","subs":{"n":{"recover":true,"seq":7,"epoch":"e"}}},"id":1}"#,
        1,
        connect(ConnectRequest {
            token: "t".into(),
            data: br#"{"a": 1}"#,
            name: "js".into(),
            subs: vec![(
                "n".into(),
                SubscribeRequest {
                    join_leave: true,
                    recover: true,
                    offset: 7,
                    epoch: "e".into(),
                    ..SubscribeRequest::default()
                },
            )],
            ..ConnectRequest::default()
        }),
    );
    let recover = |offset| {
        Request::Subscribe(Box::new(SubscribeRequest {
            channel: "c".into(),
            join_leave: true,
            recover: true,
            offset,
            ..SubscribeRequest::default()
        }))
    };
    check(r#"{"method":1,"params":{"channel":"c","recover":true,"offset":5},"id":2}"#, 2, recover(5));
    check(r#"{"id":2,"method":"subscribe","params":{"channel":"c","recover":true,"seq":5}}"#, 2, recover(5));
    check(
        r#"{"id":2,"method":"SUBSCRIBE","params":{"channel":"c","recover":true,"seq":5,"gen":1}}"#,
        2,
        recover((1 << 32) + 5),
    );
    // What only version 2 has is not read.
    check(
        r#"{"id":2,"method":1,"params":{"channel":"c","recover":true,"offset":5,"delta":"fossil","flag":1,"type":1}}"#,
        2,
        recover(5),
    );
    check(r#"{"method":2,"params":{"channel":"c"},"id":3}"#, 3, Request::Unsubscribe { channel: "c".into() });
    check(
        r#"{"method":3,"params":{"channel":"c","data":{"x": [1]}},"id":4}"#,
        4,
        Request::Publish(PublishRequest {
            channel: "c".into(),
            data: Some(br#"{"x": [1]}"#),
            ..PublishRequest::default()
        }),
    );
    check(r#"{"method":4,"params":{"channel":"c"},"id":5}"#, 5, Request::Presence { channel: "c".into() });
    check(
        r#"{"method":5,"params":{"channel":"c"},"id":6}"#,
        6,
        Request::PresenceStats { channel: "c".into() },
    );
    check(
        r#"{"method":6,"params":{"channel":"c","since":{"offset":3,"epoch":"e"},"limit":-1,"reverse":true},"id":7}"#,
        7,
        Request::History(HistoryRequest {
            channel: "c".into(),
            limit: -1,
            since: Some(Since { offset: 3, epoch: "e".into() }),
            reverse: true,
        }),
    );
    check(r#"{"method":7,"id":8}"#, 8, Request::Ping);
    check(r#"{"method":8,"params":{"data":[1]}}"#, 0, Request::Send { data: b"[1]" });
    check(
        r#"{"method":9,"params":{"data":{},"method":"m"},"id":9}"#,
        9,
        Request::Rpc { method: "m".into(), data: b"{}" },
    );
    check(r#"{"method":10,"params":{"token":"t"},"id":10}"#, 10, Request::Refresh { token: "t".into() });
    check(
        r#"{"method":11,"params":{"channel":"c","token":"t"},"id":11}"#,
        11,
        Request::SubRefresh { channel: "c".into(), token: "t".into() },
    );
    check(r#"{"method":12,"id":12}"#, 12, Request::None);
    check(r#"{"method":"dance","id":12}"#, 12, Request::None);
}

#[test]
fn what_is_no_command() {
    for bad in [
        "",
        "null",
        "[]",
        "1",
        r#"{"id":-1}"#,
        r#"{"id":1,"method":-1}"#,
        r#"{"id":1,"method":1.5}"#,
        r#"{"id":1,"method":{}}"#,
        r#"{"id":1,"params":[]}"#,
        r#"{"id":1,"params":1}"#,
        r#"{"id":1,"method":1,"params":{"channel":1}}"#,
        r#"{"id":1} x"#,
        "{\"id\":1}\n\n{\"id\":2}",
    ] {
        assert!(all(Protocol::Json, bad.as_bytes()).is_err(), "{bad}");
    }
    for bad in [
        &b""[..],
        b"\x05\x08\x01",
        b"\x04\x08\x01\x1a\x01",
        b"\x04\x08\x01\x12\x00",
        b"\x06\x08\x01\x10\x01\x1a\x01\xff",
    ] {
        assert!(all(Protocol::Protobuf, bad).is_err(), "{bad:x?}");
    }
    assert_eq!(
        all(Protocol::Protobuf, b"\x02\x08\x01"),
        Ok(vec![Command { id: 1, request: Request::Connect(Box::default()) }])
    );
}

fn publication(offset: u64) -> Arc<Publication> {
    let info = ClientInfo { user: "u".into(), client: CLIENT, conn_info: None, chan_info: None };
    Arc::new(Publication {
        offset,
        data: format!("{{\"n\":{offset}}}").into_bytes().into(),
        info: (offset == 1).then(|| Arc::new(info)),
        tags: Default::default(),
        time_ms: 0,
        extra: None,
        json: true,
        delta: false,
    })
}

fn told(positions: Positions, id: u32, reply: &Reply<'_>) -> String {
    let mut out = Vec::new();
    encode_reply(Protocol::Json, positions, CLIENT, id, reply, &mut out);
    String::from_utf8(out).unwrap().replace(ID, "ID")
}

fn pushed(positions: Positions, push: &Push<'_>) -> String {
    let mut out = Vec::new();
    encode_push(Protocol::Json, positions, "c", push, &mut out);
    String::from_utf8(out).unwrap().replace(ID, "ID")
}

#[test]
fn replies_in_json() {
    use Positions::{Offset, SeqGen};
    let publications = [publication(1), publication(2)];
    let subscribed = SubscribeResult {
        expires: true,
        ttl: 9,
        recoverable: true,
        positioned: true,
        epoch: "e",
        offset: 2,
        publications: &publications,
        recovered: true,
        was_recovering: true,
        ..SubscribeResult::default()
    };
    let subs = [("c", SubscribeResult { offset: (3 << 32) + 4, ..SubscribeResult::default() })];
    let connected = ConnectResult {
        client: CLIENT,
        version: "v",
        expires: true,
        ttl: 5,
        data: b"{}",
        subs: &subs,
        ping: 25,
        pong: true,
        session: "s",
        node: "n",
        time_ms: 1,
    };
    let history = Reply::History { publications: &publications, offset: 2, epoch: "e" };
    let one = r#"{"data":{"n":1},"info":{"user":"u","client":"ID"},"offset":1}"#;
    let old = r#"{"data":{"n":1},"info":{"user":"u","client":"ID"},"seq":1}"#;
    for (positions, reply, want) in [
        (
            Offset,
            Reply::Connect(&connected),
            r#"{"id":1,"result":{"client":"ID","version":"v","expires":true,"ttl":5,"data":{},"subs":{"c":{"offset":12884901892}}}}"#.to_owned(),
        ),
        (
            SeqGen,
            Reply::Connect(&connected),
            r#"{"id":1,"result":{"client":"ID","version":"v","expires":true,"ttl":5,"data":{},"subs":{"c":{"seq":4,"gen":3}}}}"#.into(),
        ),
        (
            Offset,
            Reply::Subscribe(&subscribed),
            format!(r#"{{"id":1,"result":{{"expires":true,"ttl":9,"recoverable":true,"epoch":"e","publications":[{one},{{"data":{{"n":2}},"offset":2}}],"recovered":true,"offset":2,"positioned":true}}}}"#),
        ),
        (
            SeqGen,
            Reply::Subscribe(&subscribed),
            format!(r#"{{"id":1,"result":{{"expires":true,"ttl":9,"recoverable":true,"epoch":"e","publications":[{{"data":{{"n":2}},"seq":2}},{old}],"recovered":true,"seq":2,"positioned":true}}}}"#),
        ),
        (
            Offset,
            history.clone(),
            format!(r#"{{"id":1,"result":{{"publications":[{one},{{"data":{{"n":2}},"offset":2}}],"epoch":"e","offset":2}}}}"#),
        ),
        (
            SeqGen,
            history,
            format!(r#"{{"id":1,"result":{{"publications":[{{"data":{{"n":2}},"seq":2}},{old}]}}}}"#),
        ),
        (Offset, Reply::Error(ErrorCode::TooManyRequests), r#"{"id":1,"error":{"code":111,"message":"too many requests"}}"#.into()),
        (Offset, Reply::Unsubscribe, r#"{"id":1,"result":{}}"#.into()),
        (Offset, Reply::Publish, r#"{"id":1,"result":{}}"#.into()),
        (Offset, Reply::Ping, r#"{"id":1,"result":{}}"#.into()),
        (Offset, Reply::Presence(&[]), r#"{"id":1,"result":{"presence":{}}}"#.into()),
        (Offset, Reply::PresenceStats { clients: 2, users: 0 }, r#"{"id":1,"result":{"num_clients":2,"num_users":0}}"#.into()),
        (Offset, Reply::Rpc { data: b"1" }, r#"{"id":1,"result":{"data":1}}"#.into()),
        (Offset, Reply::Refresh { expires: true, ttl: 3 }, r#"{"id":1,"result":{"client":"ID","expires":true,"ttl":3}}"#.into()),
        (Offset, Reply::SubRefresh { expires: true, ttl: 3, items: &[] }, r#"{"id":1,"result":{"expires":true,"ttl":3}}"#.into()),
    ] {
        assert_eq!(told(positions, 1, &reply), want);
    }
}

#[test]
fn pushes_in_json() {
    use Positions::{Offset, SeqGen};
    let info = ClientInfo { user: "u".into(), client: CLIENT, conn_info: None, chan_info: None };
    let publication = publication(2);
    let published = Push::Publication { publication: &publication, epoch: "e" };
    let begun = Push::Subscribe { recoverable: true, positioned: true, epoch: "e", offset: 4, data: b"" };
    for (positions, push, want) in [
        (Offset, published.clone(), r#"{"result":{"channel":"c","data":{"data":{"n":2},"offset":2}}}"#),
        (SeqGen, published, r#"{"result":{"channel":"c","data":{"data":{"n":2},"seq":2}}}"#),
        (
            Offset,
            Push::Join(&info),
            r#"{"result":{"type":1,"channel":"c","data":{"info":{"user":"u","client":"ID"}}}}"#,
        ),
        (
            Offset,
            Push::Leave(&info),
            r#"{"result":{"type":2,"channel":"c","data":{"info":{"user":"u","client":"ID"}}}}"#,
        ),
        (Offset, Push::Unsubscribe(Unsubscribe::SERVER), r#"{"result":{"type":3,"channel":"c","data":{}}}"#),
        (Offset, Push::Message { data: b"1" }, r#"{"result":{"type":4,"channel":"c","data":{"data":1}}}"#),
        (
            Offset,
            begun.clone(),
            r#"{"result":{"type":5,"channel":"c","data":{"recoverable":true,"epoch":"e","offset":4,"positioned":true}}}"#,
        ),
        (
            SeqGen,
            begun,
            r#"{"result":{"type":5,"channel":"c","data":{"recoverable":true,"epoch":"e","seq":4,"positioned":true}}}"#,
        ),
        (
            Offset,
            Push::Refresh { expires: true, ttl: 7 },
            r#"{"result":{"type":8,"channel":"c","data":{"expires":true,"ttl":7}}}"#,
        ),
    ] {
        assert_eq!(pushed(positions, &push), want);
    }
}

#[test]
fn in_protobuf_a_result_is_bytes() {
    let mut out = Vec::new();
    encode_reply(Protocol::Protobuf, Positions::Offset, CLIENT, 3, &Reply::Publish, &mut out);
    assert_eq!(out, b"\x04\x08\x03\x1a\x00");
    out.clear();
    let reply = Reply::PresenceStats { clients: 2, users: 1 };
    encode_reply(Protocol::Protobuf, Positions::Offset, CLIENT, 3, &reply, &mut out);
    assert_eq!(out, b"\x08\x08\x03\x1a\x04\x08\x02\x10\x01");
    out.clear();
    let push = Push::Publication { publication: &publication(2), epoch: "" };
    encode_push(Protocol::Protobuf, Positions::SeqGen, "c", &push, &mut out);
    assert_eq!(out, b"\x12\x1a\x10\x12\x01c\x1a\x0b\x22\x07{\"n\":2}\x08\x02");
}

#[test]
fn a_disconnect_is_advice() {
    let says = |code, reason: &str| advice(&Disconnect { code, reason: reason.to_owned().into() });
    let short = says(3001, "shutdown");
    assert_eq!((short.code, &*short.reason), (3001, r#"{"reason":"shutdown","reconnect":true}"#));
    assert_eq!(&*says(3500, "invalid token").reason, r#"{"reason":"invalid token","reconnect":false}"#);
    assert_eq!(&*says(4500, "a \"b\"").reason, r#"{"reason":"a \"b\"","reconnect":false}"#);
    let long = says(4000, &"ü\"".repeat(60));
    assert!((120..=123).contains(&long.reason.len()), "{}", long.reason.len());
    let read: serde_json::Value = serde_json::from_str(&long.reason).unwrap();
    assert_eq!(read["reconnect"], true);
    assert!("ü\"".repeat(60).starts_with(read["reason"].as_str().unwrap()));
}

/// A command of version 2 in the envelope of version 1; `None` for one that has no request.
fn wrapped(protocol: Protocol, command: &Command<'_>, named: bool) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    encode_command(protocol, command, &mut frame);
    // In the order of the methods' numbers: name, and number of the field in version 2.
    let methods = [
        ("connect", 4),
        ("subscribe", 5),
        ("unsubscribe", 6),
        ("publish", 7),
        ("presence", 8),
        ("presence_stats", 9),
        ("history", 10),
        ("ping", 11),
        ("send", 12),
        ("rpc", 13),
        ("refresh", 14),
        ("sub_refresh", 15),
    ];
    match protocol {
        Protocol::Json => {
            let fields: HashMap<&str, &serde_json::value::RawValue> = serde_json::from_slice(&frame).unwrap();
            let (number, (name, _)) =
                methods.iter().enumerate().find(|(_, (name, _))| fields.contains_key(name))?;
            let method = if named { format!("\"{name}\"") } else { number.to_string() };
            Some(
                format!("{{\"params\":{},\"id\":{},\"method\":{method}}}", fields[name], command.id)
                    .into_bytes(),
            )
        }
        Protocol::Protobuf => {
            let varint::Read::Value(_, at) = varint::read(&frame) else { panic!("no length") };
            let mut found = None;
            let mut source = Fields::message_value(&frame[at..]);
            let take = |fields: &mut Fields<'_>, number| {
                if let Some(method) = methods.iter().position(|(_, field)| *field == number) {
                    found = Some((method, fields.payload()?.to_vec()));
                }
                Ok(())
            };
            source.message(|_| 0, take).unwrap();
            let (method, params) = found?;
            let mut message = Vec::new();
            for (tag, value) in [(1 << 3, u64::from(command.id)), (2 << 3, method as u64)] {
                message.push(tag);
                varint::write(&mut message, value);
            }
            message.push(3 << 3 | 2);
            varint::write(&mut message, params.len() as u64);
            message.extend_from_slice(&params);
            let mut frame = Vec::new();
            varint::write(&mut frame, message.len() as u64);
            frame.extend_from_slice(&message);
            Some(frame)
        }
    }
}

/// What version 1 has of a request.
fn known(request: &mut Request<'_>) {
    let subscribe = |it: &mut SubscribeRequest<'_>| {
        let SubscribeRequest { channel, token, recover, epoch, offset, data, .. } = std::mem::take(it);
        *it = SubscribeRequest {
            channel,
            token,
            recover,
            epoch,
            offset,
            data,
            join_leave: true,
            ..SubscribeRequest::default()
        };
    };
    match request {
        Request::Connect(connect) => {
            connect.headers.clear();
            connect.subs.iter_mut().for_each(|(_, it)| subscribe(it));
        }
        Request::Subscribe(it) => subscribe(it),
        _ => {}
    }
}

#[test]
fn requests_are_those_of_version_2_in_other_envelopes() {
    arbtest::arbtest(|u| {
        let parts = any::parts(u)?;
        let mut command = any::command(u, &parts)?;
        let named = u.arbitrary()?;
        for protocol in [Protocol::Json, Protocol::Protobuf] {
            let Some(frame) = wrapped(protocol, &command, named) else { continue };
            known(&mut command.request);
            assert_eq!(
                all(protocol, &frame),
                Ok(vec![command.clone()]),
                "{}",
                String::from_utf8_lossy(&frame)
            );
        }
        Ok(())
    });
}

#[test]
fn the_file_and_the_table_of_the_codec_say_the_same() {
    let mut message = "";
    let mut fields = Vec::new();
    for line in include_str!("../../../../schema/client_v1.proto").lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix("message ") {
            message = name.split_whitespace().next().unwrap();
        } else if let Some((left, right)) = line.split_once(" = ")
            && let Some(number) = right.strip_suffix(';').and_then(|it| it.parse().ok())
        {
            fields.push((message, left.split_whitespace().last().unwrap(), number));
        }
    }
    fields.sort_unstable();
    let mut table = schema::ALL.to_vec();
    table.sort_unstable();
    assert_eq!(fields, table);
}
