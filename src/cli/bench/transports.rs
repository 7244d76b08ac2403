//! The same fan-out to subscribers in the body of a response (`http_stream`, `sse`), beside the same over WebSocket.
//!
//! The publisher is a WebSocket in both. Whatever the transport, every delivery is checked.

use super::{
    BenchError, Common, ProtocolArg,
    fanout::{self, Publishing},
    grid::{Cell, Goal, Work},
    harness::Harness,
    presets::Shape,
    transport::{SETTINGS, Transport},
};
use std::process::ExitCode;

const WAYS: [(Transport, ProtocolArg); 3] = [
    (Transport::HttpStream, ProtocolArg::Json),
    (Transport::Sse, ProtocolArg::Json),
    (Transport::HttpStream, ProtocolArg::Protobuf),
];

#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("rounds", |it| it.default_value("5")))]
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
    let mut harness = Harness::new("transports", &shape.common, true, SETTINGS)?;
    let cores = harness.common().server_cores.clone();
    let own = shape.common.url.is_empty();
    let websocket = if own { harness.add_corecast("WebSocket", &cores, SETTINGS)? } else { 0 };
    harness.setup()?;
    let cells = WAYS.iter().flat_map(|way| args.batch.iter().map(|batch| args.cell(*way, *batch, websocket)));
    let cells: Vec<Cell> = cells.collect();
    let grid = shape.grid("Fan-out by transport", "T6");
    let rows = grid.measure(&mut harness, &cells)?;
    let notes = format!(
        "\nHere the floor is the same broadcast over WebSocket, on a server of its own. One publisher writes K commands \
         at once and waits for the last reply; {} subscribers, {} bytes.\n",
        shape.subscribers, shape.size
    );
    grid.conclude(&mut harness, &rows, &notes, Vec::new())
}

impl Args {
    fn cell(&self, (transport, protocol): (Transport, ProtocolArg), batch: u32, websocket: usize) -> Cell {
        Cell {
            label: format!("{}, {}, K = {batch}", transport.name(), protocol.name()),
            protocol,
            k: Some(f64::from(batch)),
            goals: vec![Goal::TimesFloor(1.5)],
            subject: (0, self.work(batch, transport)),
            baselines: vec![(websocket, self.work(batch, Transport::Websocket))],
        }
    }

    fn work(&self, batch: u32, transport: Transport) -> Work {
        let subscribers = self.shape.subscribers;
        let publishing = Publishing { batch: Some(batch), ..self.shape.publishing() };
        Box::new(move |common: Common| {
            fanout::run(fanout::Args::new(Common { transport, ..common }, subscribers, publishing.clone()))
        })
    }
}
