//! Shards that keep a group's keys locked until it is closed, crashed at any moment: what the cut leaves is all or nothing
//! of each group, nothing that builds on what is lost, and everything else.

use super::cut::search;
use super::*;
use std::collections::BTreeSet;

const SHARDS: usize = 3;
const KEYS: usize = 3;

/// One edit of a key, or of all of a shard's.
struct Write {
    group: Option<usize>,
    /// What its transaction saw, on any shard, and what it replaces.
    after: Vec<usize>,
}

struct Group {
    parts: Vec<Part>,
    /// What its transaction found on all shards.
    after: Vec<usize>,
}

/// What a group does on one shard.
struct Part {
    shard: usize,
    /// `None`: all of them.
    key: Option<usize>,
    /// Else it only reads, and leaves its id in the log.
    writes: bool,
    is_run: bool,
    closed_at: Option<u64>,
}

/// A record, or what will be one.
#[derive(Default)]
struct Batch {
    writes: Vec<usize>,
    groups: Vec<usize>,
    closed: Vec<usize>,
    /// When its first edit was made, and when it was taken.
    first_at: Option<u64>,
    taken_at: u64,
    settled: u64,
}

#[derive(Default)]
struct Shard {
    batch: Batch,
    records: Vec<Batch>,
    written: usize,
    durable: usize,
    locks: [Option<usize>; KEYS],
    last_writes: [Option<usize>; KEYS],
}

#[derive(Default)]
struct World {
    now: u64,
    writes: Vec<Write>,
    groups: Vec<Group>,
    shards: [Shard; SHARDS],
}

impl World {
    fn live(&mut self, random: &mut fastrand::Rng) {
        for _ in 0..random.usize(1..250) {
            self.now += 1;
            let shard = random.usize(..SHARDS);
            match random.usize(..12) {
                0..=2 => self.begin(random),
                3..=5 => self.run_part(random),
                6 => self.take(shard),
                7 | 8 => {
                    let shard = &mut self.shards[shard];
                    shard.written = random.usize(shard.written..=shard.records.len());
                }
                9 => {
                    let shard = &mut self.shards[shard];
                    shard.durable = random.usize(shard.durable..=shard.written);
                }
                _ => self.close(shard, random),
            }
        }
    }

    /// A transaction that gets its locks at once, or is given up.
    fn begin(&mut self, random: &mut fastrand::Rng) {
        let mut shards: Vec<usize> = (0..SHARDS).collect();
        random.shuffle(&mut shards);
        shards.truncate(random.usize(1..=SHARDS));
        let mut part = |shard: usize| {
            let key = (random.usize(..10) > 0).then(|| random.usize(..KEYS));
            Part { shard, key, writes: key.is_none() || random.bool(), is_run: false, closed_at: None }
        };
        let parts: Vec<Part> = shards.into_iter().map(&mut part).collect();
        let is_free = |part: &Part| part.keys().all(|key| self.shards[part.shard].locks[key].is_none());
        if !parts.iter().all(is_free) {
            return;
        }
        let seen =
            |part: &Part| part.keys().filter_map(|key| self.shards[part.shard].last_writes[key]).collect::<Vec<_>>();
        let after: Vec<usize> = parts.iter().flat_map(seen).collect();
        if let [part] = &parts[..] {
            if part.writes {
                self.write(part.shard, part.keys(), None, after);
            }
            return;
        }
        let group = self.groups.len();
        for part in &parts {
            part.keys().for_each(|key| self.shards[part.shard].locks[key] = Some(group));
        }
        self.groups.push(Group { parts, after });
    }

    /// Some part of some transaction that has its locks is executed.
    fn run_part(&mut self, random: &mut fastrand::Rng) {
        let waiting = |group: &usize| self.groups[*group].parts.iter().any(|part| !part.is_run);
        let waiting: Vec<usize> = (0..self.groups.len()).filter(waiting).collect();
        let Some(&group) = random.choice(&waiting) else { return };
        let at = self.groups[group].parts.iter().position(|part| !part.is_run).expect("it is waiting");
        let part = &mut self.groups[group].parts[at];
        part.is_run = true;
        let (shard, keys, writes, is_alone) = (part.shard, part.keys(), part.writes, part.key.is_none());
        if is_alone {
            self.take(shard);
        }
        self.shards[shard].batch.groups.push(group);
        let after = self.groups[group].after.clone();
        if writes {
            self.write(shard, keys, Some(group), after);
        }
        self.shards[shard].batch.first_at.get_or_insert(self.now);
        if is_alone {
            self.now += 1;
            self.take(shard);
        }
    }

    fn write(&mut self, shard: usize, keys: impl Iterator<Item = usize>, group: Option<usize>, after: Vec<usize>) {
        let write = self.writes.len();
        self.writes.push(Write { group, after });
        let shard = &mut self.shards[shard];
        keys.for_each(|key| shard.last_writes[key] = Some(write));
        shard.batch.writes.push(write);
        shard.batch.first_at.get_or_insert(self.now);
    }

    fn take(&mut self, shard: usize) {
        let batch = &self.shards[shard].batch;
        if batch.writes.is_empty() && batch.groups.is_empty() && batch.closed.is_empty() {
            return;
        }
        let durable_ms = self.durable_before();
        let is_settled = |group: &usize| {
            let part = self.groups[*group].parts.iter().find(|part| part.shard == shard);
            part.expect("it takes part").closed_at.is_some_and(|closed_at| closed_at < durable_ms)
        };
        let records = &self.shards[shard].records;
        let settled = records.iter().take_while(|record| record.groups.iter().all(is_settled)).count() as u64;
        let taken_at = self.now;
        let shard = &mut self.shards[shard];
        shard.records.push(Batch { settled, taken_at, ..std::mem::take(&mut shard.batch) });
    }

    /// Every edit made before is on disk.
    fn durable_before(&self) -> u64 {
        let first_lost = |shard: &Shard| {
            let records = shard.records[shard.durable..].iter().chain([&shard.batch]);
            records.filter_map(|batch| batch.first_at).min().unwrap_or(self.now)
        };
        self.shards.iter().map(first_lost).min().expect("there are shards")
    }

    /// The shard hears that some group is written everywhere, and lets go of its keys.
    fn close(&mut self, shard: usize, random: &mut fastrand::Rng) {
        let may_close = |group: &usize| {
            let parts = &self.groups[*group].parts;
            parts.iter().any(|part| part.shard == shard && part.closed_at.is_none())
                && parts.iter().all(|part| self.record_of(part.shard, *group) < self.shards[part.shard].written)
        };
        let closing: Vec<usize> = (0..self.groups.len()).filter(may_close).collect();
        let Some(&group) = random.choice(&closing) else { return };
        let part = self.groups[group].parts.iter_mut().find(|part| part.shard == shard);
        part.expect("it takes part").closed_at = Some(self.now);
        let shard = &mut self.shards[shard];
        shard.locks.iter_mut().filter(|lock| **lock == Some(group)).for_each(|lock| *lock = None);
        shard.batch.closed.push(group);
    }

    /// The record with the group's part, or one that doesn't exist.
    fn record_of(&self, shard: usize, group: usize) -> usize {
        let found = self.shards[shard].records.iter().position(|record| record.groups.contains(&group));
        found.unwrap_or(usize::MAX)
    }

    fn encode(&self, shard: usize, at: usize, with_marks: bool) -> Vec<u8> {
        let batch = &self.shards[shard].records[at];
        let mut table = GroupTable::default();
        let mut edits = Vec::new();
        batch.closed.iter().for_each(|group| table.close(id(*group)));
        for group in &batch.groups {
            let parts = &self.groups[*group].parts;
            let mut participants: Vec<ShardId> = parts.iter().map(|part| ShardId(part.shard as u16)).collect();
            participants.sort_unstable();
            let from = edits.len();
            if parts.iter().any(|part| part.shard == shard && part.key.is_none()) {
                Edit::FlushAll.encode(&mut edits);
            }
            table.push(id(*group), &participants, from..edits.len());
        }
        let header = RecordHeader {
            segment: SegmentId::FIRST,
            salt: 0,
            sequence: Sequence(at as u64 + 1),
            durable_mark: Sequence::NONE,
            offset: Offset(0),
            edit_count: 0,
            wall_ms: 0,
            steady_ms: 0,
            term: 0,
        };
        let groups = table.groups(Sequence(if with_marks { batch.settled } else { 0 }));
        let mut bytes = vec![0; record_bytes(Some(&groups), edits.len(), Layout::Bytes)];
        encode_into(&mut bytes, &header, Some(&groups), &edits, Layout::Bytes);
        bytes
    }

    fn recover(&self, lengths: &[usize], with_marks: bool) -> Left<'_> {
        let log = |shard: usize| (0..lengths[shard]).map(|at| self.encode(shard, at, with_marks)).collect();
        let records: Vec<Vec<Vec<u8>>> = (0..SHARDS).map(log).collect();
        let (verdicts, _) = search(&records);
        let end = |(verdict, length): (&Verdict, &usize)| verdict.cut.map_or(*length, |cut| cut.before.0 as usize - 1);
        let ends = verdicts.iter().zip(lengths).map(end).collect();
        let skipped = |verdict: Verdict| verdict.skipped.iter().map(|id| id.number as usize).collect();
        Left { world: self, ends, skipped: verdicts.into_iter().map(skipped).collect() }
    }
}

impl Part {
    fn keys(&self) -> std::ops::Range<usize> {
        self.key.map_or(0..KEYS, |key| key..key + 1)
    }
}

fn id(group: usize) -> GroupId {
    GroupId { front: ShardId(1), number: group as u64 }
}

/// What a recovery leaves.
struct Left<'w> {
    world: &'w World,
    ends: Vec<usize>,
    skipped: Vec<BTreeSet<usize>>,
}

impl Left<'_> {
    fn has_part(&self, shard: usize, group: usize) -> bool {
        self.world.record_of(shard, group) < self.ends[shard] && !self.skipped[shard].contains(&group)
    }
    fn has_group(&self, group: usize) -> bool {
        self.world.groups[group].parts.iter().all(|part| self.has_part(part.shard, group))
    }

    /// The writes that are left; none of them builds on one that is not, and no group is torn.
    fn checked(&self) -> BTreeSet<usize> {
        for (group, Group { parts, .. }) in self.world.groups.iter().enumerate() {
            let left = parts.iter().filter(|part| self.has_part(part.shard, group)).count();
            assert!(left == 0 || left == parts.len(), "group {group} is torn");
        }
        let mut left = BTreeSet::new();
        for (shard, end) in self.world.shards.iter().zip(&self.ends) {
            left.extend(shard.records[..*end].iter().flat_map(|record| record.writes.iter().copied()));
        }
        let counts = |write: &usize| self.world.writes[*write].group.is_none_or(|group| self.has_group(group));
        left.retain(counts);
        for write in &left {
            let lost = self.world.writes[*write].after.iter().find(|before| !left.contains(before));
            assert_eq!(lost, None, "write {write} is left and builds on it");
        }
        left
    }
}

fn worlds(cases: u64, mut each: impl FnMut(&World, &mut fastrand::Rng)) {
    for seed in 0..cases {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::default();
        world.live(&mut random);
        each(&world, &mut random);
    }
}

#[test]
fn a_kill_costs_only_groups_that_were_not_written_everywhere() {
    let (mut lost, mut cuts) = (0, 0);
    worlds(3_000, |world, _| {
        let written: Vec<usize> = world.shards.iter().map(|shard| shard.written).collect();
        let left = world.recover(&written, true);
        let writes = left.checked();
        for group in 0..world.groups.len() {
            let parts = &world.groups[group].parts;
            let is_written = parts.iter().all(|part| world.record_of(part.shard, group) < written[part.shard]);
            assert_eq!(left.has_group(group), is_written, "group {group}");
            lost += !is_written as usize;
        }
        for (shard, written) in world.shards.iter().zip(&written) {
            for write in shard.records[..*written].iter().flat_map(|record| &record.writes) {
                assert!(
                    world.writes[*write].group.is_some() || writes.contains(write),
                    "write {write} was acknowledged"
                );
            }
        }
        cuts += left.ends.iter().zip(&written).filter(|(end, written)| end < written).count();
    });
    assert!(lost > 1_000 && cuts > 100, "{lost} groups were lost, {cuts} logs cut for edits of whole databases");
}

#[test]
fn a_power_cut_costs_only_what_came_late_and_what_builds_on_that() {
    let (mut lost, mut cuts) = (0, 0);
    worlds(3_000, |world, random| {
        let length = |shard: &Shard| random.usize(shard.durable..=shard.written);
        let lengths: Vec<usize> = world.shards.iter().map(length).collect();
        let left = world.recover(&lengths, true);
        let writes = left.checked();
        let unmarked = world.recover(&lengths, false);
        assert_eq!(left.ends, unmarked.ends, "marks change nothing");
        assert_eq!(writes, unmarked.checked(), "marks change nothing");

        let durable_before = world.durable_before();
        let early = |shard: &Shard| shard.records.iter().take_while(|record| record.taken_at < durable_before).count();
        let early: Vec<usize> = world.shards.iter().map(early).collect();
        for group in 0..world.groups.len() {
            let mut parts = world.groups[group].parts.iter();
            let is_early = parts.all(|part| world.record_of(part.shard, group) < early[part.shard]);
            assert!(!is_early || left.has_group(group), "group {group}");
            lost += !left.has_group(group) as usize;
        }
        for (at, shard) in world.shards.iter().enumerate() {
            for write in shard.records[..early[at]].iter().flat_map(|record| &record.writes) {
                assert!(world.writes[*write].group.is_some() || writes.contains(write), "write {write}");
            }
            if let Some(record) = shard.records[..lengths[at]].get(left.ends[at]) {
                cuts += 1;
                let is_whole = |group: &usize| {
                    world.groups[*group].parts.iter().any(|part| part.shard == at && part.key.is_none())
                };
                let whole = record.groups.iter().filter(|group| is_whole(group));
                let mut stops = record.closed.iter().chain(whole);
                assert!(stops.any(|group| !left.has_group(*group)), "shard {at} is cut for a reason");
            }
        }
    });
    assert!(lost > 1_000 && cuts > 300, "{lost} groups were lost, {cuts} logs cut");
}
