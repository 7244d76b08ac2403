//! One io_uring and the words exchanged with it.
//!
//! User data is operation (8 bit), generation (24), slot (32). Completions that turn up where they cannot
//! be handled are stashed and come out first later; whoever is about to sleep asks [`Ring::has_some`].

use io_uring::{IoUring, cqueue, squeue};
use std::{collections::VecDeque, io};

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Accept = 1,
    /// A multishot receive, or the poll for input that stands for it.
    Receive,
    Send,
    /// A poll for room in the send buffer.
    Writable,
    /// The request to cancel an operation of a connection.
    Cancel,
    /// Concerns no connection: the bell, timeouts and what cancels them, cancelled accepts.
    Aside,
}

impl Op {
    fn from_bits(bits: u64) -> Option<Self> {
        [Self::Accept, Self::Receive, Self::Send, Self::Writable, Self::Cancel, Self::Aside]
            .into_iter()
            .find(|op| *op as u64 == bits)
    }
}

/// Generations in user data are this much shorter than those in keys.
pub(super) const GENERATION_MASK: u32 = (1 << 24) - 1;

pub(super) fn user_data(op: Op, generation: u32, slot: u32) -> u64 {
    ((op as u64) << 56) | (u64::from(generation & GENERATION_MASK) << 32) | u64::from(slot)
}

/// Operation, generation, slot. `None` for words we never wrote.
pub(super) fn split_user_data(bits: u64) -> Option<(Op, u32, u32)> {
    let op = Op::from_bits(bits >> 56)?;
    Some((op, (bits >> 32) as u32 & GENERATION_MASK, bits as u32))
}

pub(super) const SQ_ENTRIES: u32 = 4096;
const CQ_ENTRIES: u32 = 65_536;
/// `IORING_ENTER_GETEVENTS`.
const ENTER_GETEVENTS: u32 = 1;
/// Tries of a submit that the kernel turned down for want of memory or completion slots.
const SUBMIT_TRIES_MAX: u32 = 1000;

#[derive(Debug)]
pub(super) struct Failure(pub io::Error);

pub(super) struct Ring {
    ring: IoUring,
    stash: VecDeque<cqueue::Entry>,
    failure: Option<Failure>,
}

impl Ring {
    /// With everything the ring backend builds on.
    pub fn deferred() -> io::Result<Self> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .setup_clamp()
            .build(SQ_ENTRIES)
            .map(Self::over)
    }

    /// As kernel 5.8 has it.
    pub fn plain() -> io::Result<Self> {
        IoUring::builder().setup_cqsize(CQ_ENTRIES).setup_clamp().build(SQ_ENTRIES).map(Self::over)
    }

    fn over(ring: IoUring) -> Self {
        Self { ring, stash: VecDeque::new(), failure: None }
    }

    pub fn inner(&self) -> &IoUring {
        &self.ring
    }

    /// An error after which the ring is of no use.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Queues an operation, submitting what is queued when there is no room.
    ///
    /// # Safety
    /// What the entry points to must stay valid until its operation has ended; descriptors are open and
    /// stay so until they are submitted.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit();
            if self.failure.is_some() {
                return;
            }
        }
    }

    /// Free places in the submission queue.
    pub fn room(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Hands everything queued to the kernel without asking for completions.
    pub fn submit(&mut self) {
        let mut tries = 0;
        while self.failure.is_none() {
            let queued = self.ring.submission().len();
            if queued == 0 {
                return;
            }
            match self.enter_raw(queued, 0, 0) {
                Ok(0) => tries += 1,
                Ok(_) => tries = 0,
                Err(error) if is_transient(&error) => {
                    tries += 1;
                    self.stash_all();
                    self.enter_or_fail(0, 0);
                }
                Err(error) => self.failure = Some(Failure(error)),
            }
            if tries >= SUBMIT_TRIES_MAX {
                let error = io::Error::other("the kernel does not take what is submitted");
                self.failure = Some(Failure(error));
            }
        }
    }

    /// Submits, and lets the kernel deliver what it has, unless there is neither something to submit nor a
    /// lack of completions.
    pub fn enter_if_needed(&mut self) {
        if !self.has_ready() || !self.ring.submission().is_empty() {
            self.enter();
        }
    }

    /// Submits, and lets the kernel deliver what it has.
    fn enter(&mut self) {
        let queued = self.ring.submission().len();
        self.enter_or_fail(queued, 0);
        // What was not taken in one go.
        self.submit();
    }

    /// Like [`Ring::enter`], but waits for a completion (or a signal).
    pub fn enter_and_wait(&mut self) {
        let waits = self.stash.is_empty() && self.ring.completion().is_empty();
        let queued = self.ring.submission().len();
        self.enter_or_fail(queued, u32::from(waits));
        self.submit();
    }

    fn enter_or_fail(&mut self, queued: usize, want: u32) {
        match self.enter_raw(queued, want, ENTER_GETEVENTS) {
            Err(error) if !is_transient(&error) => self.failure = Some(Failure(error)),
            _ => {}
        }
    }

    fn enter_raw(&mut self, queued: usize, want: u32, flags: u32) -> io::Result<usize> {
        // SAFETY: no argument is passed, and entries were vouched for when they were pushed.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued as u32, want, flags, None) }
    }

    /// Moves at most `max` completions to `out`, oldest first.
    pub fn take(&mut self, out: &mut Vec<cqueue::Entry>, max: usize) {
        let stashed = self.stash.len().min(max);
        out.extend(self.stash.drain(..stashed));
        out.extend(self.ring.completion().take(max - stashed));
    }

    /// Takes what has arrived since, for `judge` to keep (true) or to leave to later.
    pub fn sift(&mut self, mut judge: impl FnMut(&cqueue::Entry) -> bool) {
        loop {
            for entry in self.ring.completion() {
                if !judge(&entry) {
                    self.stash.push_back(entry);
                }
            }
            if !self.ring.submission().cq_overflow() || self.failure.is_some() {
                return;
            }
            self.enter_or_fail(0, 0);
        }
    }

    fn stash_all(&mut self) {
        self.stash.extend(self.ring.completion());
    }

    /// Completions are waiting here, or could not be put here for want of room.
    pub fn has_some(&mut self) -> bool {
        self.has_ready() || self.ring.submission().cq_overflow()
    }

    /// Completions can be taken without asking the kernel for them.
    fn has_ready(&mut self) -> bool {
        !self.stash.is_empty() || !self.ring.completion().is_empty()
    }

    /// Whether the next [`Ring::enter`] may bring completions: recent kernels hand over only some at a time.
    ///
    /// A hint. The kernel raises the flag after it has queued the work, so it may do so when the work is
    /// already done, and then the flag stays up until there is new work: an enter that brought nothing is
    /// the end, whatever is said here. A sleep in the ring does what is left.
    pub fn may_have_more(&mut self) -> bool {
        self.has_some() || self.ring.submission().taskrun()
    }
}

/// Interrupted, out of memory for now, or completions must be taken first.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_comes_back() {
        #[track_caller]
        fn check(op: Op, generation: u32, slot: u32, want: u32) {
            assert_eq!(split_user_data(user_data(op, generation, slot)), Some((op, want, slot)));
        }
        check(Op::Accept, 0, 0, 0);
        check(Op::Receive, 1, u32::MAX, 1);
        check(Op::Send, GENERATION_MASK, 7, GENERATION_MASK);
        check(Op::Writable, GENERATION_MASK + 1, 7, 0);
        check(Op::Cancel, u32::MAX, 7, GENERATION_MASK);
        check(Op::Aside, 3, 9, 3);
        assert_eq!(split_user_data(0), None);
        assert_eq!(split_user_data(u64::MAX), None);
    }
}
