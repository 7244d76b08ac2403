//! A WebSocket client that does exactly what a test says, right or wrong.

use crate::server::{PATIENCE, Server};
use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::TcpStream,
};

pub struct WebSocket {
    pub stream: TcpStream,
    /// Bytes read and not used.
    bytes: Vec<u8>,
    /// Messages of text frames that were read and not asked for.
    lines: VecDeque<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The connection ended without a close frame.
    Eof,
}

pub const PATH: &str = "/connection/websocket";

pub fn upgrade(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// A client's frame with this first byte; masked, the shortest length.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

impl WebSocket {
    pub fn open(server: &Server) -> Self {
        Self::open_at(server, PATH, "").0
    }

    /// With the head of the answer.
    pub fn open_at(server: &Server, path: &str, fields: &str) -> (Self, String) {
        Self::open_on(server.connect(), path, fields)
    }

    pub fn open_on(stream: TcpStream, path: &str, fields: &str) -> (Self, String) {
        let mut websocket = Self::over(stream);
        websocket.raw(upgrade(path, fields).as_bytes());
        let head = websocket.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (websocket, head)
    }

    /// Over a stream on which the handshake is done.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::new(), lines: VecDeque::new() }
    }

    /// Opened, and connected as a client of the protocol. Answers the reply.
    pub fn connected(server: &Server) -> (Self, String) {
        let mut websocket = Self::open(server);
        websocket.text(r#"{"id":1,"connect":{}}"#);
        let reply = websocket.line();
        assert!(reply.starts_with(r#"{"id":1,"connect":{"client":""#), "{reply}");
        (websocket, reply)
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a write");
    }

    pub fn text(&mut self, text: &str) {
        self.raw(&frame(0x81, text.as_bytes()));
    }

    pub fn binary(&mut self, bytes: &[u8]) {
        self.raw(&frame(0x82, bytes));
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(len) => {
                self.bytes.extend_from_slice(&buffer[..len]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            // The process was stopped and goes on.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.more(),
            Err(error) => panic!("nothing came within {PATIENCE:?}: {error}"),
        }
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < len {
            if !self.more() {
                return None;
            }
        }
        Some(self.bytes.drain(..len).collect())
    }

    fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                let head = self.bytes.drain(..at + 4).collect();
                return String::from_utf8(head).expect("a head");
            }
            assert!(self.more(), "the connection ended in a head");
        }
    }

    /// First byte and payload of the next frame; `None`: the connection ended.
    pub fn parts(&mut self) -> Option<(u8, Vec<u8>)> {
        let header = self.take(2)?;
        let mut number = |len: usize| {
            let bytes = self.take(len).expect("a length");
            bytes.iter().fold(0usize, |number, &byte| number << 8 | usize::from(byte))
        };
        let len = match header[1] {
            126 => number(2),
            127 => number(8),
            len => usize::from(len),
        };
        Some((header[0], self.take(len).expect("a payload")))
    }

    /// The next frame; the server's are never masked and never in fragments.
    pub fn frame(&mut self) -> Frame {
        let Some((first, payload)) = self.parts() else { return Frame::Eof };
        assert_eq!(first & 0xf0, 0x80, "whole frames without reserved bits");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        match first & 0xf {
            1 => Frame::Text(text(&payload)),
            2 => Frame::Binary(payload),
            8 if payload.is_empty() => Frame::Close(None, String::new()),
            8 => Frame::Close(Some(u16::from_be_bytes([payload[0], payload[1]])), text(&payload[2..])),
            9 => Frame::Ping(payload),
            10 => Frame::Pong(payload),
            opcode => panic!("opcode {opcode}"),
        }
    }

    /// The next message of the protocol.
    #[track_caller]
    pub fn line(&mut self) -> String {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return line;
            }
            match self.frame() {
                Frame::Text(text) => self.lines.extend(text.split('\n').map(str::to_owned)),
                other => panic!("{other:?} instead of a message"),
            }
        }
    }

    /// What ends the connection; nothing but close may come.
    #[track_caller]
    pub fn close(&mut self) -> (u16, String) {
        assert_eq!(self.lines, [""; 0], "messages nobody asked for");
        match self.frame() {
            Frame::Close(Some(code), reason) => {
                // Answered as a client does; the server then ends the stream.
                let _ = self.stream.write_all(&frame(0x88, &code.to_be_bytes()));
                assert_eq!(self.frame(), Frame::Eof, "bytes behind the close frame");
                (code, reason)
            }
            other => panic!("{other:?} instead of a close"),
        }
    }
}
