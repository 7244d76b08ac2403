//! How a core's loop sleeps: on one read of its bell that outlives the sleeps, or until it is nudged.
//!
//! The read goes through the executor's own ring. It is never cancelled, so no ring of the bell is lost;
//! one that comes while the core is awake only makes the next sleep a short one.

use super::bell::Bell;
use glommio::io::BufferedFile;
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    os::fd::{FromRawFd, IntoRawFd},
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
};

type Reading = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Bed {
    file: Rc<BufferedFile>,
    reading: Option<Reading>,
    sleeper: Rc<Sleeper>,
}

/// What the safety timer needs to know about the sleeping loop.
#[derive(Default)]
pub(super) struct Sleeper {
    asleep: Cell<bool>,
    sleeps: Cell<u64>,
    nudged: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Sleeper {
    /// The number of the present sleep; `None` when awake.
    pub fn sleep_number(&self) -> Option<u64> {
        self.asleep.get().then(|| self.sleeps.get())
    }

    /// Ends the present or the next sleep, from a task on the same core.
    pub fn nudge(&self) {
        self.nudged.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Bed {
    /// Must be called on the executor.
    pub fn new(bell: &Bell) -> io::Result<Self> {
        let own = bell.fd().try_clone_to_owned()?;
        // SAFETY: the file becomes the only owner of this duplicate.
        let file = unsafe { BufferedFile::from_raw_fd(own.into_raw_fd()) };
        Ok(Self { file: Rc::new(file), reading: None, sleeper: Rc::default() })
    }

    pub fn sleeper(&self) -> Rc<Sleeper> {
        self.sleeper.clone()
    }

    /// Sleeps until the bell rings (or has rung since the last sleep) or [`Sleeper::nudge`] is called.
    pub async fn sleep(&mut self) {
        let sleeper = &self.sleeper;
        sleeper.asleep.set(true);
        sleeper.sleeps.set(sleeper.sleeps.get() + 1);
        let file = &self.file;
        let reading = &mut self.reading;
        poll_fn(|context| {
            if sleeper.nudged.take() {
                return Poll::Ready(());
            }
            let read = reading.get_or_insert_with(|| ring_of(file.clone()));
            if read.as_mut().poll(context).is_ready() {
                *reading = None;
                return Poll::Ready(());
            }
            *sleeper.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        sleeper.asleep.set(false);
        sleeper.waker.borrow_mut().take();
    }

    /// Lets the read end, then closes the file. The last thing a core does with its bell.
    pub async fn close(mut self, bell: &Bell) {
        if let Some(reading) = self.reading.take() {
            bell.ring();
            reading.await;
        }
        if let Ok(file) = Rc::try_unwrap(self.file) {
            // Nothing was written to it, so nothing can be lost.
            let _ = file.close().await;
        }
    }
}

fn ring_of(file: Rc<BufferedFile>) -> Reading {
    Box::pin(async move {
        // A failed read ends the sleep like a ring: the loop looks at everything and tries again.
        let _ = file.read_at(0, 8).await;
    })
}
