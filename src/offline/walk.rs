//! Whole records, wherever in a segment's file they lie: behind damage, and behind the end of the log too.
//!
//! Says nothing of whether a record counts.

use shards::wal::{BLOCK_BYTES, Layout, Record, SegmentHeader, SegmentId, StopReason};

/// Bytes that a walk may checksum, as a multiple of those it walks: what fails its checksum claims any length.
const CHECKSUMMED_FACTOR_MAX: u64 = 16;

/// A walk through one file.
pub struct Walk<'b> {
    bytes: &'b [u8],
    /// Without the zeros at the end.
    written: usize,
    position: usize,
    segment: SegmentId,
    salt: Option<u32>,
    layout: Layout,
    checksummed: u64,
}

/// What lies at a place.
pub enum Piece<'b> {
    Record(u64, Record<'b>),
    /// No record, up to the next one or to the last byte that is not zero; and why its first bytes are none.
    Rubbish {
        position: u64,
        bytes: u64,
        reason: StopReason,
    },
}

impl<'b> Walk<'b> {
    /// From `from` on, or from where records begin. `bytes`: the whole file. Without a header any salt may be right.
    pub fn new(bytes: &'b [u8], id: SegmentId, header: Option<&SegmentHeader>, from: u64) -> Self {
        Walk {
            bytes,
            written: written(bytes),
            position: usize::try_from(from).unwrap_or(usize::MAX).max(BLOCK_BYTES),
            segment: header.map_or(id, |header| header.id),
            salt: header.map(|header| header.salt),
            layout: header.map_or(Layout::Bytes, |header| header.layout),
            checksummed: 0,
        }
    }

    fn record(&mut self) -> Result<Record<'b>, StopReason> {
        let rest = &self.bytes[self.position..];
        let outcome = Record::verify(rest, self.segment, self.salt);
        if outcome == Err(StopReason::BadChecksum) {
            // The length that it claims comes first.
            self.checksummed += rest.first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as u64;
        }
        outcome
    }
}

impl<'b> Iterator for Walk<'b> {
    type Item = Piece<'b>;

    fn next(&mut self) -> Option<Piece<'b>> {
        if self.position >= self.written {
            return None;
        }
        let position = self.position as u64;
        let reason = match self.record() {
            Ok(record) => {
                self.position += record.padded_bytes(self.layout);
                return Some(Piece::Record(position, record));
            }
            Err(reason) => reason,
        };
        loop {
            self.position += self.layout.alignment();
            let is_over =
                self.position >= self.written || self.checksummed > self.bytes.len() as u64 * CHECKSUMMED_FACTOR_MAX;
            if is_over {
                self.position = self.written;
            }
            if is_over || self.record().is_ok() {
                return Some(Piece::Rubbish { position, bytes: self.position as u64 - position, reason });
            }
        }
    }
}

/// Bytes up to the last one that is not zero.
pub fn written(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}
