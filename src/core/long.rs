//! Transactions too long to be run in one go: MSET, MGET, DEL and the like of many thousand keys, MULTI of thousands of
//! commands. They claim the whole of every shard, and are planned and run slice by slice, each a fraction of a millisecond, so no
//! core stops for them. The log takes their edits as one record, so that a crash keeps all or nothing.

use super::Core;
use super::coordinate::Beginning;
use super::execute::mutes;
use crate::commands::catalog::{CommandNumber, Run};
use crate::router::batch::{CallBatch, ConnectionId, Group};
use crate::router::gather::{array_reply, integer_reply};
use crate::router::program::{Kind, Planned, Program, Request};
use shards::call::{Args, Span};
use shards::reply::{Protocol, Reply};
use shards::row::{Gather, Handler, Keys, Route, Row, Traits};
use shards::transaction::Access;
use shards::units::{Db, ShardId};
use shards::waiting::append_at_once;
use std::collections::BTreeMap;

/// A command of more arguments, or a MULTI with more in all of its commands, is run in slices.
pub(super) const ARGS_MAX: usize = 8 << 10;
/// Arguments planned in one slice.
const SLICE_ARGS: usize = 2 << 10;

/// What there is to do, and how far it is done.
pub(super) struct Long {
    source: Source,
    /// The next argument, or queued command.
    at: usize,
    writes: bool,
    /// Where a slice's replies come from: its plan, and the participant of each of its parts.
    slice: Vec<Planned>,
    shards: Vec<ShardId>,
    /// The last step is done: the group is in the logs.
    ending: bool,
    body: Vec<u8>,
    elements: usize,
    sum: i64,
    error: Option<Vec<u8>>,
}

enum Source {
    /// One command that falls apart by keys.
    Keys { number: CommandNumber, row: &'static Row<Handler>, gather: Gather, db: Db, bytes: Vec<u8>, spans: Vec<Span> },
    /// Commands queued since MULTI, and the database that the next one is for.
    Queue { queued: CallBatch, db: Db },
}

impl Long {
    fn new(source: Source, at: usize, writes: bool) -> Box<Long> {
        Box::new(Long {
            source,
            at,
            writes,
            slice: Vec::new(),
            shards: Vec::new(),
            ending: false,
            body: Vec::new(),
            elements: 0,
            sum: 0,
            error: None,
        })
    }

    fn is_planned(&self) -> bool {
        match &self.source {
            Source::Keys { spans, .. } => self.at >= spans.len(),
            Source::Queue { queued, .. } => self.at >= queued.len(),
        }
    }

    /// Takes in the reply of a slice.
    fn add(&mut self, reply: &[u8]) {
        match &self.source {
            Source::Queue { .. } => self.body.extend_from_slice(reply),
            Source::Keys { .. } if reply.first() == Some(&b'-') => self.error = Some(reply.to_vec()),
            Source::Keys { gather, .. } => match gather {
                Gather::Sum => self.sum += integer_reply(reply),
                Gather::Ok => {}
                Gather::InKeyOrder | Gather::Concat => {
                    let (elements, body) = array_reply(reply);
                    self.elements += elements;
                    self.body.extend_from_slice(body);
                }
            },
        }
    }

    /// Whether it may make edits: the log takes all of them at once.
    pub(super) fn writes(&self) -> bool {
        self.writes
    }

    pub(super) fn into_reply(self, protocol: Protocol) -> Vec<u8> {
        if let Some(error) = self.error {
            return error;
        }
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, protocol);
        match &self.source {
            Source::Queue { queued, .. } => reply.array(queued.len()),
            Source::Keys { gather, .. } => match gather {
                Gather::Sum => reply.integer(self.sum),
                Gather::Ok => reply.ok(),
                Gather::InKeyOrder | Gather::Concat => reply.array(self.elements),
            },
        }
        out.extend_from_slice(&self.body);
        out
    }
}

/// Whether a shard's command is to be run in slices if it has many arguments: one that falls apart by keys.
pub(super) fn can_be_sliced(row: &'static Row<Handler>, args: usize) -> bool {
    let Keys::Range { last: -1, step, first, .. } = row.keys else { return false };
    matches!(row.route, Route::Split(_)) && args > ARGS_MAX && (args - first as usize).is_multiple_of(step as usize)
}

impl Core {
    /// Runs a command of many keys. Its arguments are handed over, as copying them would take too long.
    pub(super) fn begin_long(
        &mut self,
        connection: ConnectionId,
        number: CommandNumber,
        bytes: Vec<u8>,
        spans: Vec<Span>,
    ) {
        let Run::Shard(row) = self.catalog.get(number).run else { unreachable!("only shard commands are sliced") };
        let (Route::Split(gather), Keys::Range { first, .. }) = (row.route, row.keys) else {
            unreachable!("only those that fall apart by keys are sliced")
        };
        let session = &mut self.sessions[connection.index as usize];
        let (db, protocol) = (session.db, session.protocol);
        session.last_command = row.name;
        session.commands += 1;
        self.stats.commands += 1;
        let writes = row.traits.has(Traits::WRITE);
        let source = Source::Keys { number, row, gather, db, bytes, spans };
        let program = self.claim_everything(writes, protocol);
        let long = Some(Long::new(source, first as usize, writes));
        self.begin_transaction(connection, program, Beginning { long, ..Beginning::default() });
    }

    /// EXEC of many commands, none of which needs values of several shards.
    pub(super) fn begin_long_multi(&mut self, connection: ConnectionId, queued: CallBatch, watches: bool) {
        let session = &self.sessions[connection.index as usize];
        let (db, protocol, id) = (session.db, session.protocol, session.id);
        let program = self.claim_everything(true, protocol);
        let long = Some(Long::new(Source::Queue { queued, db }, 0, true));
        let watcher = if watches { id } else { 0 };
        self.begin_transaction(connection, program, Beginning { exec: true, watcher, long, attempt: None });
    }

    /// A program of which nothing is known but that it may touch any key.
    fn claim_everything(&self, writes: bool, protocol: Protocol) -> Program {
        let mut program = Program::new(Kind::Steps { scratch: false }, self.slots, self.shard, protocol);
        program.claim_all(if writes { Access::Write } else { Access::Read });
        program
    }

    pub fn has_long_work(&self) -> bool {
        !self.coordination.long.is_empty()
    }

    /// One slice of each long transaction that can go on.
    pub fn work_on_long(&mut self) {
        for index in std::mem::take(&mut self.coordination.long) {
            self.next_slice(index);
        }
        self.serve_granted();
    }

    fn next_slice(&mut self, index: usize) {
        let transaction = self.transaction(index);
        let connection = transaction.connection;
        let mut long = transaction.long.take().expect("it is a long one");
        if long.is_planned() {
            let (writes, ended) = (long.writes, long.ending);
            long.ending = true;
            self.transaction(index).long = Some(long);
            let group = if ended || !writes { None } else { self.new_group((0..self.shards).map(ShardId)) };
            return match group {
                Some(group) => self.log_group(index, group),
                None => self.finish_steps(index),
            };
        }
        let slice = self.plan_slice(connection, &mut long);
        long.shards = slice.parts.iter().map(|part| part.shard).collect();
        long.slice = slice.commands;
        let calls: BTreeMap<u16, CallBatch> = slice
            .parts
            .into_iter()
            .map(|part| (part.shard.0, part.calls))
            .filter(|(_, calls)| !calls.is_empty())
            .collect();
        let transaction = self.transaction(index);
        transaction.long = Some(long);
        if calls.is_empty() {
            return self.slice_done(index);
        }
        self.run_slice(index, calls);
    }

    /// The last step: every log gets the group, with the edits of all slices.
    fn log_group(&mut self, index: usize, group: Group) {
        self.transaction(index).group = Some(group);
        self.run_slice(index, (0..self.shards).map(|shard| (shard, CallBatch::default())).collect());
    }

    fn plan_slice(&mut self, connection: ConnectionId, long: &mut Long) -> Program {
        let protocol = self.protocol(connection);
        let mut program = Program::new(Kind::Direct, self.slots, self.shard, protocol);
        match &mut long.source {
            Source::Keys { number, row, db, bytes, spans, .. } => {
                let end = (long.at + SLICE_ARGS).min(spans.len());
                let own: Vec<Span> = std::iter::once(spans[0]).chain(spans[long.at..end].iter().copied()).collect();
                let request = Request { number: *number, row, args: Args::new(bytes, &own), db: *db, draw: 0 };
                program.add(request).expect("a slice is as even as the whole");
                long.at = end;
            }
            Source::Queue { queued, db } => {
                let mut args = 0;
                while args < SLICE_ARGS && long.at < queued.len() {
                    let call = &queued.calls()[long.at];
                    args += queued.args(call).len();
                    self.plan_queued(&mut program, connection, call.work, queued.args(call), db);
                    long.at += 1;
                }
            }
        }
        program
    }

    pub(super) fn slice_done(&mut self, index: usize) {
        let transaction = self.transaction(index);
        let (connection, protocol) = (transaction.connection, transaction.protocol);
        let mut long = transaction.long.take().expect("it is a long one");
        if !long.ending {
            let answers: Vec<Vec<u8>> =
                long.shards.iter().map(|shard| std::mem::take(&mut transaction.answers[shard.0 as usize])).collect();
            let mut out = Vec::new();
            // A single one in slices never wishes to wait; one of MULTI may not.
            let slice = std::mem::take(&mut long.slice);
            self.assemble(connection, protocol, slice, &answers, (&[], append_at_once), &mut out);
            long.add(&out);
        }
        self.transaction(index).long = Some(long);
        self.run_step(index);
    }

    /// Whether a long transaction of this connection can begin now.
    pub(super) fn may_begin_long(&self, connection: ConnectionId) -> bool {
        let Some(session) = self.session(connection) else { return false };
        session.authenticated
            && session.multi.is_none()
            && session.flying == 0
            && !session.held
            && !mutes(session.reply_mode)
    }
}
