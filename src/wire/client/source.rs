//! Reading one message, whatever its encoding: the walk over the fields is here once per encoding, what the
//! fields mean is in `request` and `server`.
//!
//! A source stands at a value. Every method takes that value. A JSON `null` counts as the zero value of its
//! field, except for payloads, where it is a payload.

use super::DecodeError;
use crate::{
    stdx::varint,
    wire::json::{Cursor, Invalid},
};
use std::borrow::Cow;

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) trait Source<'a>: Sized {
    fn text(&mut self) -> Result<Cow<'a, str>>;
    fn uint32(&mut self) -> Result<u32>;
    fn uint64(&mut self) -> Result<u64>;
    fn int32(&mut self) -> Result<i32>;
    fn int64(&mut self) -> Result<i64>;
    fn sint64(&mut self) -> Result<i64>;
    fn flag(&mut self) -> Result<bool>;
    /// A `bytes` field: in JSON the exact source of the value.
    fn payload(&mut self) -> Result<&'a [u8]>;
    fn skip(&mut self) -> Result<()>;
    /// Calls `field` with the number of each field, the source standing at its value; it must take it or skip
    /// it. False when the message is absent (null).
    fn message(
        &mut self,
        number: fn(&str) -> u32,
        field: impl FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<bool>;
    /// Calls `entry` for each entry of a map with string keys, the source standing at the value.
    fn map(&mut self, entry: impl FnMut(&mut Self, Cow<'a, str>) -> Result<()>) -> Result<()>;
    /// Calls `item` for each item of a repeated field, the source standing at it.
    fn list(&mut self, item: impl FnMut(&mut Self) -> Result<()>) -> Result<()>;
}

impl From<Invalid> for DecodeError {
    fn from(Invalid: Invalid) -> Self {
        Self::Json
    }
}

impl<'a> Source<'a> for Cursor<'a> {
    fn text(&mut self) -> Result<Cow<'a, str>> {
        if self.null()? { Ok(Cow::default()) } else { Ok(self.string()?) }
    }

    fn uint32(&mut self) -> Result<u32> {
        u32::try_from(self.uint64()?).map_err(|_| DecodeError::Json)
    }

    fn uint64(&mut self) -> Result<u64> {
        if self.null()? { Ok(0) } else { Ok(self.unsigned()?) }
    }

    fn int32(&mut self) -> Result<i32> {
        i32::try_from(self.int64()?).map_err(|_| DecodeError::Json)
    }

    fn int64(&mut self) -> Result<i64> {
        if self.null()? { Ok(0) } else { Ok(self.signed()?) }
    }

    fn sint64(&mut self) -> Result<i64> {
        self.int64()
    }

    fn flag(&mut self) -> Result<bool> {
        if self.null()? { Ok(false) } else { Ok(self.bool()?) }
    }

    fn payload(&mut self) -> Result<&'a [u8]> {
        Ok(self.raw_value()?)
    }

    fn skip(&mut self) -> Result<()> {
        Ok(self.skip_value()?)
    }

    #[inline]
    fn message(
        &mut self,
        number: fn(&str) -> u32,
        mut field: impl FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<bool> {
        if self.null()? {
            return Ok(false);
        }
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(true);
        }
        loop {
            let number = number(&self.string()?);
            self.expect(b':')?;
            field(self, number)?;
            if !self.take(b',') {
                self.expect(b'}')?;
                return Ok(true);
            }
        }
    }

    fn map(&mut self, mut entry: impl FnMut(&mut Self, Cow<'a, str>) -> Result<()>) -> Result<()> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            entry(self, key)?;
            if !self.take(b',') {
                return Ok(self.expect(b'}')?);
            }
        }
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.take(b',') {
                return Ok(self.expect(b']')?);
            }
        }
    }
}

/// A Protobuf value: what is left of the message it stands in is in `rest`.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    value: Wire<'a>,
}

#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed 32 or 64 bits: no field of ours.
    Fixed,
}

impl<'a> Fields<'a> {
    /// Stands at a whole message, as if it were the value of a field.
    pub fn message_value(bytes: &'a [u8]) -> Self {
        Self { rest: &[], value: Wire::Bytes(bytes) }
    }

    /// The bytes of the message, when it stands at one.
    pub fn whole(&self) -> Option<&'a [u8]> {
        self.bytes().ok()
    }

    /// The number of the next field; the source then stands at its value.
    fn next(&mut self) -> Result<Option<u32>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| DecodeError::Protobuf)?;
        if number == 0 || number > (1 << 29) - 1 {
            return Err(DecodeError::Protobuf);
        }
        self.value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Protobuf)?;
                Wire::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            // 3 and 4 are groups, which proto3 does not have; 6 and 7 are nothing.
            _ => return Err(DecodeError::Protobuf),
        };
        Ok(Some(number))
    }

    fn varint(&mut self) -> Result<u64> {
        match varint::read(self.rest) {
            varint::Read::Value(value, len) => self.take(len).map(|_| value),
            _ => Err(DecodeError::Protobuf),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Protobuf)?;
        self.rest = rest;
        Ok(head)
    }

    fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError::Protobuf),
        }
    }

    fn number(&self) -> Result<u64> {
        match self.value {
            Wire::Varint(value) => Ok(value),
            _ => Err(DecodeError::Protobuf),
        }
    }
}

// Numbers wider than their field lose their upper bits: https://protobuf.dev/programming-guides/encoding/
impl<'a> Source<'a> for Fields<'a> {
    fn text(&mut self) -> Result<Cow<'a, str>> {
        let text = simdutf8::basic::from_utf8(self.bytes()?).map_err(|_| DecodeError::Protobuf)?;
        Ok(Cow::Borrowed(text))
    }

    fn uint32(&mut self) -> Result<u32> {
        self.number().map(|value| value as u32)
    }

    fn uint64(&mut self) -> Result<u64> {
        self.number()
    }

    fn int32(&mut self) -> Result<i32> {
        self.number().map(|value| value as i32)
    }

    fn int64(&mut self) -> Result<i64> {
        self.number().map(|value| value as i64)
    }

    fn sint64(&mut self) -> Result<i64> {
        self.number().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn flag(&mut self) -> Result<bool> {
        self.number().map(|value| value != 0)
    }

    fn payload(&mut self) -> Result<&'a [u8]> {
        self.bytes()
    }

    fn skip(&mut self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn message(
        &mut self,
        _number: fn(&str) -> u32,
        mut field: impl FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<bool> {
        let mut fields = Self { rest: self.bytes()?, value: Wire::Fixed };
        while let Some(number) = fields.next()? {
            field(&mut fields, number)?;
        }
        Ok(true)
    }

    fn map(&mut self, mut entry: impl FnMut(&mut Self, Cow<'a, str>) -> Result<()>) -> Result<()> {
        let mut fields = Self { rest: self.bytes()?, value: Wire::Fixed };
        let (mut key, mut value) = (Cow::default(), Wire::Bytes(&[]));
        while let Some(number) = fields.next()? {
            match number {
                1 => key = fields.text()?,
                2 => value = fields.value,
                _ => {}
            }
        }
        entry(&mut Self { rest: &[], value }, key)
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        item(self)
    }
}
