//! What is wrong with a configuration: where, which key, what was found, what is allowed.
//!
//! An operator mends it from the message alone, so all errors of all sources are reported together.

use super::node::At;
use std::fmt;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Default,
    File { name: String, at: At },
    Environment { name: String },
    Flag { flag: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, at } if at.line == 0 => f.write_str(name),
            Self::File { name, at } if at.column == 0 => write!(f, "{name}:{}", at.line),
            Self::File { name, at } => write!(f, "{name}:{}:{}", at.line, at.column),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    pub place: Place,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read as what it claims to be.
    #[error("{0}")]
    Syntax(String),
    #[error("unknown key {key:?}{}", Hint(nearest, "nearest known key"))]
    UnknownKey { key: String, nearest: Option<(String, bool)> },
    /// A `CORECAST_` variable that belongs to no key. It is its own place.
    #[error("no such variable{}", Hint(nearest, "nearest known variable"))]
    UnknownVariable { nearest: Option<(String, bool)> },
    #[error("{key:?} is a Centrifugo option that Corecast does not support yet (found {found}); remove it")]
    NotSupported { key: String, found: String },
    #[error("{key} = {found}: must be {allowed}")]
    NotAllowed { key: String, found: String, allowed: String },
    /// A key with dots in it where a nested section is meant.
    #[error("unknown key {key:?}; sections are nested: write {section:?} as a section and {name:?} in it")]
    Dotted { key: String, section: String, name: String },
    /// `key` sets an option of a namespace that is not there.
    #[error("{key}: there is no such namespace; {}", Known(known))]
    NoNamespace { key: String, known: Vec<String> },
    /// Several namespaces have the same name in the environment.
    #[error("more than one namespace can be meant: set it in the file or with --set")]
    AmbiguousVariable,
    /// A key or an expression that is none. Not repeated: it may be a secret.
    #[error("{key}: {reason}")]
    Unusable { key: String, reason: String },
    /// Two settings that do not go together.
    #[error("{key} = {found}: {reason}")]
    Conflict { key: String, found: String, reason: String },
}

struct Hint<'a>(&'a Option<(String, bool)>, &'static str);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((nearest, true)) => write!(f, "; did you mean {nearest:?}?"),
            Some((nearest, false)) => write!(f, "; {} is {nearest:?}", self.1),
            None => Ok(()),
        }
    }
}

struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("channel.namespaces is empty"),
            known => write!(f, "channel.namespaces has {}", known.join(", ")),
        }
    }
}

/// All that is wrong, in the order it was found: one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    pub errors: Vec<ConfigError>,
    /// Errors beyond the ones listed.
    pub more: usize,
}

impl ConfigErrors {
    /// Most errors listed; the rest is counted.
    pub const LISTED_MAX: usize = 100;

    pub(super) fn push(&mut self, place: Place, problem: Problem) {
        if self.errors.len() < Self::LISTED_MAX {
            self.errors.push(ConfigError { place, problem });
        } else {
            self.more += 1;
        }
    }

    /// By line and column: TOML's tree does not keep the order of the file.
    pub(super) fn sort(&mut self) {
        self.errors.sort_by_key(|error| match &error.place {
            Place::File { at, .. } => (at.line, at.column),
            _ => (0, 0),
        });
    }

    /// True when nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        if self.more > 0 {
            write!(f, "\n… and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
