//! One core, driven by transcripts: what a client sends, what it gets. A new rule is a new row.

use super::{
    core::{Core, Seat, SessionStart},
    outbox::Framing,
    seam::{ApiReply, ApiRequest, BackendCall, Effect, Overrides, PublishOptions, SockJsAnswer, Target},
};
use crate::{
    config::{ChannelOptions, Namespace, Settings},
    model::{ConnKey, Disconnect, ErrorCode, Now, Protocol},
    stdx::slab::Key,
};
use std::{sync::Arc, time::Duration};

/// Everything on, as `--dev` has it.
fn open_settings() -> Settings {
    let mut settings = Settings::default();
    settings.client.insecure = true;
    settings.channel.without_namespace = ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        history_size: 10,
        history_ttl: Duration::from_secs(300),
        force_recovery: true,
        ..ChannelOptions::default()
    };
    settings.channel.namespaces = vec![
        Namespace { name: "plain".into(), ..Namespace::default() },
        Namespace {
            name: "joins".into(),
            options: ChannelOptions { join_leave: true, presence: true, ..ChannelOptions::default() },
            ..Namespace::default()
        },
    ];
    settings
}

struct One {
    core: Core,
    now: Now,
    conns: u32,
    closed: Vec<(ConnKey, Disconnect)>,
    api: Vec<(u64, Result<ApiReply, ErrorCode>)>,
    flow: Vec<(ConnKey, bool)>,
    /// Those whose prelude is told.
    connected: Vec<ConnKey>,
    fetches: Vec<Arc<str>>,
    calls: Vec<BackendCall>,
    sockjs: Vec<(u64, SockJsAnswer)>,
    /// What the flush of the last turn wrote.
    written: Vec<(ConnKey, Vec<u8>)>,
}

impl One {
    fn new(settings: Settings) -> Self {
        Self::of(1, settings)
    }

    /// The first of so many cores; the test speaks for the others.
    fn of(cores: usize, settings: Settings) -> Self {
        let now = Now { ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let seat = Seat { id: 0, cores, seed: 1, hash_key: 2, node: "node".into() };
        let core = Core::new(seat, Arc::new(settings), now);
        Self {
            core,
            now,
            conns: 0,
            closed: vec![],
            api: vec![],
            flow: vec![],
            connected: vec![],
            fetches: vec![],
            calls: vec![],
            sockjs: vec![],
            written: vec![],
        }
    }

    fn open(&mut self, protocol: Protocol) -> ConnKey {
        let conn = Key { index: self.conns, generation: 7 };
        self.conns += 1;
        self.core.open(conn);
        self.core.start_session(conn, SessionStart::new(protocol, Framing::websocket(protocol, None)));
        conn
    }

    fn client(&mut self) -> ConnKey {
        let conn = self.open(Protocol::Json);
        self.say(conn, r#"{"id":1,"connect":{}}"#);
        self.turn();
        conn
    }

    fn say(&mut self, conn: ConnKey, text: &str) {
        self.core.begin_turn(self.now);
        self.core.on_message(conn, text.as_bytes());
    }

    fn turn(&mut self) {
        self.core.end_turn();
        for effect in self.core.take_effects() {
            match effect {
                Effect::Close { conn, disconnect } => self.closed.push((conn, disconnect)),
                Effect::ApiReply { call, reply } => self.api.push((call, reply)),
                Effect::Pause(conn) => self.flow.push((conn, true)),
                Effect::Resume(conn) => self.flow.push((conn, false)),
                Effect::Connected(conn) => self.connected.push(conn),
                Effect::FetchKeys { endpoint } => self.fetches.push(endpoint),
                Effect::CallBackend(call) => self.calls.push(call),
                Effect::SockJs { call, answer } => self.sockjs.push((call, answer)),
            }
        }
        self.core.begin_flush();
        self.written.clear();
        for index in 0..self.core.dirty_len() {
            let mut pieces = Vec::new();
            let conn = self.core.pieces(index, &mut pieces);
            self.written.push((conn, pieces.concat()));
        }
        self.core.settle(&[]);
    }

    fn later(&mut self, ms: u64) {
        // Not in one go: a core that stands still forgives its clients.
        for _ in 0..ms / 100 {
            self.now.ms += 100;
            self.now.unix_ms += 100;
            self.core.begin_turn(self.now);
            self.turn();
            if !self.written.is_empty() {
                return;
            }
        }
    }

    /// The messages a client got in the last turn; epochs and ids replaced.
    fn heard(&self, conn: ConnKey) -> Vec<String> {
        let bytes: Vec<u8> =
            self.written.iter().filter(|(to, _)| *to == conn).flat_map(|(_, bytes)| bytes.clone()).collect();
        frames(&bytes).iter().flat_map(|frame| frame.split('\n').map(anonymous).collect::<Vec<_>>()).collect()
    }

    /// Says something and returns what comes back in the same turn.
    fn hear(&mut self, conn: ConnKey, text: &str) -> Vec<String> {
        self.say(conn, text);
        self.turn();
        self.heard(conn)
    }
}

/// Payloads of unmasked text frames.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        assert_eq!(*first, 0x81, "a whole text frame");
        found.push(String::from_utf8(rest[..len].to_vec()).unwrap());
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
    found
}

/// Client ids become `ID`, epochs `E`: they are random.
fn anonymous(text: &str) -> String {
    let mut out = text.to_owned();
    for (key, name) in
        [("\"client\":\"", "ID"), ("\"epoch\":\"", "E"), ("\"presence\":{\"presence\":{\"", "ID")]
    {
        let mut from = 0;
        while let Some(at) = out[from..].find(key) {
            let start = from + at + key.len();
            let Some(len) = out[start..].find('"') else { break };
            if len > 0 {
                out.replace_range(start..start + len, name);
            }
            from = start;
        }
    }
    out
}

#[track_caller]
fn check(rows: &[(&str, &[&str])]) {
    let mut one = One::new(open_settings());
    let conn = one.client();
    for (said, want) in rows {
        assert_eq!(one.hear(conn, said), *want, "after {said}");
        assert!(one.closed.is_empty(), "after {said}: {:?}", one.closed);
    }
}

#[test]
fn connect_answers_with_ping_and_pong() {
    let mut one = One::new(open_settings());
    let conn = one.open(Protocol::Json);
    let version = super::VERSION;
    let want =
        format!(r#"{{"id":1,"connect":{{"client":"ID","version":"{version}","ping":25,"pong":true}}}}"#);
    assert_eq!(one.hear(conn, r#"{"id":1,"connect":{}}"#), [want]);
}

#[test]
fn subscribe_publish_presence_history() {
    check(&[
        (
            r#"{"id":2,"subscribe":{"channel":"a"}}"#,
            &[
                r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}"#,
                r#"{"push":{"channel":"a","join":{"info":{"user":"","client":"ID"}}}}"#,
            ],
        ),
        (
            "{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"}}}",
            &[
                r#"{"id":3,"publish":{}}"#,
                "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{\"x\": [1,\t2] , \"y\":\"<b>\"},\"info\":{\"user\":\"\",\"client\":\"ID\"},\"offset\":1,\"epoch\":\"E\"}}}",
            ],
        ),
        (
            "{\"id\":4,\"presence\":{\"channel\":\"a\"}}\n{\"id\":5,\"presence_stats\":{\"channel\":\"a\"}}",
            &[
                r#"{"id":4,"presence":{"presence":{"ID":{"user":"","client":"ID"}}}}"#,
                r#"{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}"#,
            ],
        ),
        (
            r#"{"id":7,"history":{"channel":"a"}}"#,
            &[r#"{"id":7,"history":{"publications":[],"epoch":"E","offset":1}}"#],
        ),
        (
            r#"{"id":8,"subscribe":{"channel":"a"}}"#,
            &[r#"{"id":8,"error":{"code":105,"message":"already subscribed"}}"#],
        ),
        (r#"{"id":9,"unsubscribe":{"channel":"a"}}"#, &[r#"{"id":9,"unsubscribe":{}}"#]),
        (r#"{"id":10,"unsubscribe":{"channel":"a"}}"#, &[r#"{"id":10,"unsubscribe":{}}"#]),
        (
            r#"{"id":11,"rpc":{"method":"x","data":{}}}"#,
            &[r#"{"id":11,"error":{"code":108,"message":"not available"}}"#],
        ),
        (r#"{"send":{"data":{}}}"#, &[]),
        (
            r#"{"id":12,"publish":{"channel":"a"}}"#,
            &[r#"{"id":12,"error":{"code":107,"message":"bad request"}}"#],
        ),
        (r#"{"id":13,"publish":{"channel":"a","data":null}}"#, &[r#"{"id":13,"publish":{}}"#]),
        (
            r#"{"id":14,"subscribe":{"channel":"nons:x"}}"#,
            &[r#"{"id":14,"error":{"code":102,"message":"unknown channel"}}"#],
        ),
        (
            r#"{"id":15,"subscribe":{"channel":"üml"}}"#,
            &[r#"{"id":15,"error":{"code":107,"message":"bad request"}}"#],
        ),
        (
            r#"{"id":16,"presence":{"channel":"plain:a"}}"#,
            &[r#"{"id":16,"error":{"code":108,"message":"not available"}}"#],
        ),
        (r#"{"id":17,"subscribe":{"channel":"plain:a","unknown":[1,{}]}}"#, &[r#"{"id":17,"subscribe":{}}"#]),
        (
            r#"{"id":18,"history":{"channel":"a","reverse":true,"since":{"offset":0,"epoch":""}}}"#,
            &[r#"{"id":18,"error":{"code":107,"message":"bad request"}}"#],
        ),
    ]);
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let rows: &[(&str, Disconnect)] = &[
        ("garbage", Disconnect::BAD_REQUEST),
        ("", Disconnect::BAD_REQUEST),
        ("{}", Disconnect::BAD_REQUEST),
        (r#"{"id":2}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":2,"connect":{}}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":2,"subscribe":{"channel":""}}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":2,"subscribe":{"channel":"a","delta":"x"}}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":2,"ping":{}}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":2,"refresh":{}}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":2,"refresh":{"token":"x"}}"#, Disconnect::INVALID_TOKEN),
    ];
    for (said, want) in rows {
        let mut one = One::new(open_settings());
        let conn = one.client();
        one.hear(conn, said);
        assert_eq!(one.closed, [(conn, want.clone())], "after {said}");
        assert!(one.hear(conn, r#"{"id":3,"rpc":{}}"#).is_empty(), "nothing is answered after the end");
    }
}

#[test]
fn before_connect_only_connect_counts() {
    for said in ["{}", r#"{"id":1,"subscribe":{"channel":"a"}}"#, r#"{"send":{"data":1}}"#] {
        let mut one = One::new(open_settings());
        let conn = one.open(Protocol::Json);
        one.hear(conn, said);
        assert_eq!(one.closed, [(conn, Disconnect::BAD_REQUEST)], "after {said}");
    }
    let mut settings = open_settings();
    settings.client.insecure = false;
    for (said, want) in [
        (r#"{"id":1,"connect":{}}"#, Disconnect::BAD_REQUEST),
        (r#"{"id":1,"connect":{"token":"bad"}}"#, Disconnect::INVALID_TOKEN),
    ] {
        let mut one = One::new(settings.clone());
        let conn = one.open(Protocol::Json);
        one.hear(conn, said);
        assert_eq!(one.closed, [(conn, want)], "after {said}");
    }
}

#[test]
fn earlier_commands_of_a_frame_are_answered_before_the_end() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    let heard = one.hear(conn, "{\"id\":2,\"rpc\":{}}\n\n{\"id\":3,\"rpc\":{}}");
    assert_eq!(heard, [r#"{"id":2,"error":{"code":108,"message":"not available"}}"#]);
    assert_eq!(one.closed, [(conn, Disconnect::BAD_REQUEST)]);
}

#[test]
fn recovery_returns_exactly_what_was_missed() {
    let mut one = One::new(open_settings());
    let writer = one.client();
    one.hear(writer, r#"{"id":2,"subscribe":{"channel":"r"}}"#);
    for i in 1..=3 {
        one.hear(writer, &format!(r#"{{"id":3,"publish":{{"channel":"r","data":{{"i": {i}}}}}}}"#));
    }
    let heard = one.hear(writer, r#"{"id":4,"history":{"channel":"r"}}"#);
    assert_eq!(heard, [r#"{"id":4,"history":{"publications":[],"epoch":"E","offset":3}}"#]);
    let epoch = epoch_of(&mut one, writer, "r");
    let subscribe = |offset: u64, epoch: &str, flag: u32| {
        format!(
            r#"{{"id":2,"subscribe":{{"channel":"r","recover":true,"offset":{offset},"epoch":"{epoch}","flag":{flag}}}}}"#
        )
    };
    let info = r#""info":{"user":"","client":"ID"}"#;
    let recovered = format!(
        r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"E","publications":[{{"data":{{"i": 2}},{info},"offset":2}},{{"data":{{"i": 3}},{info},"offset":3}}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}}}"#
    );
    let nothing_missed = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","recovered":true,"offset":3,"positioned":true,"was_recovering":true}}"#.to_owned();
    let lost = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","offset":3,"positioned":true,"was_recovering":true}}"#.to_owned();
    let refused = r#"{"id":2,"error":{"code":112,"message":"unrecoverable position"}}"#.to_owned();
    let rows = [
        (subscribe(1, &epoch, 0), recovered),
        (subscribe(3, &epoch, 0), nothing_missed),
        (subscribe(1, "zzzz", 0), lost.clone()),
        (subscribe(4, &epoch, 0), lost),
        (subscribe(1, "zzzz", 2), refused),
    ];
    for (said, want) in rows {
        let conn = one.client();
        assert_eq!(one.hear(conn, &said)[0], want, "after {said}");
    }
}

fn epoch_of(one: &mut One, conn: ConnKey, channel: &str) -> String {
    one.say(conn, &format!(r#"{{"id":9,"history":{{"channel":"{channel}"}}}}"#));
    one.turn();
    let text = String::from_utf8_lossy(&one.written[0].1).into_owned();
    let start = text.find("\"epoch\":\"").unwrap() + 9;
    text[start..].split('"').next().unwrap().to_owned()
}

#[test]
fn others_see_joins_leaves_and_publications_once() {
    let mut one = One::new(open_settings());
    let (a, b) = (one.client(), one.client());
    one.hear(a, r#"{"id":2,"subscribe":{"channel":"c"}}"#);
    one.hear(b, r#"{"id":2,"subscribe":{"channel":"c"}}"#);
    let join = r#"{"push":{"channel":"c","join":{"info":{"user":"","client":"ID"}}}}"#;
    assert_eq!(one.heard(a), [join]);
    one.hear(b, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":1}}\n{\"id\":4,\"publish\":{\"channel\":\"c\",\"data\":2}}");
    assert_eq!(one.heard(a).len(), 2);
    one.core.begin_turn(one.now);
    one.core.end_session(b);
    one.turn();
    assert_eq!(one.heard(a), [r#"{"push":{"channel":"c","leave":{"info":{"user":"","client":"ID"}}}}"#]);
}

#[test]
fn pings_are_sent_and_missing_pongs_end_the_connection() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    one.later(30_000);
    assert_eq!(one.heard(conn), ["{}"]);
    assert!(one.hear(conn, "{}").is_empty() && one.closed.is_empty());
    one.later(30_000);
    assert_eq!(one.heard(conn), ["{}"]);
    one.later(9_000);
    assert_eq!(one.closed, [(conn, Disconnect::NO_PONG)]);
}

#[test]
fn a_client_that_never_connects_is_stale() {
    let mut one = One::new(open_settings());
    let conn = one.open(Protocol::Json);
    one.later(9_900);
    assert!(one.closed.is_empty());
    one.later(300);
    assert_eq!(one.closed, [(conn, Disconnect::STALE)]);
}

#[test]
fn a_core_that_stood_still_gives_its_clients_time() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    one.later(30_000);
    assert_eq!(one.heard(conn), ["{}"]);
    one.now.ms += 60_000;
    one.core.begin_turn(one.now);
    one.turn();
    assert!(one.closed.is_empty());
    one.now.ms += 7_900;
    one.core.begin_turn(one.now);
    one.turn();
    assert!(one.closed.is_empty());
    one.now.ms += 200;
    one.core.begin_turn(one.now);
    one.turn();
    assert_eq!(one.closed, [(conn, Disconnect::NO_PONG)]);
}

#[test]
fn the_server_api_reaches_channels_and_clients() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    one.hear(conn, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    one.core.begin_turn(one.now);
    let publish = |channel: &str| ApiRequest::Publish {
        channel: channel.into(),
        data: b"1".to_vec().into(),
        tags: vec![],
        options: PublishOptions::default(),
    };
    one.core.api(1, publish("a"));
    one.core.api(2, publish("nons:a"));
    one.core.api(3, publish(""));
    one.core.api(4, ApiRequest::Channels { pattern: "".into() });
    one.core.api(5, ApiRequest::Info);
    one.turn();
    assert_eq!(one.heard(conn), [r#"{"push":{"channel":"a","pub":{"data":1,"offset":1,"epoch":"E"}}}"#]);
    assert!(
        matches!(&one.api[0], (1, Ok(ApiReply::Publish { position: Some(position) })) if position.offset == 1)
    );
    assert!(matches!(one.api[1], (2, Err(ErrorCode::UnknownChannel))));
    assert!(matches!(one.api[2], (3, Err(ErrorCode::BadRequest))));
    assert!(matches!(&one.api[3], (4, Ok(ApiReply::Channels(channels))) if channels == &[("a".into(), 1)]));
    assert!(
        matches!(&one.api[4], (5, Ok(ApiReply::Stats { cores, cores_total: 1 })) if cores[0].clients == 1)
    );

    let client = presence_id(&mut one);
    let target = Target { client: client.as_str().into(), ..Target::default() };
    let subscribe = ApiRequest::Subscribe {
        target: target.clone(),
        channel: "api".into(),
        info: None,
        data: Some(br#"{"hello":1}"#.to_vec().into()),
        recover_since: None,
        overrides: Overrides::default(),
        expires_unix_ms: None,
    };
    one.core.api(6, subscribe);
    one.turn();
    assert_eq!(
        one.heard(conn)[0],
        r#"{"push":{"channel":"api","subscribe":{"recoverable":true,"epoch":"E","positioned":true,"data":{"hello":1}}}}"#
    );
    one.core.api(7, ApiRequest::Unsubscribe { target: target.clone(), channel: "api".into() });
    one.turn();
    assert_eq!(
        one.heard(conn),
        [r#"{"push":{"channel":"api","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#]
    );
    let bye = Disconnect { code: 4501, reason: "bye".into() };
    let disconnect = ApiRequest::Disconnect { target, whitelist: vec![], disconnect: bye.clone() };
    one.core.api(8, disconnect);
    one.turn();
    assert_eq!(one.closed, [(conn, bye)]);
}

#[test]
fn a_call_that_pings_is_answered_where_that_is_enabled() {
    let refused = r#"{"id":2,"error":{"code":108,"message":"not available"}}"#;
    for (enabled, method, want) in [
        (true, "are you there", r#"{"id":2,"rpc":{}}"#),
        (true, "ping", refused),
        (false, "are you there", refused),
    ] {
        let mut settings = open_settings();
        settings.rpc.ping.enabled = enabled;
        settings.rpc.ping.method = "are you there".into();
        let mut one = One::new(settings);
        let conn = one.client();
        assert_eq!(one.hear(conn, &format!(r#"{{"id":2,"rpc":{{"method":"{method}"}}}}"#)), [want]);
    }
}

fn presence_id(one: &mut One) -> String {
    one.core.api(99, ApiRequest::Presence { channel: "a".into() });
    one.turn();
    let Some((99, Ok(ApiReply::Presence(clients)))) = one.api.pop() else { panic!("no presence") };
    clients[0].client.to_string()
}

#[test]
fn a_client_that_does_not_read_is_cut_and_others_are_not() {
    let mut settings = open_settings();
    settings.client.queue_max_size = 10_000;
    let mut one = One::new(settings);
    let (slow, fast) = (one.client(), one.client());
    for conn in [slow, fast] {
        one.hear(conn, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    }
    for _ in 0..20 {
        let data = "x".repeat(1000);
        one.say(fast, &format!(r#"{{"id":3,"publish":{{"channel":"a","data":"{data}"}}}}"#));
        one.core.end_turn();
        for effect in one.core.take_effects() {
            let Effect::Close { conn, disconnect } = effect else { panic!("{effect:?}") };
            one.core.close_after_drain(conn, b"close");
            one.closed.push((conn, disconnect));
        }
        one.core.begin_flush();
        let mut shorts = Vec::new();
        for index in 0..one.core.dirty_len() {
            if one.core.pieces(index, &mut Vec::new()) == slow {
                shorts.push(super::core::ShortWrite { index, sent: 0, broken: false });
            }
        }
        one.core.settle(&shorts);
    }
    assert_eq!(one.closed, [(slow, Disconnect::SLOW)]);
    assert!(one.hear(fast, r#"{"id":3,"rpc":{}}"#).len() == 1);
}

#[test]
fn a_write_that_makes_no_progress_times_out() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    one.say(conn, r#"{"id":3,"rpc":{}}"#);
    one.core.end_turn();
    one.core.begin_flush();
    one.core.settle(&[super::core::ShortWrite { index: 0, sent: 3, broken: false }]);
    one.later(900);
    assert!(one.closed.is_empty());
    one.later(300);
    assert_eq!(one.closed, [(conn, Disconnect::WRITE_ERROR)]);
}

mod abroad;
mod channels;
mod coming;
mod conflation;
mod deltas;
mod denials;
mod emulation;
mod filters;
mod keys;
mod limits;
mod listeners;
mod map_pages;
mod map_views;
mod maps;
mod polls;
mod sockjs;
mod tokens;
mod users;
mod v1;
mod wildcards;
