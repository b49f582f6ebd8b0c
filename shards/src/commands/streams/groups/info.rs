//! What XINFO tells of groups and consumers, and what is known of how far a group is behind.

use super::super::{info, read, reply_id};
use super::no_group;
use crate::call::Call;
use crate::commands::elements::Found;
use crate::error::{CommandResult, NO_SUCH_KEY};
use crate::reply::Reply;
use crate::row::{Row, Traits};
use crate::types::View;
use crate::types::stream::{Consumer, Group, StreamId, StreamRef};

pub(in super::super) const XINFO_CONSUMERS: Row = <Row>::new("xinfo|consumers", 4, Traits::READ, consumers)
    .keys(info::KEY)
    .docs("stream", "5.0.0", "O(N) for N consumers", "Tells about the consumers of a group.");

pub(in super::super) const XINFO_GROUPS: Row = <Row>::new("xinfo|groups", 3, Traits::READ, groups)
    .keys(info::KEY)
    .docs("stream", "5.0.0", "O(N) for N groups", "Tells about the groups of a stream.");

/// `XINFO CONSUMERS key group`
fn consumers(call: &mut Call<'_>) -> CommandResult {
    let (key, name) = (call.args.at(2), call.args.at(3));
    let stream = read(call.keyspace, call.db, key, call.now)?.ok_or(NO_SUCH_KEY)?;
    let group = stream.group(name).ok_or_else(|| no_group(key, name))?;
    call.reply.array(group.consumers_len());
    for consumer in group.consumers() {
        call.reply.map(3);
        call.reply.bulk(b"name");
        call.reply.bulk(consumer.name());
        call.reply.bulk(b"pending");
        call.reply.integer(consumer.pending_len() as i64);
        call.reply.bulk(b"idle");
        call.reply.integer(call.now.wall_ms.saturating_sub(consumer.seen_ms()) as i64);
    }
    Ok(())
}

/// `XINFO GROUPS key`
fn groups(call: &mut Call<'_>) -> CommandResult {
    let stream = read(call.keyspace, call.db, call.args.at(2), call.now)?.ok_or(NO_SUCH_KEY)?;
    call.reply.array(stream.groups().map_or(0, |groups| groups.len()));
    for (name, group) in stream.groups().into_iter().flat_map(|groups| groups.iter()) {
        let reply = &mut call.reply;
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumers_len() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending_len() as i64);
        reply_progress(reply, stream, group);
    }
    Ok(())
}

/// Three names and values.
fn reply_progress(reply: &mut Reply<'_>, stream: StreamRef<'_>, group: &Group) {
    let integer_or_null = |reply: &mut Reply<'_>, value: Option<i64>| match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    };
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.delivered());
    reply.bulk(b"entries-read");
    integer_or_null(reply, group.read().map(|read| read as i64));
    reply.bulk(b"lag");
    integer_or_null(reply, lag(stream, group));
}

/// The groups of XINFO STREAM FULL, with at most `count` pending entries of each, and of each consumer.
pub(in super::super) fn reply_full(reply: &mut Reply<'_>, stream: StreamRef<'_>, count: usize) {
    reply.array(stream.groups().map_or(0, |groups| groups.len()));
    for (name, group) in stream.groups().into_iter().flat_map(|groups| groups.iter()) {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        reply_progress(reply, stream, group);
        reply.bulk(b"pel-count");
        reply.integer(group.pending_len() as i64);
        reply.bulk(b"pending");
        let mut found = Found::default();
        let mut out = Reply::new(&mut found.bytes, reply.protocol());
        for pending in group.pending_from(StreamId::MIN).take(count) {
            out.array(4);
            reply_id(&mut out, pending.id);
            out.bulk(pending.consumer.unwrap_or_default());
            out.integer(pending.delivered_ms as i64);
            out.integer(pending.count as i64);
            found.count += 1;
        }
        reply.array(found.count);
        reply.raw(&found.bytes);
        reply.bulk(b"consumers");
        reply.array(group.consumers_len());
        group.consumers().for_each(|consumer| reply_consumer(reply, group, consumer, count));
    }
}

fn reply_consumer(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(4);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms() as i64);
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(count));
    for pending in group.pending_of_consumer(consumer, StreamId::MIN).take(count) {
        reply.array(3);
        reply_id(reply, pending.id);
        reply.integer(pending.delivered_ms as i64);
        reply.integer(pending.count as i64);
    }
}

/// Whether an entry may be missing among those there are, at an id or behind it, so that counting on from there would be wrong.
pub(super) fn has_gap_from(stream: StreamRef<'_>, id: StreamId) -> bool {
    let deleted = stream.max_deleted();
    !stream.is_empty() && deleted != StreamId::MIN && id.max(stream.first_id()) <= deleted
}

/// How many entries were ever added up to an id, if that can be known: of the last entry, of the first, and of what is before both
/// them and whatever was deleted.
pub(super) fn distance(stream: StreamRef<'_>, id: StreamId) -> Option<u64> {
    let added = stream.entries_added();
    if added == 0 || stream.is_empty() && id <= stream.last_id() || id == stream.last_id() {
        return Some(added);
    }
    if id > stream.last_id() {
        return None;
    }
    let (first, deleted) = (stream.first_id(), stream.max_deleted());
    let before = added.wrapping_sub(stream.len() as u64);
    if deleted == StreamId::MIN || deleted < first {
        if id < first {
            return Some(before);
        }
        if id == first {
            return Some(before.wrapping_add(1));
        }
    }
    None
}

/// Entries that a group has yet to read, if that can be known.
fn lag(stream: StreamRef<'_>, group: &Group) -> Option<i64> {
    let added = stream.entries_added();
    let read = match group.read() {
        _ if added == 0 => Some(0),
        Some(read) if !has_gap_from(stream, group.delivered()) => Some(read),
        _ => distance(stream, group.delivered()),
    };
    read.map(|read| added.wrapping_sub(read) as i64)
}
