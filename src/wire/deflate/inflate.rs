//! Compressed messages of clients to what they said.

use super::TAIL;
use crate::wire::websocket::{FrameError, MessageKind};
use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    #[error("a compressed message that is not DEFLATE, or not all of it")]
    Corrupt,
    #[error("a compressed message above the limit when inflated")]
    TooBig,
}

/// Memory of the last message that is kept for the next one.
const KEPT_MAX: usize = 256 * 1024;

/// First room for a message: most are smaller, and those that are not, grow.
const ROOM_MIN: usize = 4096;

/// Behind every message: what the sender left out, and an empty final block, which tells a message that is
/// whole from one that was cut.
const END: [u8; 9] = [TAIL[0], TAIL[1], TAIL[2], TAIL[3], 1, 0, 0, 0xff, 0xff];

/// Inflates the messages of all connections of a core, one after the other.
///
/// Memory: the window (32 KiB and some tables), and one message: it grows with what comes out, at most to one
/// byte more than the limit, and beyond 256 KiB it is given back. Work: in proportion to the bytes that go in
/// and come out; what goes in is limited by `websocket.message_size_limit`.
pub struct Inflater {
    zlib: Decompress,
    out: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { zlib: Decompress::new(false), out: Vec::new() }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("capacity", &self.out.capacity()).finish_non_exhaustive()
    }
}

impl Inflater {
    /// The message whose frames carried `payload`, at most `limit` bytes. RFC 7692 section 7.2.2.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], InflateError> {
        self.out.clear();
        if self.out.capacity() > KEPT_MAX {
            self.out = Vec::new();
        }
        // Not even the one byte of an empty message: some senders have nothing to flush then.
        if payload.is_empty() {
            return Ok(&[]);
        }
        self.zlib.reset(false);
        let mut rest = payload;
        let whole = loop {
            if !self.stream(&mut rest, limit)? {
                break false;
            }
            if rest.is_empty() {
                break true;
            }
            // A message may have several final blocks (section 7.2.3.4); behind each a new stream begins.
            self.zlib.reset(false);
        };
        // Without a final block of its own the message goes on in the end that was left out, and all of it.
        if !whole {
            let mut rest = &END[..];
            if !self.stream(&mut rest, limit)? || !rest.is_empty() {
                return Err(InflateError::Corrupt);
            }
        }
        Ok(&self.out)
    }

    /// [`Inflater::inflate`] for a message of this kind: text is valid UTF-8.
    pub fn message(&mut self, kind: MessageKind, payload: &[u8], limit: usize) -> Result<&[u8], FrameError> {
        let message = self.inflate(payload, limit).map_err(|error| match error {
            InflateError::Corrupt => FrameError::Deflate,
            InflateError::TooBig => FrameError::TooBig,
        })?;
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(message).is_err() {
            return Err(FrameError::Utf8);
        }
        Ok(message)
    }

    /// Memory held between messages, in bytes, without the window.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.out.capacity()
    }

    /// Inflates `input`, up to a final block (true) or all of it (false). What is behind the block stays in it.
    fn stream(&mut self, input: &mut &[u8], limit: usize) -> Result<bool, InflateError> {
        loop {
            self.make_room(limit);
            let (before_in, before_len) = (self.zlib.total_in(), self.out.len());
            let status = self
                .zlib
                .decompress_vec(input, &mut self.out, FlushDecompress::None)
                .map_err(|_| InflateError::Corrupt)?;
            let used = usize::try_from(self.zlib.total_in() - before_in).unwrap_or(usize::MAX);
            *input = input.get(used..).unwrap_or_default();
            if self.out.len() > limit {
                return Err(InflateError::TooBig);
            }
            if status == Status::StreamEnd {
                return Ok(true);
            }
            // While there is room, everything that can come out does.
            if self.out.len() < self.out.capacity() {
                if input.is_empty() {
                    return Ok(false);
                }
                if used == 0 && self.out.len() == before_len {
                    return Err(InflateError::Corrupt);
                }
            }
        }
    }

    /// Makes room for at least one byte, and never for more than one beyond the limit.
    fn make_room(&mut self, limit: usize) {
        if self.out.len() == self.out.capacity() {
            let most = limit.saturating_add(1);
            let capacity = self.out.capacity().saturating_mul(2).clamp(ROOM_MIN.min(most), most);
            self.out.reserve_exact(capacity - self.out.len());
        }
    }
}
