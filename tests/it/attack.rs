//! The attack of `examples/attack`, a short one for each kind of server.

use crate::server::{Server, VARIANTS};

#[path = "../../examples/attack/storm/mod.rs"]
mod storm;

const FRAMES: u64 = 10_000;

#[test]
fn random_and_mutated_frames() {
    for (seed, variant) in (1..).zip(VARIANTS) {
        let settings: Vec<&str> = variant.into_iter().chain(storm::SETTINGS).collect();
        let server = Server::dev(&settings);
        let target = storm::Target { address: server.address, pid: server.pid() };
        let plan = storm::Plan { frames: FRAMES, seed, connections: 16, first: 0 };
        let report = storm::run(&target, &plan).expect("an attack");
        assert!(report.errors.is_empty(), "{variant:?}\n{report}");
        // It was one.
        let ends = [1002, 1007, 1009, 3500, 3501];
        assert!(ends.iter().all(|code| report.tally.ends.contains_key(code)), "{report}");
        let statuses = [200, 400, 404];
        assert!(statuses.iter().all(|status| report.tally.statuses.contains_key(status)), "{report}");
        assert!(report.tally.frames >= FRAMES && report.tally.messages > FRAMES / 10, "{report}");
        assert!(report.beats.count > 10, "{report}");
        let metrics = crate::http::get(&server, "/metrics").1;
        let sum = |name: &str| -> u64 {
            let value = |line: &str| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<u64>().ok();
            metrics.lines().filter_map(value).sum()
        };
        assert!(sum("corecast_inflated_messages_total") > FRAMES / 50, "{metrics}");
        assert!(sum("corecast_deflated_messages_total") > FRAMES / 50, "{metrics}");
    }
}
