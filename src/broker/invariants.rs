//! What must agree inside a core, checked by the simulation and tests.

use super::{
    core::Core,
    mesh::AskKey,
    pending::Pending,
    session::{Place, State, Subscription},
};
use crate::model::{ConnKey, CoreId};

/// What a core still holds; all zero once everybody is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Residue {
    pub sessions: usize,
    pub hub_channels: usize,
    pub pending: usize,
    pub subscribed_channels: usize,
    pub users: usize,
    pub patterns: usize,
    pub polled_keys: usize,
    pub backend_calls: usize,
}

/// A session of a user: the user, its core, its connection there.
pub type UserSession = (String, CoreId, ConnKey);

/// An open question of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenQuestion {
    pub kind: &'static str,
    /// The client or the channel it was asked for is gone.
    pub orphaned: bool,
    /// Its time was up; it stays on the books to be undone.
    pub abandoned: bool,
}

impl Core {
    /// What `id` asks, while it waits for its answer.
    #[must_use]
    pub fn open_question(&self, id: AskKey) -> Option<OpenQuestion> {
        let gone = |conn| self.sessions.get(conn).is_none();
        let mut abandoned = false;
        let (kind, orphaned) = match self.pending.get(id)? {
            Pending::Subscribe(pending) => {
                let session = self.sessions.get(pending.conn);
                let place = session.and_then(|session| session.find(pending.hub)).map(Subscription::place);
                abandoned = place == Some(Place::Abandoned(id));
                ("Subscribe", place.is_none())
            }
            Pending::Publish { conn, .. } => ("Publish", gone(*conn)),
            Pending::Presence { conn, .. } => ("Presence", gone(*conn)),
            Pending::PresenceStats { conn, .. } => ("PresenceStats", gone(*conn)),
            Pending::History { conn, .. } => ("History", gone(*conn)),
            Pending::Position { hub, .. } => ("Position", self.hub.get(*hub).is_none()),
            Pending::Enter { conn } => ("Enter", gone(*conn)),
            Pending::Track(pending) => ("Track", gone(pending.conn)),
            Pending::Api { .. } => ("Api", false),
            Pending::Act { .. } => ("Act", false),
            Pending::Keys { .. } => ("Keys", false),
            Pending::Broadcast(_) => ("Broadcast", false),
            Pending::BroadcastItem { .. } => ("BroadcastItem", false),
            Pending::Gather(_) => ("Gather", false),
        };
        Some(OpenQuestion { kind, orphaned, abandoned })
    }

    #[must_use]
    pub fn residue(&self) -> Residue {
        Residue {
            sessions: self.sessions.len(),
            hub_channels: self.hub.len(),
            pending: self.pending.len(),
            subscribed_channels: self.shard.channel_count(),
            users: self.users.len(),
            patterns: self.shard.pattern_count(),
            polled_keys: self.shard.poll_keys(),
            backend_calls: self.shard.open_calls(),
        }
    }

    /// Sessions that have connected as a user, and those this core knows of the users it owns.
    pub fn user_sessions(&self) -> (Vec<UserSession>, Vec<UserSession>) {
        let connected = self.sessions.iter().filter(|(_, session)| session.state == State::Connected);
        let named = connected.filter_map(|(conn, session)| Some((conn, session.info.as_ref()?)));
        let here = named
            .filter(|(_, info)| !info.user.is_empty())
            .map(|(conn, info)| (info.user.to_string(), self.id, conn));
        let owned = self.users.iter().flat_map(|(user, places)| {
            places.iter().map(move |place| (user.to_owned(), place.core, place.conn))
        });
        (here.collect(), owned.collect())
    }

    /// # Panics
    /// When two things that must agree do not.
    pub fn invariants(&self) {
        self.shard.invariants();
        self.out.invariants();
        let mut live = std::collections::BTreeMap::new();
        for (conn, session) in self.sessions.iter() {
            for subscription in &session.subscriptions {
                let channel = self.hub.get(subscription.hub).expect("a subscription has its channel");
                match subscription.place() {
                    Place::Live { group, member } => {
                        assert!(
                            channel.groups.contains(&group),
                            "{}: a group of another channel",
                            channel.name
                        );
                        assert_eq!(self.groups.members(group)[member as usize], conn, "{}", channel.name);
                        *live.entry(subscription.hub).or_insert(0) += 1;
                    }
                    Place::Waiting(_) | Place::Abandoned(_) => {
                        assert!(channel.waiting > 0, "{}: nobody waits", channel.name)
                    }
                }
            }
        }
        for (hub, book) in self.tracks.iter() {
            book.invariants();
            for conn in book.conns() {
                let subscription = self.sessions.get(conn).and_then(|session| session.find(hub));
                assert!(subscription.is_some(), "{conn:?} tracks keys of what it is not subscribed to");
            }
        }
        for (key, channel) in self.hub.iter() {
            assert_eq!(channel.live, live.get(&key).copied().unwrap_or(0), "{}: live", channel.name);
            let members: usize = channel.groups.iter().map(|&group| self.groups.len(group)).sum();
            assert_eq!(members, channel.live as usize, "{}: members", channel.name);
        }
    }
}
