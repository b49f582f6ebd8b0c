//! XGROUP: groups and consumers are made, moved and removed.

use super::super::arguments::{id, strict_id};
use super::super::{info, read_to_write};
use super::no_group;
use crate::call::Call;
use crate::error::{CommandError, CommandResult};
use crate::numbers::integer;
use crate::row::{KeyUse, Keys, Route, Row, Traits};
use crate::types::Kind;
use crate::types::stream::{StreamChange, StreamId, StreamRef};

const KEY: Keys = Keys::Range { first: 2, last: 2, step: 1, usage: KeyUse::ReadWrite };
const GROWS: Traits = Traits::WRITE.and(Traits::DENY_OOM);

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Row] = &[
    <Row>::new("xgroup|create", -5, GROWS, create).keys(KEY)
        .docs("stream", "5.0.0", "O(1)", "Makes a group that reads from an id on."),
    <Row>::new("xgroup|createconsumer", 5, GROWS, create_consumer).keys(KEY)
        .docs("stream", "6.2.0", "O(1)", "Makes a consumer in a group."),
    <Row>::new("xgroup|delconsumer", 5, Traits::WRITE, delete_consumer).keys(KEY)
        .docs("stream", "5.0.0", "O(N log P) for N entries pending for it and P in the group", "Removes a consumer and what is pending for it."),
    <Row>::new("xgroup|destroy", 4, Traits::WRITE, destroy).keys(KEY)
        .docs("stream", "5.0.0", "O(N) for N pending entries", "Removes a group."),
    <Row>::new("xgroup|help", 2, Traits::LOADING.and(Traits::STALE), help).route(Route::Any)
        .docs("stream", "5.0.0", "O(1)", "Lists the subcommands."),
    <Row>::new("xgroup|setid", -5, Traits::WRITE, set_id).keys(KEY)
        .docs("stream", "5.0.0", "O(1)", "Sets from which id on a group reads."),
];

pub(super) fn unknown_subcommand(call: &mut Call<'_>) -> CommandResult {
    Err(info::no_such_subcommand(&call.args[1], "XGROUP"))
}

fn help(call: &mut Call<'_>) -> CommandResult {
    const LINES: &[&str] = &[
        "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <count>]",
        "    Makes a group. MKSTREAM: the stream too. ENTRIESREAD: as if it had read so many entries.",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Makes a consumer.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Removes a consumer.",
        "DESTROY <key> <groupname>",
        "    Removes a group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD <count>]",
        "    Sets the last id that a group has read.",
        "HELP",
        "    This text.",
    ];
    call.reply.array(LINES.len());
    LINES.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// Options of CREATE and SETID.
#[derive(Default)]
struct Options {
    makes_stream: bool,
    read: Option<u64>,
}

impl Options {
    fn parse(call: &Call<'_>, may_make_stream: bool) -> Result<Options, CommandError> {
        const NEGATIVE: CommandError = CommandError::new("ERR value for ENTRIESREAD must be positive or -1");
        let mut options = Options::default();
        let mut at = 5;
        while at < call.args.len() {
            match call.args.get(at + 1) {
                _ if may_make_stream && call.args.is(at, "mkstream") => {
                    options.makes_stream = true;
                    at += 1;
                }
                Some(value) if call.args.is(at, "entriesread") => {
                    let read = integer(value)?;
                    if read < -1 {
                        return Err(NEGATIVE);
                    }
                    options.read = u64::try_from(read).ok();
                    at += 2;
                }
                _ => return Err(syntax(call)),
            }
        }
        Ok(options)
    }
}

fn syntax(call: &Call<'_>) -> CommandError {
    info::wrong_subcommand(&call.args[1], "XGROUP")
}

const NO_STREAM: CommandError = CommandError::new(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option \
     to create an empty stream automatically.",
);

/// The stream at the key, which there must be.
fn stream<'k>(call: &'k Call<'_>) -> Result<StreamRef<'k>, CommandError> {
    read_to_write(call.keyspace, call.db, call.args.at(2), call.now)?.ok_or(NO_STREAM)
}

fn write(call: &mut Call<'_>, change: &StreamChange<'_>) {
    let mut changes = Vec::new();
    change.encode(&mut changes);
    call.write_collection(call.args.at(2), Kind::Stream, &changes);
}

/// `XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD n]`
fn create(call: &mut Call<'_>) -> CommandResult {
    const BUSY: CommandError = CommandError::new("BUSYGROUP Consumer Group name already exists");
    const ARGS_MAX: usize = 8;
    let options = Options::parse(call, true)?;
    let (key, group) = (call.args.at(2), call.args.at(3));
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    if stream.is_none() && !options.makes_stream {
        return Err(NO_STREAM);
    }
    if call.args.len() > ARGS_MAX {
        return Err(syntax(call));
    }
    let delivered = match call.args.at(4) {
        b"$" => stream.map_or(StreamId::MIN, StreamRef::last_id),
        arg => strict_id(arg, 0)?,
    };
    if stream.is_some_and(|stream| stream.group(group).is_some()) {
        return Err(BUSY);
    }
    write(call, &StreamChange::GroupCreate { group, delivered, read: options.read });
    call.reply.ok();
    Ok(())
}

/// `XGROUP SETID key group id|$ [ENTRIESREAD n]`
fn set_id(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(call, false)?;
    let (key, name) = (call.args.at(2), call.args.at(3));
    let stream = stream(call)?;
    let group = stream.group(name).ok_or_else(|| no_group(key, name))?;
    if !matches!(call.args.len(), 5 | 7) {
        return Err(syntax(call));
    }
    let delivered = match call.args.at(4) {
        b"$" => stream.last_id(),
        arg => id(arg, 0)?,
    };
    if (group.delivered(), group.read()) != (delivered, options.read) {
        write(call, &StreamChange::GroupSetId { group: name, delivered, read: options.read });
    }
    call.reply.ok();
    Ok(())
}

/// `XGROUP DESTROY key group`
fn destroy(call: &mut Call<'_>) -> CommandResult {
    let group = call.args.at(3);
    let is_there = stream(call)?.group(group).is_some();
    if is_there {
        write(call, &StreamChange::GroupDestroy { group });
    }
    call.reply.integer(is_there as i64);
    Ok(())
}

/// `XGROUP CREATECONSUMER key group consumer`
fn create_consumer(call: &mut Call<'_>) -> CommandResult {
    let (key, group, consumer) = (call.args.at(2), call.args.at(3), call.args.at(4));
    let found = stream(call)?.group(group).ok_or_else(|| no_group(key, group))?;
    let is_new = found.consumer(consumer).is_none();
    if is_new {
        let seen_ms = call.now.wall_ms;
        write(call, &StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms: None });
    }
    call.reply.integer(is_new as i64);
    Ok(())
}

/// `XGROUP DELCONSUMER key group consumer`
fn delete_consumer(call: &mut Call<'_>) -> CommandResult {
    let (key, group, consumer) = (call.args.at(2), call.args.at(3), call.args.at(4));
    let found = stream(call)?.group(group).ok_or_else(|| no_group(key, group))?;
    let pending = found.consumer(consumer).map(|consumer| consumer.pending_len());
    if pending.is_some() {
        write(call, &StreamChange::ConsumerDelete { group, consumer });
    }
    call.reply.integer(pending.unwrap_or(0) as i64);
    Ok(())
}
