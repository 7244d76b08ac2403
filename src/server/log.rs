//! Lines on standard error: time, level, text. One write per line.

use crate::transport::{Level, Log};
use std::{
    fmt,
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Clone, Copy, Debug)]
pub struct Stderr {
    /// `None`: nothing is written.
    least: Option<Level>,
}

impl Stderr {
    /// By the words of `log.level`; anything else but "none" counts as "info".
    #[must_use]
    pub fn new(level: &str) -> Self {
        Self {
            least: match level {
                "none" => None,
                "trace" | "debug" => Some(Level::Debug),
                "warn" => Some(Level::Warn),
                "error" | "fatal" => Some(Level::Error),
                _ => Some(Level::Info),
            },
        }
    }
}

impl Log for Stderr {
    fn enabled(&self, level: Level) -> bool {
        self.least.is_some_and(|least| level >= least)
    }

    fn write(&self, level: Level, line: fmt::Arguments<'_>) {
        let word = match level {
            Level::Debug => "debug",
            Level::Info => "info ",
            Level::Warn => "warn ",
            Level::Error => "error",
        };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let of_day = time.as_secs() % 86_400;
        let text = format!(
            "{:02}:{:02}:{:02}.{:03} {word} {line}\n",
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60,
            time.subsec_millis()
        );
        // There is nowhere to report that the report failed.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for (setting, lowest) in [
            ("debug", Some(Level::Debug)),
            ("info", Some(Level::Info)),
            ("warn", Some(Level::Warn)),
            ("error", Some(Level::Error)),
            ("trace", Some(Level::Debug)),
            ("fatal", Some(Level::Error)),
            ("none", None),
        ] {
            let log = Stderr::new(setting);
            for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
                assert_eq!(log.enabled(level), lowest.is_some_and(|lowest| level >= lowest), "{setting}");
            }
        }
    }
}
