//! Shared polls: what clients say and get, what the backend is asked, and what crosses cores.

use super::One;
use crate::{
    auth::{Tracked, sign_tracked},
    broker::{
        mesh::{Answer, Ask, Forward, Mesh, Tell},
        seam::{
            ApiReply, ApiRequest, BackendAnswer, BackendRequest, BackendResult, PollItem, PollRefreshed,
            PollSet,
        },
    },
    config::{ChannelOptions, Namespace, OrOff, Poll, PollMode, Settings, SubscriptionType},
    model::{ConnKey, ErrorCode},
};
use std::time::Duration;

const NOW_S: u64 = 1_700_000_000;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.client.allow_anonymous_connect_without_token = true;
    settings.shared_poll.hmac_secret_key = "secret".into();
    let named = |name: &str, shared_poll| Namespace {
        name: name.into(),
        options: ChannelOptions {
            subscription_type: SubscriptionType::SharedPoll,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            shared_poll,
            ..ChannelOptions::default()
        },
        ..Namespace::default()
    };
    settings.client.ping_interval = OrOff::on(Duration::from_secs(3600));
    let seconds = Duration::from_secs;
    let second =
        Poll { refresh_interval: seconds(1), track_expired_extra_delay: seconds(2), ..Poll::default() };
    settings.channel.namespaces = vec![
        named("plain", second.clone()),
        named("few", Poll { max_keys_per_connection: 2, keys_max: 3, ..second.clone() }),
        named("vers", Poll { mode: PollMode::Versioned, ..second }),
        Namespace {
            name: "chat".into(),
            options: ChannelOptions {
                allow_subscribe_for_client: true,
                allow_subscribe_for_anonymous: true,
                ..ChannelOptions::default()
            },
            ..Namespace::default()
        },
    ];
    settings
}

/// A `sub_refresh` that tracks these keys, signed until then.
fn track(id: u32, channel: &str, keys: &[(&str, u64)], exp_s: u64) -> String {
    let names: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
    let signature = sign_tracked("secret", Tracked { user: "", channel, keys: &names }, NOW_S, exp_s);
    let items: Vec<_> =
        keys.iter().map(|(key, version)| format!(r#"{{"key":"{key}","version":{version}}}"#)).collect();
    format!(
        r#"{{"id":{id},"sub_refresh":{{"channel":"{channel}","type":1,"track":[{{"signature":"{signature}","items":[{}]}}]}}}}"#,
        items.join(",")
    )
}

fn untrack(id: u32, channel: &str, key: &str) -> String {
    format!(r#"{{"id":{id},"sub_refresh":{{"channel":"{channel}","type":2,"untrack":["{key}"]}}}}"#)
}

fn subscriber(one: &mut One, channel: &str) -> ConnKey {
    let conn = one.client();
    let heard = one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","type":4}}}}"#));
    assert_eq!(heard, [r#"{"id":2,"subscribe":{"epoch":"E","type":4}}"#]);
    conn
}

/// The keys the backend has been asked for since, sorted.
fn asked(one: &One) -> Vec<(String, u64)> {
    let mut asked = Vec::new();
    for call in &one.calls {
        let BackendRequest::PollRefresh(refresh) = &call.request;
        asked.extend(refresh.items.iter().map(|(key, version)| (key.to_string(), *version)));
    }
    asked.sort();
    asked
}

fn said(key: &str, data: &str, version: u64) -> PollItem {
    PollItem { key: key.into(), data: Some(data.as_bytes().into()), json: true, version, removed: false }
}

/// The backend answers all it has been asked with this.
fn answer(one: &mut One, items: &[PollItem]) {
    for call in std::mem::take(&mut one.calls) {
        let refreshed = PollRefreshed { items: items.to_vec(), epoch: "".into() };
        let answer = Some(BackendAnswer::PollRefresh(refreshed));
        one.core.begin_turn(one.now);
        one.core.on_backend(call.id, BackendResult { answer, micros: 7 });
    }
    one.turn();
}

#[test]
fn what_is_tracked_is_asked_for_and_told() {
    let mut one = One::new(settings());
    let (a, b) = (subscriber(&mut one, "vers:x"), subscriber(&mut one, "vers:x"));
    assert_eq!(one.hear(a, &track(3, "vers:x", &[("k", 0), ("l", 0)], 0)), [r#"{"id":3,"sub_refresh":{}}"#]);
    assert_eq!(asked(&one), [("k".to_owned(), 0), ("l".into(), 0)]);
    answer(&mut one, &[said("k", "{\"n\":1}", 4), said("other", "1", 1)]);
    let push = r#"{"push":{"channel":"vers:x","pub":{"data":{"n":1},"key":"k","version":4}}}"#;
    assert_eq!((one.heard(a), one.heard(b)), (vec![push.to_owned()], vec![]));
    // Who comes later is told in the reply, unless it knows.
    let heard = one.hear(b, &track(4, "vers:x", &[("k", 3)], NOW_S + 60));
    let item = r#"{"id":4,"sub_refresh":{"expires":true,"ttl":60,"items":[{"data":{"n":1},"key":"k","version":4}]}}"#;
    assert_eq!(heard, [item]);
    assert_eq!(one.hear(b, &track(5, "vers:x", &[("k", 4)], 0)), [r#"{"id":5,"sub_refresh":{}}"#]);
    assert!(one.calls.is_empty(), "all is known");
    one.later(1_000);
    assert_eq!(asked(&one), [("k".to_owned(), 4), ("l".into(), 0)]);
    answer(&mut one, &[PollItem { removed: true, ..said("k", "", 0) }]);
    let push = r#"{"push":{"channel":"vers:x","pub":{"key":"k","removed":true}}}"#;
    assert_eq!((one.heard(a), one.heard(b)), (vec![push.to_owned()], vec![push.to_owned()]));
    one.core.invariants();
    assert_eq!(one.hear(a, &untrack(6, "vers:x", "l")), [r#"{"id":6,"sub_refresh":{}}"#]);
    one.later(3_000);
    assert!(one.calls.is_empty(), "nobody tracks anything");
}

#[test]
fn refusals_table() {
    let mut one = One::new(settings());
    let conn = subscriber(&mut one, "few:x");
    assert_eq!(
        one.hear(conn, r#"{"id":3,"subscribe":{"channel":"chat:x"}}"#),
        [r#"{"id":3,"subscribe":{}}"#]
    );
    let error = |id: u32, code: u32, message: &str| {
        format!(r#"{{"id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
    };
    let good = track(4, "few:x", &[("a", 0), ("b", 0)], 0);
    for (said, want) in [
        (track(4, "few:other", &[("a", 0)], 0), error(4, 103, "permission denied")),
        (good.replace("\"key\":\"a\"", "\"key\":\"c\""), error(4, 103, "permission denied")),
        (track(4, "few:x", &[("a", 0)], NOW_S - 6), error(4, 109, "token expired")),
        (track(4, "few:x", &[("a", 0), ("b", 0), ("c", 0)], 0), error(4, 106, "limit exceeded")),
        (track(4, "few:x", &[("", 0)], 0), error(4, 107, "bad request")),
        (track(4, "few:x", &[("a\\u0000b", 0)], 0), error(4, 107, "bad request")),
        (track(4, "few:x", &[], 0), error(4, 107, "bad request")),
        (track(4, "chat:x", &[("a", 0)], 0), error(4, 107, "bad request")),
        (good.replace("\"type\":1", "\"type\":3"), error(4, 107, "bad request")),
        (r#"{"id":4,"sub_refresh":{"channel":"few:x","type":1}}"#.into(), error(4, 107, "bad request")),
        (r#"{"id":4,"sub_refresh":{"channel":"few:x","type":2}}"#.into(), error(4, 107, "bad request")),
        (r#"{"id":4,"subscribe":{"channel":"few:y"}}"#.into(), error(4, 103, "permission denied")),
        (r#"{"id":4,"subscribe":{"channel":"chat:y","type":4}}"#.into(), error(4, 103, "permission denied")),
    ] {
        assert_eq!(one.hear(conn, &said), [want], "after {said}");
        assert!(one.calls.is_empty(), "after {said}");
        one.core.invariants();
    }
    // Twice the same is one key; the limit of the channel holds for all clients together.
    assert_eq!(one.hear(conn, &good), [r#"{"id":4,"sub_refresh":{}}"#]);
    assert_eq!(one.hear(conn, &good), [r#"{"id":4,"sub_refresh":{}}"#]);
    let other = subscriber(&mut one, "few:x");
    let heard = one.hear(other, &track(5, "few:x", &[("c", 0), ("d", 0)], 0));
    assert_eq!(heard, [error(5, 106, "limit exceeded")]);
    assert_eq!(one.hear(other, &track(5, "few:x", &[("c", 0)], 0)), [r#"{"id":5,"sub_refresh":{}}"#]);
}

#[test]
fn signatures_that_have_had_their_time_and_those_who_leave_release_keys() {
    let mut one = One::new(settings());
    let (a, b) = (subscriber(&mut one, "plain:x"), subscriber(&mut one, "plain:x"));
    one.hear(a, &track(3, "plain:x", &[("k", 0)], NOW_S + 10));
    one.hear(b, &track(3, "plain:x", &[("k", 0), ("l", 0)], 0));
    answer(&mut one, &[said("k", "1", 0), said("l", "1", 0)]);
    // Ten seconds, and two to come with a new one.
    for _ in 0..10 {
        one.later(1_000);
        answer(&mut one, &[]);
    }
    one.later(1_000);
    answer(&mut one, &[said("k", "2", 0)]);
    assert_eq!((one.heard(a).len(), one.heard(b).len()), (1, 1));
    one.later(1_000);
    answer(&mut one, &[said("k", "3", 0)]);
    assert_eq!((one.heard(a).len(), one.heard(b).len()), (0, 1));
    one.core.invariants();
    one.hear(b, r#"{"id":4,"unsubscribe":{"channel":"plain:x"}}"#);
    one.later(2_000);
    assert!(one.calls.is_empty(), "nobody tracks anything");
    one.core.end_session(a);
    one.turn();
    one.core.invariants();
    one.later(5_000);
    assert_eq!((one.core.residue().hub_channels, one.core.shard.stored_count()), (0, 0));
}

#[test]
fn who_tracks_and_untracks_in_one_breath_tracks_the_rest() {
    let mut one = One::new(settings());
    let conn = subscriber(&mut one, "plain:x");
    one.hear(conn, &track(3, "plain:x", &[("a", 0), ("b", 0)], 0));
    let both = track(4, "plain:x", &[("a", 0), ("b", 0)], 0);
    let both = both.replace("\"type\":1,", "\"type\":1,\"untrack\":[\"a\"],");
    assert_eq!(one.hear(conn, &both), [r#"{"id":4,"sub_refresh":{}}"#]);
    one.calls.clear();
    one.core.invariants();
    let none = track(5, "plain:x", &[("b", 0)], 0).replace("\"type\":1,", "\"type\":1,\"untrack\":[\"b\"],");
    assert_eq!(one.hear(conn, &none), [r#"{"id":5,"sub_refresh":{}}"#]);
    one.later(3_000);
    assert!(one.calls.is_empty());
}

#[test]
fn the_server_api_publishes_what_is_newer() {
    let mut one = One::new(settings());
    let conn = subscriber(&mut one, "vers:x");
    one.hear(conn, &track(3, "vers:x", &[("k", 0)], 0));
    answer(&mut one, &[said("k", "1", 1)]);
    let publish = |one: &mut One, channel: &str, version, epoch: &str| {
        let set = PollSet { item: said("k", "{}", version), epoch: epoch.into() };
        let request = ApiRequest::PollPublish { channel: channel.into(), set: Box::new(set) };
        one.core.begin_turn(one.now);
        one.core.api(9, request);
        one.turn();
        let (_, reply) = one.api.pop().unwrap();
        (reply.map(|it| assert!(matches!(it, ApiReply::Done))), one.heard(conn))
    };
    let push = r#"{"push":{"channel":"vers:x","pub":{"data":{},"key":"k","version":3}}}"#.to_owned();
    assert_eq!(publish(&mut one, "vers:x", 3, ""), (Ok(()), vec![push]));
    assert_eq!(publish(&mut one, "vers:x", 2, "one"), (Ok(()), vec![]));
    for (channel, error) in [
        ("plain:x", ErrorCode::NotAvailable),
        ("chat:x", ErrorCode::NotAvailable),
        ("none:x", ErrorCode::UnknownChannel),
    ] {
        assert_eq!(publish(&mut one, channel, 9, ""), (Err(error), vec![]));
    }
    assert_eq!(publish(&mut one, "vers:nobody", 9, "one"), (Ok(()), vec![]));
    // Versions start over: whoever is subscribed comes again.
    let cut = r#"{"push":{"channel":"vers:x","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(publish(&mut one, "vers:x", 1, "two"), (Ok(()), vec![cut.to_owned()]));
    one.core.invariants();
}

// The test speaks for core 1, which owns the channel, and then for subscribers there.
#[test]
fn keys_cross_cores_in_the_order_they_are_wanted() {
    let mut one = One::of(2, settings());
    let channel = (0..).map(|n| format!("plain:{n}")).find(|name| one.core.owner(name) == 1).unwrap();
    let conn = one.client();
    one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","type":4}}}}"#));
    let owned = crate::stdx::slab::Key { index: 3, generation: 1 };
    let reply = |one: &mut One, want: fn(&Ask) -> bool, answer| {
        let sent = std::mem::take(one.core.outgoing(1));
        let ask = sent.into_iter().find_map(|message| match message {
            Mesh::Ask { id, ask } if want(&ask) => Some(id),
            _ => None,
        });
        one.core.begin_turn(one.now);
        one.core.on_mesh(1, Mesh::Answer { id: ask.expect("an ask"), answer: Box::new(answer) });
        one.turn();
    };
    let subscribed = crate::broker::mesh::Subscribed {
        channel: owned,
        position: Some(crate::model::Position { offset: 0, epoch: "e".into() }),
        publications: vec![],
        recovered: false,
        state: vec![],
    };
    reply(&mut one, |ask| matches!(ask, Ask::Subscribe(_)), Answer::Subscribed(subscribed));
    assert_eq!(one.heard(conn), [r#"{"id":2,"subscribe":{"epoch":"E","type":4}}"#]);
    // Untracking waits for what is about to be tracked.
    let both = format!("{}\n{}", track(3, &channel, &[("a", 0), ("b", 0)], 0), untrack(4, &channel, "a"));
    assert!(one.hear(conn, &both).is_empty());
    reply(&mut one, |ask| matches!(ask, Ask::Track { .. }), Answer::Tracked(vec![]));
    assert_eq!(one.heard(conn), [r#"{"id":3,"sub_refresh":{}}"#, r#"{"id":4,"sub_refresh":{}}"#]);
    let untracked = |one: &mut One| {
        let sent = std::mem::take(one.core.outgoing(1));
        let keys = sent.into_iter().filter_map(|message| match message {
            Mesh::Tell(Tell::Untrack { channel, keys }) if channel == owned => Some(keys),
            _ => None,
        });
        keys.flatten().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(untracked(&mut one), ["a"]);
    let item = |key: &str| {
        let extra = crate::model::Extra { key: key.into(), version: 1, ..Default::default() };
        let data = b"1".as_slice().into();
        Forward::Item(std::sync::Arc::new(crate::model::Publication {
            data,
            json: true,
            extra: Some(Box::new(extra)),
            ..Default::default()
        }))
    };
    for key in ["a", "b"] {
        one.core.on_mesh(1, Mesh::Forward { channel: owned, forward: item(key) });
    }
    one.turn();
    assert_eq!(one.heard(conn).len(), 1, "what is on its way for a key nobody wants is for nobody");
    // What was lost between the cores is noticed by whoever might miss it.
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Forward { channel: owned, forward: Forward::Gap });
    one.turn();
    assert!(one.heard(conn)[0].contains("\"code\":2500"));
    assert_eq!(untracked(&mut one), ["b"]);
    one.core.invariants();
}
