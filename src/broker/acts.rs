//! What the server API does to sessions: subscribe, unsubscribe, refresh, disconnect, block.
//!
//! A call that names a user goes to the owner of that user, who sends it on to the cores with sessions of it;
//! they answer whoever asked. A client id leads to its core by itself, a session id is asked for everywhere.
//! A session that is registered with its user later than the call reached the owner is not concerned.

use super::{
    core::Core,
    hub::HubKey,
    mesh::{Answer, Ask, AskKey, Mesh, Outgoing, Recover, Survey, Whom},
    pending::{Gathered, Pending, SubscribeOrigin},
    permission::Grants,
    seam::{ApiReply, ApiRequest, Denial, Refresh, Target},
    session::{Joining, Place, State, Subscription, shown, with_chan_info},
};
use crate::model::{ConnKey, CoreId, Disconnect, ErrorCode, Unsubscribe};
use std::{collections::BTreeMap, sync::Arc};

fn target(request: &ApiRequest) -> Option<&Target> {
    match request {
        ApiRequest::Subscribe { target, .. }
        | ApiRequest::Unsubscribe { target, .. }
        | ApiRequest::Refresh { target, .. }
        | ApiRequest::Disconnect { target, .. } => Some(target),
        _ => None,
    }
}

impl Core {
    /// Starts a call that concerns sessions.
    pub(super) fn api_act(&mut self, call: u64, request: ApiRequest) {
        if let Err(error) = self.check_act(&request) {
            return self.api_reply(call, Err(error));
        }
        let Some(target) = target(&request) else { return self.api_reply(call, Err(ErrorCode::Internal)) };
        if target.all {
            let survey = Survey::Act { act: Arc::new(request), whom: Whom::All };
            return self.survey(call, survey, Gathered::Acted);
        }
        if !target.session.is_empty() {
            let all = 0..self.cores as CoreId;
            return self.act_named(call, all, request);
        }
        if !target.client.is_empty() {
            let place = target.client.parse().map(|client| self.ids.place(client).0);
            let its = place.ok().filter(|&core| usize::from(core) < self.cores);
            return self.act_named(call, its.into_iter(), request);
        }
        let owner = self.owners.of(&target.user);
        self.act_by_owner(call, owner, request);
    }

    /// Keeps a user or a token out, or lets a user in again: users at their owner, tokens on all cores.
    pub(super) fn api_deny(&mut self, call: u64, denial: Denial) {
        match &denial {
            Denial::Block { user, .. } | Denial::Unblock { user } => {
                let owner = self.owners.of(user);
                self.act_by_owner(call, owner, ApiRequest::Deny(denial));
            }
            Denial::Revoke { .. } | Denial::Invalidate { .. }
                if !self.denials.has_room(&denial, self.now) =>
            {
                self.api_reply(call, Err(ErrorCode::LimitExceeded));
            }
            Denial::Revoke { .. } | Denial::Invalidate { .. } => {
                self.survey(call, Survey::Deny(denial), Gathered::Acted);
            }
        }
    }

    fn act_by_owner(&mut self, call: u64, owner: CoreId, request: ApiRequest) {
        if !self.out.take_credit(owner) {
            return self.api_reply(call, Err(ErrorCode::TooManyRequests));
        }
        let gather = self.gather(call, None, Gathered::Acted);
        self.ask(owner, Ask::Act { gather, act: Arc::new(request) }, Pending::Act { gather });
    }

    /// Has these cores look for the one session that the call names.
    fn act_named(&mut self, call: u64, cores: impl Iterator<Item = CoreId>, request: ApiRequest) {
        let cores: Vec<_> = cores.collect();
        if cores.is_empty() {
            return self.api_reply(call, Ok(ApiReply::Done));
        }
        let id = self.gather(call, Some(cores.len()), Gathered::Acted);
        let survey = Arc::new(Survey::Act { act: Arc::new(request), whom: Whom::Named });
        for core in cores {
            let survey = Arc::clone(&survey);
            self.out.send(core, Mesh::Survey { asker: self.id, id, survey });
        }
    }

    fn check_act(&self, request: &ApiRequest) -> Result<(), ErrorCode> {
        let channel = match request {
            ApiRequest::Subscribe { channel, .. } => Some(channel),
            ApiRequest::Unsubscribe { channel, .. } if !channel.is_empty() => Some(channel),
            _ => None,
        };
        if let Some(channel) = channel {
            self.check_api_channel(channel)?;
        }
        if let ApiRequest::Subscribe { expires_unix_ms, .. } = request {
            self.time_left(*expires_unix_ms)?;
        }
        // Without a user or a client the call would mean every anonymous client.
        let target = target(request).ok_or(ErrorCode::Internal)?;
        if target.all {
            // More questions at once than may be open: nobody could tell who was left out.
            let subscribes = matches!(request, ApiRequest::Subscribe { .. });
            return if subscribes { Err(ErrorCode::NotAvailable) } else { Ok(()) };
        }
        if target.user.is_empty() && target.client.is_empty() && target.session.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        Ok(())
    }

    /// Another core wants this done to a user of this one.
    pub(super) fn on_act(&mut self, asker: CoreId, id: AskKey, gather: AskKey, act: &Arc<ApiRequest>) {
        if let ApiRequest::Deny(denial) = &**act {
            if !self.denials.has_room(denial, self.now) {
                let answer = Box::new(Answer::Error(ErrorCode::LimitExceeded));
                return self.out.send(asker, Mesh::Answer { id, answer });
            }
            self.denials.add(denial, self.now);
        }
        let user = match &**act {
            ApiRequest::Deny(Denial::Block { user, .. }) => user,
            // Whoever is let in again has no session.
            ApiRequest::Deny(_) => "",
            act => target(act).map_or("", |target| &target.user),
        };
        let mut by_core: BTreeMap<CoreId, Vec<ConnKey>> = BTreeMap::new();
        for place in self.users.places(user) {
            by_core.entry(place.core).or_default().push(place.conn);
        }
        let answer = Box::new(Answer::Acting(by_core.len()));
        for (core, conns) in by_core {
            let survey = Survey::Act { act: Arc::clone(act), whom: Whom::These(conns) };
            self.out.send(core, Mesh::Survey { asker, id: gather, survey: Arc::new(survey) });
        }
        self.out.send(asker, Mesh::Answer { id, answer });
    }

    /// The owner of the user says how many cores will answer. Some may have.
    pub(super) fn on_acting(&mut self, gather: AskKey, answer: Answer) {
        let Some(Pending::Gather(found)) = self.pending.get_mut(gather) else { return };
        match answer {
            Answer::Acting(cores) => {
                found.expected = Some(cores);
                self.finish_gathered(gather);
            }
            Answer::Error(error @ ErrorCode::LimitExceeded) => {
                let call = found.call;
                self.pending.remove(gather);
                self.api_reply(call, Err(error));
            }
            _ => self.finish_gather(gather),
        }
    }

    /// Ends what lives on a token that is refused from now on: sessions with 3014, subscriptions with 2502, so that
    /// clients come back with another token, if they have or get one. Looks at every session of this core.
    pub(super) fn end_denied(&mut self, denial: &Denial) {
        let Some(marked) = self.denials.marked(denial, self.now) else { return };
        let (mut ends, mut cuts) = (Vec::new(), Vec::new());
        for (conn, session) in self.sessions.iter() {
            let (Some(account), Some(info)) = (&session.account, &session.info) else { continue };
            if marked.has(account.mark, &info.user, "") {
                ends.push(conn);
                continue;
            }
            for &(hub, mark) in &account.sub_marks {
                let channel = self.hub.get(hub).map_or("", |channel| &channel.name);
                if marked.has(mark, &info.user, channel) {
                    cuts.push((conn, hub));
                }
            }
        }
        for conn in ends {
            self.end(conn, Disconnect::INVALIDATED);
        }
        for (conn, hub) in cuts {
            let place =
                self.sessions.get(conn).and_then(|session| session.find(hub)).map(Subscription::place);
            if let Some(place) = place {
                self.cut_at(conn, hub, place, Unsubscribe::INVALIDATED);
            }
        }
    }

    /// Ends a subscription, now or once its owner has answered.
    fn cut_at(&mut self, conn: ConnKey, hub: HubKey, place: Place, why: Unsubscribe) {
        match place {
            Place::Live { .. } => self.cut_subscription(conn, hub, why),
            Place::Waiting(key) => {
                if let Some(Pending::Subscribe(pending)) = self.pending.get_mut(key) {
                    pending.unsubscribe_after = Some(why);
                }
            }
            Place::Abandoned(_) => {}
        }
    }

    /// Applies a call to the sessions of this core it concerns.
    pub(super) fn act(&mut self, request: &ApiRequest, whom: &Whom) {
        let (named, all);
        let conns = match whom {
            Whom::These(conns) => conns.as_slice(),
            Whom::Named => {
                named = target(request).and_then(|target| self.named(target));
                named.as_slice()
            }
            Whom::All => {
                all = self.sessions.iter().map(|(conn, _)| conn).collect::<Vec<_>>();
                all.as_slice()
            }
        };
        for &conn in conns {
            match (request, self.sessions.get(conn).map(|session| session.state)) {
                (ApiRequest::Disconnect { whitelist, disconnect, .. }, Some(_)) => {
                    self.act_disconnect(conn, whitelist, disconnect);
                }
                (ApiRequest::Deny(_), Some(_)) => {
                    self.end(conn, Disconnect::PERMISSION_DENIED);
                }
                // One that was not told that it is connected cannot be told more.
                (_, None | Some(State::New | State::Connecting | State::Refused)) => {}
                (ApiRequest::Subscribe { .. }, _) => self.act_subscribe(conn, request),
                (ApiRequest::Unsubscribe { channel, .. }, _) => self.act_unsubscribe(conn, channel),
                (ApiRequest::Refresh { refresh, .. }, _) => self.act_refresh(conn, refresh),
                _ => {}
            }
        }
    }

    /// The session of this core that `target` names by its session id or its client id. Who speaks on its
    /// connection has no session id.
    fn named(&self, target: &Target) -> Option<ConnKey> {
        if !target.session.is_empty() {
            let conn = target.session.parse().ok().and_then(|session| self.find_session(session))?;
            let info = self.info(conn)?;
            let client = target.client.is_empty() || *target.client == *info.client.to_string();
            return (client && *info.user == *target.user).then_some(conn);
        }
        let client = target.client.parse().ok()?;
        let (core, index) = self.ids.place(client);
        let (conn, session) = self.sessions.at(index).filter(|_| core == self.id)?;
        let info = session.info.as_ref()?;
        (info.client == client && *info.user == *target.user).then_some(conn)
    }

    fn act_subscribe(&mut self, conn: ConnKey, request: &ApiRequest) {
        let ApiRequest::Subscribe {
            target: _,
            channel,
            info: chan_info,
            data,
            recover_since,
            overrides,
            expires_unix_ms,
        } = request
        else {
            return;
        };
        let Ok((expires_ms, _)) = self.time_left(*expires_unix_ms) else { return };
        if !self.is_stream(channel) {
            return;
        }
        let known = self.hub.find(channel).and_then(|hub| self.sessions.get(conn)?.find(hub));
        if known.is_some() {
            return;
        }
        let Some(info) = self.info(conn) else { return };
        let wishes = Grants {
            positioned: recover_since.is_some(),
            recoverable: recover_since.is_some(),
            ..Grants::default()
        };
        let Ok(grants) = self.grants(conn, channel, wishes, *overrides) else { return };
        let recover = recover_since
            .as_ref()
            .filter(|_| grants.recoverable)
            .map(|position| Recover { offset: position.offset, epoch: (&*position.epoch).into() });
        let joining = Joining {
            channel,
            info: with_chan_info(info, chan_info.as_ref()),
            grants,
            filter: None,
            recover,
            reject_unrecovered: false,
            origin: SubscribeOrigin::Server { data: data.clone() },
            expires_ms,
            kind: 0,
            shown: shown(*overrides),
            map: None,
        };
        // Without credit the owner is far behind; the caller sees it in the presence of the channel.
        self.ask_subscribe(conn, joining);
    }

    fn act_unsubscribe(&mut self, conn: ConnKey, channel: &str) {
        let Some(session) = self.sessions.get(conn) else { return };
        let places: Vec<_> = session
            .subscriptions
            .iter()
            .filter(|subscription| {
                channel.is_empty()
                    || self.hub.get(subscription.hub).is_some_and(|found| *found.name == *channel)
            })
            .map(|subscription| (subscription.hub, subscription.place()))
            .collect();
        for (hub, place) in places {
            self.cut_at(conn, hub, place, Unsubscribe::SERVER);
        }
    }

    fn act_refresh(&mut self, conn: ConnKey, refresh: &Refresh) {
        let expires_unix_ms = (refresh.expire_at > 0).then(|| refresh.expire_at.saturating_mul(1000));
        match self.time_left(expires_unix_ms) {
            Ok((expires_ms, ttl)) if !refresh.expired => {
                self.prolong(conn, expires_ms, ttl, refresh.info.clone())
            }
            _ => {
                self.end(conn, Disconnect::EXPIRED);
            }
        }
    }

    fn act_disconnect(&mut self, conn: ConnKey, whitelist: &[Box<str>], disconnect: &Disconnect) {
        let Some(info) = self.info(conn) else { return };
        let id = info.client.to_string();
        if !whitelist.iter().any(|allowed| **allowed == *id) {
            self.end(conn, disconnect.clone());
        }
    }
}
