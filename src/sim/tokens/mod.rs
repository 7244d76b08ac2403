//! Tokens over several cores: a small world of its own beside the big one, in which time is up now and then.
//!
//! Keys that sign them are known, or asked for and replaced. Connections and subscriptions live on tokens that expire. Some clients refresh them in time, some only in the delay
//! they are given, some never, some with tokens that are none; some talk all the time so that nobody should get round to
//! ending them. The server API subscribes, unsubscribes, prolongs, ends, blocks users and revokes tokens. Cores stand
//! still, queues between them are slow, the wall clock jumps. What no right covers any more has to end in time, and on
//! every core; what a right covers must not end; who is subscribed is told what is published, and nobody else.

mod calls;
mod check;
mod client;
mod denied;
mod keys;
mod token;
mod world;

use super::Coverage;
use world::World;

const STEPS: u32 = 400;
const SEEDS: u64 = 60;

/// Private ones, those that capabilities open, those the server subscribes to, and one for everybody.
pub const CHANNELS: [&str; 7] = ["$p:a", "$p:b", "cap:a", "cap:b", "srv:a", "srv:b", "open:a"];

/// The last one is nobody.
pub const USERS: [&str; 4] = ["u0", "u1", "u2", ""];

/// How late something may end that is over: the core looks again after a second where it could not judge, and has a
/// grid for its deadlines.
const LATE_MS: u64 = 1_000 + 2 * 128;

/// What must have happened at least once over the seeds.
const MUST_HAPPEN: &[&str] = &[
    "act: core stands still",
    "act: flood",
    "act: wall clock jumps",
    "api: Block",
    "api: Invalidate",
    "api: Revoke",
    "api: Unblock",
    "api: error 100",
    "api: error 106",
    "api: error 110",
    "api: prolonged",
    "caps: publish",
    "caps: subscribe",
    "close: 3005",
    "close: 3006",
    "close: 3010",
    "close: 3014",
    "close: 3500",
    "close: 3507",
    "close: 4500",
    "connect: subscribed by its token",
    "effect: pause",
    "effect: resume",
    "error: 100",
    "error: 103",
    "error: 105",
    "error: 109",
    "error: 110",
    "keys: asked for",
    "keys: not to be had",
    "keys: told",
    "push: subscribe",
    "push: unsubscribe 2000",
    "push: unsubscribe 2501",
    "push: unsubscribe 2502",
    "refresh: in the delay",
    "refresh: in time",
    "sub_refresh: in the delay",
    "sub_refresh: in time",
];

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

#[test]
fn rights_end_when_they_should_and_not_before() {
    let (first, seeds) = (super::number("SIM_FIRST", 0), super::number("SIM_SEEDS", SEEDS));
    let mut coverage = Coverage::new();
    for seed in first..first + seeds {
        let coverage = &mut coverage;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, coverage)));
        assert!(done.is_ok(), "tokens: seed {seed} failed; replay it with SIM_FIRST={seed} SIM_SEEDS=1");
    }
    println!("tokens: {seeds} seeds of {STEPS} steps, from {first}:");
    for (name, count) in &coverage {
        println!("{count:>12}  {name}");
    }
    if seeds >= SEEDS {
        let missing: Vec<_> = MUST_HAPPEN.iter().filter(|name| !coverage.contains_key(**name)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}
