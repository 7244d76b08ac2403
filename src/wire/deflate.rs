//! permessage-deflate for WebSocket (RFC 7692): the agreement, and messages to and from DEFLATE.
//!
//! Always without context takeover on both sides: every message is compressed by itself. So one [`Inflater`]
//! and one [`Deflater`] serve all connections of a core, a connection keeps no state, and a compressed frame
//! can be shared. What an inflated message may take is limited; frames, RSV1 included, are `wire/websocket`'s.

mod compress;
mod inflate;
mod negotiate;
#[cfg(test)]
mod tests;

pub use compress::{COMPRESSIBLE_MIN, Deflater, Stats};
pub use inflate::{InflateError, Inflater};
pub use negotiate::{Agreement, Window, negotiate};

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// 1 (fastest) to 9 (smallest).
    pub level: u32,
    /// Bytes of a message from which on compression is tried.
    pub min_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: 1, min_size: 0 }
    }
}

/// Ends every flushed message; not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
