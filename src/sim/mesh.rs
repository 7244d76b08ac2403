//! The queues between cores, and what becomes of the questions that travel in them.

use super::world::World;
use crate::{
    broker::mesh::{Answer, Ask, Forward, Mesh, Tell},
    model::CoreId,
};

/// A question on its way to another core, or its answer on the way back.
#[derive(Debug)]
pub struct Asked {
    to: usize,
    kind: &'static str,
    /// Whoever asked has given up.
    expired: bool,
}

impl World {
    pub(super) fn hand_over(&mut self, from: usize, to: usize) {
        self.note_asked(from, to);
        let host = &mut self.hosts[from];
        let batch = host.core.outgoing(to as CoreId);
        if batch.is_empty() {
            return;
        }
        if self.mesh[from][to].len() >= self.knobs.mesh_batches {
            return self.count("mesh: full");
        }
        let core = &mut self.hosts[from].core;
        self.mesh[from][to].push_back(std::mem::take(core.outgoing(to as CoreId)));
        core.outgoing_taken(to as CoreId);
    }

    /// What is known about an open question at the end of the turn in which its core asked it.
    pub(super) fn note_asked(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        for message in self.hosts[from].core.outgoing(to as CoreId).iter() {
            if let Mesh::Ask { id, .. } | Mesh::Emulate { id, .. } = message {
                self.asks[from].entry(*id).or_insert(Asked { to, kind: "", expired: false });
            }
        }
        let Self { hosts, asks, .. } = self;
        for (id, asked) in asks[from].iter_mut().filter(|(_, asked)| asked.kind.is_empty()) {
            asked.kind = hosts[from].core.open_question(*id).map_or("", |question| question.kind);
        }
        let open = asks[from].values().filter(|asked| asked.to == to).count();
        assert!(open <= self.credit, "core {from} has {open} questions open with {to}");
    }

    /// Questions of a core whose time was up in its last turn.
    pub(super) fn note_expired(&mut self, at: usize) {
        let Self { hosts, asks, coverage, .. } = self;
        for (id, asked) in asks[at].iter_mut().filter(|(_, asked)| !asked.expired) {
            let question = hosts[at].core.open_question(*id);
            if question.is_none_or(|question| question.abandoned) {
                asked.expired = true;
                *coverage.entry(format!("pending: {} expired", asked.kind)).or_default() += 1;
            }
        }
    }

    /// An answer is about to reach the core that asked.
    pub(super) fn note_answer(&mut self, at: usize, message: &Mesh) {
        let name = match message {
            Mesh::Answer { id, .. } => {
                let asked = self.asks[at].remove(id).expect("an answer to nothing");
                let question = self.hosts[at].core.open_question(*id);
                let how = if asked.expired {
                    "late"
                } else if question.expect("a question whose time is not up").orphaned {
                    "orphaned"
                } else {
                    "answered"
                };
                format!("pending: {} {how}", asked.kind)
            }
            Mesh::SurveyAnswer { id, .. } => {
                let how = if self.hosts[at].core.open_question(*id).is_some() { "answered" } else { "late" };
                format!("pending: Gather {how}")
            }
            _ => return,
        };
        self.count(&name);
    }

    pub(super) fn count_mesh(&mut self, message: &Mesh) {
        let name = match message {
            Mesh::Ask { ask, .. } => match **ask {
                Ask::Subscribe(_) => "mesh: ask Subscribe",
                Ask::Publish { .. } => "mesh: ask Publish",
                Ask::Presence { .. } => "mesh: ask Presence",
                Ask::PresenceStats { .. } => "mesh: ask PresenceStats",
                Ask::History { .. } => "mesh: ask History",
                Ask::HistoryRemove { .. } => "mesh: ask HistoryRemove",
                Ask::MapSet { .. } => "mesh: ask MapSet",
                Ask::MapRead { .. } => "mesh: ask MapRead",
                Ask::Track { .. } => "mesh: ask Track",
                Ask::PollPublish { .. } => "mesh: ask PollPublish",
                Ask::Position { .. } => "mesh: ask Position",
                Ask::Enter { .. } => "mesh: ask Enter",
                Ask::Act { .. } => "mesh: ask Act",
            },
            Mesh::Answer { answer, .. } => match **answer {
                Answer::Emulated => "mesh: answer Emulated",
                Answer::Subscribed(_) => "mesh: answer Subscribed",
                Answer::Error(_) => "mesh: answer Error",
                _ => "mesh: answer",
            },
            Mesh::SockJs(_) | Mesh::SockJsAnswer { .. } => "mesh: SockJs",
            Mesh::Forward { forward, .. } => match forward {
                Forward::Publication(_) => "mesh: forward Publication",
                Forward::Item(_) => "mesh: forward Item",
                Forward::Change { .. } => "mesh: forward Change",
                Forward::Join(_) => "mesh: forward Join",
                Forward::Leave(_) => "mesh: forward Leave",
                Forward::Gap => "mesh: forward Gap",
            },
            Mesh::Emulate { .. } => "mesh: emulate",
            Mesh::Tell(tell) => match tell {
                Tell::Unsubscribe { .. } => "mesh: tell Unsubscribe",
                Tell::Untrack { .. } => "mesh: tell Untrack",
                Tell::Presence { .. } => "mesh: tell Presence",
                Tell::Watch { .. } => "mesh: tell Watch",
                Tell::Unwatch { .. } => "mesh: tell Unwatch",
                Tell::Leave { .. } => "mesh: tell Leave",
                Tell::Replaced { .. } => "mesh: tell Replaced",
            },
            Mesh::Match { .. } => "mesh: match",
            Mesh::Survey { .. } => "mesh: survey",
            Mesh::SurveyAnswer { .. } => "mesh: survey answer",
        };
        self.count(name);
    }
}
