//! A shard's part of a snapshot on its way to disk, and the end of the whole once all shards' parts are there.
//!
//! ```text
//! every shard:  walk and write NNN.snapshot.new ─► log on disk up to there ─► footer, sync, rename, sync directory ─┐
//! shard 0:      all have said so ─► MANIFEST names NNN, synced and renamed ◄────────────────────────────────────────┘
//! every shard:  segments before it recycled, the snapshot before it removed ◄┘
//! ```
//! The walk goes on the shard's core, some segments of the table per turn; the file is written by a `Scribe`, a thread of its own.

use super::Background;
use super::data_directory::{Manifest, epoch_path, shard_path};
use super::disk::{AlignedBuffer, LogWriter};
use super::lanes::Doorbell;
use super::prepare::sync_directory;
use super::recovery::LogPlace;
use super::ring::Ring;
use super::scribe::Scribe;
use super::snapshot_file::{file_name, put_away_replaced, temporary_name};
use crate::core::{Core, Ended, FROZEN_BYTES_MAX, Growth, Running};
use shards::snapshot::{BlockWriter, SNAPSHOT_BLOCK_BYTES, SnapshotHeader};
use shards::units::ShardId;
use shards::wal::Sequence;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the shards tell each other of the snapshot under way.
pub struct Board {
    data_directory: PathBuf,
    manifest: Mutex<Manifest>,
    /// Per shard.
    shards: Vec<Progress>,
    /// The last snapshot that the manifest names, and the last one that failed.
    committed: AtomicU64,
    failed: AtomicU64,
    why: Mutex<String>,
    /// The last one that the manifest may name, as it is or was being written.
    committing: AtomicU64,
    /// What became of the copies of the last one that was committed.
    backups: Mutex<Vec<(String, Result<(), String>)>>,
}

#[derive(Default)]
struct Progress {
    /// The last snapshot of which the shard's file is on disk, and the last one that is over for it, well or not.
    written: AtomicU64,
    ended: AtomicU64,
    /// For the decision whether one is due.
    changes: AtomicU64,
    log_bytes: AtomicU64,
    snapshot_bytes: AtomicU64,
    disk_bytes: AtomicU64,
    /// Its log can't grow.
    is_obstructed: AtomicBool,
}

impl Board {
    pub fn new(data_directory: PathBuf, manifest: Manifest) -> Self {
        let number = manifest.snapshot.unwrap_or(0);
        Board {
            data_directory,
            shards: (0..manifest.shards).map(|_| Progress::default()).collect(),
            manifest: Mutex::new(manifest),
            committed: AtomicU64::new(number),
            failed: AtomicU64::new(0),
            why: Mutex::new(String::new()),
            committing: AtomicU64::new(number),
            backups: Mutex::new(Vec::new()),
        }
    }

    fn fail(&self, number: u64, why: String) {
        *self.why.lock().expect("nobody panics while holding it") = why;
        self.failed.store(number, Ordering::SeqCst);
    }

    fn growth(&self) -> Growth {
        let sum = |of: fn(&Progress) -> &AtomicU64| {
            self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum::<u64>()
        };
        Growth {
            changes: sum(|shard| &shard.changes),
            log_bytes: sum(|shard| &shard.log_bytes),
            snapshot_bytes: sum(|shard| &shard.snapshot_bytes),
            disk_bytes: self.shards.iter().map(|shard| shard.disk_bytes.load(Ordering::Relaxed)).max().unwrap_or(0),
        }
    }
}

/// Edits are collected to about this much before they are written.
const CHUNK_BYTES: usize = 256 << 10;
/// Segments of the table (of up to 512 keys, some ten microseconds) per turn: with other work in it, and without.
const PIECES_BUSY: usize = 2;
const PIECES_IDLE: usize = 8;

pub struct SnapshotWriter {
    place: LogPlace,
    archive: Option<PathBuf>,
    background: Background,
    board: Arc<Board>,
    doorbells: Arc<Vec<Doorbell>>,
    job: Option<Job>,
    /// Shard 0: its part is over, and it waits for the others' before another may begin.
    ending: Option<Ended>,
    salt: fn() -> u32,
}

/// The snapshot under way.
struct Job {
    running: Running,
    blocks: BlockWriter,
    stage: Stage,
    /// Where the next chunk goes.
    position: u64,
    file: Scribe,
    spare: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Walking,
    /// Everything is walked and handed out; the log must be on disk up to here.
    AwaitingLog,
    /// The footer is on its way.
    Closing(Sequence),
    /// The own file is there.
    Written(Sequence),
    /// Shard 0: the manifest is being written.
    Committing(Sequence),
    /// Some shard has failed: the walk goes on to its end for nothing.
    Abandoned,
    /// And has come there; the file's last write is awaited.
    AbandonedAndWalked,
}

impl SnapshotWriter {
    pub fn new(
        place: LogPlace,
        archive: Option<PathBuf>,
        background: Background,
        board: Arc<Board>,
        doorbells: Arc<Vec<Doorbell>>,
        salt: fn() -> u32,
    ) -> Self {
        let last = place.snapshot.and_then(|number| std::fs::metadata(place.directory.join(file_name(number))).ok());
        let bytes = last.map_or(0, |last| last.len());
        board.shards[place.shard.0 as usize].snapshot_bytes.store(bytes, Ordering::Relaxed);
        SnapshotWriter { place, archive, background, board, doorbells, job: None, ending: None, salt }
    }

    /// Whether there is something to do that waits for nobody.
    pub fn has_work(&self) -> bool {
        let can_go_on = |job: &Job| match job.stage {
            Stage::Walking => !job.file.is_busy(),
            Stage::Abandoned => true,
            Stage::AwaitingLog | Stage::Closing(_) | Stage::Written(_) | Stage::Committing(_) => false,
            Stage::AbandonedAndWalked => !job.file.is_busy(),
        };
        self.job.as_ref().is_some_and(can_go_on)
    }

    /// One turn's work; `busy`: the turn had other work, too.
    pub fn turn(&mut self, core: &mut Core, log: &mut LogWriter, ring: &mut Ring, busy: bool) {
        self.finish_ending(core, log);
        if self.ending.is_some() {
            return;
        }
        if self.job.is_none() {
            let Some(running) = core.snapshots.running else { return };
            self.begin(core, log, running);
        }
        self.watch_for_failure(core, log);
        let Some(job) = &mut self.job else { return };
        match job.stage {
            Stage::Walking => self.walk(core, if busy { PIECES_BUSY } else { PIECES_IDLE }),
            Stage::AwaitingLog if job.file.is_busy() => {}
            Stage::AwaitingLog => {
                log.sync(core.now, true, ring);
                if let Some(last) = log.watched() {
                    self.close(last);
                }
            }
            Stage::Closing(last) if !job.file.is_busy() => {
                job.stage = Stage::Written(last);
                let own = &self.board.shards[self.place.shard.0 as usize];
                own.written.store(job.running.number, Ordering::SeqCst);
                own.snapshot_bytes.store(job.position, Ordering::Relaxed);
                // Shard 0 may be asleep.
                self.doorbells[0].ring();
            }
            Stage::Written(last) => self.commit(core, last),
            Stage::Closing(_) | Stage::Committing(_) => {}
            Stage::Abandoned if core.owner.keyspace.walk_frozen(PIECES_BUSY) => {}
            Stage::Abandoned => job.stage = Stage::AbandonedAndWalked,
            Stage::AbandonedAndWalked if job.file.is_busy() => {}
            Stage::AbandonedAndWalked => self.end_failed(core, log),
        }
        self.end_if_committed(core, log);
    }

    /// At every tick: tells shard 0 how much has grown, and, on shard 0, whether a snapshot is due.
    pub fn tick(&mut self, core: &mut Core, log: &LogWriter) {
        self.publish(core, log);
        if self.place.shard == ShardId(0) {
            let is_obstructed = |shard: &Progress| shard.is_obstructed.load(Ordering::Relaxed);
            let obstructed = self.board.shards.iter().position(is_obstructed);
            core.snapshots.obstructed = obstructed.map(|shard| format!("the log of shard {shard} can't grow"));
            core.want_due_snapshot(self.board.growth());
        }
    }

    fn publish(&self, core: &Core, log: &LogWriter) {
        let own = &self.board.shards[self.place.shard.0 as usize];
        own.changes.store(core.snapshots.changes, Ordering::Relaxed);
        own.log_bytes.store(core.log.taken.0 - core.snapshots.base.0, Ordering::Relaxed);
        own.disk_bytes.store(if log.has_old() { log.bytes_on_disk() } else { 0 }, Ordering::Relaxed);
        own.is_obstructed.store(log.disk_obstacle().is_some(), Ordering::Relaxed);
    }

    // ---- the own file --------------------------------------------------------------------------------------

    fn begin(&mut self, core: &Core, log: &mut LogWriter, running: Running) {
        log.watch(running.offset);
        let header = SnapshotHeader {
            number: running.number,
            epoch: self.place.epoch,
            shard: self.place.shard,
            shards: self.place.shards,
            databases: core.owner.keyspace.databases(),
            seed: core.owner.keyspace.seed(),
            salt: (self.salt)(),
            wall_ms: running.wall_ms,
            steady_ms: running.steady_ms,
            offset: running.offset,
        };
        let file = Scribe::start(self.doorbells.clone(), self.place.shard);
        let path = self.temporary(running.number);
        file.work(move || {
            let file = create(&path)?;
            write_at(&file, &header.encode(), 0)?;
            Ok(Some(file))
        });
        self.job = Some(Job {
            running,
            blocks: BlockWriter::new(&header),
            stage: Stage::Walking,
            position: SNAPSHOT_BLOCK_BYTES as u64,
            file,
            spare: Vec::new(),
        });
    }

    /// Walks while the file keeps up. What changes save meanwhile waits in the keyspace.
    fn walk(&mut self, core: &mut Core, pieces: usize) {
        let job = self.job.as_mut().expect("a snapshot is under way");
        if job.file.is_busy() {
            if core.owner.keyspace.frozen_bytes() > FROZEN_BYTES_MAX {
                let why = format!("the disk is too slow: more than {FROZEN_BYTES_MAX} bytes wait for it");
                self.board.fail(job.running.number, why);
                self.doorbells.iter().for_each(Doorbell::ring);
            }
            return;
        }
        let more = core.owner.keyspace.walk_frozen(pieces);
        if more && core.owner.keyspace.frozen_bytes() < CHUNK_BYTES {
            return;
        }
        let (edits, entries) = core.owner.keyspace.take_frozen(std::mem::take(&mut job.spare));
        if entries > 0 {
            let mut chunk = Vec::with_capacity(edits.len() + 2 * SNAPSHOT_BLOCK_BYTES);
            job.blocks.data(&edits, entries, &mut chunk);
            job.write(chunk);
        }
        job.spare = edits;
        job.spare.clear();
        job.spare.shrink_to(2 * CHUNK_BYTES);
        if !more {
            job.stage = Stage::AwaitingLog;
        }
    }

    fn close(&mut self, last: Sequence) {
        let (shard_directory, number) =
            (self.place.directory.clone(), self.job.as_ref().expect("under way").running.number);
        let (temporary, path) = (self.temporary(number), self.path(number));
        let job = self.job.as_mut().expect("a snapshot is under way");
        let mut footer = Vec::new();
        job.blocks.footer(last, &mut footer);
        let at = job.position;
        job.position += footer.len() as u64;
        job.stage = Stage::Closing(last);
        let file = job.file.file();
        job.file.work(move || {
            write_at(&file, &footer, at)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            sync_directory(&shard_directory)?;
            Ok(None)
        });
    }

    // ---- the whole -----------------------------------------------------------------------------------------

    /// On shard 0: names the snapshot in the manifest once every shard has its file.
    fn commit(&mut self, core: &mut Core, last: Sequence) {
        let job = self.job.as_mut().expect("a snapshot is under way");
        let number = job.running.number;
        let is_written = |shard: &Progress| shard.written.load(Ordering::SeqCst) >= number;
        if self.place.shard != ShardId(0) || !self.board.shards.iter().all(is_written) {
            return;
        }
        job.stage = Stage::Committing(last);
        let (board, doorbells) = (self.board.clone(), self.doorbells.clone());
        let archive = core.config.archive().map(Path::to_path_buf);
        let (names, backup_dir) = (std::mem::take(&mut core.snapshots.backups), core.config.backup_dir.clone());
        job.file.work(move || {
            let mut manifest = board.manifest.lock().expect("nobody panics while holding it");
            let next = Manifest { snapshot: Some(number), ..*manifest };
            board.committing.store(number, Ordering::SeqCst);
            next.write(&board.data_directory)?;
            *manifest = next;
            let copy = |name: String| {
                let copied = back_up(&board.data_directory, next, &backup_dir.join(&name));
                (name, copied)
            };
            *board.backups.lock().expect("nobody panics while holding it") = names.into_iter().map(copy).collect();
            board.committed.store(number, Ordering::SeqCst);
            doorbells.iter().for_each(Doorbell::ring);
            // So that the archive can be read by itself. It is no part of the data: the snapshot is there without it.
            if let Some(archive) = archive
                && let Err(error) = std::fs::create_dir_all(&archive).and_then(|()| next.write(&archive))
            {
                tracing::error!("writing a manifest to the archive: {error}");
            }
            Ok(None)
        });
    }

    /// The manifest names it: what it replaces goes.
    fn end_if_committed(&mut self, core: &mut Core, log: &mut LogWriter) {
        let Some(Job { running, stage: Stage::Written(last) | Stage::Committing(last), file, .. }) = &self.job else {
            return;
        };
        if self.board.committed.load(Ordering::SeqCst) < running.number || file.is_busy() {
            return;
        }
        let number = running.number;
        let (directory, archive) = (self.place.directory.clone(), self.archive.clone());
        log.recycle(*last, archive.clone());
        self.background.spawn(
            move || put_away_replaced(&directory, number, archive.as_deref()),
            |done| {
                if let Err(error) = done {
                    tracing::error!("removing a snapshot that was replaced: {error}");
                }
            },
        );
        self.job = None;
        let backups = self.board.backups.lock().expect("nobody panics while holding it").clone();
        self.end(core, log, Ended { number, outcome: Ok(()), backups });
        if self.place.shard == ShardId(0) {
            tracing::info!("Snapshot {number} is on disk");
        }
    }

    /// Looks whether this shard, or another, can't go on.
    fn watch_for_failure(&mut self, core: &mut Core, log: &LogWriter) {
        let Some(job) = &mut self.job else { return };
        if matches!(job.stage, Stage::Abandoned | Stage::AbandonedAndWalked) {
            return;
        }
        let number = job.running.number;
        let own = match job.stage {
            Stage::Walking | Stage::Closing(_) => job.file.failure().or_else(|| log.failure.clone()),
            // Given up, so as not to keep its own space from the log.
            Stage::AwaitingLog => job.file.failure().or_else(|| log.failure.clone()).or_else(|| log.disk_obstacle()),
            // The next start may find either manifest: both name what is whole, as no file is removed.
            Stage::Committing(_) => job.file.failure(),
            Stage::Written(_) | Stage::Abandoned | Stage::AbandonedAndWalked => None,
        };
        if let Some(why) = own {
            self.board.fail(number, why);
            self.doorbells.iter().for_each(Doorbell::ring);
        }
        if self.board.failed.load(Ordering::SeqCst) >= number {
            job.stage = Stage::Abandoned;
            core.owner.keyspace.abandon_frozen();
        }
    }

    fn end_failed(&mut self, core: &mut Core, log: &LogWriter) {
        let job = self.job.take().expect("a snapshot is under way");
        let number = job.running.number;
        let (temporary, path) = (self.temporary(number), self.path(number));
        let may_be_named = self.board.committing.load(Ordering::SeqCst) >= number;
        self.background.spawn(
            move || {
                // What can't be removed now is by the next snapshot, or the next start.
                let _ = std::fs::remove_file(temporary);
                if !may_be_named {
                    let _ = std::fs::remove_file(path);
                }
            },
            |()| {},
        );
        let why = self.board.why.lock().expect("nobody panics while holding it").clone();
        if self.place.shard == ShardId(0) {
            tracing::error!("snapshot {number} failed: {why}");
        }
        self.end(core, log, Ended { number, outcome: Err(why), backups: Vec::new() });
    }

    fn end(&mut self, core: &mut Core, log: &LogWriter, ended: Ended) {
        let number = ended.number;
        if self.place.shard == ShardId(0) {
            self.ending = Some(ended);
        } else {
            core.snapshot_ended(&ended);
            self.publish(core, log);
        }
        // Last: the next one may begin once all have come here.
        self.board.shards[self.place.shard.0 as usize].ended.store(number, Ordering::SeqCst);
        self.doorbells[0].ring();
        self.finish_ending(core, log);
    }

    /// On shard 0: the next snapshot may begin, as all shards are done with this one.
    fn finish_ending(&mut self, core: &mut Core, log: &LogWriter) {
        let is_over = |ended: &mut Ended| {
            self.board.shards.iter().all(|shard| shard.ended.load(Ordering::SeqCst) >= ended.number)
        };
        if let Some(ended) = self.ending.take_if(is_over) {
            core.snapshot_ended(&ended);
            self.publish(core, log);
        }
    }

    fn temporary(&self, number: u64) -> PathBuf {
        self.place.directory.join(temporary_name(number))
    }
    fn path(&self, number: u64) -> PathBuf {
        self.place.directory.join(file_name(number))
    }
}

impl Job {
    fn write(&mut self, chunk: Vec<u8>) {
        let (file, at) = (self.file.file(), self.position);
        self.position += chunk.len() as u64;
        self.file.work(move || {
            write_at(&file, &chunk, at)?;
            Ok(None)
        });
    }
}

/// Whole blocks, from memory that direct I/O takes.
fn write_at(file: &File, blocks: &[u8], at: u64) -> io::Result<()> {
    let mut aligned = AlignedBuffer::new();
    let aligned = aligned.bytes_mut(blocks.len());
    aligned.copy_from_slice(blocks);
    file.write_all_at(aligned, at)
}

/// A data directory of its own that holds the snapshot and nothing else. The files are the same where the file system can.
fn back_up(data_directory: &Path, manifest: Manifest, target: &Path) -> Result<(), String> {
    let number = manifest.snapshot.expect("a snapshot was just committed");
    let copy = || {
        let parent = target.parent().expect("a name in a directory");
        std::fs::create_dir_all(parent)?;
        std::fs::create_dir(target)?;
        for shard in (0..manifest.shards).map(ShardId) {
            let place = |root| shard_path(root, manifest.epoch, shard);
            let (from, to) = (place(data_directory), place(target));
            std::fs::create_dir_all(&to)?;
            link_or_copy(&from.join(file_name(number)), &to.join(file_name(number)))?;
            sync_directory(&to)?;
        }
        sync_directory(&epoch_path(target, manifest.epoch))?;
        // Last: what has no manifest is no backup.
        manifest.write(target)?;
        sync_directory(parent)
    };
    copy().map_err(|error: io::Error| format!("copying to {}: {error}", target.display()))
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to)?;
        File::open(to)?.sync_all()?;
    }
    Ok(())
}

/// For writes that don't fill the page cache with what nobody reads; through it where direct I/O isn't to be had.
fn create(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    match open(libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(0),
        other => other,
    }
}
