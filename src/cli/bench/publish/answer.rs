//! The answers of an HTTP API: where they end, and whether they say that everything was done.

use serde::Deserialize;
use std::borrow::Cow;

/// No answer of an API call is longer.
const ANSWER_MAX: usize = 4 * 1024 * 1024;
const HEADERS_MAX: usize = 64;

/// One whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: Cow<'a, [u8]>,
    /// Bytes of all of it.
    pub used: usize,
}

/// The first answer of `input`; `None` while its end has not come.
///
/// # Errors
/// What is wrong with it.
pub fn read(input: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if input.len() < ANSWER_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("an endless response head".into()),
        Err(error) => return Err(format!("something that is not HTTP ({error})")),
    };
    let status = response.code.unwrap_or_default();
    let header = |name: &str| {
        let found = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(found.value).ok().map(str::trim)
    };
    let rest = input.get(head..).unwrap_or_default();
    if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        let Some((body, used)) = read_chunks(rest)? else { return Ok(None) };
        return Ok(Some(Answer { status, body: body.into(), used: head + used }));
    }
    let length = header("content-length").ok_or("an answer without a length")?;
    let length = length.parse().ok().filter(|it| *it <= ANSWER_MAX).ok_or("an answer of no good length")?;
    Ok(rest.get(..length).map(|body| Answer { status, body: body.into(), used: head + length }))
}

/// A chunked body without trailers, and how long it is on the wire.
fn read_chunks(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let (start, length) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("a chunk of no good length".into()),
        };
        let length = usize::try_from(length).ok().filter(|it| *it <= ANSWER_MAX).ok_or("a chunk too long")?;
        let Some(chunk) = rest.get(start..start + length) else { return Ok(None) };
        match rest.get(start + length..start + length + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err("a chunk without an end".into()),
        }
        at += start + length + 2;
        if length == 0 {
            return Ok(Some((body, at)));
        }
        if body.len() + length > ANSWER_MAX {
            return Err("an answer too long".into());
        }
        body.extend_from_slice(chunk);
    }
}

#[derive(Deserialize)]
struct Failure {
    code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct One {
    error: Option<Failure>,
    #[serde(alias = "publish")]
    result: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Many {
    error: Option<Failure>,
    replies: Option<Vec<One>>,
}

/// Whether `answer` says that all of `count` publications were taken; in a batch or alone.
///
/// # Errors
/// The first failure it tells of.
pub fn check(answer: &Answer<'_>, batched: bool, count: u32) -> Result<(), String> {
    if answer.status != 200 {
        let hint = if answer.status == 401 { "; give the API key with --api-key" } else { "" };
        return Err(format!("the server answered a publication with status {}{hint}", answer.status));
    }
    let bad = |error: serde_json::Error| format!("the answer to a publication is not understood: {error}");
    let refused = |it: &Failure| format!("the server answered a publication with {} {}", it.code, it.message);
    let replies = if batched {
        let many: Many = serde_json::from_slice(&answer.body).map_err(bad)?;
        if let Some(error) = &many.error {
            return Err(refused(error));
        }
        many.replies.unwrap_or_default()
    } else {
        vec![serde_json::from_slice(&answer.body).map_err(bad)?]
    };
    if let Some(error) = replies.iter().find_map(|it| it.error.as_ref()) {
        return Err(refused(error));
    }
    let taken = replies.iter().filter(|it| it.result.is_some()).count();
    if u32::try_from(taken) != Ok(count) {
        return Err(format!("{count} publications were answered with {taken} results"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_table() {
        #[track_caller]
        fn check(input: &str, want: Result<Option<(u16, &str, usize)>, &str>) {
            match (read(input.as_bytes()), want) {
                (Ok(got), Ok(want)) => {
                    let got = got.as_ref().map(|it| (it.status, str::from_utf8(&it.body).unwrap(), it.used));
                    assert_eq!(got, want, "{input}");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                (got, want) => panic!("{input}: {got:?}, not {want:?}"),
            }
        }
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1";
        check(plain, Ok(Some((200, "abc", plain.len() - 8))));
        check(&plain[..plain.len() - 9], Ok(None));
        check("HTTP/1.1 2", Ok(None));
        check("HTTP/1.1 401 No\r\ncontent-length:0\r\n\r\n", Ok(Some((401, "", 37))));
        check("HTTP/1.1 200 OK\r\n\r\n", Err("without a length"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", Err("no good length"));
        check("SSH-2.0-x\r\n", Err("not HTTP"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        check(chunked, Ok(Some((200, "abc", chunked.len()))));
        for end in 1..chunked.len() {
            check(&chunked[..end], Ok(None));
        }
        check(&chunked.replace("2\r\nab\r\n", "2\r\nabXX"), Err("without an end"));
        check(&chunked.replace("2\r\n", "zz\r\n"), Err("no good length"));
        check(&chunked.replace("2\r\n", "ffffffff\r\n"), Err("too long"));
    }

    #[test]
    fn check_table() {
        #[track_caller]
        fn check(status: u16, batched: bool, body: &str, want: Result<(), &str>) {
            let answer = Answer { status, body: body.as_bytes().into(), used: 0 };
            match (super::check(&answer, batched, if batched { 2 } else { 1 }), want) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                (got, want) => panic!("{body}: {got:?}, not {want:?}"),
            }
        }
        check(200, false, r#"{"result":{}}"#, Ok(()));
        check(200, false, r#"{"result":{"offset":1,"epoch":"e"}}"#, Ok(()));
        check(
            200,
            false,
            r#"{"error":{"code":102,"message":"unknown channel"}}"#,
            Err("102 unknown channel"),
        );
        check(200, false, "{}", Err("0 results"));
        check(200, false, "oops", Err("not understood"));
        check(401, false, "", Err("--api-key"));
        check(503, false, "", Err("503"));
        check(200, true, r#"{"replies":[{"publish":{}},{"publish":{"offset":1}}]}"#, Ok(()));
        check(200, true, r#"{"replies":[{"publish":{}}]}"#, Err("2 publications were answered with 1"));
        check(200, true, r#"{"replies":[{"publish":{}},{"error":{"code":107}}]}"#, Err("107"));
        check(200, true, r#"{"error":{"code":107,"message":"bad request"}}"#, Err("107 bad request"));
    }
}
