//! The engine of the keyspace: per database an extendible hash table of packed entries, and an index of deadlines.
//!
//! ```text
//! hash (64 bits) -> prefix, its top bits -> directory -> segment (64 buckets of 8) -> entry
//!                   home bucket (6 bits), tag (16 bits)
//! ```
//! A full segment splits in two; two nearly empty buddies join. So growth is a pause of one segment (about 10 us) at
//! a time, and the directory, 8 bytes per segment, is all that ever doubles.
//!
//! Scans go home bucket by home bucket, within one by prefix. Both depend on the key's hash alone, so splits
//! and joins between two steps lose no key.

use super::arena::Arena;
use super::deadlines::Deadlines;
use super::entry::{Entry, NextDeadlines, StringRef, Value};
use super::frozen::{Frozen, Walk};
use super::packed::{NewValue, Packed, new_collection};
use super::segment::{self, BUCKETS, KEYS_MAX, Segment};
use super::store::{NewCollection, Store};
use super::{NewDeadline, ShardCursor};
use crate::random::Random;
use crate::units::{Db, Deadline, Now};
use std::ptr::NonNull;

/// A key goes at most this many buckets from home before its segment splits, unless that would be a waste.
const REACH: usize = 8;
/// Below this many keys a segment does not split: keys go further from home instead.
const SPLIT_KEYS_MIN: usize = KEYS_MAX / 2;
/// A directory this many bits deeper than its segments need means hashes made equal on purpose.
const SKEW_BITS: u32 = 6;
/// So deep is no waste even in a small table: keys that come in the order of their prefixes (as a snapshot has them) need
/// the depth of the full table at once. Up to 25 M keys load so as they would in any order; beyond, the first segments get
/// fuller, and beyond 2 G (`SKEW_BITS` deeper) there is no place for them.
const DEPTH_IN_ORDER: u32 = 16;
/// Buddies join when one has at most `JOIN_KEYS` and both together at most twice that.
const JOIN_KEYS: usize = KEYS_MAX / 5;
/// A removal looks for a buddy to join only at multiples of this many keys.
const JOIN_EVERY: usize = 16;
/// Bits of the prefix in a scan's cursor: more than a directory ever has.
const PREFIX_BITS: u32 = 42;
const DEPTH_MAX: u32 = 40;
/// Entries loaded ahead while a segment's keys are hashed again.
const PREFETCH_AHEAD: usize = 16;
/// Draws at random before looking for the next key in order.
const RANDOM_DRAWS: usize = 200;

pub struct Table {
    heap: Heap,
    databases: Vec<Database>,
    garbage: Vec<Database>,
    /// Flushed while the walk had not come to their end: it still goes through them, and frees entries as it goes.
    set_aside: Vec<Database>,
}

/// What all databases of the table share.
struct Heap {
    arena: Arena,
    frozen: Frozen,
    hasher: Hasher,
    /// Room to change a pack in.
    pack: Vec<u8>,
}

struct Hasher {
    state: ahash::RandomState,
    /// Bits of the hash that count; tests take some away to make keys collide.
    mask: u64,
    /// What `state` was made from.
    seed: u64,
}

#[derive(Default)]
struct Database {
    directory: Directory,
    deadlines: Deadlines,
    /// Per key that has elements with deadlines: the first of them on each clock.
    element_deadlines: Deadlines,
    len: usize,
    walk: Option<Walk>,
}

// SAFETY: the table owns its segments and entries alone, large collections with all nodes that they share included;
// nothing of them is bound to a thread.
unsafe impl Send for Table {}

impl Hasher {
    fn hash(&self, key: &[u8]) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.state.build_hasher();
        hasher.write(key);
        hasher.finish() & self.mask
    }
}

impl Table {
    pub(super) fn new(databases: u16, seed: u64) -> Self {
        Self::with_mask(databases, seed, u64::MAX)
    }
    /// A table that sees only the hash bits in `mask`.
    pub(super) fn with_mask(databases: u16, seed: u64, mask: u64) -> Self {
        let mut seeds = Random::new(seed);
        let [a, b, c, d] = std::array::from_fn(|_| seeds.next_u64());
        let hasher = Hasher { state: ahash::RandomState::with_seeds(a, b, c, d), mask, seed };
        let heap = Heap { arena: Arena::default(), frozen: Frozen::default(), hasher, pack: Vec::new() };
        let databases = (0..databases).map(|_| Database::default()).collect();
        Table { heap, databases, garbage: Vec::new(), set_aside: Vec::new() }
    }
    fn database(&self, db: Db) -> &Database {
        &self.databases[db.0 as usize]
    }
    fn flushed(&self) -> impl Iterator<Item = &Database> {
        self.garbage.iter().chain(&self.set_aside)
    }
    /// A database to change, with the heap.
    fn change(&mut self, db: Db) -> (&mut Database, &mut Heap) {
        (&mut self.databases[db.0 as usize], &mut self.heap)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.garbage.append(&mut self.databases);
        self.garbage.append(&mut self.set_aside);
        while self.reclaim(usize::MAX) {}
    }
}

impl Store for Table {
    fn databases(&self) -> u16 {
        self.databases.len() as u16
    }
    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        self.heap.hasher.hash(key)
    }
    fn seed(&self) -> u64 {
        self.heap.hasher.seed
    }

    #[inline]
    fn find(&self, db: Db, hash: u64, key: &[u8]) -> Option<Entry<'_>> {
        self.database(db).find(hash, key).map(Packed::entry)
    }
    #[inline]
    fn find_noting(&self, db: Db, hash: u64, key: &[u8], access: u32) -> Option<Entry<'_>> {
        let packed = self.database(db).find(hash, key)?;
        packed.note_access(access);
        Some(packed.entry())
    }
    fn len(&self, db: Db) -> usize {
        self.database(db).len
    }
    fn deadlines(&self, db: Db) -> usize {
        self.database(db).deadlines.len()
    }
    fn scan(&self, db: Db, cursor: ShardCursor, count: usize, visit: &mut dyn FnMut(Entry<'_>)) -> ShardCursor {
        let directory = &self.database(db).directory;
        // Sparse tables: a call ends after so many buckets even when few keys were found.
        let buckets_max = count.saturating_mul(10).saturating_add(BUCKETS);
        let (mut at, mut visited) = (cursor.0, 0);
        for _ in 0..buckets_max {
            let (home, prefix) = ((at >> PREFIX_BITS) as usize, at << (64 - PREFIX_BITS));
            let Some(segment) = directory.segment(prefix).filter(|_| home < BUCKETS) else {
                return ShardCursor(0);
            };
            for packed in segment.near_home(home) {
                if segment::home(self.heap.hasher.hash(packed.key())) == home {
                    visit(packed.entry());
                    visited += 1;
                }
            }
            // The next segment's first prefix; past the last one it carries into the home bucket.
            let span = 1 << (PREFIX_BITS - segment.depth as u32);
            at = (at & !(span - 1)) + span;
            if at >> PREFIX_BITS >= BUCKETS as u64 {
                return ShardCursor(0);
            }
            if visited >= count {
                break;
            }
        }
        ShardCursor(at)
    }
    fn random(&self, db: Db, random: &mut Random) -> Option<Entry<'_>> {
        let database = self.database(db);
        if database.len == 0 {
            return None;
        }
        let directory = &database.directory;
        let size = directory.slots.len() as u64;
        for _ in 0..RANDOM_DRAWS {
            let (index, number) = (random.below(size) as usize, random.below(KEYS_MAX as u64) as usize);
            let segment = directory.at(index);
            // Shallow segments stand in the directory several times: only the first time counts.
            if index.is_multiple_of(directory.copies(segment))
                && let Some(packed) = segment.nth(number)
            {
                return Some(packed.entry());
            }
        }
        // Few keys in many slots: the next one from somewhere.
        let (start, number) = (random.below(size) as usize, random.below(KEYS_MAX as u64) as usize);
        let from_start = (0..directory.slots.len()).map(|step| directory.at((start + step) % directory.slots.len()));
        let mut occupied = from_start.filter(|segment| segment.len() > 0);
        let segment = occupied.next().expect("a database that counts keys has them in segments");
        (0..KEYS_MAX).find_map(|step| segment.nth((number + step) % KEYS_MAX)).map(Packed::entry)
    }
    fn first_due(&self, db: Db, now: Now) -> Option<(u64, Entry<'_>)> {
        let database = self.database(db);
        let (deadline, hash) = database.deadlines.first_due(now)?;
        let segment = database.directory.segment(prefix(hash));
        let is_it = |packed: Packed| packed.deadline() == Some(deadline) && self.heap.hasher.hash(packed.key()) == hash;
        let found = segment.and_then(|segment| segment.find(hash, is_it).map(|spot| segment.entry(spot)));
        Some((hash, found.expect("every deadline in the index is an entry's").entry()))
    }
    fn first_element_due(&self, db: Db, now: Now) -> Option<(u64, Entry<'_>)> {
        let database = self.database(db);
        let (deadline, hash) = database.element_deadlines.first_due(now)?;
        let segment = database.directory.segment(prefix(hash));
        let is_it = |packed: Packed| {
            packed.next_deadlines().contains(&Some(deadline)) && self.heap.hasher.hash(packed.key()) == hash
        };
        let found = segment.and_then(|segment| segment.find(hash, is_it).map(|spot| segment.entry(spot)));
        Some((hash, found.expect("every deadline in the index is an entry's").entry()))
    }
    fn next_deadline(&self, db: Db, now: Now) -> Option<u64> {
        let database = self.database(db);
        [&database.deadlines, &database.element_deadlines].into_iter().filter_map(|index| index.next(now)).min()
    }
    #[inline]
    fn prefetch_place(&self, db: Db, hash: u64) {
        if let Some(segment) = self.database(db).directory.segment(prefix(hash)) {
            prefetch(segment.line(hash));
        }
    }
    #[inline]
    fn prefetch_entry(&self, db: Db, hash: u64) {
        let Some(segment) = self.database(db).directory.segment(prefix(hash)) else { return };
        let mut found = false;
        for packed in segment.candidates(hash) {
            found = true;
            packed.lines().into_iter().for_each(prefetch);
        }
        if !found && segment.overflows(hash) {
            prefetch(segment.line(hash).wrapping_add(size_of::<[u64; 8]>()));
        }
    }
    fn prefetch_deadline(&self, db: Db, hash: u64, deadline: Deadline) {
        self.database(db).deadlines.prefetch(deadline, hash);
    }
    fn bytes_used(&self) -> usize {
        let outside = |database: &Database| {
            let indexes = database.deadlines.bytes_used() + database.element_deadlines.bytes_used();
            indexes + database.directory.bytes_used()
        };
        self.heap.arena.used() + self.databases.iter().chain(self.flushed()).map(outside).sum::<usize>()
    }
    fn digest(&self, db: Db) -> u64 {
        self.database(db).directory.entries().fold(0, |digest, packed| digest ^ packed.entry().digest(db))
    }

    #[inline]
    fn put(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        value: StringRef<'_>,
        deadline: NewDeadline,
        access: u32,
    ) -> Option<Deadline> {
        let (database, heap) = self.change(db);
        database.put(heap, (hash, key), value.into(), deadline, access)
    }
    fn put_collection(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        collection: NewCollection<'_>,
        deadline: NewDeadline,
        access: u32,
    ) -> Option<Deadline> {
        let (database, heap) = self.change(db);
        let NewCollection { kind, changes, thresholds } = collection;
        let mut pack = std::mem::take(&mut heap.pack);
        pack.clear();
        let put = new_collection(&mut pack, kind, changes, thresholds)
            .map(|value| database.put(heap, (hash, key), value, deadline, access));
        heap.pack = pack;
        put.unwrap_or_else(|| {
            self.remove(db, hash, key);
            None
        })
    }
    fn change_collection(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        collection: NewCollection<'_>,
        live_at: Option<Now>,
    ) -> bool {
        let (database, heap) = self.change(db);
        let NewCollection { kind, changes, thresholds } = collection;
        let Some((segment, spot)) = database.directory.find_mut(hash, key) else { return false };
        let old = segment.entry(spot);
        if live_at.is_some_and(|now| old.deadline().is_some_and(|deadline| deadline.is_due(now))) {
            return false;
        }
        heap.frozen.before_change(&database.walk, old);
        let old_next = old.next_deadlines();
        match old.change(&mut heap.arena, &mut heap.pack, (kind, changes), thresholds) {
            Some(new) => {
                segment.replace(spot, new);
                database.index_elements(hash, old_next, new.next_deadlines());
            }
            None => {
                // Its elements are gone, and what the index has of them with them.
                database.index_elements(hash, old_next, old.next_deadlines());
                self.remove(db, hash, key);
            }
        }
        true
    }
    fn copy(&mut self, from: (Db, u64, &[u8]), to: (Db, u64, &[u8]), access: u32) -> bool {
        let ((from_db, from_hash, from_key), (to_db, to_hash, to_key)) = (from, to);
        assert!((from_db, from_key) != (to_db, to_key), "an entry is not copied onto itself");
        let Some(packed) = self.database(from_db).find(from_hash, from_key) else { return false };
        // What is at the other place is another entry: this one, and what it refers to, stays.
        let entry = packed.entry();
        let (database, heap) = self.change(to_db);
        let value = match entry.value() {
            Value::String(value) => NewValue::String(value),
            Value::Small(kind, pack) => NewValue::Small(kind, pack),
            Value::Large(large) => NewValue::Large(Box::new(large.clone())),
        };
        let deadline = entry.deadline().map_or(NewDeadline::None, NewDeadline::At);
        database.put(heap, (to_hash, to_key), value, deadline, access);
        true
    }
    fn splice(&mut self, db: Db, hash: u64, key: &[u8], offset: usize, bytes: &[u8], access: u32) {
        let (database, heap) = self.change(db);
        if let Some((segment, spot)) = database.directory.find_mut(hash, key) {
            let old = segment.entry(spot);
            heap.frozen.before_change(&database.walk, old);
            let old_next = old.next_deadlines();
            segment.replace(spot, old.splice(&mut heap.arena, offset, bytes));
            database.index_elements(hash, old_next, [None, None]);
        } else {
            let empty =
                Packed::build(&mut heap.arena, heap.frozen.mark(), key, access, None, StringRef::Raw(b"").into());
            let packed = empty.splice(&mut heap.arena, offset, bytes);
            database.insert(heap, hash, packed);
        }
    }
    fn remove(&mut self, db: Db, hash: u64, key: &[u8]) -> bool {
        let (database, heap) = self.change(db);
        let Some(packed) = database.take(heap, hash, key) else { return false };
        // SAFETY: the table has just forgotten it, and nobody else can hold a reference while the table is changed.
        unsafe { packed.free(&mut heap.arena) };
        true
    }
    fn set_deadline(&mut self, db: Db, hash: u64, key: &[u8], deadline: Option<Deadline>) -> bool {
        let (database, heap) = self.change(db);
        let Some((segment, spot)) = database.directory.find_mut(hash, key) else { return false };
        let old = segment.entry(spot);
        heap.frozen.before_change(&database.walk, old);
        let old_deadline = old.deadline();
        segment.replace(spot, old.with_deadline(&mut heap.arena, deadline));
        database.index(hash, old_deadline, deadline);
        true
    }
    fn rename(&mut self, from: (Db, u64, &[u8]), to: (Db, u64, &[u8])) -> bool {
        let ((from_db, from_hash, from_key), (to_db, to_hash, to_key)) = (from, to);
        assert!((from_db, from_key) != (to_db, to_key), "an entry is not renamed onto itself");
        let (database, heap) = self.change(from_db);
        let Some(packed) = database.take(heap, from_hash, from_key) else { return false };
        let packed = packed.with_key(&mut heap.arena, to_key);
        let deadline = packed.deadline();
        self.remove(to_db, to_hash, to_key);
        let (database, heap) = self.change(to_db);
        database.insert(heap, to_hash, packed);
        database.index(to_hash, None, deadline);
        database.index_elements(to_hash, [None, None], packed.next_deadlines());
        true
    }
    fn flush(&mut self, db: Db) {
        let (database, _) = self.change(db);
        let mut old = std::mem::take(database);
        old.walk = old.walk.filter(|_| self.heap.frozen.is_wanted()).map(Walk::again);
        if old.walk.is_some() {
            self.set_aside.push(old);
        } else if old.len > 0 || !old.directory.slots.is_empty() {
            self.garbage.push(old);
        }
    }
    fn swap(&mut self, a: Db, b: Db) {
        self.databases.swap(a.0 as usize, b.0 as usize);
    }
    fn reclaim(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            let is_buried = self.heap.arena.free_buried();
            let Some(database) = self.garbage.last_mut() else {
                if is_buried {
                    continue;
                }
                return false;
            };
            let segments_left = database.directory.free_last(&mut self.heap.arena);
            // As many chunks as a segment may have keys for.
            let chunks_left = database.deadlines.drain(KEYS_MAX / 16) | database.element_deadlines.drain(KEYS_MAX / 16);
            if !segments_left && !chunks_left {
                self.garbage.pop();
            }
        }
        !self.garbage.is_empty() || self.heap.arena.buried_bytes() > 0
    }

    fn freeze(&mut self) {
        self.heap.frozen.begin();
        for (number, database) in self.databases.iter_mut().enumerate() {
            database.walk = (database.len > 0).then(|| Walk::start(Db(number as u16)));
        }
    }
    fn is_frozen(&self) -> bool {
        self.heap.frozen.is_running()
    }
    fn walk_frozen(&mut self, pieces: usize) -> bool {
        let frozen = &mut self.heap.frozen;
        for _ in 0..pieces {
            if !frozen.save_rest() {
                break;
            }
            if let Some(database) = self.set_aside.last_mut() {
                if let Some(at) = database.walk_segment(frozen).expect("a database is set aside to be walked") {
                    database.directory.free_entries(at, &mut self.heap.arena);
                }
                if database.walk.is_none() {
                    self.garbage.extend(self.set_aside.pop());
                }
            } else if self.databases.iter_mut().find_map(|database| database.walk_segment(frozen)).is_none() {
                break;
            }
        }
        let is_over = self.set_aside.is_empty() && self.databases.iter().all(|database| database.walk.is_none());
        if is_over && frozen.save_rest() {
            frozen.end();
        }
        frozen.is_running()
    }
    fn frozen_bytes(&self) -> usize {
        self.heap.frozen.saved().bytes()
    }
    fn take_frozen(&mut self, empty: Vec<u8>) -> (Vec<u8>, u32) {
        self.heap.frozen.saved_mut().take(empty)
    }
    fn abandon_frozen(&mut self) {
        self.heap.frozen.saved_mut().abandon();
        self.set_aside.iter_mut().for_each(|database| database.walk = None);
        self.garbage.append(&mut self.set_aside);
    }

    fn check_invariants(&self) {
        let mut bytes = 0;
        for database in &self.databases {
            bytes += database.check_invariants(&self.heap);
        }
        for database in self.flushed() {
            bytes += database.directory.entries().map(Packed::bytes_used).sum::<usize>();
            bytes += database.directory.segments().count() * size_of::<Segment>();
        }
        let frozen = &self.heap.frozen;
        assert!(self.databases.iter().all(|database| database.walk.is_none()) || frozen.is_running());
        assert!(self.set_aside.is_empty() || frozen.is_running() && frozen.is_wanted());
        assert!(self.set_aside.iter().all(|database| database.walk.is_some()), "what is walked is set aside no longer");
        bytes += self.heap.arena.buried_bytes();
        assert_eq!(bytes, self.heap.arena.used(), "the arena counts what entries and segments take");
    }
}

impl Database {
    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<Packed> {
        let segment = self.directory.segment(prefix(hash))?;
        segment.find(hash, |packed| packed.key() == key).map(|spot| segment.entry(spot))
    }
    /// Sets the entry of a key; the deadline it has now.
    #[inline]
    fn put(
        &mut self,
        heap: &mut Heap,
        (hash, key): (u64, &[u8]),
        value: NewValue<'_>,
        deadline: NewDeadline,
        access: u32,
    ) -> Option<Deadline> {
        let (mut old_deadline, mut old_next) = (None, [None, None]);
        let (new_deadline, new_next);
        if let Some((segment, spot)) = self.directory.find_mut(hash, key) {
            let old = segment.entry(spot);
            heap.frozen.before_change(&self.walk, old);
            (old_deadline, old_next) = (old.deadline(), old.next_deadlines());
            new_deadline = deadline.resolve(old_deadline);
            let new = old.overwrite(&mut heap.arena, value, new_deadline);
            if new != old {
                segment.replace(spot, new);
            }
            new_next = new.next_deadlines();
        } else {
            new_deadline = deadline.resolve(None);
            let packed = Packed::build(&mut heap.arena, heap.frozen.mark(), key, access, new_deadline, value);
            new_next = packed.next_deadlines();
            self.insert(heap, hash, packed);
        }
        self.index(hash, old_deadline, new_deadline);
        self.index_elements(hash, old_next, new_next);
        new_deadline
    }
    /// Adds an entry whose key is not there.
    fn insert(&mut self, heap: &mut Heap, hash: u64, packed: Packed) {
        self.directory.insert(heap, hash, packed);
        self.len += 1;
    }
    /// Takes an entry out of the table and the index, but does not free it.
    fn take(&mut self, heap: &mut Heap, hash: u64, key: &[u8]) -> Option<Packed> {
        let (segment, spot) = self.directory.find_mut(hash, key)?;
        let packed = segment.entry(spot);
        heap.frozen.before_change(&self.walk, packed);
        segment.remove(spot);
        let len = segment.len();
        self.len -= 1;
        self.index(hash, packed.deadline(), None);
        self.index_elements(hash, packed.next_deadlines(), [None, None]);
        if len <= JOIN_KEYS && len.is_multiple_of(JOIN_EVERY) {
            self.directory.join(heap, prefix(hash));
        }
        Some(packed)
    }
    /// Brings the index up to date after an entry's deadline changed.
    fn index(&mut self, hash: u64, old: Option<Deadline>, new: Option<Deadline>) {
        if old != new {
            old.into_iter().for_each(|deadline| self.deadlines.remove(deadline, hash));
            new.into_iter().for_each(|deadline| self.deadlines.insert(deadline, hash));
        }
    }
    /// The same after the elements of a collection changed.
    #[inline]
    fn index_elements(&mut self, hash: u64, old: NextDeadlines, new: NextDeadlines) {
        if old != new {
            old.into_iter().flatten().for_each(|deadline| self.element_deadlines.remove(deadline, hash));
            new.into_iter().flatten().for_each(|deadline| self.element_deadlines.insert(deadline, hash));
        }
    }
    /// Saves what the walk of a frozen moment lacks of the segment it has come to, and goes on if that was all of it: where that
    /// segment was then. `None` without a walk.
    fn walk_segment(&mut self, frozen: &mut Frozen) -> Option<Option<u64>> {
        let walk = self.walk?;
        let segment = self.directory.segment(walk.at()).expect("a database that has a walk has segments");
        if !frozen.save_segment(&walk, segment) {
            return Some(None);
        }
        self.walk = walk.behind(segment.depth);
        Some(Some(walk.at()))
    }
    /// Bytes of the arena that this database's segments and entries take.
    fn check_invariants(&self, heap: &Heap) -> usize {
        let (mut len, mut deadlines, mut element_deadlines, mut bytes) = (0, 0, 0, 0);
        for segment in self.directory.segments() {
            segment.check_invariants(|packed| heap.hasher.hash(packed.key()));
            len += segment.len();
            bytes += size_of::<Segment>();
        }
        for packed in self.directory.entries() {
            let hash = heap.hasher.hash(packed.key());
            assert_eq!(self.find(hash, packed.key()), Some(packed), "every key is found");
            heap.frozen.check_entry(self.walk.as_ref(), prefix(hash), packed);
            if let Some(deadline) = packed.deadline() {
                assert!(self.deadlines.count(deadline, hash) >= 1, "every deadline is in the index");
                deadlines += 1;
            }
            for deadline in packed.next_deadlines().into_iter().flatten() {
                assert!(
                    self.element_deadlines.count(deadline, hash) >= 1,
                    "first deadlines of elements are in the index"
                );
                element_deadlines += 1;
            }
            if let Value::Large(large) = packed.entry().value() {
                large.check_invariants();
            }
            bytes += packed.bytes_used();
        }
        assert_eq!(element_deadlines, self.element_deadlines.len(), "deadlines of elements are counted");
        self.element_deadlines.check_invariants();
        assert_eq!((len, deadlines), (self.len, self.deadlines.len()), "keys and deadlines are counted");
        self.deadlines.check_invariants();
        self.directory.check_invariants();
        bytes
    }
}

/// Segments by the top `depth` bits of the prefix. A segment that fewer bits tell apart stands there several times.
#[derive(Default)]
struct Directory {
    slots: Vec<NonNull<Segment>>,
    /// Bits of the prefix that index `slots`; without segments, 0.
    depth: u32,
    segments: usize,
    /// Segments as deep as the directory: without any it can halve.
    deepest: usize,
}

impl Directory {
    fn index(&self, prefix: u64) -> usize {
        // Two shifts, since one by 64 is none.
        (prefix >> 1 >> (63 - self.depth)) as usize
    }
    #[inline]
    fn segment(&self, prefix: u64) -> Option<&Segment> {
        // SAFETY: the directory holds live segments only; they are freed through `&mut self`.
        self.slots.get(self.index(prefix)).map(|segment| unsafe { segment.as_ref() })
    }
    #[inline]
    fn segment_mut(&mut self, prefix: u64) -> Option<&mut Segment> {
        let index = self.index(prefix);
        // SAFETY: as in `segment`; `&mut self` makes this the only reference to any segment.
        self.slots.get_mut(index).map(|segment| unsafe { segment.as_mut() })
    }
    fn at(&self, index: usize) -> &Segment {
        // SAFETY: as in `segment`.
        unsafe { self.slots[index].as_ref() }
    }
    /// How often a segment stands in the directory.
    fn copies(&self, segment: &Segment) -> usize {
        1 << (self.depth - segment.depth as u32)
    }
    #[inline]
    fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<(&mut Segment, segment::Spot)> {
        let segment = self.segment_mut(prefix(hash))?;
        let spot = segment.find(hash, |packed| packed.key() == key)?;
        Some((segment, spot))
    }
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        let mut index = 0;
        std::iter::from_fn(move || {
            let segment = (index < self.slots.len()).then(|| self.at(index))?;
            index += self.copies(segment);
            Some(segment)
        })
    }
    fn entries(&self) -> impl Iterator<Item = Packed> + '_ {
        self.segments().flat_map(|segment| segment.entries())
    }
    fn bytes_used(&self) -> usize {
        self.slots.capacity() * size_of::<NonNull<Segment>>()
    }

    fn insert(&mut self, heap: &mut Heap, hash: u64, packed: Packed) {
        if self.slots.is_empty() {
            *self = Directory { slots: vec![heap.arena.alloc_segment(0)], depth: 0, segments: 1, deepest: 1 };
        }
        loop {
            let useful_depth = self.useful_depth();
            let segment = self.segment_mut(prefix(hash)).expect("a directory covers all prefixes");
            let splits = segment.len() >= SPLIT_KEYS_MIN && (segment.depth as u32) < useful_depth;
            if segment.insert(hash, packed, if splits { REACH } else { BUCKETS }) {
                return;
            }
            self.split(heap, prefix(hash));
        }
    }

    /// Without keys of equal hashes, segments get no deeper.
    fn useful_depth(&self) -> u32 {
        (self.segments.ilog2() + SKEW_BITS).max(DEPTH_IN_ORDER)
    }

    /// Splits the segment of `prefix` by one more bit.
    fn split(&mut self, heap: &mut Heap, prefix: u64) {
        let depth = self.at(self.index(prefix)).depth as u32;
        let room = self.useful_depth() + SKEW_BITS;
        assert!(depth < DEPTH_MAX.min(room), "more keys share a hash than a segment holds");
        if depth == self.depth {
            self.slots = self.slots.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
            self.deepest = 0;
        }
        let upper = heap.arena.alloc_segment(depth as u8 + 1);
        let copies = 1 << (self.depth - depth - 1);
        let first_upper = self.index(prefix) / (2 * copies) * 2 * copies + copies;
        let segment = self.segment_mut(prefix).expect("a directory covers all prefixes");
        segment.depth += 1;
        let entries = segment.entries().collect::<Vec<_>>();
        segment.clear();
        self.slots[first_upper..][..copies].fill(upper);
        self.segments += 1;
        self.deepest += if depth + 1 == self.depth { 2 } else { 0 };
        self.distribute(heap, &entries);
    }

    /// Puts entries, which were taken out of their segments, where they belong now. There is room.
    fn distribute(&mut self, heap: &Heap, entries: &[Packed]) {
        let load = |packed: &Packed| packed.lines().into_iter().for_each(prefetch);
        entries.iter().take(PREFETCH_AHEAD).for_each(load);
        for (number, &packed) in entries.iter().enumerate() {
            entries.get(number + PREFETCH_AHEAD).into_iter().for_each(load);
            let hash = heap.hasher.hash(packed.key());
            let segment = self.segment_mut(prefix(hash)).expect("a directory covers all prefixes");
            assert!(segment.insert(hash, packed, BUCKETS), "a segment holds what it held, or two sparse ones");
        }
    }

    /// Joins the segment of `prefix` with its buddy while both are nearly empty.
    fn join(&mut self, heap: &mut Heap, prefix: u64) {
        loop {
            let here = self.at(self.index(prefix));
            let depth = here.depth as u32;
            if depth == 0 {
                return;
            }
            let buddy_prefix = prefix ^ 1 << (64 - depth);
            let buddy = self.at(self.index(buddy_prefix));
            if buddy.depth as u32 != depth || here.len() > JOIN_KEYS || here.len() + buddy.len() > 2 * JOIN_KEYS {
                return;
            }
            let entries = buddy.entries().collect::<Vec<_>>();
            let (kept, gone) = (self.slots[self.index(prefix)], self.slots[self.index(buddy_prefix)]);
            let copies = self.copies(here);
            let first = self.index(buddy_prefix) / copies * copies;
            self.slots[first..][..copies].fill(kept);
            // SAFETY: the directory has just forgotten it; its entries are in `entries`.
            unsafe { heap.arena.free_segment(gone) };
            self.segment_mut(prefix).expect("a directory covers all prefixes").depth -= 1;
            self.segments -= 1;
            self.deepest -= if depth == self.depth { 2 } else { 0 };
            self.distribute(heap, &entries);
            self.halve();
        }
    }

    /// Halves the directory while no segment needs its last bit.
    fn halve(&mut self) {
        while self.depth > 0 && self.deepest == 0 {
            self.slots = self.slots.iter().step_by(2).copied().collect();
            self.depth -= 1;
            let depth = self.depth;
            self.deepest = self.segments().filter(|segment| segment.depth as u32 == depth).count();
        }
    }

    /// Frees the entries of the segment of `prefix`. The directory is as good as garbage: no search sees it.
    fn free_entries(&mut self, prefix: u64, arena: &mut Arena) {
        let segment = self.segment_mut(prefix).expect("a directory covers all prefixes");
        for packed in segment.entries() {
            // SAFETY: its segment is cleared below, and nothing refers to the content of a flushed database.
            unsafe { packed.free(arena) };
        }
        segment.clear();
    }

    /// Frees the last segment and its entries; whether there are more. The directory is garbage: no search sees it.
    fn free_last(&mut self, arena: &mut Arena) -> bool {
        let Some(&last) = self.slots.last() else { return false };
        let segment = self.at(self.slots.len() - 1);
        let copies = self.copies(segment);
        let entries = segment.entries().collect::<Vec<_>>();
        self.slots.truncate(self.slots.len() - copies);
        self.segments -= 1;
        // An entry says how long it is: all are read.
        entries.iter().for_each(|packed| prefetch(packed.lines()[0]));
        for packed in entries {
            // SAFETY: its segment is forgotten, and nothing refers to the content of a flushed database.
            unsafe { packed.free(arena) };
        }
        // SAFETY: no slot holds it any more.
        unsafe { arena.free_segment(last) };
        !self.slots.is_empty()
    }

    fn check_invariants(&self) {
        assert_eq!(self.segments().count(), self.segments, "segments are counted");
        let deepest = self.segments().filter(|segment| segment.depth as u32 == self.depth).count();
        assert_eq!(deepest, self.deepest, "the deepest segments are counted");
        let mut index = 0;
        while index < self.slots.len() {
            let copies = self.copies(self.at(index));
            assert!(index.is_multiple_of(copies), "a segment stands where its prefix says");
            assert!(self.slots[index..][..copies].iter().all(|&other| other == self.slots[index]));
            index += copies;
        }
        assert!(self.slots.is_empty() || self.slots.len() == 1 << self.depth);
    }
}

/// The hash as the directory sees it, left-aligned. Evenly spread prefixes would fill all segments at the same time, and
/// memory per key would double within a few inserts; so prefixes are bent a little, from 1.5 times the average density
/// to 0.75 times (x becomes about 2^x - 1), which makes segments split one after the other.
#[inline]
pub(super) fn prefix(hash: u64) -> u64 {
    const LINEAR: u64 = (0.6565 * (1u128 << 64) as f64) as u64;
    let slope = LINEAR + high_product(u64::MAX - LINEAR, hash);
    high_product(hash, slope)
}

fn high_product(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn prefetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program can see, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn prefetch(_line: *const u8) {}
