use super::*;
use crate::wire::http::{EMPTY_HEADER, HeadLimits, parse_head};

const OPTIONS: Options = Options { role: Role::Server, message_size_limit: 1000, compression: false };

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Compressed(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(FrameError),
}

fn hear(decoder: &mut Decoder, chunk: &[u8], options: &Options, heard: &mut Vec<Heard>) {
    let mut bytes = chunk.to_vec();
    let mut frames = decoder.feed(&mut bytes, options);
    loop {
        heard.push(match frames.next() {
            Ok(None) => return,
            Ok(Some(Event::Message { compressed: true, payload, .. })) => Heard::Compressed(payload.to_vec()),
            Ok(Some(Event::Message { kind: MessageKind::Text, payload, .. })) => {
                Heard::Text(payload.to_vec())
            }
            Ok(Some(Event::Message { kind: MessageKind::Binary, payload, .. })) => {
                Heard::Binary(payload.to_vec())
            }
            Ok(Some(Event::Ping(payload))) => Heard::Ping(payload.to_vec()),
            Ok(Some(Event::Pong(payload))) => Heard::Pong(payload.to_vec()),
            Ok(Some(Event::Close { code, reason })) => Heard::Close(code, reason.into()),
            Err(error) => Heard::Error(error),
        });
    }
}

fn drain<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, options: &Options) -> (Vec<Heard>, Decoder) {
    let (mut decoder, mut heard) = (Decoder::default(), Vec::new());
    for chunk in chunks {
        hear(&mut decoder, chunk, options, &mut heard);
    }
    (heard, decoder)
}

/// A masked frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_masked(&mut out, Opcode::Text, payload, [1, 2, 3, 250]);
    out[0] = first;
    out
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[test]
fn header_table() {
    type Want = Result<Option<(u64, usize)>, FrameError>;
    #[track_caller]
    fn check(name: &str, bytes: &[u8], want: Want) {
        let got = parse_header(bytes, Role::Server).map(|it| it.map(|header| (header.len, header.size)));
        assert_eq!(got, want, "{name}");
    }
    check("nothing yet", &[], Ok(None));
    check("half", &[0x81], Ok(None));
    check("no mask yet", &[0x81, 0x80, 1, 2, 3], Ok(None));
    check("empty text", &[0x81, 0x80, 1, 2, 3, 4], Ok(Some((0, 6))));
    check("leaves the payload", &[0x82, 0x83, 1, 2, 3, 4, 9, 9, 9], Ok(Some((3, 6))));
    check("16 bit, least", &[0x82, 0xfe, 0, 126, 1, 2, 3, 4], Ok(Some((126, 8))));
    check("16 bit, too small", &[0x82, 0xfe, 0, 125], Err(FrameError::Length));
    check("16 bit, cut", &[0x82, 0xfe, 0], Ok(None));
    check("64 bit, least", &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], Ok(Some((1 << 16, 14))));
    check("64 bit, too small", &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 255, 255], Err(FrameError::Length));
    check("64 bit, top bit", &[0x82, 0xff, 128, 0, 0, 0, 0, 0, 0, 0], Err(FrameError::Length));
    check("64 bit, cut", &[0x82, 0xff, 128, 0, 0, 0, 0, 0, 0], Ok(None));
    check(
        "largest",
        &[0x82, 0xff, 127, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4],
        Ok(Some(((1 << 63) - 1, 14))),
    );
    check("rsv2", &[0xa1], Err(FrameError::ReservedBit));
    check("rsv3", &[0x91], Err(FrameError::ReservedBit));
    check("rsv1 on a ping", &[0xc9], Err(FrameError::ReservedBit));
    check("rsv1 on a continuation", &[0xc0], Err(FrameError::ReservedBit));
    for opcode in (3..8).chain(11..16) {
        check("reserved opcode", &[0x80 | opcode], Err(FrameError::ReservedOpcode(opcode)));
    }
    check("unmasked", &[0x81, 0], Err(FrameError::Mask));
    check("control in fragments", &[0x09], Err(FrameError::FragmentedControl));
    check("control of 125", &[0x89, 0xfd, 1, 2, 3, 4], Ok(Some((125, 6))));
    check("control of 126", &[0x89, 0xfe], Err(FrameError::LongControl));
    assert_eq!(parse_header(&[0x81, 0x80], Role::Client), Err(FrameError::Mask));
    let header = parse_header(&[0x41, 5], Role::Client).unwrap().unwrap();
    assert_eq!((header.fin, header.rsv1, header.len, header.size), (false, true, 5, 2));
}

#[test]
fn message_table() {
    #[track_caller]
    fn check(name: &str, frames: &[Vec<u8>], want: &[Heard]) {
        let (heard, decoder) = drain([&frames.concat()[..]], &OPTIONS);
        assert_eq!(heard, want, "{name}");
        assert!(!decoder.is_pending(), "{name}");
        let bytes = frames.concat();
        let (heard, _) = drain(bytes.chunks(1), &OPTIONS);
        assert_eq!(heard, want, "{name}, byte by byte");
    }
    let text = |text: &str| Heard::Text(text.into());
    let error = Heard::Error;
    check("text", &[frame(FIN | TEXT, b"hi")], &[text("hi")]);
    check("empty", &[frame(FIN | BINARY, b"")], &[Heard::Binary(vec![])]);
    check(
        "two",
        &[frame(FIN | TEXT, b"a"), frame(FIN | BINARY, b"\xff")],
        &[text("a"), Heard::Binary(vec![255])],
    );
    check(
        "fragments with control frames between",
        &[
            frame(TEXT, b"a\xc3"),
            frame(FIN | PING, b"p"),
            frame(CONTINUATION, b""),
            frame(FIN | PONG, b""),
            frame(FIN | CONTINUATION, b"\xbcb"),
            frame(FIN | TEXT, b"c"),
        ],
        &[Heard::Ping(b"p".into()), Heard::Pong(vec![]), text("a\u{fc}b"), text("c")],
    );
    check(
        "continuation of nothing",
        &[frame(FIN | CONTINUATION, b"")],
        &[error(FrameError::NothingToContinue)],
    );
    check("unfinished", &[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")], &[error(FrameError::Unfinished)]);
    check(
        "after a message nothing continues",
        &[frame(FIN | TEXT, b"a"), frame(CONTINUATION, b"")],
        &[text("a"), error(FrameError::NothingToContinue)],
    );
    check("rsv1 without compression", &[frame(FIN | RSV1 | TEXT, b"a")], &[error(FrameError::ReservedBit)]);
    check("not UTF-8", &[frame(FIN | TEXT, b"a\xff")], &[error(FrameError::Utf8)]);
    check("cut character at the end", &[frame(FIN | TEXT, b"a\xc3")], &[error(FrameError::Utf8)]);
    check(
        "cut character at the end of fragments",
        &[frame(TEXT, b"a\xc3"), frame(FIN | CONTINUATION, b"")],
        &[error(FrameError::Utf8)],
    );
    check("wrong at once, not at the end", &[frame(TEXT, b"a\xff")], &[error(FrameError::Utf8)]);
    check("a surrogate is wrong", &[frame(FIN | TEXT, b"\xed\xa0\x80")], &[error(FrameError::Utf8)]);
    check("at the limit", &[frame(FIN | BINARY, &[7; 1000])], &[Heard::Binary(vec![7; 1000])]);
    check("over the limit", &[frame(FIN | BINARY, &[7; 1001])], &[error(FrameError::TooBig)]);
    check(
        "fragments at the limit",
        &[frame(BINARY, &[7; 600]), frame(FIN | CONTINUATION, &[7; 400])],
        &[Heard::Binary(vec![7; 1000])],
    );
    check(
        "fragments over the limit",
        &[frame(BINARY, &[7; 600]), frame(FIN | CONTINUATION, &[7; 401])],
        &[error(FrameError::TooBig)],
    );
    let close = |code: Option<u16>, reason: &str| Heard::Close(code, reason.into());
    check("close", &[frame(FIN | CLOSE, b"")], &[close(None, "")]);
    check(
        "nothing after a close",
        &[frame(FIN | CLOSE, b"\x03\xe8bye"), frame(FIN | TEXT, b"x")],
        &[close(Some(1000), "bye")],
    );
    check(
        "nothing after an error",
        &[frame(FIN | 3, b""), frame(FIN | TEXT, b"x")],
        &[error(FrameError::ReservedOpcode(3))],
    );
    check("close of one byte", &[frame(FIN | CLOSE, b"\x03")], &[error(FrameError::Close)]);
    check(
        "close reason that is not UTF-8",
        &[frame(FIN | CLOSE, b"\x03\xe8\xff")],
        &[error(FrameError::Utf8)],
    );
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999u16]
    {
        check("valid code", &[frame(FIN | CLOSE, &code.to_be_bytes())], &[close(Some(code), "")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535u16] {
        check("invalid code", &[frame(FIN | CLOSE, &code.to_be_bytes())], &[error(FrameError::Close)]);
    }
}

#[test]
fn compressed_messages_are_handed_on_unchecked() {
    let options = Options { compression: true, ..OPTIONS };
    let frames =
        [frame(FIN | RSV1 | TEXT, b"\xff"), frame(RSV1 | TEXT, b"\xff"), frame(FIN | CONTINUATION, b"\xfe")];
    let (heard, _) = drain([&frames.concat()[..]], &options);
    assert_eq!(heard, [Heard::Compressed(vec![0xff]), Heard::Compressed(vec![0xff, 0xfe])]);
}

#[test]
fn a_header_alone_makes_nobody_wait_or_allocate() {
    let (heard, _) = drain([&[0x82, 0xfe, 0x03, 0xe9, 1, 2, 3, 4][..]], &OPTIONS);
    assert_eq!(heard, [Heard::Error(FrameError::TooBig)]);
    let (heard, decoder) = drain([&[0x82, 0xfe, 0x03, 0xe8, 1, 2, 3, 4, 0][..]], &OPTIONS);
    assert_eq!(heard, []);
    assert!(decoder.held_bytes() < 400, "{}", decoder.held_bytes());
    assert_eq!(Decoder::default().held_bytes(), 0);
}

#[test]
fn wrong_text_fails_before_its_frame_ends() {
    let bytes = frame(FIN | TEXT, b"abc\xffmore");
    let (heard, _) = drain([&bytes[..bytes.len() - 4]], &OPTIONS);
    assert_eq!(heard, [Heard::Error(FrameError::Utf8)]);
}

/// The obvious decoder: has all bytes, looks at whole frames only. `None`: an error, whichever.
fn model(mut bytes: &[u8]) -> Vec<Option<Heard>> {
    let mut heard = Vec::new();
    let mut message: Option<(u8, Vec<u8>)> = None;
    while let Ok(Some(header)) = parse_header(bytes, Role::Server) {
        let (start, len) = (header.size, usize::try_from(header.len).unwrap_or(usize::MAX));
        let opcode = header.opcode.bits();
        let held = message.as_ref().map_or(0, |(_, held)| held.len());
        let wrong = header.rsv1
            || (opcode == 0 && message.is_none())
            || (matches!(opcode, 1 | 2) && message.is_some())
            || (opcode < 8 && held.saturating_add(len) > OPTIONS.message_size_limit);
        if wrong {
            heard.push(None);
            return heard;
        }
        let Some(payload) = bytes.get(start..start.saturating_add(len)) else { break };
        let payload: Vec<u8> =
            payload.iter().enumerate().map(|(index, byte)| byte ^ header.mask[index % 4]).collect();
        bytes = &bytes[start + len..];
        match opcode {
            8 => {
                let code = payload.first_chunk().map(|it| u16::from_be_bytes(*it));
                let reason = String::from_utf8(payload.get(2..).unwrap_or_default().into());
                let valid = code.is_none_or(|it| matches!(it, 1000..=1003 | 1007..=1014 | 3000..=4999));
                heard.push(match reason {
                    Ok(reason) if valid && payload.len() != 1 => Some(Heard::Close(code, reason)),
                    _ => None,
                });
                return heard;
            }
            9 => heard.push(Some(Heard::Ping(payload))),
            10 => heard.push(Some(Heard::Pong(payload))),
            _ => {
                let (kind, whole) = message.get_or_insert((opcode, Vec::new()));
                whole.extend(payload);
                let cut_wrong = std::str::from_utf8(whole).is_err_and(|error| error.error_len().is_some());
                if *kind == 1 && cut_wrong {
                    heard.push(None);
                    return heard;
                }
                if !header.fin {
                    continue;
                }
                match (*kind, std::mem::take(whole)) {
                    (1, whole) if std::str::from_utf8(&whole).is_err() => {
                        heard.push(None);
                        return heard;
                    }
                    (1, whole) => heard.push(Some(Heard::Text(whole))),
                    (_, whole) => heard.push(Some(Heard::Binary(whole))),
                }
                message = None;
            }
        }
    }
    if parse_header(bytes, Role::Server).is_err() {
        heard.push(None);
    }
    heard
}

fn stream(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..u.int_in_range(0..=8)? {
        let opcode = *u.choose(&[CONTINUATION, CONTINUATION, TEXT, TEXT, BINARY, PING, PONG, CLOSE])?;
        let fin = if opcode >= 8 || u.ratio(2, 3)? { FIN } else { 0 };
        let mut payload: Vec<u8> = match u.int_in_range(0..=3)? {
            0 => "é\u{1f600}x".repeat(u.int_in_range(0..=8)?).into(),
            1 => u.arbitrary()?,
            2 if opcode < 8 => vec![b'y'; u.int_in_range(0..=1001)?],
            _ => vec![0x03, 0xe8, b'a'],
        };
        if opcode >= 8 {
            payload.truncate(125);
        }
        bytes.extend(frame(fin | opcode, &payload));
    }
    if u.ratio(1, 3)? && !bytes.is_empty() {
        let at = u.choose_index(bytes.len())?;
        bytes[at] = u.arbitrary()?;
    }
    if u.ratio(1, 4)? {
        bytes.truncate(u.int_in_range(0..=bytes.len())?);
    }
    Ok(bytes)
}

// However the network slices the bytes, the events (or the error) are the same, and they are the model's.
#[test]
fn chunking_does_not_matter_and_the_model_agrees() {
    arbtest::arbtest(|u| {
        let bytes = stream(u)?;
        let (whole, _) = drain([&bytes[..]], &OPTIONS);
        let mut chunks = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(u.int_in_range(1..=rest.len().min(40))?);
            chunks.push(head);
            rest = tail;
        }
        let (sliced, _) = drain(chunks, &OPTIONS);
        assert_eq!(whole, sliced);
        let mut plain: Vec<_> =
            whole.into_iter().map(|it| if matches!(it, Heard::Error(_)) { None } else { Some(it) }).collect();
        let model = model(&bytes);
        // Ours may know earlier that an unfinished text is wrong.
        if model.len() + 1 == plain.len() && plain.last() == Some(&None) {
            plain.pop();
        }
        assert_eq!(plain, model);
        Ok(())
    });
}

#[test]
fn unmask_is_a_plain_xor() {
    arbtest::arbtest(|u| {
        let (bytes, mask, offset): (Vec<u8>, [u8; 4], u8) = u.arbitrary()?;
        let want: Vec<u8> = bytes
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ mask[(index + usize::from(offset)) % 4])
            .collect();
        let mut got = bytes.clone();
        unmask(&mut got, mask, offset.into());
        assert_eq!(got, want);
        Ok(())
    });
}

#[test]
fn written_headers_are_minimal_and_read_back() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40] {
        let mut out = Vec::new();
        write_header(&mut out, Opcode::Binary, len);
        let header = parse_header(&out, Role::Client).unwrap().unwrap();
        assert_eq!((header.len, header.size, header.fin), (len as u64, out.len(), true));
        assert_eq!(frame_header(Opcode::Binary, len).as_ref(), out);
    }
}

#[test]
fn close_frames_fit() {
    #[track_caller]
    fn check(reason: &str, want: &str) {
        let mut out = Vec::new();
        write_close(&mut out, 3501, reason);
        let options = Options { role: Role::Client, ..OPTIONS };
        assert_eq!(drain([&out[..]], &options).0, [Heard::Close(Some(3501), want.into())]);
    }
    check("", "");
    check("bad request", "bad request");
    check(&"x".repeat(123), &"x".repeat(123));
    check(&"x".repeat(124), &"x".repeat(123));
    check(&"é".repeat(62), &"é".repeat(61));
}

fn upgrade(head: &str) -> (Result<String, Refusal>, Option<&'static str>) {
    let mut slots = [EMPTY_HEADER; 16];
    let limits = HeadLimits { size_max: 4096, uri_max: 1024 };
    let head = head.replace('\n', "\r\n") + "\r\n\r\n";
    let request = parse_head(head.as_bytes(), &mut slots, limits).unwrap().unwrap().request;
    (check_upgrade(&request).map(|it| it.key.into()), choose_subprotocol(&request).map(|it| it.0))
}

#[test]
fn handshake_table() {
    const GOOD: &str = "GET /c HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    #[track_caller]
    fn check(from: &str, to: &str, want: Result<&str, Refusal>) {
        assert!(GOOD.contains(from));
        assert_eq!(upgrade(&GOOD.replace(from, to)).0.as_deref(), want.as_ref().map(|it| *it), "{to}");
    }
    check("", "", Ok("dGhlIHNhbXBsZSBub25jZQ=="));
    check("websocket", "WebSocket", Ok("dGhlIHNhbXBsZSBub25jZQ=="));
    check("keep-alive, Upgrade", "upgrade", Ok("dGhlIHNhbXBsZSBub25jZQ=="));
    check("GET", "POST", Err(Refusal::Method));
    check("HTTP/1.1", "HTTP/1.0", Err(Refusal::NotAnUpgrade));
    check("Upgrade: websocket\n", "", Err(Refusal::NotAnUpgrade));
    check("keep-alive, Upgrade", "keep-alive", Err(Refusal::NotAnUpgrade));
    check("Version: 13", "Version: 8", Err(Refusal::Version));
    check("Sec-WebSocket-Version: 13\n", "", Err(Refusal::Version));
    check("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=", Err(Refusal::Key));
    check("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j*Q==", Err(Refusal::Key));
    check("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X: y", Err(Refusal::Key));
    check(
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        Err(Refusal::Key),
    );
    assert_eq!(
        (Refusal::Version.status(), Refusal::Version.headers()[0]),
        (426, ("Sec-WebSocket-Version", "13"))
    );
    let offering = |list: &str| upgrade(&format!("{GOOD}{list}")).1;
    assert_eq!(offering(""), None);
    assert_eq!(offering("\nSec-WebSocket-Protocol: centrifuge-protobuf"), Some("centrifuge-protobuf"));
    assert_eq!(offering("\nSec-WebSocket-Protocol: chat, centrifuge-json"), Some("centrifuge-json"));
    assert_eq!(
        offering("\nSec-WebSocket-Protocol: chat\nSec-WebSocket-Protocol: centrifuge-json"),
        Some("centrifuge-json")
    );
    assert_eq!(offering("\nSec-WebSocket-Protocol: chat"), None);
}

#[test]
fn the_answer_is_that_of_the_rfc() {
    let mut out = Vec::new();
    write_upgrade(&mut out, "dGhlIHNhbXBsZSBub25jZQ==", Some("centrifuge-json"), "");
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: centrifuge-json\r\n\r\n"
    );
    let mut out = Vec::new();
    write_upgrade(&mut out, "dGhlIHNhbXBsZSBub25jZQ==", None, "");
    assert!(!String::from_utf8(out).unwrap().contains("Protocol:"));
}
