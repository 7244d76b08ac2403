//! Keys that are fetched: which endpoint a token's key is at, what is known of it, and when to ask again.
//!
//! Keys are kept by endpoint **and** id: what one issuer's endpoint says never verifies the token of another.
//! Whoever sends tokens with ids nobody knows causes one fetch per [`REFETCH_MS`] and endpoint, however many they
//! are; in between such tokens are refused at once.

use super::jwks::KeySet;
use regex::Regex;
use std::{collections::HashMap, sync::Arc};

/// How long after a fetch another one of the same endpoint may be asked for.
pub const REFETCH_MS: u64 = 10_000;

/// Endpoints that are remembered: issuers can be many where the endpoint is a template.
const ENDPOINTS_MAX: usize = 256;

/// Where keys are: a URL, in which `{{name}}` stands for what the group of this name matched in the issuer or the
/// audience.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// Text, and the group that follows it.
    parts: Vec<(String, Option<String>)>,
}

impl Template {
    /// `any_group`: also groups that match more than a list of fixed texts.
    ///
    /// # Errors
    /// What is wrong with the text of the configuration.
    pub fn new(text: &str, regexes: &[Option<&Regex>], any_group: bool) -> Result<Self, String> {
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err("must begin with https:// or http://".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err("has {{ without }}".into());
            };
            let has = |regex: &&&Regex| regex.capture_names().flatten().any(|it| it == name);
            let mut having = regexes.iter().flatten().filter(has).peekable();
            if having.peek().is_none() {
                return Err(format!(
                    "names the group {name:?}, which neither issuer_regex nor audience_regex has"
                ));
            }
            if !any_group && !having.all(|regex| is_list(regex.as_str(), name)) {
                return Err(format!(
                    "is made with what the group {name:?} matched in a token nobody has verified yet: make it a list \
                     of fixed texts such as (?P<{name}>one|two), or say with \
                     insecure_skip_jwks_endpoint_safety_check that whatever matches may be asked for keys"
                ));
            }
            parts.push((before.to_owned(), Some(name.to_owned())));
            rest = after;
        }
        parts.push((rest.to_owned(), None));
        if parts[0].0.splitn(4, '/').count() < 4 && parts.len() > 1 {
            return Err("must name its host itself: a group may stand in the path only".into());
        }
        Ok(Self { parts })
    }

    /// The endpoint, or nothing when a group matched what has no place in a path.
    #[must_use]
    pub fn endpoint(&self, group: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut url = String::new();
        for (text, name) in &self.parts {
            url.push_str(text);
            if let Some(name) = name {
                let value = group(name)?;
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
                if value.is_empty() || value.starts_with('.') || !value.bytes().all(plain) {
                    return None;
                }
                url.push_str(&value);
            }
        }
        Some(url)
    }
}

/// Whether the group `name` of a regular expression is texts between bars, of letters, digits and escaped signs.
fn is_list(regex: &str, name: &str) -> bool {
    let after = |open: &str| regex.split_once(&format!("{open}{name}>")).map(|(_, after)| after);
    let Some(group) = after("(?P<").or_else(|| after("(?<")) else { return false };
    let mut chars = group.chars();
    while let Some(char) = chars.next() {
        let plain = match char {
            ')' => return true,
            '\\' => chars.next().is_some_and(|escaped| escaped.is_ascii_punctuation()),
            char => char.is_ascii_alphanumeric() || "|-_~".contains(char),
        };
        if !plain {
            return false;
        }
    }
    false
}

#[derive(Clone, Debug, Default)]
struct Endpoint {
    keys: Option<Arc<KeySet>>,
    /// The last fetch failed.
    failed: bool,
    /// Since when an answer is awaited.
    asked: bool,
    /// When the last answer came, or was given up.
    answered_ms: u64,
}

/// What to do with a token whose key is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Fetch from this endpoint, and wait.
    Fetch(Arc<str>),
    /// An answer of this endpoint is on its way.
    Wait(Arc<str>),
    /// The endpoint was asked just now: there is no such key.
    Refuse,
    /// The endpoint did not answer just now.
    Fail,
}

#[derive(Clone, Debug, Default)]
pub struct Fetched {
    endpoints: HashMap<Arc<str>, Endpoint>,
}

impl Fetched {
    #[must_use]
    pub fn keys(&self, endpoint: &str) -> Option<&KeySet> {
        self.endpoints.get(endpoint)?.keys.as_deref()
    }

    /// For a token whose key is not among [`Fetched::keys`].
    pub fn plan(&mut self, endpoint: &str, now_ms: u64) -> Plan {
        let known = self.endpoints.get_key_value(endpoint).map(|(name, _)| Arc::clone(name));
        let Some(name) = known else {
            self.make_room();
            let name: Arc<str> = endpoint.into();
            self.endpoints.insert(Arc::clone(&name), Endpoint { asked: true, ..Endpoint::default() });
            return Plan::Fetch(name);
        };
        let Some(state) = self.endpoints.get_mut(endpoint) else { return Plan::Fail };
        if state.asked {
            return Plan::Wait(name);
        }
        if now_ms < state.answered_ms.saturating_add(REFETCH_MS) {
            return if state.failed { Plan::Fail } else { Plan::Refuse };
        }
        state.asked = true;
        Plan::Fetch(name)
    }

    /// What an endpoint said; `None`: nothing that is a set of keys, and what it said before stays.
    pub fn take(&mut self, endpoint: &Arc<str>, keys: Option<Arc<KeySet>>, now_ms: u64) {
        if !self.endpoints.contains_key(endpoint) {
            self.make_room();
        }
        let state = self.endpoints.entry(Arc::clone(endpoint)).or_default();
        state.asked = false;
        state.failed = keys.is_none();
        state.answered_ms = now_ms;
        state.keys = keys.or(state.keys.take());
    }

    /// Forgets the endpoint that has not been heard of for longest.
    fn make_room(&mut self) {
        if self.endpoints.len() < ENDPOINTS_MAX {
            return;
        }
        let oldest = self.endpoints.iter().filter(|(_, state)| !state.asked);
        let oldest = oldest.min_by_key(|(_, state)| state.answered_ms).map(|(name, _)| Arc::clone(name));
        if let Some(oldest) = oldest.or_else(|| self.endpoints.keys().next().cloned()) {
            self.endpoints.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tokens_with_unknown_keys_cause_one_fetch() {
        let mut fetched = Fetched::default();
        let at: Arc<str> = "https://a/keys".into();
        let plans = |now_ms, fetched: &mut Fetched| -> Vec<Plan> {
            (0..50).map(|_| fetched.plan(&at, now_ms)).collect()
        };
        let first = plans(1_000, &mut fetched);
        assert_eq!(first[0], Plan::Fetch(at.clone()));
        assert!(first[1..].iter().all(|plan| *plan == Plan::Wait(at.clone())));
        fetched.take(&at, Some(Arc::default()), 1_100);
        assert!(plans(1_100, &mut fetched).iter().all(|plan| *plan == Plan::Refuse));
        assert!(plans(11_099, &mut fetched).iter().all(|plan| *plan == Plan::Refuse));
        assert_eq!(plans(11_100, &mut fetched)[0], Plan::Fetch(at.clone()));
        fetched.take(&at, None, 11_200);
        assert!(plans(11_300, &mut fetched).iter().all(|plan| *plan == Plan::Fail));
        assert!(fetched.keys(&at).is_some(), "what was known stays");
    }

    #[test]
    fn endpoints_are_bounded() {
        let mut fetched = Fetched::default();
        for n in 0..3 * ENDPOINTS_MAX as u64 {
            let at: Arc<str> = format!("https://a/{n}").into();
            assert_eq!(fetched.plan(&at, n), Plan::Fetch(at.clone()));
            if n % 2 == 0 {
                fetched.take(&at, None, n);
            }
            assert!(fetched.endpoints.len() <= ENDPOINTS_MAX);
        }
    }

    #[test]
    fn groups_are_lists_of_fixed_texts() {
        let list = Regex::new("(?P<realm>ours)").unwrap();
        for (regex, want) in [
            ("^https://id/(?P<realm>ours|theirs)$", true),
            ("(?<realm>a-1|b_2~|c\\.d)", true),
            ("^(.+)/(?P<realm>ours)$", true),
            ("(?P<realm>.+)", false),
            ("(?P<realm>a.c)", false),
            ("(?P<realm>[ab])", false),
            ("(?P<realm>ab?)", false),
            ("(?P<realm>ours|(x|y))", false),
            ("(?P<realm>\\w)", false),
            ("(?P<realm>a{2})", false),
        ] {
            let issuer = Regex::new(regex).unwrap();
            for regexes in [[Some(&issuer), None], [None, Some(&issuer)]] {
                let made = |any| Template::new("https://id/{{realm}}/keys", &regexes, any).is_ok();
                assert_eq!((made(false), made(true)), (want, true), "{regex}");
            }
            let both = Template::new("https://id/{{realm}}", &[Some(&list), Some(&issuer)], false);
            assert_eq!(both.is_ok(), want, "{regex} in one of both");
        }
    }

    #[test]
    fn templates_table() {
        let issuer = Regex::new("^https://id.example/(?P<realm>.+)$").unwrap();
        let make = |text: &str| Template::new(text, &[Some(&issuer), None], true);
        for bad in [
            "ftp://a/b",
            "https://a/{{x}}",
            "https://a/{{realm",
            "https://{{realm}}/keys",
            "https://a.{{realm}}/keys",
        ] {
            assert!(make(bad).is_err(), "{bad}");
        }
        let template = make("https://id.example/{{realm}}/keys").unwrap();
        let at = |realm: &str| template.endpoint(|_| Some(realm.to_owned()));
        assert_eq!(at("a-1").as_deref(), Some("https://id.example/a-1/keys"));
        for bad in ["", "..", ".a", "a/b", "a?b", "a%2e", "a#", "\u{e9}", "a b"] {
            assert_eq!(at(bad), None, "{bad:?}");
        }
        assert_eq!(template.endpoint(|_| None), None);
    }
}
