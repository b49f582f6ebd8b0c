//! SET and its relatives: conditions, expiry options, and comparisons with a value or its digest.

use super::{string_at, write_string};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::{Keyspace, NewDeadline, StringRef};
use crate::numbers::integer;
use crate::units::{Deadline, Now};
use twox_hash::XxHash3_64;

/// SET key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET]
/// [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL]
pub fn set(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 3 {
        return set_with_options(call);
    }
    call.keyspace.put(call.db, call.args.at(1), call.args.at(2), NewDeadline::None);
    call.reply.ok();
    Ok(())
}

fn set_with_options(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(&call.args, 3, Family::Set)?;
    let mut deadline = resolve(options.expiry, call)?;
    let needs_entry = options.get || options.condition.is_some() || options.expiry == Some(Expiry::Keep);
    if needs_entry {
        let look = if options.get { Keyspace::get } else { Keyspace::get_to_write };
        let old = look(call.keyspace, call.db, call.args.at(1), call.now);
        let exists = old.is_some();
        let met = match options.condition {
            None => true,
            Some(Condition::Absent) => !exists,
            Some(Condition::Exists) => exists,
            Some(Condition::Compare(comparison)) => match &old {
                None => comparison.holds_for_absent(),
                Some(entry) => comparison.holds_for(entry.string()?)?,
            },
        };
        if options.get {
            match &old {
                Some(entry) => write_string(&mut call.reply, entry.string()?),
                None => call.reply.null(),
            }
        }
        if !met {
            if !options.get {
                call.reply.null();
            }
            return Ok(());
        }
        if !exists && deadline == NewDeadline::Keep {
            // An expired entry's deadline is not one to keep.
            deadline = NewDeadline::None;
        }
    }
    put_or_expire(call, deadline);
    if !options.get {
        call.reply.ok();
    }
    Ok(())
}

/// Sets argument 1 to argument 2, or removes it when its deadline is in the past: then it would expire at once.
fn put_or_expire(call: &mut Call<'_>, deadline: NewDeadline) {
    let (key, value) = (call.args.at(1), call.args.at(2));
    match deadline {
        NewDeadline::At(at) if at.is_due(call.now) => {
            call.keyspace.remove(call.db, key);
            // To Redis the key is set first, wherefore those who watch it hear of it even where nothing was.
            call.keyspace.touch(call.db, key);
        }
        NewDeadline::At(_) | NewDeadline::None | NewDeadline::Keep => call.keyspace.put(call.db, key, value, deadline),
    }
}

pub fn setnx(call: &mut Call<'_>) -> CommandResult {
    let absent = call.keyspace.get_to_write(call.db, call.args.at(1), call.now).is_none();
    if absent {
        call.keyspace.put(call.db, call.args.at(1), call.args.at(2), NewDeadline::None);
    }
    call.reply.integer(absent as i64);
    Ok(())
}

pub fn setex(call: &mut Call<'_>) -> CommandResult {
    set_for(call, Unit::Seconds)
}

pub fn psetex(call: &mut Call<'_>) -> CommandResult {
    set_for(call, Unit::Milliseconds)
}

fn set_for(call: &mut Call<'_>, unit: Unit) -> CommandResult {
    let time = Time { amount: call.args.at(2), unit, absolute: false };
    let deadline = time.deadline(call.now, call.name)?;
    call.keyspace.put(call.db, call.args.at(1), call.args.at(3), NewDeadline::At(deadline));
    call.reply.ok();
    Ok(())
}

/// GETEX key [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | PERSIST]
pub fn getex(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(&call.args, 2, Family::GetEx)?;
    let key = call.args.at(1);
    let Some(entry) = call.keyspace.get(call.db, key, call.now) else {
        call.reply.null();
        return Ok(());
    };
    write_string(&mut call.reply, entry.string()?);
    let had_deadline = entry.deadline().is_some();
    match resolve(options.expiry, call)? {
        NewDeadline::Keep => {}
        NewDeadline::None => {
            if options.expiry.is_some() && had_deadline {
                call.keyspace.set_deadline(call.db, key, None);
            }
        }
        NewDeadline::At(deadline) if deadline.is_due(call.now) => {
            call.keyspace.remove(call.db, key);
        }
        NewDeadline::At(deadline) => {
            call.keyspace.set_deadline(call.db, key, Some(deadline));
        }
    }
    Ok(())
}

/// DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]
pub fn delex(call: &mut Call<'_>) -> CommandResult {
    const NOT_A_STRING: CommandError =
        CommandError::new("ERR Key should be of string type if conditions are specified");
    const UNKNOWN: CommandError = CommandError::new("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE");
    if call.args.len() != 2 && call.args.len() != 4 {
        return Err(CommandError::wrong_arity(call.name));
    }
    let remove = match call.keyspace.get_to_write(call.db, call.args.at(1), call.now) {
        None => false,
        Some(_) if call.args.len() == 2 => true,
        Some(entry) => {
            let value = entry.string().map_err(|_| NOT_A_STRING)?;
            Comparison::parse(&call.args, 2).ok_or(UNKNOWN)?.holds_for(value)?
        }
    };
    if remove {
        call.keyspace.remove(call.db, call.args.at(1));
    }
    call.reply.integer(remove as i64);
    Ok(())
}

/// DIGEST key: the hash that IFDEQ and IFDNE compare.
pub fn digest(call: &mut Call<'_>) -> CommandResult {
    match string_at(call, 1)?.map(digest_of) {
        Some(digits) => call.reply.bulk(&digits),
        None => call.reply.null(),
    }
    Ok(())
}

const DIGEST_DIGITS: usize = 16;

/// XXH3 (64 bits, no seed) of the value's text, in lower-case hexadecimal with leading zeros.
fn digest_of(value: StringRef<'_>) -> [u8; DIGEST_DIGITS] {
    let hash = XxHash3_64::oneshot(value.as_bytes(&mut itoa::Buffer::new()));
    std::array::from_fn(|at| b"0123456789abcdef"[(hash >> (60 - 4 * at)) as usize & 15])
}

/// What the present value is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Comparison<'a> {
    kind: ComparisonKind,
    operand: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ComparisonKind {
    ValueEqual,
    ValueDiffers,
    DigestEqual,
    DigestDiffers,
}

impl<'a> Comparison<'a> {
    const WORDS: [(&'static str, ComparisonKind); 4] = [
        ("IFEQ", ComparisonKind::ValueEqual),
        ("IFNE", ComparisonKind::ValueDiffers),
        ("IFDEQ", ComparisonKind::DigestEqual),
        ("IFDNE", ComparisonKind::DigestDiffers),
    ];

    /// The word at argument `at` and its operand behind it.
    fn parse(args: &Args<'a>, at: usize) -> Option<Self> {
        let operand = args.get(at + 1)?;
        let (_, kind) = Self::WORDS.into_iter().find(|(word, _)| args.is(at, word))?;
        Some(Comparison { kind, operand })
    }
    fn holds_for_absent(self) -> bool {
        match self.kind {
            ComparisonKind::ValueEqual | ComparisonKind::DigestEqual => false,
            ComparisonKind::ValueDiffers | ComparisonKind::DigestDiffers => true,
        }
    }
    fn holds_for(self, value: StringRef<'_>) -> Result<bool, CommandError> {
        Ok(match self.kind {
            ComparisonKind::ValueEqual => self.equals_value(value),
            ComparisonKind::ValueDiffers => !self.equals_value(value),
            ComparisonKind::DigestEqual => self.equals_digest(value)?,
            ComparisonKind::DigestDiffers => !self.equals_digest(value)?,
        })
    }
    fn equals_value(self, value: StringRef<'_>) -> bool {
        value.as_bytes(&mut itoa::Buffer::new()) == self.operand
    }
    fn equals_digest(self, value: StringRef<'_>) -> Result<bool, CommandError> {
        const BAD_DIGEST: CommandError = CommandError::new("ERR must be exactly 16 hexadecimal characters");
        // Only the length is checked, as in Redis: other characters make a digest that no value has.
        if self.operand.len() != DIGEST_DIGITS {
            return Err(BAD_DIGEST);
        }
        Ok(self.operand.eq_ignore_ascii_case(&digest_of(value)))
    }
}

/// When SET sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    Absent,
    Exists,
    Compare(Comparison<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry<'a> {
    Keep,
    Persist,
    Time(Time<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// A time to live, or a point in time; its number is read only once the syntax of all options is right.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Time<'a> {
    amount: &'a [u8],
    unit: Unit,
    absolute: bool,
}

impl<'a> Time<'a> {
    fn parse(args: &Args<'a>, at: usize) -> Option<Self> {
        const WORDS: [(&str, Unit, bool); 4] = [
            ("EX", Unit::Seconds, false),
            ("PX", Unit::Milliseconds, false),
            ("EXAT", Unit::Seconds, true),
            ("PXAT", Unit::Milliseconds, true),
        ];
        let amount = args.get(at + 1)?;
        let (_, unit, absolute) = WORDS.into_iter().find(|(word, ..)| args.is(at, word))?;
        Some(Time { amount, unit, absolute })
    }
    /// The same option again may follow (the last one counts), another one may not.
    fn same_kind(&self, other: &Time<'_>) -> bool {
        (self.unit, self.absolute) == (other.unit, other.absolute)
    }
    fn deadline(&self, now: Now, command: &str) -> Result<Deadline, CommandError> {
        let invalid = || CommandError::invalid_expire_time(command);
        let amount = integer(self.amount)?;
        let ms = match self.unit {
            Unit::Seconds => amount.checked_mul(1000),
            Unit::Milliseconds => Some(amount),
        };
        let ms = ms.filter(|&ms| ms > 0).ok_or_else(invalid)?;
        if self.absolute {
            return Ok(Deadline::at(ms as u64));
        }
        // Redis counts in signed milliseconds of Unix time.
        ms.checked_add_unsigned(now.wall_ms).ok_or_else(invalid)?;
        Ok(Deadline::after(now, ms as u64))
    }
}

fn resolve(expiry: Option<Expiry<'_>>, call: &Call<'_>) -> Result<NewDeadline, CommandError> {
    Ok(match expiry {
        None | Some(Expiry::Persist) => NewDeadline::None,
        Some(Expiry::Keep) => NewDeadline::Keep,
        Some(Expiry::Time(time)) => NewDeadline::At(time.deadline(call.now, call.name)?),
    })
}

/// Whose options are parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Set,
    GetEx,
}

#[derive(Default)]
struct Options<'a> {
    condition: Option<Condition<'a>>,
    expiry: Option<Expiry<'a>>,
    get: bool,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, first: usize, family: Family) -> Result<Self, CommandError> {
        let mut options = Options::default();
        let mut at = first;
        while at < args.len() {
            at += match family {
                Family::Set if args.is(at, "GET") => {
                    options.get = true;
                    1
                }
                Family::Set if args.is(at, "NX") => options.require(Condition::Absent)?,
                Family::Set if args.is(at, "XX") => options.require(Condition::Exists)?,
                Family::Set if args.is(at, "KEEPTTL") => options.expire(Expiry::Keep)?,
                Family::GetEx if args.is(at, "PERSIST") => options.expire(Expiry::Persist)?,
                Family::Set | Family::GetEx => options.take_pair(args, at, family)?,
            };
        }
        Ok(options)
    }
    /// An option with an operand; arguments used.
    fn take_pair(&mut self, args: &Args<'a>, at: usize, family: Family) -> Result<usize, CommandError> {
        if let Some(time) = Time::parse(args, at) {
            return Ok(self.expire(Expiry::Time(time))? + 1);
        }
        match Comparison::parse(args, at) {
            Some(comparison) if family == Family::Set => Ok(self.require(Condition::Compare(comparison))? + 1),
            Some(_) | None => Err(SYNTAX),
        }
    }
    fn require(&mut self, condition: Condition<'a>) -> Result<usize, CommandError> {
        if self.condition.is_some_and(|other| other != condition) {
            return Err(SYNTAX);
        }
        self.condition = Some(condition);
        Ok(1)
    }
    fn expire(&mut self, expiry: Expiry<'a>) -> Result<usize, CommandError> {
        let agrees = match (self.expiry, expiry) {
            (None, _) => true,
            (Some(Expiry::Keep), Expiry::Keep) | (Some(Expiry::Persist), Expiry::Persist) => true,
            (Some(Expiry::Time(old)), Expiry::Time(new)) => old.same_kind(&new),
            (Some(_), _) => false,
        };
        self.expiry = Some(expiry);
        if agrees { Ok(1) } else { Err(SYNTAX) }
    }
}
