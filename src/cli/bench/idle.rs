//! Connections that do nothing: what each costs the server in memory and in processor time.
//!
//! Each has one subscription, to one of a few shared channels or to its own, and has sent and received before
//! it is counted. Memory is the slope between two numbers of connections, so what the server needs anyway
//! drops out. As root the kernel's slabs are told as well: of the whole machine, both ends of every
//! connection. Bare connections (`--bare`, to `floor --variant hold`) by the same client say what of it
//! no server can avoid. `--all` measures the three one after the other, each on a server of its own, and holds as many
//! connections as the file limits allow. Streams (`--transport`) cannot answer pings, so none come.

use super::{
    BenchError, Common,
    bars::{Bar, Limit},
    engine::{self, Engine, Load},
    floor::Variant,
    harness::{self, Harness},
    own::OwnServer,
    report::Report,
    results,
    rounds::figure,
    server::{self, Memory},
    slab::{self, Slabs},
    sys,
    transport::Transport,
};
use crate::{
    cli::client::message::{self, Body},
    model::Protocol,
    wire::client::{Command, Request, SubscribeRequest},
};
use serde_json::{Value, json};
use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Connections at the first look at the memory.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    from: usize,
    /// Connections at the second.
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    to: usize,
    /// Channels they share.
    #[arg(long, value_name = "C", default_value_t = 100)]
    channels: usize,
    /// Each connection has a channel of its own.
    #[arg(long, conflicts_with = "channels")]
    own_channels: bool,
    /// Subscriptions of each connection, to channels beside each other.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "own_channels")]
    subscriptions: usize,
    /// How they are connected. All but WebSocket say everything in their first request
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    /// Connect and send nothing at all: for a server that only accepts and waits to receive.
    #[arg(long, conflicts_with_all = ["channels", "own_channels", "subscriptions", "transport"])]
    bare: bool,
    /// Seconds of rest before each look.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    settle: u64,
    /// Seconds over which idle processor time is taken: two periods of pings
    #[arg(long, value_name = "SECONDS", default_value_t = 50)]
    window: u64,
    /// Seconds between the opening and the window.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    before_window: u64,
    /// In the end open as many as the file limits allow, and hold them for so many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "bare")]
    hold: Option<u64>,
    /// Hold no more than so many
    #[arg(long, value_name = "N", default_value_t = HELD_MAX)]
    hold_max: usize,
    /// Bare connections, shared channels with --hold (40 s unless given), and own channels, with their bars
    #[arg(long, conflicts_with_all = ["bare", "own_channels", "url", "subscriptions", "transport", "tls"])]
    all: bool,
}

/// Where files are plenty, ports and patience are not.
const HELD_MAX: usize = 200_000;
/// Longer than a ping takes to come and its pong to be missed.
const HOLD_S: u64 = 40;
const KERNEL: &str = "/kernel_slab_bytes_per_connection_both_ends/sockets";
const PRIVATE: &str = "/memory/private_bytes_per_connection";
const CPU: &str = "/server/cpu_us_per_s_per_connection";

/// Starts what there is to measure, unless the user has: a server, or for bare connections something that
/// only holds them.
///
/// # Errors
/// Those of the runs.
pub fn run_beside(mut args: Args) -> Result<ExitCode, BenchError> {
    if args.all {
        return run_all(&args);
    }
    let held = match args.bare && args.common.url.is_empty() {
        true => Some(OwnServer::floor(Variant::Hold, &args.common.server_cores)?),
        false => None,
    };
    if let Some(held) = &held {
        args.common.url = held.url();
        args.common.server_pid = Some(held.pid());
    }
    let bars = |run: &Value| args.bars(run);
    let common = Common { transport: args.transport, ..args.common.clone() };
    let settings = args.transport.settings();
    harness::single("idle", &common, false, settings, &bars, &|common| run(Args { common, ..args.clone() }))
}

/// Whether there was a window to measure processor time in.
fn watched(run: &Value) -> bool {
    figure(run, "/workload/window_s") != Some(0.0)
}

/// Of connections over WebSocket and without TLS, with one subscription.
fn plain_bars(run: &Value, own_channels: bool) -> Vec<Bar> {
    if own_channels {
        return vec![Bar::of(run, PRIVATE, "P7", "private memory, a channel each", 1434.0, "B")];
    }
    let mut bars = vec![Bar::of(run, PRIVATE, "P7", "private memory, shared channels", 1024.0, "B")];
    if watched(run) {
        bars.push(Bar::of(run, CPU, "P7", "CPU per second, pings of 25 s", 0.5, "µs"));
    }
    if let Some(limit) = figure(run, "/held/file_limits_allow") {
        let held = figure(run, "/held/connections");
        let what = "held at the file limit".to_owned();
        bars.push(Bar { row: "P7", what, unit: "", limit: Limit::AtLeast(limit), figure: held });
    }
    bars
}

impl Args {
    /// The bars of what this measures, if there are any.
    fn bars(&self, run: &Value) -> Vec<Bar> {
        let tls = self.common.tls || self.common.url.starts_with("wss:");
        let private = |row, what, most| vec![Bar::of(run, PRIVATE, row, what, most, "B")];
        match (self.transport, tls, self.own_channels) {
            _ if self.bare || self.subscriptions > 1 => Vec::new(),
            (Transport::Websocket, false, own_channels) => plain_bars(run, own_channels),
            (Transport::Websocket, true, false) => private("T1", "private memory, TLS", 12_288.0),
            (Transport::HttpStream, false, false) => private("T7", "private memory, http_stream", 2048.0),
            _ => Vec::new(),
        }
    }

    /// Only the memory of connections with so many subscriptions to shared channels.
    /// Between `from` and `to` of them, each time after `settle` seconds of rest.
    pub fn memory(common: Common, (from, to): (usize, usize), subscriptions: usize, settle: u64) -> Self {
        Self {
            transport: common.transport,
            common,
            from,
            to,
            channels: 100,
            own_channels: false,
            subscriptions,
            bare: false,
            settle,
            window: 0,
            before_window: 0,
            hold: None,
            hold_max: 0,
            all: false,
        }
    }
}

/// Bare ones first: what a server needs to begin with must not count as theirs.
fn run_all(args: &Args) -> Result<ExitCode, BenchError> {
    let mut harness = Harness::empty("idle", &args.common, false)?;
    let cores = harness.common().server_cores.clone();
    let bare = harness.add_bare("bare")?;
    let shared = harness.add_corecast("shared channels", &cores, &[])?;
    let own = harness.add_corecast("own channels", &cores, &[])?;
    harness.setup()?;
    let hold = Some(args.hold.unwrap_or(HOLD_S));
    let part = Args { window: 0, hold: None, all: false, ..args.clone() };
    let parts = [
        (bare, Args { bare: true, ..part.clone() }),
        (shared, Args { window: args.window, hold, ..part.clone() }),
        (own, Args { own_channels: true, ..part }),
    ];
    let mut runs = Vec::new();
    for (server, part) in parts {
        harness.say(harness.name(server));
        let work = move |common| run(Args { common, ..part.clone() });
        let name = harness.name(server).to_owned();
        runs.push((name.clone(), harness.run(server, None, &json!(name), &work)?));
    }
    let kernel = |run: usize| figure(&runs.get(run)?.1, KERNEL);
    let times = kernel(1).zip(kernel(0)).map(|(ours, bare)| ours / bare);
    let mut all = plain_bars(&runs[1].1, false);
    all.extend(plain_bars(&runs[2].1, true));
    all.push(Bar::at_most("P7", "kernel memory ÷ that of a bare connection", times, 1.1, ""));
    let lines: Vec<Vec<String>> = runs.iter().map(|(name, run)| line(name, run)).collect();
    let head = ["connections", "private B", "PSS B", "kernel B, both ends", "CPU µs/s", "opening s"];
    let summary = format!(
        "# Idle connections\n\n{}. Each figure is of one connection: the slope between {} and {} of them. CPU over {} s, \
         beginning {} s after the opening.\n\n{}",
        harness.hardware(),
        args.from,
        args.to,
        args.window,
        args.before_window,
        results::table(&head, &lines)
    );
    let rows: Value =
        runs.into_iter().map(|(name, run)| json!({"connections": name, "figures": run})).collect();
    harness.finish(&summary, None, &rows, &all)?;
    Ok(ExitCode::SUCCESS)
}

fn line(name: &str, run: &Value) -> Vec<String> {
    let show =
        |path: &str, digits: usize| figure(run, path).map_or("–".to_owned(), |it| format!("{it:.digits$}"));
    let cpu = if watched(run) { show(CPU, 3) } else { "–".to_owned() };
    vec![
        name.to_owned(),
        show(PRIVATE, 0),
        show("/memory/pss_bytes_per_connection", 0),
        show(KERNEL, 0),
        cpu,
        show("/server/opening_s", 2),
    ]
}

pub fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.from == 0 || args.from >= args.to || args.channels == 0 {
        return Err(BenchError::Usage("--from and --channels must be at least 1, and --to above --from"));
    }
    if args.subscriptions == 0 || args.subscriptions > args.channels {
        return Err(BenchError::Usage("--subscriptions must be at least 1, and at most --channels"));
    }
    if args.subscriptions > 1 && args.common.transport != Transport::Websocket {
        return Err(BenchError::Usage("--subscriptions is for WebSocket: others cannot ask for more later"));
    }
    let Some(pid) = args.common.server_pid else {
        return Err(BenchError::Usage(
            "idle measures the server's memory: give its process id with --server-pid",
        ));
    };
    server::has_room(Some(pid), args.to)?;
    let book = Book { protocol: args.common.protocol(), subscribed: 0 };
    let mut idle = Idle { engine: args.common.engine()?, book, args, pid };
    let (first, _) = idle.grow(idle.args.from)?;
    let slabs = slab::read();
    let (second, opening) = idle.grow(idle.args.to)?;
    let slabs = slabs.and_then(|from| Ok((from, slab::read()?)));
    if idle.args.window > 0 {
        idle.rest(Duration::from_secs(idle.args.before_window))?;
    }
    let cpu = server::cpu_ns(pid)?;
    idle.rest(Duration::from_secs(idle.args.window))?;
    let cpu = server::cpu_ns(pid)?.saturating_sub(cpu);
    let held = idle.hold()?;
    idle.report(first, second, &slabs, opening, cpu, held)?;
    // Ports that wait for late packets would count as memory of whatever is measured next.
    idle.engine.cut(0, true)?;
    Ok(ExitCode::SUCCESS)
}

/// Connections that ask for more subscriptions at the same time.
const SUBSCRIBING: usize = 16;
/// Below are connect and subscribe.
const FIRST_ID: u32 = 3;

/// Takes notice of pings and of replies to subscribes.
struct Book {
    protocol: Protocol,
    subscribed: usize,
}

impl Load for Book {
    fn on_frame(&mut self, _: usize, frame: &[u8], _: u64) -> Result<bool, BenchError> {
        let mut ping = false;
        for message in message::decode(self.protocol, frame)? {
            match message.body {
                Body::Ping => ping = true,
                Body::Subscribe(_) => self.subscribed += 1,
                Body::Error { code, message: text, .. } if message.id > FIRST_ID => {
                    return Err(BenchError::Refused { code, message: text });
                }
                _ => {}
            }
        }
        Ok(ping)
    }
}

struct Idle {
    args: Args,
    pid: u32,
    engine: Engine,
    book: Book,
}

impl Idle {
    /// Memory with `count` connections, and how long it took to open the new ones.
    fn grow(&mut self, count: usize) -> Result<(Memory, Duration), BenchError> {
        let before = self.engine.connections();
        let channels = self.args.channels;
        let own = self.args.own_channels;
        let channel = |conn: usize| Some(format!("idle{}", if own { conn } else { conn % channels }));
        let begin = Instant::now();
        if self.args.bare {
            self.engine.open_bare(count)?;
        } else {
            self.engine.open(count, channel, &mut self.book)?;
            self.subscribe(before, count)?;
            self.exchange(before, count)?;
        }
        let opening = begin.elapsed();
        self.rest(Duration::from_secs(self.args.settle))?;
        let memory = server::memory(self.pid)?;
        if !self.args.common.quiet {
            eprintln!("{count} connections: {} KiB private", memory.private / 1024);
        }
        Ok((memory, opening))
    }

    /// The subscriptions of these connections beyond the first.
    fn subscribe(&mut self, from: usize, to: usize) -> Result<(), BenchError> {
        let more = self.args.subscriptions - 1;
        if more == 0 {
            return Ok(());
        }
        self.book.subscribed = 0;
        for conn in from..to {
            let commands = (1..=more).map(|at| {
                let channel = format!("idle{}", (conn + at) % self.args.channels).into();
                let request = SubscribeRequest { channel, ..Default::default() };
                let id = FIRST_ID.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
                Command { id, request: Request::Subscribe(Box::new(request)) }
            });
            let commands: Vec<_> = commands.collect();
            self.engine.commands(&commands);
            self.engine.write(conn)?;
            // Few at a time, or what waits meanwhile would count as memory of the subscriptions.
            if conn % SUBSCRIBING == 0 || conn + 1 == to {
                let wanted = (conn + 1 - from) * more;
                self.engine.drain(&mut self.book, |book| (book.subscribed, book.subscribed >= wanted))?;
                if self.book.subscribed < wanted {
                    return Err(BenchError::Stalled { what: "the subscribing" });
                }
            }
        }
        Ok(())
    }

    /// Each of these connections sends something and receives an answer. Streams have, with their request.
    fn exchange(&mut self, from: usize, to: usize) -> Result<(), BenchError> {
        if self.args.common.transport != Transport::Websocket {
            return Ok(());
        }
        // Leaving a channel one is not in is answered by every server, and changes nothing.
        for conn in from..to {
            self.engine.command(&Command {
                id: FIRST_ID,
                request: Request::Unsubscribe { channel: "idle-none".into() },
            });
            self.engine.write(conn)?;
            if conn % 64 == 0 {
                self.engine.poll(Duration::ZERO, &mut self.book)?;
            }
        }
        Ok(())
    }

    /// Answers pings, nothing else.
    fn rest(&mut self, length: Duration) -> Result<(), BenchError> {
        let begin = Instant::now();
        while let Some(left) = length.checked_sub(begin.elapsed()) {
            self.engine.poll(left.min(Duration::from_secs(1)), &mut self.book)?;
        }
        Ok(())
    }

    /// Opens what the file limits of both ends allow and holds all of it; how many are open in the end, and how
    /// many could be.
    fn hold(&mut self) -> Result<Option<(usize, usize)>, BenchError> {
        let Some(seconds) = self.args.hold else { return Ok(None) };
        let server = server::file_limit(self.pid)?.unwrap_or(u64::MAX).saturating_sub(server::FILES_SPARE);
        let client = sys::raise_file_limit()?.saturating_sub(engine::FILES_SPARE);
        let limit = usize::try_from(server.min(client)).unwrap_or(usize::MAX).min(self.args.hold_max);
        self.grow(limit.max(self.args.to))?;
        // A connection that the server closes ends the run.
        self.rest(Duration::from_secs(seconds))?;
        Ok(Some((self.engine.connections(), limit)))
    }

    fn report(
        &self,
        first: Memory,
        second: Memory,
        slabs: &io::Result<(Slabs, Slabs)>,
        opening: Duration,
        cpu_ns: u64,
        held: Option<(usize, usize)>,
    ) -> Result<(), BenchError> {
        let args = &self.args;
        let between = (args.to - args.from) as f64;
        let slope = |of: fn(Memory) -> u64| (of(second) as f64 - of(first) as f64) / between;
        let mut report = Report::new("idle", &args.common);
        report.section("workload");
        report.number("from", args.from as f64);
        report.number("to", args.to as f64);
        match (args.bare, args.own_channels) {
            (true, _) => report.number("channels", 0.0),
            (false, true) => report.number("channels", args.to as f64),
            (false, false) => report.number("channels", args.channels as f64),
        }
        report.number("subscriptions_each", if args.bare { 0.0 } else { args.subscriptions as f64 });
        report.number("window_s", args.window as f64);
        report.section("memory");
        report.number("private_bytes_per_connection", slope(|it| it.private));
        report.number("pss_bytes_per_connection", slope(|it| it.pss));
        report.number("rss_bytes_per_connection", slope(|it| it.rss));
        report.number("private_bytes_at_from", first.private as f64);
        report.number("private_bytes_at_to", second.private as f64);
        report.section("kernel_slab_bytes_per_connection_both_ends");
        match slabs {
            Ok((from, to)) => {
                let slopes = slab::slopes(from, to, args.to - args.from);
                let sum = |of: fn(&str) -> bool| slopes.iter().filter(|it| of(&it.0)).map(|it| it.1).sum();
                report.number("sockets", sum(slab::of_sockets));
                report.number("everything", sum(|_| true));
                slopes.iter().for_each(|(name, slope)| report.number(name, *slope));
            }
            Err(error) => {
                report.number("sockets", f64::NAN);
                eprintln!("the kernel's memory is unknown: /proc/slabinfo: {error}; only root may read it");
            }
        }
        report.section("server");
        let per_second = cpu_ns as f64 / 1e3 / args.window.max(1) as f64;
        report.number("cpu_us_per_s", per_second);
        report.number("cpu_us_per_s_per_connection", per_second / args.to as f64);
        report.number("opening_s", opening.as_secs_f64());
        if let Some((held, limit)) = held {
            report.section("held");
            report.number("connections", held as f64);
            report.number("file_limits_allow", limit as f64);
        }
        report.finish()
    }
}
