//! A snapshot's file, without the I/O: one shard's keyspace at an offset of its log, as blocks of bytes, and back.
//! Drawn in docs/formats/snapshot.md.
//!
//! Left to the runtime: files, names, writes and syncs, and which entries come when. The rule that must hold: nothing read
//! from a file is used before its checksum, its place and its turn were verified; no length found there makes anyone
//! allocate more than the file holds; and a file counts only with a footer that agrees with all that came before it.
//!
//! - `header`: the block at the start, which says whose keyspace it is and of when;
//! - `block`: the entries behind it, and the footer.

mod block;
mod header;
#[cfg(test)]
mod tests;

pub use block::{
    Block, BlockReader, BlockWriter, SNAPSHOT_BLOCK_HEADER_BYTES, SNAPSHOT_PAYLOAD_BYTES_MAX, SnapshotFooter,
};
pub use header::SnapshotHeader;

use crate::keyspace::EditError;

/// All parts of the file start at multiples of this and are padded to it: the unit of direct writes. Also the size of
/// the header.
pub const SNAPSHOT_BLOCK_BYTES: usize = crate::wal::BLOCK_BYTES;

/// Why bytes are no snapshot, or not the next part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot's header is cut short")]
    HeaderTruncated,
    #[error("this is no snapshot")]
    BadMagic,
    #[error("the snapshot's header fails its checksum")]
    HeaderChecksum,
    #[error("the snapshot has version {0}, or fields with it, that this program does not know")]
    UnsupportedVersion(u16),
    #[error("the snapshot's header passes its checksum but contradicts itself")]
    Impossible,
    #[error("the snapshot ends without a footer: it was not written to its end")]
    Incomplete,
    #[error("the snapshot's file ends inside a block")]
    Truncated,
    #[error("the block is {found} bytes long where its header says {expected}")]
    WrongSize { expected: usize, found: usize },
    #[error("the block does not belong to this snapshot")]
    OtherFile,
    #[error("the block is number {found} where {expected} was to come")]
    OutOfTurn { expected: u64, found: u64 },
    #[error("the block's length is impossible")]
    BadLength,
    #[error("the block fails its checksum")]
    BadChecksum,
    #[error("the block is of kind {0}, or has fields with it, that this program does not know")]
    UnknownKind(u8),
    #[error("bytes that must be zero are not")]
    NotZero,
    #[error("the block's entries cannot be read: {0}")]
    BadEdits(EditError),
    #[error("the block holds something else than entries of {databases} databases")]
    NoEntry { databases: u16 },
    #[error("the block holds {found} entries where its header says {expected}")]
    EntryCount { expected: u32, found: u32 },
    #[error("the snapshot's footer passes its checksum but is none")]
    BadFooter,
    #[error(
        "the footer counts {} entries, {} bytes and {} blocks where {} entries, {} bytes and {} blocks were read",
        .footer.entries, .footer.bytes, .footer.blocks, .read.entries, .read.bytes, .read.blocks
    )]
    Miscounted { footer: Counts, read: Counts },
    #[error("the snapshot's file goes on behind its footer")]
    BehindFooter,
}

/// What a footer says of the blocks before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub entries: u64,
    /// Of all payloads, without headers and padding.
    pub bytes: u64,
    /// Of data.
    pub blocks: u64,
}
