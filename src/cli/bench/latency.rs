//! From publishing to delivery, beside a bare relay that reads the same and writes it to as many sockets.
//!
//! A delivery's time counts from when its publication was due, not from when it was sent: a server that holds up
//! the publisher does not hide it. Rounds are not rejected, the spread is shown: tails are noise and signal both.

use super::{
    BenchError,
    bars::Bar,
    fanout::Publishing,
    harness::Harness,
    plot::Curves,
    presets::{Shape, fanout_work},
    report::QUANTILES,
    results,
    rounds::{figure, median},
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// How many times the relay's percentile ours may be.
const GOALS: [(&str, f64); 2] = [("p50", 1.3), ("p99.9", 1.5)];

#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("subscribers", |it| it.default_value("100")), mut_arg("rounds", |it| it.default_value("20")))]
#[command(mut_arg("duration", |it| it.default_value("10")), mut_arg("warmup", |it| it.default_value("0.5")))]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Publications per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1000.0)]
    rate: f64,
}

/// # Errors
/// Those of the runs.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let mut harness = Harness::new("latency", &shape.common, true, &[])?;
    let relays = if shape.rounds.no_floor { Vec::new() } else { harness.add_floors("relay", true)? };
    harness.setup()?;
    let publishing = Publishing {
        rate: Some(args.rate),
        size: shape.size,
        duration: shape.duration,
        warmup: shape.warmup,
        ..Publishing::default()
    };
    let work = fanout_work(shape.subscribers, publishing);
    let servers: Vec<usize> = std::iter::once(0).chain(relays).collect();
    let mut runs: Vec<Vec<Value>> = vec![Vec::new(); servers.len()];
    for round in 0..usize::from(shape.rounds.rounds) {
        // Each server comes first as often as the others.
        for turn in 0..servers.len() {
            let index = (round + turn) % servers.len();
            let tag = json!({"round": round + 1});
            let run = harness.run(servers[index], Some(shape.common.protocol), &tag, &work)?;
            let at = |name: &str| figure(&run, &format!("/latency_us/{name}")).unwrap_or(f64::NAN);
            let name = harness.name(servers[index]);
            harness.say(&format!(
                "round {:>2}/{} {name:<16} p50 {:>8.1} µs  p99 {:>8.1} µs  p99.9 {:>8.1} µs",
                round + 1,
                shape.rounds.rounds,
                at("p50"),
                at("p99"),
                at("p99.9")
            ));
            runs[index].push(run);
        }
    }
    let names: Vec<&str> = servers.iter().map(|it| harness.name(*it)).collect();
    let summary = format!(
        "# Latency, publish to deliver\n\n{}. {} subscribers, {} publications/s by the clock, {} bytes, {}, {} runs of \
         {} s each, interleaved.\n\n{}\nMicroseconds from the due time of a publication; median of the runs (lowest–highest).\n",
        harness.hardware(),
        shape.subscribers,
        args.rate,
        shape.size,
        shape.common.protocol.name(),
        shape.rounds.rounds,
        shape.duration,
        percentiles(&names, &runs)
    );
    let bars = bars(&runs);
    let rows = json!(
        names
            .iter()
            .zip(&runs)
            .map(|(name, runs)| json!({"server": name, "latency_us": medians(runs)}))
            .collect::<Vec<_>>()
    );
    let plot = curves("Latency, publish to deliver", &names, &runs);
    harness.finish(&summary, Some(plot), &rows, &bars)?;
    Ok(ExitCode::SUCCESS)
}

fn positions() -> impl Iterator<Item = &'static str> {
    QUANTILES.iter().map(|it| it.0).chain(["max"])
}

/// A percentile of every run.
pub fn values(runs: &[Value], name: &str) -> Vec<f64> {
    runs.iter().filter_map(|it| figure(it, &format!("/latency_us/{name}"))).collect()
}

fn medians(runs: &[Value]) -> Value {
    positions()
        .map(|name| (name.to_owned(), json!(median(values(runs, name)))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// How many times the faster relay's percentile ours is.
fn times(runs: &[Vec<Value>], name: &str) -> Option<f64> {
    let middle = |runs: &Vec<Value>| median(values(runs, name));
    let relay = runs.iter().skip(1).filter_map(middle).reduce(f64::min)?;
    Some(middle(runs.first()?)? / relay)
}

fn bars(runs: &[Vec<Value>]) -> Vec<Bar> {
    let bar = |(name, most)| Bar::at_most("P6", format!("ours ÷ relay: {name}"), times(runs, name), most, "");
    GOALS.map(bar).to_vec()
}

/// A line for each percentile: ours, the relays, and how many times the faster relay ours is.
fn percentiles(names: &[&str], runs: &[Vec<Value>]) -> String {
    let mut head = vec!["percentile"];
    head.extend(names);
    head.push("ours ÷ relay");
    let lines: Vec<Vec<String>> = positions()
        .map(|name| {
            let mut line = vec![name.to_owned()];
            for runs in runs {
                line.push(spread(runs, name));
            }
            line.push(times(runs, name).map_or("–".to_owned(), |it| format!("{it:.2}")));
            line
        })
        .collect();
    results::table(&head, &lines)
}

/// Median of a percentile, and its lowest and highest.
pub fn spread(runs: &[Value], name: &str) -> String {
    let values = values(runs, name);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    match median(values) {
        Some(middle) => format!("{middle:.1} ({low:.1}–{high:.1})"),
        None => "–".to_owned(),
    }
}

/// The percentiles of runs of several.
pub fn curves(title: &str, names: &[&str], runs: &[Vec<Value>]) -> String {
    let series = names.iter().zip(runs).map(|(name, runs)| {
        ((*name).to_owned(), positions().map(|position| median(values(runs, position))).collect())
    });
    Curves {
        title: title.to_owned(),
        unit: "µs (logarithmic)".to_owned(),
        positions: positions().map(str::to_owned).collect(),
        series: series.collect(),
    }
    .svg()
}

/// The percentiles of one run of any scenario, if it took any.
#[must_use]
pub fn single_plot(scenario: &str, run: &Value) -> Option<String> {
    run.get("latency_us")?;
    Some(curves(&format!("{scenario}: latency"), &["server"], &[vec![run.clone()]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(p50: f64, p999: f64) -> Value {
        json!({"latency_us": {"p50": p50, "p99.9": p999, "max": p999}})
    }

    #[test]
    fn the_faster_relay_counts_and_bars_are_judged() {
        let ours = vec![run(13.0, 160.0), run(11.0, 140.0), run(14.0, 150.0)];
        let runs = [ours, vec![run(10.0, 300.0)], vec![run(20.0, 90.0)]];
        let table = percentiles(&["ours", "a", "b"], &runs);
        let line =
            |name: &str| table.lines().find(|it| it.starts_with(&format!("| {name} |"))).unwrap().to_owned();
        assert_eq!(line("p50"), "| p50 | 13.0 (11.0–14.0) | 10.0 (10.0–10.0) | 20.0 (20.0–20.0) | 1.30 |");
        assert!(line("p75").contains("| – | – | – | – |"));
        let met: Vec<_> = bars(&runs).iter().map(Bar::met).collect();
        assert_eq!(met, [Some(true), Some(false)]);
        assert!(bars(&[vec![run(1.0, 2.0)]]).iter().all(|it| it.met().is_none()));
    }

    #[test]
    fn only_runs_with_latencies_have_curves() {
        assert!(single_plot("idle", &json!({"memory": {}})).is_none());
        assert!(single_plot("fanout", &run(1.0, 2.0)).unwrap().contains("<polyline"));
    }
}
