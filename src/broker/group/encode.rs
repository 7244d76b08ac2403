//! Notes as messages of the client protocol.

use super::Note;
use crate::model::Protocol;

/// Appends one note as one message; `frame_start` is where the frame's payload begins in `out`.
pub(super) fn note(protocol: Protocol, channel: &str, note: &Note, out: &mut Vec<u8>, frame_start: usize) {
    // Stand-in until `wire::client::{separate, encode_push}` are on main.
    if protocol == Protocol::Json && out.len() > frame_start {
        out.push(b'\n');
    }
    let (kind, data) = match note {
        Note::Publication { publication, .. } => {
            ("pub", String::from_utf8_lossy(&publication.data).into_owned())
        }
        Note::Join(info) => ("join", info.client.to_string()),
        Note::Leave(info) => ("leave", info.client.to_string()),
    };
    let text = format!("{{\"push\":{{\"channel\":{channel:?},{kind:?}:{{\"data\":{data}}}}}}}");
    if protocol == Protocol::Protobuf {
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}

/// True when the bytes are exactly one JSON value in UTF-8.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}
