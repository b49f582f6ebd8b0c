//! The end of a turn: what the log, the lanes and the sockets get, and what log progress sets free.

use super::Core;
use crate::router::batch::ConnectionId;
use crate::session::Closing;
use shards::call::Args;
use shards::error::CommandError;
use shards::owner::Owner;
use shards::reply::{Protocol, Reply};
use shards::row::{Handler, Route, Row, Traits};
use shards::transaction::Access;
use shards::units::{Db, Now, Offset, ShardId};
use shards::unsettled::Unsettled;
use shards::wal::{FsyncPolicy, GroupTable};

/// Where the local log stands, as far as replies depend on it.
pub struct LogState {
    /// Whether there is a log at all (`appendonly`).
    pub persistent: bool,
    pub policy: FsyncPolicy,
    /// Replies that wait for an offset up to this may go.
    pub released: Offset,
    /// Up to here edits have been handed to the log; `keyspace.edits()` starts here.
    pub taken: Offset,
    /// On every shard each edit of a turn that began before is on disk, in steady milliseconds.
    pub durable_ms: u64,
    /// Bytes handed to the log that the policy's promise doesn't cover yet.
    pub backlog_bytes: u64,
    /// Why this shard takes no more writes until a restart.
    pub failed: Option<String>,
    /// Why it takes none for now (disk full); passes by itself.
    pub blocked: Option<String>,
    /// A transaction that was granted is being run: what is blocked now was not when the others were told to run it.
    pub(super) promised: bool,
    unsettled: Unsettled,
    /// Transactions over several shards with edits among those not taken yet.
    pub(super) groups: GroupTable,
}

/// Edits for one record of the log.
pub struct EditBatch {
    pub edits: Vec<u8>,
    /// Where they start in the shard's stream.
    pub start: Offset,
    /// How many they are.
    pub count: u32,
    /// The transactions over several shards among them, and those closed meanwhile.
    pub groups: GroupTable,
    pub group_count: u32,
}

impl Default for LogState {
    fn default() -> Self {
        LogState {
            persistent: false,
            policy: FsyncPolicy::EverySec,
            released: Offset(0),
            taken: Offset(0),
            backlog_bytes: 0,
            durable_ms: 0,
            failed: None,
            blocked: None,
            promised: false,
            unsettled: Unsettled::default(),
            groups: GroupTable::default(),
        }
    }
}

/// With more than this on its way to a slow disk, a shard refuses writes rather than let memory grow.
pub const BACKLOG_BYTES_MAX: u64 = 64 << 20;

impl LogState {
    /// Why a write can't be taken, if so. Asked before executing: an edit that can't be logged never happens.
    pub fn refusal(&self, shard: ShardId) -> Option<CommandError> {
        if !self.persistent || self.promised {
            return None;
        }
        let why = match (&self.failed, &self.blocked) {
            (Some(failed), _) => format!("the log of shard {} has failed: {failed}; restart to recover", shard.0),
            (None, Some(blocked)) => format!("the log of shard {} can't grow: {blocked}", shard.0),
            (None, None) if self.backlog_bytes > BACKLOG_BYTES_MAX => {
                format!("the log of shard {} is {BACKLOG_BYTES_MAX} bytes behind; its disk is too slow", shard.0)
            }
            (None, None) => return None,
        };
        Some(CommandError::owned(format!("MISCONF Writes are refused: {why}")))
    }

    /// A command made edits that end at `until`: later readers of its keys depend on them.
    pub(super) fn note_write(
        &mut self,
        owner: &mut Owner,
        row: &'static Row<Handler>,
        args: Args<'_>,
        db: Db,
        until: Offset,
    ) {
        if self.policy != FsyncPolicy::Always {
            return;
        }
        if reaches_beyond_its_keys(row) {
            return self.unsettled.note_all(until);
        }
        let mut positions = Vec::new();
        row.find_keys(&args, &mut positions);
        for at in positions {
            self.unsettled.note(owner.keyspace.key_hash(db, args.at(at)), until);
        }
    }

    /// Edits of another core's command were adopted.
    pub(super) fn note_adopted(&mut self, until: Offset) {
        if self.policy == FsyncPolicy::Always {
            self.unsettled.note_all(until);
        }
    }

    /// Keys that a transaction wrote which will never be complete: it is in this log, and not in another one.
    /// `None`: all keys.
    pub(super) fn note_lost(&mut self, key_hashes: Option<impl Iterator<Item = u64>>) {
        match key_hashes {
            _ if self.policy != FsyncPolicy::Always => {}
            Some(hashes) => hashes.for_each(|hash| self.unsettled.lose(hash)),
            None => self.unsettled.note_all(Offset(u64::MAX)),
        }
    }

    /// What the reply of a command that made no edit depends on.
    pub(super) fn seen_by(&self, owner: &Owner, row: &'static Row<Handler>, args: Args<'_>, db: Db) -> Offset {
        if self.policy != FsyncPolicy::Always || self.unsettled.is_empty() {
            return Offset(0);
        }
        if reaches_beyond_its_keys(row) {
            return self.unsettled_end(owner);
        }
        let mut positions = Vec::new();
        row.find_keys(&args, &mut positions);
        let seen = positions.iter().map(|&at| self.unsettled.until(owner.keyspace.key_hash(db, args.at(at))));
        seen.max().unwrap_or_default()
    }

    /// Where the edits made so far end in the shard's stream.
    pub(super) fn end(&self, owner: &Owner) -> Offset {
        Offset(self.taken.0 + owner.keyspace.edits().len() as u64)
    }

    /// What a reply that shows much of the keyspace depends on.
    pub(super) fn unsettled_end(&self, owner: &Owner) -> Offset {
        if self.policy != FsyncPolicy::Always || self.unsettled.is_empty() {
            return Offset(0);
        }
        if self.unsettled.has_lost() { Offset(u64::MAX) } else { self.end(owner) }
    }
}

/// Whether a command touches more than its keys in the connection's database: then all keys count, to be safe.
fn reaches_beyond_its_keys(row: &Row<Handler>) -> bool {
    row.traits.has(Traits::OTHER_DATABASES)
        || row.traits.has(Traits::WHOLE)
        || !matches!(row.route, Route::Keyed | Route::Split(_))
}

impl Core {
    /// Both clocks, at the start of a turn.
    pub fn begin_turn(&mut self, now: Now) {
        self.now = now;
    }

    /// What is ready for one record of the log, if anything is. `empty` is a buffer for the next.
    pub fn take_edits(&mut self, empty: Vec<u8>) -> Option<EditBatch> {
        let holding = !self.participation.holding_log.is_empty();
        self.sealed.pop_front().or_else(|| if holding { None } else { self.current_batch(empty) })
    }

    /// Bytes of edits that can be taken.
    pub fn edits_waiting(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|batch| batch.edits.len()).sum();
        let held = !self.participation.holding_log.is_empty();
        sealed + if held { 0 } else { self.owner.keyspace.edits().len() }
    }

    /// The edits made so far get a record of their own.
    pub(super) fn seal_batch(&mut self) {
        let batch = self.current_batch(Vec::new());
        self.sealed.extend(batch);
    }

    fn current_batch(&mut self, empty: Vec<u8>) -> Option<EditBatch> {
        let count = self.owner.keyspace.edit_count();
        if count == 0 {
            return None;
        }
        let start = self.log.taken;
        self.snapshots.changes += count as u64;
        let edits = self.owner.keyspace.take_edits(empty);
        self.log.taken = Offset(start.0 + edits.len() as u64);
        self.log.unsettled.seal();
        let groups = std::mem::take(&mut self.log.groups);
        Some(EditBatch { edits, start, count, groups, group_count: self.take_group_count() })
    }

    /// The log is as durable as the policy demands up to `written`: lets the replies go that waited for it.
    pub fn release(&mut self, released: Offset) {
        if released <= self.log.released {
            return;
        }
        self.log.released = released;
        // First, so that nobody who runs now is told to wait for what has been released.
        self.log.unsettled.settle(released);
        if released >= self.log.unsettled.all_until() {
            self.log.unsettled.note_all(Offset(0));
        }
        self.close_groups();
        self.serve_granted();
        for connection in std::mem::take(&mut self.gated) {
            if let Some(session) = self.session_mut(connection) {
                session.gated = false;
            }
            self.flush_replies(connection);
        }
        for outbox in &mut self.replies {
            while outbox.waiting.front().is_some_and(|(until, _)| *until <= released) {
                let (_, batch) = outbox.waiting.pop_front().expect("just looked at");
                outbox.ready.append(&batch);
            }
        }
    }

    /// On every shard each edit of a turn that began before `durable_ms` (steady) is on disk.
    pub fn note_durable(&mut self, durable_ms: u64) {
        self.log.durable_ms = self.log.durable_ms.max(durable_ms);
    }

    /// The log has failed for good. What waits for it will never be durable: peers' callers get an error, and own clients,
    /// whose replies stand in the order of their requests, are disconnected: the outcome of their last writes is unknown.
    pub fn fail_log(&mut self, why: &str) {
        if self.log.failed.is_some() {
            return;
        }
        self.log.failed = Some(why.to_string());
        for connection in std::mem::take(&mut self.gated) {
            if let Some(session) = self.session_mut(connection) {
                session.gated = false;
            }
            self.close(connection, Closing::Now);
        }
        self.refuse_waiting();
        self.replies.iter_mut().for_each(|outbox| outbox.ready.log_failed = true);
        self.abandon_groups();
    }

    /// Once the log has failed, what waits for it is answered with that: to peers' calls, also to those that come later and see
    /// what was not written.
    pub(super) fn refuse_waiting(&mut self) {
        if self.log.failed.is_none() {
            return;
        }
        let refusal = self.log.refusal(self.shard).expect("a failed log refuses");
        for outbox in &mut self.replies {
            for (_, batch) in outbox.waiting.drain(..) {
                for (ticket, _, _) in batch.iter() {
                    let start = outbox.ready.buffer().len();
                    Reply::new(outbox.ready.buffer(), Protocol::Resp2).error(&refusal);
                    outbox.ready.close(ticket, start);
                }
            }
        }
    }

    /// Bytes of edits whose replies can't go yet: what a slow disk makes pile up. `fresh` bytes of them don't count, having come
    /// just now or in one piece: a single large value is no sign of a slow disk.
    pub fn count_backlog(&mut self, fresh: u64) {
        let end = self.log.end(&self.owner);
        self.log.backlog_bytes = (end.0 - self.log.released.0).saturating_sub(fresh);
    }

    /// Moves a connection's replies that may go to its output.
    pub(super) fn flush_replies(&mut self, connection: ConnectionId) {
        let released = self.log.released;
        let Some(session) = self.session_mut(connection) else { return };
        if session.replies.release(released) {
            if self.log.failed.is_some() {
                // It was behind another shard's reply when the log failed.
                return self.close(connection, Closing::Now);
            }
            self.mark_gated(connection);
        }
        self.mark_dirty(connection);
    }

    /// Connections with output to send, or to close; each named once.
    ///
    /// A pipeline over several shards has its replies in pieces: those of this core are there at once, the others a lane's
    /// round trip later. One send for all costs half of two, so the first wait for the others, but not for long.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnectionId>) {
        into.clear();
        let now = self.ticks();
        let overdue = self.send_deadline().is_some_and(|deadline| now >= deadline);
        if overdue {
            self.undefer();
        }
        for connection in std::mem::take(&mut self.dirty) {
            self.check_output(connection);
            let Some(session) = self.session_mut(connection) else { continue };
            session.dirty = false;
            let may_wait = !overdue
                && session.closing == Closing::Open
                && session.replies.expects_a_peer()
                && session.replies.out.len() < DEFERRED_BYTES_MAX;
            if !may_wait {
                let was_deferred = std::mem::take(&mut session.deferred);
                into.push(connection);
                self.deferred_now -= was_deferred as usize;
            } else if !session.deferred && !session.replies.out.is_empty() {
                session.deferred = true;
                self.deferred_now += 1;
                if self.deferred.is_empty() {
                    self.deferred_since = now;
                }
                self.deferred.push(connection);
            }
        }
        if self.deferred_now == 0 {
            self.deferred.clear();
        }
        // `check_output` may have marked some that were just taken.
        for connection in std::mem::take(&mut self.dirty) {
            if let Some(session) = self.session_mut(connection) {
                session.dirty = false;
            }
        }
    }

    /// When replies that wait for others have to be sent without them, in ticks.
    pub fn send_deadline(&self) -> Option<u64> {
        (!self.deferred.is_empty()).then_some(self.deferred_since + DEFERRED_NS_MAX)
    }

    fn undefer(&mut self) {
        for connection in std::mem::take(&mut self.deferred) {
            if self.session(connection).is_some_and(|session| session.deferred) {
                self.mark_dirty(connection);
            }
        }
    }

    pub fn has_resumable(&self) -> bool {
        !self.resumable.is_empty()
    }

    /// Work by time, `hz` times a second: expiry, idle connections. Returns in how many milliseconds it wants to be called again.
    pub fn tick(&mut self) -> u64 {
        let mut more = false;
        self.stats.sample(self.now.steady_ms);
        if self.active_expire && self.log.refusal(self.shard).is_none() {
            // A key under intents may have been written by a group that isn't closed: left alone until it is.
            let intents = &self.participation.intents;
            let free = |hash| intents.is_idle() || !intents.conflicts_on(hash, Access::Write);
            let removed = self.owner.keyspace.expire_due_if(self.now, EXPIRED_PER_TICK_MAX, &free);
            self.stats.expired_keys += removed as u64;
            more = removed == EXPIRED_PER_TICK_MAX;
        }
        more |= self.owner.keyspace.reclaim(SEGMENTS_RECLAIMED_PER_TICK);
        let timeout_ms = self.config.timeout_seconds as u64 * 1000;
        if timeout_ms > 0 {
            self.close_idle(timeout_ms);
        }
        let interval_ms = 1_000 / self.config.hz.max(1) as u64;
        if more { interval_ms.min(BUSY_TICK_MS) } else { interval_ms }
    }

    fn close_idle(&mut self, timeout_ms: u64) {
        let now_ms = self.now.steady_ms;
        let idle: Vec<ConnectionId> = self
            .sessions()
            .filter(|session| session.blocked.is_none() && now_ms.saturating_sub(session.active_ms) >= timeout_ms)
            .map(|session| session.connection)
            .collect();
        idle.into_iter().for_each(|connection| self.close(connection, Closing::Now));
    }
}

/// The longest that a reply waits for those behind it.
const DEFERRED_NS_MAX: u64 = 200_000;
/// Beyond this, sending in pieces costs nothing more.
const DEFERRED_BYTES_MAX: usize = 16 << 10;
/// Bounds a tick to well under a millisecond. What is left falls to the next, which comes early then: some 250,000 keys a
/// second, a tenth of a core.
const EXPIRED_PER_TICK_MAX: usize = 1_000;
const SEGMENTS_RECLAIMED_PER_TICK: usize = 32;
const BUSY_TICK_MS: u64 = 4;
