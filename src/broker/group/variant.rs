//! What sets a group apart from the plain one of its channel, and what it remembers for that. Plain groups have
//! none and pay nothing.

use super::{
    Class, Note,
    delta::{self, Deltas},
    entries::Change,
    filter::Filter,
};
use crate::{metrics::Counters, model::Publication};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Clone, Debug, Default)]
pub(super) struct Variant {
    /// Members want what passes.
    filter: Option<Arc<Filter>>,
    /// With deltas: what all members were told last. Once set, nobody joins any more.
    base: Option<Arc<Publication>>,
    /// With conflation: what came last, until the next interval begins. Meanwhile nobody joins.
    held: Option<Arc<Publication>>,
    /// The same of a map, by key: all that members do not know yet of an entry, as one change. No more than the
    /// entries they know and those that are there.
    changes: BTreeMap<Box<str>, Change>,
    /// With conflation: the number, from 1, of the interval in which members were told something last.
    told_in: u64,
    /// There was another group like it when it came up: they become one when both have been told the same.
    pub loose: bool,
}

/// What becomes of a note in a group.
pub(super) enum Adapted {
    Told(Note),
    /// Nothing now; later, at the latest then (on `Now::ms`), if this is the first thing that waits.
    Waits(Option<u64>),
    NotWanted,
}

impl Variant {
    /// `None`: a plain group.
    pub fn new(class: Class, filter: Option<Arc<Filter>>, loose: bool) -> Option<Box<Self>> {
        let plain = !class.delta && class.conflate_ms == 0 && filter.is_none() && !loose;
        (!plain).then(|| Box::new(Self { filter, loose, ..Self::default() }))
    }

    /// Whether somebody with this filter may join who was told nothing yet.
    pub fn takes(variant: Option<&Self>, filter: Option<&Arc<Filter>>) -> bool {
        variant
            .map_or(filter.is_none(), |it| it.base.is_none() && !it.is_held() && it.filter.as_ref() == filter)
    }

    /// Whether members of two groups of the same class have been told the same, and nothing waits for them.
    pub fn are_alike(one: Option<&Self>, other: Option<&Self>) -> bool {
        let base = |it: Option<&Self>| it?.base.as_ref().map(Arc::as_ptr);
        let waits = |it: Option<&Self>| it.is_some_and(Self::is_held);
        let same_filter = || Self::filter(one) == Self::filter(other);
        base(one) == base(other) && !waits(one) && !waits(other) && same_filter()
    }

    pub fn filter(variant: Option<&Self>) -> Option<&Arc<Filter>> {
        variant?.filter.as_ref()
    }

    /// The members of a group like this one have become members.
    pub fn absorb(&mut self, other: Option<&Self>) {
        self.told_in = self.told_in.max(other.map_or(0, |other| other.told_in));
        self.loose &= other.is_some_and(|other| other.loose);
    }

    pub fn is_held(&self) -> bool {
        self.held.is_some() || !self.changes.is_empty()
    }

    /// A note as this group is told it, or what else becomes of it.
    pub fn adapt(
        &mut self,
        note: &Note,
        class: Class,
        now_ms: u64,
        deltas: &mut Deltas,
        counters: &mut Counters,
    ) -> Adapted {
        let Note::Publication { publication, .. } = note else { return Adapted::Told(note.clone()) };
        if self.filter.as_ref().is_some_and(|filter| !filter.wants(&publication.tags)) {
            return Adapted::NotWanted;
        }
        if class.conflate_ms > 0 {
            let interval = interval(now_ms, class);
            if self.held.is_some() || self.told_in == interval {
                let first = self.held.replace(Arc::clone(publication)).is_none();
                return Adapted::Waits(first.then(|| next_interval_ms(now_ms, class)));
            }
            self.told_in = interval;
        }
        Adapted::Told(if class.delta {
            delta::note(&mut self.base, publication, class.protocol, deltas, counters)
        } else {
            note.clone()
        })
    }

    /// Whether a change of a map waits, as [`Adapted::Waits`] says, or is told (`None`). `seen`: members see something
    /// of it.
    pub fn hold(&mut self, change: &Change, seen: bool, class: Class, now_ms: u64) -> Option<Option<u64>> {
        if let Some(held) = self.changes.get_mut(change.key()) {
            held.supersede(change);
            if held.is_nothing() {
                self.changes.remove(change.key());
            }
            return Some(None);
        }
        let interval = interval(now_ms, class);
        if !seen || (self.changes.is_empty() && self.told_in != interval) {
            self.told_in = if seen { interval } else { self.told_in };
            return None;
        }
        let first = self.changes.is_empty();
        self.changes.insert(change.key().into(), change.clone());
        Some(first.then(|| next_interval_ms(now_ms, class)))
    }

    /// The time of what waits has come.
    pub fn release(&mut self) -> Option<Note> {
        let publication = self.held.take()?;
        self.told_in = 0;
        Some(Note::Publication { publication, epoch: None })
    }

    /// The same of a map: what is told now, in order.
    pub fn release_changes(&mut self, class: Class, now_ms: u64) -> Vec<Change> {
        let mut changes: Vec<Change> = std::mem::take(&mut self.changes).into_values().collect();
        changes.sort_unstable_by_key(|change| change.publication.offset);
        if !changes.is_empty() {
            self.told_in = interval(now_ms, class);
        }
        changes
    }
}

/// When the next interval begins.
pub(super) fn next_interval_ms(now_ms: u64, class: Class) -> u64 {
    interval(now_ms, class).saturating_mul(class.conflate_ms.into())
}

/// Intervals are those of the clock, the same for all groups with the same conflation.
fn interval(now_ms: u64, class: Class) -> u64 {
    now_ms / u64::from(class.conflate_ms.max(1)) + 1
}
