//! The members of one channel on this core who get the same bytes, and what they get in this turn.
//!
//! During a turn publications, joins and leaves are only noted. When a group's list closes (before private
//! bytes about the channel go to a member, before somebody becomes a member, at the end of the turn) it is
//! encoded once, back to back, as finished frames in the turn's segment, and each member gets one span. A
//! group of one encodes into its member's open frame.
//!
//! What sets a group apart from the plain one of its channel, it remembers in its variant.
//!
//! What is not JSON never enters a JSON group and is counted. Limits are those of the outboxes; the list of a
//! turn is bounded by the turn.

mod delta;
mod encode;
mod entries;
mod filter;
#[cfg(test)]
mod tests;
mod variant;

pub use entries::{Change, show};
pub use filter::{Filter, FilterError};

use crate::{
    broker::outbox::{Framing, WritePath},
    metrics::{Counter, Counters},
    model::{ClientInfo, ConnKey, Protocol, Publication},
    stdx::{
        slab::{Key, Slab},
        snug,
    },
    wire::{
        client::{Dialect, Patch},
        json::is_json,
    },
};
use delta::Deltas;
use std::{collections::BTreeMap, sync::Arc};
use variant::{Adapted, Variant};

/// Names a group on its core.
pub type GroupKey = Key;

/// What the members of a group have in common besides the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    pub framing: Framing,
    pub protocol: Protocol,
    /// Members get joins and leaves.
    pub join_leave: bool,
    /// Members can make a publication of the difference to the one before.
    pub delta: bool,
    /// What members call the channel in publications, joins and leaves; 0: by its name.
    pub number: u32,
    /// At most one publication, the newest, in every interval of so many milliseconds, of a map one of each entry;
    /// 0: all of them.
    pub conflate_ms: u32,
    /// Members are not told what they published themselves.
    pub no_echo: bool,
    /// How pushes are put together.
    pub dialect: Dialect,
}

/// Something that happened in a channel and that its subscribers are told.
#[derive(Clone, Debug)]
pub enum Note {
    /// `epoch` for the publication with offset 1, as [`crate::wire::client::Push::Publication`] says.
    Publication {
        publication: Arc<Publication>,
        epoch: Option<Arc<str>>,
    },
    /// A publication for members with [`Class::delta`].
    Patched {
        publication: Arc<Publication>,
        patch: Patch,
    },
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
}

#[derive(Debug)]
struct Group {
    channel: Arc<str>,
    class: Class,
    members: Vec<ConnKey>,
    /// What happened since the list was closed last; nothing while there are no members.
    notes: Vec<Note>,
    variant: Option<Box<Variant>>,
}

/// Lists without notes kept for the next turns.
const SPARE_LISTS_MAX: usize = 256;

/// Notes a kept list has room for, at most.
const SPARE_LIST_LEN_MAX: usize = 256;

/// The groups of one core.
#[derive(Debug)]
pub struct Groups {
    groups: Slab<Group>,
    /// Groups with notes; some may be closed or gone by now.
    touched: Vec<GroupKey>,
    /// Bytes of a frame that closes it.
    frame_size_target: usize,
    /// The frame being encoded.
    frame: Vec<u8>,
    spare_lists: Vec<Vec<Note>>,
    deltas: Deltas,
    /// Groups that may have become like others since they were looked at last.
    told: Vec<GroupKey>,
    /// Groups for which something waits, by when it must not wait any longer. Some may be gone.
    due: BTreeMap<u64, Vec<GroupKey>>,
    now_ms: u64,
}

impl Groups {
    /// Shared frames are closed once they have `frame_size_target` bytes.
    #[must_use]
    pub fn new(frame_size_target: usize) -> Self {
        Self {
            groups: Slab::default(),
            touched: Vec::new(),
            frame_size_target,
            frame: Vec::new(),
            spare_lists: Vec::new(),
            deltas: Deltas::default(),
            told: Vec::new(),
            due: BTreeMap::new(),
            now_ms: 0,
        }
    }

    /// What is noted from here on is noted at this time, on `Now::ms`.
    pub fn begin_turn(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// An empty group. With a filter its members are told only what passes.
    pub fn create(&mut self, channel: Arc<str>, class: Class, filter: Option<Arc<Filter>>) -> GroupKey {
        let variant = Variant::new(class, filter, false);
        self.groups.insert(Group { channel, class, members: Vec::new(), notes: Vec::new(), variant })
    }

    /// Says that there are others like this group of this core, which it shall join when it can.
    pub fn set_loose(&mut self, group: GroupKey) {
        if let Some(group) = self.groups.get_mut(group) {
            let variant = group.variant.take().or_else(|| Variant::new(group.class, None, true));
            group.variant = variant.map(|mut variant| {
                variant.loose = true;
                variant
            });
        }
    }

    /// An empty group that was told what the members of `group` were told and wants what they want. `None` when
    /// the group does not exist.
    pub fn split(&mut self, group: GroupKey) -> Option<GroupKey> {
        let Group { channel, class, variant, .. } = self.groups.get(group)?;
        let (channel, class, variant) = (Arc::clone(channel), *class, variant.clone());
        let waits = variant.as_ref().is_some_and(|variant| variant.is_held());
        let key =
            self.groups.insert(Group { channel, class, members: Vec::new(), notes: Vec::new(), variant });
        self.set_loose(key);
        self.told.push(key);
        if waits {
            let due_ms = variant::next_interval_ms(self.now_ms, class);
            self.due.entry(due_ms).or_default().push(key);
        }
        Some(key)
    }

    /// When [`Groups::release`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.first_key_value().map(|(due_ms, _)| *due_ms)
    }

    /// Notes what has waited for its interval.
    pub fn release(&mut self, counters: &mut Counters) {
        while let Some(due) = self.due.first_entry().filter(|due| *due.key() <= self.now_ms) {
            for key in due.remove() {
                let Some(group) = self.groups.get_mut(key) else { continue };
                if let Some(variant) = &mut group.variant {
                    let changes = variant.release_changes(group.class, self.now_ms);
                    if changes.is_empty()
                        && let Some(note) = variant.release()
                    {
                        self.note(&[key], &note, counters);
                    }
                    self.note_held(key, &changes, counters);
                }
                self.told.push(key);
            }
        }
    }

    /// Removes a group, with its members and what was noted for them.
    pub fn delete(&mut self, group: GroupKey) {
        if let Some(group) = self.groups.remove(group) {
            self.keep_list(group.notes);
        }
    }

    /// Makes a connection a member and returns its place. What was noted before is not for it: the list must
    /// have been closed ([`Groups::close_list`]).
    ///
    /// # Panics
    /// When the group does not exist or its list is open.
    pub fn add(&mut self, group: GroupKey, conn: ConnKey) -> u32 {
        let Some(group) = self.groups.get_mut(group) else { panic!("a member for a group that is gone") };
        assert!(group.notes.is_empty(), "a member joins {} while its list is open", group.channel);
        snug::push(&mut group.members, conn);
        (group.members.len() - 1) as u32
    }

    /// Ends the membership at this place. The last member moves there: its key is returned, if there is one.
    /// What was noted and not closed is not sent to who left.
    ///
    /// # Panics
    /// When the group does not exist or the place is not taken.
    pub fn remove(&mut self, group: GroupKey, member: u32) -> Option<ConnKey> {
        let Some(group) = self.groups.get_mut(group) else { panic!("a member of a group that is gone") };
        group.members.swap_remove(member as usize);
        let moved = group.members.get(member as usize).copied();
        if group.members.is_empty() {
            let notes = std::mem::take(&mut group.notes);
            self.keep_list(notes);
        }
        moved
    }

    /// Number of members; 0 when the group does not exist.
    #[must_use]
    pub fn len(&self, group: GroupKey) -> usize {
        self.members(group).len()
    }

    /// Members by place.
    #[must_use]
    pub fn members(&self, group: GroupKey) -> &[ConnKey] {
        self.groups.get(group).map_or(&[], |group| &group.members)
    }

    /// Whether a subscriber of this class and with this filter may become a member.
    #[must_use]
    pub fn takes(&self, group: GroupKey, class: Class, filter: Option<&Arc<Filter>>) -> bool {
        let takes = |group: &Group| group.class == class && Variant::takes(group.variant.as_deref(), filter);
        self.groups.get(group).is_some_and(takes)
    }

    /// Whether the group is for subscribers of this class and with this filter, whatever it was told.
    #[must_use]
    pub fn is_for(&self, group: GroupKey, class: Class, filter: Option<&Arc<Filter>>) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| group.class == class && Variant::filter(group.variant.as_deref()) == filter)
    }

    /// Whether members are not told what they published themselves.
    #[must_use]
    pub fn is_without_echo(&self, group: GroupKey) -> bool {
        self.groups.get(group).is_some_and(|group| group.class.no_echo)
    }

    /// The name of the group's channel.
    #[must_use]
    pub fn channel(&self, group: GroupKey) -> Option<&str> {
        self.groups.get(group).map(|group| &*group.channel)
    }

    /// Whether members of both groups of a channel have been told the same and will be. Their lists are closed.
    #[must_use]
    pub fn are_alike(&self, group: GroupKey, other: GroupKey) -> bool {
        let both = self.groups.get(group).zip(self.groups.get(other)).filter(|_| group != other);
        both.is_some_and(|(one, other)| {
            one.class == other.class && Variant::are_alike(one.variant.as_deref(), other.variant.as_deref())
        })
    }

    /// The members of `from`, whose list is closed, are now to be members of `to`, which is like it: takes them out.
    ///
    /// # Panics
    /// When the list is open.
    pub fn absorb(&mut self, from: GroupKey, to: GroupKey) -> Vec<ConnKey> {
        let Some(from) = self.groups.remove(from) else { return Vec::new() };
        assert!(from.notes.is_empty(), "the members of {} move while its list is open", from.channel);
        if let Some(variant) = self.groups.get_mut(to).and_then(|to| to.variant.as_mut()) {
            variant.absorb(from.variant.as_deref());
        }
        from.members
    }

    /// A group that may have become like another one.
    pub fn next_told(&mut self) -> Option<GroupKey> {
        self.told.pop()
    }

    /// How to tell a client of one more class of `publications` in a reply: each as the difference to the one before.
    pub fn patches(
        &mut self,
        publications: &[Arc<Publication>],
        protocol: Protocol,
        counters: &mut Counters,
    ) -> Vec<Patch> {
        let mut before: Option<&Arc<Publication>> = None;
        let patch = |after| {
            let before = before.replace(after)?;
            self.deltas.patch(before, after, protocol, counters)
        };
        publications.iter().map(patch).collect()
    }

    /// Notes something in the groups of its channel that it concerns. What holds payloads that are not JSON is
    /// withheld from JSON groups; whether it does is looked at here, once for all of them.
    pub fn note(&mut self, groups: &[GroupKey], note: &Note, counters: &mut Counters) {
        let mut json = None;
        for &key in groups {
            let Some(group) = self.groups.get_mut(key) else { continue };
            if group.members.is_empty() || !group.class.wants(note) {
                continue;
            }
            if group.class.protocol == Protocol::Json && !*json.get_or_insert_with(|| note.is_json()) {
                continue;
            }
            let note = match &mut group.variant {
                None => note.clone(),
                Some(variant) => {
                    if variant.loose {
                        self.told.push(key);
                    }
                    match variant.adapt(note, group.class, self.now_ms, &mut self.deltas, counters) {
                        Adapted::Told(note) => note,
                        Adapted::Waits(Some(due_ms)) => {
                            self.due.entry(due_ms).or_default().push(key);
                            continue;
                        }
                        Adapted::Waits(None) | Adapted::NotWanted => continue,
                    }
                }
            };
            enlist(group, key, note, &mut self.touched, &mut self.spare_lists);
        }
        if json == Some(false) {
            counters.increment(Counter::PublicationsNotJson);
        }
    }

    /// Encodes what was noted and hands it to the members. Nothing happens when nothing was noted.
    pub fn close_list(&mut self, group: GroupKey, write: &mut WritePath, counters: &mut Counters) {
        let Some(group) = self.groups.get_mut(group).filter(|group| !group.notes.is_empty()) else { return };
        let notes = std::mem::take(&mut group.notes);
        counters.add(Counter::MessagesDelivered, (notes.len() * group.members.len()) as u64);
        if let &[only] = group.members.as_slice() {
            for note in &notes {
                write.message(only, |out, frame_start| {
                    encode::note(group.class, &group.channel, note, out, frame_start);
                });
            }
        } else {
            let frames = share(
                group,
                &notes,
                group.class.framing.frame_max(self.frame_size_target),
                &mut self.frame,
                write,
            );
            counters.add(Counter::FramesShared, frames);
        }
        self.keep_list(notes);
    }

    /// Closes the list of every touched group: the end of the turn.
    pub fn close_all(&mut self, write: &mut WritePath, counters: &mut Counters) {
        let mut touched = std::mem::take(&mut self.touched);
        for group in touched.drain(..) {
            self.close_list(group, write, counters);
        }
        self.touched = touched;
        self.deltas.forget();
    }

    fn keep_list(&mut self, mut notes: Vec<Note>) {
        let useful = 0 < notes.capacity() && notes.capacity() <= SPARE_LIST_LEN_MAX;
        if useful && self.spare_lists.len() < SPARE_LISTS_MAX {
            notes.clear();
            self.spare_lists.push(notes);
        }
    }
}

/// Puts a note on the list of its group.
#[inline]
fn enlist(
    group: &mut Group,
    key: GroupKey,
    note: Note,
    touched: &mut Vec<GroupKey>,
    spare_lists: &mut Vec<Vec<Note>>,
) {
    if group.notes.is_empty() {
        group.notes = spare_lists.pop().unwrap_or_default();
        touched.push(key);
    }
    group.notes.push(note);
}

/// Puts the notes into the turn's segment, once, and hands each member the span. Returns the number of frames.
fn share(group: &Group, notes: &[Note], frame_max: usize, frame: &mut Vec<u8>, write: &mut WritePath) -> u64 {
    let mut frames = 0;
    let mut shared = None;
    for (index, note) in notes.iter().enumerate() {
        encode::note(group.class, &group.channel, note, frame, 0);
        if frame.len() < frame_max && index + 1 < notes.len() {
            continue;
        }
        let mut span = write.share(group.class.framing, frame);
        frame.clear();
        frames += 1;
        if let Some(before) = shared.take() {
            match span.after(before) {
                Some(both) => span = both,
                None => write.hand_out(&group.members, before),
            }
        }
        shared = Some(span);
    }
    if let Some(span) = shared {
        write.hand_out(&group.members, span);
    }
    frames
}

impl Class {
    /// The class of those who wish nothing.
    #[must_use]
    pub const fn plain(framing: Framing, protocol: Protocol) -> Self {
        Self {
            framing,
            protocol,
            join_leave: false,
            delta: false,
            number: 0,
            conflate_ms: 0,
            no_echo: false,
            dialect: Dialect::V2,
        }
    }

    fn wants(self, note: &Note) -> bool {
        match note {
            Note::Publication { .. } | Note::Patched { .. } => true,
            Note::Join(_) | Note::Leave(_) => self.join_leave,
        }
    }
}

impl Note {
    /// Every payload in it is one JSON value.
    fn is_json(&self) -> bool {
        match self {
            Self::Publication { publication, .. } | Self::Patched { publication, .. } => {
                publication_is_json(publication)
            }
            Self::Join(info) | Self::Leave(info) => info_is_json(info),
        }
    }
}

/// May a JSON client be told of it?
pub(super) fn publication_is_json(publication: &Publication) -> bool {
    (publication.json || is_json(&publication.data))
        && publication.info.as_ref().is_none_or(|info| info_is_json(info))
}

pub(super) fn info_is_json(info: &ClientInfo) -> bool {
    [&info.conn_info, &info.chan_info].into_iter().flatten().all(|payload| is_json(payload))
}
