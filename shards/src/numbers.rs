//! Text to numbers and back, exactly as Redis reads and prints them: integers without `+1`, leading zeros or
//! spaces; floats as strtod reads them, but nothing around them.

mod big;
mod extended;

pub use extended::Extended;

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

/// A float as Redis accepts it: what strtod makes of the whole text (`+1`, `.5`, `0x1p4`, `inf`, `-Infinity`), but
/// not `nan`, nothing around it, and nothing too large or too close to zero for a double. Redis:
/// getDoubleFromObject.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let (negative, unsigned) = extended::split_sign(text);
    let value = if extended::is_infinity(unsigned) {
        f64::INFINITY
    } else if extended::is_hexadecimal(unsigned) {
        extended::parse_hexadecimal_double(unsigned)?
    } else {
        parse_decimal(unsigned)?
    };
    Some(if negative { -value } else { value })
}

fn parse_decimal(unsigned: &[u8]) -> Option<f64> {
    // The parser below knows signs and names, which were dealt with.
    if !matches!(unsigned.first(), Some(b'0'..=b'9' | b'.')) {
        return None;
    }
    let value: f64 = fast_float2::parse(unsigned).ok()?;
    let mantissa = unsigned.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    let vanished = value == 0.0 && mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
    (value.is_finite() && !vanished).then_some(value)
}

/// An argument that must be a float.
pub fn float(arg: &[u8]) -> Result<f64, CommandError> {
    parse_float(arg).ok_or(NOT_A_FLOAT)
}

/// As Redis 7.0 writes scores and doubles of RESP3: `%.17g` in C. 17 significant digits, more than the shortest that read
/// back (0.1 is `0.10000000000000001`), without zeros at the end; an exponent only for very large or small values; `inf`,
/// `-inf`, `nan`.
pub fn format_double(value: f64) -> String {
    const DIGITS: i32 = 17;
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if value == value.trunc() && value.abs() < 1e17 {
        // Of a whole number all digits are there; -0 keeps its sign.
        return if value == 0.0 && value.is_sign_negative() { "-0".into() } else { format!("{}", value as i64) };
    }
    let scientific = format!("{value:.0$e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        return without_zeros(&format!("{value:.decimals$}")).into();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs())
}

/// A number with a point, without zeros at the end and without the point if nothing follows it.
fn without_zeros(digits: &str) -> &str {
    digits.trim_end_matches('0').trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_only_as_they_print() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN, i64::MIN + 1, 1_000_000_000_000_000_000] {
            assert_eq!(parse_integer(value.to_string().as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "1e3",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
            "1\0",
        ] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_print_as_redis_prints_scores() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (2.5, "2.5"),
            (0.1, "0.10000000000000001"),
            (0.3, "0.29999999999999999"),
            (-2.2, "-2.2000000000000002"),
            (56.4412578701582, "56.441257870158204"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (0.00001, "1.0000000000000001e-05"),
            (1.1e-7, "1.1000000000000001e-07"),
            (5e-324, "4.9406564584124654e-324"),
            (9007199254740992.0, "9007199254740992"),
            (2251799813685248.5, "2251799813685248.5"),
            (99_999_999_999_999_984.0, "99999999999999984"),
            (1e17, "1e+17"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e20, "1e+20"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-1e300, "-1.0000000000000001e+300"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }

    #[test]
    fn floats_are_read_as_strtod_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("+1", 1.0),
            ("-1.5e3", -1500.0),
            ("01", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1E5", 1e5),
            ("0x10", 16.0),
            ("-0X.8p1", -1.0),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1p-1074", f64::from_bits(1)),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("+INF", f64::INFINITY),
            ("0e999999", 0.0),
            ("1e308", 1e308),
            ("5e-324", f64::from_bits(1)),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Some(value), "{text:?}");
        }
        assert!(parse_float(b"-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
    }

    #[test]
    fn floats_have_nothing_around_them_and_stay_in_range() {
        for text in [
            "",
            " 1",
            "1 ",
            "\t1",
            "1\0",
            "nan",
            "-nan",
            "nan(1)",
            "1e",
            "e1",
            ".",
            "-",
            "+-1",
            "--1",
            "-+inf",
            "0x",
            "0x.",
            "0xg",
            "0x1p",
            "0x1p1024",
            "0x1p-1076",
            "1e309",
            "1e-400",
            "1_0",
            "infinit",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text:?}");
        }
    }
}
