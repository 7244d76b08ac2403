//! What clients that are connected over TLS feel of a storm of TLS handshakes.
//!
//! Few publications by the clock to some subscribers, over TLS: first with nobody else, then while another process opens
//! connections with whole handshakes, says connect on them and cuts them, as fast as it can. Both share the client's
//! CPU, so the storm runs there as what only runs when nobody else wants to (`SCHED_IDLE`), and the measuring client
//! sleeps instead of asking again and again. Rounds are not rejected, the spread is shown.

mod crowd;

pub use crowd::{Args as CrowdArgs, run as run_crowd};

use super::{
    BenchError, Common,
    bars::Bar,
    fanout::{self, Publishing},
    harness::Harness,
    latency::{curves, spread, values},
    presets::Shape,
    report::QUANTILES,
    results,
    rounds::{figure, median},
};
use crowd::{Crowd, Seen};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Most microseconds of the 99th percentile during the storm.
const P99_MAX_US: f64 = 2000.0;

#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("subscribers", |it| it.default_value("100")), mut_arg("rounds", |it| it.default_value("5")))]
#[command(mut_arg("duration", |it| it.default_value("10")), mut_arg("warmup", |it| it.default_value("1")))]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Publications per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0)]
    rate: f64,
    /// Handshakes of the storm that are under way at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
}

const NAMES: [&str; 2] = ["alone", "with the storm"];

/// # Errors
/// Those of the runs and of the storm.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    if !shape.common.url.is_empty() || shape.common.spin {
        return Err(BenchError::Usage(
            "handshakes starts its server itself, and its client sleeps: leave --url and --spin out",
        ));
    }
    let mut harness = Harness::empty("handshakes", &shape.common, false)?;
    let cores = harness.common().server_cores.clone();
    let server = harness.add_secure("TLS", &cores, &[])?;
    harness.setup()?;
    let mut runs: [Vec<Value>; 2] = Default::default();
    let mut storms = Vec::new();
    for round in 1..=shape.rounds.rounds {
        let alone = args.measure(&mut harness, server, round, NAMES[0])?;
        let mut crowd = Crowd::start(&harness.url(server), harness.common().client_core, args.at_once)?;
        let stormy = args.measure(&mut harness, server, round, NAMES[1]);
        // What it has to say may be why the run failed.
        let seen = crowd.end();
        let (stormy, seen) = (stormy?, seen?);
        harness.note(
            &json!({"storm": round, "handshakes": seen.done, "failed": seen.failed, "seconds": seen.seconds}),
        )?;
        if seen.done == 0 {
            return Err(BenchError::NoStorm);
        }
        harness.say(&format!("round {round:>2}: {:.0} handshakes/s", seen.per_second()));
        storms.push(seen);
        runs[0].push(alone);
        runs[1].push(stormy);
    }
    conclude(args, &mut harness, &runs, &storms)
}

impl Args {
    fn measure(
        &self,
        harness: &mut Harness,
        server: usize,
        round: u16,
        name: &str,
    ) -> Result<Value, BenchError> {
        let publishing = Publishing { rate: Some(self.rate), ..self.shape.publishing() };
        let subscribers = self.shape.subscribers;
        let work = move |common: Common| {
            fanout::run(fanout::Args::new(Common { spin: false, ..common }, subscribers, publishing.clone()))
        };
        let tag = json!({"round": round, "part": name});
        let run = harness.run(server, Some(self.shape.common.protocol), &tag, &work)?;
        let at = |name: &str| figure(&run, &format!("/latency_us/{name}")).unwrap_or(f64::NAN);
        harness.say(&format!(
            "round {round:>2}/{} {name:<14} p50 {:>8.1} µs  p99 {:>8.1} µs  p99.9 {:>8.1} µs",
            self.shape.rounds.rounds,
            at("p50"),
            at("p99"),
            at("p99.9")
        ));
        Ok(run)
    }
}

fn conclude(
    args: &Args,
    harness: &mut Harness,
    runs: &[Vec<Value>; 2],
    storms: &[Seen],
) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let per_second = median(storms.iter().map(|it| it.per_second()).collect());
    let failed: u64 = storms.iter().map(|it| it.failed).sum();
    let middle = |part: usize, name: &str| median(values(&runs[part], name));
    let share =
        |part: usize| median(runs[part].iter().filter_map(|it| figure(it, "/server/cpu_share")).collect());
    let positions = QUANTILES.iter().map(|it| it.0).chain(["max"]);
    let mut lines: Vec<Vec<String>> =
        positions.map(|name| vec![name.to_owned(), spread(&runs[0], name), spread(&runs[1], name)]).collect();
    let shown = |part| share(part).map_or("–".to_owned(), |it| format!("{it:.2}"));
    lines.push(vec!["server CPUs busy".to_owned(), shown(0), shown(1)]);
    let rate = per_second.map_or("–".to_owned(), |it| format!("{it:.0}"));
    lines.push(vec!["handshakes/s".to_owned(), "–".to_owned(), rate]);
    let summary = format!(
        "# A storm of TLS handshakes beside connected clients\n\n{}. {} subscribers over TLS, {} publications/s by the clock, \
         {} bytes, {}; {} rounds of {} s each, alone and with the storm in turn. The storm is a process of its own with {} \
         connections on their way at once, each with a whole TLS 1.3 handshake, WebSocket and connect, and then cut. It has \
         the client's CPU whenever the measuring client does not want it (SCHED_IDLE); that client sleeps between publications.\n\n\
         {}\nMicroseconds from the due time of a publication to the read of its delivery, the client's own decryption of \
         the deliveries before it included; median of the rounds (lowest–highest).\n",
        harness.hardware(),
        shape.subscribers,
        args.rate,
        shape.size,
        shape.common.protocol.name(),
        shape.rounds.rounds,
        shape.duration,
        args.at_once,
        results::table(&["", NAMES[0], NAMES[1]], &lines)
    );
    let told = |what: &str, figure| Bar::told("T2", what, figure, "µs");
    let bars = [
        Bar::at_most("T2", "p99 of clients during a storm of handshakes", middle(1, "p99"), P99_MAX_US, "µs"),
        told("p99 without it", middle(0, "p99")),
        told("p50 during the storm", middle(1, "p50")),
        told("p50 without it", middle(0, "p50")),
        told("p99.9 during the storm", middle(1, "p99.9")),
        told("p99.9 without it", middle(0, "p99.9")),
        Bar::told("T2", "handshakes per second in the storm", per_second, ""),
        Bar::at_most("T2", "connections of the storm that failed", Some(failed as f64), 0.0, ""),
    ];
    let rows: Value = (0..2)
        .map(|part| {
            let latency = |name: &str| json!(middle(part, name));
            json!({"part": NAMES[part], "p50_us": latency("p50"), "p99_us": latency("p99"), "p99.9_us": latency("p99.9"),
                "server_cpu_share": share(part)})
        })
        .collect();
    let plot = curves("Latency over TLS", &NAMES, runs);
    harness.finish(&summary, Some(plot), &rows, &bars)?;
    Ok(ExitCode::SUCCESS)
}
