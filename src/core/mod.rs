//! One core without its I/O: its sessions, its shard's owner, and what it sends to other cores.
//!
//! The runtime hands in received bytes, batches from lanes, log progress and the time, and carries out what is
//! left here at the end of a turn: edits for the log, batches for lanes, bytes for sockets. Nothing here waits,
//! so a call sees the shard at one point in time.

mod blocking;
mod coordinate;
mod execute;
mod groups;
mod intake;
mod long;
mod multi;
mod participate;
mod peers;
mod replies;
mod scratch;
mod snapshots;
mod turn;

pub use blocking::{Blocked, End};
pub use execute::database;
pub use intake::{Flow, Input};
pub use multi::Multi;
pub use snapshots::{Asked, Ended, FROZEN_BYTES_MAX, Growth, Running, Snapshots, UNDER_WAY};
pub use turn::{BACKLOG_BYTES_MAX, EditBatch, LogState};

use crate::admin::latency::Latency;
use crate::admin::stats::Stats;
use crate::commands::catalog::Catalog;
use crate::config::{Config, Settings};
use crate::router::batch::{CallBatch, ConnectionId, ReplyBatch};
use crate::session::{Closing, Peer, Session};
use shards::keyspace::PrefetchTicket;
use shards::owner::Owner;
use shards::slot::SlotMap;
use shards::units::{Now, Offset, ShardId};
use slab::Slab;
use std::collections::{HashMap, VecDeque};

/// What a core is told when it is made.
pub struct CoreOptions {
    pub shard: ShardId,
    pub shards: u16,
    pub settings: Settings,
    pub config_file: Option<std::path::PathBuf>,
    pub seed: u64,
    /// A monotonic count of nanoseconds, for latencies.
    pub ticks: fn() -> u64,
    pub run_id: String,
}

pub struct Core {
    pub shard: ShardId,
    pub shards: u16,
    pub owner: Owner,
    pub catalog: Catalog,
    /// All settings by name, and what the server acts on of them; the second is made of the first.
    pub settings: Settings,
    pub config: Config,
    /// Where CONFIG REWRITE writes.
    pub config_file: Option<std::path::PathBuf>,
    pub stats: Stats,
    pub latency: Latency,
    pub log: LogState,
    pub snapshots: Snapshots,
    /// Both clocks as of the start of the turn.
    pub now: Now,
    /// When the server started, steady milliseconds.
    pub started_ms: u64,
    pub run_id: String,
    pub active_expire: bool,
    /// A SHUTDOWN command was accepted: the runtime takes it from here.
    pub shutdown_requested: bool,
    /// DEBUG SLEEP: the runtime lets the core's thread sleep so long at the end of the turn.
    pub sleep: Option<std::time::Duration>,
    /// DEBUG LANE-DELAY: the runtime holds batches for random times of up to this.
    pub lane_delay_us: u64,
    /// Whose command's own part is being run, if its connection is here (`ServerHandler::Everywhere`).
    pub caller: Option<ConnectionId>,
    /// A last argument for the parts of the command being run, from its `check` (`ServerHandler::Everywhere`).
    pub appended: Option<Vec<u8>>,
    /// When CONFIG SET last changed a setting, and on whose core: the later change wins, whatever comes first.
    pub setting_stamps: HashMap<&'static str, (u64, ShardId)>,
    ticks: fn() -> u64,
    slots: SlotMap,
    coordination: coordinate::Coordination,
    blocking: blocking::Blocking,
    participation: participate::Participation,
    groups: groups::Groups,
    /// Edits that had to end a record, before those in the keyspace.
    sealed: VecDeque<turn::EditBatch>,
    sessions: Slab<Session>,
    generation: u32,
    ids: u64,
    intake: intake::Intake,
    /// Per peer: calls being collected, and how many were sent whose replies are not back.
    outboxes: Vec<Outbox>,
    /// Per peer: replies to its calls.
    replies: Vec<ReplyOutbox>,
    /// Connections with something to send, or to close.
    dirty: Vec<ConnectionId>,
    /// Connections with replies that wait for those of a peer to be sent along, and since when (ticks) the oldest does.
    deferred: Vec<ConnectionId>,
    deferred_since: u64,
    /// Those in `deferred` that still wait.
    deferred_now: usize,
    /// Connections whose first reply waits for the local log.
    gated: Vec<ConnectionId>,
    /// Connections with input that couldn't be run when it came.
    resumable: Vec<ConnectionId>,
    scratch: Vec<u8>,
    key_positions: Vec<usize>,
    call_tickets: Vec<Option<PrefetchTicket>>,
}

/// Calls for one peer.
#[derive(Default)]
struct Outbox {
    batch: CallBatch,
    unanswered: usize,
}

/// Replies for one peer: those that may go, and batches that wait for the log.
#[derive(Default)]
struct ReplyOutbox {
    ready: ReplyBatch,
    waiting: VecDeque<(Offset, ReplyBatch)>,
}

impl Core {
    pub fn new(options: CoreOptions) -> Self {
        let peers = options.shards as usize;
        let config = options.settings.config();
        let catalog = Catalog::new(shards::commands::FAMILIES, crate::commands::FAMILIES);
        let mut core = Core {
            shard: options.shard,
            shards: options.shards,
            owner: Owner::new(config.databases, options.seed),
            stats: Stats::default(),
            latency: Latency::new(catalog.len()),
            catalog,
            settings: options.settings,
            config,
            config_file: options.config_file,
            log: LogState::default(),
            snapshots: Snapshots::default(),
            now: Now::default(),
            started_ms: 0,
            run_id: options.run_id,
            active_expire: true,
            shutdown_requested: false,
            sleep: None,
            lane_delay_us: 0,
            caller: None,
            appended: None,
            setting_stamps: HashMap::new(),
            ticks: options.ticks,
            slots: SlotMap::new(options.shards),
            coordination: Default::default(),
            blocking: Default::default(),
            participation: Default::default(),
            groups: groups::Groups::new(options.shards, 0),
            sealed: VecDeque::new(),
            sessions: Slab::new(),
            generation: 0,
            ids: 0,
            intake: intake::Intake::default(),
            outboxes: (0..peers).map(|_| Outbox::default()).collect(),
            replies: (0..peers).map(|_| ReplyOutbox::default()).collect(),
            dirty: Vec::new(),
            deferred: Vec::new(),
            deferred_since: 0,
            deferred_now: 0,
            gated: Vec::new(),
            resumable: Vec::new(),
            scratch: Vec::new(),
            key_positions: Vec::new(),
            call_tickets: Vec::new(),
        };
        core.apply_config();
        core
    }

    /// Copies what the settings say to where it is used; after each change of a setting.
    pub fn apply_config(&mut self) {
        self.config = self.settings.config();
        self.owner.limits = self.config.shard_limits(self.shards);
        self.owner.keyspace.set_thresholds(self.config.thresholds);
        self.log.policy = self.config.appendfsync.policy();
        self.latency.tracking = self.config.latency_tracking;
    }

    /// The clocks are known: the core begins to serve.
    pub fn begin(&mut self, now: Now) {
        self.now = now;
        self.started_ms = now.steady_ms;
        if self.snapshots.last.wall_ms == 0 {
            self.snapshots.last.wall_ms = now.wall_ms;
        }
        self.groups = groups::Groups::new(self.shards, now.steady_ms);
    }

    pub fn ticks(&self) -> u64 {
        (self.ticks)()
    }

    // ---- sessions ----------------------------------------------------------------------------------------

    /// A new client. It may be refused: then the session exists just to say why, and closes.
    pub fn connect(&mut self, peer: Peer) -> ConnectionId {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.sessions.vacant_entry();
        let connection = ConnectionId { index: entry.key() as u32, generation: self.generation };
        // Strided, so that ids are unique over all cores without anything shared.
        let id = self.ids * self.shards as u64 + self.shard.0 as u64 + 1;
        self.ids += 1;
        let open = self.config.requirepass.is_empty();
        let denied = self.config.protected_mode && open && !peer.local;
        entry.insert(Session::new(connection, id, peer, open, self.now.steady_ms));
        self.stats.connections_received += 1;
        if denied {
            self.refuse(connection, PROTECTED_MODE);
        }
        connection
    }

    fn refuse(&mut self, connection: ConnectionId, text: &[u8]) {
        self.stats.connections_rejected += 1;
        if let Some(session) = self.session_mut(connection) {
            session.replies.out.extend_from_slice(text);
            session.closing = Closing::AfterReplies;
        }
        self.mark_dirty(connection);
    }

    /// The socket is gone: forgets the session. Replies still under way to it are dropped when they come.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        if self.session(connection).is_none() {
            return;
        }
        self.leave_lines(connection);
        // What it began on several shards is carried through all the same.
        self.stop_watching(connection);
        let session = self.sessions.remove(connection.index as usize);
        self.deferred_now -= session.deferred as usize;
    }

    /// Whether nothing is under way between shards for clients of this core.
    pub fn is_between_transactions(&self) -> bool {
        self.coordination.is_empty()
    }

    /// Asserts that nothing is under way: no transaction or part of one, no intent, no command that waits for them, no group
    /// that is open, and no reply that anybody waits for. To be true once everything that was sent between cores has arrived
    /// and the logs are written.
    pub fn check_idle(&self) {
        assert!(self.coordination.is_empty(), "a transaction is left on the core of its connection");
        self.participation.intents.check_invariants();
        assert!(self.participation.is_idle(), "intents, or commands that wait for them, are left");
        assert!(self.groups.is_idle(), "a group is open, or a reply waits for another log");
        assert!(self.resumable.is_empty(), "input waits that could be run");
        assert!(!self.has_blocked_work(), "clients that could try again have not");
        let unsent = |outbox: &Outbox| outbox.unanswered > 0 || !outbox.batch.is_empty();
        assert!(!self.outboxes.iter().any(unsent), "calls to other cores are under way");
        assert!(self.replies.iter().all(|outbox| outbox.waiting.is_empty()), "replies to other cores wait for the log");
        for session in self.sessions().filter(|session| session.closing != Closing::Now) {
            if session.blocked.is_some() {
                continue;
            }
            let waits = session.held || session.flying > 0 || !session.replies.is_direct();
            assert!(!waits, "client {} waits: held {}, {} flying", session.id, session.held, session.flying);
        }
    }

    pub fn session(&self, connection: ConnectionId) -> Option<&Session> {
        self.sessions.get(connection.index as usize).filter(|session| session.connection == connection)
    }
    pub fn session_mut(&mut self, connection: ConnectionId) -> Option<&mut Session> {
        self.sessions.get_mut(connection.index as usize).filter(|session| session.connection == connection)
    }
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|(_, session)| session)
    }
    pub fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.iter_mut().map(|(_, session)| session)
    }
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Ends a connection: once its replies are sent, or at once.
    pub fn close(&mut self, connection: ConnectionId, how: Closing) {
        self.stop_waiting(connection, End::Closed);
        if let Some(session) = self.session_mut(connection) {
            session.closing = how;
        }
        self.mark_dirty(connection);
    }

    /// The client sends no more. What it sent is still run and answered.
    pub fn end_input(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_mut(connection) {
            session.input_ended = true;
        }
        // What follows its blocking command would never be run, as nobody is there to be served.
        self.stop_waiting(connection, End::Closed);
        self.close_if_ended(connection);
    }

    fn close_if_ended(&mut self, connection: ConnectionId) {
        let ended = |session: &Session| {
            let open = session.closing == Closing::Open;
            open && session.input_ended && !session.held && !session.resumable
        };
        if self.session(connection).is_some_and(ended) {
            self.close(connection, Closing::AfterReplies);
        }
    }

    fn mark_dirty(&mut self, connection: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(connection.index as usize)
            && session.connection == connection
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(connection);
        }
    }

    fn mark_gated(&mut self, connection: ConnectionId) {
        if self.log.failed.is_some() {
            // It would wait for ever.
            return self.close(connection, Closing::Now);
        }
        if let Some(session) = self.sessions.get_mut(connection.index as usize)
            && !session.gated
        {
            session.gated = true;
            self.gated.push(connection);
        }
    }

    fn mark_resumable(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_mut(connection)
            && !session.resumable
        {
            session.resumable = true;
            self.resumable.push(connection);
        }
    }
}

const PROTECTED_MODE: &[u8] = b"-DENIED Shardis is running in protected mode because no password is set and \
connections from other machines are not accepted then. Set a password with --requirepass or CONFIG SET requirepass, or \
turn it off from this machine with CONFIG SET protected-mode no, or start with --protected-mode no.\r\n";
