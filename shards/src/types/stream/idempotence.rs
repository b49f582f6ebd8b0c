//! Producers' own ids of what they sent, so that what is sent again is not added again (XADD's IDMP and IDMPAUTO).
//!
//! What is too old, or too much, is dropped when a producer sends something new: in time for it, and with a look at one other
//! producer each time, so that those who never come back are forgotten too. All of it follows from the changes alone.

use super::{StreamChange, StreamId};
use crate::types::{digest_bytes, mix};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

const DURATION_DEFAULT_S: u64 = 100;
const IDS_MAX_DEFAULT: u64 = 100;
const MS: u64 = 1000;

#[derive(Clone)]
pub struct Idempotence {
    duration_s: u64,
    /// Ids of each producer.
    ids_max: u64,
    producers: BTreeMap<Box<[u8]>, Rc<Producer>>,
    bytes: usize,
    /// Entries ever added with a producer's id, and how often one wasn't, because it had been.
    added: u64,
    duplicates: u64,
}

/// By their ids, and in the order in which they came.
#[derive(Clone, Default)]
struct Producer {
    ids: BTreeMap<Rc<[u8]>, Sent>,
    order: VecDeque<Rc<[u8]>>,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Sent {
    id: StreamId,
    at_ms: u64,
}

impl Sent {
    fn is_young(self, old_ms: Option<u64>) -> bool {
        old_ms.is_none_or(|old_ms| self.at_ms > old_ms)
    }
}

impl Default for Idempotence {
    fn default() -> Self {
        Idempotence {
            duration_s: DURATION_DEFAULT_S,
            ids_max: IDS_MAX_DEFAULT,
            producers: BTreeMap::new(),
            bytes: 0,
            added: 0,
            duplicates: 0,
        }
    }
}

impl Producer {
    /// With a place in the tree and one in the queue.
    fn id_bytes(iid: &[u8]) -> usize {
        const PLACES_BYTES: usize = 2 * size_of::<Rc<[u8]>>() + size_of::<Sent>() + 2 * size_of::<usize>();
        PLACES_BYTES + iid.len()
    }
    /// Drops the oldest while they are too old or too many.
    fn prune(&mut self, old_ms: Option<u64>, ids_max: u64) {
        while let Some(iid) = self.order.front() {
            if self.ids[iid].is_young(old_ms) && self.order.len() as u64 <= ids_max {
                return;
            }
            self.bytes -= Producer::id_bytes(iid);
            self.ids.remove(iid);
            self.order.pop_front();
        }
    }
    fn put(&mut self, iid: &[u8], sent: Sent) {
        let iid: Rc<[u8]> = iid.into();
        if self.ids.insert(iid.clone(), sent).is_some() {
            // Too old for a look-up, but behind one that isn't: the clock was set back.
            self.order.retain(|other| *other != iid);
        } else {
            self.bytes += Producer::id_bytes(&iid);
        }
        self.order.push_back(iid);
    }
}

impl Idempotence {
    pub fn duration_s(&self) -> u64 {
        self.duration_s
    }
    pub fn ids_max(&self) -> u64 {
        self.ids_max
    }
    pub fn added(&self) -> u64 {
        self.added
    }
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
    /// Whether anybody ever asked for it.
    pub fn is_used(&self) -> bool {
        let is_default = self.duration_s == DURATION_DEFAULT_S && self.ids_max == IDS_MAX_DEFAULT;
        !is_default || self.added > 0 || !self.producers.is_empty()
    }
    /// The entry that a producer's id became, as far as it is remembered; the entry may be gone.
    pub fn get(&self, producer: &[u8], iid: &[u8], now_ms: u64) -> Option<StreamId> {
        let sent = self.producers.get(producer)?.ids.get(iid)?;
        sent.is_young(self.old_ms(now_ms)).then_some(sent.id)
    }
    /// Producers, and ids of all of them, that are remembered.
    pub fn counts(&self, now_ms: u64) -> (usize, usize) {
        let old_ms = self.old_ms(now_ms);
        let young = |producer: &Rc<Producer>| producer.ids.values().filter(|sent| sent.is_young(old_ms)).count();
        let each = self.producers.values().map(young);
        each.filter(|ids| *ids > 0).fold((0, 0), |(producers, all), ids| (producers + 1, all + ids))
    }
    /// What was sent then or before is too old.
    fn old_ms(&self, now_ms: u64) -> Option<u64> {
        now_ms.checked_sub(self.duration_s.saturating_mul(MS))
    }
    /// A new one.
    pub(super) fn note(&mut self, producer: &[u8], iid: &[u8], id: StreamId, at_ms: u64) {
        self.remember(producer, iid, id, at_ms);
        self.added = self.added.saturating_add(1);
        let behind = (Bound::Excluded(producer), Bound::Unbounded);
        let next = self.producers.range::<[u8], _>(behind).next().or_else(|| self.producers.iter().next());
        let next = next.map(|(name, _)| name.clone());
        let old_ms = self.old_ms(at_ms);
        for name in [Some(Box::from(producer)), next].into_iter().flatten() {
            self.change(&name, |producer, ids_max| producer.prune(old_ms, ids_max));
        }
    }
    /// One that was noted before, in another copy of the stream.
    pub(super) fn remember(&mut self, producer: &[u8], iid: &[u8], id: StreamId, at_ms: u64) {
        self.change(producer, |producer, _| producer.put(iid, Sent { id, at_ms }));
    }
    fn change(&mut self, name: &[u8], change: impl FnOnce(&mut Producer, u64)) {
        /// A place in the tree.
        const PRODUCER_BYTES: usize = 2 * size_of::<Box<[u8]>>() + size_of::<Producer>();
        if !self.producers.contains_key(name) {
            self.producers.insert(name.into(), Rc::default());
            self.bytes += PRODUCER_BYTES + name.len();
        }
        let producer = Rc::make_mut(self.producers.get_mut(name).expect("it is there now"));
        self.bytes -= producer.bytes;
        change(producer, self.ids_max);
        self.bytes += producer.bytes;
        if producer.ids.is_empty() {
            self.producers.remove(name);
            self.bytes -= PRODUCER_BYTES + name.len();
        }
    }
    /// Other settings make all be forgotten.
    pub(super) fn set(&mut self, duration_s: u64, ids_max: u64) {
        (self.duration_s, self.ids_max) = (duration_s, ids_max);
        self.producers.clear();
        self.bytes = 0;
    }
    pub(super) fn set_counts(&mut self, added: u64, duplicates: u64) {
        (self.added, self.duplicates) = (added, duplicates);
    }
    pub(super) fn digest(&self) -> u64 {
        let settings = [self.duration_s, self.ids_max, self.added, self.duplicates].into_iter().fold(0, mix);
        self.producers.iter().fold(settings, |digest, (name, producer)| {
            producer.order.iter().fold(digest_bytes(digest, name), |digest, iid| {
                let Sent { id, at_ms } = producer.ids[iid];
                [id.ms, id.seq, at_ms].into_iter().fold(digest_bytes(digest, iid), mix)
            })
        })
    }
    /// All at once: it is bounded by what producers sent lately.
    pub(super) fn export(&self, out: &mut Vec<u8>) {
        if !self.is_used() {
            return;
        }
        StreamChange::Settings { duration_s: self.duration_s, ids_max: self.ids_max }.encode(out);
        for (name, producer) in &self.producers {
            for iid in &producer.order {
                let Sent { id, at_ms } = producer.ids[iid];
                StreamChange::Remembered { producer: name, iid, id, at_ms }.encode(out);
            }
        }
        StreamChange::ProducedCounts { added: self.added, duplicates: self.duplicates }.encode(out);
    }
    pub(super) fn bytes_used(&self) -> usize {
        self.bytes
    }
    pub(super) fn check_invariants(&self) {
        for producer in self.producers.values() {
            assert!(!producer.ids.is_empty(), "no producer without ids");
            assert_eq!(producer.ids.len(), producer.order.len(), "each id has its place in the order");
            assert!(producer.order.iter().all(|iid| producer.ids.contains_key(iid)));
            let bytes = producer.order.iter().map(|iid| Producer::id_bytes(iid)).sum::<usize>();
            assert_eq!(bytes, producer.bytes, "bytes are counted");
        }
    }
}
