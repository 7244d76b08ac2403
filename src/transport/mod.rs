//! From bytes of connections to the broker and back: the [`Driver`](crate::runtime::Driver) of one core.
//!
//! A connection begins as HTTP/1.1 and may become a WebSocket, or a response without an end; which, its requests say. The driver keeps
//! what each connection is (a few words for an idle WebSocket), turns bytes into broker calls, does the
//! broker's effects, and moves writes and batches to the runtime. It decides nothing about channels. With TLS a
//! driver of its own stands between it and the runtime ([`tls`]).

mod driver;
mod exchange;
mod gate;
mod http;
mod log;
mod sockjs;
mod stream;
mod timer;
pub mod tls;
mod turn;
mod upgrade;
mod websocket;

pub use driver::{BackendJob, CoreDriver, Foreign, Shared};
pub use gate::Gate;
pub use http::Identity;
pub use log::{Level, Log};
pub use stream::introduce;
