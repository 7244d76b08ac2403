//! JSON as text: a scanner that reads one value after another without building a tree, and the writing of
//! strings and numbers.
//!
//! The scanner checks all it passes over, also what nobody asked for. It does not recurse: nesting deeper than
//! [`DEPTH_MAX`] is an error. Bytes are checked for UTF-8 once, before the scan.

mod cursor;
mod write;

pub use cursor::{Cursor, DEPTH_MAX, Invalid, plain_len};
pub use write::{write_inside, write_number, write_string, write_value};

use std::borrow::Cow;

/// Whether `data` is exactly one valid JSON value (spaces around it are fine) without a raw newline, so that
/// it can stand inside a message to JSON clients.
#[must_use]
pub fn contains_only_json(data: &[u8]) -> bool {
    memchr::memchr(b'\n', data).is_none() && is_json(data)
}

/// Whether `data` is exactly one valid JSON value, newlines between its tokens allowed.
#[must_use]
pub fn is_json(data: &[u8]) -> bool {
    simdutf8::basic::from_utf8(data).is_ok_and(|text| {
        let mut cursor = Cursor::new(text);
        cursor.skip_value().is_ok() && cursor.finish().is_ok()
    })
}

/// `data` without its raw newlines. In valid JSON they only stand between tokens, so the value is the same.
#[must_use]
pub fn strip_newlines(data: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\n', data).is_none() {
        return Cow::Borrowed(data);
    }
    Cow::Owned(data.iter().copied().filter(|&byte| byte != b'\n').collect())
}

#[cfg(test)]
mod tests;
