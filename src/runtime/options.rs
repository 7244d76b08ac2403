//! How the cores are to run, in this module's own words.

use std::{net::SocketAddr, time::Duration};

/// How connections are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Multishot accept and receive, provided buffers, batched sends (Linux 6.1 or newer).
    Ring,
    /// One-shot polls on a plain ring, and plain system calls (Linux 5.8 or newer).
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// Ring if this kernel has all it needs, else poll.
    #[default]
    Auto,
    Ring,
    Poll,
}

/// What one run of the runtime needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// One core per entry, pinned to that CPU; see [`super::choose_cpus`]. With repeated entries no core is pinned.
    pub cpus: Vec<usize>,
    pub backend: BackendChoice,
    /// Every core listens on each of these; port 0 chooses one port for all cores.
    pub addresses: Vec<SocketAddr>,
    /// Length of the kernel's accept queue of each listener.
    pub backlog: u32,
    /// Read buffers lent per core (a power of two), and the bytes of each.
    pub buffer_count: u16,
    pub buffer_size: usize,
    /// A turn handles at most this many completions, …
    pub turn_completions_max: usize,
    /// … or for this long.
    pub turn_time_max: Duration,
    /// Hand fresh connections to the core that has the fewest.
    pub balance: bool,
    /// Connections get keys with indices from here on; those below are the driver's.
    pub first_key: u32,
    /// Batches in flight from one core to another.
    pub mesh_batches_max: usize,
    /// Messages from other threads waiting for a core.
    pub inbox_messages_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cpus: vec![0],
            backend: BackendChoice::Auto,
            addresses: Vec::new(),
            backlog: 4096,
            buffer_count: 256,
            buffer_size: 16 * 1024,
            turn_completions_max: 1024,
            turn_time_max: Duration::from_micros(200),
            balance: true,
            first_key: 0,
            mesh_batches_max: 64,
            inbox_messages_max: 1024,
        }
    }
}
