//! Pending entries pass to another consumer: XCLAIM, XAUTOCLAIM.

use super::super::arguments::{range_start, strict_id};
use super::super::{read_to_write, reply_entry, reply_id};
use super::{GroupChanges, group_of, more, no_key_or_group};
use crate::call::Call;
use crate::commands::elements::{Found, integer_within};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::numbers::parse_integer;
use crate::reply::Reply;
use crate::types::Kind;
use crate::types::stream::{Entry, Pending, StreamId};
use std::collections::BTreeMap;

fn number(arg: &[u8], text: &'static str) -> Result<i64, CommandError> {
    parse_integer(arg).ok_or(CommandError::new(text))
}

/// Whether a pending entry was left alone for so long; nobody's was for ever.
fn is_idle(pending: &Pending<'_>, ms_min: i64, now_ms: u64) -> bool {
    let idle_ms = (now_ms as i64).wrapping_sub(pending.delivered_ms as i64);
    ms_min <= 0 || pending.consumer.is_none() || idle_ms >= ms_min
}

/// Who gets only ids got no delivery.
fn delivered_count(count: u64, only_ids: bool) -> u64 {
    if only_ids { count } else { more(count) }
}

/// Claimed entries, in the reply.
fn reply_claimed(reply: &mut Reply<'_>, entry: Entry<'_>, only_id: bool) {
    if only_id { reply_id(reply, entry.id) } else { reply_entry(reply, entry) }
}

/// What stands behind the ids of XCLAIM.
struct ClaimOptions {
    idle_ms_min: i64,
    /// All that may be an id, from argument 5 on.
    ids: Vec<StreamId>,
    delivered_ms: u64,
    count: Option<u64>,
    last_id: StreamId,
    is_forced: bool,
    only_ids: bool,
}

impl ClaimOptions {
    fn parse(call: &Call<'_>) -> Result<ClaimOptions, CommandError> {
        let (args, now_ms) = (&call.args, call.now.wall_ms as i64);
        let idle_ms_min = number(args.at(4), "ERR Invalid min-idle-time argument for XCLAIM")?;
        let ids: Vec<StreamId> = args.from(5).iter().map_while(|arg| strict_id(arg, 0).ok()).collect();
        let mut at = 5 + ids.len();
        let mut options = ClaimOptions {
            idle_ms_min,
            ids,
            delivered_ms: call.now.wall_ms,
            count: None,
            last_id: StreamId::MIN,
            is_forced: false,
            only_ids: false,
        };
        let mut delivered_ms = -1;
        while at < args.len() {
            let value = args.get(at + 1);
            let mut used = 2;
            match value {
                _ if args.is(at, "force") => (options.is_forced, used) = (true, 1),
                _ if args.is(at, "justid") => (options.only_ids, used) = (true, 1),
                Some(value) if args.is(at, "idle") => {
                    delivered_ms = now_ms.wrapping_sub(number(value, "ERR Invalid IDLE option argument for XCLAIM")?);
                }
                Some(value) if args.is(at, "time") => {
                    delivered_ms = number(value, "ERR Invalid TIME option argument for XCLAIM")?;
                }
                Some(value) if args.is(at, "retrycount") => {
                    options.count =
                        u64::try_from(number(value, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?).ok();
                }
                Some(value) if args.is(at, "lastid") => options.last_id = strict_id(value, 0)?,
                _ => {
                    let option = String::from_utf8_lossy(args.at(at));
                    return Err(CommandError::owned(format!("ERR Unrecognized XCLAIM option '{option}'")));
                }
            }
            at += used;
        }
        // A time that makes no sense is taken as now: clients reckon with clocks of their own.
        if (0..=now_ms).contains(&delivered_ms) {
            options.delivered_ms = delivered_ms as u64;
        }
        Ok(options)
    }
}

/// `XCLAIM key group consumer min-idle-ms id [id ...] [IDLE ms] [TIME unix-ms] [RETRYCOUNT n] [FORCE] [JUSTID] [LASTID id]`
pub(super) fn xclaim(call: &mut Call<'_>) -> CommandResult {
    let (key, name, consumer) = (call.args.at(1), call.args.at(2), call.args.at(3));
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    let (stream, group) = group_of(stream, name).ok_or_else(|| no_key_or_group(key, name))?;
    let options = ClaimOptions::parse(call)?;
    let now_ms = call.now.wall_ms;
    let mut changes = GroupChanges::new(call, name, consumer);
    if options.last_id > group.delivered() {
        changes.set_id(options.last_id, group.read());
    }
    let mut found = Found::default();
    let mut reply = Reply::new(&mut found.bytes, call.reply.protocol());
    // What became of ids that come more than once.
    let mut claimed: BTreeMap<StreamId, Pending<'_>> = BTreeMap::new();
    for id in options.ids {
        let pending = claimed.get(&id).copied().or_else(|| group.pending(id));
        let Some(entry) = stream.get(id) else {
            if pending.is_some() {
                changes.acknowledge(id);
            }
            continue;
        };
        let forced = options.is_forced.then_some(Pending { id, consumer: None, delivered_ms: now_ms, count: 1 });
        let Some(pending) = pending.or(forced) else { continue };
        if !is_idle(&pending, options.idle_ms_min, now_ms) {
            continue;
        }
        if found.count == 0 {
            changes.see(group, true);
        }
        let count = options.count.unwrap_or(delivered_count(pending.count, options.only_ids));
        changes.deliver(id, options.delivered_ms, count);
        claimed.insert(id, Pending { id, consumer: Some(consumer), delivered_ms: options.delivered_ms, count });
        reply_claimed(&mut reply, entry, options.only_ids);
        found.count += 1;
    }
    let changes = changes.finish();
    if !changes.is_empty() {
        call.write_collection(key, Kind::Stream, &changes);
    }
    call.reply.array(found.count);
    call.reply.raw(&found.bytes);
    Ok(())
}

/// What XAUTOCLAIM is to look for.
struct Search {
    idle_ms_min: i64,
    from: StreamId,
    count: usize,
    only_ids: bool,
}

/// Entries looked at for each that may be claimed.
const LOOKED_AT: usize = 10;

impl Search {
    fn parse(call: &Call<'_>) -> Result<Search, CommandError> {
        const COUNT_DEFAULT: usize = 100;
        /// As many as Redis could look at before its counter overflows.
        const COUNT_MAX: i64 = i64::MAX / 16;
        let args = &call.args;
        let idle_ms_min = number(args.at(4), "ERR Invalid min-idle-time argument for XAUTOCLAIM")?;
        let from = range_start(args.at(5))?;
        let mut search = Search { idle_ms_min, from, count: COUNT_DEFAULT, only_ids: false };
        let mut at = 6;
        while at < args.len() {
            match args.get(at + 1) {
                Some(value) if args.is(at, "count") => {
                    search.count = integer_within(value, 1, COUNT_MAX, Some("ERR COUNT must be > 0"))? as usize;
                    at += 1;
                }
                _ if args.is(at, "justid") => search.only_ids = true,
                _ => return Err(SYNTAX),
            }
            at += 1;
        }
        Ok(search)
    }
}

/// `XAUTOCLAIM key group consumer min-idle-ms start [COUNT n] [JUSTID]`
pub(super) fn xautoclaim(call: &mut Call<'_>) -> CommandResult {
    let search = Search::parse(call)?;
    let (key, name, consumer) = (call.args.at(1), call.args.at(2), call.args.at(3));
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    let (stream, group) = group_of(stream, name).ok_or_else(|| no_key_or_group(key, name))?;
    let now_ms = call.now.wall_ms;
    let mut changes = GroupChanges::new(call, name, consumer);
    let (mut found, mut gone) = (Found::default(), Vec::new());
    let mut reply = Reply::new(&mut found.bytes, call.reply.protocol());
    let mut pending = group.pending_from(search.from);
    let mut looks = search.count.saturating_mul(LOOKED_AT);
    while looks > 0
        && found.count + gone.len() < search.count
        && let Some(pending) = pending.next()
    {
        looks -= 1;
        let Some(entry) = stream.get(pending.id) else {
            changes.acknowledge(pending.id);
            gone.push(pending.id);
            continue;
        };
        if !is_idle(&pending, search.idle_ms_min, now_ms) {
            continue;
        }
        if found.count == 0 {
            changes.see(group, true);
        }
        changes.deliver(pending.id, now_ms, delivered_count(pending.count, search.only_ids));
        reply_claimed(&mut reply, entry, search.only_ids);
        found.count += 1;
    }
    let next = pending.next().map_or(StreamId::MIN, |pending| pending.id);
    drop(pending);
    let changes = changes.finish();
    if !changes.is_empty() {
        call.write_collection(key, Kind::Stream, &changes);
    }
    call.reply.array(3);
    reply_id(&mut call.reply, next);
    call.reply.array(found.count);
    call.reply.raw(&found.bytes);
    call.reply.array(gone.len());
    gone.iter().for_each(|id| reply_id(&mut call.reply, *id));
    Ok(())
}
