//! Both forms of a hash against the simplest twin, and changes from anywhere.

use super::*;
use crate::random::Random;
use crate::units::DeadlineKind;
use std::collections::{BTreeMap, BTreeSet};

/// A hash as the keyspace keeps it.
#[derive(Default)]
struct Kept {
    pack: Vec<u8>,
    large: Option<Hash>,
}

impl Kept {
    fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        assert_eq!(Hash::verify(changes), Ok(()));
        match &mut self.large {
            Some(large) => large.change(changes, thresholds),
            None => self.large = Hash::change_small(&mut self.pack, changes, thresholds),
        }
    }
    fn view(&self) -> HashRef<'_> {
        self.large.as_ref().map_or_else(|| Hash::view_small(&self.pack), Hash::view)
    }
}

/// Values and deadlines by fields.
type Twin = BTreeMap<Vec<u8>, (Vec<u8>, Option<Deadline>)>;

/// The clocks go to 1000 in these tests.
fn some_deadline(random: &mut fastrand::Rng) -> Deadline {
    let kind = if random.bool() { DeadlineKind::Relative } else { DeadlineKind::Absolute };
    Deadline::new(kind, random.u64(1..1000))
}

fn change_both(twin: &mut Twin, changes: &mut Vec<u8>, random: &mut fastrand::Rng, (field, value): (&[u8], &[u8])) {
    let change = match random.u32(..10) {
        0..4 => HashChange::Put { field, value },
        4..6 => HashChange::PutKeeping { field, value },
        6..8 => HashChange::Remove { field },
        8 => HashChange::SetDeadline { field, deadline: Some(some_deadline(random)) },
        _ => HashChange::SetDeadline { field, deadline: None },
    };
    change.encode(changes);
    match change {
        HashChange::Put { field, value } => drop(twin.insert(field.to_vec(), (value.to_vec(), None))),
        HashChange::PutKeeping { field, value } => twin.entry(field.to_vec()).or_default().0 = value.to_vec(),
        HashChange::Remove { field } => drop(twin.remove(field)),
        HashChange::SetDeadline { field, deadline } => {
            twin.entry(field.to_vec()).and_modify(|(_, old)| *old = deadline);
        }
    }
}

/// That a hash holds what its twin does, and shows at a time what hasn't expired by then.
fn compare(view: HashRef<'_>, twin: &Twin, now: Now) {
    let mut content = Twin::new();
    view.visit(&mut |Element { field, value, deadline }| {
        content.insert(field.to_vec(), (value.to_vec(), deadline));
    });
    assert_eq!(content, *twin);
    assert_eq!(view.len(), twin.len());
    let deadlines = || twin.values().filter_map(|(_, deadline)| *deadline);
    assert_eq!(view.next_deadlines(), by_clock(deadlines()));
    assert_eq!(view.is_limited(), deadlines().count() > 0);

    let is_due = |deadline: Option<Deadline>| deadline.is_some_and(|deadline| deadline.is_due(now));
    let live = view.at(now);
    let mut seen = BTreeMap::new();
    live.visit(&mut |field, value| drop(seen.insert(field.to_vec(), value.to_vec())));
    let expected = twin.iter().filter(|(_, (_, deadline))| !is_due(*deadline));
    let expected: BTreeMap<_, _> = expected.map(|(field, (value, _))| (field.clone(), value.clone())).collect();
    assert_eq!(seen, expected);
    assert_eq!((live.len(), live.is_empty()), (expected.len(), expected.is_empty()));
    for (field, (value, deadline)) in twin {
        let shown = (!is_due(*deadline)).then_some((&value[..], *deadline));
        assert_eq!(live.find(field), shown);
        assert_eq!(live.get(field), shown.map(|(value, _)| value));
    }
    let (mut scanned, mut cursor) = (BTreeSet::new(), 0);
    loop {
        cursor = live.scan(cursor, 10, &mut |field, _| {
            scanned.insert(field.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert!(scanned.iter().eq(expected.keys()));
    let drawn = live.random(&mut Random::new(now.steady_ms));
    assert_eq!(drawn.is_none(), expected.is_empty());
    assert!(drawn.is_none_or(|(field, value)| expected[field] == value));
}

#[test]
fn both_forms_do_what_an_ordered_map_does() {
    let thresholds = Thresholds { hash_entries: 30, hash_value_bytes: 20, ..Thresholds::default() };
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut kept, mut twin) = (Kept::default(), Twin::new());
        let (range, longest) = (random.u32(5..100), random.usize(15..24));
        for _ in 0..400 {
            let mut changes = Vec::new();
            for _ in 0..random.usize(1..4) {
                let field = random.u32(..range).to_string().into_bytes();
                let value = vec![b'v'; random.usize(..longest)];
                change_both(&mut twin, &mut changes, &mut random, (&field, &value));
            }
            kept.change(&changes, &thresholds);
            compare(kept.view(), &twin, Now { steady_ms: random.u64(..1000), wall_ms: random.u64(..1000) });
            kept.large.iter().for_each(Hash::check_invariants);
        }
        let mut changes = Vec::new();
        assert_eq!(kept.view().export(0, usize::MAX, &mut changes), None);
        for is_large in [false, true] {
            let mut copy = Kept::default();
            copy.change(&changes, &Thresholds { is_large, ..thresholds });
            assert_eq!(copy.view().digest(), kept.view().digest());
        }
    }
}

#[test]
fn what_is_due_is_removed_a_limit_at_a_time() {
    for is_large in [false, true] {
        let thresholds = Thresholds { is_large, ..Thresholds::default() };
        let (mut kept, mut twin, mut random) = (Kept::default(), Twin::new(), fastrand::Rng::with_seed(1));
        for _ in 0..400 {
            let mut changes = Vec::new();
            let field = random.u32(..200).to_string().into_bytes();
            change_both(&mut twin, &mut changes, &mut random, (&field, b"v"));
            kept.change(&changes, &thresholds);
        }
        let now = Now { steady_ms: 500, wall_ms: 300 };
        loop {
            let mut changes = Vec::new();
            let due = kept.view().len() - kept.view().at(now).len();
            assert_eq!(kept.view().expire(now, 3, &mut changes), due.min(3));
            if due == 0 {
                break;
            }
            kept.change(&changes, &thresholds);
        }
        twin.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| !deadline.is_due(now)));
        compare(kept.view(), &twin, now);
    }
}

#[test]
fn the_last_deadline_takes_its_place_with_it() {
    for (is_large, with, without) in [(false, "listpackex", "listpack"), (true, "hashtable", "hashtable")] {
        let thresholds = Thresholds { is_large, ..Thresholds::default() };
        let mut kept = Kept::default();
        let mut change = |change: HashChange<'_>| {
            let mut changes = Vec::new();
            change.encode(&mut changes);
            kept.change(&changes, &thresholds);
            let bytes = kept.large.as_ref().map_or(kept.pack.len(), Hash::bytes_used);
            (kept.view().encoding(), bytes)
        };
        let before = change(HashChange::Put { field: b"f", value: b"v" });
        assert_eq!(before.0, without);
        let deadline = Some(Deadline::at(5));
        assert_eq!(change(HashChange::SetDeadline { field: b"f", deadline }).0, with);
        assert_eq!(change(HashChange::SetDeadline { field: b"f", deadline: None }), before);
        assert_eq!(change(HashChange::SetDeadline { field: b"other", deadline }), before);
        assert_eq!(change(HashChange::SetDeadline { field: b"f", deadline }).0, with);
        assert_eq!(change(HashChange::Put { field: b"f", value: b"v" }), before);
    }
}

#[test]
fn deadlines_beyond_what_one_holds_are_refused() {
    for bits in [1, (Deadline::MS_MAX + 1) << 1, u64::MAX] {
        let mut changes = Vec::new();
        HashChange::SetDeadline { field: b"f", deadline: Deadline::from_bits(bits) }.encode(&mut changes);
        assert_eq!(Hash::verify(&changes), Err(EditError::BadNumber), "{bits}");
    }
}

#[test]
fn random_changes_are_refused_or_harmless() {
    let seed = 4;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut both = [Kept::default(), Kept::default()];
    for step in 0..100_000 {
        let changes: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..6)).collect();
        if Hash::verify(&changes).is_err() {
            continue;
        }
        for (kept, is_large) in both.iter_mut().zip([false, true]) {
            kept.change(&changes, &Thresholds { is_large, ..Thresholds::default() });
            if step % 100 == 0 {
                kept.large.iter().for_each(Hash::check_invariants);
            }
        }
        assert_eq!(both[0].view().digest(), both[1].view().digest());
    }
}
