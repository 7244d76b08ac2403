//! The scenarios of `corecast bench` about how clients come in: transports, TLS, tokens, rights, subscriptions. Tiny; how
//! fast anything was is not looked at.

use crate::{
    bench::{TINY, bench, check, folder, folder_of, succeeded},
    server::Server,
};
use serde_json::Value;
use std::{fs, path::Path};

/// The lines of the raw data.
#[track_caller]
fn raw(out: &Path) -> Vec<Value> {
    let raw = fs::read_to_string(out.join("raw.jsonl")).expect("raw data");
    raw.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The rows of the table of bars of a run in this folder.
#[track_caller]
fn rows(out: &Path) -> Vec<String> {
    let last = raw(out).pop().expect("the bars");
    let bars = last["bars"].as_array().expect("the bars");
    bars.iter().map(|bar| bar["row"].as_str().expect("a row").to_owned()).collect()
}

#[test]
fn transports_beside_websocket() {
    check("transports", &[&TINY[..], &["--batch", "1,4"]].concat(), 6, &["ours", "WebSocket"]);
    let out = folder_of("transports");
    assert_eq!(rows(&out), ["T6"; 6]);
    for run in raw(&out).iter().filter(|it| it["run"].is_number()) {
        let deliveries = run.pointer("/figures/throughput/deliveries").and_then(Value::as_f64);
        assert!(deliveries.is_some_and(|it| it > 0.0), "{run}");
    }
}

#[test]
fn any_server_by_any_transport() {
    let server = Server::dev(&["runtime.cores=2"]);
    let url = format!("ws://{}/connection/websocket", server.address);
    let run = |arguments: &[&str]| {
        let often = ["fanout", "--url", &url, "--messages", "60", "--batch", "6", "--json", "-", "--quiet"];
        bench(&[&often[..], &["--subscribers", "7"], arguments].concat(), None)
    };
    for arguments in [
        &["--transport", "http_stream"][..],
        &["--transport", "http_stream", "--protocol", "protobuf"],
        &["--transport", "sse"],
    ] {
        let figures: Value = serde_json::from_str(&succeeded(&run(arguments))).expect("JSON");
        assert_eq!(figures["throughput"]["deliveries"], 420.0, "{arguments:?}");
        assert_eq!(figures["check"]["lost"], 0.0);
    }
    let said = |arguments: &[&str]| String::from_utf8_lossy(&run(arguments).stderr).into_owned();
    assert!(said(&["--transport", "sse", "--protocol", "protobuf"]).contains("JSON only"));
    let other = Server::start(&["client.insecure=true"]);
    let url = format!("ws://{}/connection/websocket", other.address);
    let off = bench(&["fanout", "--url", &url, "--transport", "sse", "--json", "-"], None);
    assert!(String::from_utf8_lossy(&off.stderr).contains("sse.enabled"), "{off:?}");
}

#[test]
fn tls_beside_plain() {
    check("tls", &[&TINY[..], &["--batch", "4"]].concat(), 1, &["TLS", "plain"]);
    assert_eq!(rows(&folder_of("tls")), ["T3"]);
}

#[test]
fn a_storm_of_handshakes() {
    check("handshakes", &[&TINY[..], &["--at-once", "4"]].concat(), 0, &["TLS"]);
    let raw = raw(&folder_of("handshakes"));
    for (name, least) in [("handshakes", 16), ("hellos", 1)] {
        let storm = raw.iter().find(|it| it["storm"] == name).expect("a storm");
        assert!(storm["handshakes"].as_u64().is_some_and(|it| it >= least), "{storm}");
        assert_eq!(storm["failed"], 0, "{storm}");
    }
}

#[test]
fn tokens_good_bad_and_none() {
    let out = folder("connects");
    let small = ["connects", "--connections", "20", "--rounds", "2", "--pause", "0"];
    let shown = succeeded(&bench(&small, Some(&out)));
    assert!(shown.contains("| T4 | HS256 token, more than anonymous | ≤ 8 µs |"), "{shown}");
    let raw = raw(&out);
    for (kind, refused) in [("anonymous", 0), ("HS256 token", 0), ("bad token, refused", 20)] {
        let of_kind = |it: &&Value| it["part_of"]["kind"] == kind;
        let counts: Vec<_> =
            raw.iter().filter(of_kind).map(|it| it["figures"]["check"]["refused"].as_f64()).collect();
        // One round more warms up.
        assert_eq!(counts, [Some(f64::from(refused)); 3], "{kind}");
    }
    // A server that has no key refuses everybody who brings a token.
    let lax = Server::start(&["client.insecure=true"]);
    let url = format!("ws://{}/connection/websocket", lax.address);
    let output = bench(&[&small[..], &["--url", &url, "--json", "-"]].concat(), None);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("HS256 token: 20 refused, 0 expected"), "{said}");
}

#[test]
fn rights_without_a_server() {
    let out = folder("permission");
    let shown = succeeded(&bench(&["permission", "--batches", "3"], Some(&out)));
    assert!(shown.contains("| T5 | permission check in a configured namespace | ≤ 100 ns |"), "{shown}");
}

#[test]
fn memory_of_subscriptions_and_of_other_connections() {
    let small = ["--from", "10", "--to", "40", "--settle", "0", "--protocol", "protobuf"];
    let out = folder("subscriptions");
    succeeded(&bench(&[&["subscriptions", "--each", "3,5"], &small[..6]].concat(), Some(&out)));
    assert_eq!(rows(&out), ["T8", "T8"]);
    let each: Vec<_> = raw(&out)
        .iter()
        .filter_map(|it| it.pointer("/figures/workload/subscriptions_each")?.as_f64())
        .collect();
    assert_eq!(each, [1.0, 3.0, 5.0]);
    for (name, arguments, want) in [
        ("idle-tls", &["--tls"][..], &["T1"][..]),
        ("idle-http_stream", &["--transport", "http_stream"], &["T7"]),
        ("idle-several", &["--subscriptions", "4"], &[]),
    ] {
        let out = folder(name);
        succeeded(&bench(&[&["idle", "--window", "0"], &small[..], arguments].concat(), Some(&out)));
        assert_eq!(rows(&out), want, "{name}");
    }
    let mixed = ["idle", "--subscriptions", "4", "--transport", "sse", "--window", "0", "--json", "-"];
    let output = bench(&mixed, None);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--subscriptions is for WebSocket"));
}
