//! How transports report: levels, and a sink somebody above provides. Never used per message.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

pub trait Log: Send + Sync {
    fn enabled(&self, level: Level) -> bool;
    /// One line. Called only for enabled levels.
    fn write(&self, level: Level, line: fmt::Arguments<'_>);
}

/// Lets through so many lines a second, and says afterwards how many it kept back: mistakes of clients must not fill a disk.
#[derive(Debug, Default)]
pub struct Rate {
    second: u64,
    lines: u32,
    dropped: u64,
}

const LINES_PER_SECOND: u32 = 10;

impl Rate {
    /// Whether a line may be written at this time, and how many were dropped before it.
    pub fn take(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms / 1000 != self.second {
            self.second = now_ms / 1000;
            self.lines = 0;
        }
        if self.lines == LINES_PER_SECOND {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::{LINES_PER_SECOND, Rate};

    #[test]
    fn counts_what_it_drops() {
        let mut rate = Rate::default();
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(rate.take(5), Some(0));
        }
        assert_eq!((rate.take(6), rate.take(7)), (None, None));
        assert_eq!((rate.take(1000), rate.take(1001)), (Some(2), Some(0)));
    }
}
