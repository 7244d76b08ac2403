//! How subscribers of a run are connected: by WebSocket, or by a response without an end.
//!
//! A connection that has to speak after it was let in, as publishers do, is always a WebSocket.

use super::BenchError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    #[default]
    Websocket,
    /// The body of the answer to a POST: lines of JSON, or Protobuf with lengths.
    #[value(name = "http_stream", alias = "http-stream")]
    HttpStream,
    /// An event stream, in JSON only.
    Sse,
}

/// What a server needs to serve all of them. This client answers pings over WebSocket only, so none come.
pub const SETTINGS: &[&str] = &["http_stream.enabled=true", "sse.enabled=true", "client.ping_interval=1h"];

impl Transport {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "WebSocket",
            Self::HttpStream => "http_stream",
            Self::Sse => "sse",
        }
    }

    /// What a server of the run's own needs.
    #[must_use]
    pub fn settings(self) -> &'static [&'static str] {
        if self == Self::Websocket { &[] } else { SETTINGS }
    }

    /// Where it is served, beside the path of WebSocket.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when that path does not say.
    pub fn path(self, websocket: &str) -> Result<String, BenchError> {
        if self == Self::Websocket {
            return Ok(websocket.to_owned());
        }
        let folder = websocket.strip_suffix("websocket").ok_or(BenchError::Usage(
            "--transport needs an address that ends with /websocket: the other transports are looked for beside it",
        ))?;
        Ok(format!("{folder}{}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        #[track_caller]
        fn check(transport: Transport, path: &str, want: Option<&str>) {
            assert_eq!(transport.path(path).ok().as_deref(), want);
        }
        check(Transport::Websocket, "/any", Some("/any"));
        check(Transport::HttpStream, "/connection/websocket", Some("/connection/http_stream"));
        check(Transport::Sse, "/websocket", Some("/sse"));
        check(Transport::Sse, "/any", None);
    }
}
