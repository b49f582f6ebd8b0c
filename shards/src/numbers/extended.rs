//! Floats with 64 bits of mantissa: the `long double` of x86-64, in which Redis computes INCRBYFLOAT.
//!
//! Computed in integers, so that the digits are those of Redis whatever machine this runs on: text is read with
//! one correct rounding, a sum is rounded once (ties to even), and `Display` prints the exact value rounded to
//! 17 decimals without an exponent (`%.17Lf`), without trailing zeros. Also reads the hexadecimal floats of
//! `strtod`, which the fast parser for doubles doesn't know.

use super::big::Big;
use std::fmt;

/// `mantissa * 2^exponent`, or infinite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extended {
    Finite { negative: bool, mantissa: u64, exponent: i32 },
    Infinite { negative: bool },
}

/// How many bits a kind of float keeps, and how far it reaches.
struct Precision {
    bits: i32,
    /// Exponent of the lowest bit of the smallest number.
    exponent_min: i32,
    /// Every number is below `2^exponent_max`.
    exponent_max: i32,
}

const EXTENDED: Precision = Precision { bits: 64, exponent_min: -16445, exponent_max: 16384 };
const DOUBLE: Precision = Precision { bits: 53, exponent_min: -1074, exponent_max: 1024 };

/// Decimals that Redis prints of a `long double` (LD_STR_HUMAN).
const DECIMALS: usize = 17;
const DECIMALS_SCALE: u64 = 100_000_000_000_000_000;

/// Texts as long as this are no numbers to Redis (MAX_LONG_DOUBLE_CHARS).
const TEXT_BYTES_END: usize = 5 * 1024;

impl Extended {
    pub const ZERO: Extended = Extended::Finite { negative: false, mantissa: 0, exponent: 0 };

    pub fn from_integer(value: i64) -> Self {
        Extended::Finite { negative: value < 0, mantissa: value.unsigned_abs(), exponent: 0 }
    }
    /// What strtold makes of the whole text; not `nan`, nor what is too large or too small to be told from zero.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_END {
            return None;
        }
        let Literal { negative, body } = Literal::scan(text)?;
        let (mantissa, exponent) = match body {
            Body::Infinity => return Some(Extended::Infinite { negative }),
            Body::Hexadecimal(number) => number.round(&EXTENDED)?,
            Body::Decimal(number) => number.round(&EXTENDED)?,
        };
        Some(Extended::Finite { negative, mantissa, exponent })
    }
    /// The rounded sum; `None` when that is infinite or no number.
    pub fn checked_add(self, other: Extended) -> Option<Self> {
        let (
            Extended::Finite { negative, mantissa, exponent },
            Extended::Finite { negative: negative2, mantissa: mantissa2, exponent: exponent2 },
        ) = (self, other)
        else {
            return None;
        };
        let (large, small) = {
            let a = (negative, normal(mantissa, exponent));
            let b = (negative2, normal(mantissa2, exponent2));
            // Mantissas have their highest bit set (or are 0): exponents decide first.
            if (a.1.1, a.1.0) >= (b.1.1, b.1.0) { (a, b) } else { (b, a) }
        };
        let (negative, (mantissa, exponent)) = large;
        // 62 bits below the mantissa: what falls off below them can only break a tie.
        let distance = exponent.saturating_sub(small.1.1).min(127) as u32;
        let wide = (mantissa as u128) << 62;
        let wide2 = (small.1.0 as u128) << 62;
        let addend = wide2 >> distance;
        let lost = addend << distance != wide2;
        let sum = if negative == small.0 { wide + addend } else { wide - addend - lost as u128 };
        if sum == 0 {
            return Some(Self::ZERO);
        }
        let (mantissa, exponent) = Number { value: sum, exponent: exponent - 62, rest: lost }.round(&EXTENDED)?;
        Some(Extended::Finite { negative, mantissa, exponent })
    }
}

/// The highest bit of the mantissa at the top; zero gets an exponent below all others.
fn normal(mantissa: u64, exponent: i32) -> (u64, i32) {
    match mantissa {
        0 => (0, i32::MIN / 2),
        _ => (mantissa << mantissa.leading_zeros(), exponent - mantissa.leading_zeros() as i32),
    }
}

impl fmt::Display for Extended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (negative, mantissa, exponent) = match *self {
            Extended::Infinite { negative } => return out.write_str(if negative { "-inf" } else { "inf" }),
            Extended::Finite { negative, mantissa, exponent } => (negative, mantissa, exponent),
        };
        let sign = if negative { "-" } else { "" };
        if exponent >= 0 {
            let mut whole = Big::from_u64(mantissa);
            whole.shift_left(exponent as u32);
            return write!(out, "{sign}{}", whole.into_decimal());
        }
        // 64 bits times 10^17 (57 bits) fit.
        let scaled = mantissa as u128 * DECIMALS_SCALE as u128;
        let rounded = shift_right_to_even(scaled, exponent.unsigned_abs(), false);
        let (whole, fraction) = (rounded / DECIMALS_SCALE as u128, (rounded % DECIMALS_SCALE as u128) as u64);
        match (whole, fraction) {
            (0, 0) => out.write_str("0"),
            (_, 0) => write!(out, "{sign}{whole}"),
            _ => {
                let digits = format!("{fraction:0DECIMALS$}");
                write!(out, "{sign}{whole}.{}", digits.trim_end_matches('0'))
            }
        }
    }
}

/// A double in the hexadecimal spelling of C (`0x1.8p3`), without its sign.
pub(super) fn parse_hexadecimal_double(unsigned: &[u8]) -> Option<f64> {
    let (mantissa, exponent) = scan_hexadecimal(unsigned)?.round(&DOUBLE)?;
    // Two exact steps: the mantissa is rounded already, and 2^exponent alone may be below the smallest double.
    let half = exponent / 2;
    Some(mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half))
}

/// A float as it is written, split but not yet rounded.
struct Literal<'a> {
    negative: bool,
    body: Body<'a>,
}

enum Body<'a> {
    Infinity,
    Hexadecimal(Number),
    Decimal(Decimal<'a>),
}

impl<'a> Literal<'a> {
    fn scan(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = split_sign(text);
        let body = if is_infinity(unsigned) {
            Body::Infinity
        } else if is_hexadecimal(unsigned) {
            Body::Hexadecimal(scan_hexadecimal(unsigned)?)
        } else {
            Body::Decimal(Decimal::scan(unsigned)?)
        };
        Some(Literal { negative, body })
    }
}

pub(super) fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}
pub(super) fn is_infinity(unsigned: &[u8]) -> bool {
    unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity")
}
pub(super) fn is_hexadecimal(unsigned: &[u8]) -> bool {
    matches!(unsigned, [b'0', b'x' | b'X', ..])
}

/// `value * 2^exponent`, and whether something more stands below that was cut off.
struct Number {
    value: u128,
    exponent: i32,
    rest: bool,
}

impl Number {
    /// To the precision, ties to even. `None`: too large, or a number that became 0.
    fn round(&self, precision: &Precision) -> Option<(u64, i32)> {
        if self.value == 0 {
            return Some((0, 0));
        }
        let length = 128 - self.value.leading_zeros() as i32;
        let shift = (length - precision.bits).max(precision.exponent_min - self.exponent).max(0);
        let mut mantissa = shift_right_to_even(self.value, shift as u32, self.rest);
        let mut exponent = self.exponent + shift;
        if mantissa >> precision.bits != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
        let top = 128 - mantissa.leading_zeros() as i32 + exponent;
        (mantissa != 0 && top <= precision.exponent_max).then_some((mantissa as u64, exponent))
    }
}

/// `value / 2^shift`, to nearest, ties to even unless `rest` says that there is more below.
fn shift_right_to_even(value: u128, shift: u32, rest: bool) -> u128 {
    match shift {
        0 => value,
        1..=127 => {
            let kept = value >> shift;
            let cut = value & ((1 << shift) - 1);
            let half = 1 << (shift - 1);
            kept + (cut > half || cut == half && (rest || kept & 1 == 1)) as u128
        }
        128 => (value > 1 << 127 || value == 1 << 127 && rest) as u128,
        129.. => 0,
    }
}

/// Exponents of text are held within this, far outside what any precision has.
const EXPONENT_BOUND: i64 = 1 << 20;

fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| (value * 10 + (digit - b'0') as i64).min(EXPONENT_BOUND));
    Some(if negative { -value } else { value })
}

/// Splits at `mark`, of either case; what stands behind it is an exponent.
fn split_exponent(text: &[u8], mark: u8) -> Option<(&[u8], i64)> {
    match text.iter().position(|byte| byte.eq_ignore_ascii_case(&mark)) {
        None => Some((text, 0)),
        Some(at) => Some((&text[..at], scan_exponent(&text[at + 1..])?)),
    }
}

fn split_point(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b'.') {
        None => (text, &[]),
        Some(at) => (&text[..at], &text[at + 1..]),
    }
}

fn scan_hexadecimal(unsigned: &[u8]) -> Option<Number> {
    let (digits, power) = split_exponent(unsigned.get(2..)?, b'p')?;
    let (whole, fraction) = split_point(digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0u128;
    let mut cut_digits = 0i64;
    let mut rest = false;
    for &digit in whole.iter().chain(fraction) {
        let digit = (digit as char).to_digit(16)? as u128;
        if value >> 124 == 0 {
            value = value << 4 | digit;
        } else {
            cut_digits += 1;
            rest |= digit != 0;
        }
    }
    let exponent = power + 4 * (cut_digits - fraction.len() as i64);
    let exponent = exponent.clamp(-EXPONENT_BOUND, EXPONENT_BOUND) as i32;
    Some(Number { value, exponent, rest })
}

/// The digits before and behind the point, and the power of ten behind the `e`.
struct Decimal<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    power: i64,
}

/// Powers of five that fit 63 bits.
const SMALL_POWER_MAX: i64 = 27;

impl<'a> Decimal<'a> {
    fn scan(unsigned: &'a [u8]) -> Option<Self> {
        let (digits, power) = split_exponent(unsigned, b'e')?;
        let (whole, fraction) = split_point(digits);
        let valid = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        let some = !whole.is_empty() || !fraction.is_empty();
        (some && valid(whole) && valid(fraction)).then_some(Decimal { whole, fraction, power })
    }
    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied().skip_while(|&digit| digit == b'0')
    }
    fn round(&self, precision: &Precision) -> Option<(u64, i32)> {
        let count = self.digits().count() as i64;
        if count == 0 {
            return Some((0, 0));
        }
        // The number is digits * 10^power, below 10^(count + power).
        let power = self.power - self.fraction.len() as i64;
        if !(-5_000..=5_000).contains(&(count + power)) {
            return None;
        }
        if count <= 19 && power.abs() <= SMALL_POWER_MAX {
            let digits = self.digits().fold(0, |value, digit| value * 10 + (digit - b'0') as u64);
            return scale_small(digits, power as i32).round(precision);
        }
        scale_any(Big::from_digits(self.digits()), power as i32).round(precision)
    }
}

/// `digits * 10^power` for powers within `SMALL_POWER_MAX`; `digits` isn't 0.
fn scale_small(digits: u64, power: i32) -> Number {
    let five = 5u64.pow(power.unsigned_abs());
    if power >= 0 {
        return Number { value: digits as u128 * five as u128, exponent: power, rest: false };
    }
    let zeros = digits.leading_zeros();
    // 2^127 at least, divided by less than 2^63: more than 64 bits stay.
    let dividend = ((digits << zeros) as u128) << 64;
    Number {
        value: dividend / five as u128,
        exponent: power - 64 - zeros as i32,
        rest: !dividend.is_multiple_of(five as u128),
    }
}

/// As `scale_small`, for any power.
fn scale_any(mut digits: Big, power: i32) -> Number {
    if power >= 0 {
        digits.scale_ten(power as u32);
        let (value, below, rest) = digits.highest();
        return Number { value, exponent: below as i32, rest };
    }
    let mut ten = Big::from_u64(1);
    ten.scale_ten(power.unsigned_abs());
    let (value, exponent, rest) = digits.quotient(ten);
    Number { value, exponent: -exponent, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What INCRBYFLOAT makes of a value and an increment.
    fn sum(a: &str, b: &str) -> Option<String> {
        let (a, b) = (Extended::parse(a.as_bytes())?, Extended::parse(b.as_bytes())?);
        a.checked_add(b).map(|sum| sum.to_string())
    }

    #[test]
    fn sums_print_the_digits_that_redis_prints() {
        // Replies of redis-server 7.0.15 on x86-64.
        for (a, b, expected) in [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("0.1", "0.2", "0.3"),
            ("1e5", "1e-5", "100000.00001000000000317"),
            ("123456.789", "0.000001", "123456.78900099999999895"),
            ("9223372036854775807", "0.5", "9223372036854775807.5"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("1e20", "0.5", "100000000000000000000"),
            ("0x1p4", "1", "17"),
            ("1e-17", "0", "0.00000000000000001"),
            ("5e-18", "0", "0"),
            ("-1", "1", "0"),
            ("-0", "0", "0"),
            ("-0.0000000000000000001", "0", "0"),
            ("1e-4950", "0", "0"),
            (".5", "+5.", "5.5"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
        let digits = sum("1e400", "1").expect("finite");
        assert!(digits.len() == 401 && digits.starts_with("1000000000000000000028188068394758651"), "{digits}");
    }

    #[test]
    fn what_is_no_number_or_out_of_range_is_refused() {
        for text in
            ["", " 1", "1 ", "\t1", "1e", "0x", "0x.", ".", "1_0", "nan", "-nan", "nan(1)", "1e5000", "1e-5000", "+-1"]
        {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Extended::parse(&[b'1'; TEXT_BYTES_END]), None);
        assert!(sum("inf", "1").is_none() && sum("1", "-Infinity").is_none());
        assert_eq!(sum("1.1e4932", "1.1e4932"), None);
    }

    #[test]
    fn the_short_way_and_the_long_way_round_alike() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let digits = random.u64(1..) >> random.u32(0..64);
            let power = random.i32(-27..=27);
            if digits == 0 {
                continue;
            }
            let short = scale_small(digits, power).round(&EXTENDED).map(|(m, e)| normal(m, e));
            let long = scale_any(Big::from_u64(digits), power).round(&EXTENDED).map(|(m, e)| normal(m, e));
            assert_eq!(short, long, "{digits}e{power}");
        }
    }
}
