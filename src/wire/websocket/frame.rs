//! Headers of frames, and masking.

/// Bytes of the longest header, mask included.
pub const HEADER_LEN_MAX: usize = 14;

/// Largest payload of a control frame.
pub const CONTROL_LEN_MAX: usize = 125;

/// Whose frames are read: those of clients must be masked, those of servers must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We are the server.
    Server,
    /// We are the client.
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// The four bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The peer broke the protocol. The connection is closed with [`FrameError::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a reserved bit is set")]
    ReservedBit,
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    #[error("a control frame in fragments")]
    FragmentedControl,
    #[error("a control frame of more than 125 bytes")]
    LongControl,
    #[error("a frame of a client without mask, or of a server with one")]
    Mask,
    #[error("a length in more bytes than it needs, or with its top bit set")]
    Length,
    #[error("a continuation of nothing")]
    NothingToContinue,
    #[error("a new message inside an unfinished one")]
    Unfinished,
    #[error("a close frame with an invalid code or a payload of one byte")]
    Close,
    #[error("text that is not UTF-8")]
    Utf8,
    #[error("a message above the limit")]
    TooBig,
    #[error("a compressed message that cannot be inflated")]
    Deflate,
}

impl FrameError {
    /// The code of the close frame that answers this. RFC 6455 section 7.4.1.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Utf8 | Self::Deflate => 1007,
            Self::TooBig => 1009,
            Self::ReservedBit
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::LongControl
            | Self::Mask
            | Self::Length
            | Self::NothingToContinue
            | Self::Unfinished
            | Self::Close => 1002,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    pub rsv1: bool,
    pub opcode: Opcode,
    /// Zero for unmasked frames.
    pub mask: [u8; 4],
    /// Bytes of the payload.
    pub len: u64,
    /// Bytes of the header itself.
    pub size: usize,
}

/// Reads the header of a frame off the front of `bytes`; `None` when they end before it does.
///
/// Checks what a header alone can break, as soon as the bytes show it. The limit for the payload and the
/// order of frames are the decoder's.
pub fn parse_header(bytes: &[u8], role: Role) -> Result<Option<Header>, FrameError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first & 0x30 != 0 {
        return Err(FrameError::ReservedBit);
    }
    let opcode = Opcode::from_bits(first & 0xf).ok_or(FrameError::ReservedOpcode(first & 0xf))?;
    let (fin, rsv1) = (first & 0x80 != 0, first & 0x40 != 0);
    if opcode.is_control() && !fin {
        return Err(FrameError::FragmentedControl);
    }
    // Compression marks the first frame of a message, and no control frame: RFC 7692 section 6.
    if rsv1 && (opcode.is_control() || opcode == Opcode::Continuation) {
        return Err(FrameError::ReservedBit);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    let masked = second & 0x80 != 0;
    if masked != (role == Role::Server) {
        return Err(FrameError::Mask);
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_LEN_MAX {
        return Err(FrameError::LongControl);
    }
    let Some((len, at)) = parse_len(short, bytes.get(2..).unwrap_or_default())? else { return Ok(None) };
    let mut header = Header { fin, rsv1, opcode, mask: [0; 4], len, size: at + 2 };
    if masked {
        let Some(mask) = bytes.get(header.size..).and_then(|rest| rest.first_chunk()) else {
            return Ok(None);
        };
        header.mask = *mask;
        header.size += 4;
    }
    Ok(Some(header))
}

/// The length and how many bytes it took behind the first two.
fn parse_len(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let (len, least, size) = match short {
        126 => match bytes.first_chunk() {
            Some(chunk) => (u64::from(u16::from_be_bytes(*chunk)), 126, 2),
            None => return Ok(None),
        },
        127 => match bytes.first_chunk() {
            Some(chunk) => (u64::from_be_bytes(*chunk), 1 << 16, 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, 0),
    };
    if len < least || len >> 63 != 0 {
        return Err(FrameError::Length);
    }
    Ok(Some((len, size)))
}

/// Masks or unmasks `bytes` in place, of which `offset` bytes of the same payload came before.
///
/// HOT: once per byte of every client's message; eight bytes a step, which the compiler widens.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let word = u64::from(u32::from_ne_bytes(mask));
    let word = word << 32 | word;
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
