//! The load generator: its sockets and frames.
pub mod frames;
pub mod sys;
