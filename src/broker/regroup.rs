//! Groups that became alike become one, so that their members share bytes again.

use super::{core::Core, group::GroupKey, hub::HubKey, session::Place};

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
        for &conn in &self.groups.take_members(from) {
            let member = self.groups.add(to, conn);
            if let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.find_mut(hub))
            {
                subscription.place = Place::Live { group: to, member };
            }
        }
        if let Some(channel) = self.hub.get_mut(hub) {
            channel.groups.retain(|&group| group != from);
        }
        self.groups.delete(from);
    }
}
