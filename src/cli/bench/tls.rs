//! A fan-out behind TLS, beside the same without: what encryption costs for each delivery.

use super::{
    BenchError,
    bars::Bar,
    fanout::Publishing,
    grid::{Cell, Row},
    harness::Harness,
    presets::{DELIVERY_COST, Shape, fanout_work},
};
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Messages per write to measure
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "1,16")]
    batch: Vec<u32>,
}

/// # Errors
/// Those of the runs.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    if !shape.common.url.is_empty() || shape.common.tls {
        return Err(BenchError::Usage(
            "tls starts its servers itself, with and without: leave --url and --tls out",
        ));
    }
    let mut harness = Harness::empty("tls", &shape.common, true)?;
    let cores = harness.common().server_cores.clone();
    let secure = harness.add_secure("TLS", &cores, &[])?;
    let plain = harness.add_corecast("plain", &cores, &[])?;
    harness.setup()?;
    let protocol = shape.common.protocol;
    let cell = |batch: &u32| {
        let work = || {
            let publishing = Publishing { batch: Some(*batch), ..shape.publishing() };
            fanout_work(shape.subscribers, publishing)
        };
        Cell {
            label: format!("{}, K = {batch}", protocol.name()),
            protocol,
            k: Some(f64::from(*batch)),
            goals: Vec::new(),
            subject: (secure, work()),
            baselines: vec![(plain, work())],
        }
    };
    let cells: Vec<Cell> = args.batch.iter().map(cell).collect();
    let grid = shape.grid("Fan-out over TLS", "T3");
    let rows = grid.measure(&mut harness, &cells)?;
    let notes = format!(
        "\nHere the floor is the same broadcast without TLS. Every connection has its own key, so every write is encrypted \
         by itself. One publisher writes K commands at once and waits for the last reply; {} subscribers, {} bytes.\n",
        shape.subscribers, shape.size
    );
    let bars = rows.iter().map(told).collect();
    grid.conclude(&mut harness, &rows, &notes, bars)
}

fn told(row: &Row) -> Bar {
    let costs = row.rounds.subject(DELIVERY_COST).zip(row.rounds.baseline(0, DELIVERY_COST));
    let what = format!("CPU per delivery over TLS ÷ plain: {}", row.label);
    Bar::told("T3", what, costs.map(|(tls, plain)| tls / plain), "")
}
