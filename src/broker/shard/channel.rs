//! What the owner core keeps about one channel: who is interested, who is present, and its stream.
//!
//! Bounds: counts, 4 bytes for each core up to the highest interested one; members, one entry for each
//! subscription where the namespace has presence or join/leave, elsewhere for those alone whose leave is to be
//! announced all the same; the stream, see
//! [`History`].

use super::{history::History, map::Map, poll::Poll};
use crate::{
    broker::{mesh::Shown, permission::recovers_cache},
    config,
    model::{ClientId, ClientInfo, CoreId},
    stdx::bitset::CoreSet,
};
use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

/// A stream into which nothing was published is forgotten this long after its last use: whoever makes up
/// channel names must not fill the memory for `history_meta_ttl`, which is 30 days by default.
pub const UNUSED_STREAM_TTL_MS: u64 = 600_000;

/// The options of a namespace that matter to the owner, in its units.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub presence: bool,
    pub join_leave: bool,
    /// 0: no history.
    pub history_size: u32,
    pub history_ttl_ms: u64,
    /// Never below `history_ttl_ms`.
    pub meta_ttl_ms: u64,
    /// Recovery brings the latest publication only.
    pub cache: bool,
    /// Publications may go out as differences, whoever publishes them.
    pub delta_publish: bool,
    /// Subscribers of patterns may want what is published.
    pub wildcards: bool,
    /// The channels are maps.
    pub map: bool,
    /// The channels are shared polls.
    pub poll: bool,
    /// It matters who is subscribed.
    pub members: bool,
    /// By [`crate::broker::permission::Namespaces::index`].
    pub namespace: u16,
}

/// Every publish copies them.
const _: () = assert!(size_of::<Rules>() <= 32);

/// The options of maps.
#[derive(Clone, Copy, Debug)]
pub struct MapRules {
    /// 0: entries stay until they are removed.
    pub key_ttl_ms: u64,
    page_size: usize,
    page_size_min: usize,
    page_size_max: usize,
    /// Changes that a client may be behind to become a subscriber at once.
    pub live_max: usize,
    pub keys_max: usize,
    /// Pages are in the order of scores.
    pub ordered: bool,
    /// Who comes back catches up.
    pub recoverable: bool,
    pub remove_client_on_unsubscribe: bool,
}

/// Entries of a page, when the configuration says nothing: also the fewest; and the most.
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 1000;

/// Changes that are kept, when the configuration says nothing, and for how long.
const MAP_STREAM_SIZE: u64 = 100;
const MAP_STREAM_TTL_MS: u64 = 60_000;

impl MapRules {
    #[must_use]
    pub fn new(map: &config::Map) -> Self {
        let page_size_max = or(map.max_page_size, PAGE_SIZE_MAX);
        Self {
            key_ttl_ms: ms(map.key_ttl),
            page_size: or(map.default_page_size, PAGE_SIZE),
            page_size_min: or(map.min_page_size, PAGE_SIZE),
            page_size_max,
            live_max: or(map.live_transition_max_publication_limit, page_size_max),
            keys_max: map.keys_max,
            ordered: map.ordered,
            recoverable: matches!(map.mode, config::MapMode::Recoverable | config::MapMode::Persistent),
            remove_client_on_unsubscribe: map.remove_client_on_unsubscribe,
        }
    }

    /// Entries of a page, or changes, when this many are wanted; 0 or less: as many as the server likes.
    #[must_use]
    pub fn page(&self, wanted: i32) -> usize {
        let wanted = or(usize::try_from(wanted).unwrap_or_default(), self.page_size);
        wanted.max(self.page_size_min).min(self.page_size_max)
    }
}

/// 0 stands for something else.
fn or<T: Default + PartialEq>(value: T, otherwise: T) -> T {
    if value == T::default() { otherwise } else { value }
}

/// A time above zero stays above zero.
fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(u64::from(!time.is_zero()))
}

impl Rules {
    #[must_use]
    pub fn new(options: &config::ChannelOptions, channel: &config::Channel, namespace: usize) -> Self {
        let map = &options.map;
        let is_map = options.subscription_type.is_map();
        let is_poll = options.subscription_type == config::SubscriptionType::SharedPoll;
        let history_ttl_ms =
            if is_map { or(ms(map.stream_ttl), MAP_STREAM_TTL_MS) } else { ms(options.history_ttl) };
        let own_meta_ttl = if is_map { map.meta_ttl } else { options.history_meta_ttl };
        let meta_ttl = match own_meta_ttl {
            time if time.is_zero() => channel.history_meta_ttl,
            time => time,
        };
        Self {
            presence: options.presence,
            join_leave: options.join_leave,
            history_size: match (is_map, history_ttl_ms) {
                (true, _) => or(map.stream_size as u64, MAP_STREAM_SIZE) as u32,
                (false, 0) => 0,
                _ if is_poll => 0,
                (false, _) => options.history_size as u32,
            },
            history_ttl_ms,
            meta_ttl_ms: ms(meta_ttl).max(history_ttl_ms),
            cache: recovers_cache(options),
            delta_publish: options.delta_publish,
            wildcards: options.allow_wildcards,
            map: is_map,
            poll: is_poll,
            members: options.presence
                || options.join_leave
                || !options.map_clients_presence_channel_prefix.is_empty()
                || !options.map_users_presence_channel_prefix.is_empty()
                || (is_map && map.remove_client_on_unsubscribe),
            namespace: u16::try_from(namespace).unwrap_or(u16::MAX),
        }
    }

    #[must_use]
    pub fn keeps_history(&self) -> bool {
        self.history_size > 0
    }

    #[must_use]
    pub fn keeps_members(&self) -> bool {
        self.members
    }
}

#[derive(Debug)]
pub struct Channel {
    pub name: Arc<str>,
    pub rules: Rules,
    pub interest: Interest,
    pub members: Option<Box<Members>>,
    pub stream: Option<Box<Stream>>,
    pub map: Option<Box<Map>>,
    pub poll: Option<Box<Poll>>,
}

impl Channel {
    #[must_use]
    pub fn new(name: Arc<str>, rules: Rules) -> Self {
        Self {
            name,
            rules,
            interest: Interest::default(),
            members: None,
            stream: None,
            map: None,
            poll: None,
        }
    }

    /// Its entries, which it has from now on.
    pub fn entries(&mut self, ordered: bool) -> &mut Map {
        self.map.get_or_insert_with(|| Box::new(Map::new(ordered)))
    }

    /// Nothing about it must be remembered: no subscriber, and no stream that outlives subscribers.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.interest.subscribers() == 0
            && !(self.rules.keeps_history() && self.stream.is_some())
            && self.poll.as_deref().is_none_or(|poll| poll.lingers_until_ms.is_none())
    }

    /// Nothing of it may be forgotten: its stream is what its entries are places in.
    #[must_use]
    pub fn holds_entries(&self) -> bool {
        self.map.as_deref().is_some_and(|map| !map.is_empty() || map.is_held())
    }

    /// Panics when two things that must agree do not.
    pub fn invariants(&self) {
        self.interest.invariants();
        match &self.members {
            Some(members) => {
                members.invariants(&self.interest, self.rules.keeps_members());
            }
            None => assert!(!self.rules.keeps_members() || self.interest.subscribers() == 0),
        }
        assert!(
            self.members.is_none() || self.interest.subscribers() > 0,
            "members that are kept for nobody"
        );
        if let Some(stream) = &self.stream {
            stream.history.invariants(self.rules.history_size as usize);
            assert!(stream.history.is_empty() || stream.history_armed, "history that never expires");
            assert!(self.interest.subscribers() > 0 || stream.meta_armed, "a stream that never expires");
        }
        if let Some(map) = &self.map {
            assert!(self.rules.map, "a map where there are none");
            map.invariants();
            assert!(map.is_empty() || self.stream.is_some(), "entries without a stream");
        }
        if let Some(poll) = &self.poll {
            assert!(self.rules.poll, "a poll where there are none");
            poll.invariants();
            assert!(poll.len() == 0 || self.interest.subscribers() > 0, "keys that are polled for nobody");
        }
        assert!(!self.is_idle(), "an idle channel is dropped");
    }
}

/// Subscribers of a channel, counted by core.
#[derive(Debug, Default)]
pub struct Interest {
    /// Cores with at least one subscriber.
    cores: CoreSet,
    /// By core; as long as the highest core that ever was interested requires.
    counts: Vec<u32>,
    total: u32,
}

impl Interest {
    #[must_use]
    pub fn cores(&self) -> CoreSet {
        self.cores
    }

    #[must_use]
    pub fn subscribers(&self) -> u32 {
        self.total
    }

    pub fn add(&mut self, core: CoreId) {
        self.cores.insert(core);
        let index = usize::from(core);
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
    }

    /// False when `core` had no subscriber.
    pub fn remove(&mut self, core: CoreId) -> bool {
        let Some(count @ 1..) = self.counts.get_mut(usize::from(core)) else { return false };
        *count -= 1;
        self.total -= 1;
        if *count == 0 {
            self.cores.remove(core);
        }
        true
    }

    fn invariants(&self) {
        for (core, &count) in self.counts.iter().enumerate() {
            assert_eq!(self.cores.contains(core as CoreId), count > 0, "interest of core {core}");
        }
        assert_eq!(self.total, self.counts.iter().sum::<u32>());
        assert!(self.cores.len() as usize <= self.counts.len());
    }
}

/// Who is subscribed, for presence, join and leave. Where the namespace has none of these, those whose leave is to be
/// announced.
#[derive(Debug, Default)]
pub struct Members {
    /// Ordered, so that lists are the same in every run of a seed.
    by_client: BTreeMap<ClientId, Member>,
    /// How many members each user has that presence shows.
    users: BTreeMap<Arc<str>, u32>,
    /// Members that presence does not show.
    hidden: u32,
    /// The list, since somebody asked for it and until the members change.
    list: OnceCell<Arc<[Arc<ClientInfo>]>>,
}

#[derive(Debug)]
struct Member {
    core: CoreId,
    info: Arc<ClientInfo>,
    shown: Shown,
}

impl Members {
    /// False when the client was already there; then nothing changes.
    pub fn insert(&mut self, core: CoreId, info: Arc<ClientInfo>, shown: Shown) -> bool {
        if self.by_client.contains_key(&info.client) {
            return false;
        }
        self.list.take();
        if shown.is_hidden() {
            self.hidden += 1;
        } else {
            *self.users.entry(info.user.clone()).or_default() += 1;
        }
        self.by_client.insert(info.client, Member { core, info, shown });
        true
    }

    /// `None` when `core` has no such client.
    pub fn remove(&mut self, core: CoreId, client: ClientId) -> Option<(Arc<ClientInfo>, Shown)> {
        self.by_client.get(&client).filter(|member| member.core == core)?;
        let Member { info, shown, .. } = self.by_client.remove(&client)?;
        self.list.take();
        if shown.is_hidden() {
            self.hidden -= 1;
        } else if let Some(count) = self.users.get_mut(&info.user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&info.user);
            }
        }
        Some((info, shown))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// Those that presence shows, in the order of their ids. Asking again costs nothing while nobody comes or goes.
    #[must_use]
    pub fn list(&self) -> Arc<[Arc<ClientInfo>]> {
        let list = || self.present().cloned().collect();
        Arc::clone(self.list.get_or_init(list))
    }

    fn present(&self) -> impl Iterator<Item = &Arc<ClientInfo>> {
        self.by_client.values().filter(|member| !member.shown.is_hidden()).map(|member| &member.info)
    }

    /// How many presence shows.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.by_client.len() as u32 - self.hidden
    }

    /// Their distinct users; all anonymous ones together are one.
    #[must_use]
    pub fn users(&self) -> u32 {
        self.users.len() as u32
    }

    /// `all`: everybody who is subscribed is a member.
    fn invariants(&self, interest: &Interest, all: bool) {
        let mut counts = vec![0; interest.counts.len()];
        let mut users = BTreeMap::new();
        for member in self.by_client.values() {
            counts[usize::from(member.core)] += 1;
        }
        for info in self.present() {
            *users.entry(info.user.clone()).or_insert(0) += 1;
        }
        if all {
            assert_eq!(counts, interest.counts, "members and counts");
        } else {
            assert!(counts.iter().zip(&interest.counts).all(|(some, of)| some <= of), "members and counts");
            let told = |member: &Member| member.shown.join_leave == Some(true);
            assert!(!self.is_empty() && self.by_client.values().all(told), "members nobody asked for");
        }
        if let Some(list) = self.list.get() {
            assert!(list.iter().eq(self.present()), "members and their list");
        }
        assert_eq!(self.present().count() as u32, self.clients(), "members that are shown");
        assert_eq!(users, self.users, "members and users");
    }
}

/// A stream and its times. Both deadlines only ever move into the future, so one waiting timer for each is
/// enough: when it fires too early it is set again.
#[derive(Debug)]
pub struct Stream {
    pub history: History,
    pub history_expires_ms: u64,
    /// Counts only while nobody is subscribed.
    pub meta_expires_ms: u64,
    pub history_armed: bool,
    pub meta_armed: bool,
}

impl Stream {
    #[must_use]
    pub fn new(epoch: Arc<str>) -> Self {
        Self {
            history: History::new(epoch),
            history_expires_ms: 0,
            meta_expires_ms: 0,
            history_armed: false,
            meta_armed: false,
        }
    }

    /// The stream is used: its position is remembered anew.
    pub fn touch(&mut self, rules: &Rules, now_ms: u64) {
        let ttl_ms = match self.history.top() {
            0 => rules.meta_ttl_ms.min(UNUSED_STREAM_TTL_MS),
            _ => rules.meta_ttl_ms,
        };
        self.meta_expires_ms = self.meta_expires_ms.max(now_ms.saturating_add(ttl_ms));
    }
}
