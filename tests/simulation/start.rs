//! A start on simulated disks, by the pure parts and in the order of `runtime::recovery`: a first reading that syncs what it
//! reads, the cut that all logs agree on, a second reading, and what makes up for skipped groups. May be interrupted before any
//! step that changes a disk.

use super::disk::Disk;
use super::writer::{EPOCH, LogStart, OldSegment};
use shards::keyspace::{Edit, EditError, Keyspace, StringRef};
use shards::snapshot::{Block, BlockReader, SNAPSHOT_BLOCK_BYTES, SnapshotError, SnapshotHeader};
use shards::units::{Db, ShardId};
use shards::wal::{
    BLOCK_BYTES, Base, ConsistentCut, GroupId, HeldGroups, OnDamage, Question, Record, RecordReader, Recovered,
    Recovery, RecoveryError, SegmentHeader, SegmentId, Sequence, Step, StopReason, Verdict,
};
use std::collections::BTreeSet;

pub const DATABASES: u16 = 5;

/// A planted bug of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Careless {
    /// Takes records whatever their checksum says.
    Checksum,
    /// On one shard, applies groups that are to be skipped.
    Skipping,
}

pub struct Plan<'a> {
    /// Steps until it is interrupted.
    pub steps: Option<usize>,
    /// In which order the shards get their turns.
    pub order: &'a [usize],
    pub seed: u64,
    /// The number of the set of snapshots to begin with.
    pub snapshot: Option<u64>,
    pub careless: Option<Careless>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    Interrupted,
    Refused(String),
}

/// One shard, ready to serve.
pub struct Started {
    pub keyspace: Keyspace,
    pub start: LogStart,
    /// Edits that its first record must begin with.
    pub compensation: Vec<u8>,
    /// Where its log ended before the shards agreed on a cut.
    pub surveyed: Sequence,
    /// The log's files.
    pub segments: Vec<OldSegment>,
    /// Times that the planted bug had something to do.
    pub planted: u64,
}

impl Started {
    /// Of what it holds.
    pub fn digests(&self) -> Vec<u64> {
        digests(&self.keyspace)
    }
}

pub fn digests(keyspace: &Keyspace) -> Vec<u64> {
    (0..DATABASES).map(|db| keyspace.digest(Db(db))).collect()
}

struct Reader<'a> {
    disks: &'a mut [Disk],
    plan: Plan<'a>,
    planted: Vec<u64>,
}

/// A log that was read once.
struct Survey {
    base: Option<Base>,
    recovered: Recovered,
    last_group: Sequence,
    blank: Vec<SegmentId>,
    rest: Option<Rest>,
}

struct Rest {
    from: Recovery,
    first: Sequence,
}

pub fn start(disks: &mut [Disk], plan: Plan<'_>) -> Result<Vec<Started>, Stop> {
    let planted = vec![0; disks.len()];
    let mut reader = Reader { disks, plan, planted };
    let mut all = (0..reader.disks.len()).map(|_| None).collect::<Vec<_>>();
    for &shard in reader.plan.order {
        let mut keyspace = Keyspace::new(DATABASES, reader.plan.seed);
        keyspace.set_logging(false);
        let (survey, held) = reader.survey(shard, &mut keyspace)?;
        all[shard] = Some((survey, held, keyspace));
    }
    let all = all.into_iter().map(|one| one.expect("every shard is in the order")).collect::<Vec<_>>();
    let held = all.iter().map(|(_, held, _)| held.clone()).collect();
    let mut verdicts = reader.consistent_cut(held)?;
    if reader.plan.careless == Some(Careless::Skipping)
        && let Some(at) = verdicts.iter().position(|verdict| !verdict.skipped.is_empty())
    {
        reader.planted[at] += verdicts[at].skipped.len() as u64;
        verdicts[at].skipped.clear();
    }
    let mut started = Vec::new();
    for (shard, ((survey, _, keyspace), verdict)) in all.into_iter().zip(verdicts).enumerate() {
        started.push(reader.resume(shard, survey, verdict, keyspace)?);
    }
    Ok(started)
}

impl Reader<'_> {
    /// What comes next changes a disk, if it comes to that.
    fn step(&mut self) -> Result<(), Stop> {
        match &mut self.plan.steps {
            Some(0) => Err(Stop::Interrupted),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The shard's snapshot, if there is one, verified; and where the log goes on behind it.
    fn load(&self, shard: usize, keyspace: &mut Keyspace) -> Result<Option<Base>, Stop> {
        let Some(number) = self.plan.snapshot else { return Ok(None) };
        let refused = |why: &str| Stop::Refused(format!("snapshot {number} of shard {shard}: {why}"));
        let bytes = self.disks[shard].read_snapshot(number).ok_or_else(|| refused("is not there"))?;
        read_snapshot(bytes, keyspace).map(Some).map_err(|error| refused(&error.to_string()))
    }

    fn open(&self, shard: usize, base: Option<Base>) -> Result<(Recovery, Vec<SegmentId>), Stop> {
        let disk = &self.disks[shard];
        let ids = disk.segments();
        let start = |id: &SegmentId| &disk.read(*id)[..disk.read(*id).len().min(BLOCK_BYTES)];
        let views = ids.iter().map(|id| (*id, start(id))).collect::<Vec<_>>();
        let blank = views.iter().filter(|(_, start)| start.iter().all(|byte| *byte == 0)).map(|(id, _)| *id).collect();
        let (shard, shards) = (ShardId(shard as u16), self.disks.len() as u16);
        let recovery = Recovery::new(shard, shards, EPOCH, &views, OnDamage::Refuse).map_err(refused(shard))?;
        Ok((if let Some(base) = base { recovery.from_base(base) } else { recovery }, blank))
    }

    fn read(&mut self, shard: usize, id: SegmentId) -> Vec<u8> {
        let mut bytes = self.disks[shard].read(id).to_vec();
        if self.plan.careless == Some(Careless::Checksum) {
            self.planted[shard] += believe(&mut bytes);
        }
        bytes
    }

    fn survey(&mut self, shard: usize, keyspace: &mut Keyspace) -> Result<(Survey, HeldGroups), Stop> {
        let base = self.load(shard, keyspace)?;
        let (mut recovery, blank) = self.open(shard, base)?;
        let id = ShardId(shard as u16);
        let mut held = HeldGroups::new(id, recovery.next_sequence());
        let mut rest: Option<Rest> = None;
        while let Some(segment) = recovery.next_segment() {
            let before = rest.is_none().then(|| recovery.clone());
            let mut first = rest.as_ref().map(|rest| rest.first);
            let mut apply = |record: &Record<'_>| {
                held.take(record);
                if record.groups().is_some_and(|groups| groups.iter().next().is_some()) {
                    first.get_or_insert(record.header().sequence);
                }
                if first.is_none() { keyspace.replay_all(record.edits()) } else { Ok(()) }
            };
            let bytes = self.read(shard, segment);
            recovery.read(&bytes, &mut apply).map_err(refused(id))?;
            self.step()?;
            self.disks[shard].sync_now(segment);
            if let Some((from, first)) = before.zip(first) {
                rest = Some(Rest { from, first });
            }
        }
        let recovered = recovery.finish().map_err(refused(id))?;
        let last_group = held.last();
        Ok((Survey { base, recovered, last_group, blank, rest }, held))
    }

    fn consistent_cut(&mut self, held: Vec<HeldGroups>) -> Result<Vec<Verdict>, Stop> {
        let mut search = ConsistentCut::new(held);
        loop {
            match search.step() {
                Step::Done(verdicts) => return Ok(verdicts),
                Step::Ask(questions) => {
                    for question in questions {
                        search.answer(self.look_again(&question)?);
                    }
                }
            }
        }
    }

    fn look_again(&mut self, question: &Question) -> Result<HeldGroups, Stop> {
        let shard = question.shard.0 as usize;
        let base = self.load(shard, &mut Keyspace::new(DATABASES, 0))?;
        let mut recovery = self.open(shard, base)?.0.until(question.until);
        let mut held = question.reading();
        while let Some(segment) = recovery.next_segment() {
            let bytes = self.read(shard, segment);
            let mut look = |record: &Record<'_>| {
                held.take(record);
                Ok(())
            };
            recovery.read(&bytes, &mut look).map_err(refused(question.shard))?;
        }
        recovery.finish().map_err(refused(question.shard))?;
        Ok(held)
    }

    fn resume(
        &mut self,
        shard: usize,
        survey: Survey,
        verdict: Verdict,
        mut keyspace: Keyspace,
    ) -> Result<Started, Stop> {
        let Survey { base, recovered: surveyed, last_group, blank, rest } = survey;
        let mut recovered = surveyed.clone();
        let mut skipped = Skipped { groups: verdict.skipped, keys: BTreeSet::new() };
        if let Some(rest) = rest {
            let until = verdict.cut.map_or(surveyed.next_sequence, |cut| cut.before);
            assert!(until >= rest.first, "logs are cut behind their first group, or before its record");
            let end = self.read_rest(shard, rest, until, &mut keyspace, &mut skipped)?;
            if verdict.cut.is_some() {
                recovered = end;
            }
        } else {
            assert_eq!((verdict.cut, skipped.groups.len()), (None, 0), "a log without groups agrees with all others");
        }
        for segment in blank {
            self.step()?;
            self.disks[shard].remove(segment);
        }
        let last = self.disks[shard].segments().last().copied().unwrap_or(SegmentId(0));
        let start = LogStart {
            next_segment: recovered.next_segment_id.max(last.next()),
            next_sequence: recovered.next_sequence,
            offset: recovered.next_offset,
            predecessor: recovered.predecessor,
            last_group: last_group.min(recovered.next_sequence.previous()),
        };
        let segments = self.old_segments(shard, recovered.next_sequence);
        self.step()?;
        self.disks[shard].remove_snapshots_but(self.plan.snapshot);
        assert!(base.is_none_or(|base| base.next_sequence <= start.next_sequence), "no log is cut below its snapshot");
        let compensation = skipped.compensation(&keyspace);
        let planted = self.planted[shard];
        Ok(Started { keyspace, start, compensation, surveyed: surveyed.next_sequence, segments, planted })
    }

    /// The log's files as they are, each with the last record that may be in it.
    fn old_segments(&self, shard: usize, next: Sequence) -> Vec<OldSegment> {
        let (disk, mut next) = (&self.disks[shard], next);
        let mut found = Vec::new();
        for id in disk.segments().into_iter().rev() {
            found.push(OldSegment { id, last_sequence: next.previous() });
            next = SegmentHeader::decode(disk.read(id)).map_or(next, |header| header.first_sequence.min(next));
        }
        found.reverse();
        found
    }

    fn read_rest(
        &mut self,
        shard: usize,
        rest: Rest,
        until: Sequence,
        keyspace: &mut Keyspace,
        skipped: &mut Skipped,
    ) -> Result<Recovered, Stop> {
        let refused = refused(ShardId(shard as u16));
        let mut recovery = rest.from.until(until);
        while let Some(segment) = recovery.next_segment() {
            let bytes = self.read(shard, segment);
            let mut apply = |record: &Record<'_>| match record.header().sequence < rest.first {
                true => Ok(()),
                false => skipped.replay_others(record, keyspace),
            };
            recovery.read(&bytes, &mut apply).map_err(&refused)?;
        }
        recovery.finish().map_err(refused)
    }
}

fn read_snapshot(bytes: &[u8], keyspace: &mut Keyspace) -> Result<Base, SnapshotError> {
    let header = SnapshotHeader::decode(&bytes[..bytes.len().min(SNAPSHOT_BLOCK_BYTES)])?;
    *keyspace = Keyspace::new(DATABASES, header.seed);
    keyspace.set_logging(false);
    let mut reader = BlockReader::new(&header, bytes.len() as u64);
    loop {
        let at = reader.position() as usize;
        let first = &bytes[at..bytes.len().min(at + SNAPSHOT_BLOCK_BYTES)];
        let whole = reader.block_bytes(first)?;
        match reader.take(&bytes[at..at + whole])? {
            Block::Data { edits, .. } => keyspace.replay_all(edits).map_err(SnapshotError::BadEdits)?,
            Block::Footer(footer) => {
                let SnapshotHeader { offset, wall_ms, steady_ms, .. } = header;
                return Ok(Base { next_sequence: footer.last_sequence.next(), offset, wall_ms, steady_ms });
            }
        }
    }
}

fn refused(shard: ShardId) -> impl Fn(RecoveryError) -> Stop {
    move |error| Stop::Refused(format!("the start is refused, shard {}: {error}", shard.0))
}

/// Makes the checksums of records fit what they are over; how many didn't.
fn believe(bytes: &mut [u8]) -> u64 {
    let Ok(header) = SegmentHeader::decode(bytes) else { return 0 };
    let mut believed = 0;
    loop {
        let mut reader = RecordReader::new(&header, bytes);
        let stop = loop {
            match reader.read() {
                Ok(Some(_)) => {}
                Ok(None) => return believed,
                Err(stop) => break stop,
            }
        };
        if stop.reason != StopReason::BadChecksum {
            return believed;
        }
        let at = stop.position as usize;
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 4]);
        crc.update(&bytes[at + 8..at + length]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.finalize().to_le_bytes());
        believed += 1;
    }
}

/// Groups whose edits a reading leaves out.
struct Skipped {
    groups: Vec<GroupId>,
    keys: BTreeSet<(Db, Vec<u8>)>,
}

impl Skipped {
    fn replay_others(&mut self, record: &Record<'_>, keyspace: &mut Keyspace) -> Result<(), EditError> {
        let mut from = 0;
        for group in record.groups().into_iter().flat_map(|groups| groups.iter()) {
            if self.groups.binary_search(&group.id).is_err() {
                continue;
            }
            let edits = group.edits();
            keyspace.replay_all(&record.edits()[from..edits.start])?;
            from = edits.end;
            self.note(&record.edits()[edits])?;
        }
        keyspace.replay_all(&record.edits()[from..])
    }

    fn note(&mut self, mut edits: &[u8]) -> Result<(), EditError> {
        while !edits.is_empty() {
            let (edit, used) = Edit::decode(edits)?;
            edits = &edits[used..];
            self.keys.extend(edit.keys().into_iter().flatten().map(|(db, key)| (db, key.to_vec())));
        }
        Ok(())
    }

    /// Edits that set every key which the skipped ones would have changed to what it is without them.
    fn compensation(&self, keyspace: &Keyspace) -> Vec<u8> {
        let mut edits = Vec::new();
        for (db, key) in &self.keys {
            match keyspace.export(*db, key) {
                Some(put) => edits.extend_from_slice(&put),
                None => {
                    Edit::Put { db: *db, key, value: StringRef::Bytes(b""), deadline: None }.encode(&mut edits);
                    Edit::Remove { db: *db, key }.encode(&mut edits);
                }
            }
        }
        edits
    }
}
