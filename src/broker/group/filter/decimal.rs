//! Decimal numbers of any length, compared as they stand in a text.

use std::cmp::Ordering;

/// A number: its significant digits, and how many of them stand in front of the point.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    negative: bool,
    /// In front of the point and behind it; no zero at the beginning, but maybe at the end.
    digits: (&'a [u8], &'a [u8]),
    /// The point stands behind so many digits, in front of as many zeros when negative.
    point: i64,
}

impl<'a> Decimal<'a> {
    /// An optional sign, digits with or without a point, an optional exponent; nothing else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, bytes) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, bytes),
        };
        let (number, exponent) = match bytes.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&bytes[..at], exponent(&bytes[at + 1..])?),
            None => (bytes, 0),
        };
        let (whole, part) = match number.iter().position(|&byte| byte == b'.') {
            Some(at) => (&number[..at], &number[at + 1..]),
            None => (number, &[][..]),
        };
        let is_number = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
        if whole.len() + part.len() == 0 || !is_number(whole) || !is_number(part) {
            return None;
        }
        let zeros = |digits: &[u8]| digits.iter().take_while(|&&digit| digit == b'0').count();
        let skipped = zeros(whole);
        let whole = &whole[skipped..];
        let (part, point) = match whole {
            [] => {
                let skipped = zeros(part);
                (&part[skipped..], -(skipped as i64))
            }
            _ => (part, whole.len() as i64),
        };
        Some(Self { negative, digits: (whole, part), point: point.saturating_add(exponent) })
    }

    pub fn compare(&self, other: &Self) -> Ordering {
        match (self.sign(), other.sign()) {
            (1, 1) => self.compare_size(other),
            (-1, -1) => other.compare_size(self),
            (one, other) => one.cmp(&other),
        }
    }

    fn sign(&self) -> i32 {
        match (self.all().all(|digit| digit == b'0'), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn all(&self) -> impl Iterator<Item = u8> {
        self.digits.0.iter().chain(self.digits.1).copied()
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        let len = |it: &Self| it.digits.0.len() + it.digits.1.len();
        let longer = len(self).max(len(other));
        let padded = |it: Self| {
            let digits: Vec<u8> = it.all().chain(std::iter::repeat(b'0')).take(longer).collect();
            digits
        };
        self.point.cmp(&other.point).then_with(|| padded(*self).cmp(&padded(*other)))
    }
}

/// An exponent, at most about 10^9 either way.
fn exponent(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<i32>().ok().map(i64::from)
}
