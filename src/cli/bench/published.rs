//! What others publish, or what others' servers did where ours were measured too, beside our figures.
//!
//! Machines, cores and messages per write differ: each line says them, and none is a verdict.

use super::{results, rounds::figure};
use serde_json::Value;

/// Measured before, with the same kind of client, on machines of this class.
const TWO_CPUS: &str = "2 vCPU (cloud), one core for the server";

struct Line {
    work: &'static str,
    system: &'static str,
    theirs: &'static str,
    hardware: &'static str,
    /// Scenario, place in its rows, and what it is multiplied by.
    ours: (&'static str, &'static str, f64),
    /// Place of our messages per write.
    k: Option<&'static str>,
    unit: &'static str,
}

const fn cpu(
    work: &'static str,
    system: &'static str,
    theirs: &'static str,
    ours: (&'static str, &'static str, f64),
    k: Option<&'static str>,
) -> Line {
    Line { work, system, theirs, hardware: TWO_CPUS, ours, k, unit: "µs" }
}

const WINDOW_1: (&str, &str, f64) = ("seed", "/0/cost_ns", 1e-3);
const WINDOW_1_K: Option<&str> = Some("/0/messages_per_write");
const WINDOW_16: (&str, &str, f64) = ("seed", "/2/cost_ns", 1e-3);
const WINDOW_16_K: Option<&str> = Some("/2/messages_per_write");
const PACED: (&str, &str, f64) = ("paced", "/0/cost_ns", 1e-3);
const PACED_K: Option<&str> = Some("/0/messages_per_write");
const FAN_1: &str = "CPU per delivery: 1000 subscribers, 4 publishers, window 1, JSON";
const FAN_16: &str = "the same, window 16";
const FAN_PACED: &str = "the same, 50 publications/s";
const PUBLISH: &str = "CPU per publication without subscribers, pipelined";

const LINES: [Line; 23] = [
    cpu(FAN_1, "Centrifugo 6.9.1", "2.9–3.2 µs, 3 messages/write", WINDOW_1, WINDOW_1_K),
    cpu(FAN_1, "Redis PUBLISH", "0.9–1.1 µs", WINDOW_1, WINDOW_1_K),
    cpu(FAN_1, "nats-server", "5.2–5.6 µs", WINDOW_1, WINDOW_1_K),
    cpu(FAN_16, "Centrifugo 6.9.1", "1.0–1.1 µs, 16 messages/write", WINDOW_16, WINDOW_16_K),
    cpu(FAN_16, "Redis PUBLISH", "0.27–0.31 µs", WINDOW_16, WINDOW_16_K),
    cpu(FAN_16, "nats-server", "0.76–0.88 µs", WINDOW_16, WINDOW_16_K),
    cpu(FAN_PACED, "Centrifugo 6.9.1", "13 µs, 1 message/write", PACED, PACED_K),
    cpu(FAN_PACED, "Redis PUBLISH", "5.3–6.8 µs", PACED, PACED_K),
    cpu(FAN_PACED, "nats-server", "18 µs", PACED, PACED_K),
    cpu(FAN_PACED, "Mosquitto", "11–12 µs", PACED, PACED_K),
    cpu(
        "CPU per publication, reply and delivery: 10 000 clients, own channels",
        "Centrifugo 6.9.1",
        "23.6 µs",
        ("channels", "/0/cost_ns", 1e-3),
        None,
    ),
    cpu(
        "the same by HTTP",
        "Centrifugo 6.9.1",
        "55–66 µs (busy machine)",
        ("channels", "/2/cost_ns", 1e-3),
        None,
    ),
    cpu(PUBLISH, "Centrifugo 6.9.1, JSON", "5.1–5.4 µs", ("publish", "/0/cost_ns", 1e-3), None),
    cpu(PUBLISH, "Redis PUBLISH", "0.60–0.67 µs", ("publish", "/0/cost_ns", 1e-3), None),
    cpu(
        "the same by HTTP, 64 connections",
        "Centrifugo 6.9.1",
        "25 µs",
        ("publish", "/2/cost_ns", 1e-3),
        None,
    ),
    cpu(
        "CPU per connection: connect and subscribe",
        "Centrifugo 6.9.1",
        "130–237 µs (busy machine)",
        ("storm", "/connect/cpu_us_per_connection", 1.0),
        None,
    ),
    cpu(
        "CPU per connection: 10 000 at once, back with 10 recovered (here: 15 000)",
        "Centrifugo 6.9.1",
        "170–203 µs (busy machine)",
        ("storm", "/reconnect/cpu_us_per_reconnect", 1.0),
        None,
    ),
    Line {
        work: "memory of an idle connection with a subscription (theirs RSS, ours private)",
        system: "Centrifugo 6.9.1",
        theirs: "48–50 KB",
        hardware: TWO_CPUS,
        ours: ("idle", "/1/figures/memory/private_bytes_per_connection", 1.0),
        k: None,
        unit: "B",
    },
    cpu(
        "CPU of presence of 1000 clients",
        "Centrifugo 6.9.1",
        "420–840 µs (busy machine)",
        ("presence", "/presence/cpu_us_per_call", 1.0),
        None,
    ),
    cpu(
        "latency p50: 100 subscribers, 1000 publications/s",
        "Centrifugo 6.9.1",
        "400–500 µs (busy machine)",
        ("latency", "/0/latency_us/p50", 1.0),
        None,
    ),
    Line {
        work: "messages/s, publications and deliveries counted: 1000 subscribers, 4 publishers, JSON",
        system: "Centrifugo 2, its write-up",
        theirs: "265 900, messages/write not told",
        hardware: "32 × Xeon Platinum 8168, client on the same host",
        ours: ("seed", "/0/messages_per_s", 1.0),
        k: WINDOW_1_K,
        unit: "/s",
    },
    Line {
        work: "the same, Protobuf",
        system: "Centrifugo 2, its write-up",
        theirs: "681 212, messages/write not told",
        hardware: "32 × Xeon Platinum 8168, client on the same host",
        ours: ("seed", "/1/messages_per_s", 1.0),
        k: Some("/1/messages_per_write"),
        unit: "/s",
    },
    Line {
        work: "deliveries/s of one thread, everything batched (here: 1000 subscribers, K = 64, Protobuf)",
        system: "uWebSockets.js, its author",
        theirs: "38 000 000, 320 messages × 320 sockets",
        hardware: "laptop VM, one thread",
        ours: ("floor", "/7/deliveries_per_s", 1.0),
        k: Some("/7/messages_per_write"),
        unit: "/s",
    },
];

/// The table; `rows` finds the rows of a scenario that has run.
#[must_use]
pub fn table(rows: &dyn Fn(&str) -> Option<Value>) -> String {
    let line = |line: &Line| {
        let (step, path, times) = line.ours;
        let rows = rows(step);
        let at = |path: &str| figure(rows.as_ref()?, path);
        let ours = at(path).map_or("–".to_owned(), |it| shown(it * times, line.unit));
        let k = line.k.map(|it| at(it).map_or(String::new(), |it| format!(", {it:.1} messages/write")));
        vec![
            line.work.to_owned(),
            line.system.to_owned(),
            line.theirs.to_owned(),
            line.hardware.to_owned(),
            ours + &k.unwrap_or_default(),
        ]
    };
    let head = ["work", "who", "theirs", "their hardware", "ours, here"];
    let lines: Vec<Vec<String>> = LINES.iter().map(line).collect();
    format!(
        "Theirs was not measured together with ours: other machines, other days, and where no figure is given the messages per \
         write are unknown. Nothing decides the cost of a delivery as they do.\n\n{}",
        results::table(&head, &lines)
    )
}

fn shown(value: f64, unit: &str) -> String {
    if value >= 1000.0 { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ours_stands_beside_theirs() {
        let seed = json!([{"cost_ns": 1050.0, "messages_per_write": 3.04}]);
        let text = table(&|step| (step == "seed").then(|| seed.clone()));
        let line = text.lines().find(|it| it.contains("Redis PUBLISH | 0.9–1.1 µs")).unwrap();
        assert!(line.ends_with("| 1.05 µs, 3.0 messages/write |"), "{line}");
        let line = text.lines().find(|it| it.contains("Mosquitto")).unwrap();
        assert!(line.ends_with("| – |"), "{line}");
    }
}
