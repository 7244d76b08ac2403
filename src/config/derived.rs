//! What follows from settings: said once, for all who ask.

use super::{
    choices::DataFormat,
    listeners::UniWebSocket,
    settings::{Channel, Client, Settings, SockJs, Token, WebSocket},
};

impl Settings {
    /// Whether there are clients whose commands come to `emulation.handler_prefix`.
    #[must_use]
    pub fn emulates(&self) -> bool {
        self.http_stream.enabled || self.sse.enabled
    }
}

impl Client {
    /// The sections about tokens, by the keys they stand under.
    #[must_use]
    pub fn tokens(&self) -> [(&'static str, &Token); 2] {
        [("client.token", &self.token), ("client.subscription_token", &self.subscription_token.token)]
    }
}

impl Channel {
    /// The same, with what holds where a namespace does not say said in each of them.
    #[must_use]
    pub fn spelled_out(&self) -> Self {
        let mut all = self.clone();
        let named = all.namespaces.iter_mut().map(|namespace| &mut namespace.options);
        for options in std::iter::once(&mut all.without_namespace).chain(named) {
            if options.publication_data_format == DataFormat::Any {
                options.publication_data_format = self.publication_data_format;
            }
        }
        all
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
