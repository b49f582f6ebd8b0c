//! Snapshots: of all shards, of one moment.
//!
//! Shard 0 sees to them, one at a time. It claims every shard as a transaction that reads everything does, so that no
//! transaction over several shards is partly before and partly behind; with all claims held each shard freezes its keyspace
//! at the end of a record of its log, and lets go at once. From there on every shard walks what it froze between its turns
//! (`Keyspace::walk_frozen`), and the runtime writes that to a file.

use super::coordinate::Beginning;
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
    /// SAVE and BACKUP of own clients.
    waiting: Vec<Waiting>,
    last_request: u64,
    /// On shard 0: who waits for the next snapshot, and the copies to be made of the one under way.
    requests: Vec<Request>,
    pub backups: Vec<String>,
    /// On shard 0: some log can't grow, so that a snapshot would wait for it, and everything for the snapshot.
    pub obstructed: Option<String>,
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

#[derive(Clone, Debug, Default)]
pub struct LastSave {
    /// Of the last that ended well.
    pub wall_ms: u64,
    pub failure: Option<String>,
    pub took_ms: Option<u64>,
}

struct Waiting {
    connection: ConnectionId,
    slot: Option<u64>,
    id: RequestId,
    backup: Option<String>,
    /// The snapshot that will do, once it has begun.
    number: Option<u64>,
}

/// Of SAVE or BACKUP on whatever core: that core, and a number of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RequestId {
    shard: ShardId,
    number: u64,
}

impl RequestId {
    const BYTES: usize = 10;

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..2].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[2..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }
    fn decode(bytes: &[u8]) -> Self {
        let (shard, number) = bytes.split_at(2);
        RequestId {
            shard: ShardId(u16::from_le_bytes(shard.try_into().expect("two bytes"))),
            number: u64::from_le_bytes(number.try_into().expect("eight bytes")),
        }
    }
}

struct Request {
    id: RequestId,
    backup: Option<String>,
}

/// What became of a snapshot, as its runtime tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub number: u64,
    pub outcome: Result<(), String>,
    /// Of the copies made of it.
    pub backups: Vec<(String, Result<(), String>)>,
}

impl Ended {
    fn of(&self, waiting: &Waiting) -> Result<(), String> {
        self.outcome.clone()?;
        let Some(name) = &waiting.backup else { return Ok(()) };
        let copied = self.backups.iter().find(|(other, _)| other == name);
        copied.map_or_else(|| Err("no copy was made".into()), |(_, copied)| copied.clone())
    }
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
        if !self.snapshots.wanted || self.snapshots.under_way {
            return;
        }
        let requests = std::mem::take(&mut self.snapshots.requests);
        let ids: Vec<u8> = requests.iter().flat_map(|request| request.id.encode()).collect();
        let failed = self.log.failed.as_ref().map(|why| format!("the log of shard 0 has failed: {why}"));
        let program = match failed.or_else(|| self.snapshots.obstructed.clone()) {
            None => {
                self.snapshots.under_way = true;
                self.snapshots.backups = requests.into_iter().filter_map(|request| request.backup).collect();
                Program::of_snapshot(self.slots, self.shard, self.snapshots.begun + 1, &ids)
            }
            Some(why) => {
                self.snapshots.quiet_until_ms = self.now.steady_ms + RETRY_AFTER_MS;
                Program::of_refused_snapshot(self.slots, self.shard, &why, &ids)
            }
        };
        self.snapshots.wanted = false;
        self.begin_transaction(NOBODY, program, Beginning::default());
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

    /// On shard 0: has a snapshot taken for a client that waits.
    pub(super) fn request_snapshot(&mut self, id: &[u8], backup: Option<&[u8]>) {
        let backup = backup.map(|name| String::from_utf8_lossy(name).into_owned());
        self.snapshots.requests.push(Request { id: RequestId::decode(id), backup });
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
        self.snapshots.last_request += 1;
        let id = RequestId { shard: self.shard, number: self.snapshots.last_request };
        let name = backup.map(|name| String::from_utf8_lossy(name).into_owned());
        self.snapshots.waiting.push(Waiting { connection, slot, id, backup: name, number: None });
        if self.shard == ShardId(0) {
            self.request_snapshot(&id.encode(), backup);
        } else {
            let ticket = Ticket { connection, slot: super::execute::MUTED_SLOT, part: 0, spread: true };
            let args = std::iter::once(id.encode()).map(|id| id.to_vec()).chain(backup.map(<[u8]>::to_vec));
            let args: Vec<Vec<u8>> = args.collect();
            let args = args.iter().map(Vec::as_slice);
            self.call(ShardId(0), ticket, Work::WantSnapshot, Db(0), Protocol::Resp2, args);
        }
        Ok(Flow::Done)
    }

    /// No snapshot begins, for this reason: who asked for one is told.
    pub(super) fn refuse_snapshot(&mut self, why: &[u8], ids: &[u8]) {
        self.bind_requests(ids, REFUSED);
        let why = String::from_utf8_lossy(why).into_owned();
        self.snapshots.last.failure = Some(why.clone());
        self.answer_waiting(&Ended { number: REFUSED, outcome: Err(why), backups: Vec::new() });
    }

    /// The snapshot with this number is the one that these requests wait for.
    fn bind_requests(&mut self, ids: &[u8], number: u64) {
        let ids: Vec<RequestId> = ids.chunks(RequestId::BYTES).map(RequestId::decode).collect();
        for waiting in self.snapshots.waiting.iter_mut().filter(|waiting| ids.contains(&waiting.id)) {
            waiting.number = Some(number);
        }
    }

    /// All shards are claimed: what this one holds now is the snapshot.
    pub(super) fn freeze(&mut self, number: u64, ids: &[u8]) {
        self.bind_requests(ids, number);
        // The log must have begun a segment in this life before a snapshot is counted on: its header is what keeps records that a
        // start has cut off, and the snapshot's place would come before, from being read again.
        self.owner.keyspace.nothing();
        self.seal_batch();
        self.owner.keyspace.freeze();
        let offset = self.log.end(&self.owner);
        let (wall_ms, steady_ms) = (self.now.wall_ms, self.now.steady_ms);
        self.snapshots.begun = number;
        self.snapshots.changes_at_begin = self.snapshots.changes;
        self.snapshots.running = Some(Running { number, offset, wall_ms, steady_ms });
    }

    /// The snapshot that ran here is on disk on all shards, or given up on all.
    pub fn snapshot_ended(&mut self, ended: &Ended) {
        let Some(running) = self.snapshots.running.take() else { return };
        self.snapshots.under_way = false;
        let took_ms = self.now.steady_ms.saturating_sub(running.steady_ms);
        self.snapshots.last.took_ms = Some(took_ms);
        self.snapshots.last.failure = ended.outcome.as_ref().err().cloned();
        match &ended.outcome {
            Ok(()) => {
                self.snapshots.last.wall_ms = running.wall_ms;
                self.snapshots.base = running.offset;
                self.snapshots.changes -= self.snapshots.changes_at_begin;
            }
            Err(_) => self.snapshots.quiet_until_ms = self.now.steady_ms + RETRY_AFTER_MS,
        }
        self.answer_waiting(ended);
    }

    fn answer_waiting(&mut self, ended: &Ended) {
        let due = |waiting: &mut Waiting| waiting.number == Some(ended.number);
        for waiting in self.snapshots.waiting.extract_if(.., due).collect::<Vec<_>>() {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, self.protocol(waiting.connection));
            match ended.of(&waiting) {
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

/// No snapshot has it.
const REFUSED: u64 = 0;

/// In place of a connection: a transaction that the server makes for itself.
const NOBODY: ConnectionId = ConnectionId { index: u32::MAX, generation: u32::MAX };
