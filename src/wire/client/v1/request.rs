//! Commands of version 1: a number says what the parameters are, which may stand before it.

use super::schema::{self, command::n};
use crate::{
    model::Protocol,
    wire::{
        client::{
            Command, ConnectRequest, DecodeError, Request, SubscribeRequest,
            request::{Commands, Messages, channel, history, publish, refresh, rpc, send, sub_refresh},
            source::{Fields, Source},
        },
        json::Cursor,
    },
};

type Result<T> = std::result::Result<T, DecodeError>;

/// The commands of one frame of a client, in order; as [`crate::wire::client::decode`]. A method nobody knows is
/// [`Request::None`].
#[must_use]
pub fn decode(protocol: Protocol, frame: &[u8]) -> Commands<'_, true> {
    Commands(match protocol {
        Protocol::Json => Messages::json(frame),
        Protocol::Protobuf => Messages::protobuf(frame),
    })
}

impl<'a> Iterator for Commands<'a, true> {
    type Item = Result<Command<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(json_command, protobuf_command)
    }
}

/// Methods by their numbers.
const METHODS: [&str; 12] = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "ping",
    "send",
    "rpc",
    "refresh",
    "sub_refresh",
];

fn json_command<'a>(cursor: &mut Cursor<'a>) -> Result<Command<'a>> {
    let (mut id, mut method, mut params) = (0, 0, "{}");
    let present = cursor.message(schema::command::number, |cursor, number| {
        match number {
            n::ID => id = cursor.uint32()?,
            n::METHOD => method = method_number(cursor.raw_text()?)?,
            n::PARAMS => params = cursor.raw_text()?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    if !present {
        return Err(DecodeError::Json);
    }
    let mut cursor = Cursor::new(if params == "null" { "{}" } else { params });
    let request = request(&mut cursor, method)?;
    Ok(cursor.finish().map(|()| Command { id, request })?)
}

/// A number, or a name in a string.
fn method_number(value: &str) -> Result<u32> {
    let mut cursor = Cursor::new(value);
    if !value.starts_with('"') {
        return cursor.uint32();
    }
    let name = cursor.text()?;
    let number = METHODS.iter().position(|method| method.eq_ignore_ascii_case(&name));
    Ok(number.map_or(u32::MAX, |number| number as u32))
}

fn protobuf_command<'a>(fields: &mut Fields<'a>) -> Result<Command<'a>> {
    let (mut id, mut method, mut params): (_, _, &[u8]) = (0, 0, &[]);
    fields.message(schema::command::number, |fields, number| {
        match number {
            n::ID => id = fields.uint32()?,
            n::METHOD => method = fields.uint32()?,
            n::PARAMS => params = fields.payload()?,
            _ => fields.skip()?,
        }
        Ok(())
    })?;
    let request = request(&mut Fields::message_value(params), method)?;
    Ok(Command { id, request })
}

/// The request in the parameters of the method with this number.
fn request<'a, S: Source<'a>>(source: &mut S, method: u32) -> Result<Request<'a>> {
    let name = METHODS.get(method as usize).copied().unwrap_or_default();
    let found = match name {
        "connect" => Some(Request::Connect(Box::new(connect(source)?))),
        "subscribe" => Some(Request::Subscribe(Box::new(subscribe(source)?))),
        "unsubscribe" => channel(source)?.map(|channel| Request::Unsubscribe { channel }),
        "publish" => publish(source)?,
        "presence" => channel(source)?.map(|channel| Request::Presence { channel }),
        "presence_stats" => channel(source)?.map(|channel| Request::PresenceStats { channel }),
        "history" => history(source)?,
        "send" => send(source)?,
        "rpc" => rpc(source)?,
        "refresh" => refresh(source)?,
        "sub_refresh" => sub_refresh(source)?,
        "ping" => source.skip().map(|()| Some(Request::Ping))?,
        _ => source.skip().map(|()| None)?,
    };
    Ok(found.unwrap_or(Request::None))
}

fn connect<'a, S: Source<'a>>(source: &mut S) -> Result<ConnectRequest<'a>> {
    use schema::connect_request::{n, number};
    let mut it = ConnectRequest::default();
    source.message(number, |source, number| {
        match number {
            n::TOKEN => it.token = source.text()?,
            n::DATA => it.data = source.payload()?,
            n::SUBS => source.map(|source, channel| {
                it.subs.push((channel, subscribe(source)?));
                Ok(())
            })?,
            n::NAME => it.name = source.text()?,
            n::VERSION => it.version = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

fn subscribe<'a, S: Source<'a>>(source: &mut S) -> Result<SubscribeRequest<'a>> {
    use schema::subscribe_request::{n, number};
    // Whoever may be told of joins and leaves is.
    let mut it = SubscribeRequest { join_leave: true, ..SubscribeRequest::default() };
    let (mut seq, mut generation) = (0, 0);
    source.message(number, |source, number| {
        match number {
            n::CHANNEL => it.channel = source.text()?,
            n::TOKEN => it.token = source.text()?,
            n::RECOVER => it.recover = source.flag()?,
            n::SEQ => seq = source.uint32()?,
            n::GEN => generation = source.uint32()?,
            n::EPOCH => it.epoch = source.text()?,
            n::OFFSET => it.offset = source.uint64()?,
            n::DATA => it.data = source.payload()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    let halves = u64::from(generation) << 32 | u64::from(seq);
    if halves > 0 {
        it.offset = halves;
    }
    Ok(it)
}
