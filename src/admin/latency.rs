//! A core's latencies: per command and per stage, in nanoseconds, in HDR histograms (two significant digits,
//! 1 ns to 60 s) that are merged when somebody asks.
//!
//! Cost: one clock reading and one histogram update per command; the stages are measured per batch and counted once per
//! command in it. Histograms are made when first needed.

use crate::commands::catalog::CommandNumber;
use hdrhistogram::Histogram;
use shards::error::CommandError;
use std::collections::BTreeMap;

/// Where the time of a command goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Parse,
    /// Route and lane: from the sender's end of turn to the owner's start of work.
    Lane,
    Execute,
    /// From handing a batch of edits to the log until its replies may go.
    WalWait,
    /// From the end of a turn until the kernel has taken the bytes.
    Reply,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Parse, Stage::Lane, Stage::Execute, Stage::WalWait, Stage::Reply];
    pub fn name(self) -> &'static str {
        match self {
            Stage::Parse => "parse",
            Stage::Lane => "lane",
            Stage::Execute => "execute",
            Stage::WalWait => "wal_wait",
            Stage::Reply => "reply",
        }
    }
}

pub type Nanoseconds = Histogram<u32>;

/// What is known of one command.
#[derive(Clone, Debug, Default)]
pub struct CommandLatency {
    pub calls: u64,
    pub nanoseconds: u64,
    /// Refused before execution.
    pub rejected: u64,
    /// Executed, with an error as reply.
    pub failed: u64,
    pub histogram: Option<Box<Nanoseconds>>,
}

pub struct Latency {
    commands: Vec<CommandLatency>,
    stages: [Option<Box<Nanoseconds>>; Stage::ALL.len()],
    /// Error replies by code (INFO errorstats).
    pub errors: BTreeMap<String, u64>,
    pub tracking: bool,
    /// End of the last measured piece of work: the start of the next in the same batch.
    mark: u64,
}

const NANOSECONDS_MAX: u64 = 60_000_000_000;
/// Distinct error codes kept; user scripts can make up any number of them.
const ERROR_CODES_MAX: usize = 128;

pub fn histogram() -> Nanoseconds {
    Histogram::new_with_bounds(1, NANOSECONDS_MAX, 2).expect("constant bounds are valid")
}

impl Latency {
    pub fn new(commands: usize) -> Self {
        Latency {
            commands: vec![CommandLatency::default(); commands],
            stages: Default::default(),
            errors: BTreeMap::new(),
            tracking: true,
            mark: 0,
        }
    }

    /// A batch of requests was parsed; executing it starts now.
    pub fn parsed(&mut self, started: u64, now: u64, requests: usize) {
        self.mark = now;
        self.stage(Stage::Parse, (now - started) / requests.max(1) as u64, requests);
    }

    /// A batch of calls came over a lane; executing it starts now.
    pub fn crossed(&mut self, sent: u64, now: u64, calls: usize) {
        self.mark = now;
        self.stage(Stage::Lane, now.saturating_sub(sent), calls);
    }

    /// `count` commands spent `nanoseconds` each in a stage.
    pub fn stage(&mut self, stage: Stage, nanoseconds: u64, count: usize) {
        if self.tracking {
            let histogram = self.stages[stage as usize].get_or_insert_with(|| Box::new(histogram()));
            histogram.saturating_record_n(nanoseconds.max(1), count as u32);
        }
    }

    /// A command was executed; it began where the last one ended. `error` is its reply if that is an error.
    #[inline]
    pub fn executed(&mut self, number: CommandNumber, ticks: fn() -> u64, error: Option<&[u8]>) {
        let command = &mut self.commands[number as usize];
        command.calls += 1;
        if self.tracking {
            let now = ticks();
            let nanoseconds = now.saturating_sub(self.mark).max(1);
            self.mark = now;
            command.nanoseconds += nanoseconds;
            command.histogram.get_or_insert_with(|| Box::new(histogram())).saturating_record(nanoseconds);
        }
        if let Some(error) = error {
            command.failed += 1;
            self.count_error(error);
        }
    }

    /// A request was refused before execution.
    pub fn rejected(&mut self, number: Option<CommandNumber>, error: &CommandError) {
        if let Some(number) = number {
            self.commands[number as usize].rejected += 1;
        }
        self.count_error(format!("-{}", error.0).as_bytes());
    }

    fn count_error(&mut self, reply: &[u8]) {
        let code = reply[1..].split(|byte| *byte == b' ' || *byte == b'\r').next().unwrap_or_default();
        let code = String::from_utf8_lossy(code).into_owned();
        if self.errors.len() < ERROR_CODES_MAX || self.errors.contains_key(&code) {
            *self.errors.entry(code).or_default() += 1;
        }
    }

    pub fn command(&self, number: CommandNumber) -> &CommandLatency {
        &self.commands[number as usize]
    }
    /// The histogram of a stage; Execute's is the sum over the commands.
    pub fn stage_histogram(&self, stage: Stage) -> Nanoseconds {
        let mut sum = self.stages[stage as usize].as_deref().cloned().unwrap_or_else(histogram);
        if stage == Stage::Execute {
            for command in self.commands.iter().filter_map(|command| command.histogram.as_ref()) {
                sum.add(command.as_ref()).expect("all histograms have the same bounds");
            }
        }
        sum
    }
    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        let commands = self.commands.len();
        // The mark stays: it is where the next command's time begins.
        *self = Latency { tracking: self.tracking, mark: self.mark, ..Latency::new(commands) };
    }
    /// LATENCY RESET, of the histograms of one command.
    pub fn reset_command(&mut self, number: CommandNumber) {
        self.commands[number as usize].histogram = None;
    }
}
