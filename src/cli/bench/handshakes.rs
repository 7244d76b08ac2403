//! What clients that are connected over TLS feel of a storm of TLS handshakes.
//!
//! Few publications by the clock to some subscribers, over TLS: with nobody else, while another process opens connections
//! with whole handshakes, says connect on them and cuts them as fast as it can, and while such a process only says hello and goes when
//! it is answered, which takes the server as long and itself next to nothing. The storm shares the client's CPU, so it runs
//! there as what only runs when nobody else wants to (`SCHED_IDLE`), and the measuring client sleeps instead of asking
//! again and again. Rounds are not rejected, the spread is shown.

mod crowd;
mod hellos;

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

/// Most microseconds of the 99th percentile during a storm.
const P99_MAX_US: f64 = 2000.0;

#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("subscribers", |it| it.default_value("100")), mut_arg("rounds", |it| it.default_value("4")))]
#[command(mut_arg("duration", |it| it.default_value("10")), mut_arg("warmup", |it| it.default_value("1")))]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Publications per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0)]
    rate: f64,
    /// Connections of the storm that are on their way at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
}

/// What is going on beside the publications.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Alone,
    Handshakes,
    Hellos,
}

const PARTS: [Part; 3] = [Part::Alone, Part::Handshakes, Part::Hellos];
const STORMS: [Part; 2] = [Part::Handshakes, Part::Hellos];

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Handshakes => "handshakes",
            Self::Hellos => "hellos",
        }
    }
}

/// What all rounds of one part brought.
#[derive(Default)]
struct Seens {
    runs: Vec<Value>,
    storms: Vec<Seen>,
}

impl Seens {
    fn middle(&self, name: &str) -> Option<f64> {
        median(values(&self.runs, name))
    }

    fn per_second(&self) -> Option<f64> {
        median(self.storms.iter().map(Seen::per_second).collect())
    }

    fn failed(&self) -> u64 {
        self.storms.iter().map(|it| it.failed).sum()
    }

    fn cpu_share(&self) -> Option<f64> {
        median(self.runs.iter().filter_map(|it| figure(it, "/server/cpu_share")).collect())
    }
}

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
    let mut seens: [Seens; 3] = Default::default();
    for round in 1..=shape.rounds.rounds {
        for (part, seens) in PARTS.iter().zip(&mut seens) {
            let storm = args.storm(&harness, server, *part)?;
            let run = args.measure(&mut harness, server, round, *part);
            // What it has to say may be why the run failed.
            let seen = storm.map(Crowd::end).transpose();
            seens.runs.push(run?);
            let Some(seen) = seen? else { continue };
            harness.note(
                &json!({"storm": part.name(), "round": round, "handshakes": seen.done, "failed": seen.failed,
                "seconds": seen.seconds}),
            )?;
            if seen.done == 0 {
                return Err(BenchError::NoStorm);
            }
            harness.say(&format!("round {round:>2}: {:.0} {}/s", seen.per_second(), part.name()));
            seens.storms.push(seen);
        }
    }
    conclude(args, &mut harness, &seens)
}

impl Args {
    fn storm(&self, harness: &Harness, server: usize, part: Part) -> Result<Option<Crowd>, BenchError> {
        if part == Part::Alone {
            return Ok(None);
        }
        let core = harness.common().client_core;
        Crowd::start(&harness.url(server), core, self.at_once, part == Part::Hellos).map(Some)
    }

    fn measure(
        &self,
        harness: &mut Harness,
        server: usize,
        round: u16,
        part: Part,
    ) -> Result<Value, BenchError> {
        let publishing = Publishing { rate: Some(self.rate), ..self.shape.publishing() };
        let subscribers = self.shape.subscribers;
        let work = move |common: Common| {
            let common = Common { spin: false, ..common };
            fanout::run(fanout::Args::new(common, subscribers, publishing.clone()))
        };
        let tag = json!({"round": round, "part": part.name()});
        let run = harness.run(server, Some(self.shape.common.protocol), &tag, &work)?;
        let at = |name: &str| figure(&run, &format!("/latency_us/{name}")).unwrap_or(f64::NAN);
        harness.say(&format!(
            "round {round:>2}/{} {:<10} p50 {:>8.1} µs  p99 {:>8.1} µs  p99.9 {:>8.1} µs",
            self.shape.rounds.rounds,
            part.name(),
            at("p50"),
            at("p99"),
            at("p99.9")
        ));
        Ok(run)
    }
}

fn conclude(args: &Args, harness: &mut Harness, seens: &[Seens; 3]) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let names = PARTS.map(Part::name);
    let summary = format!(
        "# A storm of TLS handshakes beside connected clients\n\n{}. {} subscribers over TLS, {} publications/s by the clock, \
         {} bytes, {}; {} rounds of {} s each, alone and with each storm in turn. A storm is a process of its own with {} \
         connections on their way at once: with a whole TLS 1.3 handshake, WebSocket and connect, then cut (handshakes), or gone as \
         soon as the server, all its work done, has answered the first message (hellos). It has the client's CPU whenever the \
         measuring client does not want it (SCHED_IDLE); that client sleeps between publications.\n\n\
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
        results::table(&[&["percentile"], &names[..]].concat(), &lines(seens))
    );
    let rows: Value = PARTS
        .iter()
        .zip(seens)
        .map(|(part, seen)| {
            json!({"part": part.name(), "p50_us": seen.middle("p50"), "p99_us": seen.middle("p99"),
                "p99.9_us": seen.middle("p99.9"), "server_cpu_share": seen.cpu_share(), "per_s": seen.per_second()})
        })
        .collect();
    let runs: Vec<Vec<Value>> = seens.iter().map(|it| it.runs.clone()).collect();
    let plot = curves("Latency over TLS", &names, &runs);
    harness.finish(&summary, Some(plot), &rows, &bars(seens))?;
    Ok(ExitCode::SUCCESS)
}

fn lines(seens: &[Seens; 3]) -> Vec<Vec<String>> {
    let line = |name: &str, cell: &dyn Fn(&Seens) -> String| {
        std::iter::once(name.to_owned()).chain(seens.iter().map(cell)).collect::<Vec<_>>()
    };
    let show =
        |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |it| format!("{it:.digits$}"));
    let positions = QUANTILES.iter().map(|it| it.0).chain(["max"]);
    let mut lines: Vec<_> = positions.map(|name| line(name, &|it| spread(&it.runs, name))).collect();
    lines.push(line("server CPUs busy", &|it| show(it.cpu_share(), 2)));
    lines.push(line("of the storm per second", &|it| show(it.per_second(), 0)));
    lines
}

fn bars(seens: &[Seens; 3]) -> Vec<Bar> {
    let of = |part: Part| &seens[part as usize];
    let mut bars = Vec::new();
    for part in STORMS {
        let (seen, what) = (of(part), format!("during a storm of {}", part.name()));
        bars.push(Bar::at_most("T2", format!("p99 {what}"), seen.middle("p99"), P99_MAX_US, "µs"));
        bars.push(Bar::told("T2", format!("p50 {what}"), seen.middle("p50"), "µs"));
        bars.push(Bar::told("T2", format!("p99.9 {what}"), seen.middle("p99.9"), "µs"));
        bars.push(Bar::told("T2", format!("{} per second", part.name()), seen.per_second(), ""));
        let what = format!("{} that failed", part.name());
        bars.push(Bar::at_most("T2", what, Some(seen.failed() as f64), 0.0, ""));
    }
    for name in ["p50", "p99", "p99.9"] {
        bars.push(Bar::told("T2", format!("{name} without a storm"), of(Part::Alone).middle(name), "µs"));
    }
    bars
}
