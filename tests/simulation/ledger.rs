//! What the shards handed to their logs and acknowledged, and so what a start must find: kept beside the logs, and judged
//! without their code.
//!
//! The rule for a start: each shard's state is that of a prefix of its records, no shorter than the policy promises; less the
//! transactions over several shards that some participant's prefix lacks, on which nothing in any prefix builds.

use super::start::{DATABASES, Started, digests};
use shardis::core::EditBatch;
use shards::keyspace::{Edit, Keyspace};
use shards::units::Offset;
use shards::wal::{FsyncPolicy, GroupId, GroupTable, Sequence};
use std::collections::{BTreeMap, BTreeSet};

struct Noted {
    start: Offset,
    edits: Vec<u8>,
    groups: GroupTable,
}

/// One shard's.
#[derive(Default)]
pub struct Ledger {
    records: Vec<Noted>,
    /// When replies went that depend on offsets up to this one. The first is the start's: what that found is on disk.
    acknowledged: Vec<(u64, Offset)>,
    /// Where the last start cut the log as the shards agreed: the tail stays in its file until something is written behind the
    /// cut, and is cut there again.
    cut_before: Option<Sequence>,
}

/// What ended the life of the cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accident {
    /// kill -9.
    Killed,
    PowerCut,
}

/// The ends of all shards' logs, and the groups that count nowhere.
type Kept = (Vec<Sequence>, BTreeSet<GroupId>);

/// Of all shards.
#[derive(Default)]
pub struct Ledgers {
    all: Vec<Ledger>,
    /// What a state was found to hold before; the same is asked for many times where one moment is looked at in many ways.
    expected: BTreeMap<Kept, Vec<Vec<u64>>>,
}

/// Acknowledged writes under `everysec` may be lost if they are younger.
const LOST_NS_MAX: u64 = 1_000_000_000;

impl Ledger {
    fn end(&self, before: Sequence) -> Offset {
        let last = self.records[..before.0 as usize - 1].last();
        last.map_or(Offset(0), |noted| Offset(noted.start.0 + noted.edits.len() as u64))
    }
    fn acknowledged(&self) -> (u64, Offset) {
        *self.acknowledged.last().expect("a life begins with an entry")
    }
}

impl Ledgers {
    pub fn new(shards: u16) -> Ledgers {
        Ledgers { all: (0..shards).map(|_| Ledger::default()).collect(), ..Ledgers::default() }
    }

    /// The cores begin to serve what a start found, which is on disk.
    pub fn begin(&mut self, shard: usize, now_ns: u64, started_at: Offset) {
        self.all[shard].acknowledged = vec![(now_ns, started_at)];
    }

    /// A record is handed to the log.
    pub fn append(&mut self, shard: usize, batch: &EditBatch) -> Sequence {
        let (edits, groups) = (batch.edits.clone(), batch.groups.clone());
        let ledger = &mut self.all[shard];
        let sequence = Sequence(ledger.records.len() as u64 + 1);
        assert_eq!(batch.start, ledger.end(sequence), "batches follow one another");
        ledger.records.push(Noted { start: batch.start, edits, groups });
        sequence
    }

    /// Replies that wait for offsets up to this one go.
    pub fn acknowledge(&mut self, shard: usize, now_ns: u64, released: Offset) {
        let ledger = &mut self.all[shard];
        if released > ledger.acknowledged().1 {
            ledger.acknowledged.push((now_ns, released));
        }
    }

    /// What was acknowledged later may be lost in the accident that happens now; `None` if nothing may. `durable`: how far each
    /// log is known to be on disk. On a slow disk the last acknowledgement of what isn't counts in place of now, as there is
    /// none while the disk hangs.
    pub fn horizon_ns(
        &self,
        policy: FsyncPolicy,
        accident: Accident,
        now_ns: u64,
        is_slow: bool,
        durable: &[Offset],
    ) -> Option<u64> {
        let began_ns = self.all.iter().map(|ledger| ledger.acknowledged[0].0).min().expect("there is a shard");
        match (accident, policy) {
            (Accident::Killed, _) | (Accident::PowerCut, FsyncPolicy::Always) => None,
            (Accident::PowerCut, FsyncPolicy::No) => Some(began_ns),
            (Accident::PowerCut, FsyncPolicy::EverySec) => {
                let lasts = self.all.iter().map(Ledger::acknowledged).zip(durable);
                let unsure = lasts.filter(|((_, offset), durable)| is_slow && offset > durable);
                let from_ns = unsure.map(|((last_ns, _), _)| last_ns).min().unwrap_or(now_ns);
                Some(from_ns.saturating_sub(LOST_NS_MAX).max(began_ns))
            }
        }
    }

    fn floor(&self, shard: usize, horizon_ns: Option<u64>) -> Offset {
        let ledger = &self.all[shard];
        let counts = |(at_ns, _): &&(u64, Offset)| horizon_ns.is_none_or(|horizon_ns| *at_ns <= horizon_ns);
        // The first is on disk, whenever it was.
        ledger.acknowledged.iter().rev().find(counts).unwrap_or(&ledger.acknowledged[0]).1
    }

    /// Whether a start found what it must.
    pub fn judge(&mut self, started: &[Started], horizon_ns: Option<u64>) -> Result<(), String> {
        let ends = started.iter().map(|one| one.start.next_sequence).collect::<Vec<_>>();
        for (shard, one) in started.iter().enumerate() {
            let ledger = &self.all[shard];
            let (end, count) = (one.start.next_sequence.0, ledger.records.len() as u64);
            if end > count + 1 {
                return Err(format!("shard {shard} found {} records of {count}", end - 1));
            }
            let offset = ledger.end(one.start.next_sequence);
            if one.start.offset != offset {
                return Err(format!("shard {shard} ends at {:?} in place of {offset:?}", one.start.offset));
            }
            let (surveyed, floor) = (one.surveyed.min(Sequence(count + 1)), self.floor(shard, horizon_ns));
            if ledger.end(surveyed) < floor {
                let kept = ledger.end(surveyed);
                return Err(format!("shard {shard} lost acknowledged writes: kept up to {kept:?} of {floor:?}"));
            }
        }
        let incomplete = self.incomplete(&ends);
        self.judge_cuts(started, &incomplete, horizon_ns)?;
        let found = started.iter().map(Started::digests).collect::<Vec<_>>();
        let expected = self.expected(ends, incomplete);
        match (0..found.len()).find(|shard| found[*shard] != expected[*shard]) {
            Some(shard) => Err(format!("shard {shard} holds something else than its records say")),
            None => Ok(()),
        }
    }

    /// Groups that are not before the ends of the logs of all their participants, be they before that of some or of none.
    fn incomplete(&self, ends: &[Sequence]) -> BTreeSet<GroupId> {
        let mut held = BTreeMap::<GroupId, (usize, usize)>::new();
        for (ledger, end) in self.all.iter().zip(ends) {
            for (noted, sequence) in ledger.records.iter().zip(1..) {
                for group in noted.groups.groups(Sequence::NONE).iter() {
                    let (_, found) = held.entry(group.id).or_insert((group.participants().count(), 0));
                    *found += usize::from(sequence < end.0);
                }
            }
        }
        held.into_iter().filter(|(_, (wanted, found))| wanted != found).map(|(id, _)| id).collect()
    }

    /// Nothing builds on an incomplete group; and no log was cut for nothing, or below what was acknowledged.
    fn judge_cuts(
        &self,
        started: &[Started],
        incomplete: &BTreeSet<GroupId>,
        horizon_ns: Option<u64>,
    ) -> Result<(), String> {
        for (shard, (ledger, one)) in self.all.iter().zip(started).enumerate() {
            let end = one.start.next_sequence;
            let (kept, cut) = ledger.records.split_at(end.0 as usize - 1);
            if kept.iter().any(|noted| closes(noted, incomplete) || changes_databases(noted, incomplete)) {
                return Err(format!("shard {shard} kept what builds on a transaction that is not there"));
            }
            let changes_databases = cut.first().is_some_and(|noted| changes_databases(noted, incomplete));
            let closes = cut.first().is_some_and(|noted| closes(noted, incomplete));
            let is_old = ledger.cut_before == Some(end);
            if one.surveyed > end && !is_old && !changes_databases && !closes {
                return Err(format!("shard {shard} was cut before record {} for nothing", end.0));
            }
            // A record that changes whole databases for an incomplete group is written, but nobody was told so: all that is
            // behind it waits for the other shards, too.
            let floor = self.floor(shard, horizon_ns);
            if ledger.end(end) < floor && !changes_databases {
                return Err(format!("shard {shard} was cut before record {}, acknowledged up to {floor:?}", end.0));
            }
        }
        Ok(())
    }

    fn expected(&mut self, ends: Vec<Sequence>, incomplete: BTreeSet<GroupId>) -> &Vec<Vec<u64>> {
        let all = &self.all;
        self.expected.entry((ends, incomplete)).or_insert_with_key(|(ends, incomplete)| {
            all.iter().zip(ends).map(|(ledger, end)| ledger.replay(*end, incomplete)).collect()
        })
    }

    /// The lives go on from what a start found.
    pub fn cut(&mut self, started: &[Started]) {
        self.expected.clear();
        for (ledger, one) in self.all.iter_mut().zip(started) {
            ledger.records.truncate(one.start.next_sequence.0 as usize - 1);
            let was_cut = one.surveyed > one.start.next_sequence;
            ledger.cut_before = was_cut.then_some(one.start.next_sequence);
        }
    }
}

impl Ledger {
    /// Digests of what the records before `end` make, without some groups.
    fn replay(&self, end: Sequence, without: &BTreeSet<GroupId>) -> Vec<u64> {
        let mut keyspace = Keyspace::new(DATABASES, 0);
        keyspace.set_logging(false);
        let mut replay = |edits: &[u8]| keyspace.replay_all(edits).expect("edits made by a core");
        for noted in &self.records[..end.0 as usize - 1] {
            let mut from = 0;
            for group in noted.groups.groups(Sequence::NONE).iter().filter(|group| without.contains(&group.id)) {
                replay(&noted.edits[from..group.edits().start]);
                from = group.edits().end;
            }
            replay(&noted.edits[from..]);
        }
        digests(&keyspace)
    }
}

fn closes(noted: &Noted, groups: &BTreeSet<GroupId>) -> bool {
    noted.groups.groups(Sequence::NONE).closed().any(|id| groups.contains(&id))
}

/// Whether a record changes whole databases in the name of one of these groups, which can't be taken back.
fn changes_databases(noted: &Noted, groups: &BTreeSet<GroupId>) -> bool {
    let of_databases = |mut edits: &[u8]| {
        while !edits.is_empty() {
            let (edit, used) = Edit::decode(edits).expect("edits made by a core");
            edits = &edits[used..];
            if matches!(edit, Edit::Flush { .. } | Edit::FlushAll | Edit::Swap { .. }) {
                return true;
            }
        }
        false
    };
    let table = noted.groups.groups(Sequence::NONE);
    table.iter().any(|group| groups.contains(&group.id) && of_databases(&noted.edits[group.edits()]))
}
