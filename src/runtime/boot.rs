//! From settings to running cores, and back down: checks the machine, opens the data, recovers every shard on its
//! own core, starts to serve, and waits for signals.

use super::core_loop::{CoreLoop, Parts, Shutdown};
use super::data_directory::{DataDirectory, Manifest, shard_path};
use super::disk::LogWriter;
use super::lanes::{self, Doorbell, Lanes};
use super::prepare::Preparer;
use super::recovery::{self, LogPlace, Progress, ShardRecovered};
use super::rewrite::{self, Shape};
use super::ring::Ring;
use super::snapshot_writer::{Board, SnapshotWriter};
use super::{Background, affinity, clock, listen};
use super::{prepare, snapshot_file};
use crate::config::{Config, Settings};
use crate::core::{Core, CoreOptions};
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use shards::keyspace::Keyspace;
use shards::units::{Now, ShardId};
use shards::wal::{HeldGroups, Verdict};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Serves until a signal or SHUTDOWN. The error is one clear line for the operator.
pub fn run(settings: Settings, config_file: Option<PathBuf>) -> Result<(), String> {
    let config = settings.config();
    check_machine()?;
    #[cfg(feature = "planted-bugs")]
    super::planted::arm();
    let cores = choose_cores(&config)?;
    let mut data = if config.appendonly { Some(DataDirectory::open(&config.dir)?) } else { None };
    let shards = choose_shards(&config, cores.len(), data.as_ref())?;
    let listeners = listen::listen(&config.bind, config.port, config.tcp_backlog as i32)?;
    if let Some(data) = &mut data {
        open_epoch(data, shards, &config)?;
    }
    let shutdown = Arc::new(Shutdown::default());
    let doorbells: Result<Vec<Doorbell>, _> = (0..shards).map(|_| Doorbell::new(shards as usize)).collect();
    let doorbells = Arc::new(doorbells.map_err(|error| format!("can't make an eventfd per core: {error}"))?);
    catch_signals(&shutdown, &doorbells)?;
    ignore_file_size_signal();
    Fleet { settings, config_file, config, cores, shards, data, shutdown, doorbells }.serve(listeners)
}

/// io_uring there and allowed, with all that the ring needs; enough locked memory for glommio.
fn check_machine() -> Result<(), String> {
    match Ring::new() {
        Ok(_) => {}
        Err(error) => {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            let advice = match (error.raw_os_error(), disabled.trim()) {
                (_, "1" | "2") => "it is switched off on this machine: set sysctl kernel.io_uring_disabled=0",
                (Some(libc::EPERM | libc::EACCES), _) => {
                    "something forbids it, in a container usually the seccomp profile: allow io_uring_setup, \
                     io_uring_enter and io_uring_register (Docker: --security-opt seccomp=unconfined)"
                }
                (Some(libc::ENOSYS), _) => "this kernel has none: Shardis needs Linux 6.1 or later",
                (Some(libc::EINVAL), _) => "this kernel's is too old: Shardis needs Linux 6.1 or later",
                (Some(libc::ENOMEM), _) => "too little memory may be locked: raise it with ulimit -l 8192",
                _ => "see the kernel's log",
            };
            return Err(format!("can't use io_uring ({error}): {advice}"));
        }
    }
    // SAFETY: rlimit is a plain pair of numbers, valid when zeroed.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a valid rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    if limit.rlim_cur < MEMLOCK_BYTES_MIN {
        return Err(format!(
            "only {} KiB of memory may be locked, and io_uring needs {}: raise it with ulimit -l {} (systemd: LimitMEMLOCK=)",
            limit.rlim_cur >> 10,
            MEMLOCK_BYTES_MIN >> 10,
            MEMLOCK_BYTES_MIN >> 10
        ));
    }
    raise_open_files();
    Ok(())
}

/// glommio refuses to start with less.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// As many open files as the hard limit allows: each client is one.
fn raise_open_files() {
    // SAFETY: rlimit is a plain pair of numbers, valid when zeroed.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a valid rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a valid rlimit. Failing leaves the old limit, which is no reason not to start.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

fn choose_cores(config: &Config) -> Result<Vec<usize>, String> {
    let allowed = affinity::allowed_cores().map_err(|error| format!("can't read the affinity mask: {error}"))?;
    if config.cores.is_empty() {
        return Ok(allowed);
    }
    match config.cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(format!("--cores: core {core} isn't one this process may use (allowed: {allowed:?})")),
        None => Ok(config.cores.clone()),
    }
}

fn choose_shards(config: &Config, cores: usize, data: Option<&DataDirectory>) -> Result<u16, String> {
    let stored = data.and_then(|data| data.manifest).map(|manifest| manifest.shards as usize);
    let shards = if config.shards > 0 { config.shards } else { stored.unwrap_or(cores) };
    u16::try_from(shards)
        .ok()
        .filter(|shards| *shards <= SHARDS_MAX)
        .ok_or(format!("--shards {shards}: at most {SHARDS_MAX}"))
}

/// A SCAN cursor has ten bits for the shard.
const SHARDS_MAX: u16 = 1024;

/// Makes the data directory's epoch fit the number of shards.
fn open_epoch(data: &mut DataDirectory, shards: u16, config: &Config) -> Result<(), String> {
    let world = |error| format!("--dir {}: {error}", config.dir.display());
    match data.manifest {
        None if data.has_epochs().map_err(world)? => Err(format!(
            "--dir {} holds data, but no MANIFEST that says how to read it: put back the one that was there",
            config.dir.display()
        )),
        None => {
            data.make_epoch(1, shards).map_err(world)?;
            data.commit(Manifest { epoch: 1, shards, snapshot: None }).map_err(world)
        }
        Some(manifest) if manifest.shards == shards => {
            // An epoch left by a change of shards that didn't come to its end, or had no time to tidy up.
            data.remove_other_epochs().map_err(world)
        }
        Some(manifest) => {
            tracing::info!("rewriting the data of {} shards for {shards}", manifest.shards);
            let (databases, segment_bytes) = (config.databases, config.wal_segment_bytes);
            rewrite::reshard(data, manifest, Shape { shards, databases, segment_bytes, seed: random_u64() })
        }
    }
}

/// A file that would outgrow its limit (ulimit -f) is to be an error of the write, as on a full disk, not the end.
fn ignore_file_size_signal() {
    // SAFETY: nobody else in the process sets a handler for this signal, and ignoring one runs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The first signal asks for a clean end, the second ends at once.
fn catch_signals(shutdown: &Arc<Shutdown>, doorbells: &Arc<Vec<Doorbell>>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("can't catch signals: {error}");
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Registered first, so it is looked at first: true only from the second signal on.
        signal_hook::flag::register_conditional_shutdown(signal, 1, again.clone()).map_err(failed)?;
        signal_hook::flag::register(signal, again.clone()).map_err(failed)?;
        let (shutdown, doorbells) = (shutdown.clone(), doorbells.clone());
        let ask = move || {
            shutdown.requested.store(true, Ordering::SeqCst);
            doorbells.iter().for_each(Doorbell::ring);
        };
        // SAFETY: the action stores an atomic and calls write(2) on eventfds: both are async-signal-safe.
        unsafe { signal_hook::low_level::register(signal, ask) }.map_err(failed)?;
    }
    Ok(())
}

struct Fleet {
    settings: Settings,
    config_file: Option<PathBuf>,
    config: Config,
    cores: Vec<usize>,
    shards: u16,
    data: Option<DataDirectory>,
    shutdown: Arc<Shutdown>,
    doorbells: Arc<Vec<Doorbell>>,
}

/// What a core's thread is made from; all of it may cross threads.
struct Seed {
    shard: ShardId,
    options: CoreOptions,
    lanes: Lanes,
    listeners: Vec<OwnedFd>,
    log: Option<LogPlace>,
    board: Option<Arc<Board>>,
    cpu: usize,
    crowded: bool,
    shutdown: Arc<Shutdown>,
    doorbells: Arc<Vec<Doorbell>>,
    progress: Arc<Progress>,
    surveyed: Sender<Result<HeldGroups, String>>,
    verdict: Receiver<Verdict>,
    recovered: Sender<Result<Option<ShardRecovered>, String>>,
    go: Receiver<clock::Clock>,
    ready: Sender<()>,
}

impl Fleet {
    fn serve(mut self, listeners: Vec<OwnedFd>) -> Result<(), String> {
        let progress = Arc::new(Progress::default());
        let (surveyed_in, surveyed_out) = mpsc::channel();
        let (recovered_in, recovered_out) = mpsc::channel();
        let (ready_in, ready_out) = mpsc::channel();
        let mut listeners = Some(listeners);
        let (run_id, seed) = (random_hex(), random_u64());
        let places = self.places();
        let board = self.data.as_ref().map(|data| {
            let manifest = data.manifest.expect("the epoch was opened");
            Arc::new(Board::new(data.path().to_path_buf(), manifest))
        });
        let mut starts = Vec::new();
        let mut verdicts = Vec::new();
        let mut threads = Vec::new();
        for (shard, lanes) in lanes::lanes(self.shards as usize, &self.doorbells).into_iter().enumerate() {
            let (go_in, go_out) = mpsc::channel();
            starts.push(go_in);
            let (verdict_in, verdict_out) = mpsc::channel();
            verdicts.push(verdict_in);
            let log = places.get(shard).cloned();
            let shard = ShardId(shard as u16);
            let seed = Seed {
                shard,
                options: CoreOptions {
                    shard,
                    shards: self.shards,
                    settings: self.settings.clone(),
                    config_file: self.config_file.clone(),
                    seed: seed ^ (shard.0 as u64) << 48,
                    ticks: clock::ticks,
                    run_id: run_id.clone(),
                },
                lanes,
                listeners: listeners.take().unwrap_or_default(),
                log,
                board: board.clone(),
                cpu: self.cores[shard.0 as usize % self.cores.len()],
                crowded: self.shards as usize > self.cores.len(),
                shutdown: self.shutdown.clone(),
                doorbells: self.doorbells.clone(),
                progress: progress.clone(),
                surveyed: surveyed_in.clone(),
                verdict: verdict_out,
                recovered: recovered_in.clone(),
                go: go_out,
                ready: ready_in.clone(),
            };
            threads.push(start_core(seed)?);
        }
        drop((surveyed_in, recovered_in, ready_in));
        let started = clock::monotonic();
        if !places.is_empty() {
            let mut held = self.wait_for_all(&surveyed_out, &progress)?;
            held.sort_by_key(HeldGroups::shard);
            for (core, verdict) in verdicts.iter().zip(recovery::consistent_cut(&places, held)?) {
                // A core that is gone has already said why, as below.
                let _ = core.send(verdict);
            }
        }
        let recovered = self.wait_for_all(&recovered_out, &progress)?;
        // Not before what the manifest names has been read.
        if let Some(data) = &self.data {
            tidy(&places, data.path(), &self.config)?;
        }
        let clock = report_recovered(recovered.into_iter().flatten().collect(), started);
        for go in &starts {
            // A core that is gone has already said why, through its join handle.
            let _ = go.send(clock);
        }
        while ready_out.recv().is_ok() {}
        tracing::info!(
            "Ready to accept connections on port {} ({} shards, log {})",
            self.config.port,
            self.shards,
            if self.data.is_some() { "on" } else { "off" }
        );
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let mut outcome = Ok(());
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome = Err(format!("a core's io_uring failed: {error}")),
                Err(error) => outcome = Err(format!("a core's executor failed: {error}")),
            }
        }
        self.data = None;
        tracing::info!("Stopped");
        outcome
    }

    /// Where the shards' logs are; nowhere without a data directory.
    fn places(&self) -> Vec<LogPlace> {
        let Some(data) = &self.data else { return Vec::new() };
        let Manifest { epoch, snapshot, .. } = data.manifest.expect("the epoch was opened");
        let place =
            |shard| LogPlace { directory: data.shard_path(epoch, shard), shard, shards: self.shards, epoch, snapshot };
        (0..self.shards).map(ShardId).map(place).collect()
    }

    /// What each shard has to say of its log, in the order in which they come.
    fn wait_for_all<T>(&self, outcomes: &Receiver<Result<T, String>>, progress: &Progress) -> Result<Vec<T>, String> {
        let mut all = Vec::new();
        while all.len() < self.shards as usize {
            match outcomes.recv_timeout(Duration::from_secs(1)) {
                Ok(outcome) => all.push(outcome?),
                Err(mpsc::RecvTimeoutError::Timeout) => report(progress),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("a core ended while it read its log".into()),
            }
        }
        Ok(all)
    }
}

/// Puts away files that the last run, had it come to a clean end, would have put away.
fn tidy(places: &[LogPlace], data_directory: &std::path::Path, config: &Config) -> Result<(), String> {
    let world = |error| format!("tidying {}: {error}", data_directory.display());
    // The manifest may have been renamed by a server that was killed before it could sync that.
    prepare::sync_directory(data_directory).map_err(world)?;
    for place in places {
        prepare::remove_spare(&place.directory).map_err(world)?;
        let archive = archive_of(config, place);
        if let Err(error) = snapshot_file::put_away_others(&place.directory, place.snapshot, archive.as_deref()) {
            // No reason not to serve: what is left costs space.
            tracing::error!("putting away old snapshots of {}: {error}", place.directory.display());
        }
    }
    Ok(())
}

/// Where a shard's old files go, if they are kept.
fn archive_of(config: &Config, place: &LogPlace) -> Option<PathBuf> {
    config.archive().map(|root| shard_path(root, place.epoch, place.shard))
}

/// Tells the operator what the logs gave; the clock that goes on where the last run stopped.
fn report_recovered(all: Vec<ShardRecovered>, started: std::time::Instant) -> clock::Clock {
    all.iter().flat_map(|shard| &shard.cuts).for_each(|cut| tracing::warn!("{cut}"));
    let edits: u64 = all.iter().map(|shard| shard.edits).sum();
    let mib = all.iter().map(|shard| shard.bytes).sum::<u64>() >> 20;
    if edits > 0 {
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(
            "Log read: {edits} edits, {mib} MiB in {seconds:.2} s ({:.0} per second)",
            edits as f64 / seconds.max(1e-9)
        );
    }
    steady_clock(&all)
}

fn report(progress: &Progress) {
    let (bytes, total) = (progress.bytes.load(Ordering::Relaxed), progress.bytes_total.load(Ordering::Relaxed));
    let percent = if total == 0 { 0.0 } else { bytes as f64 * 100.0 / total as f64 };
    tracing::info!("Reading the log: {percent:.0} %, {} edits", progress.edits.load(Ordering::Relaxed));
}

/// Steady time goes on from the last run's, by as much as the wall clock says has passed since, so that a step of
/// the wall clock during that run doesn't change what relative deadlines have left.
fn steady_clock(recovered: &[ShardRecovered]) -> clock::Clock {
    let wall_ms = clock::wall_ms();
    let last = recovered.iter().max_by_key(|shard| shard.last_steady_ms).filter(|shard| shard.last_steady_ms > 0);
    let steady_ms = match last {
        Some(last) => last.last_steady_ms + wall_ms.saturating_sub(last.last_wall_ms),
        None => wall_ms,
    };
    clock::Clock::new(steady_ms)
}

type CoreThread = glommio::ExecutorJoinHandle<std::io::Result<()>>;

fn start_core(seed: Seed) -> Result<CoreThread, String> {
    let name = format!("shard-{}", seed.shard.0);
    LocalExecutorBuilder::new(Placement::Fixed(seed.cpu))
        .name(&name)
        // Its ring carries background work only, and its buffers are the reads of that.
        .ring_depth(64)
        .io_memory(64 << 10)
        // The core yields by itself: a short timer would only make the executor lose turns.
        .preempt_timer(Duration::from_secs(10))
        // Off the core: what blocks must not block the shard.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .spawn(move || run_or_take_all_down(seed))
        .map_err(|error| format!("can't start the executor of shard {name}: {error}"))
}

/// A server without one of its shards would be half alive: if this core can't go on, no other does.
async fn run_or_take_all_down(seed: Seed) -> std::io::Result<()> {
    let (shard, shutdown, doorbells) = (seed.shard, seed.shutdown.clone(), seed.doorbells.clone());
    let outcome = run_core(seed).await;
    if let Err(error) = &outcome {
        tracing::error!(shard = shard.0, "the core can't go on, so the server stops: {error}");
        shutdown.drained.fetch_add(1, Ordering::SeqCst);
        shutdown.requested.store(true, Ordering::SeqCst);
        doorbells.iter().for_each(Doorbell::ring);
    }
    outcome
}

async fn run_core(seed: Seed) -> std::io::Result<()> {
    let Seed { shard, options, lanes, listeners, log, board, cpu, crowded, shutdown, progress, go, ready, .. } = seed;
    let doorbells = seed.doorbells;
    let mut core = Core::new(options);
    let start = match &log {
        None => Ok(None),
        Some(place) => {
            let keyspace: &mut Keyspace = &mut core.owner.keyspace;
            keyspace.set_logging(false);
            let Some(start) = read_log(place, keyspace, &progress, seed.surveyed, seed.verdict) else { return Ok(()) };
            keyspace.set_logging(true);
            start.map(Some)
        }
    };
    let outcome = start.clone();
    let _ = seed.recovered.send(start);
    drop((seed.recovered, progress));
    // Without a clock the start was refused, and the main thread has said why.
    let Ok(clock) = go.recv() else { return Ok(()) };
    let start = outcome.expect("refused otherwise");
    let compensation = start.as_ref().map_or(Vec::new(), |recovered| recovered.compensation.clone());
    let ring = Ring::new()?;
    ring.bind_workers(cpu)?;
    let wake = super::eventfd()?;
    let background = Background::new(wake.as_raw_fd());
    let now: Now = clock.now();
    core.begin(now);
    let log = log.zip(start).map(|(place, recovered)| {
        let preparer = Preparer::new(place.directory.clone(), background.clone());
        let (policy, segment_bytes) = (core.config.appendfsync.policy(), core.config.wal_segment_bytes);
        let ShardRecovered { start, segments, base, .. } = recovered;
        let mut log = LogWriter::new(shard, place.epoch, policy, start, preparer, segment_bytes, segments, random_u32);
        log.bytes_max = core.config.wal_bytes_max;
        log.ask_for_segment();
        core.snapshots.begun = place.snapshot.unwrap_or(0);
        if let Some(base) = base {
            core.snapshots.last.wall_ms = base.wall_ms;
            core.snapshots.base = base.offset;
        }
        let archive = archive_of(&core.config, &place);
        let board = board.expect("there is one if there is a log");
        let snapshots = SnapshotWriter::new(place, archive, background.clone(), board, doorbells, random_u32);
        core.log.persistent = true;
        core.log.released = start.offset;
        core.log.taken = start.offset;
        (log, snapshots)
    });
    let (log, snapshots) = log.unzip();
    core.owner.keyspace.set_logging(log.is_some());
    // Into the first record, before anything else is logged: that record also says that the skipped groups are settled.
    recovery::adopt_all(&mut core.owner.keyspace, &compensation);
    let parts = Parts { core, ring, lanes, log, snapshots, clock, listeners, shutdown, background, wake, crowded };
    drop(ready);
    CoreLoop::new(parts).run().await
}

/// Both readings of the log, with the main thread's answer between them; `None` if there is none, as the start was refused.
fn read_log(
    place: &LogPlace,
    keyspace: &mut Keyspace,
    progress: &Progress,
    surveyed: Sender<Result<HeldGroups, String>>,
    verdict: Receiver<Verdict>,
) -> Option<Result<ShardRecovered, String>> {
    let (survey, held) = match recovery::survey(place.clone(), Some(keyspace), None, progress) {
        Ok((survey, held)) => (survey, Ok(held)),
        Err(error) => {
            let _ = surveyed.send(Err(error));
            return None;
        }
    };
    let _ = surveyed.send(held);
    drop(surveyed);
    let verdict = verdict.recv().ok()?;
    Some(recovery::resume(survey, verdict, keyspace, progress))
}

/// Randomness from the operating system, by way of the hasher's keys.
pub(super) fn random_u64() -> u64 {
    static STATE: Mutex<Option<std::hash::RandomState>> = Mutex::new(None);
    let mut state = STATE.lock().expect("nobody panics while holding it");
    let mut hasher = state.get_or_insert_with(Default::default).build_hasher();
    hasher.write_u64(clock::ticks());
    hasher.finish()
}

fn random_u32() -> u32 {
    random_u64() as u32
}

fn random_hex() -> String {
    (0..3).map(|_| format!("{:016x}", random_u64())).collect::<String>()[..40].to_string()
}
