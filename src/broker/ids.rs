//! Client ids that know where their connection lives.
//!
//! A client id is a random UUID to everybody outside. Inside, its low half is the core and the slot of the
//! connection, hidden by a keyed hash of the random high half: the server API finds a client by its id
//! without a table with an entry per connection. A forged id finds a slot whose session has another id.

use crate::model::{ClientId, ConnKey, CoreId};

const INDEX_BITS: u32 = 32;
const CORE_BITS: u32 = 7;
const GENERATION_BITS: u32 = 62 - INDEX_BITS - CORE_BITS;
const LOW_MASK: u64 = (1 << 62) - 1;

/// Makes and reads client ids; the same key on all cores of a process.
#[derive(Debug)]
pub struct ClientIds {
    hasher: ahash::RandomState,
}

impl ClientIds {
    #[must_use]
    pub fn new(key: u64) -> Self {
        Self { hasher: ahash::RandomState::with_seeds(key, 0x636c_6965_6e74, 2, 3) }
    }

    /// `random` supplies the high half.
    #[must_use]
    pub fn make(&self, core: CoreId, conn: ConnKey, random: u64) -> ClientId {
        let high = ClientId::from_random(u128::from(random) << 64).0 >> 64;
        let generation = u64::from(conn.generation) & ((1 << GENERATION_BITS) - 1);
        let place = u64::from(conn.index)
            | (u64::from(core) << INDEX_BITS)
            | (generation << (INDEX_BITS + CORE_BITS));
        let low = (place ^ self.pad(high as u64)) & LOW_MASK;
        ClientId((high << 64) | u128::from(low) | (0b10 << 62))
    }

    /// The core and slot an id was made for. Only a hint: compare the id of the session found there. The
    /// upper bits of the generation are unknown and zero.
    #[must_use]
    pub fn place(&self, id: ClientId) -> (CoreId, u32) {
        let place = (id.0 as u64 ^ self.pad((id.0 >> 64) as u64)) & LOW_MASK;
        let core = (place >> INDEX_BITS) & ((1 << CORE_BITS) - 1);
        (core as CoreId, place as u32)
    }

    fn pad(&self, high: u64) -> u64 {
        self.hasher.hash_one(high)
    }
}

/// Which core owns a channel: the same answer on every core of a process.
#[derive(Debug)]
pub struct Owners {
    hasher: ahash::RandomState,
    cores: u64,
}

impl Owners {
    #[must_use]
    pub fn new(key: u64, cores: usize) -> Self {
        Self { hasher: ahash::RandomState::with_seeds(key, 0x6368_616e, 0, 1), cores: cores as u64 }
    }

    #[must_use]
    pub fn of(&self, channel: &str) -> CoreId {
        if self.cores == 1 {
            return 0;
        }
        // The high half of the product spreads evenly without a division.
        let hash = self.hasher.hash_one(channel);
        ((u128::from(hash) * u128::from(self.cores)) >> 64) as CoreId
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::slab::Key;

    #[test]
    fn an_id_leads_back_to_its_place_and_is_a_version_4_uuid() {
        arbtest::arbtest(|u| {
            let ids = ClientIds::new(u.arbitrary()?);
            let core = u.int_in_range(0..=127)?;
            let conn = Key { index: u.arbitrary()?, generation: u.arbitrary()? };
            let id = ids.make(core, conn, u.arbitrary()?);
            assert_eq!(ids.place(id), (core, conn.index));
            let text = id.to_string();
            assert_eq!(&text[14..15], "4");
            assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
            Ok(())
        });
    }

    #[test]
    fn channels_spread_over_the_cores() {
        let owners = Owners::new(7, 4);
        let mut counts = [0; 4];
        for channel in 0..4000 {
            counts[usize::from(owners.of(&format!("channel{channel}")))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
