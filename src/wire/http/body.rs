//! Bodies of requests, by length or in chunks, as they arrive.

/// Bytes of chunk extensions and trailers of one body, which are passed over. RFC 9112 section 7.1.1 asks for a limit.
const OVERHEAD_MAX: u32 = 4096;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("a body above the limit")]
    TooLarge,
    #[error("a chunk that is not framed as RFC 9112 says")]
    Chunk,
}

impl BodyError {
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLarge => 413,
            Self::Chunk => 400,
        }
    }
}

/// What was read of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'b> {
    /// More of it, never empty.
    Data(&'b [u8]),
    /// There is no more; the next request begins behind.
    End,
}

/// Reads one body. Small, keeps no bytes.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes that may still come.
    room: u64,
    overhead: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes to the end of the body.
    Length(u64),
    /// In the number of a chunk, of which so many digits were read.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the number, before the line feed.
    Extension {
        size: u64,
        carriage_return: bool,
    },
    Chunk(u64),
    /// Behind a chunk: its line end.
    ChunkEnd {
        carriage_return: bool,
    },
    /// Behind the last chunk: at the start of a trailer or of the empty line.
    Trailer {
        start: bool,
        carriage_return: bool,
    },
    Ended,
}

impl BodyDecoder {
    /// # Errors
    /// [`BodyError::TooLarge`] when the announced length is above `size_max`.
    pub fn new(framing: Framing, size_max: u64) -> Result<Self, BodyError> {
        let state = match framing {
            Framing::Length(0) => State::Ended,
            Framing::Length(len) if len > size_max => return Err(BodyError::TooLarge),
            Framing::Length(len) => State::Length(len),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        Ok(Self { state, room: size_max, overhead: 0 })
    }

    /// Takes the next piece off the front of `bytes`; `None` when they are used up before the end.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Body<'b>>, BodyError> {
        loop {
            match self.state {
                State::Ended => return Ok(Some(Body::End)),
                State::Length(left) => {
                    let Some((data, left)) = take(bytes, left) else { return Ok(None) };
                    self.state = if left == 0 { State::Ended } else { State::Length(left) };
                    return Ok(Some(Body::Data(data)));
                }
                State::Chunk(left) => {
                    let Some((data, left)) = take(bytes, left) else { return Ok(None) };
                    self.state = if left == 0 {
                        State::ChunkEnd { carriage_return: false }
                    } else {
                        State::Chunk(left)
                    };
                    return Ok(Some(Body::Data(data)));
                }
                State::Size { .. }
                | State::Extension { .. }
                | State::ChunkEnd { .. }
                | State::Trailer { .. } => {
                    let Some((&byte, rest)) = bytes.split_first() else { return Ok(None) };
                    *bytes = rest;
                    self.state = self.line(byte)?;
                }
            }
        }
    }

    /// One byte of the lines around chunks. Lines end with CR LF, nothing else.
    fn line(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { size, digits }, b'\r' | b';' | b' ' | b'\t') if digits > 0 => {
                Ok(State::Extension { size, carriage_return: byte == b'\r' })
            }
            (State::Size { size, digits }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(BodyError::Chunk)?;
                // Sixteen digits fill the number.
                if digits == 16 {
                    return Err(BodyError::Chunk);
                }
                Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (State::Extension { size, carriage_return: true }, b'\n') => self.chunk(size),
            (State::Extension { size, carriage_return: false }, _) if byte != b'\n' => {
                self.overhead()?;
                Ok(State::Extension { size, carriage_return: byte == b'\r' })
            }
            (State::ChunkEnd { carriage_return: false }, b'\r') => {
                Ok(State::ChunkEnd { carriage_return: true })
            }
            (State::ChunkEnd { carriage_return: true }, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::Trailer { start: true, carriage_return: true }, b'\n') => Ok(State::Ended),
            (State::Trailer { start: false, carriage_return: true }, b'\n') => {
                Ok(State::Trailer { start: true, carriage_return: false })
            }
            (State::Trailer { start, carriage_return: false }, b'\r') => {
                Ok(State::Trailer { start, carriage_return: true })
            }
            (State::Trailer { carriage_return: false, .. }, _) if byte != b'\n' => {
                self.overhead()?;
                Ok(State::Trailer { start: false, carriage_return: false })
            }
            _ => Err(BodyError::Chunk),
        }
    }

    fn overhead(&mut self) -> Result<(), BodyError> {
        self.overhead += 1;
        if self.overhead > OVERHEAD_MAX { Err(BodyError::TooLarge) } else { Ok(()) }
    }

    /// A chunk of this size begins; the last has size 0.
    fn chunk(&mut self, size: u64) -> Result<State, BodyError> {
        self.room = self.room.checked_sub(size).ok_or(BodyError::TooLarge)?;
        Ok(if size == 0 {
            State::Trailer { start: true, carriage_return: false }
        } else {
            State::Chunk(size)
        })
    }
}

/// At most `left` bytes off the front of `bytes`, and how many are left after that; `None` when there are none.
fn take<'b>(bytes: &mut &'b [u8], left: u64) -> Option<(&'b [u8], u64)> {
    let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    let (data, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    if data.is_empty() { None } else { Some((data, left - len as u64)) }
}
