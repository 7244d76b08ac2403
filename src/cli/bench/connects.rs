//! What a token costs: clients that connect without one, with a good one and with a bad one, which is refused.
//!
//! The kinds take turns, so that a change of the machine's mood meets all of them, and each is compared with the
//! others of its own round. All come over WebSocket, say connect, and hang up in the same way: who is refused when it is
//! told so, the others when the last of them is let in. Every client has a token and a user of its own; whether all are let in, or all refused for the right reason, is checked.

use super::{
    BenchError, Common, ProtocolArg,
    bars::Bar,
    engine::Load,
    harness::Harness,
    report::Report,
    results,
    rounds::{figure, median},
    server,
};
use crate::{
    auth::{Hs, sign},
    cli::client::message::{self, Body},
    model::Protocol,
    wire::client::ConnectRequest,
};
use serde_json::{Value, json};
use std::{
    process::ExitCode,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const SETTINGS: &[&str] = &[
    "client.insecure=false",
    "client.allow_anonymous_connect_without_token=true",
    "client.token.hmac_secret_key=bench-secret",
];
const SECRET: &str = "bench-secret";
const COST: &str = "/server/cpu_us_per_connection";
/// Why bad tokens are refused.
const INVALID_TOKEN: u16 = 3500;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = server::help("Tokens must be checked, and clients without one let in", SETTINGS))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Connections of each kind and round
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: usize,
    /// How often the kinds take turns
    #[arg(long, value_name = "R", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Milliseconds in which the server tidies up behind them
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pause: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Anonymous,
    Token,
    BadToken,
}

const KINDS: [Kind; 3] = [Kind::Anonymous, Kind::Token, Kind::BadToken];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Token => "HS256 token",
            Self::BadToken => "bad token, refused",
        }
    }

    /// One for each connection; made before anything is measured.
    fn tokens(self, count: usize) -> Vec<String> {
        let secret = match self {
            Self::Anonymous => return Vec::new(),
            Self::Token => SECRET,
            Self::BadToken => "another",
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = |at| json!({"sub": format!("user{at}"), "iat": now, "exp": now + 86_400}).to_string();
        (0..count).map(|at| sign(Hs::Hs256, secret, &claims(at))).collect()
    }
}

/// # Errors
/// Those of the runs.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    if args.connections == 0 {
        return Err(BenchError::Usage("--connections must be at least 1"));
    }
    let mut harness = Harness::new("connects", &args.common, true, SETTINGS)?;
    harness.setup()?;
    let tokens = KINDS.map(|kind| Rc::new(kind.tokens(args.connections)));
    let mut runs: [Vec<Value>; 3] = Default::default();
    // The first round warms up.
    for round in 0..=usize::from(args.rounds) {
        for turn in 0..KINDS.len() {
            let at = (round + turn) % KINDS.len();
            let (kind, tokens) = (KINDS[at], Rc::clone(&tokens[at]));
            let tag = json!({"kind": kind.name(), "round": round, "counts": round > 0});
            let run = harness.run(0, None, &tag, &|common| one_run(&common, args, kind, &tokens))?;
            if round > 0 {
                runs[at].push(run);
            }
        }
        let costs: Vec<String> = KINDS
            .iter()
            .zip(&runs)
            .filter_map(|(kind, runs)| Some(format!("{} {:.1} µs", kind.name(), figure(runs.last()?, COST)?)))
            .collect();
        harness.say(&format!("round {round:>2}/{} {}", args.rounds, costs.join(", ")));
    }
    conclude(args, &mut harness, &runs)
}

fn conclude(args: &Args, harness: &mut Harness, runs: &[Vec<Value>; 3]) -> Result<ExitCode, BenchError> {
    let costs = |at: usize| runs[at].iter().map(|it| figure(it, COST)).collect::<Option<Vec<f64>>>();
    let paired = |of: fn(f64, f64) -> f64, one: usize, other: usize| {
        median(costs(one)?.into_iter().zip(costs(other)?).map(|(one, other)| of(one, other)).collect())
    };
    let lines: Vec<Vec<String>> = KINDS
        .iter()
        .enumerate()
        .map(|(at, kind)| {
            let costs = costs(at).unwrap_or_default();
            let (low, high) =
                costs.iter().fold((f64::INFINITY, 0.0), |(low, high), it| (it.min(low), it.max(high)));
            let cell = median(costs).map_or("–".to_owned(), |it| format!("{it:.1} ({low:.1}–{high:.1})"));
            vec![kind.name().to_owned(), cell]
        })
        .collect();
    let bars = [
        Bar::at_most("T4", "HS256 token, more than anonymous", paired(|a, b| a - b, 1, 0), 8.0, "µs"),
        Bar::at_most("T4", "refused ÷ accepted token", paired(|a, b| a / b, 2, 1), 1.0, ""),
        Bar::told("T4", "refused ÷ anonymous", paired(|a, b| a / b, 2, 0), ""),
    ];
    let summary = format!(
        "# Connecting with and without tokens\n\n{}. {} connections of each kind in each of {} rounds, in turn; WebSocket, \
         {}. From the TCP handshake to what tidying up cost within {} ms after they hung up.\n\n{}\nMedian of the rounds \
         (lowest–highest). Bars are medians of what the rounds say each by itself.\n",
        harness.hardware(),
        args.connections,
        args.rounds,
        ProtocolArg::name(args.common.protocol),
        args.pause,
        results::table(&["client", "server CPU per connection, µs"], &lines)
    );
    let rows: Value = KINDS
        .iter()
        .enumerate()
        .map(|(at, kind)| json!({"kind": kind.name(), "cpu_us": costs(at).and_then(median)}))
        .collect();
    harness.finish(&summary, None, &rows, &bars)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells each connection its token.
struct Book<'a> {
    protocol: Protocol,
    tokens: &'a [String],
}

impl Load for Book<'_> {
    fn on_frame(&mut self, _: usize, frame: &[u8], _: u64) -> Result<bool, BenchError> {
        Ok(message::decode(self.protocol, frame)?.iter().any(|it| it.body == Body::Ping))
    }

    fn introduce(&self, conn: usize, request: &mut ConnectRequest<'static>) {
        if let Some(token) = self.tokens.get(conn) {
            request.token = token.clone().into();
        }
    }
}

fn one_run(common: &Common, args: &Args, kind: Kind, tokens: &[String]) -> Result<ExitCode, BenchError> {
    server::has_room(common.server_pid, args.connections)?;
    let mut engine = common.engine()?;
    let mut book = Book { protocol: common.protocol(), tokens };
    engine.forgive = true;
    let before = common.server_cpu_ns()?;
    engine.open(args.connections, |_| None, &mut book)?;
    let refused = |it: &&BenchError| matches!(it, BenchError::Closed { code: INVALID_TOKEN, .. });
    let (lost, refused) = (engine.lost.len(), engine.lost.iter().filter(refused).count());
    let wanted = if kind == Kind::BadToken { args.connections } else { 0 };
    let example = engine.lost.first().map(ToString::to_string).unwrap_or_default();
    engine.cut(0, false)?;
    engine.rest(Duration::from_millis(args.pause), &mut book)?;
    let cpu = common.server_cpu_ns()?.zip(before).map(|(after, before)| after.saturating_sub(before) as f64);
    let mut report = Report::new("connects", common);
    report.section("server");
    report.number("cpu_us_per_connection", cpu.map_or(f64::NAN, |it| it / 1e3 / args.connections as f64));
    report.section("check");
    report.number("connections", args.connections as f64);
    report.number("refused", refused as f64);
    report.number("failed_otherwise", (lost - refused) as f64);
    report.finish()?;
    if refused == wanted && lost == refused {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "{}: {refused} refused, {wanted} expected, {} failed otherwise: {example}",
        kind.name(),
        lost - refused
    );
    Ok(ExitCode::FAILURE)
}
