//! What clients do to the node: connect, speak, misbehave, disappear.

use super::{
    client::{Expect, Wish, Wished},
    emulation::Emulation,
    knobs::{CHANNELS, USERS},
    world::{Input, Socket, World},
};
use crate::{
    broker::{
        core::{SessionStart, Uplink},
        outbox::Framing,
    },
    model::Protocol,
    wire::deflate::Window,
};
use std::collections::VecDeque;

impl World {
    pub(super) fn act(&mut self, index: usize) {
        let channel = CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize];
        if self.clients[index].at.is_none() {
            return self.connect(index);
        }
        if self.chance(self.knobs.kill) {
            self.count("act: kill");
            return self.kill(index);
        }
        if self.chance(self.knobs.vanish) {
            self.count("act: vanish");
            return self.vanish(index);
        }
        if self.chance(self.knobs.stall) {
            self.count("act: stall");
            let client = &mut self.clients[index];
            client.stalled = !client.stalled;
            client.was_stalled = true;
        }
        if self.chance(self.knobs.silent) && self.clients[index].connected {
            self.clients[index].silent = true;
        }
        if self.chance(self.knobs.lie) {
            self.forge(index);
        }
        if self.chance(self.knobs.garbage) {
            self.count("act: garbage");
            return self.be_rude(index);
        }
        let count =
            if self.chance(self.knobs.burst) { 1 + self.rng.below(30) } else { 1 + self.rng.below(2) };
        for _ in 0..count {
            if self.chance(self.knobs.maps) {
                self.map_command(index);
            } else {
                self.command(index, channel);
            }
        }
        self.flush(index);
    }

    fn command(&mut self, index: usize, channel: &'static str) {
        let dice = self.rng.below(22);
        let magnitude = self.rng.below(9);
        let filler = self.rng.below(1 << magnitude) as usize;
        let flag = if self.rng.below(4) == 0 { 2 } else { 0 };
        let recover = self.rng.below(3) > 0;
        let wish = Wish::draw(&mut self.rng, channel);
        let client = &mut self.clients[index];
        if !client.connected {
            return;
        }
        let open = client.subs.contains_key(channel);
        let json = client.protocol == Protocol::Json || self.rng.below(1000) >= self.knobs.binary;
        match dice {
            0..=4 if !open && self.rng.below(1000) < self.knobs.lie => {
                *self.coverage.entry("act: made-up position".into()).or_default() += 1;
                client.subscribe_with_a_lie(channel, self.rng.below(30), flag);
            }
            0..=4 if !open => client.subscribe(channel, recover, flag, wish),
            // Subscribing twice is answered 105 and changes nothing.
            0 => client.subscribe(channel, false, 0, wish),
            1 if open => client.unsubscribe(channel),
            2 => client.ask(channel, self.rng.below(3)),
            3 => {
                let limit = self.rng.below(8) as i32 - 1;
                let reverse = self.rng.below(2) > 0;
                let since = match self.rng.below(4) {
                    0 => Some((self.rng.below(20), "made up".into())),
                    1 => Some((1 + self.rng.below(20), String::new())),
                    2 => client.memory.get(channel).map(|(epoch, offset)| (*offset + 1, epoch.clone())),
                    _ => None,
                };
                client.ask_history(channel, limit, since, reverse);
            }
            20..=21 => client.ask(channel, self.rng.below(2)),
            _ => {
                // Mostly where it may: who is not subscribed is refused.
                let mine = self.rng.below(1 + client.subs.len() as u64) as usize;
                let mine = client.subs.keys().nth(mine).filter(|_| !open).cloned();
                client.publish(mine.as_deref().unwrap_or(channel), &mut self.truth, filler, json);
            }
        }
    }

    /// Sends what no client may: it has to be cut, and what follows is not looked at.
    fn be_rude(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.was_rude = true;
        if client.connected && self.rng.below(2) > 0 {
            // Two pongs answer one ping: the second one, at the latest, is one too many.
            client.pong();
            client.pong();
            client.must_close = !client.silent;
            *self.coverage.entry("act: a pong too many".into()).or_default() += 1;
            return self.flush(index);
        }
        client.must_close = true;
        self.send(index, Input::Message(b"garbage".to_vec()));
    }

    fn connect(&mut self, index: usize) {
        let core = self.rng.below(self.knobs.cores as u64) as usize;
        let named = self.rng.below(1000) < self.knobs.users;
        let user: Option<std::sync::Arc<str>> =
            named.then(|| USERS[self.rng.below(USERS.len() as u64) as usize].into());
        self.clients[index].user = user.as_deref().unwrap_or_default().to_owned();
        self.clients[index].may_be_displaced = named && self.knobs.users_limited;
        let returns = !self.clients[index].memory.is_empty();
        self.count(if returns { "act: reconnect and recover" } else { "act: connect" });
        let websocket_pings = self.rng.below(4) == 0;
        let deflate = [None, None, Some(Window::Bits9), Some(Window::Bits15)][self.rng.below(4) as usize];
        let protocol = self.clients[index].protocol;
        let emulation = Emulation::draw(&mut self.rng, self.knobs.cores, protocol);
        let start = match &emulation {
            None => SessionStart {
                websocket_pings,
                ..SessionStart::new(protocol, Framing::websocket(protocol, deflate))
            },
            Some(it) => SessionStart { uplink: Uplink::Requests, ..SessionStart::new(protocol, it.framing) },
        };
        let framing = start.framing;
        let host = &mut self.hosts[core];
        let socket = Socket {
            client: index,
            input: VecDeque::new(),
            paused: false,
            framing,
            wants_room: false,
            dead: false,
            swallows: false,
            closing_ms: None,
        };
        let conn = host.sockets.insert(socket);
        self.hosts[core].opening.push((conn, SessionStart { user, ..start }));
        let subs = self.wishes(index);
        let client = &mut self.clients[index];
        // A socket that takes little per turn cannot keep up, nor a queue that holds no recovery.
        client.was_stalled =
            self.knobs.socket_bytes < 8192 || self.queue_max < 16_384 || self.knobs.short > 0;
        client.websocket_pings = websocket_pings && emulation.is_none();
        client.deflates = deflate.is_some();
        client.emulation = emulation;
        client.connect(core, conn, subs);
        self.come_back(index);
    }

    /// Subscriptions that are to come with a connection: of those there were, and another one.
    fn wishes(&mut self, index: usize) -> Wished {
        if self.rng.below(3) > 0 {
            return Wished::new();
        }
        let memory = &self.clients[index].memory;
        let mut channels: Vec<_> = memory.keys().take(3).cloned().collect();
        channels.push(CHANNELS[self.rng.below(CHANNELS.len() as u64) as usize].into());
        let wished = |channel: String| {
            let recover = memory.get(&channel).filter(|_| self.rng.below(4) > 0).cloned();
            let wish = Wish { with_connect: true, ..Wish::draw(&mut self.rng, &channel) };
            (channel, (recover, wish))
        };
        channels.into_iter().map(wished).collect()
    }

    /// SDKs send their subscribes in one message with connect.
    fn come_back(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let comes = |channel: &String| {
            let with_connect =
                |expect: &Expect| matches!(expect, Expect::Connect { subs } if subs.contains_key(channel));
            client.outstanding.values().any(with_connect)
        };
        let channels: Vec<_> = client.memory.keys().filter(|channel| !comes(channel)).cloned().collect();
        for channel in channels {
            if client.outstanding.len() < 5 {
                client.subscribe(&channel, true, 0, Wish::draw(&mut self.rng, &channel));
            }
        }
        for channel in client.maps.remembered() {
            if client.outstanding.len() < 5 {
                client.mirror(&channel, 0, index.is_multiple_of(2), None);
            }
        }
        self.flush(index);
    }

    pub(super) fn kill(&mut self, index: usize) {
        if let Some((core, conn)) = self.clients[index].at {
            let host = &mut self.hosts[core];
            if let Some(socket) = host.sockets.get_mut(conn) {
                socket.dead = true;
                host.ended.push(conn);
            }
            self.lose(index);
        }
    }

    /// The network is gone: nothing comes from the client any more, and what is sent to it disappears.
    fn vanish(&mut self, index: usize) {
        if let Some((core, conn)) = self.clients[index].at {
            if let Some(socket) = self.hosts[core].sockets.get_mut(conn) {
                socket.swallows = true;
                socket.input.clear();
            }
            self.lose(index);
        }
    }

    fn send(&mut self, index: usize, message: Input) {
        let Some((core, conn)) = self.clients[index].at else { return };
        let message = match &mut self.clients[index].emulation {
            Some(emulation) => emulation.post(message),
            None => Some(message),
        };
        let Some(message) = message else { return };
        if let Some(socket) = self.hosts[core].sockets.get_mut(conn) {
            socket.input.push_back(message);
        }
    }

    fn flush(&mut self, index: usize) {
        let message = std::mem::take(&mut self.clients[index].outgoing);
        if !message.is_empty() {
            self.send(index, Input::Message(message));
        }
        for _ in 0..std::mem::take(&mut self.clients[index].pongs) {
            self.send(index, Input::Pong);
        }
    }

    /// The client reads its socket, if it reads at all, and answers pings.
    pub(super) fn read(&mut self, index: usize) {
        if self.clients[index].stalled {
            return;
        }
        self.clients[index].maps.now_ms = self.now.ms;
        self.clients[index].read(&mut self.truth, &mut self.coverage);
        self.flush(index);
        if self.clients[index].closed.is_some() {
            self.kill(index);
        }
    }
}
