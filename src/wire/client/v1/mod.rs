//! Version 1 of the client protocol, spoken by clients of the era of Centrifugo v2 and v3: other envelopes around the
//! same requests and results. What is decoded and encoded are the values of version 2.
//!
//! `schema/client_v1.proto` has the field numbers.

mod reply;
mod request;
mod schema;
#[cfg(test)]
mod tests;

pub use request::decode;

use super::{Push, Reply, append};
use crate::{
    model::{ClientId, Disconnect, Protocol},
    wire::json::write_string,
};
use reply::{PushReply, ReplyMessage};

/// How a client is told where in a stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Positions {
    /// As in version 2.
    Offset,
    /// The lower half of the offset in `seq`, the upper one in `gen`; and lists of publications come latest first.
    SeqGen,
}

/// Appends one reply as it stands inside a frame; as [`super::encode_reply`]. `client`: whose it is.
pub fn encode_reply(
    protocol: Protocol,
    positions: Positions,
    client: ClientId,
    id: u32,
    reply: &Reply<'_>,
    out: &mut Vec<u8>,
) {
    append(protocol, &ReplyMessage { positions, client, id, reply }, out);
}

/// Appends one push as it stands inside a frame; as [`super::encode_push`].
pub fn encode_push(
    protocol: Protocol,
    positions: Positions,
    channel: &str,
    push: &Push<'_>,
    out: &mut Vec<u8>,
) {
    append(protocol, &PushReply { positions, channel, push }, out);
}

/// Longest reason of a close frame.
const REASON_MAX: usize = 123;

/// A disconnect as such clients read it: the reason is JSON that says whether to come back. One that is too long for
/// a close frame is cut.
#[must_use]
pub fn advice(disconnect: &Disconnect) -> Disconnect {
    let mut reason = &*disconnect.reason;
    loop {
        let mut text = b"{\"reason\":".to_vec();
        write_string(&mut text, reason);
        let reconnect = if disconnect.reconnects() { "true" } else { "false" };
        text.extend_from_slice(b",\"reconnect\":");
        text.extend_from_slice(reconnect.as_bytes());
        text.push(b'}');
        match String::from_utf8(text) {
            Ok(text) if text.len() <= REASON_MAX => {
                return Disconnect { code: disconnect.code, reason: text.into() };
            }
            _ => {
                let mut shorter = reason.chars();
                shorter.next_back();
                reason = shorter.as_str();
            }
        }
    }
}
