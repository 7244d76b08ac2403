//! Capabilities: what a connection token allows its connection to do with channels, beyond their options.

use super::verify::Refused;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use std::borrow::Cow;

/// Bytes one expression of a token may need, compiled: it stays with its connection.
const REGEX_SIZE_MAX: usize = 64 * 1024;

/// Expressions in one token.
const REGEXES_MAX: usize = 8;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Allow(u8);

impl Allow {
    pub const SUBSCRIBE: Self = Self(1);
    pub const PUBLISH: Self = Self(2);
    pub const PRESENCE: Self = Self(4);
    pub const HISTORY: Self = Self(8);

    /// What no server knows allows nothing.
    fn named(name: &str) -> Self {
        match name {
            "sub" => Self::SUBSCRIBE,
            "pub" => Self::PUBLISH,
            "prs" => Self::PRESENCE,
            "hst" => Self::HISTORY,
            _ => Self(0),
        }
    }
}

/// The capabilities of a connection: each allows something with the channels it names.
#[derive(Clone, Debug, Default)]
pub struct Caps(Box<[Cap]>);

#[derive(Clone, Debug)]
struct Cap {
    channels: Box<[Pattern]>,
    allow: Allow,
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(Box<str>),
    /// `*` stands for any bytes or none.
    Wildcard(Box<str>),
    Regex(Regex),
}

impl Pattern {
    fn matches(&self, channel: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *channel,
            Self::Wildcard(pattern) => wildcard(pattern, channel),
            Self::Regex(regex) => regex.is_match(channel),
        }
    }
}

/// As they stand in a token.
#[derive(Deserialize)]
pub struct RawCap<'a> {
    #[serde(default, borrow)]
    channels: Vec<Cow<'a, str>>,
    #[serde(default, borrow)]
    allow: Vec<Cow<'a, str>>,
    #[serde(default, borrow)]
    r#match: Option<Cow<'a, str>>,
}

impl Caps {
    /// # Errors
    /// [`Refused::Claims`]: a kind of match nobody knows, an expression that is none or too big, too many.
    pub fn read(raw: &[RawCap<'_>]) -> Result<Self, Refused> {
        let mut regexes = 0;
        let mut pattern = |text: &str, kind: &str| match kind {
            "" | "exact" => Ok(Pattern::Exact(text.into())),
            "wildcard" => Ok(Pattern::Wildcard(text.into())),
            "regex" => {
                regexes += 1;
                let mut regex = RegexBuilder::new(text);
                let regex = regex.size_limit(REGEX_SIZE_MAX).dfa_size_limit(REGEX_SIZE_MAX).build();
                let regex = regex.ok().filter(|_| regexes <= REGEXES_MAX);
                regex.map(Pattern::Regex).ok_or(Refused::Claims)
            }
            _ => Err(Refused::Claims),
        };
        let mut caps = Vec::with_capacity(raw.len());
        for raw in raw {
            let kind = raw.r#match.as_deref().unwrap_or_default();
            let channels: Result<_, _> = raw.channels.iter().map(|channel| pattern(channel, kind)).collect();
            let allow = raw.allow.iter().fold(0, |all, name| all | Allow::named(name).0);
            caps.push(Cap { channels: channels?, allow: Allow(allow) });
        }
        Ok(Self(caps.into()))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them allows this with `channel`.
    #[must_use]
    pub fn allow(&self, what: Allow, channel: &str) -> bool {
        let by = |cap: &Cap| {
            cap.allow.0 & what.0 != 0 && cap.channels.iter().any(|pattern| pattern.matches(channel))
        };
        self.0.iter().any(by)
    }
}

/// Whether `pattern` matches all of `name`: what stands between stars must come in order, the first part at the
/// beginning, the last at the end.
pub(super) fn wildcard(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_table() {
        let rows = [
            ("exact", "a", "a", true),
            ("", "a", "a", true),
            ("exact", "a*", "ab", false),
            ("wildcard", "a*", "ab", true),
            ("wildcard", "a*", "a", true),
            ("wildcard", "a*", "ba", false),
            ("wildcard", "*", "", true),
            ("wildcard", "a?c", "abc", false),
            ("wildcard", "a*b*c", "a-c-b-c", true),
            ("wildcard", "a*b*c", "a-c-b", false),
            ("wildcard", "ab*ba", "aba", false),
            ("wildcard", "*x*", "axb", true),
            ("wildcard", "ab", "abc", false),
            ("regex", "^a[0-9]+$", "a12", true),
            ("regex", "^a[0-9]+$", "a12b", false),
        ];
        for (kind, pattern, channel, want) in rows {
            let json = format!(r#"[{{"channels":["{pattern}"],"allow":["pub","x"],"match":"{kind}"}}]"#);
            let caps = Caps::read(&serde_json::from_str::<Vec<RawCap<'_>>>(&json).unwrap()).unwrap();
            assert_eq!(caps.allow(Allow::PUBLISH, channel), want, "{kind} {pattern} {channel}");
            for other in [Allow::SUBSCRIBE, Allow::PRESENCE, Allow::HISTORY] {
                assert!(!caps.allow(other, channel), "{kind} {pattern} {channel} {other:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let many = format!(r#"[{{"channels":[{}"a"],"match":"regex"}}]"#, r#""a","#.repeat(REGEXES_MAX));
        let rows = [
            r#"[{"channels":["a"],"match":"prefix"}]"#,
            r#"[{"channels":["("],"match":"regex"}]"#,
            r#"[{"channels":["\\w{1000}"],"match":"regex"}]"#,
            &many,
        ];
        for json in rows {
            let raw: Vec<RawCap<'_>> = serde_json::from_str(json).unwrap();
            assert_eq!(Caps::read(&raw).map(drop), Err(Refused::Claims), "{json}");
        }
    }

    /// Against the slow way to say the same.
    #[test]
    fn wildcards_are_what_backtracking_says() {
        fn slow(pattern: &[u8], name: &[u8]) -> bool {
            match (pattern, name) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
                ([a, pattern @ ..], [b, name @ ..]) if a == b => slow(pattern, name),
                _ => false,
            }
        }
        arbtest::arbtest(|u| {
            let mut text = |most, letters: &[char]| -> arbitrary::Result<String> {
                (0..u.int_in_range(0..=most)?).map(|_| u.choose(letters).copied()).collect()
            };
            let (pattern, name) = (text(6, &['a', 'b', '*', '*'])?, text(8, &['a', 'b'])?);
            assert_eq!(
                wildcard(&pattern, &name),
                slow(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
            Ok(())
        });
    }
}
