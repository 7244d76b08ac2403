//! Every subscriber must see every publication once and in order: the book in which that is kept.

use crate::{
    cli::{
        bench::{
            BenchError,
            engine::{Load, Traffic},
            stamp::{Run, Scanner, Seen as Scanned, Stamp},
        },
        client::message::{self, Body, Event},
    },
    model::Protocol,
    stdx::varint,
};
use hdrhistogram::Histogram;

/// Scheduled times are remembered for so many publications of each publisher; whoever lags further behind
/// has no latency taken.
const TIMES: usize = 1 << 16;

/// What arrived so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub deliveries: u64,
    /// Frames with deliveries, and the bytes of their payloads.
    pub frames: u64,
    pub bytes: u64,
    pub replies: u64,
    /// Frames with replies.
    pub reply_frames: u64,
}

impl Seen {
    /// Reads that brought deliveries, if no reply shared a read with another.
    pub fn reads(&self, traffic: Traffic) -> u64 {
        traffic.reads.saturating_sub(self.reply_frames).max(1)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub disordered: u64,
    pub unanswered: u64,
}

impl Faults {
    pub fn none(self) -> bool {
        self == Self::default()
    }
}

pub struct Check {
    protocol: Protocol,
    scanner: Scanner,
    subscribers: usize,
    publishers: Vec<Publisher>,
    /// The sequence each subscriber (row) must see next of each publisher (column).
    next: Vec<u32>,
    gaps: u64,
    disordered: u64,
    measuring: bool,
    latency: Histogram<u64>,
    pub seen: Seen,
}

struct Publisher {
    published: u32,
    answered: u32,
    scheduled_ns: Vec<u64>,
}

impl Check {
    pub fn new(protocol: Protocol, run: Run, subscribers: usize, publishers: usize) -> Self {
        let publisher = || Publisher { published: 0, answered: 0, scheduled_ns: vec![0; TIMES] };
        Self {
            protocol,
            scanner: Scanner::new(protocol, run),
            subscribers,
            publishers: (0..publishers).map(|_| publisher()).collect(),
            next: vec![0; subscribers * publishers],
            gaps: 0,
            disordered: 0,
            measuring: false,
            latency: new_histogram(),
            seen: Seen::default(),
        }
    }

    /// Notes one more publication; returns what it must carry.
    pub fn publish(&mut self, publisher: usize, scheduled_ns: u64) -> Stamp {
        let it = &mut self.publishers[publisher];
        let sequence = it.published;
        it.scheduled_ns[time_slot(sequence)] = scheduled_ns;
        it.published += 1;
        Stamp { publisher: u32::try_from(publisher).unwrap_or(u32::MAX), sequence }
    }

    /// Publications whose reply has not come.
    pub fn waiting(&self, publisher: usize) -> u32 {
        let it = &self.publishers[publisher];
        it.published.saturating_sub(it.answered)
    }

    pub fn published(&self) -> u64 {
        self.publishers.iter().map(|it| u64::from(it.published)).sum()
    }

    /// From when on, and until when, latencies count.
    pub fn measure(&mut self, on: bool) {
        self.measuring = on;
    }

    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Whether every reply and every delivery has come.
    pub fn complete(&self) -> bool {
        let published = self.published();
        let subscribers = u64::try_from(self.subscribers).unwrap_or(u64::MAX);
        self.seen.replies >= published && self.seen.deliveries >= published.saturating_mul(subscribers)
    }

    pub fn faults(&self) -> Faults {
        let missing = |next: &[u32]| -> u64 {
            next.iter()
                .zip(&self.publishers)
                .map(|(next, it)| u64::from(it.published.saturating_sub(*next)))
                .sum()
        };
        let at_the_end: u64 = self.next.chunks(self.publishers.len()).map(missing).sum();
        Faults {
            lost: self.gaps + at_the_end,
            disordered: self.disordered,
            unanswered: self.published().saturating_sub(self.seen.replies),
        }
    }

    #[inline]
    fn on_delivery(next: &mut [u32], stamp: Stamp, gaps: &mut u64, disordered: &mut u64) {
        let Some(next) = usize::try_from(stamp.publisher).ok().and_then(|it| next.get_mut(it)) else {
            *disordered += 1;
            return;
        };
        if stamp.sequence < *next {
            *disordered += 1;
            return;
        }
        *gaps += u64::from(stamp.sequence - *next);
        *next = stamp.sequence.wrapping_add(1);
    }

    fn on_subscriber(&mut self, conn: usize, frame: &[u8], now_ns: u64) -> Result<bool, BenchError> {
        let (mut ping, mut others, mut count) = (false, Vec::new(), 0u64);
        let (mut gaps, mut disordered) = (0, 0);
        // Messages of one batch have one scheduled time: they are recorded together.
        let (mut run_time, mut run_length) = (None, 0u64);
        let width = self.publishers.len();
        let next = &mut self.next[conn * width..][..width];
        let (publishers, latency, measuring) = (&self.publishers, &mut self.latency, self.measuring);
        self.scanner.scan(frame, |seen| match seen {
            Scanned::Publication(stamp) => {
                count += 1;
                Self::on_delivery(next, stamp, &mut gaps, &mut disordered);
                if measuring {
                    let time = scheduled(publishers, stamp);
                    if time != run_time {
                        record(latency, now_ns, run_time, run_length);
                        (run_time, run_length) = (time, 0);
                    }
                    run_length += 1;
                }
            }
            Scanned::Ping => ping = true,
            Scanned::Other(message) => others.push(message),
        })?;
        record(latency, now_ns, run_time, run_length);
        self.gaps += gaps;
        self.disordered += disordered;
        self.seen.deliveries += count;
        if count > 0 {
            self.seen.frames += 1;
            self.seen.bytes += u64::try_from(frame.len()).unwrap_or_default();
        }
        for other in others {
            harmless(self.protocol, other)?;
        }
        Ok(ping)
    }

    fn on_publisher(&mut self, publisher: usize, frame: &[u8]) -> Result<bool, BenchError> {
        let (mut ping, mut answered, mut others) = (false, 0, Vec::new());
        let protocol = self.protocol;
        self.scanner.scan(frame, |seen| match seen {
            Scanned::Ping => ping = true,
            Scanned::Other(message) if is_publish_reply(protocol, message) => answered += 1,
            Scanned::Other(message) => others.push(message),
            // Publishers subscribe to nothing.
            Scanned::Publication(_) => {}
        })?;
        if let Some(it) = self.publishers.get_mut(publisher) {
            it.answered += answered;
        }
        self.seen.replies += u64::from(answered);
        self.seen.reply_frames += 1;
        for other in others {
            harmless(self.protocol, other)?;
        }
        Ok(ping)
    }
}

/// Joins and the like may pass; whatever harms the run ends it.
///
/// # Errors
/// [`BenchError`] of a refused publication or an ended subscription.
pub fn harmless(protocol: Protocol, message: &[u8]) -> Result<(), BenchError> {
    let mut frame = Vec::new();
    if protocol == Protocol::Protobuf {
        varint::write(&mut frame, u64::try_from(message.len()).unwrap_or(u64::MAX));
    }
    frame.extend_from_slice(message);
    for message in message::decode(protocol, &frame)? {
        match message.body {
            Body::Error { code, message, .. } => {
                return Err(BenchError::PublishRefused { code, message });
            }
            Body::Push { event: Event::Unsubscribe { code, reason }, .. } => {
                return Err(BenchError::Unsubscribed { code, reason });
            }
            _ => {}
        }
    }
    Ok(())
}

impl Load for Check {
    #[inline]
    fn on_frame(&mut self, conn: usize, frame: &[u8], now_ns: u64) -> Result<bool, BenchError> {
        if conn < self.subscribers {
            self.on_subscriber(conn, frame, now_ns)
        } else {
            self.on_publisher(conn - self.subscribers, frame)
        }
    }
}

/// One nanosecond to one minute, to three digits.
pub fn new_histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|_| unreachable!("three digits are in the allowed range"));
    histogram.auto(true);
    histogram
}

fn time_slot(sequence: u32) -> usize {
    usize::try_from(sequence).unwrap_or_default() % TIMES
}

#[inline]
fn scheduled(publishers: &[Publisher], stamp: Stamp) -> Option<u64> {
    let it = publishers.get(usize::try_from(stamp.publisher).ok()?)?;
    let age = usize::try_from(it.published.checked_sub(stamp.sequence)?).ok()?;
    (age <= TIMES).then(|| it.scheduled_ns[time_slot(stamp.sequence)])
}

#[inline]
fn record(latency: &mut Histogram<u64>, now_ns: u64, scheduled_ns: Option<u64>, count: u64) {
    if let Some(scheduled_ns) = scheduled_ns {
        latency.saturating_record_n(now_ns.saturating_sub(scheduled_ns).max(1), count);
    }
}

/// The usual reply, by its end: `"publish":{}` in JSON, an empty field 8 in Protobuf.
pub fn is_publish_reply(protocol: Protocol, message: &[u8]) -> bool {
    match protocol {
        Protocol::Json => message.starts_with(b"{\"id\":") && message.ends_with(b",\"publish\":{}}"),
        Protocol::Protobuf => {
            message.first() == Some(&0x08) && message.len() <= 8 && message.ends_with(&[0x42, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(run: Run, stamps: &[(u32, u32)]) -> Vec<u8> {
        let mut frame = Vec::new();
        for &(publisher, sequence) in stamps {
            if !frame.is_empty() {
                frame.push(b'\n');
            }
            frame.extend_from_slice(br#"{"push":{"channel":"c","pub":{"data":"#);
            run.payload(Stamp { publisher, sequence }, 30, &mut frame);
            frame.extend_from_slice(b"}}}");
        }
        frame
    }

    // Two subscribers, two publishers, three publications of the first and one of the second.
    #[test]
    fn faults_table() {
        #[track_caller]
        fn check(name: &str, first: &[(u32, u32)], want: Faults) {
            let run = Run::new(1);
            let mut book = Check::new(Protocol::Json, run, 2, 2);
            for publisher in [0, 0, 1, 0] {
                book.publish(publisher, 5);
            }
            let all = frame(run, &[(0, 0), (0, 1), (1, 0), (0, 2)]);
            assert!(matches!(book.on_frame(1, &all, 9), Ok(false)));
            assert!(matches!(book.on_frame(0, &frame(run, first), 9), Ok(false)));
            for (conn, replies) in [(2, 3), (3, 1)] {
                let frame = vec![r#"{"id":7,"publish":{}}"#; replies].join("\n");
                assert!(matches!(book.on_frame(conn, frame.as_bytes(), 9), Ok(false)));
            }
            assert_eq!(book.faults(), want, "{name}");
            assert_eq!(book.complete(), book.seen.deliveries >= 8, "{name}");
            assert_eq!((book.waiting(0), book.waiting(1)), (0, 0));
        }
        let lost = |lost| Faults { lost, ..Faults::default() };
        check("all", &[(0, 0), (1, 0), (0, 1), (0, 2)], Faults::default());
        check("nothing", &[], lost(4));
        check("the end is missing", &[(0, 0), (1, 0), (0, 1)], lost(1));
        check("a gap", &[(0, 0), (1, 0), (0, 2)], lost(1));
        let doubled = Faults { disordered: 1, ..Faults::default() };
        check("doubled", &[(0, 0), (0, 0), (1, 0), (0, 1), (0, 2)], doubled);
        check("swapped", &[(0, 1), (0, 0), (1, 0), (0, 2)], Faults { lost: 1, disordered: 1, unanswered: 0 });
        check("unknown publisher", &[(0, 0), (0, 1), (0, 2), (2, 0), (1, 0)], doubled);
    }

    #[test]
    fn latencies_count_while_measuring() {
        let run = Run::new(1);
        let mut book = Check::new(Protocol::Json, run, 1, 1);
        for time in [1_000, 1_000, 3_000] {
            book.publish(0, time);
        }
        let deliver = |book: &mut Check, sequences: &[u32]| {
            let stamps: Vec<_> = sequences.iter().map(|it| (0, *it)).collect();
            assert!(book.on_frame(0, &frame(run, &stamps), 5_000).is_ok());
        };
        deliver(&mut book, &[0]);
        assert_eq!(book.latency().len(), 0);
        book.measure(true);
        deliver(&mut book, &[1, 2]);
        assert_eq!(book.latency().len(), 2);
        assert!(book.latency().equivalent(book.latency().max(), 4_000));
        assert!(book.latency().equivalent(book.latency().min(), 2_000));
    }

    #[test]
    fn errors_end_the_run() {
        let mut book = Check::new(Protocol::Json, Run::new(1), 1, 1);
        let error = br#"{"id":7,"error":{"code":103,"message":"permission denied"}}"#;
        assert!(matches!(book.on_frame(1, error, 0), Err(BenchError::PublishRefused { code: 103, .. })));
        let ended = br#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#;
        assert!(matches!(book.on_frame(0, ended, 0), Err(BenchError::Unsubscribed { code: 2500, .. })));
        assert!(matches!(book.on_frame(0, b"{}", 0), Ok(true)));
        let mut book = Check::new(Protocol::Protobuf, Run::new(1), 1, 1);
        book.publish(0, 0);
        assert!(matches!(book.on_frame(1, b"\x05\x08\xc8\x01\x42\x00", 0), Ok(false)));
        assert_eq!(book.faults().unanswered, 0);
        let error = b"\x07\x08\x07\x12\x03\x08\x67\x18\x00";
        assert!(book.on_frame(1, error, 0).is_err());
    }
}
