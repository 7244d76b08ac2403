//! Changes of maps, as each group is told them.
//!
//! Whoever is in a group of a map has what its owner has, as far as it may see it: a JSON client sees what is JSON, one
//! with a tags filter what passes. So what an entry was before is what members have of it. A difference to that needs
//! no memory of what a group was told, and an entry that becomes one they do not see is gone for them.
//!
//! With conflation a group holds what happens to entries until its interval ends, as one change of each entry: from
//! what members have of it to what it is then.

use super::{Class, Deltas, Filter, GroupKey, Groups, Note, publication_is_json, variant::Variant};
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

impl Change {
    pub(super) fn key(&self) -> &str {
        self.publication.extra.as_ref().map_or("", |extra| &extra.key)
    }

    /// One change for what were two.
    pub(super) fn supersede(&mut self, next: &Self) {
        self.publication = Arc::clone(&next.publication);
        self.epoch.clone_from(&next.epoch);
    }

    /// What was not there is not there.
    pub(super) fn is_nothing(&self) -> bool {
        self.before.is_none() && is_removal(&self.publication)
    }
}

/// What all groups look at, found once.
struct Looked<'a> {
    change: &'a Change,
    now_json: OnceCell<bool>,
    before_json: OnceCell<bool>,
    /// That the entry is gone, for those who saw it before and do not see what it is now.
    gone: OnceCell<Arc<Publication>>,
}

impl<'a> Looked<'a> {
    fn at(change: &'a Change) -> Self {
        Self { change, now_json: OnceCell::new(), before_json: OnceCell::new(), gone: OnceCell::new() }
    }

    /// What members of a group have of the entry.
    fn had(&self, class: Class, filter: Option<&Filter>) -> Option<&'a Arc<Publication>> {
        let before = self.change.before.as_ref()?;
        sees(class, filter, before, &self.before_json).then_some(before)
    }

    /// Whether they see what it is now.
    fn is_there(&self, class: Class, filter: Option<&Filter>) -> bool {
        let now = &self.change.publication;
        !is_removal(now) && sees(class, filter, now, &self.now_json)
    }

    /// The change as they see it; nothing where they saw nothing and see nothing.
    fn note(
        &self,
        class: Class,
        filter: Option<&Filter>,
        deltas: &mut Deltas,
        counters: &mut Counters,
    ) -> Option<Note> {
        let Change { publication, epoch, .. } = self.change;
        let had = self.had(class, filter);
        let told = |publication: &Arc<_>, epoch: &Option<_>| Note::Publication {
            publication: Arc::clone(publication),
            epoch: epoch.clone(),
        };
        if is_removal(publication) {
            had.map(|_| told(publication, epoch))
        } else if !self.is_there(class, filter) {
            had.map(|_| told(self.gone.get_or_init(|| removal_of(publication)), &None))
        } else if class.delta {
            let before = had.filter(|before| publication.delta && !is_divided(before));
            let patch = before.and_then(|it| deltas.patch(it, publication, class.protocol, counters));
            Some(Note::Patched { publication: Arc::clone(publication), patch })
        } else {
            Some(told(publication, epoch))
        }
    }
}

fn sees(class: Class, filter: Option<&Filter>, it: &Publication, json: &OnceCell<bool>) -> bool {
    let readable = class.protocol != Protocol::Json || *json.get_or_init(|| publication_is_json(it));
    readable && filter.is_none_or(|filter| filter.wants(&it.tags))
}

impl Groups {
    /// Notes a change of a map in its groups, in each as its members see it.
    pub fn note_change(&mut self, groups: &[GroupKey], change: &Change, counters: &mut Counters) {
        let looked = Looked::at(change);
        for &key in groups {
            self.note_in(key, &looked, true, counters);
        }
        if looked.now_json.get() == Some(&false) {
            counters.increment(Counter::PublicationsNotJson);
        }
    }

    /// Notes the changes of a map that waited for the interval of a group to end.
    pub(super) fn note_held(&mut self, group: GroupKey, changes: &[Change], counters: &mut Counters) {
        for change in changes {
            self.note_in(group, &Looked::at(change), false, counters);
        }
    }

    /// `holds`: it may have to wait.
    fn note_in(&mut self, key: GroupKey, looked: &Looked<'_>, holds: bool, counters: &mut Counters) {
        let Self { groups, deltas, touched, spare_lists, due, now_ms, .. } = self;
        let Some(group) = groups.get_mut(key).filter(|group| !group.members.is_empty()) else { return };
        let class = group.class;
        let filter = Variant::filter(group.variant.as_deref()).cloned();
        let filter = filter.as_deref();
        if holds
            && class.conflate_ms > 0
            && let Some(variant) = &mut group.variant
        {
            let seen = looked.had(class, filter).is_some() || looked.is_there(class, filter);
            if let Some(waits) = variant.hold(looked.change, seen, class, *now_ms) {
                if let Some(due_ms) = waits {
                    due.entry(due_ms).or_default().push(key);
                }
                return;
            }
        }
        if let Some(note) = looked.note(class, filter, deltas, counters) {
            super::enlist(group, key, note, touched, spare_lists);
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

/// Members were told something else, or were not there yet and have this.
fn is_divided(publication: &Publication) -> bool {
    publication.extra.as_ref().is_some_and(|extra| extra.divided)
}

/// That the entry which `publication` sets is gone.
fn removal_of(publication: &Publication) -> Arc<Publication> {
    let key = publication.extra.as_ref().map(|extra| extra.key.clone()).unwrap_or_default();
    let extra = Some(Box::new(Extra { key, removed: true, ..Extra::default() }));
    Arc::new(Publication { offset: publication.offset, extra, json: true, ..Publication::default() })
}
