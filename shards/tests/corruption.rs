//! Files of 64 KiB, damaged in every way that fits into a minute: whatever is read from them then is what was written, a
//! prefix of it that holds all that was known to be on disk (logs only), or nothing at all.
//!
//! One file of each kind here, all places in it; what damage does to a log of several segments, record by record, is the
//! subject of the tests beside the log's code. The harness must be able to fail: the tests at the end let it read with
//! one check less and demand that it notices.

#[path = "corruption/damage.rs"]
mod damage;
#[path = "corruption/segment.rs"]
mod segment;
#[path = "corruption/snapshot.rs"]
mod snapshot;

use damage::{Corpus, Damage, Tally, Verdict, flips, stale, swaps, truncations, zeros};
use segment::{Identity, Segment};
use shards::wal::{Layout, SegmentId};
use snapshot::{End, Snapshot};

const FILE_BYTES: usize = 64 << 10;
const LAYOUTS: [Layout; 2] = [Layout::Blocks, Layout::Bytes];

const NEWER: Identity = Identity { id: SegmentId(7), salt: 0x5a17_0007, seed: 1, tells_marks: true };
/// Its file became that of `NEWER`.
const OLDER: Identity = Identity { id: SegmentId(4), salt: 0x5a17_0004, seed: 2, tells_marks: true };

fn segment_and_older(layout: Layout) -> (Segment, Segment) {
    let (segment, older) = (Segment::new(layout, NEWER), Segment::new(layout, OLDER));
    assert_eq!((segment.bytes.len(), older.records()), (FILE_BYTES, segment.records()));
    assert_eq!(segment.judge(&segment.bytes), Verdict::Same, "undamaged");
    (segment, older)
}

fn snapshot_and_older() -> (Snapshot, Snapshot) {
    let (snapshot, older) = (Snapshot::new(8, 0x5a17_0008, 3), Snapshot::new(5, 0x5a17_0005, 4));
    assert_eq!((snapshot.bytes.len(), older.bytes.len()), (FILE_BYTES, FILE_BYTES));
    assert_eq!(snapshot.judge(&snapshot.bytes), Verdict::Same, "undamaged");
    (snapshot, older)
}

/// One of nine, so that each bit of a byte has its turn: enough for what shows everywhere, or is read by the same code.
fn some_flips() -> Vec<Damage> {
    flips(FILE_BYTES).into_iter().step_by(9).collect()
}

fn all_but_flips() -> [(&'static str, Vec<Damage>); 4] {
    [
        ("truncated", truncations(FILE_BYTES)),
        ("swapped", swaps(FILE_BYTES)),
        ("zeroed", zeros(FILE_BYTES)),
        ("stale", stale(FILE_BYTES)),
    ]
}

/// All kinds of outcome of the segment that ends a log, for each class of cases.
fn damage_segment(layout: Layout, cases: &[(&str, Vec<Damage>)]) {
    let (segment, older) = segment_and_older(layout);
    println!("{} records", segment.records());
    let name = format!("last segment, {layout:?}");
    let judge = |damaged: &[u8]| segment.judge(damaged);
    let corpus = Corpus::new(name, &segment.bytes, &older.bytes, &judge);
    for (what, cases) in cases {
        let tally = corpus.run(what, cases);
        tally.assert_sound();
        assert!(tally.refused > 0 || *what == "truncated", "marks are there to tell damage from a torn tail");
        assert!(tally.cut > 0 && tally.same > 0, "{tally}");
    }
}

/// Nothing may be cut from a segment that others follow.
fn damage_followed_segment(layout: Layout, cases: &[(&str, Vec<Damage>)]) {
    let (segment, older) = segment_and_older(layout);
    let segment = segment.followed();
    let name = format!("segment within a log, {layout:?}");
    let judge = |damaged: &[u8]| segment.judge(damaged);
    let corpus = Corpus::new(name, &segment.bytes, &older.bytes, &judge);
    for (what, cases) in cases {
        let tally = corpus.run(what, cases);
        tally.assert_sound();
        assert!(tally.refused > 0 && tally.cut == 0, "{tally}");
    }
}

#[test]
fn a_flipped_bit_in_a_segment_of_blocks_never_yields_a_wrong_value() {
    damage_segment(Layout::Blocks, &[("flipped", flips(FILE_BYTES))]);
}

#[test]
fn a_flipped_bit_in_a_segment_of_bytes_never_yields_a_wrong_value() {
    damage_segment(Layout::Bytes, &[("flipped", flips(FILE_BYTES))]);
}

#[test]
fn a_flipped_bit_within_a_log_is_refused_or_harmless() {
    for layout in LAYOUTS {
        damage_followed_segment(layout, &[("flipped", some_flips())]);
    }
}

#[test]
fn segments_cut_swapped_zeroed_or_stale_never_yield_a_wrong_value() {
    for layout in LAYOUTS {
        damage_segment(layout, &all_but_flips());
        damage_followed_segment(layout, &all_but_flips());
    }
}

/// No number is used twice in an epoch, so this comes from nowhere: the salt alone decides.
#[test]
fn records_of_the_same_segment_with_another_salt_are_never_taken() {
    for layout in LAYOUTS {
        let (segment, _) = segment_and_older(layout);
        let older = Segment::new(layout, Identity { id: NEWER.id, ..OLDER });
        let judge = |damaged: &[u8]| segment.judge(damaged);
        let name = format!("last segment, same number, {layout:?}");
        let corpus = Corpus::new(name, &segment.bytes, &older.bytes, &judge);
        // With the older header it would be the older segment: only the name could tell, and that is the same.
        let behind_header =
            |case: &Damage| !matches!(case, Damage::Stale { at: 0, .. } | Damage::StaleFrom { at: 0, .. });
        let cases = stale(FILE_BYTES).into_iter().filter(behind_header).collect::<Vec<_>>();
        corpus.run("stale", &cases).assert_sound();
    }
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let (snapshot, older) = snapshot_and_older();
    let judge = |damaged: &[u8]| snapshot.judge(damaged);
    let name = "snapshot".to_owned();
    let corpus = Corpus::new(name, &snapshot.bytes, &older.bytes, &judge);
    let mut classes = all_but_flips().to_vec();
    classes.push(("flipped", flips(FILE_BYTES)));
    for (what, cases) in classes {
        let tally = corpus.run(what, &cases);
        tally.assert_sound();
        // Sectors of zeros may take each other's place.
        let harmless = cases.iter().filter(|case| case.is_none(&snapshot.bytes, &older.bytes)).count();
        assert_eq!((tally.refused, tally.same), (cases.len() - harmless, harmless), "{what}");
    }
}

#[test]
fn segments_read_without_checksums_are_caught() {
    for layout in LAYOUTS {
        let (segment, older) = segment_and_older(layout);
        let judge = |damaged: &[u8]| segment.judge(damaged);
        let mend = |damaged: &mut [u8]| segment.seal(damaged);
        let name = format!("segment without checksums, {layout:?}");
        let corpus = Corpus::new(name, &segment.bytes, &older.bytes, &judge).mended(&mend);
        assert_caught(corpus.run("flipped", &some_flips()));
    }
}

#[test]
fn snapshots_read_without_checksums_are_caught() {
    let (snapshot, older) = snapshot_and_older();
    let judge = |damaged: &[u8]| snapshot.judge(damaged);
    let mend = |damaged: &mut [u8]| snapshot.seal(damaged);
    let name = "snapshot without checksums".to_owned();
    let corpus = Corpus::new(name, &snapshot.bytes, &older.bytes, &judge).mended(&mend);
    assert_caught(corpus.run("flipped", &some_flips()));
}

#[test]
fn files_read_without_salts_are_caught() {
    for layout in LAYOUTS {
        let segment = Segment::new(layout, NEWER);
        let older = Segment::new(layout, Identity { seed: OLDER.seed, ..NEWER });
        let judge = |damaged: &[u8]| segment.judge(damaged);
        let name = format!("segment without a salt, {layout:?}");
        let corpus = Corpus::new(name, &segment.bytes, &older.bytes, &judge);
        assert_caught(corpus.run("stale", &stale(FILE_BYTES)));
    }
    let (snapshot, older) = (Snapshot::new(8, 1, 3), Snapshot::new(5, 1, 4));
    let judge = |damaged: &[u8]| snapshot.judge(damaged);
    let name = "snapshot without a salt".to_owned();
    let corpus = Corpus::new(name, &snapshot.bytes, &older.bytes, &judge);
    assert_caught(corpus.run("stale", &stale(FILE_BYTES)));
}

#[test]
fn segments_read_without_durable_marks_are_caught() {
    for layout in LAYOUTS {
        let segment = Segment::new(layout, Identity { tells_marks: false, ..NEWER });
        let judge = |damaged: &[u8]| segment.judge(damaged);
        let name = format!("segment without marks, {layout:?}");
        let corpus = Corpus::new(name, &segment.bytes, &segment.bytes, &judge);
        assert_caught(corpus.run("zeroed", &zeros(FILE_BYTES)));
    }
}

#[test]
fn a_snapshot_read_without_its_footer_is_caught() {
    let (snapshot, older) = snapshot_and_older();
    let judge = |damaged: &[u8]| snapshot.judge_with(damaged, End::FooterIgnored);
    let name = "snapshot without its footer".to_owned();
    let corpus = Corpus::new(name, &snapshot.bytes, &older.bytes, &judge);
    assert_caught(corpus.run("truncated", &truncations(FILE_BYTES)));
}

#[test]
fn a_reader_that_panics_is_caught() {
    let original = [0; FILE_BYTES];
    let judge = |damaged: &[u8]| match damaged.len() {
        // Without a message in the output.
        5 => std::panic::resume_unwind(Box::new("planted")),
        _ => Verdict::Same,
    };
    let name = "panicking reader".to_owned();
    let corpus = Corpus::new(name, &original, &original, &judge);
    assert_eq!(corpus.run("truncated", &truncations(FILE_BYTES)).panics, 1);
}

/// By its values, not by a panic.
#[track_caller]
fn assert_caught(tally: Tally) {
    assert!(tally.wrong > 0 && tally.panics == 0, "{tally}");
}
