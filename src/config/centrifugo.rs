//! Centrifugo's options that Corecast does not have, so that their users are told so and not "unknown key".
//!
//! One that is set to what Corecast does anyway (mostly: off) is accepted without a word, so that a
//! configuration that only mentions features it does not use can be brought along as it is. One that tunes what
//! works otherwise here is accepted as well, and named.

use super::{
    duration,
    node::{Entry, Value},
};

/// When an option can be accepted although nothing reads it.
#[derive(Clone, Copy, Debug)]
enum Fine {
    /// It does nothing here, or not by itself.
    Always,
    /// It tunes something that needs no tuning here. Named, unless it is off or this, as where nothing is said.
    Tunes(&'static str),
    /// Off in every form: false, 0, "", empty.
    Off,
    /// A section that does nothing unless its `enabled` is true.
    Disabled,
    /// This value, or off.
    Is(&'static str),
}

/// What is to be said of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It asks for something Corecast does not do.
    NotSupported,
    /// It changes nothing here.
    NoEffect,
}

/// Keys, and with each all keys below it. The first that matches decides.
const OPTIONS: &[(&str, Fine)] = &[
    ("admin", Fine::Disabled),
    ("broker", Fine::Disabled),
    ("brokers", Fine::Off),
    // Used where a namespace's switch for it is on, and that is refused.
    ("channel.proxy.cache_empty", Fine::Always),
    ("channel.proxy.map_publish", Fine::Always),
    ("channel.proxy.map_remove", Fine::Always),
    ("channel.proxy.publish", Fine::Always),
    ("channel.proxy.state", Fine::Always),
    ("channel.proxy.sub_refresh", Fine::Always),
    ("channel.proxy.subscribe", Fine::Always),
    ("channel.proxy.subscribe_stream", Fine::Always),
    ("channel.proxy.shared_poll_refresh.binary_encoding", Fine::Off),
    ("channel.proxy.shared_poll_refresh.grpc", Fine::Off),
    ("channel.proxy.shared_poll_refresh.grpc_metadata", Fine::Off),
    ("channel.proxy.shared_poll_refresh.http.status_to_code_transforms", Fine::Off),
    ("channel.proxy.shared_poll_refresh.http.tls", Fine::Disabled),
    // Of the connection a request is about, and these are about none.
    ("channel.proxy.shared_poll_refresh.emulated_headers", Fine::Always),
    ("channel.proxy.shared_poll_refresh.http_headers", Fine::Always),
    ("channel.proxy.shared_poll_refresh.include_connection_meta", Fine::Always),
    ("clickhouse_analytics", Fine::Disabled),
    // Of many connections at a time, always.
    ("client.batch_periodic_events", Fine::Tunes("")),
    // Commands of a connection that wait for other cores do so side by side.
    ("client.concurrency", Fine::Tunes("")),
    // What waits for a client goes out together, at the end of a turn.
    ("client.max_messages_in_frame", Fine::Tunes("")),
    // Presence ends with its connection: there is nothing to update.
    ("client.presence_update_interval", Fine::Tunes("27s")),
    ("client.proxy.connect", Fine::Disabled),
    ("client.proxy.refresh", Fine::Disabled),
    ("client.proxy", Fine::Off),
    ("client.rate_limit.client_command.rpc.method_override", Fine::Off),
    ("client.rate_limit.redis_user_command", Fine::Disabled),
    ("client.rate_limit.user_command.rpc.method_override", Fine::Off),
    ("client.reply_without_queue", Fine::Tunes("")),
    ("client.write_delay", Fine::Tunes("")),
    ("consumers", Fine::Off),
    ("controller", Fine::Disabled),
    ("database", Fine::Disabled),
    ("debug", Fine::Disabled),
    ("dev", Fine::Disabled),
    ("distributed_rate_limit", Fine::Disabled),
    ("enable_unreleased_features", Fine::Off),
    ("engine.type", Fine::Is("memory")),
    // Of other types.
    ("engine", Fine::Always),
    ("graphite", Fine::Disabled),
    ("grpc_api", Fine::Disabled),
    ("health.external", Fine::Off),
    ("http_api.external", Fine::Off),
    ("http_api.jwks", Fine::Disabled),
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
    ("map_broker", Fine::Always),
    ("node.info_metrics_aggregate_interval", Fine::Tunes("60s")),
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
    ("rpc.proxy", Fine::Always),
    ("rpc.without_namespace.proxy_enabled", Fine::Off),
    ("rpc.without_namespace.proxy_name", Fine::Always),
    ("rpc.without_namespace", Fine::Off),
    ("singleflight", Fine::Disabled),
    ("swagger", Fine::Disabled),
    ("uni_grpc.tls.insecure_skip_verify", Fine::Always),
    ("uni_grpc.tls.server_ca_pem", Fine::Always),
    ("uni_grpc.tls.server_name", Fine::Always),
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
    ("channel.without_namespace.cache_empty_proxy_enabled", Fine::Off),
    ("channel.without_namespace.cache_empty_proxy_name", Fine::Always),
    ("channel.without_namespace.history_cel", Fine::Off),
    // Deltas have it without.
    ("channel.without_namespace.keep_latest_publication", Fine::Tunes("")),
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
    // There is one position of a channel on a core, for all its subscribers.
    ("channel.without_namespace.shared_position_sync", Fine::Tunes("")),
    ("channel.without_namespace.state_proxy_enabled", Fine::Off),
    ("channel.without_namespace.state_proxy_name", Fine::Always),
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

/// Calls `found` for every value at or below `key` of which something is to be said.
///
/// `key` is one that [`knows`] knows.
pub fn check<'a>(key: &str, entry: &'a Entry, found: &mut dyn FnMut(Found, &str, &'a Entry)) {
    match &entry.node.value {
        Value::Map(entries) => {
            for entry in entries {
                check(&format!("{key}.{}", entry.key), entry, found);
            }
        }
        value => {
            let judged = match rule(key) {
                Some((at, fine)) => judge(key, at, fine, value),
                None => Some(Found::NotSupported),
            };
            if let Some(it) = judged {
                found(it, key, entry);
            }
        }
    }
}

/// What is to be said of a value; `None`: nothing.
fn judge(key: &str, at: &str, fine: Fine, value: &Value) -> Option<Found> {
    let (good, otherwise) = match fine {
        Fine::Always => (true, Found::NoEffect),
        Fine::Tunes(default) => (off(value) || is(value, default), Found::NoEffect),
        Fine::Off => (off(value), Found::NotSupported),
        Fine::Disabled => {
            (off(value) || (key != at && key.strip_prefix(at) != Some(".enabled")), Found::NotSupported)
        }
        Fine::Is(default) => (off(value) || is(value, default), Found::NotSupported),
    };
    (!good).then_some(otherwise)
}

fn is(value: &Value, default: &str) -> bool {
    let Value::Text(text) = value else { return false };
    let same = duration::parse(text).is_some_and(|it| Some(it) == duration::parse(default));
    text == default || same
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
            check(key, &entry, &mut |_, key, _| found.push(key.to_owned()));
            assert_eq!(found, want, "{key} {json}");
        }
        check_value("admin", r#"{"enabled":false,"password":"x","secret":"y"}"#, &[]);
        check_value("admin", r#"{"password":"x","enabled":true}"#, &["admin.enabled"]);
        check_value("admin", "true", &["admin"]);
        check_value("admin.password", "\"x\"", &[]);
        check_value("engine", r#"{"type":"memory"}"#, &[]);
        check_value("engine.type", "\"\"", &[]);
        check_value("engine", r#"{"type":"memory","redis":{"address":"x"}}"#, &[]);
        check_value("engine", r#"{"type":"redis","redis":{"address":"x"}}"#, &["engine.type"]);
        check_value("usage_stats", r#"{"disabled":true}"#, &[]);
        check_value("log.file", "\"\"", &[]);
        check_value("log.file", "\"s\"", &["log.file"]);
        check_value("node.info_metrics_aggregate_interval", "\"60000ms\"", &[]);
        check_value("client.presence_update_interval", "\"27s\"", &[]);
        check_value("client.presence_update_interval", "\"0s\"", &[]);
        check_value("client.presence_update_interval", "\"60s\"", &["client.presence_update_interval"]);
        check_value("client.concurrency", "0", &[]);
        check_value("client.concurrency", "8", &["client.concurrency"]);
        check_value("rpc.without_namespace", r#"{"proxy_name":"default","proxy_enabled":false}"#, &[]);
        check_value("rpc.proxy", r#"{"endpoint":"http://x","timeout":"1s"}"#, &[]);
        check_value("rpc.namespaces", "null", &[]);
        check_value("rpc.namespaces", "[{}]", &["rpc.namespaces"]);
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
        let entry = Entry::new("client.concurrency", Value::Int(8));
        check("client.concurrency", &entry, &mut |found, _, _| assert_eq!(found, Found::NoEffect));
        assert!(!knows("administrator") && !knows("client") && !knows("websocket.read_buffer_sizes"));
    }
}
