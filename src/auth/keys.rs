//! Keys: parsed once, each for its own algorithms.

use super::{jwt::Algorithm, verify::Refused};
use crate::config::Token;
use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        VerificationAlgorithm,
    },
};

/// Every key of one section of settings.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    hmac: Option<Hmac>,
    previous: Option<Previous>,
    rsa: Option<[ParsedPublicKey; 3]>,
    ecdsa: Option<(Algorithm, ParsedPublicKey)>,
    ed25519: Option<ParsedPublicKey>,
}

/// One secret, made ready for 256, 384 and 512 bits.
#[derive(Clone, Debug)]
struct Hmac([hmac::Key; 3]);

#[derive(Clone, Debug)]
struct Previous {
    key: Hmac,
    /// Milliseconds since 1970; `u64::MAX`: for ever.
    until_ms: u64,
}

impl Hmac {
    fn new(secret: &str) -> Option<Self> {
        let key = |algorithm| hmac::Key::new(algorithm, secret.as_bytes());
        (!secret.is_empty()).then(|| Self([hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512].map(key)))
    }

    /// In constant time.
    fn is_right(&self, size: usize, message: &[u8], signature: &[u8]) -> bool {
        self.0.get(size).is_some_and(|key| hmac::verify(key, message, signature).is_ok())
    }
}

impl Keys {
    /// The keys of `token`. A key that is none is left out, and told to `wrong` by the name of its option.
    pub fn new(token: &Token, wrong: &mut dyn FnMut(&'static str, String)) -> Self {
        let previous = Hmac::new(&token.hmac_previous_secret_key).map(|key| {
            let until_ms = match token.hmac_previous_secret_key_valid_until {
                0 => u64::MAX,
                seconds => seconds.saturating_mul(1000),
            };
            Previous { key, until_ms }
        });
        let mut key = |name, text: &str, parse: &dyn Fn(&[u8]) -> Option<Parsed>, wanted: &str| {
            if text.is_empty() {
                return None;
            }
            let parsed = public_key(text).and_then(|der| parse(&der).ok_or_else(|| wanted.to_owned()));
            parsed.map_err(|reason| wrong(name, reason)).ok()
        };
        let rsa = key(
            "rsa_public_key",
            &token.rsa_public_key,
            &|der| rsa(der).map(Parsed::Rsa),
            "is no RSA public key of 2048 to 8192 bits",
        );
        let ecdsa = key(
            "ecdsa_public_key",
            &token.ecdsa_public_key,
            &|der| ecdsa(der).map(|(algorithm, key)| Parsed::Ecdsa(algorithm, key)),
            "is no ECDSA public key on P-256, P-384 or P-521",
        );
        let ed25519 = key(
            "ed25519_public_key",
            &token.ed25519_public_key,
            &|der| ParsedPublicKey::new(&ED25519, der).ok().map(Parsed::Ed25519),
            "is no Ed25519 public key",
        );
        Self {
            hmac: Hmac::new(&token.hmac_secret_key),
            previous,
            rsa: rsa.and_then(|it| if let Parsed::Rsa(keys) = it { Some(keys) } else { None }),
            ecdsa: ecdsa.and_then(|it| if let Parsed::Ecdsa(a, key) = it { Some((a, key)) } else { None }),
            ed25519: ed25519.and_then(|it| if let Parsed::Ed25519(key) = it { Some(key) } else { None }),
        }
    }

    /// Whether `signature` is one of `message` by the key that is there for this algorithm.
    ///
    /// # Errors
    /// [`Refused::Algorithm`] when there is no such key, [`Refused::Signature`] when it did not sign this.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
        unix_ms: u64,
    ) -> Result<(), Refused> {
        let by_secret = |size| {
            let previous = self.previous.as_ref();
            if self.hmac.is_none() && previous.is_none() {
                return Err(Refused::Algorithm);
            }
            let now = self.hmac.as_ref().is_some_and(|key| key.is_right(size, message, signature));
            let before = || {
                previous.is_some_and(|it| unix_ms < it.until_ms && it.key.is_right(size, message, signature))
            };
            if now || before() { Ok(()) } else { Err(Refused::Signature) }
        };
        let by_key = |key: Option<&ParsedPublicKey>| {
            let key = key.ok_or(Refused::Algorithm)?;
            key.verify_sig(message, signature).map_err(|_| Refused::Signature)
        };
        let rsa = |size: usize| by_key(self.rsa.as_ref().and_then(|keys| keys.get(size)));
        match algorithm {
            Algorithm::Hs256 => by_secret(0),
            Algorithm::Hs384 => by_secret(1),
            Algorithm::Hs512 => by_secret(2),
            Algorithm::Rs256 => rsa(0),
            Algorithm::Rs384 => rsa(1),
            Algorithm::Rs512 => rsa(2),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                by_key(self.ecdsa.as_ref().filter(|(own, _)| *own == algorithm).map(|(_, key)| key))
            }
            Algorithm::EdDsa => by_key(self.ed25519.as_ref()),
        }
    }
}

enum Parsed {
    Rsa([ParsedPublicKey; 3]),
    Ecdsa(Algorithm, ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// The bytes in a PEM text, or what the text is instead.
fn public_key(text: &str) -> Result<Vec<u8>, String> {
    let block = pem::parse(text).map_err(|_| {
        "is no PEM: that begins with -----BEGIN PUBLIC KEY----- on a line of its own".to_owned()
    })?;
    match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Ok(block.into_contents()),
        tag if tag.contains("PRIVATE KEY") => {
            Err("is a private key: keep it where tokens are made, and put the public key here".to_owned())
        }
        _ => Err("is PEM, but not of a PUBLIC KEY".to_owned()),
    }
}

pub fn rsa(der: &[u8]) -> Option<[ParsedPublicKey; 3]> {
    let key = |algorithm: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(algorithm, der).ok();
    Some([
        key(&RSA_PKCS1_2048_8192_SHA256)?,
        key(&RSA_PKCS1_2048_8192_SHA384)?,
        key(&RSA_PKCS1_2048_8192_SHA512)?,
    ])
}

pub fn ecdsa(der: &[u8]) -> Option<(Algorithm, ParsedPublicKey)> {
    let curves: [(Algorithm, &'static dyn VerificationAlgorithm); 3] = [
        (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED),
        (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED),
        (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED),
    ];
    curves.into_iter().find_map(|(name, algorithm)| Some((name, ParsedPublicKey::new(algorithm, der).ok()?)))
}
