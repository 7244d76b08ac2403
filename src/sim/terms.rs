//! On what terms the server API publishes: once and no more (idempotency keys), only what is newer (versions), beside
//! the stream. A naive model says what may stand where.

use super::{Coverage, knobs};
use crate::{broker::seam::PublishOptions, model::Position, stdx::rng::Rng};
use std::collections::BTreeMap;

/// How long a key is used; it is remembered for five minutes.
const KEY_MS: u64 = 100_000;

/// Epoch and offset.
type Place = (String, u64);

#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Empty: none.
    pub key: String,
    /// 0: none.
    version: u64,
    version_epoch: &'static str,
    skip_history: bool,
}

impl Terms {
    pub fn draw(rng: &mut Rng, channel: &str, now_ms: u64) -> Self {
        let streams = knobs::has_history(channel);
        match rng.below(8) {
            0 => Self { key: format!("{}/{}", now_ms / KEY_MS, rng.below(3)), ..Self::default() },
            1..=3 if streams => {
                let version_epoch = ["", "", "a", "b"][rng.below(4) as usize];
                Self { version: 1 + rng.below(12), version_epoch, ..Self::default() }
            }
            // Who gets only the newest would not know where it is.
            4 if streams && !knobs::conflates(channel) => Self { skip_history: true, ..Self::default() },
            _ => Self::default(),
        }
    }

    pub fn options(&self) -> PublishOptions {
        PublishOptions {
            idempotency_key: self.key.as_str().into(),
            version: self.version,
            version_epoch: self.version_epoch.into(),
            skip_history: self.skip_history,
            ..PublishOptions::default()
        }
    }

    /// What says nothing new where `last` was the last version.
    fn is_outdated(&self, last: (u64, &str)) -> bool {
        let same = self.version_epoch.is_empty() || self.version_epoch == last.1;
        self.version > 0 && same && self.version <= last.0
    }
}

/// Publications with one key in one channel.
#[derive(Debug, Default)]
struct Once {
    /// The one that subscribers were told.
    told: Option<Vec<u8>>,
    stands: Option<Place>,
    /// Where the server says it stands; `None` in there: nowhere.
    answered: Option<Option<Place>>,
}

#[derive(Debug, Default)]
pub struct TermsTruth {
    /// By payload.
    terms: BTreeMap<Vec<u8>, Terms>,
    once: BTreeMap<(String, String), Once>,
    /// Where a payload with a version was told.
    stands: BTreeMap<Vec<u8>, Place>,
    /// What the server said of it, and in which channel: its place, or that of what made it old.
    answered: BTreeMap<Vec<u8>, (String, Place)>,
}

impl TermsTruth {
    /// `payload` will be published on these terms.
    pub fn set(&mut self, payload: &[u8], terms: &Terms) {
        self.terms.insert(payload.to_vec(), terms.clone());
    }

    /// Somebody was told that `payload` stands there; offset 0: nowhere.
    pub fn told(&mut self, channel: &str, epoch: &str, offset: u64, payload: &[u8]) {
        let Some(terms) = self.terms.get(payload) else { return };
        let place = (offset > 0).then(|| (epoch.to_owned(), offset));
        assert!(!terms.skip_history || place.is_none(), "{channel}: beside the stream, and at {place:?}");
        if !terms.key.is_empty() {
            let once = self.once.entry((channel.into(), terms.key.clone())).or_default();
            let first = once.told.get_or_insert_with(|| payload.to_vec());
            assert_eq!(first, payload, "{channel}: two publications with the key {}", terms.key);
            if place.is_some() {
                once.stands = place.clone();
                let answered = once.answered.as_ref();
                assert!(answered.is_none_or(|said| *said == place), "{channel}: {terms:?}: {once:?}");
            }
        }
        if terms.version > 0 {
            let place = place.unwrap_or_else(|| panic!("{channel}: {terms:?} nowhere"));
            let said = self.answered.get(payload).map(|(_, place)| place);
            assert!(
                said.is_none_or(|said| *said == place),
                "{channel}: {terms:?} at {place:?}, not {said:?}"
            );
            self.stands.insert(payload.to_vec(), place);
        }
    }

    /// The server answered the publication of `payload`. True: it stands where the answer says.
    pub fn answered(
        &mut self,
        channel: &str,
        position: Option<&Position>,
        payload: &[u8],
        coverage: &mut Coverage,
    ) -> bool {
        let Some(terms) = self.terms.get(payload) else { return true };
        let place = position.map(|at| (at.epoch.to_string(), at.offset));
        if terms.skip_history {
            assert_eq!(place, None, "{channel}: beside the stream");
            *coverage.entry("publish: beside the stream".into()).or_default() += 1;
        }
        if !terms.key.is_empty() {
            let once = self.once.entry((channel.into(), terms.key.clone())).or_default();
            if let Some(said) = &once.answered {
                assert_eq!(*said, place, "{channel}: two answers for the key {}", terms.key);
                *coverage.entry("publish: once and no more".into()).or_default() += 1;
            }
            assert!(once.stands.is_none() || once.stands == place, "{channel}: {once:?}, not {place:?}");
            once.answered = Some(place.clone());
        }
        if terms.version > 0 {
            let place = place.unwrap_or_else(|| panic!("{channel}: {terms:?} nowhere"));
            let stands = self.stands.get(payload);
            assert!(
                stands.is_none_or(|it| *it == place),
                "{channel}: {terms:?} at {stands:?}, not {place:?}"
            );
            self.answered.insert(payload.to_vec(), (channel.into(), place));
        }
        terms.key.is_empty() && terms.version == 0
    }

    /// The last version at an offset, if all is known that says so.
    fn version_at<'a>(&'a self, stream: &BTreeMap<u64, Vec<u8>>, mut offset: u64) -> Option<(u64, &'a str)> {
        while offset > 0 {
            let payload = stream.get(&offset)?;
            if let Some(terms) = self.terms.get(payload).filter(|terms| terms.version > 0) {
                return Some((terms.version, terms.version_epoch));
            }
            offset -= 1;
        }
        Some((0, ""))
    }

    /// What was taken was new, and what was not was not. To be called when all has been told.
    pub fn check(
        &self,
        streams: &BTreeMap<(String, String), BTreeMap<u64, Vec<u8>>>,
        coverage: &mut Coverage,
    ) {
        for (name, stream) in streams {
            for (&offset, payload) in stream {
                if let Some(terms) = self.terms.get(payload)
                    && let Some(last) = self.version_at(stream, offset - 1)
                {
                    assert!(!terms.is_outdated(last), "{name:?} {offset}: {terms:?} after {last:?}");
                }
            }
        }
        for (payload, (channel, (epoch, offset))) in &self.answered {
            let Some(stream) = streams.get(&(channel.clone(), epoch.clone())) else { continue };
            if stream.get(offset).is_none_or(|there| there == payload) {
                continue;
            }
            let terms = &self.terms[payload];
            *coverage.entry("publish: suppressed by its version".into()).or_default() += 1;
            if let Some(last) = self.version_at(stream, *offset) {
                assert!(terms.is_outdated(last), "{channel} {epoch} {offset}: no {terms:?} after {last:?}");
            }
        }
    }
}
