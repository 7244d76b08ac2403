//! From the text of a token to its claims, or to why it is refused.

use super::{
    claims::{Claims, ConnectClaims, SubscribeClaims},
    fetched::{Fetched, Plan, Template},
    jwks::KeySet,
    jwt::Parts,
    keys::Keys,
};
use crate::config::{Client, Token};
use regex::{Regex, RegexBuilder};
use std::sync::Arc;

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
    #[error("its key (kid) is not among those of its JWKS endpoint, as far as they are known here")]
    Key,
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

impl Refused {
    /// Whether the token is good at another time: who brings a fresh one may come in.
    #[must_use]
    pub fn is_untimely(self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYet { .. })
    }
}

/// Judges tokens by one section of the settings. The default one has no keys and refuses everything.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    keys: Keys,
    /// Where keys come from instead, if they are fetched.
    endpoint: Option<Template>,
    fetched: Fetched,
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

    /// What the group of this name matched in the first of `given` that the expression matches.
    fn group(&self, given: &[&str], name: &str) -> Option<String> {
        let captures = given.iter().find_map(|it| self.regex.as_ref()?.captures(it))?;
        captures.name(name).map(|found| found.as_str().to_owned())
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
    for (section, token) in client.tokens() {
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
        let audience =
            Wanted::new(&token.audience, &token.audience_regex, &mut |it| wrong("audience_regex", it));
        let issuer = Wanted::new(&token.issuer, &token.issuer_regex, &mut |it| wrong("issuer_regex", it));
        let regexes = [issuer.regex.as_ref(), audience.regex.as_ref()];
        let endpoint = match token.jwks_public_endpoint.as_str() {
            "" => None,
            // One that is none is never fetched from.
            text => {
                let any_group = token.insecure_skip_jwks_endpoint_safety_check;
                Some(Template::new(text, &regexes, any_group).unwrap_or_else(|reason| {
                    wrong("jwks_public_endpoint", reason);
                    Template::default()
                }))
            }
        };
        Self {
            keys: Keys::new(token, wrong),
            endpoint,
            fetched: Fetched::default(),
            audience,
            issuer,
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

    /// What to do about a token that was refused for its [`Refused::Key`], at this time of the core's own clock.
    pub fn plan(&mut self, token: &str, now_ms: u64) -> Plan {
        let parts = Parts::read(token).and_then(|parts| parts.payload());
        match parts.and_then(|payload| self.endpoint_of(&payload)) {
            Ok(endpoint) => self.fetched.plan(&endpoint, now_ms),
            Err(_) => Plan::Refuse,
        }
    }

    /// What a JWKS endpoint said; `None`: nothing that can be used.
    pub fn take_keys(&mut self, endpoint: &Arc<str>, keys: Option<Arc<KeySet>>, now_ms: u64) {
        if self.endpoint.is_some() {
            self.fetched.take(endpoint, keys, now_ms);
        }
    }

    /// The payload of a token whose signature is good.
    fn payload(&self, token: &str, unix_ms: u64) -> Result<Vec<u8>, Refused> {
        if token.len() > self.size_max {
            return Err(Refused::TooLong);
        }
        let parts = Parts::read(token)?;
        let payload = parts.payload()?;
        if self.skip_signature {
            return Ok(payload);
        }
        let (signed, signature) = (parts.signed.as_bytes(), &parts.signature);
        if self.endpoint.is_none() {
            self.keys.verify(parts.algorithm, signed, signature, unix_ms)?;
            return Ok(payload);
        }
        let id = parts.key_id.as_deref().filter(|id| !id.is_empty()).ok_or(Refused::Malformed)?;
        let endpoint = self.endpoint_of(&payload)?;
        let key = self.fetched.keys(&endpoint).and_then(|keys| keys.find(id)).ok_or(Refused::Key)?;
        key.verify(parts.algorithm, signed, signature)?;
        Ok(payload)
    }

    /// Where the key of a token is, whose issuer and audience are good.
    fn endpoint_of(&self, payload: &[u8]) -> Result<String, Refused> {
        let claims = Claims::read(payload)?;
        self.check_origin(&claims)?;
        let issuer = [claims.issuer()];
        let audience: Vec<_> = claims.audience().collect();
        let group =
            |name: &str| self.issuer.group(&issuer, name).or_else(|| self.audience.group(&audience, name));
        let template = self.endpoint.as_ref().ok_or(Refused::Key)?;
        template.endpoint(group).filter(|endpoint| !endpoint.is_empty()).ok_or(Refused::Issuer)
    }

    fn check_origin(&self, claims: &Claims<'_>) -> Result<(), Refused> {
        if !self.audience.is_met(claims.audience().collect::<Vec<_>>().into_iter()) {
            return Err(Refused::Audience);
        }
        if !self.issuer.is_met(std::iter::once(claims.issuer())) {
            return Err(Refused::Issuer);
        }
        Ok(())
    }

    fn claims<'a>(&self, payload: &'a [u8], unix_ms: u64) -> Result<Claims<'a>, Refused> {
        let claims = Claims::read(payload)?;
        self.check_origin(&claims)?;
        claims.check_time(unix_ms)?;
        Ok(claims)
    }
}
