//! Whether everybody gets exactly what was missed: the book in which that is kept.

use crate::{
    cli::{
        bench::{
            BenchError,
            engine::Load,
            stamp::{Run, Stamp},
        },
        client::message::{self, Body, Event, Subscribed},
    },
    model::Protocol,
    wire::client::SubscribeRequest,
};

/// The payload of one publication of this run.
pub fn payload(run: Run, channel: usize, round: u32, sequence: u32, size: usize) -> Vec<u8> {
    let publisher = u32::try_from(channel).unwrap_or(u32::MAX);
    let mut payload = Vec::with_capacity(size);
    run.payload(
        Stamp { publisher, sequence: round.wrapping_mul(1 << 16).wrapping_add(sequence) },
        size,
        &mut payload,
    );
    payload
}

#[derive(Clone, Debug)]
struct Position {
    epoch: String,
    offset: u64,
}

pub struct Check {
    protocol: Protocol,
    run: Run,
    channels: usize,
    missed: u32,
    size: usize,
    /// What the connections missed before they came back; `None` the first time.
    round: Option<u32>,
    /// By connection, connection 0 has none.
    positions: Vec<Option<Position>>,
    /// When connections were subscribed, in no order.
    pub ready_ns: Vec<u64>,
    /// Replies to publications.
    pub replies: u64,
    pub recovered: u64,
    pub wrong: u64,
    /// What was wrong first.
    pub example: Option<String>,
}

impl Check {
    pub fn new(
        protocol: Protocol,
        run: Run,
        connections: usize,
        channels: usize,
        missed: u32,
        size: usize,
    ) -> Self {
        Self {
            protocol,
            run,
            channels,
            missed,
            size,
            round: None,
            positions: vec![None; connections + 1],
            ready_ns: Vec::with_capacity(connections),
            replies: 0,
            recovered: 0,
            wrong: 0,
            example: None,
        }
    }

    /// Whoever subscribes from here on has missed the publications of `round`.
    pub fn expect(&mut self, round: u32) {
        self.round = Some(round);
    }

    /// What is wrong with what connection `conn` was given after `round`.
    fn judge(&self, conn: usize, round: u32, it: &Subscribed) -> Result<(), String> {
        let Some(before) = self.positions.get(conn).and_then(Option::as_ref) else {
            return Err("it was never subscribed before".into());
        };
        if !it.recovered || it.epoch != before.epoch {
            return Err(format!("not recovered from offset {}", before.offset));
        }
        let count = it.publications.len();
        if u32::try_from(count) != Ok(self.missed) {
            return Err(format!("{count} publications were recovered, {} were missed", self.missed));
        }
        let channel = conn.wrapping_sub(1) % self.channels;
        for ((publication, offset), sequence) in it.publications.iter().zip(before.offset + 1..).zip(0..) {
            let want = payload(self.run, channel, round, sequence, self.size);
            if publication.offset != offset || publication.data != want {
                return Err(format!(
                    "publication {sequence} is another one, at offset {}",
                    publication.offset
                ));
            }
        }
        Ok(())
    }
}

impl Load for Check {
    fn on_frame(&mut self, conn: usize, frame: &[u8], _: u64) -> Result<bool, BenchError> {
        let mut ping = false;
        for message in message::decode(self.protocol, frame)? {
            match message.body {
                Body::Ping => ping = true,
                Body::Error { code, message, .. } => {
                    return Err(BenchError::PublishRefused { code, message });
                }
                Body::Push { event: Event::Unsubscribe { code, reason }, .. } => {
                    return Err(BenchError::Unsubscribed { code, reason });
                }
                Body::Other if conn == 0 => self.replies += 1,
                _ => {}
            }
        }
        Ok(ping)
    }

    fn wish(&self, conn: usize, request: &mut SubscribeRequest<'static>) {
        request.recoverable = true;
        if let (Some(_), Some(Some(position))) = (self.round, self.positions.get(conn)) {
            request.recover = true;
            request.epoch = position.epoch.clone().into();
            request.offset = position.offset;
        }
    }

    fn on_subscribed(&mut self, conn: usize, it: Subscribed, now_ns: u64) -> Result<(), BenchError> {
        if !it.recoverable {
            return Err(BenchError::Usage("the channels do not allow recovery; see --help"));
        }
        self.ready_ns.push(now_ns);
        if let Some(round) = self.round {
            match self.judge(conn, round, &it) {
                Ok(()) => self.recovered += 1,
                Err(problem) => {
                    self.wrong += 1;
                    self.example.get_or_insert(problem);
                }
            }
        }
        let last = it.publications.last().map_or(0, |publication| publication.offset);
        if let Some(position) = self.positions.get_mut(conn) {
            *position = Some(Position { epoch: it.epoch, offset: it.offset.max(last) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::message::Received;

    const SIZE: usize = 30;

    fn subscribed(offset: u64, offsets: &[u64], recovered: bool) -> Subscribed {
        let received = |(sequence, &offset): (u32, &u64)| Received {
            data: payload(Run::new(1), 1, 4, sequence, SIZE),
            offset,
            info: None,
        };
        Subscribed {
            recoverable: true,
            epoch: "e".into(),
            offset,
            recovered,
            was_recovering: true,
            publications: (0..).zip(offsets).map(received).collect(),
        }
    }

    // Connection 2 of three channels stood at offset 7 and missed two.
    #[test]
    fn recovery_table() {
        #[track_caller]
        fn check(name: &str, it: Subscribed, want: Result<(), &str>) {
            let mut book = Check::new(Protocol::Json, Run::new(1), 3, 3, 2, SIZE);
            assert!(book.on_subscribed(2, subscribed(7, &[], false), 1).is_ok());
            assert_eq!((book.recovered, book.wrong, book.ready_ns.len()), (0, 0, 1));
            let mut request = SubscribeRequest::default();
            book.wish(2, &mut request);
            assert!(request.recoverable && !request.recover, "{name}");
            book.expect(4);
            book.wish(2, &mut request);
            assert_eq!((request.recover, request.offset, &*request.epoch), (true, 7, "e"), "{name}");
            assert!(book.on_subscribed(2, it, 2).is_ok());
            assert_eq!(book.recovered, u64::from(want.is_ok()), "{name}: {:?}", book.example);
            match want {
                Ok(()) => assert_eq!(book.example, None, "{name}"),
                Err(want) => assert!(book.example.is_some_and(|it| it.contains(want)), "{name}"),
            }
        }
        check("all", subscribed(9, &[8, 9], true), Ok(()));
        check("none", subscribed(9, &[], true), Err("0 publications"));
        check("one too few", subscribed(9, &[8], true), Err("1 publications"));
        check("one too many", subscribed(10, &[8, 9, 10], true), Err("3 publications"));
        check("a gap", subscribed(10, &[8, 10], true), Err("publication 1"));
        check("from before", subscribed(9, &[7, 8], true), Err("publication 0"));
        check("not recovered", subscribed(9, &[8, 9], false), Err("not recovered"));
        check(
            "another stream",
            Subscribed { epoch: "f".into(), ..subscribed(9, &[8, 9], true) },
            Err("not recovered"),
        );
        let mut swapped = subscribed(9, &[8, 9], true);
        swapped.publications.swap(0, 1);
        swapped.publications[0].offset = 8;
        swapped.publications[1].offset = 9;
        check("other payloads", swapped, Err("publication 0"));
    }

    #[test]
    fn channels_without_recovery_end_the_run() {
        let mut book = Check::new(Protocol::Json, Run::new(1), 3, 3, 2, SIZE);
        let it = Subscribed { recoverable: false, ..subscribed(0, &[], false) };
        assert!(matches!(book.on_subscribed(1, it, 1), Err(BenchError::Usage(_))));
    }
}
