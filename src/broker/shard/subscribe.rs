//! Subscribers come and go.

use super::{Shard, forward};
use crate::{
    broker::mesh::{Forward, Outgoing, OwnedKey, Recover, Shown, SubscribeAsk, Subscribed},
    metrics::Counter,
    model::{ClientId, ClientInfo, CoreId, ErrorCode, Now, Publication},
};
use std::sync::Arc;

impl Shard {
    /// Adds a subscriber of core `from`. The answer has a position when the client wants one or recovers,
    /// whether or not the channel keeps history: without history the offset stays 0 and the epoch lasts as
    /// long as there are subscribers.
    ///
    /// Nobody is added when `reject_unrecovered` asks for that: then the error is
    /// [`ErrorCode::UnrecoverablePosition`].
    pub(super) fn subscribe(
        &mut self,
        from: CoreId,
        ask: SubscribeAsk,
        now: Now,
    ) -> Result<Subscribed, ErrorCode> {
        let SubscribeAsk { channel: name, info, recover, reject_unrecovered, positioned, shown, map: _ } =
            ask;
        let (key, rules) = self.look_up(&name)?;
        let key = key.unwrap_or_else(|| self.create(&name, rules));
        let position = if rules.poll {
            self.use_poll(key, now)
        } else if positioned || recover.is_some() {
            self.use_stream(key, now.ms).map(|stream| stream.history.position())
        } else {
            None
        };
        let recovering = recover.is_some();
        let missed = recover.and_then(|recover| self.recover(key, &recover));
        let recovered = missed.is_some();
        if recovering && !recovered && reject_unrecovered {
            self.drop_if_idle(key);
            return Err(ErrorCode::UnrecoverablePosition);
        }
        self.join(key, from, info, shown);
        let publications = missed.unwrap_or_default();
        Ok(Subscribed { channel: key, position, publications, recovered, state: Vec::new() })
    }

    /// Removes a subscriber of core `from`. The others are told; it has left already.
    ///
    /// Where the namespace has neither presence nor join/leave, subscribers are only counted (but for those whose leave
    /// is announced all the same): there the core's word is taken for the client, as long as the core has any.
    pub(super) fn unsubscribe(
        &mut self,
        from: CoreId,
        key: OwnedKey,
        client: ClientId,
        now: Now,
        out: &mut dyn Outgoing,
    ) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let left = channel.members.as_mut().and_then(|members| members.remove(from, client));
        if channel.rules.keeps_members() {
            if left.is_none() {
                return;
            }
        } else if channel.members.as_ref().is_some_and(|members| members.is_empty()) {
            channel.members = None;
        }
        if !channel.interest.remove(from) {
            return;
        }
        if let Some((info, shown)) = &left {
            self.tell_maps(key, info, *shown, false, out);
            self.remove_entry_of(key, info, now, out);
        }
        if self.channels.get(key).is_some_and(|it| it.poll.is_some() && !it.interest.cores().contains(from)) {
            self.poll_left(from, key, now);
        }
        let Some(channel) = self.channels.get_mut(key) else { return };
        if channel.interest.subscribers() == 0 {
            channel.members = None;
            self.subscribed -= 1;
            self.keep_stream(key, now.ms);
            self.drop_if_idle(key);
        } else if let Some((info, shown)) = left {
            self.announce(key, Forward::Leave(info), shown, out);
        }
    }

    /// Sends a join or a leave to the interested cores, where the namespace wants it or that of this subscriber is to be
    /// announced.
    pub(super) fn announce(&self, key: OwnedKey, message: Forward, shown: Shown, out: &mut dyn Outgoing) {
        if let Some(channel) = self.channels.get(key)
            && shown.join_leave.unwrap_or(channel.rules.join_leave)
        {
            forward(key, channel, &message, out);
        }
    }

    pub(super) fn join(&mut self, key: OwnedKey, from: CoreId, info: Arc<ClientInfo>, shown: Shown) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let keeps = channel.rules.keeps_members() || shown.join_leave == Some(true);
        if keeps && !channel.members.get_or_insert_default().insert(from, info, shown) {
            debug_assert!(false, "a client subscribes to a channel once at a time");
            return;
        }
        channel.interest.add(from);
        self.subscribed += usize::from(channel.interest.subscribers() == 1);
    }

    /// What the client missed, if that can be told: never where there is no history to tell it from.
    fn recover(&mut self, key: OwnedKey, from: &Recover) -> Option<Vec<Arc<Publication>>> {
        // As everywhere in the configuration, 0 means no limit; the size of the history is one.
        let limit = match self.settings.client.recovery_max_publication_limit {
            0 => usize::MAX,
            limit => limit,
        };
        let channel = self.channels.get(key).filter(|channel| channel.rules.keeps_history());
        let stream = channel.and_then(|channel| channel.stream.as_deref());
        let missed = stream.and_then(|stream| match channel {
            Some(channel) if channel.rules.cache => stream.history.recover_latest(from),
            _ => stream.history.recover(from, limit),
        });
        let counter = if missed.is_some() { Counter::Recoveries } else { Counter::RecoveriesFailed };
        self.counters.increment(counter);
        missed
    }
}
