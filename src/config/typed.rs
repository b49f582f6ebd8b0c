//! The settings the server acts on, with their types: a snapshot, made anew after every change.

use super::Settings;
use super::table::SETTINGS;
use super::values::{BindAddress, OutputLimit, Value};
use crate::resp::RequestLimits;
use shards::call::Sight;
use shards::types::Thresholds;
use shards::wal::FsyncPolicy;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// When the log is synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appendfsync {
    /// Once a second.
    Everysec,
    /// Before the reply to a write leaves.
    Always,
    /// When the kernel likes.
    No,
}

impl Appendfsync {
    /// The log's own word for it.
    pub fn policy(self) -> FsyncPolicy {
        match self {
            Appendfsync::Everysec => FsyncPolicy::EverySec,
            Appendfsync::Always => FsyncPolicy::Always,
            Appendfsync::No => FsyncPolicy::No,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

/// A snapshot is due once there were so many changes and the last one is so old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// The settings as the server reads them. Fields have the settings' names, with units where they have one.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    pub port: u16,
    pub bind: Vec<BindAddress>,
    pub protected_mode: bool,
    /// Empty for none.
    pub requirepass: Vec<u8>,
    pub maxclients: u32,
    pub timeout_seconds: u32,
    pub tcp_keepalive_seconds: u32,
    pub tcp_backlog: u32,
    pub bulk_bytes_max: u64,
    pub sparse_sketch_bytes_max: u64,
    /// Where collections change their form.
    pub thresholds: Thresholds,
    pub query_bytes_max: u64,
    pub output_normal: OutputLimit,
    pub output_replica: OutputLimit,
    pub output_pubsub: OutputLimit,
    pub dir: PathBuf,
    pub appendonly: bool,
    pub appendfsync: Appendfsync,
    pub wal_segment_bytes: u64,
    /// Per shard; 0 for no limit.
    pub wal_bytes_max: u64,
    pub save: Vec<SavePoint>,
    /// 0 for never.
    pub snapshot_percentage: u64,
    pub snapshot_log_bytes_min: u64,
    /// Empty for none.
    pub wal_archive_dir: PathBuf,
    /// Empty for none.
    pub backup_dir: PathBuf,
    pub databases: u16,
    /// 0 for what the data directory has, or one per core.
    pub shards: usize,
    /// Sorted, without repetition. Empty for all the process may use.
    pub cores: Vec<usize>,
    pub spin_us: u64,
    pub hz: u32,
    pub active_expire_effort: u32,
    /// 0 for no limit.
    pub maxmemory_bytes: u64,
    pub maxmemory_policy: &'static str,
    pub loglevel: LogLevel,
    /// Empty for standard output.
    pub logfile: PathBuf,
    pub log_format: LogFormat,
    pub latency_tracking: bool,
    pub latency_percentiles: Vec<f64>,
    /// -1 for never.
    pub slowlog_log_slower_than_us: i64,
    pub slowlog_max_len: u64,
    /// 0 for never.
    pub latency_monitor_threshold_ms: u64,
    pub notify_keyspace_events: String,
    pub shutdown_timeout_seconds: u32,
    pub supervised: &'static str,
    /// Empty for none.
    pub pidfile: PathBuf,
    pub enable_debug_command: &'static str,
    pub replica_read_only: bool,
}

impl Default for Config {
    fn default() -> Self {
        Settings::default().config()
    }
}

impl Config {
    pub(super) fn new(settings: &Settings) -> Self {
        let s = settings;
        let [output_normal, output_replica, output_pubsub] = s.output_limits();
        Config {
            port: s.integer("port") as u16,
            bind: s.bind(),
            protected_mode: s.yes("protected-mode"),
            requirepass: s.text("requirepass"),
            maxclients: s.integer("maxclients") as u32,
            timeout_seconds: s.integer("timeout") as u32,
            tcp_keepalive_seconds: s.integer("tcp-keepalive") as u32,
            tcp_backlog: s.integer("tcp-backlog") as u32,
            bulk_bytes_max: s.bytes("proto-max-bulk-len"),
            sparse_sketch_bytes_max: s.integer("hll-sparse-max-bytes") as u64,
            thresholds: thresholds(s),
            query_bytes_max: s.bytes("client-query-buffer-limit"),
            output_normal,
            output_replica,
            output_pubsub,
            dir: s.path("dir"),
            appendonly: s.yes("appendonly"),
            appendfsync: appendfsync(s.word("appendfsync")),
            wal_segment_bytes: s.bytes("wal-segment-size"),
            wal_bytes_max: s.bytes("wal-max-size"),
            save: s.save_points(),
            snapshot_percentage: s.integer("auto-aof-rewrite-percentage") as u64,
            snapshot_log_bytes_min: s.bytes("auto-aof-rewrite-min-size"),
            wal_archive_dir: s.path("wal-archive-dir"),
            backup_dir: s.path("backup-dir"),
            databases: s.integer("databases") as u16,
            shards: s.integer("shards") as usize,
            cores: s.cores(),
            spin_us: s.integer("spin-us") as u64,
            hz: s.integer("hz") as u32,
            active_expire_effort: s.integer("active-expire-effort") as u32,
            maxmemory_bytes: s.bytes("maxmemory"),
            maxmemory_policy: s.word("maxmemory-policy"),
            loglevel: loglevel(s.word("loglevel")),
            logfile: s.path("logfile"),
            log_format: if s.word("log-format") == "json" { LogFormat::Json } else { LogFormat::Text },
            latency_tracking: s.yes("latency-tracking"),
            latency_percentiles: s.percentiles(),
            slowlog_log_slower_than_us: s.integer("slowlog-log-slower-than"),
            slowlog_max_len: s.integer("slowlog-max-len") as u64,
            latency_monitor_threshold_ms: s.integer("latency-monitor-threshold") as u64,
            notify_keyspace_events: s.events(),
            shutdown_timeout_seconds: s.integer("shutdown-timeout") as u32,
            supervised: s.word("supervised"),
            pidfile: s.path("pidfile"),
            enable_debug_command: s.word("enable-debug-command"),
            replica_read_only: s.yes("replica-read-only"),
        }
    }

    /// The limits on the requests of a connection. Without a password every connection is authenticated.
    pub fn request_limits(&self, authenticated: bool) -> RequestLimits {
        RequestLimits {
            bulk_bytes_max: self.bulk_bytes_max,
            query_bytes_max: self.query_bytes_max,
            authenticated: authenticated || self.requirepass.is_empty(),
        }
    }

    /// Where old segments and snapshots go, if they are kept.
    pub fn archive(&self) -> Option<&Path> {
        Some(self.wal_archive_dir.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// The limits that commands check on a shard of a server that has so many.
    pub fn shard_limits(&self, shards: u16) -> shards::call::Limits {
        shards::call::Limits {
            string_bytes_max: self.bulk_bytes_max,
            lfu: self.maxmemory_policy.ends_with("-lfu"),
            sparse_sketch_bytes_max: self.sparse_sketch_bytes_max,
            sight: if shards == 1 { Sight::Everything } else { Sight::Shard },
        }
    }
}

fn thresholds(s: &Settings) -> Thresholds {
    let size = |name| usize::try_from(s.integer(name)).unwrap_or(usize::MAX);
    Thresholds {
        hash_entries: size("hash-max-listpack-entries"),
        hash_value_bytes: size("hash-max-listpack-value"),
        list_node: s.integer("list-max-listpack-size"),
        set_integers: size("set-max-intset-entries"),
        sorted_set_entries: size("zset-max-listpack-entries"),
        sorted_set_value_bytes: size("zset-max-listpack-value"),
        stream_node_bytes: usize::try_from(s.bytes("stream-node-max-bytes")).unwrap_or(usize::MAX),
        stream_node_entries: size("stream-node-max-entries"),
        ..Thresholds::default()
    }
}

fn appendfsync(word: &'static str) -> Appendfsync {
    match word {
        "everysec" => Appendfsync::Everysec,
        "always" => Appendfsync::Always,
        "no" => Appendfsync::No,
        other => unreachable!("the table has no appendfsync {other}"),
    }
}

fn loglevel(word: &'static str) -> LogLevel {
    match word {
        "debug" => LogLevel::Debug,
        "verbose" => LogLevel::Verbose,
        "notice" => LogLevel::Notice,
        "warning" => LogLevel::Warning,
        other => unreachable!("the table has no loglevel {other}"),
    }
}

/// Values by name and type. Asking for a type the table does not have there is our bug, found by the first
/// test that makes a `Config`.
impl Settings {
    fn integer(&self, name: &'static str) -> i64 {
        let Value::Integer(value) = self.value(name) else { mismatch(name) };
        *value
    }
    fn bytes(&self, name: &'static str) -> u64 {
        let Value::Memory(bytes) = self.value(name) else { mismatch(name) };
        *bytes
    }
    fn yes(&self, name: &'static str) -> bool {
        let Value::YesNo(yes) = self.value(name) else { mismatch(name) };
        *yes
    }
    fn word(&self, name: &'static str) -> &'static str {
        let Value::Word(word) = self.value(name) else { mismatch(name) };
        word
    }
    fn text(&self, name: &'static str) -> Vec<u8> {
        let Value::Text(text) = self.value(name) else { mismatch(name) };
        text.clone()
    }
    fn path(&self, name: &'static str) -> PathBuf {
        OsString::from_vec(self.text(name)).into()
    }
    fn output_limits(&self) -> [OutputLimit; 3] {
        let Value::OutputLimits(limits) = self.value("client-output-buffer-limit") else {
            mismatch("client-output-buffer-limit")
        };
        *limits
    }
    fn bind(&self) -> Vec<BindAddress> {
        let Value::Addresses(list) = self.value("bind") else { mismatch("bind") };
        list.clone()
    }
    fn cores(&self) -> Vec<usize> {
        let Value::Cores(list) = self.value("cores") else { mismatch("cores") };
        list.clone()
    }
    fn save_points(&self) -> Vec<SavePoint> {
        let Value::SavePoints(points) = self.value("save") else { mismatch("save") };
        let point = |&(seconds, changes): &(u32, u32)| SavePoint { seconds: seconds.into(), changes: changes.into() };
        points.iter().map(point).collect()
    }
    fn percentiles(&self) -> Vec<f64> {
        let name = "latency-tracking-info-percentiles";
        let Value::Percentiles(list) = self.value(name) else { mismatch(name) };
        list.clone()
    }
    fn events(&self) -> String {
        let Value::Events(flags) = self.value("notify-keyspace-events") else { mismatch("notify-keyspace-events") };
        flags.clone()
    }
}

fn mismatch(name: &str) -> ! {
    let kind = SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.kind);
    panic!("{name} has kind {kind:?} in the table, and another in Config")
}
