//! What a subscription beyond the first on a connection costs in memory: the slope of connections with several, less
//! that of connections with one, by the number of those that are more.
//!
//! The channels are the same for both and shared, so they drop out.

use super::{BenchError, Common, bars::Bar, harness::Harness, idle, results, rounds::figure};
use serde_json::{Value, json};
use std::process::ExitCode;

const PRIVATE: &str = "/memory/private_bytes_per_connection";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Connections at the first look at the memory
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    from: usize,
    /// Connections at the second
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    to: usize,
    /// Seconds of rest before each look
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    settle: u64,
    /// Subscriptions of a connection that has several
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "11,33,97")]
    each: Vec<usize>,
}

/// # Errors
/// Those of the runs.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    if !args.common.url.is_empty() {
        return Err(BenchError::Usage("subscriptions starts its servers itself: leave --url out"));
    }
    if args.each.iter().any(|each| *each < 2) {
        return Err(BenchError::Usage("--each must be at least 2"));
    }
    let mut harness = Harness::empty("subscriptions", &args.common, false)?;
    let cores = harness.common().server_cores.clone();
    let mut runs: Vec<(usize, Value)> = Vec::new();
    // Each on a server that had no connections before.
    let parts = std::iter::once(&1).chain(&args.each).map(|each| {
        let server = harness.add_corecast(&format!("{each} each"), &cores, &[])?;
        Ok((server, *each))
    });
    let parts: Vec<(usize, usize)> = parts.collect::<Result<_, BenchError>>()?;
    harness.setup()?;
    for (server, each) in parts {
        harness.say(harness.name(server));
        let (counts, settle) = ((args.from, args.to), args.settle);
        let work = move |common: Common| idle::run(idle::Args::memory(common, counts, each, settle));
        runs.push((each, harness.run(server, None, &json!("memory"), &work)?));
    }
    let private = |run: &Value| figure(run, PRIVATE);
    let one = runs.first().and_then(|it| private(&it.1));
    let more = |(each, run): &(usize, Value)| Some((private(run)? - one?) / (each - 1) as f64);
    let show = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.0}"));
    let lines: Vec<Vec<String>> = runs
        .iter()
        .enumerate()
        .map(|(at, run)| {
            let beyond = if at == 0 { None } else { more(run) };
            vec![run.0.to_string(), show(private(&run.1)), show(beyond)]
        })
        .collect();
    let bar = |run: &(usize, Value)| {
        let what = format!("private memory of a subscription beyond the first, {} on a connection", run.0);
        Bar::at_most("T8", what, more(run), 64.0, "B")
    };
    let bars: Vec<Bar> = runs.iter().skip(1).map(bar).collect();
    let summary = format!(
        "# Subscriptions beyond the first\n\n{}. Slope between {} and {} connections, each subscribed to so many of 100 \
         shared channels.\n\n{}",
        harness.hardware(),
        args.from,
        args.to,
        results::table(
            &["subscriptions each", "private B per connection", "per subscription beyond the first"],
            &lines
        )
    );
    let rows: Value =
        runs.into_iter().map(|(each, run)| json!({"subscriptions": each, "figures": run})).collect();
    harness.finish(&summary, None, &rows, &bars)?;
    Ok(ExitCode::SUCCESS)
}
