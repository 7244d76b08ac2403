//! Bytes in: from the socket to whole frames or chunks, and to whole messages.

use super::{Engine, Load, Stage, body};
use crate::{
    cli::bench::{BenchError, frames, sys, transport::Transport},
    model::Protocol,
    wire::client::{Command, Request},
};
use std::{
    io::{ErrorKind, Read as _},
    mem,
};

impl Engine {
    pub(super) fn advance(
        &mut self,
        index: usize,
        ready: sys::Ready,
        buffer: &mut [u8],
        load: &mut impl Load,
    ) -> Result<(), BenchError> {
        if self.conns[index].stage == Stage::Lost {
            return Ok(());
        }
        if self.conns[index].stage == Stage::Connecting {
            let to = self.options.target.address;
            if let Some(source) = self.conns[index].stream.stream().take_error()? {
                return Err(BenchError::Connect { to, source });
            }
            if !ready.writable {
                return Ok(());
            }
            self.conns[index].stage = Stage::Upgrading;
            self.request(index, load)?;
        }
        if ready.writable && !self.conns[index].out.is_empty() {
            self.flush(index)?;
        }
        loop {
            let conn = &mut self.conns[index];
            let carried = conn.carry.len();
            buffer[..carried].copy_from_slice(&conn.carry);
            let filled = match conn.stream.read(&mut buffer[carried..]) {
                Ok(0) => return Err(BenchError::Closed { code: 1006, reason: "end of stream".into() }),
                Ok(count) => carried + count,
                // A handshake that was done by reading lets out what waited for it.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.flush(index),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.traffic.reads += 1;
            self.traffic.bytes += u64::try_from(filled - carried).unwrap_or_default();
            let used = self.consume(index, &buffer[..filled], load)?;
            let carry = &mut self.conns[index].carry;
            carry.clear();
            carry.extend_from_slice(&buffer[used..filled]);
            // A short read has emptied the socket; only the end of the stream hides behind it.
            if filled < buffer.len() && !ready.hangup && self.conns[index].stream.is_plain() {
                return Ok(());
            }
        }
    }

    /// Handles the whole frames or chunks in `input`; returns how many bytes they were.
    fn consume(&mut self, index: usize, input: &[u8], load: &mut impl Load) -> Result<usize, BenchError> {
        let websocket = self.conns[index].transport == Transport::Websocket;
        let at = match self.conns[index].stage {
            Stage::Upgrading if websocket => self.upgraded(index, input, load)?,
            Stage::Upgrading => self.begun(index, input)?,
            _ => 0,
        };
        if self.conns[index].stage == Stage::Upgrading {
            return Ok(0);
        }
        if websocket { self.frames(index, input, at, load) } else { self.chunks(index, input, at, load) }
    }

    fn frames(
        &mut self,
        index: usize,
        input: &[u8],
        mut at: usize,
        load: &mut impl Load,
    ) -> Result<usize, BenchError> {
        let now = self.now_ns();
        while let Some(frame) = frames::next(input, at)? {
            at = frame.payload.end;
            let payload = &input[frame.payload];
            match frame.opcode {
                frames::CLOSE => {
                    let (code, reason) = frames::close_reason(payload);
                    return Err(BenchError::Closed { code, reason });
                }
                frames::PING => {
                    self.frame(frames::PONG, |out| out.extend_from_slice(payload));
                    self.write(index)?;
                }
                frames::PONG => {}
                _ if frame.fin && self.conns[index].fragments.is_empty() => {
                    self.data(index, payload, frame.compressed, now, load)?;
                }
                _ => {
                    let conn = &mut self.conns[index];
                    // Only the first frame says so.
                    conn.compressed |= frame.compressed;
                    let fragments = &mut conn.fragments;
                    fragments.extend_from_slice(payload);
                    if fragments.len() > frames::FRAME_MAX {
                        let len = u64::try_from(fragments.len()).unwrap_or(u64::MAX);
                        return Err(frames::FrameError::TooLong(len).into());
                    }
                    if frame.fin {
                        let (whole, compressed) = (mem::take(fragments), mem::take(&mut conn.compressed));
                        self.data(index, &whole, compressed, now, load)?;
                    }
                }
            }
        }
        Ok(at)
    }

    fn chunks(
        &mut self,
        index: usize,
        input: &[u8],
        mut at: usize,
        load: &mut impl Load,
    ) -> Result<usize, BenchError> {
        let now = self.now_ns();
        while let Some(chunk) = body::next(input, at)? {
            at = chunk.end;
            let data = &input[chunk.data];
            if data.is_empty() {
                return Err(BenchError::Closed { code: 1006, reason: "end of the body".into() });
            }
            self.part(index, data, now, load)?;
        }
        Ok(at)
    }

    /// A part of the body. Usually all of its messages are whole.
    #[inline]
    fn part(&mut self, index: usize, data: &[u8], now: u64, load: &mut impl Load) -> Result<(), BenchError> {
        let conn = &mut self.conns[index];
        let (transport, protocol) = (conn.transport, self.options.protocol);
        if conn.fragments.is_empty() && body::whole(transport, protocol, data) == data.len() {
            return self.messages(index, data, now, load);
        }
        let mut waiting = mem::take(&mut conn.fragments);
        waiting.extend_from_slice(data);
        let whole = body::whole(transport, protocol, &waiting);
        if waiting.len() - whole > frames::FRAME_MAX {
            let len = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
            return Err(frames::FrameError::TooLong(len).into());
        }
        self.messages(index, &waiting[..whole], now, load)?;
        waiting.drain(..whole);
        self.conns[index].fragments = waiting;
        Ok(())
    }

    /// Whole messages of a body, handed on as another transport has them in a frame.
    #[inline]
    fn messages(
        &mut self,
        index: usize,
        messages: &[u8],
        now: u64,
        load: &mut impl Load,
    ) -> Result<(), BenchError> {
        if self.conns[index].transport == Transport::Sse {
            let mut lines = mem::take(&mut self.lines);
            body::read_events(messages, &mut lines);
            let result = if lines.is_empty() { Ok(()) } else { self.message(index, &lines, now, load) };
            self.lines = lines;
            return result;
        }
        let messages = match self.options.protocol {
            Protocol::Json => messages.strip_suffix(b"\n").unwrap_or(messages),
            Protocol::Protobuf => messages,
        };
        if messages.is_empty() { Ok(()) } else { self.message(index, messages, now, load) }
    }

    #[inline]
    fn data(
        &mut self,
        index: usize,
        payload: &[u8],
        compressed: bool,
        now: u64,
        load: &mut impl Load,
    ) -> Result<(), BenchError> {
        if !compressed {
            return self.message(index, payload, now, load);
        }
        let mut inflate = self.inflate.take().ok_or(frames::FrameError::Header)?;
        let result = match inflate.message(payload) {
            Ok(message) => self.message(index, message, now, load),
            Err(error) => Err(error.into()),
        };
        self.inflate = Some(inflate);
        result
    }

    #[inline]
    fn message(
        &mut self,
        index: usize,
        message: &[u8],
        now: u64,
        load: &mut impl Load,
    ) -> Result<(), BenchError> {
        let ping = match self.conns[index].stage {
            Stage::Ready => load.on_frame(index, message, now)?,
            _ => self.greet(index, message, now, load)?,
        };
        if ping && self.pong {
            if self.conns[index].transport != Transport::Websocket {
                return Err(BenchError::Usage(
                    "the server waits for answers to its pings, which this client gives over WebSocket only: let its \
                     client.ping_interval be longer than the run",
                ));
            }
            self.command(&Command { id: 0, request: Request::None });
            self.write(index)?;
        }
        Ok(())
    }
}
