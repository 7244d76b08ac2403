//! The server API, whatever transport it comes by: one table of methods, values in, values out.
//!
//! [`Call`] holds one request of a caller: a single method, a batch, or the lines of the legacy form. It says
//! which broker calls to make ([`Call::start_next`]), takes their answers ([`Call::answer`]) and renders the
//! response ([`Call::finish`]). Shapes, keys that are always present and error numbers are those of
//! Centrifugo's HTTP API.
//!
//! No sockets and no HTTP heads here; [`key_is_right`] compares keys, the transport finds them.

mod base64;
mod call;
mod decode;
mod decode_map;
mod decode_poll;
mod encode;
mod key;
mod method;
mod quick;

pub use call::{BATCH_MAX, Call, Endpoint, Malformed, Response};
pub use encode::{ErrorMode, Node};
pub use key::key_is_right;
pub use method::{METHODS, Method, method};
