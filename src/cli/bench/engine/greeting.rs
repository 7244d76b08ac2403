//! How a connection is let in: what it asks for, and the replies to connect and subscribe.

use super::{
    Engine, Load, Stage,
    body::{self, Head},
};
use crate::{
    cli::{
        bench::{
            BenchError,
            frames::{self, Upgrade},
            transport::Transport,
        },
        client::{
            Target,
            message::{self, Body},
        },
    },
    model::Protocol,
    wire::client::{Command, ConnectRequest, Request, SubscribeRequest},
};

impl Engine {
    pub(super) fn greet(
        &mut self,
        index: usize,
        payload: &[u8],
        now: u64,
        load: &mut impl Load,
    ) -> Result<bool, BenchError> {
        let mut ping = false;
        for message in message::decode(self.options.protocol, payload)? {
            let Stage::Greeting(missing) = self.conns[index].stage else {
                ping |= message.body == Body::Ping;
                continue;
            };
            match message.body {
                Body::Connect(connected) => self.pong = connected.pong,
                Body::Subscribe(subscribed) => load.on_subscribed(index, subscribed, now)?,
                Body::Ping => {
                    ping = true;
                    continue;
                }
                Body::Error { code, message, .. } => return Err(BenchError::Refused { code, message }),
                Body::Push { .. } | Body::Other => continue,
            }
            self.conns[index].stage = Stage::Greeting(missing - 1);
            if missing == 1 {
                self.conns[index].stage = Stage::Ready;
                self.ready += 1;
            }
        }
        Ok(ping)
    }

    /// Asks for the transport of connection `index`. A stream is told all it will ever be told at once.
    pub(super) fn request(&mut self, index: usize, load: &impl Load) -> Result<(), BenchError> {
        let transport = self.conns[index].transport;
        if transport == Transport::Websocket {
            return self.request_upgrade(index);
        }
        let protocol = self.options.protocol;
        let mut commands = Vec::new();
        for (at, command) in self.introduction(index, load).iter().enumerate() {
            message::encode(protocol, command, at == 0, &mut commands);
        }
        let (path, host) = (&self.stream_path, &self.options.target.host);
        let request = body::request(transport, protocol, path, host, &commands);
        self.scratch.extend_from_slice(&request);
        self.write(index)
    }

    /// Reads the answer to the upgrade and goes on with it; returns how many bytes it had.
    pub(super) fn upgraded(
        &mut self,
        index: usize,
        input: &[u8],
        load: &impl Load,
    ) -> Result<usize, BenchError> {
        let refused = |reason| BenchError::Upgrade { url: self.options.target.url.clone(), reason };
        let used = match frames::read_upgrade(input) {
            Upgrade::Partial => return Ok(0),
            Upgrade::Refused(reason) => return Err(refused(reason)),
            Upgrade::Done { compression: false, .. } if self.options.compression => {
                return Err(refused("without agreeing to compression".to_owned()));
            }
            Upgrade::Done { used, .. } => used,
        };
        self.begin_greeting(index);
        let commands = self.introduction(index, load);
        // Not before this answer: some servers refuse bytes that come too early.
        self.commands(&commands);
        self.write(index)?;
        Ok(used)
    }

    /// Reads the head before the body of a stream; returns how many bytes it had.
    pub(super) fn begun(&mut self, index: usize, input: &[u8]) -> Result<usize, BenchError> {
        match body::read_head(input) {
            Head::Partial => Ok(0),
            Head::Refused(reason) => {
                let what = self.conns[index].transport.name();
                Err(BenchError::Stream { what, path: self.stream_path.clone(), reason })
            }
            Head::Begins(used) => {
                self.begin_greeting(index);
                Ok(used)
            }
        }
    }

    fn begin_greeting(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        conn.stage = Stage::Greeting(1 + u8::from(conn.channel.is_some()));
    }

    fn request_upgrade(&mut self, index: usize) -> Result<(), BenchError> {
        let Target { path, host, .. } = &self.options.target;
        let offer = match self.options.protocol {
            Protocol::Json => "",
            Protocol::Protobuf => "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
        };
        let extension = match self.options.compression {
            true => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
            }
            false => "",
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n{offer}{extension}\r\n",
            frames::KEY
        );
        self.scratch.extend_from_slice(request.as_bytes());
        self.write(index)
    }

    /// Connect, and subscribe where there is a channel.
    fn introduction(&self, index: usize, load: &impl Load) -> Vec<Command<'static>> {
        let token = self.options.token.clone();
        let mut connect =
            ConnectRequest { token: token.into(), name: "corecast-bench".into(), ..Default::default() };
        load.introduce(index, &mut connect);
        let mut commands = vec![Command { id: 1, request: Request::Connect(Box::new(connect)) }];
        if let Some(channel) = self.conns[index].channel.clone() {
            let mut subscribe = SubscribeRequest { channel: channel.into(), ..Default::default() };
            load.wish(index, &mut subscribe);
            commands.push(Command { id: 2, request: Request::Subscribe(Box::new(subscribe)) });
        }
        commands
    }
}
