//! `connect`: who the client is, what it is told, and the subscriptions that come with it.

use super::{
    Account, Refusal, State, Step,
    connecting::Coming,
    keys::Purpose,
    listen::refusal,
    subscribe::{Joining, shown, wishes},
};
use crate::{
    auth::{ConnectClaims, Refused, ServerSub},
    broker::{
        VERSION,
        core::Core,
        mesh::{Ask, Recover},
        pending::{Pending, SubscribeOrigin},
        permission::{Grants, Verb},
    },
    config::SubscriptionType,
    model::{ClientInfo, ConnKey, Disconnect, ErrorCode},
    wire::client::{ConnectRequest, ConnectResult, Push, Reply, SubscribeResult},
};
use std::sync::Arc;

/// How long a client whose connect was refused may take to close.
const REFUSED_CLOSE_MS: u64 = 5_000;

/// Longest time to live clients are told of: a year.
const TTL_MAX: u64 = 365 * 24 * 3600;

/// SDKs, as they call themselves, that find a channel by its number in Protobuf. centrifuge-js does not: there a
/// number of 64 bits is an object, equal to none, and what comes by number is lost. In JSON it does.
const READERS_OF_NUMBERS: [&str; 6] = ["python", "go", "dart", "swift", "java", "csharp"];

impl Core {
    pub(super) fn connect(&mut self, conn: ConnKey, id: u32, request: &ConnectRequest<'_>) -> Step {
        let mut found = self.identify(conn, &request.token);
        if matches!(found, Err(Refusal::Key)) {
            match self.await_key(conn, Purpose::Connection, &request.token) {
                None => return Step::Wait,
                Some(refusal) => found = Err(refusal),
            }
        }
        let (claims, by_token) = match found {
            Ok(found) => found,
            Err(Refusal::End(disconnect)) => return self.end(conn, disconnect),
            Err(Refusal::Error(error)) => return self.refuse_connect(conn, id, error),
            Err(Refusal::Key) => return self.refuse_connect(conn, id, ErrorCode::Internal),
        };
        let (expires_ms, ttl) = match self.time_left(claims.expires_unix_ms) {
            Ok(left) => left,
            Err(error) => return self.refuse_connect(conn, id, error),
        };
        let owner = self.owners.of(&claims.user);
        if !claims.user.is_empty() && !self.out.take_credit(owner) {
            return self.wait_for_credit(conn, owner);
        }
        let user = match &*claims.user {
            "" => Arc::clone(&self.anonymous),
            user => user.into(),
        };
        let info = Arc::new(ClientInfo {
            user: Arc::clone(&user),
            client: self.ids.make(self.id, conn, self.rng.next_u64()),
            conn_info: claims.info,
            chan_info: None,
        });
        let account = by_token.then(|| {
            let channels = claims.subs.iter().map(|sub| sub.channel.clone()).collect();
            let mark = self.denials.mark(&claims.id, claims.issued_unix_ms);
            let (meta, caps) = (claims.meta, claims.caps);
            Box::new(Account { expires_ms, channels, meta, caps, mark, ..Account::default() })
        });
        if let Some(session) = self.sessions.get_mut(conn) {
            session.info = Some(info);
            session.header_user = None;
            session.reads_numbers |= READERS_OF_NUMBERS.contains(&&*request.name);
            session.account = account;
        }
        let coming = match self.coming(conn, claims.subs, &user, request) {
            Ok(coming) => coming,
            Err(error) => return self.refuse_connect(conn, id, error),
        };
        if coming.len() > self.settings.client.channel_limit {
            return self.end(conn, Disconnect::CHANNEL_LIMIT);
        }
        if user.is_empty() {
            return self.connect_with(conn, id, ttl, coming);
        }
        self.begin_connecting(conn, id, ttl, coming);
        self.ask(owner, Ask::Enter { user, conn }, Pending::Enter { conn });
        Step::Done
    }

    /// The subscriptions that come with the connection, each as the client wishes and from where it remembers to have
    /// been: those of the token, the user's own, and of those the client asks for what it may subscribe to by itself.
    ///
    /// # Errors
    /// Of a channel of the user's own that there cannot be, and of a tags filter that is not allowed or makes no sense.
    fn coming(
        &self,
        conn: ConnKey,
        mut subs: Vec<ServerSub>,
        user: &str,
        request: &ConnectRequest<'_>,
    ) -> Result<Vec<Coming>, ErrorCode> {
        if let Some(channel) = self.personal_channel(user)
            && subs.iter().all(|sub| sub.channel != channel)
        {
            self.check_coming(&channel)?;
            subs.push(ServerSub { channel, ..ServerSub::default() });
        }
        for (channel, _) in &request.subs {
            let fresh = !channel.is_empty() && subs.iter().all(|sub| *sub.channel != **channel);
            if fresh && self.is_stream(channel) && self.allow(conn, channel, Verb::Subscribe).is_ok() {
                subs.push(ServerSub { channel: (&**channel).into(), ..ServerSub::default() });
            }
        }
        let session = self.sessions.get(conn).ok_or(ErrorCode::Internal)?;
        let from = |sub: ServerSub| {
            let Some((_, asked)) = request.subs.iter().find(|(channel, _)| **channel == *sub.channel) else {
                return Ok(Coming { sub, ..Coming::default() });
            };
            let from = || Recover { offset: asked.offset, epoch: (&*asked.epoch).into() };
            let filter = self.tags_filter(&sub.channel, asked)?;
            Ok(Coming { sub, filter, wishes: wishes(session, asked), recover: asked.recover.then(from) })
        };
        subs.into_iter().map(from).collect()
    }

    /// A map is read in pages, which only a client can ask for.
    pub(in crate::broker) fn is_stream(&self, channel: &str) -> bool {
        let options = self.channels.resolve(channel);
        options.is_ok_and(|options| options.subscription_type == SubscriptionType::Stream)
    }

    /// Subscribes the client, or tells it that it is connected when there is nothing to subscribe it to.
    pub(super) fn connect_with(&mut self, conn: ConnKey, id: u32, ttl: u32, coming: Vec<Coming>) -> Step {
        if coming.is_empty() {
            self.finish_connect(conn, id, ttl, &[]);
            return Step::Done;
        }
        self.await_owners(conn, id, ttl, coming.len());
        self.subscribe_at_connect(conn, coming)
    }

    /// The channel of this user alone, where users have one and this is one.
    fn personal_channel(&self, user: &str) -> Option<Box<str>> {
        let personal = &self.settings.client.subscribe_to_user_personal_channel;
        if !personal.enabled || user.is_empty() {
            return None;
        }
        let names = &self.settings.channel;
        let channel = match personal.personal_channel_namespace.as_str() {
            "" => format!("{}{user}", names.user_boundary),
            namespace => format!("{namespace}{}{}{user}", names.namespace_boundary, names.user_boundary),
        };
        Some(channel.into())
    }

    /// The client is connected from here on.
    pub(super) fn finish_connect(
        &mut self,
        conn: ConnKey,
        id: u32,
        ttl: u32,
        subs: &[(&str, SubscribeResult<'_>)],
    ) {
        let Some(info) = self.info(conn) else { return };
        self.tell_connected(conn, id, &info, ttl, subs);
        self.clients += 1;
        let due_ms = self.first_ping_ms();
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = State::Connected;
            session.due_ms = due_ms;
        }
        self.expect_expiry(conn);
    }

    /// Who the client is, and whether a token says so.
    fn identify(&self, conn: ConnKey, token: &str) -> Result<(ConnectClaims, bool), Refusal> {
        let client = &self.settings.client;
        if !token.is_empty() {
            let mut claims =
                self.connection_tokens.connect(token, self.now.unix_ms).map_err(|refused| match refused {
                    it if it.is_untimely() => Refusal::Error(ErrorCode::TokenExpired),
                    Refused::Key => Refusal::Key,
                    _ => Refusal::End(Disconnect::INVALID_TOKEN),
                })?;
            if self.denials.revokes(&claims, self.now) {
                return Err(Disconnect::INVALID_TOKEN.into());
            }
            if claims.user.is_empty() && client.disallow_anonymous_connection_tokens {
                return Err(Disconnect::PERMISSION_DENIED.into());
            }
            claims.subs.iter().try_for_each(|sub| self.check_coming(&sub.channel))?;
            if client.insecure {
                // Who may do everything may stay.
                claims.expires_unix_ms = None;
            }
            return Ok((claims, true));
        }
        let user = self.sessions.get(conn).and_then(|session| session.header_user.as_ref());
        match user {
            Some(user) => Ok((ConnectClaims { user: (**user).into(), ..ConnectClaims::default() }, false)),
            None if client.allow_anonymous_connect_without_token || client.insecure => {
                Ok((ConnectClaims::default(), false))
            }
            None => Err(Disconnect::BAD_REQUEST.into()),
        }
    }

    /// Whether the server may subscribe a client to `channel` when it connects.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownChannel`]; [`ErrorCode::BadRequest`] for a name that is too long, and for a channel that is no
    /// stream.
    fn check_coming(&self, channel: &str) -> Result<(), ErrorCode> {
        self.channels.check_server_name(channel)?;
        let options = self.channels.resolve(channel)?;
        let is_stream = options.subscription_type == SubscriptionType::Stream;
        if is_stream { Ok(()) } else { Err(ErrorCode::BadRequest) }
    }

    /// When a time on the wall clock is on the core's own, and how many seconds are left until then.
    ///
    /// # Errors
    /// [`ErrorCode::Expired`]: none are.
    pub(in crate::broker) fn time_left(&self, expires_unix_ms: Option<u64>) -> Result<(u64, u32), ErrorCode> {
        let Some(unix_ms) = expires_unix_ms else { return Ok((u64::MAX, 0)) };
        let left_ms = unix_ms.saturating_sub(self.now.unix_ms);
        if left_ms == 0 {
            return Err(ErrorCode::Expired);
        }
        let ttl = left_ms.div_ceil(1000).min(TTL_MAX);
        Ok((self.now.ms.saturating_add(left_ms), u32::try_from(ttl).unwrap_or(u32::MAX)))
    }

    /// The client is told why, and has a moment to go. What it sends behind is ignored.
    pub(super) fn refuse_connect(&mut self, conn: ConnKey, id: u32, error: ErrorCode) -> Step {
        if self.sessions.get(conn).is_some_and(|session| session.is_bare()) {
            if let Some(prelude) = self.preludes.get_mut(&conn) {
                prelude.refused = Some(error);
            }
            let disconnect = refusal(error, &self.settings.client.connect_code_to_unidirectional_disconnect);
            return self.end(conn, disconnect);
        }
        self.reply(conn, id, &Reply::Error(error));
        let due_ms = self.now.ms + REFUSED_CLOSE_MS;
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = State::Refused;
            session.due_ms = due_ms;
        }
        self.schedule(conn);
        Step::Done
    }

    fn tell_connected(
        &mut self,
        conn: ConnKey,
        id: u32,
        info: &ClientInfo,
        ttl: u32,
        subs: &[(&str, SubscribeResult<'_>)],
    ) {
        let (ping, pong) = self.announced_ping(conn);
        let session = self.session_id(conn, info.client);
        let bare = self.sessions.get(conn).is_some_and(|session| session.is_bare());
        // Only requests of the client's own have to find it.
        let node = if session.is_empty() || bare { "".into() } else { Arc::clone(&self.node) };
        let time_ms = if self.settings.client.connect_include_server_time { self.now.unix_ms } else { 0 };
        let result = ConnectResult {
            client: info.client,
            version: VERSION,
            expires: ttl > 0,
            ttl,
            data: &[],
            subs,
            ping,
            pong,
            session: &session,
            node: &node,
            time_ms,
        };
        if bare {
            self.tell_prelude(conn);
            self.push(conn, "", &Push::Connect(&result));
        } else {
            self.reply(conn, id, &Reply::Connect(&result));
        }
    }

    fn subscribe_at_connect(&mut self, conn: ConnKey, coming: Vec<Coming>) -> Step {
        for Coming { sub, recover, filter, wishes } in coming {
            let wishes = Grants {
                positioned: wishes.positioned || recover.is_some(),
                recoverable: wishes.recoverable || recover.is_some(),
                ..wishes
            };
            let Some(info) = self.info(conn) else { return Step::Ended };
            let Ok(grants) = self.grants(conn, &sub.channel, wishes, sub.overrides) else {
                return self.end(conn, Disconnect::INTERNAL);
            };
            let joining = Joining {
                channel: &sub.channel,
                info: with_chan_info(info, sub.info.as_ref()),
                grants,
                filter,
                recover: recover.filter(|_| grants.recoverable),
                reject_unrecovered: false,
                origin: SubscribeOrigin::Connect { data: sub.data.clone() },
                expires_ms: u64::MAX,
                kind: 0,
                shown: shown(sub.overrides),
                map: None,
            };
            if !self.ask_subscribe(conn, joining) {
                // Its owner is far behind: better come back than stay without.
                return self.end(conn, Disconnect::INTERNAL);
            }
        }
        Step::Done
    }

    /// Ping interval in seconds and whether pongs are expected; both absent when pings are WebSocket frames.
    fn announced_ping(&self, conn: ConnKey) -> (u32, bool) {
        let Some(session) = self.sessions.get(conn) else { return (0, false) };
        let bare = session.is_bare();
        if session.websocket_pings && !bare {
            return (0, false);
        }
        let client = &self.settings.client;
        let seconds = client.ping_interval.ms() / 1000;
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        (seconds, seconds > 0 && client.pong_timeout.ms() > 0 && !bare)
    }
}

/// The info of a client in a channel that has one of its own for it.
pub(in crate::broker) fn with_chan_info(
    info: Arc<ClientInfo>,
    chan_info: Option<&Arc<[u8]>>,
) -> Arc<ClientInfo> {
    match chan_info {
        Some(chan_info) => Arc::new(ClientInfo { chan_info: Some(Arc::clone(chan_info)), ..(*info).clone() }),
        None => info,
    }
}
