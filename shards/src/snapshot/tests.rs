//! The bytes of version 1, which never change again, and each of the reasons to refuse a file. What damage of any kind
//! does to a whole file is the subject of tests/corruption.rs.

use super::*;
use crate::keyspace::{Edit, StringRef};
use crate::units::{Db, Offset, ShardId};
use crate::wal::Sequence;

/// The bytes as lines of `offset: sixteen hex bytes`, lines of zeros left out.
fn dump(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0));
    let hex = |line: &[u8]| line.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
    lines.map(|(at, line)| format!("{:04}:{}", at * 16, hex(line))).collect()
}

fn header() -> SnapshotHeader {
    SnapshotHeader {
        number: 0x0102,
        epoch: 0x0304,
        shard: ShardId(0x0506),
        shards: 0x0507,
        databases: 0x10,
        seed: 0x1112_1314_1516_1718,
        salt: 0x0708_090a,
        wall_ms: 0x0b0c,
        steady_ms: 0x0d0e,
        offset: Offset(0x1314),
    }
}

fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    Edit::Put { db: Db(2), key, value: StringRef::Bytes(value), deadline: None }.encode_to_vec()
}

/// Header, a block with one entry, a block of three times 4096 bytes with two entries, footer.
fn small_file() -> Vec<u8> {
    let mut file = header().encode().to_vec();
    let mut writer = BlockWriter::new(&header());
    writer.data(&put(b"key", b"value"), 1, &mut file);
    writer.data(&[put(b"a", &[1; 5000]), put(b"b", &[2; 5000])].concat(), 2, &mut file);
    writer.footer(Sequence(0x1112), &mut file);
    file
}

/// Payloads and footer, or what is wrong and where.
type Outcome = Result<(Vec<Vec<u8>>, SnapshotFooter), (u64, SnapshotError)>;

/// Reads a file to its end, as a caller would.
fn read(file: &[u8]) -> Outcome {
    let header = SnapshotHeader::decode(file).map_err(|error| (0, error))?;
    let mut reader = BlockReader::new(&header, file.len() as u64);
    let mut edits = Vec::new();
    loop {
        let position = reader.position();
        let at = |error| (position, error);
        let rest = &file[position as usize..];
        let first = &rest[..rest.len().min(SNAPSHOT_BLOCK_HEADER_BYTES)];
        let bytes = reader.block_bytes(first).map_err(at)?;
        match reader.take(&rest[..bytes]).map_err(at)? {
            Block::Data { edits: some, .. } => edits.push(some.to_vec()),
            Block::Footer(footer) => {
                assert_eq!(reader.position(), file.len() as u64);
                assert_eq!(reader.block_bytes(&[]), Err(SnapshotError::BehindFooter));
                return Ok((edits, footer));
            }
        }
    }
}

/// Makes the checksum of the block at `at` right again.
fn seal(file: &mut [u8], at: usize) {
    let length = u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&file[at..at + 4]);
    crc.update(&file[at + 8..at + length]);
    file[at + 4..at + 8].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// `small_file` with `bytes` written over its part at `at`, which then gets the right checksum.
fn crafted(at: usize, bytes: &[u8]) -> Result<(), (u64, SnapshotError)> {
    let mut file = small_file();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut file, at / SNAPSHOT_BLOCK_BYTES * SNAPSHOT_BLOCK_BYTES);
    read(&file).map(|_| ())
}

const FIRST: usize = 4096;
const SECOND: usize = 8192;
const FOOTER: usize = 5 * 4096;

#[test]
fn a_header_of_version_1_keeps_its_bytes() {
    let block = header().encode();
    assert_eq!(
        dump(&block),
        [
            "0000: 53 48 41 52 44 53 4e 50 01 00 00 00 df c3 4b 0c",
            "0016: 02 01 00 00 00 00 00 00 04 03 00 00 00 00 00 00",
            "0032: 06 05 07 05 0a 09 08 07 0c 0b 00 00 00 00 00 00",
            "0048: 0e 0d 00 00 00 00 00 00 18 17 16 15 14 13 12 11",
            "0064: 14 13 00 00 00 00 00 00 10 00 00 00 00 00 00 00",
        ]
    );
    assert_eq!(SnapshotHeader::decode(&block), Ok(header()));
}

#[test]
fn blocks_of_version_1_keep_their_bytes() {
    let mut bytes = Vec::new();
    let mut writer = BlockWriter::new(&header());
    writer.data(&put(b"key", b"value"), 1, &mut bytes);
    writer.footer(Sequence(0x1112), &mut bytes);
    assert_eq!(bytes.len(), 8192);
    assert_eq!(
        dump(&bytes),
        [
            "0000: 2d 00 00 00 70 a3 26 b7 0a 09 08 07 00 00 00 00",
            "0016: 01 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00",
            "0032: 01 02 03 6b 65 79 00 05 76 61 6c 75 65 00 00 00",
            "4096: 40 00 00 00 01 aa 7b 44 0a 09 08 07 01 00 00 00",
            "4112: 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00",
            "4128: 12 11 00 00 00 00 00 00 01 00 00 00 00 00 00 00",
            "4144: 0d 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00",
        ]
    );
}

#[test]
fn a_file_reads_back_as_written() {
    let file = small_file();
    assert_eq!(file.len(), FOOTER + 4096);
    let (edits, footer) = read(&file).expect("it is whole");
    let expected = [put(b"key", b"value"), [put(b"a", &[1; 5000]), put(b"b", &[2; 5000])].concat()];
    assert_eq!(edits, expected);
    let bytes = expected.iter().map(|edits| edits.len() as u64).sum();
    assert_eq!(footer, SnapshotFooter { last_sequence: Sequence(0x1112), entries: 3, bytes, blocks: 2 });
}

#[test]
fn a_file_without_entries_is_header_and_footer() {
    let mut file = header().encode().to_vec();
    BlockWriter::new(&header()).footer(Sequence::NONE, &mut file);
    let footer = SnapshotFooter { last_sequence: Sequence::NONE, entries: 0, bytes: 0, blocks: 0 };
    assert_eq!((file.len(), read(&file)), (8192, Ok((Vec::new(), footer))));
}

#[test]
fn a_block_that_its_header_fills_to_the_last_byte_has_no_padding() {
    for over in [0, 1] {
        let overhead = SNAPSHOT_BLOCK_HEADER_BYTES + put(b"k", &[7; 4000]).len() - 4000;
        let edits = put(b"k", &vec![7; 4096 - overhead + over]);
        let mut file = header().encode().to_vec();
        let mut writer = BlockWriter::new(&header());
        writer.data(&edits, 1, &mut file);
        assert_eq!(file.len(), 8192 + over * 4096);
        writer.footer(Sequence(1), &mut file);
        assert_eq!(read(&file).expect("it is whole").0, [edits]);
    }
}

#[test]
fn a_file_that_ends_early_is_not_taken_for_a_smaller_one() {
    let file = small_file();
    let error = |length: usize| read(&file[..length]).expect_err("it is not whole");
    assert_eq!(error(4095), (0, SnapshotError::HeaderTruncated));
    assert_eq!(error(FIRST), (4096, SnapshotError::Incomplete));
    assert_eq!(error(FIRST + 31), (4096, SnapshotError::Truncated));
    assert_eq!(error(SECOND), (8192, SnapshotError::Incomplete));
    assert_eq!(error(SECOND + 4096), (8192, SnapshotError::Truncated));
    assert_eq!(error(FOOTER), (FOOTER as u64, SnapshotError::Incomplete));
    assert_eq!(error(FOOTER + 64), (FOOTER as u64, SnapshotError::Truncated));
    let zeros = [&file[..FOOTER], &[0; 4096]].concat();
    assert_eq!(read(&zeros), Err((FOOTER as u64, SnapshotError::Incomplete)), "allocated, but never written");
}

#[test]
fn nothing_follows_a_footer() {
    let file = small_file();
    for more in [&[0u8; 1][..], &[0; 4096], &file[FOOTER..]] {
        let longer = [&file[..], more].concat();
        assert_eq!(read(&longer), Err((FOOTER as u64, SnapshotError::BehindFooter)));
    }
}

#[test]
fn blocks_of_another_file_or_out_of_turn_are_refused() {
    let file = small_file();
    let older = SnapshotHeader { salt: 1, ..header() };
    let renamed = [&older.encode()[..], &file[FIRST..]].concat();
    assert_eq!(read(&renamed), Err((4096, SnapshotError::OtherFile)));
    let without_first = [&file[..FIRST], &file[SECOND..]].concat();
    assert_eq!(read(&without_first), Err((4096, SnapshotError::OutOfTurn { expected: 0, found: 1 })));
    let first_twice = [&file[..SECOND], &file[FIRST..]].concat();
    assert_eq!(read(&first_twice), Err((8192, SnapshotError::OutOfTurn { expected: 1, found: 0 })));
}

#[test]
fn a_changed_bit_is_an_error_wherever_it_is() {
    let file = small_file();
    let error = |byte: usize| {
        let mut flipped = file.clone();
        flipped[byte] ^= 1;
        read(&flipped).expect_err("a bit is wrong")
    };
    assert_eq!(error(0), (0, SnapshotError::BadMagic));
    assert_eq!(error(56), (0, SnapshotError::HeaderChecksum));
    assert_eq!(error(80), (0, SnapshotError::NotZero));
    assert_eq!(error(FIRST + 40), (4096, SnapshotError::BadChecksum));
    assert_eq!(error(SECOND - 1), (4096, SnapshotError::NotZero));
    assert_eq!(error(FOOTER + 31), (FOOTER as u64, SnapshotError::BadChecksum));
}

#[test]
fn what_another_version_wrote_is_told_from_damage() {
    let mut block = header().encode();
    block[8] = 2;
    // What a later version has behind today's fields makes no difference.
    block[100] = 1;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..12]);
    crc.update(&block[16..80]);
    block[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    assert_eq!(SnapshotHeader::decode(&block), Err(SnapshotError::UnsupportedVersion(2)));
    assert_eq!(crafted(FIRST + 20, &[3]), Err((4096, SnapshotError::UnknownKind(3))));
    assert_eq!(crafted(FIRST + 31, &[1]), Err((4096, SnapshotError::UnknownKind(1))));
}

#[test]
fn what_passes_its_checksum_and_makes_no_sense_is_refused() {
    let first = |error| Err((4096, error));
    assert_eq!(crafted(FIRST + 16, &[2]), first(SnapshotError::EntryCount { expected: 2, found: 1 }));
    assert_eq!(crafted(FIRST + 33, &[16]), first(SnapshotError::NoEntry { databases: 16 }));
    assert_eq!(crafted(FIRST + 32, &[99]), first(SnapshotError::BadEdits(EditError::UnknownKind(99))));
    assert_eq!(crafted(FIRST + 20, &[2]), first(SnapshotError::BadFooter));
    let mut splice = Edit::Splice { db: Db(2), key: b"k", offset: 1 << 40, bytes: b"v" }.encode_to_vec();
    splice.resize(put(b"key", b"value").len(), 0);
    assert_eq!(crafted(FIRST + 32, &splice), first(SnapshotError::NoEntry { databases: 16 }));
    let footer = |error| Err((FOOTER as u64, error));
    assert_eq!(crafted(FOOTER + 16, &[1]), footer(SnapshotError::BadFooter));
    let bytes = small_file()[FOOTER + 48];
    for (at, value) in [(40, 2), (48, bytes + 1), (56, 3)] {
        let error = crafted(FOOTER + at, &[value]).expect_err("it counts something else");
        assert!(matches!(error, (_, SnapshotError::Miscounted { .. })), "{error:?}");
    }
}

#[test]
fn no_length_makes_a_caller_read_more_than_there_is() {
    let file = small_file();
    let reader = BlockReader::new(&header(), file.len() as u64);
    let mut first = file[FIRST..FIRST + 32].to_vec();
    let left = file.len() - FIRST;
    for length in (0..100_000u32).chain((0..32).map(|bit| u32::MAX >> bit)) {
        first[..4].copy_from_slice(&length.to_le_bytes());
        match reader.block_bytes(&first) {
            Ok(bytes) => assert!(bytes <= left && bytes >= length as usize && bytes.is_multiple_of(4096)),
            Err(SnapshotError::BadLength) => assert!(length < 32),
            Err(error) => assert!(error == SnapshotError::Truncated && length as usize > left),
        }
    }
}

#[test]
fn a_block_of_another_size_than_asked_for_is_refused() {
    let file = small_file();
    let mut reader = BlockReader::new(&header(), file.len() as u64);
    let short = SnapshotError::WrongSize { expected: 4096, found: 32 };
    assert_eq!(reader.take(&file[FIRST..FIRST + 32]), Err(short));
    assert_eq!(reader.take(&[]), Err(SnapshotError::Truncated));
    assert!(reader.take(&file[FIRST..SECOND]).is_ok());
}
