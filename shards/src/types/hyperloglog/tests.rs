//! Bytes and counts against those of redis-server 7.0.15, and crafted strings.

use super::*;

const SPARSE_BYTES_MAX: u64 = 3000;

fn add(draft: &mut Draft, element: &str) -> bool {
    draft.add(Mark::of(element.as_bytes()), SPARSE_BYTES_MAX).expect("a sound one")
}

fn of_elements(prefix: &str, count: usize) -> Draft {
    let mut draft = Draft::default();
    (0..count).for_each(|n| {
        add(&mut draft, &format!("{prefix}{n}"));
    });
    draft
}

/// FNV-1a of all bytes but the cached count.
fn digest(draft: &Draft) -> u64 {
    let bytes = draft.bytes()[..COUNT_AT].iter().chain(&draft.bytes()[HEADER_BYTES..]);
    bytes.fold(FNV_OFFSET, fnv_1a)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv_1a(hash: u64, byte: &u8) -> u64 {
    (hash ^ *byte as u64).wrapping_mul(0x100_0000_01b3)
}

fn text(draft: &Draft) -> String {
    let mut words = Vec::new();
    draft.sketch().walk(|_, run| words.push((run.value, run.len))).expect("a sound one");
    words.iter().map(|(value, len)| format!("{value}x{len} ")).collect()
}

#[test]
fn bytes_and_counts_are_those_of_redis() {
    let mut draft = Draft::default();
    let mut added = 0;
    for (elements, len, expected, count) in [
        (1, 21, 0x92d4_beed_8c3b_6c3d, 1),
        (10, 48, 0x9ca9_d545_74ab_832d, 10),
        (100, 287, 0xff61_193a_7d12_d89d, 100),
        (1000, 1870, 0x1897_e1be_d70a_6047, 994),
        (1500, 2685, 0x2ce6_ba90_6320_a789, 1495),
        (2000, 12304, 0x157f_b681_5304_5a5b, 2002),
        (10_000, 12304, 0xb0eb_614c_6d78_b992, 10_016),
        (100_000, 12304, 0x8432_c020_6a66_4555, 100_917),
    ] {
        while added < elements {
            add(&mut draft, &format!("element-{added}"));
            added += 1;
        }
        assert_eq!((draft.bytes().len(), digest(&draft)), (len, expected), "{elements} elements");
        assert_eq!(draft.sketch().count(), Ok(count), "{elements} elements");
    }
}

#[test]
fn unions_are_those_of_redis() {
    let parts = [of_elements("a", 600), of_elements("b", 900), of_elements("c", 3000)];
    let mut registers = Registers::default();
    let mut counts = Vec::new();
    for part in &parts {
        registers.raise(part.sketch()).expect("a sound one");
        counts.push(registers.count());
    }
    assert_eq!(counts[1..], [1509, 4523]);
    // As PFMERGE of the first two writes it.
    let mut two = Registers::default();
    parts[..2].iter().for_each(|part| two.raise(part.sketch()).expect("a sound one"));
    let mut merged = Draft::default();
    two.marks().for_each(|mark| {
        merged.add(mark, SPARSE_BYTES_MAX).expect("a sound one");
    });
    assert_eq!((merged.bytes().len(), digest(&merged)), (2702, 0xc6e2_d727_ae5a_bc9b));
}

#[test]
fn elements_of_every_length_hash_as_in_redis() {
    let mut draft = Draft::default();
    (0..18).for_each(|len| {
        add(&mut draft, &"abcdefghijklmnopq"[..len]);
    });
    let expected = "0x719 1x1 0x663 1x1 0x2342 4x1 0x544 1x1 0x1362 2x1 0x62 2x1 0x240 2x1 0x964 1x1 0x2253 1x1 0x170 1x1 \
                    0x145 1x1 0x220 5x1 0x1374 8x1 0x1157 1x1 0x148 4x1 0x333 2x1 0x935 2x1 0x473 1x1 0x2262 ";
    assert_eq!(text(&draft), expected);
}

/// Registers close to each other and of few values: runs are split and joined all the time.
#[test]
fn neighbours_are_joined_as_in_redis() {
    let mut draft = Draft::default();
    let mut digest = FNV_OFFSET;
    let mut added = 0;
    for n in 0..400_000 {
        let mark = Mark::of(format!("n{n}").as_bytes());
        if mark.index < 40 && mark.count <= 2 {
            draft.add(mark, SPARSE_BYTES_MAX).expect("a sound one");
            digest = draft.bytes()[HEADER_BYTES..].iter().fold(digest, fnv_1a);
            added += 1;
        }
    }
    assert_eq!((added, digest), (742, 0x79f77eb08005d3c4), "of the bytes after each element");
}

#[test]
fn a_high_count_or_a_long_string_makes_it_dense() {
    let mut draft = Draft::default();
    assert_eq!(draft.add(Mark { index: 7, count: 32 }, SPARSE_BYTES_MAX), Ok(true));
    assert_eq!(draft.sketch().encoding(), Encoding::Sparse);
    assert_eq!(draft.add(Mark { index: REGISTERS - 1, count: 33 }, SPARSE_BYTES_MAX), Ok(true));
    assert_eq!(draft.sketch().encoding(), Encoding::Dense);
    assert_eq!(draft.add(Mark { index: 7, count: 32 }, SPARSE_BYTES_MAX), Ok(false));
    let mut draft = Draft::default();
    let dense_after = (1..).find(|n| {
        draft.add(Mark::of(format!("e{}", n - 1).as_bytes()), 100).expect("a sound one");
        draft.sketch().encoding() == Encoding::Dense
    });
    assert_eq!(dense_after, Some(29), "as redis-server with hll-sparse-max-bytes 100");
    let mut none = Draft::default();
    assert_eq!(none.add(Mark { index: 0, count: 1 }, 0), Ok(true));
    assert_eq!(none.sketch().encoding(), Encoding::Dense);
}

#[test]
fn both_representations_agree_with_plain_registers() {
    let mut random = fastrand::Rng::with_seed(21);
    for _ in 0..20 {
        let (mut sparse, mut dense) = (Draft::default(), Draft::default());
        assert_eq!(dense.make_dense(), Ok(true));
        let mut plain = vec![0; REGISTERS];
        let width = [8, 200, REGISTERS][random.usize(0..3)];
        for _ in 0..1000 {
            let mark = Mark { index: random.usize(REGISTERS - width..REGISTERS), count: random.u8(1..=34) };
            let changes = plain[mark.index] < mark.count;
            assert_eq!(sparse.sketch().lacks(mark), Ok(changes));
            assert_eq!(sparse.add(mark, u64::MAX), Ok(changes));
            assert_eq!(dense.add(mark, u64::MAX), Ok(changes));
            plain[mark.index] = mark.count.max(plain[mark.index]);
        }
        for draft in [&sparse, &dense] {
            let mut registers = Registers::default();
            assert_eq!(registers.raise(draft.sketch()), Ok(()));
            assert_eq!(registers.values()[..], plain);
            assert_eq!(draft.sketch().count(), Ok(registers.count()));
        }
    }
}

#[test]
fn a_dense_change_is_two_bytes_at_most() {
    let mut random = fastrand::Rng::with_seed(22);
    let mut draft = Draft::default();
    draft.make_dense().expect("a sound one");
    for index in 0..REGISTERS {
        let (at, bytes) = draft.sketch().dense_change(Mark { index, count: random.u8(1..=51) });
        assert!(bytes.len() <= 2 && at >= HEADER_BYTES && at + bytes.len() <= DENSE_BYTES);
    }
}

#[test]
fn a_cached_count_is_used_until_its_highest_bit_is_set() {
    let mut draft = of_elements("e", 3);
    assert_eq!(draft.sketch().cached_count(), Some(0));
    draft.invalidate();
    assert_eq!(draft.sketch().cached_count(), None);
    draft.make_dense().expect("a sound one");
    assert_eq!(draft.sketch().cached_count(), None);
}

#[test]
fn a_count_beyond_all_bounds_is_that_of_redis() {
    let mut draft = Draft::default();
    draft.make_dense().expect("a sound one");
    draft.bytes[HEADER_BYTES..].fill(0xff);
    assert_eq!(draft.sketch().count(), Ok(1 << 63));
}

/// What a hostile client may have written: nothing may panic, or go beyond the registers.
#[test]
fn crafted_strings_are_errors_at_worst() {
    let mutations = 50_000;
    let mut random = fastrand::Rng::with_seed(23);
    let seeds = [of_elements("e", 0), of_elements("e", 5), of_elements("e", 150), of_elements("e", 1200)];
    let (mut sound, mut corrupted) = (0, 0);
    for _ in 0..mutations {
        let mut bytes = seeds[random.usize(0..seeds.len())].bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            mutate(&mut bytes, &mut random);
        }
        let Ok(sketch) = Sketch::open(&bytes) else { continue };
        if check_crafted(sketch, &mut random) { sound += 1 } else { corrupted += 1 }
    }
    assert!(sound > mutations / 20 && corrupted > mutations / 20, "{sound} sound, {corrupted} corrupted");
}

fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let first = if random.u32(..20) == 0 { 0 } else { HEADER_BYTES };
    if bytes.len() <= first {
        return;
    }
    let (at, other) = (random.usize(first..bytes.len()), random.usize(first..bytes.len()));
    match random.u32(..6) {
        0 => bytes[at] = random.u8(..),
        1 => bytes[at] ^= 1 << random.u32(..8),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, random.u8(..)),
        4 => bytes.swap(at, other),
        _ => bytes.truncate(at),
    }
}

/// Whether it was found sound; then all ways to look at it agree.
fn check_crafted(sketch: Sketch<'_>, random: &mut fastrand::Rng) -> bool {
    let count = sketch.count();
    let mut registers = Registers::default();
    assert_eq!(registers.raise(sketch).is_ok(), count.is_ok());
    let mut dense = Draft::of(sketch);
    assert_eq!(dense.make_dense().is_ok(), count.is_ok());
    if let Ok(count) = count {
        assert_eq!((dense.sketch().count(), registers.count()), (Ok(count), count));
    }
    let mut draft = Draft::of(sketch);
    for _ in 0..4 {
        let mark = Mark { index: random.usize(..REGISTERS), count: random.u8(1..=34) };
        match draft.add(mark, SPARSE_BYTES_MAX) {
            Ok(_) => assert_eq!(draft.sketch().lacks(mark), Ok(false)),
            Err(error) => assert!(count.is_err() && error == CORRUPTED),
        }
    }
    assert!(count.is_err() || draft.sketch().count().is_ok());
    count.is_ok()
}
