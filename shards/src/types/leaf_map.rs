//! Byte strings by byte strings: what large hashes and sets are made of.
//!
//! Linear hashing (Litwin, VLDB 1980): the low bits of a hash name a leaf; when leaves are full on average, the next in turn is
//! split in two, and when they are nearly empty, the last one goes back into the one it came from. So the map grows and shrinks a
//! leaf at a time and has no directory, and memory per element does not depend on its size.
//!
//! ```text
//! leaf: | tag 1 ... | key length | key | value length | value | ...      a tag, 8 bits of the hash, per element
//! ```
//! Leaves are shared with clones until one side changes them. The rule that must hold: an element is in the leaf that its hash
//! names, and its tag stands as far along as itself.

use crate::random::Random;
use crate::wire::{Decoder, number};
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::rc::Rc;

/// Elements per leaf, on average, at which the map grows a leaf; at less than half of it, it loses one.
const LOAD: usize = 24;
/// A leaf's memory grows in steps of this share of it, so that little lies idle.
const ROOM_SHARE: usize = 16;
/// Bits of a scan's cursor.
const CURSOR_BITS: u32 = 48;
/// What a leaf takes beside its bytes: the counts of `Rc`, and itself.
const LEAF_BYTES: usize = 2 * size_of::<usize>() + size_of::<Leaf>();
/// Draws at random before looking for the next element in order; and the elements a leaf has at most, nearly always.
const DRAWS: usize = 200;
const DRAWN_MAX: usize = 3 * LOAD;

#[derive(Clone)]
pub struct LeafMap {
    leaves: Vec<Rc<Leaf>>,
    len: usize,
    /// Capacities of all leaves.
    leaf_bytes: usize,
    hasher: ahash::RandomState,
    has_values: bool,
}

#[derive(Clone, Default)]
struct Leaf {
    /// Tags, then elements.
    bytes: Vec<u8>,
    count: usize,
}

/// An element in a leaf: its number, and where it lies.
struct Place {
    number: usize,
    whole: Range<usize>,
    value: Range<usize>,
}

impl LeafMap {
    /// A map without elements.
    pub fn new(seed: u64) -> Self {
        let mut seeds = Random::new(seed);
        let [a, b, c, d] = std::array::from_fn(|_| seeds.next_u64());
        let hasher = ahash::RandomState::with_seeds(a, b, c, d);
        LeafMap { leaves: vec![Rc::default()], len: 0, leaf_bytes: 0, hasher, has_values: true }
    }
    /// One whose values are all empty, and take no memory.
    pub fn keys_only(seed: u64) -> Self {
        LeafMap { has_values: false, ..Self::new(seed) }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = self.hash(key);
        let leaf = &self.leaves[self.leaf_of(hash)];
        leaf.find(tag(hash), key, self.has_values).map(|place| &leaf.bytes[place.value])
    }
    /// The key with this hash whose value is the one that is looked for.
    pub(super) fn find_hashed(&self, hash: u64, is_it: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        let leaf = &self.leaves[self.leaf_of(hash)];
        let mut tagged = leaf.bytes.iter().zip(leaf.elements(self.has_values));
        let found =
            tagged.find(|(tagged, (key, value))| **tagged == tag(hash) && self.hash(key) == hash && is_it(value));
        found.map(|(_, (key, _))| key)
    }
    /// Whether the key is new. Another value replaces the one it had.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
        let hash = self.hash(key);
        let index = self.leaf_of(hash);
        let has_values = self.has_values;
        let leaf = &self.leaves[index];
        let place = leaf.find(tag(hash), key, has_values);
        if place.as_ref().is_some_and(|place| leaf.bytes[place.value.clone()] == *value) {
            return false;
        }
        let is_new = place.is_none();
        self.change(index, |leaf| match place {
            Some(place) => leaf.set_value(place, value),
            None => leaf.push(tag(hash), key, has_values.then_some(value)),
        });
        self.len += is_new as usize;
        while self.len > LOAD * self.leaves.len() {
            self.split();
        }
        is_new
    }
    /// Whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        let index = self.leaf_of(hash);
        let Some(place) = self.leaves[index].find(tag(hash), key, self.has_values) else { return false };
        self.change(index, |leaf| leaf.remove(place));
        self.len -= 1;
        while self.leaves.len() > 1 && self.len < LOAD / 2 * (self.leaves.len() - 1) {
            self.join();
        }
        true
    }
    /// In an order that stays the same while nothing is changed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.leaves.iter().flat_map(|leaf| leaf.elements(self.has_values))
    }
    /// One of them, all about equally likely.
    pub fn random(&self, random: &mut Random) -> Option<(&[u8], &[u8])> {
        if self.len == 0 {
            return None;
        }
        let leaves = self.leaves.len() as u64;
        for _ in 0..DRAWS {
            let leaf = &self.leaves[random.below(leaves) as usize];
            // The few leaves with more elements give each of them less of a chance.
            let number = random.below(DRAWN_MAX.max(leaf.count) as u64) as usize;
            if number < leaf.count {
                return leaf.elements(self.has_values).nth(number);
            }
        }
        let start = random.below(leaves) as usize;
        let mut from_there = (0..self.leaves.len()).map(|step| &self.leaves[(start + step) % self.leaves.len()]);
        let leaf = from_there.find(|leaf| leaf.count > 0).expect("a map that counts elements has them in leaves");
        leaf.elements(self.has_values).nth(random.below(leaf.count as u64) as usize)
    }
    /// About `count` of them from `cursor` on (0: from the start), whole leaves at a time; where to go on, 0 at the end. One that
    /// stays from a scan's start to its end is visited at least once, however the map changes meanwhile. Cursors are below 2^48.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        // A leaf has the hashes that end in its bits; reversed, those are one range, which splits and joins divide and unite.
        let (mut at, mut visited) = (cursor, 0);
        while at >> CURSOR_BITS == 0 {
            let index = self.leaf_of((at << (64 - CURSOR_BITS)).reverse_bits());
            let leaf = &self.leaves[index];
            leaf.elements(self.has_values).for_each(|(key, value)| visit(key, value));
            visited += leaf.count.max(1);
            let span = 1 << (CURSOR_BITS - self.bits_of(index));
            at = (at | (span - 1)) + 1;
            if visited >= count && at >> CURSOR_BITS == 0 {
                return at;
            }
        }
        0
    }
    /// Leaf by leaf from `from` on (0: from the start), for as long as `visit` says so; where to go on if there is more. The map
    /// stays as it is meanwhile.
    pub fn walk(&self, from: u64, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Option<u64> {
        for (index, leaf) in self.leaves.iter().enumerate().skip(from as usize) {
            let mut goes_on = true;
            leaf.elements(self.has_values).for_each(|(key, value)| goes_on &= visit(key, value));
            if !goes_on && index + 1 < self.leaves.len() {
                return Some(index as u64 + 1);
            }
        }
        None
    }
    /// Memory outside of itself; a running count.
    pub fn bytes_used(&self) -> usize {
        self.leaves.capacity() * size_of::<Rc<Leaf>>() + self.leaves.len() * LEAF_BYTES + self.leaf_bytes
    }
    /// Frees about `nodes` leaves; whether there are more. Nobody reads it any more.
    pub fn free(&mut self, nodes: usize) -> bool {
        for leaf in self.leaves.drain(self.leaves.len().saturating_sub(nodes)..) {
            self.leaf_bytes -= leaf.bytes.capacity();
        }
        !self.leaves.is_empty()
    }
    pub fn check_invariants(&self) {
        let mut len = 0;
        for (index, leaf) in self.leaves.iter().enumerate() {
            let mut elements = 0;
            for (number, (key, _)) in leaf.elements(self.has_values).enumerate() {
                let hash = self.hash(key);
                assert_eq!(self.leaf_of(hash), index, "an element is where its hash says");
                assert_eq!(leaf.bytes[number], tag(hash), "tags are in the order of elements");
                let place = leaf.find(tag(hash), key, self.has_values).expect("every element is found");
                assert_eq!(place.number, number, "no element is there twice");
                elements += 1;
            }
            assert_eq!(elements, leaf.count, "a leaf counts its elements");
            len += elements;
        }
        assert_eq!(len, self.len, "elements are counted");
        let bytes: usize = self.leaves.iter().map(|leaf| leaf.bytes.capacity()).sum();
        assert_eq!(bytes, self.leaf_bytes, "bytes are counted");
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
    /// Leaves that have been split in this round, and those that came of it, go by one bit more.
    fn leaf_of(&self, hash: u64) -> usize {
        let bits = self.leaves.len().ilog2();
        let index = hash as usize & ((2 << bits) - 1);
        if index < self.leaves.len() { index } else { index & ((1 << bits) - 1) }
    }
    /// How many bits of a hash name this leaf.
    fn bits_of(&self, index: usize) -> u32 {
        let bits = self.leaves.len().ilog2();
        let round = 1 << bits;
        if index >= round || index + round < self.leaves.len() { bits + 1 } else { bits }
    }
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Leaf)) {
        let shared = &mut self.leaves[index];
        self.leaf_bytes -= shared.bytes.capacity();
        let leaf = Rc::make_mut(shared);
        change(leaf);
        self.leaf_bytes += leaf.bytes.capacity();
    }
    fn split(&mut self) {
        let round = 1 << self.leaves.len().ilog2();
        let index = self.leaves.len() - round;
        let old = std::mem::take(&mut self.leaves[index]);
        self.leaves.push(Rc::default());
        let new = self.leaves.len() - 1;
        let mut halves = [Leaf::default(), Leaf::default()];
        for (number, (key, value)) in old.elements(self.has_values).enumerate() {
            let half = (self.leaf_of(self.hash(key)) == new) as usize;
            halves[half].push(old.bytes[number], key, self.has_values.then_some(value));
        }
        self.leaf_bytes -= old.bytes.capacity();
        for (index, half) in [index, new].into_iter().zip(halves) {
            self.leaf_bytes += half.bytes.capacity();
            self.leaves[index] = Rc::new(half);
        }
    }
    fn join(&mut self) {
        let last = self.leaves.pop().expect("a map has a leaf");
        self.leaf_bytes -= last.bytes.capacity();
        let target = self.leaves.len() - (1 << self.leaves.len().ilog2());
        let has_values = self.has_values;
        self.change(target, |leaf| {
            for (number, (key, value)) in last.elements(has_values).enumerate() {
                leaf.push(last.bytes[number], key, has_values.then_some(value));
            }
        });
    }
}

impl Leaf {
    #[inline]
    fn find(&self, tag: u8, key: &[u8], has_values: bool) -> Option<Place> {
        let tags = &self.bytes[..self.count];
        // Mostly none has the tag: then no element is looked at.
        if !tags.contains(&tag) {
            return None;
        }
        let mut at = Decoder::new(&self.bytes[self.count..]);
        for (number, other) in tags.iter().enumerate() {
            let start = self.count + at.at();
            let found = at.string().expect("a leaf holds whole elements");
            let value = if has_values { at.string().expect("with their values") } else { &[] };
            if *other == tag && found == key {
                let end = self.count + at.at();
                return Some(Place { number, whole: start..end, value: end - value.len()..end });
            }
        }
        None
    }
    fn elements(&self, has_values: bool) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut at = Decoder::new(&self.bytes[self.count..]);
        (0..self.count).map(move |_| {
            let key = at.string().expect("a leaf holds whole elements");
            (key, if has_values { at.string().expect("with their values") } else { &[][..] })
        })
    }
    /// Adds an element that isn't there.
    fn push(&mut self, tag: u8, key: &[u8], value: Option<&[u8]>) {
        self.reserve(1 + string_bytes(key) + value.map_or(0, string_bytes));
        self.bytes.insert(self.count, tag);
        self.count += 1;
        put_string(&mut self.bytes, key);
        value.into_iter().for_each(|value| put_string(&mut self.bytes, value));
    }
    fn set_value(&mut self, place: Place, value: &[u8]) {
        if place.value.len() == value.len() {
            self.bytes[place.value].copy_from_slice(value);
            return;
        }
        let old_head = length_bytes(place.value.len());
        let mut new = Vec::with_capacity(string_bytes(value));
        put_string(&mut new, value);
        self.reserve(new.len());
        self.bytes.splice(place.value.start - old_head..place.value.end, new);
        self.trim();
    }
    fn remove(&mut self, place: Place) {
        self.bytes.drain(place.whole);
        self.bytes.remove(place.number);
        self.count -= 1;
        self.trim();
    }
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let room = (needed / ROOM_SHARE).next_multiple_of(32);
            self.bytes.reserve_exact(more + room);
        }
    }
    fn trim(&mut self) {
        if self.bytes.capacity() > 64 && self.bytes.len() < self.bytes.capacity() / 2 {
            self.bytes.shrink_to(self.bytes.len() + self.bytes.len() / ROOM_SHARE);
        }
    }
}

fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn length_bytes(len: usize) -> usize {
    (len.max(1).ilog2() / 7 + 1) as usize
}

fn string_bytes(bytes: &[u8]) -> usize {
    length_bytes(bytes.len()) + bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn it_does_what_an_ordered_map_does() {
        for (seed, has_values) in [(1, true), (2, false), (3, true)] {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut map = if has_values { LeafMap::new(seed) } else { LeafMap::keys_only(seed) };
            let mut twin: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for step in 0..40_000 {
                let grows = if step % 20_000 < 12_000 { 70 } else { 20 };
                let key = random.u32(..4000).to_string().repeat(random.usize(1..3)).into_bytes();
                let value = if has_values { vec![b'v'; random.usize(..150)] } else { Vec::new() };
                if random.u32(..100) < grows {
                    assert_eq!(map.insert(&key, &value), twin.insert(key, value).is_none());
                } else {
                    assert_eq!(map.remove(&key), twin.remove(&key).is_some());
                }
                let key = random.u32(..4000).to_string().into_bytes();
                assert_eq!(map.get(&key), twin.get(&key).map(Vec::as_slice));
                if step % 1000 == 0 {
                    map.check_invariants();
                    let content: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                    assert_eq!(content, twin);
                }
            }
            twin.keys().for_each(|key| assert!(map.remove(key)));
            map.check_invariants();
            assert_eq!((map.len(), map.leaves.len()), (0, 1));
        }
    }

    #[test]
    fn a_clone_keeps_its_content_while_the_other_changes() {
        let mut map = LeafMap::new(1);
        (0..5000).for_each(|n: u32| {
            map.insert(&n.to_le_bytes(), b"old");
        });
        let clone = map.clone();
        (0..5000).for_each(|n: u32| match n % 2 {
            0 => {
                map.remove(&n.to_le_bytes());
            }
            _ => {
                map.insert(&n.to_le_bytes(), b"newer");
            }
        });
        clone.check_invariants();
        assert!((0..5000u32).all(|n| clone.get(&n.to_le_bytes()) == Some(b"old")));
    }

    #[test]
    fn a_scan_visits_all_that_stay_while_the_map_grows_and_shrinks() {
        for grows in [true, false] {
            let mut map = LeafMap::keys_only(7);
            let first = if grows { 300 } else { 20_000 };
            (0..first).for_each(|n: u32| {
                map.insert(&n.to_le_bytes(), b"");
            });
            let (mut cursor, mut seen, mut next) = (0, BTreeSet::new(), first);
            loop {
                cursor = map.scan(cursor, 10, &mut |key, _| {
                    seen.insert(key.to_vec());
                });
                if cursor == 0 {
                    break;
                }
                assert!(cursor < 1 << 48);
                for _ in 0..if seen.len() < 2000 { 500 } else { 0 } {
                    if grows {
                        map.insert(&next.to_le_bytes(), b"");
                        next += 1;
                    } else if next > 300 {
                        next -= 1;
                        map.remove(&next.to_le_bytes());
                    }
                }
            }
            assert!((0..300u32).all(|n| seen.contains(&n.to_le_bytes()[..])), "grows: {grows}");
        }
    }

    #[test]
    fn elements_are_drawn_about_equally_often() {
        let mut map = LeafMap::keys_only(7);
        (0..1000u32).for_each(|n| {
            map.insert(&n.to_le_bytes(), b"");
        });
        let (mut random, mut counts) = (Random::new(3), BTreeMap::new());
        (0..100_000).for_each(|_| *counts.entry(map.random(&mut random).expect("there").0).or_insert(0) += 1);
        assert_eq!(counts.len(), 1000);
        assert!(counts.values().all(|count| (50..170).contains(count)));
    }

    #[test]
    fn memory_per_element_stays_low_at_any_size() {
        let mut map = LeafMap::keys_only(1);
        for n in 0..60_000 {
            map.insert(format!("member:{n:09}").as_bytes(), b"");
            if n > 5_000 && n % 5_000 == 0 {
                assert!(map.bytes_used() / map.len() <= 27, "{} bytes at {n}", map.bytes_used() / map.len());
            }
        }
    }

    #[test]
    fn freeing_it_piece_by_piece_gives_all_back() {
        let mut map = LeafMap::new(1);
        (0..5000u32).for_each(|n| {
            map.insert(&n.to_le_bytes(), b"v");
        });
        while map.free(10) {}
        assert_eq!(map.leaf_bytes, 0);
    }
}
