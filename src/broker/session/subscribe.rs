//! `subscribe`: asks the owner of the channel, and joins the channel's group when the answer comes.
//!
//! The owner forwards everything it publishes after its answer, and the mesh keeps order: joining when the
//! answer arrives neither misses a publication nor sees one twice.

use super::{Place, Step, Subscription};
use crate::{
    broker::{
        core::Core,
        group::Class,
        hub::HubKey,
        mesh::{Ask, AskKey, Recover, SubscribeAsk, Subscribed},
        pending::{Pending, SubscribeOrigin, SubscribePending},
        permission::{Grants, Namespaces, Verb},
    },
    model::{ClientInfo, ConnKey, CoreId, Disconnect, ErrorCode, Position, Protocol, Unsubscribe},
    wire::{
        client::{Push, Reply, SubscribeRequest, SubscribeResult},
        json::is_json,
    },
};
use std::sync::Arc;

/// Bit of `SubscribeRequest::flag`: answer error 112 instead of "not recovered".
const REJECT_UNRECOVERED: i64 = 2;

impl Core {
    pub(super) fn subscribe(&mut self, conn: ConnKey, id: u32, request: &SubscribeRequest<'_>) -> Step {
        let channel = &*request.channel;
        if channel.is_empty() || !matches!(&*request.delta, "" | "fossil") {
            return self.break_protocol(conn);
        }
        if self.is_subscribing(conn, channel) {
            return Step::Wait;
        }
        let grants = match self.subscribe_grants(conn, request) {
            Ok(grants) => grants,
            Err(error) => return self.refuse(conn, id, error),
        };
        let Some(info) = self.info(conn) else { return Step::Ended };
        let recover = (request.recover && grants.recoverable)
            .then(|| Recover { offset: request.offset, epoch: (&*request.epoch).into() });
        let reject_unrecovered = request.flag & REJECT_UNRECOVERED != 0;
        let origin = SubscribeOrigin::Client { id };
        if self.ask_subscribe(conn, &info, channel, grants, recover, reject_unrecovered, origin) {
            return Step::Done;
        }
        let owner = self.owners.of(channel);
        self.wait_for_credit(conn, owner)
    }

    fn subscribe_grants(&self, conn: ConnKey, request: &SubscribeRequest<'_>) -> Result<Grants, ErrorCode> {
        let channel = &*request.channel;
        self.channels.check_name(channel)?;
        match self.subscription(conn, channel) {
            None => {}
            Some(Place::Abandoned(_)) => return Err(ErrorCode::Internal),
            Some(Place::Live { .. } | Place::Waiting(_)) => return Err(ErrorCode::AlreadySubscribed),
        }
        let Some(session) = self.sessions.get(conn) else { return Err(ErrorCode::Internal) };
        if session.subscriptions.len() >= self.settings.client.channel_limit {
            return Err(ErrorCode::LimitExceeded);
        }
        self.allow(conn, channel, Verb::Subscribe)?;
        if request.has_tags_filter {
            return Err(ErrorCode::BadRequest);
        }
        if request.kind != 0 {
            return Err(ErrorCode::PermissionDenied);
        }
        let wishes = Grants {
            positioned: request.positioned,
            recoverable: request.recoverable,
            join_leave: request.join_leave,
        };
        self.grants(conn, channel, wishes)
    }

    /// What a subscription of this client to `channel` gets of what it wishes.
    pub(in crate::broker) fn grants(
        &self,
        conn: ConnKey,
        channel: &str,
        wishes: Grants,
    ) -> Result<Grants, ErrorCode> {
        let options = self.channels.resolve(channel)?;
        Ok(Namespaces::grant(options, self.who(conn, channel)?, wishes))
    }

    /// Sends the ask; false when there is no credit (nothing happened then).
    #[expect(clippy::too_many_arguments, reason = "the parts of one ask, named at both call sites")]
    pub(in crate::broker) fn ask_subscribe(
        &mut self,
        conn: ConnKey,
        info: &Arc<ClientInfo>,
        channel: &str,
        grants: Grants,
        recover: Option<Recover>,
        reject_unrecovered: bool,
        origin: SubscribeOrigin,
    ) -> bool {
        let owner = self.owners.of(channel);
        if !self.out.take_credit(owner) {
            return false;
        }
        let hub = self.hub.expect(channel, || owner);
        let Some(name) = self.hub.get(hub).map(|channel| Arc::clone(&channel.name)) else { return false };
        let server_side = matches!(origin, SubscribeOrigin::Server { .. });
        let pending = Pending::Subscribe(SubscribePending {
            conn,
            client: info.client,
            hub,
            grants,
            recover_from: recover.as_ref().map(|recover| recover.offset),
            origin,
            late: false,
            unsubscribe_after: false,
        });
        let ask = Ask::Subscribe(SubscribeAsk {
            channel: name,
            info: Arc::clone(info),
            recover,
            reject_unrecovered,
            positioned: grants.positioned,
        });
        let key = self.ask(owner, ask, pending);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.subscriptions.push(Subscription {
                hub,
                place: Place::Waiting(key),
                positioned: grants.positioned,
                server_side,
            });
        }
        true
    }

    /// The owner took the subscriber.
    pub(in crate::broker) fn on_subscribed(
        &mut self,
        key: AskKey,
        pending: SubscribePending,
        mut answer: Subscribed,
    ) {
        let hub = pending.hub;
        self.hub.bind(hub, answer.channel);
        self.meet_position(hub, answer.position.as_ref());
        let waits = Place::Waiting(key);
        let expected = self
            .sessions
            .get(pending.conn)
            .and_then(|session| session.find(hub))
            .is_some_and(|subscription| subscription.place == waits);
        if let Some(channel) = self.hub.get_mut(hub) {
            channel.waiting -= 1;
        }
        if !expected {
            // The client is gone, or was told that the ask took too long.
            self.forget_abandoned(key, &pending);
            self.tell_unsubscribed(hub, pending.client);
            self.hub.release_if_unused(hub);
            return;
        }
        self.withhold(pending.conn, &mut answer.publications);
        self.tell_subscribed(&pending, &answer);
        self.join_group(pending.conn, hub, pending.grants);
        if pending.grants.positioned {
            self.schedule_position_check(hub);
        }
        if pending.unsubscribe_after {
            self.cut_subscription(pending.conn, hub, Unsubscribe::SERVER);
        }
    }

    /// The first subscriber of a core takes the owner's position over; for the others it is the one they
    /// have, unless something was lost.
    fn meet_position(&mut self, hub: HubKey, top: Option<&Position>) {
        let Some(channel) = self.hub.get_mut(hub) else { return };
        let lost = channel.live > 0
            && channel.position.is_some()
            && top.is_some()
            && channel.position.as_ref() != top;
        if lost {
            self.insufficient(hub);
        }
        if let Some(channel) = self.hub.get_mut(hub)
            && top.is_some()
        {
            channel.position = top.cloned();
            channel.checked_ms = self.now.ms;
        }
    }

    fn tell_subscribed(&mut self, pending: &SubscribePending, answer: &Subscribed) {
        let grants = pending.grants;
        let shown = answer.position.as_ref().filter(|_| grants.positioned);
        let (epoch, top) = shown.map_or(("", 0), |position| (&*position.epoch, position.offset));
        match &pending.origin {
            SubscribeOrigin::Client { id } => {
                let offset = if answer.recovered { pending.recover_from.unwrap_or(top) } else { top };
                let result = SubscribeResult {
                    recoverable: grants.recoverable,
                    positioned: grants.positioned,
                    epoch,
                    offset,
                    publications: &answer.publications,
                    recovered: answer.recovered,
                    was_recovering: pending.recover_from.is_some(),
                    ..SubscribeResult::default()
                };
                self.reply(pending.conn, *id, &Reply::Subscribe(&result));
            }
            SubscribeOrigin::Server { data } => {
                let Some(name) = self.hub.get(pending.hub).map(|channel| Arc::clone(&channel.name)) else {
                    return;
                };
                let json = self.sessions.get(pending.conn).is_some_and(|it| it.protocol == Protocol::Json);
                let push = Push::Subscribe {
                    recoverable: grants.recoverable,
                    positioned: grants.positioned,
                    epoch,
                    offset: top,
                    data: data.as_deref().filter(|data| !json || is_json(data)).unwrap_or_default(),
                };
                self.push(pending.conn, &name, &push);
                for publication in &answer.publications {
                    self.push(pending.conn, &name, &Push::Publication { publication, epoch: "" });
                }
            }
        }
    }

    /// From here on the client gets what the channel's group gets. Lists are closed before somebody joins,
    /// so a member starts at a frame boundary.
    fn join_group(&mut self, conn: ConnKey, hub: HubKey, grants: Grants) {
        let Some(session) = self.sessions.get(conn) else { return };
        let class =
            Class { framing: session.framing, protocol: session.protocol, join_leave: grants.join_leave };
        let Some(channel) = self.hub.get_mut(hub) else { return };
        channel.live += 1;
        let group = match channel.groups.iter().find(|&&group| self.groups.class(group) == Some(class)) {
            Some(&group) => group,
            None => {
                let group = self.groups.create(Arc::clone(&channel.name), class);
                channel.groups.push(group);
                group
            }
        };
        self.groups.close_list(group, &mut self.write, &mut self.counters);
        let member = self.groups.add(group, conn);
        if let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.find_mut(hub)) {
            subscription.place = Place::Live { group, member };
        }
    }

    /// The owner did not answer in time.
    pub(in crate::broker) fn on_subscribe_late(&mut self, key: AskKey, pending: &SubscribePending) {
        let waits = Place::Waiting(key);
        if let Some(subscription) =
            self.sessions.get_mut(pending.conn).and_then(|it| it.find_mut(pending.hub))
            && subscription.place == waits
        {
            subscription.place = Place::Abandoned(key);
            if let SubscribeOrigin::Client { id } = pending.origin {
                self.reply(pending.conn, id, &Reply::Error(ErrorCode::Internal));
            }
        }
    }

    fn forget_abandoned(&mut self, key: AskKey, pending: &SubscribePending) {
        if let Some(session) = self.sessions.get_mut(pending.conn)
            && session.find(pending.hub).is_some_and(|it| it.place == Place::Abandoned(key))
        {
            session.forget(pending.hub);
        }
    }

    /// The owner refused the subscriber.
    pub(in crate::broker) fn on_subscribe_refused(
        &mut self,
        key: AskKey,
        pending: &SubscribePending,
        error: ErrorCode,
    ) {
        self.forget_abandoned(key, pending);
        let waits = Place::Waiting(key);
        if let Some(session) = self.sessions.get_mut(pending.conn)
            && session.find(pending.hub).is_some_and(|subscription| subscription.place == waits)
        {
            session.forget(pending.hub);
            if let SubscribeOrigin::Client { id } = pending.origin {
                self.reply(pending.conn, id, &Reply::Error(error));
            }
        }
    }

    /// Publications of the channel were lost between its owner and this core: its positioned subscribers
    /// are told, and recover.
    pub(in crate::broker) fn insufficient(&mut self, hub: HubKey) {
        let Some(channel) = self.hub.get_mut(hub) else { return };
        channel.position = None;
        let mut members: Vec<ConnKey> = Vec::new();
        for &group in &channel.groups {
            members.extend_from_slice(self.groups.members(group));
        }
        for conn in members {
            let Some(subscription) = self.sessions.get(conn).and_then(|session| session.find(hub)) else {
                continue;
            };
            if !subscription.positioned {
                continue;
            }
            self.counters.increment(crate::metrics::Counter::InsufficientState);
            if subscription.server_side {
                self.end(conn, Disconnect::INSUFFICIENT_STATE);
            } else {
                self.cut_subscription(conn, hub, Unsubscribe::INSUFFICIENT_STATE);
            }
        }
    }

    /// The core that owns `channel`; used where the hub may not know it.
    pub(in crate::broker) fn owner(&self, channel: &str) -> CoreId {
        self.owners.of(channel)
    }
}
