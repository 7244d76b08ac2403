//! Deltas in the format of Fossil SCM: how to make one text from another, in fewer bytes than the text itself.
//!
//! A delta is the length of the target and `\n`; then copies of the source (`count@offset,`) and literals
//! (`count:bytes`); then a checksum of the target and `;`. Integers are in base 64:
//! <https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki>.
//!
//! A delta that travels as a JSON string must be text: there no literal may begin or end inside a character
//! ([`Literals::Text`]).

#[cfg(test)]
mod tests;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Bytes that are looked up at once: the shortest piece that is found again.
const WINDOW: usize = 8;

/// Every so many bytes of the source a window is remembered; a common piece of `WINDOW + STRIDE - 1` bytes is
/// always found.
const STRIDE: usize = 4;

/// Windows remembered of one source; of a longer one only every so many more bytes.
const WINDOWS_MAX: usize = 1 << 16;

/// What literals are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literals {
    Bytes,
    /// Whole characters: source and target are UTF-8, and so is the delta.
    Text,
}

/// Makes deltas; keeps its table from one to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Where in the source a window begins, plus one, by its hash; 0: nowhere.
    windows: Vec<u32>,
    delta: Vec<u8>,
}

/// A piece of the source that stands in the target.
#[derive(Clone, Copy)]
struct Match {
    source: usize,
    target: usize,
    len: usize,
}

impl Encoder {
    /// The delta that makes `target` of `source`; `None` when it is no shorter than `target`, and for texts
    /// above 4 GiB. Time and memory in proportion to both.
    pub fn delta(&mut self, source: &[u8], target: &[u8], literals: Literals) -> Option<&[u8]> {
        u32::try_from(source.len()).ok()?;
        self.delta.clear();
        number(&mut self.delta, target.len() as u64);
        self.delta.push(b'\n');
        let bits = self.index(source);
        let (mut at, mut done) = (0, 0);
        while let Some(window) = window(target, at) {
            let found = self.windows.get(slot(window, bits)).map_or(0, |&found| found as usize);
            let matched = found.checked_sub(1).map(|source_at| extend(source, target, source_at, at, done));
            let matched = matched.map(|matched| trim(target, matched, literals));
            match matched.filter(|it| it.len > copy_len(it)) {
                Some(matched) => {
                    self.literal(target.get(done..matched.target)?);
                    self.copy(matched);
                    done = matched.target + matched.len;
                    at = done;
                }
                None => at += 1,
            }
            if self.delta.len() + (at - done) >= target.len() {
                return None;
            }
        }
        self.literal(target.get(done..)?);
        number(&mut self.delta, u64::from(checksum(target)));
        self.delta.push(b';');
        (self.delta.len() < target.len()).then_some(&self.delta)
    }

    /// Remembers the windows of `source`; the number of bits of a slot.
    fn index(&mut self, source: &[u8]) -> u32 {
        let stride = STRIDE.max(source.len() / WINDOWS_MAX);
        let bits = (source.len() / stride).max(1).next_power_of_two().trailing_zeros() + 1;
        self.windows.clear();
        self.windows.resize(1 << bits, 0);
        let mut at = 0;
        while let Some(window) = window(source, at) {
            // The first of equal windows: a run is then copied whole.
            let found = &mut self.windows[slot(window, bits)];
            if *found == 0 {
                *found = at as u32 + 1;
            }
            at += stride;
        }
        bits
    }

    fn literal(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            number(&mut self.delta, bytes.len() as u64);
            self.delta.push(b':');
            self.delta.extend_from_slice(bytes);
        }
    }

    fn copy(&mut self, matched: Match) {
        number(&mut self.delta, matched.len as u64);
        self.delta.push(b'@');
        number(&mut self.delta, matched.source as u64);
        self.delta.push(b',');
    }
}

fn window(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + WINDOW)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

fn slot(window: u64, bits: u32) -> usize {
    (window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
}

/// The longest match around these two places that begins in the target at `from` or later.
fn extend(source: &[u8], target: &[u8], source_at: usize, target_at: usize, from: usize) -> Match {
    let equal = |(one, other): &(&u8, &u8)| one == other;
    let (before, ahead) = source.split_at(source_at);
    let (past, future) = target.split_at(target_at);
    let past = &past[from.min(past.len())..];
    let back = before.iter().rev().zip(past.iter().rev()).take_while(equal).count();
    let forth = ahead.iter().zip(future).take_while(equal).count();
    Match { source: source_at - back, target: target_at - back, len: back + forth }
}

/// The match without parts of characters at its ends.
fn trim(target: &[u8], mut matched: Match, literals: Literals) -> Match {
    if literals == Literals::Text {
        let inside = |at: usize| target.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        while matched.len > 0 && inside(matched.target) {
            matched = Match { source: matched.source + 1, target: matched.target + 1, len: matched.len - 1 };
        }
        while matched.len > 0 && inside(matched.target + matched.len) {
            matched.len -= 1;
        }
    }
    matched
}

/// Bytes a copy takes in the delta, and those the literals around it take for being two.
fn copy_len(matched: &Match) -> usize {
    number_len(matched.len) + 1 + number_len(matched.source) + 1 + 2
}

fn number_len(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(6).max(1) as usize
}

fn number(out: &mut Vec<u8>, value: u64) {
    let digits = (u64::BITS - value.leading_zeros()).div_ceil(6).max(1);
    out.extend((0..digits).rev().map(|digit| DIGITS[(value >> (6 * digit) & 0x3f) as usize]));
}

/// The sum of the big-endian words of 32 bits, the last one filled with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.chunks(4).fold(0, |sum: u32, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        sum.wrapping_add(u32::from_be_bytes(word))
    })
}

/// Why a delta could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    #[error("not a delta")]
    Malformed,
    #[error("the delta copies what its source does not have")]
    Source,
    #[error("the delta makes another length or checksum than it says: it belongs to another source")]
    Mismatch,
    #[error("the delta makes more bytes than allowed")]
    TooLong,
}

/// The client's side: what `delta` makes of `source`, at most `len_max` bytes.
///
/// # Errors
/// See [`DeltaError`]. Any bytes are fine as input.
pub fn apply(source: &[u8], delta: &[u8], len_max: usize) -> Result<Vec<u8>, DeltaError> {
    let mut rest = delta;
    let len = read(&mut rest, b'\n')?;
    if len > len_max {
        return Err(DeltaError::TooLong);
    }
    let mut target = Vec::new();
    loop {
        let (count, sign) = read_number(&mut rest)?;
        let piece = match sign {
            b'@' => {
                let offset = read(&mut rest, b',')?;
                let piece = source.get(offset..).and_then(|from| from.get(..count));
                piece.ok_or(DeltaError::Source)?
            }
            b':' => {
                let (piece, after) = rest.split_at_checked(count).ok_or(DeltaError::Malformed)?;
                rest = after;
                piece
            }
            b';' => {
                let right = target.len() == len && count == checksum(&target) as usize && rest.is_empty();
                return if right { Ok(target) } else { Err(DeltaError::Mismatch) };
            }
            _ => return Err(DeltaError::Malformed),
        };
        if piece.len() > len - target.len() {
            return Err(DeltaError::Mismatch);
        }
        target.extend_from_slice(piece);
    }
}

fn read(rest: &mut &[u8], sign: u8) -> Result<usize, DeltaError> {
    let (value, found) = read_number(rest)?;
    if found == sign { Ok(value) } else { Err(DeltaError::Malformed) }
}

/// A number of at most 32 bits and the sign behind it.
fn read_number(rest: &mut &[u8]) -> Result<(usize, u8), DeltaError> {
    let mut value = 0u64;
    let mut digits = 0;
    loop {
        let (&byte, after) = rest.split_first().ok_or(DeltaError::Malformed)?;
        *rest = after;
        match DIGITS.iter().position(|&digit| digit == byte) {
            Some(digit) => value = value << 6 | digit as u64,
            None if digits == 0 => return Err(DeltaError::Malformed),
            None => return Ok((value as usize, byte)),
        }
        digits += 1;
        if value > u64::from(u32::MAX) {
            return Err(DeltaError::Malformed);
        }
    }
}
