use std::borrow::Cow;

/// Deepest nesting inside one skipped value, as in serde_json.
pub const DEPTH_MAX: u32 = 127;

/// The text is not the JSON that was expected at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

type Result<T> = std::result::Result<T, Invalid>;

/// A place in a JSON text. Every method skips white space first, takes one thing and stands behind it; after
/// an error the place is unspecified.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What it has not passed yet.
    #[must_use]
    pub fn remaining(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes over everything.
    pub fn skip_all(&mut self) {
        self.at = self.text.len();
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The first byte of the next token, `None` at the end.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Takes the next token if it is this punctuation.
    #[inline]
    pub fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Takes what stands here if it is exactly this.
    #[inline]
    pub fn literal(&mut self, wanted: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(wanted.as_bytes());
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    #[inline]
    pub fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(Invalid) }
    }

    /// Succeeds when only white space is left.
    pub fn finish(&mut self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { Err(Invalid) }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn slice(&self, from: usize, to: usize) -> Result<&'a str> {
        self.text.get(from..to).ok_or(Invalid)
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(Invalid);
        }
        self.at += word.len();
        Ok(())
    }

    /// Takes `null` if it stands here.
    #[inline]
    pub fn null(&mut self) -> Result<bool> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word("null").map(|()| true)
    }

    pub fn bool(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b't') => self.word("true").map(|()| true),
            Some(b'f') => self.word("false").map(|()| false),
            _ => Err(Invalid),
        }
    }

    /// A plain integer: no fraction, no exponent.
    pub fn unsigned(&mut self) -> Result<u64> {
        if self.peek() == Some(b'-') {
            return Err(Invalid);
        }
        self.integer()?.parse().map_err(|_| Invalid)
    }

    /// A plain integer: no fraction, no exponent.
    pub fn signed(&mut self) -> Result<i64> {
        self.peek();
        self.integer()?.parse().map_err(|_| Invalid)
    }

    fn integer(&mut self) -> Result<&'a str> {
        let from = self.at;
        self.number()?;
        // What is not a digit (`.`, `e`) fails to parse as an integer later.
        self.slice(from, self.at)
    }

    fn digits(&mut self) -> Result<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(Invalid) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<()> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// A string: borrowed unless it holds escapes. A lone surrogate escape becomes U+FFFD.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let from = self.at;
        self.at += plain_len(self.rest());
        match self.byte() {
            Some(b'"') => {
                self.at += 1;
                self.slice(from, self.at - 1).map(Cow::Borrowed)
            }
            Some(b'\\') => self.string_with_escapes(from).map(Cow::Owned),
            _ => Err(Invalid),
        }
    }

    #[cold]
    fn string_with_escapes(&mut self, from: usize) -> Result<String> {
        let mut value = String::from(self.slice(from, self.at)?);
        loop {
            let from = self.at;
            self.at += plain_len(self.rest());
            value.push_str(self.slice(from, self.at)?);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => {
                    self.at += 1;
                    value.push(self.escape()?);
                }
                _ => return Err(Invalid),
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<char> {
        let byte = self.byte().ok_or(Invalid)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(Invalid),
        })
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let behind = self.at;
        if self.rest().starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let value = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = behind;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.rest().first_chunk::<4>().ok_or(Invalid)?;
        let mut value = 0;
        for &digit in digits {
            value = value * 16 + char::from(digit).to_digit(16).ok_or(Invalid)?;
        }
        self.at += 4;
        Ok(value)
    }

    fn skip_string(&mut self) -> Result<()> {
        self.expect(b'"')?;
        loop {
            self.at += plain_len(self.rest());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.skip_escape()?,
                _ => return Err(Invalid),
            }
        }
    }

    fn skip_escape(&mut self) -> Result<()> {
        self.at += 1;
        let byte = self.byte().ok_or(Invalid)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => self.hex4().map(|_| ()),
            _ => Err(Invalid),
        }
    }

    /// Passes over one value of any kind and checks it.
    pub fn skip_value(&mut self) -> Result<()> {
        // One bit per open bracket, the innermost lowest: set for an object.
        let mut open = 0u128;
        let mut depth = 0u32;
        loop {
            match self.peek().ok_or(Invalid)? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    let object = bracket == b'{';
                    if !self.take(if object { b'}' } else { b']' }) {
                        if depth == DEPTH_MAX {
                            return Err(Invalid);
                        }
                        depth += 1;
                        open = (open << 1) | u128::from(object);
                        if object {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                _ => self.skip_scalar()?,
            }
            // A value ended: close what it closes, then go on with the next one of the innermost bracket.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = open & 1 == 1;
                if self.take(b',') {
                    if object {
                        self.skip_key()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                depth -= 1;
                open >>= 1;
            }
        }
    }

    fn skip_key(&mut self) -> Result<()> {
        self.skip_string()?;
        self.expect(b':')
    }

    fn skip_scalar(&mut self) -> Result<()> {
        match self.byte() {
            Some(b'"') => self.skip_string(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }
    }

    /// The exact source of one value, without the white space around it.
    #[inline]
    pub fn raw_value(&mut self) -> Result<&'a [u8]> {
        self.raw_text().map(str::as_bytes)
    }

    /// [`Cursor::raw_value`] as the text it is.
    #[inline]
    pub fn raw_text(&mut self) -> Result<&'a str> {
        self.peek();
        let from = self.at;
        self.skip_value()?;
        self.slice(from, self.at)
    }
}

/// How many bytes come before the first quote, backslash or control character.
///
/// HOT: runs over every byte of every string. Sixteen bytes a step as long as there is nothing, then eight.
#[inline]
pub fn plain_len(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<16>();
    let mut at = 0;
    for chunk in chunks {
        // No exit inside, and bytes for the answer: the compiler makes vector instructions of this.
        let mut found = 0u8;
        for &byte in chunk {
            found |= u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
        }
        if found != 0 {
            break;
        }
        at += 16;
    }
    at + plain_len_by_words(bytes.get(at..).unwrap_or_default())
}

#[inline]
fn plain_len_by_words(bytes: &[u8]) -> usize {
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        if let Some(at) = first_special(*chunk) {
            return index * 8 + at;
        }
    }
    // The last eight once more, some of which are known to be plain.
    match bytes.last_chunk::<8>() {
        Some(last) => first_special(*last).map_or(bytes.len(), |at| bytes.len() - 8 + at),
        None => tail.iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count(),
    }
}

/// The usual bit tricks mark a byte that is what we look for (or, above it, one that only looks so: only the lowest mark
/// counts).
#[inline]
fn first_special(bytes: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let word = u64::from_le_bytes(bytes);
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let marks = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    let marks = marks & TOPS;
    (marks != 0).then_some((marks.trailing_zeros() / 8) as usize)
}
