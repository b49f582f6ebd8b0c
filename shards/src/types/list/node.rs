//! One contiguous run of a list's elements. Each has its length before and behind it, so it can be walked from both ends; there may
//! be room before the first, so that pushing on the left moves nothing.
//!
//! ```text
//! | room | length | element | length of both, backwards | ...
//! ```

use crate::wire::{Decoder, length_bytes, number};

/// The least room made when a node grows to the left.
const ROOM_MIN: usize = 32;

#[derive(Clone, Default)]
pub(super) struct Node {
    bytes: Vec<u8>,
    /// Where the first element begins.
    start: usize,
    count: usize,
}

/// Limits of a node.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) bytes: usize,
    pub(super) count: usize,
}

impl Limit {
    /// `list-max-listpack-size`, as Redis reads it.
    pub(super) fn of(setting: i64) -> Limit {
        const BYTES_OF_COUNTED: usize = 8 << 10;
        match setting {
            ..0 => Limit { bytes: (4 << 10) << (-setting.max(-5) - 1), count: usize::MAX },
            _ => Limit { bytes: BYTES_OF_COUNTED, count: setting.max(1) as usize },
        }
    }
}

impl Node {
    /// From bytes that `into_bytes` gave.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        let count = forward(&bytes).count();
        Node { bytes, start: 0, count }
    }
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }
    pub(super) fn elements(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
    pub(super) fn count(&self) -> usize {
        self.count
    }
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
    pub(super) fn has_room_for(&self, element: &[u8], limit: Limit) -> bool {
        self.count == 0 || self.count < limit.count && self.len() + element_bytes(element) <= limit.bytes
    }
    pub(super) fn is_within(&self, limit: Limit) -> bool {
        self.count <= 1 || self.count <= limit.count && self.len() <= limit.bytes
    }
    pub(super) fn push_back(&mut self, element: &[u8]) {
        self.reuse_room(element_bytes(element));
        write(&mut self.bytes, element);
        self.count += 1;
    }
    pub(super) fn push_front(&mut self, element: &[u8]) {
        let needed = element_bytes(element);
        if needed > self.start {
            let room = needed.max(self.len()).max(ROOM_MIN);
            let mut moved = Vec::with_capacity(room + self.len());
            moved.resize(room, 0);
            moved.extend_from_slice(self.elements());
            (self.bytes, self.start) = (moved, room);
        }
        let mut new = Vec::with_capacity(needed);
        write(&mut new, element);
        self.start -= needed;
        self.bytes[self.start..][..needed].copy_from_slice(&new);
        self.count += 1;
    }
    /// Adds the elements of another behind its own.
    pub(super) fn append(&mut self, other: &Node) {
        self.reuse_room(other.len());
        self.bytes.extend_from_slice(other.elements());
        self.count += other.count;
    }
    /// One without the first, or the last, `count` elements that are this value, and how many those are; unless there are none.
    pub(super) fn without(&self, value: &[u8], count: usize, from_right: bool) -> Option<(Node, usize)> {
        let there = forward(self.elements()).filter(|element| *element == value).count();
        let removed = there.min(count);
        if removed == 0 {
            return None;
        }
        let kept_first = if from_right { there - removed } else { 0 };
        let bytes = self.len() - removed * element_bytes(value);
        let mut rest = Node { bytes: Vec::with_capacity(bytes), start: 0, count: self.count - removed };
        let mut at = Walk { bytes: self.elements() };
        let mut number = 0;
        let mut from = self.start;
        while let Some(element) = at.next() {
            let end = self.bytes.len() - at.bytes.len();
            let is_equal = element == value;
            let is_removed = is_equal && (kept_first..kept_first + removed).contains(&number);
            number += is_equal as usize;
            if !is_removed {
                rest.bytes.extend_from_slice(&self.bytes[from..end]);
            }
            from = end;
        }
        Some((rest, removed))
    }
    /// Drops the first elements; there are so many.
    pub(super) fn pop_front(&mut self, count: usize) {
        self.start = self.place(count);
        self.count -= count;
    }
    /// Drops the last elements; there are so many.
    pub(super) fn pop_back(&mut self, count: usize) {
        let end = self.place(self.count - count);
        self.bytes.truncate(end);
        self.count -= count;
    }
    /// Puts an element before that of this number, or behind the last.
    pub(super) fn insert(&mut self, number: usize, element: &[u8]) {
        self.reuse_room(element_bytes(element));
        let mut new = Vec::with_capacity(element_bytes(element));
        write(&mut new, element);
        let at = self.place(number);
        self.bytes.splice(at..at, new);
        self.count += 1;
    }
    pub(super) fn remove(&mut self, number: usize, count: usize) {
        let range = self.place(number)..self.place(number + count);
        self.bytes.drain(range);
        self.count -= count;
    }
    pub(super) fn set(&mut self, number: usize, element: &[u8]) {
        self.remove(number, 1);
        self.insert(number, element);
    }
    /// Takes the elements from this number on out of it.
    pub(super) fn split_off(&mut self, number: usize) -> Node {
        let at = self.place(number);
        let rest = Node { bytes: self.bytes[at..].to_vec(), start: 0, count: self.count - number };
        self.bytes.truncate(at);
        self.count = number;
        rest
    }
    /// The number of elements that make up about half of its bytes; at least one, and not all.
    pub(super) fn half(&self) -> usize {
        let mut bytes = 0;
        let before = forward(self.elements()).take_while(|element| {
            bytes += element_bytes(element);
            bytes <= self.len() / 2
        });
        before.count().clamp(1, self.count - 1)
    }
    /// Moves the elements over what was popped before them, rather than grow: a queue that lives in one node and never empties
    /// would keep all that ever went through it. The room is more than what is moved, so this is paid for by the pops.
    fn reuse_room(&mut self, needed: usize) {
        if self.start > self.len() && self.bytes.capacity() - self.bytes.len() < needed {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
    /// Gives back the room at both ends.
    pub(super) fn trim(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.shrink_to_fit();
    }
    /// Where the element of this number begins; behind the last, where it ends.
    fn place(&self, number: usize) -> usize {
        if number <= self.count / 2 {
            let mut at = Walk { bytes: self.elements() };
            (0..number).for_each(|_| {
                at.next();
            });
            self.bytes.len() - at.bytes.len()
        } else {
            let mut at = Walk { bytes: self.elements() };
            (number..self.count).for_each(|_| {
                at.next_back();
            });
            self.start + at.bytes.len()
        }
    }
    pub(super) fn check_invariants(&self) {
        assert_eq!(forward(self.elements()).count(), self.count, "elements are counted");
        let mut there: Vec<&[u8]> = forward(self.elements()).collect();
        there.reverse();
        assert!(forward(self.elements()).rev().eq(there), "both ways lead past the same elements");
    }
}

/// The elements in bytes, from either end.
pub(super) fn forward(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    Walk { bytes }
}

#[derive(Clone)]
struct Walk<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Walk<'a> {
    type Item = &'a [u8];
    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let mut at = Decoder::new(self.bytes);
        let element = at.string().expect("a node holds whole elements");
        self.bytes = &self.bytes[at.at() + length_bytes(at.at())..];
        Some(element)
    }
}

impl<'a> DoubleEndedIterator for Walk<'a> {
    fn next_back(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let (mut size, mut taken) = (0, 0);
        for byte in self.bytes.iter().rev() {
            size |= ((byte & 0x7f) as usize) << (7 * taken);
            taken += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let start = self.bytes.len() - taken - size;
        let element = Decoder::new(&self.bytes[start..]).string().expect("a node holds whole elements");
        self.bytes = &self.bytes[..start];
        Some(element)
    }
}

/// What an element takes in a node.
pub(super) fn element_bytes(element: &[u8]) -> usize {
    let both = length_bytes(element.len()) + element.len();
    both + length_bytes(both)
}

fn write(out: &mut Vec<u8>, element: &[u8]) {
    let start = out.len();
    number(out, element.len() as u64);
    out.extend_from_slice(element);
    let end = out.len();
    number(out, (end - start) as u64);
    out[end..].reverse();
}
