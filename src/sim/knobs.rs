//! What a seed decides about its run: sizes, and how likely each fault is. Some faults are off in some runs.

use super::maps;
use crate::{
    config::{ChannelOptions, Namespace, RecoveryMode, Settings},
    stdx::rng::Rng,
};
use std::time::Duration;

#[derive(Debug)]
pub struct Knobs {
    pub cores: usize,
    pub clients: usize,
    /// Bytes a socket takes before the client reads.
    pub socket_bytes: usize,
    /// Batches a queue between two cores holds.
    pub mesh_batches: usize,
    // Per thousand steps, or per thousand opportunities.
    pub kill: u64,
    pub stall: u64,
    pub garbage: u64,
    pub silent: u64,
    pub pause_core: u64,
    pub jump: u64,
    pub short: u64,
    pub api: u64,
    pub burst: u64,
    /// Connections that end without anybody telling the server.
    pub vanish: u64,
    /// Publications of Protobuf clients and of the server API that are not JSON.
    pub binary: u64,
    /// Recoveries from positions that never were.
    pub lie: u64,
    /// Connections of a user.
    pub users: u64,
    /// Commands and calls that are about maps.
    pub maps: u64,
    /// How long entries of maps last.
    pub key_ttl_ms: u64,
    /// A user may have fewer sessions than there are clients.
    pub users_limited: bool,
}

/// Channels of the simulation, by what they do: recoverable, positioned, plain, with presence.
pub const CHANNELS: [&str; 16] = [
    "rec:a", "rec:b", "rec:c", "small:a", "brief:a", "cache:a", "auto:a", "pos:a", "plain:a", "plain:b",
    "joins:a", "slow:a", "wild:x.a", "wild:x.b", "wild:x.*", "wild:>",
];

/// Channels that patterns stand for.
pub const MATCHED: [&str; 2] = ["wild:x.a", "wild:x.b"];

pub fn is_pattern(channel: &str) -> bool {
    channel.ends_with(['*', '>'])
}

/// Whom clients connect as; two cores or more own them.
pub const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];

pub fn is_positioned(channel: &str) -> bool {
    !["plain", "joins", "wild"].iter().any(|plain| channel.starts_with(plain))
}

pub fn conflates(channel: &str) -> bool {
    channel.starts_with("slow")
}

/// Deltas, filters and numbers.
pub fn has_variants(channel: &str) -> bool {
    is_positioned(channel)
}

pub fn has_history(channel: &str) -> bool {
    is_positioned(channel) && !channel.starts_with("pos")
}

/// Recovery brings the latest publication only.
pub fn is_cache(channel: &str) -> bool {
    channel.starts_with("cache") || gives_unasked(channel)
}

/// So does every subscribe.
pub fn gives_unasked(channel: &str) -> bool {
    channel.starts_with("auto")
}

pub fn has_presence(channel: &str) -> bool {
    channel.starts_with("rec") || channel.starts_with("joins")
}

impl Knobs {
    pub fn draw(rng: &mut Rng) -> Self {
        let mut maybe = |most: u64| if rng.below(3) == 0 { 0 } else { 1 + rng.below(most) };
        let (kill, stall, garbage, silent) = (maybe(20), maybe(20), maybe(4), maybe(20));
        let (pause_core, jump, short, api, burst) = (maybe(30), maybe(6), maybe(300), maybe(60), maybe(40));
        let (vanish, binary, lie, users) = (maybe(10), maybe(200), maybe(100), maybe(1000));
        Self {
            cores: 1 + rng.below(4) as usize,
            clients: 2 + rng.below(10) as usize,
            socket_bytes: 64 << rng.below(8),
            mesh_batches: 1 + rng.below(6) as usize,
            kill,
            stall,
            garbage,
            silent,
            pause_core,
            jump,
            short,
            api,
            burst,
            vanish,
            binary,
            lie,
            users,
            maps: [0, 0, 200, 800][rng.below(4) as usize],
            key_ttl_ms: 0,
            users_limited: false,
        }
    }

    pub fn settings(&mut self, rng: &mut Rng) -> Settings {
        let mut settings = Settings::default();
        settings.client.user_connection_limit = rng.below(4) as usize;
        let personal = &mut settings.client.subscribe_to_user_personal_channel;
        personal.single_connection = rng.below(4) == 0;
        personal.enabled = rng.below(3) == 0;
        personal.personal_channel_namespace = "plain".into();
        self.users_limited =
            settings.client.user_connection_limit > 0 || (personal.enabled && personal.single_connection);
        settings.client.allow_anonymous_connect_without_token = true;
        settings.client.queue_max_size = 2048 << rng.below(7);
        settings.client.held_max_size = 64 << rng.below(6);
        settings.client.channel_limit = 5 + rng.below(5) as usize;
        settings.client.channel_position_check_delay = Duration::from_secs(5 + rng.below(30));
        if rng.below(4) == 0 {
            settings.client.channel_position_max_time_lag = Duration::from_millis(20 << rng.below(6));
        }
        settings.client.tags_filter_groups_max = 1 + rng.below(6) as usize;
        settings.client.recovery_max_publication_limit = 5 + rng.below(60) as usize;
        settings.websocket.frame_size_target = 128 << rng.below(8);
        settings.websocket.compression_min_size = rng.below(400) as usize;
        settings.runtime.held_segments_max_size = 1 << (8 + rng.below(14));
        settings.mesh.credit = 1 + rng.below(12) as usize;
        settings.mesh.ask_timeout = Duration::from_millis(500 << rng.below(5));
        settings.mesh.queue_max_size = 200 << rng.below(10);
        let open = ChannelOptions {
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_subscriber: true,
            allow_publish_for_anonymous: true,
            allow_presence_for_client: true,
            allow_presence_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            ..ChannelOptions::default()
        };
        let deltas = rng.below(2) > 0;
        let history = |size: u64| ChannelOptions {
            history_size: size as usize,
            history_ttl: Duration::from_secs(300),
            force_recovery: true,
            allowed_delta_types: vec!["fossil".into()],
            delta_publish: deltas,
            allow_tags_filter: true,
            allow_channel_compaction: true,
            ..open.clone()
        };
        let recoverable = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            ..history(20 + rng.below(60))
        };
        // Forgotten soon: those who come back find another stream.
        let lived = Duration::from_millis(1 + rng.below(3_000));
        let brief = ChannelOptions { history_ttl: lived, history_meta_ttl: lived, ..history(10) };
        let joins = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            map_clients_presence_channel_prefix: maps::CLIENTS_PREFIX.into(),
            map_users_presence_channel_prefix: maps::USERS_PREFIX.into(),
            ..open.clone()
        };
        let (map_namespaces, key_ttl) = maps::namespaces(rng, &open);
        self.key_ttl_ms = key_ttl.as_millis() as u64;
        let with_deltas = ChannelOptions {
            allowed_delta_types: vec!["fossil".into()],
            delta_publish: true,
            allow_tags_filter: true,
            allow_channel_compaction: true,
            ..open.clone()
        };
        settings.channel.namespaces = [
            ("rec", recoverable),
            (
                "slow",
                ChannelOptions {
                    conflation_interval: Duration::from_millis(rng.below(2) * (1 + rng.below(500))),
                    conflation_interval_max: Duration::from_millis(1 + rng.below(2_000)),
                    ..history(5 + rng.below(20))
                },
            ),
            ("small", history(1 + rng.below(4))),
            ("brief", brief),
            (
                "cache",
                ChannelOptions { force_recovery_mode: RecoveryMode::Cache, ..history(1 + rng.below(4)) },
            ),
            (
                "auto",
                ChannelOptions {
                    force_recovery_mode: RecoveryMode::Cache,
                    auto_cache_recover: true,
                    // Longer than a seed: there is something as soon as there was something.
                    history_ttl: Duration::from_secs(3_000),
                    ..history(1 + rng.below(4))
                },
            ),
            ("pos", ChannelOptions { force_positioning: true, ..with_deltas }),
            ("wild", ChannelOptions { allow_wildcards: true, ..open.clone() }),
            ("plain", open),
            ("joins", joins),
        ]
        .map(|(name, options)| Namespace { name: name.into(), options, ..Namespace::default() })
        .into();
        settings.channel.namespaces.extend(map_namespaces);
        settings
    }
}
