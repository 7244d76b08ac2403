//! A server of the run's own: this executable again, on a free port, on chosen CPUs, ended with the run.

use super::{BenchError, floor::Variant, sys};
use std::{
    io::{self, BufRead, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

const START_MAX: Duration = Duration::from_secs(20);
const SAID_MAX: usize = 50;

/// What every scenario may do on a server of its own: it listens on loopback and nobody else knows its port.
const SETTINGS: &[&str] = &[
    "client.insecure=true",
    "http_api.insecure=true",
    "http_server.address=127.0.0.1",
    "http_server.port=0",
];

/// A running server; dropping it ends it.
pub struct OwnServer {
    child: Child,
    pub address: String,
    /// As a person would write it.
    pub command: String,
}

impl OwnServer {
    /// The server under test, on `cores`, with `settings` (`KEY=VALUE`) above the ones needed anyway.
    ///
    /// # Errors
    /// [`BenchError::OwnServer`] with what it said when it does not come up.
    pub fn corecast(cores: &[usize], settings: &[String]) -> Result<Self, BenchError> {
        let list: Vec<_> = cores.iter().map(ToString::to_string).collect();
        let mut arguments = vec!["serve".to_owned()];
        let pinned = (!cores.is_empty()).then(|| format!("runtime.cores=[{}]", list.join(",")));
        let needed = SETTINGS.iter().map(|it| (*it).to_owned());
        for setting in needed.chain(pinned).chain(settings.iter().cloned()) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        Self::start(&arguments, cores)
    }

    /// # Errors
    /// [`BenchError::OwnServer`] when it does not come up, as where the kernel has no io_uring.
    pub fn floor(variant: Variant, cores: &[usize]) -> Result<Self, BenchError> {
        let variant = format!("{variant:?}").to_lowercase();
        let arguments = ["bench", "floor-server", "--variant", &variant].map(str::to_owned);
        Self::start(&arguments, cores.get(..1).unwrap_or_default())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/connection/websocket", self.address)
    }

    fn start(arguments: &[String], cores: &[usize]) -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::OwnServer { reason };
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        sys::bind_child(&mut command, cores).map_err(|error| failed(error.to_string()))?;
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let said = child.stderr.take().map(listen);
        let command = format!("corecast {}", arguments.join(" "));
        let mut server = Self { child, address: String::new(), command };
        match said.map(|said| ready(&said)) {
            Some(Ok(address)) => server.address = address,
            Some(Err(reason)) => return Err(failed(reason)),
            None => return Err(failed(io::Error::from(io::ErrorKind::BrokenPipe).to_string())),
        }
        Ok(server)
    }
}

/// Reads what the server says for as long as it lives, so that it never waits for us.
fn listen(from: ChildStderr) -> Receiver<String> {
    let (to, said) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Nobody listens once it is up.
            let _ = to.send(line);
        }
    });
    said
}

/// The address of the ready line; an error is what was said instead.
fn ready(said: &Receiver<String>) -> Result<String, String> {
    let begin = Instant::now();
    let mut lines = Vec::new();
    while let Some(left) = START_MAX.checked_sub(begin.elapsed()) {
        let Ok(line) = said.recv_timeout(left) else { break };
        if let Some((_, rest)) = line.split_once(" ready on ")
            && let Some(address) = rest.split(' ').next()
        {
            return Ok(address.to_owned());
        }
        if lines.len() < SAID_MAX {
            lines.push(line);
        }
    }
    Err(match lines.is_empty() {
        true => "it said nothing".to_owned(),
        false => lines.join("\n"),
    })
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It keeps nothing, and may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
