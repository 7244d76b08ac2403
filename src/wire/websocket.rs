//! WebSocket (RFC 6455): frames in both directions, and the handshake of the server.
//!
//! [`Decoder`] turns the bytes of a connection into messages, in place where a whole frame lies in what was
//! read. [`write_header`] and its company write frames. No compression here: a decoder can be told to let
//! RSV1 through for a layer above.

mod decoder;
mod frame;
mod handshake;
mod write;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Event, Frames, MessageKind, Options};
pub use frame::{CONTROL_LEN_MAX, FrameError, HEADER_LEN_MAX, Header, Opcode, Role, parse_header, unmask};
pub use handshake::{
    Refusal, SUBPROTOCOL_JSON, SUBPROTOCOL_PROTOBUF, Upgrade, accept_key, check_upgrade, choose_subprotocol,
    write_upgrade,
};
pub use write::{FrameHeader, frame_header, write_close, write_header, write_masked};
