//! Map channels: entries are set, removed and expire; subscribers get them in pages, then live.
//!
//! Every change is a publication of the channel's stream as well, so that who reads the state in pages catches up
//! on what changed meanwhile, whatever the mode.

use super::{
    Shard, Timer,
    channel::{MapRules, Rules},
    forward,
    history::History,
    map::{Map, Page, Terms},
    publish::append,
};
use crate::{
    broker::{
        mesh::{
            Answer, Forward, HistoryFilter, KeyMode, MapJoin, MapPage, MapRead, MapSet, Mesh, Outgoing,
            OwnedKey, Presence, Recover, SubscribeAsk, Subscribed, Tell, Told,
        },
        seam::Suppressed,
    },
    metrics::Counter,
    model::{ClientInfo, CoreId, ErrorCode, Extra, Now, Position, Publication},
};
use std::sync::Arc;

/// What a subscriber of a map gets.
enum Plan {
    Page(MapPage),
    Live { state: Vec<Arc<Publication>>, missed: Vec<Arc<Publication>>, recovered: bool },
}

impl Shard {
    /// `None` where channels are no maps.
    fn map_rules(&self, rules: Rules) -> Option<MapRules> {
        if rules.map { self.map_rules.get(usize::from(rules.namespace)).copied() } else { None }
    }

    /// Sets or removes an entry, unless its idempotency key, its version or its mode says otherwise.
    pub(super) fn map_set(
        &mut self,
        name: &Arc<str>,
        set: MapSet,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> Result<Answer, ErrorCode> {
        let (found, rules) = self.look_up(name)?;
        let map_rules = self.map_rules(rules).ok_or(ErrorCode::NotAvailable)?;
        let idempotency_key = &*set.options.idempotency_key;
        if !idempotency_key.is_empty()
            && let Some(position) = self.idempotency.find(name, idempotency_key, now.ms)
        {
            return Ok(Answer::MapSet { position, suppressed: Some(Suppressed::Idempotency) });
        }
        let owned = found.unwrap_or_else(|| self.create(name, rules));
        let position = self.use_stream(owned, now.ms).map(|stream| stream.history.position());
        let suppressed = self.map_suppresses(owned, &set);
        if suppressed.is_some() {
            return Ok(Answer::MapSet { position, suppressed });
        }
        let expires_ms = match map_rules.key_ttl_ms {
            0 => u64::MAX,
            ttl_ms => now.ms.saturating_add(ttl_ms),
        };
        let position = self.map_change(owned, &set, expires_ms, now, out)?;
        if !idempotency_key.is_empty() {
            self.idempotency.insert(name, idempotency_key, Some(position.clone()), now.ms);
        }
        Ok(Answer::MapSet { position: Some(position), suppressed: None })
    }

    fn map_suppresses(&self, owned: OwnedKey, set: &MapSet) -> Option<Suppressed> {
        let map = self.channels.get(owned)?.map.as_deref();
        let exists = map.is_some_and(|map| map.get(&set.key).is_some());
        let outdated = || {
            map.is_some_and(|map| map.is_outdated(&set.key, set.options.version, &set.options.version_epoch))
        };
        match set.mode {
            _ if set.removed => (!exists).then_some(Suppressed::KeyNotFound),
            KeyMode::IfNew if exists => Some(Suppressed::KeyExists),
            KeyMode::IfExists if !exists => Some(Suppressed::KeyNotFound),
            _ => outdated().then_some(Suppressed::Version),
        }
    }

    /// Appends the change to the stream, forwards it, and keeps the entry.
    fn map_change(
        &mut self,
        owned: OwnedKey,
        set: &MapSet,
        expires_ms: u64,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> Result<Position, ErrorCode> {
        let rules = self.channels.get(owned).ok_or(ErrorCode::Internal)?.rules;
        let MapRules { keys_max, ordered, .. } = self.map_rules(rules).ok_or(ErrorCode::Internal)?;
        let channel = self.channels.get_mut(owned).ok_or(ErrorCode::Internal)?;
        let map = channel.entries(ordered);
        if !set.removed && map.len() >= keys_max && map.get(&set.key).is_none() {
            self.drop_if_idle(owned);
            return Err(ErrorCode::LimitExceeded);
        }
        let extra =
            Extra { key: set.key.clone(), removed: set.removed, score: set.score, ..Extra::default() };
        let publication = Publication {
            extra: Some(Box::new(extra)),
            time_ms: now.unix_ms,
            delta: channel.rules.delta_publish || set.options.delta,
            ..set.publication.clone()
        };
        self.counters.increment(Counter::Publications);
        let (publication, kept) = divide(publication, set.told.as_ref());
        let (publication, position) =
            append(channel, &mut self.wheel, owned, publication, now).ok_or(ErrorCode::Internal)?;
        let map = channel.entries(ordered);
        let before = map.get(&set.key).cloned();
        if set.removed {
            map.remove(&set.key);
        } else {
            let (version, version_epoch) = (set.options.version, &*set.options.version_epoch);
            let kept = kept.map(|kept| Arc::new(Publication { offset: position.offset, ..kept }));
            let kept = kept.unwrap_or_else(|| Arc::clone(&publication));
            map.insert(&set.key, kept, Terms { expires_ms, version, version_epoch });
        }
        forward(owned, channel, &Forward::Change { publication, before }, out);
        self.arm_keys(owned);
        self.keep_stream(owned, now.ms);
        Ok(position)
    }

    fn arm_keys(&mut self, owned: OwnedKey) {
        let map = self.channels.get_mut(owned).and_then(|channel| channel.map.as_deref_mut());
        if let Some(map) = map.filter(|map| !map.armed)
            && let Some(due_ms) = map.next_due()
        {
            map.armed = true;
            self.wheel.insert(due_ms, Timer::Keys.token(owned));
        }
    }

    /// Removes the entries whose time is up and tells subscribers. To be called whenever time has passed.
    pub fn expire_keys(&mut self, now: Now, out: &mut dyn Outgoing) {
        while let Some(owned) = self.expiring.pop() {
            let due = |shard: &Self| {
                let map = shard.channels.get(owned)?.map.as_deref()?;
                map.due(now.ms).map(Box::from)
            };
            while let Some(key) = due(self) {
                let _ = self.map_change(owned, &MapSet::removal(key), 0, now, out);
            }
            self.show_hidden(owned, now, out);
            let map = self.channels.get_mut(owned).and_then(|channel| channel.map.as_deref_mut());
            map.into_iter().for_each(|map| map.armed = false);
            self.arm_keys(owned);
        }
    }

    /// Adds a subscriber of core `from`, or gives a page of what it has to know before.
    ///
    /// # Errors
    /// [`ErrorCode::UnrecoverablePosition`] where it has to begin anew.
    pub(super) fn subscribe_map(
        &mut self,
        from: CoreId,
        ask: SubscribeAsk,
        join: &MapJoin,
        now: Now,
    ) -> Result<Answer, ErrorCode> {
        let (found, rules) = self.look_up(&ask.channel)?;
        let map_rules = self.map_rules(rules).ok_or(ErrorCode::PermissionDenied)?;
        let owned = found.unwrap_or_else(|| self.create(&ask.channel, rules));
        self.use_stream(owned, now.ms).ok_or(ErrorCode::Internal)?;
        let channel = self.channels.get(owned).ok_or(ErrorCode::Internal)?;
        let history = &channel.stream.as_deref().ok_or(ErrorCode::Internal)?.history;
        let position = history.position();
        let empty = Map::default();
        let plan = plan(history, channel.map.as_deref().unwrap_or(&empty), join, map_rules)?;
        match plan {
            Plan::Page(page) => Ok(Answer::MapPage(Box::new(page))),
            Plan::Live { state, missed, recovered } => {
                self.join(owned, from, ask.info, ask.shown);
                let position = Some(position);
                Ok(Answer::Subscribed(Subscribed {
                    channel: owned,
                    position,
                    publications: missed,
                    recovered,
                    state,
                }))
            }
        }
    }

    /// What the server API reads of a map, or clears.
    pub(super) fn map_read(
        &mut self,
        name: &Arc<str>,
        read: &MapRead,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> Result<Answer, ErrorCode> {
        let (found, rules) = self.look_up(name)?;
        self.map_rules(rules).ok_or(ErrorCode::NotAvailable)?;
        let owned = found.unwrap_or_else(|| self.create(name, rules));
        self.use_stream(owned, now.ms).ok_or(ErrorCode::Internal)?;
        if matches!(read, MapRead::Clear) {
            self.map_clear(owned, now, out);
            return Ok(Answer::HistoryRemoved);
        }
        let channel = self.channels.get(owned).ok_or(ErrorCode::Internal)?;
        let history = &channel.stream.as_deref().ok_or(ErrorCode::Internal)?.history;
        let map = channel.map.as_deref();
        let position = history.position();
        match read {
            MapRead::Stream(filter) => {
                Ok(Answer::MapState { entries: history.read(filter)?, position, cursor: Box::default() })
            }
            MapRead::Key(key) => {
                let entries = map.and_then(|map| map.get(key)).cloned().into_iter().collect();
                Ok(Answer::MapState { entries, position, cursor: Box::default() })
            }
            MapRead::State { cursor, limit, asc, revision } => {
                let top = match revision {
                    Some(at) if *at.epoch != *position.epoch => return Err(ErrorCode::UnrecoverablePosition),
                    Some(at) => at.offset,
                    None => u64::MAX,
                };
                let page = Page { cursor, limit: *limit, top, asc: *asc };
                let (entries, cursor) = match map {
                    Some(map) => map.page(page).ok_or(ErrorCode::BadRequest)?,
                    None => Default::default(),
                };
                let position = revision.clone().unwrap_or(position);
                Ok(Answer::MapState { entries, position, cursor })
            }
            MapRead::Stats => Ok(Answer::MapStats(map.map_or(0, Map::len) as u32)),
            MapRead::Clear => Err(ErrorCode::Internal),
        }
    }

    /// Empties a map at a stroke: with a new stream, so that everybody begins anew.
    fn map_clear(&mut self, owned: OwnedKey, now: Now, out: &mut dyn Outgoing) {
        let Some(channel) = self.channels.get_mut(owned) else { return };
        if let Some(map) = channel.map.as_deref_mut() {
            map.clear();
        }
        let epoch = super::random_epoch(&mut self.rng);
        if let Some(stream) = channel.stream.as_deref_mut() {
            stream.history = History::new(epoch);
        }
        forward(owned, channel, &Forward::Gap, out);
        self.keep_stream(owned, now.ms);
        self.show_hidden(owned, now, out);
    }

    // ---- who is in other channels, as maps ----

    /// A subscriber of a channel came or went: the maps of its namespace that say so are told.
    pub(super) fn tell_presence(
        &self,
        rules: Rules,
        name: &str,
        info: &Arc<ClientInfo>,
        present: bool,
        out: &mut dyn Outgoing,
    ) {
        let options = self.namespaces.nth(usize::from(rules.namespace));
        let prefixes = [
            (&options.map_clients_presence_channel_prefix, Presence::Client),
            (&options.map_users_presence_channel_prefix, Presence::User),
        ];
        for (prefix, whose) in prefixes.into_iter().filter(|(prefix, _)| !prefix.is_empty()) {
            let channel: Arc<str> = format!("{prefix}{name}").into();
            let to = self.owners.of(&channel);
            let info = Arc::clone(info);
            out.send(to, Mesh::Tell(Tell::Presence { channel, info, whose, present }));
        }
    }

    /// Keeps the entry of a client for exactly as long as it is subscribed; that of a user until its time is up
    /// after the last of its clients went.
    pub(super) fn on_presence(
        &mut self,
        name: &Arc<str>,
        info: &Arc<ClientInfo>,
        (whose, present): (Presence, bool),
        now: Now,
        out: &mut dyn Outgoing,
    ) {
        let Ok((found, rules)) = self.look_up(name) else { return };
        let Some(map_rules) = self.map_rules(rules) else { return };
        let key: Box<str> = match whose {
            Presence::Client => info.client.to_string().into(),
            Presence::User => (&*info.user).into(),
        };
        if key.is_empty() {
            return;
        }
        let owned = found.unwrap_or_else(|| self.create(name, rules));
        if self.use_stream(owned, now.ms).is_none() {
            return;
        }
        let Some(channel) = self.channels.get_mut(owned) else { return };
        let map = channel.entries(map_rules.ordered);
        let turned = if present { map.hold(&key) } else { map.let_go(&key) };
        let known = map.get(&key).is_some();
        match (present, turned) {
            (true, true) if known => map.expire_at(&key, u64::MAX),
            (true, true) => {
                self.show_present(owned, key, info, now, out);
            }
            (false, true) if whose == Presence::User && map_rules.key_ttl_ms > 0 => {
                map.expire_at(&key, now.ms.saturating_add(map_rules.key_ttl_ms));
                self.arm_keys(owned);
            }
            (false, true) if known => {
                let _ = self.map_change(owned, &MapSet::removal(key), 0, now, out);
                self.show_hidden(owned, now, out);
            }
            _ => {}
        }
        self.keep_stream(owned, now.ms);
    }

    /// Gives who is present an entry. False: there is no room, and it waits for some.
    fn show_present(
        &mut self,
        owned: OwnedKey,
        key: Box<str>,
        info: &Arc<ClientInfo>,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> bool {
        let publication = Publication { info: Some(Arc::clone(info)), json: true, ..Publication::default() };
        let set = MapSet { publication, ..MapSet::of(key) };
        let is_shown = self.map_change(owned, &set, u64::MAX, now, out).is_ok();
        if !is_shown && let Some(map) = self.channels.get_mut(owned).and_then(|it| it.map.as_deref_mut()) {
            map.hide(set.key, Arc::clone(info));
        }
        is_shown
    }

    /// Entries have gone: who waits for room gets it.
    fn show_hidden(&mut self, owned: OwnedKey, now: Now, out: &mut dyn Outgoing) {
        loop {
            let map = self.channels.get_mut(owned).and_then(|channel| channel.map.as_deref_mut());
            let Some((key, info)) = map.and_then(Map::unhide) else { return };
            if !self.show_present(owned, key, &info, now, out) {
                return;
            }
        }
    }

    /// Where the namespace says so, the entry of a client that went goes with it.
    pub(super) fn remove_entry_of(
        &mut self,
        owned: OwnedKey,
        info: &ClientInfo,
        now: Now,
        out: &mut dyn Outgoing,
    ) {
        let Some(channel) = self.channels.get(owned) else { return };
        if !self.map_rules(channel.rules).is_some_and(|rules| rules.remove_client_on_unsubscribe) {
            return;
        }
        let key: Box<str> = info.client.to_string().into();
        if channel.map.as_deref().is_some_and(|map| map.get(&key).is_some()) {
            let _ = self.map_change(owned, &MapSet::removal(key), 0, now, out);
        }
    }
}

/// What goes into the stream and to subscribers, and the entry where that is something else.
fn divide(entry: Publication, told: Option<&Told>) -> (Publication, Option<Publication>) {
    let Some(Told { data, json }) = told else { return (entry, None) };
    let told = Publication { data: data.clone(), json: *json, delta: false, ..entry.clone() };
    let extra = entry.extra.map(|extra| Box::new(Extra { divided: true, ..*extra }));
    (told, Some(Publication { extra, ..entry }))
}

/// What `join` gets of a map in this state.
fn plan(history: &History, map: &Map, join: &MapJoin, rules: MapRules) -> Result<Plan, ErrorCode> {
    match join.phase {
        MapJoin::STATE => read_state(history, map, join, rules),
        MapJoin::LIVE if !join.recover && !rules.recoverable => {
            Ok(Plan::Live { state: Vec::new(), missed: Vec::new(), recovered: false })
        }
        MapJoin::STREAM | MapJoin::LIVE => catch_up(history, join, rules),
        _ => Err(ErrorCode::BadRequest),
    }
}

/// A page of the state as it was when its first one was read. With the last one comes what changed since, unless that
/// is too much at once.
fn read_state(history: &History, map: &Map, join: &MapJoin, rules: MapRules) -> Result<Plan, ErrorCode> {
    let first = join.is_first();
    let position = history.position();
    if !first && *join.epoch != *position.epoch {
        return Err(ErrorCode::UnrecoverablePosition);
    }
    let frozen = if first { position.offset } else { join.offset };
    let page = Page { cursor: &join.cursor, limit: rules.page(join.limit), top: frozen, asc: join.asc };
    let (state, cursor) = map.page(page).ok_or(ErrorCode::BadRequest)?;
    let since = Recover { offset: frozen, epoch: Box::default() };
    match history.recover(&since, rules.live_max) {
        Some(missed) if cursor.is_empty() => Ok(Plan::Live { state, missed, recovered: false }),
        _ => {
            let position = Position { offset: frozen, ..position };
            Ok(Plan::Page(MapPage {
                state,
                publications: Vec::new(),
                position,
                cursor,
                phase: MapJoin::STATE,
            }))
        }
    }
}

/// All that changed since the place `join` names or, for who reads the map and is too far behind, a page of it.
fn catch_up(history: &History, join: &MapJoin, rules: MapRules) -> Result<Plan, ErrorCode> {
    let position = history.position();
    if *join.epoch != *position.epoch {
        return Err(ErrorCode::UnrecoverablePosition);
    }
    let since = Recover { offset: join.offset, epoch: join.epoch.clone() };
    if let Some(missed) = history.recover(&since, rules.live_max) {
        return Ok(Plan::Live { state: Vec::new(), missed, recovered: join.recover });
    }
    if join.recover || join.phase == MapJoin::LIVE {
        return Err(ErrorCode::UnrecoverablePosition);
    }
    let filter = HistoryFilter { limit: rules.page(join.limit), since: Some(since), reverse: false };
    let publications = history.read(&filter)?;
    match (publications.first(), publications.last()) {
        (Some(first), Some(last)) if first.offset == join.offset + 1 => {
            let position = Position { offset: last.offset, ..position };
            let (state, cursor) = Default::default();
            Ok(Plan::Page(MapPage { state, publications, position, cursor, phase: MapJoin::STREAM }))
        }
        _ => Err(ErrorCode::UnrecoverablePosition),
    }
}
