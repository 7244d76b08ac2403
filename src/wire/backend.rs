//! What backends are asked over HTTP and what they answer: JSON, as of Centrifugo's proxies.
//!
//! An answer is `{"result": …}` or `{"error": {"code": …, "message": …}}`. Unknown fields are passed over.

use super::json::{contains_only_json, strip_newlines, write_number, write_string};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc};

/// Asks for the data of keys of a shared poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollRefresh {
    pub channel: Arc<str>,
    /// Keys, and the version that is known of each; 0: none.
    pub items: Vec<(Arc<str>, u64)>,
    /// The backend is told versions.
    pub versioned: bool,
}

/// What a backend says of keys. One that is left out is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollRefreshed {
    pub items: Vec<PollItem>,
    /// Changes when versions start over. Empty: they never do.
    pub epoch: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollItem {
    pub key: Box<str>,
    /// `None`: as it was.
    pub data: Option<Box<[u8]>>,
    /// `data` is JSON.
    pub json: bool,
    pub version: u64,
    /// There is no such key any more.
    pub removed: bool,
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("its answer is not the JSON it should be: {0}")]
    Form(String),
    #[error("it answered with error {code}: {message}")]
    Error { code: u32, message: String },
    #[error("its answer has neither a result nor an error")]
    Nothing,
}

impl PollRefresh {
    /// The body of the request.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut body = b"{\"channel\":".to_vec();
        write_string(&mut body, &self.channel);
        body.extend_from_slice(b",\"items\":[");
        for (index, (key, version)) in self.items.iter().enumerate() {
            body.extend_from_slice(if index == 0 { b"{\"key\":" } else { b",{\"key\":" });
            write_string(&mut body, key);
            if self.versioned {
                body.extend_from_slice(b",\"version\":");
                write_number(&mut body, *version);
            }
            body.push(b'}');
        }
        body.extend_from_slice(b"]}");
        body
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// It has the wrong form, or is an error.
    pub fn answer(body: &[u8]) -> Result<PollRefreshed, Refusal> {
        let answer: Answer<'_, Refreshed<'_>> =
            serde_json::from_slice(body).map_err(|error| Refusal::Form(error.to_string()))?;
        if let Some(Failed { code, message }) = answer.error {
            let message = message.chars().filter(|it| !it.is_control()).take(MESSAGE_CHARS_MAX).collect();
            return Err(Refusal::Error { code, message });
        }
        let result = answer.result.ok_or(Refusal::Nothing)?;
        let items = result.items.into_iter().map(Item::owned).collect::<Result<_, _>>()?;
        Ok(PollRefreshed { items, epoch: result.epoch.into() })
    }
}

/// Characters of a backend's message that are logged.
const MESSAGE_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Answer<'a, T> {
    result: Option<T>,
    #[serde(borrow)]
    error: Option<Failed<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failed<'a> {
    code: u32,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Refreshed<'a> {
    #[serde(default, borrow, deserialize_with = "or_default")]
    items: Vec<Item<'a>>,
    #[serde(default, borrow, deserialize_with = "or_default")]
    epoch: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "or_default")]
    b64data: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    version: u64,
    #[serde(default, deserialize_with = "or_default")]
    removed: bool,
}

impl Item<'_> {
    fn owned(self) -> Result<PollItem, Refusal> {
        let binary = !self.b64data.is_empty();
        let data: Option<Box<[u8]>> = if binary {
            let bytes = STANDARD.decode(&*self.b64data);
            Some(bytes.map_err(|error| Refusal::Form(format!("b64data: {error}")))?.into())
        } else {
            self.data.map(|data| strip_newlines(data.get().as_bytes()).into())
        };
        // By our own reader, which refuses what is nested too deep.
        let json = !binary && data.as_deref().is_none_or(contains_only_json);
        let (key, version, removed) = (self.key.into(), self.version, self.removed);
        Ok(PollItem { key, json, data, version, removed })
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Keeps `null` as the data it is.
fn raw<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_versions_where_the_backend_has_some() {
        let mut request = PollRefresh {
            channel: "votes:\"1\"".into(),
            items: vec![("a".into(), 3), ("b\n".into(), 0)],
            versioned: true,
        };
        assert_eq!(
            String::from_utf8(request.body()).unwrap(),
            r#"{"channel":"votes:\"1\"","items":[{"key":"a","version":3},{"key":"b\n","version":0}]}"#
        );
        request.versioned = false;
        assert_eq!(
            String::from_utf8(request.body()).unwrap(),
            r#"{"channel":"votes:\"1\"","items":[{"key":"a"},{"key":"b\n"}]}"#
        );
    }

    #[test]
    fn answers_table() {
        let check = |text: &str, want: &[PollItem], epoch: &str| {
            let want = PollRefreshed { items: want.to_vec(), epoch: epoch.into() };
            assert_eq!(PollRefresh::answer(text.as_bytes()), Ok(want), "{text}");
        };
        let item = |key: &str, data: Option<&str>, version| PollItem {
            key: key.into(),
            data: data.map(|data| data.as_bytes().into()),
            json: true,
            version,
            removed: false,
        };
        check(r#"{"result":{}}"#, &[], "");
        check(r#"{"result":{"items":null,"epoch":null},"error":null}"#, &[], "");
        check(
            "{\"result\":{\"more\":1,\"epoch\":\"e\",\"items\":[{\"key\":\"a\",\"data\":{\"x\":\n [1]},\"version\":2},\
             {\"key\":\"b\\u00e9\",\"data\":null},{\"key\":\"c\",\"version\":18446744073709551615}]}}",
            &[item("a", Some("{\"x\": [1]}"), 2), item("bé", Some("null"), 0), item("c", None, u64::MAX)],
            "e",
        );
        check(
            r#"{"result":{"items":[{"key":"a","removed":true},{"key":"b","b64data":"/w=="}]}}"#,
            &[
                PollItem { removed: true, ..item("a", None, 0) },
                PollItem { data: Some([0xff].into()), json: false, ..item("b", None, 0) },
            ],
            "",
        );
    }

    #[test]
    fn what_is_no_answer_says_why() {
        use Refusal::{Error, Form, Nothing};
        let of = |text: &[u8]| PollRefresh::answer(text).unwrap_err();
        assert_eq!(of(b"{}"), Nothing);
        let message = "x".repeat(MESSAGE_CHARS_MAX);
        let long = format!(r#"{{"error":{{"code":1000,"message":"\n{message}y"}}}}"#);
        assert_eq!(of(long.as_bytes()), Error { code: 1000, message });
        for bad in [
            &b""[..],
            b"null",
            b"[]",
            b"<html>",
            b"{\"result\":1}",
            b"{\"result\":{\"items\":[{}]}}",
            b"{\"result\":{\"items\":[{\"key\":1}]}}",
            b"{\"result\":{\"items\":[{\"key\":\"a\",\"version\":-1}]}}",
            b"{\"result\":{\"items\":[{\"key\":\"a\",\"b64data\":\"*\"}]}}",
            b"{\"result\":{\"items\":[{\"key\":\"\xff\"}]}}",
        ] {
            assert!(matches!(of(bad), Form(_)), "{}: {:?}", String::from_utf8_lossy(bad), of(bad));
        }
    }
}
