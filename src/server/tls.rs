//! TLS as the settings want it: files read, checked, and read again when the operator asks.

use crate::{
    config::{Settings, TlsPart},
    transport::{
        Level, Log,
        tls::{self, Acceptor, Material, Ready, Unusable},
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Largest file of certificates or keys.
const FILE_MAX: usize = 1 << 20;

/// What cannot be used of what ports serve TLS with, as keys with reasons. Empty where TLS is off.
#[must_use]
pub fn problems(settings: &Settings) -> Vec<(String, String)> {
    let parts = settings.tls_parts();
    let found = parts.iter().filter(|part| part.enabled).filter_map(|part| {
        let Unusable { option, reason } = load(part).err()?;
        Some((format!("{}.{option}", part.section), reason))
    });
    found.collect()
}

/// What ports serve TLS with. `None`: without.
pub(super) struct Acceptors {
    pub http: Option<Arc<Acceptor>>,
    pub grpc: Option<Arc<Acceptor>>,
}

impl Acceptors {
    /// # Errors
    /// Material that cannot be used, and the section it stands in.
    pub fn new(settings: &Settings) -> Result<Self, (&'static str, Unusable)> {
        let [http, grpc] = settings.tls_parts().map(|part| {
            let ready = part.enabled.then(|| load(&part)).transpose();
            let ready = ready.map_err(|unusable| (part.section, unusable));
            ready.map(|ready| ready.map(|ready| Arc::new(Acceptor::new(ready))))
        });
        Ok(Self { http: http?, grpc: grpc? })
    }

    /// Reads everything again and says what came of it. What cannot be used changes nothing.
    pub fn reload(&self, settings: &Settings, log: &dyn Log) {
        let [http, grpc] = settings.tls_parts();
        for (part, acceptor) in [(http, &self.http), (grpc, &self.grpc)] {
            if let Some(acceptor) = acceptor {
                reload(&part, acceptor, log);
            }
        }
        if self.http.is_none() && self.grpc.is_none() && log.enabled(Level::Info) {
            let nothing = "SIGHUP: nothing to reload, TLS is off; other settings want a restart";
            log.write(Level::Info, format_args!("{nothing}"));
        }
    }
}

fn reload(part: &TlsPart<'_>, acceptor: &Acceptor, log: &dyn Log) {
    let say = |level, line: std::fmt::Arguments<'_>| {
        if log.enabled(level) {
            log.write(level, line);
        }
    };
    let section = part.section;
    match load(part) {
        Ok(ready) => {
            let days = (ready.until - unix()) / 86_400;
            acceptor.replace(ready);
            say(
                Level::Info,
                format_args!(
                    "TLS: the certificate of {section} was read anew and is valid for {days} days; connections stay"
                ),
            );
        }
        Err(Unusable { option, reason }) => {
            acceptor.note_failed_reload();
            say(
                Level::Error,
                format_args!(
                    "TLS: {section}.{option} {reason}: the certificate in use is kept; mend it, then SIGHUP"
                ),
            );
        }
    }
}

/// Looks whether the files of TLS have changed.
pub(super) struct Watch {
    every: Option<Duration>,
    files: Vec<PathBuf>,
    known: Vec<Option<Stamp>>,
    /// Changed since, but perhaps not written to the end.
    fresh: Option<Vec<Option<Stamp>>>,
}

/// Time of the last change, number and size of a file.
type Stamp = (SystemTime, u64, u64);

impl Watch {
    pub fn new(settings: &Settings) -> Self {
        let parts = settings.tls_parts();
        let watched = || parts.iter().filter(|part| part.enabled && !part.watch_interval.is_zero());
        let texts = watched().flat_map(|part| [part.cert_pem, part.key_pem, part.client_ca_pem]);
        let files = texts.filter(|text| !text.is_empty() && literal(text).is_none());
        let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
        let every = watched().map(|part| part.watch_interval).min().filter(|_| !files.is_empty());
        let known = stamps(&files);
        Self { every, files, known, fresh: None }
    }

    /// `None`: there is nothing to watch.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// True once after each change, when two looks have found the same.
    pub fn has_changed(&mut self) -> bool {
        let now = stamps(&self.files);
        if now == self.known {
            self.fresh = None;
        } else if self.fresh.replace(now.clone()).as_ref() == Some(&now) {
            self.known = now;
            self.fresh = None;
            return true;
        }
        false
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.ino(), found.len()))
    };
    files.iter().map(stamp).collect()
}

/// What the filter of a core is to know.
pub(super) fn options(settings: &Settings, core: usize) -> tls::Options {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let server = &settings.http_server;
    tls::Options {
        handshake_size_max: server.tls.handshake_size_max,
        handshake_turn_us: u64::try_from(server.tls.handshake_turn_time_max.as_micros()).unwrap_or(u64::MAX),
        proxied: server.proxy_protocol,
        linger_ms: u32::try_from(server.close_timeout.as_millis()).unwrap_or(u32::MAX),
        first_core: core == 0,
        micros: || u64::try_from(BEGUN.elapsed().as_micros()).unwrap_or(u64::MAX),
    }
}

fn load(tls: &TlsPart<'_>) -> Result<Ready, Unusable> {
    let client_ca_pem = match tls.client_ca_pem {
        "" => None,
        text => Some(pem("client_ca_pem", text)?),
    };
    let material = Material {
        cert_pem: pem("cert_pem", tls.cert_pem)?,
        key_pem: pem("key_pem", tls.key_pem)?,
        client_ca_pem,
        only_tls13: tls.min_version == "1.3",
        protocol: tls.protocol,
    };
    Ready::new(&material, unix())
}

/// The text itself, that in base64, or the file of that name.
fn pem(option: &'static str, text: &str) -> Result<Vec<u8>, Unusable> {
    if let Some(bytes) = literal(text) {
        return Ok(bytes);
    }
    // A key that was meant to be text must not stand in a log.
    let name = if text.len() > 256 || text.contains('\n') { "it" } else { text };
    let wrong = |reason: String| Unusable::new(option, reason);
    match std::fs::metadata(text) {
        Ok(file) if file.len() > FILE_MAX as u64 => {
            Err(wrong(format!("{name} is larger than {FILE_MAX} bytes")))
        }
        _ => {
            std::fs::read(text).map_err(|error| wrong(format!("is neither PEM nor a file: {name}: {error}")))
        }
    }
}

/// PEM that stands in the settings themselves. `None`: they name a file.
fn literal(text: &str) -> Option<Vec<u8>> {
    const MARK: &str = "-----BEGIN ";
    if text.contains(MARK) {
        return Some(text.as_bytes().to_vec());
    }
    BASE64_STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.starts_with(MARK.as_bytes()))
}

fn unix() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs().cast_signed())
}
