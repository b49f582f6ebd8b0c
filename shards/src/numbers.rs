//! Text to numbers and back, exactly as Redis reads and prints them: no `+1`, no leading zeros, no spaces.

use crate::error::{CommandError, NOT_A_FLOAT, NOT_AN_INTEGER};

/// A canonical signed integer (what prints back to the same text), or `None`. Redis: string2ll.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let canonical = match digits {
        [b'0'] => !negative,
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    if !canonical {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nineteen digits are below 10^19 < 2^64: no overflow here.
        value = value * 10 + digit as u64;
    }
    if negative { (value <= 1 << 63).then(|| (value as i64).wrapping_neg()) } else { i64::try_from(value).ok() }
}

/// An argument that must be an integer.
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    parse_integer(arg).ok_or(NOT_AN_INTEGER)
}

/// A float as Redis accepts it (strtold without surrounding spaces; `inf`, `-inf`, `infinity`; not `nan`).
pub fn parse_float(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text[0].is_ascii_whitespace() {
        return None;
    }
    let value: f64 = fast_float2::parse(text).ok()?;
    (!value.is_nan()).then_some(value)
}

/// An argument that must be a float.
pub fn float(arg: &[u8]) -> Result<f64, CommandError> {
    parse_float(arg).ok_or(NOT_A_FLOAT)
}

/// Shortest digits that read back to the same double, in the spelling of Redis 7 (`%.17g`-like: exponent only
/// for very large or small values; `inf`, `-inf`, `nan`).
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if value == value.trunc() && value.abs() < 1e17 {
        // Redis prints whole numbers without point or exponent (d2string); -0 keeps its sign there.
        return if value == 0.0 && value.is_sign_negative() { "-0".into() } else { format!("{}", value as i64) };
    }
    let mut digits = ryu::Buffer::new();
    digits.format_finite(value).replace("e", if value.abs() >= 1.0 { "e+" } else { "e" })
}
