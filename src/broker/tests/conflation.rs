//! Only the newest of each interval, and nothing of what one published oneself.

use super::{One, open_settings};
use crate::{
    broker::seam::{ApiRequest, PublishOptions},
    config::{ChannelOptions, Namespace, Settings},
    metrics::Counter,
    model::ConnKey,
};
use std::time::Duration;

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.channel.without_namespace = ChannelOptions {
        join_leave: false,
        presence: false,
        conflation_interval_max: Duration::from_secs(1),
        allowed_delta_types: vec!["fossil".into()],
        delta_publish: true,
        ..settings.channel.without_namespace
    };
    let options = ChannelOptions { no_echo: true, ..settings.channel.without_namespace.clone() };
    settings.channel.namespaces = vec![Namespace { name: "quiet".into(), options, ..Namespace::default() }];
    settings
}

fn publish(one: &mut One, data: &str) {
    one.core.begin_turn(one.now);
    let (channel, data) = ("c".into(), data.as_bytes().into());
    one.core.api(1, ApiRequest::Publish { channel, data, tags: vec![], options: PublishOptions::default() });
}

fn subscribe(rest: &str) -> String {
    format!(r#"{{"id":2,"subscribe":{{"channel":"c",{rest}}}}}"#)
}

/// Offsets a client heard of in the last turn.
fn offsets(one: &One, conn: ConnKey) -> Vec<u32> {
    let offset = |message: String| {
        let digits = message.split_once(r#","offset":"#)?.1.split([',', '}']).next()?.to_owned();
        digits.parse().ok().filter(|_| message.contains("push"))
    };
    one.heard(conn).into_iter().filter_map(offset).collect()
}

#[test]
fn the_newest_of_each_interval() {
    let mut one = One::new(settings());
    let [all, some] = [one.client(), one.client()];
    one.hear(all, &subscribe(r#""flag":0"#));
    let heard = one.hear(some, &subscribe(r#""conflation":500"#));
    assert!(heard[0].ends_with(r#""conflation":500}}"#), "{heard:?}");
    // The first of an interval goes out at once, the newest of the others when the next begins.
    for data in ["1", "2", "3"] {
        publish(&mut one, data);
    }
    one.turn();
    assert_eq!((offsets(&one, all), offsets(&one, some)), (vec![1, 2, 3], vec![1]));
    one.later(1_000);
    assert_eq!((offsets(&one, all), offsets(&one, some)), (vec![], vec![3]));
    assert_eq!(one.now.ms, 1_000_500, "when the next interval begins");
    publish(&mut one, "4");
    one.turn();
    assert_eq!(
        (offsets(&one, all), offsets(&one, some)),
        (vec![4], vec![]),
        "this one has had its publication"
    );
    one.later(1_000);
    assert_eq!((offsets(&one, some), one.now.ms), (vec![4], 1_001_000));
    one.later(2_000);
    assert!(one.written.is_empty(), "nothing twice");
    one.core.invariants();
}

// Who comes while something waits is not told of it, and is one of the group again when it was.
#[test]
fn late_members_start_behind_what_waits() {
    let mut one = One::new(settings());
    let [early, late, third] = [one.client(), one.client(), one.client()];
    one.hear(early, &subscribe(r#""conflation":500"#));
    publish(&mut one, "1");
    publish(&mut one, "2");
    one.turn();
    let heard = one.hear(late, &subscribe(r#""conflation":500"#));
    assert!(heard[0].contains(r#""offset":2"#), "{heard:?}");
    one.later(1_000);
    assert_eq!((offsets(&one, early), offsets(&one, late)), (vec![2], vec![]));
    one.hear(third, &subscribe(r#""conflation":500"#));
    let frames = |one: &One| one.core.stats().counters.value(Counter::FramesShared);
    let before = frames(&one);
    one.later(500);
    publish(&mut one, "3");
    one.turn();
    for conn in [early, late, third] {
        assert_eq!(offsets(&one, conn), [3]);
    }
    assert_eq!(frames(&one), before + 1, "one group again");
    one.core.invariants();
}

#[test]
fn as_much_as_is_allowed_and_with_deltas() {
    let mut one = One::new(settings());
    let conn = one.client();
    let heard = one.hear(conn, &subscribe(r#""conflation":5000,"delta":"fossil""#));
    assert!(heard[0].ends_with(r#""delta":true,"conflation":1000}}"#), "{heard:?}");
    let text = |number: u32| format!(r#"{{"a": "long long long text here {number}", "b": [1, 2, 3, 4, 5]}}"#);
    for number in 1..=3 {
        publish(&mut one, &text(number));
    }
    one.turn();
    assert_eq!(offsets(&one, conn), [1]);
    one.later(2_000);
    let heard = one.heard(conn);
    // The difference to what the client has, not to what it was not told.
    assert!(
        heard[0].contains(r#"\nW@0,1:3"#) && heard[0].ends_with(r#""offset":3,"delta":true}}}"#),
        "{heard:?}"
    );
    // What was missed is conflated as well.
    let other = one.client();
    let heard = one.hear(other, &subscribe(r#""conflation":500,"recover":true"#));
    assert!(heard[0].contains(r#""publications":[{"data":{"a": "long long long text here 3""#), "{heard:?}");
}

#[test]
fn publishers_do_not_hear_themselves() {
    let mut one = One::new(settings());
    let conns: Vec<ConnKey> = (0..4).map(|_| one.client()).collect();
    for &conn in &conns[..3] {
        one.hear(conn, &subscribe(r#""flag":4,"delta":"fossil""#));
    }
    one.hear(conns[3], &subscribe(r#""flag":0"#));
    let say = |one: &mut One, conn, data: &str| {
        one.say(conn, &format!(r#"{{"id":3,"publish":{{"channel":"c","data":{data}}}}}"#));
    };
    // Two publishers in one turn: each hears the other.
    say(&mut one, conns[0], "1");
    say(&mut one, conns[1], "2");
    one.turn();
    let told: Vec<_> = conns.iter().map(|&conn| offsets(&one, conn)).collect();
    assert_eq!(told, [vec![2], vec![1], vec![1, 2], vec![1, 2]]);
    one.core.invariants();
    // After the turn they stand together again, as soon as they have the same.
    publish(&mut one, "3");
    one.turn();
    let frames = |one: &One| one.core.stats().counters.value(Counter::FramesShared);
    let before = frames(&one);
    publish(&mut one, "4");
    one.turn();
    assert!(conns.iter().all(|&conn| offsets(&one, conn) == [4]));
    assert_eq!(frames(&one), before + 1, "one group, and one that is not quiet");
    one.core.invariants();
    // An option of the namespace; alone in the channel.
    let alone = one.client();
    one.hear(alone, r#"{"id":2,"subscribe":{"channel":"quiet:c"}}"#);
    let heard = one.hear(alone, r#"{"id":3,"publish":{"channel":"quiet:c","data":1}}"#);
    assert_eq!(heard, [r#"{"id":3,"publish":{}}"#]);
}
