//! Groups: which transactions over several shards have their edits in a record, who else must hold them, and which
//! groups are closed by now, so that what comes behind may build on them.
//!
//! Owns the bytes of a record's group table. What follows from a group that another shard's log lacks is `cut`'s
//! subject. The rule: a `Groups` that was read is well formed in all its entries, and the edits of its groups are inside
//! the record, behind each other; whether its shards exist, and this one is among them, is for those to ask who know the
//! shards, and whether the ranges hold whole edits for those who read edits.

use super::{Sequence, u16_at, u32_at, u64_at};
use crate::units::ShardId;
use std::ops::Range;

const NUMBER: usize = 0;
const FRONT: usize = 8;
/// Of participants; 0 says that the group is closed, and ends the entry.
const COUNT: usize = 10;
const ENTRY_BYTES: usize = 12;
/// The range of the group's edits, between that and the participants.
const START: usize = 0;
const LENGTH: usize = 4;
const RANGE_BYTES: usize = 8;
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
    start: u32,
    length: u32,
    participants: &'a [u8],
}

impl<'a> Group<'a> {
    /// The shards whose logs hold it, ascending, at least two.
    pub fn participants(&self) -> impl Iterator<Item = ShardId> + use<'a> {
        self.participants.chunks_exact(PARTICIPANT_BYTES).map(|bytes| ShardId(u16_at(bytes, 0)))
    }
    /// Where its edits lie among those of the record, in bytes; all that it did on this shard. May be empty.
    pub fn edits(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// One entry of a table.
enum Entry<'a> {
    Held(Group<'a>),
    Closed(GroupId),
}

/// The groups of one batch of edits, encoded as they come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupTable {
    entries: Vec<u8>,
    /// Where the last group's edits end.
    edits_end: usize,
}

impl GroupTable {
    /// `participants`: at least two, ascending, among them the shard whose log this is for. `edits`: those of the group
    /// among the batch's, in bytes, behind those of the groups before.
    pub fn push(&mut self, id: GroupId, participants: &[ShardId], edits: Range<usize>) {
        assert!(participants.len() >= 2, "what happens on one shard is atomic by itself");
        assert!(participants.is_sorted_by(|a, b| a < b), "each shard takes part once, in order");
        assert!(self.edits_end <= edits.start && edits.start <= edits.end, "groups' edits are behind each other");
        self.edits_end = edits.end;
        let count = u16::try_from(participants.len()).expect("there are fewer shards than that");
        let within = |bytes: usize| u32::try_from(bytes).expect("a batch is smaller than a record can be");
        self.begin(id, count);
        self.entries.extend_from_slice(&within(edits.start).to_le_bytes());
        self.entries.extend_from_slice(&within(edits.len()).to_le_bytes());
        for shard in participants {
            self.entries.extend_from_slice(&shard.0.to_le_bytes());
        }
    }

    /// The group, of an earlier record, is written on all its participants: from this record on edits may build on it.
    pub fn close(&mut self, id: GroupId) {
        self.begin(id, 0);
    }

    fn begin(&mut self, id: GroupId, count: u16) {
        self.entries.extend_from_slice(&id.number.to_le_bytes());
        self.entries.extend_from_slice(&id.front.0.to_le_bytes());
        self.entries.extend_from_slice(&count.to_le_bytes());
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Keeps the memory, for the next batch.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.edits_end = 0;
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
    /// all participants, and none of them could be cut before it any more; or skipped by a start, and undone by edits up to
    /// this record. Always before the record itself.
    pub fn settled(&self) -> Sequence {
        self.settled
    }
    /// Neither a group nor a closing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Groups that the record holds.
    pub fn iter(&self) -> impl Iterator<Item = Group<'a>> + use<'a> {
        self.entries().filter_map(|entry| match entry {
            Entry::Held(group) => Some(group),
            Entry::Closed(_) => None,
        })
    }
    /// Groups of earlier records that are closed: what is in this record and behind it may build on them.
    pub fn closed(&self) -> impl Iterator<Item = GroupId> + use<'a> {
        self.entries().filter_map(|entry| match entry {
            Entry::Held(_) => None,
            Entry::Closed(id) => Some(id),
        })
    }
    fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut rest = self.entries;
        std::iter::from_fn(move || {
            let (entry, behind) = split(rest)?;
            rest = behind;
            Some(entry)
        })
    }

    /// The entries alone, to be kept beyond the record.
    pub fn to_table(&self) -> GroupTable {
        GroupTable { entries: self.entries.to_vec(), edits_end: self.edits_end() }
    }

    /// The first group that no log of `shard` can hold, among `shards` of them.
    pub fn misplaced(&self, shard: ShardId, shards: u16) -> Option<GroupId> {
        let fits = |group: &Group<'_>| {
            group.participants().all(|participant| participant.0 < shards)
                && group.participants().any(|participant| participant == shard)
        };
        self.entries().find_map(|entry| match entry {
            Entry::Held(group) => (group.id.front.0 >= shards || !fits(&group)).then_some(group.id),
            Entry::Closed(id) => (id.front.0 >= shards).then_some(id),
        })
    }

    /// Where the edits of the last group end.
    pub(super) fn edits_end(&self) -> usize {
        self.iter().last().map_or(0, |group| group.edits().end)
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
    /// The table that fills `bytes`, of a record with so many bytes of edits; `None` if they are none.
    pub(super) fn parse(bytes: &'a [u8], edits_bytes: usize) -> Option<Groups<'a>> {
        let (mark, entries) = bytes.split_at_checked(MARK_BYTES)?;
        let mut rest = entries;
        let mut edits_end = 0;
        while !rest.is_empty() {
            let (entry, behind) = split(rest)?;
            rest = behind;
            let Entry::Held(group) = entry else { continue };
            let edits = group.edits();
            let makes_sense = group.participants().count() >= 2
                && group.participants().is_sorted_by(|a, b| a < b)
                && (edits_end..=edits_bytes).contains(&edits.start)
                && edits.end <= edits_bytes;
            if !makes_sense {
                return None;
            }
            edits_end = edits.end;
        }
        Some(Groups { settled: Sequence(u64_at(mark, 0)), entries })
    }
}

/// The first entry and what is behind it; `None` if the bytes end in it or before.
fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (fixed, behind) = bytes.split_at_checked(ENTRY_BYTES)?;
    let id = GroupId { front: ShardId(u16_at(fixed, FRONT)), number: u64_at(fixed, NUMBER) };
    let count = u16_at(fixed, COUNT) as usize;
    if count == 0 {
        return Some((Entry::Closed(id), behind));
    }
    let (range, behind) = behind.split_at_checked(RANGE_BYTES)?;
    let (start, length) = (u32_at(range, START), u32_at(range, LENGTH));
    let (participants, behind) = behind.split_at_checked(count * PARTICIPANT_BYTES)?;
    Some((Entry::Held(Group { id, start, length, participants }), behind))
}
