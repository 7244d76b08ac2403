//! Clients whose answers come in one response and whose commands go in requests of their own: to whatever core, late,
//! for sessions that are gone, and for sessions that are not theirs.

use super::{
    Coverage,
    api::Call,
    client::Client,
    truth::Truth,
    world::{Input, World},
};
use crate::{
    broker::{
        outbox::{Body, Framing},
        seam::ApiReply,
    },
    model::{Disconnect, ErrorCode, Protocol},
    stdx::rng::Rng,
    wire::client::{self, Push},
};
use std::collections::VecDeque;

/// A client of this kind.
#[derive(Debug)]
pub struct Emulation {
    /// The core that takes its requests.
    pub via: usize,
    pub framing: Framing,
    /// As the reply to connect said; until then there is only the request that connects.
    pub session: String,
    connecting: bool,
    /// Requests in order; the next is sent when the one before is answered.
    posts: VecDeque<Vec<u8>>,
    posting: bool,
}

/// A request that comes when its client is gone, or names a session that is not its own.
#[derive(Debug)]
pub struct Stray {
    via: usize,
    session: String,
    commands: Vec<u8>,
}

impl Emulation {
    pub fn draw(rng: &mut Rng, cores: usize, protocol: Protocol) -> Option<Self> {
        let framing = match (rng.below(3), protocol) {
            (0, _) => return None,
            (_, Protocol::Protobuf) => Framing::Delimited(Body::Chunked),
            (1, Protocol::Json) => Framing::Lines(Body::Chunked),
            (_, Protocol::Json) => Framing::Events(Body::Chunked),
        };
        let via = rng.below(cores as u64) as usize;
        let (session, posts) = (String::new(), VecDeque::new());
        Some(Self { via, framing, session, connecting: true, posts, posting: false })
    }

    /// Nothing is on its way to the server.
    pub fn is_quiet(&self) -> bool {
        self.session.is_empty() || self.posts.is_empty()
    }

    /// The message again if it is the body of the request that connects.
    pub fn post(&mut self, message: Input) -> Option<Input> {
        match message {
            Input::Message(commands) if !std::mem::take(&mut self.connecting) => {
                self.posts.push_back(commands);
                None
            }
            message => Some(message),
        }
    }
}

impl World {
    /// What a core's HTTP connections bring for sessions, wherever these are.
    pub(super) fn take_requests(&mut self, at: usize) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let Some(emulation) = client.emulation.as_mut().filter(|it| it.via == at && !it.posting) else {
                continue;
            };
            let Some(commands) = emulation.posts.front().filter(|_| !emulation.session.is_empty()).cloned()
            else {
                continue;
            };
            emulation.posting = true;
            let (session, incarnation) = (emulation.session.clone(), client.incarnation);
            self.emulate(at, &session, &commands, Call::Post { client: index, incarnation });
        }
        let (now, later) = std::mem::take(&mut self.strays).into_iter().partition(|stray| stray.via == at);
        self.strays = later;
        let now: Vec<Stray> = now;
        for stray in now {
            self.emulate(at, &stray.session, &stray.commands, Call::Any);
        }
    }

    fn emulate(&mut self, at: usize, session: &str, commands: &[u8], call: Call) {
        let number = self.calls_next;
        self.calls_next += 1;
        self.calls.insert(number, call);
        self.hosts[at].core.emulate(number, session, commands);
        (0..self.knobs.cores).for_each(|to| self.note_asked(at, to));
    }

    pub(super) fn on_posted(&mut self, index: usize, incarnation: usize, reply: Result<ApiReply, ErrorCode>) {
        let client = &mut self.clients[index];
        let Some(emulation) = client.emulation.as_mut().filter(|_| client.incarnation == incarnation) else {
            return self.count("emulation: answered when the client was gone");
        };
        emulation.posting = false;
        match reply {
            Ok(_) => {
                emulation.posts.pop_front();
                self.count("emulation: heard");
            }
            // It sends the same again.
            Err(ErrorCode::TooManyRequests) => self.count("emulation: no credit"),
            // Nobody knows what became of it.
            Err(_) => {
                emulation.posts.pop_front();
                self.count("emulation: no answer in time");
                self.kill(index);
            }
        }
    }

    /// The connection of a client is gone. What it had sent may arrive all the same.
    pub(super) fn lose(&mut self, index: usize) {
        if let Some(emulation) = self.clients[index].emulation.take()
            && !emulation.session.is_empty()
            && self.rng.below(2) == 0
        {
            let Emulation { via, session, posts, posting, .. } = emulation;
            // One that waits for its answer has arrived.
            let strays = posts.into_iter().skip(usize::from(posting)).map(|commands| Stray {
                via,
                session: session.clone(),
                commands,
            });
            self.strays.extend(strays);
            // And what comes when there surely is nothing to hear it.
            let commands = rpc(self.clients[index].protocol);
            self.strays.push(Stray { via, session, commands });
            self.count("emulation: late");
        }
        self.clients[index].lost();
    }

    /// Somebody speaks for a session without knowing its name: the client would notice an answer to nothing.
    pub(super) fn forge(&mut self, index: usize) {
        let client = &self.clients[index];
        let Some(emulation) = client.emulation.as_ref().filter(|it| !it.session.is_empty()) else { return };
        let mut session = emulation.session.clone();
        let digit = self.rng.below(32) as usize;
        let other = if session.as_bytes()[digit] == b'0' { "1" } else { "0" };
        session.replace_range(digit..=digit, other);
        let via = self.rng.below(self.knobs.cores as u64) as usize;
        self.strays.push(Stray { via, session, commands: rpc(client.protocol) });
        self.count("emulation: forged");
    }
}

fn rpc(protocol: Protocol) -> Vec<u8> {
    let mut commands = Vec::new();
    let request = client::Request::Rpc { method: "x".into(), data: b"{}" };
    client::encode_command(protocol, &client::Command { id: 4_000_000_000, request }, &mut commands);
    commands
}

impl Client {
    /// Reads what is in the socket: whole chunks, in order.
    pub(super) fn read_body(&mut self, framing: Framing, truth: &mut Truth, coverage: &mut Coverage) {
        self.buffer.append(&mut self.socket);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while let Some((payload, after)) = chunk(rest) {
            rest = after;
            if payload.is_empty() {
                assert!(self.closed.is_some(), "client {}: the body ends without a word", self.index);
                continue;
            }
            assert_eq!(self.closed, None, "client {}: messages after the end", self.index);
            let messages = match framing {
                Framing::Events(_) => {
                    let text = std::str::from_utf8(payload).expect("text");
                    let events = text.strip_suffix("\n\n").expect("whole events").split("\n\n");
                    let data = events.map(|event| event.strip_prefix("data: ").expect("an event"));
                    data.collect::<Vec<_>>().join("\n").into_bytes()
                }
                _ => payload.to_vec(),
            };
            for message in client::decode_replies(self.protocol, &messages) {
                let message = message.unwrap_or_else(|error| panic!("client {}: {error}", self.index));
                self.on_message(message, truth, coverage);
            }
        }
        self.buffer = rest.to_vec();
    }
}

/// One whole chunk off the front, and what is behind it.
fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).expect("a size");
    let size = usize::from_str_radix(size, 16).expect("a size");
    let (chunk, after) = bytes[line + 2..].split_at_checked(size + 2)?;
    Some((chunk.strip_suffix(b"\r\n").expect("the end of a chunk"), after))
}

/// What a transport sends last.
pub fn last(protocol: Protocol, framing: Framing, disconnect: &Disconnect) -> Vec<u8> {
    let push = Push::Disconnect { code: disconnect.code, reason: &disconnect.reason };
    let mut payload = Vec::new();
    client::encode_push(protocol, "", &push, &mut payload);
    [framing.frame(&payload).as_slice(), framing.body_end()].concat()
}
