//! A whole node in one thread, its order and its faults chosen by a seed.
//!
//! Cores, the queues between them and clients are the real broker with the runtime played by [`world::World`]:
//! sockets that take only some bytes, cores that pause, queues that are full, time that jumps, clients that
//! stall, vanish, come back and recover. Every client checks what it is told; at the end everybody must have
//! everything, and when all are gone nothing may be left. A failing seed is printed; it replays exactly.
//!
//! Questions between cores are counted by what becomes of them: answered in time, expired (the asker gave up),
//! late (answered after that), orphaned (answered when who asked was gone). The mesh neither loses nor doubles
//! messages, so neither does the simulation.
//!
//! What expires is simulated apart, in [`tokens`], as are shared polls, in [`polls`].
//!
//! ```text
//! SIM_SEEDS=2000 SIM_THREADS=2 cargo test --profile sim --no-default-features --features core --lib sim::seeds -- --nocapture
//! ```
//!
//! runs more seeds and prints the coverage. `scripts/mutants` plants bugs that it has to find.

mod acts;
mod api;
mod check;
mod client;
mod emulation;
mod filter;
mod finish;
mod knobs;
mod maps;
mod mesh;
mod polls;
mod sockets;
mod terms;
mod tokens;
mod truth;
mod world;

use std::collections::BTreeMap;
use world::World;

/// Steps of one seed before the faults end.
const STEPS: u32 = 2_000;
const SEEDS: u64 = 60;

/// How often each thing happened.
pub type Coverage = BTreeMap<String, u64>;

fn run(seed: u64, coverage: &mut Coverage) {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        world.step();
        if step % 64 == 0 {
            world.invariants();
        }
    }
    world.finish();
    for (name, count) in world.coverage {
        *coverage.entry(name).or_default() += count;
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What must happen in ten times as many seeds.
const RARE: &[&str] = &["mesh: tell Replaced"];

/// What must have happened at least once over the seeds, or the simulation tests less than it says.
const MUST_HAPPEN: &[&str] = &[
    "act: connect",
    "message: compressed",
    "act: reconnect and recover",
    "act: kill",
    "act: stall",
    "act: garbage",
    "act: api",
    "act: pause core",
    "act: jump in time",
    "act: vanish",
    "act: a pong too many",
    "act: made-up position",
    "act: drain",
    "mesh: ask Subscribe",
    "mesh: ask Publish",
    "mesh: ask Presence",
    "mesh: ask PresenceStats",
    "mesh: ask History",
    "mesh: ask HistoryRemove",
    "mesh: ask MapSet",
    "mesh: ask MapRead",
    "map: page",
    "map: page of the stream",
    "map: live at once",
    "map: live after pages",
    "map: recovered",
    "map: begins anew",
    "map: removed",
    "map: removed or hidden",
    "map: difference",
    "map: spared",
    "map: cleared",
    "map: set",
    "map: idempotency",
    "map: version",
    "map: key_exists",
    "map: key_not_found",
    "mesh: tell Presence",
    "mesh: forward Change",
    "mesh: ask Position",
    "mesh: ask Enter",
    "mesh: ask Act",
    "mesh: tell Leave",
    "act: api by user",
    "close: 3005",
    "close: 3504",
    "push: refresh",
    "reply: connect refused",
    "pending: Enter answered",
    "pending: Enter expired",
    "pending: Enter late",
    "pending: Enter orphaned",
    "pending: Act answered",
    "pending: Act expired",
    "pending: Act late",
    "mesh: answer Subscribed",
    "mesh: answer Error",
    "mesh: forward Publication",
    "mesh: forward Join",
    "mesh: forward Leave",
    "mesh: forward Gap",
    "mesh: tell Unsubscribe",
    "mesh: emulate",
    "mesh: answer Emulated",
    "mesh: survey",
    "mesh: survey answer",
    "mesh: full",
    "effect: pause",
    "effect: resume",
    "close: 3001",
    "close: 3004",
    "close: 3008",
    "close: 3009",
    "close: 3010",
    "close: 3012",
    "close: 3013",
    "close: 3501",
    "close: 4500",
    "push: unsubscribe 2000",
    "push: unsubscribe 2500",
    "reply: recovered",
    "reply: not recovered",
    "reply: recovered 0 from a cache",
    "reply: recovered 1 from a cache",
    "reply: the latest unasked",
    "reply: error 100",
    "reply: error 103",
    "reply: error 105",
    "reply: error 106",
    "reply: error 107",
    "mesh: match",
    "mesh: tell Watch",
    "mesh: tell Unwatch",
    "reply: error 108",
    "reply: error 112",
    "api: error 111",
    "write: short",
    "write: broken",
    "connect: recovered",
    "connect: subscribed",
    "counter: dropped",
    "counter: no credit",
    "counter: not JSON",
    "counter: insufficient state",
    "publication: patch",
    "publication: filtered",
    "publication: newest of several",
    "publish: beside the stream",
    "publish: once and no more",
    "publish: suppressed by its version",
    "push: numbered",
    "ping: protocol",
    "ping: WebSocket",
    "emulation: heard",
    "emulation: no credit",
    "emulation: no answer in time",
    "emulation: answered when the client was gone",
    "emulation: late",
    "emulation: forged",
    "pending: Subscribe answered",
    "pending: Subscribe expired",
    "pending: Subscribe late",
    "pending: Subscribe orphaned",
    "pending: Publish answered",
    "pending: Publish expired",
    "pending: Publish late",
    "pending: Publish orphaned",
    "pending: Presence answered",
    "pending: Presence expired",
    "pending: Presence late",
    "pending: Presence orphaned",
    "pending: PresenceStats answered",
    "pending: PresenceStats expired",
    "pending: PresenceStats late",
    "pending: PresenceStats orphaned",
    "pending: History answered",
    "pending: History expired",
    "pending: History late",
    "pending: History orphaned",
    "pending: Position answered",
    "pending: Position expired",
    "pending: Position late",
    "pending: Position orphaned",
    "pending: Api answered",
    "pending: Api expired",
    "pending: Api late",
    "pending: Broadcast answered",
    "pending: Broadcast expired",
    "pending: BroadcastItem answered",
    "pending: BroadcastItem expired",
    "pending: BroadcastItem late",
    "pending: Gather answered",
    "pending: Gather late",
];

/// Seeds of one run and what became of them.
#[derive(Default)]
struct Outcome {
    coverage: Coverage,
    failed: Vec<u64>,
}

/// Runs seeds up to the first that fails.
fn run_seeds(seeds: impl Iterator<Item = u64>) -> Outcome {
    let mut outcome = Outcome::default();
    for seed in seeds {
        let coverage = &mut outcome.coverage;
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, coverage))).is_err() {
            eprintln!("seed {seed} failed; replay it with SIM_FIRST={seed} SIM_SEEDS=1");
            outcome.failed.push(seed);
            break;
        }
    }
    outcome
}

#[test]
fn seeds() {
    let (first, seeds) = (number("SIM_FIRST", 0), number("SIM_SEEDS", SEEDS));
    let threads = number("SIM_THREADS", 1).max(1);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let spawn = |offset| {
            scope.spawn(move || run_seeds((first + offset..first + seeds).step_by(threads as usize)))
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        running.into_iter().map(|thread| thread.join().expect("a thread ends")).collect()
    });
    let mut coverage = Coverage::new();
    let mut failed: Vec<_> = Vec::new();
    for outcome in outcomes {
        failed.extend(outcome.failed);
        for (name, count) in outcome.coverage {
            *coverage.entry(name).or_default() += count;
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed");
    println!("{seeds} seeds of {STEPS} steps, from {first}:");
    for (name, count) in &coverage {
        println!("{count:>12}  {name}");
    }
    if seeds >= SEEDS {
        let rare = if seeds >= 10 * SEEDS { RARE } else { &[] };
        let names = MUST_HAPPEN.iter().chain(rare);
        let missing: Vec<_> = names.filter(|name| !coverage.contains_key(**name)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

/// The same seed does the same things.
#[test]
fn a_seed_replays() {
    let coverage = || {
        let mut coverage = Coverage::new();
        run(3, &mut coverage);
        coverage
    };
    assert_eq!(coverage(), coverage());
}
