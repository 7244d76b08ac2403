//! The second net under every sleep: a thread that looks at each core ten times a second.
//!
//! The executor (glommio 0.9) parks for ever when it is descheduled for longer than its preempt timer between
//! arming that timer and looking for tasks, because it takes "preempted before anything ran" for "nothing to
//! run". Its own timers do not help: the one that fires may be what it drops. A wake-up from another thread
//! always ends a park, so each core offers a [`Lever`] and this thread pulls it. The core answers by
//! showing that it lives and by looking whether it sleeps over work (`core_loop`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    thread::{self, JoinHandle},
    time::Duration,
};

const PERIOD: Duration = Duration::from_millis(100);
/// A pull holds a reference to the core's task until the core answers, and the executor can count 32 767 of
/// them: a core that never answers is not pulled for ever.
const PULLS_MAX: u32 = 10_000;

/// Wakes one core from outside.
#[derive(Debug, Default)]
pub(super) struct Lever {
    waker: Mutex<Option<Waker>>,
    /// Pulls the core has not answered.
    pulls: AtomicU32,
}

impl Lever {
    pub fn offer(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// The core is about to end. Must be called on the core: the executor's wakers are to be dropped there.
    pub fn withdraw(&self) {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// For a core that died before it could withdraw: whatever the waker referred to is lost.
    pub fn abandon(&self) {
        std::mem::forget(self.waker.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether the lever was pulled since the last call.
    pub fn take_pull(&self) -> bool {
        self.pulls.swap(0, Ordering::Relaxed) > 0
    }

    fn pull(&self) {
        // The lock is held so that the core cannot withdraw in the meantime.
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*waker
            && self.pulls.fetch_add(1, Ordering::Relaxed) < PULLS_MAX
        {
            waker.wake_by_ref();
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
