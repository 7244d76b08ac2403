//! What leaves a core for others, and for itself: one batch per peer, bounded.
//!
//! Asks carry credit: a core has at most `mesh.credit` of them open with each peer, so their answers always
//! fit. Tells are bounded by what exists (one per subscription). Forwarded publications are bounded in bytes;
//! what does not fit is dropped and declared: the receiver finds a [`Forward::Gap`] in its place. What is forwarded
//! for a pattern is dropped undeclared: nobody counts there.
//!
//! A core's messages to itself go through a queue of their own, so both roads keep the same order.

use super::mesh::{AskKey, Forward, Mesh, Outgoing, OwnedKey};
use crate::{
    metrics::{Counter, Counters},
    model::CoreId,
};
use std::collections::{HashSet, VecDeque};

/// What a message costs in the queue beside its payload.
const MESSAGE_BYTES: usize = 64;

#[derive(Debug)]
pub struct Outbound {
    id: CoreId,
    local: VecDeque<Mesh>,
    peers: Vec<Peer>,
    queue_max_size: usize,
    pub counters: Counters,
}

#[derive(Debug)]
struct Peer {
    batch: Vec<Mesh>,
    /// Bytes of the forwarded messages in `batch`.
    forwarded_bytes: usize,
    credit: usize,
    /// Channels with a gap declared in `batch`.
    gaps: HashSet<OwnedKey, ahash::RandomState>,
}

impl Outbound {
    #[must_use]
    pub fn new(id: CoreId, cores: usize, credit: usize, queue_max_size: usize) -> Self {
        let peer = |_| Peer {
            batch: Vec::new(),
            forwarded_bytes: 0,
            credit,
            gaps: HashSet::with_hasher(ahash::RandomState::with_seeds(0, 1, 2, 3)),
        };
        let peers = (0..cores).map(peer).collect();
        Self { id, local: VecDeque::new(), peers, queue_max_size, counters: Counters::default() }
    }

    /// Takes one credit for an ask to `to`; false when there is none. A core asks itself without limit:
    /// those asks are answered before anything else happens.
    pub fn take_credit(&mut self, to: CoreId) -> bool {
        if to == self.id {
            return true;
        }
        let peer = &mut self.peers[usize::from(to)];
        if peer.credit == 0 {
            self.counters.increment(Counter::CreditExhausted);
            return false;
        }
        peer.credit -= 1;
        true
    }

    #[must_use]
    pub fn has_credit(&self, to: CoreId) -> bool {
        to == self.id || self.peers[usize::from(to)].credit > 0
    }

    /// An ask to `to` was answered.
    pub fn return_credit(&mut self, to: CoreId) {
        if to != self.id {
            self.peers[usize::from(to)].credit += 1;
        }
    }

    pub fn next_local(&mut self) -> Option<Mesh> {
        self.local.pop_front()
    }

    pub fn batch(&mut self, to: CoreId) -> &mut Vec<Mesh> {
        &mut self.peers[usize::from(to)].batch
    }

    /// The mesh took the batch for `to`.
    pub fn taken(&mut self, to: CoreId) {
        let peer = &mut self.peers[usize::from(to)];
        peer.forwarded_bytes = 0;
        peer.gaps.clear();
    }

    /// Answers a survey, an ask of a peer or of this core itself.
    pub fn answer_survey(&mut self, to: CoreId, id: AskKey, answer: super::mesh::SurveyAnswer) {
        self.send(to, Mesh::SurveyAnswer { id, answer: Box::new(answer) });
    }

    #[cfg(test)]
    pub fn invariants(&self) {
        assert!(self.local.is_empty(), "a core leaves its own questions unanswered");
        for peer in &self.peers {
            assert!(peer.forwarded_bytes <= self.queue_max_size);
        }
    }

    /// True when `bytes` more fit into the queue; otherwise that is counted.
    fn has_room(&mut self, to: CoreId, bytes: usize) -> bool {
        let peer = &mut self.peers[usize::from(to)];
        let fits = peer.forwarded_bytes + bytes <= self.queue_max_size;
        if fits {
            peer.forwarded_bytes += bytes;
        } else {
            self.counters.increment(Counter::MeshDropped);
        }
        fits
    }

    /// True when the forward fits; otherwise it is dropped and, for publications, declared once per batch.
    fn admit(&mut self, to: CoreId, channel: OwnedKey, forward: &Forward) -> bool {
        let bytes = match forward {
            Forward::Publication(publication)
            | Forward::Item(publication)
            | Forward::Change { publication, .. } => publication.data.len() + MESSAGE_BYTES,
            Forward::Join(_) | Forward::Leave(_) => MESSAGE_BYTES,
            Forward::Gap => return true,
        };
        if self.has_room(to, bytes) {
            return true;
        }
        let peer = &mut self.peers[usize::from(to)];
        let declared = matches!(forward, Forward::Publication(_) | Forward::Item(_) | Forward::Change { .. });
        if declared && peer.gaps.insert(channel) {
            peer.batch.push(Mesh::Forward { channel, forward: Forward::Gap });
        }
        false
    }
}

impl Outgoing for Outbound {
    fn send(&mut self, to: CoreId, message: Mesh) {
        if to == self.id {
            self.local.push_back(message);
            return;
        }
        let fits = match &message {
            Mesh::Forward { channel, forward } => self.admit(to, *channel, forward),
            Mesh::Match { publication, .. } => self.has_room(to, publication.data.len() + MESSAGE_BYTES),
            _ => true,
        };
        if !fits {
            return;
        }
        self.counters.increment(Counter::MeshMessagesSent);
        self.peers[usize::from(to)].batch.push(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Publication, stdx::slab::Key};
    use std::sync::Arc;

    fn publication(bytes: usize) -> Forward {
        Forward::Publication(Arc::new(Publication { data: vec![0; bytes].into(), ..Publication::default() }))
    }

    #[test]
    fn what_does_not_fit_is_declared_once_per_channel_and_batch() {
        let [a, b] = [1, 2].map(|index| Key { index, generation: 0 });
        let mut out = Outbound::new(0, 2, 1, 1000 + MESSAGE_BYTES);
        out.send(1, Mesh::Forward { channel: a, forward: publication(1000) });
        for channel in [a, a, b] {
            out.send(1, Mesh::Forward { channel, forward: publication(1) });
        }
        let kinds: Vec<_> = out
            .batch(1)
            .iter()
            .map(|message| match message {
                Mesh::Forward { channel, forward: Forward::Gap } => (*channel, "gap"),
                Mesh::Forward { channel, .. } => (*channel, "publication"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, [(a, "publication"), (a, "gap"), (b, "gap")]);
        assert_eq!(out.counters.value(Counter::MeshDropped), 3);
        out.batch(1).clear();
        out.taken(1);
        out.send(1, Mesh::Forward { channel: a, forward: publication(1000) });
        out.send(1, Mesh::Forward { channel: a, forward: publication(1) });
        assert_eq!(out.batch(1).len(), 2, "a new batch has room again, and a new gap to declare");
    }

    #[test]
    fn credit_is_per_peer_and_free_for_oneself() {
        let mut out = Outbound::new(0, 2, 1, 0);
        assert!(out.take_credit(0) && out.take_credit(0));
        assert!(out.take_credit(1));
        assert!(!out.take_credit(1));
        out.return_credit(1);
        assert!(out.take_credit(1));
    }
}
