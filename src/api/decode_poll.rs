//! JSON of the call about shared polls -> [`ApiRequest`]; by the rules of `decode`.

use super::decode::{Decoded, Text, object, or_default, payload, raw};
use crate::{
    broker::seam::{ApiRequest, PollItem, PollSet},
    model::ErrorCode,
};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Publish<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    key: Text<'a>,
    #[serde(deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    b64data: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    version: u64,
    epoch: Text<'a>,
}

pub fn publish(json: &str) -> Decoded {
    let it: Publish<'_> = object(json)?;
    // Version 0 is that of who knows nothing.
    if it.channel.is_empty() || it.key.is_empty() || it.version == 0 {
        return Ok(Err(ErrorCode::BadRequest));
    }
    let data = match payload(it.data, &it.b64data) {
        Ok(Some(data)) => Some(data),
        Ok(None) => return Ok(Err(ErrorCode::BadRequest)),
        Err(error) => return Ok(Err(error)),
    };
    let item = PollItem { key: it.key.boxed(), data, json: false, version: it.version, removed: false };
    let set = Box::new(PollSet { item, epoch: it.epoch.boxed() });
    Ok(Ok(ApiRequest::PollPublish { channel: it.channel.shared(), set }))
}
