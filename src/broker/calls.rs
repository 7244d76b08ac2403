//! Calls of the server API: each is answered by exactly one effect, from one owner, from several, or from all cores.

use super::{
    core::Core,
    mesh::{Answer, Ask, AskKey, HistoryFilter, Mesh, Outgoing, Recover, Survey, SurveyAnswer},
    pending::{BroadcastPending, GatherPending, Gathered, Pending, SubscribeOrigin},
    permission::{Grants, check_data},
    seam::{ApiReply, ApiRequest, CoreStats, Effect, PublishOptions, Target},
    session::{Joining, Place, with_chan_info},
};
use crate::{
    auth::Overrides,
    metrics::Counter,
    model::{ConnKey, CoreId, Disconnect, ErrorCode, Position, Publication, Tags, Unsubscribe},
};
use std::sync::Arc;

impl Core {
    /// A call of the server API; answered by exactly one [`Effect::ApiReply`] with the same number, maybe
    /// before this returns.
    pub fn api(&mut self, call: u64, request: ApiRequest) {
        self.counters.increment(Counter::ApiCalls);
        match request {
            ApiRequest::Publish { channel, data, tags, options } => {
                self.api_publish(call, channel, data, tags, options);
            }
            ApiRequest::Broadcast { channels, data, tags, options } => {
                self.api_broadcast(call, channels, &data, &tags, &options);
            }
            ApiRequest::Presence { channel } => {
                self.api_ask(call, channel, |channel| Ask::Presence { channel })
            }
            ApiRequest::PresenceStats { channel } => {
                self.api_ask(call, channel, |channel| Ask::PresenceStats { channel });
            }
            ApiRequest::History { channel, limit, since, reverse } => {
                let filter = HistoryFilter {
                    limit: usize::try_from(limit).unwrap_or(usize::MAX),
                    since: since.map(|(offset, epoch)| Recover { offset, epoch }),
                    reverse,
                };
                self.api_ask(call, channel, |channel| Ask::History { channel, filter });
            }
            ApiRequest::HistoryRemove { channel } => {
                self.api_ask(call, channel, |channel| Ask::HistoryRemove { channel });
            }
            ApiRequest::Channels { pattern } => {
                self.survey(call, Survey::Channels { pattern }, Gathered::Channels(Vec::new()));
            }
            ApiRequest::Info => self.survey(call, Survey::Stats, Gathered::Stats(Vec::new())),
            ApiRequest::Subscribe { .. } | ApiRequest::Unsubscribe { .. } | ApiRequest::Disconnect { .. } => {
                match self.check_act(&request) {
                    Ok(()) => self.survey(call, Survey::Act(request), Gathered::Acted(0)),
                    Err(error) => self.api_reply(call, Err(error)),
                }
            }
        }
        self.pump();
    }

    fn api_reply(&mut self, call: u64, reply: Result<ApiReply, ErrorCode>) {
        if reply.is_err() {
            self.counters.increment(Counter::ApiErrors);
        }
        self.effects.push(Effect::ApiReply { call, reply });
    }

    /// An empty name is a bad request, an unknown namespace an unknown channel.
    fn check_api_channel(&self, channel: &str) -> Result<(), ErrorCode> {
        if channel.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        self.channels.check_name(channel)?;
        self.channels.resolve(channel).map(|_| ())
    }

    /// Whether `data` may be published to `channel`, and whether it is known to be JSON then.
    fn check_api_data(&self, channel: &str, data: &[u8]) -> Result<bool, ErrorCode> {
        self.check_api_channel(channel)?;
        check_data(self.channels.resolve(channel)?.publication_data_format, data, false)
    }

    /// One ask to the owner of `channel` answers the call.
    fn api_ask(&mut self, call: u64, channel: Arc<str>, ask: impl FnOnce(Arc<str>) -> Ask) {
        if let Err(error) = self.check_api_channel(&channel) {
            return self.api_reply(call, Err(error));
        }
        let owner = self.owner(&channel);
        if !self.out.take_credit(owner) {
            return self.api_reply(call, Err(ErrorCode::TooManyRequests));
        }
        self.ask(owner, ask(channel), Pending::Api { call });
    }

    fn api_publish(
        &mut self,
        call: u64,
        channel: Arc<str>,
        data: Box<[u8]>,
        tags: Tags,
        options: PublishOptions,
    ) {
        let json = match self.check_api_data(&channel, &data) {
            Ok(json) => json,
            Err(error) => return self.api_reply(call, Err(error)),
        };
        let publication = Publication { data, tags, json, ..Publication::default() };
        self.api_ask(call, channel, |channel| Ask::Publish { channel, publication, options });
    }

    fn api_broadcast(
        &mut self,
        call: u64,
        channels: Vec<Arc<str>>,
        data: &[u8],
        tags: &Tags,
        options: &PublishOptions,
    ) {
        if channels.is_empty() {
            return self.api_reply(call, Err(ErrorCode::BadRequest));
        }
        let results = vec![Err(ErrorCode::Internal); channels.len()];
        let left = channels.len();
        let broadcast =
            self.pending.insert(Pending::Broadcast(Box::new(BroadcastPending { call, results, left })));
        self.expire_later(broadcast);
        for (index, channel) in channels.into_iter().enumerate() {
            let json = match self.check_api_data(&channel, data) {
                Ok(json) => json,
                Err(error) => {
                    self.on_broadcast_item(broadcast, index, Err(error));
                    continue;
                }
            };
            let owner = self.owner(&channel);
            if !self.out.take_credit(owner) {
                self.on_broadcast_item(broadcast, index, Err(ErrorCode::TooManyRequests));
                continue;
            }
            let (data, tags) = (data.into(), tags.clone());
            let publication = Publication { data, tags, json, ..Publication::default() };
            let ask = Ask::Publish { channel, publication, options: options.clone() };
            self.ask(owner, ask, Pending::BroadcastItem { broadcast, index });
        }
    }

    fn on_broadcast_item(&mut self, key: AskKey, index: usize, result: Result<Option<Position>, ErrorCode>) {
        let Some(Pending::Broadcast(broadcast)) = self.pending.get_mut(key) else { return };
        broadcast.results[index] = result;
        broadcast.left -= 1;
        if broadcast.left == 0 {
            self.finish_broadcast(key);
        }
    }

    /// All items answered, or time is up: what is missing is an internal error.
    pub(super) fn finish_broadcast(&mut self, key: AskKey) {
        if let Some(Pending::Broadcast(broadcast)) = self.pending.remove(key) {
            let BroadcastPending { call, results, .. } = *broadcast;
            self.api_reply(call, Ok(ApiReply::Broadcast(results)));
        }
    }

    pub(super) fn on_item_answer(&mut self, broadcast: AskKey, index: usize, answer: Answer) {
        let result = match answer {
            Answer::Published { position } => Ok(position),
            Answer::Error(error) => Err(error),
            _ => Err(ErrorCode::Internal),
        };
        self.on_broadcast_item(broadcast, index, result);
    }

    pub(super) fn on_api_answer(&mut self, call: u64, answer: Answer) {
        let reply = match answer {
            Answer::Published { position } => Ok(ApiReply::Publish { position }),
            Answer::Presence(clients) => Ok(ApiReply::Presence(clients)),
            Answer::PresenceStats { clients, users } => Ok(ApiReply::PresenceStats { clients, users }),
            Answer::History { publications, position } => Ok(ApiReply::History { publications, position }),
            Answer::HistoryRemoved => Ok(ApiReply::Done),
            Answer::Error(error) => Err(error),
            Answer::Subscribed(_) | Answer::Position(_) => Err(ErrorCode::Internal),
        };
        self.api_reply(call, reply);
    }

    fn survey(&mut self, call: u64, survey: Survey, gathered: Gathered) {
        let left = self.cores;
        let id = self.pending.insert(Pending::Gather(Box::new(GatherPending { call, left, gathered })));
        self.expire_later(id);
        let survey = Arc::new(survey);
        for core in 0..left {
            self.out.send(core as CoreId, Mesh::Survey { id, survey: Arc::clone(&survey) });
        }
    }

    pub(super) fn on_survey(&mut self, from: CoreId, id: AskKey, survey: &Survey) {
        let answer = match survey {
            Survey::Channels { pattern } => SurveyAnswer::Channels(self.shard.channels(pattern)),
            Survey::Stats => SurveyAnswer::Stats(Box::new(self.stats())),
            Survey::Act(request) => SurveyAnswer::Acted(self.act(request)),
        };
        self.out.answer_survey(from, id, answer);
    }

    pub(super) fn on_survey_answer(&mut self, id: AskKey, answer: SurveyAnswer) {
        let Some(Pending::Gather(gather)) = self.pending.get_mut(id) else { return };
        match (&mut gather.gathered, answer) {
            (Gathered::Channels(all), SurveyAnswer::Channels(some)) => all.extend(some),
            (Gathered::Stats(all), SurveyAnswer::Stats(some)) => all.push(*some),
            (Gathered::Acted(all), SurveyAnswer::Acted(some)) => *all += some,
            _ => return,
        }
        gather.left -= 1;
        if gather.left == 0 {
            self.finish_gather(id);
        }
    }

    /// All cores answered, or time is up: `info` shows who is missing.
    pub(super) fn finish_gather(&mut self, id: AskKey) {
        let Some(Pending::Gather(gather)) = self.pending.remove(id) else { return };
        let GatherPending { call, left, gathered } = *gather;
        let reply = match gathered {
            Gathered::Stats(mut cores) => {
                cores.sort_by_key(|stats| stats.core);
                Ok(ApiReply::Stats { cores, cores_total: self.cores })
            }
            _ if left > 0 => Err(ErrorCode::Internal),
            Gathered::Channels(mut channels) => {
                channels.sort();
                Ok(ApiReply::Channels(channels))
            }
            Gathered::Acted(_) => Ok(ApiReply::Done),
        };
        self.api_reply(call, reply);
    }

    fn check_act(&self, request: &ApiRequest) -> Result<(), ErrorCode> {
        let (target, channel) = match request {
            ApiRequest::Subscribe { target, channel, .. } => (target, Some(channel)),
            ApiRequest::Unsubscribe { target, channel } if !channel.is_empty() => (target, Some(channel)),
            ApiRequest::Unsubscribe { target, .. } | ApiRequest::Disconnect { target, .. } => (target, None),
            _ => return Err(ErrorCode::Internal),
        };
        if let Some(channel) = channel {
            self.check_api_channel(channel)?;
        }
        // Without a user or a client the call would mean every anonymous client.
        if target.user.is_empty() && target.client.is_empty() && target.session.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        Ok(())
    }

    /// Applies a call to the sessions of this core it concerns; says how many.
    fn act(&mut self, request: &ApiRequest) -> u32 {
        let mut count = 0;
        let (ApiRequest::Subscribe { target, .. }
        | ApiRequest::Unsubscribe { target, .. }
        | ApiRequest::Disconnect { target, .. }) = request
        else {
            return 0;
        };
        for conn in self.targets(target) {
            count += 1;
            match request {
                ApiRequest::Subscribe { channel, info, data, recover_since, .. } => {
                    self.act_subscribe(conn, channel, info.as_ref(), data.clone(), recover_since.as_ref());
                }
                ApiRequest::Unsubscribe { channel, .. } => self.act_unsubscribe(conn, channel),
                ApiRequest::Disconnect { whitelist, disconnect, .. } => {
                    self.act_disconnect(conn, whitelist, disconnect);
                }
                _ => {}
            }
        }
        count
    }

    /// Connected sessions of this core that `target` names.
    fn targets(&self, target: &Target) -> Vec<ConnKey> {
        // Session ids exist for emulated transports only.
        if !target.session.is_empty() {
            return Vec::new();
        }
        // Sessions that wait for the subscriptions of their token are not connected yet.
        if target.client.is_empty() {
            return self.users.get(&*target.user).cloned().unwrap_or_default();
        }
        let Ok(client) = target.client.parse() else { return Vec::new() };
        let (core, index) = self.ids.place(client);
        let Some((conn, session)) = self.sessions.at(index).filter(|_| core == self.id) else {
            return Vec::new();
        };
        match &session.info {
            Some(info)
                if info.client == client && *info.user == *target.user && session.connecting.is_none() =>
            {
                vec![conn]
            }
            _ => Vec::new(),
        }
    }

    fn act_subscribe(
        &mut self,
        conn: ConnKey,
        channel: &str,
        chan_info: Option<&Arc<[u8]>>,
        data: Option<Arc<[u8]>>,
        recover_since: Option<&Position>,
    ) {
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
        let Ok(grants) = self.grants(conn, channel, wishes, Overrides::default()) else { return };
        let recover = recover_since
            .filter(|_| grants.recoverable)
            .map(|position| Recover { offset: position.offset, epoch: (&*position.epoch).into() });
        let joining = Joining {
            channel,
            info: with_chan_info(info, chan_info),
            grants,
            recover,
            reject_unrecovered: false,
            origin: SubscribeOrigin::Server { data },
            expires_ms: u64::MAX,
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
            .map(|subscription| (subscription.hub, subscription.place))
            .collect();
        for (hub, place) in places {
            match place {
                Place::Live { .. } => self.cut_subscription(conn, hub, Unsubscribe::SERVER),
                Place::Waiting(key) => {
                    if let Some(Pending::Subscribe(pending)) = self.pending.get_mut(key) {
                        pending.unsubscribe_after = true;
                    }
                }
                Place::Abandoned(_) => {}
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

    /// What this core tells about itself.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        let mut counters = self.counters.clone();
        self.count_deflated(&mut counters);
        counters.merge(&self.out.counters);
        counters.merge(&self.shard.counters);
        let mut users: Vec<_> = self.users.keys().cloned().collect();
        users.sort_unstable();
        CoreStats {
            core: self.id,
            clients: self.clients,
            users,
            subscriptions: u32::try_from(self.hub.subscriptions()).unwrap_or(u32::MAX),
            channels: u32::try_from(self.shard.channel_count()).unwrap_or(u32::MAX),
            counters,
        }
    }
}
