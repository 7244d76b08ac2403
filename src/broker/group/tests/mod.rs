use super::*;
use crate::{broker::outbox::Limits, model::ClientId, wire::deflate::Options};

mod held;
mod model;

const TEXT: Class = Class::plain(Framing::WebSocketText, Protocol::Json);
const BINARY: Class =
    Class { join_leave: true, ..Class::plain(Framing::WebSocketBinary, Protocol::Protobuf) };
const LIMITS: Limits = Limits {
    queue_max: 1 << 20,
    frame_size_target: 200,
    held_max: 1 << 20,
    segment_size: 1024,
    deflate: Options { level: 1, min_size: 0 },
    deflate_listeners: Options { level: 1, min_size: 0 },
};

fn conn(index: u32) -> ConnKey {
    ConnKey { index, generation: 0 }
}

fn publication(data: &[u8], json: bool) -> Note {
    let publication = Publication { data: data.into(), json, ..Publication::default() };
    Note::Publication { publication: Arc::new(publication), epoch: None }
}

fn join(conn_info: &[u8]) -> Note {
    Note::Join(Arc::new(ClientInfo {
        user: "u".into(),
        client: ClientId(1),
        conn_info: Some(conn_info.into()),
        chan_info: None,
    }))
}

struct Bench {
    write: WritePath,
    groups: Groups,
    counters: Counters,
}

impl Bench {
    /// Groups with so many members each; every connection is in one of them.
    fn new(groups: &[(Class, u32)]) -> (Self, Vec<GroupKey>) {
        let mut it = Self {
            write: WritePath::new(LIMITS),
            groups: Groups::new(LIMITS.frame_size_target),
            counters: Counters::default(),
        };
        let mut next = 0;
        let mut keys = Vec::new();
        for &(class, members) in groups {
            let key = it.groups.create("news".into(), class, None);
            for place in 0..members {
                it.write.open(conn(next));
                it.write.set_framing(conn(next), class.framing);
                assert_eq!(it.groups.add(key, conn(next)), place);
                next += 1;
            }
            keys.push(key);
        }
        (it, keys)
    }

    fn note(&mut self, groups: &[GroupKey], note: &Note) {
        self.groups.note(groups, note, &mut self.counters);
    }

    /// Ends the turn; what each connection got, as pieces.
    fn flush(&mut self) -> Vec<(ConnKey, Vec<Vec<u8>>)> {
        self.groups.close_all(&mut self.write, &mut self.counters);
        self.write.begin_flush();
        let got = (0..self.write.dirty_len())
            .map(|index| {
                let mut pieces = Vec::new();
                let conn = self.write.pieces(index, &mut pieces);
                (conn, pieces.iter().map(|piece| piece.to_vec()).collect())
            })
            .collect();
        self.write.settle(std::iter::empty(), 0);
        self.write.check_at_rest();
        got
    }
}

fn message(class: Class, note: &Note, before: usize) -> Vec<u8> {
    let mut out = vec![b'.'; before];
    encode::note(class, "news", note, &mut out, 0);
    out.split_off(before)
}

#[test]
fn every_member_gets_the_turn_in_one_piece() {
    let (mut it, keys) = Bench::new(&[(TEXT, 3)]);
    let notes: Vec<Note> = (0..12).map(|n: u32| publication(n.to_string().as_bytes(), true)).collect();
    for note in &notes {
        it.note(&keys, note);
    }
    let got = it.flush();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|(_, pieces)| pieces.len() == 1 && *pieces == got[0].1), "shared and contiguous");
    assert_eq!(it.counters.value(Counter::MessagesDelivered), 36);

    let frames = it.counters.value(Counter::FramesShared);
    let payload_len: usize = notes.iter().map(|note| message(TEXT, note, 1).len()).sum();
    assert!(frames as usize >= payload_len / 300 && frames as usize <= payload_len / 200 + 1, "{frames}");
    assert_eq!(it.flush(), [], "nothing twice");
}

// Frames end at the first message that reaches the target, not before and not after it.
#[test]
fn shared_frames_are_closed_at_the_target() {
    let overhead = message(TEXT, &publication(b"1", true), 0).len() - 1;
    for (len, frames) in [(199, 1), (200, 2)] {
        let (mut it, keys) = Bench::new(&[(TEXT, 2)]);
        it.note(&keys, &publication(&vec![b'1'; len - overhead], true));
        it.note(&keys, &publication(b"2", true));
        it.flush();
        assert_eq!(it.counters.value(Counter::FramesShared), frames, "first message of {len} bytes");
    }
}

#[test]
fn a_group_of_one_uses_the_open_frame() {
    let (mut it, keys) = Bench::new(&[(TEXT, 1)]);
    let note = publication(b"1", true);
    it.write.message(conn(0), |out, _| out.extend_from_slice(b"{}"));
    it.note(&keys, &note);
    let payload = [b"{}".to_vec(), message(TEXT, &note, 2)].concat();
    let frame = [&[0x81, payload.len() as u8][..], &payload].concat();
    assert_eq!(it.flush(), [(conn(0), vec![frame])]);
    assert_eq!(it.counters.value(Counter::FramesShared), 0);
    assert_eq!(it.counters.value(Counter::MessagesDelivered), 1);
}

#[test]
fn who_joins_in_mid_turn_gets_what_follows() {
    let (mut it, keys) = Bench::new(&[(TEXT, 2)]);
    let (before, after) = (publication(b"1", true), publication(b"2", true));
    it.note(&keys, &before);
    it.groups.close_list(keys[0], &mut it.write, &mut it.counters);
    it.write.open(conn(2));
    it.write.set_framing(conn(2), TEXT.framing);
    it.groups.add(keys[0], conn(2));
    it.note(&keys, &after);
    let got = it.flush();
    let frame = |note: &Note| {
        let message = message(TEXT, note, 0);
        [&[0x81, message.len() as u8][..], &message].concat()
    };
    let both = [frame(&before), frame(&after)].concat();
    assert_eq!(
        got,
        [(conn(0), vec![both.clone()]), (conn(1), vec![both]), (conn(2), vec![frame(&after)])],
        "touching frames are one piece"
    );
}

#[test]
#[should_panic(expected = "a member joins news while its list is open")]
fn a_member_cannot_join_an_open_list() {
    let (mut it, keys) = Bench::new(&[(TEXT, 1)]);
    it.note(&keys, &publication(b"1", true));
    it.groups.add(keys[0], conn(9));
}

// Every row: what happens, which groups hear of it, and whether it counts as withheld.
#[test]
fn note_table() {
    #[track_caller]
    fn check(name: &str, note: &Note, text: bool, binary: bool, withheld: u64) {
        let silent = Class { join_leave: false, ..BINARY };
        let (mut it, keys) =
            Bench::new(&[(Class { join_leave: true, ..TEXT }, 2), (BINARY, 1), (silent, 1), (TEXT, 1)]);
        it.note(&keys, note);
        let publication = matches!(note, Note::Publication { .. });
        let heard: Vec<u32> = it.flush().iter().map(|(conn, _)| conn.index).collect();
        let mut want = Vec::new();
        want.extend(text.then_some([0, 1]).into_iter().flatten());
        want.extend(binary.then_some(2));
        want.extend((binary && publication).then_some(3));
        want.extend((text && publication).then_some(4));
        assert_eq!(heard, want, "{name}");
        assert_eq!(it.counters.value(Counter::PublicationsNotJson), withheld, "{name}");
    }
    check("checked by whoever took it", &publication(b"1", true), true, true, 0);
    check("JSON, nobody checked", &publication(b"{\"a\":[1]}", false), true, true, 0);
    check("not JSON", &publication(b"{\"a\":[1]", false), false, true, 1);
    check("two values", &publication(b"1 2", false), false, true, 1);
    check("nothing", &publication(b"", false), false, true, 1);
    check("a string that is not UTF-8", &publication(b"\"\xff\"", false), false, true, 1);
    check("join", &join(b"{}"), true, true, 0);
    check("join of a client with binary info", &join(b"\x01"), false, true, 1);
}

#[test]
fn nobody_is_told_without_members() {
    let (mut it, keys) = Bench::new(&[(TEXT, 1)]);
    it.note(&keys, &publication(b"1", true));
    assert_eq!(it.groups.remove(keys[0], 0), None);
    it.note(&keys, &publication(b"{", false));
    assert_eq!((it.flush(), it.groups.len(keys[0])), (vec![], 0));
    assert_eq!(it.counters.value(Counter::PublicationsNotJson), 0, "nobody was there to miss it");
    it.groups.delete(keys[0]);
    it.note(&keys, &publication(b"1", true));
    assert_eq!((it.flush(), it.groups.channel(keys[0])), (vec![], None));
}
