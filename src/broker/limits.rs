//! How often a connection, a user and an address may do something (`client.rate_limit`).
//!
//! A bucket is one number: until when, on the core's clock, what was taken of it has used up its time. Buckets of
//! a connection are its session's own. Those of a user and of an address count on whatever core a command comes,
//! so their connections share them as atomics: the one thing cores share that is touched by commands, and only
//! where such limits are on.

use crate::config::{self, CommandLimits};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

const MS_NS: u64 = 1_000_000;

/// Users or addresses up to which nobody looks for those that may be forgotten.
const SWEEP_MIN: usize = 1024;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    History,
    Presence,
    PresenceStats,
    Refresh,
    SubRefresh,
    Rpc,
    Send,
}

const OPERATIONS: usize = Operation::Send as usize + 1;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The time one token takes.
    cost_ns: u64,
    /// That of all of them.
    span_ns: u64,
}

impl Bucket {
    fn new(bucket: config::Bucket) -> Self {
        let rate = u64::from(bucket.rate).max(1);
        let interval_ns = u64::try_from(bucket.interval.as_nanos()).unwrap_or(u64::MAX);
        let cost_ns = interval_ns.div_ceil(rate);
        Self { cost_ns, span_ns: cost_ns.saturating_mul(rate) }
    }

    /// Until when the bucket is used once a token is taken; `None`: there is none.
    fn take(self, until_ns: u64, now_ns: u64) -> Option<u64> {
        let until_ns = until_ns.max(now_ns).saturating_add(self.cost_ns);
        (until_ns <= now_ns.saturating_add(self.span_ns)).then_some(until_ns)
    }
}

/// The buckets of one limit that counts.
fn buckets_of(limit: &config::Limit) -> impl Iterator<Item = Bucket> {
    limit.buckets.0.iter().copied().filter(|_| limit.enabled).map(Bucket::new)
}

/// The limits of a connection, a user or an address.
#[derive(Debug)]
pub struct Rules {
    buckets: Vec<Bucket>,
    /// Which of them an operation takes from.
    of: [Vec<usize>; OPERATIONS],
}

impl Rules {
    /// `None`: there are none.
    fn new(limits: &CommandLimits) -> Option<Self> {
        let own = [
            &limits.connect,
            &limits.subscribe,
            &limits.unsubscribe,
            &limits.publish,
            &limits.history,
            &limits.presence,
            &limits.presence_stats,
            &limits.refresh,
            &limits.sub_refresh,
            &limits.rpc,
            &limits.send,
        ];
        let mut buckets: Vec<_> = buckets_of(&limits.total).collect();
        let total = buckets.len();
        let of = own.map(|limit| {
            let first = buckets.len();
            buckets.extend(buckets_of(if limit.enabled { limit } else { &limits.default }));
            (0..total).chain(first..buckets.len()).collect()
        });
        (limits.enabled && !buckets.is_empty()).then_some(Self { buckets, of })
    }

    fn take(&self, operation: Operation, state: &mut [u64], now_ns: u64) -> bool {
        let of = &self.of[operation as usize];
        let room = of.iter().all(|&at| self.buckets[at].take(state[at], now_ns).is_some());
        for &at in of.iter().filter(|_| room) {
            state[at] = self.buckets[at].take(state[at], now_ns).unwrap_or(state[at]);
        }
        room
    }

    /// The same for buckets that others take from at the same time.
    fn take_shared(&self, operation: Operation, state: &Shared, now_ns: u64) -> bool {
        let of = &self.of[operation as usize];
        let room = |&at: &usize| self.buckets[at].take(state.0[at].load(Relaxed), now_ns).is_some();
        let take = |&at: &usize| {
            state.0[at].fetch_update(Relaxed, Relaxed, |until| self.buckets[at].take(until, now_ns)).is_ok()
        };
        of.iter().all(room) && of.iter().all(take)
    }
}

/// The buckets of a user or of an address.
#[derive(Debug)]
pub struct Shared(Box<[AtomicU64]>);

/// Those of all users of a core, or of many addresses. Who has all tokens and no connection is forgotten.
#[derive(Debug)]
pub struct Sharers<K> {
    entries: HashMap<K, Arc<Shared>, ahash::RandomState>,
    /// With so many it is time to forget some.
    sweep_at: usize,
}

impl<K: Hash + Eq> Sharers<K> {
    /// `seed` keys the hash, as keys come from outside.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let hasher = ahash::RandomState::with_seeds(seed, 18, 19, 20);
        Self { entries: HashMap::with_hasher(hasher), sweep_at: SWEEP_MIN }
    }

    /// The buckets of `key`, new and full where it has none.
    pub fn get(&mut self, key: K, rules: &Rules, now_ms: u64) -> Arc<Shared> {
        if self.entries.len() >= self.sweep_at {
            let now_ns = now_ms.saturating_mul(MS_NS);
            let used = |it: &Arc<Shared>| it.0.iter().any(|until| until.load(Relaxed) > now_ns);
            self.entries.retain(|_, shared| Arc::strong_count(shared) > 1 || used(shared));
            self.sweep_at = (2 * self.entries.len()).max(SWEEP_MIN);
        }
        let fresh = || Arc::new(Shared(rules.buckets.iter().map(|_| AtomicU64::new(0)).collect()));
        Arc::clone(self.entries.entry(key).or_insert_with(fresh))
    }
}

/// All limits of the settings.
#[derive(Debug)]
pub struct Limits {
    connection: Option<Rules>,
    pub user: Option<Rules>,
    address: Option<Rules>,
    errors: Vec<Bucket>,
}

impl Limits {
    /// `None`: there are none, and nothing is to be counted.
    #[must_use]
    pub fn new(settings: &config::RateLimit) -> Option<Self> {
        let errors = Some(&settings.client_error).filter(|it| it.enabled);
        let limits = Self {
            connection: Rules::new(&settings.client_command),
            user: Rules::new(&settings.user_command),
            address: address_rules(settings),
            errors: errors.map_or_else(Vec::new, |it| buckets_of(&it.total).collect()),
        };
        let rules = [&limits.connection, &limits.user, &limits.address];
        (rules.iter().any(|it| it.is_some()) || !limits.errors.is_empty()).then_some(limits)
    }

    /// The state of a connection from this address.
    #[must_use]
    pub fn meter(&self, address: Option<Arc<Shared>>) -> Box<Meter> {
        let of_commands = self.connection.as_ref().map_or(0, |rules| rules.buckets.len());
        let own = vec![0; of_commands + self.errors.len()].into_boxed_slice();
        Box::new(Meter { own, user: None, address, paid: false })
    }

    /// Takes what `operation` costs from every bucket it concerns; false: one of them is empty. The state of the
    /// connection is looked at first, then the address, then the user: a later one that is empty costs the earlier ones.
    pub fn take(&self, operation: Operation, meter: &mut Meter, now_ms: u64) -> bool {
        let now_ns = now_ms.saturating_mul(MS_NS);
        let shared = |rules: &Option<Rules>, state: &Option<Arc<Shared>>| match (rules, state) {
            (Some(rules), Some(state)) => rules.take_shared(operation, state, now_ns),
            _ => true,
        };
        self.connection.as_ref().is_none_or(|rules| rules.take(operation, &mut meter.own, now_ns))
            && shared(&self.address, &meter.address)
            && shared(&self.user, &meter.user)
    }

    /// Notes that the connection is answered with an error; false: with too many.
    pub fn take_error(&self, meter: &mut Meter, now_ms: u64) -> bool {
        let now_ns = now_ms.saturating_mul(MS_NS);
        let first = meter.own.len() - self.errors.len();
        let mut room = true;
        for (bucket, until_ns) in self.errors.iter().zip(&mut meter.own[first..]) {
            match bucket.take(*until_ns, now_ns) {
                Some(later) => *until_ns = later,
                None => room = false,
            }
        }
        room
    }
}

impl Rules {
    /// Whether a user whose buckets these are may connect at this time.
    #[must_use]
    pub fn may_connect(&self, state: &Shared, now_ms: u64) -> bool {
        self.take_shared(Operation::Connect, state, now_ms.saturating_mul(MS_NS))
    }
}

/// The limits of addresses, for whoever knows the addresses.
#[must_use]
pub fn address_rules(settings: &config::RateLimit) -> Option<Rules> {
    Rules::new(&settings.ip_command)
}

/// What a connection has used up.
#[derive(Debug)]
pub struct Meter {
    /// The buckets of its commands, then those of its errors.
    own: Box<[u64]>,
    /// Once it is connected as somebody.
    pub user: Option<Arc<Shared>>,
    address: Option<Arc<Shared>>,
    /// The command that runs next has been counted: it waited.
    pub paid: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Buckets, Limit, RateLimit};
    use std::time::Duration;

    fn limit(rate: u32, interval_ms: u64) -> Limit {
        let bucket = config::Bucket { rate, interval: Duration::from_millis(interval_ms) };
        Limit { enabled: true, buckets: Buckets(vec![bucket]) }
    }

    /// Against a heap of tokens that grows with time, in thousandths of a token.
    #[test]
    fn a_bucket_is_a_heap_of_tokens() {
        arbtest::arbtest(|u| {
            let rate = u.int_in_range(1..=20)?;
            let interval_ms = rate * u.int_in_range(1..=50)?;
            let bucket = Bucket::new(config::Bucket {
                rate: rate as u32,
                interval: Duration::from_millis(interval_ms),
            });
            let (mut until_ns, mut now_ms) = (0, 1_000);
            // A token is `interval_ms` parts, and every millisecond brings `rate` of them.
            let mut parts = rate * interval_ms;
            for _ in 0..u.int_in_range(0..=100)? {
                let pass_ms = u.int_in_range(0..=interval_ms / 2)?;
                now_ms += pass_ms;
                parts = (parts + pass_ms * rate).min(rate * interval_ms);
                let want = parts >= interval_ms;
                parts -= if want { interval_ms } else { 0 };
                let later = bucket.take(until_ns, now_ms * MS_NS);
                assert_eq!(later.is_some(), want, "{rate} in {interval_ms} ms at {now_ms}");
                until_ns = later.unwrap_or(until_ns);
            }
            Ok(())
        });
    }

    fn taken(limits: &Limits, meter: &mut Meter, operation: Operation, now_ms: u64) -> usize {
        (0..50).filter(|_| limits.take(operation, meter, now_ms)).count()
    }

    #[test]
    fn own_limits_default_and_total() {
        let mut settings = RateLimit::default();
        assert!(Limits::new(&settings).is_none());
        settings.client_command.default = limit(2, 1000);
        settings.client_command.publish = limit(5, 1000);
        assert!(Limits::new(&settings).is_none(), "not enabled");
        settings.client_command.enabled = true;
        let limits = Limits::new(&settings).unwrap();
        let mut meter = limits.meter(None);
        assert_eq!(taken(&limits, &mut meter, Operation::Publish, 5000), 5);
        assert_eq!(taken(&limits, &mut meter, Operation::History, 5000), 2);
        assert_eq!(taken(&limits, &mut meter, Operation::Presence, 5000), 2, "each by itself");
        assert_eq!(taken(&limits, &mut meter, Operation::Publish, 5200), 1);
        assert_eq!(taken(&limits, &mut meter, Operation::Publish, 60_000), 5);
        settings.client_command.total = limit(6, 1000);
        let limits = Limits::new(&settings).unwrap();
        let mut meter = limits.meter(None);
        assert_eq!(taken(&limits, &mut meter, Operation::Publish, 5000), 5);
        assert_eq!(taken(&limits, &mut meter, Operation::History, 5000), 1);
        // Nothing was taken for what was refused.
        assert_eq!(taken(&limits, &mut meter, Operation::Publish, 6000), 5);
    }

    #[test]
    fn several_buckets_must_all_have_room() {
        let mut settings = RateLimit::default();
        settings.client_command.enabled = true;
        settings.client_command.send = limit(3, 1000);
        let slower = config::Bucket { rate: 5, interval: Duration::from_secs(60) };
        settings.client_command.send.buckets.0.push(slower);
        let limits = Limits::new(&settings).unwrap();
        let mut meter = limits.meter(None);
        let found = [0, 1000, 2000].map(|ms| taken(&limits, &mut meter, Operation::Send, 9000 + ms));
        assert_eq!(found, [3, 2, 0]);
        assert_eq!(taken(&limits, &mut meter, Operation::Publish, 9000), 50, "not limited");
    }

    #[test]
    fn errors_have_a_bucket_behind_those_of_commands() {
        let mut settings = RateLimit::default();
        settings.client_error.enabled = true;
        settings.client_error.total = limit(3, 1000);
        let limits = Limits::new(&settings).unwrap();
        let mut meter = limits.meter(None);
        let room = |meter: &mut Meter, ms| (0..5).filter(|_| limits.take_error(meter, ms)).count();
        assert_eq!([room(&mut meter, 0), room(&mut meter, 999), room(&mut meter, 2000)], [3, 2, 3]);
        assert!(limits.take(Operation::Publish, &mut meter, 0));
    }

    #[test]
    fn those_of_one_key_share_and_who_has_all_tokens_is_forgotten() {
        let mut settings = RateLimit::default();
        settings.ip_command.enabled = true;
        settings.ip_command.total = limit(4, 1000);
        let limits = Limits::new(&settings).unwrap();
        let rules = address_rules(&settings).unwrap();
        let mut sharers = Sharers::new(1);
        let one = sharers.get(7u32, &rules, 5000);
        let mut meters = [0, 1].map(|_| limits.meter(Some(Arc::clone(&one))));
        assert!(limits.take(Operation::Publish, &mut meters[0], 5000));
        assert_eq!(taken(&limits, &mut meters[1], Operation::Send, 5000), 3);
        assert!(!limits.take(Operation::Publish, &mut meters[0], 5000));
        let mut other = limits.meter(Some(sharers.get(8, &rules, 5000)));
        assert_eq!(taken(&limits, &mut other, Operation::Send, 5000), 4);
        for key in 0..3 * SWEEP_MIN as u32 {
            sharers.get(1000 + key, &rules, 5500);
        }
        assert!(sharers.entries.len() <= SWEEP_MIN, "{}", sharers.entries.len());
        assert!(sharers.entries.contains_key(&7) && sharers.entries.contains_key(&8));
        drop((one, meters, other));
        for key in 0..3 * SWEEP_MIN as u32 {
            sharers.get(9000 + key, &rules, 60_000);
        }
        assert!(!sharers.entries.contains_key(&7));
    }
}
