//! What follows from settings: said once, for all who ask.

use super::{
    listeners::UniWebSocket,
    settings::{Settings, SockJs, WebSocket},
};

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
        inflated(self.decompressed_message_size_limit, self.message_size_limit)
    }
}

impl UniWebSocket {
    /// `uni_websocket.decompressed_message_size_limit` as it is used.
    #[must_use]
    pub fn inflated_size_limit(&self) -> usize {
        inflated(self.decompressed_message_size_limit, self.message_size_limit)
    }
}

fn inflated(limit: usize, message_size_limit: usize) -> usize {
    if limit == 0 { message_size_limit.saturating_mul(10) } else { limit }
}
