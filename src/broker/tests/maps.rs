//! Maps by transcripts: state in pages, changes, catching up, expiry, rights, and maps of who is where.

use super::{One, open_settings};
use crate::{
    broker::seam::{ApiReply, ApiRequest, KeyMode, MapRead, MapSet, Suppressed},
    config::{ChannelOptions, ClientKey, Map, MapMode, Namespace, Settings, SubscriptionType},
    model::{ConnKey, ErrorCode, Protocol},
};
use std::time::Duration;

pub(super) fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.allow_anonymous_connect_without_token = true;
    let map = |mode| Map {
        mode,
        key_ttl: Duration::from_secs(60),
        min_page_size: 1,
        max_page_size: 3,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_remove_for_subscriber: true,
        allow_remove_for_anonymous: true,
        ..Map::default()
    };
    let open = |subscription_type, map| ChannelOptions {
        subscription_type,
        map,
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..ChannelOptions::default()
    };
    let named = |name: &str, options| Namespace { name: name.into(), options, ..Namespace::default() };
    let kept = Map { stream_size: 5, ..map(MapMode::Recoverable) };
    let own = Map {
        client_key: ClientKey::ClientId,
        remove_client_on_unsubscribe: true,
        ..map(MapMode::Ephemeral)
    };
    settings.channel.namespaces = vec![
        named("mm", open(SubscriptionType::Map, kept.clone())),
        named("cursors", open(SubscriptionType::Map, own)),
        named("few", open(SubscriptionType::Map, Map { keys_max: 2, ..map(MapMode::Persistent) })),
        named("ranks", open(SubscriptionType::Map, Map { ordered: true, ..kept.clone() })),
        named("clients", open(SubscriptionType::MapClients, kept.clone())),
        named("users", open(SubscriptionType::MapUsers, kept.clone())),
        named("tight", open(SubscriptionType::MapClients, Map { keys_max: 2, ..kept })),
        named(
            "hall",
            ChannelOptions {
                map_clients_presence_channel_prefix: "tight:".into(),
                ..open(SubscriptionType::Stream, Map::default())
            },
        ),
        named(
            "game",
            ChannelOptions {
                map_clients_presence_channel_prefix: "clients:".into(),
                map_users_presence_channel_prefix: "users:".into(),
                ..open(SubscriptionType::Stream, Map::default())
            },
        ),
    ];
    settings
}

/// What a client says of a map, and what it hears.
#[track_caller]
fn check(one: &mut One, conn: ConnKey, rows: &[(&str, &[&str])]) {
    for (said, want) in rows {
        assert_eq!(one.hear(conn, said), *want, "after {said}");
    }
}

pub(super) fn set(one: &mut One, key: &str, value: u32) {
    let said = format!(r#"{{"id":9,"publish":{{"channel":"mm:1","type":1,"key":"{key}","data":{value}}}}}"#);
    one.say(one.writer(), &said);
    one.turn();
}

impl One {
    /// The first connection.
    fn writer(&self) -> ConnKey {
        ConnKey { index: 0, generation: 7 }
    }
}

#[test]
fn the_frames_of_centrifugo() {
    let mut one = One::new(settings());
    let conn = one.client();
    check(
        &mut one,
        conn,
        &[
            (
                r#"{"id":2,"publish":{"channel":"mm:1","type":1,"key":"k1","data":{"v":1}}}"#,
                &[r#"{"id":2,"publish":{}}"#],
            ),
            (
                r#"{"id":3,"subscribe":{"channel":"mm:1","type":1,"phase":2}}"#,
                &[
                    r#"{"id":3,"subscribe":{"recoverable":true,"epoch":"E","offset":1,"type":1,"state":[{"data":{"v":1},"info":{"user":"","client":"ID"},"offset":1,"key":"k1","epoch":"E"}]}}"#,
                ],
            ),
            (
                r#"{"id":4,"publish":{"channel":"mm:1","type":1,"key":"k2","data":{"v":2}}}"#,
                &[
                    r#"{"id":4,"publish":{}}"#,
                    r#"{"push":{"channel":"mm:1","pub":{"data":{"v":2},"info":{"user":"","client":"ID"},"offset":2,"key":"k2"}}}"#,
                ],
            ),
            (
                r#"{"id":5,"publish":{"channel":"mm:1","type":1,"key":"k1","removed":true}}"#,
                &[
                    r#"{"id":5,"publish":{}}"#,
                    r#"{"push":{"channel":"mm:1","pub":{"offset":3,"key":"k1","removed":true}}}"#,
                ],
            ),
            // What is gone is removed without a word.
            (
                r#"{"id":6,"publish":{"channel":"mm:1","type":1,"key":"k1","removed":true}}"#,
                &[r#"{"id":6,"publish":{}}"#],
            ),
            (r#"{"id":7,"unsubscribe":{"channel":"mm:1"}}"#, &[r#"{"id":7,"unsubscribe":{}}"#]),
            (
                r#"{"id":8,"subscribe":{"channel":"mm:1"}}"#,
                &[r#"{"id":8,"error":{"code":103,"message":"permission denied"}}"#],
            ),
            (
                r#"{"id":9,"subscribe":{"channel":"mm:1","type":1,"phase":2,"cursor":"k1"}}"#,
                &[r#"{"id":9,"error":{"code":103,"message":"permission denied"}}"#],
            ),
            (
                r#"{"id":10,"subscribe":{"channel":"mm:1","type":1,"phase":1,"recover":true,"offset":1,"epoch":"zzzz"}}"#,
                &[r#"{"id":10,"error":{"code":112,"message":"unrecoverable position"}}"#],
            ),
            (
                r#"{"id":11,"publish":{"channel":"mm:1","data":1}}"#,
                &[r#"{"id":11,"error":{"code":103,"message":"permission denied"}}"#],
            ),
            (
                r#"{"id":12,"publish":{"channel":"game:1","type":1,"key":"k","data":1}}"#,
                &[r#"{"id":12,"error":{"code":108,"message":"not available"}}"#],
            ),
            (
                r#"{"id":13,"publish":{"channel":"mm:1","type":1,"data":1}}"#,
                &[r#"{"id":13,"error":{"code":107,"message":"bad request"}}"#],
            ),
            (
                r#"{"id":14,"publish":{"channel":"mm:1","type":1,"key":"k"}}"#,
                &[r#"{"id":14,"error":{"code":107,"message":"bad request"}}"#],
            ),
            // Only subscribers may remove.
            (
                r#"{"id":15,"publish":{"channel":"mm:1","type":1,"key":"k2","removed":true}}"#,
                &[r#"{"id":15,"error":{"code":103,"message":"permission denied"}}"#],
            ),
        ],
    );
    one.core.invariants();
}

#[test]
fn entries_expire_and_subscribers_are_told() {
    let mut one = One::new(settings());
    let conn = one.client();
    one.hear(conn, r#"{"id":2,"subscribe":{"channel":"mm:1","type":1,"phase":2}}"#);
    set(&mut one, "a", 1);
    let from = one.now.ms;
    let heard = loop {
        one.later(1_000);
        let heard = one.heard(conn);
        if heard == ["{}"] {
            one.hear(conn, "{}");
        } else if !heard.is_empty() {
            break heard;
        }
        assert!(one.now.ms < from + 61_000, "it never expires");
    };
    assert_eq!(heard, [r#"{"push":{"channel":"mm:1","pub":{"offset":2,"key":"a","removed":true}}}"#]);
    assert!(one.now.ms >= from + 60_000, "{} ms early", from + 60_000 - one.now.ms);
    one.core.invariants();
}

#[test]
fn an_entry_of_a_client_goes_with_it() {
    let mut one = One::new(settings());
    let (conn, other) = (one.client(), one.client());
    for conn in [conn, other] {
        let heard = one.hear(conn, r#"{"id":2,"subscribe":{"channel":"cursors:1","type":1,"phase":2}}"#);
        assert_eq!(heard, [r#"{"id":2,"subscribe":{"epoch":"E","type":1}}"#]);
    }
    one.say(conn, r#"{"id":3,"publish":{"channel":"cursors:1","type":1,"key":"of another","data":1}}"#);
    one.turn();
    let client = one.core.info(conn).unwrap().client.to_string();
    let text = String::from_utf8_lossy(&one.written.iter().find(|it| it.0 == other).unwrap().1).into_owned();
    assert!(text.contains(&format!(r#""key":"{client}""#)), "the key is the client's own: {text}");
    one.core.end_session(conn);
    one.turn();
    let heard = one.heard(other);
    assert!(heard[0].contains(r#""removed":true"#), "{heard:?}");
}

#[test]
fn maps_of_who_is_in_a_channel() {
    let mut one = One::new(settings());
    let watcher = one.client();
    for (kind, name) in [(2, "clients"), (3, "users")] {
        let said = format!(r#"{{"id":2,"subscribe":{{"channel":"{name}:game:1","type":{kind},"phase":2}}}}"#);
        let want = format!(r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"E","type":{kind}}}}}"#);
        assert_eq!(one.hear(watcher, &said), [want]);
    }
    let player = one.open(Protocol::Json);
    one.core.begin_turn(one.now);
    one.hear(player, r#"{"id":1,"connect":{}}"#);
    one.say(player, r#"{"id":2,"subscribe":{"channel":"game:1"}}"#);
    one.turn();
    let client = one.core.info(player).unwrap().client.to_string();
    let heard = one.heard(watcher);
    // A user without a name is no user.
    let push = |rest: &str| format!(r#"{{"push":{{"channel":"clients:game:1","pub":{{{rest}}}}}}}"#);
    let came = format!(r#""info":{{"user":"","client":"ID"}},"offset":1,"key":"{client}","epoch":"E""#);
    assert_eq!(heard, [push(&came)]);
    // Nobody sets what the server keeps.
    let set = r#"{"id":3,"publish":{"channel":"clients:game:1","type":1,"key":"k","data":1}}"#;
    let refused = r#"{"id":3,"error":{"code":108,"message":"not available"}}"#;
    assert_eq!(one.hear(watcher, set), [refused]);
    one.core.end_session(player);
    one.turn();
    let went = format!(r#""offset":2,"key":"{client}","removed":true"#);
    assert_eq!(one.heard(watcher), [push(&went)]);
    one.core.invariants();
}

#[test]
fn who_does_not_fit_into_a_map_appears_when_another_leaves() {
    let mut one = One::new(settings());
    let watcher = one.client();
    one.hear(watcher, r#"{"id":2,"subscribe":{"channel":"tight:hall:1","type":2,"phase":2}}"#);
    let members: Vec<ConnKey> = (0..4).map(|_| one.client()).collect();
    for &member in &members {
        one.hear(member, r#"{"id":2,"subscribe":{"channel":"hall:1"}}"#);
    }
    let id = |one: &One, at: usize| one.core.info(members[at]).unwrap().client.to_string();
    let ids: Vec<String> = (0..4).map(|at| id(&one, at)).collect();
    let shown = |one: &mut One| -> Vec<String> {
        let read = MapRead::State { cursor: "".into(), limit: 9, revision: None, asc: false };
        match api(one, ApiRequest::MapRead { channel: "tight:hall:1".into(), read }) {
            Ok(ApiReply::MapState { entries, .. }) => {
                entries.iter().map(|it| it.extra.as_ref().unwrap().key.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    let sorted = |at: [usize; 2]| {
        let mut some = at.map(|at| ids[at].clone());
        some.sort_unstable();
        some
    };
    assert_eq!(shown(&mut one), sorted([0, 1]));
    // One of those who wait gives up.
    one.hear(members[3], r#"{"id":3,"unsubscribe":{"channel":"hall:1"}}"#);
    assert_eq!(shown(&mut one), sorted([0, 1]));
    one.core.begin_turn(one.now);
    one.core.end_session(members[0]);
    one.turn();
    let heard = one.heard(watcher);
    assert!(heard.len() == 2 && heard[0].contains(r#""removed":true"#), "{heard:?}");
    assert!(heard[1].contains(&ids[2]), "{heard:?}");
    assert_eq!(shown(&mut one), sorted([1, 2]));
    one.core.invariants();
}

fn api(one: &mut One, request: ApiRequest) -> Result<ApiReply, ErrorCode> {
    one.core.begin_turn(one.now);
    one.core.api(1, request);
    one.turn();
    one.api.pop().unwrap().1
}

pub(super) fn api_set(
    one: &mut One,
    channel: &str,
    change: impl FnOnce(&mut MapSet),
) -> Result<ApiReply, ErrorCode> {
    let mut set = MapSet::of("k".into());
    set.publication.data = b"1"[..].into();
    change(&mut set);
    api(one, ApiRequest::MapSet { channel: channel.into(), set })
}

#[test]
fn what_the_server_api_does_with_maps() {
    let mut one = One::new(settings());
    let suppressed = |reply: Result<ApiReply, ErrorCode>| match reply {
        Ok(ApiReply::MapSet { position: Some(position), suppressed }) => (position.offset, suppressed),
        other => panic!("{other:?}"),
    };
    let mut set = |change: fn(&mut MapSet)| suppressed(api_set(&mut one, "mm:1", change));
    assert_eq!(set(|it| it.mode = KeyMode::IfExists), (0, Some(Suppressed::KeyNotFound)));
    assert_eq!(set(|it| it.mode = KeyMode::IfNew), (1, None));
    assert_eq!(set(|it| it.mode = KeyMode::IfNew), (1, Some(Suppressed::KeyExists)));
    assert_eq!(set(|it| it.options.version = 5), (2, None));
    assert_eq!(set(|it| it.options.version = 5), (2, Some(Suppressed::Version)));
    assert_eq!(
        set(|it| (it.options.version, it.key) = (5, "other".into())),
        (3, None),
        "versions are of keys"
    );
    assert_eq!(set(|it| it.options.idempotency_key = "i".into()), (4, None));
    assert_eq!(set(|it| it.options.idempotency_key = "i".into()), (4, Some(Suppressed::Idempotency)));
    assert_eq!(set(|it| it.removed = true), (5, None));
    assert_eq!(set(|it| it.removed = true), (5, Some(Suppressed::KeyNotFound)));
    let mut read = |read| api(&mut one, ApiRequest::MapRead { channel: "mm:1".into(), read });
    let Ok(ApiReply::MapState { entries, position, .. }) =
        read(MapRead::State { cursor: "".into(), limit: 9, asc: false, revision: None })
    else {
        panic!("no state")
    };
    assert_eq!((entries.len(), entries[0].offset, position.offset), (1, 3, 5));
    assert!(matches!(read(MapRead::Stats), Ok(ApiReply::MapStats { keys: 1 })));
    assert!(
        matches!(read(MapRead::Key("k".into())), Ok(ApiReply::MapState { entries, .. }) if entries.is_empty())
    );
    assert!(matches!(read(MapRead::Clear), Ok(ApiReply::Done)));
    assert!(matches!(read(MapRead::Stats), Ok(ApiReply::MapStats { keys: 0 })));
    // Bounds, and what is no map.
    for key in ["a", "b"] {
        assert!(api_set(&mut one, "few:1", |it| it.key = key.into()).is_ok());
    }
    assert_eq!(api_set(&mut one, "few:1", |it| it.key = "c".into()).err(), Some(ErrorCode::LimitExceeded));
    assert!(api_set(&mut one, "few:1", |it| it.key = "a".into()).is_ok());
    for channel in ["game:1", "clients:1"] {
        assert_eq!(api_set(&mut one, channel, |_| {}).err(), Some(ErrorCode::NotAvailable), "{channel}");
    }
    one.core.invariants();
}

#[test]
fn a_map_that_is_cleared_begins_anew_for_everybody() {
    let mut one = One::new(settings());
    let conn = one.client();
    set(&mut one, "a", 1);
    one.hear(conn, r#"{"id":2,"subscribe":{"channel":"mm:1","type":1,"phase":2}}"#);
    api(&mut one, ApiRequest::MapRead { channel: "mm:1".into(), read: MapRead::Clear }).unwrap();
    let lost = r#"{"push":{"channel":"mm:1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(one.heard(conn), [lost]);
    let again = one.hear(conn, r#"{"id":2,"subscribe":{"channel":"mm:1","type":1,"phase":2}}"#);
    assert_eq!(again, [r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","type":1}}"#]);
}
