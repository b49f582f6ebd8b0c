//! Consistent cuts against an oracle that tries every set of ends.

use super::*;
use std::collections::BTreeSet;

/// What a record's group table says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Entry {
    Held(usize),
    /// With an edit of a whole database.
    Flushing(usize),
    Closed(usize),
}
use Entry::{Closed, Flushing, Held};

type Record = Vec<Entry>;

/// What several shards' logs hold: the groups of each record, in order.
#[derive(Clone, Debug)]
struct World {
    /// Of each group.
    participants: Vec<Vec<ShardId>>,
    logs: Vec<Vec<Record>>,
}

/// Of each log, its end and what is skipped before.
type Outcome = (Vec<usize>, Vec<BTreeSet<usize>>);

impl World {
    fn record(&self, shard: usize, at: usize, settled: u64) -> Vec<u8> {
        let mut table = GroupTable::default();
        let mut edits = Vec::new();
        for entry in &self.logs[shard][at] {
            let from = edits.len();
            match entry {
                Closed(group) => table.close(id(*group)),
                Held(group) => table.push(id(*group), &self.participants[*group], from..from),
                Flushing(group) => {
                    Edit::FlushAll.encode(&mut edits);
                    table.push(id(*group), &self.participants[*group], from..edits.len());
                }
            }
        }
        let groups = table.groups(Sequence(settled));
        let groups = (!table.is_empty() || settled > 0).then_some(&groups);
        let header = RecordHeader {
            segment: SegmentId::FIRST,
            salt: 0,
            sequence: Sequence(at as u64 + 1),
            durable_mark: Sequence(at as u64),
            offset: Offset(0),
            edit_count: 0,
            wall_ms: 0,
            steady_ms: 0,
            term: 0,
        };
        let mut bytes = vec![0; record_bytes(groups, edits.len(), Layout::Bytes)];
        encode_into(&mut bytes, &header, groups, &edits, Layout::Bytes);
        bytes
    }

    /// Groups that with these ends are not held by all their participants.
    fn incomplete(&self, ends: &[usize]) -> BTreeSet<usize> {
        let mut holders = vec![0u32; self.participants.len()];
        for (shard, (log, end)) in self.logs.iter().zip(ends).enumerate() {
            for entry in log[..*end].iter().flatten() {
                match entry {
                    Held(group) | Flushing(group) => holders[*group] |= 1 << shard,
                    Closed(_) => {}
                }
            }
        }
        let all = |group: usize| self.participants[group].iter().fold(0, |mask, shard| mask | 1 << shard.0);
        (0..holders.len()).filter(|group| holders[*group] != all(*group)).collect()
    }

    /// Whether no incomplete group has to stay, as something may build on it.
    fn is_consistent(&self, ends: &[usize]) -> bool {
        let incomplete = self.incomplete(ends);
        let mut kept = self.logs.iter().zip(ends).flat_map(|(log, end)| log[..*end].iter().flatten());
        kept.all(|entry| match entry {
            Held(_) => true,
            Flushing(group) | Closed(group) => !incomplete.contains(group),
        })
    }

    /// Each log's latest end in any consistent set of ends, and what is skipped then.
    fn expected(&self) -> Outcome {
        let mut ends = vec![0; self.logs.len()];
        let mut latest = ends.clone();
        loop {
            let is_news = ends.iter().zip(&latest).any(|(end, latest)| end > latest);
            if is_news && self.is_consistent(&ends) {
                latest.iter_mut().zip(&ends).for_each(|(latest, end)| *latest = (*latest).max(*end));
            }
            let Some(at) = (0..ends.len()).find(|at| ends[*at] < self.logs[*at].len()) else { break };
            ends[at] += 1;
            ends[..at].fill(0);
        }
        assert!(self.is_consistent(&latest), "the latest ends of all consistent sets are one: {self:?}");
        let incomplete = self.incomplete(&latest);
        let skipped = self.logs.iter().zip(&latest).map(|(log, end)| {
            let held = log[..*end].iter().flatten().filter_map(|entry| match entry {
                Held(group) | Flushing(group) => Some(*group),
                Closed(_) => None,
            });
            held.filter(|group| incomplete.contains(group)).collect()
        });
        let skipped = skipped.collect();
        (latest, skipped)
    }

    /// Searches the cut as a start does, and how often a log was read again.
    fn cut(&self, settled: &[Vec<u64>]) -> (Outcome, usize) {
        let shards = 0..self.logs.len();
        let record =
            |shard: usize| (0..self.logs[shard].len()).map(move |at| self.record(shard, at, settled[shard][at]));
        let records: Vec<Vec<Vec<u8>>> = shards.clone().map(|shard| record(shard).collect()).collect();
        let (verdicts, again) = search(&records);
        let mut skipped: Vec<BTreeSet<usize>> = Vec::new();
        let mut ends = Vec::new();
        for (verdict, log) in verdicts.into_iter().zip(&self.logs) {
            assert!(verdict.skipped.is_sorted());
            let group = |id: &GroupId| (0..self.participants.len()).find(|group| self::id(*group) == *id);
            skipped.push(verdict.skipped.iter().map(|id| group(id).expect("it is one of these")).collect());
            ends.push(match verdict.cut {
                Some(cut) => {
                    let end = cut.before.0 as usize - 1;
                    assert_eq!(cut.records as usize, log.len() - end);
                    end
                }
                None => log.len(),
            });
        }
        ((ends, skipped), again)
    }
}

/// What a start decides about the logs with these records, and how often it reads one again.
pub(super) fn search(records: &[Vec<Vec<u8>>]) -> (Vec<Verdict>, usize) {
    let feed = |mut held: HeldGroups, records: &[Vec<u8>]| {
        for bytes in records {
            held.take(&super::Record::verify(bytes, SegmentId::FIRST, Some(0)).expect("it was just made"));
        }
        held
    };
    let first = |(shard, records): (usize, &Vec<Vec<u8>>)| {
        feed(HeldGroups::new(ShardId(shard as u16), Sequence::FIRST), records)
    };
    let mut search = ConsistentCut::new(records.iter().enumerate().map(first).collect());
    let mut again = 0;
    loop {
        let questions = match search.step() {
            Step::Ask(questions) => questions,
            Step::Done(verdicts) => return (verdicts, again),
        };
        assert!(!questions.is_empty());
        for question in questions {
            again += 1;
            assert!(again < 1_000, "it comes to an end");
            search.answer(feed(question.reading(), &records[question.shard.0 as usize]));
        }
    }
}

fn id(group: usize) -> GroupId {
    GroupId { front: ShardId(group as u16 % 2), number: group as u64 / 2 }
}

fn permutations(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |at: usize| {
        let rest: Vec<usize> = of.iter().copied().filter(|other| *other != of[at]).collect();
        permutations(&rest).into_iter().map(move |rest| [vec![of[at]], rest].concat())
    };
    (0..of.len()).flat_map(with_first).collect()
}

/// All choices of one of each, in turn.
fn choices<T: Clone>(of: &[Vec<T>], each: &mut impl FnMut(&[T])) {
    let mut at = vec![0; of.len()];
    loop {
        let chosen: Vec<T> = of.iter().zip(&at).map(|(of, at)| of[*at].clone()).collect();
        each(&chosen);
        let Some(turn) = (0..at.len()).find(|turn| at[*turn] + 1 < of[*turn].len()) else { return };
        at[turn] += 1;
        at[..turn].fill(0);
    }
}

/// Which groups have which participants; groups of the same participants may trade names, so only once in each order.
fn casts(groups: usize) -> Vec<Vec<Vec<ShardId>>> {
    let subsets: [&[u16]; 4] = [&[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]];
    let mut casts = Vec::new();
    choices(&vec![vec![0, 1, 2, 3]; groups], &mut |chosen| {
        if chosen.is_sorted() {
            let shards = |subset: &usize| subsets[*subset].iter().copied().map(ShardId).collect();
            casts.push(chosen.iter().map(shards).collect());
        }
    });
    casts
}

/// The orders in which `shard` may log its groups. Where it is the first participant, groups of the same participants
/// keep their order, as they may trade names.
fn orders(cast: &[Vec<ShardId>], shard: ShardId) -> Vec<Vec<usize>> {
    let own: Vec<usize> = (0..cast.len()).filter(|group| cast[*group].contains(&shard)).collect();
    let renamed = |a: usize, b: usize| a > b && cast[a] == cast[b] && cast[a][0] == shard;
    let keeps =
        |order: &Vec<usize>| (0..order.len()).all(|at| order[at + 1..].iter().all(|later| !renamed(order[at], *later)));
    permutations(&own).into_iter().filter(keeps).collect()
}

/// Every log of `shard`, as far as it goes: each group in a record of its own, in every order, and closed in any later
/// record, or in one at the end, or never.
fn logs(cast: &[Vec<ShardId>], shard: ShardId) -> BTreeSet<Vec<Record>> {
    let mut logs = BTreeSet::new();
    for order in orders(cast, shard) {
        let places: Vec<Vec<usize>> = (0..order.len()).map(|at| (at + 1..order.len() + 2).collect()).collect();
        choices(&places, &mut |closings| {
            let mut log: Vec<Record> = order.iter().map(|group| vec![Held(*group)]).collect();
            log.push(Vec::new());
            for (group, at) in order.iter().zip(closings) {
                if let Some(record) = log.get_mut(*at) {
                    record.push(Closed(*group));
                }
            }
            logs.extend((0..=log.len()).map(|length| log[..length].to_vec()));
        });
        if order.is_empty() {
            logs.insert(Vec::new());
        }
    }
    logs
}

#[test]
fn every_way_to_lose_ends_of_three_logs_leaves_the_latest_ends_that_agree() {
    let (mut cases, mut cuts, mut skips) = (0, 0, 0);
    for groups in 1..=4 {
        for cast in casts(groups) {
            let logs: Vec<Vec<Vec<Record>>> =
                (0..3).map(|shard| logs(&cast, ShardId(shard)).into_iter().collect()).collect();
            if logs.iter().map(Vec::len).product::<usize>() > CASES_PER_CAST_MAX {
                continue;
            }
            choices(&logs, &mut |logs| {
                let world = World { participants: cast.clone(), logs: logs.to_vec() };
                let settled: Vec<Vec<u64>> = world.logs.iter().map(|log| vec![0; log.len()]).collect();
                let expected = world.expected();
                cuts += expected.0.iter().zip(logs).filter(|(end, log)| **end < log.len()).count();
                skips += expected.1.iter().filter(|skipped| !skipped.is_empty()).count();
                assert_eq!(world.cut(&settled), (expected, 0), "{world:?}");
                cases += 1;
            });
        }
    }
    println!("{cases} cases, {cuts} cuts, {skips} logs with skipped groups");
    assert!(cases > 200_000 && cuts > 100_000 && skips > 100_000, "{cases} {cuts} {skips}");
}

/// Leaves out those where three shards hold three groups in all ways; there are millions.
const CASES_PER_CAST_MAX: usize = 120_000;

/// Logs of random records, some without a group, cut off anywhere.
fn random_world(random: &mut fastrand::Rng) -> World {
    let shards = random.usize(2..5);
    let groups = random.usize(1..13);
    let mut logs: Vec<Vec<Record>> = vec![Vec::new(); shards];
    let mut participants = Vec::new();
    for _ in 0..groups {
        let mut all: Vec<ShardId> = (0..shards as u16).map(ShardId).collect();
        random.shuffle(&mut all);
        all.truncate(random.usize(2..=shards));
        all.sort();
        participants.push(all);
    }
    for (shard, log) in logs.iter_mut().enumerate() {
        let mut own: Vec<usize> =
            (0..groups).filter(|group| participants[*group].contains(&ShardId(shard as u16))).collect();
        // Mostly in the order of time, as it is; neighbours trade places.
        for at in 1..own.len() {
            if random.usize(..4) == 0 {
                own.swap(at - 1, at);
            }
        }
        for group in own {
            while random.usize(..3) == 0 && log.len() < 6 {
                log.push(Vec::new());
            }
            if log.len() < 6 && random.bool() || log.is_empty() {
                log.push(Vec::new());
            }
            let entry = if random.usize(..8) == 0 { Flushing(group) } else { Held(group) };
            log.last_mut().expect("it has a record").push(entry);
        }
        for at in 0..log.len() {
            for entry in log[at].clone() {
                let later = random.usize(at + 1..log.len() + 4);
                if let (Held(group) | Flushing(group), Some(record)) = (entry, log.get_mut(later)) {
                    record.push(Closed(group));
                }
            }
        }
        let lost = random.usize(..4).min(log.len());
        log.truncate(log.len() - lost);
    }
    World { participants, logs }
}

/// Marks that say no more than what is true of the logs as they are: all groups up to there are held by all.
fn random_marks(world: &World, random: &mut fastrand::Rng) -> Vec<Vec<u64>> {
    let all: Vec<usize> = world.logs.iter().map(Vec::len).collect();
    let incomplete = world.incomplete(&all);
    let is_whole = |entry: &Entry| match entry {
        Held(group) | Flushing(group) => !incomplete.contains(group),
        Closed(_) => true,
    };
    let marks = |log: &Vec<Record>| {
        let whole = log.iter().take_while(|record| record.iter().all(is_whole)).count();
        let mut mark = 0;
        let mut next = |at: usize| {
            if random.usize(..3) == 0 {
                mark = random.u64(mark..=mark.max(whole.min(at) as u64));
            }
            mark
        };
        (0..log.len()).map(&mut next).collect()
    };
    let mut marks = marks;
    world.logs.iter().map(&mut marks).collect()
}

#[test]
fn settled_marks_save_memory_and_change_no_cut() {
    let (mut again, mut cuts, mut skips) = (0, 0, 0);
    for seed in 0..4_000 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let world = random_world(&mut random);
        let marks = random_marks(&world, &mut random);
        let expected = world.expected();
        cuts += expected.0.iter().zip(&world.logs).filter(|(end, log)| **end < log.len()).count();
        skips += expected.1.iter().filter(|skipped| !skipped.is_empty()).count();
        let (found, questions) = world.cut(&marks);
        assert_eq!(found, expected, "{world:?} {marks:?}");
        again += questions;
    }
    assert!(again > 500 && cuts > 500 && skips > 500, "marks make logs be read again: {again}; {cuts}, {skips}");
}

fn nothing_skipped(shards: usize) -> Vec<BTreeSet<usize>> {
    vec![BTreeSet::new(); shards]
}

#[test]
fn a_group_that_others_settled_long_ago_is_looked_up_and_not_skipped() {
    let pair = vec![ShardId(0), ShardId(1)];
    let log = vec![vec![Held(0)], vec![Held(1)], vec![Held(2)]];
    let world = World { participants: vec![pair.clone(); 3], logs: vec![log.clone(), log] };
    // Shard 1 knows that all but the last are safe, shard 0 knows nothing.
    let marks = vec![vec![0, 0, 0], vec![0, 1, 2]];
    assert_eq!(world.cut(&marks), ((vec![3, 3], nothing_skipped(2)), 1));
    let known = vec![vec![0, 0, 2], vec![0, 0, 2]];
    assert_eq!(world.cut(&known), ((vec![3, 3], nothing_skipped(2)), 0), "what both settled is not asked for");
}

#[test]
fn a_group_that_one_shard_skipped_and_settled_is_still_skipped_by_the_other() {
    let all: Vec<ShardId> = (0..3).map(ShardId).collect();
    let world =
        World { participants: vec![all], logs: vec![vec![vec![Held(0)], vec![]], vec![vec![], vec![Held(0)]], vec![]] };
    // Shard 0 has undone it; shard 1 was killed before it could.
    let (found, again) = world.cut(&[vec![0, 1], vec![0, 0], vec![]]);
    let skipped = vec![BTreeSet::from([0]), BTreeSet::from([0]), BTreeSet::new()];
    assert_eq!(found, (vec![2, 2, 0], skipped));
    assert!(again > 0);
}

#[test]
fn a_cut_below_a_mark_makes_that_log_be_read_again() {
    let [a, b, c] = [0, 1, 2].map(ShardId);
    // Group 0 was lost on shard 2, so shard 1 ends before the record that closes it and holds 1, and shard 0 before the
    // one that closes 1 and holds 2, which shard 2 has closed.
    let world = World {
        participants: vec![vec![b, c], vec![a, b], vec![a, c]],
        logs: vec![
            vec![vec![Held(1)], vec![Closed(1), Held(2)], vec![]],
            vec![vec![Held(0)], vec![Closed(0), Held(1)]],
            vec![vec![Held(2)], vec![Closed(2)]],
        ],
    };
    let marks = vec![vec![0, 0, 2], vec![0, 0], vec![0, 1]];
    let (found, again) = world.cut(&marks);
    let skipped = vec![BTreeSet::from([1]), BTreeSet::from([0]), BTreeSet::from([2])];
    assert_eq!(found, (vec![1, 1, 1], skipped));
    assert!(again > 0);
}

#[test]
fn an_incomplete_group_with_edits_of_whole_databases_is_cut_and_not_skipped() {
    let pair = vec![ShardId(0), ShardId(1)];
    let logs = vec![vec![vec![], vec![Flushing(0)], vec![]], vec![vec![]]];
    let world = World { participants: vec![pair], logs };
    assert_eq!(world.cut(&[vec![0; 3], vec![0]]), ((vec![1, 1], nothing_skipped(2)), 0));
}

#[test]
fn shards_that_are_not_there_hold_nothing() {
    let world = World {
        participants: vec![vec![ShardId(0), ShardId(9)]],
        logs: vec![vec![vec![], vec![Held(0)]], vec![vec![]]],
    };
    assert_eq!(world.cut(&[vec![0, 0], vec![0]]).0, (vec![2, 1], vec![BTreeSet::from([0]), BTreeSet::new()]));
}
