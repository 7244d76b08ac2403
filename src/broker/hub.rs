//! The channels a core has subscribers of, wherever their owner is.
//!
//! The entry is made when the first subscription is asked for and freed when the last one is gone. It maps
//! the owner's key to the groups to write to, and keeps one position for all positioned subscribers of this
//! core: they are served alike, so a gap is found once per channel and core, not per subscriber.

use super::{group::GroupKey, mesh::OwnedKey};
use crate::{
    model::{ConnKey, CoreId, Position, Publication},
    stdx::slab::{Key, SideTable, Slab},
};
use std::{collections::HashMap, sync::Arc};

pub type HubKey = Key;

#[derive(Debug)]
pub struct HubChannel {
    pub name: Arc<str>,
    pub owner: CoreId,
    /// Known from the first answer of the owner on.
    pub owned: Option<OwnedKey>,
    /// Place of the last publication forwarded to this core; `None` when the channel has no stream or the
    /// place was lost with a gap.
    pub position: Option<Position>,
    /// One per class of subscribers.
    pub groups: Vec<GroupKey>,
    /// Some subscriber is or was not to be told what it publishes itself.
    pub has_quiet: bool,
    /// Subscriptions in a group.
    pub live: u32,
    /// Subscriptions waiting for the owner's answer.
    pub waiting: u32,
    /// Publications that recovering subscribers of this core must get beside what was recovered: they came
    /// while the reply to connect waited for other channels.
    pub early: Vec<Early>,
    /// When the position was last found right, or a check was sent.
    pub checked_ms: u64,
    /// A timer for the position check is running.
    pub check_timer: bool,
    /// It is a pattern, and all cores know that it is wanted here.
    pub watching: bool,
}

/// What came for a subscriber that is not told yet.
#[derive(Debug)]
pub struct Early {
    pub conn: ConnKey,
    pub publications: Vec<Arc<Publication>>,
}

/// How a forwarded publication follows what this core has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    Yes,
    /// Something in between was lost, or the stream started over.
    No,
}

impl HubChannel {
    /// Moves the position to `publication`.
    pub fn advance(&mut self, publication: &Publication) -> Follows {
        let Some(position) = &mut self.position else { return Follows::Yes };
        if publication.offset == 0 {
            return Follows::Yes;
        }
        if publication.offset == position.offset + 1 {
            position.offset = publication.offset;
            return Follows::Yes;
        }
        self.position = None;
        Follows::No
    }

    /// What is told beside a publication: as upstream, the first one of a stream tells its epoch.
    #[inline]
    #[must_use]
    pub fn epoch_of(&self, publication: &Publication) -> Option<Arc<str>> {
        match &self.position {
            Some(position) if publication.offset == 1 => Some(Arc::clone(&position.epoch)),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct Hub {
    channels: Slab<HubChannel>,
    by_name: HashMap<Arc<str>, HubKey, ahash::RandomState>,
    by_owned: Vec<SideTable<HubKey>>,
}

impl Hub {
    /// `seed` keys the hash of names, which come from clients.
    #[must_use]
    pub fn new(cores: usize, seed: u64) -> Self {
        Self {
            channels: Slab::default(),
            by_name: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 0x0068_7562, 4, 5)),
            by_owned: (0..cores).map(|_| SideTable::default()).collect(),
        }
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<HubKey> {
        self.by_name.get(name).copied()
    }

    #[must_use]
    pub fn find_owned(&self, owner: CoreId, owned: OwnedKey) -> Option<HubKey> {
        self.by_owned.get(usize::from(owner))?.get(owned).copied()
    }

    #[must_use]
    pub fn get(&self, key: HubKey) -> Option<&HubChannel> {
        self.channels.get(key)
    }

    pub fn get_mut(&mut self, key: HubKey) -> Option<&mut HubChannel> {
        self.channels.get_mut(key)
    }

    /// The entry of `name`, made if need be, with one more waiting subscription.
    pub fn expect(&mut self, name: &str, owner: impl FnOnce() -> CoreId) -> HubKey {
        let key = match self.find(name) {
            Some(key) => key,
            None => {
                let name: Arc<str> = name.into();
                let key = self.channels.insert(HubChannel {
                    name: Arc::clone(&name),
                    owner: owner(),
                    owned: None,
                    position: None,
                    groups: Vec::new(),
                    has_quiet: false,
                    live: 0,
                    waiting: 0,
                    early: Vec::new(),
                    checked_ms: 0,
                    check_timer: false,
                    watching: false,
                });
                self.by_name.insert(name, key);
                key
            }
        };
        if let Some(channel) = self.channels.get_mut(key) {
            channel.waiting += 1;
        }
        key
    }

    /// The owner answered: `owned` is how it calls the channel. It may have forgotten the channel in
    /// between and call it differently now.
    pub fn bind(&mut self, key: HubKey, owned: OwnedKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let by_owned = &mut self.by_owned[usize::from(channel.owner)];
        if let Some(old) = channel.owned.replace(owned)
            && old != owned
        {
            by_owned.remove(old);
        }
        by_owned.insert(owned, key);
    }

    /// Frees the entry if nobody is subscribed or about to be. Groups must be empty and gone by then. Returns the
    /// name if it was a pattern that other cores believe to be wanted here.
    pub fn release_if_unused(&mut self, key: HubKey) -> Option<Arc<str>> {
        let channel = self.channels.get(key)?;
        if channel.live > 0 || channel.waiting > 0 {
            return None;
        }
        debug_assert!(channel.groups.is_empty(), "a channel without subscribers has groups");
        let channel = self.channels.remove(key)?;
        self.by_name.remove(&channel.name);
        if let Some(owned) = channel.owned {
            self.by_owned[usize::from(channel.owner)].remove(owned);
        }
        channel.watching.then_some(channel.name)
    }

    /// Channels with an entry.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (HubKey, &HubChannel)> {
        self.channels.iter()
    }

    /// Subscriptions in groups, over all channels.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.channels.iter().map(|(_, channel)| channel.live as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(offset: u64) -> Publication {
        Publication { offset, ..Publication::default() }
    }

    #[test]
    fn a_position_only_moves_by_one() {
        let mut hub = Hub::new(1, 0);
        let key = hub.expect("a", || 0);
        let channel = hub.get_mut(key).unwrap();
        assert_eq!(channel.advance(&publication(9)), Follows::Yes, "nobody is positioned");
        for (at, next, follows) in [
            (4, 5, Follows::Yes),
            (4, 6, Follows::No),
            (4, 4, Follows::No),
            (4, 1, Follows::No),
            (4, 0, Follows::Yes),
        ] {
            channel.position = Some(Position { offset: at, epoch: "e".into() });
            assert_eq!(channel.advance(&publication(next)), follows, "{at} -> {next}");
            assert_eq!(channel.position.is_some(), follows == Follows::Yes);
        }
    }

    #[test]
    fn an_owner_that_renames_a_channel_is_followed() {
        let [old, new] = [1, 2].map(|index| Key { index, generation: 0 });
        let mut hub = Hub::new(2, 0);
        let key = hub.expect("a", || 1);
        hub.bind(key, old);
        hub.bind(key, new);
        assert_eq!(
            (hub.find_owned(1, old), hub.find_owned(1, new), hub.find_owned(0, new)),
            (None, Some(key), None)
        );
        hub.release_if_unused(key);
        assert_eq!(hub.find("a"), Some(key), "somebody waits for it");
        hub.get_mut(key).unwrap().waiting = 0;
        hub.release_if_unused(key);
        assert_eq!((hub.find("a"), hub.find_owned(1, new), hub.len()), (None, None, 0));
    }
}
