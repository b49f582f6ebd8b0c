//! The loop of one core. A turn: completions in, messages from lanes, the core's work, then edits to the log,
//! batches to lanes, bytes to sockets, all submitted by one `io_uring_enter`.
//!
//! A core with nothing to do spins for `spin-us`, then sleeps in its own ring. Only while its executor has background work
//! does it sleep in the executor instead, woken through an eventfd registered with the ring.

use super::disk::{Batch, LogWriter};
use super::durable_time::DurableTime;
use super::lanes::{Lanes, Message};
use super::ring::{Completion, Ring};
use super::snapshot_writer::SnapshotWriter;
use super::sockets::{self, Sockets};
use super::token::{self, Operation, token};
use super::{Background, clock, operational_log};
use crate::admin::latency::Stage;
use crate::config::LogLevel;
use crate::core::{Core, EditBatch, Input};
use crate::router::batch::{CallBatch, ConnectionId, ReplyBatch};
use crate::session::{Closing, Peer};
use glommio::io::BufferedFile;
use io_uring::{opcode, types};
use shards::units::{Offset, ShardId};
use shards::wal::FsyncPolicy;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What all cores of the process share on their way down.
#[derive(Default)]
pub struct Shutdown {
    pub requested: AtomicBool,
    /// Cores that have answered all their clients; the last to come lets the others go.
    pub drained: AtomicUsize,
}

pub struct CoreLoop {
    pub core: Core,
    pub ring: Ring,
    pub lanes: Lanes,
    pub log: Option<LogWriter>,
    /// There is one if there is a log.
    pub snapshots: Option<SnapshotWriter>,
    pub clock: clock::Clock,
    /// Listening sockets; only the first core has any.
    pub listeners: Vec<OwnedFd>,
    pub shutdown: Arc<Shutdown>,
    pub background: Background,
    /// Signalled by the ring, and by background work, while the core sleeps in its executor.
    pub wake: OwnedFd,
    /// More cores than processors: spinning would only keep others from working.
    pub crowded: bool,
    sockets: Sockets,
    completions: Vec<Completion>,
    received: Vec<(ConnectionId, u16, *const [u8])>,
    dirty: Vec<ConnectionId>,
    doorbell_bytes: Box<[u8; 8]>,
    next_tick_ms: u64,
    last_work_ticks: u64,
    last_pass_ticks: u64,
    phase: Phase,
    next_core: usize,
    /// Listeners whose accept ended in an error; armed again at the next tick.
    next_accept: Vec<usize>,
    /// The fsync policy that the log was last told.
    policy_seen: FsyncPolicy,
    level_seen: LogLevel,
    spare_calls: Vec<CallBatch>,
    spare_edits: Vec<u8>,
    /// Since when (ticks) edits wait to be handed to the log.
    edits_since: Option<u64>,
    durable_time: DurableTime,
}

/// Where a core is on its way down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Serving,
    /// No new input; what was received is answered. Gives up at the deadline (ticks).
    Draining {
        until: u64,
    },
    /// Own clients are answered; peers may still call.
    Drained {
        until: u64,
    },
    /// The log is written and synced.
    Settling {
        until: u64,
    },
}

/// While background work is under way, the executor gets a pass at least this often.
const EXECUTOR_PASS_NS: u64 = 500_000;
const SPARE_BATCHES: usize = 64;
/// Edits are handed to the log at once when there are as many bytes of them.
const BATCH_BYTES: usize = 64 << 10;
/// Or when they have waited so long: a core that always has something to do, be it to wait for another, must not keep
/// its writers waiting.
const EDITS_WAIT_NS_MAX: u64 = 2_000_000;
/// Edits that have waited for the log so long count as backlog.
const BACKLOG_AFTER_NS: u64 = 100_000_000;

/// The parts of a core that are made before its loop.
pub struct Parts {
    pub core: Core,
    pub ring: Ring,
    pub lanes: Lanes,
    pub log: Option<LogWriter>,
    pub snapshots: Option<SnapshotWriter>,
    pub clock: clock::Clock,
    pub listeners: Vec<OwnedFd>,
    pub shutdown: Arc<Shutdown>,
    pub background: Background,
    pub wake: OwnedFd,
    pub crowded: bool,
}

impl CoreLoop {
    pub fn new(parts: Parts) -> Self {
        let Parts { core, ring, lanes, log, snapshots, clock, listeners, shutdown, background, wake, crowded } = parts;
        CoreLoop {
            policy_seen: core.config.appendfsync.policy(),
            level_seen: core.config.loglevel,
            next_accept: Vec::new(),
            core,
            ring,
            lanes,
            log,
            snapshots,
            clock,
            listeners,
            shutdown,
            background,
            wake,
            crowded,
            sockets: Sockets::default(),
            completions: Vec::new(),
            received: Vec::new(),
            dirty: Vec::new(),
            doorbell_bytes: Box::new([0; 8]),
            next_tick_ms: 0,
            last_work_ticks: 0,
            last_pass_ticks: 0,
            phase: Phase::Serving,
            next_core: 0,
            spare_calls: Vec::new(),
            spare_edits: Vec::new(),
            edits_since: None,
            durable_time: DurableTime::default(),
        }
    }

    /// Serves until shut down. Returns the reason if the ring itself failed.
    ///
    /// Nothing of the core is freed: closing the ring doesn't wait for what is under way in it, so the kernel may still read
    /// from its buffers and write to them. The process ends next.
    pub async fn run(self) -> std::io::Result<()> {
        ManuallyDrop::new(self).serve().await
    }

    async fn serve(&mut self) -> std::io::Result<()> {
        self.arm_doorbell();
        (0..self.listeners.len()).for_each(|listener| self.arm_accept(listener));
        // SAFETY: a duplicate of our own descriptor, which glommio's file then owns and closes.
        let wake_file = Rc::new(unsafe { BufferedFile::from_raw_fd(self.wake.try_clone()?.into_raw_fd()) });
        loop {
            let worked = self.turn();
            if self.go_down() {
                break;
            }
            self.rest(worked, &wake_file).await?;
        }
        // Background work must not outlive the executor.
        while !self.background.is_idle() {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// One turn; whether there was anything to do.
    fn turn(&mut self) -> bool {
        self.core.begin_turn(self.clock.now());
        self.core.stats.turns += 1;
        let mut worked = self.take_completions();
        worked |= self.take_messages();
        if self.core.has_resumable() {
            self.core.resume();
            worked = true;
        }
        if self.core.has_long_work() {
            self.core.work_on_long();
            worked = true;
        }
        if self.core.now.steady_ms >= self.next_tick_ms {
            self.tick();
        }
        self.core.serve_blocked();
        self.core.begin_wanted_snapshot();
        self.feed_log(worked);
        if let Some((snapshots, log)) = self.snapshots.as_mut().zip(self.log.as_mut()) {
            snapshots.turn(&mut self.core, log, &mut self.ring, worked);
        }
        self.send_batches();
        self.send_replies();
        if let Some(time) = self.core.sleep.take() {
            // After the batches left, so that all cores sleep at the same time.
            clock::sleep(time);
        }
        worked
    }

    // ---- completions ---------------------------------------------------------------------------------------

    fn take_completions(&mut self) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        completions.clear();
        self.ring.completions(&mut completions);
        let any = !completions.is_empty();
        for completion in &completions {
            self.complete(completion);
        }
        self.run_received();
        self.completions = completions;
        any
    }

    fn complete(&mut self, completion: &Completion) {
        let (operation, number) = token::split(completion.token);
        match operation {
            Operation::Receive => self.on_receive(number as u32, completion),
            Operation::Send => self.on_sent(number as u32, completion.result),
            Operation::Accept => self.on_accept(number as usize, completion),
            Operation::Doorbell => self.arm_doorbell(),
            Operation::LogWrite => {
                let (ticks, ring) = (self.core.ticks(), &mut self.ring);
                let log = self.log.as_mut().expect("only a log writes to the log");
                if let Some(took) = log.written(number, completion.result, ticks, ring) {
                    self.core.latency.stage(Stage::WalWait, took, 1);
                }
            }
            Operation::LogHeader => {
                self.log.as_mut().expect("only a log writes to the log").header_written(number, completion.result)
            }
            Operation::LogSync => self.log.as_mut().expect("only a log syncs").synced(completion.result),
            Operation::Cancel => {}
        }
    }

    fn on_receive(&mut self, index: u32, completion: &Completion) {
        if let Some(buffer) = completion.buffer() {
            let connection = self.sockets.get(index).map(|socket| socket.connection);
            match connection {
                Some(connection) if completion.result > 0 => {
                    if self.received.iter().any(|(other, ..)| *other == connection) {
                        // A connection comes once per batch: run what was collected first.
                        self.run_received();
                    }
                    let bytes = self.ring.received(buffer, completion.result as usize);
                    self.received.push((connection, buffer, bytes));
                }
                Some(_) | None => self.ring.recycle(buffer),
            }
        }
        if completion.more() {
            return;
        }
        self.sockets.receive_ended(index);
        // Cancelled by `stop_receiving`: that is our end, not the client's, and what it sent is still answered.
        let cancelled = completion.result == -libc::ECANCELED;
        let short_of_buffers = completion.result == -libc::ENOBUFS;
        let ended = completion.result <= 0 && !cancelled && !short_of_buffers;
        if !ended {
            // Out of buffers for a moment, or the kernel wants it armed anew, or the core is on its way down.
            self.run_received();
            if matches!(self.phase, Phase::Serving) {
                self.sockets.receive(index, &mut self.ring);
            }
            return;
        }
        // The client sends no more; what it asked for is still answered.
        self.run_received();
        if let Some(connection) = self.sockets.get(index).map(|socket| socket.connection) {
            if completion.result < 0 {
                self.core.close(connection, Closing::Now);
            } else {
                self.core.end_input(connection);
                // One that is closing already may have waited for just this.
                self.serve_output(connection);
            }
        }
    }

    /// Runs the requests that were received since the last time, and gives the buffers back.
    fn run_received(&mut self) {
        if self.received.is_empty() {
            return;
        }
        let received = std::mem::take(&mut self.received);
        let input = |(connection, _, bytes): &(ConnectionId, u16, *const [u8])| Input {
            connection: *connection,
            // SAFETY: the kernel filled the buffer and doesn't touch it before `recycle` below.
            bytes: unsafe { &**bytes },
        };
        let inputs: Vec<Input<'_>> = received.iter().map(input).collect();
        self.core.receive(&inputs);
        drop(inputs);
        for (_, buffer, _) in &received {
            self.ring.recycle(*buffer);
        }
        self.received = received;
        self.received.clear();
    }

    fn on_sent(&mut self, index: u32, result: i32) {
        let ticks = self.core.ticks();
        let (bytes, took) = self.sockets.sent(index, result, ticks, &mut self.ring);
        self.core.stats.net_output_bytes += bytes;
        if let Some(took) = took {
            self.core.latency.stage(Stage::Reply, took, 1);
        }
        if let Some(connection) = self.sockets.get(index).map(|socket| socket.connection) {
            self.serve_output(connection);
        }
    }

    fn on_accept(&mut self, listener: usize, completion: &Completion) {
        if completion.result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
            if matches!(self.phase, Phase::Serving) {
                self.place(fd);
            }
        }
        if !completion.more() && matches!(self.phase, Phase::Serving) {
            // Out of descriptors, say: armed again by the tick rather than at once, not to spin on the error.
            if completion.result >= 0 {
                self.arm_accept(listener);
            } else {
                self.next_accept.push(listener);
            }
        }
    }

    /// Gives a new connection to the core with the fewest.
    fn place(&mut self, fd: OwnedFd) {
        let Ok(peer) = sockets::prepare(&fd, self.core.config.tcp_keepalive_seconds as u64) else { return };
        let counts: Vec<usize> =
            self.lanes.doorbells().iter().map(|bell| bell.connections.load(Ordering::Relaxed)).collect();
        if counts.iter().sum::<usize>() >= self.core.config.maxclients as usize {
            self.core.stats.connections_rejected += 1;
            let text = b"-ERR max number of clients reached\r\n";
            // SAFETY: the descriptor is open and the bytes are readable; a client too slow for one line gets none.
            unsafe {
                libc::send(fd.as_raw_fd(), text.as_ptr().cast(), text.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            };
            return;
        }
        let cores = counts.len();
        // Ties go round, so that the first connections spread even when they come one by one and leave at once.
        let order = (0..cores).map(|step| (self.next_core + step) % cores);
        let to = order.min_by_key(|core| counts[*core]).expect("there is at least one core");
        self.next_core = (to + 1) % cores;
        self.lanes.doorbells()[to].connections.fetch_add(1, Ordering::Relaxed);
        let to = ShardId(to as u16);
        if to == self.core.shard {
            self.adopt(fd, peer);
        } else {
            self.lanes.send(to, Message::Connection(fd, peer));
        }
    }

    fn adopt(&mut self, fd: OwnedFd, peer: Peer) {
        let connection = self.core.connect(peer);
        self.sockets.add(connection, fd, &mut self.ring);
    }

    // ---- lanes ---------------------------------------------------------------------------------------------

    fn take_messages(&mut self) -> bool {
        if !self.lanes.doorbell().has_mail() {
            return false;
        }
        let mut messages = Vec::new();
        self.lanes.receive(|from, message| messages.push((from, message)));
        let any = !messages.is_empty();
        messages.into_iter().for_each(|(from, message)| self.on_message(from, message));
        any
    }

    fn on_message(&mut self, from: ShardId, message: Message) {
        match message {
            Message::Calls(mut batch) => {
                self.core.on_calls(from, &batch);
                if self.spare_calls.len() < SPARE_BATCHES {
                    batch.clear();
                    self.spare_calls.push(*batch);
                }
            }
            Message::Replies(batch) => self.core.on_replies(from, &batch),
            Message::Connection(fd, peer) => self.adopt(fd, peer),
        }
    }

    fn send_batches(&mut self) {
        let own = self.core.shard;
        for peer in (0..self.core.shards).map(ShardId).filter(|peer| *peer != own) {
            let spare = &mut self.spare_calls;
            if let Some(calls) = self.core.take_calls(peer, || spare.pop().unwrap_or_default()) {
                self.lanes.send(peer, Message::Calls(Box::new(calls)));
            }
            if let Some(replies) = self.core.take_replies(peer, ReplyBatch::default) {
                self.lanes.send(peer, Message::Replies(Box::new(replies)));
            }
        }
        if self.core.lane_delay_us > 0 {
            let (ticks, most) = (self.core.ticks(), self.core.lane_delay_us * 1_000);
            let random = &mut self.core.owner.random;
            self.lanes.delay(ticks, || random.next_u64() % most);
        }
        self.core.stats.lane_wakes += self.lanes.flush();
    }

    // ---- the log -------------------------------------------------------------------------------------------

    /// While requests keep coming, edits are collected: each write costs two switches to a kernel worker, so one write for
    /// many turns is cheaper, and the turn that finds nothing to do mostly comes soon.
    fn feed_log(&mut self, worked: bool) {
        let Some(log) = self.log.as_mut() else { return };
        let (now, ticks) = (self.core.now, (self.core.ticks()));
        if self.policy_seen != self.core.config.appendfsync.policy() {
            self.policy_seen = self.core.config.appendfsync.policy();
            log.set_policy(self.policy_seen);
        }
        if log.has_pending() {
            log.write_pending(now, ticks, &mut self.ring);
        }
        let waiting = self.core.edits_waiting();
        if waiting > 0 && self.edits_since.is_none() {
            self.edits_since = Some(ticks);
        }
        let waited_ns = self.edits_since.map_or(0, |since| ticks.saturating_sub(since));
        let enough = !worked || waiting >= BATCH_BYTES || waited_ns >= EDITS_WAIT_NS_MAX;
        #[cfg(feature = "planted-bugs")]
        let enough = enough && !super::planted::holds_back(waited_ns);
        if enough
            && log.accepts()
            && let Some(taken) = self.core.take_edits(std::mem::take(&mut self.spare_edits))
        {
            self.edits_since = None;
            let EditBatch { edits, start, count, groups, group_count } = taken;
            let batch = Batch { edits, groups, start, count, settled: self.core.settled_record() };
            let sequence = log.append(batch, now, ticks, &mut self.ring);
            self.core.note_record(sequence, group_count);
        }
        // At once: who is accepted now would wait until there is space.
        self.core.log.blocked = log.obstacle();
        log.sync(now, matches!(self.phase, Phase::Settling { .. }), &mut self.ring);
        let released = log.commit.released(now.steady_ms);
        if let Some(why) = &log.failure {
            self.core.fail_log(why);
        }
        self.core.stats.wal_records = log.records;
        self.core.stats.wal_bytes = log.bytes;
        self.core.stats.wal_syncs = log.syncs;
        self.core.release(released);
        let waited_ns = self.edits_since.map_or(0, |since| ticks.saturating_sub(since));
        let waiting = if waited_ns < BACKLOG_AFTER_NS { self.core.edits_waiting() } else { 0 };
        self.core.count_backlog(log.largest_under_way() + waiting as u64);
    }

    // ---- output --------------------------------------------------------------------------------------------

    fn send_replies(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.core.take_dirty(&mut dirty);
        for &connection in &dirty {
            self.serve_output(connection);
        }
        self.dirty = dirty;
    }

    /// Sends what a connection has to say, or closes it when it is time.
    fn serve_output(&mut self, connection: ConnectionId) {
        let index = connection.index;
        let ticks = self.core.ticks();
        let Some(session) = self.core.session_mut(connection).filter(|session| !session.deferred) else { return };
        match session.closing {
            Closing::Now => self.sockets.shut(index),
            Closing::Open | Closing::AfterReplies => {
                self.sockets.send(index, &mut session.replies.out, ticks, &mut self.ring);
                let done = session.replies.out.is_empty() && session.replies.is_direct() && !session.held;
                if session.closing == Closing::AfterReplies && done && self.sockets.is_idle_sending(index) {
                    self.sockets.shut(index);
                }
            }
        }
        self.reap(index);
    }

    fn reap(&mut self, index: u32) {
        if let Some(connection) = self.sockets.reap(index) {
            self.core.disconnected(connection);
            self.lanes.doorbell().connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    // ---- time ----------------------------------------------------------------------------------------------

    fn tick(&mut self) {
        let mut found = Vec::new();
        self.core.stats.backstop_found_work += self.lanes.receive_all(|from, message| found.push((from, message)));
        found.into_iter().for_each(|(from, message)| self.on_message(from, message));
        if self.level_seen != self.core.config.loglevel {
            self.level_seen = self.core.config.loglevel;
            operational_log::set_level(self.level_seen);
        }
        for listener in std::mem::take(&mut self.next_accept) {
            self.arm_accept(listener);
        }
        if let Some(log) = self.log.as_mut() {
            log.retry();
            log.bytes_max = self.core.config.wal_bytes_max;
        }
        if let Some((snapshots, log)) = self.snapshots.as_mut().zip(self.log.as_ref()) {
            snapshots.tick(&mut self.core, log);
        }
        self.publish_durable();
        self.next_tick_ms = self.core.now.steady_ms + self.core.tick();
        if self.core.shutdown_requested && !self.shutdown.requested.swap(true, Ordering::SeqCst) {
            self.lanes.doorbells().iter().for_each(|bell| bell.ring());
        }
    }

    /// Tells the other cores up to which time this one's edits are on disk, and the core how far all are.
    fn publish_durable(&mut self) {
        let end = Offset(self.core.log.taken.0 + self.core.owner.keyspace.edits().len() as u64);
        let durable = self.log.as_ref().map(|log| log.commit.durable_offset());
        if let Some(time_ms) = self.durable_time.at(self.core.now.steady_ms, end, durable) {
            self.lanes.doorbell().durable_ms.store(time_ms, Ordering::Release);
        }
        let all = self.lanes.doorbells().iter().map(|bell| bell.durable_ms.load(Ordering::Acquire)).min();
        self.core.note_durable(all.expect("there is at least one core"));
    }

    /// Between turns: submits, and waits if there was nothing to do.
    async fn rest(&mut self, worked: bool, wake_file: &Rc<BufferedFile>) -> std::io::Result<()> {
        let ticks = self.core.ticks();
        if worked {
            self.last_work_ticks = ticks;
        }
        let spin_ns = if self.crowded { 0 } else { self.core.config.spin_us * 1_000 };
        let busy = self.lanes.is_congested()
            || self.lanes.doorbell().has_mail()
            || self.core.has_resumable()
            || self.core.has_long_work()
            || self.core.has_blocked_work()
            || self.has_edits_to_write()
            || self.snapshots.as_ref().is_some_and(SnapshotWriter::has_work)
            || (spin_ns > 0 && ticks - self.last_work_ticks < spin_ns);
        if busy {
            self.ring.enter(None)?;
            if !self.background.is_idle() && ticks - self.last_pass_ticks > EXECUTOR_PASS_NS {
                self.pass_to_executor(wake_file).await;
            }
            return Ok(());
        }
        if !self.lanes.doorbell().park() {
            return self.ring.enter(None);
        }
        self.core.stats.parks += 1;
        if self.background.is_idle() {
            self.ring.enter(Some(self.patience()))?;
        } else {
            self.sleep_in_executor(wake_file).await?;
        }
        self.lanes.doorbell().unpark();
        Ok(())
    }

    fn has_edits_to_write(&self) -> bool {
        self.core.edits_waiting() > 0 && self.log.as_ref().is_some_and(|log| log.accepts())
    }

    /// How long the core may sleep if nothing happens.
    fn patience(&self) -> Duration {
        let now_ms = self.core.now.steady_ms;
        let tick = self.next_tick_ms.saturating_sub(now_ms);
        let sync = self.log.as_ref().and_then(|log| log.commit.sync_due(now_ms)).map(|due| due.saturating_sub(now_ms));
        let timeout = self.core.next_timeout_ms().map(|at| at.saturating_sub(now_ms));
        let due = tick.min(sync.unwrap_or(tick)).min(timeout.unwrap_or(tick));
        let patience = Duration::from_millis(due.max(1));
        let send = self.core.send_deadline().map(|deadline| deadline.saturating_sub(self.core.ticks()));
        send.map_or(patience, |nanoseconds| patience.min(Duration::from_nanos(nanoseconds)))
    }

    /// Lets glommio look at its own I/O, and at tasks that can run, though this core has work of its own.
    async fn pass_to_executor(&mut self, wake_file: &Rc<BufferedFile>) {
        self.last_pass_ticks = self.core.ticks();
        super::signal_eventfd(self.wake.as_raw_fd());
        let _ = wake_file.read_at(0, 8).await;
    }

    /// Sleeps where glommio's completions wake it as well as the ring's.
    async fn sleep_in_executor(&mut self, wake_file: &Rc<BufferedFile>) -> std::io::Result<()> {
        self.last_pass_ticks = self.core.ticks();
        self.ring.register_eventfd(self.wake.as_raw_fd())?;
        self.ring.signal(true);
        // After the signal is on, or a completion in between would wake nobody.
        self.ring.enter(None)?;
        let patience = self.patience();
        if !self.ring.has_completions() {
            let woken = async {
                let _ = wake_file.read_at(0, 8).await;
            };
            // The timer also bounds a turn that glommio's executor has lost (it can park with runnable tasks).
            let timer = async { glommio::timer::sleep(patience).await };
            futures_lite::future::or(woken, timer).await;
        }
        self.ring.signal(false);
        self.ring.unregister_eventfd()?;
        Ok(())
    }

    fn arm_doorbell(&mut self) {
        let entry = opcode::Read::new(types::Fd(self.lanes.doorbell().fd()), self.doorbell_bytes.as_mut_ptr(), 8)
            .build()
            .user_data(token(Operation::Doorbell, 0));
        // SAFETY: the buffer is boxed and lives as long as the ring; one read at a time uses it.
        unsafe { self.ring.push(entry) };
    }

    fn arm_accept(&mut self, listener: usize) {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listeners[listener].as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(token(Operation::Accept, listener as u64));
        // SAFETY: the request points to nothing.
        unsafe { self.ring.push(entry) };
    }

    // ---- the way down --------------------------------------------------------------------------------------

    /// Moves on the way down, if that has begun; whether the loop is over.
    fn go_down(&mut self) -> bool {
        if self.phase == Phase::Serving {
            if !self.shutdown.requested.load(Ordering::Relaxed) {
                return false;
            }
            let until = self.core.ticks() + self.core.config.shutdown_timeout_seconds as u64 * 1_000_000_000;
            self.phase = Phase::Draining { until };
            self.stop_receiving();
            self.core.end_all_waits();
        }
        let late = |until: u64, now: u64| now > until;
        match self.phase {
            Phase::Serving => false,
            Phase::Draining { until } => {
                if self.is_drained() || late(until, self.core.ticks()) {
                    self.shutdown.drained.fetch_add(1, Ordering::SeqCst);
                    self.lanes.doorbells().iter().for_each(|bell| bell.ring());
                    self.phase = Phase::Drained { until };
                }
                false
            }
            Phase::Drained { until } => {
                let all = self.shutdown.drained.load(Ordering::SeqCst) >= self.core.shards as usize;
                if all || late(until, self.core.ticks()) {
                    self.phase = Phase::Settling { until };
                }
                false
            }
            Phase::Settling { until } => {
                let settled = self.log.as_ref().is_none_or(|log| log.is_settled())
                    && self.core.edits_waiting() == 0
                    && self.sockets.iter().all(|socket| self.sockets.is_idle_sending(socket.connection.index));
                settled || late(until, self.core.ticks())
            }
        }
    }

    /// No new connections, no new input.
    fn stop_receiving(&mut self) {
        for listener in 0..self.listeners.len() {
            self.cancel(token(Operation::Accept, listener as u64));
        }
        let receiving: Vec<u32> = self.sockets.iter().map(|socket| socket.connection.index).collect();
        for index in receiving {
            self.cancel(token(Operation::Receive, index as u64));
        }
    }

    fn cancel(&mut self, what: u64) {
        let entry = opcode::AsyncCancel::new(what).build().user_data(token(Operation::Cancel, 0));
        // SAFETY: the request points to nothing.
        unsafe { self.ring.push(entry) };
    }

    /// Everything received is answered, and the answers are with the kernel.
    fn is_drained(&self) -> bool {
        !self.core.has_resumable()
            && self.core.is_between_transactions()
            && self.core.sessions().all(|session| {
                session.replies.out.is_empty()
                    && session.replies.is_direct()
                    && !session.held
                    && self.sockets.is_idle_sending(session.connection.index)
            })
    }
}
