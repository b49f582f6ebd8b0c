//! Snapshots of all shards on the simulated disks, step by step in the order of `runtime::snapshot_writer`: each shard's file
//! under a temporary name, its sync, its name, the manifest, and only then the end of what it replaces.

use super::disk::Disk;
use super::writer::{EPOCH, Writer};
use shardis::core::{Core, Ended, Running};
use shards::snapshot::{BlockWriter, SnapshotHeader};
use shards::units::ShardId;
use shards::wal::Sequence;

/// The number of the set that a start begins with: as the kernel has it, and as the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    pub kernel: Option<u64>,
    pub disk: Option<u64>,
}

impl Manifest {
    pub fn cut_power(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        if self.kernel != self.disk && choose(2) == 1 {
            self.disk = self.kernel;
        }
        self.kernel = self.disk;
    }
}

/// What the shards tell each other of the snapshot under way.
#[derive(Debug, Default)]
pub struct Board {
    /// Per shard: the last snapshot whose file is on disk.
    written: Vec<u64>,
    /// Per shard: the last one that is over for it.
    ended: Vec<u64>,
    failed: u64,
    /// A planted bug: segments go when the shard's own file is on disk.
    recycles_early: bool,
    /// Times that this did something.
    pub planted: u64,
    /// Sets that were completed.
    pub completed: u64,
}

impl Board {
    pub fn new(recycles_early: bool) -> Board {
        Board { recycles_early, ..Board::default() }
    }

    pub fn begin(&mut self, shards: usize) {
        (self.written, self.ended, self.failed) = (vec![0; shards], vec![0; shards], 0);
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    Walking,
    AwaitingLog,
    Syncing(Sequence),
    Renaming(Sequence),
    Naming(Sequence),
    Written(Sequence),
    /// On shard 0: the new manifest has taken its name, but that is not on disk.
    Committing(Sequence),
    Abandoned,
    /// Shard 0 waits for the others before another may begin.
    Ending(Result<(), String>),
}

pub struct Job {
    running: Running,
    blocks: BlockWriter,
    stage: Stage,
}

/// What a shard's part of a snapshot works on.
pub struct Site<'a> {
    pub core: &'a mut Core,
    pub log: &'a mut Writer,
    pub disk: &'a mut Disk,
    pub manifest: &'a mut Manifest,
    pub board: &'a mut Board,
}

const PIECES: usize = 4;

/// In every turn: takes up a snapshot that the core has begun.
pub fn take_up(job: &mut Option<Job>, site: &mut Site<'_>) {
    if job.is_none() {
        *job = site.core.snapshots.running.map(|running| begin(running, site));
    }
}

/// A step of what is under way.
pub fn turn(job: &mut Option<Job>, site: &mut Site<'_>) {
    let Some(under_way) = job else { return };
    let number = under_way.running.number;
    let can_fail =
        !matches!(under_way.stage, Stage::Written(_) | Stage::Committing(_) | Stage::Abandoned | Stage::Ending(_));
    if can_fail && site.log.failure.is_some() {
        site.board.failed = number;
    }
    if site.board.failed >= number && !matches!(under_way.stage, Stage::Abandoned | Stage::Ending(_)) {
        under_way.stage = Stage::Abandoned;
        site.core.owner.keyspace.abandon_frozen();
    }
    if under_way.advance(site) {
        *job = None;
    }
}

fn begin(running: Running, site: &mut Site<'_>) -> Job {
    site.log.watch(running.offset);
    let header = SnapshotHeader {
        number: running.number,
        epoch: EPOCH,
        shard: site.core.shard,
        shards: site.core.shards,
        databases: site.core.owner.keyspace.databases(),
        seed: site.core.owner.keyspace.seed(),
        salt: running.number as u32,
        wall_ms: running.wall_ms,
        steady_ms: running.steady_ms,
        offset: running.offset,
    };
    site.disk.begin_snapshot(running.number);
    site.disk.extend_snapshot(running.number, &header.encode());
    Job { running, blocks: BlockWriter::new(&header), stage: Stage::Walking }
}

impl Job {
    /// Whether that was the last step.
    fn advance(&mut self, site: &mut Site<'_>) -> bool {
        let number = self.running.number;
        match self.stage.clone() {
            Stage::Walking => self.walk(site),
            Stage::AwaitingLog => {
                site.log.sync(true, site.disk);
                if let Some(last) = site.log.watched() {
                    let mut footer = Vec::new();
                    self.blocks.footer(last, &mut footer);
                    site.disk.extend_snapshot(number, &footer);
                    self.stage = Stage::Syncing(last);
                }
            }
            Stage::Syncing(last) => {
                site.disk.sync_snapshot(number);
                self.stage = Stage::Renaming(last);
            }
            Stage::Renaming(last) => {
                site.disk.rename_snapshot(number);
                self.stage = Stage::Naming(last);
            }
            Stage::Naming(last) => {
                site.disk.sync_directory();
                site.board.written[site.core.shard.0 as usize] = number;
                self.stage = Stage::Written(last);
                if site.board.recycles_early {
                    site.board.planted += u64::from(site.log.recycle(last, site.disk));
                }
            }
            Stage::Written(last) if site.core.shard == ShardId(0) && site.manifest.disk != Some(number) => {
                if site.board.written.iter().all(|written| *written >= number) {
                    site.manifest.kernel = Some(number);
                    self.stage = Stage::Committing(last);
                }
            }
            Stage::Committing(last) => {
                site.manifest.disk = Some(number);
                site.board.completed += 1;
                self.stage = Stage::Written(last);
            }
            Stage::Written(last) => return self.end_if_committed(last, site),
            Stage::Abandoned => {
                if !site.core.owner.keyspace.walk_frozen(PIECES) {
                    return self.end(Err("a log has failed".into()), site);
                }
            }
            Stage::Ending(outcome) => {
                if site.board.ended.iter().all(|ended| *ended >= number) {
                    site.core.snapshot_ended(&Ended { number, outcome, backups: Vec::new() });
                    return true;
                }
            }
        }
        false
    }

    fn walk(&mut self, site: &mut Site<'_>) {
        let more = site.core.owner.keyspace.walk_frozen(PIECES);
        let (edits, entries) = site.core.owner.keyspace.take_frozen(Vec::new());
        if entries > 0 {
            let mut chunk = Vec::new();
            self.blocks.data(&edits, entries, &mut chunk);
            site.disk.extend_snapshot(self.running.number, &chunk);
        }
        if !more {
            self.stage = Stage::AwaitingLog;
        }
    }

    /// The manifest names it: what it replaces goes.
    fn end_if_committed(&mut self, last: Sequence, site: &mut Site<'_>) -> bool {
        let number = self.running.number;
        if site.manifest.disk != Some(number) {
            return false;
        }
        site.log.recycle(last, site.disk);
        site.disk.remove_snapshots_but(Some(number));
        self.end(Ok(()), site)
    }

    fn end(&mut self, outcome: Result<(), String>, site: &mut Site<'_>) -> bool {
        let number = self.running.number;
        site.board.ended[site.core.shard.0 as usize] = number;
        if site.core.shard == ShardId(0) {
            self.stage = Stage::Ending(outcome);
            return false;
        }
        site.core.snapshot_ended(&Ended { number, outcome, backups: Vec::new() });
        true
    }
}
