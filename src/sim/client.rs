//! One client: what it sends and what it believes. What it checks of all it is told is in `check`.

use super::{
    emulation::Emulation,
    filter::Filter,
    knobs,
    maps::{Asked, Maps},
    truth::Truth,
};
use crate::{
    model::{ConnKey, Protocol},
    stdx::rng::Rng,
    wire::{
        client::{
            self, Command, ConnectRequest, HistoryRequest, PublishRequest, Request, Since, SubscribeRequest,
        },
        deflate::Inflater,
    },
};
use std::collections::BTreeMap;

/// What a command is waiting for.
#[derive(Debug, Clone)]
pub enum Expect {
    Connect {
        /// Subscriptions that are to come with it.
        subs: Wished,
    },
    Subscribe {
        channel: String,
        recover: Option<(String, u64)>,
        /// The position to recover from was made up.
        lie: bool,
        wish: Wish,
    },
    Unsubscribe {
        channel: String,
    },
    /// `serial`: of the subscription that was live then.
    Publish {
        channel: String,
        number: u64,
        serial: Option<u64>,
    },
    Presence {
        channel: String,
        serial: Option<u64>,
    },
    PresenceStats {
        channel: String,
        serial: Option<u64>,
    },
    History {
        channel: String,
        limit: i32,
        since: Option<(u64, String)>,
        reverse: bool,
    },
    Rpc,
    /// A step towards a mirror of a map.
    Map {
        channel: String,
        asked: Asked,
    },
    UnsubscribeMap {
        channel: String,
    },
    /// `number`: of its own publications; 0 for a removal.
    SetEntry {
        channel: String,
        number: u64,
    },
}

/// By channel: where to recover from, and what the subscription is to be.
pub type Wished = BTreeMap<String, (Option<(String, u64)>, Wish)>;

/// What a subscription is asked to be beside the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    pub delta: bool,
    pub filter: Option<Filter>,
    pub numbered: bool,
    /// Milliseconds; 0: none.
    pub conflation: u32,
    pub no_echo: bool,
    /// It comes with the connection.
    pub with_connect: bool,
}

impl Wish {
    /// Who wants a filter where there is none would be refused.
    pub fn draw(rng: &mut Rng, channel: &str) -> Self {
        let filter = Filter::draw(rng).filter(|_| knobs::has_variants(channel));
        Self {
            delta: rng.below(2) > 0,
            filter,
            numbered: rng.below(2) > 0,
            conflation: [0, 0, 1, 300, 5_000][rng.below(5) as usize],
            no_echo: rng.below(4) == 0,
            with_connect: false,
        }
    }

    fn request<'a>(
        self,
        channel: &'a str,
        recover: Option<&'a (String, u64)>,
        flag: i64,
    ) -> SubscribeRequest<'a> {
        SubscribeRequest {
            channel: channel.into(),
            recover: recover.is_some(),
            epoch: recover.map_or("", |(epoch, _)| epoch.as_str()).into(),
            offset: recover.map_or(0, |(_, offset)| *offset),
            flag: flag | i64::from(self.numbered) | if self.no_echo { 4 } else { 0 },
            conflation: self.conflation,
            tags_filter: self.filter.map(|filter| Box::new(filter.node())),
            delta: if self.delta { "fossil".into() } else { "".into() },
            ..SubscribeRequest::default()
        }
    }
}

/// A live subscription as its client sees it.
#[derive(Debug, Default)]
pub struct Sub {
    pub epoch: String,
    pub offset: u64,
    pub server_side: bool,
    /// Unsubscribe was sent: publications may still come until the reply.
    pub leaving: bool,
    /// Tells this subscription from others of the same channel.
    pub serial: u64,
    /// Last number seen of each publisher; under a pattern in each channel of `knobs::MATCHED`.
    pub numbers: BTreeMap<(usize, Option<usize>), u64>,
    /// Last number of this client that was acknowledged during the subscription.
    pub acknowledged: u64,
    /// Publications may be patches of the one before.
    pub delta: bool,
    /// The payload of the last publication.
    pub base: Option<Vec<u8>>,
    pub filter: Option<Filter>,
    /// Not everything comes, but what is newest does.
    pub conflates: bool,
    /// Own publications do not come.
    pub no_echo: bool,
    /// What the channel is called in its messages; 0: by its name.
    pub number: u64,
}

#[derive(Debug)]
pub struct Client {
    pub index: usize,
    pub protocol: Protocol,
    /// The connection, while there is one: its core and key.
    pub at: Option<(usize, ConnKey)>,
    pub incarnation: usize,
    pub id: String,
    /// Whom it connected as; empty: nobody.
    pub user: String,
    /// Its user may have only so many sessions.
    pub may_be_displaced: bool,
    /// Connect was answered with an error.
    pub refused: bool,
    pub connected: bool,
    /// Bytes in the socket, not read yet.
    pub socket: Vec<u8>,
    pub stalled: bool,
    /// Does not answer pings.
    pub silent: bool,
    /// Pings come as WebSocket frames; pongs to be sent.
    pub websocket_pings: bool,
    pub pongs: usize,
    /// permessage-deflate was agreed on.
    pub deflates: bool,
    /// Set when what the client says goes by requests of their own.
    pub emulation: Option<Emulation>,
    pub inflater: Inflater,
    /// What this connection did that allows the server to cut it.
    pub was_stalled: bool,
    pub was_rude: bool,
    /// It broke the protocol: the server has to cut it.
    pub must_close: bool,
    pub buffer: Vec<u8>,
    pub outstanding: BTreeMap<u32, Expect>,
    next_id: u32,
    pub next_serial: u64,
    pub subs: BTreeMap<String, Sub>,
    /// Where the last subscription to a channel ended: recovery starts here.
    pub memory: BTreeMap<String, (String, u64)>,
    pub maps: Maps,
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
            user: String::new(),
            may_be_displaced: false,
            refused: false,
            connected: false,
            socket: Vec::new(),
            stalled: false,
            silent: false,
            websocket_pings: false,
            pongs: 0,
            deflates: false,
            emulation: None,
            inflater: Inflater::default(),
            was_stalled: false,
            was_rude: false,
            must_close: false,
            buffer: Vec::new(),
            outstanding: BTreeMap::new(),
            next_id: 1,
            next_serial: 1,
            subs: BTreeMap::new(),
            memory: BTreeMap::new(),
            maps: Maps::new(protocol == Protocol::Json),
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
        self.maps.lost();
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
        self.must_close = false;
        self.refused = false;
        self.pongs = 0;
        self.closed = None;
        self.emulation = None;
    }

    /// Adds a command to what is sent next, in one message with what is there.
    pub fn command(&mut self, request: Request<'_>, expect: Expect) {
        let id = self.next_id;
        self.next_id += 1;
        self.outstanding.insert(id, expect);
        client::separate(self.protocol, &mut self.outgoing, 0);
        client::encode_command(self.protocol, &Command { id, request }, &mut self.outgoing);
    }

    pub fn connect(&mut self, core: usize, conn: ConnKey, subs: Wished) {
        self.at = Some((core, conn));
        self.incarnation += 1;
        let wished = subs.iter().map(|(channel, (recover, wish))| {
            (std::borrow::Cow::from(channel.as_str()), wish.request(channel, recover.as_ref(), 0))
        });
        let request =
            ConnectRequest { name: "go".into(), subs: wished.collect(), ..ConnectRequest::default() };
        let expect = Expect::Connect { subs: subs.clone() };
        self.command(Request::Connect(Box::new(request)), expect);
    }

    pub fn subscribe(&mut self, channel: &str, recover: bool, flag: i64, wish: Wish) {
        let recover = recover.then(|| self.memory.get(channel).cloned()).flatten();
        self.subscribe_from(channel, recover, false, flag, wish);
    }

    /// Asks to recover from where no stream ever was.
    pub fn subscribe_with_a_lie(&mut self, channel: &str, offset: u64, flag: i64) {
        self.subscribe_from(channel, Some(("made up".into(), offset)), true, flag, Wish::default());
    }

    fn subscribe_from(
        &mut self,
        channel: &str,
        recover: Option<(String, u64)>,
        lie: bool,
        flag: i64,
        wish: Wish,
    ) {
        let request = wish.request(channel, recover.as_ref(), flag);
        let expect = Expect::Subscribe { channel: channel.into(), recover: recover.clone(), lie, wish };
        self.command(Request::Subscribe(Box::new(request)), expect);
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        if let Some(sub) = self.subs.get_mut(channel) {
            sub.leaving = true;
        }
        let request = Request::Unsubscribe { channel: channel.into() };
        self.command(request, Expect::Unsubscribe { channel: channel.into() });
    }

    pub fn unsubscribe_map(&mut self, channel: &str) {
        let request = Request::Unsubscribe { channel: channel.into() };
        self.command(request, Expect::UnsubscribeMap { channel: channel.into() });
    }

    /// The subscription that is live and meant to stay.
    fn serial(&self, channel: &str) -> Option<u64> {
        self.subs.get(channel).filter(|sub| !sub.leaving).map(|sub| sub.serial)
    }

    pub fn publisher(&self) -> usize {
        self.index * 1000 + self.incarnation
    }

    pub fn publish(&mut self, channel: &str, truth: &mut Truth, filler: usize, json: bool) {
        let (number, data) = truth.payload(channel, self.publisher(), filler, json);
        let request = Request::Publish(PublishRequest {
            channel: channel.into(),
            data: Some(&data),
            ..PublishRequest::default()
        });
        let expect = Expect::Publish { channel: channel.into(), number, serial: self.serial(channel) };
        self.command(request, expect);
    }

    pub fn ask(&mut self, channel: &str, what: u64) {
        let serial = self.serial(channel);
        match what {
            0 => {
                let expect = Expect::Presence { channel: channel.into(), serial };
                self.command(Request::Presence { channel: channel.into() }, expect);
            }
            1 => {
                let expect = Expect::PresenceStats { channel: channel.into(), serial };
                self.command(Request::PresenceStats { channel: channel.into() }, expect);
            }
            _ => self.command(Request::Rpc { method: "x".into(), data: b"{}" }, Expect::Rpc),
        }
    }

    pub fn ask_history(&mut self, channel: &str, limit: i32, since: Option<(u64, String)>, reverse: bool) {
        let position =
            since.as_ref().map(|(offset, epoch)| Since { offset: *offset, epoch: epoch.clone().into() });
        let request = HistoryRequest { channel: channel.into(), limit, since: position, reverse };
        let expect = Expect::History { channel: channel.into(), limit, since, reverse };
        self.command(Request::History(request), expect);
    }

    pub fn pong(&mut self) {
        client::separate(self.protocol, &mut self.outgoing, 0);
        self.outgoing.extend_from_slice(client::ping(self.protocol));
    }
}
