//! Reads a shard's log at the start, and writes the data anew when the number of shards has changed.

use super::data_directory::{DataDirectory, Manifest};
use super::disk::LogStart;
use super::prepare::{segment_file_name, sync_directory};
use shards::keyspace::{Keyspace, ShardCursor};
use shards::slot::{SlotMap, slot_of};
use shards::units::{Db, Now, Offset, ShardId};
use shards::wal::{
    BLOCK_BYTES, Layout, OnDamage, Predecessor, Record, RecordHeader, Recovered, Recovery, RecoveryError,
    SegmentHeader, SegmentId, Sequence, encode_into, record_bytes,
};
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
    pub cut: Option<String>,
    pub last_wall_ms: u64,
    pub last_steady_ms: u64,
}

/// Reads the segments in `directory` into `keyspace`, and syncs them: a killed predecessor may have left them with the
/// kernel only.
pub fn recover(
    directory: &Path,
    shard: ShardId,
    epoch: u64,
    keyspace: &mut Keyspace,
    progress: &Progress,
) -> Result<ShardRecovered, String> {
    let world = |error: io::Error| format!("reading the log in {}: {error}", directory.display());
    let segments = segments(directory).map_err(world)?;
    let mut starts = Vec::new();
    for (id, path) in &segments {
        let mut start = Vec::new();
        let file = File::open(path).map_err(world)?;
        progress.bytes_total.fetch_add(file.metadata().map_err(world)?.len(), Ordering::Relaxed);
        file.take(BLOCK_BYTES as u64).read_to_end(&mut start).map_err(world)?;
        starts.push((*id, start));
    }
    let views: Vec<(SegmentId, &[u8])> = starts.iter().map(|(id, start)| (*id, start.as_slice())).collect();
    let refused = |error: RecoveryError| {
        format!("the log of shard {} in {} is damaged, so the start is refused: {error}", shard.0, directory.display())
    };
    let mut recovery = Recovery::new(shard, epoch, &views, OnDamage::Refuse).map_err(refused)?;
    keyspace.set_logging(false);
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let path = directory.join(segment_file_name(id));
        bytes.clear();
        let mut file = File::open(&path).map_err(world)?;
        file.read_to_end(&mut bytes).map_err(world)?;
        let mut apply = |record: &Record<'_>| {
            progress.edits.fetch_add(record.header().edit_count as u64, Ordering::Relaxed);
            keyspace.replay_all(record.edits())
        };
        recovery.read(&bytes, &mut apply).map_err(refused)?;
        progress.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.sync_data().map_err(world)?;
    }
    keyspace.set_logging(true);
    let recovered = recovery.finish().map_err(refused)?;
    let segments = remove_blank(segments, &starts).map_err(world)?;
    // Never onto the name of a file that is there.
    let last = segments.last().map_or(SegmentId(0), |(id, _)| *id);
    let next_segment = recovered.next_segment_id.max(last.next());
    Ok(ShardRecovered {
        start: LogStart {
            next_segment,
            next_sequence: recovered.next_sequence,
            offset: recovered.next_offset,
            predecessor: recovered.predecessor,
        },
        edits: recovered.edits,
        bytes: recovered.bytes,
        cut: cut_report(&recovered, directory),
        last_wall_ms: recovered.last_wall_ms,
        last_steady_ms: recovered.last_steady_ms,
    })
}

/// Removes segments that were prepared and never begun: every start of a server leaves one. The log was recovered without
/// them, and nothing is acknowledged in a segment before its header is written.
fn remove_blank(
    segments: Vec<(SegmentId, PathBuf)>,
    starts: &[(SegmentId, Vec<u8>)],
) -> io::Result<Vec<(SegmentId, PathBuf)>> {
    let mut kept = Vec::new();
    for ((id, path), (_, start)) in segments.into_iter().zip(starts) {
        if start.iter().all(|byte| *byte == 0) {
            std::fs::remove_file(&path)?;
        } else {
            kept.push((id, path));
        }
    }
    Ok(kept)
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
    for old in 0..from.shards {
        let mut keyspace = Keyspace::new(databases, seed);
        let directory = data.shard_path(from.epoch, ShardId(old));
        let recovered = recover(&directory, ShardId(old), from.epoch, &mut keyspace, &progress)?;
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
        let len = record_bytes(self.edits.len(), Layout::Bytes);
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
        encode_into(&mut record, &header, &self.edits, Layout::Bytes);
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
