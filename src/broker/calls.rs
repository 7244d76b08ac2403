//! Calls of the server API: each is answered by exactly one effect, from one owner, from several, or from all
//! cores. What calls do to sessions is in `acts`.

use super::{
    core::Core,
    mesh::{Answer, Ask, AskKey, HistoryFilter, MapSet, Mesh, Outgoing, Recover, Survey, SurveyAnswer},
    pending::{BroadcastPending, GatherPending, Gathered, Pending},
    permission::check_data,
    seam::{ApiReply, ApiRequest, CoreStats, Effect, PollSet, PublishOptions},
};
use crate::{
    config::{ChannelOptions, SubscriptionType},
    metrics::Counter,
    model::{CoreId, ErrorCode, Position, Publication, Tags},
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
            ApiRequest::MapSet { channel, set } => self.api_map_set(call, channel, set),
            ApiRequest::MapRead { channel, read } => {
                self.api_ask(call, channel, |channel| Ask::MapRead { channel, read });
            }
            ApiRequest::PollPublish { channel, set } => self.api_poll_publish(call, channel, set),
            ApiRequest::Channels { pattern } => {
                self.survey(call, Survey::Channels { pattern }, Gathered::Channels(Vec::new()));
            }
            ApiRequest::Info => self.survey(call, Survey::Stats, Gathered::Stats(Vec::new())),
            ApiRequest::Subscribe { .. }
            | ApiRequest::Unsubscribe { .. }
            | ApiRequest::Refresh { .. }
            | ApiRequest::Disconnect { .. } => self.api_act(call, request),
            ApiRequest::Deny(denial) => self.api_deny(call, denial),
        }
        self.pump();
    }

    pub(super) fn api_reply(&mut self, call: u64, reply: Result<ApiReply, ErrorCode>) {
        if reply.is_err() {
            self.counters.increment(Counter::ApiErrors);
        }
        self.effects.push(Effect::ApiReply { call, reply });
    }

    /// An empty name, or one that is too long, is a bad request, an unknown namespace an unknown channel.
    pub(super) fn check_api_channel(&self, channel: &str) -> Result<&ChannelOptions, ErrorCode> {
        if channel.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        self.channels.check_server_name(channel)?;
        self.channels.resolve(channel)
    }

    /// Whether `data` may be published to `channel`, and whether it is known to be JSON then.
    fn check_api_data(&self, channel: &str, data: &[u8]) -> Result<bool, ErrorCode> {
        let options = self.check_api_channel(channel)?;
        self.channels.check_concrete(options, channel)?;
        if options.subscription_type != SubscriptionType::Stream {
            return Err(ErrorCode::NotAvailable);
        }
        check_data(options.publication_data_format, data, false)
    }

    fn api_map_set(&mut self, call: u64, channel: Arc<str>, mut set: MapSet) {
        match self.check_api_channel(&channel).and_then(|_| self.check_entry(&channel, &mut set)) {
            Ok(()) => self.api_ask(call, channel, |channel| Ask::MapSet { channel, set }),
            Err(error) => self.api_reply(call, Err(error)),
        }
    }

    fn api_poll_publish(&mut self, call: u64, channel: Arc<str>, mut set: Box<PollSet>) {
        let json = self.check_api_channel(&channel).and_then(|options| {
            if options.subscription_type != SubscriptionType::SharedPoll {
                return Err(ErrorCode::NotAvailable);
            }
            check_data(options.publication_data_format, set.item.data.as_deref().unwrap_or_default(), false)
        });
        match json {
            Ok(json) => {
                set.item.json = json;
                self.api_ask(call, channel, |channel| Ask::PollPublish { channel, set });
            }
            Err(error) => self.api_reply(call, Err(error)),
        }
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
        let owner = self.owner(&channel);
        let publication = || Publication { data, tags, json, ..Publication::default() };
        if owner == self.id {
            let published = self.shard.publish(&channel, publication, &options, self.now, &mut self.out);
            // The publication reaches this core's own groups before the answer, as it would from elsewhere.
            self.pump_local();
            return self.api_reply(call, published.map(|position| ApiReply::Publish { position }));
        }
        if !self.out.take_credit(owner) {
            return self.api_reply(call, Err(ErrorCode::TooManyRequests));
        }
        let publication = publication();
        self.ask(owner, Ask::Publish { channel, publication, options }, Pending::Api { call });
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
            Answer::HistoryRemoved | Answer::Emulated => Ok(ApiReply::Done),
            Answer::Error(error) => Err(error),
            Answer::MapSet { position, suppressed } => Ok(ApiReply::MapSet { position, suppressed }),
            Answer::MapState { entries, position, cursor } => {
                Ok(ApiReply::MapState { entries, position, cursor })
            }
            Answer::MapStats(keys) => Ok(ApiReply::MapStats { keys }),
            Answer::Subscribed(_)
            | Answer::MapPage(_)
            | Answer::Position(_)
            | Answer::Tracked(_)
            | Answer::Entered(_)
            | Answer::Acting(_) => Err(ErrorCode::Internal),
        };
        self.api_reply(call, reply);
    }

    /// Asks every core.
    pub(super) fn survey(&mut self, call: u64, survey: Survey, gathered: Gathered) {
        let id = self.gather(call, Some(self.cores), gathered);
        let survey = Arc::new(survey);
        for core in 0..self.cores {
            let survey = Arc::clone(&survey);
            self.out.send(core as CoreId, Mesh::Survey { asker: self.id, id, survey });
        }
    }

    pub(super) fn gather(&mut self, call: u64, expected: Option<usize>, gathered: Gathered) -> AskKey {
        let gather = GatherPending { call, answered: 0, expected, gathered };
        let id = self.pending.insert(Pending::Gather(Box::new(gather)));
        self.expire_later(id);
        id
    }

    pub(super) fn on_survey(&mut self, asker: CoreId, id: AskKey, survey: &Survey) {
        let answer = match survey {
            Survey::Channels { pattern } => SurveyAnswer::Channels(self.shard.channels(pattern)),
            Survey::Stats => SurveyAnswer::Stats(Box::new(self.stats())),
            Survey::Act { act, whom } => {
                self.act(act, whom);
                SurveyAnswer::Acted
            }
            Survey::Deny(denial) => {
                // Every core has the same, and who was asked first had room.
                self.denials.add(denial, self.now);
                self.end_denied(denial);
                SurveyAnswer::Acted
            }
        };
        self.out.answer_survey(asker, id, answer);
    }

    pub(super) fn on_survey_answer(&mut self, id: AskKey, answer: SurveyAnswer) {
        let Some(Pending::Gather(gather)) = self.pending.get_mut(id) else { return };
        match (&mut gather.gathered, answer) {
            (Gathered::Channels(all), SurveyAnswer::Channels(some)) => all.extend(some),
            (Gathered::Stats(all), SurveyAnswer::Stats(some)) => all.push(*some),
            (Gathered::Acted, SurveyAnswer::Acted) => {}
            _ => return,
        }
        gather.answered += 1;
        self.finish_gathered(id);
    }

    /// Ends a gather that has all it waits for.
    pub(super) fn finish_gathered(&mut self, id: AskKey) {
        if let Some(Pending::Gather(gather)) = self.pending.get_mut(id)
            && gather.expected == Some(gather.answered)
        {
            self.finish_gather(id);
        }
    }

    /// All cores answered, or time is up: `info` shows who is missing.
    pub(super) fn finish_gather(&mut self, id: AskKey) {
        let Some(Pending::Gather(gather)) = self.pending.remove(id) else { return };
        let GatherPending { call, answered, expected, gathered } = *gather;
        let reply = match gathered {
            Gathered::Stats(mut cores) => {
                cores.sort_by_key(|stats| stats.core);
                Ok(ApiReply::Stats { cores, cores_total: self.cores })
            }
            _ if expected != Some(answered) => Err(ErrorCode::Internal),
            Gathered::Channels(mut channels) => {
                channels.sort();
                Ok(ApiReply::Channels(channels))
            }
            Gathered::Acted => Ok(ApiReply::Done),
        };
        self.api_reply(call, reply);
    }

    /// What this core tells about itself.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        let mut counters = self.counters.clone();
        self.count_deflated(&mut counters);
        counters.merge(&self.out.counters);
        counters.merge(&self.shard.counters);
        counters.set(Counter::PollKeys, self.shard.poll_keys() as u64);
        CoreStats {
            core: self.id,
            clients: self.clients,
            users: u32::try_from(self.users.len()).unwrap_or(u32::MAX),
            subscriptions: u32::try_from(self.hub.subscriptions()).unwrap_or(u32::MAX),
            channels: u32::try_from(self.shard.channel_count()).unwrap_or(u32::MAX),
            counters,
        }
    }
}
