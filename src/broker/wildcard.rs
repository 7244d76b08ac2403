//! Names of channels that are patterns: `news.*` stands for every channel whose name goes on with one word
//! after `news.`, `news.>` for every one that goes on with one word or more.
//!
//! Words are what dots separate in the part of a name after its namespace. A pattern reaches no further than its
//! namespace, never a private channel unless it is private itself, and no channel limited to users.

use super::{
    core::Core,
    group::Note,
    hub::HubKey,
    mesh::{Mesh, Outgoing, Tell},
    permission::Namespaces,
};
use crate::{
    config::ChannelOptions,
    model::{CoreId, ErrorCode, Publication},
};
use std::sync::Arc;

/// The word that stands for any one.
pub const ANY: &str = "*";

/// The last word of a pattern that stands for any one or more.
pub const REST: &str = ">";

/// Words a pattern may have.
pub const WORDS_MAX: usize = 32;

/// A name in two parts.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    /// Private prefix, namespace and boundary.
    pub root: &'a str,
    pub rest: &'a str,
}

impl<'a> Split<'a> {
    #[must_use]
    pub fn words(self) -> std::str::Split<'a, char> {
        self.rest.split('.')
    }

    /// Where wildcards are allowed, a name of which at least one word is one is a pattern.
    #[must_use]
    pub fn is_pattern(self) -> bool {
        self.words().any(|word| word == ANY) || self.rest.rsplit('.').next() == Some(REST)
    }

    #[must_use]
    pub fn fits(self) -> bool {
        self.words().nth(WORDS_MAX).is_none()
    }
}

impl Namespaces {
    /// Takes a name apart.
    #[must_use]
    pub fn split<'a>(&self, channel: &'a str) -> Split<'a> {
        let at = channel.len() - self.inner(channel).len();
        let (root, rest) = channel.split_at(at);
        Split { root, rest }
    }

    /// Whether `channel`, whose options are `options`, is a pattern.
    #[inline]
    #[must_use]
    pub fn is_pattern(&self, options: &ChannelOptions, channel: &str) -> bool {
        options.allow_wildcards && self.split(channel).is_pattern()
    }

    /// Patterns are subscribed to, never published to.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] for a pattern.
    #[inline]
    pub fn check_concrete(&self, options: &ChannelOptions, channel: &str) -> Result<(), ErrorCode> {
        if self.is_pattern(options, channel) { Err(ErrorCode::BadRequest) } else { Ok(()) }
    }
}

impl Core {
    /// This core has, or is about to have, a subscriber of a pattern: all cores send it what matches.
    pub(super) fn watch(&mut self, hub: HubKey) {
        let Some(channel) = self.hub.get_mut(hub) else { return };
        if std::mem::replace(&mut channel.watching, true) {
            return;
        }
        let pattern = Arc::clone(&channel.name);
        self.tell_all(|| Tell::Watch { pattern: Arc::clone(&pattern), hub });
    }

    /// Frees the entry of a channel if nobody is subscribed or about to be.
    pub(super) fn release_channel(&mut self, hub: HubKey) {
        if self.hub.get(hub).is_some_and(|channel| channel.live == 0 && channel.waiting == 0) {
            self.tracks.forget(hub);
        }
        if let Some(pattern) = self.hub.release_if_unused(hub) {
            self.tell_all(|| Tell::Unwatch { pattern: Arc::clone(&pattern) });
        }
    }

    fn tell_all(&mut self, tell: impl Fn() -> Tell) {
        for core in 0..self.cores {
            self.out.send(core as CoreId, Mesh::Tell(tell()));
        }
    }

    /// A publication in a channel that a pattern stands for. It has no place in what subscribers of the pattern
    /// see: nothing is positioned there.
    pub(super) fn on_match(&mut self, hub: HubKey, publication: Arc<Publication>) {
        if let Some(channel) = self.hub.get(hub) {
            if channel.has_quiet {
                return self.note_without_echo(hub, publication, None);
            }
            let note = Note::Publication { publication, epoch: None };
            self.groups.note(&channel.groups, &note, &mut self.counters);
        }
    }
}
