//! The bytes of a connection to messages and control frames.
//!
//! A frame that lies whole in the bytes at hand is unmasked there and lent. Only what is incomplete is copied:
//! the start of a header, a payload that has not fully arrived, the fragments of a message. While nothing is
//! pending a decoder is one empty pointer and a flag.
//!
//! A length is checked against the limit before anything is waited for, and memory grows only with bytes that
//! have arrived. Text is checked as it arrives, so wrong text fails before its frame ends.

use super::frame::{CONTROL_LEN_MAX, FrameError, HEADER_LEN_MAX, Header, Opcode, Role, parse_header, unmask};

/// What a connection allows its peer. The same for many connections, so it is passed in.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub role: Role,
    /// Bytes of one message, fragments together; more is [`FrameError::TooBig`].
    pub message_size_limit: usize,
    /// Let RSV1 through: permessage-deflate was agreed on.
    pub compression: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    Text,
    Binary,
}

/// What the peer said. Borrows from the bytes it came in, or from the decoder if it came in several pieces.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Text is valid UTF-8, unless it is compressed: then nobody has looked yet.
    Message {
        kind: MessageKind,
        compressed: bool,
        payload: &'a [u8],
    },
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The last event. `code` is `None` when the frame had no payload.
    Close {
        code: Option<u16>,
        reason: &'a str,
    },
}

/// The state of reading one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Option<Box<Pending>>,
    /// A close or an error was handed out: what follows is not read.
    ended: bool,
}

const _: () = assert!(size_of::<Decoder>() <= 16);

#[derive(Debug)]
struct Pending {
    /// The first bytes of a header that is not whole yet.
    partial: [u8; HEADER_LEN_MAX],
    partial_len: usize,
    /// A frame whose payload is not whole yet, and how much of it is there.
    frame: Option<(Header, u64)>,
    control: [u8; CONTROL_LEN_MAX],
    control_len: usize,
    /// The message that is being put together: its kind, whether compressed, its bytes, unmasked.
    message: Option<(MessageKind, bool)>,
    payload: Vec<u8>,
    /// Bytes of `payload` that are known to be whole characters.
    utf8_len: usize,
    /// What was lent to the caller and can go.
    spent: Spent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spent {
    Nothing,
    Message,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            partial: [0; HEADER_LEN_MAX],
            partial_len: 0,
            frame: None,
            control: [0; CONTROL_LEN_MAX],
            control_len: 0,
            message: None,
            payload: Vec::new(),
            utf8_len: 0,
            spent: Spent::Nothing,
        }
    }
}

impl Decoder {
    /// Reads `bytes`, the next ones of the connection, changing them in place. Take events until there are no
    /// more: what is left in them then has been copied.
    pub fn feed<'a>(&'a mut self, bytes: &'a mut [u8], options: &'a Options) -> Frames<'a> {
        Frames { decoder: self, bytes, at: 0, options }
    }

    /// Whether a frame or a message has begun and not ended.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Bytes held for what is incomplete.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |it| size_of::<Pending>() + it.payload.capacity())
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Lets go what the last event borrowed.
    fn release(&mut self) {
        if let Some(pending) = &mut self.pending {
            if pending.spent == Spent::Message {
                pending.payload = Vec::new();
                pending.utf8_len = 0;
                pending.message = None;
                pending.spent = Spent::Nothing;
            }
            if pending.message.is_none() && pending.frame.is_none() && pending.partial_len == 0 {
                self.pending = None;
            }
        }
    }
}

/// The events of some bytes.
#[derive(Debug)]
pub struct Frames<'a> {
    decoder: &'a mut Decoder,
    bytes: &'a mut [u8],
    at: usize,
    options: &'a Options,
}

/// Where the payload of a whole frame is.
enum Payload {
    /// In the bytes at hand.
    InPlace { from: usize, to: usize },
    /// In `control` or `payload` of what is pending.
    Copied,
}

impl Frames<'_> {
    /// The next event; `None` when the bytes at hand are used up. After an error or a close there is nothing more.
    #[allow(clippy::should_implement_trait, reason = "events borrow from this: no Iterator")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, FrameError> {
        if self.decoder.ended {
            return Ok(None);
        }
        self.decoder.release();
        match self.step() {
            Ok(Some((header, payload))) => self.event(header, payload),
            Ok(None) => Ok(None),
            Err(error) => self.fail(error),
        }
    }

    fn fail<T>(&mut self, error: FrameError) -> Result<T, FrameError> {
        self.decoder.ended = true;
        self.decoder.pending = None;
        Err(error)
    }

    /// Goes on until a control frame or a message is whole.
    fn step(&mut self) -> Result<Option<(Header, Payload)>, FrameError> {
        loop {
            let Some((header, done)) = self.header()? else { return Ok(None) };
            let Some(payload) = self.payload(header, done)? else { return Ok(None) };
            if header.opcode.is_control() || header.fin {
                return Ok(Some((header, payload)));
            }
        }
    }

    /// The frame at hand and how much of its payload has been taken; `None` when its header is incomplete.
    #[inline]
    fn header(&mut self) -> Result<Option<(Header, u64)>, FrameError> {
        if let Some(pending) = &self.decoder.pending {
            if let Some(frame) = pending.frame {
                return Ok(Some(frame));
            }
            if pending.partial_len > 0 {
                return self.rest_of_header();
            }
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match parse_header(rest, self.options.role)? {
            Some(header) => {
                self.at += header.size;
                self.check(&header)?;
                Ok(Some((header, 0)))
            }
            None => {
                if !rest.is_empty() {
                    self.rest_of_header()?;
                }
                Ok(None)
            }
        }
    }

    /// Adds bytes to a header that came in pieces, one by one: none may be taken that belongs to the payload.
    fn rest_of_header(&mut self) -> Result<Option<(Header, u64)>, FrameError> {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            let pending = self.decoder.pending();
            if let Some(slot) = pending.partial.get_mut(pending.partial_len) {
                *slot = byte;
                pending.partial_len += 1;
            }
            let partial = pending.partial.get(..pending.partial_len).unwrap_or_default();
            if let Some(header) = parse_header(partial, self.options.role)? {
                pending.partial_len = 0;
                self.check(&header)?;
                return Ok(Some((header, 0)));
            }
        }
        Ok(None)
    }

    /// What the frames before and the limit say about a frame.
    fn check(&self, header: &Header) -> Result<(), FrameError> {
        let open = self.decoder.pending.as_ref().filter(|pending| pending.message.is_some());
        match (header.opcode, open) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            (Opcode::Continuation, None) => return Err(FrameError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(FrameError::Unfinished),
            (Opcode::Continuation, Some(_)) | (Opcode::Text | Opcode::Binary, None) => {}
        }
        if header.rsv1 && !self.options.compression {
            return Err(FrameError::ReservedBit);
        }
        let held = open.map_or(0, |pending| pending.payload.len());
        match usize::try_from(header.len) {
            Ok(len) if len <= self.options.message_size_limit.saturating_sub(held) => Ok(()),
            _ => Err(FrameError::TooBig),
        }
    }

    /// Takes the payload, of which `done` bytes came before, or what there is of it.
    #[inline]
    fn payload(&mut self, header: Header, done: u64) -> Result<Option<Payload>, FrameError> {
        let from = self.at;
        let missing = header.len - done;
        let room = self.bytes.len() - from;
        // Fits: not more than what is there.
        let len = usize::try_from(missing).map_or(room, |missing| missing.min(room));
        let to = from + len;
        self.at = to;
        let whole = len as u64 == missing;
        let bytes = self.bytes.get_mut(from..to).unwrap_or_default();
        if self.options.role == Role::Server {
            unmask(bytes, header.mask, (done % 4) as usize);
        }
        let alone = header.opcode != Opcode::Continuation && header.fin;
        let begun = self.decoder.pending.as_ref().is_some_and(|pending| pending.frame.is_some());
        if whole && alone && !begun {
            return Ok(Some(Payload::InPlace { from, to }));
        }
        self.keep(header, from..to)?;
        let pending = self.decoder.pending();
        pending.frame = if whole { None } else { Some((header, done + len as u64)) };
        Ok(whole.then_some(Payload::Copied))
    }

    /// Copies a piece of a payload to where it is put together.
    fn keep(&mut self, header: Header, range: std::ops::Range<usize>) -> Result<(), FrameError> {
        let bytes = self.bytes.get(range).unwrap_or_default();
        let pending = self.decoder.pending();
        if header.opcode.is_control() {
            let end = pending.control_len + bytes.len();
            if let Some(slot) = pending.control.get_mut(pending.control_len..end) {
                slot.copy_from_slice(bytes);
                pending.control_len = end;
            }
            return Ok(());
        }
        match header.opcode {
            Opcode::Text => pending.message.get_or_insert((MessageKind::Text, header.rsv1)),
            _ => pending.message.get_or_insert((MessageKind::Binary, header.rsv1)),
        };
        pending.payload.extend_from_slice(bytes);
        pending.check_text()
    }

    fn event(&mut self, header: Header, payload: Payload) -> Result<Option<Event<'_>>, FrameError> {
        if header.opcode.is_control() {
            return self.control(header.opcode, payload);
        }
        match payload {
            Payload::InPlace { from, to } => {
                let kind =
                    if header.opcode == Opcode::Text { MessageKind::Text } else { MessageKind::Binary };
                let bytes = self.bytes.get(from..to).unwrap_or_default();
                if kind == MessageKind::Text && !header.rsv1 && simdutf8::basic::from_utf8(bytes).is_err() {
                    return self.fail(FrameError::Utf8);
                }
                let payload = self.bytes.get(from..to).unwrap_or_default();
                Ok(Some(Event::Message { kind, compressed: header.rsv1, payload }))
            }
            Payload::Copied => {
                let pending = self.decoder.pending();
                let (kind, compressed) = pending.message.unwrap_or((MessageKind::Binary, false));
                if kind == MessageKind::Text && !compressed && pending.utf8_len != pending.payload.len() {
                    return self.fail(FrameError::Utf8);
                }
                let pending = self.decoder.pending();
                pending.spent = Spent::Message;
                Ok(Some(Event::Message { kind, compressed, payload: &pending.payload }))
            }
        }
    }

    fn control(&mut self, opcode: Opcode, payload: Payload) -> Result<Option<Event<'_>>, FrameError> {
        // A control frame is small: both places are looked at in the same way.
        let bytes: &[u8] = match payload {
            Payload::InPlace { from, to } => self.bytes.get(from..to).unwrap_or_default(),
            Payload::Copied => {
                let pending = self.decoder.pending.get_or_insert_default();
                let len = std::mem::take(&mut pending.control_len);
                pending.control.get(..len).unwrap_or_default()
            }
        };
        match opcode {
            Opcode::Ping => Ok(Some(Event::Ping(bytes))),
            Opcode::Pong => Ok(Some(Event::Pong(bytes))),
            _ => {
                self.decoder.ended = true;
                close(bytes).map(Some)
            }
        }
    }
}

impl Pending {
    /// Checks what was added to a text. A character may be cut at the end.
    fn check_text(&mut self) -> Result<(), FrameError> {
        if self.message != Some((MessageKind::Text, false)) {
            return Ok(());
        }
        let fresh = self.payload.get(self.utf8_len..).unwrap_or_default();
        match simdutf8::compat::from_utf8(fresh) {
            Ok(_) => self.utf8_len = self.payload.len(),
            Err(error) if error.error_len().is_none() => self.utf8_len += error.valid_up_to(),
            Err(_) => return Err(FrameError::Utf8),
        }
        Ok(())
    }
}

fn close(payload: &[u8]) -> Result<Event<'_>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Event::Close { code: None, reason: "" })
        } else {
            Err(FrameError::Close)
        };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455 section 7.4, and the IANA registry for 1012 to 1014.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::Close);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
    Ok(Event::Close { code: Some(code), reason })
}
