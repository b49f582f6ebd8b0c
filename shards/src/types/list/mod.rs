//! Lists: byte strings in an order that clients make. Small: one node's elements; large: nodes one behind the other, pushed and
//! popped at both ends in constant time. To clients both are a `quicklist`, as in Redis 7.0.

mod node;
#[cfg(test)]
mod tests;

use super::{Collection, Need, Thresholds, View, digest_bytes};
use crate::wire::{Decoder, EditError, number, string};
use node::{Limit, Node, element_bytes, forward};
use std::collections::VecDeque;
use std::rc::Rc;

/// A longer list is large: a pack is copied whenever it changes.
const PACK_BYTES_MAX: usize = 1 << 10;

const PUSH_LEFT: u8 = 1;
const PUSH_RIGHT: u8 = 2;
const POP_LEFT: u8 = 3;
const POP_RIGHT: u8 = 4;
const SET: u8 = 5;
const INSERT: u8 = 6;
const REMOVE: u8 = 7;

/// What happens to a list. Indexes count from the left, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListChange<'a> {
    PushLeft {
        value: &'a [u8],
    },
    PushRight {
        value: &'a [u8],
    },
    PopLeft {
        count: u64,
    },
    PopRight {
        count: u64,
    },
    Set {
        index: u64,
        value: &'a [u8],
    },
    /// Before the element that is at `index` now.
    Insert {
        index: u64,
        value: &'a [u8],
    },
    Remove {
        index: u64,
        count: u64,
    },
}

impl<'a> ListChange<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, numbers, value): (u8, [Option<u64>; 2], Option<&[u8]>) = match *self {
            ListChange::PushLeft { value } => (PUSH_LEFT, [None, None], Some(value)),
            ListChange::PushRight { value } => (PUSH_RIGHT, [None, None], Some(value)),
            ListChange::PopLeft { count } => (POP_LEFT, [Some(count), None], None),
            ListChange::PopRight { count } => (POP_RIGHT, [Some(count), None], None),
            ListChange::Set { index, value } => (SET, [Some(index), None], Some(value)),
            ListChange::Insert { index, value } => (INSERT, [Some(index), None], Some(value)),
            ListChange::Remove { index, count } => (REMOVE, [Some(index), Some(count)], None),
        };
        out.push(kind);
        numbers.into_iter().flatten().for_each(|value| number(out, value));
        value.into_iter().for_each(|value| string(out, value));
    }
    pub fn decode(at: &mut Decoder<'a>) -> Result<ListChange<'a>, EditError> {
        Ok(match at.byte()? {
            PUSH_LEFT => ListChange::PushLeft { value: at.string()? },
            PUSH_RIGHT => ListChange::PushRight { value: at.string()? },
            POP_LEFT => ListChange::PopLeft { count: at.number()? },
            POP_RIGHT => ListChange::PopRight { count: at.number()? },
            SET => ListChange::Set { index: at.number()?, value: at.string()? },
            INSERT => ListChange::Insert { index: at.number()?, value: at.string()? },
            REMOVE => ListChange::Remove { index: at.number()?, count: at.number()? },
            other => return Err(EditError::UnknownKind(other)),
        })
    }
}

/// Changes that were verified, one after the other.
fn verified(changes: &[u8]) -> impl Iterator<Item = ListChange<'_>> {
    let mut at = Decoder::new(changes);
    std::iter::from_fn(move || (!at.is_at_end()).then(|| ListChange::decode(&mut at).expect("changes are verified")))
}

/// A large list: no node is empty.
#[derive(Clone, Default)]
pub struct List {
    nodes: VecDeque<Rc<Node>>,
    len: usize,
    /// Capacities of all nodes.
    node_bytes: usize,
}

/// A list of either form.
#[derive(Clone, Copy)]
pub enum ListRef<'a> {
    Small(&'a [u8]),
    Large(&'a List),
}

impl<'a> ListRef<'a> {
    /// All elements, from either end.
    pub fn iter(self) -> Box<dyn DoubleEndedIterator<Item = &'a [u8]> + 'a> {
        match self {
            ListRef::Small(pack) => Box::new(forward(pack)),
            ListRef::Large(list) => Box::new(list.nodes.iter().flat_map(|node| forward(node.elements()))),
        }
    }
    /// Elements from `index` on.
    pub fn iter_from(self, index: usize) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        match self {
            ListRef::Small(pack) => Box::new(forward(pack).skip(index)),
            ListRef::Large(list) => {
                let Some((at, number)) = list.find(index) else { return Box::new(std::iter::empty()) };
                Box::new(list.nodes.range(at..).flat_map(|node| forward(node.elements())).skip(number))
            }
        }
    }
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        match self {
            ListRef::Small(pack) => forward(pack).nth(index),
            ListRef::Large(list) => {
                let (at, number) = list.find(index)?;
                let node = &list.nodes[at];
                let from_end = node.count() - 1 - number;
                let mut elements = forward(node.elements());
                if number <= from_end { elements.nth(number) } else { elements.nth_back(from_end) }
            }
        }
    }
}

impl<'a> View<'a> for ListRef<'a> {
    fn len(self) -> usize {
        match self {
            ListRef::Small(pack) => forward(pack).count(),
            ListRef::Large(list) => list.len,
        }
    }
    fn digest(self) -> u64 {
        self.iter().fold(0, digest_bytes)
    }
    fn encoding(self) -> &'static str {
        "quicklist"
    }
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let push = |elements: &[u8], out: &mut Vec<u8>| {
            forward(elements).for_each(|value| ListChange::PushRight { value }.encode(out));
        };
        match self {
            ListRef::Small(pack) => push(pack, out),
            ListRef::Large(list) => {
                let start = out.len();
                for (index, node) in list.nodes.iter().enumerate().skip(from as usize) {
                    push(node.elements(), out);
                    if out.len() - start >= bytes_max && index + 1 < list.nodes.len() {
                        return Some(index as u64 + 1);
                    }
                }
            }
        }
        None
    }
    fn excerpt(self, need: Need<'_>, out: &mut Vec<u8>) {
        let few = match need {
            Need::Ends(count) => usize::try_from(count).ok().and_then(|count| count.checked_mul(2)),
            Need::All | Need::Element(_) => None,
        };
        let Some(few) = few.filter(|few| *few < self.len()) else {
            self.export(0, usize::MAX, out);
            return;
        };
        let ends = self.iter().take(few / 2 + 1).chain(self.iter_from(self.len() - few / 2));
        ends.for_each(|value| ListChange::PushRight { value }.encode(out));
    }
}

impl List {
    fn of(node: Node) -> Self {
        let (len, node_bytes) = (node.count(), node.capacity());
        let nodes = if len > 0 { VecDeque::from([Rc::new(node)]) } else { VecDeque::new() };
        List { node_bytes: if nodes.is_empty() { 0 } else { node_bytes }, nodes, len }
    }
    /// The node of an index, and its number there.
    fn find(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index <= self.len / 2 {
            let mut before = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                if index < before + node.count() {
                    return Some((at, index - before));
                }
                before += node.count();
            }
        } else {
            let mut end = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                end -= node.count();
                if index >= end {
                    return Some((at, index - end));
                }
            }
        }
        unreachable!("nodes have as many elements as the list")
    }
    fn change_node(&mut self, at: usize, change: impl FnOnce(&mut Node)) {
        let shared = &mut self.nodes[at];
        self.node_bytes -= shared.capacity();
        let node = Rc::make_mut(shared);
        change(node);
        self.node_bytes += node.capacity();
    }
    fn add_node(&mut self, at: usize, node: Node) {
        self.node_bytes += node.capacity();
        self.nodes.insert(at, Rc::new(node));
    }
    fn drop_node(&mut self, at: usize) {
        let node = self.nodes.remove(at).expect("callers name nodes that are there");
        self.node_bytes -= node.capacity();
    }
    fn push_front(&mut self, value: &[u8], limit: Limit) {
        self.len += 1;
        if self.nodes.front().is_some_and(|node| node.has_room_for(value, limit)) {
            return self.change_node(0, |node| node.push_front(value));
        }
        // What was at the end no longer grows there.
        if self.nodes.len() > 1 {
            self.change_node(0, Node::trim);
        }
        let mut node = Node::default();
        node.push_front(value);
        self.add_node(0, node);
    }
    fn push_back(&mut self, value: &[u8], limit: Limit) {
        self.len += 1;
        if self.nodes.back().is_some_and(|node| node.has_room_for(value, limit)) {
            return self.change_node(self.nodes.len() - 1, |node| node.push_back(value));
        }
        if self.nodes.len() > 1 {
            self.change_node(self.nodes.len() - 1, Node::trim);
        }
        let mut node = Node::default();
        node.push_back(value);
        self.add_node(self.nodes.len(), node);
    }
    fn pop_front(&mut self, count: u64) {
        let mut left = usize::try_from(count).map_or(self.len, |count| count.min(self.len));
        self.len -= left;
        while left > 0 {
            let there = self.nodes[0].count();
            if there <= left {
                self.drop_node(0);
            } else {
                self.change_node(0, |node| node.pop_front(left));
            }
            left -= there.min(left);
        }
    }
    fn pop_back(&mut self, count: u64) {
        let mut left = usize::try_from(count).map_or(self.len, |count| count.min(self.len));
        self.len -= left;
        while left > 0 {
            let last = self.nodes.len() - 1;
            let there = self.nodes[last].count();
            if there <= left {
                self.drop_node(last);
            } else {
                self.change_node(last, |node| node.pop_back(left));
            }
            left -= there.min(left);
        }
    }
    fn set(&mut self, index: u64, value: &[u8], limit: Limit) {
        let Some((at, number)) = usize::try_from(index).ok().and_then(|index| self.find(index)) else { return };
        self.change_node(at, |node| node.set(number, value));
        self.divide(at, limit);
    }
    fn insert(&mut self, index: u64, value: &[u8], limit: Limit) {
        if index == self.len as u64 {
            return self.push_back(value, limit);
        }
        let Some((at, number)) = usize::try_from(index).ok().and_then(|index| self.find(index)) else { return };
        self.change_node(at, |node| node.insert(number, value));
        self.len += 1;
        self.divide(at, limit);
    }
    fn remove(&mut self, index: u64, count: u64, limit: Limit) {
        let Some((mut at, mut number)) = usize::try_from(index).ok().and_then(|index| self.find(index)) else { return };
        let behind = self.len - index as usize;
        let mut left = usize::try_from(count).map_or(behind, |count| count.min(behind));
        self.len -= left;
        while left > 0 {
            let here = (self.nodes[at].count() - number).min(left);
            if here == self.nodes[at].count() {
                self.drop_node(at);
            } else {
                self.change_node(at, |node| node.remove(number, here));
                at += 1;
            }
            number = 0;
            left -= here;
        }
        self.unite(at, limit);
    }
    /// Makes two of a node that is over its limits, until none is.
    fn divide(&mut self, at: usize, limit: Limit) {
        let mut end = at + 1;
        let mut at = at;
        while at < end {
            if self.nodes[at].is_within(limit) {
                at += 1;
                continue;
            }
            let mut rest = Node::default();
            self.change_node(at, |node| {
                rest = node.split_off(node.half());
                node.trim();
            });
            self.add_node(at + 1, rest);
            end += 1;
        }
    }
    /// Makes one of the nodes before and at `at` if both together are small.
    fn unite(&mut self, at: usize, limit: Limit) {
        let (Some(left), Some(right)) = (at.checked_sub(1).and_then(|left| self.nodes.get(left)), self.nodes.get(at))
        else {
            return;
        };
        if left.len() + right.len() <= limit.bytes / 2 && left.count() + right.count() <= limit.count / 2 {
            let right = right.clone();
            self.change_node(at - 1, |node| forward(right.elements()).for_each(|value| node.push_back(value)));
            self.drop_node(at);
        }
    }
    fn apply(&mut self, change: ListChange<'_>, limit: Limit) {
        match change {
            ListChange::PushLeft { value } => self.push_front(value, limit),
            ListChange::PushRight { value } => self.push_back(value, limit),
            ListChange::PopLeft { count } => self.pop_front(count),
            ListChange::PopRight { count } => self.pop_back(count),
            ListChange::Set { index, value } => self.set(index, value, limit),
            ListChange::Insert { index, value } => self.insert(index, value, limit),
            ListChange::Remove { index, count } => self.remove(index, count, limit),
        }
    }
}

/// Makes a change to a node that is all of a list.
fn apply_small(node: &mut Node, change: ListChange<'_>) {
    let at_most = |count: u64| usize::try_from(count).map_or(node.count(), |count| count.min(node.count()));
    let has = |index: u64| index < node.count() as u64;
    match change {
        ListChange::PushLeft { value } => node.insert(0, value),
        ListChange::PushRight { value } => node.push_back(value),
        ListChange::PopLeft { count } => node.pop_front(at_most(count)),
        ListChange::PopRight { count } => node.pop_back(at_most(count)),
        ListChange::Set { index, value } if has(index) => node.set(index as usize, value),
        ListChange::Insert { index, value } if has(index) || index == node.count() as u64 => {
            node.insert(index as usize, value)
        }
        ListChange::Remove { index, count } if has(index) => {
            let count = at_most(count).min(node.count() - index as usize);
            node.remove(index as usize, count)
        }
        ListChange::Set { .. } | ListChange::Insert { .. } | ListChange::Remove { .. } => {}
    }
}

impl Collection for List {
    type View<'a> = ListRef<'a>;

    fn verify(changes: &[u8]) -> Result<(), EditError> {
        let mut at = Decoder::new(changes);
        while !at.is_at_end() {
            ListChange::decode(&mut at)?;
        }
        Ok(())
    }
    fn change_small(pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Self> {
        let limit = Limit::of(thresholds.list_node);
        let pack_limit = Limit { bytes: limit.bytes.min(PACK_BYTES_MAX), count: limit.count };
        let mut node = Node::from_bytes(std::mem::take(pack));
        let mut large = thresholds.is_large.then(List::default);
        for change in verified(changes) {
            if let Some(large) = &mut large {
                large.apply(change, limit);
                continue;
            }
            let fits = match change {
                ListChange::PushLeft { value }
                | ListChange::PushRight { value }
                | ListChange::Set { value, .. }
                | ListChange::Insert { value, .. } => {
                    node.count() < pack_limit.count && node.len() + element_bytes(value) <= pack_limit.bytes
                }
                ListChange::PopLeft { .. } | ListChange::PopRight { .. } | ListChange::Remove { .. } => true,
            };
            if fits {
                apply_small(&mut node, change);
            } else {
                let mut list = List::of(std::mem::take(&mut node));
                list.apply(change, limit);
                large = Some(list);
            }
        }
        *pack = node.into_bytes();
        large
    }
    fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        let limit = Limit::of(thresholds.list_node);
        verified(changes).for_each(|change| self.apply(change, limit));
    }
    fn view_small(pack: &[u8]) -> ListRef<'_> {
        ListRef::Small(pack)
    }
    fn view(&self) -> ListRef<'_> {
        ListRef::Large(self)
    }
    fn bytes_used(&self) -> usize {
        /// A node in the queue, its counts, and itself.
        const NODE_BYTES: usize = 3 * size_of::<usize>() + size_of::<Node>();
        self.node_bytes + self.nodes.len() * NODE_BYTES
    }
    fn free(&mut self, nodes: usize) -> bool {
        for _ in 0..nodes.min(self.nodes.len()) {
            self.drop_node(self.nodes.len() - 1);
        }
        !self.nodes.is_empty()
    }
    fn check_invariants(&self) {
        assert!(self.nodes.iter().all(|node| node.count() > 0), "no node is empty");
        self.nodes.iter().for_each(|node| node.check_invariants());
        assert_eq!(self.nodes.iter().map(|node| node.count()).sum::<usize>(), self.len, "elements are counted");
        assert_eq!(self.nodes.iter().map(|node| node.capacity()).sum::<usize>(), self.node_bytes, "bytes are counted");
    }
}
