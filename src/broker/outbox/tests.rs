use super::*;
use crate::wire::{
    deflate::Window,
    websocket::{Role, parse_header},
};
use std::collections::BTreeSet;

impl WritePath {
    /// What must hold between any two calls.
    pub(in crate::broker) fn check(&self) {
        let live = |outbox: &&Outbox| outbox.state == State::Queued;
        let lent: BTreeSet<u32> = self.outboxes.iter().filter(live).map(|outbox| outbox.queue).collect();
        assert_eq!(lent.len(), self.outboxes.iter().filter(live).count(), "a queue is lent twice");
        let free: BTreeSet<u32> = self.queues_free.iter().copied().collect();
        assert!(lent.is_disjoint(&free));
        assert_eq!(lent.len() + self.queues_free.len(), self.queues.len(), "a queue is lost");
        let free_bytes: usize = free.iter().map(|&queue| self.queues[queue as usize].capacity()).sum();
        assert_eq!(free_bytes, self.queues_free_bytes);
        assert!(free_bytes <= IDLE_QUEUES_MAX);

        let mut holds = 0;
        for (index, outbox) in self.outboxes.iter().enumerate() {
            let conn = ConnKey { index: index as u32, generation: outbox.generation };
            let listed = self.dirty.iter().filter(|&&dirty| dirty == conn).count();
            if outbox.state == State::Queued {
                let queue = &self.queues[outbox.queue as usize];
                queue.check();
                holds += queue.holds_count();
                assert_eq!(listed > 0, !queue.blocked, "{conn:?} is dirty or blocked, never both");
                assert!(!queue.holds() || queue.held_as.is_some(), "{conn:?} holds segments unlisted");
                assert!(queue.held_as.is_none_or(|place| self.holders.get(&place) == Some(&conn)));
                assert!(queue.pending() > 0 || queue.blocked, "{conn:?} is dirty with nothing to write");
            } else if outbox.state == State::Span {
                assert!(listed > 0, "{conn:?} is not on the dirty list");
            } else {
                assert!(listed == 0 || self.stale, "{conn:?} is on the dirty list");
            }
            assert!(listed <= 1 || self.stale, "{conn:?} is on the dirty list twice");
            let refuses = outbox.closing || outbox.slow;
            assert!(outbox.state != State::Idle || !refuses, "{conn:?} is idle but refuses");
        }
        assert!(self.holders.len() <= lent.len());
        assert_eq!(holds, self.segments.holds());
        self.segments.check();
    }

    /// Nothing is lent and no segment in use: so it must be when nothing waits.
    pub(in crate::broker) fn check_at_rest(&self) {
        self.check();
        assert_eq!(self.queues_free.len(), self.queues.len(), "queues are still lent");
        assert_eq!((self.segments.in_use(), self.segments.held_bytes()), (0, 0), "segments in use");
        assert!(self.holders.is_empty());
    }

    pub(in crate::broker) fn held_bytes(&self) -> usize {
        self.segments.held_bytes()
    }
}

const LIMITS: Limits = Limits {
    queue_max: 1000,
    frame_size_target: 300,
    held_max: 4096,
    segment_size: 1024,
    deflate: deflate::Options { level: 1, min_size: 0 },
    deflate_listeners: deflate::Options { level: 9, min_size: LONG.len() + 1 },
};

fn conn(index: u32) -> ConnKey {
    ConnKey { index, generation: 7 }
}

/// A write path with so many text WebSockets.
fn write_path(limits: Limits, conns: u32) -> WritePath {
    let mut write = WritePath::new(limits);
    for index in 0..conns {
        write.open(conn(index));
        write.set_framing(conn(index), Framing::WebSocketText);
    }
    write
}

fn say(write: &mut WritePath, conn: ConnKey, text: &[u8]) -> bool {
    write.message(conn, |out, frame_start| {
        if out.len() > frame_start {
            out.push(b'\n');
        }
        out.extend_from_slice(text);
    })
}

fn share(write: &mut WritePath, payload_len: usize) -> Span {
    write.share(Framing::WebSocketText, &vec![b's'; payload_len])
}

/// Flushes; each connection's socket takes at most `room` bytes. Returns what each got, in dirty order.
fn flush(write: &mut WritePath, room: usize, now_ms: u64) -> Vec<(ConnKey, Vec<u8>)> {
    write.check();
    write.begin_flush();
    let mut got = Vec::new();
    let mut shorts = Vec::new();
    for index in 0..write.dirty_len() {
        let mut pieces = Vec::new();
        let conn = write.pieces(index, &mut pieces);
        let mut bytes = pieces.concat();
        assert!(!bytes.is_empty(), "{conn:?} is dirty with nothing to write");
        if bytes.len() > room {
            bytes.truncate(room);
            shorts.push((index, room, false));
        }
        got.push((conn, bytes));
    }
    write.settle(shorts.into_iter(), now_ms);
    write.check();
    got
}

fn slow(write: &mut WritePath) -> Vec<ConnKey> {
    let mut slow = Vec::new();
    write.take_slow(&mut slow);
    slow
}

fn drained(write: &mut WritePath) -> Vec<ConnKey> {
    let mut drained = Vec::new();
    write.take_drained(&mut drained);
    drained
}

#[test]
fn messages_of_a_turn_share_a_frame() {
    let mut write = write_path(LIMITS, 1);
    say(&mut write, conn(0), b"a");
    say(&mut write, conn(0), b"b");
    write.raw(conn(0), b"\x8a\0");
    say(&mut write, conn(0), b"c");
    let span = share(&mut write, 1);
    write.push_span(conn(0), span);
    say(&mut write, conn(0), b"d");
    let want = b"\x81\x03a\nb\x8a\0\x81\x01c\x81\x01s\x81\x01d".to_vec();
    assert_eq!(flush(&mut write, 99, 0), [(conn(0), want)]);
    say(&mut write, conn(0), b"e");
    assert_eq!(flush(&mut write, 99, 0), [(conn(0), b"\x81\x01e".to_vec())]);
    write.check_at_rest();
}

#[test]
fn headers_grow_with_the_frame() {
    let limits = Limits { frame_size_target: 1 << 20, queue_max: 1 << 20, ..LIMITS };
    let mut write = write_path(limits, 1);
    for (len, header) in [
        (125usize, b"\x81\x7d".as_slice()),
        (126, b"\x81\x7e\0\x7e"),
        (0xffff, b"\x81\x7e\xff\xff"),
        (0x10000, b"\x81\x7f\0\0\0\0\0\x01\0\0"),
    ] {
        let text: Vec<u8> = (0..len).map(|at| at as u8).collect();
        for part in text.chunks(len.div_ceil(3)) {
            write.message(conn(0), |out, _| out.extend_from_slice(part));
        }
        assert_eq!(flush(&mut write, 1 << 20, 0), [(conn(0), [header, &text].concat())], "{len}");
    }
    write.check_at_rest();
}

#[test]
fn a_frame_is_closed_at_its_target() {
    for (first, frames) in [(299, 1), (300, 2)] {
        let mut write = write_path(LIMITS, 1);
        say(&mut write, conn(0), &vec![b'x'; first]);
        say(&mut write, conn(0), b"y");
        let got = flush(&mut write, 9999, 0);
        assert_eq!(got[0].1.ends_with(b"\x81\x01y"), frames == 2, "first message of {first} bytes");
    }
}

// Text and binary never share a frame, and neither does what came before the upgrade.
#[test]
fn a_change_of_framing_ends_the_frame() {
    let mut write = WritePath::new(LIMITS);
    write.open(conn(0));
    assert!(write.message(conn(0), |out, _| out.extend_from_slice(b"HTTP")));
    write.set_framing(conn(0), Framing::WebSocketBinary);
    say(&mut write, conn(0), b"a");
    assert_eq!(flush(&mut write, 99, 0), [(conn(0), b"HTTP\x82\x01a".to_vec())]);
}

#[test]
fn touching_spans_merge() {
    let mut write = write_path(LIMITS, 2);
    for _ in 0..3 {
        let span = share(&mut write, 10);
        write.hand_out(&[conn(0), conn(1)], span);
    }
    write.begin_flush();
    for index in 0..2 {
        let mut pieces = Vec::new();
        assert_eq!(write.pieces(index, &mut pieces), conn(index as u32));
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].len(), 36);
    }
    write.settle(std::iter::empty(), 0);
    write.check_at_rest();
}

#[test]
fn private_bytes_above_the_limit_are_slow() {
    for (len, want) in [(996, vec![]), (997, vec![conn(0)])] {
        let mut write = write_path(LIMITS, 1);
        assert!(say(&mut write, conn(0), &vec![b'x'; len]));
        assert_eq!(slow(&mut write), want, "{len} + 4 bytes");
        assert_eq!(say(&mut write, conn(0), b""), want.is_empty());
    }
}

// What a turn shares is free until the first write did not take it.
#[test]
fn shared_bytes_above_the_limit_are_slow_once_blocked() {
    for (len, want) in [(504, vec![]), (505, vec![conn(0)])] {
        let mut write = write_path(LIMITS, 1);
        for _ in 0..3 {
            let span = share(&mut write, 596);
            assert!(write.push_span(conn(0), span));
        }
        assert_eq!(slow(&mut write), []);
        flush(&mut write, 1400, 0);
        let span = share(&mut write, 98);
        write.push_span(conn(0), span);
        assert_eq!((slow(&mut write), write.pending(conn(0))), (vec![], 500));
        let span = share(&mut write, len - 8);
        write.push_span(conn(0), span);
        assert_eq!(slow(&mut write), want, "500 + {} bytes", len - 4);
    }
}

#[test]
fn what_a_flush_leaves_above_the_limit_is_slow() {
    for (room, want) in [(800, vec![]), (799, vec![conn(0)])] {
        let mut write = write_path(LIMITS, 1);
        for _ in 0..3 {
            let span = share(&mut write, 596);
            write.push_span(conn(0), span);
        }
        flush(&mut write, room, 0);
        assert_eq!(slow(&mut write), want, "1800 bytes, {room} taken");
    }
}

// One answer of any size goes out; the limit is for what comes after.
#[test]
fn raw_connections_are_refused_what_follows() {
    for (first, accepted) in [(1000, true), (1001, false)] {
        let mut write = WritePath::new(LIMITS);
        write.open(conn(0));
        assert!(write.raw(conn(0), &vec![b'x'; first]));
        assert_eq!(slow(&mut write), []);
        assert_eq!(write.raw(conn(0), b"y"), accepted, "{first} bytes wait");
        assert_eq!(slow(&mut write).is_empty(), accepted);
    }
    let mut write = WritePath::new(LIMITS);
    write.open(conn(0));
    write.raw(conn(0), &[b'x'; 5000]);
    flush(&mut write, 10, 0);
    assert_eq!((slow(&mut write), write.pending(conn(0))), (vec![], 4990));
}

#[test]
fn a_slow_connection_is_cut_with_its_close_frame() {
    let mut write = write_path(LIMITS, 2);
    say(&mut write, conn(0), &[b'x'; 600]);
    flush(&mut write, 100, 0);
    say(&mut write, conn(0), &[b'y'; 600]);
    assert_eq!(slow(&mut write), [conn(0)]);
    assert!(!say(&mut write, conn(0), b"lost"));
    assert!(!write.raw(conn(0), b"lost"));

    write.drop_queue(conn(0));
    write.check();
    assert_eq!(write.pending(conn(0)), 504, "the frame that was begun");
    write.close_after_drain(conn(0), b"\x88\0");
    write.close_after_drain(conn(0), b"\x88\0");
    assert!(!say(&mut write, conn(0), b"late"));
    assert_eq!(flush(&mut write, 999, 0), [], "blocked");
    write.writable(conn(0));
    let want = [&[b'x'; 504][..], b"\x88\0"].concat();
    assert_eq!(flush(&mut write, 999, 0), [(conn(0), want)]);
    assert_eq!((drained(&mut write), slow(&mut write)), (vec![conn(0)], vec![]));
    write.check_at_rest();
}

#[test]
fn drop_queue_keeps_what_was_begun() {
    #[track_caller]
    fn check(sent: usize, pending: usize) {
        let mut write = write_path(LIMITS, 1);
        let shared = share(&mut write, 8);
        write.push_span(conn(0), shared);
        let shared = share(&mut write, 8);
        write.push_span(conn(0), shared);
        say(&mut write, conn(0), b"12345678");
        flush(&mut write, sent, 0);
        write.drop_queue(conn(0));
        assert_eq!(write.pending(conn(0)), pending, "{sent} bytes sent");
        write.writable(conn(0));
        flush(&mut write, 99, 0);
        write.check_at_rest();
    }
    check(0, 0);
    check(1, 9);
    check(9, 1);
    check(10, 0);
    check(11, 9);
    check(20, 0);
    check(29, 1);
}

// A half-sent handshake is not a frame; it is finished as a whole.
#[test]
fn drop_queue_keeps_a_handshake() {
    let mut write = WritePath::new(LIMITS);
    write.open(conn(0));
    write.raw(conn(0), b"HTTP/1.1 101");
    write.set_framing(conn(0), Framing::WebSocketText);
    say(&mut write, conn(0), b"a");
    flush(&mut write, 4, 0);
    write.drop_queue(conn(0));
    write.close_after_drain(conn(0), b"\x88\0");
    write.writable(conn(0));
    assert_eq!(flush(&mut write, 99, 0), [(conn(0), b"/1.1 101\x88\0".to_vec())]);
}

// Also without a close frame, and whether what waits stands in the outbox itself or in a queue.
#[test]
fn a_closing_connection_is_drained_by_its_last_byte() {
    for queued in [false, true] {
        let mut write = write_path(LIMITS, 1);
        let span = share(&mut write, 8);
        write.push_span(conn(0), span);
        if queued {
            say(&mut write, conn(0), b"a");
        }
        write.close_after_drain(conn(0), b"");
        assert!(!write.push_span(conn(0), span) && !say(&mut write, conn(0), b"late"));
        assert_eq!((write.is_drained(conn(0)), drained(&mut write)), (false, vec![]));
        flush(&mut write, 99, 0);
        assert_eq!((write.is_drained(conn(0)), drained(&mut write)), (true, vec![conn(0)]));
        write.check_at_rest();
    }
}

// Caught up after it was found slow: it still lost messages, so it accepts nothing.
#[test]
fn slow_stays_slow_until_it_is_cut() {
    let mut write = write_path(LIMITS, 1);
    say(&mut write, conn(0), &[b'x'; 2000]);
    flush(&mut write, 9999, 0);
    assert!(!say(&mut write, conn(0), b"a"));
    let span = share(&mut write, 1);
    assert!(!write.push_span(conn(0), span));
    assert_eq!(flush(&mut write, 9999, 0), []);
    write.close_after_drain(conn(0), b"\x88\0");
    assert_eq!(flush(&mut write, 9999, 0), [(conn(0), b"\x88\0".to_vec())]);
    assert_eq!(drained(&mut write), [conn(0)]);
}

#[test]
fn progress_restarts_the_clock_of_the_write_timeout() {
    let mut write = write_path(LIMITS, 1);
    say(&mut write, conn(0), &[b'x'; 96]);
    assert_eq!(write.blocked_since(conn(0)), None);
    for (now_ms, room, want) in [(5, 0, 5), (6, 0, 5), (7, 1, 7), (8, 0, 7)] {
        flush(&mut write, room, now_ms);
        assert_eq!(write.blocked_since(conn(0)), Some(want), "at {now_ms}");
        write.writable(conn(0));
    }
    flush(&mut write, 99, 9);
    assert_eq!(write.blocked_since(conn(0)), None);
}

#[test]
fn a_broken_connection_accepts_nothing() {
    let mut write = write_path(LIMITS, 1);
    say(&mut write, conn(0), b"a");
    write.begin_flush();
    write.settle([(0, 0, true)].into_iter(), 0);
    assert!(!say(&mut write, conn(0), b"b"));
    assert!(write.is_drained(conn(0)));
    write.close_after_drain(conn(0), b"\x88\0");
    assert_eq!((flush(&mut write, 99, 0), drained(&mut write)), (vec![], vec![]));
    write.check_at_rest();
}

#[test]
fn an_idle_connection_is_drained_at_once() {
    let mut write = write_path(LIMITS, 1);
    write.close_after_drain(conn(0), b"");
    assert_eq!((write.is_drained(conn(0)), drained(&mut write)), (true, vec![conn(0)]));
    write.close_after_drain(conn(0), b"");
    assert_eq!(drained(&mut write), []);
}

#[test]
fn keys_of_connections_that_are_gone_find_nothing() {
    let mut write = write_path(LIMITS, 3);
    let span = share(&mut write, 3);
    write.hand_out(&[conn(0), conn(1), conn(2)], span);
    say(&mut write, conn(1), b"a");
    write.remove(conn(0));
    write.remove(conn(1));
    let again = ConnKey { index: 0, generation: 8 };
    write.open(again);
    for gone in [conn(0), conn(1), conn(9), ConnKey::NONE] {
        assert!(!say(&mut write, gone, b"x") && !write.raw(gone, b"x") && !write.push_span(gone, span));
        write.writable(gone);
        write.drop_queue(gone);
        write.close_after_drain(gone, b"x");
        assert_eq!((write.pending(gone), write.is_drained(gone)), (0, true));
    }
    write.raw(again, b"x");
    let got: BTreeSet<_> = flush(&mut write, 99, 0).into_iter().map(|(conn, _)| conn).collect();
    assert_eq!(got, BTreeSet::from([again, conn(2)]));
    write.check_at_rest();
}

#[test]
fn a_frame_longer_than_a_segment_has_its_own() {
    for (len, own) in [(1020, false), (1021, true)] {
        let mut write = write_path(LIMITS, 1);
        let before = share(&mut write, 10);
        let long = share(&mut write, len);
        let after = share(&mut write, 10);
        assert_ne!(long.segment, before.segment);
        assert_eq!(after.segment == before.segment, own, "{len}: the segment before goes on being filled");
        write.push_span(conn(0), long);
        flush(&mut write, 9999, 0);
        write.check_at_rest();
        let kept = write.segments.capacities().max().unwrap_or(0);
        assert_eq!(kept, LIMITS.segment_size, "memory of long frames is given back");
    }
}

// A held segment is filled before the next is started, and counted by capacity.
#[test]
fn a_held_segment_goes_on_being_filled() {
    let mut write = write_path(LIMITS, 1);
    for turn in 0..8 {
        let span = share(&mut write, 96);
        write.push_span(conn(0), span);
        flush(&mut write, 0, turn);
        assert_eq!(write.held_bytes(), 1024);
    }
    write.remove(conn(0));
    write.check();
    assert_eq!(write.held_bytes(), 0);
}

#[test]
fn held_segments_beyond_the_budget_are_copied_out() {
    for (held_max, want) in [(2048, 2048), (2047, 1024), (1024, 1024), (1023, 0), (0, 0)] {
        let limits = Limits { held_max, queue_max: 9999, ..LIMITS };
        let mut write = write_path(limits, 2);
        for index in 0..2 {
            let span = share(&mut write, 900);
            write.hand_out(&[conn(index)], span);
            flush(&mut write, 10, 0);
        }
        assert_eq!(write.held_bytes(), want, "budget {held_max}");
        for index in 0..2 {
            assert_eq!(write.pending(conn(index)), 894);
            write.writable(conn(index));
        }
        let got = flush(&mut write, 9999, 1);
        assert!(got.iter().all(|(_, bytes)| bytes.len() == 894 && bytes.iter().all(|&byte| byte == b's')));
        write.check_at_rest();
    }
}

// One vectored write takes all pieces of a connection.
#[test]
fn many_pieces_become_one() {
    let mut write = write_path(Limits { queue_max: 1 << 20, ..LIMITS }, 1);
    let mut want = Vec::new();
    for index in 0..2000u32 {
        say(&mut write, conn(0), index.to_string().as_bytes());
        let span = share(&mut write, 1);
        write.push_span(conn(0), span);
        want.extend_from_slice(&[0x81, index.to_string().len() as u8]);
        want.extend_from_slice(index.to_string().as_bytes());
        want.extend_from_slice(b"\x81\x01s");
    }
    write.begin_flush();
    let mut pieces = Vec::new();
    write.pieces(0, &mut pieces);
    assert!(pieces.len() <= 1024, "{} pieces", pieces.len());
    assert_eq!(pieces.concat(), want);
    write.settle(std::iter::empty(), 0);
    write.check_at_rest();
}

// A connection that always has something waiting but goes on reading costs what waits, not what was sent.
#[test]
fn sent_private_bytes_are_given_up() {
    let mut write = write_path(Limits { queue_max: 200_000, ..LIMITS }, 1);
    for turn in 0..2000 {
        say(&mut write, conn(0), &[b'x'; 996]);
        write.writable(conn(0));
        flush(&mut write, if turn < 50 { 0 } else { 1000 }, turn);
    }
    assert_eq!((write.pending(conn(0)), slow(&mut write)), (50_000, vec![]));
    let queue = &write.queues[write.queue_of(conn(0)).unwrap()];
    assert!(queue.private_len() <= 2 * 50_000 + 16 * 1024, "{} bytes", queue.private_len());
}

const LONG: &str = "a text that is long enough to be compressed, to be compressed, to be compressed";

/// A write path with so many text WebSockets that agreed on compression.
fn deflating(limits: Limits, conns: u32) -> WritePath {
    let mut write = WritePath::new(limits);
    for index in 0..conns {
        write.open(conn(index));
        write.set_framing(conn(index), Framing::DeflateText(Window::Bits15));
    }
    write
}

/// First byte and payload of each frame; what is compressed is inflated, and its first byte has RSV1.
fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    let mut inflater = deflate::Inflater::default();
    while let Some(header) = parse_header(bytes, Role::Client).unwrap() {
        let (payload, rest) = bytes[header.size..].split_at(header.len as usize);
        let text = if header.rsv1 { inflater.inflate(payload, 1 << 20).unwrap() } else { payload };
        assert!(!header.rsv1 || text.len() > payload.len());
        frames.push((bytes[0], String::from_utf8_lossy(text).into_owned()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    frames
}

// One message per frame, in the order of what was said; what is short, or raw, stays as it is.
#[test]
fn private_frames_are_compressed_when_they_are_closed() {
    let mut write = deflating(LIMITS, 1);
    say(&mut write, conn(0), LONG.as_bytes());
    say(&mut write, conn(0), b"and more");
    write.raw(conn(0), b"\x8a\0");
    say(&mut write, conn(0), b"short");
    let span = write.share(Framing::DeflateText(Window::Bits15), LONG.as_bytes());
    write.push_span(conn(0), span);
    say(&mut write, conn(0), LONG.as_bytes());
    let sent = flush(&mut write, 9999, 0).remove(0).1;
    let both = format!("{LONG}\nand more");
    let want = [(0xc1, both.as_str()), (0x8a, ""), (0x81, "short"), (0xc1, LONG), (0xc1, LONG)];
    assert_eq!(frames(&sent), want.map(|(first, text)| (first, text.to_owned())));
    let stats = write.deflate_stats();
    assert_eq!((stats.messages, stats.in_vain), (3, 0));
    assert_eq!(stats.bytes_before, (both.len() + 2 * LONG.len()) as u64);
    write.check_at_rest();
}

#[test]
fn a_shared_frame_is_compressed_once() {
    let mut write = deflating(LIMITS, 3);
    let span = write.share(Framing::DeflateText(Window::Bits15), LONG.as_bytes());
    assert!(span.len() < LONG.len());
    write.hand_out(&[conn(0), conn(1), conn(2)], span);
    let got = flush(&mut write, 9999, 0);
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|(_, bytes)| frames(bytes) == [(0xc1, LONG.to_owned())]));
    assert_eq!(write.deflate_stats().messages, 1);
    write.check_at_rest();
}

#[test]
fn the_least_size_is_that_of_the_frame() {
    for (min_size, first) in [(LONG.len(), 0xc1), (LONG.len() + 1, 0x81)] {
        let deflate = deflate::Options { level: 1, min_size };
        let mut write = deflating(Limits { deflate, ..LIMITS }, 1);
        say(&mut write, conn(0), LONG.as_bytes());
        let span = write.share(Framing::DeflateText(Window::Bits9), LONG.as_bytes());
        write.push_span(conn(0), span);
        let sent = flush(&mut write, 9999, 0).remove(0).1;
        assert_eq!(frames(&sent), [(first, LONG.to_owned()), (first, LONG.to_owned())]);
    }
}

// Listeners have options of their own, and maybe a frame for each message.
#[test]
fn listeners_are_compressed_for_by_their_options() {
    let long = LONG.repeat(2);
    let long = long.as_str();
    let window = Window::Bits15;
    for (framing, want) in [
        (
            Framing::listener(false, Some(window)),
            vec![(0x81, LONG), (0xc1, long), (0x81, LONG), (0xc1, long)],
        ),
        (Framing::listener(false, None), vec![(0x81, LONG), (0x81, long), (0x81, LONG), (0x81, long)]),
    ] {
        let mut write = write_path(LIMITS, 1);
        write.set_framing(conn(0), framing);
        for text in [LONG, long] {
            say(&mut write, conn(0), text.as_bytes());
        }
        for text in [LONG, long] {
            let span = write.share(framing, text.as_bytes());
            write.push_span(conn(0), span);
        }
        let sent = flush(&mut write, 9999, 0).remove(0).1;
        let want: Vec<_> = want.into_iter().map(|(first, text)| (first, text.to_owned())).collect();
        assert_eq!(frames(&sent), want, "{framing:?}");
        let compressed = want.iter().filter(|(first, _)| *first == 0xc1).count();
        assert_eq!(write.deflate_stats().messages, compressed as u64);
    }
    // Joined they are long enough.
    let mut write = write_path(LIMITS, 1);
    write.set_framing(conn(0), Framing::listener(true, Some(window)));
    say(&mut write, conn(0), LONG.as_bytes());
    say(&mut write, conn(0), LONG.as_bytes());
    let sent = flush(&mut write, 9999, 0).remove(0).1;
    assert_eq!(frames(&sent), [(0xc1, format!("{LONG}\n{LONG}"))]);
}

// The target is about what is said, not what is sent; a closed frame is compressed at once.
#[test]
fn a_long_frame_is_compressed_at_its_target() {
    let mut write = deflating(LIMITS, 1);
    say(&mut write, conn(0), LONG.repeat(4).as_bytes());
    assert!(write.pending(conn(0)) < 200, "{} bytes", write.pending(conn(0)));
    say(&mut write, conn(0), b"next");
    let sent = flush(&mut write, 9999, 0).remove(0).1;
    assert_eq!(frames(&sent), [(0xc1, LONG.repeat(4)), (0x81, "next".into())]);
}

// What is said while the socket is full is compressed as well, every turn for itself.
#[test]
fn blocked_connections_are_compressed_for() {
    let mut write = deflating(LIMITS, 1);
    let mut sent = Vec::new();
    for turn in 0..3 {
        say(&mut write, conn(0), LONG.as_bytes());
        for (_, bytes) in flush(&mut write, if turn == 0 { 3 } else { 0 }, turn) {
            sent.extend(bytes);
        }
    }
    assert!(write.pending(conn(0)) < 3 * LONG.len());
    write.writable(conn(0));
    sent.extend(flush(&mut write, 9999, 9).remove(0).1);
    assert_eq!(frames(&sent), vec![(0xc1, LONG.to_owned()); 3]);
    write.check_at_rest();
}

// A change of framing closes the frame as what it was; who did not agree gets nothing compressed.
#[test]
fn only_who_agreed_is_compressed_for() {
    let mut write = write_path(LIMITS, 1);
    say(&mut write, conn(0), LONG.as_bytes());
    write.set_framing(conn(0), Framing::DeflateBinary(Window::Bits12));
    say(&mut write, conn(0), LONG.as_bytes());
    write.set_framing(conn(0), Framing::WebSocketBinary);
    say(&mut write, conn(0), LONG.as_bytes());
    let sent = flush(&mut write, 9999, 0).remove(0).1;
    assert_eq!(frames(&sent), [0x81, 0xc2, 0x82].map(|first| (first, LONG.to_owned())));
}
