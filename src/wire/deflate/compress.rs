//! Messages of the server to DEFLATE.

use super::{Options, TAIL, Window};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::fmt;

/// Shorter messages are never compressed: without a context there is nothing to win.
pub const COMPRESSIBLE_MIN: usize = 64;

/// Memory of the last message that is kept for the next one.
const KEPT_MAX: usize = 256 * 1024;

/// What was compressed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent compressed.
    pub messages: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes after.
    pub bytes_after: u64,
    /// Messages that were tried and sent as they were, because they did not get shorter.
    pub in_vain: u64,
}

/// Compresses the messages of a core, one after the other, each by itself.
///
/// Memory: about 330 KiB for each window in use, from the first message on; one message.
pub struct Deflater {
    options: Options,
    zlibs: [Option<Compress>; Window::ALL.len()],
    out: Vec<u8>,
    pub stats: Stats,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("options", &self.options).field("stats", &self.stats).finish()
    }
}

impl Deflater {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, zlibs: [const { None }; Window::ALL.len()], out: Vec::new(), stats: Stats::default() }
    }

    /// The payload of a frame with RSV1 that says the same as `message`; `None` when it is too short to be
    /// tried or would not get shorter. RFC 7692 section 7.2.1.
    pub fn deflate(&mut self, window: Window, message: &[u8]) -> Option<&[u8]> {
        if message.len() < self.options.min_size.max(COMPRESSIBLE_MIN) {
            return None;
        }
        let slot = &mut self.zlibs[window as usize];
        let zlib = slot.get_or_insert_with(|| {
            let level = Compression::new(self.options.level.clamp(1, 9));
            Compress::new_with_window_bits(level, false, window.bits())
        });
        if self.out.capacity() > KEPT_MAX {
            self.out = Vec::new();
        }
        self.out.clear();
        let most = room(message.len());
        self.out.reserve_exact(most);
        zlib.reset();
        let status = zlib.compress_vec(message, &mut self.out, FlushCompress::Sync);
        if !matches!(status, Ok(Status::Ok)) || self.out.len() == self.out.capacity() {
            // Resetting does not make up for a stream that was not flushed completely.
            *slot = None;
            self.out.clear();
        }
        let shorter = self.out.len() < message.len() + TAIL.len();
        match self.out.strip_suffix(&TAIL) {
            Some(payload) if shorter => {
                self.stats.messages += 1;
                self.stats.bytes_before += message.len() as u64;
                self.stats.bytes_after += payload.len() as u64;
                Some(payload)
            }
            _ => {
                self.stats.in_vain += 1;
                None
            }
        }
    }
}

/// Room in which a message is always flushed completely: at worst 9 bits a byte (level 1 has only static codes), or
/// stored in blocks.
fn room(len: usize) -> usize {
    len + len / 8 + 128
}

#[cfg(test)]
impl Deflater {
    /// The last message left its compressor usable.
    pub fn has_compressor(&self, window: Window) -> bool {
        self.zlibs[window as usize].is_some()
    }
}
