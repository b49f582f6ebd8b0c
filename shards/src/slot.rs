//! Which slot a key belongs to, and which shard a slot: the hash of Redis Cluster, so that cluster clients and
//! hash tags work, and an even map of slots onto the shards of one server.
//!
//! The slot of a key never changes. The map depends on the number of shards alone: every core computes the same.
//! Hash: CRC-16/XMODEM (polynomial 0x1021, start 0) of the key or its tag, modulo 16384 (Redis Cluster specification).

use crate::units::ShardId;
use std::ops::Range;

/// Slots there are, as in Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// Shards that a server may have.
pub const SHARDS_MAX: u16 = 1_024;

/// The slot of `key`, below `SLOTS`.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// What of a key decides its slot: the part between the first `{` and the first `}` behind it unless that is empty,
/// otherwise all of it.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let behind = &key[open + 1..];
    match behind.iter().position(|&byte| byte == b'}') {
        Some(len) if len > 0 => &behind[..len],
        Some(_) | None => key,
    }
}

/// Contiguous ranges of slots, one per shard, as even as can be: the first shards have one more when division leaves
/// a remainder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotMap {
    shards: u16,
    /// Slots of every shard, without the extra one.
    share: u16,
    /// Shards that have an extra slot.
    longer: u16,
}

impl SlotMap {
    /// `shards` from 1 to `SHARDS_MAX`; panics otherwise.
    pub fn new(shards: u16) -> Self {
        assert!((1..=SHARDS_MAX).contains(&shards), "a server has 1 to {SHARDS_MAX} shards, not {shards}");
        SlotMap { shards, share: SLOTS / shards, longer: SLOTS % shards }
    }
    pub fn shards(&self) -> u16 {
        self.shards
    }
    /// The owner of `slot`, which must be below `SLOTS`.
    pub fn shard_of(&self, slot: u16) -> ShardId {
        debug_assert!(slot < SLOTS);
        let in_longer = self.longer * (self.share + 1);
        ShardId(if slot < in_longer { slot / (self.share + 1) } else { self.longer + (slot - in_longer) / self.share })
    }
    /// The slots of `shard`, which must be one of the map.
    pub fn slots_of(&self, shard: ShardId) -> Range<u16> {
        assert!(shard.0 < self.shards, "no shard {} among {}", shard.0, self.shards);
        let start = |shard: u16| shard * self.share + shard.min(self.longer);
        start(shard.0)..start(shard.0 + 1)
    }
}

/// Bytes taken per step. A byte at a time is a chain of dependent loads, seven cycles each; eight at a time is one such
/// link for eight bytes, and keys are long enough to notice.
const STRIDE: usize = 8;

/// `TABLES[n][byte]`: the checksum of `byte` followed by `n` zero bytes.
static TABLES: [[u16; 256]; STRIDE] = tables();

const fn tables() -> [[u16; 256]; STRIDE] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut tables = [[0u16; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

fn crc16(bytes: &[u8]) -> u16 {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    let mut crc = 0u16;
    for stride in strides {
        let [high, low] = crc.to_be_bytes();
        let mut next = TABLES[7][(stride[0] ^ high) as usize] ^ TABLES[6][(stride[1] ^ low) as usize];
        for (index, &byte) in stride.iter().enumerate().skip(2) {
            next ^= TABLES[STRIDE - 1 - index][byte as usize];
        }
        crc = next;
    }
    for &byte in rest {
        crc = (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ byte) as usize];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, from the definition.
    fn naive(bytes: &[u8]) -> u16 {
        let mut crc = 0u16;
        for &byte in bytes {
            crc ^= (byte as u16) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            }
        }
        crc
    }

    #[test]
    fn the_checksum_is_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"bar"), 5_061);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn the_checksum_agrees_with_its_naive_twin() {
        let seed = 0x5eed_0002;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let len = random.usize(..40);
            let bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            assert_eq!(crc16(&bytes), naive(&bytes), "seed {seed:#x}: {bytes:?}");
        }
    }

    #[test]
    fn a_hash_tag_decides_alone() {
        assert_eq!(hash_tag(b"{user1000}.following"), b"user1000");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
    }

    #[test]
    fn an_empty_or_open_tag_is_no_tag() {
        for key in [&b"foo{}{bar}"[..], b"{}", b"foo{bar", b"foo}bar{", b"{"] {
            assert_eq!(hash_tag(key), key);
        }
    }

    #[test]
    fn every_slot_has_the_shard_whose_range_it_is_in() {
        for shards in (1..=64).chain([100, 127, 333, 1000, 1023, 1024]) {
            let map = SlotMap::new(shards);
            let mut next = 0;
            for shard in (0..shards).map(ShardId) {
                let slots = map.slots_of(shard);
                assert_eq!(slots.start, next, "{shards} shards");
                assert_eq!(slots.len(), (SLOTS / shards + (shard.0 < SLOTS % shards) as u16) as usize);
                assert!(slots.clone().all(|slot| map.shard_of(slot) == shard), "{shards} shards, {shard:?}");
                next = slots.end;
            }
            assert_eq!(next, SLOTS);
        }
    }

    #[test]
    #[should_panic(expected = "1 to 1024 shards")]
    fn a_map_of_no_shards_is_refused() {
        SlotMap::new(0);
    }
}
