//! A set of public keys as JSON (RFC 7517): what a JWKS endpoint answers.

use super::{jwt::Algorithm, keys, verify::Refused};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::borrow::Cow;

/// Keys of one set that are looked at.
const KEYS_MAX: usize = 100;

/// Sizes of RSA keys, 2048 to 8192 bits, maybe with a zero in front.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1025;

/// Keys by their ids. Those this server cannot use (other types, for encryption, without an id) are left out.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

/// One key, made ready for each algorithm it may sign with.
#[derive(Debug)]
pub struct Key {
    id: Box<str>,
    by_algorithm: Vec<(Algorithm, ParsedPublicKey)>,
}

#[derive(Deserialize)]
struct RawSet<'a> {
    #[serde(borrow)]
    keys: Vec<RawKey<'a>>,
}

#[derive(Deserialize)]
struct RawKey<'a> {
    #[serde(default, borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(default, borrow)]
    r#use: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    crv: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    n: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    e: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    y: Option<Cow<'a, str>>,
}

fn decode(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

impl RawKey<'_> {
    fn parsed(&self) -> Option<Vec<(Algorithm, ParsedPublicKey)>> {
        match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => {
                let (modulus, exponent) = (decode(self.n.as_deref())?, decode(self.e.as_deref())?);
                let keys = keys::rsa(&rsa_der(&modulus, &exponent))?;
                if !RSA_BYTES.contains(&modulus.len()) {
                    return None;
                }
                Some([Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512].into_iter().zip(keys).collect())
            }
            ("EC", Some(curve)) => {
                let (x, y) = (decode(self.x.as_deref())?, decode(self.y.as_deref())?);
                let (algorithm, key) = keys::ecdsa(&[&[4], &*x, &*y].concat())?;
                (curve_of(algorithm) == Some(curve)).then(|| vec![(algorithm, key)])
            }
            ("OKP", Some("Ed25519")) => {
                let key = ParsedPublicKey::new(&ED25519, decode(self.x.as_deref())?).ok()?;
                Some(vec![(Algorithm::EdDsa, key)])
            }
            _ => None,
        }
    }

    fn read(&self) -> Option<Key> {
        let id = self.kid.as_deref().filter(|id| !id.is_empty())?.into();
        if self.r#use.as_deref().is_some_and(|it| it != "sig") {
            return None;
        }
        let mut by_algorithm = self.parsed()?;
        if let Some(named) = &self.alg {
            by_algorithm.retain(|(algorithm, _)| Algorithm::named(named) == Some(*algorithm));
        }
        Some(Key { id, by_algorithm })
    }
}

fn curve_of(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Es256 => Some("P-256"),
        Algorithm::Es384 => Some("P-384"),
        Algorithm::Es512 => Some("P-521"),
        _ => None,
    }
}

/// PKCS #1: a sequence of modulus and exponent.
fn rsa_der(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = content.len().to_be_bytes();
        let len = &len[len.iter().take_while(|byte| **byte == 0).count()..];
        let mut der = vec![tag];
        if content.len() >= 0x80 {
            der.push(0x80 | len.len() as u8);
        }
        der.extend_from_slice(if content.is_empty() { &[0] } else { len });
        der.extend_from_slice(content);
        der
    }
    fn integer(bytes: &[u8]) -> Vec<u8> {
        let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        let sign: &[u8] = if bytes.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
        tagged(2, &[sign, bytes].concat())
    }
    tagged(0x30, &[integer(modulus), integer(exponent)].concat())
}

impl KeySet {
    /// # Errors
    /// Why these bytes are no set of keys, or one without a key that can be used.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let raw: RawSet<'_> = serde_json::from_slice(json).map_err(|error| format!("no key set: {error}"))?;
        let keys: Vec<_> = raw.keys.iter().take(KEYS_MAX).filter_map(RawKey::read).collect();
        if keys.is_empty() {
            return Err("a key set without a key that can be used here".into());
        }
        Ok(Self(keys))
    }

    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| *key.id == *id)
    }
}

impl Key {
    /// # Errors
    /// [`Refused::Algorithm`] when the key does not sign so, [`Refused::Signature`] when it did not sign this.
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let key = self.by_algorithm.iter().find(|(own, _)| *own == algorithm).ok_or(Refused::Algorithm)?;
        key.1.verify_sig(message, signature).map_err(|_| Refused::Signature)
    }
}
