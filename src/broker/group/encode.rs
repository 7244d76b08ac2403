//! Notes as messages of the client protocol.

use super::Note;
use crate::{
    model::Protocol,
    wire::client::{self, Push},
};

/// Appends one note as one message; `frame_start` is where the frame's payload begins in `out`.
pub(super) fn note(protocol: Protocol, channel: &str, note: &Note, out: &mut Vec<u8>, frame_start: usize) {
    client::separate(protocol, out, frame_start);
    let push = match note {
        Note::Publication { publication, epoch } => {
            Push::Publication { publication, epoch: epoch.as_deref().unwrap_or_default() }
        }
        Note::Join(info) => Push::Join(info),
        Note::Leave(info) => Push::Leave(info),
    };
    client::encode_push(protocol, channel, &push, out);
}

/// True when the bytes are exactly one JSON value in UTF-8.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    client::contains_only_json(bytes)
}
