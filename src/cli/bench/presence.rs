//! Who is there: presence and presence statistics of a channel with many clients, asked by one connection.

use super::{
    BenchError, Common,
    calls::{self, Kind, Pace},
    report::Report,
    server,
};
use crate::wire::client::{Request, ServerReply};
use std::process::ExitCode;

/// What the server needs beyond what every scenario needs.
pub const SETTINGS: &[&str] = &["channel.namespaces=present", "channel.namespaces.present.presence=true"];

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = server::help("The channel must keep presence", SETTINGS))]
pub struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Clients in the channel.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    clients: usize,
    #[arg(long, default_value = "present:bench")]
    channel: String,
    #[command(flatten)]
    pace: Pace,
}

pub fn run(args: Args) -> Result<ExitCode, BenchError> {
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
