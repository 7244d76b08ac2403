//! The server's side of the opening handshake. RFC 6455 section 4.2.

use crate::{
    model::Protocol,
    wire::http::{Request, Response, Version, token_in_list, write_response_head},
};
use sha1::{Digest, Sha1};

pub const SUBPROTOCOL_JSON: &str = "centrifuge-json";
pub const SUBPROTOCOL_PROTOBUF: &str = "centrifuge-protobuf";

/// A request to become a WebSocket that can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade<'b> {
    /// To be answered with [`accept_key`].
    pub key: &'b str,
}

/// Why a request cannot become a WebSocket; the answer has this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("only GET becomes a WebSocket")]
    Method,
    #[error("no upgrade to WebSocket asked for")]
    NotAnUpgrade,
    /// Answered with `Sec-WebSocket-Version: 13`.
    #[error("a version of WebSocket that is not 13")]
    Version,
    #[error("a key that is not 16 bytes in base64")]
    Key,
}

impl Refusal {
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade | Self::Key => 400,
            Self::Version => 426,
        }
    }

    /// What the answer must say beside its status.
    #[must_use]
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::Version => {
                &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
            }
            Self::NotAnUpgrade | Self::Key => &[],
        }
    }
}

/// Whether a request asks to become a WebSocket in a way that can be granted.
pub fn check_upgrade<'b>(request: &Request<'_, 'b>) -> Result<Upgrade<'b>, Refusal> {
    let says = |name, token| request.values(name).any(|list| token_in_list(list, token));
    if request.method != "GET" {
        return Err(Refusal::Method);
    }
    if request.version != Version::Http11 || !says("upgrade", "websocket") || !says("connection", "upgrade") {
        return Err(Refusal::NotAnUpgrade);
    }
    if request.header("sec-websocket-version") != Some("13") {
        return Err(Refusal::Version);
    }
    let mut keys = request.values("sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => Ok(Upgrade { key }),
        _ => Err(Refusal::Key),
    }
}

/// 16 bytes in base64: 22 characters, the last of which has four spare bits, and the padding.
fn is_key(key: &str) -> bool {
    let Some(digits) = key.strip_suffix("==") else { return false };
    digits.len() == 22
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// The subprotocol to answer with, and what it stands for; the client's order decides. `None` when it offers none that
/// we speak.
#[must_use]
pub fn choose_subprotocol(request: &Request<'_, '_>) -> Option<(&'static str, Protocol)> {
    let offers = request.values("sec-websocket-protocol").flat_map(|list| list.split(','));
    offers.map(|offer| offer.trim_matches([' ', '\t'])).find_map(|offer| match offer {
        SUBPROTOCOL_JSON => Some((SUBPROTOCOL_JSON, Protocol::Json)),
        SUBPROTOCOL_PROTOBUF => Some((SUBPROTOCOL_PROTOBUF, Protocol::Protobuf)),
        _ => None,
    })
}

/// What proves to the client that its key was read, in base64.
#[must_use]
pub fn accept_key(key: &str) -> [u8; 28] {
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    base64(digest.into())
}

fn base64(bytes: [u8; 20]) -> [u8; 28] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = [b'='; 28];
    for (three, four) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        let mut word = [0; 4];
        word[1..=three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes(word);
        // n bytes need n + 1 digits; the rest stays padding.
        for (index, digit) in four.iter_mut().take(three.len() + 1).enumerate() {
            *digit = DIGITS[(word >> (18 - 6 * index) & 0x3f) as usize];
        }
    }
    out
}

/// Appends the answer that makes the connection a WebSocket. `extensions` is the value of its header, empty for none.
pub fn write_upgrade(out: &mut Vec<u8>, key: &str, subprotocol: Option<&str>, extensions: &str) {
    let accept = accept_key(key);
    let accept = std::str::from_utf8(&accept).unwrap_or_default();
    let all = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept),
        ("Sec-WebSocket-Protocol", subprotocol.unwrap_or_default()),
        ("Sec-WebSocket-Extensions", extensions),
    ];
    let mut headers = [("", ""); 5];
    let mut count = 0;
    for header in all.into_iter().filter(|(_, value)| !value.is_empty()) {
        headers[count] = header;
        count += 1;
    }
    let response = Response {
        status: 101,
        version: Version::Http11,
        keep_alive: true,
        content_type: "",
        content_length: None,
        headers: &headers[..count],
    };
    write_response_head(out, &response);
}
