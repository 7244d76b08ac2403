//! What this server answers where: decides from a request head, before its body is read.

use super::{
    date::Date,
    response::{self, Response},
    route::{Route, route},
};
use crate::{
    api::{self, ErrorMode, key_is_right},
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
    /// No method: the legacy form.
    Api {
        method: Option<String>,
        mode: ErrorMode,
    },
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
        match route {
            Route::NotFound => answer(Response::error(404)),
            Route::Index => answer(Response::new(200, response::TEXT, self.index())),
            Route::Health => answer(self.health()),
            Route::Metrics => Target::Plan(Plan::Metrics),
            Route::WebSocket if self.draining => answer(Response::error(503)),
            Route::WebSocket => match self.upgrade(request, peer) {
                Ok(upgrade) => Target::Upgrade(Box::new(upgrade)),
                Err(response) => answer(response),
            },
            Route::Api(name) if name != "batch" && api::method(name).is_none() => {
                answer(Response::error(404))
            }
            Route::Api(_) | Route::ApiLegacy => {
                if !self.may_call(request) {
                    self.report(Level::Info, format_args!("{peer}: API call without the right key"));
                    return answer(Response::new(401, response::TEXT, Vec::new()));
                }
                let method = if let Route::Api(name) = route { Some(name.to_owned()) } else { None };
                Target::Plan(Plan::Api { method, mode: self.mode(request) })
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

    fn upgrade(&self, request: &Request<'_, '_>, peer: SocketAddr) -> Result<Upgrade, Response> {
        let allowed = &self.settings.client.allowed_origins;
        for field in request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("origin")) {
            let origin = String::from_utf8_lossy(field.value);
            if !origin::is_allowed(allowed.iter().map(String::as_str), &origin) {
                self.report_origin(&origin);
                return Err(Response::error(403));
            }
        }
        let forwarded: Vec<_> = request.values("x-forwarded-for").collect();
        let client = client_address(peer.ip(), forwarded.into_iter(), &self.trusted);
        let header = self.settings.client.user_id_http_header.as_str();
        let user = if header.is_empty() { None } else { request.header(header).map(Arc::from) };
        let upgrade = upgrade::accept(request, client, self.settings.websocket.compression)?;
        Ok(Upgrade { user, ..upgrade })
    }

    /// Once per origin, with the remedy.
    fn report_origin(&self, origin: &str) {
        let mut refused = self.shared.refused_origins.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED_MAX && refused.insert(origin.to_owned()) && self.log.enabled(Level::Warn) {
            let origin = origin.escape_debug();
            self.log.write(
                Level::Warn,
                format_args!("refused a WebSocket from a page of {origin}: to allow it, add \"{origin}\" to client.allowed_origins"),
            );
        }
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
            !settings.http_api.disabled,
            &settings.http_api.handler_prefix,
            "server API: POST <method>, JSON",
        );
        line(settings.health.enabled, &settings.health.handler_prefix, "health");
        line(settings.prometheus.enabled, &settings.prometheus.handler_prefix, "metrics, Prometheus text");
        text
    }
}
