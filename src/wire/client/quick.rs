//! Publish commands in the words of today's SDKs, read in one go; and their replies, written in one.
//!
//! HOT: nearly all that clients say. The general reader (`request`) does three to five times the work per command,
//! because any field may come in any order. What is not exactly of the expected form is left to it, errors
//! included; a test compares the two on whatever the fuzzer thinks of.

use super::{
    Command, PublishRequest, Request,
    schema::{command, reply},
};
use crate::{
    model::Protocol,
    stdx::varint,
    wire::json::{Cursor, plain_len, write_number},
};
use std::borrow::Cow;

/// `{"id":1,"publish":{"channel":"c","data":…}}`, or with the id behind as centrifuge-js writes it.
#[inline]
pub(super) fn publish_json(line: &str) -> Option<Command<'_>> {
    if let Some(rest) = line.strip_prefix("{\"id\":") {
        let (id, rest) = digits(rest)?;
        let rest = rest.strip_prefix(",\"publish\":{\"channel\":\"")?;
        let (request, rest) = publish_body(rest)?;
        (rest == "}").then_some(Command { id, request })
    } else {
        let rest = line.strip_prefix("{\"publish\":{\"channel\":\"")?;
        let (request, rest) = publish_body(rest)?;
        let (id, rest) = digits(rest.strip_prefix(",\"id\":")?)?;
        (rest == "}").then_some(Command { id, request })
    }
}

/// Behind the opening quote of the channel, up to the end of the request.
#[inline]
fn publish_body(text: &str) -> Option<(Request<'_>, &str)> {
    let (channel, rest) = text.split_at_checked(plain_len(text.as_bytes()))?;
    let rest = rest.strip_prefix("\",\"data\":")?;
    let mut cursor = Cursor::new(rest);
    let data = cursor.raw_value().ok()?;
    let rest = cursor.remaining().strip_prefix('}')?;
    let request =
        PublishRequest { channel: Cow::Borrowed(channel), data: Some(data), ..PublishRequest::default() };
    Some((Request::Publish(request), rest))
}

/// An id of up to nine digits, and what follows.
#[inline]
fn digits(text: &str) -> Option<(u32, &str)> {
    let mut value = 0;
    let mut len = 0;
    for &byte in text.as_bytes() {
        if !byte.is_ascii_digit() {
            break;
        }
        // The tenth digit is where 32 bits may end.
        if len == 9 {
            return None;
        }
        value = value * 10 + u32::from(byte - b'0');
        len += 1;
    }
    let leading_zero = len > 1 && text.as_bytes().first() == Some(&b'0');
    if len == 0 || leading_zero { None } else { Some((value, text.get(len..)?)) }
}

const ID: u8 = (command::n::ID << 3) as u8;
const PUBLISH: u8 = (command::n::PUBLISH << 3 | 2) as u8;
const REPLY_ID: u8 = (reply::n::ID << 3) as u8;
/// An empty publish result.
const REPLY_BEHIND: [u8; 2] = [(reply::n::PUBLISH << 3 | 2) as u8, 0];
const JSON_BEFORE: &[u8] = b"{\"id\":";
const JSON_BEHIND: &[u8] = b",\"publish\":{}}";
const CHANNEL: u8 = 1 << 3 | 2;
const DATA: u8 = 2 << 3 | 2;

/// id, publish, and in it channel and data: the order of field numbers, in which every encoder writes.
#[inline]
pub(super) fn publish_protobuf(message: &[u8]) -> Option<Command<'_>> {
    let varint::Read::Value(id, len) = varint::read(message.strip_prefix(&[ID])?) else { return None };
    let id = u32::try_from(id).ok()?;
    let (body, rest) = delimited(message.get(1 + len..)?.strip_prefix(&[PUBLISH])?)?;
    let (channel, body) = delimited(body.strip_prefix(&[CHANNEL])?)?;
    let (data, body) = delimited(body.strip_prefix(&[DATA])?)?;
    if !rest.is_empty() || !body.is_empty() {
        return None;
    }
    let channel = Cow::Borrowed(std::str::from_utf8(channel).ok()?);
    let request = PublishRequest { channel, data: Some(data), ..PublishRequest::default() };
    Some(Command { id, request: Request::Publish(request) })
}

/// The reply to a publication; `id` is not 0.
#[inline]
pub(super) fn published(protocol: Protocol, id: u32, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Json => {
            out.reserve(JSON_BEFORE.len() + 10 + JSON_BEHIND.len());
            out.extend_from_slice(JSON_BEFORE);
            write_number(out, id.into());
            out.extend_from_slice(JSON_BEHIND);
        }
        Protocol::Protobuf => {
            out.reserve(1 + 1 + 5 + REPLY_BEHIND.len());
            let len = 1 + varint::len(id.into()) + REPLY_BEHIND.len();
            out.extend_from_slice(&[len as u8, REPLY_ID]);
            varint::write(out, id.into());
            out.extend_from_slice(&REPLY_BEHIND);
        }
    }
}

#[inline]
fn delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let varint::Read::Value(len, at) = varint::read(bytes) else { return None };
    bytes.get(at..)?.split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            request::{Messages, command},
            source::Fields,
        },
        *,
    };
    use crate::wire::client::{Reply, append, reply::ReplyMessage};

    #[test]
    fn replies_are_those_of_the_general_writer() {
        for id in [1, 9, 10, 127, 128, 16_383, 16_384, 999_999_999, u32::MAX] {
            for protocol in [Protocol::Json, Protocol::Protobuf] {
                let (mut quick, mut general) = (b"before".to_vec(), b"before".to_vec());
                published(protocol, id, &mut quick);
                append(protocol, &ReplyMessage { id, reply: &Reply::Publish }, &mut general);
                assert_eq!(quick, general, "{protocol:?} {id}");
            }
        }
    }

    fn general_json(line: &str) -> Option<Command<'_>> {
        let mut cursor = Cursor::new(line);
        command(&mut cursor).ok().filter(|_| cursor.finish().is_ok())
    }

    #[track_caller]
    fn check(line: &str, quick: bool) {
        let read = publish_json(line);
        assert_eq!(read.is_some(), quick, "{line}");
        if quick {
            assert_eq!(read, general_json(line), "{line}");
        }
    }

    #[test]
    fn reads_what_sdks_write() {
        check(r#"{"id":1,"publish":{"channel":"c","data":{"a":[1,"}"]}}}"#, true);
        check(r#"{"publish":{"channel":"c","data":"x"},"id":4294967}"#, true);
        check(r#"{"id":0,"publish":{"channel":"","data":null}}"#, true);
        check(r#"{"id":999999999,"publish":{"channel":"ü","data": 1 }}"#, false);
        check(r#"{"id":999999999,"publish":{"channel":"ü","data": 1}}"#, true);
    }

    #[test]
    fn leaves_the_rest_to_the_general_reader() {
        for line in [
            r#"{"id":4294967295,"publish":{"channel":"c","data":1}}"#,
            r#"{"id":01,"publish":{"channel":"c","data":1}}"#,
            r#"{"id":,"publish":{"channel":"c","data":1}}"#,
            r#"{"id":-1,"publish":{"channel":"c","data":1}}"#,
            r#"{"id":1,"publish":{"channel":"a\"b","data":1}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":1},"send":{}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":1,"type":1}}"#,
            r#"{"id":1,"publish":{"data":1,"channel":"c"}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":}}"#,
            r#"{"id":1,"publish":{"channel":"c","data":1}} "#,
            r#"{"id":1,"publish":{"channel":"c"#,
            r#"{"id":1,"subscribe":{"channel":"c"}}"#,
            "",
        ] {
            check(line, false);
        }
    }

    // Publish commands with a few bytes changed: whatever is read quickly is what the general reader reads.
    #[test]
    fn agrees_with_the_general_reader() {
        arbtest::arbtest(|u| {
            let bodies = [
                r#"{"id":12,"publish":{"channel":"news:a","data":{"a":"\u00e4","b":[1,2.5e3,null]}}}"#,
                r#"{"publish":{"channel":"ü","data":"text"},"id":7}"#,
            ];
            let mut bytes = u.choose(&bodies)?.as_bytes().to_vec();
            for _ in 0..u.int_in_range(0..=3u8)? {
                let at = u.choose_index(bytes.len())?;
                match u.int_in_range(0..=2u8)? {
                    0 => bytes[at] = *u.choose(br#"{}[],:"0123456789 \neE.-x"#)?,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, u.arbitrary()?),
                }
            }
            if let Ok(line) = std::str::from_utf8(&bytes)
                && let Some(quick) = publish_json(line)
            {
                assert_eq!(Some(quick), general_json(line), "{line}");
            }
            Ok(())
        });
    }

    #[test]
    fn agrees_with_the_general_reader_in_protobuf() {
        arbtest::arbtest(|u| {
            let length = u.int_in_range(0..=3usize)? * 70;
            let data = u.bytes(length)?;
            let request =
                PublishRequest { channel: "news:ä".into(), data: Some(data), ..PublishRequest::default() };
            let command_in = Command { id: u.arbitrary()?, request: Request::Publish(request) };
            let mut bytes = Vec::new();
            super::super::encode_command(Protocol::Protobuf, &command_in, &mut bytes);
            let Messages::Protobuf(frame) = Messages::protobuf(&bytes) else { panic!("not empty") };
            let (message, _) = delimited(frame).expect("one message");
            // Zero ids and empty fields are not written: left to the general reader.
            assert_eq!(publish_protobuf(message).is_some(), command_in.id > 0 && !data.is_empty());
            let mut message = message.to_vec();
            for _ in 0..u.int_in_range(0..=2u8)? {
                let at = u.choose_index(message.len())?;
                message[at] = u.arbitrary()?;
            }
            if let Some(quick) = publish_protobuf(&message) {
                assert_eq!(Ok(quick), command(&mut Fields::message_value(&message)));
            }
            Ok(())
        });
    }
}
