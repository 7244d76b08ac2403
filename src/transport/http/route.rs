//! Which path leads where. Paths are exact: no trailing slash, no decoding.

use crate::{
    config::Settings,
    wire::sockjs::{self, Call},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`: what is where.
    Index,
    WebSocket,
    HttpStream,
    Sse,
    /// Commands of clients of the two.
    Emulation,
    /// SockJS.
    SockJs(Call<'a>),
    /// Clients that only listen.
    UniWebSocket,
    UniHttpStream,
    UniSse,
    /// Whether this server can be reached.
    Init,
    Health,
    Metrics,
    /// A method of the server API, known or not.
    Api(&'a str),
    /// The single endpoint of old API clients.
    ApiLegacy,
    NotFound,
}

impl Route<'_> {
    /// What `Allow` says.
    #[must_use]
    pub fn methods(self) -> &'static str {
        match self {
            Self::Api(_) | Self::ApiLegacy => "POST",
            Self::HttpStream | Self::UniHttpStream | Self::Emulation => "POST, OPTIONS",
            Self::Sse | Self::UniSse => "GET, POST, OPTIONS",
            Self::WebSocket | Self::UniWebSocket | Self::SockJs(Call::WebSocket | Call::RawWebSocket) => {
                "GET"
            }
            Self::Init | Self::SockJs(Call::Info | Call::EventSource(_)) => "GET, OPTIONS",
            Self::SockJs(Call::Xhr(_) | Call::XhrStreaming(_) | Call::XhrSend(_)) => "POST, OPTIONS",
            Self::Index | Self::Health | Self::Metrics | Self::SockJs(Call::Greeting) | Self::NotFound => {
                "GET, HEAD"
            }
        }
    }

    /// Pages of other origins may ask, if `client.allowed_origins` says so.
    #[must_use]
    pub fn crosses_origins(self) -> bool {
        matches!(
            self,
            Self::HttpStream
                | Self::Sse
                | Self::UniHttpStream
                | Self::UniSse
                | Self::Init
                | Self::Emulation
                | Self::SockJs(
                    Call::Info
                        | Call::Xhr(_)
                        | Call::XhrStreaming(_)
                        | Call::EventSource(_)
                        | Call::XhrSend(_)
                )
        )
    }

    #[must_use]
    pub fn allows(self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }
}

#[must_use]
pub fn route<'a>(settings: &Settings, path: &'a str) -> Route<'a> {
    let api = &settings.http_api;
    if !settings.websocket.disabled && path == settings.websocket.handler_prefix {
        return Route::WebSocket;
    }
    if settings.http_stream.enabled && path == settings.http_stream.handler_prefix {
        return Route::HttpStream;
    }
    if settings.sse.enabled && path == settings.sse.handler_prefix {
        return Route::Sse;
    }
    if settings.uni_websocket.enabled && path == settings.uni_websocket.handler_prefix {
        return Route::UniWebSocket;
    }
    if settings.uni_http_stream.enabled && path == settings.uni_http_stream.handler_prefix {
        return Route::UniHttpStream;
    }
    if settings.uni_sse.enabled && path == settings.uni_sse.handler_prefix {
        return Route::UniSse;
    }
    if settings.init.enabled && path == settings.init.handler_prefix {
        return Route::Init;
    }
    if settings.emulates() && path == settings.emulation.handler_prefix {
        return Route::Emulation;
    }
    if settings.sockjs.enabled
        && let Some(rest) = path.strip_prefix(settings.sockjs.handler_prefix.as_str())
        && let Some(call) = sockjs::call(rest)
    {
        return Route::SockJs(call);
    }
    if settings.health.enabled && path == settings.health.handler_prefix {
        return Route::Health;
    }
    if settings.prometheus.enabled && path == settings.prometheus.handler_prefix {
        return Route::Metrics;
    }
    if !api.disabled
        && let Some(rest) = path.strip_prefix(api.handler_prefix.as_str())
    {
        match rest.strip_prefix('/') {
            Some(name) if !name.is_empty() && !name.contains('/') => return Route::Api(name),
            None if rest.is_empty() => return Route::ApiLegacy,
            _ => {}
        }
    }
    if path == "/" { Route::Index } else { Route::NotFound }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let settings = Settings::default();
        for (path, expected) in [
            ("/", Route::Index),
            ("/connection/websocket", Route::WebSocket),
            ("/connection/websocket/", Route::NotFound),
            ("/connection/http_stream", Route::NotFound),
            ("/emulation", Route::NotFound),
            ("/connection/init", Route::NotFound),
            ("/connection/sockjs/info", Route::NotFound),
            ("/health", Route::Health),
            ("/health/", Route::NotFound),
            ("/metrics", Route::Metrics),
            ("/api", Route::ApiLegacy),
            ("/api/", Route::NotFound),
            ("/api/publish", Route::Api("publish")),
            ("/api/publish/", Route::NotFound),
            ("/apis", Route::NotFound),
            ("/Health", Route::NotFound),
            ("/%68ealth", Route::NotFound),
        ] {
            assert_eq!(route(&settings, path), expected, "{path}");
        }
        let mut on = Settings::default();
        on.sse.enabled = true;
        on.uni_websocket.enabled = true;
        on.uni_sse.enabled = true;
        on.uni_http_stream.enabled = true;
        on.sockjs.enabled = true;
        on.init.enabled = true;
        for (path, expected) in [
            ("/connection/sse", Route::Sse),
            ("/connection/http_stream", Route::NotFound),
            ("/emulation", Route::Emulation),
            ("/connection/uni_websocket", Route::UniWebSocket),
            ("/connection/uni_sse", Route::UniSse),
            ("/connection/uni_http_stream", Route::UniHttpStream),
            ("/emulation/", Route::NotFound),
            ("/connection/init", Route::Init),
            ("/connection/sockjs", Route::SockJs(Call::Greeting)),
            ("/connection/sockjs/info", Route::SockJs(Call::Info)),
            ("/connection/sockjs/0/a/websocket", Route::SockJs(Call::WebSocket)),
            ("/connection/sockjss", Route::NotFound),
        ] {
            assert_eq!(route(&on, path), expected, "{path}");
        }
        let mut off = Settings::default();
        off.websocket.disabled = true;
        off.http_api.disabled = true;
        off.health.enabled = false;
        off.prometheus.enabled = false;
        for path in ["/connection/websocket", "/api", "/api/info", "/health", "/metrics"] {
            assert_eq!(route(&off, path), Route::NotFound, "{path}");
        }
    }
}
