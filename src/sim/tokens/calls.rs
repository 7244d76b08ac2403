//! What the server API does to clients and their tokens.

use super::{
    CHANNELS, USERS,
    client::{Licence, What},
    token::Skew,
    world::World,
};
use crate::{
    broker::seam::{ApiReply, ApiRequest, Denial, Overrides, PublishOptions, Refresh, Target},
    model::{Disconnect, ErrorCode},
};

/// A call, and what is to be done with its answer.
#[derive(Debug)]
pub enum Call {
    Any,
    /// The number of the denial.
    Deny(usize),
    /// At rest: who is there.
    Present(&'static str),
}

impl World {
    pub(super) fn call(&mut self) {
        let channel = CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize];
        match self.rng.below(16) {
            0..=6 => self.publish(channel),
            7..=9 => self.subscribe_somebody(),
            10..=13 => self.act_on_somebody(),
            _ => self.deny(),
        }
    }

    pub(super) fn publish(&mut self, channel: &'static str) {
        let number = self.number();
        let request = ApiRequest::Publish {
            channel: channel.into(),
            data: number.to_string().into_bytes().into(),
            tags: vec![],
            options: PublishOptions::default(),
        };
        self.api(request, Call::Any);
    }

    /// A connected client: its index.
    fn somebody(&mut self) -> Option<usize> {
        let connected: Vec<_> =
            (0..self.clients.len()).filter(|&at| !self.clients[at].id.is_empty()).collect();
        let at = self.rng.below(connected.len() as u64) as usize;
        connected.get(at).copied()
    }

    /// A client, or with all others of its user, and what is to be remembered of what may happen to them.
    fn target(&mut self, at: usize) -> (Target, &mut Licence) {
        let all = !self.clients[at].user.is_empty() && self.rng.below(3) == 0;
        let client = &mut self.clients[at];
        let target = Target { user: client.user.into(), ..Target::default() };
        if all {
            return (target, self.licences.entry(client.user).or_default());
        }
        (Target { client: client.id.as_str().into(), ..target }, &mut client.licence)
    }

    fn subscribe_somebody(&mut self) {
        let Some(at) = self.somebody() else { return };
        let channel = ["srv:a", "srv:b", "$p:b"][self.rng.below(3) as usize];
        let life_ms = 500 + self.rng.below(6_000);
        let ends = (self.rng.below(3) > 0).then_some(self.now.unix_ms + life_ms);
        let skew = Skew::of(self.now);
        let (target, licence) = self.target(at);
        licence.subscribed.push((channel, ends, skew));
        let request = ApiRequest::Subscribe {
            target,
            channel: channel.into(),
            info: None,
            data: None,
            recover_since: None,
            overrides: Overrides::default(),
            expires_unix_ms: ends,
        };
        self.api(request, Call::Any);
    }

    fn act_on_somebody(&mut self) {
        let Some(at) = self.somebody() else { return };
        let (dice, life) = (self.rng.below(10), self.rng.below(8));
        let channel = CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize];
        let unix_s = self.now.unix_ms / 1000;
        let (target, licence) = self.target(at);
        let request = match dice {
            0 => {
                licence.disconnect = true;
                let disconnect = Disconnect { code: 4500, reason: "api".into() };
                ApiRequest::Disconnect { target, whitelist: vec![], disconnect }
            }
            1 => {
                licence.expired = true;
                let refresh = Refresh { expired: true, ..Refresh::default() };
                ApiRequest::Refresh { target, refresh }
            }
            2..=5 => {
                let expire_at = if life == 0 { 0 } else { unix_s + 1 + life };
                if expire_at > 0 {
                    licence.ends.push(expire_at * 1000);
                }
                ApiRequest::Refresh { target, refresh: Refresh { expire_at, ..Refresh::default() } }
            }
            _ => {
                licence.unsubscribe = true;
                ApiRequest::Unsubscribe { target, channel: channel.into() }
            }
        };
        self.api(request, Call::Any);
    }

    fn deny(&mut self) {
        let user = USERS[self.rng.below(USERS.len() as u64 - 1) as usize];
        let unix_s = self.now.unix_ms / 1000;
        let expire_at = if self.rng.below(4) == 0 { 0 } else { unix_s + 1 + self.rng.below(10) };
        let denial = match self.rng.below(8) {
            0 => Denial::Block { user: user.into(), expire_at },
            1 | 2 => Denial::Unblock { user: user.into() },
            3 | 4 => {
                let channel = ["", "$p:a", "$p:b"][self.rng.below(3) as usize];
                let issued_before = if self.rng.below(2) == 0 { 0 } else { unix_s - self.rng.below(5) };
                Denial::Invalidate { user: user.into(), channel: channel.into(), issued_before, expire_at }
            }
            _ => {
                let Some(id) = self.somebody().and_then(|at| self.token_of(at)) else { return };
                Denial::Revoke { id: id.as_str().into(), expire_at }
            }
        };
        let name = match denial {
            Denial::Block { .. } => "api: Block",
            Denial::Unblock { .. } => "api: Unblock",
            Denial::Revoke { .. } => "api: Revoke",
            Denial::Invalidate { .. } => "api: Invalidate",
        };
        self.count(name);
        let number = self.denied.issue(&denial, self.now);
        self.api(ApiRequest::Deny(denial), Call::Deny(number));
    }

    /// The id of one of the tokens a client lives on, or is about to.
    fn token_of(&mut self, at: usize) -> Option<String> {
        let client = &self.clients[at];
        let subs = client.subs.values().filter_map(|sub| sub.token.as_ref());
        let asked = client.asked.values().filter_map(|asked| match &asked.what {
            What::Refresh(token) | What::Subscribe { token: Some(token), .. } => Some(token),
            _ => None,
        });
        let tokens: Vec<_> = [&client.token].into_iter().chain(subs).chain(asked).collect();
        let chosen = self.rng.below(tokens.len() as u64) as usize;
        tokens.get(chosen).map(|token| token.id.clone())
    }

    pub(super) fn api(&mut self, request: ApiRequest, call: Call) {
        let number = self.calls_next;
        self.calls_next += 1;
        self.calls.insert(number, call);
        let at = self.rng.below(self.hosts.len() as u64) as usize;
        self.inquiries.push((at, number, request));
    }

    pub(super) fn on_api_reply(&mut self, number: u64, reply: Result<ApiReply, ErrorCode>) {
        let call = self.calls.remove(&number).unwrap_or_else(|| panic!("call {number} answered twice"));
        if let Err(error) = &reply {
            self.count(&format!("api: error {}", error.code()));
        }
        match (call, reply) {
            (Call::Any, _) => {}
            (Call::Deny(number), reply) => {
                let done = match reply {
                    Ok(_) => Some(true),
                    Err(ErrorCode::LimitExceeded | ErrorCode::TooManyRequests) => Some(false),
                    Err(_) => None,
                };
                self.denied.answered(number, done);
            }
            (Call::Present(channel), Ok(ApiReply::Presence(clients))) => {
                let mut there: Vec<_> = clients.iter().map(|info| info.client.to_string()).collect();
                there.sort();
                let subscribed = self.clients.iter().filter(|client| client.subs.contains_key(channel));
                let mut want: Vec<_> = subscribed.map(|client| client.id.clone()).collect();
                want.sort();
                assert_eq!(there, want, "presence of {channel}");
            }
            (call, reply) => panic!("{call:?}: {reply:?}"),
        }
    }
}
