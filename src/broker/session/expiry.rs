//! The end of a token's time: of a connection, and of subscriptions.
//!
//! Times run on the core's own clock from when a token was accepted: a jump of the wall clock expires nobody.
//! Each gets a delay to refresh (`client.expired_close_delay`, `client.expired_sub_close_delay`) before it ends.

use super::{Place, Session, Step, Subscription};
use crate::{
    broker::core::Core,
    config::Client,
    model::{ConnKey, Disconnect, Unsubscribe},
};
use std::time::Duration;

/// When to look again at what cannot be judged now.
const AGAIN_MS: u64 = 1_000;

fn after(expires_ms: u64, delay: Duration) -> u64 {
    expires_ms.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

fn own_expires_ms(session: &Session) -> u64 {
    session.account.as_ref().map_or(u64::MAX, |account| account.expires_ms)
}

/// When the first time of this session is up, with the delay it is given.
fn over_ms(session: &Session, client: &Client) -> u64 {
    let subs = session.subscriptions.iter().map(Subscription::expires_ms).min().unwrap_or(u64::MAX);
    let own = after(own_expires_ms(session), client.expired_close_delay);
    own.min(after(subs, client.expired_sub_close_delay))
}

impl Core {
    /// Works out when the next time of this session is up, and waits for that.
    pub(super) fn expect_expiry(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.expiry_due_ms = over_ms(session, &self.settings.client);
        self.schedule(conn);
    }

    /// How long more a session gets that is made to wait: its refresh may stand behind that. As long as a question may
    /// take and not for ever, or who never stops talking would never have to go.
    fn patience(&self) -> Duration {
        self.settings.mesh.ask_timeout
    }

    /// Ends what is over, if anything is.
    pub(super) fn on_expiry_timer(&mut self, conn: ConnKey) {
        let (now_ms, grace_until_ms) = (self.now.ms, self.grace_until_ms);
        let patience = self.patience();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.expiry_due_ms > now_ms {
            return;
        }
        // A refresh may lie unread since the server stood still.
        if now_ms < grace_until_ms {
            session.expiry_due_ms = grace_until_ms.max(now_ms + AGAIN_MS);
            return;
        }
        let client = &self.settings.client;
        let more = if session.held.is_some() { patience } else { Duration::ZERO };
        let is_over = |expires_ms, delay| after(after(expires_ms, delay), more) <= now_ms;
        if is_over(own_expires_ms(session), client.expired_close_delay) {
            self.end(conn, Disconnect::EXPIRED);
            return;
        }
        let delay = client.expired_sub_close_delay;
        let over: Vec<_> = session
            .subscriptions
            .iter()
            .filter(|it| is_over(it.expires_ms(), delay) && matches!(it.place(), Place::Live { .. }))
            .map(|it| (it.hub, it.server_side))
            .collect();
        for (hub, server_side) in over {
            if server_side {
                self.end(conn, Disconnect::SUBSCRIPTION_EXPIRED);
                return;
            }
            self.cut_subscription(conn, hub, Unsubscribe::EXPIRED);
        }
        // What could not be judged now, or has not been answered by its owner, is looked at again.
        if let Some(session) = self.sessions.get_mut(conn) {
            session.expiry_due_ms = over_ms(session, &self.settings.client).max(now_ms + AGAIN_MS);
        }
    }

    /// This core reads on from a connection that it had made wait: what lies there is looked at before anything ends.
    pub(super) fn put_off_expiry(&mut self, conn: ConnKey) {
        let (now_ms, patience) = (self.now.ms, self.patience());
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if now_ms < after(over_ms(session, &self.settings.client), patience) {
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
