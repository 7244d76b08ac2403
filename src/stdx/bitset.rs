//! A set of cores in one word. Indices from 0 to 127; a larger one is a bug of the caller and panics.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct CoreSet(u128);

impl CoreSet {
    /// How many cores fit.
    pub const CAPACITY: u16 = 128;

    /// Whether `core` was not in the set.
    pub fn insert(&mut self, core: u16) -> bool {
        let fresh = !self.contains(core);
        self.0 |= Self::bit(core);
        fresh
    }

    /// Whether `core` was in the set.
    pub fn remove(&mut self, core: u16) -> bool {
        let present = self.contains(core);
        self.0 &= !Self::bit(core);
        present
    }

    #[must_use]
    pub fn contains(self, core: u16) -> bool {
        self.0 & Self::bit(core) != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Members in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let core = rest.trailing_zeros();
            // Clears the lowest bit; nothing is left to clear when the set is empty.
            rest &= rest.checked_sub(1)?;
            Some(core as u16)
        })
    }

    fn bit(core: u16) -> u128 {
        assert!(core < Self::CAPACITY, "core {core} of at most {}", Self::CAPACITY);
        1 << core
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_model() {
        arbtest::arbtest(|u| {
            let mut set = CoreSet::default();
            let mut model = BTreeSet::new();
            for _ in 0..u.int_in_range(0..=200)? {
                let core = u.int_in_range(0..=127)?;
                match u.ratio(1, 2)? {
                    true => assert_eq!(set.insert(core), model.insert(core)),
                    false => assert_eq!(set.remove(core), model.remove(&core)),
                }
                assert!(set.iter().eq(model.iter().copied()));
                assert_eq!(set.contains(core), model.contains(&core));
                assert_eq!((set.len() as usize, set.is_empty()), (model.len(), model.is_empty()));
            }
            Ok(())
        });
    }

    #[test]
    #[should_panic(expected = "core 128")]
    fn the_first_core_too_many() {
        CoreSet::default().insert(128);
    }
}
