//! What the first of two cores asks and hears; the test is the other core.

use super::{One, open_settings};
use crate::{
    broker::{
        mesh::{Answer, Ask, AskKey, Forward, Mesh, Subscribed},
        seam::{ApiRequest, Target},
    },
    config::Settings,
    model::{ConnKey, ErrorCode, Position},
    stdx::slab::Key,
};

/// What the first of two cores asks the other one; the name of a channel that is not its own comes with it.
pub(super) struct Abroad {
    pub one: One,
    pub conn: ConnKey,
    channel: String,
}

/// How the other core calls the channel.
pub(super) const OWNED: Key = Key { index: 9, generation: 9 };

impl Abroad {
    /// A client subscribes; the owner has been asked.
    pub fn subscribing() -> (Self, AskKey) {
        Self::subscribing_with(|_| {})
    }

    pub fn subscribing_with(change: impl FnOnce(&mut Settings)) -> (Self, AskKey) {
        let mut settings = open_settings();
        change(&mut settings);
        let mut one = One::of(2, settings);
        let conn = one.client();
        let channel = (0..100).map(|i| format!("c{i}")).find(|name| one.core.owner(name) == 1).unwrap();
        one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        let mut abroad = Self { one, conn, channel };
        let (id, ask) = abroad.asked();
        assert!(matches!(ask, Ask::Subscribe(_)));
        (abroad, id)
    }

    /// A client is subscribed at offset 5.
    pub fn subscribed() -> Self {
        Self::subscribed_with(|_| {})
    }

    pub fn subscribed_with(change: impl FnOnce(&mut Settings)) -> Self {
        let (mut abroad, id) = Self::subscribing_with(change);
        abroad.answer(id, Self::taken());
        abroad
    }

    fn taken() -> Answer {
        Self::taken_as(OWNED)
    }

    fn taken_as(channel: Key) -> Answer {
        let position = Some(Self::at(5));
        Answer::Subscribed(Subscribed {
            channel,
            position,
            publications: vec![],
            recovered: false,
            state: vec![],
        })
    }

    /// Waits past the first ping, which is answered, to the check of the position.
    fn position_asked(&mut self) -> AskKey {
        loop {
            self.one.later(1_000);
            if self.one.heard(self.conn) == ["{}"] {
                self.one.hear(self.conn, "{}");
            }
            if !self.one.core.outgoing(1).is_empty() {
                let (id, ask) = self.asked();
                assert!(matches!(ask, Ask::Position { channel: OWNED }));
                return id;
            }
        }
    }

    fn at(offset: u64) -> Position {
        Position { offset, epoch: "E".into() }
    }

    pub fn asked(&mut self) -> (AskKey, Ask) {
        let batch = std::mem::take(self.one.core.outgoing(1));
        self.one.core.outgoing_taken(1);
        let mut asks = batch.into_iter().filter_map(|message| match message {
            Mesh::Ask { id, ask } => Some((id, *ask)),
            _ => None,
        });
        asks.next().expect("an ask")
    }

    pub fn answer(&mut self, id: AskKey, answer: Answer) {
        self.tell(Mesh::Answer { id, answer: Box::new(answer) });
    }

    pub fn tell(&mut self, message: Mesh) {
        self.one.core.begin_turn(self.one.now);
        self.one.core.on_mesh(1, message);
        self.one.turn();
    }

    #[track_caller]
    pub fn is_told_of_a_loss(&self) {
        let push = format!(
            r#"{{"push":{{"channel":"{}","unsubscribe":{{"code":2500,"reason":"insufficient state"}}}}}}"#,
            self.channel
        );
        assert_eq!(self.one.heard(self.conn), [push]);
    }
}

#[test]
fn a_declared_gap_ends_positioned_subscriptions() {
    let mut abroad = Abroad::subscribed();
    abroad.tell(Mesh::Forward { channel: OWNED, forward: Forward::Gap });
    abroad.is_told_of_a_loss();
}

#[test]
fn a_position_that_is_not_the_owners_ends_the_subscription() {
    let position = |top: Option<u64>| Answer::Position(top.map(Abroad::at));
    let rows = [
        (position(Some(5)), false),
        (position(Some(6)), true),
        (position(None), true),
        // What an owner that does not answer in time comes to.
        (Answer::Error(ErrorCode::Internal), false),
    ];
    for (answer, lost) in rows {
        let said = format!("{answer:?}");
        let mut abroad = Abroad::subscribed();
        let id = abroad.position_asked();
        abroad.answer(id, answer);
        if lost {
            abroad.is_told_of_a_loss();
        } else {
            assert!(abroad.one.written.is_empty(), "{said}");
        }
    }
}

// The last subscriber leaves while another comes: the owner forgot the channel in between and has it anew. What it
// says of the old one is no loss.
#[test]
fn a_position_of_an_earlier_channel_says_nothing() {
    let mut abroad = Abroad::subscribed();
    let id = abroad.position_asked();
    let channel = abroad.channel.clone();
    let second = abroad.one.client();
    abroad.one.hear(second, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    let (again, _) = abroad.asked();
    abroad.one.hear(abroad.conn, &format!(r#"{{"id":3,"unsubscribe":{{"channel":"{channel}"}}}}"#));
    abroad.answer(again, Abroad::taken_as(Key { index: 10, generation: 9 }));
    assert_eq!(abroad.one.heard(second).len(), 1, "subscribed");
    abroad.answer(id, Answer::Position(None));
    assert!(abroad.one.written.is_empty(), "{:?}", abroad.one.heard(second));
}

#[test]
fn an_unsubscribe_by_the_api_waits_for_the_subscribe() {
    let (mut abroad, id) = Abroad::subscribing();
    let (core, conn) = (&mut abroad.one.core, abroad.conn);
    let client = core.info(conn).unwrap().client.to_string();
    let target = Target { client: client.into(), ..Target::default() };
    core.begin_turn(abroad.one.now);
    core.api(1, ApiRequest::Unsubscribe { target, channel: abroad.channel.as_str().into() });
    abroad.one.turn();
    assert!(abroad.one.written.is_empty());
    abroad.answer(id, Abroad::taken());
    let heard = abroad.one.heard(conn);
    assert!(heard[0].contains(r#""subscribe":"#) && heard[1].contains(r#""code":2000"#), "{heard:?}");
    let told = abroad.one.core.outgoing(1);
    assert!(matches!(told[..], [.., Mesh::Tell(_)]), "{told:?}");
}
