use super::*;
use crate::{
    stdx::rng::Rng,
    wire::http::{EMPTY_HEADER, HeadLimits, parse_head},
};
use arbitrary::Unstructured;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

fn agreement(headers: &[&str]) -> Option<String> {
    let mut head = String::from("GET / HTTP/1.1\r\nHost: x\r\n");
    for value in headers {
        head += &format!("Sec-WebSocket-Extensions: {value}\r\n");
    }
    head += "\r\n";
    let mut slots = [EMPTY_HEADER; 16];
    let limits = HeadLimits { size_max: 4096, uri_max: 1024 };
    let request = parse_head(head.as_bytes(), &mut slots, limits).unwrap().unwrap().request;
    let agreement = negotiate(&request)?.to_string();
    let rest = agreement
        .strip_prefix("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        .unwrap();
    Some(rest.to_owned())
}

#[test]
fn negotiation_table() {
    #[track_caller]
    fn check(offer: &str, want: Option<&str>) {
        assert_eq!(agreement(&[offer]).as_deref(), want, "{offer}");
    }
    const NONE: Option<&str> = Some("");
    check("permessage-deflate", NONE);
    check("  permessage-deflate\t;  client_max_window_bits ", NONE);
    check("permessage-deflate; client_max_window_bits=8", NONE);
    check("permessage-deflate; client_max_window_bits=15", NONE);
    check("permessage-deflate; client_no_context_takeover", NONE);
    check("permessage-deflate;server_no_context_takeover;client_no_context_takeover", NONE);
    check("permessage-deflate; server_max_window_bits=15", Some("; server_max_window_bits=15"));
    check("permessage-deflate; server_max_window_bits=14", Some("; server_max_window_bits=12"));
    check("permessage-deflate; server_max_window_bits=12", Some("; server_max_window_bits=12"));
    check("permessage-deflate; server_max_window_bits=11", Some("; server_max_window_bits=9"));
    check("permessage-deflate; server_max_window_bits=9", Some("; server_max_window_bits=9"));
    check("permessage-deflate; server_max_window_bits=8", Some("; server_max_window_bits=8"));
    check("permessage-deflate; server_max_window_bits=\"10\"", Some("; server_max_window_bits=9"));
    check(
        "permessage-deflate; server_no_context_takeover; client_max_window_bits; server_max_window_bits=10",
        Some("; server_max_window_bits=9"),
    );
    // Wrong in itself: declined.
    for wrong in [
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; server_max_window_bits=256",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits; server_max_window_bits=9",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "Permessage-Deflate",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        "",
        ";",
        "=",
        ",",
        "permessage-deflate;",
        "permessage-deflate; =9",
        "permessage-deflate permessage-deflate",
        "permessage-deflate; client_max_window_bits=\"9",
        "permessage-deflate; client_max_window_bits=\"\"",
    ] {
        check(wrong, None);
        // What is in order behind it is taken, where what is wrong is an offer at all.
        let good = "permessage-deflate; server_max_window_bits=9";
        assert_eq!(agreement(&[wrong, good]).as_deref(), Some("; server_max_window_bits=9"), "{wrong}");
    }
    // The first that can be accepted.
    check("permessage-bzip2; a=b, permessage-deflate", NONE);
    check("permessage-deflate; server_max_window_bits=99, permessage-deflate", NONE);
    check(
        "permessage-deflate; server_max_window_bits=9, permessage-deflate",
        Some("; server_max_window_bits=9"),
    );
    check("permessage-deflate, permessage-deflate; server_max_window_bits=9", NONE);
    check("other; a=\"b\", permessage-deflate", NONE);
    assert_eq!(agreement(&["other", "permessage-deflate"]).as_deref(), NONE);
    assert_eq!(agreement(&[]), None);
}

fn inflate(payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    Inflater::default().inflate(payload, limit).map(<[u8]>::to_vec)
}

/// What an endpoint with zlib would send for a message: flushed, without the tail.
fn flushed(parts: &[&[u8]], level: u32) -> Vec<u8> {
    let mut zlib = Compress::new(Compression::new(level), false);
    let mut out = Vec::new();
    for part in parts {
        out.reserve(part.len() + 1024);
        zlib.compress_vec(part, &mut out, FlushCompress::Sync).unwrap();
    }
    out.truncate(out.len() - TAIL.len());
    out
}

fn finished(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 1024);
    Compress::new(Compression::new(6), false).compress_vec(message, &mut out, FlushCompress::Finish).unwrap();
    out
}

// The first six are the examples of RFC 7692 section 7.2.3.
#[test]
fn inflate_table() {
    #[track_caller]
    fn check(payload: &[u8], want: Result<&[u8], InflateError>) {
        assert_eq!(inflate(payload, 1000).as_deref(), want.as_ref().map(|it| *it), "{payload:x?}");
    }
    let hello: Result<&[u8], _> = Ok(b"Hello");
    check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], hello);
    check(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], hello);
    check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], hello);
    check(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], hello);
    check(&[0x00], Ok(b""));
    // The second message of the example with context takeover: it refers to what came before it.
    check(&[0xf2, 0x00, 0x11, 0x00, 0x00], Err(InflateError::Corrupt));
    // A final block and nothing behind it, and several of them.
    check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], hello);
    check(&[&finished(b"Hel")[..], &finished(b"lo"), &[0]].concat(), hello);
    check(&[&finished(b"Hel")[..], &flushed(&[b"l", b"o"], 6)].concat(), hello);
    check(&[3, 0].repeat(1000), Ok(b""));
    check(b"", Ok(b""));
    // Cut, wrong, followed by something.
    check(&[0xf2, 0x48, 0xcd, 0xc9], Err(InflateError::Corrupt));
    check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07], Err(InflateError::Corrupt));
    check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], Err(InflateError::Corrupt));
    check(&[0x00, 0x09, 0x00, 0xf6, 0xff, 0x48], Err(InflateError::Corrupt));
    // By the letter of section 7.2.2: a stored block takes the tail that is added for its own.
    check(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48], Ok(b"H\0\0\xff\xff"));
    check(&[0x00, 0x05, 0x00, 0xfb, 0xff, 0x48], Err(InflateError::Corrupt));
    check(&[0x07], Err(InflateError::Corrupt));
    check(&[0xff; 40], Err(InflateError::Corrupt));
}

#[test]
fn the_limit_is_exact() {
    let mut inflater = Inflater::default();
    for len in [1, 63, 4095, 4096, 4097, 8192, 100_000] {
        let message = vec![b'x'; len];
        for payload in [flushed(&[&message], 9), [finished(&message), vec![0]].concat()] {
            assert_eq!(inflater.inflate(&payload, len), Ok(&message[..]), "{len}");
            assert_eq!(inflater.inflate(&payload, len - 1), Err(InflateError::TooBig), "{len}");
        }
    }
    assert_eq!(inflater.inflate(&flushed(&[b"x"], 1), 0), Err(InflateError::TooBig));
}

// 64 MiB in 64 KiB: stopped at the limit, and nothing of it is kept.
#[test]
fn a_bomb_takes_no_more_than_the_limit() {
    let bomb = flushed(&[&vec![0; 64 << 20]], 9);
    assert!(bomb.len() < 1 << 16, "{} bytes", bomb.len());
    let mut inflater = Inflater::default();
    for limit in [0, 1, 5000, 640 * 1024] {
        assert_eq!(inflater.inflate(&bomb, limit), Err(InflateError::TooBig));
        assert!(inflater.capacity() <= limit + 1, "{} bytes for {limit}", inflater.capacity());
    }
    inflater.inflate(&[0], 100).unwrap();
    assert!(inflater.capacity() <= KEPT, "{} bytes kept", inflater.capacity());
}

const KEPT: usize = 256 * 1024;

// All connections of a core share the window: nothing of one may be read by another.
#[test]
fn no_message_sees_the_one_before() {
    let secret = b"secret secret secret of somebody else, long enough to be referred to";
    let mut zlib = Compress::new(Compression::new(9), false);
    let mut payloads = Vec::new();
    for _ in 0..2 {
        let mut out = Vec::with_capacity(1024);
        zlib.compress_vec(secret, &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.len() - TAIL.len());
        payloads.push(out);
    }
    assert!(payloads[1].len() < 10, "the second refers to the first");
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&payloads[0], 1000), Ok(&secret[..]));
    assert_eq!(inflater.inflate(&payloads[1], 1000), Err(InflateError::Corrupt));
    // A final block in between is no way around it.
    inflater.inflate(&payloads[0], 1000).unwrap();
    let around = [&finished(b"x")[..], &payloads[1]].concat();
    assert_eq!(inflater.inflate(&around, 1000), Err(InflateError::Corrupt));
}

/// What a client with this window makes of a frame's payload, in the smallest steps: then everything it
/// refers to comes from the window.
fn client_inflate(payload: &[u8], window: Window) -> Vec<u8> {
    let mut zlib = Decompress::new_with_window_bits(false, window.bits());
    let (mut out, mut at) = (Vec::new(), 0);
    let input = [payload, &TAIL].concat();
    loop {
        let mut step = [0; 7];
        let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
        zlib.decompress(&input[at..], &mut step, FlushDecompress::None).expect("DEFLATE");
        at += (zlib.total_in() - before_in) as usize;
        let made = (zlib.total_out() - before_out) as usize;
        out.extend_from_slice(&step[..made]);
        if made == 0 && at == input.len() {
            return out;
        }
    }
}

/// A message with something to compress in it: pieces of random bytes, repeated near and far.
fn message(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut message: Vec<u8> = Vec::new();
    for _ in 0..u.int_in_range(0..=12)? {
        let len = u.int_in_range(0..=600usize)?;
        match u.int_in_range(0..=2)? {
            0 => {
                let len = len.min(u.len());
                message.extend_from_slice(u.bytes(len)?);
            }
            1 => message.extend(std::iter::repeat_n(u.arbitrary::<u8>()?, len * 8)),
            _ => {
                let from = u.choose_index(message.len() + 1)?;
                let to = (from + len).min(message.len());
                message.extend_from_within(from..to);
            }
        }
    }
    Ok(message)
}

#[test]
fn what_is_deflated_is_inflated_by_clients() {
    let mut deflaters: Vec<_> =
        (1..=9).map(|level| Deflater::new(Options { level, ..Options::default() })).collect();
    let mut inflater = Inflater::default();
    arbtest::arbtest(|u| {
        let message = message(u)?;
        let deflater = u.choose_index(deflaters.len())?;
        let window = *u.choose(&Window::ALL)?;
        let before = deflaters[deflater].stats;
        let Some(payload) = deflaters[deflater].deflate(window, &message) else {
            let after = Stats { in_vain: before.in_vain, ..deflaters[deflater].stats };
            assert_eq!(after, before);
            return Ok(());
        };
        assert!(payload.len() < message.len() && message.len() >= COMPRESSIBLE_MIN);
        assert_eq!(client_inflate(payload, window), message, "{window:?}");
        assert_eq!(inflater.inflate(payload, message.len()), Ok(&message[..]));
        assert_eq!(inflater.inflate(payload, message.len() - 1), Err(InflateError::TooBig));
        let after = payload.len() as u64;
        let stats = deflaters[deflater].stats;
        assert_eq!(stats.messages, before.messages + 1);
        assert_eq!(stats.bytes_before, before.bytes_before + message.len() as u64);
        assert_eq!(stats.bytes_after, before.bytes_after + after);
        Ok(())
    });
}

// However a client flushes and ends its blocks, and whatever it sent cut anywhere is not taken for a message.
#[test]
fn what_clients_deflate_is_inflated() {
    let mut inflater = Inflater::default();
    arbtest::arbtest(|u| {
        let (mut payload, mut want) = (Vec::new(), Vec::new());
        for _ in 0..u.int_in_range(0..=4)? {
            let part = message(u)?;
            want.extend_from_slice(&part);
            if u.ratio(1, 3)? {
                payload.extend_from_slice(&finished(&part));
            } else {
                payload.extend_from_slice(&flushed(&[&part], u.int_in_range(0..=9)?));
                payload.extend_from_slice(&TAIL);
            }
        }
        payload.push(0);
        assert_eq!(inflater.inflate(&payload, want.len()), Ok(&want[..]));
        let cut = u.choose_index(payload.len())?;
        if let Ok(got) = inflater.inflate(&payload[..cut], want.len()) {
            // What the tail behind the cut happens to mean follows: 32 bits, of which each may stand for a copy.
            let common = want.iter().zip(got).take_while(|(want, got)| want == got).count();
            assert!(got.len() - common <= 32 * 258, "more than a cut can add");
        }
        Ok(())
    });
}

#[test]
fn what_does_not_get_shorter_is_sent_as_it_is() {
    let json = br#"{"push":{"channel":"news","pub":{"data":{"text":"news news news news"}}}}"#;
    let mut rng = Rng::new(1);
    let noise: Vec<u8> = (0..1000).map(|_| rng.next_u64() as u8).collect();
    let mut deflater = Deflater::new(Options::default());
    let mut check = |message: &[u8], want: bool| {
        assert_eq!(deflater.deflate(Window::Bits15, message).is_some(), want, "{} bytes", message.len());
    };
    check(json, true);
    check(&json[..COMPRESSIBLE_MIN - 1], false);
    check(&[b'x'; COMPRESSIBLE_MIN], true);
    check(&[b'x'; COMPRESSIBLE_MIN - 1], false);
    check(&noise, false);
    check(b"", false);
    assert_eq!((deflater.stats.messages, deflater.stats.in_vain), (2, 1));
    for (min_size, want) in [(json.len(), true), (json.len() + 1, false)] {
        let mut deflater = Deflater::new(Options { level: 1, min_size });
        assert_eq!(deflater.deflate(Window::Bits15, json).is_some(), want);
    }
}

// A compressor that ran out of room cannot be used again, whatever a reset promises: so it never does.
#[test]
fn noise_of_any_length_leaves_the_deflater_usable() {
    let mut rng = Rng::new(7);
    let mut inflater = Inflater::default();
    for level in [1, 2, 6, 9] {
        for (window, len) in Window::ALL.into_iter().flat_map(|it| LENGTHS.map(|len| (it, len))) {
            // Its buffer is as large as the first message wants it.
            let mut deflater = Deflater::new(Options { level, min_size: 0 });
            for least in [0, 144, 0] {
                let noise: Vec<u8> = (0..len).map(|_| (least + rng.below(256 - least)) as u8).collect();
                if let Some(payload) = deflater.deflate(window, &noise) {
                    assert!(inflater.inflate(payload, len) == Ok(&noise[..]), "level {level}, {len} bytes");
                }
                assert!(deflater.has_compressor(window), "level {level}, {len} bytes did not fit");
                let text = b"after noise, ".repeat(len / 14 + 6);
                let payload = deflater.deflate(window, &text).expect("shorter");
                assert!(inflater.inflate(payload, text.len()) == Ok(&text[..]), "level {level}, {len} bytes");
            }
        }
    }
}

const LENGTHS: [usize; 7] = [64, 1000, 5000, 65_535, 70_000, 131_072, 300_000];

// Noise said twice shrinks if the window reaches back to the first time.
#[test]
fn nothing_is_referred_to_beyond_the_window() {
    #[track_caller]
    fn check(window: Window, len: usize, want: bool) {
        let mut rng = Rng::new(3);
        let noise: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        for level in 1..=9 {
            let mut deflater = Deflater::new(Options { level, min_size: 0 });
            let shrinks = deflater.deflate(window, &noise.repeat(2)).is_some();
            assert_eq!(shrinks, want, "{window:?}, level {level}, {len} bytes");
        }
    }
    // A compressor keeps 262 bytes of its window for what comes next.
    check(Window::Bits9, 200, true);
    check(Window::Bits9, 513, false);
    check(Window::Bits12, 3000, true);
    check(Window::Bits12, 4097, false);
    check(Window::Bits15, 30_000, true);
    check(Window::Bits15, 32_769, false);
}
