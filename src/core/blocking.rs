//! Clients that wait for one of their keys (BLPOP, XREAD BLOCK): from a command's wish to wait to its reply.
//!
//! An attempt is the command as if it had just come, run here or as a transaction. In vain, it leaves a wish; then the client stands in
//! the lines of its keys, whose shards hint when another attempt may help. Meanwhile its session is held. The wait ends with an
//! attempt that gives something, with its time, by CLIENT UNBLOCK, or with the connection. Messages to and from lines are no calls:
//! they take no credit and have no reply, so that nobody has to wait to leave a line.

use super::coordinate::Beginning;
use super::execute::{Place, ShardCall, mutes, wait_for_replies};
use super::{Core, Flow};
use crate::commands::catalog::CommandNumber;
use crate::router::batch::{ConnectionId, LineWork, RemoteCall, Ticket, Work};
use crate::router::program::{Request, copy_args};
use crate::session::Closing;
use shards::call::{Args, Span};
use shards::error::CommandError;
use shards::owner::Caller;
use shards::reply::{Protocol, Reply};
use shards::row::{Handler, Row};
use shards::types::Kind as CollectionKind;
use shards::units::{Db, Offset, ShardId};
use shards::waiting::{Awaited, Readers, Wait, Waiter, Wake, is_wait};
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// How many clients get to try in a turn: those behind them come in the next.
const ATTEMPTS_PER_TURN: usize = 256;

/// The blocked clients of this core.
#[derive(Default)]
pub(super) struct Blocking {
    last_number: u64,
    clients: usize,
    /// When waits end: steady milliseconds, and a connection's index.
    deadlines: BTreeSet<(u64, u32)>,
    /// Those who have a hint, in the order in which it came.
    hinted: VecDeque<(ConnectionId, u64)>,
    wakes: Vec<Wake>,
    /// The server goes down: nobody waits any more.
    closed: bool,
}

/// A command that may be tried more than once.
pub(super) struct Attempt {
    number: CommandNumber,
    row: &'static Row<Handler>,
    db: Db,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// A shard's hint, with the number that it has there.
type Hint = (ShardId, u64);

/// What a connection waits for.
pub struct Blocked {
    /// Which of this core's waits it is: what comes late is for another.
    number: u64,
    attempt: Rc<Attempt>,
    protocol: Protocol,
    slot: Option<u64>,
    deadline_ms: Option<u64>,
    /// Where it stands in lines.
    shards: SmallVec<[ShardId; 2]>,
    /// The last hint of each shard that no attempt has heeded.
    hints: SmallVec<[Hint; 2]>,
    /// An attempt is under way as a transaction, and heeds these.
    heeded: Option<SmallVec<[Hint; 2]>>,
    /// How the wait ends if that attempt is in vain.
    ends: Option<End>,
}

/// How a wait ends without an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    TimedOut,
    /// CLIENT UNBLOCK with ERROR.
    Unblocked,
    /// The client has gone, or the server goes: nobody reads a reply.
    Closed,
}

const UNBLOCKED: CommandError = CommandError::new("UNBLOCKED client unblocked via CLIENT UNBLOCK");

impl Attempt {
    fn of(request: Request<'_>) -> Attempt {
        let Request { number, row, args, db, .. } = request;
        let (bytes, spans) = copy_args(args.iter());
        Attempt { number, row, db, bytes, spans }
    }
    fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }
    fn request(&self) -> Request<'_> {
        Request { number: self.number, row: self.row, args: self.args(), db: self.db, draw: 0 }
    }
}

impl Blocked {
    /// Where its reply goes, if it is wanted.
    pub(super) fn slot(&self) -> Option<u64> {
        self.slot
    }
}

impl Core {
    /// A command that may have to wait.
    pub(super) fn run_blocking(&mut self, call: ShardCall<'_>) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let session = &mut self.sessions[connection.index as usize];
        if session.flying > 0 {
            return wait_for_replies(session);
        }
        let (db, protocol) = (session.db, session.protocol);
        let request = Request { number, row, args, db, draw: 0 };
        match self.place_of(row, args) {
            // No key to find: the handler will say what is wrong.
            Place::Nowhere => self.run_here(call),
            Place::At(shard) if shard == self.shard && !self.must_wait(row, args) => {
                self.try_here_first(connection, request, protocol);
                Flow::Done
            }
            Place::At(_) | Place::Several => {
                let planned = self.plan_alone(request, protocol);
                let attempt = || Beginning { attempt: Some(Rc::new(Attempt::of(request))), ..Beginning::default() };
                self.begin_planned(connection, number, planned, attempt)
            }
        }
    }

    /// The first attempt, on this core's shard. What it was is kept only if it was in vain.
    fn try_here_first(&mut self, connection: ConnectionId, request: Request<'_>, protocol: Protocol) {
        let mut out = Vec::new();
        let until = self.try_here(request, protocol, &mut out);
        match Wait::in_place_of(&out) {
            None => self.answer(connection, &out, until),
            Some(wait) => {
                let session = &mut self.sessions[connection.index as usize];
                session.held = true;
                let slot = (!mutes(session.reply_mode)).then(|| session.replies.reserve());
                self.block(connection, slot, Rc::new(Attempt::of(request)), &wait);
            }
        }
    }

    fn try_here(&mut self, request: Request<'_>, protocol: Protocol, out: &mut Vec<u8>) -> Offset {
        let Request { number, row, args, db, .. } = request;
        self.execute(number, row, args, Caller { db, now: self.now, protocol }, out)
    }

    /// An attempt as a transaction was in vain.
    pub(super) fn tried_in_vain(
        &mut self,
        connection: ConnectionId,
        slot: Option<u64>,
        attempt: Rc<Attempt>,
        wait: &Wait<'_>,
    ) {
        let Some(session) = self.session(connection) else { return };
        if session.blocked.is_some() {
            self.wait_on(connection);
        } else {
            self.block(connection, slot, attempt, wait);
        }
    }

    // ---- lines ---------------------------------------------------------------------------------------------

    /// The first attempt was in vain: the client begins to wait. Its session is held.
    fn block(&mut self, connection: ConnectionId, slot: Option<u64>, attempt: Rc<Attempt>, wait: &Wait<'_>) {
        let attempt = match wait.retry.is_empty() {
            true => attempt,
            false => {
                let (bytes, spans) = copy_args(wait.retry.iter().copied());
                Rc::new(Attempt { bytes, spans, ..*attempt })
            }
        };
        self.blocking.last_number += 1;
        let number = self.blocking.last_number;
        // A millisecond more: the turn that began it may have been the last moment of its own.
        let deadline = |ms: u64| self.now.steady_ms.saturating_add(ms).saturating_add(1);
        let deadline_ms = (wait.timeout_ms > 0).then(|| deadline(wait.timeout_ms));
        let Some(session) = self.session_mut(connection) else { return };
        session.blocked = Some(Box::new(Blocked {
            number,
            attempt: attempt.clone(),
            protocol: session.protocol,
            slot,
            deadline_ms,
            shards: SmallVec::new(),
            hints: SmallVec::new(),
            heeded: None,
            ends: None,
        }));
        let stays = !session.input_ended && session.closing == Closing::Open;
        self.blocking.clients += 1;
        if !stays || self.blocking.closed {
            return self.end_wait(connection, End::Closed);
        }
        self.blocking.deadlines.extend(deadline_ms.map(|at| (at, connection.index)));
        self.join_lines(connection, number, &attempt, wait);
    }

    fn join_lines(&mut self, connection: ConnectionId, number: u64, attempt: &Attempt, wait: &Wait<'_>) {
        let args = attempt.args();
        let mut positions = Vec::new();
        attempt.row.find_keys(&args, &mut positions);
        if wait.keys == Awaited::First {
            positions.truncate(1);
        }
        let by_shard = self.by_shard(positions.iter().map(|&at| args.at(at)));
        let what = readers_to_bytes(wait.kind, wait.readers);
        for (shard, keys) in &by_shard {
            let args = std::iter::once(&what[..]).chain(keys.iter().copied());
            self.tell_line(*shard, connection, number, LineWork::Join, attempt.db, args);
        }
        let session = self.session_mut(connection).expect("it has just begun to wait");
        let blocked = session.blocked.as_mut().expect("it has just begun to wait");
        blocked.shards = by_shard.iter().map(|(shard, _)| *shard).collect();
    }

    /// Tells a shard something about a client of this core that stands in line there.
    fn tell_line<'a>(
        &mut self,
        shard: ShardId,
        connection: ConnectionId,
        number: u64,
        work: LineWork,
        db: Db,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        if shard == self.shard {
            let (bytes, spans) = copy_args(args);
            let waiter = Waiter { front: shard, index: connection.index, generation: connection.generation, number };
            return self.in_line(waiter, work, db, Args::new(&bytes, &spans));
        }
        let ticket = Ticket { connection, slot: number, part: 0, spread: true };
        self.outboxes[shard.0 as usize].batch.push(ticket, Work::Line(work), db, Protocol::Resp2, args);
        self.stats.lane_calls += 1;
    }

    /// What another core says about lines.
    pub(super) fn on_line(&mut self, from: ShardId, call: &RemoteCall, args: Args<'_>, work: LineWork) {
        let ConnectionId { index, generation } = call.ticket.connection;
        // A hint comes from the line's shard, all else from the client's core.
        let front = if work == LineWork::Hint { self.shard } else { from };
        let waiter = Waiter { front, index, generation, number: call.ticket.slot };
        match work {
            LineWork::Hint => self.on_hint(Wake { waiter, at: number_of(args.at(0)) }, from),
            LineWork::Join | LineWork::Leave | LineWork::Again => self.in_line(waiter, work, call.db, args),
        }
    }

    fn in_line(&mut self, waiter: Waiter, work: LineWork, db: Db, args: Args<'_>) {
        let keyspace = &mut self.owner.keyspace;
        match work {
            LineWork::Join => {
                let (kind, readers) = readers_from_bytes(args.at(0));
                args.from(1).iter().for_each(|key| keyspace.join_line(waiter, kind, readers, db, key));
            }
            LineWork::Leave => keyspace.leave_lines(waiter),
            LineWork::Again => keyspace.waits_again(waiter, number_of(args.at(0))),
            LineWork::Hint => unreachable!("hints go to the client's core"),
        }
    }

    // ---- hints ---------------------------------------------------------------------------------------------

    /// Whether clients wait for a turn to try again, or to be told to.
    pub fn has_blocked_work(&self) -> bool {
        !self.blocking.hinted.is_empty() || self.owner.keyspace.has_wakes()
    }

    /// Ends the waits whose time is over, tells those who stand in line here, and lets own clients try that were told.
    pub fn serve_blocked(&mut self) {
        self.end_overdue();
        self.give_hints();
        for _ in 0..ATTEMPTS_PER_TURN {
            let Some((connection, number)) = self.blocking.hinted.pop_front() else { return };
            if self.try_again(connection, number) == Flow::Hold {
                return self.blocking.hinted.push_front((connection, number));
            }
            self.give_hints();
        }
    }

    fn give_hints(&mut self) {
        let mut wakes = std::mem::take(&mut self.blocking.wakes);
        self.owner.keyspace.take_wakes(&mut wakes);
        for wake in wakes.drain(..) {
            let Waiter { front, index, generation, number } = wake.waiter;
            if front == self.shard {
                self.on_hint(wake, front);
            } else {
                let (connection, at) = (ConnectionId { index, generation }, wake.at.to_le_bytes());
                self.tell_line(front, connection, number, LineWork::Hint, Db(0), std::iter::once(&at[..]));
            }
        }
        self.blocking.wakes = wakes;
    }

    fn on_hint(&mut self, wake: Wake, from: ShardId) {
        let Waiter { index, generation, number, .. } = wake.waiter;
        let connection = ConnectionId { index, generation };
        let Some(blocked) = self.blocked(connection, number) else { return };
        let first = blocked.hints.is_empty();
        match blocked.hints.iter_mut().find(|(shard, _)| *shard == from) {
            Some((_, at)) => *at = wake.at.max(*at),
            None => blocked.hints.push((from, wake.at)),
        }
        if first && blocked.heeded.is_none() {
            self.blocking.hinted.push_back((connection, number));
        }
    }

    fn blocked(&mut self, connection: ConnectionId, number: u64) -> Option<&mut Blocked> {
        let blocked = self.session_mut(connection)?.blocked.as_deref_mut()?;
        (blocked.number == number).then_some(blocked)
    }

    /// `Hold`: not now.
    fn try_again(&mut self, connection: ConnectionId, number: u64) -> Flow {
        let Some(blocked) = self.blocked(connection, number) else { return Flow::Done };
        let (attempt, protocol, slot) = (blocked.attempt.clone(), blocked.protocol, blocked.slot);
        let place = self.place_of(attempt.row, attempt.args());
        if place == Place::At(self.shard) && !self.must_wait(attempt.row, attempt.args()) {
            self.heed(connection);
            let mut out = Vec::new();
            let until = self.try_here(attempt.request(), protocol, &mut out);
            if is_wait(&out) {
                self.wait_on(connection);
            } else {
                self.leave_lines(connection);
                self.end_with(connection, slot, &out, until);
            }
            return Flow::Done;
        }
        let program = self.plan_alone(attempt.request(), protocol).expect("it was planned before");
        if !self.have_credit(&program) {
            return Flow::Hold;
        }
        self.heed(connection);
        self.begin_transaction(connection, program, Beginning { attempt: Some(attempt), ..Beginning::default() });
        Flow::Done
    }

    /// An attempt begins, which heeds the hints so far.
    fn heed(&mut self, connection: ConnectionId) {
        let session = self.session_mut(connection).expect("whoever tries is connected");
        let blocked = session.blocked.as_mut().expect("whoever tries waits");
        debug_assert!(blocked.heeded.is_none(), "one attempt at a time");
        blocked.heeded = Some(std::mem::take(&mut blocked.hints));
    }

    /// Another attempt was in vain.
    fn wait_on(&mut self, connection: ConnectionId) {
        let session = self.session_mut(connection).expect("the caller has looked");
        let blocked = session.blocked.as_mut().expect("the caller has looked");
        let heeded = blocked.heeded.take().expect("an attempt was under way");
        let (number, db) = (blocked.number, blocked.attempt.db);
        let (hinted, ends) = (!blocked.hints.is_empty(), blocked.ends);
        if let Some(end) = ends {
            return self.end_wait(connection, end);
        }
        for (shard, at) in heeded {
            let at = at.to_le_bytes();
            self.tell_line(shard, connection, number, LineWork::Again, db, std::iter::once(&at[..]));
        }
        if hinted {
            self.blocking.hinted.push_back((connection, number));
        }
    }

    // ---- ends ----------------------------------------------------------------------------------------------

    /// The client waits no more, if it did: it has been served, or goes.
    pub(super) fn leave_lines(&mut self, connection: ConnectionId) -> Option<Box<Blocked>> {
        let blocked = self.session_mut(connection)?.blocked.take()?;
        self.blocking.clients -= 1;
        if let Some(at) = blocked.deadline_ms {
            self.blocking.deadlines.remove(&(at, connection.index));
        }
        for &shard in &blocked.shards {
            self.tell_line(shard, connection, blocked.number, LineWork::Leave, blocked.attempt.db, std::iter::empty());
        }
        Some(blocked)
    }

    /// Ends a client's wait, if it waits: at once, or after the attempt that is under way, if that is in vain. Whether it waited.
    pub(super) fn stop_waiting(&mut self, connection: ConnectionId, end: End) -> bool {
        let Some(blocked) = self.session_mut(connection).and_then(|session| session.blocked.as_mut()) else {
            return false;
        };
        if blocked.heeded.is_some() {
            blocked.ends.get_or_insert(end);
        } else {
            self.end_wait(connection, end);
        }
        true
    }

    fn end_wait(&mut self, connection: ConnectionId, end: End) {
        let Some(blocked) = self.leave_lines(connection) else { return };
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, blocked.protocol);
        match end {
            End::TimedOut => reply.null_array(),
            End::Unblocked => reply.error(&UNBLOCKED),
            End::Closed => {}
        }
        self.end_with(connection, blocked.slot, &out, Offset(0));
        let open = |core: &Core| core.session(connection).is_some_and(|session| session.closing == Closing::Open);
        if end == End::Closed && open(self) {
            self.close(connection, Closing::AfterReplies);
        }
    }

    fn end_with(&mut self, connection: ConnectionId, slot: Option<u64>, reply: &[u8], until: Offset) {
        if let Some(slot) = slot {
            self.fill(connection, slot, reply, until);
        }
        self.unhold(connection);
    }

    fn end_overdue(&mut self) {
        while let Some(&(at, index)) = self.blocking.deadlines.first()
            && at <= self.now.steady_ms
        {
            self.blocking.deadlines.pop_first();
            let connection = self.sessions.get(index as usize).map(|session| session.connection);
            self.stop_waiting(connection.expect("who goes takes its deadline along"), End::TimedOut);
        }
    }

    /// When the next wait ends, steady milliseconds.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        self.blocking.deadlines.first().map(|(at, _)| *at)
    }

    pub fn blocked_clients(&self) -> usize {
        self.blocking.clients
    }

    /// The server goes down: nobody waits any more, nor begins to.
    pub fn end_all_waits(&mut self) {
        self.blocking.closed = true;
        let waiting = self.sessions().filter(|session| session.blocked.is_some());
        let waiting: Vec<ConnectionId> = waiting.map(|session| session.connection).collect();
        for connection in waiting {
            self.stop_waiting(connection, End::Closed);
        }
    }

    /// CLIENT UNBLOCK: whether the client with this number waited, here.
    pub fn unblock(&mut self, id: u64, end: End) -> bool {
        let connection = self.sessions().find(|session| session.id == id).map(|session| session.connection);
        connection.is_some_and(|connection| self.stop_waiting(connection, end))
    }
}

fn readers_to_bytes(kind: CollectionKind, readers: Readers) -> [u8; 10] {
    let (how, group) = match readers {
        Readers::Exclusive => (0, 0),
        Readers::Shared => (1, 0),
        Readers::Group(group) => (2, group),
    };
    let mut bytes = [kind as u8, how, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[2..].copy_from_slice(&group.to_le_bytes());
    bytes
}

fn readers_from_bytes(bytes: &[u8]) -> (CollectionKind, Readers) {
    let kind = CollectionKind::from_byte(bytes[0]).expect("written by `readers_to_bytes`");
    let readers = match bytes[1] {
        0 => Readers::Exclusive,
        1 => Readers::Shared,
        _ => Readers::Group(number_of(&bytes[2..])),
    };
    (kind, readers)
}

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes, written by this file"))
}
