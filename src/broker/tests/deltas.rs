//! Publications as differences: who gets what in full, and how often a difference is made.

use super::{One, open_settings};
use crate::{
    broker::seam::{ApiRequest, PublishOptions},
    config::{ChannelOptions, Namespace, Settings},
    metrics::Counter,
    model::{ConnKey, Protocol},
};

const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"d","delta":"fossil"}}"#;

/// Everything allowed; only in `some:` publications need not be differences.
fn settings() -> Settings {
    let mut settings = open_settings();
    let kept = ChannelOptions {
        join_leave: false,
        presence: false,
        allowed_delta_types: vec!["fossil".into()],
        ..settings.channel.without_namespace.clone()
    };
    settings.channel.without_namespace = ChannelOptions { delta_publish: true, ..kept.clone() };
    let bare = ChannelOptions {
        allowed_delta_types: vec!["fossil".into()],
        delta_publish: true,
        ..ChannelOptions::default()
    };
    settings.channel.namespaces = [("some", kept), ("bare", bare), ("off", ChannelOptions::default())]
        .map(|(name, options)| Namespace { name: name.into(), options, ..Namespace::default() })
        .into();
    settings
}

fn text(number: usize) -> String {
    format!(r#"{{"a": "long long long text here {number}", "b": [1, 2, 3, 4, 5, 6, 7, 8, 9]}}"#)
}

fn publish(one: &mut One, channel: &str, data: &str, delta: bool) {
    one.core.begin_turn(one.now);
    let options = PublishOptions { delta, ..PublishOptions::default() };
    let (channel, data) = (channel.into(), data.as_bytes().into());
    one.core.api(1, ApiRequest::Publish { channel, data, tags: vec![], options });
}

/// What a subscriber of `channel` is told of text `number` in full.
fn full(channel: &str, number: usize, offset: u64) -> String {
    let text = text(number).replace('"', "\\\"");
    format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":"{text}","offset":{offset}}}}}}}"#)
}

fn is_delta(message: &str) -> bool {
    message.ends_with(r#","delta":true}}}"#)
}

fn made(one: &One) -> u64 {
    one.core.stats().counters.value(Counter::DeltasMade)
}

#[test]
fn the_golden_transcript() {
    let mut one = One::new(settings());
    let conn = one.client();
    assert_eq!(
        one.hear(conn, SUBSCRIBE),
        [r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true,"delta":true}}"#]
    );
    publish(&mut one, "d", &text(1), false);
    one.turn();
    assert_eq!(one.heard(conn), [full("d", 1, 1)]);
    publish(&mut one, "d", &text(2), false);
    one.turn();
    let second =
        r#"{"push":{"channel":"d","pub":{"data":"15\nW@0,1:2_@X,3gT4_g;","offset":2,"delta":true}}}"#;
    assert_eq!(one.heard(conn), [second]);

    let other = one.client();
    let heard = one.hear(other, r#"{"id":4,"subscribe":{"channel":"d","delta":"fossil","recover":true}}"#);
    let first = text(1).replace('"', "\\\"");
    let second = r#"{"data":"15\nW@0,1:2_@X,3gT4_g;","offset":2,"delta":true}"#;
    let want = format!(
        r#"{{"id":4,"subscribe":{{"recoverable":true,"epoch":"E","publications":[{{"data":"{first}","offset":1}},{second}],"recovered":true,"positioned":true,"was_recovering":true,"delta":true}}}}"#
    );
    assert_eq!(heard, [want]);
}

#[test]
fn only_where_it_was_asked_for_and_allowed() {
    let mut one = One::new(settings());
    let conns: Vec<ConnKey> = (0..4).map(|_| one.client()).collect();
    let says = [
        ("d", "", false),
        ("d", r#","delta":"fossil""#, true),
        ("some:d", r#","delta":"fossil""#, true),
        ("off:d", r#","delta":"fossil""#, false),
    ];
    for (&conn, (channel, delta, granted)) in conns.iter().zip(says) {
        let heard = one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"{delta}}}}}"#));
        assert_eq!(heard[0].contains(r#""delta":true"#), granted, "{heard:?}");
    }
    let plain = format!(r#"{{"push":{{"channel":"d","pub":{{"data":{},"offset":2}}}}}}"#, text(2));
    for number in 1..=2 {
        publish(&mut one, "d", &text(number), false);
        publish(&mut one, "some:d", &text(number), false);
        one.turn();
    }
    assert_eq!(one.heard(conns[0]), [plain]);
    assert!(is_delta(&one.heard(conns[1])[0]));
    // Not published as a difference: in full, but still a string.
    assert_eq!(one.heard(conns[2]), [full("some:d", 2, 2)]);
    publish(&mut one, "some:d", &text(3), true);
    one.turn();
    assert!(is_delta(&one.heard(conns[2])[0]));
    assert_eq!(made(&one), 2, "none for those who get everything in full");
}

// The two letters differ in their second byte: a difference by bytes would cut them, and JSON has no half letters.
#[test]
fn letters_stay_whole_for_json_clients() {
    let mut one = One::new(settings());
    let conn = one.client();
    one.hear(conn, SUBSCRIBE);
    for letter in ['\u{430}', '\u{431}'] {
        publish(&mut one, "d", &format!("\"{}{letter}{}\"", "long ".repeat(10), "text ".repeat(10)), false);
        one.turn();
    }
    let heard = one.heard(conn);
    assert!(is_delta(&heard[0]) && heard[0].contains('\u{431}'), "{heard:?}");
}

// The difference is made once, for members of the group, for those of its sibling and for recovery.
#[test]
fn made_once_however_many_get_it() {
    let mut one = One::new(settings());
    let conns: Vec<ConnKey> = (0..50).map(|_| one.client()).collect();
    for &conn in &conns {
        one.hear(conn, SUBSCRIBE);
    }
    publish(&mut one, "d", &text(1), false);
    one.turn();
    publish(&mut one, "d", &text(2), false);
    let late = one.open(Protocol::Json);
    one.say(late, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"d\",\"delta\":\"fossil\",\"recover\":true}}");
    one.turn();
    assert!(conns.iter().all(|&conn| is_delta(&one.heard(conn)[0])));
    assert!(one.heard(late)[1].contains(r#","delta":true}]"#), "{:?}", one.heard(late));
    assert_eq!(made(&one), 1);
}

// Who joins later has nothing to make the difference of; after one publication all are alike again.
#[test]
fn late_members_start_in_full_and_catch_up() {
    let mut one = One::new(settings());
    let [early, late] = [one.client(), one.client()];
    one.hear(early, SUBSCRIBE);
    publish(&mut one, "d", &text(1), false);
    // In the middle of the turn: what is noted already is not for the new member.
    one.say(late, SUBSCRIBE);
    publish(&mut one, "d", &text(2), false);
    one.turn();
    let heard = one.heard(early);
    assert_eq!((heard.len(), &heard[0]), (2, &full("d", 1, 1)));
    assert!(is_delta(&heard[1]));
    assert_eq!(one.heard(late)[1..], [full("d", 2, 2)]);
    one.core.invariants();

    let frames = |one: &One| one.core.stats().counters.value(Counter::FramesShared);
    let before = frames(&one);
    publish(&mut one, "d", &text(3), false);
    one.turn();
    assert_eq!(one.heard(early), one.heard(late));
    assert!(is_delta(&one.heard(early)[0]));
    assert_eq!(frames(&one), before + 1, "one group again");
    one.hear(early, r#"{"id":9,"unsubscribe":{"channel":"d"}}"#);
    publish(&mut one, "d", &text(4), false);
    one.turn();
    assert!(is_delta(&one.heard(late)[0]) && one.heard(early).is_empty());
    one.core.invariants();
}

// What a JSON client was not told is not what the next one is made of.
#[test]
fn what_was_withheld_is_no_base() {
    let mut one = One::new(settings());
    let conn = one.client();
    one.hear(conn, SUBSCRIBE);
    publish(&mut one, "d", &text(1), false);
    publish(&mut one, "d", &format!("{}\u{1}", text(2)), false);
    publish(&mut one, "d", &text(2), false);
    one.turn();
    let heard = one.heard(conn);
    assert_eq!(heard.len(), 2);
    assert!(heard[1].contains(r#""data":"15\nW@0,1:2_@X,3gT4_g;","offset":3"#), "{heard:?}");
}

#[test]
fn without_history_too() {
    let mut one = One::new(settings());
    let conn = one.client();
    one.hear(conn, r#"{"id":2,"subscribe":{"channel":"bare:d","delta":"fossil"}}"#);
    publish(&mut one, "bare:d", &text(1), false);
    publish(&mut one, "bare:d", &text(2), false);
    one.turn();
    assert!(is_delta(&one.heard(conn)[1]), "{:?}", one.heard(conn));
}
