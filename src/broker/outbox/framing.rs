//! How messages are wrapped for a connection's transport, and how to find the wrapping again in queued bytes.
//!
//! Headers are exact: there is never a hole in front of a frame, so neighbouring frames touch.

use super::deflaters::Deflation;
use crate::{
    model::Protocol,
    wire::{client, deflate::Window, sockjs},
};

/// What surrounds messages on a connection. Part of a group's class: members with equal framing share bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Framing {
    /// Nothing: HTTP answers, handshakes.
    Raw,
    WebSocketText,
    WebSocketBinary,
    /// Text, one message per frame.
    WebSocketMessage,
    /// With permessage-deflate: what gets shorter by it is compressed, as one message per frame.
    DeflateText(Window),
    DeflateBinary(Window),
    /// Text, likewise, for listeners.
    ListenerText(Window),
    /// The same with one message per frame.
    ListenerMessage(Window),
    /// JSON messages, a line each, in the body of an HTTP response.
    Lines(Body),
    /// Protobuf messages with their lengths in front, in the body of an HTTP response.
    Delimited(Body),
    /// JSON messages, a server-sent event each, in the body of an HTTP response.
    Events(Body),
    /// JSON messages as the strings of a SockJS array, in a text frame.
    SockJs,
    /// The same in a line of its own, which waits for a request that takes it.
    SockJsLine,
}

/// How an HTTP client knows the end of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// A frame is a chunk (RFC 9112 §7.1); the last one is empty.
    Chunked,
    /// The connection ends: for HTTP/1.0. Frames cannot be told apart.
    ToEnd,
}

/// Most bytes a header of a WebSocket frame takes.
const HEADER_MAX: usize = 10;

/// The empty chunk that ends a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Framing {
    /// Of a WebSocket; `deflate`: the window of what it is sent, where compression was agreed on.
    #[must_use]
    pub const fn websocket(protocol: Protocol, deflate: Option<Window>) -> Self {
        match (protocol, deflate) {
            (Protocol::Json, None) => Self::WebSocketText,
            (Protocol::Protobuf, None) => Self::WebSocketBinary,
            (Protocol::Json, Some(window)) => Self::DeflateText(window),
            (Protocol::Protobuf, Some(window)) => Self::DeflateBinary(window),
        }
    }

    /// Of a WebSocket whose client only listens; `joined`: several pushes may be in a frame.
    #[must_use]
    pub const fn listener(joined: bool, deflate: Option<Window>) -> Self {
        match (joined, deflate) {
            (true, None) => Self::WebSocketText,
            (false, None) => Self::WebSocketMessage,
            (true, Some(window)) => Self::ListenerText(window),
            (false, Some(window)) => Self::ListenerMessage(window),
        }
    }

    /// Of a WebSocket, and not of a response.
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        !matches!(self, Self::Raw | Self::Lines(_) | Self::Delimited(_) | Self::Events(_) | Self::SockJsLine)
    }

    /// How messages are compressed; `None`: they are not.
    #[must_use]
    #[inline]
    pub(super) const fn deflation(self) -> Option<Deflation> {
        match self {
            Self::DeflateText(window) | Self::DeflateBinary(window) => {
                Some(Deflation { window, listens: false })
            }
            Self::ListenerText(window) | Self::ListenerMessage(window) => {
                Some(Deflation { window, listens: true })
            }
            _ => None,
        }
    }

    /// Frames can be found in what was queued, so that the rest of one that was begun can be kept.
    #[must_use]
    pub const fn has_frames(self) -> bool {
        !matches!(
            self,
            Self::Raw
                | Self::Lines(Body::ToEnd)
                | Self::Delimited(Body::ToEnd)
                | Self::Events(Body::ToEnd)
                | Self::SockJsLine
        )
    }

    /// Adds one message to a frame whose payload begins at `frame_start` of `out`: what stands between two
    /// messages, then what `encode` appends.
    #[inline]
    pub fn add(
        self,
        protocol: Protocol,
        out: &mut Vec<u8>,
        frame_start: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        match self {
            Self::Events(_) => {
                if out.len() > frame_start {
                    out.extend_from_slice(b"\n\ndata: ");
                }
                let from = out.len();
                encode(out);
                keep_one_line(&mut out[from..]);
            }
            Self::SockJs | Self::SockJsLine => {
                if out.len() > frame_start {
                    out.extend_from_slice(b"\",\"");
                }
                let from = out.len();
                encode(out);
                sockjs::quote_from(out, from);
            }
            _ => {
                client::separate(protocol, out, frame_start);
                encode(out);
            }
        }
    }

    /// A frame with this many bytes takes no more messages, where the limit is `target`.
    #[must_use]
    #[inline]
    pub(in crate::broker) fn frame_max(self, target: usize) -> usize {
        if matches!(self, Self::WebSocketMessage | Self::ListenerMessage(_)) { 0 } else { target }
    }

    /// Bytes in front of a payload of this length.
    #[must_use]
    #[inline]
    pub(super) fn header_len(self, payload_len: usize) -> usize {
        match self {
            Self::Raw => 0,
            Self::WebSocketText
            | Self::WebSocketBinary
            | Self::WebSocketMessage
            | Self::DeflateText(_)
            | Self::DeflateBinary(_)
            | Self::ListenerText(_)
            | Self::ListenerMessage(_) => websocket_header_len(payload_len),
            Self::SockJs => websocket_header_len(self.wrapped_len(payload_len)) + self.prefix().len(),
            Self::SockJsLine => self.prefix().len(),
            Self::Lines(_) | Self::Delimited(_) | Self::Events(_) => {
                let prefix = self.prefix().len();
                prefix + self.chunk_len(payload_len).map_or(0, |len| hex_digits(len) + 2)
            }
        }
    }

    /// Bytes behind a payload.
    #[must_use]
    #[inline]
    pub(super) const fn trailer(self) -> &'static [u8] {
        match self {
            Self::Lines(Body::Chunked) => b"\n\r\n",
            Self::Lines(Body::ToEnd) => b"\n",
            Self::Delimited(Body::Chunked) => b"\r\n",
            Self::Events(Body::Chunked) => b"\n\n\r\n",
            Self::Events(Body::ToEnd) => b"\n\n",
            Self::SockJs => b"\"]",
            Self::SockJsLine => b"\"]\n",
            _ => b"",
        }
    }

    /// What stands in front of the first message, inside the chunk or the frame.
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Events(_) => b"data: ",
            Self::SockJs | Self::SockJsLine => b"a[\"",
            _ => b"",
        }
    }

    /// A payload with what stands around it inside the frame.
    const fn wrapped_len(self, payload_len: usize) -> usize {
        self.prefix().len() + payload_len + self.trailer().len()
    }

    /// How long the chunk around a payload is; `None`: there is none.
    fn chunk_len(self, payload_len: usize) -> Option<usize> {
        match self {
            Self::Lines(Body::Chunked) | Self::Delimited(Body::Chunked) | Self::Events(Body::Chunked) => {
                Some(self.prefix().len() + payload_len + self.trailer().len() - 2)
            }
            _ => None,
        }
    }

    /// Writes the header into `out`, which has [`Framing::header_len`] bytes: of a final, unmasked frame (RFC 6455
    /// §5.2), or of a chunk. `deflated`: RSV1 says so (RFC 7692 §6).
    pub(super) fn write_header(self, payload_len: usize, deflated: bool, out: &mut [u8]) {
        let opcode = match self {
            Self::Raw => return,
            Self::WebSocketText
            | Self::WebSocketMessage
            | Self::DeflateText(_)
            | Self::ListenerText(_)
            | Self::ListenerMessage(_) => 1,
            Self::WebSocketBinary | Self::DeflateBinary(_) => 2,
            Self::SockJsLine => return out.copy_from_slice(self.prefix()),
            Self::SockJs => {
                let (header, prefix) = out.split_at_mut(out.len() - self.prefix().len());
                prefix.copy_from_slice(self.prefix());
                return Self::WebSocketText.write_header(self.wrapped_len(payload_len), false, header);
            }
            Self::Lines(_) | Self::Delimited(_) | Self::Events(_) => {
                return self.write_chunk_header(payload_len, out);
            }
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

    fn write_chunk_header(self, payload_len: usize, out: &mut [u8]) {
        let prefix = self.prefix();
        let (size, at) = out.split_at_mut(out.len() - prefix.len());
        at.copy_from_slice(prefix);
        let Some(mut len) = self.chunk_len(payload_len) else { return };
        let (digits, line_end) = size.split_at_mut(size.len() - 2);
        line_end.copy_from_slice(b"\r\n");
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdef"[len & 15];
            len >>= 4;
        }
    }

    /// One payload as a whole frame.
    #[must_use]
    pub fn frame(self, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; self.header_len(payload.len())];
        self.write_header(payload.len(), false, &mut frame);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(self.trailer());
        frame
    }

    /// Bytes as they are, in the body of this framing's response.
    #[must_use]
    pub fn wrap(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Lines(Body::Chunked) | Self::Delimited(Body::Chunked) | Self::Events(Body::Chunked) => {
                Self::Delimited(Body::Chunked).frame(bytes)
            }
            _ => bytes.to_vec(),
        }
    }

    /// What keeps the connection of a client alive that does not know the protocol's own pings; nothing: it needs
    /// nothing.
    #[must_use]
    pub const fn heartbeat(self) -> &'static [u8] {
        match self {
            Self::SockJs => b"\x81\x01h",
            Self::SockJsLine => b"h\n",
            _ => b"",
        }
    }

    /// What ends the body of this framing's response.
    #[must_use]
    pub const fn body_end(self) -> &'static [u8] {
        match self {
            Self::Lines(Body::Chunked) | Self::Delimited(Body::Chunked) | Self::Events(Body::Chunked) => {
                LAST_CHUNK
            }
            _ => b"",
        }
    }
}

/// A carriage return ends a line of an event stream. In JSON it only stands between tokens, as good as a space.
fn keep_one_line(message: &mut [u8]) {
    let mut rest = message;
    while let Some(at) = memchr::memchr(b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

fn websocket_header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

fn hex_digits(number: usize) -> usize {
    ((usize::BITS - number.leading_zeros()).div_ceil(4) as usize).max(1)
}

/// Start and end of the frame that contains byte `at`; both are `at` when a frame begins there.
/// `bytes` begins with a frame and was written by this server, all with one framing.
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

/// The first byte of a WebSocket frame has its high bit, that of a chunk is a digit.
fn frame_len(bytes: &[u8]) -> usize {
    if bytes.first().is_some_and(|byte| byte & 0x80 == 0) {
        return chunk_len(bytes);
    }
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

fn chunk_len(bytes: &[u8]) -> usize {
    let mut size = 0usize;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).and_then(|&byte| char::from(byte).to_digit(16)) {
        size = (size << 4) | digit as usize;
        digits += 1;
    }
    digits + 2 + size + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: [Framing; 3] =
        [Framing::Lines(Body::Chunked), Framing::Delimited(Body::Chunked), Framing::Events(Body::Chunked)];

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
        check(Framing::WebSocketMessage, 1, b"\x81\x01");
        check(Framing::WebSocketText, 125, b"\x81\x7d");
        check(Framing::WebSocketBinary, 126, b"\x82\x7e\0\x7e");
        check(Framing::WebSocketBinary, 65535, b"\x82\x7e\xff\xff");
        check(Framing::DeflateText(Window::Bits15), 5, b"\x81\x05");
        check(Framing::ListenerText(Window::Bits15), 5, b"\x81\x05");
        check(Framing::ListenerMessage(Window::Bits9), 300, b"\x81\x7e\x01\x2c");
        check(Framing::DeflateBinary(Window::Bits9), 300, b"\x82\x7e\x01\x2c");
        check(Framing::WebSocketText, 65536, b"\x81\x7f\0\0\0\0\0\x01\0\0");
    }

    #[test]
    fn frames_of_responses() {
        #[track_caller]
        fn check(framing: Framing, payload: &[u8], want: &[u8]) {
            let got = framing.frame(payload);
            assert_eq!(got, want, "{framing:?}: {}", String::from_utf8_lossy(&got));
        }
        check(Framing::Lines(Body::Chunked), b"{}", b"3\r\n{}\n\r\n");
        check(Framing::Lines(Body::ToEnd), b"{}", b"{}\n");
        check(Framing::Delimited(Body::Chunked), b"\0", b"1\r\n\0\r\n");
        check(Framing::Delimited(Body::ToEnd), b"\0", b"\0");
        check(Framing::Events(Body::Chunked), b"{}", b"a\r\ndata: {}\n\n\r\n");
        check(Framing::Events(Body::ToEnd), b"{}", b"data: {}\n\n");
        check(Framing::Raw, b"{}", b"{}");
        check(Framing::SockJs, b"{}", b"\x81\x07a[\"{}\"]");
        check(Framing::SockJsLine, b"{}", b"a[\"{}\"]\n");
        check(Framing::SockJs, &[b'x'; 121], &[&b"\x81\x7e\0\x7ea[\""[..], &[b'x'; 121], b"\"]"].concat());
        assert_eq!(Framing::Events(Body::Chunked).wrap(b"\r\n"), b"2\r\n\r\n\r\n");
        assert_eq!(Framing::Events(Body::ToEnd).wrap(b"\r\n"), b"\r\n");
        assert_eq!(Framing::Lines(Body::Chunked).body_end(), b"0\r\n\r\n");
        assert_eq!(Framing::Lines(Body::ToEnd).body_end(), b"");
    }

    // Whatever the length, a chunk says how long it is.
    #[test]
    fn chunks_are_as_long_as_they_say() {
        for framing in CHUNKED {
            for len in
                [1, 2, 7, 8, 9, 13, 14, 15, 16, 200, 247, 248, 254, 255, 256, 4088, 4096, 65_535, 65_536]
            {
                let frame = framing.frame(&vec![b'x'; len]);
                assert_eq!(frame_len(&frame), frame.len(), "{framing:?} {len}");
                let size = frame.iter().position(|&byte| byte == b'\r').unwrap();
                let said = usize::from_str_radix(std::str::from_utf8(&frame[..size]).unwrap(), 16).unwrap();
                assert_eq!(said, frame.len() - size - 4, "{framing:?} {len}");
            }
            assert_eq!(frame_len(framing.body_end()), framing.body_end().len());
        }
    }

    #[test]
    fn messages_of_a_frame() {
        #[track_caller]
        fn check(framing: Framing, protocol: Protocol, want: &str) {
            let mut out = b"before".to_vec();
            for message in ["{\"a\":\r1}", "{}"] {
                framing.add(protocol, &mut out, 6, |out| out.extend_from_slice(message.as_bytes()));
            }
            assert_eq!(String::from_utf8(out).unwrap(), want, "{framing:?}");
        }
        check(Framing::WebSocketText, Protocol::Json, "before{\"a\":\r1}\n{}");
        check(Framing::Lines(Body::Chunked), Protocol::Json, "before{\"a\":\r1}\n{}");
        check(Framing::Delimited(Body::Chunked), Protocol::Protobuf, "before{\"a\":\r1}{}");
        check(Framing::Events(Body::ToEnd), Protocol::Json, "before{\"a\": 1}\n\ndata: {}");
        check(Framing::SockJs, Protocol::Json, r#"before{\"a\":\r1}","{}"#);
    }

    #[test]
    fn frame_around_table() {
        let bytes = b"\x81\x02ab\x81\x00\x81\x01c";
        let want = [(0, 0), (0, 4), (0, 4), (0, 4), (4, 4), (4, 6), (6, 6), (6, 9), (6, 9), (9, 9)];
        for (at, want) in want.into_iter().enumerate() {
            assert_eq!(frame_around(bytes, at), want, "at {at}");
        }
        let bytes = b"1\r\nx\r\n0\r\n\r\n";
        for (at, want) in [(0, (0, 0)), (1, (0, 6)), (5, (0, 6)), (6, (6, 6)), (7, (6, 11)), (11, (11, 11))] {
            assert_eq!(frame_around(bytes, at), want, "at {at}");
        }
    }
}
