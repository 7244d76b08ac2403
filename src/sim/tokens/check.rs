//! What a client checks of all it is told, and of how it ends.

use super::{
    CHANNELS, LATE_MS,
    client::{Asked, Client, Licence, Sub, What},
    denied::Denied,
    token::{Due, Fate, Skew, Token},
};
use crate::{
    model::{Now, Protocol},
    sim::Coverage,
    wire::client::{Received, ServerMessage, ServerPush, ServerReply, decode_replies},
};
use std::collections::BTreeSet;

/// What it needs to know of the world for that.
pub struct Around<'a> {
    pub now: Now,
    /// Time to refresh, of connections and of subscriptions.
    pub delay_ms: (u64, u64),
    /// How long who talks may be taken for somebody whose refresh is on its way.
    pub patience_ms: u64,
    /// How many of the keys that sign tokens the core knew when its turn began.
    pub known: usize,
    /// Since the beginning.
    pub skew: Skew,
    pub denied: &'a Denied,
    /// Of the user.
    pub licence: &'a Licence,
    pub coverage: &'a mut Coverage,
}

impl Around<'_> {
    pub fn count(&mut self, name: &str) {
        *self.coverage.entry(name.into()).or_default() += 1;
    }

    /// Its key was not known then: nobody can tell whether it is good.
    fn is_doubtful(&self, token: &Token) -> bool {
        token.key >= self.known
    }
}

/// The channel as it is called here.
fn named(channel: &str) -> &'static str {
    CHANNELS.into_iter().find(|name| *name == channel).unwrap_or_else(|| panic!("told of {channel}"))
}

impl Client {
    pub fn read(&mut self, around: &mut Around<'_>) {
        let inbox = std::mem::take(&mut self.inbox);
        for line in inbox.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            for message in decode_replies(Protocol::Json, line) {
                self.on_message(message.expect("a message"), around);
            }
        }
        if let Some(code) = self.closed {
            around.count(&format!("close: {code}"));
            self.check_close(code, around);
        }
    }

    fn on_message(&mut self, message: ServerMessage<'_>, around: &mut Around<'_>) {
        match message {
            ServerMessage::Ping => {}
            ServerMessage::Reply { id, reply } => {
                let asked = self.asked.remove(&id).unwrap_or_else(|| panic!("{id} answered: {reply:?}"));
                if let ServerReply::Error { code, .. } = reply {
                    around.count(&format!("error: {code}"));
                    return self.on_error(&asked, code, around);
                }
                self.on_reply(asked, reply, around);
            }
            ServerMessage::Push { channel, push } => self.on_push(&channel, push, around),
            other => panic!("{other:?}"),
        }
    }

    fn on_reply(&mut self, asked: Asked, reply: ServerReply<'_>, around: &mut Around<'_>) {
        let Asked { what, sent_ms, skew } = asked;
        match (what, reply) {
            (What::Connect(token), ServerReply::Connect(result)) => {
                check_accepted(&token, sent_ms, skew, (result.expires, result.ttl));
                self.id = result.client.into_owned();
                self.due = skew.due(token.ends_unix_ms);
                let told: BTreeSet<_> = result.subs.iter().map(|(channel, _)| named(channel)).collect();
                let brought: BTreeSet<_> = token.subs.iter().copied().collect();
                assert_eq!(told, brought, "brought by its token");
                for channel in told {
                    around.count("connect: subscribed by its token");
                    self.subscribed(channel, Due::NEVER, None, true);
                }
            }
            (What::Refresh(token), ServerReply::Refresh { expires, ttl }) => {
                check_accepted(&token, sent_ms, skew, (expires, ttl));
                let in_time = sent_ms < self.due.earliest;
                around.count(if in_time { "refresh: in time" } else { "refresh: in the delay" });
                // Done in this very turn.
                self.due = Skew::of(around.now).due(token.ends_unix_ms);
                self.caps = token.caps;
                self.token = token;
            }
            (What::Subscribe { channel, token, allowed }, ServerReply::Subscribe(result)) => {
                match &token {
                    Some(token) => check_accepted(token, sent_ms, skew, (result.expires, result.ttl)),
                    None => {
                        assert!(allowed != Some(false), "{channel}: subscribed without a right: {self:?}");
                        if channel.starts_with("cap") {
                            around.count("caps: subscribe");
                        }
                    }
                }
                let due = token.as_ref().map_or(Due::NEVER, |token| skew.due(token.ends_unix_ms));
                self.subscribed(channel, due, token, false);
            }
            (What::SubRefresh { channel, token, .. }, ServerReply::SubRefresh { expires, ttl, .. }) => {
                check_accepted(&token, sent_ms, skew, (expires, ttl));
                let sub = self.subs.get_mut(channel).expect("subscribed, and prolonged");
                let in_time = sent_ms < sub.due.earliest;
                around.count(if in_time { "sub_refresh: in time" } else { "sub_refresh: in the delay" });
                sub.due = Skew::of(around.now).due(token.ends_unix_ms);
                sub.token = Some(token);
            }
            (What::Unsubscribe { channel }, ServerReply::Unsubscribe) => drop(self.subs.remove(channel)),
            (What::Publish { allowed }, ServerReply::Publish) => {
                assert!(allowed != Some(false), "published without a right: {self:?}");
                around.count("caps: publish");
            }
            (what, reply) => panic!("{what:?} answered by {reply:?}"),
        }
    }

    fn subscribed(&mut self, channel: &'static str, due: Due, token: Option<Token>, server_side: bool) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let sub = Sub { due, server_side, token, serial, heard: BTreeSet::new() };
        let before = self.subs.insert(channel, sub);
        assert!(before.is_none(), "{channel}: subscribed twice");
    }

    fn on_error(&mut self, asked: &Asked, code: u32, around: &Around<'_>) {
        let old = |token: &Token| {
            token.fate == Fate::Old || asked.skew.may_have_passed(token.expires_unix_ms, around.now.ms)
        };
        let over = |token: &Token| asked.skew.may_have_passed(token.ends_unix_ms, around.now.ms);
        let expected = match (&asked.what, code) {
            (What::Connect(token), 100) => !self.user.is_empty() || around.is_doubtful(token),
            (What::Refresh(token) | What::SubRefresh { token, .. }, 100) => around.is_doubtful(token),
            (What::Connect(token), 109) => old(token),
            (What::Connect(token), 110) => over(token),
            // The owner did not answer in time, or has not undone what it answered late.
            (What::Subscribe { .. } | What::Publish { .. }, 100) => true,
            (What::Subscribe { token: None, allowed, .. }, 103) => *allowed != Some(true),
            (What::Subscribe { token: Some(token), .. }, 103) => {
                let bad = token.fate == Fate::Forged || around.denied.may_refuse(token);
                bad || around.is_doubtful(token)
            }
            (What::Subscribe { channel, .. }, 105) => self.subs.contains_key(channel),
            (What::Subscribe { token: Some(token), .. } | What::SubRefresh { token, .. }, 109) => old(token),
            (What::SubRefresh { channel, serial, .. }, 103) => {
                serial.is_none() || self.subs.get(channel).map(|sub| sub.serial) != *serial
            }
            (What::Publish { allowed }, 103) => *allowed != Some(true),
            _ => false,
        };
        assert!(expected, "{asked:?}: error {code}: {self:?}");
        self.leaves |= matches!(asked.what, What::Connect(_));
    }

    fn on_push(&mut self, channel: &str, push: ServerPush<'_>, around: &mut Around<'_>) {
        match push {
            ServerPush::Publication(publication) => self.on_publication(channel, &publication),
            ServerPush::Unsubscribe { code, .. } => {
                around.count(&format!("push: unsubscribe {code}"));
                let channel = named(channel);
                let sub = self.subs.remove(channel).unwrap_or_else(|| panic!("{channel}: not subscribed"));
                self.check_end(channel, &sub, code, around);
            }
            ServerPush::Subscribe { .. } => {
                around.count("push: subscribe");
                let channel = named(channel);
                let dues = [self.licence.due(channel), around.licence.due(channel)];
                let due = dues.into_iter().flatten().reduce(Due::or);
                let due = due.unwrap_or_else(|| panic!("{channel}: nobody subscribed it"));
                self.subscribed(channel, due, None, true);
            }
            ServerPush::Refresh { expires, ttl } => {
                around.count("api: prolonged");
                assert_eq!(expires, ttl > 0);
                let due = |seconds: u32| around.now.ms + u64::from(seconds) * 1000;
                self.due =
                    if ttl > 0 { Due { earliest: due(ttl - 1), latest: due(ttl) } } else { Due::NEVER };
            }
            other => panic!("{channel}: {other:?}"),
        }
    }

    fn on_publication(&mut self, channel: &str, publication: &Received<'_>) {
        let number = std::str::from_utf8(publication.data).expect("text").parse().expect("a number");
        let index = self.conn.index;
        let sub = self.subs.get_mut(channel);
        let sub = sub.unwrap_or_else(|| panic!("client {index}: {channel}: {number}, and not subscribed"));
        assert!(sub.heard.insert(number), "{channel}: {number} twice");
    }

    /// Whether a refresh that was sent before then, and is good, has not been answered.
    fn refresh_underway(&self, before_ms: u64, of: &str) -> bool {
        self.asked.values().any(|asked| {
            let token = match &asked.what {
                What::Refresh(token) if of.is_empty() => token,
                What::SubRefresh { channel, token, .. } if *channel == of => token,
                _ => return false,
            };
            token.fate == Fate::Good && asked.sent_ms < before_ms
        })
    }

    /// The server ended a subscription.
    fn check_end(&self, channel: &str, sub: &Sub, code: u32, around: &Around<'_>) {
        let expected = match code {
            2000 => self.licence.unsubscribe || around.licence.unsubscribe,
            2501 => self.may_be_over(sub.due, around.delay_ms.1, channel, around),
            // The token it had, or one it got since.
            2502 => {
                let asked = self.asked.values().any(|asked| {
                    matches!(&asked.what, What::SubRefresh { token, .. } if around.denied.may_refuse(token))
                });
                asked || sub.token.as_ref().is_some_and(|token| around.denied.may_refuse(token))
            }
            _ => false,
        };
        assert!(expected, "{channel}: ended with {code}: {sub:?} of {self:?}");
    }

    /// Whether something may be over that was due then: its delay has passed, and no refresh came before, unless the
    /// server waited for it long enough.
    fn may_be_over(&self, due: Due, delay_ms: u64, of: &str, around: &Around<'_>) -> bool {
        let over = due.earliest.saturating_add(delay_ms) <= around.now.ms;
        // It may have been due as early as that, whatever else it may have been.
        let patient = due.earliest.saturating_add(delay_ms + around.patience_ms) <= around.now.ms;
        over && (patient || !self.refresh_underway(due.earliest.saturating_add(delay_ms), of))
    }

    fn check_close(&self, code: u32, around: &Around<'_>) {
        let asked = || self.asked.values();
        let any_token = |check: &dyn Fn(&Asked, &Token) -> bool| {
            asked().any(|asked| match &asked.what {
                What::Connect(token)
                | What::Refresh(token)
                | What::Subscribe { token: Some(token), .. }
                | What::SubRefresh { token, .. } => check(asked, token),
                _ => false,
            })
        };
        let refreshes = |check: &dyn Fn(&Asked, &Token) -> bool| {
            asked().any(|asked| matches!(&asked.what, What::Refresh(token) if check(asked, token)))
        };
        let now_ms = around.now.ms;
        let either = |check: &dyn Fn(&Licence) -> bool| check(&self.licence) || check(around.licence);
        let expected = match code {
            3004 => self.id.is_empty() && !self.token.subs.is_empty(),
            3005 => {
                let old = |asked: &Asked, token: &Token| {
                    let passed = |at| asked.skew.may_have_passed(at, now_ms);
                    token.fate == Fate::Old || passed(token.expires_unix_ms) || passed(token.ends_unix_ms)
                };
                let given = |it: &Licence| {
                    it.expired || it.ends.iter().any(|&end| around.skew.may_have_passed(Some(end), now_ms))
                };
                self.may_be_over(self.due, around.delay_ms.0, "", around) || refreshes(&old) || either(&given)
            }
            3006 => self.subs.iter().any(|(channel, sub)| {
                sub.server_side && self.may_be_over(sub.due, around.delay_ms.1, channel, around)
            }),
            3010 => refreshes(&|_, token| token.fate == Fate::OtherChannels),
            3500 => {
                let bad = |_: &Asked, token: &Token| {
                    let none = matches!(token.fate, Fate::Forged | Fate::Foreign);
                    none || around.denied.may_refuse(token) || around.is_doubtful(token)
                };
                any_token(&bad)
            }
            // The token it lives on, or is about to.
            3014 => {
                let denied = |_: &Asked, token: &Token| around.denied.may_refuse(token);
                any_token(&denied) || around.denied.may_refuse(&self.token)
            }
            3507 => around.denied.may_block(self.user),
            4500 => either(&|it| it.disconnect),
            _ => false,
        };
        assert!(expected, "closed with {code}: {self:?}");
    }

    /// Nothing may be there that nothing allows any more. `graced_ms`: until then the core gives everybody time.
    pub fn check_rights(&self, graced_ms: u64, around: &Around<'_>) {
        let now = around.now;
        let late = |due: Due, delay_ms: u64| {
            let over = due.latest.saturating_add(delay_ms + LATE_MS);
            let patient = over.saturating_add(around.patience_ms + LATE_MS).max(graced_ms);
            now.ms >= over.max(self.excused_ms).max(graced_ms) || now.ms >= patient
        };
        // What is on its way may have been done.
        let own = self.asked.values().filter_map(|asked| match &asked.what {
            What::Refresh(token) => Some(asked.skew.due(token.ends_unix_ms)),
            _ => None,
        });
        let own = own.fold(self.due, Due::or);
        assert!(!late(own, around.delay_ms.0), "over, and still connected: {self:?}");
        assert!(!around.denied.surely_blocks(self.user, now), "blocked, and still connected: {self:?}");
        let denied = |token: &Token| around.denied.surely_refuses(token, now);
        assert!(!denied(&self.token) || self.refreshes(), "its token is revoked: {self:?}");
        for (channel, sub) in &self.subs {
            let asked = self.asked.values().filter_map(|asked| match &asked.what {
                What::SubRefresh { channel: of, token, .. } if of == channel => {
                    Some(asked.skew.due(token.ends_unix_ms))
                }
                _ => None,
            });
            let due = asked.fold(sub.due, Due::or);
            assert!(!late(due, around.delay_ms.1), "{channel}: over, and still subscribed: {self:?}");
            let revoked = sub.token.as_ref().is_some_and(denied);
            assert!(!revoked || self.sub_refreshes(channel), "{channel}: its token is revoked: {self:?}");
        }
    }
}

/// A token was accepted: it may have been good when it was looked at, which was no sooner than it was sent.
fn check_accepted(token: &Token, sent_ms: u64, skew: Skew, (expires, ttl): (bool, u32)) {
    assert_eq!(token.fate, Fate::Good, "accepted: {token:?}");
    let good = |at: Option<u64>| at.is_none_or(|at| at > sent_ms + skew.least);
    assert!(good(token.expires_unix_ms) && good(token.ends_unix_ms), "too old, and accepted: {token:?}");
    assert_eq!(expires, token.ends_unix_ms.is_some(), "{token:?}");
    assert_eq!(expires, ttl > 0, "{token:?}");
}
