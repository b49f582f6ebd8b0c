//! The table of settings: one row per name, and nothing about a setting anywhere else.
//!
//! Flags, files, the environment, CONFIG and the documentation all read these rows. Names are those of
//! Redis where Redis has the setting.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// As text, in the form `kind` reads.
    pub default: &'static str,
    pub when: When,
    pub effect: Effect,
    pub doc: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Integer {
        min: i64,
        max: i64,
    },
    /// An integer that is moved into the range instead of refused.
    Clamped {
        min: i64,
        max: i64,
    },
    /// Bytes, with Redis' units.
    Memory {
        min: u64,
        max: u64,
    },
    YesNo,
    OneOf(&'static [&'static str]),
    Text,
    /// Words separated by spaces.
    Words,
    /// IP addresses, `*`, `::*` and `localhost`; a leading `-` makes one optional.
    Addresses,
    /// CPU numbers and ranges: `0,2-5`.
    Cores,
    /// `class hard soft seconds`, for some or all classes.
    OutputLimits,
    /// Pairs of seconds and changes.
    SavePoints,
    /// Numbers between 0 and 100.
    Percentiles,
    /// Classes of keyspace notifications.
    Events,
    /// A name that exists for compatibility and can have only this value.
    Only {
        value: &'static str,
        reason: &'static str,
    },
}

/// When a setting may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At start and by CONFIG SET.
    Live,
    /// At start; CONFIG SET to the value it has is accepted, because frameworks send it unasked.
    Unchanged,
    /// At start only.
    Start,
    /// At start only: a client that could change it could write files where it likes.
    Protected,
}

/// Whether the server acts on a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Used,
    /// Accepted and reported back, so that clients and files written for Redis work.
    Stored,
}

/// Other names, and the setting each stands for.
pub const ALIASES: &[(&str, &str)] = &[
    ("slave-read-only", "replica-read-only"),
    ("slave-serve-stale-data", "replica-serve-stale-data"),
    ("slave-priority", "replica-priority"),
    ("slave-lazy-flush", "replica-lazy-flush"),
    ("slave-ignore-maxmemory", "replica-ignore-maxmemory"),
    ("slave-announce-ip", "replica-announce-ip"),
    ("slave-announce-port", "replica-announce-port"),
    ("slaveof", "replicaof"),
    ("repl-ping-slave-period", "repl-ping-replica-period"),
    ("min-slaves-to-write", "min-replicas-to-write"),
    ("min-slaves-max-lag", "min-replicas-max-lag"),
    ("hash-max-ziplist-entries", "hash-max-listpack-entries"),
    ("hash-max-ziplist-value", "hash-max-listpack-value"),
    ("list-max-ziplist-size", "list-max-listpack-size"),
    ("zset-max-ziplist-entries", "zset-max-listpack-entries"),
    ("zset-max-ziplist-value", "zset-max-listpack-value"),
    ("lua-time-limit", "busy-reply-threshold"),
];

const I32_MAX: i64 = i32::MAX as i64;
const U32_MAX: i64 = u32::MAX as i64;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;
const ANY_MEMORY: Kind = Kind::Memory { min: 0, max: i64::MAX as u64 };
const COUNT: Kind = integer(0, I32_MAX);
const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];
const LOCAL: &[&str] = &["no", "yes", "local"];

const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

const fn used(name: &'static str, kind: Kind, default: &'static str, when: When, doc: &'static str) -> Setting {
    Setting { name, kind, default, when, effect: Effect::Used, doc }
}

const fn stored(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Setting {
    Setting { name, kind, default, when: When::Live, effect: Effect::Stored, doc }
}

const fn only(name: &'static str, value: &'static str, reason: &'static str, doc: &'static str) -> Setting {
    Setting {
        name,
        kind: Kind::Only { value, reason },
        default: value,
        when: When::Unchanged,
        effect: Effect::Stored,
        doc,
    }
}

use Kind::{
    Addresses, Clamped, Cores, Events, Memory, OneOf, OutputLimits, Percentiles, SavePoints, Text, Words, YesNo,
};
use When::{Live, Protected, Start, Unchanged};

#[rustfmt::skip] // One row, one line or two: read as a table.
pub const SETTINGS: &[Setting] = &[
    // Network.
    used("port", integer(1, 65535), "6379", Start, "TCP port."),
    used("bind", Addresses, "127.0.0.1", Unchanged, "Addresses to listen on: IP addresses, `*` for all of IPv4, `::*` for all of IPv6; `-` before an address makes it optional."),
    used("protected-mode", YesNo, "yes", Live, "Without a password, refuse clients that are not local."),
    used("requirepass", Text, "", Live, "Password of the default user; empty for none."),
    used("maxclients", integer(1, U32_MAX), "10000", Live, "Connections served at the same time."),
    used("timeout", COUNT, "0", Live, "Seconds after which an idle client is disconnected; 0 for never."),
    used("tcp-keepalive", COUNT, "300", Live, "Seconds between TCP keepalive probes; 0 for none."),
    used("tcp-backlog", integer(1, I32_MAX), "511", Start, "Length of the queue of connections not yet accepted; the kernel caps it at net.core.somaxconn."),
    used("proto-max-bulk-len", Memory { min: MB, max: 512 * MB }, "512mb", Live, "The longest argument, and the longest string a command may build."),
    used("hll-sparse-max-bytes", integer(0, i64::MAX), "3000", Live, "The longest string a HyperLogLog may be before it becomes dense (12,304 bytes)."),
    used("client-query-buffer-limit", Memory { min: MB, max: 4 * GB - 1 }, "1gb", Live, "The longest request; a client that sends more is disconnected."),
    used("client-output-buffer-limit", OutputLimits, "normal 1gb 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", Live, "Unread replies at which a client is disconnected, per class: at once (hard), or (soft) after so many seconds; 0 for no limit. Unlike Redis, normal clients have one."),

    // Data and its log.
    used("dir", Text, "./shardis-data", Protected, "Directory of the data; made when missing."),
    used("appendonly", YesNo, "yes", Unchanged, "Keep a log, so that data survives a restart; `no` means that nothing is written."),
    used("appendfsync", OneOf(&["everysec", "always", "no"]), "everysec", Live, "When the log is synced: once a second, before every reply to a write, or when the kernel likes."),
    used("wal-segment-size", Memory { min: MB, max: GB }, "64mb", Start, "Size of one file of the log."),
    used("wal-max-size", ANY_MEMORY, "0", Live, "Bytes that each shard's log may take on disk; writes are refused rather than go over it, and from half of it on a snapshot makes room. 0 for no limit."),
    used("save", SavePoints, "", Live, "Pairs of seconds and changes: a snapshot is begun once there are so many changes and the last one is so old."),
    used("auto-aof-rewrite-percentage", COUNT, "100", Live, "A snapshot is begun once the log has grown to this percentage of the last one; 0 for never."),
    used("auto-aof-rewrite-min-size", ANY_MEMORY, "64mb", Live, "The log's size, over all shards, before which that doesn't count."),
    used("wal-archive-dir", Text, "", Start, "Directory that old segments and snapshots are moved to, for point-in-time recovery; empty to recycle them."),
    used("backup-dir", Text, "", Start, "Directory in which BACKUP makes its copies; empty to refuse it."),
    used("databases", integer(1, 65535), "16", Start, "Number of logical databases (SELECT)."),

    // Cores.
    used("shards", integer(0, 1024), "0", Start, "Number of shards; 0 for as many as the data directory has, or one per core when it is new."),
    used("cores", Cores, "", Start, "CPUs to run on, as `0,2-5`; empty for all that the process may use."),
    used("spin-us", integer(0, 1_000_000), "50", Live, "Microseconds an idle core looks for work before it sleeps."),
    used("hz", Clamped { min: 1, max: 500 }, "10", Live, "Rounds of background work per second."),
    stored("active-expire-effort", integer(1, 10), "1", "How hard expired keys are searched for."),

    // Memory.
    stored("maxmemory", ANY_MEMORY, "0", "Memory the data may take; 0 for no limit."),
    used("maxmemory-policy", OneOf(POLICIES), "noeviction", Live, "What is evicted at maxmemory."),

    // Watching the server.
    used("loglevel", OneOf(&["debug", "verbose", "notice", "warning"]), "notice", Live, "The least severe messages to log."),
    used("logfile", Text, "", Start, "File of the operational log; empty for standard output."),
    used("log-format", OneOf(&["text", "json"]), "text", Start, "Lines for people or for collectors."),
    used("latency-tracking", YesNo, "yes", Live, "Keep a latency histogram per command."),
    used("latency-tracking-info-percentiles", Percentiles, "50 99 99.9", Live, "Percentiles that INFO latencystats reports."),
    stored("slowlog-log-slower-than", integer(-1, i64::MAX), "10000", "Microseconds from which a command enters the slow log; -1 for never."),
    stored("slowlog-max-len", integer(0, i64::MAX), "128", "Entries the slow log keeps."),
    stored("latency-monitor-threshold", integer(0, i64::MAX), "0", "Milliseconds from which LATENCY records an event; 0 for never."),
    stored("notify-keyspace-events", Events, "", "Classes of keyspace notifications to publish."),

    // Running.
    used("shutdown-timeout", COUNT, "10", Live, "Seconds to wait at shutdown for replies and replicas."),
    used("supervised", OneOf(&["no", "upstart", "systemd", "auto"]), "no", Start, "Tell the service supervisor when the server is ready."),
    used("pidfile", Text, "", Start, "File to write the process id to; empty for none."),
    used("enable-debug-command", OneOf(LOCAL), "no", Start, "Who may use DEBUG."),
    stored("replica-read-only", YesNo, "yes", "Whether a replica refuses writes of clients."),
    only("daemonize", "no", "shardis stays in the foreground: use a service supervisor", "The server never detaches itself."),

    // Names of Redis that have no effect here.
    stored("dbfilename", Text, "dump.rdb", "Name of the snapshot file."),
    stored("appendfilename", Text, "appendonly.aof", "Name of Redis' log."),
    stored("appenddirname", Text, "appendonlydir", "Directory of Redis' log."),
    stored("no-appendfsync-on-rewrite", YesNo, "no", "A snapshot never stops the log's syncs."),
    stored("aof-load-truncated", YesNo, "yes", "A torn end of the log is always cut off."),
    stored("aof-use-rdb-preamble", YesNo, "yes", "Format of Redis' log."),
    stored("aof-timestamp-enabled", YesNo, "no", "Format of Redis' log."),
    stored("aof-rewrite-incremental-fsync", YesNo, "yes", "Writing of Redis' log."),
    stored("rdb-save-incremental-fsync", YesNo, "yes", "Writing of snapshots."),
    stored("rdbcompression", YesNo, "yes", "Format of snapshots."),
    stored("rdbchecksum", YesNo, "yes", "Format of snapshots."),
    stored("rdb-del-sync-files", YesNo, "no", "Snapshots for replicas."),
    stored("sanitize-dump-payload", OneOf(&["no", "yes", "clients"]), "no", "Payloads are always checked."),
    stored("stop-writes-on-bgsave-error", YesNo, "yes", "There are no background snapshots."),
    stored("maxmemory-samples", integer(1, 64), "5", "Precision of eviction."),
    stored("maxmemory-eviction-tenacity", integer(0, 100), "10", "Effort of eviction."),
    stored("maxmemory-clients", ANY_MEMORY, "0", "Memory of all clients together."),
    stored("lfu-log-factor", COUNT, "10", "Counters of the LFU policies."),
    stored("lfu-decay-time", COUNT, "1", "Counters of the LFU policies."),
    stored("lazyfree-lazy-eviction", YesNo, "no", "Freeing evicted values later."),
    stored("lazyfree-lazy-expire", YesNo, "no", "Freeing expired values later."),
    stored("lazyfree-lazy-server-del", YesNo, "no", "Freeing overwritten values later."),
    stored("lazyfree-lazy-user-del", YesNo, "no", "DEL as UNLINK."),
    stored("lazyfree-lazy-user-flush", YesNo, "no", "FLUSHALL as FLUSHALL ASYNC."),
    stored("replica-lazy-flush", YesNo, "no", "Freeing the old data of a replica later."),
    used("hash-max-listpack-entries", integer(0, i64::MAX), "512", Live, "A hash of more fields is kept in the form for many."),
    used("hash-max-listpack-value", integer(0, i64::MAX), "64", Live, "A hash with a longer field or value (bytes) is kept in the form for many."),
    used("list-max-listpack-size", integer(-(1 << 31), I32_MAX), "-2", Live, "Elements in a node of a list; -1 to -5: its bytes, 4 KiB to 64 KiB."),
    stored("list-compress-depth", COUNT, "0", "Lists are not compressed."),
    used("set-max-intset-entries", integer(0, i64::MAX), "512", Live, "A set of more integers is kept in the form for many."),
    stored("set-max-listpack-entries", integer(0, i64::MAX), "128", "Small sets of strings have limits of their own: 64 members of 64 bytes."),
    stored("set-max-listpack-value", integer(0, i64::MAX), "64", "Small sets of strings have limits of their own: 64 members of 64 bytes."),
    used("zset-max-listpack-entries", integer(0, i64::MAX), "128", Live, "A sorted set of more members is kept in the form for many."),
    used("zset-max-listpack-value", integer(0, i64::MAX), "64", Live, "A sorted set with a longer member (bytes) is kept in the form for many."),
    used("stream-node-max-bytes", ANY_MEMORY, "4096", Live, "Bytes of a node of a stream; nodes of more than 64 KiB are not made."),
    used("stream-node-max-entries", integer(0, i64::MAX), "100", Live, "Entries of a node of a stream; 0 for no limit."),
    stored("activerehashing", YesNo, "yes", "Tables always grow step by step."),
    stored("dynamic-hz", YesNo, "yes", "Background work follows the load by itself."),
    stored("activedefrag", YesNo, "no", "Memory is not defragmented."),
    stored("active-defrag-ignore-bytes", ANY_MEMORY, "100mb", "Memory is not defragmented."),
    stored("active-defrag-threshold-lower", integer(0, 1000), "10", "Memory is not defragmented."),
    stored("active-defrag-threshold-upper", integer(0, 1000), "100", "Memory is not defragmented."),
    stored("active-defrag-cycle-min", integer(1, 99), "1", "Memory is not defragmented."),
    stored("active-defrag-cycle-max", integer(1, 99), "25", "Memory is not defragmented."),
    stored("active-defrag-max-scan-fields", integer(1, i64::MAX), "1000", "Memory is not defragmented."),
    stored("jemalloc-bg-thread", YesNo, "yes", "Threads of the allocator."),
    stored("io-threads", integer(1, 128), "1", "Ignored: the server runs one thread per core; see shards and cores."),
    stored("io-threads-do-reads", YesNo, "no", "Ignored: every core reads for itself."),
    stored("server_cpulist", Text, "", "Ignored: see cores."),
    stored("bio_cpulist", Text, "", "Ignored: see cores."),
    stored("aof_rewrite_cpulist", Text, "", "Ignored: see cores."),
    stored("bgsave_cpulist", Text, "", "Ignored: see cores."),
    stored("busy-reply-threshold", integer(0, i64::MAX), "5000", "Milliseconds after which a script counts as slow."),
    stored("tracking-table-max-keys", integer(0, i64::MAX), "1000000", "Keys remembered for client-side caching."),
    stored("acllog-max-len", integer(0, i64::MAX), "128", "Entries of ACL LOG."),
    stored("acl-pubsub-default", OneOf(&["allchannels", "resetchannels"]), "resetchannels", "Channels of new users."),
    stored("enable-protected-configs", OneOf(LOCAL), "no", "Protected settings are never live."),
    stored("enable-module-command", OneOf(LOCAL), "no", "There are no modules."),
    stored("repl-backlog-size", Memory { min: 1, max: i64::MAX as u64 }, "1mb", "There is no replication."),
    stored("repl-backlog-ttl", integer(0, i64::MAX), "3600", "There is no replication."),
    stored("repl-timeout", integer(1, I32_MAX), "60", "There is no replication."),
    stored("repl-ping-replica-period", integer(1, I32_MAX), "10", "There is no replication."),
    stored("repl-disable-tcp-nodelay", YesNo, "no", "There is no replication."),
    stored("repl-diskless-sync", YesNo, "yes", "There is no replication."),
    stored("repl-diskless-sync-delay", COUNT, "5", "There is no replication."),
    stored("repl-diskless-sync-max-replicas", COUNT, "0", "There is no replication."),
    stored("repl-diskless-load", OneOf(&["disabled", "on-empty-db", "swapdb"]), "disabled", "There is no replication."),
    stored("replica-serve-stale-data", YesNo, "yes", "There is no replication."),
    stored("replica-priority", COUNT, "100", "There is no replication."),
    stored("replica-announced", YesNo, "yes", "There is no replication."),
    stored("replica-announce-ip", Text, "", "There is no replication."),
    stored("replica-announce-port", integer(0, 65535), "0", "There is no replication."),
    stored("replica-ignore-maxmemory", YesNo, "yes", "There is no replication."),
    stored("replica-ignore-disk-write-errors", YesNo, "no", "There is no replication."),
    stored("min-replicas-to-write", COUNT, "0", "There is no replication."),
    stored("min-replicas-max-lag", COUNT, "10", "There is no replication."),
    stored("masterauth", Text, "", "There is no replication."),
    stored("masteruser", Text, "", "There is no replication."),
    stored("cluster-node-timeout", integer(0, i64::MAX), "15000", "There is no cluster mode."),
    stored("cluster-require-full-coverage", YesNo, "yes", "There is no cluster mode."),
    stored("cluster-allow-reads-when-down", YesNo, "no", "There is no cluster mode."),
    stored("cluster-announce-ip", Text, "", "There is no cluster mode."),
    stored("cluster-announce-hostname", Text, "", "There is no cluster mode."),
    stored("cluster-announce-port", integer(0, 65535), "0", "There is no cluster mode."),
    stored("cluster-announce-bus-port", integer(0, 65535), "0", "There is no cluster mode."),
    stored("cluster-config-file", Text, "nodes.conf", "There is no cluster mode."),
    stored("always-show-logo", YesNo, "no", "There is no logo."),
    stored("set-proc-title", YesNo, "yes", "The title of the process is left as it is."),
    stored("proc-title-template", Text, "{title} {listen-addr} {server-mode}", "The title of the process is left as it is."),
    stored("syslog-enabled", YesNo, "no", "The log goes to logfile or standard output."),
    stored("syslog-ident", Text, "redis", "The log goes to logfile or standard output."),
    stored("syslog-facility", Text, "local0", "The log goes to logfile or standard output."),
    stored("crash-log-enabled", YesNo, "yes", "A crash always reports itself."),
    stored("crash-memcheck-enabled", YesNo, "yes", "Memory is not tested after a crash."),
    stored("disable-thp", YesNo, "yes", "Transparent huge pages are left as they are."),
    stored("oom-score-adj", OneOf(&["no", "yes", "relative", "absolute"]), "no", "The score is left as it is."),
    stored("oom-score-adj-values", Words, "0 200 800", "The score is left as it is."),
    stored("shutdown-on-sigterm", Words, "default", "A signal always ends in an orderly shutdown."),
    stored("shutdown-on-sigint", Words, "default", "A signal always ends in an orderly shutdown."),
    stored("propagation-error-behavior", OneOf(&["ignore", "panic", "panic-on-replicas"]), "ignore", "There is no replication."),
    stored("socket-mark-id", COUNT, "0", "Sockets are not marked."),
    stored("bind-source-addr", Text, "", "There are no outgoing connections."),
    stored("ignore-warnings", Words, "", "Nothing about the system is warned of."),
    stored("unixsocketperm", Text, "0", "There are no Unix sockets."),
    only("unixsocket", "", "unix sockets are not supported", "Unix sockets are not supported."),
    only("tls-port", "0", "TLS is not supported: put a TLS proxy in front", "TLS is not supported."),
    only("cluster-enabled", "no", "cluster mode is not supported", "Cluster mode is not supported."),
    only("replicaof", "", "replication is not supported", "Replication is not supported."),
    only("aclfile", "", "ACL files are not supported: use requirepass", "ACL files are not supported."),
];

/// The row of a setting by its name or an alias, without regard to case: an index into `SETTINGS`.
pub fn find(name: &[u8]) -> Option<usize> {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    let name = ALIASES.iter().find(|(alias, _)| is(alias)).map(|(_, name)| *name);
    match name {
        Some(name) => SETTINGS.iter().position(|setting| setting.name == name),
        None => SETTINGS.iter().position(|setting| is(setting.name)),
    }
}

impl Setting {
    /// The other names of this setting.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> + '_ {
        ALIASES.iter().filter(|(_, name)| *name == self.name).map(|(alias, _)| *alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_stands_for_two_settings() {
        let mut names = HashSet::new();
        for name in SETTINGS.iter().map(|setting| setting.name).chain(ALIASES.iter().map(|(alias, _)| *alias)) {
            assert!(names.insert(name), "{name}");
        }
    }

    #[test]
    fn every_alias_finds_its_setting() {
        for (alias, name) in ALIASES {
            assert_eq!(SETTINGS[find(alias.to_uppercase().as_bytes()).expect(alias)].name, *name);
        }
    }

    #[test]
    fn every_setting_has_one_sentence_or_two_of_documentation() {
        for setting in SETTINGS {
            assert!(setting.doc.ends_with('.') && !setting.doc.contains(['|', '\n']), "{}", setting.name);
        }
    }
}
