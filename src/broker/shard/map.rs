//! The entries of one map channel: the latest publication of each key, and when each expires.
//!
//! Bounded in number by `map.keys_max`, which whoever inserts looks at. No time here but what is handed in.

use crate::model::{ClientInfo, Publication};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

#[derive(Debug, Default)]
pub struct Map {
    /// In the order of pages, unless there is another one.
    entries: BTreeMap<Box<str>, Entry>,
    /// By score, then by key, where pages are in the order of scores.
    order: Option<BTreeSet<(i64, Box<str>)>>,
    /// When entries that expire do.
    due: BTreeSet<(u64, Box<str>)>,
    /// How many subscribers stand behind an entry, where the server keeps them.
    holders: BTreeMap<Box<str>, u32>,
    /// Entries that are held and not there, as there was no room for them, and whose they are.
    hidden: BTreeMap<Box<str>, Arc<ClientInfo>>,
    /// A timer for the next expiry is running.
    pub armed: bool,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    /// `u64::MAX`: never.
    expires_ms: u64,
    version: u64,
    version_epoch: Box<str>,
}

/// Which entries are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// As the page before gave it; empty: from the first.
    pub cursor: &'a str,
    /// At most so many.
    pub limit: usize,
    /// Only those that stand at an offset up to this.
    pub top: u64,
    /// From the lowest score on, where pages are in the order of scores; elsewhere it says nothing.
    pub asc: bool,
}

/// What an entry is besides its publication.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// `u64::MAX`: never.
    pub expires_ms: u64,
    pub version: u64,
    pub version_epoch: &'a str,
}

impl Map {
    /// `ordered`: pages are in the order of scores, otherwise in that of keys.
    #[must_use]
    pub fn new(ordered: bool) -> Self {
        Self { order: ordered.then(BTreeSet::new), ..Self::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Publication>> {
        self.entries.get(key).map(|entry| &entry.publication)
    }

    /// Whether an entry with this version says nothing new; as for streams, by key.
    #[must_use]
    pub fn is_outdated(&self, key: &str, version: u64, version_epoch: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let comparable = version_epoch.is_empty() || *version_epoch == *entry.version_epoch;
            version > 0 && comparable && version <= entry.version
        })
    }

    /// Sets an entry.
    pub fn insert(&mut self, key: &str, publication: Arc<Publication>, terms: Terms<'_>) {
        let before = self.entries.remove_entry(key);
        let (key, before) = before.map_or_else(|| (key.into(), None), |(key, entry)| (key, Some(entry)));
        if let Some(order) = &mut self.order {
            if let Some(entry) = &before {
                order.remove(&(score_of(&entry.publication), key.clone()));
            }
            order.insert((score_of(&publication), key.clone()));
        }
        let (version, version_epoch) = match before {
            Some(entry) => {
                self.due.remove(&(entry.expires_ms, key.clone()));
                if terms.version > 0 {
                    (terms.version, terms.version_epoch.into())
                } else {
                    (entry.version, entry.version_epoch)
                }
            }
            None => (terms.version, terms.version_epoch.into()),
        };
        if terms.expires_ms != u64::MAX {
            self.due.insert((terms.expires_ms, key.clone()));
        }
        self.entries.insert(key, Entry { publication, expires_ms: terms.expires_ms, version, version_epoch });
    }

    /// The entry, if there is one, expires then.
    pub fn expire_at(&mut self, key: &str, expires_ms: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.due.remove(&(entry.expires_ms, key.into()));
        entry.expires_ms = expires_ms;
        if expires_ms != u64::MAX {
            self.due.insert((expires_ms, key.into()));
        }
    }

    /// False when there is no such entry.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return false };
        if let Some(order) = &mut self.order {
            order.remove(&(score_of(&entry.publication), key.clone()));
        }
        self.due.remove(&(entry.expires_ms, key));
        true
    }

    /// A page of entries, and the cursor of the next one: empty when there is none. `None` where the cursor is not one
    /// of such a map.
    #[must_use]
    pub fn page<'a>(&'a self, page: Page<'_>) -> Option<(Vec<Arc<Publication>>, Box<str>)> {
        let Some(order) = &self.order else {
            let behind = (Bound::Excluded(page.cursor), Bound::Unbounded);
            let entries = self.entries.range::<str, _>(behind).map(|(key, entry)| (&**key, entry));
            let (found, last) = collect(entries, page);
            return Some((found, last.map_or_else(Box::default, |(key, _)| key.into())));
        };
        let place = if page.cursor.is_empty() { None } else { Some(place(page.cursor)?) };
        let place = place.map_or(Bound::Unbounded, Bound::Excluded);
        let entry = |(_, key): &'a (i64, Box<str>)| Some((&**key, self.entries.get(key)?));
        let (found, last) = if page.asc {
            collect(order.range((place, Bound::Unbounded)).filter_map(entry), page)
        } else {
            collect(order.range((Bound::Unbounded, place)).rev().filter_map(entry), page)
        };
        let cursor = |(key, entry): (&str, &Entry)| format!("{}:{key}", score_of(&entry.publication)).into();
        Some((found, last.map_or_else(Box::default, cursor)))
    }

    /// When the next entry expires.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// An entry whose time is up; the caller removes it.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Option<&str> {
        self.due.first().filter(|(due_ms, _)| *due_ms <= now_ms).map(|(_, key)| &**key)
    }

    /// One more stands behind `key`; true for the first.
    pub fn hold(&mut self, key: &str) -> bool {
        match self.holders.get_mut(key) {
            Some(count) => {
                *count += 1;
                false
            }
            None => {
                self.holders.insert(key.into(), 1);
                true
            }
        }
    }

    /// One less stands behind `key`; true for the last.
    pub fn let_go(&mut self, key: &str) -> bool {
        let Some(count) = self.holders.get_mut(key) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.holders.remove(key);
            self.hidden.remove(key);
        }
        last
    }

    /// There is no room for an entry that is held.
    pub fn hide(&mut self, key: Box<str>, info: Arc<ClientInfo>) {
        self.hidden.insert(key, info);
    }

    /// One there was no room for; the caller sees whether there is now.
    pub fn unhide(&mut self) -> Option<(Box<str>, Arc<ClientInfo>)> {
        self.hidden.pop_first()
    }

    /// Nobody stands behind any entry.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Forgets all entries, and who stands behind them stays.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.iter_mut().for_each(BTreeSet::clear);
        self.due.clear();
    }

    /// Panics when two things that must agree do not.
    pub fn invariants(&self) {
        let due: BTreeSet<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.expires_ms != u64::MAX)
            .map(|(key, entry)| (entry.expires_ms, key.clone()))
            .collect();
        assert_eq!(due, self.due, "entries and their expiries");
        let waits = |key: &str| self.holders.contains_key(key) && !self.entries.contains_key(key);
        assert!(self.hidden.keys().all(|key| waits(key)), "what waits for room is held and not there");
        assert!(self.armed || self.due.is_empty(), "an entry that never expires");
        if let Some(order) = &self.order {
            let placed = self.entries.iter().map(|(key, entry)| (score_of(&entry.publication), key.clone()));
            assert_eq!(placed.collect::<BTreeSet<_>>(), *order, "entries and their order");
        }
    }
}

fn score_of(publication: &Publication) -> i64 {
    publication.extra.as_deref().map_or(0, |extra| extra.score)
}

/// What a cursor in the order of scores says.
fn place(cursor: &str) -> Option<(i64, Box<str>)> {
    let (score, key) = cursor.split_once(':')?;
    Some((score.parse().ok()?, key.into()))
}

type Found<'a> = (Vec<Arc<Publication>>, Option<(&'a str, &'a Entry)>);

/// The first of `entries` that fit, and the last of these if there are more.
fn collect<'a>(entries: impl Iterator<Item = (&'a str, &'a Entry)>, page: Page<'_>) -> Found<'a> {
    let (mut found, mut last) = (Vec::new(), None);
    for (key, entry) in entries {
        if entry.publication.offset > page.top {
            continue;
        }
        if found.len() == page.limit {
            return (found, last);
        }
        found.push(Arc::clone(&entry.publication));
        last = Some((key, entry));
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientId, Extra};

    fn publication(offset: u64, score: i64) -> Arc<Publication> {
        let extra = Some(Box::new(Extra { score, ..Extra::default() }));
        Arc::new(Publication { offset, extra, ..Publication::default() })
    }

    // Whatever is set, prolonged, removed and expires, pages are those of a list that is sorted anew each time.
    #[test]
    fn agrees_with_a_list() {
        arbtest::arbtest(|u| {
            let ordered = u.arbitrary()?;
            let mut map = Map { armed: true, ..Map::new(ordered) };
            // Key, offset, expiry, version, score.
            let mut list: Vec<(&str, u64, u64, u64, i64)> = Vec::new();
            for offset in 1..=u.int_in_range(1..=30)? {
                let key = *u.choose(&["a", "b", "c", "d", "e"])?;
                let known = list.iter().position(|(it, ..)| *it == key);
                match u.int_in_range(0..=5)? {
                    0..=2 => {
                        let version = u.int_in_range(0..=3)?;
                        let before = known.map_or(0, |at| list[at].3);
                        assert_eq!(map.is_outdated(key, version, ""), version > 0 && version <= before);
                        let expires_ms = *u.choose(&[5, 9, u64::MAX])?;
                        let terms = Terms { expires_ms, version, version_epoch: "" };
                        let score = u.int_in_range(-1..=1)?;
                        map.insert(key, publication(offset, score), terms);
                        list.retain(|(it, ..)| *it != key);
                        list.push((
                            key,
                            offset,
                            expires_ms,
                            if version > 0 { version } else { before },
                            score,
                        ));
                    }
                    3 => {
                        assert_eq!(map.remove(key), known.is_some());
                        list.retain(|(it, ..)| *it != key);
                    }
                    4 => {
                        map.expire_at(key, 7);
                        known.into_iter().for_each(|at| list[at].2 = 7);
                    }
                    _ => {
                        let now_ms = u.int_in_range(4..=10)?;
                        while let Some(key) = map.due(now_ms).map(str::to_owned) {
                            assert!(map.remove(&key));
                        }
                        list.retain(|it| it.2 > now_ms);
                        assert_eq!(
                            map.next_due(),
                            list.iter().map(|it| it.2).filter(|it| *it != u64::MAX).min()
                        );
                    }
                }
                map.invariants();
                let (limit, top) = (u.int_in_range(1..=3)?, u.int_in_range(0..=offset)?);
                let asc: bool = u.arbitrary()?;
                list.sort_unstable_by_key(|it| (if ordered { it.4 } else { 0 }, it.0));
                if ordered && !asc {
                    list.reverse();
                }
                let want: Vec<_> = list.iter().map(|it| it.1).filter(|offset| *offset <= top).collect();
                let (mut got, mut cursor, mut pages) = (Vec::new(), Box::default(), 0);
                loop {
                    let (page, next) = map.page(Page { cursor: &cursor, limit, top, asc }).unwrap();
                    got.extend(page.iter().map(|it| it.offset));
                    pages += 1;
                    if next.is_empty() {
                        break;
                    }
                    assert_eq!(page.len(), limit, "a page that is not the last is full");
                    cursor = next;
                }
                assert_eq!(got, want);
                assert_eq!(pages, want.len().div_ceil(limit).max(1), "no page is empty for nothing");
            }
            Ok(())
        });
    }

    #[test]
    fn cursors_of_scores() {
        let mut map = Map::new(true);
        let terms = Terms { expires_ms: u64::MAX, version: 0, version_epoch: "" };
        map.insert("a:b", publication(1, -7), terms);
        map.insert("c", publication(2, i64::MIN), terms);
        let page = |cursor| map.page(Page { cursor, limit: 1, top: 9, asc: false });
        assert_eq!(&*page("").unwrap().1, "-7:a:b");
        assert_eq!(page("-7:a:b").unwrap().0[0].offset, 2);
        assert!(["a", "1", "x:a", ":a"].into_iter().all(|cursor| page(cursor).is_none()));
    }

    #[test]
    fn the_first_comes_and_the_last_goes() {
        let mut map = Map::default();
        assert!(!map.let_go("a"));
        assert_eq!([map.hold("a"), map.hold("a"), map.hold("b")], [true, false, true]);
        let info = ClientInfo {
            user: "".into(),
            client: ClientId::from_random(7),
            conn_info: None,
            chan_info: None,
        };
        map.hide("a".into(), Arc::new(info));
        map.invariants();
        assert_eq!([map.let_go("a"), map.let_go("a"), map.let_go("a")], [false, true, false]);
        assert!(map.unhide().is_none(), "who has gone waits no more");
        assert!(map.is_held());
    }
}
