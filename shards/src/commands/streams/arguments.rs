//! Ids and options as the commands of streams have them.

use crate::call::Args;
use crate::error::{CommandError, SYNTAX};
use crate::numbers::integer;
use crate::types::stream::{Keep, Precision, StreamId};

const INVALID_ID: CommandError = CommandError::new("ERR Invalid stream ID specified as stream command argument");

/// An id of which the part behind the dash may be missing.
pub(super) fn id(arg: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match until_nul(arg) {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => strict_id(arg, missing_seq),
    }
}

/// An id that isn't `-` or `+`.
pub(super) fn strict_id(arg: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match wanted_id(arg, missing_seq)? {
        WantedId::Whole(id) => Ok(id),
        WantedId::AnySeq(_) | WantedId::Any => Err(INVALID_ID),
    }
}

/// An id of XADD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WantedId {
    /// `*`
    Any,
    /// `ms-*`
    AnySeq(u64),
    Whole(StreamId),
}

pub(super) fn wanted_id(arg: &[u8], missing_seq: u64) -> Result<WantedId, CommandError> {
    const ID_BYTES_MAX: usize = 127;
    if arg.len() > ID_BYTES_MAX {
        return Err(INVALID_ID);
    }
    let text = until_nul(arg);
    let (ms, seq) = match text.iter().position(|byte| *byte == b'-') {
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
        None => (text, None),
    };
    let ms = part(ms).ok_or(INVALID_ID)?;
    Ok(match seq {
        Some(b"*") => WantedId::AnySeq(ms),
        Some(seq) => WantedId::Whole(StreamId { ms, seq: part(seq).ok_or(INVALID_ID)? }),
        None => WantedId::Whole(StreamId { ms, seq: missing_seq }),
    })
}

/// Redis reads ids as C strings.
fn until_nul(arg: &[u8]) -> &[u8] {
    arg.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A part of an id as C's strtoull reads it, with blanks and a sign before it; but what is plainly a negative number is none.
fn part(text: &[u8]) -> Option<u64> {
    if crate::numbers::parse_integer(text).is_some_and(|value| value < 0) {
        return None;
    }
    let digits = text.trim_ascii_start();
    let (is_negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, digits),
    };
    let value = digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(digit as u64) }
    })?;
    (!digits.is_empty()).then_some(if is_negative { value.wrapping_neg() } else { value })
}

/// The start of a range, which a parenthesis excludes.
pub(super) fn range_start(arg: &[u8]) -> Result<StreamId, CommandError> {
    const INVALID: CommandError = CommandError::new("ERR invalid start ID for the interval");
    match arg {
        [b'(', rest @ ..] if !rest.is_empty() => strict_id(rest, 0)?.next().ok_or(INVALID),
        _ => id(arg, 0),
    }
}

pub(super) fn range_end(arg: &[u8]) -> Result<StreamId, CommandError> {
    const INVALID: CommandError = CommandError::new("ERR invalid end ID for the interval");
    match arg {
        [b'(', rest @ ..] if !rest.is_empty() => strict_id(rest, u64::MAX)?.previous().ok_or(INVALID),
        _ => id(arg, u64::MAX),
    }
}

/// The keys of XREAD and XREADGROUP, for their rows.
pub(super) fn find_keys(args: &Args<'_>, out: &mut Vec<usize>) -> bool {
    let mut at = 1;
    while at < args.len() {
        at += match () {
            _ if args.is(at, "block") || args.is(at, "count") => 2,
            // The names behind it may be any words.
            _ if args.is(at, "group") => 3,
            _ if args.is(at, "noack") => 1,
            // Of 8.4: with a number.
            _ if args.is(at, "claim") => 2,
            _ if args.is(at, "streams") => {
                let behind = args.len() - at - 1;
                if behind == 0 || !behind.is_multiple_of(2) {
                    return false;
                }
                out.extend(at + 1..at + 1 + behind / 2);
                return true;
            }
            _ => return false,
        };
    }
    false
}

/// What is to become of references to entries that go, in groups' lists of pending entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum References {
    /// They stay.
    #[default]
    Keep,
    /// They go as well.
    Delete,
    /// Only entries go that no group has yet to acknowledge.
    Acknowledged,
}

impl References {
    pub(super) fn parse(args: &Args<'_>, at: usize) -> Option<References> {
        match () {
            _ if args.is(at, "keepref") => Some(References::Keep),
            _ if args.is(at, "delref") => Some(References::Delete),
            _ if args.is(at, "acked") => Some(References::Acknowledged),
            _ => None,
        }
    }
}

/// `MAXLEN|MINID [=|~] threshold [LIMIT count]`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct TrimOptions {
    keep: Option<Keep>,
    is_by_nodes: bool,
    limit: Option<i64>,
}

impl TrimOptions {
    /// Takes the option at `at` if it is one of these; how many arguments it has.
    pub(super) fn parse(&mut self, args: &Args<'_>, at: usize) -> Result<usize, CommandError> {
        const BOTH: CommandError =
            CommandError::new("ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
        const NEGATIVE_LENGTH: CommandError = CommandError::new("ERR The MAXLEN argument must be >= 0.");
        const NEGATIVE_LIMIT: CommandError = CommandError::new("ERR The LIMIT argument must be >= 0.");
        let is_length = args.is(at, "maxlen");
        let Some(mut value) = args.get(at + 1) else { return Ok(0) };
        let mut used = 2;
        if is_length || args.is(at, "minid") {
            if self.keep.is_some() {
                return Err(BOTH);
            }
            let threshold = args.get(at + 2).filter(|_| matches!(value, b"~" | b"="));
            self.is_by_nodes = threshold.is_some() && value == b"~";
            if let Some(threshold) = threshold {
                (value, used) = (threshold, 3);
            }
            self.keep = Some(if is_length {
                Keep::Newest(u64::try_from(integer(value)?).map_err(|_| NEGATIVE_LENGTH)?)
            } else {
                Keep::From(strict_id(value, 0)?)
            });
        } else if args.is(at, "limit") {
            let limit = integer(value)?;
            if limit < 0 {
                return Err(NEGATIVE_LIMIT);
            }
            self.limit = Some(limit);
        } else {
            used = 0;
        }
        Ok(used)
    }
    /// What is to stay, and how exactly: XTRIM's.
    pub(super) fn finish(&self, node_entries: usize) -> Result<(Keep, Precision), CommandError> {
        const NO_STRATEGY: CommandError =
            CommandError::new("ERR syntax error, XTRIM must be called with a trimming strategy");
        // A limit without a strategy is told of first, but for 0.
        if self.keep.is_none() && self.limit.unwrap_or(0) == 0 {
            return Err(NO_STRATEGY);
        }
        self.finish_optional(node_entries)?.ok_or(NO_STRATEGY)
    }
    /// The same, if anything was asked for: XADD's.
    pub(super) fn finish_optional(&self, node_entries: usize) -> Result<Option<(Keep, Precision)>, CommandError> {
        const NO_STRATEGY: CommandError =
            CommandError::new("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
        const EXACT_LIMIT: CommandError =
            CommandError::new("ERR syntax error, LIMIT cannot be used without the special ~ option");
        /// Nodes that are trimmed if no limit is given.
        const NODES: usize = 100;
        const ENTRIES_DEFAULT: u64 = 10_000;
        const ENTRIES_MAX: u64 = 1_000_000;
        if self.keep.is_none() && self.limit.is_some_and(|limit| limit > 0) {
            return Err(NO_STRATEGY);
        }
        if self.limit.is_some() && !self.is_by_nodes {
            return Err(EXACT_LIMIT);
        }
        let Some(keep) = self.keep else { return Ok(None) };
        if !self.is_by_nodes {
            return Ok(Some((keep, Precision::Exact)));
        }
        let entries_max = match (self.limit, node_entries.saturating_mul(NODES) as u64) {
            (Some(0), _) => u64::MAX,
            (Some(limit), _) => limit as u64,
            (None, 0) => ENTRIES_DEFAULT,
            (None, entries) => entries.min(ENTRIES_MAX),
        };
        Ok(Some((keep, Precision::Nodes { entries_max })))
    }
}

/// `[COUNT n]` from argument `at` on; none: no limit.
pub(super) fn range_count(args: &Args<'_>, at: usize) -> Result<Option<i64>, CommandError> {
    let mut count = None;
    let mut at = at;
    while at < args.len() {
        let value = args.get(at + 1).filter(|_| args.is(at, "count")).ok_or(SYNTAX)?;
        count = Some(integer(value)?);
        at += 2;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        for (text, expected) in [
            ("5", Some((5, 7))),
            ("5-3", Some((5, 3))),
            ("05-03", Some((5, 3))),
            (" 5-+3", Some((5, 3))),
            ("5-18446744073709551615", Some((5, u64::MAX))),
            ("5-18446744073709551616", None),
            ("5--0", Some((5, 0))),
            ("5--1", None),
            ("5\0x", Some((5, 7))),
            ("", None),
            ("-", None),
            ("+", None),
            ("*", None),
            ("5-", None),
            ("5-*", None),
            ("5.3", None),
        ] {
            let found = strict_id(text.as_bytes(), 7).ok();
            assert_eq!(found, expected.map(|(ms, seq)| StreamId::new(ms, seq)), "{text:?}");
        }
    }
}
