//! Tokens whose key is not known yet: the command waits with everything behind it until the endpoint has answered,
//! or not in time, and is looked at again.

use super::Refusal;
use crate::{
    auth::{KeySet, Plan},
    broker::{core::Core, pending::Pending, seam::Effect},
    model::{ConnKey, Disconnect, ErrorCode},
};
use std::sync::Arc;

/// What a token is for: keys and rules may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Connection,
    Subscription,
}

impl Core {
    /// For a command that was refused with [`Refusal::Key`]: `None` when it has to wait, or what it comes to.
    pub(super) fn await_key(&mut self, conn: ConnKey, purpose: Purpose, token: &str) -> Option<Refusal> {
        let verifier = match purpose {
            Purpose::Connection => &mut self.connection_tokens,
            Purpose::Subscription => &mut self.subscription_tokens,
        };
        let endpoint = match verifier.plan(token, self.now.ms) {
            Plan::Refuse => return Some(Disconnect::INVALID_TOKEN.into()),
            // Nobody knows whether it is good: the client comes again.
            Plan::Fail => return Some(ErrorCode::Internal.into()),
            Plan::Wait(endpoint) => endpoint,
            Plan::Fetch(endpoint) => {
                let id = self.pending.insert(Pending::Keys { endpoint: Arc::clone(&endpoint) });
                self.expire_later(id);
                self.effects.push(Effect::FetchKeys { endpoint: Arc::clone(&endpoint) });
                endpoint
            }
        };
        let waiters = self.key_waiters.entry(endpoint).or_default();
        if waiters.last() != Some(&conn) {
            waiters.push(conn);
        }
        None
    }

    /// An endpoint has answered a question of this core or of another; `None`: with nothing that can be used.
    pub fn on_keys(&mut self, endpoint: &Arc<str>, keys: Option<&Arc<KeySet>>) {
        for verifier in [&mut self.connection_tokens, &mut self.subscription_tokens] {
            verifier.take_keys(endpoint, keys.cloned(), self.now.ms);
        }
        self.resume.extend(self.key_waiters.remove(endpoint).unwrap_or_default());
        self.pump();
    }
}
