mod model;

use super::*;
use crate::{
    broker::{
        mesh::{HistoryFilter, Recover, Shown, SubscribeAsk, Subscribed},
        seam::PublishOptions,
    },
    config::{self, ChannelOptions, Namespace},
    metrics::Counter,
    model::{ClientId, ClientInfo, Position, Publication},
};
use std::time::Duration;

/// Of namespace `all`.
const SIZE: usize = 3;
const TTL_MS: u64 = 10_000;
const META_TTL_MS: u64 = 30_000;
/// Below `SIZE`, so that the history can hold more than may be recovered.
const RECOVERY_MAX: usize = 2;

fn settings() -> Arc<Settings> {
    let named = |name: &str, options| Namespace { name: name.into(), options, ..Namespace::default() };
    let history = ChannelOptions {
        history_size: SIZE,
        history_ttl: Duration::from_millis(TTL_MS),
        history_meta_ttl: Duration::from_millis(META_TTL_MS),
        ..ChannelOptions::default()
    };
    let presence = ChannelOptions { presence: true, ..ChannelOptions::default() };
    let mut settings = Settings::default();
    settings.client.recovery_max_publication_limit = RECOVERY_MAX;
    settings.channel = config::Channel {
        namespaces: vec![
            named("all", ChannelOptions { presence: true, join_leave: true, ..history.clone() }),
            named("history", history.clone()),
            // Meta as in `channel.history_meta_ttl`, 30 days.
            named("long", ChannelOptions { history_meta_ttl: Duration::ZERO, ..history }),
            named("presence", presence),
            named("join", ChannelOptions { join_leave: true, ..ChannelOptions::default() }),
        ],
        ..config::Channel::default()
    };
    Arc::new(settings)
}

fn info(client: u128, user: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { user: user.into(), client: ClientId(client), conn_info: None, chan_info: None })
}

fn at(ms: u64) -> Now {
    Now { ms, unix_ms: ms + 1_700_000_000_000 }
}

/// Everything a shard sent, in order.
#[derive(Default)]
struct Sent(Vec<(CoreId, Mesh)>);

impl Outgoing for Sent {
    fn send(&mut self, to: CoreId, message: Mesh) {
        self.0.push((to, message));
    }
}

/// A shard whose asks are all answered at once, with what it sent besides.
struct Bench {
    shard: Shard,
    now: u64,
    asked: u32,
    /// Forwards before and after the last answer.
    before: Vec<(CoreId, Forward)>,
    after: Vec<(CoreId, Forward)>,
}

impl Bench {
    fn new() -> Self {
        let shard = Shard::new(0, settings(), Owners::new(1, 1), 7);
        Self { shard, now: 1000, asked: 0, before: Vec::new(), after: Vec::new() }
    }

    fn ask(&mut self, from: CoreId, ask: Ask) -> Answer {
        self.asked += 1;
        let id = AskKey { index: self.asked, generation: 3 };
        let mut sent = Sent::default();
        self.shard.on_ask(from, id, ask, at(self.now), &mut sent);
        self.shard.invariants();
        let mut answered = None;
        (self.before, self.after) = (Vec::new(), Vec::new());
        for (to, message) in sent.0 {
            match message {
                Mesh::Answer { id: answered_id, answer } => {
                    assert_eq!((to, answered_id), (from, id));
                    assert!(answered.replace(answer).is_none(), "answered twice");
                }
                Mesh::Forward { forward, .. } if answered.is_none() => self.before.push((to, forward)),
                Mesh::Forward { forward, .. } => self.after.push((to, forward)),
                other => panic!("a shard does not send {other:?}"),
            }
        }
        *answered.expect("every ask is answered")
    }

    fn subscribe(
        &mut self,
        from: CoreId,
        channel: &str,
        client: u128,
        recover: Option<Recover>,
    ) -> Subscribed {
        let info = info(client, "u");
        let ask = SubscribeAsk {
            channel: channel.into(),
            info,
            recover,
            reject_unrecovered: false,
            positioned: true,
            map: None,
            shown: Shown::default(),
        };
        match self.ask(from, Ask::Subscribe(ask)) {
            Answer::Subscribed(subscribed) => subscribed,
            other => panic!("{other:?}"),
        }
    }

    fn unsubscribe(&mut self, from: CoreId, channel: OwnedKey, client: u128) -> Vec<CoreId> {
        let mut sent = Sent::default();
        let tell = Tell::Unsubscribe { channel, client: ClientId(client) };
        self.shard.on_tell(from, tell, at(self.now), &mut sent);
        self.shard.invariants();
        sent.0
            .into_iter()
            .map(|(to, message)| match message {
                Mesh::Forward { forward: Forward::Leave(info), .. } if info.client.0 == client => to,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn publish_with(&mut self, from: CoreId, channel: &str, options: PublishOptions) -> Option<Position> {
        let publication = Publication::default();
        match self.ask(from, Ask::Publish { channel: channel.into(), publication, options }) {
            Answer::Published { position } => position,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, channel: &str) -> Option<Position> {
        self.publish_with(0, channel, PublishOptions::default())
    }

    fn history(&mut self, channel: &str, filter: HistoryFilter) -> Result<(Vec<u64>, Position), ErrorCode> {
        match self.ask(0, Ask::History { channel: channel.into(), filter }) {
            Answer::History { publications, position } => {
                Ok((publications.iter().map(|it| it.offset).collect(), position))
            }
            Answer::Error(code) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    fn whole_history(&mut self, channel: &str) -> Vec<u64> {
        self.history(channel, HistoryFilter { limit: 100, ..HistoryFilter::default() }).unwrap().0
    }
}

fn receivers(forwards: &[(CoreId, Forward)]) -> Vec<CoreId> {
    forwards.iter().map(|(to, _)| *to).collect()
}

#[test]
fn who_is_told_in_which_order() {
    let mut bench = Bench::new();
    let first = bench.subscribe(2, "all:c", 1, None);
    assert_eq!((receivers(&bench.before), receivers(&bench.after)), (vec![], vec![2]), "its own join");
    bench.subscribe(0, "all:c", 2, None);
    assert_eq!((receivers(&bench.before), receivers(&bench.after)), (vec![], vec![0, 2]));
    bench.subscribe(2, "all:c", 3, None);
    assert_eq!(receivers(&bench.after), [0, 2], "once per core");
    bench.publish("all:c");
    assert_eq!((receivers(&bench.before), receivers(&bench.after)), (vec![0, 2], vec![]));
    assert_eq!(bench.unsubscribe(2, first.channel, 1), [0, 2]);
    assert!(bench.unsubscribe(2, first.channel, 1).is_empty(), "it is gone");
    assert!(bench.unsubscribe(0, first.channel, 3).is_empty(), "it is on another core");
    assert_eq!(bench.unsubscribe(2, first.channel, 3), [0]);
    assert!(bench.unsubscribe(0, first.channel, 2).is_empty());
    assert_eq!(bench.shard.channel_count(), 0);
    bench.subscribe(2, "all:c", 1, None);
    assert_eq!(receivers(&bench.after), [2], "it may come again");
}

#[test]
fn a_channel_nobody_needs_costs_nothing() {
    let mut bench = Bench::new();
    for channel in ["plain", "presence:c", "join:c"] {
        bench.publish(channel);
        assert_eq!(bench.shard.stored_count(), 0, "{channel}");
        let subscribed = bench.subscribe(1, channel, 1, None);
        assert_eq!(bench.shard.stored_count(), 1, "{channel}");
        bench.unsubscribe(1, subscribed.channel, 1);
        assert_eq!((bench.shard.stored_count(), bench.shard.next_deadline()), (0, None), "{channel}");
        assert!(bench.unsubscribe(1, subscribed.channel, 1).is_empty(), "{channel}: a stale key");
    }
}

#[test]
fn both_sides_of_the_times_of_a_stream() {
    let mut bench = Bench::new();
    let position = bench.publish("all:c").unwrap();
    bench.now += TTL_MS - 1;
    assert_eq!(bench.publish("all:c").unwrap(), Position { offset: 2, epoch: position.epoch.clone() });
    bench.now += TTL_MS - 1;
    assert_eq!(bench.whole_history("all:c"), [1, 2], "restarted by the second publication");
    bench.now += 1;
    assert!(bench.whole_history("all:c").is_empty(), "the whole stream at once");
    let asked = bench.now;

    bench.now = asked + META_TTL_MS - 1;
    bench.shard.advance(at(bench.now));
    assert_eq!(bench.shard.stored_count(), 1);
    bench.now += 1;
    bench.shard.advance(at(bench.now));
    assert_eq!((bench.shard.stored_count(), bench.shard.next_deadline()), (0, None));
    let again = bench.publish("all:c").unwrap();
    assert_eq!(again.offset, 1);
    assert_ne!(again.epoch, position.epoch);
}

#[test]
fn a_stream_is_kept_while_somebody_is_subscribed() {
    let mut bench = Bench::new();
    // The stream is older than its subscriber, so that its timers are set.
    bench.publish("all:c");
    let subscribed = bench.subscribe(1, "all:c", 1, None);
    let position = bench.publish("all:c");
    bench.now += 10 * META_TTL_MS;
    bench.shard.advance(at(bench.now));
    assert_eq!(bench.shard.position(subscribed.channel), position);
    assert_eq!(bench.shard.next_deadline(), None, "nothing to wake for");
    bench.unsubscribe(1, subscribed.channel, 1);
    bench.now += META_TTL_MS - 1;
    bench.shard.advance(at(bench.now));
    assert_eq!(bench.shard.position(subscribed.channel), position);
    bench.now += 1;
    bench.shard.advance(at(bench.now));
    assert_eq!(bench.shard.position(subscribed.channel), None);
}

// Whoever asks for positions of made-up names must not fill the memory for 30 days.
#[test]
fn an_unused_stream_is_forgotten_early() {
    let mut bench = Bench::new();
    bench.history("long:unused", HistoryFilter::default()).unwrap();
    bench.publish("long:used");
    bench.now += channel::UNUSED_STREAM_TTL_MS - 1;
    bench.shard.advance(at(bench.now));
    assert_eq!(bench.shard.stored_count(), 2);
    bench.now += 1;
    bench.shard.advance(at(bench.now));
    assert_eq!(bench.shard.stored_count(), 1);
}

#[test]
fn recovery_table() {
    #[track_caller]
    fn check(name: &str, channel: &str, published: usize, from: (u64, &str), want: Option<&[u64]>) {
        let mut bench = Bench::new();
        for _ in 0..published {
            bench.publish(channel);
        }
        let epoch = bench.history(channel, HistoryFilter::default()).map(|it| it.1.epoch);
        let epoch = if from.1 == "same" { epoch.unwrap().to_string() } else { from.1.into() };
        let recover = Recover { offset: from.0, epoch: epoch.into() };
        let got = bench.subscribe(1, channel, 1, Some(recover));
        assert_eq!(got.recovered, want.is_some(), "{name}");
        let offsets: Vec<u64> = got.publications.iter().map(|it| it.offset).collect();
        assert_eq!(offsets, want.unwrap_or_default(), "{name}");
        let counters = &bench.shard.counters;
        let counts = [Counter::Recoveries, Counter::RecoveriesFailed].map(|it| counters.value(it));
        assert_eq!(counts, if want.is_some() { [1, 0] } else { [0, 1] }, "{name}");
    }
    check("nothing missed", "all:c", 5, (5, "same"), Some(&[]));
    check("one missed", "all:c", 5, (4, "same"), Some(&[5]));
    check("as many as may be recovered", "all:c", 5, (3, "same"), Some(&[4, 5]));
    check("one more than may be recovered", "all:c", 5, (2, "same"), None);
    check("more than the history has", "all:c", 5, (1, "same"), None);
    check("any epoch", "all:c", 5, (4, ""), Some(&[5]));
    check("another epoch", "all:c", 5, (4, "other"), None);
    check("another epoch, nothing missed", "all:c", 5, (5, "other"), None);
    check("the future", "all:c", 5, (6, "same"), None);
    check("from the beginning", "all:c", 2, (0, "same"), Some(&[1, 2]));
    check("a fresh stream", "all:c", 0, (0, "same"), Some(&[]));
    // Nobody can know what was missed where nothing is kept.
    check("without history", "presence:c", 2, (0, ""), None);
}

#[test]
fn a_rejected_recovery_leaves_nobody() {
    let mut bench = Bench::new();
    bench.publish("all:c");
    let mut reject = |channel: &str, offset| {
        let ask = SubscribeAsk {
            channel: channel.into(),
            info: info(1, "u"),
            recover: Some(Recover { offset, epoch: "".into() }),
            reject_unrecovered: true,
            positioned: true,
            map: None,
            shown: Shown::default(),
        };
        let answer = bench.ask(1, Ask::Subscribe(ask));
        assert!(bench.after.len() == bench.shard.channel_count(), "a join only for who came");
        (matches!(answer, Answer::Error(ErrorCode::UnrecoverablePosition)), bench.shard.stored_count())
    };
    assert_eq!(reject("all:c", 2), (true, 1));
    assert_eq!(reject("plain", 0), (true, 1), "nothing stays of a channel without history");
    assert_eq!(reject("all:c", 0), (false, 1));
    assert_eq!(bench.shard.channel_count(), 1);
}

#[test]
fn positions() {
    let mut bench = Bench::new();
    let ask = |positioned| SubscribeAsk {
        channel: "all:c".into(),
        info: info(9, ""),
        recover: None,
        reject_unrecovered: false,
        positioned,
        map: None,
        shown: Shown::default(),
    };
    assert!(matches!(
        bench.ask(1, Ask::Subscribe(ask(false))),
        Answer::Subscribed(Subscribed { position: None, recovered: false, .. })
    ));
    let position = bench.subscribe(1, "all:c", 1, None).position.unwrap();
    assert_eq!((position.offset, position.epoch.len()), (0, EPOCH_LEN));
    let top = bench.publish("all:c");
    assert_eq!(top, Some(Position { offset: 1, epoch: position.epoch }));
    assert_eq!(bench.subscribe(2, "all:c", 2, None).position, top);

    // Without history: an epoch for as long as there are subscribers, and offset 0.
    let plain = bench.subscribe(1, "plain", 1, None);
    assert_eq!(bench.publish("plain"), None);
    let (key, position) = (plain.channel, plain.position.unwrap());
    assert_eq!(bench.subscribe(1, "plain", 2, None).position, Some(position.clone()));
    match bench.ask(1, Ask::Position { channel: key }) {
        Answer::Position(Some(found)) => assert_eq!((found.offset, found.epoch), (0, position.epoch)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(bench.ask(1, Ask::Position { channel: OwnedKey::NONE }), Answer::Position(None)));
}

#[test]
fn errors_table() {
    #[track_caller]
    fn check(ask: Ask, want: ErrorCode) {
        let name = format!("{ask:?}");
        match Bench::new().ask(1, ask) {
            Answer::Error(code) => assert_eq!(code, want, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let channel = || Arc::from("nope:c");
    let filter = HistoryFilter::default;
    let (publication, options) = (Publication::default(), PublishOptions::default());
    check(Ask::Publish { channel: channel(), publication, options }, ErrorCode::UnknownChannel);
    let ask = SubscribeAsk {
        channel: channel(),
        info: info(1, ""),
        recover: None,
        reject_unrecovered: false,
        positioned: true,
        map: None,
        shown: Shown::default(),
    };
    check(Ask::Subscribe(ask), ErrorCode::UnknownChannel);
    check(Ask::Presence { channel: channel() }, ErrorCode::UnknownChannel);
    check(Ask::PresenceStats { channel: channel() }, ErrorCode::UnknownChannel);
    check(Ask::History { channel: channel(), filter: filter() }, ErrorCode::UnknownChannel);
    check(Ask::HistoryRemove { channel: channel() }, ErrorCode::UnknownChannel);
    let channel = || Arc::from("join:c");
    check(Ask::Presence { channel: channel() }, ErrorCode::NotAvailable);
    check(Ask::PresenceStats { channel: channel() }, ErrorCode::NotAvailable);
    check(Ask::History { channel: channel(), filter: filter() }, ErrorCode::NotAvailable);
    check(Ask::HistoryRemove { channel: channel() }, ErrorCode::NotAvailable);
    let since = |offset, epoch: &str| Some(Recover { offset, epoch: epoch.into() });
    let channel = || Arc::from("all:c");
    let filter = HistoryFilter { limit: 1, since: since(0, ""), reverse: true };
    check(Ask::History { channel: channel(), filter }, ErrorCode::BadRequest);
    let filter = HistoryFilter { limit: 0, since: since(1, "other"), reverse: false };
    check(Ask::History { channel: channel(), filter }, ErrorCode::UnrecoverablePosition);
}

#[test]
fn an_idempotent_publication_is_taken_once() {
    let with_key = |key: &str| PublishOptions { idempotency_key: key.into(), ..PublishOptions::default() };
    let mut bench = Bench::new();
    for (channel, history) in [("all:c", true), ("plain", false)] {
        bench.subscribe(1, channel, 1, None);
        let first = bench.publish_with(0, channel, with_key("k"));
        assert_eq!((first.is_some(), bench.before.len()), (history, 1), "{channel}");
        assert_eq!(bench.publish_with(0, channel, with_key("k")), first, "{channel}");
        assert_eq!(bench.before.len(), 0, "{channel}: not forwarded again");
        bench.publish_with(0, channel, with_key("other"));
        assert_eq!(bench.before.len(), 1, "{channel}");
    }
    assert_eq!(bench.shard.counters.value(Counter::Publications), 4);
    bench.now += 300_000;
    assert_eq!(bench.publish_with(0, "all:c", with_key("k")).unwrap().offset, 3);
}

#[test]
fn an_old_version_is_suppressed() {
    let version = |version| PublishOptions { version, ..PublishOptions::default() };
    let mut bench = Bench::new();
    bench.subscribe(1, "all:c", 1, None);
    assert_eq!(bench.publish_with(0, "all:c", version(5)).unwrap().offset, 1);
    assert_eq!(bench.publish_with(0, "all:c", version(5)).unwrap().offset, 1);
    assert_eq!(bench.before.len(), 0);
    assert_eq!(bench.publish_with(0, "all:c", version(6)).unwrap().offset, 2);
    assert_eq!(bench.before.len(), 1);
}

#[test]
fn what_a_publication_looks_like() {
    let mut bench = Bench::new();
    bench.subscribe(1, "all:c", 1, None);
    let skip = PublishOptions { skip_history: true, ..PublishOptions::default() };
    let look = |bench: &Bench| match &bench.before[..] {
        [(1, Forward::Publication(publication))] => (publication.offset, publication.time_ms),
        other => panic!("{other:?}"),
    };
    bench.publish("all:c");
    assert_eq!(look(&bench), (1, at(bench.now).unix_ms));
    assert_eq!(bench.publish_with(0, "all:c", skip), None);
    assert_eq!(look(&bench), (0, at(bench.now).unix_ms));
    assert_eq!(bench.whole_history("all:c"), [1]);
}

#[test]
fn presence_counts_users_once() {
    let mut bench = Bench::new();
    let subscribers = [(7, "a"), (3, "b"), (5, "a"), (1, ""), (2, "")];
    for (core, (client, user)) in subscribers.into_iter().enumerate() {
        let (channel, info) = ("presence:c".into(), info(client, user));
        let ask = SubscribeAsk {
            channel,
            info,
            recover: None,
            reject_unrecovered: false,
            positioned: false,
            map: None,
            shown: Shown::default(),
        };
        bench.ask(core as CoreId, Ask::Subscribe(ask));
    }
    match bench.ask(0, Ask::PresenceStats { channel: "presence:c".into() }) {
        Answer::PresenceStats { clients, users } => assert_eq!((clients, users), (5, 3)),
        other => panic!("{other:?}"),
    }
    match bench.ask(0, Ask::Presence { channel: "presence:c".into() }) {
        Answer::Presence(list) => {
            assert_eq!(list.iter().map(|it| it.client.0).collect::<Vec<_>>(), [1, 2, 3, 5, 7]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn listing_channels() {
    let mut bench = Bench::new();
    for (client, channel) in [(1, "plain"), (2, "all:b"), (3, "all:a"), (4, "all:a")] {
        bench.subscribe(0, channel, client, None);
    }
    bench.publish("all:unseen");
    let list = |pattern: &str| -> Vec<(String, u32)> {
        let found = bench.shard.channels(pattern);
        found.into_iter().map(|(name, count)| (name.to_string(), count)).collect()
    };
    let (a, b, plain) = (("all:a".into(), 2), ("all:b".into(), 1), ("plain".into(), 1));
    assert_eq!(list(""), [a.clone(), b.clone(), plain.clone()]);
    assert_eq!(list("all:*"), [a.clone(), b]);
    assert_eq!(list("?ll:a"), [a]);
    assert_eq!(list("plain"), [plain]);
    assert_eq!(bench.shard.channel_count(), 3);
    assert_eq!(bench.shard.stored_count(), 4);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "once at a time")]
fn subscribing_twice_is_a_bug_of_the_session() {
    let mut bench = Bench::new();
    bench.subscribe(0, "all:c", 1, None);
    bench.subscribe(1, "all:c", 1, None);
}
