//! The shard's own source of randomness: seeded, so that the same seed gives the same run (xoroshiro-style
//! generators are overkill here; this is splitmix64, Steele et al., "Fast splittable pseudorandom number
//! generators", OOPSLA 2014).

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Uniform in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift: the bias is below 2^-32 for every bound that fits a shard's memory.
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }
}
