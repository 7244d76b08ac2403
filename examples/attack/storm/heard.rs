//! What the server says, checked byte by byte: its frames must be in order whatever it was told.

use corecast::{
    model::Protocol,
    wire::{
        client::{ServerMessage, decode_replies},
        deflate::Inflater,
        websocket::{Decoder, Event, MessageKind, Options, Role},
    },
};
use std::ops::RangeInclusive;

/// Error codes of replies (client protocol).
const ERRORS: RangeInclusive<u32> = 100..=113;

pub struct Ears {
    decoder: Decoder,
    protocol: Protocol,
    /// permessage-deflate was agreed on.
    deflates: bool,
    inflater: Inflater,
    /// The close frame, when it has come; nothing may follow it.
    pub closed: Option<(Option<u16>, String)>,
    /// What pongs carried.
    pub pongs: Vec<Vec<u8>>,
    /// Messages of the protocol.
    pub messages: u64,
}

impl Ears {
    pub fn new(protocol: Protocol, deflates: bool) -> Self {
        Self {
            decoder: Decoder::default(),
            protocol,
            deflates,
            inflater: Inflater::default(),
            closed: None,
            pongs: Vec::new(),
            messages: 0,
        }
    }

    /// Takes bytes of the server; hands each message to `each`.
    ///
    /// # Errors
    /// What was wrong with them.
    pub fn hear(&mut self, bytes: &mut [u8], mut each: impl FnMut(ServerMessage<'_>)) -> Result<(), String> {
        if self.closed.is_some() && !bytes.is_empty() {
            return Err(format!("{} bytes behind the close frame", bytes.len()));
        }
        let options =
            Options { role: Role::Client, message_size_limit: 16 << 20, compression: self.deflates };
        let mut frames = self.decoder.feed(bytes, &options);
        loop {
            match frames.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Event::Message { kind, compressed, payload })) => {
                    let payload = if compressed {
                        let inflated = self.inflater.message(kind, payload, 64 << 20);
                        inflated.map_err(|error| format!("a message that cannot be inflated: {error}"))?
                    } else {
                        payload
                    };
                    let is_text = kind == MessageKind::Text;
                    if is_text != (self.protocol == Protocol::Json) {
                        return Err(format!("a frame of the wrong kind: {kind:?}"));
                    }
                    self.messages += check(self.protocol, payload, &mut each)?;
                }
                Ok(Some(Event::Ping(_))) => {}
                Ok(Some(Event::Pong(payload))) => self.pongs.push(payload.to_vec()),
                Ok(Some(Event::Close { code, reason })) => {
                    self.closed = Some((code, reason.to_owned()));
                }
                Err(error) => return Err(format!("a broken frame of the server: {error}")),
            }
        }
    }
}

fn check(
    protocol: Protocol,
    payload: &[u8],
    each: &mut impl FnMut(ServerMessage<'_>),
) -> Result<u64, String> {
    if protocol == Protocol::Json {
        for line in payload.split(|&byte| byte == b'\n') {
            // A second opinion, by a parser that the server does not use for this.
            serde_json::from_slice::<&serde_json::value::RawValue>(line)
                .map_err(|error| format!("{error} in {}", String::from_utf8_lossy(line)))?;
        }
    }
    let mut count = 0;
    for message in decode_replies(protocol, payload) {
        let message = message.map_err(|error| format!("{error}: {}", String::from_utf8_lossy(payload)))?;
        if let ServerMessage::Reply { reply: corecast::wire::client::ServerReply::Error { code, .. }, .. } =
            &message
            && !ERRORS.contains(code)
        {
            return Err(format!("error {code} is none"));
        }
        each(message);
        count += 1;
    }
    Ok(count)
}

/// May this server close with this code? One of RFC 6455 with an empty reason, or one of its own with its text.
/// A close of the client is answered with its code, so an attack of frames may get any that a client may send.
pub fn is_documented(code: Option<u16>, reason: &str, is_echo: bool) -> bool {
    match code {
        Some(3004) => is_echo && reason.is_empty(),
        Some(1002 | 1007 | 1009) if reason.is_empty() => true,
        Some(3001 | 3003 | 3005 | 3006 | 3008..=3013 | 3500..=3508) if !reason.is_empty() => true,
        None | Some(1000..=1003 | 1007..=1014 | 3000..=4999) => is_echo && reason.is_empty(),
        Some(_) => false,
    }
}
