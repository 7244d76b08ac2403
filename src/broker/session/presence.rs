//! `presence` and `presence_stats`: who is in a channel.

use super::{Place, Step};
use crate::{
    broker::{core::Core, mesh::Ask, pending::Pending, permission::Verb},
    model::ConnKey,
};
use std::sync::Arc;

impl Core {
    pub(super) fn presence(&mut self, conn: ConnKey, id: u32, channel: &str) -> Step {
        self.ask_about(conn, id, channel, Verb::Presence, |channel| {
            (Ask::Presence { channel }, Pending::Presence { conn, id })
        })
    }

    pub(super) fn presence_stats(&mut self, conn: ConnKey, id: u32, channel: &str) -> Step {
        self.ask_about(conn, id, channel, Verb::Presence, |channel| {
            (Ask::PresenceStats { channel }, Pending::PresenceStats { conn, id })
        })
    }

    /// The common road of questions about a channel: name, order, permission, credit, ask.
    pub(super) fn ask_about(
        &mut self,
        conn: ConnKey,
        id: u32,
        channel: &str,
        verb: Verb,
        make: impl FnOnce(Arc<str>) -> (Ask, Pending),
    ) -> Step {
        if channel.is_empty() {
            return self.break_protocol(conn);
        }
        let place = self.subscription(conn, channel);
        if matches!(place, Some(Place::Waiting(_))) {
            return Step::Wait;
        }
        if let Err(error) = self.allow_at(conn, channel, place, verb) {
            return self.refuse(conn, id, error);
        }
        let (owner, name) = self.owner_and_name(channel);
        if !self.out.take_credit(owner) {
            return self.wait_for_credit(conn, owner);
        }
        let (ask, pending) = make(name);
        self.ask(owner, ask, pending);
        Step::Done
    }
}
