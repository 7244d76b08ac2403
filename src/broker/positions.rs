//! Publications as they arrive from their owners, and the periodic check that none was lost.

use super::{
    core::Core,
    group::{Change, Note},
    hub::{Follows, HubKey},
    mesh::{Ask, Forward, OwnedKey},
    pending::Pending,
};
use crate::{
    model::{CoreId, Position, Publication},
    stdx::slab::Key,
};
use std::sync::Arc;

impl Core {
    /// Something happened in a channel this core has subscribers of. A channel nobody here wants any more
    /// is ignored: the owner has not heard of it yet.
    pub(super) fn on_forward(&mut self, owner: CoreId, owned: OwnedKey, forward: Forward) {
        let Some(hub) = self.hub.find_owned(owner, owned) else { return };
        match forward {
            Forward::Publication(publication) => {
                self.follow(hub, &publication);
                let Some(channel) = self.hub.get_mut(hub) else { return };
                // One more than may be recovered says that there were too many.
                let most = self.settings.client.recovery_max_publication_limit;
                for early in channel.early.iter_mut().filter(|early| early.publications.len() <= most) {
                    early.publications.push(Arc::clone(&publication));
                }
                let epoch = channel.epoch_of(&publication);
                if channel.has_quiet {
                    return self.note_without_echo(hub, publication, epoch);
                }
                let note = Note::Publication { publication, epoch };
                self.groups.note(&channel.groups, &note, &mut self.counters);
            }
            Forward::Item(publication) => self.on_item(hub, &publication),
            Forward::Change { publication, before } => {
                self.follow(hub, &publication);
                let Some(channel) = self.hub.get(hub) else { return };
                let epoch = channel.epoch_of(&publication);
                let change = Change { publication, before, epoch };
                self.groups.note_change(&channel.groups, &change, &mut self.counters);
            }
            Forward::Join(info) => self.note(hub, &Note::Join(info)),
            Forward::Leave(info) => self.note(hub, &Note::Leave(info)),
            Forward::Gap => self.insufficient(hub),
        }
    }

    /// Moves the position of a channel on; one that was lost is declared.
    #[inline]
    fn follow(&mut self, hub: HubKey, publication: &Publication) {
        let Some(channel) = self.hub.get_mut(hub) else { return };
        let follows = channel.advance(publication) == Follows::Yes;
        if !follows || self.now.unix_ms > publication.time_ms.saturating_add(self.lag_max_ms) {
            self.insufficient(hub);
        }
    }

    fn note(&mut self, hub: HubKey, note: &Note) {
        if let Some(channel) = self.hub.get(hub) {
            self.groups.note(&channel.groups, note, &mut self.counters);
        }
    }

    /// Notes a publication in all groups but the one of its publisher, if that is not to be told.
    pub(super) fn note_without_echo(
        &mut self,
        hub: HubKey,
        publication: Arc<Publication>,
        epoch: Option<Arc<str>>,
    ) {
        let apart = publication.info.as_ref().and_then(|info| self.set_apart(hub, info.client));
        let Some(channel) = self.hub.get(hub) else { return };
        let groups: Vec<_> = channel.groups.iter().copied().filter(|&group| Some(group) != apart).collect();
        self.groups.note(&groups, &Note::Publication { publication, epoch }, &mut self.counters);
    }

    fn check_delay_ms(&self) -> u64 {
        u64::try_from(self.settings.client.channel_position_check_delay.as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts the timer of the position check, if it is wanted and not running.
    pub(super) fn schedule_position_check(&mut self, hub: HubKey) {
        let delay_ms = self.check_delay_ms();
        if delay_ms == 0 {
            return;
        }
        let at_ms = self.now.ms + delay_ms;
        let Some(channel) = self.hub.get_mut(hub) else { return };
        if !std::mem::replace(&mut channel.check_timer, true) {
            self.hub_wheel.insert(at_ms, hub.to_bits());
        }
    }

    pub(super) fn on_hub_timer(&mut self, bits: u64) {
        let hub = Key::from_bits(bits);
        let delay_ms = self.check_delay_ms();
        let Some(channel) = self.hub.get_mut(hub) else { return };
        channel.check_timer = false;
        // Without members the position is that of the last one; the next one brings its own.
        if channel.position.is_none() || channel.live == 0 {
            return;
        }
        let due = self.now.ms.saturating_sub(channel.checked_ms) >= delay_ms;
        let (owner, owned) = (channel.owner, channel.owned);
        if due
            && let Some(owned) = owned
            && self.out.take_credit(owner)
        {
            self.ask(owner, Ask::Position { channel: owned }, Pending::Position { hub, owned });
        }
        self.schedule_position_check(hub);
    }

    /// The owner's answer comes behind everything it has forwarded: positions differ only after a loss, or when
    /// the answer is about the channel as it was before all subscribers left and others came.
    pub(super) fn on_position(&mut self, hub: HubKey, owned: OwnedKey, top: Option<&Position>) {
        let Some(channel) = self.hub.get_mut(hub).filter(|channel| channel.owned == Some(owned)) else {
            return;
        };
        channel.checked_ms = self.now.ms;
        if channel.position.is_some() && channel.position.as_ref() != top {
            self.insufficient(hub);
        }
    }
}
