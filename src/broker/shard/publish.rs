//! A publication gets its place and goes out.

use super::{
    Shard, Timer,
    channel::{Channel, Rules},
    forward,
};
use crate::{
    broker::{
        mesh::{Forward, Mesh, Outgoing, OwnedKey},
        seam::PublishOptions,
    },
    metrics::Counter,
    model::{ErrorCode, Extra, Now, Position, Publication},
    stdx::wheel::Wheel,
};
use std::sync::Arc;

/// Tells subscribers of a pattern where something was published, beside the field that is meant for that: SDKs hand
/// tags on, and not that field.
const CHANNEL_TAG: &str = "channel";

impl Shard {
    /// Takes a publication, unless its idempotency key or its version says that it was taken before, and
    /// forwards it to the interested cores. Its position, or that of the one before it; `None` when the
    /// channel keeps no history or this publication shall not be in it.
    ///
    /// Versions belong to the stream: without history they are not looked at.
    /// `publication` is called when somebody is to have it.
    pub fn publish(
        &mut self,
        name: &str,
        publication: impl FnOnce() -> Publication,
        options: &PublishOptions,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> Result<Option<Position>, ErrorCode> {
        self.catch_up(now);
        let (key, rules) = self.look_up(name)?;
        let idempotency_key = &*options.idempotency_key;
        if !idempotency_key.is_empty()
            && let Some(position) = self.idempotency.find(name, idempotency_key, now.ms)
        {
            return Ok(position);
        }
        let delta = rules.delta_publish || options.delta;
        let publication = || Publication { offset: 0, time_ms: now.unix_ms, delta, ..publication() };
        let position = if rules.keeps_history() && !options.skip_history {
            let key = key.unwrap_or_else(|| self.create(&name.into(), rules));
            self.publish_to_stream(name, key, publication, options, now, out)
        } else {
            self.publish_to_subscribers(name, (key, rules), publication, out);
            None
        };
        if !idempotency_key.is_empty() {
            self.idempotency.insert(name, idempotency_key, position.clone(), now.ms);
        }
        Ok(position)
    }

    fn publish_to_subscribers(
        &mut self,
        name: &str,
        (key, rules): (Option<OwnedKey>, Rules),
        publication: impl FnOnce() -> Publication,
        out: &mut dyn Outgoing,
    ) {
        self.counters.increment(Counter::Publications);
        let channel = key.and_then(|key| Some((key, self.channels.get(key)?)));
        let channel = channel.filter(|(_, channel)| channel.interest.subscribers() > 0);
        let may_match = rules.wildcards && !self.patterns.is_empty();
        if channel.is_none() && !may_match {
            return;
        }
        let publication = Arc::new(publication());
        if may_match {
            self.publish_to_patterns(name, &publication, out);
        }
        if let Some((key, channel)) = channel {
            forward(key, channel, &Forward::Publication(publication), out);
        }
    }

    /// To the cores with subscribers of patterns that `name` matches. They are told where it was published.
    fn publish_to_patterns(&self, name: &str, publication: &Arc<Publication>, out: &mut dyn Outgoing) {
        if self.namespaces.is_limited(name) {
            return;
        }
        let mut placed: Option<Arc<Publication>> = None;
        self.patterns.each(self.namespaces.split(name), |core, hub| {
            let placed = placed.get_or_insert_with(|| {
                let extra = Some(Box::new(Extra { channel: Some(name.into()), ..Extra::default() }));
                let mut placed = Publication { extra, ..(**publication).clone() };
                if placed.tags.iter().all(|(tag, _)| **tag != *CHANNEL_TAG) {
                    placed.tags.push((CHANNEL_TAG.into(), name.into()));
                }
                Arc::new(placed)
            });
            out.send(core, Mesh::Match { hub, publication: Arc::clone(placed) });
        });
    }

    fn publish_to_stream(
        &mut self,
        name: &str,
        key: OwnedKey,
        publication: impl FnOnce() -> Publication,
        options: &PublishOptions,
        now: Now,
        out: &mut dyn Outgoing,
    ) -> Option<Position> {
        let history = &self.use_stream(key, now.ms)?.history;
        if history.is_outdated(options.version, &options.version_epoch) {
            return Some(history.position());
        }
        self.counters.increment(Counter::Publications);
        let channel = self.channels.get_mut(key)?;
        let (publication, position) = append(channel, &mut self.wheel, key, publication(), now)?;
        channel.stream.as_deref_mut()?.history.set_version(options.version, &options.version_epoch);
        let placed = (channel.rules.wildcards && !self.patterns.is_empty()).then(|| Arc::clone(&publication));
        forward(key, channel, &Forward::Publication(publication), out);
        if let Some(placed) = placed {
            self.publish_to_patterns(name, &placed, out);
        }
        self.keep_stream(key, now.ms);
        Some(position)
    }
}

/// Gives a publication its place in the stream, which expires as a whole, a while after its last publication.
pub(super) fn append(
    channel: &mut Channel,
    wheel: &mut Wheel,
    key: OwnedKey,
    publication: Publication,
    now: Now,
) -> Option<(Arc<Publication>, Position)> {
    let stream = channel.stream.as_deref_mut()?;
    let publication = stream.history.append(publication, channel.rules.history_size as usize);
    stream.history_expires_ms = now.ms.saturating_add(channel.rules.history_ttl_ms);
    if !stream.history_armed {
        stream.history_armed = true;
        wheel.insert(stream.history_expires_ms, Timer::History.token(key));
    }
    Some((publication, stream.history.position()))
}
