//! The whole way: sources -> settings or errors.

use super::{keys, node::Value, table::Kind, *};
use std::time::Duration;

fn file(name: &str, text: &str) -> Sources {
    Sources { file: Some(SourceFile { name: name.into(), text: text.into() }), ..Sources::default() }
}

fn environment(pairs: &[(&str, &str)]) -> Sources {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Sources { environment: pairs.collect(), ..Sources::default() }
}

fn sets(pairs: &[&str]) -> Sources {
    Sources { flags: pairs.iter().map(|pair| Flag::set(pair).unwrap()).collect(), ..Sources::default() }
}

fn dev(mut sources: Sources) -> Sources {
    sources.dev = true;
    sources
}

#[track_caller]
fn good(sources: Sources) -> Settings {
    match load(sources) {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("{errors}"),
    }
}

#[track_caller]
fn bad(sources: Sources, want: &[&str]) {
    let errors = load(sources).expect_err("should be refused").to_string();
    assert_eq!(errors.lines().collect::<Vec<_>>(), want);
}

#[test]
fn nothing_said_is_the_defaults() {
    assert_eq!(good(Sources::default()), Settings::default());
}

#[test]
fn errors_say_where_what_and_how_to_mend() {
    bad(
        file("config.json", "{\n  \"client\": {\n    \"ping_intervall\": \"25s\"\n  }\n}"),
        &[r#"config.json:3:5: unknown key "client.ping_intervall"; did you mean "client.ping_interval"?"#],
    );
    bad(
        file("c.toml", "[http_server]\nport = \"8000\"\n[clientt]\n[log]\nlevel = 'loud'"),
        &[
            r#"c.toml:2:8: http_server.port = "8000": must be an integer from 0 to 65535"#,
            r#"c.toml:3:2: unknown key "clientt"; did you mean "client"?"#,
            r#"c.toml:5:9: log.level = "loud": must be "trace" or "debug" or "info" or "warn" or "error" or "fatal" or "none""#,
        ],
    );
    bad(
        file(
            "c.yaml",
            "client:\n  ping_interval: 25\n  insecure: yes\nmesh: 7\nhttp_api: {key: 5}\nzzzzzzzz: 1\n",
        ),
        &[
            r#"c.yaml:2:18: client.ping_interval = 25: must be a duration from 1ms to 24h such as "25s", "1h30m" or "500ms", "0s" for the default, or "-1s" for none"#,
            r#"c.yaml:3:13: client.insecure = "yes": must be true or false"#,
            "c.yaml:4:7: mesh = 7: must be a section",
            // What is found is not repeated: it may be the key itself.
            "c.yaml:5:17: http_api.key = an integer: must be text",
            r#"c.yaml:6:1: unknown key "zzzzzzzz"; nearest known key is "client.token.size_max""#,
        ],
    );
    bad(
        file("c.json", "{\"client.insecure\": true}"),
        &[
            r#"c.json:1:2: unknown key "client.insecure"; sections are nested: write "client" as a section and "insecure" in it"#,
        ],
    );
    bad(
        file("c.json", "{\"log\": {\"level\": \"info\",}}"),
        &["c.json:1:26: expected a key in double quotes, found '}'"],
    );
    bad(
        environment(&[
            ("CORECAST_CLIENT_PING_INTERVAL", "25"),
            ("CORECAST_HTTP_SERVR_PORT", "1"),
            ("PATH", "x"),
        ]),
        &[
            r#"environment CORECAST_CLIENT_PING_INTERVAL: client.ping_interval = "25": must be a duration from 1ms to 24h such as "25s", "1h30m" or "500ms", "0s" for the default, or "-1s" for none"#,
            r#"environment CORECAST_HTTP_SERVR_PORT: no such variable; did you mean "CORECAST_HTTP_SERVER_PORT"?"#,
        ],
    );
    bad(
        sets(&["http_server.prot=1", "http_server.port=true"]),
        &[
            r#"--set http_server.prot: unknown key "http_server.prot"; did you mean "http_server.port"?"#,
            "--set http_server.port: http_server.port = true: must be an integer from 0 to 65535",
        ],
    );
}

#[test]
fn centrifugo_options_are_known_by_name() {
    let text = r#"{"admin": {"enabled": true, "password": "x"}, "engine": {"type": "redis"},
        "log": {"level": "info", "file": "secret"},
        "channel": {"namespaces": [{"name": "ab", "presence_cel": "x", "force_recovery_mode": "stream"}]}}"#;
    let says = "is a Centrifugo option that Corecast does not support yet";
    bad(
        file("c.json", text),
        &[
            &format!(r#"c.json:1:23: "admin.enabled" {says} (found true); remove it"#),
            &format!(r#"c.json:1:66: "engine.type" {says} (found text); remove it"#),
            &format!(r#"c.json:2:42: "log.file" {says} (found text); remove it"#),
            &format!(r#"c.json:3:67: "channel.namespaces.ab.presence_cel" {says} (found text); remove it"#),
        ],
    );
    bad(
        environment(&[("CORECAST_LOG_FILE", "s"), ("CORECAST_ADMIN_ENABLED", "true")]),
        &[
            &format!(r#"environment CORECAST_ADMIN_ENABLED: "admin.enabled" {says} (found true); remove it"#),
            &format!(r#"environment CORECAST_LOG_FILE: "log.file" {says} (found text); remove it"#),
        ],
    );
    bad(
        sets(&["swagger.enabled=true"]),
        &[&format!(r#"--set swagger.enabled: "swagger.enabled" {says} (found true); remove it"#)],
    );
    let harmless = r#"{"admin": {"enabled": false, "password": "x"}, "engine": {"type": "memory"},
        "usage_stats": {"disabled": true}, "http_server": {"tls": {"enabled": false}}, "proxies": [],
        "channel": {"without_namespace": {"subscription_type": "stream"}}}"#;
    assert_eq!(good(file("c.json", harmless)), Settings::default());
    assert_eq!(good(environment(&[("CORECAST_ADMIN_ENABLED", "false")])), Settings::default());
    assert_eq!(good(sets(&["engine.type=memory"])), Settings::default());
}

#[test]
fn later_sources_win() {
    let mut sources =
        file("c.toml", "[http_server]\nport = 1\n[client]\nchannel_limit = 1\nqueue_max_size = 1");
    let default = good(Sources::default());
    assert_eq!(good(sources.clone()).http_server.port, 1);
    sources.environment =
        environment(&[("CORECAST_HTTP_SERVER_PORT", "2"), ("CORECAST_CLIENT_CHANNEL_LIMIT", "2")])
            .environment;
    sources.flags = sets(&["http_server.port=3"]).flags;
    let settings = good(sources);
    assert_eq!(settings.http_server.port, 3);
    assert_eq!(settings.client.channel_limit, 2);
    assert_eq!(settings.client.queue_max_size, 1);
    assert_eq!(settings.client.held_max_size, default.client.held_max_size);
}

#[test]
fn texts_become_values_of_their_key() {
    let settings = good(environment(&[
        ("CORECAST_CLIENT_ALLOWED_ORIGINS", "https://a.example https://b.example,https://c.example"),
        ("CORECAST_CLIENT_INSECURE", "true"),
        ("CORECAST_RUNTIME_CORES", "0,2-3"),
        ("CORECAST_HTTP_API_KEY", "12345"),
        ("CORECAST_HTTP_SERVER_TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
        ("CORECAST_CHANNEL_WITHOUT_NAMESPACE_PRESENCE", "1"),
        // Kubernetes speaks, not the operator.
        ("CORECAST_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("CORECAST_HTTP_SERVER_PORT", "tcp://10.0.0.1:80"),
    ]));
    assert_eq!(
        settings.client.allowed_origins,
        ["https://a.example", "https://b.example", "https://c.example"]
    );
    assert!(settings.client.insecure && settings.channel.without_namespace.presence);
    assert_eq!(settings.runtime.cores, Cores::List(vec![0, 2, 3]));
    assert_eq!(settings.http_api.key, "12345");
    assert_eq!(settings.http_server.trusted_proxies, ["10.0.0.0/8"]);
    assert_eq!(settings.http_server.port, 8000);

    let settings = good(sets(&[
        "client.allowed_origins=*",
        "http_api.key=007",
        "node.name=\"7\"",
        "runtime.cores=[1]",
        "client.ping_interval=1m",
        "channel.without_namespace={\"presence\":true,\"history_size\":1,\"history_ttl\":\"1s\"}",
        "mesh.credit=5",
        "http_server.address=localhost",
    ]));
    assert_eq!(settings.client.allowed_origins, ["*"]);
    assert_eq!((settings.http_api.key.as_str(), settings.node.name.as_str()), ("007", "7"));
    assert_eq!(settings.runtime.cores, Cores::List(vec![1]));
    assert_eq!(settings.client.ping_interval, OrOff::on(Duration::from_secs(60)));
    assert_eq!(settings.channel.without_namespace.history_size, 1);
    assert_eq!(settings.mesh.credit, 5);
    assert_eq!(settings.http_server.address, "127.0.0.1");
}

#[test]
fn every_key_has_its_variable() {
    for (key, option) in keys::all() {
        let text = match option.kind {
            Kind::Bool => "true",
            Kind::Integer => "1024",
            Kind::Duration => "9s",
            Kind::Cores => "7",
            Kind::List => "10.0.0.1",
            Kind::Sections => r#"[{"rate": 5, "interval": "1s"}]"#,
            Kind::Headers => r#"{"X-Key":"x"}"#,
            Kind::Text => continue,
        };
        let sources = environment(&[(&keys::environment_name(&key), text)]);
        let flags = sets(&[&format!("{key}={text}")]);
        for sources in [sources, flags] {
            match load(sources) {
                Ok(loaded) => {
                    let mut found = Value::Null;
                    keys::visit(&mut loaded.settings.clone(), "", &mut |prefix, section| {
                        if let Some(name) = key.strip_prefix(prefix).filter(|name| !name.contains('.')) {
                            found = section.show(name);
                        }
                    });
                    let found = match found {
                        it if option.kind == Kind::Sections => show::inline(&it, ": "),
                        Value::Text(text) => text,
                        Value::Map(entries) => {
                            format!(r#"{{"{}":{}}}"#, entries[0].key, entries[0].node.value.brief())
                        }
                        Value::List(items) => items[0].value.brief().trim_matches('"').to_owned(),
                        other => other.brief(),
                    };
                    assert_eq!(found, text, "{key}");
                }
                // Some need company or are smaller; the error then proves that the key was reached.
                Err(errors) => {
                    let name = key.rsplit('.').next().unwrap();
                    assert!(errors.to_string().contains(name), "{key}: {errors}");
                    assert!(!errors.to_string().contains("unknown"), "{key}: {errors}");
                }
            }
        }
    }
}

#[test]
fn namespaces() {
    let mut sources = environment(&[
        ("CORECAST_CHANNEL_NAMESPACES", "ab a.b-c, force_push"),
        ("CORECAST_CHANNEL_NAMESPACES_AB_HISTORY_SIZE", "10"),
        ("CORECAST_CHANNEL_NAMESPACES_AB_HISTORY_TTL", "1m"),
        ("CORECAST_CHANNEL_NAMESPACES_A_B_C_PRESENCE", "true"),
        // `force_push_join_leave` is the longer option, but there is no namespace "" for it.
        ("CORECAST_CHANNEL_NAMESPACES_FORCE_PUSH_JOIN_LEAVE", "true"),
    ]);
    sources.flags = sets(&["channel.namespaces.a.b-c.allow_history_for_client=true"]).flags;
    let list = good(sources).channel.namespaces;
    assert_eq!(list.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["ab", "a.b-c", "force_push"]);
    assert_eq!((list[0].options.history_size, list[0].options.history_ttl), (10, Duration::from_secs(60)));
    assert!(
        list[1].options.presence && list[1].options.allow_history_for_client && list[2].options.join_leave
    );

    // Two readings: the longer option wins.
    let list = good(environment(&[
        ("CORECAST_CHANNEL_NAMESPACES", "xx xx_force_push"),
        ("CORECAST_CHANNEL_NAMESPACES_XX_FORCE_PUSH_JOIN_LEAVE", "true"),
    ]))
    .channel
    .namespaces;
    assert!(list[0].options.force_push_join_leave && !list[1].options.join_leave);

    // A later list replaces an earlier one whole.
    let mut sources =
        file("c.json", r#"{"channel":{"namespaces":[{"name":"chat","presence":true},{"name":"old"}]}}"#);
    sources.flags = sets(&["channel.namespaces=chat news"]).flags;
    let list = good(sources).channel.namespaces;
    assert_eq!(list.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["chat", "news"]);
    assert!(!list[0].options.presence);

    let mut sources = file("c.yaml", "channel:\n  namespaces:\n  - name: chat\n    presence: true\n");
    sources.environment = environment(&[("CORECAST_CHANNEL_NAMESPACES_CHAT_JOIN_LEAVE", "true")]).environment;
    let chat = good(sources).channel.namespaces.remove(0);
    assert!(chat.options.presence && chat.options.join_leave);

    bad(
        environment(&[
            ("CORECAST_CHANNEL_NAMESPACES", "ab"),
            ("CORECAST_CHANNEL_NAMESPACES_CD_PRESENCE", "true"),
        ]),
        &[
            "environment CORECAST_CHANNEL_NAMESPACES_CD_PRESENCE: CORECAST_CHANNEL_NAMESPACES_CD_PRESENCE: there is no such namespace; channel.namespaces has ab",
        ],
    );
    bad(
        environment(&[
            ("CORECAST_CHANNEL_NAMESPACES", "a-b a.b"),
            ("CORECAST_CHANNEL_NAMESPACES_A_B_PRESENCE", "true"),
        ]),
        &[
            "environment CORECAST_CHANNEL_NAMESPACES_A_B_PRESENCE: more than one namespace can be meant: set it in the file or with --set",
        ],
    );
    bad(
        sets(&["channel.namespaces.ab.presence=true"]),
        &[
            "--set channel.namespaces.ab.presence: channel.namespaces.ab.presence: there is no such namespace; channel.namespaces is empty",
        ],
    );
    bad(
        file(
            "c.json",
            r#"{"channel":{"namespaces":[{"name":"ab"},{"name":"ab"},{"name":"a"},{"presense":true},7]}}"#,
        ),
        &[
            r#"c.json:1:49: channel.namespaces.ab.name = "ab": another namespace has this name"#,
            r#"c.json:1:63: channel.namespaces[2].name = "a": must be a name of two or more characters out of a-z A-Z 0-9 - _ ."#,
            "c.json:1:68: channel.namespaces[3].name = nothing: must be a name of two or more characters out of a-z A-Z 0-9 - _ .",
            r#"c.json:1:69: unknown key "channel.namespaces[3].presense"; did you mean "channel.namespaces[3].presence"?"#,
            "c.json:1:86: channel.namespaces[4] = 7: must be a list of sections, each with a name",
        ],
    );
}

#[test]
fn settings_that_do_not_fit_together() {
    bad(
        file("c.toml", "[client]\npong_timeout = '25s'"),
        &["c.toml:2:16: client.ping_interval = 25s: must be longer than client.pong_timeout = 25s"],
    );
    good(file("c.toml", "[client]\npong_timeout = '24999ms'"));
    bad(
        sets(&["channel.without_namespace.history_size=1"]),
        &[
            "--set channel.without_namespace.history_size: channel.without_namespace.history_size = 1: history needs history_ttl above zero as well",
        ],
    );
    bad(
        sets(&["channel.without_namespace.history_ttl=1s"]),
        &[
            "--set channel.without_namespace.history_ttl: channel.without_namespace.history_ttl = 1s: history needs history_size above zero as well",
        ],
    );
    bad(
        file("c.json", r#"{"channel":{"namespaces":[{"name":"ab","force_recovery":true}]}}"#),
        &[
            "c.json:1:57: channel.namespaces.ab.force_recovery = true: recovery needs history: set history_size and history_ttl",
        ],
    );
    bad(
        sets(&[
            "channel.history_meta_ttl=1s",
            "channel.without_namespace.history_size=1",
            "channel.without_namespace.history_ttl=1001ms",
        ]),
        &[
            "--set channel.without_namespace.history_ttl: channel.without_namespace.history_ttl = 1s1ms: must not be longer than history_meta_ttl = 1s",
        ],
    );
    good(sets(&[
        "channel.history_meta_ttl=1s",
        "channel.without_namespace.history_size=1",
        "channel.without_namespace.history_ttl=1s",
    ]));
    bad(
        sets(&["health.handler_prefix=/metrics"]),
        &[
            r#"--set health.handler_prefix: prometheus.handler_prefix = "/metrics": health.handler_prefix is the same"#,
        ],
    );
    good(sets(&["health.handler_prefix=/metrics", "prometheus.enabled=false"]));
}

#[test]
fn what_a_backend_answers_fits_between_cores() {
    let polls = [
        "channel.without_namespace.subscription_type=shared_poll",
        "channel.proxy.shared_poll_refresh.endpoint=http://127.0.0.1:1",
        "shared_poll.hmac_secret_key=x",
    ];
    let with = |more: &str| sets(&[polls[0], polls[1], polls[2], more]);
    good(with("mesh.queue_max_size=16777217"));
    bad(
        with("mesh.queue_max_size=16777216"),
        &[
            "--set mesh.queue_max_size: backend.answer_size_max = 16777216: must be less than mesh.queue_max_size = 16777216: what is new in one answer has to fit between two cores",
        ],
    );
    // Nobody is asked.
    good(sets(&["mesh.queue_max_size=1000"]));
}

#[test]
fn tls_needs_its_files_where_it_is_served() {
    let grpc = ["uni_grpc.tls.enabled=true", "uni_grpc.enabled=true"];
    good(sets(&grpc[..1]));
    bad(
        sets(&grpc),
        &[
            "--set uni_grpc.tls.enabled: uni_grpc.tls.enabled = true: needs uni_grpc.tls.cert_pem: corecast gen-cert makes a pair to try it with",
        ],
    );
}

#[test]
fn dev_is_a_base_on_loopback() {
    let settings = good(dev(Sources::default()));
    assert_eq!(settings, Settings::dev());
    let options = &settings.channel.without_namespace;
    assert_eq!((options.history_size, options.history_ttl), (100, Duration::from_secs(300)));
    assert!(settings.client.insecure && settings.http_api.insecure && options.force_recovery);
    for address in ["127.0.0.1", "127.9.9.9", "::1", "localhost"] {
        good(dev(sets(&[&format!("http_server.address={address}")])));
    }
    for address in ["", "0.0.0.0", "::", "10.0.0.1"] {
        let errors = load(dev(sets(&[&format!("http_server.address={address}")]))).expect_err(address);
        assert!(
            errors.to_string().starts_with("--set http_server.address: http_server.address = "),
            "{errors}"
        );
    }
    let changed = good(dev(file(
        "c.yaml",
        "channel: {without_namespace: {history_size: 5}, namespaces: [{name: ab}]}",
    )));
    assert_eq!(changed.channel.without_namespace.history_size, 5);
    assert_eq!(changed.channel.namespaces[0].options, ChannelOptions::dev());
}

#[test]
fn warnings_for_what_was_hardly_meant() {
    let warnings = |sources: Sources| load(sources).unwrap().warnings.join("\n");
    assert!(warnings(Sources::default()).contains("http_api.key is empty"));
    assert_eq!(warnings(dev(Sources::default())), "");
    assert_eq!(warnings(sets(&["http_api.key=x"])), "");
    assert!(warnings(sets(&["client.insecure=true"])).contains("client.insecure"));
    assert!(warnings(sets(&["http_api.insecure=true"])).contains("http_api.insecure"));
    assert!(warnings(environment(&[("CENTRIFUGO_HTTP_SERVER_PORT", "1")])).contains("CENTRIFUGO_"));
}

#[test]
fn many_errors_are_counted() {
    let keys: Vec<_> = (0..ConfigErrors::LISTED_MAX + 3).map(|n| format!("\"k{n}\":1")).collect();
    let errors = load(file("c.json", &format!("{{{}}}", keys.join(",")))).unwrap_err();
    assert_eq!((errors.errors.len(), errors.more), (ConfigErrors::LISTED_MAX, 3));
    assert!(errors.to_string().ends_with("and 3 more"));
}

/// Both sides of the limit of every option that has one.
#[test]
fn limits_of_options() {
    #[track_caller]
    fn check(key: &str, good_values: &[&str], bad_values: &[&str]) {
        for (values, want) in [(good_values, true), (bad_values, false)] {
            for value in values {
                let result = load(sets(&[&format!("{key}={value}")]));
                assert_eq!(result.is_ok(), want, "{key}={value}: {result:?}");
                if let Err(errors) = result {
                    assert!(errors.to_string().contains(&format!("{key} = {}", brief(value))), "{errors}");
                }
            }
        }
    }
    fn brief(value: &str) -> String {
        if value.parse::<i128>().is_ok() { value.to_owned() } else { format!("\"{value}\"") }
    }
    check("http_server.port", &["0", "65535"], &["-1", "65536", "99999999999999999999999"]);
    check("runtime.buffer_count", &["1", "256", "32768"], &["0", "3", "32769", "65536"]);
    check("runtime.cores", &["1", "128", "all", "0-127"], &["0", "129", "0-128", "x"]);
    check("runtime.backend", &["auto", "ring", "poll"], &["", "epoll"]);
    check("runtime.listen_backlog", &["1", "65535"], &["0", "65536"]);
    check("runtime.turn_time_max", &["1us", "1s"], &["999ns", "1001ms"]);
    check("client.held_max_size", &["1", "4294967296"], &["0", "4294967297"]);
    check("client.queue_max_size", &["0", "1", "4294967296"], &["-1", "4294967297"]);
    check("client.channel_limit", &["0", "1", "1000000"], &["-1", "1000001"]);
    check(
        "client.ping_interval",
        &["9s", "24h", "0s", "0", "-1", "-1s", "-5ms"],
        &["999us", "24h1ns", "-", "-x"],
    );
    check("client.pong_timeout", &["1ms", "0s", "-1ns"], &["999us", "-1x"]);
    check("client.stale_close_delay", &["1ms", "24h", "0s"], &["999us", "24h1ns", "-1s"]);
    check("client.history_max_publication_limit", &["0", "1", "1000000"], &["1000001"]);
    check("channel.max_length", &["0", "1", "65535"], &["65536"]);
    check("channel.server_max_length", &["1", "65535"], &["0", "65536"]);
    check("channel.private_prefix", &["", "$", "1234567890abcdef"], &["1234567890abcdefg"]);
    check("http_api.error_mode", &["", "transport"], &["http"]);
    check("log.level", &["debug", "none", "trace", "fatal"], &["loud", ""]);
    check("websocket.frame_size_target", &["1", "1048576"], &["0", "1048577"]);
    check("websocket.handler_prefix", &["/a"], &["a", "/", "/a/"]);
    check("shutdown.timeout", &["0s", "0", "1ms", "24h"], &["999us", "25h"]);
    check("http_server.address", &["", "::", "1.2.3.4"], &["example.com", "1.2.3.4:80"]);
}

/// Centrifugo writes zeros, nulls and empty texts where nothing was said.
#[test]
fn what_stands_for_nothing_said() {
    #[track_caller]
    fn same(zeros: &str) {
        assert_eq!(good(file("c.json", zeros)), Settings::default(), "{zeros}");
    }
    same(
        r#"{"client":{"ping_interval":"0s","pong_timeout":0,"stale_close_delay":"0s","channel_limit":0,
        "queue_max_size":0,"channel_position_check_delay":"0s","allowed_origins":null},
        "http_server":{"trusted_proxies":null},"channel":{"max_length":0,"history_meta_ttl":"0s","namespaces":null,
        "without_namespace":{"allowed_delta_types":null,"shared_poll":{"refresh_interval":"0s","refresh_batch_size":0,
        "max_keys_per_connection":0,"channel_shutdown_delay":"0s","track_expired_extra_delay":"0s"}},
        "proxy":{"shared_poll_refresh":{"timeout":"0s","http":{"static_headers":null}}}},
        "websocket":{"message_size_limit":0,"write_timeout":"0s"},"http_stream":{"max_request_body_size":0},
        "sse":{"max_request_body_size":0},"emulation":{"max_request_body_size":0},
        "uni_websocket":{"message_size_limit":0},"uni_sse":{"max_request_body_size":0},
        "uni_http_stream":{"max_request_body_size":0},"uni_grpc":{"max_receive_message_size":0}}"#,
    );
    let settings = good(file(
        "c.json",
        r#"{"client":{"history_max_publication_limit":0,"recovery_max_publication_limit":0,"ping_interval":-1},
        "shared_poll":{"concurrency_limit":0},
        "channel":{"private_prefix":"","namespace_boundary":"","user_boundary":"","user_separator":""}}"#,
    ));
    let client = &settings.client;
    let limits = (client.history_max_publication_limit, client.recovery_max_publication_limit);
    assert_eq!((limits, settings.shared_poll.concurrency_limit), ((1_000_000, 1_000_000), 1024));
    // Without pings there is no timeout to be longer than.
    assert_eq!((client.ping_interval, client.pong_timeout), (OrOff(None), OrOff::on(Duration::from_secs(8))));
    assert_eq!((client.ping_interval.ms(), client.pong_timeout.ms()), (0, 8_000));
    let channel = &settings.channel;
    for mark in [
        &channel.private_prefix,
        &channel.namespace_boundary,
        &channel.user_boundary,
        &channel.user_separator,
    ] {
        assert_eq!(mark, "");
    }
}

#[test]
fn options_that_only_tune_are_named_and_change_nothing() {
    let loaded = load(file(
        "c.json",
        r#"{"client":{"concurrency":8,"presence_update_interval":"10s"},"node":{"info_metrics_aggregate_interval":"60s"},
        "channel":{"namespaces":[{"name":"ab","keep_latest_publication":true}]}}"#,
    ))
    .unwrap();
    let named =
        "client.concurrency client.presence_update_interval channel.namespaces.ab.keep_latest_publication";
    assert!(loaded.warnings.iter().any(|it| it.ends_with(named)), "{:?}", loaded.warnings);
    assert_eq!(loaded.passed_over, ["node.info_metrics_aggregate_interval"]);
    assert_eq!(loaded.settings.client, Settings::default().client);
}

#[test]
fn channels_of_users_are_streams() {
    let of = |kind: &str| {
        sets(&[
            "client.subscribe_to_user_personal_channel.enabled=true",
            &format!("channel.without_namespace.subscription_type={kind}"),
            "channel.without_namespace.map.mode=persistent",
        ])
    };
    let errors = load(of("map")).unwrap_err().to_string();
    assert!(errors.contains("must be of subscription_type \"stream\""), "{errors}");
    good(sets(&["client.subscribe_to_user_personal_channel.enabled=true"]));
}

#[test]
fn what_is_shown_loads_back() {
    let formats = [(Format::Json, "c.json"), (Format::Toml, "c.toml"), (Format::Yaml, "c.yaml")];
    for settings in [Settings::default(), Settings::dev()] {
        for (format, name) in formats {
            assert_eq!(good(file(name, &show(&settings, format))), settings, "{format:?}");
            // Without a telling name as well.
            assert_eq!(good(file("c", &show(&settings, format))), settings, "{format:?}");
        }
    }
    arbtest::arbtest(|u| {
        let mut settings = Settings::default();
        settings.http_server.port = u.arbitrary()?;
        settings.node.name = u.arbitrary()?;
        settings.http_api.key = u.arbitrary()?;
        settings.runtime.cores = match u.int_in_range(0..=2)? {
            0 => Cores::All,
            1 => Cores::Count(u.int_in_range(1..=128)?),
            _ => Cores::List(vec![u.int_in_range(0..=9)?, 10]),
        };
        settings.client.pong_timeout =
            *u.choose(&[OrOff(None), OrOff::on(Duration::from_secs(1)), settings.client.pong_timeout])?;
        settings.client.stale_close_delay =
            Duration::from_nanos(u.int_in_range(1_000_000..=86_400_000_000_000)?);
        for index in 0..u.int_in_range(0..=3)? {
            let options = if u.arbitrary()? { ChannelOptions::dev() } else { ChannelOptions::default() };
            settings.channel.namespaces.push(Namespace {
                name: format!("n{index}"),
                options,
                ..Namespace::default()
            });
        }
        for (format, name) in formats {
            let text = show(&settings, format);
            assert_eq!(good(file(name, &text)), settings, "{text}");
        }
        Ok(())
    });
}

/// Whatever the place of an unknown key, the error names it and its line.
#[test]
fn unknown_keys_are_always_named() {
    arbtest::arbtest(|u| {
        let sections = keys::all_and_sections();
        let sections: Vec<_> =
            sections.iter().filter(|key| keys::kind(key).is_none() && *key != keys::NAMESPACES).collect();
        let section = *u.choose(&sections)?;
        let name = format!("x{}", u.int_in_range(0..=u32::MAX)?);
        let mut text = "{".repeat(section.split('.').count() + 1);
        text = text.trim_start_matches('{').to_owned();
        for part in section.split('.') {
            text += &format!("{{\n\"{part}\": ");
        }
        text += &format!("{{\n\"{name}\": 1{}", "}".repeat(section.split('.').count() + 1));
        let line = section.split('.').count() + 2;
        let errors = load(file("c.json", &text)).expect_err(&text).to_string();
        assert!(
            errors.starts_with(&format!("c.json:{line}:1: unknown key \"{section}.{name}\"")),
            "{errors}"
        );
        let errors = load(sets(&[&format!("{section}.{name}=1")])).expect_err(&text).to_string();
        assert!(errors.contains(&format!("unknown key \"{section}.{name}\"")), "{errors}");
        Ok(())
    });
}

#[test]
fn no_input_panics() {
    fuzz(b"");
    let seeds: Vec<String> = Format::ALL.iter().map(|format| show(&Settings::dev(), *format)).collect();
    arbtest::arbtest(|u| {
        fuzz(u.bytes(u.len().min(64))?);
        Ok(())
    });
    arbtest::arbtest(|u| {
        let mut bytes = u.choose(&seeds)?.clone().into_bytes();
        let from = u.choose_index(bytes.len())?;
        bytes.drain(..from);
        bytes.truncate(400);
        for _ in 0..u.int_in_range(1..=8)? {
            let at = u.choose_index(bytes.len())?;
            bytes[at] = *u.choose(b"{}[]\":=,.-_#&*!<>|\n \0\x80a1")?;
        }
        fuzz(&bytes);
        Ok(())
    })
    .budget_ms(1500);
    for evil in [
        &b"a: &a [*a]"[..],
        b"<<: *x",
        b"--- ---",
        b"[[a]]\n[a]",
        b"a.b.c.d = {e.f = 1}",
        b"\xef\xbb\xbf{}",
        b"? [a]\n: b",
    ] {
        fuzz(evil);
    }
    let bomb = (0..30)
        .map(|n| format!("a{}: &a{} [*a{n}, *a{n}, *a{n}, *a{n}]\n", n + 1, n + 1))
        .collect::<String>();
    fuzz(format!("a0: &a0 [1]\n{bomb}").as_bytes());
}

#[test]
fn the_page_is_up_to_date() {
    let page = reference();
    assert!(
        page == include_str!("../../docs/CONFIG.md"),
        "docs/CONFIG.md differs from the table: corecast gen-config --format markdown > docs/CONFIG.md"
    );
}
