//! A storm: everybody connects and subscribes at once; then all are cut at once, their channels go on, and
//! all come back at once for what they missed.
//!
//! A connection that fails is counted, and the run goes on: how many fail is the point. Nothing is tried
//! twice. Connection 0 publishes; the others are the storm.

mod check;

use super::{
    BenchError, Common,
    bars::Bar,
    calls::median,
    engine::Engine,
    harness,
    report::Report,
    server,
    stamp::{PAYLOAD_MIN, Run},
};
use crate::wire::client::{Command, PublishRequest, Request};
use check::Check;
use serde_json::Value;
use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Publications in flight while everybody is away.
const PUBLISHING: u64 = 64;

/// What the server needs beyond what every scenario needs.
const SETTINGS: &[&str] = &[
    "channel.namespaces=kept",
    "channel.namespaces.kept.history_size=100",
    "channel.namespaces.kept.history_ttl=5m",
    "channel.namespaces.kept.allow_recovery=true",
];

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = server::help("The channels must keep what is missed and allow recovery", SETTINGS))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    connections: usize,
    /// Channels they share.
    #[arg(long, value_name = "C", default_value_t = 100)]
    channels: usize,
    /// What the names of the channels begin with.
    #[arg(long, value_name = "PREFIX", default_value = "kept:storm")]
    channel: String,
    /// Publications to each channel while everybody is away.
    #[arg(long, value_name = "N", default_value_t = 10)]
    missed: u32,
    /// Bytes of each payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Connections on their way in at the same time [default: all]
    #[arg(long, value_name = "N")]
    opening_max: Option<usize>,
    /// How often all are cut and come back.
    #[arg(long, value_name = "R", default_value_t = 3)]
    rounds: u32,
    /// Close in the usual way instead of resetting.
    #[arg(long)]
    close: bool,
    /// Seconds between the cut and the return, in which the server tidies up.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pause: f64,
}

/// # Errors
/// Those of the run.
pub fn run_beside(args: &Args) -> Result<ExitCode, BenchError> {
    let work = |common| run(Args { common, ..args.clone() });
    harness::single("storm", &args.common, false, SETTINGS, &bars, &work)
}

fn bars(run: &Value) -> Vec<Bar> {
    let bar = |path, what, most, unit| Bar::of(run, path, "P8", what, most, unit);
    vec![
        bar("/connect/cpu_us_per_connection", "handshake, connect and subscribe", 40.0, "µs"),
        bar("/reconnect/cpu_us_per_reconnect", "the same and recovery of what was missed", 50.0, "µs"),
        bar("/connect/seconds_to_all", "all at once, until the last is subscribed", 3.0, "s"),
        bar("/reconnect/seconds_to_all", "all back at once, until the last has recovered", 3.0, "s"),
        bar("/check/failed_connections", "connections that failed", 0.0, ""),
    ]
}

fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.connections == 0 || args.channels == 0 || args.opening_max == Some(0) {
        return Err(BenchError::Usage("--connections, --channels and --opening-max must be at least 1"));
    }
    if args.size < PAYLOAD_MIN {
        return Err(BenchError::Usage("--size must be at least 26 bytes: the stamp takes that much"));
    }
    let pause = Duration::try_from_secs_f64(args.pause)
        .map_err(|_| BenchError::Usage("--pause is seconds, from 0 up"))?;
    server::has_room(args.common.server_pid, args.connections + 1)?;
    let mut storm = Storm::new(args)?;
    let first = storm.open()?;
    let mut rounds = Vec::new();
    for round in 0..storm.args.rounds {
        let cut_cpu_ns = storm.cut(pause)?;
        storm.publish(round)?;
        storm.check.expect(round);
        rounds.push(Round { cut_cpu_ns, back: storm.open()? });
    }
    storm.report(&first, &rounds)
}

struct Storm {
    args: Args,
    engine: Engine,
    check: Check,
    run: Run,
}

/// All have come, or failed to.
struct Opening {
    /// When each was subscribed, in nanoseconds from the first attempt, rising.
    ready_ns: Vec<u64>,
    cpu_ns: f64,
    /// Share of the time in which this client had work.
    client_busy: f64,
    failed: usize,
    /// What befell the first that failed.
    example: Option<String>,
}

impl Opening {
    /// Seconds until this share of `all` was in; not a number when fewer were.
    fn seconds_to(&self, share: f64, all: usize) -> f64 {
        let nth = (all as f64 * share).ceil().max(1.0) as usize;
        self.ready_ns.get(nth - 1).map_or(f64::NAN, |at| *at as f64 / 1e9)
    }
}

struct Round {
    cut_cpu_ns: f64,
    back: Opening,
}

impl Storm {
    fn new(args: Args) -> Result<Self, BenchError> {
        let mut engine = args.common.engine()?;
        let mut id = [0; 4];
        getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
        let run = Run::new(u32::from_ne_bytes(id));
        let mut check =
            Check::new(args.common.protocol(), run, args.connections, args.channels, args.missed, args.size);
        engine.open(1, |_| None, &mut check)?;
        engine.opening_max = args.opening_max.unwrap_or(usize::MAX);
        Ok(Self { args, engine, check, run })
    }

    /// The name of channel `number`, of this run alone: what earlier runs left must not be recovered.
    fn channel(&self, number: usize) -> String {
        channel(&self.args.channel, self.run, number)
    }

    /// Opens all at once and waits until each is in or has failed.
    fn open(&mut self) -> Result<Opening, BenchError> {
        let cpu = self.cpu_ns()?;
        let begin = self.engine.now_ns();
        let idle = self.engine.traffic.idle_ns;
        self.check.ready_ns.clear();
        self.engine.forgive = true;
        let (prefix, channels, run) = (self.args.channel.clone(), self.args.channels, self.run);
        let name = |conn: usize| (conn > 0).then(|| channel(&prefix, run, (conn - 1) % channels));
        self.engine.open(self.args.connections + 1, name, &mut self.check)?;
        self.engine.forgive = false;
        let elapsed = (self.engine.now_ns() - begin) as f64;
        let mut ready_ns: Vec<u64> = self.check.ready_ns.iter().map(|at| at.saturating_sub(begin)).collect();
        ready_ns.sort_unstable();
        let opening = Opening {
            ready_ns,
            cpu_ns: self.cpu_ns()? - cpu,
            client_busy: 1.0 - (self.engine.traffic.idle_ns - idle) as f64 / elapsed,
            failed: self.engine.lost.len(),
            example: self.engine.lost.first().map(ToString::to_string),
        };
        if !self.args.common.quiet {
            eprintln!(
                "{} of {} connected in {:.3} s{}",
                opening.ready_ns.len(),
                self.args.connections,
                elapsed / 1e9,
                opening
                    .example
                    .as_ref()
                    .map(|it| format!("; the first that failed: {it}"))
                    .unwrap_or_default()
            );
        }
        Ok(opening)
    }

    /// Not a number when the server's process is unknown.
    fn cpu_ns(&self) -> Result<f64, BenchError> {
        Ok(self.args.common.server_cpu_ns()?.map_or(f64::NAN, |it| it as f64))
    }

    /// Cuts all; returns what that cost the server by the end of the pause.
    fn cut(&mut self, pause: Duration) -> Result<f64, BenchError> {
        let cpu = self.cpu_ns()?;
        self.engine.cut(1, !self.args.close)?;
        self.engine.rest(pause, &mut self.check)?;
        Ok(self.cpu_ns()? - cpu)
    }

    /// Publishes what the others will have missed, and waits for all replies.
    fn publish(&mut self, round: u32) -> Result<(), BenchError> {
        let mut todo = (0..self.args.missed)
            .flat_map(|sequence| (0..self.args.channels).map(move |channel| (channel, sequence)))
            .peekable();
        let (mut asked, before) = (0u64, self.check.replies);
        let (mut progress, mut seen) = (Instant::now(), before);
        while todo.peek().is_some() || self.check.replies - before < asked {
            let room = PUBLISHING - (asked - (self.check.replies - before)).min(PUBLISHING);
            for _ in 0..room {
                let Some((channel, sequence)) = todo.next() else { break };
                let payload = check::payload(self.run, channel, round, sequence, self.args.size);
                let name = self.channel(channel);
                let request = PublishRequest {
                    channel: name.into(),
                    data: Some(&payload),
                    ..PublishRequest::default()
                };
                asked += 1;
                let id = u32::try_from(asked).unwrap_or(u32::MAX).saturating_add(2);
                self.engine.command(&Command { id, request: Request::Publish(request) });
            }
            if room > 0 {
                self.engine.write(0)?;
            }
            self.engine.poll(Duration::from_millis(100), &mut self.check)?;
            if self.check.replies > seen {
                (progress, seen) = (Instant::now(), self.check.replies);
            } else if progress.elapsed() > super::engine::STALL_MAX {
                return Err(BenchError::Stalled { what: "the publishing" });
            }
        }
        Ok(())
    }

    fn report(&self, first: &Opening, rounds: &[Round]) -> Result<ExitCode, BenchError> {
        let args = &self.args;
        let each = |cpu_ns: f64, count: usize| cpu_ns / 1e3 / count as f64;
        let mut report = Report::new("storm", &args.common);
        report.section("workload");
        report.number("connections", args.connections as f64);
        report.number("channels", args.channels as f64);
        report.number("missed", args.missed.into());
        report.number("payload_bytes", args.size as f64);
        report.number("opening_max", args.opening_max.unwrap_or(args.connections) as f64);
        report.number("rounds", args.rounds.into());
        report.section("connect");
        report.number("seconds_to_99_percent", first.seconds_to(0.99, args.connections));
        report.number("seconds_to_all", first.seconds_to(1.0, args.connections));
        report.number("cpu_us_per_connection", each(first.cpu_ns, first.ready_ns.len()));
        report.number("client_busy", first.client_busy);
        if !rounds.is_empty() {
            let middle = |of: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
            report.section("reconnect");
            let seconds = |share: f64| middle(&|it| it.back.seconds_to(share, args.connections));
            report.number("seconds_to_99_percent", seconds(0.99));
            report.number("seconds_to_all", seconds(1.0));
            let cpu = |it: &Round| each(it.back.cpu_ns, it.back.ready_ns.len());
            report.number("cpu_us_per_reconnect", middle(&cpu));
            let extreme = |of: fn(f64, f64) -> f64| rounds.iter().map(cpu).fold(f64::NAN, of);
            report.number("cpu_us_per_reconnect_min", extreme(f64::min));
            report.number("cpu_us_per_reconnect_max", extreme(f64::max));
            report.number("cpu_us_per_cut", middle(&|it| each(it.cut_cpu_ns, args.connections)));
            report.number("client_busy", middle(&|it| it.back.client_busy));
        }
        let openings = || std::iter::once(first).chain(rounds.iter().map(|it| &it.back));
        let failed: usize = openings().map(|it| it.failed).sum();
        report.section("check");
        report.number("failed_connections", failed as f64);
        report.number("recovered", self.check.recovered as f64);
        report.number("wrongly_recovered", self.check.wrong as f64);
        report.finish()?;
        if failed == 0 && self.check.wrong == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let example = openings().find_map(|it| it.example.clone()).or_else(|| self.check.example.clone());
        eprintln!("not everybody came back with what was missed: {}", example.unwrap_or_default());
        Ok(ExitCode::FAILURE)
    }
}

fn channel(prefix: &str, run: Run, number: usize) -> String {
    format!("{prefix}-{}-{number}", run.name())
}
