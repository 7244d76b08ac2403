//! `publish`: from a client into a channel.

use super::{Place, Step, Subscription};
use crate::{
    auth::Allow,
    broker::{
        core::Core,
        hub::HubKey,
        mesh::Ask,
        pending::Pending,
        permission::{Verb, Who, check_data},
        seam::PublishOptions,
    },
    config::{ChannelOptions, SubscriptionType},
    model::{ConnKey, CoreId, ErrorCode, Protocol, Publication},
    wire::client::{PublishRequest, Reply},
};
use std::sync::Arc;

impl Core {
    pub(super) fn publish(&mut self, conn: ConnKey, id: u32, request: &PublishRequest<'_>) -> Step {
        let channel = &*request.channel;
        if channel.is_empty() {
            return self.break_protocol(conn);
        }
        let known = self.hub.find(channel);
        let subscription = known.and_then(|hub| self.sessions.get(conn)?.find(hub));
        let place = subscription.map(Subscription::place);
        let own_info = subscription.and_then(|it| it.info().cloned());
        if matches!(place, Some(Place::Waiting(_))) {
            return Step::Wait;
        }
        if request.kind != 0 {
            return self.publish_to_map(conn, id, request, place);
        }
        let Some(session) = self.sessions.get(conn) else { return Step::Ended };
        let data = request.data.unwrap_or_default();
        let allowed = self.allow_at(conn, channel, place, Verb::Publish).and_then(|options| {
            self.channels.check_concrete(options, channel)?;
            if options.subscription_type != SubscriptionType::Stream {
                return Err(ErrorCode::PermissionDenied);
            }
            check_data(options.publication_data_format, data, session.protocol == Protocol::Json)
        });
        let json = match allowed {
            Ok(json) => json,
            Err(error) => return self.refuse(conn, id, error),
        };
        let info = own_info.as_ref().or(session.info.as_ref());
        let publication =
            || Publication { data: data.into(), info: info.cloned(), json, ..Publication::default() };
        let owner = self.owner_of(known, channel);
        if owner == self.id {
            let options = PublishOptions::default();
            let published = self.shard.publish(channel, publication, &options, self.now, &mut self.out);
            // The publication reaches this core's own groups before the answer, as it would from elsewhere.
            self.pump_local();
            let reply = published.map_or_else(Reply::Error, |_| Reply::Publish);
            self.reply(conn, id, &reply);
            return Step::Done;
        }
        let publication = publication();
        if !self.out.take_credit(owner) {
            return self.wait_for_credit(conn, owner);
        }
        let name = self.name_of(known, channel);
        let ask = Ask::Publish { channel: name, publication, options: PublishOptions::default() };
        self.ask(owner, ask, Pending::Publish { conn, id });
        Step::Done
    }

    /// May this client do `verb` on `channel`? Also checks the name. Returns the channel's options.
    pub(super) fn allow(
        &self,
        conn: ConnKey,
        channel: &str,
        verb: Verb,
    ) -> Result<&ChannelOptions, ErrorCode> {
        self.allow_at(conn, channel, self.subscription(conn, channel), verb)
    }

    /// The same for a caller who knows the client's subscription to the channel already.
    pub(super) fn allow_at(
        &self,
        conn: ConnKey,
        channel: &str,
        place: Option<Place>,
        verb: Verb,
    ) -> Result<&ChannelOptions, ErrorCode> {
        self.channels.check_name(channel)?;
        let options = self.channels.resolve(channel)?;
        match self.channels.decide(verb, options, self.who_at(conn, place)?, channel) {
            // What a capability matches is one channel: it says nothing about all that a pattern stands for.
            Err(ErrorCode::PermissionDenied)
                if self.has_capability(conn, verb, channel)
                    && !self.channels.is_pattern(options, channel) =>
            {
                Ok(options)
            }
            decided => decided.map(|()| options),
        }
    }

    /// Whether the token of this client allows what the options of the channel do not.
    pub(super) fn has_capability(&self, conn: ConnKey, verb: Verb, channel: &str) -> bool {
        let account = self.sessions.get(conn).and_then(|session| session.account.as_ref());
        let what = match verb {
            Verb::Subscribe => Allow::SUBSCRIBE,
            Verb::Publish => Allow::PUBLISH,
            Verb::Presence => Allow::PRESENCE,
            Verb::History => Allow::HISTORY,
        };
        account.is_some_and(|account| account.caps.allow(what, channel))
    }

    /// This client as the permission rules see it.
    pub(super) fn who(&self, conn: ConnKey, channel: &str) -> Result<Who<'_>, ErrorCode> {
        self.who_at(conn, self.subscription(conn, channel))
    }

    pub(super) fn who_at(&self, conn: ConnKey, place: Option<Place>) -> Result<Who<'_>, ErrorCode> {
        let Some(session) = self.sessions.get(conn) else { return Err(ErrorCode::Internal) };
        let user = session.info.as_ref().map_or("", |info| &*info.user);
        let subscribed = matches!(place, Some(Place::Live { .. }));
        Ok(Who { user, subscribed, insecure: self.settings.client.insecure })
    }

    /// Who owns a channel, and its name in a form that can travel.
    pub(in crate::broker) fn owner_and_name(&self, channel: &str) -> (CoreId, Arc<str>) {
        let known = self.hub.find(channel);
        (self.owner_of(known, channel), self.name_of(known, channel))
    }

    /// Asks the hub where it knows the channel: that is cheaper than a hash of the name.
    fn owner_of(&self, known: Option<HubKey>, channel: &str) -> CoreId {
        known.and_then(|hub| self.hub.get(hub)).map_or_else(|| self.owners.of(channel), |it| it.owner)
    }

    fn name_of(&self, known: Option<HubKey>, channel: &str) -> Arc<str> {
        known.and_then(|hub| self.hub.get(hub)).map_or_else(|| channel.into(), |it| Arc::clone(&it.name))
    }
}
