//! Deadlines of keys: asking for them, giving them, taking them away.
//!
//! A time to live makes a deadline on the steady clock, a point in time one on the wall clock; so a step of the wall
//! clock leaves the first alone. The two are compared (GT, LT) as Unix times of the wall clock as it stands now.

use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult};
use crate::numbers::integer;
use crate::units::{Deadline, DeadlineKind};

/// Whether a command counts seconds or milliseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

pub(super) fn ttl(call: &mut Call<'_>) -> CommandResult {
    reply_deadline(call, |deadline, call| nearest_second(deadline.remaining_ms(call.now)))
}

pub(super) fn pttl(call: &mut Call<'_>) -> CommandResult {
    reply_deadline(call, |deadline, call| deadline.remaining_ms(call.now))
}

pub(super) fn expiretime(call: &mut Call<'_>) -> CommandResult {
    reply_deadline(call, |deadline, call| nearest_second(deadline.unix_ms(call.now)))
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> CommandResult {
    reply_deadline(call, |deadline, call| deadline.unix_ms(call.now))
}

pub(super) fn expire(call: &mut Call<'_>) -> CommandResult {
    set_deadline(call, DeadlineKind::Relative, Unit::Seconds)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> CommandResult {
    set_deadline(call, DeadlineKind::Relative, Unit::Milliseconds)
}

pub(super) fn expireat(call: &mut Call<'_>) -> CommandResult {
    set_deadline(call, DeadlineKind::Absolute, Unit::Seconds)
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> CommandResult {
    set_deadline(call, DeadlineKind::Absolute, Unit::Milliseconds)
}

pub(super) fn persist(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let limited = call.keyspace.get_to_write(call.db, key, call.now).is_some_and(|entry| entry.deadline().is_some());
    if limited {
        call.keyspace.set_deadline(call.db, key, None);
    }
    call.reply.integer(limited as i64);
    Ok(())
}

/// -2: no such key, -1: it has no deadline.
fn reply_deadline(call: &mut Call<'_>, measure: fn(Deadline, &Call<'_>) -> u64) -> CommandResult {
    let entry = call.keyspace.look(call.db, &call.args[1], call.now);
    let reply = match entry.map(|entry| entry.deadline()) {
        None => -2,
        Some(None) => -1,
        // Deadline::MS_MAX is far below the signed limit.
        Some(Some(deadline)) => measure(deadline, call) as i64,
    };
    call.reply.integer(reply);
    Ok(())
}

fn nearest_second(ms: u64) -> u64 {
    (ms + 500) / 1000
}

/// The options of EXPIRE and its relatives.
#[derive(Default)]
struct Conditions {
    /// NX: only a key without deadline.
    none: bool,
    /// XX: only a key with one.
    some: bool,
    /// GT: only to a later one; no deadline is the latest.
    later: bool,
    /// LT: only to an earlier one.
    earlier: bool,
}

/// The body of all four. Redis looks at the options first, then at the number, then at the key.
fn set_deadline(call: &mut Call<'_>, kind: DeadlineKind, unit: Unit) -> CommandResult {
    let conditions = parse_conditions(&call.args.from(3))?;
    let (deadline, unix_ms) = parse_deadline(call, kind, unit)?;
    let key = call.args.at(1);
    let met = match call.keyspace.get_to_write(call.db, key, call.now) {
        None => false,
        Some(entry) => conditions.met(entry.deadline().map(|deadline| deadline.unix_ms(call.now) as i64), unix_ms),
    };
    if met {
        match deadline {
            Some(deadline) => {
                call.keyspace.set_deadline(call.db, key, Some(deadline));
            }
            None => {
                call.keyspace.remove(call.db, key);
            }
        }
    }
    call.reply.integer(met as i64);
    Ok(())
}

fn parse_conditions(options: &Args<'_>) -> Result<Conditions, CommandError> {
    const NX_AND_OTHERS: CommandError =
        CommandError::new("ERR NX and XX, GT or LT options at the same time are not compatible");
    const GT_AND_LT: CommandError = CommandError::new("ERR GT and LT options at the same time are not compatible");
    let mut conditions = Conditions::default();
    for (index, option) in options.iter().enumerate() {
        let known = [
            ("nx", &mut conditions.none),
            ("xx", &mut conditions.some),
            ("gt", &mut conditions.later),
            ("lt", &mut conditions.earlier),
        ];
        match known.into_iter().find(|(name, _)| options.is(index, name)) {
            Some((_, asked)) => *asked = true,
            None => {
                let option = String::from_utf8_lossy(option);
                return Err(CommandError::owned(format!("ERR Unsupported option {option}")));
            }
        }
    }
    if conditions.none && (conditions.some || conditions.later || conditions.earlier) {
        return Err(NX_AND_OTHERS);
    }
    if conditions.later && conditions.earlier {
        return Err(GT_AND_LT);
    }
    Ok(conditions)
}

impl Conditions {
    /// `old` and `new` are Unix times in milliseconds.
    fn met(&self, old: Option<i64>, new: i64) -> bool {
        match old {
            None => !self.some && !self.later,
            Some(old) => !self.none && (!self.later || new > old) && (!self.earlier || new < old),
        }
    }
}

/// The deadline that argument 2 asks for, `None` when it has passed, and its Unix time for comparisons.
///
/// Refused is what Redis refuses: times outside signed 64-bit milliseconds. Those that Redis takes and a `Deadline`
/// doesn't hold, 146 million years from now, become the latest it holds.
fn parse_deadline(call: &Call<'_>, kind: DeadlineKind, unit: Unit) -> Result<(Option<Deadline>, i64), CommandError> {
    let number = integer(&call.args[2])?;
    let invalid = || CommandError::invalid_expire_time(call.name);
    let ms = match unit {
        // Redis refuses what is beyond the quotients, which truncate towards zero; this is the same.
        Unit::Seconds => number.checked_mul(1000).ok_or_else(invalid)?,
        Unit::Milliseconds => number,
    };
    let unix_ms = match kind {
        DeadlineKind::Relative => ms.checked_add_unsigned(call.now.wall_ms).ok_or_else(invalid)?,
        DeadlineKind::Absolute => ms,
    };
    let deadline = match (kind, u64::try_from(ms)) {
        (DeadlineKind::Relative, Ok(ttl_ms @ 1..)) => Some(Deadline::after(call.now, ttl_ms)),
        (DeadlineKind::Absolute, Ok(at_ms)) if at_ms > call.now.wall_ms => Some(Deadline::at(at_ms)),
        (DeadlineKind::Relative | DeadlineKind::Absolute, Ok(_) | Err(_)) => None,
    };
    Ok((deadline, unix_ms.min(Deadline::MS_MAX as i64)))
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;

    const HOUR_MS: i64 = 3_600_000;

    fn stage() -> Stage {
        let mut stage = Stage::new();
        stage.put("k", "v");
        stage
    }

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        let mut stage = stage();
        for (ms, seconds) in [(1, 0), (499, 0), (500, 1), (1499, 1), (1500, 2)] {
            stage.run(&format!("PEXPIRE k {ms}"));
            assert_eq!(stage.run("TTL k"), format!(":{seconds}\r\n"), "{ms} ms");
            assert_eq!(stage.run("PTTL k"), format!(":{ms}\r\n"));
        }
        stage.run("PEXPIREAT k 9000000000501");
        assert_eq!(stage.run("EXPIRETIME k"), ":9000000001\r\n");
        assert_eq!(stage.run("PEXPIRETIME k"), ":9000000000501\r\n");
    }

    #[test]
    fn a_deadline_that_has_passed_deletes_the_key() {
        for line in ["EXPIRE k 0", "PEXPIRE k -1", "EXPIREAT k 0", "PEXPIREAT k 1700000000000", "EXPIRE k -5 LT"] {
            let mut stage = stage();
            assert_eq!(stage.run(line), ":1\r\n", "{line}");
            assert_eq!(stage.run("DBSIZE"), ":0\r\n", "{line}");
        }
        let mut stage = stage();
        assert_eq!(stage.run("EXPIRE k -5 GT"), ":0\r\n");
        assert_eq!(stage.run("EXPIRE k -5 XX"), ":0\r\n");
        assert_eq!(stage.run("EXISTS k"), ":1\r\n");
    }

    #[test]
    fn conditions_compare_with_the_old_deadline() {
        let mut stage = stage();
        for (line, reply) in [
            ("EXPIRE k 100 GT", 0),
            ("EXPIRE k 100 XX", 0),
            ("EXPIRE k 100 LT", 1),
            ("EXPIRE k 100 NX", 0),
            ("EXPIRE k 100 GT", 0),
            ("EXPIRE k 100 LT", 0),
            ("PEXPIRE k 100001 GT", 1),
            ("PEXPIRE k 100000 XX LT", 1),
            ("PEXPIREAT k 1700000100000 GT", 0),
            ("PEXPIREAT k 1700000100001 GT", 1),
            ("EXPIRE k 100 LT", 1),
        ] {
            assert_eq!(stage.run(line), format!(":{reply}\r\n"), "{line}");
        }
    }

    #[test]
    fn the_far_future_is_kept_or_refused_as_in_redis() {
        let mut stage = stage();
        assert_eq!(stage.run("PEXPIREAT k 9223372036854775807"), ":1\r\n");
        assert_eq!(stage.run("PEXPIREAT k 9223372036854775807 GT"), ":0\r\n");
        assert_eq!(stage.run("EXPIRE k 9223372036854776"), "-ERR invalid expire time in 'expire' command\r\n");
        assert_eq!(stage.run("PEXPIRE k 9223372036854775807"), "-ERR invalid expire time in 'pexpire' command\r\n");
        assert_eq!(stage.run("EXPIREAT k -9223372036854776"), "-ERR invalid expire time in 'expireat' command\r\n");
        assert_eq!(stage.run("EXISTS k"), ":1\r\n");
        assert_eq!(stage.run("EXPIREAT k -9223372036854775"), ":1\r\n");
        assert_eq!(stage.run("EXISTS k"), ":0\r\n");
    }

    #[test]
    fn a_step_of_the_wall_clock_leaves_a_time_to_live_and_moves_a_point_in_time() {
        for step in [HOUR_MS, -HOUR_MS] {
            let mut stage = stage();
            stage.put("at", "v");
            stage.run("EXPIRE k 7200");
            stage.run("EXPIREAT at 1700007200");
            stage.step_wall(step);
            assert_eq!(stage.run("PTTL k"), ":7200000\r\n");
            assert_eq!(stage.run("PEXPIRETIME k"), format!(":{}\r\n", 1_700_007_200_000 + step));
            assert_eq!(stage.run("PTTL at"), format!(":{}\r\n", 2 * HOUR_MS - step));
            assert_eq!(stage.run("EXPIRETIME at"), ":1700007200\r\n");
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_expires_no_time_to_live() {
        for step in [HOUR_MS, -HOUR_MS] {
            let mut stage = Stage::new();
            for key in 0..1000 {
                stage.put(&format!("k{key}"), "v");
                stage.run(&format!("EXPIRE k{key} {}", key + 1));
            }
            stage.step_wall(step);
            assert_eq!(stage.expire_due(), 0);
            stage.advance(10_000);
            assert_eq!(stage.expire_due(), 10);
            assert_eq!(stage.run("DBSIZE"), ":990\r\n");
        }
    }

    #[test]
    fn a_point_in_time_passes_when_the_wall_clock_steps_over_it() {
        let mut stage = stage();
        stage.run("EXPIREAT k 1700000060");
        stage.step_wall(HOUR_MS);
        assert_eq!(stage.run("TTL k"), ":-2\r\n");
        stage.step_wall(-HOUR_MS);
        assert_eq!(stage.run("TTL k"), ":60\r\n");
    }

    #[test]
    fn persist_takes_only_a_deadline_that_is_there() {
        let mut stage = stage();
        let edits = stage.edits();
        assert_eq!(stage.run("PERSIST k"), ":0\r\n");
        assert_eq!(stage.edits(), edits);
        stage.run("EXPIRE k 5");
        assert_eq!(stage.run("PERSIST k"), ":1\r\n");
        assert_eq!(stage.run("TTL k"), ":-1\r\n");
    }
}
