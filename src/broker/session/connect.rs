//! `connect`: who the client is, and what it is told.

use super::{State, Step};
use crate::{
    broker::{VERSION, core::Core},
    model::{ClientInfo, ConnKey, Disconnect},
    wire::client::{ConnectRequest, ConnectResult, Reply},
};
use std::sync::Arc;

impl Core {
    pub(super) fn connect(&mut self, conn: ConnKey, id: u32, request: &ConnectRequest<'_>) -> Step {
        let client = &self.settings.client;
        // No key is configured that could have signed it.
        if !request.token.is_empty() {
            return self.end(conn, Disconnect::INVALID_TOKEN);
        }
        if !client.allow_anonymous_connect_without_token && !client.insecure {
            return self.end(conn, Disconnect::BAD_REQUEST);
        }
        let info = Arc::new(ClientInfo {
            user: Arc::clone(&self.anonymous),
            client: self.ids.make(self.id, conn, self.rng.next_u64()),
            conn_info: None,
            chan_info: None,
        });
        let (ping, pong) = self.announced_ping(conn);
        let time_ms = if self.settings.client.connect_include_server_time { self.now.unix_ms } else { 0 };
        let result = ConnectResult {
            client: info.client,
            version: VERSION,
            expires: false,
            ttl: 0,
            data: &[],
            subs: &[],
            ping,
            pong,
            session: "",
            node: "",
            time_ms,
        };
        self.reply(conn, id, &Reply::Connect(&result));
        self.clients += 1;
        self.remember_user(&info.user, conn);
        let due_ms = self.first_ping_ms();
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = State::Connected;
            session.info = Some(info);
            session.due_ms = due_ms;
        }
        self.schedule(conn);
        Step::Done
    }

    /// Ping interval in seconds and whether pongs are expected; both absent when pings are WebSocket frames.
    fn announced_ping(&self, conn: ConnKey) -> (u32, bool) {
        if self.sessions.get(conn).is_none_or(|session| session.websocket_pings) {
            return (0, false);
        }
        let client = &self.settings.client;
        let seconds = u32::try_from(client.ping_interval.as_secs()).unwrap_or(u32::MAX);
        (seconds, seconds > 0 && !client.pong_timeout.is_zero())
    }
}
