//! JSON of the calls about maps -> [`ApiRequest`]; by the rules of `decode`.

use super::decode::{Decoded, Text, object, or_default, payload, raw, tags};
use crate::{
    broker::seam::{ApiRequest, HistoryFilter, KeyMode, MapRead, MapSet, PublishOptions, Recover, Told},
    model::{ErrorCode, Position, Publication, Tags},
};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    key: Text<'a>,
    #[serde(deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    b64data: Text<'a>,
    #[serde(deserialize_with = "tags")]
    tags: Tags,
    idempotency_key: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    version: u64,
    version_epoch: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    score: i64,
    key_mode: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    delta: bool,
    // What goes into the stream and to subscribers in place of the data.
    #[serde(deserialize_with = "raw")]
    stream_data: Option<&'a RawValue>,
    b64stream_data: Text<'a>,
}

impl Entry<'_> {
    fn set(self, removed: bool) -> Result<ApiRequest, ErrorCode> {
        if self.channel.is_empty() || self.key.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        let mode = match self.key_mode.as_str() {
            "" => KeyMode::Always,
            "if_new" => KeyMode::IfNew,
            "if_exists" => KeyMode::IfExists,
            _ => return Err(ErrorCode::BadRequest),
        };
        let of = if removed { MapSet::removal } else { MapSet::of };
        let mut set = MapSet { mode, score: self.score, ..of(self.key.boxed()) };
        if !removed {
            let data = payload(self.data, &self.b64data)?.unwrap_or_default();
            set.publication = Publication { data, tags: self.tags, ..Publication::default() };
            let told = payload(self.stream_data, &self.b64stream_data)?.filter(|data| !data.is_empty());
            set.told = told.map(|data| Told { data, json: false });
        }
        set.options = PublishOptions {
            idempotency_key: self.idempotency_key.boxed(),
            version: self.version,
            version_epoch: self.version_epoch.boxed(),
            delta: self.delta,
            ..PublishOptions::default()
        };
        Ok(ApiRequest::MapSet { channel: self.channel.shared(), set })
    }
}

pub fn publish(json: &str) -> Decoded {
    Ok(object::<Entry<'_>>(json)?.set(false))
}

pub fn remove(json: &str) -> Decoded {
    Ok(object::<Entry<'_>>(json)?.set(true))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    cursor: Text<'a>,
    key: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    limit: i32,
    #[serde(deserialize_with = "or_default")]
    asc: bool,
    #[serde(deserialize_with = "or_default")]
    revision_offset: u64,
    revision_epoch: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    since_offset: u64,
    since_epoch: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
}

impl Asked<'_> {
    /// 0 asks for the position only; below it, for everything.
    fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

fn read(json: &str, what: impl FnOnce(&Asked<'_>) -> MapRead) -> Decoded {
    let asked: Asked<'_> = object(json)?;
    if asked.channel.is_empty() {
        return Ok(Err(ErrorCode::BadRequest));
    }
    let read = what(&asked);
    Ok(Ok(ApiRequest::MapRead { channel: asked.channel.shared(), read }))
}

pub fn read_state(json: &str) -> Decoded {
    read(json, |asked| match asked.key.is_empty() {
        false => MapRead::Key(asked.key.boxed()),
        true => MapRead::State {
            cursor: asked.cursor.boxed(),
            limit: asked.limit(),
            asc: asked.asc,
            revision: (asked.revision_offset > 0 || !asked.revision_epoch.is_empty())
                .then(|| Position { offset: asked.revision_offset, epoch: asked.revision_epoch.shared() }),
        },
    })
}

pub fn read_stream(json: &str) -> Decoded {
    read(json, |asked| {
        let since = (asked.since_offset > 0 || !asked.since_epoch.is_empty())
            .then(|| Recover { offset: asked.since_offset, epoch: asked.since_epoch.boxed() });
        MapRead::Stream(HistoryFilter { limit: asked.limit(), since, reverse: asked.reverse })
    })
}

pub fn stats(json: &str) -> Decoded {
    read(json, |_| MapRead::Stats)
}

pub fn clear(json: &str) -> Decoded {
    read(json, |_| MapRead::Clear)
}
