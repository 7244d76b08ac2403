//! Calls of the server API, and what their answers must be.

use super::{filter, knobs::CHANNELS, maps::MapCall, terms::Terms, world::World};
use crate::{
    broker::seam::{ApiReply, ApiRequest, Overrides, Refresh, Target},
    model::{Disconnect, ErrorCode, Position, Tags},
};

/// A call and what it must come to.
#[derive(Debug)]
pub enum Call {
    Publish {
        channel: &'static str,
        payload: Vec<u8>,
    },
    Broadcast {
        channel: &'static str,
        payload: Vec<u8>,
    },
    Map(MapCall),
    Any,
    /// A request of a client for its session.
    Post {
        client: usize,
        incarnation: usize,
    },
    /// Asked at the end: everything must agree with it.
    Top(&'static str),
    Present(&'static str),
}

impl World {
    pub(super) fn call(&mut self) {
        self.count("act: api");
        let core = self.rng.below(self.knobs.cores as u64) as usize;
        let channel = CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize];
        let index = self.rng.below(self.knobs.clients as u64) as usize;
        let client = &self.clients[index];
        let user = client.user.as_str().into();
        let target = if !client.user.is_empty() && self.rng.below(2) == 0 {
            self.count("act: api by user");
            Target { user, ..Target::default() }
        } else {
            Target { user, client: client.id.as_str().into(), ..Target::default() }
        };
        let request = match self.rng.below(13) {
            dice @ 0..=3 => {
                let terms = Terms::draw(&mut self.rng, channel, self.now.ms);
                // A key is for those who publish again.
                for _ in 0..1 + u64::from(!terms.key.is_empty()) {
                    let core = self.rng.below(self.knobs.cores as u64) as usize;
                    self.publish(core, channel, dice == 3, &terms);
                }
                return;
            }
            4 | 10 | 11 => ApiRequest::Subscribe {
                target,
                channel: channel.into(),
                info: None,
                data: None,
                recover_since: self.since(index, channel),
                overrides: Overrides::default(),
                expires_unix_ms: None,
            },
            5 => ApiRequest::Unsubscribe { target, channel: channel.into() },
            6 => {
                let disconnect = Disconnect { code: 4500, reason: "api".into() };
                ApiRequest::Disconnect { target, whitelist: vec![], disconnect }
            }
            12 => {
                let expire_at =
                    [0, self.now.unix_ms / 1000 + self.rng.below(100)][self.rng.below(2) as usize];
                let refresh = Refresh { expired: self.rng.below(8) == 0, expire_at, info: None };
                ApiRequest::Refresh { target, refresh }
            }
            7 => ApiRequest::Channels { pattern: "".into() },
            8 => ApiRequest::Info,
            _ => ApiRequest::HistoryRemove { channel: "rec:c".into() },
        };
        self.api(core, request, Call::Any);
    }

    fn publish(&mut self, core: usize, channel: &'static str, broadcast: bool, terms: &Terms) {
        let payload = self.api_payload(channel);
        let (tags, options) = (self.tags(&payload), terms.options());
        self.truth.terms.set(&payload, terms);
        let data = payload.clone().into();
        if broadcast {
            // The second channel does not exist: each gets its own answer.
            let channels = vec![channel.into(), "none:x".into()];
            let request = ApiRequest::Broadcast { channels, data, tags, options };
            return self.api(core, request, Call::Broadcast { channel, payload });
        }
        let request = ApiRequest::Publish { channel: channel.into(), data, tags, options };
        self.api(core, request, Call::Publish { channel, payload });
    }

    pub(super) fn tags(&mut self, payload: &[u8]) -> Tags {
        let value = filter::VALUES[self.rng.below(filter::VALUES.len() as u64) as usize];
        if value.is_empty() {
            return vec![];
        }
        self.truth.tag(payload, value);
        vec![("k".into(), value.into())]
    }

    fn api_payload(&mut self, channel: &str) -> Vec<u8> {
        let json = !self.chance(self.knobs.binary);
        self.truth.payload(channel, 1_000_000 + self.calls_next as usize, 10, json).1
    }

    /// Where a client's last subscription ended, or nothing.
    fn since(&mut self, client: usize, channel: &str) -> Option<Position> {
        let (epoch, offset) = self.clients[client].memory.get(channel)?;
        let position = Position { offset: *offset, epoch: epoch.as_str().into() };
        self.chance(700).then_some(position)
    }

    pub(super) fn api(&mut self, core: usize, request: ApiRequest, call: Call) {
        let number = self.calls_next;
        self.calls_next += 1;
        self.calls.insert(number, call);
        self.hosts[core].core.begin_turn(self.now);
        self.hosts[core].core.api(number, request);
        // The core may stand still until its time is up.
        (0..self.knobs.cores).for_each(|to| self.note_asked(core, to));
    }

    pub(super) fn on_api_reply(&mut self, number: u64, reply: Result<ApiReply, ErrorCode>) {
        let call = self.calls.remove(&number).unwrap_or_else(|| panic!("call {number} answered twice"));
        if let Err(error) = &reply {
            self.count(&format!("api: error {}", error.code()));
        }
        match (call, reply) {
            (Call::Publish { channel, payload }, Ok(ApiReply::Publish { position })) => {
                self.truth.answered(channel, position.as_ref(), &payload, &mut self.coverage);
            }
            (Call::Broadcast { channel, payload }, Ok(ApiReply::Broadcast(results))) => {
                assert!(matches!(results[..], [_, Err(ErrorCode::UnknownChannel)]), "{results:?}");
                match &results[0] {
                    Ok(at) => self.truth.answered(channel, at.as_ref(), &payload, &mut self.coverage),
                    Err(ErrorCode::Internal) => self.count("pending: Broadcast expired"),
                    _ => {}
                }
                self.count("pending: Broadcast answered");
            }
            (Call::Top(channel), Ok(ApiReply::History { position, publications })) => {
                for publication in &publications {
                    self.truth.told(channel, &position.epoch, publication.offset, &publication.data);
                }
                self.tops.insert(channel, position);
            }
            (Call::Present(channel), Ok(ApiReply::Presence(clients))) => {
                self.present.insert(channel, clients.to_vec());
            }
            (Call::Map(call), reply) => self.on_map_reply(call, reply),
            (Call::Post { client, incarnation }, reply) => self.on_posted(client, incarnation, reply),
            (Call::Any, _) | (Call::Publish { .. }, Err(_)) => {}
            (call, reply) => panic!("{call:?}: {reply:?}"),
        }
    }
}
