//! The simplest store that keeps the promises: ordered maps. Twin of the real table in property tests.

use super::entry::{Entry, StringRef, Value};
use super::frozen::Saved;
use super::store::{NewCollection, Store};
use super::{NewDeadline, ShardCursor};
use crate::random::Random;
use crate::types::{self, Kind, Large};
use crate::units::{Db, Deadline, Now};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Keys of a piece of a walk.
const PIECE: usize = 300;

#[derive(Clone)]
struct Item {
    value: OwnedValue,
    deadline: Option<Deadline>,
}

#[derive(Clone)]
enum OwnedValue {
    Integer(i64),
    Bytes(Vec<u8>),
    Raw(Vec<u8>),
    Small(Kind, Vec<u8>),
    Large(Large),
}

impl OwnedValue {
    /// What changes make of it; `None` if nothing is left.
    fn changed(self, collection: NewCollection<'_>) -> Option<OwnedValue> {
        let NewCollection { kind, changes, thresholds } = collection;
        let mut pack = match self {
            OwnedValue::Large(mut large) if large.kind() == kind => {
                large.change(changes, thresholds);
                return (!large.view().is_gone()).then_some(OwnedValue::Large(large));
            }
            OwnedValue::Small(old, pack) if old == kind => pack,
            _ => Vec::new(),
        };
        match types::change_small(kind, &mut pack, changes, thresholds) {
            Some(large) => (!large.view().is_gone()).then_some(OwnedValue::Large(large)),
            None => (!pack.is_empty()).then_some(OwnedValue::Small(kind, pack)),
        }
    }
}

/// Keys by hash, so that a scan has an order that growth doesn't change.
pub(super) struct Naive {
    databases: Vec<BTreeMap<(u64, Vec<u8>), Item>>,
    /// A copy of all that was there, less what was walked, last first.
    frozen: Option<Vec<(Db, Vec<u8>, Item)>>,
    saved: Saved,
}

impl Naive {
    pub(super) fn new(databases: u16) -> Self {
        Naive { databases: vec![BTreeMap::new(); databases as usize], frozen: None, saved: Saved::default() }
    }
    fn database(&self, db: Db) -> &BTreeMap<(u64, Vec<u8>), Item> {
        &self.databases[db.0 as usize]
    }
    fn change(&mut self, db: Db) -> &mut BTreeMap<(u64, Vec<u8>), Item> {
        &mut self.databases[db.0 as usize]
    }
    fn first(&self, db: Db, is_it: impl Fn(&Deadline) -> bool) -> Option<(&(u64, Vec<u8>), &Item)> {
        self.database(db).iter().find(|(_, item)| item.deadline.as_ref().is_some_and(&is_it))
    }
}

impl Store for Naive {
    fn databases(&self) -> u16 {
        self.databases.len() as u16
    }
    fn hash(&self, key: &[u8]) -> u64 {
        let step = |hash: u64, &byte: &u8| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3);
        key.iter().fold(0xcbf2_9ce4_8422_2325, step) >> 17
    }
    fn seed(&self) -> u64 {
        0
    }
    fn find(&self, db: Db, hash: u64, key: &[u8]) -> Option<Entry<'_>> {
        self.database(db).get_key_value(&(hash, key.to_vec())).map(|(at, item)| view(&at.1, item))
    }
    fn find_noting(&self, db: Db, hash: u64, key: &[u8], _access: u32) -> Option<Entry<'_>> {
        self.find(db, hash, key)
    }
    fn len(&self, db: Db) -> usize {
        self.database(db).len()
    }
    fn deadlines(&self, db: Db) -> usize {
        self.database(db).values().filter(|item| item.deadline.is_some()).count()
    }
    fn scan(&self, db: Db, cursor: ShardCursor, count: usize, visit: &mut dyn FnMut(Entry<'_>)) -> ShardCursor {
        let (mut visited, mut last) = (0, None);
        for (at, item) in self.database(db).range((Bound::Included((cursor.0, Vec::new())), Bound::Unbounded)) {
            // Keys of one hash go together: the cursor names a hash.
            if visited >= count && last != Some(at.0) {
                return ShardCursor(at.0);
            }
            visit(view(&at.1, item));
            visited += 1;
            last = Some(at.0);
        }
        ShardCursor(0)
    }
    fn random(&self, db: Db, random: &mut Random) -> Option<Entry<'_>> {
        let len = self.len(db) as u64;
        let nth = (len > 0).then(|| random.below(len) as usize)?;
        self.database(db).iter().nth(nth).map(|(at, item)| view(&at.1, item))
    }
    fn first_due(&self, db: Db, now: Now) -> Option<(u64, Entry<'_>)> {
        self.first(db, |deadline| deadline.is_due(now)).map(|(at, item)| (at.0, view(&at.1, item)))
    }
    fn first_element_due(&self, db: Db, now: Now) -> Option<(u64, Entry<'_>)> {
        let mut items = self.database(db).iter();
        let is_due =
            |item: &Item| view(b"", item).next_deadlines().into_iter().flatten().any(|first| first.is_due(now));
        items.find(|(_, item)| is_due(item)).map(|(at, item)| (at.0, view(&at.1, item)))
    }
    fn next_deadline(&self, db: Db, now: Now) -> Option<u64> {
        let of_elements = self.database(db).values().flat_map(|item| view(b"", item).next_deadlines()).flatten();
        let deadlines = self.database(db).values().filter_map(|item| item.deadline).chain(of_elements);
        deadlines.map(|deadline| deadline.remaining_ms(now)).min()
    }
    fn prefetch_place(&self, _db: Db, _hash: u64) {}
    fn prefetch_entry(&self, _db: Db, _hash: u64) {}
    fn prefetch_deadline(&self, _db: Db, _hash: u64, _deadline: Deadline) {}
    fn bytes_used(&self) -> usize {
        self.databases.iter().flat_map(BTreeMap::keys).map(|at| at.1.len() + size_of::<Item>()).sum()
    }
    fn digest(&self, db: Db) -> u64 {
        self.database(db).iter().fold(0, |digest, (at, item)| digest ^ view(&at.1, item).digest(db))
    }
    fn put(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        value: StringRef<'_>,
        deadline: NewDeadline,
        _access: u32,
    ) -> Option<Deadline> {
        let value = match value {
            StringRef::Integer(value) => OwnedValue::Integer(value),
            StringRef::Bytes(bytes) => OwnedValue::Bytes(bytes.to_vec()),
            StringRef::Raw(bytes) => OwnedValue::Raw(bytes.to_vec()),
        };
        let deadline = deadline.resolve(self.find(db, hash, key).and_then(|entry| entry.deadline()));
        self.change(db).insert((hash, key.to_vec()), Item { value, deadline });
        deadline
    }
    fn splice(&mut self, db: Db, hash: u64, key: &[u8], offset: usize, bytes: &[u8], _access: u32) {
        let old = self.change(db).remove(&(hash, key.to_vec()));
        let deadline = old.as_ref().and_then(|item| item.deadline);
        let mut value = match old.map(|item| item.value) {
            None => Vec::new(),
            Some(OwnedValue::Integer(value)) => itoa::Buffer::new().format(value).as_bytes().to_vec(),
            Some(OwnedValue::Bytes(bytes) | OwnedValue::Raw(bytes)) => bytes,
            Some(OwnedValue::Small(..) | OwnedValue::Large(_)) => Vec::new(),
        };
        if value.len() < offset + bytes.len() {
            value.resize(offset + bytes.len(), 0);
        }
        value[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.change(db).insert((hash, key.to_vec()), Item { value: OwnedValue::Raw(value), deadline });
    }
    fn put_collection(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        collection: NewCollection<'_>,
        deadline: NewDeadline,
        _access: u32,
    ) -> Option<Deadline> {
        let deadline = deadline.resolve(self.find(db, hash, key).and_then(|entry| entry.deadline()));
        let at = (hash, key.to_vec());
        match OwnedValue::Raw(Vec::new()).changed(collection) {
            Some(value) => drop(self.change(db).insert(at, Item { value, deadline })),
            None => {
                self.change(db).remove(&at);
                return None;
            }
        }
        deadline
    }
    fn change_collection(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        collection: NewCollection<'_>,
        live_at: Option<Now>,
    ) -> bool {
        let at = (hash, key.to_vec());
        let is_due = |item: &Item| item.deadline.zip(live_at).is_some_and(|(deadline, now)| deadline.is_due(now));
        if self.database(db).get(&at).is_none_or(is_due) {
            return false;
        }
        let Item { value, deadline } = self.change(db).remove(&at).expect("it is there");
        if let Some(value) = value.changed(collection) {
            self.change(db).insert(at, Item { value, deadline });
        }
        true
    }
    fn copy(&mut self, from: (Db, u64, &[u8]), to: (Db, u64, &[u8]), _access: u32) -> bool {
        let item = self.database(from.0).get(&(from.1, from.2.to_vec())).cloned();
        item.map(|item| self.change(to.0).insert((to.1, to.2.to_vec()), item)).is_some()
    }
    fn remove(&mut self, db: Db, hash: u64, key: &[u8]) -> bool {
        self.change(db).remove(&(hash, key.to_vec())).is_some()
    }
    fn set_deadline(&mut self, db: Db, hash: u64, key: &[u8], deadline: Option<Deadline>) -> bool {
        let item = self.change(db).get_mut(&(hash, key.to_vec()));
        item.map(|item| item.deadline = deadline).is_some()
    }
    fn rename(&mut self, from: (Db, u64, &[u8]), to: (Db, u64, &[u8])) -> bool {
        let item = self.change(from.0).remove(&(from.1, from.2.to_vec()));
        item.map(|item| self.change(to.0).insert((to.1, to.2.to_vec()), item)).is_some()
    }
    fn flush(&mut self, db: Db) {
        self.change(db).clear();
    }
    fn swap(&mut self, a: Db, b: Db) {
        self.databases.swap(a.0 as usize, b.0 as usize);
    }
    fn reclaim(&mut self, _limit: usize) -> bool {
        false
    }
    fn freeze(&mut self) {
        assert!(self.frozen.is_none(), "one walk ends before the next begins");
        let databases = (0..).map(Db).zip(&self.databases);
        let items =
            databases.flat_map(|(db, items)| items.iter().map(move |(at, item)| (db, at.1.clone(), item.clone())));
        let mut items = items.collect::<Vec<_>>();
        items.reverse();
        self.frozen = Some(items);
        self.saved = Saved::default();
    }
    fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }
    fn walk_frozen(&mut self, pieces: usize) -> bool {
        let Some(left) = &mut self.frozen else { return false };
        let walked = left.split_off(left.len().saturating_sub(pieces.saturating_mul(PIECE)));
        walked.iter().rev().for_each(|(db, key, item)| self.saved.push(*db, &view(key, item)));
        while self.saved.push_rest() {}
        if left.is_empty() {
            self.frozen = None;
        }
        self.is_frozen()
    }
    fn frozen_bytes(&self) -> usize {
        self.saved.bytes()
    }
    fn take_frozen(&mut self, empty: Vec<u8>) -> (Vec<u8>, u32) {
        self.saved.take(empty)
    }
    fn abandon_frozen(&mut self) {
        self.saved.abandon();
    }
    fn check_invariants(&self) {}
}

fn view<'a>(key: &'a [u8], item: &'a Item) -> Entry<'a> {
    let value = match &item.value {
        OwnedValue::Integer(value) => Value::String(StringRef::Integer(*value)),
        OwnedValue::Bytes(bytes) => Value::String(StringRef::Bytes(bytes)),
        OwnedValue::Raw(bytes) => Value::String(StringRef::Raw(bytes)),
        OwnedValue::Small(kind, pack) => Value::Small(*kind, pack),
        OwnedValue::Large(large) => Value::Large(large),
    };
    Entry { key, value, deadline: item.deadline, access: 0 }
}
