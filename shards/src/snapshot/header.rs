//! The block at the start of a snapshot's file: whose keyspace it holds, of which moment.
//!
//! Owns the header's bytes. The rule: `decode` gives a header only if every bit of its block is as `encode` made it.

use super::{SNAPSHOT_BLOCK_BYTES, SnapshotError};
use crate::units::{Offset, ShardId};
use crate::wal::{is_zero, u16_at, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"SHARDSNP";
const SNAPSHOT_VERSION: u16 = 1;

const VERSION: usize = 8;
const FLAGS: usize = 10;
const CRC: usize = 12;
const NUMBER: usize = 16;
const EPOCH: usize = 24;
const SHARD: usize = 32;
const SHARDS: usize = 34;
const SALT: usize = 36;
const WALL_MS: usize = 40;
const STEADY_MS: usize = 48;
const SEED: usize = 56;
const OFFSET: usize = 64;
const DATABASES: usize = 72;
const RESERVED: usize = 74;
/// The fields end here, and so does what the checksum covers.
const FIELDS_BYTES: usize = 80;

/// What a snapshot's file says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    /// Of the set of snapshots that it belongs to: one file for each shard, all of one moment.
    pub number: u64,
    pub epoch: u64,
    pub shard: ShardId,
    /// How many the epoch has.
    pub shards: u16,
    pub databases: u16,
    /// Of the keyspace's hash functions: with the same one, entries are loaded in the order in which the table has them.
    pub seed: u64,
    /// Chosen at random for each file and repeated in its blocks, so that what an older file left never verifies.
    pub salt: u32,
    pub wall_ms: u64,
    pub steady_ms: u64,
    /// In the shard's stream of edits: all those before it are in here, none behind it.
    pub offset: Offset,
}

impl SnapshotHeader {
    pub fn encode(&self) -> [u8; SNAPSHOT_BLOCK_BYTES] {
        assert!(self.is_possible(), "a snapshot's header agrees with itself: {self:?}");
        let mut block = [0; SNAPSHOT_BLOCK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(VERSION, &SNAPSHOT_VERSION.to_le_bytes());
        put(NUMBER, &self.number.to_le_bytes());
        put(EPOCH, &self.epoch.to_le_bytes());
        put(SHARD, &self.shard.0.to_le_bytes());
        put(SHARDS, &self.shards.to_le_bytes());
        put(SALT, &self.salt.to_le_bytes());
        put(WALL_MS, &self.wall_ms.to_le_bytes());
        put(STEADY_MS, &self.steady_ms.to_le_bytes());
        put(SEED, &self.seed.to_le_bytes());
        put(OFFSET, &self.offset.0.to_le_bytes());
        put(DATABASES, &self.databases.to_le_bytes());
        let crc = checksum(&block);
        block[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// The header at the start of a file's bytes; what is behind its block is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<SnapshotHeader, SnapshotError> {
        let block = bytes.get(..SNAPSHOT_BLOCK_BYTES).ok_or(SnapshotError::HeaderTruncated)?;
        if &block[..MAGIC.len()] != MAGIC {
            return Err(SnapshotError::BadMagic);
        }
        if checksum(block) != u32_at(block, CRC) {
            return Err(SnapshotError::HeaderChecksum);
        }
        let version = u16_at(block, VERSION);
        if version != SNAPSHOT_VERSION || u16_at(block, FLAGS) != 0 || !is_zero(&block[RESERVED..FIELDS_BYTES]) {
            return Err(SnapshotError::UnsupportedVersion(version));
        }
        if !is_zero(&block[FIELDS_BYTES..]) {
            return Err(SnapshotError::NotZero);
        }
        let header = SnapshotHeader {
            number: u64_at(block, NUMBER),
            epoch: u64_at(block, EPOCH),
            shard: ShardId(u16_at(block, SHARD)),
            shards: u16_at(block, SHARDS),
            databases: u16_at(block, DATABASES),
            seed: u64_at(block, SEED),
            salt: u32_at(block, SALT),
            wall_ms: u64_at(block, WALL_MS),
            steady_ms: u64_at(block, STEADY_MS),
            offset: Offset(u64_at(block, OFFSET)),
        };
        if header.is_possible() { Ok(header) } else { Err(SnapshotError::Impossible) }
    }

    fn is_possible(&self) -> bool {
        self.shard.0 < self.shards && self.databases > 0
    }
}

fn checksum(block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..CRC]);
    crc.update(&block[CRC + 4..FIELDS_BYTES]);
    crc.finalize()
}
