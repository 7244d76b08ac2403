//! Publications in the words of most callers, alone or in a batch, read in one go.
//!
//! HOT: nearly all that backends say. The general reader (`decode`) goes over a batch three times, byte by byte, because
//! any field may come in any order. What is not exactly of the expected form is left to it, errors included; a test
//! compares the two on whatever the fuzzer thinks of.

use super::decode::without_newlines;
use crate::{
    broker::seam::{ApiRequest, PublishOptions},
    model::Tags,
    wire::json::Cursor,
};
use std::borrow::Cow;

/// `{"channel":"…","data":…}`
pub fn publish(json: &str) -> Option<ApiRequest> {
    let mut cursor = Cursor::new(json);
    let request = publication(&mut cursor)?;
    cursor.finish().ok()?;
    Some(request)
}

/// `{"commands":[{"publish":{"channel":"…","data":…}},…]}`, at most `max` of them.
pub fn batch(json: &str, max: usize) -> Option<Vec<ApiRequest>> {
    let mut cursor = Cursor::new(json);
    open(&mut cursor, "\"commands\"")?;
    cursor.expect(b'[').ok()?;
    let mut requests = Vec::new();
    loop {
        open(&mut cursor, "\"publish\"")?;
        requests.push(publication(&mut cursor)?);
        cursor.expect(b'}').ok()?;
        if requests.len() > max {
            return None;
        }
        if !cursor.take(b',') {
            break;
        }
    }
    cursor.expect(b']').ok()?;
    cursor.expect(b'}').ok()?;
    cursor.finish().ok()?;
    Some(requests)
}

fn publication(cursor: &mut Cursor<'_>) -> Option<ApiRequest> {
    open(cursor, "\"channel\"")?;
    // Escapes are rare in names.
    let Cow::Borrowed(channel) = cursor.string().ok()? else { return None };
    cursor.expect(b',').ok()?;
    key(cursor, "\"data\"")?;
    let data = cursor.raw_text().ok()?;
    cursor.expect(b'}').ok()?;
    if channel.is_empty() {
        return None;
    }
    Some(ApiRequest::Publish {
        channel: channel.into(),
        data: without_newlines(data),
        tags: Tags::new(),
        options: PublishOptions::default(),
    })
}

/// `{`, and a key as it is usually written.
#[inline]
fn open(cursor: &mut Cursor<'_>, name: &str) -> Option<()> {
    cursor.expect(b'{').ok()?;
    key(cursor, name)
}

#[inline]
fn key(cursor: &mut Cursor<'_>, name: &str) -> Option<()> {
    if !cursor.literal(name) {
        return None;
    }
    cursor.expect(b':').ok()
}

#[cfg(test)]
mod tests {
    use super::{super::decode, *};

    fn general(json: &str) -> Option<String> {
        decode::publish(json).ok()?.ok().map(|it| format!("{it:?}"))
    }

    #[track_caller]
    fn check(json: &str, quick: bool) {
        let read = publish(json);
        assert_eq!(read.is_some(), quick, "{json}");
        if let Some(read) = read {
            assert_eq!(Some(format!("{read:?}")), general(json), "{json}");
        }
        let in_batch = batch(&format!("{{\"commands\":[{{\"publish\":{json}}}]}}"), 1);
        assert_eq!(in_batch.is_some(), quick, "{json}");
    }

    #[test]
    fn reads_what_callers_write() {
        check(r#"{"channel":"c","data":{"a":[1,"}\"]"]}}"#, true);
        check("{ \"channel\" : \"c\" ,\n\"data\": { \"a\":\n1 } }\n", true);
        check(r#"{"channel":"c","data":null}"#, true);
        check(r#"{"channel":"c","data":"\ud800"}"#, true);
        check(r#"{"channel":"c"}"#, false);
        check(r#"{"channel":"c\u0041","data":1}"#, false);
        check(r#"{"channel":"","data":1}"#, false);
        check(r#"{"channel":"c","data":1,"skip_history":true}"#, false);
        check(r#"{"data":1,"channel":"c"}"#, false);
        check(r#"{"channel":"c","data":01}"#, false);
        check(r#"{"channel":"c","data":1}}"#, false);
        check(r#"[{"channel":"c","data":1}]"#, false);
    }

    #[test]
    fn batches_end_at_the_limit() {
        let json = |count| {
            format!("{{\"commands\":[{}]}}", vec![r#"{"publish":{"channel":"c","data":1}}"#; count].join(","))
        };
        assert_eq!(batch(&json(3), 3).map(|it| it.len()), Some(3));
        assert!(batch(&json(4), 3).is_none() && batch(r#"{"commands":[]}"#, 3).is_none());
        assert!(batch(&json(1).replace("]}", "],\"parallel\":true}"), 3).is_none());
    }

    // Well formed or broken somewhere: what is read in one go is what the general reader reads.
    #[test]
    fn agrees_with_the_general_reader() {
        arbtest::arbtest(|u| {
            const PARTS: [&str; 16] = [
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
                "\"channel\"",
                "\"data\"",
                "\"c\"",
                "1",
                "-0.5e3",
                "\"\\n\\u12g4\"",
                "null",
                " ",
                "\n",
                "\"tags\"",
            ];
            let mut json = String::from("{\"channel\":\"c\",\"data\":");
            for _ in 0..u.int_in_range(0..=8)? {
                json.push_str(u.choose(&PARTS)?);
            }
            json.push('}');
            if let Some(read) = publish(&json) {
                assert_eq!(Some(format!("{read:?}")), general(&json), "{json}");
            }
            Ok(())
        });
    }
}
