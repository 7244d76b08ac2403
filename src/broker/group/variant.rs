//! What sets a group apart from the plain one of its channel, and what it remembers for that. Plain groups have
//! none and pay nothing.

use super::{
    Class, Note,
    delta::{self, Deltas},
    filter::Filter,
};
use crate::{metrics::Counters, model::Publication};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Variant {
    /// Members want what passes.
    filter: Option<Arc<Filter>>,
    /// With deltas: what all members were told last. Once set, nobody joins any more.
    base: Option<Arc<Publication>>,
}

impl Variant {
    /// `None`: a plain group.
    pub fn new(class: Class, filter: Option<Arc<Filter>>) -> Option<Box<Self>> {
        let plain = !class.delta && filter.is_none();
        (!plain).then(|| Box::new(Self { filter, base: None }))
    }

    /// Whether somebody with this filter may join who was told nothing yet.
    pub fn takes(variant: Option<&Self>, filter: Option<&Arc<Filter>>) -> bool {
        variant.map_or(filter.is_none(), |it| it.base.is_none() && it.filter.as_ref() == filter)
    }

    /// Whether members of two groups of the same class have been told the same since they cannot be joined any more.
    pub fn are_alike(&self, other: &Self) -> bool {
        let base = |it: &Self| it.base.as_ref().map(Arc::as_ptr);
        base(self).is_some() && base(self) == base(other) && self.filter == other.filter
    }

    /// True from the first publication to a group with deltas on.
    pub fn is_told(&self) -> bool {
        self.base.is_some()
    }

    /// A note as this group is told it; `None`: not at all.
    pub fn adapt(
        &mut self,
        note: &Note,
        class: Class,
        deltas: &mut Deltas,
        counters: &mut Counters,
    ) -> Option<Note> {
        let Note::Publication { publication, .. } = note else { return Some(note.clone()) };
        if self.filter.as_ref().is_some_and(|filter| !filter.wants(&publication.tags)) {
            return None;
        }
        Some(if class.delta {
            delta::note(&mut self.base, publication, class.protocol, deltas, counters)
        } else {
            note.clone()
        })
    }
}
