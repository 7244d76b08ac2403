//! Query strings: `name=value` pairs with percent escapes and `+` for spaces.

use std::borrow::Cow;

/// The first value of the parameter with this name; a parameter without `=` has the empty value.
#[must_use]
pub fn parameter<'b>(query: &'b str, name: &str) -> Option<Cow<'b, str>> {
    parameters(query).find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Names and values in order, decoded.
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_component(name), decode_component(value))
    })
}

/// Undoes percent escapes and `+`. An escape that is none stands as it is; bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn decode_component(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, escaped(tail)) {
            (b'+', _) => out.push(b' '),
            (b'%', Some(value)) => {
                out.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(
        String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// The byte that two hexadecimal digits at the front name.
fn escaped(bytes: &[u8]) -> Option<u8> {
    let &[high, low] = bytes.first_chunk()?;
    let value = char::from(high).to_digit(16)? * 16 + char::from(low).to_digit(16)?;
    u8::try_from(value).ok()
}
