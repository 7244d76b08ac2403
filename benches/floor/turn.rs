//! What a turn collects: the pushes for everybody and the replies for each publisher, as finished bytes.

const CLIENT: &[u8] = b"6f1d2c3b-4a59-4687-9abc-def012345678";
const CHANNEL: &[u8] = b"bench";
/// Room in front of the messages for the longest frame header.
const ROOM: usize = 10;

#[derive(Default)]
pub struct Turn {
    /// Header room, then the pushes back to back.
    pushes: Vec<u8>,
    /// Where the frame begins in `pushes`.
    begin: usize,
    closed: bool,
    replies: Vec<(usize, Vec<u8>)>,
}

impl Turn {
    /// Adds one publication of connection `token`: its push, and the reply to command `id`.
    pub fn note(&mut self, token: usize, id: &[u8], data: &[u8], protobuf: bool) {
        if self.closed || self.pushes.is_empty() {
            self.pushes.clear();
            self.pushes.resize(ROOM, 0);
            self.closed = false;
        }
        if self.replies.last().is_none_or(|(last, _)| *last != token) {
            self.replies.push((token, vec![0; ROOM]));
        }
        let Some((_, replies)) = self.replies.last_mut() else { return };
        let pushes = &mut self.pushes;
        if protobuf {
            push_protobuf(data, pushes);
            // Field 8 of a reply: an empty publish result.
            replies.extend_from_slice(&[id.len() as u8 + 3, 0x08]);
            replies.extend_from_slice(id);
            replies.extend_from_slice(&[0x42, 0]);
            return;
        }
        for out in [&mut *pushes, &mut *replies] {
            if out.len() > ROOM {
                out.push(b'\n');
            }
        }
        pushes.extend_from_slice(br#"{"push":{"channel":""#);
        pushes.extend_from_slice(CHANNEL);
        pushes.extend_from_slice(br#"","pub":{"data":"#);
        pushes.extend_from_slice(data);
        pushes.extend_from_slice(br#","info":{"user":"","client":""#);
        pushes.extend_from_slice(CLIENT);
        pushes.extend_from_slice(br#""}}}}"#);
        replies.extend_from_slice(b"{\"id\":");
        replies.extend_from_slice(id);
        replies.extend_from_slice(b",\"publish\":{}}");
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
        std::mem::take(&mut self.replies)
    }
}

/// Push(2: channel, 4: publication(4: data, 5: info(2: client))), with the lengths in front.
fn push_protobuf(data: &[u8], out: &mut Vec<u8>) {
    let info = 2 + CLIENT.len();
    let publication = 1 + varint_len(data.len()) + data.len() + 2 + info;
    let push = 2 + CHANNEL.len() + 1 + varint_len(publication) + publication;
    varint(1 + varint_len(push) + push, out);
    out.push(0x22);
    varint(push, out);
    out.extend_from_slice(&[0x12, CHANNEL.len() as u8]);
    out.extend_from_slice(CHANNEL);
    out.push(0x22);
    varint(publication, out);
    out.push(0x22);
    varint(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(&[0x2a, info as u8, 0x12, CLIENT.len() as u8]);
    out.extend_from_slice(CLIENT);
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
