//! The scenarios of `corecast bench` for connections, history, presence and the HTTP API: tiny runs against a
//! server of our own. Figures are not looked at, only that there are any and that the checks found no fault.

use crate::server::Server;
use serde_json::Value;
use std::process::{Command, Stdio};

const SETTINGS: [&str; 8] = [
    "client.insecure=true",
    "http_api.insecure=true",
    "channel.namespaces=plain kept present",
    "channel.namespaces.kept.history_size=100",
    "channel.namespaces.kept.history_ttl=5m",
    "channel.namespaces.kept.allow_recovery=true",
    "channel.namespaces.present.presence=true",
    "runtime.cores=2",
];

struct Run {
    status: i32,
    figures: Value,
    stderr: String,
}

impl Run {
    /// A scenario against `server`, in both protocols one after the other.
    #[track_caller]
    fn both(server: &Server, args: &[&str]) -> [Self; 2] {
        ["json", "protobuf"].map(|protocol| {
            let run = Self::of(server, &[args, &["--protocol", protocol]].concat());
            assert_eq!(run.status, 0, "{args:?} {protocol}: {}", run.stderr);
            run
        })
    }

    fn of(server: &Server, args: &[&str]) -> Self {
        let (scenario, args) = args.split_first().expect("a scenario");
        let done = Command::new(env!("CARGO_BIN_EXE_corecast"))
            .args(["bench", scenario])
            .args(["--url", &format!("ws://{}/connection/websocket", server.address)])
            .args(["--server-pid", &server.pid().to_string(), "--quiet", "--json", "-"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the program");
        Self {
            status: done.status.code().unwrap_or(-1),
            figures: serde_json::from_slice(&done.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn number(&self, section: &str, name: &str) -> f64 {
        let found = self.figures[section][name].as_f64();
        found.unwrap_or_else(|| panic!("no {section}.{name} in {:#}", self.figures))
    }
}

#[test]
fn a_storm_recovers_everything() {
    let server = Server::start(&SETTINGS);
    let args = ["storm", "--connections", "60", "--channels", "7", "--rounds", "2", "--pause", "0"];
    for run in Run::both(&server, &args) {
        assert_eq!(run.number("check", "recovered"), 120.0);
        assert_eq!(run.number("check", "failed_connections"), 0.0);
        assert!(run.number("connect", "seconds_to_all") > 0.0);
        assert!(run.number("reconnect", "cpu_us_per_reconnect") > 0.0);
    }
    let closed =
        Run::of(&server, &["storm", "--connections", "20", "--rounds", "1", "--close", "--opening-max", "3"]);
    assert_eq!(closed.status, 0, "{}", closed.stderr);
    let lost = Run::of(&server, &["storm", "--connections", "5", "--channel", "plain:storm"]);
    assert_eq!(lost.status, 1);
    assert!(lost.stderr.contains("do not allow recovery"), "{}", lost.stderr);
    let missed = Run::of(&server, &["storm", "--connections", "5", "--channels", "1", "--missed", "101"]);
    assert_eq!(missed.status, 1, "more was missed than is kept");
    assert!(missed.stderr.contains("not recovered"), "{}", missed.stderr);
}

#[test]
fn history_and_its_recovery() {
    let server = Server::start(&SETTINGS);
    for run in Run::both(&server, &["history", "--duration", "0.1", "--rounds", "2"]) {
        for kind in
            ["publish_without_history", "publish_with_history", "recover_nothing", "recover_all", "history"]
        {
            assert!(run.number(kind, "calls") > 0.0);
            assert!(run.number(kind, "latency_us_p99") > 0.0);
        }
        assert!(run.number("cost", "bytes_per_recovered_publication") > 128.0);
    }
    let run = Run::of(&server, &["history", "--duration", "0", "--recover", "101"]);
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("not recovered"), "{}", run.stderr);
}

#[test]
fn presence_of_everybody() {
    let server = Server::start(&SETTINGS);
    for run in Run::both(&server, &["presence", "--clients", "30", "--duration", "0.1", "--rounds", "2"]) {
        assert!(run.number("presence", "calls") > 0.0);
        assert!(run.number("presence_stats", "cpu_us_per_call") > 0.0);
    }
    let refused = Run::of(&server, &["presence", "--clients", "2", "--channel", "plain:bench"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("108"), "{}", refused.stderr);
}

#[test]
fn publishing_by_http() {
    let server = Server::start(&SETTINGS);
    let quick = ["--duration", "0.2", "--warmup", "0.05", "--channel", "plain:bench"];
    let publish = |args: &[&str]| Run::both(&server, &[&["publish"], quick.as_slice(), args].concat());
    for run in publish(&["--api", "http", "--connections", "4", "--pipeline", "2"]) {
        assert!(run.number("throughput", "publications") > 0.0);
        assert!(run.number("server", "cpu_ns_per_publication") > 0.0);
    }
    for run in publish(&["--api", "http-batch", "--connections", "2", "--batch", "10"]) {
        assert!(run.number("throughput", "publications") >= 10.0);
    }
    for run in publish(&["--api", "http", "--connections", "3", "--channels", "8", "--subscribers-each", "2"])
    {
        assert!(run.number("throughput", "deliveries") > 0.0);
        assert_eq!(run.number("check", "lost"), 0.0);
    }
}

#[test]
fn publishing_by_http_needs_the_key() {
    let server = Server::start(&["client.insecure=true", "http_api.key=secret"]);
    let quick = ["publish", "--api", "http", "--connections", "1", "--duration", "0.1", "--warmup", "0"];
    let refused = Run::of(&server, &quick);
    assert!(refused.status == 1 && refused.stderr.contains("--api-key"), "{}", refused.stderr);
    let good = Run::of(&server, &[&quick, ["--api-key", "secret"].as_slice()].concat());
    assert_eq!(good.status, 0, "{}", good.stderr);
}

#[test]
fn idle_connections_with_channels_of_their_own() {
    let server = Server::start(&SETTINGS);
    let args = ["idle", "--from", "10", "--to", "60", "--settle", "0", "--window", "0", "--own-channels"];
    let run = &Run::both(&server, &args)[0];
    assert_eq!(run.number("workload", "channels"), 60.0);
    assert!(run.number("memory", "private_bytes_at_to") > 0.0);
    let bare = ["idle", "--from", "10", "--to", "60", "--settle", "0", "--window", "0", "--bare"];
    let run = Run::of(&server, &bare);
    assert_eq!(run.status, 0, "{}", run.stderr);
    // Without an address: a program of the bench's own that only holds them.
    let done = Command::new(env!("CARGO_BIN_EXE_corecast"))
        .args(["bench"])
        .args(bare)
        .args(["--quiet", "--json", "-"])
        .output()
        .expect("the program");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let many = Run::of(&server, &["idle", "--from", "1", "--to", "4000000000"]);
    assert!(many.status == 1 && many.stderr.contains("open files"), "{}", many.stderr);
}
