//! The write-ahead log of one shard, without the I/O: how edits become bytes in segment files, when those bytes
//! count as committed, and how a start reads them back. Drawn in docs/formats/wal.md.
//!
//! Left to the runtime: files, names, writes and syncs. The rule that must hold: nothing read from a disk is used
//! before its checksum, its place and its turn were verified, and no length found there is trusted before that.
//!
//! - `record`: one group commit as bytes, and back;
//! - `group`: the transactions over several shards that have edits in a record;
//! - `segment`: the block at the start of a file, and reading the records behind it;
//! - `commit`: what is held by the kernel, what is on disk, and which replies may go;
//! - `recovery`: what a start makes of the segments it finds;
//! - `cut`: what the logs of all shards give up so that no transaction counts on some of them only.

mod commit;
mod cut;
mod group;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;

pub use commit::{Commit, FsyncPolicy, SYNC_AFTER_MS, SyncTicket, UNSYNCED_AGE_MS_MAX};
pub use cut::{ConsistentCut, GroupCut, HeldGroups, Question, Step, Verdict};
pub use group::{Group, GroupId, GroupTable, Groups};
pub use record::{BODY_BYTES_MAX, RECORD_HEADER_BYTES, Record, RecordHeader, encode_into, record_bytes};
pub use recovery::{Apply, Base, Cut, Damage, Evidence, OnDamage, Recovered, Recovery, RecoveryError};
pub use segment::{Predecessor, RecordReader, SegmentError, SegmentHeader, Stop, StopReason};

/// Unit of direct writes; also the size of a segment's header.
pub const BLOCK_BYTES: usize = 4096;

/// Number of a segment file within its shard and epoch, from 1; in its name and in each of its records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SegmentId(pub u64);

impl SegmentId {
    pub const FIRST: SegmentId = SegmentId(1);

    pub fn next(self) -> Self {
        SegmentId(self.0.checked_add(1).expect("a shard makes fewer than 2^64 segments"))
    }
}

/// Number of a record within its shard and epoch, from 1, without gaps, continuing over segments. As a mark, 0 stands
/// for "none yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    pub const NONE: Sequence = Sequence(0);
    pub const FIRST: Sequence = Sequence(1);

    pub fn next(self) -> Self {
        Sequence(self.0.checked_add(1).expect("a shard writes fewer than 2^64 records"))
    }
    pub fn previous(self) -> Self {
        Sequence(self.0.checked_sub(1).expect("no record precedes the mark for none"))
    }
}

/// How a segment's records lie in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Whole blocks, each written once (policy `always`: O_DIRECT and O_DSYNC).
    Blocks,
    /// One behind the other (`everysec` and `no`: through the page cache).
    Bytes,
}

impl Layout {
    /// Records start at multiples of this, counted from the start of the file.
    pub const fn alignment(self) -> usize {
        match self {
            Layout::Blocks => BLOCK_BYTES,
            Layout::Bytes => 8,
        }
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Sixteen bytes at a time: a preallocated segment is mostly zeros.
    let words = bytes.chunks_exact(16);
    words.remainder().iter().all(|byte| *byte == 0)
        && words.map(|word| u128::from_ne_bytes(word.try_into().expect("sixteen bytes"))).all(|word| word == 0)
}
