//! One shard's log as a list of batches, of which some first ones are written, and what a recovery makes of all logs.
//!
//! The verdict, for logs that lost nothing that was written: a group that some participant's log lacks is left out of all.
//! Nothing can depend on it, as its keys stay locked until all have written it.

use shardis::core::EditBatch;
use shards::units::{Offset, ShardId};
use shards::wal::{Group, GroupId, Sequence};
use std::collections::BTreeSet;

pub struct Log {
    /// What the last recovery left, edits one after the other.
    base: Vec<u8>,
    batches: Vec<EditBatch>,
    written: usize,
    pub has_failed: bool,
}

impl Log {
    pub fn new(base: Vec<u8>) -> Log {
        Log { base, batches: Vec::new(), written: 0, has_failed: false }
    }

    pub fn append(&mut self, batch: EditBatch) -> Sequence {
        assert_eq!(batch.start, self.end(self.batches.len()), "batches follow one another");
        self.batches.push(batch);
        Sequence(self.batches.len() as u64)
    }

    pub fn unwritten(&self) -> usize {
        self.batches.len() - self.written
    }
    pub fn write(&mut self, count: usize) {
        self.written += count;
    }
    pub fn released(&self) -> Offset {
        self.end(self.written)
    }
    fn end(&self, count: usize) -> Offset {
        let last = self.batches[..count].last();
        last.map_or(Offset(0), |batch| Offset(batch.start.0 + batch.edits.len() as u64))
    }

    fn groups(&self) -> impl Iterator<Item = (GroupId, Vec<ShardId>)> {
        let written = self.batches[..self.written].iter();
        written.flat_map(|batch| {
            batch.groups.groups(Sequence::NONE).iter().map(|one| (one.id, one.participants().collect()))
        })
    }

    /// Whether it holds edits of one of these groups that change anything.
    pub fn changes_by(&self, groups: &BTreeSet<GroupId>) -> bool {
        self.batches[..self.written].iter().any(|batch| {
            // An edit that does nothing is one byte.
            let changes = |group: Group<'_>| groups.contains(&group.id) && group.edits().len() > 1;
            batch.groups.groups(Sequence::NONE).iter().any(changes)
        })
    }

    /// All edits that are written, but those of the left out groups.
    pub fn recover(&self, left_out: &BTreeSet<GroupId>) -> Vec<u8> {
        let mut edits = self.base.clone();
        for batch in &self.batches[..self.written] {
            let mut from = 0;
            for group in batch.groups.groups(Sequence::NONE).iter() {
                let (id, range) = (group.id, group.edits());
                edits.extend_from_slice(&batch.edits[from..range.start]);
                if !left_out.contains(&id) {
                    edits.extend_from_slice(&batch.edits[range.clone()]);
                }
                from = range.end;
            }
            edits.extend_from_slice(&batch.edits[from..]);
        }
        edits
    }
}

/// Groups that are missing in the log of one of their participants.
pub fn incomplete_groups(logs: &[Log]) -> BTreeSet<GroupId> {
    let held = logs.iter().map(|log| log.groups().map(|(id, _)| id).collect::<BTreeSet<_>>()).collect::<Vec<_>>();
    let all = logs.iter().flat_map(Log::groups);
    let incomplete = all.filter(|(id, participants)| !participants.iter().all(|at| held[at.0 as usize].contains(id)));
    incomplete.map(|(id, _)| id).collect()
}
