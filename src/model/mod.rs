//! The nouns: what a channel, a client, a publication and a place in a stream are, and the numbers clients see.
//!
//! No bytes of any protocol here, and no sockets.

mod codes;
mod publication;

pub use codes::{Disconnect, ErrorCode, Unsubscribe};
pub use publication::{ClientInfo, Extra, Publication, Tags};

use std::{fmt, str::FromStr, sync::Arc};

/// Names a connection on its core, in every module: the runtime hands it out when it accepts.
pub type ConnKey = crate::stdx::slab::Key;

/// Index of a core, from 0.
pub type CoreId = u16;

/// Most cores one process can have.
pub const CORES_MAX: usize = 128;

/// How a connection encodes its messages, for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Json,
    Protobuf,
}

/// The time a turn of a core runs at. Taken once per turn and passed down; nothing below asks a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds on a clock that never goes back. Timers and history ages use this.
    pub ms: u64,
    /// Milliseconds since 1970. Tokens and the `time` field of messages use this; it may jump.
    pub unix_ms: u64,
}

/// The public id of a connection: a UUID, unique across nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u128);

impl ClientId {
    /// A version 4 UUID from 128 random bits.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        let version = (bits & !(0xf << 76)) | (0x4 << 76);
        Self((version & !(0x3 << 62)) | (0x2 << 62))
    }

    /// The 36 characters clients see.
    #[must_use]
    pub fn text(self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let part = |shift: u32| hex8((self.0 >> shift) as u32);
        let (b, c) = (part(64), part(32));
        text[..8].copy_from_slice(&part(96));
        text[9..13].copy_from_slice(&b[..4]);
        text[14..18].copy_from_slice(&b[4..]);
        text[19..23].copy_from_slice(&c[..4]);
        text[24..28].copy_from_slice(&c[4..]);
        text[28..].copy_from_slice(&part(0));
        text
    }
}

/// Eight hexadecimal digits at once: a list of the clients present in a channel is made of little else.
fn hex8(value: u32) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 255;
    // A digit to each byte, the highest first in big-endian order.
    let mut digits = u64::from(value);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((digits + ONES * 6) >> 4) & ONES;
    (digits + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClientId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|&at| bytes[at] != b'-') {
            return Err(());
        }
        let mut value = 0u128;
        for (at, &byte) in bytes.iter().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                value = (value << 4) | u128::from((byte as char).to_digit(16).ok_or(())?);
            }
        }
        Ok(Self(value))
    }
}

/// A place in the stream of a channel. Offsets compare only inside one epoch.
///
/// `StreamPosition` on the wire: offset counts publications from 1, 0 is "before the first".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    pub epoch: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_id_text_round_trips() {
        let id = ClientId::from_random(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-4def-8123-456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ClientId(u128::MAX / 255 * 0x9a).to_string(), "9a9a9a9a-9a9a-9a9a-9a9a-9a9a9a9a9a9a");
        for bad in [
            "",
            "01234567-89ab-4def-8123-456789abcde",
            "01234567-89ab-4def-8123-456789abcdeg",
            "0123456789ab-4def-8123-456789abcdef-",
        ] {
            assert_eq!(bad.parse::<ClientId>(), Err(()), "{bad}");
        }
    }
}
