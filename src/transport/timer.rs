//! The one deadline of a connection, on a wheel that cannot cancel.

use crate::stdx::wheel::on_grid;

/// Knows when a connection is due, and for when the wheel will wake it at the earliest.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// `u64::MAX`: never.
    due_ms: u64,
    /// The earliest entry of the wheel that has not fired; `u64::MAX`: none.
    armed_ms: u64,
}

impl Default for Timer {
    fn default() -> Self {
        Self { due_ms: u64::MAX, armed_ms: u64::MAX }
    }
}

impl Timer {
    /// Sets the deadline, to be met on the grid. `Some`: insert an entry for this time into the wheel.
    #[must_use]
    pub fn set(&mut self, due_ms: u64) -> Option<u64> {
        let due_ms = on_grid(due_ms);
        self.due_ms = due_ms;
        // An earlier entry will fire first and arm this one.
        (due_ms < self.armed_ms).then(|| {
            self.armed_ms = due_ms;
            due_ms
        })
    }

    /// An entry fired. True: the deadline has passed, and is cleared.
    pub fn fired(&mut self, now_ms: u64) -> Fired {
        if self.armed_ms <= now_ms {
            self.armed_ms = u64::MAX;
        }
        if self.due_ms <= now_ms {
            self.due_ms = u64::MAX;
            return Fired::Due;
        }
        if self.due_ms < self.armed_ms {
            self.armed_ms = self.due_ms;
            return Fired::Again(self.due_ms);
        }
        Fired::Stale
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    Due,
    /// Insert an entry for this time.
    Again(u64),
    Stale,
}

#[cfg(test)]
mod tests {
    use super::{Fired, Timer, on_grid};

    // Whatever is set when, the deadline is noticed at its time and at no other.
    #[test]
    fn agrees_with_a_plain_deadline() {
        arbtest::arbtest(|u| {
            let mut timer = Timer::default();
            let mut wheel = std::collections::BTreeSet::new();
            let mut due = u64::MAX;
            for now_ms in (1..200).map(|step| step * 32) {
                while let Some(&(at, id)) = wheel.iter().next()
                    && at <= now_ms
                {
                    wheel.remove(&(at, id));
                    match timer.fired(now_ms) {
                        Fired::Due => {
                            assert!(due <= now_ms, "too early");
                            due = u64::MAX;
                        }
                        Fired::Again(at) => assert!(wheel.insert((at, now_ms))),
                        Fired::Stale => {}
                    }
                }
                assert!(due > now_ms, "missed");
                if u.ratio(1, 2)? {
                    due = on_grid(now_ms + u.int_in_range(1..=600u64)?);
                    if let Some(at) = timer.set(due) {
                        wheel.insert((at, now_ms + 100_000));
                    }
                }
            }
            Ok(())
        });
    }
}
