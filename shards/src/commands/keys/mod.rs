//! Commands about keys whatever they hold: their existence, names, deadlines, and whole databases of them.
//!
//! The table is here, with what concerns existence and type; the rest is by subject in the files beside. The rule
//! that must hold: rows marked `READ` never edit, so an expired key that still lies there is left for the shard's tick.

mod databases;
mod dump;
mod expire;
mod object;
mod relocate;
mod scan;
mod sort;
#[cfg(test)]
mod stage;

pub use object::{DEBUG_DIGEST_VALUE, DEBUG_OBJECT, MEMORY_USAGE, debug_object};
pub use scan::{KEYS_VISITED_MAX, parse_cursor};

use crate::call::Call;
use crate::error::CommandResult;
use crate::row::{Gather, Handler, KeyUse, Keys, Route, Row, Traits};

const READ: Traits = Traits::READ.and(Traits::KEYSPACE);
const READ_FAST: Traits = READ.and(Traits::FAST);
/// Reads of more than the keys named, which wait for every unsettled edit.
const READ_WHOLE: Traits = READ.and(Traits::WHOLE);
const WRITE: Traits = Traits::WRITE.and(Traits::KEYSPACE);
/// Patterns reach keys that the row doesn't know.
const SORTS: Traits = Traits::MOVABLE_KEYS.and(Traits::WHOLE);
const WRITE_FAST: Traits = WRITE.and(Traits::FAST);

/// `Row::new` for handlers of the shard: written out, a function's name would be a handler type of its own.
const fn row(name: &'static str, arity: i8, traits: Traits, handler: Handler) -> Row {
    Row::new(name, arity, traits, handler)
}

const fn every_key(usage: KeyUse) -> Keys {
    Keys::Range { first: 1, last: -1, step: 1, usage }
}

pub const ROWS: &[Row] = &[
    // ---- existence and type -------------------------------------------------------------------------------
    row("del", -2, WRITE, del).keys(every_key(KeyUse::Remove)).route(Route::Split(Gather::Sum)).docs(
        "generic",
        "1.0.0",
        "O(N) for N keys, plus the elements of those that are collections",
        "Deletes keys and tells how many there were.",
    ),
    row("unlink", -2, WRITE_FAST, del).keys(every_key(KeyUse::Remove)).route(Route::Split(Gather::Sum)).docs(
        "generic",
        "4.0.0",
        "O(1) per key; memory of large values is given back later",
        "Deletes keys without waiting for their memory to be freed.",
    ),
    row("exists", -2, READ_FAST, exists).keys(every_key(KeyUse::Read)).route(Route::Split(Gather::Sum)).docs(
        "generic",
        "1.0.0",
        "O(N) for N keys",
        "Counts those of the named keys that exist; one named twice counts twice.",
    ),
    row("touch", -2, READ_FAST, touch).keys(every_key(KeyUse::Read)).route(Route::Split(Gather::Sum)).docs(
        "generic",
        "3.2.1",
        "O(N) for N keys",
        "Marks keys as accessed just now and counts those that exist.",
    ),
    row("type", 2, READ_FAST, type_of).key(KeyUse::Read).docs(
        "generic",
        "1.0.0",
        "O(1)",
        "Names the type of a key's value, or none.",
    ),
    // ---- deadlines ----------------------------------------------------------------------------------------
    row("ttl", 2, READ_FAST, expire::ttl).key(KeyUse::Read).docs(
        "generic",
        "1.0.0",
        "O(1)",
        "Seconds left until a key expires.",
    ),
    row("pttl", 2, READ_FAST, expire::pttl).key(KeyUse::Read).docs(
        "generic",
        "2.6.0",
        "O(1)",
        "Milliseconds left until a key expires.",
    ),
    row("expiretime", 2, READ_FAST, expire::expiretime).key(KeyUse::Read).docs(
        "generic",
        "7.0.0",
        "O(1)",
        "The Unix time in seconds at which a key expires.",
    ),
    row("pexpiretime", 2, READ_FAST, expire::pexpiretime).key(KeyUse::Read).docs(
        "generic",
        "7.0.0",
        "O(1)",
        "The Unix time in milliseconds at which a key expires.",
    ),
    row("expire", -3, WRITE_FAST, expire::expire).key(KeyUse::ReadWrite).docs(
        "generic",
        "1.0.0",
        "O(1)",
        "Lets a key expire after some seconds.",
    ),
    row("pexpire", -3, WRITE_FAST, expire::pexpire).key(KeyUse::ReadWrite).docs(
        "generic",
        "2.6.0",
        "O(1)",
        "Lets a key expire after some milliseconds.",
    ),
    row("expireat", -3, WRITE_FAST, expire::expireat).key(KeyUse::ReadWrite).docs(
        "generic",
        "1.2.0",
        "O(1)",
        "Lets a key expire at a Unix time in seconds.",
    ),
    row("pexpireat", -3, WRITE_FAST, expire::pexpireat).key(KeyUse::ReadWrite).docs(
        "generic",
        "2.6.0",
        "O(1)",
        "Lets a key expire at a Unix time in milliseconds.",
    ),
    row("persist", 2, WRITE_FAST, expire::persist).key(KeyUse::ReadWrite).docs(
        "generic",
        "2.2.0",
        "O(1)",
        "Takes a key's deadline away.",
    ),
    // ---- names and places ---------------------------------------------------------------------------------
    row("rename", 3, WRITE, relocate::rename)
        .keys(Keys::Two { first: (1, KeyUse::ReadWrite), rest: (2, 2, KeyUse::Overwrite) })
        .docs("generic", "1.0.0", "O(1)", "Gives a key another name, replacing what has that name."),
    row("renamenx", 3, WRITE_FAST, relocate::renamenx)
        .keys(Keys::Two { first: (1, KeyUse::ReadWrite), rest: (2, 2, KeyUse::Overwrite) })
        .docs("generic", "1.0.0", "O(1)", "Gives a key another name unless that is taken."),
    row("copy", -3, WRITE.and(Traits::DENY_OOM).and(Traits::OTHER_DATABASES), relocate::copy)
        .keys(Keys::Two { first: (1, KeyUse::Read), rest: (2, 2, KeyUse::Overwrite) })
        .docs(
            "generic",
            "6.2.0",
            "O(1) for strings, O(N) for collections of N elements",
            "Copies a value to another key, or to another database.",
        ),
    row("move", 3, WRITE_FAST.and(Traits::OTHER_DATABASES), relocate::move_).key(KeyUse::ReadWrite).docs(
        "generic",
        "1.0.0",
        "O(1)",
        "Moves a key to another database unless it has a key of that name.",
    ),
    row("dump", 2, READ, dump::dump).key(KeyUse::Read).docs(
        "generic",
        "2.6.0",
        "O(N) for values of N elements, and their bytes",
        "Replies the value of a key as a payload for RESTORE.",
    ),
    row("restore", -4, WRITE.and(Traits::DENY_OOM).and(Traits::DANGEROUS), dump::restore).key(KeyUse::Overwrite).docs(
        "generic",
        "2.6.0",
        "O(N) for values of N elements, and their bytes; O(N*log(N)) for sorted sets",
        "Makes a key of a payload that DUMP replied.",
    ),
    // ---- sorted elements ----------------------------------------------------------------------------------
    row("sort", -2, WRITE.and(Traits::DENY_OOM).and(SORTS), sort::sort)
        .keys(Keys::Find { find: sort::find_keys, usage: KeyUse::ReadWrite })
        .docs(
            "generic",
            "1.0.0",
            "O(N*log(N)) for N elements, plus a lookup for each pattern and element",
            "Replies or stores the elements of a list, set or sorted set in order.",
        ),
    row("sort_ro", -2, READ.and(SORTS), sort::sort_ro).key(KeyUse::Read).docs(
        "generic",
        "7.0.0",
        "O(N*log(N)) for N elements, plus a lookup for each pattern and element",
        "Replies the elements of a list, set or sorted set in order.",
    ),
    // ---- looking around -----------------------------------------------------------------------------------
    row("randomkey", 1, READ_WHOLE, scan::randomkey).route(Route::Any).docs(
        "generic",
        "1.0.0",
        "O(1)",
        "Names a key picked at random.",
    ),
    row("keys", 2, READ_WHOLE.and(Traits::DANGEROUS), scan::keys).route(Route::Every(Gather::Concat)).docs(
        "generic",
        "1.0.0",
        "O(N) for N keys in the database",
        "Names all keys that match a pattern.",
    ),
    row("scan", -2, READ_WHOLE, scan::scan).route(Route::Cursor).docs(
        "generic",
        "2.8.0",
        "O(1) per call, O(N) for all N keys of the database",
        "Names some keys, and the cursor with which to ask for more.",
    ),
    // ---- whole databases ----------------------------------------------------------------------------------
    row("dbsize", 1, READ_WHOLE.and(Traits::FAST), databases::dbsize).route(Route::Every(Gather::Sum)).docs(
        "server",
        "1.0.0",
        "O(1)",
        "Counts the keys of the selected database.",
    ),
    row("flushdb", -1, WRITE.and(Traits::DANGEROUS), databases::flushdb).route(Route::Every(Gather::Ok)).docs(
        "server",
        "1.0.0",
        "O(N) for N keys in the database",
        "Deletes all keys of the selected database.",
    ),
    row("flushall", -1, WRITE.and(Traits::DANGEROUS), databases::flushall).route(Route::Every(Gather::Ok)).docs(
        "server",
        "1.0.0",
        "O(N) for N keys in all databases",
        "Deletes all keys of all databases.",
    ),
    row("swapdb", 3, WRITE_FAST.and(Traits::DANGEROUS), databases::swapdb).route(Route::Every(Gather::Ok)).docs(
        "server",
        "4.0.0",
        "O(1), plus the clients that watch or block on keys of the two",
        "Exchanges the contents of two databases.",
    ),
    // ---- introspection ------------------------------------------------------------------------------------
    row("object", -2, Traits::NONE, object::unknown_subcommand)
        .route(Route::Any)
        .docs("generic", "2.2.3", "see the subcommands", "Looks at how values are kept.")
        .subcommands(object::SUBCOMMANDS),
];

/// DEL and UNLINK: memory goes back to the allocator at once, as a string's takes no time worth deferring.
fn del(call: &mut Call<'_>) -> CommandResult {
    let mut removed = 0;
    for key in call.args.from(1).iter() {
        // What has expired was gone already: it does not count, and the tick removes it.
        if call.keyspace.peek(call.db, key, call.now).is_some() {
            call.keyspace.remove(call.db, key);
            removed += 1;
        }
    }
    call.reply.integer(removed);
    Ok(())
}

fn exists(call: &mut Call<'_>) -> CommandResult {
    let there = |key: &&[u8]| call.keyspace.look(call.db, key, call.now).is_some();
    let count = call.args.from(1).iter().filter(there).count();
    call.reply.integer(count as i64);
    Ok(())
}

/// As EXISTS, but notes the access.
fn touch(call: &mut Call<'_>) -> CommandResult {
    let touched = |key: &&[u8]| call.keyspace.get(call.db, key, call.now).is_some();
    let count = call.args.from(1).iter().filter(touched).count();
    call.reply.integer(count as i64);
    Ok(())
}

fn type_of(call: &mut Call<'_>) -> CommandResult {
    let entry = call.keyspace.look(call.db, &call.args[1], call.now);
    call.reply.simple(entry.map_or("none", |entry| entry.type_name()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use super::stage::Stage;
    use crate::row::Traits;

    #[test]
    fn existing_keys_are_counted_as_often_as_named() {
        let mut stage = Stage::new();
        stage.put("a", "1");
        stage.put("b", "text");
        assert_eq!(stage.run("EXISTS a a b nope"), ":3\r\n");
        assert_eq!(stage.run("TOUCH a nope b"), ":2\r\n");
        assert_eq!(stage.run("DEL a a nope"), ":1\r\n");
        assert_eq!(stage.run("UNLINK a b"), ":1\r\n");
        assert_eq!(stage.run("DBSIZE"), ":0\r\n");
    }

    #[test]
    fn an_expired_key_is_absent_and_not_deleted_twice() {
        let mut stage = Stage::new();
        stage.put("a", "1");
        stage.run("PEXPIRE a 10");
        stage.advance(10);
        let edits = stage.edits();
        assert_eq!(stage.run("EXISTS a"), ":0\r\n");
        assert_eq!(stage.run("TYPE a"), "+none\r\n");
        assert_eq!(stage.run("DEL a"), ":0\r\n");
        assert_eq!(stage.edits(), edits, "only the tick removes what expired");
        assert_eq!(stage.expire_due(), 1);
        assert_eq!(stage.run("DBSIZE"), ":0\r\n");
    }

    #[test]
    fn every_row_reads_or_writes_and_is_documented() {
        for row in ROWS.iter().flat_map(|row| std::iter::once(row).chain(row.subcommands)) {
            assert!(!(row.traits.has(Traits::READ) && row.traits.has(Traits::WRITE)), "{}", row.name);
            assert!(!row.docs.summary.is_empty(), "{}", row.name);
        }
    }
}
