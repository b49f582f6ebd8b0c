//! Calls to and from other cores, and the replies' way home.
//!
//! Credits bound what is under way to a peer; replies always have room. The call graph has one level (a call
//! never makes another), so two full lanes can't wait for each other.

use super::Core;
use super::execute::{MUTED_SLOT, mutes};
use super::intake::{BUCKETS_AHEAD, ENTRIES_AHEAD};
use crate::commands::catalog::Run;
use crate::commands::{ServerCall, ServerHandler};
use crate::router::batch::{Answer, CallBatch, ConnectionId, RemoteCall, ReplyBatch, Ticket, Work};
use crate::router::gather::Gathering;
use crate::router::program::copy_args;
use shards::call::Args;
use shards::reply::{Protocol, Reply};
use shards::units::{Db, Offset, ShardId};
use std::ops::Range;

/// Calls to one peer whose replies are not back; a session that needs more waits for a turn.
const UNANSWERED_MAX: usize = 8 << 10;
/// Argument bytes collected for one peer in a turn.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Core {
    pub(super) fn has_credit(&self, shard: ShardId) -> bool {
        let outbox = &self.outboxes[shard.0 as usize];
        shard == self.shard || (outbox.unanswered < UNANSWERED_MAX && outbox.batch.bytes() < BATCH_BYTES_MAX)
    }

    /// Puts a call into the batch for `shard`.
    pub(super) fn call<'a>(
        &mut self,
        shard: ShardId,
        ticket: Ticket,
        work: Work,
        db: Db,
        protocol: Protocol,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        let outbox = &mut self.outboxes[shard.0 as usize];
        outbox.unanswered += 1;
        outbox.batch.push(ticket, work, db, protocol, args);
        self.stats.lane_calls += 1;
    }

    /// The calls collected for `shard`, if any; `empty` takes their place.
    pub fn take_calls(&mut self, shard: ShardId, empty: impl FnOnce() -> CallBatch) -> Option<CallBatch> {
        if self.outboxes[shard.0 as usize].batch.is_empty() {
            return None;
        }
        let mut batch = std::mem::replace(&mut self.outboxes[shard.0 as usize].batch, empty());
        batch.sent_ticks = self.ticks();
        Some(batch)
    }

    /// The replies that may go to `shard`, if any.
    pub fn take_replies(&mut self, shard: ShardId, empty: impl FnOnce() -> ReplyBatch) -> Option<ReplyBatch> {
        let news = self.news_for(shard);
        let ready = &mut self.replies[shard.0 as usize].ready;
        ready.written = news;
        (!ready.is_empty()).then(|| std::mem::replace(ready, empty()))
    }

    /// Runs the calls of another core.
    pub fn on_calls(&mut self, from: ShardId, batch: &CallBatch) {
        self.latency.crossed(batch.sent_ticks, self.ticks(), batch.len());
        let mut at = 0;
        while at < batch.len() {
            match batch.calls()[at].work {
                Work::Transaction(message) => at += 1 + self.on_message(from, batch, at, message),
                Work::Line(work) => {
                    let call = &batch.calls()[at];
                    self.on_line(from, call, batch.args(call), work);
                    at += 1;
                }
                Work::Command(_)
                | Work::Core(_)
                | Work::Claim(_)
                | Work::Fetch { .. }
                | Work::Adopt
                | Work::Watch
                | Work::Unwatch
                | Work::WantSnapshot
                | Work::Freeze => at = self.run_plain(from, batch, at),
            }
        }
    }

    /// Runs single calls up to the next message of a transaction; where that is.
    fn run_plain(&mut self, from: ShardId, batch: &CallBatch, start_at: usize) -> usize {
        let mut ready = std::mem::take(&mut self.replies[from.0 as usize].ready);
        let mut held = ReplyBatch::default();
        let mut held_until = Offset(0);
        let plain = |call: &&RemoteCall| !matches!(call.work, Work::Transaction(_) | Work::Line(_));
        let calls = &batch.calls()[start_at..];
        let count = calls.iter().take_while(plain).count();
        for (at, call) in calls[..count].iter().enumerate() {
            self.prefetch_ahead(batch, start_at..start_at + count, at);
            let args = batch.args(call);
            if !self.participation.is_idle() && self.parks(from, call, args) {
                continue;
            }
            let start = ready.buffer().len();
            let until = self.run_call(call, args, ready.buffer());
            if until > self.log.released {
                let reply = ready.buffer().split_off(start);
                let held_start = held.buffer().len();
                held.buffer().extend_from_slice(&reply);
                held.close(call.ticket, held_start);
                held_until = held_until.max(until);
            } else {
                ready.close(call.ticket, start);
            }
        }
        let outbox = &mut self.replies[from.0 as usize];
        outbox.ready = ready;
        if !held.is_empty() {
            outbox.waiting.push_back((held_until, held));
        }
        self.refuse_waiting();
        start_at + count
    }

    /// The reply to a call that had to wait.
    pub(super) fn reply_to(&mut self, from: ShardId, ticket: Ticket, reply: &[u8], until: Offset) {
        let mut batch = ReplyBatch::default();
        batch.buffer().extend_from_slice(reply);
        batch.close(ticket, 0);
        let outbox = &mut self.replies[from.0 as usize];
        match outbox.waiting.back_mut() {
            None if until <= self.log.released => outbox.ready.append(&batch),
            Some((last, waiting)) if *last >= until => waiting.append(&batch),
            Some(_) | None => outbox.waiting.push_back((until, batch)),
        }
        self.refuse_waiting();
    }

    /// Runs ahead of the calls: asks for the buckets of those `BUCKETS_AHEAD` on, and for the entries of those half as far, whose
    /// buckets have come meanwhile.
    fn prefetch_ahead(&mut self, batch: &CallBatch, range: Range<usize>, at: usize) {
        if at == 0 {
            self.call_tickets.clear();
            (0..BUCKETS_AHEAD.min(range.len())).for_each(|ahead| self.prefetch_call(batch, range.start + ahead));
            (0..ENTRIES_AHEAD.min(range.len())).for_each(|ahead| self.prefetch_called_entry(batch, &range, ahead));
        }
        if at + BUCKETS_AHEAD < range.len() {
            self.prefetch_call(batch, range.start + at + BUCKETS_AHEAD);
        }
        if at + ENTRIES_AHEAD < range.len() {
            self.prefetch_called_entry(batch, &range, at + ENTRIES_AHEAD);
        }
    }

    fn prefetch_call(&mut self, batch: &CallBatch, at: usize) {
        let call = &batch.calls()[at];
        let key = batch.args(call).get(1);
        self.call_tickets.push(key.map(|key| self.owner.keyspace.prefetch_bucket(call.db, key)));
    }

    fn prefetch_called_entry(&self, batch: &CallBatch, range: &Range<usize>, at: usize) {
        if let Some(Some(ticket)) = self.call_tickets.get(at) {
            self.owner.keyspace.prefetch_entry(batch.calls()[range.start + at].db, *ticket);
        }
    }

    /// Answers to this core's calls.
    pub fn on_replies(&mut self, from: ShardId, batch: &ReplyBatch) {
        self.outboxes[from.0 as usize].unanswered -= batch.plain();
        for (ticket, answer, bytes) in batch.iter() {
            match answer {
                Answer::Reply => self.on_reply(ticket, bytes),
                Answer::Granted(_) | Answer::Yielded(_) | Answer::Ran | Answer::Broken | Answer::Refused => {
                    self.on_answer(from, ticket, answer, bytes)
                }
            }
        }
        if let Some(written) = batch.written {
            self.on_written(from, written);
        }
        if batch.log_failed {
            self.on_peer_failed(from);
        }
        self.serve_granted();
    }

    fn on_reply(&mut self, ticket: Ticket, reply: &[u8]) {
        if let Some(session) = self.session_mut(ticket.connection)
            && !ticket.is_part()
        {
            session.flying -= 1;
            if session.flying == 0 && session.held {
                self.unhold(ticket.connection);
            }
        }
        self.deliver(ticket, reply, Offset(0));
    }

    /// A reply, or a part of one, for a client of this core: from a lane, or from this core's own part.
    pub(super) fn deliver(&mut self, ticket: Ticket, reply: &[u8], until: Offset) {
        if ticket.slot == MUTED_SLOT {
            return;
        }
        let connection = ticket.connection;
        // Without a session the client has left in the meantime: nobody wants the reply.
        let Some(session) = self.session_mut(connection) else { return };
        match session.replies.gathering(ticket.slot) {
            None => session.replies.fill(ticket.slot, reply, until),
            Some(gathering) => {
                gathering.until = gathering.until.max(until);
                if !gathering.fill(ticket.part, reply) {
                    return;
                }
                let gathering = session.replies.take_gathering(ticket.slot).expect("just filled");
                self.finish(connection, ticket.slot, gathering);
            }
        }
        self.flush_replies(connection);
    }

    pub(super) fn reserve_gathering(&mut self, connection: ConnectionId, mut gathering: Gathering) -> u64 {
        let session = &mut self.sessions[connection.index as usize];
        gathering.muted = mutes(session.reply_mode);
        session.replies.reserve_gathering(gathering)
    }

    /// All parts are there: makes the reply of them.
    fn finish(&mut self, connection: ConnectionId, slot: u64, gathering: Gathering) {
        let Gathering { ending, parts, order, protocol, until, muted, holds, .. } = gathering;
        let mut out = Vec::new();
        self.conclude(connection, ending, &parts, &order, protocol, &mut out);
        self.fill(connection, slot, if muted { &[] } else { &out }, until);
        if holds {
            self.unhold(connection);
        }
    }

    pub(super) fn fill(&mut self, connection: ConnectionId, slot: u64, reply: &[u8], until: Offset) {
        let until = if until <= self.log.released { Offset(0) } else { until };
        if let Some(session) = self.session_mut(connection) {
            session.replies.fill(slot, reply, until);
        }
        self.flush_replies(connection);
    }

    pub(super) fn merge(
        &mut self,
        connection: ConnectionId,
        protocol: Protocol,
        command: u16,
        args: &[Vec<u8>],
        parts: &[Vec<u8>],
        out: &mut Vec<u8>,
    ) {
        let (bytes, spans) = copy_args(args.iter().map(Vec::as_slice));
        let Run::Server(row) = self.catalog.get(command).run else { unreachable!("only server commands merge") };
        let ServerHandler::Everywhere { merge, .. } = row.handler else { unreachable!("it ran everywhere") };
        let args = Args::new(&bytes, &spans);
        let mut call = ServerCall { core: self, connection, args, out, name: row.name, asked_in: Some(protocol) };
        if let Err(error) = merge(&mut call, parts) {
            out.clear();
            Reply::new(out, Protocol::Resp2).error(&error);
        }
    }
}
