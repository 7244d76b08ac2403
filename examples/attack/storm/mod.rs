//! The attack itself: many connections at once that send random and mutated bytes, and beside them clients
//! that must notice nothing. It ends with what the server has kept.

mod control;
mod frame;
mod heard;
mod host;
mod http;
mod message;
mod session;

pub use control::Beats;
pub use session::Tally;

use control::Control;
use corecast::model::Protocol;
use host::{Held, held};
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Settings of a server under attack, besides `--dev`: what it has to remember by right ends soon, so that
/// what it keeps is what it lost.
pub const SETTINGS: [&str; 4] = [
    "websocket.compression=true",
    "channel.without_namespace.history_size=10",
    "channel.without_namespace.history_ttl=1s",
    "channel.without_namespace.history_meta_ttl=2s",
];

const GROWTH_MAX: u64 = 64 << 20;
/// Time between the beats of a control client.
const BEAT: Duration = Duration::from_millis(5);
/// How long the server may take to let go of what the attack has left.
const CALM: Duration = Duration::from_secs(30);
/// Errors that are told; one is enough to fail.
const ERRORS_MAX: usize = 10;

#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub pid: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub frames: u64,
    pub seed: u64,
    pub connections: usize,
    /// The number of the first connection, to look again at what another run has found.
    pub first: u64,
}

#[derive(Debug, Default)]
pub struct Report {
    pub tally: Tally,
    pub beats: Beats,
    pub took: Duration,
    before: Held,
    after: Held,
    commands: u64,
    pub errors: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { sessions, frames, mutated, messages, ends, statuses } = &self.tally;
        writeln!(f, "{frames} frames ({mutated} mutated) on {sessions} connections in {:.1?}", self.took)?;
        writeln!(f, "the server decoded {} commands and sent {messages} messages", self.commands)?;
        writeln!(f, "ends by close code (0: none, 1: ours): {ends:?}")?;
        writeln!(f, "HTTP by status: {statuses:?}")?;
        writeln!(f, "control clients: {} beats, slowest {:.1?}", self.beats.count, self.beats.slowest)?;
        let (before, after) = (self.before, self.after);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "private memory: {:.1} MiB before, {:.1} MiB after",
            mib(before.private),
            mib(after.private)
        )?;
        writeln!(f, "open files: {} before, {} after", before.files, after.files)?;
        for error in &self.errors {
            writeln!(f, "WRONG: {error}")?;
        }
        Ok(())
    }
}

struct State {
    frames: AtomicU64,
    next: AtomicU64,
    over: AtomicBool,
    tally: Mutex<Tally>,
    errors: Mutex<Vec<String>>,
}

impl State {
    fn wrong(&self, error: String) {
        self.over.store(true, Relaxed);
        let mut errors = self.errors.lock().expect("no panic holds it");
        if errors.len() < ERRORS_MAX {
            errors.push(error);
        }
    }

    fn attack(&self, target: &Target, plan: &Plan) {
        let mut tally = Tally::default();
        while !self.over.load(Relaxed) && self.frames.load(Relaxed) < plan.frames {
            let number = self.next.fetch_add(1, Relaxed);
            let before = tally.frames;
            if let Err(error) = session::run(target, plan.seed, number, &mut tally) {
                self.wrong(format!("connection {number}: {error}"));
            }
            self.frames.fetch_add(tally.frames - before, Relaxed);
        }
        self.tally.lock().expect("no panic holds it").merge(&tally);
    }

    fn watch(&self, mut control: Control) -> Control {
        while !self.over.load(Relaxed) {
            if let Err(error) = control.beat() {
                self.wrong(error);
            }
            thread::sleep(BEAT);
        }
        control
    }
}

/// Attacks the server and tells what came of it.
///
/// # Errors
/// The attack could not begin.
pub fn run(target: &Target, plan: &Plan) -> Result<Report, String> {
    let begun = Instant::now();
    let mut controls = Vec::new();
    for (protocol, channel) in [(Protocol::Json, "beat1"), (Protocol::Protobuf, "beat2")] {
        let mut control = Control::new(target, protocol, channel)?;
        control.beat()?;
        controls.push(control);
    }
    let mut report = Report { before: calm(target, controls.len())?, ..Report::default() };
    let state = State {
        frames: AtomicU64::new(0),
        next: AtomicU64::new(plan.first),
        over: AtomicBool::new(false),
        tally: Mutex::default(),
        errors: Mutex::default(),
    };
    let (state, mut controls) = thread::scope(|scope| {
        let watched: Vec<_> =
            controls.into_iter().map(|control| scope.spawn(|| state.watch(control))).collect();
        let attackers: Vec<_> =
            (0..plan.connections).map(|_| scope.spawn(|| state.attack(target, plan))).collect();
        attackers.into_iter().for_each(|it| it.join().expect("no panic"));
        state.over.store(true, Relaxed);
        let controls: Vec<_> = watched.into_iter().map(|it| it.join().expect("no panic")).collect();
        (&state, controls)
    });
    report.took = begun.elapsed();
    report.tally = std::mem::take(&mut state.tally.lock().expect("no panic holds it"));
    report.errors = std::mem::take(&mut state.errors.lock().expect("no panic holds it"));
    if let Err(error) = aftermath(target, &mut controls, &mut report) {
        report.errors.push(error);
    }
    for control in &controls {
        report.beats.count += control.beats().count;
        report.beats.slowest = report.beats.slowest.max(control.beats().slowest);
    }
    Ok(report)
}

fn aftermath(target: &Target, controls: &mut [Control], report: &mut Report) -> Result<(), String> {
    report.after = calm(target, controls.len())?;
    controls.iter_mut().try_for_each(Control::beat)?;
    report.commands = host::counter(target, "corecast_commands_received_total")?;
    let (before, after) = (report.before, report.after);
    if after.private > before.private + GROWTH_MAX {
        report.errors.push(format!("private memory grew by more than {} MiB", GROWTH_MAX >> 20));
    }
    if after.files != before.files {
        report.errors.push("files were left open".into());
    }
    let found = host::counter(target, "corecast_timer_found_work_total")?;
    if found > 0 {
        report.errors.push(format!("the safety timer found work {found} times"));
    }
    Ok(())
}

/// Waits until only the control clients and their channels are left.
fn calm(target: &Target, clients: usize) -> Result<Held, String> {
    let begun = Instant::now();
    loop {
        // The one that asks is open as well.
        let open = host::counter(target, "corecast_connections_open")?;
        let channels = host::channels(target)?;
        if open == clients as u64 + 1 && channels == clients {
            // The connection of the question may still be closing.
            let files = held(target.pid)?.files;
            thread::sleep(Duration::from_millis(200));
            let held = held(target.pid)?;
            if held.files == files {
                return Ok(held);
            }
        }
        if begun.elapsed() > CALM {
            return Err(format!("{open} connections and {channels} channels are left after {CALM:?}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
