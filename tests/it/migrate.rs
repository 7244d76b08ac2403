//! Configurations written for Centrifugo v6: started as they are, checked, and brought along.

use crate::{
    client::{Frame, WebSocket},
    http,
    server::Server,
};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Every key that both have, and some that ask for nothing.
const THEIRS: &str = include_str!("data/centrifugo.json");

/// Everything that Centrifugo has, as its `defaultconfig` writes it.
const THEIR_DEFAULTS: &str = include_str!("data/centrifugo-defaults.json");

/// A file of a test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn path(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corecast-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn file(name: &str, text: &str) -> Self {
        let file = Self::path(name);
        fs::write(&file.0, text).expect("a file");
        file
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("a name")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn corecast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Exit status, standard output, standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = corecast(arguments).stdout(Stdio::piped()).output().expect("the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a user of that configuration relies on.
fn serves(config: &str) {
    let server = Server::spawn(corecast(&["serve", "--config", config, "--set", "runtime.cores=1"]));
    let (mut client, reply) = WebSocket::connected(&server);
    assert!(reply.contains(r#""ping":25,"pong":true"#) && reply.contains(r#""time":"#), "{reply}");
    client.text(r#"{"id":2,"subscribe":{"channel":"chat:1"}}"#);
    assert!(client.line().contains(r#""recoverable":true"#));
    client.text(r#"{"id":3,"subscribe":{"channel":"nope:1"}}"#);
    assert!(client.line().contains(r#""code":102"#));
    assert_eq!(http::get(&server, "/health"), (200, "{}".to_owned()));
    assert_eq!(http::post(&server, "/api/info", "{}").0, 401);
    assert_eq!(http::post(&server, "/api/info?api_key=key", "{}").0, 200);
}

#[test]
fn a_configuration_of_shared_keys_starts_unchanged() {
    let config = Scratch::file("unchanged.json", THEIRS);
    let (code, out, err) = run(&["check-config", "--config", config.name()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("passed over, as they ask for nothing: ") && out.contains(" admin "), "{out}");
    assert!(out.contains("without effect here, as nothing needs it: client.concurrency channel."), "{out}");
    serves(config.name());
}

#[test]
fn their_defaults_written_out_start_unchanged() {
    let config = Scratch::file("defaults.json", THEIR_DEFAULTS);
    let (code, out, err) = run(&["check-config", "--config", config.name()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("without effect"), "{out}");
    let own =
        ["--set", "http_server.address=127.0.0.1", "--set", "http_server.port=0", "--set", "runtime.cores=1"];
    let server = Server::spawn(corecast(&[&["serve", "--config", config.name()][..], &own].concat()));
    let mut client = WebSocket::open(&server);
    client.text(r#"{"id":1,"connect":{}}"#);
    assert_eq!(client.close(), (3501, "bad request".into()), "nobody is let in");
    assert_eq!(http::get(&server, "/health").0, 404);
    assert_eq!(http::post(&server, "/api/info", "{}").0, 401);
    let (code, _, err) = run(&["migrate", config.name()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.ends_with("nothing is lost\n"), "{err}");
}

/// What clients are told of pings, and what comes of it when they keep still.
#[test]
fn pings_and_pongs_can_be_off() {
    let start = |own: [&str; 2]| {
        let all = ["client.allow_anonymous_connect_without_token=true", "runtime.cores=1", own[0], own[1]];
        let server = Server::start(&all);
        let (client, reply) = WebSocket::connected(&server);
        (server, client, reply)
    };
    let ping = Frame::Text("{}".into());

    let (_server, mut client, reply) = start(["client.ping_interval=1s", "client.pong_timeout=-1"]);
    assert!(reply.ends_with(r#","ping":1}}"#), "{reply}");
    assert_eq!([client.frame(), client.frame()], [ping, Frame::Text("{}".into())], "and nobody minds");

    let (_server, mut client, reply) = start(["client.ping_interval=-1s", "client.pong_timeout=8s"]);
    assert!(!reply.contains("ping") && !reply.contains("pong"), "{reply}");
    client.text("{}");
    assert_eq!(client.close(), (3501, "bad request".into()), "a pong without a ping");

    let (_server, mut client, reply) = start(["client.ping_interval=1s", "client.pong_timeout=200ms"]);
    assert!(reply.ends_with(r#","ping":1,"pong":true}}"#), "{reply}");
    assert_eq!(client.line(), "{}");
    assert_eq!(client.close(), (3012, "no pong".into()));
}

#[test]
fn a_migrated_configuration_starts_in_every_format() {
    let theirs = Scratch::file("theirs.json", THEIRS);
    for format in ["json", "toml", "yaml"] {
        let ours = Scratch::path(&format!("ours.{format}"));
        let (code, out, err) = run(&["migrate", theirs.name(), "--format", format, "--output", ours.name()]);
        assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
        assert!(err.contains("keys mean the same") && err.ends_with("nothing is lost\n"), "{err}");
        let text = fs::read_to_string(&ours.0).expect("the new file");
        assert!(!text.contains("admin") && !text.contains("127.0.0.1:1/connect"), "{text}");
        serves(ours.name());
        // What was written is not written over.
        assert_eq!(run(&["migrate", theirs.name(), "--output", ours.name()]).0, Some(1));
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let lossy = r#"{
      "engine": { "type": "redis", "redis": { "address": "redis://127.0.0.1:6379" } },
      "grpc_api": { "enabled": true },
      "channel": { "namespaces": [{ "name": "news", "subscribe_stream_proxy_enabled": true, "history_size": 1, "history_ttl": "1m" }] }
    }"#;
    let config = Scratch::file("lossy.json", lossy);
    let named = [
        "\"engine.type\"",
        "\"grpc_api.enabled\"",
        "\"channel.namespaces.news.subscribe_stream_proxy_enabled\"",
    ];
    for command in ["check-config", "serve"] {
        let (code, _, err) = run(&[command, "--config", config.name()]);
        assert_eq!(code, Some(1), "{err}");
        assert!(named.iter().all(|key| err.contains(key)), "{err}");
    }
    let (code, out, err) = run(&["migrate", config.name()]);
    assert_eq!(code, Some(2), "{err}");
    assert!(named.iter().all(|key| err.contains(&format!("{key} is a Centrifugo option"))), "{err}");
    assert!(err.ends_with("3 things are lost\n"), "{err}");
    let kept = Scratch::file("kept.json", &out);
    assert_eq!(run(&["check-config", "--config", kept.name()]).0, Some(0), "{out}");
    assert!(out.contains("\"history_size\": 1") && !out.contains("redis"), "{out}");
    // Neither a lost key nor a broken file is a success.
    assert_eq!(run(&["migrate", "/nonexistent.json"]).0, Some(1));
    let broken = Scratch::file("broken.json", "{");
    assert_eq!(run(&["migrate", broken.name()]).0, Some(1));
}
