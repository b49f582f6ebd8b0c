//! Both forms of a set against the simplest twin, and changes from anywhere.

use super::*;
use crate::types::kept::Kept;
use std::collections::BTreeSet;

const SMALL: Thresholds = Thresholds {
    hash_entries: 0,
    hash_value_bytes: 0,
    list_node: 0,
    set_integers: 40,
    sorted_set_entries: 0,
    sorted_set_value_bytes: 0,
    stream_node_bytes: 0,
    stream_node_entries: 0,
    is_large: false,
    seed: 5,
};

#[test]
fn both_forms_do_what_an_ordered_set_does() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut kept, mut twin) = (Kept::<Set>::default(), BTreeSet::new());
        let texts = random.bool();
        let range = random.u32(5..200);
        for _ in 0..400 {
            let number = random.u32(..range) as i64;
            let member = match random.u32(..20) {
                0 if texts => format!("text {number}").into_bytes(),
                1 => (number * 100_000).to_string().into_bytes(),
                2 => (number * -10_000_000_000).to_string().into_bytes(),
                _ => number.to_string().into_bytes(),
            };
            let mut changes = Vec::new();
            if random.u32(..3) > 0 {
                SetChange::Add { member: &member }.encode(&mut changes);
                twin.insert(member);
            } else {
                SetChange::Remove { member: &member }.encode(&mut changes);
                twin.remove(&member);
            }
            kept.change(&changes, &SMALL);
            let view = kept.view();
            assert_eq!(view.len(), twin.len());
            assert_eq!(view.members().into_iter().collect::<BTreeSet<_>>(), twin);
            assert!(twin.iter().all(|member| view.contains(member)));
            assert!(!view.contains(b"nothing"));
        }
        kept.large.iter().for_each(Set::check_invariants);
        let mut changes = Vec::new();
        assert_eq!(kept.view().export(0, usize::MAX, &mut changes), None);
        for is_large in [false, true] {
            let mut copy = Kept::<Set>::default();
            copy.change(&changes, &Thresholds { is_large, ..SMALL });
            assert_eq!(copy.view().digest(), kept.view().digest());
            assert!(is_large || kept.large.is_some() || copy.view().encoding() == kept.view().encoding());
        }
    }
}

#[test]
fn a_large_one_is_exported_in_pieces() {
    let mut set = Set::new(1);
    (0..10_000).for_each(|n: u32| set.apply(SetChange::Add { member: n.to_string().as_bytes() }));
    let (mut copy, mut from, mut pieces) = (Set::new(2), Some(0), 0);
    while let Some(at) = from {
        let mut changes = Vec::new();
        from = set.view().export(at, 1000, &mut changes);
        assert!(changes.len() < 2000);
        copy.change(&changes, &SMALL);
        pieces += 1;
    }
    assert!(pieces > 20);
    assert_eq!(copy.view().digest(), set.view().digest());
}

#[test]
fn the_way_to_strings_is_one_way() {
    let mut kept = Kept::<Set>::default();
    let mut changes = Vec::new();
    SetChange::Add { member: b"1" }.encode(&mut changes);
    SetChange::Add { member: b"x" }.encode(&mut changes);
    SetChange::Remove { member: b"x" }.encode(&mut changes);
    kept.change(&changes, &SMALL);
    assert_eq!((kept.view().encoding(), kept.view().len()), ("hashtable", 1));
}

#[test]
fn random_changes_are_refused_or_harmless() {
    let seed = 4;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kept = Kept::<Set>::default();
    for _ in 0..100_000 {
        let changes: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..6)).collect();
        if Set::verify(&changes).is_ok() {
            kept.change(&changes, &SMALL);
        }
    }
}
