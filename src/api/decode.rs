//! JSON of a call -> [`ApiRequest`].
//!
//! Unknown fields are ignored and `null` stands for an absent field, except in `data`, where it is a payload.
//! A wrong type is the caller's mistake of form (HTTP 400); a wrong value is error 107.

use super::base64;
use crate::{
    broker::seam::{ApiRequest, Denial, Overrides, PublishOptions, Refresh, Target},
    model::{Disconnect, ErrorCode, Position, Tags},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, sync::Arc};

/// Outer: the JSON has the shape of the method. Inner: its values make sense.
pub type Decoded = Result<Result<ApiRequest, ErrorCode>, serde_json::Error>;
pub type Decode = fn(&str) -> Decoded;

/// Longest reason that fits a WebSocket close frame beside its code.
const REASON_MAX: usize = 123;

/// A string, borrowed where JSON escapes allow it; `null` is "".
#[derive(Default)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn shared(&self) -> Arc<str> {
        Arc::from(&*self.0)
    }

    pub(super) fn boxed(&self) -> Box<str> {
        Box::from(&*self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Keeps `null` as the payload it is.
pub(super) fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Key and value pairs in the order given.
pub(super) fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Tags;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
            let mut tags = Tags::new();
            while let Some((key, value)) = map.next_entry::<Text<'_>, Text<'_>>()? {
                tags.push((key.boxed(), value.boxed()));
            }
            Ok(tags)
        }

        fn visit_unit<E>(self) -> Result<Tags, E> {
            Ok(Tags::new())
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// Derived structs would also take a JSON array, by position. No caller means that.
pub fn object<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, serde_json::Error> {
    if json.trim_start().starts_with('[') {
        return Err(de::Error::custom("expected an object"));
    }
    serde_json::from_str(json)
}

/// The exact source slice, without raw newlines: they separate messages on the wire, and in valid JSON
/// they are only ever white space.
pub fn without_newlines(json: &str) -> Box<[u8]> {
    let bytes = json.as_bytes();
    if memchr::memchr(b'\n', bytes).is_none() {
        return bytes.into();
    }
    bytes.iter().copied().filter(|&byte| byte != b'\n').collect()
}

/// A payload given as JSON or as base64; base64 wins. `None` when neither is there.
pub(super) fn payload(json: Option<&RawValue>, base64: &Text<'_>) -> Result<Option<Box<[u8]>>, ErrorCode> {
    if !base64.0.is_empty() {
        let bytes = base64::decode(&base64.0).ok_or(ErrorCode::BadRequest)?;
        return Ok(Some(bytes.into()));
    }
    Ok(json.map(|json| without_newlines(json.get())))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Publish<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    #[serde(deserialize_with = "or_default", borrow)]
    channels: Vec<Text<'a>>,
    #[serde(deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    b64data: Text<'a>,
    #[serde(deserialize_with = "tags")]
    tags: Tags,
    #[serde(deserialize_with = "or_default")]
    skip_history: bool,
    idempotency_key: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    version: u64,
    version_epoch: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    delta: bool,
}

impl Publish<'_> {
    fn payload(&self) -> Result<Box<[u8]>, ErrorCode> {
        let data = payload(self.data, &self.b64data)?;
        data.filter(|data| !data.is_empty()).ok_or(ErrorCode::BadRequest)
    }

    fn options(&self) -> PublishOptions {
        PublishOptions {
            skip_history: self.skip_history,
            idempotency_key: self.idempotency_key.boxed(),
            version: self.version,
            version_epoch: self.version_epoch.boxed(),
            delta: self.delta,
        }
    }
}

pub fn publish(json: &str) -> Decoded {
    let publish: Publish<'_> = object(json)?;
    if publish.channel.0.is_empty() {
        return Ok(Err(ErrorCode::BadRequest));
    }
    Ok(publish.payload().map(|data| ApiRequest::Publish {
        channel: publish.channel.shared(),
        data,
        options: publish.options(),
        tags: publish.tags,
    }))
}

pub fn broadcast(json: &str) -> Decoded {
    let publish: Publish<'_> = object(json)?;
    if publish.channels.is_empty() {
        return Ok(Err(ErrorCode::BadRequest));
    }
    Ok(publish.payload().map(|data| ApiRequest::Broadcast {
        channels: publish.channels.iter().map(Text::shared).collect(),
        data,
        options: publish.options(),
        tags: publish.tags,
    }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whom<'a> {
    #[serde(borrow)]
    user: Text<'a>,
    client: Text<'a>,
    session: Text<'a>,
    channel: Text<'a>,
    // Subscribe.
    #[serde(deserialize_with = "raw")]
    info: Option<&'a RawValue>,
    b64info: Text<'a>,
    #[serde(deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    b64data: Text<'a>,
    recover_since: Option<Since<'a>>,
    #[serde(rename = "override", deserialize_with = "or_default")]
    overrides: Override,
    #[serde(deserialize_with = "or_default")]
    expire_at: i64,
    // Disconnect.
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<Text<'a>>,
    disconnect: Option<Close<'a>>,
    // Refresh.
    #[serde(deserialize_with = "or_default")]
    expired: bool,
    #[serde(deserialize_with = "or_default")]
    all_users: bool,
    // Sessions have no labels.
    label_filter: Option<&'a RawValue>,
}

/// Options of the channel that shall be otherwise for this subscription.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Override {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
    force_push_join_leave: Option<Switch>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Switch {
    #[serde(deserialize_with = "or_default")]
    value: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Since<'a> {
    #[serde(deserialize_with = "or_default")]
    offset: u64,
    #[serde(borrow)]
    epoch: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Close<'a> {
    #[serde(deserialize_with = "or_default")]
    code: u32,
    #[serde(borrow)]
    reason: Text<'a>,
}

impl Whom<'_> {
    /// Error 107 when nobody is named: "all anonymous sessions" is never what a caller means. Error 108 for a choice by
    /// labels: passed over it would concern others than meant.
    fn target(&self) -> Result<Target, ErrorCode> {
        let no_filter = |it: &RawValue| matches!(it.get(), r#""""# | "{}" | "[]");
        if !self.label_filter.is_none_or(no_filter) {
            return Err(ErrorCode::NotAvailable);
        }
        if self.all_users {
            return Ok(Target { all: true, ..Target::default() });
        }
        if self.user.0.is_empty() && self.client.0.is_empty() && self.session.0.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        let (user, client, session) = (self.user.boxed(), self.client.boxed(), self.session.boxed());
        Ok(Target { user, client, session, all: false })
    }

    fn subscribe(&self) -> Result<ApiRequest, ErrorCode> {
        let target = self.target()?;
        if self.channel.0.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        let said = |switch: &Option<Switch>| switch.as_ref().map(|it| it.value);
        let overrides = Overrides {
            presence: said(&self.overrides.presence),
            join_leave: said(&self.overrides.join_leave),
            force_recovery: said(&self.overrides.force_recovery),
            force_positioning: said(&self.overrides.force_positioning),
            force_push_join_leave: said(&self.overrides.force_push_join_leave),
        };
        let expires_unix_ms = match u64::try_from(self.expire_at) {
            Ok(0) => None,
            Ok(seconds) => Some(seconds.saturating_mul(1000)),
            Err(_) => return Err(ErrorCode::BadRequest),
        };
        Ok(ApiRequest::Subscribe {
            target,
            channel: self.channel.shared(),
            info: payload(self.info, &self.b64info)?.map(Arc::from),
            data: payload(self.data, &self.b64data)?.map(Arc::from),
            recover_since: self
                .recover_since
                .as_ref()
                .map(|since| Position { offset: since.offset, epoch: since.epoch.shared() }),
            overrides,
            expires_unix_ms,
        })
    }

    fn refresh(&self) -> Result<ApiRequest, ErrorCode> {
        let expire_at = u64::try_from(self.expire_at).map_err(|_| ErrorCode::BadRequest)?;
        let info = payload(self.info, &self.b64info)?.map(Arc::from);
        let refresh = Refresh { expired: self.expired, expire_at, info };
        Ok(ApiRequest::Refresh { target: self.target()?, refresh })
    }

    fn disconnect(&self) -> Result<ApiRequest, ErrorCode> {
        let disconnect = match &self.disconnect {
            None => Disconnect::FORCE,
            Some(close) if close.code == 0 && close.reason.0.is_empty() => Disconnect::FORCE,
            Some(close) if !(3000..5000).contains(&close.code) || close.reason.0.len() > REASON_MAX => {
                return Err(ErrorCode::BadRequest);
            }
            Some(close) => {
                Disconnect { code: close.code, reason: Cow::Owned(close.reason.0.clone().into_owned()) }
            }
        };
        Ok(ApiRequest::Disconnect {
            target: self.target()?,
            whitelist: self.whitelist.iter().map(Text::boxed).collect(),
            disconnect,
        })
    }
}

pub fn subscribe(json: &str) -> Decoded {
    Ok(object::<Whom<'_>>(json)?.subscribe())
}

pub fn unsubscribe(json: &str) -> Decoded {
    let whom: Whom<'_> = object(json)?;
    Ok(whom.target().map(|target| ApiRequest::Unsubscribe { target, channel: whom.channel.shared() }))
}

pub fn refresh(json: &str) -> Decoded {
    Ok(object::<Whom<'_>>(json)?.refresh())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Deny<'a> {
    #[serde(borrow)]
    user: Text<'a>,
    uid: Text<'a>,
    channel: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    issued_before: u64,
    #[serde(deserialize_with = "or_default")]
    expire_at: u64,
}

/// Error 107 when nobody, or no token, is named.
fn deny(json: &str, named: fn(&Deny<'_>) -> Arc<str>, make: fn(Arc<str>, &Deny<'_>) -> Denial) -> Decoded {
    let asked: Deny<'_> = object(json)?;
    let name = named(&asked);
    if name.is_empty() {
        return Ok(Err(ErrorCode::BadRequest));
    }
    Ok(Ok(ApiRequest::Deny(make(name, &asked))))
}

pub fn block_user(json: &str) -> Decoded {
    deny(json, |it| it.user.shared(), |user, it| Denial::Block { user, expire_at: it.expire_at })
}

pub fn unblock_user(json: &str) -> Decoded {
    deny(json, |it| it.user.shared(), |user, _| Denial::Unblock { user })
}

pub fn revoke_token(json: &str) -> Decoded {
    deny(json, |it| it.uid.shared(), |id, it| Denial::Revoke { id, expire_at: it.expire_at })
}

pub fn invalidate_user_tokens(json: &str) -> Decoded {
    deny(
        json,
        |it| it.user.shared(),
        |user, it| {
            let (issued_before, expire_at) = (it.issued_before, it.expire_at);
            Denial::Invalidate { user, channel: it.channel.shared(), issued_before, expire_at }
        },
    )
}

pub fn disconnect(json: &str) -> Decoded {
    Ok(object::<Whom<'_>>(json)?.disconnect())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Channel<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    limit: i32,
    since: Option<Since<'a>>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
    pattern: Text<'a>,
}

fn of_channel(json: &str, request: impl FnOnce(Arc<str>, &Channel<'_>) -> ApiRequest) -> Decoded {
    let asked: Channel<'_> = object(json)?;
    if asked.channel.0.is_empty() {
        return Ok(Err(ErrorCode::BadRequest));
    }
    Ok(Ok(request(asked.channel.shared(), &asked)))
}

pub fn presence(json: &str) -> Decoded {
    of_channel(json, |channel, _| ApiRequest::Presence { channel })
}

pub fn presence_stats(json: &str) -> Decoded {
    of_channel(json, |channel, _| ApiRequest::PresenceStats { channel })
}

pub fn history(json: &str) -> Decoded {
    of_channel(json, |channel, asked| ApiRequest::History {
        channel,
        limit: asked.limit,
        since: asked.since.as_ref().map(|since| (since.offset, since.epoch.boxed())),
        reverse: asked.reverse,
    })
}

pub fn history_remove(json: &str) -> Decoded {
    of_channel(json, |channel, _| ApiRequest::HistoryRemove { channel })
}

pub fn channels(json: &str) -> Decoded {
    let asked: Channel<'_> = object(json)?;
    Ok(Ok(ApiRequest::Channels { pattern: asked.pattern.boxed() }))
}

pub fn info(json: &str) -> Decoded {
    object::<Channel<'_>>(json)?;
    Ok(Ok(ApiRequest::Info))
}

/// Calls what the application handles: nothing yet.
pub fn rpc(json: &str) -> Decoded {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Rpc {
        method: String,
    }
    let rpc: Rpc = object(json)?;
    Ok(Err(if rpc.method.is_empty() { ErrorCode::BadRequest } else { ErrorCode::MethodNotFound }))
}
