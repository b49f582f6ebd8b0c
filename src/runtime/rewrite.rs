//! Writes the data of all shards anew, as the first segments of a new epoch: for another number of shards, or as it was at
//! some moment.

use super::data_directory::{DataDirectory, Manifest};
use super::prepare::{segment_file_name, sync_directory};
use super::recovery::{LogPlace, Progress, consistent_cut, resume, survey};
use super::snapshot_file;
use shards::keyspace::{Edit, Keyspace, ShardCursor};
use shards::slot::{SlotMap, slot_of};
use shards::units::{Db, Now, Offset, ShardId};
use shards::wal::{
    BLOCK_BYTES, Layout, Predecessor, RecordHeader, SegmentHeader, SegmentId, Sequence, encode_into, record_bytes,
};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// What the data is written anew with.
#[derive(Clone, Copy)]
pub struct Shape {
    pub shards: u16,
    pub databases: u16,
    pub segment_bytes: u64,
    /// Of hash functions that nobody sees.
    pub seed: u64,
}

/// Writes the data of all shards anew for another number of shards, as a new epoch that the manifest then names.
pub fn reshard(data: &mut DataDirectory, from: Manifest, shape: Shape) -> Result<(), String> {
    let place = |shard: ShardId| LogPlace {
        directory: data.shard_path(from.epoch, shard),
        shard,
        shards: from.shards,
        epoch: from.epoch,
        snapshot: from.snapshot,
    };
    let places: Vec<LogPlace> = (0..from.shards).map(ShardId).map(place).collect();
    let ends = vec![None; places.len()];
    rewrite(data, from.epoch + 1, &places, &ends, shape)?;
    data.remove_other_epochs().map_err(|error| format!("removing the old epoch: {error}"))
}

/// Reads what `places` hold, each log up to its end in `ends`, and makes that the data directory's content.
pub fn rewrite(
    data: &mut DataDirectory,
    epoch: u64,
    places: &[LogPlace],
    ends: &[Option<Sequence>],
    shape: Shape,
) -> Result<(), String> {
    let Shape { shards, databases, segment_bytes, seed } = shape;
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
    let (mut surveys, mut held) = (Vec::new(), Vec::new());
    for (place, end) in places.iter().zip(ends) {
        // Nothing is applied yet: one keyspace at a time is enough.
        let (survey, groups) = survey(place.clone(), None, *end, &progress)?;
        surveys.push(survey);
        held.push(groups);
    }
    let verdicts = consistent_cut(places, held)?;
    for (survey, verdict) in surveys.into_iter().zip(verdicts) {
        let mut keyspace = Keyspace::new(databases, seed);
        snapshot_file::load(survey.place(), &mut keyspace, &progress)?;
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
    data.commit(Manifest { epoch, shards, snapshot: None }).map_err(world)
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
            let edits = keyspace.export(db, key).expect("the scan has just seen the key");
            // Of a large collection there are several, which may go into several records.
            let (writer, mut rest) = (&mut writers[slots.shard_of(slot_of(key)).0 as usize], edits.as_slice());
            while !rest.is_empty() {
                let (_, used) = Edit::decode(rest).expect("edits just made");
                writer.push(&rest[..used], now)?;
                rest = &rest[used..];
            }
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
