//! The blocks behind a snapshot's header: entries as edits, in turn, and the footer that says how many there are.
//!
//! Owns their bytes. The rule: `take` gives a block only once its salt, its turn, its checksum and its padding were
//! verified and its entries can all be read; and a footer only if it counts what was given before it and ends the file.

use super::{Counts, SNAPSHOT_BLOCK_BYTES, SnapshotError, SnapshotHeader};
use crate::keyspace::Edit;
use crate::wal::{Sequence, is_zero, u32_at, u64_at};

/// Bytes of a block's header, which is all that `BlockReader::block_bytes` wants to see.
pub const SNAPSHOT_BLOCK_HEADER_BYTES: usize = 32;
/// The most that a block can carry.
pub const SNAPSHOT_PAYLOAD_BYTES_MAX: usize = u32::MAX as usize - SNAPSHOT_BLOCK_HEADER_BYTES;

const LENGTH: usize = 0;
const CRC: usize = 4;
const SALT: usize = 8;
const INDEX: usize = 12;
const ENTRIES: usize = 16;
const KIND: usize = 20;
const RESERVED: usize = 21;

const KIND_DATA: u8 = 1;
const KIND_FOOTER: u8 = 2;

/// Places in the footer's payload.
const LAST_SEQUENCE: usize = 0;
const TOTAL_ENTRIES: usize = 8;
const TOTAL_BYTES: usize = 16;
const TOTAL_BLOCKS: usize = 24;
const FOOTER_BYTES: usize = 32;

/// The end of a file, and the proof that it is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotFooter {
    /// The last record of the log whose edits are in the file; `Sequence::NONE` without any.
    pub last_sequence: Sequence,
    pub entries: u64,
    /// Of all payloads, without headers and padding.
    pub bytes: u64,
    /// Of data, without the footer.
    pub blocks: u64,
}

/// Makes the blocks of a file, in order.
#[derive(Clone, Debug)]
pub struct BlockWriter {
    salt: u32,
    counts: Counts,
    is_finished: bool,
}

impl BlockWriter {
    pub fn new(header: &SnapshotHeader) -> Self {
        BlockWriter { salt: header.salt, counts: Counts::default(), is_finished: false }
    }

    /// Appends a block to `out`, with its padding. `edits`: whole ones, each the Put of one entry, `entries` of them.
    pub fn data(&mut self, edits: &[u8], entries: u32, out: &mut Vec<u8>) {
        self.append(KIND_DATA, edits, entries, out);
        self.counts.entries += entries as u64;
        self.counts.bytes += edits.len() as u64;
        self.counts.blocks += 1;
    }

    /// Appends the footer. Nothing may follow.
    pub fn footer(&mut self, last_sequence: Sequence, out: &mut Vec<u8>) {
        let Counts { entries, bytes, blocks } = self.counts;
        let mut payload = [0; FOOTER_BYTES];
        put(&mut payload, LAST_SEQUENCE, &last_sequence.0.to_le_bytes());
        put(&mut payload, TOTAL_ENTRIES, &entries.to_le_bytes());
        put(&mut payload, TOTAL_BYTES, &bytes.to_le_bytes());
        put(&mut payload, TOTAL_BLOCKS, &blocks.to_le_bytes());
        self.append(KIND_FOOTER, &payload, 0, out);
        self.is_finished = true;
    }

    fn append(&self, kind: u8, payload: &[u8], entries: u32, out: &mut Vec<u8>) {
        assert!(!self.is_finished, "nothing follows a footer");
        assert!(
            payload.len() <= SNAPSHOT_PAYLOAD_BYTES_MAX,
            "a block holds {SNAPSHOT_PAYLOAD_BYTES_MAX} bytes at most"
        );
        let index = u32::try_from(self.counts.blocks).expect("a snapshot has fewer than 2^32 blocks");
        let length = SNAPSHOT_BLOCK_HEADER_BYTES + payload.len();
        let mut fixed = [0; SNAPSHOT_BLOCK_HEADER_BYTES];
        put(&mut fixed, LENGTH, &(length as u32).to_le_bytes());
        put(&mut fixed, SALT, &self.salt.to_le_bytes());
        put(&mut fixed, INDEX, &index.to_le_bytes());
        put(&mut fixed, ENTRIES, &entries.to_le_bytes());
        put(&mut fixed, KIND, &[kind]);
        let crc = checksum(&fixed, payload);
        put(&mut fixed, CRC, &crc.to_le_bytes());
        let end = out.len() + length.next_multiple_of(SNAPSHOT_BLOCK_BYTES);
        out.reserve(end - out.len());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(payload);
        out.resize(end, 0);
    }
}

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block<'b> {
    /// `edits` are whole and Puts of the header's databases, as many as `entries` says.
    Data { edits: &'b [u8], entries: u32 },
    /// The file ends with it.
    Footer(SnapshotFooter),
}

/// Reads a file block by block: the caller reads the first `SNAPSHOT_BLOCK_HEADER_BYTES` at `position` (or as many as
/// the file has), asks for the block's size and hands in the whole of it. After an error the file is of no use.
#[derive(Clone, Debug)]
pub struct BlockReader {
    salt: u32,
    databases: u16,
    file_bytes: u64,
    position: u64,
    counts: Counts,
    is_finished: bool,
}

impl BlockReader {
    /// Begins behind the header. `file_bytes` is the size of the whole file.
    pub fn new(header: &SnapshotHeader, file_bytes: u64) -> Self {
        BlockReader {
            salt: header.salt,
            databases: header.databases,
            file_bytes,
            position: SNAPSHOT_BLOCK_BYTES as u64,
            counts: Counts::default(),
            is_finished: false,
        }
    }

    /// Where the next block starts, in bytes from the start of the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes the next block takes, padding included: a multiple of `SNAPSHOT_BLOCK_BYTES`, and never more than
    /// the file has left. `first` are its first bytes. Nothing of it is verified yet but salt and turn.
    pub fn block_bytes(&self, first: &[u8]) -> Result<usize, SnapshotError> {
        if self.is_finished {
            return Err(SnapshotError::BehindFooter);
        }
        let left = self.file_bytes.saturating_sub(self.position);
        if left == 0 {
            return Err(SnapshotError::Incomplete);
        }
        let fixed = first.get(..SNAPSHOT_BLOCK_HEADER_BYTES).ok_or(SnapshotError::Truncated)?;
        if is_zero(fixed) {
            return Err(SnapshotError::Incomplete);
        }
        if u32_at(fixed, SALT) != self.salt {
            return Err(SnapshotError::OtherFile);
        }
        let (expected, found) = (self.counts.blocks, u32_at(fixed, INDEX) as u64);
        if found != expected {
            return Err(SnapshotError::OutOfTurn { expected, found });
        }
        let length = u32_at(fixed, LENGTH) as usize;
        if length < SNAPSHOT_BLOCK_HEADER_BYTES {
            return Err(SnapshotError::BadLength);
        }
        let padded = length.next_multiple_of(SNAPSHOT_BLOCK_BYTES);
        if padded as u64 > left { Err(SnapshotError::Truncated) } else { Ok(padded) }
    }

    /// Verifies the next block, which is `block`, and goes on behind it.
    pub fn take<'b>(&mut self, block: &'b [u8]) -> Result<Block<'b>, SnapshotError> {
        let expected = self.block_bytes(block)?;
        if block.len() != expected {
            return Err(SnapshotError::WrongSize { expected, found: block.len() });
        }
        let (whole, padding) = block.split_at(u32_at(block, LENGTH) as usize);
        let (fixed, payload) = whole.split_at(SNAPSHOT_BLOCK_HEADER_BYTES);
        if checksum(fixed, payload) != u32_at(fixed, CRC) {
            return Err(SnapshotError::BadChecksum);
        }
        if !is_zero(padding) {
            return Err(SnapshotError::NotZero);
        }
        // From here on these bytes are what was written; what follows can only be another version or a bug.
        let entries = u32_at(fixed, ENTRIES);
        let behind = self.position + block.len() as u64;
        let block = match fixed[KIND] {
            kind if !is_zero(&fixed[RESERVED..]) => return Err(SnapshotError::UnknownKind(kind)),
            KIND_DATA => self.data(payload, entries)?,
            KIND_FOOTER => self.footer(payload, entries, behind)?,
            kind => return Err(SnapshotError::UnknownKind(kind)),
        };
        self.position = behind;
        Ok(block)
    }

    fn data<'b>(&mut self, edits: &'b [u8], entries: u32) -> Result<Block<'b>, SnapshotError> {
        check_entries(edits, entries, self.databases)?;
        self.counts.entries += entries as u64;
        self.counts.bytes += edits.len() as u64;
        self.counts.blocks += 1;
        Ok(Block::Data { edits, entries })
    }

    fn footer(&mut self, payload: &[u8], entries: u32, behind: u64) -> Result<Block<'static>, SnapshotError> {
        if payload.len() != FOOTER_BYTES || entries != 0 {
            return Err(SnapshotError::BadFooter);
        }
        let (entries, bytes) = (u64_at(payload, TOTAL_ENTRIES), u64_at(payload, TOTAL_BYTES));
        let blocks = u64_at(payload, TOTAL_BLOCKS);
        let footer = Counts { entries, bytes, blocks };
        if footer != self.counts {
            return Err(SnapshotError::Miscounted { footer, read: self.counts });
        }
        if behind != self.file_bytes {
            return Err(SnapshotError::BehindFooter);
        }
        self.is_finished = true;
        let last_sequence = Sequence(u64_at(payload, LAST_SEQUENCE));
        Ok(Block::Footer(SnapshotFooter { last_sequence, entries, bytes, blocks }))
    }
}

/// All edits can be read, put entries (a large collection in several edits) into databases that exist, and are as many as the
/// block says. Other kinds of edits have no place in a keyspace at rest, and some of them cost memory that the file does not have the bytes for.
fn check_entries(mut edits: &[u8], expected: u32, databases: u16) -> Result<(), SnapshotError> {
    let mut found = 0u32;
    while !edits.is_empty() {
        let (edit, used) = Edit::decode(edits).map_err(SnapshotError::BadEdits)?;
        let puts = matches!(edit, Edit::Put { db, .. } | Edit::PutCollection { db, .. } | Edit::Change { db, .. } if db.0 < databases);
        if !puts {
            return Err(SnapshotError::NoEntry { databases });
        }
        edits = &edits[used..];
        found = found.saturating_add(1);
    }
    if found == expected { Ok(()) } else { Err(SnapshotError::EntryCount { expected, found }) }
}

/// Over everything but the checksum itself and the padding.
fn checksum(fixed: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&fixed[..CRC]);
    crc.update(&fixed[CRC + 4..]);
    crc.update(payload);
    crc.finalize()
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}
