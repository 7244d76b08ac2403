//! What a value must be beyond its type, and how that is said.

use super::{duration, table::Kind};
use std::{net::IpAddr, time::Duration};

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Any,
    /// Integers from, to.
    Range(u64, u64),
    /// Integers from, to; 0 stands for the default.
    RangeOrDefault(u64, u64),
    /// Integers from, to; 0 is no limit, which is the greatest there may be.
    RangeOrMost(u64, u64),
    /// A power of two up to this.
    PowerOfTwo(u64),
    /// Durations from, to.
    Time(Duration, Duration),
    /// Durations from, to; zero stands for the default.
    TimeOrDefault(Duration, Duration),
    /// The same; a negative one is none.
    TimeOrOff(Duration, Duration),
    /// Zero, or a duration from, to.
    ZeroOrTime(Duration, Duration),
    Words(&'static [&'static str]),
    /// A path of an HTTP route.
    Path,
    /// An address to listen on.
    Address,
    /// A list of addresses and networks.
    Networks,
    /// Printable ASCII, up to 16 characters: it is searched in channel names. Empty: nothing is.
    Mark,
    /// The form of paths, or nothing.
    Form,
    /// A namespace's name.
    Name,
    /// Texts without spaces.
    Patterns,
    /// The name of a request header, or nothing.
    Header,
    /// The name of a claim, or nothing.
    Claim,
    /// A regular expression, or nothing.
    Regex,
    /// A list of sections that look like this.
    Shape(&'static str),
    /// Any text, never shown.
    Secret,
}

/// What zero stands for, where it does not mean itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    Default,
    /// This.
    Most(u64),
}

impl Rule {
    /// What a zero stands for; `None`: it is a value like others. As in Centrifugo, which writes zeros where nothing
    /// was said.
    pub fn zero(&self) -> Option<Zero> {
        match self {
            Self::RangeOrDefault(..) | Self::TimeOrDefault(..) | Self::TimeOrOff(..) => Some(Zero::Default),
            Self::RangeOrMost(_, most) => Some(Zero::Most(*most)),
            _ => None,
        }
    }

    /// What is allowed, to follow "must be".
    pub fn allowed(&self, kind: Kind) -> String {
        const EXAMPLE: &str = "such as \"25s\", \"1h30m\" or \"500ms\"";
        let range = |from: &u64, to: &u64| format!("an integer from {from} to {to}");
        let time = |from: &Duration, to: &Duration| {
            format!("a duration from {} to {} {EXAMPLE}", duration::show(*from), duration::show(*to))
        };
        match self {
            Self::Range(from, to) => range(from, to),
            Self::RangeOrDefault(from, to) => format!("{}, or 0 for the default", range(from, to)),
            Self::RangeOrMost(from, to) => format!("{}, or 0 for no limit", range(from, to)),
            Self::PowerOfTwo(to) => format!("a power of two from 1 to {to}"),
            Self::Time(from, to) => time(from, to),
            Self::TimeOrDefault(from, to) => format!("{}, or \"0s\" for the default", time(from, to)),
            Self::TimeOrOff(from, to) => {
                format!("{}, \"0s\" for the default, or \"-1s\" for none", time(from, to))
            }
            Self::ZeroOrTime(from, to) => format!("\"0s\" or {}", time(from, to)),
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                let words = words.join(" or ");
                if kind == Kind::List { format!("a list of {words}") } else { words }
            }
            Self::Path => {
                "a path such as \"/metrics\": \"/\" and letters, digits, - _ . ~ /, not \"/\" at the end"
                    .into()
            }
            Self::Address => "an IPv4 or IPv6 address, \"localhost\", or \"\" for all addresses".into(),
            Self::Networks => "a list of addresses or networks such as \"10.0.0.0/8\"".into(),
            Self::Mark => "up to 16 printable ASCII characters without space".into(),
            Self::Form => {
                "a form such as \"/users/:id\": segments behind slashes, those with a colon any".into()
            }
            Self::Name => "a name of two or more characters out of a-z A-Z 0-9 - _ .".into(),
            Self::Patterns => {
                "a list of texts without spaces such as \"https://example.com\", or \"*\"".into()
            }
            Self::Header => "a header name of letters, digits and - _, or \"\"".into(),
            Self::Claim => "a claim of letters, digits and _, or \"\"".into(),
            Self::Regex => "a regular expression such as \"^[a-z0-9]+$\", or \"\"".into(),
            Self::Secret => "text".into(),
            Self::Shape(text) => (*text).into(),
            Self::Any => match kind {
                Kind::Bool => "true or false".into(),
                Kind::Cores => {
                    "a count from 1 to 128, a list of CPUs such as [0, 2] or \"0,2-3\", or \"all\"".into()
                }
                kind => kind.name().into(),
            },
        }
    }

    pub fn allows_integer(&self, it: u64) -> bool {
        match self {
            Self::Range(from, to) | Self::RangeOrDefault(from, to) | Self::RangeOrMost(from, to) => {
                (*from..=*to).contains(&it)
            }
            Self::PowerOfTwo(to) => it.is_power_of_two() && it <= *to,
            _ => true,
        }
    }

    pub fn allows_duration(&self, it: Duration) -> bool {
        match self {
            Self::Time(from, to) | Self::TimeOrDefault(from, to) | Self::TimeOrOff(from, to) => {
                (*from..=*to).contains(&it)
            }
            Self::ZeroOrTime(from, to) => it.is_zero() || (*from..=*to).contains(&it),
            _ => true,
        }
    }

    pub fn allows_text(&self, it: &str) -> bool {
        match self {
            Self::Words(words) => words.contains(&it),
            Self::Path => path(it),
            Self::Address => it.is_empty() || it == "localhost" || it.parse::<IpAddr>().is_ok(),
            Self::Mark => it.len() <= 16 && it.bytes().all(|byte| byte.is_ascii_graphic()),
            Self::Form => it.is_empty() || form(it),
            Self::Name => {
                it.len() >= 2 && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            }
            Self::Header => it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            Self::Claim => it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            Self::Regex => super::values::regex(it).is_ok(),
            _ => true,
        }
    }

    pub fn allows_list(&self, it: &[String]) -> bool {
        match self {
            Self::Networks => it.iter().all(|it| network(it)),
            Self::Words(words) => it.iter().all(|it| words.contains(&it.as_str())),
            Self::Patterns => it.iter().all(|it| !it.is_empty() && !it.contains(char::is_whitespace)),
            _ => true,
        }
    }
}

fn form(it: &str) -> bool {
    let good =
        |segment: &str| !segment.is_empty() && segment != ":" && !segment.contains(char::is_whitespace);
    it.starts_with('/') && it.split('/').skip(1).all(good)
}

fn path(it: &str) -> bool {
    it.len() > 1
        && it.starts_with('/')
        && !it.ends_with('/')
        && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte))
}

/// `10.1.2.3`, `10.0.0.0/8`, `fd00::/8`.
fn network(it: &str) -> bool {
    let (address, bits) = it.split_once('/').map_or((it, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| {
        bits.bytes().all(|it| it.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|it| it <= bits_max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        #[track_caller]
        fn check(rule: Rule, good: &[&str], bad: &[&str]) {
            for it in good {
                assert!(rule.allows_text(it), "{rule:?} {it:?}");
            }
            for it in bad {
                assert!(!rule.allows_text(it), "{rule:?} {it:?}");
            }
        }
        check(Rule::Path, &["/a", "/a/b-c_d.e~f"], &["", "/", "a", "/a/", "/a b", "/a?b", "/é"]);
        check(
            Rule::Address,
            &["", "localhost", "0.0.0.0", "::1"],
            &["example.com", "1.2.3", "1.2.3.4:80", "[::1]"],
        );
        check(Rule::Form, &["", "/a", "/a/:b/c"], &["a", "/", "/a/", "/:", "//a", "/a b"]);
        check(Rule::Mark, &["", "$", "::", "1234567890123456"], &[" ", "é", "12345678901234567"]);
        check(Rule::Name, &["ab", "a-B_9.", "--"], &["", "a", "a b", "é12", "a:b"]);
        check(Rule::Header, &["", "X-User_Id"], &["X User", "X:", "é"]);
        check(Rule::Claim, &["", "user_id"], &["a.b", "a b"]);
        check(Rule::Regex, &["", "^[a-z]+$", "\\p{L}"], &["(", "[a", "a{1000}{1000}"]);
        check(Rule::Words(&["", "x"]), &["", "x"], &["y"]);
    }

    #[test]
    fn networks() {
        let allows = |it: &str| Rule::Networks.allows_list(&[it.to_owned()]);
        for good in ["10.1.2.3", "10.0.0.0/8", "0.0.0.0/0", "1.2.3.4/32", "::1", "fd00::/8", "::/128"] {
            assert!(allows(good), "{good}");
        }
        for bad in
            ["", "x", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "10.0.0.0/8/8", "10.0.0.0/256"]
        {
            assert!(!allows(bad), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        const S: Duration = Duration::from_secs(1);
        for (rule, good, bad) in [
            (Rule::Range(1, 128), vec![1, 128], vec![0, 129]),
            (Rule::PowerOfTwo(8), vec![1, 2, 4, 8], vec![0, 3, 16]),
        ] {
            assert!(good.into_iter().all(|it| rule.allows_integer(it)), "{rule:?}");
            assert!(!bad.into_iter().any(|it| rule.allows_integer(it)), "{rule:?}");
        }
        let nano = Duration::from_nanos(1);
        for (rule, zero) in [(Rule::Time(S, 2 * S), false), (Rule::ZeroOrTime(S, 2 * S), true)] {
            assert!(rule.allows_duration(S) && rule.allows_duration(2 * S));
            assert!(!rule.allows_duration(S - nano) && !rule.allows_duration(2 * S + nano));
            assert_eq!(rule.allows_duration(Duration::ZERO), zero);
        }
    }
}
