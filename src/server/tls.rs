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
    sync::{Arc, LazyLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
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
                    "TLS: http_server.tls.{option} {reason}: the certificate in use is kept; mend it and send SIGHUP again"
                ),
            );
        }
    }
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
    const MARK: &str = "-----BEGIN ";
    if text.contains(MARK) {
        return Ok(text.as_bytes().to_vec());
    }
    if let Ok(bytes) = BASE64_STANDARD.decode(text.trim())
        && bytes.starts_with(MARK.as_bytes())
    {
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

fn unix() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs().cast_signed())
}
