//! The users this core owns: where their sessions are, and how many there may be.
//!
//! A session of a user enters here before its connect is answered, and leaves when it ends: news of both
//! travel in order from its core, so a leave never overtakes its enter. Sessions without a user are nobody's
//! and not here.

use crate::{
    config::Settings,
    model::{ConnKey, CoreId},
};
use std::{collections::HashMap, sync::Arc};

/// A session: its core and its connection there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub core: CoreId,
    pub conn: ConnKey,
}

/// Sessions of a user in the order they came. Nearly always one, which then costs no allocation.
#[derive(Debug)]
enum Places {
    One(Place),
    Several(Vec<Place>),
}

impl Places {
    fn all(&self) -> &[Place] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Several(places) => places,
        }
    }

    fn add(&mut self, place: Place) {
        match self {
            Self::One(first) => *self = Self::Several(vec![*first, place]),
            Self::Several(places) => places.push(place),
        }
    }
}

/// What became of a session that wants to enter.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is in; these of the same user have to go.
    In { instead_of: Vec<Place> },
    /// The user has `client.user_connection_limit` sessions.
    Full,
}

#[derive(Debug)]
pub struct Users {
    by_name: HashMap<Arc<str>, Places, ahash::RandomState>,
    /// Sessions a user may have; 0: any number.
    limit: usize,
    /// A new session of a user ends the others.
    single: bool,
}

impl Users {
    /// `seed` keys the hash of names, which come from outside.
    #[must_use]
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let personal = &settings.client.subscribe_to_user_personal_channel;
        Self {
            by_name: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 0x7573_6572, 7, 8)),
            limit: settings.client.user_connection_limit,
            single: personal.enabled && personal.single_connection,
        }
    }

    pub fn enter(&mut self, user: Arc<str>, place: Place) -> Entry {
        let mut instead_of = Vec::new();
        match self.by_name.get_mut(&user) {
            None => {
                self.by_name.insert(user, Places::One(place));
            }
            Some(places) if self.single => {
                instead_of.extend_from_slice(places.all());
                *places = Places::One(place);
            }
            Some(places) if self.limit > 0 && places.all().len() >= self.limit => return Entry::Full,
            Some(places) => places.add(place),
        }
        Entry::In { instead_of }
    }

    /// The session has ended. One that is not here changes nothing.
    pub fn leave(&mut self, user: &str, place: Place) {
        let Some(places) = self.by_name.get_mut(user) else { return };
        if let Places::Several(several) = places {
            several.retain(|other| *other != place);
            if let [one] = several[..] {
                *places = Places::One(one);
            }
        } else if places.all() == [place] {
            self.by_name.remove(user);
        }
    }

    /// Sessions of `user`.
    #[must_use]
    pub fn places(&self, user: &str) -> &[Place] {
        self.by_name.get(user).map_or(&[], Places::all)
    }

    /// Users with a session.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Every user with its sessions.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Place])> {
        self.by_name.iter().map(|(user, places)| (&**user, places.all()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::slab::Key;
    use std::collections::BTreeMap;

    fn place(core: CoreId, index: u32) -> Place {
        Place { core, conn: Key { index, generation: 0 } }
    }

    /// Against a list of everybody, whatever the limit.
    #[test]
    fn users_are_what_a_list_says() {
        arbtest::arbtest(|u| {
            let mut settings = Settings::default();
            settings.client.user_connection_limit = u.int_in_range(0..=3)?;
            settings.client.subscribe_to_user_personal_channel.enabled = u.arbitrary()?;
            settings.client.subscribe_to_user_personal_channel.single_connection = u.arbitrary()?;
            let personal = &settings.client.subscribe_to_user_personal_channel;
            let single = personal.enabled && personal.single_connection;
            let limit = settings.client.user_connection_limit;
            let mut users = Users::new(&settings, 1);
            let mut model: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
            for index in 0..u.int_in_range(0..=40)? {
                let user = *u.choose(&["a", "b"])?;
                let mine = model.entry(user).or_default();
                if u.ratio(2, 3)? {
                    let place = place(u.int_in_range(0..=2)?, index);
                    let entry = users.enter(user.into(), place);
                    if !single && limit > 0 && mine.len() >= limit {
                        assert_eq!(entry, Entry::Full);
                        continue;
                    }
                    let instead_of = if single { std::mem::take(mine) } else { vec![] };
                    assert_eq!(entry, Entry::In { instead_of });
                    mine.push(place);
                } else {
                    let gone = if mine.is_empty() { place(9, 9) } else { *u.choose(mine)? };
                    users.leave(user, gone);
                    mine.retain(|other| *other != gone);
                }
                assert_eq!(users.places(user), mine);
                assert_eq!(users.len(), model.values().filter(|places| !places.is_empty()).count());
            }
            Ok(())
        });
    }
}
