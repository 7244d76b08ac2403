//! What a client of `http_stream` or `sse` says, in a request of its own: whose it is, and the commands.

use super::{
    DecodeError,
    schema::emulation_request::{n, number},
    source::{Fields, Source},
};
use crate::{model::Protocol, wire::json::Cursor};
use std::borrow::Cow;

type Result<T> = std::result::Result<T, DecodeError>;

/// The body of a request to `/emulation`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EmulationRequest<'a> {
    /// As the reply to connect said.
    pub session: Cow<'a, str>,
    pub node: Cow<'a, str>,
    /// Commands as they would stand in a frame; in JSON they are the content of a string.
    pub commands: Cow<'a, [u8]>,
}

/// Reads the body of a request to `/emulation`.
///
/// # Errors
/// The body is no such message, or what it carries in JSON is not a string.
pub fn decode_emulation(protocol: Protocol, body: &[u8]) -> Result<EmulationRequest<'_>> {
    match protocol {
        Protocol::Json => {
            let text = simdutf8::basic::from_utf8(body).map_err(|_| DecodeError::Json)?;
            let mut cursor = Cursor::new(text);
            let request = request(&mut cursor, |cursor| {
                Ok(match cursor.text()? {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            })?;
            Ok(cursor.finish().map(|()| request)?)
        }
        Protocol::Protobuf => {
            request(&mut Fields::message_value(body), |fields| Ok(Cow::Borrowed(fields.payload()?)))
        }
    }
}

fn request<'a, S: Source<'a>>(
    source: &mut S,
    commands: fn(&mut S) -> Result<Cow<'a, [u8]>>,
) -> Result<EmulationRequest<'a>> {
    let mut it = EmulationRequest::default();
    source.message(number, |source, number| {
        match number {
            n::NODE => it.node = source.text()?,
            n::SESSION => it.session = source.text()?,
            n::DATA => it.commands = commands(source)?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Option<(String, String, String)> {
        let it = decode_emulation(Protocol::Json, body.as_bytes()).ok()?;
        Some((it.session.into(), it.node.into(), String::from_utf8(it.commands.into()).unwrap()))
    }

    #[test]
    fn json_table() {
        #[track_caller]
        fn check(body: &str, want: Option<[&str; 3]>) {
            let want = want.map(|[session, node, data]| (session.into(), node.into(), data.into()));
            assert_eq!(json(body), want, "{body}");
        }
        let sent = r#"{"session":"s","node":"n","data":"{\"id\":2,\"rpc\":{}}\n{}"}"#;
        check(sent, Some(["s", "n", "{\"id\":2,\"rpc\":{}}\n{}"]));
        check(r#"{"data":"{}","other":[1],"session":null}"#, Some(["", "", "{}"]));
        check(r#"{"session":"s","data":{"id":2}}"#, None);
        check(r#"{"session":"s","data":"{}"} x"#, None);
        check(r#"{"session":1}"#, None);
        check("", None);
        check("[]", None);
        assert_eq!(decode_emulation(Protocol::Json, b"{\"data\":\"\xff\"}"), Err(DecodeError::Json));
    }

    #[test]
    fn protobuf() {
        let body = b"\x0a\x01n\x12\x01s\x1a\x03\x02\x08\x02\x20\x01";
        let it = decode_emulation(Protocol::Protobuf, body).unwrap();
        assert_eq!((&*it.node, &*it.session, &*it.commands), ("n", "s", &b"\x02\x08\x02"[..]));
        assert!(decode_emulation(Protocol::Protobuf, b"\x0a\x05n").is_err());
        assert!(decode_emulation(Protocol::Protobuf, b"\x12\x01\xff").is_err());
    }
}
