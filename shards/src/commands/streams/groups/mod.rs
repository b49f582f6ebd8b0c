//! Consumer groups: how they are made, read for, acknowledged to and looked at.
//!
//! Every command first finds out what happens and then says it as changes of the stream: all that is resolved by then (who gets which
//! entry, when, how often) is in them. Times are the wall clock's, as in ids.

mod administer;
mod claim;
mod delete;
mod info;
mod pending;
mod read;
#[cfg(test)]
mod tests;

pub(super) use info::{XINFO_CONSUMERS, XINFO_GROUPS, reply_full};

use super::{READ, WRITE, WRITE_FAST, arguments};
use crate::call::Call;
use crate::error::CommandError;
use crate::row::{Gather, KeyUse, Keys, Route, Row, Traits};
use crate::types::stream::{Group, Ids, StreamChange, StreamId, StreamRef};

const WAITS: Traits = WRITE.and(Traits::BLOCKING).and(Traits::MOVABLE_KEYS);

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("xack", -4, WRITE_FAST, pending::xack).key(KeyUse::ReadWrite)
        .docs("stream", "5.0.0", "O(N log P) for N ids and P pending entries", "Takes entries off the pending ones of a group, as dealt with."),
    <Row>::new("xackdel", -6, WRITE_FAST, delete::xackdel).key(KeyUse::ReadWrite)
        .docs("stream", "8.2.0", "O(N log P) for N ids and P pending entries", "Acknowledges entries of a group, and deletes them if the other groups allow it."),
    <Row>::new("xautoclaim", -6, WRITE_FAST, claim::xautoclaim).key(KeyUse::ReadWrite)
        .docs("stream", "6.2.0", "O(N log P) for N entries looked at and P pending ones", "Passes pending entries that are idle to a consumer, from an id on."),
    <Row>::new("xclaim", -6, WRITE_FAST, claim::xclaim).key(KeyUse::ReadWrite)
        .docs("stream", "5.0.0", "O(N log P) for N ids and P pending entries", "Passes pending entries to a consumer."),
    <Row>::new("xdelex", -5, WRITE_FAST, delete::xdelex).key(KeyUse::ReadWrite)
        .docs("stream", "8.2.0", "O(N log S) for N ids and S entries", "Deletes entries by their ids, with or without a look at what groups have pending."),
    <Row>::new("xgroup", -2, Traits::NONE, administer::unknown_subcommand).route(Route::Any)
        .docs("stream", "5.0.0", "see the subcommands", "Makes, changes and removes groups and consumers.")
        .subcommands(administer::SUBCOMMANDS),
    <Row>::new("xnack", -7, WRITE_FAST, delete::xnack).key(KeyUse::ReadWrite)
        .docs("stream", "8.8.0", "O(N log P) for N ids and P pending entries", "Takes pending entries off their consumers, for others to claim them at once."),
    <Row>::new("xpending", -3, READ, pending::xpending).key(KeyUse::Read)
        .docs("stream", "5.0.0", "O(N log P) for N entries replied and P pending ones", "Tells what is pending in a group, or for one of its consumers."),
    <Row>::new("xreadgroup", -7, WAITS, read::xreadgroup)
        .keys(Keys::Find { find: arguments::find_keys, usage: KeyUse::Read }).route(Route::Split(Gather::Streams)).check(read::check)
        .docs("stream", "5.0.0", "O(N log P) for N entries replied and P pending ones", "Replies what a group has not read yet of each of several streams, to one of its consumers, or what is pending for it; waits for it if it may."),
];

/// The group that a command names behind its key, in a stream that a command found there.
fn group_of<'s>(stream: Option<StreamRef<'s>>, name: &[u8]) -> Option<(StreamRef<'s>, &'s Group)> {
    let stream = stream?;
    stream.group(name).map(|group| (stream, group))
}

fn no_key_or_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::owned(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::owned(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// What a command makes of one group, encoded as it goes: deliveries of one kind follow each other in one change.
struct GroupChanges<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    now_ms: u64,
    changes: Vec<u8>,
    /// Deliveries still to be encoded, all with this time and count.
    delivered_ms: u64,
    count: u64,
    ids: Vec<StreamId>,
    acknowledged: Vec<StreamId>,
}

impl<'a> GroupChanges<'a> {
    fn new(call: &Call<'_>, group: &'a [u8], consumer: &'a [u8]) -> Self {
        GroupChanges {
            group,
            consumer,
            now_ms: call.now.wall_ms,
            changes: Vec::new(),
            delivered_ms: 0,
            count: 0,
            ids: Vec::new(),
            acknowledged: Vec::new(),
        }
    }
    /// The consumer asked for something, and maybe got something. It is made if it isn't there.
    fn see(&mut self, group: &Group, is_active: bool) {
        let (seen_ms, active_ms) = (self.now_ms, is_active.then_some(self.now_ms));
        let known = group.consumer(self.consumer);
        let is_same = |active_ms: Option<u64>| active_ms.is_none() || known.is_some_and(|c| c.active_ms() == active_ms);
        if known.is_none_or(|known| known.seen_ms() != seen_ms) || !is_same(active_ms) {
            let (group, consumer) = (self.group, self.consumer);
            StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms }.encode(&mut self.changes);
        }
    }
    fn set_id(&mut self, delivered: StreamId, read: Option<u64>) {
        StreamChange::GroupSetId { group: self.group, delivered, read }.encode(&mut self.changes);
    }
    /// An entry is delivered to the consumer.
    fn deliver(&mut self, id: StreamId, delivered_ms: u64, count: u64) {
        if (self.delivered_ms, self.count) != (delivered_ms, count) {
            self.flush();
            (self.delivered_ms, self.count) = (delivered_ms, count);
        }
        self.ids.push(id);
    }
    fn acknowledge(&mut self, id: StreamId) {
        self.acknowledged.push(id);
    }
    fn flush(&mut self) {
        let mut buffer = Vec::new();
        if !self.ids.is_empty() {
            let ids = Ids::of(&self.ids, &mut buffer);
            let GroupChanges { group, consumer, delivered_ms, count, .. } = *self;
            StreamChange::Pend { group, consumer, delivered_ms, count, ids }.encode(&mut self.changes);
            self.ids.clear();
        }
        if !self.acknowledged.is_empty() {
            let ids = Ids::of(&self.acknowledged, &mut buffer);
            StreamChange::Ack { group: self.group, ids }.encode(&mut self.changes);
            self.acknowledged.clear();
        }
    }
    fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.changes
    }
}

/// For how long a pending entry was left alone; nobody's is of no age.
fn idle_ms(consumer: Option<&[u8]>, delivered_ms: u64, now_ms: u64) -> i64 {
    match consumer {
        Some(_) => i64::try_from(now_ms.saturating_sub(delivered_ms)).unwrap_or(i64::MAX),
        None => -1,
    }
}

/// The count of deliveries after one more.
fn more(count: u64) -> u64 {
    count.saturating_add(1).min(i64::MAX as u64)
}
