//! User-space cost of one turn of the write path: note, encode, hand out, gather the pieces, settle. No sockets.
//!
//! `cargo bench --no-default-features --features core --bench write_path`

use corecast::{
    broker::{
        group::{Class, GroupKey, Groups, Note},
        outbox::{Framing, Limits, WritePath},
    },
    config::Settings,
    metrics::Counters,
    model::{ConnKey, Protocol, Publication},
    wire::deflate::Window,
};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

const CLASS: Class = Class::plain(Framing::WebSocketText, Protocol::Json);

const ROUNDS: usize = 60;
const TURNS: u32 = 150;
const MEMBERS: u32 = 1000;

struct World {
    write: WritePath,
    groups: Groups,
    counters: Counters,
    keys: Vec<GroupKey>,
    note: Note,
}

impl World {
    /// Every connection is a member of every channel.
    fn new(members: u32, channels: u32) -> Self {
        let data = format!("\"{}\"", "x".repeat(126)).into_bytes();
        Self::with(CLASS, data, members, channels)
    }

    fn with(class: Class, data: Vec<u8>, members: u32, channels: u32) -> Self {
        let settings = Settings::default();
        let mut write = WritePath::new(Limits::from(&settings));
        let mut groups = Groups::new(settings.websocket.frame_size_target);
        let keys: Vec<GroupKey> = (0..channels)
            .map(|channel| groups.create(format!("bench{channel}").into(), class, None))
            .collect();
        for index in 0..members {
            let conn = ConnKey { index, generation: 0 };
            write.open(conn);
            write.set_framing(conn, class.framing);
            for &key in &keys {
                groups.add(key, conn);
            }
        }
        let publication = Arc::new(Publication { data: data.into(), json: true, ..Publication::default() });
        let note = Note::Publication { publication, epoch: None };
        Self { write, groups, counters: Counters::default(), keys, note }
    }

    /// One turn with `k` publications in each channel.
    fn turn(&mut self, k: usize) {
        for _ in 0..k {
            for key in &self.keys {
                self.groups.note(std::slice::from_ref(key), &self.note, &mut self.counters);
            }
        }
        self.groups.close_all(&mut self.write, &mut self.counters);
        flush(&mut self.write, std::iter::empty());
    }
}

fn flush(write: &mut WritePath, shorts: impl Iterator<Item = (usize, usize, bool)>) {
    write.begin_flush();
    let mut pieces = Vec::new();
    let mut bytes = 0;
    for index in 0..write.dirty_len() {
        black_box(write.pieces(index, &mut pieces));
        bytes += pieces.iter().map(|piece| piece.len()).sum::<usize>();
        pieces.clear();
    }
    black_box(bytes);
    write.settle(shorts, 0);
}

/// Time of one turn: the best round, since whatever disturbs a round makes it longer.
fn measure(mut turn: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..TURNS).for_each(|_| turn());
            start.elapsed() / TURNS
        })
        .collect();
    rounds.sort_unstable();
    rounds[0]
}

fn report(name: &str, members: u32, turn: impl FnMut()) {
    let nanos = measure(turn).as_nanos() as f64;
    println!("{name:<56} {:>7.1} ns/member {nanos:>9.0} ns/turn", nanos / f64::from(members));
}

fn groups() {
    for k in [1, 4, 16, 64] {
        let mut world = World::new(MEMBERS, 1);
        report(&format!("1000 members, one channel, K = {k}"), MEMBERS, || world.turn(k));
    }
    let mut world = World::new(MEMBERS, 3);
    report("1000 members, three channels, K = 1", MEMBERS, || world.turn(1));
    let mut world = World::new(2, 1);
    report("2 members, one channel, K = 1", 2, || world.turn(1));
    let mut world = World::new(1, 1);
    report("1 member, one channel, K = 1 (its own frame)", 1, || world.turn(1));
}

/// The same bytes plain and compressed: 512 of JSON, a publication like all others in its frame but for some numbers.
fn compression() {
    let items =
        |n: u32| format!(r#"{{"id":{},"price":{}.25,"name":"item{}"}}"#, n * 7919, n * 37 % 977, n % 50);
    let items: Vec<String> = (1..).map(items).take(12).collect();
    let data = format!("[{}]", items.join(",")).into_bytes();
    for (name, framing) in [("plain", CLASS.framing), ("compressed", Framing::DeflateText(Window::Bits15))] {
        for k in [1, 16] {
            let mut world = World::with(Class { framing, ..CLASS }, data.clone(), MEMBERS, 1);
            let name = format!("1000 members, {} bytes of JSON {name}, K = {k}", data.len());
            report(&name, MEMBERS, || world.turn(k));
        }
    }
}

fn outboxes() {
    let World { mut write, groups, keys, .. } = World::new(MEMBERS, 1);
    let members = groups.members(keys[0]);
    let payload = [b'x'; 150];
    report("1000 spans: hand out, pieces, settle", MEMBERS, || {
        let span = write.share(CLASS.framing, &payload);
        write.hand_out(members, span);
        flush(&mut write, std::iter::empty());
    });
    report("1000 spans: hand out, settle", MEMBERS, || {
        let span = write.share(CLASS.framing, &payload);
        write.hand_out(members, span);
        write.begin_flush();
        write.settle(std::iter::empty(), 0);
    });
    report("1000 private messages, one each", MEMBERS, || {
        for &conn in members {
            write.message(conn, |out, _| out.extend_from_slice(&payload));
        }
        flush(&mut write, std::iter::empty());
    });
    report("1000 private messages, and a span each", MEMBERS, || {
        for &conn in members {
            write.message(conn, |out, _| out.extend_from_slice(&payload[..20]));
        }
        let span = write.share(CLASS.framing, &payload);
        write.hand_out(members, span);
        flush(&mut write, std::iter::empty());
    });
    report("1000 spans: short by a byte, writable, flushed", MEMBERS, || {
        let span = write.share(CLASS.framing, &payload);
        write.hand_out(members, span);
        flush(&mut write, (0..members.len()).map(|index| (index, 153, false)));
        members.iter().for_each(|&conn| write.writable(conn));
        flush(&mut write, std::iter::empty());
    });
}

fn main() {
    groups();
    compression();
    outboxes();
}
