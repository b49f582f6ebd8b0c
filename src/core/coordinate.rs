//! The front's side of transactions: from a program to intents on all its shards, to its parts run there, to its replies.
//!
//! Every step of the way is decided by the pure `Acquisition`; here it is carried out. The session is held until all parts
//! have run, so what it sent later finds them done; its reply may wait longer, for logs.

use super::Core;
use super::participate::claim_of;
use crate::commands::catalog::Run;
use crate::commands::{ServerCall, ServerHandler};
use crate::router::batch::{Answer, CallBatch, ConnectionId, Group, Message, Question, Ticket, Work, ran};
use crate::router::gather::{self, Ending};
use crate::router::program::{Kind, Planned, Program, Scratch, Step as ProgramStep};
use shards::call::Args;
use shards::reply::{Protocol, Reply};
use shards::transaction::{Acquisition, Age, Ask, Step, Verdict};
use shards::units::{Db, Offset, ShardId};
use shards::watches::Watcher;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// The transactions of this core's connections.
#[derive(Default)]
pub(super) struct Coordination {
    transactions: slab::Slab<Transaction>,
    by_number: BTreeMap<u64, usize>,
    last_number: u64,
}

impl Coordination {
    pub(super) fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }
}

/// What a transaction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Acquiring,
    /// Answers of so many participants to the calls that they run.
    Running(usize),
    /// The entries for the scratch keyspace.
    Fetching(usize),
    /// The scratch keyspace's edits are on their way home.
    Settling(usize),
}

struct Transaction {
    connection: ConnectionId,
    /// Where its reply goes; `None` if nobody wants it.
    slot: Option<u64>,
    age: Age,
    /// EXEC: the replies are the elements of an array.
    exec: bool,
    protocol: Protocol,
    watcher: u64,
    program: Program,
    acquisition: Acquisition,
    phase: Phase,
    /// Of programs with steps: the one being done.
    step: usize,
    /// Replies by participant, in the form of `ran`.
    answers: Vec<Vec<u8>>,
    /// Entries for the scratch keyspace.
    fetched: Vec<Vec<u8>>,
    /// Replies of commands that ran on it, in the form of `ran` without its start.
    scratched: Vec<u8>,
    group: Option<Group>,
    /// The participants of the group whose part has run, with its end in their logs.
    group_ends: SmallVec<[(ShardId, Offset); 4]>,
    /// What the replies depend on in other shards' logs, and in the own.
    waits: SmallVec<[(ShardId, Offset); 2]>,
    until: Offset,
}

impl Core {
    pub(super) fn next_age(&mut self) -> Age {
        let number = self.ticks().max(self.coordination.last_number + 1);
        self.coordination.last_number = number;
        Age { number, front: self.shard }
    }

    /// Starts a transaction, which ends at once if all of its shards are this one and nobody is in its way.
    pub(super) fn begin_transaction(&mut self, connection: ConnectionId, program: Program, exec: bool, watcher: u64) {
        let age = self.next_age();
        let session = &mut self.sessions[connection.index as usize];
        session.held = true;
        let slot = (!super::execute::mutes(session.reply_mode)).then(|| session.replies.reserve());
        let protocol = session.protocol;
        let direct = program.kind == Kind::Direct;
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
            scratched: Vec::new(),
            group: None,
            group_ends: SmallVec::new(),
            waits: SmallVec::new(),
            until: Offset(0),
            program,
        };
        if direct
            && (exec || transaction.program.commands.iter().any(|command| matches!(command, Planned::Joined { .. })))
        {
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

    fn transaction(&mut self, index: usize) -> &mut Transaction {
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
        match self.objection(transaction.watcher, calls, 0..calls.len()) {
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
        let group = transaction.group.clone().filter(|group| group.participants.contains(&shard));
        let question = Question { ask, calls: calls.len() as u32, watcher: transaction.watcher, group };
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
        let mut reply = Vec::new();
        match why {
            Answer::Broken => Reply::new(&mut reply, transaction.protocol).null_array(),
            Answer::Refused | Answer::Reply | Answer::Granted(_) | Answer::Yielded(_) | Answer::Ran => {
                // Commands of a pipeline are answered one by one.
                let replies = if transaction.exec { 1 } else { transaction.program.commands.len() };
                (0..replies).for_each(|_| reply.extend_from_slice(error));
            }
        }
        self.reply_to_transaction(&transaction, &reply);
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
        let transaction = self.transaction(index);
        if from == transaction.age.front {
            transaction.until = transaction.until.max(until);
        } else if until > Offset(0) {
            transaction.waits.push((from, until));
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
    fn run_here_in(&mut self, index: usize, participant: u16, step: Option<(CallBatch, Option<Group>)>) {
        let front = self.shard;
        let transaction = self.transaction(index);
        let (age, connection) = (transaction.age, transaction.connection);
        let direct = step.is_none();
        let (calls, group) = step.unwrap_or_else(|| {
            let group = transaction.group.clone().filter(|group| group.participants.contains(&front));
            (std::mem::take(&mut transaction.program.parts[participant as usize].calls), group)
        });
        let watcher = Watcher(transaction.watcher);
        let mut out = Vec::new();
        self.caller = Some(connection);
        self.run_calls(age, &calls, 0..calls.len(), group.as_ref(), &mut out);
        self.caller = None;
        if direct {
            self.owner.keyspace.unwatch(watcher);
            self.release_intents(age);
        }
        self.on_ran(index, front, participant, &out);
    }

    /// The next step of a program of steps; all intents are held meanwhile.
    fn run_step(&mut self, index: usize) {
        let transaction = self.transaction(index);
        let step = transaction.step;
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
        transaction.phase = Phase::Running(busy.len());
        let group = self.new_group(writers.into_iter());
        self.transaction(index).group = group;
        let mut here = None;
        for part in busy {
            let transaction = &self.coordination.transactions[index];
            let mut calls = CallBatch::default();
            calls.append(&transaction.program.parts[part].calls, transaction.program.range(step, part));
            if transaction.program.parts[part].shard == self.shard {
                here = Some((part as u16, calls));
            } else {
                self.send_step(index, part as u16, &calls);
            }
        }
        if let Some((participant, calls)) = here {
            let group = self.group_here(index);
            self.run_here_in(index, participant, Some((calls, group)));
        }
    }

    fn group_here(&self, index: usize) -> Option<Group> {
        let group = self.coordination.transactions[index].group.clone();
        group.filter(|group| group.participants.contains(&self.shard))
    }

    fn send_step(&mut self, index: usize, participant: u16, calls: &CallBatch) {
        let (ticket, shard) = self.ticket(index, participant);
        let group = self.transaction(index).group.clone().filter(|group| group.participants.contains(&shard));
        self.outboxes[shard.0 as usize].batch.push_step(ticket, calls, 0..calls.len(), group);
        self.stats.lane_calls += 1;
    }

    fn fetch_for_scratch(&mut self, index: usize, step: usize) {
        let transaction = &self.coordination.transactions[index];
        let ProgramStep::Scratch(scratch) = &transaction.program.steps[step] else { unreachable!("a scratch step") };
        let mut fetches: BTreeMap<u16, CallBatch> = BTreeMap::new();
        for (part, key) in &scratch.keys {
            let work = Work::Fetch { all_databases: scratch.all_databases };
            let ticket = Ticket::of_transaction(index as u32, transaction.age, *part);
            let calls = fetches.entry(*part).or_default();
            calls.push(ticket, work, scratch.db, Protocol::Resp2, std::iter::once(key.as_slice()));
        }
        let transaction = self.transaction(index);
        transaction.group = None;
        transaction.phase = Phase::Fetching(fetches.len());
        self.send_steps(index, fetches);
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
            let group = self.group_here(index);
            self.run_here_in(index, participant, Some((calls, group)));
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
        let group = self.new_group(homeward.iter().map(|(shard, _)| *shard));
        let mut adoptions = BTreeMap::new();
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
            Kind::Steps { .. } => {
                transaction.step += 1;
                self.run_step(index);
            }
        }
    }

    fn finish_steps(&mut self, index: usize) {
        self.forget_everywhere(index);
        self.finish_transaction(index);
    }

    // ---- the end -------------------------------------------------------------------------------------------

    fn remove_transaction(&mut self, index: usize) -> Transaction {
        let transaction = self.coordination.transactions.remove(index);
        self.coordination.by_number.remove(&transaction.age.number);
        transaction
    }

    /// Everything has run: puts the replies together.
    fn finish_transaction(&mut self, index: usize) {
        let mut transaction = self.remove_transaction(index);
        let mut out = Vec::new();
        if transaction.exec {
            Reply::new(&mut out, transaction.protocol).array(transaction.program.commands.len());
        }
        let mut cursors = vec![ran::FIRST; transaction.answers.len()];
        let mut scratch_cursor = 0;
        for planned in std::mem::take(&mut transaction.program.commands) {
            match planned {
                Planned::One(part) => {
                    let (reply, next) = ran::next(&transaction.answers[part as usize], cursors[part as usize]);
                    cursors[part as usize] = next;
                    out.extend_from_slice(reply);
                }
                Planned::Joined { ending, order, parts } => {
                    let replies: Vec<&[u8]> = parts
                        .iter()
                        .map(|&part| {
                            let (reply, next) = ran::next(&transaction.answers[part as usize], cursors[part as usize]);
                            cursors[part as usize] = next;
                            reply
                        })
                        .collect();
                    self.conclude(transaction.connection, ending, &replies, &order, transaction.protocol, &mut out);
                }
                Planned::Scratch => {
                    let (reply, next) = ran::next(&transaction.scratched, scratch_cursor);
                    scratch_cursor = next;
                    out.extend_from_slice(reply);
                }
                Planned::Here { command, args } => {
                    self.run_server_here(transaction.connection, command, &args, &mut out)
                }
                Planned::Known(reply) => out.extend_from_slice(&reply),
            }
        }
        self.reply_to_transaction(&transaction, &out);
    }

    fn run_server_here(&mut self, connection: ConnectionId, command: u16, args: &[Vec<u8>], out: &mut Vec<u8>) {
        if self.session(connection).is_none() {
            return;
        }
        let Run::Server(row) = self.catalog.get(command).run else { unreachable!("planned as a server's command") };
        let ServerHandler::Here(run) = row.handler else { unreachable!("planned to run here") };
        let (bytes, spans) = crate::router::program::copy_args(args.iter().map(Vec::as_slice));
        let start = out.len();
        let mut call =
            ServerCall { core: self, connection, args: Args::new(&bytes, &spans), out, name: row.name, asked_in: None };
        if let Err(error) = run(&mut call) {
            out.truncate(start);
            Reply::new(out, Protocol::Resp2).error(&error);
        }
        let failed = out.get(start) == Some(&b'-');
        self.latency.executed(command, self.ticks, failed.then_some(&out[start..]));
    }

    /// The reply goes out once the logs allow it; what followed on the connection may run at once.
    fn reply_to_transaction(&mut self, transaction: &Transaction, reply: &[u8]) {
        if let Some(slot) = transaction.slot {
            let waits = transaction.waits.iter().filter(|(shard, until)| *until > self.written_by(*shard));
            let waits: SmallVec<[(ShardId, Offset); 2]> = waits.copied().collect();
            if waits.is_empty() {
                self.fill(transaction.connection, slot, reply, transaction.until);
            } else {
                self.wait_for_logs(transaction.connection, slot, reply.to_vec(), transaction.until, waits);
            }
        }
        self.unhold(transaction.connection);
    }

    /// What a session waited for is done: what followed it may run.
    pub(super) fn unhold(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_mut(connection) {
            session.held = false;
            // Without input that is kept here there may be some being run right now: it isn't over before that is.
            if !session.input.is_empty() || session.input_ended {
                self.mark_resumable(connection);
            }
        }
    }

    /// Joins the replies of the parts of a command that was spread.
    pub(super) fn conclude<P: AsRef<[u8]>>(
        &mut self,
        connection: ConnectionId,
        ending: Ending,
        parts: &[P],
        order: &[u16],
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) {
        match ending {
            Ending::Gather(gather) => gather::join(gather, parts, order, protocol, out),
            Ending::Draw(draw) => gather::draw(parts, draw, protocol, out),
            Ending::Scan { shard, shards } => match gather::first_error(parts) {
                Some(error) => out.extend_from_slice(error),
                None => {
                    let rewrite = |local| gather::client_cursor(local, shard, shards);
                    gather::rewrite_cursor(parts[0].as_ref(), rewrite, protocol, out);
                }
            },
            Ending::Server { command, args } => {
                let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_ref().to_vec()).collect();
                self.merge(connection, protocol, command, &args, &parts, out);
            }
        }
    }
}

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
