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
        let zlib = self.zlibs[window as usize].get_or_insert_with(|| {
            let level = Compression::new(self.options.level.clamp(1, 9));
            Compress::new_with_window_bits(level, false, window.bits())
        });
        if self.out.capacity() > KEPT_MAX {
            self.out = Vec::new();
        }
        self.out.clear();
        // With its tail a result that fills this is not shorter. There is no more room, so that what does
        // not get shorter is given up early.
        self.out.reserve_exact(message.len() + TAIL.len());
        let most = message.len() + TAIL.len() - 1;
        zlib.reset();
        let status = zlib.compress_vec(message, &mut self.out, FlushCompress::Sync);
        let whole = matches!(status, Ok(Status::Ok)) && self.out.len() <= most;
        match self.out.strip_suffix(&TAIL) {
            Some(payload) if whole => {
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
