//! A shard's side of transactions: questions from fronts, the parts it runs for them, and single commands that wait for
//! intents in their way.

use super::Core;
use super::execute::{MUTED_SLOT, ShardCall};
use crate::commands::ServerHandler;
use crate::commands::catalog::{Catalog, CommandNumber, Run};
use crate::router::batch::{Answer, CallBatch, ConnectionId, Group, Message, Question, RemoteCall, Ticket, Work, ran};
use crate::router::program::{access, copy_args, touches_all};
use shards::call::{Args, Span};
use shards::keyspace::PrefetchTicket;
use shards::owner::{Caller, Owner};
use shards::reply::{Protocol, Reply};
use shards::row::{Handler, Row};
use shards::transaction::{Access, Age, Claim, Participant, Verdict};
use shards::units::{Db, Offset, ShardId};
use shards::watches::Watcher;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;

/// What this shard keeps for transactions.
#[derive(Default)]
pub(super) struct Participation {
    pub(super) intents: Participant,
    /// Parts of other cores' transactions, from the question to the end.
    kept: BTreeMap<Age, Kept>,
    /// Single commands that wait for intents.
    parked: BTreeMap<Age, Parked>,
    /// What other cores' connections sent here behind a parked command of theirs, in order.
    behind: HashMap<(ShardId, ConnectionId), VecDeque<Parked>>,
    /// Long transactions whose edits are to become one record.
    pub(super) holding_log: BTreeSet<Age>,
    pub(super) positions: Vec<usize>,
    prefetching: Vec<(Db, PrefetchTicket)>,
}

struct Kept {
    ticket: Ticket,
    question: Question,
    calls: CallBatch,
}

/// A single command that waits, with what its reply needs.
struct Parked {
    /// The core that the caller is connected to.
    from: ShardId,
    ticket: Ticket,
    number: CommandNumber,
    row: &'static Row<Handler>,
    caller: (Db, Protocol),
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Keys prefetched together, before the first of their commands runs.
const PREFETCHED_TOGETHER: usize = 64;

impl Participation {
    pub(super) fn is_idle(&self) -> bool {
        self.intents.is_idle() && self.kept.is_empty() && self.behind.is_empty()
    }
}

impl Core {
    // ---- messages ------------------------------------------------------------------------------------------

    /// A message of a transaction, the call at `at` of the batch; how many of the calls behind it belong to it.
    pub(super) fn on_message(&mut self, from: ShardId, batch: &CallBatch, at: usize, message: Message) -> usize {
        let ticket = batch.calls()[at].ticket;
        let age = ticket.age(from);
        let mut used = 0;
        match message {
            Message::Ask(question) => {
                let question = batch.question(question);
                used = question.calls as usize;
                self.on_question(from, ticket, question, batch, at + 1..at + 1 + used);
            }
            Message::AskAgain(question) => {
                // Otherwise it has objected, and its front will give it up when it hears of that.
                if let Some(kept) = self.participation.kept.remove(&age) {
                    let question = Question { ask: batch.question(question).ask, ..kept.question };
                    self.on_question(from, ticket, &question, &kept.calls, 0..kept.calls.len());
                }
            }
            Message::LetGo => self.participation.intents.release(age),
            Message::Run => {
                let kept = self.participation.kept.remove(&age).expect("it was asked before");
                let group = kept.question.group.as_ref();
                self.run_and_answer(from, ticket, &kept.calls, 0..kept.calls.len(), group, kept.question.whole);
                self.owner.keyspace.unwatch(Watcher(kept.question.watcher));
                self.release_intents(age);
            }
            Message::Step(step) => {
                let step = batch.step(step);
                used = step.calls as usize;
                if self.participation.kept.get(&age).is_some_and(|kept| kept.question.holds_log) {
                    self.hold_log(age);
                }
                self.run_and_answer(from, ticket, batch, at + 1..at + 1 + used, step.group.as_ref(), true);
            }
            Message::Forget => {
                if let Some(kept) = self.participation.kept.remove(&age) {
                    self.owner.keyspace.unwatch(Watcher(kept.question.watcher));
                }
                self.release_intents(age);
            }
            Message::Ends => self.on_ends(from, ticket.slot, batch.args(&batch.calls()[at]).at(0)),
        }
        self.serve_granted();
        used
    }

    fn on_question(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        question: &Question,
        calls: &CallBatch,
        range: Range<usize>,
    ) {
        let age = ticket.age(from);
        let idle = self.participation.intents.is_idle();
        // A group keeps its intents for a while; anything else that runs at once doesn't need to have them.
        let at_once = question.ask.run && question.group.is_none();
        let claim = if idle && at_once { Claim::default() } else { self.claim(calls, range.clone()) };
        if at_once && (idle || !self.participation.intents.conflicts(&claim)) {
            // The way of nearly every transaction over two shards.
            self.run_if_allowed(from, ticket, question, calls, range);
            return;
        }
        let verdict = self.participation.intents.ask(age, claim, question.ask);
        let mut own = CallBatch::default();
        own.append(calls, range);
        self.participation.kept.insert(age, Kept { ticket, question: question.clone(), calls: own });
        self.act_on(from, age, verdict);
    }

    /// Carries out what the intents say about another core's transaction.
    fn act_on(&mut self, from: ShardId, age: Age, verdict: Verdict) {
        match verdict {
            Verdict::Waits => {}
            Verdict::Yields { attempt } => {
                let ticket = self.participation.kept[&age].ticket;
                self.answer_transaction(from, ticket, Answer::Yielded(attempt), &[]);
            }
            Verdict::Granted { attempt } => {
                let kept = &self.participation.kept[&age];
                let ticket = kept.ticket;
                match self.objection(kept.question.watcher, kept.question.whole, &kept.calls, 0..kept.calls.len()) {
                    None => self.answer_transaction(from, ticket, Answer::Granted(attempt), &[]),
                    Some((answer, error)) => {
                        self.answer_transaction(from, ticket, answer, &error);
                        let kept = self.participation.kept.remove(&age).expect("looked at above");
                        self.owner.keyspace.unwatch(Watcher(kept.question.watcher));
                        self.participation.intents.release(age);
                    }
                }
            }
            Verdict::Run => {
                let kept = self.participation.kept.remove(&age).expect("a part is kept while it waits");
                let range = 0..kept.calls.len();
                self.run_if_allowed(from, kept.ticket, &kept.question, &kept.calls, range);
                self.release_intents(age);
            }
        }
    }

    /// All others hold their intents, and here nobody is in the way.
    fn run_if_allowed(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        question: &Question,
        calls: &CallBatch,
        range: Range<usize>,
    ) {
        match self.objection(question.watcher, question.whole, calls, range.clone()) {
            None => self.run_and_answer(from, ticket, calls, range, question.group.as_ref(), question.whole),
            Some((answer, error)) => self.answer_transaction(from, ticket, answer, &error),
        }
        self.owner.keyspace.unwatch(Watcher(question.watcher));
    }

    /// Why a transaction that holds its intents may not run, if so.
    pub(super) fn objection(
        &self,
        watcher: u64,
        whole: bool,
        calls: &CallBatch,
        range: Range<usize>,
    ) -> Option<(Answer, Vec<u8>)> {
        if watcher != 0 && self.owner.keyspace.is_broken(Watcher(watcher), self.now) {
            return Some((Answer::Broken, Vec::new()));
        }
        let error = self.log.refusal(self.shard).filter(|_| whole)?;
        let writes = calls.calls()[range].iter().any(|call| self.writes(call.work));
        writes.then(|| {
            let mut out = Vec::new();
            Reply::new(&mut out, Protocol::Resp2).error(&error);
            (Answer::Refused, out)
        })
    }

    fn writes(&self, work: Work) -> bool {
        match work {
            Work::Command(number) => self.catalog.get(number).traits().has(shards::row::Traits::WRITE),
            Work::Claim(access) => access == Access::Write,
            Work::Adopt => true,
            Work::Core(_)
            | Work::Fetch { .. }
            | Work::Transaction(_)
            | Work::Line(_)
            | Work::Watch
            | Work::Unwatch
            | Work::WantSnapshot
            | Work::Freeze => false,
        }
    }

    /// Until the transaction's intents are released, the log takes no edits.
    pub(super) fn hold_log(&mut self, age: Age) {
        if self.participation.holding_log.insert(age) {
            self.seal_batch();
        }
    }

    fn writes_whole_databases(&self, work: Work) -> bool {
        let Work::Command(number) = work else { return false };
        match self.catalog.get(number).run {
            Run::Shard(row) => touches_all(row) && access(row) == Access::Write,
            Run::Server(_) => false,
        }
    }

    fn run_and_answer(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        calls: &CallBatch,
        range: Range<usize>,
        group: Option<&Group>,
        whole: bool,
    ) {
        let mut ready = std::mem::take(&mut self.replies[from.0 as usize].ready);
        let start = ready.buffer().len();
        let until = self.run_calls(ticket.age(from), calls, range, group, whole, ready.buffer());
        ready.answer(ticket, Answer::Ran, start);
        self.expect_release(from, until);
        let outbox = &mut self.replies[from.0 as usize];
        let meanwhile = std::mem::replace(&mut outbox.ready, ready);
        if !meanwhile.is_empty() {
            // A group with a shard whose log has failed ends this log, too, and sets others free.
            outbox.ready.append(&meanwhile);
            outbox.ready.log_failed |= meanwhile.log_failed;
        }
    }

    fn answer_transaction(&mut self, from: ShardId, ticket: Ticket, answer: Answer, bytes: &[u8]) {
        let ready = &mut self.replies[from.0 as usize].ready;
        let start = ready.buffer().len();
        ready.buffer().extend_from_slice(bytes);
        ready.answer(ticket, answer, start);
    }

    // ---- running -------------------------------------------------------------------------------------------

    fn claim(&mut self, calls: &CallBatch, range: Range<usize>) -> Claim {
        claim_of(&self.catalog, &self.owner, &mut self.participation.positions, calls, range)
    }

    /// Runs a part's calls one after the other and writes the bytes of an `Answer::Ran`; the offset that they depend on.
    pub(super) fn run_calls(
        &mut self,
        age: Age,
        calls: &CallBatch,
        range: Range<usize>,
        group: Option<&Group>,
        whole: bool,
        out: &mut Vec<u8>,
    ) -> Offset {
        let start = ran::begin(out);
        let group = group.filter(|_| self.log.persistent);
        if group.is_some() && calls.calls()[range.clone()].iter().any(|call| self.writes_whole_databases(call.work)) {
            // Recovery can't leave out the emptying of a database, only cut the log before it: nothing else may be in its record.
            self.seal_batch();
        }
        self.log.promised = whole;
        // A long transaction's edits are all there is in the batch, and all belong to its group.
        let holding = self.participation.holding_log.contains(&age);
        let edits_before = if holding { 0 } else { self.owner.keyspace.edits().len() };
        let mut until = Offset(0);
        let mut at = range.start;
        while at < range.end {
            let together = self.prefetch_calls(calls, at..range.end);
            for call in &calls.calls()[at..together] {
                let done = match call.work {
                    Work::Claim(_) => Offset(0),
                    Work::Command(_)
                    | Work::Core(_)
                    | Work::Fetch { .. }
                    | Work::Adopt
                    | Work::Transaction(_)
                    | Work::Line(_)
                    | Work::Watch
                    | Work::Unwatch
                    | Work::WantSnapshot
                    | Work::Freeze => ran::reply(out, |out| self.run_call(call, calls.args(call), out)),
                };
                until = until.max(done);
            }
            at = together;
        }
        self.log.promised = false;
        if let Some(group) = group {
            #[cfg(feature = "planted-bugs")]
            crate::runtime::planted::lose_half_a_group(
                &mut self.owner.keyspace,
                self.shard,
                (group.number, &group.participants),
                edits_before,
            );
            if self.owner.keyspace.edits().len() == edits_before {
                // The group must be found in this shard's log all the same, at an offset of its own.
                self.owner.keyspace.nothing();
            }
            until = self.log.end(&self.owner);
            self.note_group(age, group, edits_before..self.owner.keyspace.edits().len());
        }
        ran::end(out, start, until);
        until
    }

    /// Starts loading what the next calls will touch, some at a time; the first call that is left out.
    fn prefetch_calls(&mut self, calls: &CallBatch, range: Range<usize>) -> usize {
        let mut tickets = std::mem::take(&mut self.participation.prefetching);
        tickets.clear();
        let mut end = range.start;
        for call in &calls.calls()[range] {
            end += 1;
            let args = calls.args(call);
            if let Work::Command(number) = call.work
                && let Run::Shard(row) = self.catalog.get(number).run
                && let shards::row::Keys::Range { first, step, last, .. } = row.keys
            {
                let last = if last < 0 { args.len() } else { args.len().min(last as usize + 1) };
                for at in (first as usize..last).step_by(step as usize) {
                    tickets.push((call.db, self.owner.keyspace.prefetch_bucket(call.db, args.at(at))));
                }
            }
            if tickets.len() >= PREFETCHED_TOGETHER {
                break;
            }
        }
        tickets.iter().for_each(|(db, ticket)| self.owner.keyspace.prefetch_entry(*db, *ticket));
        self.participation.prefetching = tickets;
        end
    }

    /// Runs what another core asked for, or a part of this core's own; the offset that the reply depends on.
    pub(super) fn run_call(&mut self, call: &RemoteCall, args: Args<'_>, out: &mut Vec<u8>) -> Offset {
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
                        ServerHandler::Here(_) | ServerHandler::Flow(_) => unreachable!("only its own core runs it"),
                    },
                    Run::Shard(_) => unreachable!("a shard's command is called as such"),
                }
                Offset(0)
            }
            Work::Fetch { all_databases } => self.fetch(call.db, all_databases, args, out),
            Work::Adopt => self.adopt(args.at(0), out),
            Work::Watch => {
                self.watch(args);
                Reply::new(out, Protocol::Resp2).ok();
                Offset(0)
            }
            Work::Unwatch => {
                self.owner.keyspace.unwatch(watcher(args.at(0)));
                Offset(0)
            }
            Work::WantSnapshot => {
                self.request_snapshot(args.at(0), args.get(1));
                Offset(0)
            }
            Work::Freeze => {
                let ids = args.at(1);
                match args.get(2) {
                    None => self.freeze(u64::from_le_bytes(args.at(0).try_into().expect("eight bytes")), ids),
                    Some(why) => self.refuse_snapshot(why, ids),
                }
                Offset(0)
            }
            Work::Claim(_) | Work::Transaction(_) | Work::Line(_) => unreachable!("nothing to run by itself"),
        }
    }

    /// The first argument is the watcher, the others are the keys; the database follows from the call.
    pub(super) fn watch(&mut self, args: Args<'_>) {
        let db = Db(u16::from_le_bytes(args.at(1).try_into().expect("two bytes")));
        for key in args.from(2).iter() {
            self.owner.keyspace.watch(watcher(args.at(0)), db, key, self.now);
        }
    }

    // ---- single commands in the way of intents -------------------------------------------------------------

    /// Whether a single command of this shard has to wait for a transaction.
    pub(super) fn must_wait(&mut self, row: &'static Row<Handler>, args: Args<'_>) -> bool {
        if self.participation.intents.is_idle() || touches_all(row) {
            // What looks at all keys outside of a transaction is no snapshot.
            return false;
        }
        let mut positions = std::mem::take(&mut self.participation.positions);
        positions.clear();
        row.find_keys(&args, &mut positions);
        let intents = &self.participation.intents;
        let blocked =
            positions.iter().any(|&at| intents.conflicts_on(intent_hash(&self.owner, args.at(at)), access(row)));
        self.participation.positions = positions;
        blocked
    }

    /// A command of this core's connection waits. Its session is held, so nothing overtakes it.
    pub(super) fn park_own(&mut self, call: ShardCall<'_>) {
        let session = &mut self.sessions[call.connection.index as usize];
        let slot = if super::execute::mutes(session.reply_mode) { MUTED_SLOT } else { session.replies.reserve() };
        session.held = true;
        let caller = (session.db, session.protocol);
        let ticket = Ticket { connection: call.connection, slot, part: 0, spread: true };
        let (bytes, spans) = copy_args(call.args.iter());
        self.park(Parked { from: self.shard, ticket, number: call.number, row: call.row, caller, bytes, spans });
    }

    /// Whether a call of another core has to wait, and if so lets it.
    pub(super) fn parks(&mut self, from: ShardId, call: &RemoteCall, args: Args<'_>) -> bool {
        let Work::Command(number) = call.work else { return false };
        let Run::Shard(row) = self.catalog.get(number).run else { return false };
        let caller = (from, call.ticket.connection);
        let follows = self.participation.behind.contains_key(&caller);
        if !follows && !self.must_wait(row, args) {
            return false;
        }
        let (bytes, spans) = copy_args(args.iter());
        let caller_of = (call.db, call.protocol);
        let parked = Parked { from, ticket: call.ticket, number, row, caller: caller_of, bytes, spans };
        if follows {
            self.participation.behind.get_mut(&caller).expect("just looked").push_back(parked);
        } else {
            self.participation.behind.insert(caller, VecDeque::new());
            self.park(parked);
        }
        true
    }

    fn park(&mut self, parked: Parked) {
        let mut claim = Claim::default();
        let args = Args::new(&parked.bytes, &parked.spans);
        let mut positions = Vec::new();
        parked.row.find_keys(&args, &mut positions);
        positions.iter().for_each(|&at| claim.add(intent_hash(&self.owner, args.at(at)), access(parked.row)));
        claim.settle();
        let age = self.next_age();
        match self.participation.intents.ask_alone(age, claim) {
            Verdict::Waits => {
                self.participation.parked.insert(age, parked);
            }
            Verdict::Run | Verdict::Granted { .. } | Verdict::Yields { .. } => {
                unreachable!("it was parked because somebody is in the way")
            }
        }
    }

    /// Nobody is in its way any more.
    fn run_parked(&mut self, age: Age) {
        let parked = self.participation.parked.remove(&age).expect("it was parked");
        self.run_waited(&parked);
        self.participation.intents.release(age);
        if parked.from == self.shard {
            return self.unhold(parked.ticket.connection);
        }
        let caller = (parked.from, parked.ticket.connection);
        while let Some(next) = self.participation.behind.get_mut(&caller).and_then(VecDeque::pop_front) {
            if self.must_wait(next.row, Args::new(&next.bytes, &next.spans)) {
                return self.park(next);
            }
            self.run_waited(&next);
        }
        self.participation.behind.remove(&caller);
    }

    fn run_waited(&mut self, parked: &Parked) {
        let Parked { from, ticket, number, row, caller: (db, protocol), .. } = *parked;
        let caller = Caller { db, now: self.now, protocol };
        let mut out = Vec::new();
        let until = self.run_part(number, row, Args::new(&parked.bytes, &parked.spans), caller, &mut out);
        if from == self.shard {
            self.deliver(ticket, &out, until);
        } else {
            self.reply_to(from, ticket, &out, until);
        }
    }

    /// Goes on with everybody who was granted meanwhile and with every step that is due, which may grant others.
    #[inline]
    pub(super) fn serve_granted(&mut self) {
        loop {
            if let Some((age, verdict)) = self.participation.intents.next_granted() {
                self.serve(age, verdict);
            } else if let Some(index) = self.coordination.due.pop_front() {
                self.run_step(index);
            } else {
                return;
            }
        }
    }

    fn serve(&mut self, age: Age, verdict: Verdict) {
        if self.participation.parked.contains_key(&age) {
            self.run_parked(age);
        } else if age.front == self.shard {
            self.on_own_verdict(age, verdict);
        } else {
            self.act_on(age.front, age, verdict);
        }
    }
}

/// A watcher's number as it crosses lanes.
fn watcher(arg: &[u8]) -> Watcher {
    Watcher(u64::from_le_bytes(arg.try_into().expect("eight bytes")))
}

/// The intents that calls need.
pub(super) fn claim_of(
    catalog: &Catalog,
    owner: &Owner,
    positions: &mut Vec<usize>,
    calls: &CallBatch,
    range: Range<usize>,
) -> Claim {
    let mut claim = Claim::default();
    for call in &calls.calls()[range] {
        let args = calls.args(call);
        match call.work {
            Work::Command(number) => {
                let Run::Shard(row) = catalog.get(number).run else { continue };
                positions.clear();
                if touches_all(row) {
                    claim.add_whole(access(row));
                } else if row.find_keys(&args, positions) {
                    let keys = positions.iter().map(|&position| args.at(position));
                    keys.for_each(|key| claim.add(intent_hash(owner, key), access(row)));
                }
            }
            Work::Claim(access) if args.is_empty() => claim.add_whole(access),
            Work::Claim(access) => args.iter().for_each(|key| claim.add(intent_hash(owner, key), access)),
            Work::Core(_)
            | Work::Fetch { .. }
            | Work::Adopt
            | Work::Transaction(_)
            | Work::Line(_)
            | Work::Watch
            | Work::Unwatch
            | Work::WantSnapshot
            | Work::Freeze => {}
        }
    }
    claim.settle();
    claim
}

/// The same in all databases: COPY and SWAPDB needn't be thought of.
fn intent_hash(owner: &Owner, key: &[u8]) -> u64 {
    owner.keyspace.key_hash(Db(0), key)
}
