//! What `--dev` starts from.

use super::{
    choices::ProtocolV1,
    settings::{ChannelOptions, Settings, seconds},
};
use std::time::Duration;

impl Settings {
    /// Settings for `--dev`: everybody may do everything on every channel, on this machine only.
    ///
    /// History of 100 publications and five minutes with recovery, presence, join and leave.
    #[must_use]
    pub fn dev() -> Self {
        let mut settings = Self::default();
        settings.http_server.address = "127.0.0.1".into();
        settings.uni_grpc.address = "127.0.0.1".into();
        settings.client.allowed_origins = vec!["*".into()];
        settings.client.insecure = true;
        settings.client.allow_anonymous_connect_without_token = true;
        settings.http_api.insecure = true;
        settings.http_stream.enabled = true;
        settings.sse.enabled = true;
        settings.sockjs.enabled = true;
        settings.client.protocol_v1 = ProtocolV1::Offset;
        settings.uni_websocket.enabled = true;
        settings.uni_sse.enabled = true;
        settings.uni_http_stream.enabled = true;
        settings.channel.allow_unknown_namespaces = true;
        settings.channel.without_namespace = ChannelOptions::dev();
        settings
    }
}

impl ChannelOptions {
    /// The channel options of [`Settings::dev`].
    #[must_use]
    pub fn dev() -> Self {
        Self {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            history_size: 100,
            history_ttl: seconds(300),
            history_meta_ttl: Duration::ZERO,
            force_positioning: true,
            allow_positioning: true,
            force_recovery: true,
            allow_recovery: true,
            allowed_delta_types: vec!["fossil".into()],
            delta_publish: true,
            allow_tags_filter: true,
            allow_channel_compaction: true,
            conflation_interval: Duration::ZERO,
            conflation_interval_max: seconds(60),
            no_echo: false,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_subscriber: true,
            allow_publish_for_anonymous: true,
            allow_presence_for_client: true,
            allow_presence_for_subscriber: true,
            allow_presence_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_subscriber: true,
            allow_history_for_anonymous: true,
            allow_user_limited_channels: true,
            ..Self::default()
        }
    }
}
