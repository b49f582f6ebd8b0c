//! What commands of several families of collections have in common: SSCAN and its relatives, counts, and keys behind their number.

use super::keys::parse_cursor;
use crate::call::{Args, Call};
use crate::error::{CommandError, NOT_AN_INTEGER, SYNTAX};
use crate::glob::{self, Case};
use crate::numbers::integer;
use crate::random::Random;
use crate::reply::Reply;
use std::collections::BTreeSet;

const COUNT_DEFAULT: usize = 10;
/// Elements looked at per call of SSCAN and its relatives.
const VISITED_MAX: usize = 100_000;
/// Elements that a command chooses with repetition: what a client announces must not become memory without bound.
pub(super) const CHOICES_MAX: u64 = 10_000_000;

/// `cursor [MATCH pattern] [COUNT n]`, and of HSCAN `[NOVALUES]`.
pub(super) struct Scan<'a> {
    pub cursor: u64,
    pub count: usize,
    pub no_values: bool,
    pattern: Option<&'a [u8]>,
}

impl<'a> Scan<'a> {
    /// The options behind the cursor, which is at argument 2. To be read once the key was looked at, as in Redis; the cursor before.
    pub fn parse(args: &Args<'a>, cursor: u64, knows_no_values: bool) -> Result<Scan<'a>, CommandError> {
        let mut scan = Scan { cursor, count: COUNT_DEFAULT, no_values: false, pattern: None };
        let mut at = 3;
        while at < args.len() {
            match args.get(at + 1) {
                Some(value) if args.is(at, "count") => {
                    let count = integer(value)?;
                    if count < 1 {
                        return Err(SYNTAX);
                    }
                    scan.count = usize::try_from(count).map_or(VISITED_MAX, |count| count.min(VISITED_MAX));
                    at += 2;
                }
                Some(value) if args.is(at, "match") => {
                    scan.pattern = (!glob::is_all(value)).then_some(value);
                    at += 2;
                }
                _ if knows_no_values && args.is(at, "novalues") => {
                    scan.no_values = true;
                    at += 1;
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(scan)
    }
    pub fn cursor(args: &Args<'_>) -> Result<u64, CommandError> {
        parse_cursor(args.at(2))
    }
    pub fn matches(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, element, Case::Sensitive))
    }
    /// The reply: where to go on, and `bulks` replies that are in `found` already.
    pub fn reply(call: &mut Call<'_>, next: u64, found: &Found) {
        call.reply.array(2);
        call.reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        call.reply.array(found.count);
        call.reply.raw(&found.bytes);
    }
}

/// Replies put aside because how many there are comes first.
#[derive(Default)]
pub(super) struct Found {
    pub bytes: Vec<u8>,
    pub count: usize,
}

impl Found {
    pub fn bulk(&mut self, call_protocol: crate::reply::Protocol, bytes: &[u8]) {
        Reply::new(&mut self.bytes, call_protocol).bulk(bytes);
        self.count += 1;
    }
}

/// The keys of a command with their number at argument `at`, for rows (`Keys::Find`).
pub(super) fn find_numbered(args: &Args<'_>, at: usize, out: &mut Vec<usize>) -> bool {
    let Some(Ok(count)) = args.get(at).map(integer) else { return false };
    let fits = count >= 1 && (count as u64) <= (args.len() - at - 1) as u64;
    if fits {
        out.extend(at + 1..at + 1 + count as usize);
    }
    fits
}

/// As `getRangeLongFromObjectOrReply` of Redis words it.
pub(super) fn integer_within(arg: &[u8], min: i64, max: i64, text: Option<&'static str>) -> Result<i64, CommandError> {
    let value = integer(arg).map_err(|_| text.map_or(NOT_AN_INTEGER, CommandError::new))?;
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(text.map_or_else(
        || CommandError::owned(format!("ERR value is out of range, value must between {min} and {max}")),
        CommandError::new,
    ))
}

/// Whether so few are to be chosen that drawing them one by one, again where one comes twice, beats going through all.
pub(super) fn is_few(count: usize, len: usize) -> bool {
    count <= len / 3
}

/// `count` different ones of the numbers below `len`, which are at least as many, in no order.
pub(super) fn choose(len: usize, count: usize, random: &mut Random) -> Vec<usize> {
    if is_few(count, len) {
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            chosen.insert(random.below(len as u64) as usize);
        }
        return chosen.into_iter().collect();
    }
    let mut all: Vec<usize> = (0..len).collect();
    for at in 0..count {
        let other = at + random.below((len - at) as u64) as usize;
        all.swap(at, other);
    }
    all.truncate(count);
    all
}
