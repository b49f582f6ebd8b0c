//! Dense registers: 6 bits each, from the lowest bit of the first byte upwards. A register lies in one byte or in two.

use super::REGISTERS;
use smallvec::{SmallVec, smallvec};

const REGISTER_BITS: usize = 6;
const REGISTER_MASK: u16 = (1 << REGISTER_BITS) - 1;
pub(super) const BYTES: usize = REGISTERS * REGISTER_BITS / 8;

/// The bytes that a register lies in.
pub type Bytes = SmallVec<[u8; 2]>;

/// The first byte of a register, and the bit in it.
fn place(index: usize) -> (usize, usize) {
    (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8)
}

/// The byte at a place and the one behind it; there is none behind the last.
fn pair(registers: &[u8], at: usize) -> u16 {
    registers[at] as u16 | (registers.get(at + 1).copied().unwrap_or(0) as u16) << 8
}

#[inline]
pub(super) fn get(registers: &[u8], index: usize) -> u8 {
    let (at, shift) = place(index);
    (pair(registers, at) >> shift & REGISTER_MASK) as u8
}

/// Where a register lies, and the bytes there with `value` in it.
pub(super) fn with(registers: &[u8], index: usize, value: u8) -> (usize, Bytes) {
    let (at, shift) = place(index);
    let changed = pair(registers, at) & !(REGISTER_MASK << shift) | (value as u16 & REGISTER_MASK) << shift;
    let [low, high] = changed.to_le_bytes();
    (at, if shift + REGISTER_BITS <= 8 { smallvec![low] } else { smallvec![low, high] })
}

pub(super) fn set(registers: &mut [u8], index: usize, value: u8) {
    let (at, bytes) = with(registers, index, value);
    registers[at..at + bytes.len()].copy_from_slice(&bytes);
}

/// All registers in groups of eight, which fill six bytes, with the index of the first of each.
#[inline]
pub(super) fn each_eight(registers: &[u8], mut visit: impl FnMut(usize, [u8; 8])) {
    for (group, six) in registers.as_chunks::<6>().0.iter().enumerate() {
        let word = six.iter().rev().fold(0, |word, &byte| word << 8 | byte as u64);
        let eight = std::array::from_fn(|at| (word >> (at * REGISTER_BITS)) as u8 & REGISTER_MASK as u8);
        visit(group * 8, eight);
    }
}

/// All registers in groups of four, which fill three bytes, as two pairs of 6 bits each.
#[inline]
pub(super) fn each_four(registers: &[u8], mut visit: impl FnMut(u16, u16)) {
    for [a, b, c] in registers.as_chunks::<3>().0 {
        let word = *a as u32 | (*b as u32) << 8 | (*c as u32) << 16;
        visit((word & 0xfff) as u16, (word >> 12) as u16);
    }
}
