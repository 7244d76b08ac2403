//! Publications as differences to the one before, for groups whose members agreed on that.
//!
//! A group remembers what it was told last: that is what each of its members has, so each can make the next
//! publication of the difference. Nobody joins a group that was told something; who joins later starts another,
//! whose first publication goes out in full, and when both have the same they become one (`broker/regroup.rs`).

use super::Note;
use crate::{
    metrics::{Counter, Counters},
    model::{Protocol, Publication},
    wire::{
        client::Patch,
        fossil::{Encoder, Literals},
    },
};
use std::{collections::HashMap, sync::Arc};

/// Differences made in this turn: each is made once, for all groups and all recoveries that need it.
#[derive(Debug)]
pub(super) struct Deltas {
    encoder: Encoder,
    made: HashMap<(usize, usize, Protocol), Made, ahash::RandomState>,
}

#[derive(Debug)]
struct Made {
    patch: Patch,
    /// While they are here, no other publication is at their addresses.
    _between: [Arc<Publication>; 2],
}

/// Room kept for the differences of the next turn.
const MADE_KEPT_MAX: usize = 1024;

impl Default for Deltas {
    fn default() -> Self {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self { encoder: Encoder::default(), made: HashMap::with_hasher(hasher) }
    }
}

impl Deltas {
    /// What makes `after` of `before`; `None` when `after` itself is no longer than that.
    pub fn patch(
        &mut self,
        before: &Arc<Publication>,
        after: &Arc<Publication>,
        protocol: Protocol,
        counters: &mut Counters,
    ) -> Patch {
        let key = (Arc::as_ptr(before) as usize, Arc::as_ptr(after) as usize, protocol);
        if let Some(made) = self.made.get(&key) {
            return made.patch.clone();
        }
        counters.increment(Counter::DeltasMade);
        let literals = if protocol == Protocol::Json { Literals::Text } else { Literals::Bytes };
        let patch: Patch = self.encoder.delta(&before.data, &after.data, literals).map(Arc::from);
        let between = [before, after].map(Arc::clone);
        self.made.insert(key, Made { patch: patch.clone(), _between: between });
        patch
    }

    /// The turn is over.
    pub fn forget(&mut self) {
        if !self.made.is_empty() {
            self.made.clear();
            self.made.shrink_to(MADE_KEPT_MAX);
        }
    }
}

/// `publication` for those who were told `base` last, which it replaces.
pub(super) fn note(
    base: &mut Option<Arc<Publication>>,
    publication: &Arc<Publication>,
    protocol: Protocol,
    deltas: &mut Deltas,
    counters: &mut Counters,
) -> Note {
    let before = base.replace(Arc::clone(publication)).filter(|_| publication.delta);
    let patch = before.and_then(|before| deltas.patch(&before, publication, protocol, counters));
    Note::Patched { publication: Arc::clone(publication), patch }
}
