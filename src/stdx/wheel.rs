//! Timers of one core: a hierarchical wheel of 11 levels with 64 slots each, one millisecond to a tick.
//!
//! A timer waits in the slot of the highest digit (base 64) in which its deadline differs from the
//! wheel's time, and moves down a level each time that digit is reached: at most 11 moves, whatever the
//! distance. Insertion is O(1). Nothing fires early; what is due fires at the next [`Wheel::advance`].
//!
//! There is no cancellation. Owners keep their own deadline beside their state, and compare when a token
//! fires: an entry that has become stale is simply ignored.
//!
//! Memory: 20 bytes per waiting timer, at the highest number that ever waited at once, plus 3 KiB. After
//! that no operation allocates. At most 2^32 - 1 timers wait at once; more is a bug of the owner and panics.

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Enough digits for every `u64`.
const LEVELS: usize = 11;
const NIL: u32 = u32::MAX;
/// Whole slots of the second level, so that what lies on the grid fires without moving down first.
const GRID_MS: u64 = 2 * SLOTS as u64;

/// The first point of a grid of 128 ms that is not before `deadline_ms`; `u64::MAX`, which is no deadline, stays.
///
/// Deadlines of connections are met that late, so that many of them share a turn: waking a core costs more
/// than what a deadline has it do.
#[must_use]
pub fn on_grid(deadline_ms: u64) -> u64 {
    deadline_ms.checked_next_multiple_of(GRID_MS).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub struct Wheel {
    now_ms: u64,
    /// By level; bit n: slot n is not empty. Apart from the lists, so that looking for the next deadline
    /// touches two cache lines.
    occupied: [u64; LEVELS],
    /// First entry of each slot, by level.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    /// Timers whose deadline had passed when they were inserted.
    due: u32,
    entries: Vec<Entry>,
    /// Beside `entries`, because a `u32` inside would be padded to eight bytes.
    next: Vec<u32>,
    free: u32,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline_ms: u64,
    token: u64,
}

impl Wheel {
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            occupied: [0; LEVELS],
            heads: Box::new([[NIL; SLOTS]; LEVELS]),
            due: NIL,
            entries: Vec::new(),
            next: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Timers waiting, stale ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hands `token` out at the first [`Wheel::advance`] to `deadline_ms` or later. Equal tokens may wait
    /// side by side.
    pub fn insert(&mut self, deadline_ms: u64, token: u64) {
        let entry = Entry { deadline_ms, token };
        let index = self.free;
        let index = if let Some(slot) = self.entries.get_mut(index as usize) {
            *slot = entry;
            self.free = self.next[index as usize];
            index
        } else {
            assert!(self.entries.len() < NIL as usize, "a wheel holds at most 2^32 - 1 timers");
            self.entries.push(entry);
            self.next.push(NIL);
            (self.entries.len() - 1) as u32
        };
        self.len += 1;
        self.link(index);
    }

    /// Moves time to `now_ms` (never back) and appends the tokens of all timers due to `fired`. Tokens of
    /// one call are in no particular order, but always in the same for the same calls.
    pub fn advance(&mut self, now_ms: u64, fired: &mut Vec<u64>) {
        let now_ms = now_ms.max(self.now_ms);
        let due = std::mem::replace(&mut self.due, NIL);
        self.drain(due, now_ms, fired);
        while let Some((level, slot, start_ms)) = self.first_slot() {
            if start_ms > now_ms {
                break;
            }
            self.now_ms = start_ms;
            self.occupied[level] &= !(1 << slot);
            let list = std::mem::replace(&mut self.heads[level][slot], NIL);
            self.drain(list, now_ms, fired);
        }
        self.now_ms = now_ms;
    }

    /// When to call [`Wheel::advance`] next: never later than the earliest deadline, and earlier only by the
    /// distance in which a far timer has to move down: at most 11 times in the life of a timer, and never
    /// twice within 4096 ms while all timers are further away than that.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.due != NIL {
            return Some(self.now_ms);
        }
        self.first_slot().map(|(_, _, start_ms)| start_ms)
    }

    /// The earliest slot that holds something, and the time at which it begins. Everything in a level is
    /// earlier than everything in the levels above, because it shares more leading digits with `now_ms`.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = level as u32 * DIGIT_BITS;
        let above = self.now_ms.checked_shr(shift + DIGIT_BITS).unwrap_or(0);
        let above = above.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
        Some((level, slot as usize, above | (u64::from(slot) << shift)))
    }

    fn link(&mut self, index: u32) {
        let deadline_ms = self.entries[index as usize].deadline_ms;
        let head = if deadline_ms <= self.now_ms {
            &mut self.due
        } else {
            let highest_bit = (deadline_ms ^ self.now_ms).ilog2();
            let level = (highest_bit / DIGIT_BITS) as usize;
            let slot = (deadline_ms >> (level as u32 * DIGIT_BITS)) as usize % SLOTS;
            self.occupied[level] |= 1 << slot;
            &mut self.heads[level][slot]
        };
        self.next[index as usize] = std::mem::replace(head, index);
    }

    /// Fires what is due of a list taken out of the wheel and puts the rest back, nearer.
    fn drain(&mut self, mut index: u32, now_ms: u64, fired: &mut Vec<u64>) {
        while index != NIL {
            let following = self.next[index as usize];
            let entry = self.entries[index as usize];
            if entry.deadline_ms <= now_ms {
                fired.push(entry.token);
                self.next[index as usize] = std::mem::replace(&mut self.free, index);
                self.len -= 1;
            } else {
                self.link(index);
            }
            index = following;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[track_caller]
    fn fired(wheel: &mut Wheel, now_ms: u64) -> Vec<u64> {
        let mut fired = Vec::new();
        wheel.advance(now_ms, &mut fired);
        fired.sort_unstable();
        fired
    }

    #[test]
    fn a_grid_is_met_by_one_advance() {
        for (deadline_ms, met_ms) in [(0, 0), (1, 128), (128, 128), (129, 256), (u64::MAX, u64::MAX)] {
            assert_eq!(on_grid(deadline_ms), met_ms);
        }
        let mut wheel = Wheel::new(0);
        wheel.insert(on_grid(1000), 7);
        assert_eq!(wheel.next_deadline(), Some(1024), "no time at which it only moves down");
    }

    #[test]
    fn both_sides_of_a_deadline() {
        for start in [0, 1, 63, 64, 4095, u64::MAX - (1 << 40)] {
            for distance in [1, 2, 63, 64, 65, 4095, 4096, 4097, 1 << 18, (1 << 30) + 5, 1 << 40] {
                let mut wheel = Wheel::new(start);
                wheel.insert(start + distance, 7);
                assert_eq!(
                    fired(&mut wheel, start + distance - 1),
                    Vec::<u64>::new(),
                    "{start} + {distance}"
                );
                assert_eq!(fired(&mut wheel, start + distance), [7], "{start} + {distance}");
                assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
            }
        }
    }

    #[test]
    fn the_past_fires_at_the_next_advance() {
        let mut wheel = Wheel::new(100);
        wheel.insert(0, 1);
        wheel.insert(100, 2);
        assert_eq!(wheel.next_deadline(), Some(100));
        assert_eq!(fired(&mut wheel, 50), [1, 2], "time does not go back");
        wheel.insert(u64::MAX, 3);
        assert_eq!(fired(&mut wheel, u64::MAX - 1), Vec::<u64>::new());
        assert_eq!(fired(&mut wheel, u64::MAX), [3]);
    }

    // A core that sleeps until `next_deadline` wakes rarely on the way to a timer a month away.
    #[test]
    fn far_timers_let_the_core_sleep() {
        for start in [1_000, 4_090, 262_143, 1 << 36] {
            let deadline = start + 720 * 3600 * 1000;
            let mut wheel = Wheel::new(start);
            wheel.insert(deadline, 7);
            let mut tokens = Vec::new();
            let mut wakes = 0;
            let mut last = start;
            while tokens.is_empty() {
                let next = wheel.next_deadline().unwrap();
                assert!(next <= deadline);
                assert!(next > last || wakes == 0, "a wake that brings nothing on");
                last = next;
                wheel.advance(next, &mut tokens);
                wakes += 1;
            }
            assert!(wakes <= LEVELS, "{wakes} wakes");
            assert_eq!(last, deadline);
        }
    }

    #[test]
    fn steady_state_reuses_entries() {
        let mut wheel = Wheel::new(0);
        let mut tokens = Vec::new();
        for round in 0..100 {
            for token in 0..1000 {
                wheel.insert(round * 1000 + token * 31, token);
            }
            wheel.advance((round + 1) * 1000 + 31_000, &mut tokens);
        }
        assert_eq!(tokens.len(), 100_000);
        assert!(wheel.entries.len() <= 1000);
    }

    /// Small and large numbers alike.
    fn spread(u: &mut arbitrary::Unstructured<'_>, bits_max: u32) -> arbitrary::Result<u64> {
        let bits = u.int_in_range(0..=bits_max)?;
        u.int_in_range(0..=1 << bits)
    }

    // The wheel agrees with a sorted map, whatever the distances and jumps.
    #[test]
    fn agrees_with_model() {
        arbtest::arbtest(|u| {
            let mut now = spread(u, 62)?;
            let mut wheel = Wheel::new(now);
            let mut model = BTreeMap::new();
            let mut token = 0;
            for _ in 0..u.int_in_range(0..=60)? {
                let distance = spread(u, 45)?;
                if u.ratio(2, 3)? {
                    let deadline = if u.ratio(1, 8)? { now.saturating_sub(distance) } else { now + distance };
                    wheel.insert(deadline, token);
                    model.insert((deadline, token), ());
                    token += 1;
                } else {
                    now = match wheel.next_deadline() {
                        Some(next) if u.ratio(1, 2)? => next.max(now),
                        _ => now + distance,
                    };
                    let later = model.split_off(&(now + 1, 0));
                    let mut want: Vec<u64> = model.keys().map(|&(_, token)| token).collect();
                    want.sort_unstable();
                    model = later;
                    assert_eq!(fired(&mut wheel, now), want);
                }
                assert_eq!(wheel.len(), model.len());
                let earliest = model.keys().next().map(|&(deadline, _)| deadline);
                match (wheel.next_deadline(), earliest) {
                    (Some(next), Some(earliest)) => assert!(next <= earliest.max(now) && next >= now),
                    (next, earliest) => assert_eq!(next, earliest),
                }
            }
            Ok(())
        });
    }
}
