//! XREADGROUP: entries that nobody of the group has read yet, or the consumer's own pending ones.

use super::super::arguments::strict_id;
use super::super::read::{ReadOptions, reply_stream, reply_streams};
use super::super::{read, reply_entry, reply_id};
use super::info::{distance, has_gap_from};
use super::{GroupChanges, group_of, idle_ms, more};
use crate::call::Call;
use crate::commands::elements::Found;
use crate::error::{CommandError, CommandResult};
use crate::reply::Reply;
use crate::types::Kind;
use crate::types::stream::{Entry, Group, StreamId, StreamRef};
use crate::waiting::{Awaited, Null, Readers, Wait};

/// What is wanted of one stream.
#[derive(Clone, Copy)]
enum From {
    /// `>`: what the group has not read.
    New,
    /// What is pending for the consumer behind an id, if any can be behind it.
    Pending(StreamId),
}

/// `XREADGROUP GROUP group consumer [COUNT n] [BLOCK ms] [CLAIM min-idle-ms] [NOACK] STREAMS key [key ...] id [id ...]`
pub(super) fn xreadgroup(call: &mut Call<'_>) -> CommandResult {
    const NO_GROUP: CommandError = CommandError::new("ERR Missing GROUP option for XREADGROUP");
    let options = ReadOptions::parse(call, true)?;
    let (group, consumer) = options.group.ok_or(NO_GROUP)?;
    let mut wanted = Vec::with_capacity(options.ids_at - options.keys_at);
    for (key_at, id_at) in options.streams() {
        wanted.push(read_from(call, key_at, id_at, group)?);
    }
    let (mut found, mut streams) = (Vec::new(), 0);
    for ((key_at, _), from) in options.streams().zip(wanted) {
        let key = call.args.at(key_at);
        // A key that is named twice has changed by now, but its group is there.
        let stream = call.keyspace.peek(call.db, key, call.now).and_then(|entry| entry.stream().ok());
        let Some((stream, state)) = group_of(stream, group) else { continue };
        let mut serving = Serving {
            stream,
            group: state,
            count: if options.count == 0 { usize::MAX } else { options.count },
            changes: GroupChanges::new(call, group, consumer),
            found: Found::default(),
        };
        let mut reply = Reply::new(&mut found, call.reply.protocol());
        let is_served = match from {
            From::New => serving.read_new(&reply, options.claim, options.no_ack),
            From::Pending(from) => serving.read_pending(&reply, from),
        };
        if !is_served {
            continue;
        }
        let Serving { changes, found: entries, .. } = serving;
        reply_stream(&mut reply, key);
        reply.array(entries.count);
        reply.raw(&entries.bytes);
        streams += 1;
        let changes = changes.finish();
        if !changes.is_empty() {
            call.write_collection(key, Kind::Stream, &changes);
        }
    }
    if streams > 0 {
        reply_streams(&mut call.reply, streams, &found);
    } else if let Some(timeout_ms) = options.block {
        // Who reads takes from the others, but each looks for itself: whoever comes too late waits on.
        let (kind, readers, keys) = (Kind::Stream, Readers::Shared, Awaited::All);
        call.wait(&Wait { timeout_ms, null: Null::Array, kind, readers, keys, retry: Vec::new() });
    } else {
        call.reply.null_array();
    }
    Ok(())
}

/// From where to read a stream, once it is sure that there is one with such a group.
fn read_from(call: &Call<'_>, key_at: usize, id_at: usize, group: &[u8]) -> Result<From, CommandError> {
    const NO_NEWEST: CommandError = CommandError::new(
        "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
    );
    let key = call.args.at(key_at);
    if group_of(read(call.keyspace, call.db, key, call.now)?, group).is_none() {
        let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
        return Err(CommandError::owned(format!(
            "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option"
        )));
    }
    match call.args.at(id_at) {
        b"$" => Err(NO_NEWEST),
        b">" => Ok(From::New),
        // The highest id is how Redis keeps `>`.
        id => Ok(strict_id(id, 0)?.next().map_or(From::New, From::Pending)),
    }
}

/// One stream being read.
struct Serving<'s, 'a> {
    stream: StreamRef<'s>,
    group: &'s Group,
    count: usize,
    changes: GroupChanges<'a>,
    found: Found,
}

impl<'s> Serving<'s, '_> {
    /// Entries that are pending for whomever for long enough, if that is asked for, and then new ones.
    fn read_new(&mut self, reply: &Reply<'_>, claim_ms: Option<u64>, no_ack: bool) -> bool {
        let (protocol, now_ms) = (reply.protocol(), self.changes.now_ms);
        let claimed = claim_ms.map(|ms| self.claimable(now_ms.saturating_sub(ms))).unwrap_or_default();
        let delivered = self.group.delivered();
        let has_new = self.stream.last().is_some_and(|last| last.id > delivered);
        if claimed.is_empty() && !has_new {
            return false;
        }
        self.changes.see(self.group, true);
        let mut bytes = std::mem::take(&mut self.found.bytes);
        let mut out = Reply::new(&mut bytes, protocol);
        let claimed_len = claimed.len();
        for entry in claimed {
            let pending = self.group.pending(entry.id).expect("what is claimed is pending");
            self.changes.deliver(entry.id, now_ms, more(pending.count));
            let idle_ms = idle_ms(pending.consumer, pending.delivered_ms, now_ms);
            reply_delivered(&mut out, entry, idle_ms, pending.count as i64);
        }
        let (mut last, mut read) = (delivered, self.group.read());
        let new = delivered.next().filter(|_| has_new).map(|from| self.stream.range(from, StreamId::MAX));
        for entry in new.into_iter().flatten().take(self.count - claimed_len) {
            read = read_after(self.stream, entry.id, read);
            last = entry.id;
            if !no_ack {
                self.changes.deliver(entry.id, now_ms, 1);
            }
            if claim_ms.is_some() {
                reply_delivered(&mut out, entry, 0, 0);
            } else {
                reply_entry(&mut out, entry);
            }
            self.found.count += 1;
        }
        self.found.count += claimed_len;
        self.found.bytes = bytes;
        if last != delivered {
            self.changes.set_id(last, read);
        }
        true
    }
    /// The entries that were last delivered at a time or before, those first that wait for longest. What is pending of entries that are
    /// no more is not any longer.
    fn claimable(&mut self, delivered_ms_max: u64) -> Vec<Entry<'s>> {
        let mut limit = self.count;
        loop {
            let ids = self.group.pending_longest(delivered_ms_max, limit);
            let gone = ids.iter().filter(|id| !self.stream.contains(**id)).count();
            if gone > 0 && ids.len() == limit && ids.len() - gone < self.count {
                // Behind those that are gone there may be others.
                limit = limit.saturating_add(limit);
                continue;
            }
            ids.iter().filter(|id| !self.stream.contains(**id)).for_each(|id| self.changes.acknowledge(*id));
            return ids.iter().filter_map(|id| self.stream.get(*id)).take(self.count).collect();
        }
    }
    /// What is pending for the consumer from an id on: delivered once more. Of entries that are no more only the ids.
    fn read_pending(&mut self, reply: &Reply<'_>, from: StreamId) -> bool {
        let now_ms = self.changes.now_ms;
        let consumer = self.group.consumer(self.changes.consumer);
        self.changes.see(self.group, consumer.is_some_and(|consumer| consumer.pending_len() > 0));
        let mut out = Reply::new(&mut self.found.bytes, reply.protocol());
        let pending = consumer.into_iter().flat_map(|consumer| self.group.pending_of_consumer(consumer, from));
        for pending in pending.take(self.count) {
            self.found.count += 1;
            match self.stream.get(pending.id) {
                Some(entry) => {
                    reply_entry(&mut out, entry);
                    self.changes.deliver(pending.id, now_ms, more(pending.count));
                }
                None => {
                    out.array(2);
                    reply_id(&mut out, pending.id);
                    out.null_array();
                }
            }
        }
        true
    }
}

/// An entry, for how long it was pending, and how often it was delivered before.
fn reply_delivered(reply: &mut Reply<'_>, entry: Entry<'_>, idle_ms: i64, count: i64) {
    reply.array(4);
    reply_id(reply, entry.id);
    reply.array(2 * entry.fields.len());
    for (name, value) in entry.fields {
        reply.bulk(name);
        reply.bulk(value);
    }
    reply.integer(idle_ms);
    reply.integer(count);
}

/// How many entries a group has read once it reads the one with this id.
fn read_after(stream: StreamRef<'_>, id: StreamId, read: Option<u64>) -> Option<u64> {
    match read {
        Some(read) if !has_gap_from(stream, id) => Some(read.wrapping_add(1)),
        _ if stream.entries_added() > 0 => distance(stream, id),
        _ => read,
    }
}
