//! The end of a seed: faults stop, everything arrives, all is compared, everybody leaves.

use super::{
    api::Call,
    emulation::Emulation,
    knobs::{self, CHANNELS},
    maps::When,
    world::World,
};
use crate::{
    broker::seam::{ApiRequest, PublishOptions},
    metrics::Counter,
    model::{CoreId, Disconnect},
};
use std::collections::VecDeque;

/// Counters of the cores that belong to the coverage.
const COUNTED: [(Counter, &str); 4] = [
    (Counter::MeshDropped, "counter: dropped"),
    (Counter::CreditExhausted, "counter: no credit"),
    (Counter::PublicationsNotJson, "counter: not JSON"),
    (Counter::InsufficientState, "counter: insufficient state"),
];

impl World {
    /// Ends all faults, lets everything arrive, compares, then sends everybody away.
    pub fn finish(&mut self) {
        for knob in [
            &mut self.knobs.kill,
            &mut self.knobs.stall,
            &mut self.knobs.garbage,
            &mut self.knobs.silent,
            &mut self.knobs.pause_core,
            &mut self.knobs.jump,
            &mut self.knobs.short,
            &mut self.knobs.api,
            &mut self.knobs.vanish,
        ] {
            *knob = 0;
        }
        self.settle_down();
        self.set_at_rest();
        self.compare_maps(When::FaultsEnded);
        // Long enough for position checks, overdue pongs and questions nobody answered.
        for _ in 0..900 {
            self.pass(100);
            for at in 0..self.knobs.cores {
                self.turn(at);
            }
        }
        self.settle_down();
        self.invariants();
        self.compare();
        self.compare_maps(When::Expired);
        self.set_at_rest();
        self.compare_maps(When::SetSince);
        self.truth.maps.check_terms();
        self.truth.check_terms(&mut self.coverage);
        self.match_patterns();
        self.say_goodbye();
        self.settle_down();
        self.invariants();
        let (mut dropped, mut declared) = (0, 0);
        for at in 0..self.knobs.cores {
            assert_eq!(self.hosts[at].core.residue(), Default::default(), "core {at} keeps something");
            let stats = self.hosts[at].core.stats();
            assert_eq!(stats.clients, 0);
            dropped += stats.counters.value(Counter::MeshDropped);
            declared += stats.counters.value(Counter::InsufficientState);
            for (counter, name) in COUNTED {
                let count = stats.counters.value(counter);
                if count > 0 {
                    *self.coverage.entry(name.into()).or_default() += count;
                }
            }
        }
        // Who has a map that is cleared begins anew.
        let cleared = self.coverage.contains_key("map: cleared");
        let may_lose = dropped > 0 || self.lag_counts || cleared;
        assert!(may_lose || declared == 0, "{declared} losses declared, nothing was lost");
    }

    /// What is published at rest reaches every subscriber of a pattern it matches.
    fn match_patterns(&mut self) {
        for channel in knobs::MATCHED {
            let dropped = self.dropped();
            let (number, payload) = self.truth.payload(channel, 2_000_000, 1, true);
            let (data, options) = (payload.clone().into(), PublishOptions::default());
            let request = ApiRequest::Publish { channel: channel.into(), data, tags: vec![], options };
            let core = self.rng.below(self.knobs.cores as u64) as usize;
            self.api(core, request, Call::Publish { channel, payload });
            self.settle_down();
            if self.dropped() > dropped {
                continue;
            }
            for client in self.clients.iter().filter(|client| client.connected) {
                for (name, sub) in client.subs.iter().filter(|(name, _)| knobs::is_pattern(name)) {
                    let heard = sub.numbers.values().any(|seen| *seen == number);
                    assert!(heard, "client {}: {name} without what was published in {channel}", client.index);
                }
            }
        }
    }

    fn dropped(&self) -> u64 {
        self.hosts.iter().map(|host| host.core.stats().counters.value(Counter::MeshDropped)).sum()
    }

    /// Everybody leaves, or the node stops: at rest, or in the middle of everything.
    fn say_goodbye(&mut self) {
        match self.rng.below(3) {
            0 => (0..self.clients.len()).for_each(|index| self.kill(index)),
            1 => self.drain(),
            _ => {
                for _ in 0..50 {
                    let index = self.rng.below(self.knobs.clients as u64) as usize;
                    self.act(index);
                    let core = self.rng.below(self.knobs.cores as u64) as usize;
                    self.turn(core);
                }
                self.drain();
            }
        }
    }

    /// The node stops: every client is told so, and is gone soon after.
    fn drain(&mut self) {
        self.count("act: drain");
        for at in 0..self.knobs.cores {
            // Accepting has stopped: what was accepted before is a client like others.
            self.turn(at);
            self.hosts[at].core.begin_turn(self.now);
            self.hosts[at].core.disconnect_all(&Disconnect::SHUTDOWN);
        }
        for client in &mut self.clients {
            client.stalled = false;
        }
        self.settle_down();
        let connected = self.clients.iter().find(|client| client.at.is_some());
        assert!(connected.is_none(), "still there after the end: {connected:?}");
    }

    /// Turns all cores until nothing moves.
    pub(super) fn settle_down(&mut self) {
        for client in &mut self.clients {
            client.stalled = false;
        }
        for round in 0.. {
            assert!(round < 20_000, "the node never comes to rest");
            for index in 0..self.clients.len() {
                self.read(index);
            }
            for at in 0..self.knobs.cores {
                self.make_room(at);
                self.turn(at);
            }
            let quiet = self.mesh.iter().flatten().all(VecDeque::is_empty)
                && self.strays.is_empty()
                && self.clients.iter().all(|client| {
                    client.socket.is_empty() && client.emulation.as_ref().is_none_or(Emulation::is_quiet)
                })
                && self.hosts.iter_mut().all(|host| {
                    let cores = self.mesh.len();
                    host.ended.is_empty()
                        && host.sockets.iter().all(|(conn, socket)| {
                            socket.input.is_empty() && host.core.pending_bytes(conn) == 0
                        })
                        && (0..cores).all(|to| host.core.outgoing(to as CoreId).is_empty())
                });
            if quiet && round > 3 {
                return;
            }
        }
    }

    /// The owners of users know exactly the sessions there are.
    fn compare_users(&self) {
        let (mut want, mut have) = (Vec::new(), Vec::new());
        for host in &self.hosts {
            let (connected, owned) = host.core.user_sessions();
            want.extend(connected);
            have.extend(owned);
        }
        want.sort();
        have.sort();
        assert_eq!(have, want, "sessions of users");
    }

    /// Everybody has everything, nobody is where he should not be.
    fn compare(&mut self) {
        assert!(self.calls.is_empty(), "calls never answered: {:?}", self.calls);
        for channel in CHANNELS {
            if knobs::has_history(channel) {
                let request =
                    ApiRequest::History { channel: channel.into(), limit: -1, since: None, reverse: false };
                self.api(0, request, Call::Top(channel));
                self.settle_down();
            }
            if knobs::has_presence(channel) {
                self.api(0, ApiRequest::Presence { channel: channel.into() }, Call::Present(channel));
                self.settle_down();
            }
        }
        self.compare_users();
        let Self { clients, tops, truth, .. } = self;
        for client in clients.iter().filter(|client| client.connected) {
            assert!(client.outstanding.is_empty(), "client {}: never answered: {client:?}", client.index);
            assert!(!client.must_close, "client {}: not cut: {client:?}", client.index);
            for (channel, top) in tops.iter() {
                client.check_top(channel, (&top.epoch, top.offset), truth);
            }
        }
        for (channel, present) in &self.present {
            let mut want: Vec<_> = self
                .clients
                .iter()
                .filter(|client| client.connected && client.subs.contains_key(*channel))
                .map(|client| client.id.clone())
                .collect();
            let mut have: Vec<_> = present.iter().map(|info| info.client.to_string()).collect();
            want.sort();
            have.sort();
            assert_eq!(have, want, "presence of {channel}");
        }
    }
}
