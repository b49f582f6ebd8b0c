//! The consistent cut against an oracle that tries every set of ends.

use super::*;

/// What several shards' logs hold: the groups of each record, in order.
#[derive(Clone, Debug)]
struct World {
    /// Of each group.
    participants: Vec<Vec<ShardId>>,
    logs: Vec<Vec<Vec<usize>>>,
}

impl World {
    fn record(&self, shard: usize, at: usize, settled: u64) -> Vec<u8> {
        let mut table = GroupTable::default();
        for group in &self.logs[shard][at] {
            table.push(id(*group), &self.participants[*group]);
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
        let mut bytes = vec![0; record_bytes(groups, 0, Layout::Bytes)];
        encode_into(&mut bytes, &header, groups, &[], Layout::Bytes);
        bytes
    }

    fn feed(&self, held: &mut HeldGroups, records: &[Vec<u8>]) {
        for bytes in records {
            held.take(&Record::verify(bytes, SegmentId::FIRST, Some(0)).expect("it was just made"));
        }
    }

    /// Whether the logs agree when each ends after so many records. As a mask of shards, for each group.
    fn is_consistent(&self, ends: &[usize]) -> bool {
        let mut holders = vec![0u32; self.participants.len()];
        for (shard, (log, end)) in self.logs.iter().zip(ends).enumerate() {
            log[..*end].iter().flatten().for_each(|group| holders[*group] |= 1 << shard);
        }
        let all = |participants: &[ShardId]| participants.iter().fold(0, |mask, shard| mask | 1 << shard.0);
        holders.iter().zip(&self.participants).all(|(held, participants)| *held == 0 || *held == all(participants))
    }

    /// Each log's latest end in any consistent set of ends.
    fn latest_ends(&self) -> Vec<usize> {
        let mut ends = vec![0; self.logs.len()];
        let mut latest = ends.clone();
        loop {
            if self.is_consistent(&ends) {
                latest.iter_mut().zip(&ends).for_each(|(latest, end)| *latest = (*latest).max(*end));
            }
            let Some(at) = (0..ends.len()).find(|at| ends[*at] < self.logs[*at].len()) else { break };
            ends[at] += 1;
            ends[..at].fill(0);
        }
        assert!(self.is_consistent(&latest), "the latest ends of all consistent sets are one: {self:?}");
        latest
    }

    /// Searches the cut as a start does. The ends, and how often a log was read again.
    fn cut(&self, settled: &[Vec<u64>]) -> (Vec<usize>, usize) {
        let shards = 0..self.logs.len();
        let record =
            |shard: usize| (0..self.logs[shard].len()).map(move |at| self.record(shard, at, settled[shard][at]));
        let records: Vec<Vec<Vec<u8>>> = shards.clone().map(|shard| record(shard).collect()).collect();
        let mut held: Vec<HeldGroups> = shards.map(|shard| HeldGroups::new(ShardId(shard as u16))).collect();
        held.iter_mut().zip(&records).for_each(|(held, records)| self.feed(held, records));
        let mut search = ConsistentCut::new(held);
        let mut again = 0;
        loop {
            let questions = match search.step() {
                Step::Ask(questions) => questions,
                Step::Done(cuts) => {
                    let end = |(cut, log): (Option<GroupCut>, &Vec<_>)| match cut {
                        Some(cut) => {
                            let end = cut.before.0 as usize - 1;
                            assert_eq!(cut.records as usize, log.len() - end);
                            end
                        }
                        None => log.len(),
                    };
                    return (cuts.into_iter().zip(&self.logs).map(end).collect(), again);
                }
            };
            assert!(!questions.is_empty());
            for question in questions {
                again += 1;
                assert!(again < 1_000, "it comes to an end");
                let mut held = question.reading();
                self.feed(&mut held, &records[question.shard.0 as usize]);
                search.answer(held);
            }
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

#[test]
fn every_way_to_lose_ends_of_three_logs_leaves_the_latest_ends_that_agree() {
    let mut cases = 0;
    for groups in 1..=4 {
        for cast in casts(groups) {
            let orders: Vec<Vec<Vec<usize>>> = (0..3).map(|shard| orders(&cast, ShardId(shard))).collect();
            choices(&orders, &mut |order| {
                let lengths: Vec<Vec<usize>> = order.iter().map(|order| (0..=order.len()).collect()).collect();
                choices(&lengths, &mut |length| {
                    // Each group in its own record.
                    let log =
                        |(order, length): (&Vec<usize>, &usize)| order[..*length].iter().map(|g| vec![*g]).collect();
                    let logs: Vec<Vec<Vec<usize>>> = order.iter().zip(length).map(log).collect();
                    let world = World { participants: cast.clone(), logs };
                    let settled: Vec<Vec<u64>> = world.logs.iter().map(|log| vec![0; log.len()]).collect();
                    assert_eq!(world.cut(&settled), (world.latest_ends(), 0), "{world:?}");
                    cases += 1;
                });
            });
        }
    }
    assert!(cases > 100_000, "{cases}");
}

/// Logs of random records, some without a group, cut off anywhere.
fn random_world(random: &mut fastrand::Rng) -> World {
    let shards = random.usize(2..5);
    let groups = random.usize(1..13);
    let mut logs: Vec<Vec<Vec<usize>>> = vec![Vec::new(); shards];
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
            log.last_mut().expect("it has a record").push(group);
        }
        let lost = random.usize(..4).min(log.len());
        log.truncate(log.len() - lost);
    }
    World { participants, logs }
}

/// Marks that say no more than what is true of the logs as they are: all groups up to there are held by all.
fn random_marks(world: &World, random: &mut fastrand::Rng) -> Vec<Vec<u64>> {
    let held = |shard: &ShardId, group: &usize| world.logs[shard.0 as usize].iter().flatten().any(|g| g == group);
    let is_whole = |group: &usize| world.participants[*group].iter().all(|shard| held(shard, group));
    let marks = |log: &Vec<Vec<usize>>| {
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
    let mut again = 0;
    for seed in 0..4_000 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let world = random_world(&mut random);
        let marks = random_marks(&world, &mut random);
        let (ends, questions) = world.cut(&marks);
        assert_eq!(ends, world.latest_ends(), "{world:?} {marks:?}");
        again += questions;
    }
    assert!(again > 500, "marks make logs be read again: {again}");
}

#[test]
fn a_group_that_others_settled_long_ago_is_looked_up_and_not_cut() {
    let pair = vec![ShardId(0), ShardId(1)];
    let world = World { participants: vec![pair.clone(); 3], logs: vec![vec![vec![0], vec![1], vec![2]]; 2] };
    // Shard 1 knows that all but the last are safe, shard 0 knows nothing.
    let marks = vec![vec![0, 0, 0], vec![0, 1, 2]];
    assert_eq!(world.cut(&marks), (vec![3, 3], 1));
    let known = vec![vec![0, 0, 2], vec![0, 0, 2]];
    assert_eq!(world.cut(&known), (vec![3, 3], 0), "what both settled is not asked for");
}

#[test]
fn a_cut_below_a_mark_makes_that_log_be_read_again() {
    let [a, b, c] = [0, 1, 2].map(ShardId);
    // Group 0 was lost on shard 2, so 1 goes on shards 0 and 1, and with it what shard 0 holds behind it: 2, on shard 2.
    let world = World {
        participants: vec![vec![b, c], vec![a, b], vec![a, c]],
        logs: vec![vec![vec![1], vec![2], vec![]], vec![vec![0], vec![1]], vec![vec![2], vec![]]],
    };
    let marks = vec![vec![0, 0, 2], vec![0, 0], vec![0, 1]];
    let (ends, again) = world.cut(&marks);
    assert_eq!(ends, [0, 0, 0]);
    assert!(again > 0);
}

#[test]
fn shards_that_are_not_there_hold_nothing() {
    let world =
        World { participants: vec![vec![ShardId(0), ShardId(9)]], logs: vec![vec![vec![], vec![0]], vec![vec![]]] };
    assert_eq!(world.cut(&[vec![0, 0], vec![0]]), (vec![1, 1], 0));
}

#[test]
fn a_group_that_a_log_lists_twice_goes_with_either() {
    let pair = vec![ShardId(0), ShardId(1)];
    let world = World {
        participants: vec![pair.clone(), pair],
        logs: vec![vec![vec![0], vec![], vec![1], vec![0]], vec![vec![0]]],
    };
    // Group 1 is missing on shard 1; behind it goes the second of group 0, and so the first, on both.
    assert_eq!(world.cut(&[vec![0; 4], vec![0]]).0, [0, 0]);
}
