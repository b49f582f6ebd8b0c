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
    let mut bytes = vec![0xff; record_bytes(None, edits.len(), Layout::Bytes)];
    encode_into(&mut bytes, &golden_record(), None, &edits, Layout::Bytes);
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
    assert_eq!((record.header(), record.groups(), record.edits()), (&golden_record(), None, &edits[..]));
}

#[test]
fn a_record_with_groups_keeps_its_bytes() {
    let edits = Edit::Remove { db: Db(2), key: b"key" }.encode_to_vec();
    let mut table = GroupTable::default();
    table.push(GroupId { front: ShardId(0x2728), number: 0x292a_2b2c }, &[ShardId(0x2d2e), ShardId(0x3132)], 0..6);
    table.close(GroupId { front: ShardId(0x3334), number: 0x3536 });
    table.push(GroupId { front: ShardId(2), number: 3 }, &[ShardId(0), ShardId(1), ShardId(2)], 6..6);
    let groups = table.groups(Sequence(0x1110));
    let mut bytes = vec![0xff; record_bytes(Some(&groups), edits.len(), Layout::Bytes)];
    encode_into(&mut bytes, &golden_record(), Some(&groups), &edits, Layout::Bytes);
    assert_eq!(dump(&bytes), GOLDEN_GROUPS);
    let record = record::Record::verify(&bytes, SegmentId(0x0102), Some(0x0708_090a)).expect("it verifies");
    assert_eq!((record.header(), record.groups(), record.edits()), (&golden_record(), Some(groups), &edits[..]));
    let read: Vec<_> = (record.groups().expect("it has groups").iter())
        .map(|group| (group.id.front.0, group.id.number, group.edits(), group.participants().map(|s| s.0).collect()))
        .collect();
    assert_eq!(read, [(0x2728, 0x292a_2b2c, 0..6, vec![0x2d2e, 0x3132]), (2, 3, 6..6, vec![0, 1, 2])]);
    let closed: Vec<GroupId> = groups.closed().collect();
    assert_eq!(closed, [GroupId { front: ShardId(0x3334), number: 0x3536 }]);
    assert_eq!(groups.to_table(), table);
}

const GOLDEN_GROUPS: [&str; 10] = [
    "0000: 9c 00 00 00 4d cd b8 54 01 00 00 00 01 00 00 00",
    "0016: 02 01 00 00 00 00 00 00 12 11 00 00 00 00 00 00",
    "0032: 11 11 00 00 00 00 00 00 14 13 00 00 00 00 00 00",
    "0048: 22 21 00 00 00 00 00 00 24 23 00 00 00 00 00 00",
    "0064: 26 25 00 00 00 00 00 00 46 00 00 00 0a 09 08 07",
    "0080: 10 11 00 00 00 00 00 00 2c 2b 2a 29 00 00 00 00",
    "0096: 28 27 02 00 00 00 00 00 06 00 00 00 2e 2d 32 31",
    "0112: 36 35 00 00 00 00 00 00 34 33 00 00 03 00 00 00",
    "0128: 00 00 00 00 02 00 03 00 06 00 00 00 00 00 00 00",
    "0144: 00 00 01 00 02 00 03 02 03 6b 65 79 00 00 00 00",
];

/// A record whose group table is `table`, whatever that says, with the right checksum.
fn with_table(table: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; record_bytes(None, table.len() + edits.len(), Layout::Bytes)];
    let body = [table, edits].concat();
    encode_into(&mut bytes, &golden_record(), None, &body, Layout::Bytes);
    bytes[72..76].copy_from_slice(&(table.len() as u32).to_le_bytes());
    seal(&mut bytes[..RECORD_HEADER_BYTES + body.len()]);
    bytes
}

fn seal(record: &mut [u8]) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    record[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
}

fn verify(bytes: &[u8]) -> Result<record::Record<'_>, StopReason> {
    record::Record::verify(bytes, SegmentId(0x0102), None)
}

#[test]
fn a_group_table_cut_anywhere_but_between_its_groups_is_impossible() {
    let mut table = Sequence(0x1110).0.to_le_bytes().to_vec();
    let mut ends = vec![0, table.len()];
    for number in 0..3 {
        let mut group = GroupTable::default();
        let all: Vec<ShardId> = (0..=number as u16 + 1).map(ShardId).collect();
        group.push(GroupId { front: ShardId(0), number }, &all, 0..0);
        table.extend_from_slice(group.bytes());
        ends.push(table.len());
        group.clear();
        group.close(GroupId { front: ShardId(0), number });
        table.extend_from_slice(group.bytes());
        ends.push(table.len());
    }
    for length in 0..=table.len() {
        let bytes = with_table(&table[..length], &table[length..]);
        match verify(&bytes) {
            Ok(record) => {
                let whole = ends.iter().position(|end| *end == length).expect("only whole groups are taken");
                let entries = |groups: Groups<'_>| groups.iter().count() + groups.closed().count();
                assert_eq!(record.groups().map_or(0, |groups| entries(groups) + 1), whole);
                assert_eq!(record.edits(), &table[length..]);
            }
            Err(reason) => {
                assert!(!ends.contains(&length));
                assert_eq!(reason, StopReason::Impossible);
            }
        }
    }
}

#[test]
fn a_group_table_that_contradicts_itself_is_impossible() {
    let entries = |entries: &[(u32, u32, u16, &[u16])]| {
        let mut bytes = vec![0; 8];
        for (start, length, count, shards) in entries {
            bytes.extend_from_slice(&7u64.to_le_bytes());
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&start.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            shards.iter().for_each(|shard| bytes.extend_from_slice(&shard.to_le_bytes()));
        }
        bytes
    };
    let edits = [0; 9];
    let pair: &[u16] = &[1, 2];
    assert!(verify(&with_table(&entries(&[(0, 4, 2, pair), (4, 0, 2, pair), (5, 4, 2, pair)]), &edits)).is_ok());
    let mut marked = entries(&[(0, 4, 2, pair)]);
    marked[..8].copy_from_slice(&golden_record().sequence.0.to_le_bytes());
    for (table, what) in [
        (entries(&[(0, 4, 1, &[1])]), "one takes part"),
        (entries(&[(0, 4, 2, &[2, 1])]), "not ascending"),
        (entries(&[(0, 4, 2, &[1, 1])]), "one twice"),
        (entries(&[(0, 4, 3, pair)]), "more than there are"),
        (entries(&[(0, 4, u16::MAX, pair)]), "far more"),
        (entries(&[(0, 10, 2, pair)]), "edits beyond the record's"),
        (entries(&[(10, 0, 2, pair)]), "no edits beyond the record's"),
        (entries(&[(u32::MAX, u32::MAX, 2, pair)]), "edits far away"),
        (entries(&[(0, 4, 2, pair), (3, 4, 2, pair)]), "an edit of two groups"),
        (entries(&[(4, 4, 2, pair), (0, 4, 2, pair)]), "groups in another order than their edits"),
        (marked, "settled before it was written"),
    ] {
        assert_eq!(verify(&with_table(&table, &edits)), Err(StopReason::Impossible), "{what}");
    }
    let mut longer = with_table(&[], &[1, 2, 3]);
    longer[72..76].copy_from_slice(&4u32.to_le_bytes());
    seal(&mut longer[..RECORD_HEADER_BYTES + 3]);
    assert_eq!(verify(&longer), Err(StopReason::Impossible), "longer than the record");
}

#[test]
fn a_group_of_other_shards_is_damage_and_never_a_panic() {
    let elsewhere: [(u16, &[u16]); 4] =
        [(0, &[0, 1]), (0, &[3, SHARDS]), (SHARDS, &[0, 3]), (u16::MAX, &[3, u16::MAX])];
    for (front, shards) in elsewhere {
        let mut log = Log::new(Layout::Bytes);
        log.append(0, 3);
        let shards: Vec<ShardId> = shards.iter().copied().map(ShardId).collect();
        let mut table = GroupTable::default();
        table.push(GroupId { front: ShardId(front), number: 1 }, &shards, 0..0);
        log.append_with(log.record_header(0, 0), Some(&table.groups(Sequence(1))), Vec::new());
        let Err(RecoveryError::Damage(damage)) = log.recover() else { panic!("it is refused") };
        let group = GroupId { front: ShardId(front), number: 1 };
        assert_eq!(damage.reason, StopReason::BadGroup { group, shards: SHARDS });
        assert_eq!(log.kept(&log.recover_with(OnDamage::Repair)), Some(1));
    }
}

#[test]
fn a_closing_by_a_shard_that_is_not_there_is_damage() {
    let mut log = Log::new(Layout::Bytes);
    let mut table = GroupTable::default();
    let group = GroupId { front: ShardId(SHARDS), number: 1 };
    table.close(group);
    log.append_with(log.record_header(0, 0), Some(&table.groups(Sequence::NONE)), Vec::new());
    let Err(RecoveryError::Damage(damage)) = log.recover() else { panic!("it is refused") };
    assert_eq!(damage.reason, StopReason::BadGroup { group, shards: SHARDS });
}

#[test]
fn a_group_begins_and_ends_between_edits() {
    let (edits, count) = some_edits(Sequence(1), 3);
    let first = Edit::decode(&edits).expect("just made").1;
    for start in 0..=edits.len() {
        for end in start..=edits.len() {
            let mut log = Log::new(Layout::Bytes);
            let group = GroupId { front: SHARD, number: 1 };
            let mut table = GroupTable::default();
            table.push(group, &[ShardId(0), SHARD], start..end);
            log.append_with(log.record_header(0, count), Some(&table.groups(Sequence::NONE)), edits.clone());
            let between = [0, first, edits.len()];
            if between.contains(&start) && between.contains(&end) {
                assert_eq!(log.kept(&log.recover()), Some(1), "{start}..{end}");
            } else {
                let Err(RecoveryError::Damage(damage)) = log.recover() else { panic!("it is refused") };
                assert_eq!(damage.reason, StopReason::BadGroupRange(group), "{start}..{end}");
            }
        }
    }
}

#[test]
fn a_record_is_padded_with_zeros_to_its_layouts_alignment() {
    for (layout, bytes_of_empty, bytes_of_one) in [(Layout::Bytes, 80, 88), (Layout::Blocks, 4096, 4096)] {
        assert_eq!(record_bytes(None, 0, layout), bytes_of_empty);
        assert_eq!(record_bytes(None, 1, layout), bytes_of_one);
        let mut out = vec![0xff; bytes_of_one];
        encode_into(&mut out, &golden_record(), None, &[9], layout);
        assert!(is_zero(&out[RECORD_HEADER_BYTES + 1..]));
    }
    assert_eq!(record_bytes(None, 4096 - 80, Layout::Blocks), 4096);
    assert_eq!(record_bytes(None, 4096 - 79, Layout::Blocks), 8192);
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
    seal(record);
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
