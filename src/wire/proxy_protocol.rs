//! The PROXY protocol, versions 1 and 2: what a load balancer puts in front of a connection to say who the
//! client is. <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>
//!
//! The header is required where it is expected: bytes that are none are an error, so that no client can pass
//! itself off as somebody else by leaving it out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the longest version 1 header, the line end included.
const V1_LEN_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_PREFIX_LEN: usize = 16;
/// Addresses and additional fields of a version 2 header. The longest addresses take 216 bytes.
const V2_REST_LEN_MAX: usize = 4096;

/// Not a PROXY header, or one that contradicts itself. The connection closes without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a PROXY protocol header")]
pub struct NotProxied;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The client; `None` when the proxy speaks for itself (health checks) or does not know.
    pub source: Option<SocketAddr>,
    /// Bytes of the header.
    pub len: usize,
}

/// Reads a header off the front of `bytes`; `None` when they end before it does.
pub fn parse(bytes: &[u8]) -> Result<Option<Proxied>, NotProxied> {
    let common = bytes.len().min(V2_SIGNATURE.len());
    if bytes.get(..common) == V2_SIGNATURE.get(..common) {
        return parse_v2(bytes);
    }
    let common = bytes.len().min(6);
    if bytes.get(..common) == b"PROXY ".get(..common) { parse_v1(bytes) } else { Err(NotProxied) }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Proxied>, NotProxied> {
    let line = bytes.get(..V1_LEN_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if bytes.len() < V1_LEN_MAX { Ok(None) } else { Err(NotProxied) };
    };
    let line = line.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(NotProxied)?;
    let line = std::str::from_utf8(line).map_err(|_| NotProxied)?;
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => {
            let mut word = || words.next().ok_or(NotProxied);
            let (source, destination) = (address(word()?, family)?, address(word()?, family)?);
            let (port, _) = (port(word()?)?, port(word()?)?);
            if words.next().is_some() || source.is_ipv4() != destination.is_ipv4() {
                return Err(NotProxied);
            }
            Some(SocketAddr::new(source, port))
        }
        _ => return Err(NotProxied),
    };
    Ok(Some(Proxied { source, len: end + 1 }))
}

fn address(word: &str, family: &str) -> Result<IpAddr, NotProxied> {
    match family {
        "TCP4" => word.parse().map(IpAddr::V4),
        _ => word.parse().map(IpAddr::V6),
    }
    .map_err(|_| NotProxied)
}

fn port(word: &str) -> Result<u16, NotProxied> {
    if word.starts_with('+') {
        return Err(NotProxied);
    }
    word.parse().map_err(|_| NotProxied)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Proxied>, NotProxied> {
    // Refused as soon as it shows: the version, the command, the family, the length.
    let command = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(NotProxied),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    let Some(&[high, low]) = bytes.get(14..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
    let rest_len = usize::from(u16::from_be_bytes([high, low]));
    if rest_len > V2_REST_LEN_MAX {
        return Err(NotProxied);
    }
    let len = V2_PREFIX_LEN + rest_len;
    let Some(rest) = bytes.get(V2_PREFIX_LEN..len) else { return Ok(None) };
    let source = match (command, family >> 4) {
        (Command::Local, _) => None,
        (Command::Proxy, 1) => Some(v2_source::<4, 12>(rest).ok_or(NotProxied)?),
        (Command::Proxy, 2) => Some(v2_source::<16, 36>(rest).ok_or(NotProxied)?),
        // Unspecified, or a Unix socket: nobody we could name.
        (Command::Proxy, 0 | 3) => None,
        (Command::Proxy, _) => return Err(NotProxied),
    };
    Ok(Some(Proxied { source, len }))
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

/// Source address, destination address, source port, destination port: `ALL` bytes.
fn v2_source<const ADDRESS: usize, const ALL: usize>(rest: &[u8]) -> Option<SocketAddr> {
    let all = rest.first_chunk::<ALL>()?;
    let port = u16::from_be_bytes(*all.get(2 * ADDRESS..)?.first_chunk()?);
    let address = match ADDRESS {
        4 => IpAddr::V4(Ipv4Addr::from(*all.first_chunk::<4>()?)),
        _ => IpAddr::V6(Ipv6Addr::from(*all.first_chunk::<16>()?)),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, header: &[u8], want: Result<Option<&str>, NotProxied>) {
        let source = want.map(|source| source.map(|it| it.parse().unwrap()));
        let want = source.map(|source| Some(Proxied { source, len: header.len() }));
        assert_eq!(parse(&[header, b"GET /"].concat()), want, "{name}");
        if want.is_ok() {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{name}, cut at {cut}");
            }
        }
    }

    #[test]
    fn version_1() {
        check("IPv4", b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", Ok(Some("192.0.2.1:56324")));
        check("IPv6", b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Ok(Some("[2001:db8::1]:1")));
        check("unknown", b"PROXY UNKNOWN\r\n", Ok(None));
        check("unknown with words", b"PROXY UNKNOWN a b c d\r\n", Ok(None));
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ] {
            check(bad, bad.as_bytes(), Err(NotProxied));
        }
        let line = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
        check("longest", line(107).as_bytes(), Ok(None));
        check("too long", line(108).as_bytes(), Err(NotProxied));
        assert_eq!(parse(&[b'x'; 1]), Err(NotProxied));
    }

    #[test]
    fn version_2() {
        let header = |command: u8, family: u8, rest: &[u8]| {
            let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [&V2_SIGNATURE[..], &[command, family], &len, rest].concat()
        };
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 0xbb];
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[33]) = (0x20, 1, 9);
        check("IPv4", &header(0x21, 0x11, &v4), Ok(Some("192.0.2.1:56324")));
        check(
            "IPv4 with more fields",
            &header(0x21, 0x11, &[&v4[..], &[1; 100]].concat()),
            Ok(Some("192.0.2.1:56324")),
        );
        check("IPv6", &header(0x21, 0x21, &v6), Ok(Some("[2000::1]:9")));
        check("local", &header(0x20, 0, &[]), Ok(None));
        check("local with addresses", &header(0x20, 0x11, &v4), Ok(None));
        check("unspecified", &header(0x21, 0, &[]), Ok(None));
        check("unix", &header(0x21, 0x31, &[0; 216]), Ok(None));
        check("largest", &header(0x20, 0, &[0; V2_REST_LEN_MAX]), Ok(None));
        check("too large", &header(0x20, 0, &[0; V2_REST_LEN_MAX + 1]), Err(NotProxied));
        check("IPv4, short", &header(0x21, 0x11, &v4[..11]), Err(NotProxied));
        check("IPv6, short", &header(0x21, 0x21, &v6[..35]), Err(NotProxied));
        check("version 1 in binary", &header(0x11, 0x11, &v4), Err(NotProxied));
        check("command 2", &header(0x22, 0x11, &v4), Err(NotProxied));
        check("family 4", &header(0x21, 0x41, &v4), Err(NotProxied));
    }
}
