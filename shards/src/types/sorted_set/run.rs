//! A run of elements in order, as bytes: what packs of small sorted sets and leaves of large ones are.
//!
//! ```text
//! | score length 0-7 | whole score, zigzag, little endian | member length | member | ...
//! | 8                | score, a double                    | member length | member | ...
//! ```

use super::Bound;
use crate::types::room;
use crate::wire::{Decoder, number, unzigzag, zigzag};
use std::ops::Range;

/// Whole scores below this, of either sign, are kept as integers of up to seven bytes.
const WHOLE_MAX: f64 = (1u64 << 54) as f64;

pub(super) type Element<'a> = (f64, &'a [u8]);

/// The score in its shortest form.
pub(super) fn write_score(out: &mut Vec<u8>, score: f64) {
    let is_whole = score.trunc() == score && score.abs() < WHOLE_MAX && (score != 0.0 || score.is_sign_positive());
    if is_whole {
        let bits = zigzag(score as i64);
        let len = 8 - bits.leading_zeros() as usize / 8;
        out.push(len as u8);
        out.extend_from_slice(&bits.to_le_bytes()[..len]);
    } else {
        out.push(8);
        out.extend_from_slice(&score.to_le_bytes());
    }
}

/// A score that `write_score` wrote, and how many bytes it takes.
pub(super) fn read_score(bytes: &[u8]) -> (f64, usize) {
    let len = bytes[0] as usize;
    let mut wide = [0; 8];
    wide[..len].copy_from_slice(&bytes[1..1 + len]);
    let score = if len == 8 { f64::from_le_bytes(wide) } else { unzigzag(u64::from_le_bytes(wide)) as f64 };
    (score, 1 + len)
}

/// All elements, in order.
#[derive(Clone)]
pub(super) struct Elements<'a> {
    bytes: &'a [u8],
}

pub(super) fn elements(bytes: &[u8]) -> Elements<'_> {
    Elements { bytes }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;
    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        let (score, used) = read_score(self.bytes);
        let mut at = Decoder::new(&self.bytes[used..]);
        let member = at.string().expect("a run holds whole elements");
        self.bytes = &self.bytes[used + at.at()..];
        Some((score, member))
    }
}

/// The first element; a run that is looked at has one.
pub(super) fn first(bytes: &[u8]) -> Element<'_> {
    elements(bytes).next().expect("no run is empty")
}

/// The score of a member, if it is there.
#[inline]
pub(super) fn score_of(bytes: &[u8], member: &[u8]) -> Option<f64> {
    elements(bytes).find(|(_, other)| *other == member).map(|(score, _)| score)
}

/// How many elements lie before a bound, and where the next begins.
pub(super) fn find(bytes: &[u8], bound: &Bound<'_>) -> (usize, usize) {
    let (mut number, mut rest) = (0, elements(bytes));
    loop {
        let at = bytes.len() - rest.bytes.len();
        match rest.next() {
            Some((score, member)) if bound.is_behind(score, || member) => number += 1,
            Some(_) | None => return (number, at),
        }
    }
}

/// Puts an element where it belongs, which is at `at`.
pub(super) fn insert(bytes: &mut Vec<u8>, at: usize, score: f64, member: &[u8]) {
    let mut new = Vec::with_capacity(member.len() + 14);
    write_score(&mut new, score);
    number(&mut new, member.len() as u64);
    new.extend_from_slice(member);
    room::reserve(bytes, new.len());
    bytes.splice(at..at, new);
}

/// The bytes of the element that begins at `at`.
pub(super) fn range(bytes: &[u8], at: usize) -> Range<usize> {
    let mut rest = elements(&bytes[at..]);
    rest.next();
    at..bytes.len() - rest.bytes.len()
}

/// Where the element of this number begins.
pub(super) fn place(bytes: &[u8], number: usize) -> usize {
    let mut rest = elements(bytes);
    (0..number).for_each(|_| {
        rest.next();
    });
    bytes.len() - rest.bytes.len()
}
