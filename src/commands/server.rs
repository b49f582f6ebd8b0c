//! Commands about the server as a whole that fit no other family.

use super::ServerHandler::Here;
use super::{ServerCall, ServerHandler, container, help};
use crate::runtime::clock;
use shards::error::{CommandError, CommandResult, SYNTAX};
use shards::numbers::{integer, parse_integer};
use shards::row::{Row, Traits};

const ANYTIME: Traits = Traits::LOADING.and(Traits::STALE);
const ADMIN: Traits = ANYTIME.and(Traits::ADMIN).and(Traits::NO_SCRIPT);

pub const ROWS: &[Row<ServerHandler>] = &[
    Row::new("time", 1, ANYTIME.and(Traits::FAST), Here(time)).docs(
        "server",
        "2.6.0",
        "O(1)",
        "The wall clock: seconds, and microseconds in the second.",
    ),
    Row::new("lolwut", -1, Traits::READ.and(Traits::FAST), Here(lolwut)).docs(
        "server",
        "5.0.0",
        "O(N) for N lines",
        "A picture, and the version.",
    ),
    Row::new("shutdown", -1, ADMIN.and(Traits::NO_MULTI), Here(shutdown)).docs(
        "server",
        "1.0.0",
        "O(N) for N bytes still to be synced",
        "Stops the server once its clients are answered and its log is synced.",
    ),
    Row::new("role", 1, ANYTIME.and(Traits::NO_SCRIPT).and(Traits::FAST).and(Traits::DANGEROUS), Here(role)).docs(
        "server",
        "2.8.12",
        "O(1)",
        "Whether the server is a master, and its replicas.",
    ),
    Row::new("wait", 3, Traits::NO_SCRIPT.and(Traits::CONNECTION), Here(wait)).docs(
        "generic",
        "3.0.0",
        "O(1)",
        "How many replicas have this connection's writes.",
    ),
    Row::new("acl", -2, Traits::NONE, Here(container))
        .docs("server", "6.0.0", "see the subcommands", "Looks after users.")
        .subcommands(&[
            Row::new("acl|whoami", 2, ANYTIME.and(Traits::NO_SCRIPT), Here(whoami)).docs(
                "server",
                "6.0.0",
                "O(1)",
                "The connection's user.",
            ),
            Row::new("acl|help", 2, ANYTIME, Here(acl_usage)).docs("server", "6.0.0", "O(1)", "Lists the subcommands."),
        ]),
];

fn time(call: &mut ServerCall<'_>) -> CommandResult {
    let us = clock::wall_us();
    let mut reply = call.reply();
    reply.array(2);
    reply.bulk_integer((us / 1_000_000) as i64);
    reply.bulk_integer((us % 1_000_000) as i64);
    Ok(())
}

/// There are no replicas to count. Waiting would not change that, so nobody waits.
fn wait(call: &mut ServerCall<'_>) -> CommandResult {
    integer(call.args.at(1))?;
    let timeout_ms =
        parse_integer(call.args.at(2)).ok_or(CommandError::new("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(CommandError::new("ERR timeout is negative"));
    }
    call.reply().integer(0);
    Ok(())
}

fn role(call: &mut ServerCall<'_>) -> CommandResult {
    let mut reply = call.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(())
}

fn whoami(call: &mut ServerCall<'_>) -> CommandResult {
    call.reply().bulk(b"default");
    Ok(())
}

fn acl_usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(call, &["WHOAMI", "    The user of this connection."])
}

// ---- SHUTDOWN ------------------------------------------------------------------------------------------

/// The reply is that the connection ends. SAVE, NOSAVE, NOW and FORCE change nothing: the log is always synced, so that no
/// snapshot is needed, and there are no replicas to wait for.
fn shutdown(call: &mut ServerCall<'_>) -> CommandResult {
    let (mut save, mut nosave, mut abort, mut others) = (false, false, false, false);
    for at in 1..call.args.len() {
        let is = |word| call.args.is(at, word);
        save |= is("save");
        nosave |= is("nosave");
        abort |= is("abort");
        others |= is("now") || is("force");
        if !["save", "nosave", "abort", "now", "force"].iter().any(|word| is(word)) {
            return Err(SYNTAX);
        }
    }
    if (save && nosave) || (abort && (save || nosave || others)) {
        return Err(SYNTAX);
    }
    if abort {
        // One that has begun is not stopped, and answers nobody any more.
        return Err(CommandError::new("ERR No shutdown in progress."));
    }
    call.core.shutdown_requested = true;
    Ok(())
}

// ---- LOLWUT --------------------------------------------------------------------------------------------

/// Splinters in rows, drawn from the number of the core that answers: whoever reconnects may get another picture.
fn lolwut(call: &mut ServerCall<'_>) -> CommandResult {
    let mut text = picture(call.core.shard.0 as usize, call.core.shards as usize);
    text.push_str(&format!("\nShardis ver. {}\n", env!("CARGO_PKG_VERSION")));
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

fn picture(shard: usize, shards: usize) -> String {
    const ROWS: usize = 9;
    const COLUMNS: usize = 40;
    const INK: [char; 6] = [' ', '.', ':', '/', '|', '\\'];
    let mut text = String::with_capacity(ROWS * (COLUMNS + 1));
    for row in 0..ROWS {
        let cell = |column: usize| INK[(column * (shards + row) + row * row + shard * 7) % 11 % INK.len()];
        text.extend((0..COLUMNS).map(cell));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_draws_its_own_picture() {
        assert_eq!(picture(0, 2), picture(0, 2));
        assert_ne!(picture(0, 2), picture(1, 2));
        assert_eq!(picture(3, 4).lines().count(), 9);
    }
}
