//! A hunt through many histories: records them, has both checkers look, counts, and keeps what was found.

use super::checker::check;
use super::crash;
use super::driver::{Recording, Tally};
use super::history::History;
use super::search::{Verdict, search};
use super::settings::{Settings, keys_on};
use super::workload::{Mix, Planner};
use crate::support::Client;
use std::time::{Duration, Instant};

/// Attempts of one search: far more than a history of a few thousand operations takes, when it can be explained.
pub const STEPS_MAX: usize = 1_000_000;

#[derive(Default)]
pub struct Report {
    pub histories: u64,
    pub operations: u64,
    pub committed: u64,
    pub aborted: u64,
    /// Operations cut off without an answer.
    pub cut_off: u64,
    /// Histories that the search gave up on; the cycles were looked for all the same.
    pub undecided: u64,
    pub anomalies: Vec<String>,
    pub errors: Vec<String>,
    checking: Duration,
}

/// Histories on a running server, on new keys each.
pub fn hunt_histories(what: &str, port: u16, mix: &Mix, settings: &Settings) -> Report {
    let mix = settings.narrow(mix.clone());
    let mut report = Report::default();
    for seed in (0..settings.histories).map(|n| settings.seed.wrapping_add(n)) {
        let wanted = (0..u16::from(mix.keys)).collect::<Vec<_>>();
        let names = keys_on(&format!("{what}:{seed:x}"), &wanted, settings.shards);
        let mut recording = Recording::new(names.clone());
        let planner = |client| Planner::new(mix.clone(), seed, client);
        let mut planners = (0..settings.clients).map(planner).collect::<Vec<_>>();
        recording.run(port, &mut planners, settings.operations, || {});
        recording.read_all(port, &mix);
        // A long hunt must not fill the memory.
        Client::connect(port).call(&[vec!["DEL".to_string()], names].concat());
        report.examine(&format!("{what}, seed {seed}"), recording.finish());
        if report.is_enough() {
            break;
        }
    }
    report.print(what);
    report
}

/// Histories that go on over kills.
pub fn hunt_kills(start: crash::Start, policy: &str, kept: crash::Kept, mix: &Mix, settings: &Settings) -> Report {
    let mix = settings.narrow(mix.clone());
    let mut report = Report::default();
    let what = format!("{policy}, killed");
    for seed in (0..settings.cycles.div_ceil(3)).map(|n| settings.seed.wrapping_add(n)) {
        let (mut history, tally) = crash::record(start, policy, &mix, seed, settings);
        match kept {
            crash::Kept::Read => {}
            crash::Kept::Acknowledged => crash::forget_hasty_reads(&mut history),
        }
        report.examine(&format!("{what}, seed {seed}"), (history, tally));
        if report.is_enough() {
            break;
        }
    }
    report.print(&what);
    report
}

impl Report {
    fn examine(&mut self, what: &str, (history, tally): (History, Tally)) {
        self.histories += 1;
        self.operations += history.ops.len() as u64;
        self.cut_off += history.ops.iter().filter(|op| !op.certain).count() as u64;
        self.committed += tally.committed;
        self.aborted += tally.aborted;
        self.errors.extend(tally.errors);
        if !self.errors.is_empty() {
            // What failed is not in the history, so nothing can be said about it.
            return;
        }
        let start = Instant::now();
        if let Some(cycle) = check(&history) {
            self.anomalies.push(format!("{what}: {cycle}"));
        } else {
            match search(&history, STEPS_MAX) {
                Verdict::Explained => {}
                Verdict::Impossible(why) => self.anomalies.push(format!("{what}: {why}")),
                Verdict::Undecided => self.undecided += 1,
            }
        }
        self.checking += start.elapsed();
    }

    fn is_enough(&self) -> bool {
        const ANOMALIES_MAX: usize = 20;
        !self.errors.is_empty() || self.anomalies.len() >= ANOMALIES_MAX
    }

    fn print(&self, what: &str) {
        println!(
            "{what}: {} histories, {} operations, {} committed and {} aborted under WATCH, {} cut off, {} undecided, \
             {} anomalies, checked in {:?}",
            self.histories,
            self.operations,
            self.committed,
            self.aborted,
            self.cut_off,
            self.undecided,
            self.anomalies.len(),
            self.checking
        );
    }

    /// Panics with the first finding.
    #[track_caller]
    pub fn assert_clean(&self) {
        if let Some(error) = self.errors.first() {
            panic!("{} replies are no answers, the first: {error}", self.errors.len());
        }
        if let Some(anomaly) = self.anomalies.first() {
            let count = self.anomalies.len();
            let titles = self.anomalies.iter().filter_map(|told| told.lines().next()).collect::<Vec<_>>();
            panic!("{count} of {} histories have anomalies: {titles:#?}\nThe first: {anomaly}", self.histories);
        }
        // A search may give up: a budget of steps, not a verdict. Of few histories one says nothing about the rest.
        let most = (self.histories / 10).max(1);
        assert!(self.undecided <= most, "{} of {} are undecided", self.undecided, self.histories);
    }
}
