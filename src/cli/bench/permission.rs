//! How long a permission check takes: may a client publish to a channel of a configured namespace?
//!
//! Within this process, without a server: the functions a session calls for every command, timed in batches so long
//! that looking at the clock costs nothing.

use super::{BenchError, Common, bars::Bar, harness::Harness, results, rounds::median, sys};
use crate::{
    broker::permission::{Namespaces, Verb, Who},
    config::{Namespace, Settings},
};
use serde_json::json;
use std::{hint::black_box, process::ExitCode, time::Instant};

const NAMESPACES: usize = 10;
const ROOMS: usize = 100;
/// Of one batch.
const CHECKS: usize = NAMESPACES * ROOMS;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Batches of 1000 checks
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
}

/// # Errors
/// [`BenchError::Usage`] with a URL, [`BenchError::Pin`], and those of writing the results.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    if !args.common.url.is_empty() {
        return Err(BenchError::Usage("permission needs no server: leave --url out"));
    }
    let mut harness = Harness::empty("permission", &args.common, false)?;
    harness.setup()?;
    if let Some(core) = harness.common().client_core {
        sys::pin_to(core).map_err(|source| BenchError::Pin { core, source })?;
    }
    let times = measure(args.batches)?;
    let least = times.iter().copied().reduce(f64::min);
    let middle = median(times);
    let show = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.1}"));
    let table = results::table(
        &["check", "ns, median of the batches", "ns, least"],
        &[vec!["name, namespace, right to publish".to_owned(), show(middle), show(least)]],
    );
    let summary = format!(
        "# Permission check\n\n{} × {}, on one of them, in process. {NAMESPACES} namespaces, {ROOMS} channels of each in \
         turn, {} batches of {CHECKS} checks.\n\n{table}",
        results::cpu_count(),
        results::cpu_model(),
        args.batches
    );
    let rows = json!([{"check": "publish", "ns_median": middle, "ns_least": least}]);
    harness.note(&json!({"run": 1, "figures": rows[0]}))?;
    let bars = [
        Bar::at_most("T5", "permission check in a configured namespace", middle, 100.0, "ns"),
        Bar::told("T5", "the same, least of the batches", least, "ns"),
    ];
    harness.finish(&summary, None, &rows, &bars)?;
    Ok(ExitCode::SUCCESS)
}

/// Nanoseconds per check of each batch, but for the first ones.
fn measure(batches: u32) -> Result<Vec<f64>, BenchError> {
    const WARM: u32 = 20;
    let mut settings = Settings::dev();
    let options = settings.channel.without_namespace.clone();
    let named =
        |at| Namespace { name: format!("space{at}"), options: options.clone(), ..Namespace::default() };
    settings.channel.namespaces = (0..NAMESPACES).map(named).collect();
    let namespaces = Namespaces::new(&settings.channel);
    let who = Who { user: "17", subscribed: true, insecure: false };
    let name = |at: usize| format!("space{}:room{}", at % NAMESPACES, at / NAMESPACES);
    let channels: Vec<String> = (0..CHECKS).map(name).collect();
    let mut times = Vec::new();
    for batch in 0..batches.saturating_add(WARM) {
        let begin = Instant::now();
        for channel in &channels {
            let allowed = check(&namespaces, who, black_box(channel));
            if !black_box(allowed) {
                return Err(BenchError::Usage("a check refused what the options allow"));
            }
        }
        if batch >= WARM {
            times.push(begin.elapsed().as_nanos() as f64 / CHECKS as f64);
        }
    }
    Ok(times)
}

fn check(namespaces: &Namespaces, who: Who<'_>, channel: &str) -> bool {
    let allowed = namespaces
        .check_name(channel)
        .and_then(|()| namespaces.resolve(channel))
        .and_then(|options| namespaces.decide(Verb::Publish, options, who, channel));
    allowed.is_ok()
}
