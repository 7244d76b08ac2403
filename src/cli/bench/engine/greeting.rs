//! How a connection is let in: the upgrade, and the replies to connect and subscribe.

use super::{Engine, Load, Stage};
use crate::{
    cli::{
        bench::{BenchError, frames},
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

    pub(super) fn request_upgrade(&mut self, index: usize) -> Result<(), BenchError> {
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

    /// Not before the answer to the upgrade: some servers refuse bytes that come too early.
    pub(super) fn introduce(&mut self, index: usize, load: &impl Load) -> Result<(), BenchError> {
        let token = self.options.token.clone();
        let connect =
            ConnectRequest { token: token.into(), name: "corecast-bench".into(), ..Default::default() };
        let mut commands = vec![Command { id: 1, request: Request::Connect(Box::new(connect)) }];
        if let Some(channel) = self.conns[index].channel.clone() {
            let mut subscribe = SubscribeRequest { channel: channel.into(), ..Default::default() };
            load.wish(index, &mut subscribe);
            commands.push(Command { id: 2, request: Request::Subscribe(Box::new(subscribe)) });
        }
        self.commands(&commands);
        self.write(index)
    }
}
