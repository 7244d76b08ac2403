//! What clients and the server API do to maps, and what all of them must have at rest.

use super::{
    Asked, CLIENTS_PREFIX, KEYS, MAPS, USERS_PREFIX, conflates, is_of_clients, is_open, is_persistent,
    truth::{Change, Entries, Terms},
};
use crate::{
    broker::seam::{ApiReply, ApiRequest, KeyMode, MapRead, MapSet, PublishOptions, Suppressed},
    model::{ErrorCode, Position, Protocol},
    sim::{
        api::Call,
        client::{Client, Expect},
        filter::Filter,
        world::World,
    },
    wire::client::{PublishRequest, Request},
};
use std::collections::BTreeSet;

/// A call about a map and what it must come to.
#[derive(Debug)]
pub enum MapCall {
    Set {
        channel: &'static str,
        change: Change,
        terms: Terms,
        /// Empty: none.
        idempotency_key: String,
    },
    /// A page of what is there at rest.
    State { channel: &'static str },
}

/// When mirrors are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nobody has noticed yet who is out of reach.
    FaultsEnded,
    /// Long after, so that everything that expires has.
    Expired,
    /// Something was set since.
    SetSince,
}

/// What the server API says is in a map.
#[derive(Debug, Default)]
pub struct State {
    pub entries: Entries,
    pub position: Option<Position>,
    cursor: Box<str>,
}

impl Client {
    fn ask_map(&mut self, channel: &str, asked: Asked) {
        let maps = std::mem::take(&mut self.maps);
        let request = Request::Subscribe(Box::new(maps.request(channel, &asked)));
        self.command(request, Expect::Map { channel: channel.into(), asked: asked.clone() });
        self.maps = maps;
    }

    /// `filter`: from the state and with this one, whatever is remembered.
    pub fn mirror(&mut self, channel: &str, limit: i32, delta: bool, filter: Option<Option<Filter>>) {
        let asked = self.maps.begin(channel, limit, delta, filter);
        self.ask_map(channel, asked);
    }

    /// The next page, or what changed since the last one.
    pub fn go_on(&mut self, channel: &str, asked: Asked) {
        self.ask_map(channel, asked);
    }

    /// `data`: nothing to remove the entry.
    fn set_entry(&mut self, channel: &str, key: &str, data: Option<(u64, &[u8])>) {
        let request = Request::Publish(PublishRequest {
            channel: channel.into(),
            data: data.map(|(_, data)| data),
            kind: 1,
            key: key.into(),
            removed: data.is_none(),
        });
        let number = data.map_or(0, |(number, _)| number);
        self.command(request, Expect::SetEntry { channel: channel.into(), number });
    }
}

impl World {
    /// A client does something with a map.
    pub(in crate::sim) fn map_command(&mut self, index: usize) {
        let channel = MAPS[self.rng.below(MAPS.len() as u64) as usize];
        let (dice, limit) = (self.rng.below(16), self.rng.below(5) as i32);
        let client = &mut self.clients[index];
        if !client.connected {
            return;
        }
        let idle = client.maps.is_idle(channel);
        match dice {
            0 if idle => {
                *self.coverage.entry("act: made-up position".into()).or_default() += 1;
                let asked = client.maps.lie(channel, self.rng.below(30));
                client.ask_map(channel, asked);
            }
            0..=6 if idle => {
                // What the server sets has no tags.
                let filter = (dice < 3).then(|| Filter::draw(&mut self.rng).filter(|_| is_open(channel)));
                client.mirror(channel, limit, self.rng.below(2) > 0, filter);
            }
            0 => {
                client.maps.unsubscribe(channel);
                client.unsubscribe_map(channel);
            }
            _ if !is_open(channel) => {}
            1..=4 => {
                let key = KEYS[1 + self.rng.below(KEYS.len() as u64 - 1) as usize];
                self.truth.maps.removals.entry(channel.into()).or_default().push(key.into());
                client.set_entry(channel, key, None);
            }
            _ => {
                let key = KEYS[self.rng.below(KEYS.len() as u64) as usize];
                let magnitude = self.rng.below(8);
                let filler = self.rng.below(1 << magnitude) as usize;
                let publisher = client.publisher();
                let json = client.protocol == Protocol::Json || self.rng.below(1000) >= self.knobs.binary;
                let (number, data) = self.truth.payload(channel, publisher, filler, json);
                self.truth.maps.tried(&data, self.now.ms);
                client.set_entry(channel, key, Some((number, &data)));
            }
        }
    }

    /// The server API does something with a map.
    pub(in crate::sim) fn map_call(&mut self) {
        self.count("act: api");
        let core = self.rng.below(self.knobs.cores as u64) as usize;
        let open: Vec<_> = MAPS.into_iter().filter(|map| is_open(map) && !is_of_clients(map)).collect();
        let channel = open[self.rng.below(open.len() as u64) as usize];
        if self.rng.below(40) == 0 {
            self.count("map: cleared");
            return self.api(
                core,
                ApiRequest::MapRead { channel: channel.into(), read: MapRead::Clear },
                Call::Any,
            );
        }
        let key = KEYS[self.rng.below(KEYS.len() as u64) as usize];
        let removed = key != KEYS[0] && self.rng.below(3) == 0;
        let mode = [KeyMode::Always, KeyMode::IfNew, KeyMode::IfExists][self.rng.below(3) as usize];
        let version = if self.rng.below(3) == 0 { 1 + self.rng.below(8) } else { 0 };
        let number = self.calls_next as usize;
        let json = !self.chance(self.knobs.binary);
        let filler = [3, 60][self.rng.below(2) as usize];
        let (_, payload) = self.truth.payload(channel, 1_000_000 + number, filler, json);
        self.truth.maps.tried(&payload, self.now.ms);
        let again = self.rng.below(4) == 0;
        let idempotency_key = if again { format!("once {number}") } else { String::new() };
        let options = PublishOptions {
            idempotency_key: idempotency_key.as_str().into(),
            version,
            delta: self.rng.below(2) > 0,
            ..PublishOptions::default()
        };
        let score = self.rng.below(4) as i64 - 2;
        let mut set = MapSet { removed, score, mode, options, ..MapSet::of(key.into()) };
        if removed {
            self.truth.maps.removals.entry(channel.into()).or_default().push(key.into());
        } else {
            set.publication.tags = self.tags(&payload);
            set.publication.data = payload.clone().into();
            set.publication.json = false;
        }
        let change = Change { key: key.into(), data: (!removed).then_some(payload) };
        let new = match mode {
            _ if removed => Some(false),
            KeyMode::Always => None,
            mode => Some(mode == KeyMode::IfNew),
        };
        let terms = Terms { new, version: if removed { 0 } else { version } };
        for _ in 0..1 + u64::from(again) {
            let (change, idempotency_key) = (change.clone(), idempotency_key.clone());
            let call = Call::Map(MapCall::Set { channel, change, terms, idempotency_key });
            self.api(core, ApiRequest::MapSet { channel: channel.into(), set: set.clone() }, call);
        }
    }

    pub(in crate::sim) fn on_map_reply(&mut self, call: MapCall, reply: Result<ApiReply, ErrorCode>) {
        match (call, reply) {
            (
                MapCall::Set { channel, change, terms, idempotency_key },
                Ok(ApiReply::MapSet { position, suppressed }),
            ) => {
                let name = suppressed.map_or("set", Suppressed::reason);
                self.count(&format!("map: {name}"));
                let Position { epoch, offset } = position.expect("maps have a stream");
                if matches!(suppressed, None | Some(Suppressed::Idempotency)) && !idempotency_key.is_empty() {
                    let place = (epoch.to_string(), offset);
                    let once = &mut self.truth.maps.once;
                    let known = once.entry(idempotency_key).or_insert_with(|| place.clone());
                    assert_eq!(*known, place, "{channel}: {change:?} once and no more");
                }
                if suppressed.is_none() {
                    self.truth.map_told(channel, &epoch, offset, &change);
                    self.truth.maps.set_on(channel, &epoch, offset, terms);
                }
            }
            (MapCall::State { channel }, Ok(ApiReply::MapState { entries, position, cursor })) => {
                let state = self.map_states.entry(channel).or_default();
                assert!(state.position.as_ref().is_none_or(|known| *known == position), "{channel}");
                for entry in &entries {
                    let key = entry.extra.as_ref().expect("a key").key.to_string();
                    let data = entry.data.to_vec();
                    let before = state.entries.insert(key, (entry.offset, data));
                    assert_eq!(before, None, "{channel}: an entry on two pages");
                }
                (state.position, state.cursor) = (Some(position), cursor);
            }
            (MapCall::Set { .. }, Err(_)) => {}
            // It is asked again.
            (MapCall::State { .. }, Err(ErrorCode::TooManyRequests)) => {}
            (call, reply) => panic!("{call:?}: {reply:?}"),
        }
    }

    /// Everybody's mirrors are what the owners have.
    pub(in crate::sim) fn compare_maps(&mut self, when: When) {
        if self.knobs.maps == 0 {
            return;
        }
        self.map_states.clear();
        let mut unread = MAPS.to_vec();
        while !unread.is_empty() {
            for &channel in &unread {
                let state = self.map_states.entry(channel).or_default();
                let (cursor, revision) = (state.cursor.clone(), state.position.clone());
                let read = MapRead::State { cursor, limit: 5, asc: false, revision };
                let request = ApiRequest::MapRead { channel: channel.into(), read };
                self.api(0, request, Call::Map(MapCall::State { channel }));
            }
            self.settle_down();
            unread.retain(|channel| {
                let state = &self.map_states[channel];
                state.position.is_none() || !state.cursor.is_empty()
            });
        }
        for client in self.clients.iter().filter(|client| client.connected) {
            // What was set just now may wait.
            let waits = |channel: &str| when == When::FaultsEnded && conflates(channel);
            for (channel, mirror) in client.maps.live.iter().filter(|(channel, _)| !waits(channel)) {
                let state = &self.map_states[channel.as_str()];
                let position = state.position.as_ref().expect("a position");
                assert_eq!(*mirror.epoch, *position.epoch, "client {}: {channel}", client.index);
                assert!(mirror.offset <= position.offset, "client {}: {channel}", client.index);
                let (view, mut want) = (client.maps.view(mirror), state.entries.clone());
                want.retain(|_, (_, data)| !is_open(channel) || view.sees(data, &self.truth));
                assert_eq!(mirror.entries, want, "client {}: {channel}", client.index);
            }
        }
        if when != When::FaultsEnded {
            self.compare_keys(when == When::Expired);
        }
    }

    /// Maps of who is where say so. `expired`: so is every entry that expires.
    fn compare_keys(&self, expired: bool) {
        let connected = || self.clients.iter().filter(|client| client.connected);
        for (channel, state) in &self.map_states {
            let have: BTreeSet<&str> = state.entries.keys().map(String::as_str).collect();
            let joins = |client: &&Client| client.subs.contains_key("joins:a");
            if channel.starts_with(CLIENTS_PREFIX) {
                let want: BTreeSet<&str> = connected().filter(joins).map(|it| it.id.as_str()).collect();
                assert_eq!(have, want, "{channel}");
            } else if channel.starts_with(USERS_PREFIX) {
                let users = connected().filter(joins).map(|it| it.user.as_str());
                let want: BTreeSet<&str> = users.filter(|user| !user.is_empty()).collect();
                assert_eq!(have, want, "{channel}");
            } else if is_of_clients(channel) && !expired {
                let is_in = |it: &&Client| it.maps.live.contains_key(*channel);
                let there = |id: &&str| connected().filter(is_in).any(|it| it.id == *id);
                assert!(have.iter().all(there), "{channel}: {have:?}");
            } else if !is_persistent(channel) && expired {
                assert!(have.is_empty(), "{channel}: {have:?} never expire");
            }
        }
    }

    /// What is set at rest reaches every mirror.
    pub(in crate::sim) fn set_at_rest(&mut self) {
        let used = self.knobs.maps > 0;
        for channel in MAPS.into_iter().filter(|map| used && is_open(map) && !is_of_clients(map)) {
            let (_, payload) = self.truth.payload(channel, 2_000_000, 1, true);
            self.truth.maps.tried(&payload, self.now.ms);
            let mut set = MapSet::of(KEYS[0].into());
            set.publication.data = payload.clone().into();
            let change = Change { key: KEYS[0].into(), data: Some(payload) };
            let terms = Terms { new: None, version: 0 };
            let call = Call::Map(MapCall::Set { channel, change, terms, idempotency_key: String::new() });
            self.api(0, ApiRequest::MapSet { channel: channel.into(), set }, call);
        }
        self.settle_down();
    }
}
