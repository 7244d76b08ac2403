//! The JSON form of the client's half of the protocol.

use super::message::{Body, Connected, Event, Message, MessageError, Received, Subscribed, Who};
use crate::wire::client::{Command, ConnectRequest, PublishRequest, Request, SubscribeRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write;

pub fn encode(command: &Command<'_>, out: &mut Vec<u8>) {
    if matches!(command.request, Request::None) {
        out.extend_from_slice(b"{}");
        return;
    }
    out.extend_from_slice(b"{\"id\":");
    number(command.id.into(), out);
    match &command.request {
        Request::Connect(request) => connect(request, out),
        Request::Subscribe(request) => subscribe(request, out),
        Request::Publish(request) => publish(request, out),
        Request::Unsubscribe { channel } => {
            out.extend_from_slice(b",\"unsubscribe\":{\"channel\":");
            string(channel, out);
            out.push(b'}');
        }
        _ => {}
    }
    out.push(b'}');
}

fn connect(request: &ConnectRequest<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"connect\":{");
    let mut fields = Fields { first: true, out };
    fields.string("token", &request.token);
    fields.string("name", &request.name);
    fields.string("version", &request.version);
    out.push(b'}');
}

fn subscribe(request: &SubscribeRequest<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"subscribe\":{");
    let mut fields = Fields { first: true, out };
    fields.string("channel", &request.channel);
    fields.string("token", &request.token);
    fields.flag("recover", request.recover);
    fields.string("epoch", &request.epoch);
    if request.offset > 0 {
        fields.name("offset");
        number(request.offset, fields.out);
    }
    fields.flag("positioned", request.positioned);
    fields.flag("recoverable", request.recoverable);
    fields.flag("join_leave", request.join_leave);
    out.push(b'}');
}

fn publish(request: &PublishRequest<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"publish\":{\"channel\":");
    string(&request.channel, out);
    if let Some(data) = request.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.push(b'}');
}

struct Fields<'a> {
    first: bool,
    out: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.first = false;
    }

    fn string(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            string(value, self.out);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.name(name);
            self.out.extend_from_slice(b"true");
        }
    }
}

// Writing into memory cannot fail.
fn number(value: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{value}");
}

fn string(value: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawReply<'a> {
    id: u32,
    #[serde(borrow)]
    push: Option<RawPush<'a>>,
    error: Option<RawError>,
    connect: Option<RawConnect>,
    #[serde(borrow)]
    subscribe: Option<RawSubscribe<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawError {
    code: u32,
    message: String,
    temporary: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawConnect {
    client: String,
    version: String,
    ping: u32,
    pong: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSubscribe<'a> {
    recoverable: bool,
    epoch: String,
    offset: u64,
    recovered: bool,
    was_recovering: bool,
    #[serde(borrow)]
    publications: Vec<RawPublication<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPublication<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    offset: u64,
    info: Option<RawInfo>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawInfo {
    user: String,
    client: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPush<'a> {
    channel: String,
    #[serde(borrow, rename = "pub")]
    publication: Option<RawPublication<'a>>,
    join: Option<RawMember>,
    leave: Option<RawMember>,
    unsubscribe: Option<RawCode>,
    disconnect: Option<RawCode>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMember {
    info: RawInfo,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCode {
    code: u32,
    reason: String,
}

pub fn decode(frame: &[u8]) -> Result<Vec<Message>, MessageError> {
    let lines = frame.strip_suffix(b"\n").unwrap_or(frame);
    lines
        .split(|byte| *byte == b'\n')
        .map(|line| match line.first() {
            _ if line == b"{}" => Ok(Message { id: 0, body: Body::Ping }),
            // serde reads structs from arrays too.
            Some(b'{') => serde_json::from_slice(line).map(message).map_err(|_| MessageError::Json),
            _ => Err(MessageError::Json),
        })
        .collect()
}

fn message(raw: RawReply<'_>) -> Message {
    let body = if let Some(it) = raw.error {
        Body::Error { code: it.code, message: it.message, temporary: it.temporary }
    } else if let Some(it) = raw.connect {
        Body::Connect(Connected { client: it.client, version: it.version, ping: it.ping, pong: it.pong })
    } else if let Some(it) = raw.subscribe {
        Body::Subscribe(Subscribed {
            recoverable: it.recoverable,
            epoch: it.epoch,
            offset: it.offset,
            recovered: it.recovered,
            was_recovering: it.was_recovering,
            publications: it.publications.into_iter().map(received).collect(),
        })
    } else if let Some(it) = raw.push {
        let channel = it.channel.clone();
        Body::Push { channel, event: event(it) }
    } else {
        Body::Other
    };
    Message { id: raw.id, body }
}

fn event(raw: RawPush<'_>) -> Event {
    if let Some(it) = raw.publication {
        Event::Publication(received(it))
    } else if let Some(it) = raw.join {
        Event::Join(who(it.info))
    } else if let Some(it) = raw.leave {
        Event::Leave(who(it.info))
    } else if let Some(it) = raw.unsubscribe {
        Event::Unsubscribe { code: it.code, reason: it.reason }
    } else if let Some(it) = raw.disconnect {
        Event::Disconnect { code: it.code, reason: it.reason }
    } else {
        Event::Other
    }
}

fn received(raw: RawPublication<'_>) -> Received {
    Received {
        data: raw.data.map(|it| it.get().as_bytes().to_vec()).unwrap_or_default(),
        offset: raw.offset,
        info: raw.info.map(who),
    }
}

fn who(raw: RawInfo) -> Who {
    Who { user: raw.user, client: raw.client }
}
