//! `subscribe`: asks the owner of the channel, and joins the channel's group when the answer comes.
//!
//! The owner forwards everything it publishes after its answer, and the mesh keeps order: joining when the
//! answer arrives neither misses a publication nor sees one twice.

use super::{
    Place, Refusal, Session, Step, Subscription,
    connect::with_chan_info,
    keys::Purpose,
    map::{map_grants, map_join},
};
use crate::{
    auth::{Overrides, SubscribeClaims},
    broker::{
        core::Core,
        group::{Class, Filter, FilterError},
        hub::HubKey,
        mesh::{Ask, AskKey, MapJoin, Recover, Shown, SubscribeAsk, Subscribed},
        pending::{LATEST, MapPending, Pending, SubscribeOrigin, SubscribePending},
        permission::{Grants, Namespaces, Verb, option_ms, recovers_cache},
    },
    config::SubscriptionType,
    model::{
        ClientInfo, ConnKey, CoreId, Disconnect, ErrorCode, Position, Protocol, Publication, Unsubscribe,
    },
    wire::{
        client::{Push, Reply, SubscribeRequest, SubscribeResult},
        json::is_json,
    },
};
use std::sync::Arc;

/// A subscription that may be asked for.
pub(in crate::broker) struct Joining<'a> {
    pub channel: &'a str,
    pub info: Arc<ClientInfo>,
    pub grants: Grants,
    pub filter: Option<Arc<Filter>>,
    pub recover: Option<Recover>,
    pub reject_unrecovered: bool,
    pub origin: SubscribeOrigin,
    /// As in [`Subscription`].
    pub expires_ms: u64,
    pub shown: Shown,
    /// The type of subscription.
    pub kind: i32,
    /// The channel is a map: what is wanted of it.
    pub map: Option<Box<MapJoin>>,
}

/// Bit of `SubscribeRequest::flag`: a number may stand for the channel's name.
const CHANNEL_COMPACTION: i64 = 1;

/// Bit of `SubscribeRequest::flag`: what the client publishes is not to come back to it.
const NO_ECHO: i64 = 4;

/// Bit of `SubscribeRequest::flag`: answer error 112 instead of "not recovered".
const REJECT_UNRECOVERED: i64 = 2;

impl Core {
    pub(super) fn subscribe(&mut self, conn: ConnKey, id: u32, request: &SubscribeRequest<'_>) -> Step {
        let channel = &*request.channel;
        if channel.is_empty() || !matches!(&*request.delta, "" | "fossil") {
            return self.break_protocol(conn);
        }
        if self.is_subscribing(conn, channel) {
            // Pages follow one upon the other: the second of two at a time is a mistake, and would hold up the rest.
            if map_join(request).is_some() {
                return self.refuse(conn, id, ErrorCode::ConcurrentPagination);
            }
            return Step::Wait;
        }
        let mut found = self.subscribe_grants(conn, request);
        if matches!(found, Err(Refusal::Key)) {
            match self.await_key(conn, Purpose::Subscription, &request.token) {
                None => return Step::Wait,
                // As with every token that is none, here the command ends and not the connection.
                Some(Refusal::End(_)) => found = Err(ErrorCode::PermissionDenied.into()),
                Some(refusal) => found = Err(refusal),
            }
        }
        let (grants, claims) = match found {
            Ok(found) => found,
            Err(refusal) => return self.refuse_by(conn, id, refusal),
        };
        let filter = match self.tags_filter(channel, request) {
            Ok(filter) => filter,
            Err(error) => return self.refuse(conn, id, error),
        };
        let (expires_ms, ttl) = match self.time_left(claims.expires_unix_ms) {
            Ok(left) => left,
            Err(error) => return self.refuse(conn, id, error),
        };
        let map = map_join(request);
        if let Some(Err(refusal)) = map.as_deref().map(|join| self.check_reading(conn, channel, join)) {
            return self.refuse_by(conn, id, refusal);
        }
        let Some(info) = self.info(conn) else { return Step::Ended };
        let recover = (request.recover && grants.recoverable)
            .then(|| Recover { offset: request.offset, epoch: (&*request.epoch).into() });
        let mark = (!request.token.is_empty()).then(|| self.denials.mark(&claims.id, claims.issued_unix_ms));
        let joining = Joining {
            channel,
            info: with_chan_info(info, claims.info.as_ref()),
            grants,
            filter,
            recover,
            reject_unrecovered: request.flag & REJECT_UNRECOVERED != 0,
            origin: SubscribeOrigin::Client { id, ttl, data: claims.data },
            expires_ms,
            shown: shown(claims.overrides),
            kind: request.kind,
            map,
        };
        if self.ask_subscribe(conn, joining) {
            if let Some(mark) = mark {
                self.set_mark(conn, channel, mark);
            }
            return Step::Done;
        }
        let owner = self.owners.of(channel);
        self.wait_for_credit(conn, owner)
    }

    /// What the client gets, and what its token says (nothing without one). A token allows what the options do
    /// not; a wrong one is refused also where none is needed.
    fn subscribe_grants(
        &self,
        conn: ConnKey,
        request: &SubscribeRequest<'_>,
    ) -> Result<(Grants, SubscribeClaims), Refusal> {
        let channel = &*request.channel;
        self.channels.check_name(channel)?;
        match self.subscription(conn, channel) {
            None => {}
            Some(Place::Abandoned(_)) => return Err(ErrorCode::Internal.into()),
            Some(Place::Live { .. } | Place::Waiting(_)) => return Err(ErrorCode::AlreadySubscribed.into()),
        }
        let Some(session) = self.sessions.get(conn) else { return Err(ErrorCode::Internal.into()) };
        if session.subscriptions.len() >= self.settings.client.channel_limit {
            return Err(ErrorCode::LimitExceeded.into());
        }
        let claims = if request.token.is_empty() {
            self.allow(conn, channel, Verb::Subscribe)?;
            SubscribeClaims::default()
        } else {
            self.channels.resolve(channel)?;
            let invalid = ErrorCode::PermissionDenied.into();
            self.check_subscription_token(conn, channel, &request.token, invalid)?
        };
        let options = self.channels.resolve(channel)?;
        if request.kind != options.subscription_type as i32 {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if request.kind == SubscriptionType::SharedPoll as i32 {
            // Who must begin anew, because keys were lost on the way or versions start over, learns of it.
            return Ok((Grants { positioned: true, ..Grants::default() }, claims));
        }
        if request.kind != 0 {
            let numbered = options.allow_channel_compaction && wishes(session, request).numbered;
            return Ok((Grants { numbered, ..map_grants(options, request) }, claims));
        }
        let wishes = wishes(session, request);
        Ok((self.grants(conn, channel, wishes, claims.overrides)?, claims))
    }

    /// Which publications of `channel` a request wants.
    pub(super) fn tags_filter(
        &self,
        channel: &str,
        request: &SubscribeRequest<'_>,
    ) -> Result<Option<Arc<Filter>>, ErrorCode> {
        let Some(node) = &request.tags_filter else { return Ok(None) };
        if !self.channels.resolve(channel)?.allow_tags_filter {
            return Err(ErrorCode::BadRequest);
        }
        match Filter::new(node, self.settings.client.tags_filter_size_max) {
            Ok(filter) => Ok(Some(Arc::new(filter))),
            Err(FilterError::Malformed) => Err(ErrorCode::BadRequest),
            Err(FilterError::TooLarge) => Err(ErrorCode::LimitExceeded),
        }
    }

    /// What a subscription of this client to `channel` gets of what it wishes.
    pub(in crate::broker) fn grants(
        &self,
        conn: ConnKey,
        channel: &str,
        wishes: Grants,
        overrides: Overrides,
    ) -> Result<Grants, ErrorCode> {
        let (options, who) = (self.channels.resolve(channel)?, self.who(conn, channel)?);
        if self.channels.is_pattern(options, channel) {
            if !self.channels.split(channel).fits() {
                return Err(ErrorCode::BadRequest);
            }
            // There is no place in what is put together from many streams.
            let Grants { join_leave, no_echo, numbered, .. } = Namespaces::grant(options, who, wishes);
            return Ok(Grants { join_leave, no_echo, numbered, ..Grants::default() });
        }
        let can = |verb| self.has_capability(conn, verb, channel);
        let (presence, history) = (can(Verb::Presence), can(Verb::History));
        if overrides == Overrides::default() && !presence && !history {
            return Ok(Namespaces::grant(options, who, wishes));
        }
        let mut options = options.clone();
        // Others may be announced here although the namespace announces nobody.
        options.join_leave |= [overrides.join_leave, overrides.force_push_join_leave].contains(&Some(true));
        for (option, said) in [
            (&mut options.force_recovery, overrides.force_recovery),
            (&mut options.force_positioning, overrides.force_positioning),
            (&mut options.force_push_join_leave, overrides.force_push_join_leave),
            (&mut options.allow_presence_for_client, presence.then_some(true)),
            (&mut options.allow_presence_for_anonymous, presence.then_some(true)),
            (&mut options.allow_history_for_client, history.then_some(true)),
            (&mut options.allow_history_for_anonymous, history.then_some(true)),
        ] {
            *option = said.unwrap_or(*option);
        }
        Ok(Namespaces::grant(&options, who, wishes))
    }

    /// Sends the ask; false when there is no credit (nothing happened then).
    pub(in crate::broker) fn ask_subscribe(&mut self, conn: ConnKey, joining: Joining<'_>) -> bool {
        let Joining {
            channel,
            info,
            grants,
            filter,
            recover,
            reject_unrecovered,
            origin,
            expires_ms,
            shown,
            kind,
            map,
        } = joining;
        let reject_unrecovered = reject_unrecovered && recover.is_some();
        let Ok(options) = self.channels.resolve(channel) else { return false };
        let (cache, pattern) = (recovers_cache(options), self.channels.is_pattern(options, channel));
        let publish_debounce = option_ms(options.client_publish_debounce_interval);
        // Where the latest publication is all that recovery brings, new subscribers may get it unasked.
        let unasked = cache && options.auto_cache_recover && grants.recoverable;
        let recover = recover.or_else(|| unasked.then(Recover::default));
        let owner = self.owners.of(channel);
        if !self.out.take_credit(owner) {
            return false;
        }
        let hub = self.hub.expect(channel, || owner);
        if pattern {
            self.watch(hub);
        }
        let Some(name) = self.hub.get(hub).map(|channel| Arc::clone(&channel.name)) else { return false };
        let server_side = !matches!(origin, SubscribeOrigin::Client { .. });
        let pending = Pending::Subscribe(SubscribePending {
            conn,
            client: info.client,
            hub,
            grants,
            filter,
            recover_from: recover.as_ref().map(|recover| if cache { LATEST } else { recover.offset }),
            origin,
            publish_debounce,
            map: (kind != 0).then(|| MapPending {
                kind,
                recover: map.as_ref().is_some_and(|join| join.recover),
                first: map.as_ref().is_some_and(|join| join.is_first()),
            }),
            late: false,
            unsubscribe_after: None,
        });
        let ask = Ask::Subscribe(SubscribeAsk {
            channel: name,
            info: Arc::clone(&info),
            recover,
            reject_unrecovered,
            positioned: grants.positioned,
            map,
            shown,
        });
        let key = self.ask(owner, ask, pending);
        if let Some(session) = self.sessions.get_mut(conn) {
            let mut subscription =
                Subscription::new(hub, Place::Waiting(key), grants.positioned, server_side);
            subscription.set_expires_ms(expires_ms);
            if info.chan_info.is_some() {
                subscription.set_info(info);
            }
            session.add(subscription);
        }
        if expires_ms != u64::MAX {
            self.expect_expiry(conn);
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
            .is_some_and(|subscription| subscription.place() == waits);
        if expected && matches!(pending.origin, SubscribeOrigin::Connect { .. }) {
            return self.on_connect_answer(pending, answer);
        }
        if let Some(channel) = self.hub.get_mut(hub) {
            channel.waiting -= 1;
        }
        if !expected {
            // The client is gone, or was told that the ask took too long.
            self.forget_abandoned(key, &pending);
            self.tell_unsubscribed(hub, pending.client);
            self.release_channel(hub);
            return;
        }
        if pending.map.is_some() {
            self.end_reading(pending.conn, hub);
            self.show_entries(&pending, &mut answer.state, &mut answer.publications);
        } else {
            self.withhold(pending.conn, &mut answer.publications);
            keep_wanted(&pending, &mut answer.publications);
        }
        self.tell_subscribed(&pending, &answer);
        self.join_group(pending.conn, hub, pending.grants, pending.filter);
        if pending.grants.positioned {
            self.schedule_position_check(hub);
        }
        if let Some(why) = pending.unsubscribe_after {
            self.cut_subscription(pending.conn, hub, why);
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
            SubscribeOrigin::Client { id, ttl, data } => {
                let Some(protocol) = self.sessions.get(pending.conn).map(|it| it.protocol) else { return };
                let json = protocol == Protocol::Json;
                let patches = grants.delta.then(|| match pending.map {
                    None => self.groups.patches(&answer.publications, protocol, &mut self.counters),
                    // Nobody knows what the client has of the entries.
                    Some(_) => vec![None; answer.publications.len()],
                });
                // Nothing of what was missed is wanted: the client is at the top, and may stay away longer.
                let nothing_wanted = pending.picks() && answer.publications.is_empty();
                // Of a map the top is told, also to who recovers: state and changes come in one.
                let told_from = answer.recovered && !nothing_wanted && pending.map.is_none();
                let from = pending.recover_from.filter(|_| told_from);
                let offset = from.map_or(top, |from| from.min(top));
                let map = pending.map.unwrap_or_default();
                let result = SubscribeResult {
                    kind: map.kind,
                    state: &answer.state,
                    expires: *ttl > 0,
                    ttl: *ttl,
                    data: data.as_deref().filter(|data| !json || is_json(data)).unwrap_or_default(),
                    recoverable: grants.recoverable,
                    positioned: grants.positioned && pending.map.is_none(),
                    epoch,
                    offset,
                    publications: &answer.publications,
                    recovered: answer.recovered,
                    patches: patches.as_deref(),
                    number: if grants.numbered { number(pending.hub) } else { 0 },
                    conflation: grants.conflate_ms,
                    publish_debounce: pending.publish_debounce,
                    was_recovering: pending.recover_from.is_some() || map.recover,
                    ..SubscribeResult::default()
                };
                self.reply(pending.conn, *id, &Reply::Subscribe(&result));
            }
            SubscribeOrigin::Connect { .. } => {}
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
    pub(super) fn join_group(
        &mut self,
        conn: ConnKey,
        hub: HubKey,
        grants: Grants,
        filter: Option<Arc<Filter>>,
    ) {
        let Some(session) = self.sessions.get(conn) else { return };
        let Grants { join_leave, delta, conflate_ms, no_echo, .. } = grants;
        let number = if grants.numbered { number(hub) } else { 0 };
        let plain = Class::plain(session.framing, session.protocol);
        let class =
            Class { join_leave, delta, number, conflate_ms, no_echo, dialect: session.dialect, ..plain };
        let Some(channel) = self.hub.get_mut(hub) else { return };
        channel.live += 1;
        channel.has_quiet |= no_echo;
        // Looking for those with an equal filter costs more than their company saves when there are many.
        let alone = filter.is_some() && channel.groups.len() >= self.settings.client.tags_filter_groups_max;
        let mut groups = channel.groups.iter().filter(|_| !alone);
        let group = match groups.find(|&&group| self.groups.takes(group, class, filter.as_ref())) {
            Some(&group) => group,
            None => {
                // Why there is one like it that nobody can join: it was told something, or something waits.
                let is_like = |&other: &_| self.groups.is_for(other, class, filter.as_ref());
                let loose = !alone && channel.groups.iter().any(is_like);
                let group = self.groups.create(Arc::clone(&channel.name), class, filter);
                if loose {
                    self.groups.set_loose(group);
                }
                channel.groups.push(group);
                group
            }
        };
        self.groups.close_list(group, &mut self.write, &mut self.counters);
        let member = self.groups.add(group, conn);
        if let Some(subscription) = self.sessions.get_mut(conn).and_then(|session| session.find_mut(hub)) {
            subscription.set_place(Place::Live { group, member });
        }
    }

    /// The owner did not answer in time.
    pub(in crate::broker) fn on_subscribe_late(&mut self, key: AskKey, pending: &SubscribePending) {
        let waits = Place::Waiting(key);
        if let Some(subscription) =
            self.sessions.get_mut(pending.conn).and_then(|it| it.find_mut(pending.hub))
            && subscription.place() == waits
        {
            subscription.set_place(Place::Abandoned(key));
            self.tell_unmade(pending, ErrorCode::Internal);
        }
    }

    pub(super) fn forget_abandoned(&mut self, key: AskKey, pending: &SubscribePending) {
        if let Some(session) = self.sessions.get_mut(pending.conn)
            && session.find(pending.hub).is_some_and(|it| it.place() == Place::Abandoned(key))
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
            && session.find(pending.hub).is_some_and(|subscription| subscription.place() == waits)
        {
            session.forget(pending.hub);
            if error == ErrorCode::UnrecoverablePosition {
                self.end_reading(pending.conn, pending.hub);
            }
            self.tell_unmade(pending, error);
        }
    }

    fn tell_unmade(&mut self, pending: &SubscribePending, error: ErrorCode) {
        match pending.origin {
            SubscribeOrigin::Client { id, .. } => self.reply(pending.conn, id, &Reply::Error(error)),
            SubscribeOrigin::Connect { .. } => {
                self.end(pending.conn, Disconnect::INTERNAL);
            }
            SubscribeOrigin::Server { .. } => {}
        }
    }

    /// Publications of the channel were lost between its owner and this core: its positioned subscribers
    /// are told, and recover.
    pub(in crate::broker) fn insufficient(&mut self, hub: HubKey) {
        let Some(channel) = self.hub.get_mut(hub) else { return };
        channel.position = None;
        channel.early = Vec::new();
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

/// How others are to see the subscriber.
pub(in crate::broker) fn shown(overrides: Overrides) -> Shown {
    Shown { presence: overrides.presence, join_leave: overrides.join_leave }
}

/// Leaves of what was missed what the subscriber wants of it.
pub(super) fn keep_wanted(pending: &SubscribePending, publications: &mut Vec<Arc<Publication>>) {
    let SubscribePending { filter, grants, client, .. } = pending;
    if let Some(filter) = filter {
        publications.retain(|publication| filter.wants(&publication.tags));
    }
    if grants.no_echo {
        publications.retain(|it| it.info.as_ref().is_none_or(|info| info.client != *client));
    }
    if grants.conflate_ms > 0 {
        publications.drain(..publications.len().saturating_sub(1));
    }
}

/// What a client asks for.
pub(super) fn wishes(session: &Session, request: &SubscribeRequest<'_>) -> Grants {
    Grants {
        positioned: request.positioned,
        recoverable: request.recoverable,
        join_leave: request.join_leave,
        // What passes a filter follows on nothing that all who get it have.
        delta: !request.delta.is_empty() && request.tags_filter.is_none(),
        conflate_ms: request.conflation,
        no_echo: request.flag & NO_ECHO != 0,
        numbered: request.flag & CHANNEL_COMPACTION != 0 && session.reads_numbers,
    }
}

/// What may stand for the name of a channel as long as this core has subscribers of it.
pub(super) fn number(hub: HubKey) -> u32 {
    hub.index + 1
}
