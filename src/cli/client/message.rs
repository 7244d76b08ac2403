//! What the tools keep of a server's messages: owned, and only the fields they show.

use crate::{
    model::Protocol,
    wire::client::{
        self, Command, DecodeError, PeerInfo, ServerMessage, ServerPush, ServerReply, decode_replies,
        encode_command,
    },
};

/// One message from a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Of the command this answers; 0 for pushes and pings.
    pub id: u32,
    pub body: Body,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    Ping,
    Error {
        code: u32,
        message: String,
        temporary: bool,
    },
    Connect(Connected),
    Subscribe(Subscribed),
    Push {
        channel: String,
        event: Event,
    },
    /// The result of another command.
    Other,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Seconds between pings; 0 = none come.
    pub ping: u32,
    /// Whether pings must be answered.
    pub pong: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    pub recoverable: bool,
    pub epoch: String,
    pub offset: u64,
    pub recovered: bool,
    pub was_recovering: bool,
    pub publications: Vec<Received>,
}

/// A publication as a client sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub data: Vec<u8>,
    pub offset: u64,
    pub info: Option<Who>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub user: String,
    pub client: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Publication(Received),
    Join(Who),
    Leave(Who),
    Unsubscribe { code: u32, reason: String },
    Disconnect { code: u32, reason: String },
    Other,
}

/// Appends one command to the messages of a frame in `out`; `first` says that it begins the frame.
pub fn encode(protocol: Protocol, command: &Command<'_>, first: bool, out: &mut Vec<u8>) {
    if !first && protocol == Protocol::Json {
        out.push(b'\n');
    }
    encode_command(protocol, command, out);
}

/// Reads every message of one frame.
///
/// # Errors
/// [`DecodeError`] when one of them is not of the protocol.
pub fn decode(protocol: Protocol, frame: &[u8]) -> Result<Vec<Message>, DecodeError> {
    decode_replies(protocol, frame).map(|it| it.map(message)).collect()
}

fn message(message: ServerMessage<'_>) -> Message {
    match message {
        ServerMessage::Ping => Message { id: 0, body: Body::Ping },
        ServerMessage::Reply { id, reply } => Message { id, body: body(reply) },
        ServerMessage::Push { channel, push } => {
            Message { id: 0, body: Body::Push { channel: channel.into_owned(), event: event(push) } }
        }
        // Nobody here asks for numbers.
        ServerMessage::NumberedPush { number, push } => {
            Message { id: 0, body: Body::Push { channel: format!("number {number}"), event: event(push) } }
        }
    }
}

fn body(reply: ServerReply<'_>) -> Body {
    match reply {
        ServerReply::Error { code, message, temporary } => {
            Body::Error { code, message: message.into_owned(), temporary }
        }
        ServerReply::Connect(it) => Body::Connect(Connected { ping: it.ping, pong: it.pong }),
        ServerReply::Subscribe(it) => Body::Subscribe(Subscribed {
            recoverable: it.recoverable,
            epoch: it.epoch.into_owned(),
            offset: it.offset,
            recovered: it.recovered,
            was_recovering: it.was_recovering,
            publications: it.publications.into_iter().map(received).collect(),
        }),
        ServerReply::Unsubscribe
        | ServerReply::Publish
        | ServerReply::Presence(_)
        | ServerReply::PresenceStats { .. }
        | ServerReply::History { .. }
        | ServerReply::Rpc { .. }
        | ServerReply::Refresh { .. }
        | ServerReply::SubRefresh { .. } => Body::Other,
    }
}

fn event(push: ServerPush<'_>) -> Event {
    match push {
        ServerPush::Publication(it) => Event::Publication(received(it)),
        ServerPush::Join(it) => Event::Join(who(it)),
        ServerPush::Leave(it) => Event::Leave(who(it)),
        ServerPush::Unsubscribe { code, reason } => Event::Unsubscribe { code, reason: reason.into_owned() },
        ServerPush::Disconnect { code, reason } => Event::Disconnect { code, reason: reason.into_owned() },
        ServerPush::Subscribe { .. }
        | ServerPush::Message { .. }
        | ServerPush::Refresh { .. }
        | ServerPush::Other => Event::Other,
    }
}

fn received(it: client::Received<'_>) -> Received {
    Received { data: it.data.to_vec(), offset: it.offset, info: it.info.map(who) }
}

fn who(it: PeerInfo<'_>) -> Who {
    Who { user: it.user.into_owned(), client: it.client.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::{ConnectRequest, PublishRequest, Request, SubscribeRequest};

    fn commands() -> Vec<Command<'static>> {
        let connect = ConnectRequest { token: "t\"".into(), name: "n".into(), ..Default::default() };
        let subscribe = SubscribeRequest {
            channel: "c".into(),
            recover: true,
            epoch: "e".into(),
            offset: 300,
            recoverable: true,
            join_leave: true,
            ..Default::default()
        };
        let publish = PublishRequest { channel: "c".into(), data: Some(b"[1]"), ..PublishRequest::default() };
        [
            (1, Request::Connect(Box::new(connect))),
            (2, Request::Subscribe(Box::new(subscribe))),
            (3, Request::Publish(publish)),
            (200, Request::Unsubscribe { channel: "c".into() }),
            (0, Request::None),
        ]
        .map(|(id, request)| Command { id, request })
        .into()
    }

    fn encode_all(protocol: Protocol) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, command) in commands().iter().enumerate() {
            encode(protocol, command, at == 0, &mut out);
        }
        out
    }

    #[test]
    fn json_commands() {
        let want = concat!(
            r#"{"id":1,"connect":{"token":"t\"","name":"n"}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":300,"recoverable":true,"join_leave":true}}"#,
            "\n",
            r#"{"id":3,"publish":{"channel":"c","data":[1]}}"#,
            "\n",
            r#"{"id":200,"unsubscribe":{"channel":"c"}}"#,
            "\n{}"
        );
        assert_eq!(String::from_utf8(encode_all(Protocol::Json)).unwrap(), want);
    }

    // Field numbers: client.proto. Computed by hand, so that encoder and decoder cannot agree on an error.
    #[test]
    fn protobuf_commands() {
        let mut want = b"\x0b\x08\x01\x22\x07\x0a\x02t\"\x22\x01n".to_vec();
        want.extend_from_slice(b"\x13\x08\x02\x2a\x0f\x0a\x01c\x18\x01\x32\x01e\x38\xac\x02\x50\x01\x58\x01");
        want.extend_from_slice(b"\x0c\x08\x03\x3a\x08\x0a\x01c\x12\x03[1]");
        want.extend_from_slice(b"\x08\x08\xc8\x01\x32\x03\x0a\x01c");
        want.push(0);
        assert_eq!(encode_all(Protocol::Protobuf), want);
    }

    fn publication() -> Received {
        let info = Who { user: "u".into(), client: "k".into() };
        Received { data: b"[1]".into(), offset: 7, info: Some(info) }
    }

    fn messages() -> Vec<Message> {
        let push = |event| Body::Push { channel: "c".into(), event };
        let subscribed = Subscribed {
            recoverable: true,
            epoch: "e".into(),
            offset: 7,
            recovered: true,
            was_recovering: true,
            publications: vec![publication()],
        };
        let connected = Connected { ping: 25, pong: true };
        let who = Who { user: String::new(), client: "k".into() };
        vec![
            Message { id: 1, body: Body::Connect(connected) },
            Message { id: 2, body: Body::Subscribe(subscribed) },
            Message { id: 3, body: Body::Error { code: 103, message: "no".into(), temporary: true } },
            Message { id: 4, body: Body::Other },
            Message { id: 0, body: push(Event::Publication(publication())) },
            Message { id: 0, body: push(Event::Join(who.clone())) },
            Message { id: 0, body: push(Event::Leave(who)) },
            Message { id: 0, body: push(Event::Unsubscribe { code: 2500, reason: "r".into() }) },
            Message { id: 0, body: Body::Ping },
        ]
    }

    #[test]
    fn json_messages() {
        let frame = concat!(
            r#"{"id":1,"connect":{"client":"k","version":"v","ping":25,"pong":true}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","publications":[{"data":[1],"info":{"user":"u","client":"k"},"offset":7}],"recovered":true,"offset":7,"was_recovering":true,"new":{}}}"#,
            "\n",
            r#"{"id":3,"error":{"code":103,"message":"no","temporary":true}}"#,
            "\n",
            r#"{"id":4,"publish":{}}"#,
            "\n",
            r#"{"push":{"channel":"c","pub":{"data":[1],"info":{"user":"u","client":"k"},"offset":7}}}"#,
            "\n",
            r#"{"push":{"channel":"c","join":{"info":{"user":"","client":"k"}}}}"#,
            "\n",
            r#"{"push":{"channel":"c","leave":{"info":{"user":"","client":"k"}}}}"#,
            "\n",
            r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"r"}}}"#,
            "\n{}\n"
        );
        assert_eq!(decode(Protocol::Json, frame.as_bytes()), Ok(messages()));
        for bad in ["", "x", "{\"id\":1", "{}\n\n{}", "[]"] {
            assert!(decode(Protocol::Json, bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn protobuf_messages() {
        let mut frame = b"\x0e\x08\x01\x2a\x0a\x0a\x01k\x12\x01v\x38\x19\x40\x01".to_vec();
        let publication = b"\x22\x03[1]\x2a\x06\x0a\x01u\x12\x01k\x30\x07";
        frame.extend_from_slice(b"\x20\x08\x02\x32\x1c\x18\x01\x32\x01e\x3a\x0f");
        frame.extend_from_slice(publication);
        frame.extend_from_slice(b"\x40\x01\x48\x07\x60\x01");
        // The lengths above leave the result's 28 bytes: 2 + 3 + 17 + 2 + 2 + 2.
        frame.extend_from_slice(b"\x0c\x08\x03\x12\x08\x08\x67\x12\x02no\x18\x01");
        frame.extend_from_slice(b"\x04\x08\x04\x42\x00");
        frame.extend_from_slice(b"\x16\x22\x14\x12\x01c\x22\x0f");
        frame.extend_from_slice(publication);
        frame.extend_from_slice(b"\x0c\x22\x0a\x12\x01c\x2a\x05\x0a\x03\x12\x01k");
        frame.extend_from_slice(b"\x0c\x22\x0a\x12\x01c\x32\x05\x0a\x03\x12\x01k");
        frame.extend_from_slice(b"\x0d\x22\x0b\x12\x01c\x3a\x06\x10\xc4\x13\x1a\x01r");
        frame.push(0);
        assert_eq!(decode(Protocol::Protobuf, &frame), Ok(messages()));
        for end in 1..14 {
            assert!(decode(Protocol::Protobuf, &frame[..end]).is_err(), "cut at {end}");
        }
    }

    // Whatever a server sends, decoding ends without a panic.
    #[test]
    fn any_bytes() {
        arbtest::arbtest(|u| {
            let bytes: Vec<u8> = u.arbitrary()?;
            let _ = decode(Protocol::Json, &bytes);
            let _ = decode(Protocol::Protobuf, &bytes);
            Ok(())
        });
    }
}
