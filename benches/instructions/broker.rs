//! One core from commands to the bytes of a flush, the turn of a group, permissions.

use crate::{case, wire};
use corecast::{
    api::{Call, Endpoint, ErrorMode, Node},
    broker::{
        core::{Core, Seat, SessionStart},
        group::{Class, GroupKey, Groups, Note},
        outbox::{Framing, Limits, WritePath},
        permission::{Namespaces, Verb, Who},
        seam::Effect,
    },
    config::{ChannelOptions, Namespace, Settings},
    metrics::{Counter, Counters},
    model::{ConnKey, Now, Protocol, Publication},
};
use std::{hint::black_box, sync::Arc, time::Duration};

const MEMBERS: u32 = 1000;
const HISTORY: u32 = 100;

pub fn run() {
    group_turns();
    delta_turns();
    permissions();
    for (name, protocol) in [("json", Protocol::Json), ("protobuf", Protocol::Protobuf)] {
        publishing(&format!("core-publish-{name}"), protocol, "bench", 1);
        publishing(&format!("core-publish-{name}-16-per-turn"), protocol, "bench", 16);
    }
    publishing("core-publish-history-100-16-per-turn", Protocol::Json, "kept:bench", 16);
    api();
    sessions();
    recovery();
    presence();
}

fn conn(index: u32) -> ConnKey {
    ConnKey { index, generation: 0 }
}

/// Notes, encoding, hand-out and flush of a channel all of whose members are alike.
fn group_turns() {
    for (framing, protocol, name) in [
        (Framing::WebSocketText, Protocol::Json, "json"),
        (Framing::WebSocketBinary, Protocol::Protobuf, "protobuf"),
    ] {
        for k in [1, 16] {
            let settings = Settings::default();
            let mut write = WritePath::new(Limits::from(&settings));
            let mut groups = Groups::new(settings.websocket.frame_size_target);
            let mut counters = Counters::default();
            let key: GroupKey = groups.create("bench".into(), Class::plain(framing, protocol), None);
            for index in 0..MEMBERS {
                write.open(conn(index));
                write.set_framing(conn(index), framing);
                groups.add(key, conn(index));
            }
            let data = format!("\"{}\"", "x".repeat(126)).into_bytes().into();
            let publication = Arc::new(Publication { data, json: true, ..Publication::default() });
            let note = Note::Publication { publication, epoch: None };
            case(&format!("group-turn-{name}-1000-members-k{k}"), 1, || {
                for _ in 0..k {
                    groups.note(std::slice::from_ref(&key), &note, &mut counters);
                }
                groups.close_all(&mut write, &mut counters);
                write.begin_flush();
                let mut pieces = Vec::new();
                for index in 0..write.dirty_len() {
                    black_box(write.pieces(index, &mut pieces));
                    pieces.clear();
                }
                drop(pieces);
                write.settle(std::iter::empty(), 0);
            });
        }
    }
}

/// The same for members who get differences: one is made for all of them.
fn delta_turns() {
    for (framing, protocol, name) in [
        (Framing::WebSocketText, Protocol::Json, "json"),
        (Framing::WebSocketBinary, Protocol::Protobuf, "protobuf"),
    ] {
        let settings = Settings::default();
        let mut write = WritePath::new(Limits::from(&settings));
        let mut groups = Groups::new(settings.websocket.frame_size_target);
        let mut counters = Counters::default();
        let key =
            groups.create("bench".into(), Class { delta: true, ..Class::plain(framing, protocol) }, None);
        for index in 0..MEMBERS {
            write.open(conn(index));
            write.set_framing(conn(index), framing);
            groups.add(key, conn(index));
        }
        let mut turn = 0;
        case(&format!("group-turn-{name}-delta-1000-members-k1"), 1, || {
            turn += 1;
            let numbers: Vec<u32> = (0..200).map(|at| at * 7919 % 1000 + u32::from(at == turn)).collect();
            let data = format!("{{\"turn\":{turn},\"numbers\":{numbers:?}}}").into_bytes().into();
            let publication =
                Arc::new(Publication { data, json: true, delta: true, ..Publication::default() });
            let note = Note::Publication { publication, epoch: None };
            groups.note(std::slice::from_ref(&key), &note, &mut counters);
            groups.close_all(&mut write, &mut counters);
            write.begin_flush();
            write.settle(std::iter::empty(), 0);
        });
        if turn > 0 {
            let made = counters.value(Counter::DeltasMade);
            assert_eq!(made, u64::from(turn) - 1, "one difference for each publication but the first");
        }
    }
}

fn permissions() {
    const CHECKS: u32 = 256;
    let settings = settings();
    let namespaces = Namespaces::new(&settings.channel);
    let who = Who { user: "17", subscribed: true, insecure: false };
    case("permission-publish-in-namespace", CHECKS, || {
        for _ in 0..CHECKS {
            let channel = black_box("space7:room");
            namespaces.check_name(channel).expect("a good name");
            let options = namespaces.resolve(channel).expect("a namespace");
            namespaces.decide(Verb::Publish, options, who, channel).expect("a permission");
        }
    });
}

/// As `--dev`, without history and with a few namespaces; `kept:` has history.
fn settings() -> Settings {
    let mut settings = Settings::dev();
    let plain = ChannelOptions {
        history_size: 0,
        force_recovery: false,
        presence: false,
        join_leave: false,
        force_push_join_leave: false,
        ..settings.channel.without_namespace.clone()
    };
    let kept = ChannelOptions {
        history_size: u64::from(HISTORY).try_into().expect("a small number"),
        history_ttl: Duration::from_secs(300),
        force_recovery: true,
        ..plain.clone()
    };
    let present = ChannelOptions { presence: true, ..plain.clone() };
    settings.channel.without_namespace = plain.clone();
    settings.channel.namespaces = (0..10)
        .map(|at| Namespace { name: format!("space{at}"), options: plain.clone(), ..Namespace::default() })
        .collect();
    settings.channel.namespaces.push(Namespace {
        name: "kept".into(),
        options: kept,
        ..Namespace::default()
    });
    settings.channel.namespaces.push(Namespace {
        name: "present".into(),
        options: present,
        ..Namespace::default()
    });
    settings
}

struct One {
    core: Core,
    now: Now,
    /// Bytes the last turn would have written.
    bytes: usize,
}

impl One {
    /// A core with so many clients that have connected.
    fn new(clients: u32, protocol: Protocol) -> Self {
        let now = Now { ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let seat = Seat { id: 0, cores: 1, seed: 1, hash_key: 2, node: "".into() };
        let mut one = Self { core: Core::new(seat, Arc::new(settings()), now), now, bytes: 0 };
        for index in 0..clients {
            one.connect(conn(index), protocol);
        }
        one
    }

    fn connect(&mut self, conn: ConnKey, protocol: Protocol) {
        self.core.open(conn);
        self.core.start_session(conn, SessionStart::new(protocol, Framing::websocket(protocol, None)));
        match protocol {
            Protocol::Json => self.turn(conn, br#"{"id":1,"connect":{}}"#),
            Protocol::Protobuf => self.turn(conn, b"\x04\x08\x01\x22\0"),
        }
        assert!(self.bytes > 0, "the connect is answered");
    }

    /// One turn in which `conn` says `message`.
    fn turn(&mut self, conn: ConnKey, message: &[u8]) {
        self.core.begin_turn(self.now);
        self.core.on_message(conn, message);
        self.flush();
    }

    fn flush(&mut self) {
        self.core.end_turn();
        black_box(self.core.take_effects());
        self.core.begin_flush();
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for index in 0..self.core.dirty_len() {
            black_box(self.core.pieces(index, &mut pieces));
            bytes += pieces.iter().map(|piece| piece.len()).sum::<usize>();
            pieces.clear();
        }
        self.bytes = bytes;
        drop(pieces);
        self.core.settle(&[]);
    }
}

/// Publications to a channel without subscribers, of which each turn brings so many.
fn publishing(name: &str, protocol: Protocol, channel: &str, per_turn: u32) {
    const PUBLICATIONS: u32 = 256;
    let mut one = One::new(1, protocol);
    let command = wire::publish(protocol, channel, 7);
    case(name, PUBLICATIONS, || {
        for _ in 0..PUBLICATIONS / per_turn {
            one.core.begin_turn(one.now);
            for _ in 0..per_turn {
                one.core.on_message(conn(0), &command);
            }
            one.flush();
            assert!(one.bytes > 0);
        }
    });
}

/// Bodies of the server API to bodies of its answers: publications to a channel without subscribers, alone and 100 in a
/// batch.
fn api() {
    const PUBLICATIONS: u32 = 256;
    const BATCH: u32 = 100;
    let mut one = One::new(0, Protocol::Json);
    let node = Node { uid: "", name: "", version: "", uptime: 0 };
    let mut answered = |name: &str, body: &str| {
        let endpoint = Endpoint::named(name).expect("a method");
        let mut call = Call::new(endpoint, body.as_bytes(), ErrorMode::Body).expect("a good body");
        one.core.begin_turn(one.now);
        while let Some((step, request)) = call.start_next() {
            one.core.api(1, request);
            for effect in one.core.take_effects() {
                let Effect::ApiReply { reply, .. } = effect else { panic!("{effect:?}") };
                call.answer(step, reply, &node);
            }
        }
        assert_eq!((call.is_finished(), call.errors()), (true, 0));
        one.flush();
        black_box(call.finish());
    };
    let publication = format!(r#"{{"channel":"bench","data":"{}"}}"#, "x".repeat(126));
    case("api-publish", PUBLICATIONS, || {
        (0..PUBLICATIONS).for_each(|_| answered("publish", &publication));
    });
    let command = format!(r#"{{"publish":{publication}}}"#);
    let batch = format!(r#"{{"commands":[{}]}}"#, vec![command; BATCH as usize].join(","));
    case("api-batch-of-100", 4 * BATCH, || (0..4).for_each(|_| answered("batch", &batch)));
}

/// Connections that come, connect, subscribe and go.
fn sessions() {
    const SESSIONS: u32 = 64;
    let mut one = One::new(1, Protocol::Json);
    case("core-connect-subscribe-leave", SESSIONS, || {
        for index in 1..=SESSIONS {
            one.connect(conn(index), Protocol::Json);
            one.turn(conn(index), br#"{"id":2,"subscribe":{"channel":"bench"}}"#);
        }
        for index in 1..=SESSIONS {
            one.core.begin_turn(one.now);
            one.core.end_session(conn(index));
            one.core.released(conn(index));
            one.flush();
        }
    });
}

/// Subscribing again, having missed nothing or everything that is kept.
fn recovery() {
    const CYCLES: u32 = 16;
    let mut one = One::new(2, Protocol::Json);
    for _ in 0..HISTORY {
        one.turn(conn(1), &wire::publish(Protocol::Json, "kept:bench", 7));
    }
    let mut cycle = |name: &str, recover: &str, bytes_min: usize| {
        let subscribe =
            format!(r#"{{"id":2,"subscribe":{{"channel":"kept:bench","recoverable":true{recover}}}}}"#);
        case(name, CYCLES, || {
            for _ in 0..CYCLES {
                one.turn(conn(0), subscribe.as_bytes());
                assert!(one.bytes >= bytes_min, "{name}: {} bytes", one.bytes);
                one.turn(conn(0), br#"{"id":3,"unsubscribe":{"channel":"kept:bench"}}"#);
            }
        });
    };
    cycle("core-subscribe-unsubscribe", "", 40);
    cycle("core-recover-100-unsubscribe", r#","recover":true,"offset":0"#, 100 * 128);
}

fn presence() {
    let mut one = One::new(MEMBERS, Protocol::Json);
    for index in 0..MEMBERS {
        one.turn(conn(index), br#"{"id":2,"subscribe":{"channel":"present:bench"}}"#);
    }
    case("core-presence-of-1000", 4, || {
        for _ in 0..4 {
            one.turn(conn(0), br#"{"id":3,"presence":{"channel":"present:bench"}}"#);
            assert!(one.bytes > 1000 * 40);
        }
    });
    case("core-presence-stats-of-1000", 64, || {
        for _ in 0..64 {
            one.turn(conn(0), br#"{"id":3,"presence_stats":{"channel":"present:bench"}}"#);
        }
    });
}
