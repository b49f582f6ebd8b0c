//! Bytes that a disk, a power cut or an operator changed: the result is a prefix that holds all that is known to have
//! been on disk, or a refusal.

use super::*;

const LAYOUTS: [Layout; 2] = [Layout::Bytes, Layout::Blocks];

/// The highest durable mark that anything outside of `lost` carries: what a recovery may not lose.
fn highest_mark(log: &Log, lost: impl Fn(usize, usize, usize) -> bool) -> usize {
    let records = log.records.iter().filter(|at| !lost(at.segment, at.start, at.end)).map(|at| at.mark);
    let headers = log.files.iter().enumerate().filter(|(at, _)| !lost(*at, 0, 104));
    let headers =
        headers.filter_map(|(_, (_, file))| SegmentHeader::decode(file).ok().map(|header| header.durable_mark.0));
    records.chain(headers).max().unwrap_or(0) as usize
}

/// Recovered exactly `whole` records, or refused because `mark` records were on disk.
fn assert_prefix_or_refusal(log: &Log, damaged: &Log, whole: usize, mark: usize, what: &str) {
    let outcome = damaged.recover();
    if mark > whole {
        assert!(is_damage(&outcome), "{what}: {whole} of {mark} durable records, yet {outcome:?}");
    } else {
        assert_eq!(log.kept(&outcome), Some(whole), "{what}: {outcome:?}");
    }
}

#[test]
fn a_log_that_ends_anywhere_is_recovered_up_to_there() {
    for layout in LAYOUTS {
        let log = small_log(layout);
        for segment in 0..log.files.len() {
            for length in 0..log.files[segment].1.len() {
                let mut cut = log.clone();
                cut.files.truncate(segment + 1);
                cut.files[segment].1.truncate(length);
                let fits = |at: &&Written| at.segment < segment || at.segment == segment && at.end <= length;
                let whole = log.records.iter().take_while(fits).count();
                assert_eq!(log.kept(&cut.recover()), Some(whole), "{layout:?} segment {segment} cut to {length}");
            }
        }
    }
}

#[test]
fn a_segment_cut_anywhere_is_refused_when_later_ones_know_better() {
    for layout in LAYOUTS {
        let log = small_log(layout);
        for segment in 0..log.files.len() {
            for length in 0..log.files[segment].1.len() {
                let mut cut = log.clone();
                cut.files[segment].1.truncate(length);
                let lost = |at: usize, _, end: usize| at == segment && end.max(BLOCK_BYTES) > length;
                let whole = log.records.iter().take_while(|at| !lost(at.segment, at.start, at.end)).count();
                let mark = highest_mark(&log, lost);
                assert_prefix_or_refusal(&log, &cut, whole, mark, &format!("{layout:?} segment {segment} to {length}"));
            }
        }
    }
}

#[test]
fn a_flipped_bit_never_yields_a_wrong_value() {
    for layout in LAYOUTS {
        let log = small_log(layout);
        for (segment, (_, file)) in log.files.iter().enumerate() {
            let used = |byte: usize| {
                byte < 128
                    || log.records.iter().any(|at| at.segment == segment && (at.start..at.end + 8).contains(&byte))
            };
            // Every bit that means something; of the padding's, a sample.
            for byte in (0..file.len()).filter(|byte| used(*byte) || byte % 61 == 0) {
                for bit in 0..8 {
                    let mut flipped = log.clone();
                    flipped.files[segment].1[byte] ^= 1 << bit;
                    check_flip(&log, &flipped, segment, byte, bit);
                }
            }
        }
    }
}

fn check_flip(log: &Log, flipped: &Log, segment: usize, byte: usize, bit: u32) {
    let hit = |at: usize, start: usize, end: usize| at == segment && (start..end).contains(&byte);
    let outcome = flipped.recover();
    let mark = highest_mark(log, hit);
    let header_hit = byte < 104;
    let whole = log
        .records
        .iter()
        .take_while(|at| !(hit(at.segment, at.start, at.end) || header_hit && at.segment == segment))
        .count();
    let what = format!("{:?} segment {segment} byte {byte} bit {bit}: {outcome:?}", log.layout);
    match log.kept(&outcome) {
        Some(kept) => assert!(kept == whole && kept >= mark, "{what}"),
        None => assert!(is_damage(&outcome) && mark > whole, "{what}"),
    }
}

#[test]
fn a_hole_above_the_durable_mark_is_a_tail_and_below_it_damage() {
    for layout in LAYOUTS {
        let log = small_log(layout);
        for (missing, at) in log.records.iter().enumerate() {
            for fill in [0, 0xa5] {
                let mut holed = log.clone();
                holed.files[at.segment].1[at.start..at.end].fill(fill);
                let lost = |segment: usize, start: usize, _| (segment, start) == (at.segment, at.start);
                let mark = highest_mark(&log, lost);
                assert_prefix_or_refusal(&log, &holed, missing, mark, &format!("{layout:?} without {missing}"));
                if mark <= missing {
                    let cut = holed.recover().expect("a tail").0.cut;
                    let behind = (log.len() - missing - 1) as u64;
                    // The last record's absence leaves only zeros, which are a clean end.
                    assert_eq!(cut.map_or(0, |cut| cut.records_dropped), behind, "{layout:?} without {missing}");
                    assert_eq!(cut.is_none(), behind == 0 && fill == 0);
                }
            }
        }
    }
}

#[test]
fn a_repair_cuts_where_a_plain_start_refuses() {
    for layout in LAYOUTS {
        let mut log = small_log(layout);
        let at = log.records[1];
        log.files[at.segment].1[at.start + 90] ^= 4;
        let Err(RecoveryError::Damage(damage)) = log.recover() else { panic!("the mark is above") };
        assert_eq!((damage.segment, damage.position), (SegmentId(1), at.start as u64));
        assert_eq!((damage.sequence, damage.reason), (Sequence(2), StopReason::BadChecksum));
        assert_eq!(damage.evidence.map(|by| (by.segment, by.position)), Some((SegmentId(2), 0)));
        let repaired = log.recover_with(OnDamage::Repair);
        assert_eq!(log.kept(&repaired), Some(1));
        let cut = repaired.expect("repaired").0.cut.expect("it is cut");
        assert_eq!((cut.records_dropped, cut.damage.map(|damage| damage.sequence)), (6, Some(Sequence(2))));
    }
}

#[test]
fn blocks_in_each_others_place_never_yield_a_wrong_value() {
    let log = small_log(Layout::Blocks);
    let blocks: Vec<(usize, usize)> = (0..log.files.len())
        .flat_map(|file| (0..log.files[file].1.len() / BLOCK_BYTES).map(move |block| (file, block)))
        .collect();
    for &(from_file, from) in &blocks {
        for &(to_file, to) in &blocks {
            let range = |block: usize| block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
            let source = log.files[from_file].1[range(from)].to_vec();
            let target = log.files[to_file].1[range(to)].to_vec();
            let mut copied = log.clone();
            copied.files[to_file].1[range(to)].copy_from_slice(&source);
            let mut swapped = copied.clone();
            swapped.files[from_file].1[range(from)].copy_from_slice(&target);
            for damaged in [copied, swapped] {
                let outcome = damaged.recover();
                assert!(log.kept(&outcome).is_none_or(|kept| kept >= 4) && (outcome.is_ok() || is_damage(&outcome)));
            }
        }
    }
}

#[test]
fn swapped_or_missing_segments_are_refused() {
    for layout in LAYOUTS {
        let log = small_log(layout);
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            let mut swapped = log.clone();
            let (left, right) = swapped.files.split_at_mut(b);
            std::mem::swap(&mut left[a].1, &mut right[0].1);
            assert!(is_damage(&swapped.recover()), "{layout:?} {a} and {b} swapped");
        }
        for missing in [0, 1] {
            let mut without = log.clone();
            without.files.remove(missing);
            assert!(is_damage(&without.recover()), "{layout:?} without {missing}");
        }
        let elsewhere = Recovery::new(ShardId(4), SHARDS, EPOCH, &[(SegmentId(1), &log.files[0].1)], OnDamage::Refuse);
        let outcome = elsewhere.and_then(|mut recovery| recovery.read(&log.files[0].1, &mut |_| Ok(())));
        assert!(matches!(outcome, Err(RecoveryError::Damage(_))));
    }
}

#[test]
fn a_segment_that_is_missing_above_every_mark_is_a_tail() {
    for layout in LAYOUTS {
        let mut log = Log::new(layout);
        log.append(0, 3);
        log.rotate(1);
        log.append(1, 4);
        log.rotate(1);
        log.append(1, 5);
        log.files.remove(1);
        let outcome = log.recover();
        assert_eq!(log.kept(&outcome), Some(1));
        let cut = outcome.expect("a tail").0.cut.expect("it is cut");
        assert_eq!((cut.segment, cut.records_dropped), (SegmentId(1), 1));
        assert_eq!(cut.reason, StopReason::Missing { segment: SegmentId(3), sequence: Sequence(3) });
    }
}

#[test]
fn a_record_of_another_segment_does_not_verify_even_with_the_same_salt() {
    let log = small_log(Layout::Bytes);
    let Written { segment, start, .. } = log.records[3];
    let (id, file) = &log.files[segment];
    let verify =
        |id: SegmentId| record::Record::verify(&file[start..], id, None).map(|record| record.header().sequence);
    assert_eq!(verify(*id), Ok(Sequence(4)));
    assert_eq!(verify(id.next()), Err(StopReason::OtherSegment));
}

#[test]
fn a_record_is_taken_once_even_if_it_has_no_edits() {
    let mut log = Log::new(Layout::Blocks);
    let header = log.record_header(0, 0);
    log.append_as(header, Vec::new());
    log.append_as(header, Vec::new());
    let (recovered, _) = log.recover().expect("a tail");
    let out_of_turn = StopReason::OutOfTurn { expected: Sequence(2), found: Sequence(1) };
    assert_eq!((recovered.records, recovered.cut.map(|cut| cut.reason)), (1, Some(out_of_turn)));
}

#[test]
fn what_contradicts_itself_is_damage_without_a_witness() {
    let mut one = Log::new(Layout::Bytes);
    one.append(0, 3);
    let end = Predecessor { segment: SegmentId(1), last_sequence: Sequence(1), end: one.end() as u64 };

    let mut overlapping = one.clone();
    overlapping.next_sequence = Sequence(1);
    overlapping.begin_segment(0, None, false, SegmentId(2), Vec::new());
    let mut shifted_segment = one.clone();
    shifted_segment.next_offset.0 += 1;
    shifted_segment.begin_segment(0, Some(end), false, SegmentId(2), Vec::new());
    let mut shifted_record = one.clone();
    shifted_record.next_offset.0 += 1;
    shifted_record.append(0, 3);
    let mut miscounted = one.clone();
    let (edits, count) = some_edits(Sequence(2), 3);
    miscounted.append_as(miscounted.record_header(0, count + 1), edits);

    for log in [overlapping, shifted_segment, shifted_record, miscounted] {
        let Err(RecoveryError::Damage(damage)) = log.recover() else { panic!("it is refused") };
        assert_eq!((damage.sequence, damage.evidence), (Sequence(2), None));
        assert_eq!(one.kept(&log.recover_with(OnDamage::Repair)), Some(1));
    }
}

#[test]
fn a_lost_header_over_records_that_were_on_disk_is_refused() {
    for layout in LAYOUTS {
        for fill in [0, 0xa5] {
            let mut log = small_log(layout);
            // Record 7 says that 6, the first behind the lost header, was on disk.
            log.append(6, 3);
            log.files[2].1[..BLOCK_BYTES].fill(fill);
            assert!(is_damage(&log.recover()), "{layout:?} filled with {fill}");
        }
    }
}

#[test]
fn a_value_that_looks_like_a_record_is_no_evidence() {
    for layout in LAYOUTS {
        let mut log = Log::new(layout);
        log.append(0, 10);
        // What a client may try: a record of the right segment and a later sequence, but it cannot know the salt.
        let header =
            RecordHeader { salt: 0, sequence: Sequence(900), durable_mark: Sequence(800), ..log.record_header(0, 0) };
        let mut forged = vec![0; record_bytes(None, 0, layout)];
        encode_into(&mut forged, &header, None, &[], layout);
        let file = &mut log.files[0].1;
        file.resize(file.len() + layout.alignment(), 0xee);
        file.extend_from_slice(&forged);
        assert_eq!(log.kept(&log.recover()), Some(1));
    }
}

#[test]
fn claims_of_great_lengths_do_not_keep_a_search_busy() {
    let mut log = Log::new(Layout::Bytes);
    log.append(0, 10);
    let salt = log.header.salt;
    let file = &mut log.files[0].1;
    file.resize(file.len() + 80, 0xee);
    let claims = 4_000u32;
    for claim in 0..claims {
        let mut fixed = [0; RECORD_HEADER_BYTES];
        fixed[..4].copy_from_slice(&((claims - claim) * RECORD_HEADER_BYTES as u32).to_le_bytes());
        fixed[16..24].copy_from_slice(&1u64.to_le_bytes());
        fixed[76..].copy_from_slice(&salt.to_le_bytes());
        file.extend_from_slice(&fixed);
    }
    assert!(is_damage(&log.recover()), "what cannot be searched is left to the operator");
}

#[test]
fn random_bytes_never_panic() {
    let seed = 0x5eed_0001;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let layout = LAYOUTS[random.usize(..2)];
        let mut log = small_log(layout);
        for _ in 0..random.usize(1..6) {
            let segment = random.usize(..log.files.len());
            let file = &mut log.files[segment].1;
            let from = random.usize(..file.len());
            let to = (from + random.usize(1..300)).min(file.len());
            random.fill(&mut file[from..to]);
        }
        let outcome = log.recover();
        assert!(log.kept(&outcome).is_some() || is_damage(&outcome));
    }
}
