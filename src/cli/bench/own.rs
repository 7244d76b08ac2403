//! A server of the run's own: this executable again, on a free port, on chosen CPUs, ended with the run.

use super::{BenchError, floor::Variant, sys};
use crate::cli::gen_cert;
use std::{
    io::{self, BufRead, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
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
    /// Its certificate and key, gone with it.
    pair: Option<Pair>,
    pub address: String,
    /// As a person would write it.
    pub command: String,
}

impl OwnServer {
    /// The server under test, on `cores`, with `settings` (`KEY=VALUE`) above the ones needed anyway, and
    /// behind TLS if wanted.
    ///
    /// # Errors
    /// [`BenchError::OwnServer`] with what it said when it does not come up.
    pub fn corecast(cores: &[usize], settings: &[String], tls: bool) -> Result<Self, BenchError> {
        let list: Vec<_> = cores.iter().map(ToString::to_string).collect();
        let mut arguments = vec!["serve".to_owned()];
        let pinned = (!cores.is_empty()).then(|| format!("runtime.cores=[{}]", list.join(",")));
        let needed = SETTINGS.iter().map(|it| (*it).to_owned());
        let pair = tls.then(Pair::make).transpose()?;
        let secure = pair.iter().flat_map(Pair::settings);
        for setting in needed.chain(pinned).chain(settings.iter().cloned()).chain(secure) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        let mut server = Self::start(&arguments, cores)?;
        server.pair = pair;
        Ok(server)
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
        let scheme = if self.pair.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/connection/websocket", self.address)
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
        let mut server = Self { child, pair: None, address: String::new(), command };
        match said.map(|said| ready(&said)) {
            Some(Ok(address)) => server.address = address,
            Some(Err(reason)) => return Err(failed(reason)),
            None => return Err(failed(io::Error::from(io::ErrorKind::BrokenPipe).to_string())),
        }
        Ok(server)
    }
}

/// A folder with a certificate and its key.
struct Pair(PathBuf);

impl Pair {
    fn make() -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::OwnServer { reason };
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| failed(error.to_string()))?;
        let folder = std::env::temp_dir().join(format!("corecast-bench-{:x}", u64::from_ne_bytes(name)));
        let made = gen_cert::make(&["127.0.0.1".to_owned()], 1)
            .map_err(|error| failed(format!("no certificate could be made: {error}")))?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).create(&folder)?;
        let pair = Self(folder);
        std::fs::write(pair.0.join("cert.pem"), made.cert_pem)?;
        std::fs::write(pair.0.join("key.pem"), made.key_pem)?;
        Ok(pair)
    }

    fn settings(&self) -> [String; 3] {
        let file = |name: &str| self.0.join(name).display().to_string();
        [
            "http_server.tls.enabled=true".to_owned(),
            format!("http_server.tls.cert_pem={}", file("cert.pem")),
            format!("http_server.tls.key_pem={}", file("key.pem")),
        ]
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Of no use to anybody, and small.
        let _ = std::fs::remove_dir_all(&self.0);
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
