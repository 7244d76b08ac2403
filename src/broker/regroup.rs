//! Groups that became alike become one, so that their members share bytes again; and a member that must not be
//! told what the others are leaves its group for that turn.

use super::{core::Core, group::GroupKey, hub::HubKey, session::Place};
use crate::model::{ClientId, ConnKey};

impl Core {
    /// At the end of a turn, when all lists are closed.
    pub(super) fn regroup(&mut self) {
        while let Some(group) = self.groups.next_told() {
            let Some(hub) = self.groups.channel(group).and_then(|name| self.hub.find(name)) else { continue };
            let Some(channel) = self.hub.get(hub) else { continue };
            let alike = channel.groups.iter().find(|&&other| self.groups.are_alike(group, other)).copied();
            if let Some(other) = alike {
                let (from, to) = if self.groups.len(group) > self.groups.len(other) {
                    (other, group)
                } else {
                    (group, other)
                };
                self.move_members(hub, from, to);
            }
        }
    }

    fn move_members(&mut self, hub: HubKey, from: GroupKey, to: GroupKey) {
        for conn in self.groups.absorb(from, to) {
            self.make_member(hub, to, conn);
        }
        if let Some(channel) = self.hub.get_mut(hub) {
            channel.groups.retain(|&group| group != from);
        }
    }

    fn make_member(&mut self, hub: HubKey, group: GroupKey, conn: ConnKey) {
        let member = self.groups.add(group, conn);
        if let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.find_mut(hub)) {
            subscription.set_place(Place::Live { group, member });
        }
    }

    /// The group in which `client` stands alone, if it is a subscriber that must not be told what it publishes:
    /// the next publication is for all groups but this one.
    pub(super) fn set_apart(&mut self, hub: HubKey, client: ClientId) -> Option<GroupKey> {
        let (core, index) = self.ids.place(client);
        let (conn, session) = self.sessions.at(index).filter(|_| core == self.id)?;
        session.info.as_ref().filter(|info| info.client == client)?;
        let Place::Live { group, member } = session.find(hub)?.place() else { return None };
        if !self.groups.is_without_echo(group) {
            return None;
        }
        if self.groups.len(group) == 1 {
            return Some(group);
        }
        self.take_out(hub, group, member);
        let apart = self.groups.split(group)?;
        self.hub.get_mut(hub)?.groups.push(apart);
        self.make_member(hub, apart, conn);
        Some(apart)
    }
}
