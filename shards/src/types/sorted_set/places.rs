//! In which leaf of the tree a member is, by its hash: eight bytes for a member, which itself stands in the tree only. Linear
//! hashing over leaves of about 32 members.
//!
//! ```text
//! leaf: | hash 4, leaf of the tree 4 | ...
//! ```
//! Members may have the same hash, and then even the same place: whoever looks for one goes through all places of its hash and
//! compares. The rule that must hold: there are as many entries of a hash and a place as members with this hash in this place.

use super::run::elements;
use crate::random::Random;
use crate::types::pages::Pages;
use crate::types::{linear, room};
use std::hash::{BuildHasher, Hasher};

/// Entries per leaf, on average, at which another leaf is added; at less than half of it, one goes.
const LOAD: usize = 32;
const ENTRY_BYTES: usize = size_of::<u64>();

/// The hash of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct MemberHash(u32);

/// The number of a leaf of the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LeafId(pub(super) u32);

type Leaf = Vec<u64>;

#[derive(Clone)]
pub(super) struct Places {
    leaves: Pages<Leaf>,
    len: usize,
    /// Capacities of all leaves.
    capacity: usize,
    hasher: ahash::RandomState,
    /// Fewer bits make members of the same hash.
    #[cfg(test)]
    pub(super) hash_mask: u32,
}

fn entry(hash: MemberHash, id: LeafId) -> u64 {
    (id.0 as u64) << 32 | hash.0 as u64
}

fn parts(entry: u64) -> (MemberHash, LeafId) {
    (MemberHash(entry as u32), LeafId((entry >> 32) as u32))
}

impl Places {
    pub(super) fn new(seed: u64) -> Self {
        let mut seeds = Random::new(seed);
        let [a, b, c, d] = std::array::from_fn(|_| seeds.next_u64());
        let mut leaves = Pages::default();
        leaves.push(Leaf::new());
        Places {
            leaves,
            len: 0,
            capacity: 0,
            hasher: ahash::RandomState::with_seeds(a, b, c, d),
            #[cfg(test)]
            hash_mask: u32::MAX,
        }
    }
    #[inline]
    pub(super) fn hash(&self, member: &[u8]) -> MemberHash {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(member);
        let hash = hasher.finish() as u32;
        #[cfg(test)]
        let hash = hash & self.hash_mask;
        MemberHash(hash)
    }
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// Where members of this hash are.
    #[inline]
    pub(super) fn of(&self, hash: MemberHash) -> impl Iterator<Item = LeafId> {
        let leaf = self.leaves.get(self.leaf_of(hash));
        leaf.iter().filter(move |entry| **entry as u32 == hash.0).map(|entry| parts(*entry).1)
    }
    fn add(&mut self, hash: MemberHash, id: LeafId) {
        self.change(self.leaf_of(hash), |leaf| {
            if leaf.len() == leaf.capacity() {
                let more = room::block_bytes((leaf.len() + 1) * ENTRY_BYTES) / ENTRY_BYTES - leaf.len();
                leaf.reserve_exact(more);
            }
            leaf.push(entry(hash, id));
        });
        self.len += 1;
        while self.len > LOAD * self.leaves.len() {
            self.split();
        }
    }
    /// A member of this hash went from one leaf of the tree to another.
    fn replace(&mut self, hash: MemberHash, from: LeafId, to: LeafId) {
        if from == to {
            return;
        }
        let index = self.leaf_of(hash);
        let number = self.number(index, entry(hash, from));
        self.change(index, |leaf| leaf[number] = entry(hash, to));
    }
    /// All members of a run went.
    pub(super) fn move_all(&mut self, run: &[u8], from: LeafId, to: LeafId) {
        elements(run).for_each(|(_, member)| self.replace(self.hash(member), from, to));
    }
    /// A member of this hash is where it was not; it may have been elsewhere.
    #[inline]
    pub(super) fn put(&mut self, hash: MemberHash, was: Option<LeafId>, is: LeafId) {
        match was {
            Some(was) => self.replace(hash, was, is),
            None => self.add(hash, is),
        }
    }
    pub(super) fn remove(&mut self, hash: MemberHash, id: LeafId) {
        let index = self.leaf_of(hash);
        let number = self.number(index, entry(hash, id));
        self.change(index, |leaf| {
            leaf.swap_remove(number);
            if leaf.len() * 2 < leaf.capacity() {
                leaf.shrink_to(room::block_bytes(leaf.len() * ENTRY_BYTES) / ENTRY_BYTES);
            }
        });
        self.len -= 1;
        while self.leaves.len() > 1 && self.len < LOAD / 2 * (self.leaves.len() - 1) {
            self.join();
        }
    }
    /// About `count` entries from `cursor` on, as `linear::scan` has it: each that differs from others once.
    pub(super) fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(MemberHash, LeafId)) -> u64 {
        let (mut visited, mut entries) = (0, Vec::new());
        linear::scan(cursor, self.leaves.len(), |index| {
            entries.clear();
            entries.extend_from_slice(self.leaves.get(index));
            entries.sort_unstable();
            entries.dedup();
            entries.iter().map(|entry| parts(*entry)).for_each(|(hash, id)| visit(hash, id));
            visited += entries.len().max(1);
            visited < count
        })
    }
    /// Memory outside of itself; a running count.
    pub(super) fn bytes_used(&self) -> usize {
        self.leaves.bytes_used() + self.capacity * ENTRY_BYTES
    }
    /// Frees about so many leaves; whether there are more.
    pub(super) fn free(&mut self, leaves: usize) -> bool {
        for leaf in (0..leaves).map_while(|_| self.leaves.pop()) {
            self.capacity -= leaf.capacity();
        }
        self.leaves.len() > 0
    }
    pub(super) fn check_invariants(&self) {
        for (index, leaf) in self.leaves.iter().enumerate() {
            let is_here = |entry: &u64| self.leaf_of(parts(*entry).0) == index;
            assert!(leaf.iter().all(is_here), "an entry is where its hash says");
        }
        assert_eq!(self.leaves.iter().map(Vec::len).sum::<usize>(), self.len, "entries are counted");
        assert_eq!(self.leaves.iter().map(Vec::capacity).sum::<usize>(), self.capacity, "memory is counted");
    }
    /// Every entry, in order.
    pub(super) fn entries(&self) -> Vec<(MemberHash, LeafId)> {
        let mut entries: Vec<_> = self.leaves.iter().flatten().map(|entry| parts(*entry)).collect();
        entries.sort_unstable();
        entries
    }

    #[inline]
    fn leaf_of(&self, hash: MemberHash) -> usize {
        linear::leaf_of(hash.0 as u64, self.leaves.len())
    }
    fn number(&self, index: usize, entry: u64) -> usize {
        let found = self.leaves.get(index).iter().position(|other| *other == entry);
        found.expect("every member of the tree has an entry")
    }
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Leaf)) {
        // Before it is made this side's own: a copy is as long as its content.
        self.capacity -= self.leaves.get(index).capacity();
        let leaf = self.leaves.make_mut(index);
        change(leaf);
        self.capacity += leaf.capacity();
    }
    fn split(&mut self) {
        let index = linear::next_split(self.leaves.len());
        let old = self.leaves.replace(index, Leaf::new());
        self.leaves.push(Leaf::new());
        let new = self.leaves.len() - 1;
        self.capacity -= old.capacity();
        let goes = |entry: &&u64| self.leaf_of(parts(**entry).0) == new;
        let (upper, lower): (Vec<&u64>, Vec<&u64>) = old.iter().partition(goes);
        for (index, half) in [(index, lower), (new, upper)] {
            let mut leaf = Leaf::with_capacity(room::block_bytes(half.len() * ENTRY_BYTES) / ENTRY_BYTES);
            leaf.extend(half);
            self.capacity += leaf.capacity();
            self.leaves.replace(index, leaf);
        }
    }
    fn join(&mut self) {
        let last = self.leaves.pop().expect("there is a leaf");
        self.capacity -= last.capacity();
        self.change(linear::next_split(self.leaves.len()), |leaf| {
            leaf.reserve_exact(last.len());
            leaf.extend_from_slice(&last);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_where_a_clone_shares_leaves() {
        let mut places = Places::new(1);
        let hash = MemberHash(7);
        (0..3).for_each(|id| places.put(hash, None, LeafId(id)));
        // A leaf's copy has no room left, unlike what it is copied from.
        let clone = places.clone();
        places.put(hash, Some(LeafId(1)), LeafId(9));
        places.check_invariants();
        clone.check_invariants();
        assert_eq!(places.entries(), [0, 2, 9].map(|id| (hash, LeafId(id))));
    }
}
