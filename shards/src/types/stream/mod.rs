//! Streams: entries with ids in ascending order, appended at the end, and groups of consumers who read them. Nodes one behind the
//! other, each with about a hundred entries; there is no small form.
//!
//! A stream may be empty: its last id and its groups outlive its entries.

mod change;
mod group;
mod id;
mod idempotence;
mod node;
mod radix;
#[cfg(test)]
mod tests;
mod trim;

pub use change::{Ids, StreamChange};
pub use group::{Consumer, Group, Groups, Pending};
pub use id::StreamId;
pub use idempotence::Idempotence;
pub use node::{Entry, Fields};
pub use trim::{Keep, Precision, Trimming};

use super::{Collection, Thresholds, View, digest_bytes, mix};
use crate::wire::{Decoder, EditError};
use node::{Limit, Node};
use std::collections::{VecDeque, vec_deque};
use std::rc::Rc;

/// What is of one, behind a pointer: the enum of all large collections is as long as its longest.
#[derive(Clone, Default)]
pub struct Stream {
    body: Box<Body>,
}

/// Nodes are in order of ids, and none is empty.
#[derive(Clone, Default)]
struct Body {
    nodes: VecDeque<Rc<Node>>,
    len: u64,
    last: StreamId,
    /// Entries ever added.
    added: u64,
    /// The highest id that was ever deleted by name; trimming doesn't count.
    max_deleted: StreamId,
    /// Capacities of all nodes.
    node_bytes: usize,
    groups: Groups,
    idempotence: Idempotence,
}

/// A stream as readers see it.
#[derive(Clone, Copy, Default)]
pub struct StreamRef<'a>(Option<&'a Body>);

impl<'a> StreamRef<'a> {
    fn body(self) -> Option<&'a Body> {
        self.0
    }
    /// The highest id ever given, or what XSETID made of it.
    pub fn last_id(self) -> StreamId {
        self.0.map_or(StreamId::MIN, |body| body.last)
    }
    pub fn entries_added(self) -> u64 {
        self.0.map_or(0, |body| body.added)
    }
    pub fn max_deleted(self) -> StreamId {
        self.0.map_or(StreamId::MIN, |body| body.max_deleted)
    }
    pub fn nodes(self) -> usize {
        self.0.map_or(0, |body| body.nodes.len())
    }
    pub fn first(self) -> Option<Entry<'a>> {
        self.0?.nodes.front()?.entries().next()
    }
    pub fn last(self) -> Option<Entry<'a>> {
        self.0?.nodes.back()?.entries().last()
    }
    /// The id of the first entry, or 0-0.
    pub fn first_id(self) -> StreamId {
        self.first().map_or(StreamId::MIN, |entry| entry.id)
    }
    pub fn get(self, id: StreamId) -> Option<Entry<'a>> {
        self.range(id, id).next()
    }
    pub fn contains(self, id: StreamId) -> bool {
        self.get(id).is_some()
    }
    /// Entries from `from` to `to`, both included.
    pub fn range(self, from: StreamId, to: StreamId) -> Range<'a> {
        let nodes = self.0.map(|body| body.nodes.range(body.node_of(from).unwrap_or(0)..));
        Range { nodes, node: None, from, to }
    }
    /// The same from the last to the first.
    pub fn range_back(self, from: StreamId, to: StreamId) -> RangeBack<'a> {
        let nodes = self.0.map(|body| body.nodes.range(..body.node_of(to).map_or(0, |at| at + 1)));
        RangeBack { nodes, node: Vec::new(), from, to }
    }
    pub fn group(self, name: &[u8]) -> Option<&'a Group> {
        self.0?.groups.get(name)
    }
    /// None if the stream is new and empty.
    pub fn groups(self) -> Option<&'a Groups> {
        self.0.map(|body| &body.groups)
    }
    /// How long producers' ids are remembered, in seconds, and how many of each.
    pub fn producer_settings(self) -> (u64, u64) {
        let of = |idempotence: &Idempotence| (idempotence.duration_s(), idempotence.ids_max());
        self.idempotence().map_or_else(|| of(&Idempotence::default()), of)
    }
    pub fn idempotence(self) -> Option<&'a Idempotence> {
        self.0.map(|body| &body.idempotence)
    }
}

/// Entries in ascending order of ids.
#[derive(Clone)]
pub struct Range<'a> {
    nodes: Option<vec_deque::Iter<'a, Rc<Node>>>,
    node: Option<node::Entries<'a>>,
    from: StreamId,
    to: StreamId,
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            match self.node.as_mut().and_then(Iterator::next) {
                Some(entry) if entry.id > self.to => {
                    (self.node, self.nodes) = (None, None);
                    return None;
                }
                Some(entry) if entry.id < self.from => {}
                Some(entry) => return Some(entry),
                None => self.node = Some(self.nodes.as_mut()?.next()?.entries()),
            }
        }
    }
}

/// Entries in descending order of ids.
#[derive(Clone)]
pub struct RangeBack<'a> {
    nodes: Option<vec_deque::Iter<'a, Rc<Node>>>,
    node: Vec<Entry<'a>>,
    from: StreamId,
    to: StreamId,
}

impl<'a> Iterator for RangeBack<'a> {
    type Item = Entry<'a>;
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            match self.node.pop() {
                Some(entry) if entry.id < self.from => {
                    (self.node, self.nodes) = (Vec::new(), None);
                    return None;
                }
                Some(entry) if entry.id > self.to => {}
                Some(entry) => return Some(entry),
                None => self.node.extend(self.nodes.as_mut()?.next_back()?.entries()),
            }
        }
    }
}

impl<'a> View<'a> for StreamRef<'a> {
    fn len(self) -> usize {
        self.0.map_or(0, |body| body.len as usize)
    }
    fn digest(self) -> u64 {
        let with_id = |digest, id: StreamId| mix(mix(digest, id.ms), id.seq);
        let mut digest = 0;
        for entry in self.range(StreamId::MIN, StreamId::MAX) {
            digest = mix(with_id(digest, entry.id), entry.fields.len() as u64);
            digest = entry.fields.fold(digest, |digest, (name, value)| digest_bytes(digest_bytes(digest, name), value));
        }
        digest = with_id(with_id(digest, self.last_id()), self.max_deleted());
        digest = mix(digest, self.entries_added());
        digest = mix(digest, self.groups().map_or_else(|| Groups::default().digest(), Groups::digest));
        mix(digest, self.idempotence().map_or_else(|| Idempotence::default().digest(), Idempotence::digest))
    }
    fn encoding(self) -> &'static str {
        "stream"
    }
    /// First the nodes by number, then figures and producers' ids at once, then the groups.
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let start = out.len();
        let nodes = self.nodes() as u64;
        for index in from..nodes {
            let entries = self.0.into_iter().flat_map(|body| body.nodes[index as usize].entries());
            entries.for_each(|entry| StreamChange::encode_append(entry.id, entry.fields, out));
            if out.len() - start >= bytes_max {
                return Some(index + 1);
            }
        }
        if from <= nodes {
            let (last, added, max_deleted) = (self.last_id(), self.entries_added(), self.max_deleted());
            StreamChange::SetId { last, added, max_deleted }.encode(out);
            self.idempotence().into_iter().for_each(|idempotence| idempotence.export(out));
        }
        let behind = nodes + 1;
        let groups = self.groups().filter(|groups| !groups.is_empty())?;
        if out.len() - start >= bytes_max {
            return Some(behind);
        }
        let left = bytes_max - (out.len() - start);
        groups.export(from.saturating_sub(behind), left, out).map(|next| behind + next)
    }
}

impl Body {
    /// The last node whose base isn't above an id.
    fn node_of(&self, id: StreamId) -> Option<usize> {
        self.nodes.partition_point(|node| node.base() <= id).checked_sub(1)
    }
    fn apply(&mut self, change: &StreamChange<'_>, limit: Limit) {
        match *change {
            StreamChange::Append { id, pairs, fields } => self.append(id, pairs, fields, limit),
            StreamChange::Delete { id } => {
                if self.delete(id) {
                    self.max_deleted = self.max_deleted.max(id);
                }
            }
            StreamChange::TrimTo { last } => self.trim_to(last),
            StreamChange::Trim { id } => drop(self.delete(id)),
            StreamChange::SetId { last, added, max_deleted } => {
                // No entry is behind the last id: the next one would not be behind it.
                let highest = self.nodes.back().and_then(|node| node.entries().last());
                self.last = highest.map_or(last, |entry| entry.id.max(last));
                (self.added, self.max_deleted) = (added, max_deleted);
            }
            StreamChange::GroupCreate { .. }
            | StreamChange::GroupDestroy { .. }
            | StreamChange::GroupSetId { .. }
            | StreamChange::ConsumerSeen { .. }
            | StreamChange::ConsumerDelete { .. }
            | StreamChange::Pend { .. }
            | StreamChange::Ack { .. }
            | StreamChange::Release { .. } => self.groups.apply(change),
            StreamChange::Produced { producer, iid, id, at_ms } => self.idempotence.note(producer, iid, id, at_ms),
            StreamChange::Remembered { producer, iid, id, at_ms } => {
                self.idempotence.remember(producer, iid, id, at_ms)
            }
            StreamChange::ProducedCounts { added, duplicates } => self.idempotence.set_counts(added, duplicates),
            StreamChange::Settings { duration_s, ids_max } => self.idempotence.set(duration_s, ids_max),
        }
    }
    fn append(&mut self, id: StreamId, pairs: u64, fields: &[u8], limit: Limit) {
        if id <= self.last {
            return;
        }
        let bytes = node::fields_bytes(pairs, fields);
        match self.nodes.back_mut() {
            Some(node) if node.takes(bytes, limit) => {
                self.node_bytes -= node.capacity();
                let node = Rc::make_mut(node);
                node.push(id, pairs, fields);
                self.node_bytes += node.capacity();
            }
            full => {
                if let Some(node) = full {
                    self.node_bytes -= node.capacity();
                    let node = Rc::make_mut(node);
                    node.finish();
                    self.node_bytes += node.capacity();
                }
                let node = Node::new(id, pairs, fields);
                self.node_bytes += node.capacity();
                self.nodes.push_back(Rc::new(node));
            }
        }
        self.len += 1;
        self.added = self.added.saturating_add(1);
        self.last = id;
    }
    /// Whether there was such an entry.
    fn delete(&mut self, id: StreamId) -> bool {
        let Some(at) = self.node_of(id) else { return false };
        let shared = &mut self.nodes[at];
        if !shared.entries().any(|entry| entry.id == id) {
            return false;
        }
        self.len -= 1;
        self.node_bytes -= shared.capacity();
        if shared.len() == 1 {
            self.nodes.remove(at);
        } else {
            let node = Rc::make_mut(shared);
            node.delete(id);
            self.node_bytes += node.capacity();
        }
        true
    }
    fn trim_to(&mut self, last: StreamId) {
        while let Some(first) = self.nodes.front_mut() {
            if first.base() > last {
                return;
            }
            self.node_bytes -= first.capacity();
            // The whole of a node needs no look at it, but for one that lost its last entries.
            let trimmed = if first.last() <= last { first.len() } else { Rc::make_mut(first).trim_to(last) };
            self.len -= trimmed as u64;
            if first.last() <= last || first.len() == 0 {
                self.nodes.pop_front();
            } else {
                self.node_bytes += first.capacity();
                return;
            }
        }
    }
}

/// Changes that were verified, one after the other.
fn verified(changes: &[u8]) -> impl Iterator<Item = StreamChange<'_>> {
    let mut at = Decoder::new(changes);
    std::iter::from_fn(move || (!at.is_at_end()).then(|| StreamChange::decode(&mut at).expect("changes are verified")))
}

impl Collection for Stream {
    type View<'a> = StreamRef<'a>;

    fn verify(changes: &[u8]) -> Result<(), EditError> {
        let mut at = Decoder::new(changes);
        while !at.is_at_end() {
            StreamChange::decode(&mut at)?;
        }
        Ok(())
    }
    fn change_small(_pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Self> {
        let mut stream = Stream::default();
        stream.change(changes, thresholds);
        Some(stream)
    }
    fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        let limit = Limit::of(thresholds);
        verified(changes).for_each(|change| self.body.apply(&change, limit));
    }
    fn view_small(_pack: &[u8]) -> StreamRef<'_> {
        StreamRef(None)
    }
    fn view(&self) -> StreamRef<'_> {
        StreamRef(Some(&self.body))
    }
    fn bytes_used(&self) -> usize {
        /// A node, its counts, and itself.
        const NODE_BYTES: usize = 2 * size_of::<usize>() + size_of::<Node>();
        let Body { nodes, node_bytes, groups, idempotence, .. } = &*self.body;
        let queue_bytes = nodes.capacity() * size_of::<usize>();
        let others_bytes = groups.bytes_used() + idempotence.bytes_used();
        size_of::<Body>() + queue_bytes + nodes.len() * NODE_BYTES + node_bytes + others_bytes
    }
    fn free(&mut self, nodes: usize) -> bool {
        for _ in 0..nodes {
            let Some(node) = self.body.nodes.pop_back() else { return self.body.groups.free(nodes) };
            self.body.node_bytes -= node.capacity();
        }
        !self.body.nodes.is_empty() || !self.body.groups.is_empty()
    }
    fn check_invariants(&self) {
        let Body { nodes, len, last, node_bytes, groups, idempotence, .. } = &*self.body;
        nodes.iter().for_each(|node| node.check_invariants());
        assert_eq!(nodes.iter().map(|node| node.len() as u64).sum::<u64>(), *len, "entries are counted");
        assert_eq!(nodes.iter().map(|node| node.capacity()).sum::<usize>(), *node_bytes, "bytes are counted");
        let highest_of = |node: &Node| node.entries().last().map_or(StreamId::MIN, |entry| entry.id);
        let in_order = nodes.iter().zip(nodes.iter().skip(1)).all(|(node, next)| highest_of(node) < next.base());
        assert!(in_order, "nodes are in order");
        let highest = nodes.back().map_or(StreamId::MIN, |node| highest_of(node));
        assert!(highest <= *last, "no entry is behind the last id");
        groups.check_invariants();
        idempotence.check_invariants();
    }
}
