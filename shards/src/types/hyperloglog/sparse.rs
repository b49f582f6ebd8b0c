//! Sparse registers: runs of equal ones, in order.
//!
//! ```text
//! | 00 | length - 1, 6 bits |                        up to 64 zeros
//! | 01 | length - 1, 14 bits, high byte first |      up to 16,384 zeros
//! | 1 | value - 1, 5 bits | length - 1, 2 bits |     up to 4 registers of a value of up to 32
//! ```
//!
//! Which of the many ways to write the same registers results follows Redis: what a register's change splits is not joined
//! again, but for values of a few neighbours.

use super::{CORRUPTED, Mark, REGISTERS};
use crate::error::CommandError;
use smallvec::SmallVec;

const SHORT_ZEROS_MAX: usize = 64;
const LONG_ZEROS: u8 = 0x40;
const VALUE: u8 = 0x80;
const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
/// Runs that are looked at for values to join, from the one before the change on.
const JOINED_MAX: usize = 5;

/// Registers with the same value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub value: u8,
    pub len: usize,
    /// Whether it is the long form of a run of zeros, two bytes.
    pub is_long: bool,
}

impl Run {
    fn bytes(self) -> usize {
        1 + self.is_long as usize
    }
    /// The run that starts at `at`; `None` at the end, and where it is cut off.
    #[inline]
    fn read(runs: &[u8], at: usize) -> Option<Run> {
        let first = *runs.get(at)?;
        if first & VALUE != 0 {
            return Some(Run { value: (first >> 2 & 0x1f) + 1, len: (first & 3) as usize + 1, is_long: false });
        }
        if first & LONG_ZEROS == 0 {
            return Some(Run { value: 0, len: first as usize + 1, is_long: false });
        }
        let len = ((first & !LONG_ZEROS) as usize) << 8 | *runs.get(at + 1)? as usize;
        Some(Run { value: 0, len: len + 1, is_long: true })
    }
}

/// Visits all runs with the index of their first register; an error unless they make up all registers and no more.
pub(super) fn walk(runs: &[u8], mut visit: impl FnMut(usize, Run)) -> Result<(), CommandError> {
    let (mut at, mut first) = (0, 0);
    while at < runs.len() {
        let run = Run::read(runs, at).filter(|run| first + run.len <= REGISTERS).ok_or(CORRUPTED)?;
        visit(first, run);
        at += run.bytes();
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(CORRUPTED) }
}

/// The run that a register is in.
pub(super) struct Found {
    pub run: Run,
    at: usize,
    /// Where the run before starts; its own start if it is the first.
    before: usize,
    /// Index of the run's first register.
    first: usize,
}

/// Registers that a byte stands for if it is a run of its own; beyond all registers if it begins a run of two bytes.
const LENGTHS: [u16; 256] = {
    let mut lengths = [REGISTERS as u16 + 1; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte as u8 & VALUE != 0 {
            lengths[byte] = (byte as u16 & 3) + 1;
        } else if byte as u8 & LONG_ZEROS == 0 {
            lengths[byte] = byte as u16 + 1;
        }
        byte += 1;
    }
    lengths
};

/// Adding an element is looking for its register: eight bytes at a time as long as they end before it.
#[inline]
pub(super) fn find(runs: &[u8], index: usize) -> Option<Found> {
    let (mut at, mut before, mut first) = (0, 0, 0);
    loop {
        while let Some(eight) = runs.get(at..at + 8) {
            let len: usize = eight.iter().map(|byte| LENGTHS[*byte as usize] as usize).sum();
            if index < first + len {
                break;
            }
            before = at + 7;
            at += 8;
            first += len;
        }
        // One of the next eight bytes has it, or begins a run of two.
        for _ in 0..8 {
            let run = Run::read(runs, at)?;
            if index < first + run.len {
                return Some(Found { run, at, before, first });
            }
            before = at;
            at += run.bytes();
            first += run.len;
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Same,
    Changed,
    /// Nothing was changed: it would take more than the bytes allowed, or a value that runs can't have.
    TooLarge,
}

type Split = SmallVec<[u8; 5]>;

/// Raises the register of `mark` in the runs of `string`, which start at `start`; they may not grow beyond `len_max`.
pub(super) fn raise(string: &mut Vec<u8>, start: usize, mark: Mark, len_max: u64) -> Result<Outcome, CommandError> {
    if mark.count > VALUE_MAX {
        return Ok(Outcome::TooLarge);
    }
    let runs = &string[start..];
    let found = find(runs, mark.index).ok_or(CORRUPTED)?;
    if found.run.value >= mark.count {
        return Ok(Outcome::Same);
    }
    let split = split(&found, mark);
    let replaced = found.run.bytes();
    let len = runs.len() - replaced + split.len();
    if split.len() > replaced && len as u64 > len_max {
        return Ok(Outcome::TooLarge);
    }
    let at = start + found.at;
    string.splice(at..at + replaced, split);
    join_values(string, start + found.before);
    Ok(Outcome::Changed)
}

/// The run found, cut in up to three so that the register of `mark` has its own.
fn split(found: &Found, mark: Mark) -> Split {
    let mut split = Split::new();
    let before = mark.index - found.first;
    let push = |split: &mut Split, len: usize| match (found.run.value, len) {
        (_, 0) => {}
        (0, _) => push_zeros(split, len),
        (value, _) => split.push(value_run(value, len)),
    };
    push(&mut split, before);
    split.push(value_run(mark.count, 1));
    push(&mut split, found.run.len - before - 1);
    split
}

/// Joins runs of the same value, from `at` on, as far as they fit.
fn join_values(string: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_MAX {
        let Some(run) = Run::read(string, at) else { return };
        let next = Run::read(string, at + 1).filter(|next| run.value > 0 && next.value == run.value);
        match next.map(|next| run.len + next.len).filter(|len| *len <= VALUE_RUN_MAX) {
            Some(len) => {
                string[at + 1] = value_run(run.value, len);
                string.remove(at);
            }
            None => at += run.bytes(),
        }
    }
}

fn value_run(value: u8, len: usize) -> u8 {
    assert!((1..=VALUE_MAX).contains(&value) && (1..=VALUE_RUN_MAX).contains(&len));
    VALUE | (value - 1) << 2 | (len - 1) as u8
}

/// Appends `len` zeros as one run.
pub(super) fn push_zeros(out: &mut impl Extend<u8>, len: usize) {
    assert!((1..=REGISTERS).contains(&len));
    let [high, low] = ((len - 1) as u16).to_be_bytes();
    if len <= SHORT_ZEROS_MAX { out.extend([low]) } else { out.extend([LONG_ZEROS | high, low]) }
}
