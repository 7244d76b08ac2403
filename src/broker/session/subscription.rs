//! What a session keeps of each of its subscriptions.

use crate::{
    broker::{group::GroupKey, hub::HubKey, mesh::AskKey},
    model::ClientInfo,
    stdx::slab::Key,
};
use std::sync::Arc;

/// A client may have many, so this is packed: an enum for the place would cost eight bytes more.
#[derive(Debug)]
pub struct Subscription {
    pub hub: HubKey,
    /// Of the group or of the question, as `stage` has it.
    key: Key,
    /// Of the group; only when live.
    member: u32,
    stage: Stage,
    pub positioned: bool,
    /// Made by the server: ends with a disconnect where a client's own would end with an unsubscribe push.
    pub server_side: bool,
    /// What few subscriptions have.
    own: Option<Box<Own>>,
}

/// An increase here is paid for each subscription.
const _: () = assert!(size_of::<Subscription>() <= 32);

#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    Abandoned,
    Live,
}

#[derive(Debug)]
struct Own {
    expires_ms: u64,
    info: Option<Arc<ClientInfo>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The owner of the channel was asked.
    Waiting(AskKey),
    /// The owner did not answer in time and the client was told so. The subscription is undone when the
    /// answer comes; until then the client cannot subscribe again, or the owner would see it twice.
    Abandoned(AskKey),
    /// Member of a group.
    Live { group: GroupKey, member: u32 },
}

impl Subscription {
    pub fn new(hub: HubKey, place: Place, positioned: bool, server_side: bool) -> Self {
        let (stage, key, member) = place.apart();
        Self { hub, key, member, stage, positioned, server_side, own: None }
    }

    #[must_use]
    pub fn place(&self) -> Place {
        match self.stage {
            Stage::Waiting => Place::Waiting(self.key),
            Stage::Abandoned => Place::Abandoned(self.key),
            Stage::Live => Place::Live { group: self.key, member: self.member },
        }
    }

    pub fn set_place(&mut self, place: Place) {
        (self.stage, self.key, self.member) = place.apart();
    }

    /// When its token expires, as [`super::Account::expires_ms`].
    #[must_use]
    pub fn expires_ms(&self) -> u64 {
        self.own.as_ref().map_or(u64::MAX, |own| own.expires_ms)
    }

    pub fn set_expires_ms(&mut self, expires_ms: u64) {
        if expires_ms != u64::MAX || self.own.is_some() {
            self.own().expires_ms = expires_ms;
        }
    }

    /// The client's info where the channel has one of its own; otherwise the session's holds.
    #[must_use]
    pub fn info(&self) -> Option<&Arc<ClientInfo>> {
        self.own.as_ref()?.info.as_ref()
    }

    pub fn set_info(&mut self, info: Arc<ClientInfo>) {
        self.own().info = Some(info);
    }

    fn own(&mut self) -> &mut Own {
        self.own.get_or_insert_with(|| Box::new(Own { expires_ms: u64::MAX, info: None }))
    }
}

impl Place {
    fn apart(self) -> (Stage, Key, u32) {
        match self {
            Self::Waiting(key) => (Stage::Waiting, key, 0),
            Self::Abandoned(key) => (Stage::Abandoned, key, 0),
            Self::Live { group, member } => (Stage::Live, group, member),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { index: 7, generation: 3 };

    #[test]
    fn who_never_expires_needs_nothing_for_it() {
        let mut it = Subscription::new(KEY, Place::Waiting(KEY), false, false);
        it.set_expires_ms(u64::MAX);
        assert!(it.own.is_none());
        it.set_expires_ms(3);
        assert_eq!((it.expires_ms(), it.info()), (3, None));
        it.set_expires_ms(u64::MAX);
        assert_eq!(it.expires_ms(), u64::MAX);
    }

    #[test]
    fn a_place_is_packed_and_unpacked() {
        let mut it = Subscription::new(KEY, Place::Waiting(KEY), true, false);
        let other = Key { index: u32::MAX, generation: 1 };
        let places = [
            Place::Waiting(KEY),
            Place::Live { group: other, member: u32::MAX },
            Place::Abandoned(other),
            Place::Live { group: KEY, member: 0 },
        ];
        for place in places {
            it.set_place(place);
            assert_eq!((it.place(), it.hub, it.positioned, it.server_side), (place, KEY, true, false));
        }
    }
}
