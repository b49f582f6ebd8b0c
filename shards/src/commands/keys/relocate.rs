//! Commands that give an entry another name or another database. The deadline goes with the value.

use super::databases::parse_db;
use crate::call::Call;
use crate::error::{CommandResult, NO_SUCH_KEY, SAME_OBJECT, SYNTAX};
use crate::units::Db;

pub(super) fn rename(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (call.args.at(1), call.args.at(2));
    if !exists(call, call.db, from) {
        return Err(NO_SUCH_KEY);
    }
    if from != to {
        call.keyspace.rename(call.db, from, call.db, to);
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (call.args.at(1), call.args.at(2));
    if !exists(call, call.db, from) {
        return Err(NO_SUCH_KEY);
    }
    // Its own name is a name that is taken.
    let free = !exists(call, call.db, to);
    if free {
        call.keyspace.rename(call.db, from, call.db, to);
    }
    call.reply.integer(free as i64);
    Ok(())
}

/// `COPY source destination [DB n] [REPLACE]`
pub(super) fn copy(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (call.args.at(1), call.args.at(2));
    let (mut to_db, mut replace) = (call.db, false);
    let mut at = 3;
    while at < call.args.len() {
        if call.args.is(at, "replace") {
            replace = true;
            at += 1;
        } else if call.args.is(at, "db") && at + 1 < call.args.len() {
            to_db = parse_db(call, call.args.at(at + 1))?;
            at += 2;
        } else {
            return Err(SYNTAX);
        }
    }
    if to_db == call.db && from == to {
        return Err(SAME_OBJECT);
    }
    // The source is read, which counts; all else here is looked up in order to change it.
    let there = call.keyspace.look(call.db, from, call.now).is_some();
    let copies = there && (replace || !exists(call, to_db, to));
    if copies {
        call.keyspace.copy(call.db, from, to_db, to);
    }
    call.reply.integer(copies as i64);
    Ok(())
}

/// `MOVE key db`: within the shard, as a key's slot is the same in every database.
pub(super) fn move_(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let to_db = parse_db(call, call.args.at(2))?;
    if to_db == call.db {
        return Err(SAME_OBJECT);
    }
    let moves = exists(call, call.db, key) && !exists(call, to_db, key);
    if moves {
        call.keyspace.rename(call.db, key, to_db, key);
    }
    call.reply.integer(moves as i64);
    Ok(())
}

fn exists(call: &Call<'_>, db: Db, key: &[u8]) -> bool {
    call.keyspace.peek(db, key, call.now).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use crate::units::Db;

    #[test]
    fn the_deadline_goes_with_a_renamed_copied_or_moved_key() {
        let mut stage = Stage::new();
        stage.put("a", "1");
        stage.put("b", "old");
        stage.run("PEXPIRE a 5000");
        assert_eq!(stage.run("RENAME a b"), "+OK\r\n");
        assert_eq!(stage.run("PTTL b"), ":5000\r\n");
        assert_eq!(stage.run("COPY b c"), ":1\r\n");
        assert_eq!(stage.run("PTTL c"), ":5000\r\n");
        assert_eq!(stage.run("MOVE c 1"), ":1\r\n");
        assert_eq!(stage.run("EXISTS c"), ":0\r\n");
        stage.db = Db(1);
        assert_eq!(stage.run("PTTL c"), ":5000\r\n");
    }

    #[test]
    fn renaming_a_key_to_itself_changes_nothing() {
        let mut stage = Stage::new();
        assert_eq!(stage.run("RENAME a a"), "-ERR no such key\r\n");
        stage.put("a", "1");
        let edits = stage.edits();
        assert_eq!(stage.run("RENAME a a"), "+OK\r\n");
        assert_eq!(stage.run("RENAMENX a a"), ":0\r\n");
        assert_eq!(stage.edits(), edits);
    }

    #[test]
    fn an_expired_key_is_no_obstacle_and_no_source() {
        let mut stage = Stage::new();
        stage.put("old", "1");
        stage.put("new", "2");
        stage.run("PEXPIRE old 10");
        stage.advance(10);
        assert_eq!(stage.run("RENAME old x"), "-ERR no such key\r\n");
        assert_eq!(stage.run("COPY old x"), ":0\r\n");
        assert_eq!(stage.run("MOVE old 1"), ":0\r\n");
        assert_eq!(stage.run("COPY new old"), ":1\r\n");
        assert_eq!(stage.run("TTL old"), ":-1\r\n");
        stage.run("PEXPIRE old 10");
        stage.advance(10);
        assert_eq!(stage.run("RENAMENX new old"), ":1\r\n");
        assert_eq!(stage.expire_due(), 0);
    }

    #[test]
    fn a_key_in_the_way_stops_copy_and_move() {
        let mut stage = Stage::new();
        stage.put("a", "1");
        assert_eq!(stage.run("COPY a a"), "-ERR source and destination objects are the same\r\n");
        assert_eq!(stage.run("COPY a a DB 2"), ":1\r\n");
        assert_eq!(stage.run("COPY a a DB 2"), ":0\r\n");
        assert_eq!(stage.run("COPY a a DB 2 REPLACE"), ":1\r\n");
        assert_eq!(stage.run("MOVE a 2"), ":0\r\n");
        assert_eq!(stage.run("MOVE a 0"), "-ERR source and destination objects are the same\r\n");
        assert_eq!(stage.run("MOVE a 16"), "-ERR DB index is out of range\r\n");
    }
}
