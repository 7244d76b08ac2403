//! SockJS 0.3.3 (<https://sockjs.github.io/sockjs-protocol/sockjs-protocol-0.3.3.html>): what its URLs ask for, and its
//! frames: `o` opens, `h` is a heartbeat, `a[…]` carries messages as JSON strings, `c[code,reason]` closes.

use super::json::{Cursor, Invalid, write_inside, write_number, write_string};
use std::borrow::Cow;

/// The frame that opens a session.
pub const OPEN: &[u8] = b"o";

/// What is said to somebody who asks whether this is it.
pub const GREETING: &str = "Welcome to SockJS!\n";

/// What a path below the prefix asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    Greeting,
    /// What this server can do.
    Info,
    /// A WebSocket without SockJS inside.
    RawWebSocket,
    WebSocket,
    /// What the session with this id is told, in one response or in one without an end.
    Xhr(&'a str),
    XhrStreaming(&'a str),
    EventSource(&'a str),
    /// What its client says.
    XhrSend(&'a str),
}

/// Reads the path behind the prefix; `None`: nothing is there. Iframe transports are not.
#[must_use]
pub fn call(path: &str) -> Option<Call<'_>> {
    match path {
        "" | "/" => return Some(Call::Greeting),
        "/info" => return Some(Call::Info),
        "/websocket" => return Some(Call::RawWebSocket),
        _ => {}
    }
    let mut parts = path.strip_prefix('/')?.split('/');
    let (server, session, transport) = (parts.next()?, parts.next()?, parts.next()?);
    let named = |part: &str| !part.is_empty() && !part.contains('.');
    if !named(server) || !named(session) || parts.next().is_some() {
        return None;
    }
    match transport {
        "websocket" => Some(Call::WebSocket),
        "xhr" => Some(Call::Xhr(session)),
        "xhr_streaming" => Some(Call::XhrStreaming(session)),
        "eventsource" => Some(Call::EventSource(session)),
        "xhr_send" => Some(Call::XhrSend(session)),
        _ => None,
    }
}

/// What a client sent at once: a JSON array of strings, or one string.
///
/// # Errors
/// It is neither.
pub fn decode_messages(body: &[u8]) -> Result<Vec<Cow<'_, str>>, Invalid> {
    let text = simdutf8::basic::from_utf8(body).map_err(|_| Invalid)?;
    let mut cursor = Cursor::new(text);
    let mut messages = Vec::new();
    if cursor.take(b'[') {
        if !cursor.take(b']') {
            loop {
                messages.push(cursor.string()?);
                if !cursor.take(b',') {
                    break cursor.expect(b']')?;
                }
            }
        }
    } else {
        messages.push(cursor.string()?);
    }
    cursor.finish().map(|()| messages)
}

/// Makes of the text from `from` on what stands inside a JSON string.
pub fn quote_from(out: &mut Vec<u8>, from: usize) {
    let message = out.split_off(from);
    write_inside(out, &String::from_utf8_lossy(&message));
}

/// Appends the frame that says why a session ends.
pub fn write_close(out: &mut Vec<u8>, code: u32, reason: &str) {
    out.extend_from_slice(b"c[");
    write_number(out, code.into());
    out.push(b',');
    write_string(out, reason);
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            ("", Some(Call::Greeting)),
            ("/", Some(Call::Greeting)),
            ("//", None),
            ("/info", Some(Call::Info)),
            ("/info/", None),
            ("/websocket", Some(Call::RawWebSocket)),
            ("/000/abc/websocket", Some(Call::WebSocket)),
            ("/000/abc/xhr", Some(Call::Xhr("abc"))),
            ("/000/abc/xhr_streaming", Some(Call::XhrStreaming("abc"))),
            ("/000/abc/eventsource", Some(Call::EventSource("abc"))),
            ("/000/abc/xhr_send", Some(Call::XhrSend("abc"))),
            ("/000/abc/websocket/", None),
            ("/000//websocket", None),
            ("//abc/websocket", None),
            ("/a.b/abc/websocket", None),
            ("/000/a.b/websocket", None),
            ("/000/abc/htmlfile", None),
            ("/000/abc/jsonp", None),
            ("/iframe.html", None),
            ("info", None),
        ] {
            assert_eq!(call(path), want, "{path}");
        }
    }

    #[test]
    fn messages() {
        let read = |body: &[u8]| {
            decode_messages(body).map(|it| it.into_iter().map(Cow::into_owned).collect::<Vec<_>>())
        };
        let texts = |texts: &[&str]| Ok(texts.iter().map(ToString::to_string).collect());
        assert_eq!(read(b"[]"), texts(&[]));
        assert_eq!(read(br#" ["a","{\"id\":1}\n\u00fc"] "#), texts(&["a", "{\"id\":1}\nü"]));
        assert_eq!(read(br#""one""#), texts(&["one"]));
        for bad in [&b""[..], b"[", b"[\"a\"", b"[\"a\",]", b"[1]", b"{}", b"[\"a\"] x", b"\"\xff\"", b"null"]
        {
            assert_eq!(read(bad), Err(Invalid), "{bad:?}");
        }
    }

    // What is quoted can be read again.
    #[test]
    fn quoted_and_read() {
        arbtest::arbtest(|u| {
            let messages: Vec<String> = u.arbitrary()?;
            let mut frame = b"[".to_vec();
            for (index, message) in messages.iter().enumerate() {
                frame.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
                let from = frame.len();
                frame.extend_from_slice(message.as_bytes());
                quote_from(&mut frame, from);
                frame.push(b'"');
            }
            frame.push(b']');
            assert_eq!(decode_messages(&frame).unwrap(), messages);
            Ok(())
        });
    }

    #[test]
    fn closing() {
        let mut out = Vec::new();
        write_close(&mut out, 3000, "Go \"away\"!");
        assert_eq!(out, br#"c[3000,"Go \"away\"!"]"#);
    }
}
