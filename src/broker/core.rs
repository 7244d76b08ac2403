//! The only way into the broker of one core.
//!
//! A driver calls `begin_turn`, hands in what happened, calls `end_turn`, does the effects, flushes what
//! `dirty_len`/`pieces` name, reports the outcome to `settle`, and moves the batches to the mesh.

use super::{
    mesh::Mesh,
    seam::{ApiRequest, Effect},
};
use crate::{
    config::Settings,
    model::{ConnKey, CoreId, Disconnect, Now, Protocol},
};
use std::sync::Arc;

/// Which core this is and what it shares with its siblings.
#[derive(Clone, Debug)]
pub struct Seat {
    pub id: CoreId,
    pub cores: usize,
    /// Seeds the randomness of this core: client ids, epochs, ping phases. Different for every core.
    pub seed: u64,
    /// Keys the channel-to-core hash: the same on all cores of a process, secret to the outside.
    pub hash_key: u64,
}

/// What a transport knows about a client when its connection is ready for the protocol.
#[derive(Clone, Debug)]
pub struct SessionStart {
    pub protocol: Protocol,
    /// Messages travel in WebSocket frames (the only framing so far).
    pub websocket: bool,
    /// The client asked for WebSocket pings instead of protocol pings (`cf_ws_frame_ping_pong=true`).
    pub websocket_pings: bool,
}

/// How one write of a flush ended short.
#[derive(Clone, Copy, Debug)]
pub struct ShortWrite {
    pub index: usize,
    pub sent: usize,
    pub broken: bool,
}

#[derive(Debug)]
pub struct Core {}

impl Core {
    #[must_use]
    pub fn new(_seat: Seat, _settings: Arc<Settings>, _now: Now) -> Self {
        unimplemented!()
    }

    pub fn begin_turn(&mut self, _now: Now) {
        unimplemented!()
    }

    /// A connection exists and may be written to ([`Core::raw`]); it speaks no client protocol yet.
    pub fn open(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// The connection speaks the client protocol from here on. The stale timer starts.
    pub fn start_session(&mut self, _conn: ConnKey, _start: SessionStart) {
        unimplemented!()
    }

    /// One whole transport message of a client (the payload of a WebSocket message). Ignored once the
    /// session has ended.
    pub fn on_message(&mut self, _conn: ConnKey, _message: &[u8]) {
        unimplemented!()
    }

    /// The answer to a WebSocket ping the broker asked for ([`SessionStart::websocket_pings`]).
    pub fn on_websocket_pong(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// Appends bytes as they are to what the connection will be sent: HTTP answers, WebSocket control frames.
    pub fn raw(&mut self, _conn: ConnKey, _bytes: &[u8]) {
        unimplemented!()
    }

    /// Ends the session, if there is one, without an effect: the peer went away or the transport closes it
    /// with a code of its own (1002, 1007, 1009). Subscriptions end, others see the leave.
    pub fn end_session(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// Accept no more bytes for the connection; when what it holds is written it appears in
    /// [`Core::take_drained`].
    pub fn close_after_drain(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// Connections that were to close and have nothing left to write: send FIN now.
    pub fn take_drained(&mut self) -> Vec<ConnKey> {
        unimplemented!()
    }

    /// Drops what still waits for the connection (it is slow or broken).
    pub fn drop_queue(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// The key is dead: forget the outbox.
    pub fn released(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// Bytes waiting to be written for this connection.
    #[must_use]
    pub fn pending_bytes(&self, _conn: ConnKey) -> usize {
        unimplemented!()
    }

    /// A call of the server API; answered by exactly one [`Effect::ApiReply`] with the same number, maybe
    /// before this returns.
    pub fn api(&mut self, _call: u64, _request: ApiRequest) {
        unimplemented!()
    }

    pub fn on_mesh(&mut self, _from: CoreId, _message: Mesh) {
        unimplemented!()
    }

    pub fn on_writable(&mut self, _conn: ConnKey) {
        unimplemented!()
    }

    /// Ends every session with this code: the node shuts down.
    pub fn disconnect_all(&mut self, _disconnect: &Disconnect) {
        unimplemented!()
    }

    /// Timers, held commands, slow clients, then every touched group is encoded. Afterwards
    /// [`Core::take_effects`] and the writes are complete for this turn.
    pub fn end_turn(&mut self) {
        unimplemented!()
    }

    /// What the driver has to do, in order. Writes made for an effect (close frames) still join this turn's flush.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        unimplemented!()
    }

    /// Number of connections to write to in this turn.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        unimplemented!()
    }

    /// Appends the bytes of write `index` to `pieces`, in order, and names its connection.
    pub fn pieces<'a>(&'a self, _index: usize, _pieces: &mut Vec<&'a [u8]>) -> ConnKey {
        unimplemented!()
    }

    /// The flush is over: whatever `shorts` does not name went out completely. May add effects (broken
    /// connections) and drained connections.
    pub fn settle(&mut self, _shorts: &[ShortWrite]) {
        unimplemented!()
    }

    /// What waits for another core; the driver hands it to the mesh and, when that took it, calls [`Core::outgoing_taken`].
    pub fn outgoing(&mut self, _to: CoreId) -> &mut Vec<Mesh> {
        unimplemented!()
    }

    pub fn outgoing_taken(&mut self, _to: CoreId) {
        unimplemented!()
    }

    /// When the core must run again even if nothing happens, on [`Now::ms`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        unimplemented!()
    }

    /// Adds to the counters of this core what its driver counted.
    pub fn counters(&mut self) -> &mut crate::metrics::Counters {
        unimplemented!()
    }
}
