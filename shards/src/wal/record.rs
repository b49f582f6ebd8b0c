//! One record: the edits of one group commit behind a header that says what they are, where they belong and what
//! was durable when they were written. Between the two, if it has any, the table of its groups.
//!
//! Owns the bytes of a record; where records lie in a segment is `segment`'s subject. The rule: a `Record` exists only
//! once `verify` has checked its length, its checksum and that it belongs to the segment it was found in.

use super::group::Groups;
use super::segment::StopReason;
use super::{Layout, SegmentId, Sequence, u16_at, u32_at, u64_at};
use crate::units::Offset;

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 80;
/// The most edits and groups a record can carry, in bytes.
pub const BODY_BYTES_MAX: usize = u32::MAX as usize - RECORD_HEADER_BYTES;

pub(super) const RECORD_VERSION: u16 = 1;

const LENGTH: usize = 0;
const CRC: usize = 4;
const VERSION: usize = 8;
const FLAGS: usize = 10;
const EDIT_COUNT: usize = 12;
const SEGMENT: usize = 16;
const SEQUENCE: usize = 24;
const DURABLE_MARK: usize = 32;
const OFFSET: usize = 40;
const WALL_MS: usize = 48;
const STEADY_MS: usize = 56;
const TERM: usize = 64;
const GROUP_BYTES: usize = 72;
const SALT: usize = 76;

/// What a record says about its edits. Length and checksum are made by `encode_into`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    pub segment: SegmentId,
    /// The segment's salt: a client cannot know it, so no value it stores can pass for a record.
    pub salt: u32,
    pub sequence: Sequence,
    /// Every record up to this one was on disk when this one was written; always before `sequence`.
    pub durable_mark: Sequence,
    /// Where the first edit lies in the shard's stream of edits.
    pub offset: Offset,
    pub edit_count: u32,
    pub wall_ms: u64,
    pub steady_ms: u64,
    /// Term of the leader that wrote it; 0 without replicated commit.
    pub term: u64,
}

/// A record that was verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    header: RecordHeader,
    groups: Option<Groups<'a>>,
    edits: &'a [u8],
}

impl<'a> Record<'a> {
    pub fn header(&self) -> &RecordHeader {
        &self.header
    }
    pub fn edits(&self) -> &'a [u8] {
        self.edits
    }
    /// The groups whose edits are in here, or that this shard takes part in without an edit, and those that are closed by
    /// now; `None` without a table.
    pub fn groups(&self) -> Option<Groups<'a>> {
        self.groups
    }
    /// Bytes that it takes in its segment, padding included.
    pub fn padded_bytes(&self, layout: Layout) -> usize {
        record_bytes(self.groups.as_ref(), self.edits.len(), layout)
    }
    /// Where the edit after the last one of this record lies.
    pub fn end_offset(&self) -> Offset {
        // Cannot overflow: `verify` checked it.
        Offset(self.header.offset.0 + self.edits.len() as u64)
    }

    /// The record at the start of `bytes`, if it is one of segment `segment` with salt `salt` (`None`: any, for segments
    /// whose header cannot be read). Says nothing of whether it is its turn.
    pub fn verify(bytes: &'a [u8], segment: SegmentId, salt: Option<u32>) -> Result<Record<'a>, StopReason> {
        let (fixed, length) = claimed(bytes, segment, salt)?;
        let whole = bytes.get(..length).ok_or(StopReason::Truncated)?;
        let right = checksum(whole) == u32_at(fixed, CRC);
        #[cfg(feature = "planted-bugs")]
        let right = right || crate::planted::accepts_bad_crc();
        if !right {
            return Err(StopReason::BadChecksum);
        }
        // From here on these bytes are what was written; what follows can only be another version or a bug.
        let version = u16_at(fixed, VERSION);
        if version != RECORD_VERSION || u16_at(fixed, FLAGS) != 0 {
            return Err(StopReason::UnsupportedVersion(version));
        }
        let header = RecordHeader {
            segment,
            salt: u32_at(fixed, SALT),
            sequence: Sequence(u64_at(fixed, SEQUENCE)),
            durable_mark: Sequence(u64_at(fixed, DURABLE_MARK)),
            offset: Offset(u64_at(fixed, OFFSET)),
            edit_count: u32_at(fixed, EDIT_COUNT),
            wall_ms: u64_at(fixed, WALL_MS),
            steady_ms: u64_at(fixed, STEADY_MS),
            term: u64_at(fixed, TERM),
        };
        let (groups, edits) = body(whole, u32_at(fixed, GROUP_BYTES) as usize).ok_or(StopReason::Impossible)?;
        let possible = header.durable_mark < header.sequence
            && header.sequence.0 < u64::MAX
            && header.offset.0.checked_add(edits.len() as u64).is_some()
            && groups.is_none_or(|groups| groups.settled() < header.sequence);
        if possible { Ok(Record { header, groups, edits }) } else { Err(StopReason::Impossible) }
    }
}

/// Group table and edits of a record whose checksum is right; `None` if the table makes no sense.
fn body(whole: &[u8], group_bytes: usize) -> Option<(Option<Groups<'_>>, &[u8])> {
    let (table, edits) = whole[RECORD_HEADER_BYTES..].split_at_checked(group_bytes)?;
    let groups = if table.is_empty() { None } else { Some(Groups::parse(table, edits.len())?) };
    Some((groups, edits))
}

/// What the bytes claim before the checksum was looked at: the header and a length that may be too long, provided that they
/// name this segment. Cheap, as the search for survivors behind a hole asks at every possible start of a record.
fn claimed(bytes: &[u8], segment: SegmentId, salt: Option<u32>) -> Result<(&[u8], usize), StopReason> {
    let fixed = bytes.get(..RECORD_HEADER_BYTES).ok_or(StopReason::Truncated)?;
    if SegmentId(u64_at(fixed, SEGMENT)) != segment || salt.is_some_and(|salt| salt != u32_at(fixed, SALT)) {
        return Err(StopReason::OtherSegment);
    }
    let length = u32_at(fixed, LENGTH) as usize;
    if length < RECORD_HEADER_BYTES {
        return Err(StopReason::BadLength);
    }
    Ok((fixed, length))
}

/// Bytes that a record takes in a segment, padding included.
pub fn record_bytes(groups: Option<&Groups<'_>>, edits_bytes: usize, layout: Layout) -> usize {
    (RECORD_HEADER_BYTES + groups.map_or(0, Groups::len) + edits_bytes).next_multiple_of(layout.alignment())
}

/// Writes the record over all of `out`, which must have the length that `record_bytes` gives; padding is zeroed.
pub fn encode_into(out: &mut [u8], header: &RecordHeader, groups: Option<&Groups<'_>>, edits: &[u8], layout: Layout) {
    let group_bytes = groups.map_or(0, Groups::len);
    let body_bytes = group_bytes + edits.len();
    assert!(body_bytes <= BODY_BYTES_MAX, "a record holds at most {BODY_BYTES_MAX} bytes of groups and edits");
    assert_eq!(out.len(), record_bytes(groups, edits.len(), layout), "the buffer is the record's size");
    assert!(header.durable_mark < header.sequence, "no record is durable before it is written");
    assert!(groups.is_none_or(|groups| groups.settled() < header.sequence), "nor are its groups settled");
    assert!(groups.is_none_or(|groups| groups.edits_end() <= edits.len()), "a group's edits are in its record");
    let length = RECORD_HEADER_BYTES + body_bytes;
    let (record, padding) = out.split_at_mut(length);
    let (fixed, body) = record.split_at_mut(RECORD_HEADER_BYTES);
    let (table, body) = body.split_at_mut(group_bytes);
    if let Some(groups) = groups {
        groups.encode_into(table);
    }
    body.copy_from_slice(edits);
    padding.fill(0);
    fixed.fill(0);
    put(fixed, LENGTH, &(length as u32).to_le_bytes());
    put(fixed, VERSION, &RECORD_VERSION.to_le_bytes());
    put(fixed, EDIT_COUNT, &header.edit_count.to_le_bytes());
    put(fixed, SEGMENT, &header.segment.0.to_le_bytes());
    put(fixed, SEQUENCE, &header.sequence.0.to_le_bytes());
    put(fixed, DURABLE_MARK, &header.durable_mark.0.to_le_bytes());
    put(fixed, OFFSET, &header.offset.0.to_le_bytes());
    put(fixed, WALL_MS, &header.wall_ms.to_le_bytes());
    put(fixed, STEADY_MS, &header.steady_ms.to_le_bytes());
    put(fixed, TERM, &header.term.to_le_bytes());
    put(fixed, GROUP_BYTES, &(group_bytes as u32).to_le_bytes());
    put(fixed, SALT, &header.salt.to_le_bytes());
    let crc = checksum(record);
    put(record, CRC, &crc.to_le_bytes());
}

/// Over everything but the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..CRC]);
    crc.update(&record[CRC + 4..]);
    crc.finalize()
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}
