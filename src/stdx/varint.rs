//! Unsigned LEB128: seven bits a byte, lowest first, the top bit says that another byte follows.
//!
//! Decoding takes at most [`LEN_MAX`] bytes and refuses what does not fit 64 bits. Encodings that are longer
//! than needed are accepted, as Protobuf demands; [`write()`] never makes them.

/// Bytes of the longest encoding of a `u64`.
pub const LEN_MAX: usize = 10;

/// What the start of some bytes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The value and how many bytes it took.
    Value(u64, usize),
    /// The bytes end before the number does.
    Incomplete,
    /// Not a number of 64 bits, whatever follows.
    Overflow,
}

/// Reads one number off the front of `bytes`.
#[inline]
#[must_use]
pub fn read(bytes: &[u8]) -> Read {
    match bytes.first() {
        Some(&byte) if byte < 0x80 => Read::Value(u64::from(byte), 1),
        _ => read_long(bytes),
    }
}

fn read_long(bytes: &[u8]) -> Read {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(LEN_MAX).enumerate() {
        // The tenth byte has room for the 64th bit only.
        if index == LEN_MAX - 1 && byte > 1 {
            return Read::Overflow;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Read::Value(value, index + 1);
        }
    }
    Read::Incomplete
}

/// Appends `value` in its shortest form.
#[inline]
pub fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`write()`] appends for `value`.
#[inline]
#[must_use]
pub const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_table() {
        #[track_caller]
        fn check(name: &str, bytes: &[u8], want: Read) {
            assert_eq!(read(bytes), want, "{name}: {bytes:x?}");
        }
        check("nothing", &[], Read::Incomplete);
        check("zero", &[0], Read::Value(0, 1));
        check("one byte, more behind", &[0x7f, 0xff], Read::Value(127, 1));
        check("two bytes", &[0x80, 0x01], Read::Value(128, 2));
        check("cut", &[0x80], Read::Incomplete);
        check("longer than needed", &[0x81, 0x00], Read::Value(1, 2));
        let mut bytes = [0xff; 10];
        check("ten bytes, no end: the last has bits beyond 64", &bytes, Read::Overflow);
        bytes[9] = 1;
        check("the largest", &bytes, Read::Value(u64::MAX, 10));
        bytes[9] = 2;
        check("65 bits", &bytes, Read::Overflow);
        check("nine bytes that go on", &[0xff; 9], Read::Incomplete);
    }

    #[test]
    fn round_trips() {
        arbtest::arbtest(|u| {
            let value = u.arbitrary::<u64>()? >> u.int_in_range(0..=63)?;
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(out.len(), len(value));
            assert_eq!(read(&out), Read::Value(value, out.len()));
            assert_eq!(read(&out[..out.len() - 1]), Read::Incomplete);
            Ok(())
        });
    }
}
