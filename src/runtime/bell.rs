//! A core's bell: the descriptor that ends its sleep, and whether it needs to be rung.
//!
//! A core sleeps in its net ring. One eventfd per core, polled by that ring, serves all others who can wake it:
//! the other cores' mesh queues, other threads and the watch.

use super::{doorbell::Sleeping, sys};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
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

    /// Makes the descriptor wait for the next ring.
    pub fn quiet(&self) {
        sys::take_signals(self.fd.as_fd());
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}
