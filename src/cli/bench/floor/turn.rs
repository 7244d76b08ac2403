//! What a turn collects: the pushes for everybody and the replies for each publisher, as finished bytes.

use std::mem;

const CLIENT: &[u8] = b"6f1d2c3b-4a59-4687-9abc-def012345678";
/// Room in front of the messages for the longest frame header.
const ROOM: usize = 10;
/// Above any number of channels the client opens; names may end with anything.
const SEATS_MAX: usize = 1 << 20;

#[derive(Default)]
pub struct Turn {
    /// Header room, then the pushes back to back.
    pushes: Vec<u8>,
    /// Where the frame begins in `pushes`.
    begin: usize,
    closed: bool,
    replies: Vec<(usize, Vec<u8>)>,
    noted: u64,
    /// What goes to publishers with channels of their own: push and reply, in one write.
    pub own: Vec<(usize, Vec<u8>)>,
    /// The last subscriber of a channel with this number at the end of its name, and whether it speaks Protobuf.
    seats: Vec<Option<(usize, bool)>>,
    /// Connections that published for the first time.
    pub began: Vec<usize>,
    /// Since the start, as a server counts them.
    pub writes: u64,
    pub messages: u64,
}

impl Turn {
    /// Adds one publication of connection `token`: its push, and the reply to command `id`.
    pub fn note(&mut self, token: usize, id: &[u8], channel: &[u8], data: &[u8], protobuf: bool) {
        if self.closed || self.pushes.is_empty() {
            self.pushes.clear();
            self.pushes.resize(ROOM, 0);
            self.closed = false;
        }
        if self.replies.last().is_none_or(|(last, _)| *last != token) {
            self.replies.push((token, vec![0; ROOM]));
        }
        let Some((_, replies)) = self.replies.last_mut() else { return };
        self.noted += 1;
        push(channel, data, true, protobuf, &mut self.pushes);
        reply(id, protobuf, replies);
    }

    /// The same for a publisher that is the only subscriber of its channel.
    pub fn note_own(&mut self, token: usize, id: &[u8], channel: &[u8], data: &[u8], protobuf: bool) {
        let mut bytes = vec![0; ROOM];
        push(channel, data, true, protobuf, &mut bytes);
        reply(id, protobuf, &mut bytes);
        let begin = put_header(&mut bytes, protobuf);
        bytes.drain(..begin);
        self.messages += 1;
        self.writes += 1;
        self.own.push((token, bytes));
    }

    /// Connection `token` has subscribed to the channel of this number.
    pub fn seat(&mut self, number: usize, token: usize, protobuf: bool) {
        if number >= SEATS_MAX {
            return;
        }
        if number >= self.seats.len() {
            self.seats.resize(number + 1, None);
        }
        self.seats[number] = Some((token, protobuf));
    }

    /// A publication that came by HTTP to a channel with one subscriber.
    pub fn note_posted(&mut self, number: usize, channel: &[u8], data: &[u8]) {
        let Some(&Some((token, protobuf))) = self.seats.get(number) else { return };
        let mut bytes = vec![0; ROOM];
        push(channel, data, false, protobuf, &mut bytes);
        let begin = put_header(&mut bytes, protobuf);
        bytes.drain(..begin);
        self.messages += 1;
        self.writes += 1;
        self.own.push((token, bytes));
    }

    /// The frame went to so many subscribers.
    pub fn count_writes(&mut self, subscribers: usize) {
        let subscribers = u64::try_from(subscribers).unwrap_or(u64::MAX);
        self.writes += subscribers;
        self.messages += subscribers * self.noted;
        self.noted = 0;
    }

    /// Puts the header in front; false when nothing was noted.
    pub fn close(&mut self, protobuf: bool) -> bool {
        if self.pushes.is_empty() || self.closed {
            return false;
        }
        self.begin = put_header(&mut self.pushes, protobuf);
        self.closed = true;
        for (_, replies) in &mut self.replies {
            let begin = put_header(replies, protobuf);
            replies.drain(..begin);
        }
        true
    }

    /// The frame for every subscriber. Valid until the next publication is noted.
    pub fn frame(&self) -> &[u8] {
        &self.pushes[self.begin..]
    }

    /// A frame of replies for each publisher of the turn.
    pub fn take_replies(&mut self) -> Vec<(usize, Vec<u8>)> {
        mem::take(&mut self.replies)
    }
}

/// `info`: the publisher is a client, and named.
fn push(channel: &[u8], data: &[u8], info: bool, protobuf: bool, out: &mut Vec<u8>) {
    if protobuf {
        return push_protobuf(channel, data, info, out);
    }
    separate(out);
    out.extend_from_slice(br#"{"push":{"channel":""#);
    out.extend_from_slice(channel);
    out.extend_from_slice(br#"","pub":{"data":"#);
    out.extend_from_slice(data);
    if info {
        out.extend_from_slice(br#","info":{"user":"","client":""#);
        out.extend_from_slice(CLIENT);
        out.extend_from_slice(br#""}"#);
    }
    out.extend_from_slice(b"}}}");
}

fn reply(id: &[u8], protobuf: bool, out: &mut Vec<u8>) {
    if protobuf {
        // Field 8 of a reply: an empty publish result.
        out.extend_from_slice(&[id.len() as u8 + 3, 0x08]);
        out.extend_from_slice(id);
        out.extend_from_slice(&[0x42, 0]);
        return;
    }
    separate(out);
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"publish\":{}}");
}

fn separate(out: &mut Vec<u8>) {
    if out.len() > ROOM {
        out.push(b'\n');
    }
}

/// Push(2: channel, 4: publication(4: data, 5: info(2: client))), with the lengths in front.
fn push_protobuf(channel: &[u8], data: &[u8], named: bool, out: &mut Vec<u8>) {
    let info = 2 + CLIENT.len();
    let publication = 1 + varint_len(data.len()) + data.len() + if named { 2 + info } else { 0 };
    let push = 2 + channel.len() + 1 + varint_len(publication) + publication;
    varint(1 + varint_len(push) + push, out);
    out.push(0x22);
    varint(push, out);
    out.extend_from_slice(&[0x12, channel.len() as u8]);
    out.extend_from_slice(channel);
    out.push(0x22);
    varint(publication, out);
    out.push(0x22);
    varint(data.len(), out);
    out.extend_from_slice(data);
    if named {
        out.extend_from_slice(&[0x2a, info as u8, 0x12, CLIENT.len() as u8]);
        out.extend_from_slice(CLIENT);
    }
}

fn varint_len(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the header of a frame into the room before its payload; returns where it begins.
fn put_header(bytes: &mut [u8], protobuf: bool) -> usize {
    let len = bytes.len() - ROOM;
    let mut header = vec![if protobuf { 0x82 } else { 0x81 }];
    match len {
        0..126 => header.push(len as u8),
        126..0x1_0000 => {
            header.push(126);
            header.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let begin = ROOM - header.len();
    bytes[begin..ROOM].copy_from_slice(&header);
    begin
}
