//! The compressors of a core: clients and listeners (`uni_websocket`) have options of their own.

use crate::wire::deflate::{Deflater, Options, Stats, Window};

/// How what a connection is sent is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflation {
    pub window: Window,
    /// By the options of listeners.
    pub listens: bool,
}

#[derive(Debug)]
pub struct Deflaters {
    clients: Deflater,
    listeners: Deflater,
}

impl Deflaters {
    pub fn new(clients: Options, listeners: Options) -> Self {
        Self { clients: Deflater::new(clients), listeners: Deflater::new(listeners) }
    }

    /// As [`Deflater::deflate`].
    pub fn deflate(&mut self, how: Deflation, message: &[u8]) -> Option<&[u8]> {
        let deflater = if how.listens { &mut self.listeners } else { &mut self.clients };
        deflater.deflate(how.window, message)
    }

    /// What was compressed so far.
    pub fn stats(&self) -> Stats {
        let (one, other) = (self.clients.stats, self.listeners.stats);
        Stats {
            messages: one.messages + other.messages,
            bytes_before: one.bytes_before + other.bytes_before,
            bytes_after: one.bytes_after + other.bytes_after,
            in_vain: one.in_vain + other.in_vain,
        }
    }
}
