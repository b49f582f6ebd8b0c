//! Hashes: fields, their values, and counters in them. Deadlines of fields are in `expiry`.

pub(super) mod expiry;

use super::elements::{CHOICES_MAX, Found, Scan, choose, integer_within, is_few};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, OVERFLOW, SYNTAX};
use crate::keyspace::NewDeadline;
use crate::numbers::{Extended, integer, parse_integer};
use crate::random::Random;
use crate::reply::Protocol;
use crate::row::{KeyUse, Row, Traits};
use crate::types::hash::{HashChange, LiveHash, Pair};
use crate::types::{Kind, View};
use std::collections::{BTreeMap, BTreeSet};

const READ_FAST: Traits = Traits::READ.and(Traits::FAST);
const WRITE_FAST: Traits = Traits::WRITE.and(Traits::FAST);
const GROWS_FAST: Traits = WRITE_FAST.and(Traits::DENY_OOM);

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("hdel", -3, WRITE_FAST, hdel).key(KeyUse::ReadWrite)
        .docs("hash", "2.0.0", "O(N) for N fields", "Takes fields out of a hash and counts those it had."),
    <Row>::new("hexists", 3, READ_FAST, hexists).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(1)", "Tells whether a hash has a field."),
    <Row>::new("hget", 3, READ_FAST, hget).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(1)", "Replies the value of a field."),
    <Row>::new("hgetall", 2, Traits::READ, hgetall).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(N) for N fields", "Replies all fields with their values."),
    <Row>::new("hincrby", 4, GROWS_FAST, hincrby).key(KeyUse::ReadWrite)
        .docs("hash", "2.0.0", "O(1)", "Adds a number to the integer of a field, which counts as 0 when absent."),
    <Row>::new("hincrbyfloat", 4, GROWS_FAST, hincrbyfloat).key(KeyUse::ReadWrite)
        .docs("hash", "2.6.0", "O(1)", "Adds a floating-point number to the number of a field, which counts as 0 when absent."),
    <Row>::new("hkeys", 2, Traits::READ, hkeys).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(N) for N fields", "Replies all fields of a hash."),
    <Row>::new("hlen", 2, READ_FAST, hlen).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(1)", "Counts the fields of a hash."),
    <Row>::new("hmget", -3, READ_FAST, hmget).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(N) for N fields", "Replies the values of fields, with null for those that the hash lacks."),
    <Row>::new("hmset", -4, GROWS_FAST, hmset).key(KeyUse::Write)
        .docs("hash", "2.0.0", "O(N) for N fields", "Sets fields; HSET does the same and counts the new ones."),
    <Row>::new("hrandfield", -2, Traits::READ, hrandfield).key(KeyUse::Read)
        .docs("hash", "6.2.0", "O(N) for N fields chosen", "Replies fields chosen at random, with their values if asked."),
    <Row>::new("hscan", -3, Traits::READ, hscan).key(KeyUse::Read)
        .docs("hash", "2.8.0", "O(1) per call, O(N) for all N fields", "Replies some fields and values, and the cursor with which to ask for more."),
    <Row>::new("hset", -4, GROWS_FAST, hset).key(KeyUse::Write)
        .docs("hash", "2.0.0", "O(N) for N fields", "Sets fields of a hash, which is made when it doesn't exist, and counts the new ones."),
    <Row>::new("hsetnx", 4, GROWS_FAST, hsetnx).key(KeyUse::Write)
        .docs("hash", "2.0.0", "O(1)", "Sets a field unless the hash has it."),
    <Row>::new("hstrlen", 3, READ_FAST, hstrlen).key(KeyUse::Read)
        .docs("hash", "3.2.0", "O(1)", "The length of the value of a field."),
    <Row>::new("hvals", 2, Traits::READ, hvals).key(KeyUse::Read)
        .docs("hash", "2.0.0", "O(N) for N fields", "Replies all values of a hash."),
];

/// The hash at the key for a read, or that there is none.
fn read<'c>(call: &'c Call<'_>) -> Result<Option<LiveHash<'c>>, CommandError> {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else { return Ok(None) };
    Ok(Some(entry.hash()?.at(call.now)))
}

/// The same for a write.
fn read_to_write<'c>(call: &'c Call<'_>) -> Result<Option<LiveHash<'c>>, CommandError> {
    let Some(entry) = call.keyspace.get_to_write(call.db, call.args.at(1), call.now) else { return Ok(None) };
    Ok(Some(entry.hash()?.at(call.now)))
}

fn hset(call: &mut Call<'_>) -> CommandResult {
    let new = set_all(call)?;
    call.reply.integer(new);
    Ok(())
}

fn hmset(call: &mut Call<'_>) -> CommandResult {
    set_all(call)?;
    call.reply.ok();
    Ok(())
}

/// Sets the fields and values from argument 2 on; how many fields are new.
fn set_all(call: &mut Call<'_>) -> Result<i64, CommandError> {
    let pairs = call.args.from(2);
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity(call.name));
    }
    let mut changes = Vec::with_capacity(changes_bytes_max(&pairs));
    for at in (0..pairs.len()).step_by(2) {
        HashChange::Put { field: pairs.at(at), value: pairs.at(at + 1) }.encode(&mut changes);
    }
    let hash = read_to_write(call)?;
    let is_there = hash.is_some();
    let count = NewFields::begin(hash, &pairs);
    let key = call.args.at(1);
    if is_there {
        call.keyspace.change(call.db, key, Kind::Hash, &changes);
    } else {
        call.keyspace.put_collection(call.db, key, Kind::Hash, &changes, NewDeadline::None);
    }
    match count {
        NewFields::Counted(new) => Ok(new as i64),
        NewFields::Since(len) => {
            let entry = call.keyspace.peek(call.db, key, call.now).expect("the key was just set");
            let hash = entry.hash().expect("to a hash");
            Ok((hash.len() - len) as i64)
        }
    }
}

/// As many bytes as the changes that put these fields and values take at most, or a few more.
fn changes_bytes_max(pairs: &Args<'_>) -> usize {
    const KIND_AND_LENGTHS: usize = 1 + 2 * 5;
    pairs.iter().map(<[u8]>::len).sum::<usize>() + pairs.len() / 2 * KIND_AND_LENGTHS
}

/// How the fields that are new come to be counted.
enum NewFields {
    Counted(usize),
    /// The hash had so many before: where a length costs nothing, the fields are looked up once, when they are set.
    Since(usize),
}

impl NewFields {
    fn begin(hash: Option<LiveHash<'_>>, pairs: &Args<'_>) -> Self {
        match hash {
            None if pairs.len() == 2 => NewFields::Counted(1),
            None => NewFields::Since(0),
            // Fields that are due count in the length, and are set as if they had been there.
            Some(hash) if hash.is_large() && hash.is_whole() => NewFields::Since(hash.len()),
            Some(hash) => {
                let mut named = BTreeSet::new();
                let fields = (0..pairs.len()).step_by(2).map(|at| pairs.at(at));
                let new =
                    fields.filter(|field| hash.get(field).is_none() && (pairs.len() == 2 || named.insert(*field)));
                NewFields::Counted(new.count())
            }
        }
    }
}

fn hsetnx(call: &mut Call<'_>) -> CommandResult {
    let field = call.args.at(2);
    let is_new = read_to_write(call)?.is_none_or(|hash| hash.get(field).is_none());
    if is_new {
        let (field, value) = (call.args.at(2), call.args.at(3));
        write(call, HashChange::Put { field, value });
    }
    call.reply.integer(is_new as i64);
    Ok(())
}

fn write(call: &mut Call<'_>, change: HashChange<'_>) {
    let mut changes = Vec::new();
    change.encode(&mut changes);
    call.write_collection(call.args.at(1), Kind::Hash, &changes);
}

/// Sets the field at argument 2 to what became of its value, with the deadline that it has.
fn put_sum(call: &mut Call<'_>, had_deadline: bool, value: &[u8]) {
    let field = call.args.at(2);
    let change = match had_deadline {
        true => HashChange::PutKeeping { field, value },
        false => HashChange::Put { field, value },
    };
    write(call, change);
}

fn hdel(call: &mut Call<'_>) -> CommandResult {
    let mut changes = Vec::new();
    let mut removed = 0;
    if let Some(hash) = read_to_write(call)? {
        let mut named = BTreeSet::new();
        for field in call.args.from(2).iter() {
            if hash.get(field).is_some() && named.insert(field) {
                HashChange::Remove { field }.encode(&mut changes);
                removed += 1;
            }
        }
    }
    if removed > 0 {
        call.write_collection(call.args.at(1), Kind::Hash, &changes);
    }
    call.reply.integer(removed);
    Ok(())
}

fn hget(call: &mut Call<'_>) -> CommandResult {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        call.reply.null();
        return Ok(());
    };
    match entry.hash()?.at(call.now).get(call.args.at(2)) {
        Some(value) => call.reply.bulk(value),
        None => call.reply.null(),
    }
    Ok(())
}

fn hmget(call: &mut Call<'_>) -> CommandResult {
    let fields = call.args.from(2);
    let entry = call.keyspace.get(call.db, call.args.at(1), call.now);
    let hash = entry.map(|entry| entry.hash()).transpose()?.map(|hash| hash.at(call.now));
    call.reply.array(fields.len());
    for field in fields.iter() {
        match hash.and_then(|hash| hash.get(field)) {
            Some(value) => call.reply.bulk(value),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn hexists(call: &mut Call<'_>) -> CommandResult {
    let there = read(call)?.is_some_and(|hash| hash.get(call.args.at(2)).is_some());
    call.reply.integer(there as i64);
    Ok(())
}

fn hlen(call: &mut Call<'_>) -> CommandResult {
    let len = read(call)?.map_or(0, |hash| hash.len());
    call.reply.integer(len as i64);
    Ok(())
}

fn hstrlen(call: &mut Call<'_>) -> CommandResult {
    let value = read(call)?.and_then(|hash| hash.get(call.args.at(2)));
    let len = value.map_or(0, <[u8]>::len);
    call.reply.integer(len as i64);
    Ok(())
}

fn hgetall(call: &mut Call<'_>) -> CommandResult {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        call.reply.map(0);
        return Ok(());
    };
    let hash = entry.hash()?.at(call.now);
    call.reply.map(hash.len());
    hash.visit(&mut |field, value| {
        call.reply.bulk(field);
        call.reply.bulk(value);
    });
    Ok(())
}

fn hkeys(call: &mut Call<'_>) -> CommandResult {
    halves(call, |field, _| field)
}

fn hvals(call: &mut Call<'_>) -> CommandResult {
    halves(call, |_, value| value)
}

fn halves(call: &mut Call<'_>, half: for<'v> fn(&'v [u8], &'v [u8]) -> &'v [u8]) -> CommandResult {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        call.reply.array(0);
        return Ok(());
    };
    let hash = entry.hash()?.at(call.now);
    call.reply.array(hash.len());
    hash.visit(&mut |field, value| call.reply.bulk(half(field, value)));
    Ok(())
}

fn hincrby(call: &mut Call<'_>) -> CommandResult {
    const NOT_AN_INTEGER: CommandError = CommandError::new("ERR hash value is not an integer");
    let increment = integer(call.args.at(3))?;
    let (value, deadline) = match read_to_write(call)?.and_then(|hash| hash.find(call.args.at(2))) {
        Some((text, deadline)) => (parse_integer(text).ok_or(NOT_AN_INTEGER)?, deadline),
        None => (0, None),
    };
    let value = value.checked_add(increment).ok_or(OVERFLOW)?;
    put_sum(call, deadline.is_some(), itoa::Buffer::new().format(value).as_bytes());
    call.reply.integer(value);
    Ok(())
}

fn hincrbyfloat(call: &mut Call<'_>) -> CommandResult {
    const NOT_A_FLOAT: CommandError = CommandError::new("ERR hash value is not a float");
    const NOT_FINITE: CommandError = CommandError::new("ERR increment would produce NaN or Infinity");
    const INFINITE: CommandError = CommandError::new("ERR value is NaN or Infinity");
    let increment = Extended::parse(call.args.at(3)).ok_or(crate::error::NOT_A_FLOAT)?;
    if let Extended::Infinite { .. } = increment {
        return Err(INFINITE);
    }
    let (value, deadline) = match read_to_write(call)?.and_then(|hash| hash.find(call.args.at(2))) {
        Some((text, deadline)) => (Extended::parse(text).ok_or(NOT_A_FLOAT)?, deadline),
        None => (Extended::ZERO, None),
    };
    let text = value.checked_add(increment).ok_or(NOT_FINITE)?.to_string();
    put_sum(call, deadline.is_some(), text.as_bytes());
    call.reply.bulk(text.as_bytes());
    Ok(())
}

/// `HRANDFIELD key [count [WITHVALUES]]`
fn hrandfield(call: &mut Call<'_>) -> CommandResult {
    const RANGE: CommandError = CommandError::new("ERR value is out of range");
    let count = match call.args.get(2) {
        Some(arg) => Some(integer_within(arg, -i64::MAX, i64::MAX, None)?),
        None => None,
    };
    let with_values = call.args.len() > 3;
    if call.args.len() > 4 || with_values && !call.args.is(3, "withvalues") {
        return Err(SYNTAX);
    }
    let count_max = if with_values { i64::MAX as u64 / 2 } else { i64::MAX as u64 };
    if count.is_some_and(|count| count.unsigned_abs() > count_max) {
        return Err(RANGE);
    }
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        match count {
            Some(_) => call.reply.array(0),
            None => call.reply.null(),
        }
        return Ok(());
    };
    let hash = entry.hash()?.at(call.now);
    let Some(count) = count else {
        match hash.random(call.random) {
            Some((field, _)) => call.reply.bulk(field),
            None => call.reply.null(),
        }
        return Ok(());
    };
    if count < 0 && count.unsigned_abs() > CHOICES_MAX {
        return Err(RANGE);
    }
    let chosen = chosen(hash, count, call.random);
    let in_pairs = with_values && call.reply.protocol() == Protocol::Resp3;
    call.reply.array(if with_values && !in_pairs { chosen.len() * 2 } else { chosen.len() });
    for (field, value) in chosen {
        if in_pairs {
            call.reply.array(2);
        }
        call.reply.bulk(field);
        if with_values {
            call.reply.bulk(value);
        }
    }
    Ok(())
}

/// So many different pairs at random, if there are as many; of a negative count, that many, some maybe several times.
fn chosen<'a>(hash: LiveHash<'a>, count: i64, random: &mut Random) -> Vec<Pair<'a>> {
    let len = hash.len();
    let wanted = usize::try_from(count).map_or(len, |count| count.min(len));
    let draws = if count < 0 && len > 0 { count.unsigned_abs() } else { 0 };
    if hash.is_large() && hash.is_mostly_seen() {
        if count < 0 {
            return (0..draws).map_while(|_| hash.random(random)).collect();
        }
        if is_few(wanted, len) {
            let mut pairs = BTreeMap::new();
            while pairs.len() < wanted {
                pairs.extend(hash.random(random));
            }
            return pairs.into_iter().collect();
        }
    }
    let mut all = Vec::with_capacity(len);
    hash.visit(&mut |field, value| all.push((field, value)));
    if count < 0 {
        return (0..draws).map(|_| all[random.below(len as u64) as usize]).collect();
    }
    if wanted == len { all } else { choose(len, wanted, random).into_iter().map(|at| all[at]).collect() }
}

fn hscan(call: &mut Call<'_>) -> CommandResult {
    let cursor = Scan::cursor(&call.args)?;
    let protocol = call.reply.protocol();
    let (mut found, mut next) = (Found::default(), 0);
    if let Some(hash) = read(call)? {
        let scan = Scan::parse(&call.args, cursor, true)?;
        next = hash.scan(scan.cursor, scan.count, &mut |field, value| {
            if scan.matches(field) {
                found.bulk(protocol, field);
                if !scan.no_values {
                    found.bulk(protocol, value);
                }
            }
        });
    }
    Scan::reply(call, next, &found);
    Ok(())
}
