//! What a core tells one client, as messages: read from the socket when the client's connection has room, never before.

use super::connection::InUse;
use crate::stdx::varint::{self, Read};
use bytes::{Buf as _, Bytes, BytesMut};
use std::{
    io,
    os::unix::net::UnixStream as StdUnixStream,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::net::UnixStream;
use tonic::{Status, codegen::tokio_stream::Stream};

/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// How a push with a disconnect begins: field 11, a message. It is about the connection, so it names no channel.
const DISCONNECT: u8 = 11 << 3 | 2;

/// The pushes of one client. Ends after one that says disconnect.
pub(super) struct Pushes {
    socket: UnixStream,
    buffer: BytesMut,
    state: State,
    /// The connection is in use as long as this.
    _in_use: Option<InUse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come yet.
    Fresh,
    Told,
    Disconnected,
    Ended,
}

impl Pushes {
    /// Must be called in the context of a tokio runtime.
    ///
    /// # Errors
    /// The runtime cannot watch another socket.
    pub fn new(socket: StdUnixStream, in_use: Option<InUse>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        Ok(Self { socket, buffer: BytesMut::new(), state: State::Fresh, _in_use: in_use })
    }

    /// The core has closed the socket.
    fn end(&mut self) -> Option<Result<Bytes, Status>> {
        let reason = match std::mem::replace(&mut self.state, State::Ended) {
            State::Disconnected | State::Ended => return None,
            State::Fresh => "turned away: the server is full or ends",
            State::Told => "cut: too much waited for this client, or the server ends",
        };
        Some(Err(Status::unavailable(reason)))
    }

    /// Waits for bytes and reads them. `Ok(0)`: there will be none.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if self.buffer.is_empty() {
                // A client that is told nothing holds no buffer.
                self.buffer = BytesMut::new();
            }
            ready!(self.socket.poll_read_ready(context))?;
            self.buffer.reserve(READ);
            match self.socket.try_read_buf(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Stream for Pushes {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(push) = split(&mut this.buffer) {
                let is_last = push.first() == Some(&DISCONNECT);
                this.state = if is_last { State::Disconnected } else { State::Told };
                return Poll::Ready(Some(Ok(push)));
            }
            // A reset says as much as an end.
            if this.state == State::Ended || ready!(this.poll_read(context)).unwrap_or(0) == 0 {
                return Poll::Ready(this.end());
            }
        }
    }
}

/// Takes the first message out of the buffer, if it is there as a whole.
fn split(buffer: &mut BytesMut) -> Option<Bytes> {
    let Read::Value(value, len) = varint::read(buffer) else { return None };
    let size = usize::try_from(value).ok()?;
    if buffer.len() - len < size {
        buffer.reserve(len + size - buffer.len());
        return None;
    }
    buffer.advance(len);
    Some(buffer.split_to(size).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    // However the bytes of some messages are cut on their way, the messages come out.
    #[test]
    fn messages_survive_any_cut() {
        arbtest::arbtest(|u| {
            let sizes: Vec<usize> = (0..u.int_in_range(0..=6)?)
                .map(|_| Ok(*u.choose(&[0, 1, 126, 127, 128, 300, 16_383, 16_384])?))
                .collect::<Result<_, arbitrary::Error>>()?;
            let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, &size)| vec![n as u8; size]).collect();
            let mut wire = Vec::new();
            for message in &sent {
                varint::write(&mut wire, message.len() as u64);
                wire.extend_from_slice(message);
            }
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(u.int_in_range(1..=rest.len().min(20_000))?);
                buffer.extend_from_slice(piece);
                rest = behind;
                while let Some(message) = split(&mut buffer) {
                    got.push(message.to_vec());
                }
            }
            assert!(got == sent && buffer.is_empty());
            Ok(())
        });
    }
}
