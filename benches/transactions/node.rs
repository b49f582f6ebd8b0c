//! A core: a shard's data and intents, and the loop that takes messages, starts its clients' operations, and sends.
//! What a front decides is in front.rs, what the sequencer does in sequencer.rs.

use crate::check::Event;
use crate::front::Clients;
use crate::intents::{Intents, Notice};
use crate::lanes::Lanes;
use crate::model::{Design, Four, Message, OpId, owner};
use crate::sequencer::Sequencer;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Numbers of the sequencer's last effects are kept by key modulo this, in a shard.
const STAMPS: usize = 4096;
/// After the end of a run, for what is under way. Longer means that it is stuck.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub struct Load {
    pub design: Design,
    pub shards: usize,
    pub keys: u32,
    pub clients: usize,
    /// Of a hundred operations.
    pub transactions: u32,
    pub warm_up: Duration,
    pub measured: Duration,
    pub record: bool,
    pub seed: u64,
}

/// What all cores of a run may touch.
pub struct Shared {
    pub load: Load,
    pub start: Instant,
    /// Design (a): the global counter.
    pub numbers: AtomicU64,
    drained: AtomicUsize,
}

impl Shared {
    pub fn new(load: Load) -> Arc<Self> {
        Arc::new(Shared { load, start: Instant::now(), numbers: AtomicU64::new(0), drained: AtomicUsize::new(0) })
    }
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// What a core measured, without warm-up and drain.
pub struct Measured {
    pub transactions: Histogram<u64>,
    pub singles: Histogram<u64>,
    pub messages: u64,
    pub cpu_ns: u64,
    pub wall_ns: u64,
    pub retries: u64,
    pub single_waits: u64,
}

/// What a core leaves behind.
pub struct Outcome {
    pub measured: Measured,
    /// Writes that its clients were told of, and writes that its data has seen, since the beginning.
    pub acknowledged: u64,
    pub written: u64,
    pub events: Vec<Event>,
}

#[derive(PartialEq, Clone, Copy)]
enum Phase {
    WarmUp,
    Measured,
    Drain,
}

pub struct Node {
    pub own: usize,
    pub shared: Arc<Shared>,
    pub lanes: Lanes,
    pub intents: Intents,
    pub notices: VecDeque<Notice>,
    pub clients: Clients,
    pub sequencer: Sequencer,
    /// A key's value is the number of times that it was written.
    values: Vec<u32>,
    stamps: Vec<u64>,
    phase: Phase,
    pub measured: Measured,
}

impl Node {
    pub fn new(own: usize, shared: Arc<Shared>, lanes: Lanes) -> Self {
        let load = shared.load;
        Node {
            own,
            lanes,
            intents: Intents::new(load.design),
            notices: VecDeque::new(),
            clients: Clients::new(own, &load),
            sequencer: Sequencer::new(load.shards),
            values: vec![0; load.keys as usize / load.shards + 1],
            stamps: vec![0; STAMPS],
            phase: Phase::WarmUp,
            measured: Measured::new(),
            shared,
        }
    }

    /// Runs until every core's clients have stopped.
    pub fn run(mut self) -> Outcome {
        self.lanes.move_in();
        let mut drained = false;
        loop {
            self.change_phase();
            let worked = self.turn();
            if self.phase == Phase::Drain && !drained && self.clients.all_stopped() {
                drained = true;
                self.shared.drained.fetch_add(1, Ordering::SeqCst);
            }
            if drained && self.shared.drained.load(Ordering::SeqCst) == self.shared.load.shards {
                break;
            }
            if !worked {
                self.lanes.sleep();
            }
        }
        assert!(self.intents.is_empty(), "core {} is left with intents", self.own);
        Outcome {
            measured: self.measured,
            acknowledged: self.clients.acknowledged,
            written: self.values.iter().map(|value| u64::from(*value)).sum(),
            events: self.clients.events,
        }
    }

    /// Messages, new operations, one flush. Whether there was anything to do.
    fn turn(&mut self) -> bool {
        let mut worked = false;
        let mut from = 0;
        while let Some(batch) = self.lanes.receive(&mut from) {
            worked = true;
            for message in batch {
                self.take(from, message);
                self.settle();
            }
        }
        if self.phase != Phase::Drain {
            for client in self.clients.idle() {
                worked = true;
                self.start(client);
                self.settle();
            }
        }
        self.end_sequencer_turn();
        self.lanes.flush();
        worked
    }

    fn take(&mut self, from: usize, message: Message) {
        match message {
            Message::Acquire(request) => {
                // A new attempt replaces the one before.
                if request.tag > 1 && self.intents.is_placed(request.op) {
                    self.intents.remove(request.op, &mut self.notices);
                }
                self.intents.place(request, &mut self.notices);
            }
            Message::Withdraw(op) => drop(self.intents.remove(op, &mut self.notices)),
            Message::Wanted { op, tag } => self.wanted(op, from, tag),
            Message::GiveBack(op) => self.intents.give_back(op, &mut self.notices),
            Message::DontRun { op, tag } => {
                if self.intents.dont_run(op) {
                    self.lanes.send(from, Message::WontRun { op, tag });
                }
            }
            Message::WontRun { op, tag } => self.wont_run(op, from, tag),
            Message::Run(op) => self.run_held(op),
            Message::Granted { op, tag } => self.granted(op, from, tag),
            Message::Yield { op, tag } => self.yielded(op, from, tag),
            Message::Refused { op, tag } => self.refused(op, from, tag),
            Message::Done { op, keys, versions, depends } => self.done(op, from, keys, versions, depends),
            Message::Order { op, keys } => self.order(op, keys),
            Message::Ordered { op, number, keys } => self.arrive(op, number, keys),
            Message::Arrived(count) => self.sequencer.arrived(from, count),
            Message::Settled(upto) => self.settled(upto),
        }
    }

    /// What follows from changes of the intents, until nothing does.
    pub fn settle(&mut self) {
        while let Some(notice) = self.notices.pop_front() {
            match notice {
                Notice::Run(op, keys) => self.execute(op, keys, 0),
                Notice::Granted(op, tag) => self.tell(op, Message::Granted { op, tag }),
                Notice::Yield(op, tag) => self.tell(op, Message::Yield { op, tag }),
                Notice::Wanted(op, tag) => self.tell(op, Message::Wanted { op, tag }),
                Notice::Refused(op, tag) => self.tell(op, Message::Refused { op, tag }),
            }
        }
    }

    /// Its intents are held here, and everywhere else.
    pub fn run_held(&mut self, op: OpId) {
        let mut released = VecDeque::new();
        let keys = self.intents.remove(op, &mut released).expect("it was granted");
        self.execute(op, keys, 0);
        self.notices.extend(released);
    }

    /// Writes `keys` and tells the front. `number`: the sequencer's.
    pub fn execute(&mut self, op: OpId, keys: Four, number: u64) {
        let (mut versions, mut depends) = (Four::default(), number);
        for key in keys.as_slice() {
            debug_assert_eq!(owner(*key, self.shared.load.shards), self.own);
            let value = &mut self.values[*key as usize / self.shared.load.shards];
            *value += 1;
            versions.push(*value);
            depends = depends.max(self.stamps[*key as usize % STAMPS]);
        }
        if depends > 0 {
            keys.as_slice().iter().for_each(|key| self.stamps[*key as usize % STAMPS] = depends);
        }
        self.tell(op, Message::Done { op, keys, versions, depends });
    }

    fn tell(&mut self, op: OpId, message: Message) {
        if op.front() == self.own {
            self.take(self.own, message);
        } else {
            self.lanes.send(op.front(), message);
        }
    }

    fn change_phase(&mut self) {
        let (now, load) = (self.shared.start.elapsed(), self.shared.load);
        match self.phase {
            Phase::WarmUp if now >= load.warm_up => {
                self.phase = Phase::Measured;
                self.measured = Measured::new();
                self.measured.cpu_ns = thread_cpu_ns();
                self.measured.wall_ns = now.as_nanos() as u64;
                self.lanes.sent = 0;
                self.intents.single_waits = 0;
            }
            Phase::Measured if now >= load.warm_up + load.measured => {
                self.phase = Phase::Drain;
                self.clients.measuring = false;
                self.measured.cpu_ns = thread_cpu_ns() - self.measured.cpu_ns;
                self.measured.wall_ns = now.as_nanos() as u64 - self.measured.wall_ns;
                self.measured.messages = self.lanes.sent;
                self.measured.single_waits += self.intents.single_waits;
            }
            Phase::Drain if now >= load.warm_up + load.measured + DRAIN_MAX => {
                eprintln!("{:?}, {} shards, seed {}: core {} is stuck", load.design, load.shards, load.seed, self.own);
                std::process::exit(1);
            }
            Phase::WarmUp | Phase::Measured | Phase::Drain => {}
        }
    }
}

impl Measured {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are in order");
        let (transactions, singles) = (histogram(), histogram());
        Measured { transactions, singles, messages: 0, cpu_ns: 0, wall_ns: 0, retries: 0, single_waits: 0 }
    }
}

/// Time this thread has had a processor for.
fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps scheduling statistics");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("the first field is a number of nanoseconds")
}
