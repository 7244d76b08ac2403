//! SockJS over HTTP, on the side of the requests: a poll is answered with what its session is told, a response without
//! an end asks for more after every answer. The session itself is on another core, most of the time.

use super::{
    driver::{Conn, CoreDriver},
    exchange::{About, Asked},
    http::StreamStart,
};
use crate::{
    broker::{
        outbox::{Body, Framing},
        seam::{SockJsAnswer, SockJsAsk},
    },
    model::ConnKey,
    stdx::slab::Key,
};
use std::sync::Arc;

/// Bytes that may wait for the socket of a response before more is asked for.
const FEED_MAX: usize = 64 * 1024;

/// A response without an end.
#[derive(Debug)]
pub(super) struct Feed {
    session: Box<str>,
    body: Body,
    /// Lines become server-sent events.
    events: bool,
    sent: usize,
}

/// A question to receive that is open.
#[derive(Debug)]
pub(super) struct Receiving {
    session: Box<str>,
    call: Key,
}

impl Feed {
    /// Lines of frames as they stand in the body.
    fn wrap(&self, lines: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(lines.len() + 16);
        if self.events {
            for line in lines.split_inclusive(|&byte| byte == b'\n') {
                text.extend_from_slice(b"data: ");
                text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
                text.extend_from_slice(b"\r\n\r\n");
            }
        } else {
            text.extend_from_slice(lines);
        }
        Framing::Delimited(self.body).frame(&text)
    }
}

impl CoreDriver {
    /// The head of a response without an end is due: from here on the connection is one.
    pub(super) fn start_feed(&mut self, conn: ConnKey, start: StreamStart, session: String) {
        let head = start.plan.head(self.site.date.at(self.now.unix_ms));
        self.leave_http(conn, &head);
        let StreamStart { plan, .. } = start;
        let (body, events) = plan.feed();
        let feed = Feed { session: session.into(), body, events, sent: 0 };
        self.conns.insert(conn, Conn::Feed(Box::new(feed)));
        self.ask_for_more(conn, plan.user);
    }

    fn ask_for_more(&mut self, conn: ConnKey, user: Option<Arc<str>>) {
        let Some(Conn::Feed(feed)) = self.conns.get(conn) else { return };
        let session = feed.session.clone();
        self.ask_sockjs(conn, 0, &session, SockJsAsk::Receive { user });
    }

    pub(super) fn ask_sockjs(&mut self, conn: ConnKey, exchange: u64, session: &str, ask: SockJsAsk) {
        let call = self.calls.insert(Asked { conn, exchange, about: About::SockJs });
        if let SockJsAsk::Receive { .. } = ask {
            self.receiving.insert(conn, Box::new(Receiving { session: session.into(), call }));
        }
        self.core.sockjs(call.to_bits(), session, ask);
        self.late = true;
    }

    /// Nobody waits any more for what the connection asked for.
    pub(super) fn stop_receiving(&mut self, conn: ConnKey) {
        if let Some(receiving) = self.receiving.remove(conn) {
            let Receiving { session, call } = *receiving;
            self.calls.remove(call);
            self.core.sockjs(0, &session, SockJsAsk::Leave { receiver: call.to_bits() });
            self.late = true;
        }
    }

    pub(super) fn on_sockjs_answer(&mut self, call: Key, answer: SockJsAnswer) {
        // Whoever asked may have gone.
        let Some(Asked { conn, exchange, .. }) = self.calls.remove(call) else { return };
        if self.receiving.get(conn).is_some_and(|receiving| receiving.call == call) {
            self.receiving.remove(conn);
        }
        match self.conns.get_mut(conn) {
            Some(Conn::Http(state)) => {
                state.http.answer_sockjs(exchange, answer);
                self.pump_http(conn);
            }
            Some(Conn::Feed(_)) => self.feed_on(conn, answer),
            _ => {}
        }
    }

    fn feed_on(&mut self, conn: ConnKey, answer: SockJsAnswer) {
        let size_max = self.site.settings.sockjs.response_size_max;
        let Some(Conn::Feed(feed)) = self.conns.get_mut(conn) else { return };
        let (lines, last) = match answer {
            SockJsAnswer::Frames(lines) => (lines, false),
            SockJsAnswer::Last(lines) => (lines, true),
            SockJsAnswer::Sent | SockJsAnswer::Unknown | SockJsAnswer::Full => (Vec::new(), true),
        };
        feed.sent += lines.len();
        let last = last || feed.sent >= size_max;
        if !lines.is_empty() {
            let chunk = feed.wrap(&lines);
            self.core.raw(conn, &chunk);
        }
        if last {
            let Some(Conn::Feed(feed)) = self.conns.get(conn) else { return };
            let end = Framing::Delimited(feed.body).body_end();
            let within = self.site.settings.http_server.close_timeout;
            self.close_soon(conn, end, within);
        } else {
            self.feed_again(conn);
        }
        self.late = true;
    }

    /// Asks for more once the socket has taken most of what there was.
    pub(super) fn feed_again(&mut self, conn: ConnKey) {
        if !matches!(self.conns.get(conn), Some(Conn::Feed(_))) {
            return;
        }
        if self.core.pending_bytes(conn) > FEED_MAX {
            self.feeding.push(conn);
        } else {
            self.ask_for_more(conn, None);
        }
    }
}
