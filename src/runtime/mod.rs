//! The cores: pinned executors, the sockets they own and the queues between them.
//!
//! The only module that knows glommio, io_uring and core affinity. It knows no protocol and no channel:
//! it hands bytes and batches to a [`Driver`], one per core, and does what the driver asks through
//! [`Net`] and [`MeshOut`]. A driver never blocks, never sees a file descriptor and never reads a clock.

mod bell;
mod checks;
mod core_loop;
mod cpus;
mod doorbell;
mod error;
mod inbox;
mod listen;
mod mesh;
mod net;
mod options;
mod start;
mod sys;
#[cfg(test)]
mod tests;
mod watch;

pub use cpus::{Cores, choose_cpus};
pub use error::{RunError, StartError, UringRemedy};
pub use inbox::{SendError, Sender};
pub use options::{Backend, BackendChoice, Options};
pub use start::{CoreSeat, Pulse, Running, start};

use crate::{metrics::Counters, stdx::slab::Key};
use std::net::SocketAddr;

/// Time as the runtime reads it, once per turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Clock {
    /// Milliseconds on a monotonic clock, from an arbitrary start shared by all cores.
    pub ms: u64,
    /// Milliseconds since 1970 on the wall clock.
    pub unix_ms: u64,
}

/// What one core does. The runtime calls it in this order, over and over: `begin_turn`; then, any number
/// of times and in arrival order, `on_accept`, `on_data`, `on_end`, `on_writable`, `on_released`; then
/// `on_batch` for each peer that sent something, `on_foreign` and `on_adopt`; then `end_turn` once.
pub trait Driver: 'static {
    /// What crosses from core to core.
    type Message: Send + 'static;
    /// What other threads (signals, side threads) tell a core.
    type Foreign: Send + 'static;

    fn begin_turn(&mut self, clock: Clock);

    /// A connection was accepted on the listener with this index. `conn` names it until `on_released`.
    fn on_accept(&mut self, conn: Key, listener: usize, peer: SocketAddr);

    /// Another thread of this process handed over a connection ([`Sender::adopt`]), and what its peer said first.
    /// From here on it is like one that was accepted.
    fn on_adopt(&mut self, conn: Key, peer: SocketAddr, first: &[u8]);

    /// Bytes arrived. The buffer is lent for this call only and may be changed in place (unmasking).
    /// May still be called a few times after a pause, with what had arrived before it took effect.
    fn on_data(&mut self, conn: Key, bytes: &mut [u8]);

    /// The peer will send nothing more: end of stream, or an error of the socket. Not called after the
    /// driver closed the connection itself. The driver answers by [`Net::close`], now or later.
    fn on_end(&mut self, conn: Key, end: End);

    /// A connection for which [`Net::flush`] reported a short write can take bytes again.
    fn on_writable(&mut self, conn: Key);

    /// All operations of a closed connection have completed, its descriptor is closed; the key is dead.
    fn on_released(&mut self, conn: Key);

    /// What another core sent in one of its turns, in order. Take everything out of `batch`.
    fn on_batch(&mut self, from: usize, batch: &mut Vec<Self::Message>);

    fn on_foreign(&mut self, message: Self::Foreign);

    /// The end of the turn: decide, encode, write ([`Net::flush`]), close, hand batches to the mesh.
    fn end_turn(&mut self, net: &mut dyn Net, mesh: &mut dyn MeshOut<Self::Message>) -> Next;
}

/// What a core does after a turn. Work that is already waiting always starts another turn at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Sleep until something happens, at the latest at this time on [`Clock::ms`].
    Sleep { until_ms: Option<u64> },
    /// There is more to do: come back at once.
    Again,
    /// The driver is done: release everything and end the core.
    Stop,
}

/// Why a connection will bring no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed its side in an orderly way.
    Eof,
    /// The socket failed with this `errno`.
    Error(i32),
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Everything the peer should get was flushed: send FIN, discard what still arrives until the peer closes
    /// or `linger_ms` have passed, then release.
    Graceful { linger_ms: u32 },
    /// Release at once with a reset. For peers that broke the rules or vanished.
    Reset,
}

/// What a driver can ask of the sockets of its core. Nothing here blocks.
pub trait Net {
    /// Stops reading from `conn`: a peer that goes on sending is held back by TCP.
    fn pause(&mut self, conn: Key);
    fn resume(&mut self, conn: Key);
    /// Ends `conn`: no more `on_data`; `on_released` comes when the slot is free. Idempotent.
    fn close(&mut self, conn: Key, how: Close);
    /// Writes to many connections in one go; see [`WriteSource`]. Every write has ended when this returns.
    /// What could not be written completely is reported in `shorts`; for those without an error
    /// `on_writable` will be called once when the socket takes bytes again.
    fn flush(&mut self, source: &dyn WriteSource, shorts: &mut Vec<Short>);
    /// Accepts no more connections on this core; what the kernel has queued is accepted first.
    fn stop_accepting(&mut self);
    /// Connections this core holds, closing ones included.
    fn connections(&self) -> usize;
    /// What the runtime has counted on this core.
    fn counters(&self) -> &Counters;
    /// Starts a new measurement of [`crate::metrics::Counter::TurnMicrosMax`]; to be called at a scrape.
    fn reset_turn_max(&mut self);
}

/// The writes of one turn: at most one per connection.
pub trait WriteSource {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Appends the bytes of write `index`, in order, to `pieces` (empty on entry) and names its connection.
    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key;
}

/// A write that did not take everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Index of the write in its source.
    pub index: usize,
    /// Bytes the socket took.
    pub sent: usize,
    /// `Some(errno)`: the connection is broken (never EAGAIN); `on_end` does not follow.
    pub error: Option<i32>,
}

/// The outgoing side of the queues between cores.
pub trait MeshOut<M> {
    /// Number of cores, this one included.
    fn cores(&self) -> usize;
    /// This core's index.
    fn core(&self) -> usize;
    /// Hands one batch to `to` and wakes it if it sleeps. When the queue is full the batch stays where it
    /// is and the answer is false; the runtime wakes this core when room appears. On success `batch` is left empty.
    fn send(&mut self, to: usize, batch: &mut Vec<M>) -> bool;
}
