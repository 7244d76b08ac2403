//! A broadcast to clients that agreed to compression, beside the same to clients that did not.
//!
//! The publications are of words, so that they compress as text does. Both run on servers that offer compression. The
//! client inflates each distinct message once and compares every byte of every copy, so every delivery is checked
//! as in any fan-out.

use super::{
    BenchError, Common, ProtocolArg,
    bars::Bar,
    fanout::{self, Publishing},
    grid::{Cell, Goal, Row, Work},
    harness::Harness,
    idle,
    presets::Shape,
    results,
    rounds::figure,
};
use serde_json::json;
use std::process::ExitCode;

const SETTINGS: &[&str] = &["websocket.compression=true"];
/// Seconds of rest before each look at the memory.
const SETTLE_S: u64 = 3;
const PRIVATE: &str = "/memory/private_bytes_per_connection";

#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("size", |it| it.default_value("512")))]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Messages per write to measure
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "1,16")]
    batch: Vec<u32>,
    /// Connections between which the memory of each is taken
    #[arg(long, value_name = "FROM,TO", value_delimiter = ',', num_args = 1, default_value = "2000,10000")]
    memory: Vec<usize>,
    /// Leave the memory out
    #[arg(long)]
    no_memory: bool,
}

/// # Errors
/// Those of the runs.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let own = shape.common.url.is_empty();
    let mut harness = Harness::new("compressed", &shape.common, true, SETTINGS)?;
    let cores = harness.common().server_cores.clone();
    let plain = if own { harness.add_corecast("uncompressed", &cores, SETTINGS)? } else { 0 };
    harness.setup()?;
    let cell = |batch: &u32| Cell {
        label: format!("JSON, K = {batch}"),
        protocol: ProtocolArg::Json,
        k: Some(f64::from(*batch)),
        goals: vec![Goal::TimesFloor(1.2)],
        subject: (0, args.work(*batch, true)),
        baselines: vec![(plain, args.work(*batch, false))],
    };
    let cells: Vec<Cell> = args.batch.iter().map(cell).collect();
    let grid = shape.grid("Compressed broadcast", "P11");
    let rows = grid.measure(&mut harness, &cells)?;
    let bars = if own && !args.no_memory { vec![args.memory(&mut harness)?] } else { Vec::new() };
    let notes = format!(
        "\nHere the floor is the same broadcast without compression. One publisher writes K commands at once and waits for \
         the last reply; {} subscribers, {} bytes of words.\n\n{}",
        shape.subscribers,
        shape.size,
        bytes(&rows)
    );
    grid.conclude(&mut harness, &rows, &notes, bars)
}

impl Args {
    fn work(&self, batch: u32, compression: bool) -> Work {
        let subscribers = self.shape.subscribers;
        let publishing = Publishing { batch: Some(batch), prose: true, ..self.shape.publishing() };
        Box::new(move |common: Common| {
            let common = Common { compression, ..common };
            fanout::run(fanout::Args::new(common, subscribers, publishing.clone()))
        })
    }

    /// Each on a server that had no connections before.
    fn memory(&self, harness: &mut Harness) -> Result<Bar, BenchError> {
        let [from, to] = self.memory[..] else { return Err(BenchError::Usage("--memory is two numbers")) };
        let cores = harness.common().server_cores.clone();
        let mut private = Vec::new();
        for (name, compression) in [("idle, uncompressed", false), ("idle, compressed", true)] {
            let server = harness.add_corecast(name, &cores, SETTINGS)?;
            let work = move |common: Common| {
                idle::run(idle::Args::memory(Common { compression, ..common }, (from, to), 1, SETTLE_S))
            };
            let run = harness.run(server, Some(ProtocolArg::Json), &json!("memory"), &work)?;
            private.push(figure(&run, PRIVATE));
        }
        let times = private[0].zip(private[1]).map(|(plain, compressed)| compressed / plain);
        let show = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.0}"));
        let what = format!(
            "private memory of a connection ÷ without: {} ÷ {} B",
            show(private[1]),
            show(private[0])
        );
        Ok(Bar::at_most("P11", what, times, 1.05, ""))
    }
}

/// What went over the wire.
fn bytes(rows: &[Row]) -> String {
    const BYTES: &str = "/throughput/wire_bytes_per_delivery";
    let show = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.0}"));
    let line = |row: &Row| {
        let (plain, compressed) = (row.rounds.baseline(0, BYTES), row.rounds.subject(BYTES));
        vec![row.label.clone(), show(plain), show(compressed)]
    };
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    results::table(&["bytes on the wire per delivery", "uncompressed", "compressed"], &lines)
}
