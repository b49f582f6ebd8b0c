//! What is pending in a group: XPENDING tells it, XACK takes from it.

use super::super::arguments::{range_end, range_start, strict_id};
use super::super::{read, read_to_write, reply_id};
use super::{GroupChanges, group_of, idle_ms, no_key_or_group};
use crate::call::Call;
use crate::commands::elements::Found;
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::numbers::integer;
use crate::reply::Reply;
use crate::types::Kind;
use crate::types::stream::{Group, Pending, StreamId};

/// `XACK key group id [id ...]`
pub(super) fn xack(call: &mut Call<'_>) -> CommandResult {
    let (key, name) = (call.args.at(1), call.args.at(2));
    let Some((_, group)) = group_of(read_to_write(call.keyspace, call.db, key, call.now)?, name) else {
        call.reply.integer(0);
        return Ok(());
    };
    let mut ids = call.args.from(3).iter().map(|arg| strict_id(arg, 0)).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| group.is_pending(*id));
    let mut changes = GroupChanges::new(call, name, b"");
    ids.iter().for_each(|id| changes.acknowledge(*id));
    if !ids.is_empty() {
        call.write_collection(key, Kind::Stream, &changes.finish());
    }
    call.reply.integer(ids.len() as i64);
    Ok(())
}

/// What XPENDING is to list.
struct Listing<'a> {
    idle_ms_min: i64,
    from: StreamId,
    to: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Listing<'a> {
    fn parse(call: &Call<'a>) -> Result<Option<Listing<'a>>, CommandError> {
        let args = &call.args;
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(SYNTAX);
        }
        let (mut idle_ms_min, mut at) = (0, 3);
        if args.is(3, "idle") {
            idle_ms_min = integer(args.at(4))?;
            if args.len() < 8 {
                return Err(SYNTAX);
            }
            at = 5;
        }
        let count = usize::try_from(integer(args.at(at + 2))?).unwrap_or(0);
        let (from, to) = (range_start(args.at(at))?, range_end(args.at(at + 1))?);
        Ok(Some(Listing { idle_ms_min, from, to, count, consumer: args.get(at + 3) }))
    }
}

/// `XPENDING key group [[IDLE ms] start end count [consumer]]`
pub(super) fn xpending(call: &mut Call<'_>) -> CommandResult {
    let listing = Listing::parse(call)?;
    let (key, name) = (call.args.at(1), call.args.at(2));
    let stream = read(call.keyspace, call.db, key, call.now)?;
    let (_, group) = group_of(stream, name).ok_or_else(|| no_key_or_group(key, name))?;
    match listing {
        None => reply_summary(&mut call.reply, group),
        Some(listing) => match listing.consumer.map(|name| group.consumer(name)) {
            None => reply_listing(call.now.wall_ms, &mut call.reply, &listing, group.pending_from(listing.from)),
            Some(None) => call.reply.array(0),
            Some(Some(consumer)) => {
                let pending = group.pending_of_consumer(consumer, listing.from);
                reply_listing(call.now.wall_ms, &mut call.reply, &listing, pending);
            }
        },
    }
    Ok(())
}

fn reply_summary(reply: &mut Reply<'_>, group: &Group) {
    reply.array(4);
    reply.integer(group.pending_len() as i64);
    let Some((first, last)) = group.pending_bounds() else {
        reply.null();
        reply.null();
        return reply.null_array();
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let busy = || group.consumers().filter(|consumer| consumer.pending_len() > 0);
    reply.array(busy().count());
    for consumer in busy() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending_len() as i64);
    }
}

fn reply_listing<'p>(
    now_ms: u64,
    reply: &mut Reply<'_>,
    listing: &Listing<'_>,
    pending: impl Iterator<Item = Pending<'p>>,
) {
    let mut found = Found::default();
    let mut out = Reply::new(&mut found.bytes, reply.protocol());
    let is_idle = |pending: &Pending<'_>| {
        pending.consumer.is_none() || (now_ms as i64).wrapping_sub(pending.delivered_ms as i64) >= listing.idle_ms_min
    };
    let within = pending.take_while(|pending| pending.id <= listing.to);
    for pending in within.filter(|pending| listing.idle_ms_min == 0 || is_idle(pending)).take(listing.count) {
        out.array(4);
        reply_id(&mut out, pending.id);
        out.bulk(pending.consumer.unwrap_or_default());
        out.integer(idle_ms(pending.consumer, pending.delivered_ms, now_ms));
        out.integer(pending.count as i64);
        found.count += 1;
    }
    reply.array(found.count);
    reply.raw(&found.bytes);
}
