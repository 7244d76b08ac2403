//! Limits on the rate of operations: which there are, and the buckets they are made of.

use super::{
    duration,
    node::{Entry, Value},
    rules::Rule,
    table::{Kind, OptionValue, entry, sections},
};
use std::time::Duration;

sections! {
    /// How often clients may do something. Everything is off by default.
    RateLimit {}
    + parts {
        /// Commands of one connection. One too many is answered with error 111 (`send`, which has no answer, is passed over). A connection has 8 bytes for every bucket of its limits.
        client_command: CommandLimits,
        /// Commands of one user, whatever their connections and their cores; anonymous clients are not limited so. A connect too many is answered with error 111.
        user_command: CommandLimits,
        /// Commands from one address (IPv6: from one /64 network), whoever sends them. Behind a proxy set `http_server.trusted_proxies`.
        ip_command: CommandLimits,
        /// Errors a connection is answered with, those for a limit of these included: whoever exceeds it is disconnected with 3013.
        client_error: ErrorLimits,
    }

    /// Limits of one connection, user or address.
    CommandLimits {
        /// Whether these count. A command must have room in each of its buckets, and takes a token from each.
        enabled: bool = false, Rule::Any;
    }
    + parts {
        /// All commands together.
        total: Limit,
        /// Every command that has no limit of its own, each by itself.
        default: Limit,
        /// `connect`; of a connection there is only one.
        connect: Limit,
        /// `subscribe`.
        subscribe: Limit,
        /// `unsubscribe`.
        unsubscribe: Limit,
        /// `publish`, into maps as well.
        publish: Limit,
        /// `history`.
        history: Limit,
        /// `presence`.
        presence: Limit,
        /// `presence_stats`.
        presence_stats: Limit,
        /// `refresh`.
        refresh: Limit,
        /// `sub_refresh`.
        sub_refresh: Limit,
        /// `rpc`.
        rpc: Limit,
        /// `send`.
        send: Limit,
    }

    /// Limits on errors.
    ErrorLimits {
        /// Whether these count.
        enabled: bool = false, Rule::Any;
    }
    + parts {
        /// All errors together.
        total: Limit,
    }

    /// One limit.
    Limit {
        /// Whether it counts; needs `buckets`.
        enabled: bool = false, Rule::Any;
        /// How many (`rate`) in which time (`interval`): so many at once, and as time goes by as many again.
        buckets: Buckets = Buckets::default(), Rule::Shape(ALLOWED);
    }
}

/// The buckets of one limit; all of them must have room.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Buckets(pub Vec<Bucket>);

/// So many tokens, all of them again after `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub rate: u32,
    pub interval: Duration,
}

/// Buckets one limit may have.
const BUCKETS_MAX: usize = 8;
const RATE_MAX: u32 = 1_000_000;
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

const ALLOWED: &str =
    "at most 8 of {\"rate\": 60, \"interval\": \"1s\"}, rates from 1 to 1000000, intervals from 1ms to 24h";

impl OptionValue for Buckets {
    const KIND: Kind = Kind::Sections;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => {
                items.iter().map(|item| bucket(&item.value)).collect::<Option<_>>().map(Self)
            }
            Value::Null => Some(Self::default()),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        let show = |it: &Bucket| {
            let (rate, interval) = (it.rate.show(), Value::Text(duration::show(it.interval)));
            Value::Map(vec![Entry::new("rate", rate), Entry::new("interval", interval)]).into()
        };
        Value::List(self.0.iter().map(show).collect())
    }

    fn obeys(&self, _rule: &Rule) -> bool {
        let good = |it: &Bucket| {
            (1..=RATE_MAX).contains(&it.rate)
                && (Duration::from_millis(1)..=INTERVAL_MAX).contains(&it.interval)
        };
        self.0.len() <= BUCKETS_MAX && self.0.iter().all(good)
    }
}

/// `{"rate": 60, "interval": "1s"}`, and nothing else in it.
fn bucket(value: &Value) -> Option<Bucket> {
    let Value::Map(entries) = value else { return None };
    let rate = u32::read(&entry(entries, "rate")?.value)?;
    let interval = Duration::read(&entry(entries, "interval")?.value)?;
    (entries.len() == 2).then_some(Bucket { rate, interval })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    #[test]
    fn buckets_table() {
        #[track_caller]
        fn check(text: &str, want: Option<&[(u32, u64)]>) {
            let value = read::json(text).unwrap().value;
            let found = Buckets::read(&value).filter(|it| it.obeys(&Rule::Any));
            let want = want.map(|all| {
                let one = |&(rate, ms)| Bucket { rate, interval: Duration::from_millis(ms) };
                Buckets(all.iter().map(one).collect())
            });
            assert_eq!(found, want, "{text}");
            if let Some(found) = found {
                assert_eq!(Buckets::read(&found.show()), Some(found), "{text}");
            }
        }
        check("[]", Some(&[]));
        check(r#"[{"rate":60,"interval":"1s"}]"#, Some(&[(60, 1000)]));
        check(
            r#"[{"interval":"1ms","rate":1},{"rate":1000000,"interval":"24h"}]"#,
            Some(&[(1, 1), (1_000_000, 86_400_000)]),
        );
        for bad in [
            "{}",
            "60",
            r#"[{"rate":0,"interval":"1s"}]"#,
            r#"[{"rate":1,"interval":"0s"}]"#,
            r#"[{"rate":1,"interval":"25h"}]"#,
            r#"[{"rate":1000001,"interval":"1s"}]"#,
            r#"[{"rate":-1,"interval":"1s"}]"#,
            r#"[{"rate":1.5,"interval":"1s"}]"#,
            r#"[{"rate":1,"interval":1}]"#,
            r#"[{"rate":1}]"#,
            r#"[{"rate":1,"interval":"1s","burst":2}]"#,
            "[1]",
        ] {
            check(bad, None);
        }
        let nine = format!("[{}]", [r#"{"rate":1,"interval":"1s"}"#; 9].join(","));
        check(&nine, None);
    }
}
