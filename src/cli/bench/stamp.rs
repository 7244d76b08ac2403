//! What the payloads of a run carry, and how it is found again among millions of messages.
//!
//! A payload is a JSON string, in both protocols: the run, the publisher and a sequence number in fixed
//! width, then padding. The scanner learns once where in a push the stamp stands; after that a message
//! costs one look at its end, one comparison and two conversions, so that the client can keep up.

use crate::{model::Protocol, stdx::varint, wire::client::DecodeError};
use memchr::{memchr, memmem};

/// Run, publisher, sequence.
const STAMP_BYTES: usize = 8 + 8 + 8;
/// The stamp between its quotes.
pub const PAYLOAD_MIN: usize = STAMP_BYTES + 2;

/// Which publication this is: the `sequence`th of `publisher`, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub publisher: u32,
    pub sequence: u32,
}

/// Tells the payloads of this run from those of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run([u8; 8]);

impl Run {
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self(letters(id))
    }

    /// Eight letters that no other run has, most likely.
    #[must_use]
    pub fn name(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Appends the payload of `stamp`, `size` bytes long (at least [`PAYLOAD_MIN`]).
    pub fn payload(self, stamp: Stamp, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size.max(PAYLOAD_MIN) - 1;
        out.push(b'"');
        out.extend_from_slice(&self.0);
        out.extend_from_slice(&letters(stamp.publisher));
        out.extend_from_slice(&letters(stamp.sequence));
        out.resize(end, b'x');
        out.push(b'"');
    }

    /// The same with words for padding, others for each stamp: it compresses like text.
    pub fn prose(self, stamp: Stamp, size: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.payload(stamp, size, out);
        let mut state =
            (u64::from(stamp.publisher) << 32 | u64::from(stamp.sequence)) ^ 0x9e37_79b9_7f4a_7c15;
        let end = out.len() - 1;
        let Some(mut room) = out.get_mut(start + 1 + STAMP_BYTES..end) else { return };
        while !room.is_empty() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = WORDS[usize::try_from(state >> 40).unwrap_or_default() % WORDS.len()].as_bytes();
            let (taken, rest) = room.split_at_mut(word.len().min(room.len()));
            taken.copy_from_slice(&word[..taken.len()]);
            room = rest;
        }
    }
}

/// Words of padding that is to compress like text.
const WORDS: [&str; 32] = [
    " goal",
    " minute",
    " player",
    " corner",
    " price",
    " seventeen",
    " update",
    " of",
    " the",
    " order",
    " status",
    " shipped",
    " quick",
    " brown",
    " a",
    " message",
    " room",
    " joined",
    " again",
    " with",
    " 20:45",
    " 311",
    " is",
    " typing",
    " score",
    " away",
    " home",
    " and",
    " not",
    " yet",
    " photo",
    " uploaded",
];

/// A number as eight letters from a to p, of which padding is none.
fn letters(value: u32) -> [u8; 8] {
    let mut wide = u64::from(value);
    wide = (wide | wide << 16) & 0x0000_ffff_0000_ffff;
    wide = (wide | wide << 8) & 0x00ff_00ff_00ff_00ff;
    wide = (wide | wide << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    (wide + 0x6161_6161_6161_6161).to_be_bytes()
}

#[inline]
fn number(letters: [u8; 8]) -> Option<u32> {
    let mut wide = u64::from_be_bytes(letters).wrapping_sub(0x6161_6161_6161_6161);
    if wide & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    wide = (wide | wide >> 4) & 0x00ff_00ff_00ff_00ff;
    wide = (wide | wide >> 8) & 0x0000_ffff_0000_ffff;
    u32::try_from((wide | wide >> 16) & 0xffff_ffff).ok()
}

/// One message of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A publication of this run.
    Publication(Stamp),
    Ping,
    /// Anything else, undecoded: the reader decides what to make of it.
    Other(&'a [u8]),
}

/// Splits frames into messages.
#[derive(Debug)]
pub struct Scanner {
    protocol: Protocol,
    run: Run,
    /// Length of the pushes of this run, and where in them the stamp begins. A hint: what does not fit is
    /// looked at in full.
    len: usize,
    at: usize,
}

impl Scanner {
    #[must_use]
    pub fn new(protocol: Protocol, run: Run) -> Self {
        Self { protocol, run, len: 0, at: 0 }
    }

    /// Calls `on` for every message of `frame`, in order.
    ///
    /// # Errors
    /// [`DecodeError`] when `frame` cannot be split.
    #[inline]
    pub fn scan<'a>(&mut self, frame: &'a [u8], on: impl FnMut(Seen<'a>)) -> Result<(), DecodeError> {
        match self.protocol {
            Protocol::Json => {
                self.scan_json(frame, on);
                Ok(())
            }
            Protocol::Protobuf => self.scan_protobuf(frame, on).ok_or(DecodeError::Protobuf),
        }
    }

    #[inline]
    fn scan_json<'a>(&mut self, frame: &'a [u8], mut on: impl FnMut(Seen<'a>)) {
        let mut rest = frame;
        while !rest.is_empty() {
            let ends_here = rest.get(self.len).is_none_or(|byte| *byte == b'\n');
            if ends_here && let Some(stamp) = rest.get(..self.len).and_then(|it| self.stamp(it)) {
                on(Seen::Publication(stamp));
                rest = rest.get(self.len + 1..).unwrap_or_default();
                continue;
            }
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            on(self.look(&rest[..end]));
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    #[inline]
    fn scan_protobuf<'a>(&mut self, frame: &'a [u8], mut on: impl FnMut(Seen<'a>)) -> Option<()> {
        let mut rest = frame;
        while !rest.is_empty() {
            let varint::Read::Value(len, used) = varint::read(rest) else { return None };
            let (message, after) = rest.get(used..)?.split_at_checked(usize::try_from(len).ok()?)?;
            rest = after;
            match self.stamp(message) {
                Some(stamp) if message.len() == self.len => on(Seen::Publication(stamp)),
                _ => on(self.look(message)),
            }
        }
        Some(())
    }

    /// The stamp, if it stands where the last one stood.
    #[inline]
    fn stamp(&self, message: &[u8]) -> Option<Stamp> {
        let stamp = message.get(self.at..self.at + STAMP_BYTES)?.as_chunks::<8>().0;
        let [run, publisher, sequence] = *<&[[u8; 8]; 3]>::try_from(stamp).ok()?;
        if run != self.run.0 {
            return None;
        }
        Some(Stamp { publisher: number(publisher)?, sequence: number(sequence)? })
    }

    #[cold]
    fn look<'a>(&mut self, message: &'a [u8]) -> Seen<'a> {
        let push: &[u8] = match self.protocol {
            Protocol::Json => b"{\"push\"",
            Protocol::Protobuf => b"\x22",
        };
        if message.is_empty() || message == b"{}" {
            return Seen::Ping;
        }
        if message.starts_with(push)
            && let Some(at) = memmem::find(message, &self.run.0)
        {
            (self.len, self.at) = (message.len(), at);
            if let Some(stamp) = self.stamp(message) {
                return Seen::Publication(stamp);
            }
        }
        Seen::Other(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for value in [0, 1, 15, 16, 0x1234_5678, u32::MAX] {
            assert_eq!(number(letters(value)), Some(value));
        }
        assert_eq!(&letters(0x0123_cdef), b"abcdmnop");
        for bad in [*b"abcdmno`", *b"abcdmnoq", *b"xaaaaaaa", *b"\0aaaaaaa", [0xff; 8]] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn prose_is_a_payload_of_words() {
        let (run, stamp) = (Run::new(3), Stamp { publisher: 1, sequence: 2 });
        for size in [PAYLOAD_MIN, PAYLOAD_MIN + 1, 512] {
            let (mut plain, mut prose) = (Vec::new(), Vec::new());
            run.payload(stamp, size, &mut plain);
            run.prose(stamp, size, &mut prose);
            assert_eq!((prose.len(), &prose[..25]), (size, &plain[..25]));
            assert!(serde_json::from_slice::<String>(&prose).is_ok());
            assert!(!prose.contains(&b'x'), "no padding is left");
        }
    }

    fn push(protocol: Protocol, run: Run, stamp: Stamp, size: usize) -> Vec<u8> {
        let mut data = Vec::new();
        run.payload(stamp, size, &mut data);
        match protocol {
            Protocol::Json => {
                [br#"{"push":{"channel":"bench","pub":{"data":"#.as_slice(), &data, b"}}}"].concat()
            }
            Protocol::Protobuf => {
                let short = |len: usize| u8::try_from(len).unwrap();
                let publication = [&[0x22, short(size)], data.as_slice()].concat();
                let push =
                    [b"\x12\x05bench\x22", [short(publication.len())].as_slice(), &publication].concat();
                [&[short(push.len() + 2), 0x22, short(push.len())], push.as_slice()].concat()
            }
        }
    }

    // Frames of pushes, pings and others in any order come apart as they were put together.
    #[test]
    fn scan_finds_everything() {
        arbtest::arbtest(|u| {
            let run = Run::new(7);
            for protocol in [Protocol::Json, Protocol::Protobuf] {
                let mut scanner = Scanner::new(protocol, run);
                for _ in 0..3 {
                    let (mut frame, mut want) = (Vec::new(), Vec::new());
                    for at in 0..u.int_in_range(1..=6)? {
                        if protocol == Protocol::Json && at > 0 {
                            frame.push(b'\n');
                        }
                        let stamp = Stamp { publisher: u.int_in_range(0..=3)?, sequence: u.arbitrary()? };
                        let (bytes, name) = match (u.int_in_range(0..=4)?, protocol) {
                            (0, Protocol::Json) => (b"{}".to_vec(), "ping".into()),
                            (0, Protocol::Protobuf) => (b"\0".to_vec(), "ping".into()),
                            (1, Protocol::Json) => (br#"{"id":1,"publish":{}}"#.to_vec(), "other".into()),
                            (1, Protocol::Protobuf) => (b"\x04\x08\x01\x42\0".to_vec(), "other".into()),
                            (2, _) => (push(protocol, Run::new(8), stamp, 40), "other".into()),
                            (3, _) => (push(protocol, run, stamp, PAYLOAD_MIN), format!("{stamp:?}")),
                            _ => (push(protocol, run, stamp, 40), format!("{stamp:?}")),
                        };
                        frame.extend_from_slice(&bytes);
                        want.push(name);
                    }
                    let mut got = Vec::new();
                    let result = scanner.scan(&frame, |seen| {
                        got.push(match seen {
                            Seen::Publication(stamp) => format!("{stamp:?}"),
                            Seen::Ping => "ping".into(),
                            Seen::Other(_) => "other".into(),
                        });
                    });
                    assert_eq!(result, Ok(()));
                    assert_eq!(got, want);
                }
            }
            Ok(())
        });
    }

    #[test]
    fn any_bytes() {
        arbtest::arbtest(|u| {
            let bytes: Vec<u8> = u.arbitrary()?;
            for protocol in [Protocol::Json, Protocol::Protobuf] {
                let _ = Scanner::new(protocol, Run::new(7)).scan(&bytes, |_| {});
            }
            Ok(())
        });
    }
}
