//! Strings: whole values, parts of them, and counters. SET and its relatives (conditions, expiry) are in `set`,
//! LCS in `lcs`, bits in `bitmaps`.
//!
//! A key that isn't live may still stand in the keyspace with its old value and deadline: what builds on the
//! present value asks for the live entry first.

mod lcs;
mod set;
#[cfg(test)]
pub(super) mod tested;

use crate::call::Call;
use crate::error::{CommandError, CommandResult, NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, STRING_TOO_LONG};
use crate::keyspace::{NewDeadline, StringRef};
use crate::numbers::{Extended, integer};
use crate::reply::Reply;
use crate::row::{Gather, KeyUse, Keys, Route, Row, Traits};

const READ_FAST: Traits = Traits::READ.and(Traits::FAST);
const WRITE_FAST: Traits = Traits::WRITE.and(Traits::FAST);
const GROWS: Traits = Traits::WRITE.and(Traits::DENY_OOM);
const GROWS_FAST: Traits = GROWS.and(Traits::FAST);

/// Keys and values in turn.
const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2, usage: KeyUse::Overwrite };
const ALL_READ: Keys = Keys::Range { first: 1, last: -1, step: 1, usage: KeyUse::Read };
const TWO_READ: Keys = Keys::Range { first: 1, last: 2, step: 1, usage: KeyUse::Read };

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("append", 3, GROWS_FAST, append).key(KeyUse::Write)
        .docs("string", "2.0.0", "O(1) amortized over the growth of the value", "Puts a string behind the value of a key; makes the key when it doesn't exist."),
    <Row>::new("decr", 2, GROWS_FAST, decr).key(KeyUse::ReadWrite)
        .docs("string", "1.0.0", "O(1)", "Subtracts one from the integer at a key, which counts as 0 when absent."),
    <Row>::new("decrby", 3, GROWS_FAST, decrby).key(KeyUse::ReadWrite)
        .docs("string", "1.0.0", "O(1)", "Subtracts a number from the integer at a key, which counts as 0 when absent."),
    <Row>::new("delex", -2, WRITE_FAST, set::delex).key(KeyUse::ReadWrite)
        .docs("string", "8.4.0", "O(1) for IFEQ and IFNE, O(N) in the length of the value for IFDEQ and IFDNE", "Removes a key, if its value or the digest of its value compares as asked."),
    <Row>::new("digest", 2, READ_FAST, set::digest).key(KeyUse::Read)
        .docs("string", "8.4.0", "O(N) in the length of the value", "Replies the XXH3 hash of the value of a key, in hexadecimal."),
    <Row>::new("get", 2, READ_FAST, get).key(KeyUse::Read)
        .docs("string", "1.0.0", "O(1)", "Replies the string value of a key."),
    <Row>::new("getdel", 2, WRITE_FAST, getdel).key(KeyUse::ReadWrite)
        .docs("string", "6.2.0", "O(1)", "Replies the string value of a key and removes the key."),
    <Row>::new("getex", -2, WRITE_FAST, set::getex).key(KeyUse::ReadWrite)
        .docs("string", "6.2.0", "O(1)", "Replies the string value of a key and gives the key a time to live, or takes it away."),
    <Row>::new("getrange", 4, Traits::READ, getrange).key(KeyUse::Read)
        .docs("string", "2.4.0", "O(N) in the length of the reply", "Replies the part of a string between two positions."),
    <Row>::new("getset", 3, GROWS_FAST, getset).key(KeyUse::ReadWrite)
        .docs("string", "1.0.0", "O(1)", "Sets a key and replies the value it had before."),
    <Row>::new("incr", 2, GROWS_FAST, incr).key(KeyUse::ReadWrite)
        .docs("string", "1.0.0", "O(1)", "Adds one to the integer at a key, which counts as 0 when absent."),
    <Row>::new("incrby", 3, GROWS_FAST, incrby).key(KeyUse::ReadWrite)
        .docs("string", "1.0.0", "O(1)", "Adds a number to the integer at a key, which counts as 0 when absent."),
    <Row>::new("incrbyfloat", 3, GROWS_FAST, incrbyfloat).key(KeyUse::ReadWrite)
        .docs("string", "2.6.0", "O(1)", "Adds a floating-point number to the number at a key, which counts as 0 when absent."),
    <Row>::new("lcs", -3, Traits::READ, lcs::lcs).keys(TWO_READ)
        .docs("string", "7.0.0", "O(N*M) in the lengths of the two strings", "Finds the longest common subsequence of two strings."),
    <Row>::new("mget", -2, READ_FAST, mget).keys(ALL_READ).route(Route::Split(Gather::InKeyOrder))
        .docs("string", "1.0.0", "O(N) in the number of keys", "Replies the string values of keys, with null for those that hold none."),
    <Row>::new("mset", -3, GROWS, mset).keys(PAIRS).route(Route::Split(Gather::Ok))
        .docs("string", "1.0.1", "O(N) in the number of keys", "Sets several keys at once."),
    <Row>::new("msetnx", -3, GROWS, msetnx).keys(PAIRS)
        .docs("string", "1.0.1", "O(N) in the number of keys", "Sets several keys at once, unless one of them exists."),
    <Row>::new("psetex", 4, GROWS, set::psetex).key(KeyUse::Overwrite)
        .docs("string", "2.6.0", "O(1)", "Sets a key with a time to live in milliseconds."),
    <Row>::new("set", -3, GROWS, set::set).key(KeyUse::ReadWrite)
        .docs("string", "1.0.0", "O(1)", "Sets a key to a string, whatever it held; options give conditions, an expiry and the old value."),
    <Row>::new("setex", 4, GROWS, set::setex).key(KeyUse::Overwrite)
        .docs("string", "2.0.0", "O(1)", "Sets a key with a time to live in seconds."),
    <Row>::new("setnx", 3, GROWS_FAST, set::setnx).key(KeyUse::Overwrite)
        .docs("string", "1.0.0", "O(1)", "Sets a key unless it exists."),
    <Row>::new("setrange", 4, GROWS, setrange).key(KeyUse::Write)
        .docs("string", "2.2.0", "O(M) in the length of the part, amortized over the growth of the value", "Overwrites a part of a string from a position on, padding a shorter one with zero bytes."),
    <Row>::new("strlen", 2, READ_FAST, strlen).key(KeyUse::Read)
        .docs("string", "2.2.0", "O(1)", "Replies the length of the string at a key."),
    <Row>::new("substr", 4, Traits::READ, getrange).key(KeyUse::Read)
        .docs("string", "1.0.0", "O(N) in the length of the reply", "Replies the part of a string between two positions; an old name of GETRANGE."),
];

/// The string at the key that is argument `index`, absent when there is no live key.
fn string_at<'c>(call: &'c Call<'_>, index: usize) -> Result<Option<StringRef<'c>>, CommandError> {
    call.keyspace.get(call.db, call.args.at(index), call.now).map(|entry| entry.string()).transpose()
}

/// As `string_at`, for a write that builds on it.
fn string_to_change<'c>(call: &'c Call<'_>) -> Result<Option<StringRef<'c>>, CommandError> {
    call.keyspace.get_to_write(call.db, call.args.at(1), call.now).map(|entry| entry.string()).transpose()
}

/// A value as a bulk string, without a copy of it in between.
fn write_string(reply: &mut Reply<'_>, value: StringRef<'_>) {
    match value {
        StringRef::Integer(value) => reply.bulk_integer(value),
        StringRef::Bytes(bytes) | StringRef::Raw(bytes) => reply.bulk(bytes),
    }
}

/// Replies the string at argument 1, or null; whether the key was there.
fn reply_value(call: &mut Call<'_>) -> Result<bool, CommandError> {
    match call.keyspace.get(call.db, call.args.at(1), call.now) {
        None => {
            call.reply.null();
            Ok(false)
        }
        Some(entry) => {
            write_string(&mut call.reply, entry.string()?);
            Ok(true)
        }
    }
}

fn get(call: &mut Call<'_>) -> CommandResult {
    reply_value(call).map(|_| ())
}

fn getdel(call: &mut Call<'_>) -> CommandResult {
    if reply_value(call)? {
        call.keyspace.remove(call.db, call.args.at(1));
    }
    Ok(())
}

fn getset(call: &mut Call<'_>) -> CommandResult {
    reply_value(call)?;
    call.keyspace.put(call.db, call.args.at(1), call.args.at(2), NewDeadline::None);
    Ok(())
}

fn mget(call: &mut Call<'_>) -> CommandResult {
    call.reply.array(call.args.len() - 1);
    for key in call.args.from(1).iter() {
        match call.keyspace.get(call.db, key, call.now).and_then(|entry| entry.string().ok()) {
            Some(value) => write_string(&mut call.reply, value),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn mset(call: &mut Call<'_>) -> CommandResult {
    require_pairs(call)?;
    put_pairs(call);
    call.reply.ok();
    Ok(())
}

fn msetnx(call: &mut Call<'_>) -> CommandResult {
    require_pairs(call)?;
    let exists = |key| call.keyspace.peek(call.db, key, call.now).is_some();
    let busy = call.args.from(1).iter().step_by(2).any(exists);
    if !busy {
        put_pairs(call);
    }
    call.reply.integer(!busy as i64);
    Ok(())
}

fn require_pairs(call: &Call<'_>) -> CommandResult {
    if call.args.len().is_multiple_of(2) { Err(CommandError::wrong_arity(call.name)) } else { Ok(()) }
}

fn put_pairs(call: &mut Call<'_>) {
    for at in (1..call.args.len()).step_by(2) {
        call.keyspace.put(call.db, call.args.at(at), call.args.at(at + 1), NewDeadline::None);
    }
}

fn strlen(call: &mut Call<'_>) -> CommandResult {
    let len = string_at(call, 1)?.map_or(0, |value| value.len());
    call.reply.integer(len as i64);
    Ok(())
}

fn append(call: &mut Call<'_>) -> CommandResult {
    let (key, tail) = (call.args.at(1), call.args.at(2));
    let Some(value) = string_to_change(call)? else {
        call.keyspace.put(call.db, key, tail, NewDeadline::None);
        call.reply.integer(tail.len() as i64);
        return Ok(());
    };
    let (len, is_raw) = (value.len(), matches!(value, StringRef::Raw(_)));
    require_length(call, len as u64, tail.len())?;
    if !tail.is_empty() {
        call.keyspace.splice(call.db, key, len, tail);
    } else {
        if !is_raw {
            make_raw(call);
        }
        // Nothing was appended, and to Redis that is a write.
        call.keyspace.touch(call.db, key);
    }
    call.reply.integer((len + tail.len()) as i64);
    Ok(())
}

fn setrange(call: &mut Call<'_>) -> CommandResult {
    const BAD_OFFSET: CommandError = CommandError::new("ERR offset is out of range");
    let (key, part) = (call.args.at(1), call.args.at(3));
    let offset = u64::try_from(integer(call.args.at(2))?).map_err(|_| BAD_OFFSET)?;
    let len = string_to_change(call)?.map(|value| value.len());
    if part.is_empty() {
        call.reply.integer(len.unwrap_or(0) as i64);
        return Ok(());
    }
    require_length(call, offset, part.len())?;
    // The limit on lengths was just checked: the sum fits.
    let offset = offset as usize;
    if len.is_none() {
        remove_expired(call, key);
    }
    call.keyspace.splice(call.db, key, offset, part);
    call.reply.integer(len.unwrap_or(0).max(offset + part.len()) as i64);
    Ok(())
}

/// Before a splice into a key that isn't live: an expired value must not shine through.
pub(super) fn remove_expired(call: &mut Call<'_>, key: &[u8]) {
    call.keyspace.remove(call.db, key);
}

/// Keeps the live string at argument 1 as plain bytes, as Redis does before a write in place, even one that then
/// changes nothing: OBJECT ENCODING shows it.
pub(super) fn make_raw(call: &mut Call<'_>) {
    call.keyspace.keep_raw(call.db, call.args.at(1));
}

fn require_length(call: &Call<'_>, offset: u64, part: usize) -> CommandResult {
    let fits = offset.checked_add(part as u64).is_some_and(|total| total <= call.limits.string_bytes_max);
    if fits { Ok(()) } else { Err(STRING_TOO_LONG) }
}

fn getrange(call: &mut Call<'_>) -> CommandResult {
    let (start, end) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        call.reply.bulk(b"");
        return Ok(());
    };
    let value = entry.string()?;
    let mut digits = itoa::Buffer::new();
    let text = value.as_bytes(&mut digits);
    match clamp_range(start, end, text.len()).filter(|_| !is_backwards(start, end)) {
        Some((first, last)) => call.reply.bulk(&text[first..=last]),
        None => call.reply.bulk(b""),
    }
    Ok(())
}

/// A range given from the end whose ends are in the wrong order: empty, even where clamping would leave the first
/// position (not so for BITPOS).
pub(super) fn is_backwards(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

/// The first and last position of a range whose ends may count from the end of `len` positions; `None` when empty.
pub(super) fn clamp_range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { len.saturating_add(at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end).then_some((start as usize, end as usize))
}

fn incr(call: &mut Call<'_>) -> CommandResult {
    add(call, 1)
}

fn decr(call: &mut Call<'_>) -> CommandResult {
    add(call, -1)
}

fn incrby(call: &mut Call<'_>) -> CommandResult {
    let increment = integer(call.args.at(2))?;
    add(call, increment)
}

fn decrby(call: &mut Call<'_>) -> CommandResult {
    const NO_OPPOSITE: CommandError = CommandError::new("ERR decrement would overflow");
    let increment = integer(call.args.at(2))?.checked_neg().ok_or(NO_OPPOSITE)?;
    add(call, increment)
}

fn add(call: &mut Call<'_>, increment: i64) -> CommandResult {
    let key = call.args.at(1);
    let (value, deadline) = match string_to_change(call)? {
        Some(value) => (value.as_integer().ok_or(NOT_AN_INTEGER)?, NewDeadline::Keep),
        None => (0, NewDeadline::None),
    };
    let value = value.checked_add(increment).ok_or(OVERFLOW)?;
    call.keyspace.put_integer(call.db, key, value, deadline);
    call.reply.integer(value);
    Ok(())
}

fn incrbyfloat(call: &mut Call<'_>) -> CommandResult {
    const NOT_FINITE: CommandError = CommandError::new("ERR increment would produce NaN or Infinity");
    let (value, deadline) = match string_to_change(call)? {
        Some(StringRef::Integer(value)) => (Extended::from_integer(value), NewDeadline::Keep),
        Some(StringRef::Bytes(text) | StringRef::Raw(text)) => {
            (Extended::parse(text).ok_or(NOT_A_FLOAT)?, NewDeadline::Keep)
        }
        None => (Extended::ZERO, NewDeadline::None),
    };
    let increment = Extended::parse(call.args.at(2)).ok_or(NOT_A_FLOAT)?;
    let text = value.checked_add(increment).ok_or(NOT_FINITE)?.to_string();
    call.keyspace.put_text(call.db, call.args.at(1), text.as_bytes(), deadline);
    call.reply.bulk(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::tested::Shard;

    #[test]
    fn a_counter_starts_anew_at_the_very_millisecond_its_key_expires() {
        let mut shard = Shard::new();
        assert_eq!(shard.run("SET n 41 PX 100"), "+OK\r\n");
        shard.advance(99);
        assert_eq!(shard.run("INCR n"), ":42\r\n");
        shard.advance(1);
        assert_eq!(shard.run("GET n"), "$-1\r\n");
        assert_eq!(shard.run("INCR n"), ":1\r\n");
        shard.advance(1000);
        assert_eq!(shard.run("GET n"), "$1\r\n1\r\n", "the old deadline is gone");
    }

    #[test]
    fn nothing_of_an_expired_value_shines_through_a_write_in_place() {
        for (command, expected) in [
            ("SETRANGE k 2 z", "$3\r\n\0\0z\r\n"),
            ("APPEND k z", "$1\r\nz\r\n"),
            ("SETBIT k 9 1", "$2\r\n\0@\r\n"),
            ("BITFIELD k SET u8 8 64", "$2\r\n\0@\r\n"),
            ("INCRBYFLOAT k 1.5", "$3\r\n1.5\r\n"),
            ("SET k z KEEPTTL", "$1\r\nz\r\n"),
            ("GETSET k z", "$1\r\nz\r\n"),
            ("MSETNX k z", "$1\r\nz\r\n"),
        ] {
            let mut shard = Shard::new();
            shard.run("SET k old-value PX 10");
            shard.advance(10);
            shard.run(command);
            shard.advance(100);
            assert_eq!(shard.run("GET k"), expected, "{command}");
        }
    }

    #[test]
    fn writes_in_place_keep_the_deadline_and_overwrites_drop_it() {
        for (command, keeps) in [
            ("APPEND k 1", true),
            ("SETRANGE k 0 1", true),
            ("SETBIT k 0 1", true),
            ("BITFIELD k SET u8 0 1", true),
            ("INCR k", true),
            ("INCRBYFLOAT k 1", true),
            ("SET k 2 KEEPTTL", true),
            ("SET k 2 NX", true),
            ("GETEX k", true),
            ("GETEX k PERSIST", false),
            ("SET k 2", false),
            ("SET k 2 GET", false),
            ("GETSET k 2", false),
            ("MSET k 2", false),
            ("BITOP NOT k k", false),
        ] {
            let mut shard = Shard::new();
            shard.run("SET k 1 PX 100");
            shard.run(command);
            shard.advance(100);
            assert_eq!(shard.run("STRLEN k") == ":0\r\n", keeps, "{command}");
        }
    }

    #[test]
    fn expiry_in_the_past_removes_the_key_by_one_edit_and_an_absent_key_by_none() {
        let mut shard = Shard::new();
        shard.run("SET k v");
        assert_eq!(shard.edits("SET k w PXAT 1 NX"), 0);
        assert_eq!(shard.edits("SET k w PXAT 1 GET"), 1);
        assert_eq!(shard.run("GET k"), "$-1\r\n");
        assert_eq!(shard.edits("SET k w EXAT 1"), 0);
        assert_eq!(shard.edits("SET k w EXAT 1 XX"), 0);
    }

    #[test]
    fn a_relative_deadline_ignores_steps_of_the_wall_clock_and_an_absolute_one_follows_them() {
        let mut shard = Shard::new();
        let at = shard.now.wall_ms + 60_000;
        shard.run("SET relative v PX 60000");
        shard.run(&format!("SET absolute v PXAT {at}"));
        shard.run("SET loose v");
        shard.run(&format!("GETEX loose PXAT {at}"));
        shard.now.wall_ms += 3_600_000;
        assert_eq!(shard.run("MGET relative absolute loose"), "*3\r\n$1\r\nv\r\n$-1\r\n$-1\r\n");
    }

    #[test]
    fn failed_commands_and_unmet_conditions_make_no_edit() {
        let mut shard = Shard::new();
        shard.run("MSET k v n 9223372036854775807");
        for command in [
            "INCR k",
            "INCR n",
            "INCRBYFLOAT k 1",
            "SET k w EX 0",
            "SET k w NX",
            "SET nokey w XX",
            "SET k w IFEQ x",
            "SETNX k w",
            "MSETNX a 1 k w",
            "MSET a 1 k",
            "SETRANGE k 536870912 x",
            "SETRANGE k 0 ''",
            "GETEX k EX 0",
            "GETEX k",
            "GETEX k PERSIST",
            "GETDEL nokey",
            "DELEX k IFNE v",
            "BITFIELD k SET u8 0 1 SET u64 0 1",
        ] {
            assert_eq!(shard.edits(command), 0, "{command}");
        }
    }

    #[test]
    fn what_was_modified_in_place_is_kept_as_raw_bytes() {
        let mut shard = Shard::new();
        shard.run("SET k 1");
        assert_eq!(shard.encoding("k"), "int");
        shard.run("APPEND k 2");
        assert_eq!(shard.encoding("k"), "raw");
        assert_eq!(shard.run("INCR k"), ":13\r\n");
        assert_eq!(shard.encoding("k"), "int");
        shard.run("SETRANGE new 0 12");
        assert_eq!(shard.encoding("new"), "raw");
        for command in ["APPEND k ''", "BITFIELD k SET u1 0 0", "SETBIT k 2 1", "BITOP OR k k"] {
            shard.run("SET k 1");
            shard.run(command);
            assert_eq!((shard.encoding("k"), shard.run("GET k").as_str()), ("raw", "$1\r\n1\r\n"), "{command}");
            assert!(shard.edits(command) <= 1, "{command}");
        }
        shard.run("APPEND empty ''");
        assert_eq!((shard.encoding("empty"), shard.run("EXISTS empty").as_str()), ("embstr", ":1\r\n"));
    }

    #[test]
    fn a_sum_of_floats_is_text_even_when_whole() {
        let mut shard = Shard::new();
        shard.run("SET k 1");
        shard.run("INCRBYFLOAT k 2");
        assert_eq!((shard.encoding("k"), shard.run("GET k").as_str()), ("embstr", "$1\r\n3\r\n"));
        assert_eq!(shard.run("INCR k"), ":4\r\n");
        assert_eq!(shard.encoding("k"), "int");
    }

    #[test]
    fn reads_count_as_hits_and_misses_and_writes_do_not() {
        let mut shard = Shard::new();
        shard.run("MSET k 1 l 2");
        for (command, hits, misses) in [
            ("GET k", 1, 0),
            ("GET nokey", 0, 1),
            ("MGET k l nokey k", 3, 1),
            ("EXISTS k nokey", 1, 1),
            ("TTL k", 1, 0),
            ("TYPE nokey", 0, 1),
            ("STRLEN k", 1, 0),
            ("LCS k l", 2, 0),
            ("BITFIELD k GET u1 0 GET u1 1", 1, 0),
            ("BITFIELD k SET u1 0 0 GET u1 1", 0, 0),
            ("BITFIELD_RO nokey GET u1 0 GET u1 1", 0, 1),
            ("BITOP AND to k nokey", 1, 1),
            ("GETSET k 1", 1, 0),
            ("GETEX k", 1, 0),
            ("SET k 1 GET", 1, 0),
            ("SET k 1 XX", 0, 0),
            ("SETNX k 1", 0, 0),
            ("INCR k", 0, 0),
            ("INCRBYFLOAT k 1", 0, 0),
            ("APPEND k 1", 0, 0),
            ("SETRANGE k 0 1", 0, 0),
            ("SETBIT k 0 0", 0, 0),
            ("GETBIT k 0", 1, 0),
            ("EXPIRE k 100", 0, 0),
            ("PERSIST k", 0, 0),
            ("COPY k copied", 1, 0),
            ("RENAME copied renamed", 0, 0),
            ("OBJECT ENCODING k", 1, 0),
            ("DEL k", 0, 0),
        ] {
            let found = shard.lookups(command);
            assert_eq!((found.hits, found.misses), (hits, misses), "{command}");
        }
    }
}
