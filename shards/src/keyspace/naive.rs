//! The simplest store that keeps the promises: an ordered map. Twin of the real table in property tests.

use super::ShardCursor;
use super::entry::{Entry, StringRef, Value};
use crate::random::Random;
use crate::units::{Db, Deadline, Now};
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Clone, Debug)]
pub(super) struct Item {
    value: OwnedValue,
    deadline: Option<Deadline>,
}

#[derive(Clone, Debug)]
enum OwnedValue {
    Integer(i64),
    Bytes(Vec<u8>),
    Raw(Vec<u8>),
}

/// Keys by hash, so that a scan has an order that growth doesn't change.
#[derive(Default, Debug)]
pub(super) struct Store {
    items: BTreeMap<(u64, Vec<u8>), Item>,
}

pub(super) fn hash(db: Db, key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ db.0 as u64;
    for &byte in key {
        hash = (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3);
    }
    hash >> 17
}

fn place(key: &[u8]) -> (u64, Vec<u8>) {
    (hash(Db(0), key), key.to_vec())
}

impl Store {
    pub(super) fn find(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.items.get_key_value(&place(key)).map(|(at, item)| view(&at.1, item))
    }
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
    pub(super) fn deadlines(&self) -> usize {
        self.items.values().filter(|item| item.deadline.is_some()).count()
    }
    pub(super) fn put(&mut self, key: &[u8], value: StringRef<'_>, deadline: Option<Deadline>) {
        let value = match value {
            StringRef::Integer(value) => OwnedValue::Integer(value),
            StringRef::Bytes(bytes) => OwnedValue::Bytes(bytes.to_vec()),
            StringRef::Raw(bytes) => OwnedValue::Raw(bytes.to_vec()),
        };
        self.items.insert(place(key), Item { value, deadline });
    }
    pub(super) fn splice(&mut self, key: &[u8], offset: usize, bytes: &[u8]) {
        let old = self.items.remove(&place(key));
        let deadline = old.as_ref().and_then(|item| item.deadline);
        let mut value = match old.map(|item| item.value) {
            None => Vec::new(),
            Some(OwnedValue::Integer(value)) => itoa::Buffer::new().format(value).as_bytes().to_vec(),
            Some(OwnedValue::Bytes(bytes) | OwnedValue::Raw(bytes)) => bytes,
        };
        if value.len() < offset + bytes.len() {
            value.resize(offset + bytes.len(), 0);
        }
        value[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.items.insert(place(key), Item { value: OwnedValue::Raw(value), deadline });
    }
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.items.remove(&place(key));
    }
    pub(super) fn set_deadline(&mut self, key: &[u8], deadline: Option<Deadline>) {
        if let Some(item) = self.items.get_mut(&place(key)) {
            item.deadline = deadline;
        }
    }
    pub(super) fn take(&mut self, key: &[u8]) -> Option<Item> {
        self.items.remove(&place(key))
    }
    pub(super) fn insert(&mut self, key: &[u8], item: Item) {
        self.items.insert(place(key), item);
    }
    pub(super) fn scan(&self, cursor: ShardCursor, count: usize, visit: &mut dyn FnMut(Entry<'_>)) -> ShardCursor {
        let mut visited = 0;
        let mut last = None;
        for (at, item) in self.items.range((Bound::Included((cursor.0, Vec::new())), Bound::Unbounded)) {
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
    pub(super) fn random(&self, random: &mut Random) -> Option<Entry<'_>> {
        let len = self.items.len() as u64;
        (len > 0).then(|| self.items.iter().nth(random.below(len) as usize).map(|(at, item)| view(&at.1, item)))?
    }
    pub(super) fn due(&self, now: Now, limit: usize) -> Vec<Vec<u8>> {
        let due = |item: &Item| item.deadline.is_some_and(|deadline| deadline.is_due(now));
        self.items.iter().filter(|(_, item)| due(item)).map(|(at, _)| at.1.clone()).take(limit).collect()
    }
    pub(super) fn bytes_used(&self) -> usize {
        self.items.keys().map(|at| at.1.len() + size_of::<Item>()).sum()
    }
    pub(super) fn digest(&self, db: Db) -> u64 {
        let one = |(at, item): (&(u64, Vec<u8>), &Item)| {
            let entry = view(&at.1, item);
            let text = entry.string().map(|value| value.to_bytes().into_owned()).unwrap_or_default();
            hash(db, &at.1) ^ hash(db, &text).rotate_left(21) ^ item.deadline.map_or(0, Deadline::to_bits)
        };
        self.items.iter().map(one).fold(0, |a, b| a ^ b)
    }
}

fn view<'a>(key: &'a [u8], item: &'a Item) -> Entry<'a> {
    let value = match &item.value {
        OwnedValue::Integer(value) => StringRef::Integer(*value),
        OwnedValue::Bytes(bytes) => StringRef::Bytes(bytes),
        OwnedValue::Raw(bytes) => StringRef::Raw(bytes),
    };
    Entry { key, value: Value::String(value), deadline: item.deadline, access: 0 }
}
