use super::*;
use crate::{
    broker::seam::{CoreStats, MapRead},
    metrics::{Counter, Counters},
    model::{ClientId, ClientInfo, Extra, Position, Publication},
};
use std::sync::Arc;

fn node() -> Node<'static> {
    Node { uid: "u", name: "n", version: "1.2.3", uptime: 10 }
}

fn position(offset: u64) -> Position {
    Position { offset, epoch: "E".into() }
}

/// An entry of a map that is set, and one that is removed.
fn changes() -> Vec<Arc<Publication>> {
    let change = |offset, data: &[u8], extra| {
        let extra = Some(Box::new(extra));
        Arc::new(Publication {
            offset,
            data: data.into(),
            time_ms: 1000 + offset,
            extra,
            ..Publication::default()
        })
    };
    let set = Extra { key: "k".into(), score: -3, ..Extra::default() };
    let removed = Extra { key: "\"".into(), removed: true, ..Extra::default() };
    vec![change(1, b"{\"a\": 1}", set), change(2, b"", removed)]
}

/// So many publications.
fn counted(publications: u64) -> Counters {
    let mut counters = Counters::default();
    counters.add(Counter::Publications, publications);
    counters
}

/// Answers as a broker might: by the kind of request.
fn broker(request: &ApiRequest) -> Result<ApiReply, ErrorCode> {
    let client = ClientId::from_random(7);
    let info = Arc::new(ClientInfo {
        user: "42".into(),
        client,
        conn_info: Some(Arc::from(&b"{\"n\": 1}"[..])),
        chan_info: Some(Arc::from(&b"\xff"[..])),
    });
    match request {
        ApiRequest::Publish { channel, .. } if channel.starts_with("nons:") => Err(ErrorCode::UnknownChannel),
        ApiRequest::Publish { channel, .. } if channel.starts_with("plain") => {
            Ok(ApiReply::Publish { position: None })
        }
        ApiRequest::Publish { .. } => Ok(ApiReply::Publish { position: Some(position(1)) }),
        ApiRequest::Broadcast { channels, .. } => Ok(ApiReply::Broadcast(
            channels
                .iter()
                .map(|channel| match channel.starts_with("nons:") {
                    true => Err(ErrorCode::UnknownChannel),
                    false => Ok(Some(position(3))),
                })
                .collect(),
        )),
        ApiRequest::Presence { .. } => Ok(ApiReply::Presence([info].into())),
        ApiRequest::PresenceStats { .. } => Ok(ApiReply::PresenceStats { clients: 2, users: 0 }),
        ApiRequest::History { limit: 0, .. } => {
            Ok(ApiReply::History { publications: vec![], position: position(0) })
        }
        ApiRequest::History { since: Some(_), .. } => Err(ErrorCode::UnrecoverablePosition),
        ApiRequest::History { .. } => Ok(ApiReply::History {
            publications: vec![
                Arc::new(Publication {
                    offset: 1,
                    data: Box::from(&b"{\"a\": 1}"[..]),
                    tags: vec![("k".into(), "v".into())],
                    ..Publication::default()
                }),
                Arc::new(Publication {
                    offset: 2,
                    data: Box::from(&b"\x00\xff"[..]),
                    ..Publication::default()
                }),
            ],
            position: position(2),
        }),
        ApiRequest::MapRead { read, .. } => {
            let cursor = if matches!(read, MapRead::State { .. }) { "c".into() } else { Box::default() };
            Ok(ApiReply::MapState { entries: changes(), position: position(2), cursor })
        }
        ApiRequest::Channels { .. } => Ok(ApiReply::Channels(vec![("a\"b".into(), 2)])),
        ApiRequest::Info => Ok(ApiReply::Stats {
            cores: vec![
                CoreStats { core: 0, clients: 2, users: 2, counters: counted(4), ..CoreStats::default() },
                CoreStats {
                    core: 1,
                    clients: 1,
                    users: 0,
                    subscriptions: 4,
                    channels: 3,
                    counters: counted(3),
                },
            ],
            cores_total: 2,
        }),
        _ => Ok(ApiReply::Done),
    }
}

fn run(call: Result<Call, Malformed>) -> (u16, String) {
    match call {
        Err(_) => (400, String::new()),
        Ok(mut call) => {
            while let Some((step, request)) = call.start_next() {
                call.answer(step, broker(&request), &node());
            }
            assert!(call.is_finished());
            let Response { status, body } = call.finish();
            (status, String::from_utf8(body).unwrap())
        }
    }
}

fn named(name: &str, body: &[u8], mode: ErrorMode) -> Result<Call, Malformed> {
    Call::new(Endpoint::named(name).expect("a known method"), body, mode)
}

#[track_caller]
fn check(path: &str, body: &str, status: u16, expected: &str) {
    let call = match path {
        "" => Call::new(Endpoint::Legacy, body.as_bytes(), ErrorMode::Body),
        name => named(name, body.as_bytes(), ErrorMode::Body),
    };
    assert_eq!(run(call), (status, expected.to_owned()), "{path} {body}");
}

#[test]
fn single_methods() {
    let id = ClientId::from_random(7);
    check("publish", r#"{"channel":"a","data":{}}"#, 200, r#"{"result":{"offset":1,"epoch":"E"}}"#);
    check("publish", r#"{"channel":"plain","data":null}"#, 200, r#"{"result":{}}"#);
    check(
        "publish",
        r#"{"channel":"a","b64data":"AP8=","tags":{"k":"v"}}"#,
        200,
        r#"{"result":{"offset":1,"epoch":"E"}}"#,
    );
    let bad = r#"{"error":{"code":107,"message":"bad request"}}"#;
    for body in [
        r#"{"channel":"","data":{}}"#,
        r#"{"data":{}}"#,
        r#"{"channel":null,"data":{}}"#,
        r#"{"channel":"a"}"#,
        r#"{"channel":"a","b64data":"AP8"}"#,
        "",
    ] {
        check("publish", body, 200, bad);
    }
    check(
        "publish",
        r#"{"channel":"nons:x","data":1}"#,
        200,
        r#"{"error":{"code":102,"message":"unknown channel"}}"#,
    );
    for body in ["{", "[]", "1", "null", r#"{"channel":1}"#, r#"{"channel":"a"} x"#, r#"{"data":{]}"#] {
        check("publish", body, 400, "");
    }
    check(
        "broadcast",
        r#"{"channels":["a","nons:z"],"data":{}}"#,
        200,
        r#"{"result":{"responses":[{"result":{"offset":3,"epoch":"E"}},{"error":{"code":102,"message":"unknown channel"}}]}}"#,
    );
    check("broadcast", r#"{"channels":[],"data":{}}"#, 200, bad);
    check(
        "presence",
        r#"{"channel":"a"}"#,
        200,
        &format!(
            r#"{{"result":{{"presence":{{"{id}":{{"user":"42","client":"{id}","conn_info":{{"n": 1}},"b64chan_info":"/w=="}}}}}}}}"#
        ),
    );
    check("presence_stats", r#"{"channel":"a"}"#, 200, r#"{"result":{"num_clients":2,"num_users":0}}"#);
    check("history", r#"{"channel":"a"}"#, 200, r#"{"result":{"publications":[],"epoch":"E","offset":0}}"#);
    check(
        "history",
        r#"{"channel":"a","limit":5}"#,
        200,
        r#"{"result":{"publications":[{"data":{"a": 1},"offset":1,"tags":{"k":"v"}},{"b64data":"AP8=","offset":2}],"epoch":"E","offset":2}}"#,
    );
    check(
        "history",
        r#"{"channel":"a","limit":5,"since":{"offset":1,"epoch":"X"}}"#,
        200,
        r#"{"error":{"code":112,"message":"unrecoverable position"}}"#,
    );
    check("history_remove", r#"{"channel":"a"}"#, 200, r#"{"result":{}}"#);
    check("channels", "{}", 200, r#"{"result":{"channels":{"a\"b":{"num_clients":2}}}}"#);
    check("unsubscribe", r#"{"user":"42"}"#, 200, r#"{"result":{}}"#);
    check("unsubscribe", r#"{"channel":"a"}"#, 200, bad);
    check("subscribe", r#"{"user":"42","channel":"a"}"#, 200, r#"{"result":{}}"#);
    let missing = r#"{"error":{"code":108,"message":"not available"}}"#;
    for (rest, want) in [
        (r#""expire_at":5"#, r#"{"result":{}}"#),
        (r#""expire_at":-5"#, bad),
        (r#""override":{"force_recovery":{"value":true},"presence":null}"#, r#"{"result":{}}"#),
        (r#""override":{"presence":{"value":false},"join_leave":{"value":false}}"#, r#"{"result":{}}"#),
        (r#""all_users":false,"label_filter":"""#, r#"{"result":{}}"#),
        (r#""all_users":null,"label_filter":null"#, r#"{"result":{}}"#),
        (r#""all_users":true"#, r#"{"result":{}}"#),
        (r#""label_filter":{"a":"b"}"#, missing),
    ] {
        check("subscribe", &format!(r#"{{"user":"42","channel":"a",{rest}}}"#), 200, want);
    }
    for method in ["unsubscribe", "refresh", "disconnect"] {
        check(method, r#"{"all_users":true}"#, 200, r#"{"result":{}}"#);
        check(method, r#"{"all_users":true,"label_filter":"a"}"#, 200, missing);
        check(method, r#"{"all_users":false}"#, 200, bad);
    }
    let unknown = r#"{"error":{"code":104,"message":"method not found"}}"#;
    check("rpc", r#"{"method":"x","params":{}}"#, 200, unknown);
    check("rpc", r#"{"params":{}}"#, 200, bad);
    check("map_publish", "{}", 200, bad);
    check(
        "disconnect",
        r#"{"user":"42","disconnect":{"code":4501,"reason":"bye"}}"#,
        200,
        r#"{"result":{}}"#,
    );
    for code in [2999, 5000] {
        check("disconnect", &format!(r#"{{"user":"42","disconnect":{{"code":{code}}}}}"#), 200, bad);
    }
    assert!(Endpoint::named("nope").is_none());
}

#[test]
fn what_is_asked_of_maps_and_how_it_is_told() {
    let entries = r#"{"result":{"entries":[{"key":"k","data":{"a": 1},"offset":1,"score":-3,"time":1001},{"key":"\"","offset":2,"removed":true,"time":1002}],"epoch":"E","offset":2"#;
    check("map_read_stream", r#"{"channel":"m"}"#, 200, &format!("{entries}}}}}"));
    check("map_read_state", r#"{"channel":"m"}"#, 200, &format!("{entries},\"cursor\":\"c\"}}}}"));
    let asked = |method, rest: &str| {
        let mut call =
            named(method, format!(r#"{{"channel":"m"{rest}}}"#).as_bytes(), ErrorMode::Body).unwrap();
        match call.start_next() {
            Some((_, ApiRequest::MapRead { read, .. })) => read,
            other => panic!("{other:?}"),
        }
    };
    for (rest, limit, since, reverse) in [
        ("", 0, None, false),
        (r#","limit":5,"since_offset":3,"since_epoch":"E","reverse":true"#, 5, Some((3, "E")), true),
        (r#","limit":-1,"since_epoch":"E""#, usize::MAX, Some((0, "E")), false),
        (r#","since_offset":3,"since_epoch":null"#, 0, Some((3, "")), false),
    ] {
        let MapRead::Stream(filter) = asked("map_read_stream", rest) else { panic!("{rest}") };
        let from = filter.since.as_ref().map(|it| (it.offset, &*it.epoch));
        assert_eq!((filter.limit, from, filter.reverse), (limit, since, reverse), "{rest}");
    }
    for (rest, limit, revision) in [
        ("", 0, None),
        (r#","limit":-1,"revision_offset":3"#, usize::MAX, Some((3, ""))),
        (r#","limit":7,"cursor":"c","revision_offset":3,"revision_epoch":"E""#, 7, Some((3, "E"))),
    ] {
        let MapRead::State { limit: found, revision: at, .. } = asked("map_read_state", rest) else {
            panic!("{rest}")
        };
        assert_eq!((found, at.as_ref().map(|it| (it.offset, &*it.epoch))), (limit, revision), "{rest}");
    }
    assert!(matches!(asked("map_read_state", r#","key":"k","limit":5"#), MapRead::Key(key) if *key == *"k"));
}

#[test]
fn info_counts_a_user_once_and_names_the_cores() {
    let (_, body) = run(named("info", b"{}", ErrorMode::Body));
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let node = &json["result"]["nodes"][0];
    for (key, value) in
        [("num_clients", 3), ("num_users", 2), ("num_subs", 4), ("num_channels", 3), ("uptime", 10)]
    {
        assert_eq!(node[key], value, "{key}");
    }
    assert_eq!((&node["uid"], &node["name"], &node["version"]), (&"u".into(), &"n".into(), &"1.2.3".into()));
    assert_eq!(node["cores"][1]["core"], 1);
    assert_eq!(node["metrics"]["interval"], 10);
    let items = node["metrics"]["items"].as_object().expect("items");
    assert_eq!(items["corecast_publications_total"], 7, "of both cores");
    assert!(items.keys().all(|name| name.ends_with("_total")), "nothing that falls: {items:?}");
}

#[test]
fn batch_keeps_order_and_reports_each() {
    let commands = r#"{"commands":[{"publish":{"channel":"a","data":1}},{"rpc":{}},{"nope":{}},{},null,{"publish":null,"info":{}}]}"#;
    let (status, body) = run(named("batch", commands.as_bytes(), ErrorMode::Body));
    assert_eq!(status, 200);
    assert!(
        body.starts_with(
            r#"{"replies":[{"publish":{"offset":1,"epoch":"E"}},{"error":{"code":107,"message":"bad request"}},{"error":{"code":104,"message":"method not found"}},{"error":{"code":104,"message":"method not found"}},{"error":{"code":107,"message":"bad request"}},{"info":{"nodes":"#
        ),
        "{body}"
    );
    check("batch", r#"{"commands":[]}"#, 200, r#"{"replies":[]}"#);
    check("batch", r#"{"commands":[{"publish":{"channel":1}}]}"#, 400, "");
    check("batch", r#"{"commands":{}}"#, 400, "");
}

// A sequence starts a step when the one before has its answer, a parallel batch starts all.
#[test]
fn batch_sequence_and_parallel() {
    for (parallel, first_round) in [(false, 1), (true, 3)] {
        let commands = format!(
            r#"{{"commands":[{{"publish":{{"channel":"a","data":1}}}},{{"history":{{"channel":"a"}}}},{{"history_remove":{{"channel":"a"}}}}],"parallel":{parallel}}}"#
        );
        let mut call = named("batch", commands.as_bytes(), ErrorMode::Body).unwrap();
        let mut running: Vec<_> = std::iter::from_fn(|| call.start_next()).collect();
        assert_eq!(running.len(), first_round);
        while let Some((step, request)) = running.pop() {
            call.answer(step, broker(&request), &node());
            call.answer(step, Err(ErrorCode::Internal), &node());
            running.extend(std::iter::from_fn(|| call.start_next()));
        }
        assert!(call.is_finished());
        assert_eq!(
            String::from_utf8(call.finish().body).unwrap(),
            r#"{"replies":[{"publish":{"offset":1,"epoch":"E"}},{"history":{"publications":[],"epoch":"E","offset":0}},{"history_remove":{}}]}"#
        );
    }
}

#[test]
fn batch_limit_on_both_sides() {
    for (count, refused) in [(BATCH_MAX, false), (BATCH_MAX + 1, true)] {
        let commands = format!(r#"{{"commands":[{}]}}"#, vec!["{}"; count].join(","));
        let (_, body) = run(named("batch", commands.as_bytes(), ErrorMode::Body));
        assert_eq!(body == r#"{"error":{"code":106,"message":"limit exceeded"}}"#, refused, "{count}");
    }
}

#[test]
fn legacy_lines() {
    check(
        "",
        "{\"method\":\"publish\",\"params\":{\"channel\":\"a\",\"data\":1}}\n{\"method\":5,\"params\":{\"channel\":\"a\"}}",
        200,
        "{\"result\":{\"offset\":1,\"epoch\":\"E\"}}\n{\"result\":{\"num_clients\":2,\"num_users\":0}}",
    );
    check(
        "",
        r#"{"method":"channels"}{"method":99}"#,
        200,
        "{\"result\":{\"channels\":{\"a\\\"b\":{\"num_clients\":2}}}}\n{\"error\":{\"code\":104,\"message\":\"method not found\"}}",
    );
    for body in ["", "{", "[]", r#"{"method":{}}"#, "{\"method\":\"info\"}\nx"] {
        check("", body, 400, "");
    }
}

#[test]
fn transport_mode_puts_the_error_into_the_status() {
    for (body, status, expected) in [
        (r#"{"channel":"nons:x","data":1}"#, 404, r#"{"code":102,"message":"unknown channel"}"#),
        (r#"{"channel":"","data":1}"#, 400, r#"{"code":107,"message":"bad request"}"#),
        (r#"{"channel":"a","data":1}"#, 200, r#"{"result":{"offset":1,"epoch":"E"}}"#),
    ] {
        let call = named("publish", body.as_bytes(), ErrorMode::Transport);
        assert_eq!(run(call), (status, expected.to_owned()), "{body}");
    }
}

#[test]
fn data_is_the_source_slice_without_newlines() {
    let body = "{\"channel\":\"\\u0061\",\"data\": {\"x\": [1,\t2] ,\n \"y\":\"<b>\"} }";
    let mut call = named("publish", body.as_bytes(), ErrorMode::Body).unwrap();
    let Some((0, ApiRequest::Publish { channel, data, .. })) = call.start_next() else {
        panic!("not a publish")
    };
    assert_eq!(&*channel, "a");
    assert_eq!(&*data, b"{\"x\": [1,\t2] , \"y\":\"<b>\"}");
}
