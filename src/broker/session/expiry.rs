//! The end of a token's time: of a connection, and of subscriptions.
//!
//! Times run on the core's own clock from when a token was accepted: a jump of the wall clock expires nobody.
//! Each gets a delay to refresh (`client.expired_close_delay`, `client.expired_sub_close_delay`) before it ends.

use super::{Place, Step, Subscription};
use crate::{
    broker::core::Core,
    model::{ConnKey, Disconnect, Unsubscribe},
};
use std::time::Duration;

/// When to look again at what cannot be judged now.
const AGAIN_MS: u64 = 1_000;

fn after(expires_ms: u64, delay: Duration) -> u64 {
    expires_ms.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

impl Core {
    /// Works out when the next time of this session is up, and waits for that.
    pub(super) fn expect_expiry(&mut self, conn: ConnKey) {
        let client = &self.settings.client;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let own = session.account.as_ref().map_or(u64::MAX, |account| account.expires_ms);
        let subs = session.subscriptions.iter().map(Subscription::expires_ms).min().unwrap_or(u64::MAX);
        session.expiry_due_ms =
            after(own, client.expired_close_delay).min(after(subs, client.expired_sub_close_delay));
        self.schedule(conn);
    }

    /// Ends what is over, if anything is.
    pub(super) fn on_expiry_timer(&mut self, conn: ConnKey) {
        let (now_ms, grace_until_ms) = (self.now.ms, self.grace_until_ms);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.expiry_due_ms > now_ms {
            return;
        }
        // A refresh may stand behind what this core makes wait, or lie unread since the server stood still.
        if session.held.is_some() || now_ms < grace_until_ms {
            session.expiry_due_ms = grace_until_ms.max(now_ms + AGAIN_MS);
            return;
        }
        let client = &self.settings.client;
        let own = session.account.as_ref().map_or(u64::MAX, |account| account.expires_ms);
        if after(own, client.expired_close_delay) <= now_ms {
            self.end(conn, Disconnect::EXPIRED);
            return;
        }
        let delay = client.expired_sub_close_delay;
        let over: Vec<_> = session
            .subscriptions
            .iter()
            .filter(|it| after(it.expires_ms(), delay) <= now_ms && matches!(it.place(), Place::Live { .. }))
            .map(|it| (it.hub, it.server_side))
            .collect();
        for (hub, server_side) in over {
            if server_side {
                self.end(conn, Disconnect::SUBSCRIPTION_EXPIRED);
                return;
            }
            self.cut_subscription(conn, hub, Unsubscribe::EXPIRED);
        }
        self.expect_expiry(conn);
        // One that its owner has not answered ends when it has.
        if let Some(session) = self.sessions.get_mut(conn) {
            session.expiry_due_ms = session.expiry_due_ms.max(now_ms + AGAIN_MS);
        }
    }

    /// Sets the time of one subscription.
    pub(super) fn set_expiry(&mut self, conn: ConnKey, channel: &str, expires_ms: u64) -> Step {
        let Some(hub) = self.hub.find(channel) else { return Step::Done };
        if let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.find_mut(hub)) {
            subscription.set_expires_ms(expires_ms);
        }
        self.expect_expiry(conn);
        Step::Done
    }
}
