//! A blocking client of the protocol for the command line: one connection, one thread, clear errors.
//!
//! It does not reconnect; [`Client::connect`] again and subscribe from the last position.

pub mod message;

use super::wire::{self, Wire};
use crate::{
    model::Protocol,
    wire::client::{Command, ConnectRequest, DecodeError, Request},
};
use message::{Body, Connected, Message};
use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::Path,
    time::Duration,
};
use tungstenite::{
    Message as WsMessage, WebSocket,
    client::{IntoClientRequest, client_with_config},
    http::HeaderValue,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later than announced a ping may come before the server counts as gone.
const PING_DELAY_MAX: Duration = Duration::from_secs(10);

/// What went wrong, as the person at the terminal should read it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}: not an address like ws://127.0.0.1:8000/connection/websocket")]
    Url(String),
    #[error("{0}: TLS is not supported here; take http:// or ws://")]
    Tls(String),
    #[error("{url}: TLS failed ({reason}); --ca FILE names certificates to trust")]
    Trust { url: String, reason: String },
    #[error("{host}: the name does not resolve ({source})")]
    Resolve { host: String, source: io::Error },
    #[error(
        "nothing listens on {address} ({source}); start a server with `corecast serve --dev` or give --url"
    )]
    Connect { address: SocketAddr, source: io::Error },
    #[error("{url} did not become a WebSocket ({reason}); is the path right?")]
    Upgrade { url: String, reason: String },
    #[error("the server refused {what}: {code} {message}{}", remedy(*code))]
    Refused { what: String, code: u32, message: String, temporary: bool },
    #[error("the server closed the connection: {code} {reason}{}", remedy((*code).into()))]
    Closed { code: u16, reason: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
    #[error("the server sent what is not of the protocol: {0}")]
    Message(#[from] DecodeError),
}

impl ClientError {
    /// Whether it makes sense to connect again: the rule of the protocol for codes, yes for a broken wire.
    #[must_use]
    pub fn transient(&self) -> bool {
        match self {
            Self::Closed { code, .. } => !matches!(code, 3500..=3999 | 4500..=4999 | 1009),
            Self::Refused { code, temporary, .. } => *temporary || *code < 100,
            Self::Connect { .. } | Self::Broken(_) | Self::Silent(_) => true,
            Self::Url(_)
            | Self::Tls(_)
            | Self::Trust { .. }
            | Self::Resolve { .. }
            | Self::Upgrade { .. }
            | Self::Message(_) => false,
        }
    }
}

fn remedy(code: u32) -> &'static str {
    match code {
        3500 | 109 => "; give a valid token with --token",
        3501 => "; the server may want a token (--token) or be older than protocol version 2",
        101 => "; give a token with --token",
        102 => "; the part of the channel before `:` must be a configured namespace",
        103 => "; allow it in the server's channel options, or run the server with --dev",
        108 => "; the channel's options do not enable this",
        _ => "",
    }
}

/// `ws://host[:port]/path`, or with `wss`, `http` or `https`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    /// As it stands in the `Host` header.
    pub host: String,
    pub path: String,
    pub address: SocketAddr,
    pub tls: bool,
}

impl Target {
    /// # Errors
    /// [`ClientError`] when `url` is not such an address, or its name does not resolve.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Url(url.into());
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let tls = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(bad()),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() || path.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) {
            return Err(bad());
        }
        let has_port =
            host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']') && port.parse::<u16>().is_ok());
        let with_port =
            if has_port { host.to_owned() } else { format!("{host}:{}", if tls { 443 } else { 80 }) };
        let resolve = |source| ClientError::Resolve { host: host.into(), source };
        let address = with_port
            .to_socket_addrs()
            .map_err(resolve)?
            .next()
            .ok_or_else(|| resolve(io::Error::new(io::ErrorKind::NotFound, "no address")))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { url: url.into(), host: host.into(), path: path.into(), address, tls })
    }
}

/// One connection that has been let in.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<Wire>,
    protocol: Protocol,
    last_id: u32,
    waiting: VecDeque<Message>,
    pub connected: Connected,
}

impl Client {
    /// Connects, upgrades and introduces itself; waits for the server's answer. `ca`: see [`wire::trusting`].
    ///
    /// # Errors
    /// [`ClientError`]; `transient` says whether a later attempt may succeed.
    pub fn connect(
        target: &Target,
        protocol: Protocol,
        token: &str,
        ca: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let refused = |source| ClientError::Connect { address: target.address, source };
        let stream = TcpStream::connect_timeout(&target.address, CONNECT_TIMEOUT).map_err(refused)?;
        stream.set_nodelay(true).map_err(broken)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT)).map_err(broken)?;
        stream.set_write_timeout(Some(CONNECT_TIMEOUT)).map_err(broken)?;
        let stream = secure(stream, target, ca)
            .map_err(|error| ClientError::Trust { url: target.url.clone(), reason: error.to_string() })?;
        let upgrade = |reason: String| ClientError::Upgrade { url: target.url.clone(), reason };
        let mut request = format!("ws://{}{}", target.host, target.path)
            .into_client_request()
            .map_err(|error| upgrade(error.to_string()))?;
        if protocol == Protocol::Protobuf {
            let offer = HeaderValue::from_static("centrifuge-protobuf");
            request.headers_mut().insert("Sec-WebSocket-Protocol", offer);
        }
        let (socket, _) =
            client_with_config(request, stream, None).map_err(|error| upgrade(error.to_string()))?;
        let mut client =
            Self { socket, protocol, last_id: 0, waiting: VecDeque::new(), connected: Connected::default() };
        let request =
            ConnectRequest { token: token.into(), name: "corecast-cli".into(), ..Default::default() };
        let id = client.send(Request::Connect(Box::new(request)))?;
        if let Body::Connect(connected) = client.answer(id, "the connection")? {
            client.connected = connected;
        }
        let patience = match client.connected.ping {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into()) + PING_DELAY_MAX),
        };
        client.socket.get_ref().stream().set_read_timeout(patience).map_err(broken)?;
        Ok(client)
    }

    /// Sends one command; returns its id.
    ///
    /// # Errors
    /// [`ClientError`] when the connection is gone.
    pub fn send(&mut self, request: Request<'_>) -> Result<u32, ClientError> {
        self.last_id += 1;
        self.write(&Command { id: self.last_id, request })?;
        Ok(self.last_id)
    }

    fn write(&mut self, command: &Command<'_>) -> Result<(), ClientError> {
        let mut frame = Vec::new();
        message::encode(self.protocol, command, true, &mut frame);
        let message = match self.protocol {
            Protocol::Json => WsMessage::text(
                String::from_utf8(frame).map_err(|_| ClientError::Broken("data is not UTF-8".into()))?,
            ),
            Protocol::Protobuf => WsMessage::binary(frame),
        };
        self.socket.send(message).map_err(|error| self.lost(error))
    }

    /// Waits for the reply to the command `id`; what arrives before it is kept for [`Self::next`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the server answers with an error; `what` names the request in it.
    pub fn answer(&mut self, id: u32, what: &str) -> Result<Body, ClientError> {
        let mut before = VecDeque::new();
        loop {
            let message = self.next()?;
            if message.id != id {
                before.push_back(message);
                continue;
            }
            before.append(&mut self.waiting);
            self.waiting = before;
            return match message.body {
                Body::Error { code, message, temporary } => {
                    Err(ClientError::Refused { what: what.into(), code, message, temporary })
                }
                body => Ok(body),
            };
        }
    }

    /// The next reply or push. Pings are answered here and not returned.
    ///
    /// # Errors
    /// [`ClientError`] when the connection is gone, or silent for longer than pings allow.
    #[allow(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> Result<Message, ClientError> {
        loop {
            while let Some(message) = self.waiting.pop_front() {
                if message.body != Body::Ping {
                    return Ok(message);
                }
                if self.connected.pong {
                    self.write(&Command { id: 0, request: Request::None })?;
                }
            }
            let frame = match self.socket.read() {
                Ok(WsMessage::Text(text)) => text.as_bytes().to_vec(),
                Ok(WsMessage::Binary(bytes)) => bytes.to_vec(),
                Ok(WsMessage::Close(frame)) => {
                    let (code, reason) = frame
                        .map_or((1005, String::new()), |it| (it.code.into(), it.reason.as_str().to_owned()));
                    // The server waits for our half of the farewell.
                    let _ = self.socket.flush();
                    return Err(ClientError::Closed { code, reason });
                }
                Ok(_) => continue,
                Err(error) => return Err(self.lost(error)),
            };
            self.waiting.extend(message::decode(self.protocol, &frame)?);
        }
    }

    /// Says goodbye. Errors do not matter any more.
    pub fn close(mut self) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
    }

    fn lost(&self, error: tungstenite::Error) -> ClientError {
        match error {
            tungstenite::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                let patience = self.socket.get_ref().stream().read_timeout().ok().flatten();
                ClientError::Silent(patience.unwrap_or_default())
            }
            error => ClientError::Broken(error.to_string()),
        }
    }
}

/// The stream as the target wants it; with TLS the handshake is done.
///
/// # Errors
/// TLS failed, or there is nobody to trust.
pub fn secure(stream: TcpStream, target: &Target, ca: Option<&Path>) -> io::Result<Wire> {
    if !target.tls {
        return Ok(Wire::Plain(stream));
    }
    let mut wire = Wire::tls(stream, &wire::trusting(ca)?, &target.host)?;
    wire.shake_hands()?;
    Ok(wire)
}

fn broken(error: impl ToString) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// Bytes as they may stand in a terminal: control characters and bytes that are not UTF-8 are replaced.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(|c: char| c.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::PublishRequest;
    use std::thread;
    use tungstenite::protocol::CloseFrame;

    #[test]
    fn target_table() {
        #[track_caller]
        fn check(url: &str, want: Option<(&str, &str, &str)>) {
            let got = Target::parse(url).ok().map(|it| (it.host, it.path, it.address.to_string()));
            assert_eq!(got, want.map(|(host, path, to)| (host.into(), path.into(), to.into())), "{url}");
        }
        check("ws://127.0.0.1:8000/x?a=b", Some(("127.0.0.1:8000", "/x?a=b", "127.0.0.1:8000")));
        check("ws://127.0.0.1", Some(("127.0.0.1", "/", "127.0.0.1:80")));
        check("http://[::1]:8000/x", Some(("[::1]:8000", "/x", "[::1]:8000")));
        check("ws://[::1]/x", Some(("[::1]", "/x", "[::1]:80")));
        check("wss://127.0.0.1/", Some(("127.0.0.1", "/", "127.0.0.1:443")));
        check("https://127.0.0.1:1/x", Some(("127.0.0.1:1", "/x", "127.0.0.1:1")));
        check("ftp://127.0.0.1/", None);
        check("127.0.0.1:8000", None);
        check("ws:///x", None);
        check("ws://127.0.0.1/a b", None);
        check("ws://127.0.0.1/a\r\nb", None);
    }

    // https://centrifugal.dev/docs/transports/client_protocol: 3500–3999 and 4500–4999 are final.
    #[test]
    fn transient_codes() {
        for (code, want) in [(3000, true), (3499, true), (3500, false), (3999, false), (4000, true)] {
            assert_eq!(ClientError::Closed { code, reason: String::new() }.transient(), want, "{code}");
        }
        for (code, want) in
            [(4499, true), (4500, false), (4999, false), (5000, true), (1006, true), (1009, false)]
        {
            assert_eq!(ClientError::Closed { code, reason: String::new() }.transient(), want, "{code}");
        }
    }

    #[test]
    fn printable_bytes() {
        assert_eq!(printable(b"a\x1b[31m\xff"), "a\u{fffd}[31m\u{fffd}");
    }

    // A push before a reply is kept, a ping is answered, an error and a close tell their code.
    #[test]
    fn one_conversation() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/x", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            let mut heard = Vec::new();
            for answer in [
                r#"{"id":1,"connect":{"client":"k","ping":25,"pong":true}}"#,
                "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":7}}}\n{}\n{\"id\":2,\"publish\":{}}",
            ] {
                heard.push(socket.read().unwrap().into_text().unwrap().to_string());
                socket.send(WsMessage::text(answer)).unwrap();
            }
            // The third command and the pong, in the order they were written.
            heard.push(socket.read().unwrap().into_text().unwrap().to_string());
            heard.push(socket.read().unwrap().into_text().unwrap().to_string());
            let error = r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#;
            socket.send(WsMessage::text(error)).unwrap();
            let frame = CloseFrame { code: 3503.into(), reason: "force disconnect".into() };
            socket.close(Some(frame)).unwrap();
            while socket.read().is_ok() {}
            heard
        });
        let target = Target::parse(&url).unwrap();
        let mut client = Client::connect(&target, Protocol::Json, "t", None).unwrap();
        assert_eq!(client.connected.ping, 25);
        let publish = || {
            Request::Publish(PublishRequest {
                channel: "c".into(),
                data: Some(b"7"),
                ..PublishRequest::default()
            })
        };
        let id = client.send(publish()).unwrap();
        assert!(matches!(client.answer(id, "x"), Ok(Body::Other)));
        assert!(matches!(client.next().unwrap().body, Body::Push { .. }));
        let id = client.send(publish()).unwrap();
        let refused = client.answer(id, "the publication").unwrap_err();
        assert!(matches!(refused, ClientError::Refused { code: 103, .. }), "{refused}");
        let closed = client.next().unwrap_err();
        assert!(matches!(closed, ClientError::Closed { code: 3503, .. }), "{closed}");
        drop(client);
        let heard = server.join().unwrap();
        assert_eq!(heard[0], r#"{"id":1,"connect":{"token":"t","name":"corecast-cli"}}"#);
        assert_eq!(&heard[2..], ["{}", r#"{"id":3,"publish":{"channel":"c","data":7}}"#]);
    }
}
