//! The stream of one channel: where it stands and the last publications in it.
//!
//! Offsets in the ring are contiguous and end at the top, so that an offset is found by subtraction.
//! Bounded to `channel.history_size` publications, each as large as a publisher may make it.
//!
//! No time here: whoever owns the stream clears it when its time has come.

use crate::{
    broker::mesh::{HistoryFilter, Recover},
    model::{ErrorCode, Position, Publication},
};
use std::{collections::VecDeque, sync::Arc};

#[derive(Debug)]
pub struct History {
    epoch: Arc<str>,
    /// Offset of the newest publication, whether or not it is still here.
    top: u64,
    ring: VecDeque<Arc<Publication>>,
    /// Of the last publication that had one.
    version: u64,
    version_epoch: Box<str>,
}

impl History {
    #[must_use]
    pub fn new(epoch: Arc<str>) -> Self {
        Self { epoch, top: 0, ring: VecDeque::new(), version: 0, version_epoch: Box::default() }
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position { offset: self.top, epoch: self.epoch.clone() }
    }

    #[must_use]
    pub fn top(&self) -> u64 {
        self.top
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Gives `publication` the next offset and keeps it, forgetting the oldest beyond `size`.
    pub fn append(&mut self, mut publication: Publication, size: usize) -> Arc<Publication> {
        self.top += 1;
        publication.offset = self.top;
        let publication = Arc::new(publication);
        self.ring.push_back(publication.clone());
        while self.ring.len() > size {
            self.ring.pop_front();
        }
        publication
    }

    /// Forgets the publications and frees their memory; the position stays.
    pub fn clear(&mut self) {
        self.ring = VecDeque::new();
    }

    /// Whether a publication with this version says nothing new: not above the last version, which must be
    /// of the same version epoch unless the publication has none. Version 0 always is new.
    #[must_use]
    pub fn is_outdated(&self, version: u64, version_epoch: &str) -> bool {
        let comparable = version_epoch.is_empty() || *version_epoch == *self.version_epoch;
        version > 0 && comparable && version <= self.version
    }

    /// Remembers the version of the publication that was just taken.
    pub fn set_version(&mut self, version: u64, version_epoch: &str) {
        if version > 0 {
            self.version = version;
            self.version_epoch = version_epoch.into();
        }
    }

    /// The publications a client missed, in ascending order: all of them, or `None` when some are gone, when
    /// there are more than `limit`, or when the client speaks of another stream or of a later place in it.
    ///
    /// Semantics follow Centrifugo's recovery: https://centrifugal.dev/docs/server/history_and_recovery
    #[must_use]
    pub fn recover(&self, from: &Recover, limit: usize) -> Option<Vec<Arc<Publication>>> {
        if !self.is_epoch(&from.epoch) {
            return None;
        }
        let missed = usize::try_from(self.top.checked_sub(from.offset)?).ok()?;
        let start = self.ring.len().checked_sub(missed)?;
        (missed <= limit).then(|| self.ring.range(start..).cloned().collect())
    }

    /// The latest publication, nothing for a client that has it; `None` when it is gone or there was none.
    #[must_use]
    pub fn recover_latest(&self, from: &Recover) -> Option<Vec<Arc<Publication>>> {
        let has_it = from.offset > 0 && from.offset == self.top && *from.epoch == *self.epoch;
        if has_it {
            return Some(Vec::new());
        }
        self.ring.back().map(|latest| vec![Arc::clone(latest)])
    }

    /// At most `filter.limit` publications, ascending from the oldest after `since`, or descending from the
    /// newest before it. Memory: at most the ring, whatever the limit says.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] for what lies before offset 0; [`ErrorCode::UnrecoverablePosition`] for a
    /// place in another stream.
    pub fn read(&self, filter: &HistoryFilter) -> Result<Vec<Arc<Publication>>, ErrorCode> {
        let offset = match &filter.since {
            Some(since) if filter.reverse && since.offset == 0 => return Err(ErrorCode::BadRequest),
            Some(since) if !self.is_epoch(&since.epoch) => return Err(ErrorCode::UnrecoverablePosition),
            Some(since) => since.offset,
            None if filter.reverse => u64::MAX,
            None => 0,
        };
        // Offset of the publication before the first one kept.
        let base = self.top - self.ring.len() as u64;
        let limit = filter.limit;
        Ok(if filter.reverse {
            let end = self.kept_until(offset.saturating_sub(base + 1));
            self.ring.range(..end).rev().take(limit).cloned().collect()
        } else {
            let start = self.kept_until(offset.saturating_sub(base));
            self.ring.range(start..).take(limit).cloned().collect()
        })
    }

    /// `count` as an index into the ring, at most its length.
    fn kept_until(&self, count: u64) -> usize {
        usize::try_from(count).map_or(self.ring.len(), |count| count.min(self.ring.len()))
    }

    /// An empty epoch means any.
    fn is_epoch(&self, epoch: &str) -> bool {
        epoch.is_empty() || *epoch == *self.epoch
    }

    /// Panics when the ring is not what the header of this module says.
    pub fn invariants(&self, size: usize) {
        assert!(self.ring.len() <= size, "{} publications of at most {size}", self.ring.len());
        for (age, publication) in self.ring.iter().rev().enumerate() {
            assert_eq!(publication.offset, self.top - age as u64, "offsets have a hole");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(number: u64) -> Publication {
        Publication { data: number.to_string().into_bytes().into(), ..Publication::default() }
    }

    fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
        for publication in publications {
            assert_eq!(*publication.data, *publication.offset.to_string().as_bytes());
        }
        publications.iter().map(|publication| publication.offset).collect()
    }

    #[test]
    fn versions() {
        #[track_caller]
        fn check(last: (u64, &str), next: (u64, &str), outdated: bool) {
            let mut history = History::new("e".into());
            history.set_version(last.0, last.1);
            assert_eq!(history.is_outdated(next.0, next.1), outdated, "{last:?} {next:?}");
        }
        check((0, ""), (0, ""), false);
        check((0, ""), (1, ""), false);
        check((5, ""), (0, ""), false);
        check((5, ""), (4, ""), true);
        check((5, ""), (5, ""), true);
        check((5, ""), (6, ""), false);
        check((5, "a"), (5, "a"), true);
        check((5, "a"), (6, "a"), false);
        // Another epoch starts from scratch; none compares with whatever there was.
        check((5, "a"), (1, "b"), false);
        check((5, "a"), (5, ""), true);
        check((5, ""), (1, "b"), false);

        let mut history = History::new("e".into());
        history.set_version(5, "a");
        history.set_version(0, "b");
        assert!(history.is_outdated(5, "a"), "a publication without version changes nothing");
    }

    // The ring agrees with the obvious implementation that never forgets.
    #[test]
    fn agrees_with_model() {
        arbtest::arbtest(|u| {
            let size = u.int_in_range(1..=5usize)?;
            let mut history = History::new("e".into());
            // Offsets run from 1; `kept` is the first one that is still here.
            let (mut top, mut kept) = (0u64, 1u64);
            for _ in 0..u.int_in_range(0..=40)? {
                let since = Recover {
                    offset: u.int_in_range(0..=top + 2)?,
                    epoch: (*u.choose(&["", "e", "e", "f"])?).into(),
                };
                let same = &*since.epoch != "f";
                let limit = u.int_in_range(0..=6usize)?;
                match u.int_in_range(0..=5)? {
                    0..=2 => {
                        top += 1;
                        kept = kept.max((top + 1).saturating_sub(size as u64));
                        assert_eq!(history.append(publication(top), size).offset, top);
                    }
                    3 if u.ratio(1, 3)? => {
                        history.clear();
                        kept = top + 1;
                    }
                    3 | 4 => {
                        let missed: Vec<u64> = (since.offset + 1..=top).collect();
                        let whole = same
                            && since.offset <= top
                            && missed.len() <= limit
                            && missed.first().is_none_or(|&first| first >= kept);
                        let got = history.recover(&since, limit);
                        assert_eq!(got.map(|it| offsets(&it)), whole.then_some(missed));
                    }
                    _ => {
                        let reverse = u.arbitrary()?;
                        let since = if u.arbitrary()? { Some(since) } else { None };
                        let from = since.as_ref().map(|since| since.offset);
                        let mut want: Vec<u64> = (kept..=top)
                            .filter(|&it| from.is_none_or(|from| if reverse { it < from } else { it > from }))
                            .collect();
                        if reverse {
                            want.reverse();
                        }
                        want.truncate(limit);
                        let want = match from {
                            Some(0) if reverse => Err(ErrorCode::BadRequest),
                            Some(_) if !same => Err(ErrorCode::UnrecoverablePosition),
                            _ => Ok(want),
                        };
                        let got = history.read(&HistoryFilter { limit, since, reverse });
                        assert_eq!(got.map(|it| offsets(&it)), want);
                    }
                }
                history.invariants(size);
                assert_eq!((history.top(), history.ring.len() as u64), (top, top + 1 - kept));
            }
            Ok(())
        });
    }
}
