//! The text of INFO: Redis' sections in Redis' order, with its field names, made of the reports of all cores.
//!
//! A field that has no meaning here is either left out or says the truth about it (nothing is ever forked).

use super::report::{Report, Reports};
use crate::config::Config;
use crate::core::BACKLOG_BYTES_MAX;
use crate::runtime::process::Usage;
use shards::call::Args;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Modules,
    Commandstats,
    Errorstats,
    Latencystats,
    Cluster,
    Keyspace,
    Shardis,
}

use Section::*;

impl Section {
    pub const ALL: [Section; 14] = [
        Server,
        Clients,
        Memory,
        Persistence,
        Stats,
        Replication,
        Cpu,
        Modules,
        Commandstats,
        Errorstats,
        Latencystats,
        Cluster,
        Keyspace,
        Shardis,
    ];

    /// As in its heading; asked for without regard to case.
    pub fn title(self) -> &'static str {
        match self {
            Server => "Server",
            Clients => "Clients",
            Memory => "Memory",
            Persistence => "Persistence",
            Stats => "Stats",
            Replication => "Replication",
            Cpu => "CPU",
            Modules => "Modules",
            Commandstats => "Commandstats",
            Errorstats => "Errorstats",
            Latencystats => "Latencystats",
            Cluster => "Cluster",
            Keyspace => "Keyspace",
            Shardis => "Shardis",
        }
    }

    fn is_default(self) -> bool {
        match self {
            Server | Clients | Memory | Persistence | Stats | Replication | Cpu | Modules | Errorstats | Cluster
            | Keyspace => true,
            Commandstats | Latencystats | Shardis => false,
        }
    }

    /// The sections that the arguments of INFO name, in order; names of none are ignored, as in Redis.
    pub fn chosen(names: Args<'_>) -> Vec<Section> {
        let named = |section: &Section, name: &[u8]| {
            name.eq_ignore_ascii_case(section.title().as_bytes())
                || name.eq_ignore_ascii_case(b"all")
                || name.eq_ignore_ascii_case(b"everything")
                || (name.eq_ignore_ascii_case(b"default") && section.is_default())
        };
        let wanted = |section: &Section| match names.len() {
            0 => section.is_default(),
            _ => names.iter().any(|name| named(section, name)),
        };
        Section::ALL.into_iter().filter(wanted).collect()
    }
}

/// All that the text is made of.
pub struct Facts<'a> {
    pub config: &'a Config,
    pub config_file: String,
    pub run_id: &'a str,
    pub shards: u16,
    pub uptime_ms: u64,
    pub wall_us: u64,
    pub redis_version: &'static str,
    pub usage: Usage,
    pub reports: Reports,
}

pub fn text(sections: &[Section], facts: &Facts<'_>) -> String {
    let mut lines = Lines(String::new());
    for section in sections {
        if !lines.0.is_empty() {
            lines.0.push_str("\r\n");
        }
        write!(lines.0, "# {}\r\n", section.title()).expect("a string takes every write");
        match section {
            Server => server(&mut lines, facts),
            Clients => clients(&mut lines, facts),
            Memory => memory(&mut lines, facts),
            Persistence => persistence(&mut lines, facts),
            Stats => stats(&mut lines, facts),
            Replication => replication(&mut lines, facts),
            Cpu => cpu(&mut lines, facts),
            Modules => {}
            Commandstats => commandstats(&mut lines, facts),
            Errorstats => errorstats(&mut lines, facts),
            Latencystats => latencystats(&mut lines, facts),
            Cluster => lines.add("cluster_enabled", 0),
            Keyspace => keyspace(&mut lines, facts),
            Shardis => shardis(&mut lines, facts),
        }
    }
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a string takes every write");
    }
    /// A number of bytes, and the same for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), human(bytes));
    }
}

fn server(lines: &mut Lines, facts: &Facts<'_>) {
    let uptime_seconds = facts.uptime_ms / 1000;
    lines.add("redis_version", facts.redis_version);
    lines.add("shardis_version", env!("CARGO_PKG_VERSION"));
    lines.add("redis_git_sha1", "00000000");
    lines.add("redis_git_dirty", 0);
    lines.add("redis_mode", "standalone");
    lines.add("os", &facts.usage.os);
    lines.add("arch_bits", usize::BITS);
    lines.add("multiplexing_api", "io_uring");
    lines.add("process_id", facts.usage.process_id);
    lines.add("process_supervised", facts.config.supervised);
    lines.add("run_id", facts.run_id);
    lines.add("tcp_port", facts.config.port);
    lines.add("server_time_usec", facts.wall_us);
    lines.add("uptime_in_seconds", uptime_seconds);
    lines.add("uptime_in_days", uptime_seconds / 86_400);
    lines.add("hz", facts.config.hz);
    lines.add("configured_hz", facts.config.hz);
    lines.add("lru_clock", (facts.wall_us / 1_000_000) & 0xff_ffff);
    lines.add("executable", &facts.usage.executable);
    lines.add("config_file", &facts.config_file);
    lines.add("io_threads_active", 0);
}

fn clients(lines: &mut Lines, facts: &Facts<'_>) {
    lines.add("connected_clients", facts.reports.total.get("connections"));
    lines.add("cluster_connections", 0);
    lines.add("maxclients", facts.config.maxclients);
    lines.add("blocked_clients", facts.reports.total.get("blocked_clients"));
    lines.add("tracking_clients", 0);
    lines.add("clients_in_timeout_table", 0);
}

fn memory(lines: &mut Lines, facts: &Facts<'_>) {
    let usage = &facts.usage;
    let used = usage.allocated_bytes;
    let data = facts.reports.total.get("keyspace_bytes");
    let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    lines.bytes("used_memory", used);
    lines.bytes("used_memory_rss", usage.resident_bytes);
    lines.bytes("used_memory_peak", usage.allocated_peak_bytes);
    lines.add("used_memory_peak_perc", format!("{:.2}%", 100.0 * ratio(used, usage.allocated_peak_bytes)));
    lines.add("used_memory_overhead", used.saturating_sub(data));
    lines.add("used_memory_dataset", data);
    lines.add("used_memory_dataset_perc", format!("{:.2}%", 100.0 * ratio(data, used)));
    lines.add("allocator_allocated", used);
    lines.add("allocator_active", usage.active_bytes);
    lines.add("allocator_resident", usage.mapped_bytes);
    lines.bytes("total_system_memory", usage.system_memory_bytes);
    lines.bytes("maxmemory", facts.config.maxmemory_bytes);
    lines.add("maxmemory_policy", facts.config.maxmemory_policy);
    lines.add("allocator_frag_ratio", format!("{:.2}", ratio(usage.active_bytes, used)));
    lines.add("allocator_frag_bytes", usage.active_bytes.saturating_sub(used));
    lines.add("allocator_rss_ratio", format!("{:.2}", ratio(usage.mapped_bytes, usage.active_bytes)));
    lines.add("allocator_rss_bytes", usage.mapped_bytes.saturating_sub(usage.active_bytes));
    lines.add("mem_fragmentation_ratio", format!("{:.2}", ratio(usage.resident_bytes, used)));
    lines.add("mem_fragmentation_bytes", usage.resident_bytes as i64 - used as i64);
    lines.add("mem_not_counted_for_evict", 0);
    lines.add("mem_aof_buffer", facts.reports.total.get("wal_backlog_bytes"));
    lines.add("mem_allocator", "jemalloc");
    lines.add("active_defrag_running", 0);
    lines.add("lazyfree_pending_objects", 0);
}

fn persistence(lines: &mut Lines, facts: &Facts<'_>) {
    let total = &facts.reports.total;
    let logs: Vec<Log> = facts.reports.cores.iter().map(Log::of).collect();
    let worst = logs.iter().max_by_key(|log| log.status).filter(|log| log.status > LogStatus::Ok);
    lines.add("loading", 0);
    lines.add("async_loading", 0);
    add_snapshots(lines, facts);
    lines.add("aof_last_write_status", if worst.is_none() { "ok" } else { "err" });
    for name in ["wal_records", "wal_bytes", "wal_syncs", "wal_delayed"] {
        lines.add(&format!("shardis_{name}"), total.get(&format!("stat/{name}")));
    }
    lines.add("shardis_wal_backlog_bytes", total.get("wal_backlog_bytes"));
    lines.add("wal_status", worst.map_or(LogStatus::Ok, |log| log.status).name());
    lines.add("wal_error", worst.map_or("", |log| &log.error));
    for (shard, log) in logs.iter().enumerate() {
        // The error comes last: it may have commas of its own.
        let (status, error) = (log.status.name(), &log.error);
        let fields = format!("status={status},offset={},backlog_bytes={},error={error}", log.offset, log.backlog_bytes);
        lines.add(&format!("wal_shard_{shard}"), fields);
    }
}

/// Whether a shard's log takes writes, in ascending order of trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum LogStatus {
    Ok,
    /// Not now: its disk is full or too slow. Passes by itself.
    Blocked,
    /// Not until a restart.
    Failed,
}

impl LogStatus {
    fn name(self) -> &'static str {
        match self {
            LogStatus::Ok => "ok",
            LogStatus::Blocked => "blocked",
            LogStatus::Failed => "failed",
        }
    }
}

/// What a core's report says of its shard's log.
struct Log {
    status: LogStatus,
    /// Empty if all is well.
    error: String,
    /// Where its stream of edits ends.
    offset: u64,
    backlog_bytes: u64,
}

impl Log {
    /// As `LogState::refusal` decides it for writers.
    fn of(report: &Report) -> Log {
        let backlog_bytes = report.get("wal_backlog_bytes");
        let text = |state: &str| report.texts("log/").find(|(name, _)| name.ends_with(state)).map(|(_, why)| why);
        let (status, error) = match (text("/failed"), text("/blocked")) {
            (Some(why), _) => (LogStatus::Failed, why.to_string()),
            (None, Some(why)) => (LogStatus::Blocked, why.to_string()),
            (None, None) if backlog_bytes > BACKLOG_BYTES_MAX => {
                (LogStatus::Blocked, format!("{BACKLOG_BYTES_MAX} bytes behind; its disk is too slow"))
            }
            (None, None) => (LogStatus::Ok, String::new()),
        };
        Log { status, error, offset: report.get("log_end"), backlog_bytes }
    }
}

/// In Redis' words: a snapshot is what a save and a rewrite of the log are there.
fn add_snapshots(lines: &mut Lines, facts: &Facts<'_>) {
    let total = &facts.reports.total;
    let seconds = |known: &str, ms: &str| match total.get(known) {
        0 => -1,
        _ => (total.get(ms) / 1_000) as i64,
    };
    let running = total.get("snapshot/running");
    let last = seconds("snapshot/ended", "snapshot/took_ms");
    let current = seconds("snapshot/running", "snapshot/running_ms");
    let failure = total.texts("snapshot/failure").next().map(|(_, why)| why);
    let status = if failure.is_some() { "err" } else { "ok" };
    lines.add("rdb_changes_since_last_save", total.get("snapshot/changes"));
    lines.add("rdb_bgsave_in_progress", running);
    lines.add("rdb_last_save_time", total.get("snapshot/saved_s"));
    lines.add("rdb_last_bgsave_status", status);
    lines.add("rdb_last_bgsave_time_sec", last);
    lines.add("rdb_current_bgsave_time_sec", current);
    lines.add("aof_enabled", facts.config.appendonly as u8);
    lines.add("aof_rewrite_in_progress", running);
    lines.add("aof_rewrite_scheduled", 0);
    lines.add("aof_last_rewrite_time_sec", last);
    lines.add("aof_current_rewrite_time_sec", current);
    lines.add("aof_last_bgrewrite_status", status);
    lines.add("shardis_snapshot_error", failure.unwrap_or(""));
}

fn stats(lines: &mut Lines, facts: &Facts<'_>) {
    let total = &facts.reports.total;
    let stat = |name: &str| total.get(&format!("stat/{name}"));
    let kbps = |name: &str| format!("{:.2}", stat(name) as f64 / 1024.0);
    lines.add("total_connections_received", stat("connections_received"));
    lines.add("total_commands_processed", stat("commands"));
    lines.add("instantaneous_ops_per_sec", stat("commands_per_second"));
    lines.add("total_net_input_bytes", stat("net_input_bytes"));
    lines.add("total_net_output_bytes", stat("net_output_bytes"));
    lines.add("instantaneous_input_kbps", kbps("input_bytes_per_second"));
    lines.add("instantaneous_output_kbps", kbps("output_bytes_per_second"));
    lines.add("rejected_connections", stat("connections_rejected"));
    lines.add("sync_full", 0);
    lines.add("sync_partial_ok", 0);
    lines.add("sync_partial_err", 0);
    lines.add("expired_keys", stat("expired_keys"));
    lines.add("evicted_keys", 0);
    lines.add("evicted_clients", 0);
    lines.add("keyspace_hits", stat("keyspace_hits"));
    lines.add("keyspace_misses", stat("keyspace_misses"));
    lines.add("pubsub_channels", 0);
    lines.add("pubsub_patterns", 0);
    lines.add("pubsubshard_channels", 0);
    lines.add("latest_fork_usec", 0);
    lines.add("total_forks", 0);
    lines.add("total_error_replies", total.numbers("error/").map(|(_, count)| count).sum::<u64>());
    lines.add("client_query_buffer_limit_disconnections", stat("query_buffer_limit_disconnections"));
    lines.add("client_output_buffer_limit_disconnections", stat("output_buffer_limit_disconnections"));
    for name in ["protocol_errors", "lane_calls", "lane_wakes", "backstop_found_work", "turns", "parks"] {
        lines.add(name, stat(name));
    }
}

/// A master without replicas.
fn replication(lines: &mut Lines, facts: &Facts<'_>) {
    lines.add("role", "master");
    lines.add("connected_slaves", 0);
    lines.add("master_failover_state", "no-failover");
    lines.add("master_replid", facts.run_id);
    lines.add("master_replid2", "0".repeat(40));
    lines.add("master_repl_offset", 0);
    lines.add("second_repl_offset", -1);
    lines.add("repl_backlog_active", 0);
    lines.add("repl_backlog_size", 0);
    lines.add("repl_backlog_first_byte_offset", 0);
    lines.add("repl_backlog_histlen", 0);
}

fn cpu(lines: &mut Lines, facts: &Facts<'_>) {
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let (own, children) = (facts.usage.cpu, facts.usage.cpu_children);
    lines.add("used_cpu_sys", seconds(own.system_us));
    lines.add("used_cpu_user", seconds(own.user_us));
    lines.add("used_cpu_sys_children", seconds(children.system_us));
    lines.add("used_cpu_user_children", seconds(children.user_us));
}

fn commandstats(lines: &mut Lines, facts: &Facts<'_>) {
    let mut commands: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (name, value) in facts.reports.total.numbers("command/") {
        let (command, what) = name.rsplit_once('/').expect("a command and what is counted of it");
        commands.entry(command).or_default().insert(what, value);
    }
    for (command, counts) in commands {
        let (calls, ns) = (counts["calls"], counts["nanoseconds"]);
        let each = ns as f64 / 1000.0 / calls.max(1) as f64;
        let (rejected, failed) = (counts["rejected"], counts["failed"]);
        let usec = ns / 1000;
        lines.add(
            &format!("cmdstat_{command}"),
            format!(
                "calls={calls},usec={usec},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}"
            ),
        );
    }
}

fn errorstats(lines: &mut Lines, facts: &Facts<'_>) {
    for (code, count) in facts.reports.total.numbers("error/") {
        lines.add(&format!("errorstat_{code}"), format!("count={count}"));
    }
}

fn latencystats(lines: &mut Lines, facts: &Facts<'_>) {
    for (command, latencies) in facts.reports.total.histograms() {
        let percentile = |percentile: &f64| {
            let us = latencies.value_at_quantile(percentile / 100.0) as f64 / 1000.0;
            format!("p{percentile}={us:.3}")
        };
        let percentiles: Vec<String> = facts.config.latency_percentiles.iter().map(percentile).collect();
        lines.add(&format!("latency_percentiles_usec_{command}"), percentiles.join(","));
    }
}

fn keyspace(lines: &mut Lines, facts: &Facts<'_>) {
    let total = &facts.reports.total;
    let databases = (0..facts.config.databases).map(|db| (db, total.get(&format!("db/{db}/keys"))));
    for (db, keys) in databases.filter(|(_, keys)| *keys > 0) {
        let expires = total.get(&format!("db/{db}/expires"));
        lines.add(&format!("db{db}"), format!("keys={keys},expires={expires},avg_ttl=0"));
    }
}

/// What each core does, to see whether the load is spread.
fn shardis(lines: &mut Lines, facts: &Facts<'_>) {
    lines.add("shards", facts.shards);
    for (core, report) in facts.reports.cores.iter().enumerate() {
        let keys: u64 = report.numbers("db/").filter(|(name, _)| name.ends_with("/keys")).map(|(_, keys)| keys).sum();
        let mut fields = format!("keys={keys},connections={}", report.get("connections"));
        for name in PER_CORE {
            write!(fields, ",{name}={}", report.get(&format!("stat/{name}"))).expect("a string takes every write");
        }
        write!(fields, ",wal_backlog_bytes={}", report.get("wal_backlog_bytes")).expect("a string takes every write");
        lines.add(&format!("core_{core}"), fields);
    }
}

const PER_CORE: &[&str] = &[
    "commands",
    "commands_per_second",
    "turns",
    "parks",
    "lane_calls",
    "lane_wakes",
    "backstop_found_work",
    "wal_records",
    "wal_bytes",
    "wal_syncs",
];

/// Bytes as Redis prints them for people: `967.33K`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use shards::call::Span;

    fn chosen(names: &[&str]) -> Vec<Section> {
        let bytes: String = names.concat();
        let mut start = 0;
        let span = |name: &&str| {
            start += name.len() as u32;
            Span { start: start - name.len() as u32, len: name.len() as u32 }
        };
        let spans: Vec<Span> = names.iter().map(span).collect();
        Section::chosen(Args::new(bytes.as_bytes(), &spans))
    }

    fn text_of(sections: &[Section], cores: Vec<Report>) -> String {
        let facts = Facts {
            config: &Config::default(),
            config_file: String::new(),
            run_id: "f00",
            shards: cores.len() as u16,
            uptime_ms: 90_000_000,
            wall_us: 5,
            redis_version: "7.2.5",
            usage: Usage::default(),
            reports: Reports::new(cores),
        };
        text(sections, &facts)
    }

    fn report(numbers: &[(&str, u64)]) -> Report {
        let mut report = Report::default();
        numbers.iter().for_each(|(name, value)| report.number(name, *value));
        report
    }

    #[test]
    fn sections_come_in_the_order_of_redis_whatever_was_asked_first() {
        assert_eq!(chosen(&["keyspace", "Server", "nope"]), [Server, Keyspace]);
        assert_eq!(chosen(&["everything"]), Section::ALL);
        assert_eq!(chosen(&[]), chosen(&["default"]));
        assert!(chosen(&["nope"]).is_empty());
        assert_eq!(chosen(&["default", "commandstats"]).len(), chosen(&[]).len() + 1);
    }

    #[test]
    fn every_line_is_a_heading_a_field_or_empty() {
        let text = text_of(&Section::ALL, vec![report(&[("connections", 2)])]);
        assert!(text.ends_with("\r\n"));
        for line in text.split_terminator("\r\n") {
            assert!(line.is_empty() || line.starts_with("# ") || line.contains(':'), "{line}");
            assert!(!line.contains(['\r', '\n']), "{line}");
        }
    }

    #[test]
    fn cores_are_added_up() {
        let core = |keys| {
            report(&[
                ("db/3/keys", keys),
                ("db/3/expires", 1),
                ("error/ERR", 2),
                ("command/config|get/calls", 2),
                ("command/config|get/nanoseconds", 5_000),
                ("command/config|get/rejected", 0),
                ("command/config|get/failed", 1),
            ])
        };
        let text = text_of(&[Commandstats, Errorstats, Keyspace], vec![core(4), core(5)]);
        let expected = "# Commandstats\r\ncmdstat_config|get:calls=4,usec=10,usec_per_call=2.50,rejected_calls=0,\
                        failed_calls=2\r\n\r\n# Errorstats\r\nerrorstat_ERR:count=4\r\n\r\n# Keyspace\r\n\
                        db3:keys=9,expires=2,avg_ttl=0\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_shard_says_how_its_log_is_and_the_worst_speaks_for_all() {
        let (mut failed, mut blocked) = (Report::default(), report(&[("wal_backlog_bytes", 7)]));
        failed.text("log/1/failed", "write of seg: no space, sorry");
        blocked.text("log/2/blocked", "making seg: full");
        let slow = report(&[("wal_backlog_bytes", BACKLOG_BYTES_MAX + 1)]);
        let text = text_of(&[Persistence], vec![Report::default(), failed, blocked, slow]);
        for line in [
            "aof_last_write_status:err",
            "wal_status:failed",
            "wal_error:write of seg: no space, sorry",
            "wal_shard_0:status=ok,offset=0,backlog_bytes=0,error=",
            "wal_shard_1:status=failed,offset=0,backlog_bytes=0,error=write of seg: no space, sorry",
            "wal_shard_2:status=blocked,offset=0,backlog_bytes=7,error=making seg: full",
            "wal_shard_3:status=blocked,offset=0,backlog_bytes=67108865,error=67108864 bytes behind; its disk is too slow",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} is missing: {text}");
        }
        let text = text_of(&[Persistence], vec![Report::default()]);
        for line in ["aof_last_write_status:ok", "wal_status:ok", "wal_error:"] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} is missing: {text}");
        }
    }

    #[test]
    fn bytes_are_printed_for_people_as_in_redis() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (990_544, "967.33K"), (25_276_502_016, "23.54G")] {
            assert_eq!(human(bytes), text);
        }
    }
}
