//! The head of a request: request line and headers.

use super::body::Framing;
use std::mem::MaybeUninit;

/// A parsed header.
type Header<'b> = httparse::Header<'b>;

/// Room for one parsed header. Nothing is there before: a head usually has a tenth of what it may have.
pub type HeaderSlot<'b> = MaybeUninit<Header<'b>>;

/// For arrays of [`HeaderSlot`].
pub const EMPTY_HEADER: HeaderSlot<'static> = MaybeUninit::uninit();

/// How large a head may be. How many headers it may have is the number of slots.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub size_max: usize,
    /// Bytes of the request target.
    pub uri_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// The client's request cannot be served; the connection closes after the answer, whose status this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("not an HTTP request")]
    Malformed,
    #[error("a request target above the limit")]
    UriTooLong,
    #[error("headers above the limit, in bytes or in number")]
    TooLarge,
    /// Framing that can be read in two ways, or in none.
    #[error("content-length and transfer-encoding that leave the body unclear")]
    Framing,
    #[error("an HTTP/1.1 request needs exactly one host header")]
    Host,
    #[error("an HTTP version that is not 1.0 or 1.1")]
    Version,
}

impl HeadError {
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Framing | Self::Host => 400,
            Self::UriTooLong => 414,
            Self::TooLarge => 431,
            Self::Version => 505,
        }
    }
}

/// A request as its head tells it. Everything borrows from the bytes read.
#[derive(Clone, Copy, Debug)]
pub struct Request<'h, 'b> {
    pub method: &'b str,
    /// Up to the question mark, not decoded.
    pub path: &'b str,
    /// Behind the question mark, not decoded; empty when there is none.
    pub query: &'b str,
    pub version: Version,
    pub headers: &'h [Header<'b>],
    pub framing: Framing,
    /// The connection goes on after the answer.
    pub keep_alive: bool,
    /// The client waits for [`super::CONTINUE`] before it sends the body.
    pub expects_continue: bool,
}

/// A request and how many bytes its head took; the body begins behind them.
#[derive(Clone, Copy, Debug)]
pub struct Head<'h, 'b> {
    pub request: Request<'h, 'b>,
    pub len: usize,
}

impl<'b> Request<'_, 'b> {
    /// The value of the first header with this name, without regard to case; `None` also when it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.values(name).next()
    }

    /// The values of all headers with this name that are UTF-8.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b str> {
        values(self.headers, name).filter_map(|value| simdutf8::basic::from_utf8(value).ok())
    }
}

/// Whether `token` is in a comma-separated list, without regard to case.
#[must_use]
pub fn token_in_list(list: &str, token: &str) -> bool {
    list.split(',').any(|it| it.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
}

fn values<'b>(headers: &[Header<'b>], name: &str) -> impl Iterator<Item = &'b [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Reads the head of a request off the front of `bytes`; `None` when they end before it does.
///
/// # Errors
/// [`HeadError`] when the bytes can never become a request that is served, however many follow. Its limits are
/// checked on what is there, so no more than `size_max` bytes need ever be kept.
pub fn parse_head<'h, 'b>(
    bytes: &'b [u8],
    slots: &'h mut [HeaderSlot<'b>],
    limits: HeadLimits,
) -> Result<Option<Head<'h, 'b>>, HeadError> {
    // What precedes the target and follows it in a request line is shorter than this.
    const AROUND_URI_MAX: usize = 64;
    let line = bytes.get(..limits.uri_max.saturating_add(AROUND_URI_MAX)).unwrap_or(bytes);
    if line.len() < bytes.len() && memchr::memchr(b'\n', line.trim_ascii_start()).is_none() {
        return Err(HeadError::UriTooLong);
    }
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => {
            return if bytes.len() >= limits.size_max { Err(HeadError::TooLarge) } else { Ok(None) };
        }
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => return Err(HeadError::Version),
        Err(_) => return Err(HeadError::Malformed),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HeadError::Malformed);
    };
    if target.len() > limits.uri_max {
        return Err(HeadError::UriTooLong);
    }
    if len > limits.size_max {
        return Err(HeadError::TooLarge);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    request(method, target, version, parsed.headers).map(|request| Some(Head { request, len }))
}

fn request<'h, 'b>(
    method: &'b str,
    target: &'b str,
    version: Version,
    headers: &'h [Header<'b>],
) -> Result<Request<'h, 'b>, HeadError> {
    let (path, query) = split_target(method, target)?;
    let hosts = values(headers, "host").count();
    if hosts > 1 || (hosts == 0 && version == Version::Http11) {
        return Err(HeadError::Host);
    }
    Ok(Request {
        method,
        path,
        query,
        version,
        headers,
        framing: framing(version, headers)?,
        keep_alive: keep_alive(version, headers),
        expects_continue: version == Version::Http11
            && values(headers, "expect").any(|value| value.eq_ignore_ascii_case(b"100-continue")),
    })
}

/// Path and query of a target in origin form, or in absolute form as proxies get it. RFC 9112 section 3.2.
fn split_target<'b>(method: &str, target: &'b str) -> Result<(&'b str, &'b str), HeadError> {
    let absolute = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| rest.get(rest.find(['/', '?']).unwrap_or(rest.len())..))?
    });
    let origin = absolute.unwrap_or(target);
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    let path = if path.is_empty() && absolute.is_some() { "/" } else { path };
    if path.starts_with('/') || (path == "*" && method == "OPTIONS") {
        Ok((path, query))
    } else {
        Err(HeadError::Malformed)
    }
}

/// How long the body is. RFC 9112 section 6.3, without its lenience: both headers at once, either of them
/// twice, or an encoding other than `chunked` are refused, since a proxy in front may read them differently.
fn framing(version: Version, headers: &[Header<'_>]) -> Result<Framing, HeadError> {
    let mut lengths = values(headers, "content-length");
    let mut encodings = values(headers, "transfer-encoding");
    let framing = match (lengths.next(), encodings.next()) {
        (None, None) => Framing::Length(0),
        (Some(value), None) => Framing::Length(decimal(value).ok_or(HeadError::Framing)?),
        (None, Some(value)) if version == Version::Http11 && value.eq_ignore_ascii_case(b"chunked") => {
            Framing::Chunked
        }
        _ => return Err(HeadError::Framing),
    };
    if lengths.next().is_some() || encodings.next().is_some() {
        return Err(HeadError::Framing);
    }
    Ok(framing)
}

/// Digits and nothing else: no sign, no space, no list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// RFC 9112 section 9.3.
fn keep_alive(version: Version, headers: &[Header<'_>]) -> bool {
    let says = |token| {
        values(headers, "connection")
            .any(|value| std::str::from_utf8(value).is_ok_and(|list| token_in_list(list, token)))
    };
    !says("close") && (version == Version::Http11 || says("keep-alive"))
}
