//! Our codec against prost and serde_json, both ways, and against itself.

use super::{arbitrary_messages as any, prost_messages as pb};
use crate::{
    model::{ClientInfo, Protocol, Publication},
    stdx::varint,
    wire::client::{
        Command, ConnectRequest, ConnectResult, FilterNode, KeyedItem, Push, Reply, Request, ServerMessage,
        ServerPush, ServerReply, SubscribeRequest, SubscribeResult, TrackRequest, decode, decode_replies,
        encode_command, encode_push, encode_reply,
    },
};
use prost::Message;
use std::sync::Arc;

fn only<T: std::fmt::Debug>(mut items: impl Iterator<Item = T>) -> T {
    let item = items.next().unwrap();
    assert_eq!(items.next().map(|it| format!("{it:?}")), None);
    item
}

/// The message behind its length.
fn delimited(frame: &[u8]) -> &[u8] {
    let varint::Read::Value(len, at) = varint::read(frame) else { panic!("no length: {frame:x?}") };
    assert_eq!(frame.len() - at, usize::try_from(len).unwrap());
    &frame[at..]
}

fn command_message(command: &Command<'_>) -> pb::Command {
    let mut it = pb::Command { id: command.id, ..Default::default() };
    let channel_request = |channel: &str| Some(pb::ChannelRequest { channel: channel.into() });
    match &command.request {
        Request::None => {}
        Request::Connect(request) => it.connect = Some(connect_message(request)),
        Request::Subscribe(request) => it.subscribe = Some(subscribe_message(request)),
        Request::Unsubscribe { channel } => it.unsubscribe = channel_request(channel),
        Request::Publish(request) => {
            it.publish = Some(pb::PublishRequest {
                channel: request.channel.to_string(),
                data: request.data.unwrap_or_default().to_vec(),
                type_: request.kind,
                key: request.key.to_string(),
                removed: request.removed,
            });
        }
        Request::Presence { channel } => it.presence = channel_request(channel),
        Request::PresenceStats { channel } => it.presence_stats = channel_request(channel),
        Request::History(request) => {
            it.history = Some(pb::HistoryRequest {
                channel: request.channel.to_string(),
                limit: request.limit,
                since: request
                    .since
                    .as_ref()
                    .map(|since| pb::StreamPosition { offset: since.offset, epoch: since.epoch.to_string() }),
                reverse: request.reverse,
            });
        }
        Request::Ping => it.ping = Some(pb::Empty {}),
        Request::Send { data } => it.send = Some(pb::Payload { data: data.to_vec() }),
        Request::Rpc { method, data } => {
            it.rpc = Some(pb::RpcRequest { data: data.to_vec(), method: method.to_string() });
        }
        Request::Refresh { token } => it.refresh = Some(pb::RefreshRequest { token: token.to_string() }),
        Request::SubRefresh { channel, token } => {
            it.sub_refresh = Some(pb::SubRefreshRequest {
                channel: channel.to_string(),
                token: token.to_string(),
                ..Default::default()
            });
        }
        Request::Track(request) => it.sub_refresh = Some(track_message(request)),
    }
    it
}

fn track_message(request: &TrackRequest<'_>) -> pb::SubRefreshRequest {
    let items = |items: &[KeyedItem<'_>]| {
        items.iter().map(|it| pb::KeyedItem { key: it.key.to_string(), version: it.version }).collect()
    };
    pb::SubRefreshRequest {
        channel: request.channel.to_string(),
        token: String::new(),
        type_: request.kind,
        track: request
            .track
            .iter()
            .map(|it| pb::TrackBatch { signature: it.signature.to_string(), items: items(&it.items) })
            .collect(),
        untrack: request.untrack.iter().map(ToString::to_string).collect(),
    }
}

fn connect_message(request: &ConnectRequest<'_>) -> pb::ConnectRequest {
    pb::ConnectRequest {
        token: request.token.to_string(),
        data: request.data.to_vec(),
        subs: request.subs.iter().map(|(channel, it)| (channel.to_string(), subscribe_message(it))).collect(),
        name: request.name.to_string(),
        version: request.version.to_string(),
        headers: request.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

fn subscribe_message(request: &SubscribeRequest<'_>) -> pb::SubscribeRequest {
    pb::SubscribeRequest {
        channel: request.channel.to_string(),
        token: request.token.to_string(),
        recover: request.recover,
        epoch: request.epoch.to_string(),
        offset: request.offset,
        data: request.data.to_vec(),
        positioned: request.positioned,
        recoverable: request.recoverable,
        join_leave: request.join_leave,
        delta: request.delta.to_string(),
        tf: request.tags_filter.as_deref().map(filter_message),
        flag: request.flag,
        type_: request.kind,
        phase: request.phase,
        cursor: request.cursor.to_string(),
        limit: request.limit,
        asc: request.asc,
        conflation: request.conflation,
    }
}

fn filter_message(node: &FilterNode<'_>) -> pb::FilterNode {
    pb::FilterNode {
        op: node.op.to_string(),
        key: node.key.to_string(),
        cmp: node.cmp.to_string(),
        val: node.val.to_string(),
        vals: node.vals.iter().map(ToString::to_string).collect(),
        nodes: node.nodes.iter().map(filter_message).collect(),
    }
}

#[test]
fn commands() {
    arbtest::arbtest(|u| {
        let parts = any::parts(u)?;
        let mut command = any::command(u, &parts)?;
        let message = command_message(&command);
        for protocol in [Protocol::Json, Protocol::Protobuf] {
            let mut frame = Vec::new();
            encode_command(protocol, &command, &mut frame);
            assert_eq!(only(decode(protocol, &frame)), Ok(command.clone()), "{frame:?}");
            let theirs: pb::Command = match protocol {
                Protocol::Json => serde_json::from_slice(&frame).unwrap(),
                Protocol::Protobuf => pb::Command::decode(delimited(&frame)).unwrap(),
            };
            assert_eq!(theirs, message);
        }
        // What they write we read. Maps lose their order there.
        if let Request::Connect(request) = &mut command.request {
            request.subs.sort_by(|one, other| one.0.cmp(&other.0));
            request.headers.sort();
        }
        let frame = serde_json::to_vec(&message).unwrap();
        assert_eq!(only(decode(Protocol::Json, &frame)), Ok(command.clone()));
        let frame = message.encode_length_delimited_to_vec();
        assert_eq!(only(decode(Protocol::Protobuf, &frame)), Ok(command));
        Ok(())
    });
}

fn info_message(info: &ClientInfo) -> pb::ClientInfo {
    pb::ClientInfo {
        user: info.user.to_string(),
        client: info.client.to_string(),
        conn_info: info.conn_info.as_deref().unwrap_or_default().to_vec(),
        chan_info: info.chan_info.as_deref().unwrap_or_default().to_vec(),
    }
}

fn publication_message(publication: &Publication, epoch: &str) -> pb::Publication {
    let extra = publication.extra.as_deref().cloned().unwrap_or_default();
    pb::Publication {
        data: publication.data.to_vec(),
        info: publication.info.as_deref().map(info_message),
        offset: publication.offset,
        tags: publication.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        channel: extra.channel.as_deref().unwrap_or_default().into(),
        key: extra.key.into(),
        removed: extra.removed,
        score: extra.score,
        epoch: epoch.into(),
        version: extra.version,
    }
}

fn listed(publications: &[Arc<Publication>], epoch: &str) -> Vec<pb::Publication> {
    publications.iter().map(|it| publication_message(it, if it.offset == 1 { epoch } else { "" })).collect()
}

fn subscribe_result_message(it: &SubscribeResult<'_>) -> pb::SubscribeResult {
    pb::SubscribeResult {
        expires: it.expires,
        ttl: it.ttl,
        recoverable: it.recoverable,
        epoch: it.epoch.into(),
        publications: listed(it.publications, it.epoch),
        recovered: it.recovered,
        offset: it.offset,
        positioned: it.positioned,
        data: it.data.to_vec(),
        was_recovering: it.was_recovering,
        id: it.number.into(),
        type_: it.kind,
        phase: it.phase,
        cursor: it.cursor.into(),
        state: listed(it.state, it.epoch),
        publish_debounce: it.publish_debounce,
        conflation: it.conflation,
    }
}

fn connect_result_message(it: &ConnectResult<'_>) -> pb::ConnectResult {
    pb::ConnectResult {
        client: it.client.to_string(),
        version: it.version.into(),
        expires: it.expires,
        ttl: it.ttl,
        data: it.data.to_vec(),
        subs: it
            .subs
            .iter()
            .map(|(channel, it)| (channel.to_string(), subscribe_result_message(it)))
            .collect(),
        ping: it.ping,
        pong: it.pong,
        session: it.session.into(),
        node: it.node.into(),
        time: it.time_ms.cast_signed(),
    }
}

fn connect_push_message(it: &ConnectResult<'_>) -> pb::Connect {
    let pb::ConnectResult { client, version, expires, ttl, data, subs, ping, pong, session, node, time } =
        connect_result_message(it);
    pb::Connect { client, version, expires, ttl, data, subs, ping, pong, session, node, time }
}

fn reply_message(id: u32, reply: &Reply<'_>) -> pb::Reply {
    let mut it = pb::Reply { id, ..Default::default() };
    match *reply {
        Reply::Error(code) => {
            let (code, message, temporary) = code.parts();
            it.error = Some(pb::Error { code, message: message.into(), temporary });
        }
        Reply::CustomError { code, message, temporary } => {
            it.error = Some(pb::Error { code, message: message.into(), temporary });
        }
        Reply::Connect(result) => it.connect = Some(connect_result_message(result)),
        Reply::Subscribe(result) => it.subscribe = Some(subscribe_result_message(result)),
        Reply::Unsubscribe => it.unsubscribe = Some(pb::Empty {}),
        Reply::Publish => it.publish = Some(pb::Empty {}),
        Reply::Ping => it.ping = Some(pb::Empty {}),
        Reply::Presence(clients) => {
            let presence = clients.iter().map(|it| (it.client.to_string(), info_message(it))).collect();
            it.presence = Some(pb::PresenceResult { presence });
        }
        Reply::PresenceStats { clients, users } => {
            it.presence_stats = Some(pb::PresenceStatsResult { num_clients: clients, num_users: users });
        }
        Reply::History { publications, offset, epoch } => {
            it.history = Some(pb::HistoryResult {
                publications: listed(publications, epoch),
                epoch: epoch.into(),
                offset,
            });
        }
        Reply::Rpc { data } => it.rpc = Some(pb::Payload { data: data.to_vec() }),
        Reply::Refresh { expires, ttl } => it.refresh = Some(pb::RefreshResult { expires, ttl }),
        Reply::SubRefresh { expires, ttl, items } => {
            it.sub_refresh = Some(pb::SubRefreshResult { expires, ttl, items: listed(items, "") });
        }
    }
    it
}

fn push_message(channel: &str, push: &Push<'_>) -> pb::Reply {
    let mut it = pb::Push { channel: channel.into(), ..Default::default() };
    match push {
        Push::Publication { publication, epoch } => it.pub_ = Some(publication_message(publication, epoch)),
        Push::Patched { .. } => unreachable!("see `deltas`"),
        Push::Join(info) => it.join = Some(pb::Join { info: Some(info_message(info)) }),
        Push::Leave(info) => it.leave = Some(pb::Join { info: Some(info_message(info)) }),
        Push::Unsubscribe(reason) => {
            it.unsubscribe = Some(pb::Unsubscribe { code: reason.code, reason: reason.reason.into() });
        }
        Push::Subscribe { recoverable, positioned, epoch, offset, data } => {
            it.subscribe = Some(pb::Subscribe {
                recoverable: *recoverable,
                epoch: epoch.to_string(),
                offset: *offset,
                positioned: *positioned,
                data: data.to_vec(),
            });
        }
        Push::Message { data } => it.message = Some(pb::Payload { data: data.to_vec() }),
        Push::Connect(result) => it.connect = Some(connect_push_message(result)),
        Push::Disconnect { code, reason } => {
            it.disconnect = Some(pb::Disconnect { code: *code, reason: reason.to_string() });
        }
        Push::Refresh { expires, ttl } => {
            it.refresh = Some(pb::SubRefreshResult { expires: *expires, ttl: *ttl, items: vec![] });
        }
    }
    pb::Reply { push: Some(it), ..Default::default() }
}

/// What prost, serde and our own client side read from a frame of ours.
#[track_caller]
fn check(protocol: Protocol, frame: &[u8], want: &pb::Reply) {
    let theirs: pb::Reply = match protocol {
        Protocol::Json => {
            assert!(!frame.contains(&b'\n'));
            serde_json::from_slice(frame).unwrap()
        }
        Protocol::Protobuf => pb::Reply::decode(delimited(frame)).unwrap(),
    };
    assert_eq!(&theirs, want, "{}", String::from_utf8_lossy(frame));
    assert_eq!(back(only(decode_replies(protocol, frame)).unwrap()), theirs);
}

#[test]
fn replies() {
    arbtest::arbtest(|u| {
        let parts = any::parts(u)?;
        let subs = [("one", any::subscribe_result(u, &parts)?), ("", any::subscribe_result(u, &parts)?)];
        let first = u.int_in_range(0..=2)?;
        let connect = any::connect_result(u, &parts, &subs[first..])?;
        let reply = any::reply(u, &parts, &connect, &subs[0].1)?;
        let id = u.arbitrary::<u32>()?.max(1);
        for protocol in [Protocol::Json, Protocol::Protobuf] {
            let mut frame = Vec::new();
            encode_reply(protocol, id, &reply, &mut frame);
            check(protocol, &frame, &reply_message(id, &reply));
        }
        Ok(())
    });
}

#[test]
fn pushes() {
    arbtest::arbtest(|u| {
        let parts = any::parts(u)?;
        let push = any::push(u, &parts)?;
        for protocol in [Protocol::Json, Protocol::Protobuf] {
            let mut frame = Vec::new();
            encode_push(protocol, &parts.text[3], &push, &mut frame);
            check(protocol, &frame, &push_message(&parts.text[3], &push));
        }
        Ok(())
    });
}

/// What the client side read, as the message it came from.
fn back(message: ServerMessage<'_>) -> pb::Reply {
    match message {
        ServerMessage::Ping => pb::Reply::default(),
        ServerMessage::NumberedPush { .. } => unreachable!("see `deltas`"),
        ServerMessage::Reply { id, reply } => pb::Reply { id, ..back_reply(reply) },
        ServerMessage::Push { channel, push } => pb::Reply {
            push: Some(pb::Push { channel: channel.into(), ..back_push(push) }),
            ..Default::default()
        },
    }
}

fn back_reply(reply: ServerReply<'_>) -> pb::Reply {
    let mut it = pb::Reply::default();
    match reply {
        ServerReply::Error { code, message, temporary } => {
            it.error = Some(pb::Error { code, message: message.into(), temporary });
        }
        ServerReply::Connect(result) => {
            it.connect = Some(pb::ConnectResult {
                client: result.client.into(),
                version: result.version.into(),
                expires: result.expires,
                ttl: result.ttl,
                data: result.data.to_vec(),
                subs: result
                    .subs
                    .into_iter()
                    .map(|(channel, it)| (channel.into(), back_subscribed(it)))
                    .collect(),
                ping: result.ping,
                pong: result.pong,
                session: result.session.into(),
                node: result.node.into(),
                time: result.time_ms.cast_signed(),
            });
        }
        ServerReply::Subscribe(result) => it.subscribe = Some(back_subscribed(*result)),
        ServerReply::Unsubscribe => it.unsubscribe = Some(pb::Empty {}),
        ServerReply::Publish => it.publish = Some(pb::Empty {}),
        ServerReply::Presence(clients) => {
            let presence = clients.into_iter().map(|(id, info)| (id.into(), back_info(info))).collect();
            it.presence = Some(pb::PresenceResult { presence });
        }
        ServerReply::PresenceStats { clients, users } => {
            it.presence_stats = Some(pb::PresenceStatsResult { num_clients: clients, num_users: users });
        }
        ServerReply::History { publications, offset, epoch } => {
            let publications = publications.into_iter().map(back_publication).collect();
            it.history = Some(pb::HistoryResult { publications, epoch: epoch.into(), offset });
        }
        ServerReply::Rpc { data } => it.rpc = Some(pb::Payload { data: data.to_vec() }),
        ServerReply::Refresh { expires, ttl } => it.refresh = Some(pb::RefreshResult { expires, ttl }),
        ServerReply::SubRefresh { expires, ttl, items } => {
            let items = items.into_iter().map(back_publication).collect();
            it.sub_refresh = Some(pb::SubRefreshResult { expires, ttl, items });
        }
    }
    it
}

fn back_push(push: ServerPush<'_>) -> pb::Push {
    let mut it = pb::Push::default();
    match push {
        ServerPush::Publication(publication) => it.pub_ = Some(back_publication(publication)),
        ServerPush::Join(info) => it.join = Some(pb::Join { info: Some(back_info(info)) }),
        ServerPush::Leave(info) => it.leave = Some(pb::Join { info: Some(back_info(info)) }),
        ServerPush::Unsubscribe { code, reason } => {
            it.unsubscribe = Some(pb::Unsubscribe { code, reason: reason.into() });
        }
        ServerPush::Subscribe { recoverable, positioned, epoch, offset, data } => {
            let data = data.to_vec();
            it.subscribe = Some(pb::Subscribe { recoverable, epoch: epoch.into(), offset, positioned, data });
        }
        ServerPush::Message { data } => it.message = Some(pb::Payload { data: data.to_vec() }),
        ServerPush::Disconnect { code, reason } => {
            it.disconnect = Some(pb::Disconnect { code, reason: reason.into() });
        }
        ServerPush::Refresh { expires, ttl } => {
            it.refresh = Some(pb::SubRefreshResult { expires, ttl, items: vec![] });
        }
        ServerPush::Other => panic!("a push of ours that our client does not know"),
    }
    it
}

fn back_subscribed(it: crate::wire::client::Subscribed<'_>) -> pb::SubscribeResult {
    pb::SubscribeResult {
        expires: it.expires,
        ttl: it.ttl,
        recoverable: it.recoverable,
        epoch: it.epoch.into(),
        publications: it.publications.into_iter().map(back_publication).collect(),
        recovered: it.recovered,
        offset: it.offset,
        positioned: it.positioned,
        data: it.data.to_vec(),
        was_recovering: it.was_recovering,
        id: it.number.cast_signed(),
        type_: it.kind,
        phase: it.phase,
        cursor: it.cursor.into(),
        state: it.state.into_iter().map(back_publication).collect(),
        publish_debounce: it.publish_debounce,
        conflation: it.conflation,
    }
}

fn back_publication(it: crate::wire::client::Received<'_>) -> pb::Publication {
    pb::Publication {
        data: it.data.to_vec(),
        info: it.info.map(back_info),
        offset: it.offset,
        tags: it.tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        channel: it.channel.into(),
        key: it.key.into(),
        removed: it.removed,
        score: it.score,
        epoch: it.epoch.into(),
        version: it.version,
    }
}

fn back_info(it: crate::wire::client::PeerInfo<'_>) -> pb::ClientInfo {
    pb::ClientInfo {
        user: it.user.into(),
        client: it.client.into(),
        conn_info: it.conn_info.to_vec(),
        chan_info: it.chan_info.to_vec(),
    }
}
