//! What was published where, as far as anybody was told: no two clients may be told different things.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Truth {
    /// Payload by channel, epoch and offset.
    streams: BTreeMap<(String, String), BTreeMap<u64, Vec<u8>>>,
    payloads_next: u64,
    /// Payloads somebody tried to publish, by channel.
    tried: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Truth {
    /// A payload nobody else publishes: a JSON string with the publisher and its running number.
    pub fn payload(&mut self, channel: &str, publisher: usize, filler: usize) -> Vec<u8> {
        self.payloads_next += 1;
        let payload = format!("\"{publisher}/{}/{}\"", self.payloads_next, "x".repeat(filler)).into_bytes();
        self.tried.entry(channel.into()).or_default().insert(payload.clone());
        payload
    }

    /// Somebody was told that `payload` stands at this place.
    pub fn told(&mut self, channel: &str, epoch: &str, offset: u64, payload: &[u8]) {
        assert!(
            self.tried.get(channel).is_some_and(|tried| tried.contains(payload)),
            "{channel}: nobody published {}",
            String::from_utf8_lossy(payload)
        );
        if offset == 0 {
            return;
        }
        let stream = self.streams.entry((channel.into(), epoch.into())).or_default();
        let known = stream.entry(offset).or_insert_with(|| payload.to_vec());
        assert_eq!(known, payload, "{channel} {epoch} {offset}: two payloads at one place");
    }
}

/// Publisher and number of a payload: numbers of one publisher rise.
pub fn parse(payload: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(payload).expect("payloads are text").trim_matches('"');
    let mut parts = text.split('/').map(|part| part.parse::<u64>().unwrap_or(0));
    (parts.next().unwrap_or(0) as usize, parts.next().unwrap_or(0))
}
