//! Tokens: JSON Web Tokens (RFC 7519) of connections and subscriptions, from text to claims or to a refusal.
//!
//! What a token may be signed with is decided by the configured keys, never by the token: each key verifies its own
//! algorithms only, and `none` is none of them. Keys and expressions are parsed once, when a [`Verifier`] is made.
//!
//! A token longer than `client.token.size_max` is refused before anything in it is looked at, and nothing of
//! its claims is looked at before its signature is found good. There is no leeway for clocks: a token is
//! expired in the millisecond its `exp` names.
//!
//! Not here: what a session does with the claims, fetching keys, and the clock.

mod claims;
mod fuzz;
mod jwt;
mod keys;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::{ConnectClaims, Overrides, ServerSub, SubscribeClaims};
#[doc(hidden)]
pub use fuzz::tokens as fuzz;
pub use sign::{Hs, sign};
pub use verify::{Refused, Verifier, check};
