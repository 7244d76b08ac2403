//! The state machines of one core: sessions, channels, groups, outboxes. Bytes and time go in, effects come
//! out; nothing here touches a socket, a clock or a task, and nothing is `async`.

mod acts;
mod calls;
pub mod core;
mod denials;
pub mod emulation;
mod flush;
pub mod group;
mod hub;
mod ids;
#[cfg(test)]
mod invariants;
pub mod limits;
pub mod mesh;
mod outbound;
pub mod outbox;
mod pending;
pub mod permission;
mod positions;
mod regroup;
pub mod seam;
mod session;
pub mod shard;
mod sockjs;
#[cfg(test)]
mod tests;
mod tracks;
mod users;
mod wildcard;

/// What clients see as the version of the server.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " corecast");
