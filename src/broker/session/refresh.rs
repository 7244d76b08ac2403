//! `refresh` and `sub_refresh`: a new token for the connection, or for one subscription.

use super::{Refusal, Step, connect::with_chan_info, keys::Purpose};
use crate::{
    auth::{ConnectClaims, Refused, SubscribeClaims},
    broker::{core::Core, denials::Mark},
    model::{ClientInfo, ConnKey, Disconnect, ErrorCode},
    wire::client::{Push, Reply},
};
use std::sync::Arc;

impl Core {
    /// The new token must be of the same user and bring the same subscriptions; with others the client
    /// reconnects (3010) and gets them.
    pub(super) fn refresh(&mut self, conn: ConnKey, id: u32, token: &str) -> Step {
        if token.is_empty() {
            return self.break_protocol(conn);
        }
        let mut found = self.refreshed(conn, token);
        if matches!(found, Err(Refusal::Key)) {
            match self.await_key(conn, Purpose::Connection, token) {
                None => return Step::Wait,
                Some(refusal) => found = Err(refusal),
            }
        }
        let (claims, expires_ms, ttl) = match found {
            Ok(found) => found,
            Err(refusal) => return self.refuse_by(conn, id, refusal),
        };
        self.set_conn_info(conn, claims.info);
        let mark = self.denials.mark(&claims.id, claims.issued_unix_ms);
        if let Some(session) = self.sessions.get_mut(conn) {
            let account = session.account.get_or_insert_default();
            account.expires_ms = expires_ms;
            account.meta = claims.meta;
            account.caps = claims.caps;
            account.mark = mark;
        }
        self.expect_expiry(conn);
        self.reply(conn, id, &Reply::Refresh { expires: ttl > 0, ttl });
        Step::Done
    }

    /// The server gives the connection more time, or less, and tells the client.
    pub(in crate::broker) fn prolong(
        &mut self,
        conn: ConnKey,
        expires_ms: u64,
        ttl: u32,
        info: Option<Arc<[u8]>>,
    ) {
        self.set_conn_info(conn, info);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.account.get_or_insert_default().expires_ms = expires_ms;
        }
        self.expect_expiry(conn);
        self.push(conn, "", &Push::Refresh { expires: ttl > 0, ttl });
    }

    fn set_conn_info(&mut self, conn: ConnKey, conn_info: Option<Arc<[u8]>>) {
        if conn_info.is_some()
            && let Some(session) = self.sessions.get_mut(conn)
            && let Some(info) = &session.info
        {
            session.info = Some(Arc::new(ClientInfo { conn_info, ..(**info).clone() }));
        }
    }

    fn refreshed(&self, conn: ConnKey, token: &str) -> Result<(ConnectClaims, u64, u32), Refusal> {
        let claims = self.connection_tokens.connect(token, self.now.unix_ms).map_err(|it| match it {
            it if it.is_untimely() => Refusal::End(Disconnect::EXPIRED),
            Refused::Key => Refusal::Key,
            _ => Refusal::End(Disconnect::INVALID_TOKEN),
        })?;
        let session = self.sessions.get(conn).ok_or(Disconnect::INTERNAL)?;
        let revoked = self.denials.revokes(&claims, self.now);
        if revoked || session.info.as_ref().is_none_or(|info| *info.user != *claims.user) {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        let brought = session.account.as_ref().map_or(&[][..], |account| &account.channels);
        if !brought.iter().eq(claims.subs.iter().map(|sub| &sub.channel)) {
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        let (expires_ms, ttl) = self.time_left(claims.expires_unix_ms).map_err(|_| Disconnect::EXPIRED)?;
        Ok((claims, expires_ms, ttl))
    }

    pub(super) fn sub_refresh(&mut self, conn: ConnKey, id: u32, channel: &str, token: &str) -> Step {
        if channel.is_empty() {
            return self.break_protocol(conn);
        }
        if self.is_subscribing(conn, channel) {
            return Step::Wait;
        }
        if !self.is_subscribed(conn, channel) {
            return self.refuse(conn, id, ErrorCode::PermissionDenied);
        }
        if token.is_empty() {
            return self.refuse(conn, id, ErrorCode::BadRequest);
        }
        let mut found = self.check_subscription_token(conn, channel, token, Disconnect::INVALID_TOKEN.into());
        if matches!(found, Err(Refusal::Key)) {
            match self.await_key(conn, Purpose::Subscription, token) {
                None => return Step::Wait,
                Some(refusal) => found = Err(refusal),
            }
        }
        let found = found.and_then(|claims| {
            let mark = self.denials.mark(&claims.id, claims.issued_unix_ms);
            Ok((self.time_left(claims.expires_unix_ms)?, claims.info, mark))
        });
        let ((expires_ms, ttl), chan_info, mark) = match found {
            Ok(found) => found,
            Err(refusal) => return self.refuse_by(conn, id, refusal),
        };
        if chan_info.is_some()
            && let Some(info) = self.info(conn)
            && let Some(hub) = self.hub.find(channel)
            && let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.find_mut(hub))
        {
            subscription.set_info(with_chan_info(info, chan_info.as_ref()));
        }
        self.set_mark(conn, channel, mark);
        self.set_expiry(conn, channel, expires_ms);
        self.reply(conn, id, &Reply::SubRefresh { expires: ttl > 0, ttl, items: &[] });
        Step::Done
    }

    /// What a token says about this client in this channel. `invalid` answers one that is none.
    ///
    /// # Errors
    /// [`ErrorCode::TokenExpired`]; [`Disconnect::INVALID_TOKEN`] for a token of another channel, user or
    /// client; `invalid`.
    pub(super) fn check_subscription_token(
        &self,
        conn: ConnKey,
        channel: &str,
        token: &str,
        invalid: Refusal,
    ) -> Result<SubscribeClaims, Refusal> {
        let revoked = invalid.clone();
        let claims = self.subscription_tokens.subscribe(token, self.now.unix_ms).map_err(|it| match it {
            it if it.is_untimely() => Refusal::Error(ErrorCode::TokenExpired),
            Refused::Key => Refusal::Key,
            _ => invalid,
        })?;
        let info = self.info(conn).ok_or(ErrorCode::Internal)?;
        let of_client = claims.client.is_empty() || *claims.client == *info.client.to_string();
        let of_user = *claims.user == *info.user || self.takes_client_for_user(conn, &claims);
        if *claims.channel != *channel || !of_user || !of_client {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        if self.denials.revokes_subscription(&claims, self.now) {
            return Err(revoked);
        }
        Ok(claims)
    }

    /// Notes what token the subscription to this channel lives on.
    pub(super) fn set_mark(&mut self, conn: ConnKey, channel: &str, mark: Mark) {
        let Some(hub) = self.hub.find(channel) else { return };
        if let Some(session) = self.sessions.get_mut(conn) {
            let marks = &mut session.account.get_or_insert_default().sub_marks;
            marks.retain(|(other, _)| *other != hub);
            marks.push((hub, mark));
        }
    }
}
