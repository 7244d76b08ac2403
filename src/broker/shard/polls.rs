//! Shared polls: channels whose data is the backend's. Keys are tracked by cores, asked for, and what is new of them
//! goes to the cores that track them.
//!
//! Calls to the backend leave as values ([`Shard::take_calls`]) and come back by number. One that comes back late
//! finds a channel that has forgotten about it.

use super::{
    Shard,
    channel::Rules,
    forward,
    poll::{Batch, Changes, Poll, PollRules},
    random_epoch,
};
use crate::{
    broker::{
        mesh::{Answer, Forward, Mesh, Outgoing, OwnedKey, PollSet},
        seam::{BackendAnswer, BackendCall, BackendRequest},
    },
    config::{ChannelOptions, PollMode, SubscriptionType},
    metrics::Counter,
    model::{CoreId, ErrorCode, Now, Position},
    stdx::slab::{Key, Slab},
    stdx::wheel::Wheel,
    wire::backend::PollRefresh,
};
use std::{sync::Arc, time::Duration};

/// What the shared polls of a shard have in common.
#[derive(Debug)]
pub struct Polls {
    /// By [`crate::broker::permission::Namespaces::index`]; `None` where channels are none.
    rules: Vec<Option<(PollRules, u64)>>,
    open: Slab<Open>,
    calls: Vec<BackendCall>,
    /// Polls that may have something to ask for.
    due: Vec<OwnedKey>,
    wheel: Wheel,
    fired: Vec<u64>,
}

/// A call the backend has not answered.
#[derive(Debug)]
struct Open {
    channel: OwnedKey,
    batch: Batch,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Polls {
    pub fn new<'a>(options: impl Iterator<Item = &'a ChannelOptions>) -> Self {
        let rules = |options: &ChannelOptions| {
            let poll = &options.shared_poll;
            let rules = PollRules {
                versioned: poll.mode == PollMode::Versioned,
                interval_ms: ms(poll.refresh_interval).max(1),
                batch_size: poll.refresh_batch_size,
                open_max: poll.refresh_concurrency,
                keys_max: poll.keys_max,
            };
            (options.subscription_type == SubscriptionType::SharedPoll)
                .then(|| (rules, ms(poll.channel_shutdown_delay)))
        };
        Self {
            rules: options.map(rules).collect(),
            open: Slab::default(),
            calls: Vec::new(),
            due: Vec::new(),
            wheel: Wheel::new(0),
            fired: Vec::new(),
        }
    }

    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        match (self.due.is_empty(), self.wheel.is_empty()) {
            (false, _) => Some(0),
            (true, true) => None,
            (true, false) => self.wheel.next_deadline(),
        }
    }
}

impl Shard {
    /// The poll of a channel that somebody subscribes to, made if there is none; its place is its epoch.
    pub(super) fn use_poll(&mut self, owned: OwnedKey, now: Now) -> Option<Position> {
        let channel = self.channels.get_mut(owned)?;
        let (rules, _) = self.polls.rules.get(usize::from(channel.rules.namespace)).copied().flatten()?;
        let rng = &mut self.rng;
        let poll = channel.poll.get_or_insert_with(|| {
            let [a, b] = [rng.next_u64(), rng.next_u64()];
            let hasher = ahash::RandomState::with_seeds(a, b, 1, 2);
            Box::new(Poll::new(rules, random_epoch(rng), hasher, now.ms))
        });
        poll.lingers_until_ms = None;
        Some(poll.position())
    }

    /// A connection of core `from`, which has subscribers of the channel, tracks keys.
    pub(super) fn poll_track(
        &mut self,
        from: CoreId,
        owned: OwnedKey,
        keys: &[(Box<str>, u64)],
        now: Now,
    ) -> Result<Answer, ErrorCode> {
        let channel = self.channels.get_mut(owned).ok_or(ErrorCode::PermissionDenied)?;
        if !channel.interest.cores().contains(from) {
            return Err(ErrorCode::PermissionDenied);
        }
        let poll = channel.poll.as_deref_mut().ok_or(ErrorCode::NotAvailable)?;
        let known = poll.track(from, keys, now.ms)?;
        self.polls.due.push(owned);
        Ok(Answer::Tracked(known))
    }

    pub(super) fn poll_untrack(&mut self, from: CoreId, owned: OwnedKey, keys: &[Box<str>]) {
        if let Some(poll) = self.channels.get_mut(owned).and_then(|channel| channel.poll.as_deref_mut()) {
            poll.untrack(from, keys);
        }
    }

    /// Core `from` has no subscriber of the channel any more.
    pub(super) fn poll_left(&mut self, from: CoreId, owned: OwnedKey, now: Now) {
        let Some(channel) = self.channels.get_mut(owned) else { return };
        let Some(poll) = channel.poll.as_deref_mut() else { return };
        poll.forget_core(from);
        let rules = self.polls.rules.get(usize::from(channel.rules.namespace)).copied().flatten();
        if channel.interest.subscribers() == 0
            && let Some((_, delay_ms @ 1..)) = rules
        {
            let until_ms = now.ms.saturating_add(delay_ms);
            poll.lingers_until_ms = Some(until_ms);
            self.arm_poll(owned, until_ms);
        }
    }

    /// Somebody has newer data than the backend was asked for.
    ///
    /// # Errors
    /// [`ErrorCode::NotAvailable`] where channels are no shared polls, or their keys have no versions.
    pub(super) fn poll_publish(
        &mut self,
        name: &Arc<str>,
        set: PollSet,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> Result<Answer, ErrorCode> {
        let (found, rules) = self.look_up(name)?;
        if !self.poll_rules(rules).is_some_and(|rules| rules.versioned) {
            return Err(ErrorCode::NotAvailable);
        }
        let poll = found.and_then(|owned| Some((owned, self.channels.get_mut(owned)?.poll.as_deref_mut()?)));
        if let Some((owned, poll)) = poll {
            let changes = poll.publish(&set.epoch, set.item, now.unix_ms);
            self.tell_changes(owned, changes, out);
        }
        Ok(Answer::HistoryRemoved)
    }

    fn poll_rules(&self, rules: Rules) -> Option<PollRules> {
        Some(self.polls.rules.get(usize::from(rules.namespace)).copied().flatten()?.0)
    }

    /// The backend has answered call `id`, or has not: `None`.
    pub fn on_backend(&mut self, id: Key, answer: Option<BackendAnswer>, now: Now, out: &mut dyn Outgoing) {
        let Some(Open { channel: owned, batch }) = self.polls.open.remove(id) else { return };
        let Some(poll) = self.channels.get_mut(owned).and_then(|channel| channel.poll.as_deref_mut()) else {
            return;
        };
        let answer = answer.map(|BackendAnswer::PollRefresh(refreshed)| refreshed);
        let changes = poll.answer(&batch, answer, now.unix_ms, now.ms);
        self.polls.due.push(owned);
        self.tell_changes(owned, changes, out);
    }

    fn tell_changes(&mut self, owned: OwnedKey, changes: Changes, out: &mut dyn Outgoing) {
        if changes.reset {
            let epoch = random_epoch(&mut self.rng);
            let Some(channel) = self.channels.get_mut(owned) else { return };
            if let Some(poll) = channel.poll.as_deref_mut() {
                poll.epoch = epoch;
            }
            // Who is subscribed comes again, and is told the new epoch; what is known by then it is told, too.
            return forward(owned, channel, &Forward::Gap, out);
        }
        self.counters.add(Counter::Publications, changes.told.len() as u64);
        for (cores, publication) in changes.told {
            for core in cores.iter() {
                let forward = Forward::Item(Arc::clone(&publication));
                out.send(core, Mesh::Forward { channel: owned, forward });
            }
        }
    }

    /// When to call [`Shard::poll_due`] next, on the clock of [`Now::ms`].
    #[inline]
    #[must_use]
    pub fn next_poll(&self) -> Option<u64> {
        self.polls.next_deadline()
    }

    /// Works out what the backend is to be asked for now. To be called at the end of a turn, so that what came in it
    /// is asked for together.
    pub fn poll_due(&mut self, now: Now) {
        if self.polls.next_deadline().is_none_or(|due_ms| due_ms > now.ms) {
            return;
        }
        let mut fired = std::mem::take(&mut self.polls.fired);
        self.polls.wheel.advance(now.ms, &mut fired);
        for bits in fired.drain(..) {
            let owned = OwnedKey::from_bits(bits);
            if let Some(poll) = self.channels.get_mut(owned).and_then(|channel| channel.poll.as_deref_mut())
                && poll.armed_ms <= now.ms
            {
                poll.armed_ms = u64::MAX;
                self.polls.due.push(owned);
            }
        }
        self.polls.fired = fired;
        while let Some(owned) = self.polls.due.pop() {
            self.ask_backend(owned, now);
        }
    }

    fn ask_backend(&mut self, owned: OwnedKey, now: Now) {
        let Some(channel) = self.channels.get_mut(owned) else { return };
        let Some(poll) = channel.poll.as_deref_mut() else { return };
        if poll.lingers_until_ms.is_some_and(|until_ms| until_ms <= now.ms) {
            poll.lingers_until_ms = None;
            return self.drop_if_idle(owned);
        }
        while let Some(batch) = poll.next_batch(now.ms) {
            let refresh = PollRefresh {
                channel: Arc::clone(&channel.name),
                items: batch.items.clone(),
                versioned: poll.is_versioned(),
            };
            let id = self.polls.open.insert(Open { channel: owned, batch });
            self.polls.calls.push(BackendCall { id, request: BackendRequest::PollRefresh(refresh) });
        }
        let due_ms = [poll.next_due(), poll.lingers_until_ms].into_iter().flatten().min();
        if let Some(due_ms) = due_ms {
            self.arm_poll(owned, due_ms);
        }
    }

    fn arm_poll(&mut self, owned: OwnedKey, due_ms: u64) {
        let poll = self.channels.get_mut(owned).and_then(|channel| channel.poll.as_deref_mut());
        if let Some(poll) = poll.filter(|poll| due_ms < poll.armed_ms) {
            poll.armed_ms = due_ms;
            self.polls.wheel.insert(due_ms, owned.to_bits());
        }
    }

    /// What the backend is to be asked; each is answered by [`Shard::on_backend`].
    pub fn take_calls(&mut self) -> impl Iterator<Item = BackendCall> {
        self.polls.calls.drain(..)
    }

    /// Calls the backend has not answered.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.polls.open.len()
    }

    /// Keys that are tracked. Walks all channels, where any may be a shared poll.
    #[must_use]
    pub fn poll_keys(&self) -> usize {
        if self.polls.rules.iter().all(Option::is_none) {
            return 0;
        }
        let polls = self.channels.iter().filter_map(|(_, channel)| channel.poll.as_deref());
        polls.map(Poll::len).sum()
    }
}
