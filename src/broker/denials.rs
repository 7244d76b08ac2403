//! Who is kept out: blocked users, on the core that owns them; tokens that were revoked, on every core.
//!
//! In memory, each with an end, and bounded (`client.denials_max`): a restart forgets them. A blocked user loses
//! its sessions at once. A revoked token opens nothing and prolongs nothing any more, and what it has opened ends at
//! once: sessions and subscriptions carry a [`Mark`] of their token.

use crate::{
    auth::{ConnectClaims, SubscribeClaims},
    model::Now,
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
    /// Tokens of this user made before `issued_before` (0: now), and those that do not say when: of connections, or
    /// with a channel of subscriptions to it.
    Invalidate {
        user: Arc<str>,
        channel: Arc<str>,
        issued_before: u64,
        expire_at: u64,
    },
}

/// What is remembered of the token a session or a subscription lives on. Without one: the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Hash of its `jti`; 0: it has none.
    id: u64,
    issued_unix_ms: u64,
}

impl Default for Mark {
    fn default() -> Self {
        Self { id: 0, issued_unix_ms: u64::MAX }
    }
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

    fn len(&self) -> usize {
        self.entries.len()
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
    /// Likewise of subscriptions, by user and channel.
    older_in: Ending<u64>,
    ids: ahash::RandomState,
    max: usize,
}

/// The name of a user's subscriptions to a channel.
fn place(user: &str, channel: &str) -> Arc<str> {
    format!("{}:{user}{channel}", user.len()).into()
}

fn before_ms(issued_before: u64, now: Now) -> u64 {
    match issued_before {
        0 => now.unix_ms,
        seconds => seconds.saturating_mul(1000),
    }
}

impl Denials {
    /// `seed` keys the hashes of names, which come from outside.
    #[must_use]
    pub fn new(max: usize, seed: u64) -> Self {
        let ids = ahash::RandomState::with_seeds(seed, 21, 22, 23);
        let (users, tokens) = (Ending::new(seed), Ending::new(seed));
        Self { users, tokens, older: Ending::new(seed), older_in: Ending::new(seed), ids, max }
    }

    /// How many there are that count with this one: users are known to their owner alone, tokens to every core.
    fn count(&self, denial: &Denial) -> usize {
        match denial {
            Denial::Block { .. } | Denial::Unblock { .. } => self.users.len(),
            Denial::Revoke { .. } | Denial::Invalidate { .. } => {
                self.tokens.len() + self.older.len() + self.older_in.len()
            }
        }
    }

    /// Whether there is room for this one; those that have ended are forgotten if not.
    pub fn has_room(&mut self, denial: &Denial, now: Now) -> bool {
        if matches!(denial, Denial::Unblock { .. }) {
            return true;
        }
        if self.count(denial) >= self.max {
            self.users.forget_ended(now.ms);
            self.tokens.forget_ended(now.ms);
            self.older.forget_ended(now.ms);
            self.older_in.forget_ended(now.ms);
        }
        self.count(denial) < self.max
    }

    /// Whoever asks looks for room before ([`Denials::has_room`]): what one core has promised holds on all.
    pub fn add(&mut self, denial: &Denial, now: Now) {
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
            Denial::Invalidate { user, channel, issued_before, expire_at } => {
                let entry = (until_ms(*expire_at), before_ms(*issued_before, now));
                if channel.is_empty() {
                    self.older.entries.insert(Arc::clone(user), entry);
                } else {
                    self.older_in.entries.insert(place(user, channel), entry);
                }
            }
            Denial::Unblock { user } => {
                self.users.entries.remove(user);
            }
        }
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

    /// The same for the token of a subscription.
    #[must_use]
    pub fn revokes_subscription(&self, claims: &SubscribeClaims, now: Now) -> bool {
        let older = || {
            // Nearly always there is nobody, and no name to be made.
            let some = !self.older_in.entries.is_empty();
            some.then(|| self.older_in.get(&*place(&claims.user, &claims.channel), now.ms)).flatten()
        };
        (!claims.id.is_empty() && self.tokens.get(&*claims.id, now.ms).is_some())
            || older().is_some_and(|before_ms| claims.issued_unix_ms.unwrap_or(0) < *before_ms)
    }

    /// The mark of the token with this `jti` and `iat`.
    #[must_use]
    pub fn mark(&self, id: &str, issued_unix_ms: Option<u64>) -> Mark {
        let id = if id.is_empty() { 0 } else { self.ids.hash_one(id).max(1) };
        Mark { id, issued_unix_ms: issued_unix_ms.unwrap_or(0) }
    }

    /// The tokens a denial is about; `None`: those of nobody.
    #[must_use]
    pub fn marked<'a>(&self, denial: &'a Denial, now: Now) -> Option<Marked<'a>> {
        match denial {
            Denial::Block { .. } | Denial::Unblock { .. } => None,
            Denial::Revoke { id, .. } => Some(Marked::Id(self.mark(id, None).id)),
            Denial::Invalidate { user, channel, issued_before, .. } => {
                Some(Marked::Older { user, channel, before_ms: before_ms(*issued_before, now) })
            }
        }
    }
}

/// Tokens that are refused from now on.
#[derive(Clone, Copy, Debug)]
pub enum Marked<'a> {
    Id(u64),
    Older { user: &'a str, channel: &'a str, before_ms: u64 },
}

impl Marked<'_> {
    /// Whether the token with this mark is one of them: one of this user, for this channel (empty: for connections).
    #[must_use]
    pub fn has(self, mark: Mark, user: &str, channel: &str) -> bool {
        match self {
            Self::Id(id) => mark.id == id,
            Self::Older { user: whose, channel: of, before_ms } => {
                mark.issued_unix_ms < before_ms && user == whose && channel == of
            }
        }
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
        denials.add(&Denial::Block { user: "a".into(), expire_at }, NOW);
        denials.add(&Denial::Block { user: "b".into(), expire_at: 0 }, NOW);
        for (user, ms, want) in
            [("a", 0, true), ("a", 9_999, true), ("a", 10_000, false), ("b", 1 << 40, true), ("c", 0, false)]
        {
            assert_eq!(denials.blocks(user, after(ms)), want, "{user} {ms}");
        }
        denials.add(&Denial::Unblock { user: "b".into() }, NOW);
        assert!(!denials.blocks("b", NOW));
    }

    #[test]
    fn tokens_table() {
        let mut denials = Denials::new(10, 1);
        denials.add(&Denial::Revoke { id: "t1".into(), expire_at: 0 }, NOW);
        let invalid =
            Denial::Invalidate { user: "a".into(), channel: "".into(), issued_before: 100, expire_at: 0 };
        denials.add(&invalid, NOW);
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

    /// What opens nothing any more and what has to go are the same tokens.
    #[test]
    fn marks_of_tokens_table() {
        let mut denials = Denials::new(10, 1);
        let invalid = |user: &str, channel: &str| Denial::Invalidate {
            user: user.into(),
            channel: channel.into(),
            issued_before: 100,
            expire_at: 0,
        };
        let all = [
            Denial::Revoke { id: "t1".into(), expire_at: 0 },
            invalid("a", ""),
            invalid("b", "news"),
            invalid("c1", "x"),
        ];
        all.iter().for_each(|denial| denials.add(denial, NOW));
        // Its id, its user, of which channel (none: of a connection), made when.
        for (id, user, channel, issued, want) in [
            ("t1", "x", "", Some(200_000), true),
            ("t1", "x", "any", Some(200_000), true),
            ("t2", "x", "any", None, false),
            ("", "a", "", Some(99_999), true),
            ("", "a", "", Some(100_000), false),
            ("", "a", "news", Some(1), false),
            ("", "b", "", Some(1), false),
            ("", "b", "news", Some(1), true),
            ("", "b", "news", None, true),
            ("", "b", "news", Some(100_000), false),
            ("", "b", "other", Some(1), false),
            ("", "c", "1x", Some(1), false),
        ] {
            let refused = if channel.is_empty() {
                let claims = ConnectClaims {
                    id: id.into(),
                    user: user.into(),
                    issued_unix_ms: issued,
                    ..ConnectClaims::default()
                };
                denials.revokes(&claims, NOW)
            } else {
                let claims = SubscribeClaims {
                    id: id.into(),
                    user: user.into(),
                    channel: channel.into(),
                    issued_unix_ms: issued,
                    ..SubscribeClaims::default()
                };
                denials.revokes_subscription(&claims, NOW)
            };
            let mark = denials.mark(id, issued);
            let marked = all.iter().filter_map(|denial| denials.marked(denial, NOW));
            let ends = marked.into_iter().any(|marked| marked.has(mark, user, channel));
            assert_eq!((refused, ends), (want, want), "{id} {user} {channel} {issued:?}");
        }
        let none = Mark::default();
        assert!(all.iter().filter_map(|it| denials.marked(it, NOW)).all(|it| !it.has(none, "a", "")));
    }

    #[test]
    fn there_are_so_many_and_those_that_ended_make_room() {
        let mut denials = Denials::new(2, 1);
        let block = |user: &str, expire_at| Denial::Block { user: user.into(), expire_at };
        let mut add = |denial: &Denial, now| {
            let room = denials.has_room(denial, now);
            if room {
                denials.add(denial, now);
            }
            room
        };
        assert!(add(&block("a", 1_700_000_001), NOW));
        assert!(add(&block("b", 0), NOW));
        assert!(!add(&block("c", 0), NOW));
        let revoke = |id: &str| Denial::Revoke { id: id.into(), expire_at: 0 };
        assert!(add(&revoke("t1"), NOW), "users take no room from tokens");
        assert!(add(&revoke("t2"), NOW));
        assert!(!add(&revoke("t3"), NOW));
        assert!(add(&block("c", 0), after(1_000)), "one has ended");
        assert_eq!(denials.users.len(), 2);
    }
}
