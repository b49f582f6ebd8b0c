//! Sorted sets: members and scores. Ranges are in `ranges`, the algebra of sets in `algebra`.

mod algebra;
mod blocking;
mod ranges;

pub(super) use ranges::replace;

use super::elements::{CHOICES_MAX, Found, Scan, choose, find_numbered, integer_within};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::Keyspace;
use crate::numbers::{float, format_double};
use crate::reply::Protocol;
use crate::row::{KeyUse, Keys, Row, Traits};
use crate::types::sorted_set::{Bound, SortedSetChange, SortedSetRef};
use crate::types::{Kind, Need, View};
use crate::units::{Db, Now};
use std::collections::BTreeMap;

const READ: Traits = Traits::READ;
const READ_FAST: Traits = READ.and(Traits::FAST);
const WRITE: Traits = Traits::WRITE;
const WRITE_FAST: Traits = WRITE.and(Traits::FAST);
const GROWS: Traits = WRITE.and(Traits::DENY_OOM);
const GROWS_FAST: Traits = GROWS.and(Traits::FAST);
const WAITS: Traits = WRITE_FAST.and(Traits::NO_SCRIPT).and(Traits::BLOCKING);

/// Keys behind their number at argument 1.
const NUMBERED: Keys = Keys::Find { find: |args, out| find_numbered(args, 1, out), usage: KeyUse::Read };
/// A destination, and keys behind their number at argument 2.
const STORE_NUMBERED: Keys = Keys::Find { find: find_stored, usage: KeyUse::ReadWrite };
/// All arguments but the timeout.
const ALL_BUT_LAST: Keys = Keys::Range { first: 1, last: -2, step: 1, usage: KeyUse::ReadWrite };
const STORE: Keys = Keys::Two { first: (1, KeyUse::Overwrite), rest: (2, 2, KeyUse::Read) };

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("bzmpop", -5, WRITE.and(Traits::BLOCKING).and(Traits::MOVABLE_KEYS), blocking::bzmpop)
        .keys(Keys::Find { find: |args, out| find_numbered(args, 2, out), usage: KeyUse::ReadWrite }).need(|args| MultiPop::need(args, 2))
        .docs("sorted-set", "7.0.0", "O(K + M log N) for K keys and M members taken", "As ZMPOP, but waits until one of the sorted sets has a member."),
    <Row>::new("bzpopmax", -3, WAITS, blocking::bzpopmax).keys(ALL_BUT_LAST).need(|_| Need::Ends(1))
        .docs("sorted-set", "5.0.0", "O(log N)", "Takes the member with the highest score off the first of several sorted sets that has one, or waits for one."),
    <Row>::new("bzpopmin", -3, WAITS, blocking::bzpopmin).keys(ALL_BUT_LAST).need(|_| Need::Ends(1))
        .docs("sorted-set", "5.0.0", "O(log N)", "Takes the member with the lowest score off the first of several sorted sets that has one, or waits for one."),
    <Row>::new("zadd", -4, GROWS_FAST, zadd).key(KeyUse::ReadWrite)
        .docs("sorted-set", "1.2.0", "O(log N) per member", "Gives members scores; adds those that are not there."),
    <Row>::new("zcard", 2, READ_FAST, zcard).key(KeyUse::Read)
        .docs("sorted-set", "1.2.0", "O(1)", "Counts the members of a sorted set."),
    <Row>::new("zcount", 4, READ_FAST, ranges::zcount).key(KeyUse::Read)
        .docs("sorted-set", "2.0.0", "O(log N)", "Counts the members with scores between two."),
    <Row>::new("zdiff", -3, READ.and(Traits::MOVABLE_KEYS), algebra::zdiff).keys(NUMBERED)
        .docs("sorted-set", "6.2.0", "O(N log N) for N members in all sets", "Replies the members of the first set that are in none of the others."),
    <Row>::new("zdiffstore", -4, GROWS.and(Traits::MOVABLE_KEYS), algebra::zdiffstore).keys(STORE_NUMBERED)
        .docs("sorted-set", "6.2.0", "O(N log N) for N members in all sets", "Keeps the members of one set that are in none of the others."),
    <Row>::new("zincrby", 4, GROWS_FAST, zincrby).key(KeyUse::ReadWrite)
        .docs("sorted-set", "1.2.0", "O(log N)", "Adds to the score of a member, which counts as 0 when absent."),
    <Row>::new("zinter", -3, READ.and(Traits::MOVABLE_KEYS), algebra::zinter).keys(NUMBERED)
        .docs("sorted-set", "6.2.0", "O(N*K + M log M) for N members in the smallest of K sets and M in the result", "Replies the members that all sets have."),
    <Row>::new("zintercard", -3, READ.and(Traits::MOVABLE_KEYS), algebra::zintercard).keys(NUMBERED)
        .docs("sorted-set", "7.0.0", "O(N*K) for N members in the smallest of K sets", "Counts the members that all sets have, up to a limit."),
    <Row>::new("zinterstore", -4, GROWS.and(Traits::MOVABLE_KEYS), algebra::zinterstore).keys(STORE_NUMBERED)
        .docs("sorted-set", "2.0.0", "O(N*K + M log M) for N members in the smallest of K sets and M in the result", "Keeps the members that all sets have."),
    <Row>::new("zlexcount", 4, READ_FAST, ranges::zlexcount).key(KeyUse::Read)
        .docs("sorted-set", "2.8.9", "O(log N)", "Counts the members between two, where all scores are the same."),
    <Row>::new("zmpop", -4, WRITE.and(Traits::MOVABLE_KEYS), zmpop)
        .keys(Keys::Find { find: |args, out| find_numbered(args, 1, out), usage: KeyUse::ReadWrite }).need(|args| MultiPop::need(args, 1))
        .docs("sorted-set", "7.0.0", "O(K + M log N) for K keys and M members taken", "Takes members off an end of the first of several sorted sets that has some."),
    <Row>::new("zmscore", -3, READ_FAST, zmscore).key(KeyUse::Read)
        .docs("sorted-set", "6.2.0", "O(N) for N members asked for", "Replies the scores of members."),
    <Row>::new("zpopmax", -2, WRITE_FAST, zpopmax).key(KeyUse::ReadWrite)
        .docs("sorted-set", "5.0.0", "O(M log N) for M members taken", "Takes the members with the highest scores."),
    <Row>::new("zpopmin", -2, WRITE_FAST, zpopmin).key(KeyUse::ReadWrite)
        .docs("sorted-set", "5.0.0", "O(M log N) for M members taken", "Takes the members with the lowest scores."),
    <Row>::new("zrandmember", -2, READ, zrandmember).key(KeyUse::Read)
        .docs("sorted-set", "6.2.0", "O(M) for M members chosen", "Replies members chosen at random, with their scores if asked."),
    <Row>::new("zrange", -4, READ, ranges::zrange).key(KeyUse::Read)
        .docs("sorted-set", "1.2.0", "O(log N + M) for M members replied", "Replies members between two ranks, scores or members."),
    <Row>::new("zrangebylex", -4, READ, ranges::zrangebylex).key(KeyUse::Read)
        .docs("sorted-set", "2.8.9", "O(log N + M) for M members replied", "Replies the members between two, where all scores are the same."),
    <Row>::new("zrangebyscore", -4, READ, ranges::zrangebyscore).key(KeyUse::Read)
        .docs("sorted-set", "1.0.5", "O(log N + M) for M members replied", "Replies the members with scores between two."),
    <Row>::new("zrangestore", -5, GROWS, ranges::zrangestore).keys(STORE)
        .docs("sorted-set", "6.2.0", "O(log N + M log M) for M members kept", "Keeps members between two ranks, scores or members as a sorted set of its own."),
    <Row>::new("zrank", -3, READ_FAST, ranges::zrank).key(KeyUse::Read)
        .docs("sorted-set", "2.0.0", "O(log N)", "Replies how many members come before one."),
    <Row>::new("zrem", -3, WRITE_FAST, zrem).key(KeyUse::ReadWrite)
        .docs("sorted-set", "1.2.0", "O(M log N) for M members", "Takes members out of a sorted set and counts those it had."),
    <Row>::new("zremrangebylex", 4, WRITE, ranges::zremrangebylex).key(KeyUse::ReadWrite)
        .docs("sorted-set", "2.8.9", "O(M log N) for M members taken", "Takes out the members between two, where all scores are the same."),
    <Row>::new("zremrangebyrank", 4, WRITE, ranges::zremrangebyrank).key(KeyUse::ReadWrite)
        .docs("sorted-set", "2.0.0", "O(M log N) for M members taken", "Takes out the members between two ranks."),
    <Row>::new("zremrangebyscore", 4, WRITE, ranges::zremrangebyscore).key(KeyUse::ReadWrite)
        .docs("sorted-set", "1.2.0", "O(M log N) for M members taken", "Takes out the members with scores between two."),
    <Row>::new("zrevrange", -4, READ, ranges::zrevrange).key(KeyUse::Read)
        .docs("sorted-set", "1.2.0", "O(log N + M) for M members replied", "Replies members between two ranks counted from the highest score."),
    <Row>::new("zrevrangebylex", -4, READ, ranges::zrevrangebylex).key(KeyUse::Read)
        .docs("sorted-set", "2.8.9", "O(log N + M) for M members replied", "Replies the members between two backwards, where all scores are the same."),
    <Row>::new("zrevrangebyscore", -4, READ, ranges::zrevrangebyscore).key(KeyUse::Read)
        .docs("sorted-set", "2.2.0", "O(log N + M) for M members replied", "Replies the members with scores between two, the highest first."),
    <Row>::new("zrevrank", -3, READ_FAST, ranges::zrevrank).key(KeyUse::Read)
        .docs("sorted-set", "2.0.0", "O(log N)", "Replies how many members come behind one."),
    <Row>::new("zscan", -3, READ, zscan).key(KeyUse::Read)
        .docs("sorted-set", "2.8.0", "O(1) per call, O(N) for all N members", "Replies some members and scores, and the cursor with which to ask for more."),
    <Row>::new("zscore", 3, READ_FAST, zscore).key(KeyUse::Read)
        .docs("sorted-set", "1.2.0", "O(1)", "Replies the score of a member."),
    <Row>::new("zunion", -3, READ.and(Traits::MOVABLE_KEYS), algebra::zunion).keys(NUMBERED)
        .docs("sorted-set", "6.2.0", "O(N log N) for N members in all sets", "Replies the members that any of the sets has."),
    <Row>::new("zunionstore", -4, GROWS.and(Traits::MOVABLE_KEYS), algebra::zunionstore).keys(STORE_NUMBERED)
        .docs("sorted-set", "2.0.0", "O(N log N) for N members in all sets", "Keeps the members that any of the sets has."),
];

fn find_stored(args: &Args<'_>, out: &mut Vec<usize>) -> bool {
    out.push(1);
    find_numbered(args, 2, out)
}

/// The sorted set at a key for a read, or that there is none.
pub(super) fn read<'k>(
    keyspace: &'k Keyspace,
    db: Db,
    key: &[u8],
    now: Now,
) -> Result<Option<SortedSetRef<'k>>, CommandError> {
    keyspace.get(db, key, now).map(|entry| entry.sorted_set()).transpose()
}

/// The same for a write.
fn read_to_write<'k>(
    keyspace: &'k Keyspace,
    db: Db,
    key: &[u8],
    now: Now,
) -> Result<Option<SortedSetRef<'k>>, CommandError> {
    keyspace.get_to_write(db, key, now).map(|entry| entry.sorted_set()).transpose()
}

/// Members with their scores: pairs in RESP3, one behind the other in RESP2.
fn reply_elements(call: &mut Call<'_>, elements: &[(f64, Vec<u8>)], with_scores: bool) {
    let in_pairs = with_scores && call.reply.protocol() == Protocol::Resp3;
    call.reply.array(if with_scores && !in_pairs { elements.len() * 2 } else { elements.len() });
    for (score, member) in elements {
        if in_pairs {
            call.reply.array(2);
        }
        call.reply.bulk(member);
        if with_scores {
            call.reply.double(*score);
        }
    }
}

/// Removes members from the sorted set at a key.
fn remove_all<'m>(call: &mut Call<'_>, key: &[u8], members: impl Iterator<Item = &'m [u8]>) {
    let mut changes = Vec::new();
    members.for_each(|member| SortedSetChange::Remove { member }.encode(&mut changes));
    if !changes.is_empty() {
        call.write_collection(key, Kind::SortedSet, &changes);
    }
}

#[derive(Default)]
pub(super) struct AddOptions {
    pub only_new: bool,
    pub only_existing: bool,
    only_greater: bool,
    only_less: bool,
    pub count_changed: bool,
    increment: bool,
}

impl AddOptions {
    /// From argument 2 on; where scores begin.
    fn parse(args: &Args<'_>) -> Result<(AddOptions, usize), CommandError> {
        let mut options = AddOptions::default();
        let mut at = 2;
        while at < args.len() {
            let flag = match () {
                _ if args.is(at, "nx") => &mut options.only_new,
                _ if args.is(at, "xx") => &mut options.only_existing,
                _ if args.is(at, "gt") => &mut options.only_greater,
                _ if args.is(at, "lt") => &mut options.only_less,
                _ if args.is(at, "ch") => &mut options.count_changed,
                _ if args.is(at, "incr") => &mut options.increment,
                _ => break,
            };
            *flag = true;
            at += 1;
        }
        let elements = args.len() - at;
        if elements == 0 || !elements.is_multiple_of(2) {
            return Err(SYNTAX);
        }
        if options.only_new && options.only_existing {
            return Err(CommandError::new("ERR XX and NX options at the same time are not compatible"));
        }
        if options.only_new as u8 + options.only_greater as u8 + options.only_less as u8 > 1 {
            return Err(CommandError::new("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if options.increment && elements > 2 {
            return Err(CommandError::new("ERR INCR option supports a single increment-element pair"));
        }
        Ok((options, at))
    }
    /// What a member's score becomes, if it is changed at all; `None` leaves it.
    fn decide(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, CommandError> {
        const NOT_A_NUMBER: CommandError = CommandError::new("ERR resulting score is not a number (NaN)");
        let Some(old) = old else { return Ok((!self.only_existing).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let new = if self.increment { old + given } else { given };
        if new.is_nan() {
            return Err(NOT_A_NUMBER);
        }
        let leaves = self.only_greater && new <= old || self.only_less && new >= old;
        Ok((!leaves).then_some(new))
    }
}

/// `ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]`
fn zadd(call: &mut Call<'_>) -> CommandResult {
    let (options, first) = AddOptions::parse(&call.args)?;
    add_pairs(call, &options, first)
}

fn zincrby(call: &mut Call<'_>) -> CommandResult {
    // To Redis it is a ZADD, whose options are seen here too: `ZINCRBY key NX member` lacks a member.
    let (options, first) = AddOptions::parse(&call.args)?;
    add_pairs(call, &AddOptions { increment: true, ..options }, first)
}

fn add_pairs(call: &mut Call<'_>, options: &AddOptions, first: usize) -> CommandResult {
    let pairs = call.args.from(first);
    let elements = (0..pairs.len())
        .step_by(2)
        .map(|at| Ok((float(pairs.at(at))?, pairs.at(at + 1))))
        .collect::<Result<smallvec::SmallVec<[(f64, &[u8]); 4]>, CommandError>>()?;
    add(call, options, &elements)
}

/// Gives members scores in the sorted set at argument 1, and replies as ZADD does.
pub(super) fn add(call: &mut Call<'_>, options: &AddOptions, elements: &[(f64, &[u8])]) -> CommandResult {
    let key = call.args.at(1);
    let set = read_to_write(call.keyspace, call.db, key, call.now)?;
    let mut changes = Vec::new();
    let (mut added, mut updated, mut last) = (0, 0, None);
    // Only of several members can one be named twice: it is looked up where it was put.
    let mut put = BTreeMap::new();
    for &(score, member) in elements {
        let old = put.get(member).copied().or_else(|| set.and_then(|set| set.score(member)));
        last = options.decide(old, score)?;
        let Some(new) = last else { continue };
        match old {
            Some(old) if old == new => continue,
            Some(_) => updated += 1,
            None => added += 1,
        }
        SortedSetChange::Put { score: new, member }.encode(&mut changes);
        if elements.len() > 1 {
            put.insert(member, new);
        }
    }
    if !changes.is_empty() {
        call.write_collection(key, Kind::SortedSet, &changes);
    }
    match last {
        Some(score) if options.increment => call.reply.double(score),
        None if options.increment => call.reply.null(),
        _ => call.reply.integer(if options.count_changed { added + updated } else { added }),
    }
    Ok(())
}

fn zrem(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let mut members = Vec::new();
    if let Some(set) = read_to_write(call.keyspace, call.db, key, call.now)? {
        members.extend(call.args.from(2).iter().filter(|member| set.score(member).is_some()));
        members.sort_unstable();
        members.dedup();
    }
    call.reply.integer(members.len() as i64);
    remove_all(call, key, members.into_iter());
    Ok(())
}

fn zcard(call: &mut Call<'_>) -> CommandResult {
    let len = read(call.keyspace, call.db, call.args.at(1), call.now)?.map_or(0, |set| set.len());
    call.reply.integer(len as i64);
    Ok(())
}

fn zscore(call: &mut Call<'_>) -> CommandResult {
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    match set.and_then(|set| set.score(call.args.at(2))) {
        Some(score) => call.reply.double(score),
        None => call.reply.null(),
    }
    Ok(())
}

fn zmscore(call: &mut Call<'_>) -> CommandResult {
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    let members = call.args.from(2);
    call.reply.array(members.len());
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => call.reply.double(score),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn zpopmin(call: &mut Call<'_>) -> CommandResult {
    pop(call, false)
}

fn zpopmax(call: &mut Call<'_>) -> CommandResult {
    pop(call, true)
}

fn pop(call: &mut Call<'_>, highest: bool) -> CommandResult {
    if call.args.len() > 3 {
        return Err(SYNTAX);
    }
    let key = call.args.at(1);
    let count = match call.args.get(2) {
        Some(arg) => Some(integer_within(arg, 0, i64::MAX, Some("ERR value is out of range, must be positive"))?),
        None => None,
    };
    let set = read_to_write(call.keyspace, call.db, key, call.now)?;
    let popped = set.map_or(Vec::new(), |set| ends(set, count.unwrap_or(1), highest));
    if count.is_some() {
        reply_elements(call, &popped, true);
    } else {
        call.reply.array(popped.len() * 2);
        for (score, member) in &popped {
            call.reply.bulk(member);
            call.reply.double(*score);
        }
    }
    remove_all(call, key, popped.iter().map(|(_, member)| member.as_slice()));
    Ok(())
}

/// The first elements from an end, at most `count`.
fn ends(set: SortedSetRef<'_>, count: i64, highest: bool) -> Vec<(f64, Vec<u8>)> {
    let len = set.len();
    let count = usize::try_from(count).map_or(len, |count| count.min(len));
    let ranks = if highest { len - count..len } else { 0..count };
    collect(set, ranks, highest)
}

fn collect(set: SortedSetRef<'_>, ranks: std::ops::Range<usize>, backwards: bool) -> Vec<(f64, Vec<u8>)> {
    let mut found = Vec::with_capacity(ranks.len());
    set.visit(ranks, backwards, &mut |score, member| {
        found.push((score, member.to_vec()));
        true
    });
    found
}

/// `ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]`
fn zmpop(call: &mut Call<'_>) -> CommandResult {
    let from = MultiPop::parse(&call.args, 1)?;
    if !pop_first(call, from)? {
        call.reply.null_array();
    }
    Ok(())
}

struct MultiPop<'a> {
    keys: Vec<&'a [u8]>,
    highest: bool,
    count: i64,
}

impl<'a> MultiPop<'a> {
    fn need(args: &Args<'a>, at: usize) -> Need<'a> {
        MultiPop::parse(args, at).map_or(Need::All, |pop| Need::Ends(pop.count as u64))
    }
    /// The number of keys is at argument `at`.
    fn parse(args: &Args<'a>, at: usize) -> Result<MultiPop<'a>, CommandError> {
        let numkeys = integer_within(args.at(at), 1, i64::MAX, Some("ERR numkeys should be greater than 0"))?;
        let end = usize::try_from(numkeys).ok().and_then(|numkeys| numkeys.checked_add(at + 1));
        let end = end.filter(|end| *end < args.len()).ok_or(SYNTAX)?;
        let highest = match () {
            _ if args.is(end, "min") => false,
            _ if args.is(end, "max") => true,
            _ => return Err(SYNTAX),
        };
        let mut count = None;
        for option in (end + 1..args.len()).step_by(2) {
            let value = args.get(option + 1).filter(|_| args.is(option, "count") && count.is_none()).ok_or(SYNTAX)?;
            count = Some(integer_within(value, 1, i64::MAX, Some("ERR count should be greater than 0"))?);
        }
        Ok(MultiPop { keys: (at + 1..end).map(|at| args.at(at)).collect(), highest, count: count.unwrap_or(1) })
    }
}

/// Pops from the first sorted set that there is; `false`: there is none, and nothing was replied.
fn pop_first(call: &mut Call<'_>, from: MultiPop<'_>) -> Result<bool, CommandError> {
    for key in from.keys {
        let Some(set) = read_to_write(call.keyspace, call.db, key, call.now)? else { continue };
        let popped = ends(set, from.count, from.highest);
        call.reply.array(2);
        call.reply.bulk(key);
        call.reply.array(popped.len());
        for (score, member) in &popped {
            call.reply.array(2);
            call.reply.bulk(member);
            call.reply.double(*score);
        }
        remove_all(call, key, popped.iter().map(|(_, member)| member.as_slice()));
        return Ok(true);
    }
    Ok(false)
}

/// `ZRANDMEMBER key [count [WITHSCORES]]`
fn zrandmember(call: &mut Call<'_>) -> CommandResult {
    const RANGE: CommandError = CommandError::new("ERR value is out of range");
    let count = match call.args.get(2) {
        Some(arg) => Some(integer_within(arg, -i64::MAX, i64::MAX, None)?),
        None => None,
    };
    let with_scores = call.args.len() > 3;
    if call.args.len() > 4 || with_scores && !call.args.is(3, "withscores") {
        return Err(SYNTAX);
    }
    if with_scores && count.is_some_and(|count| count.unsigned_abs() > i64::MAX as u64 / 2) {
        return Err(RANGE);
    }
    let Some(set) = read(call.keyspace, call.db, call.args.at(1), call.now)? else {
        match count {
            Some(_) => call.reply.array(0),
            None => call.reply.null(),
        }
        return Ok(());
    };
    let Some(count) = count else {
        call.reply.bulk(set.random(call.random).1);
        return Ok(());
    };
    let len = set.len();
    let at_rank = |rank: usize| collect(set, rank..rank + 1, false).remove(0);
    let chosen: Vec<(f64, Vec<u8>)> = if count < 0 {
        if count.unsigned_abs() > CHOICES_MAX {
            return Err(RANGE);
        }
        (0..count.unsigned_abs()).map(|_| call.random.below(len as u64) as usize).map(at_rank).collect()
    } else {
        let wanted = usize::try_from(count).map_or(len, |count| count.min(len));
        if wanted == len {
            collect(set, 0..len, false)
        } else {
            choose(len, wanted, call.random).into_iter().map(at_rank).collect()
        }
    };
    reply_elements(call, &chosen, with_scores);
    Ok(())
}

fn zscan(call: &mut Call<'_>) -> CommandResult {
    let cursor = Scan::cursor(&call.args)?;
    let protocol = call.reply.protocol();
    let (mut found, mut next) = (Found::default(), 0);
    if let Some(set) = read(call.keyspace, call.db, call.args.at(1), call.now)? {
        let scan = Scan::parse(&call.args, cursor, false)?;
        next = set.scan(scan.cursor, scan.count, &mut |score, member| {
            if scan.matches(member) {
                found.bulk(protocol, member);
                found.bulk(protocol, format_double(score).as_bytes());
            }
        });
    }
    Scan::reply(call, next, &found);
    Ok(())
}

/// The ranks between two bounds.
pub(super) fn between(set: SortedSetRef<'_>, from: Option<Bound<'_>>, to: Option<Bound<'_>>) -> std::ops::Range<usize> {
    let start = from.map_or(0, |bound| set.rank(&bound));
    let end = to.map_or_else(|| set.len(), |bound| set.rank(&bound));
    start..end.max(start)
}
