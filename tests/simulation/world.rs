//! Whole cores in one thread, without sockets: lanes are queues, disks are simulated, and who does what next is drawn from
//! the seed. A turn is made of the same calls in the same order as in `runtime::core_loop`.
//!
//! Faults are planted here, between the cores, in the disk, in the writer or in the start, never in the cores.

use super::disk::{Disk, Habits};
use super::explorer::Explorer;
use super::lanes::{Message, without_let_go};
use super::ledger::{Accident, Ledgers};
use super::snapshots::{self, Board, Manifest};
use super::start::{Careless, DATABASES, Plan, Started, Stop, digests, start};
use super::writer::{Batch, LogOptions, LogStart, Writer};
use crate::durable_time::DurableTime;
use fastrand::Rng;
use shardis::config::Settings;
use shardis::core::{Core, CoreOptions, EditBatch, Input};
use shardis::router::batch::{CallBatch, ConnectionId, ReplyBatch};
use shardis::session::{Closing, Peer};
use shards::keyspace::Keyspace;
use shards::units::{Now, Offset, ShardId};
use shards::wal::{FsyncPolicy, Sequence};
use std::cell::Cell;
use std::collections::VecDeque;

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(1) };
}

/// Every reading is a little later, so that no two things happen at the same time.
fn ticks() -> u64 {
    TICKS.replace(TICKS.get() + 100)
}

/// A bug that a harness has to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// A batch overtakes the one before it.
    Overtaking,
    /// A participant never hears that it is to let go.
    LostLetGo,
    /// A batch of calls comes twice.
    Twice,
    /// A start leaves out a group that is missing somewhere, but on one shard it doesn't.
    HalfGroup,
    /// A record counts as written when its write has begun.
    EarlyAcknowledgement,
    /// Nothing is ever synced, whatever is reported.
    NoSync,
    /// A start takes records whose checksum is wrong.
    BadChecksum,
    /// A shard's old segments go before the set of snapshots is committed.
    EarlyRecycling,
}

pub const FAULTS: [Fault; 8] = [
    Fault::Overtaking,
    Fault::LostLetGo,
    Fault::Twice,
    Fault::HalfGroup,
    Fault::EarlyAcknowledgement,
    Fault::NoSync,
    Fault::BadChecksum,
    Fault::EarlyRecycling,
];

impl Fault {
    fn careless(self) -> Option<Careless> {
        match self {
            Fault::HalfGroup => Some(Careless::Skipping),
            Fault::BadChecksum => Some(Careless::Checksum),
            Fault::None | Fault::Overtaking | Fault::LostLetGo | Fault::Twice => None,
            Fault::EarlyAcknowledgement | Fault::NoSync | Fault::EarlyRecycling => None,
        }
    }
}

/// What is the same for a whole run.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub shards: u16,
    /// Without a log, there is none.
    pub policy: Option<FsyncPolicy>,
    pub fault: Fault,
    /// Of a hundred times that a lane could be served, how often it isn't; and a log.
    pub lane_delay: u8,
    pub log_delay: u8,
    /// How far apart the clocks of the cores may be, in ticks.
    pub skew: u64,
    /// The longest that a turn takes.
    pub turn_ns_max: u64,
    pub habits: Habits,
    /// Of a thousand turns of shard 0, in how many a snapshot is asked for.
    pub snapshots: u16,
    pub first_segment_bytes: u64,
    pub segment_bytes_max: u64,
}

impl Setup {
    /// Of the simulated time that passes in a turn.
    fn is_slow(&self) -> bool {
        self.habits.sync_ns_max > STRICT_SYNC_NS_MAX || self.turn_ns_max > STRICT_TURN_NS_MAX
    }
}

/// With syncs and turns no longer than these, what is a second old is on disk: a sync begins after half of that, or when the one
/// before it ends.
const STRICT_SYNC_NS_MAX: u64 = 150_000_000;
const STRICT_TURN_NS_MAX: u64 = 1_000_000;

/// How the cores come to their end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Accident(Accident),
    /// Everything is over and synced; then the power is cut.
    Clean,
}

/// One core with what is around it.
struct Site {
    core: Core,
    log: Option<Writer>,
    durable_time: DurableTime,
    snapshot: Option<snapshots::Job>,
    skew: u64,
}

/// Where a client is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub core: usize,
    pub connection: ConnectionId,
}

/// What a client hears of a turn.
pub struct Heard {
    pub place: Place,
    pub bytes: Vec<u8>,
    pub closed: bool,
}

/// How a turn treats what waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    Random,
    /// Everything that can be done is.
    Swift,
}

pub struct World {
    pub setup: Setup,
    pub rng: Rng,
    /// Times that the fault was planted.
    pub planted: u64,
    /// Of everything that has happened.
    pub digest: u64,
    /// Finds the states that a crash may leave, where that is asked for.
    pub explorer: Option<Explorer>,
    sites: Vec<Site>,
    disks: Vec<Disk>,
    ledgers: Ledgers,
    manifest: Manifest,
    board: Board,
    /// Up to which time each core's edits are on disk.
    durable_ms: Vec<u64>,
    /// By sender, then receiver.
    lanes: Vec<VecDeque<Message>>,
    ns: u64,
}

impl World {
    pub fn new(setup: Setup) -> World {
        let rng = Rng::with_seed(setup.seed);
        let lanes = (0..setup.shards as usize * setup.shards as usize).map(|_| VecDeque::new()).collect();
        let ns = 1_000_000_000_000;
        let count = setup.shards as usize;
        let disk = |shard: u16| Disk::new(setup.habits, setup.seed ^ u64::from(shard) << 32);
        let disks = (0..setup.shards).map(disk).collect();
        let ledgers = Ledgers::new(setup.shards);
        let durable_ms = vec![0; count];
        let board = Board::new(setup.fault == Fault::EarlyRecycling);
        let mut world = World {
            rng,
            planted: 0,
            digest: 0,
            explorer: None,
            sites: Vec::new(),
            disks,
            ledgers,
            manifest: Manifest::default(),
            board,
            durable_ms,
            lanes,
            ns,
            setup,
        };
        let empty = || {
            let keyspace = Keyspace::new(DATABASES, world.setup.seed);
            let (start, surveyed) = (LogStart::EMPTY, Sequence::FIRST);
            Started { keyspace, start, compensation: Vec::new(), surveyed, segments: Vec::new(), planted: 0 }
        };
        let nothing = (0..count).map(|_| empty()).collect();
        world.begin(nothing);
        world
    }

    /// New cores with what a start found.
    fn begin(&mut self, started: Vec<Started>) {
        self.durable_ms.fill(0);
        self.board.begin(started.len());
        self.lanes.iter_mut().for_each(VecDeque::clear);
        self.sites = started.into_iter().enumerate().map(|(shard, one)| self.site(shard, one)).collect();
    }

    fn site(&mut self, shard: usize, started: Started) -> Site {
        let skew = self.rng.u64(0..=self.setup.skew);
        TICKS.set(self.ns + skew);
        let id = ShardId(shard as u16);
        let mut core = Core::new(CoreOptions {
            shard: id,
            shards: self.setup.shards,
            settings: self.settings(),
            config_file: None,
            seed: self.setup.seed,
            ticks,
            run_id: "0".repeat(40),
        });
        core.owner.keyspace = started.keyspace;
        core.begin(self.now());
        let log = self.setup.policy.map(|policy| {
            let options = LogOptions {
                shard: id,
                policy,
                first_segment_bytes: self.setup.first_segment_bytes,
                segment_bytes_max: self.setup.segment_bytes_max,
                acknowledges_early: self.setup.fault == Fault::EarlyAcknowledgement,
            };
            let mut log = Writer::new(options, started.start, started.segments, Rng::with_seed(self.rng.u64(..)));
            log.ask_for_segment(&mut self.disks[shard]);
            core.log.persistent = true;
            core.snapshots.begun = self.manifest.kernel.unwrap_or(0);
            (core.log.released, core.log.taken) = (started.start.offset, started.start.offset);
            log
        });
        core.owner.keyspace.set_logging(log.is_some());
        adopt_all(&mut core.owner.keyspace, &started.compensation);
        self.ledgers.begin(shard, self.ns, started.start.offset);
        Site { core, log, durable_time: DurableTime::default(), snapshot: None, skew }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let policy = match self.setup.policy {
            None | Some(FsyncPolicy::EverySec) => "everysec",
            Some(FsyncPolicy::Always) => "always",
            Some(FsyncPolicy::No) => "no",
        };
        settings.set("databases", DATABASES.to_string().as_bytes()).expect("a setting");
        settings.set("appendfsync", policy.as_bytes()).expect("a setting");
        settings
    }

    /// Sets of snapshots that were completed.
    pub fn snapshots(&self) -> u64 {
        self.board.completed
    }

    pub fn ns(&self) -> u64 {
        self.ns
    }

    fn now(&self) -> Now {
        Now::at(self.ns / 1_000_000)
    }

    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
    }

    // ---- clients -------------------------------------------------------------------------------------------

    pub fn connect(&mut self) -> Place {
        let core = self.rng.usize(..self.sites.len());
        let peer = Peer { address: "127.0.0.1:1".into(), local_address: "127.0.0.1:2".into(), fd: 9, local: true };
        Place { core, connection: self.sites[core].core.connect(peer) }
    }

    /// The client is gone, and the core hears of it: at once, or by what it finds when it wants to send.
    pub fn disconnect(&mut self, place: Place) {
        self.note(&[b'd', place.core as u8]);
        let core = &mut self.sites[place.core].core;
        if self.rng.bool() {
            core.disconnected(place.connection);
        } else {
            core.close(place.connection, Closing::Now);
        }
    }

    /// The client sends no more, and waits for the rest.
    pub fn end_input(&mut self, place: Place) {
        self.sites[place.core].core.end_input(place.connection);
    }

    // ---- turns ---------------------------------------------------------------------------------------------

    pub fn random_core(&mut self) -> usize {
        self.rng.usize(..self.sites.len())
    }

    /// One turn of one core, with what its clients' bytes are.
    pub fn turn(&mut self, at: usize, inputs: &[(ConnectionId, Vec<u8>)], pace: Pace) -> Vec<Heard> {
        self.ns += self.rng.u64(1_000..self.setup.turn_ns_max);
        TICKS.set(self.ns + self.sites[at].skew);
        let now = self.now();
        self.note(&[b't', at as u8]);
        self.sites[at].core.begin_turn(now);
        self.complete_requests(at, pace);
        let messages_first = self.rng.bool();
        if messages_first {
            self.take_messages(at, pace);
        }
        self.receive(at, inputs);
        if !messages_first {
            self.take_messages(at, pace);
        }
        let core = &mut self.sites[at].core;
        if core.has_resumable() {
            core.resume();
        }
        if self.rng.u8(..16) == 0 {
            self.tick(at);
        }
        let core = &mut self.sites[at].core;
        if at == 0 && pace == Pace::Random && self.rng.u16(..1_000) < self.setup.snapshots {
            core.want_snapshot(true);
        }
        core.serve_blocked();
        core.begin_wanted_snapshot();
        self.feed_log(at, pace);
        self.save(at, pace);
        self.send_batches(at);
        self.send_replies(at)
    }

    fn receive(&mut self, at: usize, inputs: &[(ConnectionId, Vec<u8>)]) {
        inputs.iter().for_each(|(_, bytes)| self.note(bytes));
        let together = self.rng.bool();
        let core = &mut self.sites[at].core;
        let input = |(connection, bytes)| Input { connection, bytes };
        let inputs =
            inputs.iter().map(|(connection, bytes)| input((*connection, bytes.as_slice()))).collect::<Vec<_>>();
        let chunk = if together { inputs.len().max(1) } else { 1 };
        inputs.chunks(chunk).for_each(|inputs| core.receive(inputs));
    }

    fn take_messages(&mut self, at: usize, pace: Pace) {
        let count = self.sites.len();
        for from in (0..count).filter(|from| *from != at) {
            let lane = from * count + at;
            let waiting = self.lanes[lane].len();
            let served = match pace {
                Pace::Swift => waiting,
                Pace::Random if waiting == 0 || self.rng.u8(..100) < self.setup.lane_delay => 0,
                Pace::Random => self.rng.usize(1..=waiting),
            };
            for _ in 0..served {
                if self.setup.fault == Fault::Overtaking && self.lanes[lane].len() > 1 && self.rng.u8(..10) == 0 {
                    self.lanes[lane].swap(0, 1);
                    self.planted += 1;
                }
                let message = self.lanes[lane].pop_front().expect("counted above");
                self.deliver(from, at, &message);
            }
        }
    }

    fn deliver(&mut self, from: usize, at: usize, message: &Message) {
        let peer = ShardId(from as u16);
        match message {
            Message::Calls(batch) => {
                self.note(&[b'c', from as u8, at as u8, batch.len() as u8, batch.bytes() as u8]);
                self.sites[at].core.on_calls(peer, batch);
                if self.setup.fault == Fault::Twice && self.rng.u8(..20) == 0 {
                    self.planted += 1;
                    self.sites[at].core.on_calls(peer, batch);
                }
            }
            Message::Replies(batch) => {
                self.note(&[b'r', from as u8, at as u8, batch.plain() as u8]);
                batch.iter().for_each(|(_, _, bytes)| self.note(bytes));
                self.sites[at].core.on_replies(peer, batch);
            }
        }
    }

    fn tick(&mut self, at: usize) {
        let Site { core, log, durable_time, .. } = &mut self.sites[at];
        if let Some(log) = log {
            log.retry(&mut self.disks[at]);
            core.log.blocked = log.obstacle();
        }
        let end = Offset(core.log.taken.0 + core.owner.keyspace.edits().len() as u64);
        let durable = log.as_ref().map(|log| log.commit.durable_offset());
        if let Some(time_ms) = durable_time.at(core.now.steady_ms, end, durable) {
            self.durable_ms[at] = time_ms;
        }
        core.note_durable(*self.durable_ms.iter().min().expect("there is a core"));
        core.tick();
    }

    /// Tells the log what its disk has done meanwhile.
    fn complete_requests(&mut self, at: usize, pace: Pace) {
        let now = self.now();
        let Some(log) = &mut self.sites[at].log else { return };
        log.set_now(now, self.ns);
        log.prepare(&mut self.rng, pace == Pace::Swift, &mut self.disks[at]);
        let until_ns = (pace == Pace::Random).then_some(self.ns);
        while self.disks[at].is_due(until_ns) {
            if let Some(mut explorer) = self.explorer.take() {
                self.explore(&mut explorer);
                self.explorer = Some(explorer);
            }
            let completion = self.disks[at].complete();
            self.note(&[b'w', at as u8]);
            self.note(&completion.result.to_le_bytes());
            let log = self.sites[at].log.as_mut().expect("just seen");
            log.complete(completion, &mut self.disks[at]);
        }
    }

    fn feed_log(&mut self, at: usize, pace: Pace) {
        let is_late = pace == Pace::Random && self.rng.u8(..100) < self.setup.log_delay;
        let Site { core, log: Some(log), .. } = &mut self.sites[at] else { return };
        let disk = &mut self.disks[at];
        log.write_pending(disk);
        if log.accepts()
            && !is_late
            && let Some(batch) = core.take_edits(Vec::new())
        {
            let settled = core.settled_record();
            let expected = self.ledgers.append(at, &batch);
            let EditBatch { edits, start, count, groups, group_count } = batch;
            let sequence = log.append(Batch { edits, groups, start, count, settled }, disk);
            assert_eq!(sequence, expected, "records are numbered one after the other");
            core.note_record(sequence, group_count);
        }
        log.sync(false, disk);
        let released = log.commit.released(core.now.steady_ms);
        if let Some(why) = &log.failure {
            core.fail_log(why);
        }
        self.ledgers.acknowledge(at, self.ns, released);
        core.release(released);
        core.count_backlog(0);
    }

    /// A step of the snapshot that is under way.
    fn save(&mut self, at: usize, pace: Pace) {
        let Site { core, log: Some(log), snapshot, .. } = &mut self.sites[at] else { return };
        let (disk, manifest, board) = (&mut self.disks[at], &mut self.manifest, &mut self.board);
        let mut site = snapshots::Site { core, log, disk, manifest, board };
        snapshots::take_up(snapshot, &mut site);
        if pace == Pace::Swift || self.rng.bool() {
            snapshots::turn(snapshot, &mut site);
        }
    }

    /// Looks at every state that an accident at this moment may leave: all of what is unsure up to some sector, one sector alone,
    /// all but one.
    fn explore(&mut self, explorer: &mut Explorer) {
        let policy = self.setup.policy.expect("there are logs");
        let durable = self.sites.iter().map(|site| site.log.as_ref().expect("there is a log").commit.durable_offset());
        let durable = durable.collect::<Vec<_>>();
        let is_slow = self.has_held_back();
        let horizon_ns = self.ledgers.horizon_ns(policy, Accident::PowerCut, self.ns, is_slow, &durable);
        explorer.visit(&self.disks, self.manifest, &mut self.ledgers, horizon_ns, self.setup.seed);
    }

    fn send_batches(&mut self, at: usize) {
        let count = self.sites.len();
        for to in (0..count).filter(|to| *to != at) {
            let lane = at * count + to;
            let peer = ShardId(to as u16);
            if let Some(mut calls) = self.sites[at].core.take_calls(peer, CallBatch::default) {
                if self.setup.fault == Fault::LostLetGo {
                    let (rest, dropped) = without_let_go(&calls);
                    (calls, self.planted) = (rest, self.planted + dropped);
                }
                self.lanes[lane].push_back(Message::Calls(calls));
            }
            if let Some(replies) = self.sites[at].core.take_replies(peer, ReplyBatch::default) {
                self.lanes[lane].push_back(Message::Replies(replies));
            }
        }
    }

    fn send_replies(&mut self, at: usize) -> Vec<Heard> {
        let (mut dirty, mut heard) = (Vec::new(), Vec::new());
        self.sites[at].core.take_dirty(&mut dirty);
        for connection in dirty {
            let core = &mut self.sites[at].core;
            let Some(session) = core.session_mut(connection).filter(|session| !session.deferred) else { continue };
            let (bytes, closed) = match session.closing {
                Closing::Now => (Vec::new(), true),
                closing @ (Closing::Open | Closing::AfterReplies) => {
                    let bytes = std::mem::take(&mut session.replies.out);
                    let done = session.replies.is_direct() && !session.held;
                    (bytes, closing == Closing::AfterReplies && done)
                }
            };
            if closed {
                core.disconnected(connection);
            }
            self.note(&bytes);
            heard.push(Heard { place: Place { core: at, connection }, bytes, closed });
        }
        heard
    }

    // ---- what goes wrong -----------------------------------------------------------------------------------

    /// The next write or sync of a shard's log fails.
    pub fn fail_log(&mut self, at: usize) {
        let disk = &mut self.disks[at];
        match self.rng.bool() {
            true => disk.fails_write = true,
            false => disk.fails_sync = true,
        }
        self.note(&[b'f', at as u8]);
    }

    /// The disk is full, or there is room again.
    pub fn fill_disk(&mut self, at: usize, is_full: bool) {
        self.note(&[b'b', at as u8, is_full.into()]);
        self.disks[at].is_full = is_full;
    }

    /// Whether acknowledgements may have stopped before now, for a slow disk or a failed one.
    fn has_held_back(&self) -> bool {
        self.setup.is_slow() || self.sites.iter().any(|site| site.core.log.failed.is_some())
    }

    /// All cores are gone, and new ones begin with what a start finds, which may itself be interrupted. What was acknowledged
    /// later than the time that is returned may be lost.
    pub fn restart(&mut self, end: End) -> Result<Option<u64>, String> {
        let policy = self.setup.policy.expect("only what has a log survives");
        let live = (end == End::Clean || self.is_written()).then(|| self.digests());
        let durable = self.sites.iter().map(|site| site.log.as_ref().expect("there is a log").commit.durable_offset());
        let durable = durable.collect::<Vec<_>>();
        let is_slow = self.has_held_back();
        let horizon_ns = |accident| self.ledgers.horizon_ns(policy, accident, self.ns, is_slow, &durable);
        // What may be lost if the power goes before a start is over.
        let at_worst_ns = horizon_ns(Accident::PowerCut);
        let mut horizon_ns = match end {
            End::Accident(accident) => horizon_ns(accident),
            End::Clean => None,
        };
        self.note(b"k");
        self.planted += std::mem::take(&mut self.board.planted);
        self.planted += u64::from(matches!(self.setup.fault, Fault::EarlyAcknowledgement | Fault::NoSync));
        self.sites.clear();
        self.have_accident(match end {
            End::Accident(accident) => accident,
            End::Clean => Accident::PowerCut,
        });
        // Past every number that the last life can have used.
        self.ns += 2_000_000_000;
        let mut has_live = end != End::Accident(Accident::PowerCut);
        let started = loop {
            match self.start_once() {
                Ok(started) => break started,
                Err(Stop::Refused(why)) => return Err(why),
                Err(Stop::Interrupted) => {
                    let accident = [Accident::Killed, Accident::PowerCut][self.rng.usize(..2)];
                    if accident == Accident::PowerCut && end != End::Clean {
                        (horizon_ns, has_live) = (at_worst_ns, false);
                    }
                    self.have_accident(accident);
                }
            }
        };
        self.judge(&started, horizon_ns)?;
        if let Some(live) = live.filter(|_| has_live)
            && started.iter().map(Started::digests).ne(live)
        {
            return Err("a start finds something else than what was there".to_string());
        }
        self.ledgers.cut(&started);
        self.begin(started);
        Ok(horizon_ns)
    }

    fn have_accident(&mut self, accident: Accident) {
        let rng = &mut self.rng;
        for disk in &mut self.disks {
            (disk.is_full, disk.fails_write, disk.fails_sync) = (false, false, false);
            match accident {
                Accident::Killed => disk.kill(rng),
                Accident::PowerCut => {
                    // Nearly all, nearly nothing, or anything.
                    let kept = [5, 50, 95][rng.usize(..3)];
                    disk.cut_power(&mut |states| if rng.u8(..100) < kept { states - 1 } else { rng.usize(..states) });
                }
            }
        }
        if accident == Accident::PowerCut {
            self.manifest.cut_power(&mut |states| rng.usize(..states));
        }
    }

    fn start_once(&mut self) -> Result<Vec<Started>, Stop> {
        // Before anything is removed that another manifest may name.
        self.manifest.disk = self.manifest.kernel;
        let mut order = (0..self.disks.len()).collect::<Vec<_>>();
        self.rng.shuffle(&mut order);
        let steps = (self.rng.u8(..3) == 0).then(|| self.rng.usize(..6));
        let (seed, snapshot, careless) = (self.setup.seed, self.manifest.kernel, self.setup.fault.careless());
        let plan = Plan { steps, order: &order, seed, snapshot, careless };
        start(&mut self.disks, plan)
    }

    fn judge(&mut self, started: &[Started], horizon_ns: Option<u64>) -> Result<(), String> {
        self.planted += started.iter().map(|one| one.planted).sum::<u64>();
        started.iter().for_each(|one| {
            self.note(&one.start.next_sequence.0.to_le_bytes());
            one.digests().iter().for_each(|digest| self.note(&digest.to_le_bytes()));
        });
        self.ledgers.judge(started, horizon_ns)?;
        // The first server may end before it writes anything: the next one must find the same.
        let order = (0..self.disks.len()).collect::<Vec<_>>();
        let (snapshot, careless) = (self.manifest.kernel, self.setup.fault.careless());
        let plan = Plan { steps: None, order: &order, seed: 0, snapshot, careless };
        let again = start(&mut self.disks.clone(), plan);
        let again = again.map_err(|stop| format!("a second start finds something else: {stop:?}"))?;
        let same = |(one, other): (&Started, &Started)| {
            let kept = |one: &Started| {
                let LogStart { next_sequence, offset, predecessor, .. } = one.start;
                (next_sequence, offset, predecessor, one.compensation.clone())
            };
            kept(one) == kept(other) && one.digests() == other.digests()
        };
        match started.iter().zip(&again).all(same) {
            true => Ok(()),
            false => Err("a second start finds something else".to_string()),
        }
    }

    /// Everything that was made is synced, as at a shutdown.
    pub fn settle_logs(&mut self) -> Result<(), String> {
        for at in 0..self.sites.len() {
            for _ in 0..SETTLING_STEPS_MAX {
                self.complete_requests(at, Pace::Swift);
                self.feed_log(at, Pace::Swift);
                let Site { core, log: Some(log), .. } = &mut self.sites[at] else { break };
                log.sync(true, &mut self.disks[at]);
                if log.is_settled() && core.edits_waiting() == 0 {
                    break;
                }
            }
        }
        let is_settled = |site: &Site| site.log.as_ref().is_none_or(Writer::is_settled);
        if self.sites.iter().all(is_settled) { Ok(()) } else { Err("a log is never settled".to_string()) }
    }

    /// What the shards hold.
    fn digests(&self) -> Vec<Vec<u64>> {
        self.sites.iter().map(|site| digests(&site.core.owner.keyspace)).collect()
    }

    /// All edits are with the kernel.
    fn is_written(&self) -> bool {
        let is_written = |site: &Site| {
            let written = site.log.as_ref().is_some_and(|log| log.failure.is_none() && log.is_written());
            let taken = site.core.edits_waiting() == 0 && site.core.owner.keyspace.edits().is_empty();
            written && taken && site.core.is_between_transactions()
        };
        self.sites.iter().all(is_written)
    }

    // ---- the end -------------------------------------------------------------------------------------------

    pub fn is_quiet(&self) -> bool {
        let written = |site: &Site| {
            let log = site.log.as_ref().is_none_or(|log| log.failure.is_some() || log.is_written());
            let edits = site.core.edits_waiting() == 0 || site.log.is_none() || site.core.log.failed.is_some();
            log && edits && !site.core.has_resumable() && site.core.is_between_transactions()
        };
        self.lanes.iter().all(VecDeque::is_empty) && self.sites.iter().all(written)
    }

    pub fn check_idle(&self) {
        for site in &self.sites {
            assert!(site.core.is_between_transactions());
            site.core.check_idle();
        }
    }

    pub fn session_count(&self) -> usize {
        self.sites.iter().map(|site| site.core.session_count()).sum()
    }
}

const SETTLING_STEPS_MAX: usize = 100;

fn adopt_all(keyspace: &mut Keyspace, mut edits: &[u8]) {
    while !edits.is_empty() {
        let used = keyspace.adopt(edits).expect("edits just made, of databases that are there");
        edits = &edits[used..];
    }
}
