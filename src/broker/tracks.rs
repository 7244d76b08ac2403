//! Which connections of this core track which keys of a shared poll.
//!
//! The owner of the channel only knows that this core wants a key: it is asked with every track, and told when
//! nobody here wants the key any more. As it hears of both in the order they happened, a key for which it has been
//! asked and has not answered yet is one that is wanted ([`Entry::waiting`]).
//!
//! Each connection and key has the version the connection was told last: nothing older reaches it.
//!
//! Bounds: `shared_poll.max_keys_per_connection` keys for each subscription, looked at by whoever asks.

use super::hub::HubKey;
use crate::{
    model::{ConnKey, Publication},
    stdx::{slab::SideTable, wheel::Wheel},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// The books of all shared polls this core has trackers of.
#[derive(Debug)]
pub struct Tracks {
    books: SideTable<Box<Book>>,
    wheel: Wheel,
    seed: u64,
}

impl Tracks {
    /// `seed` keys the hash of keys, which come from clients.
    #[must_use]
    pub fn new(seed: u64, now_ms: u64) -> Self {
        Self { books: SideTable::default(), wheel: Wheel::new(now_ms), seed }
    }

    pub fn get_mut(&mut self, hub: HubKey) -> Option<&mut Book> {
        self.books.get_mut(hub).map(|book| &mut **book)
    }

    /// The book of a channel, made if there is none.
    pub fn book(&mut self, hub: HubKey) -> Option<&mut Book> {
        if self.books.get(hub).is_none() {
            let hasher = ahash::RandomState::with_seeds(self.seed, 0x706f_6c6c, 6, 7);
            self.books.insert(hub, Box::new(Book::new(hasher)));
        }
        self.get_mut(hub)
    }

    /// Nobody here is subscribed to the channel any more.
    pub fn forget(&mut self, hub: HubKey) {
        self.books.remove(hub);
    }

    /// Forgets a book in which nothing stands.
    pub fn forget_if_empty(&mut self, hub: HubKey) {
        if self.books.get(hub).is_some_and(|book| book.is_empty()) {
            self.forget(hub);
        }
    }

    /// Wakes the core when the next keys of this book expire.
    pub fn arm(&mut self, hub: HubKey) {
        let Some(book) = self.books.get_mut(hub) else { return };
        if let Some(due_ms) = book.next_due()
            && due_ms < book.armed_ms
        {
            book.armed_ms = due_ms;
            self.wheel.insert(due_ms, hub.to_bits());
        }
    }

    /// When to call [`Tracks::fired`] next.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.wheel.is_empty() { None } else { self.wheel.next_deadline() }
    }

    /// Appends the books whose time may have come.
    #[inline]
    pub fn fired(&mut self, now_ms: u64, fired: &mut Vec<u64>) {
        if !self.wheel.is_empty() {
            self.wheel.advance(now_ms, fired);
        }
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (HubKey, &Book)> {
        self.books.iter().map(|(hub, book)| (hub, &**book))
    }
}

/// A key a connection wants to track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub key: Box<str>,
    /// What the connection has of it; 0: nothing.
    pub version: u64,
    /// Until when it may; `u64::MAX`: for ever.
    pub until_ms: u64,
}

#[derive(Debug)]
pub struct Book {
    keys: HashMap<Arc<str>, Entry, ahash::RandomState>,
    trackers: BTreeMap<ConnKey, Tracker>,
    /// Connections by when the first of their keys expires.
    due: BTreeSet<(u64, ConnKey)>,
    next_serial: u32,
    /// When the earliest timer that waits for this book fires.
    pub armed_ms: u64,
}

/// What one core has to do with one key.
#[derive(Debug, Default)]
struct Entry {
    /// Versions, by connection.
    told: BTreeMap<ConnKey, u64>,
    /// Questions to the owner that are open.
    waiting: u32,
}

/// What one connection tracks.
#[derive(Debug)]
struct Tracker {
    /// Tells subscriptions of a connection that follow each other apart.
    serial: u32,
    /// Until when each may be tracked.
    keys: BTreeMap<Arc<str>, u64>,
    /// Keys the owner was asked about and has not answered.
    asked: usize,
    due_ms: u64,
}

impl Book {
    #[must_use]
    pub fn new(hasher: ahash::RandomState) -> Self {
        Self {
            keys: HashMap::with_hasher(hasher),
            trackers: BTreeMap::new(),
            due: BTreeSet::new(),
            next_serial: 0,
            armed_ms: u64::MAX,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.trackers.is_empty()
    }

    /// How many keys a connection would track with these.
    #[must_use]
    pub fn count_with(&self, conn: ConnKey, wanted: &[Wanted]) -> usize {
        let Some(tracker) = self.trackers.get(&conn) else { return wanted.len() };
        let new = wanted.iter().filter(|it| !tracker.keys.contains_key(&*it.key)).count();
        tracker.keys.len() + tracker.asked + new
    }

    /// The owner is asked whether `conn` may track these keys. The result comes back with the answer.
    pub fn ask(&mut self, conn: ConnKey, wanted: &[Wanted]) -> u32 {
        for it in wanted {
            match self.keys.get_mut(&*it.key) {
                Some(entry) => entry.waiting += 1,
                None => {
                    self.keys.insert((&*it.key).into(), Entry { waiting: 1, ..Entry::default() });
                }
            }
        }
        let next_serial = &mut self.next_serial;
        let tracker = self.trackers.entry(conn).or_insert_with(|| {
            *next_serial = next_serial.wrapping_add(1);
            Tracker { serial: *next_serial, keys: BTreeMap::new(), asked: 0, due_ms: u64::MAX }
        });
        tracker.asked += wanted.len();
        tracker.serial
    }

    /// The owner's answer to [`Book::ask`]: what it knows of the keys, or `None` if it refused. True when the
    /// connection tracks them now; and the keys nobody here wants any more.
    pub fn answered(
        &mut self,
        conn: ConnKey,
        serial: u32,
        wanted: &[Wanted],
        known: Option<&[Arc<Publication>]>,
    ) -> (bool, Vec<Box<str>>) {
        let tracker = self.trackers.get_mut(&conn).filter(|tracker| tracker.serial == serial);
        let tracks = match tracker {
            Some(tracker) => {
                tracker.asked -= wanted.len().min(tracker.asked);
                known.is_some()
            }
            None => false,
        };
        let mut dropped = Vec::new();
        for it in wanted {
            let Some((key, entry)) = self.keys.get_key_value(&*it.key) else { continue };
            let (key, told) = (Arc::clone(key), entry.told.get(&conn).copied());
            let Some(entry) = self.keys.get_mut(&*it.key) else { continue };
            entry.waiting -= 1;
            if tracks {
                entry.told.insert(conn, told.unwrap_or(0).max(it.version));
                if let Some(tracker) = self.trackers.get_mut(&conn) {
                    tracker.keys.insert(key, it.until_ms);
                }
            } else {
                self.drop_unwanted(&it.key, &mut dropped);
            }
        }
        if tracks {
            for publication in known.unwrap_or_default() {
                let Some(extra) = &publication.extra else { continue };
                if let Some(told) = self.keys.get_mut(&*extra.key).and_then(|it| it.told.get_mut(&conn)) {
                    *told = extra.version.max(*told);
                }
            }
        }
        self.settle(conn);
        (tracks, dropped)
    }

    /// The connection wants these keys no more. Those nobody here wants.
    pub fn untrack<'a>(&mut self, conn: ConnKey, keys: impl Iterator<Item = &'a str>) -> Vec<Box<str>> {
        let mut dropped = Vec::new();
        for key in keys {
            if let Some(tracker) = self.trackers.get_mut(&conn)
                && tracker.keys.remove(key).is_some()
            {
                self.stop_telling(conn, key, &mut dropped);
            }
        }
        self.settle(conn);
        dropped
    }

    /// The connection's subscription is over. The keys nobody here wants any more.
    pub fn leave(&mut self, conn: ConnKey) -> Vec<Box<str>> {
        let mut dropped = Vec::new();
        if let Some(tracker) = self.trackers.remove(&conn) {
            self.due.remove(&(tracker.due_ms, conn));
            for key in tracker.keys.keys() {
                self.stop_telling(conn, key, &mut dropped);
            }
        }
        dropped
    }

    /// What connections have had their time for is tracked no more. The keys nobody here wants.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Box<str>> {
        let mut dropped = Vec::new();
        while let Some(&(due_ms, conn)) = self.due.first().filter(|(due_ms, _)| *due_ms <= now_ms) {
            let Some(tracker) = self.trackers.get_mut(&conn) else {
                self.due.remove(&(due_ms, conn));
                continue;
            };
            let over: Vec<_> = tracker.keys.extract_if(.., |_, until_ms| *until_ms <= now_ms).collect();
            for (key, _) in over {
                self.stop_telling(conn, &key, &mut dropped);
            }
            self.settle(conn);
        }
        dropped
    }

    /// When the next key expires.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Who is to be told of what is new about a key. After its removal nobody tracks it.
    pub fn take(&mut self, publication: &Publication) -> Vec<ConnKey> {
        let Some(extra) = publication.extra.as_deref() else { return Vec::new() };
        let Some(entry) = self.keys.get_mut(&*extra.key) else { return Vec::new() };
        if !extra.removed {
            let news = entry.told.iter_mut().filter(|(_, told)| **told < extra.version);
            return news.map(|(conn, told)| (*told = extra.version, *conn).1).collect();
        }
        let conns: Vec<_> = std::mem::take(&mut entry.told).into_keys().collect();
        if entry.waiting == 0 {
            self.keys.remove(&*extra.key);
        }
        for &conn in &conns {
            if let Some(tracker) = self.trackers.get_mut(&conn) {
                tracker.keys.remove(&*extra.key);
            }
            self.settle(conn);
        }
        conns
    }

    fn stop_telling(&mut self, conn: ConnKey, key: &str, dropped: &mut Vec<Box<str>>) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.told.remove(&conn);
        }
        self.drop_unwanted(key, dropped);
    }

    fn drop_unwanted(&mut self, key: &str, dropped: &mut Vec<Box<str>>) {
        if self.keys.get(key).is_some_and(|entry| entry.told.is_empty() && entry.waiting == 0) {
            self.keys.remove(key);
            dropped.push(key.into());
        }
    }

    /// The keys of a connection have changed: it may track none, and the first may expire at another time.
    fn settle(&mut self, conn: ConnKey) {
        let Some(tracker) = self.trackers.get_mut(&conn) else { return };
        let due_ms = tracker.keys.values().copied().min().unwrap_or(u64::MAX);
        if due_ms != tracker.due_ms {
            self.due.remove(&(tracker.due_ms, conn));
            tracker.due_ms = due_ms;
            if due_ms != u64::MAX {
                self.due.insert((due_ms, conn));
            }
        }
        if tracker.keys.is_empty() && tracker.asked == 0 {
            self.trackers.remove(&conn);
        }
    }

    /// Connections that track something here.
    #[cfg(test)]
    pub fn conns(&self) -> impl Iterator<Item = ConnKey> {
        self.trackers.keys().copied()
    }

    /// Panics when two things that must agree do not.
    #[cfg(test)]
    pub fn invariants(&self) {
        for (key, entry) in &self.keys {
            assert!(entry.waiting > 0 || !entry.told.is_empty(), "{key}: wanted by nobody");
            for conn in entry.told.keys() {
                assert!(self.trackers[conn].keys.contains_key(key), "{key}: told to who does not track it");
            }
        }
        let mut due = BTreeSet::new();
        for (conn, tracker) in &self.trackers {
            assert!(tracker.asked > 0 || !tracker.keys.is_empty(), "{conn:?} tracks nothing");
            for key in tracker.keys.keys() {
                assert!(self.keys[key].told.contains_key(conn), "{key}: tracked by who is not told");
            }
            let first = tracker.keys.values().copied().min().unwrap_or(u64::MAX);
            assert_eq!(tracker.due_ms, first);
            due.extend((first != u64::MAX).then_some((first, *conn)));
        }
        assert_eq!(self.due, due);
    }
}

#[cfg(test)]
mod tests;
