//! Logs of three shards in files, cut by power cuts anywhere: what a start makes of them, and the start after that.

use super::*;
use shards::keyspace::Edit;
use shards::wal::{GroupId, GroupTable};

const SHARDS: usize = 3;
const EPOCH: u64 = 1;
const DB: Db = Db(0);

/// One record: the keys that it writes, and the transactions over several shards it takes part in.
#[derive(Clone, Debug, Default)]
struct Written {
    keys: Vec<Vec<u8>>,
    groups: Vec<usize>,
}

/// A shard and what its log should be.
struct Shard {
    place: LogPlace,
    /// Of the log that counts, from sequence 1 on.
    records: Vec<Written>,
    /// How many of them are on disk for certain.
    durable: usize,
    batch: Written,
    start: LogStart,
    /// The segment of this life, once something was written, and where each of its records ends.
    file: Option<Vec<u8>>,
    ends: Vec<usize>,
    offset: u64,
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
            let place = LogPlace { directory, shard: ShardId(shard as u16), shards: SHARDS as u16, epoch: EPOCH };
            let start = LogStart {
                next_segment: SegmentId::FIRST,
                next_sequence: Sequence::FIRST,
                offset: Offset(0),
                predecessor: None,
                last_group: Sequence::NONE,
            };
            Shard {
                place,
                records: Vec::new(),
                durable: 0,
                batch: Written::default(),
                start,
                file: None,
                ends: Vec::new(),
                offset: 0,
            }
        };
        World { participants: Vec::new(), shards: (0..SHARDS).map(shard).collect() }
    }

    /// Runs transactions; each shard writes what has gathered when it likes. `active`: the shards that write at all.
    fn live(&mut self, random: &mut fastrand::Rng, active: &[usize]) {
        for _ in 0..random.usize(1..60) {
            let mut parts = active.to_vec();
            random.shuffle(&mut parts);
            parts.truncate(random.usize(1..=active.len()));
            parts.sort_unstable();
            let number = self.participants.len();
            self.participants.push(parts.clone());
            for part in &parts {
                let batch = &mut self.shards[*part].batch;
                batch.keys.push(format!("{number} on {part}").into_bytes());
                if parts.len() > 1 {
                    batch.groups.push(number);
                }
            }
            let shard = random.usize(..SHARDS);
            if random.bool() && !self.shards[shard].batch.keys.is_empty() {
                let durable: Vec<usize> = self.shards.iter().map(|shard| shard.durable).collect();
                let settled = self.consistent(durable)[shard];
                self.write(shard, Sequence(settled as u64));
            }
            let shard = &mut self.shards[random.usize(..SHARDS)];
            if random.usize(..4) == 0 {
                shard.durable = random.usize(shard.durable..=shard.records.len());
            }
        }
    }

    fn write(&mut self, shard: usize, settled: Sequence) {
        let participants = &self.participants;
        let shard = &mut self.shards[shard];
        let written = std::mem::take(&mut shard.batch);
        let sequence = Sequence(shard.records.len() as u64 + 1);
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
                durable_mark: Sequence(shard.durable as u64),
                predecessor: shard.start.predecessor,
                after_recovery: true,
            };
            header.encode().to_vec()
        });
        let mut table = GroupTable::default();
        for group in &written.groups {
            let all: Vec<ShardId> = participants[*group].iter().map(|shard| ShardId(*shard as u16)).collect();
            table.push(GroupId { front: ShardId(0), number: *group as u64 }, &all);
        }
        let groups = table.groups(settled.max(shard.start.last_group));
        let mut edits = Vec::new();
        for key in &written.keys {
            Edit::Splice { db: DB, key, offset: 0, bytes: b"value" }.encode(&mut edits);
        }
        let header = RecordHeader {
            segment: shard.start.next_segment,
            salt: 7,
            sequence,
            durable_mark: Sequence(shard.durable as u64),
            offset: Offset(shard.offset),
            edit_count: written.keys.len() as u32,
            wall_ms: 1,
            steady_ms: 1,
            term: 0,
        };
        let from = file.len();
        let groups = (!table.is_empty()).then_some(&groups);
        file.resize(from + record_bytes(groups, edits.len(), Layout::Bytes), 0);
        encode_into(&mut file[from..], &header, groups, &edits, Layout::Bytes);
        shard.ends.push(file.len());
        shard.offset += edits.len() as u64;
        shard.records.push(written);
    }

    /// Cuts each segment of this life anywhere behind what is on disk, and tells the model.
    fn cut_power(&mut self, random: &mut fastrand::Rng) {
        for shard in &mut self.shards {
            shard.batch = Written::default();
            let Some(mut file) = shard.file.take() else { continue };
            let before = shard.records.len() - shard.ends.len();
            let at_least = shard.durable.checked_sub(before + 1).map_or(0, |last| shard.ends[last]);
            let length = random.usize(at_least..=file.len());
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
            shard.records.truncate(before + whole);
            shard.ends.clear();
        }
    }

    /// The latest ends not after `ends` that hold each group on all of its shards or on none, found the slow way.
    fn consistent(&self, mut ends: Vec<usize>) -> Vec<usize> {
        let holds = |shard: usize, end: usize, group: &usize| {
            self.shards[shard].records[..end].iter().any(|record| record.groups.contains(group))
        };
        loop {
            let is_whole =
                |group: &usize| self.participants[*group].iter().all(|part| holds(*part, ends[*part], group));
            let whole = |shard: usize| {
                let records = &self.shards[shard].records[..ends[shard]];
                records.iter().take_while(|record| record.groups.iter().all(is_whole)).count()
            };
            let next: Vec<usize> = (0..SHARDS).map(whole).collect();
            if next == ends {
                return ends;
            }
            ends = next;
        }
    }

    /// A start: the keyspaces are what the model says. Goes on from there.
    fn start(&mut self) {
        let expected = self.consistent(self.shards.iter().map(|shard| shard.records.len()).collect());
        let places: Vec<LogPlace> = self.shards.iter().map(|shard| shard.place.clone()).collect();
        let recovered = start_all(&places, true).expect("no power cut is damage");
        for ((shard, end), (recovered, keys)) in self.shards.iter_mut().zip(expected).zip(recovered) {
            shard.records.truncate(end);
            assert_eq!(recovered.start.next_sequence, Sequence(end as u64 + 1), "shard {}", shard.place.shard.0);
            let mut written: Vec<Vec<u8>> = shard.records.iter().flat_map(|record| record.keys.clone()).collect();
            written.sort();
            assert_eq!(keys, written);
            shard.durable = end;
            shard.offset = recovered.start.offset.0;
            shard.start = recovered.start;
        }
    }
}

type Started = (ShardRecovered, Vec<Vec<u8>>);

/// What a start recovers, and the keys of each shard. `at_once`: as a server does, that has a keyspace at the first
/// reading; else as a change of the number of shards.
fn start_all(places: &[LogPlace], at_once: bool) -> Result<Vec<Started>, String> {
    let progress = Progress::default();
    let mut keyspaces: Vec<Keyspace> = places.iter().map(|_| Keyspace::new(16, 1)).collect();
    let (mut surveys, mut held) = (Vec::new(), Vec::new());
    for (place, keyspace) in places.iter().zip(&mut keyspaces) {
        let (survey, groups) = survey(place.clone(), at_once.then_some(keyspace), &progress)?;
        surveys.push(survey);
        held.push(groups);
    }
    let cuts = consistent_cut(places, held)?;
    let mut all = Vec::new();
    for ((survey, cut), mut keyspace) in surveys.into_iter().zip(cuts).zip(keyspaces) {
        let recovered = resume(survey, cut, &mut keyspace, &progress)?;
        let mut keys = Vec::new();
        let mut cursor = ShardCursor(0);
        loop {
            cursor = keyspace.scan(DB, cursor, 1_000, Now::at(1), &mut |entry| keys.push(entry.key().to_vec()));
            if cursor == ShardCursor(0) {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        all.push((recovered, keys));
    }
    Ok(all)
}

#[test]
fn no_power_cut_leaves_a_transaction_on_some_of_its_shards_and_nothing_cut_off_comes_back() {
    let mut cuts = 0;
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = tempfile::tempdir().expect("a directory for the test");
        let mut world = World::new(directory.path());
        for _ in 0..4 {
            // A shard that writes nothing in a life keeps what was cut off at the end of its file.
            let mut active = vec![0, 1, 2];
            random.shuffle(&mut active);
            active.truncate(random.usize(0..=SHARDS).max(1));
            world.live(&mut random, &active);
            world.cut_power(&mut random);
            let places: Vec<LogPlace> = world.shards.iter().map(|shard| shard.place.clone()).collect();
            let before: Vec<usize> = world.shards.iter().map(|shard| shard.records.len()).collect();
            let otherwise: Vec<_> = start_all(&places, false).expect("no power cut is damage");
            world.start();
            cuts += world.shards.iter().zip(before).filter(|(shard, before)| shard.records.len() < *before).count();
            // Another crash before anything was written: all is as it was.
            let again = start_all(&places, true).expect("no power cut is damage");
            for (((recovered, keys), (_, other_keys)), shard) in again.iter().zip(&otherwise).zip(&world.shards) {
                assert_eq!((recovered.start.next_sequence, keys), (shard.start.next_sequence, other_keys));
            }
        }
    }
    assert!(cuts > 30, "groups were lost, so logs were cut: {cuts}");
}

#[test]
fn a_cut_is_reported_and_is_no_damage_even_below_a_durable_mark() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let mut world = World::new(directory.path());
    world.participants = vec![vec![0], vec![0, 1], vec![0, 1], vec![0]];
    for (keys, groups) in [("a", vec![]), ("b", vec![1]), ("c", vec![2]), ("d", vec![])] {
        let shard = &mut world.shards[0];
        shard.batch = Written { keys: vec![keys.into()], groups };
        shard.durable = shard.records.len();
        world.write(0, Sequence::NONE);
    }
    world.shards[1].batch = Written { keys: Vec::new(), groups: vec![1] };
    world.write(1, Sequence::NONE);
    for shard in &mut world.shards {
        if let Some(file) = shard.file.take() {
            let path = shard.place.directory.join(segment_file_name(SegmentId::FIRST));
            std::fs::write(path, file).expect("it can be written");
        }
    }
    let places: Vec<LogPlace> = world.shards.iter().map(|shard| shard.place.clone()).collect();
    let recovered = start_all(&places, true).expect("it is no damage");
    let [(first, keys), (second, _), (third, _)] = &recovered[..] else { panic!("three shards") };
    assert_eq!(keys, &[b"a", b"b"]);
    assert_eq!((first.start.next_sequence, first.start.last_group), (Sequence(3), Sequence(2)));
    assert_eq!(first.cuts.len(), 1);
    assert!(
        first.cuts[0].contains("cut 2 records (") && first.cuts[0].contains(", 1 transactions"),
        "{}",
        first.cuts[0]
    );
    assert_eq!((second.start.next_sequence, second.start.last_group), (Sequence(2), Sequence(1)));
    assert!(second.cuts.is_empty() && third.cuts.is_empty());
}

#[test]
fn a_group_of_a_shard_that_the_epoch_lacks_is_refused() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let mut world = World::new(directory.path());
    world.participants = vec![vec![0, SHARDS]];
    world.shards[0].batch = Written { keys: Vec::new(), groups: vec![0] };
    world.write(0, Sequence::NONE);
    let file = world.shards[0].file.take().expect("it was begun");
    let place = world.shards[0].place.clone();
    std::fs::write(place.directory.join(segment_file_name(SegmentId::FIRST)), file).expect("it can be written");
    let refused = survey(place, None, &Progress::default()).map(|_| ()).expect_err("it is refused");
    assert!(refused.contains("damaged"), "{refused}");
}
