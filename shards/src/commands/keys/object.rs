//! OBJECT and the shard's part of DEBUG: how a value is kept, and when it was last used. Nothing here counts as use.

use super::row;
use crate::call::Call;
use crate::error::{CommandError, CommandResult, NO_SUCH_KEY, SYNTAX};
use crate::keyspace::{ACCESS_MASK, Entry, StringRef, Value};
use crate::numbers::integer;
use crate::row::{KeyUse, Keys, Route, Row, Traits};
use crate::units::Now;

/// Integers below this are shared objects in Redis, with a reference count that says so.
const SHARED_INTEGERS: i64 = 10_000;
/// The reference count of a shared object.
const SHARED_REFERENCES: i64 = i32::MAX as i64;

const NOT_LFU: CommandError = CommandError::new(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.",
);
const IS_LFU: CommandError = CommandError::new(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
     policies at runtime LRU and LFU data will take some time to adjust.",
);

const READ: Traits = Traits::READ.and(Traits::KEYSPACE);
const KEY: Keys = Keys::Range { first: 2, last: 2, step: 1, usage: KeyUse::Read };

pub(super) const SUBCOMMANDS: &[Row] = &[
    row("object|encoding", 3, READ, encoding).keys(KEY).docs(
        "generic",
        "2.2.3",
        "O(1)",
        "Names the representation of a key's value.",
    ),
    row("object|freq", 3, READ, freq).keys(KEY).docs(
        "generic",
        "4.0.0",
        "O(1)",
        "The logarithmic counter of a key's uses, under an LFU policy.",
    ),
    row("object|idletime", 3, READ, idletime).keys(KEY).docs(
        "generic",
        "2.2.3",
        "O(1)",
        "Seconds since a key was last used.",
    ),
    row("object|refcount", 3, READ, refcount).keys(KEY).docs(
        "generic",
        "2.2.3",
        "O(1)",
        "References to a key's value; many for small integers.",
    ),
    row("object|help", 2, Traits::KEYSPACE.and(Traits::LOADING).and(Traits::STALE), help).route(Route::Any).docs(
        "generic",
        "6.2.0",
        "O(1)",
        "Lists the subcommands.",
    ),
];

/// The row of `DEBUG OBJECT key`, for the server's DEBUG, which the shards have no table of.
pub static DEBUG_OBJECT: Row = row("debug|object", 3, Traits::READ.and(Traits::ADMIN), debug_object).keys(KEY).docs(
    "server",
    "1.0.0",
    "O(1) for strings",
    "Internals of a key's value.",
);

/// `DEBUG OBJECT key`, in Redis' wording. There is no object to have an address, and the serialized length is that of
/// Redis' RDB encoding without compression.
pub fn debug_object(call: &mut Call<'_>) -> CommandResult {
    let entry = call.keyspace.peek(call.db, &call.args[2], call.now).ok_or(NO_SUCH_KEY)?;
    let text = format!(
        "Value at:0x0 refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        references(&entry),
        entry.encoding().name(),
        serialized_len(&entry),
        entry.access() & ACCESS_MASK,
        idle_seconds(&entry, call.now),
    );
    call.reply.simple(&text);
    Ok(())
}

/// The row of `DEBUG DIGEST-VALUE key [key ...]`, likewise.
pub static DEBUG_DIGEST_VALUE: Row = row("debug|digest-value", -2, Traits::READ.and(Traits::ADMIN), debug_digest_value)
    .keys(Keys::Range { first: 2, last: -1, step: 1, usage: KeyUse::Read })
    .docs("server", "4.0.0", "O(N) for N elements", "Fingerprints of the values of keys.");

/// `DEBUG DIGEST-VALUE key [key ...]`: as long as Redis' SHA-1, as tests compare digests as text.
fn debug_digest_value(call: &mut Call<'_>) -> CommandResult {
    let keys = call.args.from(2);
    call.reply.array(keys.len());
    for key in keys.iter() {
        let digest = call.keyspace.look(call.db, key, call.now).map_or(0, |entry| entry.value_digest());
        call.reply.simple(&format!("{digest:040x}"));
    }
    Ok(())
}

/// The row of `MEMORY USAGE key [SAMPLES n]`, for the server's MEMORY.
pub static MEMORY_USAGE: Row = row("memory|usage", -3, Traits::READ, memory_usage).keys(KEY).docs(
    "server",
    "4.0.0",
    "O(1)",
    "Bytes that a key and its value take.",
);

/// Collections count their bytes, so there is nothing to sample: the option is checked, and makes no difference.
fn memory_usage(call: &mut Call<'_>) -> CommandResult {
    let mut at = 3;
    while at < call.args.len() {
        match call.args.get(at + 1) {
            Some(count) if call.args.is(at, "samples") => {
                if integer(count)? < 0 {
                    return Err(SYNTAX);
                }
                at += 2;
            }
            Some(_) | None => return Err(SYNTAX),
        }
    }
    match call.keyspace.look(call.db, &call.args[2], call.now) {
        Some(entry) => call.reply.integer(memory_used(&entry) as i64),
        None => call.reply.null(),
    }
    Ok(())
}

/// About what an entry takes with its slot in the table.
fn memory_used(entry: &Entry<'_>) -> usize {
    /// Flags, access, lengths; and the slot.
    const OVERHEAD_BYTES: usize = 16;
    let value = match entry.value() {
        Value::String(StringRef::Integer(_)) => size_of::<i64>(),
        Value::String(value) => value.len(),
        Value::Small(_, pack) => pack.len(),
        Value::Large(large) => size_of::<usize>() + large.bytes_used(),
    };
    let deadline = entry.deadline().map_or(0, |_| 2 * size_of::<u64>());
    (OVERHEAD_BYTES + deadline + entry.key().len() + value).next_multiple_of(8)
}

/// Reached for OBJECT with a subcommand that is none.
pub(super) fn unknown_subcommand(call: &mut Call<'_>) -> CommandResult {
    const QUOTED_BYTES_MAX: usize = 128;
    let name = &call.args[1];
    let name = String::from_utf8_lossy(&name[..name.len().min(QUOTED_BYTES_MAX)]);
    Err(CommandError::owned(format!("ERR unknown subcommand '{name}'. Try OBJECT HELP.")))
}

fn encoding(call: &mut Call<'_>) -> CommandResult {
    match call.keyspace.look(call.db, &call.args[2], call.now) {
        Some(entry) => call.reply.bulk(entry.encoding().name().as_bytes()),
        None => call.reply.null(),
    }
    Ok(())
}

fn refcount(call: &mut Call<'_>) -> CommandResult {
    match call.keyspace.look(call.db, &call.args[2], call.now) {
        Some(entry) => call.reply.integer(references(&entry)),
        None => call.reply.null(),
    }
    Ok(())
}

/// A missing key comes before the wrong policy, as in Redis; so for `freq`.
fn idletime(call: &mut Call<'_>) -> CommandResult {
    match call.keyspace.look(call.db, &call.args[2], call.now) {
        Some(_) if call.limits.lfu => return Err(IS_LFU),
        Some(entry) => call.reply.integer(idle_seconds(&entry, call.now) as i64),
        None => call.reply.null(),
    }
    Ok(())
}

fn freq(call: &mut Call<'_>) -> CommandResult {
    match call.keyspace.look(call.db, &call.args[2], call.now) {
        Some(_) if !call.limits.lfu => return Err(NOT_LFU),
        // Under LFU the low byte of the access bits is the counter.
        Some(entry) => call.reply.integer((entry.access() & 0xff) as i64),
        None => call.reply.null(),
    }
    Ok(())
}

fn help(call: &mut Call<'_>) -> CommandResult {
    const LINES: &[&str] = &[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    How the value of <key> is represented.",
        "FREQ <key>",
        "    How often <key> was used: a counter that grows with the logarithm of uses.",
        "IDLETIME <key>",
        "    About how many seconds ago <key> was last used.",
        "REFCOUNT <key>",
        "    How many references there are to the value of <key>.",
        "HELP",
        "    This text.",
    ];
    call.reply.array(LINES.len());
    LINES.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// As in Redis, where small integers are one object for all keys.
fn references(entry: &Entry<'_>) -> i64 {
    match entry.value() {
        Value::String(StringRef::Integer(0..SHARED_INTEGERS)) => SHARED_REFERENCES,
        Value::String(_) | Value::Small(..) | Value::Large(_) => 1,
    }
}

/// Access bits wrap after half a year: so does this, as in Redis.
fn idle_seconds(entry: &Entry<'_>, now: Now) -> u32 {
    ((now.steady_ms / 1000) as u32).wrapping_sub(entry.access()) & ACCESS_MASK
}

/// Bytes of the value in an RDB file: integers of up to 32 bits packed, other strings with their length in front.
fn serialized_len(entry: &Entry<'_>) -> usize {
    let value = match entry.value() {
        Value::String(value) => value,
        // About: the changes that would make it.
        Value::Small(..) | Value::Large(_) => {
            let mut changes = Vec::new();
            let collection = entry.value().collection().expect("it is one");
            let mut next = Some(0);
            let mut bytes = 0;
            while let Some(from) = next {
                changes.clear();
                next = collection.export(from, 64 << 10, &mut changes);
                bytes += changes.len();
            }
            return bytes;
        }
    };
    match value.as_integer() {
        Some(-0x80..=0x7f) => 2,
        Some(-0x8000..=0x7fff) => 3,
        Some(-0x8000_0000..=0x7fff_ffff) => 5,
        Some(_) | None => {
            let len = value.len();
            let prefix = match len {
                0..64 => 1,
                64..16_384 => 2,
                16_384.. => 5,
            };
            prefix + len
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    fn debug(stage: &mut Stage, key: &str) -> String {
        stage.run_row(&DEBUG_OBJECT, &[b"DEBUG", b"OBJECT", key.as_bytes()])
    }

    #[test]
    fn encodings_are_named_as_in_redis() {
        let mut stage = Stage::new();
        let long = "x".repeat(45);
        for (value, name) in [("12", "int"), ("-9", "int"), ("012", "embstr"), (&long[..44], "embstr"), (&long, "raw")]
        {
            stage.put("k", value);
            assert_eq!(stage.run("OBJECT ENCODING k"), format!("${}\r\n{name}\r\n", name.len()), "{value}");
        }
        assert_eq!(stage.run("OBJECT ENCODING nope"), "$-1\r\n");
    }

    #[test]
    fn small_integers_look_shared() {
        let mut stage = Stage::new();
        for (value, count) in [("0", SHARED_REFERENCES), ("9999", SHARED_REFERENCES), ("10000", 1), ("-1", 1), ("v", 1)]
        {
            stage.put("k", value);
            assert_eq!(stage.run("OBJECT REFCOUNT k"), format!(":{count}\r\n"), "{value}");
        }
    }

    #[test]
    fn the_policy_decides_between_frequency_and_idle_time() {
        let mut stage = Stage::new();
        stage.put("k", "v");
        assert!(stage.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected, access freq"));
        assert!(stage.run("OBJECT IDLETIME k").starts_with(':'));
        stage.owner.limits.lfu = true;
        assert!(stage.run("OBJECT FREQ k").starts_with(':'));
        assert!(stage.run("OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy is selected, idle time not"));
        assert_eq!(stage.run("OBJECT IDLETIME nope"), "$-1\r\n");
        stage.owner.limits.lfu = false;
        assert_eq!(stage.run("OBJECT FREQ nope"), "$-1\r\n");
    }

    #[test]
    fn an_unknown_subcommand_is_quoted() {
        let mut stage = Stage::new();
        assert_eq!(stage.run("OBJECT foo k"), "-ERR unknown subcommand 'foo'. Try OBJECT HELP.\r\n");
        let long = "x".repeat(200);
        let quoted = "x".repeat(128);
        assert_eq!(
            stage.run(&format!("OBJECT {long}")),
            format!("-ERR unknown subcommand '{quoted}'. Try OBJECT HELP.\r\n")
        );
        assert!(stage.run("OBJECT help").starts_with("*11\r\n+OBJECT <subcommand>"));
    }

    #[test]
    fn memory_is_told_of_keys_that_exist() {
        let mut stage = Stage::new();
        let usage = |stage: &mut Stage, words: &[&str]| {
            let words: Vec<&[u8]> = ["MEMORY", "USAGE"].iter().chain(words).map(|word| word.as_bytes()).collect();
            stage.run_row(&MEMORY_USAGE, &words)
        };
        stage.put("k", &"x".repeat(1000));
        assert_eq!(usage(&mut stage, &["k"]), ":1024\r\n");
        assert_eq!(usage(&mut stage, &["k", "SAMPLES", "0"]), ":1024\r\n");
        assert_eq!(usage(&mut stage, &["nope"]), "$-1\r\n");
        assert_eq!(usage(&mut stage, &["nope", "SAMPLES"]), "-ERR syntax error\r\n");
        assert_eq!(usage(&mut stage, &["nope", "SAMPLES", "-1"]), "-ERR syntax error\r\n");
        assert!(usage(&mut stage, &["nope", "SAMPLES", "x"]).starts_with("-ERR value is not an integer"));
    }

    #[test]
    fn debug_object_tells_the_serialized_length() {
        let mut stage = Stage::new();
        let (medium, large) = ("x".repeat(64), "x".repeat(20_000));
        for (value, len) in
            [("5", 2), ("-129", 3), ("123456", 5), ("11111111111", 12), ("v", 2), (&medium, 66), (&large, 20_005)]
        {
            stage.put("k", value);
            let reply = debug(&mut stage, "k");
            assert!(reply.starts_with("+Value at:0x0 refcount:"), "{reply}");
            assert!(reply.contains(&format!(" serializedlength:{len} lru:")), "{value}: {reply}");
        }
        assert_eq!(debug(&mut stage, "nope"), "-ERR no such key\r\n");
    }
}
