//! Everything that is done to a file, one case after the other, and what came of it.
//!
//! Owns the list of cases and the counting; what a right outcome is, the judges know. A panic of the reader is counted as
//! an outcome too, with the case that led to it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub const BLOCK_BYTES: usize = 4096;
pub const SECTOR_BYTES: usize = 512;

/// One way to damage a file. Units are blocks or sectors, counted from the start of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    Flip {
        bit: usize,
    },
    Truncate {
        bytes: usize,
    },
    Swap {
        unit_bytes: usize,
        one: usize,
        other: usize,
    },
    Zero {
        unit_bytes: usize,
        at: usize,
    },
    /// As an older file had it in the same place.
    Stale {
        unit_bytes: usize,
        at: usize,
    },
    /// From there to the end.
    StaleFrom {
        unit_bytes: usize,
        at: usize,
    },
}

impl Damage {
    /// Makes of `file`, which is as `original`, what becomes of it. `older` is as long.
    fn apply(self, original: &[u8], older: &[u8], file: &mut Vec<u8>) {
        let unit = |unit_bytes: usize, at: usize| at * unit_bytes..(at + 1) * unit_bytes;
        match self {
            Damage::Flip { bit } => file[bit / 8] ^= 1 << (bit % 8),
            Damage::Truncate { bytes } => file.truncate(bytes),
            Damage::Swap { unit_bytes, one, other } => {
                file[unit(unit_bytes, one)].copy_from_slice(&original[unit(unit_bytes, other)]);
                file[unit(unit_bytes, other)].copy_from_slice(&original[unit(unit_bytes, one)]);
            }
            Damage::Zero { unit_bytes, at } => file[unit(unit_bytes, at)].fill(0),
            Damage::Stale { unit_bytes, at } => {
                file[unit(unit_bytes, at)].copy_from_slice(&older[unit(unit_bytes, at)]);
            }
            Damage::StaleFrom { unit_bytes, at } => {
                file[at * unit_bytes..].copy_from_slice(&older[at * unit_bytes..]);
            }
        }
    }

    /// It leaves the file as it was.
    pub fn is_none(self, original: &[u8], older: &[u8]) -> bool {
        let mut file = original.to_vec();
        self.apply(original, older, &mut file);
        file == original
    }
}

/// Every bit.
pub fn flips(file_bytes: usize) -> Vec<Damage> {
    (0..file_bytes * 8).map(|bit| Damage::Flip { bit }).collect()
}

/// Every length that is not the file's.
pub fn truncations(file_bytes: usize) -> Vec<Damage> {
    (0..file_bytes).map(|bytes| Damage::Truncate { bytes }).collect()
}

/// Every pair of blocks, and of sectors.
pub fn swaps(file_bytes: usize) -> Vec<Damage> {
    in_units(file_bytes, |unit_bytes, one| {
        (one + 1..file_bytes / unit_bytes).map(|other| Damage::Swap { unit_bytes, one, other }).collect()
    })
}

/// Every block and sector.
pub fn zeros(file_bytes: usize) -> Vec<Damage> {
    in_units(file_bytes, |unit_bytes, at| vec![Damage::Zero { unit_bytes, at }])
}

/// Every block and sector alone, and with all behind it.
pub fn stale(file_bytes: usize) -> Vec<Damage> {
    in_units(file_bytes, |unit_bytes, at| vec![Damage::Stale { unit_bytes, at }, Damage::StaleFrom { unit_bytes, at }])
}

fn in_units(file_bytes: usize, cases: impl Fn(usize, usize) -> Vec<Damage>) -> Vec<Damage> {
    let units = [BLOCK_BYTES, SECTOR_BYTES].into_iter();
    units
        .flat_map(|unit_bytes| (0..file_bytes / unit_bytes).flat_map(|at| cases(unit_bytes, at)).collect::<Vec<_>>())
        .collect()
}

/// What a reader made of a damaged file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Refused,
    /// A prefix without anything that was known to be on disk behind it.
    Cut,
    /// Exactly what was written.
    Same,
    /// A value that was never written, one in a wrong place, or an acknowledged one lost in silence.
    Wrong(&'static str),
}

/// Done to a damaged file before it is read.
type Mend<'a> = dyn Fn(&mut [u8]) + 'a;

/// A file, how it is damaged, and who judges what is read then.
pub struct Corpus<'a> {
    name: String,
    original: &'a [u8],
    older: &'a [u8],
    judge: &'a dyn Fn(&[u8]) -> Verdict,
    mend: Option<&'a Mend<'a>>,
}

impl<'a> Corpus<'a> {
    /// `older` is what the file held before.
    pub fn new(name: String, original: &'a [u8], older: &'a [u8], judge: &'a dyn Fn(&[u8]) -> Verdict) -> Self {
        assert_eq!(original.len(), older.len(), "a stale unit has a place to come from");
        Corpus { name, original, older, judge, mend: None }
    }

    /// `mend` makes up for a check, as if the reader lacked it.
    pub fn mended(self, mend: &'a Mend<'a>) -> Self {
        Corpus { mend: Some(mend), ..self }
    }

    pub fn run(&self, what: &str, cases: &[Damage]) -> Tally {
        let mut tally = Tally { cases: cases.len(), ..Tally::default() };
        let mut file = self.original.to_vec();
        for &damage in cases {
            damage.apply(self.original, self.older, &mut file);
            if let Some(mend) = self.mend {
                mend(&mut file);
            }
            match catch_unwind(AssertUnwindSafe(|| (self.judge)(&file))) {
                Ok(Verdict::Refused) => tally.refused += 1,
                Ok(Verdict::Cut) => tally.cut += 1,
                Ok(Verdict::Same) => tally.same += 1,
                Ok(Verdict::Wrong(why)) => {
                    tally.wrong += 1;
                    tally.first_bad.get_or_insert((damage, why));
                }
                Err(_) => {
                    tally.panics += 1;
                    tally.first_bad.get_or_insert((damage, "it panics"));
                }
            }
            self.restore(damage, &mut file);
        }
        println!("{}, {what}: {tally}", self.name);
        tally
    }

    /// Most cases are flips of bits, which need no new copy of the file unless something else was done to it.
    fn restore(&self, damage: Damage, file: &mut Vec<u8>) {
        match (damage, self.mend) {
            (Damage::Flip { bit }, None) => file[bit / 8] ^= 1 << (bit % 8),
            _ => {
                file.clear();
                file.extend_from_slice(self.original);
            }
        }
    }
}

/// Counts of outcomes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub cases: usize,
    pub refused: usize,
    pub cut: usize,
    pub same: usize,
    pub wrong: usize,
    pub panics: usize,
    first_bad: Option<(Damage, &'static str)>,
}

impl Tally {
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.cases > 0, "there are cases");
        assert_eq!(self.refused + self.cut + self.same, self.cases, "{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { cases, refused, cut, same, wrong, panics, first_bad } = self;
        write!(f, "{cases} cases: {refused} refused, {cut} cut, {same} same, {wrong} wrong, {panics} panics")?;
        first_bad.map_or(Ok(()), |(damage, why)| write!(f, "; the first: {damage:?}: {why}"))
    }
}
