//! Core to core, and what happens to the others when one fails.

use super::harness::{BACKENDS, Command, Seen, Server, options};
use crate::runtime::{Options, RunError};

#[test]
fn batches_arrive_in_order_through_a_full_queue() {
    const TOTAL: u64 = 2_000;
    for backend in BACKENDS {
        for mesh_batches_max in [1, 3, 64] {
            let server = Server::with(Options { mesh_batches_max, ..options(2, backend) });
            server.tell(0, Command::Count { to: 1, total: TOTAL, batch: 7 });
            server.tell(1, Command::Count { to: 0, total: TOTAL, batch: 3 });
            let mut open = 2;
            while open > 0 {
                if matches!(server.next(), Seen::Counted { total: TOTAL, .. }) {
                    open -= 1;
                }
            }
            server.stop();
        }
    }
}

#[test]
fn more_cores_than_cpus() {
    for backend in BACKENDS {
        let server = Server::start(5, backend);
        for core in 0..5 {
            let to = (core + 1) % 5;
            server.tell(core, Command::Count { to, total: 100, batch: 10 });
            server.until(|seen| (seen == Seen::Counted { from: core, total: 100 }).then_some(()));
        }
        server.stop();
    }
}

#[test]
fn a_panic_stops_all_and_names_the_core() {
    for backend in BACKENDS {
        let server = Server::start(2, backend);
        let _client = std::net::TcpStream::connect(server.address()).expect("accepted");
        server.tell(1, Command::Panic);
        let error = server.running.join().expect_err("a core panicked");
        assert_eq!(error, RunError::Panicked { core: 1, message: "as told".into() });
    }
}

#[test]
fn dropping_stops() {
    for backend in BACKENDS {
        let server = Server::start(2, backend);
        let sender = server.running.senders()[0].clone();
        drop(server);
        assert!(sender.send(Command::Report).is_err(), "nobody is there any more");
    }
}
