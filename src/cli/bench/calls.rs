//! Calls of one connection, so many in flight, and what each costs the server: the engine room of the
//! scenarios about history and presence.
//!
//! A call is one frame of one or more commands; it is done when the last of them is answered. Every reply is
//! looked at, and one that is not as it must be ends the run. Several kinds of calls take turns, so that a
//! change of the machine's mood meets all of them.

use super::{
    BenchError, Common,
    engine::{Engine, Load, STALL_MAX},
    fanout::new_histogram,
    report::Report,
};
use crate::{
    model::Protocol,
    wire::client::{Command, Request, ServerMessage, ServerReply, decode_replies},
};
use hdrhistogram::Histogram;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Ids of the commands that let a connection in.
const IDS_TAKEN: u32 = 2;

#[derive(Clone, Debug, clap::Args)]
pub struct Pace {
    /// Calls in flight.
    #[arg(long, value_name = "W", default_value_t = 16)]
    pub window: usize,
    /// Seconds each kind of call is measured, all rounds together.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// How often the kinds take turns.
    #[arg(long, value_name = "R", default_value_t = 5)]
    pub rounds: u32,
}

impl Pace {
    /// # Errors
    /// [`BenchError::Usage`] when it cannot be kept.
    pub fn turn(&self) -> Result<Duration, BenchError> {
        if self.window == 0 || self.rounds == 0 {
            return Err(BenchError::Usage("--window and --rounds must be at least 1"));
        }
        Duration::try_from_secs_f64(self.duration / f64::from(self.rounds))
            .map_err(|_| BenchError::Usage("--duration is seconds, from 0 up"))
    }
}

type CheckReply<'a> = dyn Fn(&ServerReply<'_>) -> Result<(), String> + 'a;

/// One kind of call.
pub struct Kind<'a> {
    pub name: &'static str,
    /// The commands of one call, in one frame.
    pub requests: Vec<Request<'a>>,
    /// What is wrong with a reply to one of them.
    pub check: Box<CheckReply<'a>>,
}

/// What the turns of a kind have brought.
#[derive(Clone, Debug)]
pub struct Figures {
    pub calls: u64,
    pub seconds: f64,
    pub reply_bytes: u64,
    /// Of each turn.
    pub cpu_ns_per_call: Vec<f64>,
    pub latency: Histogram<u64>,
}

impl Figures {
    pub fn new() -> Self {
        let latency = new_histogram();
        Self { calls: 0, seconds: 0.0, reply_bytes: 0, cpu_ns_per_call: Vec::new(), latency }
    }

    /// Median of the turns; not a number when the server's processor time is unknown.
    pub fn cpu_ns(&self) -> f64 {
        median(&self.cpu_ns_per_call)
    }

    pub fn report(&self, report: &mut Report) {
        report.number("calls", self.calls as f64);
        report.number("calls_per_s", self.calls as f64 / self.seconds);
        report.number("cpu_us_per_call", self.cpu_ns() / 1e3);
        let extreme = |of: fn(f64, f64) -> f64| self.cpu_ns_per_call.iter().copied().fold(f64::NAN, of) / 1e3;
        report.number("cpu_us_per_call_min", extreme(f64::min));
        report.number("cpu_us_per_call_max", extreme(f64::max));
        report.number("reply_bytes_per_call", self.reply_bytes as f64 / self.calls as f64);
        for (name, quantile) in [("latency_us_p50", 0.5), ("latency_us_p99", 0.99), ("latency_us_max", 1.0)] {
            report.number(name, self.latency.value_at_quantile(quantile) as f64 / 1e3);
        }
    }
}

/// Not a number when there are no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 0 => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        len => sorted[len / 2],
    }
}

/// Turns of all `kinds`, on connection `caller`; a first turn of each goes before and is not counted.
///
/// # Errors
/// [`BenchError`] when a reply is not as it must be, or none comes.
pub fn measure(
    engine: &mut Engine,
    caller: usize,
    common: &Common,
    pace: &Pace,
    kinds: &[Kind<'_>],
) -> Result<Vec<Figures>, BenchError> {
    let turn = pace.turn()?;
    let mut figures = Vec::new();
    let mut next_id = IDS_TAKEN + 1;
    for kind in kinds {
        let mut warm = Figures::new();
        Turn::new(engine, caller, common, kind, &mut warm, &mut next_id).run(pace.window, turn / 4)?;
        figures.push(Figures::new());
    }
    for round in 1..=pace.rounds {
        for (kind, figures) in kinds.iter().zip(&mut figures) {
            Turn::new(engine, caller, common, kind, figures, &mut next_id).run(pace.window, turn)?;
            if let (false, Some(cpu_ns)) = (common.quiet, figures.cpu_ns_per_call.last()) {
                eprintln!("round {round:>3} {:<28} {:>10.3} µs per call", kind.name, cpu_ns / 1e3);
            }
        }
    }
    Ok(figures)
}

/// One window of calls, and what came back.
///
/// # Errors
/// As [`measure`].
pub fn once(
    engine: &mut Engine,
    caller: usize,
    common: &Common,
    kind: &Kind<'_>,
    window: usize,
) -> Result<Figures, BenchError> {
    let mut figures = Figures::new();
    // No reply of an earlier window is still on its way: the ids may begin anew.
    let mut next_id = IDS_TAKEN + 1;
    Turn::new(engine, caller, common, kind, &mut figures, &mut next_id).run(window, Duration::ZERO)?;
    Ok(figures)
}

struct Turn<'t, 'a> {
    engine: &'t mut Engine,
    common: &'t Common,
    next_id: &'t mut u32,
    book: Book<'t, 'a>,
}

impl<'t, 'a> Turn<'t, 'a> {
    fn new(
        engine: &'t mut Engine,
        caller: usize,
        common: &'t Common,
        kind: &'t Kind<'a>,
        figures: &'t mut Figures,
        next_id: &'t mut u32,
    ) -> Self {
        let book = Book { protocol: common.protocol(), caller, kind, figures, waiting: HashMap::new() };
        Self { engine, common, next_id, book }
    }

    fn run(mut self, window: usize, length: Duration) -> Result<(), BenchError> {
        let calls_before = self.book.figures.calls;
        let cpu = self.common.server_cpu_ns()?;
        let begin = Instant::now();
        // At least one window, however short the turn.
        self.fill(window)?;
        while begin.elapsed() < length {
            self.advance()?;
            self.fill(window)?;
        }
        while !self.book.waiting.is_empty() {
            self.advance()?;
        }
        self.book.figures.seconds += begin.elapsed().as_secs_f64();
        if let (Some(from), Some(to)) = (cpu, self.common.server_cpu_ns()?) {
            let calls = self.book.figures.calls - calls_before;
            self.book.figures.cpu_ns_per_call.push(to.saturating_sub(from) as f64 / calls as f64);
        }
        Ok(())
    }

    /// Sends, in one write, as many calls as the window has room for.
    fn fill(&mut self, window: usize) -> Result<(), BenchError> {
        let now = self.engine.now_ns();
        let room = window.saturating_sub(self.book.waiting.len());
        for _ in 0..room {
            let commands: Vec<Command<'_>> = self
                .book
                .kind
                .requests
                .iter()
                .map(|request| {
                    let id = *self.next_id;
                    *self.next_id = id.checked_add(1).unwrap_or(IDS_TAKEN + 1);
                    Command { id, request: request.clone() }
                })
                .collect();
            if let Some(last) = commands.last() {
                self.book.waiting.insert(last.id, now);
            }
            self.engine.commands(&commands);
        }
        if room > 0 { self.engine.write(self.book.caller) } else { Ok(()) }
    }

    fn advance(&mut self) -> Result<(), BenchError> {
        let (calls, begin) = (self.book.figures.calls, Instant::now());
        while self.book.figures.calls == calls {
            self.engine.poll(Duration::from_millis(100), &mut self.book)?;
            if begin.elapsed() > STALL_MAX {
                return Err(BenchError::Stalled { what: self.book.kind.name });
            }
        }
        Ok(())
    }
}

struct Book<'t, 'a> {
    protocol: Protocol,
    caller: usize,
    kind: &'t Kind<'a>,
    figures: &'t mut Figures,
    /// When the calls were sent whose last reply is missing, by its id.
    waiting: HashMap<u32, u64>,
}

impl Load for Book<'_, '_> {
    fn on_frame(&mut self, conn: usize, frame: &[u8], now_ns: u64) -> Result<bool, BenchError> {
        let mut ping = false;
        for message in decode_replies(self.protocol, frame) {
            match message? {
                ServerMessage::Ping => ping = true,
                ServerMessage::Reply { id, reply } if conn == self.caller => {
                    self.on_reply(id, &reply, now_ns)?
                }
                ServerMessage::Reply { .. }
                | ServerMessage::Push { .. }
                | ServerMessage::NumberedPush { .. } => {}
            }
        }
        if conn == self.caller {
            self.figures.reply_bytes += u64::try_from(frame.len()).unwrap_or_default();
        }
        Ok(ping)
    }
}

impl Book<'_, '_> {
    fn on_reply(&mut self, id: u32, reply: &ServerReply<'_>, now_ns: u64) -> Result<(), BenchError> {
        let call = self.kind.name;
        if let ServerReply::Error { code, message, .. } = reply {
            return Err(BenchError::CallRefused { call, code: *code, message: message.to_string() });
        }
        (self.kind.check)(reply).map_err(|problem| BenchError::WrongReply { call, problem })?;
        if let Some(sent_ns) = self.waiting.remove(&id) {
            self.figures.calls += 1;
            self.figures.latency.saturating_record(now_ns.saturating_sub(sent_ns).max(1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    fn stats() -> Kind<'static> {
        let check = |reply: &ServerReply<'_>| match reply {
            ServerReply::PresenceStats { clients: 2, .. } => Ok(()),
            other => Err(format!("{other:?}")),
        };
        let request = Request::PresenceStats { channel: "c".into() };
        Kind { name: "stats", requests: vec![request.clone(), request], check: Box::new(check) }
    }

    // Two commands a call, the second of which has id 4; frames from the server, what is counted or said.
    #[test]
    fn replies_table() {
        #[track_caller]
        fn check(conn: usize, frame: &str, want: Result<(bool, u64, usize), &str>) {
            let (kind, mut figures) = (stats(), Figures::new());
            let waiting = HashMap::from([(4, 10)]);
            let protocol = Protocol::Json;
            let mut book = Book { protocol, caller: 1, kind: &kind, figures: &mut figures, waiting };
            match (book.on_frame(conn, frame.as_bytes(), 30), want) {
                (Ok(ping), Ok(want)) => {
                    let waiting = book.waiting.len();
                    assert_eq!((ping, figures.calls, waiting), want, "{frame}");
                    assert_eq!(figures.latency.len(), figures.calls);
                    assert!(figures.calls == 0 || figures.latency.max() == 20);
                }
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
                (got, want) => panic!("{frame}: {got:?}, not {want:?}"),
            }
        }
        let good = r#"{"id":4,"presence_stats":{"num_clients":2,"num_users":1}}"#;
        check(1, good, Ok((false, 1, 0)));
        check(1, &good.replace(":4", ":3"), Ok((false, 0, 1)));
        check(1, &format!("{}\n{good}\n{{}}", good.replace(":4", ":3")), Ok((true, 1, 0)));
        check(0, good, Ok((false, 0, 1)));
        check(1, &good.replace(":2,", ":3,"), Err("clients: 3"));
        check(1, r#"{"id":4,"error":{"code":108,"message":"not available"}}"#, Err("108 not available"));
    }
}
