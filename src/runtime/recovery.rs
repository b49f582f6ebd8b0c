//! Reads the shards' snapshots and logs at the start.
//!
//! Each log is read twice, if it holds transactions over several shards: `survey` applies what comes before the first of
//! them, which nothing can take back, and only looks at the rest; when all shards' logs were looked at, `consistent_cut`
//! says where they end and what is skipped, so that each transaction counts on all of its shards or on none; `resume`
//! applies the rest accordingly, and says what the log has to be continued with to make up for what was skipped.

use super::disk::{LogStart, OldSegment};
use super::prepare::segment_file_name;
use super::snapshot_file;
use shards::keyspace::{Edit, EditError, Keyspace, StringRef};
use shards::units::{Db, ShardId};
use shards::wal::{
    BLOCK_BYTES, Base, ConsistentCut, GroupCut, GroupId, HeldGroups, OnDamage, Question, Record, RecordHeader,
    Recovered, Recovery, RecoveryError, SegmentHeader, SegmentId, Sequence, Step, Verdict,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How far all shards together have come; read by the thread that reports it.
#[derive(Default)]
pub struct Progress {
    pub edits: AtomicU64,
    pub bytes: AtomicU64,
    pub bytes_total: AtomicU64,
}

/// What a shard's log said.
#[derive(Clone, Debug)]
pub struct ShardRecovered {
    pub start: LogStart,
    pub edits: u64,
    pub bytes: u64,
    /// What was cut off or skipped, for the operator.
    pub cuts: Vec<String>,
    /// Edits that the log's next record must begin with: they say what the keys of skipped edits are, so that a later
    /// start comes to the same whether it skips those again or, as the groups are settled then, applies them.
    pub compensation: Vec<u8>,
    /// Where the log went on behind the snapshot, if there is one.
    pub base: Option<Base>,
    /// The log's files: a snapshot will take their place.
    pub segments: Vec<OldSegment>,
    pub last_wall_ms: u64,
    pub last_steady_ms: u64,
}

/// Where a shard's log is.
#[derive(Clone, Debug)]
pub struct LogPlace {
    pub directory: PathBuf,
    pub shard: ShardId,
    /// How many the epoch has.
    pub shards: u16,
    pub epoch: u64,
    /// The number of the snapshot that the log continues.
    pub snapshot: Option<u64>,
}

/// A log that was read once.
pub struct Survey {
    place: LogPlace,
    base: Option<Base>,
    recovered: Recovered,
    last_group: Sequence,
    /// Never begun.
    blank: Vec<PathBuf>,
    rest: Option<Rest>,
}

/// What a survey left to be applied.
struct Rest {
    /// As it was before the segment with the record `first`, or an earlier one.
    from: Recovery,
    first: Sequence,
}

/// Verifies the snapshot, if there is one, and the log, and applies its records to `keyspace` until one holds a group (none
/// at all without a keyspace). Syncs what it reads of the log: a killed predecessor may have left it with the kernel only.
/// `until`: the log is taken to end before this record, as `first_beyond` has found.
pub fn survey(
    place: LogPlace,
    mut keyspace: Option<&mut Keyspace>,
    until: Option<Sequence>,
    progress: &Progress,
) -> Result<(Survey, HeldGroups), String> {
    let base = match &mut keyspace {
        Some(keyspace) => snapshot_file::load(&place, keyspace, progress)?,
        None => snapshot_file::base(&place)?,
    };
    let (mut recovery, blank) = open(&place, base, Some(progress))?;
    if let Some(until) = until {
        recovery = recovery.until(until);
    }
    let mut held = HeldGroups::new(place.shard, recovery.next_sequence());
    let mut rest = keyspace.is_none().then(|| Rest { from: recovery.clone(), first: recovery.next_sequence() });
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let before = rest.is_none().then(|| recovery.clone());
        let mut first = rest.as_ref().map(|rest| rest.first);
        let mut apply = |record: &Record<'_>| {
            held.take(record);
            if record.groups().is_some_and(|groups| groups.iter().next().is_some()) {
                first.get_or_insert(record.header().sequence);
            }
            match &mut keyspace {
                Some(keyspace) if first.is_none() => replay(record, keyspace, progress),
                Some(_) | None => Ok(()),
            }
        };
        let file = read_segment(&place, id, &mut bytes)?;
        recovery.read(&bytes, &mut apply).map_err(|error| place.refused(error))?;
        progress.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.sync_data().map_err(|error| place.world(error))?;
        if let Some((from, first)) = before.zip(first) {
            rest = Some(Rest { from, first });
        }
    }
    let recovered = recovery.finish().map_err(|error| place.refused(error))?;
    let last_group = held.last();
    Ok((Survey { place, base, recovered, last_group, blank, rest }, held))
}

/// The first record of the log that is beyond what is wanted; where the log ends if none is.
pub fn first_beyond(place: &LogPlace, is_beyond: &dyn Fn(&RecordHeader) -> bool) -> Result<Sequence, String> {
    let base = snapshot_file::base(place)?;
    let mut recovery = open(place, base, None)?.0;
    let mut found = None;
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment().filter(|_| found.is_none()) {
        read_segment(place, id, &mut bytes)?;
        let mut look = |record: &Record<'_>| {
            if found.is_none() && is_beyond(record.header()) {
                found = Some(record.header().sequence);
            }
            Ok(())
        };
        recovery.read(&bytes, &mut look).map_err(|error| place.refused(error))?;
    }
    match found {
        Some(found) => Ok(found),
        None => Ok(recovery.finish().map_err(|error| place.refused(error))?.next_sequence),
    }
}

/// What the logs of all shards, of which `held` was read, have to give up. Reads some of them again if it must.
pub fn consistent_cut(places: &[LogPlace], held: Vec<HeldGroups>) -> Result<Vec<Verdict>, String> {
    let mut search = ConsistentCut::new(held);
    loop {
        let questions = match search.step() {
            Step::Done(verdicts) => return Ok(verdicts),
            Step::Ask(questions) => questions,
        };
        let answers: Vec<Result<HeldGroups, String>> = std::thread::scope(|scope| {
            let ask = |question| scope.spawn(move || look_again(&places[shard_of(question)], question));
            let threads: Vec<_> = questions.iter().map(ask).collect();
            threads.into_iter().map(|thread| thread.join().expect("reading a log doesn't panic")).collect()
        });
        for answer in answers {
            search.answer(answer?);
        }
    }
}

fn shard_of(question: &Question) -> usize {
    question.shard.0 as usize
}

fn look_again(place: &LogPlace, question: &Question) -> Result<HeldGroups, String> {
    let base = snapshot_file::base(place)?;
    let mut recovery = open(place, base, None)?.0.until(question.until);
    let mut held = question.reading();
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        read_segment(place, id, &mut bytes)?;
        let mut look = |record: &Record<'_>| {
            held.take(record);
            Ok(())
        };
        recovery.read(&bytes, &mut look).map_err(|error| place.refused(error))?;
    }
    recovery.finish().map_err(|error| place.refused(error))?;
    Ok(held)
}

/// Applies what the survey left, up to the cut, but for the groups that are to be skipped.
pub fn resume(
    survey: Survey,
    verdict: Verdict,
    keyspace: &mut Keyspace,
    progress: &Progress,
) -> Result<ShardRecovered, String> {
    let Survey { place, base, recovered: surveyed, last_group, blank, rest } = survey;
    let mut recovered = surveyed.clone();
    let mut skipped = Skipped::new(verdict.skipped);
    if let Some(rest) = rest {
        let until = verdict.cut.map_or(surveyed.next_sequence, |cut| cut.before);
        assert!(until >= rest.first, "logs are cut behind their first group, or before its record");
        let end = read_rest(&place, rest, until, keyspace, &mut skipped, progress)?;
        if verdict.cut.is_some() {
            recovered = end;
        }
    } else {
        assert_eq!((verdict.cut, skipped.groups.len()), (None, 0), "a log without groups agrees with all others");
    }
    let mut cuts = Vec::new();
    cuts.extend(cut_report(&surveyed, &place.directory));
    cuts.extend(verdict.cut.map(|cut| group_cut_report(&place, cut, surveyed.bytes - recovered.bytes)));
    cuts.extend(skipped.report(&place));
    for path in blank {
        // Every start of a server leaves one. Nothing is acknowledged in a segment before its header is written.
        std::fs::remove_file(path).map_err(|error| place.world(error))?;
    }
    // Never onto the name of a file that is there.
    let last =
        segments(&place.directory).map_err(|error| place.world(error))?.last().map_or(SegmentId(0), |(id, _)| *id);
    Ok(ShardRecovered {
        start: LogStart {
            next_segment: recovered.next_segment_id.max(last.next()),
            next_sequence: recovered.next_sequence,
            offset: recovered.next_offset,
            predecessor: recovered.predecessor,
            last_group: last_group.min(Sequence(recovered.next_sequence.0 - 1)),
        },
        edits: recovered.edits - skipped.edits,
        bytes: recovered.bytes,
        cuts,
        compensation: skipped.compensation(keyspace),
        base,
        segments: old_segments(&place, recovered.next_sequence)?,
        last_wall_ms: recovered.last_wall_ms,
        last_steady_ms: recovered.last_steady_ms,
    })
}

fn read_rest(
    place: &LogPlace,
    rest: Rest,
    until: Sequence,
    keyspace: &mut Keyspace,
    skipped: &mut Skipped,
    progress: &Progress,
) -> Result<Recovered, String> {
    let mut recovery = rest.from.until(until);
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        read_segment(place, id, &mut bytes)?;
        progress.bytes_total.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut apply = |record: &Record<'_>| {
            if record.header().sequence < rest.first {
                return Ok(());
            }
            if skipped.concerns(record) {
                return skipped.replay_others(record, keyspace, progress);
            }
            replay(record, keyspace, progress)
        };
        recovery.read(&bytes, &mut apply).map_err(|error| place.refused(error))?;
        progress.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    recovery.finish().map_err(|error| place.refused(error))
}

fn replay(record: &Record<'_>, keyspace: &mut Keyspace, progress: &Progress) -> Result<(), EditError> {
    progress.edits.fetch_add(record.header().edit_count as u64, Ordering::Relaxed);
    keyspace.replay_all(record.edits())
}

/// Adopts edits that `resume` returned.
pub fn adopt_all(keyspace: &mut Keyspace, mut edits: &[u8]) {
    while !edits.is_empty() {
        let used = keyspace.adopt(edits).expect("edits just made, of databases that are there");
        edits = &edits[used..];
    }
}

impl Survey {
    pub fn place(&self) -> &LogPlace {
        &self.place
    }
}

impl LogPlace {
    fn world(&self, error: io::Error) -> String {
        format!("reading the log in {}: {error}", self.directory.display())
    }
    fn refused(&self, error: RecoveryError) -> String {
        let (shard, shown) = (self.shard.0, self.directory.display());
        format!("the log of shard {shard} in {shown} is damaged, so the start is refused: {error}")
    }
}

/// A reading of the log from its start, and the segments that were prepared and never begun.
fn open(place: &LogPlace, base: Option<Base>, progress: Option<&Progress>) -> Result<(Recovery, Vec<PathBuf>), String> {
    let world = |error: io::Error| place.world(error);
    let mut starts = Vec::new();
    let mut blank = Vec::new();
    for (id, path) in segments(&place.directory).map_err(world)? {
        let mut start = Vec::new();
        let file = File::open(&path).map_err(world)?;
        if let Some(progress) = progress {
            progress.bytes_total.fetch_add(file.metadata().map_err(world)?.len(), Ordering::Relaxed);
        }
        file.take(BLOCK_BYTES as u64).read_to_end(&mut start).map_err(world)?;
        if start.iter().all(|byte| *byte == 0) {
            blank.push(path);
        }
        starts.push((id, start));
    }
    let views: Vec<(SegmentId, &[u8])> = starts.iter().map(|(id, start)| (*id, start.as_slice())).collect();
    let recovery = Recovery::new(place.shard, place.shards, place.epoch, &views, OnDamage::Refuse);
    let recovery = recovery.map_err(|error| place.refused(error))?;
    Ok((
        match base {
            Some(base) => recovery.from_base(base),
            None => recovery,
        },
        blank,
    ))
}

/// The log's files as they are, each with the last record that may be in it.
fn old_segments(place: &LogPlace, next: Sequence) -> Result<Vec<OldSegment>, String> {
    let mut found = Vec::new();
    let mut next = next;
    for (_, path) in segments(&place.directory).map_err(|error| place.world(error))?.into_iter().rev() {
        let mut file = File::open(&path).map_err(|error| place.world(error))?;
        let bytes = file.metadata().map_err(|error| place.world(error))?.len();
        let mut start = vec![0; BLOCK_BYTES.min(bytes as usize)];
        file.read_exact(&mut start).map_err(|error| place.world(error))?;
        found.push(OldSegment { path, last_sequence: next.previous(), bytes });
        // What can't be read was cut off, and goes with the next one.
        next = SegmentHeader::decode(&start).map_or(next, |header| header.first_sequence.min(next));
    }
    found.reverse();
    Ok(found)
}

fn read_segment(place: &LogPlace, id: SegmentId, bytes: &mut Vec<u8>) -> Result<File, String> {
    bytes.clear();
    let path = place.directory.join(segment_file_name(id));
    let mut file = File::open(&path).map_err(|error| place.world(error))?;
    file.read_to_end(bytes).map_err(|error| place.world(error))?;
    Ok(file)
}

/// Groups whose edits a reading leaves out.
struct Skipped {
    /// Sorted.
    groups: Vec<GroupId>,
    edits: u64,
    /// What those edits would have changed.
    keys: BTreeSet<(Db, Vec<u8>)>,
}

impl Skipped {
    fn new(groups: Vec<GroupId>) -> Self {
        Skipped { groups, edits: 0, keys: BTreeSet::new() }
    }

    fn has(&self, group: GroupId) -> bool {
        self.groups.binary_search(&group).is_ok()
    }

    fn concerns(&self, record: &Record<'_>) -> bool {
        let groups = record.groups().filter(|_| !self.groups.is_empty());
        groups.is_some_and(|groups| groups.iter().any(|group| self.has(group.id)))
    }

    /// Applies what the record holds besides.
    fn replay_others(
        &mut self,
        record: &Record<'_>,
        keyspace: &mut Keyspace,
        progress: &Progress,
    ) -> Result<(), EditError> {
        progress.edits.fetch_add(record.header().edit_count as u64, Ordering::Relaxed);
        let groups = record.groups().expect("it holds groups to be skipped");
        let mut from = 0;
        for group in groups.iter() {
            if !self.has(group.id) {
                continue;
            }
            let edits = group.edits();
            keyspace.replay_all(&record.edits()[from..edits.start])?;
            from = edits.end;
            self.note(&record.edits()[edits], keyspace.databases())?;
        }
        keyspace.replay_all(&record.edits()[from..])
    }

    /// Notes what edits of a skipped group would have changed, once it is clear that a later start could apply them.
    fn note(&mut self, mut edits: &[u8], databases: u16) -> Result<(), EditError> {
        while !edits.is_empty() {
            let (edit, used) = Edit::decode(edits)?;
            edits = &edits[used..];
            self.edits += 1;
            for (db, key) in edit.keys().into_iter().flatten() {
                if db.0 >= databases {
                    return Err(EditError::NoSuchDatabase(db.0));
                }
                self.keys.insert((db, key.to_vec()));
            }
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
                    // The removal of a missing key is no edit and would not be logged: it is made first.
                    Edit::Put { db: *db, key, value: StringRef::Bytes(b""), deadline: None }.encode(&mut edits);
                    Edit::Remove { db: *db, key }.encode(&mut edits);
                }
            }
        }
        edits
    }

    fn report(&self, place: &LogPlace) -> Option<String> {
        (!self.groups.is_empty()).then(|| {
            format!(
                "{}: skipped {} edits of {} transactions over several shards, as another shard's log lost its part of \
                 them; none had been acknowledged as durable",
                place.directory.display(),
                self.edits,
                self.groups.len()
            )
        })
    }
}

fn group_cut_report(place: &LogPlace, cut: GroupCut, bytes: u64) -> String {
    let GroupCut { before, records, groups } = cut;
    format!(
        "{}: cut {records} records ({bytes} bytes of edits, {groups} transactions over several shards) from record {} on, \
         as another shard's log lost its part of a transaction that they may build on; nothing in them had been \
         acknowledged as durable",
        place.directory.display(),
        before.0
    )
}

fn cut_report(recovered: &Recovered, directory: &Path) -> Option<String> {
    recovered.cut.map(|cut| {
        format!(
            "{}: cut a torn tail of {} bytes at byte {} (record {}: {}); nothing in it had been acknowledged as durable",
            directory.join(segment_file_name(cut.segment)).display(),
            cut.bytes,
            cut.position,
            cut.sequence.0,
            cut.reason
        )
    })
}

/// The segment files, in the order of their numbers.
fn segments(directory: &Path) -> io::Result<Vec<(SegmentId, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let id = path
            .extension()
            .filter(|extension| *extension == "wal")
            .and_then(|_| path.file_stem()?.to_str()?.parse().ok());
        if let Some(id) = id {
            found.push((SegmentId(id), path));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
