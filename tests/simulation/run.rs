//! One seed from its first draw to its verdict.

use super::clients::Client;
use super::collections::Collections;
use super::disk::Habits;
use super::explorer::Explorer;
use super::ledger::Accident;
use super::record::Notes;
use super::sets::Sets;
use super::world::{End, Fault, Heard, Pace, Setup, World};
use crate::hunt::checker::check;
use crate::hunt::crash::forget_hasty_reads;
use crate::hunt::search::{Verdict, search};
use crate::hunt::settings::keys_on;
use crate::hunt::workload::{Kind, Mix, Planner};
use fastrand::Rng;
use shards::wal::FsyncPolicy;

/// What happens in the middle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Nothing,
    /// All cores die; what they have written is with the kernel.
    Kill,
    /// What isn't on disk may be gone.
    PowerCut,
    /// No new input; what has arrived is answered; then a new start.
    Stop,
    /// No new input; what has arrived is answered.
    Shutdown,
    /// A write or a sync fails; later all cores die.
    LogFails,
    /// For a while there is no space for a shard's segments.
    DiskFull,
}

#[derive(Default, Debug)]
pub struct Outcome {
    pub digest: u64,
    pub operations: usize,
    pub committed: u64,
    pub planted: u64,
    pub undecided: bool,
    /// Sets that were completed.
    pub snapshots: u64,
    /// Why the seed fails.
    pub problem: Option<String>,
}

struct Run {
    world: World,
    rng: Rng,
    mix: Mix,
    sets: Sets,
    collections: Collections,
    clients: Vec<Client>,
    notes: Notes,
    sessions: u32,
    /// Steps of clients to begin.
    left: u32,
    /// Any client may find itself disconnected.
    may_close: bool,
    disconnects: bool,
    problem: Option<String>,
}

const MILLISECOND_NS: u64 = 1_000_000;
/// Steps of clients in a run of which every moment is looked at.
const EXPLORED_STEPS: u32 = 250;

/// Turns of all cores until everything that was begun has to be over.
const ROUNDS_MAX: usize = 400;
/// Turns while there is input: some twenty times what a run takes.
const STEPS_OF_INPUT_MAX: usize = 50_000;
/// Attempts of one search.
const STEPS_MAX: usize = 20_000;

pub fn run(seed: u64, fault: Fault) -> Outcome {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let mut mix = [Mix::registers(), Mix::lists(), Mix::everything()][rng.usize(..3)].clone();
    let event = draw_event(fault, &mut rng);
    let policy = draw_policy(event, fault, &mut rng);
    let may_lose = !matches!(event, Event::Nothing | Event::Shutdown | Event::Stop | Event::DiskFull);
    if may_lose && matches!(policy, Some(FsyncPolicy::EverySec | FsyncPolicy::No)) {
        // Their reads may be ahead of the log, and COPY writes what it has read: a copy may outlive its source there.
        mix.kinds.retain(|kind| *kind != Kind::Move);
    }
    let setup = draw_setup(seed, policy, fault, &mut rng);
    let clients = rng.usize(2..8);
    let told = format!("{event:?} in the middle of {:?}, {setup:?}", mix.writes);
    let mut run = Run::new(setup, rng, mix, clients);
    run.play(event);
    let mut outcome = run.finish(policy);
    outcome.problem = outcome.problem.map(|problem| format!("{told}\n{problem}"));
    outcome
}

/// One fixed run without an event, of which every moment that changes what is on a disk is crashed in every way.
pub fn explore(seed: u64, policy: FsyncPolicy) -> (Explorer, Option<String>) {
    let mut rng = Rng::with_seed(seed);
    let mut setup = draw_setup(seed, Some(policy), Fault::None, &mut rng);
    (setup.shards, setup.turn_ns_max, setup.snapshots) = (3, MILLISECOND_NS, 10);
    setup.habits = Habits { write_ns_max: 3 * MILLISECOND_NS, sync_ns_max: 100 * MILLISECOND_NS, ..setup.habits };
    let mut run = Run::new(setup, rng, Mix::everything(), 6);
    run.world.explorer = Some(Explorer::default());
    run.left = EXPLORED_STEPS;
    run.play(Event::Nothing);
    let explorer = run.world.explorer.take().expect("just put there");
    let problem = run.finish(Some(policy)).problem.or_else(|| explorer.problem.clone());
    (explorer, problem)
}

fn draw_event(fault: Fault, rng: &mut Rng) -> Event {
    match fault {
        Fault::HalfGroup | Fault::EarlyAcknowledgement | Fault::EarlyRecycling => Event::Kill,
        Fault::NoSync | Fault::BadChecksum => Event::PowerCut,
        Fault::Overtaking | Fault::LostLetGo | Fault::Twice => Event::Nothing,
        Fault::None => [
            Event::Nothing,
            Event::Kill,
            Event::Kill,
            Event::PowerCut,
            Event::PowerCut,
            Event::PowerCut,
            Event::Stop,
            Event::Shutdown,
            Event::LogFails,
            Event::DiskFull,
        ][rng.usize(..10)],
    }
}

fn draw_policy(event: Event, fault: Fault, rng: &mut Rng) -> Option<FsyncPolicy> {
    if matches!(event, Event::Nothing | Event::Shutdown) && rng.bool() {
        return None;
    }
    let policies = match fault {
        // Under `no` nothing is promised.
        Fault::NoSync => [FsyncPolicy::Always, FsyncPolicy::Always, FsyncPolicy::EverySec],
        // Records that are longer than a sector.
        Fault::BadChecksum => [FsyncPolicy::EverySec, FsyncPolicy::No, FsyncPolicy::No],
        _ => [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No],
    };
    Some(policies[rng.usize(..3)])
}

fn draw_setup(seed: u64, policy: Option<FsyncPolicy>, fault: Fault, rng: &mut Rng) -> Setup {
    let shards = [1, 2, 2, 2, 3, 3, 4, 8][rng.usize(..8)].max(1 + u16::from(fault != Fault::None));
    // Seconds pass in some runs, so that syncs are due.
    let turn_ns_max = match fault {
        Fault::NoSync => MILLISECOND_NS,
        _ => [60_000, 60_000, MILLISECOND_NS, 5 * MILLISECOND_NS][rng.usize(..4)],
    };
    let habits = Habits {
        write_ns_max: [20_000, 500_000, 20 * MILLISECOND_NS][rng.usize(..3)],
        sync_ns_max: [MILLISECOND_NS, 100 * MILLISECOND_NS, 1_500 * MILLISECOND_NS][rng.usize(..3)],
        short_writes: [0, 0, 20][rng.usize(..3)],
        forgets_failed_syncs: false,
        never_syncs: fault == Fault::NoSync,
    };
    let habits = match fault {
        // Much comes together while a write takes long, and a record longer than a sector can be torn.
        Fault::BadChecksum => Habits { write_ns_max: 20 * MILLISECOND_NS, ..habits },
        _ => habits,
    };
    let first_segment_bytes = match fault {
        Fault::EarlyRecycling => 8_192,
        _ => 4_096 * rng.u64(2..8),
    };
    Setup {
        seed,
        shards,
        policy,
        fault,
        lane_delay: [0, 30, 80][rng.usize(..3)],
        log_delay: [0, 50, 90][rng.usize(..3)],
        skew: [0, 100_000, 10_000_000][rng.usize(..3)],
        turn_ns_max,
        habits,
        snapshots: if fault == Fault::EarlyRecycling { 100 } else { [0, 10, 100][rng.usize(..3)] },
        first_segment_bytes,
        segment_bytes_max: first_segment_bytes * [1, 4][rng.usize(..2)],
    }
}

impl Run {
    fn new(setup: Setup, mut rng: Rng, mix: Mix, clients: usize) -> Run {
        let wanted = (0..u16::from(mix.keys)).map(|_| rng.u16(..setup.shards)).collect::<Vec<_>>();
        let names = keys_on("k", &wanted, setup.shards);
        let (first, second) = (rng.u16(..setup.shards), rng.u16(..setup.shards));
        let sets = Sets::new(keys_on("s", &[first, first + 1, second], setup.shards));
        let shards = (0..5).map(|_| rng.u16(..setup.shards)).collect::<Vec<_>>();
        let collections = Collections::new(keys_on("c", &shards, setup.shards));
        let world = World::new(setup);
        let (left, disconnects) = (rng.u32(20..90), rng.bool());
        let notes = Notes::new(names);
        let mut run = Run {
            world,
            rng,
            mix,
            sets,
            collections,
            clients: Vec::new(),
            notes,
            sessions: 0,
            left,
            may_close: false,
            disconnects,
            problem: None,
        };
        run.clients = (0..clients).map(|number| run.client(number as u32)).collect();
        run
    }

    fn client(&mut self, number: u32) -> Client {
        self.sessions += 1;
        let planner = Planner::new(self.mix.clone(), self.world.setup.seed, number);
        Client::new(self.world.connect(), self.sessions - 1, planner)
    }

    fn play(&mut self, event: Event) {
        self.steps_until(event, |run| run.left == 0);
        self.drain();
    }

    /// Steps until the input ends, with the event somewhere in between.
    fn steps_until(&mut self, event: Event, over: impl Fn(&Run) -> bool) {
        let mut times = if event == Event::Nothing { 0 } else { self.rng.u8(1..=3) };
        let mut at = self.rng.u32(..self.left);
        // A client that hears nothing must not keep the others from their end: what it waits for is found there.
        for _ in 0..STEPS_OF_INPUT_MAX {
            if over(self) || self.problem.is_some() {
                break;
            }
            if self.left <= at && times > 0 {
                times -= 1;
                // Some come right after one another.
                at = if self.rng.u8(..4) == 0 { self.left } else { self.rng.u32(..=self.left) };
                self.happen(event, times);
                if self.problem.is_some() {
                    break;
                }
            }
            self.step();
        }
        (0..self.world.setup.shards as usize).for_each(|core| self.world.fill_disk(core, false));
    }

    fn happen(&mut self, event: Event, times_left: u8) {
        match event {
            Event::Nothing => {}
            Event::Kill => self.restart(End::Accident(Accident::Killed)),
            Event::PowerCut => self.restart(End::Accident(Accident::PowerCut)),
            Event::Stop => {
                self.clients.iter_mut().for_each(Client::cut_input);
                self.drain();
                if self.problem.is_none() {
                    self.problem = self.world.settle_logs().err();
                }
                if self.problem.is_none() {
                    self.restart(End::Clean);
                }
            }
            Event::Shutdown => {
                self.left = 0;
                self.clients.iter_mut().for_each(Client::cut_input);
            }
            Event::LogFails if self.may_close => {
                let accident = [Accident::Killed, Accident::PowerCut][self.rng.usize(..2)];
                self.restart(End::Accident(accident));
            }
            Event::LogFails => {
                self.may_close = true;
                let core = self.world.random_core();
                self.world.fail_log(core);
            }
            Event::DiskFull => {
                let core = self.world.random_core();
                self.world.fill_disk(core, times_left > 0);
            }
        }
    }

    fn step(&mut self) {
        let idle = (0..self.clients.len()).filter(|at| self.clients[*at].is_idle() && !self.clients[*at].has_ended());
        let idle = idle.collect::<Vec<_>>();
        if !idle.is_empty() && self.left > 0 && self.rng.bool() {
            self.left -= 1;
            let client = &mut self.clients[idle[self.rng.usize(..idle.len())]];
            client.begin(&self.sets, &self.collections, &mut self.notes);
        }
        if self.disconnects && self.rng.u8(..60) == 0 {
            self.leave();
        }
        let core = self.world.random_core();
        self.turn(core, Pace::Random);
    }

    /// A client goes, whatever it is in the middle of.
    fn leave(&mut self) {
        let at = self.rng.usize(..self.clients.len());
        if self.clients[at].has_ended() {
            return;
        }
        let place = self.clients[at].place;
        if self.rng.bool() {
            self.world.disconnect(place);
            self.reconnect(at);
        } else {
            let rest = self.clients[at].end();
            let heard = self.world.turn(place.core, &[(place.connection, rest)], Pace::Random);
            self.world.end_input(place);
            self.hear(heard);
        }
    }

    fn reconnect(&mut self, at: usize) {
        let place = self.world.connect();
        self.sessions += 1;
        // The same planner: a token is used once.
        let planner = Planner::new(self.mix.clone(), 0, 0);
        let planner = std::mem::replace(&mut self.clients[at].planner, planner);
        self.clients[at] = Client::new(place, self.sessions - 1, planner);
    }

    fn turn(&mut self, core: usize, pace: Pace) {
        let mut inputs = Vec::new();
        for client in self.clients.iter_mut().filter(|client| client.place.core == core) {
            let bytes = client.arrive(&mut self.rng, pace == Pace::Swift);
            inputs.extend(bytes.map(|bytes| (client.place.connection, bytes)));
        }
        let heard = self.world.turn(core, &inputs, pace);
        self.hear(heard);
    }

    fn hear(&mut self, heard: Vec<Heard>) {
        self.notes.now_ns = self.world.ns();
        for Heard { place, bytes, closed } in heard {
            let Some(at) = self.clients.iter().position(|client| client.place == place) else { continue };
            let mut found = self.clients[at].hear(&bytes, &mut self.notes);
            if closed {
                found =
                    found.and(self.clients[at].closed().or_else(|why| if self.may_close { Ok(()) } else { Err(why) }));
                self.reconnect(at);
            }
            self.problem = self.problem.take().or(found.err());
        }
    }

    fn restart(&mut self, end: End) {
        if self.world.setup.policy.is_none() {
            return;
        }
        match self.world.restart(end) {
            Ok(Some(horizon_ns)) => self.notes.doubt(horizon_ns),
            Ok(None) => {}
            Err(why) => return self.problem = Some(why),
        }
        self.notes.settle();
        (0..self.clients.len()).for_each(|at| self.reconnect(at));
    }

    // ---- the end -------------------------------------------------------------------------------------------

    /// Everything that was begun is over within a bounded number of rounds.
    fn drain(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.problem.is_some() {
                return;
            }
            let quiet =
                self.world.is_quiet() && self.clients.iter().all(|client| client.is_idle() && !client.has_ended());
            if quiet {
                return;
            }
            (0..self.world.setup.shards as usize).for_each(|core| self.turn(core, Pace::Swift));
        }
        let waiting = self.clients.iter().find_map(Client::waits).unwrap_or("nobody waits, but for an end".to_string());
        self.problem = Some(format!("not over after {ROUNDS_MAX} rounds: {waiting}"));
    }

    fn finish(mut self, policy: Option<FsyncPolicy>) -> Outcome {
        if self.problem.is_none() {
            self.read_all();
        }
        if self.problem.is_none() {
            if !self.may_close {
                self.world.check_idle();
            }
            (0..self.clients.len()).for_each(|at| self.world.disconnect(self.clients[at].place));
            self.clients.clear();
            (0..8).for_each(|_| (0..self.world.setup.shards as usize).for_each(|core| self.turn(core, Pace::Swift)));
            assert_eq!(self.world.session_count(), 0, "all clients are gone");
        }
        let (digest, planted) = (self.world.digest, self.world.planted);
        let (operations, committed) = (self.notes.len(), self.notes.committed);
        let snapshots = self.world.snapshots();
        let mut outcome = Outcome { digest, planted, operations, committed, snapshots, ..Outcome::default() };
        outcome.problem = self.problem.or_else(|| judge(self.notes, policy, &mut outcome.undecided));
        outcome
    }

    fn read_all(&mut self) {
        let number = self.clients.len() as u32;
        let mut reader = self.client(number);
        reader.read_all(&mut self.notes);
        self.clients.push(reader);
        self.drain();
    }
}

fn judge(notes: Notes, policy: Option<FsyncPolicy>, undecided: &mut bool) -> Option<String> {
    let mut history = match notes.finish() {
        Ok(history) => history,
        Err(error) => return Some(error),
    };
    match policy {
        // A read may be ahead of the log.
        Some(FsyncPolicy::EverySec | FsyncPolicy::No) => forget_hasty_reads(&mut history),
        Some(FsyncPolicy::Always) | None => {}
    }
    if let Some(cycle) = check(&history) {
        return Some(cycle);
    }
    match search(&history, STEPS_MAX) {
        Verdict::Explained => None,
        Verdict::Impossible(why) => Some(why),
        Verdict::Undecided => {
            *undecided = true;
            None
        }
    }
}
