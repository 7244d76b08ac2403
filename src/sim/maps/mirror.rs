//! A client's side of maps: what it asks for in which order, what it has, and what it checks of all it is told.

use super::{
    View, conflates, is_of_clients, is_open, is_ordered, kind, recovers,
    truth::{Change, Entries, MapTruth},
};
use crate::{
    model::Protocol,
    sim::{
        Coverage,
        filter::Filter,
        truth::{self, Truth},
    },
    wire::{
        client::{Received, SubscribeRequest, Subscribed, unquoted},
        fossil,
    },
};
use std::collections::BTreeMap;

const LIVE: i32 = 0;
const STREAM: i32 = 1;
const STATE: i32 = 2;

/// One request on the way to a live mirror.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    phase: i32,
    cursor: String,
    limit: i32,
    asc: bool,
    recover: bool,
    delta: bool,
    /// From where no stream ever was.
    lie: bool,
}

/// What a client has of a map, or is about to have.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub epoch: String,
    /// While it comes in pages: where the state was begun to be read, then how far changes have come.
    pub offset: u64,
    pub entries: Entries,
    filter: Option<Filter>,
    /// Changes may come as differences.
    delta: bool,
    /// Unsubscribe was sent.
    leaving: bool,
    /// Score and key of the last entry of the state so far.
    last: Option<(i64, String)>,
    /// The last number of its own that came, and that was acknowledged.
    seen: u64,
    acknowledged: u64,
}

/// What is shared by all.
pub type Shared<'a> = (&'a mut MapTruth, &'a mut Truth, &'a mut Coverage);

/// The maps of a client.
#[derive(Debug, Default)]
pub struct Maps {
    pub live: BTreeMap<String, Mirror>,
    coming: BTreeMap<String, Mirror>,
    /// What it had where it is not live any more.
    memory: BTreeMap<String, Mirror>,
    /// Milliseconds on the world's clock when it reads.
    pub now_ms: u64,
    json: bool,
}

impl Maps {
    pub fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.coming.clear();
        for (channel, mirror) in std::mem::take(&mut self.live) {
            self.remember(&channel, mirror);
        }
    }

    fn remember(&mut self, channel: &str, mirror: Mirror) {
        if recovers(channel) {
            self.memory.insert(channel.into(), mirror);
        }
    }

    pub fn view(&self, mirror: &Mirror) -> View {
        View { json: self.json, filter: mirror.filter }
    }

    /// Nothing of this map is there, nor on its way.
    pub fn is_idle(&self, channel: &str) -> bool {
        !self.live.contains_key(channel) && !self.coming.contains_key(channel)
    }

    /// Maps it was in before.
    pub fn remembered(&self) -> Vec<String> {
        self.memory.keys().cloned().collect()
    }

    /// What to ask first. `filter`: begin with that from the state, whatever is remembered.
    pub fn begin(&mut self, channel: &str, limit: i32, delta: bool, filter: Option<Option<Filter>>) -> Asked {
        let known = self.memory.get(channel).filter(|_| filter.is_none()).cloned();
        let recover = known.is_some();
        let filter = filter.unwrap_or_default();
        let mirror = known.unwrap_or_else(|| Mirror { filter, ..Mirror::default() });
        let mirror = Mirror { leaving: false, seen: 0, acknowledged: 0, ..mirror };
        self.coming.insert(channel.into(), mirror);
        let (phase, asc) = (if recover { STREAM } else { STATE }, limit % 2 > 0);
        Asked { phase, limit, asc, recover, delta, ..Asked::default() }
    }

    /// Asks to recover from where no stream ever was.
    pub fn lie(&mut self, channel: &str, offset: u64) -> Asked {
        self.coming.insert(channel.into(), Mirror { epoch: "made up".into(), offset, ..Mirror::default() });
        Asked { phase: STREAM, recover: true, lie: true, ..Asked::default() }
    }

    pub fn request<'a>(&'a self, channel: &'a str, asked: &'a Asked) -> SubscribeRequest<'a> {
        let mirror = &self.coming[channel];
        SubscribeRequest {
            channel: channel.into(),
            kind: kind(channel),
            phase: asked.phase,
            cursor: asked.cursor.as_str().into(),
            limit: asked.limit,
            asc: asked.asc,
            // A page that is not the first says where the first one was.
            epoch: if asked.phase == STATE && asked.cursor.is_empty() { "" } else { &mirror.epoch }.into(),
            offset: mirror.offset,
            recover: asked.recover,
            delta: if asked.delta { "fossil".into() } else { "".into() },
            tags_filter: mirror.filter.map(|filter| Box::new(filter.node())),
            ..SubscribeRequest::default()
        }
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        let mirrors = self.coming.get_mut(channel).into_iter().chain(self.live.get_mut(channel));
        mirrors.for_each(|mirror| mirror.leaving = true);
    }

    /// The client's own command took its effect: what came before has been told.
    pub fn unsubscribed(&mut self, channel: &str) {
        let Some(mirror) = self.live.remove(channel) else { return };
        let (view, Mirror { seen, acknowledged, .. }) = (self.view(&mirror), &mirror);
        assert!(
            view.hides_own() || conflates(channel) || seen >= acknowledged,
            "{channel}: {acknowledged} was acknowledged, only {seen} came"
        );
        self.remember(channel, mirror);
    }

    pub fn was_cut(&mut self, channel: &str, code: u32) {
        let mirror = self.live.remove(channel).unwrap_or_else(|| panic!("{channel}: cut and not subscribed"));
        assert_eq!(code, 2500, "{channel}: nobody unsubscribes clients from maps");
        self.remember(channel, mirror);
    }

    pub fn acknowledged(&mut self, channel: &str, number: u64) {
        if let Some(mirror) = self.live.get_mut(channel) {
            mirror.acknowledged = mirror.acknowledged.max(number);
        }
    }

    pub fn refused(&mut self, channel: &str, asked: &Asked, code: u32, coverage: &mut Coverage) {
        self.coming.remove(channel);
        if code == 112 {
            *coverage.entry("map: begins anew".into()).or_default() += 1;
            self.memory.remove(channel);
        }
        let known = match code {
            // Too many channels, no answer in time, or one that came late after that.
            100 | 106 => true,
            112 => asked.recover || asked.phase == STREAM || !asked.cursor.is_empty(),
            _ => false,
        };
        assert!(known, "{channel}: {asked:?} was answered {code}");
    }

    /// Takes an answer; what to ask next, if the mirror is not live yet.
    pub fn told(
        &mut self,
        channel: &str,
        asked: &Asked,
        result: &Subscribed<'_>,
        shared: Shared<'_>,
    ) -> Option<Asked> {
        let (maps, truth, coverage) = shared;
        let mut mirror = self.coming.remove(channel).expect("an answer to what was asked");
        assert!(!asked.lie, "{channel}: a lie was believed");
        assert_eq!(result.kind, kind(channel), "{channel}");
        assert!(!result.positioned && !self.live.contains_key(channel), "{channel}: {result:?}");
        let first = asked.phase == STATE && asked.cursor.is_empty();
        if first {
            mirror.epoch = result.epoch.clone().into_owned();
            mirror.offset = result.offset;
        }
        assert_eq!(result.epoch, mirror.epoch, "{channel}: another stream");
        mirror.delta = result.delta;
        let delta = asked.delta && mirror.filter.is_none() && is_open(channel);
        assert_eq!(result.delta, delta, "{channel}: differences");
        let live = result.phase == LIVE;
        assert_eq!(result.conflation > 0, live && conflates(channel), "{channel}: {}", result.conflation);
        let view = self.view(&mirror);
        mirror.read(channel, asked, result, view, (maps, truth, coverage));
        mirror.catch_up(channel, &result.publications, view, (maps, truth, coverage));
        assert_eq!(result.offset, mirror.offset, "{channel}: the end of what came");
        if mirror.leaving && result.phase != LIVE {
            return None;
        }
        let (count, next) = match result.phase {
            STATE => {
                assert!(asked.phase == STATE && result.publications.is_empty(), "{channel}");
                let cursor = result.cursor.clone().into_owned();
                let phase = if cursor.is_empty() { STREAM } else { STATE };
                ("map: page", Some((phase, cursor)))
            }
            STREAM => {
                assert!(asked.phase == STREAM && !asked.recover, "{channel}");
                assert!(!result.publications.is_empty(), "{channel}: no step forward");
                ("map: page of the stream", Some((STREAM, String::new())))
            }
            _ => {
                assert_eq!((result.recovered, result.was_recovering), (asked.recover, asked.recover));
                assert_eq!(result.recoverable, recovers(channel), "{channel}");
                maps.mirrored((channel, &mirror.epoch, mirror.offset), view, &mirror.entries);
                match (asked.recover, first) {
                    (true, _) => ("map: recovered", None),
                    (false, true) => ("map: live at once", None),
                    (false, false) => ("map: live after pages", None),
                }
            }
        };
        *coverage.entry(count.into()).or_default() += 1;
        match next {
            Some((phase, cursor)) => {
                self.coming.insert(channel.into(), mirror);
                let Asked { limit, asc, delta, .. } = *asked;
                Some(Asked { phase, cursor, limit, asc, delta, ..Asked::default() })
            }
            None => {
                self.live.insert(channel.into(), mirror);
                None
            }
        }
    }

    /// A change of a live map: the next one that this client sees.
    pub fn changed(&mut self, channel: &str, own: usize, publication: &Received<'_>, shared: Shared<'_>) {
        let (maps, truth, coverage) = shared;
        let (now_ms, json) = (self.now_ms, self.json);
        let mirror = self.live.get_mut(channel).unwrap_or_else(|| panic!("{channel}: not subscribed"));
        let view = View { json, filter: mirror.filter };
        let change = mirror.change(channel, publication, json, coverage);
        assert!(publication.offset > mirror.offset, "{channel}: {} again", publication.offset);
        for offset in mirror.offset + 1..publication.offset {
            if conflates(channel) {
                *coverage.entry("map: spared".into()).or_default() += 1;
                continue;
            }
            assert!(view != View::default(), "{channel}: no change {offset}");
            maps.hide((channel.into(), mirror.epoch.clone(), offset), view, None, truth);
        }
        mirror.offset = publication.offset;
        maps.told((channel, &mirror.epoch, mirror.offset), &change, view, truth);
        if let Some(data) = change.data {
            if is_open(channel) {
                let (by, number) = truth::parse(&data);
                mirror.seen = if by == own { mirror.seen.max(number) } else { mirror.seen };
            }
            mirror.entries.insert(change.key, (publication.offset, data));
        } else {
            let known = mirror.entries.remove(&change.key);
            let (_, data) =
                known.unwrap_or_else(|| panic!("{channel}: {} is gone and never was", change.key));
            if view == View::default() {
                *coverage.entry("map: removed".into()).or_default() += 1;
                maps.gone(channel, &change.key, &data, now_ms);
            } else {
                *coverage.entry("map: removed or hidden".into()).or_default() += 1;
            }
        }
        // Of what changed on the way there, something may be told only later.
        if !conflates(channel) {
            maps.mirrored((channel, &mirror.epoch, mirror.offset), view, &mirror.entries);
        }
    }
}

impl Mirror {
    /// Takes a page of the state, from when it was begun to be read.
    fn read(
        &mut self,
        channel: &str,
        asked: &Asked,
        result: &Subscribed<'_>,
        view: View,
        shared: Shared<'_>,
    ) {
        let (maps, truth, coverage) = shared;
        assert!(asked.phase == STATE || result.state.is_empty(), "{channel}: a state nobody asked for");
        let fits = asked.limit <= 0 || result.state.len() <= asked.limit as usize;
        assert!(fits, "{channel}: more than {}", asked.limit);
        for entry in &result.state {
            assert!(entry.offset <= self.offset && !entry.removed && !entry.delta, "{channel}: {entry:?}");
            let score = if is_ordered(channel) { entry.score } else { 0 };
            let place = (score, entry.key.clone().into_owned());
            if let Some(last) = &self.last {
                let follows = if asked.asc || !is_ordered(channel) { place > *last } else { place < *last };
                assert!(follows, "{channel}: {place:?} after {last:?}");
            }
            self.last = Some(place);
            let change = self.change(channel, entry, view.json, coverage);
            maps.told((channel, &self.epoch, entry.offset), &change, view, truth);
            self.entries.insert(change.key, (entry.offset, change.data.unwrap_or_default()));
        }
    }

    /// Takes what changed since, each place once; what is not for this client has become removals.
    fn catch_up(&mut self, channel: &str, changes: &[Received<'_>], view: View, shared: Shared<'_>) {
        let (maps, truth, coverage) = shared;
        for publication in changes {
            assert_eq!(publication.offset, self.offset + 1, "{channel}: the next change");
            assert!(!publication.delta, "{channel}: a difference to what nobody knows");
            self.offset += 1;
            let change = self.change(channel, publication, view.json, coverage);
            maps.told((channel, &self.epoch, publication.offset), &change, view, truth);
            match change.data {
                Some(data) => self.entries.insert(change.key, (publication.offset, data)),
                None => self.entries.remove(&change.key),
            };
        }
    }

    /// What was published, made of what the entry was if it came as the difference to that.
    fn change(
        &self,
        channel: &str,
        publication: &Received<'_>,
        json: bool,
        coverage: &mut Coverage,
    ) -> Change {
        let key = publication.key.clone().into_owned();
        check_info(channel, publication);
        if publication.removed {
            assert!(publication.data.is_empty() && !publication.delta, "{channel}: {publication:?}");
            return Change { key, data: None };
        }
        if !self.delta {
            assert!(!publication.delta, "{channel}: a difference nobody asked for");
            return Change { key, data: Some(publication.data.to_vec()) };
        }
        let protocol = if json { Protocol::Json } else { Protocol::Protobuf };
        let data = unquoted(protocol, publication.data).expect("a string").into_owned();
        if !publication.delta {
            return Change { key, data: Some(data) };
        }
        *coverage.entry("map: difference".into()).or_default() += 1;
        let (_, base) =
            self.entries.get(&key).unwrap_or_else(|| panic!("{channel}: a difference to nothing"));
        let data = fossil::apply(base, &data, 1 << 24).unwrap_or_else(|error| panic!("{channel}: {error}"));
        Change { key, data: Some(data) }
    }
}

/// Where entries are those of clients, the key says whose.
fn check_info(channel: &str, publication: &Received<'_>) {
    let whose = publication.info.as_ref().map(|info| match kind(channel) {
        3 => &info.user,
        _ => &info.client,
    });
    if (is_of_clients(channel) || kind(channel) != 1) && !publication.removed {
        assert_eq!(whose, Some(&publication.key), "{channel}: the key of another");
    }
}
