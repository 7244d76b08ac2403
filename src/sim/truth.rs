//! What was published where, as far as anybody was told: no two clients may be told different things.

use super::{
    Coverage,
    filter::Filter,
    maps::{Change, MapTruth, View},
    terms::TermsTruth,
};
use crate::{model::Position, wire::json::is_json};
use std::collections::{BTreeMap, BTreeSet};

/// Payload by offset.
type Stream = BTreeMap<u64, Vec<u8>>;

/// What a client is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wants {
    pub filter: Option<Filter>,
    /// Not of this publisher.
    pub but: Option<usize>,
    /// JSON only.
    pub json: bool,
}

#[derive(Debug, Default)]
pub struct Truth {
    /// By channel and epoch.
    streams: BTreeMap<(String, String), Stream>,
    /// Offsets that JSON clients were not told: what stands there must not be JSON.
    skipped: BTreeSet<(String, String, u64)>,
    payloads_next: u64,
    /// Payloads somebody tried to publish, by channel.
    tried: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// The value of the tag of each payload that has one.
    tagged: BTreeMap<Vec<u8>, &'static str>,
    /// Places that were passed over for a filter, whether for a JSON client or not.
    unwanted: BTreeMap<(String, String, u64), BTreeSet<Wants>>,
    pub maps: MapTruth,
    pub terms: TermsTruth,
    /// How many of them are not JSON.
    binary: BTreeMap<String, usize>,
}

impl Truth {
    /// A payload nobody else publishes: publisher and running number, as a JSON string or not.
    pub fn payload(&mut self, channel: &str, publisher: usize, filler: usize, json: bool) -> (u64, Vec<u8>) {
        self.payloads_next += 1;
        *self.binary.entry(channel.into()).or_default() += usize::from(!json);
        let text = format!(
            "{publisher}/{}/{}",
            self.payloads_next,
            ["x", "ж", "日本"][publisher % 3].repeat(filler)
        );
        let payload =
            if json { format!("\"{text}\"").into_bytes() } else { [b"\xff\n", text.as_bytes()].concat() };
        self.tried.entry(channel.into()).or_default().insert(payload.clone());
        (self.payloads_next, payload)
    }

    /// Somebody was told that `payload` stands at this place.
    pub fn told(&mut self, channel: &str, epoch: &str, offset: u64, payload: &[u8]) {
        assert!(
            self.tried.get(channel).is_some_and(|tried| tried.contains(payload)),
            "{channel}: nobody published {}",
            String::from_utf8_lossy(payload)
        );
        self.terms.told(channel, epoch, offset, payload);
        if offset == 0 {
            return;
        }
        let place = (channel.to_owned(), epoch.to_owned(), offset);
        assert!(!self.skipped.contains(&place) || !is_json(payload), "{place:?} was withheld");
        for &wants in self.unwanted.get(&place).into_iter().flatten() {
            assert!(!self.is_wanted(wants, payload), "{place:?} was not told to {wants:?}");
        }
        let stream = self.streams.entry((place.0, place.1)).or_default();
        let known = stream.entry(offset).or_insert_with(|| payload.to_vec());
        assert_eq!(known, payload, "{channel} {epoch} {offset}: two payloads at one place");
    }

    /// The server API was told where `payload` stands.
    pub fn answered(
        &mut self,
        channel: &str,
        position: Option<&Position>,
        payload: &[u8],
        coverage: &mut Coverage,
    ) {
        if self.terms.answered(channel, position, payload, coverage)
            && let Some(position) = position
        {
            self.told(channel, &position.epoch, position.offset, payload);
        }
    }

    /// All has been told: what stands in streams does so by its terms.
    pub fn check_terms(&self, coverage: &mut Coverage) {
        self.terms.check(&self.streams, coverage);
    }

    /// Somebody was told that this changed in a map there.
    pub fn map_told(&mut self, channel: &str, epoch: &str, offset: u64, change: &Change) {
        let mut maps = std::mem::take(&mut self.maps);
        maps.told((channel, epoch, offset), change, View::default(), self);
        self.maps = maps;
    }

    /// `payload` will be published with this tag.
    pub fn tag(&mut self, payload: &[u8], value: &'static str) {
        self.tagged.insert(payload.to_vec(), value);
    }

    pub fn passes(&self, filter: Filter, payload: &[u8]) -> bool {
        filter.passes(self.tagged.get(payload).copied().unwrap_or_default())
    }

    fn is_wanted(&self, wants: Wants, payload: &[u8]) -> bool {
        wants.filter.is_none_or(|filter| self.passes(filter, payload))
            && wants.but != Some(parse(payload).0)
            && (!wants.json || is_json(payload))
    }

    /// A client that is choosy was not told what stands at this place.
    pub fn unwanted(&mut self, channel: &str, epoch: &str, offset: u64, wants: Wants) {
        let known = self.streams.get(&(channel.to_owned(), epoch.to_owned()));
        if let Some(payload) = known.and_then(|stream| stream.get(&offset)) {
            assert!(!self.is_wanted(wants, payload), "{channel} {epoch} {offset}: not told to {wants:?}");
        }
        let place = (channel.to_owned(), epoch.to_owned(), offset);
        self.unwanted.entry(place).or_default().insert(wants);
    }

    /// A JSON client was not told what stands at this place.
    pub fn skipped(&mut self, channel: &str, epoch: &str, offset: u64) {
        let place = (channel.to_owned(), epoch.to_owned());
        let known = self.streams.get(&place).and_then(|stream| stream.get(&offset));
        assert!(known.is_none_or(|payload| !is_json(payload)), "{channel} {epoch} {offset}: withheld");
        self.skipped.insert((place.0, place.1, offset));
        let skipped = self.skipped.iter().filter(|place| place.0 == channel).count();
        let binary = self.binary.get(channel).copied().unwrap_or(0);
        assert!(skipped <= binary, "{channel}: {skipped} withheld, {binary} are not JSON");
    }
}

/// Publisher and number of a payload: numbers of one publisher rise.
pub fn parse(payload: &[u8]) -> (usize, u64) {
    let payload = payload.strip_prefix(b"\xff\n").unwrap_or(payload);
    let text = std::str::from_utf8(payload).expect("payloads are text").trim_matches('"');
    let mut parts = text.split('/').map(|part| part.parse::<u64>().unwrap_or(0));
    (parts.next().unwrap_or(0) as usize, parts.next().unwrap_or(0))
}
