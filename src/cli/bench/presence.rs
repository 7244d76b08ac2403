//! Who is there: presence and presence statistics of a channel with many clients, asked by one connection.

use super::{
    BenchError, Common,
    bars::Bar,
    calls::{self, Kind, Pace},
    harness,
    report::Report,
    server,
};
use crate::wire::client::{Request, ServerReply};
use serde_json::Value;
use std::process::ExitCode;

/// What the server needs beyond what every scenario needs.
/// A window of answers about 1000 clients is above the usual limit of what waits for one client.
const SETTINGS: &[&str] = &[
    "channel.namespaces=present",
    "channel.namespaces.present.presence=true",
    "client.queue_max_size=16777216",
];

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = server::help("The channel must keep presence", SETTINGS))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Clients in the channel.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    clients: usize,
    #[arg(long, default_value = "present:bench")]
    channel: String,
    #[command(flatten)]
    pace: Pace,
}

/// # Errors
/// Those of the run.
pub fn run_beside(args: &Args) -> Result<ExitCode, BenchError> {
    let work = |common| run(Args { common, ..args.clone() });
    harness::single("presence", &args.common, false, SETTINGS, &bars, &work)
}

fn bars(run: &Value) -> Vec<Bar> {
    vec![
        Bar::of(run, "/presence/cpu_us_per_call", "P12", "presence of 1000 clients", 80.0, "µs"),
        Bar::of(run, "/presence_stats/cpu_us_per_call", "P12", "presence statistics, pipelined", 3.0, "µs"),
    ]
}

fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.clients == 0 {
        return Err(BenchError::Usage("--clients must be at least 1"));
    }
    args.pace.turn()?;
    server::has_room(args.common.server_pid, args.clients + 1)?;
    let mut engine = args.common.engine()?;
    let mut quiet = super::engine::Quiet(args.common.protocol());
    let channel = |conn: usize| (conn < args.clients).then(|| args.channel.clone());
    engine.open(args.clients + 1, channel, &mut quiet)?;
    let kinds = [presence(&args), stats(&args)];
    let figures = calls::measure(&mut engine, args.clients, &args.common, &args.pace, &kinds)?;
    let mut report = Report::new("presence", &args.common);
    report.section("workload");
    report.number("clients", args.clients as f64);
    report.number("window", args.pace.window as f64);
    report.number("rounds", args.pace.rounds.into());
    for (kind, figures) in kinds.iter().zip(&figures) {
        report.section(kind.name);
        figures.report(&mut report);
    }
    report.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn presence(args: &Args) -> Kind<'_> {
    let check = |reply: &ServerReply<'_>| match reply {
        ServerReply::Presence(clients) if clients.len() == args.clients => Ok(()),
        ServerReply::Presence(clients) => Err(format!("{} clients, not {}", clients.len(), args.clients)),
        _ => Err("not presence".into()),
    };
    let requests = vec![Request::Presence { channel: args.channel.as_str().into() }];
    Kind { name: "presence", requests, check: Box::new(check) }
}

fn stats(args: &Args) -> Kind<'_> {
    let check = |reply: &ServerReply<'_>| match reply {
        ServerReply::PresenceStats { clients, .. } if usize::try_from(*clients) == Ok(args.clients) => Ok(()),
        ServerReply::PresenceStats { clients, .. } => Err(format!("{clients} clients, not {}", args.clients)),
        _ => Err("not presence statistics".into()),
    };
    let requests = vec![Request::PresenceStats { channel: args.channel.as_str().into() }];
    Kind { name: "presence_stats", requests, check: Box::new(check) }
}
