//! The shard against an implementation that keeps every publication ever made and counts by looking.

use super::*;
use arbitrary::Unstructured;
use std::collections::{BTreeMap, BTreeSet};

const CHANNELS: [&str; 7] = ["all:a", "all:b", "history:a", "long:a", "presence:a", "join:a", "plain"];

#[derive(Default)]
struct Model {
    channels: BTreeMap<&'static str, Channel>,
    /// Epochs seen; none comes back.
    epochs: BTreeSet<String>,
    /// By channel and number of the key.
    results: BTreeMap<(&'static str, u8), Published>,
    publications: u64,
}

/// What a publication was answered, and until when that counts.
type Published = (Option<(u64, String)>, u64);

#[derive(Default)]
struct Channel {
    subscribers: BTreeMap<u128, (CoreId, Arc<ClientInfo>, Shown)>,
    key: Option<OwnedKey>,
    stream: Option<Stream>,
}

#[derive(Default)]
struct Stream {
    /// Unknown until the shard tells.
    epoch: Option<String>,
    /// Offset n is at n - 1.
    all: Vec<Vec<u8>>,
    /// Those up to here have expired or were removed.
    gone: usize,
    version: u64,
    history_expires_ms: u64,
    meta_expires_ms: u64,
}

impl Channel {
    fn cores(&self) -> Vec<CoreId> {
        let cores: BTreeSet<CoreId> = self.subscribers.values().map(|(core, ..)| *core).collect();
        cores.into_iter().collect()
    }

    fn expire(&mut self, name: &str, now: u64) {
        if let Some(stream) = &mut self.stream {
            if now >= stream.history_expires_ms {
                stream.gone = stream.all.len();
            }
            let is_over = if keeps_history(name) { now >= stream.meta_expires_ms } else { true };
            if is_over && self.subscribers.is_empty() {
                self.stream = None;
            }
        }
    }

    fn touch(&mut self, name: &str, now: u64) -> &mut Stream {
        let stream = self.stream.get_or_insert_default();
        let ttl = match (name, stream.all.len()) {
            ("long:a", 0) => 600_000,
            ("long:a", _) => 720 * 3_600_000,
            _ => META_TTL_MS,
        };
        stream.meta_expires_ms = stream.meta_expires_ms.max(now + ttl);
        stream
    }
}

impl Stream {
    /// Offsets that are still here.
    fn kept(&self) -> std::ops::RangeInclusive<u64> {
        self.gone.max(self.all.len().saturating_sub(SIZE)) as u64 + 1..=self.all.len() as u64
    }

    fn data(&self, offset: u64) -> &[u8] {
        &self.all[offset as usize - 1]
    }
}

fn keeps_history(name: &str) -> bool {
    ["all", "history", "long"].iter().any(|namespace| name.starts_with(namespace))
}

fn has_presence(name: &str) -> bool {
    name.starts_with("all") || name.starts_with("presence")
}

fn has_joins(name: &str) -> bool {
    name.starts_with("all") || name.starts_with("join")
}

/// A shard beside its model.
struct Pair {
    bench: Bench,
    model: Model,
    cores: CoreId,
    clients: u128,
}

impl Pair {
    fn channel(&mut self, name: &'static str) -> &mut Channel {
        let channel = self.model.channels.entry(name).or_default();
        channel.expire(name, self.bench.now);
        channel
    }

    /// The shard says where the stream of `name` stands.
    fn check_position(&mut self, name: &'static str, position: &Position) {
        let stream = self.model.channels.get_mut(name).and_then(|it| it.stream.as_mut()).unwrap();
        let epoch = position.epoch.to_string();
        match &stream.epoch {
            Some(known) => assert_eq!(*known, epoch, "{name}"),
            None => assert!(self.model.epochs.insert(epoch.clone()), "an epoch came back"),
        }
        stream.epoch = Some(epoch);
        assert_eq!(position.offset, stream.all.len() as u64, "{name}");
    }

    fn check_list(&mut self, name: &'static str, got: &[Arc<Publication>], want: &[u64]) {
        let stream = self.model.channels[name].stream.as_ref().unwrap();
        let got: Vec<(u64, &[u8])> = got.iter().map(|it| (it.offset, &*it.data)).collect();
        let want: Vec<(u64, &[u8])> = want.iter().map(|&it| (it, stream.data(it))).collect();
        assert_eq!(got, want, "{name}");
    }

    fn any_place(&mut self, name: &'static str, u: &mut Unstructured<'_>) -> arbitrary::Result<Recover> {
        let stream = self.channel(name).stream.as_ref();
        let top = stream.map_or(0, |stream| stream.all.len() as u64);
        let known = stream.and_then(|stream| stream.epoch.clone()).unwrap_or_default();
        let old = self.model.epochs.first().cloned().unwrap_or_default();
        let epoch = u.choose(&[known.clone(), known, String::new(), old])?.as_str().into();
        Ok(Recover { offset: u.int_in_range(top.saturating_sub(5)..=top + 1)?, epoch })
    }

    /// The epoch is that of the stream, or nothing was said about it.
    fn same_epoch(&mut self, name: &'static str, from: &Recover) -> bool {
        let stream = self.channel(name).stream.as_ref();
        from.epoch.is_empty() || stream.and_then(|it| it.epoch.as_deref()) == Some(&*from.epoch)
    }

    fn subscribe(&mut self, name: &'static str, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let core = u.int_in_range(0..=self.cores - 1)?;
        let now = self.bench.now;
        // Somebody new, or somebody who was here and left.
        let mut client = u.int_in_range(0..=self.clients)?;
        if self.channel(name).subscribers.contains_key(&client) || client == 0 {
            self.clients += 1;
            client = self.clients;
        }
        let info = info(client, u.choose(&["", "a", "b"])?);
        let positioned = u.arbitrary()?;
        let recover = if u.ratio(1, 2)? { Some(self.any_place(name, u)?) } else { None };
        let same_epoch = recover.as_ref().is_some_and(|from| self.same_epoch(name, from));

        let reject_unrecovered = u.ratio(1, 3)?;
        let said = [None, None, None, Some(true), Some(false)];
        let shown = Shown { presence: *u.choose(&said)?, join_leave: *u.choose(&said)? };

        let channel = self.channel(name);
        let mut missed = None;
        if positioned || recover.is_some() {
            let stream = channel.touch(name, now);
            let top = stream.all.len() as u64;
            missed = recover.as_ref().filter(|from| from.offset <= top).map(|from| from.offset + 1..=top);
            missed = missed.filter(|missed| missed.clone().all(|it| stream.kept().contains(&it)));
            missed = missed.filter(|missed| missed.clone().count() <= RECOVERY_MAX);
            missed = missed.filter(|_| same_epoch && keeps_history(name));
        }
        let want_position = positioned || recover.is_some();
        let rejected = reject_unrecovered && recover.is_some() && missed.is_none();
        if !rejected {
            channel.subscribers.insert(client, (core, info.clone(), shown));
        }
        channel.expire(name, now);
        let cores = channel.cores();
        let channel = name.into();
        let ask = SubscribeAsk { channel, info, recover, reject_unrecovered, positioned, map: None, shown };
        let got = match self.bench.ask(core, Ask::Subscribe(ask)) {
            Answer::Error(ErrorCode::UnrecoverablePosition) if rejected => {
                assert!(self.bench.before.is_empty() && self.bench.after.is_empty());
                return Ok(());
            }
            Answer::Subscribed(got) if !rejected => got,
            other => panic!("{name}: {other:?}"),
        };

        let key = *self.channel(name).key.get_or_insert(got.channel);
        assert_eq!(got.channel, key);
        assert_eq!((got.position.is_some(), got.recovered), (want_position, missed.is_some()));
        if let Some(position) = &got.position {
            self.check_position(name, position);
            let missed: Vec<u64> = missed.into_iter().flatten().collect();
            self.check_list(name, &got.publications, &missed);
        }
        assert!(self.bench.before.is_empty());
        let joins = std::mem::take(&mut self.bench.after);
        assert!(joins.iter().all(|(_, it)| matches!(it, Forward::Join(info) if info.client.0 == client)));
        let told = shown.join_leave.unwrap_or(has_joins(name));
        assert_eq!(receivers(&joins), if told { cores } else { Vec::new() });
        Ok(())
    }

    fn unsubscribe(&mut self, name: &'static str, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let now = self.bench.now;
        let channel = self.channel(name);
        let Some(key) = channel.key else { return Ok(()) };
        let known: Vec<u128> = channel.subscribers.keys().copied().collect();
        if known.is_empty() || (u.ratio(1, 6)? && (has_presence(name) || has_joins(name))) {
            assert!(self.bench.unsubscribe(0, key, u128::MAX).is_empty(), "nobody knows it");
            return Ok(());
        }
        let client = *u.choose(&known)?;
        let (core, _, shown) = channel.subscribers.remove(&client).unwrap();
        let cores = channel.cores();
        if cores.is_empty() {
            channel.key = None;
            if channel.stream.is_some() {
                channel.touch(name, now);
            }
            channel.expire(name, now);
        }
        let leaves = self.bench.unsubscribe(core, key, client);
        let told = shown.join_leave.unwrap_or(has_joins(name));
        assert_eq!(leaves, if told { cores } else { Vec::new() });
        Ok(())
    }

    fn publish(&mut self, name: &'static str, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let now = self.bench.now;
        let from = u.int_in_range(0..=self.cores - 1)?;
        let number = if u.ratio(1, 4)? { u.int_in_range(1..=3)? } else { 0u8 };
        let options = PublishOptions {
            skip_history: u.ratio(1, 8)?,
            idempotency_key: if number > 0 { number.to_string().into() } else { "".into() },
            version: if u.ratio(1, 4)? { u.int_in_range(0..=6)? } else { 0 },
            ..PublishOptions::default()
        };
        let data = format!("{name} {}", self.bench.asked).into_bytes();
        let earlier = self.model.results.get(&(name, number)).filter(|(_, expires)| now < *expires).cloned();
        let earlier = earlier.filter(|_| number > 0);
        let in_history = keeps_history(name) && !options.skip_history;

        let channel = self.channel(name);
        let mut want_forward = None;
        if earlier.is_none() && in_history {
            let stream = channel.touch(name, now);
            if options.version == 0 || options.version > stream.version {
                stream.all.push(data.clone());
                stream.version = stream.version.max(options.version);
                stream.history_expires_ms = now + TTL_MS;
                want_forward = Some(stream.all.len() as u64);
                channel.touch(name, now);
            }
        } else if earlier.is_none() {
            want_forward = Some(0);
        }
        let cores = want_forward.map(|_| channel.cores()).unwrap_or_default();
        self.model.publications += u64::from(want_forward.is_some());

        let publication = Publication { data: data.clone().into(), ..Publication::default() };
        let ask = Ask::Publish { channel: name.into(), publication, options };
        let Answer::Published { position } = self.bench.ask(from, ask) else { panic!("{name}") };
        if let Some((want, _)) = earlier {
            assert_eq!(position.map(|it| (it.offset, it.epoch.to_string())), want, "{name}");
        } else {
            assert_eq!(position.is_some(), in_history, "{name}");
            if let Some(position) = &position {
                self.check_position(name, position);
            }
            if number > 0 {
                let result = position.map(|it| (it.offset, it.epoch.to_string()));
                self.model.results.insert((name, number), (result, now + 300_000));
            }
        }
        assert!(self.bench.after.is_empty());
        let forwards = std::mem::take(&mut self.bench.before);
        assert_eq!(receivers(&forwards), cores, "{name}");
        for (_, forward) in forwards {
            let Forward::Publication(publication) = forward else { panic!("{forward:?}") };
            assert_eq!((Some(publication.offset), &*publication.data), (want_forward, &*data));
        }
        assert_eq!(self.bench.shard.counters.value(Counter::Publications), self.model.publications);
        Ok(())
    }

    fn history(&mut self, name: &'static str, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let now = self.bench.now;
        let since = if u.arbitrary()? { Some(self.any_place(name, u)?) } else { None };
        let filter = HistoryFilter { limit: u.int_in_range(0..=4)?, since, reverse: u.arbitrary()? };
        let from = filter.since.as_ref().map(|since| since.offset);
        let same_epoch = filter.since.as_ref().is_none_or(|since| self.same_epoch(name, since));
        let (limit, reverse) = (filter.limit, filter.reverse);
        let mut want = Err(ErrorCode::NotAvailable);
        if keeps_history(name) {
            let stream = self.channel(name).touch(name, now);
            let wanted = |it: &u64| from.is_none_or(|from| if reverse { *it < from } else { *it > from });
            let mut list: Vec<u64> = stream.kept().filter(wanted).collect();
            if reverse {
                list.reverse();
            }
            list.truncate(limit);
            want = match from {
                Some(0) if reverse => Err(ErrorCode::BadRequest),
                Some(_) if !same_epoch => Err(ErrorCode::UnrecoverablePosition),
                _ => Ok(list),
            };
        }
        match (self.bench.ask(0, Ask::History { channel: name.into(), filter }), want) {
            (Answer::History { publications, position }, Ok(want)) => {
                self.check_position(name, &position);
                self.check_list(name, &publications, &want);
            }
            (Answer::Error(code), Err(want)) => assert_eq!(code, want, "{name}"),
            (got, want) => panic!("{name}: {got:?}, not {want:?}"),
        }
        Ok(())
    }

    fn history_remove(&mut self, name: &'static str) {
        if let Some(stream) = &mut self.channel(name).stream {
            stream.gone = stream.all.len();
        }
        let got = self.bench.ask(0, Ask::HistoryRemove { channel: name.into() });
        assert_eq!(matches!(got, Answer::HistoryRemoved), keeps_history(name), "{name}: {got:?}");
    }

    fn presence(&mut self, name: &'static str) {
        let there = self.channel(name).subscribers.values();
        let mut want: Vec<_> =
            there.filter(|it| it.2.presence != Some(false)).map(|it| it.1.clone()).collect();
        want.sort_unstable_by_key(|info| info.client);
        let users: BTreeSet<_> = want.iter().map(|info| info.user.clone()).collect();
        let stats = (want.len() as u32, users.len() as u32);
        match self.bench.ask(0, Ask::Presence { channel: name.into() }) {
            Answer::Presence(got) if has_presence(name) => assert_eq!(got[..], want[..], "{name}"),
            Answer::Error(ErrorCode::NotAvailable) if !has_presence(name) => {}
            other => panic!("{name}: {other:?}"),
        }
        match self.bench.ask(0, Ask::PresenceStats { channel: name.into() }) {
            Answer::PresenceStats { clients, users } => assert_eq!((clients, users), stats, "{name}"),
            other => assert!(!has_presence(name), "{name}: {other:?}"),
        }
    }

    fn position(&mut self, name: &'static str) {
        let Some(key) = self.channel(name).key else { return };
        let Answer::Position(got) = self.bench.ask(0, Ask::Position { channel: key }) else { panic!() };
        assert_eq!(got.is_some(), self.channel(name).stream.is_some(), "{name}");
        if let Some(position) = got {
            self.check_position(name, &position);
        }
    }

    /// Lets time pass, and lets the driver sometimes forget to say so.
    fn pass_time(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let next = self.bench.shard.next_deadline().unwrap_or(0).max(self.bench.now);
        let bits = u.int_in_range(0..=34)?;
        let jump = self.bench.now + u.int_in_range(0..=1u64 << bits)?;
        self.bench.now = *u.choose(&[next, next.saturating_sub(1).max(self.bench.now), jump])?;
        if u.ratio(2, 3)? {
            let now = self.bench.now;
            self.bench.shard.advance(at(now));
            let later = self.bench.shard.next_deadline();
            assert!(later.is_none_or(|later| later > now), "a deadline that stays");
            self.check_stored();
        }
        Ok(())
    }

    fn check_stored(&mut self) {
        CHANNELS.iter().for_each(|name| _ = self.channel(name));
        let channels = &self.model.channels;
        let subscribed = channels.values().filter(|it| !it.subscribers.is_empty()).count();
        let stored = channels.values().filter(|it| !it.subscribers.is_empty() || it.stream.is_some()).count();
        assert_eq!(self.bench.shard.channel_count(), subscribed);
        assert_eq!(self.bench.shard.stored_count(), stored);
        let want: Vec<(Arc<str>, u32)> = channels
            .iter()
            .filter(|(name, it)| !it.subscribers.is_empty() && name.starts_with('a'))
            .map(|(name, it)| ((*name).into(), it.subscribers.len() as u32))
            .collect();
        assert_eq!(self.bench.shard.channels("a*"), want);
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let name = *u.choose(&CHANNELS)?;
        match u.int_in_range(0..=19)? {
            0..=4 => self.subscribe(name, u)?,
            5..=6 => self.unsubscribe(name, u)?,
            7..=11 => self.publish(name, u)?,
            12..=13 => self.history(name, u)?,
            14 => self.history_remove(name),
            15 => self.presence(name),
            16 => self.position(name),
            _ => self.pass_time(u)?,
        }
        self.bench.shard.invariants();
        Ok(())
    }
}

#[test]
fn agrees_with_model() {
    arbtest::arbtest(|u| {
        let cores = u.int_in_range(1..=4)?;
        let mut pair = Pair { bench: Bench::new(), model: Model::default(), cores, clients: 0 };
        while !u.is_empty() {
            pair.step(u)?;
        }
        Ok(())
    })
    .size_min(256)
    .size_max(4096)
    .budget_ms(2000);
}
