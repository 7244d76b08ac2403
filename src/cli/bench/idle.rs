//! Connections that do nothing: what each costs the server in memory and in processor time.
//!
//! Each has one subscription, to one of a few shared channels or to its own, and has sent and received before
//! it is counted. Memory is the slope between two numbers of connections, so what the server needs anyway
//! drops out. As root the kernel's slabs are told as well: of the whole machine, both ends of every
//! connection. Bare connections (`--bare`, to `floor --variant hold`) by the same client say what of it
//! no server can avoid.

use super::{
    BenchError, Common,
    engine::{Engine, Quiet},
    floor::Variant,
    harness,
    own::OwnServer,
    report::Report,
    server::{self, Memory},
    slab::{self, Slabs},
};
use crate::wire::client::{Command, Request};
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
    /// Connect and send nothing at all: for a server that only accepts and waits to receive.
    #[arg(long, conflicts_with_all = ["channels", "own_channels"])]
    bare: bool,
    /// Seconds of rest before each look.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    settle: u64,
    /// Seconds over which idle processor time is taken; two ping periods say more than one.
    #[arg(long, value_name = "SECONDS", default_value_t = 50)]
    window: u64,
}

/// Starts what there is to measure, unless the user has: a server, or for bare connections something that
/// only holds them.
pub fn run_beside(mut args: Args) -> Result<ExitCode, BenchError> {
    let held = match args.bare && args.common.url.is_empty() {
        true => Some(OwnServer::floor(Variant::Hold, &args.common.server_cores)?),
        false => None,
    };
    if let Some(held) = &held {
        args.common.url = held.url();
        args.common.server_pid = Some(held.pid());
    }
    harness::single("idle", &args.common.clone(), false, &[], &|common| run(Args { common, ..args.clone() }))
}

pub fn run(args: Args) -> Result<ExitCode, BenchError> {
    if args.from == 0 || args.from >= args.to || args.channels == 0 {
        return Err(BenchError::Usage("--from and --channels must be at least 1, and --to above --from"));
    }
    let Some(pid) = args.common.server_pid else {
        return Err(BenchError::Usage(
            "idle measures the server's memory: give its process id with --server-pid",
        ));
    };
    server::has_room(Some(pid), args.to)?;
    let mut idle = Idle { engine: args.common.engine()?, quiet: Quiet(args.common.protocol()), args, pid };
    let (first, _) = idle.grow(idle.args.from)?;
    let slabs = slab::read();
    let (second, opening) = idle.grow(idle.args.to)?;
    let slabs = slabs.and_then(|from| Ok((from, slab::read()?)));
    let cpu = server::cpu_ns(pid)?;
    idle.rest(Duration::from_secs(idle.args.window))?;
    let cpu = server::cpu_ns(pid)?.saturating_sub(cpu);
    idle.report(first, second, &slabs, opening, cpu)?;
    Ok(ExitCode::SUCCESS)
}

struct Idle {
    args: Args,
    pid: u32,
    engine: Engine,
    quiet: Quiet,
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
            self.engine.open(count, channel, &mut self.quiet)?;
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

    /// Each of these connections sends something and receives an answer.
    fn exchange(&mut self, from: usize, to: usize) -> Result<(), BenchError> {
        // Leaving a channel one is not in is answered by every server, and changes nothing.
        for conn in from..to {
            self.engine
                .command(&Command { id: 3, request: Request::Unsubscribe { channel: "idle-none".into() } });
            self.engine.write(conn)?;
            if conn % 64 == 0 {
                self.engine.poll(Duration::ZERO, &mut self.quiet)?;
            }
        }
        Ok(())
    }

    /// Answers pings, nothing else.
    fn rest(&mut self, length: Duration) -> Result<(), BenchError> {
        let begin = Instant::now();
        while let Some(left) = length.checked_sub(begin.elapsed()) {
            self.engine.poll(left.min(Duration::from_secs(1)), &mut self.quiet)?;
        }
        Ok(())
    }

    fn report(
        &self,
        first: Memory,
        second: Memory,
        slabs: &io::Result<(Slabs, Slabs)>,
        opening: Duration,
        cpu_ns: u64,
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
        report.finish()
    }
}
