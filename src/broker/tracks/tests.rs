//! The book of one core against lists, with an owner that answers late and in order.

use super::*;
use crate::{model::Extra, stdx::slab::Key};
use std::collections::VecDeque;

fn conn(index: u32) -> ConnKey {
    Key { index, generation: 1 }
}

fn wanted(key: &str, version: u64, until_ms: u64) -> Wanted {
    Wanted { key: key.into(), version, until_ms }
}

fn publication(key: &str, version: u64, removed: bool) -> Arc<Publication> {
    let extra = Extra { key: key.into(), version, removed, ..Extra::default() };
    Arc::new(Publication { extra: Some(Box::new(extra)), ..Publication::default() })
}

fn book() -> Book {
    Book::new(ahash::RandomState::with_seeds(1, 2, 3, 4))
}

#[test]
fn each_is_told_what_is_newer_than_what_it_has() {
    let mut book = book();
    for (index, version) in [(1, 0), (2, 5), (3, 9)] {
        let keys = [wanted("a", version, u64::MAX)];
        let serial = book.ask(conn(index), &keys);
        let known = [publication("a", 7, false)];
        let known = if version < 7 { &known[..] } else { &[] };
        assert_eq!(book.answered(conn(index), serial, &keys, Some(known)), (true, vec![]));
    }
    assert!(book.take(&publication("a", 7, false)).is_empty());
    assert_eq!(book.take(&publication("a", 8, false)), [conn(1), conn(2)]);
    assert_eq!(book.take(&publication("a", 10, false)), [conn(1), conn(2), conn(3)]);
    assert_eq!(book.take(&publication("a", 0, true)), [conn(1), conn(2), conn(3)]);
    assert!(book.is_empty(), "what is removed is tracked by nobody");
}

#[test]
fn an_answer_for_a_subscription_that_is_over_is_for_nobody() {
    let mut book = book();
    let keys = [wanted("a", 0, u64::MAX)];
    let old = book.ask(conn(1), &keys);
    book.leave(conn(1));
    let new = book.ask(conn(1), &keys);
    assert_eq!(book.answered(conn(1), old, &keys, Some(&[])), (false, vec![]), "the new one still waits");
    assert!(book.take(&publication("a", 1, false)).is_empty());
    assert_eq!(book.answered(conn(1), new, &keys, None), (false, vec!["a".into()]));
    assert!(book.is_empty());
}

/// What a question to the owner was about.
struct Asked {
    conn: ConnKey,
    serial: u32,
    keys: Vec<Wanted>,
    /// The subscription it was asked for is still the one of the connection.
    current: bool,
}

// The owner hears of asks and of what was dropped, in order. Whatever happens, it knows of every key somebody tracks.
#[test]
fn the_owner_always_knows_what_is_tracked() {
    arbtest::arbtest(|u| {
        let mut book = book();
        // Connection, key, until.
        let mut list: Vec<(ConnKey, &str, u64)> = Vec::new();
        let mut asked: VecDeque<Asked> = VecDeque::new();
        let mut owner: BTreeSet<String> = BTreeSet::new();
        let mut now_ms = 0;
        for version in 1..=u.int_in_range(1..=40)? {
            let at = conn(u.int_in_range(1..=3)?);
            let key = *u.choose(&["a", "b", "c"])?;
            let mut dropped = Vec::new();
            match u.int_in_range(0..=7)? {
                0..=2 => {
                    let until_ms = if u.arbitrary()? { u64::MAX } else { now_ms + u.int_in_range(1..=5)? };
                    let keys = vec![wanted(key, 0, until_ms)];
                    let tracked = list.iter().filter(|it| it.0 == at).count();
                    let open = asked.iter().filter(|it| it.conn == at && it.current).count();
                    let new = usize::from(!list.iter().any(|it| (it.0, it.1) == (at, key)));
                    assert_eq!(book.count_with(at, &keys), tracked + open + new);
                    owner.insert(key.to_owned());
                    let serial = book.ask(at, &keys);
                    asked.push_back(Asked { conn: at, serial, keys, current: true });
                }
                3..=4 => {
                    let Some(answer) = asked.pop_front() else { continue };
                    let good = u.ratio(4, 5)?;
                    let known = good.then_some(&[][..]);
                    let (tracks, gone) = book.answered(answer.conn, answer.serial, &answer.keys, known);
                    assert_eq!(tracks, good && answer.current);
                    dropped = gone;
                    if tracks {
                        let it = &answer.keys[0];
                        let key = ["a", "b", "c"].into_iter().find(|key| **key == *it.key).unwrap();
                        list.retain(|it| (it.0, it.1) != (answer.conn, key));
                        list.push((answer.conn, key, it.until_ms));
                    }
                }
                5 => {
                    dropped = book.untrack(at, [key].into_iter());
                    list.retain(|it| (it.0, it.1) != (at, key));
                }
                6 => {
                    dropped = book.leave(at);
                    list.retain(|it| it.0 != at);
                    asked.iter_mut().filter(|it| it.conn == at).for_each(|it| it.current = false);
                }
                _ if u.ratio(1, 6)? => {
                    book.take(&publication(key, 0, true));
                    list.retain(|it| it.1 != key);
                    if !asked.iter().any(|it| *it.keys[0].key == *key) {
                        owner.remove(key);
                    }
                }
                _ if u.arbitrary()? => {
                    let mut told = book.take(&publication(key, version, false));
                    let mut want: Vec<_> = list.iter().filter(|it| it.1 == key).map(|it| it.0).collect();
                    told.sort_unstable();
                    want.sort_unstable();
                    assert_eq!(told, want);
                }
                _ => {
                    now_ms += u.int_in_range(0..=3)?;
                    dropped = book.expire(now_ms);
                    list.retain(|it| it.2 > now_ms);
                    let next = list.iter().map(|it| it.2).filter(|it| *it != u64::MAX).min();
                    assert_eq!(book.next_due(), next);
                }
            }
            for key in &dropped {
                assert!(owner.remove(&**key), "{key}: dropped twice");
                assert!(!list.iter().any(|it| *it.1 == **key), "{key}: dropped and tracked");
            }
            for it in &list {
                assert!(owner.contains(it.1), "{}: tracked and unknown to the owner", it.1);
            }
            for it in &asked {
                assert!(owner.contains(&*it.keys[0].key), "asked for and dropped");
            }
            book.invariants();
        }
        for at in 1..=3 {
            book.leave(conn(at)).iter().for_each(|key| _ = owner.remove(&**key));
        }
        for it in asked {
            let (_, gone) = book.answered(it.conn, it.serial, &it.keys, Some(&[]));
            gone.iter().for_each(|key| _ = owner.remove(&**key));
        }
        assert!(book.is_empty() && owner.is_empty(), "{owner:?} is polled for nobody");
        Ok(())
    });
}
