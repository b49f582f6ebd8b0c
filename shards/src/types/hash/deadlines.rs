//! Deadlines of the fields of a large hash: by field, and in order. Fields without one take nothing.
//!
//! In order, they are pairs (milliseconds, hash of the field) in sorted chunks, one list of chunks per clock. Chunks are shared
//! with clones until one side changes them. The rule that must hold: a field is in the order once, under the deadline that it
//! has; no chunk is empty.

use super::by_clock;
use crate::types::leaf_map::LeafMap;
use crate::units::{Deadline, DeadlineKind, Now};
use std::rc::Rc;

/// Pairs in a full chunk: 2 KiB.
const CHUNK: usize = 128;
/// Neighbours that together have at most so many become one, when one of them has at most half of it.
const UNITED_MAX: usize = CHUNK / 2;
/// By which a chunk's memory grows.
const ROOM: usize = 16;
/// What a chunk takes beside its pairs: the counts of `Rc`, and the vector.
const CHUNK_BYTES: usize = 2 * size_of::<usize>() + size_of::<Vec<Due>>();

const CLOCKS: [DeadlineKind; 2] = [DeadlineKind::Relative, DeadlineKind::Absolute];

/// Milliseconds, hash of the field.
type Due = (u64, u64);

#[derive(Clone)]
pub struct FieldDeadlines {
    fields: LeafMap,
    /// On the steady clock, on the wall clock.
    orders: [Order; 2],
}

impl FieldDeadlines {
    pub(super) fn new(seed: u64) -> Self {
        FieldDeadlines { fields: LeafMap::new(seed), orders: Default::default() }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
    pub(super) fn get(&self, field: &[u8]) -> Option<Deadline> {
        self.fields.get(field).map(deadline_of)
    }
    pub(super) fn set(&mut self, field: &[u8], deadline: Option<Deadline>) {
        let old = self.get(field);
        if old == deadline {
            return;
        }
        let hash = self.fields.hash(field);
        if let Some(old) = old {
            self.orders[old.kind() as usize].remove((old.ms(), hash));
        }
        match deadline {
            Some(new) => {
                self.orders[new.kind() as usize].insert((new.ms(), hash));
                self.fields.insert(field, &new.to_bits().to_le_bytes());
            }
            None => {
                self.fields.remove(field);
            }
        }
    }
    /// The first on each clock.
    #[inline]
    pub(super) fn next(&self) -> [Option<Deadline>; 2] {
        CLOCKS.map(|clock| self.orders[clock as usize].first().map(|(ms, _)| Deadline::new(clock, ms)))
    }
    /// How many are over.
    pub(super) fn due(&self, now: Now) -> usize {
        CLOCKS.into_iter().map(|clock| self.orders[clock as usize].until(clock_ms(clock, now))).sum()
    }
    /// Fields whose deadline is over, at most `limit`.
    pub(super) fn due_fields(&self, now: Now, limit: usize) -> impl Iterator<Item = &[u8]> {
        let due = CLOCKS.into_iter().flat_map(move |clock| {
            let order = &self.orders[clock as usize];
            let pairs = order.pairs().take_while(move |(ms, _)| *ms <= clock_ms(clock, now));
            pairs.map(move |(ms, hash)| (Deadline::new(clock, ms), hash))
        });
        due.take(limit).map(|(deadline, hash)| {
            let found = self.fields.find_hashed(hash, |value| deadline_of(value) == deadline);
            found.expect("what is in the order has a field")
        })
    }
    pub(super) fn bytes_used(&self) -> usize {
        self.fields.bytes_used() + self.orders.iter().map(Order::bytes_used).sum::<usize>()
    }
    /// Frees about `nodes` leaves and chunks; whether there are more.
    pub(super) fn free(&mut self, nodes: usize) -> bool {
        self.fields.free(nodes) || self.orders.iter_mut().any(|order| order.free(nodes))
    }
    /// Panics unless all fields that have one exist.
    pub(super) fn check_fields(&self, exists: impl Fn(&[u8]) -> bool) {
        assert!(self.fields.iter().all(|(field, _)| exists(field)), "only fields that exist have deadlines");
    }
    pub(super) fn check_invariants(&self) {
        self.fields.check_invariants();
        self.orders.iter().for_each(Order::check_invariants);
        let mut due: [Vec<Due>; 2] = Default::default();
        for (field, value) in self.fields.iter() {
            let deadline = deadline_of(value);
            due[deadline.kind() as usize].push((deadline.ms(), self.fields.hash(field)));
        }
        for (mut due, order) in due.into_iter().zip(&self.orders) {
            due.sort_unstable();
            assert!(order.pairs().eq(due), "the order has the deadlines of all fields");
        }
        let all = self.fields.iter().map(|(_, value)| deadline_of(value));
        assert_eq!(self.next(), by_clock(all), "the first in the order is the first");
    }
}

fn deadline_of(value: &[u8]) -> Deadline {
    let bits = u64::from_le_bytes(value.try_into().expect("eight bytes per field"));
    Deadline::from_bits(bits).expect("a field without a deadline is not here")
}

fn clock_ms(clock: DeadlineKind, now: Now) -> u64 {
    match clock {
        DeadlineKind::Relative => now.steady_ms,
        DeadlineKind::Absolute => now.wall_ms,
    }
}

#[derive(Clone, Default)]
struct Order {
    chunks: Vec<Rc<Vec<Due>>>,
    /// Capacities of all chunks, in pairs.
    capacity: usize,
}

impl Order {
    fn first(&self) -> Option<Due> {
        self.chunks.first().map(|chunk| chunk[0])
    }
    fn pairs(&self) -> impl Iterator<Item = Due> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }
    /// Pairs up to `ms`, itself included.
    fn until(&self, ms: u64) -> usize {
        let chunks = self.chunks.iter().take_while(|chunk| chunk[0].0 <= ms);
        chunks.map(|chunk| chunk.partition_point(|due| due.0 <= ms)).sum()
    }
    /// The chunk in which a pair is, or belongs: the last that begins no later.
    fn find(&self, due: Due) -> usize {
        self.chunks.partition_point(|chunk| chunk[0] <= due).saturating_sub(1)
    }
    fn insert(&mut self, due: Due) {
        let at = self.find(due);
        if self
            .chunks
            .get(at)
            .is_none_or(|last| at + 1 == self.chunks.len() && last.len() >= CHUNK && last[CHUNK - 1] <= due)
        {
            // Deadlines that come in order leave full chunks behind.
            return self.add(self.chunks.len(), vec![due]);
        }
        self.change(at, |chunk| {
            let number = chunk.partition_point(|other| *other < due);
            if chunk.len() == chunk.capacity() {
                chunk.reserve_exact(ROOM);
            }
            chunk.insert(number, due);
        });
        if self.chunks[at].len() > CHUNK {
            let mut upper = Vec::new();
            self.change(at, |chunk| {
                upper = chunk.split_off(CHUNK / 2);
                chunk.shrink_to(CHUNK / 2 + ROOM);
            });
            self.add(at + 1, upper);
        }
    }
    fn remove(&mut self, due: Due) {
        let at = self.find(due);
        let number = self.chunks[at].binary_search(&due).expect("the order has every deadline");
        self.change(at, |chunk| {
            chunk.remove(number);
        });
        let len = self.chunks[at].len();
        if len == 0 {
            self.capacity -= self.chunks.remove(at).capacity();
        } else if len <= UNITED_MAX / 2
            && let Some(next) = self.chunks.get(at + 1)
            && len + next.len() <= UNITED_MAX
        {
            let next = self.chunks.remove(at + 1);
            self.capacity -= next.capacity();
            self.change(at, |chunk| chunk.extend_from_slice(&next));
        }
    }
    fn add(&mut self, at: usize, chunk: Vec<Due>) {
        self.capacity += chunk.capacity();
        self.chunks.insert(at, Rc::new(chunk));
    }
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Vec<Due>)) {
        let shared = &mut self.chunks[at];
        self.capacity -= shared.capacity();
        let chunk = Rc::make_mut(shared);
        change(chunk);
        self.capacity += chunk.capacity();
    }
    fn bytes_used(&self) -> usize {
        let chunks = self.chunks.capacity() * size_of::<Rc<Vec<Due>>>() + self.chunks.len() * CHUNK_BYTES;
        chunks + self.capacity * size_of::<Due>()
    }
    fn free(&mut self, nodes: usize) -> bool {
        for chunk in self.chunks.drain(self.chunks.len().saturating_sub(nodes)..) {
            self.capacity -= chunk.capacity();
        }
        !self.chunks.is_empty()
    }
    fn check_invariants(&self) {
        assert!(
            self.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK),
            "no chunk is empty, none too long"
        );
        assert!(self.pairs().is_sorted(), "they are in order");
        let capacity: usize = self.chunks.iter().map(|chunk| chunk.capacity()).sum();
        assert_eq!(capacity, self.capacity, "bytes are counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_does_what_an_ordered_map_does() {
        for seed in 0..6 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut deadlines, mut twin) = (FieldDeadlines::new(seed), BTreeMap::new());
            // Few different times: many fields share one.
            let (fields, times) = (random.u32(10..3000), random.u64(1..5000));
            for step in 0..20_000 {
                let field = random.u32(..fields).to_string().into_bytes();
                let kind = if random.bool() { DeadlineKind::Relative } else { DeadlineKind::Absolute };
                let is_growing = step % 10_000 < 6_000;
                let deadline = (random.u8(..10) < if is_growing { 8 } else { 2 })
                    .then(|| Deadline::new(kind, random.u64(1..=times)));
                deadlines.set(&field, deadline);
                match deadline {
                    Some(deadline) => drop(twin.insert(field, deadline)),
                    None => drop(twin.remove(&field)),
                }
                if step % 1000 == 0 {
                    deadlines.check_invariants();
                    let now = Now { steady_ms: random.u64(..times * 2), wall_ms: random.u64(..times * 2) };
                    let due = twin.iter().filter(|(_, deadline)| deadline.is_due(now)).map(|(field, _)| &field[..]);
                    let mut due: Vec<&[u8]> = due.collect();
                    assert_eq!(deadlines.due(now), due.len());
                    let mut found: Vec<&[u8]> = deadlines.due_fields(now, usize::MAX).collect();
                    due.sort_unstable();
                    found.sort_unstable();
                    assert_eq!(found, due);
                    assert!(twin.iter().all(|(field, deadline)| deadlines.get(field) == Some(*deadline)));
                }
            }
            let clone = deadlines.clone();
            twin.keys().for_each(|field| deadlines.set(field, None));
            deadlines.check_invariants();
            clone.check_invariants();
            assert!(deadlines.is_empty() && deadlines.next() == [None, None]);
            assert_eq!(twin.len(), clone.due(Now::at(u64::MAX)), "a clone keeps what it had");
        }
    }

    #[test]
    fn memory_per_field_stays_low() {
        for in_order in [true, false] {
            let mut random = fastrand::Rng::with_seed(1);
            let mut deadlines = FieldDeadlines::new(1);
            for number in 0..50_000u64 {
                let ms = if in_order { number + 1 } else { random.u64(1..1_000_000) };
                deadlines.set(format!("field:{number:09}").as_bytes(), Some(Deadline::at(ms)));
            }
            let bytes = deadlines.bytes_used() / 50_000;
            // 15 of them are the field.
            assert!(bytes <= 52, "{bytes} bytes");
            while deadlines.free(10) {}
            assert!(deadlines.bytes_used() < 60_000, "{} bytes", deadlines.bytes_used());
        }
    }
}
