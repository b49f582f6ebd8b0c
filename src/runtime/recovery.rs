//! Reads the shards' logs at the start, and writes the data anew when the number of shards has changed.
//!
//! Each log is read twice, if it holds transactions over several shards: `survey` applies what comes before the first of
//! them, which nothing can take back, and only looks at the rest; when all shards' logs were looked at, `consistent_cut`
//! says where they end and what is skipped, so that each transaction counts on all of its shards or on none; `resume`
//! applies the rest accordingly, and says what the log has to be continued with to make up for what was skipped.

use super::data_directory::{DataDirectory, Manifest};
use super::disk::LogStart;
use super::prepare::{segment_file_name, sync_directory};
use shards::keyspace::{Edit, EditError, Keyspace, ShardCursor, StringRef};
use shards::slot::{SlotMap, slot_of};
use shards::units::{Db, Now, Offset, ShardId};
use shards::wal::{
    BLOCK_BYTES, ConsistentCut, GroupCut, GroupId, HeldGroups, Layout, OnDamage, Predecessor, Question, Record,
    RecordHeader, Recovered, Recovery, RecoveryError, SegmentHeader, SegmentId, Sequence, Step, Verdict, encode_into,
    record_bytes,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
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
}

/// A log that was read once.
pub struct Survey {
    place: LogPlace,
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

/// Verifies the log, and applies its records to `keyspace` until one holds a group (none at all without a keyspace).
/// Syncs what it reads: a killed predecessor may have left it with the kernel only.
pub fn survey(
    place: LogPlace,
    mut keyspace: Option<&mut Keyspace>,
    progress: &Progress,
) -> Result<(Survey, HeldGroups), String> {
    let (mut recovery, blank) = open(&place, Some(progress))?;
    let mut held = HeldGroups::new(place.shard);
    let mut rest = keyspace.is_none().then(|| Rest { from: recovery.clone(), first: Sequence::FIRST });
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
    Ok((Survey { place, recovered, last_group, blank, rest }, held))
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
    let mut recovery = open(place, None)?.0.until(question.until);
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
    let Survey { place, recovered: surveyed, last_group, blank, rest } = survey;
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
fn open(place: &LogPlace, progress: Option<&Progress>) -> Result<(Recovery, Vec<PathBuf>), String> {
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
    Ok((recovery.map_err(|error| place.refused(error))?, blank))
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
pub fn segments(directory: &Path) -> io::Result<Vec<(SegmentId, PathBuf)>> {
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

/// Writes the data of all shards anew for another number of shards, as a new epoch that the manifest then names.
pub fn reshard(
    data: &mut DataDirectory,
    from: Manifest,
    shards: u16,
    databases: u16,
    segment_bytes: u64,
    seed: u64,
) -> Result<(), String> {
    let epoch = from.epoch + 1;
    let world = |error: io::Error| format!("writing the data for {shards} shards: {error}");
    let progress = Progress::default();
    let new_path = data.epoch_path(epoch);
    if new_path.exists() {
        std::fs::remove_dir_all(&new_path).map_err(world)?;
    }
    data.make_epoch(epoch, shards).map_err(world)?;
    let slots = SlotMap::new(shards);
    let mut writers: Vec<EpochWriter> = (0..shards)
        .map(|shard| EpochWriter::new(data.shard_path(epoch, ShardId(shard)), ShardId(shard), epoch, segment_bytes))
        .collect();
    let place = |shard: ShardId| LogPlace {
        directory: data.shard_path(from.epoch, shard),
        shard,
        shards: from.shards,
        epoch: from.epoch,
    };
    let places: Vec<LogPlace> = (0..from.shards).map(ShardId).map(place).collect();
    let (mut surveys, mut held) = (Vec::new(), Vec::new());
    for place in &places {
        // Nothing is applied yet: one keyspace at a time is enough.
        let (survey, groups) = survey(place.clone(), None, &progress)?;
        surveys.push(survey);
        held.push(groups);
    }
    let verdicts = consistent_cut(&places, held)?;
    for (survey, verdict) in surveys.into_iter().zip(verdicts) {
        let mut keyspace = Keyspace::new(databases, seed);
        // What was skipped needs no compensation: the old log is never read again.
        let recovered = resume(survey, verdict, &mut keyspace, &progress)?;
        recovered.cuts.iter().for_each(|cut| tracing::warn!("{cut}"));
        let now = Now { wall_ms: recovered.last_wall_ms, steady_ms: recovered.last_steady_ms };
        for db in (0..databases).map(Db) {
            copy_database(&keyspace, db, now, &slots, &mut writers).map_err(world)?;
        }
    }
    for mut writer in writers {
        writer.finish().map_err(world)?;
    }
    data.commit(Manifest { epoch, shards }).map_err(world)?;
    data.remove_other_epochs().map_err(|error| format!("removing the old epoch: {error}"))
}

fn copy_database(
    keyspace: &Keyspace,
    db: Db,
    now: Now,
    slots: &SlotMap,
    writers: &mut [EpochWriter],
) -> io::Result<()> {
    let mut cursor = ShardCursor(0);
    loop {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        cursor = keyspace.scan(db, cursor, 1_000, now, &mut |entry| keys.push(entry.key().to_vec()));
        for key in &keys {
            let edit = keyspace.export(db, key).expect("the scan has just seen the key");
            writers[slots.shard_of(slot_of(key)).0 as usize].push(&edit, now)?;
        }
        if cursor == ShardCursor(0) {
            return Ok(());
        }
    }
}

/// Writes the first segments of one shard of a new epoch.
struct EpochWriter {
    directory: PathBuf,
    shard: ShardId,
    epoch: u64,
    segment_bytes: u64,
    edits: Vec<u8>,
    count: u32,
    now: Now,
    sequence: Sequence,
    offset: Offset,
    segment: SegmentId,
    predecessor: Option<Predecessor>,
    file: Option<(File, u64)>,
}

const EPOCH_RECORD_BYTES: usize = 1 << 20;

impl EpochWriter {
    fn new(directory: PathBuf, shard: ShardId, epoch: u64, segment_bytes: u64) -> Self {
        EpochWriter {
            directory,
            shard,
            epoch,
            segment_bytes,
            edits: Vec::new(),
            count: 0,
            now: Now::default(),
            sequence: Sequence::FIRST,
            offset: Offset(0),
            segment: SegmentId(1),
            predecessor: None,
            file: None,
        }
    }

    fn push(&mut self, edit: &[u8], now: Now) -> io::Result<()> {
        self.now = now;
        self.edits.extend_from_slice(edit);
        self.count += 1;
        if self.edits.len() >= EPOCH_RECORD_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.edits.is_empty() {
            return Ok(());
        }
        let len = record_bytes(None, self.edits.len(), Layout::Bytes);
        if self.file.as_ref().is_some_and(|(_, at)| at + len as u64 > self.segment_bytes) {
            self.close_segment()?;
        }
        if self.file.is_none() {
            self.open_segment()?;
        }
        let (file, at) = self.file.as_mut().expect("just opened");
        let header = RecordHeader {
            segment: self.segment,
            salt: EPOCH_SALT,
            sequence: self.sequence,
            durable_mark: Sequence(0),
            offset: self.offset,
            edit_count: self.count,
            wall_ms: self.now.wall_ms,
            steady_ms: self.now.steady_ms,
            term: 0,
        };
        let mut record = vec![0; len];
        encode_into(&mut record, &header, None, &self.edits, Layout::Bytes);
        file.write_all(&record)?;
        *at += len as u64;
        self.sequence = self.sequence.next();
        self.offset = Offset(self.offset.0 + self.edits.len() as u64);
        self.edits.clear();
        self.count = 0;
        Ok(())
    }

    fn open_segment(&mut self) -> io::Result<()> {
        let header = SegmentHeader {
            id: self.segment,
            epoch: self.epoch,
            shard: self.shard,
            layout: Layout::Bytes,
            salt: EPOCH_SALT,
            wall_ms: self.now.wall_ms,
            steady_ms: self.now.steady_ms,
            first_sequence: self.sequence,
            first_offset: self.offset,
            durable_mark: Sequence(0),
            predecessor: self.predecessor,
            after_recovery: false,
        };
        let mut file = File::create(self.directory.join(segment_file_name(self.segment)))?;
        file.write_all(&header.encode())?;
        self.file = Some((file, BLOCK_BYTES as u64));
        Ok(())
    }

    fn close_segment(&mut self) -> io::Result<()> {
        if let Some((file, end)) = self.file.take() {
            file.sync_all()?;
            self.predecessor =
                Some(Predecessor { segment: self.segment, last_sequence: self.sequence.previous(), end });
            self.segment = self.segment.next();
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write()?;
        self.close_segment()?;
        sync_directory(&self.directory)
    }
}

/// Segments of a new epoch are read only once its manifest is there, by which time they are complete and synced.
const EPOCH_SALT: u32 = 0;

#[cfg(test)]
mod tests;
