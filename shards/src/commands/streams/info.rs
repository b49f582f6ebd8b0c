//! XINFO: what is known of a stream. Of groups and consumers: see `groups`.

use super::{read, reply_entries, reply_entry, reply_id};
use crate::call::Call;
use crate::error::{CommandError, CommandResult, NO_SUCH_KEY};
use crate::numbers::integer;
use crate::reply::Reply;
use crate::row::{KeyUse, Keys, Route, Row, Traits};
use crate::types::View;
use crate::types::stream::{Idempotence, StreamId, StreamRef};

pub(super) const KEY: Keys = Keys::Range { first: 2, last: 2, step: 1, usage: KeyUse::Read };

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Row] = &[
    super::groups::XINFO_CONSUMERS,
    super::groups::XINFO_GROUPS,
    <Row>::new("xinfo|stream", -3, Traits::READ, stream).keys(KEY)
        .docs("stream", "5.0.0", "O(1), and with FULL O(N) for N entries replied", "Tells about a stream."),
    <Row>::new("xinfo|help", 2, Traits::LOADING.and(Traits::STALE), help).route(Route::Any)
        .docs("stream", "5.0.0", "O(1)", "Lists the subcommands."),
];

pub(super) fn unknown_subcommand(call: &mut Call<'_>) -> CommandResult {
    Err(no_such_subcommand(&call.args[1], "XINFO"))
}

pub(super) fn no_such_subcommand(name: &[u8], command: &str) -> CommandError {
    let name = quoted(name);
    CommandError::owned(format!("ERR unknown subcommand '{name}'. Try {command} HELP."))
}

/// What Redis says where a subcommand is there and its arguments are not as it wants them.
pub(super) fn wrong_subcommand(name: &[u8], command: &str) -> CommandError {
    let name = quoted(name);
    CommandError::owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {command} HELP."
    ))
}

fn quoted(name: &[u8]) -> std::borrow::Cow<'_, str> {
    const QUOTED_BYTES_MAX: usize = 128;
    String::from_utf8_lossy(&name[..name.len().min(QUOTED_BYTES_MAX)])
}

fn help(call: &mut Call<'_>) -> CommandResult {
    const LINES: &[&str] = &[
        "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONSUMERS <key> <groupname>",
        "    The consumers of a group.",
        "GROUPS <key>",
        "    The groups of a stream.",
        "STREAM <key> [FULL [COUNT <count>]]",
        "    What is known of a stream; with FULL, its entries and groups too, so many of each.",
        "HELP",
        "    This text.",
    ];
    call.reply.array(LINES.len());
    LINES.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// `XINFO STREAM key [FULL [COUNT count]]`
fn stream(call: &mut Call<'_>) -> CommandResult {
    const COUNT_DEFAULT: usize = 10;
    let stream = read(call.keyspace, call.db, call.args.at(2), call.now)?.ok_or(NO_SUCH_KEY)?;
    let is_full = call.args.len() > 3;
    let mut count = COUNT_DEFAULT;
    if is_full {
        let is_right = call.args.is(3, "full") && matches!(call.args.len(), 4 | 6);
        if !is_right || call.args.len() == 6 && !call.args.is(4, "count") {
            return Err(wrong_subcommand(&call.args[1], "XINFO"));
        }
        if let Some(arg) = call.args.get(5) {
            count = usize::try_from(integer(arg)?).unwrap_or(COUNT_DEFAULT);
        }
    }
    let count = if count == 0 { usize::MAX } else { count };
    let reply = &mut call.reply;
    let idempotence = stream.idempotence().filter(|idempotence| idempotence.is_used());
    reply.map(if is_full { 9 } else { 10 } + if idempotence.is_some() { 6 } else { 0 });
    figures(reply, stream);
    if let Some(idempotence) = idempotence {
        producers(reply, idempotence, call.now.wall_ms);
    }
    if is_full {
        reply.bulk(b"entries");
        reply_entries(reply, stream.range(StreamId::MIN, StreamId::MAX), count);
        reply.bulk(b"groups");
        super::groups::reply_full(reply, stream, count);
    } else {
        reply.bulk(b"groups");
        reply.integer(stream.groups().map_or(0, |groups| groups.len()) as i64);
        for (name, entry) in [(&b"first-entry"[..], stream.first()), (b"last-entry", stream.last())] {
            reply.bulk(name);
            match entry {
                Some(entry) => reply_entry(reply, entry),
                None => reply.null(),
            }
        }
    }
    Ok(())
}

/// Seven names and values.
fn figures(reply: &mut Reply<'_>, stream: StreamRef<'_>) {
    let (nodes, tree_nodes) = (stream.nodes() as i64, stream.radix_tree_nodes() as i64);
    for (name, value) in
        [(&b"length"[..], stream.len() as i64), (b"radix-tree-keys", nodes), (b"radix-tree-nodes", tree_nodes)]
    {
        reply.bulk(name);
        reply.integer(value);
    }
    reply.bulk(b"last-generated-id");
    reply_id(reply, stream.last_id());
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, stream.max_deleted());
    reply.bulk(b"entries-added");
    reply.integer(stream.entries_added() as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id());
}

/// Six more, once anybody asked for it.
fn producers(reply: &mut Reply<'_>, idempotence: &Idempotence, now_ms: u64) {
    let (producers, ids) = idempotence.counts(now_ms);
    for (name, value) in [
        (&b"idmp-duration"[..], idempotence.duration_s()),
        (b"idmp-maxsize", idempotence.ids_max()),
        (b"pids-tracked", producers as u64),
        (b"iids-tracked", ids as u64),
        (b"iids-added", idempotence.added()),
        (b"iids-duplicates", idempotence.duplicates()),
    ] {
        reply.bulk(name);
        reply.integer(value as i64);
    }
}
