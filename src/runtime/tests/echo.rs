//! Bytes in, bytes out, connections coming and going.

use super::harness::{BACKENDS, Command, PATIENCE, Seen, Server, noise, options};
use crate::metrics::Counter;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    thread,
};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Writes in pieces of odd sizes while another thread reads; all must come back.
fn talk(address: SocketAddr, seed: u64, length: usize) {
    let bytes = noise(seed, length);
    let mut stream = connect(address);
    let mut reader = stream.try_clone().expect("a clone");
    let expected = bytes.clone();
    let reading = thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).expect("all comes back");
        assert!(got == expected, "what comes back is what was sent");
    });
    let mut rest = bytes.as_slice();
    let mut step = seed as usize;
    while !rest.is_empty() {
        step = (step * 31 + 7) % 40_000;
        let (piece, tail) = rest.split_at(step.clamp(1, rest.len()));
        stream.write_all(piece).expect("the server reads");
        rest = tail;
    }
    reading.join().expect("the reader is content");
}

#[test]
fn echoes_many_connections() {
    for backend in BACKENDS {
        for cores in [1, 2] {
            let server = Server::start(cores, backend);
            let address = server.address();
            let clients: Vec<_> = (1..=12)
                .map(|seed| thread::spawn(move || talk(address, seed, 1000 * seed as usize * seed as usize)))
                .collect();
            clients.into_iter().for_each(|client| client.join().expect("a content client"));
            let mut totals = (0, 0, 0);
            for core in 0..cores {
                let (_, counters, _) = server.report(core);
                totals.0 += counters.value(Counter::BytesReceived);
                totals.1 += counters.value(Counter::BytesSent);
                totals.2 += counters.value(Counter::ConnectionsAccepted);
            }
            assert_eq!(totals, (650_000, 650_000, 12), "{backend:?} on {cores}");
            server.stop();
        }
    }
}

// Few small buffers: receives run dry all the time and are armed again.
#[test]
fn few_buffers_serve_many() {
    let small = super::harness::options(1, crate::runtime::Backend::Ring);
    let server = Server::with(crate::runtime::Options { buffer_count: 2, buffer_size: 100, ..small });
    let address = server.address();
    let clients: Vec<_> = (1..=8).map(|seed| thread::spawn(move || talk(address, seed, 100_000))).collect();
    clients.into_iter().for_each(|client| client.join().expect("a content client"));
    server.stop();
}

#[test]
fn speaks_ipv6_and_several_listeners() {
    for backend in BACKENDS {
        let mut options = options(1, backend);
        options.addresses.push((Ipv6Addr::LOCALHOST, 0).into());
        let server = Server::with(options);
        let client = connect(server.running.addresses()[1]);
        let local = client.local_addr().expect("connected");
        let (listener, peer) = server.until(|seen| match seen {
            Seen::Accepted { listener, peer, .. } => Some((listener, peer)),
            _ => None,
        });
        assert_eq!((listener, peer), (1, local));
        server.stop();
    }
}

// A slot is used again and again, under another name each time.
#[test]
fn names_are_never_used_twice() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let mut names = BTreeSet::new();
        for round in 0..40 {
            let mut client = connect(server.address());
            let key = server.until(|seen| match seen {
                Seen::Accepted { key, .. } => Some(key),
                _ => None,
            });
            assert!(names.insert(key), "{key:?} in round {round}");
            client.write_all(b"x").expect("room");
            client.read_exact(&mut [0]).expect("echo");
            drop(client);
            server.until(|seen| matches!(seen, Seen::Ended { .. }).then_some(()));
            server.tell(0, Command::CloseAll(crate::runtime::Close::Graceful { linger_ms: 1000 }));
            server.until(|seen| (seen == Seen::Released { key }).then_some(()));
        }
        assert!(names.iter().all(|key| key.index == 0), "the slot was free each time");
        server.stop();
    }
}

#[test]
fn connections_spread_evenly() {
    for backend in BACKENDS {
        let server = Server::start(2, backend);
        let mut held = Vec::new();
        let mut counts = [0; 2];
        for _ in 0..20 {
            held.push(connect(server.address()));
            let core = server.until(|seen| match seen {
                Seen::Accepted { core, .. } => Some(core),
                _ => None,
            });
            counts[core] += 1;
        }
        assert_eq!(counts, [10, 10], "{backend:?}");
        for client in &mut held {
            client.write_all(b"hello").expect("room");
            client.read_exact(&mut [0; 5]).expect("the core that got it serves it");
        }
        server.stop();
    }
}

#[test]
fn draining_keeps_what_is_there() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let mut client = connect(server.address());
        server.until(|seen| matches!(seen, Seen::Accepted { .. }).then_some(()));
        server.order(0, Command::Drain);
        // The listener is gone a turn later; until then a connection may still be taken, or reset.
        while TcpStream::connect(server.address()).is_ok() {}
        client.write_all(b"still here").expect("room");
        client.read_exact(&mut [0; 10]).expect("still served");
        server.stop();
    }
}

// What the kernel had accepted before the drain is served.
#[test]
fn draining_empties_the_queue() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let clients: Vec<_> = (0..50).map(|_| connect(server.address())).collect();
        server.order(0, Command::Drain);
        for mut client in clients {
            client.write_all(b"hello").expect("room");
            client.read_exact(&mut [0; 5]).expect("served");
        }
        server.stop();
    }
}
