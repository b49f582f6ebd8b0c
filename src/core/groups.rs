//! Edits of transactions over several shards that are recovered on all of them or on none.
//!
//! Each participant keeps its intents until the group is written, as the policy demands, in the logs of all of them: only
//! then can anything depend on it, and so a recovery that finds it missing somewhere can leave it out everywhere, and nothing
//! else. That is when the group is *closed*; the next record says so. Shards tell each other how far their logs have come, once
//! per turn and only whom it concerns; per group the front tells the participants where it ends in each log.
//!
//! ```text
//! shard 1   ──[ edits, group 7 ]──[ edits of other keys ]──[ group 7 closed, edits ]──►
//! shard 2   ────────[ group 7, edits ]──[ group 7 closed ]──►
//!                                    └ written by both: keys free, reply to the client
//! ```

use super::Core;
use crate::router::batch::{ConnectionId, Group, Message, Ticket, Work};
use crate::session::Closing;
use shards::reply::Protocol;
use shards::transaction::Age;
use shards::units::{Db, Offset, ShardId};
use shards::wal::{GroupId, Sequence};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

#[derive(Default)]
pub(super) struct Groups {
    /// In this shard's log and not closed.
    open: Vec<Open>,
    /// How many open groups keep a transaction's intents.
    kept: BTreeMap<Age, u32>,
    /// Transactions that are done but for their open groups: intents to release then.
    done: BTreeSet<Age>,
    last_number: u64,
    peers: Vec<Peer>,
    /// Replies of own connections that wait for other shards' logs.
    waiting: Vec<Waiting>,
    /// Groups made since the last batch was taken for the log.
    unrecorded: u32,
    /// Records with groups that are not settled, in order.
    records: VecDeque<Recorded>,
    last_record: Sequence,
}

/// More than a turn can last, whose time is that of its start: a group is closed at some time in a turn, and was executed on
/// other shards in turns of theirs.
const SETTLED_MARGIN_MS: u64 = 1_000;

struct Open {
    id: GroupId,
    age: Age,
    participants: SmallVec<[ShardId; 4]>,
    end: Offset,
    /// Where it ends in the logs of the participants, once the front has said so.
    ends: Option<SmallVec<[Offset; 4]>>,
    /// Its record, once there is one.
    record: Option<Sequence>,
}

struct Recorded {
    sequence: Sequence,
    open: u32,
    /// Surely after its last group was closed, steady milliseconds.
    closed_ms: u64,
}

/// What is between this shard and another one.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// How far its log is known to be written.
    written: Offset,
    failed: bool,
    /// How far it wants to hear of this one's, and what it was told last.
    wants: Offset,
    told: Offset,
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

    /// Nothing waits for a log.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.kept.is_empty() && self.done.is_empty() && self.waiting.is_empty()
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
        let lost = waits.iter().any(|(shard, _)| self.groups.peers[shard.0 as usize].failed);
        if lost {
            return self.close(connection, Closing::Now);
        }
        self.groups.waiting.push(Waiting { connection, slot, reply, until, waits });
    }

    /// Up to where another shard's log is known to be written.
    pub(super) fn written_by(&self, shard: ShardId) -> Offset {
        self.groups.peers[shard.0 as usize].written
    }

    /// Another shard's log has come further.
    pub(super) fn on_written(&mut self, from: ShardId, written: Offset) {
        self.groups.peers[from.0 as usize].written = written;
        self.close_groups();
        let mut waiting = std::mem::take(&mut self.groups.waiting);
        waiting.retain_mut(|one| {
            one.waits.retain(|(shard, until)| *until > self.written_by(*shard));
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
        if self.groups.open.iter().any(|group| group.participants.contains(&from)) {
            self.fail_log(&format!("a transaction that shard {} has a part in is not in that shard's log", from.0));
        }
    }

    // ---- as a participant ----------------------------------------------------------------------------------

    /// A part of the group was executed here for the transaction of this age; `edits` is where its edits lie in the batch.
    pub(super) fn note_group(&mut self, age: Age, group: &Group, edits: Range<usize>) {
        if self.log.failed.is_some() {
            // It will never be closed, so it keeps nothing; the others hear of the failure.
            return;
        }
        let id = GroupId { front: age.front, number: group.number };
        let end = self.log.end(&self.owner);
        self.log.groups.push(id, &group.participants, edits);
        let participants = group.participants.clone();
        for shard in participants.iter().filter(|shard| **shard != self.shard) {
            let wants = &mut self.groups.peers[shard.0 as usize].wants;
            *wants = (*wants).max(end);
        }
        let failed = participants.iter().copied().find(|shard| self.groups.peers[shard.0 as usize].failed);
        self.groups.open.push(Open { id, age, participants, end, ends: None, record: None });
        self.groups.unrecorded += 1;
        *self.groups.kept.entry(age).or_default() += 1;
        if let Some(failed) = failed {
            self.on_peer_failed(failed);
        }
    }

    /// The transaction's intents go, now or when its groups are closed.
    pub(super) fn release_intents(&mut self, age: Age) {
        self.participation.holding_log.remove(&age);
        if self.groups.kept.contains_key(&age) {
            self.groups.done.insert(age);
        } else {
            self.participation.intents.release(age);
        }
    }

    pub(super) fn on_ends(&mut self, from: ShardId, number: u64, bytes: &[u8]) {
        let offset = |bytes: &[u8]| Offset(u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
        self.note_ends(GroupId { front: from, number }, bytes.chunks_exact(8).map(offset).collect());
    }

    fn note_ends(&mut self, id: GroupId, ends: SmallVec<[Offset; 4]>) {
        // Recent ones are at the back. None is there if the log has failed meanwhile.
        if let Some(group) = self.groups.open.iter_mut().rev().find(|group| group.id == id) {
            group.ends = Some(ends);
            self.close_groups();
        }
    }

    /// Closes the groups that are known to be written by all of their participants.
    pub(super) fn close_groups(&mut self) {
        if self.groups.open.is_empty() {
            return;
        }
        let mut open = std::mem::take(&mut self.groups.open);
        open.retain(|group| {
            let closed = self.is_written_everywhere(group);
            if closed {
                self.close_group(group);
            }
            !closed
        });
        self.groups.open = open;
    }

    fn is_written_everywhere(&self, group: &Open) -> bool {
        let Some(ends) = &group.ends else { return false };
        let written = |shard: ShardId| if shard == self.shard { self.log.released } else { self.written_by(shard) };
        group.end <= self.log.released
            && group.participants.iter().zip(ends).all(|(shard, end)| *end <= written(*shard))
    }

    fn close_group(&mut self, group: &Open) {
        self.log.groups.close(group.id);
        let sequence = group.record.expect("what is written has a record");
        let records = &mut self.groups.records;
        let record = records.binary_search_by_key(&sequence, |record| record.sequence);
        let record = &mut records[record.expect("a record stays until its groups are settled")];
        record.open -= 1;
        record.closed_ms = self.now.steady_ms + SETTLED_MARGIN_MS;
        self.unkeep(group.age);
    }

    fn unkeep(&mut self, age: Age) {
        let kept = self.groups.kept.get_mut(&age).expect("an open group keeps its intents");
        *kept -= 1;
        if *kept == 0 {
            self.groups.kept.remove(&age);
            if self.groups.done.remove(&age) {
                self.participation.intents.release(age);
            }
        }
    }

    /// This shard's log has failed: nothing will be closed any more, and intents need not be kept. What open groups wrote may
    /// be in this log and in no other: a start would leave it out, so under `always` nobody may see it.
    pub(super) fn abandon_groups(&mut self) {
        for group in std::mem::take(&mut self.groups.open) {
            self.log.note_lost(self.participation.intents.written_by(group.age));
            self.unkeep(group.age);
        }
        self.serve_granted();
    }

    /// A reply to another core depends on this shard's log up to here: it will be told when that is written.
    pub(super) fn expect_release(&mut self, front: ShardId, until: Offset) {
        if until > self.log.released && front != self.shard {
            let wants = &mut self.groups.peers[front.0 as usize].wants;
            *wants = (*wants).max(until);
        }
    }

    /// The batch that was taken last becomes this record.
    pub fn note_record(&mut self, sequence: Sequence, groups: u32) {
        self.groups.last_record = sequence;
        if groups == 0 {
            return;
        }
        self.groups.records.push_back(Recorded { sequence, open: groups, closed_ms: 0 });
        // Oldest first among those without a record.
        let without = self.groups.open.iter_mut().filter(|group| group.record.is_none());
        without.take(groups as usize).for_each(|group| group.record = Some(sequence));
    }

    /// Groups in the batch that is being made; the next batch begins with none.
    pub(super) fn take_group_count(&mut self) -> u32 {
        std::mem::take(&mut self.groups.unrecorded)
    }

    /// All groups in records up to this one are on the disks of all their participants, and so is what came before them there:
    /// they were closed before a time up to which every shard's log is on disk.
    pub fn settled_record(&mut self) -> Sequence {
        let durable_ms = self.log.durable_ms;
        let settled = |record: &mut Recorded| record.open == 0 && record.closed_ms < durable_ms;
        while self.groups.records.pop_front_if(settled).is_some() {}
        self.groups.records.front().map_or(self.groups.last_record, |record| record.sequence.previous())
    }

    /// How far this shard's log is written, if the peer waits for that and has not been told.
    pub(super) fn news_for(&mut self, peer: ShardId) -> Option<Offset> {
        let written = self.log.released;
        let Peer { wants, told, .. } = &mut self.groups.peers[peer.0 as usize];
        let news = *wants > *told && written > *told;
        news.then(|| {
            *told = written;
            written
        })
    }
}
