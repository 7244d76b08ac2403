//! The turn's shared bytes: finished frames that many connections are about to send, stored once.
//!
//! Frames are put into the segment being filled; outboxes name them by [`Span`]. After a flush a segment is
//! empty again unless blocked connections still need bytes of it, which is counted per queued span and only
//! for them. A held segment goes on being filled before the next one is started. What is held is counted by
//! capacity, because that is what it costs.

/// Bytes of one segment, by offset: nothing is borrowed between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub segment: u32,
    pub from: u32,
    pub to: u32,
}

impl Span {
    pub const EMPTY: Self = Self { segment: u32::MAX, from: 0, to: 0 };

    #[must_use]
    pub fn len(self) -> usize {
        (self.to - self.from) as usize
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.from == self.to
    }

    /// True when `next` begins where this one ends: both are one span then.
    #[must_use]
    #[inline]
    pub fn touches(self, next: Self) -> bool {
        self.segment == next.segment && self.to == next.from
    }

    /// Both as one span, when this one begins where `before` ends.
    #[must_use]
    pub fn after(self, before: Self) -> Option<Self> {
        before.touches(self).then_some(Self { from: before.from, ..self })
    }
}

/// Empty segments kept for the next turns.
const SPARE_MAX: usize = 4;

/// The longest frame: offsets are 32 bits.
const FRAME_MAX: usize = u32::MAX as usize;

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Spans of blocked connections that lie here.
    holds: u32,
    /// Written to in this turn: spans of connections that are not blocked may lie here.
    fresh: bool,
}

#[derive(Debug)]
pub(super) struct Segments {
    slots: Vec<Segment>,
    /// Slots without memory.
    vacant: Vec<u32>,
    /// Empty slots with memory.
    spare: Vec<u32>,
    /// Where the next frame goes if it fits.
    filling: Option<u32>,
    /// Every slot that is `fresh`.
    fresh: Vec<u32>,
    held_bytes: usize,
    size: usize,
}

impl Segments {
    pub fn new(size: usize) -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            spare: Vec::new(),
            filling: None,
            fresh: Vec::new(),
            held_bytes: 0,
            size,
        }
    }

    /// Capacity of all segments that blocked connections hold.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.slots[span.segment as usize].bytes[span.from as usize..span.to as usize]
    }

    /// Room for a frame of this length, zeroed. A frame longer than a segment gets one of its own.
    pub fn place(&mut self, len: usize) -> (Span, &mut [u8]) {
        assert!(len <= FRAME_MAX, "a frame of {len} bytes");
        let id = self.with_room(len);
        let slot = &mut self.slots[id as usize];
        if !slot.fresh {
            slot.fresh = true;
            self.fresh.push(id);
        }
        let from = slot.bytes.len();
        slot.bytes.resize(from + len, 0);
        let span = Span { segment: id, from: from as u32, to: (from + len) as u32 };
        (span, &mut slot.bytes[from..])
    }

    fn with_room(&mut self, len: usize) -> u32 {
        let room = |slot: &Segment| slot.bytes.capacity() - slot.bytes.len();
        if let Some(id) = self.filling
            && room(&self.slots[id as usize]) >= len
        {
            return id;
        }
        if len > self.size {
            // The one being filled stays: the next small frame fits there.
            return self.allocate(len);
        }
        let id = match self.spare.pop() {
            Some(id) => id,
            None => self.allocate(self.size),
        };
        self.filling = Some(id);
        id
    }

    fn allocate(&mut self, capacity: usize) -> u32 {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Segment::default());
            (self.slots.len() - 1) as u32
        });
        self.slots[id as usize].bytes = Vec::with_capacity(capacity);
        id
    }

    /// A span of a blocked connection lies in this segment.
    pub fn hold(&mut self, segment: u32) {
        let slot = &mut self.slots[segment as usize];
        if slot.holds == 0 {
            self.held_bytes += slot.bytes.capacity();
        }
        slot.holds += 1;
    }

    /// Undoes one [`Segments::hold`].
    pub fn release(&mut self, segment: u32) {
        let slot = &mut self.slots[segment as usize];
        slot.holds -= 1;
        if slot.holds == 0 {
            self.held_bytes -= slot.bytes.capacity();
            if !slot.fresh {
                self.empty(segment);
            }
        }
    }

    /// The flush is over: what nobody holds is empty.
    pub fn end_turn(&mut self) {
        while let Some(id) = self.fresh.pop() {
            let slot = &mut self.slots[id as usize];
            slot.fresh = false;
            if slot.holds == 0 {
                self.empty(id);
            }
        }
    }

    fn empty(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        slot.bytes.clear();
        if self.filling == Some(id) {
            return;
        }
        if slot.bytes.capacity() == self.size && self.spare.len() < SPARE_MAX {
            self.spare.push(id);
        } else {
            slot.bytes = Vec::new();
            self.vacant.push(id);
        }
    }
}

#[cfg(test)]
impl Segments {
    /// Spans counted in all segments.
    pub fn holds(&self) -> usize {
        self.slots.iter().map(|slot| slot.holds as usize).sum()
    }

    /// What must hold between any two calls.
    pub fn check(&self) {
        let held: usize =
            self.slots.iter().filter(|slot| slot.holds > 0).map(|slot| slot.bytes.capacity()).sum();
        assert_eq!(held, self.held_bytes);
        for (id, slot) in self.slots.iter().enumerate() {
            let id = id as u32;
            let idle = self.spare.contains(&id) || self.vacant.contains(&id);
            let used = slot.holds > 0 || slot.fresh || self.filling == Some(id);
            assert_eq!(idle, !used, "segment {id} is lost or free while used");
        }
    }

    /// Segments with bytes in them.
    pub fn in_use(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.bytes.is_empty() || slot.holds > 0).count()
    }

    pub fn capacities(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|slot| slot.bytes.capacity())
    }
}
