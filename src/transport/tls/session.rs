//! One TLS connection: ciphertext in, plain bytes out, and back. No sockets.

use rustls::{
    Error, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};
use std::{net::SocketAddr, sync::Arc};

/// What a record adds to its contents at most, in every version and suite.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
/// Plain bytes of a full record.
const RECORD_MAX: usize = 16 * 1024;
/// Room for what TLS itself may want to say before the next record: tickets, key updates, alerts.
const ASIDES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A PROXY protocol header comes first.
    Proxied,
    Handshaking,
    Open,
    /// Nothing is understood any more; the last words may be on their way.
    Failed,
}

/// How far a peer's bytes led.
#[derive(Debug)]
pub enum Read {
    /// More are needed.
    On,
    /// The peer said that it sends nothing more.
    Closed,
    Failed(Error),
}

pub struct Session {
    tls: UnbufferedServerConnection,
    pub peer: SocketAddr,
    pub phase: Phase,
    /// What came of a record or a message of the handshake that is not complete. Idle: empty, without memory.
    pub incoming: Vec<u8>,
    /// Ciphertext the socket has not taken. Idle: empty, without memory.
    pub outgoing: Vec<u8>,
    /// Bytes that came before the handshake was done.
    pub received: usize,
    /// In the queue of handshakes.
    pub queued: bool,
    /// On the list of those with something to write or to close.
    pub listed: bool,
    /// The socket takes nothing; `on_writable` will come.
    pub blocked: bool,
    /// The driver above waits for `on_writable`.
    pub inner_blocked: bool,
    /// The driver above was told of the end.
    pub told: bool,
    /// To be closed with this time to linger, once everything is written.
    pub closing: Option<u32>,
}

impl Session {
    /// # Errors
    /// The configuration cannot be used for any connection.
    pub fn new(config: Arc<ServerConfig>, peer: SocketAddr, phase: Phase) -> Result<Self, Error> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            peer,
            phase,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            received: 0,
            queued: false,
            listed: false,
            blocked: false,
            inner_blocked: false,
            told: false,
            closing: None,
        })
    }

    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Takes bytes of the peer, behind those that wait, and hands plain ones to `deliver`. What TLS answers is
    /// left in `outgoing`.
    pub fn read(&mut self, bytes: &mut [u8], deliver: &mut dyn FnMut(&[u8])) -> Read {
        let mut kept = std::mem::take(&mut self.incoming);
        if kept.is_empty() {
            let (used, read) = self.process(bytes, deliver);
            self.incoming = bytes[used..].to_vec();
            return read;
        }
        kept.extend_from_slice(bytes);
        let (used, read) = self.process(&mut kept, deliver);
        if used < kept.len() {
            kept.drain(..used);
            self.incoming = kept;
        }
        read
    }

    /// Bytes that are done with, and how it goes on.
    fn process(&mut self, bytes: &mut [u8], deliver: &mut dyn FnMut(&[u8])) -> (usize, Read) {
        let mut used = 0;
        let mut read = Read::On;
        loop {
            let (discard, step) = step(&mut self.tls, &mut bytes[used..], &mut self.outgoing, deliver);
            used += discard;
            match step {
                Step::On => {}
                Step::Closed => read = Read::Closed,
                Step::Wait => return (used, read),
                Step::Failed(error) => {
                    take_alert(&mut self.tls, &mut bytes[used..], &mut self.outgoing);
                    return (used, Read::Failed(error));
                }
            }
        }
    }

    /// Bytes of ciphertext that [`Session::seal`] makes of so many plain ones, at most.
    pub fn sealed_len(plain: usize) -> usize {
        plain + (plain / RECORD_MAX + 1) * RECORD_OVERHEAD + ASIDES
    }

    /// Seals `plain` into full records at the front of `room`, which has [`Session::sealed_len`] bytes. Returns the
    /// bytes of ciphertext; `None`: this connection cannot send any more.
    pub fn seal(&mut self, plain: &[u8], room: &mut [u8]) -> Option<usize> {
        self.write(room, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Says in `outgoing` that nothing more will be sent.
    pub fn say_goodbye(&mut self) {
        let mut room = [0; ASIDES];
        if let Some(len) = self.write(&mut room, |traffic, room| traffic.queue_close_notify(room)) {
            self.outgoing.extend_from_slice(&room[..len]);
        }
    }

    fn write(
        &mut self,
        room: &mut [u8],
        write: impl Fn(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Option<usize> {
        let mut len = 0;
        loop {
            // What waits was processed as far as it goes: this only asks for the state. The very bytes must be
            // there, because parts of messages may have been noted by their places.
            match self.tls.process_tls_records(&mut self.incoming).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return write(&mut traffic, &mut room[len..]).ok().map(|written| len + written);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => len += data.encode(&mut room[len..]).ok()?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return None,
            }
        }
    }
}

/// What one look at the bytes brought.
enum Step {
    On,
    /// The peer will send nothing more.
    Closed,
    /// Nothing can be done with what is there.
    Wait,
    Failed(Error),
}

/// Bytes to discard, and how it goes on.
fn step(
    tls: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    out: &mut Vec<u8>,
    deliver: &mut dyn FnMut(&[u8]),
) -> (usize, Step) {
    let UnbufferedStatus { mut discard, state } = tls.process_tls_records(bytes);
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Step::On,
                Some(Ok(record)) => {
                    discard += record.discard;
                    deliver(record.payload);
                }
                Some(Err(error)) => break Step::Failed(error),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(&mut data, out);
            Step::On
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::On
        }
        Ok(ConnectionState::PeerClosed) => Step::Closed,
        Ok(
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed,
        ) => Step::Wait,
        // Early data is not offered; states to come are not understood.
        Ok(_) => Step::Failed(Error::General("an unknown state".into())),
        Err(error) => Step::Failed(error),
    };
    (discard, step)
}

/// After an error: what the peer is told about it. To be asked once, because asking looks at the bytes again.
fn take_alert(tls: &mut UnbufferedServerConnection, bytes: &mut [u8], out: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process_tls_records(bytes).state {
        encode(&mut data, out);
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    // It says how much room it wants when it gets none.
    if let Err(EncodeError::InsufficientSize(short)) = data.encode(&mut []) {
        let at = out.len();
        out.resize(at + short.required_size, 0);
        let _ = data.encode(&mut out[at..]);
    }
}
