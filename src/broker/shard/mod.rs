//! The channels one core owns: subscribers by core, presence, history, positions and recovery.
//!
//! The owner decides alone and answers at once, so the order in which it sends is the order of the channel:
//! what goes out after an [`Answer::Subscribed`] is for that subscriber, what went out before is not.
//!
//! Bounds. Channels: those with subscribers (each client has at most `client.channel_limit`), those
//! published to within `history_meta_ttl` where the namespace keeps history, and those whose position was
//! asked for within ten minutes; a channel without any of these costs nothing. History: `history_size`
//! publications for each channel. Idempotency keys: see `idempotency`. Timers: two for each stream.
//!
//! Not here: permissions (the session has asked before), groups and encoding (the subscribers' cores).

mod channel;
mod glob;
mod history;
mod idempotency;
mod map;
mod maps;
mod patterns;
mod poll;
mod polls;
mod publish;
mod read;
mod subscribe;

#[cfg(test)]
mod tests;

use self::{
    channel::{Channel, MapRules, Rules, Stream},
    idempotency::Idempotency,
    patterns::Patterns,
    polls::Polls,
};
use super::{
    ids::Owners,
    mesh::{Answer, Ask, AskKey, Forward, Mesh, Outgoing, OwnedKey, Shown, Tell},
    permission::Namespaces,
};
use crate::{
    config::Settings,
    metrics::Counters,
    model::{ClientInfo, CoreId, ErrorCode, Now},
    stdx::{rng::Rng, slab::Slab, wheel::Wheel},
};
use std::{collections::HashMap, sync::Arc};

/// Letters in an epoch: two streams get the same one once in 5 * 10^13.
const EPOCH_LEN: usize = 8;

/// The channels of one core. See the module's header.
#[derive(Debug)]
pub struct Shard {
    id: CoreId,
    pub counters: Counters,
    settings: Arc<Settings>,
    namespaces: Namespaces,
    /// By [`Namespaces::index`].
    rules: Vec<Rules>,
    /// Likewise.
    map_rules: Vec<MapRules>,
    channels: Slab<Channel>,
    by_name: HashMap<Arc<str>, OwnedKey, ahash::RandomState>,
    /// Channels with at least one subscriber.
    subscribed: usize,
    idempotency: Idempotency,
    patterns: Patterns,
    polls: Polls,
    /// Maps of which an entry may have expired; see `expire_keys`.
    expiring: Vec<OwnedKey>,
    owners: Owners,
    wheel: Wheel,
    fired: Vec<u64>,
    rng: Rng,
}

/// Which of a stream's deadlines a timer is for.
#[derive(Clone, Copy)]
enum Timer {
    History,
    Meta,
    /// Of the entries of a map.
    Keys,
}

impl Timer {
    /// Set in the index half of a key. A thousand million channels do not fit into any memory.
    const META_BIT: u64 = 1 << 31;
    const KEYS_BIT: u64 = 1 << 30;

    fn token(self, key: OwnedKey) -> u64 {
        assert!(u64::from(key.index) < Self::KEYS_BIT, "a shard holds less than 2^30 channels");
        match self {
            Self::History => key.to_bits(),
            Self::Meta => key.to_bits() | Self::META_BIT,
            Self::Keys => key.to_bits() | Self::KEYS_BIT,
        }
    }

    fn from_token(token: u64) -> (Self, OwnedKey) {
        let timer = match token & (Self::META_BIT | Self::KEYS_BIT) {
            0 => Self::History,
            Self::META_BIT => Self::Meta,
            _ => Self::Keys,
        };
        (timer, OwnedKey::from_bits(token & !(Self::META_BIT | Self::KEYS_BIT)))
    }
}

impl Shard {
    /// `seed` decides epochs and hash keys: equal seeds and equal calls give equal answers.
    #[must_use]
    pub fn new(id: CoreId, settings: Arc<Settings>, owners: Owners, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ (u64::from(id) << 48));
        let mut hasher = || {
            let [a, b, c, d] = std::array::from_fn(|_| rng.next_u64());
            ahash::RandomState::with_seeds(a, b, c, d)
        };
        let (by_name, idempotency) = (HashMap::with_hasher(hasher()), Idempotency::new(hasher()));
        let patterns = Patterns::new(hasher());
        let namespaces = Namespaces::new(&settings.channel);
        let rules = namespaces.options().enumerate();
        let rules = rules.map(|(at, options)| Rules::new(options, &settings.channel, at)).collect();
        let polls = Polls::new(namespaces.options());
        let map_rules = namespaces.options().map(|options| MapRules::new(&options.map)).collect();
        Self {
            id,
            counters: Counters::default(),
            settings,
            namespaces,
            rules,
            map_rules,
            channels: Slab::default(),
            by_name,
            subscribed: 0,
            idempotency,
            patterns,
            polls,
            expiring: Vec::new(),
            owners,
            wheel: Wheel::new(0),
            fired: Vec::new(),
            rng,
        }
    }

    #[must_use]
    pub fn id(&self) -> CoreId {
        self.id
    }

    /// Answers `ask` of core `from`, exactly once, through `out`.
    ///
    /// A publication reaches the interested cores before its answer, a join after the answer to the
    /// subscriber's core.
    pub fn on_ask(&mut self, from: CoreId, id: AskKey, ask: Ask, now: Now, out: &mut dyn Outgoing) {
        self.catch_up(now);
        self.expire_keys(now, out);
        let mut joined = None;
        let answer = match ask {
            Ask::Subscribe(mut ask) => {
                let (info, shown) = (ask.info.clone(), ask.shown);
                let answer = match ask.map.take() {
                    Some(join) => self.subscribe_map(from, ask, &join, now),
                    None => self.subscribe(from, ask, now).map(Answer::Subscribed),
                };
                if let Ok(Answer::Subscribed(subscribed)) = &answer {
                    joined = Some((subscribed.channel, info, shown));
                }
                answer
            }
            Ask::MapSet { channel, set } => self.map_set(&channel, set, now, out),
            Ask::MapRead { channel, read } => self.map_read(&channel, &read, now, out),
            Ask::Publish { channel, publication, options } => self
                .publish(&channel, || publication, &options, now, out)
                .map(|position| Answer::Published { position }),
            Ask::Presence { channel } => self.presence(&channel),
            Ask::PresenceStats { channel } => self.presence_stats(&channel),
            Ask::History { channel, filter } => self.history(&channel, &filter, now),
            Ask::HistoryRemove { channel } => self.history_remove(&channel),
            Ask::Track { channel, keys } => self.poll_track(from, channel, &keys, now),
            Ask::PollPublish { channel, set } => self.poll_publish(&channel, *set, now, out),
            Ask::Position { channel } => Ok(Answer::Position(self.position(channel))),
            // Of users, who are the core's own business.
            Ask::Enter { .. } | Ask::Act { .. } => Err(ErrorCode::Internal),
        };
        let answer = Box::new(answer.unwrap_or_else(Answer::Error));
        out.send(from, Mesh::Answer { id, answer });
        if let Some((key, info, shown)) = joined {
            self.tell_maps(key, &info, shown, true, out);
            self.announce(key, Forward::Join(info), shown, out);
        }
    }

    /// Maps of who is in this channel, where there are any, are told that somebody came or went who may be seen.
    fn tell_maps(
        &self,
        key: OwnedKey,
        info: &Arc<ClientInfo>,
        shown: Shown,
        present: bool,
        out: &mut dyn Outgoing,
    ) {
        let seen = |channel: &&Channel| channel.rules.members && !shown.is_hidden();
        if let Some(channel) = self.channels.get(key).filter(seen) {
            self.tell_presence(channel.rules, &channel.name, info, present, out);
        }
    }

    /// Takes note of what core `from` tells. Told about somebody it never heard of, it does nothing.
    pub fn on_tell(&mut self, from: CoreId, tell: Tell, now: Now, out: &mut dyn Outgoing) {
        self.catch_up(now);
        self.expire_keys(now, out);
        match tell {
            Tell::Presence { channel, info, whose, present } => {
                self.on_presence(&channel, &info, (whose, present), now, out);
            }
            Tell::Unsubscribe { channel, client } => self.unsubscribe(from, channel, client, now, out),
            Tell::Untrack { channel, keys } => self.poll_untrack(from, channel, &keys),
            Tell::Watch { pattern, hub } => self.patterns.watch(self.namespaces.split(&pattern), from, hub),
            Tell::Unwatch { pattern } => self.patterns.unwatch(self.namespaces.split(&pattern), from),
            Tell::Leave { .. } | Tell::Replaced { .. } => {}
        }
    }

    /// Forgets what has expired. Calling it late is harmless: asks and tells look at the time first.
    pub fn advance(&mut self, now: Now) {
        self.idempotency.expire(now.ms);
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now.ms, &mut fired);
        for token in fired.drain(..) {
            match Timer::from_token(token) {
                (Timer::History, key) => self.on_history_timer(key, now.ms),
                (Timer::Meta, key) => self.on_meta_timer(key, now.ms),
                (Timer::Keys, key) => self.expiring.push(key),
            }
        }
        self.fired = fired;
    }

    /// When to call [`Shard::advance`] next, on the clock of [`Now::ms`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [self.wheel.next_deadline(), self.idempotency.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Channels with at least one subscriber whose name matches `pattern` (`*` any bytes, `?` one byte; empty:
    /// all), by name, with the number of their subscribers. Walks all channels of the shard.
    #[must_use]
    pub fn channels(&self, pattern: &str) -> Vec<(Arc<str>, u32)> {
        let mut found: Vec<_> = self
            .channels
            .iter()
            .map(|(_, channel)| (&channel.name, channel.interest.subscribers()))
            .filter(|(name, count)| *count > 0 && (pattern.is_empty() || glob::matches(pattern, name)))
            .map(|(name, count)| (name.clone(), count))
            .collect();
        found.sort_unstable();
        found
    }

    /// Channels with at least one subscriber.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.subscribed
    }

    /// Pairs of pattern and core with subscribers of it.
    #[cfg(test)]
    pub fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// Channels that take memory: with subscribers, or with a stream that is remembered.
    #[must_use]
    pub fn stored_count(&self) -> usize {
        self.channels.len()
    }

    /// Panics when two things that must agree do not. Walks everything: for tests and simulation.
    pub fn invariants(&self) {
        assert_eq!(self.by_name.len(), self.channels.len());
        let mut subscribed = 0;
        let mut timers = 0;
        for (key, channel) in self.channels.iter() {
            assert_eq!(self.by_name.get(&channel.name), Some(&key), "{}", channel.name);
            channel.invariants();
            subscribed += usize::from(channel.interest.subscribers() > 0);
            if let Some(stream) = &channel.stream {
                timers += usize::from(stream.history_armed) + usize::from(stream.meta_armed);
            }
            if let Some(map) = &channel.map {
                timers += usize::from(map.armed);
            }
        }
        assert_eq!(self.subscribed, subscribed);
        assert_eq!(self.wheel.len() + self.expiring.len(), timers, "one timer for each deadline");
    }

    /// Time may have passed what the core's driver has not yet told.
    fn catch_up(&mut self, now: Now) {
        if self.next_deadline().is_some_and(|deadline_ms| deadline_ms <= now.ms) {
            self.advance(now);
        }
    }

    /// The key of a channel, if it is stored, and the rules of its namespace in any case.
    fn look_up(&self, name: &str) -> Result<(Option<OwnedKey>, Rules), ErrorCode> {
        if let Some(&key) = self.by_name.get(name)
            && let Some(channel) = self.channels.get(key)
        {
            return Ok((Some(key), channel.rules));
        }
        self.namespaces.index(name).map(|index| (None, self.rules[index]))
    }

    /// The caller gives a new channel a subscriber or a stream, or it would stay for ever.
    fn create(&mut self, name: &Arc<str>, rules: Rules) -> OwnedKey {
        let key = self.channels.insert(Channel::new(name.clone(), rules));
        self.by_name.insert(name.clone(), key);
        key
    }

    fn drop_if_idle(&mut self, key: OwnedKey) {
        if self.channels.get(key).is_some_and(Channel::is_idle)
            && let Some(channel) = self.channels.remove(key)
        {
            self.by_name.remove(&channel.name);
        }
    }

    /// The stream of a channel, made if there is none, and remembered anew.
    fn use_stream(&mut self, key: OwnedKey, now_ms: u64) -> Option<&mut Stream> {
        let Self { channels, rng, .. } = self;
        let channel = channels.get_mut(key)?;
        channel.stream.get_or_insert_with(|| Box::new(Stream::new(random_epoch(rng))));
        self.keep_stream(key, now_ms);
        self.channels.get_mut(key)?.stream.as_deref_mut()
    }

    /// Remembers the stream of a channel, if any, from now on for as long as its namespace says.
    fn keep_stream(&mut self, key: OwnedKey, now_ms: u64) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some(stream) = channel.stream.as_deref_mut() else { return };
        stream.touch(&channel.rules, now_ms);
        // While somebody is subscribed nothing is forgotten, and without history nothing outlives them.
        if channel.interest.subscribers() == 0 && channel.rules.keeps_history() && !stream.meta_armed {
            stream.meta_armed = true;
            self.wheel.insert(stream.meta_expires_ms, Timer::Meta.token(key));
        }
    }

    fn on_history_timer(&mut self, key: OwnedKey, now_ms: u64) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some(stream) = channel.stream.as_deref_mut() else { return };
        stream.history_armed = !stream.history.is_empty() && now_ms < stream.history_expires_ms;
        if stream.history_armed {
            self.wheel.insert(stream.history_expires_ms, Timer::History.token(key));
        } else {
            stream.history.clear();
        }
    }

    fn on_meta_timer(&mut self, key: OwnedKey, now_ms: u64) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let holds_entries = channel.holds_entries();
        let Some(stream) = channel.stream.as_deref_mut() else { return };
        if holds_entries {
            stream.touch(&channel.rules, now_ms);
        }
        stream.meta_armed = channel.interest.subscribers() == 0 && now_ms < stream.meta_expires_ms;
        if stream.meta_armed {
            self.wheel.insert(stream.meta_expires_ms, Timer::Meta.token(key));
        } else if channel.interest.subscribers() == 0 {
            channel.stream = None;
            self.drop_if_idle(key);
        }
    }
}

/// Sends to every core with a subscriber of the channel.
fn forward(key: OwnedKey, channel: &Channel, forward: &Forward, out: &mut dyn Outgoing) {
    for core in channel.interest.cores().iter() {
        out.send(core, Mesh::Forward { channel: key, forward: forward.clone() });
    }
}

fn random_epoch(rng: &mut Rng) -> Arc<str> {
    const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letters: String = (0..EPOCH_LEN).map(|_| LETTERS[rng.below(52) as usize] as char).collect();
    letters.into()
}
