//! Bytes to values and back, one format per file. Decoding borrows from the input, encoding appends to the output.
//!
//! Nothing here knows sessions, the state of channels, or time.

pub mod backend;
pub mod client;
pub mod deflate;
pub mod forwarded;
pub mod fossil;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod json;
pub mod origin;
pub mod proxy_protocol;
pub mod sockjs;
pub mod websocket;
