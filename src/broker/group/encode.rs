//! Notes as messages of the client protocol.

use super::{Class, Note};
use crate::wire::client::{Push, encode_numbered_push, encode_push, separate};

/// Appends one note as one message; `frame_start` is where the frame's payload begins in `out`.
pub(super) fn note(class: Class, channel: &str, note: &Note, out: &mut Vec<u8>, frame_start: usize) {
    let push = match note {
        Note::Publication { publication, epoch } => {
            Push::Publication { publication, epoch: epoch.as_deref().unwrap_or_default() }
        }
        Note::Patched { publication, patch } => Push::Patched { publication, patch: patch.as_deref() },
        Note::Join(info) => Push::Join(info),
        Note::Leave(info) => Push::Leave(info),
    };
    separate(class.protocol, out, frame_start);
    match class.number {
        0 => encode_push(class.protocol, channel, &push, out),
        number => encode_numbered_push(class.protocol, number, &push, out),
    }
}
