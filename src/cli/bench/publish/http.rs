//! The publishing connections, their requests, and the book of what arrived.

use super::answer;
use crate::{
    cli::{
        bench::{
            BenchError,
            engine::{Engine, Load, write_out},
            fanout::new_histogram,
            stamp::{Run, Scanner, Seen as Scanned, Stamp},
            sys,
        },
        client::Target,
    },
    model::Protocol,
};
use hdrhistogram::Histogram;
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read},
    net::TcpStream,
    os::fd::AsRawFd,
    time::Instant,
};

/// Tokens of publishing connections begin here, above any number of subscribers.
const TOKENS: u64 = 1 << 40;
const READ_BYTES: usize = 64 * 1024;

pub struct Workload {
    pub run: Run,
    /// Requests are batches, if only of one.
    pub batched: bool,
    pub batch: u32,
    pub pipeline: usize,
    pub channel: String,
    pub channels: usize,
    pub subscribers_each: usize,
    pub size: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub published: u64,
    pub answered: u64,
    pub deliveries: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub disordered: u64,
    pub unanswered: u64,
}

struct Conn {
    stream: TcpStream,
    connected: bool,
    input: Vec<u8>,
    out: Vec<u8>,
    /// When the requests without an answer were written.
    waiting: VecDeque<u64>,
    /// The channel it publishes to next.
    channel: usize,
}

pub struct Http {
    workload: Workload,
    target: Target,
    key: String,
    /// One channel: the name as it is; several: numbered.
    names: Vec<String>,
    conns: Vec<Conn>,
    sending: bool,
    measuring: bool,
    started: Instant,
    scanner: Scanner,
    /// The sequence of the next publication, by channel.
    published: Vec<u32>,
    /// The sequence that must come next, by subscriber.
    next: Vec<u32>,
    gaps: u64,
    disordered: u64,
    latency: Histogram<u64>,
    pub seen: Seen,
}

impl Http {
    pub fn new(workload: Workload, target: Target, key: String, protocol: Protocol) -> Self {
        let names = match workload.channels {
            1 => vec![workload.channel.clone()],
            count => (0..count).map(|number| format!("{}{number}", workload.channel)).collect(),
        };
        let latency = new_histogram();
        Self {
            scanner: Scanner::new(protocol, workload.run),
            published: vec![0; workload.channels],
            next: vec![0; workload.channels * workload.subscribers_each],
            workload,
            target,
            key,
            names,
            conns: Vec::new(),
            sending: false,
            measuring: false,
            started: Instant::now(),
            gaps: 0,
            disordered: 0,
            latency,
            seen: Seen::default(),
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// From when on, and until when, latencies count.
    pub fn measure(&mut self, on: bool) {
        self.measuring = on;
    }

    /// Begins to connect `count` publishing connections.
    ///
    /// # Errors
    /// [`BenchError`] when the kernel refuses one.
    pub fn connect(&mut self, engine: &Engine, count: usize) -> Result<(), BenchError> {
        let to = self.target.address;
        for number in 0..count {
            let stream = sys::connect(to, None).map_err(|source| BenchError::Connect { to, source })?;
            stream.set_nodelay(true)?;
            engine.watch(stream.as_raw_fd(), TOKENS + u64::try_from(number).unwrap_or_default())?;
            let (input, out, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
            let channel = number % self.workload.channels;
            self.conns.push(Conn { stream, connected: false, input, out, waiting, channel });
        }
        Ok(())
    }

    /// Sends from here on; connections that are still on their way begin when they are there.
    ///
    /// # Errors
    /// [`BenchError`] when a connection has failed.
    pub fn start(&mut self) -> Result<(), BenchError> {
        self.sending = true;
        (0..self.conns.len()).try_for_each(|index| self.fill(index))
    }

    /// Sends nothing more.
    pub fn stop(&mut self) {
        self.sending = false;
    }

    /// Whether every answer and every delivery has come.
    pub fn complete(&self) -> bool {
        let each = u64::try_from(self.workload.subscribers_each).unwrap_or(u64::MAX);
        self.seen.answered >= self.seen.published
            && self.seen.deliveries >= self.seen.published.saturating_mul(each)
    }

    pub fn faults(&self) -> Faults {
        let each = self.workload.subscribers_each.max(1);
        let missing = |(subscriber, next): (usize, &u32)| {
            u64::from(self.published[subscriber / each].saturating_sub(*next))
        };
        Faults {
            lost: self.gaps + self.next.iter().enumerate().map(missing).sum::<u64>(),
            disordered: self.disordered,
            unanswered: self.seen.published.saturating_sub(self.seen.answered),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Sends what connection `index` has room for, in one write.
    fn fill(&mut self, index: usize) -> Result<(), BenchError> {
        let now_ns = self.now_ns();
        while self.sending
            && self.conns[index].connected
            && self.conns[index].waiting.len() < self.workload.pipeline
        {
            self.request(index);
            self.conns[index].waiting.push_back(now_ns);
        }
        self.flush(index)
    }

    /// Appends one request.
    fn request(&mut self, index: usize) {
        let mut body = Vec::with_capacity(usize::try_from(self.workload.batch).unwrap_or(1) * 256);
        if self.workload.batched {
            body.extend_from_slice(b"{\"commands\":[");
        }
        for at in 0..self.workload.batch {
            if at > 0 {
                body.push(b',');
            }
            let channel = self.next_channel(index);
            let sequence = self.published[channel];
            self.published[channel] = sequence.wrapping_add(1);
            self.seen.published += 1;
            let publisher = u32::try_from(channel).unwrap_or(u32::MAX);
            let name = serde_json::to_string(&self.names[channel]).unwrap_or_default();
            if self.workload.batched {
                body.extend_from_slice(b"{\"publish\":");
            }
            body.extend_from_slice(format!("{{\"channel\":{name},\"data\":").as_bytes());
            self.workload.run.payload(Stamp { publisher, sequence }, self.workload.size, &mut body);
            body.extend_from_slice(if self.workload.batched { b"}}" } else { b"}" });
        }
        if self.workload.batched {
            body.extend_from_slice(b"]}");
        }
        let method = if self.workload.batched { "batch" } else { "publish" };
        let key = if self.key.is_empty() { String::new() } else { format!("X-API-Key: {}\r\n", self.key) };
        let head = format!(
            "POST {}/{method} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n",
            self.target.path.trim_end_matches('/'),
            self.target.host,
            body.len()
        );
        let out = &mut self.conns[index].out;
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&body);
    }

    /// Every connection goes round its own channels; without subscribers they may share some.
    fn next_channel(&mut self, index: usize) -> usize {
        let (step, conn) = (self.conns.len(), &mut self.conns[index]);
        let channel = conn.channel;
        conn.channel += step;
        if conn.channel >= self.workload.channels {
            conn.channel = index % self.workload.channels;
        }
        channel
    }

    fn flush(&mut self, index: usize) -> Result<(), BenchError> {
        let conn = &mut self.conns[index];
        if !conn.connected {
            return Ok(());
        }
        Ok(write_out(&mut conn.stream, &mut conn.out)?)
    }

    fn receive(&mut self, index: usize) -> Result<(), BenchError> {
        let mut part = [0; READ_BYTES];
        loop {
            match self.conns[index].stream.read(&mut part) {
                Ok(0) => return Err(BenchError::Http("the server closed a connection".into())),
                Ok(count) => self.conns[index].input.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            self.answers(index)?;
        }
    }

    /// Takes the whole answers of connection `index`.
    fn answers(&mut self, index: usize) -> Result<(), BenchError> {
        let now_ns = self.now_ns();
        let conn = &mut self.conns[index];
        let mut at = 0;
        while let Some(answer) = answer::read(&conn.input[at..]).map_err(BenchError::Http)? {
            answer::check(&answer, self.workload.batched, self.workload.batch).map_err(BenchError::Http)?;
            at += answer.used;
            let Some(sent_ns) = conn.waiting.pop_front() else {
                return Err(BenchError::Http("an answer to nothing".into()));
            };
            self.seen.answered += u64::from(self.workload.batch);
            if self.measuring {
                self.latency.saturating_record(now_ns.saturating_sub(sent_ns).max(1));
            }
        }
        conn.input.drain(..at);
        Ok(())
    }

    fn on_delivery(&mut self, subscriber: usize, stamp: Stamp) {
        self.seen.deliveries += 1;
        let channel = subscriber / self.workload.subscribers_each.max(1);
        let next = &mut self.next[subscriber];
        if usize::try_from(stamp.publisher) != Ok(channel) || stamp.sequence < *next {
            self.disordered += 1;
            return;
        }
        self.gaps += u64::from(stamp.sequence - *next);
        *next = stamp.sequence.wrapping_add(1);
    }
}

impl Load for Http {
    fn on_frame(&mut self, conn: usize, frame: &[u8], _: u64) -> Result<bool, BenchError> {
        let (mut ping, mut stamps) = (false, Vec::new());
        self.scanner.scan(frame, |seen| match seen {
            Scanned::Publication(stamp) => stamps.push(stamp),
            Scanned::Ping => ping = true,
            // Joins of others.
            Scanned::Other(_) => {}
        })?;
        stamps.into_iter().for_each(|stamp| self.on_delivery(conn, stamp));
        Ok(ping)
    }

    fn on_socket(&mut self, token: u64, ready: sys::Ready) -> Result<(), BenchError> {
        let Some(index) = token.checked_sub(TOKENS).and_then(|it| usize::try_from(it).ok()) else {
            return Ok(());
        };
        let Some(conn) = self.conns.get_mut(index) else { return Ok(()) };
        if !conn.connected {
            let to = self.target.address;
            if let Some(source) = conn.stream.take_error()? {
                return Err(BenchError::Connect { to, source });
            }
            conn.connected = ready.writable;
        }
        if conn.connected {
            self.receive(index)?;
            self.fill(index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(channels: usize, subscribers_each: usize) -> Http {
        let workload = Workload {
            run: Run::new(1),
            batched: false,
            batch: 1,
            pipeline: 1,
            channel: "c".into(),
            channels,
            subscribers_each,
            size: 30,
        };
        let target = Target::parse("http://127.0.0.1:1/api").unwrap();
        Http::new(workload, target, String::new(), Protocol::Json)
    }

    // Two channels with two subscribers each; the second channel got two publications.
    #[test]
    fn faults_table() {
        #[track_caller]
        fn check(name: &str, third: &[(u32, u32)], want: Faults) {
            let mut book = http(2, 2);
            book.published = vec![0, 2];
            book.seen = Seen { published: 2, answered: 2, deliveries: 0 };
            for (conn, stamps) in [(3, [(1, 0), (1, 1)].as_slice()), (2, third)] {
                for &(publisher, sequence) in stamps {
                    let mut frame = br#"{"push":{"channel":"c1","pub":{"data":"#.to_vec();
                    book.workload.run.payload(Stamp { publisher, sequence }, 30, &mut frame);
                    frame.extend_from_slice(b"}}}");
                    assert!(matches!(book.on_frame(conn, &frame, 0), Ok(false)));
                }
            }
            assert_eq!(book.faults(), want, "{name}");
            assert_eq!(book.complete(), book.seen.deliveries >= 4, "{name}");
        }
        check("all", &[(1, 0), (1, 1)], Faults::default());
        check("one lost", &[(1, 0)], Faults { lost: 1, ..Faults::default() });
        check("first lost", &[(1, 1)], Faults { lost: 1, ..Faults::default() });
        check("doubled", &[(1, 0), (1, 0), (1, 1)], Faults { disordered: 1, ..Faults::default() });
        check("of another channel", &[(1, 0), (0, 1), (1, 1)], Faults { disordered: 1, ..Faults::default() });
    }

    #[test]
    fn names_are_numbered_when_there_are_several() {
        assert_eq!(http(1, 0).names(), ["c"]);
        assert_eq!(http(2, 0).names(), ["c0", "c1"]);
    }
}
