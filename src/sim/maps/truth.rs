//! What happened to maps, as far as anybody was told: no two may be told different things.

use super::{super::truth::Truth, View, conflates, is_of_clients, is_open, is_persistent};
use std::collections::{BTreeMap, BTreeSet};

/// By key: where it was set and to what.
pub type Entries = BTreeMap<String, (u64, Vec<u8>)>;

/// A change as it stands in a stream: the key, and what it was set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    /// `None`: the entry was removed.
    pub data: Option<Vec<u8>>,
}

/// What the server API was told of an entry that it set.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Only where there was none (true), or only where there was one.
    pub new: Option<bool>,
    pub version: u64,
}

pub type Place = (String, String, u64);

#[derive(Debug, Default)]
pub struct MapTruth {
    changes: BTreeMap<Place, Change>,
    /// Of which key somebody was told there that it is gone, or nothing, as what it was set to is not for him.
    hidden: BTreeMap<Place, BTreeSet<(View, Option<String>)>>,
    /// What somebody had at a place.
    mirrors: BTreeMap<(Place, View), Entries>,
    terms: BTreeMap<Place, Terms>,
    /// Where something set with an idempotency key stands.
    pub once: BTreeMap<String, (String, u64)>,
    /// When somebody tried to set an entry to this.
    tried_ms: BTreeMap<Vec<u8>, u64>,
    /// How long entries last where they do not stay.
    pub key_ttl_ms: u64,
    /// Keys of which somebody may have removed the entry: by channel.
    pub removals: BTreeMap<String, Vec<String>>,
}

impl MapTruth {
    pub fn tried(&mut self, payload: &[u8], now_ms: u64) {
        self.tried_ms.insert(payload.to_vec(), now_ms);
    }

    /// Somebody who sees this much was told of a change.
    pub fn told(
        &mut self,
        (channel, epoch, offset): (&str, &str, u64),
        change: &Change,
        view: View,
        truth: &mut Truth,
    ) {
        assert!(offset > 0 && !change.key.is_empty(), "{channel}: {change:?} at {offset}");
        let place = (channel.to_owned(), epoch.to_owned(), offset);
        let Some(data) = &change.data else { return self.gone_for(place, change, view, truth) };
        if is_open(channel) {
            truth.told(channel, epoch, offset, data);
            assert!(view.sees(data, truth), "{channel}: {view:?} was told {change:?}");
        }
        self.happened(place, change, truth);
    }

    /// As far as somebody with this view knows.
    fn gone_for(&mut self, place: Place, change: &Change, view: View, truth: &Truth) {
        if view == View::default() {
            return self.happened(place, change, truth);
        }
        self.hide(place, view, Some(change.key.clone()), truth);
    }

    /// Somebody with this view was told nothing of what stands there, or that the entry is gone.
    pub fn hide(&mut self, place: Place, view: View, key: Option<String>, truth: &Truth) {
        if let Some(known) = self.changes.get(&place) {
            check_hidden(&place, known, (view, key.as_deref()), truth);
        }
        self.hidden.entry(place).or_default().insert((view, key));
    }

    fn happened(&mut self, place: Place, change: &Change, truth: &Truth) {
        for (view, key) in self.hidden.get(&place).into_iter().flatten() {
            check_hidden(&place, change, (*view, key.as_deref()), truth);
        }
        let known = self.changes.entry(place.clone()).or_insert_with(|| change.clone());
        assert_eq!(known, change, "{place:?}: two changes at one place");
    }

    /// Somebody has this at a place.
    pub fn mirrored(&mut self, (channel, epoch, offset): (&str, &str, u64), view: View, entries: &Entries) {
        let place = (channel.to_owned(), epoch.to_owned(), offset);
        let known = self.mirrors.entry((place, view)).or_insert_with(|| entries.clone());
        assert_eq!(known, entries, "{channel} {epoch} {offset}: two mirrors at one place");
    }

    /// An entry that was this before is gone for everybody.
    pub fn gone(&self, channel: &str, key: &str, data: &[u8], now_ms: u64) {
        let may = self.removals.get(channel).is_some_and(|keys| keys.iter().any(|it| it == key));
        if may || is_of_clients(channel) || !is_open(channel) {
            return;
        }
        assert!(!is_persistent(channel), "{channel}: {key} is gone and nobody removed it");
        let lasted_ms = now_ms - self.tried_ms[data];
        assert!(lasted_ms >= self.key_ttl_ms, "{channel}: {key} expired after {lasted_ms} ms");
    }

    /// The server API says that it set an entry, on these terms.
    pub fn set_on(&mut self, channel: &str, epoch: &str, offset: u64, terms: Terms) {
        self.terms.insert((channel.to_owned(), epoch.to_owned(), offset), terms);
    }

    /// Everything that was set on terms was set by them. To be called when all has been told.
    pub fn check_terms(&self) {
        let mut versions: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (place, terms) in &self.terms {
            let (channel, epoch, offset) = place;
            let Some(change) = self.changes.get(place) else {
                assert!(conflates(channel), "{place:?}: {terms:?} and nobody was told");
                continue;
            };
            let before = ((channel.clone(), epoch.clone(), offset - 1), View::default());
            if let Some((new, before)) = terms.new.zip(self.mirrors.get(&before)) {
                assert_eq!(!before.contains_key(&change.key), new, "{place:?}: {change:?}");
            }
            // An entry that goes takes its version with it.
            if is_persistent(channel) && change.key == super::KEYS[0] && terms.version > 0 {
                let last = versions.insert((channel, epoch), terms.version).unwrap_or(0);
                assert!(terms.version > last, "{place:?}: {terms:?} after {last}");
            }
        }
    }
}

fn check_hidden(place: &Place, change: &Change, (view, key): (View, Option<&str>), truth: &Truth) {
    assert!(key.is_none_or(|key| *key == *change.key), "{place:?}: {change:?} is no end of {key:?}");
    let seen = change.data.as_ref().is_some_and(|data| view.sees(data, truth));
    assert!(!seen, "{place:?}: {change:?} was hidden from {view:?}");
}
