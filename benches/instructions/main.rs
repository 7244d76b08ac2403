//! User-space work of the parts without I/O, to be counted in instructions: `scripts/count-instructions`.
//!
//! Every case does the same work in every run: seeds are fixed, nothing asks a clock, nothing depends on an
//! address. What is counted is what [`measured`] calls; each case has run before, so that memory is there and
//! tables have grown. Without valgrind the cases run and nothing is counted. An argument names the only case
//! to run.
//!
//! Not here: time (`write_path` has it), the kernel, the cache.

mod broker;
mod wire;

use std::hint::black_box;

/// The function the counter looks for: counting is on inside of it, and a case ends when it returns.
#[inline(never)]
fn measured(work: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        work();
    }
    black_box(());
}

/// Runs `work` as case `name`, if that is wanted; each call of it does `units` of what the case is about.
fn case(name: &str, units: u32, mut work: impl FnMut()) {
    const TIMES: u32 = 4;
    // Cargo adds options of its own when it runs a bench.
    if std::env::args().skip(1).any(|only| !only.starts_with("--") && only != name) {
        return;
    }
    // Buffers reach their final size in the second round, not in the first.
    work();
    work();
    measured(&mut work, TIMES);
    println!("{name} {}", units * TIMES);
}

fn main() {
    wire::run();
    broker::run();
}
