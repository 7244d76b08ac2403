//! A client that lives on tokens: what it sends, and when it thinks of a new one.

use super::{
    CHANNELS,
    token::{Caps, Due, Fate, Mint, Skew, Token, Wanted},
};
use crate::{
    model::{ConnKey, Now, Protocol},
    stdx::rng::Rng,
    wire::client::{self, Command, ConnectRequest, PublishRequest, Request, SubscribeRequest},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a client does about the end of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    InTime,
    /// In the delay that the server gives.
    InTheDelay,
    Never,
    /// With tokens that are none.
    Badly,
    /// Never, and it talks all the time.
    Talks,
}

#[derive(Debug)]
pub struct Sub {
    pub due: Due,
    pub server_side: bool,
    /// What it lives on, if that is a token of its own.
    pub token: Option<Token>,
    /// Tells this subscription from others of the channel.
    pub serial: u64,
    /// What came, by number.
    pub heard: BTreeSet<u64>,
}

#[derive(Debug)]
pub enum What {
    Connect(Token),
    Refresh(Token),
    Subscribe {
        channel: &'static str,
        token: Option<Token>,
        /// Without a token; `None`: who knows, a refresh is on its way.
        allowed: Option<bool>,
    },
    SubRefresh {
        channel: &'static str,
        token: Token,
        /// Of the subscription there was.
        serial: Option<u64>,
    },
    Unsubscribe {
        channel: &'static str,
    },
    Publish {
        allowed: Option<bool>,
    },
}

#[derive(Debug)]
pub struct Asked {
    pub what: What,
    pub sent_ms: u64,
    /// Since it was sent.
    pub skew: Skew,
}

/// What the server API may have done to a client or to all sessions of a user.
#[derive(Debug, Default)]
pub struct Licence {
    pub disconnect: bool,
    pub expired: bool,
    pub unsubscribe: bool,
    /// Ends that connections were given: on the wall clock.
    pub ends: Vec<u64>,
    /// Subscriptions, when they end, and the skew since.
    pub subscribed: Vec<(&'static str, Option<u64>, Skew)>,
}

impl Licence {
    /// When a subscription to this channel ends; `None`: nobody asked for one.
    pub fn due(&self, channel: &str) -> Option<Due> {
        let its = self.subscribed.iter().filter(|(name, ..)| *name == channel);
        its.map(|(_, ends, skew)| skew.due(*ends)).reduce(Due::or)
    }
}

#[derive(Debug)]
pub struct Client {
    pub core: usize,
    pub conn: ConnKey,
    pub user: &'static str,
    pub habit: Habit,
    /// Empty: not connected.
    pub id: String,
    pub token: Token,
    pub due: Due,
    pub caps: Caps,
    pub subs: BTreeMap<&'static str, Sub>,
    pub asked: BTreeMap<u32, Asked>,
    next_id: u32,
    pub next_serial: u64,
    /// Commands of the next message.
    outgoing: Vec<u8>,
    /// Messages the core has not read.
    pub outbox: VecDeque<Vec<u8>>,
    /// The core is to be told of the connection.
    pub opening: bool,
    pub paused: bool,
    pub inbox: Vec<u8>,
    pub closed: Option<u32>,
    /// It was refused, and goes.
    pub leaves: bool,
    pub licence: Licence,
    /// Something it sent was not answered when the turn began.
    pub busy: bool,
    /// Until then the core may think that a refresh stands behind something.
    pub excused_ms: u64,
}

impl Client {
    pub fn new(core: usize, conn: ConnKey, habit: Habit, token: Token, now: Now) -> Self {
        let mut client = Self {
            core,
            conn,
            user: token.user,
            habit,
            id: String::new(),
            token: token.clone(),
            due: Due::NEVER,
            caps: token.caps,
            subs: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_id: 1,
            next_serial: 1,
            outgoing: Vec::new(),
            outbox: VecDeque::new(),
            opening: true,
            paused: false,
            inbox: Vec::new(),
            closed: None,
            leaves: false,
            licence: Licence::default(),
            busy: false,
            excused_ms: 0,
        };
        let request = ConnectRequest { token: token.text.clone().into(), ..ConnectRequest::default() };
        client.ask(Request::Connect(Box::new(request)), What::Connect(token), now);
        client.flush();
        client
    }

    fn ask(&mut self, request: Request<'_>, what: What, now: Now) {
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id, Asked { what, sent_ms: now.ms, skew: Skew::of(now) });
        client::separate(Protocol::Json, &mut self.outgoing, 0);
        client::encode_command(Protocol::Json, &Command { id, request }, &mut self.outgoing);
    }

    pub fn flush(&mut self) {
        if !self.outgoing.is_empty() {
            self.outbox.push_back(std::mem::take(&mut self.outgoing));
        }
    }

    pub fn refreshes(&self) -> bool {
        self.asked.values().any(|asked| matches!(asked.what, What::Refresh(_)))
    }

    pub fn sub_refreshes(&self, of: &str) -> bool {
        self.asked
            .values()
            .any(|asked| matches!(asked.what, What::SubRefresh { channel, .. } if channel == of))
    }

    /// Asks for more time where it is its habit. `delay_ms`: what the server gives connections and subscriptions.
    pub fn tend(&mut self, now: Now, delay_ms: (u64, u64), rng: &mut Rng, mint: &mut Mint) {
        if self.id.is_empty() {
            return;
        }
        let wants = |habit: Habit, due: Due, delay_ms: u64| match habit {
            Habit::InTime | Habit::Badly => now.ms + 600 >= due.earliest,
            Habit::InTheDelay => now.ms >= due.latest.saturating_add(delay_ms / 2),
            Habit::Never | Habit::Talks => false,
        };
        if wants(self.habit, self.due, delay_ms.0) && !self.refreshes() {
            let fate = if self.habit == Habit::Badly {
                [Fate::Forged, Fate::Foreign, Fate::Old, Fate::OtherChannels][rng.below(4) as usize]
            } else {
                Fate::Good
            };
            self.refresh(now, fate, rng, mint);
        }
        let due = self.subs.iter().filter(|(_, sub)| wants(self.habit, sub.due, delay_ms.1));
        let subs: Vec<_> = due.map(|(channel, _)| *channel).collect();
        for channel in subs {
            if !self.sub_refreshes(channel) {
                let fate = if self.habit == Habit::Badly {
                    [Fate::Forged, Fate::Foreign, Fate::Old][rng.below(3) as usize]
                } else {
                    Fate::Good
                };
                self.sub_refresh(now, channel, fate, rng, mint);
            }
        }
        self.flush();
    }

    fn refresh(&mut self, now: Now, fate: Fate, rng: &mut Rng, mint: &mut Mint) {
        let caps = match self.habit {
            Habit::Talks => self.caps,
            _ => Caps { subscribe: rng.below(3) > 0, publish: rng.below(3) > 0 },
        };
        let subs = self.token.subs.clone();
        let token = mint.token(rng, now, Wanted { user: self.user, channel: "", caps, subs, fate });
        let request = Request::Refresh { token: token.text.clone().into() };
        self.ask(request, What::Refresh(token), now);
    }

    fn sub_refresh(&mut self, now: Now, channel: &'static str, fate: Fate, rng: &mut Rng, mint: &mut Mint) {
        let token = self.sub_token(now, channel, fate, rng, mint);
        let request = Request::SubRefresh { channel: channel.into(), token: token.text.clone().into() };
        let serial = self.subs.get(channel).map(|sub| sub.serial);
        self.ask(request, What::SubRefresh { channel, token, serial }, now);
    }

    fn sub_token(
        &self,
        now: Now,
        channel: &'static str,
        fate: Fate,
        rng: &mut Rng,
        mint: &mut Mint,
    ) -> Token {
        let (caps, subs) = (Caps::default(), Vec::new());
        mint.token(rng, now, Wanted { user: self.user, channel, caps, subs, fate })
    }

    fn subscribe(&mut self, channel: &'static str, token: Option<Token>, now: Now) {
        let allowed = match channel {
            _ if channel.starts_with("cap") => (!self.refreshes()).then_some(self.caps.subscribe),
            _ => Some(channel.starts_with("open")),
        };
        let text = token.as_ref().map_or("", |token| token.text.as_str());
        let request =
            SubscribeRequest { channel: channel.into(), token: text.into(), ..SubscribeRequest::default() };
        let request = Request::Subscribe(Box::new(request));
        self.ask(request, What::Subscribe { channel, token: token.clone(), allowed }, now);
    }

    fn unsubscribe(&mut self, channel: &'static str, now: Now) {
        self.ask(Request::Unsubscribe { channel: channel.into() }, What::Unsubscribe { channel }, now);
    }

    fn publish(&mut self, channel: &'static str, number: u64, now: Now) {
        let allowed = match channel {
            _ if channel.starts_with("cap") => (!self.refreshes()).then_some(self.caps.publish),
            _ => Some(false),
        };
        let data = number.to_string();
        let request = PublishRequest {
            channel: channel.into(),
            data: Some(data.as_bytes()),
            ..PublishRequest::default()
        };
        self.ask(Request::Publish(request), What::Publish { allowed }, now);
    }

    /// Something or other. `number`: of what it publishes, should it.
    pub fn act(&mut self, now: Now, number: u64, rng: &mut Rng, mint: &mut Mint) {
        if self.id.is_empty() {
            return;
        }
        let channel = CHANNELS[rng.below(CHANNELS.len() as u64) as usize];
        let fate = match rng.below(40) {
            0 => Fate::Forged,
            1 => Fate::Foreign,
            2 => Fate::Old,
            _ => Fate::Good,
        };
        match rng.below(16) {
            0..=4 => {
                let token = self.sub_token(now, CHANNELS[rng.below(2) as usize], fate, rng, mint);
                self.subscribe(token.channel, Some(token), now);
            }
            5..=8 => self.subscribe(channel, None, now),
            9 => self.unsubscribe(channel, now),
            10..=12 => self.publish(channel, number, now),
            13 => self.sub_refresh(now, channel, fate, rng, mint),
            14 if self.habit != Habit::Never && self.habit != Habit::Talks => {
                self.refresh(now, Fate::Good, rng, mint);
            }
            _ => self.subscribe("open:a", None, now),
        }
        self.flush();
    }

    /// Talks: a command that other cores answer, and one that has to wait for it.
    pub fn flood(&mut self, now: Now, number: u64) {
        self.publish("cap:a", number, now);
        self.publish("cap:b", number + 1, now);
        self.unsubscribe("open:a", now);
        self.flush();
    }
}
