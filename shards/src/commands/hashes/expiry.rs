//! Deadlines of fields: giving them, asking for them, taking them away; and reading and setting fields together with them.
//!
//! As with keys, a time to live makes a deadline on the steady clock, a point in time one on the wall clock, and the two are
//! compared (GT, LT) as Unix times of the wall clock as it stands now.

use super::super::elements::integer_within;
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult};
use crate::numbers::integer;
use crate::row::{KeyUse, Row, Traits};
use crate::types::Kind;
use crate::types::hash::{HashChange, LiveHash};
use crate::units::{Deadline, DeadlineKind, Now};
use std::collections::BTreeMap;

const READ_FAST: Traits = Traits::READ.and(Traits::FAST);
const WRITE_FAST: Traits = Traits::WRITE.and(Traits::FAST);
const GROWS_FAST: Traits = WRITE_FAST.and(Traits::DENY_OOM);

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("hexpire", -6, GROWS_FAST, hexpire).key(KeyUse::Write)
        .docs("hash", "7.4.0", "O(N) for N fields", "Lets fields expire after some seconds."),
    <Row>::new("hexpireat", -6, GROWS_FAST, hexpireat).key(KeyUse::Write)
        .docs("hash", "7.4.0", "O(N) for N fields", "Lets fields expire at a Unix time in seconds."),
    <Row>::new("hexpiretime", -5, READ_FAST, hexpiretime).key(KeyUse::Read)
        .docs("hash", "7.4.0", "O(N) for N fields", "The Unix times in seconds at which fields expire."),
    <Row>::new("hgetdel", -5, WRITE_FAST, hgetdel).key(KeyUse::ReadWrite)
        .docs("hash", "8.0.0", "O(N) for N fields", "Replies the values of fields and takes the fields out of the hash."),
    <Row>::new("hgetex", -5, WRITE_FAST, hgetex).key(KeyUse::ReadWrite)
        .docs("hash", "8.0.0", "O(N) for N fields", "Replies the values of fields, and gives the fields a deadline or takes it away."),
    <Row>::new("hpersist", -5, WRITE_FAST, hpersist).key(KeyUse::Write)
        .docs("hash", "7.4.0", "O(N) for N fields", "Takes the deadlines of fields away."),
    <Row>::new("hpexpire", -6, GROWS_FAST, hpexpire).key(KeyUse::Write)
        .docs("hash", "7.4.0", "O(N) for N fields", "Lets fields expire after some milliseconds."),
    <Row>::new("hpexpireat", -6, GROWS_FAST, hpexpireat).key(KeyUse::Write)
        .docs("hash", "7.4.0", "O(N) for N fields", "Lets fields expire at a Unix time in milliseconds."),
    <Row>::new("hpexpiretime", -5, READ_FAST, hpexpiretime).key(KeyUse::Read)
        .docs("hash", "7.4.0", "O(N) for N fields", "The Unix times in milliseconds at which fields expire."),
    <Row>::new("hpttl", -5, READ_FAST, hpttl).key(KeyUse::Read)
        .docs("hash", "7.4.0", "O(N) for N fields", "How many milliseconds fields have left."),
    <Row>::new("hsetex", -6, GROWS_FAST, hsetex).key(KeyUse::Write)
        .docs("hash", "8.0.0", "O(N) for N fields", "Sets fields, if all or none of them exist where that is asked, and gives them a deadline."),
    <Row>::new("httl", -5, READ_FAST, httl).key(KeyUse::Read)
        .docs("hash", "7.4.0", "O(N) for N fields", "How many seconds fields have left."),
];

/// What commands about fields reply for one that isn't there, and for one without a deadline.
const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;

const FEW_FIELDS: &str = "ERR Number of fields must be a positive integer";

/// The fields behind `FIELDS numfields`, with that word at argument `at`.
fn fields<'a>(call: &Call<'a>, at: usize, few: &'static str) -> Result<Args<'a>, CommandError> {
    const NO_WORD: CommandError =
        CommandError::new("ERR Mandatory argument FIELDS is missing or not at the right position");
    const OTHER_NUMBER: CommandError =
        CommandError::new("ERR The `numfields` parameter must match the number of arguments");
    if !call.args.is(at, "fields") {
        return Err(NO_WORD);
    }
    let number = call.args.get(at + 1).ok_or_else(|| CommandError::wrong_arity(call.name))?;
    let number = integer_within(number, 1, i64::MAX, Some(few))?;
    let fields = call.args.from(at + 2);
    if number as u64 == fields.len() as u64 { Ok(fields) } else { Err(OTHER_NUMBER) }
}

/// How a command gives a time.
#[derive(Clone, Copy)]
struct Clock {
    kind: DeadlineKind,
    ms_per_unit: i64,
}

const SECONDS: Clock = Clock { kind: DeadlineKind::Relative, ms_per_unit: 1000 };
const MILLISECONDS: Clock = Clock { kind: DeadlineKind::Relative, ms_per_unit: 1 };
const UNIX_SECONDS: Clock = Clock { kind: DeadlineKind::Absolute, ms_per_unit: 1000 };
const UNIX_MILLISECONDS: Clock = Clock { kind: DeadlineKind::Absolute, ms_per_unit: 1 };

impl Clock {
    const BY_OPTION: [(&'static str, Clock); 4] =
        [("ex", SECONDS), ("px", MILLISECONDS), ("exat", UNIX_SECONDS), ("pxat", UNIX_MILLISECONDS)];

    /// The clock of an option, if argument `at` is one.
    fn of_option(args: &Args<'_>, at: usize) -> Option<Clock> {
        Self::BY_OPTION.into_iter().find(|(name, _)| args.is(at, name)).map(|(_, clock)| clock)
    }
    /// The deadline that an argument asks for; one of the past is due.
    fn deadline(self, arg: &[u8], call: &Call<'_>) -> Result<Deadline, CommandError> {
        const NEGATIVE: CommandError = CommandError::new("ERR invalid expire time, must be >= 0");
        /// The latest Unix time that Redis takes for fields.
        const MS_MAX: i64 = (1 << 46) - 1;
        let number = integer(arg)?;
        if number < 0 {
            return Err(NEGATIVE);
        }
        let ms_max = match self.kind {
            DeadlineKind::Relative => MS_MAX.saturating_sub_unsigned(call.now.wall_ms),
            DeadlineKind::Absolute => MS_MAX,
        };
        let ms = number.checked_mul(self.ms_per_unit).filter(|ms| *ms <= ms_max);
        let ms = ms.ok_or_else(|| CommandError::invalid_expire_time(call.name))? as u64;
        Ok(match self.kind {
            DeadlineKind::Relative => Deadline::after(call.now, ms),
            DeadlineKind::Absolute => Deadline::at(ms),
        })
    }
}

/// A hash as a command leaves it, and the changes that make it so: a field may be named twice.
struct Draft<'a> {
    hash: Option<LiveHash<'a>>,
    /// What became of fields that were changed.
    changed: BTreeMap<&'a [u8], Option<Option<Deadline>>>,
    changes: Vec<u8>,
}

impl<'a> Draft<'a> {
    fn new(hash: Option<LiveHash<'a>>) -> Self {
        Draft { hash, changed: BTreeMap::new(), changes: Vec::new() }
    }
    /// Value and deadline.
    fn find(&self, field: &[u8]) -> Option<(&'a [u8], Option<Deadline>)> {
        let (value, deadline) = self.hash?.find(field)?;
        match self.changed.get(field) {
            Some(changed) => changed.map(|deadline| (value, deadline)),
            None => Some((value, deadline)),
        }
    }
    /// Of a field that is there, and had `old`: takes it out if the deadline is over.
    fn set_deadline(&mut self, field: &'a [u8], old: Option<Deadline>, deadline: Deadline, now: Now) {
        if deadline.is_due(now) {
            self.remove(field);
        } else if old != Some(deadline) {
            self.changed.insert(field, Some(Some(deadline)));
            HashChange::SetDeadline { field, deadline: Some(deadline) }.encode(&mut self.changes);
        }
    }
    fn clear_deadline(&mut self, field: &'a [u8]) {
        self.changed.insert(field, Some(None));
        HashChange::SetDeadline { field, deadline: None }.encode(&mut self.changes);
    }
    fn remove(&mut self, field: &'a [u8]) {
        self.changed.insert(field, None);
        HashChange::Remove { field }.encode(&mut self.changes);
    }
}

fn write(call: &mut Call<'_>, changes: &[u8]) {
    if !changes.is_empty() {
        call.write_collection(call.args.at(1), Kind::Hash, changes);
    }
}

fn hexpire(call: &mut Call<'_>) -> CommandResult {
    expire(call, SECONDS)
}

fn hpexpire(call: &mut Call<'_>) -> CommandResult {
    expire(call, MILLISECONDS)
}

fn hexpireat(call: &mut Call<'_>) -> CommandResult {
    expire(call, UNIX_SECONDS)
}

fn hpexpireat(call: &mut Call<'_>) -> CommandResult {
    expire(call, UNIX_MILLISECONDS)
}

/// For which fields a deadline is set.
#[derive(Clone, Copy)]
enum Condition {
    /// NX: without one.
    None,
    /// XX: with one.
    Some,
    /// GT: to a later one; no deadline is the latest.
    Later,
    /// LT: to an earlier one.
    Earlier,
}

impl Condition {
    fn parse(args: &Args<'_>, at: usize) -> Option<Condition> {
        let known =
            [("nx", Condition::None), ("xx", Condition::Some), ("gt", Condition::Later), ("lt", Condition::Earlier)];
        known.into_iter().find(|(name, _)| args.is(at, name)).map(|(_, condition)| condition)
    }
    fn is_met(self, old: Option<Deadline>, new: Deadline, now: Now) -> bool {
        match self {
            Condition::None => old.is_none(),
            Condition::Some => old.is_some(),
            Condition::Later => old.is_some_and(|old| new.unix_ms(now) > old.unix_ms(now)),
            Condition::Earlier => old.is_none_or(|old| new.unix_ms(now) < old.unix_ms(now)),
        }
    }
}

/// `HEXPIRE key time [NX | XX | GT | LT] FIELDS numfields field [field ...]`
fn expire(call: &mut Call<'_>, clock: Clock) -> CommandResult {
    const FEW: &str = "ERR Parameter `numFields` should be greater than 0";
    const NOT_MET: i64 = 0;
    const SET: i64 = 1;
    const REMOVED: i64 = 2;
    let entry = call.keyspace.get_to_write(call.db, call.args.at(1), call.now);
    let hash = entry.map(|entry| entry.hash()).transpose()?.map(|hash| hash.at(call.now));
    let deadline = clock.deadline(call.args.at(2), call)?;
    let condition = Condition::parse(&call.args, 3);
    let fields = fields(call, if condition.is_some() { 4 } else { 3 }, FEW)?;
    let mut draft = Draft::new(hash);
    call.reply.array(fields.len());
    for field in fields.iter() {
        let old = draft.find(field).map(|(_, old)| old);
        let reply = match old {
            None => NO_FIELD,
            Some(old) if condition.is_some_and(|condition| !condition.is_met(old, deadline, call.now)) => NOT_MET,
            Some(old) => {
                draft.set_deadline(field, old, deadline, call.now);
                if deadline.is_due(call.now) { REMOVED } else { SET }
            }
        };
        call.reply.integer(reply);
    }
    let changes = draft.changes;
    write(call, &changes);
    Ok(())
}

fn httl(call: &mut Call<'_>) -> CommandResult {
    reply_deadlines(call, |deadline, now| deadline.remaining_ms(now).div_ceil(1000))
}

fn hpttl(call: &mut Call<'_>) -> CommandResult {
    reply_deadlines(call, Deadline::remaining_ms)
}

fn hexpiretime(call: &mut Call<'_>) -> CommandResult {
    reply_deadlines(call, |deadline, now| deadline.unix_ms(now).div_ceil(1000))
}

fn hpexpiretime(call: &mut Call<'_>) -> CommandResult {
    reply_deadlines(call, Deadline::unix_ms)
}

/// `HTTL key FIELDS numfields field [field ...]`
fn reply_deadlines(call: &mut Call<'_>, measure: fn(Deadline, Now) -> u64) -> CommandResult {
    let entry = call.keyspace.get(call.db, call.args.at(1), call.now);
    let hash = entry.map(|entry| entry.hash()).transpose()?.map(|hash| hash.at(call.now));
    let fields = fields(call, 2, FEW_FIELDS)?;
    call.reply.array(fields.len());
    for field in fields.iter() {
        call.reply.integer(match hash.and_then(|hash| hash.find(field)) {
            None => NO_FIELD,
            Some((_, None)) => NO_DEADLINE,
            // Deadline::MS_MAX is far below the signed limit.
            Some((_, Some(deadline))) => measure(deadline, call.now) as i64,
        });
    }
    Ok(())
}

/// `HPERSIST key FIELDS numfields field [field ...]`
fn hpersist(call: &mut Call<'_>) -> CommandResult {
    let entry = call.keyspace.get_to_write(call.db, call.args.at(1), call.now);
    let hash = entry.map(|entry| entry.hash()).transpose()?.map(|hash| hash.at(call.now));
    let fields = fields(call, 2, FEW_FIELDS)?;
    let mut draft = Draft::new(hash);
    call.reply.array(fields.len());
    for field in fields.iter() {
        call.reply.integer(match draft.find(field) {
            None => NO_FIELD,
            Some((_, None)) => NO_DEADLINE,
            Some((_, Some(_))) => {
                draft.clear_deadline(field);
                1
            }
        });
    }
    let changes = draft.changes;
    write(call, &changes);
    Ok(())
}

/// `HGETDEL key FIELDS numfields field [field ...]`
fn hgetdel(call: &mut Call<'_>) -> CommandResult {
    let entry = call.keyspace.get_to_write(call.db, call.args.at(1), call.now);
    let hash = entry.map(|entry| entry.hash()).transpose()?.map(|hash| hash.at(call.now));
    let fields = fields(call, 2, FEW_FIELDS)?;
    let mut draft = Draft::new(hash);
    call.reply.array(fields.len());
    for field in fields.iter() {
        match draft.find(field) {
            Some((value, _)) => {
                call.reply.bulk(value);
                draft.remove(field);
            }
            None => call.reply.null(),
        }
    }
    let changes = draft.changes;
    write(call, &changes);
    Ok(())
}

/// What becomes of the deadlines of fields that are read or set.
#[derive(Clone, Copy)]
enum Expiry {
    Keep,
    Clear,
    At(Deadline),
}

/// `HGETEX key [EX seconds | PX ms | EXAT seconds | PXAT ms | PERSIST] FIELDS numfields field [field ...]`
fn hgetex(call: &mut Call<'_>) -> CommandResult {
    let entry = call.keyspace.get(call.db, call.args.at(1), call.now);
    let hash = entry.map(|entry| entry.hash()).transpose()?.map(|hash| hash.at(call.now));
    let clock = Clock::of_option(&call.args, 2);
    let persists = call.args.is(2, "persist");
    let fields = fields(call, 2 + persists as usize + 2 * clock.is_some() as usize, FEW_FIELDS)?;
    let expiry = match clock {
        Some(clock) => Expiry::At(clock.deadline(call.args.at(3), call)?),
        None if persists => Expiry::Clear,
        None => Expiry::Keep,
    };
    let mut draft = Draft::new(hash);
    call.reply.array(fields.len());
    for field in fields.iter() {
        let Some((value, old)) = draft.find(field) else {
            call.reply.null();
            continue;
        };
        call.reply.bulk(value);
        match expiry {
            Expiry::At(deadline) => draft.set_deadline(field, old, deadline, call.now),
            Expiry::Clear if old.is_some() => draft.clear_deadline(field),
            Expiry::Clear | Expiry::Keep => {}
        }
    }
    let changes = draft.changes;
    write(call, &changes);
    Ok(())
}

/// What HSETEX asks for.
struct Setting<'a> {
    /// Whether all fields have to exist, or none may.
    exist: Option<bool>,
    expiry: Expiry,
    pairs: Args<'a>,
}

impl<'a> Setting<'a> {
    /// Options in any order, up to FIELDS.
    fn parse(call: &Call<'a>) -> Result<Setting<'a>, CommandError> {
        const TWO_CONDITIONS: CommandError = CommandError::new("ERR Only one of FXX or FNX arguments can be specified");
        const TWO_EXPIRIES: CommandError =
            CommandError::new("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
        const NO_TIME: CommandError = CommandError::new("ERR missing expire time");
        const NO_NUMBER: &str = "ERR invalid number of fields";
        let args = call.args;
        let arity = || CommandError::wrong_arity(call.name);
        let (mut exist, mut expiry) = (None, None);
        let mut at = 2;
        while let Some(arg) = args.get(at) {
            let (is_fxx, is_fnx) = (args.is(at, "fxx"), args.is(at, "fnx"));
            let clock = Clock::of_option(&args, at);
            if args.is(at, "fields") {
                let pairs = args.from(at + 2);
                if pairs.len() < 2 {
                    return Err(arity());
                }
                let number = integer_within(args.at(at + 1), 1, i32::MAX as i64, Some(NO_NUMBER))?;
                if pairs.len() as u64 != 2 * number as u64 {
                    return Err(arity());
                }
                return Ok(Setting { exist, expiry: expiry.unwrap_or(Expiry::Clear), pairs });
            } else if is_fxx || is_fnx {
                if exist.replace(is_fxx).is_some() {
                    return Err(TWO_CONDITIONS);
                }
            } else if clock.is_some() || args.is(at, "keepttl") {
                if expiry.is_some() {
                    return Err(TWO_EXPIRIES);
                }
                expiry = Some(match clock {
                    Some(clock) => {
                        at += 1;
                        Expiry::At(clock.deadline(args.get(at).ok_or(NO_TIME)?, call)?)
                    }
                    None => Expiry::Keep,
                });
            } else {
                return Err(CommandError::owned(format!("ERR unknown argument: {}", String::from_utf8_lossy(arg))));
            }
            at += 1;
        }
        // Options alone: there is nothing to set.
        Err(arity())
    }
}

/// `HSETEX key [FNX | FXX] [EX seconds | PX ms | EXAT seconds | PXAT ms | KEEPTTL] FIELDS numfields field value [field value ...]`
fn hsetex(call: &mut Call<'_>) -> CommandResult {
    let Setting { exist, expiry, pairs } = Setting::parse(call)?;
    let hash = super::read_to_write(call)?;
    let is_there = |field: &[u8]| hash.is_some_and(|hash| hash.get(field).is_some());
    let mut fields = pairs.iter().step_by(2);
    if exist.is_some_and(|exist| fields.any(|field| is_there(field) != exist)) {
        call.reply.integer(0);
        return Ok(());
    }
    let mut changes = Vec::new();
    for at in (0..pairs.len()).step_by(2) {
        let (field, value) = (pairs.at(at), pairs.at(at + 1));
        match expiry {
            Expiry::At(deadline) if deadline.is_due(call.now) => {
                // It would expire at once.
                if is_there(field) {
                    HashChange::Remove { field }.encode(&mut changes);
                }
            }
            Expiry::At(deadline) => {
                HashChange::Put { field, value }.encode(&mut changes);
                HashChange::SetDeadline { field, deadline: Some(deadline) }.encode(&mut changes);
            }
            // A deadline that is over isn't kept.
            Expiry::Keep if is_there(field) => HashChange::PutKeeping { field, value }.encode(&mut changes),
            Expiry::Keep | Expiry::Clear => HashChange::Put { field, value }.encode(&mut changes),
        }
    }
    write(call, &changes);
    call.reply.integer(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::strings::tested::Shard;

    fn replies(numbers: &[i64]) -> String {
        let head = format!("*{}\r\n", numbers.len());
        numbers.iter().fold(head, |out, number| out + &format!(":{number}\r\n"))
    }

    /// A hash of 600 fields is large, one of 3 isn't; `a` to `c` expire after 1000, 2000 and 3000 ms.
    fn shards() -> [Shard; 2] {
        [0, 600].map(|fields| {
            let mut shard = Shard::new();
            (0..fields).for_each(|number| drop(shard.run(&format!("HSET h f{number} v"))));
            shard.run("HSET h a 1 b 2 c 3");
            for (field, ms) in [("a", 1000), ("b", 2000), ("c", 3000)] {
                assert_eq!(shard.run(&format!("HPEXPIRE h {ms} FIELDS 1 {field}")), replies(&[1]));
            }
            (0..fields).for_each(|number| drop(shard.run(&format!("HDEL h f{number}"))));
            shard
        })
    }

    #[test]
    fn an_expired_field_is_seen_by_no_command() {
        for mut shard in shards() {
            shard.advance(1999);
            assert_eq!(shard.run("HLEN h"), ":2\r\n");
            shard.advance(1);
            for (line, reply) in [
                ("HLEN h", ":1\r\n"),
                ("HGET h b", "$-1\r\n"),
                ("HEXISTS h a", ":0\r\n"),
                ("HSTRLEN h a", ":0\r\n"),
                ("HMGET h a b c", "*3\r\n$-1\r\n$-1\r\n$1\r\n3\r\n"),
                ("HGETALL h", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
                ("HKEYS h", "*1\r\n$1\r\nc\r\n"),
                ("HVALS h", "*1\r\n$1\r\n3\r\n"),
                ("HSCAN h 0", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
                ("HRANDFIELD h", "$1\r\nc\r\n"),
                ("HRANDFIELD h 5", "*1\r\n$1\r\nc\r\n"),
                ("HRANDFIELD h -2", "*2\r\n$1\r\nc\r\n$1\r\nc\r\n"),
                ("HTTL h FIELDS 3 a b c", "*3\r\n:-2\r\n:-2\r\n:1\r\n"),
                ("HPERSIST h FIELDS 1 a", "*1\r\n:-2\r\n"),
                ("HEXPIRE h 100 FIELDS 1 a", "*1\r\n:-2\r\n"),
                ("HGETDEL h FIELDS 1 a", "*1\r\n$-1\r\n"),
                ("HGETEX h EX 100 FIELDS 1 a", "*1\r\n$-1\r\n"),
                ("HSETEX h FXX FIELDS 1 a 1", ":0\r\n"),
                ("HDEL h a", ":0\r\n"),
            ] {
                if line.starts_with("HPERSIST") || line.starts_with("HDEL") {
                    assert_eq!(shard.edits(line), 0, "{line}");
                }
                assert_eq!(shard.run(line), reply, "{line}");
            }
            assert_eq!(shard.run("HSETNX h a 7"), ":1\r\n");
            assert_eq!(shard.run("HINCRBY h b 7"), ":7\r\n");
            assert_eq!(shard.run("HTTL h FIELDS 3 a b c"), replies(&[-1, -1, 1]));
        }
    }

    #[test]
    fn a_hash_whose_fields_have_all_expired_is_empty_and_then_gone() {
        for mut shard in shards() {
            shard.advance(5000);
            for (line, reply) in [
                ("HLEN h", ":0\r\n"),
                ("HGETALL h", "*0\r\n"),
                ("HRANDFIELD h", "$-1\r\n"),
                ("HRANDFIELD h -3", "*0\r\n"),
                ("HSCAN h 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ] {
                assert_eq!(shard.run(line), reply, "{line}");
            }
            assert_eq!(shard.expire_due(1), 1);
            assert_eq!(shard.run("EXISTS h"), ":1\r\n");
            assert_eq!(shard.expire_due(100), 2);
            assert_eq!(shard.run("EXISTS h"), ":0\r\n");
        }
    }

    #[test]
    fn fields_that_have_expired_count_as_new_when_they_are_set() {
        for mut shard in shards() {
            shard.advance(2000);
            assert_eq!(shard.run("HSET h a 1 a 2 c 3 d 4"), ":2\r\n");
            assert_eq!(shard.run("HTTL h FIELDS 4 a b c d"), replies(&[-1, -2, -1, -1]));
            assert_eq!(shard.run("HSETEX h FNX KEEPTTL FIELDS 1 b 5"), ":1\r\n");
            assert_eq!(shard.run("HTTL h FIELDS 1 b"), replies(&[-1]));
            assert_eq!(shard.expire_due(100), 0);
            assert_eq!(shard.run("HLEN h"), ":4\r\n");
        }
    }

    #[test]
    fn every_change_is_an_edit_that_replays_to_the_same() {
        for mut shard in shards() {
            for line in [
                "HPEXPIREAT h 1700000009000 GT FIELDS 2 a b",
                "HPERSIST h FIELDS 1 b",
                "HSETEX h PX 500 FIELDS 1 d 4",
                "HSETEX h KEEPTTL FIELDS 1 d 5",
                "HGETEX h EX 7 FIELDS 1 b",
                "HINCRBY h c 4",
                "COPY h copy",
                "RENAME copy other",
                "HGETDEL h FIELDS 1 c",
            ] {
                assert_eq!(shard.edits(line), 1, "{line}");
            }
            assert_eq!(shard.run("HPTTL h FIELDS 4 a b c d"), replies(&[9000, 7000, -2, 500]));
            assert_eq!(shard.run("HPTTL other FIELDS 4 a b c d"), replies(&[9000, 7000, 3000, 500]));
            shard.advance(1000);
            assert_eq!(shard.expire_due(100), 2, "d of both hashes");
            shard.check_replica();
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_leaves_a_time_to_live_and_moves_a_point_in_time() {
        let mut shard = Shard::new();
        shard.run("HSET h ttl v at v");
        shard.run("HEXPIRE h 7200 FIELDS 1 ttl");
        shard.run("HEXPIREAT h 1700007200 FIELDS 1 at");
        shard.now.wall_ms += 3_600_000;
        assert_eq!(shard.run("HTTL h FIELDS 2 ttl at"), replies(&[7200, 3600]));
        assert_eq!(shard.run("HEXPIRETIME h FIELDS 2 ttl at"), replies(&[1_700_010_800, 1_700_007_200]));
        shard.now.wall_ms += 3_600_000;
        assert_eq!(shard.expire_due(100), 1);
        assert_eq!(shard.run("HKEYS h"), "*1\r\n$3\r\nttl\r\n");
    }

    #[test]
    fn seconds_are_rounded_up() {
        let mut shard = Shard::new();
        shard.run("HSET h f v");
        for (ms, seconds) in [(1, 1), (1000, 1), (1001, 2)] {
            shard.run(&format!("HPEXPIRE h {ms} FIELDS 1 f"));
            assert_eq!(shard.run("HTTL h FIELDS 1 f"), replies(&[seconds]));
        }
        shard.run("HPEXPIREAT h 1800000000001 FIELDS 1 f");
        assert_eq!(shard.run("HEXPIRETIME h FIELDS 1 f"), replies(&[1_800_000_001]));
        assert_eq!(shard.run("HPEXPIRETIME h FIELDS 1 f"), replies(&[1_800_000_000_001]));
    }
}
