//! Durations as Go writes them, because Centrifugo's configuration does: `25s`, `1h30m`, `500ms`, `1.5s`.
//!
//! Units: `h m s ms us µs ns`. No signs: nothing here can be negative.

use std::time::Duration;

const UNITS: [(&str, u128); 8] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
    ("s", 1_000_000_000),
];

/// `None` when it is no duration, or one beyond 2⁶⁴ nanoseconds (584 years). `0` needs no unit.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (amount, scale, after) = number(rest)?;
        let (unit, nanos) = *UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(amount.checked_mul(nanos)? / scale)?;
        rest = &after[unit.len()..];
    }
    if text.is_empty() { None } else { u64::try_from(total).ok().map(Duration::from_nanos) }
}

/// Digits with at most one point: the digits as an integer, what to divide it by, and what follows.
fn number(text: &str) -> Option<(u128, u128, &str)> {
    const DIGITS_MAX: usize = 20;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS_MAX || fraction.contains('.') {
        return None;
    }
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some((digits.parse().ok()?, scale, rest))
}

/// The shortest sum of whole units; [`parse`] reads it back.
pub fn show(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for unit in ["h", "m", "s", "ms", "us", "ns"] {
        let nanos = UNITS.iter().find(|(name, _)| *name == unit).map_or(1, |(_, nanos)| *nanos);
        if rest >= nanos {
            text += &format!("{}{unit}", rest / nanos);
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_table() {
        #[track_caller]
        fn check(text: &str, want: Option<u64>) {
            assert_eq!(parse(text), want.map(Duration::from_nanos), "{text:?}");
        }
        const S: u64 = 1_000_000_000;
        check("25s", Some(25 * S));
        check("1h30m", Some(5400 * S));
        check("500ms", Some(S / 2));
        check("1.5s", Some(3 * S / 2));
        check(".5s", Some(S / 2));
        check("1.s", Some(S));
        check("200us", Some(200_000));
        check("200µs", Some(200_000));
        check("1ns", Some(1));
        check("720h", Some(720 * 3600 * S));
        check("0", Some(0));
        check("0s", Some(0));
        // The last that fits into 64 bits, and the first that does not.
        check("18446744073709551615ns", Some(u64::MAX));
        check("18446744073709551616ns", None);
        for bad in [
            "",
            "25",
            "s",
            "-1s",
            "+1s",
            "1 s",
            "1d",
            "1.2.3s",
            ".s",
            "1s ",
            "1S",
            "1h30",
            "٣s",
            "000000000000000000001s",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn show_reads_back() {
        arbtest::arbtest(|u| {
            let duration = Duration::from_nanos(u.arbitrary()?);
            assert_eq!(parse(&show(duration)), Some(duration), "{}", show(duration));
            Ok(())
        });
        for text in ["25s", "1h30m", "720h", "1m15s", "200us", "0s", "1s500ms"] {
            assert_eq!(parse(text).map(show).as_deref(), Some(text));
        }
    }
}
