//! What this server answers where: decides from a request head, before its body is read.

use super::{
    cors,
    date::Date,
    response::{self, Fields, Response},
    route::{Route, route},
    stream::{StreamPlan, content_protocol},
};
use crate::{
    api::{self, Endpoint, ErrorMode, key_is_right},
    config::Settings,
    model::{Now, Protocol},
    runtime::Pulse,
    transport::{
        driver::Shared,
        log::{Level, Log, Rate},
        upgrade,
    },
    wire::{
        deflate::Agreement,
        forwarded::{Network, client_address},
        http::{Request, parameter},
        origin,
        sockjs::{self, Call},
    },
};
use std::{
    borrow::Cow,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
};

/// Who this process is, the same on all cores.
#[derive(Debug)]
pub struct Identity {
    pub uid: String,
    pub name: String,
    pub version: &'static str,
    /// When the process started, on the cores' monotonic clock.
    pub started_ms: u64,
}

/// Everything a core knows to answer HTTP, whatever the connection.
pub struct Site {
    pub settings: Arc<Settings>,
    pub identity: Arc<Identity>,
    pub pulse: Pulse,
    pub cores: usize,
    pub log: Arc<dyn Log>,
    pub date: Date,
    pub now: Now,
    /// New WebSockets are refused: this process ends.
    pub draining: bool,
    /// Requests answered or passed on since this was last taken.
    pub requests: std::cell::Cell<u64>,
    /// Whose `X-Forwarded-For` is believed.
    trusted: Vec<Network>,
    error_mode: ErrorMode,
    rate: std::cell::RefCell<Rate>,
    entropy: ahash::RandomState,
    shared: Arc<Shared>,
}

/// A turn that lasts longer than this fails the health check.
const STALL_MS: u64 = 5000;

/// Origins remembered as reported; further ones are refused without a line of their own.
const REFUSED_MAX: usize = 100;

/// What to do with a request.
pub enum Target {
    Plan(Plan),
    Upgrade(Box<Upgrade>),
}

/// What to do once the body is there.
#[derive(Debug)]
pub enum Plan {
    Answer(Response),
    Metrics,
    Api {
        endpoint: Endpoint,
        mode: ErrorMode,
    },
    /// The response is a session.
    Stream(Box<StreamPlan>),
    /// Commands for a session that has its response elsewhere.
    Emulation {
        protocol: Protocol,
        cors: Fields,
    },
    /// What a client of SockJS is told next, or what it says.
    SockJs {
        session: String,
        sends: bool,
        user: Option<Arc<str>>,
        cors: Fields,
    },
}

impl Plan {
    /// What a page of another origin is told with every answer.
    pub fn cors(&self) -> &[(&'static str, Cow<'static, str>)] {
        match self {
            Self::Stream(plan) => &plan.cors,
            Self::Emulation { cors, .. } | Self::SockJs { cors, .. } => cors,
            Self::Answer(_) | Self::Metrics | Self::Api { .. } => &[],
        }
    }

    /// Bytes the body of the request may have.
    pub fn body_max(&self, settings: &Settings) -> usize {
        match self {
            Self::Stream(plan) => plan.body_max,
            Self::Emulation { .. } => settings.emulation.max_request_body_size,
            Self::SockJs { .. } => settings.sockjs.max_request_body_size,
            Self::Answer(_) | Self::Metrics | Self::Api { .. } => settings.http_server.body_size_max,
        }
    }
}

/// A WebSocket handshake that is granted.
#[derive(Debug)]
pub struct Upgrade {
    /// The whole `101` head.
    pub response: Vec<u8>,
    pub protocol: Protocol,
    /// WebSocket pings instead of protocol pings.
    pub websocket_pings: bool,
    /// What was agreed on about permessage-deflate.
    pub deflate: Option<Agreement>,
    /// Whom trusted proxies speak for, otherwise the peer.
    pub client: IpAddr,
    /// What `client.user_id_http_header` says.
    pub user: Option<Arc<str>>,
    /// The client only listens, and says this to connect; empty: its first message does.
    pub listener: Option<String>,
    /// Messages are SockJS frames.
    pub sockjs: bool,
}

impl Site {
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        identity: Arc<Identity>,
        pulse: Pulse,
        cores: usize,
        shared: Arc<Shared>,
        log: Arc<dyn Log>,
    ) -> Self {
        Self {
            // Settings are checked when they are loaded.
            trusted: settings.http_server.trusted_proxies.iter().filter_map(|it| it.parse().ok()).collect(),
            error_mode: if settings.http_api.error_mode == "transport" {
                ErrorMode::Transport
            } else {
                ErrorMode::Body
            },
            settings,
            identity,
            pulse,
            cores,
            log,
            date: Date::default(),
            now: Now::default(),
            draining: false,
            requests: std::cell::Cell::default(),
            rate: Rate::default().into(),
            entropy: ahash::RandomState::new(),
            shared,
        }
    }

    /// How `info` names this process.
    #[must_use]
    pub fn node(&self, now: Now) -> api::Node<'_> {
        api::Node {
            uid: &self.identity.uid,
            name: &self.identity.name,
            version: self.identity.version,
            uptime: now.ms.saturating_sub(self.identity.started_ms) / 1000,
        }
    }

    /// Reports a mistake of a client: at most a few lines a second.
    pub fn report(&self, level: Level, line: std::fmt::Arguments<'_>) {
        if !self.log.enabled(level) {
            return;
        }
        match self.rate.borrow_mut().take(self.now.ms) {
            None => {}
            Some(0) => self.log.write(level, line),
            Some(dropped) => {
                self.log.write(level, format_args!("{line} ({dropped} lines like this were dropped)"))
            }
        }
    }

    pub(super) fn plan(&self, request: &Request<'_, '_>, peer: SocketAddr) -> Target {
        self.requests.set(self.requests.get() + 1);
        let answer = |response| Target::Plan(Plan::Answer(response));
        let route = route(&self.settings, request.path);
        if route == Route::NotFound {
            return answer(Response::error(404));
        }
        if !route.allows(request.method) {
            return answer(Response::error(405).with(&[("Allow", route.methods())]));
        }
        let mut cors = Fields::new();
        if route.crosses_origins() {
            if let Err(response) = self.check_origin(request) {
                return answer(response);
            }
            cors = cors::fields(request);
            if request.method == "OPTIONS" {
                return answer(cors::preflight(&cors, route.methods()));
            }
        }
        match route {
            Route::NotFound => answer(Response::error(404)),
            Route::Index => answer(Response::new(200, response::TEXT, self.index())),
            Route::Health => answer(self.health()),
            Route::Init => answer(Response::new(200, response::JSON, "{}").with_fields(&cors)),
            Route::Metrics => Target::Plan(Plan::Metrics),
            Route::WebSocket | Route::UniWebSocket | Route::SockJs(Call::WebSocket | Call::RawWebSocket)
                if self.draining =>
            {
                answer(Response::error(503))
            }
            Route::SockJs(Call::Greeting) => answer(Response::new(200, response::TEXT, sockjs::GREETING)),
            Route::SockJs(Call::Info) => answer(self.sockjs_info().with_fields(&cors)),
            Route::SockJs(Call::WebSocket) => match self.upgrade(request, peer, false) {
                Ok(upgrade) => {
                    let upgrade = Upgrade { protocol: Protocol::Json, sockjs: true, ..upgrade };
                    Target::Upgrade(Box::new(upgrade))
                }
                Err(response) => answer(response),
            },
            Route::SockJs(Call::RawWebSocket) => match self.upgrade(request, peer, false) {
                Ok(upgrade) => Target::Upgrade(Box::new(upgrade)),
                Err(response) => answer(response),
            },
            Route::UniWebSocket => match self.upgrade_listener(request, peer) {
                Ok(upgrade) => Target::Upgrade(Box::new(upgrade)),
                Err(response) => answer(response),
            },
            Route::WebSocket => match self.upgrade(request, peer, self.settings.websocket.compression) {
                Ok(upgrade) => Target::Upgrade(Box::new(upgrade)),
                Err(response) => answer(response),
            },
            Route::HttpStream
            | Route::Sse
            | Route::UniHttpStream
            | Route::UniSse
            | Route::SockJs(Call::Xhr(_) | Call::XhrStreaming(_) | Call::EventSource(_))
                if self.draining =>
            {
                answer(Response::error(503).with_fields(&cors))
            }
            Route::SockJs(Call::Xhr(session)) => Target::Plan(Plan::SockJs {
                session: session.to_owned(),
                sends: false,
                user: self.header_user(request),
                cors,
            }),
            Route::SockJs(Call::XhrSend(session)) => {
                Target::Plan(Plan::SockJs { session: session.to_owned(), sends: true, user: None, cors })
            }
            Route::HttpStream
            | Route::Sse
            | Route::UniHttpStream
            | Route::UniSse
            | Route::SockJs(Call::XhrStreaming(_) | Call::EventSource(_)) => {
                let plan = StreamPlan::new(
                    &self.settings,
                    route,
                    request,
                    cors,
                    self.client(request, peer),
                    self.header_user(request),
                );
                Target::Plan(plan.map_or_else(Plan::Answer, |plan| Plan::Stream(Box::new(plan))))
            }
            Route::Emulation => Target::Plan(Plan::Emulation { protocol: content_protocol(request), cors }),
            Route::Api(_) | Route::ApiLegacy => {
                let endpoint = match route {
                    Route::Api(name) => Endpoint::named(name),
                    _ => Some(Endpoint::Legacy),
                };
                let Some(endpoint) = endpoint else { return answer(Response::error(404)) };
                if !self.may_call(request) {
                    self.report(Level::Info, format_args!("{peer}: API call without the right key"));
                    return answer(Response::new(401, response::TEXT, Vec::new()));
                }
                Target::Plan(Plan::Api { endpoint, mode: self.mode(request) })
            }
        }
    }

    fn may_call(&self, request: &Request<'_, '_>) -> bool {
        let api = &self.settings.http_api;
        if api.insecure {
            return true;
        }
        let given = request.header("x-api-key").map(Cow::Borrowed).or_else(|| {
            let (scheme, key) = request.header("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("apikey").then(|| Cow::Borrowed(key.trim()))
        });
        let given = given.or_else(|| parameter(request.query, "api_key"));
        given.is_some_and(|given| key_is_right(&api.key, given.as_bytes()))
    }

    fn mode(&self, request: &Request<'_, '_>) -> ErrorMode {
        match request.header("x-centrifugo-error-mode") {
            Some("transport") => ErrorMode::Transport,
            _ => self.error_mode,
        }
    }

    /// The WebSocket of a client that only listens: in JSON, always pinged by the protocol and by frames.
    fn upgrade_listener(&self, request: &Request<'_, '_>, peer: SocketAddr) -> Result<Upgrade, Response> {
        let listener = parameter(request.query, "cf_connect").unwrap_or_default().into_owned();
        let upgrade = self.upgrade(request, peer, self.settings.uni_websocket.compression)?;
        Ok(Upgrade { protocol: Protocol::Json, websocket_pings: true, listener: Some(listener), ..upgrade })
    }

    fn upgrade(
        &self,
        request: &Request<'_, '_>,
        peer: SocketAddr,
        compression: bool,
    ) -> Result<Upgrade, Response> {
        self.check_origin(request)?;
        let client = self.client(request, peer);
        let upgrade = upgrade::accept(request, client, compression)?;
        Ok(Upgrade { user: self.header_user(request), ..upgrade })
    }

    /// Whom trusted proxies speak for, otherwise the peer.
    fn client(&self, request: &Request<'_, '_>, peer: SocketAddr) -> IpAddr {
        let forwarded: Vec<_> = request.values("x-forwarded-for").collect();
        client_address(peer.ip(), forwarded.into_iter(), &self.trusted)
    }

    /// The user a trusted proxy vouches for. An empty name is nobody's.
    fn header_user(&self, request: &Request<'_, '_>) -> Option<Arc<str>> {
        let header = self.settings.client.user_id_http_header.as_str();
        if header.is_empty() {
            return None;
        }
        request.header(header).filter(|user| !user.is_empty()).map(Arc::from)
    }

    /// Pages may only ask from where `client.allowed_origins` says.
    fn check_origin(&self, request: &Request<'_, '_>) -> Result<(), Response> {
        let allowed = &self.settings.client.allowed_origins;
        for field in request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("origin")) {
            let origin = String::from_utf8_lossy(field.value);
            if !origin::is_allowed(allowed.iter().map(String::as_str), &origin) {
                self.report_origin(&origin);
                return Err(Response::error(403));
            }
        }
        Ok(())
    }

    /// Once per origin, with the remedy.
    fn report_origin(&self, origin: &str) {
        let mut refused = self.shared.refused_origins.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED_MAX && refused.insert(origin.to_owned()) && self.log.enabled(Level::Warn) {
            let origin = origin.escape_debug();
            self.log.write(
                Level::Warn,
                format_args!("refused a connection from a page of {origin}: to allow it, add \"{origin}\" to client.allowed_origins"),
            );
        }
    }

    /// What a SockJS client wants to know first; `entropy` seeds its choice of a session id.
    fn sockjs_info(&self) -> Response {
        let entropy = self.entropy.hash_one(self.requests.get() ^ self.now.unix_ms.rotate_left(32)) as u32;
        let text = format!(
            "{{\"websocket\":true,\"cookie_needed\":false,\"origins\":[\"*:*\"],\"entropy\":{entropy}}}"
        );
        let fresh = [("Cache-Control", "no-store, no-cache, no-transform, must-revalidate, max-age=0")];
        Response::new(200, response::JSON, text).with(&fresh)
    }

    /// 503 naming the cores whose turn does not end.
    fn health(&self) -> Response {
        let stalled: Vec<usize> =
            (0..self.cores).filter(|&core| self.pulse.silent_ms(core) > STALL_MS).collect();
        if stalled.is_empty() {
            return Response::new(200, response::JSON, "{}");
        }
        Response::new(503, response::JSON, format!("{{\"stalled_cores\":{stalled:?}}}"))
    }

    fn index(&self) -> String {
        let settings = &self.settings;
        let mut text = format!("Corecast {}\n\n", self.identity.version);
        let mut line = |shown: bool, path: &str, about: &str| {
            if shown {
                let _ = writeln!(text, "{path:<28} {about}");
            }
        };
        line(
            !settings.websocket.disabled,
            &settings.websocket.handler_prefix,
            "clients: WebSocket, JSON or Protobuf",
        );
        line(
            settings.http_stream.enabled,
            &settings.http_stream.handler_prefix,
            "clients without WebSocket: HTTP streaming, JSON or Protobuf",
        );
        line(
            settings.sse.enabled,
            &settings.sse.handler_prefix,
            "clients without WebSocket: server-sent events, JSON",
        );
        line(
            settings.uni_websocket.enabled,
            &settings.uni_websocket.handler_prefix,
            "listeners: WebSocket, JSON",
        );
        line(
            settings.uni_sse.enabled,
            &settings.uni_sse.handler_prefix,
            "listeners: server-sent events, JSON",
        );
        line(
            settings.uni_http_stream.enabled,
            &settings.uni_http_stream.handler_prefix,
            "listeners: HTTP streaming, JSON",
        );
        line(settings.sockjs.enabled, &settings.sockjs.handler_prefix, "clients of SockJS, JSON");
        line(settings.emulates(), &settings.emulation.handler_prefix, "what those clients say");
        line(settings.init.enabled, &settings.init.handler_prefix, "whether pages reach this server");
        line(
            !settings.http_api.disabled,
            &settings.http_api.handler_prefix,
            "server API: POST <method>, JSON",
        );
        line(settings.health.enabled, &settings.health.handler_prefix, "health");
        line(settings.prometheus.enabled, &settings.prometheus.handler_prefix, "metrics, Prometheus text");
        text
    }
}
