//! What it costs that a channel lives on one core and its publishers and subscribers on others.
//!
//! The same publications, at the same messages per write and the same pace, to a server on one core and to one on
//! two: all published on the core that owns the channel, half of them, none. The pace is a share of what the
//! one core takes at most, for where two server cores leave the client none of its own.

use super::{
    BenchError, Common, ProtocolArg,
    fanout::{self, Publishing, Side},
    grid::{Cell, Goal, Grid, Work},
    harness::Harness,
    plot::short,
    presets::{DELIVERY_COST, Shape, fanout_work},
    results,
    rounds::figure,
};
use serde_json::json;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Messages per write to measure
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "1,16")]
    batch: Vec<u32>,
    /// Share of the one core's saturation at which the client publishes
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pace: f64,
}

/// Cross-core publications in percent, and where their publishers sit.
const SHARES: [(u32, &[Side]); 3] =
    [(0, &[Side::Owner]), (50, &[Side::Owner, Side::Other]), (100, &[Side::Other])];

/// # Errors
/// Those of the runs, and [`BenchError::Usage`] where there are no two CPUs.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    if !args.shape.common.url.is_empty() {
        return Err(BenchError::Usage("cores starts its servers itself: leave --url out"));
    }
    if !(args.pace > 0.0 && args.pace <= 1.0) {
        return Err(BenchError::Usage("--pace is a share, above 0 and at most 1"));
    }
    if results::cpu_count() < 2 {
        return Err(BenchError::Usage("cores needs a machine with two CPUs"));
    }
    let mut common = args.shape.common.clone();
    let both = match common.server_cores[..] {
        [] => vec![0, 1],
        [first, second] => vec![first, second],
        _ => return Err(BenchError::Usage("--server-cores of cores names two CPUs")),
    };
    common.server_cores.clone_from(&both);
    let mut harness = Harness::empty("cores", &common, true)?;
    let two = harness.add_corecast("two cores", &both, &[])?;
    let one = harness.add_corecast("one core", &both[..1], &[])?;
    harness.setup()?;
    let (mut cells, mut saturations) = (Vec::new(), Vec::new());
    for &batch in &args.batch {
        let protocol = common.protocol;
        let free = args.publishing(batch, None);
        let best =
            saturation(&mut harness, one, protocol, &fanout_work(args.shape.subscribers, free.clone()))?;
        let half = args.placed(free, SHARES[1].1);
        let best_of_two = saturation(&mut harness, two, protocol, &half)?;
        saturations.push(vec![batch.to_string(), short(best.1), short(best_of_two.1)]);
        let paced = args.publishing(batch, Some(best.0 * args.pace));
        for (share, sides) in SHARES {
            cells.push(Cell {
                label: format!("K = {batch}, {share} % cross"),
                protocol,
                k: Some(f64::from(batch)),
                goals: if share == 0 { Vec::new() } else { vec![Goal::TimesFloor(1.25)] },
                subject: (two, args.placed(paced.clone(), sides)),
                baselines: vec![(one, fanout_work(args.shape.subscribers, paced.clone()))],
            });
        }
    }
    let rounds = usize::from(args.shape.rounds.rounds);
    let title = "Two cores against one";
    let grid = Grid { title, row: "P5", cost: DELIVERY_COST, per: "delivery", rounds, bars_per_write: true };
    let rows = grid.measure(&mut harness, &cells)?;
    let notes = format!(
        "\nHere the floor is the same server on one core; η is one core ÷ two. {} subscribers spread over the cores, {} \
         bytes, paced at {} % of what one core took at most:\n\n{}",
        args.shape.subscribers,
        args.shape.size,
        args.pace * 100.0,
        results::table(&["K", "deliveries/s at most, one core", "two cores, 50 % cross"], &saturations)
    );
    grid.conclude(&mut harness, &rows, &notes, Vec::new())
}

/// Publications and deliveries per second when the client waits for nothing but replies.
fn saturation(
    harness: &mut Harness,
    server: usize,
    protocol: ProtocolArg,
    work: &Work,
) -> Result<(f64, f64), BenchError> {
    let run = harness.run(server, Some(protocol), &json!("saturation"), work)?;
    let rate = |name: &str| figure(&run, &format!("/throughput/{name}")).filter(|it| *it > 0.0);
    rate("publications_per_s")
        .zip(rate("deliveries_per_s"))
        .ok_or(BenchError::Usage("nothing was delivered; take a longer --duration"))
}

impl Args {
    fn publishing(&self, batch: u32, rate: Option<f64>) -> Publishing {
        Publishing {
            batch: Some(batch),
            rate,
            size: self.shape.size,
            duration: self.shape.duration,
            warmup: self.shape.warmup,
            ..Publishing::default()
        }
    }

    fn placed(&self, publishing: Publishing, sides: &'static [Side]) -> Work {
        let subscribers = self.shape.subscribers;
        Box::new(move |common: Common| {
            let mut args = fanout::Args::new(common, subscribers, publishing.clone());
            args.sides = sides.to_vec();
            fanout::run(args)
        })
    }
}
