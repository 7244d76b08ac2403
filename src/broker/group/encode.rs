//! Notes as messages of the client protocol.

use super::Note;
use crate::{
    model::Protocol,
    wire::client::{Push, encode_push, separate},
};

/// Appends one note as one message; `frame_start` is where the frame's payload begins in `out`.
pub(super) fn note(protocol: Protocol, channel: &str, note: &Note, out: &mut Vec<u8>, frame_start: usize) {
    let push = match note {
        Note::Publication { publication, epoch } => {
            Push::Publication { publication, epoch: epoch.as_deref().unwrap_or_default() }
        }
        Note::Patched { publication, patch } => Push::Patched { publication, patch: patch.as_deref() },
        Note::Join(info) => Push::Join(info),
        Note::Leave(info) => Push::Leave(info),
    };
    separate(protocol, out, frame_start);
    encode_push(protocol, channel, &push, out);
}
