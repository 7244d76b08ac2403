//! Results of publications that carried an idempotency key, so that a repeated one gets the first answer.
//!
//! Each is kept for five minutes. Bounded in number and in bytes of channel names and keys: beyond either,
//! the oldest are forgotten and a repetition of theirs is published again.

use crate::model::Position;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

const TTL_MS: u64 = 300_000;
const COUNT_MAX: usize = 100_000;
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Forgetting waits for a multiple of this, so that a core wakes for many at once.
const GRANULARITY_MS: u64 = 1024;

#[derive(Debug)]
pub struct Idempotency {
    /// `None` when the publication had no position.
    results: HashMap<Arc<[u8]>, Option<Position>, ahash::RandomState>,
    /// When each expires, in the order of that, which is the order of arrival.
    queue: VecDeque<(u64, Arc<[u8]>)>,
    bytes: usize,
    scratch: Vec<u8>,
}

impl Idempotency {
    #[must_use]
    pub fn new(hasher: ahash::RandomState) -> Self {
        Self { results: HashMap::with_hasher(hasher), queue: VecDeque::new(), bytes: 0, scratch: Vec::new() }
    }

    /// What the publication with this key was answered; `None` when there was none, or too long ago.
    pub fn find(&mut self, channel: &str, key: &str, now_ms: u64) -> Option<Option<Position>> {
        self.expire(now_ms);
        join(&mut self.scratch, channel, key);
        self.results.get(self.scratch.as_slice()).cloned()
    }

    /// Remembers the answer to a publication for which [`Idempotency::find`] found nothing.
    pub fn insert(&mut self, channel: &str, key: &str, position: Option<Position>, now_ms: u64) {
        self.expire(now_ms);
        join(&mut self.scratch, channel, key);
        let name: Arc<[u8]> = self.scratch.as_slice().into();
        self.bytes += name.len();
        let previous = self.results.insert(name.clone(), position);
        debug_assert!(previous.is_none(), "find came before insert");
        self.queue.push_back((now_ms.saturating_add(TTL_MS), name));
        while self.queue.len() > COUNT_MAX || self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    pub fn expire(&mut self, now_ms: u64) {
        while self.oldest_expiry().is_some_and(|expires_ms| expires_ms <= now_ms) {
            self.forget_oldest();
        }
    }

    /// When to call [`Idempotency::expire`]. Only frees memory; nothing expired is ever found.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.oldest_expiry()
            .map(|expires_ms| expires_ms.saturating_add(GRANULARITY_MS) | (GRANULARITY_MS - 1))
    }

    fn oldest_expiry(&self) -> Option<u64> {
        self.queue.front().map(|(expires_ms, _)| *expires_ms)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.queue.pop_front() {
            self.bytes -= name.len();
            self.results.remove(&name);
        }
    }
}

/// The length in front keeps ("a", "bc") and ("ab", "c") apart.
fn join(into: &mut Vec<u8>, channel: &str, key: &str) {
    into.clear();
    into.extend_from_slice(&channel.len().to_le_bytes());
    into.extend_from_slice(channel.as_bytes());
    into.extend_from_slice(key.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Idempotency {
        Idempotency::new(ahash::RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn both_sides_of_the_time_limit() {
        let mut store = empty();
        let position = Position { offset: 3, epoch: "e".into() };
        store.insert("ab", "c", Some(position.clone()), 1000);
        let deadline = store.next_deadline().unwrap();
        assert!((1000 + TTL_MS..1000 + TTL_MS + 2 * GRANULARITY_MS).contains(&deadline));
        assert_eq!(store.find("ab", "c", 1000 + TTL_MS - 1), Some(Some(position)));
        assert_eq!(store.find("ab", "c", 1000 + TTL_MS), None);
        assert_eq!(store.find("a", "bc", 1000), None);
        store.insert("ab", "c", None, 1000 + TTL_MS);
        assert_eq!(store.find("ab", "c", 1000 + TTL_MS), Some(None));
        store.expire(u64::MAX);
        assert_eq!((store.queue.len(), store.results.len(), store.bytes), (0, 0, 0));
        assert_eq!(store.next_deadline(), None);
    }

    #[test]
    fn both_sides_of_the_count_limit() {
        let mut store = empty();
        for number in 0..=COUNT_MAX {
            store.insert("c", &number.to_string(), None, 0);
        }
        assert_eq!(store.results.len(), COUNT_MAX);
        assert_eq!(store.find("c", "0", 0), None);
        assert_eq!(store.find("c", "1", 0), Some(None));
    }

    #[test]
    fn both_sides_of_the_byte_limit() {
        let mut store = empty();
        let long = "x".repeat(BYTES_MAX - size_of::<usize>() - 1);
        store.insert("c", &long, None, 0);
        assert_eq!(store.find("c", &long, 0), Some(None));
        store.insert("d", "", None, 0);
        assert_eq!(store.find("c", &long, 0), None);
        assert_eq!(store.find("d", "", 0), Some(None));
    }
}
