//! Requests that are nearly right: heads, bodies of the server API, and several in a row.

use super::{
    Target,
    message::{mutated, once_in, pick},
    session::{PATIENCE, Tally, dial},
};
use corecast::stdx::rng::Rng;
use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
};

/// Never `disconnect`: a mutated one may name the control clients, and the server would be right to obey.
const CALLS: [(&str, &str); 9] = [
    ("publish", r#"{"channel":"storm1","data":{"a":[1,2]},"tags":{"k":"v"},"idempotency_key":"i"}"#),
    ("broadcast", r#"{"channels":["storm1","storm2","storm3"],"data":"x"}"#),
    ("presence", r#"{"channel":"storm1"}"#),
    ("presence_stats", r#"{"channel":"storm2"}"#),
    ("history", r#"{"channel":"storm3","limit":5,"since":{"offset":1,"epoch":"abcd"},"reverse":true}"#),
    ("history_remove", r#"{"channel":"storm3"}"#),
    ("channels", r#"{"pattern":"st*"}"#),
    ("info", "{}"),
    ("batch", r#"{"commands":[{"publish":{"channel":"storm4","data":1}},{"info":{}}],"parallel":true}"#),
];

const GETS: [&str; 6] = [
    "GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.0\r\n\r\n",
    "GET /connection/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n{\"method\":\"info\",\"params\":{}}",
];

const STATUSES: [u16; 19] =
    [101, 200, 204, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 426, 431, 501, 503, 505];

fn request(rng: &mut Rng) -> Vec<u8> {
    if once_in(rng, 3) {
        return pick(rng, &GETS).as_bytes().to_vec();
    }
    let (method, body) = CALLS[rng.below(CALLS.len() as u64) as usize];
    let body = if once_in(rng, 2) { mutated(rng, body.into()) } else { body.into() };
    let mut out = format!("POST /api/{method} HTTP/1.1\r\nHost: a\r\n").into_bytes();
    if once_in(rng, 4) {
        out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(1 + rng.below(64) as usize) {
            out.extend(format!("{:x}\r\n", piece.len()).bytes());
            out.extend_from_slice(piece);
            out.extend(b"\r\n");
        }
        out.extend(b"0\r\n\r\n");
    } else {
        out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        out.extend_from_slice(&body);
    }
    out
}

/// One connection of requests.
///
/// # Errors
/// What the server did wrong.
pub fn run(target: &Target, rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
    let mut bytes = Vec::new();
    for _ in 0..=rng.below(3) {
        bytes.extend(request(rng));
        tally.frames += 1;
    }
    if once_in(rng, 2) {
        bytes = mutated(rng, bytes);
    }
    tally.mutated += 1;
    let mut stream = dial(target)?;
    let cut = rng.below(bytes.len() as u64 + 1) as usize;
    for piece in [&bytes[..cut], &bytes[cut..]] {
        match stream.write_all(piece) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(format!("the server takes no request for {PATIENCE:?}"));
            }
            // It may refuse before it has everything.
            _ => {}
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Err(format!(
                "a request gets no end within {PATIENCE:?}: {}",
                String::from_utf8_lossy(&bytes)
            ));
        }
        _ => {}
    }
    if answer.is_empty() {
        *tally.ends.entry(0).or_default() += 1;
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer[..answer.len().min(16)]);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match status {
        Some(status) if STATUSES.contains(&status) => {
            *tally.statuses.entry(status).or_default() += 1;
            Ok(())
        }
        _ => Err(format!("{text:?} answers {:?}", String::from_utf8_lossy(&bytes))),
    }
}
