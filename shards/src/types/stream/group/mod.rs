//! Consumer groups of a stream: how far each has read, and which entries it was given and has not acknowledged.
//!
//! What is pending lies in the order of ids twice: for the group with all there is to know, and for each consumer as ids alone. Consumers
//! have numbers within their group, so that a name is kept once. Of what is pending and nobody's (XNACK) only the group knows.

mod runs;
#[cfg(test)]
mod tests;

use super::{Ids, StreamChange, StreamId, digest_bytes, mix};
use runs::{Record, Runs};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The number of no consumer.
const NOBODY: u32 = 0;
/// What an entry of a map takes beside key and value.
const ENTRY_BYTES: usize = 16;
/// The two counts before what is shared.
const SHARED_BYTES: usize = 2 * size_of::<usize>();

/// One delivery: what is pending, as it is kept.
#[derive(Clone, Copy)]
struct Delivery {
    id: StreamId,
    delivered_ms: u64,
    count: u64,
    consumer: u32,
}

impl Record for Delivery {
    fn id(&self) -> StreamId {
        self.id
    }
    fn stamp(&self) -> u64 {
        self.delivered_ms
    }
}

/// What is pending, as readers see it. Who is nobody was never given it: its time is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending<'a> {
    pub id: StreamId,
    pub consumer: Option<&'a [u8]>,
    pub delivered_ms: u64,
    /// How many times it was delivered.
    pub count: u64,
}

/// One who reads for a group. Times in ms of the wall clock.
#[derive(Clone)]
pub struct Consumer {
    name: Rc<[u8]>,
    seen_ms: u64,
    active_ms: Option<u64>,
    pending: Runs<StreamId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }
    /// When it last asked for anything, or was made.
    pub fn seen_ms(&self) -> u64 {
        self.seen_ms
    }
    /// When it last was given something.
    pub fn active_ms(&self) -> Option<u64> {
        self.active_ms
    }
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }
    fn bytes(&self) -> usize {
        // Its name is shared with the map of names.
        size_of::<Consumer>() + 2 * SHARED_BYTES + self.name.len() + ENTRY_BYTES + self.pending.bytes_used()
    }
}

/// One group.
#[derive(Clone, Default)]
pub struct Group {
    delivered: StreamId,
    read: Option<u64>,
    /// Numbers of consumers by name.
    numbers: BTreeMap<Rc<[u8]>, u32>,
    /// Consumers, each at its number less one.
    consumers: Vec<Option<Rc<Consumer>>>,
    /// Numbers that are free.
    vacant: Vec<u32>,
    pending: Runs<Delivery>,
    /// How much of what is pending is nobody's.
    unowned: usize,
    consumer_bytes: usize,
}

impl Group {
    /// The last id that was delivered.
    pub fn delivered(&self) -> StreamId {
        self.delivered
    }
    /// How many entries it has read since the stream's first, if known.
    pub fn read(&self) -> Option<u64> {
        self.read
    }
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }
    pub fn consumers_len(&self) -> usize {
        self.numbers.len()
    }
    /// In the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.numbers.values().map(|number| self.at(*number).expect("a name is of a consumer"))
    }
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.at(*self.numbers.get(name)?)
    }
    fn at(&self, number: u32) -> Option<&Consumer> {
        self.consumers.get((number as usize).checked_sub(1)?)?.as_deref()
    }
    fn pending_of(&self, delivery: &Delivery) -> Pending<'_> {
        let Delivery { id, delivered_ms, count, consumer } = *delivery;
        Pending { id, consumer: self.at(consumer).map(Consumer::name), delivered_ms, count }
    }
    pub fn pending(&self, id: StreamId) -> Option<Pending<'_>> {
        self.pending.get(id).map(|delivery| self.pending_of(delivery))
    }
    pub fn is_pending(&self, id: StreamId) -> bool {
        self.pending.get(id).is_some()
    }
    /// Whether it was delivered to the group, and is pending no more.
    pub fn has_acknowledged(&self, id: StreamId) -> bool {
        id <= self.delivered && !self.is_pending(id)
    }
    /// The ids of the first and the last that are pending.
    pub fn pending_bounds(&self) -> Option<(StreamId, StreamId)> {
        Some((self.pending.first()?.id, self.pending.last()?.id))
    }
    /// What is pending from an id on.
    pub fn pending_from(&self, from: StreamId) -> impl Iterator<Item = Pending<'_>> {
        self.pending.iter_from(from).map(|delivery| self.pending_of(delivery))
    }
    /// What is pending for one of its consumers from an id on.
    pub fn pending_of_consumer<'a>(
        &'a self,
        consumer: &'a Consumer,
        from: StreamId,
    ) -> impl Iterator<Item = Pending<'a>> {
        let pending = |id: &StreamId| self.pending(*id).expect("what is pending for a consumer is so for its group");
        consumer.pending.iter_from(from).map(pending)
    }
    /// The ids of what was last delivered at `delivered_ms_max` or before, at most `limit`, those first that wait for longest.
    pub fn pending_longest(&self, delivered_ms_max: u64, limit: usize) -> Vec<StreamId> {
        self.pending.oldest(delivered_ms_max, limit)
    }

    fn bytes(&self) -> usize {
        // By lengths: capacities are not the same in a clone.
        let lists = self.consumers.len() * size_of::<usize>() + self.vacant.len() * size_of::<u32>();
        size_of::<Group>() + self.pending.bytes_used() + self.consumer_bytes + lists
    }
    /// Changes a consumer and counts its bytes.
    fn change_consumer(&mut self, number: u32, change: impl FnOnce(&mut Consumer)) {
        let consumer = (number as usize).checked_sub(1).and_then(|at| self.consumers.get_mut(at)?.as_mut());
        if let Some(consumer) = consumer.map(Rc::make_mut) {
            self.consumer_bytes -= consumer.bytes();
            change(consumer);
            self.consumer_bytes += consumer.bytes();
        }
    }
    /// The number of a consumer, who is made if there is none of that name.
    fn number(&mut self, name: &[u8], seen_ms: u64) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let consumer = Consumer { name: name.into(), seen_ms, active_ms: None, pending: Runs::default() };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.consumers.push(None);
            u32::try_from(self.consumers.len()).expect("consumers take more memory than their numbers have bits")
        });
        self.consumer_bytes += consumer.bytes();
        self.numbers.insert(Rc::clone(&consumer.name), number);
        self.consumers[number as usize - 1] = Some(Rc::new(consumer));
        number
    }
    fn see(&mut self, name: &[u8], seen_ms: u64, active_ms: Option<u64>) {
        let number = self.number(name, seen_ms);
        self.change_consumer(number, |consumer| {
            consumer.seen_ms = seen_ms;
            consumer.active_ms = active_ms.or(consumer.active_ms);
        });
    }
    fn delete_consumer(&mut self, name: &[u8]) {
        let Some(number) = self.numbers.remove(name) else { return };
        let consumer = self.consumers[number as usize - 1].take().expect("a name is of a consumer");
        self.consumer_bytes -= consumer.bytes();
        self.vacant.push(number);
        for id in consumer.pending.iter_from(StreamId::MIN) {
            self.pending.remove(*id);
        }
    }
    fn put(&mut self, delivery: Delivery) {
        let id = delivery.id;
        let before = self.pending.get(id).map(|before| before.consumer);
        self.pending.put(delivery);
        if before == Some(delivery.consumer) {
            return;
        }
        match before {
            Some(NOBODY) => self.unowned -= 1,
            Some(number) => self.change_consumer(number, |consumer| _ = consumer.pending.remove(id)),
            None => {}
        }
        match delivery.consumer {
            NOBODY => self.unowned += 1,
            number => self.change_consumer(number, |consumer| consumer.pending.put(id)),
        }
    }
    fn pend(&mut self, name: &[u8], delivered_ms: u64, count: u64, ids: Ids<'_>) {
        let consumer = self.number(name, delivered_ms);
        ids.iter().for_each(|id| self.put(Delivery { id, delivered_ms, count, consumer }));
    }
    fn acknowledge(&mut self, id: StreamId) {
        match self.pending.remove(id).map(|delivery| delivery.consumer) {
            Some(NOBODY) => self.unowned -= 1,
            Some(number) => self.change_consumer(number, |consumer| _ = consumer.pending.remove(id)),
            None => {}
        }
    }

    /// The digest doesn't depend on numbers.
    fn digest(&self) -> u64 {
        let with_id = |digest, id: StreamId| mix(mix(digest, id.ms), id.seq);
        let mut digest = with_id(0, self.delivered);
        digest = mix(digest, self.read.map_or(0, |read| read.wrapping_add(1)));
        let mut names = vec![0; self.consumers.len() + 1];
        for (consumer, number) in self.consumers().zip(self.numbers.values()) {
            let name = digest_bytes(1, consumer.name());
            names[*number as usize] = name;
            let active = consumer.active_ms.map_or(0, |ms| ms.wrapping_add(1));
            digest = mix(mix(mix(digest, name), consumer.seen_ms), active);
        }
        for delivery in self.pending.iter_from(StreamId::MIN) {
            digest = mix(with_id(digest, delivery.id), names[delivery.consumer as usize]);
            digest = mix(mix(digest, delivery.delivered_ms), delivery.count);
        }
        digest
    }

    /// What `export` counts: the group itself, its consumers, what is pending.
    fn items(&self) -> u64 {
        1 + self.numbers.len() as u64 + self.pending.len() as u64
    }
    /// Appends changes that make the group, from one of its items on, until `out` is longer than `len_max`. How many items it did.
    fn export(&self, group: &[u8], from: u64, len_max: usize, out: &mut Vec<u8>) -> u64 {
        let consumers = self.numbers.len() as u64;
        let mut done = 0;
        if from == 0 {
            StreamChange::GroupCreate { group, delivered: self.delivered, read: self.read }.encode(out);
            done += 1;
        }
        for consumer in self.consumers().skip((from + done - 1) as usize) {
            if out.len() > len_max {
                return done;
            }
            let (seen_ms, active_ms) = (consumer.seen_ms, consumer.active_ms);
            StreamChange::ConsumerSeen { group, consumer: &consumer.name, seen_ms, active_ms }.encode(out);
            done += 1;
        }
        let first = from + done - 1 - consumers;
        let mut deliveries = self.pending.iter_at(first as usize).peekable();
        let (mut ids, mut buffer) = (Vec::new(), Vec::new());
        while let Some(first) = deliveries.next().filter(|_| out.len() <= len_max) {
            let alike = |next: &&Delivery| {
                (next.consumer, next.delivered_ms, next.count) == (first.consumer, first.delivered_ms, first.count)
            };
            let Delivery { id, delivered_ms, count, .. } = *first;
            let Some(consumer) = self.at(first.consumer) else {
                StreamChange::Release { group, id, count }.encode(out);
                done += 1;
                continue;
            };
            ids.clear();
            ids.push(id);
            while ids.len() < BATCH_MAX
                && let Some(next) = deliveries.next_if(alike)
            {
                ids.push(next.id);
            }
            let ids_encoded = Ids::of(&ids, &mut buffer);
            StreamChange::Pend { group, consumer: &consumer.name, delivered_ms, count, ids: ids_encoded }.encode(out);
            done += ids.len() as u64;
        }
        done
    }
    /// Frees about so many nodes; how many it did, and nothing is left if they are fewer than asked for.
    fn free(&mut self, nodes: usize) -> usize {
        let mut freed = self.pending.free(nodes);
        while freed < nodes
            && let Some(consumer) = self.consumers.last_mut()
        {
            let own = consumer.as_mut().and_then(Rc::get_mut);
            freed += own.map_or(0, |consumer| consumer.pending.free(nodes - freed));
            if freed < nodes {
                self.consumers.pop();
                self.numbers.pop_last();
                freed += 1;
            }
        }
        freed
    }
    fn check_invariants(&self) {
        self.pending.check_invariants();
        let mut owned = 0;
        for (name, number) in &self.numbers {
            let consumer = self.at(*number).expect("a name is of a consumer");
            assert_eq!(consumer.name, *name);
            consumer.pending.check_invariants();
            owned += consumer.pending.len();
            let is_its = |id: &StreamId| self.pending.get(*id).is_some_and(|delivery| delivery.consumer == *number);
            assert!(consumer.pending.iter_from(StreamId::MIN).all(is_its), "the group and its consumer agree");
        }
        assert_eq!(owned + self.unowned, self.pending.len());
        assert_eq!(self.consumers.iter().flatten().count(), self.numbers.len());
        assert_eq!(self.consumers.len(), self.numbers.len() + self.vacant.len());
        let bytes = self.consumers.iter().flatten().map(|consumer| consumer.bytes()).sum::<usize>();
        assert_eq!(bytes, self.consumer_bytes, "bytes are counted");
    }
}

/// Ids in one exported change.
const BATCH_MAX: usize = 256;

/// All groups of a stream.
#[derive(Clone, Default)]
pub struct Groups {
    groups: BTreeMap<Box<[u8]>, Rc<Group>>,
    bytes: usize,
}

fn bytes_of(name: &[u8], group: &Group) -> usize {
    name.len() + size_of::<Box<[u8]>>() + ENTRY_BYTES + SHARED_BYTES + group.bytes()
}

impl Groups {
    pub fn len(&self) -> usize {
        self.groups.len()
    }
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
    pub fn get(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(Rc::as_ref)
    }
    /// By their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, &**group))
    }
    /// Whether a group may still deliver an entry, or waits for it to be acknowledged. Where there is no group, nobody has read it yet.
    pub fn need(&self, id: StreamId) -> bool {
        self.is_empty() || !self.groups.values().all(|group| group.has_acknowledged(id))
    }

    /// Makes a change of a group; the others are none of its business.
    pub(super) fn apply(&mut self, change: &StreamChange<'_>) {
        match *change {
            StreamChange::GroupCreate { group, delivered, read } => self.create(group, delivered, read),
            StreamChange::GroupDestroy { group } => {
                if let Some(removed) = self.groups.remove(group) {
                    self.bytes -= bytes_of(group, &removed);
                }
            }
            StreamChange::GroupSetId { group, delivered, read } => {
                self.change(group, |group| (group.delivered, group.read) = (delivered, read));
            }
            StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms } => {
                self.change(group, |group| group.see(consumer, seen_ms, active_ms));
            }
            StreamChange::ConsumerDelete { group, consumer } => {
                self.change(group, |group| group.delete_consumer(consumer));
            }
            StreamChange::Pend { group, consumer, delivered_ms, count, ids } => {
                self.change(group, |group| group.pend(consumer, delivered_ms, count, ids));
            }
            StreamChange::Ack { group, ids } => {
                self.change(group, |group| ids.iter().for_each(|id| group.acknowledge(id)));
            }
            StreamChange::Release { group, id, count } => {
                self.change(group, |group| group.put(Delivery { id, delivered_ms: 0, count, consumer: NOBODY }));
            }
            StreamChange::Append { .. }
            | StreamChange::Delete { .. }
            | StreamChange::TrimTo { .. }
            | StreamChange::Trim { .. }
            | StreamChange::SetId { .. }
            | StreamChange::Produced { .. }
            | StreamChange::Remembered { .. }
            | StreamChange::ProducedCounts { .. }
            | StreamChange::Settings { .. } => {}
        }
    }
    fn create(&mut self, name: &[u8], delivered: StreamId, read: Option<u64>) {
        if !self.groups.contains_key(name) {
            let group = Group { delivered, read, ..Group::default() };
            self.bytes += bytes_of(name, &group);
            self.groups.insert(name.into(), Rc::new(group));
        }
    }
    /// Changes a group, if there is one of that name, and counts its bytes.
    fn change(&mut self, name: &[u8], change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.get_mut(name).map(Rc::make_mut) {
            let before = group.bytes();
            change(group);
            self.bytes = self.bytes - before + group.bytes();
        }
    }
    pub(super) fn digest(&self) -> u64 {
        let one = |digest, (name, group): (&[u8], &Group)| mix(digest_bytes(digest, name), group.digest());
        self.iter().fold(self.len() as u64, one)
    }
    /// Appends changes that make these groups of none, from `from` on (0: the start); where to go on.
    pub(super) fn export(&self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let len_max = out.len().saturating_add(bytes_max);
        let mut base = 0;
        for (name, group) in self.iter() {
            let items = group.items();
            if from < base + items {
                let start = from.saturating_sub(base);
                if start == 0 && base > from && out.len() > len_max {
                    return Some(base);
                }
                let done = start + group.export(name, start, len_max, out);
                if done < items {
                    return Some(base + done);
                }
            }
            base += items;
        }
        None
    }
    pub(super) fn bytes_used(&self) -> usize {
        self.bytes
    }
    /// Frees about so many nodes; whether there are more.
    pub(super) fn free(&mut self, nodes: usize) -> bool {
        let mut left = nodes;
        while left > 0
            && let Some(mut last) = self.groups.last_entry()
        {
            // One that a snapshot has too is for the snapshot to free.
            left -= Rc::get_mut(last.get_mut()).map_or(0, |group| group.free(left));
            if left > 0 {
                last.remove();
                left -= 1;
            }
        }
        !self.groups.is_empty()
    }
    pub(super) fn check_invariants(&self) {
        self.groups.values().for_each(|group| group.check_invariants());
        let bytes = self.iter().map(|(name, group)| bytes_of(name, group)).sum::<usize>();
        assert_eq!(bytes, self.bytes, "bytes are counted");
    }
}
