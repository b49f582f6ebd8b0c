//! Which keys have edits that the log has not committed yet, so that exactly the reads that saw such an edit
//! wait for the log, and no other read ever waits for a disk.
//!
//! Keys are known by hash: a collision makes a read wait needlessly, nothing worse. Generations follow the
//! log's batches and are dropped whole when their batch is committed.

use crate::units::Offset;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

#[derive(Default, Debug)]
pub struct Unsettled {
    generations: VecDeque<Generation>,
    current: Generation,
    /// FLUSHALL and the like: every key is unsettled up to here.
    all_until: Offset,
    /// Keys that will never be settled.
    lost: HashSet<u64, BuildHasherDefault<AlreadyHashed>>,
}

#[derive(Default, Debug)]
struct Generation {
    keys: HashSet<u64, BuildHasherDefault<AlreadyHashed>>,
    end: Offset,
}

impl Unsettled {
    /// The key's value depends on the log up to `until`, which is where the batch being made ends for now.
    pub fn note(&mut self, key_hash: u64, until: Offset) {
        self.current.keys.insert(key_hash);
        self.current.end = until;
    }
    /// Every key's value depends on the log up to `until`.
    pub fn note_all(&mut self, until: Offset) {
        self.all_until = until;
    }
    /// The key's value depends on what will never be in all logs: a part of a transaction of which another shard lost its own.
    pub fn lose(&mut self, key_hash: u64) {
        self.lost.insert(key_hash);
    }
    /// Whether a reader of all keys would see lost values.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }
    /// The batch being made goes to the log: what follows belongs to the next.
    pub fn seal(&mut self) {
        if !self.current.keys.is_empty() {
            self.generations.push_back(std::mem::take(&mut self.current));
        }
    }
    /// The log is committed up to `released`.
    pub fn settle(&mut self, released: Offset) {
        while self.generations.front().is_some_and(|generation| generation.end <= released) {
            self.generations.pop_front();
        }
    }
    /// What a read of the key has to wait for (0: nothing; the greatest offset: it waits for ever).
    pub fn until(&self, key_hash: u64) -> Offset {
        if self.lost.contains(&key_hash) {
            return Offset(u64::MAX);
        }
        let newest_first = std::iter::once(&self.current).chain(self.generations.iter().rev());
        let own =
            newest_first.filter(|generation| generation.keys.contains(&key_hash)).map(|generation| generation.end);
        own.max().unwrap_or_default().max(self.all_until)
    }
    pub fn all_until(&self) -> Offset {
        self.all_until
    }
    pub fn is_empty(&self) -> bool {
        self.current.keys.is_empty()
            && self.generations.is_empty()
            && self.all_until == Offset(0)
            && self.lost.is_empty()
    }
}

#[derive(Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are 64-bit hashes");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_until_its_last_batch_is_committed() {
        let mut unsettled = Unsettled::default();
        unsettled.note(7, Offset(10));
        unsettled.seal();
        unsettled.note(7, Offset(20));
        unsettled.note(8, Offset(25));
        assert_eq!(unsettled.until(7), Offset(25), "a batch is committed as a whole");
        unsettled.seal();
        unsettled.settle(Offset(10));
        assert_eq!(unsettled.until(8), Offset(25));
        assert_eq!(unsettled.until(9), Offset(0));
        unsettled.settle(Offset(25));
        assert_eq!(unsettled.until(7), Offset(0));
        assert!(unsettled.is_empty());
    }
}
