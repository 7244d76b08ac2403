//! The server as a process, over real sockets: both backends, one core and two.
//!
//! Every test starts servers of its own on ports the system chooses, and ends them by their process id.

mod attack;
mod bench;
mod bench_clients;
mod bench_scenarios;
mod client;
mod deflate;
mod golden;
mod http;
mod jwks;
mod lifecycle;
mod limits;
mod listeners;
mod migrate;
mod server;
mod streams;
mod tls;
mod tokens;
mod websocket;
