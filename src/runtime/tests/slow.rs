//! Peers that do not read, and peers that are not read from.

use super::harness::{BACKENDS, Command, PATIENCE, Seen, Server, noise};
use crate::metrics::Counter;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    server.until(|seen| matches!(seen, Seen::Accepted { .. }).then_some(()));
    stream
}

fn read_all(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut got = vec![0; length];
    stream.read_exact(&mut got).expect("all arrives");
    got
}

// Row: how the write is cut into pieces. Whatever the socket takes at a time, the bytes come out whole.
#[test]
fn a_stalled_reader_gets_everything_in_the_end() {
    for backend in BACKENDS {
        for piece in [0, 100_000, 4000, 100] {
            let server = Server::start(1, backend);
            let mut slow = connect(&server);
            let bytes = noise(7, 9_000_001);
            server.order(0, Command::Send(bytes.clone(), piece));
            let (_, counters, _) = server.report(0);
            assert!(counters.value(Counter::ShortWrites) > 0, "{backend:?}, {piece}: the socket filled up");
            let mut other = connect(&server);
            other.write_all(b"quick").expect("room");
            assert_eq!(read_all(&mut other, 5), b"quick", "others are served meanwhile");
            assert!(read_all(&mut slow, bytes.len()) == bytes, "{backend:?}, {piece}");
            let (_, counters, _) = server.report(0);
            assert_eq!(counters.value(Counter::BytesSent), bytes.len() as u64 + 5);
            server.stop();
        }
    }
}

// Row: pieces that are gathered, and pieces that are not.
#[test]
fn pieces_keep_their_order() {
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let mut clients: Vec<_> = (0..30).map(|_| connect(&server)).collect();
        for (length, piece) in [(1, 1), (4096, 1), (4096, 1000), (4097, 1), (4097, 4000), (50_000, 7)] {
            let bytes = noise(length as u64, length);
            server.order(0, Command::Send(bytes.clone(), piece));
            for client in &mut clients {
                assert!(read_all(client, length) == bytes, "{backend:?}: {length} in pieces of {piece}");
            }
        }
        server.stop();
    }
}

/// Writes until the socket takes no more for a while; answers how much it took.
fn write_until_stuck(stream: &mut TcpStream, most: usize) -> usize {
    stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
    let block = vec![1; 64 * 1024];
    let mut written = 0;
    while written < most {
        match stream.write(&block) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("the connection broke: {error}"),
        }
    }
    written
}

#[test]
fn a_paused_peer_is_held_back_and_nothing_is_lost() {
    const MOST: usize = 512 << 20;
    for backend in BACKENDS {
        let server = Server::start(1, backend);
        let mut client = connect(&server);
        server.order(0, Command::Swallow);
        server.order(0, Command::PauseAll);
        let written = write_until_stuck(&mut client, MOST);
        assert!(written < MOST, "{backend:?}: TCP holds the peer back");
        let (received, ..) = server.report(0);
        assert!(received <= 4 << 20, "{backend:?}: {received} bytes came through the pause");
        server.order(0, Command::ResumeAll);
        server.order(0, Command::PauseAll);
        server.order(0, Command::ResumeAll);
        let mut received = 0;
        while received < written as u64 {
            received = server.report(0).0;
        }
        assert_eq!(received, written as u64, "{backend:?}: everything arrives once reading resumes");
        server.stop();
    }
}
