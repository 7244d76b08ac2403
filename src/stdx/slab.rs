//! Storage by index with generations: a key that outlives its entry finds nothing instead of a stranger.
//!
//! [`Slab`] hands out keys. [`SideTable`] stores something under keys that another slab handed out, so
//! that several modules can say "connection 7" and mean the same one.

/// Names an entry of a [`Slab`]. Small, copyable, never reused: a slot that is freed and taken again
/// gets another generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub index: u32,
    pub generation: u32,
}

impl Key {
    /// A key no slab ever hands out.
    pub const NONE: Self = Self { index: u32::MAX, generation: u32::MAX };

    /// Both halves in one word, for places that carry a plain number (timers, ring user data).
    #[must_use]
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// The inverse of [`Key::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Entries by [`Key`]. Insert, look-up and removal are O(1); free slots are reused last-in first-out.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free_head: u32,
    len: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Full(T),
    /// Index of the next free slot, or `u32::MAX`.
    Free(u32),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free_head: u32::MAX, len: 0 }
    }
}

impl<T> Slab<T> {
    /// One that never hands out keys with an index below `first`.
    #[must_use]
    pub fn beginning_at(first: u32) -> Self {
        let slot = |_| Slot { generation: 0, state: State::Free(u32::MAX) };
        Self { slots: (0..first).map(slot).collect(), free_head: u32::MAX, len: 0 }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key the next [`Slab::insert`] will hand out.
    #[must_use]
    pub fn next_key(&self) -> Key {
        match self.slots.get(self.free_head as usize) {
            Some(slot) => Key { index: self.free_head, generation: slot.generation },
            None => Key { index: self.slots.len() as u32, generation: 0 },
        }
    }

    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        match self.slots.get_mut(key.index as usize) {
            Some(slot) => {
                if let State::Free(next) = slot.state {
                    self.free_head = next;
                }
                slot.state = State::Full(value);
            }
            None => {
                assert!(self.slots.len() < u32::MAX as usize, "a slab holds at most 2^32 - 1 entries");
                self.slots.push(Slot { generation: 0, state: State::Full(value) });
            }
        }
        self.len += 1;
        key
    }

    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Slot { generation, state: State::Full(value) }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    #[must_use]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Slot { generation, state: State::Full(value) }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let slot = &mut self.slots[key.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let state = std::mem::replace(&mut slot.state, State::Free(self.free_head));
        self.free_head = key.index;
        self.len -= 1;
        match state {
            State::Full(value) => Some(value),
            State::Free(_) => None,
        }
    }

    /// Entries in index order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.state {
            State::Full(value) => Some((Key { index: index as u32, generation: slot.generation }, value)),
            State::Free(_) => None,
        })
    }

    /// Entries in index order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| match &mut slot.state {
            State::Full(value) => Some((Key { index: index as u32, generation: slot.generation }, value)),
            State::Free(_) => None,
        })
    }
}

/// Entries under keys from somebody else's [`Slab`].
#[derive(Debug)]
pub struct SideTable<T> {
    slots: Vec<Option<(u32, T)>>,
    len: usize,
}

impl<T> Default for SideTable<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }
}

impl<T> SideTable<T> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores `value`; an entry of an older generation in the same slot is dropped.
    pub fn insert(&mut self, key: Key, value: T) {
        let index = key.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        if self.slots[index].replace((key.generation, value)).is_none() {
            self.len += 1;
        }
    }

    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Some((generation, value))) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    #[must_use]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Some((generation, value))) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Whatever lives in slot `index`, and its whole key.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<(Key, &T)> {
        let (generation, value) = self.slots.get(index as usize)?.as_ref()?;
        Some((Key { index, generation: *generation }, value))
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.len -= 1;
        self.slots[key.index as usize].take().map(|(_, value)| value)
    }

    /// Entries in index order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.as_ref()
                .map(|(generation, value)| (Key { index: index as u32, generation: *generation }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_entry_finds_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(second.index, first.index);
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&'b')));
        assert_eq!(slab.remove(first), None);
        assert_eq!(Key::from_bits(second.to_bits()), second);
    }

    // The slab agrees with a map that never reuses a name.
    #[test]
    fn agrees_with_model() {
        arbtest::arbtest(|u| {
            let mut slab = Slab::default();
            let mut side = SideTable::default();
            let mut model = std::collections::BTreeMap::new();
            let mut gone = Vec::new();
            for value in 0..u.int_in_range(0..=40u32)? {
                if u.ratio(2, 3)? {
                    let expected = slab.next_key();
                    let key = slab.insert(value);
                    assert_eq!(key, expected);
                    side.insert(key, value);
                    assert_eq!(model.insert(key, value), None, "a key was handed out twice");
                } else if let Some(&key) = model.keys().next() {
                    assert_eq!(slab.remove(key), model.remove(&key));
                    side.remove(key);
                    gone.push(key);
                }
                assert_eq!((slab.len(), side.len()), (model.len(), model.len()));
            }
            let mut listed: Vec<_> = slab.iter().map(|(k, v)| (k, *v)).collect();
            listed.sort_unstable();
            assert_eq!(listed, model.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            assert_eq!(side.iter().count(), model.len());
            assert!(gone.iter().all(|&key| slab.get(key).is_none() && side.get(key).is_none()));
            Ok(())
        });
    }
}
