//! The front's side of transactions: from a program to intents on all its shards, to its parts run there, to its replies.
//!
//! Every step of the way is decided by the pure `Acquisition`; here it is carried out. The session is held until all parts
//! have run, so what it sent later finds them done; its reply may wait longer, for logs.

use super::Core;
use super::blocking::Attempt;
use super::long::Long;
use super::participate::claim_of;
use crate::commands::catalog::Run;
use crate::router::batch::{Answer, CallBatch, ConnectionId, Group, Message, Question, Ticket, Work, ran};
use crate::router::program::{Kind, Planned, Program, Scratch, Step as ProgramStep};
use shards::call::Args;
use shards::reply::{Protocol, Reply};
use shards::transaction::{Acquisition, Age, Ask, Step, Verdict};
use shards::types::Need;
use shards::units::{Db, Offset, ShardId};
use shards::watches::Watcher;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// The transactions of this core's connections.
#[derive(Default)]
pub(super) struct Coordination {
    transactions: slab::Slab<Transaction>,
    by_number: BTreeMap<u64, usize>,
    /// Transactions whose next step can be done.
    pub(super) due: VecDeque<usize>,
    /// Long transactions whose next slice can be planned.
    pub(super) long: VecDeque<usize>,
    last_number: u64,
}

impl Coordination {
    pub(super) fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }
}

/// What a transaction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Acquiring,
    /// Answers of so many participants to the calls that they run.
    Running(usize),
    /// The entries for the scratch keyspace.
    Fetching(usize),
    /// The scratch keyspace's edits are on their way home.
    Settling(usize),
}

pub(super) struct Transaction {
    pub(super) connection: ConnectionId,
    /// Where its reply goes; `None` if nobody wants it.
    pub(super) slot: Option<u64>,
    pub(super) age: Age,
    /// EXEC: the replies are the elements of an array.
    pub(super) exec: bool,
    pub(super) protocol: Protocol,
    pub(super) watcher: u64,
    pub(super) program: Program,
    pub(super) acquisition: Acquisition,
    pub(super) phase: Phase,
    /// Of programs with steps: the one being done.
    pub(super) step: usize,
    /// Replies by participant, in the form of `ran`.
    pub(super) answers: Vec<Vec<u8>>,
    /// Entries for the scratch keyspace.
    pub(super) fetched: Vec<Vec<u8>>,
    /// Shards that had them from edits which are not in their logs yet.
    pub(super) read_unwritten: SmallVec<[ShardId; 2]>,
    /// It is not to run in part: a shard that takes no writes refuses all of it.
    pub(super) whole: bool,
    /// Replies of commands that ran on it, in the form of `ran` without its start.
    pub(super) scratched: Vec<u8>,
    pub(super) group: Option<Group>,
    /// The participants of the group whose part has run, with its end in their logs.
    pub(super) group_ends: SmallVec<[(ShardId, Offset); 4]>,
    /// What the replies depend on in other shards' logs, and in the own.
    pub(super) waits: SmallVec<[(ShardId, Offset); 2]>,
    pub(super) until: Offset,
    /// What is left to do of one that is too long to be planned at once.
    pub(super) long: Option<Box<Long>>,
    /// A command that may have to wait for its keys.
    pub(super) attempt: Option<Rc<Attempt>>,
}

/// What else a transaction begins with, beside its program.
#[derive(Default)]
pub(super) struct Beginning {
    pub(super) exec: bool,
    /// The client whose watched keys must be unbroken; 0 for none.
    pub(super) watcher: u64,
    pub(super) long: Option<Box<Long>>,
    pub(super) attempt: Option<Rc<Attempt>>,
}

impl Core {
    pub(super) fn next_age(&mut self) -> Age {
        let number = self.ticks().max(self.coordination.last_number + 1);
        self.coordination.last_number = number;
        Age { number, front: self.shard }
    }

    /// Starts a transaction, which ends at once if all of its shards are this one and nobody is in its way.
    pub(super) fn begin_transaction(&mut self, connection: ConnectionId, program: Program, beginning: Beginning) {
        let Beginning { exec, watcher, long, attempt } = beginning;
        let age = self.next_age();
        let (slot, protocol) = match self.session_mut(connection) {
            Some(session) => {
                session.held = true;
                let slot = match &session.blocked {
                    Some(blocked) => blocked.slot(),
                    None => (!super::execute::mutes(session.reply_mode)).then(|| session.replies.reserve()),
                };
                (slot, session.protocol)
            }
            // The server's own.
            None => (None, Protocol::Resp2),
        };
        let direct = program.kind == Kind::Direct;
        let joined = |command: &Planned| matches!(command, Planned::Joined { .. });
        let whole = !direct || exec || program.commands.iter().any(joined);
        let mut transaction = Transaction {
            connection,
            slot,
            age,
            exec,
            protocol,
            watcher,
            acquisition: Acquisition::new(program.participants(), self.shard, direct),
            phase: Phase::Acquiring,
            step: 0,
            answers: vec![Vec::new(); program.parts.len()],
            fetched: Vec::new(),
            read_unwritten: SmallVec::new(),
            whole,
            scratched: Vec::new(),
            group: None,
            group_ends: SmallVec::new(),
            waits: SmallVec::new(),
            until: Offset(0),
            long,
            attempt,
            program,
        };
        if direct && whole {
            let writers = transaction.program.parts.iter().filter(|part| part.writes).map(|part| part.shard);
            transaction.group = self.new_group(writers);
        }
        let mut steps = Vec::new();
        transaction.acquisition.begin(&mut steps);
        let alone = transaction.acquisition.is_empty();
        let index = self.coordination.transactions.insert(transaction);
        self.coordination.by_number.insert(age.number, index);
        if alone {
            return self.finish_transaction(index);
        }
        self.take_steps(index, steps);
        self.serve_granted();
    }

    pub(super) fn transaction(&mut self, index: usize) -> &mut Transaction {
        self.coordination.transactions.get_mut(index).expect("a transaction stays until it is finished")
    }

    fn ticket(&mut self, index: usize, participant: u16) -> (Ticket, ShardId) {
        let transaction = self.transaction(index);
        let shard = transaction.acquisition.shard(participant);
        (Ticket::of_transaction(index as u32, transaction.age, participant), shard)
    }

    // ---- intents -------------------------------------------------------------------------------------------

    fn take_steps(&mut self, index: usize, mut steps: Vec<Step>) {
        let mut at = 0;
        while at < steps.len() {
            match steps[at] {
                Step::Ask(ask) if self.transaction(index).acquisition.shard(ask.participant) == self.shard => {
                    match self.ask_here(index, ask) {
                        Some(Verdict::Granted { attempt }) => {
                            self.transaction(index).acquisition.granted(ask.participant, attempt, &mut steps)
                        }
                        Some(Verdict::Yields { attempt }) => {
                            self.transaction(index).acquisition.yielded(ask.participant, attempt, &mut steps)
                        }
                        Some(Verdict::Waits | Verdict::Run) => {}
                        // It was given up.
                        None => return,
                    }
                }
                Step::Ask(ask) => self.ask_there(index, ask),
                Step::LetGo(participant) => self.let_go(index, participant),
                Step::Run => return self.run_all(index),
            }
            at += 1;
        }
    }

    /// Asks this core's own shard. `None`: it may not run, and was given up.
    fn ask_here(&mut self, index: usize, ask: Ask) -> Option<Verdict> {
        let transaction = &self.coordination.transactions[index];
        let calls = transaction.program.asked(ask.participant as usize);
        let (positions, age) = (&mut self.participation.positions, transaction.age);
        let claim = claim_of(&self.catalog, &self.owner, positions, calls, 0..calls.len());
        // Its own part never runs on the grant: the others' answers decide.
        let verdict = self.participation.intents.ask(age, claim, Ask { run: false, ..ask });
        match verdict {
            Verdict::Granted { .. } if !self.is_allowed_here(index, ask.participant) => None,
            Verdict::Granted { .. } | Verdict::Yields { .. } | Verdict::Waits | Verdict::Run => Some(verdict),
        }
    }

    /// The own shard has granted after a wait.
    pub(super) fn on_own_verdict(&mut self, age: Age, verdict: Verdict) {
        let index = self.coordination.by_number[&age.number];
        let Verdict::Granted { attempt } = verdict else { unreachable!("its own part never runs on the grant") };
        let transaction = self.transaction(index);
        let here = transaction.program.participants().position(|shard| shard == age.front);
        let here = here.expect("it asked its own shard") as u16;
        if self.is_allowed_here(index, here) {
            let mut steps = Vec::new();
            self.transaction(index).acquisition.granted(here, attempt, &mut steps);
            self.take_steps(index, steps);
        }
    }

    /// Whether watched keys and the log let the transaction run here; otherwise it is given up.
    fn is_allowed_here(&mut self, index: usize, participant: u16) -> bool {
        let transaction = &self.coordination.transactions[index];
        let calls = transaction.program.asked(participant as usize);
        match self.objection(transaction.watcher, transaction.whole, calls, 0..calls.len()) {
            None => true,
            Some((answer, error)) => {
                self.give_up(index, answer, &error);
                false
            }
        }
    }

    fn ask_there(&mut self, index: usize, ask: Ask) {
        let (ticket, shard) = self.ticket(index, ask.participant);
        let transaction = &self.coordination.transactions[index];
        let calls = transaction.program.asked(ask.participant as usize);
        let group = self.group_on(index, shard);
        let holds_log = transaction.long.as_ref().is_some_and(|long| long.writes());
        let Transaction { watcher, whole, .. } = *transaction;
        let question = Question { ask, calls: calls.len() as u32, watcher, whole, group, holds_log };
        // What was asked before has been kept there.
        let calls = (ask.attempt == 1).then_some(calls);
        self.outboxes[shard.0 as usize].batch.push_question(ticket, question, calls);
        self.stats.lane_calls += 1;
    }

    fn let_go(&mut self, index: usize, participant: u16) {
        let (ticket, shard) = self.ticket(index, participant);
        if shard == self.shard {
            self.participation.intents.release(ticket.age(shard));
        } else {
            self.message(shard, ticket, Message::LetGo);
        }
    }

    fn message(&mut self, shard: ShardId, ticket: Ticket, message: Message) {
        self.outboxes[shard.0 as usize].batch.push_message(ticket, message);
        self.stats.lane_calls += 1;
    }

    /// Nothing has run, and nothing will: a watched key has changed, or a shard takes no writes.
    fn give_up(&mut self, index: usize, why: Answer, error: &[u8]) {
        self.forget_everywhere(index);
        let transaction = self.remove_transaction(index);
        self.unwatch_everywhere(&transaction);
        let mut reply = Vec::new();
        match why {
            Answer::Broken => Reply::new(&mut reply, transaction.protocol).null_array(),
            Answer::Refused | Answer::Reply | Answer::Granted(_) | Answer::Yielded(_) | Answer::Ran => {
                // A pipeline is so many replies.
                let replies =
                    if transaction.exec || transaction.long.is_some() { 1 } else { transaction.program.commands.len() };
                (0..replies).for_each(|_| reply.extend_from_slice(error));
            }
        }
        self.reply_to_transaction(&transaction, &reply);
    }

    /// Those that were never asked know the client's watch, but not the transaction.
    fn unwatch_everywhere(&mut self, transaction: &Transaction) {
        if transaction.watcher != 0 {
            let shards = transaction.program.participants();
            shards.for_each(|shard| self.unwatch_on(shard, transaction.connection, transaction.watcher));
        }
    }

    /// Tells all participants that may know of it to forget it, and that its client watches no more.
    fn forget_everywhere(&mut self, index: usize) {
        let participants = self.transaction(index).acquisition.len() as u16;
        for participant in 0..participants {
            let (ticket, shard) = self.ticket(index, participant);
            if shard == self.shard {
                let watcher = self.transaction(index).watcher;
                self.owner.keyspace.unwatch(Watcher(watcher));
                self.release_intents(ticket.age(shard));
            } else {
                self.message(shard, ticket, Message::Forget);
            }
        }
    }

    // ---- answers -------------------------------------------------------------------------------------------

    /// What a participant says to a transaction of this core.
    pub(super) fn on_answer(&mut self, from: ShardId, ticket: Ticket, answer: Answer, bytes: &[u8]) {
        let index = ticket.connection.index as usize;
        let known = |transaction: &Transaction| transaction.age.number == ticket.slot;
        if !self.coordination.transactions.get(index).is_some_and(known) {
            // Given up meanwhile.
            return;
        }
        let mut steps = Vec::new();
        match answer {
            Answer::Granted(attempt) => {
                self.transaction(index).acquisition.granted(ticket.part, attempt, &mut steps);
                self.take_steps(index, steps);
            }
            Answer::Yielded(attempt) => {
                self.transaction(index).acquisition.yielded(ticket.part, attempt, &mut steps);
                self.take_steps(index, steps);
            }
            Answer::Ran => self.on_ran(index, from, ticket.part, bytes),
            Answer::Broken | Answer::Refused => self.give_up(index, answer, bytes),
            Answer::Reply => unreachable!("a transaction's calls are answered as one"),
        }
        self.serve_granted();
    }

    fn on_ran(&mut self, index: usize, from: ShardId, participant: u16, bytes: &[u8]) {
        let until = ran::until(bytes);
        let known = if from == self.shard { self.log.released } else { self.written_by(from) };
        let transaction = self.transaction(index);
        if from == transaction.age.front {
            transaction.until = transaction.until.max(until);
        } else if until > Offset(0) {
            match transaction.waits.iter_mut().find(|(shard, _)| *shard == from) {
                Some((_, last)) => *last = until.max(*last),
                None => transaction.waits.push((from, until)),
            }
        }
        transaction.note_end(from, until);
        match transaction.phase {
            Phase::Acquiring => {
                // It was the last to be asked, and ran on its grant: now the others.
                transaction.keep(participant, bytes);
                self.run_rest(index, Some(participant));
            }
            Phase::Running(missing) => {
                transaction.keep(participant, bytes);
                transaction.phase = Phase::Running(missing - 1);
                if missing == 1 {
                    self.step_done(index);
                }
            }
            Phase::Fetching(missing) => {
                // Entries for the scratch keyspace, not replies.
                if until > known {
                    transaction.read_unwritten.push(from);
                }
                let mut at = ran::FIRST;
                while at < bytes.len() {
                    let (entries, next) = ran::next(bytes, at);
                    transaction.fetched.push(entries.to_vec());
                    at = next;
                }
                transaction.phase = Phase::Fetching(missing - 1);
                if missing == 1 {
                    self.run_scratch_step(index);
                }
            }
            Phase::Settling(missing) => {
                transaction.phase = Phase::Settling(missing - 1);
                if missing == 1 {
                    self.step_done(index);
                }
            }
        }
    }

    // ---- running -------------------------------------------------------------------------------------------

    /// All intents are held.
    fn run_all(&mut self, index: usize) {
        match self.transaction(index).program.kind {
            Kind::Direct => self.run_rest(index, None),
            Kind::Steps { .. } => self.run_step(index),
        }
    }

    /// Runs the parts of all participants but the one that has run already.
    fn run_rest(&mut self, index: usize, done: Option<u16>) {
        let participants = self.transaction(index).acquisition.len() as u16;
        let rest = (0..participants).filter(|participant| Some(*participant) != done);
        let missing = rest.clone().count();
        self.transaction(index).phase = Phase::Running(missing);
        if missing == 0 {
            return self.step_done(index);
        }
        let mut here = None;
        for participant in rest {
            let (ticket, shard) = self.ticket(index, participant);
            if shard == self.shard {
                here = Some(participant);
            } else {
                self.message(shard, ticket, Message::Run);
            }
        }
        if let Some(participant) = here {
            // Last, as it may be the one that ends the transaction.
            self.run_here_in(index, participant, None);
        }
    }

    /// Runs a part of the own shard: all of it, or the calls of a step.
    fn run_here_in(&mut self, index: usize, participant: u16, step: Option<CallBatch>) {
        let front = self.shard;
        let own_group = self.group_on(index, front);
        let transaction = self.transaction(index);
        let (age, connection) = (transaction.age, transaction.connection);
        let direct = step.is_none();
        let calls = step.unwrap_or_else(|| std::mem::take(&mut transaction.program.parts[participant as usize].calls));
        let (watcher, whole) = (Watcher(transaction.watcher), transaction.whole);
        if transaction.long.as_ref().is_some_and(|long| long.writes()) {
            self.hold_log(age);
        }
        let mut out = Vec::with_capacity(calls.len() * USUAL_REPLY_BYTES);
        self.caller = Some(connection);
        self.run_calls(age, &calls, 0..calls.len(), own_group.as_ref(), whole, &mut out);
        self.caller = None;
        if direct {
            self.owner.keyspace.unwatch(watcher);
            self.release_intents(age);
        }
        self.on_ran(index, front, participant, &out);
    }

    /// The next step of a program of steps; all intents are held meanwhile.
    pub(super) fn run_step(&mut self, index: usize) {
        let transaction = self.transaction(index);
        let step = transaction.step;
        if transaction.long.is_some() {
            return self.coordination.long.push_back(index);
        }
        match transaction.program.steps.get(step) {
            None => self.finish_steps(index),
            Some(ProgramStep::Calls(_)) => self.run_calls_step(index, step),
            Some(ProgramStep::Scratch(_)) => self.fetch_for_scratch(index, step),
        }
    }

    fn run_calls_step(&mut self, index: usize, step: usize) {
        let transaction = self.transaction(index);
        let program = &transaction.program;
        let busy = (0..program.parts.len()).filter(|part| !program.range(step, *part).is_empty());
        let busy: Vec<usize> = busy.collect();
        let writers = busy.iter().map(|part| &program.parts[*part]).filter(|part| part.writes).map(|part| part.shard);
        let writers: Vec<ShardId> = writers.collect();
        let calls = busy.iter().map(|&part| {
            let mut calls = CallBatch::default();
            calls.append(&program.parts[part].calls, program.range(step, part));
            (part as u16, calls)
        });
        let calls: BTreeMap<u16, CallBatch> = calls.collect();
        let group = self.new_group(writers.into_iter());
        self.transaction(index).group = group;
        self.run_slice(index, calls);
    }

    /// The transaction's group, if this shard takes part in it.
    fn group_on(&self, index: usize, shard: ShardId) -> Option<Group> {
        let group = self.coordination.transactions[index].group.as_ref();
        group.filter(|group| group.participants.contains(&shard)).cloned()
    }

    fn send_step(&mut self, index: usize, participant: u16, calls: &CallBatch) {
        let (ticket, shard) = self.ticket(index, participant);
        let group = self.group_on(index, shard);
        self.outboxes[shard.0 as usize].batch.push_step(ticket, calls, 0..calls.len(), group);
        self.stats.lane_calls += 1;
    }

    fn fetch_for_scratch(&mut self, index: usize, step: usize) {
        let transaction = &self.coordination.transactions[index];
        let ProgramStep::Scratch(scratch) = &transaction.program.steps[step] else { unreachable!("a scratch step") };
        let need = self.need_of(scratch);
        let mut fetches: BTreeMap<u16, CallBatch> = BTreeMap::new();
        for (part, key) in &scratch.keys {
            let work = Work::Fetch { all_databases: scratch.all_databases };
            let ticket = Ticket::of_transaction(index as u32, transaction.age, *part);
            let calls = fetches.entry(*part).or_default();
            calls.push(ticket, work, scratch.db, Protocol::Resp2, [&need, key.as_slice()].into_iter());
        }
        let transaction = self.transaction(index);
        transaction.group = None;
        transaction.phase = Phase::Fetching(fetches.len());
        self.send_steps(index, fetches);
    }

    /// What the commands need of their keys, encoded: of several, one may look at what another needn't see.
    fn need_of(&self, scratch: &Scratch) -> Vec<u8> {
        let mut out = Vec::new();
        match &scratch.commands[..] {
            [only] => {
                let Run::Shard(row) = self.catalog.get(only.number).run else { unreachable!("a shard's command") };
                (row.need)(&Args::new(&only.bytes, &only.spans)).encode(&mut out);
            }
            _ => Need::All.encode(&mut out),
        }
        out
    }

    /// Has these participants run these calls, as a step whose replies count.
    pub(super) fn run_slice(&mut self, index: usize, calls: BTreeMap<u16, CallBatch>) {
        self.transaction(index).phase = Phase::Running(calls.len());
        self.send_steps(index, calls);
    }

    /// One step for each of these participants, the own last, as it may be the one that ends the phase.
    fn send_steps(&mut self, index: usize, mut calls: BTreeMap<u16, CallBatch>) {
        let acquisition = &self.coordination.transactions[index].acquisition;
        let here = calls.keys().copied().find(|participant| acquisition.shard(*participant) == self.shard);
        let own = here.and_then(|participant| calls.remove(&participant));
        for (participant, calls) in &calls {
            self.send_step(index, *participant, calls);
        }
        if let Some((participant, calls)) = here.zip(own) {
            self.run_here_in(index, participant, Some(calls));
        }
    }

    /// The entries are here: runs the commands on them, and sends home what became of the keys.
    fn run_scratch_step(&mut self, index: usize) {
        let transaction = self.transaction(index);
        let (step, protocol) = (transaction.step, transaction.protocol);
        let fetched = std::mem::take(&mut transaction.fetched);
        let ProgramStep::Scratch(scratch) =
            std::mem::replace(&mut transaction.program.steps[step], ProgramStep::Scratch(Scratch::default()))
        else {
            unreachable!("a scratch step")
        };
        let mut replies = Vec::new();
        let homeward = self.run_on_scratch(&scratch.commands, &fetched, protocol, &mut replies);
        let transaction = self.transaction(index);
        transaction.scratched.extend_from_slice(&replies);
        if homeward.is_empty() {
            return self.step_done(index);
        }
        let age = transaction.age;
        let participants: Vec<ShardId> = transaction.program.participants().collect();
        // What was read and isn't in its log yet must not be missing where its copies are found after a crash.
        let sources = std::mem::take(&mut self.transaction(index).read_unwritten);
        let mut logs: BTreeSet<ShardId> = homeward.iter().map(|(shard, _)| *shard).collect();
        logs.extend(sources);
        let group = self.new_group(logs.iter().copied());
        let mut adoptions = BTreeMap::new();
        if group.is_some() {
            let participant = |shard: &ShardId| participants.iter().position(|other| other == shard);
            let index = |shard| participant(shard).expect("it was asked for its entries") as u16;
            adoptions.extend(logs.iter().map(|shard| (index(shard), CallBatch::default())));
        }
        for (shard, edits) in &homeward {
            let participant = participants.iter().position(|other| other == shard);
            let participant = participant.expect("a command touches no key that it doesn't name") as u16;
            let mut calls = CallBatch::default();
            let ticket = Ticket::of_transaction(index as u32, age, participant);
            calls.push(ticket, Work::Adopt, Db(0), Protocol::Resp2, std::iter::once(edits.as_slice()));
            adoptions.insert(participant, calls);
        }
        let transaction = self.transaction(index);
        transaction.group = group;
        transaction.phase = Phase::Settling(adoptions.len());
        self.send_steps(index, adoptions);
    }

    fn step_done(&mut self, index: usize) {
        let transaction = self.transaction(index);
        let ends = std::mem::take(&mut transaction.group_ends);
        if let Some(group) = transaction.group.take() {
            self.send_ends(&group, &ends);
        }
        let transaction = self.transaction(index);
        match transaction.program.kind {
            Kind::Direct => self.finish_transaction(index),
            Kind::Steps { .. } if transaction.long.is_some() => self.slice_done(index),
            Kind::Steps { .. } => {
                transaction.step += 1;
                // Not from here: a client decides how many steps there are, and each would be on the stack.
                self.coordination.due.push_back(index);
            }
        }
    }

    pub(super) fn finish_steps(&mut self, index: usize) {
        self.forget_everywhere(index);
        self.finish_transaction(index);
    }

    // ---- the end -------------------------------------------------------------------------------------------

    fn remove_transaction(&mut self, index: usize) -> Transaction {
        let transaction = self.coordination.transactions.remove(index);
        self.coordination.by_number.remove(&transaction.age.number);
        transaction
    }

    /// Everything has run.
    fn finish_transaction(&mut self, index: usize) {
        let mut transaction = self.remove_transaction(index);
        let reply = match transaction.long.take() {
            Some(long) => long.into_reply(transaction.protocol),
            None => self.reply_of(&mut transaction),
        };
        self.reply_to_transaction(&transaction, &reply);
    }
}

/// With its length; more just grows the buffer.
const USUAL_REPLY_BYTES: usize = 32;

impl Transaction {
    /// Keeps a participant's replies behind those of earlier steps.
    fn keep(&mut self, participant: u16, bytes: &[u8]) {
        let kept = &mut self.answers[participant as usize];
        let from = if kept.is_empty() { 0 } else { ran::FIRST };
        kept.extend_from_slice(&bytes[from..]);
    }

    fn note_end(&mut self, shard: ShardId, until: Offset) {
        if self.group.as_ref().is_some_and(|group| group.participants.contains(&shard)) {
            self.group_ends.push((shard, until));
        }
    }
}
