//! Frames to bytes. Nothing here fragments: a frame is a message.

use super::frame::{CONTROL_LEN_MAX, Opcode, unmask};

/// The header of a frame from a server, at most ten bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; 10],
    len: u8,
}

impl AsRef<[u8]> for FrameHeader {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The header of a whole message of `len` bytes, unmasked, the length in as few bytes as possible.
#[inline]
#[must_use]
pub const fn frame_header(opcode: Opcode, len: usize) -> FrameHeader {
    let first = 0x80 | opcode.bits();
    if len < 126 {
        FrameHeader { bytes: [first, len as u8, 0, 0, 0, 0, 0, 0, 0, 0], len: 2 }
    } else if len < 1 << 16 {
        let [a, b] = (len as u16).to_be_bytes();
        FrameHeader { bytes: [first, 126, a, b, 0, 0, 0, 0, 0, 0], len: 4 }
    } else {
        let [a, b, c, d, e, f, g, h] = (len as u64).to_be_bytes();
        FrameHeader { bytes: [first, 127, a, b, c, d, e, f, g, h], len: 10 }
    }
}

/// Appends the header of an unmasked frame that holds a whole message of `len` bytes.
#[inline]
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    out.extend_from_slice(frame_header(opcode, len).as_ref());
}

/// Appends a close frame. The reason is cut to what fits (123 bytes), between characters.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = reason.get(..reason.floor_char_boundary(CONTROL_LEN_MAX - 2)).unwrap_or_default();
    write_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a whole masked frame, as clients send them.
pub fn write_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    let start = out.len();
    write_header(out, opcode, payload.len());
    if let Some(second) = out.get_mut(start + 1) {
        *second |= 0x80;
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(out.get_mut(start..).unwrap_or_default(), mask, 0);
}
