//! Commands about whole databases. Each runs on every shard, for its own part.

use crate::call::Call;
use crate::error::{CommandError, CommandResult, DB_OUT_OF_RANGE, SYNTAX};
use crate::numbers::{integer, parse_integer};
use crate::units::Db;

const NOT_AN_INT: CommandError =
    CommandError::new("ERR value is out of range, value must between -2147483648 and 2147483647");

/// The database that an argument names (COPY, MOVE).
pub(super) fn parse_db(call: &Call<'_>, arg: &[u8]) -> Result<Db, CommandError> {
    let index = i32::try_from(integer(arg)?).map_err(|_| NOT_AN_INT)?;
    existing_db(call, index)
}

/// Keys that expired and were not removed yet count, as in Redis.
pub(super) fn dbsize(call: &mut Call<'_>) -> CommandResult {
    call.reply.integer(call.keyspace.len(call.db) as i64);
    Ok(())
}

pub(super) fn flushdb(call: &mut Call<'_>) -> CommandResult {
    check_flush_options(call)?;
    // An empty database needs no edit in the log, nor its reply a flush to disk.
    if !call.keyspace.is_empty(call.db) {
        call.keyspace.flush(call.db);
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn flushall(call: &mut Call<'_>) -> CommandResult {
    check_flush_options(call)?;
    if (0..call.keyspace.databases()).any(|db| !call.keyspace.is_empty(Db(db))) {
        call.keyspace.flush_all();
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn swapdb(call: &mut Call<'_>) -> CommandResult {
    const FIRST: CommandError = CommandError::new("ERR invalid first DB index");
    const SECOND: CommandError = CommandError::new("ERR invalid second DB index");
    let index = |arg| parse_integer(arg).and_then(|index| i32::try_from(index).ok());
    let a = index(&call.args[1]).ok_or(FIRST)?;
    let b = index(&call.args[2]).ok_or(SECOND)?;
    let (a, b) = (existing_db(call, a)?, existing_db(call, b)?);
    if a != b {
        call.keyspace.swap(a, b);
    }
    call.reply.ok();
    Ok(())
}

/// `[ASYNC | SYNC]`: accepted and of no consequence.
fn check_flush_options(call: &Call<'_>) -> CommandResult {
    let args = &call.args;
    let known = args.len() == 1 || args.len() == 2 && (args.is(1, "sync") || args.is(1, "async"));
    if known { Ok(()) } else { Err(SYNTAX) }
}

fn existing_db(call: &Call<'_>, index: i32) -> Result<Db, CommandError> {
    match u16::try_from(index) {
        Ok(index) if index < call.keyspace.databases() => Ok(Db(index)),
        Ok(_) | Err(_) => Err(DB_OUT_OF_RANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use crate::units::Db;

    #[test]
    fn a_flush_empties_one_database_or_all() {
        let mut stage = Stage::new();
        stage.put("a", "1");
        stage.db = Db(3);
        stage.put("b", "1");
        assert_eq!(stage.run("FLUSHDB async"), "+OK\r\n");
        assert_eq!(stage.run("DBSIZE"), ":0\r\n");
        stage.db = Db(0);
        assert_eq!(stage.run("DBSIZE"), ":1\r\n");
        assert_eq!(stage.run("FLUSHALL nonsense"), "-ERR syntax error\r\n");
        assert_eq!(stage.run("FLUSHALL SYNC"), "+OK\r\n");
        assert_eq!(stage.run("DBSIZE"), ":0\r\n");
    }

    #[test]
    fn flushing_nothing_and_swapping_with_itself_leave_the_log_alone() {
        let mut stage = Stage::new();
        for line in ["FLUSHALL", "FLUSHDB", "SWAPDB 2 2"] {
            assert_eq!(stage.run(line), "+OK\r\n");
        }
        assert_eq!(stage.edits(), 0);
    }

    #[test]
    fn swapped_databases_have_each_others_keys() {
        let mut stage = Stage::new();
        stage.put("a", "1");
        assert_eq!(stage.run("SWAPDB 0 5"), "+OK\r\n");
        assert_eq!(stage.run("EXISTS a"), ":0\r\n");
        stage.db = Db(5);
        assert_eq!(stage.run("EXISTS a"), ":1\r\n");
        assert_eq!(stage.run("SWAPDB x 1"), "-ERR invalid first DB index\r\n");
        assert_eq!(stage.run("SWAPDB 99 x"), "-ERR invalid second DB index\r\n");
        assert_eq!(stage.run("SWAPDB 0 16"), "-ERR DB index is out of range\r\n");
    }
}
