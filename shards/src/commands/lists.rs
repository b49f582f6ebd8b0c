//! Lists: elements at their ends, by index and by value.

mod blocking;

use super::elements::{find_numbered, integer_within};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, NO_SUCH_KEY, OUT_OF_RANGE, SYNTAX};
use crate::keyspace::Keyspace;
use crate::numbers::integer;
use crate::row::{KeyUse, Keys, Row, Traits};
use crate::types::list::{ListChange, ListRef};
use crate::types::{Kind, Need, View};
use crate::units::{Db, Now};

const READ: Traits = Traits::READ;
const WRITE: Traits = Traits::WRITE;
const WRITE_FAST: Traits = WRITE.and(Traits::FAST);
const GROWS: Traits = WRITE.and(Traits::DENY_OOM);
const GROWS_FAST: Traits = GROWS.and(Traits::FAST);

const WAITS: Traits = WRITE.and(Traits::NO_SCRIPT).and(Traits::BLOCKING);

/// All arguments but the timeout.
const ALL_BUT_LAST: Keys = Keys::Range { first: 1, last: -2, step: 1, usage: KeyUse::ReadWrite };
const FROM_TO: Keys = Keys::Range { first: 1, last: 2, step: 1, usage: KeyUse::ReadWrite };

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("blmove", 6, WAITS.and(Traits::DENY_OOM), blocking::blmove).keys(FROM_TO).need(|_| Need::Ends(1))
        .docs("list", "6.2.0", "O(1)", "As LMOVE, but waits until there is an element."),
    <Row>::new("blmpop", -5, WRITE.and(Traits::BLOCKING).and(Traits::MOVABLE_KEYS), blocking::blmpop)
        .keys(Keys::Find { find: |args, out| find_numbered(args, 2, out), usage: KeyUse::ReadWrite }).need(|args| MultiPop::need(args, 2))
        .docs("list", "7.0.0", "O(N+M) for N keys and M elements taken", "As LMPOP, but waits until one of the lists has an element."),
    <Row>::new("blpop", -3, WAITS, blocking::blpop).keys(ALL_BUT_LAST).need(|_| Need::Ends(1))
        .docs("list", "2.0.0", "O(N) for N keys", "Takes an element off the left end of the first of several lists that has one, or waits for one."),
    <Row>::new("brpop", -3, WAITS, blocking::brpop).keys(ALL_BUT_LAST).need(|_| Need::Ends(1))
        .docs("list", "2.0.0", "O(N) for N keys", "Takes an element off the right end of the first of several lists that has one, or waits for one."),
    <Row>::new("brpoplpush", 4, WAITS.and(Traits::DENY_OOM), blocking::brpoplpush).keys(FROM_TO).need(|_| Need::Ends(1))
        .docs("list", "2.2.0", "O(1)", "As RPOPLPUSH, but waits until there is an element."),
    <Row>::new("lindex", 3, READ, lindex).key(KeyUse::Read)
        .docs("list", "1.0.0", "O(N) for N elements on the way from the nearer end, a node at a time", "Replies the element at an index."),
    <Row>::new("linsert", 5, GROWS, linsert).key(KeyUse::ReadWrite)
        .docs("list", "2.2.0", "O(N) for N elements before the one looked for", "Puts an element before or behind another."),
    <Row>::new("llen", 2, READ.and(Traits::FAST), llen).key(KeyUse::Read)
        .docs("list", "1.0.0", "O(1)", "Counts the elements of a list."),
    <Row>::new("lmove", 5, GROWS, lmove).keys(FROM_TO).need(|_| Need::Ends(1))
        .docs("list", "6.2.0", "O(1)", "Takes an element off one end of a list and puts it on an end of another."),
    <Row>::new("lmpop", -4, WRITE.and(Traits::MOVABLE_KEYS), lmpop)
        .keys(Keys::Find { find: |args, out| find_numbered(args, 1, out), usage: KeyUse::ReadWrite }).need(|args| MultiPop::need(args, 1))
        .docs("list", "7.0.0", "O(N+M) for N keys and M elements taken", "Takes elements off the first of several lists that has some."),
    <Row>::new("lpop", -2, WRITE_FAST, lpop).key(KeyUse::ReadWrite)
        .docs("list", "1.0.0", "O(N) for N elements taken", "Takes elements off the left end of a list."),
    <Row>::new("lpos", -3, READ, lpos).key(KeyUse::Read)
        .docs("list", "6.0.6", "O(N) for N elements looked at", "Replies where in a list an element is."),
    <Row>::new("lpush", -3, GROWS_FAST, lpush).key(KeyUse::Write)
        .docs("list", "1.0.0", "O(N) for N elements", "Puts elements on the left end of a list, which is made when it doesn't exist."),
    <Row>::new("lpushx", -3, GROWS_FAST, lpushx).key(KeyUse::ReadWrite)
        .docs("list", "2.2.0", "O(N) for N elements", "Puts elements on the left end of a list that exists."),
    <Row>::new("lrange", 4, READ, lrange).key(KeyUse::Read)
        .docs("list", "1.0.0", "O(S+N) for the start's distance from the nearer end and N elements replied", "Replies the elements between two indexes."),
    <Row>::new("lrem", 4, WRITE, lrem).key(KeyUse::ReadWrite)
        .docs("list", "1.0.0", "O(N) for N elements", "Takes elements that equal a value out of a list."),
    <Row>::new("lset", 4, GROWS, lset).key(KeyUse::ReadWrite)
        .docs("list", "1.0.0", "O(N) for N elements on the way from the nearer end, a node at a time", "Replaces the element at an index."),
    <Row>::new("ltrim", 4, WRITE, ltrim).key(KeyUse::ReadWrite)
        .docs("list", "1.0.0", "O(N) for N elements taken", "Keeps the elements between two indexes and no other."),
    <Row>::new("rpop", -2, WRITE_FAST, rpop).key(KeyUse::ReadWrite)
        .docs("list", "1.0.0", "O(N) for N elements taken", "Takes elements off the right end of a list."),
    <Row>::new("rpoplpush", 3, GROWS, rpoplpush).keys(FROM_TO).need(|_| Need::Ends(1))
        .docs("list", "1.2.0", "O(1)", "Takes an element off the right end of a list and puts it on the left end of another."),
    <Row>::new("rpush", -3, GROWS_FAST, rpush).key(KeyUse::Write)
        .docs("list", "1.0.0", "O(N) for N elements", "Puts elements on the right end of a list, which is made when it doesn't exist."),
    <Row>::new("rpushx", -3, GROWS_FAST, rpushx).key(KeyUse::ReadWrite)
        .docs("list", "2.2.0", "O(N) for N elements", "Puts elements on the right end of a list that exists."),
];

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn parse(arg: &[u8]) -> Result<Side, CommandError> {
        if arg.eq_ignore_ascii_case(b"left") {
            Ok(Side::Left)
        } else if arg.eq_ignore_ascii_case(b"right") {
            Ok(Side::Right)
        } else {
            Err(SYNTAX)
        }
    }
    fn push<'a>(self, value: &'a [u8]) -> ListChange<'a> {
        match self {
            Side::Left => ListChange::PushLeft { value },
            Side::Right => ListChange::PushRight { value },
        }
    }
    fn pop(self, count: u64) -> ListChange<'static> {
        match self {
            Side::Left => ListChange::PopLeft { count },
            Side::Right => ListChange::PopRight { count },
        }
    }
    /// The first elements seen from this end.
    fn peek<'a>(self, list: ListRef<'a>, count: usize) -> Vec<&'a [u8]> {
        match self {
            Side::Left => list.iter().take(count).collect(),
            Side::Right => list.iter().rev().take(count).collect(),
        }
    }
}

/// The list at a key for a read, or that there is none.
fn read<'k>(keyspace: &'k Keyspace, db: Db, key: &[u8], now: Now) -> Result<Option<ListRef<'k>>, CommandError> {
    keyspace.get(db, key, now).map(|entry| entry.list()).transpose()
}

/// The same for a write.
fn read_to_write<'k>(
    keyspace: &'k Keyspace,
    db: Db,
    key: &[u8],
    now: Now,
) -> Result<Option<ListRef<'k>>, CommandError> {
    keyspace.get_to_write(db, key, now).map(|entry| entry.list()).transpose()
}

/// Index as Redis counts it, negative from the end; it may lie outside.
fn resolve(index: i64, len: usize) -> i64 {
    if index < 0 { index.saturating_add(len as i64) } else { index }
}

/// The elements from `start` to `stop`, both included, as a start and a count.
fn resolve_range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let start = resolve(start, len).max(0);
    let stop = resolve(stop, len).min(len as i64 - 1);
    if start > stop { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

fn lpush(call: &mut Call<'_>) -> CommandResult {
    push(call, Side::Left, false)
}

fn rpush(call: &mut Call<'_>) -> CommandResult {
    push(call, Side::Right, false)
}

fn lpushx(call: &mut Call<'_>) -> CommandResult {
    push(call, Side::Left, true)
}

fn rpushx(call: &mut Call<'_>) -> CommandResult {
    push(call, Side::Right, true)
}

fn push(call: &mut Call<'_>, side: Side, only_existing: bool) -> CommandResult {
    let key = call.args.at(1);
    let values = call.args.from(2);
    let there = read_to_write(call.keyspace, call.db, key, call.now)?.map(|list| list.len());
    if only_existing && there.is_none() {
        call.reply.integer(0);
        return Ok(());
    }
    let mut changes = Vec::with_capacity(values.iter().map(|value| value.len() + 8).sum());
    values.iter().for_each(|value| side.push(value).encode(&mut changes));
    call.write_collection(key, Kind::List, &changes);
    call.reply.integer((there.unwrap_or(0) + values.len()) as i64);
    Ok(())
}

fn lpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, Side::Left)
}

fn rpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, Side::Right)
}

fn pop(call: &mut Call<'_>, side: Side) -> CommandResult {
    if call.args.len() > 3 {
        return Err(CommandError::wrong_arity(call.name));
    }
    let key = call.args.at(1);
    let count = match call.args.get(2) {
        Some(arg) => Some(integer_within(arg, 0, i64::MAX, Some("ERR value is out of range, must be positive"))?),
        None => None,
    };
    let Some(list) = read_to_write(call.keyspace, call.db, key, call.now)? else {
        match count {
            Some(_) => call.reply.null_array(),
            None => call.reply.null(),
        }
        return Ok(());
    };
    let wanted = usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX);
    let popped = side.peek(list, wanted);
    if count.is_some() {
        call.reply.array(popped.len());
    }
    popped.iter().for_each(|value| call.reply.bulk(value));
    let popped = popped.len();
    take(call, key, side, popped);
    Ok(())
}

/// Takes so many elements off a list that has as many.
fn take(call: &mut Call<'_>, key: &[u8], side: Side, count: usize) {
    if count > 0 {
        let mut changes = Vec::new();
        side.pop(count as u64).encode(&mut changes);
        call.write_collection(key, Kind::List, &changes);
    }
}

/// `LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]`
fn lmpop(call: &mut Call<'_>) -> CommandResult {
    let from = MultiPop::parse(&call.args, 1)?;
    if !pop_first(call, from)? {
        call.reply.null_array();
    }
    Ok(())
}

/// Pops from the first list that there is; `false`: there is none, and nothing was replied.
fn pop_first(call: &mut Call<'_>, from: MultiPop<'_>) -> Result<bool, CommandError> {
    let MultiPop { keys, side, count } = from;
    for key in keys {
        let Some(list) = read_to_write(call.keyspace, call.db, key, call.now)? else { continue };
        let popped = side.peek(list, count);
        call.reply.array(2);
        call.reply.bulk(key);
        call.reply.array(popped.len());
        popped.iter().for_each(|value| call.reply.bulk(value));
        let popped = popped.len();
        take(call, key, side, popped);
        return Ok(true);
    }
    Ok(false)
}

struct MultiPop<'a> {
    keys: Vec<&'a [u8]>,
    side: Side,
    count: usize,
}

impl<'a> MultiPop<'a> {
    fn need(args: &Args<'a>, at: usize) -> Need<'a> {
        MultiPop::parse(args, at).map_or(Need::All, |pop| Need::Ends(pop.count as u64))
    }
    /// The number of keys is at argument `at`.
    fn parse(args: &Args<'a>, at: usize) -> Result<MultiPop<'a>, CommandError> {
        let numkeys = integer_within(args.at(at), 1, i64::MAX, Some("ERR numkeys should be greater than 0"))?;
        let side_at = usize::try_from(numkeys).ok().and_then(|numkeys| (at + 1).checked_add(numkeys));
        let side_at = side_at.filter(|side_at| *side_at < args.len()).ok_or(SYNTAX)?;
        let side = Side::parse(args.at(side_at))?;
        let mut count = None;
        let mut option = side_at + 1;
        while option < args.len() {
            let value = args.get(option + 1).filter(|_| args.is(option, "count") && count.is_none()).ok_or(SYNTAX)?;
            count = Some(integer_within(value, 1, i64::MAX, Some("ERR count should be greater than 0"))?);
            option += 2;
        }
        let keys = (at + 1..side_at).map(|at| args.at(at)).collect();
        Ok(MultiPop { keys, side, count: usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX) })
    }
}

fn llen(call: &mut Call<'_>) -> CommandResult {
    let len = read(call.keyspace, call.db, call.args.at(1), call.now)?.map_or(0, |list| list.len());
    call.reply.integer(len as i64);
    Ok(())
}

fn lindex(call: &mut Call<'_>) -> CommandResult {
    let Some(list) = read(call.keyspace, call.db, call.args.at(1), call.now)? else {
        call.reply.null();
        return Ok(());
    };
    let index = resolve(integer(call.args.at(2))?, list.len());
    match usize::try_from(index).ok().and_then(|index| list.get(index)) {
        Some(value) => call.reply.bulk(value),
        None => call.reply.null(),
    }
    Ok(())
}

fn lrange(call: &mut Call<'_>) -> CommandResult {
    let (start, stop) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
    let Some(list) = read(call.keyspace, call.db, call.args.at(1), call.now)? else {
        call.reply.array(0);
        return Ok(());
    };
    let (start, count) = resolve_range(start, stop, list.len());
    call.reply.array(count);
    list.iter_from(start).take(count).for_each(|value| call.reply.bulk(value));
    Ok(())
}

fn lset(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let list = read_to_write(call.keyspace, call.db, key, call.now)?.ok_or(NO_SUCH_KEY)?;
    let index = resolve(integer(call.args.at(2))?, list.len());
    let index = u64::try_from(index).ok().filter(|index| *index < list.len() as u64).ok_or(OUT_OF_RANGE)?;
    let mut changes = Vec::new();
    ListChange::Set { index, value: call.args.at(3) }.encode(&mut changes);
    call.write_collection(key, Kind::List, &changes);
    call.reply.ok();
    Ok(())
}

/// `LINSERT key BEFORE|AFTER pivot element`
fn linsert(call: &mut Call<'_>) -> CommandResult {
    let [key, pivot, value] = [1, 3, 4].map(|at| call.args.at(at));
    let behind = match () {
        _ if call.args.is(2, "after") => 1,
        _ if call.args.is(2, "before") => 0,
        _ => return Err(SYNTAX),
    };
    let Some(list) = read_to_write(call.keyspace, call.db, key, call.now)? else {
        call.reply.integer(0);
        return Ok(());
    };
    let len = list.len() as i64;
    let Some(index) = list.iter().position(|element| element == pivot) else {
        call.reply.integer(-1);
        return Ok(());
    };
    let mut changes = Vec::new();
    ListChange::Insert { index: index as u64 + behind, value }.encode(&mut changes);
    call.write_collection(key, Kind::List, &changes);
    call.reply.integer(len + 1);
    Ok(())
}

fn lrem(call: &mut Call<'_>) -> CommandResult {
    let [key, value] = [1, 3].map(|at| call.args.at(at));
    let count = integer(call.args.at(2))?;
    let Some(list) = read_to_write(call.keyspace, call.db, key, call.now)? else {
        call.reply.integer(0);
        return Ok(());
    };
    let wanted = if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
    // From the right end, so that no removal moves what is still to be removed.
    let mut matches: Vec<u64> = if count < 0 {
        let last = list.len() as u64 - 1;
        let from_right = list.iter().rev().enumerate().filter(|(_, element)| *element == value);
        from_right.take(wanted).map(|(distance, _)| last - distance as u64).collect()
    } else {
        let from_left = list.iter().enumerate().filter(|(_, element)| *element == value);
        from_left.take(wanted).map(|(index, _)| index as u64).collect()
    };
    matches.sort_unstable_by(|a, b| b.cmp(a));
    let mut changes = Vec::new();
    for run in matches.chunk_by(|later, earlier| later - earlier == 1) {
        let index = *run.last().expect("a run has an element");
        ListChange::Remove { index, count: run.len() as u64 }.encode(&mut changes);
    }
    if !matches.is_empty() {
        call.write_collection(key, Kind::List, &changes);
    }
    call.reply.integer(matches.len() as i64);
    Ok(())
}

fn ltrim(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let (start, stop) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
    if let Some(list) = read_to_write(call.keyspace, call.db, key, call.now)? {
        let len = list.len();
        let (start, count) = resolve_range(start, stop, len);
        let mut changes = Vec::new();
        if count == 0 {
            Side::Left.pop(len as u64).encode(&mut changes);
        } else {
            for (side, count) in [(Side::Right, len - start - count), (Side::Left, start)] {
                if count > 0 {
                    side.pop(count as u64).encode(&mut changes);
                }
            }
        }
        if !changes.is_empty() {
            call.write_collection(key, Kind::List, &changes);
        }
    }
    call.reply.ok();
    Ok(())
}

/// `LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]`
fn lpos(call: &mut Call<'_>) -> CommandResult {
    const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                             negative to start from the end of the list";
    let element = call.args.at(2);
    let (mut rank, mut count, mut looked_at_max) = (1, None, 0);
    let mut at = 3;
    while at < call.args.len() {
        let value = call.args.get(at + 1).ok_or(SYNTAX)?;
        if call.args.is(at, "rank") {
            rank = integer_within(value, -i64::MAX, i64::MAX, None)?;
            if rank == 0 {
                return Err(CommandError::new(RANK_ZERO));
            }
        } else if call.args.is(at, "count") {
            count = Some(integer_within(value, 0, i64::MAX, Some("ERR COUNT can't be negative"))?);
        } else if call.args.is(at, "maxlen") {
            looked_at_max = integer_within(value, 0, i64::MAX, Some("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let unlimited = |value: i64| if value == 0 { usize::MAX } else { usize::try_from(value).unwrap_or(usize::MAX) };
    let Some(list) = read(call.keyspace, call.db, call.args.at(1), call.now)? else {
        match count {
            Some(_) => call.reply.array(0),
            None => call.reply.null(),
        }
        return Ok(());
    };
    let len = list.len();
    let elements: Box<dyn Iterator<Item = (usize, &[u8])>> = if rank > 0 {
        Box::new(list.iter().enumerate())
    } else {
        Box::new(list.iter().rev().enumerate().map(|(distance, other)| (len - 1 - distance, other)))
    };
    let skipped = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let mut matches =
        elements.take(unlimited(looked_at_max)).filter(|(_, other)| *other == element).map(|(at, _)| at).skip(skipped);
    match count {
        None => match matches.next() {
            Some(index) => call.reply.integer(index as i64),
            None => call.reply.null(),
        },
        Some(count) => {
            let matches: Vec<usize> = matches.take(unlimited(count)).collect();
            call.reply.array(matches.len());
            matches.into_iter().for_each(|index| call.reply.integer(index as i64));
        }
    }
    Ok(())
}

/// `LMOVE source destination LEFT|RIGHT LEFT|RIGHT`
fn lmove(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (Side::parse(call.args.at(3))?, Side::parse(call.args.at(4))?);
    move_or_null(call, from, to)
}

fn rpoplpush(call: &mut Call<'_>) -> CommandResult {
    move_or_null(call, Side::Right, Side::Left)
}

fn move_or_null(call: &mut Call<'_>, from: Side, to: Side) -> CommandResult {
    if !move_element(call, from, to)? {
        call.reply.null();
    }
    Ok(())
}

/// `false`: there is nothing to move, and nothing was replied.
fn move_element(call: &mut Call<'_>, from: Side, to: Side) -> Result<bool, CommandError> {
    let [source, target] = [1, 2].map(|at| call.args.at(at));
    let Some(list) = read_to_write(call.keyspace, call.db, source, call.now)? else {
        return Ok(false);
    };
    read_to_write(call.keyspace, call.db, target, call.now)?;
    let value = from.peek(list, 1)[0].to_vec();
    let mut changes = Vec::new();
    from.pop(1).encode(&mut changes);
    if source != target {
        call.write_collection(source, Kind::List, &changes);
        changes.clear();
    }
    to.push(&value).encode(&mut changes);
    call.write_collection(target, Kind::List, &changes);
    call.reply.bulk(&value);
    Ok(true)
}
