//! The Protobuf form of the client's half of the protocol. Field numbers are those of `client.proto`.

use super::message::{Body, Connected, Event, Message, Received, Subscribed, Who};
use crate::wire::client::{Command, Request};

pub fn encode(command: &Command<'_>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    number(1, command.id.into(), &mut body);
    let mut inner = Vec::new();
    let field = match &command.request {
        Request::Connect(it) => {
            bytes(1, it.token.as_bytes(), &mut inner);
            bytes(4, it.name.as_bytes(), &mut inner);
            bytes(5, it.version.as_bytes(), &mut inner);
            4
        }
        Request::Subscribe(it) => {
            bytes(1, it.channel.as_bytes(), &mut inner);
            bytes(2, it.token.as_bytes(), &mut inner);
            number(3, it.recover.into(), &mut inner);
            bytes(6, it.epoch.as_bytes(), &mut inner);
            number(7, it.offset, &mut inner);
            number(9, it.positioned.into(), &mut inner);
            number(10, it.recoverable.into(), &mut inner);
            number(11, it.join_leave.into(), &mut inner);
            5
        }
        Request::Unsubscribe { channel } => {
            bytes(1, channel.as_bytes(), &mut inner);
            6
        }
        Request::Publish(it) => {
            bytes(1, it.channel.as_bytes(), &mut inner);
            bytes(2, it.data.unwrap_or_default(), &mut inner);
            7
        }
        _ => {
            varint(len(&body), out);
            out.extend_from_slice(&body);
            return;
        }
    };
    varint(field << 3 | 2, &mut body);
    varint(len(&inner), &mut body);
    body.extend_from_slice(&inner);
    varint(len(&body), out);
    out.extend_from_slice(&body);
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn number(field: u64, value: u64, out: &mut Vec<u8>) {
    if value > 0 {
        varint(field << 3, out);
        varint(value, out);
    }
}

fn bytes(field: u64, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        varint(field << 3 | 2, out);
        varint(len(value), out);
        out.extend_from_slice(value);
    }
}

/// Takes a varint off `input`.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes a varint and as many bytes as it says off `input`.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Value<'a> {
    fn number(&self) -> u64 {
        if let Self::Number(value) = self { *value } else { 0 }
    }
    fn code(&self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }
    fn bytes(&self) -> &'a [u8] {
        if let Self::Bytes(value) = self { value } else { b"" }
    }
    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Calls `take` for every field of a message; `None` when the bytes are not Protobuf.
fn fields<'a>(mut input: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !input.is_empty() {
        let tag = take_varint(&mut input)?;
        let value = match tag & 7 {
            0 => Value::Number(take_varint(&mut input)?),
            1 => input.split_at_checked(8).map(|(_, rest)| (input = rest, Value::Fixed).1)?,
            2 => Value::Bytes(take_bytes(&mut input)?),
            5 => input.split_at_checked(4).map(|(_, rest)| (input = rest, Value::Fixed).1)?,
            _ => return None,
        };
        take(tag >> 3, value)?;
    }
    Some(())
}

/// `None` when the bytes are not of the protocol.
pub fn decode(mut frame: &[u8]) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    while !frame.is_empty() {
        messages.push(message(take_bytes(&mut frame)?)?);
    }
    (!messages.is_empty()).then_some(messages)
}

fn message(input: &[u8]) -> Option<Message> {
    let mut id = 0;
    let mut body = if input.is_empty() { Body::Ping } else { Body::Other };
    fields(input, |field, value| {
        match field {
            1 => id = value.code(),
            2 => body = error(value.bytes())?,
            4 => body = push(value.bytes())?,
            5 => body = Body::Connect(connected(value.bytes())?),
            6 => body = Body::Subscribe(subscribed(value.bytes())?),
            _ => {}
        }
        Some(())
    })?;
    Some(Message { id, body })
}

fn error(input: &[u8]) -> Option<Body> {
    let (mut code, mut message, mut temporary) = (0, String::new(), false);
    fields(input, |field, value| {
        match field {
            1 => code = value.code(),
            2 => message = value.text(),
            3 => temporary = value.number() > 0,
            _ => {}
        }
        Some(())
    })?;
    Some(Body::Error { code, message, temporary })
}

fn connected(input: &[u8]) -> Option<Connected> {
    let mut it = Connected::default();
    fields(input, |field, value| {
        match field {
            1 => it.client = value.text(),
            2 => it.version = value.text(),
            7 => it.ping = value.code(),
            8 => it.pong = value.number() > 0,
            _ => {}
        }
        Some(())
    })?;
    Some(it)
}

fn subscribed(input: &[u8]) -> Option<Subscribed> {
    let mut it = Subscribed::default();
    fields(input, |field, value| {
        match field {
            3 => it.recoverable = value.number() > 0,
            6 => it.epoch = value.text(),
            7 => it.publications.push(received(value.bytes())?),
            8 => it.recovered = value.number() > 0,
            9 => it.offset = value.number(),
            12 => it.was_recovering = value.number() > 0,
            _ => {}
        }
        Some(())
    })?;
    Some(it)
}

fn received(input: &[u8]) -> Option<Received> {
    let mut it = Received::default();
    fields(input, |field, value| {
        match field {
            4 => it.data = value.bytes().to_vec(),
            5 => it.info = Some(who(value.bytes())?),
            6 => it.offset = value.number(),
            _ => {}
        }
        Some(())
    })?;
    Some(it)
}

fn who(input: &[u8]) -> Option<Who> {
    let mut it = Who::default();
    fields(input, |field, value| {
        match field {
            1 => it.user = value.text(),
            2 => it.client = value.text(),
            _ => {}
        }
        Some(())
    })?;
    Some(it)
}

fn push(input: &[u8]) -> Option<Body> {
    let (mut channel, mut event) = (String::new(), Event::Other);
    fields(input, |field, value| {
        let inner = value.bytes();
        match field {
            2 => channel = value.text(),
            4 => event = Event::Publication(received(inner)?),
            5 => event = Event::Join(member(inner)?),
            6 => event = Event::Leave(member(inner)?),
            7 => {
                let (code, reason) = code_and_reason(inner, 2)?;
                event = Event::Unsubscribe { code, reason };
            }
            11 => {
                let (code, reason) = code_and_reason(inner, 1)?;
                event = Event::Disconnect { code, reason };
            }
            _ => {}
        }
        Some(())
    })?;
    Some(Body::Push { channel, event })
}

fn member(input: &[u8]) -> Option<Who> {
    let mut it = Who::default();
    fields(input, |field, value| {
        if field == 1 {
            it = who(value.bytes())?;
        }
        Some(())
    })?;
    Some(it)
}

/// The reason's field number is the code's and one more.
fn code_and_reason(input: &[u8], code_field: u64) -> Option<(u32, String)> {
    let (mut code, mut reason) = (0, String::new());
    fields(input, |field, value| {
        if field == code_field {
            code = value.code();
        } else if field == code_field + 1 {
            reason = value.text();
        }
        Some(())
    })?;
    Some((code, reason))
}
