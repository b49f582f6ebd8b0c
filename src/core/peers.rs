//! Calls to and from other cores, and the replies' way home.
//!
//! Credits bound what is under way to a peer; replies always have room. The call graph has one level (a call
//! never makes another), so two full lanes can't wait for each other.

use super::Core;
use super::execute::{MUTED_SLOT, client_cursor, mutes};
use super::intake::{BUCKETS_AHEAD, ENTRIES_AHEAD};
use crate::commands::catalog::Run;
use crate::commands::{ServerCall, ServerHandler};
use crate::router::batch::{CallBatch, ConnectionId, RemoteCall, ReplyBatch, Ticket, Work};
use crate::router::gather::{self, Ending, Gathering};
use shards::call::Args;
use shards::owner::Caller;
use shards::reply::{Protocol, Reply};
use shards::units::{Db, Offset, ShardId};

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
        let ready = &mut self.replies[shard.0 as usize].ready;
        (!ready.is_empty()).then(|| std::mem::replace(ready, empty()))
    }

    /// Runs the calls of another core.
    pub fn on_calls(&mut self, from: ShardId, batch: &CallBatch) {
        self.latency.crossed(batch.sent_ticks, self.ticks(), batch.len());
        let mut ready = std::mem::take(&mut self.replies[from.0 as usize].ready);
        let mut held = ReplyBatch::default();
        let mut held_until = Offset(0);
        for (at, call) in batch.calls().iter().enumerate() {
            self.prefetch_ahead(batch, at);
            let start = ready.buffer().len();
            let until = self.run_call(call, batch.args(call), ready.buffer());
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
    }

    /// Runs ahead of the calls: asks for the buckets of those `BUCKETS_AHEAD` on, and for the entries of those half as far, whose
    /// buckets have come meanwhile.
    fn prefetch_ahead(&mut self, batch: &CallBatch, at: usize) {
        if at == 0 {
            self.call_tickets.clear();
            (0..BUCKETS_AHEAD.min(batch.len())).for_each(|ahead| self.prefetch_call(batch, ahead));
            (0..ENTRIES_AHEAD.min(batch.len())).for_each(|ahead| self.prefetch_called_entry(batch, ahead));
        }
        if at + BUCKETS_AHEAD < batch.len() {
            self.prefetch_call(batch, at + BUCKETS_AHEAD);
        }
        if at + ENTRIES_AHEAD < batch.len() {
            self.prefetch_called_entry(batch, at + ENTRIES_AHEAD);
        }
    }

    fn prefetch_call(&mut self, batch: &CallBatch, at: usize) {
        let call = &batch.calls()[at];
        let key = batch.args(call).get(1);
        self.call_tickets.push(key.map(|key| self.owner.keyspace.prefetch_bucket(call.db, key)));
    }

    fn prefetch_called_entry(&self, batch: &CallBatch, at: usize) {
        if let Some(Some(ticket)) = self.call_tickets.get(at) {
            self.owner.keyspace.prefetch_entry(batch.calls()[at].db, *ticket);
        }
    }

    fn run_call(&mut self, call: &RemoteCall, args: Args<'_>, out: &mut Vec<u8>) -> Offset {
        match call.work {
            Work::Command(number) => {
                let Run::Shard(row) = self.catalog.get(number).run else {
                    unreachable!("only shard commands are called as such")
                };
                let caller = Caller { db: call.db, now: self.now, protocol: call.protocol };
                self.run_part(number, row, args, caller, out)
            }
            Work::Core(number) => {
                match self.catalog.get(number).run {
                    Run::Server(row) => match row.handler {
                        ServerHandler::Everywhere { part, .. } => part(self, args, out),
                        ServerHandler::Here(_) => unreachable!("only its own core runs it"),
                    },
                    Run::Shard(_) => unreachable!("a shard's command is called as such"),
                }
                Offset(0)
            }
            Work::Fetch { all_databases } => self.fetch(call.db, all_databases, args, out),
            Work::Adopt => self.adopt(args.at(0), out),
        }
    }

    /// Replies to this core's calls.
    pub fn on_replies(&mut self, from: ShardId, batch: &ReplyBatch) {
        let outbox = &mut self.outboxes[from.0 as usize];
        outbox.unanswered -= batch.len();
        for (ticket, reply) in batch.iter() {
            self.deliver(ticket, reply, Offset(0));
        }
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

    /// All parts are there: makes the reply of them, or goes on with the next round.
    fn finish(&mut self, connection: ConnectionId, slot: u64, gathering: Gathering) {
        let Gathering { ending, parts, order, protocol, until, muted, .. } = gathering;
        let mut out = Vec::new();
        match ending {
            Ending::Gather(gather) => gather::join(gather, &parts, &order, protocol, &mut out),
            Ending::Draw(draw) => gather::draw(&parts, draw, protocol, &mut out),
            Ending::Scan { shard, shards } => match gather::first_error(&parts) {
                Some(error) => out.extend_from_slice(error),
                None => {
                    let rewrite = |local| client_cursor(local, shard, shards);
                    gather::rewrite_cursor(&parts[0], rewrite, protocol, &mut out);
                }
            },
            Ending::Server { command, args } => {
                self.merge(connection, protocol, command, &args, &parts, &mut out);
            }
            Ending::Assemble(assembly) => {
                return self.run_assembly(connection, slot, *assembly, &parts, protocol, until, muted);
            }
            Ending::Settle { reply, then } => {
                if gather::first_error(&parts).is_none() && !then.is_empty() {
                    return self.settle(connection, slot, reply, then, Vec::new(), until, muted);
                }
                out.extend_from_slice(gather::first_error(&parts).unwrap_or(&reply));
                self.unhold(connection);
            }
        }
        self.fill(connection, slot, if muted { &[] } else { &out }, until);
    }

    pub(super) fn fill(&mut self, connection: ConnectionId, slot: u64, reply: &[u8], until: Offset) {
        let until = if until <= self.log.released { Offset(0) } else { until };
        if let Some(session) = self.session_mut(connection) {
            session.replies.fill(slot, reply, until);
        }
        self.flush_replies(connection);
    }

    fn merge(
        &mut self,
        connection: ConnectionId,
        protocol: Protocol,
        command: u16,
        args: &[Vec<u8>],
        parts: &[Vec<u8>],
        out: &mut Vec<u8>,
    ) {
        let (bytes, spans) = super::execute::copy_args(args.iter().map(Vec::as_slice));
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
