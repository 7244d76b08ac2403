//! The write path of one core: what waits for each connection, in order, and the flush at the end of a turn.
//!
//! An outbox is an ordered list of private bytes (replies, pings, HTTP answers) and spans of shared segments.
//! Most have at most one span per turn, which stands in the outbox itself; for more a [`Queue`] is lent and
//! given back once everything is sent. A turn ends with [`WritePath::begin_flush`], one write per entry of
//! the dirty list, and [`WritePath::settle`].
//!
//! At the limit (`client.queue_max_size`) a connection takes nothing more and is listed as slow; the caller
//! cuts it with 3008. Segments held by blocked connections beyond `runtime.held_segments_max_size` are copied
//! into private bytes, longest holders first. Nothing here knows sockets; keys of connections that are gone
//! are ignored everywhere.

mod closing;
mod deflaters;
mod flush;
mod framing;
mod parked;
mod queue;
mod segments;
#[cfg(test)]
mod tests;

pub use framing::{Body, Framing};
pub use segments::Span;

use crate::{config::Settings, model::ConnKey, wire::deflate};
use deflaters::Deflaters;
use queue::{PRIVATE_MAX, Queue};
use segments::Segments;
use std::collections::BTreeMap;

/// Memory of queues that are not lent is given back beyond this many bytes.
const IDLE_QUEUES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a segment.
const SEGMENT_SIZE: usize = 256 * 1024;

/// The sizes that bound a [`WritePath`], in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What may wait for one connection. Private bytes count at once, shared ones from the first write that
    /// did not take them. Raw connections are refused only what comes after this much waits, so that one
    /// answer of any size goes out.
    pub queue_max: usize,
    /// A frame that reached this size takes no more messages.
    pub frame_size_target: usize,
    /// Capacity of segments that blocked connections may hold after a flush.
    pub held_max: usize,
    pub segment_size: usize,
    /// For connections with a deflating [`Framing`].
    pub deflate: deflate::Options,
    /// Likewise for those of listeners.
    pub deflate_listeners: deflate::Options,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            queue_max: settings.client.queue_max_size,
            frame_size_target: settings.websocket.frame_size_target,
            held_max: settings.runtime.held_segments_max_size,
            segment_size: SEGMENT_SIZE,
            deflate: deflate::Options {
                level: settings.websocket.compression_level,
                min_size: settings.websocket.compression_min_size,
            },
            deflate_listeners: deflate::Options {
                level: settings.uni_websocket.compression_level,
                min_size: settings.uni_websocket.compression_min_size,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// No connection.
    Vacant,
    /// Nothing waits and everything is accepted.
    Idle,
    /// One span waits; on the dirty list.
    Span,
    /// A queue is lent.
    Queued,
    /// Nothing waits; slow, so nothing is accepted until the caller cuts it.
    Refusing,
    /// Closing and drained, or broken.
    Shut,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Outbox {
    generation: u32,
    queue: u32,
    span: Span,
    state: State,
    framing: Framing,
    /// Accepts nothing more; `drained` is told when everything is sent.
    closing: bool,
    /// Was listed as slow; accepts nothing until it is cut.
    slow: bool,
}

const _: () = assert!(size_of::<Outbox>() <= 32, "every idle connection pays this");

impl Outbox {
    const VACANT: Self = Self {
        generation: 0,
        queue: u32::MAX,
        span: Span::EMPTY,
        state: State::Vacant,
        framing: Framing::Raw,
        closing: false,
        slow: false,
    };

    /// The state of an outbox from which everything was sent.
    fn empty_state(&self) -> State {
        match (self.closing, self.slow) {
            (true, _) => State::Shut,
            (false, true) => State::Refusing,
            (false, false) => State::Idle,
        }
    }
}

/// The outboxes of one core.
#[derive(Debug)]
pub struct WritePath {
    limits: Limits,
    outboxes: Vec<Outbox>,
    /// Connections with something to write in this turn's flush, each once.
    dirty: Vec<ConnKey>,
    /// The dirty list names connections with nothing to write.
    stale: bool,
    slow: Vec<ConnKey>,
    /// Keys without a connection for which something was queued.
    parked_ready: Vec<ConnKey>,
    drained: Vec<ConnKey>,
    segments: Segments,
    queues: Vec<Queue>,
    queues_free: Vec<u32>,
    queues_free_bytes: usize,
    /// Who holds segments, longest first.
    holders: BTreeMap<u64, ConnKey>,
    holders_next: u64,
    deflater: Deflaters,
    /// Connections with an open frame that is compressed when it is closed: at the flush, if not before.
    deflate_open: Vec<ConnKey>,
}

impl WritePath {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            outboxes: Vec::new(),
            dirty: Vec::new(),
            stale: false,
            slow: Vec::new(),
            parked_ready: Vec::new(),
            drained: Vec::new(),
            segments: Segments::new(limits.segment_size),
            queues: Vec::new(),
            queues_free: Vec::new(),
            queues_free_bytes: 0,
            holders: BTreeMap::new(),
            holders_next: 0,
            deflater: Deflaters::new(limits.deflate, limits.deflate_listeners),
            deflate_open: Vec::new(),
        }
    }

    /// Gives a connection an empty outbox, raw until [`WritePath::set_framing`].
    pub fn open(&mut self, conn: ConnKey) {
        let index = conn.index as usize;
        if self.outboxes.len() <= index {
            self.outboxes.resize(index + 1, Outbox::VACANT);
        }
        assert_eq!(self.outboxes[index].state, State::Vacant, "{conn:?} opened over a connection");
        self.outboxes[index] = Outbox { generation: conn.generation, state: State::Idle, ..Outbox::VACANT };
    }

    /// Forgets a connection and what waits for it.
    pub fn remove(&mut self, conn: ConnKey) {
        if self.outbox(conn).is_none() {
            return;
        }
        self.empty(conn);
        self.outboxes[conn.index as usize].state = State::Vacant;
    }

    /// Sets how what follows is wrapped. What waits already stays as it is.
    pub fn set_framing(&mut self, conn: ConnKey, framing: Framing) {
        if let Some(outbox) = self.outbox_mut(conn) {
            outbox.framing = framing;
        }
        if let Some(queue) = self.queue_of(conn) {
            self.queues[queue].close_frame(&mut self.deflater);
        }
    }

    /// Appends one protocol message to the connection's open frame, or to a new one. `encode` gets the bytes
    /// and the index at which the frame's payload begins, so that it can separate messages; it must append
    /// exactly one message. False, without a call, when the connection accepts nothing.
    pub fn message(&mut self, conn: ConnKey, encode: impl FnOnce(&mut Vec<u8>, usize)) -> bool {
        let Some((queue, framing)) = self.admit(conn, 0) else { return false };
        let frame_max = framing.frame_max(self.limits.frame_size_target);
        if self.queues[queue].message(framing, frame_max, &mut self.deflater, encode) {
            self.deflate_open.push(conn);
        }
        self.appended(conn, queue, framing);
        true
    }

    /// Appends bytes as they are, after everything that waits. False when the connection accepts nothing.
    pub fn raw(&mut self, conn: ConnKey, bytes: &[u8]) -> bool {
        let Some((queue, framing)) = self.admit(conn, bytes.len()) else { return false };
        self.queues[queue].raw(framing, bytes, &mut self.deflater);
        self.appended(conn, queue, framing);
        true
    }

    /// What was compressed so far.
    #[must_use]
    pub fn deflate_stats(&self) -> deflate::Stats {
        self.deflater.stats()
    }

    /// Puts one finished frame into the turn's segment, where spans of any number of connections can use it.
    /// It is compressed here, once, if its framing deflates and it gets shorter.
    pub fn share(&mut self, framing: Framing, payload: &[u8]) -> Span {
        let deflated = framing.deflation().and_then(|how| self.deflater.deflate(how, payload));
        let (payload, deflated) = (deflated.unwrap_or(payload), deflated.is_some());
        let (header_len, trailer) = (framing.header_len(payload.len()), framing.trailer());
        let (span, room) = self.segments.place(header_len + payload.len() + trailer.len());
        let (header, rest) = room.split_at_mut(header_len);
        let (body, end) = rest.split_at_mut(payload.len());
        framing.write_header(payload.len(), deflated, header);
        body.copy_from_slice(payload);
        end.copy_from_slice(trailer);
        span
    }

    /// Appends shared bytes of this turn to each member's outbox.
    ///
    /// HOT: once per group and turn, its loop once per member.
    pub fn hand_out(&mut self, members: &[ConnKey], span: Span) {
        self.dirty.reserve(members.len());
        for &conn in members {
            match self.outboxes.get_mut(conn.index as usize) {
                Some(outbox) if outbox.state == State::Idle && outbox.generation == conn.generation => {
                    outbox.span = span;
                    outbox.state = State::Span;
                    self.dirty.push(conn);
                }
                _ => self.push_span_busy(conn, span),
            }
        }
    }

    /// [`WritePath::hand_out`] for one connection. False when it accepts nothing.
    pub fn push_span(&mut self, conn: ConnKey, span: Span) -> bool {
        let accepts = self.outbox(conn).is_some_and(accepts);
        self.hand_out(&[conn], span);
        accepts
    }

    fn push_span_busy(&mut self, conn: ConnKey, span: Span) {
        if let Some(outbox) = self.outbox_mut(conn)
            && outbox.state == State::Span
            && outbox.span.touches(span)
            && accepts(outbox)
        {
            outbox.span.to = span.to;
            return;
        }
        let Some(queue) = self.accepting(conn) else { return };
        self.queues[queue].span(span, &mut self.segments, &mut self.deflater);
        self.note_holder(conn);
        self.appended(conn, queue, self.outboxes[conn.index as usize].framing);
    }

    /// Bytes not sent yet.
    #[must_use]
    pub fn pending(&self, conn: ConnKey) -> usize {
        match self.outbox(conn) {
            Some(outbox) if outbox.state == State::Span => outbox.span.len(),
            _ => self.queue_of(conn).map_or(0, |queue| self.queues[queue].pending()),
        }
    }

    /// When the connection last made progress, in milliseconds, if its last write was short. The write
    /// timeout (3009) counts from here.
    #[must_use]
    pub fn blocked_since(&self, conn: ConnKey) -> Option<u64> {
        self.queues[self.queue_of(conn)?].since
    }

    fn outbox(&self, conn: ConnKey) -> Option<&Outbox> {
        let outbox = self.outboxes.get(conn.index as usize)?;
        (outbox.generation == conn.generation && outbox.state != State::Vacant).then_some(outbox)
    }

    fn outbox_mut(&mut self, conn: ConnKey) -> Option<&mut Outbox> {
        let outbox = self.outboxes.get_mut(conn.index as usize)?;
        (outbox.generation == conn.generation && outbox.state != State::Vacant).then_some(outbox)
    }

    fn queue_of(&self, conn: ConnKey) -> Option<usize> {
        let outbox = self.outbox(conn).filter(|outbox| outbox.state == State::Queued)?;
        Some(outbox.queue as usize)
    }

    /// The queue of a connection that takes `len` more private bytes.
    fn admit(&mut self, conn: ConnKey, len: usize) -> Option<(usize, Framing)> {
        let queue = self.accepting(conn)?;
        let framing = self.outboxes[conn.index as usize].framing;
        let full = framing == Framing::Raw && self.queues[queue].waiting() > self.queue_max();
        if full || self.queues[queue].private_len().saturating_add(len) > PRIVATE_MAX {
            self.mark_slow(conn);
            self.appended(conn, queue, framing);
            return None;
        }
        Some((queue, framing))
    }

    /// The queue of a connection that accepts bytes, lent if need be; the connection is dirty unless blocked.
    fn accepting(&mut self, conn: ConnKey) -> Option<usize> {
        let outbox = self.outbox(conn).filter(|outbox| accepts(outbox))?;
        match outbox.state {
            State::Queued => Some(outbox.queue as usize),
            State::Idle => {
                self.dirty.push(conn);
                Some(self.lend(conn))
            }
            State::Span => Some(self.lend(conn)),
            State::Vacant | State::Refusing | State::Shut => None,
        }
    }

    /// Bytes may have been added: the limit holds, and a dirty outbox has something to write.
    fn appended(&mut self, conn: ConnKey, queue: usize, framing: Framing) {
        let queue = &self.queues[queue];
        if queue.pending() == 0 && !queue.blocked {
            self.empty(conn);
        } else if framing != Framing::Raw && queue.waiting() > self.queue_max() {
            self.mark_slow(conn);
        }
        if framing == Framing::SockJsLine
            && let Some(queue) = self.queue_of(conn)
            && !std::mem::replace(&mut self.queues[queue].listed, true)
        {
            self.parked_ready.push(conn);
        }
    }

    /// Moves what waits in the outbox itself to a queue.
    fn lend(&mut self, conn: ConnKey) -> usize {
        let index = self.queues_free.pop().unwrap_or_else(|| {
            self.queues.push(Queue::default());
            (self.queues.len() - 1) as u32
        });
        let queue = &mut self.queues[index as usize];
        self.queues_free_bytes -= queue.capacity();
        let outbox = &mut self.outboxes[conn.index as usize];
        if outbox.state == State::Span {
            queue.span(outbox.span, &mut self.segments, &mut self.deflater);
        }
        outbox.state = State::Queued;
        outbox.queue = index;
        index as usize
    }

    /// Takes the queue of an outbox back, whatever is in it.
    fn take_back(&mut self, index: u32) {
        let queue = &mut self.queues[index as usize];
        if let Some(place) = queue.held_as {
            self.holders.remove(&place);
        }
        queue.reset(&mut self.segments);
        if self.queues_free_bytes + queue.capacity() > IDLE_QUEUES_MAX {
            queue.free_memory();
        }
        self.queues_free_bytes += queue.capacity();
        self.queues_free.push(index);
    }

    /// Drops everything that waits.
    fn empty(&mut self, conn: ConnKey) {
        let outbox = self.outboxes[conn.index as usize];
        match outbox.state {
            State::Span => self.stale = true,
            State::Queued => {
                self.stale |= !self.queues[outbox.queue as usize].blocked;
                self.take_back(outbox.queue);
            }
            State::Vacant | State::Idle | State::Refusing | State::Shut => {}
        }
        self.outboxes[conn.index as usize].state = outbox.empty_state();
    }

    /// Lists a connection among the holders if spans of its queue are counted.
    fn note_holder(&mut self, conn: ConnKey) {
        let Some(queue) = self.queue_of(conn) else { return };
        let queue = &mut self.queues[queue];
        if queue.held_as.is_none() && queue.holds() {
            queue.held_as = Some(self.holders_next);
            self.holders.insert(self.holders_next, conn);
            self.holders_next += 1;
        }
    }

    fn forget_holder(&mut self, conn: ConnKey) {
        let queue = self.outboxes[conn.index as usize].queue;
        if let Some(place) = self.queues[queue as usize].held_as.take() {
            self.holders.remove(&place);
        }
    }
}

fn accepts(outbox: &Outbox) -> bool {
    !outbox.closing && !outbox.slow
}
