//! Commands, replies and pushes for property tests.

use crate::{
    model::{ClientId, ClientInfo, ErrorCode, Extra, Publication, Unsubscribe},
    wire::client::{
        Command, ConnectRequest, ConnectResult, FilterNode, HistoryRequest, KeyedItem, PublishRequest, Push,
        Reply, Request, Since, SubscribeRequest, SubscribeResult, TrackBatch, TrackRequest,
    },
};
use arbitrary::{Result, Unstructured};
use std::{borrow::Cow, sync::Arc};

type U<'u> = Unstructured<'u>;

/// What replies and pushes borrow from.
pub struct Parts {
    pub text: [String; 4],
    pub payload: Vec<u8>,
    pub infos: Vec<Arc<ClientInfo>>,
    pub publications: Vec<Arc<Publication>>,
}

pub fn parts(u: &mut U<'_>) -> Result<Parts> {
    let mut infos = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        infos.push(Arc::new(client_info(u)?));
    }
    let mut publications = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        publications.push(Arc::new(publication(u, &infos)?));
    }
    Ok(Parts { text: [text(u)?, text(u)?, text(u)?, text(u)?], payload: payload(u)?, infos, publications })
}

pub fn text(u: &mut U<'_>) -> Result<String> {
    if u.ratio(1, 3)? { Ok(String::new()) } else { u.arbitrary() }
}

/// A payload that is valid in both encodings: JSON.
pub fn payload(u: &mut U<'_>) -> Result<Vec<u8>> {
    let value = match u.int_in_range(0..=4)? {
        0 => return Ok(Vec::new()),
        1 => serde_json::json!(null),
        2 => serde_json::json!({text(u)?: [u.arbitrary::<u64>()?, text(u)?]}),
        3 => serde_json::json!(text(u)?),
        _ => serde_json::json!(u.arbitrary::<i32>()?),
    };
    Ok(value.to_string().into_bytes())
}

fn number<T: TryFrom<u64> + Default>(u: &mut U<'_>) -> Result<T> {
    let value = u.arbitrary::<u64>()? >> u.int_in_range(0..=63)?;
    Ok(T::try_from(value).unwrap_or_default())
}

fn client_info(u: &mut U<'_>) -> Result<ClientInfo> {
    let optional = |u: &mut U<'_>| {
        Ok(match payload(u)? {
            empty if empty.is_empty() => None,
            some => Some(Arc::from(some)),
        })
    };
    Ok(ClientInfo {
        user: text(u)?.into(),
        client: ClientId(u.arbitrary()?),
        conn_info: optional(u)?,
        chan_info: optional(u)?,
    })
}

fn publication(u: &mut U<'_>, infos: &[Arc<ClientInfo>]) -> Result<Publication> {
    let info = if u.arbitrary()? { Some(u.choose(infos)?.clone()) } else { None };
    let mut tags = std::collections::BTreeMap::new();
    for _ in 0..u.int_in_range(0..=2)? {
        tags.insert(text(u)?.into(), text(u)?.into());
    }
    Ok(Publication {
        offset: if u.arbitrary()? { 1 } else { number(u)? },
        data: payload(u)?.into(),
        info,
        tags: tags.into_iter().collect(),
        time_ms: u.arbitrary()?,
        extra: if u.arbitrary()? { Some(Box::new(extra(u)?)) } else { None },
        json: u.arbitrary()?,
        delta: u.arbitrary()?,
    })
}

fn extra(u: &mut U<'_>) -> Result<Extra> {
    Ok(Extra {
        channel: if u.arbitrary()? { Some(text(u)?.into()) } else { None },
        key: text(u)?.into(),
        removed: u.arbitrary()?,
        divided: false,
        score: u.arbitrary()?,
        version: number(u)?,
    })
}

pub fn subscribe_result<'a>(u: &mut U<'_>, parts: &'a Parts) -> Result<SubscribeResult<'a>> {
    Ok(SubscribeResult {
        expires: u.arbitrary()?,
        ttl: number(u)?,
        recoverable: u.arbitrary()?,
        positioned: u.arbitrary()?,
        epoch: &parts.text[0],
        offset: number(u)?,
        publications: &parts.publications[u.int_in_range(0..=parts.publications.len())?..],
        recovered: u.arbitrary()?,
        was_recovering: u.arbitrary()?,
        data: &parts.payload,
        patches: None,
        number: u.arbitrary()?,
        kind: u.arbitrary()?,
        phase: u.arbitrary()?,
        cursor: &parts.text[1],
        state: &parts.publications[u.int_in_range(0..=parts.publications.len())?..],
        publish_debounce: number(u)?,
        conflation: u.arbitrary()?,
    })
}

pub fn connect_result<'a>(
    u: &mut U<'_>,
    parts: &'a Parts,
    subs: &'a [(&'a str, SubscribeResult<'a>)],
) -> Result<ConnectResult<'a>> {
    Ok(ConnectResult {
        client: ClientId(u.arbitrary()?),
        version: &parts.text[1],
        expires: u.arbitrary()?,
        ttl: number(u)?,
        data: &parts.payload,
        subs,
        ping: number(u)?,
        pong: u.arbitrary()?,
        session: &parts.text[2],
        node: &parts.text[3],
        time_ms: number::<u64>(u)? >> 1,
    })
}

pub fn reply<'a>(
    u: &mut U<'_>,
    parts: &'a Parts,
    connect: &'a ConnectResult<'a>,
    subscribe: &'a SubscribeResult<'a>,
) -> Result<Reply<'a>> {
    Ok(match u.int_in_range(0..=11)? {
        0 => Reply::Error(ErrorCode::TooManyRequests),
        1 => Reply::CustomError { code: number(u)?, message: &parts.text[0], temporary: u.arbitrary()? },
        2 => Reply::Connect(connect),
        3 => Reply::Subscribe(subscribe),
        4 => Reply::Unsubscribe,
        5 => Reply::Publish,
        6 => Reply::Presence(&parts.infos),
        7 => Reply::PresenceStats { clients: number(u)?, users: number(u)? },
        8 => {
            Reply::History { publications: subscribe.publications, offset: number(u)?, epoch: &parts.text[1] }
        }
        9 => Reply::Rpc { data: &parts.payload },
        10 => Reply::Refresh { expires: u.arbitrary()?, ttl: number(u)? },
        _ => Reply::SubRefresh { expires: u.arbitrary()?, ttl: number(u)?, items: subscribe.publications },
    })
}

pub fn push<'a>(u: &mut U<'_>, parts: &'a Parts) -> Result<Push<'a>> {
    Ok(match u.int_in_range(0..=7)? {
        0 => Push::Publication { publication: &parts.publications[0], epoch: &parts.text[0] },
        1 => Push::Join(&parts.infos[0]),
        2 => Push::Leave(&parts.infos[0]),
        3 => Push::Unsubscribe(Unsubscribe::EXPIRED),
        4 => Push::Subscribe {
            recoverable: u.arbitrary()?,
            positioned: u.arbitrary()?,
            epoch: &parts.text[0],
            offset: number(u)?,
            data: &parts.payload,
        },
        5 => Push::Message { data: &parts.payload },
        6 => Push::Disconnect { code: number(u)?, reason: &parts.text[0] },
        _ => Push::Refresh { expires: u.arbitrary()?, ttl: number(u)? },
    })
}

fn subscribe_request<'a>(u: &mut U<'_>, parts: &'a Parts) -> Result<SubscribeRequest<'a>> {
    Ok(SubscribeRequest {
        channel: cow(u, parts)?,
        token: cow(u, parts)?,
        recover: u.arbitrary()?,
        epoch: cow(u, parts)?,
        offset: number(u)?,
        data: &parts.payload,
        positioned: u.arbitrary()?,
        recoverable: u.arbitrary()?,
        join_leave: u.arbitrary()?,
        delta: cow(u, parts)?,
        tags_filter: if u.arbitrary()? { Some(Box::new(filter_node(u, parts, 2)?)) } else { None },
        flag: u.arbitrary()?,
        kind: u.arbitrary()?,
        phase: u.arbitrary()?,
        cursor: cow(u, parts)?,
        limit: u.arbitrary()?,
        asc: u.arbitrary()?,
        conflation: u.arbitrary()?,
    })
}

fn filter_node<'a>(u: &mut U<'_>, parts: &'a Parts, depth: usize) -> Result<FilterNode<'a>> {
    let (values, nodes) = (u.int_in_range(0..=2)?, u.int_in_range(0..=depth)?);
    Ok(FilterNode {
        op: cow(u, parts)?,
        key: cow(u, parts)?,
        cmp: cow(u, parts)?,
        val: cow(u, parts)?,
        vals: (0..values).map(|_| cow(u, parts)).collect::<Result<_>>()?,
        nodes: (0..nodes).map(|_| filter_node(u, parts, depth - 1)).collect::<Result<_>>()?,
    })
}

fn track_batch<'a>(u: &mut U<'_>, parts: &'a Parts) -> Result<TrackBatch<'a>> {
    let items = (0..u.int_in_range(0..=2)?)
        .map(|_| Ok(KeyedItem { key: cow(u, parts)?, version: number(u)? }))
        .collect::<Result<_>>()?;
    Ok(TrackBatch { signature: cow(u, parts)?, items })
}

fn cow<'a>(u: &mut U<'_>, parts: &'a Parts) -> Result<Cow<'a, str>> {
    Ok(Cow::Borrowed(&parts.text[u.choose_index(parts.text.len())?]))
}

pub fn command<'a>(u: &mut U<'_>, parts: &'a Parts) -> Result<Command<'a>> {
    let channel = cow(u, parts)?;
    let data = &parts.payload;
    let request = match u.int_in_range(0..=13)? {
        0 => Request::None,
        1 => Request::Connect(Box::new(ConnectRequest {
            token: cow(u, parts)?,
            data,
            subs: vec![("one".into(), subscribe_request(u, parts)?), (channel, subscribe_request(u, parts)?)],
            name: cow(u, parts)?,
            version: cow(u, parts)?,
            headers: vec![("X-One".into(), cow(u, parts)?), ("X-Two".into(), cow(u, parts)?)],
        })),
        2 => Request::Subscribe(Box::new(subscribe_request(u, parts)?)),
        3 => Request::Unsubscribe { channel },
        4 => Request::Publish(PublishRequest {
            channel,
            // Empty bytes and no bytes are the same on the wire.
            data: if data.is_empty() { None } else { Some(data) },
            kind: u.arbitrary()?,
            key: cow(u, parts)?,
            removed: u.arbitrary()?,
        }),
        5 => Request::Presence { channel },
        6 => Request::PresenceStats { channel },
        7 => Request::History(HistoryRequest {
            channel,
            limit: u.arbitrary()?,
            since: if u.arbitrary()? {
                Some(Since { offset: number(u)?, epoch: cow(u, parts)? })
            } else {
                None
            },
            reverse: u.arbitrary()?,
        }),
        8 => Request::Ping,
        9 => Request::Send { data },
        10 => Request::Rpc { method: channel, data },
        11 => Request::Refresh { token: channel },
        12 => Request::Track(Box::new(TrackRequest {
            channel,
            kind: u.int_in_range(1..=2)?,
            track: (0..u.int_in_range(0..=2)?).map(|_| track_batch(u, parts)).collect::<Result<_>>()?,
            untrack: (0..u.int_in_range(0..=2)?).map(|_| cow(u, parts)).collect::<Result<_>>()?,
        })),
        _ => Request::SubRefresh { channel, token: cow(u, parts)? },
    };
    Ok(Command { id: number(u)?, request })
}
