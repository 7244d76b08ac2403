//! What a client checks of everything it is told.

use super::{
    Coverage,
    client::{Client, Expect, Sub, Wish},
    filter::Filter,
    knobs, maps,
    truth::{self, Truth, Wants},
};
use crate::{
    model::Protocol,
    wire::{
        client::{self, Received, ServerMessage, ServerPush, ServerReply, Subscribed},
        fossil,
        json::is_json,
    },
};

impl Client {
    /// Reads what is in the socket: whole frames, in order.
    pub fn read(&mut self, truth: &mut Truth, coverage: &mut Coverage) {
        if let Some(framing) = self.emulation.as_ref().map(|emulation| emulation.framing) {
            return self.read_body(framing, truth, coverage);
        }
        self.buffer.append(&mut self.socket);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while let Some((first, payload, after)) = frame(rest) {
            rest = after;
            let (opcode, deflated) = (first & 0xf, first & 0x40 != 0);
            assert_eq!(self.closed, None, "client {}: bytes after the close frame", self.index);
            match opcode {
                8 => {
                    self.was_closed(u16::from_be_bytes([payload[0], payload[1]]), coverage);
                }
                9 => {
                    assert!(self.websocket_pings, "client {}: a WebSocket ping", self.index);
                    *coverage.entry("ping: WebSocket".into()).or_default() += 1;
                    self.pongs += usize::from(!self.silent);
                }
                _ => {
                    assert_eq!(opcode, if self.protocol == Protocol::Json { 1 } else { 2 });
                    let inflated = deflated.then(|| {
                        assert!(self.deflates, "client {}: a compressed message", self.index);
                        *coverage.entry("message: compressed".into()).or_default() += 1;
                        let inflated = self.inflater.inflate(payload, 1 << 24).expect("DEFLATE");
                        assert!(inflated.len() > payload.len(), "compressed and not shorter");
                        inflated.to_vec()
                    });
                    let payload = inflated.as_deref().unwrap_or(payload);
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

    fn was_closed(&mut self, code: u16, coverage: &mut Coverage) {
        self.closed = Some(code);
        *coverage.entry(format!("close: {code}")).or_default() += 1;
        self.check_close(code);
    }

    fn check_close(&self, code: u16) {
        let comes = |expect: &Expect| matches!(expect, Expect::Connect { subs } if !subs.is_empty());
        let comes_with_connect = self.outstanding.values().any(comes);
        let allowed = match code {
            3008 | 3009 | 3012 => self.was_stalled || (code == 3012 && self.silent),
            3501 => self.was_rude,
            // Requests come however much waits.
            3013 => self.emulation.is_some(),
            // A server-side subscription that lost publications, or did while it waited for others.
            3010 => self.subs.values().any(|sub| sub.server_side) || comes_with_connect,
            // Another session of its user, or too many of them.
            3504 => self.may_be_displaced,
            3000 => self.refused,
            // The channel of its user, or one it wished for, could not be had in time.
            3004 => (!self.user.is_empty() && !self.connected) || comes_with_connect,
            // The server API said that its time is over.
            3005 => true,
            // The server API, and the end of the server.
            4500 | 3001 => true,
            _ => false,
        };
        assert!(allowed, "client {}: closed with {code}: {self:?}", self.index);
    }

    pub(super) fn on_message(
        &mut self,
        message: ServerMessage<'_>,
        truth: &mut Truth,
        coverage: &mut Coverage,
    ) {
        match message {
            ServerMessage::Ping => {
                assert!(!self.websocket_pings, "client {}: a ping of the protocol", self.index);
                *coverage.entry("ping: protocol".into()).or_default() += 1;
                if !self.silent {
                    self.pong();
                }
            }
            ServerMessage::Reply { id, reply } => {
                let expect = self.outstanding.remove(&id);
                let expect = expect
                    .unwrap_or_else(|| panic!("client {}: reply {id} to nothing: {reply:?}", self.index));
                self.on_reply(expect, reply, truth, coverage);
            }
            ServerMessage::Push { channel, push } => {
                let named =
                    !matches!(push, ServerPush::Publication(_) | ServerPush::Join(_) | ServerPush::Leave(_));
                let number = self.subs.get(&*channel).map_or(0, |sub| sub.number);
                assert!(named || number == 0, "client {}: {channel} has a number", self.index);
                self.on_push(&channel, push, truth, coverage);
            }
            ServerMessage::NumberedPush { number, push } => {
                *coverage.entry("push: numbered".into()).or_default() += 1;
                let channel = self.subs.iter().find(|(_, sub)| sub.number == number);
                let channel = channel.map(|(channel, _)| channel.clone());
                let channel = channel.unwrap_or_else(|| panic!("client {}: number {number}", self.index));
                self.on_push(&channel, push, truth, coverage);
            }
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
            (Expect::Connect { mut subs }, ServerReply::Connect(result)) => {
                let result = *result;
                self.connected = true;
                self.id = result.client.into_owned();
                for (channel, told) in &result.subs {
                    let Some((recover, wish)) = subs.remove(&**channel) else {
                        assert!(channel.contains('#'), "client {}: {channel} uninvited", self.index);
                        continue;
                    };
                    let name = if told.recovered && recover.is_some() { "recovered" } else { "subscribed" };
                    *coverage.entry(format!("connect: {name}")).or_default() += 1;
                    self.on_subscribed(channel, recover, wish, told, truth, coverage);
                }
                assert!(subs.is_empty(), "client {}: connected without {subs:?}", self.index);
                match &mut self.emulation {
                    Some(emulation) => emulation.session = result.session.into_owned(),
                    None => assert_eq!(result.session, "", "client {}: a session to be named", self.index),
                }
            }
            // The owner of its user did not answer in time: it may try again.
            (Expect::Connect { .. }, ServerReply::Error { code: 100, .. }) => {
                assert!(!self.user.is_empty(), "client {}: nobody was asked", self.index);
                *coverage.entry("reply: connect refused".into()).or_default() += 1;
                self.refused = true;
            }
            (expect, ServerReply::Error { code, .. }) => {
                *coverage.entry(format!("reply: error {code}")).or_default() += 1;
                match &expect {
                    Expect::Subscribe { channel, .. } if code == 112 => drop(self.memory.remove(channel)),
                    Expect::Map { channel, asked } => self.maps.refused(channel, asked, code, coverage),
                    _ => {}
                }
                assert!(
                    !matches!(expect, Expect::Connect { .. } | Expect::Unsubscribe { .. }),
                    "{expect:?}: {code}"
                );
            }
            (Expect::Subscribe { channel, recover, lie, wish }, ServerReply::Subscribe(result)) => {
                let believed = lie && result.recovered && !knobs::is_cache(&channel);
                assert!(!believed, "client {}: {channel}: a lie was believed", self.index);
                self.on_subscribed(&channel, recover, wish, &result, truth, coverage);
            }
            (Expect::Map { channel, asked }, ServerReply::Subscribe(result)) => {
                let mut told = std::mem::take(&mut truth.maps);
                let next = self.maps.told(&channel, &asked, &result, (&mut told, truth, coverage));
                truth.maps = told;
                next.into_iter().for_each(|asked| self.go_on(&channel, asked));
            }
            (Expect::UnsubscribeMap { channel }, ServerReply::Unsubscribe) => {
                self.maps.unsubscribed(&channel);
            }
            (Expect::SetEntry { channel, number }, ServerReply::Publish) => {
                self.maps.acknowledged(&channel, number);
            }
            (Expect::Unsubscribe { channel }, ServerReply::Unsubscribe) => {
                if let Some(sub) = self.subs.remove(&channel) {
                    self.ended(&channel, sub);
                }
            }
            (
                Expect::History { channel, limit, since, reverse },
                ServerReply::History { publications, offset, epoch },
            ) => {
                self.on_history(&channel, (limit, since, reverse), &publications, (offset, &epoch), truth);
            }
            (Expect::PresenceStats { channel, serial }, ServerReply::PresenceStats { clients, users }) => {
                assert!(users <= clients);
                assert!(!self.is_still(&channel, serial) || clients > 0, "{channel}: nobody is there");
            }
            (Expect::Presence { channel, serial }, ServerReply::Presence(clients)) => {
                let myself = clients.iter().any(|(client, _)| *client == self.id);
                assert!(!self.is_still(&channel, serial) || myself, "{channel}: not there myself");
            }
            (Expect::Publish { channel, number, serial }, ServerReply::Publish) => {
                if self.is_still(&channel, serial)
                    && let Some(sub) = self.subs.get_mut(&channel)
                {
                    assert!(sub.acknowledged < number, "{channel}: publishes acknowledged out of order");
                    sub.acknowledged = number;
                }
            }
            (expect, reply) => panic!("client {}: {expect:?} answered by {reply:?}", self.index),
        }
    }

    /// Is the subscription the one it was then?
    fn is_still(&self, channel: &str, serial: Option<u64>) -> bool {
        serial.is_some() && self.subs.get(channel).map(|sub| sub.serial) == serial
    }

    /// A subscription is over and nothing was declared lost: what the owner took from this client before its
    /// end has come back. Where it ended is where recovery starts.
    fn ended(&mut self, channel: &str, sub: Sub) {
        if knobs::is_positioned(channel) {
            self.memory.insert(channel.into(), (sub.epoch, sub.offset));
        }
        if !knobs::has_history(channel) {
            return;
        }
        // What clients publish has no tags.
        if sub.filter.is_some_and(|filter| !filter.passes("")) || sub.no_echo || sub.conflates {
            return;
        }
        let seen = sub.numbers.get(&(self.publisher(), None)).copied().unwrap_or(0);
        assert!(
            seen >= sub.acknowledged,
            "client {}: {channel}: {} was acknowledged, only {seen} came",
            self.index,
            sub.acknowledged
        );
    }

    /// Publications as asked for: how many, from where, in which order; and the same for everybody.
    fn on_history(
        &self,
        channel: &str,
        (limit, since, reverse): (i32, Option<(u64, String)>, bool),
        publications: &[Received<'_>],
        (top, epoch): (u64, &str),
        truth: &mut Truth,
    ) {
        assert!(limit < 0 || publications.len() <= limit as usize, "{channel}: more than {limit}");
        if let Some((_, asked)) = &since {
            assert!(asked.is_empty() || asked == epoch, "{channel}: history of another stream");
        }
        let mut before = match (&since, reverse) {
            (Some((offset, _)), _) => *offset,
            (None, true) => top + 1,
            (None, false) => 0,
        };
        let begins_anywhere = !reverse || before > top;
        for (index, publication) in publications.iter().enumerate() {
            let offset = publication.offset;
            let range = if reverse { offset + 1..before } else { before + 1..offset };
            assert!(offset <= top && range.start <= range.end, "{channel}: {offset} after {before}");
            if index > 0 || !begins_anywhere {
                self.pass_over(channel, epoch, range, (None, false), truth);
            }
            truth.told(channel, epoch, offset, publication.data);
            before = offset;
        }
    }

    /// Offsets this client is not told of: what its filter does not want, and a JSON client what is not JSON.
    fn pass_over(
        &self,
        channel: &str,
        epoch: &str,
        offsets: std::ops::Range<u64>,
        (filter, no_echo): (Option<Filter>, bool),
        truth: &mut Truth,
    ) {
        for offset in offsets {
            if filter.is_some() || no_echo {
                let but = no_echo.then(|| self.publisher());
                let wants = Wants { filter, but, json: self.protocol == Protocol::Json };
                truth.unwanted(channel, epoch, offset, wants);
                continue;
            }
            assert_eq!(self.protocol, Protocol::Json, "client {}: {channel} without {offset}", self.index);
            truth.skipped(channel, epoch, offset);
        }
    }

    /// The end of a stream, when all has come to rest: everything up to it was told, or withheld.
    pub fn check_top(&self, channel: &str, (epoch, top): (&str, u64), truth: &mut Truth) {
        let Some(sub) = self.subs.get(channel) else { return };
        assert_eq!(sub.epoch, epoch, "client {} is in another stream of {channel}", self.index);
        assert!(sub.offset <= top, "client {} is ahead of {channel}", self.index);
        self.pass_over(channel, epoch, sub.offset + 1..top + 1, (sub.filter, sub.no_echo), truth);
    }

    fn on_subscribed(
        &mut self,
        channel: &str,
        recover: Option<(String, u64)>,
        wish: Wish,
        result: &Subscribed<'_>,
        truth: &mut Truth,
        coverage: &mut Coverage,
    ) {
        assert!(!self.subs.contains_key(channel), "client {}: subscribed to {channel} twice", self.index);
        assert_eq!(result.positioned, knobs::is_positioned(channel), "{channel}");
        let recovers = recover.is_some() || knobs::gives_unasked(channel);
        assert_eq!(result.was_recovering, recovers && result.recoverable, "{channel}");
        let variants = knobs::has_variants(channel);
        assert_eq!(result.delta, wish.delta && wish.filter.is_none() && variants, "{channel}");
        assert!(knobs::conflates(channel) || result.conflation == 0, "{channel}");
        assert_eq!(result.number > 0, wish.numbered && variants, "{channel}");
        assert!(result.number == 0 || self.subs.values().all(|sub| sub.number != result.number));
        let sub = Sub {
            delta: result.delta,
            filter: wish.filter,
            conflates: result.conflation > 0,
            no_echo: wish.no_echo,
            server_side: wish.with_connect,
            number: result.number,
            epoch: result.epoch.clone().into_owned(),
            offset: result.offset,
            serial: self.next_serial,
            ..Sub::default()
        };
        self.next_serial += 1;
        if result.recovered && knobs::is_cache(channel) {
            return self.on_latest(channel, sub, recover, &result.publications, truth, coverage);
        } else if result.recovered {
            let (epoch, offset) = recover.expect("recovered without having asked");
            assert_eq!(epoch, sub.epoch, "recovery in another stream");
            let picks = sub.filter.is_some() || sub.no_echo;
            let nothing_wanted = picks && result.publications.is_empty();
            assert!(offset == sub.offset || nothing_wanted, "recovery starts where asked");
            self.pass_over(channel, &epoch, offset + 1..sub.offset + 1, (sub.filter, sub.no_echo), truth);
        } else {
            assert!(result.publications.is_empty(), "not recovered, but publications");
            let nothing = sub.offset == 0 || !knobs::gives_unasked(channel);
            assert!(nothing, "client {}: {channel}: nothing of {}", self.index, sub.offset);
        }
        if result.was_recovering {
            let name = if result.recovered { "reply: recovered" } else { "reply: not recovered" };
            *coverage.entry(name.into()).or_default() += 1;
        }
        self.subs.insert(channel.into(), sub);
        for publication in &result.publications {
            self.on_publication(channel, publication, truth, coverage);
        }
    }

    /// Recovered is the publication at the top, and nothing else; who has it, or cannot be told, gets none.
    fn on_latest(
        &mut self,
        channel: &str,
        mut sub: Sub,
        recover: Option<(String, u64)>,
        publications: &[Received<'_>],
        truth: &mut Truth,
        coverage: &mut Coverage,
    ) {
        let top = sub.offset;
        let asked = recover.is_some();
        let has_it = recover.is_some_and(|(epoch, offset)| epoch == sub.epoch && offset == top);
        if publications.is_empty() && !has_it {
            self.pass_over(channel, &sub.epoch, top..top + 1, (sub.filter, sub.no_echo), truth);
        } else if !asked {
            *coverage.entry("reply: the latest unasked".into()).or_default() += 1;
        }
        *coverage.entry(format!("reply: recovered {} from a cache", publications.len())).or_default() += 1;
        assert!(publications.len() <= 1, "client {}: {channel}: more than the latest", self.index);
        sub.offset -= publications.len() as u64;
        self.subs.insert(channel.into(), sub);
        for publication in publications {
            assert_eq!(publication.offset, top, "client {}: {channel}: not the latest", self.index);
            self.on_publication(channel, publication, truth, coverage);
        }
    }

    fn on_push(&mut self, channel: &str, push: ServerPush<'_>, truth: &mut Truth, coverage: &mut Coverage) {
        match push {
            ServerPush::Publication(publication) if maps::is_map(channel) => {
                let publisher = self.publisher();
                let mut told = std::mem::take(&mut truth.maps);
                self.maps.changed(channel, publisher, &publication, (&mut told, truth, coverage));
                truth.maps = told;
            }
            ServerPush::Unsubscribe { code, .. } if maps::is_map(channel) => {
                *coverage.entry(format!("push: unsubscribe {code}")).or_default() += 1;
                self.maps.was_cut(channel, code);
            }
            ServerPush::Publication(publication) => {
                self.on_publication(channel, &publication, truth, coverage);
            }
            ServerPush::Join(info) => {
                self.live(channel, "join");
                assert!(knobs::has_presence(channel) && !info.client.is_empty());
            }
            ServerPush::Leave(info) => {
                self.live(channel, "leave");
                assert_ne!(*info.client, self.id, "{channel}: told of its own leave");
            }
            ServerPush::Unsubscribe { code, .. } => {
                *coverage.entry(format!("push: unsubscribe {code}")).or_default() += 1;
                let sub = self.subs.remove(channel);
                let sub = sub.unwrap_or_else(|| {
                    panic!("client {}: unsubscribed from {channel}, not subscribed", self.index)
                });
                match code {
                    // Lost publications are declared by exactly this.
                    2500 if knobs::is_positioned(channel) => {
                        self.memory.insert(channel.into(), (sub.epoch, sub.offset));
                    }
                    _ => self.ended(channel, sub),
                }
            }
            ServerPush::Subscribe { epoch, offset, .. } => {
                let conflates = knobs::conflates(channel);
                let serial = self.next_serial;
                self.next_serial += 1;
                let sub = Sub {
                    epoch: epoch.into_owned(),
                    offset,
                    serial,
                    server_side: true,
                    conflates,
                    ..Sub::default()
                };
                let before = self.subs.insert(channel.into(), sub);
                assert!(before.is_none(), "client {}: pushed into {channel} twice", self.index);
            }
            ServerPush::Refresh { expires, ttl } => {
                assert_eq!(expires, ttl > 0);
                *coverage.entry("push: refresh".into()).or_default() += 1;
            }
            ServerPush::Disconnect { code, .. } if self.emulation.is_some() => {
                self.was_closed(u16::try_from(code).expect("a code"), coverage);
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
    fn on_publication(
        &mut self,
        channel: &str,
        publication: &Received<'_>,
        truth: &mut Truth,
        coverage: &mut Coverage,
    ) {
        let (index, own) = (self.index, self.publisher());
        let data = self.payload(channel, publication, coverage);
        let json = self.protocol == Protocol::Json;
        assert!(!json || is_json(&data), "client {index}: {channel}: not JSON");
        let sub = self.live(channel, "publication");
        let offset = publication.offset;
        if offset > 0 {
            let recovered = sub.server_side && sub.numbers.is_empty() && offset <= sub.offset;
            // What the server API recovers for a subscription comes behind the news of it.
            let before = if recovered { offset - 1 } else { sub.offset };
            assert!(offset > before, "client {index}: {channel}: {offset} after {before}");
            sub.offset = offset;
            let epoch = sub.epoch.clone();
            let (wants, conflates) = ((sub.filter, sub.no_echo), sub.conflates);
            if conflates {
                let missing = u64::from(offset > before + 1);
                *coverage.entry("publication: newest of several".into()).or_default() += missing;
            } else {
                self.pass_over(channel, &epoch, before + 1..offset, wants, truth);
            }
        }
        let sub = self.live(channel, "publication");
        if let Some(filter) = sub.filter {
            *coverage.entry("publication: filtered".into()).or_default() += 1;
            assert!(truth.passes(filter, &data), "client {index}: {channel}: not wanted by {filter:?}");
        }
        let (publisher, number) = truth::parse(&data);
        assert!(!sub.no_echo || publisher != own, "client {index}: {channel}: told of its own");
        let placed = knobs::MATCHED.iter().position(|home| *home == publication.channel);
        assert_eq!(
            placed.is_some(),
            knobs::is_pattern(channel),
            "client {index}: {channel}: {publication:?}"
        );
        let home = placed.map_or(channel, |at| knobs::MATCHED[at]);
        // Order is that of a channel, also under a pattern.
        let before = sub.numbers.insert((publisher, placed), number);
        assert!(before < Some(number), "client {index}: {channel}: {number} after {before:?} of {publisher}");
        let epoch = sub.epoch.clone();
        truth.told(home, &epoch, publication.offset, &data);
    }

    /// What was published, made of what came before if it came as a patch.
    fn payload(&mut self, channel: &str, publication: &Received<'_>, coverage: &mut Coverage) -> Vec<u8> {
        let protocol = self.protocol;
        let sub = self.live(channel, "publication");
        if !sub.delta {
            assert!(!publication.delta, "{channel}: a patch nobody asked for");
            return publication.data.to_vec();
        }
        let data = client::unquoted(protocol, publication.data).expect("a string");
        let data = if publication.delta {
            *coverage.entry("publication: patch".into()).or_default() += 1;
            let base = sub.base.as_ref().unwrap_or_else(|| panic!("{channel}: a patch of nothing"));
            fossil::apply(base, &data, 1 << 24).unwrap_or_else(|error| panic!("{channel}: {error}"))
        } else {
            data.into_owned()
        };
        sub.base = Some(data.clone());
        data
    }
}

/// First byte, payload and rest of the first whole frame of a server.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    assert!(first & 0xb0 == 0x80 && second & 0x80 == 0, "one whole unmasked frame");
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
    Some((first, payload, after))
}
