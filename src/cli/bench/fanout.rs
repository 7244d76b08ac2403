//! Publishers to subscribers of one channel.
//!
//! The connections are numbered: subscribers first, then publishers. Publications go out in one of three
//! ways: so many in flight per publisher, in batches of which each waits for its last reply, or by the clock.

mod args;
pub(super) mod check;

pub use args::{Args, PublishArgs, Publishing, Side};

use super::{
    BenchError,
    engine::{Engine, STALL_MAX, Traffic},
    report::Report,
    server,
    stamp::{PAYLOAD_MIN, Run, Stamp},
};
use crate::wire::client::{Command, PublishRequest, Request};
use check::{Check, Seen};

pub use check::new_histogram;
use std::{
    collections::BTreeMap,
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Commands of one batch are split into frames of at most so many payload bytes, below the 64 KiB that
/// servers of the protocol accept by default.
const FRAME_BYTES: usize = 32 * 1024;
/// Publications by the clock that may wait for their replies.
const BEHIND_MAX: u64 = 100_000;
/// Publishers that are tried when some must sit on a certain core.
const CANDIDATES: usize = 16;
const NO_CORES: &str = "the server shows no counters per core at its metrics address";

pub fn run(args: Args) -> Result<ExitCode, BenchError> {
    let publishing = &args.publishing;
    if publishing.size < PAYLOAD_MIN {
        return Err(BenchError::Usage("--size must be at least 26 bytes: the stamp takes that much"));
    }
    if publishing.publishers == 0 || publishing.window == 0 || publishing.batch == Some(0) {
        return Err(BenchError::Usage("--publishers, --window and --batch must be at least 1"));
    }
    if publishing.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err(BenchError::Usage("--rate must be above 0"));
    }
    let mut fanout = Fanout::open(args)?;
    fanout.seat()?;
    let measured = fanout.measure()?;
    fanout.drain()?;
    fanout.report(&measured)
}

struct Fanout {
    args: Args,
    engine: Engine,
    check: Check,
    run: Run,
    /// The publishers that publish, by number.
    active: Vec<usize>,
    step: Duration,
    /// The batch that goes out next by the clock, and when the first was due.
    batches: u64,
    epoch_ns: u64,
    last_id: u32,
    progress: Instant,
    progress_seen: Seen,
    stall: Instant,
    stall_seen: Seen,
}

/// Everything that only rises, at one moment.
#[derive(Clone, Debug, Default)]
struct Moment {
    at_ns: u64,
    server_cpu_ns: Option<u64>,
    server_ticks: Option<(u64, u64)>,
    client_cpu_ns: u64,
    seen: Seen,
    traffic: Traffic,
    counters: Option<BTreeMap<String, f64>>,
}

impl Fanout {
    fn open(args: Args) -> Result<Self, BenchError> {
        let mut engine = args.common.engine()?;
        let mut id = [0; 4];
        getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
        let run = Run::new(u32::from_ne_bytes(id));
        let Publishing { publishers, batch, rate, channel, .. } = &args.publishing;
        let candidates = if args.sides.is_empty() { *publishers } else { CANDIDATES };
        let mut check = Check::new(args.common.protocol(), run, args.subscribers, candidates);
        let subscribers = args.subscribers;
        engine.open(
            subscribers + candidates,
            |conn| (conn < subscribers).then(|| channel.clone()),
            &mut check,
        )?;
        if !args.common.quiet {
            eprintln!("{subscribers} subscribers and {publishers} publishers are connected");
        }
        let per_batch = f64::from(batch.unwrap_or(1));
        let step = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(per_batch / rate));
        let (epoch_ns, now) = (engine.now_ns(), Instant::now());
        let active = (0..*publishers).collect();
        Ok(Self {
            args,
            engine,
            check,
            run,
            active,
            step,
            batches: 0,
            epoch_ns,
            last_id: 0,
            progress: now,
            progress_seen: Seen::default(),
            stall: now,
            stall_seen: Seen::default(),
        })
    }

    /// Finds publishers on the sides asked for: each candidate publishes once, and the server's counters say
    /// which core took the command and which the publication.
    fn seat(&mut self) -> Result<(), BenchError> {
        let sides = self.args.sides.clone();
        if sides.is_empty() {
            return Ok(());
        }
        let metrics = self.args.common.metrics()?;
        let look = || server::counters_by_core(&metrics).ok_or(BenchError::Usage(NO_CORES));
        let mut found = vec![None; sides.len()];
        for candidate in 0..CANDIDATES {
            let before = look()?;
            let now = self.engine.now_ns();
            self.publish(candidate, 1, now)?;
            self.drain()?;
            let after = look()?;
            let risen = |name: &str| {
                let of = |it: &(&String, &f64)| *it.1 > before.get(it.0).copied().unwrap_or_default();
                let line = after.iter().filter(|it| it.0.starts_with(name)).find(of)?;
                line.0.split_once('{').map(|it| it.1.to_owned())
            };
            let (owner, own) =
                (risen("corecast_publications_total{"), risen("corecast_commands_received_total{"));
            let side = if owner == own { Side::Owner } else { Side::Other };
            let seat =
                sides.iter().zip(&found).position(|(wanted, taken)| *wanted == side && taken.is_none());
            if let Some(seat) = seat {
                found[seat] = Some(candidate);
            }
            if found.iter().all(Option::is_some) {
                self.active = found.into_iter().flatten().collect();
                self.epoch_ns = self.engine.now_ns();
                return Ok(());
            }
        }
        Err(BenchError::Usage("no connection landed on the core it must: does the server run on two cores?"))
    }

    /// Publishes through warm-up and measurement; returns the moments at which the latter began and ended.
    fn measure(&mut self) -> Result<(Moment, Moment), BenchError> {
        let Publishing { messages, warmup, duration, .. } = self.args.publishing;
        if messages.is_none() {
            self.publish_for(warmup)?;
        }
        let mut begin = Moment { counters: self.counters()?, ..Moment::default() };
        begin = self.moment(begin)?;
        self.check.measure(true);
        match messages {
            Some(count) => {
                self.publish_until(|fanout| fanout.check.published() >= count)?;
                self.drain()?;
            }
            None => self.publish_for(duration)?,
        }
        self.check.measure(false);
        let mut end = self.moment(Moment::default())?;
        end.counters = self.counters()?;
        Ok((begin, end))
    }

    fn publish_for(&mut self, seconds: f64) -> Result<(), BenchError> {
        let length = Duration::try_from_secs_f64(seconds)
            .map_err(|_| BenchError::Usage("--duration and --warmup are seconds, from 0 up"))?;
        let begin = Instant::now();
        self.publish_until(|_| begin.elapsed() >= length)
    }

    fn publish_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), BenchError> {
        while !done(self) {
            let timeout = if self.step.is_zero() { self.publish_freely()? } else { self.publish_by_clock()? };
            self.engine.poll(timeout, &mut self.check)?;
            self.watch()?;
        }
        Ok(())
    }

    /// Fills every window, or sends the next batch where the last is answered.
    fn publish_freely(&mut self) -> Result<Duration, BenchError> {
        let Publishing { batch, window, .. } = self.args.publishing;
        for index in 0..self.active.len() {
            let publisher = self.active[index];
            let waiting = self.check.waiting(publisher);
            let free = match batch {
                Some(batch) if waiting == 0 => batch,
                Some(_) => 0,
                None => window.saturating_sub(waiting),
            };
            if free > 0 {
                let now = self.engine.now_ns();
                self.publish(publisher, free, now)?;
            }
        }
        Ok(Duration::from_millis(100))
    }

    /// Sends everything that is due; returns the time until the next.
    fn publish_by_clock(&mut self) -> Result<Duration, BenchError> {
        let step = u64::try_from(self.step.as_nanos()).unwrap_or(u64::MAX);
        let publishers = self.active.len();
        loop {
            let due = self.epoch_ns.saturating_add(self.batches.saturating_mul(step));
            let now = self.engine.now_ns();
            if due > now {
                return Ok(Duration::from_nanos(due - now).min(Duration::from_millis(100)));
            }
            let publisher = self.active[usize::try_from(self.batches).unwrap_or_default() % publishers];
            self.batches += 1;
            self.publish(publisher, self.args.publishing.batch.unwrap_or(1), due)?;
            let waiting = self.check.published() - self.check.seen.replies;
            if waiting > BEHIND_MAX {
                return Err(BenchError::Behind { waiting });
            }
        }
    }

    /// One write of `count` publications. A batch is one frame where it fits; commands of a window are
    /// independent of each other and have a frame each.
    fn publish(&mut self, publisher: usize, count: u32, scheduled_ns: u64) -> Result<(), BenchError> {
        let Publishing { size, batch, channel, prose, .. } = &self.args.publishing;
        let write = if *prose { Run::prose } else { Run::payload };
        let per_frame = if batch.is_some() { (FRAME_BYTES / (size + channel.len() + 64)).max(1) } else { 1 };
        let count = match self.args.publishing.messages {
            Some(messages) => {
                count.min(u32::try_from(messages.saturating_sub(self.check.published())).unwrap_or(u32::MAX))
            }
            None => count,
        };
        let payloads: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let stamp: Stamp = self.check.publish(publisher, scheduled_ns);
                let mut payload = Vec::with_capacity(*size);
                write(self.run, stamp, *size, &mut payload);
                payload
            })
            .collect();
        for payloads in payloads.chunks(per_frame) {
            let commands: Vec<Command<'_>> = payloads
                .iter()
                .map(|payload| {
                    // Two numbers have their use already: connect and subscribe.
                    self.last_id = self.last_id.checked_add(1).unwrap_or(3).max(3);
                    let request = PublishRequest {
                        channel: channel.as_str().into(),
                        data: Some(payload),
                        ..PublishRequest::default()
                    };
                    Command { id: self.last_id, request: Request::Publish(request) }
                })
                .collect();
            self.engine.commands(&commands);
        }
        self.engine.write(self.args.subscribers + publisher)
    }

    /// Waits until everything published has arrived, or nothing comes any more.
    fn drain(&mut self) -> Result<(), BenchError> {
        self.engine.drain(&mut self.check, |check| (check.seen, check.complete()))
    }

    /// Progress for the eye, and the end of runs that stand still.
    fn watch(&mut self) -> Result<(), BenchError> {
        let elapsed = self.progress.elapsed();
        if elapsed < Duration::from_secs(1) {
            return Ok(());
        }
        let (seen, before) = (self.check.seen, self.progress_seen);
        (self.progress, self.progress_seen) = (Instant::now(), seen);
        if !self.args.common.quiet {
            let per_second = |count: u64| count as f64 / elapsed.as_secs_f64();
            eprintln!(
                "{:>12.0} deliveries/s {:>10.0} publications/s {:>8.1} messages/frame",
                per_second(seen.deliveries - before.deliveries),
                per_second(seen.replies - before.replies),
                (seen.deliveries - before.deliveries) as f64 / (seen.frames - before.frames).max(1) as f64,
            );
        }
        // By the clock there may be nothing to do for long.
        if seen != self.stall_seen || self.check.complete() {
            (self.stall, self.stall_seen) = (Instant::now(), seen);
        } else if self.stall.elapsed() > STALL_MAX {
            return Err(BenchError::Stalled { what: "the run" });
        }
        Ok(())
    }

    fn counters(&self) -> Result<Option<BTreeMap<String, f64>>, BenchError> {
        Ok(server::counters(&self.args.common.metrics()?))
    }

    fn moment(&self, with: Moment) -> Result<Moment, BenchError> {
        Ok(Moment {
            server_cpu_ns: self.args.common.server_cpu_ns()?,
            server_ticks: self.args.common.server_pid.map(server::ticks).transpose()?,
            client_cpu_ns: server::cpu_ns(std::process::id())?,
            at_ns: self.engine.now_ns(),
            seen: self.check.seen,
            traffic: self.engine.traffic,
            ..with
        })
    }

    fn report(&self, (begin, end): &(Moment, Moment)) -> Result<ExitCode, BenchError> {
        let args = &self.args.publishing;
        let scenario = if self.args.subscribers == 0 { "publish" } else { "fanout" };
        let mut report = Report::new(scenario, &self.args.common);
        report.section("workload");
        report.number("subscribers", self.args.subscribers as f64);
        report.number("publishers", args.publishers as f64);
        report.number("payload_bytes", args.size as f64);
        match (args.batch, args.rate) {
            (batch, Some(rate)) => {
                report.number("rate_per_s", rate);
                report.number("batch", batch.unwrap_or(1).into());
            }
            (Some(batch), None) => report.number("batch", batch.into()),
            (None, None) => report.number("window", args.window.into()),
        }
        self.report_throughput(&mut report, begin, end);
        report_server(&mut report, begin, end);
        report.latency(self.check.latency());
        report.section("check");
        let faults = self.check.faults();
        report.number("lost", faults.lost as f64);
        report.number("doubled_or_out_of_order", faults.disordered as f64);
        report.number("unanswered", faults.unanswered as f64);
        report.finish()?;
        if faults.none() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("not every message arrived once and in order: these figures do not count");
        Ok(ExitCode::FAILURE)
    }

    fn report_throughput(&self, report: &mut Report, begin: &Moment, end: &Moment) {
        let seconds = (end.at_ns - begin.at_ns) as f64 / 1e9;
        let deliveries = (end.seen.deliveries - begin.seen.deliveries) as f64;
        let publications = (end.seen.replies - begin.seen.replies) as f64;
        report.section("throughput");
        report.number("seconds", seconds);
        report.number("publications", publications);
        report.number("publications_per_s", publications / seconds);
        if self.args.subscribers > 0 {
            report.number("deliveries", deliveries);
            report.number("deliveries_per_s", deliveries / seconds);
            let frames = (end.seen.frames - begin.seen.frames) as f64;
            report.number("messages_per_frame", deliveries / frames);
            report.number("bytes_per_delivery", (end.seen.bytes - begin.seen.bytes) as f64 / deliveries);
            let bytes = (end.traffic.bytes - begin.traffic.bytes) as f64;
            report.number("wire_bytes_per_delivery", bytes / deliveries);
            let reads = (end.seen.reads(end.traffic) - begin.seen.reads(begin.traffic)) as f64;
            report.number("messages_per_read", deliveries / reads);
        }
        let idle = (end.traffic.idle_ns - begin.traffic.idle_ns) as f64;
        report.number("client_busy", 1.0 - idle / (end.at_ns - begin.at_ns) as f64);
        report.number("client_cpu", (end.client_cpu_ns - begin.client_cpu_ns) as f64 / 1e9 / seconds);
    }
}

fn report_server(report: &mut Report, begin: &Moment, end: &Moment) {
    let deliveries = (end.seen.deliveries - begin.seen.deliveries) as f64;
    let publications = (end.seen.replies - begin.seen.replies) as f64;
    report.section("server");
    if let (Some(from), Some(to)) = (begin.server_cpu_ns, end.server_cpu_ns) {
        let cpu = to.saturating_sub(from) as f64;
        report.number("cpu_share", cpu / (end.at_ns - begin.at_ns) as f64);
        if deliveries > 0.0 {
            report.number("cpu_ns_per_delivery", cpu / deliveries);
        }
        report.number("cpu_ns_per_publication", cpu / publications);
    }
    if let (Some(from), Some(to)) = (begin.server_ticks, end.server_ticks) {
        let (user, system) = ((to.0 - from.0) as f64, (to.1 - from.1) as f64);
        report.number("user_share", user / (user + system));
    }
    let rise = |name: &str| Some(end.counters.as_ref()?.get(name)? - begin.counters.as_ref()?.get(name)?);
    if let (Some(writes), Some(messages)) =
        (rise("corecast_writes_total"), rise("corecast_messages_delivered_total"))
    {
        report.number("writes", writes);
        report.number("messages_delivered", messages);
        report.number("messages_per_write", messages / writes.max(1.0));
    }
}
