//! TLS as the settings want it: files read, checked, and read again when the operator asks.

use crate::{
    config::{Settings, Tls},
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

/// What cannot be used of `http_server.tls`, as keys with reasons. Empty where TLS is off.
#[must_use]
pub fn problems(settings: &Settings) -> Vec<(String, String)> {
    let tls = &settings.http_server.tls;
    let found = if tls.enabled { load(tls).err() } else { None };
    found.map(|it| (format!("http_server.tls.{}", it.option), it.reason)).into_iter().collect()
}

/// `None`: TLS is off.
pub(super) fn acceptor(settings: &Settings) -> Result<Option<Arc<Acceptor>>, Unusable> {
    let tls = &settings.http_server.tls;
    tls.enabled.then(|| load(tls).map(|ready| Arc::new(Acceptor::new(ready)))).transpose()
}

/// Reads everything again and says what came of it. What cannot be used changes nothing.
pub(super) fn reload(acceptor: Option<&Acceptor>, settings: &Settings, log: &dyn Log) {
    let say = |level, line: std::fmt::Arguments<'_>| {
        if log.enabled(level) {
            log.write(level, line);
        }
    };
    let Some(acceptor) = acceptor else {
        return say(
            Level::Info,
            format_args!("SIGHUP: nothing to reload, http_server.tls is off; other settings want a restart"),
        );
    };
    match load(&settings.http_server.tls) {
        Ok(ready) => {
            let days = (ready.until - unix()) / 86_400;
            acceptor.replace(ready);
            say(
                Level::Info,
                format_args!(
                    "TLS: the certificate was read anew and is valid for {days} days; connections stay"
                ),
            );
        }
        Err(Unusable { option, reason }) => {
            acceptor.note_failed_reload();
            say(
                Level::Error,
                format_args!(
                    "TLS: http_server.tls.{option} {reason}: the certificate in use is kept; mend it, then SIGHUP"
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
        let tls = &settings.http_server.tls;
        let texts = [&tls.cert_pem, &tls.key_pem, &tls.client_ca_pem];
        let files = texts.into_iter().filter(|text| !text.is_empty() && literal(text).is_none());
        let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
        let is_on = tls.enabled && !tls.watch_interval.is_zero() && !files.is_empty();
        let known = stamps(&files);
        Self { every: is_on.then_some(tls.watch_interval), files, known, fresh: None }
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

fn load(tls: &Tls) -> Result<Ready, Unusable> {
    let client_ca_pem = match tls.client_ca_pem.as_str() {
        "" => None,
        text => Some(pem("client_ca_pem", text)?),
    };
    let material = Material {
        cert_pem: pem("cert_pem", &tls.cert_pem)?,
        key_pem: pem("key_pem", &tls.key_pem)?,
        client_ca_pem,
        only_tls13: tls.min_version == "1.3",
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
