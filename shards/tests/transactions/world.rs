//! A server of shards that are fronts too, with the real participants and acquisitions, under a model of the messages.
//!
//! Owns the protocol between them (what a front sends, what a shard answers) and the checks at every step. Leaves the order
//! in which things happen to `explore`. One action is what a core does without interruption: take one message and
//! finish all that follows from it at home.

use super::history::History;
use super::plan::{Case, Kind, Lanes, Part, Planted};
use shards::transaction::{Acquisition, Age, Ask, Participant, Standing, Step, Verdict};
use shards::units::ShardId;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Begin(usize),
    Deliver {
        lane: usize,
    },
    GiveUp(usize),
    Stop,
    /// Of a planted mistake: the part whose intents are already gone.
    RunLate(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Violation {
    /// Nothing can happen any more, and somebody has no reply.
    Deadlock,
    NotSerializable,
    RanBeforeAllHeld,
    RanWithoutItsIntents,
    RanBesideAHolder,
    HoldersConflict,
    /// A younger one that came later was granted first.
    Overtaken,
    /// Told to yield with nobody older in the way.
    YieldedForNobody,
    AskedTwice,
    /// A single command saw nobody in its way who was, or somebody who wasn't.
    LookedWrong,
    RanThoughGivenUp,
    NotIdleAtTheEnd,
    AsksWithoutEnd,
}

/// More times than anybody in these cases has a reason to ask one participant.
const ATTEMPTS_MAX: u32 = 200;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Message {
    Ask { attempt: u32, holds_elsewhere: bool, run: bool },
    LetGo,
    Look,
    Read,
    Write,
    Run,
    Granted { attempt: u32 },
    Yields { attempt: u32 },
    Looked { as_expected: bool },
    Stepped,
    Ran,
}

impl Message {
    fn is_answer(self) -> bool {
        match self {
            Message::Ask { .. } | Message::LetGo | Message::Look | Message::Read | Message::Write | Message::Run => {
                false
            }
            Message::Granted { .. }
            | Message::Yields { .. }
            | Message::Looked { .. }
            | Message::Stepped
            | Message::Ran => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Letter {
    transaction: usize,
    part: usize,
    message: Message,
}

/// A real structure with the digest of what it prints, which takes longer than all else.
#[derive(Clone)]
struct Digested<T> {
    inner: Rc<T>,
    digest: Option<u64>,
}

impl<T: Clone + std::fmt::Debug> Digested<T> {
    fn new(inner: T) -> Self {
        Digested { inner: Rc::new(inner), digest: None }
    }
    fn edit(&mut self) -> &mut T {
        self.digest = None;
        Rc::make_mut(&mut self.inner)
    }
    fn digest(&mut self) -> u64 {
        *self.digest.get_or_insert_with(|| {
            let mut digest = Digest(hasher());
            write!(digest, "{:?}", self.inner).expect("a hasher takes everything");
            digest.0.finish()
        })
    }
}

struct Digest(ahash::AHasher);

impl std::fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn hasher() -> ahash::AHasher {
    ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher()
}

/// Somebody in a shard's lines, as told by its verdicts: the naive twin of its intents. In order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Stand {
    transaction: usize,
    part: usize,
    holds: bool,
}

#[derive(Clone)]
struct Shard {
    participant: Digested<Participant>,
    stands: Vec<Stand>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Unborn,
    Acquires,
    Looks,
    Reads(usize),
    Writes(usize),
    Runs,
    GivenUp,
    Complete,
}

#[derive(Clone)]
struct Transaction {
    phase: Phase,
    acquisition: Option<Digested<Acquisition>>,
    /// The last attempt at each participant.
    asked: Vec<u32>,
    /// Parts that have run, whether or not the front knows.
    ran: u32,
    /// Parts that have answered the present round: looked, or ran.
    answered: u32,
    refused: bool,
}

#[derive(Clone)]
pub struct World<'a> {
    case: &'a Case,
    shards: Vec<Shard>,
    transactions: Vec<Transaction>,
    lanes: Vec<VecDeque<Letter>>,
    /// What a core has to say to itself; empty between actions.
    home: VecDeque<Letter>,
    late: Vec<(usize, usize)>,
    history: History,
    stopped: bool,
    pub yields: usize,
    violation: Option<Violation>,
}

impl<'a> World<'a> {
    pub fn new(case: &'a Case) -> Self {
        let shard = Shard { participant: Digested::new(Participant::default()), stands: Vec::new() };
        let transactions = case.plans.iter().map(|plan| Transaction {
            phase: Phase::Unborn,
            acquisition: None,
            asked: vec![0; plan.parts.len()],
            ran: 0,
            answered: 0,
            refused: false,
        });
        World {
            case,
            shards: vec![shard; case.shards],
            transactions: transactions.collect(),
            lanes: vec![VecDeque::new(); case.shards * case.shards * 2],
            home: VecDeque::new(),
            late: Vec::new(),
            history: History::new(case.plans.len(), case.shards * case.keys),
            stopped: false,
            yields: 0,
            violation: None,
        }
    }

    /// All that may happen next.
    pub fn actions(&self, actions: &mut Vec<Action>) {
        actions.clear();
        let lanes = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_empty());
        actions.extend(lanes.map(|(lane, _)| Action::Deliver { lane }));
        actions.extend((0..self.transactions.len()).filter(|one| self.may_begin(*one)).map(Action::Begin));
        let may_be_given_up =
            |one: &usize| self.plan(*one).kind == Kind::Abandoned && self.transactions[*one].phase == Phase::Acquires;
        actions.extend((0..self.transactions.len()).filter(may_be_given_up).map(Action::GiveUp));
        let unborn = self.transactions.iter().any(|one| one.phase == Phase::Unborn);
        actions.extend((self.case.may_stop && !self.stopped && unborn).then_some(Action::Stop));
        actions.extend((0..self.late.len()).map(Action::RunLate));
    }

    /// The shard that an action keeps busy.
    pub fn busy(&self, action: Action) -> usize {
        match action {
            Action::Begin(one) | Action::GiveUp(one) => self.plan(one).front,
            Action::Deliver { lane } => lane / 2 % self.case.shards,
            Action::Stop => 0,
            Action::RunLate(at) => self.part(self.late[at].0, self.late[at].1).shard,
        }
    }

    pub fn apply(&mut self, action: Action) -> Result<(), Violation> {
        let at = self.busy(action);
        match action {
            Action::Begin(one) => self.begin(one),
            Action::Deliver { lane } => {
                let letter = self.lanes[lane].pop_front().expect("only lanes that hold something deliver");
                self.take(at, letter);
            }
            Action::GiveUp(one) => self.give_up(one),
            Action::Stop => self.stopped = true,
            Action::RunLate(late) => {
                let (one, part) = self.late.remove(late);
                self.run(one, part);
                self.answer(at, one, part, Message::Ran);
            }
        }
        while let Some(letter) = self.home.pop_front() {
            self.take(at, letter);
        }
        if !self.case.from_outside {
            self.shards[at].participant.inner.check_invariants();
        }
        self.violation.map_or(Ok(()), Err)
    }

    /// To be asked when nothing can happen any more.
    pub fn end(&self) -> Result<(), Violation> {
        for (at, one) in self.transactions.iter().enumerate() {
            let everything = (1 << self.plan(at).parts.len()) - 1;
            match one.phase {
                Phase::Unborn if self.stopped => {}
                Phase::GivenUp if one.ran == 0 => {}
                Phase::GivenUp => return Err(Violation::RanThoughGivenUp),
                Phase::Complete if one.ran == everything => {}
                Phase::Unborn
                | Phase::Acquires
                | Phase::Looks
                | Phase::Reads(_)
                | Phase::Writes(_)
                | Phase::Runs
                | Phase::Complete => {
                    return Err(Violation::Deadlock);
                }
            }
        }
        let idle = self.shards.iter().all(|shard| shard.participant.inner.is_idle() && shard.stands.is_empty());
        if idle { Ok(()) } else { Err(Violation::NotIdleAtTheEnd) }
    }

    /// Worlds with the same digest have the same future, and differ in nothing that a check looks at.
    pub fn digest(&mut self) -> u64 {
        let mut hasher = hasher();
        for shard in &mut self.shards {
            shard.participant.digest().hash(&mut hasher);
            shard.stands.hash(&mut hasher);
        }
        for one in &mut self.transactions {
            one.acquisition.as_mut().map(Digested::digest).hash(&mut hasher);
            (one.phase, one.ran, one.answered, one.refused).hash(&mut hasher);
        }
        (&self.lanes, &self.late, &self.history, self.stopped).hash(&mut hasher);
        hasher.finish()
    }

    fn plan(&self, one: usize) -> &'a super::plan::Plan {
        &self.case.plans[one]
    }
    fn part(&self, one: usize, part: usize) -> &'a Part {
        &self.plan(one).parts[part]
    }
    fn planted(&self, mistake: Planted) -> bool {
        self.case.planted == mistake
    }
    fn demand(&mut self, holds: bool, violation: Violation) {
        let visible = match violation {
            Violation::Deadlock | Violation::NotSerializable | Violation::AsksWithoutEnd => true,
            Violation::RanBeforeAllHeld
            | Violation::RanWithoutItsIntents
            | Violation::RanBesideAHolder
            | Violation::HoldersConflict
            | Violation::Overtaken
            | Violation::YieldedForNobody
            | Violation::AskedTwice
            | Violation::LookedWrong
            | Violation::RanThoughGivenUp
            | Violation::NotIdleAtTheEnd => !self.case.from_outside,
        };
        if !holds && visible && self.violation.is_none() {
            self.violation = Some(violation);
        }
    }

    fn lane(&self, from: usize, to: usize, message: Message) -> usize {
        let apart = self.case.lanes == Lanes::Apart && message.is_answer();
        (from * self.case.shards + to) * 2 + apart as usize
    }
    fn send(&mut self, from: usize, to: usize, letter: Letter) {
        if from == to {
            self.home.push_back(letter);
        } else {
            let lane = self.lane(from, to, letter.message);
            self.lanes[lane].push_back(letter);
        }
    }
    fn request(&mut self, one: usize, part: usize, message: Message) {
        let (from, to) = (self.plan(one).front, self.part(one, part).shard);
        self.send(from, to, Letter { transaction: one, part, message });
    }
    fn answer(&mut self, from: usize, one: usize, part: usize, message: Message) {
        self.send(from, self.plan(one).front, Letter { transaction: one, part, message });
    }
    fn request_all(&mut self, one: usize, message: Message) {
        self.transactions[one].answered = 0;
        for part in 0..self.plan(one).parts.len() {
            self.request(one, part, message);
        }
    }

    fn take(&mut self, at: usize, letter: Letter) {
        if letter.message.is_answer() {
            self.hear(letter.transaction, letter.part, letter.message);
        } else {
            self.serve(at, letter.transaction, letter.part, letter.message);
        }
    }
}

/// The front.
impl World<'_> {
    fn may_begin(&self, one: usize) -> bool {
        let plan = self.plan(one);
        if self.stopped || self.transactions[one].phase != Phase::Unborn {
            return false;
        }
        if plan.kind == Kind::Single {
            return true;
        }
        let from = plan.front * self.case.shards * 2;
        let patient = self.lanes[from..from + self.case.shards * 2].iter().all(|lane| lane.len() <= self.case.capacity);
        let in_turn = (0..one).all(|older| {
            let other = self.plan(older);
            other.front != plan.front || other.kind == Kind::Single || self.transactions[older].phase != Phase::Unborn
        });
        patient && in_turn
    }

    fn begin(&mut self, one: usize) {
        self.history.begins(one);
        let plan = self.plan(one);
        self.transactions[one].phase = Phase::Acquires;
        if plan.kind == Kind::Single {
            return self.begin_single(one);
        }
        let shards = plan.parts.iter().map(|part| ShardId(part.shard as u16));
        let acquisition = Acquisition::new(shards, ShardId(plan.front as u16), plan.kind == Kind::OneShot);
        self.transactions[one].acquisition = Some(Digested::new(acquisition));
        self.acquire(one, |acquisition, steps| acquisition.begin(steps));
    }

    fn acquire(&mut self, one: usize, act: impl FnOnce(&mut Acquisition, &mut Vec<Step>)) {
        let mut steps = Vec::new();
        act(self.transactions[one].acquisition.as_mut().expect("it has begun").edit(), &mut steps);
        for step in steps {
            match step {
                Step::Ask(Ask { participant, attempt, standing, run }) => {
                    let part = participant as usize;
                    self.transactions[one].asked[part] = attempt;
                    self.demand(attempt < ATTEMPTS_MAX, Violation::AsksWithoutEnd);
                    let holds_elsewhere = standing == Standing::HoldsElsewhere && !self.planted(Planted::NeverYields);
                    self.request(one, part, Message::Ask { attempt, holds_elsewhere, run });
                }
                Step::LetGo(part) => self.request(one, part as usize, Message::LetGo),
                Step::Run => self.all_hold(one),
            }
        }
    }

    fn all_hold(&mut self, one: usize) {
        self.transactions[one].phase = match self.plan(one).kind {
            Kind::Single | Kind::OneShot => {
                return self.run_all(one);
            }
            Kind::Watched { .. } | Kind::Abandoned => {
                self.request_all(one, Message::Look);
                Phase::Looks
            }
            Kind::Stepwise => {
                self.request(one, 0, Message::Read);
                Phase::Reads(0)
            }
        };
    }

    /// Those that haven't run yet.
    fn run_all(&mut self, one: usize) {
        self.transactions[one].phase = Phase::Runs;
        for part in 0..self.plan(one).parts.len() {
            if self.transactions[one].answered >> part & 1 == 0 {
                self.request(one, part, Message::Run);
            }
        }
    }

    fn give_up(&mut self, one: usize) {
        self.transactions[one].phase = Phase::GivenUp;
        let acquisition = self.transactions[one].acquisition.as_ref().expect("it has begun");
        for part in acquisition.inner.engaged().collect::<Vec<_>>() {
            self.request(one, part as usize, Message::LetGo);
        }
        self.history.replies(one);
    }

    fn complete(&mut self, one: usize) {
        self.transactions[one].phase = Phase::Complete;
        self.history.replies(one);
    }

    /// An answer has come.
    fn hear(&mut self, one: usize, part: usize, message: Message) {
        let takes_old_answers = self.planted(Planted::TakesOldAnswers);
        let runs_early = self.planted(Planted::RunsBeforeAllHold);
        let transaction = &mut self.transactions[one];
        match message {
            Message::Granted { .. } | Message::Yields { .. } if transaction.phase == Phase::GivenUp => {}
            Message::Granted { .. } if runs_early => {
                if transaction.phase == Phase::Acquires {
                    self.run_all(one);
                }
            }
            Message::Granted { attempt } => {
                let attempt = if takes_old_answers { transaction.asked[part] } else { attempt };
                self.acquire(one, |acquisition, steps| acquisition.granted(part as u16, attempt, steps));
            }
            Message::Yields { attempt } => {
                self.acquire(one, |acquisition, steps| acquisition.yielded(part as u16, attempt, steps));
            }
            Message::Looked { as_expected } => {
                transaction.answered |= 1 << part;
                transaction.refused |= !as_expected;
                if transaction.answered.count_ones() as usize == transaction.asked.len() {
                    let refused = transaction.refused;
                    transaction.answered = 0;
                    if refused { self.give_up(one) } else { self.run_all(one) }
                }
            }
            Message::Stepped => self.step(one, part),
            Message::Ran => {
                transaction.answered |= 1 << part;
                if transaction.phase == Phase::Acquires {
                    // It ran on its grant: that was the last one.
                    let attempt = transaction.asked[part];
                    self.acquire(one, |acquisition, steps| acquisition.granted(part as u16, attempt, steps));
                }
                let transaction = &self.transactions[one];
                if transaction.phase == Phase::Runs
                    && transaction.answered.count_ones() as usize == transaction.asked.len()
                {
                    self.complete(one);
                }
            }
            Message::Ask { .. } | Message::LetGo | Message::Look | Message::Read | Message::Write | Message::Run => {
                unreachable!("no answer: {message:?}")
            }
        }
    }

    fn step(&mut self, one: usize, part: usize) {
        let more = part + 1 < self.plan(one).parts.len();
        match self.transactions[one].phase {
            Phase::Reads(_) if more => {
                self.transactions[one].phase = Phase::Reads(part + 1);
                self.request(one, part + 1, Message::Read);
            }
            Phase::Reads(_) => {
                self.transactions[one].phase = Phase::Writes(0);
                self.request(one, 0, Message::Write);
            }
            Phase::Writes(_) if more => {
                self.transactions[one].phase = Phase::Writes(part + 1);
                self.request(one, part + 1, Message::Write);
            }
            Phase::Writes(_) => {
                self.complete(one);
                self.request_all(one, Message::LetGo);
            }
            phase @ (Phase::Unborn
            | Phase::Acquires
            | Phase::Looks
            | Phase::Runs
            | Phase::GivenUp
            | Phase::Complete) => {
                unreachable!("no steps while {phase:?}")
            }
        }
    }
}

/// The shard.
impl World<'_> {
    fn begin_single(&mut self, one: usize) {
        let part = self.part(one, 0);
        let participant = &self.shards[part.shard].participant.inner;
        let claim = part.claim();
        let in_the_way = match part.lone_key() {
            Some((key, access)) => participant.conflicts_on(key, access),
            None => participant.conflicts(&claim),
        };
        // A newcomer stands behind all who wait, too.
        let stands = &self.shards[part.shard].stands;
        let expected = stands.iter().any(|stand| self.part(stand.transaction, stand.part).conflicts(part));
        let agree = in_the_way == expected && participant.conflicts(&claim) == expected;
        self.demand(agree, Violation::LookedWrong);
        if !in_the_way {
            self.transactions[one].ran = 1;
            self.touch(one, 0, part.reads, part.writes);
            return self.complete(one);
        }
        let age = self.case.age(one);
        let verdict = self.shards[part.shard].participant.edit().ask_alone(age, claim);
        self.demand(verdict == Verdict::Waits, Violation::LookedWrong);
        self.arrive(one, 0, verdict);
    }

    /// A request has come.
    fn serve(&mut self, at: usize, one: usize, part: usize, message: Message) {
        match message {
            Message::Ask { attempt, holds_elsewhere, run } => {
                let standing = if holds_elsewhere { Standing::HoldsElsewhere } else { Standing::EmptyHanded };
                self.ask(at, one, Ask { participant: part as u16, attempt, standing, run });
            }
            Message::LetGo => self.release(at, one),
            Message::Look => {
                let wanted = self.part(one, part);
                self.demand(self.holds(at, one), Violation::RanWithoutItsIntents);
                self.touch(one, part, wanted.reads, 0);
                let as_expected = self.plan(one).kind != Kind::Watched { broken: true } || part != 0;
                self.answer(at, one, part, Message::Looked { as_expected });
            }
            Message::Read => {
                self.before_it_runs(one, part);
                self.touch(one, part, self.part(one, part).reads, 0);
                self.answer(at, one, part, Message::Stepped);
            }
            Message::Write => {
                self.run(one, part);
                self.answer(at, one, part, Message::Stepped);
            }
            Message::Run => self.run_and_release(at, one, part),
            Message::Granted { .. }
            | Message::Yields { .. }
            | Message::Looked { .. }
            | Message::Stepped
            | Message::Ran => unreachable!("no request: {message:?}"),
        }
    }

    fn ask(&mut self, at: usize, one: usize, ask: Ask) {
        let part = ask.participant as usize;
        if self.shards[at].stands.iter().any(|stand| stand.transaction == one) {
            // The real one would panic.
            self.violation = Some(Violation::AskedTwice);
            return;
        }
        let mut wanted = self.part(one, part).clone();
        if self.planted(Planted::ForgetsAKey) && one == 0 {
            wanted.writes &= wanted.writes.wrapping_sub(1);
        }
        let verdict = self.shards[at].participant.edit().ask(self.case.age(one), wanted.claim(), ask);
        let verdict = match verdict {
            Verdict::Waits if self.planted(Planted::GrantsPastOthers) => Verdict::Granted { attempt: ask.attempt },
            verdict => verdict,
        };
        self.arrive(one, part, verdict);
    }

    fn arrive(&mut self, one: usize, part: usize, verdict: Verdict) {
        let at = self.part(one, part).shard;
        self.shards[at].stands.push(Stand { transaction: one, part, holds: false });
        self.follow(at, one, part, verdict);
    }

    fn follow(&mut self, at: usize, one: usize, part: usize, verdict: Verdict) {
        match verdict {
            Verdict::Run => {
                self.hold(at, one);
                self.run_and_release(at, one, part);
            }
            Verdict::Granted { attempt } => {
                self.hold(at, one);
                self.answer(at, one, part, Message::Granted { attempt });
            }
            Verdict::Waits => {}
            Verdict::Yields { attempt } => {
                self.yields += 1;
                let wanted = self.part(one, part);
                let older = |stand: &Stand| {
                    stand.transaction < one && self.part(stand.transaction, stand.part).conflicts(wanted)
                };
                let reason = self.shards[at].stands.iter().any(older);
                self.demand(reason, Violation::YieldedForNobody);
                self.answer(at, one, part, Message::Yields { attempt });
            }
        }
    }

    fn hold(&mut self, at: usize, one: usize) {
        let stands = &self.shards[at].stands;
        let place = stands.iter().position(|stand| stand.transaction == one).expect("it had arrived");
        let wanted = self.part(one, stands[place].part);
        let conflicting =
            |stand: &&Stand| stand.transaction != one && self.part(stand.transaction, stand.part).conflicts(wanted);
        let alone = !stands.iter().filter(conflicting).any(|stand| stand.holds);
        let in_turn = !stands[..place].iter().filter(conflicting).any(|other| !other.holds && other.transaction < one);
        self.shards[at].stands[place].holds = true;
        self.demand(alone, Violation::HoldersConflict);
        self.demand(in_turn, Violation::Overtaken);
    }

    fn release(&mut self, at: usize, one: usize) {
        let age = self.case.age(one);
        let shard = &mut self.shards[at];
        shard.stands.retain(|stand| stand.transaction != one);
        shard.participant.edit().release(age);
        while let Some((granted, verdict)) = self.shards[at].participant.edit().next_granted() {
            let Age { number, .. } = granted;
            let other = number as usize - 1;
            let stands = &self.shards[at].stands;
            let stand = stands.iter().find(|stand| stand.transaction == other).expect("it waits here");
            self.follow(at, other, stand.part, verdict);
        }
    }

    fn holds(&self, at: usize, one: usize) -> bool {
        self.shards[at].stands.iter().any(|stand| stand.transaction == one && stand.holds)
    }

    fn run_and_release(&mut self, at: usize, one: usize, part: usize) {
        if self.planted(Planted::ReleasesBeforeItRuns) && self.plan(one).kind != Kind::Single {
            self.late.push((one, part));
            return self.release(at, one);
        }
        self.run(one, part);
        if self.plan(one).kind == Kind::Single {
            self.complete(one);
        } else {
            self.answer(at, one, part, Message::Ran);
        }
        self.release(at, one);
    }

    fn run(&mut self, one: usize, part: usize) {
        self.before_it_runs(one, part);
        self.transactions[one].ran |= 1 << part;
        let Part { reads, writes, .. } = *self.part(one, part);
        self.touch(one, part, reads, writes);
    }

    fn before_it_runs(&mut self, one: usize, part: usize) {
        let at = self.part(one, part).shard;
        self.demand(self.holds(at, one), Violation::RanWithoutItsIntents);
        self.demand(self.transactions[one].phase != Phase::GivenUp, Violation::RanThoughGivenUp);
        let ran = self.transactions[one].ran;
        let all_hold = (0..self.plan(one).parts.len())
            .all(|other| ran >> other & 1 == 1 || self.holds(self.part(one, other).shard, one));
        self.demand(all_hold, Violation::RanBeforeAllHeld);
    }

    /// Reads and writes keys, for the history, and checks that nobody who holds minds.
    fn touch(&mut self, one: usize, part: usize, reads: u64, writes: u64) {
        let wanted = self.part(one, part);
        let minds = |stand: &Stand| {
            stand.transaction != one && stand.holds && self.part(stand.transaction, stand.part).conflicts(wanted)
        };
        let alone = !self.shards[wanted.shard].stands.iter().any(minds);
        self.demand(alone, Violation::RanBesideAHolder);
        for key in 0..self.case.keys {
            let number = wanted.shard * self.case.keys + key;
            if reads >> key & 1 == 1 {
                self.history.reads(one, number);
            }
            if writes >> key & 1 == 1 {
                self.history.writes(one, number);
            }
        }
        self.demand(self.history.is_serializable(), Violation::NotSerializable);
    }
}
