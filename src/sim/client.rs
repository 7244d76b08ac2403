//! One client: what it sends, what it believes, and what it checks of everything it is told.

use super::{
    Coverage, knobs,
    truth::{self, Truth},
};
use crate::{
    model::{ConnKey, Protocol},
    wire::client::{
        self, Command, HistoryRequest, PublishRequest, Request, SubscribeRequest,
        {Received, ServerMessage, ServerPush, ServerReply, Subscribed},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// What a command is waiting for.
#[derive(Debug, Clone)]
pub enum Expect {
    Connect,
    Subscribe { channel: String, recover: Option<(String, u64)> },
    Unsubscribe { channel: String },
    Publish,
    Presence,
    PresenceStats,
    History,
    Rpc,
}

/// A live subscription as its client sees it.
#[derive(Debug, Default)]
pub struct Sub {
    pub epoch: String,
    pub offset: u64,
    pub server_side: bool,
    /// Unsubscribe was sent: publications may still come until the reply.
    pub leaving: bool,
    /// Last number seen of each publisher.
    numbers: BTreeMap<usize, u64>,
    present: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Client {
    pub index: usize,
    pub protocol: Protocol,
    /// The connection, while there is one: its core and key.
    pub at: Option<(usize, ConnKey)>,
    pub incarnation: usize,
    pub id: String,
    pub connected: bool,
    /// Bytes in the socket, not read yet.
    pub socket: Vec<u8>,
    pub stalled: bool,
    /// Does not answer pings.
    pub silent: bool,
    /// What this connection did that allows the server to cut it.
    pub was_stalled: bool,
    pub was_rude: bool,
    buffer: Vec<u8>,
    pub outstanding: BTreeMap<u32, Expect>,
    next_id: u32,
    pub subs: BTreeMap<String, Sub>,
    /// Where the last subscription to a channel ended: recovery starts here.
    pub memory: BTreeMap<String, (String, u64)>,
    /// What to send next.
    pub outgoing: Vec<u8>,
    pub closed: Option<u16>,
}

impl Client {
    pub fn new(index: usize, protocol: Protocol) -> Self {
        Self {
            index,
            protocol,
            at: None,
            incarnation: 0,
            id: String::new(),
            connected: false,
            socket: Vec::new(),
            stalled: false,
            silent: false,
            was_stalled: false,
            was_rude: false,
            buffer: Vec::new(),
            outstanding: BTreeMap::new(),
            next_id: 1,
            subs: BTreeMap::new(),
            memory: BTreeMap::new(),
            outgoing: Vec::new(),
            closed: None,
        }
    }

    /// The connection is gone, for whatever reason: the positions are what remains.
    pub fn lost(&mut self) {
        for (channel, sub) in std::mem::take(&mut self.subs) {
            if knobs::is_positioned(&channel) {
                self.memory.insert(channel, (sub.epoch, sub.offset));
            }
        }
        self.at = None;
        self.connected = false;
        self.socket.clear();
        self.buffer.clear();
        self.outstanding.clear();
        self.outgoing.clear();
        self.stalled = false;
        self.silent = false;
        self.was_stalled = false;
        self.was_rude = false;
        self.closed = None;
    }

    /// Adds a command to what is sent next, in one message with what is there.
    fn command(&mut self, request: Request<'_>, expect: Expect) {
        let id = self.next_id;
        self.next_id += 1;
        self.outstanding.insert(id, expect);
        client::separate(self.protocol, &mut self.outgoing, 0);
        client::encode_command(self.protocol, &Command { id, request }, &mut self.outgoing);
    }

    pub fn connect(&mut self, core: usize, conn: ConnKey) {
        self.at = Some((core, conn));
        self.incarnation += 1;
        self.command(Request::Connect(Box::default()), Expect::Connect);
    }

    pub fn subscribe(&mut self, channel: &str, recover: bool, flag: i64) {
        let recover = recover.then(|| self.memory.get(channel).cloned()).flatten();
        let (epoch, offset) = recover.clone().unwrap_or_default();
        let request = SubscribeRequest {
            channel: channel.into(),
            recover: recover.is_some(),
            epoch: epoch.into(),
            offset,
            flag,
            ..SubscribeRequest::default()
        };
        self.command(
            Request::Subscribe(Box::new(request)),
            Expect::Subscribe { channel: channel.into(), recover },
        );
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        if let Some(sub) = self.subs.get_mut(channel) {
            sub.leaving = true;
        }
        let request = Request::Unsubscribe { channel: channel.into() };
        self.command(request, Expect::Unsubscribe { channel: channel.into() });
    }

    pub fn publish(&mut self, channel: &str, truth: &mut Truth, filler: usize) {
        let data = truth.payload(channel, self.index * 1000 + self.incarnation, filler);
        let request =
            Request::Publish(PublishRequest { channel: channel.into(), data: Some(&data), kind: 0 });
        self.command(request, Expect::Publish);
    }

    pub fn ask(&mut self, channel: &str, what: u64) {
        match what {
            0 => self.command(Request::Presence { channel: channel.into() }, Expect::Presence),
            1 => self.command(Request::PresenceStats { channel: channel.into() }, Expect::PresenceStats),
            2 => {
                let request =
                    HistoryRequest { channel: channel.into(), limit: 5, ..HistoryRequest::default() };
                self.command(Request::History(request), Expect::History);
            }
            _ => self.command(Request::Rpc { method: "x".into(), data: b"{}" }, Expect::Rpc),
        }
    }

    /// Reads what is in the socket: whole frames, in order.
    pub fn read(&mut self, truth: &mut Truth, coverage: &mut Coverage) {
        self.buffer.append(&mut self.socket);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while let Some((opcode, payload, after)) = frame(rest) {
            rest = after;
            assert_eq!(self.closed, None, "client {}: bytes after the close frame", self.index);
            match opcode {
                8 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    self.closed = Some(code);
                    *coverage.entry(format!("close: {code}")).or_default() += 1;
                    self.check_close(code);
                }
                _ => {
                    assert_eq!(opcode, if self.protocol == Protocol::Json { 1 } else { 2 });
                    for message in client::decode_replies(self.protocol, payload) {
                        let message = message.unwrap_or_else(|error| {
                            panic!("client {}: {error}: {}", self.index, String::from_utf8_lossy(payload))
                        });
                        self.on_message(message, truth, coverage);
                    }
                }
            }
        }
        self.buffer = rest.to_vec();
    }

    fn check_close(&self, code: u16) {
        let allowed = match code {
            3008 | 3009 | 3012 => self.was_stalled || (code == 3012 && self.silent),
            3501 => self.was_rude,
            // A server-side subscription that lost publications, or the server API.
            3010 => self.subs.values().any(|sub| sub.server_side),
            4500 => true,
            _ => false,
        };
        assert!(allowed, "client {}: closed with {code}: {self:?}", self.index);
    }

    fn on_message(&mut self, message: ServerMessage<'_>, truth: &mut Truth, coverage: &mut Coverage) {
        match message {
            ServerMessage::Ping => {
                if !self.silent {
                    client::separate(self.protocol, &mut self.outgoing, 0);
                    self.outgoing.extend_from_slice(client::ping(self.protocol));
                }
            }
            ServerMessage::Reply { id, reply } => {
                let expect = self.outstanding.remove(&id);
                let expect = expect
                    .unwrap_or_else(|| panic!("client {}: reply {id} to nothing: {reply:?}", self.index));
                self.on_reply(expect, reply, truth, coverage);
            }
            ServerMessage::Push { channel, push } => self.on_push(&channel, push, truth, coverage),
        }
    }

    fn on_reply(
        &mut self,
        expect: Expect,
        reply: ServerReply<'_>,
        truth: &mut Truth,
        coverage: &mut Coverage,
    ) {
        match (expect, reply) {
            (Expect::Connect, ServerReply::Connect(result)) => {
                self.connected = true;
                self.id = result.client.into_owned();
            }
            (expect, ServerReply::Error { code, .. }) => {
                *coverage.entry(format!("reply: error {code}")).or_default() += 1;
                if let Expect::Subscribe { channel, .. } = &expect
                    && code == 112
                {
                    self.memory.remove(channel);
                }
                assert!(
                    !matches!(expect, Expect::Connect | Expect::Unsubscribe { .. }),
                    "{expect:?}: {code}"
                );
            }
            (Expect::Subscribe { channel, recover }, ServerReply::Subscribe(result)) => {
                self.on_subscribed(&channel, recover, &result, truth, coverage);
            }
            (Expect::Unsubscribe { channel }, ServerReply::Unsubscribe) => {
                if let Some(sub) = self.subs.remove(&channel)
                    && knobs::is_positioned(&channel)
                {
                    self.memory.insert(channel, (sub.epoch, sub.offset));
                }
            }
            (Expect::History, ServerReply::History { publications, offset, epoch }) => {
                assert!(publications.iter().all(|publication| publication.offset <= offset), "{epoch}");
            }
            (Expect::PresenceStats, ServerReply::PresenceStats { clients, users }) => {
                assert!(users <= clients)
            }
            (Expect::Publish, ServerReply::Publish) | (Expect::Presence, ServerReply::Presence(_)) => {}
            (expect, reply) => panic!("client {}: {expect:?} answered by {reply:?}", self.index),
        }
    }

    fn on_subscribed(
        &mut self,
        channel: &str,
        recover: Option<(String, u64)>,
        result: &Subscribed<'_>,
        truth: &mut Truth,
        coverage: &mut Coverage,
    ) {
        assert!(!self.subs.contains_key(channel), "client {}: subscribed to {channel} twice", self.index);
        assert_eq!(result.positioned, knobs::is_positioned(channel), "{channel}");
        assert_eq!(result.was_recovering, recover.is_some() && result.recoverable, "{channel}");
        let sub = Sub { epoch: result.epoch.clone().into_owned(), offset: result.offset, ..Sub::default() };
        if result.recovered {
            let (epoch, offset) = recover.expect("recovered without having asked");
            assert_eq!(
                (epoch.as_str(), offset),
                (sub.epoch.as_str(), sub.offset),
                "recovery starts where asked"
            );
        } else {
            assert!(result.publications.is_empty(), "not recovered, but publications");
        }
        if result.was_recovering {
            let name = if result.recovered { "reply: recovered" } else { "reply: not recovered" };
            *coverage.entry(name.into()).or_default() += 1;
        }
        self.subs.insert(channel.into(), sub);
        for publication in &result.publications {
            self.on_publication(channel, publication, truth);
        }
    }

    fn on_push(&mut self, channel: &str, push: ServerPush<'_>, truth: &mut Truth, coverage: &mut Coverage) {
        match push {
            ServerPush::Publication(publication) => self.on_publication(channel, &publication, truth),
            ServerPush::Join(info) => {
                let sub = self.live(channel, "join");
                sub.present.insert(info.client.into_owned());
            }
            ServerPush::Leave(info) => {
                self.live(channel, "leave").present.remove(&*info.client);
            }
            ServerPush::Unsubscribe { code, .. } => {
                *coverage.entry(format!("push: unsubscribe {code}")).or_default() += 1;
                let sub = self.subs.remove(channel);
                let sub = sub.unwrap_or_else(|| {
                    panic!("client {}: unsubscribed from {channel}, not subscribed", self.index)
                });
                if knobs::is_positioned(channel) {
                    self.memory.insert(channel.into(), (sub.epoch, sub.offset));
                }
            }
            ServerPush::Subscribe { epoch, offset, .. } => {
                let sub = Sub { epoch: epoch.into_owned(), offset, server_side: true, ..Sub::default() };
                let before = self.subs.insert(channel.into(), sub);
                assert!(before.is_none(), "client {}: pushed into {channel} twice", self.index);
            }
            other => panic!("client {}: {other:?}", self.index),
        }
    }

    #[track_caller]
    fn live(&mut self, channel: &str, what: &str) -> &mut Sub {
        let index = self.index;
        self.subs
            .get_mut(channel)
            .unwrap_or_else(|| panic!("client {index}: {what} of {channel}, not subscribed"))
    }

    /// Every offset once and in order; what stands there is the same for everybody.
    fn on_publication(&mut self, channel: &str, publication: &Received<'_>, truth: &mut Truth) {
        let index = self.index;
        let sub = self.live(channel, "publication");
        if publication.offset > 0 {
            assert_eq!(publication.offset, sub.offset + 1, "client {index}: {channel} after {}", sub.offset);
            sub.offset = publication.offset;
        }
        let (publisher, number) = truth::parse(publication.data);
        let before = sub.numbers.insert(publisher, number);
        assert!(before < Some(number), "client {index}: {channel}: {number} after {before:?} of {publisher}");
        let epoch = sub.epoch.clone();
        truth.told(channel, &epoch, publication.offset, publication.data);
    }
}

/// Opcode, payload and rest of the first whole frame of a server.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    assert!(first & 0xf0 == 0x80 && second & 0x80 == 0, "one whole unmasked frame");
    let (len, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*len) as usize, rest)
        }
        len => (usize::from(len), rest),
    };
    let (payload, after) = rest.split_at_checked(len)?;
    Some((first & 0xf, payload, after))
}
