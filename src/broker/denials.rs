//! Who is kept out: blocked users, on the core that owns them; tokens that were revoked, on every core.
//!
//! In memory, each with an end, and bounded (`client.denials_max`): a restart forgets them. A blocked user loses
//! its sessions at once. A revoked token opens nothing and prolongs nothing any more; who is connected by it stays
//! until it would have to be refreshed.

use crate::{
    auth::ConnectClaims,
    model::{ErrorCode, Now},
};
use std::{borrow::Borrow, collections::HashMap, hash::Hash, sync::Arc};

/// What the server API wants kept out, or let in again. Ends in seconds since 1970; 0: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    Block {
        user: Arc<str>,
        expire_at: u64,
    },
    Unblock {
        user: Arc<str>,
    },
    /// The token with this `jti`.
    Revoke {
        id: Arc<str>,
        expire_at: u64,
    },
    /// Tokens of this user made before `issued_before` (0: now), and those that do not say when.
    Invalidate {
        user: Arc<str>,
        issued_before: u64,
        expire_at: u64,
    },
}

/// Entries that end by themselves.
#[derive(Debug)]
struct Ending<V> {
    entries: HashMap<Arc<str>, (u64, V), ahash::RandomState>,
}

impl<V> Ending<V> {
    fn new(seed: u64) -> Self {
        Self { entries: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 15, 16, 17)) }
    }

    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now_ms: u64) -> Option<&V>
    where
        Arc<str>: Borrow<Q>,
    {
        self.entries.get(key).filter(|(until_ms, _)| now_ms < *until_ms).map(|(_, value)| value)
    }

    fn forget_ended(&mut self, now_ms: u64) {
        self.entries.retain(|_, (until_ms, _)| now_ms < *until_ms);
    }
}

#[derive(Debug)]
pub struct Denials {
    users: Ending<()>,
    tokens: Ending<()>,
    /// By user: tokens made before this time, in milliseconds since 1970.
    older: Ending<u64>,
    max: usize,
}

impl Denials {
    /// `seed` keys the hashes of names, which come from outside.
    #[must_use]
    pub fn new(max: usize, seed: u64) -> Self {
        Self { users: Ending::new(seed), tokens: Ending::new(seed), older: Ending::new(seed), max }
    }

    fn len(&self) -> usize {
        self.users.entries.len() + self.tokens.entries.len() + self.older.entries.len()
    }

    /// Whether there is room for one more; those that have ended are forgotten if not.
    pub fn has_room(&mut self, now: Now) -> bool {
        if self.len() >= self.max {
            self.users.forget_ended(now.ms);
            self.tokens.forget_ended(now.ms);
            self.older.forget_ended(now.ms);
        }
        self.len() < self.max
    }

    /// # Errors
    /// [`ErrorCode::LimitExceeded`]: there are `client.denials_max`, and none has ended.
    pub fn add(&mut self, denial: &Denial, now: Now) -> Result<(), ErrorCode> {
        if let Denial::Unblock { user } = denial {
            self.users.entries.remove(user);
            return Ok(());
        }
        if !self.has_room(now) {
            return Err(ErrorCode::LimitExceeded);
        }
        // On the core's own clock from here on: a jump of the wall clock lets nobody in.
        let until_ms = |expire_at: u64| match expire_at {
            0 => u64::MAX,
            at => now.ms.saturating_add(at.saturating_mul(1000).saturating_sub(now.unix_ms)),
        };
        match denial {
            Denial::Block { user, expire_at } => {
                self.users.entries.insert(Arc::clone(user), (until_ms(*expire_at), ()));
            }
            Denial::Revoke { id, expire_at } => {
                self.tokens.entries.insert(Arc::clone(id), (until_ms(*expire_at), ()));
            }
            Denial::Invalidate { user, issued_before, expire_at } => {
                let before_ms = match issued_before {
                    0 => now.unix_ms,
                    seconds => seconds.saturating_mul(1000),
                };
                self.older.entries.insert(Arc::clone(user), (until_ms(*expire_at), before_ms));
            }
            Denial::Unblock { .. } => {}
        }
        Ok(())
    }

    #[must_use]
    pub fn blocks(&self, user: &str, now: Now) -> bool {
        self.users.get(user, now.ms).is_some()
    }

    /// Whether the token with these claims was revoked.
    #[must_use]
    pub fn revokes(&self, claims: &ConnectClaims, now: Now) -> bool {
        let older = || self.older.get(&*claims.user, now.ms);
        (!claims.id.is_empty() && self.tokens.get(&*claims.id, now.ms).is_some())
            || older().is_some_and(|before_ms| claims.issued_unix_ms.unwrap_or(0) < *before_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { ms: 5_000, unix_ms: 1_700_000_000_000 };

    fn after(ms: u64) -> Now {
        Now { ms: NOW.ms + ms, unix_ms: 0 }
    }

    #[test]
    fn they_end_on_the_own_clock() {
        let mut denials = Denials::new(10, 1);
        let expire_at = 1_700_000_010;
        denials.add(&Denial::Block { user: "a".into(), expire_at }, NOW).unwrap();
        denials.add(&Denial::Block { user: "b".into(), expire_at: 0 }, NOW).unwrap();
        for (user, ms, want) in
            [("a", 0, true), ("a", 9_999, true), ("a", 10_000, false), ("b", 1 << 40, true), ("c", 0, false)]
        {
            assert_eq!(denials.blocks(user, after(ms)), want, "{user} {ms}");
        }
        denials.add(&Denial::Unblock { user: "b".into() }, NOW).unwrap();
        assert!(!denials.blocks("b", NOW));
    }

    #[test]
    fn tokens_table() {
        let mut denials = Denials::new(10, 1);
        denials.add(&Denial::Revoke { id: "t1".into(), expire_at: 0 }, NOW).unwrap();
        let invalid = Denial::Invalidate { user: "a".into(), issued_before: 100, expire_at: 0 };
        denials.add(&invalid, NOW).unwrap();
        for (id, user, issued, want) in [
            ("t1", "x", None, true),
            ("t2", "x", None, false),
            ("", "x", None, false),
            ("", "a", Some(99_999), true),
            ("", "a", Some(100_000), false),
            ("", "a", None, true),
        ] {
            let claims = ConnectClaims {
                id: id.into(),
                user: user.into(),
                issued_unix_ms: issued,
                ..ConnectClaims::default()
            };
            assert_eq!(denials.revokes(&claims, NOW), want, "{id} {user} {issued:?}");
        }
    }

    #[test]
    fn there_are_so_many_and_those_that_ended_make_room() {
        let mut denials = Denials::new(2, 1);
        let block = |user: &str, expire_at| Denial::Block { user: user.into(), expire_at };
        assert_eq!(denials.add(&block("a", 1_700_000_001), NOW), Ok(()));
        assert_eq!(denials.add(&block("b", 0), NOW), Ok(()));
        assert_eq!(denials.add(&block("c", 0), NOW), Err(ErrorCode::LimitExceeded));
        assert_eq!(denials.add(&block("c", 0), after(1_000)), Ok(()));
        assert_eq!(denials.len(), 2);
    }
}
