//! A segment of 64 KiB: written as a shard's core would, with groups and without, and the judge of what a start makes of
//! it once it was damaged.

use crate::damage::{BLOCK_BYTES, Verdict};
use shards::keyspace::{Edit, StringRef};
use shards::units::{Db, Deadline, Now, Offset, ShardId};
use shards::wal::{
    GroupId, GroupTable, Groups, Layout, OnDamage, Predecessor, RECORD_HEADER_BYTES, Record, RecordHeader, Recovered,
    Recovery, RecoveryError, SegmentHeader, SegmentId, Sequence, encode_into, record_bytes,
};
use std::cell::Cell;
use std::ops::Range;

const FILE_BYTES: usize = 64 << 10;
/// Never written: files are allocated ahead.
const UNWRITTEN_BYTES: usize = 3 << 10;
const SHARD: ShardId = ShardId(1);
const SHARDS: u16 = 4;
const EPOCH: u64 = 9;

/// What distinguishes the files of one layout; where their records lie is the same in all.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub id: SegmentId,
    pub salt: u32,
    /// Decides values.
    pub seed: u64,
    /// Whether records say what was on disk when they were written.
    pub tells_marks: bool,
}

/// One record as it was written.
#[derive(Clone, Debug)]
struct Written {
    header: RecordHeader,
    groups: Option<GroupTable>,
    edits: Vec<u8>,
    /// Without padding.
    at: Range<usize>,
}

impl Written {
    /// The last groups are settled with the record before.
    fn table(&self) -> Option<Groups<'_>> {
        self.groups.as_ref().map(|table| table.groups(self.header.sequence.previous()))
    }
    fn is(&self, read: &Record<'_>) -> bool {
        (read.header(), read.groups(), read.edits()) == (&self.header, self.table(), &self.edits[..])
    }
}

pub struct Segment {
    pub bytes: Vec<u8>,
    header: SegmentHeader,
    records: Vec<Written>,
    /// The segment behind it, if the log goes on: its header says that all records were on disk.
    follower: Option<(SegmentId, Vec<u8>)>,
}

impl Segment {
    pub fn new(layout: Layout, identity: Identity) -> Segment {
        let header = SegmentHeader {
            id: identity.id,
            epoch: EPOCH,
            shard: SHARD,
            layout,
            salt: identity.salt,
            wall_ms: 1_000,
            steady_ms: 2_000,
            first_sequence: Sequence::FIRST,
            first_offset: Offset(0),
            durable_mark: Sequence::NONE,
            predecessor: None,
            after_recovery: false,
        };
        let mut bytes = vec![0; FILE_BYTES];
        bytes[..BLOCK_BYTES].copy_from_slice(&header.encode());
        let mut segment = Segment { bytes, header, records: Vec::new(), follower: None };
        let mut random = fastrand::Rng::with_seed(identity.seed);
        while segment.append(&mut random, identity.tells_marks) {}
        segment
    }

    /// The same in the middle of a log.
    pub fn followed(mut self) -> Segment {
        let last = self.records.last().expect("there are records");
        let end = self.end_behind(last) as u64;
        let predecessor = Predecessor { segment: self.header.id, last_sequence: last.header.sequence, end };
        let header = SegmentHeader {
            id: self.header.id.next(),
            salt: !self.header.salt,
            first_sequence: last.header.sequence.next(),
            first_offset: Offset(last.header.offset.0 + last.edits.len() as u64),
            durable_mark: last.header.sequence,
            predecessor: Some(predecessor),
            ..self.header
        };
        self.follower = Some((header.id, header.encode().to_vec()));
        self
    }

    fn end_behind(&self, record: &Written) -> usize {
        record.at.end.next_multiple_of(self.header.layout.alignment())
    }

    /// Appends the next record if there is room.
    fn append(&mut self, random: &mut fastrand::Rng, tells_marks: bool) -> bool {
        let last = self.records.last();
        let start = last.map_or(BLOCK_BYTES, |last| self.end_behind(last));
        let sequence = last.map_or(Sequence::FIRST, |last| last.header.sequence.next());
        let (edits, edit_count) = edits_of(sequence, self.header.layout, random);
        let header = RecordHeader {
            segment: self.header.id,
            salt: self.header.salt,
            sequence,
            durable_mark: if tells_marks { durable_before(sequence) } else { Sequence::NONE },
            offset: last.map_or(Offset(0), |last| Offset(last.header.offset.0 + last.edits.len() as u64)),
            edit_count,
            wall_ms: 10_000 + sequence.0,
            steady_ms: 20_000 + sequence.0,
            term: 0,
        };
        let groups = (sequence.0 % 3 == 2).then(|| groups_of(sequence, edits.len()));
        let mut record = Written { header, groups, edits, at: start..start };
        let bytes = record_bytes(record.table().as_ref(), record.edits.len(), self.header.layout);
        let table_bytes = record.groups.as_ref().map_or(0, |table| 8 + table.bytes().len());
        record.at.end += RECORD_HEADER_BYTES + table_bytes + record.edits.len();
        if start + bytes > FILE_BYTES - UNWRITTEN_BYTES {
            return false;
        }
        let place = &mut self.bytes[start..start + bytes];
        encode_into(place, &record.header, record.table().as_ref(), &record.edits, self.header.layout);
        self.records.push(record);
        true
    }

    /// Reads `damaged` in place of this segment, as a start does.
    pub fn judge(&self, damaged: &[u8]) -> Verdict {
        let kept = Cell::new(0);
        let is_prefix = Cell::new(true);
        let outcome = self.recover(damaged, &mut |record| {
            let expected = self.records.get(kept.get()).is_some_and(|written| written.is(record));
            is_prefix.set(is_prefix.get() && expected);
            kept.set(kept.get() + 1);
        });
        let (kept, is_prefix) = (kept.get(), is_prefix.get());
        match outcome {
            // What was handed out before a refusal counts for nothing.
            Err(_) => Verdict::Refused,
            Ok(_) if !is_prefix => Verdict::Wrong("a record that was not written there"),
            Ok(recovered) if !self.continues_behind(&recovered, kept) => Verdict::Wrong("the log goes on elsewhere"),
            Ok(_) if kept == self.records.len() => Verdict::Same,
            Ok(_) if (kept as u64) < self.known_durable(damaged) => Verdict::Wrong("a loss of what was on disk"),
            Ok(_) => Verdict::Cut,
        }
    }

    fn recover(&self, damaged: &[u8], applied: &mut dyn FnMut(&Record<'_>)) -> Result<Recovered, RecoveryError> {
        let mut files = vec![(self.header.id, damaged)];
        files.extend(self.follower.iter().map(|(id, bytes)| (*id, &bytes[..])));
        let starts: Vec<_> = files.iter().map(|(id, bytes)| (*id, &bytes[..bytes.len().min(BLOCK_BYTES)])).collect();
        let mut recovery = Recovery::new(SHARD, SHARDS, EPOCH, &starts, OnDamage::Refuse)?;
        while let Some(id) = recovery.next_segment() {
            let (_, bytes) = files.iter().find(|file| file.0 == id).expect("it asks for what is there");
            recovery.read(bytes, &mut |record| {
                applied(record);
                Ok(())
            })?;
        }
        recovery.finish()
    }

    /// Whether the log is continued right behind the first `kept` records.
    fn continues_behind(&self, recovered: &Recovered, kept: usize) -> bool {
        let kept = &self.records[..kept];
        let bytes = kept.iter().map(|record| record.edits.len() as u64).sum::<u64>();
        let edits = kept.iter().map(|record| record.header.edit_count as u64).sum::<u64>();
        let next = Sequence(kept.len() as u64 + 1);
        let end = kept.last().map_or(BLOCK_BYTES, |last| self.end_behind(last)) as u64;
        let here = recovered.predecessor.filter(|before| before.segment == self.header.id);
        (recovered.next_sequence, recovered.next_offset) == (next, Offset(bytes))
            && (recovered.records, recovered.edits, recovered.bytes) == (kept.len() as u64, edits, bytes)
            && here.is_none_or(|before| before.end == end)
    }

    /// So many records were on disk when something was written that is left.
    fn known_durable(&self, damaged: &[u8]) -> u64 {
        let is_intact = |record: &&Written| damaged.get(record.at.clone()) == Some(&self.bytes[record.at.clone()]);
        let marks = self.records.iter().filter(is_intact).map(|record| durable_before(record.header.sequence).0);
        let here = marks.max().unwrap_or(0);
        if self.follower.is_some() { self.records.len() as u64 } else { here }
    }

    /// Gives each record the checksum of what is in its place now.
    pub fn seal(&self, damaged: &mut [u8]) {
        for record in &self.records {
            let record = &mut damaged[record.at.clone()];
            let crc = checksum(record);
            record[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    }

    pub fn records(&self) -> usize {
        self.records.len()
    }
}

/// The last record that was on disk when this one was written: two more were under way.
fn durable_before(sequence: Sequence) -> Sequence {
    Sequence(sequence.0.saturating_sub(3))
}

fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}

/// Of every kind that names a key; from some dozens of bytes to more than a block. Lengths depend on layout and sequence.
fn edits_of(sequence: Sequence, layout: Layout, random: &mut fastrand::Rng) -> (Vec<u8>, u32) {
    let key = [b"key:".as_slice(), &sequence.0.to_be_bytes()].concat();
    let value_bytes = match layout {
        Layout::Blocks => [3700, 1900, 40, 3500, 7000, 3800, 3][sequence.0 as usize % 7],
        Layout::Bytes => [9, 130, 700, 40, 1900, 5000, 3][sequence.0 as usize % 7],
    };
    let mut value = vec![0; value_bytes];
    random.fill(&mut value);
    let deadline = Some(Deadline::after(Now::at(1_700_000_000_000), sequence.0));
    let edits = [
        Edit::Put { db: Db(0), key: &key, value: StringRef::Bytes(&value), deadline },
        Edit::Put {
            db: Db(3),
            key: b"counter",
            value: StringRef::Integer(random.i64(1 << 40..1 << 41)),
            deadline: None,
        },
        Edit::Splice { db: Db(0), key: &key, offset: 2, bytes: &value[..3] },
        Edit::SetDeadline { db: Db(0), key: &key, deadline },
        Edit::Rename { db: Db(0), key: &key, to_db: Db(1), to_key: b"other" },
        Edit::Remove { db: Db(0), key: &key },
    ];
    let mut bytes = Vec::new();
    edits.iter().for_each(|edit| edit.encode(&mut bytes));
    (bytes, edits.len() as u32)
}

/// One group with all edits, one without any, one that is closed.
fn groups_of(sequence: Sequence, edits_bytes: usize) -> GroupTable {
    let mut table = GroupTable::default();
    table.push(GroupId { front: SHARD, number: sequence.0 << 20 }, &[ShardId(0), SHARD], 0..edits_bytes);
    table.close(GroupId { front: ShardId(3), number: sequence.0 });
    table.push(GroupId { front: ShardId(2), number: sequence.0 }, &[SHARD, ShardId(2)], edits_bytes..edits_bytes);
    table
}
