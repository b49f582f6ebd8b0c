//! Sets: members, chosen members, and the algebra of sets.

use super::elements::{CHOICES_MAX, Found, Scan, choose, find_numbered, integer_within, is_few};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::NewDeadline;
use crate::random::Random;
use crate::row::{KeyUse, Keys, Row, Traits};
use crate::types::set::{SetChange, SetRef};
use crate::types::{Kind, Need, View};
use std::collections::BTreeSet;

const READ_FAST: Traits = Traits::READ.and(Traits::FAST);
const WRITE_FAST: Traits = Traits::WRITE.and(Traits::FAST);
const GROWS: Traits = Traits::WRITE.and(Traits::DENY_OOM);

const ALL_READ: Keys = Keys::Range { first: 1, last: -1, step: 1, usage: KeyUse::Read };
const STORE: Keys = Keys::Two { first: (1, KeyUse::Overwrite), rest: (2, -1, KeyUse::Read) };

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("sadd", -3, GROWS.and(Traits::FAST), sadd).key(KeyUse::Write)
        .docs("set", "1.0.0", "O(N) for N members", "Adds members to a set, which is made when it doesn't exist, and counts the new ones."),
    <Row>::new("scard", 2, READ_FAST, scard).key(KeyUse::Read)
        .docs("set", "1.0.0", "O(1)", "Counts the members of a set."),
    <Row>::new("sdiff", -2, Traits::READ, sdiff).keys(ALL_READ)
        .docs("set", "1.0.0", "O(N) for N members in all sets", "Replies the members of the first set that are in none of the others."),
    <Row>::new("sdiffstore", -3, GROWS, sdiffstore).keys(STORE)
        .docs("set", "1.0.0", "O(N) for N members in all sets", "Keeps the members of one set that are in none of the others as a set of its own."),
    <Row>::new("sinter", -2, Traits::READ, sinter).keys(ALL_READ)
        .docs("set", "1.0.0", "O(N*M) for N members in the smallest of M sets", "Replies the members that all sets have."),
    <Row>::new("sintercard", -3, Traits::READ.and(Traits::MOVABLE_KEYS), sintercard)
        .keys(Keys::Find { find: |args, out| find_numbered(args, 1, out), usage: KeyUse::Read })
        .docs("set", "7.0.0", "O(N*M) for N members in the smallest of M sets", "Counts the members that all sets have, up to a limit."),
    <Row>::new("sinterstore", -3, GROWS, sinterstore).keys(STORE)
        .docs("set", "1.0.0", "O(N*M) for N members in the smallest of M sets", "Keeps the members that all sets have as a set of its own."),
    <Row>::new("sismember", 3, READ_FAST, sismember).key(KeyUse::Read)
        .docs("set", "1.0.0", "O(1)", "Tells whether a set has a member."),
    <Row>::new("smembers", 2, Traits::READ, smembers).key(KeyUse::Read)
        .docs("set", "1.0.0", "O(N) for N members", "Replies all members of a set."),
    <Row>::new("smismember", -3, READ_FAST, smismember).key(KeyUse::Read)
        .docs("set", "6.2.0", "O(N) for N members asked for", "Tells which of several members a set has."),
    <Row>::new("smove", 4, WRITE_FAST, smove).keys(Keys::Range { first: 1, last: 2, step: 1, usage: KeyUse::ReadWrite }).need(|args| Need::Element(args.at(3)))
        .docs("set", "1.0.0", "O(1)", "Takes a member out of one set and puts it into another."),
    <Row>::new("spop", -2, WRITE_FAST, spop).key(KeyUse::ReadWrite)
        .docs("set", "1.0.0", "O(1), or O(N) for N members taken", "Takes members out of a set at random and replies them."),
    <Row>::new("srandmember", -2, Traits::READ, srandmember).key(KeyUse::Read)
        .docs("set", "1.0.0", "O(1), or O(N) for N members chosen", "Replies members of a set chosen at random."),
    <Row>::new("srem", -3, WRITE_FAST, srem).key(KeyUse::ReadWrite)
        .docs("set", "1.0.0", "O(N) for N members", "Takes members out of a set and counts those it had."),
    <Row>::new("sscan", -3, Traits::READ, sscan).key(KeyUse::Read)
        .docs("set", "2.8.0", "O(1) per call, O(N) for all N members", "Replies some members, and the cursor with which to ask for more."),
    <Row>::new("sunion", -2, Traits::READ, sunion).keys(ALL_READ)
        .docs("set", "1.0.0", "O(N) for N members in all sets", "Replies the members that any of the sets has."),
    <Row>::new("sunionstore", -3, GROWS, sunionstore).keys(STORE)
        .docs("set", "1.0.0", "O(N) for N members in all sets", "Keeps the members that any of the sets has as a set of its own."),
];

/// The set at a key for a read, or that there is none.
fn read<'c>(call: &'c Call<'_>, key: &[u8]) -> Result<Option<SetRef<'c>>, CommandError> {
    call.keyspace.get(call.db, key, call.now).map(|entry| entry.set()).transpose()
}

/// The same for a write.
fn read_to_write<'c>(call: &'c Call<'_>, key: &[u8]) -> Result<Option<SetRef<'c>>, CommandError> {
    call.keyspace.get_to_write(call.db, key, call.now).map(|entry| entry.set()).transpose()
}

fn sadd(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let members = call.args.from(2);
    let set = read_to_write(call, key)?;
    let mut changes = Vec::new();
    let mut added = 0;
    // Only of several members can one be named twice.
    let mut named = BTreeSet::new();
    for member in members.iter() {
        let is_new = set.is_none_or(|set| !set.contains(member)) && (members.len() == 1 || named.insert(member));
        if is_new {
            SetChange::Add { member }.encode(&mut changes);
            added += 1;
        }
    }
    if added > 0 {
        call.write_collection(key, Kind::Set, &changes);
    }
    call.reply.integer(added);
    Ok(())
}

fn srem(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let mut changes = Vec::new();
    let mut removed = 0;
    if let Some(set) = read_to_write(call, key)? {
        let mut named = BTreeSet::new();
        for member in call.args.from(2).iter() {
            if set.contains(member) && named.insert(member) {
                SetChange::Remove { member }.encode(&mut changes);
                removed += 1;
            }
        }
    }
    if removed > 0 {
        call.write_collection(key, Kind::Set, &changes);
    }
    call.reply.integer(removed);
    Ok(())
}

fn scard(call: &mut Call<'_>) -> CommandResult {
    let len = read(call, call.args.at(1))?.map_or(0, |set| set.len());
    call.reply.integer(len as i64);
    Ok(())
}

fn sismember(call: &mut Call<'_>) -> CommandResult {
    let has = read(call, call.args.at(1))?.is_some_and(|set| set.contains(call.args.at(2)));
    call.reply.integer(has as i64);
    Ok(())
}

fn smismember(call: &mut Call<'_>) -> CommandResult {
    let members = call.args.from(2);
    let set = read(call, call.args.at(1))?;
    let has: Vec<bool> = members.iter().map(|member| set.is_some_and(|set| set.contains(member))).collect();
    call.reply.array(has.len());
    has.into_iter().for_each(|has| call.reply.integer(has as i64));
    Ok(())
}

fn smembers(call: &mut Call<'_>) -> CommandResult {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        call.reply.set(0);
        return Ok(());
    };
    let set = entry.set()?;
    call.reply.set(set.len());
    set.visit(&mut |member| {
        call.reply.bulk(member);
        true
    });
    Ok(())
}

fn smove(call: &mut Call<'_>) -> CommandResult {
    let [from, to, member] = [1, 2, 3].map(|at| call.args.at(at));
    let Some(entry) = call.keyspace.get_to_write(call.db, from, call.now) else {
        call.reply.integer(0);
        return Ok(());
    };
    let target = call.keyspace.get_to_write(call.db, to, call.now);
    let moves = entry.set()?.contains(member);
    let there = target.map(|entry| entry.set()).transpose()?.is_some_and(|set| set.contains(member));
    if moves && from != to {
        let mut changes = Vec::new();
        SetChange::Remove { member }.encode(&mut changes);
        call.write_collection(from, Kind::Set, &changes);
        if !there {
            changes.clear();
            SetChange::Add { member }.encode(&mut changes);
            call.write_collection(to, Kind::Set, &changes);
        }
    }
    call.reply.integer(moves as i64);
    Ok(())
}

fn spop(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 3 {
        return Err(SYNTAX);
    }
    let key = call.args.at(1);
    let count = match call.args.get(2) {
        Some(arg) => Some(integer_within(arg, 0, i64::MAX, Some("ERR value is out of range, must be positive"))?),
        None => None,
    };
    let Some(entry) = call.keyspace.get_to_write(call.db, key, call.now) else {
        match count {
            Some(_) => call.reply.set(0),
            None => call.reply.null(),
        }
        return Ok(());
    };
    let set = entry.set()?;
    let len = set.len();
    let wanted = count.map_or(1, |count| usize::try_from(count).map_or(len, |count| count.min(len)));
    let chosen = match wanted {
        1 => vec![set.random(call.random)],
        _ => chosen(set, wanted, call.random),
    };
    if count.is_some() {
        call.reply.set(chosen.len());
    }
    let mut changes = Vec::new();
    for member in &chosen {
        SetChange::Remove { member }.encode(&mut changes);
        call.reply.bulk(member);
    }
    if chosen.len() == len {
        call.keyspace.remove(call.db, key);
    } else if !chosen.is_empty() {
        call.write_collection(key, Kind::Set, &changes);
    }
    Ok(())
}

/// So many different members, at random.
fn chosen(set: SetRef<'_>, count: usize, random: &mut Random) -> Vec<Vec<u8>> {
    if is_few(count, set.len()) {
        let mut members = BTreeSet::new();
        while members.len() < count {
            members.insert(set.random(random));
        }
        return members.into_iter().collect();
    }
    let mut members = set.members();
    if count == members.len() {
        return members;
    }
    choose(members.len(), count, random).into_iter().map(|at| std::mem::take(&mut members[at])).collect()
}

fn srandmember(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 3 {
        return Err(SYNTAX);
    }
    let count = match call.args.get(2) {
        Some(arg) => Some(integer_within(arg, -i64::MAX, i64::MAX, None)?),
        None => None,
    };
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        match count {
            Some(_) => call.reply.array(0),
            None => call.reply.null(),
        }
        return Ok(());
    };
    let set = entry.set()?;
    match count {
        None => call.reply.bulk(&set.random(call.random)),
        Some(count @ ..0) => {
            if count.unsigned_abs() > CHOICES_MAX {
                return Err(CommandError::new("ERR value is out of range"));
            }
            call.reply.array(count.unsigned_abs() as usize);
            // A small one is gone through for each that is drawn: once is enough.
            let members = if let SetRef::Strings(_) = set { set.members() } else { Vec::new() };
            (0..count.unsigned_abs()).for_each(|_| match members.len() {
                0 => call.reply.bulk(&set.random(call.random)),
                len => call.reply.bulk(&members[call.random.below(len as u64) as usize]),
            });
        }
        Some(count) => {
            let wanted = usize::try_from(count).map_or(set.len(), |count| count.min(set.len()));
            let chosen = chosen(set, wanted, call.random);
            call.reply.array(chosen.len());
            chosen.iter().for_each(|member| call.reply.bulk(member));
        }
    }
    Ok(())
}

fn sscan(call: &mut Call<'_>) -> CommandResult {
    let cursor = Scan::cursor(&call.args)?;
    let protocol = call.reply.protocol();
    let (mut found, mut next) = (Found::default(), 0);
    if let Some(set) = read(call, call.args.at(1))? {
        let scan = Scan::parse(&call.args, cursor, false)?;
        next = set.scan(scan.cursor, scan.count, &mut |member| {
            if scan.matches(member) {
                found.bulk(protocol, member);
            }
        });
    }
    Scan::reply(call, next, &found);
    Ok(())
}

// ---- algebra ---------------------------------------------------------------------------------------------

/// Members in the order found.
type Members = Vec<Vec<u8>>;

/// The sets at keys; all types are looked at before anything else, as in Redis.
fn sources<'c>(call: &'c Call<'_>, keys: Args<'_>) -> Result<Vec<Option<SetRef<'c>>>, CommandError> {
    keys.iter().map(|key| read(call, key)).collect()
}

/// Members that all have, at most `limit`.
fn intersection(sets: &[Option<SetRef<'_>>], limit: usize) -> Members {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<_>>>() else { return Vec::new() };
    sets.sort_by_key(|set| set.len());
    let mut members = Vec::new();
    sets[0].visit(&mut |member| {
        if sets[1..].iter().all(|set| set.contains(member)) {
            members.push(member.to_vec());
        }
        members.len() < limit
    });
    members
}

fn union(sets: &[Option<SetRef<'_>>]) -> Members {
    let mut members = BTreeSet::new();
    for set in sets.iter().flatten() {
        set.visit(&mut |member| {
            if !members.contains(member) {
                members.insert(member.to_vec());
            }
            true
        });
    }
    members.into_iter().collect()
}

fn difference(sets: &[Option<SetRef<'_>>]) -> Members {
    let mut members = Vec::new();
    if let Some(first) = sets[0] {
        first.visit(&mut |member| {
            if !sets[1..].iter().flatten().any(|set| set.contains(member)) {
                members.push(member.to_vec());
            }
            true
        });
    }
    members
}

fn reply(call: &mut Call<'_>, members: &Members) -> CommandResult {
    call.reply.set(members.len());
    members.iter().for_each(|member| call.reply.bulk(member));
    Ok(())
}

/// Keeps members at argument 1, in place of whatever is there.
fn store(call: &mut Call<'_>, members: &Members) -> CommandResult {
    let key = call.args.at(1);
    if members.is_empty() {
        if call.keyspace.peek(call.db, key, call.now).is_some() {
            call.keyspace.remove(call.db, key);
        }
    } else {
        let mut changes = Vec::new();
        members.iter().for_each(|member| SetChange::Add { member }.encode(&mut changes));
        call.keyspace.put_collection(call.db, key, Kind::Set, &changes, NewDeadline::None);
    }
    call.reply.integer(members.len() as i64);
    Ok(())
}

fn sinter(call: &mut Call<'_>) -> CommandResult {
    let members = intersection(&sources(call, call.args.from(1))?, usize::MAX);
    reply(call, &members)
}

fn sinterstore(call: &mut Call<'_>) -> CommandResult {
    let members = intersection(&sources(call, call.args.from(2))?, usize::MAX);
    store(call, &members)
}

/// `SINTERCARD numkeys key [key ...] [LIMIT limit]`
fn sintercard(call: &mut Call<'_>) -> CommandResult {
    const NUMKEYS: &str = "ERR numkeys should be greater than 0";
    const TOO_MANY: CommandError = CommandError::new("ERR Number of keys can't be greater than number of args");
    let count = integer_within(call.args.at(1), 1, i64::MAX, Some(NUMKEYS))?;
    if count as u64 > (call.args.len() - 2) as u64 {
        return Err(TOO_MANY);
    }
    let mut at = 2 + count as usize;
    let mut limit = 0;
    while at < call.args.len() {
        let Some(value) = call.args.get(at + 1).filter(|_| call.args.is(at, "limit")) else { return Err(SYNTAX) };
        limit = integer_within(value, 0, i64::MAX, Some("ERR LIMIT can't be negative"))?;
        at += 2;
    }
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    let keys = call.args.from(2);
    let sets = keys.iter().take(count as usize).map(|key| read(call, key)).collect::<Result<Vec<_>, _>>()?;
    let members = intersection(&sets, limit);
    call.reply.integer(members.len() as i64);
    Ok(())
}

fn sunion(call: &mut Call<'_>) -> CommandResult {
    let members = union(&sources(call, call.args.from(1))?);
    reply(call, &members)
}

fn sunionstore(call: &mut Call<'_>) -> CommandResult {
    let members = union(&sources(call, call.args.from(2))?);
    store(call, &members)
}

fn sdiff(call: &mut Call<'_>) -> CommandResult {
    let members = difference(&sources(call, call.args.from(1))?);
    reply(call, &members)
}

fn sdiffstore(call: &mut Call<'_>) -> CommandResult {
    let members = difference(&sources(call, call.args.from(2))?);
    store(call, &members)
}
