//! The storm: a process of its own that begins connections over TLS and cuts them, until it is told to end.

use super::hellos::Hellos;
use crate::{
    cli::{
        bench::{
            BenchError,
            engine::{Engine, Options, Quiet},
            sys,
            transport::Transport,
        },
        client::Target,
    },
    model::Protocol,
};
use serde_json::{Value, json};
use std::{
    io::{self, Read as _},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

/// Connections that are cut together, for each that may be on its way.
const KEPT_PER_PLACE: usize = 4;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    url: String,
    #[arg(long)]
    at_once: u16,
    /// Go as soon as the server has answered the first message of TLS
    #[arg(long)]
    hellos: bool,
}

/// What a storm came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    pub done: u64,
    pub failed: u64,
    pub seconds: f64,
}

impl Seen {
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        Some(Self {
            done: value["done"].as_u64()?,
            failed: value["failed"].as_u64()?,
            seconds: value["seconds"].as_f64()?,
        })
    }
}

/// The process; dropping it ends it.
pub struct Crowd(Child);

impl Crowd {
    /// # Errors
    /// [`BenchError::Io`] when it cannot be started.
    pub fn start(url: &str, core: Option<usize>, at_once: u16, hellos: bool) -> Result<Self, BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "crowd", "--url", url, "--at-once", &at_once.to_string()]);
        if hellos {
            command.arg("--hellos");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        sys::bind_child(&mut command, core.as_slice())?;
        Ok(Self(command.spawn()?))
    }

    /// Tells it to end, and what it came to.
    ///
    /// # Errors
    /// [`BenchError::Io`] when it ended by itself; what it said is on standard error.
    pub fn end(mut self) -> Result<Seen, BenchError> {
        // Its input ends: that is the sign.
        drop(self.0.stdin.take());
        let mut said = String::new();
        if let Some(mut stdout) = self.0.stdout.take() {
            stdout.read_to_string(&mut said)?;
        }
        self.0.wait()?;
        Seen::read(&said).ok_or_else(|| io::Error::other("the storm ended by itself").into())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// # Errors
/// [`BenchError`] when a connection cannot even be begun, or nothing moves.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    sys::run_when_idle()?;
    let (target, ended) = (Target::parse(&args.url)?, end_of_input());
    let ended = || ended.load(Ordering::Relaxed);
    let seen = match args.hellos {
        true => Hellos::new(target, args.at_once.into())?.run(ended)?,
        false => whole_handshakes(target, args.at_once.into(), ended)?,
    };
    println!("{}", json!({"done": seen.done, "failed": seen.failed, "seconds": seen.seconds}));
    Ok(ExitCode::SUCCESS)
}

fn whole_handshakes(target: Target, at_once: usize, ended: impl Fn() -> bool) -> Result<Seen, BenchError> {
    let protocol = Protocol::Json;
    let mut engine = Engine::new(Options {
        target,
        protocol,
        token: String::new(),
        spin: false,
        compression: false,
        transport: Transport::Websocket,
    })?;
    engine.never_resume()?;
    engine.forgive = true;
    engine.opening_max = at_once;
    let (mut quiet, mut seen) = (Quiet(protocol), Seen::default());
    let begin = Instant::now();
    loop {
        let count = at_once * KEPT_PER_PLACE;
        engine.open(count, |_| None, &mut quiet)?;
        let failed = engine.lost.len();
        if let Some(error) = engine.lost.first().filter(|_| seen.failed == 0) {
            eprintln!("a connection of the storm failed: {error}");
        }
        seen.done += u64::try_from(count - failed).unwrap_or_default();
        seen.failed += u64::try_from(failed).unwrap_or_default();
        engine.cut(0, true)?;
        if ended() {
            break;
        }
    }
    seen.seconds = begin.elapsed().as_secs_f64();
    Ok(seen)
}

/// Becomes true when nobody holds the other end of standard input any more.
fn end_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    thread::spawn(move || {
        // Whatever is said, and however it ends, ends this.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
    });
    ended
}
