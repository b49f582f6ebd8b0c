//! What of the log the kernel holds, what is on disk, and so which replies may go.
//!
//! Owns the bookkeeping of writes and syncs in flight; the runtime does them and says when they are done. Several
//! writes may be in flight and complete in any order, but only a prefix without holes counts. The rule: what was
//! released is covered as the policy demands, and after a failure nothing more is ever released.
//!
//! ```text
//!                 durable            syncing              held            in flight
//! offsets  ───────────────────┬───────────────────┬──────────────────┬─ ─ ─ ─ ─ ─ ─ ─ ─ ─►
//!           on disk           │ with the kernel,  │ with the kernel  │ being written; some may be
//!                             │ sync under way    │                  │ done behind one that is not
//! ```

use super::Sequence;
use crate::units::Offset;
use std::collections::VecDeque;

/// Under `everysec` a sync is due when the oldest unsynced write began this long ago.
pub const SYNC_AFTER_MS: u64 = 500;
/// Under `everysec` nothing is released once the oldest unsynced write began this long ago. Less than the promised second, so
/// that the time from a release to the reply's arrival is inside the promise.
pub const UNSYNCED_AGE_MS_MAX: u64 = 900;

/// `appendfsync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsyncPolicy {
    /// Released when on disk; each write is a durable one (O_DSYNC).
    Always,
    /// Released when the kernel has the bytes, as long as the disk keeps up.
    EverySec,
    /// Released when the kernel has the bytes.
    No,
}

/// End of a prefix of the log: its last record, and the offset after that record's edits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    sequence: Sequence,
    offset: Offset,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    end: Mark,
    begun_ms: u64,
    /// Begun under `always`: on disk when it completes, and its reply was promised to wait for that.
    durable: bool,
    done: bool,
}

/// Records with the kernel, and until when they wait for the disk.
#[derive(Clone, Copy, Debug)]
struct Range {
    end: Mark,
    /// When the oldest of its writes that need a sync began; `None` if all of them were durable writes, behind others that
    /// were not.
    oldest_unsynced_ms: Option<u64>,
}

/// Writes begun under `always` behind others that need a sync: they keep their promise when the policy is relaxed.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// Offset before the first of them.
    from: Offset,
    last: Sequence,
}

/// A sync under way. Covers every record up to `through`, in whatever segment file it is.
#[derive(Debug)]
#[must_use = "a sync that is never reported blocks all others"]
pub struct SyncTicket {
    through: Sequence,
}

impl SyncTicket {
    /// The sync must cover the segments of all records up to this one that are not on disk yet.
    pub fn through(&self) -> Sequence {
        self.through
    }
}

#[derive(Debug)]
pub struct Commit {
    policy: FsyncPolicy,
    durable: Mark,
    syncing: Option<Range>,
    held: Option<Range>,
    in_flight: VecDeque<Write>,
    promise: Option<Promise>,
    /// The highest offset ever released: those replies are gone.
    released: Offset,
    failed: bool,
}

impl Commit {
    /// Continues a log of which every record up to `durable_mark`, ending at `offset`, is on disk: a start syncs what it
    /// recovered before it comes here, as a killed predecessor may have left it with the kernel only.
    pub fn new(policy: FsyncPolicy, durable_mark: Sequence, offset: Offset) -> Self {
        Commit {
            policy,
            durable: Mark { sequence: durable_mark, offset },
            syncing: None,
            held: None,
            in_flight: VecDeque::new(),
            promise: None,
            released: offset,
            failed: false,
        }
    }

    pub fn policy(&self) -> FsyncPolicy {
        self.policy
    }

    /// From now on. What was begun under `always` still waits for the disk; turning to `always` makes everything wait that
    /// was not released yet.
    pub fn set_policy(&mut self, policy: FsyncPolicy) {
        self.policy = policy;
    }

    /// The write of the next record begins. `end_offset` is that of its last edit's end. Under `always` the write must be one
    /// that is on disk when it completes.
    pub fn begin(&mut self, sequence: Sequence, end_offset: Offset, now_steady_ms: u64) {
        if self.failed {
            return;
        }
        let last = self.last_begun();
        assert_eq!(sequence, last.sequence.next(), "records are written in sequence");
        assert!(end_offset >= last.offset, "offsets only grow");
        let durable = self.policy == FsyncPolicy::Always;
        if durable {
            let from = self.promise.map_or(last.offset, |promise| promise.from);
            self.promise = Some(Promise { from, last: sequence });
        }
        let end = Mark { sequence, offset: end_offset };
        self.in_flight.push_back(Write { end, begun_ms: now_steady_ms, durable, done: false });
    }

    /// The write of this record completed. (One that found the disk full stays in flight until a later attempt succeeds.)
    pub fn written(&mut self, sequence: Sequence) {
        if self.failed {
            return;
        }
        let first = self.in_flight.front().expect("a write completes after it began").end.sequence;
        let at = sequence.0.checked_sub(first.0).expect("a write completes once") as usize;
        let write = self.in_flight.get_mut(at).expect("a write completes after it began");
        assert!(!write.done, "a write completes once");
        write.done = true;
        while let Some(write) = self.in_flight.pop_front_if(|write| write.done) {
            self.hold(write);
        }
    }

    /// Starts a sync of what the kernel holds; `None` if there is nothing to sync or one is under way.
    pub fn sync_begin(&mut self) -> Option<SyncTicket> {
        if self.failed || self.syncing.is_some() {
            return None;
        }
        let range = self.held.take()?;
        self.syncing = Some(range);
        Some(SyncTicket { through: range.end.sequence })
    }

    /// The sync completed, successfully.
    pub fn synced(&mut self, ticket: SyncTicket) {
        if self.failed {
            return;
        }
        let range = self.syncing.take().expect("a sync completes after it began");
        assert_eq!(range.end.sequence, ticket.through, "one sync is under way at a time");
        self.settle(range.end);
        if let Some(durable) = self.held.take_if(|held| held.oldest_unsynced_ms.is_none()) {
            self.settle(durable.end);
        }
    }

    /// A write or a sync failed for good. A failed sync is never tried again: the kernel may have dropped the pages and would
    /// call the next one a success.
    pub fn failed(&mut self) {
        self.failed = true;
    }
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Every record up to this one is on disk.
    pub fn durable_mark(&self) -> Sequence {
        self.durable.sequence
    }
    /// Where the edits on disk end.
    pub fn durable_offset(&self) -> Offset {
        self.durable.offset
    }

    /// Replies that wait for an offset up to this one may go. Never goes back.
    pub fn released(&mut self, now_steady_ms: u64) -> Offset {
        if !self.failed {
            let covered = match self.policy {
                FsyncPolicy::Always => self.durable.offset,
                FsyncPolicy::EverySec if self.is_late(now_steady_ms) => self.durable.offset,
                FsyncPolicy::EverySec | FsyncPolicy::No => self.kernel_held_and_unpromised(),
            };
            self.released = self.released.max(covered);
        }
        self.released
    }

    /// When a sync should begin, on the steady clock; in the past or `now_steady_ms` if at once. `None` while nothing can be
    /// synced: ask again when a write or the sync under way completes, or the policy changes.
    pub fn sync_due(&self, now_steady_ms: u64) -> Option<u64> {
        if self.failed || self.syncing.is_some() {
            return None;
        }
        let oldest_ms = self.held?.oldest_unsynced_ms?;
        match self.policy {
            FsyncPolicy::Always => Some(now_steady_ms),
            FsyncPolicy::EverySec | FsyncPolicy::No if self.promise.is_some() => Some(now_steady_ms),
            FsyncPolicy::EverySec => Some(oldest_ms.saturating_add(SYNC_AFTER_MS)),
            FsyncPolicy::No => None,
        }
    }

    /// When `released` stops moving unless the disk answers; `None` if it would not. For the writer's timer.
    pub fn release_stops_at(&self) -> Option<u64> {
        let oldest_ms = self.oldest_unsynced_ms()?;
        (self.policy == FsyncPolicy::EverySec).then(|| oldest_ms.saturating_add(UNSYNCED_AGE_MS_MAX))
    }

    /// Bytes of edits begun and not known to be on disk.
    pub fn unsynced_bytes(&self) -> u64 {
        self.last_begun().offset.0 - self.durable.offset.0
    }

    /// Writes begun and not completed, or completed behind one that is not.
    pub fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn last_begun(&self) -> Mark {
        let held = || self.held.or(self.syncing).map_or(self.durable, |range| range.end);
        self.in_flight.back().map_or_else(held, |write| write.end)
    }

    /// The next write of the prefix is with the kernel.
    fn hold(&mut self, write: Write) {
        match &mut self.held {
            Some(held) => {
                held.end = write.end;
                if !write.durable {
                    held.oldest_unsynced_ms.get_or_insert(write.begun_ms);
                }
            }
            None if write.durable && self.syncing.is_none() => self.settle(write.end),
            None => {
                let oldest_unsynced_ms = (!write.durable).then_some(write.begun_ms);
                self.held = Some(Range { end: write.end, oldest_unsynced_ms });
            }
        }
    }

    /// Everything up to `end` is on disk.
    fn settle(&mut self, end: Mark) {
        assert!(end.sequence > self.durable.sequence, "what is on disk only grows");
        self.durable = end;
        self.promise.take_if(|promise| promise.last <= end.sequence);
    }

    fn kernel_held_and_unpromised(&self) -> Offset {
        let held = self.held.or(self.syncing).map_or(self.durable, |range| range.end).offset;
        match self.promise {
            // Coarse where the policy changed to and fro several times: waits for all promises at once.
            Some(promise) => held.min(promise.from).max(self.durable.offset),
            None => held,
        }
    }

    fn is_late(&self, now_steady_ms: u64) -> bool {
        self.oldest_unsynced_ms().is_some_and(|begun_ms| now_steady_ms >= begun_ms.saturating_add(UNSYNCED_AGE_MS_MAX))
    }

    /// When the oldest write began that is not on disk: in sequence, as later ones count for nothing without it.
    fn oldest_unsynced_ms(&self) -> Option<u64> {
        let range = |range: Option<Range>| range.and_then(|range| range.oldest_unsynced_ms);
        let front = || self.in_flight.front().map(|write| write.begun_ms);
        range(self.syncing).or_else(|| range(self.held)).or_else(front)
    }
}
