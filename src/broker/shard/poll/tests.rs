//! The owner's book of keys: rules as rows, and against a list that is searched from end to end.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

const RULES: PollRules =
    PollRules { versioned: true, interval_ms: 1000, batch_size: 2, open_max: 2, keys_max: 5 };

fn poll(rules: PollRules) -> Poll {
    Poll::new(rules, "e".into(), ahash::RandomState::with_seeds(1, 2, 3, 4), 0)
}

fn keys(keys: &[(&str, u64)]) -> Vec<(Box<str>, u64)> {
    keys.iter().map(|(key, version)| ((*key).into(), *version)).collect()
}

fn said(key: &str, data: &str, version: u64) -> PollItem {
    PollItem { key: key.into(), data: Some(data.as_bytes().into()), json: true, version, removed: false }
}

fn refreshed(items: Vec<PollItem>) -> PollRefreshed {
    PollRefreshed { items, epoch: Box::default() }
}

fn batch_keys(batch: &Batch) -> Vec<&str> {
    batch.items.iter().map(|(key, _)| &**key).collect()
}

/// Key and version of publications.
fn shown<'a>(publications: impl Iterator<Item = &'a Arc<Publication>>) -> Vec<(String, u64)> {
    let one = |it: &Arc<Publication>| {
        let extra = it.extra.as_ref().unwrap();
        (extra.key.to_string(), extra.version)
    };
    publications.map(one).collect()
}

#[test]
fn what_is_not_known_is_asked_for_at_once_and_the_rest_in_rounds() {
    let mut poll = poll(RULES);
    assert_eq!(poll.next_due(), None, "nobody wants anything");
    poll.track(0, &keys(&[("a", 0), ("b", 0), ("c", 0), ("d", 7)]), 100).unwrap();
    assert_eq!(poll.next_due(), Some(0));
    let first = poll.next_batch(100).unwrap();
    let second = poll.next_batch(100).unwrap();
    assert_eq!((batch_keys(&first), batch_keys(&second)), (vec!["a", "b"], vec!["c"]));
    assert_eq!((poll.next_batch(100), poll.next_due()), (None, None), "as many are open as may be");
    poll.answer(&first, Some(refreshed(vec![said("a", "1", 1), said("b", "1", 4)])), 0, 100);
    poll.answer(&second, Some(refreshed(vec![])), 0, 100);
    assert_eq!((poll.next_batch(999), poll.next_due()), (None, Some(1000)));
    // Two batches in the round, half an interval apart, with the versions that are known.
    let (one, none) = (poll.next_batch(1000).unwrap(), poll.next_batch(1499));
    assert_eq!(none, None);
    let two = poll.next_batch(1500).unwrap();
    let mut all: Vec<_> = one.items.iter().chain(&two.items).map(|(key, at)| (&**key, *at)).collect();
    all.sort_unstable();
    assert_eq!(all, [("a", 1), ("b", 4), ("c", 0), ("d", 0)]);
    assert_eq!(poll.next_due(), None);
    poll.answer(&two, Some(refreshed(vec![])), 0, 1600);
    assert_eq!(poll.next_due(), Some(2000));
    // What is open is not asked for again.
    let again = poll.next_batch(2000).unwrap();
    assert!(batch_keys(&again).iter().all(|key| batch_keys(&two).contains(key)));
}

#[test]
fn a_backend_that_fails_is_left_alone_for_longer_each_time() {
    let mut poll = poll(PollRules { open_max: 1, ..RULES });
    poll.track(0, &keys(&[("a", 0)]), 0).unwrap();
    let mut now_ms = 0;
    for want in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        let batch = poll.next_batch(now_ms).unwrap();
        assert!(poll.answer(&batch, None, 0, now_ms).told.is_empty());
        assert_eq!(poll.next_due(), Some(now_ms + want));
        assert_eq!(poll.next_batch(now_ms + want - 1), None);
        now_ms += want;
        poll.invariants();
    }
    let batch = poll.next_batch(now_ms).unwrap();
    assert_eq!(poll.answer(&batch, Some(refreshed(vec![said("a", "1", 1)])), 0, now_ms).told.len(), 1);
    let batch = poll.next_batch(now_ms + 1000).unwrap();
    poll.answer(&batch, None, 0, now_ms + 1000);
    assert_eq!(poll.next_due(), Some(now_ms + 2000), "it has begun anew");
    assert_eq!(shown(poll.track(1, &keys(&[("a", 0)]), 0).unwrap().iter()), [("a".to_owned(), 1)], "kept");
}

#[test]
fn without_versions_of_the_backend_other_bytes_are_a_change() {
    let mut poll = poll(PollRules { versioned: false, ..RULES });
    let version_of = |poll: &mut Poll, data: &str| {
        poll.track(0, &keys(&[("a", 0)]), 0).unwrap();
        let batch = Batch { items: vec![("a".into(), 0)], generation: 0 };
        let changes = poll.answer(&batch, Some(refreshed(vec![said("a", data, 9)])), 0, 0);
        shown(changes.told.iter().map(|(_, it)| it)).first().map(|(_, version)| *version)
    };
    assert_eq!(version_of(&mut poll, "1"), Some(1));
    assert_eq!(version_of(&mut poll, "1"), None);
    assert_eq!(version_of(&mut poll, "2"), Some(2));
    poll.untrack(0, &["a".into()]);
    assert_eq!(version_of(&mut poll, "2"), Some(3), "newer than all that anybody may remember");
}

#[test]
fn another_epoch_voids_what_is_known_and_what_was_asked() {
    let mut poll = poll(RULES);
    poll.track(0, &keys(&[("a", 0), ("b", 0)]), 0).unwrap();
    let batch = poll.next_batch(0).unwrap();
    let of = |epoch: &str, version| PollRefreshed {
        epoch: epoch.into(),
        ..refreshed(vec![said("a", "x", version)])
    };
    assert!(!poll.answer(&batch, Some(of("one", 50)), 0, 0).reset, "the first one is none");
    let old = poll.next_batch(1000).unwrap();
    assert!(poll.publish("two", said("a", "y", 3), 0).reset);
    let late = poll.answer(&old, Some(of("one", 51)), 0, 1000);
    assert!(!late.reset && late.told.is_empty());
    assert!(!poll.publish("", said("a", "y", 2), 0).reset, "none at all voids nothing");
    let known = poll.track(1, &keys(&[("a", 0)]), 0).unwrap();
    assert_eq!(shown(known.iter()), [("a".to_owned(), 3)]);
    poll.invariants();
}

#[test]
fn what_was_published_is_not_asked_for_in_the_next_round() {
    let mut poll = poll(RULES);
    poll.track(0, &keys(&[("a", 0)]), 0).unwrap();
    let batch = poll.next_batch(0).unwrap();
    poll.answer(&batch, Some(refreshed(vec![said("a", "1", 1)])), 0, 0);
    assert_eq!(poll.publish("", said("a", "2", 2), 0).told.len(), 1);
    assert!(poll.publish("", said("a", "1", 1), 0).told.is_empty(), "older");
    assert!(poll.publish("", said("z", "1", 1), 0).told.is_empty(), "nobody tracks it");
    assert_eq!((poll.next_batch(1000), poll.next_due()), (None, Some(2000)));
    assert_eq!(batch_keys(&poll.next_batch(2000).unwrap()), ["a"]);
}

#[test]
fn there_is_a_limit_of_keys_and_nothing_happens_beyond() {
    let mut poll = poll(RULES);
    poll.track(0, &keys(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]), 0).unwrap();
    assert_eq!(poll.track(1, &keys(&[("a", 1), ("e", 1), ("f", 1)]), 0), Err(ErrorCode::LimitExceeded));
    poll.forget_core(0);
    assert_eq!(poll.len(), 0);
}

/// What a list knows of one key.
#[derive(Clone, Debug, Default)]
struct Known {
    cores: BTreeSet<CoreId>,
    version: u64,
}

#[test]
fn agrees_with_a_list() {
    arbtest::arbtest(|u| {
        let rules = PollRules {
            versioned: true,
            interval_ms: u.int_in_range(1..=50)?,
            batch_size: u.int_in_range(1..=3)?,
            open_max: u.int_in_range(1..=3)?,
            keys_max: 4,
        };
        let mut poll = poll(rules);
        let mut list: BTreeMap<&str, Known> = BTreeMap::new();
        let mut open: Vec<Batch> = Vec::new();
        let mut now_ms = 0;
        for _ in 0..u.int_in_range(1..=40)? {
            let key = *u.choose(&["a", "b", "c", "d", "e"])?;
            let core = u.int_in_range(0..=2)?;
            let version = u.int_in_range(0..=6)?;
            match u.int_in_range(0..=6)? {
                0..=1 => {
                    let known = poll.track(core, &keys(&[(key, version)]), now_ms);
                    if list.len() == rules.keys_max && !list.contains_key(key) {
                        assert_eq!(known, Err(ErrorCode::LimitExceeded));
                    } else {
                        let it = list.entry(key).or_default();
                        it.cores.insert(core);
                        let want = (it.version > version).then(|| (key.to_owned(), it.version));
                        assert_eq!(shown(known.unwrap().iter()), Vec::from_iter(want));
                    }
                }
                2 => {
                    poll.untrack(core, &[key.into()]);
                    list.entry(key).or_default().cores.remove(&core);
                }
                3 if u.ratio(1, 4)? => {
                    poll.forget_core(core);
                    list.values_mut().for_each(|it| _ = it.cores.remove(&core));
                }
                3 => {
                    let changes = poll.publish("", said(key, "x", version), 0);
                    expect(&mut list, &[(key, version, false)], &changes);
                }
                4 if !open.is_empty() => {
                    let batch = open.swap_remove(u.choose_index(open.len())?);
                    let failed = u.ratio(1, 3)?;
                    let removed = u.ratio(1, 5)?;
                    let item = PollItem { removed, ..said(key, "x", version) };
                    let answer = (!failed).then(|| refreshed(vec![item]));
                    let changes = poll.answer(&batch, answer, 0, now_ms);
                    let heard: &[_] = if failed { &[] } else { &[(key, version, removed)] };
                    expect(&mut list, heard, &changes);
                }
                _ => {
                    now_ms = match poll.next_due() {
                        Some(due_ms) if u.arbitrary()? => now_ms.max(due_ms),
                        _ => now_ms + u.int_in_range(0..=60)?,
                    };
                    while let Some(batch) = poll.next_batch(now_ms) {
                        assert!((1..=rules.batch_size).contains(&batch.items.len()));
                        for (key, version) in &batch.items {
                            assert_eq!(list[&**key].version, *version);
                            let asked = |other: &Batch| other.items.iter().any(|(it, _)| it == key);
                            // A key that was given up and taken up again may be in what is still open.
                            assert!(
                                !asked(&batch) || batch.items.iter().filter(|it| it.0 == *key).count() == 1
                            );
                        }
                        open.push(batch);
                        assert!(open.len() <= rules.open_max);
                    }
                    assert!(poll.next_due().is_none_or(|due_ms| due_ms > now_ms), "something was left");
                }
            }
            list.retain(|_, it| !it.cores.is_empty());
            poll.invariants();
            assert_eq!(poll.len(), list.len());
        }
        // Whatever was, once all answers are there every key is asked for, in time.
        for batch in open.drain(..) {
            poll.answer(&batch, Some(refreshed(vec![])), 0, now_ms);
        }
        let mut left: BTreeSet<String> = list.keys().map(|key| (*key).to_owned()).collect();
        // A pause after failures, what is fresh now, and a round.
        let end_ms = now_ms + PAUSE_MAX_MS + 3 * rules.interval_ms + 10;
        while let Some(due_ms) = poll.next_due().filter(|due_ms| *due_ms <= end_ms) {
            now_ms = now_ms.max(due_ms);
            while let Some(batch) = poll.next_batch(now_ms) {
                batch_keys(&batch).iter().for_each(|key| _ = left.remove(*key));
                poll.answer(&batch, Some(refreshed(vec![])), 0, now_ms);
            }
        }
        assert!(left.is_empty(), "{left:?} are never asked for");
        Ok(())
    });
}

/// Lists what was said, and compares who is to be told.
fn expect(list: &mut BTreeMap<&str, Known>, heard: &[(&str, u64, bool)], changes: &Changes) {
    let mut want = Vec::new();
    for &(key, version, removed) in heard {
        let Some(it) = list.get_mut(key).filter(|it| !it.cores.is_empty()) else { continue };
        if removed {
            want.push((list.remove(key).unwrap().cores, key.to_owned(), 0));
        } else if version > it.version {
            it.version = version;
            want.push((it.cores.clone(), key.to_owned(), version));
        }
    }
    let got: Vec<_> = changes
        .told
        .iter()
        .map(|(cores, it)| {
            let extra = it.extra.as_ref().unwrap();
            (cores.iter().collect::<BTreeSet<_>>(), extra.key.to_string(), extra.version)
        })
        .collect();
    assert_eq!(got, want);
}
