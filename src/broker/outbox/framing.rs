//! How messages are wrapped for a connection's transport, and how to find the wrapping again in queued bytes.
//!
//! Headers are exact: there is never a hole in front of a frame, so neighbouring frames touch.

use crate::wire::deflate::Window;

/// What surrounds messages on a connection. Part of a group's class: members with equal framing share bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Framing {
    /// Nothing: HTTP answers, handshakes.
    Raw,
    WebSocketText,
    WebSocketBinary,
    /// With permessage-deflate: what gets shorter by it is compressed, as one message per frame.
    DeflateText(Window),
    DeflateBinary(Window),
}

/// Most bytes a header takes.
const HEADER_MAX: usize = 10;

impl Framing {
    /// Where what is compressed may refer to; `None`: nothing is compressed.
    #[must_use]
    #[inline]
    pub(super) const fn window(self) -> Option<Window> {
        match self {
            Self::DeflateText(window) | Self::DeflateBinary(window) => Some(window),
            Self::Raw | Self::WebSocketText | Self::WebSocketBinary => None,
        }
    }

    /// Bytes in front of a payload of this length.
    #[must_use]
    pub(super) fn header_len(self, payload_len: usize) -> usize {
        match (self, payload_len) {
            (Self::Raw, _) => 0,
            (_, 0..=125) => 2,
            (_, 126..=0xffff) => 4,
            (_, _) => 10,
        }
    }

    /// Writes the header of a final, unmasked frame into `out`, which has [`Framing::header_len`] bytes (RFC 6455
    /// §5.2). `deflated`: RSV1 says so (RFC 7692 §6).
    pub(super) fn write_header(self, payload_len: usize, deflated: bool, out: &mut [u8]) {
        let opcode = match self {
            Self::Raw => return,
            Self::WebSocketText | Self::DeflateText(_) => 1,
            Self::WebSocketBinary | Self::DeflateBinary(_) => 2,
        };
        let mut header = [0; HEADER_MAX];
        header[0] = 0x80 | (u8::from(deflated) << 6) | opcode;
        match payload_len {
            0..=125 => header[1] = payload_len as u8,
            126..=0xffff => {
                header[1] = 126;
                header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            }
            _ => {
                header[1] = 127;
                header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            }
        }
        out.copy_from_slice(&header[..out.len()]);
    }
}

/// Start and end of the WebSocket frame that contains byte `at`; both are `at` when a frame begins there.
/// `bytes` begins with a frame and was written by this server.
#[must_use]
pub(super) fn frame_around(bytes: &[u8], at: usize) -> (usize, usize) {
    let mut start = 0;
    while start < at {
        let end = start.saturating_add(frame_len(&bytes[start..]));
        if end > at {
            return (start, end.min(bytes.len()));
        }
        start = end;
    }
    (at, at)
}

fn frame_len(bytes: &[u8]) -> usize {
    let extended = |len: usize| {
        let digits = bytes.get(2..2 + len).unwrap_or_default();
        digits.iter().fold(0usize, |value, &digit| (value << 8) | usize::from(digit))
    };
    match bytes.get(1).map_or(0, |byte| byte & 0x7f) {
        126 => 4 + extended(2),
        127 => 10usize.saturating_add(extended(8)),
        len => 2 + usize::from(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_table() {
        #[track_caller]
        fn check(framing: Framing, len: usize, want: &[u8]) {
            let mut out = vec![0xee; framing.header_len(len)];
            framing.write_header(len, false, &mut out);
            assert_eq!(out, want, "{framing:?} {len}");
            framing.write_header(len, true, &mut out);
            let marked: Vec<u8> =
                want.iter().enumerate().map(|(at, &byte)| if at == 0 { byte | 0x40 } else { byte }).collect();
            assert_eq!(out, marked, "{framing:?} {len}, deflated");
            if framing != Framing::Raw {
                assert_eq!(frame_len(&out), len + out.len());
            }
        }
        check(Framing::Raw, 500, b"");
        check(Framing::WebSocketText, 0, b"\x81\0");
        check(Framing::WebSocketText, 125, b"\x81\x7d");
        check(Framing::WebSocketBinary, 126, b"\x82\x7e\0\x7e");
        check(Framing::WebSocketBinary, 65535, b"\x82\x7e\xff\xff");
        check(Framing::DeflateText(Window::Bits15), 5, b"\x81\x05");
        check(Framing::DeflateBinary(Window::Bits9), 300, b"\x82\x7e\x01\x2c");
        check(Framing::WebSocketText, 65536, b"\x81\x7f\0\0\0\0\0\x01\0\0");
    }

    #[test]
    fn frame_around_table() {
        let bytes = b"\x81\x02ab\x81\x00\x81\x01c";
        let want = [(0, 0), (0, 4), (0, 4), (0, 4), (4, 4), (4, 6), (6, 6), (6, 9), (6, 9), (9, 9)];
        for (at, want) in want.into_iter().enumerate() {
            assert_eq!(frame_around(bytes, at), want, "at {at}");
        }
    }
}
