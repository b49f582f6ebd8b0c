//! What a frozen keyspace saves while everything about it changes, against a copy made at the moment of `freeze`.

use super::super::naive::Naive;
use super::super::store::Store;
use super::super::table::{Table, prefix};
use super::super::tests::{NOW, Seen, contents, key, operate};
use super::super::{Edit, Keyspace, NewDeadline};
use super::SAVED_BYTES_FULL;
use crate::units::{Db, Deadline, Now};
use std::collections::{HashMap, HashSet};

const DATABASES: u16 = 3;
const SEED: u64 = 42;

fn databases() -> impl Iterator<Item = Db> {
    (0..DATABASES).map(Db)
}

fn table(mask: u64) -> Keyspace {
    let mut keyspace = Keyspace::with_store(Table::with_mask(DATABASES, SEED, mask));
    keyspace.set_logging(false);
    keyspace
}

/// A frozen keyspace with a copy of what it held at that moment, and what came out since.
struct Snapshot<S: Store> {
    keyspace: Keyspace<S>,
    expected: Vec<(HashMap<Vec<u8>, Seen>, u64)>,
    saved: Vec<u8>,
    count: u32,
}

impl<S: Store> Snapshot<S> {
    fn new(keyspace: Keyspace<S>) -> Self {
        Snapshot { keyspace, expected: Vec::new(), saved: Vec::new(), count: 0 }
    }
    fn freeze(&mut self) {
        self.expected = databases().map(|db| (contents(&self.keyspace, db), self.keyspace.digest(db))).collect();
        self.keyspace.freeze();
        assert!(self.keyspace.is_frozen() && self.keyspace.frozen_bytes() == 0);
        (self.saved, self.count) = Default::default();
    }
    fn take(&mut self) {
        let bytes = self.keyspace.frozen_bytes();
        let (saved, count) = self.keyspace.take_frozen(Vec::new());
        assert_eq!((saved.len(), self.keyspace.frozen_bytes()), (bytes, 0));
        self.saved.extend(saved);
        self.count += count;
    }
    /// Compares what came out, once the walk is over.
    fn check(&mut self) {
        self.take();
        let (mut at, mut keys, mut count) = (0, HashSet::new(), 0);
        while at < self.saved.len() {
            let (edit, used) = Edit::decode(&self.saved[at..]).expect("edits come out");
            match edit {
                Edit::Put { db, key, .. } | Edit::PutCollection { db, key, .. } => {
                    assert!(keys.insert((db, key)), "each key comes once: {db:?} {}", key.escape_ascii());
                }
                Edit::Change { db, key, .. } => assert!(keys.contains(&(db, key)), "what follows on one that was put"),
                _ => panic!("{edit:?} puts nothing"),
            }
            at += used;
            count += 1;
        }
        assert_eq!(count, self.count);
        let mut loaded = Keyspace::new(DATABASES, self.keyspace.seed());
        assert_eq!(loaded.replay_all(&self.saved), Ok(()));
        for (db, (expected, digest)) in databases().zip(&self.expected) {
            assert!(contents(&loaded, db) == *expected, "{db:?} holds what it held");
            assert_eq!(loaded.digest(db), *digest);
        }
    }
}

/// How a walk is interleaved with changes.
#[derive(Clone, Copy, Debug)]
struct Course {
    seed: u64,
    mask: u64,
    keys: usize,
    /// Changes between two steps of the walk, at most.
    changes: usize,
    snapshots: usize,
}

/// One change, now and then of the kind that ordinary operations seldom make.
fn change<S: Store>(keyspace: &mut Keyspace<S>, random: &mut fastrand::Rng, keys: usize, now: &mut Now) {
    match random.u16(..2000) {
        0 => keyspace.flush_all(),
        1..6 => keyspace.flush(Db(random.u16(..DATABASES))),
        6..16 => keyspace.swap(Db(random.u16(..DATABASES)), Db(random.u16(..DATABASES))),
        16..26 => {
            now.steady_ms += random.u64(..100);
            now.wall_ms += random.u64(..100);
            keyspace.expire_due(*now, usize::MAX);
        }
        // Enough at once to make segments split and join.
        26..30 => (0..keys).for_each(|number| {
            keyspace.remove(Db(0), &key(number));
        }),
        30..40 => (0..keys).for_each(|number| keyspace.put(Db(0), &key(number), b"again", NewDeadline::Keep)),
        40..80 => keyspace.keep_raw(Db(random.u16(..DATABASES)), &key(random.usize(..keys))),
        80..82 => assert_eq!(keyspace.reload(), Ok(())),
        _ => drop(operate(keyspace, random, keys, *now)),
    }
}

fn walk_meanwhile(course: Course) {
    println!("{course:?}");
    let mut tested = Snapshot::new(table(course.mask));
    let mut twin = Snapshot::new(Keyspace::with_store(Naive::new(DATABASES)));
    twin.keyspace.set_logging(false);
    let (mut left, mut right) = (fastrand::Rng::with_seed(course.seed), fastrand::Rng::with_seed(course.seed));
    let mut random = fastrand::Rng::with_seed(!course.seed);
    let (mut now, mut twins_now) = (NOW, NOW);
    let mut change_both = |tested: &mut Snapshot<Table>, twin: &mut Snapshot<Naive>, changes| {
        for _ in 0..changes {
            change(&mut tested.keyspace, &mut left, course.keys, &mut now);
            change(&mut twin.keyspace, &mut right, course.keys, &mut twins_now);
        }
    };
    for _ in 0..course.snapshots {
        change_both(&mut tested, &mut twin, random.usize(..2 * course.keys));
        tested.freeze();
        twin.freeze();
        let is_abandoned = random.u8(..4) == 0;
        loop {
            change_both(&mut tested, &mut twin, random.usize(..=course.changes));
            if random.u8(..8) == 0 {
                tested.take();
                twin.take();
                tested.keyspace.reclaim(1);
                tested.keyspace.check_invariants();
            }
            if is_abandoned && random.u8(..8) == 0 {
                tested.keyspace.abandon_frozen();
                assert_eq!(tested.keyspace.frozen_bytes(), 0);
            }
            twin.keyspace.walk_frozen(1);
            if !tested.keyspace.walk_frozen(random.usize(..3)) {
                break;
            }
            assert!(tested.keyspace.is_frozen());
        }
        assert!(!tested.keyspace.is_frozen());
        tested.keyspace.check_invariants();
        while twin.keyspace.walk_frozen(1) {}
        twin.check();
        if !is_abandoned {
            tested.check();
        }
        for db in databases() {
            assert!(contents(&tested.keyspace, db) == contents(&twin.keyspace, db), "a walk changes nothing");
            assert_eq!(tested.keyspace.digest(db), twin.keyspace.digest(db));
        }
    }
    tested.keyspace.flush_all();
    while tested.keyspace.reclaim(1) {}
    assert_eq!(tested.keyspace.bytes_used(), 0);
}

#[test]
fn a_walk_saves_the_moment_of_freeze_whatever_changes_meanwhile() {
    for seed in 0..16 {
        let changes = [0, 5, 100, 1000][seed as usize % 4];
        walk_meanwhile(Course { seed, mask: u64::MAX, keys: 2_000, changes, snapshots: 3 });
    }
}

#[test]
fn a_walk_saves_keys_with_equal_hashes() {
    // All equal, equal tags, few homes.
    for (seed, mask) in [(100, 0), (101, !0xffff), (102, 0xff00_0000_0001_0000)] {
        walk_meanwhile(Course { seed, mask, keys: 150, changes: 20, snapshots: 20 });
    }
}

#[test]
fn many_short_walks_of_small_tables_follow_each_other() {
    for seed in 200..210 {
        walk_meanwhile(Course { seed, mask: u64::MAX, keys: 20, changes: 30, snapshots: 50 });
    }
}

/// A frozen table of many keys in two databases, with deadlines.
fn frozen(keys: usize) -> Snapshot<Table> {
    let mut keyspace = table(u64::MAX);
    for number in 0..keys {
        let deadline = NewDeadline::At(Deadline::after(NOW, 1 + number as u64));
        keyspace.put(Db(number as u16 % 2), &key(number), &key(number), deadline);
    }
    let mut frozen = Snapshot::new(keyspace);
    frozen.freeze();
    frozen
}

#[test]
fn entries_come_out_in_the_order_of_prefixes_and_load_in_that_order() {
    let mut snapshot = frozen(100_000);
    while snapshot.keyspace.walk_frozen(7) {
        snapshot.take();
    }
    snapshot.check();
    let (mut at, mut last) = (0, (Db(0), 0));
    while at < snapshot.saved.len() {
        let (edit, used) = Edit::decode(&snapshot.saved[at..]).expect("edits come out");
        let [Some((db, key)), None] = edit.keys() else { panic!("a put has a key") };
        // Within a segment there is no order; none of this table has fewer bits.
        let next = (db, prefix(snapshot.keyspace.store.hash(key)) >> 59);
        assert!(last <= next);
        last = next;
        at += used;
    }
}

#[test]
fn a_walk_waits_until_what_it_saved_is_taken() {
    let mut keyspace = table(u64::MAX);
    let value = vec![b'v'; SAVED_BYTES_FULL / 4];
    (0..40).for_each(|number| keyspace.put(Db(0), &key(number), &value, NewDeadline::None));
    let mut snapshot = Snapshot::new(keyspace);
    snapshot.freeze();
    let mut pauses = 0;
    while snapshot.keyspace.walk_frozen(usize::MAX) {
        assert!(snapshot.keyspace.frozen_bytes() < 2 * SAVED_BYTES_FULL, "one value too many at most");
        pauses += 1;
        snapshot.take();
    }
    assert!(pauses >= 9, "forty values, four at a time");
    snapshot.check();
}

#[test]
fn a_flushed_database_is_walked_on_and_freed_as_the_walk_goes() {
    let mut snapshot = frozen(100_000);
    snapshot.keyspace.walk_frozen(10);
    snapshot.keyspace.flush_all();
    assert!(!snapshot.keyspace.reclaim(usize::MAX), "nothing to give back: all is to be walked yet");
    (0..1_000).for_each(|number| snapshot.keyspace.put(Db(0), &key(number), b"new", NewDeadline::None));
    let mut used = snapshot.keyspace.bytes_used();
    while snapshot.keyspace.walk_frozen(1) {
        assert!(snapshot.keyspace.bytes_used() < used, "a step frees a segment's entries");
        used = snapshot.keyspace.bytes_used();
        snapshot.keyspace.check_invariants();
        snapshot.keyspace.reclaim(1);
        snapshot.take();
        used = used.min(snapshot.keyspace.bytes_used());
    }
    snapshot.check();
    while snapshot.keyspace.reclaim(1) {}
    assert_eq!(snapshot.keyspace.len(Db(0)), 1_000);
    snapshot.keyspace.check_invariants();
}

#[test]
fn what_nobody_took_is_not_part_of_the_next_moment() {
    let mut snapshot = frozen(1_000);
    while snapshot.keyspace.walk_frozen(1) {}
    assert!(snapshot.keyspace.frozen_bytes() > 0);
    snapshot.keyspace.flush_all();
    snapshot.freeze();
    assert!(!snapshot.keyspace.walk_frozen(1), "there is nothing to walk");
    snapshot.check();
    assert_eq!(snapshot.count, 0);
}
