//! The client's half of WebSocket (RFC 6455), as little as a load client needs.
//!
//! Frames are read in place from the shared read buffer; what a read cut off stays with its connection
//! until the next one. Compressed messages are told as such; inflating is the engine's.

use std::{ops::Range, str};

/// Frames above this are refused: no server of the protocol writes such.
pub const FRAME_MAX: usize = 4 * 1024 * 1024;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The example key of RFC 6455 and its answer: the key only proves that the server speaks WebSocket.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub fin: bool,
    /// Begins a compressed message (RSV1).
    pub compressed: bool,
    /// Where its payload lies in the input.
    pub payload: Range<usize>,
}

/// The peer does not speak WebSocket as a server must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the server masked a frame, or set bits nobody negotiated")]
    Header,
    #[error("the server sent a frame of {0} bytes; more than {FRAME_MAX} are not accepted")]
    TooLong(u64),
    #[error("the server sent a compressed message that cannot be inflated")]
    Compressed,
    #[error("the server sent a body that is not in chunks")]
    Chunk,
}

/// Reads the frame that begins at `at`; `None` when `input` does not hold all of it.
///
/// # Errors
/// [`FrameError`] when the bytes can never become a frame.
#[inline]
pub fn next(input: &[u8], at: usize) -> Result<Option<Frame>, FrameError> {
    let Some([first, second, rest @ ..]) = input.get(at..) else { return Ok(None) };
    if first & 0x30 != 0 || second & 0x80 != 0 {
        return Err(FrameError::Header);
    }
    let (len, header) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10),
            None => return Ok(None),
        },
        short => (u64::from(*short), 2),
    };
    let payload_len =
        usize::try_from(len).ok().filter(|len| *len <= FRAME_MAX).ok_or(FrameError::TooLong(len))?;
    let start = at + header;
    let end = start + payload_len;
    if input.len() < end {
        return Ok(None);
    }
    let (fin, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
    Ok(Some(Frame { opcode: first & 0x0f, fin, compressed, payload: start..end }))
}

/// Appends one masked frame whose payload `fill` writes.
pub fn append(out: &mut Vec<u8>, opcode: u8, key: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // Room for the longest header a client of this kind needs; shorter ones move the payload once.
    const ROOM: usize = 14;
    out.resize(start + ROOM, 0);
    fill(out);
    let len = out.len() - start - ROOM;
    let mut header = [0u8; ROOM];
    header[0] = 0x80 | opcode;
    let used = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => {
            header[1] = 0x80 | len;
            2
        }
        (_, Ok(len)) => {
            header[1] = 0x80 | 126;
            header[2..4].copy_from_slice(&len.to_be_bytes());
            4
        }
        _ => {
            header[1] = 0x80 | 127;
            header[2..10].copy_from_slice(&u64::try_from(len).unwrap_or(u64::MAX).to_be_bytes());
            10
        }
    };
    let key = key.to_be_bytes();
    header[used..used + 4].copy_from_slice(&key);
    mask(&mut out[start + ROOM..], key);
    out.splice(start..start + ROOM, header[..used + 4].iter().copied());
}

fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// What the server said about the request to speak WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The head is not complete.
    Partial,
    /// Frames begin after so many bytes.
    Done { used: usize, compression: bool },
    /// The status line, or what else was wrong.
    Refused(String),
}

/// Reads the answer to the upgrade request.
#[must_use]
pub fn read_upgrade(input: &[u8]) -> Upgrade {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let used = match response.parse(input) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if input.len() < 16 * 1024 => return Upgrade::Partial,
        Ok(httparse::Status::Partial) => return Upgrade::Refused("an endless response head".into()),
        Err(error) => return Upgrade::Refused(format!("something that is not HTTP ({error})")),
    };
    if response.code != Some(101) {
        let code = response.code.unwrap_or_default();
        return Upgrade::Refused(format!("HTTP {code} {}", response.reason.unwrap_or_default()));
    }
    let accepted = response
        .headers
        .iter()
        .any(|it| it.name.eq_ignore_ascii_case("sec-websocket-accept") && it.value == ACCEPT.as_bytes());
    if !accepted {
        return Upgrade::Refused("101 without the right accept key".into());
    }
    let agreed = |it: &httparse::Header<'_>| {
        it.name.eq_ignore_ascii_case("sec-websocket-extensions")
            && str::from_utf8(it.value).is_ok_and(|it| it.contains("server_no_context_takeover"))
    };
    Upgrade::Done { used, compression: response.headers.iter().any(agreed) }
}

/// Code and reason of a close frame; 1005 stands for "none given".
#[must_use]
pub fn close_reason(payload: &[u8]) -> (u16, String) {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => {
            (u16::from_be_bytes(*code), str::from_utf8(reason).unwrap_or("not UTF-8").to_owned())
        }
        None => (1005, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_table() {
        #[track_caller]
        fn check(name: &str, input: &[u8], want: Result<Option<(u8, bool, Range<usize>)>, FrameError>) {
            let got = next(input, 0).map(|it| it.map(|it| (it.opcode, it.fin, it.payload)));
            assert_eq!(got, want, "{name}");
        }
        check("nothing", b"", Ok(None));
        check("half a header", b"\x81", Ok(None));
        check("empty text", b"\x81\0", Ok(Some((TEXT, true, 2..2))));
        check("first fragment", b"\x01\x01a", Ok(Some((TEXT, false, 2..3))));
        check("payload missing", b"\x82\x02a", Ok(None));
        check("two byte length", b"\x82\x7e\0\x03abc", Ok(Some((BINARY, true, 4..7))));
        check("two byte length, half", b"\x82\x7e\0", Ok(None));
        check("eight byte length", b"\x82\x7f\0\0\0\0\0\0\0\x01a", Ok(Some((BINARY, true, 10..11))));
        check("masked", b"\x82\x80", Err(FrameError::Header));
        check("compressed", b"\xc2\0", Ok(Some((BINARY, true, 2..2))));
        check("reserved bit", b"\xa2\0", Err(FrameError::Header));
        check("at the limit", b"\x82\x7f\0\0\0\0\0\x40\0\0", Ok(None));
        check("over the limit", b"\x82\x7f\0\0\0\0\0\x40\0\x01", Err(FrameError::TooLong(0x0040_0001)));
    }

    // What is written, unmasked by the book, is what was given, at every length around the header sizes.
    #[test]
    fn append_round_trips() {
        for len in [0usize, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536] {
            let body: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut out = b"before".to_vec();
            append(&mut out, BINARY, 0xdead_beef, |out| out.extend_from_slice(&body));
            let frame = &out[6..];
            assert_eq!(frame[0], 0x82);
            assert_eq!(frame[1] & 0x80, 0x80, "clients mask");
            let header = match frame[1] & 0x7f {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            let key: [u8; 4] = frame[header..header + 4].try_into().unwrap();
            let plain: Vec<u8> =
                frame[header + 4..].iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(plain, body, "length {len}");
        }
    }

    #[test]
    fn upgrade_table() {
        #[track_caller]
        fn check(input: &str, want: Upgrade) {
            assert_eq!(read_upgrade(input.as_bytes()), want, "{input}");
        }
        let good = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        check(&good[..good.len() - 1], Upgrade::Partial);
        check(&format!("{good}\x01"), Upgrade::Done { used: good.len(), compression: false });
        let agreed = good.replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n",
        );
        check(&agreed, Upgrade::Done { used: agreed.len(), compression: true });
        check("HTTP/1.1 404 Not Found\r\n\r\n", Upgrade::Refused("HTTP 404 Not Found".into()));
        check("HTTP/1.1 101 x\r\n\r\n", Upgrade::Refused("101 without the right accept key".into()));
        assert!(matches!(read_upgrade(b"SSH-2.0-x\r\n"), Upgrade::Refused(_)));
    }

    #[test]
    fn close_reasons() {
        assert_eq!(close_reason(b"\x0b\xc0slow"), (3008, "slow".into()));
        assert_eq!(close_reason(b""), (1005, String::new()));
    }
}
