//! Lines of waiters: who is told, when, and that nobody is forgotten.

use super::*;
use crate::keyspace::{Keyspace, NewDeadline};
use std::collections::{BTreeMap, VecDeque};

const DB: Db = Db(0);

fn waiter(number: u64) -> Waiter {
    Waiter { front: ShardId(0), index: number as u32, generation: 1, number }
}

struct Fixed(BTreeMap<Vec<u8>, Kind>);

impl Kinds for Fixed {
    fn kind(&self, _: Db, key: &[u8]) -> Option<Kind> {
        self.0.get(key).copied()
    }
}

struct Shard {
    waiting: Waiting,
    content: Fixed,
}

impl Shard {
    fn new() -> Self {
        Shard { waiting: Waiting::default(), content: Fixed(BTreeMap::new()) }
    }
    fn put(&mut self, key: &str, kind: Kind) {
        self.content.0.insert(key.into(), kind);
        let edit =
            Edit::PutCollection { db: DB, key: key.as_bytes(), kind, is_large: false, changes: b"", deadline: None };
        self.waiting.edited(&edit);
    }
    fn remove(&mut self, key: &str) {
        self.content.0.remove(key.as_bytes());
        self.waiting.edited(&Edit::Remove { db: DB, key: key.as_bytes() });
    }
    fn pops(&mut self, number: u64, key: &str, kind: Kind) {
        self.waiting.join(waiter(number), kind, Readers::Exclusive, DB, key.as_bytes());
    }
    fn reads(&mut self, number: u64, key: &str) {
        self.waiting.join(waiter(number), Kind::Stream, Readers::Shared, DB, key.as_bytes());
    }
    fn wakes(&mut self) -> Vec<Wake> {
        let mut wakes = Vec::new();
        self.waiting.take_wakes(&self.content, &mut wakes);
        self.waiting.check_invariants();
        wakes
    }
    fn told(&mut self) -> Vec<u64> {
        self.wakes().iter().map(|wake| wake.waiter.number).collect()
    }
    fn again(&mut self, number: u64) {
        let heard = self.waiting.hints;
        self.waiting.again(waiter(number), heard);
    }
}

#[test]
fn those_who_take_are_told_one_at_a_time_in_the_order_of_their_coming() {
    let mut shard = Shard::new();
    (1..=3).for_each(|number| shard.pops(number, "k", Kind::List));
    assert!(shard.told().is_empty());
    shard.put("k", Kind::List);
    assert_eq!(shard.told(), [1]);
    shard.put("k", Kind::List);
    assert!(shard.told().is_empty(), "the first is still under way");
    shard.waiting.leave(waiter(1));
    assert_eq!(shard.told(), [2]);
    shard.remove("k");
    shard.waiting.leave(waiter(2));
    assert!(shard.told().is_empty(), "nothing is left for the third");
}

#[test]
fn a_push_before_the_registration_is_found() {
    let mut shard = Shard::new();
    shard.put("k", Kind::List);
    shard.pops(1, "k", Kind::List);
    assert_eq!(shard.told(), [1]);
}

#[test]
fn an_attempt_in_vain_is_not_repeated_without_an_edit() {
    let mut shard = Shard::new();
    shard.put("k", Kind::List);
    shard.pops(1, "k", Kind::List);
    assert_eq!(shard.told(), [1]);
    shard.again(1);
    assert!(shard.told().is_empty());
    shard.put("k", Kind::List);
    assert_eq!(shard.told(), [1]);
}

#[test]
fn an_edit_during_an_attempt_in_vain_is_another_hint() {
    let mut shard = Shard::new();
    shard.pops(1, "k", Kind::List);
    shard.put("k", Kind::List);
    assert_eq!(shard.told(), [1]);
    shard.remove("k");
    shard.put("k", Kind::List);
    assert!(shard.told().is_empty());
    shard.again(1);
    assert_eq!(shard.told(), [1]);
}

#[test]
fn an_answer_to_an_older_hint_leaves_a_younger_one_standing() {
    let mut shard = Shard::new();
    shard.pops(1, "a", Kind::List);
    shard.pops(1, "b", Kind::List);
    shard.put("a", Kind::List);
    let heard = shard.wakes()[0].at;
    shard.put("b", Kind::List);
    assert_eq!(shard.told(), [1]);
    shard.pops(2, "b", Kind::List);
    shard.waiting.again(waiter(1), heard);
    shard.put("b", Kind::List);
    assert!(shard.told().is_empty(), "the first is still under way for b");
}

#[test]
fn each_kind_of_value_has_its_own_first_in_line() {
    let mut shard = Shard::new();
    shard.pops(1, "k", Kind::SortedSet);
    shard.pops(2, "k", Kind::List);
    shard.put("k", Kind::List);
    assert_eq!(shard.told(), [2]);
    shard.put("k", Kind::SortedSet);
    assert_eq!(shard.told(), [1]);
}

#[test]
fn readers_are_all_told_of_every_edit_and_of_the_end() {
    let mut shard = Shard::new();
    shard.reads(1, "s");
    shard.reads(2, "s");
    assert_eq!(shard.told(), [1, 2], "what came before they did");
    (1..=2).for_each(|number| shard.again(number));
    assert!(shard.told().is_empty());
    shard.put("s", Kind::Stream);
    assert_eq!(shard.told(), [1, 2]);
    (1..=2).for_each(|number| shard.again(number));
    shard.remove("s");
    assert_eq!(shard.told(), [1, 2]);
}

#[test]
fn who_has_gone_is_never_told_and_the_next_is() {
    let mut shard = Shard::new();
    shard.pops(1, "k", Kind::List);
    shard.pops(2, "k", Kind::List);
    shard.put("k", Kind::List);
    assert_eq!(shard.told(), [1]);
    shard.waiting.leave(waiter(1));
    shard.again(1);
    assert_eq!(shard.told(), [2]);
    shard.waiting.leave(waiter(2));
    assert!(shard.waiting.is_empty() && shard.told().is_empty());
}

#[test]
fn swapped_and_renamed_keys_are_looked_at() {
    let mut keyspace = Keyspace::new(2, 1);
    let mut wakes = Vec::new();
    let mut told = |keyspace: &mut Keyspace| {
        wakes.clear();
        keyspace.take_wakes(&mut wakes);
        keyspace.check_invariants();
        wakes.iter().map(|wake| wake.waiter.number).collect::<Vec<_>>()
    };
    let mut changes = Vec::new();
    crate::types::set::SetChange::Add { member: b"x" }.encode(&mut changes);
    // Sets have no blocking commands, but the lines don't know that.
    keyspace.join_line(waiter(1), Kind::Set, Readers::Exclusive, Db(0), b"k");
    keyspace.join_line(waiter(2), Kind::Set, Readers::Exclusive, Db(0), b"l");
    keyspace.put_collection(Db(1), b"k", Kind::Set, &changes, NewDeadline::None);
    assert!(told(&mut keyspace).is_empty());
    keyspace.swap(Db(0), Db(1));
    assert_eq!(told(&mut keyspace), [1]);
    keyspace.rename(Db(0), b"k", Db(0), b"l");
    assert_eq!(told(&mut keyspace), [2]);
}

/// Random pushes, arrivals, departures, and attempts at random times after the hints: once all is quiet, nobody waits for a key
/// that has elements, and every element was taken once.
#[test]
fn no_element_stays_where_somebody_waits() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let mut shard = Shard::new();
        let mut elements: BTreeMap<&str, u32> = BTreeMap::new();
        let (mut blocked, mut hints) = (BTreeMap::new(), VecDeque::<Wake>::new());
        let (mut pushed, mut popped) = (0, 0);
        for step in 0..200 {
            let key = ["a", "b", "c"][random.usize(..3)];
            match random.u32(..4) {
                0 if step < 150 => {
                    *elements.entry(key).or_default() += 1;
                    pushed += 1;
                    shard.put(key, Kind::List);
                }
                1 if step < 150 => {
                    let keys = [key, ["a", "b", "c"][random.usize(..3)]];
                    keys.iter().for_each(|key| shard.pops(step, key, Kind::List));
                    blocked.insert(waiter(step), keys);
                }
                2 if !blocked.is_empty() && random.u32(..8) == 0 => {
                    let gone = *blocked.keys().nth(random.usize(..blocked.len())).expect("one of them");
                    blocked.remove(&gone);
                    shard.waiting.leave(gone);
                }
                _ => try_one(&mut shard, &mut elements, &mut blocked, &mut hints, &mut popped),
            }
            hints.extend(shard.wakes());
        }
        while !hints.is_empty() {
            try_one(&mut shard, &mut elements, &mut blocked, &mut hints, &mut popped);
            hints.extend(shard.wakes());
        }
        assert_eq!(pushed, popped + elements.values().sum::<u32>());
        for keys in blocked.values() {
            assert!(keys.iter().all(|key| elements.get(key).is_none_or(|left| *left == 0)), "a lost wake-up");
        }
    }
}

fn try_one<'a>(
    shard: &mut Shard,
    elements: &mut BTreeMap<&'a str, u32>,
    blocked: &mut BTreeMap<Waiter, [&'a str; 2]>,
    hints: &mut VecDeque<Wake>,
    popped: &mut u32,
) {
    let Some(wake) = hints.pop_front() else { return };
    let Some(keys) = blocked.get(&wake.waiter) else { return };
    let Some(key) = keys.iter().find(|key| elements.get(*key).is_some_and(|left| *left > 0)) else {
        return shard.waiting.again(wake.waiter, wake.at);
    };
    let left = elements.get_mut(key).expect("just looked at");
    *left -= 1;
    *popped += 1;
    if *left == 0 {
        shard.remove(key);
    } else {
        shard.put(key, Kind::List);
    }
    blocked.remove(&wake.waiter);
    shard.waiting.leave(wake.waiter);
}
