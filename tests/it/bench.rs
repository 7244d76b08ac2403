//! Every scenario of `corecast bench`, tiny: that it runs, checks, ends its servers and leaves its files. Nothing
//! here looks at how fast anything was.

use super::server::Server;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub const TINY: [&str; 8] = ["--subscribers", "5", "--duration", "0.05", "--warmup", "0.02", "--rounds", "1"];

pub fn folder_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench").join(name)
}

pub fn folder(name: &str) -> PathBuf {
    let folder = folder_of(name);
    // Left from the last time.
    let _ = fs::remove_dir_all(&folder);
    folder
}

pub fn bench(arguments: &[&str], out: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    // Spinning would only take the CPU from the other tests.
    command.arg("bench").args(arguments).args(["--no-spin"]);
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    command.output().expect("the program")
}

#[track_caller]
pub fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stderr), text(&output.stdout));
    text(&output.stdout)
}

const FAULTS: [&str; 3] = ["lost", "doubled_or_out_of_order", "unanswered"];

/// The runs of a results folder, by server; every one of them without a fault.
#[track_caller]
fn runs(out: &Path) -> Vec<serde_json::Value> {
    let raw = fs::read_to_string(out.join("raw.jsonl")).expect("raw data");
    let lines = raw.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
    let runs: Vec<serde_json::Value> = lines.filter(|it: &serde_json::Value| it["run"].is_number()).collect();
    for run in &runs {
        // Connections that do nothing have nothing to lose.
        let faults = if run["part_of"] == "memory" { &[][..] } else { &FAULTS };
        for fault in faults {
            let count = run.pointer(&format!("/figures/check/{fault}"));
            assert_eq!(count.and_then(serde_json::Value::as_f64), Some(0.0), "{fault}: {run}");
        }
    }
    runs
}

#[track_caller]
pub fn check(scenario: &str, arguments: &[&str], cells: usize, servers: &[&str]) {
    let out = folder(scenario);
    let shown = succeeded(&bench(&[&[scenario], arguments].concat(), Some(&out)));
    let read =
        |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (setup, summary) = (read("SETUP.md"), read("SUMMARY.md"));
    for line in shown.lines() {
        assert!(summary.contains(line), "what is shown is what is kept:\n{line}\n{summary}");
    }
    // Without subscribers there is nothing to draw.
    if scenario != "publish" {
        let plot = read("plot.svg");
        assert!(summary.contains("plot.svg") && plot.starts_with("<svg") && plot.ends_with("</svg>\n"));
    }
    for fact in
        ["kernel: ", "CPU: ", "congestion control: ", "load before: ", "`corecast serve ", "corecast bench "]
    {
        assert!(setup.contains(fact), "no {fact:?} in {setup}");
    }
    let root = env!("CARGO_MANIFEST_DIR");
    assert!(!setup.contains(root) && !summary.contains(root), "paths of this machine:\n{setup}");
    let runs = runs(&out);
    let seen: BTreeSet<&str> = runs.iter().filter_map(|it| it["server"].as_str()).collect();
    assert_eq!(seen, servers.iter().copied().collect(), "{scenario}");
    let labels: BTreeSet<String> =
        runs.iter().filter_map(|it| it.pointer("/part_of/cell").map(ToString::to_string)).collect();
    assert_eq!(labels.len(), cells, "{scenario}: {labels:?}");
    for run in &runs {
        let pid =
            run.pointer("/figures/server_pid").and_then(serde_json::Value::as_u64).expect("its process");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{scenario}: process {pid} is left over");
    }
}

const FLOORS: &[&str] = &["ours", "floor send", "floor io_uring"];

#[test]
fn floor() {
    check("floor", &[&TINY[..], &["--batch", "1,4"]].concat(), 4, FLOORS);
}

#[test]
fn seed() {
    check("seed", &TINY, 4, FLOORS);
}

#[test]
fn paced() {
    check("paced", &[&TINY[..], &["--rate", "100"]].concat(), 2, FLOORS);
}

#[test]
fn latency() {
    check("latency", &TINY, 0, &["ours", "relay send", "relay io_uring"]);
}

#[test]
fn channels() {
    let small = ["--clients", "20", "--duration", "0.05", "--warmup", "0.02", "--rounds", "1"];
    check("channels", &small, 3, FLOORS);
}

#[test]
fn compressed() {
    let servers = ["ours", "uncompressed", "idle, uncompressed", "idle, compressed"];
    let small = [&TINY[..], &["--batch", "4", "--memory", "5,30"]].concat();
    check("compressed", &small, 1, &servers);
    let raw = fs::read_to_string(folder_of("compressed").join("SUMMARY.md")).expect("its summary");
    let bytes = raw.lines().find(|it| it.starts_with("| JSON, K = 4 | ") && it.matches('|').count() == 4);
    let bytes: Vec<f64> =
        bytes.expect("bytes on the wire").split('|').filter_map(|it| it.trim().parse().ok()).collect();
    assert!(bytes[1] * 1.4 < bytes[0], "words compress: {bytes:?}");
}

// Interrupted, it goes on; what has finished is not run again.
#[test]
fn all() {
    let out = folder("all");
    let run = |only: &str| succeeded(&bench(&["all", "--quick", "--only", only], Some(&out)));
    let first = run("presence,publish");
    assert!(first.contains("| P9 |") && first.contains("| P12 |") && !first.contains("| P10 |"), "{first}");
    let kept = fs::read(out.join("publish/raw.jsonl")).expect("raw data");
    let second = run("publish,history,idle,permission,idle-http_stream");
    for row in ["| P7 |", "| P9 |", "| P10 |", "| P12 |", "| T5 |", "| T7 |", "**Quick: "] {
        assert!(second.contains(row), "{row} {second}");
    }
    assert_eq!(fs::read(out.join("publish/raw.jsonl")).expect("raw data"), kept);
    assert!(second.contains("[summary](history/SUMMARY.md)") && second.contains("Redis PUBLISH"), "{second}");
    let mixed = bench(&["all", "--only", "permission"], Some(&out));
    assert!(!mixed.status.success() && String::from_utf8_lossy(&mixed.stderr).contains("--quick"));
    let none = bench(&["all", "--only", "fast"], Some(&out));
    assert!(String::from_utf8_lossy(&none.stderr).contains("--only takes floor, seed"));
}

#[test]
fn cores() {
    check("cores", &[&TINY[..], &["--batch", "4"]].concat(), 3, &["one core", "two cores"]);
}

#[test]
fn fanout_once_and_in_rounds() {
    check("fanout", &[&TINY[..], &["--batch", "4"]].concat(), 1, FLOORS);
    check("fanout", &TINY[..6], 0, &["ours"]);
}

#[test]
fn publish() {
    check("publish", &["--duration", "0.05", "--warmup", "0"], 0, &["ours"]);
}

#[test]
fn idle() {
    let out = folder("idle");
    let small = ["idle", "--from", "5", "--to", "10", "--settle", "0", "--window", "0"];
    assert!(succeeded(&bench(&small, Some(&out))).contains("private_bytes_per_connection"));
    assert!(out.join("SUMMARY.md").exists());
}

// By URL alone: no floor, no processor time, but all the checks and the throughput.
#[test]
fn another_server() {
    let server = Server::dev(&[]);
    let url = format!("ws://{}/connection/websocket", server.address);
    let out = folder("another");
    let arguments = [&["seed", "--url", &url, "--window", "4"], &TINY[..]].concat();
    let shown = succeeded(&bench(&arguments, Some(&out)));
    assert!(shown.contains("| JSON, window 4 | – |"), "{shown}");
    assert_eq!(runs(&out).len(), 2);
    drop(TcpStream::connect(server.address).expect("it is left running"));
}

#[test]
fn figures_for_programs() {
    let arguments = [&["seed", "--no-floor", "--quiet", "--json", "-"], &TINY[..]].concat();
    let figures: serde_json::Value =
        serde_json::from_str(&succeeded(&bench(&arguments, None))).expect("JSON");
    assert_eq!(figures["rows"].as_array().map(Vec::len), Some(4));
    let arguments = [&["fanout", "--quiet", "--json", "-"], &TINY[..6]].concat();
    let figures: serde_json::Value =
        serde_json::from_str(&succeeded(&bench(&arguments, None))).expect("JSON");
    assert!(figures["server"]["cpu_ns_per_delivery"].as_f64().is_some_and(|it| it > 0.0));
}

#[test]
fn mistakes_are_told() {
    #[track_caller]
    fn check(arguments: &[&str], status: i32, want: &str) {
        let output = bench(&[arguments, &["--json", "-"]].concat(), None);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(want), "{arguments:?}: {said}");
    }
    check(&["fanout", "--url", "ws://127.0.0.1:1/x"], 1, "nothing listens on 127.0.0.1:1");
    check(&["fanout", "--server-set", "no.such=1"], 1, "the server did not start");
    check(&["fanout", "--size", "3"], 1, "at least 26 bytes");
    check(&["channels", "--clients", "0"], 1, "--clients must be at least 1");
    check(&["cores", "--url", "ws://127.0.0.1:1/x"], 1, "leave --url out");
    check(&["cores", "--pace", "0"], 1, "--pace is a share");
    check(&["seed", "--rounds", "0"], 2, "--rounds");
    check(&["fanout", "--server-pid", "1"], 2, "--url");
}

#[test]
fn a_server_behind_tls_is_measured_and_leaves_no_key() {
    // A folder for temporary files that no other test uses.
    let temporary = folder("temporary");
    fs::create_dir_all(&temporary).expect("a folder");
    let bench = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
        command.arg("bench").args(arguments).arg("--no-spin").env("TMPDIR", &temporary);
        command.output().expect("the program")
    };
    let left = || fs::read_dir(&temporary).expect("a folder").count();
    let sizes = ["--subscribers", "5", "--publishers", "2", "--batch", "40"];
    let times = ["--duration", "0.05", "--warmup", "0.02", "--json", "-", "--quiet"];
    succeeded(&bench(&[&["fanout", "--tls"], &sizes[..], &times[..]].concat()));
    assert_eq!(left(), 0);
    let output = bench(&["publish", "--api", "http", "--tls", "--json", "-", "--quiet"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("TLS is not supported here"), "{output:?}");
}
