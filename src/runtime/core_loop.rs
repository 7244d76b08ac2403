//! The life of one core: turn after turn, and sleep when there is nothing to do.
//!
//! A core sleeps in its net ring, where completions, timeouts and the bell end the sleep. Before it does, the
//! loop announces it and looks at every queue (see `doorbell`); the kernel looks at the sockets and the bell. The second
//! net (`watch`) finds a core that sleeps although it has work, counts that ([`Counter::TimerWakes`], must stay
//! 0) and wakes it.

use super::{
    Clock, Driver, Next,
    bell::Bell,
    error::RunError,
    inbox::{Mail, Receiver},
    mesh::{Mesh, Parcel},
    net::Sockets,
    start::Shared,
};
use crate::metrics::Counter;
use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Everything a core owns.
pub(super) struct Core<D: Driver> {
    pub index: usize,
    pub driver: D,
    pub net: Sockets,
    pub mesh: Mesh<D::Message>,
    pub inbox: Receiver<D::Foreign>,
    pub bell: Arc<Bell>,
    pub shared: Arc<Shared>,
    /// Taken out of the inbox, for the driver.
    pub foreign: VecDeque<Mail<D::Foreign>>,
}

/// What follows a turn.
enum After {
    Sleep { until_ms: Option<u64> },
    Again,
    End(Result<(), RunError>),
}

impl<D: Driver> Core<D> {
    fn clock(&self) -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { ms: self.shared.now_ms(), unix_ms: wall.as_millis() as u64 }
    }

    fn turn(&mut self) -> After {
        let started = Instant::now();
        let clock = self.clock();
        self.mesh.note_room();
        self.driver.begin_turn(clock);
        self.net.turn(&mut self.driver, started, clock.ms);
        self.hand_over_sockets();
        self.receive_parcels();
        self.inbox.take(&mut self.foreign);
        for mail in self.foreign.drain(..) {
            match mail {
                Mail::Message(message) => self.driver.on_foreign(message),
                Mail::Socket(socket) => self.net.adopt(&mut self.driver, socket),
            }
        }
        let next = self.driver.end_turn(&mut self.net, &mut self.mesh);
        self.count_turn(started);
        if let Some(error) = self.net.failure() {
            let error = RunError::Ring { core: self.index, reason: error.to_string() };
            return After::End(Err(error));
        }
        match next {
            Next::Stop => After::End(Ok(())),
            Next::Again => After::Again,
            Next::Sleep { until_ms } => {
                let until_ms = [until_ms, self.net.deadline_ms()].into_iter().flatten().min();
                After::Sleep { until_ms }
            }
        }
    }

    /// A turn, with the driver's panics turned into an error.
    fn guarded_turn(&mut self) -> After {
        if self.shared.is_stopping() {
            return After::End(Ok(()));
        }
        self.show_life();
        catch_unwind(AssertUnwindSafe(|| self.turn())).unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            After::End(Err(RunError::Panicked { core: self.index, message }))
        })
    }

    fn hand_over_sockets(&mut self) {
        for (to, socket) in self.net.take_handed_over() {
            if let Some(socket) = self.mesh.send_socket(to, socket) {
                self.net.carry_after_all(&mut self.driver, to, socket);
            }
        }
    }

    fn receive_parcels(&mut self) {
        let Self { mesh, driver, net, .. } = self;
        mesh.receive(|from, parcel| match parcel {
            Parcel::Batch(mut batch) => {
                driver.on_batch(from, &mut batch);
                debug_assert!(batch.is_empty(), "a driver takes everything out of a batch");
                batch.clear();
                Some(batch)
            }
            Parcel::Socket(socket) => {
                net.carry(driver, socket);
                None
            }
        });
    }

    fn count_turn(&mut self, started: Instant) {
        let micros = started.elapsed().as_micros() as u64;
        let counters = self.net.counters_mut();
        counters.increment(Counter::Turns);
        counters.add(Counter::BusyMicros, micros);
        if counters.value(Counter::TurnMicrosMax) < micros {
            counters.set(Counter::TurnMicrosMax, micros);
        }
    }

    fn has_mail(&self) -> bool {
        self.mesh.has_news() || !self.inbox.is_empty() || self.shared.is_stopping()
    }

    /// The steps before a sleep, in the order that loses no wake-up. False: there is work.
    fn may_sleep(&mut self, until_ms: Option<u64>) -> bool {
        self.bell.sleeping.announce();
        self.net.may_sleep(until_ms) && !self.has_mail()
    }

    /// Blocks until something completes, somebody rings, or the second net finds work twice in this sleep: the
    /// first time its ring may be on the way.
    fn sleep(&mut self) {
        let mut suspicious = false;
        while !self.net.sleep() && self.bell.sleeping.is_announced() && !self.shared.is_stopping() {
            if !self.show_life() {
                continue;
            }
            let overslept = self.has_mail();
            if overslept && suspicious {
                return self.net.counters_mut().increment(Counter::TimerWakes);
            }
            suspicious = overslept;
        }
    }

    /// Answers the watch, if it asked.
    fn show_life(&self) -> bool {
        let asked = self.shared.lever(self.index).take_pull();
        if asked {
            self.shared.beat(self.index);
        }
        asked
    }

    /// Turns and sleeps until the driver stops, the core fails, or the whole runtime stops.
    fn live(&mut self) -> Result<(), RunError> {
        loop {
            match self.guarded_turn() {
                After::End(result) => return result,
                After::Again => {}
                After::Sleep { until_ms } => {
                    if self.may_sleep(until_ms) {
                        self.sleep();
                    }
                    self.bell.sleeping.withdraw();
                }
            }
        }
    }

    /// Runs the core and releases what it holds. Occupies the thread throughout.
    pub fn run(mut self) -> Result<(), RunError> {
        let result = self.live();
        self.shut_down();
        result
    }

    fn shut_down(&mut self) {
        let Self { net, driver, .. } = self;
        // A driver that panicked may do so again; it is told all the same, and not listened to.
        let released = catch_unwind(AssertUnwindSafe(|| net.shut_down(driver))).unwrap_or(false);
        if !released {
            net.keep_buffers();
        }
    }
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}
