//! HTTP connections of the driver: requests to broker calls, replies to responses, deadlines, pauses.

use super::{
    driver::{Conn, CoreDriver, Life, Order, ms},
    gate::TurnedAway,
    http::{Http, Next, Response, StreamStart, Upgrade, metrics},
    log::Level,
    stream::Stream,
    timer::Timer,
    websocket::WebSocket,
};
use crate::{
    broker::{
        core::{SessionStart, Uplink},
        outbox::Framing,
        seam::{ApiReply, ApiRequest},
    },
    metrics::{Counter, prometheus},
    model::{ConnKey, ErrorCode},
    runtime::Close,
    stdx::slab::Key,
    wire::{
        proxy_protocol, sockjs,
        websocket::{Opcode, write_header},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
};

/// Bytes of responses handed to the outbox before the socket has taken them.
const FEED_MAX: usize = 64 * 1024;

pub(super) struct HttpConn {
    pub http: Http,
    pub timer: Timer,
    /// In the driver's list of connections to feed.
    pub feeding: bool,
    /// The PROXY protocol header has not come yet.
    proxied: bool,
    paused: bool,
    /// What the deadline is for.
    waiting: Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The rest of a request, or the first one.
    Request,
    /// Nothing: between requests, or for the broker.
    Idle,
}

impl HttpConn {
    pub fn new(peer: SocketAddr, proxied: bool) -> Self {
        Self {
            http: Http::new(peer),
            timer: Timer::default(),
            feeding: false,
            proxied,
            paused: false,
            waiting: Waiting::Request,
        }
    }
}

/// A broker call somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub conn: ConnKey,
    pub exchange: u64,
    pub about: About,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    Metrics,
    /// A step of a call of the server API.
    Call(usize),
    Emulation,
    SockJs,
}

impl CoreDriver {
    /// Looks at what arrived, and moves what is to be sent.
    pub(super) fn pump_http(&mut self, conn: ConnKey) {
        if !self.read_proxy_header(conn) {
            return;
        }
        while let Some(Conn::Http(state)) = self.conns.get_mut(conn) {
            match state.http.next(&mut self.site, self.now) {
                Next::Wait => {
                    if !self.hand_out(conn) {
                        return self.after_requests(conn);
                    }
                }
                Next::Call(exchange) => self.start_calls(conn, exchange),
                Next::Metrics(exchange) => {
                    self.ask(Asked { conn, exchange, about: About::Metrics }, ApiRequest::Info);
                }
                Next::Emulate { exchange, session, commands } => {
                    let call = self.calls.insert(Asked { conn, exchange, about: About::Emulation });
                    self.core.emulate(call.to_bits(), &session, &commands);
                    self.late = true;
                }
                Next::SockJs { exchange, session, ask } => self.ask_sockjs(conn, exchange, &session, ask),
                Next::Stream(start) => return self.start_stream(conn, *start),
                Next::Upgrade(upgrade) => return self.upgrade(conn, &upgrade),
            }
        }
    }

    /// False: there is nothing to look at behind it yet.
    fn read_proxy_header(&mut self, conn: ConnKey) -> bool {
        let Some(Conn::Http(state)) = self.conns.get_mut(conn) else { return false };
        if !state.proxied || state.http.input().is_empty() {
            return true;
        }
        match proxy_protocol::parse(state.http.input()) {
            Ok(None) => false,
            Ok(Some(header)) => {
                state.proxied = false;
                if let Some(source) = header.source {
                    state.http.peer = source;
                }
                state.http.consume(header.len);
                true
            }
            Err(error) => {
                let peer = state.http.peer;
                self.site.report(Level::Warn, format_args!("{peer}: no PROXY protocol header ({error}): http_server.proxy_protocol is on, so connect through the proxy"));
                self.cut(conn, Close::Reset);
                false
            }
        }
    }

    fn start_calls(&mut self, conn: ConnKey, exchange: u64) {
        while let Some(Conn::Http(state)) = self.conns.get_mut(conn) {
            let Some((step, request)) = state.http.start_call(exchange) else { return };
            self.ask(Asked { conn, exchange, about: About::Call(step) }, request);
        }
    }

    fn ask(&mut self, asked: Asked, request: ApiRequest) {
        let call = self.calls.insert(asked);
        if matches!(request, ApiRequest::Info) {
            // This turn is counted first.
            self.infos.push(call);
        } else {
            self.core.api(call.to_bits(), request);
        }
        self.late = true;
    }

    pub(super) fn on_reply(&mut self, call: Key, reply: Result<ApiReply, ErrorCode>) {
        let Some(Asked { conn, exchange, about }) = self.calls.remove(call) else { return };
        // Whoever asked may have gone.
        let Some(Conn::Http(state)) = self.conns.get_mut(conn) else { return };
        match about {
            About::Metrics => {
                let response = match reply {
                    Ok(ApiReply::Stats { cores, cores_total }) => {
                        self.shared.scrapes.fetch_add(1, Ordering::Relaxed);
                        let text = metrics::text(&cores, cores_total, self.site.identity.version);
                        Response::new(200, prometheus::CONTENT_TYPE, text)
                    }
                    _ => Response::error(503),
                };
                state.http.answer_metrics(exchange, response);
            }
            About::Emulation => state.http.answer_emulation(exchange, reply.map(|_| ())),
            About::SockJs => {}
            About::Call(step) => {
                state.http.answer_call(exchange, step, reply, &self.site, self.now);
                self.start_calls(conn, exchange);
            }
        }
        self.pump_http(conn);
    }

    /// Moves responses to the outbox, as far as it has room. True: that made room for requests that wait.
    fn hand_out(&mut self, conn: ConnKey) -> bool {
        let Some(Conn::Http(state)) = self.conns.get_mut(conn) else { return false };
        let room = FEED_MAX.saturating_sub(self.core.pending_bytes(conn));
        if room == 0 || !state.http.has_output() {
            return false;
        }
        let was_full = state.http.is_full(&self.site);
        let output = state.http.take_output(room);
        self.core.raw(conn, &output);
        was_full && !state.http.is_full(&self.site)
    }

    /// Nothing more can be done with what arrived: set pause and deadline.
    fn after_requests(&mut self, conn: ConnKey) {
        let Some(Conn::Http(state)) = self.conns.get_mut(conn) else { return };
        let partial = state.http.is_partial();
        if self.life != Life::Serving && !partial && state.http.open() == 0 {
            state.http.stop();
        }
        let blocked = state.http.has_output();
        if blocked && !state.feeding {
            state.feeding = true;
            self.feeding.push(conn);
        }
        if state.http.is_finished() && !blocked {
            let within = self.site.settings.http_server.close_timeout;
            return self.close_soon(conn, b"", within);
        }
        let pause = blocked || state.http.is_full(&self.site);
        if pause != state.paused {
            state.paused = pause;
            self.orders.push((conn, if pause { Order::Pause } else { Order::Resume }));
        }
        let server = &self.site.settings.http_server;
        let due_ms = match (state.waiting, partial) {
            // It goes on running from the first byte of the request.
            (Waiting::Request, true) => return,
            (_, true) => {
                state.waiting = Waiting::Request;
                server.head_timeout
            }
            (Waiting::Request, false) if state.http.is_untouched() => return,
            (_, false) => {
                state.waiting = Waiting::Idle;
                server.keep_alive_timeout
            }
        };
        self.arm(conn, ms(due_ms));
    }

    fn arm(&mut self, conn: ConnKey, in_ms: u64) {
        if let Some(Conn::Http(state)) = self.conns.get_mut(conn)
            && let Some(at_ms) = state.timer.set(self.now.ms.saturating_add(in_ms))
        {
            self.wheel.insert(at_ms, conn.to_bits());
        }
    }

    pub(super) fn on_http_due(&mut self, conn: ConnKey) {
        let pending = self.core.pending_bytes(conn);
        let Some(Conn::Http(state)) = self.conns.get_mut(conn) else { return };
        let peer = state.http.peer;
        if pending > 0 || state.http.has_output() {
            // It asks and does not read.
            self.cut(conn, Close::Reset);
        } else if state.waiting == Waiting::Request && (state.proxied || state.http.is_untouched()) {
            self.cut(conn, Close::Graceful { linger_ms: 0 });
        } else if state.waiting == Waiting::Request {
            state.http.refuse(Response::error(408));
            self.site.report(
                Level::Info,
                format_args!("{peer}: a request took longer than http_server.head_timeout"),
            );
            self.pump_http(conn);
        } else if state.http.open() > 0 {
            let again_ms = ms(self.site.settings.http_server.keep_alive_timeout);
            self.arm(conn, again_ms);
        } else {
            state.http.stop();
            self.pump_http(conn);
        }
    }

    /// The connection is not HTTP any more once `head` is sent, behind the answers that are owed. Returns what
    /// came behind the request.
    pub(super) fn leave_http(&mut self, conn: ConnKey, head: &[u8]) -> Vec<u8> {
        let Some(Conn::Http(state)) = self.conns.get_mut(conn) else { return Vec::new() };
        let rest = state.http.take_input();
        if state.paused {
            self.orders.push((conn, Order::Resume));
        }
        let earlier = state.http.take_output(usize::MAX);
        self.core.raw(conn, &earlier);
        self.core.raw(conn, head);
        self.late = true;
        rest
    }

    fn start_stream(&mut self, conn: ConnKey, start: StreamStart) {
        if let Err(reason) = self.enter(conn, start.plan.client) {
            let response = Response::error(503).with_fields(&start.plan.cors);
            return self.turn_away(conn, start.plan.client, reason, response);
        }
        if let Some(session) = start.plan.sockjs.clone() {
            return self.start_feed(conn, start, session);
        }
        let StreamStart { plan, commands } = start;
        let head = plan.head(self.site.date.at(self.now.unix_ms));
        // Whoever waits for it to be connected may still be answered otherwise.
        let awaited = plan.awaits;
        self.leave_http(conn, if awaited { &[] } else { head.as_slice() });
        let session = SessionStart {
            uplink: plan.uplink,
            user: plan.user.clone(),
            address: self.shared.gate.limits_of(plan.client, self.now.ms),
            prelude: awaited.then(|| head.into()),
            ..SessionStart::new(plan.protocol, plan.framing)
        };
        self.core.start_session(conn, session);
        let state = if awaited { Conn::Awaited(Box::new(plan)) } else { Conn::Stream(Stream::of(&plan)) };
        self.conns.insert(conn, state);
        self.core.on_message(conn, &commands);
    }

    fn upgrade(&mut self, conn: ConnKey, upgrade: &Upgrade) {
        if let Err(reason) = self.enter(conn, upgrade.client) {
            return self.turn_away(conn, upgrade.client, reason, Response::error(503));
        }
        self.site.report(Level::Debug, format_args!("{}: WebSocket", upgrade.client));
        let mut rest = self.leave_http(conn, &upgrade.response);
        let window = upgrade.deflate.and_then(|agreement| agreement.window);
        let framing = match &upgrade.listener {
            Some(_) => Framing::listener(self.site.settings.uni_websocket.join_push_messages, window),
            None if upgrade.sockjs => Framing::SockJs,
            None => Framing::websocket(upgrade.protocol, window),
        };
        self.core.start_session(
            conn,
            SessionStart {
                uplink: if upgrade.listener.is_some() { Uplink::None } else { Uplink::Connection },
                websocket_pings: upgrade.websocket_pings,
                user: upgrade.user.clone(),
                address: self.shared.gate.limits_of(upgrade.client, self.now.ms),
                ..SessionStart::new(upgrade.protocol, framing)
            },
        );
        self.conns.insert(
            conn,
            Conn::WebSocket(WebSocket::new(
                upgrade.deflate.is_some(),
                upgrade.listener.is_some(),
                upgrade.sockjs,
            )),
        );
        if upgrade.sockjs {
            let mut open = Vec::new();
            write_header(&mut open, Opcode::Text, sockjs::OPEN.len());
            open.extend_from_slice(sockjs::OPEN);
            self.core.raw(conn, &open);
        }
        if let Some(connect) = upgrade.listener.as_ref().filter(|connect| !connect.is_empty()) {
            self.core.on_message(conn, connect.as_bytes());
        }
        if !rest.is_empty() {
            self.on_frames(conn, &mut rest);
        }
    }

    /// Answers 503 to a client for whom there is no room.
    fn turn_away(&mut self, conn: ConnKey, client: IpAddr, reason: TurnedAway, response: Response) {
        self.core.counters().increment(Counter::ConnectionsTurnedAway);
        self.site.report(Level::Info, format_args!("{client}: turned away with 503: {reason}"));
        if let Some(Conn::Http(state)) = self.conns.get_mut(conn) {
            state.http.answer_last(response);
        }
        self.pump_http(conn);
    }
}
