//! A whole node in one thread, its order and its faults chosen by a seed.
//!
//! Cores, the queues between them and clients are the real broker with the runtime played by [`world::World`]:
//! sockets that take only some bytes, cores that pause, queues that are full, time that jumps, clients that
//! stall, vanish, come back and recover. Every client checks what it is told; at the end everybody must have
//! everything, and when all are gone nothing may be left. A failing seed is printed; it replays exactly.
//!
//! `SIM_SEEDS=100000 cargo test --release --lib sim -- --nocapture` runs more seeds and prints the coverage.

mod client;
mod knobs;
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

/// What must have happened at least once over the seeds, or the simulation tests less than it says.
const MUST_HAPPEN: &[&str] = &[
    "act: connect",
    "act: reconnect and recover",
    "act: kill",
    "act: stall",
    "act: garbage",
    "act: api",
    "act: pause core",
    "act: jump in time",
    "mesh: ask Subscribe",
    "mesh: ask Publish",
    "mesh: ask Presence",
    "mesh: ask PresenceStats",
    "mesh: ask History",
    "mesh: ask HistoryRemove",
    "mesh: ask Position",
    "mesh: answer Subscribed",
    "mesh: answer Error",
    "mesh: forward Publication",
    "mesh: forward Join",
    "mesh: forward Leave",
    "mesh: forward Gap",
    "mesh: tell Unsubscribe",
    "mesh: survey",
    "mesh: survey answer",
    "mesh: full",
    "effect: pause",
    "effect: resume",
    "close: 3008",
    "close: 3009",
    "close: 3010",
    "close: 3012",
    "close: 3501",
    "close: 4500",
    "push: unsubscribe 2000",
    "push: unsubscribe 2500",
    "reply: recovered",
    "reply: not recovered",
    "reply: error 100",
    "reply: error 103",
    "reply: error 105",
    "reply: error 106",
    "reply: error 108",
    "reply: error 112",
    "api: error 111",
    "write: short",
    "write: broken",
    "counter: dropped",
    "counter: no credit",
];

#[test]
fn seeds() {
    let (first, seeds) = (number("SIM_FIRST", 0), number("SIM_SEEDS", SEEDS));
    let mut coverage = Coverage::new();
    for seed in first..first + seeds {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut coverage)));
        if let Err(panic) = result {
            eprintln!("seed {seed} failed; replay it with SIM_FIRST={seed} SIM_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{seeds} seeds of {STEPS} steps, from {first}:");
    for (name, count) in &coverage {
        println!("{count:>12}  {name}");
    }
    if seeds >= SEEDS {
        let missing: Vec<_> = MUST_HAPPEN.iter().filter(|name| !coverage.contains_key(**name)).collect();
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
