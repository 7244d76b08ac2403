//! Publications without many subscribers: by WebSocket, or by the HTTP API with one or many in a request.
//!
//! By HTTP each of so many keep-alive connections has one request on its way, or as many as `--pipeline`
//! says; every answer must be a success. Channels may have subscribers, each of which must see every
//! publication once and in order: a channel is published to by one connection only, so there is an order.

mod answer;
mod http;

use super::{
    BenchError, Common, ProtocolArg,
    engine::{Engine, STALL_MAX},
    fanout,
    grid::{Cell, Goal, Grid, Work},
    harness::{self, Harness},
    presets,
    report::Report,
    server,
    stamp::{PAYLOAD_MIN, Run},
    sys,
};
use crate::cli::client::{ClientError, Target};
use http::{Http, Seen, Workload};
use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

const BATCH: u32 = 100;
/// Commands in flight where publishing by WebSocket is to be pipelined.
const WINDOW: u32 = 256;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "By HTTP, --window, --publishers, --rate and --messages do not apply, latency is that of the \
replies, and --batch is the number of publications in a request (http-batch only) [default: 100]."
)]
pub struct Args {
    #[command(flatten)]
    websocket: fanout::PublishArgs,
    /// How to publish.
    #[arg(long, value_enum, default_value_t = Api::Websocket)]
    api: Api,
    /// Keep-alive connections to the HTTP API.
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// Requests each of them has on its way.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// Address of the HTTP API [default: /api on the same port]
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Key of the HTTP API.
    #[arg(long, value_name = "KEY", default_value = "")]
    api_key: String,
    /// Publish to so many channels in turn, by HTTP.
    #[arg(long, value_name = "N", default_value_t = 1)]
    channels: usize,
    /// Subscribers of each of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    subscribers_each: usize,
    /// By WebSocket with --window 256, in both encodings, by HTTP and by HTTP batches, with the bars of each.
    #[arg(long, conflicts_with_all = ["api", "window", "batch", "rate", "messages", "channels", "subscribers_each"])]
    all: bool,
    /// With --all: runs of each, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

impl Args {
    /// One publication in a request, to channels with a subscriber each.
    pub(super) fn to_own_channels(
        common: Common,
        publishing: fanout::Publishing,
        connections: usize,
        channels: usize,
    ) -> Self {
        Self {
            websocket: fanout::PublishArgs { common, publishing },
            api: Api::Http,
            connections,
            pipeline: 1,
            api_url: None,
            api_key: String::new(),
            channels,
            subscribers_each: 1,
            all: false,
            rounds: 1,
        }
    }

    pub(super) fn common(&self) -> &Common {
        &self.websocket.common
    }

    /// The same for another server.
    #[must_use]
    pub(super) fn with(mut self, common: Common) -> Self {
        self.websocket.common = common;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Api {
    /// Publish commands of clients.
    Websocket,
    /// One publication in a request.
    Http,
    /// --batch publications in a request.
    HttpBatch,
}

/// One kind of publishing, or all of them.
///
/// # Errors
/// Those of the runs.
pub fn run_beside(args: &Args) -> Result<ExitCode, BenchError> {
    if !args.all {
        return harness::single("publish", args.common(), true, &[], &|_| Vec::new(), &|common| {
            run(args.clone().with(common))
        });
    }
    let mut harness = Harness::new("publish", args.common(), true, &[])?;
    let floors = harness.add_floors("floor", false)?;
    harness.setup()?;
    let websocket = presets::BOTH.map(|it| args.cell(Api::Websocket, it, 0.5, &[]));
    let http = [(Api::Http, 5.0, &floors[..]), (Api::HttpBatch, 0.6, &[])]
        .map(|(api, most_us, floors)| args.cell(api, ProtocolArg::Json, most_us, floors));
    let cells: Vec<Cell> = websocket.into_iter().chain(http).collect();
    let grid = Grid {
        title: "Publishing without subscribers",
        row: "P9",
        cost: "/server/cpu_ns_per_publication",
        per: "publication",
        rounds: args.rounds.into(),
        bars_per_write: false,
    };
    let rows = grid.measure(&mut harness, &cells)?;
    let notes = format!(
        "\n{} bytes. WebSocket: one connection with {WINDOW} commands in flight. HTTP: {} keep-alive connections with {} \
         request(s) in flight each, one publication in a request; batch: {BATCH} in a request. The floor is a bare program \
         that reads each request and writes an answer of the same length: a write and a read cannot cost less here.\n",
        args.websocket.publishing.size, args.connections, args.pipeline
    );
    grid.conclude(&mut harness, &rows, &notes, Vec::new())
}

impl Args {
    fn cell(&self, api: Api, protocol: ProtocolArg, most_us: f64, floors: &[usize]) -> Cell {
        let label = match api {
            Api::Websocket => format!("WebSocket, {}", protocol.name()),
            Api::Http => format!("HTTP, {} connections", self.connections),
            Api::HttpBatch => "HTTP batch".to_owned(),
        };
        let mut args = self.clone();
        args.api = api;
        if api == Api::Websocket {
            args.websocket.publishing.window = WINDOW;
        }
        let work = || -> Work {
            let args = args.clone();
            Box::new(move |common| run(args.clone().with(common)))
        };
        let baselines = floors.iter().map(|it| (*it, work())).collect();
        Cell { label, protocol, k: None, goals: vec![Goal::Micros(most_us)], subject: (0, work()), baselines }
    }
}

/// One run on one server.
///
/// # Errors
/// [`BenchError`] when there are no figures.
pub fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.api == Api::Websocket {
        if args.channels != 1 || args.subscribers_each != 0 {
            return Err(BenchError::Usage(
                "--channels and --subscribers-each go with --api http or http-batch",
            ));
        }
        return fanout::run(args.websocket.into());
    }
    let mut publish = Publish::open(args)?;
    let measured = publish.measure()?;
    publish.drain()?;
    publish.report(&measured)
}

struct Publish {
    args: Args,
    engine: Engine,
    http: Http,
}

/// Everything that only rises, at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    at_ns: u64,
    server_cpu_ns: Option<u64>,
    client_cpu_ns: u64,
    idle_ns: u64,
    seen: Seen,
}

impl Publish {
    fn open(args: Args) -> Result<Self, BenchError> {
        let workload = workload(&args)?;
        let common = &args.websocket.common;
        let subscribers = workload.channels * workload.subscribers_each;
        server::has_room(common.server_pid, subscribers + args.connections)?;
        let mut engine = common.engine()?;
        let target = api_target(&args)?;
        let mut http = Http::new(workload, target, args.api_key.clone(), common.protocol());
        let limit = sys::raise_file_limit()?;
        let needed = u64::try_from(subscribers + args.connections).unwrap_or(u64::MAX).saturating_add(64);
        if needed > limit {
            return Err(BenchError::Files { needed, limit });
        }
        let names = http.names().to_vec();
        let each = args.subscribers_each;
        engine.open(subscribers, |conn| names.get(conn / each.max(1)).cloned(), &mut http)?;
        http.connect(&engine, args.connections)?;
        if !common.quiet {
            eprintln!("{subscribers} subscribers and {} publishing connections", args.connections);
        }
        Ok(Self { args, engine, http })
    }

    fn common(&self) -> &Common {
        &self.args.websocket.common
    }

    fn measure(&mut self) -> Result<(Moment, Moment), BenchError> {
        let publishing = &self.args.websocket.publishing;
        let (warmup, duration) = (seconds(publishing.warmup)?, seconds(publishing.duration)?);
        self.http.start()?;
        self.publish_for(warmup)?;
        let begin = self.moment()?;
        self.http.measure(true);
        self.publish_for(duration)?;
        self.http.measure(false);
        Ok((begin, self.moment()?))
    }

    fn publish_for(&mut self, length: Duration) -> Result<(), BenchError> {
        let begin = Instant::now();
        let (mut progress, mut seen) = (Instant::now(), self.http.seen);
        while begin.elapsed() < length {
            self.engine.poll(Duration::from_millis(100), &mut self.http)?;
            if self.http.seen != seen {
                seen = self.http.seen;
                progress = Instant::now();
            } else if progress.elapsed() > STALL_MAX {
                return Err(BenchError::Stalled { what: "the run" });
            }
        }
        Ok(())
    }

    /// Waits for what is on its way.
    fn drain(&mut self) -> Result<(), BenchError> {
        self.http.stop();
        self.engine.drain(&mut self.http, |http| (http.seen, http.complete()))
    }

    fn moment(&self) -> Result<Moment, BenchError> {
        Ok(Moment {
            at_ns: self.engine.now_ns(),
            server_cpu_ns: self.common().server_cpu_ns()?,
            client_cpu_ns: server::cpu_ns(std::process::id())?,
            idle_ns: self.engine.traffic.idle_ns,
            seen: self.http.seen,
        })
    }

    fn report(&self, (begin, end): &(Moment, Moment)) -> Result<ExitCode, BenchError> {
        let workload = self.http.workload();
        let mut report = Report::new("publish", self.common());
        report.section("workload");
        report.number("http_connections", self.args.connections as f64);
        report.number("pipeline", self.args.pipeline as f64);
        report.number("batch", workload.batch.into());
        report.number("channels", workload.channels as f64);
        report.number("subscribers_each", workload.subscribers_each as f64);
        report.number("payload_bytes", workload.size as f64);
        let nanos = (end.at_ns - begin.at_ns) as f64;
        let publications = (end.seen.answered - begin.seen.answered) as f64;
        let deliveries = (end.seen.deliveries - begin.seen.deliveries) as f64;
        report.section("throughput");
        report.number("seconds", nanos / 1e9);
        report.number("publications", publications);
        report.number("publications_per_s", publications / nanos * 1e9);
        report.number("requests", publications / f64::from(workload.batch));
        report.number("deliveries", deliveries);
        report.number("client_busy", 1.0 - (end.idle_ns - begin.idle_ns) as f64 / nanos);
        report.number("client_cpu", (end.client_cpu_ns - begin.client_cpu_ns) as f64 / nanos);
        report.section("server");
        if let (Some(from), Some(to)) = (begin.server_cpu_ns, end.server_cpu_ns) {
            let cpu = to.saturating_sub(from) as f64;
            report.number("cpu_share", cpu / nanos);
            report.number("cpu_ns_per_publication", cpu / publications);
        }
        report.latency(self.http.latency());
        let faults = self.http.faults();
        report.section("check");
        report.number("lost", faults.lost as f64);
        report.number("doubled_or_out_of_order", faults.disordered as f64);
        report.number("unanswered", faults.unanswered as f64);
        report.finish()?;
        if faults == http::Faults::default() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("not every message arrived once and in order: these figures do not count");
        Ok(ExitCode::FAILURE)
    }
}

/// Checks the arguments.
fn workload(args: &Args) -> Result<Workload, BenchError> {
    let publishing = &args.websocket.publishing;
    if publishing.rate.is_some() || publishing.messages.is_some() {
        return Err(BenchError::Usage("--rate and --messages go with --api websocket"));
    }
    if publishing.size < PAYLOAD_MIN {
        return Err(BenchError::Usage("--size must be at least 26 bytes: the stamp takes that much"));
    }
    let batch = match (args.api, publishing.batch) {
        (Api::HttpBatch, batch) => batch.unwrap_or(BATCH),
        (_, Some(_)) => return Err(BenchError::Usage("--batch goes with --api http-batch or websocket")),
        (_, None) => 1,
    };
    if batch == 0 || args.connections == 0 || args.pipeline == 0 || args.channels == 0 {
        return Err(BenchError::Usage(
            "--batch, --connections, --pipeline and --channels must be at least 1",
        ));
    }
    if args.subscribers_each > 0 && args.channels < args.connections {
        return Err(BenchError::Usage(
            "with subscribers each channel has one publisher: --connections must not be above --channels",
        ));
    }
    let mut id = [0; 4];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Workload {
        run: Run::new(u32::from_ne_bytes(id)),
        batched: args.api == Api::HttpBatch,
        batch,
        pipeline: args.pipeline,
        channel: publishing.channel.clone(),
        channels: args.channels,
        subscribers_each: args.subscribers_each,
        size: publishing.size,
    })
}

fn api_target(args: &Args) -> Result<Target, BenchError> {
    let own = Target::parse(&args.websocket.common.url)?;
    let url = args.api_url.clone().unwrap_or(format!("http://{}/api", own.host));
    let target = Target::parse(url.trim_end_matches('/'))?;
    let is_secure = target.tls || (own.tls && args.api_url.is_none());
    if is_secure { Err(ClientError::Tls(target.url).into()) } else { Ok(target) }
}

fn seconds(value: f64) -> Result<Duration, BenchError> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| BenchError::Usage("--duration and --warmup are seconds, from 0 up"))
}
