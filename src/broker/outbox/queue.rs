//! What waits for one connection: an ordered list of private bytes and shared spans.
//!
//! Lent to an outbox while it has more than one span waiting. Pieces that touch merge. The first piece keeps
//! its beginning, which is a frame boundary, and `sent` says how much of it is gone: so the rest of a frame
//! that was begun can be told from what may be dropped. A list that grows past [`PIECES_MAX`] pieces is
//! copied into one.

use super::{
    deflaters::{Deflaters, Deflation},
    framing::{Framing, frame_around},
    segments::{Segments, Span},
};

/// Private bytes that are whole frames, and such that are not (HTTP). They stand in [`Span::segment`].
const PRIVATE: u32 = u32::MAX;
const UNFRAMED: u32 = u32::MAX - 1;

/// Fewer than a vectored write takes (1024).
const PIECES_MAX: usize = 512;

/// Private bytes of one connection: offsets are 32 bits, with room for one more message.
pub(super) const PRIVATE_MAX: usize = 1 << 30;

/// Sent private bytes are given up when they are this many and at least half of all.
const COMPACT_MIN: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Queue {
    private: Vec<u8>,
    pieces: Vec<Span>,
    /// Bytes of the first piece that are sent.
    sent: usize,
    pending: usize,
    frame: Option<OpenFrame>,
    /// When the connection blocked or last made progress, in milliseconds, until everything is sent.
    pub since: Option<u64>,
    /// Waits for the socket; while this is unset, the connection is on the dirty list.
    pub blocked: bool,
    /// The connection was blocked: each span among the pieces is counted in its segment.
    holding: bool,
    /// Place among those who hold segments.
    pub held_as: Option<u64>,
    /// Without a connection: its key is listed as one for which something was queued.
    pub listed: bool,
}

/// The last frame among the private bytes, to which messages can be added.
#[derive(Clone, Copy, Debug)]
struct OpenFrame {
    header_at: usize,
    payload_at: usize,
    framing: Framing,
}

fn is_private(piece: Span) -> bool {
    piece.segment >= UNFRAMED
}

impl Queue {
    /// Bytes not sent.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Bytes that count against the connection's limit: private ones at once, shared ones from the first
    /// write that did not take everything.
    pub fn waiting(&self) -> usize {
        if self.since.is_some() { self.pending } else { self.private.len() }
    }

    pub fn private_len(&self) -> usize {
        self.private.len()
    }

    pub fn capacity(&self) -> usize {
        self.private.capacity() + self.pieces.capacity() * size_of::<Span>()
    }

    /// Appends one message to the open frame or to a new one. The header is right after every message.
    /// True when the frame is new and waits to be compressed: call [`Queue::close_frame`] before it is sent.
    pub fn message(
        &mut self,
        framing: Framing,
        frame_max: usize,
        deflater: &mut Deflaters,
        encode: impl FnOnce(&mut Vec<u8>, usize),
    ) -> bool {
        let new = self.frame.is_none();
        let frame = self.frame.unwrap_or_else(|| {
            let header_at = self.private.len();
            self.private.resize(header_at + framing.header_len(0), 0);
            OpenFrame { header_at, payload_at: self.private.len(), framing }
        });
        let old_end = if self.frame.is_some() { self.private.len() } else { frame.header_at };
        // What ends the frame moves behind the new message.
        let trailer = framing.trailer();
        let payload_end = if self.frame.is_some() { old_end - trailer.len() } else { self.private.len() };
        self.private.truncate(payload_end);
        encode(&mut self.private, frame.payload_at);
        let payload_len = self.private.len() - frame.payload_at;
        if payload_len == 0 {
            self.private.truncate(frame.header_at);
            return false;
        }
        let frame = self.write_header(framing, frame, payload_len);
        self.private.extend_from_slice(trailer);
        let kind = if framing.has_frames() { PRIVATE } else { UNFRAMED };
        self.added_private(kind, old_end);
        self.frame = Some(frame);
        if payload_len >= frame_max {
            self.close_frame(deflater);
        }
        new && self.frame.is_some() && framing.deflation().is_some()
    }

    /// The next message begins a frame. The open one, at the end of the private bytes, is compressed if that
    /// is agreed on and makes it shorter.
    pub fn close_frame(&mut self, deflater: &mut Deflaters) {
        if let Some(frame) = self.frame.take()
            && let Some(how) = frame.framing.deflation()
        {
            self.deflate(frame, how, deflater);
        }
    }

    fn deflate(&mut self, frame: OpenFrame, how: Deflation, deflater: &mut Deflaters) {
        let Some(deflated) = deflater.deflate(how, &self.private[frame.payload_at..]) else { return };
        let old_end = self.private.len();
        let payload_at = frame.header_at + frame.framing.header_len(deflated.len());
        let end = payload_at + deflated.len();
        self.private.truncate(end);
        self.private[payload_at..].copy_from_slice(deflated);
        frame.framing.write_header(deflated.len(), true, &mut self.private[frame.header_at..payload_at]);
        self.pending -= old_end - end;
        if let Some(last) = self.pieces.last_mut() {
            last.to = end as u32;
        }
    }

    fn write_header(&mut self, framing: Framing, frame: OpenFrame, payload_len: usize) -> OpenFrame {
        let payload_at = frame.header_at + framing.header_len(payload_len);
        if payload_at != frame.payload_at {
            let old = frame.payload_at..frame.payload_at + payload_len;
            self.private.resize(payload_at + payload_len, 0);
            self.private.copy_within(old, payload_at);
        }
        framing.write_header(payload_len, false, &mut self.private[frame.header_at..payload_at]);
        OpenFrame { payload_at, ..frame }
    }

    /// Appends bytes as they are, after everything before.
    pub fn raw(&mut self, framing: Framing, bytes: &[u8], deflater: &mut Deflaters) {
        self.close_frame(deflater);
        let old_end = self.private.len();
        self.private.extend_from_slice(bytes);
        if !bytes.is_empty() {
            let kind = if framing.has_frames() { PRIVATE } else { UNFRAMED };
            self.added_private(kind, old_end);
        }
    }

    /// The private bytes from `old_end` on are new.
    fn added_private(&mut self, kind: u32, old_end: usize) {
        let end = self.private.len();
        self.pending += end - old_end;
        self.append(Span { segment: kind, from: old_end as u32, to: end as u32 });
    }

    /// Appends shared bytes.
    pub fn span(&mut self, span: Span, segments: &mut Segments, deflater: &mut Deflaters) {
        self.close_frame(deflater);
        self.pending += span.len();
        if self.append(span) && self.holding {
            segments.hold(span.segment);
        }
        if self.pieces.len() > PIECES_MAX {
            self.copy_out(segments);
        }
    }

    /// True when the piece did not merge with the last one.
    fn append(&mut self, piece: Span) -> bool {
        match self.pieces.last_mut() {
            Some(last) if last.touches(piece) => {
                last.to = piece.to;
                false
            }
            _ => {
                self.pieces.push(piece);
                true
            }
        }
    }

    fn bytes<'a>(&'a self, piece: Span, segments: &'a Segments) -> &'a [u8] {
        if is_private(piece) {
            &self.private[piece.from as usize..piece.to as usize]
        } else {
            segments.bytes(piece)
        }
    }

    /// The unsent bytes in order.
    pub fn pieces<'a>(&'a self, segments: &'a Segments, out: &mut Vec<&'a [u8]>) {
        let mut skip = self.sent;
        for &piece in &self.pieces {
            out.push(&self.bytes(piece, segments)[skip..]);
            skip = 0;
        }
    }

    /// The socket took `sent` bytes, fewer than were offered: waits from now on.
    pub fn block(&mut self, sent: usize, now_ms: u64, segments: &mut Segments) {
        self.frame = None;
        self.advance(sent, segments);
        if !self.holding {
            self.holding = true;
            for piece in self.pieces.iter().filter(|&&piece| !is_private(piece)) {
                segments.hold(piece.segment);
            }
        }
        if sent > 0 || self.since.is_none() {
            self.since = Some(now_ms);
        }
        self.blocked = true;
        self.compact();
    }

    fn advance(&mut self, sent: usize, segments: &mut Segments) {
        let sent = sent.min(self.pending);
        self.pending -= sent;
        self.sent += sent;
        let mut done = 0;
        while let Some(&piece) = self.pieces.get(done)
            && piece.len() <= self.sent
        {
            self.sent -= piece.len();
            done += 1;
            self.let_go(piece, segments);
        }
        self.pieces.drain(..done);
    }

    fn let_go(&self, piece: Span, segments: &mut Segments) {
        if self.holding && !is_private(piece) {
            segments.release(piece.segment);
        }
    }

    /// Gives up private bytes that are sent.
    fn compact(&mut self) {
        if let Some(&first) = self.pieces.first()
            && is_private(first)
            && self.sent >= COMPACT_MIN
        {
            let begun = match first.segment {
                UNFRAMED => self.sent,
                _ => frame_around(&self.private[first.from as usize..first.to as usize], self.sent).0,
            };
            self.pieces[0].from += begun as u32;
            self.sent -= begun;
        }
        let used_from = self.pieces.iter().find(|&&piece| is_private(piece)).map(|piece| piece.from as usize);
        let dead = used_from.unwrap_or(self.private.len());
        if dead >= COMPACT_MIN && dead * 2 >= self.private.len() {
            self.private.drain(..dead);
            for piece in self.pieces.iter_mut().filter(|piece| is_private(**piece)) {
                piece.from -= dead as u32;
                piece.to -= dead as u32;
            }
        }
    }

    /// True when spans of segments wait here and are counted there.
    pub fn holds(&self) -> bool {
        self.holding && self.pieces.iter().any(|&piece| !is_private(piece))
    }

    /// Turns shared bytes into private ones, so that segments become free.
    pub fn copy_out(&mut self, segments: &mut Segments) {
        let pieces = std::mem::take(&mut self.pieces);
        let mut private = Vec::with_capacity(self.pending + self.sent);
        for piece in pieces {
            let from = private.len() as u32;
            private.extend_from_slice(self.bytes(piece, segments));
            let segment = if piece.segment == UNFRAMED { UNFRAMED } else { PRIVATE };
            self.append(Span { segment, from, to: private.len() as u32 });
            self.let_go(piece, segments);
        }
        self.private = private;
        self.frame = None;
    }

    /// Drops what waits, except the rest of a frame that was begun: the peer could not read on without it.
    pub fn drop_unbegun(&mut self, framing: Framing, segments: &mut Segments) {
        self.frame = None;
        let begun = match self.pieces.first() {
            Some(&first) if self.sent > 0 && framing.has_frames() => match first.segment {
                UNFRAMED => (0, first.len()),
                _ => frame_around(self.bytes(first, segments), self.sent),
            },
            _ => (0, 0),
        };
        let keep = usize::from(begun.0 < begun.1);
        for &piece in &self.pieces[keep.min(self.pieces.len())..] {
            self.let_go(piece, segments);
        }
        self.pieces.truncate(keep);
        self.sent = if keep == 0 { 0 } else { self.sent - begun.0 };
        if let Some(first) = self.pieces.first_mut() {
            first.to = first.from + begun.1 as u32;
            first.from += begun.0 as u32;
        }
        self.pending = self.pieces.first().map_or(0, |first| first.len() - self.sent);
        let private_end = self.pieces.first().filter(|&&first| is_private(first)).map_or(0, |first| first.to);
        self.private.truncate(private_end as usize);
    }

    /// As new, with its memory.
    pub fn reset(&mut self, segments: &mut Segments) {
        if self.holding {
            for &piece in &self.pieces {
                self.let_go(piece, segments);
            }
        }
        self.pieces.clear();
        self.private.clear();
        (self.sent, self.pending) = (0, 0);
        (self.frame, self.since, self.held_as) = (None, None, None);
        (self.blocked, self.holding, self.listed) = (false, false, false);
    }

    /// Gives its memory back.
    pub fn free_memory(&mut self) {
        debug_assert!(self.pieces.is_empty());
        self.private = Vec::new();
        self.pieces = Vec::new();
    }
}

#[cfg(test)]
impl Queue {
    /// What must hold between any two calls.
    pub fn check(&self) {
        let bytes: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        assert_eq!(bytes, self.pending + self.sent);
        assert!(self.pieces.iter().all(|piece| !piece.is_empty()));
        assert!(self.pieces.first().map_or(self.sent == 0, |first| self.sent < first.len()));
        assert!(self.pieces.windows(2).all(|pair| !pair[0].touches(pair[1])), "touching pieces not merged");
    }

    /// Spans that are counted in their segments.
    pub fn holds_count(&self) -> usize {
        self.pieces.iter().filter(|&&piece| self.holding && !is_private(piece)).count()
    }
}
