//! Heads of responses.

use super::head::Version;
use crate::wire::json::write_number;

/// Answers `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the head of a response says.
#[derive(Clone, Copy, Debug)]
pub struct Response<'r> {
    pub status: u16,
    /// Of the request: a 1.0 client is told when the connection goes on, a 1.1 client when it does not.
    pub version: Version,
    pub keep_alive: bool,
    /// Empty: none.
    pub content_type: &'r str,
    /// Bytes of the body; `None` writes no length, for bodies that end with the connection. Never written for 1xx and 204.
    pub content_length: Option<usize>,
    /// Names and values. Control characters in values are left out.
    pub headers: &'r [(&'r str, &'r str)],
}

/// Appends the head of a response, the empty line included. The body goes behind it.
pub fn write_response_head(out: &mut Vec<u8>, response: &Response<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, response.status.into());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(response.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if !response.content_type.is_empty() {
        write_field(out, "Content-Type", response.content_type);
    }
    let no_body = response.status < 200 || response.status == 204;
    if let Some(len) = response.content_length
        && !no_body
    {
        out.extend_from_slice(b"Content-Length: ");
        write_number(out, len as u64);
        out.extend_from_slice(b"\r\n");
    }
    match (response.version, response.keep_alive) {
        // An upgrade has its own Connection header.
        _ if response.status == 101 => {}
        (Version::Http10, true) => write_field(out, "Connection", "keep-alive"),
        (Version::Http11, false) => write_field(out, "Connection", "close"),
        (Version::Http10, false) | (Version::Http11, true) => {}
    }
    for (name, value) in response.headers {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    // No early end: many bytes are looked at in one go.
    if value.bytes().fold(false, |found, byte| found | byte.is_ascii_control()) {
        out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The text behind a status; empty for those we do not send.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
