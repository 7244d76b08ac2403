//! Tokens: JSON Web Tokens (RFC 7519) of connections and subscriptions, from text to claims or to a refusal.
//!
//! What a token may be signed with is decided by the configured keys, never by the token: each key verifies its own
//! algorithms only, and `none` is none of them. Keys and expressions are parsed once, when a [`Verifier`] is made.
//!
//! A token longer than `client.token.size_max` is refused before anything in it is looked at, and nothing of
//! its claims is looked at before its signature is found good. There is no leeway for clocks: a token is
//! expired in the millisecond its `exp` names.
//!
//! Keys may also come from a JWKS endpoint (`client.token.jwks_public_endpoint`): then a token may ask for a key
//! that is not known yet, which is [`Refused::Key`], and [`Verifier::plan`] says what to do. There issuer and
//! audience are looked at before the signature, because they say where the key is.
//!
//! Not here: what a session does with the claims, the fetching itself, and the clock.

mod caps;
mod claims;
mod fetched;
mod fuzz;
mod jwks;
mod jwt;
mod keys;
mod sign;
#[cfg(test)]
mod tests;
mod track;
mod verify;

pub use caps::{Allow, Caps};
pub use claims::{ConnectClaims, Overrides, ServerSub, SubscribeClaims};
pub use fetched::{Plan, REFETCH_MS};
#[doc(hidden)]
pub use fuzz::{caps as fuzz_caps, key_sets as fuzz_key_sets, tokens as fuzz};
pub use jwks::KeySet;
pub use sign::{Hs, sign};
#[cfg(test)]
pub use track::sign_tracked;
pub use track::{TrackRefused, TrackVerifier, Tracked};
pub use verify::{Refused, Verifier, check};
