//! Maps: reading one in pages until the subscription is live, and changing its entries.

use super::{Place, Step};
use crate::{
    broker::{
        core::Core,
        group,
        mesh::{Ask, AskKey, MapJoin, MapPage, MapSet},
        pending::{Pending, SubscribeOrigin, SubscribePending},
        permission::{FOSSIL, Grants, check_data, conflation, decide_map},
    },
    config::{ChannelOptions, ClientKey, MapMode, SubscriptionType},
    metrics::Counter,
    model::{ConnKey, ErrorCode, Protocol, Publication},
    wire::{
        client::{PublishRequest, Reply, SubscribeRequest, SubscribeResult},
        json::is_json,
    },
};
use std::sync::Arc;

/// What a subscriber of a map gets: it always learns of losses, and of what it missed where the mode says so.
///
/// Differences are those of entries; there are none for who filters, nor where the server keeps entries without data.
pub(super) fn map_grants(options: &ChannelOptions, request: &SubscribeRequest<'_>) -> Grants {
    let recoverable = matches!(options.map.mode, MapMode::Recoverable | MapMode::Persistent);
    let join_leave = options.join_leave && options.force_push_join_leave;
    let delta = !request.delta.is_empty()
        && request.tags_filter.is_none()
        && options.subscription_type == SubscriptionType::Map
        && options.allowed_delta_types.iter().any(|it| it == FOSSIL);
    let conflate_ms = conflation(options, request.conflation);
    Grants { positioned: true, recoverable, join_leave, delta, conflate_ms, ..Grants::default() }
}

/// What a request wants of a map, if it is about one.
pub(super) fn map_join(request: &SubscribeRequest<'_>) -> Option<Box<MapJoin>> {
    (request.kind != 0 && request.kind != SubscriptionType::SharedPoll as i32).then(|| {
        Box::new(MapJoin {
            phase: request.phase,
            cursor: (&*request.cursor).into(),
            limit: request.limit,
            asc: request.asc,
            offset: request.offset,
            epoch: (&*request.epoch).into(),
            recover: request.recover,
        })
    })
}

impl Core {
    /// The owner gave a part of the map and took no subscriber.
    pub(in crate::broker) fn on_map_page(
        &mut self,
        key: AskKey,
        pending: &SubscribePending,
        mut page: MapPage,
    ) {
        self.forget_abandoned(key, pending);
        let name = self.hub.get_mut(pending.hub).map(|channel| {
            channel.waiting -= 1;
            Arc::clone(&channel.name)
        });
        let session = self.sessions.get_mut(pending.conn);
        let waits = session.and_then(|session| {
            session.find(pending.hub).filter(|it| it.place() == Place::Waiting(key))?;
            session.forget(pending.hub)
        });
        self.release_channel(pending.hub);
        let SubscribeOrigin::Client { id, .. } = &pending.origin else { return };
        if waits.is_none() {
            return;
        }
        let map = pending.map.unwrap_or_default();
        if let Some(name) = name.filter(|_| map.first) {
            self.begin_reading(pending.conn, name);
        }
        self.show_entries(pending, &mut page.state, &mut page.publications);
        let patches = pending.grants.delta.then(|| vec![None; page.publications.len()]);
        let result = SubscribeResult {
            kind: map.kind,
            phase: page.phase,
            cursor: &page.cursor,
            state: &page.state,
            publications: &page.publications,
            epoch: &page.position.epoch,
            offset: page.position.offset,
            patches: patches.as_deref(),
            ..SubscribeResult::default()
        };
        self.reply(pending.conn, *id, &Reply::Subscribe(&result));
    }

    /// What a subscriber sees of the state and the changes of a map.
    pub(super) fn show_entries(
        &mut self,
        pending: &SubscribePending,
        state: &mut Vec<Arc<Publication>>,
        changes: &mut [Arc<Publication>],
    ) {
        let json = self.sessions.get(pending.conn).is_some_and(|it| it.protocol == Protocol::Json);
        let not_json = group::show(json, pending.filter.as_deref(), state, changes);
        self.counters.add(Counter::PublicationsNotJson, not_json);
    }

    /// Sets or removes an entry.
    pub(super) fn publish_to_map(
        &mut self,
        conn: ConnKey,
        id: u32,
        request: &PublishRequest<'_>,
        place: Option<Place>,
    ) -> Step {
        let set = match self.entry_of(conn, request, place) {
            Ok(set) => set,
            Err(error) => return self.refuse(conn, id, error),
        };
        let (owner, channel) = self.owner_and_name(&request.channel);
        if !self.out.take_credit(owner) {
            return self.wait_for_credit(conn, owner);
        }
        self.ask(owner, Ask::MapSet { channel, set }, Pending::Publish { conn, id });
        Step::Done
    }

    /// The change a client asks for, if it may.
    fn entry_of(
        &self,
        conn: ConnKey,
        request: &PublishRequest<'_>,
        place: Option<Place>,
    ) -> Result<MapSet, ErrorCode> {
        let channel = &*request.channel;
        self.channels.check_name(channel)?;
        let options = self.channels.resolve(channel)?;
        if request.kind != SubscriptionType::Map as i32 {
            return Err(ErrorCode::NotAvailable);
        }
        decide_map(options, self.who_at(conn, place)?, request.removed)?;
        let session = self.sessions.get(conn).ok_or(ErrorCode::Internal)?;
        let info = session.info.clone().ok_or(ErrorCode::Internal)?;
        let key = match options.map.client_key {
            ClientKey::Named => (&*request.key).into(),
            ClientKey::ClientId => info.client.to_string().into(),
            ClientKey::UserId if info.user.is_empty() => return Err(ErrorCode::PermissionDenied),
            ClientKey::UserId => (&*info.user).into(),
        };
        let own_info = self.find_subscription(conn, channel).and_then(|it| it.info().cloned());
        let mut set = MapSet { removed: request.removed, ..MapSet::of(key) };
        if !request.removed {
            set.publication = Publication {
                data: request.data.unwrap_or_default().into(),
                info: Some(own_info.unwrap_or(info)),
                json: session.protocol == Protocol::Json,
                ..Publication::default()
            };
        }
        self.check_entry(channel, &mut set)?;
        Ok(set)
    }

    /// Whether an entry may be as it is, in a map: its key, and its data where it has some.
    pub(in crate::broker) fn check_entry(&self, channel: &str, set: &mut MapSet) -> Result<(), ErrorCode> {
        let options = self.channels.resolve(channel)?;
        if options.subscription_type != SubscriptionType::Map {
            return Err(ErrorCode::NotAvailable);
        }
        if set.key.is_empty() || set.key.len() > self.settings.channel.max_length {
            return Err(ErrorCode::BadRequest);
        }
        if !set.removed {
            let Publication { data, json, .. } = &mut set.publication;
            *json = check_data(options.publication_data_format, data, *json)?;
            if let Some(told) = &mut set.told {
                told.json = check_data(options.publication_data_format, &told.data, told.json)?;
                // Whoever reads JSON has an entry or has it not, whichever of the two it is told.
                if is_json(data) != is_json(&told.data) {
                    return Err(ErrorCode::BadRequest);
                }
            }
        }
        Ok(())
    }
}
