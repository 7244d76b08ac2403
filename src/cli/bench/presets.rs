//! Fan-out in the shapes that are compared: with the floor, with a published figure, with other servers.

use super::{
    BenchError, Common, ProtocolArg, RoundsArgs,
    bars::Bar,
    fanout::{self, Publishing},
    grid::{Cell, Goal, Grid, Row, Work},
    harness::{self, Harness},
    plot::short,
    results,
};
use std::process::ExitCode;

pub const DELIVERY_COST: &str = "/server/cpu_ns_per_delivery";
pub const BOTH: [ProtocolArg; 2] = [ProtocolArg::Json, ProtocolArg::Protobuf];
/// Messages per second of the Centrifugo v2 write-up, publications and deliveries counted, on 32 CPUs.
const PUBLISHED_JSON: f64 = 265_900.0;
const PUBLISHED_PROTOBUF: f64 = 681_212.0;
/// How much more than its bytes JSON may cost.
const JSON_TIMES_MAX: f64 = 1.05;
const PUBLISHED_ON: &str = "32 × Xeon Platinum 8168, server and client on one host";

/// What these scenarios share.
#[derive(Clone, Debug, clap::Args)]
pub struct Shape {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) rounds: RoundsArgs,
    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub subscribers: usize,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub size: usize,
    /// Seconds to measure in each run
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub duration: f64,
    /// Seconds of the same before
    #[arg(long, value_name = "SECONDS", default_value_t = 0.4)]
    pub warmup: f64,
}

#[derive(Clone, Debug, clap::Args)]
pub struct FloorArgs {
    #[command(flatten)]
    shape: Shape,
    /// Messages per write to measure
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "1,4,16,64")]
    batch: Vec<u32>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct SeedArgs {
    #[command(flatten)]
    shape: Shape,
    /// Connections that publish
    #[arg(long, value_name = "M", default_value_t = 4)]
    publishers: usize,
    /// Commands each publisher keeps in flight
    #[arg(long, value_name = "W", value_delimiter = ',', default_value = "1,16")]
    window: Vec<u32>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct PacedArgs {
    #[command(flatten)]
    shape: Shape,
    /// Publications per second
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',', default_value = "50,200")]
    rate: Vec<f64>,
}

impl Shape {
    pub fn publishing(&self) -> Publishing {
        Publishing { size: self.size, duration: self.duration, warmup: self.warmup, ..Publishing::default() }
    }

    /// The same work on the server under test and on its floors.
    fn cell(&self, protocol: ProtocolArg, load: Load, floors: &[usize]) -> Cell {
        let work = || fanout_work(self.subscribers, load.publishing.clone());
        let label = if load.name.is_empty() { String::new() } else { format!(", {}", load.name) };
        Cell {
            label: format!("{}{label}", protocol.name()),
            protocol,
            k: load.k,
            goals: load.goals,
            subject: (0, work()),
            baselines: floors.iter().map(|it| (*it, work())).collect(),
        }
    }

    /// A cell in each protocol for each of `values`.
    fn cells<V: Copy>(&self, values: &[V], floors: &[usize], load: impl Fn(V) -> Load) -> Vec<Cell> {
        let of = |value: &V| BOTH.map(|protocol| self.cell(protocol, load(*value), floors));
        values.iter().flat_map(of).collect()
    }

    fn open(&self, scenario: &str) -> Result<(Harness, Vec<usize>), BenchError> {
        let mut harness = Harness::new(scenario, &self.common, true, &[])?;
        let floors = if self.rounds.no_floor { Vec::new() } else { harness.add_floors("floor", false)? };
        harness.setup()?;
        Ok((harness, floors))
    }

    pub fn grid<'a>(&self, title: &'a str, row: &'static str) -> Grid<'a> {
        let rounds = usize::from(self.rounds.rounds);
        Grid { title, row, cost: DELIVERY_COST, per: "delivery", rounds, bars_per_write: true }
    }
}

/// What one cell is about, whatever the protocol.
struct Load {
    name: String,
    publishing: Publishing,
    k: Option<f64>,
    goals: Vec<Goal>,
}

pub fn fanout_work(subscribers: usize, publishing: Publishing) -> Work {
    Box::new(move |common| fanout::run(fanout::Args::new(common, subscribers, publishing.clone())))
}

/// One run, or rounds of the same against the floor.
///
/// # Errors
/// Those of the runs.
pub fn fanout(args: fanout::Args) -> Result<ExitCode, BenchError> {
    let Some(rounds) = args.rounds else {
        let common = Common { transport: args.transport, ..args.common.clone() };
        let settings = args.transport.settings();
        return harness::single("fanout", &common, true, settings, &|_| Vec::new(), &|common| {
            fanout::run(fanout::Args { common, ..args.clone() })
        });
    };
    let shape = Shape {
        rounds: RoundsArgs { rounds, no_floor: args.no_floor },
        subscribers: args.subscribers,
        size: args.publishing.size,
        duration: args.publishing.duration,
        warmup: args.publishing.warmup,
        common: args.common,
    };
    let (mut harness, floors) = shape.open("fanout")?;
    let k = args.publishing.batch.map(f64::from);
    let load = Load { name: String::new(), publishing: args.publishing, k, goals: Vec::new() };
    let cell = shape.cell(shape.common.protocol, load, &floors);
    let grid = shape.grid("Fan-out", "");
    let rows = grid.measure(&mut harness, &[cell])?;
    grid.conclude(&mut harness, &rows, "", Vec::new())
}

/// Fan-out at fixed numbers of messages per write.
///
/// # Errors
/// Those of the runs.
pub fn floor(args: &FloorArgs) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let (mut harness, floors) = shape.open("floor")?;
    let cells = shape.cells(&args.batch, &floors, |batch| Load {
        name: format!("K = {batch}"),
        publishing: Publishing { batch: Some(batch), ..shape.publishing() },
        k: Some(f64::from(batch)),
        goals: vec![Goal::Eta(0.88)],
    });
    let grid = shape.grid("Fan-out against the floor", "P1");
    let rows = grid.measure(&mut harness, &cells)?;
    let (table, bars) = json_beside_protobuf(&rows, &args.batch);
    let notes = format!(
        "\nOne publisher writes K commands at once and waits for the last reply; {} subscribers, {} bytes.\n\n{table}",
        shape.subscribers, shape.size,
    );
    grid.conclude(&mut harness, &rows, &notes, bars)
}

/// What JSON costs more than its bytes: the floor writes them as well, so its ratio is that of the bytes.
fn json_beside_protobuf(rows: &[Row], batches: &[u32]) -> (String, Vec<Bar>) {
    let (mut lines, mut bars) = (Vec::new(), Vec::new());
    for (pair, batch) in rows.chunks_exact(2).zip(batches) {
        let cost = |row: &Row| row.rounds.subject(DELIVERY_COST);
        let floor = |row: &Row| row.rounds.baseline(row.rounds.faster(DELIVERY_COST)?, DELIVERY_COST);
        let ratio = |of: &dyn Fn(&Row) -> Option<f64>| Some(of(&pair[0])? / of(&pair[1])?);
        let (ours, floors) = (ratio(&cost), ratio(&floor));
        let beyond = ours.zip(floors).map(|it| it.0 / it.1);
        let show = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.3}"));
        lines.push(vec![batch.to_string(), show(ours), show(floors), show(beyond)]);
        let what = format!("JSON ÷ Protobuf, beyond the bytes: K = {batch}");
        bars.push(Bar::at_most("P1", what, beyond, JSON_TIMES_MAX, ""));
    }
    (results::table(&["K", "JSON ÷ Protobuf", "of the floor", "beyond the bytes"], &lines), bars)
}

/// The write-up's shape.
///
/// # Errors
/// Those of the runs.
pub fn seed(args: &SeedArgs) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let (mut harness, floors) = shape.open("seed")?;
    let cells = shape.cells(&args.window, &floors, |window| Load {
        name: format!("window {window}"),
        publishing: Publishing { window, publishers: args.publishers, ..shape.publishing() },
        k: None,
        goals: match window {
            1 => vec![Goal::Micros(1.1), Goal::TimesFloor(1.25)],
            16 => vec![Goal::Micros(0.2), Goal::TimesFloor(1.25)],
            _ => vec![Goal::TimesFloor(1.25)],
        },
    });
    // Each has its own K here, so the bars are of deliveries.
    let grid = Grid { bars_per_write: false, ..shape.grid("The write-up's shape", "P2") };
    let rows = grid.measure(&mut harness, &cells)?;
    let protocols: Vec<_> =
        args.window.iter().flat_map(|window| BOTH.map(|protocol| (protocol, *window))).collect();
    let notes = format!(
        "\n{} subscribers, {} publishers that keep so many commands in flight as the window says, {} bytes.\n\n{}",
        shape.subscribers,
        args.publishers,
        shape.size,
        beside_published(&harness, &rows, &protocols)
    );
    grid.conclude(&mut harness, &rows, &notes, Vec::new())
}

/// Messages per second as the write-up counts them, with the hardware of each.
fn beside_published(harness: &Harness, rows: &[Row], protocols: &[(ProtocolArg, u32)]) -> String {
    let cores = harness.common().server_cores.len();
    let lines: Vec<Vec<String>> = rows
        .iter()
        .zip(protocols)
        .map(|(row, (protocol, window))| {
            let published = match protocol {
                ProtocolArg::Json => PUBLISHED_JSON,
                ProtocolArg::Protobuf => PUBLISHED_PROTOBUF,
            };
            let rate = |path: &str| row.rounds.subject(path);
            let ours = rate("/throughput/deliveries_per_s").zip(rate("/throughput/publications_per_s"));
            let ours = ours.map(|it| it.0 + it.1);
            let per_write = rate("/server/messages_per_write").or(rate("/throughput/messages_per_frame"));
            let show = |value: Option<f64>| value.map_or("–".to_owned(), short);
            vec![
                format!("{}, window {window}", protocol.name()),
                show(ours),
                show(per_write),
                if cores == 0 { "–".to_owned() } else { show(ours.map(|it| it / cores as f64)) },
                short(published),
                short(published / 32.0),
                show(ours.map(|it| it / published)),
            ]
        })
        .collect();
    let head = [
        "messages/s, publications and deliveries counted",
        "here",
        "messages/write",
        "per server CPU here",
        "published",
        "per CPU published",
        "here ÷ published",
    ];
    format!(
        "{}\nHere: {}. Published (Centrifugo v2 write-up): {PUBLISHED_ON}; messages per write not told.\n",
        results::table(&head, &lines),
        harness.hardware()
    )
}

/// Publications by the clock.
///
/// # Errors
/// Those of the runs.
pub fn paced(args: &PacedArgs) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let (mut harness, floors) = shape.open("paced")?;
    let cells = shape.cells(&args.rate, &floors, |rate| Load {
        name: format!("{rate}/s"),
        publishing: Publishing { rate: Some(rate), ..shape.publishing() },
        k: Some(1.0),
        goals: vec![Goal::Eta(0.8)],
    });
    let grid = shape.grid("Paced fan-out", "P3");
    let rows = grid.measure(&mut harness, &cells)?;
    let notes =
        format!("\nOne publisher by the clock; {} subscribers, {} bytes.\n", shape.subscribers, shape.size);
    grid.conclude(&mut harness, &rows, &notes, Vec::new())
}
