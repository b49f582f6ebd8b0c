//! Unsigned integers of any length, as far as reading and printing floats exactly needs them. Nothing here is
//! fast; ordinary numbers don't come this way (see `extended`).

use std::cmp::Ordering;

/// Little-endian limbs, without zeros at the top.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Big(Vec<u32>);

const BILLION: u32 = 1_000_000_000;

impl Big {
    pub fn from_u64(value: u64) -> Self {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }
    /// The number that decimal digits spell.
    pub fn from_digits(digits: impl Iterator<Item = u8>) -> Self {
        let mut big = Big(Vec::new());
        for digit in digits {
            big.multiply_add(10, (digit - b'0') as u32);
        }
        big
    }
    /// Times `10^power`.
    pub fn scale_ten(&mut self, power: u32) {
        for _ in 0..power / 9 {
            self.multiply_add(BILLION, 0);
        }
        self.multiply_add(10u32.pow(power % 9), 0);
    }
    /// Times `2^shift`.
    pub fn shift_left(&mut self, shift: u32) {
        self.multiply_add(1 << (shift % 32), 0);
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, shift as usize / 32));
        }
    }
    /// Bits up to the highest one that is set.
    pub fn bits(&self) -> u32 {
        self.0.last().map_or(0, |top| self.0.len() as u32 * 32 - top.leading_zeros())
    }
    /// The highest 128 bits (or fewer, of a shorter number), how many bits stand below them, and whether any of
    /// those is set.
    pub fn highest(&self) -> (u128, u32, bool) {
        let below = self.bits().saturating_sub(128);
        let mut value = 0u128;
        let mut rest = false;
        for (at, &limb) in self.0.iter().enumerate().rev() {
            let place = at as i64 * 32 - below as i64;
            match place {
                0.. => value |= (limb as u128) << place,
                -31..0 => {
                    value |= (limb >> -place) as u128;
                    rest |= limb << (32 + place) != 0;
                }
                ..-31 => rest |= limb != 0,
            }
        }
        (value, below, rest)
    }
    /// `floor(self / divisor * 2^exponent)` with at least 67 bits, that exponent, and whether a rest remained.
    /// Neither may be 0.
    pub fn quotient(mut self, mut divisor: Big) -> (u128, i32, bool) {
        const STEPS: i32 = 68;
        let difference = self.bits() as i32 - divisor.bits() as i32;
        if difference < 0 {
            self.shift_left(-difference as u32);
        } else {
            divisor.shift_left(difference as u32);
        }
        // Both are of one length now, so the quotient is between 1/2 and 2: one binary digit per step.
        let mut quotient = 0u128;
        for _ in 0..STEPS {
            quotient <<= 1;
            if self.compare(&divisor) != Ordering::Less {
                self.subtract(&divisor);
                quotient |= 1;
            }
            self.shift_left(1);
        }
        (quotient, STEPS - 1 - difference, !self.0.is_empty())
    }
    /// Decimal digits.
    pub fn into_decimal(mut self) -> String {
        let mut groups = Vec::new();
        while !self.0.is_empty() {
            groups.push(self.divide_small(BILLION));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = addend as u64;
        for limb in &mut self.0 {
            carry += *limb as u64 * factor as u64;
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }
    fn divide_small(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for limb in self.0.iter_mut().rev() {
            rest = rest << 32 | *limb as u64;
            *limb = (rest / divisor as u64) as u32;
            rest %= divisor as u64;
        }
        self.trim();
        rest as u32
    }
    fn compare(&self, other: &Big) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
    /// `other` must not be greater.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0i64;
        for (at, limb) in self.0.iter_mut().enumerate() {
            borrow += *limb as i64 - other.0.get(at).copied().unwrap_or(0) as i64;
            *limb = borrow as u32;
            borrow >>= 32;
        }
        debug_assert_eq!(borrow, 0);
        self.trim();
    }
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_digits_survive_a_round_trip() {
        for text in ["1", "999999999", "1000000000", "340282366920938463463374607431768211456"] {
            assert_eq!(Big::from_digits(text.bytes()).into_decimal(), text);
        }
        assert_eq!(Big::from_u64(0).into_decimal(), "0");
    }

    #[test]
    fn the_highest_bits_come_with_what_stands_below_them() {
        let mut big = Big::from_u64(5);
        assert_eq!(big.highest(), (5, 0, false));
        big.shift_left(200);
        assert_eq!(big.highest(), (5 << 125, 75, false));
        big.multiply_add(1, 1);
        assert_eq!(big.highest(), (5 << 125, 75, true));
    }

    #[test]
    fn a_quotient_has_its_binary_digits_and_tells_of_a_rest() {
        assert_eq!(Big::from_u64(6).quotient(Big::from_u64(3)), (1 << 67, 66, false));
        let (third, exponent, rest) = Big::from_u64(1).quotient(Big::from_u64(3));
        assert!(rest);
        assert_eq!(third, (1u128 << exponent) / 3);
    }
}
