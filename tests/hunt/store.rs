//! A store in virtual time with clients of its own, which makes histories: correct ones, and ones with a planted bug of
//! the kinds that a server with several shards can have. The same seed gives the same history.
//!
//! Each step of a client takes effect in parts; a correct store runs all calls of a transaction as one part, at one
//! moment between request and reply. A bug splits what belongs together, or lies about one part.

use super::history::{Form, History, NIL, Op, Version};
use super::model::{Answer, Call, Key, State};
use super::workload::{Mix, Plan, Planner};
use fastrand::Rng;
use std::collections::{BinaryHeap, VecDeque};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    None,
    /// Two transactions that write run in one order on one shard and in the other order on another; nobody sees them
    /// half done.
    OutOfOrder,
    /// A transaction lets go of one shard before it came to the next: seen half done.
    ReleasedEarly,
    /// Commands of one key run in the middle of a MULTI.
    LostIntent,
    /// A crash in the middle of a transaction leaves what was done so far.
    HalfGroup,
    /// A crash forgets the last writes of one shard, acknowledged ones too.
    LostTail,
    /// The commands of a pipeline run in any order.
    PipelineReordered,
    /// A read is answered from before its request.
    StaleRead,
    /// EXEC doesn't look whether a watched key was touched.
    LostUpdate,
}

pub const BUGS: [Bug; 8] = [
    Bug::OutOfOrder,
    Bug::ReleasedEarly,
    Bug::LostIntent,
    Bug::HalfGroup,
    Bug::LostTail,
    Bug::PipelineReordered,
    Bug::StaleRead,
    Bug::LostUpdate,
];

const SHARDS: Key = 3;

pub fn simulate(bug: Bug, mix: &Mix, seed: u64, clients: u32, operations: usize) -> History {
    let mut simulation = Simulation::new(bug, mix, seed, clients);
    while simulation.planned < operations || simulation.clients.iter().any(|client| client.running.is_some()) {
        simulation.step(operations);
    }
    simulation.read_all();
    simulation.history
}

struct Simulation {
    bug: Bug,
    rng: Rng,
    now: u64,
    /// Time and client, earliest first.
    due: BinaryHeap<std::cmp::Reverse<(u64, usize)>>,
    clients: Vec<Client>,
    state: State,
    /// What the store held from which time on.
    past: Vec<(u64, State)>,
    touched: Vec<u64>,
    planned: usize,
    sessions: u32,
    history: History,
}

struct Client {
    planner: Planner,
    session: u32,
    running: Option<Running>,
}

struct Running {
    ops: Vec<Op>,
    parts: VecDeque<Vec<Step>>,
    /// Some part is done and some is not, of a step that must be atomic.
    half_done: bool,
    atomic: bool,
    /// The count of touches at WATCH.
    watched: Vec<(Key, u64)>,
    aborted: bool,
}

/// A call of an operation, or one key of it.
#[derive(Clone, Copy)]
struct Step {
    op: usize,
    call: usize,
    piece: Option<usize>,
    shard: Key,
}

impl Simulation {
    fn new(bug: Bug, mix: &Mix, seed: u64, clients: u32) -> Simulation {
        let keys = usize::from(mix.keys);
        let client = |id| Client { planner: Planner::new(mix.clone(), seed, id), session: id, running: None };
        let names = (0..keys).map(|key| format!("k{key}")).collect();
        Simulation {
            bug,
            rng: Rng::with_seed(seed),
            now: 0,
            due: (0..clients as usize).map(|client| std::cmp::Reverse((1, client))).collect(),
            clients: (0..clients).map(client).collect(),
            state: State::empty(keys),
            past: vec![(0, State::empty(keys))],
            touched: vec![0; keys],
            planned: 0,
            sessions: clients,
            history: History { keys: names, ..History::default() },
        }
    }

    fn step(&mut self, operations: usize) {
        let std::cmp::Reverse((now, client)) = self.due.pop().expect("every running client is due");
        self.now = now;
        let half_done = self.clients[client].running.as_ref().is_some_and(|running| running.half_done);
        // Crashes are rare, but for the bugs that are about them; and few would meet a group half done.
        let crash_in = match self.bug {
            Bug::HalfGroup if half_done => 10,
            Bug::LostTail => 200,
            Bug::None | Bug::HalfGroup | Bug::OutOfOrder | Bug::ReleasedEarly | Bug::LostIntent => 800,
            Bug::PipelineReordered | Bug::StaleRead | Bug::LostUpdate => 800,
        };
        if self.rng.u32(..crash_in) == 0 {
            return self.crash();
        }
        match self.clients[client].running.take() {
            None if self.planned < operations => {
                let plan = self.clients[client].planner.next();
                self.planned += 1;
                self.clients[client].running = Some(self.begin(client, plan));
                self.wake(client, 1..20);
            }
            None => {}
            Some(running) if running.parts.is_empty() => {
                self.finish(running);
                self.wake(client, 1..10);
            }
            Some(running) if self.must_wait(&running) => {
                self.clients[client].running = Some(running);
                self.wake(client, 1..5);
            }
            Some(mut running) => {
                self.run_part(&mut running);
                self.clients[client].running = Some(running);
                self.wake(client, 4..20);
            }
        }
    }

    fn wake(&mut self, client: usize, delay: std::ops::Range<u64>) {
        let at = self.now + self.rng.u64(delay);
        self.due.push(std::cmp::Reverse((at, client)));
    }

    fn begin(&mut self, client: usize, plan: Plan) -> Running {
        let session = self.clients[client].session;
        let op = |form, calls: Vec<Call>| {
            let calls = calls.into_iter().map(|call| (call, Answer::Unknown)).collect();
            Op { session, start: self.now, end: u64::MAX, certain: true, form, calls }
        };
        let (ops, mut parts, atomic) = match plan {
            Plan::Single(call) => (vec![op(Form::Single, vec![call])], Vec::new(), true),
            Plan::Multi(calls) => (vec![op(Form::Multi, calls)], Vec::new(), true),
            Plan::Pipeline(calls) => {
                let ops = calls.into_iter().map(|call| op(Form::Pipelined, vec![call])).collect::<Vec<_>>();
                let parts = (0..ops.len()).map(|op| vec![Step { op, call: 0, piece: None, shard: 0 }]).collect();
                (ops, parts, false)
            }
            Plan::Watch(keys, writes) => {
                let reads = keys.into_iter().map(Call::Get).collect::<Vec<_>>();
                let all = |op: usize, from: usize, to: usize| {
                    (from..to).map(move |call| Step { op, call, piece: None, shard: 0 }).collect::<Vec<_>>()
                };
                let parts = vec![all(0, 0, reads.len()), all(1, reads.len(), reads.len() + writes.len())];
                (vec![op(Form::Single, reads.clone()), op(Form::Watch, [reads, writes].concat())], parts, false)
            }
        };
        if parts.is_empty() {
            parts = self.split(&ops[0]);
        }
        if self.bug == Bug::PipelineReordered && ops[0].form == Form::Pipelined {
            self.rng.shuffle(&mut parts);
        }
        Running { ops, parts: parts.into(), half_done: false, atomic, watched: Vec::new(), aborted: false }
    }

    /// The parts of a single command or a MULTI.
    fn split(&mut self, op: &Op) -> Vec<Vec<Step>> {
        let mut steps = Vec::new();
        for (index, (call, _)) in op.calls.iter().enumerate() {
            match call.split() {
                Some(pieces) => steps.extend(pieces.iter().enumerate().map(|(piece, call)| Step {
                    op: 0,
                    call: index,
                    piece: Some(piece),
                    shard: call.keys()[0] % SHARDS,
                })),
                None => steps.push(Step { op: 0, call: index, piece: None, shard: call.keys()[0] % SHARDS }),
            }
        }
        let writes = op.calls.iter().any(|(call, _)| !call.only_reads());
        let by_shard = match self.bug {
            Bug::OutOfOrder | Bug::ReleasedEarly | Bug::HalfGroup => writes,
            Bug::LostIntent if op.form == Form::Multi => return steps.into_iter().map(|step| vec![step]).collect(),
            Bug::LostIntent | Bug::None | Bug::LostTail => false,
            Bug::PipelineReordered | Bug::StaleRead | Bug::LostUpdate => false,
        };
        if !by_shard {
            return vec![steps];
        }
        let of_shard = |shard| steps.iter().filter(|step| step.shard == shard).copied().collect::<Vec<_>>();
        let mut parts = (0..SHARDS).map(of_shard).filter(|part| !part.is_empty()).collect::<Vec<_>>();
        if self.bug == Bug::OutOfOrder {
            self.rng.shuffle(&mut parts);
        }
        parts
    }

    /// Whether somebody's unfinished transaction stands in the way.
    fn must_wait(&self, running: &Running) -> bool {
        let half_done = |client: &Client| client.running.as_ref().is_some_and(|running| running.half_done);
        if running.half_done || !self.clients.iter().any(half_done) {
            return false;
        }
        match self.bug {
            Bug::OutOfOrder => !(running.atomic && running.parts.len() > 1),
            Bug::LostIntent => running.ops[0].calls.len() > 1 || running.ops[0].calls[0].0.keys().len() > 1,
            Bug::ReleasedEarly => false,
            Bug::HalfGroup => true,
            Bug::None | Bug::LostTail | Bug::PipelineReordered | Bug::StaleRead | Bug::LostUpdate => {
                unreachable!("nothing is split")
            }
        }
    }

    fn run_part(&mut self, running: &mut Running) {
        let part = running.parts.pop_front().expect("a part is left");
        if running.ops.len() == 2 && running.ops[1].form == Form::Watch {
            self.run_watch_part(running, &part);
        } else {
            part.iter().for_each(|step| self.run_step(running, *step));
        }
        running.half_done = running.atomic && !running.parts.is_empty();
        self.past.push((self.now, self.state.clone()));
    }

    fn run_watch_part(&mut self, running: &mut Running, part: &[Step]) {
        if part[0].op == 0 {
            part.iter().for_each(|step| self.run_step(running, *step));
            for index in 0..part.len() {
                running.ops[1].calls[index].1 = running.ops[0].calls[index].1.clone();
                let key = running.ops[0].calls[index].0.keys()[0];
                running.watched.push((key, self.touched[key as usize]));
            }
            running.ops[0].end = self.now + 1;
            running.ops[1].start = self.now + 2;
            return;
        }
        let touched = running.watched.iter().any(|(key, count)| self.touched[*key as usize] != *count);
        running.aborted = touched && self.bug != Bug::LostUpdate;
        if !running.aborted {
            part.iter().for_each(|step| self.run_step(running, *step));
        }
    }

    fn run_step(&mut self, running: &mut Running, step: Step) {
        let (start, form) = (running.ops[step.op].start, running.ops[step.op].form);
        let (call, answer) = &mut running.ops[step.op].calls[step.call];
        let piece = step.piece.map(|piece| call.split().expect("only such calls come in pieces").swap_remove(piece));
        let run = piece.as_ref().unwrap_or(call);
        let stale = self.bug == Bug::StaleRead && form == Form::Single && run.only_reads() && self.rng.u8(..4) == 0;
        let now = if stale {
            let then = self.past.iter().rev().find(|(at, _)| *at + 40 < start);
            then.map_or_else(|| State::empty(self.touched.len()), |(_, state)| state.clone())
                .run(run, versions(&mut self.history))
        } else {
            self.state.run(run, versions(&mut self.history))
        };
        if !run.only_reads() {
            run.keys().into_iter().for_each(|key| self.touched[key as usize] += 1);
        }
        match (step.piece, &now) {
            (Some(piece), Answer::Value(version)) => {
                let Answer::Values(versions) = answer else {
                    let mut all = vec![NIL; call.keys().len()];
                    all[piece] = *version;
                    *answer = Answer::Values(all);
                    return;
                };
                versions[piece] = *version;
            }
            (Some(_) | None, _) => *answer = now,
        }
    }

    fn finish(&mut self, running: Running) {
        for mut op in running.ops {
            if op.form == Form::Watch && running.aborted {
                continue;
            }
            op.end = op.end.min(self.now);
            self.history.ops.push(op);
        }
    }

    /// Everyone is cut off; nobody's half-done work is finished.
    fn crash(&mut self) {
        let back = self.now + 100;
        if self.bug == Bug::LostTail {
            let (then, shard) = (self.now.saturating_sub(60), self.rng.u8(..SHARDS));
            let (_, old) = self.past.iter().rev().find(|(at, _)| *at <= then).expect("the past begins at 0");
            let lost = (0..old.0.len()).filter(|key| *key % SHARDS as usize == shard as usize);
            let versions = lost.map(|key| (key, old.0[key])).collect::<Vec<(usize, Version)>>();
            versions.into_iter().for_each(|(key, version)| self.state.0[key] = version);
        }
        self.due.clear();
        for client in 0..self.clients.len() {
            if let Some(running) = self.clients[client].running.take() {
                self.cut_off(running, back);
            }
            self.clients[client].session = self.sessions;
            self.sessions += 1;
            self.due.push(std::cmp::Reverse((back + 1 + self.rng.u64(..10), client)));
        }
        self.past.push((self.now, self.state.clone()));
    }

    fn cut_off(&mut self, running: Running, back: u64) {
        let read_under_watch = !running.watched.is_empty();
        for (index, mut op) in running.ops.into_iter().enumerate() {
            if op.form == Form::Watch && (!read_under_watch || running.aborted) {
                continue;
            }
            if index == 0 && read_under_watch {
                self.history.ops.push(op);
                continue;
            }
            let known = |call: &Call| op.form == Form::Watch && call.only_reads();
            op.calls.iter_mut().filter(|(call, _)| !known(call)).for_each(|(_, answer)| *answer = Answer::Unknown);
            (op.end, op.certain) = (back, false);
            self.history.ops.push(op);
        }
    }

    fn read_all(&mut self) {
        let Plan::Single(call) = self.clients[0].planner.read_all() else { unreachable!("it is one command") };
        let answer = self.state.run(&call, versions(&mut self.history));
        let (start, end) = (self.now + 1000, self.now + 1001);
        let (session, calls) = (self.sessions, vec![(call, answer)]);
        self.history.ops.push(Op { session, start, end, certain: true, form: Form::Single, calls });
    }
}

fn versions(history: &mut History) -> &mut super::history::Versions {
    &mut history.versions
}
