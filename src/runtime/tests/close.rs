//! Ends of connections as the peer sees them.

use super::harness::{BACKENDS, Command, PATIENCE, Seen, Server, noise};
use crate::{
    runtime::{Close, End},
    stdx::slab::Key,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
};

fn connect(server: &Server) -> (TcpStream, Key) {
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let key = server.until(|seen| match seen {
        Seen::Accepted { key, .. } => Some(key),
        _ => None,
    });
    (stream, key)
}

#[track_caller]
fn wait_released(server: &Server, key: Key) {
    server.until(|seen| match seen {
        Seen::Ended { .. } => panic!("the driver closed it itself"),
        Seen::Released { key: released } => (released == key).then_some(()),
        _ => None,
    });
    assert_eq!(server.report(0).2, 0, "no connection is left");
}

const PATIENT: Close = Close::Graceful { linger_ms: 60_000 };

#[test]
fn graceful_delivers_everything_then_fin() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let (mut client, key) = connect(&server);
        let bytes = noise(3, 100_000);
        server.order(0, Command::Send(bytes.clone(), 0));
        server.order(0, Command::CloseAll(PATIENT));
        // Closing again changes nothing.
        server.order(0, Command::CloseAll(PATIENT));
        // What the peer still sends is thrown away and hurts nothing.
        client.write_all(&noise(4, 50_000)).expect("the server still takes it");
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("an orderly end");
        assert!(got == bytes, "{backend:?}");
        assert_eq!(server.report(0).2, 1, "lingering until the peer closes too");
        drop(client);
        wait_released(&server, key);
        server.stop();
    }
}

#[test]
fn a_paused_connection_can_be_closed() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let (client, key) = connect(&server);
        server.order(0, Command::PauseAll);
        server.order(0, Command::CloseAll(PATIENT));
        drop(client);
        wait_released(&server, key);
        server.stop();
    }
}

#[test]
fn lingering_ends_in_time() {
    for backend in BACKENDS {
        for linger_ms in [0, 30] {
            let server = Server::start(1, backend);
            let (mut client, key) = connect(&server);
            server.order(0, Command::CloseAll(Close::Graceful { linger_ms }));
            wait_released(&server, key);
            assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0, "{backend:?}");
            server.stop();
        }
    }
}

#[test]
fn reset_is_a_reset() {
    for backend in BACKENDS {
        for lingering in [false, true] {
            let server = Server::start(1, backend);
            let (mut client, key) = connect(&server);
            if lingering {
                server.order(0, Command::CloseAll(PATIENT));
                assert_eq!(client.read(&mut [0]).expect("FIN"), 0);
            }
            server.order(0, Command::CloseAll(Close::Reset));
            wait_released(&server, key);
            let error = client.write_all(&noise(1, 100)).and_then(|()| client.read(&mut [0]));
            if !lingering {
                let kind = error.expect_err("the connection is gone").kind();
                assert!(
                    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                    "{backend:?}: {kind}"
                );
            }
            server.stop();
        }
    }
}

#[test]
fn the_peers_end_is_told_once() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let (mut client, key) = connect(&server);
        client.write_all(b"last words").expect("room");
        client.shutdown(Shutdown::Write).expect("FIN");
        client.read_exact(&mut [0; 10]).expect("the other direction still works");
        assert_eq!(server.next(), Seen::Ended { key, end: End::Eof });
        server.order(0, Command::CloseAll(PATIENT));
        wait_released(&server, key);
        assert_eq!(client.read(&mut [0]).expect("FIN"), 0);
        server.stop();
    }
}

#[test]
fn a_broken_connection_is_told() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let (client, key) = connect(&server);
        crate::runtime::sys::reset_on_close(&client).expect("an option");
        drop(client);
        assert_eq!(server.next(), Seen::Ended { key, end: End::Error(libc::ECONNRESET) }, "{backend:?}");
        server.order(0, Command::CloseAll(PATIENT));
        wait_released(&server, key);
        server.stop();
    }
}

#[test]
fn stopping_releases_everything() {
    for backend in BACKENDS {
        let server = Server::start(2, backend);
        let mut clients: Vec<_> = (0..10).map(|_| connect(&server).0).collect();
        server.stop();
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).expect("closed in good order"), 0);
        }
    }
}
