use super::*;

const LIMITS: HeadLimits = HeadLimits { size_max: 512, uri_max: 100 };

/// What a head says, owned: method, path, query, framing, keep-alive, bytes.
type Said = (String, String, String, Framing, bool, usize);

fn parse(bytes: &[u8]) -> Result<Option<Said>, HeadError> {
    let mut slots = [EMPTY_HEADER; 8];
    parse_head(bytes, &mut slots, LIMITS).map(|head| {
        head.map(|Head { request, len }| {
            let Request { method, path, query, framing, keep_alive, .. } = request;
            (method.into(), path.into(), query.into(), framing, keep_alive, len)
        })
    })
}

#[test]
fn heads() {
    #[track_caller]
    fn check(head: &str, path: &str, query: &str, framing: Framing, keep_alive: bool) {
        let head = head.replace('\n', "\r\n") + "\r\n\r\n";
        let method = head.split(' ').next().unwrap().to_string();
        let want = (method, path.into(), query.into(), framing, keep_alive, head.len());
        assert_eq!(parse(format!("{head}behind").as_bytes()), Ok(Some(want)), "{head}");
        for cut in 0..head.len() {
            assert_eq!(parse(&head.as_bytes()[..cut]), Ok(None), "{head}, cut at {cut}");
        }
    }
    let none = Framing::Length(0);
    check("GET / HTTP/1.1\nHost: x", "/", "", none, true);
    check("GET /a/b?c=d&e HTTP/1.1\nhost:x", "/a/b", "c=d&e", none, true);
    check("GET /a?b?c HTTP/1.1\nHost: x", "/a", "b?c", none, true);
    check("GET http://x.y:80/a?b HTTP/1.1\nHost: x.y", "/a", "b", none, true);
    check("GET HTTP://x.y HTTP/1.1\nHost: x.y", "/", "", none, true);
    check("GET http://x?q HTTP/1.1\nHost: x.y", "/", "q", none, true);
    check("OPTIONS * HTTP/1.1\nHost: x", "*", "", none, true);
    check("GET / HTTP/1.0", "/", "", none, false);
    check("GET / HTTP/1.0\nConnection: Keep-Alive", "/", "", none, true);
    check("GET / HTTP/1.1\nHost: x\nConnection: foo, Close", "/", "", none, false);
    check("POST / HTTP/1.1\nHost: x\nContent-Length: 12", "/", "", Framing::Length(12), true);
    check("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: Chunked", "/", "", Framing::Chunked, true);
    check(
        "POST / HTTP/1.1\nHost: x\nContent-Length: 18446744073709551615",
        "/",
        "",
        Framing::Length(u64::MAX),
        true,
    );
}

#[test]
fn refused_heads() {
    #[track_caller]
    fn check(head: &str, want: HeadError) {
        let head = head.replace('\n', "\r\n") + "\r\n\r\n";
        assert_eq!(parse(head.as_bytes()), Err(want), "{head}");
    }
    use HeadError::{Framing, Host, Malformed, TooLarge, UriTooLong, Version};
    check("GET / HTTP/1.1", Host);
    check("GET / HTTP/1.1\nHost: x\nHost: x", Host);
    check("GET / HTTP/1.0\nHost: x\nHost: x", Host);
    check("GET / HTTP/2.0\nHost: x", Version);
    check("GET a HTTP/1.1\nHost: x", Malformed);
    check("GET * HTTP/1.1\nHost: x", Malformed);
    check("CONNECT x:1 HTTP/1.1\nHost: x", Malformed);
    check("GET  / HTTP/1.1\nHost: x", Malformed);
    check("G\u{1}T / HTTP/1.1\nHost: x", Malformed);
    check("GET / HTTP/1.1\nHost : x", Malformed);
    check("GET / HTTP/1.1\nHost: x\n folded: y", Malformed);
    check("GET / HTTP/1.1\nHost: x\nX: a\rb", Malformed);
    // Bodies whose length can be read in two ways.
    check("POST / HTTP/1.1\nHost: x\nContent-Length: 1\nTransfer-Encoding: chunked", Framing);
    check("POST / HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2", Framing);
    check("POST / HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 1", Framing);
    for value in ["", "+1", "-1", "1,1", "1 1", "0x1", "18446744073709551616"] {
        check(&format!("POST / HTTP/1.1\nHost: x\nContent-Length: {value}"), Framing);
    }
    for value in ["", "identity", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;x"] {
        check(&format!("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: {value}"), Framing);
    }
    check("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked", Framing);
    check("POST / HTTP/1.0\nTransfer-Encoding: chunked", Framing);
    // Both sides of each limit.
    let uri = |len: usize| format!("GET /{} HTTP/1.1\nHost: x", "u".repeat(len - 1));
    assert!(parse((uri(100).replace('\n', "\r\n") + "\r\n\r\n").as_bytes()).unwrap().is_some());
    check(&uri(101), UriTooLong);
    let headers = |count: usize| "GET / HTTP/1.1\nHost: x".to_string() + &"\nA: b".repeat(count - 1);
    assert!(parse((headers(8).replace('\n', "\r\n") + "\r\n\r\n").as_bytes()).unwrap().is_some());
    check(&headers(9), TooLarge);
    let size = |len: usize| format!("GET / HTTP/1.1\nHost: x\nA: {}", "b".repeat(len - 32));
    assert_eq!(parse((size(512).replace('\n', "\r\n") + "\r\n\r\n").as_bytes()).unwrap().unwrap().5, 512);
    check(&size(513), TooLarge);
}

#[test]
fn heads_that_do_not_end_are_refused_at_the_limit() {
    let endless_line = format!("GET /{}", "u".repeat(600));
    assert_eq!(parse(&endless_line.as_bytes()[..164]), Ok(None));
    assert_eq!(parse(&endless_line.as_bytes()[..165]), Err(HeadError::UriTooLong));
    let endless_head = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(600));
    assert_eq!(parse(&endless_head.as_bytes()[..511]), Ok(None));
    assert_eq!(parse(&endless_head.as_bytes()[..512]), Err(HeadError::TooLarge));
}

#[test]
fn header_lookup() {
    let mut slots = [EMPTY_HEADER; 8];
    let head =
        b"GET / HTTP/1.1\r\nHost: x\r\nX-One: a\r\nx-one: b\r\nBad: \xff\r\nExpect: 100-Continue\r\n\r\n";
    let request = parse_head(head, &mut slots, LIMITS).unwrap().unwrap().request;
    assert_eq!(request.header("X-ONE"), Some("a"));
    assert_eq!(request.values("x-One").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((request.header("bad"), request.header("none")), (None, None));
    assert!(request.expects_continue);
    assert!(token_in_list("a, Upgrade\t,b", "upgrade") && !token_in_list("a upgrade", "upgrade"));
}

/// The body, and what is behind it once it has ended.
fn read_body<'c>(
    framing: Framing,
    size_max: u64,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), BodyError> {
    let mut decoder = BodyDecoder::new(framing, size_max)?;
    let (mut body, mut behind) = (Vec::new(), None::<Vec<u8>>);
    for mut chunk in chunks {
        if let Some(behind) = &mut behind {
            behind.extend(chunk);
            continue;
        }
        while let Some(piece) = decoder.next(&mut chunk)? {
            match piece {
                Body::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend(data);
                }
                Body::End => {
                    behind = Some(chunk.into());
                    break;
                }
            }
        }
    }
    Ok((body, behind))
}

#[test]
fn bodies() {
    #[track_caller]
    fn check(framing: Framing, bytes: &str, want: Result<(&str, Option<&str>), BodyError>) {
        let want =
            want.map(|(body, behind)| (body.as_bytes().to_vec(), behind.map(|it| it.as_bytes().to_vec())));
        assert_eq!(read_body(framing, 20, [bytes.as_bytes()]), want, "{bytes:?}");
        let dripped = read_body(framing, 20, bytes.as_bytes().chunks(1));
        // Byte by byte, an end at the very end is seen with the next byte only.
        match (dripped, want) {
            (Ok((body, None)), Ok((same, Some(behind)))) if behind.is_empty() => assert_eq!(body, same),
            (dripped, want) => assert_eq!(dripped, want, "{bytes:?}, byte by byte"),
        }
    }
    use BodyError::{Chunk, TooLarge};
    check(Framing::Length(0), "next", Ok(("", Some("next"))));
    check(Framing::Length(3), "abcnext", Ok(("abc", Some("next"))));
    check(Framing::Length(3), "ab", Ok(("ab", None)));
    check(Framing::Length(20), &"x".repeat(20), Ok((&"x".repeat(20), Some(""))));
    check(Framing::Length(21), "", Err(TooLarge));
    #[track_caller]
    fn chunked(bytes: &str, want: Result<(&str, Option<&str>), BodyError>) {
        check(Framing::Chunked, bytes, want);
    }
    chunked("0\r\n\r\nnext", Ok(("", Some("next"))));
    chunked("3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\nnext", Ok(("abc0123456789", Some("next"))));
    chunked("3;ext=\"v\"\r\nabc\r\n0 ; x\r\nTrailer: y\r\nOther: z\r\n\r\nnext", Ok(("abc", Some("next"))));
    chunked("3\r\nab", Ok(("ab", None)));
    chunked("14\r\n01234567890123456789\r\n0\r\n\r\n", Ok(("01234567890123456789", Some(""))));
    chunked("15\r\n", Err(TooLarge));
    chunked("a\r\n0123456789\r\nb\r\n", Err(TooLarge));
    chunked("\r\n", Err(Chunk));
    chunked("g\r\n", Err(Chunk));
    chunked("-1\r\n", Err(Chunk));
    chunked("0x3\r\n", Err(Chunk));
    chunked("3\nabc\r\n", Err(Chunk));
    chunked("3\r\nabcd", Err(Chunk));
    chunked("3\r\nabc\n", Err(Chunk));
    chunked("3\rabc", Err(Chunk));
    chunked("3;e\n", Err(Chunk));
    chunked("0\r\nT: v\n\r\n", Err(Chunk));
    chunked("00000000000000003\r\n", Err(Chunk));
    chunked("ffffffffffffffff\r\n", Err(TooLarge));
    // The carriage return counts too.
    chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(4095)), Ok(("abc", Some(""))));
    chunked(&format!("3;{}", "e".repeat(4097)), Err(TooLarge));
    chunked(&format!("0\r\n{}", "T: v\r\n".repeat(1025)), Err(TooLarge));
}

#[test]
fn queries() {
    assert_eq!(parameter("cf_protocol=protobuf&x", "cf_protocol").as_deref(), Some("protobuf"));
    assert_eq!(parameter("cf_protocol=protobuf&x", "x").as_deref(), Some(""));
    assert_eq!(parameter("a=1&a=2", "a").as_deref(), Some("1"));
    assert_eq!(parameter("", "a"), None);
    assert_eq!(parameter("%61+b=%c3%BC%2", "a b").as_deref(), Some("ü%2"));
    assert_eq!(parameter("a=%ff%zz%", "a").as_deref(), Some("\u{fffd}%zz%"));
    assert_eq!(parameters("&&a=b&").count(), 1);
}

#[test]
fn response_heads() {
    #[track_caller]
    fn check(response: &Response<'_>, want: &str) {
        let mut out = Vec::new();
        write_response_head(&mut out, response);
        assert_eq!(String::from_utf8(out).unwrap(), want.replace('\n', "\r\n"));
    }
    let response = Response {
        status: 200,
        version: Version::Http11,
        keep_alive: true,
        content_type: "application/json",
        content_length: Some(0),
        headers: &[("X-A", "b\r\nX-Evil: c")],
    };
    check(
        &response,
        "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 0\nX-A: bX-Evil: c\n\n",
    );
    let bare = Response { content_type: "", headers: &[], ..response };
    check(
        &Response { status: 404, keep_alive: false, ..bare },
        "HTTP/1.1 404 Not Found\nContent-Length: 0\nConnection: close\n\n",
    );
    check(
        &Response { version: Version::Http10, ..bare },
        "HTTP/1.1 200 OK\nContent-Length: 0\nConnection: keep-alive\n\n",
    );
    check(&Response { status: 204, ..bare }, "HTTP/1.1 204 No Content\n\n");
    check(&Response { status: 299, content_length: None, ..bare }, "HTTP/1.1 299 \n\n");
}
