//! The front: clients in closed loops, and the coordination of what they ask for, by design.

use crate::check::Event;
use crate::model::{Design, Four, Message, OpId, Rank, Request, TX_KEYS, owner};
use crate::node::{Load, Node};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

pub struct Clients {
    ops: Vec<Option<Op>>,
    serials: u64,
    /// To be started in the next turn.
    idle: Vec<usize>,
    random: fastrand::Rng,
    /// Done, but they depend on numbers that have not arrived everywhere.
    withheld: BinaryHeap<Reverse<(u64, usize)>>,
    settled: u64,
    pub measuring: bool,
    pub acknowledged: u64,
    pub events: Vec<Event>,
}

struct Op {
    id: OpId,
    rank: Rank,
    started: u64,
    transaction: bool,
    parts: Vec<Part>,
    depends: u64,
    writes: Vec<(u32, u32)>,
}

struct Part {
    shard: usize,
    keys: Four,
    /// Counts attempts: answers to earlier ones are late.
    tag: u32,
    state: State,
    /// (e): an older one waits for it.
    wanted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    Held,
    /// Asked to run, at once or when granted.
    Running,
    Done,
}

impl Clients {
    pub fn new(own: usize, load: &Load) -> Self {
        let count = load.clients / load.shards + usize::from(own < load.clients % load.shards);
        Clients {
            ops: (0..count).map(|_| None).collect(),
            serials: 0,
            idle: (0..count).collect(),
            random: fastrand::Rng::with_seed(load.seed << 8 | own as u64),
            withheld: BinaryHeap::new(),
            settled: 0,
            measuring: true,
            acknowledged: 0,
            events: Vec::new(),
        }
    }
    pub fn idle(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.idle)
    }
    pub fn all_stopped(&self) -> bool {
        self.ops.iter().all(Option::is_none)
    }
}

impl Node {
    /// A client's next operation.
    pub fn start(&mut self, client: usize) {
        let load = self.shared.load;
        let clients = &mut self.clients;
        clients.serials += 1;
        let transaction = clients.random.u32(0..100) < load.transactions;
        let mut keys = Four::default();
        while keys.as_slice().len() < if transaction { TX_KEYS } else { 1 } {
            let key = clients.random.u32(0..load.keys);
            if !keys.as_slice().contains(&key) {
                keys.push(key);
            }
        }
        let id = OpId::new(self.own, client, clients.serials);
        let started = self.shared.now();
        let parts = parts(keys, load.shards);
        let several = parts.len() > 1;
        let rank = (started, id.raw());
        clients.ops[client] = Some(Op { id, rank, started, transaction, parts, depends: 0, writes: Vec::new() });
        match load.design {
            Design::Numbers | Design::NumbersShort if several => self.draw_number(client),
            Design::Sequencer | Design::SequencerAtOnce if several => {
                return if self.own == 0 {
                    self.order(id, keys)
                } else {
                    self.lanes.send(0, Message::Order { op: id, keys })
                };
            }
            Design::Nothing => {
                return (0..self.op(client).parts.len()).for_each(|part| self.ask(client, part, true, true));
            }
            _ => {}
        }
        self.advance(client);
    }

    pub fn granted(&mut self, op: OpId, shard: usize, tag: u32) {
        let Some(part) = self.current(op, shard, tag) else { return };
        part.state = State::Held;
        self.advance(op.client());
    }

    /// It stands behind an older one at `shard`: there it keeps its place, everywhere else it lets go.
    pub fn yielded(&mut self, op: OpId, shard: usize, tag: u32) {
        let Some(part) = self.current(op, shard, tag) else { return };
        part.state = State::Asked;
        self.measured.retries += u64::from(self.clients.measuring);
        let own = self.own;
        for index in 0..self.op(op.client()).parts.len() {
            let part = &mut self.op(op.client()).parts[index];
            if part.shard == shard || part.state == State::Idle {
                continue;
            }
            part.state = State::Idle;
            let holder = part.shard;
            if holder == own {
                self.intents.remove(op, &mut self.notices);
            } else {
                self.lanes.send(holder, Message::Withdraw(op));
            }
        }
    }

    /// An older one waits at `shard`. If all is held already, it won't be for long; if not, the older goes first.
    pub fn wanted(&mut self, op: OpId, shard: usize, tag: u32) {
        let own = self.own;
        let Some(running) = self.clients.ops[op.client()].as_mut().filter(|running| running.id == op) else { return };
        let last = running.parts.iter().find(|part| part.state == State::Running);
        let last = last.map(|part| (part.shard, part.tag));
        let part = running.parts.iter_mut().find(|part| part.shard == shard).expect("it was asked");
        if part.tag != tag || part.state != State::Held {
            return;
        }
        match last {
            // The last one runs as soon as it can, unless it is told in time not to.
            Some((last, tag)) if !part.wanted => {
                part.wanted = true;
                self.lanes.send(last, Message::DontRun { op, tag });
            }
            Some(_) => {}
            None => {
                part.state = State::Asked;
                self.measured.retries += u64::from(self.clients.measuring);
                if shard == own {
                    self.intents.give_back(op, &mut self.notices);
                } else {
                    self.lanes.send(shard, Message::GiveBack(op));
                }
            }
        }
    }

    /// `shard` will hold for it and not run: now what is wanted can be given back.
    pub fn wont_run(&mut self, op: OpId, shard: usize, tag: u32) {
        let Some(part) = self.current(op, shard, tag) else { return };
        part.state = State::Asked;
        let mut wanted = Vec::new();
        for part in self.op(op.client()).parts.iter_mut().filter(|part| part.wanted) {
            part.wanted = false;
            wanted.push((part.shard, part.tag));
        }
        wanted.into_iter().for_each(|(shard, tag)| self.wanted(op, shard, tag));
    }

    /// Its number came too late at one shard: the whole again, with a new number.
    pub fn refused(&mut self, op: OpId, shard: usize, tag: u32) {
        if self.current(op, shard, tag).is_none() {
            return;
        }
        self.measured.retries += u64::from(self.clients.measuring);
        let own = self.own;
        let client = op.client();
        self.op(client).parts.iter_mut().for_each(|part| part.state = State::Idle);
        if self.op(client).parts.iter().any(|part| part.shard == own) {
            self.intents.remove(op, &mut self.notices);
        }
        self.draw_number(client);
        self.advance(client);
    }

    pub fn done(&mut self, op: OpId, shard: usize, keys: Four, versions: Four, depends: u64) {
        let running = self.op(op.client());
        assert_eq!(running.id, op, "an operation ends once");
        running.writes.extend(keys.as_slice().iter().copied().zip(versions.as_slice().iter().copied()));
        running.depends = running.depends.max(depends);
        running.parts.iter_mut().find(|part| part.shard == shard).expect("it was asked").state = State::Done;
        self.advance(op.client());
    }

    /// Everything up to this number has arrived everywhere.
    pub fn settled(&mut self, upto: u64) {
        self.clients.settled = upto;
        while let Some(Reverse((depends, client))) = self.clients.withheld.peek().copied() {
            if depends > upto {
                break;
            }
            self.clients.withheld.pop();
            self.finish(client);
        }
    }

    /// The next step that nothing stands in the way of.
    fn advance(&mut self, client: usize) {
        let (own, design) = (self.own, self.shared.load.design);
        let parts = &self.op(client).parts;
        let all = parts.len();
        let in_state = |state| parts.iter().filter(|part| part.state == state).count();
        let (idle, asked, held, running) =
            (in_state(State::Idle), in_state(State::Asked), in_state(State::Held), in_state(State::Running));
        let own_part = parts.iter().position(|part| part.shard == own && part.state == State::Idle);
        let first_idle = parts.iter().position(|part| part.state == State::Idle);
        if all == in_state(State::Done) {
            return self.reply_when_settled(client);
        }
        if all == 1 {
            return if idle == 1 {
                self.ask(client, 0, true, true)
            };
        }
        if design == Design::Nothing || matches!(design, Design::Sequencer | Design::SequencerAtOnce) {
            return;
        }
        if idle == 0 && asked == 0 && running == 0 {
            return self.run_all(client);
        }
        if running > 0 && idle == 0 && asked == 0 && held + running < all {
            return self.run_all(client);
        }
        let Some(first) = first_idle.filter(|_| asked == 0 && running == 0) else { return };
        let last_is_remote = idle == 1 && self.op(client).parts[first].shard != own;
        match design {
            Design::ShardOrder => self.ask(client, first, false, last_is_remote),
            Design::Numbers => self.ask_idle(client),
            Design::NumbersShort | Design::Age | Design::GiveBack => match own_part {
                // Nothing is held yet: waiting at home stands in nobody's way.
                Some(part) if held == 0 && (design != Design::NumbersShort || all == 2) => {
                    self.ask(client, part, true, false)
                }
                _ if last_is_remote => self.ask(client, first, false, true),
                _ => self.ask_idle(client),
            },
            Design::Sequencer | Design::SequencerAtOnce | Design::Nothing => {}
        }
    }

    fn ask_idle(&mut self, client: usize) {
        for part in 0..self.op(client).parts.len() {
            if self.op(client).parts[part].state == State::Idle {
                self.ask(client, part, false, false);
            }
        }
    }

    fn ask(&mut self, client: usize, part: usize, alone: bool, run: bool) {
        let own = self.own;
        let op = self.op(client);
        let single = op.parts.len() == 1;
        let (id, rank, part) = (op.id, op.rank, &mut op.parts[part]);
        part.tag += 1;
        part.state = if run { State::Running } else { State::Asked };
        let request = Request { op: id, rank, keys: part.keys, tag: part.tag, alone, run, single };
        let shard = part.shard;
        if shard == own {
            self.intents.place(request, &mut self.notices);
        } else {
            self.lanes.send(shard, Message::Acquire(request));
        }
    }

    /// All intents are held, or have been and are run: the rest runs now.
    fn run_all(&mut self, client: usize) {
        let own = self.own;
        let id = self.op(client).id;
        let mut here = false;
        for index in 0..self.op(client).parts.len() {
            let part = &mut self.op(client).parts[index];
            if part.state != State::Held {
                continue;
            }
            part.state = State::Running;
            let shard = part.shard;
            if shard == own {
                here = true;
            } else {
                self.lanes.send(shard, Message::Run(id));
            }
        }
        if here {
            self.run_held(id);
        }
    }

    fn reply_when_settled(&mut self, client: usize) {
        let depends = self.op(client).depends;
        if depends > self.clients.settled && self.shared.load.design == Design::Sequencer {
            self.measured.single_waits += u64::from(!self.op(client).transaction && self.clients.measuring);
            return self.clients.withheld.push(Reverse((depends, client)));
        }
        self.finish(client);
    }

    fn finish(&mut self, client: usize) {
        let op = self.clients.ops[client].take().expect("it was running");
        let now = self.shared.now();
        self.clients.acknowledged += op.writes.len() as u64;
        if self.clients.measuring {
            let histogram = if op.transaction { &mut self.measured.transactions } else { &mut self.measured.singles };
            histogram.saturating_record((now - op.started).max(1));
        }
        if self.shared.load.record {
            self.clients.events.push(Event { start: op.started, end: now, writes: op.writes });
        }
        self.clients.idle.push(client);
    }

    fn draw_number(&mut self, client: usize) {
        let number = self.shared.numbers.fetch_add(1, Ordering::SeqCst) + 1;
        let op = self.op(client);
        op.rank = (number, op.id.raw());
    }

    fn op(&mut self, client: usize) -> &mut Op {
        self.clients.ops[client].as_mut().expect("the client has an operation under way")
    }

    /// The part that an answer is about, unless it is late.
    fn current(&mut self, op: OpId, shard: usize, tag: u32) -> Option<&mut Part> {
        let running = self.clients.ops[op.client()].as_mut().filter(|running| running.id == op)?;
        let part = running.parts.iter_mut().find(|part| part.shard == shard)?;
        (part.tag == tag && matches!(part.state, State::Asked | State::Running)).then_some(part)
    }
}

/// `keys` by owner, owners ascending.
fn parts(keys: Four, shards: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::with_capacity(TX_KEYS);
    for key in keys.as_slice() {
        let shard = owner(*key, shards);
        let at = parts.partition_point(|part| part.shard < shard);
        if parts.get(at).is_none_or(|part| part.shard != shard) {
            parts.insert(at, Part { shard, keys: Four::default(), tag: 0, state: State::Idle, wanted: false });
        }
        parts[at].keys.push(*key);
    }
    parts
}
