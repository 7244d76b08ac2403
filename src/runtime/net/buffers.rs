//! The read buffers one core lends to the kernel, and through it to all its connections.
//!
//! The kernel picks a buffer when bytes arrive and names it in the completion; it goes back as soon as the
//! bytes are handled. An idle connection holds none. When all are out, receives end with ENOBUFS and are
//! armed again once buffers are back.

use io_uring::{IoUring, types::BufRingEntry};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

/// The only group of buffers there is.
pub(super) const GROUP: u16 = 0;
const PAGE: usize = 4096;

pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// A power of two, at most 2^15.
    count: u16,
    size: usize,
    tail: u16,
}

impl Buffers {
    /// Registers `count` (a power of two up to 2^15) buffers of `size` bytes with `ring`.
    pub fn register(ring: &IoUring, count: u16, size: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && size > 0 && size <= 1 << 20);
        let entries = allocate(entries_layout(count)).cast::<BufRingEntry>();
        let memory = allocate(memory_layout(count, size));
        let mut buffers = Self { entries, memory, count, size, tail: 0 };
        // SAFETY: the entries are page-aligned, zeroed, `count` long and live until `buffers` is dropped, which
        // its owner does after unregistering them.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)?;
        }
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer the kernel has just handed over. `None` for an id or a length that is
    /// not ours.
    pub fn lent(&mut self, id: u16, len: usize) -> Option<&mut [u8]> {
        if id >= self.count || len > self.size {
            return None;
        }
        // SAFETY: in bounds by the check above; the kernel does not touch a buffer it has handed over until it is
        // given back, and `&mut self` keeps that from happening while the slice lives.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(id) * self.size);
            Some(std::slice::from_raw_parts_mut(start, len))
        }
    }

    /// Lends the buffer to the kernel again.
    pub fn give_back(&mut self, id: u16) {
        if id >= self.count {
            return;
        }
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: the slot lies within the entries; the kernel reads it only after the store of the tail below,
        // and no more than `count` buffers exist, so it has consumed what was there before. The tail lies in
        // the first entry's spare field and is read by the kernel alone.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * self.size) as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with exactly these layouts in `register`.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count, self.size));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE).expect("at most 512 KiB")
}

fn memory_layout(count: u16, size: usize) -> Layout {
    Layout::from_size_align(usize::from(count) * size, PAGE).expect("at most 32 GiB")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here has size zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
