use super::*;

const LEN_MAX: usize = 1 << 20;

fn delta(source: &[u8], target: &[u8], literals: Literals) -> Option<Vec<u8>> {
    Encoder::default().delta(source, target, literals).map(<[u8]>::to_vec)
}

// What Centrifugo 6.9.1 sent, and its source.
#[test]
fn reads_what_others_write() {
    let first = br#"{"a": "long long long text here 1", "b": [1, 2, 3, 4, 5, 6, 7, 8, 9]}"#;
    let second = br#"{"a": "long long long text here 2", "b": [1, 2, 3, 4, 5, 6, 7, 8, 9]}"#;
    assert_eq!(apply(first, b"15\nW@0,1:2_@X,3gT4_g;", LEN_MAX).as_deref(), Ok(&second[..]));
    assert_eq!(delta(first, second, Literals::Text).as_deref(), Some(&b"15\nW@0,1:2_@X,3gT4_g;"[..]));
}

#[test]
fn refuses_what_is_no_delta_of_the_source() {
    use DeltaError::{Malformed, Mismatch, Source, TooLong};
    #[track_caller]
    fn check(delta: &[u8], want: Result<&[u8], DeltaError>) {
        let got = apply(b"0123456789", delta, 100);
        assert_eq!(got.as_deref().map_err(|error| *error), want, "{}", String::from_utf8_lossy(delta));
    }
    check(b"2\n2:ab1XY000;", Err(Mismatch));
    check(b"0\n0;", Ok(b""));
    check(b"1\n1:a1X0000;", Ok(b"a"));
    check(b"1\n1:a1X0000;x", Err(Mismatch));
    check(b"4\n4@2,nCoGq;", Ok(b"2345"));
    for bad in [
        &b""[..],
        b"\n",
        b"1",
        b"1\n",
        b"1;1:a1X0000;",
        b"1\n1:a",
        b"1\n2:a",
        b"1\n1?a",
        b"1\n1@0;",
        b"~~~~~~~\n",
    ] {
        check(bad, Err(Malformed));
    }
    check(b"4\n4@7,0;", Err(Source));
    check(b"4\n4@3~~~~,0;", Err(Source));
    check(b"3\n4@2,0;", Err(Mismatch));
    check(b"5\n4@2,nCoGq;", Err(Mismatch));
    check(b"1a\n1:a0;", Err(TooLong));
}

#[test]
fn nothing_longer_than_the_target() {
    for (source, target) in [("", ""), ("", "abc"), ("abc", "abc"), ("abcdefgh", "12345678")] {
        assert_eq!(delta(source.as_bytes(), target.as_bytes(), Literals::Text), None, "{source} {target}");
    }
    let long = "x".repeat(1000);
    let same = delta(long.as_bytes(), long.as_bytes(), Literals::Text).unwrap();
    assert!(same.len() < 20, "{}", String::from_utf8_lossy(&same));
}

// The defect of other encoders: a copy that ends inside a letter leaves half a letter to the literal.
#[test]
fn letters_stay_whole() {
    let first = r#"{"text":"Привет, как дела? Привет, как дела?"}"#;
    let second = r#"{"text":"Привет, кок дела? Привет, как дела?"}"#;
    let text = delta(first.as_bytes(), second.as_bytes(), Literals::Text).unwrap();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(apply(first.as_bytes(), text.as_bytes(), LEN_MAX).as_deref(), Ok(second.as_bytes()));
    let bytes = delta(first.as_bytes(), second.as_bytes(), Literals::Bytes).unwrap();
    assert!(std::str::from_utf8(&bytes).is_err(), "without care half a letter is what differs");
    assert_eq!(apply(first.as_bytes(), &bytes, LEN_MAX).as_deref(), Ok(second.as_bytes()));
}

/// Pieces of text with letters of one to four bytes, repeated and varied.
fn text(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<String> {
    const PIECES: [&str; 10] =
        ["a", "é", "ж", "日本", "😀", "{\"price\":", "0123456789", "\u{2028}", "привет мир ", "z"];
    let mut text = String::new();
    for _ in 0..u.int_in_range(0..=30)? {
        let piece = *u.choose(&PIECES)?;
        text.push_str(&piece.repeat(u.int_in_range(1..=4)?));
    }
    Ok(text)
}

/// `text` with some pieces replaced, moved or left out.
fn edited(u: &mut arbitrary::Unstructured<'_>, text: &str) -> arbitrary::Result<String> {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..u.int_in_range(0..=4)? {
        let from = u.int_in_range(0..=letters.len())?;
        let to = u.int_in_range(from..=letters.len().min(from + 20))?;
        let new: Vec<char> = match u.int_in_range(0..=2)? {
            0 => vec![],
            1 => letters[from / 2..to / 2].to_vec(),
            _ => self::text(u)?.chars().collect(),
        };
        letters.splice(from..to, new);
    }
    Ok(letters.into_iter().collect())
}

#[test]
fn every_delta_makes_its_target() {
    let (mut short, mut whole) = (0, 0);
    let mut encoder = Encoder::default();
    arbtest::arbtest(|u| {
        let source = text(u)?;
        let target = if u.ratio(1, 8)? { text(u)? } else { edited(u, &source)? };
        for literals in [Literals::Bytes, Literals::Text] {
            let Some(delta) = encoder.delta(source.as_bytes(), target.as_bytes(), literals) else {
                whole += 1;
                continue;
            };
            short += 1;
            assert!(delta.len() < target.len());
            assert!(literals == Literals::Bytes || std::str::from_utf8(delta).is_ok(), "{source} {target}");
            assert_eq!(apply(source.as_bytes(), delta, target.len()).as_deref(), Ok(target.as_bytes()));
        }
        Ok(())
    });
    assert!(short > whole / 4, "{short} {whole}");
}

#[test]
fn long_and_repetitive_sources_are_no_trap() {
    let source = "abcdefg".repeat(40_000);
    let mut target = source.clone();
    target.replace_range(100_000..100_010, "-");
    let delta = delta(source.as_bytes(), target.as_bytes(), Literals::Text).unwrap();
    assert!(delta.len() < 100, "{} bytes", delta.len());
    assert_eq!(apply(source.as_bytes(), &delta, LEN_MAX).as_deref(), Ok(target.as_bytes()));
}
