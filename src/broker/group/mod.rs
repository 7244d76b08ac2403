//! The members of one channel on this core who get the same bytes, and what they get in this turn.
//!
//! During a turn publications, joins and leaves are only noted. When a group's list closes (before private
//! bytes about the channel go to a member, before somebody becomes a member, at the end of the turn) it is
//! encoded once, back to back, as finished frames in the turn's segment, and each member gets one span. A
//! group of one encodes into its member's open frame.
//!
//! What is not JSON never enters a JSON group and is counted. Limits are those of the outboxes; the list of a
//! turn is bounded by the turn.

mod encode;
#[cfg(test)]
mod tests;

use crate::{
    broker::outbox::{Framing, WritePath},
    metrics::{Counter, Counters},
    model::{ClientInfo, ConnKey, Protocol, Publication},
    stdx::slab::{Key, Slab},
    wire::json::is_json,
};
use std::sync::Arc;

/// Names a group on its core.
pub type GroupKey = Key;

/// What the members of a group have in common besides the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    pub framing: Framing,
    pub protocol: Protocol,
    /// Members get joins and leaves.
    pub join_leave: bool,
}

/// Something that happened in a channel and that its subscribers are told.
#[derive(Clone, Debug)]
pub enum Note {
    /// `epoch` for the publication with offset 1, as [`crate::wire::client::Push::Publication`] says.
    Publication {
        publication: Arc<Publication>,
        epoch: Option<Arc<str>>,
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
        }
    }

    /// An empty group.
    pub fn create(&mut self, channel: Arc<str>, class: Class) -> GroupKey {
        self.groups.insert(Group { channel, class, members: Vec::new(), notes: Vec::new() })
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
        group.members.push(conn);
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

    #[must_use]
    pub fn class(&self, group: GroupKey) -> Option<Class> {
        self.groups.get(group).map(|group| group.class)
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
            if group.notes.is_empty() {
                group.notes = self.spare_lists.pop().unwrap_or_default();
                self.touched.push(key);
            }
            group.notes.push(note.clone());
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
                    encode::note(group.class.protocol, &group.channel, note, out, frame_start);
                });
            }
        } else {
            let frames = share(group, &notes, self.frame_size_target, &mut self.frame, write);
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
    }

    fn keep_list(&mut self, mut notes: Vec<Note>) {
        let useful = 0 < notes.capacity() && notes.capacity() <= SPARE_LIST_LEN_MAX;
        if useful && self.spare_lists.len() < SPARE_LISTS_MAX {
            notes.clear();
            self.spare_lists.push(notes);
        }
    }
}

/// Puts the notes into the turn's segment, once, and hands each member the span. Returns the number of frames.
fn share(group: &Group, notes: &[Note], frame_max: usize, frame: &mut Vec<u8>, write: &mut WritePath) -> u64 {
    let mut frames = 0;
    let mut shared = None;
    for (index, note) in notes.iter().enumerate() {
        encode::note(group.class.protocol, &group.channel, note, frame, 0);
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
    fn wants(self, note: &Note) -> bool {
        match note {
            Note::Publication { .. } => true,
            Note::Join(_) | Note::Leave(_) => self.join_leave,
        }
    }
}

impl Note {
    /// Every payload in it is one JSON value.
    fn is_json(&self) -> bool {
        match self {
            Self::Publication { publication, .. } => publication_is_json(publication),
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
