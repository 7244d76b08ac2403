//! Maps read in pages by transcripts: what is on them, what changes between them, and who may ask for the next.

use super::{
    One, anonymous,
    maps::{api_set, set, settings},
};
use crate::{
    config::Settings,
    model::{ConnKey, Disconnect},
};
use std::time::Duration;

/// The keys of a list of publications in a reply.
fn keys(reply: &str) -> Vec<String> {
    reply.split(r#""key":""#).skip(1).map(|it| it.split('"').next().unwrap().to_owned()).collect()
}

/// Says something and returns what comes, random things and all.
pub(super) fn raw(one: &mut One, conn: ConnKey, said: &str) -> String {
    one.say(conn, said);
    one.turn();
    let of = |(to, bytes): &(ConnKey, Vec<u8>)| (*to == conn).then(|| bytes.clone());
    super::frames(&one.written.iter().filter_map(of).flatten().collect::<Vec<_>>()).join("\n")
}

pub(super) fn field(text: &str, name: &str) -> String {
    let rest = text.split_once(&format!("\"{name}\":")).unwrap().1;
    rest.trim_start_matches('"').split(['"', ',', '}']).next().unwrap().to_owned()
}

// Whatever changes between two pages, state and stream together are the map as it is.
#[test]
fn pages_and_what_changed_between_them() {
    let mut one = One::new(settings());
    let _writer = one.client();
    for (at, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        set(&mut one, key, at as u32);
    }
    let reader = one.client();
    let page = |rest: &str| {
        format!(r#"{{"id":2,"subscribe":{{"channel":"mm:1","type":1,"phase":2,"limit":2{rest}}}}}"#)
    };
    let first = raw(&mut one, reader, &page(""));
    assert_eq!(keys(&first), ["a", "b"]);
    assert!(first.contains(r#""phase":2"#) && field(&first, "offset") == "5", "{first}");
    let (epoch, cursor) = (field(&first, "epoch"), field(&first, "cursor"));
    // `a` is on the page that went; `d` and `f` are ahead.
    set(&mut one, "a", 10);
    set(&mut one, "d", 11);
    set(&mut one, "f", 12);
    let next = |cursor: &str| page(&format!(r#","cursor":"{cursor}","offset":5,"epoch":"{epoch}""#));
    let second = raw(&mut one, reader, &next(&cursor));
    let (publications, state) = second.split_once(r#""state""#).unwrap();
    assert_eq!((keys(publications), keys(state)), (vec_of("adf"), vec_of("ce")), "live, with what changed");
    assert!(!second.contains(r#""phase""#) && !second.contains(r#""cursor""#), "{second}");
}

fn vec_of(letters: &str) -> Vec<String> {
    letters.chars().map(String::from).collect()
}

/// A map of two entries, and a reader that got the first of them on a page; the epoch.
fn half_read(settings: Settings) -> (One, ConnKey, String) {
    let mut one = One::new(settings);
    let _writer = one.client();
    set(&mut one, "a", 1);
    set(&mut one, "b", 2);
    let reader = one.client();
    let first = raw(&mut one, reader, &asked(2, r#","limit":1"#));
    assert!(keys(&first) == ["a"] && field(&first, "cursor") == "a", "{first}");
    let epoch = field(&first, "epoch");
    (one, reader, epoch)
}

/// A subscribe in a phase.
fn asked(phase: i32, rest: &str) -> String {
    format!(r#"{{"id":2,"subscribe":{{"channel":"mm:1","type":1,"phase":{phase}{rest}}}}}"#)
}

fn code(reply: &str) -> &str {
    reply.split_once(r#""code":"#).map_or("", |it| &it.1[..3])
}

#[test]
fn a_reader_too_far_behind_goes_through_the_stream() {
    let (mut one, reader, epoch) = half_read(settings());
    for value in 0..4 {
        set(&mut one, "a", value);
    }
    let from = |offset: u64| format!(r#","offset":{offset},"epoch":"{epoch}""#);
    let last = raw(&mut one, reader, &asked(2, &format!(r#","cursor":"a"{}"#, from(2))));
    // Four behind, three at once.
    assert!(keys(&last) == ["b"] && last.contains(r#""offset":2,"type":1,"phase":2,"state""#), "{last}");
    let history = raw(&mut one, reader, &asked(1, &from(2)));
    assert!(history.contains(r#"],"offset":5,"type":1,"phase":1"#), "{history}");
    let behind = raw(&mut one, reader, &asked(1, &format!(r#"{},"recover":true"#, from(2))));
    assert_eq!(code(&behind), "112", "{behind}");
    let (mut one, reader, epoch) = half_read(settings());
    let from = |offset: u64| format!(r#","offset":{offset},"epoch":"{epoch}""#);
    set(&mut one, "a", 3);
    let live = anonymous(&raw(&mut one, reader, &asked(1, &from(2))));
    let info = r#""info":{"user":"","client":"ID"}"#;
    let want = format!(
        r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"E","publications":[{{"data":3,{info},"offset":3,"key":"a"}}],"offset":3,"type":1}}}}"#
    );
    assert_eq!(live, want);
    one.hear(reader, r#"{"id":3,"unsubscribe":{"channel":"mm:1"}}"#);
    set(&mut one, "b", 5);
    let recovered = anonymous(&raw(&mut one, reader, &asked(1, &format!(r#"{},"recover":true"#, from(3)))));
    let want = format!(
        r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"E","publications":[{{"data":5,{info},"offset":4,"key":"b"}}],"recovered":true,"offset":4,"was_recovering":true,"type":1}}}}"#
    );
    assert_eq!(recovered, want);
}

#[test]
fn a_reader_that_lost_the_stream_begins_anew() {
    let (mut one, reader, epoch) = half_read(settings());
    // The stream keeps five.
    for value in 0..9 {
        set(&mut one, "c", value);
    }
    let stream = asked(1, &format!(r#","offset":2,"epoch":"{epoch}""#));
    assert_eq!(code(&raw(&mut one, reader, &stream)), "112");
    assert_eq!(code(&raw(&mut one, reader, &stream)), "103", "it has to begin anew");
    assert!(raw(&mut one, reader, &asked(2, "")).contains(r#""state""#));
}

// What follows a first page is for who has got that, and has not let go of it.
#[test]
fn pages_without_the_first() {
    let (mut one, reader, epoch) = half_read(settings());
    let stranger = one.client();
    let at = format!(r#","offset":2,"epoch":"{epoch}""#);
    let further = [asked(2, &format!(r#","cursor":"a"{at}"#)), asked(1, &at)];
    for said in &further {
        assert_eq!(code(&raw(&mut one, stranger, said)), "103", "{said}");
    }
    one.hear(reader, r#"{"id":3,"unsubscribe":{"channel":"mm:1"}}"#);
    for said in &further {
        assert_eq!(code(&raw(&mut one, reader, said)), "103", "{said}");
    }
    // Live at once: from a place that is given, and in maps that nobody comes back to from any.
    assert_eq!(code(&raw(&mut one, stranger, &asked(0, ""))), "112");
    let live = anonymous(&raw(&mut one, stranger, &asked(0, &at)));
    assert_eq!(live, r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","offset":2,"type":1}}"#);
    let brief = r#"{"id":2,"subscribe":{"channel":"cursors:1","type":1}}"#;
    assert_eq!(one.hear(stranger, brief), [r#"{"id":2,"subscribe":{"epoch":"E","type":1}}"#]);
    one.core.invariants();
}

#[test]
fn a_reader_has_its_time() {
    let mut settings = settings();
    settings.channel.namespaces[0].options.map.subscribe_catch_up_timeout = Duration::from_millis(700);
    for (ms, in_time) in [(600, true), (800, false)] {
        let (mut one, reader, epoch) = half_read(settings.clone());
        one.later(ms);
        let last = format!(r#","cursor":"a","offset":2,"epoch":"{epoch}""#);
        let heard = raw(&mut one, reader, &asked(2, &last));
        if in_time {
            assert!(one.closed.is_empty() && keys(&heard) == ["b"], "{heard}");
        } else {
            assert_eq!(one.closed, [(reader, Disconnect::SLOW)]);
        }
        // Who begins anew has it all again.
        let (mut one, reader, epoch) = half_read(settings.clone());
        one.later(600);
        raw(&mut one, reader, &asked(2, r#","limit":1"#));
        one.later(600);
        let last = format!(r#","cursor":"a","offset":2,"epoch":"{epoch}""#);
        assert_eq!(keys(&raw(&mut one, reader, &asked(2, &last))), ["b"]);
    }
}

#[test]
fn so_many_maps_may_be_read_at_a_time() {
    let mut settings = settings();
    settings.client.channel_limit = 2;
    let mut one = One::new(settings);
    let writer = one.client();
    let reader = one.client();
    let mut read = |map: &str, after_ms: u64| {
        for key in ["a", "b"] {
            let entry =
                format!(r#"{{"id":9,"publish":{{"channel":"mm:{map}","type":1,"key":"{key}","data":1}}}}"#);
            one.say(writer, &entry);
            one.turn();
        }
        one.later(after_ms);
        let said = asked(2, r#","limit":1"#).replace("mm:1", &format!("mm:{map}"));
        code(&raw(&mut one, reader, &said)).to_owned()
    };
    assert_eq!(["1", "2", "1", "3"].map(|map| read(map, 0)), ["", "", "", "106"]);
    assert_eq!(read("3", 5_100), "", "the others took too long");
}

#[test]
fn pages_in_the_order_of_scores() {
    let mut one = One::new(settings());
    for (key, score) in [("a", 1), ("b", 3), ("c", 3), ("d", -2), ("e", 0)] {
        api_set(&mut one, "ranks:1", |set| (set.key, set.score) = (key.into(), score)).unwrap();
    }
    for (rest, want, cursor) in [("", ["cba", "ed"], "1:a"), (r#","asc":true"#, ["dea", "bc"], "1:a")] {
        let reader = one.client();
        let page = |more: &str| asked(2, &format!("{rest}{more}")).replace("mm:1", "ranks:1");
        let first = raw(&mut one, reader, &page(""));
        assert_eq!((keys(&first).concat().as_str(), field(&first, "cursor").as_str()), (want[0], cursor));
        let at = format!(r#","offset":{},"epoch":"{}""#, field(&first, "offset"), field(&first, "epoch"));
        let wrong = raw(&mut one, reader, &page(&format!(r#","cursor":"a"{at}"#)));
        assert_eq!(code(&wrong), "107", "{wrong}");
        let last = raw(&mut one, reader, &page(&format!(r#","cursor":"{cursor}"{at}"#)));
        assert_eq!(keys(&last).concat(), want[1]);
        assert!(format!("{first}{last}").contains(r#""key":"d","score":-2"#), "{first}{last}");
        // The score of a change is told, and the order is the reader's business then.
        api_set(&mut one, "ranks:1", |set| (set.key, set.score) = ("a".into(), 1)).unwrap();
        assert!(one.heard(reader).concat().contains(r#""key":"a","score":1"#));
    }
}
