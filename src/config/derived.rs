//! What follows from settings: said once, for all who ask.

use super::settings::{Settings, SockJs, WebSocket};

impl Settings {
    /// Whether there are clients whose commands come to `emulation.handler_prefix`.
    #[must_use]
    pub fn emulates(&self) -> bool {
        self.http_stream.enabled || self.sse.enabled
    }
}

impl SockJs {
    /// Keys that every core keeps free for sessions without a connection.
    #[must_use]
    pub fn keys(&self) -> u32 {
        if self.enabled { u32::try_from(self.http_sessions_max).unwrap_or(u32::MAX) } else { 0 }
    }
}

impl WebSocket {
    /// `websocket.decompressed_message_size_limit` as it is used.
    #[must_use]
    pub fn inflated_size_limit(&self) -> usize {
        match self.decompressed_message_size_limit {
            0 => self.message_size_limit.saturating_mul(10),
            limit => limit,
        }
    }
}
