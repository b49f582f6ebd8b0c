//! Looking for keys whose names one doesn't know: KEYS, SCAN, RANDOMKEY. Each sees one shard's part.
//!
//! The guarantee of SCAN is the keyspace's: a key that is there from the first call to the last is named at least once.

use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::glob::{self, Case};
use crate::keyspace::{Entry, ShardCursor};
use crate::numbers::integer;
use crate::reply::Reply;

/// Keys that one call of SCAN looks at, whatever COUNT asks for: other clients wait meanwhile.
pub const KEYS_VISITED_MAX: usize = 100_000;

/// Keys looked at without COUNT.
const COUNT_DEFAULT: usize = 10;

/// Cursors given out have no bits beyond (`ShardCursor`).
const CURSOR_MAX: u64 = (1 << 48) - 1;

/// A SCAN cursor as Redis reads it, with strtoul: a sign and leading zeros are fine, so is no digit at all, and a
/// minus wraps around. For the router, which finds the shard's number in it, and for this family.
pub fn parse_cursor(text: &[u8]) -> Result<u64, CommandError> {
    const INVALID: CommandError = CommandError::new("ERR invalid cursor");
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let digits = std::str::from_utf8(digits).expect("digits are ASCII");
    let value: u64 = digits.parse().map_err(|_| INVALID)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE name]`. The cursor is the shard's own: the router has taken the
/// shard's number off it, and puts it on the one in the reply.
pub(super) fn scan(call: &mut Call<'_>) -> CommandResult {
    let cursor = parse_cursor(&call.args[1])?;
    let options = parse_options(&call.args.from(2))?;
    let mut found = Vec::new();
    let mut names = Names::new(&mut found, call);
    let next = if cursor <= CURSOR_MAX {
        let mut visit = |entry: Entry<'_>| {
            if options.pattern.is_none_or(|pattern| glob::matches(pattern, entry.key(), Case::Sensitive))
                && options.type_name.is_none_or(|name| entry.type_name().as_bytes().eq_ignore_ascii_case(name))
            {
                names.add(entry.key());
            }
        };
        call.keyspace.scan(call.db, ShardCursor(cursor), options.count, call.now, &mut visit)
    } else {
        // Not a cursor that was ever given out, but Redis takes any number.
        ShardCursor(0)
    };
    let count = names.count;
    call.reply.array(2);
    call.reply.bulk(itoa::Buffer::new().format(next.0).as_bytes());
    call.reply.array(count);
    call.reply.raw(&found);
    Ok(())
}

pub(super) fn keys(call: &mut Call<'_>) -> CommandResult {
    let pattern = call.args.at(1);
    let all = glob::is_all(pattern);
    let mut found = Vec::new();
    let mut names = Names::new(&mut found, call);
    let at_once = call.keyspace.len(call.db).max(1);
    let mut cursor = ShardCursor::default();
    loop {
        cursor = call.keyspace.scan(call.db, cursor, at_once, call.now, &mut |entry| {
            if all || glob::matches(pattern, entry.key(), Case::Sensitive) {
                names.add(entry.key());
            }
        });
        if cursor == ShardCursor::default() {
            break;
        }
    }
    let count = names.count;
    call.reply.array(count);
    call.reply.raw(&found);
    Ok(())
}

pub(super) fn randomkey(call: &mut Call<'_>) -> CommandResult {
    /// With almost all keys expired and not yet removed, finding a live one could take forever.
    const TRIES_MAX: usize = 100;
    for _ in 0..TRIES_MAX {
        if call.keyspace.is_empty(call.db) {
            break;
        }
        if let Some(entry) = call.keyspace.random(call.db, call.random, call.now) {
            call.reply.bulk(entry.key());
            return Ok(());
        }
    }
    call.reply.null();
    Ok(())
}

/// Names found, as bulk strings, put aside because the reply starts with how many there are.
struct Names<'a> {
    bulks: Reply<'a>,
    count: usize,
}

impl<'a> Names<'a> {
    fn new(out: &'a mut Vec<u8>, call: &Call<'_>) -> Self {
        Names { bulks: Reply::new(out, call.reply.protocol()), count: 0 }
    }
    fn add(&mut self, key: &[u8]) {
        self.bulks.bulk(key);
        self.count += 1;
    }
}

struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    /// A name that no type has matches nothing.
    type_name: Option<&'a [u8]>,
}

fn parse_options<'a>(args: &Args<'a>) -> Result<ScanOptions<'a>, CommandError> {
    let mut options = ScanOptions { pattern: None, count: COUNT_DEFAULT, type_name: None };
    for at in (0..args.len()).step_by(2) {
        let Some(value) = args.get(at + 1) else { return Err(SYNTAX) };
        if args.is(at, "count") {
            let count = integer(value)?;
            if count < 1 {
                return Err(SYNTAX);
            }
            options.count = usize::try_from(count).map_or(KEYS_VISITED_MAX, |count| count.min(KEYS_VISITED_MAX));
        } else if args.is(at, "match") {
            options.pattern = (!glob::is_all(value)).then_some(value);
        } else if args.is(at, "type") {
            options.type_name = Some(value);
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;
    use std::collections::BTreeSet;

    /// One call of SCAN: the next cursor and the keys.
    fn scan(stage: &mut Stage, line: &str) -> (u64, Vec<String>) {
        let reply = stage.run(line);
        let lines: Vec<&str> = reply.split("\r\n").collect();
        assert_eq!(lines[0], "*2", "{reply}");
        let cursor = lines[2].parse().expect("a cursor is a number");
        let keys: Vec<String> = lines[4..].iter().skip(1).step_by(2).map(|key| key.to_string()).collect();
        assert_eq!(lines[3], format!("*{}", keys.len()));
        (cursor, keys)
    }

    /// What a whole scan names; it may name a key twice.
    fn scan_all(stage: &mut Stage, options: &str) -> BTreeSet<String> {
        let (mut cursor, mut all) = (0, BTreeSet::new());
        loop {
            let (next, keys) = scan(stage, &format!("SCAN {cursor}{options}"));
            all.extend(keys);
            cursor = next;
            if cursor == 0 {
                return all;
            }
        }
    }

    #[test]
    fn a_scan_names_every_key_that_stays_while_others_come_and_go() {
        let seed = 0x5eed_0003;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stage = Stage::new();
        let staying: BTreeSet<String> = (0..500).map(|n| format!("stays:{n}")).collect();
        staying.iter().for_each(|key| stage.put(key, "v"));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            for _ in 0..20 {
                let key = format!("passing:{}", random.u32(..2000));
                if random.bool() { stage.put(&key, "v") } else { drop(stage.run(&format!("DEL {key}"))) }
            }
            let (next, keys) = scan(&mut stage, &format!("SCAN {cursor} COUNT 7"));
            seen.extend(keys);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert!(staying.is_subset(&seen), "seed {seed:#x}: {:?}", staying.difference(&seen));
    }

    #[test]
    fn a_scan_filters_by_pattern_and_type() {
        let mut stage = Stage::new();
        for n in 0..200 {
            stage.put(&format!("a:{n}"), "v");
            stage.put(&format!("b:{n}"), "v");
        }
        let keys = scan_all(&mut stage, " MATCH a:*");
        assert_eq!(keys.len(), 200);
        assert!(keys.iter().all(|key| key.starts_with("a:")));
        assert_eq!(scan_all(&mut stage, " TYPE STRING COUNT 1000 MATCH *").len(), 400);
        assert_eq!(scan_all(&mut stage, " TYPE zset").len(), 0);
        assert_eq!(scan_all(&mut stage, " TYPE nonsense").len(), 0);
    }

    #[test]
    fn a_huge_count_is_bounded() {
        let mut stage = Stage::new();
        for n in 0..KEYS_VISITED_MAX + 10_000 {
            stage.put(&format!("{n}"), "v");
        }
        let (cursor, keys) = scan(&mut stage, "SCAN 0 COUNT 9223372036854775807");
        assert_ne!(cursor, 0);
        assert!(keys.len() < KEYS_VISITED_MAX + 1000, "{}", keys.len());
        assert_eq!(scan_all(&mut stage, " COUNT 9223372036854775807").len(), KEYS_VISITED_MAX + 10_000);
    }

    #[test]
    fn cursors_are_read_as_in_redis() {
        for (text, value) in
            [("0", 0), ("", 0), ("+7", 7), ("007", 7), ("-1", u64::MAX), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(parse_cursor(text.as_bytes()), Ok(value), "{text:?}");
        }
        for text in ["abc", " 0", "0 ", "1a", "0x0", "+", "-", "18446744073709551616", "-18446744073709551616"] {
            assert!(parse_cursor(text.as_bytes()).is_err(), "{text:?}");
        }
        let mut stage = Stage::new();
        stage.put("k", "v");
        assert_eq!(stage.run("SCAN 18446744073709551615"), "*2\r\n$1\r\n0\r\n*0\r\n");
    }

    #[test]
    fn expired_keys_are_not_named() {
        let mut stage = Stage::new();
        stage.put("k", "v");
        stage.put("gone", "v");
        stage.run("PEXPIRE gone 5");
        stage.advance(5);
        assert_eq!(stage.run("KEYS *"), "*1\r\n$1\r\nk\r\n");
        assert_eq!(scan_all(&mut stage, ""), BTreeSet::from(["k".to_string()]));
        for _ in 0..20 {
            assert_eq!(stage.run("RANDOMKEY"), "$1\r\nk\r\n");
        }
        stage.run("DEL k");
        assert_eq!(stage.run("RANDOMKEY"), "$-1\r\n");
    }

    #[test]
    fn keys_names_all_that_match_once() {
        let mut stage = Stage::new();
        for n in 0..1000 {
            stage.put(&format!("key:{n}"), "v");
        }
        assert!(stage.run("KEYS *").starts_with("*1000\r\n"));
        assert!(stage.run("KEYS key:?").starts_with("*10\r\n"));
        assert_eq!(stage.run("KEYS nope"), "*0\r\n");
    }
}
