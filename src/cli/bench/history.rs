//! What history costs: each publication, each recovery, each look at it.
//!
//! Publishing to a channel with history and to one without takes turns. Recovery is a subscribe that missed
//! everything, followed by an unsubscribe, beside the same pair that missed nothing and the same pair that
//! does not ask for recovery: the differences are the recovery alone.

use super::{
    BenchError, Common,
    bars::Bar,
    calls::{self, Figures, Kind, Pace},
    engine::{Engine, Quiet},
    harness,
    report::Report,
    rounds::figure,
    server,
};
use crate::wire::client::{
    HistoryRequest, PublishRequest, Request, ServerReply, SubscribeRequest, Subscribed,
};
use serde_json::Value;
use std::{cell::RefCell, process::ExitCode};

/// What a byte more in a write costs on loopback, copies on both ends included: the slope of bare writes of 150 to 10 000
/// bytes.
const NS_PER_BYTE: f64 = 0.2;

/// What the server needs beyond what every scenario needs.
const SETTINGS: &[&str] = &[
    "channel.namespaces=plain kept",
    "channel.namespaces.kept.history_size=100",
    "channel.namespaces.kept.history_ttl=5m",
    "channel.namespaces.kept.allow_recovery=true",
];

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = server::help("The channels must differ in their history alone, and allow recovery", SETTINGS))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Channel with history.
    #[arg(long, value_name = "CHANNEL", default_value = "kept:bench")]
    kept: String,
    /// Channel without.
    #[arg(long, value_name = "CHANNEL", default_value = "plain:bench")]
    plain: String,
    /// Publications to recover; the channel's history must hold that many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    recover: u64,
    /// Bytes of each payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Publications in flight.
    #[arg(long, value_name = "W", default_value_t = 256)]
    publish_window: usize,
    #[command(flatten)]
    pace: Pace,
}

/// Where the channel with history stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Top {
    epoch: String,
    offset: u64,
}

/// # Errors
/// Those of the run.
pub fn run_beside(args: &Args) -> Result<ExitCode, BenchError> {
    let work = |common| run(Args { common, ..args.clone() });
    harness::single("history", &args.common, false, SETTINGS, &bars, &work)
}

fn bars(run: &Value) -> Vec<Bar> {
    let count = figure(run, "/workload/publications_recovered").unwrap_or_default();
    let bytes = figure(run, "/cost/bytes_per_recovered_publication").unwrap_or_default() * count;
    let most_us = 2.0 + count * 20.0 / 1e3 + bytes * NS_PER_BYTE / 1e3;
    let recovery =
        format!("recovery of {count}: 2 µs, 20 ns for each, {NS_PER_BYTE} ns for each of {bytes:.0} bytes");
    vec![
        Bar::of(
            run,
            "/cost/history_ns_per_publication",
            "P10",
            "history of 100: a publication more",
            150.0,
            "ns",
        ),
        Bar::of(run, "/cost/recovery_us", "P10", &recovery, (most_us * 10.0).round() / 10.0, "µs"),
    ]
}

fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.recover == 0 || args.size < 2 || args.publish_window == 0 {
        return Err(BenchError::Usage(
            "--recover and --publish-window must be at least 1, --size at least 2",
        ));
    }
    args.pace.turn()?;
    let mut engine = args.common.engine()?;
    engine.open(1, |_| None, &mut Quiet(args.common.protocol()))?;
    let payload = [b"\"", vec![b'x'; args.size - 2].as_slice(), b"\""].concat();
    let publishing = [
        publish("publish_without_history", &args.plain, &payload),
        publish("publish_with_history", &args.kept, &payload),
    ];
    let pace = Pace { window: args.publish_window, ..args.pace.clone() };
    let published = calls::measure(&mut engine, 0, &args.common, &pace, &publishing)?;
    fill(&mut engine, &args, &publishing[1])?;
    let top = top(&mut engine, &args)?;
    let reading = [
        resubscribe("subscribe_unsubscribe", &args.kept, None, &payload),
        resubscribe("recover_nothing", &args.kept, Some((&top, 0)), &payload),
        resubscribe("recover_all", &args.kept, Some((&top, args.recover)), &payload),
        history(&args),
    ];
    let read = calls::measure(&mut engine, 0, &args.common, &args.pace, &reading)?;
    report(&args, publishing.iter().chain(&reading), &[published, read].concat())?;
    Ok(ExitCode::SUCCESS)
}

/// However short the publishing was, there is enough to recover.
fn fill(engine: &mut Engine, args: &Args, publishing: &Kind<'_>) -> Result<(), BenchError> {
    let window = usize::try_from(args.recover).unwrap_or(usize::MAX).min(1000);
    let mut left = args.recover;
    while left > 0 {
        let figures = calls::once(engine, 0, &args.common, publishing, window)?;
        left = left.saturating_sub(figures.calls);
    }
    Ok(())
}

fn top(engine: &mut Engine, args: &Args) -> Result<Top, BenchError> {
    let top = RefCell::new(Top::default());
    let check = |reply: &ServerReply<'_>| match reply {
        ServerReply::History { offset, epoch, .. } if *offset >= args.recover => {
            *top.borrow_mut() = Top { epoch: epoch.to_string(), offset: *offset };
            Ok(())
        }
        _ => Err("the channel has no position".into()),
    };
    let request = HistoryRequest { channel: args.kept.as_str().into(), ..Default::default() };
    let requests = vec![Request::History(request)];
    calls::once(engine, 0, &args.common, &Kind { name: "position", requests, check: Box::new(check) }, 1)?;
    Ok(top.into_inner())
}

fn publish<'a>(name: &'static str, channel: &'a str, payload: &'a [u8]) -> Kind<'a> {
    let check = |reply: &ServerReply<'_>| match reply {
        ServerReply::Publish => Ok(()),
        _ => Err("not the answer to a publication".into()),
    };
    let request =
        PublishRequest { channel: channel.into(), data: Some(payload), ..PublishRequest::default() };
    Kind { name, requests: vec![Request::Publish(request)], check: Box::new(check) }
}

/// Subscribe and unsubscribe; with a position, after having missed the last so many publications.
fn resubscribe<'a>(
    name: &'static str,
    channel: &'a str,
    missed: Option<(&'a Top, u64)>,
    payload: &'a [u8],
) -> Kind<'a> {
    let mut request = SubscribeRequest { channel: channel.into(), recoverable: true, ..Default::default() };
    if let Some((top, missed)) = missed {
        request.recover = true;
        request.epoch = top.epoch.as_str().into();
        request.offset = top.offset - missed;
    }
    let check = move |reply: &ServerReply<'_>| match reply {
        ServerReply::Subscribe(subscribed) => recovered(subscribed, missed, payload),
        ServerReply::Unsubscribe => Ok(()),
        _ => Err("not the answer to a subscribe".into()),
    };
    let requests =
        vec![Request::Subscribe(Box::new(request)), Request::Unsubscribe { channel: channel.into() }];
    Kind { name, requests, check: Box::new(check) }
}

/// Whether exactly what was missed has come, in order.
fn recovered(it: &Subscribed<'_>, missed: Option<(&Top, u64)>, payload: &[u8]) -> Result<(), String> {
    if !it.recoverable {
        return Err("the channel does not allow recovery".into());
    }
    let Some((top, missed)) = missed else { return Ok(()) };
    if !it.recovered {
        return Err(format!("{missed} publications were not recovered: is the history shorter?"));
    }
    let offsets = it.publications.iter().map(|publication| publication.offset);
    if !offsets.eq(top.offset - missed + 1..=top.offset) {
        return Err(format!("other publications than those missed: {}", it.publications.len()));
    }
    match it.publications.iter().find(|publication| publication.data != payload) {
        None => Ok(()),
        Some(other) => Err(format!("another payload at offset {}", other.offset)),
    }
}

fn history(args: &Args) -> Kind<'_> {
    let check = |reply: &ServerReply<'_>| match reply {
        ServerReply::History { publications, .. }
            if u64::try_from(publications.len()) == Ok(args.recover) =>
        {
            Ok(())
        }
        ServerReply::History { publications, .. } => {
            Err(format!("{} publications, not {}", publications.len(), args.recover))
        }
        _ => Err("not history".into()),
    };
    let limit = i32::try_from(args.recover).unwrap_or(i32::MAX);
    let request = HistoryRequest { channel: args.kept.as_str().into(), limit, ..Default::default() };
    Kind { name: "history", requests: vec![Request::History(request)], check: Box::new(check) }
}

fn report<'a>(
    args: &Args,
    kinds: impl Iterator<Item = &'a Kind<'a>>,
    figures: &[Figures],
) -> Result<(), BenchError> {
    let mut report = Report::new("history", &args.common);
    report.section("workload");
    report.number("payload_bytes", args.size as f64);
    report.number("publications_recovered", args.recover as f64);
    report.number("window", args.pace.window as f64);
    report.number("publish_window", args.publish_window as f64);
    report.number("rounds", args.pace.rounds.into());
    for (kind, figures) in kinds.zip(figures) {
        report.section(kind.name);
        figures.report(&mut report);
    }
    if let [plain, kept, subscribe, nothing, all, _] = figures {
        // Turns that followed each other are compared, then the middle of the differences is taken.
        let rise = |from: &Figures, to: &Figures| {
            let pairs = from.cpu_ns_per_call.iter().zip(&to.cpu_ns_per_call);
            calls::median(&pairs.map(|(from, to)| to - from).collect::<Vec<_>>())
        };
        report.section("cost");
        report.number("history_ns_per_publication", rise(plain, kept));
        report.number("recovery_us", rise(subscribe, all) / 1e3);
        report.number("recovery_of_nothing_us", rise(subscribe, nothing) / 1e3);
        report.number("ns_per_recovered_publication", rise(nothing, all) / args.recover as f64);
        let bytes = |it: &Figures| it.reply_bytes as f64 / it.calls as f64;
        report.number("bytes_per_recovered_publication", (bytes(all) - bytes(nothing)) / args.recover as f64);
    }
    report.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::Received;

    #[test]
    fn recovered_table() {
        #[track_caller]
        fn check(missed: Option<u64>, flags: (bool, bool), offsets: &[u64], want: Result<(), &str>) {
            let top = Top { epoch: "e".into(), offset: 12 };
            let publications =
                offsets.iter().map(|&offset| Received { data: b"x", offset, ..Default::default() }).collect();
            let (recoverable, recovered) = flags;
            let it = Subscribed { recoverable, recovered, publications, ..Default::default() };
            let got = super::recovered(&it, missed.map(|missed| (&top, missed)), b"x");
            match want {
                Ok(()) => assert_eq!(got, Ok(())),
                Err(want) => assert!(got.as_ref().is_err_and(|it| it.contains(want)), "{got:?}"),
            }
        }
        check(None, (true, false), &[], Ok(()));
        check(None, (false, false), &[], Err("does not allow"));
        check(Some(0), (true, true), &[], Ok(()));
        check(Some(0), (true, true), &[12], Err("other publications"));
        check(Some(2), (true, true), &[11, 12], Ok(()));
        check(Some(2), (true, true), &[12, 11], Err("other publications"));
        check(Some(2), (true, true), &[12], Err("other publications"));
        check(Some(2), (true, false), &[11, 12], Err("not recovered"));
    }
}
