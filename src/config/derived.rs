//! What follows from settings: said once, for all who ask.

use super::{
    choices::DataFormat,
    listeners::UniWebSocket,
    settings::{Channel, Client, Settings, SockJs, Token, WebSocket},
};
use std::time::Duration;

/// How a port serves TLS, whichever section says so.
#[derive(Clone, Copy, Debug)]
pub struct TlsPart<'a> {
    /// Where it stands, such as `http_server.tls`.
    pub section: &'static str,
    /// The port is served, and speaks TLS.
    pub enabled: bool,
    pub cert_pem: &'a str,
    pub key_pem: &'a str,
    pub client_ca_pem: &'a str,
    pub min_version: &'a str,
    pub watch_interval: Duration,
    /// What is spoken inside, by its name in ALPN.
    pub protocol: &'static str,
}

impl Settings {
    /// Every port that may speak TLS, always in this order: the client port, that of `uni_grpc`.
    #[must_use]
    pub fn tls_parts(&self) -> [TlsPart<'_>; 2] {
        let (http, grpc) = (&self.http_server.tls, &self.uni_grpc.tls);
        [
            TlsPart {
                section: "http_server.tls",
                enabled: http.enabled,
                cert_pem: &http.cert_pem,
                key_pem: &http.key_pem,
                client_ca_pem: &http.client_ca_pem,
                min_version: &http.min_version,
                watch_interval: http.watch_interval,
                protocol: "http/1.1",
            },
            TlsPart {
                section: "uni_grpc.tls",
                enabled: self.uni_grpc.enabled && grpc.enabled,
                cert_pem: &grpc.cert_pem,
                key_pem: &grpc.key_pem,
                client_ca_pem: &grpc.client_ca_pem,
                min_version: &grpc.min_version,
                watch_interval: grpc.watch_interval,
                protocol: "h2",
            },
        ]
    }

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
