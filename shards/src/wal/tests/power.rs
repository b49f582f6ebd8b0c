//! Power cuts, one after the other: whatever of the unsynced sectors survives, nothing that was on disk is lost, nothing
//! that was cut comes back, and no start is refused.

use super::*;

const SECTOR_BYTES: usize = 512;

#[test]
fn stale_records_beyond_a_cut_stay_dead() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        let mut log = small_log(layout);
        // Record 6 is lost, 7 and 8 survive: both above the mark.
        let at = log.records[5];
        log.files[at.segment].1[at.start..at.end].fill(0);
        let (recovered, _) = log.recover().expect("a tail");
        assert_eq!(recovered.cut.map(|cut| (cut.sequence, cut.records_dropped)), Some((Sequence(6), 2)));
        log.continue_after(&recovered);
        log.append(5, 11);
        let outcome = log.recover();
        assert_eq!(log.kept(&outcome), Some(6), "the stale 7 does not follow the new 6");
        assert_eq!(outcome.expect("whole").0.cut, None, "and is no longer reported");

        // Again, before anything was written to the new segment, and with a torn header.
        let (recovered, _) = log.recover().expect("whole");
        log.continue_after(&recovered);
        let torn = log.files.len() - 1;
        log.files[torn].1[50] ^= 1;
        let (recovered, applied) = log.recover().expect("a tail");
        assert_eq!((applied.len(), recovered.cut.map(|cut| cut.position)), (6, Some(0)));
        log.continue_after(&recovered);
        log.append(6, 5);
        let outcome = log.recover();
        assert_eq!(log.kept(&outcome), Some(7));
        assert_eq!(outcome.expect("whole").0.cut, None, "the torn segment lies behind the cut");
    }
}

#[test]
fn a_log_cut_at_its_very_start_begins_again() {
    let mut log = Log::new(Layout::Bytes);
    log.files[0].1[60] ^= 1;
    let (recovered, _) = log.recover().expect("nothing was on disk");
    assert_eq!((recovered.predecessor, recovered.next_segment_id), (None, SegmentId(2)));
    log.continue_after(&recovered);
    log.append(0, 4);
    let outcome = log.recover();
    assert_eq!(log.kept(&outcome), Some(1));
    assert_eq!(outcome.expect("whole").0.cut, None);
}

#[test]
fn after_a_repair_the_damage_is_behind_the_log() {
    let mut log = small_log(Layout::Blocks);
    let at = log.records[1];
    log.files[at.segment].1[at.start] ^= 1;
    let (recovered, _) = log.recover_with(OnDamage::Repair).expect("repaired");
    log.continue_after(&recovered);
    log.append(1, 4);
    let outcome = log.recover();
    assert_eq!(log.kept(&outcome), Some(2), "stale marks of 3 and 4 refuse nothing");
    assert_eq!(outcome.expect("whole").0.cut, None);
}

#[test]
fn no_power_cut_loses_what_was_on_disk_or_is_refused() {
    for seed in 0..400 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut log = Log::new(Layout::Bytes);
        let mut durable = 0;
        for _ in 0..random.usize(1..5) {
            durable = one_life(&mut log, durable, &mut random);
            cut_power(&mut log, durable, &mut random);
            let outcome = log.recover();
            let kept = log.kept(&outcome).unwrap_or_else(|| panic!("seed {seed}: refused: {outcome:?}"));
            assert!(kept >= durable, "seed {seed}: {kept} kept of {durable} on disk");
            let (recovered, _) = outcome.expect("it was kept");
            if random.bool() {
                log.layout = Layout::Blocks;
            }
            log.continue_after(&recovered);
            durable = kept;
        }
    }
}

/// Appends, rotates and syncs at random; how many records are on disk in the end.
fn one_life(log: &mut Log, mut durable: usize, random: &mut fastrand::Rng) -> usize {
    for _ in 0..random.usize(..12) {
        match random.u8(..8) {
            0 => {
                let predecessor = Predecessor {
                    segment: log.header.id,
                    last_sequence: log.next_sequence.previous(),
                    end: log.end() as u64,
                };
                log.layout = if random.bool() { Layout::Blocks } else { Layout::Bytes };
                // A file that was used before, its header blanked before it got its new name.
                let old = if random.bool() { log.files[0].1.clone() } else { Vec::new() };
                log.begin_segment(durable as u64, Some(predecessor), false, log.header.id.next(), old);
            }
            1 | 2 => durable = random.usize(durable..=log.len()),
            _ => {
                let value_bytes = [3, 30, 900, 6_000][random.usize(..4)];
                log.append(durable as u64, value_bytes);
            }
        }
    }
    durable
}

/// Of each record that was not on disk, any of its sectors may be as they were before.
fn cut_power(log: &mut Log, durable: usize, random: &mut fastrand::Rng) {
    for at in &log.records[durable..] {
        let file = &mut log.files[at.segment].1;
        for sector in at.start / SECTOR_BYTES..at.end.div_ceil(SECTOR_BYTES) {
            if random.u8(..3) == 0 {
                let from = at.start.max(sector * SECTOR_BYTES);
                let to = at.end.min((sector + 1) * SECTOR_BYTES);
                file[from..to].fill(if random.bool() { 0 } else { 0x77 });
            }
        }
    }
    // The header of a segment is on disk before any of its records counts.
    let (newest, file) = (log.files.len() - 1, &mut log.files.last_mut().expect("a log has a segment").1);
    if log.records[..durable].iter().all(|at| at.segment != newest) && random.u8(..3) == 0 {
        file[..SECTOR_BYTES].fill(if random.bool() { 0 } else { 0x77 });
    }
}

/// A second reading, up to but without the record `until`.
fn recover_until(log: &Log, until: Sequence) -> Outcome {
    let starts: Vec<(SegmentId, &[u8])> =
        log.files.iter().map(|(id, file)| (*id, &file[..file.len().min(BLOCK_BYTES)])).collect();
    let mut recovery = Recovery::new(SHARD, SHARDS, EPOCH, &starts, OnDamage::Refuse)?.until(until);
    let mut applied = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let (_, file) = log.files.iter().find(|file| file.0 == id).expect("it asks for what is there");
        recovery.read(file, &mut |record| {
            applied.push(record.edits().to_vec());
            Ok(())
        })?;
    }
    Ok((recovery.finish()?, applied))
}

#[test]
fn what_a_cut_took_never_comes_back_although_it_was_on_disk() {
    for layout in [Layout::Bytes, Layout::Blocks] {
        for kept in 0..=8 {
            let mut log = small_log(layout);
            let until = Sequence(kept as u64 + 1);
            let outcome = recover_until(&log, until);
            assert_eq!(log.kept(&outcome), Some(kept), "whatever the marks behind it say");
            // A crash before anything was written: the same again.
            assert_eq!(log.kept(&log.recover()), Some(8));
            let (recovered, _) = recover_until(&log, until).expect("as before");
            assert_eq!(recovered.next_segment_id, SegmentId(4), "a name that no file has");
            log.continue_after(&recovered);
            log.append(kept as u64, 30);
            let outcome = log.recover();
            assert_eq!(log.kept(&outcome), Some(kept + 1), "{layout:?}");
            assert_eq!(outcome.expect("whole").0.cut, None);
        }
    }
}

#[test]
fn a_second_reading_that_finds_less_is_refused() {
    let mut log = small_log(Layout::Bytes);
    let at = log.records[5];
    log.files[at.segment].1[at.start] ^= 1;
    assert_eq!(log.kept(&recover_until(&log, Sequence(6))), Some(5));
    assert_eq!(recover_until(&log, Sequence(7)).err(), Some(RecoveryError::Shrunk(Sequence(6))));
    let whole = small_log(Layout::Bytes);
    assert_eq!(recover_until(&whole, Sequence(10)).err(), Some(RecoveryError::Shrunk(Sequence(9))));
}
