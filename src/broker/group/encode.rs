//! Notes as messages of the client protocol.

use super::{Class, Note};
use crate::wire::client::{Dialect, Push, encode_bare_push, encode_numbered_push, encode_push, v1};

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
    let Class { framing, protocol, number, dialect, .. } = class;
    framing.add(protocol, out, frame_start, |out| match (dialect, number) {
        (Dialect::V2, 0) => encode_push(protocol, channel, &push, out),
        (Dialect::V2, number) => encode_numbered_push(protocol, number, &push, out),
        (Dialect::Bare, _) => encode_bare_push(protocol, channel, &push, out),
        (Dialect::V1(positions), _) => v1::encode_push(protocol, positions, channel, &push, out),
    });
}
