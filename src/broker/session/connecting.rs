//! Connect waits: first for the owner of the user, who may have no room for another session, then for the owners
//! of the channels its token brings: the reply tells of every subscription.
//!
//! A subscription begins with the reply. What its channel publishes between the owner's answer and then is
//! before its beginning, unless it recovers: then that is kept (`Early` in the hub) and counts as recovered.
//! Too much of it, as with any recovery, is `recovered: false`. Where the latest publication is all that recovery
//! brings, what came last is the latest.

use super::{
    State,
    subscribe::{keep_wanted, number},
};
use crate::{
    auth::ServerSub,
    broker::{
        core::Core,
        group::Filter,
        hub::{Early, HubKey},
        mesh::{Answer, AskKey, Mesh, Outgoing, Recover, Subscribed, Tell},
        pending::{SubscribeOrigin, SubscribePending},
        permission::Grants,
        users::{Entry, Place},
    },
    metrics::Counter,
    model::{ConnKey, Disconnect, ErrorCode, Position, Protocol, Publication},
    wire::{
        client::{Patch, SubscribeResult},
        json::is_json,
    },
};
use std::sync::Arc;

/// A connect that was not answered yet.
#[derive(Debug)]
pub struct Connecting {
    id: u32,
    ttl: u32,
    /// What to subscribe to once the owner of the user has answered.
    coming: Vec<Coming>,
    /// Owners of channels that have not answered.
    left: usize,
    ready: Vec<(SubscribePending, Subscribed)>,
}

/// A subscription that comes with the connection.
#[derive(Debug, Default)]
pub struct Coming {
    pub sub: ServerSub,
    /// Where the client remembers to have been.
    pub recover: Option<Recover>,
    /// What it wants of the publications.
    pub filter: Option<Arc<Filter>>,
    pub wishes: Grants,
}

/// What the reply says of one subscription.
struct Told {
    channel: Arc<str>,
    position: Option<Position>,
    publications: Vec<Arc<Publication>>,
    /// Where deltas were agreed on.
    patches: Option<Vec<Patch>>,
    recovered: bool,
}

impl Core {
    /// The owner of the user is asked next.
    pub(super) fn begin_connecting(&mut self, conn: ConnKey, id: u32, ttl: u32, coming: Vec<Coming>) {
        self.set_connecting(conn, Connecting { id, ttl, coming, left: 0, ready: Vec::new() });
    }

    /// So many owners of channels are asked next.
    pub(super) fn await_owners(&mut self, conn: ConnKey, id: u32, ttl: u32, left: usize) {
        let ready = Vec::with_capacity(left);
        self.set_connecting(conn, Connecting { id, ttl, coming: Vec::new(), left, ready });
    }

    fn set_connecting(&mut self, conn: ConnKey, connecting: Connecting) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = State::Connecting;
            session.connecting = Some(Box::new(connecting));
        }
    }

    /// A session wants to enter its user, whom this core owns.
    pub(in crate::broker) fn on_enter(&mut self, place: Place, id: AskKey, user: Arc<str>) {
        if self.denials.blocks(&user, self.now) {
            let answer = Box::new(Answer::Error(ErrorCode::PermissionDenied));
            return self.out.send(place.core, Mesh::Answer { id, answer });
        }
        let limits = self.user_limits_of(&user);
        if limits.as_ref().is_some_and(|limits| !self.may_connect(limits)) {
            let answer = Box::new(Answer::Error(ErrorCode::TooManyRequests));
            return self.out.send(place.core, Mesh::Answer { id, answer });
        }
        let answer = match self.users.enter(user, place) {
            Entry::Full => Answer::Error(ErrorCode::LimitExceeded),
            Entry::In { instead_of } => {
                for Place { core, conn } in instead_of {
                    self.out.send(core, Mesh::Tell(Tell::Replaced { conn }));
                }
                Answer::Entered(limits)
            }
        };
        self.out.send(place.core, Mesh::Answer { id, answer: Box::new(answer) });
    }

    /// The owner of the user has answered, or not in time.
    pub(in crate::broker) fn on_entered(&mut self, conn: ConnKey, answer: Answer) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Some(connecting) = session.connecting.take() else { return };
        let Connecting { id, ttl, coming, .. } = *connecting;
        match answer {
            Answer::Entered(limits) => {
                if let Some(meter) = &mut session.meter {
                    meter.user = limits;
                }
                self.connect_with(conn, id, ttl, coming);
            }
            Answer::Error(ErrorCode::LimitExceeded) => {
                self.end(conn, Disconnect::CONNECTION_LIMIT);
            }
            Answer::Error(ErrorCode::PermissionDenied) => {
                self.end(conn, Disconnect::PERMISSION_DENIED);
            }
            Answer::Error(error @ ErrorCode::TooManyRequests) => {
                self.counters.increment(Counter::CommandsOverLimit);
                self.refuse_connect(conn, id, error);
            }
            _ => {
                self.leave_user(conn);
                self.refuse_connect(conn, id, ErrorCode::Internal);
            }
        }
    }

    /// Tells the owner of the user that this session, which asked to enter, is over.
    pub(super) fn leave_user(&mut self, conn: ConnKey) {
        let Some(info) = self.info(conn).filter(|info| !info.user.is_empty()) else { return };
        let user = Arc::clone(&info.user);
        self.out.send(self.owners.of(&user), Mesh::Tell(Tell::Leave { user, conn }));
    }

    /// The owner took a subscriber whose client still waits for others.
    pub(super) fn on_connect_answer(&mut self, pending: SubscribePending, answer: Subscribed) {
        let (conn, hub) = (pending.conn, pending.hub);
        if (answer.recovered || pending.wants_latest())
            && let Some(channel) = self.hub.get_mut(hub)
        {
            channel.early.push(Early { conn, publications: Vec::new() });
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Some(connecting) = &mut session.connecting else { return };
        connecting.left -= 1;
        connecting.ready.push((pending, answer));
        if connecting.left == 0
            && let Some(connecting) = session.connecting.take()
        {
            self.answer_connect(conn, *connecting);
        }
    }

    fn answer_connect(&mut self, conn: ConnKey, mut connecting: Connecting) {
        let mut told = Vec::with_capacity(connecting.ready.len());
        for (pending, answer) in &mut connecting.ready {
            let Some(one) = self.beginning(conn, pending, answer) else {
                // Publications were lost meanwhile: the client comes back and recovers.
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.connecting = Some(Box::new(connecting));
                }
                self.end(conn, Disconnect::INSUFFICIENT_STATE);
                return;
            };
            told.push(one);
        }
        let json = self.sessions.get(conn).is_some_and(|it| it.protocol == Protocol::Json);
        let results: Vec<_> = connecting
            .ready
            .iter()
            .zip(&told)
            .map(|((pending, _), told)| (&*told.channel, result(pending, told, json)))
            .collect();
        self.finish_connect(conn, connecting.id, connecting.ttl, &results);
        for (pending, _) in connecting.ready {
            if let Some(channel) = self.hub.get_mut(pending.hub) {
                channel.waiting -= 1;
            }
            self.join_group(conn, pending.hub, pending.grants, pending.filter);
            if pending.grants.positioned {
                self.schedule_position_check(pending.hub);
            }
        }
    }

    /// Where a subscription begins: at the position of this core, with what came on top of what was recovered.
    /// `None`: nobody knows where that is.
    fn beginning(
        &mut self,
        conn: ConnKey,
        pending: &SubscribePending,
        answer: &mut Subscribed,
    ) -> Option<Told> {
        let most = self.settings.client.recovery_max_publication_limit;
        let early = self.take_early(pending.hub, conn);
        if answer.recovered && early.is_none() {
            return None;
        }
        let channel = self.hub.get(pending.hub)?;
        let name = Arc::clone(&channel.name);
        let position = channel.position.clone();
        if pending.grants.positioned && position.is_none() {
            return None;
        }
        let mut publications = std::mem::take(&mut answer.publications);
        publications.extend(early.into_iter().flatten());
        if pending.wants_latest() {
            publications.retain(|publication| publication.offset > 0);
            publications.drain(..publications.len().saturating_sub(1));
            answer.recovered |= !publications.is_empty();
        }
        let recovered = answer.recovered && publications.len() <= most;
        if recovered {
            self.withhold(conn, &mut publications);
            keep_wanted(pending, &mut publications);
        } else {
            publications.clear();
        }
        let protocol = self.sessions.get(conn)?.protocol;
        let patches =
            pending.grants.delta.then(|| self.groups.patches(&publications, protocol, &mut self.counters));
        Some(Told { channel: name, position, publications, patches, recovered })
    }

    /// `None`: nothing is kept, or some of it was lost on the way.
    fn take_early(&mut self, hub: HubKey, conn: ConnKey) -> Option<Vec<Arc<Publication>>> {
        let channel = self.hub.get_mut(hub)?;
        let at = channel.early.iter().position(|early| early.conn == conn)?;
        let early = channel.early.swap_remove(at);
        if channel.early.is_empty() {
            channel.early = Vec::new();
        }
        Some(early.publications)
    }

    /// The session has ended: its owners are told. Those that have not answered are when they do.
    pub(super) fn undo_connecting(&mut self, connecting: Connecting) {
        for (pending, _) in connecting.ready {
            self.take_early(pending.hub, pending.conn);
            if let Some(channel) = self.hub.get_mut(pending.hub) {
                channel.waiting -= 1;
            }
            self.tell_unsubscribed(pending.hub, pending.client);
            self.release_channel(pending.hub);
        }
    }
}

fn result<'a>(pending: &'a SubscribePending, told: &'a Told, json: bool) -> SubscribeResult<'a> {
    let grants = pending.grants;
    let shown = told.position.as_ref().filter(|_| grants.positioned);
    let (epoch, top) = shown.map_or(("", 0), |position| (&*position.epoch, position.offset));
    let data = match &pending.origin {
        SubscribeOrigin::Connect { data } => data.as_deref().filter(|data| !json || is_json(data)),
        _ => None,
    };
    // Nothing of what was missed is wanted: the client is at the top.
    let nothing_wanted = pending.picks() && told.publications.is_empty();
    let from = pending.recover_from.filter(|_| told.recovered && !nothing_wanted);
    SubscribeResult {
        recoverable: grants.recoverable,
        positioned: grants.positioned,
        epoch,
        offset: from.map_or(top, |from| from.min(top)),
        patches: told.patches.as_deref(),
        number: if grants.numbered { number(pending.hub) } else { 0 },
        conflation: grants.conflate_ms,
        publish_debounce: pending.publish_debounce,
        publications: &told.publications,
        recovered: told.recovered,
        was_recovering: pending.recover_from.is_some(),
        data: data.unwrap_or_default(),
        ..SubscribeResult::default()
    }
}
