//! A moment of the table, kept while the table goes on changing: what snapshots are made from, without a copy of anything.
//!
//! Every entry carries a mark, one bit, and so does the table. `freeze` flips the table's: at once no entry counts as
//! saved, and none was touched. From then on each is saved, as the edit that puts it, and given the table's mark, either
//! by the walk, which goes segment by segment in the order of prefixes, or by what is about to change it, whichever comes
//! first. New entries have the table's mark. When the walk is over all have it, and nothing is to be reset.
//!
//! The rule that must hold: an entry with another mark than the table's is in a database that has a walk, at a prefix that
//! the walk has not come to. Splits and joins move entries between segments, never to another prefix.

#[cfg(test)]
mod tests;

use super::edit::{Edit, EditLog};
use super::entry::{Entry, Value};
use super::packed::{Mark, Packed};
use super::segment::Segment;
use super::table::prefetch;
use crate::types::Large;
use crate::units::Db;
use std::collections::VecDeque;

/// A walk that has saved so much waits until it is taken: large values must not come by the hundred.
const SAVED_BYTES_FULL: usize = 1 << 20;
/// Entries loaded ahead of the one that is saved.
const PREFETCH_AHEAD: usize = 16;

/// What all databases of a table share of it.
#[derive(Default)]
pub(super) struct Frozen {
    mark: Mark,
    is_running: bool,
    saved: Saved,
}

/// How far the walk of one database has come. A database without one has nothing to save.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// Its number at the moment of `freeze`: databases can be swapped.
    origin: Db,
    /// The prefix where it goes on.
    at: u64,
}

/// Entries as edits, for whoever froze the store to take.
#[derive(Default)]
pub(super) struct Saved {
    /// Off once nobody wants them.
    log: EditLog,
    /// Large collections of which only a part is saved yet: clones, so they may change meanwhile.
    rest: VecDeque<Rest>,
}

/// The rest of a large collection.
struct Rest {
    db: Db,
    key: Box<[u8]>,
    large: Large,
    from: u64,
}

impl Frozen {
    /// The mark of entries that the running walk has nothing to do with; of all, when none is running.
    #[inline]
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }
    /// From here on no entry is saved. What an earlier walk saved and nobody took is forgotten.
    pub(super) fn begin(&mut self) {
        assert!(!self.is_running, "one walk ends before the next begins");
        self.mark = self.mark.flipped();
        self.is_running = true;
        self.saved = Saved::default();
    }
    pub(super) fn end(&mut self) {
        self.is_running = false;
    }
    /// Whether what is saved will be taken.
    pub(super) fn is_wanted(&self) -> bool {
        self.saved.log.is_enabled()
    }
    pub(super) fn saved(&self) -> &Saved {
        &self.saved
    }
    pub(super) fn saved_mut(&mut self) -> &mut Saved {
        &mut self.saved
    }
    /// To be called with every entry that is about to change or go, and the walk of its database.
    #[inline]
    pub(super) fn before_change(&mut self, walk: &Option<Walk>, packed: Packed) {
        if packed.mark() != self.mark {
            self.save(walk.as_ref().expect("only a database with a walk has entries to save"), packed);
        }
    }
    /// Saves what is not yet saved of a segment, until so much is saved that it should be taken first; whether all is.
    pub(super) fn save_segment(&mut self, walk: &Walk, segment: &Segment) -> bool {
        let load = |packed: Packed| packed.lines().into_iter().for_each(prefetch);
        let mut ahead = segment.entries();
        ahead.by_ref().take(PREFETCH_AHEAD).for_each(load);
        for packed in segment.entries() {
            ahead.next().into_iter().for_each(load);
            if packed.mark() != self.mark {
                if self.is_full() {
                    return false;
                }
                self.save(walk, packed);
            }
        }
        true
    }
    /// Saves the rest of large collections, until so much is saved that it should be taken first; whether there is room for more.
    pub(super) fn save_rest(&mut self) -> bool {
        while !self.is_full() {
            if !self.saved.push_rest() {
                return true;
            }
        }
        false
    }
    /// Whether what is saved should be taken before a walk adds to it.
    pub(super) fn is_full(&self) -> bool {
        self.saved.bytes() >= SAVED_BYTES_FULL
    }
    #[inline(never)]
    fn save(&mut self, walk: &Walk, packed: Packed) {
        self.saved.push(walk.origin, &packed.entry());
        packed.set_mark(self.mark);
    }
    /// Panics if this entry, whose hash has this prefix, would be forgotten.
    pub(super) fn check_entry(&self, walk: Option<&Walk>, prefix: u64, packed: Packed) {
        let is_ahead = walk.is_some_and(|walk| walk.at <= prefix);
        assert!(packed.mark() == self.mark || self.is_running && is_ahead, "what is not saved is ahead of the walk");
    }
}

impl Walk {
    pub(super) fn start(origin: Db) -> Self {
        Walk { origin, at: 0 }
    }
    pub(super) fn at(&self) -> u64 {
        self.at
    }
    /// Where it goes on behind a segment of this depth; nowhere behind the last one.
    pub(super) fn behind(self, depth: u8) -> Option<Self> {
        let last = self.at | u64::MAX >> depth;
        last.checked_add(1).map(|at| Walk { at, ..self })
    }
    /// The same from the start, for a database that is set aside.
    pub(super) fn again(self) -> Self {
        Walk { at: 0, ..self }
    }
}

impl Saved {
    pub(super) fn push(&mut self, db: Db, entry: &Entry<'_>) {
        if !self.log.is_enabled() {
            return;
        }
        let mut changes = Vec::new();
        let (edit, next) = Edit::put(db, entry, &mut changes);
        self.log.push(&edit);
        if let (Value::Large(large), Some(from)) = (entry.value(), next) {
            self.rest.push_back(Rest { db, key: entry.key().into(), large: large.clone(), from });
        }
    }
    /// Saves a piece of what has a rest; whether there was any.
    pub(super) fn push_rest(&mut self) -> bool {
        let Some(rest) = self.rest.front_mut() else { return false };
        let mut changes = Vec::new();
        let (edit, next) = Edit::put_more(rest.db, &rest.key, rest.large.view(), rest.from, &mut changes);
        self.log.push(&edit);
        match next {
            Some(from) => rest.from = from,
            None => drop(self.rest.pop_front()),
        }
        true
    }
    pub(super) fn bytes(&self) -> usize {
        self.log.bytes().len()
    }
    pub(super) fn take(&mut self, empty: Vec<u8>) -> (Vec<u8>, u32) {
        let count = self.log.count();
        (self.log.take(empty), count)
    }
    /// Forgets what is saved and takes in nothing more.
    pub(super) fn abandon(&mut self) {
        *self = Saved::default();
        self.log.set_enabled(false);
    }
}
