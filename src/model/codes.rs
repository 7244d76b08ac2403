//! Every number a client can see, with its text and who should react.
//!
//! Numbers and texts are those of Centrifugo: the SDKs decide by them whether to come back.

/// Answers one command; the connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    Internal,
    Unauthorized,
    UnknownChannel,
    PermissionDenied,
    MethodNotFound,
    AlreadySubscribed,
    LimitExceeded,
    BadRequest,
    NotAvailable,
    TokenExpired,
    Expired,
    TooManyRequests,
    UnrecoverablePosition,
    ConcurrentPagination,
}

impl ErrorCode {
    /// The number, the text, and whether the client should try again by itself.
    #[must_use]
    pub const fn parts(self) -> (u32, &'static str, bool) {
        match self {
            Self::Internal => (100, "internal server error", true),
            Self::Unauthorized => (101, "unauthorized", false),
            Self::UnknownChannel => (102, "unknown channel", false),
            Self::PermissionDenied => (103, "permission denied", false),
            Self::MethodNotFound => (104, "method not found", false),
            Self::AlreadySubscribed => (105, "already subscribed", false),
            Self::LimitExceeded => (106, "limit exceeded", false),
            Self::BadRequest => (107, "bad request", false),
            Self::NotAvailable => (108, "not available", false),
            Self::TokenExpired => (109, "token expired", false),
            Self::Expired => (110, "expired", false),
            Self::TooManyRequests => (111, "too many requests", true),
            Self::UnrecoverablePosition => (112, "unrecoverable position", false),
            Self::ConcurrentPagination => (113, "concurrent pagination", true),
        }
    }

    #[must_use]
    pub const fn code(self) -> u32 {
        self.parts().0
    }

    #[must_use]
    pub const fn message(self) -> &'static str {
        self.parts().1
    }

    #[must_use]
    pub const fn temporary(self) -> bool {
        self.parts().2
    }
}

/// Closes the connection. 3000–3499, 4000–4499 and 5000 up: the client reconnects; 3500–3999 and
/// 4500–4999: it does not. Applications use 4000–4999.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub code: u32,
    /// Plain text, at most 123 bytes: it travels in a WebSocket close frame.
    pub reason: std::borrow::Cow<'static, str>,
}

impl Disconnect {
    /// The peer went away; never sent.
    pub const CONNECTION_CLOSED: Self = Self::fixed(3000, "connection closed");
    pub const SHUTDOWN: Self = Self::fixed(3001, "shutdown");
    pub const INTERNAL: Self = Self::fixed(3004, "internal server error");
    pub const EXPIRED: Self = Self::fixed(3005, "connection expired");
    pub const SUBSCRIPTION_EXPIRED: Self = Self::fixed(3006, "subscription expired");
    /// More bytes waited for the client than `client.queue_max_size`.
    pub const SLOW: Self = Self::fixed(3008, "slow");
    /// A write did not finish within `websocket.write_timeout`.
    pub const WRITE_ERROR: Self = Self::fixed(3009, "write error");
    /// Publications were lost on the way; reconnecting recovers them.
    pub const INSUFFICIENT_STATE: Self = Self::fixed(3010, "insufficient state");
    pub const FORCE_RECONNECT: Self = Self::fixed(3011, "force reconnect");
    pub const NO_PONG: Self = Self::fixed(3012, "no pong");
    pub const TOO_MANY_REQUESTS: Self = Self::fixed(3013, "too many requests");
    /// The token is refused from now on; the client reconnects with another one.
    pub const INVALIDATED: Self = Self::fixed(3014, "state invalidated");
    pub const INVALID_TOKEN: Self = Self::fixed(3500, "invalid token");
    pub const BAD_REQUEST: Self = Self::fixed(3501, "bad request");
    /// No successful connect within `client.stale_close_delay`.
    pub const STALE: Self = Self::fixed(3502, "stale");
    pub const FORCE: Self = Self::fixed(3503, "force disconnect");
    pub const CONNECTION_LIMIT: Self = Self::fixed(3504, "connection limit");
    pub const CHANNEL_LIMIT: Self = Self::fixed(3505, "channel limit");
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::fixed(3506, "inappropriate protocol");
    pub const PERMISSION_DENIED: Self = Self::fixed(3507, "permission denied");
    pub const NOT_AVAILABLE: Self = Self::fixed(3508, "not available");

    /// Whether the client is to come back by itself.
    #[must_use]
    pub const fn reconnects(&self) -> bool {
        !matches!(self.code, 3500..=3999 | 4500..=4999)
    }

    const fn fixed(code: u32, reason: &'static str) -> Self {
        Self { code, reason: std::borrow::Cow::Borrowed(reason) }
    }
}

/// Ends one subscription from the server's side. 2000–2499: for good; 2500–2999: the client resubscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub code: u32,
    pub reason: &'static str,
}

impl Unsubscribe {
    pub const SERVER: Self = Self { code: 2000, reason: "server unsubscribe" };
    /// Publications were lost on the way; the client resubscribes and recovers them.
    pub const INSUFFICIENT_STATE: Self = Self { code: 2500, reason: "insufficient state" };
    pub const EXPIRED: Self = Self { code: 2501, reason: "subscription expired" };
    /// Its token is refused from now on; the client resubscribes with another one.
    pub const INVALIDATED: Self = Self { code: 2502, reason: "state invalidated" };
}
