//! The client's half of `http_stream` and `sse`: the request, the head of the answer, chunks, and the messages in them.
//!
//! A server may cut the body into chunks wherever it likes; messages are handed on whole.

use crate::{
    cli::bench::{frames::FRAME_MAX, frames::FrameError, transport::Transport},
    model::Protocol,
    stdx::varint,
};
use memchr::{memchr, memmem, memrchr};
use std::{fmt::Write as _, ops::Range};

/// Longest line with the size of a chunk: 16 digits and extensions nobody uses.
const SIZE_LINE_MAX: usize = 256;

/// The request that begins a session with `commands`.
#[must_use]
pub fn request(transport: Transport, protocol: Protocol, path: &str, host: &str, commands: &[u8]) -> Vec<u8> {
    if transport == Transport::Sse {
        let query = escaped(commands);
        return format!("GET {path}?cf_connect={query} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    }
    let content_type = match protocol {
        Protocol::Json => "application/json",
        Protocol::Protobuf => "application/octet-stream",
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        commands.len()
    );
    [head.as_bytes(), commands].concat()
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                // A string takes everything.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// What the server said about the request.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    Partial,
    /// Chunks begin after so many bytes.
    Begins(usize),
    /// The status line, or what else was wrong.
    Refused(String),
}

#[must_use]
pub fn read_head(input: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let used = match response.parse(input) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if input.len() < 16 * 1024 => return Head::Partial,
        Ok(httparse::Status::Partial) => return Head::Refused("an endless response head".into()),
        Err(error) => return Head::Refused(format!("something that is not HTTP ({error})")),
    };
    if response.code != Some(200) {
        let code = response.code.unwrap_or_default();
        return Head::Refused(format!("HTTP {code} {}", response.reason.unwrap_or_default()));
    }
    let chunked = response.headers.iter().any(|it| {
        it.name.eq_ignore_ascii_case("transfer-encoding") && it.value.eq_ignore_ascii_case(b"chunked")
    });
    if chunked { Head::Begins(used) } else { Head::Refused("200 without chunks".into()) }
}

/// One chunk: where its bytes lie in the input, and where it ends. The last one is empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    pub data: Range<usize>,
    pub end: usize,
}

/// Reads the chunk that begins at `at`; `None` when `input` does not hold all of it.
///
/// # Errors
/// [`FrameError`] when the bytes can never become a chunk.
#[inline]
pub fn next(input: &[u8], at: usize) -> Result<Option<Chunk>, FrameError> {
    let rest = input.get(at..).unwrap_or_default();
    let Some(line_end) = memchr(b'\n', rest) else {
        return if rest.len() > SIZE_LINE_MAX { Err(FrameError::Chunk) } else { Ok(None) };
    };
    let line = rest[..line_end].strip_suffix(b"\r").ok_or(FrameError::Chunk)?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let len = str::from_utf8(digits).ok().and_then(|it| u64::from_str_radix(it.trim_end(), 16).ok());
    let len = len.ok_or(FrameError::Chunk)?;
    let size = usize::try_from(len).ok().filter(|it| *it <= FRAME_MAX).ok_or(FrameError::TooLong(len))?;
    let start = at + line_end + 1;
    let data = start..start + size;
    match input.get(data.end..data.end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some(Chunk { end: data.end + 2, data })),
        Some(_) => Err(FrameError::Chunk),
    }
}

/// How many bytes of a body are whole messages.
#[must_use]
#[inline]
pub fn whole(transport: Transport, protocol: Protocol, bytes: &[u8]) -> usize {
    match (transport, protocol) {
        (Transport::Sse, _) if bytes.ends_with(b"\n\n") => bytes.len(),
        (Transport::Sse, _) => memmem::rfind(bytes, b"\n\n").map_or(0, |at| at + 2),
        (_, Protocol::Json) => memrchr(b'\n', bytes).map_or(0, |at| at + 1),
        (_, Protocol::Protobuf) => {
            let mut at = 0;
            while let Some(rest) = bytes.get(at..)
                && let varint::Read::Value(len, used) = varint::read(rest)
                && let Some(end) = usize::try_from(len).ok().and_then(|len| at.checked_add(used + len))
                && end <= bytes.len()
                && end > at
            {
                at = end;
            }
            at
        }
    }
}

/// The data of whole events, with a line feed between them, as a frame of another transport has its messages.
pub fn read_events(events: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = events;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        if let Some(data) = rest[..end].strip_prefix(b"data:") {
            if !out.is_empty() {
                out.push(b'\n');
            }
            out.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        #[track_caller]
        fn check(transport: Transport, protocol: Protocol, want: &str) {
            let got = request(transport, protocol, "/x", "h:1", b"{\"a\":1}\n{}");
            assert_eq!(String::from_utf8(got).unwrap(), want);
        }
        let posted = |content_type: &str| {
            format!(
                "POST /x HTTP/1.1\r\nHost: h:1\r\nContent-Type: {content_type}\r\nContent-Length: 10\r\n\r\n\
                 {{\"a\":1}}\n{{}}"
            )
        };
        check(Transport::HttpStream, Protocol::Json, &posted("application/json"));
        check(Transport::HttpStream, Protocol::Protobuf, &posted("application/octet-stream"));
        let query = "%7B%22a%22%3A1%7D%0A%7B%7D";
        check(
            Transport::Sse,
            Protocol::Json,
            &format!("GET /x?cf_connect={query} HTTP/1.1\r\nHost: h:1\r\n\r\n"),
        );
    }

    #[test]
    fn head_table() {
        let good = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (input, want) in [
            (&good[..good.len() - 1], Head::Partial),
            (&format!("{good}5\r\n"), Head::Begins(good.len())),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Head::Refused("HTTP 404 Not Found".into())),
            ("HTTP/1.1 200 OK\r\n\r\n", Head::Refused("200 without chunks".into())),
        ] {
            assert_eq!(read_head(input.as_bytes()), want, "{input}");
        }
        assert!(matches!(read_head(b"SSH-2.0-x\r\n"), Head::Refused(_)));
    }

    #[test]
    fn chunk_table() {
        #[track_caller]
        fn check(input: &[u8], want: Result<Option<(Range<usize>, usize)>, FrameError>) {
            assert_eq!(next(input, 0).map(|it| it.map(|it| (it.data, it.end))), want, "{input:?}");
        }
        check(b"", Ok(None));
        check(b"a", Ok(None));
        check(b"3\r\nab", Ok(None));
        check(b"3\r\nabc\r", Ok(None));
        check(b"3\r\nabc\r\n7\r", Ok(Some((3..6, 8))));
        check(b"003;x=y\r\nabc\r\n", Ok(Some((9..12, 14))));
        check(b"0\r\n\r\n", Ok(Some((3..3, 5))));
        check(b"3\r\nabcd\r\n", Err(FrameError::Chunk));
        check(b"3\nabc\r\n", Err(FrameError::Chunk));
        check(b"x\r\n", Err(FrameError::Chunk));
        check(&[b'1'; 300], Err(FrameError::Chunk));
        check(b"400001\r\n", Err(FrameError::TooLong(0x0040_0001)));
    }

    #[test]
    fn whole_table() {
        #[track_caller]
        fn check(transport: Transport, protocol: Protocol, bytes: &[u8], want: usize) {
            assert_eq!(whole(transport, protocol, bytes), want, "{transport:?} {bytes:?}");
        }
        use Protocol::{Json, Protobuf};
        use Transport::{HttpStream, Sse};
        check(HttpStream, Json, b"", 0);
        check(HttpStream, Json, b"{}\n{}\n", 6);
        check(HttpStream, Json, b"{}\n{", 3);
        check(HttpStream, Protobuf, b"\x02ab\x00", 4);
        check(HttpStream, Protobuf, b"\x02ab\x03c", 3);
        check(HttpStream, Protobuf, b"\x02ab\x80", 3);
        check(Sse, Json, b"\r\n", 0);
        check(Sse, Json, b"\r\ndata: {}\n\n", 12);
        check(Sse, Json, b"data: {}\n\ndata: {", 10);
    }

    #[test]
    fn events_become_lines() {
        let mut out = b"before".to_vec();
        read_events(b"\r\n: comment\n\ndata: {\"a\":1}\n\nevent: x\ndata:{}\n\n", &mut out);
        assert_eq!(out, b"{\"a\":1}\n{}");
    }
}
