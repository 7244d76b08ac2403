//! The types options have: how each is read from a value, shown, and held against its rule.

use super::{
    choices::{ClientKey, DataFormat, MapMode, PollMode, ProtocolV1, RecoveryMode, SubscriptionType},
    duration,
    node::{Entry, Node, Value},
    rules::Rule,
    settings::{Backend, Cores},
    table::{Kind, OptionValue},
};
use regex::{Regex, RegexBuilder};
use std::time::Duration;

impl OptionValue for bool {
    const KIND: Kind = Kind::Bool;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(it) => Some(*it),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Bool(*self)
    }

    fn obeys(&self, _rule: &Rule) -> bool {
        true
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl OptionValue for $type {
            const KIND: Kind = Kind::Integer;

            fn read(value: &Value) -> Option<Self> {
                match value {
                    Value::Int(it) => Self::try_from(*it).ok(),
                    _ => None,
                }
            }

            fn show(&self) -> Value {
                Value::Int(i128::try_from(*self).unwrap_or(i128::MAX))
            }

            fn obeys(&self, rule: &Rule) -> bool {
                u64::try_from(*self).is_ok_and(|it| rule.allows_integer(it))
            }
        }
    )*};
}
integers! { u16 u32 u64 usize }

impl OptionValue for Duration {
    const KIND: Kind = Kind::Duration;

    /// A number without unit is refused, except 0: seconds, milliseconds and Go's nanoseconds are all guesses.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(it) => duration::parse(it),
            Value::Int(0) => Some(Self::ZERO),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Text(duration::show(*self))
    }

    fn obeys(&self, rule: &Rule) -> bool {
        rule.allows_duration(*self)
    }
}

/// A time, or none at all: that is written as a negative one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrOff(pub Option<Duration>);

impl OrOff {
    #[must_use]
    pub const fn on(time: Duration) -> Self {
        Self(Some(time))
    }

    /// In milliseconds; 0: off.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl OptionValue for OrOff {
    const KIND: Kind = Kind::Duration;

    fn read(value: &Value) -> Option<Self> {
        if is_negative(value) { Some(Self(None)) } else { Duration::read(value).map(Self::on) }
    }

    fn show(&self) -> Value {
        self.0.map_or_else(|| Value::text("-1s"), |time| time.show())
    }

    fn obeys(&self, rule: &Rule) -> bool {
        self.0.is_none_or(|time| rule.allows_duration(time))
    }
}

/// Whatever its unit, and whether it has one.
fn is_negative(value: &Value) -> bool {
    match value {
        Value::Int(it) => *it < 0,
        Value::Text(text) => text
            .strip_prefix('-')
            .is_some_and(|rest| rest.parse::<u64>().is_ok() || duration::parse(rest).is_some()),
        _ => false,
    }
}

impl OptionValue for String {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(it) => Some(it.clone()),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::text(self)
    }

    fn obeys(&self, rule: &Rule) -> bool {
        rule.allows_text(self)
    }
}

impl OptionValue for Vec<String> {
    const KIND: Kind = Kind::List;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => items.iter().map(|item| String::read(&item.value)).collect(),
            // As a list that was never made is written.
            Value::Null => Some(Self::new()),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::texts(self.iter().map(String::as_str))
    }

    fn obeys(&self, rule: &Rule) -> bool {
        rule.allows_list(self)
    }
}

/// Header fields of requests, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl OptionValue for Headers {
    const KIND: Kind = Kind::Headers;

    fn read(value: &Value) -> Option<Self> {
        let one = |entry: &Entry| Some((entry.key.clone(), String::read(&entry.node.value)?));
        match value {
            Value::Map(entries) => entries.iter().map(one).collect::<Option<_>>().map(Self),
            Value::Null => Some(Self::default()),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Map(self.0.iter().map(|(name, value)| Entry::new(name, Value::text(value))).collect())
    }

    fn obeys(&self, _rule: &Rule) -> bool {
        let value = |it: &str| it.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        self.0.iter().all(|(name, text)| !name.is_empty() && Rule::Header.allows_text(name) && value(text))
    }
}

impl OptionValue for Cores {
    const KIND: Kind = Kind::Cores;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Int(it) => usize::try_from(*it).ok().map(Self::Count),
            Value::Text(it) if it == "all" => Some(Self::All),
            Value::Text(it) => match it.parse() {
                Ok(count) => Some(Self::Count(count)),
                Err(_) => cpus(it.split(',')).map(Self::List),
            },
            Value::List(items) => cpu_items(items).map(Self::List),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::All => Value::text("all"),
            Self::Count(count) => count.show(),
            Self::List(cpus) => Value::List(cpus.iter().map(|cpu| cpu.show().into()).collect()),
        }
    }

    fn obeys(&self, _rule: &Rule) -> bool {
        match self {
            Self::All => true,
            Self::Count(count) => (1..=CORES_MAX).contains(count),
            Self::List(cpus) => {
                let mut sorted = cpus.clone();
                sorted.sort_unstable();
                let unique = sorted.windows(2).all(|pair| pair[0] != pair[1]);
                unique && (1..=CORES_MAX).contains(&cpus.len())
            }
        }
    }
}

const CORES_MAX: usize = crate::model::CORES_MAX;

/// Beyond what Linux can number.
const CPU_MAX: usize = 65_535;

fn cpu_items(items: &[Node]) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for item in items {
        match &item.value {
            Value::Int(it) => all.push(usize::try_from(*it).ok().filter(|cpu| *cpu <= CPU_MAX)?),
            Value::Text(it) => all.extend(cpus(it.split(','))?),
            _ => return None,
        }
        if all.len() > CORES_MAX {
            return None;
        }
    }
    Some(all)
}

/// `0`, `2-3`. `None` also when they are more than there can be cores, before they are listed.
fn cpus<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Vec<usize>> {
    let cpu = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu <= CPU_MAX);
    let mut all = Vec::new();
    for part in parts {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last || all.len() + (last - first) >= CORES_MAX {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// A choice among words: the names of the values; the first of a value's names is shown.
macro_rules! choices {
    ($($Type:ident { $($value:ident = $name:literal),* $(,)? })*) => {$(
        impl OptionValue for $Type {
            const KIND: Kind = Kind::Text;

            fn read(value: &Value) -> Option<Self> {
                let Value::Text(text) = value else { return None };
                match text.as_str() {
                    $( $name => Some(Self::$value), )*
                    _ => None,
                }
            }

            fn show(&self) -> Value {
                let names = [$( (Self::$value, $name) ),*];
                names.iter().find(|(it, _)| it == self).map_or(Value::Null, |(_, name)| Value::text(*name))
            }

            fn obeys(&self, _rule: &Rule) -> bool {
                true
            }
        }
    )*};
}
choices! {
    Backend { Auto = "auto", Ring = "ring", Poll = "poll" }
    DataFormat { Any = "", Json = "json", JsonObject = "json_object", Binary = "binary" }
    SubscriptionType {
        Stream = "stream", Stream = "", Map = "map", MapClients = "map_clients", MapUsers = "map_users",
        SharedPoll = "shared_poll",
    }
    MapMode {
        None = "", Ephemeral = "ephemeral", Recoverable = "recoverable", Persistent = "persistent",
    }
    PollMode { Versionless = "versionless", Versionless = "", Versioned = "versioned" }
    ClientKey { Named = "", ClientId = "client_id", UserId = "user_id" }
    ProtocolV1 { Off = "", Offset = "offset", SeqGen = "seq_gen" }
    RecoveryMode { Stream = "stream", Stream = "", Cache = "cache" }
}

/// A regular expression as options have them: bounded in size, so that none can eat the memory.
///
/// # Errors
/// What is wrong with it.
pub fn regex(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(REGEX_SIZE_MAX).build()
}

const REGEX_SIZE_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_table() {
        #[track_caller]
        fn check(text: &str, want: Option<Cores>) {
            let value = super::super::read::json(text).map_or_else(|_| Value::text(text), |node| node.value);
            assert_eq!(Cores::read(&value).filter(|it| it.obeys(&Rule::Any)), want, "{text}");
        }
        let list = |cpus: &[usize]| Some(Cores::List(cpus.to_vec()));
        check("all", Some(Cores::All));
        check("1", Some(Cores::Count(1)));
        check("128", Some(Cores::Count(128)));
        check("\"3\"", Some(Cores::Count(3)));
        check("[3]", list(&[3]));
        check("[2, 0]", list(&[2, 0]));
        check("0,2-3", list(&[0, 2, 3]));
        check("[\"0\", \"2-3\", 5]", list(&[0, 2, 3, 5]));
        check("1-128", list(&(1..=128).collect::<Vec<_>>()));
        for bad in [
            "0",
            "129",
            "-1",
            "[]",
            "[0,0]",
            "0-128",
            "3-2",
            "",
            "a",
            "1,",
            "[1.5]",
            "[[1]]",
            "true",
            "0-99999999999",
            "[70000]",
            "1.5",
        ] {
            check(bad, None);
        }
    }
}
