//! What subscribers of one map see of it when they see different parts, and entries as differences.

use super::{
    One,
    map_pages::{field, raw},
    maps::{api_set, settings},
};
use crate::{
    broker::seam::{MapSet, Told},
    config::Settings,
    model::{ConnKey, ErrorCode, Publication},
};
use std::time::Duration;

fn with_views() -> Settings {
    let mut settings = settings();
    for namespace in &mut settings.channel.namespaces {
        let options = &mut namespace.options;
        options.allow_tags_filter = namespace.name != "few";
        options.allowed_delta_types = vec!["fossil".into()];
        options.delta_publish = namespace.name == "mm";
        options.allow_channel_compaction = true;
        options.client_publish_debounce_interval = Duration::from_millis(250);
    }
    settings
}

fn state(rest: &str) -> String {
    format!(r#"{{"id":2,"subscribe":{{"channel":"mm:1","type":1,"phase":2{rest}}}}}"#)
}

const OF_X: &str = r#","tf":{"key":"t","cmp":"eq","val":"x"}"#;

/// Sets an entry to `data` with a tag, or removes it.
fn set(one: &mut One, key: &str, data: Option<&[u8]>, tag: &str) {
    api_set(one, "mm:1", |set: &mut MapSet| {
        set.key = key.into();
        set.removed = data.is_none();
        set.publication.data = data.unwrap_or_default().into();
        set.publication.json = false;
        set.publication.tags = vec![("t".into(), tag.into())];
    })
    .unwrap();
}

/// Keys a client was told of in the last turn: what they are set to, or that they are gone.
fn told(one: &One, conn: ConnKey) -> Vec<String> {
    let value = |text: &str, name: &str| {
        let rest = text.split_once(&format!("\"{name}\":"))?.1;
        Some(rest.trim_start_matches('"').split(['"', ',', '}']).next()?.to_owned())
    };
    let told = |message: String| {
        let data = value(&message, "data").unwrap_or_else(|| "gone".into());
        format!("{} {data}", value(&message, "key").unwrap())
    };
    one.heard(conn).into_iter().filter(|it| it != "{}").map(told).collect()
}

// Who filters has exactly the entries that pass, whatever they were before.
#[test]
fn a_filtered_mirror() {
    let mut one = One::new(with_views());
    let (all, x) = (one.client(), one.client());
    one.hear(all, &state(""));
    let reply = one.hear(x, &state(OF_X));
    let settled = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","type":1,"publish_debounce":250}}"#;
    assert_eq!(reply, [settled]);
    for (key, data, tag, want_all, want_x) in [
        ("a", Some("1"), "x", "a 1", "a 1"),
        ("b", Some("2"), "y", "b 2", ""),
        ("a", Some("3"), "y", "a 3", "a gone"),
        ("a", Some("4"), "y", "a 4", ""),
        ("a", None, "", "a gone", ""),
        ("b", Some("5"), "x", "b 5", "b 5"),
        ("b", None, "", "b gone", "b gone"),
        ("c", Some("6"), "y", "c 6", ""),
        ("d", Some("7"), "x", "d 7", "d 7"),
    ] {
        set(&mut one, key, data.map(str::as_bytes), tag);
        assert_eq!(told(&one, all).concat(), want_all, "{key} {data:?} {tag}");
        assert_eq!(told(&one, x).concat(), want_x, "{key} {data:?} {tag}");
    }
    // The state holds what passes, and what changed since is a removal where it does not.
    let late = one.client();
    let page = raw(&mut one, late, &state(&format!(r#"{OF_X},"limit":1"#)));
    assert!(page.contains(r#""phase":2,"cursor":"c"}"#) && !page.contains(r#""state""#), "{page}");
    set(&mut one, "c", Some(b"8"), "z");
    let recover = r#"{"id":3,"subscribe":{"channel":"mm:1","type":1,"phase":1,"recover":true,"offset":8"#;
    let recover = format!(r#"{recover},"epoch":"{}"{OF_X}}}}}"#, field(&page, "epoch"));
    let behind = one.hear(late, &recover).concat();
    let want = r#""publications":[{"data":7,"offset":9,"tags":{"t":"x"},"key":"d"},{"offset":10,"key":"c","removed":true}],"recovered":true,"offset":10"#;
    assert!(behind.contains(want), "{behind}");
}

#[test]
fn filters_must_be_allowed() {
    let mut one = One::new(with_views());
    let conn = one.client();
    let said = format!(r#"{{"id":2,"subscribe":{{"channel":"few:1","type":1,"phase":2{OF_X}}}}}"#);
    let heard = one.hear(conn, &said);
    assert_eq!(heard, [r#"{"id":2,"error":{"code":107,"message":"bad request"}}"#]);
}

// What is not JSON is not there for a JSON client, and neither is what it replaced.
#[test]
fn an_entry_that_is_json_no_more() {
    let mut one = One::new(with_views());
    let conn = one.client();
    one.hear(conn, &state(""));
    for (data, want) in [(&b"1"[..], "a 1"), (b"\xff", "a gone"), (b"\xfe", ""), (b"2", "a 2")] {
        set(&mut one, "a", Some(data), "");
        assert_eq!(told(&one, conn).concat(), want, "{data:?}");
    }
}

fn long(number: u32) -> String {
    format!(r#"{{"text":"a long text that stays the same, and a number","number":{number}}}"#)
}

// An entry goes out as the difference to what it was, also to who came a moment ago: it has that.
#[test]
fn entries_as_differences() {
    let mut one = One::new(with_views());
    let first = one.client();
    let delta = r#","delta":"fossil""#;
    let reply = one.hear(first, &state(delta)).concat();
    assert!(reply.contains(r#""delta":true"#), "{reply}");
    set(&mut one, "a", Some(long(1).as_bytes()), "");
    let quoted = |number| long(number).replace('"', "\\\"");
    let heard = one.heard(first).concat();
    assert!(heard.contains(&format!(r#""data":"{}""#, quoted(1))) && !heard.contains("delta"), "{heard}");
    let second = one.client();
    let reply = one.hear(second, &state(delta)).concat();
    assert!(reply.contains(&format!(r#""state":[{{"data":"{}""#, quoted(1))), "{reply}");
    set(&mut one, "b", Some(long(1).as_bytes()), "");
    assert!(!one.heard(second).concat().contains("delta"), "another entry");
    set(&mut one, "a", Some(long(2).as_bytes()), "");
    let [to_first, to_second] = [one.heard(first), one.heard(second)].map(|heard| heard.concat());
    assert_eq!(to_first, to_second);
    let want = r#","offset":3,"tags":{"t":""},"delta":true,"key":"a"}}}"#;
    assert!(to_first.ends_with(want) && !to_first.contains("long text"), "{to_first}");
    set(&mut one, "a", None, "");
    assert_eq!(
        one.heard(first),
        [r#"{"push":{"channel":"mm:1","pub":{"offset":4,"tags":{"t":""},"key":"a","removed":true}}}"#]
    );
    set(&mut one, "a", Some(long(3).as_bytes()), "");
    assert!(!one.heard(first).concat().contains("delta"), "it was not there");
}

// The state has one thing and the stream another: who has which, nobody knows, so what follows comes in full.
#[test]
fn an_entry_told_otherwise_than_it_is() {
    let mut one = One::new(with_views());
    let first = one.client();
    one.hear(first, &state(r#","delta":"fossil""#));
    let quoted = |text: &str| format!(r#""data":"{}""#, text.replace('"', "\\\""));
    set(&mut one, "a", Some(long(1).as_bytes()), "");
    api_set(&mut one, "mm:1", |set| {
        set.key = "a".into();
        set.publication = Publication { data: long(2).into_bytes().into(), ..Publication::default() };
        set.told = Some(Told { data: b"{\"add\":1}"[..].into(), json: false });
    })
    .unwrap();
    let heard = one.heard(first).concat();
    assert!(heard.contains(&quoted(r#"{"add":1}"#)) && !heard.contains(r#""delta""#), "{heard}");
    let second = one.client();
    let reply = one.hear(second, &state(r#","delta":"fossil""#)).concat();
    assert!(reply.contains(&quoted(&long(2))) && reply.contains(r#""offset":2"#), "{reply}");
    for (number, delta) in [(3, false), (4, true)] {
        set(&mut one, "a", Some(long(number).as_bytes()), "");
        for conn in [first, second] {
            let heard = one.heard(conn).concat();
            assert_eq!(heard.contains(r#""delta":true"#), delta, "{heard}");
            assert_eq!(heard.contains(&quoted(&long(number))), !delta, "{heard}");
        }
    }
    for (data, told) in [(&b"1"[..], &b"\xff"[..]), (b"\xff", b"1")] {
        let refused = api_set(&mut one, "mm:1", |set| {
            set.publication = Publication { data: data.into(), ..Publication::default() };
            set.told = Some(Told { data: told.into(), json: false });
        });
        assert_eq!(refused.err(), Some(ErrorCode::BadRequest), "{data:?}");
    }
}

// Publications of a map come by number as those of a stream do.
#[test]
fn a_map_by_number() {
    let mut one = One::new(with_views());
    let conn = one.client();
    let reply = one.hear(conn, &state(r#","flag":1"#)).concat();
    assert!(reply.contains(r#""id":1,"type":1"#), "{reply}");
    set(&mut one, "k", Some(b"1"), "x");
    let heard = one.heard(conn);
    assert_eq!(
        heard,
        [r#"{"push":{"id":1,"pub":{"data":1,"offset":1,"tags":{"t":"x"},"key":"k","epoch":"E"}}}"#]
    );
}

// The owner, another core, has not answered the first.
#[test]
fn one_page_at_a_time() {
    let mut one = One::of(2, with_views());
    let conn = one.client();
    let channel = (0..100).map(|i| format!("mm:{i}")).find(|name| one.core.owner(name) == 1).unwrap();
    let page = |id| format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}","type":1,"phase":2}}}}"#);
    assert_eq!(one.hear(conn, &page(2)), [""; 0]);
    let concurrent = r#"{"id":3,"error":{"code":113,"message":"concurrent pagination","temporary":true}}"#;
    assert_eq!(one.hear(conn, &page(3)), [concurrent]);
}

// The first change of an interval at once; when the next begins, one of each entry, in order.
#[test]
fn a_conflated_mirror() {
    let mut settings = with_views();
    settings.channel.namespaces[0].options.conflation_interval_max = Duration::from_millis(500);
    let mut one = One::new(settings);
    let (all, some) = (one.client(), one.client());
    one.hear(all, &state(""));
    let reply = one.hear(some, &state(r#","conflation":2000"#));
    assert!(reply[0].contains(r#""conflation":500"#), "{reply:?}");
    set(&mut one, "a", Some(b"1"), "");
    assert_eq!(told(&one, some), ["a 1"]);
    for (key, data) in [
        ("a", Some("2")),
        ("b", Some("3")),
        ("a", Some("4")),
        ("c", Some("5")),
        ("c", None),
        ("d", Some("6")),
    ] {
        set(&mut one, key, data.map(str::as_bytes), "");
        assert_eq!((told(&one, all).len(), told(&one, some).len()), (1, 0), "{key}");
    }
    one.later(1_000);
    assert_eq!((told(&one, some), one.now.ms), (vec!["b 3".into(), "a 4".into(), "d 6".into()], 1_000_500));
    set(&mut one, "a", None, "");
    set(&mut one, "a", Some(b"7"), "");
    assert_eq!(told(&one, some), <[String; 0]>::default(), "this interval has had its changes");
    one.later(1_000);
    assert_eq!((told(&one, some), one.now.ms), (vec!["a 7".into()], 1_001_000));
    one.later(1_000);
    set(&mut one, "b", None, "");
    assert_eq!(told(&one, some), ["b gone"]);
    one.core.invariants();
}

// What waited is told as the difference to what the client has.
#[test]
fn conflated_differences() {
    let mut settings = with_views();
    settings.channel.namespaces[0].options.conflation_interval = Duration::from_millis(500);
    let mut one = One::new(settings);
    let conn = one.client();
    one.hear(conn, &state(r#","delta":"fossil""#));
    for number in 1..=3 {
        let text = format!(r#"{{"a": "long long long text here {number}", "b": [1, 2, 3, 4, 5]}}"#);
        set(&mut one, "a", Some(text.as_bytes()), "");
    }
    one.later(1_000);
    let heard = one.heard(conn);
    assert!(heard[0].contains(r#"\nW@0,1:3"#) && heard[0].contains(r#""delta":true"#), "{heard:?}");
}
