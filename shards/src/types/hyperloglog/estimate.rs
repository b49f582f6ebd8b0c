//! The estimate from how many registers have which value: Ertl, "New cardinality estimation algorithms for HyperLogLog
//! sketches" (arXiv:1702.01284), the improved raw estimator, as in Redis since 5.0.

use super::{PATTERN_BITS, REGISTERS};

const VALUES: usize = 64;
/// 1 / (2 ln 2).
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// How many registers have each value.
pub(super) struct Histogram([u32; VALUES]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; VALUES])
    }
}

/// How many pairs of registers have each two values: half as many additions as one by one. Two tables in turn, as adding to
/// one place again and again would wait for the addition before.
pub(super) struct Pairs(Box<[[u16; VALUES * VALUES]; 2]>);

impl Default for Pairs {
    fn default() -> Self {
        Pairs(Box::new([[0; VALUES * VALUES]; 2]))
    }
}

impl Pairs {
    /// Two pairs of values, 6 bits each.
    #[inline]
    pub fn add(&mut self, one: u16, other: u16) {
        self.0[0][one as usize % (VALUES * VALUES)] += 1;
        self.0[1][other as usize % (VALUES * VALUES)] += 1;
    }
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for table in self.0.iter() {
            for (high, row) in table.as_chunks::<VALUES>().0.iter().enumerate() {
                histogram.0[high] += row.iter().map(|count| *count as u32).sum::<u32>();
                histogram.0.iter_mut().zip(row).for_each(|(sum, count)| *sum += *count as u32);
            }
        }
        histogram
    }
}

impl Histogram {
    pub fn add(&mut self, value: u8, registers: usize) {
        self.0[value as usize % VALUES] += registers as u32;
    }
    /// At most 2^63, which crafted registers can exceed: as an integer of a reply that is negative, and so it is in Redis.
    pub fn estimate(&self) -> u64 {
        let registers = |value: usize| self.0[value] as f64;
        let all = REGISTERS as f64;
        let top = PATTERN_BITS as usize + 1;
        let highest = all * tau((all - registers(top)) / all);
        let sum = (1..top).rev().fold(highest, |sum, value| (sum + registers(value)) * 0.5);
        let sum = sum + all * sigma(registers(0) / all);
        let estimate = (ALPHA * all * all / sum).round();
        estimate.min((1u64 << 63) as f64) as u64
    }
}

/// Of the share of registers that are zero.
fn sigma(share: f64) -> f64 {
    if share == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (share, 1.0, share);
    loop {
        x *= x;
        let last = z;
        z += x * y;
        y += y;
        if z == last {
            return z;
        }
    }
}

/// Of the share of registers that are not at their highest value.
fn tau(share: f64) -> f64 {
    if share == 0.0 || share == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (share, 1.0, 1.0 - share);
    loop {
        x = x.sqrt();
        let last = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == last {
            return z / 3.0;
        }
    }
}
