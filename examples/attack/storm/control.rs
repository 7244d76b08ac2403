//! Clients that behave. Each numbers its publications and must get every answer and every publication, in
//! order, while the others attack.

use super::{
    Target,
    heard::Ears,
    session::{dial, upgrade},
};
use corecast::{
    model::Protocol,
    stdx::rng::Rng,
    wire::client::{ServerMessage, ServerPush, ServerReply, ping},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

#[derive(Clone, Copy, Debug, Default)]
pub struct Beats {
    pub count: u64,
    /// The longest that a publication took to come back.
    pub slowest: Duration,
}

pub struct Control {
    stream: TcpStream,
    ears: Ears,
    protocol: Protocol,
    channel: &'static str,
    rng: Rng,
    beats: Beats,
}

/// What one read brought.
#[derive(Default)]
struct News {
    replies: Vec<u32>,
    beats: Vec<String>,
    pinged: bool,
    wrong: Option<String>,
}

/// What they are sent is compressed, as everybody's who agrees.
const DEFLATES: bool = true;

impl Control {
    /// A client that has connected and subscribed.
    ///
    /// # Errors
    /// Why it could not.
    pub fn new(target: &Target, protocol: Protocol, channel: &'static str) -> Result<Self, String> {
        let mut stream = dial(target)?;
        stream.write_all(upgrade(protocol, DEFLATES).as_bytes()).map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).map_err(|error| error.to_string())? == 0 {
                return Err("the server refused the handshake".into());
            }
            head.extend(byte);
        }
        let mut control = Self {
            stream,
            ears: Ears::new(protocol, DEFLATES),
            protocol,
            channel,
            rng: Rng::new(1),
            beats: Beats::default(),
        };
        control.say(r#"{"id":1,"connect":{}}"#)?;
        control.until(|news| news.replies.contains(&1))?;
        control.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#))?;
        control.until(|news| news.replies.contains(&2))?;
        Ok(control)
    }

    fn say(&mut self, json: &str) -> Result<(), String> {
        let payload = super::message::encoded(self.protocol, json);
        self.frame(&payload)
    }

    fn frame(&mut self, payload: &[u8]) -> Result<(), String> {
        let mut out = Vec::new();
        super::frame::whole(&mut self.rng, super::frame::opcode_of(self.protocol), payload, &mut out);
        self.stream.write_all(&out).map_err(|error| format!("a control client cannot write: {error}"))
    }

    /// Reads once.
    fn read(&mut self, news: &mut News) -> Result<(), String> {
        let mut buffer = [0; 16 * 1024];
        let len = self
            .stream
            .read(&mut buffer)
            .map_err(|error| format!("a control client hears nothing: {error}"))?;
        if len == 0 {
            return Err(format!("a control client was cut: {:?}", self.ears.closed));
        }
        let channel = self.channel;
        self.ears.hear(&mut buffer[..len], |message| match message {
            ServerMessage::Ping => news.pinged = true,
            ServerMessage::Reply { reply: ServerReply::Error { code, message, .. }, .. } => {
                news.wrong = Some(format!("a control client got error {code} {message}"));
            }
            ServerMessage::Reply { id, .. } => news.replies.push(id),
            ServerMessage::Push { channel: of, push: ServerPush::Publication(it) } if of == channel => {
                news.beats.push(String::from_utf8_lossy(it.data).into_owned());
            }
            ServerMessage::Push { push: ServerPush::Join(_) | ServerPush::Leave(_), .. } => {}
            other => news.wrong = Some(format!("a control client got {other:?}")),
        })?;
        if let Some((code, reason)) = &self.ears.closed {
            return Err(format!("a control client was closed with {code:?} {reason}"));
        }
        if std::mem::take(&mut news.pinged) {
            self.frame(ping(self.protocol))?;
        }
        news.wrong.take().map_or(Ok(()), Err)
    }

    fn until(&mut self, done: impl Fn(&News) -> bool) -> Result<News, String> {
        let mut news = News::default();
        while !done(&news) {
            self.read(&mut news)?;
        }
        Ok(news)
    }

    /// Publishes the next number and waits for the answer and the publication.
    ///
    /// # Errors
    /// What was missing, doubled or out of order.
    pub fn beat(&mut self) -> Result<(), String> {
        self.beats.count += 1;
        let number = self.beats.count;
        let id = u32::try_from(number).map_err(|error| error.to_string())? + 2;
        let channel = self.channel;
        let begun = Instant::now();
        self.say(&format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{number}}}}}"#))?;
        let news = self.until(|news| !news.replies.is_empty() && !news.beats.is_empty())?;
        self.beats.slowest = self.beats.slowest.max(begun.elapsed());
        if news.replies != [id] || news.beats != [number.to_string()] {
            return Err(format!("beat {number}: replies {:?}, publications {:?}", news.replies, news.beats));
        }
        Ok(())
    }

    pub fn beats(&self) -> Beats {
        self.beats
    }
}
