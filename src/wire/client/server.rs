//! Reading what a server sent, whatever the encoding.

use super::{
    DecodeError,
    peer::{Connected, PeerInfo, Received, ServerMessage, ServerPush, ServerReply, Subscribed},
    schema,
    source::Source,
};
use std::borrow::Cow;

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) fn message<'a, S: Source<'a>>(source: &mut S) -> Result<ServerMessage<'a>> {
    use schema::reply::{n, number};
    let (mut id, mut reply, mut pushed) = (0, None, None);
    source.message(number, |source, number| {
        match number {
            n::ID => id = source.uint32()?,
            n::PUSH => pushed = Some(push(source)?),
            n::ERROR => reply = Some(error(source)?),
            n::CONNECT => reply = Some(ServerReply::Connect(Box::new(connected(source)?))),
            n::SUBSCRIBE => reply = Some(ServerReply::Subscribe(Box::new(subscribed(source)?))),
            n::UNSUBSCRIBE => reply = Some(nothing(source, ServerReply::Unsubscribe)?),
            n::PUBLISH => reply = Some(nothing(source, ServerReply::Publish)?),
            n::PRESENCE => reply = Some(presence(source)?),
            n::PRESENCE_STATS => reply = Some(presence_stats(source)?),
            n::HISTORY => reply = Some(history(source)?),
            n::RPC => reply = Some(ServerReply::Rpc { data: data(source)? }),
            n::REFRESH => {
                let (expires, ttl) = refresh_result(source)?;
                reply = Some(ServerReply::Refresh { expires, ttl });
            }
            n::SUB_REFRESH => reply = Some(sub_refreshed(source)?),
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(match (pushed, reply) {
        (Some((channel, 0, push)), _) => ServerMessage::Push { channel, push },
        (Some((_, number, push)), _) => ServerMessage::NumberedPush { number, push },
        (None, Some(reply)) => ServerMessage::Reply { id, reply },
        (None, None) => ServerMessage::Ping,
    })
}

fn nothing<'a, S: Source<'a>, T>(source: &mut S, value: T) -> Result<T> {
    source.message(schema::nothing, |source, _| source.skip())?;
    Ok(value)
}

fn error<'a, S: Source<'a>>(source: &mut S) -> Result<ServerReply<'a>> {
    use schema::error::{n, number};
    let (mut code, mut message, mut temporary) = (0, Cow::default(), false);
    source.message(number, |source, number| {
        match number {
            n::CODE => code = source.uint32()?,
            n::MESSAGE => message = source.text()?,
            n::TEMPORARY => temporary = source.flag()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(ServerReply::Error { code, message, temporary })
}

fn connected<'a, S: Source<'a>>(source: &mut S) -> Result<Connected<'a>> {
    use schema::connect_result::{n, number};
    let mut it = Connected::default();
    source.message(number, |source, number| {
        match number {
            n::CLIENT => it.client = source.text()?,
            n::VERSION => it.version = source.text()?,
            n::EXPIRES => it.expires = source.flag()?,
            n::TTL => it.ttl = source.uint32()?,
            n::DATA => it.data = source.payload()?,
            n::SUBS => source.map(|source, channel| {
                it.subs.push((channel, subscribed(source)?));
                Ok(())
            })?,
            n::PING => it.ping = source.uint32()?,
            n::PONG => it.pong = source.flag()?,
            n::SESSION => it.session = source.text()?,
            n::NODE => it.node = source.text()?,
            n::TIME => it.time_ms = source.uint64()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

fn subscribed<'a, S: Source<'a>>(source: &mut S) -> Result<Subscribed<'a>> {
    use schema::subscribe_result::{n, number};
    let mut it = Subscribed::default();
    source.message(number, |source, number| {
        match number {
            n::EXPIRES => it.expires = source.flag()?,
            n::TTL => it.ttl = source.uint32()?,
            n::RECOVERABLE => it.recoverable = source.flag()?,
            n::EPOCH => it.epoch = source.text()?,
            n::PUBLICATIONS => publications(source, &mut it.publications)?,
            n::RECOVERED => it.recovered = source.flag()?,
            n::OFFSET => it.offset = source.uint64()?,
            n::POSITIONED => it.positioned = source.flag()?,
            n::DATA => it.data = source.payload()?,
            n::WAS_RECOVERING => it.was_recovering = source.flag()?,
            n::DELTA => it.delta = source.flag()?,
            n::ID => it.number = source.uint64()?,
            n::TYPE => it.kind = source.int32()?,
            n::PHASE => it.phase = source.int32()?,
            n::CURSOR => it.cursor = source.text()?,
            n::STATE => publications(source, &mut it.state)?,
            n::PUBLISH_DEBOUNCE => it.publish_debounce = source.uint32()?,
            n::CONFLATION => it.conflation = source.uint32()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

fn publications<'a, S: Source<'a>>(source: &mut S, into: &mut Vec<Received<'a>>) -> Result<()> {
    source.list(|source| {
        into.push(publication(source)?);
        Ok(())
    })
}

fn publication<'a, S: Source<'a>>(source: &mut S) -> Result<Received<'a>> {
    use schema::publication::{n, number};
    let mut it = Received::default();
    source.message(number, |source, number| {
        match number {
            n::DATA => it.data = source.payload()?,
            n::INFO => it.info = Some(client_info(source)?),
            n::OFFSET => it.offset = source.uint64()?,
            n::TAGS => source.map(|source, key| {
                it.tags.push((key, source.text()?));
                Ok(())
            })?,
            n::DELTA => it.delta = source.flag()?,
            n::CHANNEL => it.channel = source.text()?,
            n::KEY => it.key = source.text()?,
            n::REMOVED => it.removed = source.flag()?,
            n::SCORE => it.score = source.sint64()?,
            n::EPOCH => it.epoch = source.text()?,
            n::VERSION => it.version = source.uint64()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

fn client_info<'a, S: Source<'a>>(source: &mut S) -> Result<PeerInfo<'a>> {
    use schema::client_info::{n, number};
    let mut it = PeerInfo::default();
    source.message(number, |source, number| {
        match number {
            n::USER => it.user = source.text()?,
            n::CLIENT => it.client = source.text()?,
            n::CONN_INFO => it.conn_info = source.payload()?,
            n::CHAN_INFO => it.chan_info = source.payload()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(it)
}

fn presence<'a, S: Source<'a>>(source: &mut S) -> Result<ServerReply<'a>> {
    use schema::presence_result::{n, number};
    let mut clients = Vec::new();
    source.message(number, |source, number| {
        match number {
            n::PRESENCE => source.map(|source, client| {
                clients.push((client, client_info(source)?));
                Ok(())
            })?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(ServerReply::Presence(clients))
}

fn presence_stats<'a, S: Source<'a>>(source: &mut S) -> Result<ServerReply<'a>> {
    use schema::presence_stats_result::{n, number};
    let (mut clients, mut users) = (0, 0);
    source.message(number, |source, number| {
        match number {
            n::NUM_CLIENTS => clients = source.uint32()?,
            n::NUM_USERS => users = source.uint32()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(ServerReply::PresenceStats { clients, users })
}

fn history<'a, S: Source<'a>>(source: &mut S) -> Result<ServerReply<'a>> {
    use schema::history_result::{n, number};
    let (mut list, mut offset, mut epoch) = (Vec::new(), 0, Cow::default());
    source.message(number, |source, number| {
        match number {
            n::PUBLICATIONS => publications(source, &mut list)?,
            n::EPOCH => epoch = source.text()?,
            n::OFFSET => offset = source.uint64()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(ServerReply::History { publications: list, offset, epoch })
}

/// A message with a payload in field 1: `RPCResult`, `Message`.
fn data<'a, S: Source<'a>>(source: &mut S) -> Result<&'a [u8]> {
    use schema::rpc_result::{n, number};
    let mut data: &[u8] = &[];
    source.message(number, |source, number| {
        match number {
            n::DATA => data = source.payload()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(data)
}

fn refresh_result<'a, S: Source<'a>>(source: &mut S) -> Result<(bool, u32)> {
    use schema::refresh_result::{n, number};
    let (mut expires, mut ttl) = (false, 0);
    source.message(number, |source, number| {
        match number {
            n::EXPIRES => expires = source.flag()?,
            n::TTL => ttl = source.uint32()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok((expires, ttl))
}

fn sub_refreshed<'a, S: Source<'a>>(source: &mut S) -> Result<ServerReply<'a>> {
    use schema::sub_refresh_result::{n, number};
    let (mut expires, mut ttl, mut items) = (false, 0, Vec::new());
    source.message(number, |source, number| {
        match number {
            n::EXPIRES => expires = source.flag()?,
            n::TTL => ttl = source.uint32()?,
            n::ITEMS => publications(source, &mut items)?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(ServerReply::SubRefresh { expires, ttl, items })
}

/// The refresh push.
fn refreshed<'a, S: Source<'a>>(source: &mut S) -> Result<(bool, u32)> {
    use schema::refresh::{n, number};
    let (mut expires, mut ttl) = (false, 0);
    source.message(number, |source, number| {
        match number {
            n::EXPIRES => expires = source.flag()?,
            n::TTL => ttl = source.uint32()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok((expires, ttl))
}

fn push<'a, S: Source<'a>>(source: &mut S) -> Result<(Cow<'a, str>, u64, ServerPush<'a>)> {
    use schema::push::{n, number};
    let (mut channel, mut id, mut push) = (Cow::default(), 0, ServerPush::Other);
    source.message(number, |source, number| {
        match number {
            n::ID => id = source.uint64()?,
            n::CHANNEL => channel = source.text()?,
            n::PUB => push = ServerPush::Publication(publication(source)?),
            n::JOIN => push = ServerPush::Join(joined(source)?),
            n::LEAVE => push = ServerPush::Leave(joined(source)?),
            n::UNSUBSCRIBE => {
                let (code, reason) = unsubscribed(source)?;
                push = ServerPush::Unsubscribe { code, reason };
            }
            n::MESSAGE => push = ServerPush::Message { data: data(source)? },
            n::SUBSCRIBE => push = subscribe(source)?,
            n::DISCONNECT => {
                let (code, reason) = disconnected(source)?;
                push = ServerPush::Disconnect { code, reason };
            }
            n::REFRESH => {
                let (expires, ttl) = refreshed(source)?;
                push = ServerPush::Refresh { expires, ttl };
            }
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok((channel, id, push))
}

fn joined<'a, S: Source<'a>>(source: &mut S) -> Result<PeerInfo<'a>> {
    use schema::join::{n, number};
    let mut info = PeerInfo::default();
    source.message(number, |source, number| {
        match number {
            n::INFO => info = client_info(source)?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(info)
}

fn unsubscribed<'a, S: Source<'a>>(source: &mut S) -> Result<(u32, Cow<'a, str>)> {
    use schema::unsubscribe::{n, number};
    let (mut code, mut reason) = (0, Cow::default());
    source.message(number, |source, number| {
        match number {
            n::CODE => code = source.uint32()?,
            n::REASON => reason = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok((code, reason))
}

fn disconnected<'a, S: Source<'a>>(source: &mut S) -> Result<(u32, Cow<'a, str>)> {
    use schema::disconnect::{n, number};
    let (mut code, mut reason) = (0, Cow::default());
    source.message(number, |source, number| {
        match number {
            n::CODE => code = source.uint32()?,
            n::REASON => reason = source.text()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok((code, reason))
}

fn subscribe<'a, S: Source<'a>>(source: &mut S) -> Result<ServerPush<'a>> {
    use schema::subscribe::{n, number};
    let (mut recoverable, mut positioned, mut epoch, mut offset) = (false, false, Cow::default(), 0);
    let mut data: &[u8] = &[];
    source.message(number, |source, number| {
        match number {
            n::RECOVERABLE => recoverable = source.flag()?,
            n::EPOCH => epoch = source.text()?,
            n::OFFSET => offset = source.uint64()?,
            n::POSITIONED => positioned = source.flag()?,
            n::DATA => data = source.payload()?,
            _ => source.skip()?,
        }
        Ok(())
    })?;
    Ok(ServerPush::Subscribe { recoverable, positioned, epoch, offset, data })
}
