//! One command of one client: may it run, where, and what becomes of its reply.

use super::Core;
use super::coordinate::Beginning;
use super::intake::Flow;
use super::turn::BACKLOG_BYTES_MAX;
use crate::commands::catalog::{Command, CommandNumber, Run};
use crate::commands::{ServerCall, ServerHandler};
use crate::router::batch::{ConnectionId, Ticket, Work};
use crate::router::gather::{self, Ending, Gathering};
use crate::router::program::{self, Kind, Program, Request, copy_args};
#[cfg(feature = "planted-bugs")]
use crate::runtime::planted::{self, Planted};
use crate::session::{Closing, ReplyMode, Session};
use shards::call::Args;
use shards::error::{CommandError, DB_OUT_OF_RANGE};
use shards::owner::Caller;
use shards::reply::{Protocol, Reply};
use shards::row::{Handler, Keys, Route, Row, Traits};
use shards::units::{Db, Offset, ShardId};
use shards::waiting::is_wait;

const NO_AUTH: CommandError = CommandError::new("NOAUTH Authentication required.");

/// One connection's replies in one turn: a pipeline of large values must not keep the core from its other clients.
pub(super) const TURN_REPLY_BYTES_MAX: usize = 4 << 20;

/// With less, a connection's replies are held against its limits at the end of the turn only.
const UNCHECKED_REPLY_BYTES_MAX: usize = 64 << 10;

/// A client's call of a shard's command, on its way to where it runs.
#[derive(Clone, Copy)]
pub(super) struct ShardCall<'a> {
    pub(super) connection: ConnectionId,
    pub(super) number: CommandNumber,
    pub(super) row: &'static Row<Handler>,
    pub(super) args: Args<'a>,
}

/// Where the keys of a command are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It has none, or its arguments are wrong.
    Nowhere,
    At(ShardId),
    Several,
}

impl Core {
    pub(super) fn shard_of(&self, key: &[u8]) -> ShardId {
        if self.shards == 1 { self.shard } else { self.slots.shard_of(shards::slot::slot_of(key)) }
    }

    /// Takes one request of a connection.
    pub(super) fn dispatch(
        &mut self,
        connection: ConnectionId,
        command: Option<CommandNumber>,
        args: Args<'_>,
    ) -> Flow {
        let Some(session) = self.sessions.get_mut(connection.index as usize) else { return Flow::Done };
        if session.held {
            return Flow::Hold;
        }
        if session.closing != Closing::Open {
            return Flow::Done;
        }
        if session.replies.bytes() > session.turn_start_bytes + TURN_REPLY_BYTES_MAX {
            // Others get their turn before this client's next large replies.
            return Flow::Hold;
        }
        let mode_before = session.reply_mode;
        match session.reply_mode {
            ReplyMode::SkipNext => session.reply_mode = ReplyMode::Skipping,
            ReplyMode::Skipping => session.reply_mode = ReplyMode::On,
            ReplyMode::On | ReplyMode::Off => {}
        }
        let Some(number) = command else {
            self.refuse_call(connection, None, &unknown_command(args));
            return Flow::Done;
        };
        let authenticated = session.authenticated;
        let command = self.catalog.get(number);
        let run = command.run;
        if let Err(error) = admit(command, authenticated, args) {
            self.refuse_call(connection, Some(number), &error);
            return Flow::Done;
        }
        if command.traits().has(Traits::ADMIN)
            && let Some(error) = crate::commands::debug::refusal(self, connection, command.name())
        {
            self.refuse_call(connection, Some(number), &error);
            return Flow::Done;
        }
        if command.traits().has(Traits::WRITE)
            && self.owner.keyspace.edits().len() as u64 > BACKLOG_BYTES_MAX
            && self.log.refusal(self.shard).is_none()
        {
            // A pipeline of small commands may make huge values: the log gets these first. (If it takes none, the client is told.)
            self.sessions[connection.index as usize].reply_mode = mode_before;
            return Flow::Hold;
        }
        let session = &mut self.sessions[connection.index as usize];
        session.last_command = command.name();
        session.commands += 1;
        self.stats.commands += 1;
        let flow = match run {
            _ if session.multi.is_some() && !ends_queueing(run) => self.queue(connection, number, args),
            Run::Shard(row) => self.dispatch_shard(ShardCall { connection, number, row, args }),
            Run::Server(row) => self.dispatch_server(connection, number, row, args),
        };
        if flow == Flow::Hold {
            // It comes again, and must find everything as it was: the next reply is skipped once.
            let session = &mut self.sessions[connection.index as usize];
            session.reply_mode = mode_before;
            session.commands -= 1;
            self.stats.commands -= 1;
        }
        // The end of the turn looks at every connection; in between only at what grows fast.
        let replies = &self.sessions[connection.index as usize].replies;
        if replies.bytes() > UNCHECKED_REPLY_BYTES_MAX {
            self.check_output(connection);
        }
        flow
    }

    /// The error of a command that was run.
    pub fn answer_error(&mut self, connection: ConnectionId, number: CommandNumber, error: &CommandError) {
        let mut reply = Vec::new();
        Reply::new(&mut reply, Protocol::Resp2).error(error);
        self.latency.executed(number, self.ticks, Some(&reply));
        self.answer(connection, &reply, Offset(0));
    }

    pub(super) fn refuse_call(
        &mut self,
        connection: ConnectionId,
        number: Option<CommandNumber>,
        error: &CommandError,
    ) {
        self.latency.rejected(number, error);
        let mut reply = Vec::new();
        Reply::new(&mut reply, Protocol::Resp2).error(&self.abort_multi(connection, number, error));
        self.answer(connection, &reply, Offset(0));
    }

    // ---- commands of the shards --------------------------------------------------------------------------

    fn dispatch_shard(&mut self, call: ShardCall<'_>) -> Flow {
        let ShardCall { row, args, .. } = call;
        if row.traits.has(Traits::BLOCKING) {
            return self.run_blocking(call);
        }
        if self.shards == 1 {
            return self.run_alone(call);
        }
        match (row.route, row.keys) {
            (Route::Keyed, Keys::Range { first, last, .. }) if first == last => {
                self.run_on(self.shard_of(args.at(first as usize)), call)
            }
            (Route::Keyed | Route::Split(_), _) => self.run_keys(call),
            (Route::Every(_), _) if row.traits.has(Traits::WRITE) => self.run_as_transaction(call),
            (Route::Every(gather), _) => self.spread_everywhere(call, Ending::Gather(gather)),
            (Route::Any, _) => {
                let draw = self.owner.random.next_u64();
                self.spread_everywhere(call, Ending::Draw(draw))
            }
            (Route::Cursor, _) => self.run_scan(call),
            (Route::Front, _) => self.run_here(call),
        }
    }

    /// The only shard: no routing, but SCAN's cursor has the same form everywhere.
    fn run_alone(&mut self, call: ShardCall<'_>) -> Flow {
        match call.row.route {
            Route::Cursor => self.run_scan(call),
            Route::Keyed | Route::Split(_) | Route::Every(_) | Route::Any | Route::Front => self.run_here(call),
        }
    }

    fn run_on(&mut self, shard: ShardId, call: ShardCall<'_>) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let session = &mut self.sessions[connection.index as usize];
        if session.flying > 0 && session.flying_to != shard {
            return wait_for_replies(session);
        }
        if shard == self.shard {
            if self.must_wait(row, args) {
                self.park_own(call);
                return Flow::Done;
            }
            return self.run_here(call);
        }
        if !self.has_credit(shard) {
            return Flow::Hold;
        }
        let session = &mut self.sessions[connection.index as usize];
        session.flying += 1;
        session.flying_to = shard;
        let (db, protocol) = (session.db, session.protocol);
        let slot = if mutes(session.reply_mode) { MUTED_SLOT } else { session.replies.reserve() };
        let ticket = Ticket { connection, slot, part: 0, spread: false };
        self.call(shard, ticket, Work::Command(number), db, protocol, args.iter());
        Flow::Done
    }

    /// Over several shards: takes intents on all of them first.
    fn run_as_transaction(&mut self, call: ShardCall<'_>) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let session = &mut self.sessions[connection.index as usize];
        if session.flying > 0 {
            return wait_for_replies(session);
        }
        let (db, protocol) = (session.db, session.protocol);
        let planned = self.plan_alone(Request { number, row, args, db, draw: 0 }, protocol);
        self.begin_planned(connection, number, planned, Beginning::default)
    }

    /// A transaction of one command.
    pub(super) fn plan_alone(&self, request: Request<'_>, protocol: Protocol) -> Result<Program, CommandError> {
        let Request { row, args, .. } = request;
        let scratch = program::needs_scratch(&self.slots, row, &args) && !matches!(row.route, Route::Split(_));
        let kind = if scratch { Kind::Steps { scratch: true } } else { Kind::Direct };
        let mut program = Program::new(kind, self.slots, self.shard, protocol);
        program.add(request)?;
        Ok(program)
    }

    /// Begins it, unless its arguments are wrong, or lanes are full.
    pub(super) fn begin_planned(
        &mut self,
        connection: ConnectionId,
        number: CommandNumber,
        planned: Result<Program, CommandError>,
        beginning: impl FnOnce() -> Beginning,
    ) -> Flow {
        match planned {
            Ok(program) if !self.have_credit(&program) => return Flow::Hold,
            Ok(program) => self.begin_transaction(connection, program, beginning()),
            Err(error) => self.refuse_call(connection, Some(number), &error),
        }
        Flow::Done
    }

    pub(super) fn have_credit(&self, program: &Program) -> bool {
        program.participants().all(|shard| self.has_credit(shard))
    }

    /// Runs on this core's shard, and puts the reply where it belongs.
    pub(super) fn run_here(&mut self, call: ShardCall<'_>) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let session = &mut self.sessions[connection.index as usize];
        let caller = Caller { db: session.db, now: self.now, protocol: session.protocol };
        if session.replies.is_direct() && session.reply_mode == ReplyMode::On {
            // The way of nearly every call: the reply is written where it will be sent from.
            let mut out = std::mem::take(&mut session.replies.out);
            let start = out.len();
            let until = self.execute(number, row, args, caller, &mut out);
            let session = &mut self.sessions[connection.index as usize];
            session.replies.out = out;
            if until > self.log.released {
                session.replies.hold_back(start, until);
                self.mark_gated(connection);
            }
            self.mark_dirty(connection);
        } else {
            let mut out = std::mem::take(&mut self.scratch);
            out.clear();
            let until = self.execute(number, row, args, caller, &mut out);
            self.answer(connection, &out, until);
            self.scratch = out;
        }
        Flow::Done
    }

    /// Executes and measures; the offset that must be committed before the reply may be seen (0: at once).
    pub(super) fn execute(
        &mut self,
        number: CommandNumber,
        row: &'static Row<Handler>,
        args: Args<'_>,
        caller: Caller,
        out: &mut Vec<u8>,
    ) -> Offset {
        let start = out.len();
        if row.traits.has(Traits::WRITE)
            && let Some(error) = self.log.refusal(self.shard)
        {
            Reply::new(out, caller.protocol).error(&error);
            self.latency.rejected(Some(number), &error);
            return Offset(0);
        }
        let edited = self.owner.execute(row, args, caller, out);
        let failed = out.get(start) == Some(&b'-');
        // An attempt in vain will come again, and counts when it gives something.
        if !is_wait(&out[start..]) {
            self.latency.executed(number, self.ticks, failed.then(|| &out[start..]));
        }
        if !self.log.persistent {
            return Offset(0);
        }
        #[cfg(feature = "planted-bugs")]
        let edited = edited && !planted::is(Planted::AckBeforeWrite);
        if edited {
            let until = self.log.end(&self.owner);
            self.log.note_write(&mut self.owner, row, args, caller.db, until);
            until
        } else {
            let until = self.log.seen_by(&self.owner, row, args, caller.db);
            self.show(until, start, out)
        }
    }

    /// What a read depends on, unless that is lost: a failed log will never have it, and after a restart nobody will.
    fn show(&mut self, until: Offset, start: usize, out: &mut Vec<u8>) -> Offset {
        if self.log.failed.is_none() || self.log.promised || until <= self.log.released {
            return until;
        }
        out.truncate(start);
        let shard = self.shard.0;
        let error = format!("MISCONF This would show what the failed log of shard {shard} lacks; restart to recover");
        Reply::new(out, Protocol::Resp2).error(&CommandError::owned(error));
        Offset(0)
    }

    /// Keys on several positions: on one shard after all, or a transaction.
    fn run_keys(&mut self, call: ShardCall<'_>) -> Flow {
        match self.place_of(call.row, call.args) {
            // No key to find: the handler will say what is wrong.
            Place::Nowhere => self.run_here(call),
            Place::At(home) => self.run_on(home, call),
            Place::Several => self.run_as_transaction(call),
        }
    }

    /// Keys with the shard that has them, each shard once.
    pub(super) fn by_shard<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<(ShardId, Vec<&'k [u8]>)> {
        let mut by_shard: Vec<(ShardId, Vec<&[u8]>)> = Vec::new();
        for key in keys {
            let shard = self.shard_of(key);
            match by_shard.iter_mut().find(|(owner, _)| *owner == shard) {
                Some((_, keys)) => keys.push(key),
                None => by_shard.push((shard, vec![key])),
            }
        }
        by_shard
    }

    pub(super) fn place_of(&mut self, row: &'static Row<Handler>, args: Args<'_>) -> Place {
        let mut positions = std::mem::take(&mut self.key_positions);
        positions.clear();
        let found = row.find_keys(&args, &mut positions) && !positions.is_empty();
        let home = program::home(&self.slots, &args, &positions);
        self.key_positions = positions;
        match home {
            _ if !found => Place::Nowhere,
            Some(home) => Place::At(home),
            None => Place::Several,
        }
    }

    fn spread_everywhere(&mut self, call: ShardCall<'_>, ending: Ending) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let session = &mut self.sessions[connection.index as usize];
        if session.flying > 0 {
            return wait_for_replies(session);
        }
        if !(0..self.shards).all(|shard| self.has_credit(ShardId(shard))) {
            return Flow::Hold;
        }
        let mut gathering = Gathering::new(ending, self.shards as usize, self.protocol(connection));
        self.hold_for(connection, &mut gathering);
        let slot = self.reserve_gathering(connection, gathering);
        for shard in 0..self.shards {
            let ticket = Ticket { connection, slot, part: shard, spread: true };
            self.call_or_run(ShardId(shard), ticket, number, row, args.iter());
        }
        Flow::Done
    }

    /// What follows on the connection waits for the gathering.
    pub(super) fn hold_for(&mut self, connection: ConnectionId, gathering: &mut Gathering) {
        gathering.holds = true;
        self.sessions[connection.index as usize].held = true;
    }

    /// A part of a spread command: over the lane, or right here.
    fn call_or_run<'a>(
        &mut self,
        shard: ShardId,
        ticket: Ticket,
        number: CommandNumber,
        row: &'static Row<Handler>,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        let session = &self.sessions[ticket.connection.index as usize];
        let (db, protocol) = (session.db, session.protocol);
        if shard != self.shard {
            return self.call(shard, ticket, Work::Command(number), db, protocol, args);
        }
        let (bytes, spans) = copy_args(args);
        let caller = Caller { db, now: self.now, protocol };
        let mut out = Vec::new();
        let until = self.run_part(number, row, Args::new(&bytes, &spans), caller, &mut out);
        self.deliver(ticket, &out, until);
    }

    /// A part: as a whole command, but RANDOMKEY's tells the number of keys first, for the draw.
    pub(super) fn run_part(
        &mut self,
        number: CommandNumber,
        row: &'static Row<Handler>,
        args: Args<'_>,
        caller: Caller,
        out: &mut Vec<u8>,
    ) -> Offset {
        if row.route == Route::Any {
            let keys = self.owner.keyspace.len(caller.db) as i64;
            Reply::new(out, caller.protocol).integer(keys);
        }
        self.execute(number, row, args, caller, out)
    }

    // ---- SCAN ---------------------------------------------------------------------------------------------

    /// The client's cursor names the shard; shards are walked in order.
    fn run_scan(&mut self, call: ShardCall<'_>) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let (shard, local) = gather::split_cursor(args.at(1), self.shards);
        let session = &mut self.sessions[connection.index as usize];
        // Though they be on the same shard: the last of their replies would end the wait for this one.
        if session.flying > 0 {
            return wait_for_replies(session);
        }
        if !self.has_credit(shard) {
            return Flow::Hold;
        }
        let ending = Ending::Scan { shard, shards: self.shards };
        let mut gathering = Gathering::new(ending, 1, self.protocol(connection));
        self.hold_for(connection, &mut gathering);
        let slot = self.reserve_gathering(connection, gathering);
        let ticket = Ticket { connection, slot, part: 0, spread: true };
        let rewritten = [args.at(0), &local].into_iter().chain(args.from(2).iter());
        self.call_or_run(shard, ticket, number, row, rewritten);
        Flow::Done
    }

    // ---- commands of the server ---------------------------------------------------------------------------

    fn dispatch_server(
        &mut self,
        connection: ConnectionId,
        number: CommandNumber,
        row: &'static Row<ServerHandler>,
        args: Args<'_>,
    ) -> Flow {
        let everywhere = matches!(row.handler, ServerHandler::Everywhere { .. });
        if everywhere && !(0..self.shards).all(|shard| self.has_credit(ShardId(shard))) {
            return Flow::Hold;
        }
        let run = match row.handler {
            ServerHandler::Here(run) => run,
            ServerHandler::Everywhere { check, .. } => check,
            ServerHandler::Flow(run) => return run(self, connection, number, args),
        };
        let mut out = Vec::new();
        let mut call = ServerCall { core: self, connection, args, out: &mut out, name: row.name, asked_in: None };
        let result = run(&mut call);
        if let Err(error) = &result {
            out.clear();
            Reply::new(&mut out, Protocol::Resp2).error(error);
        }
        let failed = out.first() == Some(&b'-');
        self.latency.executed(number, self.ticks, failed.then_some(&out));
        match row.handler {
            // A check that has already replied has settled the call (CLIENT KILL of the caller, HELP).
            ServerHandler::Everywhere { part, .. } if out.is_empty() => {
                self.run_everywhere(connection, number, part, args)
            }
            ServerHandler::Here(_) | ServerHandler::Everywhere { .. } | ServerHandler::Flow(_) => {
                self.answer(connection, &out, Offset(0))
            }
        }
        Flow::Done
    }

    fn run_everywhere(
        &mut self,
        connection: ConnectionId,
        number: CommandNumber,
        part: fn(&mut Core, Args<'_>, &mut Vec<u8>),
        args: Args<'_>,
    ) {
        let appended = self.appended.take();
        let (bytes, spans) = copy_args(args.iter().chain(appended.as_deref()));
        let args = Args::new(&bytes, &spans);
        let ending = Ending::Server { command: number, args: args.iter().map(<[u8]>::to_vec).collect() };
        let protocol = self.protocol(connection);
        let slot = self.reserve_gathering(connection, Gathering::new(ending, self.shards as usize, protocol));
        let db = self.sessions[connection.index as usize].db;
        for shard in (0..self.shards).map(ShardId) {
            let ticket = Ticket { connection, slot, part: shard.0, spread: true };
            if shard == self.shard {
                let mut out = Vec::new();
                self.caller = Some(connection);
                part(self, args, &mut out);
                self.caller = None;
                self.deliver(ticket, &out, Offset(0));
            } else {
                self.call(shard, ticket, Work::Core(number), db, protocol, args.iter());
            }
        }
    }

    // ---- replies -------------------------------------------------------------------------------------------

    /// Gives a connection its next reply, which may go out once the log is committed up to `until`.
    pub(super) fn answer(&mut self, connection: ConnectionId, reply: &[u8], until: Offset) {
        let released = self.log.released;
        let Some(session) = self.session_mut(connection) else { return };
        if mutes(session.reply_mode) || reply.is_empty() {
            return;
        }
        if session.replies.is_direct() && until <= released {
            session.replies.out.extend_from_slice(reply);
        } else {
            session.replies.push(reply, until);
            self.mark_gated(connection);
        }
        self.mark_dirty(connection);
    }

    pub(super) fn protocol(&self, connection: ConnectionId) -> Protocol {
        self.session(connection).map_or(Protocol::Resp2, |session| session.protocol)
    }

    /// Ends a connection whose client doesn't read, before it takes the memory of others.
    pub(super) fn check_output(&mut self, connection: ConnectionId) {
        let limit = self.config.output_normal;
        let now_ms = self.now.steady_ms;
        let Some(session) = self.session_mut(connection) else { return };
        let bytes = session.replies.bytes() as u64;
        let over_hard = limit.hard_bytes != 0 && bytes > limit.hard_bytes;
        let over_soft = limit.soft_bytes != 0 && bytes > limit.soft_bytes;
        if !over_soft {
            session.over_soft_limit_since_ms = None;
        }
        let since = over_soft.then(|| *session.over_soft_limit_since_ms.get_or_insert(now_ms));
        let too_long = since.is_some_and(|since| now_ms - since >= limit.soft_seconds * 1000);
        if over_hard || too_long {
            self.stats.output_buffer_limit_disconnections += 1;
            self.close(connection, Closing::Now);
        }
    }
}

/// The slot of a reply that nobody wants (CLIENT REPLY OFF).
pub(super) const MUTED_SLOT: u64 = u64::MAX;

pub(super) fn mutes(mode: ReplyMode) -> bool {
    match mode {
        ReplyMode::On | ReplyMode::SkipNext => false,
        ReplyMode::Off | ReplyMode::Skipping => true,
    }
}

/// Redis' order of checks: the command exists, then its arity, then authentication.
#[inline(always)] // Otherwise its result, which is nearly always fine, goes through memory.
fn admit(command: &Command, authenticated: bool, args: Args<'_>) -> Result<(), CommandError> {
    if !command.subcommands.is_empty() && args.len() > 1 {
        return Err(unknown_subcommand(command.name(), args.at(1)));
    }
    if !command.accepts(args.len()) {
        return Err(CommandError::wrong_arity(command.name()));
    }
    if !authenticated && !command.traits().has(Traits::NO_AUTH) {
        return Err(NO_AUTH);
    }
    Ok(())
}

/// Redis' words for a request that names no command, quoting at most 128 bytes of it.
fn unknown_command(args: Args<'_>) -> CommandError {
    let quote = |arg: &[u8], limit: usize| String::from_utf8_lossy(&arg[..arg.len().min(limit)]).into_owned();
    let mut beginning = String::new();
    for arg in args.from(1).iter() {
        if beginning.len() >= 128 {
            break;
        }
        beginning.push_str(&format!("'{}' ", quote(arg, 128 - beginning.len())));
    }
    let name = quote(args.at(0), 128);
    CommandError::owned(format!("ERR unknown command '{name}', with args beginning with: {beginning}"))
}

fn unknown_subcommand(parent: &str, sub: &[u8]) -> CommandError {
    let sub = String::from_utf8_lossy(&sub[..sub.len().min(128)]).into_owned();
    let help = parent.to_ascii_uppercase();
    CommandError::owned(format!("ERR unknown subcommand '{sub}'. Try {help} HELP."))
}

/// A database index among the arguments, checked against the number of databases.
pub fn database(core: &Core, arg: &[u8]) -> Result<Db, CommandError> {
    let index = shards::numbers::parse_integer(arg).ok_or(shards::error::NOT_AN_INTEGER)?;
    if (0..core.config.databases as i64).contains(&index) { Ok(Db(index as u16)) } else { Err(DB_OUT_OF_RANGE) }
}

/// Commands of the connection under way to another shard come first, so that effects are seen in the order sent.
pub(super) fn wait_for_replies(session: &mut Session) -> Flow {
    session.held = true;
    Flow::Hold
}

/// Commands that are run rather than queued after MULTI.
fn ends_queueing(run: Run) -> bool {
    match run {
        Run::Shard(_) => false,
        Run::Server(row) => {
            matches!(row.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
        }
    }
}
