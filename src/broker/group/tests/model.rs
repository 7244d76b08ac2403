use crate::broker::group::*;
use crate::{
    broker::outbox::{Body, Limits},
    model::ClientId,
    wire::{
        client::v1::Positions,
        deflate::{Inflater, Options, Window},
    },
};
use arbitrary::Unstructured;
use std::collections::{BTreeMap, HashMap};

const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// How often what happened, over many runs: a test that never blocks proves nothing.
#[derive(Debug, Default)]
struct Seen {
    shared_frames: u64,
    blocked: usize,
    slow: usize,
    broken: usize,
    drained: usize,
    copied_out: usize,
    not_json: u64,
    deflated: u64,
    complete: usize,
}

/// One thing a client can tell from others: a message, a control frame, the close.
type Item = Vec<u8>;

/// A connection as the obvious implementation sees it: everything is appended at once.
#[derive(Debug)]
struct Client {
    conn: ConnKey,
    class: Class,
    /// Place in the group of each channel.
    places: [Option<u32>; 3],
    /// What it should get, with the channel it is about.
    model: Vec<(Option<usize>, Item)>,
    /// What its socket took.
    got: Vec<u8>,
    blocked: bool,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Gets everything and then the close frame.
    Closed,
    /// Was slow: gets a part, the close frame maybe.
    Cut,
    /// Gets a part.
    Broken,
}

struct World {
    write: WritePath,
    groups: Groups,
    counters: Counters,
    limits: Limits,
    clients: Vec<Client>,
    generations: BTreeMap<u32, u32>,
    keys: HashMap<(usize, Class), GroupKey>,
    serial: u32,
    seen: Seen,
}

fn classes() -> impl Iterator<Item = Class> {
    [
        (Framing::WebSocketText, Protocol::Json),
        (Framing::WebSocketBinary, Protocol::Protobuf),
        (Framing::DeflateText(Window::Bits15), Protocol::Json),
        (Framing::DeflateBinary(Window::Bits9), Protocol::Protobuf),
        (Framing::WebSocketMessage, Protocol::Json),
        (Framing::ListenerText(Window::Bits15), Protocol::Json),
        (Framing::ListenerMessage(Window::Bits12), Protocol::Json),
        (Framing::Lines(Body::Chunked), Protocol::Json),
        (Framing::Delimited(Body::Chunked), Protocol::Protobuf),
        (Framing::Events(Body::Chunked), Protocol::Json),
    ]
    .into_iter()
    .flat_map(|(framing, protocol)| {
        [true, false].map(|join_leave| Class {
            join_leave,
            dialect: match framing {
                Framing::WebSocketMessage | Framing::ListenerMessage(_) if join_leave => Dialect::Bare,
                Framing::WebSocketText if join_leave => Dialect::V1(Positions::SeqGen),
                _ => Dialect::V2,
            },
            ..Class::plain(framing, protocol)
        })
    })
}

impl World {
    fn new(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let limits = Limits {
            queue_max: u.int_in_range(200..=6000)?,
            frame_size_target: u.int_in_range(1..=400)?,
            held_max: u.int_in_range(0..=3000)?,
            segment_size: u.int_in_range(64..=1024)?,
            deflate: Options { level: u.int_in_range(1..=9)?, min_size: u.int_in_range(0..=200)? },
            deflate_listeners: Options { level: 9, min_size: u.int_in_range(0..=200)? },
        };
        let mut groups = Groups::new(limits.frame_size_target);
        let keys = (0..CHANNELS.len())
            .flat_map(|channel| classes().map(move |class| (channel, class)))
            .map(|(channel, class)| ((channel, class), groups.create(CHANNELS[channel].into(), class, None)))
            .collect();
        Ok(Self {
            write: WritePath::new(limits),
            groups,
            counters: Counters::default(),
            limits,
            clients: Vec::new(),
            generations: BTreeMap::new(),
            keys,
            serial: 0,
            seen: Seen::default(),
        })
    }

    fn open(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let classes: Vec<Class> = classes().collect();
        let class = *u.choose(&classes)?;
        let taken = |index: &u32| self.clients.iter().any(|client| client.conn.index == *index);
        let Some(index) = (0..8).find(|index| !taken(index)) else { return Ok(()) };
        let generation = self.generations.entry(index).or_default();
        *generation += 1;
        let conn = ConnKey { index, generation: *generation };
        self.write.open(conn);
        self.write.set_framing(conn, class.framing);
        let (places, model, got) = ([None; 3], Vec::new(), Vec::new());
        self.clients.push(Client { conn, class, places, model, got, blocked: false, end: End::Open });
        Ok(())
    }

    /// A payload nobody else has, of any length.
    fn payload(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
        self.serial += 1;
        let len = if u.ratio(1, 40)? { u.int_in_range(0..=2000)? } else { u.int_in_range(0..=90)? };
        Ok(format!("{{\"n\":{},\"x\":\"{}\"}}", self.serial, "x".repeat(len)))
    }

    fn close_list(&mut self, channel: usize, class: Class) {
        self.groups.close_list(self.keys[&(channel, class)], &mut self.write, &mut self.counters);
    }

    /// A reply to one client, about a channel or not.
    fn private(&mut self, at: usize, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let channel = if u.ratio(1, 2)? { Some(u.choose_index(CHANNELS.len())?) } else { None };
        if let Some(channel) = channel
            && self.clients[at].places[channel].is_some()
        {
            self.close_list(channel, self.clients[at].class);
        }
        let payload = self.payload(u)?;
        let note = Note::publication(payload.as_bytes(), true);
        let client = &mut self.clients[at];
        let class = client.class;
        let encode = |out: &mut Vec<u8>, start: usize| encode::note(class, "reply", &note, out, start);
        let accepted = self.write.message(client.conn, encode);
        assert!(accepted || client.end != End::Open || self.write.pending(client.conn) > 0);
        let mut message = Vec::new();
        encode(&mut message, 0);
        client.tell(channel, &message);
        Ok(())
    }

    fn control(&mut self, at: usize) {
        self.serial += 1;
        let frame = match self.clients[at].class.framing.body_end() {
            b"" => [&[0x8a, 4][..], &self.serial.to_be_bytes()].concat(),
            _ => format!("a\r\n!{:09}\r\n", self.serial).into_bytes(),
        };
        self.write.raw(self.clients[at].conn, &frame);
        self.clients[at].tell(None, &frame);
    }

    /// Something happens in a channel. The model delivers it at once.
    fn note(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let channel = u.choose_index(CHANNELS.len())?;
        let mut json = true;
        let note = if u.ratio(3, 4)? {
            let mut payload = self.payload(u)?.into_bytes();
            json = !u.ratio(1, 10)?;
            if !json {
                payload.push(0xff);
            }
            Note::publication(&payload, json && u.ratio(1, 2)?)
        } else {
            self.serial += 1;
            let info = Arc::new(ClientInfo {
                user: "u".into(),
                client: ClientId(self.serial.into()),
                conn_info: None,
                chan_info: None,
            });
            if u.ratio(1, 2)? { Note::Join(info) } else { Note::Leave(info) }
        };
        let keys: Vec<GroupKey> = classes().map(|class| self.keys[&(channel, class)]).collect();
        self.groups.note(&keys, &note, &mut self.counters);
        for client in self.clients.iter_mut().filter(|client| client.places[channel].is_some()) {
            let wanted = matches!(note, Note::Publication { .. }) || client.class.join_leave;
            if wanted && (json || client.class.protocol == Protocol::Protobuf) {
                let mut message = Vec::new();
                encode::note(client.class, CHANNELS[channel], &note, &mut message, 0);
                client.tell(Some(channel), &message);
            }
        }
        Ok(())
    }

    fn join_or_leave(&mut self, at: usize, channel: usize) {
        if self.clients[at].end != End::Open {
            return;
        }
        self.close_list(channel, self.clients[at].class);
        match self.clients[at].places[channel] {
            Some(_) => self.leave(at, channel),
            None => {
                let client = &mut self.clients[at];
                let key = self.keys[&(channel, client.class)];
                client.places[channel] = Some(self.groups.add(key, client.conn));
            }
        }
    }

    fn leave(&mut self, at: usize, channel: usize) {
        let client = &mut self.clients[at];
        let Some(place) = client.places[channel].take() else { return };
        let key = self.keys[&(channel, client.class)];
        if let Some(moved) = self.groups.remove(key, place) {
            let moved = self.clients.iter_mut().find(|client| client.conn == moved).unwrap();
            moved.places[channel] = Some(place);
        }
        for client in self.clients.iter().filter(|client| client.places[channel].is_some()) {
            let members = self.groups.members(self.keys[&(channel, client.class)]);
            assert_eq!(members[client.places[channel].unwrap() as usize], client.conn);
        }
    }

    /// Ends a client; what was noted before still goes out unless it is cut.
    fn end(&mut self, at: usize, end: End) {
        if self.clients[at].end != End::Open {
            return;
        }
        for channel in 0..CHANNELS.len() {
            if end == End::Closed && self.clients[at].places[channel].is_some() {
                self.close_list(channel, self.clients[at].class);
            }
            self.leave(at, channel);
        }
        // Closing the lists may have been what made it slow.
        let end = if self.cut_slow(Some(at)) { End::Cut } else { end };
        let client = &mut self.clients[at];
        client.end = end;
        if end == End::Cut {
            self.write.drop_queue(client.conn);
        }
        if end != End::Broken {
            self.write.close_after_drain(client.conn, client.class.last());
            client.model.push((None, client.class.last().to_vec()));
        }
    }

    /// Cuts the slow; true when `ending`, who is left to the caller, is among them.
    fn cut_slow(&mut self, ending: Option<usize>) -> bool {
        let mut slow = Vec::new();
        self.write.take_slow(&mut slow);
        let mut among = false;
        for conn in slow {
            self.seen.slow += 1;
            let Some(at) = self.clients.iter().position(|client| client.conn == conn) else { continue };
            among |= ending == Some(at);
            if ending != Some(at) {
                self.end(at, End::Cut);
            }
        }
        among
    }

    fn flush(&mut self, u: &mut Unstructured<'_>, all: bool) -> arbitrary::Result<()> {
        self.groups.close_all(&mut self.write, &mut self.counters);
        self.cut_slow(None);
        self.write.check();
        self.write.begin_flush();
        let mut shorts = Vec::new();
        let mut broken = Vec::new();
        for index in 0..self.write.dirty_len() {
            let mut pieces = Vec::new();
            let conn = self.write.pieces(index, &mut pieces);
            let bytes = pieces.concat();
            assert!(!bytes.is_empty());
            assert_eq!(bytes.len(), self.write.pending(conn));
            let at = self.clients.iter().position(|client| client.conn == conn).unwrap();
            assert!(!self.clients[at].blocked, "a write while the socket is full");
            let mut sent = bytes.len();
            if !all && u.ratio(2, 5)? {
                let breaks = u.ratio(1, 30)?;
                sent = u.int_in_range(0..=bytes.len())?;
                shorts.push((index, sent, breaks));
                self.clients[at].blocked = sent < bytes.len() && !breaks;
                self.seen.blocked += usize::from(self.clients[at].blocked);
                if breaks {
                    broken.push(at);
                }
            }
            self.clients[at].got.extend_from_slice(&bytes[..sent]);
        }
        shorts.reverse();
        let before = self.write.held_bytes();
        self.write.settle(shorts.into_iter(), 0);
        self.write.check();
        assert!(self.write.held_bytes() <= self.limits.held_max);
        self.seen.copied_out += usize::from(before > 0 && self.write.held_bytes() == 0);
        for at in broken {
            self.seen.broken += 1;
            match self.clients[at].end {
                End::Open => self.end(at, End::Broken),
                _ => self.clients[at].end = End::Broken,
            }
        }
        self.cut_slow(None);
        self.take_drained();
        Ok(())
    }

    fn take_drained(&mut self) {
        let mut drained = Vec::new();
        self.write.take_drained(&mut drained);
        for conn in drained {
            assert!(self.write.is_drained(conn));
            self.seen.drained += 1;
            let client = self.clients.iter().find(|client| client.conn == conn).unwrap();
            assert!(client.got.ends_with(client.class.last()), "the close frame is the last");
        }
    }

    fn writable(&mut self, at: usize) {
        if std::mem::replace(&mut self.clients[at].blocked, false) {
            self.write.writable(self.clients[at].conn);
        }
    }

    fn remove(&mut self, at: usize) {
        for channel in 0..CHANNELS.len() {
            self.leave(at, channel);
        }
        let client = self.clients.swap_remove(at);
        self.write.remove(client.conn);
        client.check(false);
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if self.clients.is_empty() || u.ratio(1, 20)? {
            self.open(u)?;
        }
        let at = u.choose_index(self.clients.len())?;
        match u.int_in_range(0..=99u8)? {
            0..=24 => self.private(at, u)?,
            25..=29 => self.control(at),
            30..=54 => self.note(u)?,
            55..=69 => self.join_or_leave(at, u.choose_index(CHANNELS.len())?),
            70..=84 => self.flush(u, false)?,
            85..=94 => self.writable(at),
            95..=96 => self.end(at, End::Closed),
            97 => self.remove(at),
            _ => drop(self.cut_slow(None)),
        }
        self.take_drained();
        self.write.check();
        Ok(())
    }

    /// Every socket takes everything: nothing may be left, and everybody got what it should.
    fn finish(mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<Seen> {
        for _ in 0..2 {
            (0..self.clients.len()).for_each(|at| self.writable(at));
            self.flush(u, true)?;
        }
        self.write.check_at_rest();
        for client in &self.clients {
            assert_eq!((self.write.pending(client.conn), self.write.blocked_since(client.conn)), (0, None));
            client.check(matches!(client.end, End::Open | End::Closed));
            self.seen.complete += usize::from(client.end == End::Open);
        }
        self.seen.shared_frames = self.counters.value(Counter::FramesShared);
        self.seen.deflated = self.write.deflate_stats().messages;
        self.seen.not_json = self.counters.value(Counter::PublicationsNotJson);
        Ok(self.seen)
    }
}

impl Client {
    fn tell(&mut self, channel: Option<usize>, item: &[u8]) {
        if self.end == End::Open {
            self.model.push((channel, item.to_vec()));
        }
    }

    /// Compares what arrived with the model: equal per channel, or (unless `complete`) a beginning of it.
    fn check(&self, complete: bool) {
        let about: HashMap<&[u8], Option<usize>> =
            self.model.iter().map(|(channel, item)| (item.as_slice(), *channel)).collect();
        let mut got: BTreeMap<Option<usize>, Vec<Item>> = BTreeMap::new();
        for item in deframe(&self.got, self.class, complete) {
            let channel = about.get(item.as_slice());
            let Some(channel) = channel else { panic!("{self:?} got {item:?}, which nobody sent to it") };
            got.entry(*channel).or_default().push(item);
        }
        for channel in [None, Some(0), Some(1), Some(2)] {
            let want: Vec<&Item> =
                self.model.iter().filter(|(about, _)| *about == channel).map(|(_, item)| item).collect();
            let mut got: Vec<&Item> = got.get(&channel).into_iter().flatten().collect();
            if !complete {
                got.retain(|item| item.as_slice() != self.class.last());
                assert!(got.len() <= want.len());
                assert_eq!(got, want[..got.len()], "{channel:?} of {:?}", self.conn);
            } else {
                assert_eq!(got, want, "{channel:?} of {:?}", self.conn);
            }
        }
    }
}

impl Class {
    /// What ends a connection.
    fn last(self) -> &'static [u8] {
        if self.framing.body_end().is_empty() { b"\x88\0" } else { self.framing.body_end() }
    }
}

impl Note {
    fn publication(data: &[u8], json: bool) -> Self {
        let publication = Publication { data: data.into(), json, ..Publication::default() };
        Self::Publication { publication: Arc::new(publication), epoch: None }
    }
}

/// The messages and control frames in a stream of frames. What `whole` says must end with one.
fn deframe(mut bytes: &[u8], class: Class, whole: bool) -> Vec<Item> {
    let mut items = Vec::new();
    if !class.framing.body_end().is_empty() {
        return dechunk(bytes, class, whole);
    }
    let mut inflater = Inflater::default();
    while let Some((header, len)) = frame_header(bytes) {
        if bytes.len() < header + len {
            break;
        }
        let mut payload = &bytes[header..header + len];
        let deflates = matches!(
            class.framing,
            Framing::DeflateText(_)
                | Framing::DeflateBinary(_)
                | Framing::ListenerText(_)
                | Framing::ListenerMessage(_)
        );
        if deflates && bytes[0] & 0x40 != 0 {
            payload = inflater.inflate(payload, 1 << 20).unwrap();
            assert!(payload.len() > len, "compressed and not shorter");
        }
        match (bytes[0] & if deflates { !0x40 } else { !0 }, class.protocol) {
            (0x81, Protocol::Json)
                if matches!(class.framing, Framing::WebSocketMessage | Framing::ListenerMessage(_)) =>
            {
                assert!(!payload.contains(&b'\n'), "two messages in a frame");
                items.push(payload.to_vec());
            }
            (0x81, Protocol::Json) => items.extend(payload.split(|&byte| byte == b'\n').map(<[u8]>::to_vec)),
            (0x82, Protocol::Protobuf) => split_delimited(payload, &mut items),
            (0x88 | 0x8a, _) => items.push(bytes[..header + len].to_vec()),
            other => panic!("frame {other:?}"),
        }
        bytes = &bytes[header + len..];
    }
    assert!(!whole || bytes.is_empty(), "{} bytes of a begun frame", bytes.len());
    items
}

/// [`deframe`] for the body of a response in chunks.
fn dechunk(mut bytes: &[u8], class: Class, whole: bool) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        let Some((chunk, rest)) = bytes.split_at_checked(line + 2 + size + 2) else { break };
        let payload = chunk[line + 2..].strip_suffix(b"\r\n").unwrap();
        let control = payload.is_empty() || (payload.len() == 10 && payload[0] == b'!');
        match (control, class.framing) {
            (true, _) => items.push(chunk.to_vec()),
            (_, Framing::Delimited(_)) => split_delimited(payload, &mut items),
            (_, Framing::Lines(_)) => {
                let lines = payload.strip_suffix(b"\n").unwrap();
                items.extend(lines.split(|&byte| byte == b'\n').map(<[u8]>::to_vec));
            }
            _ => {
                let events = std::str::from_utf8(payload).unwrap().strip_suffix("\n\n").unwrap();
                items.extend(events.split("\n\n").map(|event| event.strip_prefix("data: ").unwrap().into()));
            }
        }
        bytes = rest;
    }
    assert!(!whole || bytes.is_empty(), "{} bytes of a begun chunk", bytes.len());
    items
}

fn frame_header(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [_, 126, high, low, ..] => Some((4, usize::from(high) << 8 | usize::from(low))),
        [_, len @ 0..=125, ..] => Some((2, usize::from(len))),
        [_, 127, ..] => panic!("no frame of these tests is that long"),
        _ => None,
    }
}

fn split_delimited(mut payload: &[u8], items: &mut Vec<Item>) {
    while !payload.is_empty() {
        let digits = payload.iter().position(|&byte| byte < 0x80).unwrap() + 1;
        let len = payload[..digits].iter().rev().fold(0, |len, &byte| len << 7 | usize::from(byte & 0x7f));
        assert!(len > 0);
        items.push(payload[..digits + len].to_vec());
        payload = &payload[digits + len..];
    }
}

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<Seen> {
    let mut world = World::new(u)?;
    for _ in 0..u.int_in_range(0..=400)? {
        world.step(u)?;
    }
    world.finish(u)
}

#[test]
fn agrees_with_model() {
    arbtest::arbtest(|u| run(u).map(|_| ())).size_min(256).size_max(8192);
}

// The same from fixed seeds, so that what it covers is certain.
#[test]
fn agrees_with_model_on_seeds() {
    let mut total = Seen::default();
    for seed in 1..=300u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(8192)
        .collect();
        let seen = run(&mut Unstructured::new(&bytes)).unwrap();
        total.shared_frames += seen.shared_frames;
        total.blocked += seen.blocked;
        total.slow += seen.slow;
        total.broken += seen.broken;
        total.drained += seen.drained;
        total.copied_out += seen.copied_out;
        total.not_json += seen.not_json;
        total.deflated += seen.deflated;
        total.complete += seen.complete;
    }
    println!("{total:?}");
    let Seen { shared_frames, blocked, slow, broken, drained, copied_out, not_json, deflated, complete } =
        total;
    assert!(shared_frames > 0 && not_json > 0 && deflated > 0 && complete > 0);
    assert!(blocked > 0 && slow > 0 && broken > 0 && drained > 0 && copied_out > 0);
}
