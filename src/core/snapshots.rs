//! Snapshots: of all shards, of one moment.
//!
//! Shard 0 sees to them, one at a time. It claims every shard as a transaction that reads everything does, so that no
//! transaction over several shards is partly before and partly behind; with all claims held each shard freezes its keyspace
//! at the end of a record of its log, and lets go at once. From there on every shard walks what it froze between its turns
//! (`Keyspace::walk_frozen`), and the runtime writes that to a file.

use super::execute::{mutes, wait_for_replies};
use super::{Core, Flow};
use crate::router::batch::{ConnectionId, Ticket, Work};
use crate::router::program::Program;
use shards::error::CommandError;
use shards::reply::{Protocol, Reply};
use shards::units::{Db, Offset, ShardId};

/// What a core knows of snapshots.
#[derive(Default)]
pub struct Snapshots {
    /// On shard 0: asked for and not begun; and from the request to the end on all shards.
    wanted: bool,
    under_way: bool,
    /// The last one that was begun here.
    pub begun: u64,
    /// Being taken here.
    pub running: Option<Running>,
    /// SAVE and BACKUP of own clients, with the first snapshot that will do.
    waiting: Vec<Waiting>,
    /// On shard 0: names of the copies to be made of the next snapshot, and of the one under way.
    backups_wanted: Vec<String>,
    pub backups: Vec<String>,
    /// How the last one ended; without one, as if it had been at the start.
    pub last: LastSave,
    /// Where the last one that ended well ends in the shard's stream of edits.
    pub base: Offset,
    /// Edits since it began.
    pub changes: u64,
    changes_at_begin: u64,
    /// Why the last one failed, and until when (steady) none is begun unasked.
    quiet_until_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    pub number: u64,
    /// What was logged up to here is in it.
    pub offset: Offset,
    pub wall_ms: u64,
    pub steady_ms: u64,
}

#[derive(Clone, Debug)]
pub struct LastSave {
    /// Of the last that ended well.
    pub wall_ms: u64,
    pub failure: Option<String>,
    pub took_ms: Option<u64>,
}

impl Default for LastSave {
    fn default() -> Self {
        LastSave { wall_ms: 0, failure: None, took_ms: None }
    }
}

struct Waiting {
    connection: ConnectionId,
    slot: Option<u64>,
    number: u64,
    is_backup: bool,
}

/// What decides whether one is due, over all shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Growth {
    pub changes: u64,
    /// Bytes of edits logged since the last snapshot.
    pub log_bytes: u64,
    /// Of the last snapshot.
    pub snapshot_bytes: u64,
    /// The most that one shard's segments take, of shards that have any that a snapshot would replace.
    pub disk_bytes: u64,
}

/// What shard 0 says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Begins,
    UnderWay,
}

/// A snapshot that failed is not tried again before, unless somebody asks.
const RETRY_AFTER_MS: u64 = 10_000;
/// So much of the keyspace may be waiting for a slow disk; then the snapshot is given up rather than the memory.
pub const FROZEN_BYTES_MAX: usize = 64 << 20;

pub const UNDER_WAY: CommandError = CommandError::new("ERR Background save already in progress");
const BACKUP_NAME_BYTES_MAX: usize = 128;
const NO_BACKUP_DIR: CommandError =
    CommandError::new("ERR There is no directory for backups: set backup-dir at the start");
const BAD_BACKUP_NAME: CommandError = CommandError::new(
    "ERR A backup's name has letters, digits, '-', '_' and '.', at most 128 of them, and doesn't begin with '.'",
);
const NO_LOG: CommandError =
    CommandError::new("ERR There is nowhere to save to: the server was started with --appendonly no");

impl Core {
    /// Whether snapshots can be taken at all.
    pub fn can_save(&self) -> Result<(), CommandError> {
        if !self.log.persistent {
            return Err(NO_LOG);
        }
        match &self.log.failed {
            Some(why) => Err(CommandError::owned(format!("ERR The log of shard {} has failed: {why}", self.shard.0))),
            None => Ok(()),
        }
    }

    /// On shard 0: has a snapshot taken as soon as none is under way.
    pub fn want_snapshot(&mut self, only_if_idle: bool) -> Asked {
        let asked = if self.snapshots.under_way { Asked::UnderWay } else { Asked::Begins };
        self.snapshots.wanted |= asked == Asked::Begins || !only_if_idle;
        asked
    }

    /// On shard 0, once per turn: begins one that is wanted.
    pub fn begin_wanted_snapshot(&mut self) {
        if !self.snapshots.wanted || self.snapshots.under_way || self.log.failed.is_some() {
            return;
        }
        self.snapshots.wanted = false;
        self.snapshots.under_way = true;
        self.snapshots.backups = std::mem::take(&mut self.snapshots.backups_wanted);
        let number = self.snapshots.begun + 1;
        let program = Program::of_snapshot(self.slots, self.shard, number);
        self.begin_transaction(NOBODY, program, false, 0);
    }

    /// On shard 0, at every tick: whether one is due by the settings `save` and `auto-aof-rewrite-*`.
    pub fn want_due_snapshot(&mut self, growth: Growth) {
        let quiet = self.snapshots.under_way || self.now.steady_ms < self.snapshots.quiet_until_ms;
        if quiet || !self.log.persistent || self.log.failed.is_some() {
            return;
        }
        let config = &self.config;
        let since_s = self.now.wall_ms.saturating_sub(self.snapshots.last.wall_ms) / 1_000;
        let by_time =
            config.save.iter().any(|point| since_s >= point.seconds && growth.changes >= point.changes.max(1));
        let grown = growth.log_bytes.saturating_mul(100) / config.snapshot_percentage.max(1);
        let by_size = config.snapshot_percentage > 0
            && growth.changes > 0
            && growth.log_bytes >= config.snapshot_log_bytes_min
            && grown >= growth.snapshot_bytes;
        let by_limit = config.wal_bytes_max > 0 && growth.changes > 0 && growth.disk_bytes >= config.wal_bytes_max / 2;
        if by_time || by_size || by_limit {
            self.want_snapshot(true);
        }
    }

    /// On shard 0: as `want_snapshot`, and a copy of it under this name.
    pub(super) fn want_backup(&mut self, name: &[u8]) {
        self.snapshots.backups_wanted.push(String::from_utf8_lossy(name).into_owned());
        self.want_snapshot(false);
    }

    /// SAVE: the reply comes when a snapshot that begins after this is on disk.
    pub fn save(&mut self, connection: ConnectionId) -> Result<Flow, CommandError> {
        self.can_save()?;
        if self.snapshots.running.is_some() || !self.snapshots.waiting.is_empty() {
            return Err(UNDER_WAY);
        }
        self.wait_for_snapshot(connection, None)
    }

    /// BACKUP: as `save`, and the snapshot is copied under this name.
    pub fn back_up(&mut self, connection: ConnectionId, name: &[u8]) -> Result<Flow, CommandError> {
        self.can_save()?;
        if self.config.backup_dir.as_os_str().is_empty() {
            return Err(NO_BACKUP_DIR);
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if name.is_empty() || name[0] == b'.' || name.len() > BACKUP_NAME_BYTES_MAX || !name.iter().all(allowed) {
            return Err(BAD_BACKUP_NAME);
        }
        self.wait_for_snapshot(connection, Some(name))
    }

    fn wait_for_snapshot(&mut self, connection: ConnectionId, backup: Option<&[u8]>) -> Result<Flow, CommandError> {
        if !self.has_credit(ShardId(0)) {
            return Ok(Flow::Hold);
        }
        let session = self.session_mut(connection).expect("the caller's session outlives its call");
        if session.flying > 0 {
            return Ok(wait_for_replies(session));
        }
        session.held = true;
        let slot = (!mutes(session.reply_mode)).then(|| session.replies.reserve());
        let number = self.snapshots.begun + 1;
        self.snapshots.waiting.push(Waiting { connection, slot, number, is_backup: backup.is_some() });
        match backup {
            _ if self.shard != ShardId(0) => {
                let ticket = Ticket { connection, slot: super::execute::MUTED_SLOT, part: 0, spread: true };
                self.call(ShardId(0), ticket, Work::WantSnapshot, Db(0), Protocol::Resp2, backup.into_iter());
            }
            Some(name) => self.want_backup(name),
            None => drop(self.want_snapshot(false)),
        }
        Ok(Flow::Done)
    }

    /// All shards are claimed: what this one holds now is the snapshot.
    pub(super) fn freeze(&mut self, number: u64) {
        self.seal_batch();
        self.owner.keyspace.freeze();
        let offset = self.log.end(&self.owner);
        let (wall_ms, steady_ms) = (self.now.wall_ms, self.now.steady_ms);
        self.snapshots.begun = number;
        self.snapshots.changes_at_begin = self.snapshots.changes;
        self.snapshots.running = Some(Running { number, offset, wall_ms, steady_ms });
    }

    /// The snapshot that ran here is on disk on all shards, or given up on all; and what became of copies of it.
    pub fn snapshot_ended(&mut self, outcome: Result<(), String>, backup: Result<(), String>) {
        let Some(running) = self.snapshots.running.take() else { return };
        self.snapshots.under_way = false;
        let took_ms = self.now.steady_ms.saturating_sub(running.steady_ms);
        self.snapshots.last.took_ms = Some(took_ms);
        self.snapshots.last.failure = outcome.as_ref().err().cloned();
        match &outcome {
            Ok(()) => {
                self.snapshots.last.wall_ms = running.wall_ms;
                self.snapshots.base = running.offset;
                self.snapshots.changes -= self.snapshots.changes_at_begin;
            }
            Err(_) => self.snapshots.quiet_until_ms = self.now.steady_ms + RETRY_AFTER_MS,
        }
        let due = |waiting: &mut Waiting| waiting.number <= running.number;
        for waiting in self.snapshots.waiting.extract_if(.., due).collect::<Vec<_>>() {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, self.protocol(waiting.connection));
            match outcome.as_ref().and(if waiting.is_backup { backup.as_ref() } else { Ok(&()) }) {
                Ok(()) => reply.ok(),
                Err(why) => reply.error(&CommandError::owned(format!("ERR The snapshot failed: {why}"))),
            }
            if let Some(slot) = waiting.slot {
                self.fill(waiting.connection, slot, &out, Offset(0));
            }
            self.unhold(waiting.connection);
        }
    }
}

/// In place of a connection: a transaction that the server makes for itself.
const NOBODY: ConnectionId = ConnectionId { index: u32::MAX, generation: u32::MAX };
