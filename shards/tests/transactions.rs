//! The rules of transactions over several shards, under every interleaving of messages in small cases and under many in
//! larger ones: nobody hangs, nobody is forgotten, nobody sees half a transaction or an old value.
//!
//! Participants and acquisitions are the real ones; messages, fronts and what runs are a model (`world`). What a plan says is
//! in `plan`, what clients saw in `history`, and the order of things in `explore`. Mistakes planted in the model prove that
//! the checks see them.
//!
//! `SHARDIS_TRANSACTIONS_STATES=100000000` and `SHARDIS_TRANSACTIONS_SEEDS=1000000` for the long forms,
//! `SHARDIS_TRANSACTIONS_SEED=n` to begin at a seed.

#[path = "transactions/explore.rs"]
mod explore;
#[path = "transactions/history.rs"]
mod history;
#[path = "transactions/plan.rs"]
mod plan;
#[path = "transactions/world.rs"]
mod world;

use explore::{Explored, Found, all_orders, one_order};
use plan::{Case, Kind, Lanes, Part, Plan, Planted};
use shards::transaction::Access::{self, Read, Write};
use world::Violation;

#[test]
fn who_waits_with_intents_elsewhere_is_never_overtaken() {
    // A reader passed by somebody older must not take the reader behind it along, which holds intents elsewhere.
    let oldest = [Part::of(0, &[(0, Write)]), Part::whole(0, Write)];
    for first in oldest {
        let case = Case::new(
            3,
            1,
            vec![
                plan(Kind::OneShot, 2, [first, write(1)]),
                plan(Kind::Single, 0, [Part::of(0, &[(0, Read)])]),
                plan(Kind::OneShot, 1, [Part::of(0, &[(0, Read)]), write(1)]),
                plan(Kind::OneShot, 0, [write(0), write(2)]),
            ],
        );
        let mut sum = Sum::default();
        sum.add(&case);
        sum.print("overtaking");
    }
}

#[test]
fn every_pair_of_claims_of_two_shards_and_two_keys() {
    let mut sum = Sum::default();
    let claims = claims_of_two_shards(2);
    for (at, older) in claims.iter().enumerate() {
        // Shards and keys have no order: one of each set of mirror images is enough, chosen by the older claim.
        if mirrored(*older).iter().any(|image| claims[..at].contains(image)) {
            continue;
        }
        for younger in &claims {
            if !conflict(*older, *younger) {
                continue;
            }
            // Shards 2 and 3 are fronts that have no part in it.
            for (front, other) in (0..9).map(|fronts| (fronts / 3, fronts % 3)).chain([(2, 3)]) {
                sum.add(&Case::new(4, 2, vec![one_shot(front, *older), one_shot(other, *younger)]));
            }
        }
    }
    sum.print("pairs");
}

#[test]
fn every_triple_of_claims_of_two_shards() {
    let mut sum = Sum::default();
    let claims = claims_of_two_shards(1);
    for number in 0..claims.len().pow(3) {
        let claim = |at: u32| claims[number / claims.len().pow(at) % claims.len()];
        let [oldest, middle, youngest] = [claim(0), claim(1), claim(2)];
        if !conflict(oldest, middle) && !conflict(middle, youngest) && !conflict(oldest, youngest) {
            continue;
        }
        for fronts in 0..4 {
            let plans = vec![one_shot(0, oldest), one_shot(fronts / 2, middle), one_shot(fronts % 2, youngest)];
            sum.add(&Case::new(2, 1, plans));
        }
        let spread = [oldest, middle, youngest].iter().all(|claim| claim[0] > 0 && claim[2] > 0);
        if spread && (number % 5 == 0 || states_budget() > STATES) {
            // All from shards that have no part in it: nothing is granted without a message.
            let plans = vec![one_shot(2, oldest), one_shot(3, middle), one_shot(4, youngest)];
            sum.add(&Case::new(5, 1, plans));
        }
    }
    sum.print("triples");
}

#[test]
fn rings_of_three_shards_with_lanes_of_any_kind() {
    let mut sum = Sum::default();
    for kind in [Kind::OneShot, Kind::Watched { broken: true }, Kind::Watched { broken: false }, Kind::Stepwise] {
        for lanes in [Lanes::Shared, Lanes::Apart] {
            for capacity in [1, 2, usize::MAX] {
                // Each has one part at home, and each but the first might wait for the next.
                let mut plans: Vec<Plan> =
                    (0..3).map(|at| plan(Kind::OneShot, at, [write(at), write((at + 1) % 3)])).collect();
                plans[1].kind = kind;
                plans.push(plan(Kind::Single, 0, [Part::of(0, &[(0, Read)])]));
                let may_stop = capacity == 1;
                sum.add(&Case { lanes, capacity, may_stop, ..Case::new(3, 1, plans) });
            }
        }
    }
    sum.print("rings");
}

#[test]
fn small_cases_of_all_kinds_drawn_by_number() {
    let mut sum = Sum::default();
    for seed in 0.. {
        let mut random = fastrand::Rng::with_seed(seed);
        let shards = random.usize(2..4);
        let (keys, plans) = (random.u32(shards as u32..shards as u32 + 3), random.usize(2..5));
        let case = draw(&mut random, shards, keys, plans, 3);
        let _told = ToldOnPanic("case", seed);
        sum.add_within(&case, states_budget() / 10);
        if sum.states > states_budget() {
            break;
        }
    }
    sum.print("drawn");
}

#[test]
fn many_transactions_over_eight_shards_in_random_order() {
    let first = from_env("SHARDIS_TRANSACTIONS_SEED", 0);
    let seeds = from_env("SHARDIS_TRANSACTIONS_SEEDS", SEEDS);
    let (mut steps, mut yields, mut yields_max) = (0, 0, 0);
    for seed in first..first + seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let _told = ToldOnPanic("SHARDIS_TRANSACTIONS_SEED", seed);
        let case = draw(&mut random, 8, 12, 40, 6);
        match one_order(&case, &mut random) {
            Ok(run) => {
                steps += run.states;
                yields += run.yields_max;
                yields_max = yields_max.max(run.yields_max);
            }
            Err(found) => panic!("{found:?} in {case:#?}"),
        }
    }
    println!("random: {seeds} seeds from {first}, {steps} steps, {yields} yields, at most {yields_max} in a run");
    assert!(yields > 0);
}

#[test]
fn planted_mistakes_are_found() {
    use Violation::{
        AskedTwice, Deadlock, HoldersConflict, LookedWrong, NotSerializable, Overtaken, RanBesideAHolder,
        RanWithoutItsIntents,
    };
    // By the checks from inside, and by what a client could notice.
    let expected: [(Planted, &[Violation], Violation); 6] = [
        (Planted::RunsBeforeAllHold, &[RanWithoutItsIntents, Violation::RanBeforeAllHeld], NotSerializable),
        (Planted::ReleasesBeforeItRuns, &[RanWithoutItsIntents], NotSerializable),
        (Planted::ForgetsAKey, &[HoldersConflict, RanBesideAHolder, LookedWrong], NotSerializable),
        (Planted::TakesOldAnswers, &[RanWithoutItsIntents, AskedTwice], NotSerializable),
        (Planted::NeverYields, &[Deadlock, Overtaken], Deadlock),
        (Planted::GrantsPastOthers, &[HoldersConflict], NotSerializable),
    ];
    for (planted, inside, outside) in expected {
        for from_outside in [false, true] {
            let found = first_found(planted, from_outside);
            let Found { violation, schedule } = found.unwrap_or_else(|| panic!("{planted:?} wasn't found"));
            println!("{planted:?}, from outside: {from_outside}: {violation:?} after {} actions", schedule.len());
            let as_expected = if from_outside { violation == outside } else { inside.contains(&violation) };
            assert!(as_expected, "{planted:?}, from outside: {from_outside}: {violation:?} after {schedule:?}");
        }
    }
}

/// States of the drawn cases together; one that has more than a tenth of them is explored in part.
const STATES: usize = 500_000;
const SEEDS: u64 = 8_000;

fn states_budget() -> usize {
    from_env("SHARDIS_TRANSACTIONS_STATES", STATES as u64) as usize
}

fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Says how to come back to where an assertion failed, be it one of the real code.
struct ToldOnPanic(&'static str, u64);

impl Drop for ToldOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}={}", self.0, self.1);
        }
    }
}

#[derive(Default)]
struct Sum {
    cases: usize,
    left_out: usize,
    states: usize,
    yields_max: usize,
}

impl Sum {
    fn add(&mut self, case: &Case) {
        self.add_within(case, usize::MAX);
    }
    fn add_within(&mut self, case: &Case, states_max: usize) {
        match all_orders(case, states_max) {
            Ok(Explored { states, yields_max, complete, .. }) => {
                self.cases += 1;
                self.left_out += !complete as usize;
                self.states += states;
                self.yields_max = self.yields_max.max(yields_max);
            }
            Err(found) => panic!("{found:?} in {case:#?}"),
        }
    }
    fn print(&self, what: &str) {
        let Sum { cases, left_out, states, yields_max } = self;
        println!("{what}: {states} states of {cases} cases, {left_out} of them in part; at most {yields_max} yields");
    }
}

fn plan<const N: usize>(kind: Kind, front: usize, parts: [Part; N]) -> Plan {
    Plan { kind, front, parts: parts.to_vec() }
}

fn write(shard: usize) -> Part {
    Part::of(shard, &[(0, Write)])
}

/// 0 for nothing, 1 reads, 2 writes: keys 0 and 1 of shard 0, then those of shard 1.
type TwoShards = [u8; 4];

fn claims_of_two_shards(keys: usize) -> Vec<TwoShards> {
    let claim = |number: usize| [number % 3, number / 3 % 3, number / 9 % 3, number / 27].map(|access| access as u8);
    (1..81).map(claim).filter(|claim| keys == 2 || claim[1] + claim[3] == 0).collect()
}

fn mirrored([a, b, c, d]: TwoShards) -> [TwoShards; 7] {
    [[b, a, c, d], [a, b, d, c], [b, a, d, c], [c, d, a, b], [d, c, a, b], [c, d, b, a], [d, c, b, a]]
}

fn conflict(one: TwoShards, other: TwoShards) -> bool {
    one.iter().zip(other).any(|(one, other)| *one > 0 && other > 0 && *one + other > 2)
}

fn one_shot(front: usize, claim: TwoShards) -> Plan {
    let access = |access: u8| match access {
        0 => None,
        1 => Some(Read),
        _ => Some(Write),
    };
    let part = |shard: usize| {
        let keys = (0..2).filter_map(|key| Some((key, access(claim[shard * 2 + key as usize])?)));
        let keys = keys.collect::<Vec<(u32, Access)>>();
        (!keys.is_empty()).then(|| Part::of(shard, &keys))
    };
    Plan { kind: Kind::OneShot, front, parts: (0..2).filter_map(part).collect() }
}

/// A case of `count` transactions and single commands, of up to `touched_max` keys each.
fn draw(random: &mut fastrand::Rng, shards: usize, keys: u32, count: usize, touched_max: usize) -> Case {
    let plans = (0..count).map(|_| draw_plan(random, shards, keys, touched_max)).collect();
    let lanes = if random.bool() { Lanes::Shared } else { Lanes::Apart };
    let capacity = [1, 2, usize::MAX][random.usize(0..3)];
    let may_stop = random.u8(0..4) == 0;
    Case { lanes, capacity, may_stop, ..Case::new(shards, (keys as usize).div_ceil(shards), plans) }
}

fn draw_plan(random: &mut fastrand::Rng, shards: usize, keys: u32, touched_max: usize) -> Plan {
    let kind = match random.u8(0..20) {
        0..5 => Kind::Single,
        5..14 => Kind::OneShot,
        14 => Kind::Watched { broken: true },
        15..17 => Kind::Watched { broken: false },
        17..19 => Kind::Stepwise,
        _ => Kind::Abandoned,
    };
    let mut touched: Vec<Vec<(u32, Access)>> = vec![Vec::new(); shards];
    let first = random.u32(0..keys);
    for at in 0..random.usize(1..touched_max + 1) as u32 {
        let anywhere = (first + at * random.u32(1..keys)) % keys;
        let at_home = first % shards as u32;
        let key = if kind == Kind::Single { at_home } else { anywhere };
        let access = if random.u8(0..3) == 0 { Read } else { Write };
        touched[key as usize % shards].push((key / shards as u32, access));
    }
    let mut parts = Vec::new();
    for (shard, keys) in touched.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
        let whole = random.u8(0..15) == 0;
        parts.push(if whole { Part::whole(shard, keys[0].1) } else { Part::of(shard, keys) });
    }
    random.shuffle(&mut parts);
    let front = if kind == Kind::Single { parts[0].shard } else { random.usize(0..shards) };
    Plan { kind, front, parts }
}

/// The first violation in a few small cases with a planted mistake.
fn first_found(planted: Planted, from_outside: bool) -> Option<Found> {
    let two = |front, a: usize, b: usize| plan(Kind::OneShot, front, [write(a), write(b)]);
    let two_keys = Part::of(0, &[(0, Write), (1, Write)]);
    let read = |key| plan(Kind::Single, 0, [Part::of(0, &[(key, Read)])]);
    let cases = [
        vec![plan(Kind::OneShot, 1, [two_keys, write(1)]), read(0), read(1)],
        vec![two(0, 0, 1), two(1, 0, 1)],
        vec![two(2, 0, 1), two(2, 0, 1)],
        vec![plan(Kind::OneShot, 0, [write(0), write(1)]), two(1, 0, 1), two(2, 0, 1)],
        vec![plan(Kind::OneShot, 2, [Part::of(0, &[(0, Write), (1, Write)]), write(1)]), two(1, 0, 1), read(0)],
    ];
    let cases = cases.map(|plans| Case { planted, from_outside, ..Case::new(3, 2, plans) });
    cases.iter().find_map(|case| all_orders(case, usize::MAX).err())
}
