//! A shard's part of a snapshot on its way to disk, and the end of the whole once all shards' parts are there.
//!
//! ```text
//! every shard:  walk and write NNN.snapshot.new ─► log on disk up to there ─► footer, sync, rename, sync directory ─┐
//! shard 0:      all have said so ─► MANIFEST names NNN, synced and renamed ◄────────────────────────────────────────┘
//! every shard:  segments before it recycled, the snapshot before it removed ◄┘
//! ```
//! The walk goes on the shard's core, some segments of the table per turn; files are written by the executor's blocking thread.

use super::Background;
use super::data_directory::Manifest;
use super::disk::{AlignedBuffer, LogWriter};
use super::lanes::Doorbell;
use super::prepare::{move_to, sync_directory};
use super::recovery::LogPlace;
use super::ring::Ring;
use super::snapshot_file::{file_name, remove_others, temporary_name};
use crate::core::{Core, FROZEN_BYTES_MAX, Growth, Running};
use shards::snapshot::{BlockWriter, SNAPSHOT_BLOCK_BYTES, SnapshotHeader};
use shards::units::ShardId;
use shards::wal::Sequence;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// What became of the copies of the last one that was committed.
    backup: Mutex<Result<(), String>>,
}

#[derive(Default)]
struct Progress {
    /// The last snapshot of which the shard's file is on disk.
    written: AtomicU64,
    /// For the decision whether one is due.
    changes: AtomicU64,
    log_bytes: AtomicU64,
    snapshot_bytes: AtomicU64,
    disk_bytes: AtomicU64,
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
            backup: Mutex::new(Ok(())),
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
const PIECES_BUSY: usize = 4;
const PIECES_IDLE: usize = 16;

pub struct SnapshotWriter {
    place: LogPlace,
    archive: Option<PathBuf>,
    background: Background,
    board: Arc<Board>,
    doorbells: Arc<Vec<Doorbell>>,
    job: Option<Job>,
    salt: fn() -> u32,
}

/// The snapshot under way.
struct Job {
    running: Running,
    blocks: BlockWriter,
    stage: Stage,
    /// Where the next chunk goes.
    position: u64,
    file: FileUnderWay,
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
}

/// Shared with the background: one piece of work at a time.
#[derive(Clone, Default)]
struct FileUnderWay(Rc<RefCell<FileState>>);

#[derive(Default)]
struct FileState {
    busy: bool,
    file: Option<Arc<File>>,
    failure: Option<String>,
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
        SnapshotWriter { place, archive, background, board, doorbells, job: None, salt }
    }

    /// Whether there is something to do that waits for nobody.
    pub fn has_work(&self) -> bool {
        let can_go_on = |job: &Job| match job.stage {
            Stage::Walking => !job.file.is_busy(),
            Stage::Abandoned => true,
            Stage::AwaitingLog | Stage::Closing(_) | Stage::Written(_) | Stage::Committing(_) => false,
        };
        self.job.as_ref().is_some_and(can_go_on)
    }

    /// One turn's work; `busy`: the turn had other work, too.
    pub fn turn(&mut self, core: &mut Core, log: &mut LogWriter, ring: &mut Ring, busy: bool) {
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
            Stage::Abandoned => {
                if !core.owner.keyspace.walk_frozen(PIECES_BUSY)
                    && !self.job.as_ref().is_some_and(|job| job.file.is_busy())
                {
                    self.end_failed(core);
                }
            }
        }
        self.end_if_committed(core, log);
    }

    /// At every tick: tells shard 0 how much has grown, and, on shard 0, whether a snapshot is due.
    pub fn tick(&mut self, core: &mut Core, log: &LogWriter) {
        let own = &self.board.shards[self.place.shard.0 as usize];
        own.changes.store(core.snapshots.changes, Ordering::Relaxed);
        own.log_bytes.store(core.log.taken.0 - core.snapshots.base.0, Ordering::Relaxed);
        own.disk_bytes.store(if log.has_old() { log.bytes_on_disk() } else { 0 }, Ordering::Relaxed);
        if self.place.shard == ShardId(0) {
            core.want_due_snapshot(self.board.growth());
        }
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
        let file = FileUnderWay::default();
        let path = self.temporary(running.number);
        file.work(&self.background, move || {
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
            job.write(&self.background, chunk);
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
        job.file.work(&self.background, move || {
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
        let archive = Some(core.config.wal_archive_dir.clone()).filter(|path| !path.as_os_str().is_empty());
        let backups = std::mem::take(&mut core.snapshots.backups);
        let backups: Vec<PathBuf> = backups.iter().map(|name| core.config.backup_dir.join(name)).collect();
        job.file.work(&self.background, move || {
            let mut manifest = board.manifest.lock().expect("nobody panics while holding it");
            let next = Manifest { snapshot: Some(number), ..*manifest };
            next.write(&board.data_directory)?;
            *manifest = next;
            if let Some(archive) = archive {
                // So that the archive can be read by itself.
                std::fs::create_dir_all(&archive)?;
                next.write(&archive)?;
            }
            let copied = backups.iter().try_for_each(|target| back_up(&board.data_directory, next, target));
            *board.backup.lock().expect("nobody panics while holding it") = copied;
            board.committed.store(number, Ordering::SeqCst);
            doorbells.iter().for_each(Doorbell::ring);
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
            move || put_away_others(&directory, number, archive.as_deref()),
            |done| {
                if let Err(error) = done {
                    tracing::error!("removing a snapshot that was replaced: {error}");
                }
            },
        );
        self.job = None;
        let backup = self.board.backup.lock().expect("nobody panics while holding it").clone();
        core.snapshot_ended(Ok(()), backup);
        if self.place.shard == ShardId(0) {
            tracing::info!("Snapshot {number} is on disk");
        }
    }

    /// Looks whether this shard, or another, can't go on.
    fn watch_for_failure(&mut self, core: &mut Core, log: &LogWriter) {
        let Some(job) = &mut self.job else { return };
        if job.stage == Stage::Abandoned {
            return;
        }
        let number = job.running.number;
        let own = match job.stage {
            Stage::Walking | Stage::AwaitingLog | Stage::Closing(_) => {
                job.file.failure().or_else(|| log.failure.clone())
            }
            // The next start may find either manifest: both name what is whole, as no file is removed.
            Stage::Committing(_) => job.file.failure(),
            Stage::Written(_) | Stage::Abandoned => None,
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

    fn end_failed(&mut self, core: &mut Core) {
        let job = self.job.take().expect("a snapshot is under way");
        let number = job.running.number;
        let temporary = self.temporary(number);
        // What else is left is removed by the next snapshot, or the next start.
        self.background.spawn(move || drop(std::fs::remove_file(temporary)), |()| {});
        let why = self.board.why.lock().expect("nobody panics while holding it").clone();
        if self.place.shard == ShardId(0) {
            tracing::error!("snapshot {number} failed: {why}");
        }
        core.snapshot_ended(Err(why.clone()), Err(why));
    }

    fn temporary(&self, number: u64) -> PathBuf {
        self.place.directory.join(temporary_name(number))
    }
    fn path(&self, number: u64) -> PathBuf {
        self.place.directory.join(file_name(number))
    }
}

impl Job {
    fn write(&mut self, background: &Background, chunk: Vec<u8>) {
        let (file, at) = (self.file.file(), self.position);
        self.position += chunk.len() as u64;
        self.file.work(background, move || {
            write_at(&file, &chunk, at)?;
            Ok(None)
        });
    }
}

impl FileUnderWay {
    fn is_busy(&self) -> bool {
        self.0.borrow().busy
    }
    fn failure(&self) -> Option<String> {
        self.0.borrow().failure.clone()
    }
    fn file(&self) -> Arc<File> {
        self.0.borrow().file.clone().expect("it is made before anything else")
    }
    /// Has the blocking thread do something; a file that it returns is the one from then on.
    fn work(&self, background: &Background, work: impl FnOnce() -> io::Result<Option<File>> + Send + 'static) {
        self.0.borrow_mut().busy = true;
        let state = self.0.clone();
        background.spawn(work, move |done| {
            let mut state = state.borrow_mut();
            state.busy = false;
            match done {
                Ok(Some(file)) => state.file = Some(Arc::new(file)),
                Ok(None) => {}
                Err(error) => state.failure = Some(error.to_string()),
            }
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
        for shard in 0..manifest.shards {
            let place = format!("epoch-{}/shard-{shard}", manifest.epoch);
            let (from, to) = (data_directory.join(&place), target.join(&place));
            std::fs::create_dir_all(&to)?;
            link_or_copy(&from.join(file_name(number)), &to.join(file_name(number)))?;
            sync_directory(&to)?;
        }
        sync_directory(&target.join(format!("epoch-{}", manifest.epoch)))?;
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

/// Snapshots but this one go, to the archive if there is one.
fn put_away_others(directory: &Path, number: u64, archive: Option<&Path>) -> io::Result<()> {
    if let Some(archive) = archive {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let is_snapshot = path.extension().is_some_and(|extension| extension == "snapshot");
            if is_snapshot && path.file_name() != Some(file_name(number).as_ref()) {
                move_to(&path, archive)?;
            }
        }
    }
    remove_others(directory, Some(number))
}

/// For writes that don't fill the page cache with what nobody reads; through it where direct I/O isn't to be had.
fn create(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    match open(libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(0),
        other => other,
    }
}
