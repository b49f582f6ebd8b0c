//! Elements by (score, member), counted: a tree of three levels, of which the lower two grow and split.
//!
//! ```text
//! tree ── chunks ── leaves (runs of up to 48 elements), by their numbers
//! ```
//! Beside what is below it, each level has its first scores and its counts in arrays of their own: a search compares scores
//! without going down, and a rank is a sum. Chunks and leaves are shared with clones until one side changes them. Where a member
//! is, `Places` knows by the number of its leaf: who moves elements to another leaf tells it. The rule that must hold: no leaf and
//! no chunk is empty.

use super::Bound;
use super::places::{LeafId, MemberHash, Places};
use super::run::{self, Element, elements};
use crate::types::pages::Pages;
use crate::types::room;
use std::ops::Range;
use std::rc::Rc;

const LEAF_COUNT_MAX: usize = 48;
/// A leaf of long members splits below that, if it has more than one.
const LEAF_BYTES_MAX: usize = 4 << 10;
const CHUNK_LEAVES_MAX: usize = 256;
/// Neighbours that together have at most so many become one.
const UNITED_COUNT_MAX: usize = LEAF_COUNT_MAX / 2;

#[derive(Clone, Default)]
pub(super) struct Tree {
    chunks: Vec<Rc<Chunk>>,
    firsts: Vec<f64>,
    counts: Vec<usize>,
    len: usize,
    leaves: Leaves,
}

/// Some leaves that follow each other.
#[derive(Clone, Default)]
struct Chunk {
    ids: Vec<LeafId>,
    firsts: Vec<f64>,
    counts: Vec<u32>,
}

impl Chunk {
    /// The leaf in which a bound lies: the last that begins before it.
    fn find(&self, leaves: &Leaves, bound: &Bound<'_>) -> usize {
        let is_before = |leaf: usize| bound.is_behind(self.firsts[leaf], || leaves.first_member(self.ids[leaf]));
        partition(self.firsts.len(), is_before).saturating_sub(1)
    }
    fn count(&self) -> usize {
        self.counts.iter().map(|count| *count as usize).sum()
    }
    fn add(&mut self, at: usize, id: LeafId, first: f64, count: usize) {
        self.firsts.insert(at, first);
        self.counts.insert(at, count as u32);
        self.ids.insert(at, id);
    }
    fn remove(&mut self, at: usize) -> LeafId {
        self.firsts.remove(at);
        self.counts.remove(at);
        self.ids.remove(at)
    }
}

/// The leaves by number, in no order; every number below how many there are is one's.
#[derive(Clone, Default)]
struct Leaves {
    pages: Pages<Vec<u8>>,
    /// Capacities of all leaves.
    bytes: usize,
}

impl Leaves {
    #[inline]
    fn get(&self, id: LeafId) -> &Vec<u8> {
        self.pages.get(id.0 as usize)
    }
    fn first_member(&self, id: LeafId) -> &[u8] {
        run::first(self.get(id)).1
    }
    fn last(&self) -> LeafId {
        LeafId(self.pages.len() as u32 - 1)
    }
    fn add(&mut self, leaf: Vec<u8>) -> LeafId {
        assert!(self.pages.len() < u32::MAX as usize, "memory ends before numbers of leaves do");
        self.bytes += leaf.capacity();
        self.pages.push(leaf);
        self.last()
    }
    /// A leaf of one element.
    fn add_with(&mut self, score: f64, member: &[u8]) -> LeafId {
        let mut leaf = Vec::new();
        run::insert(&mut leaf, 0, score, member);
        self.add(leaf)
    }
    fn change(&mut self, id: LeafId, change: impl FnOnce(&mut Vec<u8>)) {
        // Before it is made this side's own: a copy is as long as its content.
        self.bytes -= self.get(id).capacity();
        let leaf = self.pages.make_mut(id.0 as usize);
        change(leaf);
        self.bytes += leaf.capacity();
    }
    /// The last leaf gets this one's number.
    fn swap_remove(&mut self, id: LeafId) {
        let removed = self.pages.swap_remove(id.0 as usize);
        self.bytes -= removed.capacity();
    }
    fn pop(&mut self) -> bool {
        let popped = self.pages.pop();
        self.bytes -= popped.as_ref().map_or(0, |leaf| leaf.capacity());
        popped.is_some()
    }
    /// The upper half of a leaf becomes a leaf of its own.
    fn split(&mut self, chunk: &mut Chunk, index: usize, places: &mut Places) {
        let (id, count) = (chunk.ids[index], chunk.counts[index] as usize);
        let kept = count / 2;
        let leaf = self.get(id);
        let place = run::place(leaf, kept);
        let mut upper = Vec::with_capacity(room::block_bytes(leaf.len() - place));
        upper.extend_from_slice(&leaf[place..]);
        self.change(id, |leaf| {
            leaf.truncate(place);
            leaf.shrink_to(room::block_bytes(place));
        });
        let first = run::first(&upper).0;
        let new = self.add(upper);
        places.move_all(self.get(new), id, new);
        chunk.counts[index] = kept as u32;
        chunk.add(index + 1, new, first, count - kept);
    }
}

/// The first of `len` indexes for which `before` is false; those for which it is true come first.
fn partition(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.len
    }
    pub(super) fn bytes_used(&self) -> usize {
        /// What a chunk has of a leaf, and what a tree has of a chunk.
        const OF_LEAF: usize = size_of::<LeafId>() + size_of::<f64>() + size_of::<u32>();
        const OF_CHUNK: usize = 2 * 8 + size_of::<Chunk>() + 8 + size_of::<f64>() + size_of::<usize>();
        let leaves = self.leaves.bytes + self.leaves.pages.bytes_used() + self.leaves.pages.len() * OF_LEAF;
        leaves + self.chunks.len() * OF_CHUNK
    }
    /// The score of a member that may be in this leaf.
    #[inline]
    pub(super) fn score_in(&self, id: LeafId, member: &[u8]) -> Option<f64> {
        run::score_of(self.leaves.get(id), member)
    }
    pub(super) fn elements_of(&self, id: LeafId) -> impl Iterator<Item = Element<'_>> {
        elements(self.leaves.get(id))
    }
    fn find_chunk(&self, bound: &Bound<'_>) -> usize {
        let is_before =
            |chunk: usize| bound.is_behind(self.firsts[chunk], || self.leaves.first_member(self.chunks[chunk].ids[0]));
        partition(self.chunks.len(), is_before).saturating_sub(1)
    }
    /// Chunk and leaf of an element that is there.
    fn find_element(&self, score: f64, member: &[u8]) -> (usize, usize) {
        let bound = Bound::Element { score, member };
        // A bound lies before its element, which may be the first of its chunk, and of its leaf.
        let begins = |chunk: &Chunk, leaf: usize| {
            chunk.firsts.get(leaf) == Some(&score) && self.leaves.first_member(chunk.ids[leaf]) == member
        };
        let mut at = self.find_chunk(&bound);
        at += self.chunks.get(at + 1).is_some_and(|next| begins(next, 0)) as usize;
        let chunk = &self.chunks[at];
        let leaf = chunk.find(&self.leaves, &bound);
        (at, leaf + begins(chunk, leaf + 1) as usize)
    }
    /// How many elements lie before a bound.
    pub(super) fn rank(&self, bound: &Bound<'_>) -> usize {
        if self.len == 0 {
            return 0;
        }
        let at = self.find_chunk(bound);
        let chunk = &self.chunks[at];
        let leaf = chunk.find(&self.leaves, bound);
        let chunks_before: usize = self.counts[..at].iter().sum();
        let leaves_before: u32 = chunk.counts[..leaf].iter().sum();
        chunks_before + leaves_before as usize + run::find(self.leaves.get(chunk.ids[leaf]), bound).0
    }
    /// Chunk, leaf and number there of the element of this rank.
    fn locate(&self, rank: usize) -> Option<(usize, usize, usize)> {
        let mut left = rank;
        let mut chunk = 0;
        while left >= *self.counts.get(chunk)? {
            left -= self.counts[chunk];
            chunk += 1;
        }
        let mut leaf = 0;
        while left >= self.chunks[chunk].counts[leaf] as usize {
            left -= self.chunks[chunk].counts[leaf] as usize;
            leaf += 1;
        }
        Some((chunk, leaf, left))
    }
    /// The elements of these ranks, for as long as `visit` says so.
    pub(super) fn visit<'t>(&'t self, ranks: Range<usize>, visit: &mut dyn FnMut(Element<'t>) -> bool) {
        let Some((first, leaf, number)) = self.locate(ranks.start) else { return };
        let (mut skip_leaves, mut skip, mut left) = (leaf, number, ranks.len());
        for chunk in &self.chunks[first..] {
            for id in &chunk.ids[std::mem::take(&mut skip_leaves)..] {
                for element in elements(self.leaves.get(*id)).skip(std::mem::take(&mut skip)) {
                    if left == 0 || !visit(element) {
                        return;
                    }
                    left -= 1;
                }
            }
        }
    }
    /// The same from the highest rank down.
    pub(super) fn visit_back<'t>(&'t self, ranks: Range<usize>, visit: &mut dyn FnMut(Element<'t>) -> bool) {
        let Some((last, leaf, number)) = ranks.end.checked_sub(1).and_then(|rank| self.locate(rank)) else { return };
        let mut left = ranks.len();
        let (mut leaves_max, mut count_max) = (leaf + 1, number + 1);
        let mut of_leaf = Vec::with_capacity(LEAF_COUNT_MAX);
        for chunk in self.chunks[..=last].iter().rev() {
            let leaves = leaves_max.min(chunk.ids.len());
            for id in chunk.ids[..leaves].iter().rev() {
                of_leaf.clear();
                of_leaf.extend(elements(self.leaves.get(*id)).take(count_max));
                for element in of_leaf.drain(..).rev() {
                    if left == 0 || !visit(element) {
                        return;
                    }
                    left -= 1;
                }
                count_max = usize::MAX;
            }
            leaves_max = usize::MAX;
        }
    }
    /// Adds an element that isn't there; if it had another score before, `was` is the leaf where it was.
    pub(super) fn insert(
        &mut self,
        score: f64,
        member: &[u8],
        hash: MemberHash,
        was: Option<LeafId>,
        places: &mut Places,
    ) {
        self.len += 1;
        if self.chunks.is_empty() {
            let mut chunk = Chunk::default();
            let id = self.leaves.add_with(score, member);
            chunk.add(0, id, score, 1);
            places.put(hash, was, id);
            return self.add_chunk(0, chunk);
        }
        let bound = Bound::Element { score, member };
        let at = self.find_chunk(&bound);
        let is_last_chunk = at + 1 == self.chunks.len();
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let index = chunk.find(&self.leaves, &bound);
        let (id, count) = (chunk.ids[index], chunk.counts[index] as usize);
        let leaf = self.leaves.get(id);
        let (number, place) = run::find(leaf, &bound);
        let is_end = is_last_chunk && index + 1 == chunk.ids.len() && place == leaf.len();
        if is_end && (count >= LEAF_COUNT_MAX || leaf.len() >= LEAF_BYTES_MAX) {
            // Elements that come in order leave full leaves behind.
            let id = self.leaves.add_with(score, member);
            chunk.add(index + 1, id, score, 1);
            places.put(hash, was, id);
        } else {
            self.leaves.change(id, |leaf| run::insert(leaf, place, score, member));
            places.put(hash, was, id);
            chunk.counts[index] += 1;
            if number == 0 {
                chunk.firsts[index] = score;
            }
            let is_long = self.leaves.get(id).len() > LEAF_BYTES_MAX && count > 0;
            if count + 1 > LEAF_COUNT_MAX || is_long {
                self.leaves.split(chunk, index, places);
            }
        }
        self.firsts[at] = chunk.firsts[0];
        self.counts[at] += 1;
        if chunk.ids.len() > CHUNK_LEAVES_MAX {
            self.split_chunk(at, is_end);
        }
    }
    /// Removes an element that is there; where it was. Places of others that move are noted, its own stays.
    pub(super) fn remove(&mut self, score: f64, member: &[u8], places: &mut Places) -> LeafId {
        let (at, index) = self.find_element(score, member);
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let id = chunk.ids[index];
        let leaf = self.leaves.get(id);
        let (number, place) = run::find(leaf, &Bound::Element { score, member });
        let range = run::range(leaf, place);
        assert_eq!(elements(&leaf[range.clone()]).next().map(|found| found.1), Some(member), "is there");
        self.len -= 1;
        self.counts[at] -= 1;
        chunk.counts[index] -= 1;
        if chunk.counts[index] == 0 {
            self.drop_leaf(at, index, places);
        } else {
            self.leaves.change(id, |leaf| {
                leaf.drain(range);
                room::trim(leaf);
            });
            if number == 0 {
                chunk.firsts[index] = run::first(self.leaves.get(id)).0;
            }
            self.firsts[at] = chunk.firsts[0];
            self.unite(at, index, places);
        }
        id
    }
    /// Removes the elements of these ranks, which there are, and their places.
    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>, places: &mut Places) {
        let mut left = ranks.len();
        while left > 0 {
            let (at, index, number) = self.locate(ranks.start).expect("there are elements of these ranks");
            let chunk = Rc::make_mut(&mut self.chunks[at]);
            let (id, count) = (chunk.ids[index], chunk.counts[index] as usize);
            let here = left.min(count - number);
            let leaf = self.leaves.get(id);
            let range = run::place(leaf, number)..run::place(leaf, number + here);
            elements(&leaf[range.clone()]).for_each(|(_, member)| places.remove(places.hash(member), id));
            left -= here;
            self.len -= here;
            self.counts[at] -= here;
            chunk.counts[index] -= here as u32;
            if here == count {
                self.drop_leaf(at, index, places);
                continue;
            }
            self.leaves.change(id, |leaf| {
                leaf.drain(range);
                room::trim(leaf);
            });
            chunk.firsts[index] = run::first(self.leaves.get(id)).0;
            self.firsts[at] = chunk.firsts[0];
            self.unite(at, index, places);
        }
    }
    /// Joins a leaf with the next one while both together are small.
    fn unite(&mut self, at: usize, index: usize, places: &mut Places) {
        let chunk = &self.chunks[at];
        let Some(next_count) = chunk.counts.get(index + 1) else { return };
        let count = chunk.counts[index] + next_count;
        let (id, next) = (chunk.ids[index], chunk.ids[index + 1]);
        let bytes = self.leaves.get(id).len() + self.leaves.get(next).len();
        if count as usize <= UNITED_COUNT_MAX && bytes <= LEAF_BYTES_MAX / 2 {
            let rest = self.leaves.get(next).clone();
            places.move_all(&rest, next, id);
            self.leaves.change(id, |leaf| {
                room::reserve(leaf, rest.len());
                leaf.extend_from_slice(&rest);
            });
            Rc::make_mut(&mut self.chunks[at]).counts[index] = count;
            self.drop_leaf(at, index + 1, places);
        }
    }
    /// Takes away a leaf whose elements are gone, or elsewhere. The last leaf gets its number.
    fn drop_leaf(&mut self, at: usize, index: usize, places: &mut Places) {
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let id = chunk.remove(index);
        if let Some(first) = chunk.firsts.first() {
            self.firsts[at] = *first;
        } else {
            self.chunks.remove(at);
            self.firsts.remove(at);
            self.counts.remove(at);
        }
        let last = self.leaves.last();
        if id != last {
            let (score, member) = run::first(self.leaves.get(last));
            let (at, index) = self.find_element(score, member);
            places.move_all(self.leaves.get(last), last, id);
            Rc::make_mut(&mut self.chunks[at]).ids[index] = id;
        }
        self.leaves.swap_remove(id);
    }
    fn add_chunk(&mut self, at: usize, chunk: Chunk) {
        self.firsts.insert(at, chunk.firsts[0]);
        self.counts.insert(at, chunk.count());
        self.chunks.insert(at, Rc::new(chunk));
    }
    fn split_chunk(&mut self, at: usize, keep_full: bool) {
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let kept = if keep_full { chunk.ids.len() - 1 } else { chunk.ids.len() / 2 };
        let upper = Chunk {
            ids: chunk.ids.split_off(kept),
            firsts: chunk.firsts.split_off(kept),
            counts: chunk.counts.split_off(kept),
        };
        self.counts[at] -= upper.count();
        self.add_chunk(at + 1, upper);
    }
    /// Frees about so many leaves; whether there is more.
    pub(super) fn free(&mut self, leaves: usize) -> bool {
        if !(0..leaves).all(|_| self.leaves.pop()) {
            // Of these, there are hundreds of times fewer.
            self.chunks.truncate(self.chunks.len().saturating_sub(leaves));
        }
        self.leaves.pages.len() > 0 || !self.chunks.is_empty()
    }
    pub(super) fn check_invariants(&self) {
        let (mut len, mut leaves, mut bytes) = (0, 0, 0);
        let mut last: Option<Element<'_>> = None;
        for (at, chunk) in self.chunks.iter().enumerate() {
            assert!(!chunk.ids.is_empty(), "no chunk is empty");
            assert_eq!((self.firsts[at], self.counts[at]), (chunk.firsts[0], chunk.count()), "chunks are described");
            for (index, id) in chunk.ids.iter().enumerate() {
                let leaf = self.leaves.get(*id);
                let count = elements(leaf).count();
                assert!(count > 0, "no leaf is empty");
                assert_eq!((chunk.firsts[index], chunk.counts[index] as usize), (run::first(leaf).0, count));
                for element in elements(leaf) {
                    assert!(last.is_none_or(|last| last < element), "elements are in order");
                    last = Some(element);
                }
                len += count;
                leaves += 1;
                bytes += leaf.capacity();
            }
        }
        assert_eq!((len, leaves), (self.len, self.leaves.pages.len()), "all is counted");
        assert_eq!(bytes, self.leaves.bytes, "memory is counted");
    }
    /// Every element's leaf.
    pub(super) fn ids(&self) -> impl Iterator<Item = LeafId> {
        self.chunks.iter().flat_map(|chunk| chunk.ids.iter().copied())
    }
}
