//! DEBUG: what tests need. `DEBUG OBJECT` and `DEBUG DIGEST-VALUE` are the shards' own rows and join these.
//!
//! Refused unless `enable-debug-command` allows it.

use super::ServerHandler::{Everywhere, Here};
use super::{ServerCall, ServerHandler, all_done, container, help, no_check};
use crate::core::Core;
use crate::router::batch::ConnectionId;
use shards::call::Args;
use shards::error::{CommandError, CommandResult, NOT_AN_INTEGER, SYNTAX};
use shards::keyspace::Misread;
use shards::numbers::{parse_float, parse_integer};
use shards::row::{Row, Traits};
use shards::units::Db;
use std::time::Duration;

const ADMIN: Traits = Traits::ADMIN.and(Traits::NO_SCRIPT).and(Traits::LOADING).and(Traits::STALE);

const fn row(
    name: &'static str,
    arity: i8,
    complexity: &'static str,
    summary: &'static str,
    handler: ServerHandler,
) -> Row<ServerHandler> {
    Row::new(name, arity, ADMIN, handler).docs("server", "1.0.0", complexity, summary)
}

pub const ROWS: &[Row<ServerHandler>] = &[row("debug", -2, "see the subcommands", "For tests.", Here(container))
    .subcommands(&[
        row("debug|sleep", 3, "O(1)", "Stops all cores for some seconds.", SLEEP),
        row("debug|set-active-expire", 3, "O(1)", "Turns the search for expired keys on or off.", ACTIVE_EXPIRE),
        row("debug|lane-delay", 3, "O(1)", "Holds what crosses between cores, each lane for random times.", LANE_DELAY),
        row("debug|digest", 2, "O(N) for N keys", "A fingerprint of all data.", DIGEST),
        row(
            "debug|reload",
            -2,
            "O(N) for N elements",
            "Writes all data as snapshots have it, and reads it back.",
            RELOAD,
        ),
        row("debug|help", 2, "O(1)", "Lists the subcommands.", Here(usage)),
    ])];

const SLEEP: ServerHandler = Everywhere { check: no_check, part: sleep, merge: all_done };
const ACTIVE_EXPIRE: ServerHandler =
    Everywhere { check: check_active_expire, part: set_active_expire, merge: all_done };
const LANE_DELAY: ServerHandler = Everywhere { check: check_lane_delay, part: set_lane_delay, merge: all_done };
const DIGEST: ServerHandler = Everywhere { check: no_check, part: digest, merge: merge_digest };
const RELOAD: ServerHandler = Everywhere { check: check_reload, part: reload, merge: merge_reload };

const NOT_ALLOWED: CommandError = CommandError::new(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
     local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);

/// Asked about every command for administrators, before it runs: why this connection may not use it, if it is DEBUG.
pub fn refusal(core: &Core, connection: ConnectionId, name: &str) -> Option<CommandError> {
    if !name.starts_with("debug") {
        return None;
    }
    let allowed = match core.config.enable_debug_command {
        "yes" => true,
        "local" => core.session(connection).is_some_and(|session| is_loopback(&session.address)),
        _ => false,
    };
    (!allowed).then_some(NOT_ALLOWED)
}

fn is_loopback(address: &str) -> bool {
    address.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().to_canonical().is_loopback())
}

// ---- SLEEP ---------------------------------------------------------------------------------------------

/// The runtime does the sleeping, once the other cores have been told.
fn sleep(core: &mut Core, args: Args<'_>, _out: &mut Vec<u8>) {
    core.sleep = Some(seconds(args.at(2)));
}

/// What is no number is 0, as in Redis.
fn seconds(text: &[u8]) -> Duration {
    const SECONDS_MAX: f64 = 3600.0;
    let seconds = parse_float(text).unwrap_or(0.0);
    Duration::from_secs_f64(if seconds > 0.0 { seconds.min(SECONDS_MAX) } else { 0.0 })
}

// ---- SET-ACTIVE-EXPIRE ---------------------------------------------------------------------------------

fn check_active_expire(call: &mut ServerCall<'_>) -> CommandResult {
    if call.args.is(2, "0") || call.args.is(2, "1") { Ok(()) } else { Err(SYNTAX) }
}

fn set_active_expire(core: &mut Core, args: Args<'_>, _out: &mut Vec<u8>) {
    core.active_expire = args.is(2, "1");
}

// ---- LANE-DELAY ----------------------------------------------------------------------------------------

const LANE_DELAY_US_MAX: i64 = 1_000_000;

fn check_lane_delay(call: &mut ServerCall<'_>) -> CommandResult {
    let delay_us = parse_integer(call.args.at(2)).ok_or(NOT_AN_INTEGER)?;
    if (0..=LANE_DELAY_US_MAX).contains(&delay_us) { Ok(()) } else { Err(SYNTAX) }
}

fn set_lane_delay(core: &mut Core, args: Args<'_>, _out: &mut Vec<u8>) {
    core.lane_delay_us = parse_integer(args.at(2)).expect("checked") as u64;
}

// ---- DIGEST --------------------------------------------------------------------------------------------

fn digest(core: &mut Core, _args: Args<'_>, out: &mut Vec<u8>) {
    let keyspace = &core.owner.keyspace;
    let databases = (0..keyspace.databases()).map(Db).filter(|db| !keyspace.is_empty(*db));
    let digest = databases.fold(0, |digest, db| digest ^ in_database(keyspace.digest(db), db));
    out.extend_from_slice(&digest.to_le_bytes());
}

/// Makes the same keys in another database another digest.
fn in_database(digest: u64, db: Db) -> u64 {
    digest.rotate_left(db.0 as u32 % u64::BITS)
}

/// Keys count once whichever core has them, so the number of shards makes no difference.
fn merge_digest(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let text = digest_text(parts);
    call.reply().simple(&text);
    Ok(())
}

fn digest_text(parts: &[Vec<u8>]) -> String {
    let number = |part: &Vec<u8>| u64::from_le_bytes(part.as_slice().try_into().expect("a part is eight bytes"));
    let digest = parts.iter().map(number).fold(0, |digest, part| digest ^ part);
    // As long as Redis' SHA-1: tests compare digests as text.
    format!("{digest:040x}")
}

// ---- RELOAD --------------------------------------------------------------------------------------------

/// The options say what becomes of what isn't saved and of what is there. Here all is saved at any time, and read back
/// over itself: they make no difference.
fn check_reload(call: &mut ServerCall<'_>) -> CommandResult {
    const OTHER_OPTION: CommandError =
        CommandError::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
    let is_known = |at| ["merge", "noflush", "nosave"].into_iter().any(|option| call.args.is(at, option));
    if (2..call.args.len()).all(is_known) { Ok(()) } else { Err(OTHER_OPTION) }
}

/// The part is empty if all went well.
fn reload(core: &mut Core, _args: Args<'_>, out: &mut Vec<u8>) {
    let Err(Misread { db, key, error }) = core.owner.keyspace.reload() else { return };
    let why = error.map_or_else(|| "it reads back as another".to_string(), |error| error.to_string());
    let (shard, key) = (core.shard.0, key.escape_ascii());
    out.extend_from_slice(
        format!("ERR Shard {shard} can't read back \"{key}\" of database {}: {why}", db.0).as_bytes(),
    );
}

fn merge_reload(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    match parts.iter().find(|part| !part.is_empty()) {
        Some(why) => Err(CommandError::owned(String::from_utf8_lossy(why).into_owned())),
        None => all_done(call, parts),
    }
}

fn usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "DIGEST",
            "    A fingerprint of all data.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Fingerprints of the values of keys.",
            "LANE-DELAY <microseconds>",
            "    Let what crosses between cores wait for random times of up to this, each lane for itself; 0 ends it.",
            "OBJECT <key>",
            "    How the value of a key is kept.",
            "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
            "    Write all data as snapshots have it, and read it back in its place. The options make no difference.",
            "SET-ACTIVE-EXPIRE (0|1)",
            "    Turn the search for expired keys off or on; they are gone for readers either way.",
            "SLEEP <seconds>",
            "    Stop all cores for some time.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_add_up_to_a_digest_of_forty_digits() {
        let part = |digest: u64| digest.to_le_bytes().to_vec();
        assert_eq!(digest_text(&[part(0), part(0)]), "0".repeat(40));
        assert_eq!(digest_text(&[part(3), part(1)]), format!("{}2", "0".repeat(39)));
    }

    #[test]
    fn the_time_to_sleep_is_bounded_and_never_negative() {
        assert_eq!(seconds(b"0.5"), Duration::from_millis(500));
        for text in [&b"x"[..], b"-1", b"nan", b""] {
            assert_eq!(seconds(text), Duration::ZERO);
        }
        assert_eq!(seconds(b"inf"), Duration::from_secs(3600));
    }

    #[test]
    fn local_means_the_loopback_interface() {
        for (address, local) in [("127.0.0.1:5", true), ("[::1]:5", true), ("10.0.0.1:5", false), ("", false)] {
            assert_eq!(is_loopback(address), local, "{address}");
        }
    }
}
