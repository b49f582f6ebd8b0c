//! What one core counts, in a form that travels to the core that was asked, and the sum of all cores.
//!
//! On its way a report is text, a line per value: `n NAME NUMBER`, `t NAME TEXT`, `h NAME VALUE:COUNT,...`. Names have
//! no spaces; parts of a name are separated by slashes. It never leaves the process, so there is no version to keep.

use super::latency::{Nanoseconds, Stage, histogram};
use crate::core::Core;
use shards::units::{Db, ShardId};
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Clone, Debug, Default)]
pub struct Report {
    numbers: BTreeMap<String, u64>,
    texts: BTreeMap<String, String>,
    histograms: BTreeMap<String, Nanoseconds>,
}

impl Report {
    /// Counters and states of a core.
    pub fn of_counters(core: &Core) -> Self {
        let mut report = Report::default();
        for (name, value) in core.stats.counters() {
            report.number(&format!("stat/{name}"), value);
        }
        let keyspace = &core.owner.keyspace;
        for db in (0..keyspace.databases()).map(Db).filter(|db| !keyspace.is_empty(*db)) {
            report.number(&format!("db/{}/keys", db.0), keyspace.len(db) as u64);
            report.number(&format!("db/{}/expires", db.0), keyspace.deadlines(db) as u64);
        }
        report.number("connections", core.session_count() as u64);
        report.number("blocked_clients", core.blocked_clients() as u64);
        report.number("stat/keyspace_hits", keyspace.lookups().hits);
        report.number("stat/keyspace_misses", keyspace.lookups().misses);
        report.number("keyspace_bytes", keyspace.bytes_used() as u64);
        report.number("wal_backlog_bytes", core.log.backlog_bytes);
        for (name, why) in [("failed", &core.log.failed), ("blocked", &core.log.blocked)] {
            if let Some(why) = why {
                report.text(&format!("log/{}/{name}", core.shard.0), why);
            }
        }
        for (code, count) in &core.latency.errors {
            report.number(&format!("error/{code}"), *count);
        }
        report.number("log_end", core.log.taken.0 + keyspace.edits().len() as u64);
        report.number("snapshot/changes", core.snapshots.changes);
        if core.shard == ShardId(0) {
            report.add_snapshots(core);
        }
        report.add_commands(core);
        report
    }

    /// Snapshots are of all shards: one core speaks for all.
    fn add_snapshots(&mut self, core: &Core) {
        let snapshots = &core.snapshots;
        self.number("snapshot/saved_s", snapshots.last.wall_ms / 1_000);
        if let Some(running) = snapshots.running {
            self.number("snapshot/running", 1);
            self.number("snapshot/running_ms", core.now.steady_ms.saturating_sub(running.steady_ms));
        }
        if let Some(took_ms) = snapshots.last.took_ms {
            self.number("snapshot/ended", 1);
            self.number("snapshot/took_ms", took_ms);
        }
        if let Some(why) = &snapshots.last.failure {
            self.text("snapshot/failure", why);
        }
    }

    fn add_commands(&mut self, core: &Core) {
        for command in core.catalog.iter() {
            let known = core.latency.command(command.number);
            let numbers = [
                ("calls", known.calls),
                ("nanoseconds", known.nanoseconds),
                ("rejected", known.rejected),
                ("failed", known.failed),
            ];
            if numbers.iter().any(|(_, value)| *value > 0) {
                numbers
                    .iter()
                    .for_each(|(name, value)| self.number(&format!("command/{}/{name}", command.name()), *value));
            }
        }
    }

    /// Adds the latency histograms of the commands that were called.
    pub fn add_command_histograms(&mut self, core: &Core) {
        for command in core.catalog.iter() {
            if let Some(histogram) = &core.latency.command(command.number).histogram {
                self.add_histogram(command.name(), histogram.as_ref().clone());
            }
        }
    }

    /// The latencies of a core's stages, under their names.
    pub fn of_stages(core: &Core) -> Self {
        let named = |stage: Stage| (stage.name().to_string(), core.latency.stage_histogram(stage));
        Report { histograms: Stage::ALL.into_iter().map(named).collect(), ..Report::default() }
    }

    pub fn number(&mut self, name: &str, value: u64) {
        self.numbers.insert(name.into(), value);
    }
    pub fn text(&mut self, name: &str, text: &str) {
        self.texts.insert(name.into(), text.replace(['\r', '\n'], " "));
    }

    pub fn add_histogram(&mut self, name: &str, latencies: Nanoseconds) {
        self.histograms.insert(name.into(), latencies);
    }

    /// 0 for a name that is not there.
    pub fn get(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }
    /// Numbers whose names begin with `prefix`, by the rest of their names.
    pub fn numbers<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.numbers.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)))
    }
    pub fn texts<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts.iter().filter_map(move |(name, text)| Some((name.strip_prefix(prefix)?, text.as_str())))
    }
    pub fn histograms(&self) -> impl Iterator<Item = (&str, &Nanoseconds)> {
        self.histograms.iter().map(|(name, histogram)| (name.as_str(), histogram))
    }
    pub fn histogram(&self, name: &str) -> Option<&Nanoseconds> {
        self.histograms.get(name)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut lines = String::new();
        for (name, value) in &self.numbers {
            writeln!(lines, "n {name} {value}").expect("a string takes every write");
        }
        for (name, text) in &self.texts {
            writeln!(lines, "t {name} {text}").expect("a string takes every write");
        }
        for (name, histogram) in &self.histograms {
            write!(lines, "h {name} ").expect("a string takes every write");
            for step in histogram.iter_recorded() {
                write!(lines, "{}:{},", step.value_iterated_to(), step.count_at_value())
                    .expect("a string takes every write");
            }
            lines.push('\n');
        }
        out.extend_from_slice(lines.as_bytes());
    }

    pub fn decode(encoded: &[u8]) -> Self {
        let mut report = Report::default();
        let text = String::from_utf8_lossy(encoded);
        for line in text.split_terminator('\n') {
            let mut fields = line.splitn(3, ' ');
            let mut field = || fields.next().expect("a line has a kind, a name and a value");
            let (kind, name, value) = (field(), field().to_string(), field());
            match kind {
                "n" => drop(report.numbers.insert(name, value.parse().expect("a number was written"))),
                "t" => drop(report.texts.insert(name, value.to_string())),
                "h" => drop(report.histograms.insert(name, decode_histogram(value))),
                other => unreachable!("no line is of kind {other}"),
            }
        }
        report
    }

    /// Adds another core's numbers and histograms to these; texts stand beside each other.
    pub fn add(&mut self, other: &Report) {
        for (name, value) in &other.numbers {
            *self.numbers.entry(name.clone()).or_default() += value;
        }
        for (name, text) in &other.texts {
            self.texts.insert(name.clone(), text.clone());
        }
        for (name, theirs) in &other.histograms {
            let ours = self.histograms.entry(name.clone()).or_insert_with(histogram);
            ours.add(theirs).expect("all histograms have the same bounds");
        }
    }
}

fn decode_histogram(steps: &str) -> Nanoseconds {
    let mut decoded = histogram();
    for step in steps.split_terminator(',') {
        let (value, count) = step.split_once(':').expect("a step is a value and a count");
        let (value, count) =
            (value.parse().expect("a number was written"), count.parse().expect("a number was written"));
        decoded.saturating_record_n(value, count);
    }
    decoded
}

/// The reports of all cores, and their sum.
#[derive(Debug, Default)]
pub struct Reports {
    pub cores: Vec<Report>,
    pub total: Report,
}

impl Reports {
    pub fn new(cores: Vec<Report>) -> Self {
        let mut total = Report::default();
        cores.iter().for_each(|report| total.add(report));
        Reports { cores, total }
    }
    pub fn decode(parts: &[Vec<u8>]) -> Self {
        Self::new(parts.iter().map(|part| Report::decode(part)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(base: u64) -> Report {
        let mut report = Report::default();
        report.number("stat/commands", base);
        report.text(&format!("log/{base}/failed"), "disk\nis gone");
        let mut latencies = histogram();
        latencies.record_n(base * 1_000, 3).expect("in range");
        report.add_histogram("get", latencies);
        report
    }

    #[test]
    fn a_report_survives_its_journey() {
        let mut encoded = Vec::new();
        sample(7).encode(&mut encoded);
        let decoded = Report::decode(&encoded);
        assert_eq!(decoded.get("stat/commands"), 7);
        assert_eq!(decoded.texts("log/").collect::<Vec<_>>(), [("7/failed", "disk is gone")]);
        let (before, after) = (sample(7), decoded);
        assert_eq!(before.histogram("get"), after.histogram("get"));
        assert_eq!(Report::decode(b"").numbers("").count(), 0);
    }

    #[test]
    fn cores_add_up() {
        let encode = |report: Report| {
            let mut encoded = Vec::new();
            report.encode(&mut encoded);
            encoded
        };
        let reports = Reports::decode(&[encode(sample(1)), encode(sample(2))]);
        assert_eq!(reports.total.get("stat/commands"), 3);
        assert_eq!(reports.cores[1].get("stat/commands"), 2);
        assert_eq!(reports.total.get("nope"), 0);
        assert_eq!(reports.total.texts("log/").count(), 2);
        assert_eq!(reports.total.histogram("get").map(|latencies| latencies.len()), Some(6));
    }
}
