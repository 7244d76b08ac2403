//! Changes of maps, as each group is told them.
//!
//! Whoever is in a group of a map has what its owner has, as far as it may see it: a JSON client sees what is JSON, one
//! with a tags filter what passes. So what an entry was before is what members have of it. A difference to that needs
//! no memory of what a group was told, and an entry that becomes one they do not see is gone for them.

use super::{Filter, GroupKey, Groups, Note, publication_is_json, variant::Variant};
use crate::{
    metrics::{Counter, Counters},
    model::{Extra, Protocol, Publication},
};
use std::{cell::OnceCell, sync::Arc};

/// A change of one entry of a map.
#[derive(Clone, Debug)]
pub struct Change {
    /// What it is now, or that it is removed.
    pub publication: Arc<Publication>,
    /// What it was; `None`: it was not there.
    pub before: Option<Arc<Publication>>,
    /// As in [`Note::Publication`].
    pub epoch: Option<Arc<str>>,
}

impl Groups {
    /// Notes a change of a map in its groups, in each as its members see it.
    pub fn note_change(&mut self, groups: &[GroupKey], change: &Change, counters: &mut Counters) {
        let Change { publication, before, epoch } = change;
        let (now_json, before_json, gone) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        for &key in groups {
            let Self { groups, deltas, touched, spare_lists, .. } = self;
            let Some(group) = groups.get_mut(key).filter(|group| !group.members.is_empty()) else { continue };
            let filter = Variant::filter(group.variant.as_deref());
            let class = group.class;
            let sees = |it: &Publication, json: &OnceCell<bool>| {
                let readable =
                    class.protocol != Protocol::Json || *json.get_or_init(|| publication_is_json(it));
                readable && filter.is_none_or(|filter| filter.wants(&it.tags))
            };
            let had = before.as_ref().filter(|before| sees(before, &before_json));
            let told = |publication, epoch: &Option<_>| Note::Publication {
                publication: Arc::clone(publication),
                epoch: epoch.clone(),
            };
            let note = if is_removal(publication) {
                had.map(|_| told(publication, epoch))
            } else if !sees(publication, &now_json) {
                had.map(|_| told(gone.get_or_init(|| removal_of(publication)), &None))
            } else if class.delta {
                let before = had.filter(|_| publication.delta);
                let patch = before.and_then(|it| deltas.patch(it, publication, class.protocol, counters));
                Some(Note::Patched { publication: Arc::clone(publication), patch })
            } else {
                Some(told(publication, epoch))
            };
            if let Some(note) = note {
                super::enlist(group, key, note, touched, spare_lists);
            }
        }
        if now_json.get() == Some(&false) {
            counters.increment(Counter::PublicationsNotJson);
        }
    }
}

/// Leaves of a map's state what a subscriber sees of it. Changes it does not see are removals to it: it may have what
/// the entry was before. Returns how many of both are not JSON, where that matters (`json`).
pub fn show(
    json: bool,
    filter: Option<&Filter>,
    state: &mut Vec<Arc<Publication>>,
    changes: &mut [Arc<Publication>],
) -> u64 {
    let mut not_json = 0;
    let mut sees = |it: &Arc<Publication>| {
        let readable = !json || publication_is_json(it);
        not_json += u64::from(!readable);
        readable && filter.is_none_or(|filter| filter.wants(&it.tags))
    };
    state.retain(&mut sees);
    for change in changes.iter_mut().filter(|it| !is_removal(it)) {
        if !sees(change) {
            *change = removal_of(change);
        }
    }
    not_json
}

fn is_removal(publication: &Publication) -> bool {
    publication.extra.as_ref().is_some_and(|extra| extra.removed)
}

/// That the entry which `publication` sets is gone.
fn removal_of(publication: &Publication) -> Arc<Publication> {
    let key = publication.extra.as_ref().map(|extra| extra.key.clone()).unwrap_or_default();
    let extra = Some(Box::new(Extra { key, removed: true, ..Extra::default() }));
    Arc::new(Publication { offset: publication.offset, extra, json: true, ..Publication::default() })
}
