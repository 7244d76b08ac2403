//! Making tokens by a shared secret: for the command line and tests. The server itself signs nothing.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// How many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hs {
    Hs256,
    Hs384,
    Hs512,
}

/// A token with these claims, which are JSON.
#[must_use]
pub fn sign(algorithm: Hs, secret: &str, claims: &str) -> String {
    let (name, algorithm) = match algorithm {
        Hs::Hs256 => ("HS256", hmac::HMAC_SHA256),
        Hs::Hs384 => ("HS384", hmac::HMAC_SHA384),
        Hs::Hs512 => ("HS512", hmac::HMAC_SHA512),
    };
    let header = format!(r#"{{"alg":"{name}","typ":"JWT"}}"#);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}
