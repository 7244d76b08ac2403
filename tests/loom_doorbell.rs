//! Every interleaving of a core going to sleep with others that have something for it.
//!
//! Runs the very file the runtime uses:
//! `RUSTFLAGS="--cfg loom" cargo test --no-default-features --features core --test loom_doorbell --release`
#![cfg(loom)]

#[path = "../src/runtime/doorbell.rs"]
mod doorbell;

use doorbell::{RoomWanted, Sleeping};
use loom::{
    sync::{
        Arc, Notify,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The descriptor a core sleeps on. A core that sleeps for ever is a deadlock, which loom reports.
struct Descriptor(Notify);

impl Descriptor {
    fn new() -> Self {
        Self(Notify::new())
    }

    fn ring(&self) {
        self.0.notify();
    }

    fn sleep(&self) {
        self.0.wait();
    }
}

struct Core {
    sleeping: Sleeping,
    descriptor: Descriptor,
}

impl Core {
    fn new() -> Self {
        Self { sleeping: Sleeping::new(), descriptor: Descriptor::new() }
    }

    fn ring_if_asleep(&self) {
        if self.sleeping.must_ring() {
            self.descriptor.ring();
        }
    }

    /// Goes to sleep unless `has_work`, as the runtime does.
    fn rest(&self, has_work: impl Fn() -> bool) {
        self.sleeping.announce();
        if !has_work() {
            self.descriptor.sleep();
        }
        self.sleeping.withdraw();
    }
}

/// Three preemptions per run find what there is to find in minutes less than all of them.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

// The counter stands for a queue: raised by publishers, read by the core, with the queue's own orderings.
#[test]
fn no_wake_up_is_lost() {
    model(|| {
        let core = Arc::new(Core::new());
        let published = Arc::new(AtomicUsize::new(0));
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let (core, published) = (core.clone(), published.clone());
                thread::spawn(move || {
                    published.fetch_add(1, Ordering::Release);
                    core.ring_if_asleep();
                })
            })
            .collect();
        let mut handled = 0;
        while handled < 2 {
            handled = published.load(Ordering::Acquire);
            if handled < 2 {
                core.rest(|| published.load(Ordering::Acquire) > handled);
            }
        }
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    });
}

// A queue of one place: the sender sleeps when it is full, the receiver when it is empty.
#[test]
fn room_wakes_the_sender() {
    const TOTAL: usize = 3;
    model(|| {
        let sender = Arc::new(Core::new());
        let receiver = Arc::new(Core::new());
        let wanted = Arc::new(RoomWanted::new());
        let pushed = Arc::new(AtomicUsize::new(0));
        let popped = Arc::new(AtomicUsize::new(0));

        let receiving = {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            let (wanted, pushed, popped) = (wanted.clone(), pushed.clone(), popped.clone());
            thread::spawn(move || {
                let mut done = 0;
                while done < TOTAL {
                    if pushed.load(Ordering::Acquire) > done {
                        done += 1;
                        popped.store(done, Ordering::Release);
                        if wanted.is_set() {
                            sender.ring_if_asleep();
                        }
                    } else {
                        receiver.rest(|| pushed.load(Ordering::Acquire) > done);
                    }
                }
            })
        };

        let mut sent = 0;
        let is_full = |sent: usize| sent > popped.load(Ordering::Acquire);
        while sent < TOTAL {
            if is_full(sent) {
                wanted.set();
                if is_full(sent) {
                    sender.rest(|| !is_full(sent));
                    continue;
                }
            }
            wanted.clear();
            sent += 1;
            pushed.store(sent, Ordering::Release);
            receiver.ring_if_asleep();
        }
        receiving.join().unwrap();
    });
}
