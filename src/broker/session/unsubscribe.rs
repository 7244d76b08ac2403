//! `unsubscribe`, and leaving a channel for whatever reason.

use super::{Place, Step, Subscription};
use crate::{
    broker::{
        core::Core,
        group::GroupKey,
        hub::HubKey,
        mesh::{Mesh, Outgoing, Tell},
    },
    model::{ClientId, ConnKey},
    wire::client::Reply,
};

impl Core {
    /// Answered once earlier commands are, also when the client was not subscribed. A later subscribe of the same channel
    /// travels behind the news of this one, so the owner sees them in order.
    pub(super) fn unsubscribe(&mut self, conn: ConnKey, id: u32, channel: &str) -> Step {
        if channel.is_empty() {
            return self.break_protocol(conn);
        }
        // What was published before still reaches the client: its owner forwards before it answers.
        if self.is_subscribing(conn, channel) || self.has_asks_out(conn) {
            return Step::Wait;
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.end_reading(channel);
        }
        // One that was given up on stays on the books until its owner answers.
        if self.is_subscribed(conn, channel)
            && let Some(hub) = self.hub.find(channel)
            && let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.forget(hub))
        {
            self.leave(conn, &subscription);
        }
        self.reply(conn, id, &Reply::Unsubscribe);
        Step::Done
    }

    /// Takes a subscription that its session has already forgotten out of its group and tells the owner. One
    /// that still waits for the owner is undone when the answer comes.
    pub(super) fn leave(&mut self, conn: ConnKey, subscription: &Subscription) {
        let Place::Live { group, member } = subscription.place() else { return };
        self.stop_tracking(conn, subscription.hub);
        self.leave_group(subscription.hub, group, member);
        if let Some(client) = self.sessions.get(conn).and_then(|session| session.info.as_ref()) {
            let client = client.client;
            self.tell_unsubscribed(subscription.hub, client);
        }
        self.release_channel(subscription.hub);
    }

    /// What was noted for the group so far still reaches the leaving member: its list is closed first.
    pub(in crate::broker) fn take_out(&mut self, hub: HubKey, group: GroupKey, member: u32) {
        self.groups.close_list(group, &mut self.write, &mut self.counters);
        if let Some(moved) = self.groups.remove(group, member)
            && let Some(subscription) = self.sessions.get_mut(moved).and_then(|session| session.find_mut(hub))
        {
            subscription.set_place(Place::Live { group, member });
        }
    }

    fn leave_group(&mut self, hub: HubKey, group: GroupKey, member: u32) {
        self.take_out(hub, group, member);
        let empty = self.groups.len(group) == 0;
        let Some(channel) = self.hub.get_mut(hub) else { return };
        channel.live -= 1;
        if empty {
            channel.groups.retain(|&key| key != group);
            self.groups.delete(group);
        }
    }

    /// Every answer "subscribed" of an owner is matched by one of these.
    pub(in crate::broker) fn tell_unsubscribed(&mut self, hub: HubKey, client: ClientId) {
        let Some(channel) = self.hub.get(hub) else { return };
        let Some(owned) = channel.owned else { return };
        let owner = channel.owner;
        self.out.send(owner, Mesh::Tell(Tell::Unsubscribe { channel: owned, client }));
    }
}
