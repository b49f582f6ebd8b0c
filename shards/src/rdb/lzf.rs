//! LZF, the compression of strings in RDB (Marc Lehmann's LibLZF): runs of bytes as they are, and references to bytes that came
//! at most 8 KiB before.
//!
//! ```text
//! 000nnnnn                     n + 1 bytes follow
//! lllooooo oooooooo            l + 2 bytes (l of 1 to 6) from o + 1 bytes back
//! 111ooooo llllllll oooooooo   l + 9 bytes from o + 1 bytes back
//! ```

use super::RdbError;

const RUN_MAX: usize = 32;
const BACK_MAX: usize = 1 << 13;
const COPY_MIN: usize = 3;
const COPY_MAX: usize = 7 + 255 + 2;
/// A reference of this many bytes can't give more than `COPY_MAX`.
const LONG_REFERENCE_BYTES: usize = 3;
const TABLE_BITS_MAX: u32 = 14;

/// No compressed string of `len` bytes is longer than this.
pub fn expanded_max(len: u64) -> u64 {
    len.saturating_mul(COPY_MAX as u64) / LONG_REFERENCE_BYTES as u64 + RUN_MAX as u64
}

/// Appends what `compressed` says, which must come to `len` bytes: the caller has checked them by `expanded_max`.
pub fn expand(compressed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), RdbError> {
    const BAD: RdbError = RdbError::Corrupt("a compressed string is damaged");
    let start = out.len();
    let end = start + len;
    let mut input = compressed.iter();
    while let Some(&control) = input.next() {
        if (control as usize) < RUN_MAX {
            let (run, rest) = input.as_slice().split_at_checked(control as usize + 1).ok_or(BAD)?;
            if out.len() + run.len() > end {
                return Err(BAD);
            }
            out.extend_from_slice(run);
            input = rest.iter();
            continue;
        }
        let mut copy = (control >> 5) as usize + 2;
        if control >> 5 == 7 {
            copy += *input.next().ok_or(BAD)? as usize;
        }
        let back = ((control & 0x1f) as usize) << 8 | *input.next().ok_or(BAD)? as usize;
        let from = (out.len() - start).checked_sub(back + 1).ok_or(BAD)? + start;
        if out.len() + copy > end {
            return Err(BAD);
        }
        if from + copy <= out.len() {
            out.extend_from_within(from..from + copy);
        } else {
            // It overlaps what it makes: a short pattern, again and again.
            (from..from + copy).for_each(|at| out.push(out[at]));
        }
    }
    if out.len() == end { Ok(()) } else { Err(BAD) }
}

/// Memory that is used again from string to string.
#[derive(Default)]
pub struct Compressor {
    /// By a hash of three bytes, where they were seen last, plus 1.
    seen: Vec<u32>,
    out: Vec<u8>,
}

impl Compressor {
    /// `bytes` compressed, if that takes at most `len_max` bytes.
    pub fn compress(&mut self, bytes: &[u8], len_max: usize) -> Option<&[u8]> {
        if u32::try_from(bytes.len()).is_err() {
            return None;
        }
        let bits = bytes.len().next_power_of_two().ilog2().clamp(4, TABLE_BITS_MAX);
        self.seen.clear();
        self.seen.resize(1 << bits, 0);
        self.out.clear();
        let (mut at, mut plain_from) = (0, 0);
        while at + COPY_MIN <= bytes.len() {
            let key = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0]);
            let slot = (key.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize;
            let before = std::mem::replace(&mut self.seen[slot], at as u32 + 1) as usize;
            let is_near = before > 0 && at - (before - 1) <= BACK_MAX;
            let copy = if is_near { common_len(bytes, before - 1, at) } else { 0 };
            if copy < COPY_MIN {
                at += 1;
                continue;
            }
            self.plain(&bytes[plain_from..at]);
            self.reference(at - (before - 1) - 1, copy);
            if self.out.len() > len_max {
                return None;
            }
            at += copy;
            plain_from = at;
        }
        self.plain(&bytes[plain_from..]);
        (self.out.len() <= len_max).then_some(&self.out)
    }

    fn plain(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(RUN_MAX) {
            self.out.push(run.len() as u8 - 1);
            self.out.extend_from_slice(run);
        }
    }

    fn reference(&mut self, back: usize, copy: usize) {
        let (high, low) = ((back >> 8) as u8, back as u8);
        match copy - 2 {
            short @ 1..7 => self.out.push((short as u8) << 5 | high),
            long => self.out.extend([7 << 5 | high, (long - 7) as u8]),
        }
        self.out.push(low);
    }
}

fn common_len(bytes: &[u8], before: usize, at: usize) -> usize {
    let there = bytes[at..].iter().take(COPY_MAX);
    there.zip(&bytes[before..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(compressed: &[u8], len: usize) -> Result<Vec<u8>, RdbError> {
        let mut out = b"before".to_vec();
        expand(compressed, len, &mut out).map(|()| out.split_off(6))
    }

    #[test]
    fn what_is_compressed_expands_to_the_same() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut compressor = Compressor::default();
        for round in 0..400 {
            let (len, letters) = (random.usize(..40) * random.usize(1..400), random.u8(1..=255));
            let bytes: Vec<u8> =
                (0..len).map(|at| if round % 3 == 0 { (at / 9) as u8 } else { random.u8(..letters) }).collect();
            let compressed = compressor.compress(&bytes, usize::MAX).expect("any length will do").to_vec();
            assert!(bytes.len() as u64 <= expanded_max(compressed.len() as u64));
            assert_eq!(expanded(&compressed, bytes.len()), Ok(bytes.clone()));
            assert!(expanded(&compressed, bytes.len() + 1).is_err());
            assert!(bytes.is_empty() || expanded(&compressed, bytes.len() - 1).is_err());
        }
        let same = compressor.compress(&[7; 100_000], 50_000).expect("one byte over and over").len();
        assert!(same < 1200, "{same}");
        assert!(compressor.compress(b"abcdefghijklmnopqrstuvwxyz", 22).is_none());
    }

    #[test]
    fn any_bytes_expand_or_are_refused() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..30)).map(|_| random.u8(..)).collect();
            let len = random.usize(..200);
            assert!(expanded(&bytes, len).is_ok_and(|out| out.len() == len) || expanded(&bytes, len).is_err());
        }
    }
}
