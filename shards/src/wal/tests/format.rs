//! The bytes themselves: version 1 never changes again.

use super::*;

/// The bytes as lines of `offset: sixteen hex bytes`, lines of zeros left out.
fn dump(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0));
    let hex = |line: &[u8]| line.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
    lines.map(|(at, line)| format!("{:04}:{}", at * 16, hex(line))).collect()
}

fn golden_header() -> SegmentHeader {
    SegmentHeader {
        id: SegmentId(0x0102),
        epoch: 0x0304,
        shard: ShardId(0x0506),
        layout: Layout::Blocks,
        salt: 0x0708_090a,
        wall_ms: 0x0b0c,
        steady_ms: 0x0d0e,
        first_sequence: Sequence(0x1112),
        first_offset: Offset(0x1314),
        durable_mark: Sequence(0x1110),
        predecessor: Some(Predecessor { segment: SegmentId(0x0101), last_sequence: Sequence(0x1111), end: 0x3000 }),
        after_recovery: true,
    }
}

fn golden_record() -> RecordHeader {
    RecordHeader {
        segment: SegmentId(0x0102),
        salt: 0x0708_090a,
        sequence: Sequence(0x1112),
        durable_mark: Sequence(0x1111),
        offset: Offset(0x1314),
        edit_count: 1,
        wall_ms: 0x2122,
        steady_ms: 0x2324,
        term: 0x2526,
    }
}

#[test]
fn a_segment_header_of_version_1_keeps_its_bytes() {
    let block = golden_header().encode();
    assert_eq!(
        dump(&block),
        [
            "0000: 53 48 41 52 44 57 41 4c 01 00 01 03 32 9e 28 24",
            "0016: 02 01 00 00 00 00 00 00 04 03 00 00 00 00 00 00",
            "0032: 06 05 00 00 0a 09 08 07 0c 0b 00 00 00 00 00 00",
            "0048: 0e 0d 00 00 00 00 00 00 12 11 00 00 00 00 00 00",
            "0064: 14 13 00 00 00 00 00 00 10 11 00 00 00 00 00 00",
            "0080: 01 01 00 00 00 00 00 00 11 11 00 00 00 00 00 00",
            "0096: 00 30 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
        ]
    );
    assert_eq!(SegmentHeader::decode(&block), Ok(golden_header()));
}

#[test]
fn a_record_of_version_1_keeps_its_bytes() {
    let edits = Edit::Remove { db: Db(2), key: b"key" }.encode_to_vec();
    let mut bytes = vec![0xff; record_bytes(edits.len(), Layout::Bytes)];
    encode_into(&mut bytes, &golden_record(), &edits, Layout::Bytes);
    assert_eq!(
        dump(&bytes),
        [
            "0000: 56 00 00 00 ae 30 d4 4b 01 00 00 00 01 00 00 00",
            "0016: 02 01 00 00 00 00 00 00 12 11 00 00 00 00 00 00",
            "0032: 11 11 00 00 00 00 00 00 14 13 00 00 00 00 00 00",
            "0048: 22 21 00 00 00 00 00 00 24 23 00 00 00 00 00 00",
            "0064: 26 25 00 00 00 00 00 00 00 00 00 00 0a 09 08 07",
            "0080: 03 02 03 6b 65 79 00 00",
        ]
    );
    let record = record::Record::verify(&bytes, SegmentId(0x0102), Some(0x0708_090a)).expect("it verifies");
    assert_eq!((record.header(), record.edits()), (&golden_record(), &edits[..]));
}

#[test]
fn a_record_is_padded_with_zeros_to_its_layouts_alignment() {
    for (layout, bytes_of_empty, bytes_of_one) in [(Layout::Bytes, 80, 88), (Layout::Blocks, 4096, 4096)] {
        assert_eq!(record_bytes(0, layout), bytes_of_empty);
        assert_eq!(record_bytes(1, layout), bytes_of_one);
        let mut out = vec![0xff; bytes_of_one];
        encode_into(&mut out, &golden_record(), &[9], layout);
        assert!(is_zero(&out[RECORD_HEADER_BYTES + 1..]));
    }
    assert_eq!(record_bytes(4096 - 80, Layout::Blocks), 4096);
    assert_eq!(record_bytes(4096 - 79, Layout::Blocks), 8192);
}

#[test]
fn what_was_written_is_read_back_with_the_end_of_the_log() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        let log = small_log(layout);
        let outcome = log.recover();
        assert_eq!(log.kept(&outcome), Some(log.len()));
        let (recovered, _) = outcome.expect("it is whole");
        assert_eq!(recovered.cut, None);
        assert_eq!(recovered.next_sequence, log.next_sequence);
        assert_eq!(recovered.next_offset, log.next_offset);
        assert_eq!(recovered.next_segment_id, SegmentId(4));
        assert_eq!((recovered.last_wall_ms, recovered.last_steady_ms), (10_008, 20_008));
        assert_eq!(recovered.edits, 16);
        let end = Predecessor { segment: SegmentId(3), last_sequence: Sequence(8), end: log.end() as u64 };
        assert_eq!(recovered.predecessor, Some(end));
    }
}

#[test]
fn a_shard_without_segments_starts_at_the_beginning() {
    let (recovered, _) = recover(&[], OnDamage::Refuse).expect("nothing is wrong with nothing");
    assert_eq!((recovered.next_sequence, recovered.next_segment_id), (Sequence::FIRST, SegmentId::FIRST));
    assert_eq!((recovered.predecessor, recovered.cut), (None, None));
}

#[test]
fn a_segment_that_was_preallocated_but_never_begun_is_passed_over() {
    let mut log = small_log(Layout::Blocks);
    log.files.push((SegmentId(4), vec![0; 3 * BLOCK_BYTES]));
    let (recovered, _) = log.recover().expect("it is whole");
    assert_eq!((recovered.cut, recovered.next_segment_id), (None, SegmentId(5)));
}

#[test]
fn zeros_behind_the_last_record_are_a_clean_end() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        let mut log = small_log(layout);
        let file = &mut log.files[2].1;
        file.resize(file.len() + 3 * BLOCK_BYTES, 0);
        let outcome = log.recover();
        assert_eq!(log.kept(&outcome), Some(8));
        assert_eq!(outcome.expect("it is whole").0.cut, None);
    }
}

#[test]
fn what_a_newer_version_wrote_is_refused_even_by_a_repair() {
    let mut log = small_log(Layout::Bytes);
    let Written { start, end, .. } = log.records[7];
    let record = &mut log.files[2].1[start..end];
    record[8] = 2;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    record[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    for on_damage in [OnDamage::Refuse, OnDamage::Repair] {
        let refused = RecoveryError::Unsupported { segment: SegmentId(3), position: start as u64, version: 2 };
        assert_eq!(log.recover_with(on_damage).expect_err("it is refused"), refused);
    }
}

#[test]
fn no_edit_of_a_record_is_applied_unless_all_can_be_read() {
    let mut log = Log::new(Layout::Bytes);
    log.append(0, 3);
    let (mut edits, _) = some_edits(Sequence(2), 3);
    edits.push(250);
    log.append_as(log.record_header(0, 3), edits);
    assert!(is_damage(&log.recover()));
    let repaired = log.recover_with(OnDamage::Repair);
    assert_eq!(log.kept(&repaired), Some(1));
    assert!(repaired.expect("repaired").0.cut.is_some_and(|cut| cut.damage.is_some()));
}
