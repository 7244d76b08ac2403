//! Which cores want what is published to channels that match a pattern: a trie of the words of all patterns.
//!
//! Every core has all patterns, so that a publication leaves its owner for the cores of all its subscribers in
//! one step. Bounds: one entry for each pattern and core with subscribers, at most [`WORDS_MAX`] nodes deep.

use crate::{
    broker::{
        hub::HubKey,
        wildcard::{ANY, REST, Split},
    },
    model::CoreId,
};
use std::collections::HashMap;

#[cfg(test)]
use crate::broker::wildcard::WORDS_MAX;

/// A core with subscribers of a pattern, and how it calls that.
type Watchers = Vec<(CoreId, HubKey)>;

type Words = HashMap<Box<str>, Node, ahash::RandomState>;

#[derive(Debug)]
pub struct Patterns {
    /// By what stands before the words.
    roots: Words,
    /// Pairs of pattern and core.
    watchers: usize,
}

#[derive(Debug)]
struct Node {
    words: Words,
    /// Behind a word that may be any.
    any: Option<Box<Self>>,
    /// Of the pattern that ends here.
    here: Watchers,
    /// Of the pattern that goes on with one word or more, whatever they are.
    rest: Watchers,
}

impl Node {
    fn new(hasher: &ahash::RandomState) -> Self {
        let words = HashMap::with_hasher(hasher.clone());
        Self { words, any: None, here: Vec::new(), rest: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    /// The watchers of the pattern whose words are left, made if need be.
    fn watchers(&mut self, mut words: std::str::Split<'_, char>) -> &mut Watchers {
        let hasher = self.words.hasher().clone();
        let next = match words.next() {
            None => return &mut self.here,
            Some(REST) if words.clone().next().is_none() => return &mut self.rest,
            Some(ANY) => self.any.get_or_insert_with(|| Box::new(Self::new(&hasher))),
            Some(word) => self.words.entry(word.into()).or_insert_with(|| Self::new(&hasher)),
        };
        next.watchers(words)
    }

    /// Takes `core` out of the pattern whose words are left, and empty nodes away. True when it was there.
    fn remove(&mut self, mut words: std::str::Split<'_, char>, core: CoreId) -> bool {
        let leave = |watchers: &mut Watchers| {
            let before = watchers.len();
            watchers.retain(|(watcher, _)| *watcher != core);
            watchers.len() < before
        };
        match words.next() {
            None => leave(&mut self.here),
            Some(REST) if words.clone().next().is_none() => leave(&mut self.rest),
            Some(ANY) => {
                let Some(next) = &mut self.any else { return false };
                let removed = next.remove(words, core);
                if next.is_empty() {
                    self.any = None;
                }
                removed
            }
            Some(word) => {
                let Some(next) = self.words.get_mut(word) else { return false };
                let removed = next.remove(words, core);
                if next.is_empty() {
                    self.words.remove(word);
                }
                removed
            }
        }
    }

    fn each(&self, mut words: std::str::Split<'_, char>, found: &mut impl FnMut(CoreId, HubKey)) {
        let Some(word) = words.next() else {
            self.here.iter().for_each(|&(core, hub)| found(core, hub));
            return;
        };
        self.rest.iter().for_each(|&(core, hub)| found(core, hub));
        if let Some(next) = self.words.get(word) {
            next.each(words.clone(), found);
        }
        if let Some(next) = &self.any {
            next.each(words, found);
        }
    }
}

impl Patterns {
    #[must_use]
    pub fn new(hasher: ahash::RandomState) -> Self {
        Self { roots: HashMap::with_hasher(hasher), watchers: 0 }
    }

    /// From now on `core` wants what matches, under this key; a key it had before no longer counts.
    pub fn watch(&mut self, pattern: Split<'_>, core: CoreId, hub: HubKey) {
        let hasher = self.roots.hasher().clone();
        let root = self.roots.entry(pattern.root.into()).or_insert_with(|| Node::new(&hasher));
        let watchers = root.watchers(pattern.words());
        match watchers.iter_mut().find(|(watcher, _)| *watcher == core) {
            Some(known) => known.1 = hub,
            None => {
                watchers.push((core, hub));
                self.watchers += 1;
            }
        }
    }

    /// `core` has no subscriber of this pattern any more.
    pub fn unwatch(&mut self, pattern: Split<'_>, core: CoreId) {
        let Some(root) = self.roots.get_mut(pattern.root) else { return };
        self.watchers -= usize::from(root.remove(pattern.words(), core));
        if root.is_empty() {
            self.roots.remove(pattern.root);
        }
    }

    /// Pairs of pattern and core.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.watchers
    }

    /// Nobody wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watchers == 0
    }

    /// Calls `found` for every core and pattern that `channel` matches. Visits no node twice.
    pub fn each(&self, channel: Split<'_>, mut found: impl FnMut(CoreId, HubKey)) {
        if let Some(root) = self.roots.get(channel.root) {
            root.each(channel.words(), &mut found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The rule, naively.
    fn matches(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern, words) {
            ([], []) => true,
            ([REST], [_, ..]) => true,
            ([first, pattern @ ..], [word, words @ ..]) => {
                (*first == ANY || first == word) && matches(pattern, words)
            }
            _ => false,
        }
    }

    // Any mix of patterns, watched and left again, is found for any name exactly where the rule says.
    #[test]
    fn agrees_with_the_rule() {
        arbtest::arbtest(|u| {
            let mut patterns = Patterns::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
            let mut watched: Vec<(String, String, CoreId, HubKey)> = Vec::new();
            let name = |u: &mut arbitrary::Unstructured<'_>, words: &[&'static str]| {
                let count = u.int_in_range(1..=4)?;
                let words: Result<Vec<_>, _> = (0..count).map(|_| u.choose(words).copied()).collect();
                Ok::<_, arbitrary::Error>((u.choose(&["", "n:"])?.to_string(), words?.join(".")))
            };
            for index in 0..u.int_in_range(0..=20)? {
                let (root, words) = name(u, &["a", "b", "", ANY, REST])?;
                let core = u.int_in_range(0..=2)?;
                let split = Split { root: &root, rest: &words };
                if u.ratio(1, 3)? {
                    patterns.unwatch(split, core);
                    watched.retain(|(r, w, c, _)| (r, w, *c) != (&root, &words, core));
                } else {
                    let hub = HubKey { index, generation: 0 };
                    patterns.watch(split, core, hub);
                    watched.retain(|(r, w, c, _)| (r, w, *c) != (&root, &words, core));
                    watched.push((root, words, core, hub));
                }
            }
            assert_eq!(patterns.watchers, watched.len());
            for _ in 0..10 {
                let (root, words) = name(u, &["a", "b", "", "c"])?;
                let mut found = Vec::new();
                patterns.each(Split { root: &root, rest: &words }, |core, hub| found.push((core, hub.index)));
                let list: Vec<_> = words.split('.').collect();
                let want: BTreeSet<_> = watched
                    .iter()
                    .filter(|(r, w, ..)| *r == root && matches(&w.split('.').collect::<Vec<_>>(), &list))
                    .map(|(.., core, hub)| (*core, hub.index))
                    .collect();
                assert_eq!(found.len(), want.len(), "each once");
                assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), want, "{root}{words} of {watched:?}");
            }
            for (root, words, core, _) in &watched {
                patterns.unwatch(Split { root, rest: words }, *core);
            }
            assert!(patterns.is_empty() && patterns.roots.is_empty(), "nothing stays behind");
            Ok(())
        });
    }

    #[test]
    fn the_deepest_pattern_there_may_be() {
        let mut patterns = Patterns::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        let words = vec![ANY; WORDS_MAX].join(".");
        let hub = HubKey { index: 1, generation: 0 };
        patterns.watch(Split { root: "", rest: &words }, 0, hub);
        let mut found = 0;
        for count in [WORDS_MAX - 1, WORDS_MAX, WORDS_MAX + 1, 30_000] {
            let name = vec!["a"; count].join(".");
            patterns.each(Split { root: "", rest: &name }, |_, _| found += 1);
        }
        assert_eq!(found, 1);
    }
}
