//! What signs tokens: a secret that the server has, or pairs of keys of somebody whom it asks for them, and who takes new
//! ones now and then.

use crate::{
    auth::{Hs, KeySet, sign},
    stdx::rng::Rng,
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as URL};
use std::sync::Arc;

pub const SECRET: &str = "secret";
pub const ENDPOINT: &str = "https://id/keys";

pub enum Signer {
    Secret,
    /// The last one signs.
    Pairs(Vec<Ed25519KeyPair>),
}

fn pair(rng: &mut Rng) -> Ed25519KeyPair {
    let mut seed = [0; 32];
    for part in seed.chunks_exact_mut(8) {
        part.copy_from_slice(&rng.next_u64().to_be_bytes());
    }
    Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed")
}

impl Signer {
    pub fn draw(rng: &mut Rng) -> Self {
        if rng.below(6) == 0 { Self::Pairs(vec![pair(rng)]) } else { Self::Secret }
    }

    /// How many keys there have been.
    pub fn count(&self) -> usize {
        match self {
            Self::Secret => 0,
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    /// A new key signs from now on.
    pub fn rotate(&mut self, rng: &mut Rng) {
        if let Self::Pairs(pairs) = self {
            pairs.push(pair(rng));
        }
    }

    /// The text of a token; `forged`: signed by another key than it says.
    pub fn sign(&self, claims: &str, forged: bool) -> String {
        match self {
            Self::Secret => sign(Hs::Hs256, if forged { "of somebody else" } else { SECRET }, claims),
            Self::Pairs(pairs) => {
                let id = pairs.len() - 1;
                let other = forged.then(|| pair(&mut Rng::new(0)));
                let header = format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#);
                let signed = format!("{}.{}", URL.encode(header), URL.encode(claims));
                let signature = other.as_ref().unwrap_or(&pairs[id]).sign(signed.as_bytes());
                format!("{signed}.{}", URL.encode(signature))
            }
        }
    }

    /// All keys, as whoever is asked for them says.
    pub fn keys(&self) -> Arc<KeySet> {
        let Self::Pairs(pairs) = self else { panic!("nobody to ask") };
        let key = |(id, pair): (usize, &Ed25519KeyPair)| {
            let x = URL.encode(pair.public_key().as_ref());
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}"#)
        };
        let keys: Vec<_> = pairs.iter().enumerate().map(key).collect();
        let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        Arc::new(KeySet::read(set.as_bytes()).expect("keys"))
    }
}
