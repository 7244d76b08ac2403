//! From the text of a token to its claims, or to why it is refused.

use super::{
    claims::{Claims, ConnectClaims, SubscribeClaims},
    jwt::Parts,
    keys::Keys,
};
use crate::config::{Client, Token};
use regex::{Regex, RegexBuilder};

/// Compiled bytes of one expression of the configuration.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// Why a token is refused. The text is for operators; clients get a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("longer than size_max")]
    TooLong,
    #[error("not three parts of base64url without padding with a header this server understands")]
    Malformed,
    #[error("no key is configured for the algorithm its header names")]
    Algorithm,
    #[error("the key that is configured for its algorithm did not sign it")]
    Signature,
    #[error("a claim is not of the type it must have, or is given twice")]
    Claims,
    #[error("a token of a connection has no channel, one of a subscription has one")]
    Purpose,
    #[error("its audience (aud) is not the configured one")]
    Audience,
    #[error("its issuer (iss) is not the configured one")]
    Issuer,
    #[error("expired {} s ago (exp)", ago_ms / 1000)]
    Expired { ago_ms: u64 },
    #[error("not valid for another {} s (nbf)", in_ms.div_ceil(1000))]
    NotYet { in_ms: u64 },
}

/// Judges tokens by one section of the settings. The default one has no keys and refuses everything.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    keys: Keys,
    audience: Wanted,
    issuer: Wanted,
    user_claim: String,
    size_max: usize,
    skip_signature: bool,
}

/// What a claim must be.
#[derive(Clone, Debug, Default)]
struct Wanted {
    /// Empty: anything.
    text: String,
    regex: Option<Regex>,
}

impl Wanted {
    fn new(text: &str, regex: &str, wrong: &mut dyn FnMut(String)) -> Self {
        let compile = |regex| RegexBuilder::new(regex).size_limit(REGEX_SIZE_MAX).build();
        let regex = (!regex.is_empty()).then(|| {
            compile(regex).map_err(|error| wrong(format!("is no regular expression: {error}"))).ok()
        });
        Self { text: text.to_owned(), regex: regex.flatten() }
    }

    fn is_met<'a>(&self, mut given: impl Iterator<Item = &'a str> + Clone) -> bool {
        (self.text.is_empty() || given.clone().any(|it| it == self.text))
            && self.regex.as_ref().is_none_or(|regex| given.any(|it| regex.is_match(it)))
    }
}

/// Every key and expression of the settings that is none, with the reason.
#[must_use]
pub fn check(client: &Client) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (section, token) in
        [("client.token", &client.token), ("client.subscription_token", &client.subscription_token.token)]
    {
        let mut wrong = |name: &str, reason| problems.push((format!("{section}.{name}"), reason));
        Verifier::build(token, false, &mut wrong);
    }
    problems
}

impl Verifier {
    /// For the tokens of connections.
    ///
    /// Keys that are none are left out, so that tokens they would have signed are refused; [`check`] tells
    /// them apart when the settings are loaded.
    #[must_use]
    pub fn of_connections(client: &Client) -> Self {
        Self::build(&client.token, client.insecure_skip_token_signature_verify, &mut |_, _| {})
    }

    /// For the tokens of subscriptions; as [`Verifier::of_connections`].
    #[must_use]
    pub fn of_subscriptions(client: &Client) -> Self {
        let own = &client.subscription_token;
        let token = if own.enabled { &own.token } else { &client.token };
        Self::build(token, client.insecure_skip_token_signature_verify, &mut |_, _| {})
    }

    fn build(token: &Token, skip_signature: bool, wrong: &mut dyn FnMut(&'static str, String)) -> Self {
        Self {
            keys: Keys::new(token, wrong),
            audience: Wanted::new(&token.audience, &token.audience_regex, &mut |it| {
                wrong("audience_regex", it);
            }),
            issuer: Wanted::new(&token.issuer, &token.issuer_regex, &mut |it| wrong("issuer_regex", it)),
            user_claim: token.user_id_claim.clone(),
            size_max: token.size_max,
            skip_signature,
        }
    }

    /// The claims of a connection token at this time.
    ///
    /// # Errors
    /// The first reason to refuse it, in the order: length, form, algorithm, signature, types, audience,
    /// issuer, time, purpose.
    pub fn connect(&self, token: &str, unix_ms: u64) -> Result<ConnectClaims, Refused> {
        let payload = self.payload(token, unix_ms)?;
        self.claims(&payload, unix_ms)?.connect(&self.user_claim)
    }

    /// The claims of a subscription token at this time.
    ///
    /// # Errors
    /// As [`Verifier::connect`].
    pub fn subscribe(&self, token: &str, unix_ms: u64) -> Result<SubscribeClaims, Refused> {
        let payload = self.payload(token, unix_ms)?;
        self.claims(&payload, unix_ms)?.subscribe(&self.user_claim)
    }

    /// The payload of a token whose signature is good.
    fn payload(&self, token: &str, unix_ms: u64) -> Result<Vec<u8>, Refused> {
        if token.len() > self.size_max {
            return Err(Refused::TooLong);
        }
        let parts = Parts::read(token)?;
        if !self.skip_signature {
            self.keys.verify(parts.algorithm, parts.signed.as_bytes(), &parts.signature, unix_ms)?;
        }
        parts.payload()
    }

    fn claims<'a>(&self, payload: &'a [u8], unix_ms: u64) -> Result<Claims<'a>, Refused> {
        let claims = Claims::read(payload)?;
        if !self.audience.is_met(claims.audience().collect::<Vec<_>>().into_iter()) {
            return Err(Refused::Audience);
        }
        if !self.issuer.is_met(std::iter::once(claims.issuer())) {
            return Err(Refused::Issuer);
        }
        claims.check_time(unix_ms)?;
        Ok(claims)
    }
}
