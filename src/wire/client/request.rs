//! Commands: reading them from a frame, whatever the encoding, and what their fields mean.

use super::{
    Command, ConnectRequest, DecodeError, FilterNode, HistoryRequest, KeyedItem, PublishRequest, Request,
    Since, SubscribeRequest, TrackBatch, TrackRequest, quick,
    schema::{self, command::n},
    source::{Fields, Source},
};
use crate::{model::Protocol, stdx::varint, wire::json::Cursor};
use std::borrow::Cow;

type Result<T> = std::result::Result<T, DecodeError>;

/// The commands of one frame in order, of version 2 or `V1`. Ends after the first error.
#[derive(Debug)]
pub struct Commands<'a, const V1: bool = false>(pub(super) Messages<'a>);

impl<'a, const V1: bool> Commands<'a, V1> {
    /// What has not been read yet; it decodes to the commands that are left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        match self.0 {
            Messages::Json(text) => text.as_bytes(),
            Messages::Protobuf(bytes) => bytes,
            Messages::Failed(_) | Messages::Ended => &[],
        }
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(json_command, protobuf_command)
    }
}

fn json_command<'a>(cursor: &mut Cursor<'a>) -> Result<Command<'a>> {
    match quick::publish_json(cursor.remaining()) {
        Some(command) => {
            cursor.skip_all();
            Ok(command)
        }
        None => command(cursor),
    }
}

fn protobuf_command<'a>(fields: &mut Fields<'a>) -> Result<Command<'a>> {
    match fields.whole().and_then(quick::publish_protobuf) {
        Some(command) => Ok(command),
        None => command(fields),
    }
}

/// What is left of a frame that holds several messages.
#[derive(Debug)]
pub(super) enum Messages<'a> {
    Json(&'a str),
    Protobuf(&'a [u8]),
    Failed(DecodeError),
    Ended,
}

impl<'a> Messages<'a> {
    pub fn json(frame: &'a [u8]) -> Self {
        match simdutf8::basic::from_utf8(frame) {
            Ok("") => Self::Failed(DecodeError::Empty),
            Ok(text) => Self::Json(text),
            Err(_) => Self::Failed(DecodeError::Json),
        }
    }

    pub fn protobuf(frame: &'a [u8]) -> Self {
        if frame.is_empty() { Self::Failed(DecodeError::Empty) } else { Self::Protobuf(frame) }
    }

    /// Reads the next message with the reader for its encoding; `None` when the frame is used up or failed.
    #[inline]
    pub fn next<T>(
        &mut self,
        json: fn(&mut Cursor<'a>) -> Result<T>,
        protobuf: fn(&mut Fields<'a>) -> Result<T>,
    ) -> Option<Result<T>> {
        let result = match *self {
            Self::Json(text) => {
                let (line, rest) = match memchr::memchr(b'\n', text.as_bytes()) {
                    Some(at) => (text.get(..at)?, text.get(at + 1..)?),
                    None => (text, ""),
                };
                // A newline at the very end only ends the last message.
                *self = if rest.is_empty() { Self::Ended } else { Self::Json(rest) };
                let mut cursor = Cursor::new(line);
                json(&mut cursor).and_then(|value| Ok(cursor.finish().map(|()| value)?))
            }
            Self::Protobuf(bytes) => match split_delimited(bytes) {
                Ok((message, rest)) => {
                    *self = if rest.is_empty() { Self::Ended } else { Self::Protobuf(rest) };
                    protobuf(&mut Fields::message_value(message))
                }
                Err(error) => Err(error),
            },
            Self::Failed(error) => Err(error),
            Self::Ended => return None,
        };
        if result.is_err() {
            *self = Self::Ended;
        }
        Some(result)
    }
}

fn split_delimited(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let varint::Read::Value(len, at) = varint::read(bytes) else {
        return Err(DecodeError::Length);
    };
    let rest = bytes.get(at..).unwrap_or_default();
    let len = usize::try_from(len).map_err(|_| DecodeError::Length)?;
    rest.split_at_checked(len).ok_or(DecodeError::Length)
}

/// When a command carries several requests, the first of this order counts. One that is given twice: the later.
const ORDER: [u32; 12] = [
    n::CONNECT,
    n::SUBSCRIBE,
    n::UNSUBSCRIBE,
    n::PUBLISH,
    n::PRESENCE,
    n::PRESENCE_STATS,
    n::HISTORY,
    n::RPC,
    n::SEND,
    n::REFRESH,
    n::SUB_REFRESH,
    n::PING,
];

fn rank(number: u32) -> usize {
    ORDER.iter().position(|&it| it == number).unwrap_or(ORDER.len())
}

#[inline]
pub(super) fn command<'a, S: Source<'a>>(source: &mut S) -> Result<Command<'a>> {
    let mut command = Command { id: 0, request: Request::None };
    let mut best = ORDER.len();
    let present = source.message(schema::command::number, |source, number| {
        if number == n::ID {
            command.id = source.uint32()?;
        } else if let Some(request) = request(source, number)?
            && rank(number) <= best
        {
            best = rank(number);
            command.request = request;
        }
        Ok(())
    })?;
    // A bare null instead of a command.
    if present { Ok(command) } else { Err(DecodeError::Json) }
}

/// The request in the field with this number; `None` if it is null or no request.
fn request<'a, S: Source<'a>>(source: &mut S, number: u32) -> Result<Option<Request<'a>>> {
    match number {
        n::CONNECT => connect(source),
        n::SUBSCRIBE => Ok(subscribe(source)?.map(|it| Request::Subscribe(Box::new(it)))),
        n::UNSUBSCRIBE => Ok(channel(source)?.map(|channel| Request::Unsubscribe { channel })),
        n::PUBLISH => publish(source),
        n::PRESENCE => Ok(channel(source)?.map(|channel| Request::Presence { channel })),
        n::PRESENCE_STATS => Ok(channel(source)?.map(|channel| Request::PresenceStats { channel })),
        n::HISTORY => history(source),
        n::PING => Ok(source.message(schema::nothing, |source, _| source.skip())?.then_some(Request::Ping)),
        n::SEND => send(source),
        n::RPC => rpc(source),
        n::REFRESH => refresh(source),
        n::SUB_REFRESH => sub_refresh(source),
        _ => source.skip().map(|()| None),
    }
}

/// A connect request that is not in a command; nothing and `null` are an empty one.
pub(super) fn connect_alone(protocol: Protocol, bytes: &[u8]) -> Result<ConnectRequest<'_>> {
    if protocol == Protocol::Protobuf {
        return connect_request(&mut Fields::message_value(bytes)).map(|(request, _)| *request);
    }
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::Json)?;
    if text.trim_ascii().is_empty() {
        return Ok(ConnectRequest::default());
    }
    let mut cursor = Cursor::new(text);
    let (request, _) = connect_request(&mut cursor)?;
    Ok(cursor.finish().map(|()| *request)?)
}

fn connect<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    let (request, present) = connect_request(source)?;
    Ok(present.then_some(Request::Connect(request)))
}

/// The request, and whether there was one.
fn connect_request<'a, S: Source<'a>>(source: &mut S) -> Result<(Box<ConnectRequest<'a>>, bool)> {
    use schema::connect_request::{n, number};
    let mut it = Box::<ConnectRequest<'a>>::default();
    let present = source.message(number, |source, number| {
        match number {
            n::TOKEN => it.token = source.text()?,
            n::DATA => it.data = source.payload()?,
            n::SUBS => source.map(|source, channel| {
                it.subs.push((channel, subscribe(source)?.unwrap_or_default()));
                Ok(())
            })?,
            n::NAME => it.name = source.text()?,
            n::VERSION => it.version = source.text()?,
            n::HEADERS => source.map(|source, name| {
                it.headers.push((name, source.text()?));
                Ok(())
            })?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok((it, present))
}

fn subscribe<'a, S: Source<'a>>(source: &mut S) -> Result<Option<SubscribeRequest<'a>>> {
    use schema::subscribe_request::{n, number};
    let mut it = SubscribeRequest::default();
    let present = source.message(number, |source, number| {
        match number {
            n::CHANNEL => it.channel = source.text()?,
            n::TOKEN => it.token = source.text()?,
            n::RECOVER => it.recover = source.flag()?,
            n::EPOCH => it.epoch = source.text()?,
            n::OFFSET => it.offset = source.uint64()?,
            n::DATA => it.data = source.payload()?,
            n::POSITIONED => it.positioned = source.flag()?,
            n::RECOVERABLE => it.recoverable = source.flag()?,
            n::JOIN_LEAVE => it.join_leave = source.flag()?,
            n::DELTA => it.delta = source.text()?,
            n::TF => it.tags_filter = filter_node(source, FILTER_DEPTH_MAX)?.map(Box::new),
            n::FLAG => it.flag = source.int64()?,
            n::TYPE => it.kind = source.int32()?,
            n::PHASE => it.phase = source.int32()?,
            n::CURSOR => it.cursor = source.text()?,
            n::LIMIT => it.limit = source.int32()?,
            n::ASC => it.asc = source.flag()?,
            n::CONFLATION => it.conflation = source.uint32()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(it))
}

/// Nodes inside each other that are read.
const FILTER_DEPTH_MAX: u32 = 32;

/// A node of a tags filter. What lies too deep is read as a node without content, which makes no sense.
fn filter_node<'a, S: Source<'a>>(source: &mut S, depth: u32) -> Result<Option<FilterNode<'a>>> {
    use schema::filter_node::{n, number};
    let mut it = FilterNode::default();
    let present = source.message(number, |source, number| {
        match number {
            n::OP if depth > 0 => it.op = source.text()?,
            n::KEY if depth > 0 => it.key = source.text()?,
            n::CMP if depth > 0 => it.cmp = source.text()?,
            n::VAL if depth > 0 => it.val = source.text()?,
            n::VALS if depth > 0 => source.list(|source| {
                it.vals.push(source.text()?);
                Ok(())
            })?,
            n::NODES if depth > 0 => source.list(|source| {
                it.nodes.push(filter_node(source, depth - 1)?.unwrap_or_default());
                Ok(())
            })?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(it))
}

/// A request that has a channel and nothing else.
pub(super) fn channel<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Cow<'a, str>>> {
    use schema::unsubscribe_request::{n, number};
    let mut channel = Cow::default();
    let present = source.message(number, |source, number| {
        match number {
            n::CHANNEL => channel = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(channel))
}

pub(super) fn publish<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    use schema::publish_request::{n, number};
    let mut it = PublishRequest::default();
    let present = source.message(number, |source, number| {
        match number {
            n::CHANNEL => it.channel = source.text()?,
            n::DATA => it.data = Some(source.payload()?),
            n::TYPE => it.kind = source.int32()?,
            n::KEY => it.key = source.text()?,
            n::REMOVED => it.removed = source.flag()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(Request::Publish(it)))
}

pub(super) fn history<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    use schema::history_request::{n, number};
    let mut it = HistoryRequest::default();
    let present = source.message(number, |source, number| {
        match number {
            n::CHANNEL => it.channel = source.text()?,
            n::LIMIT => it.limit = source.int32()?,
            n::SINCE => it.since = since(source)?,
            n::REVERSE => it.reverse = source.flag()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(Request::History(it)))
}

fn since<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Since<'a>>> {
    use schema::stream_position::{n, number};
    let mut it = Since::default();
    let present = source.message(number, |source, number| {
        match number {
            n::OFFSET => it.offset = source.uint64()?,
            n::EPOCH => it.epoch = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(it))
}

pub(super) fn send<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    use schema::rpc_result::{n, number};
    let mut data: &[u8] = &[];
    let present = source.message(number, |source, number| {
        match number {
            n::DATA => data = source.payload()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(Request::Send { data }))
}

pub(super) fn rpc<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    use schema::rpc_request::{n, number};
    let (mut method, mut data): (_, &[u8]) = (Cow::default(), &[]);
    let present = source.message(number, |source, number| {
        match number {
            n::DATA => data = source.payload()?,
            n::METHOD => method = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(Request::Rpc { method, data }))
}

pub(super) fn refresh<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    use schema::refresh_request::{n, number};
    let mut token = Cow::default();
    let present = source.message(number, |source, number| {
        match number {
            n::TOKEN => token = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then_some(Request::Refresh { token }))
}

pub(super) fn sub_refresh<'a, S: Source<'a>>(source: &mut S) -> Result<Option<Request<'a>>> {
    use schema::sub_refresh_request::{n, number};
    let (mut it, mut token) = (TrackRequest::default(), Cow::default());
    let present = source.message(number, |source, number| {
        match number {
            n::CHANNEL => it.channel = source.text()?,
            n::TOKEN => token = source.text()?,
            n::TYPE => it.kind = source.int32()?,
            n::TRACK => source.list(|source| {
                it.track.push(track_batch(source)?);
                Ok(())
            })?,
            n::UNTRACK => source.list(|source| {
                it.untrack.push(source.text()?);
                Ok(())
            })?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(present.then(|| match it.kind {
        0 => Request::SubRefresh { channel: it.channel, token },
        _ => Request::Track(Box::new(it)),
    }))
}

fn track_batch<'a, S: Source<'a>>(source: &mut S) -> Result<TrackBatch<'a>> {
    use schema::track_batch::{n, number};
    let mut it = TrackBatch::default();
    source.message(number, |source, number| {
        match number {
            n::SIGNATURE => it.signature = source.text()?,
            n::ITEMS => source.list(|source| {
                it.items.push(keyed_item(source)?);
                Ok(())
            })?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

fn keyed_item<'a, S: Source<'a>>(source: &mut S) -> Result<KeyedItem<'a>> {
    use schema::keyed_item::{n, number};
    let mut it = KeyedItem::default();
    source.message(number, |source, number| {
        match number {
            n::KEY => it.key = source.text()?,
            n::VERSION => it.version = source.uint64()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}
