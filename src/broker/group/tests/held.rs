//! Maps with conflation, against a client that applies what it is told.

use super::*;
use crate::{model::Extra, stdx::rng::Rng};

const INTERVAL_MS: u64 = 100;
const CLASS: Class = Class { conflate_ms: INTERVAL_MS as u32, ..TEXT };
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

struct World {
    it: Bench,
    group: GroupKey,
    now_ms: u64,
    offset: u64,
    entries: BTreeMap<&'static str, Arc<Publication>>,
    /// Where the client was told that its entries were set.
    mirror: BTreeMap<Box<str>, u64>,
    /// The intervals in which it was told something of an entry last.
    told_in: BTreeMap<Box<str>, u64>,
    told_to: u64,
}

impl World {
    fn new() -> Self {
        let (it, groups) = Bench::new(&[(CLASS, 1)]);
        Self {
            it,
            group: groups[0],
            now_ms: 0,
            offset: 0,
            entries: BTreeMap::new(),
            mirror: BTreeMap::new(),
            told_in: BTreeMap::new(),
            told_to: 0,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.it.groups.begin_turn(self.now_ms);
        if self.it.groups.next_deadline().is_some_and(|due_ms| due_ms <= self.now_ms) {
            self.it.groups.release(&mut self.it.counters);
            self.hear();
        }
    }

    /// Sets or removes an entry; one that is not JSON is hidden from this client.
    fn change(&mut self, key: &'static str, data: Option<&str>) {
        let before = self.entries.get(key).cloned();
        if data.is_none() && before.is_none() {
            return;
        }
        self.offset += 1;
        let extra = Extra { key: key.into(), removed: data.is_none(), ..Extra::default() };
        let publication = Arc::new(Publication {
            offset: self.offset,
            data: data.unwrap_or_default().as_bytes().into(),
            json: data.is_none(),
            extra: Some(Box::new(extra)),
            ..Publication::default()
        });
        match data {
            Some(_) => self.entries.insert(key, Arc::clone(&publication)),
            None => self.entries.remove(key),
        };
        let change = Change { publication, before, epoch: None };
        self.it.groups.note_change(&[self.group], &change, &mut self.it.counters);
        self.hear();
    }

    fn hear(&mut self) {
        let notes = std::mem::take(&mut self.it.groups.groups.get_mut(self.group).unwrap().notes);
        for note in notes {
            let Note::Publication { publication, .. } = note else { panic!("{note:?}") };
            assert!(publication.offset > self.told_to, "in order");
            self.told_to = publication.offset;
            let extra = publication.extra.as_ref().unwrap();
            let told_in = self.told_in.insert(extra.key.clone(), self.now_ms / INTERVAL_MS);
            assert_ne!(told_in, Some(self.now_ms / INTERVAL_MS), "{} twice in an interval", extra.key);
            if extra.removed {
                assert!(self.mirror.remove(&extra.key).is_some(), "{} is gone and never was", extra.key);
            } else {
                self.mirror.insert(extra.key.clone(), publication.offset);
            }
        }
        if self.it.groups.next_deadline().is_none() {
            let visible = self.entries.iter().filter(|(_, it)| is_json(&it.data));
            let want: BTreeMap<Box<str>, u64> = visible.map(|(key, it)| ((*key).into(), it.offset)).collect();
            assert_eq!(self.mirror, want, "at {}", self.now_ms);
        }
    }
}

#[test]
fn a_client_has_the_map_when_nothing_waits() {
    let (mut waited, mut at_once) = (0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut world = World::new();
        for _ in 0..150 {
            if rng.below(4) == 0 {
                world.pass(1 + rng.below(2 * INTERVAL_MS));
            }
            let key = KEYS[rng.below(4) as usize];
            let before = world.told_to;
            world.change(key, [None, Some("1"), Some("2"), Some("not JSON")][rng.below(4) as usize]);
            *(if world.told_to > before { &mut at_once } else { &mut waited }) += 1;
        }
        world.pass(INTERVAL_MS);
        assert_eq!(world.it.groups.next_deadline(), None);
        world.hear();
    }
    assert!(waited > 500 && at_once > 500, "{waited} {at_once}");
}

// What came and went within an interval takes no room.
#[test]
fn held_changes_are_bounded_by_the_map() {
    let mut world = World::new();
    world.change("a", Some("1"));
    for _ in 0..100 {
        world.change("b", Some("1"));
        world.change("b", None);
    }
    assert!(!world.it.groups.groups.get(world.group).unwrap().variant.as_ref().unwrap().is_held());
}
