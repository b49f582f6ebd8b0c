//! A segment: the block that opens its file, and its records read in order.
//!
//! Owns the header's bytes and the walk from one record to the next; what to make of a walk that stops is `recovery`'s
//! subject. The rule: the reader yields a record only if it is verified and the next in sequence and offset.

use super::group::GroupId;
use super::record::Record;
use super::{BLOCK_BYTES, Layout, SegmentId, Sequence, is_zero, u16_at, u32_at, u64_at};
use crate::units::{Offset, ShardId};

const MAGIC: &[u8; 8] = b"SHARDWAL";
const SEGMENT_VERSION: u16 = 1;

const VERSION: usize = 8;
const LAYOUT: usize = 10;
const FLAGS: usize = 11;
const CRC: usize = 12;
const SEGMENT: usize = 16;
const EPOCH: usize = 24;
const SHARD: usize = 32;
const RESERVED: usize = 34;
const SALT: usize = 36;
const WALL_MS: usize = 40;
const STEADY_MS: usize = 48;
const FIRST_SEQUENCE: usize = 56;
const FIRST_OFFSET: usize = 64;
const DURABLE_MARK: usize = 72;
const PREDECESSOR_SEGMENT: usize = 80;
const PREDECESSOR_LAST_SEQUENCE: usize = 88;
const PREDECESSOR_END: usize = 96;
/// The fields end here, and so does what the checksum covers: the zeros behind carry nothing, so damage there costs nothing.
const FIELDS_BYTES: usize = 104;

const LAYOUT_BLOCKS: u8 = 1;
const LAYOUT_BYTES: u8 = 2;

const FLAG_PREDECESSOR: u8 = 1;
const FLAG_AFTER_RECOVERY: u8 = 2;

/// What a segment says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    pub id: SegmentId,
    pub epoch: u64,
    pub shard: ShardId,
    pub layout: Layout,
    /// Chosen at random for each segment and repeated in its records.
    pub salt: u32,
    pub wall_ms: u64,
    pub steady_ms: u64,
    pub first_sequence: Sequence,
    pub first_offset: Offset,
    /// Every record up to this one was on disk when this segment began; always before `first_sequence`.
    pub durable_mark: Sequence,
    /// Where the log was continued from; `None` when nothing precedes.
    pub predecessor: Option<Predecessor>,
    /// Made by a start: whatever lies between the predecessor's end and this segment was cut and is never read again.
    pub after_recovery: bool,
}

/// Where the log ended in the segment before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Predecessor {
    pub segment: SegmentId,
    /// The last record before the end, be it in this segment or an earlier one.
    pub last_sequence: Sequence,
    /// Bytes from the start of the file to the end of the last record's padding.
    pub end: u64,
}

/// Why a block is no segment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("the segment was never begun")]
    Blank,
    #[error("the segment's header is cut short")]
    Truncated,
    #[error("this is no log segment")]
    BadMagic,
    #[error("the segment's header fails its checksum")]
    BadChecksum,
    #[error("the segment has version {0}, which this program does not know")]
    UnsupportedVersion(u16),
    #[error("the segment's header passes its checksum but contradicts itself")]
    Impossible,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        assert!(self.is_possible(), "a segment's header agrees with itself: {self:?}");
        let mut block = [0; BLOCK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(VERSION, &SEGMENT_VERSION.to_le_bytes());
        put(
            LAYOUT,
            &[match self.layout {
                Layout::Blocks => LAYOUT_BLOCKS,
                Layout::Bytes => LAYOUT_BYTES,
            }],
        );
        let predecessor = if self.predecessor.is_some() { FLAG_PREDECESSOR } else { 0 };
        let after_recovery = if self.after_recovery { FLAG_AFTER_RECOVERY } else { 0 };
        put(FLAGS, &[predecessor | after_recovery]);
        put(SEGMENT, &self.id.0.to_le_bytes());
        put(EPOCH, &self.epoch.to_le_bytes());
        put(SHARD, &self.shard.0.to_le_bytes());
        put(SALT, &self.salt.to_le_bytes());
        put(WALL_MS, &self.wall_ms.to_le_bytes());
        put(STEADY_MS, &self.steady_ms.to_le_bytes());
        put(FIRST_SEQUENCE, &self.first_sequence.0.to_le_bytes());
        put(FIRST_OFFSET, &self.first_offset.0.to_le_bytes());
        put(DURABLE_MARK, &self.durable_mark.0.to_le_bytes());
        if let Some(predecessor) = self.predecessor {
            put(PREDECESSOR_SEGMENT, &predecessor.segment.0.to_le_bytes());
            put(PREDECESSOR_LAST_SEQUENCE, &predecessor.last_sequence.0.to_le_bytes());
            put(PREDECESSOR_END, &predecessor.end.to_le_bytes());
        }
        let crc = checksum(&block);
        block[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// The header at the start of a segment's bytes.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, SegmentError> {
        let whole = bytes.len() >= BLOCK_BYTES;
        let block = &bytes[..bytes.len().min(BLOCK_BYTES)];
        if is_zero(block) {
            return Err(SegmentError::Blank);
        }
        if !whole {
            return Err(SegmentError::Truncated);
        }
        if &block[..MAGIC.len()] != MAGIC {
            return Err(SegmentError::BadMagic);
        }
        if checksum(block) != u32_at(block, CRC) {
            return Err(SegmentError::BadChecksum);
        }
        let version = u16_at(block, VERSION);
        let unknown_flags = block[FLAGS] & !(FLAG_PREDECESSOR | FLAG_AFTER_RECOVERY);
        if version != SEGMENT_VERSION || unknown_flags != 0 || u16_at(block, RESERVED) != 0 {
            return Err(SegmentError::UnsupportedVersion(version));
        }
        let header = SegmentHeader {
            id: SegmentId(u64_at(block, SEGMENT)),
            epoch: u64_at(block, EPOCH),
            shard: ShardId(u16_at(block, SHARD)),
            layout: match block[LAYOUT] {
                LAYOUT_BLOCKS => Layout::Blocks,
                LAYOUT_BYTES => Layout::Bytes,
                _ => return Err(SegmentError::UnsupportedVersion(version)),
            },
            salt: u32_at(block, SALT),
            wall_ms: u64_at(block, WALL_MS),
            steady_ms: u64_at(block, STEADY_MS),
            first_sequence: Sequence(u64_at(block, FIRST_SEQUENCE)),
            first_offset: Offset(u64_at(block, FIRST_OFFSET)),
            durable_mark: Sequence(u64_at(block, DURABLE_MARK)),
            predecessor: (block[FLAGS] & FLAG_PREDECESSOR != 0).then(|| Predecessor {
                segment: SegmentId(u64_at(block, PREDECESSOR_SEGMENT)),
                last_sequence: Sequence(u64_at(block, PREDECESSOR_LAST_SEQUENCE)),
                end: u64_at(block, PREDECESSOR_END),
            }),
            after_recovery: block[FLAGS] & FLAG_AFTER_RECOVERY != 0,
        };
        if header.is_possible() { Ok(header) } else { Err(SegmentError::Impossible) }
    }

    fn is_possible(&self) -> bool {
        let aligned = |end: u64| end >= BLOCK_BYTES as u64 && end.is_multiple_of(Layout::Bytes.alignment() as u64);
        self.durable_mark < self.first_sequence
            && self.predecessor.is_none_or(|before| {
                before.segment < self.id
                    && before.last_sequence.0.checked_add(1) == Some(self.first_sequence.0)
                    && aligned(before.end)
            })
    }
}

fn checksum(block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..CRC]);
    crc.update(&block[CRC + 4..FIELDS_BYTES]);
    crc.finalize()
}

/// Where and why reading a segment stopped short of its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Bytes from the start of the file.
    pub position: u64,
    pub reason: StopReason,
}

/// Why the bytes at a place are not the next record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StopReason {
    #[error("nothing was written here, but something behind it was")]
    Hole,
    #[error("the segment ends inside a record")]
    Truncated,
    #[error("the bytes do not name this segment")]
    OtherSegment,
    #[error("the record's length is impossible")]
    BadLength,
    #[error("the record fails its checksum")]
    BadChecksum,
    #[error("the record is number {} where {} was to come", .found.0, .expected.0)]
    OutOfTurn { expected: Sequence, found: Sequence },
    #[error("the record's edits start at offset {} where {} was to come", .found.0, .expected.0)]
    WrongOffset { expected: Offset, found: Offset },
    #[error("the record has version {0}, or flags with it, that this program does not know")]
    UnsupportedVersion(u16),
    #[error("the record passes its checksum but contradicts itself")]
    Impossible,
    #[error("the record's edits cannot be read: {0}")]
    BadEdits(crate::keyspace::EditError),
    #[error("the record holds {found} edits where its header says {expected}")]
    EditCount { expected: u32, found: u32 },
    #[error("the record lists group {} of shard {}, which cannot be one of this shard among {shards}", .group.number, .group.front.0)]
    BadGroup { group: GroupId, shards: u16 },
    #[error("the record gives group {} of shard {} a part of an edit", .0.number, .0.front.0)]
    BadGroupRange(GroupId),
    #[error("{0}")]
    Header(SegmentError),
    #[error("the segment belongs to another place: its header names segment {}, shard {}, epoch {epoch}", .id.0, .shard.0)]
    Misplaced { id: SegmentId, shard: ShardId, epoch: u64 },
    #[error("the log goes on in segment {} with record {}, but ends before it", .segment.0, .sequence.0)]
    Missing { segment: SegmentId, sequence: Sequence },
    #[error("the segment's edits start at offset {} where {} was to come", .found.0, .expected.0)]
    WrongStart { expected: Offset, found: Offset },
    #[error("segment {} claims to start with record {}, which came already", .segment.0, .sequence.0)]
    Overlap { segment: SegmentId, sequence: Sequence },
}

/// Reads the records of one segment in order.
#[derive(Clone, Debug)]
pub struct RecordReader<'a> {
    bytes: &'a [u8],
    position: usize,
    segment: SegmentId,
    salt: u32,
    layout: Layout,
    next_sequence: Sequence,
    next_offset: Offset,
    stopped: Option<StopReason>,
}

impl<'a> RecordReader<'a> {
    /// `bytes` is the whole segment, from the start of its file; `header` what `SegmentHeader::decode` made of its start.
    pub fn new(header: &SegmentHeader, bytes: &'a [u8]) -> Self {
        RecordReader {
            bytes,
            position: BLOCK_BYTES,
            segment: header.id,
            salt: header.salt,
            layout: header.layout,
            next_sequence: header.first_sequence,
            next_offset: header.first_offset,
            stopped: None,
        }
    }

    pub fn segment(&self) -> SegmentId {
        self.segment
    }
    /// Where the next record starts, or would.
    pub fn position(&self) -> u64 {
        self.position as u64
    }
    pub fn next_sequence(&self) -> Sequence {
        self.next_sequence
    }
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The next record; `None` at a clean end (nothing but zeros to the end of the file). A reader that stopped says the
    /// same again for ever.
    pub fn read(&mut self) -> Result<Option<Record<'a>>, Stop> {
        let rest = self.bytes.get(self.position..).unwrap_or(&[]);
        let outcome = match self.stopped {
            Some(reason) => Err(reason),
            None => self.verify_next(rest),
        };
        match outcome {
            Ok(None) => Ok(None),
            Ok(Some(record)) => {
                // May lead past the end of a file that was cut inside the padding of its last record.
                self.position += record.padded_bytes(self.layout);
                self.next_sequence = self.next_sequence.next();
                self.next_offset = record.end_offset();
                Ok(Some(record))
            }
            Err(reason) => {
                self.stopped = Some(reason);
                Err(Stop { position: self.position as u64, reason })
            }
        }
    }

    fn verify_next(&self, rest: &'a [u8]) -> Result<Option<Record<'a>>, StopReason> {
        // The first bytes decide almost always; the whole rest is only looked at where the records end.
        if is_zero(&rest[..rest.len().min(super::RECORD_HEADER_BYTES)]) {
            return if is_zero(rest) { Ok(None) } else { Err(StopReason::Hole) };
        }
        let record = Record::verify(rest, self.segment, Some(self.salt))?;
        let (sequence, offset) = (record.header().sequence, record.header().offset);
        if sequence != self.next_sequence {
            return Err(StopReason::OutOfTurn { expected: self.next_sequence, found: sequence });
        }
        if offset != self.next_offset {
            return Err(StopReason::WrongOffset { expected: self.next_offset, found: offset });
        }
        Ok(Some(record))
    }
}
