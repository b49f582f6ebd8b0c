//! A log in memory for the tests of this folder: written as the runtime would, then damaged at will.

mod base;
mod closing;
mod commit;
mod cut;
mod damage;
mod format;
mod power;

use super::*;
use crate::keyspace::Edit;
use crate::units::{Db, Offset, ShardId};

const SHARD: ShardId = ShardId(3);
const SHARDS: u16 = 5;
const EPOCH: u64 = 7;

/// Where one record lies.
#[derive(Clone, Copy, Debug)]
struct Written {
    segment: usize,
    start: usize,
    /// Without padding.
    end: usize,
    mark: u64,
}

#[derive(Clone)]
struct Log {
    layout: Layout,
    files: Vec<(SegmentId, Vec<u8>)>,
    header: SegmentHeader,
    next_sequence: Sequence,
    next_offset: Offset,
    /// Of the live log, from sequence 1 on: what was written, and where.
    edits: Vec<Vec<u8>>,
    records: Vec<Written>,
}

/// A start's result, with the edits it applied, record by record.
type Outcome = Result<(Recovered, Vec<Vec<u8>>), RecoveryError>;

impl Log {
    fn new(layout: Layout) -> Log {
        let header = SegmentHeader {
            id: SegmentId::FIRST,
            epoch: EPOCH,
            shard: SHARD,
            layout,
            salt: 0x5a17_0001,
            wall_ms: 1_000,
            steady_ms: 2_000,
            first_sequence: Sequence::FIRST,
            first_offset: Offset(0),
            durable_mark: Sequence::NONE,
            predecessor: None,
            after_recovery: false,
        };
        Log {
            layout,
            files: vec![(header.id, header.encode().to_vec())],
            header,
            next_sequence: Sequence::FIRST,
            next_offset: Offset(0),
            edits: Vec::new(),
            records: Vec::new(),
        }
    }

    /// A record whose content depends on its sequence, with `value_bytes` in its value.
    fn append(&mut self, mark: u64, value_bytes: usize) {
        let (edits, edit_count) = some_edits(self.next_sequence, value_bytes);
        let header = self.record_header(mark, edit_count);
        self.append_as(header, edits);
    }

    /// The same with groups, all before it settled.
    fn append_grouped(&mut self, mark: u64, value_bytes: usize) {
        let (edits, edit_count) = some_edits(self.next_sequence, value_bytes);
        let header = self.record_header(mark, edit_count);
        let table = some_groups(self.next_sequence, edits.len());
        self.append_with(header, Some(&table.groups(self.next_sequence.previous())), edits);
    }

    /// What the next record's header should be.
    fn record_header(&self, mark: u64, edit_count: u32) -> RecordHeader {
        RecordHeader {
            segment: self.header.id,
            salt: self.header.salt,
            sequence: self.next_sequence,
            durable_mark: Sequence(mark),
            offset: self.next_offset,
            edit_count,
            wall_ms: 10_000 + self.next_sequence.0,
            steady_ms: 20_000 + self.next_sequence.0,
            term: 0,
        }
    }

    fn append_as(&mut self, header: RecordHeader, edits: Vec<u8>) {
        self.append_with(header, None, edits);
    }

    fn append_with(&mut self, header: RecordHeader, groups: Option<&Groups<'_>>, edits: Vec<u8>) {
        let start = self.end();
        let file = &mut self.files.last_mut().expect("a log has a segment").1;
        let bytes = record_bytes(groups, edits.len(), self.layout);
        if file.len() < start + bytes {
            file.resize(start + bytes, 0);
        }
        encode_into(&mut file[start..start + bytes], &header, groups, &edits, self.layout);
        let end = start + RECORD_HEADER_BYTES + groups.map_or(0, Groups::len) + edits.len();
        self.records.push(Written { segment: self.files.len() - 1, start, end, mark: header.durable_mark.0 });
        self.next_sequence = self.next_sequence.next();
        self.next_offset.0 += edits.len() as u64;
        self.edits.push(edits);
    }

    /// Where the current segment's records end.
    fn end(&self) -> usize {
        let here = self.records.last().filter(|record| record.segment == self.files.len() - 1);
        here.map_or(BLOCK_BYTES, |record| record.end.next_multiple_of(self.layout.alignment()))
    }

    fn rotate(&mut self, mark: u64) {
        let predecessor = Predecessor {
            segment: self.header.id,
            last_sequence: self.next_sequence.previous(),
            end: self.end() as u64,
        };
        self.begin_segment(mark, Some(predecessor), false, self.header.id.next(), Vec::new());
    }

    /// `recycled` is what the new segment's file held before.
    fn begin_segment(
        &mut self,
        mark: u64,
        predecessor: Option<Predecessor>,
        after_recovery: bool,
        id: SegmentId,
        mut recycled: Vec<u8>,
    ) {
        self.header = SegmentHeader {
            id,
            layout: self.layout,
            salt: 0x5a17_0000 + id.0 as u32,
            first_sequence: self.next_sequence,
            first_offset: self.next_offset,
            durable_mark: Sequence(mark),
            predecessor,
            after_recovery,
            ..self.header
        };
        recycled.resize(recycled.len().max(BLOCK_BYTES), 0);
        recycled[..BLOCK_BYTES].copy_from_slice(&self.header.encode());
        self.files.push((id, recycled));
    }

    /// As a start does: goes on where `recovered` ended, in a fresh segment.
    fn continue_after(&mut self, recovered: &Recovered) {
        let kept = recovered.next_sequence.0 as usize - 1;
        self.edits.truncate(kept);
        self.records.truncate(kept);
        self.next_sequence = recovered.next_sequence;
        self.next_offset = recovered.next_offset;
        let id = recovered.next_segment_id;
        self.begin_segment(kept as u64, recovered.predecessor, true, id, Vec::new());
    }

    fn recover(&self) -> Outcome {
        self.recover_with(OnDamage::Refuse)
    }

    fn recover_with(&self, on_damage: OnDamage) -> Outcome {
        recover(&self.files, on_damage)
    }

    /// How many records the log holds.
    fn len(&self) -> usize {
        self.edits.len()
    }

    /// The outcome is a start of what was written; how much of it.
    fn kept(&self, outcome: &Outcome) -> Option<usize> {
        let (recovered, applied) = outcome.as_ref().ok()?;
        assert!(applied.len() <= self.len() && applied[..] == self.edits[..applied.len()], "a prefix, nothing else");
        assert_eq!(recovered.next_sequence.0 as usize, applied.len() + 1);
        assert_eq!(recovered.records as usize, applied.len());
        assert_eq!(recovered.bytes as usize, applied.iter().map(Vec::len).sum::<usize>());
        Some(applied.len())
    }
}

fn some_edits(sequence: Sequence, value_bytes: usize) -> (Vec<u8>, u32) {
    let key = sequence.0.to_le_bytes();
    let value = vec![b'a' + (sequence.0 % 26) as u8; value_bytes];
    let mut edits = Vec::new();
    Edit::Splice { db: Db(0), key: &key, offset: 0, bytes: &value }.encode(&mut edits);
    // Ends in a zero byte, which must not be taken for padding.
    Edit::Flush { db: Db(0) }.encode(&mut edits);
    (edits, 2)
}

fn recover(files: &[(SegmentId, Vec<u8>)], on_damage: OnDamage) -> Outcome {
    recover_behind(files, on_damage, None)
}

/// Behind a snapshot, if there is one.
fn recover_behind(files: &[(SegmentId, Vec<u8>)], on_damage: OnDamage, base: Option<Base>) -> Outcome {
    let start = |file: &'_ Vec<u8>| file.len().min(BLOCK_BYTES);
    let starts: Vec<(SegmentId, &[u8])> = files.iter().map(|(id, file)| (*id, &file[..start(file)])).collect();
    let mut recovery = Recovery::new(SHARD, SHARDS, EPOCH, &starts, on_damage)?;
    if let Some(base) = base {
        recovery = recovery.from_base(base);
    }
    let mut applied = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let (_, file) = files.iter().find(|file| file.0 == id).expect("it asks for what is there");
        recovery.read(file, &mut |record| {
            applied.push(record.edits().to_vec());
            Ok(())
        })?;
    }
    Ok((recovery.finish()?, applied))
}

fn is_damage(outcome: &Outcome) -> bool {
    matches!(outcome, Err(RecoveryError::Damage(_)))
}

/// Two groups of this shard, one of them of another front, and one that is closed.
fn some_groups(sequence: Sequence, edits_bytes: usize) -> GroupTable {
    let mut table = GroupTable::default();
    table.push(GroupId { front: SHARD, number: sequence.0 << 32 }, &[ShardId(1), SHARD], 0..edits_bytes);
    table.close(GroupId { front: SHARD, number: 1 });
    table.push(
        GroupId { front: ShardId(0), number: sequence.0 },
        &[ShardId(0), SHARD, ShardId(4)],
        edits_bytes..edits_bytes,
    );
    table
}

/// Three segments with a hole's worth of marks: the last two records are above every mark.
fn small_log(layout: Layout) -> Log {
    let mut log = Log::new(layout);
    log.append(0, 5);
    log.append_grouped(0, 40);
    log.append(1, 1);
    log.rotate(2);
    log.append(3, 9);
    log.append_grouped(3, 23);
    log.rotate(4);
    log.append(4, 2);
    log.append_grouped(4, 17);
    log.append(4, 3);
    log
}
