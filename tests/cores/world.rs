//! Whole cores in one thread, without sockets and disks: lanes are queues, logs are lists, and who does what next is drawn
//! from the seed. A turn is made of the same calls in the same order as in `runtime::core_loop`.
//!
//! Faults are planted here, between the cores or in the recovery, never in the cores.

use super::lanes::{Message, without_let_go};
use super::logs::{Log, incomplete_groups};
use fastrand::Rng;
use shardis::config::Settings;
use shardis::core::{Core, CoreOptions, Input};
use shardis::router::batch::{CallBatch, ConnectionId, ReplyBatch};
use shardis::session::{Closing, Peer};
use shards::units::{Now, ShardId};
use shards::wal::FsyncPolicy;
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
    /// A recovery leaves out a group that is missing somewhere on one shard only.
    HalfGroup,
}

pub const FAULTS: [Fault; 4] = [Fault::Overtaking, Fault::LostLetGo, Fault::Twice, Fault::HalfGroup];

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
}

/// One core with what is around it.
struct Site {
    core: Core,
    log: Option<Log>,
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
    sites: Vec<Site>,
    /// By sender, then receiver.
    lanes: Vec<VecDeque<Message>>,
    ns: u64,
}

impl World {
    pub fn new(setup: Setup) -> World {
        let rng = Rng::with_seed(setup.seed);
        let lanes = (0..setup.shards as usize * setup.shards as usize).map(|_| VecDeque::new()).collect();
        let ns = 1_000_000_000_000;
        let mut world = World { rng, planted: 0, digest: 0, sites: Vec::new(), lanes, ns, setup };
        world.sites = (0..world.setup.shards).map(|shard| world.site(shard, Vec::new())).collect();
        world
    }

    fn site(&mut self, shard: u16, edits: Vec<u8>) -> Site {
        let skew = self.rng.u64(0..=self.setup.skew);
        TICKS.set(self.ns + skew);
        let mut settings = Settings::default();
        let policy = match self.setup.policy {
            None | Some(FsyncPolicy::EverySec) => "everysec",
            Some(FsyncPolicy::Always) => "always",
            Some(FsyncPolicy::No) => "no",
        };
        settings.set("databases", b"4").expect("a setting");
        settings.set("appendfsync", policy.as_bytes()).expect("a setting");
        let mut core = Core::new(CoreOptions {
            shard: ShardId(shard),
            shards: self.setup.shards,
            settings,
            config_file: None,
            seed: self.setup.seed,
            ticks,
            run_id: "0".repeat(40),
        });
        core.owner.keyspace.set_logging(false);
        core.owner.keyspace.replay_all(&edits).expect("edits made by a core");
        core.owner.keyspace.set_logging(self.setup.policy.is_some());
        core.log.persistent = self.setup.policy.is_some();
        core.begin(self.now());
        let log = self.setup.policy.map(|_| Log::new(edits));
        Site { core, log, skew }
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
        self.ns += self.rng.u64(1_000..60_000);
        TICKS.set(self.ns + self.sites[at].skew);
        let now = self.now();
        self.note(&[b't', at as u8]);
        self.sites[at].core.begin_turn(now);
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
            core.tick();
        }
        self.feed_log(at, pace);
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

    fn feed_log(&mut self, at: usize, pace: Pace) {
        let swift = pace == Pace::Swift;
        let late = |rng: &mut Rng, delay: u8| !swift && rng.u8(..100) < delay;
        let Site { core, log: Some(log), .. } = &mut self.sites[at] else { return };
        let accepts = !log.has_failed && core.log.blocked.is_none() && !late(&mut self.rng, self.setup.log_delay);
        if accepts && let Some(batch) = core.take_edits(Vec::new()) {
            core.settled_record();
            let groups = batch.group_count;
            let sequence = log.append(batch);
            core.note_record(sequence, groups);
        }
        if !log.has_failed && !late(&mut self.rng, self.setup.log_delay) {
            let count = if swift { log.unwritten() } else { self.rng.usize(0..=log.unwritten()) };
            log.write(count);
        }
        if log.has_failed {
            core.fail_log("the disk is gone");
        }
        core.release(log.released());
        core.count_backlog(0);
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

    pub fn fail_log(&mut self, at: usize) {
        self.note(&[b'f', at as u8]);
        if let Some(log) = &mut self.sites[at].log {
            log.has_failed = true;
        }
    }

    /// The disk is full, or there is room again.
    pub fn block_log(&mut self, at: usize, blocked: bool) {
        self.note(&[b'b', at as u8, blocked.into()]);
        self.sites[at].core.log.blocked = blocked.then(|| "no space".to_string());
    }

    /// All cores are gone, and new ones begin with what the logs have written, less the groups that aren't in all of theirs.
    pub fn crash(&mut self) {
        let sites = std::mem::take(&mut self.sites);
        let logs = sites.into_iter().map(|site| site.log.expect("only what has a log survives")).collect::<Vec<_>>();
        let incomplete = incomplete_groups(&logs);
        self.note(&[b'k', incomplete.len() as u8]);
        self.lanes.iter_mut().for_each(VecDeque::clear);
        // Past every number that the last life can have used.
        self.ns += 2_000_000_000;
        let none = Default::default();
        let mut planted = false;
        for (shard, log) in logs.iter().enumerate() {
            let half = self.setup.fault == Fault::HalfGroup && !planted && log.changes_by(&incomplete);
            planted |= half;
            let edits = log.recover(if half { &none } else { &incomplete });
            let site = self.site(shard as u16, edits);
            self.sites.push(site);
        }
        self.planted += u64::from(planted);
    }

    // ---- the end -------------------------------------------------------------------------------------------

    pub fn is_quiet(&self) -> bool {
        let written = |site: &Site| {
            let log = site.log.as_ref().is_none_or(|log| log.has_failed || log.unwritten() == 0);
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
