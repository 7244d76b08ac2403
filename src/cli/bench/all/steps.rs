//! What is run, in order.

/// A run: what it and its folder are called, its scenario, its arguments, and those that make it tiny.
pub struct Step {
    pub name: &'static str,
    pub scenario: &'static str,
    pub arguments: &'static [&'static str],
    pub quick: &'static [&'static str],
}

/// A run that is called like its scenario.
const fn step(
    name: &'static str,
    arguments: &'static [&'static str],
    quick: &'static [&'static str],
) -> Step {
    Step { name, scenario: name, arguments, quick }
}

/// Fan-outs.
const TINY: &[&str] = &["--subscribers", "20", "--duration", "0.1", "--warmup", "0.02", "--rounds", "1"];
const TINY_CHANNELS: &[&str] = &["--clients", "20", "--duration", "0.1", "--warmup", "0.02", "--rounds", "1"];
const TINY_MEMORY: &[&str] = &["--from", "10", "--to", "40", "--settle", "0"];
#[rustfmt::skip]
const TINY_IDLE: &[&str] = &[
    "--from", "10", "--to", "40", "--settle", "0", "--window", "1", "--before-window", "0", "--hold", "0",
    "--hold-max", "50",
];
#[rustfmt::skip]
const TINY_COMPRESSED: &[&str] = &[
    "--subscribers", "20", "--duration", "0.1", "--warmup", "0.02", "--rounds", "1", "--memory", "10,40",
];
const TINY_STORM: &[&str] = &["--connections", "60", "--channels", "7", "--rounds", "1", "--pause", "0"];

pub const STEPS: [Step; 20] = [
    step("floor", &[], TINY),
    step("seed", &[], TINY),
    step("paced", &[], TINY),
    step("channels", &[], TINY_CHANNELS),
    step("cores", &[], TINY),
    step("latency", &[], TINY),
    step("idle", &["--all", "--protocol", "protobuf"], TINY_IDLE),
    step("storm", &[], TINY_STORM),
    step("publish", &["--all"], &["--duration", "0.1", "--warmup", "0", "--rounds", "1"]),
    step("history", &[], &["--duration", "0.1", "--rounds", "1"]),
    step("compressed", &[], TINY_COMPRESSED),
    step("presence", &[], &["--clients", "30", "--duration", "0.1", "--rounds", "1"]),
    Step {
        name: "idle-tls",
        scenario: "idle",
        arguments: &["--tls", "--protocol", "protobuf", "--window", "0"],
        quick: TINY_MEMORY,
    },
    step("handshakes", &[], TINY),
    step("tls", &[], TINY),
    step("connects", &[], &["--connections", "20", "--rounds", "1", "--pause", "0"]),
    step("permission", &[], &["--batches", "10"]),
    step("transports", &[], TINY),
    Step {
        name: "idle-http_stream",
        scenario: "idle",
        arguments: &["--transport", "http_stream", "--protocol", "protobuf", "--window", "0"],
        quick: TINY_MEMORY,
    },
    step(
        "subscriptions",
        &["--protocol", "protobuf"],
        &["--from", "10", "--to", "40", "--settle", "0", "--each", "3"],
    ),
];

/// What `--only` takes.
pub const NAMES: &str = "--only takes floor, seed, paced, channels, cores, latency, idle, storm, publish, history, \
                         compressed, presence, idle-tls, handshakes, tls, connects, permission, transports, \
                         idle-http_stream, subscriptions";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_told() {
        let names = STEPS.map(|it| it.name).join(", ");
        assert_eq!(NAMES, format!("--only takes {names}"));
    }
}
