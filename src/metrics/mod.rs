//! Plain counters of one core, merged when somebody asks. Names, kinds and help texts are defined here once.
//!
//! A counter is one addition to a `u64` the core owns: no atomics, no labels looked up on the way.

pub mod prometheus;

macro_rules! counters {
    ($($variant:ident, $kind:ident, $name:literal, $help:literal;)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($variant),* }

        impl Counter {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Name in Prometheus text, kind, and help.
            #[must_use]
            pub const fn describe(self) -> (&'static str, Kind, &'static str) {
                match self { $(Self::$variant => ($name, Kind::$kind, $help)),* }
            }
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// A level that rises and falls.
    Gauge,
}

counters! {
    ConnectionsAccepted, Counter, "corecast_connections_accepted_total", "Connections accepted.";
    ConnectionsTurnedAway, Counter, "corecast_connections_turned_away_total", "Clients answered 503 for a limit on connections.";
    ConnectionsOpen, Gauge, "corecast_connections_open", "Connections open, whatever they speak.";
    BytesReceived, Counter, "corecast_bytes_received_total", "Bytes read from clients.";
    BytesSent, Counter, "corecast_bytes_sent_total", "Bytes written to clients.";
    Writes, Counter, "corecast_writes_total", "Writes to sockets.";
    ShortWrites, Counter, "corecast_short_writes_total", "Writes a socket did not take completely.";
    MessagesDelivered, Counter, "corecast_messages_delivered_total", "Publications, joins and leaves handed to subscribers.";
    FramesShared, Counter, "corecast_frames_shared_total", "Frames encoded once for all members of a group.";
    Deflated, Counter, "corecast_deflated_messages_total", "WebSocket messages compressed, each once however many get it.";
    DeflateBytesIn, Counter, "corecast_deflate_bytes_in_total", "Bytes of those messages before compression.";
    DeflateBytesOut, Counter, "corecast_deflate_bytes_out_total", "Bytes of those messages after compression.";
    DeflateInVain, Counter, "corecast_deflate_in_vain_total", "WebSocket messages sent as they are because compression did not make them shorter.";
    Inflated, Counter, "corecast_inflated_messages_total", "Compressed WebSocket messages of clients.";
    InflateBytesIn, Counter, "corecast_inflate_bytes_in_total", "Bytes of those messages as they came.";
    InflateBytesOut, Counter, "corecast_inflate_bytes_out_total", "Bytes of those messages inflated.";
    CommandsReceived, Counter, "corecast_commands_received_total", "Commands decoded from clients.";
    RepliesSent, Counter, "corecast_replies_sent_total", "Replies to commands, errors included.";
    ReplyErrors, Counter, "corecast_reply_errors_total", "Replies that carry an error.";
    CommandsOverLimit, Counter, "corecast_commands_over_limit_total", "Commands refused for a limit of client.rate_limit (111).";
    Disconnects, Counter, "corecast_disconnects_total", "Connections this server closed, whatever the code.";
    DisconnectsSlow, Counter, "corecast_disconnects_slow_total", "Connections closed because they did not read (3008, 3009).";
    DisconnectsBadRequest, Counter, "corecast_disconnects_bad_request_total", "Connections closed for breaking the protocol (3501).";
    DisconnectsOverLimit, Counter, "corecast_disconnects_over_limit_total", "Connections closed for more errors than client.rate_limit.client_error allows (3013).";
    Publications, Counter, "corecast_publications_total", "Publications taken by the channels this core owns.";
    DeltasMade, Counter, "corecast_deltas_made_total", "Differences between two publications computed, each once a turn and protocol however many get it.";
    PublicationsNotJson, Counter, "corecast_publications_not_json_total", "Publications withheld from JSON subscribers because they are not JSON.";
    Recoveries, Counter, "corecast_recoveries_total", "Subscriptions recovered completely.";
    RecoveriesFailed, Counter, "corecast_recoveries_failed_total", "Recovery attempts answered with recovered: false.";
    InsufficientState, Counter, "corecast_insufficient_state_total", "Subscriptions ended because publications were lost on the way.";
    MeshMessagesSent, Counter, "corecast_mesh_messages_sent_total", "Messages sent to other cores.";
    MeshDropped, Counter, "corecast_mesh_dropped_total", "Publications dropped because the queue to another core was full.";
    CreditExhausted, Counter, "corecast_mesh_credit_exhausted_total", "Times a command had to wait for credit to another core.";
    HttpRequests, Counter, "corecast_http_requests_total", "HTTP requests answered, upgrades included.";
    ApiCalls, Counter, "corecast_api_calls_total", "Server API calls, by any transport.";
    ApiErrors, Counter, "corecast_api_errors_total", "Server API calls answered with an error.";
    BackendRequests, Counter, "corecast_backend_requests_total", "Requests to backends that have ended, failed ones included.";
    BackendErrors, Counter, "corecast_backend_errors_total", "Requests to backends without an answer that makes sense.";
    BackendMicros, Counter, "corecast_backend_request_microseconds_total", "Time those requests took.";
    PollKeys, Gauge, "corecast_poll_keys", "Keys of shared polls that are tracked.";
    TlsHandshakes, Counter, "corecast_tls_handshakes_total", "TLS handshakes done, resumed ones included.";
    TlsResumed, Counter, "corecast_tls_resumed_total", "TLS handshakes that resumed an earlier session.";
    TlsHandshakesFailed, Counter, "corecast_tls_handshakes_failed_total", "TLS handshakes that were begun and not done.";
    TlsReloads, Counter, "corecast_tls_reloads_total", "Times the certificate was read anew; of the process, told by core 0.";
    TlsReloadsFailed, Counter, "corecast_tls_reloads_failed_total", "Times a new certificate was refused and the old one kept; of the process, told by core 0.";
    TlsCertificateUntil, Gauge, "corecast_tls_certificate_not_after_seconds", "Until when the certificate is valid, in seconds since 1970; 0: no TLS.";
    AcceptFailures, Counter, "corecast_accept_failures_total", "Accepts that failed, mostly for want of file descriptors.";
    TimerWakes, Counter, "corecast_timer_found_work_total", "Times the safety timer found work that should have woken the core; must stay 0.";
    Turns, Counter, "corecast_turns_total", "Turns of the core.";
    BusyMicros, Counter, "corecast_busy_microseconds_total", "Time spent in turns, not asleep.";
    TurnMicrosMax, Gauge, "corecast_turn_microseconds_max", "Longest turn since the last scrape.";
}

/// The counters of one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}

impl Counters {
    #[inline]
    pub fn add(&mut self, counter: Counter, by: u64) {
        self.0[counter as usize] = self.0[counter as usize].wrapping_add(by);
    }

    #[inline]
    pub fn increment(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds every value of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (value, by) in self.0.iter_mut().zip(other.0) {
            *value = value.wrapping_add(by);
        }
    }

    /// For gauges.
    #[inline]
    pub fn set(&mut self, counter: Counter, value: u64) {
        self.0[counter as usize] = value;
    }

    #[inline]
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}
