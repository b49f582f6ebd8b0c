//! Logs of three shards in files, over several lives that end in kills and power cuts: what a start makes of them, and the
//! starts after that.

use super::*;
use shards::keyspace::ShardCursor;
use shards::units::{Now, Offset};
use shards::wal::{GroupId, GroupTable, Layout, encode_into, record_bytes};
use std::collections::BTreeMap;

const SHARDS: usize = 3;
const EPOCH: u64 = 1;
const DB: Db = Db(3);

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Change {
    Put(&'static str, String),
    Remove(&'static str),
    Splice(&'static str, usize, String),
    Rename(&'static str, &'static str),
    Flush,
}

impl Change {
    fn keys(&self) -> Vec<&'static str> {
        match *self {
            Change::Put(key, _) | Change::Remove(key) | Change::Splice(key, ..) => vec![key],
            Change::Rename(key, to_key) => vec![key, to_key],
            Change::Flush => KEYS.to_vec(),
        }
    }

    fn encode(&self, edits: &mut Vec<u8>) {
        let edit = match self {
            Change::Put(key, value) => {
                let value = StringRef::Bytes(value.as_bytes());
                Edit::Put { db: DB, key: key.as_bytes(), value, deadline: None }
            }
            Change::Remove(key) => Edit::Remove { db: DB, key: key.as_bytes() },
            Change::Splice(key, offset, bytes) => {
                Edit::Splice { db: DB, key: key.as_bytes(), offset: *offset as u64, bytes: bytes.as_bytes() }
            }
            Change::Rename(key, to_key) => {
                Edit::Rename { db: DB, key: key.as_bytes(), to_db: DB, to_key: to_key.as_bytes() }
            }
            Change::Flush => Edit::Flush { db: DB },
        };
        edit.encode(edits);
    }

    fn apply(&self, content: &mut Content) {
        match self {
            Change::Put(key, value) => drop(content.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec())),
            Change::Remove(key) => drop(content.remove(key.as_bytes())),
            Change::Splice(key, offset, bytes) => {
                let value = content.entry(key.as_bytes().to_vec()).or_default();
                value.resize(value.len().max(offset + bytes.len()), 0);
                value[*offset..offset + bytes.len()].copy_from_slice(bytes.as_bytes());
            }
            Change::Rename(key, to_key) => {
                if let Some(value) = content.remove(key.as_bytes()) {
                    content.insert(to_key.as_bytes().to_vec(), value);
                }
            }
            Change::Flush => content.clear(),
        }
    }
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What one transaction did on a shard.
#[derive(Clone, Debug)]
struct Part {
    /// The transaction, if it is one over several shards.
    group: Option<usize>,
    changes: Vec<Change>,
}

/// One record.
#[derive(Clone, Debug, Default)]
struct Written {
    /// What a start asked for, before all else: changes nothing.
    compensation: Vec<u8>,
    parts: Vec<Part>,
    closed: Vec<usize>,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.compensation.is_empty() && self.parts.is_empty() && self.closed.is_empty()
    }
    fn groups(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|part| part.group)
    }
    /// Groups that this record must not outlive, if they are lost.
    fn stops(&self) -> impl Iterator<Item = usize> {
        let flushes = |part: &&Part| part.changes.iter().any(|change| matches!(change, Change::Flush));
        self.closed.iter().copied().chain(self.parts.iter().filter(flushes).filter_map(|part| part.group))
    }
}

/// A shard and what its log should be.
struct Shard {
    place: LogPlace,
    start: LogStart,
    /// What it held at the last start, and holds now.
    content: Content,
    now: Content,
    /// Of this life: records in the file, how many of them are on disk for certain, and what is to be written next.
    records: Vec<Written>,
    durable: usize,
    batch: Written,
    /// The segment of this life, once something was written, and where each of its records ends.
    file: Option<Vec<u8>>,
    ends: Vec<usize>,
    offset: u64,
    /// Which group has locked which key.
    locks: BTreeMap<&'static str, usize>,
}

struct World {
    /// Of each group.
    participants: Vec<Vec<usize>>,
    shards: Vec<Shard>,
}

impl World {
    fn new(directory: &Path) -> World {
        let shard = |shard: usize| {
            let directory = directory.join(format!("shard-{shard}"));
            std::fs::create_dir_all(&directory).expect("a directory for the test");
            let place = LogPlace {
                directory,
                shard: ShardId(shard as u16),
                shards: SHARDS as u16,
                epoch: EPOCH,
                snapshot: None,
            };
            let start = LogStart {
                next_segment: SegmentId::FIRST,
                next_sequence: Sequence::FIRST,
                offset: Offset(0),
                predecessor: None,
                last_group: Sequence::NONE,
            };
            Shard {
                place,
                start,
                content: Content::new(),
                now: Content::new(),
                records: Vec::new(),
                durable: 0,
                batch: Written::default(),
                file: None,
                ends: Vec::new(),
                offset: 0,
                locks: BTreeMap::new(),
            }
        };
        World { participants: Vec::new(), shards: (0..SHARDS).map(shard).collect() }
    }

    /// A transaction that changes this on these shards, if it gets its locks; its number if it is one over several.
    fn run(&mut self, parts: &[(usize, Vec<Change>)]) -> Option<usize> {
        let keys = |changes: &[Change]| changes.iter().flat_map(Change::keys).collect::<Vec<_>>();
        let is_free = |(shard, changes): &(usize, Vec<Change>)| {
            keys(changes).iter().all(|key| !self.shards[*shard].locks.contains_key(key))
        };
        if !parts.iter().all(is_free) {
            return None;
        }
        let group = (parts.len() > 1).then_some(self.participants.len());
        if group.is_some() {
            self.participants.push(parts.iter().map(|(shard, _)| *shard).collect());
        }
        for (shard, changes) in parts {
            let is_alone = group.is_some() && changes.iter().any(|change| matches!(change, Change::Flush));
            if is_alone {
                self.write(*shard);
            }
            let at = &mut self.shards[*shard];
            changes.iter().for_each(|change| change.apply(&mut at.now));
            at.batch.parts.push(Part { group, changes: changes.clone() });
            at.locks.extend(group.iter().flat_map(|group| keys(changes).into_iter().map(|key| (key, *group))));
            if is_alone {
                self.write(*shard);
            }
        }
        group
    }

    /// The shard hears that a group is written everywhere, if that is so and it has not heard yet.
    fn close(&mut self, shard: usize, group: usize) {
        let is_written =
            |part: &usize| self.shards[*part].records.iter().any(|record| record.groups().any(|g| g == group));
        let closed_before = self.shards[shard].records.iter().chain([&self.shards[shard].batch]);
        let is_closed = closed_before.flat_map(|record| &record.closed).any(|closed| *closed == group);
        if self.participants[group].contains(&shard) && self.participants[group].iter().all(is_written) && !is_closed {
            let shard = &mut self.shards[shard];
            shard.locks.retain(|_, by| *by != group);
            shard.batch.closed.push(group);
        }
    }

    /// Runs transactions; each shard writes what has gathered when it likes. `active`: the shards that take part at all.
    fn live(&mut self, random: &mut fastrand::Rng, active: &[usize]) {
        let before = self.participants.len();
        for step in 0..random.usize(1..80) {
            let mut shards = active.to_vec();
            random.shuffle(&mut shards);
            shards.truncate(random.usize(1..=active.len()));
            shards.sort_unstable();
            let part = |shard: usize| (shard, self.random_changes(shard, step, random));
            let parts: Vec<(usize, Vec<Change>)> = shards.into_iter().map(part).collect();
            self.run(&parts);
            let shard = random.usize(..SHARDS);
            if random.bool() {
                self.write(shard);
            }
            if self.participants.len() > before && random.usize(..4) > 0 {
                self.close(random.usize(..SHARDS), random.usize(before..self.participants.len()));
            }
            let shard = &mut self.shards[random.usize(..SHARDS)];
            if random.usize(..4) == 0 {
                shard.durable = random.usize(shard.durable..=shard.records.len());
            }
        }
    }

    fn random_changes(&self, shard: usize, step: usize, random: &mut fastrand::Rng) -> Vec<Change> {
        let mut key = || KEYS[random.usize(..KEYS.len())];
        let (key, other) = (key(), key());
        let value = format!("{step} on {shard}");
        let length = self.shards[shard].now.get(key.as_bytes()).map_or(0, Vec::len);
        let there = length > 0 && key != other;
        match random.usize(..24) {
            0 => vec![Change::Flush],
            1..=4 => vec![Change::Remove(key)],
            5..=8 => vec![Change::Splice(key, length, value)],
            9..=12 if there => vec![Change::Rename(key, other)],
            13..=15 => Vec::new(),
            16..=18 => vec![Change::Put(key, value.clone()), Change::Put(other, value)],
            _ => vec![Change::Put(key, value)],
        }
    }

    fn write(&mut self, shard: usize) {
        if self.shards[shard].batch.is_empty() {
            return;
        }
        let settled = self.settled(shard);
        let participants = &self.participants;
        let shard = &mut self.shards[shard];
        let written = std::mem::take(&mut shard.batch);
        let before = shard.start.next_sequence.0 - 1;
        let sequence = Sequence(before + shard.records.len() as u64 + 1);
        let file = shard.file.get_or_insert_with(|| {
            let header = SegmentHeader {
                id: shard.start.next_segment,
                epoch: EPOCH,
                shard: shard.place.shard,
                layout: Layout::Bytes,
                salt: 7,
                wall_ms: 1,
                steady_ms: 1,
                first_sequence: sequence,
                first_offset: Offset(shard.offset),
                durable_mark: Sequence(before + shard.durable as u64),
                predecessor: shard.start.predecessor,
                after_recovery: true,
            };
            header.encode().to_vec()
        });
        let mut table = GroupTable::default();
        let id = |group: usize| GroupId { front: ShardId(0), number: group as u64 };
        written.closed.iter().for_each(|group| table.close(id(*group)));
        let mut edits = written.compensation.clone();
        for part in &written.parts {
            let from = edits.len();
            part.changes.iter().for_each(|change| change.encode(&mut edits));
            if let Some(group) = part.group {
                let all: Vec<ShardId> = participants[group].iter().map(|shard| ShardId(*shard as u16)).collect();
                table.push(id(group), &all, from..edits.len());
            }
        }
        let groups = table.groups(Sequence(before + settled as u64).max(shard.start.last_group));
        let header = RecordHeader {
            segment: shard.start.next_segment,
            salt: 7,
            sequence,
            durable_mark: Sequence(before + shard.durable as u64),
            offset: Offset(shard.offset),
            edit_count: count(&edits),
            wall_ms: 1,
            steady_ms: 1,
            term: 0,
        };
        let from = file.len();
        let groups = (!table.is_empty() || before > 0).then_some(&groups);
        file.resize(from + record_bytes(groups, edits.len(), Layout::Bytes), 0);
        encode_into(&mut file[from..], &header, groups, &edits, Layout::Bytes);
        shard.ends.push(file.len());
        shard.offset += edits.len() as u64;
        shard.records.push(written);
    }

    /// How many of the shard's records hold only groups that no crash can take back any more.
    fn settled(&self, shard: usize) -> usize {
        let (ends, lost) = self.agreed(self.shards.iter().map(|shard| shard.durable).collect());
        let records = &self.shards[shard].records[..ends[shard]];
        records.iter().take_while(|record| record.groups().all(|group| !lost.contains(&group))).count()
    }

    /// All shards end. `keep`: how many bytes of its segment each keeps, given where the last record that is on disk ends and
    /// how many bytes there are.
    fn crash(&mut self, mut keep: impl FnMut(&Shard, usize, usize) -> usize) {
        for shard in &mut self.shards {
            shard.batch = Written::default();
            shard.locks.clear();
            let Some(mut file) = shard.file.take() else { continue };
            let at_least = shard.durable.checked_sub(1).map_or(0, |last| shard.ends[last]);
            let length = keep(shard, at_least, file.len());
            file.truncate(length);
            // All but the zeros behind a record's edits make it whole; cut those too, so that the count is plain.
            let whole = shard.ends.iter().filter(|end| **end <= length).count();
            if let Some(end) = shard.ends.get(whole)
                && *end - length < 8
            {
                file.truncate(length.saturating_sub(8));
            }
            std::fs::write(shard.place.directory.join(segment_file_name(shard.start.next_segment)), file)
                .expect("it can be written");
            shard.records.truncate(whole);
            shard.ends.clear();
        }
    }

    /// The latest ends not after `ends` that leave no lost group closed, found the slow way; and the groups that are lost.
    fn agreed(&self, mut ends: Vec<usize>) -> (Vec<usize>, BTreeSet<usize>) {
        loop {
            let holds = |shard: usize, group: usize| {
                self.shards[shard].records[..ends[shard]].iter().any(|record| record.groups().any(|g| g == group))
            };
            let is_whole = |group: usize| self.participants[group].iter().all(|part| holds(*part, group));
            let lost: BTreeSet<usize> = (0..self.participants.len()).filter(|group| !is_whole(*group)).collect();
            let kept = |shard: usize| {
                let records = &self.shards[shard].records[..ends[shard]];
                records.iter().take_while(|record| record.stops().all(|group| !lost.contains(&group))).count()
            };
            let next: Vec<usize> = (0..SHARDS).map(kept).collect();
            if next == ends {
                return (ends, lost);
            }
            ends = next;
        }
    }

    /// A start: the shards hold what the model says. Goes on from there. How many records were cut, and parts skipped.
    fn start(&mut self) -> (usize, usize) {
        let (ends, lost) = self.agreed(self.shards.iter().map(|shard| shard.records.len()).collect());
        let places: Vec<LogPlace> = self.shards.iter().map(|shard| shard.place.clone()).collect();
        let started = start_all(&places, true).expect("no crash is damage");
        let (mut cut, mut skipped) = (0, 0);
        for ((shard, end), (recovered, found)) in self.shards.iter_mut().zip(ends).zip(started) {
            let next = Sequence(shard.start.next_sequence.0 + end as u64);
            assert_eq!(recovered.start.next_sequence, next, "shard {}", shard.place.shard.0);
            cut += shard.records.len() - end;
            for part in shard.records[..end].iter().flat_map(|record| &record.parts) {
                if part.group.is_some_and(|group| lost.contains(&group)) {
                    skipped += 1;
                } else {
                    part.changes.iter().for_each(|change| change.apply(&mut shard.content));
                }
            }
            assert_eq!(found, shard.content, "shard {}", shard.place.shard.0);
            shard.now = found;
            shard.records.clear();
            shard.durable = 0;
            shard.offset = recovered.start.offset.0;
            shard.start = recovered.start;
            shard.batch = Written { compensation: recovered.compensation, ..Written::default() };
        }
        (cut, skipped)
    }

    /// Starts again and again: nothing changes, whether the old logs are read by a server or for another number of shards.
    fn start_repeatedly(&mut self) -> (usize, usize) {
        let places: Vec<LogPlace> = self.shards.iter().map(|shard| shard.place.clone()).collect();
        let otherwise = start_all(&places, false).expect("no crash is damage");
        let first = self.start();
        let again = start_all(&places, true).expect("no crash is damage");
        for (((recovered, found), (_, other)), shard) in again.iter().zip(&otherwise).zip(&self.shards) {
            assert_eq!((recovered.start.next_sequence, found), (shard.start.next_sequence, &shard.content));
            assert_eq!(other, &shard.content);
            assert_eq!(recovered.compensation, shard.batch.compensation);
        }
        first
    }
}

fn count(mut edits: &[u8]) -> u32 {
    let mut count = 0;
    while !edits.is_empty() {
        edits = &edits[Edit::decode(edits).expect("just made").1..];
        count += 1;
    }
    count
}

/// In memory where that can be: starts sync, and nothing here is about the disk itself.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    directory.expect("a directory for the test")
}

type Started = (ShardRecovered, Content);

/// What a start recovers, and the content of each shard. `at_once`: as a server does, that has a keyspace at the first
/// reading; else as a change of the number of shards.
fn start_all(places: &[LogPlace], at_once: bool) -> Result<Vec<Started>, String> {
    let progress = Progress::default();
    let mut keyspaces: Vec<Keyspace> = places.iter().map(|_| Keyspace::new(16, 1)).collect();
    let (mut surveys, mut held) = (Vec::new(), Vec::new());
    for (place, keyspace) in places.iter().zip(&mut keyspaces) {
        keyspace.set_logging(false);
        let (survey, groups) = survey(place.clone(), at_once.then_some(keyspace), None, &progress)?;
        surveys.push(survey);
        held.push(groups);
    }
    let verdicts = consistent_cut(places, held)?;
    let mut all = Vec::new();
    for ((survey, verdict), mut keyspace) in surveys.into_iter().zip(verdicts).zip(keyspaces) {
        let recovered = resume(survey, verdict, &mut keyspace, &progress)?;
        let content = content(&keyspace);
        keyspace.set_logging(true);
        adopt_all(&mut keyspace, &recovered.compensation);
        assert_eq!(keyspace.edits(), recovered.compensation, "all of it is logged");
        assert_eq!(self::content(&keyspace), content, "and changes nothing");
        all.push((recovered, content));
    }
    Ok(all)
}

fn content(keyspace: &Keyspace) -> Content {
    let mut content = Content::new();
    let mut cursor = ShardCursor(0);
    loop {
        cursor = keyspace.scan(DB, cursor, 1_000, Now::at(1), &mut |entry| {
            let value = entry.string().expect("only strings are written");
            content.insert(entry.key().to_vec(), value.to_bytes().into_owned());
        });
        if cursor == ShardCursor(0) {
            return content;
        }
    }
}

#[test]
fn no_crash_leaves_a_transaction_on_some_of_its_shards_and_nothing_lost_comes_back() {
    let (mut cuts, mut skips) = (0, 0);
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = directory();
        let mut world = World::new(directory.path());
        for _ in 0..5 {
            // A shard that writes nothing in a life keeps what was cut off at the end of its file.
            let mut active = vec![0, 1, 2];
            random.shuffle(&mut active);
            active.truncate(random.usize(0..=SHARDS).max(1));
            world.live(&mut random, &active);
            let is_killed = random.usize(..3) == 0;
            world.crash(|_, at_least, all| if is_killed { all } else { random.usize(at_least..=all) });
            let (cut, skipped) = world.start_repeatedly();
            cuts += cut;
            skips += skipped;
        }
    }
    assert!(cuts > 30 && skips > 30, "groups were lost: {cuts} records cut, {skips} parts skipped");
}

/// What happens in a history; shards by number, groups in the order in which they run.
#[derive(Clone, Debug)]
enum Event {
    Run(Vec<(usize, Vec<Change>)>),
    Write(usize),
    Close(usize, usize),
}

fn put(key: &'static str, value: &str) -> Vec<Change> {
    vec![Change::Put(key, value.into())]
}

impl World {
    fn follow(&mut self, steps: &[Event]) {
        for step in steps {
            match step {
                Event::Run(parts) => drop(self.run(parts)),
                Event::Write(shard) => self.write(*shard),
                Event::Close(shard, group) => self.close(*shard, *group),
            }
        }
    }
}

/// Transactions one behind the other, over keys that each changes, closed as early as can be, and innocent ones between.
fn history() -> Vec<Event> {
    use Event::{Close, Run, Write};
    vec![
        Run(vec![(0, put("a", "0")), (1, put("a", "0"))]),
        Run(vec![(2, put("c", "innocent"))]),
        Write(0),
        Run(vec![(0, put("b", "innocent"))]),
        Write(2),
        Write(1),
        Close(0, 0),
        Run(vec![(0, vec![Change::Rename("a", "d")]), (2, put("a", "1"))]),
        Write(0),
        Close(1, 0),
        Run(vec![(1, put("e", "innocent"))]),
        Write(1),
        Write(2),
        Close(2, 1),
        Close(0, 1),
        Run(vec![(0, vec![Change::Remove("d")]), (1, vec![Change::Splice("a", 1, "2".into())]), (2, put("a", "2"))]),
        Write(2),
        Run(vec![(2, put("d", "innocent"))]),
        Write(0),
        Write(2),
        Write(1),
        Close(1, 2),
        Run(vec![(1, vec![Change::Remove("a")])]),
        Write(1),
        Close(2, 2),
        Run(vec![(1, vec![Change::Flush]), (2, put("a", "3"))]),
        Write(2),
        Close(1, 3),
        Run(vec![(1, put("a", "last"))]),
        Write(1),
    ]
}

/// What comes after the start: changes what the history has changed, and is killed; twice.
fn live_on(world: &mut World) {
    for shard in 0..SHARDS {
        world.run(&[(shard, vec![Change::Splice("a", 0, "later".into())])]);
        world.run(&[(shard, put("e", "later"))]);
        if shard != 1 {
            world.write(shard);
        }
    }
    world.crash(|_, _, all| all);
    assert_eq!(world.start(), (0, 0), "of what was written since, nothing is lost");
    (0..SHARDS).for_each(|shard| world.write(shard));
    world.crash(|_, _, all| all);
    assert_eq!(world.start(), (0, 0));
    assert!(world.shards.iter().all(|shard| shard.batch.is_empty()), "what was skipped is settled");
}

#[test]
fn a_kill_anywhere_in_a_history_loses_nothing_that_was_written() {
    let history = history();
    for length in 0..=history.len() {
        println!("killed after {length} steps");
        let directory = directory();
        let mut world = World::new(directory.path());
        world.follow(&history[..length]);
        world.crash(|_, _, all| all);
        let all: Vec<usize> = world.shards.iter().map(|shard| shard.records.len()).collect();
        let (ends, lost) = world.agreed(all);
        for (shard, end) in world.shards.iter().zip(ends) {
            let cut = shard.records[end..].iter().flat_map(|record| &record.parts);
            assert!(cut.into_iter().all(|part| part.group.is_some_and(|group| lost.contains(&group))));
        }
        world.start_repeatedly();
        live_on(&mut world);
    }
}

#[test]
fn a_power_cut_between_any_records_of_a_history_is_recovered_from_again_and_again() {
    let mut whole = World::new(directory().path());
    whole.follow(&history());
    let records: Vec<usize> = whole.shards.iter().map(|shard| shard.records.len()).collect();
    assert_eq!(records, [3, 6, 5], "the history is as it was meant");
    let (mut cuts, mut skips) = (0, 0);
    for case in 0..records.iter().map(|records| records + 1).product::<usize>() {
        let mut rest = case;
        let kept: Vec<usize> = records.iter().map(|all| (rest % (all + 1), rest /= all + 1).0).collect();
        println!("records kept: {kept:?}");
        let directory = directory();
        let mut world = World::new(directory.path());
        world.follow(&history());
        world.crash(|shard, _, _| kept[shard.place.shard.0 as usize].checked_sub(1).map_or(0, |last| shard.ends[last]));
        let (cut, skipped) = world.start_repeatedly();
        cuts += cut;
        skips += skipped;
        live_on(&mut world);
    }
    assert!(cuts > 30 && skips > 30, "groups were lost: {cuts} records cut, {skips} parts skipped");
}

#[test]
fn a_cut_is_reported_and_is_no_damage_even_below_a_durable_mark() {
    let directory = directory();
    let mut world = World::new(directory.path());
    let both = |key, value| vec![(0, put(key, value)), (1, put(key, value))];
    world.run(&both("a", "1"));
    world.write(0);
    world.write(1);
    world.close(0, 0);
    world.run(&both("b", "2"));
    world.write(0);
    world.write(1);
    world.close(0, 1);
    world.run(&[(0, put("b", "built on it"))]);
    world.write(0);
    world.shards[0].durable = 3;
    world.run(&[(0, put("c", "as well"))]);
    world.write(0);
    // Shard 1 loses its part of the second.
    world.crash(|shard, _, all| if shard.place.shard.0 == 1 { shard.ends[0] } else { all });
    let places: Vec<LogPlace> = world.shards.iter().map(|shard| shard.place.clone()).collect();
    let recovered = start_all(&places, true).expect("it is no damage");
    let [(first, content), (second, _), (third, _)] = &recovered[..] else { panic!("three shards") };
    assert_eq!(*content, Content::from([(b"a".to_vec(), b"1".to_vec())]));
    assert_eq!((first.start.next_sequence, first.start.last_group), (Sequence(3), Sequence(2)));
    let [cut, skipped] = &first.cuts[..] else { panic!("{:?}", first.cuts) };
    assert!(cut.contains("cut 2 records (") && cut.contains(", 0 transactions"), "{cut}");
    assert!(skipped.contains("skipped 1 edits of 1 transactions"), "{skipped}");
    assert_eq!(first.edits, 1);
    assert_eq!((second.start.next_sequence, second.start.last_group), (Sequence(2), Sequence(1)));
    assert!(second.cuts.is_empty() && third.cuts.is_empty());
    assert!(second.compensation.is_empty() && third.compensation.is_empty());
}

#[test]
fn a_skipped_edit_of_a_database_that_is_gone_is_refused_like_any_other() {
    let directory = directory();
    let mut world = World::new(directory.path());
    world.run(&[(0, put("a", "1")), (1, put("a", "1"))]);
    world.write(0);
    world.crash(|_, _, all| all);
    let progress = Progress::default();
    let places: Vec<LogPlace> = world.shards.iter().map(|shard| shard.place.clone()).collect();
    let mut keyspace = Keyspace::new(DB.0, 1);
    let surveyed = places.iter().map(|place| survey(place.clone(), None, None, &progress).expect("it can be read"));
    let (mut surveys, held): (Vec<Survey>, Vec<HeldGroups>) = surveyed.unzip();
    let mut verdicts = consistent_cut(&places, held).expect("it can be read");
    let resumed = resume(surveys.remove(0), verdicts.remove(0), &mut keyspace, &progress);
    let refused = resumed.map(|_| ()).expect_err("it is refused");
    assert!(refused.contains("database 3"), "{refused}");
}

#[test]
fn a_group_of_a_shard_that_the_epoch_lacks_is_refused() {
    let directory = directory();
    let mut world = World::new(directory.path());
    world.run(&[(0, Vec::new()), (1, Vec::new())]);
    world.write(0);
    let file = world.shards[0].file.take().expect("it was begun");
    let mut place = world.shards[0].place.clone();
    std::fs::write(place.directory.join(segment_file_name(SegmentId::FIRST)), file).expect("it can be written");
    place.shards = 1;
    let refused = survey(place, None, None, &Progress::default()).map(|_| ()).expect_err("it is refused");
    assert!(refused.contains("damaged"), "{refused}");
}
