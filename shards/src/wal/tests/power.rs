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
