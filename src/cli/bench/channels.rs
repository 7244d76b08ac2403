//! Every client has a channel only it subscribes to: reads and writes of many sockets, few bytes each.
//!
//! By WebSocket a client publishes to its own channel, again when both its reply and its own publication have come
//! back, or by the clock with `--rate`, one client after the other. By the HTTP API a few connections publish to
//! all of the channels in turn.

use super::{
    BenchError, Common, ProtocolArg, RoundsArgs,
    engine::{Engine, Load, STALL_MAX, Traffic},
    fanout::{
        Publishing,
        check::{harmless, is_publish_reply, new_histogram},
    },
    grid::{Cell, Goal, Grid, Work},
    harness::Harness,
    presets, publish,
    report::Report,
    server,
    stamp::{PAYLOAD_MIN, Run, Scanner, Seen, Stamp},
};
use crate::{
    model::Protocol,
    wire::client::{Command, PublishRequest, Request},
};
use hdrhistogram::Histogram;
use std::{
    collections::BTreeMap,
    io, mem,
    process::ExitCode,
    time::{Duration, Instant},
};

const COST: &str = "/server/cpu_ns_per_publication";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    rounds: RoundsArgs,
    #[command(flatten)]
    load: Shape,
    /// Only by this way [default: all]
    #[arg(long, value_enum)]
    api: Option<Api>,
    /// Connections that publish by HTTP
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
}

#[derive(Clone, Debug, clap::Args)]
struct Shape {
    /// Connections, each with a channel of its own
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    clients: usize,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Publications per second, of all clients, by the clock
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Seconds to measure in each run
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    duration: f64,
    /// Seconds of the same before
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warmup: f64,
}

/// # Errors
/// Those of the runs.
pub fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.load.clients == 0 || args.connections == 0 || args.load.size < PAYLOAD_MIN {
        return Err(BenchError::Usage(
            "--clients must be at least 1, --connections too, and --size at least 26: the stamp takes that much",
        ));
    }
    if args.load.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err(BenchError::Usage("--rate must be above 0"));
    }
    let mut harness = Harness::new("channels", &args.common, true, &[])?;
    let floors = if args.rounds.no_floor { Vec::new() } else { harness.add_floors("floor", false)? };
    harness.setup()?;
    let cells: Vec<Cell> = args.ways().into_iter().map(|way| args.cell(way, &floors)).collect();
    let rounds = usize::from(args.rounds.rounds);
    let title = "Publications to own channels";
    let grid = Grid { title, row: "P4", cost: COST, per: "publication", rounds, bars_per_write: false };
    let rows = grid.measure(&mut harness, &cells)?;
    let pace = args.load.rate.map_or("again when answered".to_owned(), |rate| format!("{rate}/s in all"));
    let notes = format!(
        "\n{} clients, {} bytes, {pace}; a publication includes its reply and its delivery. By HTTP {} keep-alive \
         connections publish to all channels, one request in flight on each. The floor is a bare program that does the \
         same reads and writes.\n",
        args.load.clients, args.load.size, args.connections
    );
    grid.conclude(&mut harness, &rows, &notes, Vec::new())
}

/// How publications reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Api {
    Websocket,
    Http,
}

impl Args {
    /// By HTTP publications are JSON, whatever the subscribers speak.
    fn ways(&self) -> Vec<(Api, ProtocolArg)> {
        let all =
            presets::BOTH.map(|it| (Api::Websocket, it)).into_iter().chain([(Api::Http, ProtocolArg::Json)]);
        all.filter(|(api, _)| self.api.is_none_or(|only| only == *api)).collect()
    }

    fn cell(&self, (api, protocol): (Api, ProtocolArg), floors: &[usize]) -> Cell {
        let label = match api {
            Api::Websocket => format!("WebSocket, {}", protocol.name()),
            Api::Http => "HTTP".to_owned(),
        };
        let baselines = floors.iter().map(|it| (*it, self.work(api))).collect();
        let goals = vec![Goal::TimesFloor(1.3)];
        Cell { label, protocol, k: None, goals, subject: (0, self.work(api)), baselines }
    }

    fn work(&self, api: Api) -> Work {
        let (load, connections) = (self.load.clone(), self.connections.min(self.load.clients));
        match api {
            Api::Websocket => Box::new(move |common| one_run(&common, &load)),
            Api::Http => {
                let publishing = Publishing {
                    channel: "own".into(),
                    size: load.size,
                    duration: load.duration,
                    warmup: load.warmup,
                    ..Publishing::default()
                };
                Box::new(move |common| {
                    publish::run(publish::Args::to_own_channels(
                        common,
                        publishing.clone(),
                        connections,
                        load.clients,
                    ))
                })
            }
        }
    }
}

/// What one client has sent and got.
#[derive(Clone, Copy, Default)]
struct Client {
    published: u32,
    answered: u32,
    delivered: u32,
    due_ns: u64,
}

struct Book {
    protocol: Protocol,
    scanner: Scanner,
    clients: Vec<Client>,
    /// Clients that may publish.
    free: Vec<usize>,
    latency: Histogram<u64>,
    measuring: bool,
    seen: Counts,
    disordered: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    published: u64,
    replies: u64,
    deliveries: u64,
    frames: u64,
    bytes: u64,
}

impl Load for Book {
    fn on_frame(&mut self, conn: usize, frame: &[u8], now_ns: u64) -> Result<bool, BenchError> {
        let (mut ping, mut others) = (false, Vec::new());
        let Some(client) = self.clients.get_mut(conn) else { return Ok(false) };
        let (protocol, seen, disordered) = (self.protocol, &mut self.seen, &mut self.disordered);
        let (latency, measuring) = (&mut self.latency, self.measuring);
        let before = seen.deliveries;
        self.scanner.scan(frame, |message| match message {
            Seen::Publication(stamp) => {
                let own = usize::try_from(stamp.publisher) == Ok(conn) && stamp.sequence == client.delivered;
                *disordered += u64::from(!own);
                client.delivered = client.delivered.max(stamp.sequence.saturating_add(1));
                seen.deliveries += 1;
                if measuring {
                    latency.saturating_record(now_ns.saturating_sub(client.due_ns).max(1));
                }
            }
            Seen::Ping => ping = true,
            Seen::Other(message) if is_publish_reply(protocol, message) => {
                client.answered += 1;
                seen.replies += 1;
            }
            Seen::Other(message) => others.push(message),
        })?;
        if seen.deliveries > before {
            seen.frames += 1;
            seen.bytes += u64::try_from(frame.len()).unwrap_or_default();
        }
        if !ping && client.published == client.answered && client.published == client.delivered {
            self.free.push(conn);
        }
        for other in others {
            harmless(protocol, other)?;
        }
        Ok(ping)
    }
}

impl Book {
    fn complete(&self) -> bool {
        self.seen.replies >= self.seen.published && self.seen.deliveries >= self.seen.published
    }
}

struct Channels<'a> {
    load: &'a Shape,
    engine: Engine,
    book: Book,
    run: Run,
    width: usize,
    /// The publication that goes out next by the clock, and when the first was due.
    turn: u64,
    epoch_ns: u64,
}

/// Everything that only rises, at one moment.
struct Moment {
    at_ns: u64,
    server_cpu_ns: Option<u64>,
    client_cpu_ns: u64,
    seen: Counts,
    traffic: Traffic,
}

fn one_run(common: &Common, load: &Shape) -> Result<ExitCode, BenchError> {
    let mut engine = common.engine()?;
    let mut id = [0; 4];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let run = Run::new(u32::from_ne_bytes(id));
    let width = load.clients.to_string().len();
    let mut book = Book {
        protocol: common.protocol(),
        scanner: Scanner::new(common.protocol(), run),
        clients: vec![Client::default(); load.clients],
        free: (0..load.clients).collect(),
        latency: new_histogram(),
        measuring: false,
        seen: Counts::default(),
        disordered: 0,
    };
    engine.open(load.clients, |conn| Some(channel(conn, width)), &mut book)?;
    book.free = (0..load.clients).collect();
    let epoch_ns = engine.now_ns();
    let mut channels = Channels { load, engine, book, run, width, turn: 0, epoch_ns };
    channels.publish_for(load.warmup)?;
    let counters = |common: &Common| Ok::<_, BenchError>(server::counters(&common.metrics()?));
    let counters_before = counters(common)?;
    let begin = channels.moment(common)?;
    channels.book.measuring = true;
    channels.publish_for(load.duration)?;
    channels.book.measuring = false;
    let end = channels.moment(common)?;
    let counters_after = counters(common)?;
    channels.engine.drain(&mut channels.book, |book| (book.seen, book.complete()))?;
    channels.report(common, &begin, &end, counters_before.zip(counters_after))
}

fn channel(conn: usize, width: usize) -> String {
    format!("own{conn:0width$}")
}

impl Channels<'_> {
    fn publish_for(&mut self, seconds: f64) -> Result<(), BenchError> {
        let length = Duration::try_from_secs_f64(seconds)
            .map_err(|_| BenchError::Usage("--duration and --warmup are seconds, from 0 up"))?;
        let begin = Instant::now();
        let (mut progress, mut before) = (Instant::now(), self.book.seen);
        while begin.elapsed() < length {
            let timeout = match self.load.rate {
                Some(rate) => self.publish_due(rate)?,
                None => self.publish_free()?,
            };
            self.engine.poll(timeout, &mut self.book)?;
            if self.book.seen != before {
                (progress, before) = (Instant::now(), self.book.seen);
            } else if progress.elapsed() > STALL_MAX && !self.book.complete() {
                return Err(BenchError::Stalled { what: "the run" });
            }
        }
        Ok(())
    }

    fn publish_free(&mut self) -> Result<Duration, BenchError> {
        let now = self.engine.now_ns();
        let mut free = mem::take(&mut self.book.free);
        for conn in free.drain(..) {
            self.publish(conn, now)?;
        }
        // The allocation goes back, whatever became free meanwhile stays.
        free.append(&mut self.book.free);
        self.book.free = free;
        Ok(Duration::from_millis(100))
    }

    fn publish_due(&mut self, rate: f64) -> Result<Duration, BenchError> {
        loop {
            let since = Duration::from_secs_f64(self.turn as f64 / rate);
            let due = self.epoch_ns.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
            let now = self.engine.now_ns();
            if due > now {
                return Ok(Duration::from_nanos(due - now).min(Duration::from_millis(100)));
            }
            let conn = usize::try_from(self.turn).unwrap_or_default() % self.load.clients;
            self.turn += 1;
            self.publish(conn, due)?;
        }
    }

    fn publish(&mut self, conn: usize, due_ns: u64) -> Result<(), BenchError> {
        let Some(client) = self.book.clients.get_mut(conn) else { return Ok(()) };
        let publisher = u32::try_from(conn).unwrap_or(u32::MAX);
        let mut data = Vec::with_capacity(self.load.size);
        self.run.payload(Stamp { publisher, sequence: client.published }, self.load.size, &mut data);
        client.published += 1;
        client.due_ns = due_ns;
        self.book.seen.published += 1;
        // Two numbers have their use already: connect and subscribe.
        let id = client.published.saturating_add(2);
        let request = PublishRequest {
            channel: channel(conn, self.width).into(),
            data: Some(&data),
            ..PublishRequest::default()
        };
        self.engine.command(&Command { id, request: Request::Publish(request) });
        self.engine.write(conn)
    }

    fn moment(&self, common: &Common) -> Result<Moment, BenchError> {
        Ok(Moment {
            server_cpu_ns: common.server_cpu_ns()?,
            client_cpu_ns: server::cpu_ns(std::process::id())?,
            at_ns: self.engine.now_ns(),
            seen: self.book.seen,
            traffic: self.engine.traffic,
        })
    }

    fn report(
        &self,
        common: &Common,
        begin: &Moment,
        end: &Moment,
        counters: Option<(BTreeMap<String, f64>, BTreeMap<String, f64>)>,
    ) -> Result<ExitCode, BenchError> {
        let nanoseconds = (end.at_ns - begin.at_ns) as f64;
        let seconds = nanoseconds / 1e9;
        let (seen, before) = (end.seen, begin.seen);
        let publications = (seen.replies - before.replies) as f64;
        let deliveries = (seen.deliveries - before.deliveries) as f64;
        let mut report = Report::new("channels", common);
        report.section("workload");
        report.number("clients", self.load.clients as f64);
        report.number("payload_bytes", self.load.size as f64);
        report.number("rate_per_s", self.load.rate.unwrap_or(f64::NAN));
        report.section("throughput");
        report.number("seconds", seconds);
        report.number("publications", publications);
        report.number("publications_per_s", publications / seconds);
        report.number("deliveries", deliveries);
        report.number("deliveries_per_s", deliveries / seconds);
        report.number("messages_per_frame", deliveries / (seen.frames - before.frames) as f64);
        report.number("bytes_per_delivery", (seen.bytes - before.bytes) as f64 / deliveries);
        report
            .number("reads_per_publication", (end.traffic.reads - begin.traffic.reads) as f64 / publications);
        report
            .number("client_busy", 1.0 - (end.traffic.idle_ns - begin.traffic.idle_ns) as f64 / nanoseconds);
        report.number("client_cpu", (end.client_cpu_ns - begin.client_cpu_ns) as f64 / nanoseconds);
        report.section("server");
        if let (Some(from), Some(to)) = (begin.server_cpu_ns, end.server_cpu_ns) {
            let cpu = to.saturating_sub(from) as f64;
            report.number("cpu_share", cpu / nanoseconds);
            report.number("cpu_ns_per_publication", cpu / publications);
        }
        let rise = |name: &str| {
            let (from, to) = counters.as_ref()?;
            Some(to.get(name)? - from.get(name)?)
        };
        if let Some(writes) = rise("corecast_writes_total") {
            report.number("writes", writes);
            report.number("writes_per_publication", writes / publications);
        }
        report.latency(&self.book.latency);
        let lost = seen_lost(&self.book);
        report.section("check");
        report.number("lost", lost.0 as f64);
        report.number("doubled_or_out_of_order", self.book.disordered as f64);
        report.number("unanswered", lost.1 as f64);
        report.finish()?;
        let clean = lost == (0, 0) && self.book.disordered == 0;
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Deliveries and replies that never came.
fn seen_lost(book: &Book) -> (u64, u64) {
    book.clients.iter().fold((0, 0), |(lost, unanswered), client| {
        (
            lost + u64::from(client.published.saturating_sub(client.delivered)),
            unanswered + u64::from(client.published.saturating_sub(client.answered)),
        )
    })
}
