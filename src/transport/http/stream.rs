//! Responses without an end that carry a session: what their requests say, and their heads.

use super::{
    response::{self, Fields, Manner, Response},
    route::Route,
};
use crate::{
    broker::{
        core::Uplink,
        outbox::{Body, Framing},
    },
    config::Settings,
    model::Protocol,
    wire::{
        client::decode_connect,
        http::{self, Request, Version, parameter},
        sockjs::Call,
    },
};
use std::{net::IpAddr, sync::Arc};

/// Bytes in front of a streaming response of SockJS, the newline included.
const PRELUDE_LEN: usize = 2049;

/// What the head of the request says.
#[derive(Debug)]
pub struct StreamPlan {
    pub protocol: Protocol,
    pub framing: Framing,
    pub uplink: Uplink,
    /// For pages of other origins.
    pub cors: Fields,
    pub body_max: usize,
    /// The response is not a session itself, but carries the one of SockJS with this id.
    pub sockjs: Option<String>,
    /// The head waits for whether the listener is connected.
    pub awaits: bool,
    /// Commands in the query; otherwise they are the body.
    query: Option<String>,
    content_type: &'static str,
    version: Version,
    /// Whom trusted proxies speak for, otherwise the peer.
    pub client: IpAddr,
    /// What `client.user_id_http_header` says.
    pub user: Option<Arc<str>>,
}

/// A session that begins, behind the answers before it.
#[derive(Debug)]
pub struct StreamStart {
    pub plan: StreamPlan,
    /// What the client says at once.
    pub commands: Vec<u8>,
}

impl StreamPlan {
    /// # Errors
    /// The answer to a request that says nothing to connect with.
    pub fn new(
        settings: &Settings,
        route: Route<'_>,
        request: &Request<'_, '_>,
        cors: Fields,
        client: IpAddr,
        user: Option<Arc<str>>,
    ) -> Result<Self, Response> {
        let body = if request.version == Version::Http10 { Body::ToEnd } else { Body::Chunked };
        let (uplink, body_max) = match route {
            Route::Sse => (Uplink::Requests, settings.sse.max_request_body_size),
            Route::UniSse => (Uplink::None, settings.uni_sse.max_request_body_size),
            Route::SockJs(_) => (Uplink::Requests, settings.sockjs.max_request_body_size),
            Route::UniHttpStream => (Uplink::None, settings.uni_http_stream.max_request_body_size),
            _ => (Uplink::Requests, settings.http_stream.max_request_body_size),
        };
        let awaits = match route {
            Route::UniSse => settings.uni_sse.connect_code_to_http_response.enabled,
            Route::UniHttpStream => settings.uni_http_stream.connect_code_to_http_response.enabled,
            _ => false,
        };
        let sockjs = match route {
            Route::SockJs(Call::XhrStreaming(session) | Call::EventSource(session)) => {
                Some(session.to_owned())
            }
            _ => None,
        };
        let (protocol, framing, content_type) = match (route, content_protocol(request)) {
            (Route::SockJs(Call::XhrStreaming(_)), _) => {
                (Protocol::Json, Framing::Delimited(body), response::JAVASCRIPT)
            }
            (Route::Sse | Route::UniSse | Route::SockJs(_), _) => {
                (Protocol::Json, Framing::Events(body), "text/event-stream; charset=utf-8")
            }
            (Route::HttpStream, Protocol::Protobuf) => {
                (Protocol::Protobuf, Framing::Delimited(body), "application/octet-stream")
            }
            _ => (Protocol::Json, Framing::Lines(body), "application/json; charset=utf-8"),
        };
        let mut query = None;
        if sockjs.is_some() {
            query = Some(String::new());
        } else if request.method == "GET" {
            match parameter(request.query, "cf_connect") {
                Some(commands) if !commands.is_empty() => query = Some(commands.into_owned()),
                // Who only listens may have nothing to say.
                _ if uplink == Uplink::None => query = Some(String::new()),
                _ => return Err(Response::error(400)),
            }
        }
        let version = request.version;
        Ok(Self {
            protocol,
            framing,
            uplink,
            cors,
            body_max,
            sockjs,
            awaits,
            query,
            content_type,
            version,
            client,
            user,
        })
    }

    /// The request is complete.
    ///
    /// # Errors
    /// The answer to who only listens and says it in a way nobody can read.
    pub fn start(mut self, body: &[u8]) -> Result<StreamStart, Response> {
        let commands = match self.query.take() {
            Some(query) => query.into_bytes(),
            None => body.to_vec(),
        };
        if self.uplink == Uplink::None && decode_connect(self.protocol, &commands).is_err() {
            return Err(Response::error(400).with_fields(&self.cors));
        }
        Ok(StreamStart { plan: self, commands })
    }

    /// Of a response that carries a session of SockJS: how its body ends, and whether it is one of events.
    pub fn feed(&self) -> (Body, bool) {
        match self.framing {
            Framing::Events(body) => (body, true),
            Framing::Delimited(body) => (body, false),
            _ => (Body::ToEnd, false),
        }
    }

    /// The response to a listener that is not connected, for a reason with this code and text.
    pub fn refusal(&self, settings: &Settings, code: u32, text: &str, date: &str) -> Vec<u8> {
        let said = match self.framing {
            Framing::Events(_) => &settings.uni_sse.connect_code_to_http_response,
            _ => &settings.uni_http_stream.connect_code_to_http_response,
        };
        let response = match said.transforms.of(code) {
            // These have no body.
            Some(to) if matches!(to.status, 204 | 205 | 304) => Response::new(to.status, "", ""),
            Some(to) if to.body.is_empty() => Response::new(to.status, response::TEXT, text),
            Some(to) => Response::new(to.status, response::TEXT, to.body.as_str()),
            None => Response::error(500),
        };
        let mut out = Vec::new();
        let manner = Manner { version: self.version, ..Manner::LAST };
        response.with_fields(&self.cors).write(&mut out, date, manner);
        out
    }

    /// Head of the response, and what its body begins with.
    pub fn head(&self, date: &str) -> Vec<u8> {
        let mut headers = vec![
            ("Date", date),
            // Nobody on the way may hold back or keep what is sent.
            ("X-Accel-Buffering", "no"),
            ("Cache-Control", "private, no-cache, no-store, must-revalidate, max-age=0"),
            ("Pragma", "no-cache"),
            ("Expires", "0"),
        ];
        if self.version == Version::Http11 {
            headers.push(("Transfer-Encoding", "chunked"));
        }
        headers.extend(self.cors.iter().map(|(name, value)| (*name, &**value)));
        let mut out = Vec::new();
        let head = http::Response {
            status: 200,
            version: self.version,
            // The response ends when the session does, and the connection with it.
            keep_alive: false,
            content_type: self.content_type,
            content_length: None,
            headers: &headers,
        };
        http::write_response_head(&mut out, &head);
        if let Framing::Events(_) = self.framing {
            // Some proxies let nothing through before they have seen part of the body.
            out.extend_from_slice(&self.framing.wrap(b"\r\n"));
        } else if self.sockjs.is_some() {
            // The same for browsers, that SockJS asks for.
            let mut prelude = [b'h'; PRELUDE_LEN];
            prelude[PRELUDE_LEN - 1] = b'\n';
            out.extend_from_slice(&self.framing.wrap(&prelude));
        }
        out
    }
}

/// Which protocol the body of a request is in.
pub fn content_protocol(request: &Request<'_, '_>) -> Protocol {
    let content_type = request.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/octet-stream") {
        Protocol::Protobuf
    } else {
        Protocol::Json
    }
}
