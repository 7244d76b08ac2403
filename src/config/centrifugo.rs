//! Centrifugo's options that Corecast does not have, so that their users are told so and not "unknown key".
//!
//! One that is set to what Corecast does anyway (mostly: off) is accepted without a word, so that a
//! configuration that only mentions features it does not use can be brought along as it is.

use super::{
    duration,
    node::{Entry, Value},
};

/// When an option can be accepted although nothing reads it.
#[derive(Clone, Copy, Debug)]
enum Fine {
    /// It tunes something that does not exist here.
    Always,
    /// Off in every form: false, 0, "", empty.
    Off,
    /// A section that does nothing unless its `enabled` is true.
    Disabled,
    /// This value, or off.
    Is(&'static str),
    /// This value only: off would mean something else.
    Only(&'static str),
}

/// Keys, and with each all keys below it. The first that matches decides.
const OPTIONS: &[(&str, Fine)] = &[
    ("admin", Fine::Disabled),
    ("broker", Fine::Disabled),
    ("brokers", Fine::Off),
    ("channel.proxy.map_publish", Fine::Off),
    ("channel.proxy.map_remove", Fine::Off),
    ("channel.proxy.publish", Fine::Off),
    ("channel.proxy.shared_poll_refresh.binary_encoding", Fine::Off),
    ("channel.proxy.shared_poll_refresh.grpc", Fine::Off),
    ("channel.proxy.shared_poll_refresh.grpc_metadata", Fine::Off),
    ("channel.proxy.shared_poll_refresh.http.status_to_code_transforms", Fine::Off),
    ("channel.proxy.shared_poll_refresh.http.tls", Fine::Disabled),
    // Of the connection a request is about, and these are about none.
    ("channel.proxy.shared_poll_refresh.http_headers", Fine::Always),
    ("channel.proxy.shared_poll_refresh.include_connection_meta", Fine::Always),
    ("channel.proxy.sub_refresh", Fine::Off),
    ("channel.proxy.subscribe", Fine::Off),
    ("channel.proxy.subscribe_stream", Fine::Off),
    ("clickhouse_analytics", Fine::Disabled),
    // Commands do not wait for the answers to earlier ones.
    ("client.concurrency", Fine::Always),
    // Presence ends with a subscription; nobody has to say again that it is there.
    ("client.presence_update_interval", Fine::Always),
    ("client.proxy.connect", Fine::Disabled),
    ("client.proxy.refresh", Fine::Disabled),
    ("client.proxy", Fine::Off),
    ("client.rate_limit.client_command.rpc.method_override", Fine::Off),
    ("client.rate_limit.redis_user_command", Fine::Disabled),
    ("client.rate_limit.user_command.rpc.method_override", Fine::Off),
    // It loosens a check of where keys may be fetched from; here a token only says parts of a path.
    ("client.subscription_token.insecure_skip_jwks_endpoint_safety_check", Fine::Always),
    ("client.token.insecure_skip_jwks_endpoint_safety_check", Fine::Always),
    ("consumers", Fine::Off),
    ("controller", Fine::Disabled),
    ("database", Fine::Disabled),
    ("debug", Fine::Disabled),
    ("dev", Fine::Disabled),
    ("distributed_rate_limit", Fine::Disabled),
    ("enable_unreleased_features", Fine::Off),
    ("engine.type", Fine::Is("memory")),
    ("engine", Fine::Off),
    ("graphite", Fine::Disabled),
    ("grpc_api", Fine::Disabled),
    ("health.external", Fine::Off),
    ("http_api.external", Fine::Off),
    ("http_server.h2c_external", Fine::Off),
    ("http_server.http3", Fine::Disabled),
    ("http_server.internal_address", Fine::Off),
    ("http_server.internal_port", Fine::Off),
    ("http_server.internal_tls", Fine::Disabled),
    // Of clients, and the server is none.
    ("http_server.tls.insecure_skip_verify", Fine::Always),
    ("http_server.tls.server_ca_pem", Fine::Always),
    ("http_server.tls.server_name", Fine::Always),
    ("http_server.tls_autocert", Fine::Disabled),
    ("http_server.tls_external", Fine::Off),
    ("log.file", Fine::Off),
    ("map_broker.type", Fine::Is("memory")),
    ("map_broker", Fine::Off),
    ("node.info_metrics_aggregate_interval", Fine::Only("60s")),
    ("opentelemetry", Fine::Disabled),
    ("pid_file", Fine::Off),
    ("presence_manager", Fine::Disabled),
    ("presence_managers", Fine::Off),
    ("prometheus.instrument_http_handlers", Fine::Off),
    ("prometheus.native_histograms", Fine::Off),
    ("prometheus.recovered_publications_histogram", Fine::Off),
    ("proxies", Fine::Off),
    ("push_notifications", Fine::Disabled),
    ("rpc.namespace_boundary", Fine::Always),
    ("rpc.namespaces", Fine::Off),
    ("rpc.proxy", Fine::Off),
    ("rpc.without_namespace.proxy_enabled", Fine::Off),
    ("rpc.without_namespace.proxy_name", Fine::Always),
    ("rpc.without_namespace", Fine::Off),
    ("singleflight", Fine::Disabled),
    ("swagger", Fine::Disabled),
    ("uni_grpc.tls", Fine::Disabled),
    ("uni_websocket.read_buffer_size", Fine::Always),
    ("uni_websocket.use_write_buffer_pool", Fine::Always),
    ("uni_websocket.write_buffer_size", Fine::Always),
    ("usage_stats", Fine::Always),
    ("user_status", Fine::Disabled),
    ("websocket.read_buffer_size", Fine::Always),
    ("websocket.use_write_buffer_pool", Fine::Always),
    ("websocket.write_buffer_size", Fine::Always),
    ("webtransport", Fine::Disabled),
    // Options of namespaces.
    ("channel.without_namespace.history_cel", Fine::Off),
    // Deltas need no history here.
    ("channel.without_namespace.keep_latest_publication", Fine::Always),
    ("channel.without_namespace.map.publish_proxy_enabled", Fine::Off),
    ("channel.without_namespace.map.publish_proxy_name", Fine::Always),
    ("channel.without_namespace.map.remove_proxy_enabled", Fine::Off),
    ("channel.without_namespace.map.remove_proxy_name", Fine::Always),
    ("channel.without_namespace.presence_cel", Fine::Off),
    ("channel.without_namespace.publish_cel", Fine::Off),
    ("channel.without_namespace.publish_proxy_enabled", Fine::Off),
    ("channel.without_namespace.publish_proxy_name", Fine::Always),
    // Data is always kept.
    ("channel.without_namespace.shared_poll.keep_latest_data", Fine::Always),
    ("channel.without_namespace.shared_poll.proxy_name", Fine::Is("default")),
    // Among nodes; there is one, and publishing reaches all of it.
    ("channel.without_namespace.shared_poll.publish_enabled", Fine::Always),
    ("channel.without_namespace.sub_refresh_proxy_enabled", Fine::Off),
    ("channel.without_namespace.sub_refresh_proxy_name", Fine::Always),
    ("channel.without_namespace.subscribe_cel", Fine::Off),
    ("channel.without_namespace.subscribe_proxy_enabled", Fine::Off),
    ("channel.without_namespace.subscribe_proxy_name", Fine::Always),
    ("channel.without_namespace.subscribe_stream_proxy_bidirectional", Fine::Always),
    ("channel.without_namespace.subscribe_stream_proxy_enabled", Fine::Off),
    ("channel.without_namespace.subscribe_stream_proxy_name", Fine::Always),
];

/// All keys of this table, for the documentation.
pub fn keys() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(key, _)| *key)
}

/// Whether `key` is, or is below, an option of this table.
pub fn knows(key: &str) -> bool {
    rule(key).is_some()
}

fn rule(key: &str) -> Option<(&'static str, Fine)> {
    let covers = |at: &str| key.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    OPTIONS.iter().find(|(at, _)| covers(at)).copied()
}

/// Calls `wrong` for every value at or below `key` that asks for something Corecast does not do.
///
/// `key` is one that [`knows`] knows.
pub fn check<'a>(key: &str, entry: &'a Entry, wrong: &mut dyn FnMut(&str, &'a Entry)) {
    match &entry.node.value {
        Value::Map(entries) => {
            for entry in entries {
                check(&format!("{key}.{}", entry.key), entry, wrong);
            }
        }
        value => {
            if !rule(key).is_some_and(|(at, fine)| accepts(key, at, fine, value)) {
                wrong(key, entry);
            }
        }
    }
}

fn accepts(key: &str, at: &str, fine: Fine, value: &Value) -> bool {
    match fine {
        Fine::Always => true,
        Fine::Off => off(value),
        Fine::Disabled => off(value) || (key != at && key.strip_prefix(at) != Some(".enabled")),
        Fine::Is(default) => off(value) || *value == Value::text(default),
        Fine::Only(default) => match value {
            Value::Text(text) => duration::parse(text) == duration::parse(default),
            _ => false,
        },
    }
}

fn off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::Text(text) => text.is_empty() || duration::parse(text).is_some_and(|it| it.is_zero()),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.iter().all(|entry| off(&entry.node.value)),
        Value::Bool(true) | Value::Int(_) | Value::Float(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    #[test]
    fn accepts_what_asks_for_nothing() {
        #[track_caller]
        fn check_value(key: &str, json: &str, want: &[&str]) {
            let entry = Entry::new(key, read::json(json).unwrap().value);
            assert!(knows(key), "{key}");
            let mut found = Vec::new();
            check(key, &entry, &mut |key, _| found.push(key.to_owned()));
            assert_eq!(found, want, "{key} {json}");
        }
        check_value("admin", r#"{"enabled":false,"password":"x","secret":"y"}"#, &[]);
        check_value("admin", r#"{"password":"x","enabled":true}"#, &["admin.enabled"]);
        check_value("admin", "true", &["admin"]);
        check_value("admin.password", "\"x\"", &[]);
        check_value("engine", r#"{"type":"memory"}"#, &[]);
        check_value("engine.type", "\"\"", &[]);
        check_value(
            "engine",
            r#"{"type":"redis","redis":{"address":"x"}}"#,
            &["engine.type", "engine.redis.address"],
        );
        check_value("usage_stats", r#"{"disabled":true}"#, &[]);
        check_value("log.file", "\"\"", &[]);
        check_value("log.file", "\"s\"", &["log.file"]);
        let interval = "node.info_metrics_aggregate_interval";
        check_value(interval, "\"60s\"", &[]);
        check_value(interval, "\"60000ms\"", &[]);
        check_value(interval, "\"0s\"", &[interval]);
        check_value("proxies", "[]", &[]);
        check_value("proxies", "[{}]", &["proxies"]);
        check_value(
            "http_server.tls_autocert",
            r#"{"enabled":true,"email":"x"}"#,
            &["http_server.tls_autocert.enabled"],
        );
        check_value("http_server.tls.server_name", "\"x\"", &[]);
        check_value("http_server.tls_external", "true", &["http_server.tls_external"]);
        check_value("client.proxy", r#"{"connect":{"enabled":false,"endpoint":"x"}}"#, &[]);
        check_value("websocket.read_buffer_size", "4096", &[]);
        check_value("engine.type", "\"memory\"", &[]);
        assert!(!knows("administrator") && !knows("client") && !knows("websocket.read_buffer_sizes"));
    }
}
