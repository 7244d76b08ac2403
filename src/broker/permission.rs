//! Channel names, the options of their namespaces, and who may do what with a channel.
//!
//! Names: `[private prefix][namespace boundary]rest[user boundary users]`, with every separator
//! configurable and none when configured empty. Semantics follow Centrifugo v6. What a subscription token
//! allows is not asked here: without one, a private channel admits nobody.
//!
//! Pure functions over the configuration: no session, no channel state.

use crate::{
    config::{self, Channel, ChannelOptions, DataFormat, RecoveryMode, SubscriptionType},
    model::ErrorCode,
    wire::json::is_json,
};
use regex::Regex;
use std::collections::HashMap;

mod paths;
use paths::Paths;

/// The configured namespaces, ready for look-up by channel name.
///
/// Bounded by the configuration: one copy of each namespace's options.
#[derive(Clone, Debug)]
pub struct Namespaces {
    channel: Channel,
    /// Indices into `channel.namespaces`. Hashed without a secret: the names are the operator's, and what a client
    /// asks for is not stored.
    by_name: HashMap<Box<str>, usize, ahash::RandomState>,
    /// Of each namespace, by [`Namespaces::index`]. Empty when no namespace has one.
    name_rules: Vec<Option<Regex>>,
    /// Namespaces by the form of names, where `channel.patterns` is on.
    paths: Option<Paths>,
}

/// What a client wants to do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Subscribe,
    Publish,
    /// Presence and presence statistics.
    Presence,
    History,
}

/// Who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Empty: anonymous.
    pub user: &'a str,
    /// The client is subscribed to the channel it asks about.
    pub subscribed: bool,
    /// `client.insecure`.
    pub insecure: bool,
}

/// What a client would like of its subscription, and what it gets: see [`Namespaces::grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Grants {
    /// The subscription has a position and ends when it cannot be kept.
    pub positioned: bool,
    /// What the client misses can be recovered. Always positioned as well.
    pub recoverable: bool,
    /// Joins and leaves are pushed.
    pub join_leave: bool,
    /// Publications come as differences, where that is shorter.
    pub delta: bool,
    /// Messages of the channel name it by a number.
    pub numbered: bool,
    /// Only the newest publication in every interval of so many milliseconds; 0: all of them.
    pub conflate_ms: u32,
    /// The client is not told what it publishes itself.
    pub no_echo: bool,
}

/// The one kind of delta there is.
pub const FOSSIL: &str = "fossil";

/// Whether channels with these options keep history.
#[must_use]
pub fn keeps_history(options: &ChannelOptions) -> bool {
    options.history_size > 0 && !options.history_ttl.is_zero()
}

/// Whether the latest publication is all that recovery brings.
#[must_use]
pub fn recovers_cache(options: &ChannelOptions) -> bool {
    options.force_recovery_mode == RecoveryMode::Cache
}

/// Whether `data` may be published where publications have this format, and whether it is known to be JSON
/// then. `json`: it is known to be JSON already.
///
/// # Errors
/// [`ErrorCode::BadRequest`].
#[inline]
pub fn check_data(format: DataFormat, data: &[u8], json: bool) -> Result<bool, ErrorCode> {
    let good = match format {
        DataFormat::Any => return if data.is_empty() { Err(ErrorCode::BadRequest) } else { Ok(json) },
        DataFormat::Binary => return Ok(json && !data.is_empty()),
        DataFormat::Json => json || is_json(data),
        DataFormat::JsonObject => data.trim_ascii_start().first() == Some(&b'{') && (json || is_json(data)),
    };
    if good && !data.is_empty() { Ok(true) } else { Err(ErrorCode::BadRequest) }
}

impl Namespaces {
    #[must_use]
    pub fn new(channel: &Channel) -> Self {
        let channel = channel.spelled_out();
        let mut by_name = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        let with_path = |namespace: &config::Namespace| channel.patterns && !namespace.pattern.is_empty();
        for (at, namespace) in channel.namespaces.iter().enumerate().filter(|(_, it)| !with_path(it)) {
            by_name.insert(namespace.name.as_str().into(), at);
        }
        let forms = channel.namespaces.iter().enumerate().filter(|(_, it)| with_path(it));
        let paths = channel.patterns.then(|| Paths::new(forms.map(|(at, it)| (it.pattern.as_str(), at))));
        let namespaces = channel.namespaces.iter().map(|namespace| &namespace.options);
        let mut name_rules: Vec<_> = std::iter::once(&channel.without_namespace)
            .chain(namespaces)
            // What `config::load` returns compiles.
            .map(|options| config::regex(&options.channel_regex).ok().filter(|it| !it.as_str().is_empty()))
            .collect();
        if name_rules.iter().all(Option::is_none) {
            name_rules = Vec::new();
        }
        Self { channel, by_name, name_rules, paths }
    }

    /// The settings these namespaces were built from, spelled out.
    #[must_use]
    pub fn settings(&self) -> &Channel {
        &self.channel
    }

    /// Options of the namespace of `channel`; a name without one, or with an empty one, has those of
    /// `channel.without_namespace`.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownChannel`] when no such namespace is configured, unless
    /// `channel.allow_unknown_namespaces` gives it the options of those without one.
    pub fn resolve(&self, channel: &str) -> Result<&ChannelOptions, ErrorCode> {
        Ok(match self.index(channel)? {
            0 => &self.channel.without_namespace,
            index => &self.channel.namespaces[index - 1].options,
        })
    }

    /// Number of the namespace of `channel`: 0 for none, from 1 in the order of the configuration. Below
    /// [`Namespaces::count`].
    ///
    /// # Errors
    /// As [`Namespaces::resolve`].
    pub fn index(&self, channel: &str) -> Result<usize, ErrorCode> {
        if self.is_path(channel) {
            return self.index_of_path(channel);
        }
        let namespace = self.namespace(channel);
        if namespace.is_empty() {
            return Ok(0);
        }
        match self.by_name.get(namespace) {
            Some(&at) => Ok(at + 1),
            None if self.channel.allow_unknown_namespaces => Ok(0),
            None => Err(ErrorCode::UnknownChannel),
        }
    }

    #[cold]
    fn index_of_path(&self, channel: &str) -> Result<usize, ErrorCode> {
        match self.paths.as_ref().and_then(|paths| paths.find(self.public(channel))) {
            Some(at) => Ok(at + 1),
            None if self.channel.allow_unknown_namespaces => Ok(0),
            None => Err(ErrorCode::UnknownChannel),
        }
    }

    /// Options of all namespaces in the order of [`Namespaces::index`].
    pub fn options(&self) -> impl Iterator<Item = &ChannelOptions> {
        let named = self.channel.namespaces.iter().map(|namespace| &namespace.options);
        std::iter::once(&self.channel.without_namespace).chain(named)
    }

    /// Options of the namespace with this index; of none for one there is not.
    #[must_use]
    pub fn nth(&self, index: usize) -> &ChannelOptions {
        match index.checked_sub(1).and_then(|at| self.channel.namespaces.get(at)) {
            Some(namespace) => &namespace.options,
            None => &self.channel.without_namespace,
        }
    }

    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.channel.namespaces.len()
    }

    /// Whether a client may use `channel` as a name. Empty names are the caller's to refuse.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] for more than `channel.max_length` bytes, for what the namespace's
    /// `channel_regex` does not match, and without one for anything but ASCII.
    pub fn check_name(&self, channel: &str) -> Result<(), ErrorCode> {
        let good = if self.name_rules.is_empty() { channel.is_ascii() } else { self.obeys_rule(channel) };
        if channel.len() > self.channel.max_length || !good {
            return Err(ErrorCode::BadRequest);
        }
        Ok(())
    }

    /// Whether the server may use `channel` as a name: tokens, calls of the server API and the channels of users say
    /// what they mean, and are not held to what clients may say.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] for more than `channel.server_max_length` bytes.
    pub fn check_server_name(&self, channel: &str) -> Result<(), ErrorCode> {
        if channel.len() > self.channel.server_max_length { Err(ErrorCode::BadRequest) } else { Ok(()) }
    }

    /// Whether a name matches the expression of its namespace.
    #[cold]
    fn obeys_rule(&self, channel: &str) -> bool {
        let rule = self.index(channel).ok().and_then(|index| self.name_rules.get(index)?.as_ref());
        rule.map_or_else(|| channel.is_ascii(), |rule| rule.is_match(self.rest(channel)))
    }

    /// Whether `who` may do `verb` with `channel`, whose options are `options`.
    ///
    /// # Errors
    /// [`ErrorCode::NotAvailable`] when the channel has no presence or no history at all, whoever asks;
    /// otherwise [`ErrorCode::PermissionDenied`].
    pub fn decide(
        &self,
        verb: Verb,
        options: &ChannelOptions,
        who: Who<'_>,
        channel: &str,
    ) -> Result<(), ErrorCode> {
        let allowed = match verb {
            Verb::Subscribe => self.may_subscribe(options, who, channel),
            Verb::Publish => access(
                who,
                options.allow_publish_for_client,
                options.allow_publish_for_subscriber,
                options.allow_publish_for_anonymous,
            ),
            Verb::Presence if !options.presence => return Err(ErrorCode::NotAvailable),
            Verb::Presence => presence_access(options, who),
            Verb::History if !keeps_history(options) => return Err(ErrorCode::NotAvailable),
            Verb::History => history_access(options, who),
        };
        if allowed { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
    }

    /// What of its wishes a client gets that may subscribe.
    ///
    /// Rights of subscribers count: it is about to be one. Recovery is granted only where there is history
    /// to recover from; Centrifugo grants it anyway and then calls every recovery a success.
    #[must_use]
    pub fn grant(options: &ChannelOptions, who: Who<'_>, wishes: Grants) -> Grants {
        let who = Who { subscribed: true, ..who };
        let history = history_access(options, who);
        let wished = wishes.recoverable && (options.allow_recovery || history);
        let recoverable = keeps_history(options) && (options.force_recovery || wished);
        let wished = wishes.positioned && (options.allow_positioning || history);
        let wished_joins = wishes.join_leave && presence_access(options, who);
        Grants {
            positioned: recoverable || options.force_positioning || wished,
            recoverable,
            join_leave: options.join_leave && (options.force_push_join_leave || wished_joins),
            conflate_ms: conflation(options, wishes.conflate_ms),
            no_echo: options.no_echo || wishes.no_echo,
            numbered: wishes.numbered && options.allow_channel_compaction,
            delta: wishes.delta && options.allowed_delta_types.iter().any(|allowed| allowed == FOSSIL),
        }
    }

    fn may_subscribe(&self, options: &ChannelOptions, who: Who<'_>, channel: &str) -> bool {
        let prefix = &self.channel.private_prefix;
        if !prefix.is_empty() && channel.starts_with(prefix.as_str()) {
            return false;
        }
        let users = if options.allow_user_limited_channels { self.users(channel) } else { None };
        let by_rule = match users {
            Some(users) => self.lists(users, who.user),
            None => {
                options.allow_subscribe_for_client
                    && (!who.user.is_empty() || options.allow_subscribe_for_anonymous)
            }
        };
        by_rule || who.insecure
    }

    /// A name without its private prefix.
    #[inline]
    fn public<'a>(&self, channel: &'a str) -> &'a str {
        channel.strip_prefix(self.channel.private_prefix.as_str()).unwrap_or(channel)
    }

    /// Whether the form of a name says what its namespace is.
    #[inline]
    fn is_path(&self, channel: &str) -> bool {
        self.paths.is_some() && self.public(channel).starts_with('/')
    }

    /// The namespace in a name, empty for none.
    #[inline]
    fn namespace<'a>(&self, channel: &'a str) -> &'a str {
        let public = self.public(channel);
        match self.channel.namespace_boundary.as_str() {
            "" => "",
            boundary => find(public, boundary).map_or("", |at| &public[..at]),
        }
    }

    /// What an expression for names sees: what follows the namespace; the whole name where there is none.
    fn rest<'a>(&self, channel: &'a str) -> &'a str {
        if self.is_path(channel) || self.namespace(channel).is_empty() {
            channel
        } else {
            self.inner(channel)
        }
    }

    /// What follows private prefix and namespace in a name.
    pub(super) fn inner<'a>(&self, channel: &'a str) -> &'a str {
        let public = self.public(channel);
        match self.namespace(channel).len() {
            0 => public,
            _ if self.is_path(channel) => public,
            len => &public[len + self.channel.namespace_boundary.len()..],
        }
    }

    /// Whether a channel is for listed users only.
    #[must_use]
    pub fn is_limited(&self, channel: &str) -> bool {
        let limits = self.resolve(channel).is_ok_and(|options| options.allow_user_limited_channels);
        limits && self.users(channel).is_some()
    }

    /// The user list in a name: what follows the last user boundary.
    fn users<'a>(&self, channel: &'a str) -> Option<&'a str> {
        match self.channel.user_boundary.as_str() {
            "" => None,
            boundary => channel.rsplit_once(boundary).map(|(_, users)| users),
        }
    }

    /// An anonymous user is on no list, not even on an empty one.
    fn lists(&self, users: &str, user: &str) -> bool {
        if user.is_empty() {
            return false;
        }
        match self.channel.user_separator.as_str() {
            "" => users == user,
            separator => users.split(separator).any(|listed| listed == user),
        }
    }
}

/// Index of the first `separator`. Nearly always one byte in a short name, for which the general search is far too slow
/// to stand in the way of every command.
fn find(text: &str, separator: &str) -> Option<usize> {
    /// Up to here a loop is quicker than the call.
    const SHORT: usize = 24;
    match separator.as_bytes() {
        [byte] if text.len() <= SHORT => text.bytes().position(|it| it == *byte),
        [byte] => memchr::memchr(*byte, text.as_bytes()),
        _ => text.find(separator),
    }
}

/// Whether `who` may set entries of a map with these options, or remove them.
///
/// # Errors
/// [`ErrorCode::NotAvailable`] where clients set none; otherwise [`ErrorCode::PermissionDenied`].
pub fn decide_map(options: &ChannelOptions, who: Who<'_>, remove: bool) -> Result<(), ErrorCode> {
    if options.subscription_type != SubscriptionType::Map {
        return Err(ErrorCode::NotAvailable);
    }
    let map = &options.map;
    let allowed = if remove {
        let anonymous = map.allow_remove_for_anonymous;
        access(who, map.allow_remove_for_client, map.allow_remove_for_subscriber, anonymous)
    } else {
        let anonymous = map.allow_publish_for_anonymous;
        access(who, map.allow_publish_for_client, map.allow_publish_for_subscriber, anonymous)
    };
    if allowed { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
}

fn presence_access(options: &ChannelOptions, who: Who<'_>) -> bool {
    access(
        who,
        options.allow_presence_for_client,
        options.allow_presence_for_subscriber,
        options.allow_presence_for_anonymous,
    )
}

fn history_access(options: &ChannelOptions, who: Who<'_>) -> bool {
    access(
        who,
        options.allow_history_for_client,
        options.allow_history_for_subscriber,
        options.allow_history_for_anonymous,
    )
}

/// What is asked for, as far as the namespace allows it, but no less than it says itself.
pub fn conflation(options: &ChannelOptions, wished_ms: u32) -> u32 {
    wished_ms.min(option_ms(options.conflation_interval_max)).max(option_ms(options.conflation_interval))
}

/// A time of the configuration as clients are told it.
pub fn option_ms(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// The rule publish, presence and history share.
fn access(who: Who<'_>, for_client: bool, for_subscriber: bool, for_anonymous: bool) -> bool {
    let by_role = for_client || (for_subscriber && who.subscribed);
    by_role && (for_anonymous || !who.user.is_empty()) || who.insecure
}

#[cfg(test)]
mod tests;
