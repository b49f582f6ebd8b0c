//! MULTI, EXEC, DISCARD, WATCH and UNWATCH of a connection: what it queues, and the program that EXEC makes of it.
//!
//! Queued commands are checked as they come (they exist, their arity) and planned when EXEC comes; how the plan is carried
//! out is the same as for any transaction.

use super::coordinate::Beginning;
use super::execute::{MUTED_SLOT, wait_for_replies};
use super::{Core, Flow, long};
use crate::commands::catalog::{CommandNumber, Run};
use crate::commands::{ServerCall, ServerHandler};
use crate::router::batch::{CallBatch, ConnectionId, RemoteCall, Ticket, Work};
use crate::router::gather::{Ending, Gathering};
use crate::router::program::{self, Kind, Program, Request, copy_args};
use crate::session::Closing;
use shards::call::Args;
use shards::error::CommandError;
use shards::reply::{Protocol, Reply};
use shards::row::{Gather, Route, Traits};
use shards::units::{Db, Offset, ShardId};
use shards::watches::Watcher;
use std::collections::BTreeSet;

/// What a connection has queued since MULTI.
#[derive(Default)]
pub struct Multi {
    queued: CallBatch,
    /// A command was refused: EXEC will be, too.
    pub failed: bool,
}

const NOT_INSIDE: CommandError = CommandError::new("ERR Command not allowed inside a transaction");
const NESTED: CommandError = CommandError::new("ERR MULTI calls can not be nested");
const EXEC_WITHOUT: CommandError = CommandError::new("ERR EXEC without MULTI");
const DISCARD_WITHOUT: CommandError = CommandError::new("ERR DISCARD without MULTI");
const WATCH_INSIDE: CommandError = CommandError::new("ERR WATCH inside MULTI is not allowed");
const ABORTED: CommandError = CommandError::new("EXECABORT Transaction discarded because of previous errors.");

impl Core {
    #[inline(never)]
    pub(super) fn queue(&mut self, connection: ConnectionId, number: CommandNumber, args: Args<'_>) -> Flow {
        if self.catalog.get(number).traits().has(Traits::NO_MULTI) {
            self.refuse_call(connection, Some(number), &NOT_INSIDE);
            return Flow::Done;
        }
        let bytes_max = self.config.query_bytes_max as usize;
        let session = &mut self.sessions[connection.index as usize];
        let multi = session.multi.as_mut().expect("only after MULTI");
        let ticket = Ticket { connection, slot: MUTED_SLOT, part: 0, spread: true };
        multi.queued.push(ticket, Work::Command(number), Db(0), Protocol::Resp2, args.iter());
        if multi.queued.bytes() + multi.queued.len() * size_of::<RemoteCall>() > bytes_max {
            self.stats.query_buffer_limit_disconnections += 1;
            self.close(connection, Closing::Now);
            return Flow::Done;
        }
        self.answer(connection, b"+QUEUED\r\n", Offset(0));
        Flow::Done
    }

    /// A command was refused before it ran: EXEC will refuse to run the others, or, if it is EXEC itself, has refused.
    pub(super) fn abort_multi(
        &mut self,
        connection: ConnectionId,
        number: Option<CommandNumber>,
        error: &CommandError,
    ) -> CommandError {
        let is_exec = number.is_some_and(|number| self.catalog.get(number).name() == "exec");
        let Some(session) = self.session_mut(connection) else { return error.clone() };
        if !is_exec {
            if let Some(multi) = &mut session.multi {
                multi.failed = true;
            }
            return error.clone();
        }
        session.multi = None;
        self.stop_watching(connection);
        let why = error.0.strip_prefix("ERR ").unwrap_or(&error.0);
        CommandError::owned(format!("EXECABORT Transaction discarded because of: {why}"))
    }

    pub fn multi(&mut self, connection: ConnectionId) -> Result<(), CommandError> {
        let session = self.session_mut(connection).expect("the caller's session outlives its call");
        if session.multi.is_some() {
            return Err(NESTED);
        }
        session.multi = Some(Box::default());
        Ok(())
    }

    pub fn discard(&mut self, connection: ConnectionId) -> Result<(), CommandError> {
        let session = self.session_mut(connection).expect("the caller's session outlives its call");
        session.multi.take().ok_or(DISCARD_WITHOUT)?;
        self.stop_watching(connection);
        Ok(())
    }

    /// EXEC. Its commands' errors are in its reply; an error here means that nothing was run.
    pub fn exec(&mut self, connection: ConnectionId) -> Result<Flow, CommandError> {
        let session = self.session_mut(connection).expect("the caller's session outlives its call");
        let Some(multi) = &session.multi else { return Err(EXEC_WITHOUT) };
        if multi.failed {
            session.multi = None;
            self.stop_watching(connection);
            return Err(ABORTED);
        }
        if session.flying > 0 {
            return Ok(wait_for_replies(session));
        }
        if !(0..self.shards).all(|shard| self.has_credit(ShardId(shard))) {
            return Ok(Flow::Hold);
        }
        let session = self.session_mut(connection).expect("just looked at");
        let multi = session.multi.take().expect("just looked at");
        let (watched, id) = (std::mem::take(&mut session.watched), session.id);
        if multi.queued.arguments() > long::ARGS_MAX && self.kind_of(&multi.queued) == Kind::Direct {
            self.begin_long_multi(connection, multi.queued, !watched.is_empty());
            return Ok(Flow::Done);
        }
        let program = self.plan_multi(connection, &multi.queued, &watched);
        let watcher = if watched.is_empty() { 0 } else { id };
        self.begin_transaction(connection, program, Beginning { exec: true, watcher, ..Beginning::default() });
        Ok(Flow::Done)
    }

    fn plan_multi(
        &mut self,
        connection: ConnectionId,
        queued: &CallBatch,
        watched: &BTreeSet<(Db, Vec<u8>)>,
    ) -> Program {
        let session = self.session(connection).expect("the caller's session outlives its call");
        let (mut db, protocol) = (session.db, session.protocol);
        let mut program = Program::new(self.kind_of(queued), self.slots, self.shard, protocol).with_room(queued.len());
        watched.iter().for_each(|(_, key)| program.watch(key));
        for call in queued.calls() {
            self.plan_queued(&mut program, connection, call.work, queued.args(call), &mut db);
        }
        program
    }

    /// Plans one queued command; `db` is the database it is for, which a SELECT changes for those that follow.
    pub(super) fn plan_queued(
        &mut self,
        program: &mut Program,
        connection: ConnectionId,
        work: Work,
        args: Args<'_>,
        db: &mut Db,
    ) {
        let Work::Command(number) = work else { unreachable!("commands are queued") };
        match self.catalog.get(number).run {
            Run::Shard(row) => {
                let draw = if row.route == Route::Any { self.owner.random.next_u64() } else { 0 };
                if let Err(error) = program.add(Request { number, row, args, db: *db, draw }) {
                    let mut reply = Vec::new();
                    Reply::new(&mut reply, Protocol::Resp2).error(&error);
                    program.add_known(reply);
                }
            }
            Run::Server(row) => match row.handler {
                ServerHandler::Here(_) | ServerHandler::Flow(_) => {
                    if row.name == "select"
                        && let Ok(selected) = super::database(self, args.at(1))
                    {
                        *db = selected;
                    }
                    program.add_here(number, args);
                }
                ServerHandler::Everywhere { check, .. } => {
                    self.plan_everywhere(program, connection, number, check, args, *db)
                }
            },
        }
    }

    /// Commands that need values of several shards make it a program of steps; one step, if nothing looks at whole shards.
    fn kind_of(&self, queued: &CallBatch) -> Kind {
        let (mut scratch, mut whole) = (false, false);
        for call in queued.calls() {
            let Work::Command(number) = call.work else { unreachable!("commands are queued") };
            match self.catalog.get(number).run {
                Run::Shard(row) => {
                    scratch |= program::needs_scratch(&self.slots, row, &queued.args(call));
                    whole |= program::touches_all(row);
                }
                Run::Server(row) => whole |= matches!(row.handler, ServerHandler::Everywhere { .. }),
            }
        }
        if scratch { Kind::Steps { scratch: !whole } } else { Kind::Direct }
    }

    fn plan_everywhere(
        &mut self,
        program: &mut Program,
        connection: ConnectionId,
        number: CommandNumber,
        check: fn(&mut ServerCall<'_>) -> shards::error::CommandResult,
        args: Args<'_>,
        db: Db,
    ) {
        let mut out = Vec::new();
        let name = self.catalog.get(number).name();
        let mut call = ServerCall { core: self, connection, args, out: &mut out, name, asked_in: None };
        let checked = check(&mut call);
        if let Err(error) = checked {
            out.clear();
            Reply::new(&mut out, Protocol::Resp2).error(&error);
        }
        let appended = self.appended.take();
        if !out.is_empty() {
            return program.add_known(out);
        }
        let args: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).chain(appended).collect();
        program.add_everywhere(number, &args, db);
    }

    // ---- WATCH ---------------------------------------------------------------------------------------------

    pub fn watch_keys(&mut self, connection: ConnectionId, args: Args<'_>) -> Result<Flow, CommandError> {
        let session = self.session_mut(connection).expect("the caller's session outlives its call");
        if session.multi.is_some() {
            return Err(WATCH_INSIDE);
        }
        if session.flying > 0 {
            return Ok(wait_for_replies(session));
        }
        let (db, id) = (session.db, session.id);
        session.watched.extend(args.from(1).iter().map(|key| (db, key.to_vec())));
        let by_shard = self.by_shard(args.from(1).iter());
        let ending = Ending::Gather(Gather::Ok);
        let mut gathering = Gathering::new(ending, by_shard.len(), self.protocol(connection));
        self.hold_for(connection, &mut gathering);
        let slot = self.reserve_gathering(connection, gathering);
        let (watcher, database) = (id.to_le_bytes(), db.0.to_le_bytes());
        for (part, (shard, keys)) in by_shard.into_iter().enumerate() {
            let ticket = Ticket { connection, slot, part: part as u16, spread: true };
            let args = [&watcher[..], &database[..]].into_iter().chain(keys);
            if shard == self.shard {
                let (bytes, spans) = copy_args(args);
                self.watch(Args::new(&bytes, &spans));
                self.deliver(ticket, b"+OK\r\n", Offset(0));
            } else {
                self.call(shard, ticket, Work::Watch, db, Protocol::Resp2, args);
            }
        }
        Ok(Flow::Done)
    }

    /// Forgets what a connection watches, here and on other shards.
    pub fn stop_watching(&mut self, connection: ConnectionId) {
        let Some(session) = self.session_mut(connection) else { return };
        let (watched, id) = (std::mem::take(&mut session.watched), session.id);
        let mut shards: Vec<ShardId> = watched.iter().map(|(_, key)| self.shard_of(key)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.into_iter().for_each(|shard| self.unwatch_on(shard, connection, id));
    }

    /// Has a shard forget what the client with this number watches.
    pub(super) fn unwatch_on(&mut self, shard: ShardId, connection: ConnectionId, id: u64) {
        if shard == self.shard {
            return self.owner.keyspace.unwatch(Watcher(id));
        }
        let ticket = Ticket { connection, slot: MUTED_SLOT, part: 0, spread: true };
        self.call(shard, ticket, Work::Unwatch, Db(0), Protocol::Resp2, std::iter::once(&id.to_le_bytes()[..]));
    }
}
