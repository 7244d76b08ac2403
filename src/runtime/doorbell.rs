//! Who has to wake whom: the flags behind every sleep of a core.
//!
//! A core that finds nothing to do announces its sleep, looks at all its queues once more and only then
//! sleeps on its descriptor. Whoever publishes something for it asks [`Sleeping::must_ring`] afterwards.
//! Both sides put a sequentially consistent fence between their own write and their look at the other's,
//! so at least one of them sees the other: either the sleeper finds the work or the publisher rings.
//!
//! [`RoomWanted`] is the same in the other direction: a sender that found a queue full says so, and
//! the receiver that made room rings the sender's bell.
//!
//! The flags change by swaps only, the owner's changes included: so a change that was made earlier cannot be
//! ordered behind a later one, neither in the language's memory model nor in loom's weaker one.
//!
//! Only flags here, so that `tests/loom_doorbell.rs` can run this very file under loom.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Set while its owner sleeps or is about to.
#[derive(Debug)]
pub struct Sleeping(AtomicBool);

impl Sleeping {
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The owner says that it is going to sleep. It must look at every queue after this call and
    /// sleep only if all are empty.
    pub fn announce(&self) {
        self.0.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether the announcement still stands: nobody has decided to ring since.
    pub fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The owner is awake: publishers need not ring.
    pub fn withdraw(&self) {
        self.0.swap(false, Ordering::Relaxed);
    }

    /// To be asked after publishing something for the owner. True for exactly one publisher per sleep,
    /// which must then write the owner's descriptor.
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

/// Set while the sender of a queue waits for room in it. Only the sender changes it: a receiver that took the
/// wish away could do so on behalf of an earlier message, after the queue was full again.
#[derive(Debug)]
pub struct RoomWanted(AtomicBool);

impl RoomWanted {
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The sender found the queue full. It must try once more after this call.
    pub fn set(&self) {
        self.0.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sender has seen room.
    pub fn clear(&self) {
        self.0.swap(false, Ordering::Relaxed);
    }

    /// To be asked by the receiver after taking something out; true: the sender must be woken if it sleeps.
    pub fn is_set(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }
}
