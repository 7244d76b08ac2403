//! Settings as the server uses them, and the one table of options they come from.
//!
//! Field paths are the keys: `settings.client.ping_interval` is `client.ping_interval`. Keys and defaults are
//! those of Centrifugo v6 where a feature is shared. What [`load`](super::load) returns is valid; whoever
//! fills the fields by hand answers for that.

use super::{
    choices::{ClientKey, DataFormat, MapMode, PollMode, ProtocolV1, RecoveryMode, SubscriptionType},
    listeners::{Init, UniHttpStream, UniSse, UniWebSocket},
    rate_limit::RateLimit,
    rules::Rule,
    table::sections,
    transforms::ConnectDisconnects,
    values::{Headers, OrOff},
};
use std::time::Duration;

pub use super::sections::{Endpoint, EndpointKind, Health, Namespace, Prometheus, SubscriptionToken};

pub(super) const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sizes in bytes: at least one, at most 4 GiB.
const SIZE: Rule = Rule::Range(1, 4 << 30);
/// How long to wait for something: never zero, at most a day.
pub(super) const WAIT: Rule = Rule::Time(ms(1), seconds(24 * 3600));
/// The same where zero stands for the default.
const SIZE_OR_DEFAULT: Rule = Rule::RangeOrDefault(1, 4 << 30);
pub(super) const WAIT_OR_DEFAULT: Rule = Rule::TimeOrDefault(ms(1), seconds(24 * 3600));
/// Bytes of what a client sends in one piece.
pub(super) const MESSAGE: Rule = Rule::RangeOrDefault(1, 1 << 30);
/// How often, or how long, if at all.
const BEAT: Rule = Rule::TimeOrOff(ms(1), seconds(24 * 3600));
/// How long to be patient: at most a day.
const GRACE: Rule = Rule::ZeroOrTime(ms(1), seconds(24 * 3600));
/// How long to keep something: at most ten years.
const TTL: Rule = Rule::ZeroOrTime(ms(1), seconds(87_600 * 3600));

sections! {
    /// Everything that can be set.
    Settings {}
    + parts {
        /// The port clients and backends connect to.
        http_server: HttpServer,
        /// Client connections.
        client: Client,
        /// Channel names and what they may do.
        channel: Channel,
        /// Shared polls: who may hear of which keys.
        shared_poll: SharedPoll,
        /// Calls of clients. All are answered with error 108, but for what is enabled here.
        rpc: Rpc,
        /// What this server asks of backends, whatever for.
        backend: BackendRoom,
        /// The WebSocket transport.
        websocket: WebSocket,
        /// Clients without WebSocket: what they get is the endless body of one response, what they say comes to `emulation.handler_prefix`. JSON and Protobuf.
        http_stream: HttpStream,
        /// The same as server-sent events, for browsers' `EventSource`. JSON.
        sse: Sse,
        /// Clients that come by SockJS: browsers that cannot do WebSocket, and SDKs of the era of Centrifugo v2 and v3. JSON.
        sockjs: SockJs,
        /// Where clients of `http_stream` and `sse` send their commands; there is such an endpoint if one of them is enabled.
        emulation: Emulation,
        /// Clients that only listen, over WebSocket: they say how they connect, and get bare pushes. JSON.
        uni_websocket: UniWebSocket,
        /// Clients that only listen, by server-sent events. JSON.
        uni_sse: UniSse,
        /// Clients that only listen, in the body of one response. JSON.
        uni_http_stream: UniHttpStream,
        /// Clients that only listen, by gRPC on a port of its own: `Consume` of `schema/unistream.proto`. Protobuf.
        uni_grpc: UniGrpc,
        /// Answers `{}` to pages that ask, before they connect, whether they reach this server, or for what a proxy in front sets (cookies).
        init: Init,
        /// The HTTP server API.
        http_api: HttpApi,
        /// The health check.
        health: Endpoint<Health>,
        /// Metrics in Prometheus text.
        prometheus: Endpoint<Prometheus>,
        /// This process among others.
        node: Node,
        /// Stopping.
        shutdown: Shutdown,
        /// Cores, buffers and sockets.
        runtime: Runtime,
        /// The queues between cores.
        mesh: Mesh,
        /// Logging, to standard error.
        log: Log,
    }

    HttpServer {
        /// Address to listen on. Empty: all addresses, IPv6 and IPv4.
        address: String = String::new(), Rule::Address;
        /// Port to listen on. 0 takes a free one, said at start.
        port: u16 = 8000, Rule::Range(0, 65_535);
        /// Bytes of a request head; more is answered 431. A connection holds as much while a head arrives.
        header_size_max: usize = 16 * KIB, Rule::Range(256, 1 << 20);
        /// Header fields of a request; more is answered 431.
        header_count_max: usize = 100, Rule::Range(8, 1000);
        /// Bytes of a request body (server API); more is answered 413. A connection holds as much while a body arrives.
        body_size_max: usize = MIB, Rule::Range(1, 1 << 30);
        /// Longest a request head or a WebSocket handshake may take, the TLS handshake before it included.
        head_timeout: Duration = seconds(10), WAIT;
        /// Idle keep-alive connections are closed after this.
        keep_alive_timeout: Duration = seconds(75), WAIT;
        /// How long a response may take to go out, and the client to close, once the connection is to end.
        close_timeout: Duration = seconds(5), WAIT;
        /// Pipelined requests of one connection waiting for their answers; beyond, reading pauses.
        pipeline_max: usize = 64, Rule::Range(1, 1024);
        /// Expect the PROXY protocol (v1 or v2) in front of every connection.
        proxy_protocol: bool = false, Rule::Any;
        /// Addresses or networks (CIDR) whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<String> = Vec::new(), Rule::Networks;
    }
    + parts {
        /// TLS (https, wss) on this port, and nothing else on it. What is a file is read again on SIGHUP, and when it changes.
        tls: Tls,
    }

    Tls {
        /// Serve TLS; needs `cert_pem` and `key_pem`.
        enabled: bool = false, Rule::Any;
        /// Certificate of the server, and those between it and a root, in PEM: a file, the text itself, or that in base64.
        cert_pem: String = String::new(), Rule::Any;
        /// Private key of the certificate in PEM, without a pass phrase: a file, the text itself, or that in base64.
        key_pem: String = String::new(), Rule::Secret;
        /// Clients must show a certificate signed by one of these, in PEM: a file, the text itself, or that in base64. Empty: they need none.
        client_ca_pem: String = String::new(), Rule::Any;
        /// Lowest version of TLS that is accepted.
        min_version: String = "1.2".into(), Rule::Words(&["1.2", "1.3"]);
        /// How often to look whether the files have changed; once they have, and stay so for as long, they are read again. 0s: only on SIGHUP.
        watch_interval: Duration = seconds(30), GRACE;
        /// Bytes a client may send before its handshake is done; with more it is refused. A connection holds as much meanwhile.
        handshake_size_max: usize = 64 * KIB, Rule::Range(4096, 1 << 20);
        /// Time a turn of a core spends on handshakes, so that a storm of them delays connected clients by no more; the others wait in a queue. One handshake is always done.
        handshake_turn_time_max: Duration = Duration::from_micros(100), Rule::Time(Duration::from_micros(1), seconds(1));
    }

    Client {
        /// Origins browsers may connect from, as `https://example.com`, with `*` as wildcard. Empty: only clients that send no `Origin` header.
        allowed_origins: Vec<String> = Vec::new(), Rule::Patterns;
        /// How often the server pings a client. Longer than `client.pong_timeout`. With none, clients are told of no pings, and neither side notices that the other is gone until it sends something.
        ping_interval: OrOff = OrOff::on(seconds(25)), BEAT;
        /// A client that does not answer a ping for this long is disconnected with 3012. With none, clients are told not to answer.
        pong_timeout: OrOff = OrOff::on(seconds(8)), BEAT;
        /// A client that has not connected successfully after this is disconnected with 3502.
        stale_close_delay: Duration = seconds(10), WAIT_OR_DEFAULT;
        /// Channels one connection may be subscribed to; more is answered with error 106.
        channel_limit: usize = 128, Rule::RangeOrDefault(1, 1_000_000);
        /// Sessions one user may have at a time on this node; a further one is disconnected with 3504. 0: any number.
        user_connection_limit: usize = 0, Rule::Range(0, 1_000_000);
        /// Blocked users a core remembers, and as many revoked tokens, some hundred bytes each; more are answered with error 106 until some have ended.
        denials_max: usize = 100_000, Rule::Range(1, 10_000_000);
        /// Client connections of this node; a further one is answered 503. 0: any number.
        connection_limit: usize = 0, Rule::Range(0, 100_000_000);
        /// Client connections this node accepts per second, a second's worth of them at once; more are answered 503. 0: any number.
        connection_rate_limit: usize = 0, Rule::Range(0, 1_000_000);
        /// Client connections from one address at a time (IPv6: from one /64 network); a further one is answered 503. Behind a proxy set `http_server.trusted_proxies`. 0: any number.
        connection_limit_per_ip: usize = 0, Rule::Range(0, 1_000_000);
        /// Bytes that may wait for one client; above it is disconnected with 3008. Bounds memory: worst case is this times the number of connections.
        queue_max_size: usize = MIB, SIZE_OR_DEFAULT;
        /// Bytes of commands of one connection that may wait for earlier ones; when full, reading pauses.
        held_max_size: usize = 256 * KIB, SIZE;
        /// Bytes of a tags filter: its texts, and 32 for each node and value; more is answered with error 106. Bounds memory: worst case is this for every subscription.
        tags_filter_size_max: usize = 4096, Rule::Range(64, 1 << 20);
        /// Groups of a channel's subscribers on one core up to which subscribers with equal filters are found and served together; those that come later are served one by one.
        tags_filter_groups_max: usize = 64, Rule::Range(1, 100_000);
        /// Publications one history call of a client may return.
        history_max_publication_limit: usize = 300, Rule::RangeOrMost(1, 1_000_000);
        /// Publications that can be recovered at once; who missed more is told `recovered: false`.
        recovery_max_publication_limit: usize = 300, Rule::RangeOrMost(1, 1_000_000);
        /// How often the position of a positioned subscription is compared with its channel's.
        channel_position_check_delay: Duration = seconds(40), WAIT_OR_DEFAULT;
        /// A publication that reaches the core of its subscribers this long after it was made tells positioned ones that their state is insufficient: they recover. 0s: however late.
        channel_position_max_time_lag: Duration = Duration::ZERO, GRACE;
        /// Accept clients without a token, as users with an empty id.
        allow_anonymous_connect_without_token: bool = false, Rule::Any;
        /// Refuse connection tokens without a user (3507).
        disallow_anonymous_connection_tokens: bool = false, Rule::Any;
        /// Request header (of gRPC: metadata) that names the user, set by a proxy in front which removes what clients send under this name. Empty: none. A token wins.
        user_id_http_header: String = String::new(), Rule::Header;
        /// How long a connection may outlive its token before it is disconnected with 3005: time to refresh.
        expired_close_delay: Duration = seconds(25), GRACE;
        /// How long a subscription may outlive its token before it ends with 2501 (3006 where the server made it): time to refresh.
        expired_sub_close_delay: Duration = seconds(25), GRACE;
        /// Believe tokens without looking at their signature: development only.
        insecure_skip_token_signature_verify: bool = false, Rule::Any;
        /// Everything is allowed to everybody: development only.
        insecure: bool = false, Rule::Any;
        /// Tell clients the server's time in the reply to connect.
        connect_include_server_time: bool = false, Rule::Any;
        /// Let in clients that speak version 1 of the protocol, told from others by their first command: SDKs of Centrifugo v2 and v3. They are told positions as `offset` (centrifuge-js 2.6 to 2.8), or as `seq_gen` (older ones). Empty: they are disconnected with 3501.
        protocol_v1: ProtocolV1 = ProtocolV1::Off, Rule::Words(&["", "offset", "seq_gen"]);
    }
    + parts {
        /// Connection tokens, and subscription tokens unless `client.subscription_token` is enabled. A key only verifies its own algorithms: which one a token claims does not matter.
        token: Token,
        /// Subscription tokens, where their keys and rules differ from those of connection tokens.
        subscription_token: SubscriptionToken,
        /// How often clients may do something: limits by token buckets, on commands and on errors.
        rate_limit: RateLimit,
        /// How connections of listeners (`uni_…`) end that may not connect: clients would be told an error, which listeners cannot be.
        connect_code_to_unidirectional_disconnect: ConnectDisconnects,
        /// A channel of its own for every user.
        subscribe_to_user_personal_channel: PersonalChannel,
    }

    PersonalChannel {
        /// Subscribe every connection of a user to the channel of that user, `#` and its id (the mark is `channel.user_boundary`).
        enabled: bool = false, Rule::Any;
        /// Namespace of these channels. Empty: none.
        personal_channel_namespace: String = String::new(), Rule::Any;
        /// A new session of a user ends the others with 3504.
        single_connection: bool = false, Rule::Any;
    }

    Token {
        /// Secret of HS256, HS384 and HS512. Empty: tokens signed so are refused.
        hmac_secret_key: String = String::new(), Rule::Secret;
        /// A second secret that is accepted as well while secrets are changed.
        hmac_previous_secret_key: String = String::new(), Rule::Secret;
        /// Until when it is, in seconds since 1970. 0: for ever.
        hmac_previous_secret_key_valid_until: u64 = 0, Rule::Range(0, 253_402_300_799);
        /// Public key of RS256, RS384 and RS512 in PEM, 2048 bits or more.
        rsa_public_key: String = String::new(), Rule::Any;
        /// Public key in PEM of ES256 (P-256), ES384 (P-384) or ES512 (P-521), whichever its curve says.
        ecdsa_public_key: String = String::new(), Rule::Any;
        /// Public key of EdDSA (Ed25519) in PEM.
        ed25519_public_key: String = String::new(), Rule::Any;
        /// URL of a JWKS endpoint with the public keys (RS, ES, EdDSA) by `kid`; keys given here are not used then. `{{name}}` in its path stands for what the group of this name in `issuer_regex` or `audience_regex` matched, a list of fixed texts.
        jwks_public_endpoint: String = String::new(), Rule::Any;
        /// Take what groups in `jwks_public_endpoint` matched also where they are no lists of fixed texts such as `(?P<tenant>one|two)`. Whoever makes up a token then chooses among all that matches where its key is fetched from.
        insecure_skip_jwks_endpoint_safety_check: bool = false, Rule::Any;
        /// Text that `aud` must be, or have among its entries. Empty: any.
        audience: String = String::new(), Rule::Any;
        /// Regular expression that must match `aud` or one of its entries.
        audience_regex: String = String::new(), Rule::Any;
        /// Text that `iss` must be. Empty: any.
        issuer: String = String::new(), Rule::Any;
        /// Regular expression that must match `iss`.
        issuer_regex: String = String::new(), Rule::Any;
        /// Claim that holds the user's id. Empty: `sub`.
        user_id_claim: String = String::new(), Rule::Claim;
        /// Bytes of a token; longer ones are refused before anything in them is looked at.
        size_max: usize = 16 * KIB, Rule::Range(64, 1 << 20);
    }

    Channel {
        /// Bytes of a channel name in a client's command; longer is answered with error 107.
        max_length: usize = 255, Rule::RangeOrDefault(1, 65_535);
        /// Bytes of a channel name in a token, in a call of the server API, and of a user's own channel; longer is answered with error 107.
        server_max_length: usize = 16 * KIB, Rule::Range(1, 65_535);
        /// Channels that begin with this need a subscription token. Empty: there are no such channels.
        private_prefix: String = "$".into(), Rule::Mark;
        /// What stands between namespace and the rest of a channel name. Empty: no name has a namespace.
        namespace_boundary: String = ":".into(), Rule::Mark;
        /// What stands before the users a user-limited channel is for. Empty: there are no such channels.
        user_boundary: String = "#".into(), Rule::Mark;
        /// What stands between those users. Empty: such a channel is for one user.
        user_separator: String = ",".into(), Rule::Mark;
        /// Names that begin with a slash belong to the namespace whose `pattern` they match: `/users/7` to that of `/users/:id`. None: error 102. The more definite pattern wins.
        patterns: bool = false, Rule::Any;
        /// Give channels whose namespace is not defined the options of `channel.without_namespace`, instead of error 102.
        allow_unknown_namespaces: bool = false, Rule::Any;
        /// How long a stream's position outlives its last publication, where a namespace does not say. Costs a few dozen bytes per channel that had history.
        history_meta_ttl: Duration = seconds(720 * 3600), Rule::TimeOrDefault(seconds(1), seconds(87_600 * 3600));
        /// What publications may be, where a namespace does not say: see there.
        publication_data_format: DataFormat = DataFormat::Any, Rule::Words(&["", "json", "json_object", "binary"]);
    }
    + parts {
        /// What backends are asked about channels.
        proxy: ChannelProxies,
        /// Channels whose name has no namespace.
        without_namespace: ChannelOptions,
        /// Namespaces by name, each with the options of `channel.without_namespace`.
        namespaces: Vec<Namespace>,
    }

    /// What a namespace says about its channels. Everything is off by default.
    ChannelOptions {
        /// Keep who is subscribed. Memory: one entry per subscription.
        presence: bool = false, Rule::Any;
        /// Send join and leave messages to subscribers that ask for them. Costs a message to each of them per subscribe and unsubscribe.
        join_leave: bool = false, Rule::Any;
        /// Send join and leave messages to all subscribers, asked or not.
        force_push_join_leave: bool = false, Rule::Any;
        /// Publications kept per channel; needs `history_ttl` as well. 0: none. Memory: worst case is this times the size of a publication, per channel.
        history_size: usize = 0, Rule::Range(0, 1_000_000);
        /// How long publications are kept; needs `history_size` as well. 0s: none.
        history_ttl: Duration = Duration::ZERO, TTL;
        /// How long a stream's position outlives its last publication. 0s: `channel.history_meta_ttl`.
        history_meta_ttl: Duration = Duration::ZERO, TTL;
        /// Every subscription is positioned: told at once when publications were lost on the way.
        force_positioning: bool = false, Rule::Any;
        /// Clients may ask for positioned subscriptions.
        allow_positioning: bool = false, Rule::Any;
        /// Every subscription is recoverable: after a reconnect it gets what it missed. Needs history.
        force_recovery: bool = false, Rule::Any;
        /// Clients may ask for recoverable subscriptions.
        allow_recovery: bool = false, Rule::Any;
        /// Kinds of deltas subscribers may ask for: `fossil`. Costs memory for one publication per channel, core and protocol, and the CPU of one comparison per publication.
        allowed_delta_types: Vec<String> = Vec::new(), Rule::Words(&["fossil"]);
        /// Every publication may go out as the difference to the one before it, to subscribers that asked for deltas; otherwise only those published with `delta`.
        delta_publish: bool = false, Rule::Any;
        /// Subscribers may say by tags which publications they want. Costs a look at each publication for every different filter.
        allow_tags_filter: bool = false, Rule::Any;
        /// Subscribers that know how (today's SDKs do, centrifuge-js in JSON only) are told a number that stands for the channel's name in its messages: saves its length in each.
        allow_channel_compaction: bool = false, Rule::Any;
        /// Subscribers get at most one publication, the newest, in every interval of this length; the first of an interval at once. Of a map they get at most one change of each entry. 0s: all of them.
        conflation_interval: Duration = Duration::ZERO, TTL;
        /// Subscribers may ask for intervals (`SubscribeRequest.conflation`, milliseconds) up to this. 0s: they may not.
        conflation_interval_max: Duration = Duration::ZERO, TTL;
        /// Subscribers are told to publish at most once in this long, in maps once for each key: SDKs then hold back what comes sooner and publish the newest. Nothing enforces it. 0s: they may publish as often as they like.
        client_publish_debounce_interval: Duration = Duration::ZERO, TTL;
        /// What a client publishes is not sent back to it. A subscriber may ask for that anywhere (bit 2 of `SubscribeRequest.flag`).
        no_echo: bool = false, Rule::Any;
        /// Clients with a user id may subscribe without a subscription token.
        allow_subscribe_for_client: bool = false, Rule::Any;
        /// Clients without a user id may subscribe too; needs `allow_subscribe_for_client`.
        allow_subscribe_for_anonymous: bool = false, Rule::Any;
        /// Clients with a user id may publish.
        allow_publish_for_client: bool = false, Rule::Any;
        /// Subscribers of the channel may publish.
        allow_publish_for_subscriber: bool = false, Rule::Any;
        /// What is allowed above holds for clients without a user id as well.
        allow_publish_for_anonymous: bool = false, Rule::Any;
        /// Clients with a user id may ask for presence.
        allow_presence_for_client: bool = false, Rule::Any;
        /// Subscribers of the channel may ask for presence.
        allow_presence_for_subscriber: bool = false, Rule::Any;
        /// What is allowed above holds for clients without a user id as well.
        allow_presence_for_anonymous: bool = false, Rule::Any;
        /// Clients with a user id may ask for history.
        allow_history_for_client: bool = false, Rule::Any;
        /// Subscribers of the channel may ask for history.
        allow_history_for_subscriber: bool = false, Rule::Any;
        /// What is allowed above holds for clients without a user id as well.
        allow_history_for_anonymous: bool = false, Rule::Any;
        /// Allow channels limited to users by `channel.user_boundary`.
        allow_user_limited_channels: bool = false, Rule::Any;
        /// Clients may subscribe to patterns: in the part of a name after the namespace, split at dots, the word `*` stands for any one word and a last word `>` for one or more. Rights are those of the pattern's name; private and user-limited channels are never meant. Publications carry the tag `channel` with the name of theirs. Publishing to a pattern is refused with error 107. Costs a look-up per publication in the namespace.
        allow_wildcards: bool = false, Rule::Any;
        /// Regular expression that the part of a channel's name after the namespace must match (the whole name where there is no namespace) in a client's command, else error 107. With one, names may hold more than ASCII there; in tokens and the server API they always may.
        channel_regex: String = String::new(), Rule::Regex;
        /// What publications may be, by clients and the server API: `json`, `json_object` (JSON that is an object) or `binary` (anything, also nothing). Empty: as `channel.publication_data_format` says, and with that empty anything but nothing. Else error 107.
        publication_data_format: DataFormat = DataFormat::Any, Rule::Words(&["", "json", "json_object", "binary"]);
        /// What recovery brings: `stream` what was missed, `cache` the latest publication only.
        force_recovery_mode: RecoveryMode = RecoveryMode::Stream, Rule::Words(&["stream", "cache"]);
        /// With recovery of the kind `cache`, give the latest publication to every new subscriber, asked or not.
        auto_cache_recover: bool = false, Rule::Any;
        /// What channels are: `stream` of publications, `map` of keys to values, or a map the server keeps of who is in other channels: `map_clients`, `map_users`; or a `shared_poll`, whose keys the server asks a backend for.
        subscription_type: SubscriptionType = SubscriptionType::Stream, Rule::Words(&["stream", "map", "map_clients", "map_users", "shared_poll"]);
        /// Keep who is subscribed to a channel in the map whose name is this and the channel's, an entry for each client. Its namespace must be of the type `map_clients`. Empty: nowhere.
        map_clients_presence_channel_prefix: String = String::new(), Rule::Any;
        /// The same with an entry for each user, in a namespace of the type `map_users`. An entry outlives the user's last subscription by `map.key_ttl`.
        map_users_presence_channel_prefix: String = String::new(), Rule::Any;
    }
    + parts {
        /// Maps, where `subscription_type` says so.
        map: Map,
        /// Shared polls, where `subscription_type` says so.
        shared_poll: Poll,
    }

    Poll {
        /// What the backend says of a key: `versionless` its data (a change is other bytes), or `versioned` its data and a version that rises with every change.
        mode: PollMode = PollMode::Versionless, Rule::Words(&["versionless", "versioned"]);
        /// How often the backend is asked for each key that is tracked.
        refresh_interval: Duration = seconds(10), Rule::TimeOrDefault(ms(10), seconds(24 * 3600));
        /// Keys the backend is asked for at once; more are asked for in several requests, spread over the interval.
        refresh_batch_size: usize = 1000, Rule::RangeOrDefault(1, 100_000);
        /// Requests about one channel that may be open with the backend; further ones wait.
        refresh_concurrency: usize = 4, Rule::Range(1, 1000);
        /// Keys one connection may track in a channel; with more, a track is answered with error 106.
        max_keys_per_connection: usize = 5000, Rule::RangeOrDefault(1, 1_000_000);
        /// Keys of one channel that may be tracked by all together; with more, a track is answered with error 106. Memory: worst case is this times the size of a key's data, per channel.
        keys_max: usize = 100_000, Rule::Range(1, 10_000_000);
        /// How long a channel outlives its last subscriber: who comes back in time gets only what has changed, later everything anew.
        channel_shutdown_delay: Duration = seconds(1), WAIT_OR_DEFAULT;
        /// How long a client may track keys beyond the expiry of their signature: time to get a new one. Then they are no longer tracked for it.
        track_expired_extra_delay: Duration = seconds(25), WAIT_OR_DEFAULT;
    }

    Map {
        /// How long things are kept: `ephemeral` (entries for `map.key_ttl`; who comes back begins anew), `recoverable` (the same, but who comes back catches up), `persistent` (entries until they are removed).
        mode: MapMode = MapMode::None, Rule::Words(&["", "ephemeral", "recoverable", "persistent"]);
        /// How long an entry outlives its last publication, unless the server keeps it. 0s (`persistent` only): for ever.
        key_ttl: Duration = Duration::ZERO, TTL;
        /// The state comes in the order of scores, the highest first, with equal ones by key, the last first; with `asc` of a subscribe or of the server API the other way round. Off: by key. Memory: the key of every entry a second time.
        ordered: bool = false, Rule::Any;
        /// Changes kept per map for those who catch up. 0: 100.
        stream_size: usize = 0, Rule::Range(0, 1_000_000);
        /// How long they are kept after the last one. 0s: a minute.
        stream_ttl: Duration = Duration::ZERO, TTL;
        /// How long the position of an empty map is remembered. 0s: `channel.history_meta_ttl`.
        meta_ttl: Duration = Duration::ZERO, TTL;
        /// Entries, or changes, of a page for a client that does not say how many. 0: 100.
        default_page_size: usize = 0, Rule::Range(0, 100_000);
        /// The fewest of a page that is not the last, also when a client asks for less. 0: 100.
        min_page_size: usize = 0, Rule::Range(0, 100_000);
        /// The most of a page, whatever a client asks for and the two before say. 0: 1000.
        max_page_size: usize = 0, Rule::Range(0, 100_000);
        /// Changes a client may be behind to become a subscriber at once. Further behind, one that reads the map gets them in pages, and one that comes back begins anew (error 112). 0: `map.max_page_size`.
        live_transition_max_publication_limit: usize = 0, Rule::Range(0, 1_000_000);
        /// How long a client may take from the first page of a map until it is a subscriber; when it asks for more later than that, it is disconnected with 3008. 0s: 5 seconds.
        subscribe_catch_up_timeout: Duration = Duration::ZERO, GRACE;
        /// Entries of one map; a key more is refused with error 106 (who does not fit into a map of who is in a channel appears there when another leaves). Memory: worst case is this times the size of an entry, per map.
        keys_max: usize = 100_000, Rule::Range(1, 10_000_000);
        /// Which entry clients may set and remove: the one they name (empty), or always the one of their `client_id` or `user_id`.
        client_key: ClientKey = ClientKey::Named, Rule::Words(&["", "client_id", "user_id"]);
        /// Remove the entry of a client, keyed by its id, when it unsubscribes or leaves.
        remove_client_on_unsubscribe: bool = false, Rule::Any;
        /// Clients with a user id may set entries.
        allow_publish_for_client: bool = false, Rule::Any;
        /// Subscribers of the map may set entries.
        allow_publish_for_subscriber: bool = false, Rule::Any;
        /// What is allowed above holds for clients without a user id as well.
        allow_publish_for_anonymous: bool = false, Rule::Any;
        /// Clients with a user id may remove entries.
        allow_remove_for_client: bool = false, Rule::Any;
        /// Subscribers of the map may remove entries.
        allow_remove_for_subscriber: bool = false, Rule::Any;
        /// What is allowed above holds for clients without a user id as well.
        allow_remove_for_anonymous: bool = false, Rule::Any;
    }

    SharedPoll {
        /// Secret with which the backend signs the keys a client may track. Empty: none may be tracked (except with `client.insecure`).
        hmac_secret_key: String = String::new(), Rule::Secret;
        /// A second secret that is accepted as well while secrets are changed.
        hmac_previous_secret_key: String = String::new(), Rule::Secret;
        /// Until when it is, in seconds since 1970. 0: for ever.
        hmac_previous_secret_key_valid_until: u64 = 0, Rule::Range(0, 253_402_300_799);
        /// Requests that may be open with backends for all shared polls of this node; further ones wait. A thread for each.
        concurrency_limit: usize = 64, Rule::RangeOrMost(1, 1024);
    }

    BackendRoom {
        /// Requests that may wait for one that is open to end; a further one fails at once.
        queue_max_calls: usize = 1024, Rule::Range(1, 1_000_000);
        /// Bytes of a backend's answer; a longer one is as good as none. With shared polls it must be less than `mesh.queue_max_size`, better well below: what is new in one answer has to fit between two cores.
        answer_size_max: usize = 16 * MIB, Rule::Range(64, 1 << 30);
    }

    ChannelProxies {}
    + parts {
        /// Where shared polls get their data. [How to answer](SHARED_POLL.md).
        shared_poll_refresh: Proxy,
    }

    Proxy {
        /// URL (http, https) that is sent POST requests with JSON. Empty: none.
        endpoint: String = String::new(), Rule::Any;
        /// How long an answer may take.
        timeout: Duration = seconds(1), WAIT_OR_DEFAULT;
    }
    + parts {
        /// The requests.
        http: ProxyHttp,
    }

    ProxyHttp {
        /// Header fields every request carries, such as a key the backend knows.
        static_headers: Headers = Headers::default(), Rule::Secret;
    }

    WebSocket {
        /// Do not serve WebSocket.
        disabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/websocket".into(), Rule::Path;
        /// Bytes of one message from a client; more closes with 1009. A connection holds as much while a message arrives.
        message_size_limit: usize = 65_536, MESSAGE;
        /// Agree to compression (permessage-deflate) with clients that offer it, most browsers among them. Saves bandwidth, costs CPU; memory per connection stays the same.
        compression: bool = false, Rule::Any;
        /// How hard to compress: 1 is fastest, 9 smallest.
        compression_level: u32 = 1, Rule::Range(1, 9);
        /// Bytes of what is sent in one frame from which on it is compressed; below 64 nothing is.
        compression_min_size: usize = 0, Rule::Range(0, 1 << 30);
        /// Bytes of one compressed message from a client when inflated; more closes with 1009. 0: ten times `websocket.message_size_limit`. Memory: one such message per core.
        decompressed_message_size_limit: usize = 0, Rule::Range(0, 1 << 34);
        /// A connection that takes no bytes for this long is closed with 3009: those of other transports as well, but for `uni_websocket`.
        write_timeout: Duration = seconds(1), WAIT_OR_DEFAULT;
        /// Frames are closed at this many bytes, before compression. Some SDKs refuse more than 1 MiB.
        frame_size_target: usize = 65_536, Rule::Range(1, 1 << 20);
        /// How long the server waits for the peer's close after its own.
        close_timeout: Duration = seconds(5), WAIT;
    }

    HttpStream {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/http_stream".into(), Rule::Path;
        /// Bytes of the request that connects; more is answered 413.
        max_request_body_size: usize = 64 * KIB, MESSAGE;
    }

    Sse {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/sse".into(), Rule::Path;
        /// Bytes of the request that connects, where it is a POST; more is answered 413.
        max_request_body_size: usize = 64 * KIB, MESSAGE;
    }

    SockJs {
        /// Serve it. SDKs of that era need `client.protocol_v1` as well.
        enabled: bool = false, Rule::Any;
        /// Path below which the endpoints are.
        handler_prefix: String = "/connection/sockjs".into(), Rule::Path;
        /// Bytes of a request with messages; more is answered 413.
        max_request_body_size: usize = 64 * KIB, MESSAGE;
        /// Bytes after which a streaming response ends, so that the memory of the page does; the client asks for the next one.
        response_size_max: usize = 128 * KIB, SIZE;
        /// How long a session over HTTP lives while its client asks for nothing.
        disconnect_delay: Duration = seconds(5), WAIT;
        /// Sessions over HTTP (streaming and polling) of one core; a further one is answered 503. Each costs some hundred bytes, used or not.
        http_sessions_max: usize = 4096, Rule::Range(1, 1_000_000);
    }

    Rpc {}
    + parts {
        /// A method that does nothing, to find out whether the server answers.
        ping: RpcPing,
    }

    RpcPing {
        /// Answer it, with an empty result.
        enabled: bool = false, Rule::Any;
        /// The name of the method.
        method: String = "ping".into(), Rule::Any;
    }

    UniGrpc {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Address to listen on. Empty: all addresses, IPv6 and IPv4.
        address: String = String::new(), Rule::Address;
        /// Port to listen on. 0 takes a free one, said at start.
        port: u16 = 11_000, Rule::Range(0, 65_535);
        /// Bytes of the request that connects; more is answered with status OUT_OF_RANGE.
        max_receive_message_size: usize = 64 * KIB, MESSAGE;
        /// Clients that share one HTTP/2 connection at a time; those beyond wait in the client's library.
        max_concurrent_streams: u32 = 1000, Rule::Range(1, 1_000_000);
    }
    + parts {
        /// TLS on this port, and nothing else on it. What is a file is read again on SIGHUP, and when it changes.
        tls: GrpcTls,
    }

    GrpcTls {
        /// Serve TLS; needs `cert_pem` and `key_pem`.
        enabled: bool = false, Rule::Any;
        /// Certificate of the server, and those between it and a root, in PEM: a file, the text itself, or that in base64.
        cert_pem: String = String::new(), Rule::Any;
        /// Private key of the certificate in PEM, without a pass phrase: a file, the text itself, or that in base64.
        key_pem: String = String::new(), Rule::Secret;
        /// Clients must show a certificate signed by one of these, in PEM: a file, the text itself, or that in base64. Empty: they need none.
        client_ca_pem: String = String::new(), Rule::Any;
        /// Lowest version of TLS that is accepted.
        min_version: String = "1.2".into(), Rule::Words(&["1.2", "1.3"]);
        /// How often to look whether the files have changed; once they have, and stay so for as long, they are read again. 0s: only on SIGHUP.
        watch_interval: Duration = seconds(30), GRACE;
    }

    Emulation {
        /// Path of the endpoint.
        handler_prefix: String = "/emulation".into(), Rule::Path;
        /// Bytes of a request with commands; more is answered 413.
        max_request_body_size: usize = 64 * KIB, MESSAGE;
    }

    HttpApi {
        /// Do not serve the API.
        disabled: bool = false, Rule::Any;
        /// Path below which the methods are.
        handler_prefix: String = "/api".into(), Rule::Path;
        /// Key callers send in `X-API-Key`. Empty and not insecure: every call is answered 401.
        key: String = String::new(), Rule::Secret;
        /// Accept calls without a key: development only, or behind a firewall.
        insecure: bool = false, Rule::Any;
        /// Empty: errors are 200 with an error in the body. `transport`: errors are HTTP statuses as well.
        error_mode: String = String::new(), Rule::Words(&["", "transport"]);
    }

    Node {
        /// Name of this process in `info`. Empty: host name and port.
        name: String = String::new(), Rule::Any;
    }

    Shutdown {
        /// Longest the process takes to stop after SIGTERM: clients are told 3001, and what remains then is cut.
        timeout: Duration = seconds(30), Rule::ZeroOrTime(ms(1), seconds(24 * 3600));
    }

    Runtime {
        /// Cores to run on: `all` the cpuset allows, a count of the first ones, or a list of CPUs.
        cores: Cores = Cores::All, Rule::Any;
        /// How sockets are driven: `ring` (Linux 6.1 or later), `poll` (5.8 or later), or `auto`: the best there is.
        backend: Backend = Backend::Auto, Rule::Words(&["auto", "ring", "poll"]);
        /// Hand fresh connections to the core that has fewest.
        balance: bool = true, Rule::Any;
        /// Read buffers lent per core. Memory per core: this times `runtime.buffer_size`.
        buffer_count: u16 = 256, Rule::PowerOfTwo(32_768);
        /// Bytes of each read buffer.
        buffer_size: usize = 16 * KIB, Rule::Range(256, 1 << 20);
        /// A turn of a core handles at most this many completions before it writes.
        turn_completions_max: usize = 1024, Rule::Range(1, 65_536);
        /// A turn of a core handles completions for at most this long before it writes.
        turn_time_max: Duration = Duration::from_micros(200), Rule::Time(Duration::from_micros(1), seconds(1));
        /// Bytes that blocked connections of a core may hold in shared segments before they are copied out.
        held_segments_max_size: usize = 64 * MIB, SIZE;
        /// Length of the kernel's accept queue of each listener; the kernel caps it at `net.core.somaxconn`.
        listen_backlog: u32 = 4096, Rule::Range(1, 65_535);
    }

    Mesh {
        /// Questions a core may have open with each peer. Without credit reading pauses, API calls get 111.
        credit: usize = 4096, Rule::Range(1, 1_000_000);
        /// Bytes of forwarded publications that may wait for each peer; beyond, they are dropped and declared. Memory: this times the pairs of cores.
        queue_max_size: usize = 32 * MIB, SIZE;
        /// A question that is not answered in this time is answered with an internal error.
        ask_timeout: Duration = seconds(5), WAIT;
    }

    Log {
        /// Least important messages that are written; `none` writes nothing, `trace` as much as `debug`, `fatal` as much as `error`.
        level: String = "info".into(), Rule::Words(&["trace", "debug", "info", "warn", "error", "fatal", "none"]);
    }
}

/// Which cores to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// As many as the cpuset allows.
    All,
    /// The first so many of the cpuset.
    Count(usize),
    /// Exactly these CPUs.
    List(Vec<usize>),
}

/// How sockets are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Ring where the kernel has what it needs, otherwise poll.
    Auto,
    Ring,
    Poll,
}
