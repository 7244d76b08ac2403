//! `corecast bench`: load for any server of the protocol, and figures one can believe.
//!
//! One thread, one epoll, every subscriber checked for every message: a run in which a message was lost,
//! doubled or out of order says so and fails. Latency counts from the scheduled time of a publication, so a
//! server that stalls the publisher does not hide its stall.

mod all;
mod bars;
mod calls;
mod channels;
mod compressed;
mod connects;
mod cores;
mod engine;
mod fanout;
mod floor;
mod frames;
mod grid;
mod handshakes;
mod harness;
mod history;
mod idle;
mod latency;
mod own;
mod permission;
mod plot;
mod presence;
mod presets;
mod publish;
mod published;
mod report;
mod results;
mod rounds;
mod server;
mod slab;
mod stamp;
mod storm;
mod subscriptions;
mod sys;
mod tls;
mod transport;
mod transports;

use super::client::{ClientError, Target};
use crate::{model::Protocol, wire::client::DecodeError};
use engine::{Engine, Options};
use serde_json::Value;
use std::{cell::RefCell, io, net::SocketAddr, path::PathBuf, process::ExitCode, rc::Rc};
use transport::Transport;

/// Measure a server of the protocol.
///
/// Without --url every scenario starts a server of its own, on a free port and on a CPU of its own, and ends it.
/// Results go to bench-results/<date>-<machine>-<scenario>/: setup, raw data, summary, plot. docs/BENCH.md says
/// what each figure means.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Scenario {
    /// Publishers to subscribers of one channel; every delivery is checked.
    Fanout(fanout::Args),
    /// Fan-out at 1, 4, 16 and 64 messages per write, JSON and Protobuf, against the floor.
    Floor(presets::FloorArgs),
    /// The shape of Centrifugo's write-up: 1000 subscribers, 4 publishers that wait for their replies.
    Seed(presets::SeedArgs),
    /// Few publications per second to many subscribers, by the clock.
    Paced(presets::PacedArgs),
    /// Every client publishes to a channel of its own.
    Channels(channels::Args),
    /// Time from publishing to delivery, by the schedule, beside a bare relay.
    Latency(latency::Args),
    /// Two cores against one: publications that stay on their core, and such that do not.
    Cores(cores::Args),
    /// Publishers to a channel without subscribers, by WebSocket or by the HTTP API.
    Publish(publish::Args),
    /// Many connections that do nothing: memory and processor time of each.
    Idle(idle::Args),
    /// Everybody connects at once, is cut at once, and comes back for what was missed.
    Storm(storm::Args),
    /// What history costs: each publication, each recovery.
    History(history::Args),
    /// Presence and its statistics of a channel with many clients.
    Presence(presence::Args),
    /// A broadcast to clients that agreed to compression, beside the same without.
    Compressed(compressed::Args),
    /// A broadcast over TLS, beside the same without.
    Tls(tls::Args),
    /// What connected clients feel of a storm of TLS handshakes.
    Handshakes(handshakes::Args),
    /// A broadcast to subscribers of http_stream and sse, beside the same over WebSocket.
    Transports(transports::Args),
    /// Connecting without a token, with a good one and with a bad one.
    Connects(connects::Args),
    /// Memory of subscriptions beyond the first on a connection.
    Subscriptions(subscriptions::Args),
    /// How long a permission check takes.
    Permission(permission::Args),
    /// Every scenario that has a bar, one after the other, and one table of all bars.
    All(all::Args),
    /// The floor: bare programs that write the same bytes and do nothing else.
    #[command(hide = true)]
    FloorServer(floor::Args),
    /// The storm of handshakes: connections that are made and cut.
    #[command(hide = true)]
    Crowd(handshakes::CrowdArgs),
}

/// What every scenario asks.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// WebSocket address of any server of the protocol; without it a server is started
    #[arg(long, default_value = "", hide_default_value = true)]
    url: String,
    /// Encoding; scenarios that measure both take no notice
    #[arg(long, value_enum, default_value_t = ProtocolArg::Json)]
    protocol: ProtocolArg,
    /// Connection token (JWT)
    #[arg(long, default_value = "", hide_default_value = true)]
    token: String,
    /// Offer compression (permessage-deflate, no context takeover), and end if the server does not agree to it
    #[arg(long)]
    compression: bool,
    /// Process id of the server at --url, to measure its processor time and memory
    #[arg(long, value_name = "PID", requires = "url")]
    server_pid: Option<u32>,
    /// Address of the server's Prometheus metrics [default: /metrics on the same port]
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
    /// CPUs of the server that is started, and of the floor: 0 or 0,2 [default: 0 where there are several CPUs]
    #[arg(long, visible_alias = "server-core", value_name = "CPU", value_delimiter = ',')]
    server_cores: Vec<usize>,
    /// A setting of the server that is started, as runtime.backend=poll; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "url")]
    server_set: Vec<String>,
    /// Put the server that is started behind TLS, with a certificate made for the run; with --url take wss://.
    /// Certificates are not checked
    #[arg(long, conflicts_with = "url")]
    tls: bool,
    /// Run the client on this CPU only [default: one beside the server's that is started]
    #[arg(long, value_name = "CPU")]
    client_core: Option<usize>,
    /// Never sleep: the server does not pay for waking this client [default: where it has a CPU for itself]
    #[arg(long)]
    spin: bool,
    /// Sleep when there is nothing to do
    #[arg(long, conflicts_with = "spin")]
    no_spin: bool,
    /// Folder of the results [default: bench-results/<date>-<machine>-<scenario>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the figures here as JSON (- for standard output), and no folder unless --out is given
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress on standard error
    #[arg(long)]
    quiet: bool,
    /// Where the figures of a run go when it is part of something.
    #[arg(skip)]
    sink: Option<Sink>,
    /// How subscribers are connected, in scenarios that let one choose.
    #[arg(skip)]
    transport: Transport,
}

/// Rounds against the floor, for the scenarios that have one.
#[derive(Clone, Debug, clap::Args)]
struct RoundsArgs {
    /// Rounds that count, of each figure: floors, server, floors. A round whose floors differ by more than a
    /// tenth is repeated
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measure the server alone
    #[arg(long)]
    no_floor: bool,
}

/// Figures of one run and their text.
#[derive(Clone, Debug, Default)]
struct Sink(Rc<RefCell<Option<(Value, String)>>>);

impl Sink {
    fn put(&self, figures: Value, text: String) {
        *self.0.borrow_mut() = Some((figures, text));
    }

    fn take(&self) -> Option<(Value, String)> {
        self.0.borrow_mut().take()
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ProtocolArg {
    Json,
    Protobuf,
}

impl ProtocolArg {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Protobuf => "Protobuf",
        }
    }
}

impl Common {
    fn protocol(&self) -> Protocol {
        match self.protocol {
            ProtocolArg::Json => Protocol::Json,
            ProtocolArg::Protobuf => Protocol::Protobuf,
        }
    }

    fn engine(&self) -> Result<Engine, BenchError> {
        if let Some(core) = self.client_core {
            sys::pin_to(core).map_err(|source| BenchError::Pin { core, source })?;
        }
        if let Some(pid) = self.server_pid {
            server::cpu_ns(pid)?;
        }
        let target = Target::parse(&self.url)?;
        let (protocol, token) = (self.protocol(), self.token.clone());
        let (spin, compression, transport) = (self.spin, self.compression, self.transport);
        Engine::new(Options { target, protocol, token, spin, compression, transport })
    }

    fn metrics(&self) -> Result<Target, BenchError> {
        let own = Target::parse(&self.url)?;
        let scheme = if own.tls { "https" } else { "http" };
        Ok(Target::parse(&self.metrics_url.clone().unwrap_or(format!("{scheme}://{}/metrics", own.host)))?)
    }

    fn server_cpu_ns(&self) -> Result<Option<u64>, BenchError> {
        self.server_pid.map(server::cpu_ns).transpose()
    }
}

/// Why a run ended without figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Target(#[from] ClientError),
    #[error("nothing listens on {to} ({source}); start a server or give --url")]
    Connect { to: SocketAddr, source: io::Error },
    #[error("{url} did not become a WebSocket: the server answered {reason}; is the path right?")]
    Upgrade { url: String, reason: String },
    #[error("{path} is no {what}: the server answered {reason}; is it enabled ({what}.enabled)?")]
    Stream { what: &'static str, path: String, reason: String },
    #[error(
        "the server refused a connection or its subscription: {code} {message}; allow subscribing and publishing for anonymous clients, or give --token"
    )]
    Refused { code: u32, message: String },
    #[error(
        "the server answered a publication with {code} {message}; allow publishing in its channel options"
    )]
    PublishRefused { code: u32, message: String },
    #[error("the server closed a connection: {code} {reason}")]
    Closed { code: u16, reason: String },
    #[error("the server ended a subscription: {code} {reason}")]
    Unsubscribed { code: u32, reason: String },
    #[error(
        "{needed} open files are needed, the hard limit is {limit}; raise it (ulimit -Hn, LimitNOFILE=) or take fewer connections"
    )]
    Files { needed: u64, limit: u64 },
    #[error(
        "the server needs {needed} open files, its hard limit is {limit}; raise it (ulimit -Hn, LimitNOFILE=) or take fewer connections"
    )]
    ServerFiles { needed: u64, limit: u64 },
    #[error(
        "the server answered {call} with {code} {message}; its channel options must allow it (see --help)"
    )]
    CallRefused { call: &'static str, code: u32, message: String },
    #[error("the answer to {call} is wrong: {problem}")]
    WrongReply { call: &'static str, problem: String },
    #[error("HTTP: {0}")]
    Http(String),
    #[error("nothing moved for {} s during {what}", engine::STALL_MAX.as_secs())]
    Stalled { what: &'static str },
    #[error("the server is {waiting} publications behind; choose a lower --rate")]
    Behind { waiting: u64 },
    #[error("no {what} of process {pid}: {source}")]
    Process { pid: u32, what: &'static str, source: io::Error },
    #[error("cannot run on CPU {core}: {source}")]
    Pin { core: usize, source: io::Error },
    #[error("the storm did not get a single connection through")]
    NoStorm,
    #[error("the server did not start: {reason}")]
    OwnServer { reason: String },
    #[error("{server}: not every message arrived once and in order, so these figures do not count\n{text}")]
    Faults { server: String, text: String },
    #[error("{0}")]
    Usage(&'static str),
    #[error(transparent)]
    Frame(#[from] frames::FrameError),
    #[error("the server sent what is not of the protocol: {0}")]
    Message(#[from] DecodeError),
    #[error("cannot write {path}: {source}")]
    Output { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs one scenario and prints its figures.
///
/// Exit code 1 when the run finished but a message was lost, doubled or out of order.
///
/// # Errors
/// [`BenchError`] when there are no figures.
pub fn run(args: Args) -> Result<ExitCode, BenchError> {
    match args.scenario {
        Scenario::Fanout(args) => presets::fanout(args),
        Scenario::Floor(args) => presets::floor(&args),
        Scenario::Seed(args) => presets::seed(&args),
        Scenario::Paced(args) => presets::paced(&args),
        Scenario::Channels(args) => channels::run(args),
        Scenario::Latency(args) => latency::run(&args),
        Scenario::Cores(args) => cores::run(&args),
        Scenario::Publish(args) => publish::run_beside(&args),
        Scenario::Idle(args) => idle::run_beside(args),
        Scenario::Storm(args) => storm::run_beside(&args),
        Scenario::History(args) => history::run_beside(&args),
        Scenario::Presence(args) => presence::run_beside(&args),
        Scenario::Compressed(args) => compressed::run(&args),
        Scenario::Tls(args) => tls::run(&args),
        Scenario::Handshakes(args) => handshakes::run(&args),
        Scenario::Transports(args) => transports::run(&args),
        Scenario::Connects(args) => connects::run(&args),
        Scenario::Subscriptions(args) => subscriptions::run(&args),
        Scenario::Permission(args) => permission::run(&args),
        Scenario::Crowd(args) => handshakes::run_crowd(&args),
        Scenario::All(args) => all::run(&args),
        Scenario::FloorServer(args) => {
            floor::run(&args)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
