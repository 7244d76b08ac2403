//! Which offer of permessage-deflate is accepted, and the answer to it. RFC 7692 sections 5 and 7.1.
//!
//! The first offer that can be accepted is. One that is wrong in itself (unknown or repeated parameters, wrong
//! values) is declined, and so is everything behind what is not a list of extensions; the handshake goes on
//! without compression.

use crate::wire::http::Request;
use std::fmt;

const NAME: &str = "permessage-deflate";

/// How far back a compressed message may refer. Few, because what is shared is compressed once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Window {
    /// 512 bytes.
    Bits9,
    /// 4 KiB.
    Bits12,
    /// 32 KiB: no limit was asked for.
    Bits15,
}

impl Window {
    pub const ALL: [Self; 3] = [Self::Bits9, Self::Bits12, Self::Bits15];

    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Bits9 => 9,
            Self::Bits12 => 12,
            Self::Bits15 => 15,
        }
    }

    /// The largest that is not larger than what the client can hold; `None` when none is that small.
    const fn within(bits: u8) -> Option<Self> {
        match bits {
            9..=11 => Some(Self::Bits9),
            12..=14 => Some(Self::Bits12),
            15.. => Some(Self::Bits15),
            _ => None,
        }
    }
}

/// What client and server agreed on. Its text is the answer's `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// How the server compresses; `None`: not at all, because the client holds 256 bytes only (which DEFLATE
    /// as implemented everywhere cannot keep to). What the client compresses is understood all the same.
    pub window: Option<Window>,
    /// The client limited the window, and expects a limit in the answer.
    limited: bool,
}

/// Bits of the smallest window there is.
const BITS_MIN: u8 = 8;

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server may ask a client that did not offer it to keep no context (section 7.1.1.2), and clients
        // have to obey. The client's window does not matter then: the inflater always has the largest.
        write!(f, "{NAME}; server_no_context_takeover; client_no_context_takeover")?;
        if self.limited {
            write!(f, "; server_max_window_bits={}", self.window.map_or(BITS_MIN, Window::bits))?;
        }
        Ok(())
    }
}

/// The agreement on the first acceptable offer of a request; `None` when there is none.
#[must_use]
pub fn negotiate(request: &Request<'_, '_>) -> Option<Agreement> {
    request.values("sec-websocket-extensions").find_map(first_acceptable)
}

/// In one `Sec-WebSocket-Extensions` value.
fn first_acceptable(list: &str) -> Option<Agreement> {
    let mut scan = Scan { rest: list };
    loop {
        let extension = scan.token()?;
        let mut offer = Offer::default();
        while scan.mark(';') {
            let name = scan.token()?;
            let value = if scan.mark('=') { Some(scan.value()?) } else { None };
            offer.take(name, value);
        }
        let ends = scan.is_empty();
        if !ends && !scan.mark(',') {
            return None;
        }
        if extension == NAME && !offer.wrong {
            return Some(offer.accept());
        }
        if ends {
            return None;
        }
    }
}

/// The parameters of one offer.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    client_max_window_bits: bool,
    server_max_window_bits: Option<u8>,
    wrong: bool,
}

impl Offer {
    fn take(&mut self, name: &str, value: Option<&str>) {
        let (seen, fine) = match name {
            "server_no_context_takeover" => {
                (std::mem::replace(&mut self.server_no_context_takeover, true), value.is_none())
            }
            "client_no_context_takeover" => {
                (std::mem::replace(&mut self.client_no_context_takeover, true), value.is_none())
            }
            // Without a value: the client can limit its window if told to.
            "client_max_window_bits" => (
                std::mem::replace(&mut self.client_max_window_bits, true),
                value.is_none_or(|value| bits(value).is_some()),
            ),
            "server_max_window_bits" => {
                let bits = value.and_then(bits);
                (std::mem::replace(&mut self.server_max_window_bits, bits).is_some(), bits.is_some())
            }
            _ => (false, false),
        };
        self.wrong |= seen || !fine;
    }

    fn accept(&self) -> Agreement {
        match self.server_max_window_bits {
            None => Agreement { window: Some(Window::Bits15), limited: false },
            Some(bits) => Agreement { window: Window::within(bits), limited: true },
        }
    }
}

/// 8 to 15, in decimal and without leading zeros.
fn bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (BITS_MIN..=15).contains(bits))?;
    (!value.starts_with(['0', '+'])).then_some(bits)
}

/// Reads a list of extensions (RFC 6455 section 9.1).
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn is_empty(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    fn mark(&mut self, mark: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let end = self.rest.find(|c: char| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or one in quotes.
    fn value(&mut self) -> Option<&'a str> {
        if !self.mark('"') {
            return self.token();
        }
        let (value, rest) = self.rest.split_once('"')?;
        self.rest = rest;
        // What is quoted must be a token (section 9.1), so nothing in it needs a backslash.
        (!value.is_empty() && value.chars().all(is_token)).then_some(value)
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}
