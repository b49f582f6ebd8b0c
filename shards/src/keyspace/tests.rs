//! The table against its naive twin, and what only the table can get wrong: growth, collisions, scans meanwhile.

use super::naive::Naive;
use super::table::Table;
use super::*;
use crate::types::hash::HashChange;
use crate::types::list::ListChange;
use crate::types::set::SetChange;
use crate::types::sorted_set::SortedSetChange;
use crate::types::stream::{StreamChange, StreamId};
use std::collections::{HashMap, HashSet};

pub(super) const NOW: Now = Now { steady_ms: 1_000_000, wall_ms: 1_000_000 };

fn table(mask: u64) -> Keyspace {
    Keyspace::with_store(Table::with_mask(3, 42, mask))
}

pub(super) fn key(number: usize) -> Vec<u8> {
    format!("key:{number:08}").into_bytes()
}

/// Text (of a collection, its digest), encoding, deadline.
pub(super) type Seen = (Vec<u8>, &'static str, Option<Deadline>);

/// What a keyspace holds, as clients see it, encodings included.
pub(super) fn contents<S: Store>(keyspace: &Keyspace<S>, db: Db) -> HashMap<Vec<u8>, Seen> {
    let (mut all, mut cursor) = (HashMap::new(), ShardCursor::default());
    let never = Now::default();
    loop {
        cursor = keyspace.scan(db, cursor, 10, never, &mut |entry| {
            let value = match entry.value() {
                Value::String(value) => value.to_bytes().into_owned(),
                Value::Small(..) | Value::Large(_) => {
                    let collection = entry.collection().expect("it is no string");
                    format!("{:?} {}", collection.kind(), collection.digest()).into_bytes()
                }
            };
            let seen = (value, entry.encoding().name(), entry.deadline());
            all.insert(entry.key().to_vec(), seen);
        });
        if cursor == ShardCursor(0) {
            return all;
        }
    }
}

/// One operation, the same on both.
pub(super) fn operate<S: Store>(
    keyspace: &mut Keyspace<S>,
    random: &mut fastrand::Rng,
    keys: usize,
    now: Now,
) -> String {
    let mut any_key = || {
        let mut name = key(random.usize(..keys));
        if name.ends_with(b"7") {
            name.resize(300, b'x');
        }
        name
    };
    let (name, other) = (any_key(), any_key());
    let (db, to_db) = (Db(random.u16(..2)), Db(random.u16(..2)));
    let length = [0, 3, 16, 17, 44, 45, 200, 256, 500, 1024, 1025, 5000][random.usize(..12)];
    let bytes = vec![random.u8(b'a'..=b'z'); length];
    let deadline = match random.u8(..6) {
        0 => NewDeadline::At(Deadline::after(now, random.u64(1..2000))),
        1 => NewDeadline::At(Deadline::at(now.wall_ms + random.u64(1..2000))),
        2 => NewDeadline::Keep,
        _ => NewDeadline::None,
    };
    match random.u8(..130) {
        100.. => operate_collection(keyspace, random, (db, &name), deadline, now),
        0..30 => keyspace.put(db, &name, &bytes, deadline),
        30..45 => keyspace.put_integer(db, &name, random.i64(..) >> random.u32(..63), deadline),
        45..60 => keyspace.splice(db, &name, random.usize(..1500), &bytes),
        60..78 => return format!("{}", keyspace.remove(db, &name)),
        78..86 => return format!("{}", keyspace.set_deadline(db, &name, deadline.resolve(None))),
        86..90 => return format!("{}", keyspace.rename(db, &name, to_db, &other)),
        90..92 => return format!("{}", keyspace.rename(db, &name, db, &name)),
        92..96 => return format!("{}", keyspace.copy(db, &name, to_db, &other)),
        96..98 => {
            return format!(
                "{:?}",
                keyspace.get(db, &name, now).map(|e| e.string().map(|s| s.to_bytes().into_owned()))
            );
        }
        98 => keyspace.swap(db, to_db),
        _ => {
            if random.u8(..20) == 0 {
                keyspace.flush(db);
            }
        }
    }
    String::new()
}

/// Changes to the collection at a key, or a new one in its place; some become large, some are emptied.
fn operate_collection<S: Store>(
    keyspace: &mut Keyspace<S>,
    random: &mut fastrand::Rng,
    (db, key): (Db, &[u8]),
    deadline: NewDeadline,
    now: Now,
) {
    let there = keyspace.peek(db, key, now).and_then(|entry| entry.collection().ok()).map(|there| there.kind());
    let kind = there.filter(|_| random.u8(..10) > 0);
    let of_kind = kind.unwrap_or_else(|| random.choice(Kind::ALL).expect("there are kinds"));
    let stream = keyspace.peek(db, key, now).and_then(|entry| entry.stream().ok());
    let mut last = stream.map_or(StreamId::MIN, |stream| stream.last_id()).ms;
    let mut changes = Vec::new();
    let grows = random.u8(..3) > 0;
    for _ in 0..[1, 3, 30, 150][random.usize(..4)] {
        let element = random.u32(..200).to_string().repeat(if random.u8(..50) == 0 { 30 } else { 1 });
        let (element, count) = (element.as_bytes(), random.u64(..40));
        match (of_kind, grows) {
            (Kind::Hash, true) => {
                HashChange::Put { field: element, value: element }.encode(&mut changes);
                let deadline = match count {
                    0..2 => Some(Deadline::after(now, count * 200)),
                    2..4 => Some(Deadline::at(now.wall_ms + count * 200)),
                    _ => None,
                };
                HashChange::SetDeadline { field: element, deadline }.encode(&mut changes);
            }
            (Kind::Hash, false) => HashChange::Remove { field: element }.encode(&mut changes),
            (Kind::Set, true) => SetChange::Add { member: element }.encode(&mut changes),
            (Kind::Set, false) => SetChange::Remove { member: element }.encode(&mut changes),
            (Kind::List, true) => ListChange::PushLeft { value: element }.encode(&mut changes),
            (Kind::List, false) => ListChange::PopRight { count }.encode(&mut changes),
            (Kind::SortedSet, true) => {
                SortedSetChange::Put { score: count as f64, member: element }.encode(&mut changes);
            }
            (Kind::SortedSet, false) => SortedSetChange::Remove { member: element }.encode(&mut changes),
            (Kind::Stream, true) => {
                last += count + 1;
                let pairs = [(&b"f"[..], element), (element, b"v")].into_iter();
                StreamChange::encode_append(StreamId::new(last, count), pairs, &mut changes);
                StreamChange::GroupCreate { group: element, delivered: StreamId::MIN, read: None }.encode(&mut changes);
            }
            (Kind::Stream, false) => {
                let id = StreamId::new(random.u64(..last + 1), count);
                StreamChange::Delete { id }.encode(&mut changes);
                StreamChange::TrimTo { last: StreamId::new(count, 0) }.encode(&mut changes);
                StreamChange::GroupDestroy { group: element }.encode(&mut changes);
            }
        }
    }
    match kind {
        Some(kind) => keyspace.change(db, key, kind, &changes),
        None => keyspace.put_collection(db, key, of_kind, &changes, deadline),
    }
}

fn compare_with_twin(seed: u64, mask: u64, keys: usize, operations: usize) {
    println!("seed {seed} mask {mask:x}");
    let (mut tested, mut twin) = (table(mask), Keyspace::with_store(Naive::new(3)));
    let mut replica = Keyspace::new(3, 77);
    let (mut left, mut right) = (fastrand::Rng::with_seed(seed), fastrand::Rng::with_seed(seed));
    let mut now = NOW;
    for step in 0..operations {
        let (a, b) = (operate(&mut tested, &mut left, keys, now), operate(&mut twin, &mut right, keys, now));
        assert_eq!(a, b, "step {step}");
        assert_eq!(tested.edits(), twin.edits(), "step {step}");
        let edits = tested.take_edits(Vec::new());
        twin.take_edits(Vec::new());
        let mut at = 0;
        while at < edits.len() {
            at += replica.replay(&edits[at..]).expect("our own edit");
        }
        if step % 500 == 499 {
            now.steady_ms += 300;
            now.wall_ms += 200;
            // Which of several due keys goes first is the engine's choice: all go.
            assert_eq!(tested.next_deadline(now), twin.next_deadline(now));
            assert_eq!(tested.expire_due(now, usize::MAX), twin.expire_due(now, usize::MAX));
            twin.take_edits(Vec::new());
            let edits = tested.take_edits(Vec::new());
            let mut at = 0;
            while at < edits.len() {
                at += replica.replay(&edits[at..]).expect("our own edit");
            }
            tested.reclaim(3);
            tested.check_invariants();
            for db in (0..3).map(Db) {
                assert!(contents(&tested, db) == contents(&twin, db), "step {step}");
                assert_eq!((tested.len(db), tested.deadlines(db)), (twin.len(db), twin.deadlines(db)));
                assert_eq!(tested.digest(db), twin.digest(db));
                assert_eq!(tested.digest(db), replica.digest(db), "replayed edits give the same content");
            }
        }
    }
    assert_eq!(replica.edit_count(), 0, "a replay logs nothing");
    tested.flush_all();
    while tested.reclaim(1) {
        tested.check_invariants();
    }
    assert_eq!(tested.bytes_used(), 0);
}

#[test]
fn edits_replayed_together_do_what_they_did_one_by_one() {
    for seed in 0..8 {
        println!("seed {seed}");
        let (mut original, mut replica) = (table(u64::MAX), Keyspace::new(3, 77));
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            (0..random.usize(1..500)).for_each(|_| drop(operate(&mut original, &mut random, 100, NOW)));
            let edits = original.take_edits(Vec::new());
            assert_eq!(replica.replay_all(&edits), Ok(()));
            for db in (0..3).map(Db) {
                assert_eq!(original.digest(db), replica.digest(db));
            }
        }
        assert_eq!(replica.edit_count(), 0, "a replay logs nothing");
        replica.check_invariants();
    }
}

#[test]
fn a_replay_ends_at_the_first_edit_that_is_none() {
    let mut keyspace = Keyspace::new(1, 1);
    (0..100).for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
    let mut edits = keyspace.take_edits(Vec::new());
    edits.push(99);
    let mut replica = Keyspace::new(1, 2);
    assert_eq!(replica.replay_all(&edits), Err(EditError::UnknownKind(99)));
    assert_eq!(replica.len(Db(0)), 100);
    replica.put(Db(0), b"k", b"v", NewDeadline::None);
    assert_eq!(replica.edit_count(), 1, "and logs again afterwards");
}

#[test]
fn the_table_does_what_its_naive_twin_does() {
    for seed in 0..4 {
        compare_with_twin(seed, u64::MAX, 2000, 20_000);
    }
}

#[test]
fn keys_with_equal_tags_are_kept_apart() {
    compare_with_twin(10, !0xffff, 1500, 15_000);
}

#[test]
fn keys_that_crowd_few_buckets_are_kept_apart() {
    // One bit of the home bucket, no tag, eight bits of prefix.
    compare_with_twin(11, 0xff00_0000_0001_0000, 3000, 15_000);
}

#[test]
fn keys_with_equal_hashes_are_kept_apart() {
    compare_with_twin(12, 0, 200, 10_000);
}

#[test]
fn a_table_begins_with_the_first_prefixes_of_a_large_one() {
    // As the first keys of many millions look that come in order: 16 bits of their prefixes are the same.
    let mut keyspace = table(u64::MAX >> 16);
    (0..2_000).for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
    keyspace.check_invariants();
    assert_eq!(keyspace.len(Db(0)), 2_000);
}

#[test]
fn a_table_grows_to_many_keys_and_shrinks_to_nothing() {
    const KEYS: usize = 250_000;
    let mut keyspace = table(u64::MAX);
    keyspace.set_logging(false);
    let deadline = |number| match number % 3 {
        0 => NewDeadline::At(Deadline::after(NOW, number as u64 * 7919 % 100_000 + 1)),
        _ => NewDeadline::None,
    };
    for number in 0..KEYS {
        keyspace.put(Db(0), &key(number), &key(number), deadline(number));
    }
    keyspace.check_invariants();
    assert_eq!(keyspace.len(Db(0)), KEYS);
    let full = keyspace.bytes_used();
    for number in 0..KEYS {
        let entry = keyspace.get(Db(0), &key(number), NOW).expect("was put");
        assert_eq!(entry.string().expect("a string").to_bytes(), key(number));
        if number % 100 != 0 {
            assert!(keyspace.remove(Db(0), &key(number)));
        }
    }
    keyspace.check_invariants();
    assert!(keyspace.bytes_used() < full / 20, "{} of {full} bytes are left", keyspace.bytes_used());
    for number in (0..KEYS).step_by(100) {
        assert!(keyspace.remove(Db(0), &key(number)));
    }
    keyspace.check_invariants();
    assert!(keyspace.is_empty(Db(0)));
    assert!(keyspace.bytes_used() < 5000, "{} bytes for no keys", keyspace.bytes_used());
}

/// Scans with few keys per step while `meanwhile` changes the table; every key of `0..stable` must come.
fn scan_meanwhile(keyspace: &mut Keyspace, stable: usize, mut meanwhile: impl FnMut(&mut Keyspace, usize)) {
    let (mut cursor, mut seen, mut steps) = (ShardCursor::default(), HashSet::new(), 0);
    loop {
        cursor = keyspace.scan(Db(0), cursor, 20, NOW, &mut |entry| {
            seen.insert(entry.key().to_vec());
        });
        assert!(cursor.0 < 1 << 48, "a cursor leaves room for the shard's number");
        if cursor == ShardCursor(0) {
            break;
        }
        meanwhile(keyspace, steps);
        steps += 1;
    }
    assert!((0..stable).all(|number| seen.contains(&key(number))), "a key that stayed was not visited");
}

#[test]
fn a_scan_visits_every_key_that_stays_while_the_table_grows() {
    let mut keyspace = table(u64::MAX);
    (0..5_000).for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
    scan_meanwhile(&mut keyspace, 5_000, |keyspace, step| {
        if step < 2_000 {
            let more = 5_000 + step * 50..5_000 + step * 50 + 50;
            more.for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
        }
    });
    keyspace.check_invariants();
}

#[test]
fn a_scan_visits_every_key_that_stays_while_the_table_shrinks() {
    let mut keyspace = table(u64::MAX);
    (0..100_000).for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
    scan_meanwhile(&mut keyspace, 3_000, |keyspace, step| {
        let gone = (3_000 + step * 100).min(100_000)..(3_100 + step * 100).min(100_000);
        gone.for_each(|number| assert!(keyspace.remove(Db(0), &key(number))));
    });
    assert_eq!(keyspace.len(Db(0)), 3_000);
    keyspace.check_invariants();
}

#[test]
fn a_scan_without_changes_visits_every_key_once() {
    let mut keyspace = table(u64::MAX);
    (0..30_000).for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
    let (mut cursor, mut visits) = (ShardCursor::default(), 0);
    loop {
        cursor = keyspace.scan(Db(0), cursor, 100, NOW, &mut |_| visits += 1);
        if cursor == ShardCursor(0) {
            break;
        }
    }
    assert_eq!(visits, 30_000);
}

#[test]
fn a_cursor_nobody_gave_out_is_harmless() {
    let mut keyspace = table(u64::MAX);
    (0..5_000).for_each(|number| keyspace.put(Db(0), &key(number), b"v", NewDeadline::None));
    for cursor in [1, 0x1234_5678_9abc, (1 << 48) - 1, 1 << 48, u64::MAX] {
        keyspace.scan(Db(0), ShardCursor(cursor), 10, NOW, &mut |_| ());
        keyspace.scan(Db(1), ShardCursor(cursor), 10, NOW, &mut |_| ());
    }
}

#[test]
fn random_keys_are_nearly_uniform_and_never_expired() {
    let mut keyspace = table(u64::MAX);
    let past = NewDeadline::At(Deadline::at(1));
    (0..2_000).for_each(|number| {
        keyspace.put(Db(0), &key(number), b"v", if number % 2 == 0 { past } else { NewDeadline::None })
    });
    let (mut random, mut counts) = (Random::new(5), HashMap::new());
    for _ in 0..100_000 {
        let entry = keyspace.random(Db(0), &mut random, NOW).expect("half the keys live");
        *counts.entry(entry.key().to_vec()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 1_000);
    assert!(counts.values().all(|&count| (50..170).contains(&count)), "100 on average");
    assert!(keyspace.random(Db(1), &mut random, NOW).is_none());
    keyspace.put(Db(2), b"only", b"v", NewDeadline::None);
    assert!(keyspace.random(Db(2), &mut random, NOW).is_some());
}

#[test]
fn expiry_removes_due_keys_up_to_the_limit_on_both_clocks() {
    let mut keyspace = table(u64::MAX);
    for number in 0..100u64 {
        let relative = NewDeadline::At(Deadline::after(NOW, number + 1));
        keyspace.put(Db(0), &key(number as usize), b"v", relative);
        keyspace.put(Db(1), &key(number as usize), b"v", NewDeadline::At(Deadline::at(NOW.wall_ms + number + 1)));
    }
    assert_eq!(keyspace.next_deadline(NOW), Some(1));
    assert_eq!(keyspace.expire_due(NOW, 10), 0);
    let stepped = Now { steady_ms: NOW.steady_ms, wall_ms: NOW.wall_ms + 1000 };
    assert_eq!(keyspace.expire_due(stepped, 60), 60);
    assert_eq!(keyspace.expire_due(stepped, 60), 40, "a step of the wall clock leaves relative deadlines alone");
    assert_eq!((keyspace.len(Db(0)), keyspace.len(Db(1))), (100, 0));
    let later = Now { steady_ms: NOW.steady_ms + 50, wall_ms: 0 };
    assert!(keyspace.get(Db(0), &key(49), later).is_none() && keyspace.get(Db(0), &key(50), later).is_some());
    assert_eq!(keyspace.expire_due(later, 1000), 50);
    assert_eq!(keyspace.next_deadline(later), Some(1));
    keyspace.check_invariants();
}

#[test]
fn deadlines_in_any_order_keep_the_index_exact() {
    let mut keyspace = table(u64::MAX);
    keyspace.set_logging(false);
    let seed = 3;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let orders: [fn(usize, &mut fastrand::Rng) -> u64; 4] =
        [|n, _| n as u64, |n, _| 30_000 - n as u64, |_, random| random.u64(..1_000_000), |_, _| 500];
    for order in orders {
        for number in 0..20_000 {
            let at = Deadline::after(NOW, 1 + order(number, &mut random));
            keyspace.put(Db(0), &key(number), b"v", NewDeadline::At(at));
        }
        keyspace.check_invariants();
        for _ in 0..15_000 {
            keyspace.set_deadline(Db(0), &key(random.usize(..20_000)), None);
        }
        keyspace.check_invariants();
    }
    let with_deadline = keyspace.deadlines(Db(0));
    assert_eq!(keyspace.expire_due(Now::at(NOW.steady_ms + 2_000_000), usize::MAX), with_deadline);
    assert_eq!((keyspace.deadlines(Db(0)), keyspace.len(Db(0))), (0, 20_000 - with_deadline));
    keyspace.check_invariants();
}

#[test]
fn an_edit_from_outside_is_refused_not_believed() {
    let mut keyspace = Keyspace::new(2, 1);
    let far = Edit::Splice { db: Db(0), key: b"k", offset: u64::MAX, bytes: b"x" };
    let long = Edit::Splice { db: Db(0), key: b"k", offset: STRING_BYTES_MAX as u64, bytes: b"x" };
    for edit in [far, long] {
        assert_eq!(keyspace.replay(&edit.encode_to_vec()), Err(EditError::BadNumber));
    }
    let elsewhere = [
        Edit::Put { db: Db(2), key: b"k", value: StringRef::Integer(1), deadline: None },
        Edit::Flush { db: Db(2) },
        Edit::Swap { a: Db(0), b: Db(2) },
        Edit::Rename { db: Db(0), key: b"k", to_db: Db(2), to_key: b"k" },
    ];
    for edit in elsewhere {
        assert_eq!(keyspace.replay(&edit.encode_to_vec()), Err(EditError::NoSuchDatabase(2)));
    }
    assert_eq!(keyspace.bytes_used(), 0);
}

#[test]
fn fuzzed_edits_never_panic() {
    let seed = 9;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut keyspace = Keyspace::new(4, seed);
    for _ in 0..200_000 {
        let bytes: Vec<u8> = (0..random.usize(1..12)).map(|_| random.u8(..12)).collect();
        let _ = keyspace.replay(&bytes);
    }
    keyspace.check_invariants();
}

#[test]
fn a_splice_of_nothing_makes_no_key_and_no_edit() {
    let mut keyspace = Keyspace::new(1, 1);
    keyspace.splice(Db(0), b"k", 5, b"");
    assert_eq!((keyspace.len(Db(0)), keyspace.edit_count()), (0, 0));
    keyspace.put(Db(0), b"k", b"12", NewDeadline::None);
    keyspace.splice(Db(0), b"k", 0, b"");
    let entry = keyspace.peek(Db(0), b"k", NOW).expect("was put");
    assert_eq!((entry.encoding(), keyspace.edit_count()), (Encoding::Int, 1));
}

#[test]
fn an_access_is_noted_by_get_and_not_by_peek() {
    let mut keyspace = Keyspace::new(1, 1);
    keyspace.put(Db(0), b"k", b"v", NewDeadline::None);
    let ticket = keyspace.prefetch_bucket(Db(0), b"k");
    keyspace.prefetch_entry(Db(0), ticket);
    assert_eq!(keyspace.ticket_hash(Db(0), ticket), keyspace.key_hash(Db(0), b"k"));
    assert_eq!(keyspace.get_prefetched(Db(0), b"k", ticket, Now::at(7_000)).expect("there").access(), 7);
    assert_eq!(keyspace.peek(Db(0), b"k", Now::at(9_000)).expect("there").access(), 7);
    keyspace.get(Db(0), b"k", Now::at(9_000));
    keyspace.put(Db(0), b"k", b"w", NewDeadline::None);
    keyspace.put(Db(0), b"new", b"w", NewDeadline::None);
    assert_eq!(keyspace.peek(Db(0), b"k", NOW).expect("there").access(), 9, "a write keeps it");
    assert_eq!(keyspace.peek(Db(0), b"new", NOW).expect("there").access(), 9, "a new entry starts with the last one");
}

#[test]
fn appending_a_byte_at_a_time_keeps_the_text() {
    let mut keyspace = Keyspace::new(1, 1);
    let mut expected = Vec::new();
    for number in 0..5_000 {
        let byte = [number as u8];
        keyspace.splice(Db(0), b"k", expected.len(), &byte);
        expected.extend_from_slice(&byte);
    }
    let entry = keyspace.peek(Db(0), b"k", NOW).expect("there");
    assert_eq!(entry.string().expect("a string").to_bytes(), expected);
    keyspace.check_invariants();
}
