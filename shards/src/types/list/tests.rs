//! Both forms of a list against the simplest twin, and changes from anywhere.

use super::*;
use crate::types::kept::Kept;

fn change_twin(twin: &mut Vec<Vec<u8>>, change: ListChange<'_>) {
    let len = twin.len();
    let at_most = |count: u64| (count as usize).min(len);
    match change {
        ListChange::PushLeft { value } => twin.insert(0, value.to_vec()),
        ListChange::PushRight { value } => twin.push(value.to_vec()),
        ListChange::PopLeft { count } => drop(twin.drain(..at_most(count))),
        ListChange::PopRight { count } => twin.truncate(len - at_most(count)),
        ListChange::Set { index, value } => {
            if let Some(element) = twin.get_mut(index as usize) {
                *element = value.to_vec();
            }
        }
        ListChange::Insert { index, value } if index as usize <= len => twin.insert(index as usize, value.to_vec()),
        ListChange::Insert { .. } => {}
        ListChange::RemoveEqual { value, count, from_right } => {
            let mut equal: Vec<usize> = (0..len).filter(|at| twin[*at] == value).collect();
            if from_right {
                equal.reverse();
            }
            equal.truncate(at_most(count));
            let mut at = 0..;
            twin.retain(|_| !equal.contains(&at.next().expect("it goes on")));
        }
        ListChange::Remove { index, count } => drop(twin.drain(at_most(index)..at_most(index.saturating_add(count)))),
    }
}

#[test]
fn both_forms_do_what_a_vector_does() {
    for seed in 0..80 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let thresholds =
            Thresholds { list_node: random.choice([-1, -2, 3, 20]).expect("some"), ..Thresholds::default() };
        let longest = random.choice([4, 30, 300, 6000]).expect("some");
        let (mut kept, mut twin) = (Kept::<List>::default(), Vec::new());
        let mut clone = None;
        for step in 0..400 {
            // Some are there several times.
            let value = vec![random.u8(..5); if random.bool() { 2 } else { random.usize(..longest) }];
            let value = value.as_slice();
            let (index, count) = (random.u64(..twin.len() as u64 + 2), random.u64(..4));
            let change = match random.u32(..15) {
                0..4 => ListChange::PushLeft { value },
                4..8 => ListChange::PushRight { value },
                8 => ListChange::PopLeft { count },
                9 => ListChange::PopRight { count },
                10 => ListChange::Set { index, value },
                11 | 12 => ListChange::Insert { index, value },
                13 => ListChange::RemoveEqual { value, count: count * count, from_right: random.bool() },
                _ => ListChange::Remove { index, count: count * 3 },
            };
            let mut changes = Vec::new();
            change.encode(&mut changes);
            kept.change(&changes, &thresholds);
            change_twin(&mut twin, change);
            let view = kept.view();
            assert_eq!(view.len(), twin.len());
            assert!(view.iter().eq(twin.iter()), "step {step}");
            assert!(view.iter().rev().eq(twin.iter().rev()));
            assert_eq!(view.get(index as usize), twin.get(index as usize).map(Vec::as_slice));
            assert!(view.iter_from(index as usize).eq(twin.iter().skip(index as usize)));
            kept.large.iter().for_each(List::check_invariants);
            if step == 200 {
                clone = kept.large.clone().map(|list| (list, twin.clone()));
            }
        }
        if let Some((list, twin)) = clone {
            list.check_invariants();
            assert!(list.view().iter().eq(twin.iter()), "a clone stays as it was");
        }
        let mut changes = Vec::new();
        assert_eq!(kept.view().export(0, usize::MAX, &mut changes), None);
        for is_large in [false, true] {
            let mut copy = Kept::<List>::default();
            copy.change(&changes, &Thresholds { is_large, ..thresholds });
            assert_eq!(copy.view().digest(), kept.view().digest());
        }
        if let Some(mut list) = kept.large {
            while list.free(3) {}
            assert_eq!(list.node_bytes, 0);
        }
    }
}

#[test]
fn a_large_one_is_exported_in_pieces() {
    let mut list = List::default();
    (0..50_000).for_each(|n: u32| list.push_back(n.to_string().as_bytes(), Limit::of(-2)));
    let (mut copy, mut from, mut pieces) = (List::default(), Some(0), 0);
    while let Some(at) = from {
        let mut changes = Vec::new();
        from = list.view().export(at, 1000, &mut changes);
        copy.change(&changes, &Thresholds::default());
        pieces += 1;
    }
    assert!(pieces > 20);
    assert_eq!(copy.view().digest(), list.view().digest());
}

#[test]
fn random_changes_are_refused_or_harmless() {
    let seed = 4;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kept = Kept::<List>::default();
    for _ in 0..100_000 {
        let changes: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..9)).collect();
        if List::verify(&changes).is_ok() {
            kept.change(&changes, &Thresholds::default());
        }
    }
}

#[test]
fn a_queue_that_never_empties_keeps_its_size() {
    let (value, limit) = ([7; 40], Limit::of(-2));
    let steps: [fn(&mut List, &[u8], Limit); 3] = [
        |list, value, limit| {
            list.push_back(value, limit);
            list.pop_front(1);
        },
        |list, value, limit| {
            list.push_front(value, limit);
            list.pop_back(1);
        },
        |list, value, limit| {
            list.insert(list.len as u64 - 1, value, limit);
            list.pop_front(1);
        },
    ];
    for step in steps {
        let mut list = List::default();
        (0..50).for_each(|_| list.push_back(&value, limit));
        let before = list.bytes_used();
        for _ in 0..20_000 {
            step(&mut list, &value, limit);
            assert!(list.bytes_used() <= 4 * before);
        }
        list.check_invariants();
    }
}
