//! Tags filters and channels by number, as a client sees them.

use super::{One, open_settings};
use crate::{
    broker::seam::{ApiRequest, PublishOptions},
    config::{ChannelOptions, Namespace, Settings},
    metrics::Counter,
    model::{ConnKey, Protocol, Tags},
    wire::client::{
        Command, ConnectRequest, Request, ServerMessage, ServerReply, SubscribeRequest, decode_replies,
        encode_command,
    },
};

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.tags_filter_size_max = 200;
    settings.client.tags_filter_groups_max = 3;
    settings.channel.without_namespace = ChannelOptions {
        join_leave: false,
        presence: false,
        allow_tags_filter: true,
        allow_channel_compaction: true,
        ..settings.channel.without_namespace
    };
    settings.channel.namespaces = vec![Namespace { name: "off".into(), ..Namespace::default() }];
    settings
}

fn publish(one: &mut One, data: &str, tag: Option<&str>) {
    one.core.begin_turn(one.now);
    let tags: Tags = tag.map(|value| ("t".into(), value.into())).into_iter().collect();
    let (channel, data) = ("c".into(), data.as_bytes().into());
    one.core.api(1, ApiRequest::Publish { channel, data, tags, options: PublishOptions::default() });
}

fn subscribe(rest: &str) -> String {
    format!(r#"{{"id":2,"subscribe":{{"channel":"c",{rest}}}}}"#)
}

const IS_X: &str = r#""tf":{"key":"t","cmp":"eq","val":"x"}"#;

/// Data of the publications a client heard of in the last turn.
fn data(one: &One, conn: ConnKey) -> Vec<String> {
    let data =
        |message: String| Some(message.split_once(r#"{"data":"#)?.1.split([',', '}']).next()?.to_owned());
    one.heard(conn).into_iter().filter_map(data).collect()
}

#[test]
fn only_what_is_wanted() {
    let mut one = One::new(settings());
    let [all, x, not_x] = [one.client(), one.client(), one.client()];
    one.hear(all, &subscribe(r#""positioned":true"#));
    assert_eq!(
        one.hear(x, &subscribe(IS_X)),
        [r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}"#]
    );
    one.hear(not_x, &subscribe(r#""tf":{"op":"not","nodes":[{"key":"t","cmp":"in","vals":["x","z"]}]}"#));
    for (number, tag) in [(1, Some("x")), (2, Some("y")), (3, None), (4, Some("z")), (5, Some("x"))] {
        publish(&mut one, &number.to_string(), tag);
    }
    one.turn();
    let told = |conn| data(&one, conn);
    assert_eq!(
        (told(all).len(), told(x), told(not_x)),
        (5, vec!["1".into(), "5".into()], vec!["2".into(), "3".into()])
    );
    // The position of a subscription moves past what was not wanted.
    one.core.invariants();
    publish(&mut one, "6", Some("x"));
    one.turn();
    assert_eq!(data(&one, x), ["6"]);
}

#[test]
fn recovery_brings_what_is_wanted() {
    let mut one = One::new(settings());
    for (number, tag) in [(1, "x"), (2, "y"), (3, "x"), (4, "y")] {
        publish(&mut one, &number.to_string(), Some(tag));
    }
    one.turn();
    let mut recover = |rest: &str| {
        let conn = one.client();
        one.hear(conn, &subscribe(rest)).remove(0)
    };
    let heard = recover(&format!(r#""recover":true,"offset":1,{IS_X}"#));
    assert!(
        heard.contains(
            r#""publications":[{"data":3,"offset":3,"tags":{"t":"x"}}],"recovered":true,"offset":1"#
        ),
        "{heard}"
    );
    // Nothing wanted was missed: the client is told where it stands, or it would fall off the history.
    let heard = recover(&format!(r#""recover":true,"offset":3,{IS_X}"#));
    assert!(heard.contains(r#""recovered":true,"offset":4"#) && !heard.contains("publications"), "{heard}");
}

#[test]
fn refusals() {
    let mut one = One::new(settings());
    let conn = one.client();
    let refused = |code: u32, message: &str| {
        vec![format!(r#"{{"id":2,"error":{{"code":{code},"message":"{message}"}}}}"#)]
    };
    let off = format!(r#"{{"id":2,"subscribe":{{"channel":"off:c",{IS_X}}}}}"#);
    assert_eq!(one.hear(conn, &off), refused(107, "bad request"));
    for bad in [r#"{}"#, r#"{"key":"t","cmp":"like","val":"x"}"#, r#"{"op":"and"}"#] {
        assert_eq!(
            one.hear(conn, &subscribe(&format!(r#""tf":{bad}"#))),
            refused(107, "bad request"),
            "{bad}"
        );
    }
    let large = "x".repeat(201);
    let large = format!(r#""tf":{{"key":"t","cmp":"eq","val":"{large}"}}"#);
    assert_eq!(one.hear(conn, &subscribe(&large)), refused(106, "limit exceeded"));
    // Deltas and filters exclude each other; the filter wins.
    let heard = one.hear(conn, &subscribe(&format!(r#""delta":"fossil",{IS_X}"#)));
    assert!(!heard[0].contains("delta"), "{heard:?}");
}

#[test]
fn equal_filters_share_up_to_a_number_of_groups() {
    let mut one = One::new(settings());
    let conns: Vec<ConnKey> = (0..10).map(|_| one.client()).collect();
    for (at, &conn) in conns.iter().enumerate() {
        let value = ["x", "y", "z", "w"][at / 3];
        one.hear(conn, &subscribe(&format!(r#""tf":{{"key":"t","cmp":"eq","val":"{value}"}}"#)));
    }
    let frames = |one: &One| one.core.stats().counters.value(Counter::FramesShared);
    for (value, members, shared) in [("x", 3, 1), ("y", 3, 1), ("z", 3, 0), ("w", 1, 0)] {
        let before = frames(&one);
        publish(&mut one, "1", Some(value));
        one.turn();
        let told = conns.iter().filter(|&&conn| !one.heard(conn).is_empty()).count();
        assert_eq!((told, frames(&one) - before), (members, shared), "{value}");
        one.core.invariants();
    }
}

// Whoever loses what comes by number is never told one.
#[test]
fn centrifuge_js_gets_names_in_protobuf() {
    for (name, numbered) in [("js", false), ("my app", false), ("python", true)] {
        let mut one = One::new(settings());
        let conn = one.open(Protocol::Protobuf);
        let mut say = |id, request| {
            let mut frame = Vec::new();
            encode_command(Protocol::Protobuf, &Command { id, request }, &mut frame);
            one.core.begin_turn(one.now);
            one.core.on_message(conn, &frame);
            one.turn();
            one.written[0].1[2..].to_vec()
        };
        let connect = ConnectRequest { name: name.into(), ..ConnectRequest::default() };
        say(1, Request::Connect(Box::new(connect)));
        let subscribe = SubscribeRequest { channel: "c".into(), flag: 1, ..SubscribeRequest::default() };
        let heard = say(2, Request::Subscribe(Box::new(subscribe)));
        let heard = decode_replies(Protocol::Protobuf, &heard).next().unwrap().unwrap();
        let ServerMessage::Reply { reply: ServerReply::Subscribe(heard), .. } = heard else {
            panic!("{heard:?}")
        };
        assert_eq!(heard.number > 0, numbered, "{name}");
    }
}

#[test]
fn a_number_stands_for_the_name() {
    let mut one = One::new(settings());
    let [numbered, named] = [one.client(), one.client()];
    let heard = one.hear(numbered, &subscribe(r#""flag":1"#));
    let number = heard[0].split_once(r#""id":2"#).unwrap().1.split_once(r#""id":"#).unwrap().1;
    let number: u32 = number.trim_end_matches('}').parse().unwrap();
    one.hear(named, &subscribe(r#""flag":2"#));
    publish(&mut one, "1", None);
    publish(&mut one, "2", None);
    one.turn();
    assert_eq!(one.heard(named)[1], r#"{"push":{"channel":"c","pub":{"data":2,"offset":2}}}"#);
    assert_eq!(
        one.heard(numbered)[1],
        format!(r#"{{"push":{{"id":{number},"pub":{{"data":2,"offset":2}}}}}}"#)
    );
    let heard = one.hear(numbered, r#"{"id":2,"subscribe":{"channel":"off:c","flag":1}}"#);
    assert_eq!(heard, [r#"{"id":2,"subscribe":{}}"#], "not allowed there");
}
