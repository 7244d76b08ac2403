//! Which web pages may connect: `Origin` headers against the patterns of `client.allowed_origins`.

/// Whether `origin` matches one of `patterns`.
///
/// A pattern is `*` (any origin, also `null`), or `scheme://host` with an optional port, where the host may
/// hold `*` for any run of characters. Scheme and port must be equal, the default port of http and https being the same as none;
/// case does not count.
pub fn is_allowed<'p>(patterns: impl IntoIterator<Item = &'p str>, origin: &str) -> bool {
    patterns.into_iter().any(|pattern| matches(pattern, origin))
}

fn matches(pattern: &str, origin: &str) -> bool {
    if pattern == "*" || pattern.eq_ignore_ascii_case(origin) {
        return true;
    }
    let (Some(pattern), Some(origin)) = (Parts::of(pattern), Parts::of(origin)) else { return false };
    pattern.scheme.eq_ignore_ascii_case(origin.scheme)
        && pattern.port() == origin.port()
        && glob(pattern.host.as_bytes(), origin.host.as_bytes())
}

struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        // A browser sends nothing else; whatever has it is no origin.
        if authority.contains(['/', '?', '#', '@', '\\']) {
            return None;
        }
        let host_end = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority.get(host_end..)?.rfind(':') {
            Some(at) => (authority.get(..host_end + at)?, authority.get(host_end + at + 1..)?),
            None => (authority, ""),
        };
        Some(Self { scheme, host, port })
    }

    fn port(&self) -> &str {
        let default = (self.scheme.eq_ignore_ascii_case("https") && self.port == "443")
            || (self.scheme.eq_ignore_ascii_case("http") && self.port == "80");
        if default { "" } else { self.port }
    }
}

/// Does not recurse: after a mismatch only the last `*` takes one more byte.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        #[track_caller]
        fn check(pattern: &str, origin: &str, want: bool) {
            assert_eq!(is_allowed([pattern], origin), want, "{pattern} {origin}");
        }
        check("*", "https://anything.example", true);
        check("*", "null", true);
        check("null", "null", true);
        check("https://*", "null", false);
        check("https://example.com", "https://example.com", true);
        check("https://example.com", "HTTPS://Example.COM", true);
        check("https://example.com", "http://example.com", false);
        check("https://example.com", "https://example.com.evil.net", false);
        check("https://example.com", "https://evilexample.com", false);
        check("https://example.com", "https://example.com:443", true);
        check("https://example.com", "https://example.com:8443", false);
        check("http://localhost:3000", "http://localhost:3000", true);
        check("http://localhost:3000", "http://localhost:30000", false);
        check("http://localhost:80", "http://localhost", true);
        check("https://*.example.com", "https://a.example.com", true);
        check("https://*.example.com", "https://a.b.example.com", true);
        check("https://*.example.com", "https://example.com", false);
        check("https://*.example.com", "https://evil.net/.example.com", false);
        check("https://*.example.com", "https://evil.net:443.example.com", false);
        check("https://*.example.com", "https://evil.net?.example.com", false);
        check("https://*.example.com", "https://user@a.example.com", false);
        check("https://app-*.example.com:8443", "https://app-12.example.com:8443", true);
        check("*://example.com", "https://example.com", false);
        check("https://example.com:*", "https://example.com:1", false);
        check("http://[::1]:8000", "http://[::1]:8000", true);
        check("http://[::1]", "http://[::1]", true);
        check("http://*", "http://localhost", true);
        check("https://a*b*c.example", "https://axxbyybzc.example", true);
        assert!(!is_allowed([], "https://example.com"));
    }
}
