//! Groups: which transactions over several shards have their edits in a record, and who else must hold them.
//!
//! Owns the bytes of a record's group table. What follows from a group that another shard's log lacks is `cut`'s
//! subject. The rule: a `Groups` that was read is well formed in all its entries; whether its shards exist, and this
//! one is among them, is for those to ask who know the shards.

use super::{Sequence, u16_at, u64_at};
use crate::units::ShardId;

const NUMBER: usize = 0;
const FRONT: usize = 8;
const COUNT: usize = 10;
const ENTRY_BYTES: usize = 12;
const PARTICIPANT_BYTES: usize = 2;
/// The settled mark, before the entries.
const MARK_BYTES: usize = 8;

/// A transaction over several shards, for as long as the epoch lasts: a front never uses a number twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId {
    /// The shard whose core coordinated it; it need not take part.
    pub front: ShardId,
    pub number: u64,
}

/// A group as a record lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group<'a> {
    pub id: GroupId,
    participants: &'a [u8],
}

impl<'a> Group<'a> {
    /// The shards whose logs hold it, ascending, at least two.
    pub fn participants(&self) -> impl Iterator<Item = ShardId> + use<'a> {
        self.participants.chunks_exact(PARTICIPANT_BYTES).map(|bytes| ShardId(u16_at(bytes, 0)))
    }
}

/// The groups of one batch of edits, encoded as they come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupTable {
    entries: Vec<u8>,
}

impl GroupTable {
    /// `participants`: at least two, ascending, among them the shard whose log this is for.
    pub fn push(&mut self, id: GroupId, participants: &[ShardId]) {
        assert!(participants.len() >= 2, "what happens on one shard is atomic by itself");
        assert!(participants.is_sorted_by(|a, b| a < b), "each shard takes part once, in order");
        let count = u16::try_from(participants.len()).expect("there are fewer shards than that");
        self.entries.extend_from_slice(&id.number.to_le_bytes());
        self.entries.extend_from_slice(&id.front.0.to_le_bytes());
        self.entries.extend_from_slice(&count.to_le_bytes());
        for shard in participants {
            self.entries.extend_from_slice(&shard.0.to_le_bytes());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Keeps the memory, for the next batch.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
    /// The entries, without the settled mark.
    pub fn bytes(&self) -> &[u8] {
        &self.entries
    }
    /// As a record carries them. `settled` as in `Groups::settled`.
    pub fn groups(&self, settled: Sequence) -> Groups<'_> {
        Groups { settled, entries: &self.entries }
    }
}

/// A record's group table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups<'a> {
    settled: Sequence,
    entries: &'a [u8],
}

impl<'a> Groups<'a> {
    /// When the record was written, every group of this shard's records up to this one was out of danger: on disk on
    /// all participants, and none of them could be cut before it any more. Always before the record itself.
    pub fn settled(&self) -> Sequence {
        self.settled
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = Group<'a>> + use<'a> {
        let mut rest = self.entries;
        std::iter::from_fn(move || {
            let (group, behind) = split(rest)?;
            rest = behind;
            Some(group)
        })
    }

    /// The groups alone, to be kept beyond the record.
    pub fn to_table(&self) -> GroupTable {
        GroupTable { entries: self.entries.to_vec() }
    }

    /// The first group that no log of `shard` can hold, among `shards` of them.
    pub fn misplaced(&self, shard: ShardId, shards: u16) -> Option<GroupId> {
        let fits = |group: &Group<'_>| {
            group.id.front.0 < shards
                && group.participants().all(|participant| participant.0 < shards)
                && group.participants().any(|participant| participant == shard)
        };
        self.iter().find(|group| !fits(group)).map(|group| group.id)
    }

    /// Bytes of the table in a record.
    pub(super) fn len(&self) -> usize {
        MARK_BYTES + self.entries.len()
    }
    pub(super) fn encode_into(&self, out: &mut [u8]) {
        let (mark, entries) = out.split_at_mut(MARK_BYTES);
        mark.copy_from_slice(&self.settled.0.to_le_bytes());
        entries.copy_from_slice(self.entries);
    }
    /// The table that fills `bytes`; `None` if they are none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Groups<'a>> {
        let (mark, entries) = bytes.split_at_checked(MARK_BYTES)?;
        let mut rest = entries;
        while !rest.is_empty() {
            let (group, behind) = split(rest)?;
            if group.participants().count() < 2 || !group.participants().is_sorted_by(|a, b| a < b) {
                return None;
            }
            rest = behind;
        }
        Some(Groups { settled: Sequence(u64_at(mark, 0)), entries })
    }
}

/// The first entry and what is behind it; `None` if the bytes end in it or before.
fn split(bytes: &[u8]) -> Option<(Group<'_>, &[u8])> {
    let (fixed, behind) = bytes.split_at_checked(ENTRY_BYTES)?;
    let id = GroupId { front: ShardId(u16_at(fixed, FRONT)), number: u64_at(fixed, NUMBER) };
    let count = u16_at(fixed, COUNT) as usize;
    let (participants, behind) = behind.split_at_checked(count * PARTICIPANT_BYTES)?;
    Some((Group { id, participants }, behind))
}
