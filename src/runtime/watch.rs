//! The second net under every sleep: a thread that has each core show ten times a second that it lives.
//!
//! A pull is answered at the next turn, or by a sleeping core between two sleeps (`core_loop`), which also looks
//! whether it sleeps over work. A core stuck in its driver answers no more, and health says so.

use super::bell::Bell;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const PERIOD: Duration = Duration::from_millis(100);

/// Asks one core for a sign of life.
#[derive(Debug)]
pub(super) struct Lever {
    bell: Arc<Bell>,
    pulled: AtomicBool,
}

impl Lever {
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { bell, pulled: AtomicBool::new(false) }
    }

    /// Whether the lever was pulled since the last call.
    pub fn take_pull(&self) -> bool {
        self.pulled.load(Ordering::Relaxed) && self.pulled.swap(false, Ordering::Relaxed)
    }

    /// Leaves the announcement of a sleep as it is: those who publish must still see it.
    fn pull(&self) {
        self.pulled.store(true, Ordering::Relaxed);
        if self.bell.sleeping.is_announced() {
            self.bell.ring();
        }
    }
}

/// The thread; ends when told.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub fn start(levers: Arc<[Lever]>) -> std::io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let thread = thread::Builder::new().name("corecast-watch".into()).spawn(move || {
            while !seen.load(Ordering::Acquire) {
                thread::park_timeout(PERIOD);
                levers.iter().for_each(Lever::pull);
            }
        })?;
        Ok(Self { over, thread })
    }

    pub fn end(self) {
        self.over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // It has nothing to say.
        let _ = self.thread.join();
    }
}
