//! Random and mutated bytes against a server, over real sockets. It must not crash, not grow, close with
//! documented codes only, and clients that behave must miss nothing.
//!
//! ```text
//! cargo run --release --example attack -- --frames 2000000
//! ```
//!
//! starts the server of the same build (`--backend ring|poll`, `--cores N`). With `--address HOST:PORT
//! --server-pid PID` it attacks one that runs. What a connection sends follows from `--seed` and its number;
//! `--first NUMBER --connections 1` begins again at a number that an error names.

mod storm;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
};
use storm::{Plan, SETTINGS, Target};

#[derive(clap::Parser)]
struct Args {
    #[arg(long, default_value_t = 2_000_000)]
    frames: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Attacking at the same time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Number of the first connection.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Of a server that runs.
    #[arg(long, requires = "server_pid")]
    address: Option<std::net::SocketAddr>,
    #[arg(long, requires = "address")]
    server_pid: Option<u32>,
    /// The server's program [default: corecast beside this program's folder]
    #[arg(long)]
    server: Option<PathBuf>,
    #[arg(long, default_value = "ring")]
    backend: String,
    #[arg(long, default_value_t = 2)]
    cores: usize,
}

/// Starts a server, and passes on what it says.
fn start(args: &Args) -> Result<(Child, Target), String> {
    let program = match &args.server {
        Some(program) => program.clone(),
        None => {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            own.ancestors().nth(2).ok_or("no folder of programs")?.join("corecast")
        }
    };
    let mut command = Command::new(&program);
    command.args(["serve", "--dev", "--set", "http_server.port=0"]);
    let (backend, cores) =
        (format!("runtime.backend={}", args.backend), format!("runtime.cores={}", args.cores));
    for setting in SETTINGS.into_iter().chain([&*backend, &*cores]) {
        command.args(["--set", setting]);
    }
    let started = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("{}: {error}", program.display()))?;
    let mut lines =
        BufReader::new(child.stderr.take().ok_or("no error output")?).lines().map_while(Result::ok);
    let address = lines.by_ref().find_map(|line| {
        eprintln!("{line}");
        line.split_once(" ready on ")?.1.split(' ').next()?.parse().ok()
    });
    thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
    let Some(address) = address else {
        let _ = child.wait();
        return Err("the server did not start".into());
    };
    let pid = child.id();
    Ok((child, Target { address, pid }))
}

fn attack(args: &Args) -> Result<bool, String> {
    let plan =
        Plan { frames: args.frames, seed: args.seed, connections: args.connections, first: args.first };
    let (mut child, target) = match (args.address, args.server_pid) {
        (Some(address), Some(pid)) => (None, Target { address, pid }),
        _ => start(args).map(|(child, target)| (Some(child), target))?,
    };
    let report = storm::run(&target, &plan);
    if let Some(child) = &mut child {
        match child.try_wait() {
            Ok(Some(status)) => eprintln!("the server has ended: {status}"),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
    let report = report?;
    print!("{report}");
    Ok(report.errors.is_empty())
}

fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    match attack(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
