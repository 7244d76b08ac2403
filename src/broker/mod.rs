//! The state machines of one core: sessions, channels, groups, outboxes. Bytes and time go in, effects come
//! out; nothing here touches a socket, a clock or a task, and nothing is `async`.

pub mod core;
pub mod group;
pub mod mesh;
pub mod outbox;
pub mod permission;
pub mod seam;
pub mod shard;
