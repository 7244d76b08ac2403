//! What a token says, with every claim of the type it must have.
//!
//! `null` is as good as absent; any other wrong type refuses the token, and so does a claim given twice.
//! Unknown claims are passed over.

use super::{
    caps::{Caps, RawCap},
    verify::Refused,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

/// Bytes as a client is sent them: JSON as it stood in the token, or what was base64 there.
type Bytes = Option<Arc<[u8]>>;

/// Who a client is.
#[derive(Clone, Debug, Default)]
pub struct ConnectClaims {
    /// Empty: anonymous.
    pub user: Box<str>,
    /// When the connection's time is up, in milliseconds since 1970; may have passed. `None`: never.
    pub expires_unix_ms: Option<u64>,
    /// Shown to others, beside the user.
    pub info: Bytes,
    /// For backends, never sent to clients.
    pub meta: Bytes,
    /// Server-side subscriptions, by name, each once.
    pub subs: Vec<ServerSub>,
    /// What the connection may do beyond what the options of channels allow.
    pub caps: Caps,
    /// The token's own id (`jti`); empty: it has none.
    pub id: Box<str>,
    /// When it was made (`iat`), in milliseconds since 1970; `None`: it does not say.
    pub issued_unix_ms: Option<u64>,
}

/// A subscription that comes with the connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServerSub {
    pub channel: Box<str>,
    pub info: Bytes,
    /// Sent to the client when it is subscribed.
    pub data: Bytes,
    pub overrides: Overrides,
}

/// That a client may subscribe.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SubscribeClaims {
    pub user: Box<str>,
    pub channel: Box<str>,
    /// Empty: any connection of the user.
    pub client: Box<str>,
    /// When the subscription's time is up; as [`ConnectClaims::expires_unix_ms`].
    pub expires_unix_ms: Option<u64>,
    pub info: Bytes,
    pub data: Bytes,
    pub overrides: Overrides,
    /// As those of [`ConnectClaims`].
    pub id: Box<str>,
    pub issued_unix_ms: Option<u64>,
}

/// Options of the channel that are otherwise for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Whether presence shows the subscriber.
    pub presence: Option<bool>,
    /// Whether its join and leave are announced.
    pub join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
    pub force_push_join_leave: Option<bool>,
}

/// Seconds since 1970, maybe with a fraction, as milliseconds; out of range at its end.
#[derive(Clone, Copy)]
struct Date(i64);

impl Date {
    /// 0 for what was before 1970.
    fn unix_ms(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Date;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }
            fn visit_i64<E>(self, seconds: i64) -> Result<Date, E> {
                Ok(Date(seconds.saturating_mul(1000)))
            }
            fn visit_u64<E>(self, seconds: u64) -> Result<Date, E> {
                Ok(Date(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)))
            }
            fn visit_f64<E>(self, seconds: f64) -> Result<Date, E> {
                // A cast of a float stops at the ends.
                Ok(Date((seconds * 1000.0) as i64))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(default, borrow)]
    sub: Option<Cow<'a, str>>,
    exp: Option<Date>,
    nbf: Option<Date>,
    iat: Option<Date>,
    #[serde(default, borrow)]
    jti: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    aud: Option<Audience<'a>>,
    #[serde(default, borrow)]
    iss: Option<Cow<'a, str>>,
    expire_at: Option<i64>,
    #[serde(default, borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    client: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    channels: Option<Vec<Cow<'a, str>>>,
    #[serde(default, borrow)]
    subs: Option<BTreeMap<Cow<'a, str>, Sub<'a>>>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(default, borrow)]
    b64info: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    b64data: Option<Cow<'a, str>>,
    r#override: Option<RawOverrides>,
    #[serde(default, borrow)]
    caps: Option<Vec<RawCap<'a>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

#[derive(Deserialize)]
struct Sub<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(default, borrow)]
    b64info: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    b64data: Option<Cow<'a, str>>,
    r#override: Option<RawOverrides>,
}

#[derive(Deserialize, Default)]
struct RawOverrides {
    presence: Option<Flag>,
    join_leave: Option<Flag>,
    force_recovery: Option<Flag>,
    force_positioning: Option<Flag>,
    force_push_join_leave: Option<Flag>,
}

/// A value that is not there is the one it has by itself, as in Protobuf: off.
#[derive(Deserialize)]
struct Flag {
    value: Option<bool>,
}

impl From<Option<RawOverrides>> for Overrides {
    fn from(raw: Option<RawOverrides>) -> Self {
        let raw = raw.unwrap_or_default();
        let value = |flag: Option<Flag>| flag.map(|flag| flag.value.unwrap_or_default());
        Self {
            presence: value(raw.presence),
            join_leave: value(raw.join_leave),
            force_recovery: value(raw.force_recovery),
            force_positioning: value(raw.force_positioning),
            force_push_join_leave: value(raw.force_push_join_leave),
        }
    }
}

fn bytes(json: Option<&RawValue>, b64: Option<&str>) -> Result<Bytes, Refused> {
    match (json, b64) {
        (_, Some(b64)) if !b64.is_empty() => {
            let bytes = STANDARD.decode(b64).map_err(|_| Refused::Claims)?;
            Ok(Some(bytes.into()))
        }
        (Some(json), _) => Ok(Some(json.get().as_bytes().into())),
        (None, _) => Ok(None),
    }
}

/// The claims of a signed payload, before any of them is judged.
pub struct Claims<'a>(Raw<'a>, &'a [u8]);

impl<'a> Claims<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self, Refused> {
        serde_json::from_slice(payload).map(|raw| Self(raw, payload)).map_err(|_| Refused::Claims)
    }

    pub fn issuer(&self) -> &str {
        self.0.iss.as_deref().unwrap_or_default()
    }

    pub fn audience(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match &self.0.aud {
            None => (None, &[][..]),
            Some(Audience::One(one)) => (Some(one), &[][..]),
            Some(Audience::Several(several)) => (None, several.as_slice()),
        };
        one.into_iter().chain(several).map(|it| &**it)
    }

    /// # Errors
    /// [`Refused::Expired`], [`Refused::NotYet`].
    pub fn check_time(&self, unix_ms: u64) -> Result<(), Refused> {
        let now = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        if let Some(Date(at)) = self.0.exp
            && at <= now
        {
            return Err(Refused::Expired { ago_ms: now.abs_diff(at) });
        }
        match self.0.nbf {
            Some(Date(at)) if at > now => Err(Refused::NotYet { in_ms: at.abs_diff(now) }),
            _ => Ok(()),
        }
    }

    /// `expire_at` if given, never where that is not above 0; otherwise `exp`.
    fn expires_unix_ms(&self) -> Option<u64> {
        let ms = match (self.0.expire_at, self.0.exp) {
            (Some(..=0), _) | (None, None) => return None,
            (Some(seconds), _) => seconds.saturating_mul(1000),
            (None, Some(Date(ms))) => ms,
        };
        Some(u64::try_from(ms).unwrap_or(0))
    }

    /// The user is `sub`, or what `claim` says when it is not empty: a text, or not there.
    fn user(&self, claim: &str) -> Result<Box<str>, Refused> {
        if claim.is_empty() {
            return Ok(self.0.sub.as_deref().unwrap_or_default().into());
        }
        let all: BTreeMap<Cow<'_, str>, &RawValue> =
            serde_json::from_slice(self.1).map_err(|_| Refused::Claims)?;
        let Some(found) = all.get(claim) else { return Ok("".into()) };
        let user: Option<String> = serde_json::from_str(found.get()).map_err(|_| Refused::Claims)?;
        Ok(user.unwrap_or_default().into())
    }

    /// # Errors
    /// [`Refused::Claims`]: not what a connection token says; a `channel` makes it a subscription token.
    pub fn connect(self, user_claim: &str) -> Result<ConnectClaims, Refused> {
        let (user, expires_unix_ms) = (self.user(user_claim)?, self.expires_unix_ms());
        let raw = self.0;
        if raw.channel.is_some_and(|channel| !channel.is_empty()) {
            return Err(Refused::Purpose);
        }
        let mut subs = Vec::new();
        for (channel, sub) in raw.subs.unwrap_or_default() {
            subs.push(ServerSub {
                channel: channel.into(),
                info: bytes(sub.info, sub.b64info.as_deref())?,
                data: bytes(sub.data, sub.b64data.as_deref())?,
                overrides: sub.r#override.into(),
            });
        }
        if subs.is_empty() {
            let mut names: Vec<_> = raw.channels.unwrap_or_default();
            names.sort_unstable();
            names.dedup();
            let sub = |name: Cow<'_, str>| ServerSub { channel: name.into(), ..ServerSub::default() };
            subs = names.into_iter().map(sub).collect();
        }
        if subs.iter().any(|sub| sub.channel.is_empty()) {
            return Err(Refused::Claims);
        }
        let info = bytes(raw.info, raw.b64info.as_deref())?;
        Ok(ConnectClaims {
            user,
            expires_unix_ms,
            info,
            meta: bytes(raw.meta, None)?,
            subs,
            caps: Caps::read(raw.caps.as_deref().unwrap_or_default())?,
            id: raw.jti.unwrap_or_default().into(),
            issued_unix_ms: raw.iat.map(Date::unix_ms),
        })
    }

    /// # Errors
    /// [`Refused::Claims`]: not what a subscription token says; [`Refused::Purpose`]: without a `channel`.
    pub fn subscribe(self, user_claim: &str) -> Result<SubscribeClaims, Refused> {
        let (user, expires_unix_ms) = (self.user(user_claim)?, self.expires_unix_ms());
        let raw = self.0;
        let channel = raw.channel.filter(|it| !it.is_empty()).ok_or(Refused::Purpose)?;
        Ok(SubscribeClaims {
            user,
            channel: channel.into(),
            client: raw.client.unwrap_or_default().into(),
            expires_unix_ms,
            info: bytes(raw.info, raw.b64info.as_deref())?,
            data: bytes(raw.data, raw.b64data.as_deref())?,
            overrides: raw.r#override.into(),
            id: raw.jti.unwrap_or_default().into(),
            issued_unix_ms: raw.iat.map(Date::unix_ms),
        })
    }
}
