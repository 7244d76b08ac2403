//! The outer form of a token: three parts of base64url without padding, the first of them a header.

use super::verify::Refused;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

/// What a token can be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default, borrow)]
    kid: Option<Cow<'a, str>>,
    /// Extensions that must be understood (RFC 7515 §4.1.11): none are.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// A token taken apart; nothing in it is known to be true.
#[derive(Debug)]
pub struct Parts<'a> {
    pub algorithm: Algorithm,
    /// Which key signed it, by its own word.
    pub key_id: Option<Box<str>>,
    /// Header and payload as they were signed.
    pub signed: &'a str,
    payload: &'a str,
    pub signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// The caller has checked the length of `token`.
    pub fn read(token: &'a str) -> Result<Self, Refused> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refused::Malformed)?;
        if payload.contains('.') {
            return Err(Refused::Malformed);
        }
        let header = decode(header)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| Refused::Malformed)?;
        if header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Refused::Algorithm)?;
        let key_id = header.kid.as_deref().map(Box::from);
        Ok(Self { algorithm, key_id, signed, payload, signature: decode(signature)? })
    }

    /// The claims as JSON text.
    pub fn payload(&self) -> Result<Vec<u8>, Refused> {
        decode(self.payload)
    }
}

/// Canonical base64url only: no padding, no bits left over, no dots.
fn decode(text: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Malformed)
}
