//! Both forms of a sorted set against the simplest twin, and changes from anywhere.

use super::*;
use crate::types::kept::Kept;
use std::collections::BTreeMap;

fn content(view: SortedSetRef<'_>, ranks: Range<usize>, backwards: bool) -> Vec<(f64, Vec<u8>)> {
    let mut found = Vec::new();
    view.visit(ranks, backwards, &mut |score, member| {
        found.push((score, member.to_vec()));
        true
    });
    found
}

fn sorted(twin: &BTreeMap<Vec<u8>, f64>) -> Vec<(f64, Vec<u8>)> {
    let mut sorted: Vec<_> = twin.iter().map(|(member, score)| (*score, member.clone())).collect();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("scores are numbers"));
    sorted
}

fn random_score(random: &mut fastrand::Rng) -> f64 {
    match random.u32(..12) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        3 => random.f64() * 1e300,
        4 => random.f64(),
        5 => (1u64 << random.u32(..64)) as f64,
        _ => random.i32(-20..20) as f64,
    }
}

#[test]
fn both_forms_do_what_a_sorted_map_does() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let thresholds = Thresholds { sorted_set_entries: 20, ..Thresholds::default() };
        let (mut kept, mut twin) = (Kept::<SortedSet>::default(), BTreeMap::new());
        let (range, steps) = if seed % 4 == 0 { (5000, 8000) } else { (random.u32(5..100), 300) };
        for step in 0..steps {
            let member = random.u32(..range).to_string().repeat(random.usize(1..3)).into_bytes();
            let score = random_score(&mut random);
            let mut changes = Vec::new();
            if random.u32(..100) < if step < steps / 2 { 80 } else { 40 } {
                SortedSetChange::Put { score, member: &member }.encode(&mut changes);
                twin.insert(member.clone(), score);
            } else if random.u32(..20) == 0 {
                let (from, count) = (random.usize(..twin.len() + 2), random.usize(..twin.len() / 8 + 2));
                SortedSetChange::RemoveRanks { from: from as u64, count: count as u64 }.encode(&mut changes);
                let removed: Vec<_> = sorted(&twin).into_iter().skip(from).take(count).collect();
                twin.retain(|member, _| !removed.iter().any(|(_, other)| other == member));
            } else {
                SortedSetChange::Remove { member: &member }.encode(&mut changes);
                twin.remove(&member);
            }
            kept.change(&changes, &thresholds);
            let view = kept.view();
            assert_eq!(view.len(), twin.len());
            assert_eq!(view.score(&member), twin.get(&member).copied());
            if step % if steps > 1000 { 500 } else { 10 } == 0 {
                let sorted = sorted(&twin);
                kept.large.iter().for_each(SortedSet::check_invariants);
                assert_eq!(content(view, 0..twin.len(), false), sorted);
                let from = random.usize(..=sorted.len());
                let to = random.usize(from..=sorted.len());
                assert_eq!(content(view, from..to, false), sorted[from..to]);
                let backwards: Vec<_> = sorted[from..to].iter().rev().cloned().collect();
                assert_eq!(content(view, from..to, true), backwards);
                for behind in [false, true] {
                    let rank = sorted.iter().filter(|(own, _)| *own < score || behind && *own == score).count();
                    assert_eq!(view.rank(&Bound::Score { score, behind }), rank);
                }
                let rank = sorted.iter().filter(|(own, other)| (*own, other.as_slice()) < (score, &member)).count();
                assert_eq!(view.rank(&Bound::Element { score, member: &member }), rank);
            }
        }
        let mut changes = Vec::new();
        assert_eq!(kept.view().export(0, usize::MAX, &mut changes), None);
        for is_large in [false, true] {
            let mut copy = Kept::<SortedSet>::default();
            copy.change(&changes, &Thresholds { is_large, ..thresholds });
            assert_eq!(copy.view().digest(), kept.view().digest());
        }
        if let Some(mut set) = kept.large {
            while set.free(10) {}
            assert_eq!(set.tree.bytes_used(), 0);
        }
    }
}

#[test]
fn members_of_one_score_are_in_their_own_order() {
    let mut set = SortedSet::new(1);
    let members: Vec<String> = (0..10_000).map(|n: u32| format!("{:05}", n * 7919 % 10_000)).collect();
    members.iter().for_each(|member| set.apply(SortedSetChange::Put { score: 1.0, member: member.as_bytes() }));
    set.check_invariants();
    let view = set.view();
    assert_eq!(view.rank(&Bound::Member { member: b"04999", behind: false }), 4999);
    assert_eq!(view.rank(&Bound::Member { member: b"04999", behind: true }), 5000);
    assert_eq!(view.rank(&Bound::Element { score: 1.0, member: b"09999" }), 9999);
}

#[test]
fn members_of_the_same_hash_are_told_apart() {
    for (seed, hash_mask) in [(1, 0), (2, 7), (3, 0xff)] {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut set, mut twin) = (SortedSet::new(seed), BTreeMap::new());
        set.places.hash_mask = hash_mask;
        for step in 0..4000 {
            let member = random.u32(..600).to_string().into_bytes();
            let score = random.u32(..30) as f64;
            // It grows, shrinks and grows again.
            if random.u32(..100) < if step % 2000 < 1000 { 80 } else { 20 } {
                set.apply(SortedSetChange::Put { score, member: &member });
                twin.insert(member, score);
            } else {
                set.apply(SortedSetChange::Remove { member: &member });
                twin.remove(&member);
            }
            if step % 100 == 0 {
                set.check_invariants();
                assert_eq!(content(set.view(), 0..twin.len(), false), sorted(&twin));
                assert!(twin.iter().all(|(member, score)| set.view().score(member) == Some(*score)));
                let mut scanned = Vec::new();
                assert_eq!(
                    set.view().scan(0, usize::MAX, &mut |score, member| scanned.push((score, member.to_vec()))),
                    0
                );
                scanned.sort_by(|a, b| a.partial_cmp(b).expect("scores are numbers"));
                assert_eq!(scanned, sorted(&twin));
            }
        }
    }
}

#[test]
fn a_clone_keeps_its_content_while_the_other_changes() {
    let mut set = SortedSet::new(1);
    let member = |n: u32| n.to_string().into_bytes();
    (0..5000).for_each(|n| set.apply(SortedSetChange::Put { score: n as f64, member: &member(n) }));
    let clone = set.clone();
    let before = clone.view().digest();
    (0..5000).step_by(3).for_each(|n| set.apply(SortedSetChange::Remove { member: &member(n) }));
    (0..5000).step_by(2).for_each(|n| set.apply(SortedSetChange::Put { score: -1.0, member: &member(n) }));
    clone.check_invariants();
    set.check_invariants();
    assert_eq!(clone.view().digest(), before);
}

#[test]
fn memory_per_member_stays_low() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut set = SortedSet::new(1);
    for n in 0..60_000 {
        let member = format!("element:{n:012}");
        set.apply(SortedSetChange::Put { score: random.u32(..1_000_000) as f64, member: member.as_bytes() });
    }
    assert!(set.bytes_used() / 60_000 <= 48, "{}", set.bytes_used() / 60_000);
}

#[test]
fn random_changes_are_refused_or_harmless() {
    let seed = 4;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kept = Kept::<SortedSet>::default();
    for _ in 0..100_000 {
        let changes: Vec<u8> = (0..random.usize(..24)).map(|_| random.u8(..4)).collect();
        if SortedSet::verify(&changes).is_ok() {
            kept.change(&changes, &Thresholds::default());
        }
    }
}
