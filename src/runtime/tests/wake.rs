//! Sleeping cores and those who wake them.

use super::harness::{BACKENDS, Command, Seen, Server};
use crate::metrics::Counter;
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

#[test]
fn other_threads_wake_a_sleeping_core() {
    for backend in BACKENDS {
        let server = Server::start(2, backend);
        for round in 0..500 {
            // Each answer is followed by sleep: the next question has to wake the core.
            server.report(round % 2);
        }
        server.stop();
    }
}

#[test]
fn alarms_are_kept() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        // Later, then earlier than what is set, then in the past.
        for after_ms in [10, 40, 5, 0, 1] {
            server.order(0, Command::Alarm(after_ms));
            let late_ms = server.until(|seen| match seen {
                Seen::Alarm { late_ms } => Some(late_ms),
                _ => None,
            });
            assert!(late_ms < 1000, "{backend:?}: {late_ms} ms late");
        }
        server.order(0, Command::Alarm(3_600_000));
        server.order(0, Command::Alarm(5));
        server.until(|seen| matches!(seen, Seen::Alarm { .. }).then_some(()));
        server.stop();
    }
}

// An idle core takes no turns: what it counts between two questions are the questions.
#[test]
fn an_idle_core_sleeps() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let _idle = TcpStream::connect(server.address()).expect("accepted");
        server.order(0, Command::Alarm(300));
        let before = server.report(0).1.value(Counter::Turns);
        server.until(|seen| matches!(seen, Seen::Alarm { .. }).then_some(()));
        let after = server.report(0).1.value(Counter::Turns);
        assert!(after - before < 20, "{backend:?}: {} turns in 300 ms", after - before);
        server.stop();
    }
}

/// Slow readers, quick talkers, questions from outside and batches between the cores, all with pauses that let
/// cores sleep and wake all the time. Nothing may stand still.
fn stress(seed: u64, backend: crate::runtime::Backend) {
    let server = Server::start(2, backend);
    let address = server.address();
    let talkers: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).expect("accepted");
                stream.set_read_timeout(Some(super::harness::PATIENCE)).expect("a timeout");
                for round in 0..200u64 {
                    let text = [round as u8; 32];
                    stream.write_all(&text).expect("room");
                    stream.read_exact(&mut [0; 32]).expect("an answer: nothing stands still");
                }
            })
        })
        .collect();
    let slow: Vec<_> = (0..4)
        .map(|index| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).expect("accepted");
                stream.set_read_timeout(Some(super::harness::PATIENCE)).expect("a timeout");
                let bytes = super::harness::noise(seed * 10 + index, 3_000_000);
                let mut writer = stream.try_clone().expect("a clone");
                let all = bytes.clone();
                let writing = thread::spawn(move || writer.write_all(&all).expect("the server reads"));
                // Reading in bites keeps the socket full most of the time.
                let mut got = Vec::new();
                let mut bite = vec![0; 1 + (seed as usize * 7919 + index as usize * 104_729) % 60_000];
                while got.len() < bytes.len() {
                    let count = stream.read(&mut bite).expect("more: nothing stands still");
                    got.extend_from_slice(&bite[..count]);
                    thread::yield_now();
                }
                assert!(got == bytes);
                writing.join().expect("written");
            })
        })
        .collect();
    for core in 0..2 {
        server.tell(core, Command::Count { to: 1 - core, total: 5000, batch: 3 });
    }
    for thread in talkers.into_iter().chain(slow) {
        thread.join().expect("a content client");
    }
    for core in 0..2 {
        assert_eq!(server.report(core).1.value(Counter::TimerWakes), 0, "seed {seed}");
    }
    server.stop();
}

#[test]
fn nothing_stands_still() {
    for backend in BACKENDS {
        for seed in 0..3 {
            stress(seed, backend);
        }
    }
}
