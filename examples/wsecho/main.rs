//! A WebSocket echo server on the very codec, runtime and write path of Corecast, for conformance suites:
//!
//! ```text
//! cargo run --release --example wsecho -- 127.0.0.1:9001 [message limit in bytes]
//! ```
//!
//! One core, every message back as it came; with permessage-deflate, if the client offers it, also what came
//! uncompressed goes back compressed if that makes it shorter. Reading pauses while more than four megabytes wait to be
//! written. It is not a part of the server.

mod echo;

use corecast::runtime::{self, Cores, Options};
use echo::Echo;
use std::{net::SocketAddr, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let limit = arguments.next().unwrap_or_else(|| "67108864".to_owned());
    let (Ok(address), Ok(limit)) = (address.parse::<SocketAddr>(), limit.parse::<usize>()) else {
        eprintln!("usage: wsecho ADDRESS:PORT [MESSAGE_LIMIT_BYTES]");
        return ExitCode::FAILURE;
    };
    let started = runtime::choose_cpus(&Cores::Count(1)).and_then(|cpus| {
        let options = Options { cpus, addresses: vec![address], ..Options::default() };
        runtime::start(options, move |seat| Echo::new(seat, limit))
    });
    match started {
        Ok(running) => {
            eprintln!("echo on {}", running.addresses().first().copied().unwrap_or(address));
            match running.join() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
