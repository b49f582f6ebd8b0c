//! Starts from a snapshot: only what it lacks is applied, and what it holds may be gone from the log, or damaged.

use super::*;

fn base_behind(log: &Log, records: usize) -> Base {
    let offset = log.edits[..records].iter().map(Vec::len).sum::<usize>() as u64;
    Base { next_sequence: Sequence(records as u64 + 1), offset: Offset(offset), wall_ms: 77, steady_ms: 88 }
}

/// What is applied behind the base.
fn recover_from(files: &[(SegmentId, Vec<u8>)], base: Base) -> Outcome {
    recover_behind(files, OnDamage::Refuse, Some(base))
}

/// The first segment that a start from behind so many records needs.
fn first_needed(log: &Log, records: usize) -> usize {
    log.records.get(records).map_or(log.files.len(), |at| at.segment)
}

#[test]
fn only_what_the_snapshot_lacks_is_applied_whatever_of_the_rest_is_still_there() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        let log = small_log(layout);
        for held in 0..=log.len() {
            let base = base_behind(&log, held);
            for gone in 0..=first_needed(&log, held) {
                let (recovered, applied) = recover_from(&log.files[gone..], base).expect("a whole log");
                assert_eq!(applied[..], log.edits[held..], "{layout:?}, {held} held, {gone} segments gone");
                assert_eq!(recovered.next_sequence, log.next_sequence);
                assert_eq!(recovered.next_offset, log.next_offset);
                assert_eq!(recovered.cut, None);
                let times = (recovered.last_wall_ms, recovered.last_steady_ms);
                let last = log.len() as u64;
                assert!(times == (10_000 + last, 20_000 + last) || (applied.is_empty() && times == (77, 88)));
            }
        }
    }
}

#[test]
fn a_segment_too_many_gone_is_damage_if_it_was_on_disk() {
    let log = small_log(Layout::Bytes);
    for held in 0..log.len() {
        let left = first_needed(&log, held) + 1;
        let outcome = recover_from(&log.files[left..], base_behind(&log, held));
        let headers =
            log.files[left..].iter().map(|(_, file)| SegmentHeader::decode(file).expect("whole").durable_mark.0);
        let records = log.records.iter().filter(|at| at.segment >= left).map(|at| at.mark);
        let mark = headers.chain(records).max().unwrap_or(0) as usize;
        assert_eq!(is_damage(&outcome), mark > held, "{held} held: {outcome:?}");
    }
}

#[test]
fn what_the_snapshot_holds_may_be_damaged() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        let log = small_log(layout);
        for held in 1..=log.len() {
            let needed = first_needed(&log, held);
            for lost in 0..held {
                let at = log.records[lost];
                let mut damaged = log.clone();
                damaged.files[at.segment].1[at.start + 70] ^= 1;
                let outcome = recover_from(&damaged.files, base_behind(&log, held));
                let what = format!("{layout:?}, {held} held, record {} lost", lost + 1);
                if at.segment < needed {
                    let (_, applied) = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(applied[..], log.edits[held..], "{what}");
                    continue;
                }
                // The records behind it can't be reached: gone if they were never on disk for sure, else damage.
                let mark = log.records.iter().map(|record| record.mark).max().unwrap_or(0) as usize;
                match outcome {
                    Ok((recovered, applied)) => {
                        assert!(mark <= held && applied.is_empty(), "{what}");
                        assert_eq!(recovered.next_sequence.0 as usize, held + 1, "{what}");
                    }
                    Err(error) => assert!(mark > held, "{what}: {error}"),
                }
            }
        }
    }
}

/// The log lost its end, but the snapshot has it: it goes on behind the snapshot, and the next start finds that.
#[test]
fn a_log_that_ends_before_the_snapshot_goes_on_behind_it() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        let whole = small_log(layout);
        for kept in 5..whole.len() {
            let mut log = whole.clone();
            let end = log.records[kept - 1].end.next_multiple_of(layout.alignment());
            log.files[2].1.truncate(if log.records[kept - 1].segment == 2 { end } else { BLOCK_BYTES });
            let base = base_behind(&whole, whole.len());
            let (recovered, applied) = recover_from(&log.files, base).expect("nothing that counts is missing");
            assert_eq!(
                (applied.len(), recovered.next_sequence, recovered.next_offset),
                (0, whole.next_sequence, whole.next_offset)
            );
            log.continue_after(&Recovered { next_sequence: whole.next_sequence, ..recovered });
            log.append(whole.len() as u64, 30);
            let (recovered, applied) = recover_from(&log.files, base).expect("it goes on");
            assert_eq!((applied.len(), recovered.cut), (1, None), "{layout:?}, {kept} kept");
        }
    }
}

/// A repair cut the log and went on in a further segment, which a snapshot lies in: what it cut off lies between.
#[test]
fn segments_that_were_cut_off_before_the_snapshot_are_passed_over() {
    let whole = small_log(Layout::Bytes);
    for kept in 1..whole.len() {
        let mut log = whole.clone();
        let at = log.records[kept];
        log.files[at.segment].1[at.start + 70] ^= 1;
        let (recovered, _) = log.recover_with(OnDamage::Repair).expect("a repair takes what it finds");
        log.continue_after(&recovered);
        (0..8).for_each(|_| log.append(kept as u64, 5));
        for held in kept..log.len() {
            let (_, applied) = recover_from(&log.files, base_behind(&log, held))
                .unwrap_or_else(|error| panic!("{kept} kept, {held} held: {error}"));
            assert_eq!(applied[..], log.edits[held..], "{kept} kept, {held} held");
        }
    }
}
