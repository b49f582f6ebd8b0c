//! Elements by (score, member), counted: a tree of three levels, of which the lower two grow and split.
//!
//! ```text
//! tree ── chunks ── leaves (runs of up to 48 elements)
//! ```
//! Beside what is below it, each level has its first scores and its counts in arrays of their own: a search compares scores
//! without going down, and a rank is a sum. Chunks and leaves are shared with clones until one side changes them. The rule that
//! must hold: no leaf and no chunk is empty.

use super::Bound;
use super::run::{self, Element, elements};
use std::ops::Range;
use std::rc::Rc;

const LEAF_COUNT_MAX: usize = 48;
/// A leaf of long members splits below that, if it has more than one.
const LEAF_BYTES_MAX: usize = 4 << 10;
const CHUNK_LEAVES_MAX: usize = 256;
/// Neighbours that together have at most so many become one.
const UNITED_COUNT_MAX: usize = LEAF_COUNT_MAX / 2;
/// What a leaf takes beside its bytes: counts of `Rc`, the vector, and its place in the chunk.
const LEAF_BYTES: usize = 2 * 8 + size_of::<Vec<u8>>() + 8 + size_of::<f64>() + size_of::<u32>();

#[derive(Clone, Default)]
pub(super) struct Tree {
    chunks: Vec<Rc<Chunk>>,
    firsts: Vec<f64>,
    counts: Vec<usize>,
    len: usize,
    leaves: usize,
    /// Capacities of all leaves.
    leaf_bytes: usize,
}

#[derive(Clone, Default)]
struct Chunk {
    leaves: Vec<Rc<Vec<u8>>>,
    firsts: Vec<f64>,
    counts: Vec<u32>,
}

impl Chunk {
    fn first_member(&self, leaf: usize) -> &[u8] {
        run::first(&self.leaves[leaf]).1
    }
    /// The leaf in which a bound lies: the last that begins before it.
    fn find(&self, bound: &Bound<'_>) -> usize {
        let before =
            partition(self.firsts.len(), |leaf| bound.is_behind(self.firsts[leaf], || self.first_member(leaf)));
        before.saturating_sub(1)
    }
    fn count(&self) -> usize {
        self.counts.iter().map(|count| *count as usize).sum()
    }
    fn add(&mut self, at: usize, leaf: Vec<u8>, count: usize) {
        self.firsts.insert(at, run::first(&leaf).0);
        self.counts.insert(at, count as u32);
        self.leaves.insert(at, Rc::new(leaf));
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
        self.leaf_bytes + self.leaves * LEAF_BYTES + self.chunks.len() * (size_of::<Chunk>() + 40)
    }
    fn find_chunk(&self, bound: &Bound<'_>) -> usize {
        let before = partition(self.chunks.len(), |chunk| {
            bound.is_behind(self.firsts[chunk], || self.chunks[chunk].first_member(0))
        });
        before.saturating_sub(1)
    }
    /// How many elements lie before a bound.
    pub(super) fn rank(&self, bound: &Bound<'_>) -> usize {
        if self.len == 0 {
            return 0;
        }
        let at = self.find_chunk(bound);
        let chunk = &self.chunks[at];
        let leaf = chunk.find(bound);
        let chunks_before: usize = self.counts[..at].iter().sum();
        let leaves_before: u32 = chunk.counts[..leaf].iter().sum();
        chunks_before + leaves_before as usize + run::find(&chunk.leaves[leaf], bound).0
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
            for leaf in &chunk.leaves[std::mem::take(&mut skip_leaves)..] {
                for element in elements(leaf).skip(std::mem::take(&mut skip)) {
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
            let leaves = leaves_max.min(chunk.leaves.len());
            for leaf in chunk.leaves[..leaves].iter().rev() {
                of_leaf.clear();
                of_leaf.extend(elements(leaf).take(count_max));
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
    /// Adds an element that isn't there.
    pub(super) fn insert(&mut self, score: f64, member: &[u8]) {
        self.len += 1;
        if self.chunks.is_empty() {
            let mut chunk = Chunk::default();
            chunk.add(0, Vec::new_with(score, member, &mut self.leaf_bytes), 1);
            self.leaves += 1;
            return self.add_chunk(0, chunk);
        }
        let bound = Bound::Element { score, member };
        let at = self.find_chunk(&bound);
        let is_last_chunk = at + 1 == self.chunks.len();
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let index = chunk.find(&bound);
        let (number, place) = run::find(&chunk.leaves[index], &bound);
        let is_end = is_last_chunk && index + 1 == chunk.leaves.len() && place == chunk.leaves[index].len();
        let count = chunk.counts[index] as usize;
        if is_end && (count >= LEAF_COUNT_MAX || chunk.leaves[index].len() >= LEAF_BYTES_MAX) {
            // Elements that come in order leave full leaves behind.
            chunk.add(index + 1, Vec::new_with(score, member, &mut self.leaf_bytes), 1);
            self.leaves += 1;
        } else {
            change(&mut self.leaf_bytes, &mut chunk.leaves[index], |leaf| run::insert(leaf, place, score, member));
            chunk.counts[index] += 1;
            if number == 0 {
                chunk.firsts[index] = score;
            }
            let is_long = chunk.leaves[index].len() > LEAF_BYTES_MAX && count > 0;
            if count + 1 > LEAF_COUNT_MAX || is_long {
                split_leaf(chunk, index, &mut self.leaf_bytes);
                self.leaves += 1;
            }
        }
        self.firsts[at] = chunk.firsts[0];
        self.counts[at] += 1;
        if chunk.leaves.len() > CHUNK_LEAVES_MAX {
            self.split_chunk(at, is_end);
        }
    }
    /// Removes an element that is there.
    pub(super) fn remove(&mut self, score: f64, member: &[u8]) {
        let bound = Bound::Element { score, member };
        // A bound lies before its element, which may be the first of its chunk, and of its leaf.
        let mut at = self.find_chunk(&bound);
        let next_begins = |tree: &Tree, at: usize| {
            tree.firsts.get(at + 1) == Some(&score) && tree.chunks[at + 1].first_member(0) == member
        };
        at += next_begins(self, at) as usize;
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let mut index = chunk.find(&bound);
        if chunk.firsts.get(index + 1) == Some(&score) && chunk.first_member(index + 1) == member {
            index += 1;
        }
        let (number, place) = run::find(&chunk.leaves[index], &bound);
        let range = run::range(&chunk.leaves[index], place);
        assert_eq!(elements(&chunk.leaves[index][range.clone()]).next().map(|found| found.1), Some(member), "is there");
        self.len -= 1;
        self.counts[at] -= 1;
        chunk.counts[index] -= 1;
        if chunk.counts[index] == 0 {
            self.drop_leaf(at, index);
        } else {
            change(&mut self.leaf_bytes, &mut chunk.leaves[index], |leaf| {
                leaf.drain(range);
                if leaf.capacity() > 128 && leaf.len() < leaf.capacity() / 2 {
                    leaf.shrink_to(leaf.len() + leaf.len() / 16);
                }
            });
            if number == 0 {
                chunk.firsts[index] = run::first(&chunk.leaves[index]).0;
            }
            self.unite(at, index);
        }
        if let Some(chunk) = self.chunks.get(at) {
            self.firsts[at] = chunk.firsts[0];
        }
    }
    /// Joins a leaf with the next one while both together are small.
    fn unite(&mut self, at: usize, index: usize) {
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let Some(next) = chunk.counts.get(index + 1) else { return };
        let count = chunk.counts[index] + next;
        let bytes = chunk.leaves[index].len() + chunk.leaves[index + 1].len();
        if count as usize <= UNITED_COUNT_MAX && bytes <= LEAF_BYTES_MAX / 2 {
            let next = chunk.leaves[index + 1].clone();
            change(&mut self.leaf_bytes, &mut chunk.leaves[index], |leaf| {
                leaf.reserve_exact(next.len());
                leaf.extend_from_slice(&next);
            });
            chunk.counts[index] = count;
            self.drop_leaf(at, index + 1);
        }
    }
    fn drop_leaf(&mut self, at: usize, index: usize) {
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        self.leaf_bytes -= chunk.leaves.remove(index).capacity();
        chunk.firsts.remove(index);
        chunk.counts.remove(index);
        self.leaves -= 1;
        if chunk.leaves.is_empty() {
            self.chunks.remove(at);
            self.firsts.remove(at);
            self.counts.remove(at);
        }
    }
    fn add_chunk(&mut self, at: usize, chunk: Chunk) {
        self.firsts.insert(at, chunk.firsts[0]);
        self.counts.insert(at, chunk.count());
        self.chunks.insert(at, Rc::new(chunk));
    }
    fn split_chunk(&mut self, at: usize, keep_full: bool) {
        let chunk = Rc::make_mut(&mut self.chunks[at]);
        let kept = if keep_full { chunk.leaves.len() - 1 } else { chunk.leaves.len() / 2 };
        let upper = Chunk {
            leaves: chunk.leaves.split_off(kept),
            firsts: chunk.firsts.split_off(kept),
            counts: chunk.counts.split_off(kept),
        };
        self.counts[at] -= upper.count();
        self.add_chunk(at + 1, upper);
    }
    /// Frees leaves, whole chunks of them; whether there are more.
    pub(super) fn free(&mut self, leaves: usize) -> bool {
        let mut freed = 0;
        while freed < leaves
            && let Some(chunk) = self.chunks.pop()
        {
            freed += chunk.leaves.len();
            self.leaves -= chunk.leaves.len();
            self.leaf_bytes -= chunk.leaves.iter().map(|leaf| leaf.capacity()).sum::<usize>();
        }
        !self.chunks.is_empty()
    }
    pub(super) fn check_invariants(&self) {
        let (mut len, mut leaves, mut bytes) = (0, 0, 0);
        let mut last: Option<Element<'_>> = None;
        for (at, chunk) in self.chunks.iter().enumerate() {
            assert!(!chunk.leaves.is_empty(), "no chunk is empty");
            assert_eq!((self.firsts[at], self.counts[at]), (chunk.firsts[0], chunk.count()), "chunks are described");
            for (index, leaf) in chunk.leaves.iter().enumerate() {
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
        assert_eq!((len, leaves, bytes), (self.len, self.leaves, self.leaf_bytes), "all is counted");
    }
}

/// A leaf of one element.
trait NewLeaf {
    fn new_with(score: f64, member: &[u8], leaf_bytes: &mut usize) -> Self;
}

impl NewLeaf for Vec<u8> {
    fn new_with(score: f64, member: &[u8], leaf_bytes: &mut usize) -> Self {
        let mut leaf = Vec::new();
        run::insert(&mut leaf, 0, score, member);
        *leaf_bytes += leaf.capacity();
        leaf
    }
}

/// Changes a leaf and keeps count of its bytes.
fn change(leaf_bytes: &mut usize, leaf: &mut Rc<Vec<u8>>, change: impl FnOnce(&mut Vec<u8>)) {
    *leaf_bytes -= leaf.capacity();
    let leaf = Rc::make_mut(leaf);
    change(leaf);
    *leaf_bytes += leaf.capacity();
}

fn split_leaf(chunk: &mut Chunk, index: usize, leaf_bytes: &mut usize) {
    let count = chunk.counts[index] as usize;
    let kept = count / 2;
    let place = run::place(&chunk.leaves[index], kept);
    let upper = chunk.leaves[index][place..].to_vec();
    change(leaf_bytes, &mut chunk.leaves[index], |leaf| {
        leaf.truncate(place);
        leaf.shrink_to_fit();
    });
    *leaf_bytes += upper.capacity();
    chunk.counts[index] = kept as u32;
    chunk.add(index + 1, upper, count - kept);
}
