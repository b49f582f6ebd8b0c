//! Which keys expire next: per clock, an ordered collection of (milliseconds, hash of the key).
//!
//! Exact: a key is here once, under the deadline that its entry has now. Kept as sorted chunks of at most `CHUNK`
//! pairs under an ordered map from a lower bound to the chunk, which costs about 24 bytes per key in random order and
//! 17 when deadlines come in order (a std `BTreeMap` alone: 30 to 38). Equal pairs (two keys of one hash) may be several.

use super::table::prefetch;
use crate::units::{Deadline, DeadlineKind, Now};
use std::collections::BTreeMap;

/// Pairs in a full chunk: 1 KiB.
const CHUNK: usize = 64;
/// Chunks smaller than this look for a neighbour to join.
const CHUNK_MIN: usize = CHUNK / 4;
/// What a chunk costs in the map over it, roughly.
const CHUNK_OVERHEAD: usize = 64;

/// Milliseconds on the clock, hash of the key.
type Due = (u64, u64);

#[derive(Default)]
pub(super) struct Deadlines {
    relative: Queue,
    absolute: Queue,
}

impl Deadlines {
    pub(super) fn len(&self) -> usize {
        self.relative.len + self.absolute.len
    }
    pub(super) fn insert(&mut self, deadline: Deadline, hash: u64) {
        self.queue(deadline).insert((deadline.ms(), hash));
    }
    /// Starts loading what an insertion of this pair reads and moves.
    pub(super) fn prefetch(&self, deadline: Deadline, hash: u64) {
        let queue = match deadline.kind() {
            DeadlineKind::Relative => &self.relative,
            DeadlineKind::Absolute => &self.absolute,
        };
        if let Some((_, chunk)) = queue.chunks.range(..=(deadline.ms(), hash)).next_back() {
            prefetch_chunk(chunk);
        }
    }
    pub(super) fn remove(&mut self, deadline: Deadline, hash: u64) {
        let there = self.queue(deadline).remove((deadline.ms(), hash));
        assert!(there, "every deadline of an entry is in the index");
    }
    /// A key whose deadline is over, by hash.
    pub(super) fn first_due(&self, now: Now) -> Option<(Deadline, u64)> {
        let relative = self.relative.first().map(|(ms, hash)| (Deadline::new(DeadlineKind::Relative, ms), hash));
        let absolute = self.absolute.first().map(|(ms, hash)| (Deadline::new(DeadlineKind::Absolute, ms), hash));
        [relative, absolute].into_iter().flatten().find(|(deadline, _)| deadline.is_due(now))
    }
    /// Milliseconds until the first deadline is over; 0 when it is.
    pub(super) fn next(&self, now: Now) -> Option<u64> {
        let relative = self.relative.first().map(|(ms, _)| ms.saturating_sub(now.steady_ms));
        let absolute = self.absolute.first().map(|(ms, _)| ms.saturating_sub(now.wall_ms));
        relative.into_iter().chain(absolute).min()
    }
    pub(super) fn bytes_used(&self) -> usize {
        self.relative.bytes + self.absolute.bytes
    }
    /// Frees at most `chunks` chunks of an index nobody asks any more; whether some are left.
    pub(super) fn drain(&mut self, chunks: usize) -> bool {
        for _ in 0..chunks {
            let queue = if self.relative.chunks.is_empty() { &mut self.absolute } else { &mut self.relative };
            let Some((_, chunk)) = queue.chunks.pop_first() else { return false };
            queue.len -= chunk.len();
            queue.bytes -= chunk_bytes(&chunk);
        }
        !(self.relative.chunks.is_empty() && self.absolute.chunks.is_empty())
    }
    /// Panics unless the index is in order.
    pub(super) fn check_invariants(&self) {
        self.relative.check_invariants();
        self.absolute.check_invariants();
    }
    /// How often this pair is here: 1 for every key with a deadline.
    pub(super) fn count(&self, deadline: Deadline, hash: u64) -> usize {
        let queue = match deadline.kind() {
            DeadlineKind::Relative => &self.relative,
            DeadlineKind::Absolute => &self.absolute,
        };
        let due = (deadline.ms(), hash);
        let chunks = queue.chunks.range(..=due).rev().map(|(_, chunk)| chunk);
        let holding = chunks.take_while(|chunk| chunk.last().is_some_and(|&last| last >= due));
        holding.map(|chunk| chunk.iter().filter(|&&other| other == due).count()).sum()
    }
    fn queue(&mut self, deadline: Deadline) -> &mut Queue {
        match deadline.kind() {
            DeadlineKind::Relative => &mut self.relative,
            DeadlineKind::Absolute => &mut self.absolute,
        }
    }
}

#[derive(Default)]
struct Queue {
    /// Each under a bound that none of its pairs is below; no chunk is empty.
    chunks: BTreeMap<Due, Vec<Due>>,
    len: usize,
    bytes: usize,
}

impl Queue {
    fn first(&self) -> Option<Due> {
        self.chunks.first_key_value().and_then(|(_, chunk)| chunk.first().copied())
    }

    fn insert(&mut self, due: Due) {
        self.len += 1;
        let Some((&bound, chunk)) = self.chunks.range_mut(..=due).next_back() else {
            return self.insert_first(due);
        };
        prefetch_chunk(chunk);
        let at = chunk.partition_point(|&other| other < due);
        if chunk.len() < CHUNK {
            self.bytes -= chunk_bytes(chunk);
            chunk.insert(at, due);
            self.bytes += chunk_bytes(chunk);
            return;
        }
        // Deadlines that come in order leave full chunks behind; others split theirs in half.
        if at == CHUNK && self.chunks.last_key_value().is_some_and(|(&last, _)| last == bound) {
            return self.add_chunk(vec![due]);
        }
        let chunk = self.chunks.get_mut(&bound).expect("just found");
        self.bytes -= chunk_bytes(chunk);
        let mut upper = Vec::with_capacity(CHUNK);
        upper.extend(chunk.drain(CHUNK / 2..));
        if at <= CHUNK / 2 {
            chunk.insert(at, due)
        } else {
            upper.insert(at - CHUNK / 2, due)
        }
        self.bytes += chunk_bytes(chunk);
        self.add_chunk(upper);
    }

    /// `due` comes before all others: the first chunk gets it and a lower bound.
    fn insert_first(&mut self, due: Due) {
        let mut first = match self.chunks.first_key_value() {
            Some((_, chunk)) if chunk.len() < CHUNK => self.chunks.pop_first().expect("there is one").1,
            Some(_) | None => Vec::new(),
        };
        if first.capacity() > 0 {
            self.bytes -= chunk_bytes(&first);
        }
        first.insert(0, due);
        self.add_chunk(first);
    }

    fn add_chunk(&mut self, mut chunk: Vec<Due>) {
        let bound = chunk[0];
        if let Some(other) = self.chunks.remove(&bound) {
            // More equal pairs than a chunk holds: they stay together. Happens only to hashes made equal on purpose.
            self.bytes -= chunk_bytes(&other);
            chunk.extend(other);
            chunk.sort_unstable();
        }
        self.bytes += chunk_bytes(&chunk);
        self.chunks.insert(bound, chunk);
    }

    fn remove(&mut self, due: Due) -> bool {
        // Equal pairs may have spread over several chunks: go back until one is found.
        let mut found = None;
        for (&bound, chunk) in self.chunks.range_mut(..=due).rev() {
            let at = chunk.partition_point(|&other| other < due);
            if chunk.get(at) == Some(&due) {
                chunk.remove(at);
                found = Some((bound, chunk.len()));
                break;
            }
            if at < chunk.len() || chunk.last().is_none_or(|&last| last < due) && bound < due {
                break;
            }
        }
        let Some((bound, left)) = found else { return false };
        self.len -= 1;
        if left == 0 {
            let chunk = self.chunks.remove(&bound).expect("just found");
            self.bytes -= chunk_bytes(&chunk);
        } else if left < CHUNK_MIN && left.is_multiple_of(4) {
            self.join_next(bound);
        }
        true
    }

    /// Joins a small chunk with the next one if both fit well into one.
    fn join_next(&mut self, bound: Due) {
        let after = (std::ops::Bound::Excluded(bound), std::ops::Bound::Unbounded);
        let Some((&next, chunk)) = self.chunks.range(after).next() else { return };
        if chunk.len() + CHUNK_MIN > CHUNK * 3 / 4 {
            return;
        }
        let chunk = self.chunks.remove(&next).expect("just seen");
        self.bytes -= chunk_bytes(&chunk);
        let small = self.chunks.get_mut(&bound).expect("the caller found it");
        self.bytes -= chunk_bytes(small);
        small.extend(chunk);
        self.bytes += chunk_bytes(small);
    }

    fn check_invariants(&self) {
        let (mut len, mut bytes, mut last) = (0, 0, (0, 0));
        for (&bound, chunk) in &self.chunks {
            assert!(!chunk.is_empty(), "empty chunks are removed");
            assert!(last <= bound && bound <= chunk[0], "a bound is below its chunk and above the one before");
            assert!(chunk.is_sorted(), "a chunk is in order");
            last = chunk[chunk.len() - 1];
            len += chunk.len();
            bytes += chunk_bytes(chunk);
        }
        assert_eq!((len, bytes), (self.len, self.bytes), "the index counts its pairs and bytes");
    }
}

/// All of a chunk at once: a binary search alone would wait for one line after the other.
fn prefetch_chunk(chunk: &[Due]) {
    const PAIRS_PER_LINE: usize = 64 / size_of::<Due>();
    chunk.iter().step_by(PAIRS_PER_LINE).for_each(|due| prefetch((&raw const *due).cast()));
}

fn chunk_bytes(chunk: &Vec<Due>) -> usize {
    chunk.capacity() * size_of::<Due>() + CHUNK_OVERHEAD
}
