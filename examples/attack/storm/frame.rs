//! WebSocket frames, right ones and every kind of wrong one.

use super::message::{mutated, once_in};
use corecast::{
    model::Protocol,
    stdx::rng::Rng,
    wire::{
        deflate::{self, Deflater, Window},
        websocket::{Opcode, write_masked},
    },
};

/// Codes a client may close with, and some it may not.
const CLOSE_CODES: [u16; 14] =
    [1000, 1001, 1003, 1011, 3000, 3999, 4000, 4999, 0, 999, 1005, 1006, 1015, 5000];

fn mask(rng: &mut Rng) -> [u8; 4] {
    if once_in(rng, 8) { [0; 4] } else { (rng.next_u64() as u32).to_be_bytes() }
}

pub fn opcode_of(protocol: Protocol) -> Opcode {
    if protocol == Protocol::Json { Opcode::Text } else { Opcode::Binary }
}

/// The payload as one frame.
pub fn whole(rng: &mut Rng, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let mask = mask(rng);
    write_masked(out, opcode, payload, mask);
}

/// The payload as one compressed frame; sometimes changed after compression, or not compressed at all.
pub fn deflated(rng: &mut Rng, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let mut deflater = Deflater::new(deflate::Options::default());
    let deflated = deflater.deflate(Window::Bits15, payload).map(<[u8]>::to_vec);
    let mut bytes = deflated.unwrap_or_else(|| match u16::try_from(payload.len()) {
        // A stored block, and the beginning of an empty one.
        Ok(len) if !once_in(rng, 8) => {
            [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), payload, &[0]].concat()
        }
        _ => payload.to_vec(),
    });
    if once_in(rng, 4) {
        bytes = mutated(rng, bytes);
    }
    let start = out.len();
    whole(rng, opcode, &bytes, out);
    out[start] |= 0x40;
}

/// The payload in several frames, with control frames in between. Answers how many frames.
pub fn fragments(rng: &mut Rng, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> u64 {
    let (mut rest, mut frames, mut opcode) = (payload, 0, opcode);
    loop {
        let len = rng.below(rest.len() as u64 + 1) as usize;
        let (piece, tail) = rest.split_at(len);
        let is_last = tail.is_empty() || frames > 6;
        let start = out.len();
        whole(rng, opcode, if is_last { rest } else { piece }, out);
        frames += 1;
        if is_last {
            return frames;
        }
        out[start] &= 0x7f;
        (rest, opcode) = (tail, Opcode::Continuation);
        if once_in(rng, 3) {
            control(rng, out);
            frames += 1;
        }
    }
}

/// A ping or a pong that is in order.
pub fn control(rng: &mut Rng, out: &mut Vec<u8>) {
    let payload: Vec<u8> = (0..rng.below(126)).map(|_| rng.next_u64() as u8).collect();
    let opcode = if once_in(rng, 2) { Opcode::Ping } else { Opcode::Pong };
    whole(rng, opcode, &payload, out);
}

/// A close frame, mostly in order.
pub fn close(rng: &mut Rng, out: &mut Vec<u8>) {
    let code = CLOSE_CODES[rng.below(CLOSE_CODES.len() as u64) as usize].to_be_bytes();
    let payload: &[u8] = match rng.below(8) {
        0 => &[],
        1 => &code[..1],
        2 => &[&code[..], b"\xff\xfe"].concat(),
        3 => &[&code[..], b"good bye"].concat(),
        _ => &code,
    };
    whole(rng, Opcode::Close, payload, out);
}

/// A header that announces `len`, in as many bytes as `form` says (7, 16 or 64 bits), and a mask of zeros.
fn announced(first: u8, form: u8, len: u64) -> Vec<u8> {
    let mut out = vec![first];
    match form {
        126 => {
            out.push(0xfe);
            out.extend((len as u16).to_be_bytes());
        }
        127 => {
            out.push(0xff);
            out.extend(len.to_be_bytes());
        }
        _ => out.push(0x80 | (len as u8 & 0x7f)),
    }
    out.extend([0; 4]);
    out
}

/// One way or another against RFC 6455, or cut off, or only close to it.
pub fn broken(rng: &mut Rng, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let first = 0x80 | opcode.bits();
    match rng.below(14) {
        0 => {
            whole(rng, opcode, payload, out);
            out[start] = rng.next_u64() as u8;
        }
        1 => {
            whole(rng, opcode, payload, out);
            out[start] |= 0x10 << rng.below(3);
        }
        2 => {
            whole(rng, opcode, payload, out);
            out[start + 1] &= 0x7f;
        }
        3 => out.extend(announced(first, 126, rng.below(126))),
        4 => out.extend(announced(first, 127, rng.below(65_536))),
        5 => {
            let exponent = 16 + rng.below(48);
            out.extend(announced(first, 127, (1u64 << exponent) - rng.below(3)));
            out.extend_from_slice(payload);
        }
        6 => out.extend(announced(first, 127, u64::MAX - rng.below(9))),
        7 => out.extend(announced(0x88 | rng.below(3) as u8, 126, 126 + rng.below(2000))),
        8 => {
            let control = [Opcode::Ping, Opcode::Pong, Opcode::Close][rng.below(3) as usize];
            whole(rng, control, b"x", out);
            out[start] &= 0x7f;
        }
        9 => whole(rng, Opcode::Continuation, payload, out),
        10 => {
            whole(rng, opcode, payload, out);
            out[start] &= 0x7f;
            whole(rng, opcode, payload, out);
        }
        11 => {
            whole(rng, opcode, payload, out);
            let len = rng.below((out.len() - start) as u64 + 1) as usize;
            out.truncate(start + len);
        }
        12 => out.extend((0..rng.below(64)).map(|_| rng.next_u64() as u8)),
        _ => {
            let mut bytes = Vec::new();
            whole(rng, opcode, payload, &mut bytes);
            out.extend(mutated(rng, bytes));
        }
    }
}
