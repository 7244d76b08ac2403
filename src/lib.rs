//! Corecast: a thread-per-core, io_uring, shared-nothing real-time messaging server that speaks the
//! Centrifugal client protocol. `docs/ARCHITECTURE.md` explains the rooms and who may import whom.

pub mod api;
pub mod auth;
pub mod broker;
#[cfg(feature = "server")]
pub mod cli;
pub mod config;
pub mod metrics;
pub mod model;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
#[cfg(test)]
mod sim;
pub mod stdx;
#[cfg(feature = "server")]
pub mod transport;
pub mod wire;
