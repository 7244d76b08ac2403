//! What the operator reads when the server is up.

use crate::config::Settings;
use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

/// One line for everybody, and with `dev` the lines to paste. To standard error, in one write.
pub fn say(settings: &Settings, addresses: &[SocketAddr], cores: usize, backend: &str, dev: bool) {
    for &address in addresses {
        let text = text(settings, address, cores, backend, dev);
        // A server whose error output is closed serves all the same.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn text(settings: &Settings, address: SocketAddr, cores: usize, backend: &str, dev: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("corecast {version} ready on {address} (cores: {cores}, backend: {backend})\n");
    if !dev {
        return text;
    }
    let host = reachable(address);
    let (ws, http) = if settings.http_server.tls.enabled { ("wss", "https") } else { ("ws", "http") };
    let websocket = format!("{ws}://{host}{}", settings.websocket.handler_prefix);
    let port = address.port();
    let url = if port == 8000 { String::new() } else { format!(" --url {websocket}") };
    let _ = write!(
        text,
        "  development mode: anybody who reaches this address may do everything\n\
         \x20 clients   {websocket}\n\
         \x20 pages     {http}://{host}/\n\
         \x20 try       corecast sub{url} news\n\
         \x20           corecast pub{url} news '{{\"hello\":1}}'\n\
         \x20           curl -d '{{\"channel\":\"news\",\"data\":{{\"hello\":1}}}}' {http}://{host}{}/publish\n",
        settings.http_api.handler_prefix
    );
    text
}

/// Where a program on this machine finds a server that listens here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => IpAddr::from([127, 0, 0, 1]),
    };
    SocketAddr::new(ip, address.port())
}

/// The name of this machine, for the node's name; "corecast" when it has none.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "corecast".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_to_paste_only_in_dev_mode() {
        let address = SocketAddr::from(([0, 0, 0, 0], 9000));
        let plain = text(&Settings::default(), address, 2, "ring", false);
        assert!(
            plain.starts_with("corecast ")
                && plain.ends_with(" ready on 0.0.0.0:9000 (cores: 2, backend: ring)\n")
        );
        let dev = text(&Settings::default(), address, 2, "ring", true);
        for line in [
            "  clients   ws://127.0.0.1:9000/connection/websocket\n",
            "  try       corecast sub --url ws://127.0.0.1:9000/connection/websocket news\n",
            "           curl -d '{\"channel\":\"news\",\"data\":{\"hello\":1}}' http://127.0.0.1:9000/api/publish\n",
        ] {
            assert!(dev.contains(line), "{line:?} is not in {dev}");
        }
    }
}
