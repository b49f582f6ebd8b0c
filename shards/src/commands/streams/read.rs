//! Entries are read: XLEN, XRANGE, XREVRANGE, XREAD.

use super::arguments::{range_count, range_end, range_start, strict_id};
use super::{read, reply_entries};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::numbers::integer;
use crate::reply::{Protocol, Reply};
use crate::types::stream::StreamId;
use crate::types::{Kind, View};
use crate::waiting::{Awaited, Null, Readers, Wait, timeout_ms};

pub(super) fn xlen(call: &mut Call<'_>) -> CommandResult {
    let len = read(call.keyspace, call.db, call.args.at(1), call.now)?.map_or(0, |stream| stream.len());
    call.reply.integer(len as i64);
    Ok(())
}

/// `XRANGE key start end [COUNT count]`
pub(super) fn xrange(call: &mut Call<'_>) -> CommandResult {
    range(call, 2, 3, false)
}

/// `XREVRANGE key end start [COUNT count]`
pub(super) fn xrevrange(call: &mut Call<'_>) -> CommandResult {
    range(call, 3, 2, true)
}

fn range(call: &mut Call<'_>, start_at: usize, end_at: usize, is_back: bool) -> CommandResult {
    let (from, to) = (range_start(call.args.at(start_at))?, range_end(call.args.at(end_at))?);
    let count = range_count(&call.args, 4)?;
    let Some(stream) = read(call.keyspace, call.db, call.args.at(1), call.now)? else {
        call.reply.array(0);
        return Ok(());
    };
    let count = match count {
        Some(..=0) => {
            call.reply.null_array();
            return Ok(());
        }
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    if is_back {
        reply_entries(&mut call.reply, stream.range_back(from, to), count);
    } else {
        reply_entries(&mut call.reply, stream.range(from, to), count);
    }
    Ok(())
}

/// What XREAD and XREADGROUP have before the ids. Groups' options are read by either, so that each can say what is wrong.
#[derive(Default)]
pub(super) struct ReadOptions<'a> {
    /// 0: all.
    pub count: usize,
    pub block: Option<u64>,
    pub group: Option<(&'a [u8], &'a [u8])>,
    pub no_ack: bool,
    /// For how many milliseconds an entry must have been pending to be claimed, if any are to be.
    pub claim: Option<u64>,
    /// Where the keys begin; where the ids begin.
    pub keys_at: usize,
    pub ids_at: usize,
}

impl<'a> ReadOptions<'a> {
    pub(super) fn parse(call: &Call<'a>, is_group: bool) -> Result<ReadOptions<'a>, CommandError> {
        const GROUP: CommandError =
            CommandError::new("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.");
        const NO_ACK: CommandError =
            CommandError::new("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.");
        const UNBALANCED: CommandError = CommandError::new(
            "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
        );
        const CLAIM: CommandError =
            CommandError::new("ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.");
        let args = &call.args;
        let mut options = ReadOptions::default();
        let mut at = 1;
        while at < args.len() {
            let value = args.get(at + 1);
            match value {
                Some(value) if args.is(at, "block") => options.block = Some(timeout_ms(value, call.now)?),
                Some(value) if args.is(at, "count") => options.count = usize::try_from(integer(value)?).unwrap_or(0),
                Some(_) if args.is(at, "streams") => {
                    options.keys_at = at + 1;
                    let behind = args.len() - options.keys_at;
                    if !behind.is_multiple_of(2) {
                        return Err(UNBALANCED);
                    }
                    options.ids_at = options.keys_at + behind / 2;
                    return Ok(options);
                }
                Some(group) if args.is(at, "group") && at + 2 < args.len() => {
                    if !is_group {
                        return Err(GROUP);
                    }
                    options.group = Some((group, args.at(at + 2)));
                    at += 1;
                }
                Some(value) if args.is(at, "claim") => {
                    if !is_group {
                        return Err(CLAIM);
                    }
                    options.claim = Some(u64::try_from(integer(value)?).unwrap_or(0));
                }
                _ if args.is(at, "noack") => {
                    if !is_group {
                        return Err(NO_ACK);
                    }
                    options.no_ack = true;
                    at -= 1;
                }
                _ => return Err(SYNTAX),
            }
            at += 2;
        }
        Err(SYNTAX)
    }
    /// Numbers of arguments: each key and its id.
    pub(super) fn streams(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        (self.keys_at..self.ids_at).zip(self.ids_at..)
    }
}

/// `XREAD [COUNT n] [BLOCK ms] STREAMS key [key ...] id [id ...]`
pub(super) fn xread(call: &mut Call<'_>) -> CommandResult {
    let options = ReadOptions::parse(call, false)?;
    let mut after = Vec::with_capacity(options.ids_at - options.keys_at);
    for (key_at, id_at) in options.streams() {
        after.push(read_after(call, key_at, id_at)?);
    }
    let count = if options.count == 0 { usize::MAX } else { options.count };
    let (mut found, mut streams) = (Vec::new(), 0);
    for ((key_at, _), after) in options.streams().zip(&after) {
        let key = call.args.at(key_at);
        let Some(stream) = read(call.keyspace, call.db, key, call.now)? else { continue };
        let Some(from) = after.next().filter(|from| stream.last().is_some_and(|last| last.id >= *from)) else {
            continue;
        };
        let mut reply = Reply::new(&mut found, call.reply.protocol());
        reply_stream(&mut reply, key);
        reply_entries(&mut reply, stream.range(from, StreamId::MAX), count);
        streams += 1;
    }
    if streams > 0 {
        reply_streams(&mut call.reply, streams, &found);
    } else if let Some(timeout_ms) = options.block {
        let ids: Vec<Vec<u8>> = after.iter().map(|id| id.to_string().into_bytes()).collect();
        let retry = retry_args(&call.args, options.ids_at, &ids);
        let (kind, readers, keys) = (Kind::Stream, Readers::Shared, Awaited::All);
        call.wait(&Wait { timeout_ms, null: Null::Array, kind, readers, keys, retry });
    } else {
        call.reply.null_array();
    }
    Ok(())
}

/// The id behind which XREAD reads: what `$` and `+` stand for.
fn read_after(call: &Call<'_>, key_at: usize, id_at: usize) -> Result<StreamId, CommandError> {
    const GROUPS_ONLY: CommandError = CommandError::new(
        "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
    );
    let stream = read(call.keyspace, call.db, call.args.at(key_at), call.now)?;
    let newest = stream.map_or(StreamId::MIN, |stream| stream.last_id());
    match call.args.at(id_at) {
        b"$" => Ok(newest),
        b"+" => Ok(stream.and_then(|stream| stream.last()).and_then(|entry| entry.id.previous()).unwrap_or(newest)),
        b">" => Err(GROUPS_ONLY),
        id => strict_id(id, 0),
    }
}

/// A stream's name, before its entries.
pub(super) fn reply_stream(reply: &mut Reply<'_>, key: &[u8]) {
    if reply.protocol() == Protocol::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

/// Streams that were found with entries: a map, or in RESP2 an array of pairs.
pub(super) fn reply_streams(reply: &mut Reply<'_>, streams: usize, found: &[u8]) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array(streams),
        Protocol::Resp3 => reply.map(streams),
    }
    reply.raw(found);
}

/// All arguments, with other ids from `ids_at` on.
pub(super) fn retry_args<'a>(args: &Args<'a>, ids_at: usize, ids: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    args.iter().take(ids_at).chain(ids.iter().map(Vec::as_slice)).collect()
}
