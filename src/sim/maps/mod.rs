//! Maps in the simulation: clients mirror them in pages, by what changed meanwhile, then live, as SDKs do; they cut in
//! anywhere and come back. No two mirrors may ever be different at one place of a stream, and at rest each is what the
//! owner has.

mod acts;
mod mirror;
mod truth;

pub use self::{
    acts::{MapCall, State, When},
    mirror::{Asked, Maps},
    truth::{Change, MapTruth},
};

use super::{filter::Filter, truth::Truth};
use crate::{
    config::{ChannelOptions, ClientKey, Map, MapMode, Namespace, SubscriptionType},
    stdx::rng::Rng,
    wire::json::is_json,
};
use std::time::Duration;

/// Maps that catch up, that do not, that keep their entries, that are conflated, whose entries are those of clients, and
/// two of who is in `joins:a`.
pub const MAPS: [&str; 8] =
    ["mrec:a", "mrec:b", "meph:a", "mper:a", "mslow:a", "mown:a", "mclients:joins:a", "musers:joins:a"];

/// Before the name of a channel: the map of the clients, or users, that are in it.
pub const CLIENTS_PREFIX: &str = "mclients:";
pub const USERS_PREFIX: &str = "musers:";

/// Keys that are set; the first one is never removed, and only ever set with versions that rise, or not at all.
pub const KEYS: [&str; 7] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6"];

/// What somebody sees of a map; by default all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// What is JSON.
    pub json: bool,
    /// What passes.
    pub filter: Option<Filter>,
}

impl View {
    pub fn sees(self, data: &[u8], truth: &Truth) -> bool {
        (!self.json || is_json(data)) && self.filter.is_none_or(|filter| truth.passes(filter, data))
    }

    /// Not all comes back of what a client sets; it has no tags.
    pub fn hides_own(self) -> bool {
        self.filter.is_some_and(|filter| !filter.passes(""))
    }
}

/// The type of subscription.
pub fn kind(channel: &str) -> i32 {
    match channel {
        _ if channel.starts_with(CLIENTS_PREFIX) => SubscriptionType::MapClients as i32,
        _ if channel.starts_with(USERS_PREFIX) => SubscriptionType::MapUsers as i32,
        _ => SubscriptionType::Map as i32,
    }
}

pub fn is_map(channel: &str) -> bool {
    MAPS.contains(&channel)
}

/// Clients and the server API set its entries.
pub fn is_open(channel: &str) -> bool {
    kind(channel) == SubscriptionType::Map as i32
}

/// Who comes back catches up.
pub fn recovers(channel: &str) -> bool {
    !channel.starts_with("meph") && !channel.starts_with("mown")
}

/// Its entries are those of clients, by their ids.
pub fn is_of_clients(channel: &str) -> bool {
    channel.starts_with("mown")
}

/// Entries stay until they are removed.
pub fn is_persistent(channel: &str) -> bool {
    channel.starts_with("mper") || conflates(channel)
}

/// Subscribers are told one change of each entry in every interval.
pub fn conflates(channel: &str) -> bool {
    channel.starts_with("mslow")
}

/// The state comes in the order of scores.
pub fn is_ordered(channel: &str) -> bool {
    channel.starts_with("mper")
}

/// `open`: what a namespace allows in which everybody may do everything.
pub fn namespaces(rng: &mut Rng, open: &ChannelOptions) -> (Vec<Namespace>, Duration) {
    let delta_publish = rng.below(2) > 0;
    let interval = Duration::from_millis(1 + rng.below(500));
    let key_ttl = Duration::from_millis(500 + rng.below(20_000));
    let mut map = |mode| Map {
        mode,
        key_ttl,
        stream_size: 2 + rng.below(30) as usize,
        stream_ttl: [Duration::ZERO, Duration::from_millis(1 + rng.below(3_000))][rng.below(2) as usize],
        min_page_size: 1,
        max_page_size: 1 + rng.below(6) as usize,
        // Time passes in leaps.
        subscribe_catch_up_timeout: Duration::from_secs(3600),
        keys_max: [5, 100][rng.below(2) as usize],
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_remove_for_subscriber: true,
        allow_remove_for_anonymous: true,
        ..Map::default()
    };
    let own = Map {
        client_key: ClientKey::ClientId,
        remove_client_on_unsubscribe: true,
        // Who sets an entry is there, and takes it along.
        allow_publish_for_client: false,
        allow_publish_for_subscriber: true,
        ..map(MapMode::Ephemeral)
    };
    // Who does not fit into a map of who is where is not shown.
    let served = Map { keys_max: 100, ..map(MapMode::Recoverable) };
    let persistent = Map { key_ttl: Duration::ZERO, ..map(MapMode::Persistent) };
    let namespaces = [
        ("mrec", SubscriptionType::Map, map(MapMode::Recoverable)),
        ("meph", SubscriptionType::Map, map(MapMode::Ephemeral)),
        ("mper", SubscriptionType::Map, Map { ordered: true, ..persistent.clone() }),
        ("mslow", SubscriptionType::Map, persistent),
        ("mown", SubscriptionType::Map, own),
        ("mclients", SubscriptionType::MapClients, served.clone()),
        ("musers", SubscriptionType::MapUsers, served),
    ];
    let namespaces = namespaces.map(|(name, subscription_type, map)| Namespace {
        name: name.into(),
        options: ChannelOptions {
            subscription_type,
            map,
            allowed_delta_types: vec!["fossil".into()],
            delta_publish,
            allow_tags_filter: true,
            conflation_interval: if conflates(name) { interval } else { Duration::ZERO },
            ..open.clone()
        },
        ..Namespace::default()
    });
    (namespaces.into(), key_ttl)
}
