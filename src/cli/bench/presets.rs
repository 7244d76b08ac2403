//! Fan-out in the shapes that are compared: with the floor, with a published figure, with other servers.

use super::{
    BenchError, Common, ProtocolArg, RoundsArgs,
    fanout::{self, Publishing},
    grid::{Cell, Goal, Grid, Row, Work},
    harness::{self, Harness},
    plot::short,
    results,
};
use std::process::ExitCode;

pub const DELIVERY_COST: &str = "/server/cpu_ns_per_delivery";
const BOTH: [ProtocolArg; 2] = [ProtocolArg::Json, ProtocolArg::Protobuf];
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
    fn publishing(&self) -> Publishing {
        Publishing { size: self.size, duration: self.duration, warmup: self.warmup, ..Publishing::default() }
    }

    /// The same work on the server under test and on its floors.
    fn cell(&self, label: String, protocol: ProtocolArg, publishing: &Publishing, floors: &[usize]) -> Cell {
        let work = || fanout_work(self.subscribers, publishing.clone());
        Cell {
            label,
            protocol,
            k: None,
            goals: Vec::new(),
            subject: (0, work()),
            baselines: floors.iter().map(|it| (*it, work())).collect(),
        }
    }

    fn open(&self, scenario: &str) -> Result<(Harness, Vec<usize>), BenchError> {
        let mut harness = Harness::new(scenario, &self.common, true, &[])?;
        let floors = if self.rounds.no_floor { Vec::new() } else { harness.add_floors("floor", false)? };
        harness.setup()?;
        Ok((harness, floors))
    }

    fn grid<'a>(&self, title: &'a str) -> Grid<'a> {
        let rounds = usize::from(self.rounds.rounds);
        Grid { title, cost: DELIVERY_COST, per: "delivery", rounds, bars_per_write: true }
    }
}

pub fn fanout_work(subscribers: usize, publishing: Publishing) -> Work {
    Box::new(move |common| fanout::run(fanout::Args::new(common, subscribers, publishing.clone())))
}

fn conclude(harness: &Harness, grid: &Grid<'_>, rows: &[Row], notes: &str) -> Result<ExitCode, BenchError> {
    let plot = grid.plot(harness.name(0), rows);
    harness.finish(&grid.summary(harness, rows, notes), Some(plot), &grid.json(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// One run, or rounds of the same against the floor.
///
/// # Errors
/// Those of the runs.
pub fn fanout(args: fanout::Args) -> Result<ExitCode, BenchError> {
    let Some(rounds) = args.rounds else {
        return harness::single("fanout", &args.common.clone(), true, &[], &|common| {
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
    let protocol = shape.common.protocol;
    let mut cell = shape.cell(protocol.name().to_owned(), protocol, &args.publishing, &floors);
    cell.k = args.publishing.batch.map(f64::from);
    let grid = shape.grid("Fan-out");
    let rows = grid.measure(&mut harness, &[cell])?;
    conclude(&harness, &grid, &rows, "")
}

/// Fan-out at fixed numbers of messages per write.
///
/// # Errors
/// Those of the runs.
pub fn floor(args: &FloorArgs) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let (mut harness, floors) = shape.open("floor")?;
    let mut cells = Vec::new();
    for &batch in &args.batch {
        for protocol in BOTH {
            let publishing = Publishing { batch: Some(batch), ..shape.publishing() };
            let label = format!("{}, K = {batch}", protocol.name());
            let mut cell = shape.cell(label, protocol, &publishing, &floors);
            (cell.k, cell.goals) = (Some(f64::from(batch)), vec![Goal::Eta(0.88)]);
            cells.push(cell);
        }
    }
    let grid = shape.grid("Fan-out against the floor");
    let rows = grid.measure(&mut harness, &cells)?;
    let notes = format!(
        "\nOne publisher writes K commands at once and waits for the last reply; {} subscribers, {} bytes.\n\n{}",
        shape.subscribers,
        shape.size,
        json_beside_protobuf(&rows, &args.batch)
    );
    conclude(&harness, &grid, &rows, &notes)
}

/// What JSON costs more than its bytes: the floor writes them as well, so its ratio is that of the bytes.
fn json_beside_protobuf(rows: &[Row], batches: &[u32]) -> String {
    let lines: Vec<Vec<String>> = rows
        .chunks_exact(2)
        .zip(batches)
        .map(|(pair, batch)| {
            let cost = |row: &Row| row.rounds.subject(DELIVERY_COST);
            let floor = |row: &Row| row.rounds.baseline(row.rounds.faster(DELIVERY_COST)?, DELIVERY_COST);
            let ratio = |of: &dyn Fn(&Row) -> Option<f64>| Some(of(&pair[0])? / of(&pair[1])?);
            let (ours, floors) = (ratio(&cost), ratio(&floor));
            let beyond = ours.zip(floors).map(|it| it.0 / it.1);
            let show = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.3}"));
            let goal = match beyond {
                Some(times) if times <= JSON_TIMES_MAX => "met",
                Some(_) => "MISSED",
                None => "unknown",
            };
            let goal = format!("≤ {JSON_TIMES_MAX}: {goal}");
            vec![batch.to_string(), show(ours), show(floors), show(beyond), goal]
        })
        .collect();
    results::table(&["K", "JSON ÷ Protobuf", "of the floor", "beyond the bytes", "goal"], &lines)
}

/// The write-up's shape.
///
/// # Errors
/// Those of the runs.
pub fn seed(args: &SeedArgs) -> Result<ExitCode, BenchError> {
    let shape = &args.shape;
    let (mut harness, floors) = shape.open("seed")?;
    let mut cells = Vec::new();
    let mut protocols = Vec::new();
    for &window in &args.window {
        for protocol in BOTH {
            let publishing = Publishing { window, publishers: args.publishers, ..shape.publishing() };
            let label = format!("{}, window {window}", protocol.name());
            let mut cell = shape.cell(label, protocol, &publishing, &floors);
            cell.goals = match window {
                1 => vec![Goal::Micros(1.1), Goal::TimesFloor(1.25)],
                16 => vec![Goal::Micros(0.2), Goal::TimesFloor(1.25)],
                _ => vec![Goal::TimesFloor(1.25)],
            };
            cells.push(cell);
            protocols.push((protocol, window));
        }
    }
    // Each has its own K here, so the bars are of deliveries.
    let grid = Grid { bars_per_write: false, ..shape.grid("The write-up's shape") };
    let rows = grid.measure(&mut harness, &cells)?;
    let notes = format!(
        "\n{} subscribers, {} publishers that keep so many commands in flight as the window says, {} bytes.\n\n{}",
        shape.subscribers,
        args.publishers,
        shape.size,
        beside_published(&harness, &rows, &protocols)
    );
    conclude(&harness, &grid, &rows, &notes)
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
    let mut cells = Vec::new();
    for &rate in &args.rate {
        for protocol in BOTH {
            let publishing = Publishing { rate: Some(rate), ..shape.publishing() };
            let label = format!("{}, {rate}/s", protocol.name());
            let mut cell = shape.cell(label, protocol, &publishing, &floors);
            (cell.k, cell.goals) = (Some(1.0), vec![Goal::Eta(0.8)]);
            cells.push(cell);
        }
    }
    let grid = shape.grid("Paced fan-out");
    let rows = grid.measure(&mut harness, &cells)?;
    let notes =
        format!("\nOne publisher by the clock; {} subscribers, {} bytes.\n", shape.subscribers, shape.size);
    conclude(&harness, &grid, &rows, &notes)
}
