//! How many clients a node takes: in all, per second, and from one address.
//!
//! Shared by all cores and touched when a client connection begins and ends, never in between; without limits
//! not at all. Counts are atomics. Those of addresses are maps behind locks, many of them, so that cores that
//! accept at the same time hardly ever meet.

use crate::{
    broker::limits::{Rules, Shared, Sharers, address_rules},
    config::Client,
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Locks, so that two cores rarely want the same one.
const SHARDS: usize = 64;

const SECOND_US: u64 = 1_000_000;

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    #[error("client.connection_limit is reached")]
    Full,
    #[error("more per second than client.connection_rate_limit")]
    TooFast,
    #[error("its address has client.connection_limit_per_ip connections")]
    Address,
}

#[derive(Debug)]
pub struct Gate {
    limit: usize,
    inside: AtomicUsize,
    /// Microseconds one connection takes of a second; 0: no limit.
    step_us: u64,
    /// Until when, in microseconds, what was let in has used up its time.
    busy_until_us: AtomicU64,
    per_address: u32,
    addresses: Box<[Mutex<HashMap<IpAddr, u32>>]>,
    hasher: ahash::RandomState,
    /// Limits on what comes from one address, and what each has used up.
    rules: Option<Rules>,
    sharers: Box<[Mutex<Sharers<IpAddr>>]>,
}

impl Gate {
    /// `seed` keys the choice of a lock by address.
    #[must_use]
    pub fn new(client: &Client, seed: u64) -> Self {
        let shards = if client.connection_limit_per_ip > 0 { SHARDS } else { 0 };
        let rules = address_rules(&client.rate_limit);
        let sharers = if rules.is_some() { SHARDS } else { 0 };
        Self {
            limit: client.connection_limit,
            inside: AtomicUsize::new(0),
            step_us: SECOND_US.checked_div(client.connection_rate_limit as u64).unwrap_or(0),
            busy_until_us: AtomicU64::new(0),
            per_address: u32::try_from(client.connection_limit_per_ip).unwrap_or(u32::MAX),
            addresses: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: ahash::RandomState::with_seeds(seed, 9, 10, 11),
            rules,
            sharers: (0..sharers).map(|_| Mutex::new(Sharers::new(seed))).collect(),
        }
    }

    /// Whoever was let in must be told to leave again.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.limit > 0 || self.per_address > 0
    }

    /// Lets one client in from `address` at this time, on the cores' own clock.
    ///
    /// # Errors
    /// [`TurnedAway`]; nothing is counted then.
    pub fn enter(&self, address: IpAddr, now_ms: u64) -> Result<(), TurnedAway> {
        if self.limit > 0 && self.inside.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.inside.fetch_sub(1, Ordering::Relaxed);
            return Err(TurnedAway::Full);
        }
        let result = self
            .enter_address(address)
            .and_then(|()| self.take_time(now_ms).inspect_err(|_| self.leave_address(address)));
        if result.is_err() && self.limit > 0 {
            self.inside.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// One that was let in has gone.
    pub fn leave(&self, address: IpAddr) {
        if self.limit > 0 {
            self.inside.fetch_sub(1, Ordering::Relaxed);
        }
        self.leave_address(address);
    }

    /// Every connection takes its share of a second; who comes when a whole second ahead is taken is too fast.
    fn take_time(&self, now_ms: u64) -> Result<(), TurnedAway> {
        if self.step_us == 0 {
            return Ok(());
        }
        let now_us = now_ms.saturating_mul(1000);
        let later = |busy_until_us: u64| {
            let until_us = busy_until_us.max(now_us) + self.step_us;
            (until_us <= now_us + SECOND_US).then_some(until_us)
        };
        let relaxed = Ordering::Relaxed;
        self.busy_until_us.fetch_update(relaxed, relaxed, later).map(drop).map_err(|_| TurnedAway::TooFast)
    }

    /// The buckets of an address (`client.rate_limit.ip_command`), where it has any.
    #[must_use]
    pub fn limits_of(&self, address: IpAddr, now_ms: u64) -> Option<Arc<Shared>> {
        let (address, rules) = (neighbourhood(address), self.rules.as_ref()?);
        let sharers = self.sharers.get(self.shard(address))?;
        Some(sharers.lock().unwrap_or_else(PoisonError::into_inner).get(address, rules, now_ms))
    }

    fn shard(&self, address: IpAddr) -> usize {
        self.hasher.hash_one(address) as usize % SHARDS
    }

    fn enter_address(&self, address: IpAddr) -> Result<(), TurnedAway> {
        self.with_address(address, |counts, address| {
            let count = counts.entry(address).or_insert(0);
            if *count >= self.per_address {
                return Err(TurnedAway::Address);
            }
            *count += 1;
            Ok(())
        })
        .unwrap_or(Ok(()))
    }

    fn leave_address(&self, address: IpAddr) {
        self.with_address(address, |counts, address| {
            if let Some(count) = counts.get_mut(&address) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        });
    }

    /// `None` without a limit per address.
    fn with_address<R>(
        &self,
        address: IpAddr,
        change: impl FnOnce(&mut HashMap<IpAddr, u32>, IpAddr) -> R,
    ) -> Option<R> {
        let address = neighbourhood(address);
        let counts = self.addresses.get(self.shard(address))?;
        Some(change(&mut counts.lock().unwrap_or_else(PoisonError::into_inner), address))
    }
}

/// What counts as one address: of IPv6 a whole /64, of which a single machine may have all.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limit: usize, rate: usize, per_address: usize) -> Gate {
        let client = Client {
            connection_limit: limit,
            connection_rate_limit: rate,
            connection_limit_per_ip: per_address,
            ..Client::default()
        };
        Gate::new(&client, 1)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_limits_everybody_gets_in() {
        let gate = gate(0, 0, 0);
        assert!(!gate.counts());
        assert!((0..10_000).all(|_| gate.enter(ip("1.2.3.4"), 0).is_ok()));
    }

    #[test]
    fn a_full_house_lets_in_who_comes_when_somebody_goes() {
        let gate = gate(2, 0, 0);
        let [a, b] = [ip("1.1.1.1"), ip("2.2.2.2")];
        assert_eq!([gate.enter(a, 0), gate.enter(b, 0)], [Ok(()), Ok(())]);
        assert_eq!([gate.enter(a, 0), gate.enter(b, 0)], [Err(TurnedAway::Full); 2]);
        gate.leave(a);
        assert_eq!([gate.enter(b, 0), gate.enter(b, 0)], [Ok(()), Err(TurnedAway::Full)]);
    }

    #[test]
    fn a_second_holds_so_many() {
        let gate = gate(0, 10, 0);
        let come = |now_ms| (0..100).filter(|_| gate.enter(ip("1.1.1.1"), now_ms).is_ok()).count();
        assert_eq!(come(5_000), 10, "a second's worth at once");
        assert_eq!((come(5_050), come(5_100), come(5_300)), (0, 1, 2));
        assert_eq!(come(60_000), 10, "time that nobody used does not add up");
    }

    #[test]
    fn an_address_has_so_many_and_a_network_of_ipv6_is_one() {
        let gate = gate(10, 0, 1);
        let rows = [
            ("1.2.3.4", Ok(())),
            ("::ffff:1.2.3.4", Err(TurnedAway::Address)),
            ("1.2.3.5", Ok(())),
            ("2001:db8::1", Ok(())),
            ("2001:db8::2:3", Err(TurnedAway::Address)),
            ("2001:db8:0:1::1", Ok(())),
        ];
        for (address, want) in rows {
            assert_eq!(gate.enter(ip(address), 0), want, "{address}");
        }
        gate.leave(ip("2001:db8::1"));
        assert_eq!(gate.enter(ip("2001:db8::9"), 0), Ok(()));
        for address in ["1.2.3.4", "1.2.3.5", "2001:db8::9", "2001:db8:0:1::1"] {
            gate.leave(ip(address));
        }
        assert!(gate.addresses.iter().all(|counts| counts.lock().unwrap().is_empty()));
        assert_eq!(gate.inside.load(Ordering::Relaxed), 0, "who is turned away is not counted");
    }
}
