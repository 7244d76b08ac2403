//! Settings that must fit together, whoever set them.

use super::{
    apply::Draft,
    choices::{MapMode, SubscriptionType},
    duration,
    error::{Place, Problem},
    keys,
    node::Value,
    settings::{ChannelOptions, Settings},
};
use std::net::IpAddr;

/// A pair of settings that do not fit: the keys involved, the one to blame first, its value, and why.
struct Conflict {
    keys: Vec<String>,
    found: String,
    reason: String,
}

impl Draft {
    /// Checks what no single key can: run once, after all sources.
    pub fn check(&mut self, dev: bool) {
        let settings = &self.settings;
        let mut conflicts: Vec<_> = timeouts(settings).into_iter().collect();
        conflicts.extend(paths(settings));
        conflicts.extend(channels(settings, keys::WITHOUT_NAMESPACE, &settings.channel.without_namespace));
        for namespace in &settings.channel.namespaces {
            conflicts.extend(channels(settings, &keys::namespace(&namespace.name), &namespace.options));
        }
        conflicts.extend(patterns(settings));
        conflicts.extend(personal(settings));
        conflicts.extend(buckets(settings));
        conflicts.extend(tls(settings));
        conflicts.extend(answers(settings));
        conflicts.extend(loopback("http_server.address", &settings.http_server.address, dev));
        let listens = dev && settings.uni_grpc.enabled;
        conflicts.extend(loopback("uni_grpc.address", &settings.uni_grpc.address, listens));
        for Conflict { keys, found, reason } in conflicts {
            // Blame a key that somebody set: changing a default is not what they did.
            let set = keys.iter().find(|key| self.places.contains_key(*key)).or(keys.first());
            let Some(key) = set.cloned() else { continue };
            let place = self.places.get(&key).cloned().unwrap_or(Place::Default);
            self.errors.push(place, Problem::Conflict { key: keys[0].clone(), found, reason });
        }
    }
}

fn timeouts(settings: &Settings) -> Option<Conflict> {
    let (interval, timeout) = (settings.client.ping_interval.0?, settings.client.pong_timeout.0?);
    (interval <= timeout).then(|| Conflict {
        keys: vec!["client.ping_interval".into(), "client.pong_timeout".into()],
        found: duration::show(interval),
        reason: format!("must be longer than client.pong_timeout = {}", duration::show(timeout)),
    })
}

/// Two endpoints cannot share a path.
fn paths(settings: &Settings) -> Vec<Conflict> {
    let all = [
        ("http_api", !settings.http_api.disabled, &settings.http_api.handler_prefix),
        ("websocket", !settings.websocket.disabled, &settings.websocket.handler_prefix),
        ("http_stream", settings.http_stream.enabled, &settings.http_stream.handler_prefix),
        ("sse", settings.sse.enabled, &settings.sse.handler_prefix),
        ("sockjs", settings.sockjs.enabled, &settings.sockjs.handler_prefix),
        ("uni_websocket", settings.uni_websocket.enabled, &settings.uni_websocket.handler_prefix),
        ("uni_sse", settings.uni_sse.enabled, &settings.uni_sse.handler_prefix),
        ("uni_http_stream", settings.uni_http_stream.enabled, &settings.uni_http_stream.handler_prefix),
        ("init", settings.init.enabled, &settings.init.handler_prefix),
        ("emulation", settings.emulates(), &settings.emulation.handler_prefix),
        ("health", settings.health.enabled, &settings.health.handler_prefix),
        ("prometheus", settings.prometheus.enabled, &settings.prometheus.handler_prefix),
    ];
    let mut conflicts = Vec::new();
    for (index, (section, on, path)) in all.iter().enumerate() {
        for (other, _, _) in
            all[..index].iter().filter(|(_, other_on, other)| *on && *other_on && other == path)
        {
            conflicts.push(Conflict {
                keys: vec![format!("{section}.handler_prefix"), format!("{other}.handler_prefix")],
                found: format!("{path:?}"),
                reason: format!("{other}.handler_prefix is the same"),
            });
        }
    }
    conflicts
}

fn channels(settings: &Settings, prefix: &str, options: &ChannelOptions) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    let mut conflict = |names: [&str; 2], found: String, reason: String| {
        let keys = names.iter().map(|name| format!("{prefix}.{name}")).collect();
        conflicts.push(Conflict { keys, found, reason });
    };
    let (size, ttl) = (options.history_size, options.history_ttl);
    if size > 0 && ttl.is_zero() {
        let reason = "history needs history_ttl above zero as well";
        conflict(["history_size", "history_ttl"], size.to_string(), reason.into());
    }
    if size == 0 && !ttl.is_zero() {
        let reason = "history needs history_size above zero as well";
        conflict(["history_ttl", "history_size"], duration::show(ttl), reason.into());
    }
    if options.force_recovery && size == 0 && ttl.is_zero() {
        let reason = "recovery needs history: set history_size and history_ttl";
        conflict(["force_recovery", "history_size"], "true".into(), reason.into());
    }
    let map = &options.map;
    let is_map = options.subscription_type.is_map();
    if is_map != (map.mode != MapMode::None) {
        let reason =
            if is_map { "a map needs a map.mode" } else { "map.mode needs a subscription_type of maps" };
        conflict(["map.mode", "subscription_type"], format!("{:?}", map.mode), reason.into());
    }
    if matches!(map.mode, MapMode::Ephemeral | MapMode::Recoverable) && map.key_ttl.is_zero() {
        let reason = "entries of maps that are not persistent need a map.key_ttl above zero";
        conflict(["map.key_ttl", "map.mode"], "0s".into(), reason.into());
    }
    let polls = options.subscription_type == SubscriptionType::SharedPoll;
    if let Some(reason) = polls.then(|| cannot_poll(settings)).flatten() {
        conflict(["subscription_type", "shared_poll"], "\"shared_poll\"".into(), reason.into());
    }
    for (name, prefix, want) in [
        (
            "map_clients_presence_channel_prefix",
            &options.map_clients_presence_channel_prefix,
            SubscriptionType::MapClients,
        ),
        (
            "map_users_presence_channel_prefix",
            &options.map_users_presence_channel_prefix,
            SubscriptionType::MapUsers,
        ),
    ] {
        let boundary = settings.channel.namespace_boundary.as_str();
        let mut of = settings.channel.namespaces.iter();
        let target =
            of.find(|it| prefix.strip_prefix(it.name.as_str()).is_some_and(|it| it.starts_with(boundary)));
        if !prefix.is_empty() && target.is_none_or(|it| it.options.subscription_type != want) {
            let reason =
                format!("must begin with a namespace of subscription_type {want:?} and {boundary:?}");
            conflict([name, "subscription_type"], format!("{prefix:?}"), reason);
        }
    }
    let own = options.history_meta_ttl;
    let meta = if own.is_zero() { settings.channel.history_meta_ttl } else { own };
    if ttl > meta {
        let reason = format!("must not be longer than history_meta_ttl = {}", duration::show(meta));
        conflict(["history_ttl", "history_meta_ttl"], duration::show(ttl), reason);
    }
    conflicts
}

fn cannot_poll(settings: &Settings) -> Option<&'static str> {
    let endpoint = &settings.channel.proxy.shared_poll_refresh.endpoint;
    if endpoint.is_empty() {
        Some("needs channel.proxy.shared_poll_refresh.endpoint, where the data is")
    } else if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        Some("needs a channel.proxy.shared_poll_refresh.endpoint that begins with http:// or https://")
    } else if settings.shared_poll.hmac_secret_key.is_empty() && !settings.client.insecure {
        Some("needs shared_poll.hmac_secret_key, with which the backend signs what may be tracked")
    } else {
        None
    }
}

fn patterns(settings: &Settings) -> Vec<Conflict> {
    let shape = |pattern: &str| -> Vec<String> {
        pattern.split('/').map(|it| if it.starts_with(':') { ":".into() } else { it.to_owned() }).collect()
    };
    let with: Vec<_> = settings.channel.namespaces.iter().filter(|it| !it.pattern.is_empty()).collect();
    let mut conflicts = Vec::new();
    for (index, namespace) in with.iter().enumerate() {
        let same = with[..index].iter().find(|other| shape(&other.pattern) == shape(&namespace.pattern));
        let reason = match same {
            _ if !settings.channel.patterns => "channel.patterns is not on: set it to true".into(),
            Some(other) => {
                format!("{:?} of the namespace {} matches the same names", other.pattern, other.name)
            }
            None => continue,
        };
        let keys = vec![format!("{}.pattern", keys::namespace(&namespace.name))];
        conflicts.push(Conflict { keys, found: format!("{:?}", namespace.pattern), reason });
    }
    conflicts
}

fn personal(settings: &Settings) -> Option<Conflict> {
    let personal = &settings.client.subscribe_to_user_personal_channel;
    let name = &personal.personal_channel_namespace;
    let options = match name.as_str() {
        "" => Some(&settings.channel.without_namespace),
        name => settings.channel.namespaces.iter().find(|it| it.name == name).map(|it| &it.options),
    };
    let reason = match options {
        _ if !personal.enabled => return None,
        Some(options) if options.subscription_type == SubscriptionType::Stream => return None,
        Some(_) => "the channels of users must be of subscription_type \"stream\"",
        None => "there is no such namespace",
    };
    Some(Conflict {
        keys: vec!["client.subscribe_to_user_personal_channel.personal_channel_namespace".into()],
        found: format!("{name:?}"),
        reason: reason.into(),
    })
}

/// A limit without a bucket limits nothing.
fn buckets(settings: &Settings) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    keys::visit(&mut settings.clone().client.rate_limit, "client.rate_limit.", &mut |prefix, section| {
        let has = |name: &str| section.options().iter().any(|option| option.name == name);
        let is = |name: &str, value: Value| has(name) && section.show(name) == value;
        if is("enabled", Value::Bool(true)) && is("buckets", Value::List(Vec::new())) {
            conflicts.push(Conflict {
                keys: vec![format!("{prefix}enabled"), format!("{prefix}buckets")],
                found: "true".into(),
                reason: format!("needs {prefix}buckets, such as [{{\"rate\": 60, \"interval\": \"1s\"}}]"),
            });
        }
    });
    conflicts
}

fn tls(settings: &Settings) -> Vec<Conflict> {
    let parts = settings.tls_parts();
    let lacking = parts.iter().filter(|part| part.enabled).filter_map(|part| {
        let files = [("cert_pem", part.cert_pem), ("key_pem", part.key_pem)];
        let (name, _) = files.into_iter().find(|(_, value)| value.is_empty())?;
        let section = part.section;
        Some(Conflict {
            keys: vec![format!("{section}.enabled"), format!("{section}.{name}")],
            found: "true".into(),
            reason: format!("needs {section}.{name}: corecast gen-cert makes a pair to try it with"),
        })
    });
    lacking.collect()
}

/// What one answer of a backend brings goes from core to core at once.
fn answers(settings: &Settings) -> Option<Conflict> {
    let (answer, queue) = (settings.backend.answer_size_max, settings.mesh.queue_max_size);
    (polls(settings) && answer >= queue).then(|| Conflict {
        keys: vec!["backend.answer_size_max".into(), "mesh.queue_max_size".into()],
        found: answer.to_string(),
        reason: format!(
            "must be less than mesh.queue_max_size = {queue}: what is new in one answer has to fit between two cores"
        ),
    })
}

/// Backends are asked at all.
fn polls(settings: &Settings) -> bool {
    let namespaces = settings.channel.namespaces.iter().map(|it| &it.options);
    let mut all = namespaces.chain([&settings.channel.without_namespace]);
    all.any(|options| options.subscription_type == SubscriptionType::SharedPoll)
}

fn loopback(key: &str, address: &str, dev: bool) -> Option<Conflict> {
    let loopback = address == "localhost" || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    (dev && !loopback).then(|| Conflict {
        keys: vec![key.into()],
        found: format!("{address:?}"),
        reason: "--dev lets everybody do everything and so listens on a loopback address only".into(),
    })
}
