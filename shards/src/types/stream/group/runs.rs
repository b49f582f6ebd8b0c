//! Records in the order of their ids, in chunks of about 4 KiB that are shared until one side changes them: a clone takes time for
//! chunks, not for records. What comes in the order of ids, as deliveries do, leaves full chunks behind.

use super::StreamId;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

const CHUNK_BYTES: usize = 4096;
/// What a shared vector takes beside its records: two counts and the vector itself.
const SHARED_BYTES: usize = 2 * size_of::<usize>() + size_of::<Vec<u8>>();

pub trait Record: Copy {
    fn id(&self) -> StreamId;
    /// What `oldest` goes by.
    fn stamp(&self) -> u64;
}

impl Record for StreamId {
    fn id(&self) -> StreamId {
        *self
    }
    fn stamp(&self) -> u64 {
        0
    }
}

#[derive(Clone)]
struct Chunk<T> {
    /// No record of the chunk has a lower id, all of the chunk before do.
    floor: StreamId,
    /// The lowest stamp of its records.
    oldest: u64,
    records: Rc<Vec<T>>,
}

impl<T: Record> Chunk<T> {
    fn new(records: Vec<T>) -> Self {
        Chunk { floor: records[0].id(), oldest: oldest(&records), records: Rc::new(records) }
    }
    fn bytes(&self) -> usize {
        SHARED_BYTES + self.records.capacity() * size_of::<T>()
    }
    fn find(&self, id: StreamId) -> Result<usize, usize> {
        // Deliveries go to the end.
        match self.records.last() {
            Some(last) if last.id() < id => Err(self.records.len()),
            _ => self.records.binary_search_by_key(&id, T::id),
        }
    }
}

fn oldest<T: Record>(records: &[T]) -> u64 {
    records.iter().map(T::stamp).min().unwrap_or(u64::MAX)
}

#[derive(Clone)]
pub struct Runs<T> {
    chunks: VecDeque<Chunk<T>>,
    len: usize,
    bytes: usize,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Runs { chunks: VecDeque::new(), len: 0, bytes: 0 }
    }
}

impl<T: Record> Runs<T> {
    const CHUNK_MAX: usize = CHUNK_BYTES / size_of::<T>();

    pub fn len(&self) -> usize {
        self.len
    }
    pub fn bytes_used(&self) -> usize {
        self.bytes + self.chunks.len() * size_of::<Chunk<T>>()
    }
    pub fn first(&self) -> Option<&T> {
        self.chunks.front().map(|chunk| &chunk.records[0])
    }
    pub fn last(&self) -> Option<&T> {
        self.chunks.back().and_then(|chunk| chunk.records.last())
    }
    /// The chunk that would have the id.
    fn chunk_of(&self, id: StreamId) -> Option<usize> {
        match self.chunks.back() {
            Some(last) if last.floor <= id => Some(self.chunks.len() - 1),
            _ => self.chunks.partition_point(|chunk| chunk.floor <= id).checked_sub(1),
        }
    }
    pub fn get(&self, id: StreamId) -> Option<&T> {
        let chunk = &self.chunks[self.chunk_of(id)?];
        chunk.find(id).ok().map(|place| &chunk.records[place])
    }
    /// The records from an id on.
    pub fn iter_from(&self, id: StreamId) -> impl Iterator<Item = &T> {
        let at = self.chunk_of(id).unwrap_or(0);
        let place = self.chunks.get(at).map_or(0, |chunk| chunk.find(id).unwrap_or_else(|place| place));
        self.chunks.range(at.min(self.chunks.len())..).flat_map(|chunk| chunk.records.iter()).skip(place)
    }
    /// The records from a number on, counted from the first.
    pub fn iter_at(&self, mut number: usize) -> impl Iterator<Item = &T> {
        let mut at = 0;
        while self.chunks.get(at).is_some_and(|chunk| number >= chunk.records.len()) {
            number -= self.chunks[at].records.len();
            at += 1;
        }
        self.chunks.range(at..).flat_map(|chunk| chunk.records.iter()).skip(number)
    }
    /// The ids of those whose stamp is no higher than `stamp_max`, at most `limit`: those of the lowest stamps, in the order of
    /// (stamp, id). Looks only into chunks that may have such.
    pub fn oldest(&self, stamp_max: u64, limit: usize) -> Vec<StreamId> {
        let mut chunks: Vec<&Chunk<T>> = self.chunks.iter().filter(|chunk| chunk.oldest <= stamp_max).collect();
        chunks.sort_unstable_by_key(|chunk| chunk.oldest);
        let mut found = BinaryHeap::new();
        for chunk in chunks {
            if found.len() >= limit && found.peek().is_none_or(|(stamp, _)| *stamp < chunk.oldest) {
                break;
            }
            for record in chunk.records.iter().filter(|record| record.stamp() <= stamp_max) {
                found.push((record.stamp(), record.id()));
                if found.len() > limit {
                    found.pop();
                }
            }
        }
        found.into_sorted_vec().into_iter().map(|(_, id)| id).collect()
    }

    /// Changes a chunk and counts its bytes.
    fn change<R>(&mut self, at: usize, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let chunk = &mut self.chunks[at];
        self.bytes -= chunk.bytes();
        let result = change(Rc::make_mut(&mut chunk.records));
        self.bytes += chunk.bytes();
        result
    }
    fn add_chunk(&mut self, at: usize, records: Vec<T>) {
        let chunk = Chunk::new(records);
        self.bytes += chunk.bytes();
        self.chunks.insert(at, chunk);
    }
    fn drop_chunk(&mut self, at: usize) {
        let chunk = self.chunks.remove(at).expect("is there");
        self.bytes -= chunk.bytes();
    }
    fn find_oldest(&mut self, at: usize) {
        self.chunks[at].oldest = oldest(&self.chunks[at].records);
    }

    /// Adds a record, or puts it in the place of the one that has its id.
    pub fn put(&mut self, record: T) {
        let id = record.id();
        let Some(at) = self.chunk_of(id).or((!self.chunks.is_empty()).then_some(0)) else {
            self.len = 1;
            return self.add_chunk(0, vec![record]);
        };
        let chunk = &mut self.chunks[at];
        chunk.floor = chunk.floor.min(id);
        match chunk.find(id) {
            Ok(place) => {
                let was_oldest = chunk.records[place].stamp() == chunk.oldest;
                chunk.oldest = chunk.oldest.min(record.stamp());
                self.change(at, |records| records[place] = record);
                if was_oldest {
                    self.find_oldest(at);
                }
            }
            Err(place) => {
                self.len += 1;
                self.insert(at, place, record);
            }
        }
    }
    fn insert(&mut self, mut at: usize, mut place: usize, record: T) {
        if self.chunks[at].records.len() >= Self::CHUNK_MAX {
            if place == self.chunks[at].records.len() && at + 1 == self.chunks.len() {
                return self.add_chunk(at + 1, vec![record]);
            }
            self.split(at);
            let left = self.chunks[at].records.len();
            if place > left {
                (at, place) = (at + 1, place - left);
            }
        }
        self.change(at, |records| {
            if records.len() == records.capacity() {
                // Doubles, but not beyond what a chunk can have.
                records.reserve_exact(records.len().clamp(1, Self::CHUNK_MAX - records.len()));
            }
            records.insert(place, record);
        });
        let chunk = &mut self.chunks[at];
        chunk.oldest = chunk.oldest.min(record.stamp());
    }
    fn split(&mut self, at: usize) {
        let right = self.change(at, |records| {
            let right = records.split_off(records.len() / 2);
            records.shrink_to_fit();
            right
        });
        self.find_oldest(at);
        self.add_chunk(at + 1, right);
    }

    pub fn remove(&mut self, id: StreamId) -> Option<T> {
        let at = self.chunk_of(id)?;
        let place = self.chunks[at].find(id).ok()?;
        self.len -= 1;
        if self.chunks[at].records.len() == 1 {
            let record = self.chunks[at].records[0];
            self.drop_chunk(at);
            return Some(record);
        }
        let record = self.change(at, |records| records.remove(place));
        if record.stamp() == self.chunks[at].oldest {
            self.find_oldest(at);
        }
        if self.chunks[at].records.len() < Self::CHUNK_MAX / 4 {
            self.join_with_next(at);
        }
        Some(record)
    }
    /// Joins what random removals leave of chunks. Those that are removed from the front on stay alone: there a full one follows.
    fn join_with_next(&mut self, at: usize) {
        let len = |at: usize| self.chunks.get(at).map_or(Self::CHUNK_MAX, |chunk| chunk.records.len());
        let first = if len(at) + len(at + 1) <= Self::CHUNK_MAX / 2 {
            at
        } else if at > 0 && len(at - 1) + len(at) <= Self::CHUNK_MAX / 2 {
            at - 1
        } else {
            return;
        };
        let second = Rc::clone(&self.chunks[first + 1].records);
        self.drop_chunk(first + 1);
        self.change(first, |records| {
            records.reserve_exact(second.len());
            records.extend_from_slice(&second);
        });
        self.find_oldest(first);
    }

    /// Frees chunks; how many it did, and none is left if they are fewer than asked for.
    pub fn free(&mut self, chunks: usize) -> usize {
        let count = chunks.min(self.chunks.len());
        self.chunks.truncate(self.chunks.len() - count);
        count
    }

    pub fn check_invariants(&self) {
        let records: Vec<&T> = self.chunks.iter().flat_map(|chunk| chunk.records.iter()).collect();
        assert_eq!(records.len(), self.len);
        assert!(records.windows(2).all(|two| two[0].id() < two[1].id()), "in the order of ids");
        for (at, chunk) in self.chunks.iter().enumerate() {
            assert!(!chunk.records.is_empty() && chunk.records.len() <= Self::CHUNK_MAX);
            assert!(chunk.floor <= chunk.records[0].id());
            assert!(at == 0 || self.chunks[at - 1].records.last().is_some_and(|last| last.id() < chunk.floor));
            assert_eq!(chunk.oldest, oldest(&chunk.records));
        }
        assert_eq!(self.bytes, self.chunks.iter().map(Chunk::bytes).sum::<usize>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Stamped(StreamId, u64, [u64; 5]);

    impl Record for Stamped {
        fn id(&self) -> StreamId {
            self.0
        }
        fn stamp(&self) -> u64 {
            self.1
        }
    }

    fn check(runs: &Runs<Stamped>, twin: &BTreeMap<StreamId, u64>, random: &mut fastrand::Rng) {
        runs.check_invariants();
        let as_pairs = |record: &Stamped| (record.0, record.1);
        let pairs = |(id, stamp): (&StreamId, &u64)| (*id, *stamp);
        let id = StreamId::new(random.u64(..3), random.u64(..400));
        assert_eq!(runs.len(), twin.len());
        assert_eq!(runs.get(id).map(|record| record.1), twin.get(&id).copied());
        assert!(runs.iter_from(id).map(as_pairs).eq(twin.range(id..).map(pairs)));
        let number = random.usize(..twin.len() + 2);
        assert!(runs.iter_at(number).map(as_pairs).eq(twin.iter().skip(number).map(pairs)));
        assert_eq!(runs.first().map(as_pairs), twin.iter().next().map(pairs));
        assert_eq!(runs.last().map(as_pairs), twin.iter().next_back().map(pairs));
        let (stamp_max, limit) = (random.u64(..12), random.usize(..30));
        let mut old: Vec<(u64, StreamId)> = twin.iter().map(|(id, stamp)| (*stamp, *id)).collect();
        old.retain(|(stamp, _)| *stamp <= stamp_max);
        old.sort_unstable();
        assert!(runs.oldest(stamp_max, limit).into_iter().eq(old.into_iter().take(limit).map(|(_, id)| id)));
    }

    #[test]
    fn runs_do_what_an_ordered_map_does() {
        for seed in 0..60 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut runs, mut twin) = (Runs::default(), BTreeMap::new());
            let mut kept = None;
            for step in 0..1500u64 {
                let id = match random.u32(..3) {
                    0 => StreamId::new(step / 400, step % 400),
                    _ => StreamId::new(random.u64(..3), random.u64(..400)),
                };
                if random.u64(..1500) < step {
                    assert_eq!(runs.remove(id).map(|record: Stamped| record.1), twin.remove(&id));
                } else {
                    let stamp = random.u64(..12);
                    runs.put(Stamped(id, stamp, [0; 5]));
                    twin.insert(id, stamp);
                }
                if step % 10 == 0 {
                    check(&runs, &twin, &mut random);
                }
                if step == 700 {
                    kept = Some((runs.clone(), twin.clone()));
                }
            }
            let (kept, kept_twin) = kept.expect("kept");
            check(&kept, &kept_twin, &mut random);
            twin.keys().for_each(|id| assert!(runs.remove(*id).is_some()));
            assert_eq!((runs.len(), runs.bytes_used()), (0, 0));
        }
    }

    #[test]
    fn records_in_order_leave_full_chunks() {
        let mut runs = Runs::default();
        for seq in 0..100_000 {
            runs.put(StreamId::new(1, seq));
        }
        runs.check_invariants();
        assert!(runs.bytes_used() < 100_000 * 17, "{}", runs.bytes_used());
        for seq in 0..100_000 {
            assert!(runs.remove(StreamId::new(1, seq)).is_some());
        }
        assert_eq!(runs.bytes_used(), 0);
        runs.put(StreamId::MIN);
        assert_eq!(runs.free(5), 1);
    }
}
