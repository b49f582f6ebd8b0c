//! HyperLogLogs, byte for byte as Redis 7 keeps them in strings: counts of distinct elements with a standard error of
//! 0.81 % (Flajolet et al., "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", AofA 2007).
//!
//! ```text
//! | "HYLL" 4 | encoding 1 | unused 3 | count 8, little endian | registers |
//! ```
//!
//! The cached count is valid unless its highest bit is set. Registers are packed at 6 bits (`dense`) or as runs of equal
//! ones (`sparse`). Any client can write such a string with SET, so nothing in one is trusted: `Sketch::open` checks header
//! and length, and every walk over runs ends at the last register, with `CORRUPTED` where they don't add up.

mod dense;
mod estimate;
mod sparse;
#[cfg(test)]
mod tests;

use crate::error::CommandError;
use estimate::{Histogram, Pairs};
use sparse::Outcome;
pub use sparse::Run;

pub const CORRUPTED: CommandError = CommandError::new("INVALIDOBJ Corrupted HLL object detected");
pub const NOT_A_HYPERLOGLOG: CommandError = CommandError::new("WRONGTYPE Key is not a valid HyperLogLog string value.");

const INDEX_BITS: u32 = 14;
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that are left for the pattern: the longest is one more.
const PATTERN_BITS: u32 = 64 - INDEX_BITS;

const HEADER_BYTES: usize = 16;
pub const DENSE_BYTES: usize = HEADER_BYTES + dense::BYTES;
const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
/// The byte with the bit that makes the cached count invalid.
pub const INVALID_AT: usize = 15;
pub const INVALID_BIT: u8 = 0x80;

/// How registers are kept; the discriminant is the byte of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Dense = 0,
    Sparse = 1,
}

/// What an element leaves behind: the register it belongs to, and the least that this has to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub index: usize,
    pub count: u8,
}

impl Mark {
    #[inline]
    pub fn of(element: &[u8]) -> Self {
        let hash = murmur_64a(element);
        // A bit behind the last one ends the run of zeros of any hash.
        let pattern = hash >> INDEX_BITS | 1 << PATTERN_BITS;
        Mark { index: hash as usize % REGISTERS, count: pattern.trailing_zeros() as u8 + 1 }
    }
}

/// MurmurHash64A (Appleby), under the seed of Redis.
fn murmur_64a(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(M);
        hash = (hash ^ (word ^ word >> R).wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | byte as u64);
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

/// A string with the header of a HyperLogLog and, if dense, of the right length. Its runs, if sparse, are unchecked.
#[derive(Clone, Copy, Debug)]
pub struct Sketch<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
}

impl<'a> Sketch<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, CommandError> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(NOT_A_HYPERLOGLOG);
        }
        let encoding = match bytes[ENCODING_AT] {
            0 if bytes.len() == DENSE_BYTES => Encoding::Dense,
            1 => Encoding::Sparse,
            _ => return Err(NOT_A_HYPERLOGLOG),
        };
        Ok(Sketch { bytes, encoding })
    }
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
    /// The count of the header, if it is valid.
    pub fn cached_count(&self) -> Option<u64> {
        let count = self.bytes[COUNT_AT..HEADER_BYTES].try_into().map(u64::from_le_bytes).expect("eight bytes");
        (self.bytes[INVALID_AT] & INVALID_BIT == 0).then_some(count)
    }
    /// The estimate, whatever the header says.
    pub fn count(&self) -> Result<u64, CommandError> {
        match self.encoding {
            Encoding::Dense => {
                let mut pairs = Pairs::default();
                dense::each_four(self.registers(), |one, other| pairs.add(one, other));
                Ok(pairs.histogram().estimate())
            }
            Encoding::Sparse => {
                let mut histogram = Histogram::default();
                sparse::walk(self.registers(), |_, run| histogram.add(run.value, run.len))?;
                Ok(histogram.estimate())
            }
        }
    }
    /// Whether `mark` would change a register.
    #[inline]
    pub fn lacks(&self, mark: Mark) -> Result<bool, CommandError> {
        let held = match self.encoding {
            Encoding::Dense => dense::get(self.registers(), mark.index),
            Encoding::Sparse => sparse::find(self.registers(), mark.index).ok_or(CORRUPTED)?.run.value,
        };
        Ok(held < mark.count)
    }
    /// For a dense one: where bytes of the string change, and to what, so that the register of `mark` holds its count.
    pub fn dense_change(&self, mark: Mark) -> (usize, dense::Bytes) {
        assert_eq!(self.encoding, Encoding::Dense, "runs have no place of their own for a register");
        let (at, bytes) = dense::with(self.registers(), mark.index, mark.count);
        (HEADER_BYTES + at, bytes)
    }
    /// The runs of a sparse one, with the index of the first register of each.
    pub fn walk(&self, visit: impl FnMut(usize, Run)) -> Result<(), CommandError> {
        assert_eq!(self.encoding, Encoding::Sparse, "there are no runs");
        sparse::walk(self.registers(), visit)
    }
    fn registers(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// One byte per register: where the registers of several HyperLogLogs meet.
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Self {
        Registers(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Raises each register to that of `sketch`, where that is higher. After an error some may have been.
    pub fn raise(&mut self, sketch: Sketch<'_>) -> Result<(), CommandError> {
        let registers = &mut self.0;
        match sketch.encoding {
            Encoding::Dense => {
                dense::each_eight(sketch.registers(), |at, eight| {
                    registers[at..at + 8].iter_mut().zip(eight).for_each(|(held, value)| *held = value.max(*held));
                });
                Ok(())
            }
            Encoding::Sparse => sparse::walk(sketch.registers(), |at, run| {
                if run.value > 0 {
                    registers[at..at + run.len].iter_mut().for_each(|held| *held = run.value.max(*held));
                }
            }),
        }
    }
    pub fn count(&self) -> u64 {
        let mut pairs = Pairs::default();
        let pair = |low: u8, high: u8| low as u16 | (high as u16) << 6;
        self.0.as_chunks::<4>().0.iter().for_each(|[a, b, c, d]| pairs.add(pair(*a, *b), pair(*c, *d)));
        pairs.histogram().estimate()
    }
    pub fn values(&self) -> &[u8; REGISTERS] {
        &self.0
    }
    /// Marks that make an empty HyperLogLog hold the same.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        let set = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        set.map(|(index, &count)| Mark { index, count })
    }
}

/// A HyperLogLog that is being changed, as the string it will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    encoding: Encoding,
}

impl Default for Draft {
    /// The empty one, sparse.
    fn default() -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[ENCODING_AT] = Encoding::Sparse as u8;
        sparse::push_zeros(&mut bytes, REGISTERS);
        Draft { bytes, encoding: Encoding::Sparse }
    }
}

impl Draft {
    pub fn of(sketch: Sketch<'_>) -> Self {
        Draft { bytes: sketch.bytes.to_vec(), encoding: sketch.encoding }
    }
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    pub fn sketch(&self) -> Sketch<'_> {
        Sketch { bytes: &self.bytes, encoding: self.encoding }
    }
    /// Makes the register of `mark` hold its count at least; whether that changed it. Becomes dense where runs can't say it, or
    /// not in a string of `sparse_bytes_max`. After an error nothing has changed.
    pub fn add(&mut self, mark: Mark, sparse_bytes_max: u64) -> Result<bool, CommandError> {
        if self.encoding == Encoding::Sparse {
            let len_max = sparse_bytes_max.saturating_sub(HEADER_BYTES as u64);
            match sparse::raise(&mut self.bytes, HEADER_BYTES, mark, len_max)? {
                Outcome::Same => return Ok(false),
                Outcome::Changed => return Ok(true),
                Outcome::TooLarge => self.make_dense()?,
            };
        }
        let sketch = self.sketch();
        if !sketch.lacks(mark)? {
            return Ok(false);
        }
        let (at, bytes) = sketch.dense_change(mark);
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        Ok(true)
    }
    /// Whether it was sparse. The header stays, cached count included. After an error nothing has changed.
    pub fn make_dense(&mut self) -> Result<bool, CommandError> {
        if self.encoding == Encoding::Dense {
            return Ok(false);
        }
        let mut bytes = vec![0; DENSE_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(&self.bytes[..HEADER_BYTES]);
        bytes[ENCODING_AT] = Encoding::Dense as u8;
        let registers = &mut bytes[HEADER_BYTES..];
        sparse::walk(&self.bytes[HEADER_BYTES..], |first, run| {
            if run.value > 0 {
                (first..first + run.len).for_each(|index| dense::set(registers, index, run.value));
            }
        })?;
        (self.bytes, self.encoding) = (bytes, Encoding::Dense);
        Ok(true)
    }
    /// The cached count is one of the past from here on.
    pub fn invalidate(&mut self) {
        self.bytes[INVALID_AT] |= INVALID_BIT;
    }
}
