//! Limits on what clients may do how often: commands are counted before they run, errors when they are told.

use super::{State, Step};
use crate::{
    broker::{
        core::Core,
        limits::{Operation, Shared},
    },
    metrics::Counter,
    model::{ConnKey, Disconnect, ErrorCode},
    wire::client::{Command, Request},
};
use std::sync::Arc;

impl Core {
    /// Runs a command if every limit leaves room for it; otherwise it is answered with error 111. A command that has
    /// to wait is counted once, however often it is tried.
    pub(super) fn command_within_limits(&mut self, conn: ConnKey, command: &Command<'_>) -> Step {
        let Some(session) = self.sessions.get(conn) else { return Step::Ended };
        let counted = match session.state {
            State::New => operation(command).filter(|it| *it == Operation::Connect),
            State::Connected => operation(command).filter(|it| *it != Operation::Connect),
            State::Connecting | State::Refused => None,
        };
        if let Some(operation) = counted
            && !self.within_limits(conn, operation)
        {
            return match operation {
                Operation::Connect => self.refuse_connect(conn, command.id, ErrorCode::TooManyRequests),
                // It has no answer.
                Operation::Send => {
                    self.note_error(conn);
                    Step::Done
                }
                _ => self.refuse(conn, command.id, ErrorCode::TooManyRequests),
            };
        }
        let step = self.command(conn, command);
        if step == Step::Wait && counted.is_some() {
            self.note_paid(conn);
        }
        step
    }

    /// Takes a token from every bucket that `operation` of this client concerns; false: there is none.
    pub(super) fn within_limits(&mut self, conn: ConnKey, operation: Operation) -> bool {
        let Some(limits) = &self.limits else { return true };
        let meter = self.sessions.get_mut(conn).and_then(|session| session.meter.as_mut());
        let Some(meter) = meter else { return true };
        let within = std::mem::take(&mut meter.paid) || limits.take(operation, meter, self.now.ms);
        if !within {
            self.counters.increment(Counter::CommandsOverLimit);
        }
        within
    }

    /// The command that was counted just now waits, and comes back as the next one.
    pub(super) fn note_paid(&mut self, conn: ConnKey) {
        if let Some(meter) = self.sessions.get_mut(conn).and_then(|session| session.meter.as_mut()) {
            meter.paid = true;
        }
    }

    /// The client is told an error; with too many it is disconnected at the end of the turn.
    pub(super) fn note_error(&mut self, conn: ConnKey) {
        let Some(limits) = &self.limits else { return };
        let meter = self.sessions.get_mut(conn).and_then(|session| session.meter.as_mut());
        if meter.is_some_and(|meter| !limits.take_error(meter, self.now.ms)) {
            self.offenders.push(conn);
        }
    }

    /// Ends who was told too many errors, behind their last.
    pub(in crate::broker) fn cut_offenders(&mut self) {
        for conn in std::mem::take(&mut self.offenders) {
            // Several errors of a turn may have been too many.
            if self.sessions.get(conn).is_some() {
                self.end(conn, Disconnect::TOO_MANY_REQUESTS);
                self.counters.increment(Counter::DisconnectsOverLimit);
            }
        }
    }

    /// The buckets of a user this core owns, where users are limited.
    pub(super) fn user_limits_of(&mut self, user: &Arc<str>) -> Option<Arc<Shared>> {
        let rules = self.limits.as_ref()?.user.as_ref()?;
        Some(self.user_limits.get(Arc::clone(user), rules, self.now.ms))
    }

    /// Whether the user with these buckets may have another connection now.
    pub(super) fn may_connect(&self, user: &Shared) -> bool {
        let rules = self.limits.as_ref().and_then(|limits| limits.user.as_ref());
        rules.is_none_or(|rules| rules.may_connect(user, self.now.ms))
    }
}

/// What is counted of a command; what breaks the protocol is not, and neither are pongs.
fn operation(command: &Command<'_>) -> Option<Operation> {
    Some(match &command.request {
        Request::Connect(_) => Operation::Connect,
        Request::Send { .. } => Operation::Send,
        _ if command.id == 0 => return None,
        Request::None | Request::Ping => return None,
        Request::Subscribe(_) => Operation::Subscribe,
        Request::Unsubscribe { .. } => Operation::Unsubscribe,
        Request::Publish(_) => Operation::Publish,
        Request::Presence { .. } => Operation::Presence,
        Request::PresenceStats { .. } => Operation::PresenceStats,
        Request::History(_) => Operation::History,
        Request::Rpc { .. } => Operation::Rpc,
        Request::Refresh { .. } => Operation::Refresh,
        Request::SubRefresh { .. } | Request::Track(_) => Operation::SubRefresh,
    })
}
