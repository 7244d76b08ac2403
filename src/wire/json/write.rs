/// Appends `text` as a JSON string. `<`, `>`, `&`, U+2028 and U+2029 are escaped too, so that a message can
/// stand inside a script element, as Centrifugo writes them.
#[inline]
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_inside(out, text);
    out.push(b'"');
}

/// Appends `text` as it stands inside a JSON string.
#[inline]
pub fn write_inside(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    match harmless_len(bytes) {
        len if len == bytes.len() => out.extend_from_slice(bytes),
        len => write_escaped(out, bytes, len),
    }
}

/// The inside of a string whose first `len` bytes need no escape.
#[cold]
fn write_escaped(out: &mut Vec<u8>, bytes: &[u8], len: usize) {
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate().skip(len) {
        if !SPECIAL[usize::from(byte)] {
            continue;
        }
        let (len, escape) = match byte {
            b'"' => (1, "\\\""),
            b'\\' => (1, "\\\\"),
            b'\n' => (1, "\\n"),
            b'\r' => (1, "\\r"),
            b'\t' => (1, "\\t"),
            0xe2 => match bytes.get(at..at + 3) {
                Some([_, 0x80, 0xa8]) => (3, "\\u2028"),
                Some([_, 0x80, 0xa9]) => (3, "\\u2029"),
                _ => continue,
            },
            _ => (1, ""),
        };
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        out.extend_from_slice(escape.as_bytes());
        if escape.is_empty() {
            write_control(out, byte);
        }
        done = at + len;
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
}

/// How many bytes come before the first that [`write_escaped`] must look at.
#[inline]
fn harmless_len(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<16>();
    let mut len = 0;
    for chunk in chunks {
        // No exit inside, and bytes for the answer: the compiler makes vector instructions of this.
        let mut found = 0u8;
        for &byte in chunk {
            found |= u8::from(byte < 0x20)
                | u8::from(byte == b'"')
                | u8::from(byte == b'\\')
                | u8::from(byte == b'<')
                | u8::from(byte == b'>')
                | u8::from(byte == b'&')
                | u8::from(byte == 0xe2);
        }
        if found != 0 {
            return len + chunk.iter().take_while(|byte| !SPECIAL[usize::from(**byte)]).count();
        }
        len += 16;
    }
    len + rest.iter().take_while(|byte| !SPECIAL[usize::from(**byte)]).count()
}

fn write_control(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u00");
    out.push(HEX[usize::from(byte >> 4)]);
    out.push(HEX[usize::from(byte & 0xf)]);
}

/// Bytes that [`write_string`] must look at. 0xe2 starts U+2028 and U+2029, and other characters.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xe2] = true;
    table
};

/// Appends `value` in decimal.
#[inline]
pub fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a JSON value as it is, only without raw newlines: they separate messages.
#[inline]
pub fn write_value(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        let (line, tail) = rest.split_at(at);
        out.extend_from_slice(line);
        rest = tail.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
