//! A core's bell: the descriptor it sleeps on, and whether it needs to be rung.
//!
//! One eventfd per core serves all who can wake it: its net ring (the kernel writes it), the other
//! cores' mesh queues and other threads. It is a blocking one: the core reads it through an asynchronous
//! read, and a non-blocking descriptor would complete that read with EAGAIN.

use super::{doorbell::Sleeping, sys};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

#[derive(Debug)]
pub(super) struct Bell {
    pub sleeping: Sleeping,
    fd: OwnedFd,
}

impl Bell {
    pub fn new() -> io::Result<Self> {
        Ok(Self { sleeping: Sleeping::new(), fd: sys::eventfd()? })
    }

    /// To be called after publishing something for the core.
    pub fn ring_if_asleep(&self) {
        if self.sleeping.must_ring() {
            self.ring();
        }
    }

    /// Wakes the core whatever it does.
    pub fn ring(&self) {
        sys::signal(self.fd.as_fd());
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
