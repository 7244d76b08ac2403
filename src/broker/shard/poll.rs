//! What the owner of a shared poll knows of its keys: who wants them, what they are, and when to ask for them.
//!
//! Keys are asked for in rounds, one each interval, in batches spread over it; those that nobody knows anything of
//! are asked for at once. A key is in at most one open request, and one that nobody wants is forgotten at once.
//!
//! Clients are told an epoch of our own making: it changes whenever the versions of before mean nothing any more, so
//! that they forget theirs. No time here but what is handed in.

use crate::{
    model::{CoreId, ErrorCode, Extra, Position, Publication},
    stdx::bitset::CoreSet,
    wire::backend::{PollItem, PollRefreshed},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Longest pause after failures in a row.
const PAUSE_MAX_MS: u64 = 30_000;

/// The options of a namespace of shared polls.
#[derive(Clone, Copy, Debug)]
pub struct PollRules {
    pub versioned: bool,
    pub interval_ms: u64,
    pub batch_size: usize,
    /// Requests open at a time.
    pub open_max: usize,
    pub keys_max: usize,
}

#[derive(Debug)]
pub struct Poll {
    rules: PollRules,
    items: HashMap<Arc<str>, Item, ahash::RandomState>,
    /// What clients are told.
    pub epoch: Arc<str>,
    /// The backend's, once it has said one.
    backend_epoch: Box<str>,
    /// Of the data of keys, where the backend has no versions. Rises with every change of any key, so that a key that
    /// comes back is newer than it was.
    last_version: u64,
    /// How often versions have started over: what was asked before is void.
    generation: u32,
    round: VecDeque<Arc<str>>,
    /// Keys that nothing is known of.
    cold: VecDeque<Arc<str>>,
    /// When the next batch of the round is due, or the next round.
    due_ms: u64,
    /// Between the batches of the round.
    step_ms: u64,
    /// Nothing is asked before, for the backend fails.
    paused_until_ms: u64,
    failures: u32,
    open: usize,
    /// When the earliest timer that waits for this poll fires.
    pub armed_ms: u64,
    /// Nobody is subscribed, and the epoch is kept for who comes back.
    pub lingers_until_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Item {
    /// Cores with connections that track the key.
    cores: CoreSet,
    version: u64,
    latest: Option<Arc<Publication>>,
    state: State,
    /// It was published just now, so the next round need not ask for it.
    fresh: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// Among the cold ones.
    Cold,
    /// In an open request.
    Asked,
}

/// Keys to ask the backend for.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub items: Vec<(Arc<str>, u64)>,
    pub generation: u32,
}

/// What an answer or a publish brought.
#[derive(Debug, Default)]
pub struct Changes {
    /// For whom, in the order of the answer.
    pub told: Vec<(CoreSet, Arc<Publication>)>,
    /// Versions have started over: all subscribers begin anew.
    pub reset: bool,
}

impl Poll {
    /// `hasher` keys the hash of keys, which come from clients.
    #[must_use]
    pub fn new(rules: PollRules, epoch: Arc<str>, hasher: ahash::RandomState, now_ms: u64) -> Self {
        Self {
            rules,
            items: HashMap::with_hasher(hasher),
            epoch,
            backend_epoch: Box::default(),
            last_version: 0,
            generation: 0,
            round: VecDeque::new(),
            cold: VecDeque::new(),
            due_ms: now_ms.saturating_add(rules.interval_ms),
            step_ms: rules.interval_ms,
            paused_until_ms: 0,
            failures: 0,
            open: 0,
            armed_ms: u64::MAX,
            lingers_until_ms: None,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[must_use]
    pub fn is_versioned(&self) -> bool {
        self.rules.versioned
    }

    /// What clients compare: another epoch says that all begins anew.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { offset: 0, epoch: Arc::clone(&self.epoch) }
    }

    /// A connection of `core` tracks these keys and has these versions of them. What is known beyond.
    ///
    /// # Errors
    /// [`ErrorCode::LimitExceeded`]; then nothing has happened.
    pub fn track(
        &mut self,
        core: CoreId,
        keys: &[(Box<str>, u64)],
        now_ms: u64,
    ) -> Result<Vec<Arc<Publication>>, ErrorCode> {
        let new = keys.iter().filter(|(key, _)| !self.items.contains_key(&**key)).count();
        if self.items.len() + new > self.rules.keys_max {
            return Err(ErrorCode::LimitExceeded);
        }
        if self.items.is_empty() && self.due_ms <= now_ms {
            self.round.clear();
            self.due_ms = now_ms.saturating_add(self.rules.interval_ms);
        }
        let mut known = Vec::new();
        for (key, has) in keys {
            let key: Arc<str> = match self.items.get_key_value(&**key) {
                Some((key, _)) => Arc::clone(key),
                None => (&**key).into(),
            };
            let item = self.items.entry(Arc::clone(&key)).or_default();
            item.cores.insert(core);
            match &item.latest {
                Some(latest) if item.version > *has => known.push(Arc::clone(latest)),
                Some(_) => {}
                None if *has == 0 && item.state == State::Idle => {
                    item.state = State::Cold;
                    self.cold.push_back(key);
                }
                None => {}
            }
        }
        self.drop_stale();
        Ok(known)
    }

    /// Nobody on `core` tracks these keys any more.
    pub fn untrack(&mut self, core: CoreId, keys: &[Box<str>]) {
        for key in keys {
            if let Some(item) = self.items.get_mut(&**key) {
                item.cores.remove(core);
                if item.cores.is_empty() {
                    self.items.remove(&**key);
                }
            }
        }
    }

    /// Nobody on `core` tracks anything any more.
    pub fn forget_core(&mut self, core: CoreId) {
        self.items.retain(|_, item| {
            item.cores.remove(core);
            !item.cores.is_empty()
        });
    }

    /// What to ask for now, if anything is due. To be called until there is nothing.
    pub fn next_batch(&mut self, now_ms: u64) -> Option<Batch> {
        if self.items.is_empty() || self.open >= self.open_max() || now_ms < self.paused_until_ms {
            return None;
        }
        let items = self.take_cold().or_else(|| self.take_of_round(now_ms))?;
        self.open += 1;
        Some(Batch { items, generation: self.generation })
    }

    /// After a failure a single request finds out whether the backend is back.
    fn open_max(&self) -> usize {
        if self.failures > 0 { 1 } else { self.rules.open_max }
    }

    fn take_cold(&mut self) -> Option<Vec<(Arc<str>, u64)>> {
        let mut taken = Vec::new();
        while taken.len() < self.rules.batch_size
            && let Some(key) = self.cold.pop_front()
        {
            if let Some(item) = self.items.get_mut(&key).filter(|item| item.state == State::Cold) {
                item.state = State::Asked;
                taken.push((key, item.version));
            }
        }
        (!taken.is_empty()).then_some(taken)
    }

    fn take_of_round(&mut self, now_ms: u64) -> Option<Vec<(Arc<str>, u64)>> {
        if now_ms < self.due_ms {
            return None;
        }
        if self.round.is_empty() {
            self.begin_round();
        }
        let mut taken = Vec::new();
        while taken.len() < self.rules.batch_size
            && let Some(key) = self.round.pop_front()
        {
            if let Some(item) = self.items.get_mut(&key).filter(|item| item.state == State::Idle) {
                item.state = State::Asked;
                taken.push((key, item.version));
            }
        }
        if self.round.is_empty() && taken.len() < self.rules.batch_size {
            self.round = VecDeque::new();
        }
        // A core that stood still does not make up for what it missed.
        self.due_ms = self.due_ms.saturating_add(self.step_ms).max(now_ms.saturating_add(1));
        (!taken.is_empty()).then_some(taken)
    }

    fn begin_round(&mut self) {
        for (key, item) in &mut self.items {
            if !std::mem::take(&mut item.fresh) && item.state == State::Idle {
                self.round.push_back(Arc::clone(key));
            }
        }
        let batches = self.round.len().div_ceil(self.rules.batch_size).max(1) as u64;
        self.step_ms = (self.rules.interval_ms / batches).max(1);
    }

    /// When to look for a batch again; `None`: not before something else happens.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        if self.items.is_empty() || self.open >= self.open_max() {
            return None;
        }
        let due_ms = if self.cold.is_empty() { self.due_ms } else { 0 };
        Some(due_ms.max(self.paused_until_ms))
    }

    /// The backend's answer to a batch; `None`: it failed. What is known stays then, and it is left alone for a
    /// while, for longer each time.
    pub fn answer(
        &mut self,
        batch: &Batch,
        answer: Option<PollRefreshed>,
        time_ms: u64,
        now_ms: u64,
    ) -> Changes {
        self.open = self.open.saturating_sub(1);
        for (key, _) in &batch.items {
            if let Some(item) = self.items.get_mut(key).filter(|item| item.state == State::Asked) {
                item.state = State::Idle;
            }
        }
        let Some(answer) = answer else {
            self.fail(batch, now_ms);
            return Changes::default();
        };
        self.failures = 0;
        if batch.generation != self.generation {
            return Changes::default();
        }
        let reset = self.rules.versioned && self.meet_epoch(&answer.epoch);
        let mut changes = Changes { reset, told: Vec::new() };
        for item in answer.items {
            changes.told.extend(self.take(item, time_ms));
        }
        changes
    }

    /// What nothing is known of is asked for again as soon as the pause is over.
    fn fail(&mut self, batch: &Batch, now_ms: u64) {
        // Several that were open together are one failure.
        if now_ms >= self.paused_until_ms {
            let interval_ms = self.rules.interval_ms;
            let pause_ms = interval_ms.saturating_mul(1 << self.failures.min(16));
            self.failures = self.failures.saturating_add(1);
            self.paused_until_ms = now_ms.saturating_add(pause_ms.min(PAUSE_MAX_MS.max(interval_ms)));
        }
        for (key, _) in &batch.items {
            if let Some(item) = self.items.get_mut(key)
                && item.latest.is_none()
                && item.state == State::Idle
            {
                item.state = State::Cold;
                self.cold.push_back(Arc::clone(key));
            }
        }
    }

    /// Data that somebody publishes. What is not newer than what is known says nothing.
    pub fn publish(&mut self, epoch: &str, item: PollItem, time_ms: u64) -> Changes {
        let reset = self.meet_epoch(epoch);
        let key = item.key.clone();
        let told: Vec<_> = self.take(item, time_ms).into_iter().collect();
        if !told.is_empty()
            && let Some(item) = self.items.get_mut(&*key)
        {
            item.fresh = true;
        }
        Changes { told, reset }
    }

    /// True when versions have started over, and all that was known is void.
    fn meet_epoch(&mut self, epoch: &str) -> bool {
        if epoch.is_empty() || *epoch == *self.backend_epoch {
            return false;
        }
        let first = self.backend_epoch.is_empty();
        self.backend_epoch = epoch.into();
        if first {
            return false;
        }
        self.generation = self.generation.wrapping_add(1);
        for item in self.items.values_mut() {
            (item.version, item.latest, item.fresh) = (0, None, false);
        }
        true
    }

    /// What is new about a key, and for whom.
    fn take(&mut self, said: PollItem, time_ms: u64) -> Option<(CoreSet, Arc<Publication>)> {
        if said.removed {
            let (key, item) = self.items.remove_entry(&*said.key)?;
            let extra = Extra { key: (&*key).into(), removed: true, ..Extra::default() };
            let extra = Some(Box::new(extra));
            let removal = Publication { extra, time_ms, json: true, ..Publication::default() };
            return Some((item.cores, Arc::new(removal)));
        }
        let item = self.items.get_mut(&*said.key)?;
        let data = said.data?;
        let version = if self.rules.versioned {
            Some(said.version).filter(|version| *version > item.version)?
        } else {
            if item.latest.as_ref().is_some_and(|latest| latest.data == data) {
                return None;
            }
            self.last_version += 1;
            self.last_version
        };
        let extra = Some(Box::new(Extra { key: said.key, version, ..Extra::default() }));
        let publication =
            Arc::new(Publication { data, json: said.json, extra, time_ms, ..Publication::default() });
        item.version = version;
        item.latest = Some(Arc::clone(&publication));
        if item.state == State::Cold {
            item.state = State::Idle;
        }
        Some((item.cores, publication))
    }

    /// Bounds what keys that come and go leave behind while nothing can be asked.
    fn drop_stale(&mut self) {
        if self.cold.len() > 2 * self.items.len() + 64 {
            let mut seen = std::collections::HashSet::new();
            let items = &self.items;
            self.cold.retain(|key| {
                items.get(key).is_some_and(|item| item.state == State::Cold) && seen.insert(Arc::clone(key))
            });
        }
    }

    /// Panics when two things that must agree do not.
    pub fn invariants(&self) {
        assert!(self.items.len() <= self.rules.keys_max);
        assert!(self.open <= self.rules.open_max);
        assert!(self.cold.len() <= 2 * self.rules.keys_max + 64);
        for (key, item) in &self.items {
            assert!(!item.cores.is_empty(), "{key}: kept for nobody");
            assert_eq!(item.latest.is_some(), item.version > 0, "{key}: data and its version");
            if item.state == State::Cold {
                assert!(self.cold.contains(key), "{key}: waits for nothing");
            }
        }
    }
}

#[cfg(test)]
mod tests;
