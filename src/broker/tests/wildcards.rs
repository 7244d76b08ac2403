//! Patterns: who may subscribe to them, what they bring, and what stays away from them.

use super::{One, open_settings};
use crate::{
    broker::{
        mesh::{Ask, Mesh, Tell},
        seam::{ApiRequest, PublishOptions},
    },
    config::{ChannelOptions, Namespace, Settings},
    model::{ConnKey, Protocol, Publication},
};
use std::sync::Arc;

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.allow_anonymous_connect_without_token = true;
    let options = ChannelOptions {
        allow_wildcards: true,
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_user_limited_channels: true,
        ..settings.channel.without_namespace.clone()
    };
    let closed = ChannelOptions { allow_subscribe_for_client: false, ..options.clone() };
    settings.channel.without_namespace = options.clone();
    let named = |name: &str, options| Namespace { name: name.into(), options, ..Namespace::default() };
    settings.channel.namespaces = vec![
        named("wild", ChannelOptions { join_leave: false, history_size: 0, ..options.clone() }),
        named("closed", closed),
        named("tame", ChannelOptions { allow_wildcards: false, ..options }),
    ];
    settings
}

fn subscribe(one: &mut One, conn: ConnKey, channel: &str) -> Vec<String> {
    one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#))
}

/// What a client hears of a publication by the server API.
fn publish(one: &mut One, conn: ConnKey, channel: &str) -> Vec<String> {
    let (tags, options) = (vec![], PublishOptions::default());
    one.core.begin_turn(one.now);
    one.core.api(1, ApiRequest::Publish { channel: channel.into(), data: b"1"[..].into(), tags, options });
    one.turn();
    one.heard(conn)
}

#[test]
fn a_pattern_brings_what_matches_with_the_name_of_its_channel() {
    let mut one = One::new(settings());
    let conn = one.client();
    assert_eq!(subscribe(&mut one, conn, "wild:news.*"), [r#"{"id":2,"subscribe":{}}"#]);
    let push = r#"{"push":{"channel":"wild:news.*","pub":{"data":1,"tags":{"channel":"wild:news.a"},"channel":"wild:news.a"}}}"#;
    assert_eq!(publish(&mut one, conn, "wild:news.a"), [push]);
    let again = r#"{"id":3,"publish":{"channel":"wild:news.a","data":1}}"#;
    let heard = one.hear(conn, again);
    let of_client = r#"{"push":{"channel":"wild:news.*","pub":{"data":1,"info":{"user":"","client":"ID"},"tags":{"channel":"wild:news.a"},"channel":"wild:news.a"}}}"#;
    assert_eq!(heard, [r#"{"id":3,"publish":{}}"#, of_client]);
    assert_eq!(one.hear(conn, r#"{"id":4,"unsubscribe":{"channel":"wild:news.*"}}"#).len(), 1);
    assert!(publish(&mut one, conn, "wild:news.a").is_empty());
    one.core.end_session(conn);
    assert_eq!(one.core.residue(), Default::default());
}

#[test]
fn what_patterns_reach() {
    // Pattern, channel, whether it is heard.
    let rows = [
        ("wild:news.*", "wild:news.a", true),
        ("wild:news.*", "wild:news", false),
        ("wild:news.*", "wild:news.a.b", false),
        ("wild:news.*", "news.a", false),
        ("wild:*", "wild:a", true),
        ("wild:*", "wild:", true),
        ("wild:>", "wild:a.b.c", true),
        ("wild:news.>", "wild:news.a.b", true),
        ("wild:news.>", "wild:news", false),
        ("wild:*.b", "wild:a.b", true),
        ("wild:*.b", "wild:a.c", false),
        ("*", "a", true),
        // The last word only; not a part of one.
        ("wild:>.a", "wild:x.a", false),
        ("wild:a*", "wild:ab", false),
        // Not what is private, nor what is for some users.
        ("*", "$a", false),
        (">", "$a.b", false),
        ("*", "#42", false),
        (">", "a.#42,7", false),
        ("*", "tame:a", false),
        // Where they are not allowed they are names like others.
        ("tame:*", "tame:a", false),
    ];
    for (pattern, channel, heard) in rows {
        let mut one = One::new(settings());
        let conn = one.client();
        let reply = subscribe(&mut one, conn, pattern);
        assert!(reply[0].starts_with(r#"{"id":2,"subscribe":{"#), "{pattern}: {reply:?}");
        let pushes = publish(&mut one, conn, channel);
        assert_eq!(!pushes.is_empty(), heard, "{pattern} {channel}: {pushes:?}");
    }
}

#[test]
fn rights_are_those_of_the_pattern() {
    let refused = |code: u32, message: &str| {
        vec![format!(r#"{{"id":2,"error":{{"code":{code},"message":"{message}"}}}}"#)]
    };
    let mut one = One::new(settings());
    let conn = one.client();
    assert_eq!(subscribe(&mut one, conn, "closed:*"), refused(103, "permission denied"));
    assert_eq!(subscribe(&mut one, conn, "$*"), refused(103, "permission denied"));
    assert_eq!(subscribe(&mut one, conn, "none:*"), refused(102, "unknown channel"));
    let deep = format!("wild:{}", vec!["*"; 33].join("."));
    assert_eq!(subscribe(&mut one, conn, &deep), refused(107, "bad request"));
    let deepest = format!("wild:{}", vec!["*"; 32].join("."));
    assert_eq!(subscribe(&mut one, conn, &deepest), [r#"{"id":2,"subscribe":{}}"#]);
    // Nothing is published to a pattern.
    let heard = one.hear(conn, r#"{"id":2,"publish":{"channel":"wild:*","data":1}}"#);
    assert_eq!(heard, refused(107, "bad request"));
    publish(&mut one, conn, "wild:*");
    assert!(one.api.last().unwrap().1.is_err());
}

// The other core is told before the owner is asked, and once, however many subscribers there are.
#[test]
fn other_cores_know_what_is_wanted_here() {
    let mut one = One::of(2, settings());
    let conns = [one.client(), one.open(Protocol::Json)];
    one.hear(conns[1], r#"{"id":1,"connect":{}}"#);
    for conn in conns {
        subscribe(&mut one, conn, "wild:*");
    }
    let batch = std::mem::take(one.core.outgoing(1));
    one.core.outgoing_taken(1);
    let Mesh::Tell(Tell::Watch { pattern, hub }) = &batch[0] else { panic!("{batch:?}") };
    assert_eq!(&**pattern, "wild:*");
    let asks = batch[1..]
        .iter()
        .filter(|it| matches!(it, Mesh::Ask { ask, .. } if matches!(**ask, Ask::Subscribe(_))));
    assert_eq!(asks.count(), batch.len() - 1, "{batch:?}");
    let extra = crate::model::Extra { channel: Some("wild:a".into()), ..Default::default() };
    let publication = Publication { data: b"1"[..].into(), extra: Some(extra.into()), ..Default::default() };
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Match { hub: *hub, publication: Arc::new(publication) });
    one.turn();
    // Heard where the pattern's owner is this core and has answered already.
    let heard = if batch.len() == 1 { 1 } else { 0 };
    assert_eq!(one.heard(conns[0]).len(), heard);
    for conn in conns {
        one.core.begin_turn(one.now);
        one.core.end_session(conn);
        one.turn();
    }
    let told = std::mem::take(one.core.outgoing(1));
    let unwatched = told.iter().filter(|it| matches!(it, Mesh::Tell(Tell::Unwatch { .. }))).count();
    // Waiting subscriptions are undone when the owner answers.
    assert_eq!(unwatched, heard, "{told:?}");
}
