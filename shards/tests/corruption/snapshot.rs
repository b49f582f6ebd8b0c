//! A snapshot of 64 KiB, and the judge of what is read from it once it was damaged.

use crate::damage::{BLOCK_BYTES, Verdict};
use shards::keyspace::{Edit, StringRef};
use shards::snapshot::{
    Block, BlockReader, BlockWriter, SNAPSHOT_BLOCK_HEADER_BYTES, SnapshotError, SnapshotFooter, SnapshotHeader,
};
use shards::units::{Db, Deadline, Offset, ShardId};
use shards::wal::Sequence;
use std::ops::Range;

/// Of the data blocks, in units of `BLOCK_BYTES`; with header and footer they make 64 KiB.
const SIZES: [usize; 9] = [1, 2, 1, 3, 1, 1, 2, 1, 2];

/// The end of a file as a reader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    FooterDemanded,
    /// What a careless reader would do: the file's end is an end.
    FooterIgnored,
}

pub struct Snapshot {
    pub bytes: Vec<u8>,
    header: SnapshotHeader,
    blocks: Vec<(Vec<u8>, u32)>,
    footer: SnapshotFooter,
    /// Where each block lies, without padding; the footer is the last.
    places: Vec<Range<usize>>,
}

impl Snapshot {
    pub fn new(number: u64, salt: u32, seed: u64) -> Snapshot {
        let header = SnapshotHeader {
            number,
            epoch: 9,
            shard: ShardId(1),
            shards: 4,
            databases: 16,
            seed: 0x1234_5678_9abc_def0,
            salt,
            wall_ms: 1_000,
            steady_ms: 2_000,
            offset: Offset(3_000),
        };
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = header.encode().to_vec();
        let mut writer = BlockWriter::new(&header);
        let (mut blocks, mut places) = (Vec::new(), Vec::new());
        for (index, size) in SIZES.into_iter().enumerate() {
            let (edits, entries) = entries_of(index, size, &mut random);
            let start = bytes.len();
            writer.data(&edits, entries, &mut bytes);
            assert_eq!(bytes.len() - start, size * BLOCK_BYTES);
            places.push(start..start + SNAPSHOT_BLOCK_HEADER_BYTES + edits.len());
            blocks.push((edits, entries));
        }
        places.push(bytes.len()..bytes.len() + 2 * SNAPSHOT_BLOCK_HEADER_BYTES);
        writer.footer(Sequence(77), &mut bytes);
        let footer = SnapshotFooter {
            last_sequence: Sequence(77),
            entries: blocks.iter().map(|(_, entries)| *entries as u64).sum(),
            bytes: blocks.iter().map(|(edits, _)| edits.len() as u64).sum(),
            blocks: blocks.len() as u64,
        };
        Snapshot { bytes, header, blocks, footer, places }
    }

    pub fn judge(&self, damaged: &[u8]) -> Verdict {
        self.judge_with(damaged, End::FooterDemanded)
    }

    /// Reads `damaged` as a start does, and compares all of it.
    pub fn judge_with(&self, damaged: &[u8], end: End) -> Verdict {
        let mut right = 0;
        let mut is_wrong = false;
        let outcome = read(damaged, self.header.number, end, &mut |block| {
            let expected = self.blocks.get(right).map(|(edits, entries)| Block::Data { edits, entries: *entries });
            is_wrong |= expected != Some(block);
            right += 1;
        });
        match outcome {
            // What was loaded before a refusal counts for nothing.
            Err(_) | Ok(None) => Verdict::Refused,
            Ok(_) if is_wrong => Verdict::Wrong("entries that were not written there"),
            Ok(Some((header, footer)))
                if header != self.header || footer.is_some_and(|footer| footer != self.footer) =>
            {
                Verdict::Wrong("a header or a footer that was not written")
            }
            Ok(_) if right < self.blocks.len() => Verdict::Wrong("a snapshot without all its entries"),
            Ok(_) => Verdict::Same,
        }
    }

    /// Gives header and blocks the checksums of what is in their places now.
    pub fn seal(&self, damaged: &mut [u8]) {
        let crc = checksum(&damaged[..12], &damaged[16..80]);
        damaged[12..16].copy_from_slice(&crc.to_le_bytes());
        for place in &self.places {
            let block = &mut damaged[place.clone()];
            let crc = checksum(&block[..4], &block[8..]);
            block[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// The footer is `None` where a file was allowed to end without.
type Ends = (SnapshotHeader, Option<SnapshotFooter>);

/// Hands over all data blocks; header and footer are the outcome, `None` if the file is another snapshot than `number`.
fn read(file: &[u8], number: u64, end: End, loaded: &mut dyn FnMut(Block<'_>)) -> Result<Option<Ends>, SnapshotError> {
    let header = SnapshotHeader::decode(file)?;
    if header.number != number {
        return Ok(None);
    }
    let mut reader = BlockReader::new(&header, file.len() as u64);
    loop {
        let rest = &file[reader.position() as usize..];
        let first = &rest[..rest.len().min(SNAPSHOT_BLOCK_HEADER_BYTES)];
        let bytes = match reader.block_bytes(first) {
            Ok(bytes) => bytes,
            Err(SnapshotError::Incomplete) if end == End::FooterIgnored => return Ok(Some((header, None))),
            Err(error) => return Err(error),
        };
        assert!(bytes <= rest.len(), "no more is asked for than the file has");
        match reader.take(&rest[..bytes])? {
            block @ Block::Data { .. } => loaded(block),
            Block::Footer(footer) => return Ok(Some((header, Some(footer)))),
        }
    }
}

/// Entries that fill so many times 4096 bytes, but for some padding. Lengths depend on the index only.
fn entries_of(index: usize, size: usize, random: &mut fastrand::Rng) -> (Vec<u8>, u32) {
    let payload_bytes = size * BLOCK_BYTES - SNAPSHOT_BLOCK_HEADER_BYTES - 60 * (index % 3);
    let mut edits = Vec::new();
    let mut entries = 0;
    let mut value = [0; 2 * BLOCK_BYTES];
    while edits.len() + 90 < payload_bytes {
        random.fill(&mut value);
        let key = [b"key:".as_slice(), &[index as u8], &(entries as u16).to_be_bytes()].concat();
        // The first entry of a large block begins in its first 4096 bytes and ends in its last.
        let value_bytes = if entries == 0 { (size - 1) * BLOCK_BYTES } else { 20 + entries as usize % 40 };
        let value = match entries % 4 {
            1 => StringRef::Integer(random.i64(1 << 40..1 << 41)),
            2 => StringRef::Raw(&value[..value_bytes]),
            _ => StringRef::Bytes(&value[..value_bytes]),
        };
        let deadline = (entries % 5 == 3).then(|| Deadline::at(1_700_000_000_000));
        Edit::Put { db: Db(entries as u16 % 16), key: &key, value, deadline }.encode(&mut edits);
        entries += 1;
    }
    (edits, entries)
}

fn checksum(front: &[u8], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(front);
    crc.update(rest);
    crc.finalize()
}
