use super::*;

#[test]
fn valid_table() {
    #[track_caller]
    fn check(text: &str, want: bool) {
        assert_eq!(contains_only_json(text.as_bytes()), want, "{text:?}");
    }
    for text in
        ["null", " {} ", "[1,\t2]", r#""\u00e9\n""#, "-0.5e+10", r#"{"a":{"b":[]},"c":"d"}"#, "0", "\r1"]
    {
        check(text, true);
    }
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "-",
        "1e",
        "+1",
        "nul",
        "true1",
        "1 2",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"tab\there\"",
        "\"open",
        "[1\n]",
        "{\"a\" 1}",
        "[}",
        "{]",
    ] {
        check(text, false);
    }
    let nested = |depth: usize| "[".repeat(depth) + "1" + &"]".repeat(depth);
    check(&nested(127), true);
    check(&nested(128), false);
    assert!(!contains_only_json(b"\"\xff\""));
}

#[test]
fn string_table() {
    #[track_caller]
    fn check(text: &str, want: Result<&str, Invalid>) {
        assert_eq!(Cursor::new(text).string().as_deref(), want.as_ref().map(|it| *it), "{text:?}");
    }
    check(r#""plain""#, Ok("plain"));
    check(r#" "a\"b\\c\/d\b\f\n\r\t""#, Ok("a\"b\\c/d\u{8}\u{c}\n\r\t"));
    check(r#""\u00e9\ud83d\ude00""#, Ok("é😀"));
    check(r#""\ud83d""#, Ok("\u{fffd}"));
    check(r#""\ud83dx\udc00""#, Ok("\u{fffd}x\u{fffd}"));
    check(r#""\ud83d\u0041""#, Ok("\u{fffd}A"));
    check("\"123456\u{1f}\"", Err(Invalid));
    check("\"", Err(Invalid));
    check("x", Err(Invalid));
}

#[test]
fn number_table() {
    #[track_caller]
    fn check(text: &str, unsigned: Option<u64>, signed: Option<i64>) {
        assert_eq!(Cursor::new(text).unsigned().ok(), unsigned, "{text}");
        assert_eq!(Cursor::new(text).signed().ok(), signed, "{text}");
    }
    check("0", Some(0), Some(0));
    check("18446744073709551615", Some(u64::MAX), None);
    check("18446744073709551616", None, None);
    check("-9223372036854775808", None, Some(i64::MIN));
    check("1.0", None, None);
    check("1e2", None, None);
    check("\"1\"", None, None);
}

/// Text that is often nearly JSON.
fn nearly_json(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    const PIECES: [&str; 22] = [
        "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\", "\\u00e9", "\\ud800", "null", "true", "12", "-",
        "0.5", "e3", " ", "\t", "é", "\u{2028}", "<",
    ];
    let mut text = Vec::new();
    for _ in 0..u.int_in_range(0..=24)? {
        if u.ratio(1, 30)? {
            text.push(u.arbitrary()?);
        } else {
            text.extend_from_slice(u.choose(&PIECES)?.as_bytes());
        }
    }
    Ok(text)
}

#[test]
fn validity_agrees_with_serde_json() {
    arbtest::arbtest(|u| {
        let text = nearly_json(u)?;
        let serde = serde_json::from_slice::<&serde_json::value::RawValue>(&text).is_ok();
        assert_eq!(is_json(&text), serde, "{:?}", String::from_utf8_lossy(&text));
        assert_eq!(contains_only_json(&text), serde && !text.contains(&b'\n'));
        Ok(())
    });
}

#[test]
fn written_strings_are_read_back() {
    arbtest::arbtest(|u| {
        let text: String = u.arbitrary()?;
        let mut out = Vec::new();
        write_string(&mut out, &text);
        assert!(out.iter().all(|byte| *byte >= 0x20 && !b"<>&".contains(byte)));
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        let out = String::from_utf8(out).unwrap();
        assert!(!out.contains(['\u{2028}', '\u{2029}']));
        assert_eq!(Cursor::new(&out).string().unwrap(), text);
        let value: u64 = u.arbitrary()?;
        let mut out = Vec::new();
        write_number(&mut out, value);
        assert_eq!(out, value.to_string().into_bytes());
        Ok(())
    });
}

#[test]
fn newlines_are_stripped() {
    assert_eq!(strip_newlines(b"{\"a\":1}"), Cow::Borrowed(b"{\"a\":1}"));
    assert_eq!(&*strip_newlines(b"{\n\"a\": 1\n}\n"), b"{\"a\": 1}");
    let mut out = Vec::new();
    write_value(&mut out, b"\n{\n\"a\": 1\n}\n");
    assert_eq!(out, b"{\"a\": 1}");
}

// Steps of 16 and 8 bytes, and what is left: every length, with what is looked for, or what only looks like it, anywhere.
#[test]
fn plain_len_agrees_with_a_loop() {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    for len in 0..100 {
        for special in [b'"', b'\\', 0, 0x1f, b'#', b']', b' ', 0x80, 0xff] {
            for at in 0..=len {
                let mut bytes = vec![b'x'; len];
                bytes.iter_mut().skip(at).step_by(3).for_each(|byte| *byte = special);
                let want = bytes.iter().take_while(|byte| plain(**byte)).count();
                assert_eq!(plain_len(&bytes), want, "{special:#x} from {at} of {len}");
            }
        }
    }
}

#[test]
fn strings_of_every_length_are_escaped() {
    for len in 0..70 {
        for at in 0..len {
            for (special, escaped) in
                [("\"", "\\\""), ("<", "\\u003c"), ("\u{2028}", "\\u2028"), ("é", "é"), ("€", "€")]
            {
                let text = format!("{}{special}{}", "x".repeat(at), "y".repeat(len - at));
                let mut out = Vec::new();
                write_string(&mut out, &text);
                assert_eq!(
                    String::from_utf8(out).unwrap(),
                    format!("\"{}\"", text.replace(special, escaped))
                );
            }
        }
    }
}
