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
#[inline]
fn read_score(bytes: &[u8]) -> (f64, usize) {
    let len = bytes[0] as usize;
    // Mostly there are eight bytes to be read at once, of which some are not the score's.
    let wide = match bytes[1..].first_chunk() {
        Some(wide) => u64::from_le_bytes(*wide),
        None => (1..1 + len).rev().fold(0, |wide, at| wide << 8 | bytes[at] as u64),
    };
    let score = match len {
        8 => f64::from_bits(wide),
        _ => unzigzag(wide & ((1 << (8 * len)) - 1)) as f64,
    };
    (score, 1 + len)
}

/// The member whose length is at `at`.
#[inline]
fn member_range(bytes: &[u8], at: usize) -> Range<usize> {
    let len = bytes[at] as usize;
    if len < 0x80 { at + 1..at + 1 + len } else { long_member_range(bytes, at) }
}

#[cold]
fn long_member_range(bytes: &[u8], at: usize) -> Range<usize> {
    let mut decoder = Decoder::new(&bytes[at..]);
    let len = decoder.string().expect("a run holds whole elements").len();
    let end = at + decoder.at();
    end - len..end
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
        let range = member_range(self.bytes, used);
        let (member, end) = (&self.bytes[range.clone()], range.end);
        self.bytes = &self.bytes[end..];
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
    let mut at = 0;
    while at < bytes.len() {
        let range = member_range(bytes, at + 1 + bytes[at] as usize);
        let end = range.end;
        // Members of one set often begin with the same, and differ in the last byte.
        let may_be = range.len() == member.len() && bytes[end - 1] == *member.last().unwrap_or(&bytes[end - 1]);
        if may_be && bytes[range] == *member {
            return Some(read_score(&bytes[at..]).0);
        }
        at = end;
    }
    None
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
    at..member_range(bytes, at + 1 + bytes[at] as usize).end
}

/// Where the element of this number begins.
pub(super) fn place(bytes: &[u8], number: usize) -> usize {
    (0..number).fold(0, |at, _| range(bytes, at).end)
}
