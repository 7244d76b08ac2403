//! Settings as the server uses them. Everything here is valid: whoever builds it has checked it.
//!
//! Field paths are the keys: `settings.client.ping_interval` is `client.ping_interval`. Keys and defaults are
//! those of Centrifugo v6 where a feature is shared.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Settings {
    pub http_server: HttpServer,
    pub client: Client,
    pub channel: Channel,
    pub websocket: WebSocket,
    pub http_api: HttpApi,
    pub health: Endpoint<Health>,
    pub prometheus: Endpoint<Prometheus>,
    pub node: Node,
    pub shutdown: Shutdown,
    pub runtime: Runtime,
    pub mesh: Mesh,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpServer {
    /// Empty: all addresses, IPv6 and IPv4.
    pub address: String,
    pub port: u16,
    /// Bytes of a request head; more is answered 431.
    pub header_size_max: usize,
    pub header_count_max: usize,
    /// Bytes of a request body (server API); more is answered 413.
    pub body_size_max: usize,
    /// Longest a request head or a WebSocket handshake may take.
    pub head_timeout: Duration,
    /// Idle keep-alive connections are closed after this.
    pub keep_alive_timeout: Duration,
    /// Pipelined requests of one connection waiting for their answers; beyond, reading pauses.
    pub pipeline_max: usize,
    /// Expect the PROXY protocol (v1 or v2) in front of every connection.
    pub proxy_protocol: bool,
    /// Addresses or networks (CIDR) whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for HttpServer {
    fn default() -> Self {
        Self {
            address: String::new(),
            port: 8000,
            header_size_max: 16 * 1024,
            header_count_max: 100,
            body_size_max: 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            pipeline_max: 64,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    pub allowed_origins: Vec<String>,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub stale_close_delay: Duration,
    /// Channels one connection may be subscribed to.
    pub channel_limit: usize,
    /// Bytes that may wait for one client; above it is disconnected with 3008.
    pub queue_max_size: usize,
    /// Bytes of commands of one connection that may wait for earlier ones; when full, reading pauses.
    pub held_max_size: usize,
    pub history_max_publication_limit: usize,
    pub recovery_max_publication_limit: usize,
    pub channel_position_check_delay: Duration,
    pub allow_anonymous_connect_without_token: bool,
    /// Everything is allowed to everybody: development only.
    pub insecure: bool,
    pub connect_include_server_time: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            channel_limit: 128,
            queue_max_size: 1024 * 1024,
            held_max_size: 256 * 1024,
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            channel_position_check_delay: Duration::from_secs(40),
            allow_anonymous_connect_without_token: false,
            insecure: false,
            connect_include_server_time: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Bytes of a channel name.
    pub max_length: usize,
    pub private_prefix: String,
    pub namespace_boundary: String,
    pub user_boundary: String,
    pub user_separator: String,
    /// How long a stream's position outlives its last publication, where a namespace does not say.
    pub history_meta_ttl: Duration,
    pub without_namespace: ChannelOptions,
    pub namespaces: Vec<Namespace>,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            max_length: 255,
            private_prefix: "$".into(),
            namespace_boundary: ":".into(),
            user_boundary: "#".into(),
            user_separator: ",".into(),
            history_meta_ttl: Duration::from_secs(720 * 3600),
            without_namespace: ChannelOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Namespace {
    pub name: String,
    pub options: ChannelOptions,
}

/// What a namespace says about its channels. Everything is off by default.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ChannelOptions {
    pub presence: bool,
    pub join_leave: bool,
    pub force_push_join_leave: bool,
    /// History needs both size and ttl above zero.
    pub history_size: usize,
    pub history_ttl: Duration,
    /// Zero: `channel.history_meta_ttl`.
    pub history_meta_ttl: Duration,
    pub force_positioning: bool,
    pub allow_positioning: bool,
    pub force_recovery: bool,
    pub allow_recovery: bool,
    pub allow_subscribe_for_client: bool,
    pub allow_subscribe_for_anonymous: bool,
    pub allow_publish_for_client: bool,
    pub allow_publish_for_subscriber: bool,
    pub allow_publish_for_anonymous: bool,
    pub allow_presence_for_client: bool,
    pub allow_presence_for_subscriber: bool,
    pub allow_presence_for_anonymous: bool,
    pub allow_history_for_client: bool,
    pub allow_history_for_subscriber: bool,
    pub allow_history_for_anonymous: bool,
    pub allow_user_limited_channels: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebSocket {
    pub disabled: bool,
    pub handler_prefix: String,
    /// Bytes of one message from a client; more closes with 1009.
    pub message_size_limit: usize,
    /// A connection that takes no bytes for this long is closed with 3009.
    pub write_timeout: Duration,
    /// Shared frames are closed at this many bytes.
    pub frame_size_target: usize,
    /// How long the server waits for the peer's close after its own.
    pub close_timeout: Duration,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            disabled: false,
            handler_prefix: "/connection/websocket".into(),
            message_size_limit: 65_536,
            write_timeout: Duration::from_secs(1),
            frame_size_target: 65_536,
            close_timeout: Duration::from_secs(5),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpApi {
    pub disabled: bool,
    pub handler_prefix: String,
    /// Empty and not insecure: every call is answered 401.
    pub key: String,
    pub insecure: bool,
    /// "" or "transport".
    pub error_mode: String,
    /// Longest a call waits for other cores.
    pub timeout: Duration,
}

impl Default for HttpApi {
    fn default() -> Self {
        Self {
            disabled: false,
            handler_prefix: "/api".into(),
            key: String::new(),
            insecure: false,
            error_mode: String::new(),
            timeout: Duration::from_secs(5),
        }
    }
}

/// A switch and a path on the client port.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint<Kind> {
    pub enabled: bool,
    pub handler_prefix: String,
    pub kind: std::marker::PhantomData<Kind>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Health;
#[derive(Clone, Debug, PartialEq)]
pub struct Prometheus;

impl Default for Endpoint<Health> {
    fn default() -> Self {
        Self { enabled: true, handler_prefix: "/health".into(), kind: std::marker::PhantomData }
    }
}

impl Default for Endpoint<Prometheus> {
    fn default() -> Self {
        Self { enabled: true, handler_prefix: "/metrics".into(), kind: std::marker::PhantomData }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Node {
    /// Empty: host name and port.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    pub timeout: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    pub cores: Cores,
    pub backend: Backend,
    /// Hand fresh connections to the core that has fewest.
    pub balance: bool,
    /// Read buffers lent per core, and the bytes of each.
    pub buffer_count: u16,
    pub buffer_size: usize,
    /// A turn handles at most this many completions …
    pub turn_completions_max: usize,
    /// … or this long, before it writes.
    pub turn_time_max: Duration,
    /// Bytes that blocked connections of a core may hold in shared segments before they are copied out.
    pub held_segments_max_size: usize,
    /// Length of the kernel's accept queue of each listener.
    pub listen_backlog: u32,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            cores: Cores::All,
            backend: Backend::Auto,
            balance: true,
            buffer_count: 256,
            buffer_size: 16 * 1024,
            turn_completions_max: 1024,
            turn_time_max: Duration::from_micros(200),
            held_segments_max_size: 64 * 1024 * 1024,
            listen_backlog: 4096,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// As many as the cpuset allows.
    All,
    /// The first so many of the cpuset.
    Count(usize),
    /// Exactly these CPUs.
    List(Vec<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Ring where the kernel has what it needs, otherwise poll.
    Auto,
    Ring,
    Poll,
}

/// The queues between cores.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// Questions a core may have open with each peer. Without credit reading pauses, API calls get 111.
    pub credit: usize,
    /// Bytes of forwarded publications that may wait for each peer; beyond, they are dropped and declared.
    pub queue_max_size: usize,
    /// A question that is not answered in this time is answered with an internal error.
    pub ask_timeout: Duration,
}

impl Default for Mesh {
    fn default() -> Self {
        Self { credit: 4096, queue_max_size: 32 * 1024 * 1024, ask_timeout: Duration::from_secs(5) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// "debug", "info", "warn", "error" or "none".
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into() }
    }
}
