//! Edits of transactions over several shards that are recovered on all of them or on none, and what that means for replies.
//!
//! A shard's log is cut, at a recovery, before the first record with a group that another participant lacks. So what such
//! a record or a later one says is certain only once the group is written everywhere. Shards tell each other how far their
//! logs have come, once per turn and only whom it concerns; nothing is sent per group but where it ends in each log.
//!
//! ```text
//! this shard's log    ──[ edits ]──[ edits, group 7 ]──[ edits ]──►
//!                              released │                  │ written
//!                                       └ until the others have written group 7
//! ```

use super::Core;
use crate::router::batch::{ConnectionId, Group, Message, Progress, Ticket, Work};
use crate::session::Closing;
use shards::reply::Protocol;
use shards::units::{Db, Offset, ShardId};
use shards::wal::{GroupId, Sequence};
use smallvec::SmallVec;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Groups {
    /// In this shard's log and not known to be written everywhere, in the order of the log.
    pending: VecDeque<Pending>,
    last_number: u64,
    peers: Vec<Peer>,
    /// Replies of own connections that wait for other shards' logs.
    waiting: Vec<Waiting>,
    /// Up to here this shard's edits are as durable as the policy demands.
    written: Offset,
    /// The last record of this shard's log.
    last_record: Sequence,
}

struct Pending {
    id: GroupId,
    participants: SmallVec<[ShardId; 4]>,
    /// Where it ends in the logs of the participants, once the front has said so.
    ends: Option<SmallVec<[Offset; 4]>>,
    /// Its record, once there is one: where it starts, and its number.
    record: Option<(Offset, Sequence)>,
}

/// What is between this shard and another one.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// How far its log is known to be.
    progress: Progress,
    failed: bool,
    /// How far it wants to hear of this one's, and what it was told last.
    wants: Progress,
    told: Progress,
}

struct Waiting {
    connection: ConnectionId,
    slot: u64,
    reply: Vec<u8>,
    until: Offset,
    waits: SmallVec<[(ShardId, Offset); 2]>,
}

impl Groups {
    pub(super) fn new(shards: u16, start_ms: u64) -> Self {
        // Unique over restarts, unless a server makes more than a million groups per millisecond of its life.
        Groups { peers: vec![Peer::default(); shards as usize], last_number: start_ms << 20, ..Groups::default() }
    }
}

impl Core {
    // ---- as the front --------------------------------------------------------------------------------------

    /// A group for edits on these shards, if it takes one: more than one shard, and logs.
    pub(super) fn new_group(&mut self, writers: impl Iterator<Item = ShardId>) -> Option<Group> {
        let mut participants: SmallVec<[ShardId; 4]> = writers.collect();
        if participants.len() < 2 || !self.log.persistent {
            return None;
        }
        participants.sort_unstable();
        self.groups.last_number += 1;
        Some(Group { number: self.groups.last_number, participants })
    }

    /// All parts have run: tells the participants where the group ends in each log.
    pub(super) fn send_ends(&mut self, group: &Group, ends: &[(ShardId, Offset)]) {
        let end = |shard: &ShardId| {
            let found = ends.iter().find(|(other, _)| other == shard);
            found.expect("every participant has said where its part ends").1
        };
        let offsets: SmallVec<[Offset; 4]> = group.participants.iter().map(end).collect();
        let bytes: Vec<u8> = offsets.iter().flat_map(|offset| offset.0.to_le_bytes()).collect();
        let nobody = ConnectionId { index: 0, generation: 0 };
        let ticket = Ticket { connection: nobody, slot: group.number, part: 0, spread: true };
        for &shard in &group.participants {
            if shard == self.shard {
                self.note_ends(GroupId { front: self.shard, number: group.number }, offsets.clone());
            } else {
                let work = Work::Transaction(Message::Ends);
                let batch = &mut self.outboxes[shard.0 as usize].batch;
                batch.push(ticket, work, Db(0), Protocol::Resp2, std::iter::once(bytes.as_slice()));
                self.stats.lane_calls += 1;
            }
        }
    }

    /// A transaction's reply that waits for the logs of other shards.
    pub(super) fn wait_for_logs(
        &mut self,
        connection: ConnectionId,
        slot: u64,
        reply: Vec<u8>,
        until: Offset,
        waits: SmallVec<[(ShardId, Offset); 2]>,
    ) {
        self.groups.waiting.push(Waiting { connection, slot, reply, until, waits });
    }

    pub(super) fn progress_of(&self, shard: ShardId) -> Progress {
        self.groups.peers[shard.0 as usize].progress
    }

    /// Another shard's log has come further.
    pub(super) fn on_progress(&mut self, from: ShardId, progress: Progress) {
        self.groups.peers[from.0 as usize].progress = progress;
        self.release(self.groups.written);
        let mut waiting = std::mem::take(&mut self.groups.waiting);
        waiting.retain_mut(|one| {
            one.waits.retain(|(shard, until)| *until > self.groups.peers[shard.0 as usize].progress.released);
            if one.waits.is_empty() {
                self.fill(one.connection, one.slot, &one.reply, one.until);
            }
            !one.waits.is_empty()
        });
        self.groups.waiting = waiting;
    }

    /// Another shard's log has failed. What waits for it will never be certain: own clients whose replies depend on it are
    /// disconnected, and if it had a part in a group of this log, this log can't go on either.
    pub(super) fn on_peer_failed(&mut self, from: ShardId) {
        self.groups.peers[from.0 as usize].failed = true;
        let concerned = |one: &Waiting| one.waits.iter().any(|(shard, _)| *shard == from);
        let lost: Vec<ConnectionId> =
            self.groups.waiting.iter().filter(|one| concerned(one)).map(|one| one.connection).collect();
        self.groups.waiting.retain(|one| !concerned(one));
        lost.into_iter().for_each(|connection| self.close(connection, Closing::Now));
        if self.groups.pending.iter().any(|group| group.participants.contains(&from)) {
            self.fail_log(&format!("a transaction that shard {} has a part in is not in that shard's log", from.0));
        }
    }

    // ---- as a participant ----------------------------------------------------------------------------------

    /// A part of the group was executed here; its edits end at `until`.
    pub(super) fn note_group(&mut self, front: ShardId, group: &Group, until: Offset) {
        let id = GroupId { front, number: group.number };
        self.log.groups.push(id, &group.participants, 0..0);
        let participants = group.participants.clone();
        self.groups.pending.push_back(Pending { id, participants, ends: None, record: None });
        let failed = group.participants.iter().copied().find(|shard| self.groups.peers[shard.0 as usize].failed);
        for shard in group.participants.iter().filter(|shard| **shard != self.shard) {
            let wants = &mut self.groups.peers[shard.0 as usize].wants.written;
            *wants = (*wants).max(until);
        }
        if let Some(failed) = failed {
            self.on_peer_failed(failed);
        }
    }

    pub(super) fn on_ends(&mut self, from: ShardId, number: u64, bytes: &[u8]) {
        let offset = |bytes: &[u8]| Offset(u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
        self.note_ends(GroupId { front: from, number }, bytes.chunks_exact(8).map(offset).collect());
    }

    fn note_ends(&mut self, id: GroupId, ends: SmallVec<[Offset; 4]>) {
        // Recent ones are at the back.
        let found = self.groups.pending.iter_mut().rev().find(|group| group.id == id);
        found.expect("a group stays until its ends are known").ends = Some(ends);
        self.release(self.groups.written);
    }

    /// A reply to another core depends on this shard's log up to here: it will be told when that is released.
    pub(super) fn expect_release(&mut self, front: ShardId, until: Offset) {
        if until > self.log.released {
            let wants = &mut self.groups.peers[front.0 as usize].wants.released;
            *wants = (*wants).max(until);
        }
    }

    /// The edits taken for the log, from `start`, become this record.
    pub fn note_record(&mut self, start: Offset, sequence: Sequence) {
        self.groups.last_record = sequence;
        for group in self.groups.pending.iter_mut().rev().take_while(|group| group.record.is_none()) {
            group.record = Some((start, sequence));
        }
    }

    /// All groups in records up to this one are known to be written everywhere.
    pub(super) fn settled_record(&self) -> Sequence {
        match self.groups.pending.front().map(|group| group.record) {
            Some(Some((_, sequence))) => sequence.previous(),
            Some(None) | None => self.groups.last_record,
        }
    }

    /// What of `written` no recovery can cut off.
    pub(super) fn certain(&mut self, written: Offset) -> Offset {
        self.groups.written = self.groups.written.max(written);
        let Groups { pending, peers, written, .. } = &mut self.groups;
        let is_written = |shard: ShardId, end: Offset| {
            let log = if shard == self.shard { *written } else { peers[shard.0 as usize].progress.written };
            log >= end
        };
        while let Some(group) = pending.front() {
            let Some(ends) = &group.ends else { break };
            if !group.participants.iter().zip(ends).all(|(shard, end)| is_written(*shard, *end)) {
                break;
            }
            pending.pop_front();
        }
        match pending.front().map(|group| group.record) {
            Some(Some((start, _))) => start.min(*written),
            Some(None) | None => *written,
        }
    }

    /// What a peer wants to know of this shard's log and has not been told.
    pub(super) fn news_for(&mut self, peer: ShardId) -> Option<Progress> {
        let now = Progress { written: self.groups.written, released: self.log.released };
        let Peer { wants, told, .. } = &mut self.groups.peers[peer.0 as usize];
        let news = (wants.written > told.written && now.written > told.written)
            || (wants.released > told.released && now.released > told.released);
        news.then(|| {
            *told = now;
            now
        })
    }
}
