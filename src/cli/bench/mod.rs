//! `corecast bench`: load for any server of the protocol, and figures one can believe.
//!
//! One thread, one epoll, every subscriber checked for every message: a run in which a message was lost,
//! doubled or out of order says so and fails. Latency counts from the scheduled time of a publication, so a
//! server that stalls the publisher does not hide its stall.

mod calls;
mod engine;
mod fanout;
mod frames;
mod history;
mod idle;
mod presence;
mod publish;
mod report;
mod server;
mod slab;
mod stamp;
mod storm;
mod sys;

use super::client::{ClientError, Target};
use crate::{model::Protocol, wire::client::DecodeError};
use engine::{Engine, Options};
use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};

/// Measure a server of the protocol.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Scenario {
    /// Publishers to subscribers of one channel; every delivery is checked.
    Fanout(fanout::Args),
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
}

/// What every scenario asks.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// WebSocket address of the server.
    #[arg(long, default_value = "ws://127.0.0.1:8000/connection/websocket")]
    url: String,
    #[arg(long, value_enum, default_value_t = ProtocolArg::Json)]
    protocol: ProtocolArg,
    /// Connection token (JWT).
    #[arg(long, default_value = "")]
    token: String,
    /// Process id of the server, to measure its processor time and memory.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Address of the server's Prometheus metrics [default: /metrics on the same port]
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
    /// Run on this CPU only.
    #[arg(long, value_name = "CPU")]
    client_core: Option<usize>,
    /// Never sleep: the server does not pay for waking this client.
    #[arg(long)]
    spin: bool,
    /// Write the results here as JSON (- for standard output).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ProtocolArg {
    Json,
    Protobuf,
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
        Engine::new(Options { target, protocol: self.protocol(), token: self.token.clone(), spin: self.spin })
    }

    fn metrics(&self) -> Result<Target, BenchError> {
        let own = Target::parse(&self.url)?;
        Ok(Target::parse(&self.metrics_url.clone().unwrap_or(format!("http://{}/metrics", own.host)))?)
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
        Scenario::Fanout(args) => fanout::run(args),
        Scenario::Publish(args) => publish::run(args),
        Scenario::Idle(args) => idle::run(args),
        Scenario::Storm(args) => storm::run(args),
        Scenario::History(args) => history::run(args),
        Scenario::Presence(args) => presence::run(args),
    }
}
