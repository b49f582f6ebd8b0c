//! Where the logs of all shards must end so that each transaction over several shards is in all of them or in none.
//!
//! Fed what each shard's valid log holds; says before which record each log is to be cut, or which logs must be read
//! once more before that can be said. The rule: with the cuts applied a group is held by all of its participants or by
//! none, and no log loses a record that this does not demand.
//!
//! ```text
//! shard 0   ── g1 ─────── g3 ──┤ ends        g3 is missing on shard 1, so shard 0 is cut before it;
//! shard 1   ── g1 ── g2 ──┤ ends             g2 stays: shard 1 and shard 2 hold it
//! shard 2   ── g2 ── g4 ── g5 ──┤ ends       g4 is shard 0's too, which lacks it: cut before g4, and so goes g5
//! ```
//!
//! A cut can make further groups incomplete, so it is repeated until nothing changes. As any two consistent sets of
//! ends have a larger one (each log's later end), the result is the same in whatever order it is done.
//!
//! Only groups behind a log's last settled mark are kept, as all before were out of danger. Two questions can lead back
//! there: whether a log holds a group that another one has not settled yet, and what else is behind a cut that reaches
//! below a mark (which a writer that keeps to the mark's promise never causes). Both mean one more reading of that log.

use super::group::{GroupId, GroupTable};
use super::{Record, Sequence};
use crate::units::ShardId;
use std::collections::VecDeque;

/// The groups in one shard's valid log, as far as they matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldGroups {
    shard: ShardId,
    /// Groups of records up to this one are not kept, but for those in `found`.
    floor: Sequence,
    kept: VecDeque<(Sequence, GroupTable)>,
    /// What another shard's log needs to know of records up to the floor, sorted.
    asked: Vec<GroupId>,
    found: Vec<(GroupId, Sequence)>,
    /// Whether the floor follows the settled marks.
    is_first_reading: bool,
    last: Sequence,
    next_sequence: Sequence,
}

impl HeldGroups {
    /// For the first reading of the log of `shard`.
    pub fn new(shard: ShardId) -> Self {
        HeldGroups {
            shard,
            floor: Sequence::NONE,
            kept: VecDeque::new(),
            asked: Vec::new(),
            found: Vec::new(),
            is_first_reading: true,
            last: Sequence::NONE,
            next_sequence: Sequence::FIRST,
        }
    }

    /// The next record of the log.
    pub fn take(&mut self, record: &Record<'_>) {
        let sequence = record.header().sequence;
        self.next_sequence = sequence.next();
        let Some(groups) = record.groups() else { return };
        if self.is_first_reading && groups.settled() > self.floor {
            self.floor = groups.settled();
            while self.kept.pop_front_if(|(sequence, _)| *sequence <= self.floor).is_some() {}
        }
        if groups.is_empty() {
            return;
        }
        self.last = sequence;
        if sequence > self.floor {
            self.kept.push_back((sequence, groups.to_table()));
        } else {
            let asked = groups.iter().filter(|group| self.asked.binary_search(&group.id).is_ok());
            self.found.extend(asked.map(|group| (group.id, sequence)));
        }
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }
    /// The last record that holds a group; `NONE` if none does.
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// Whether the log may hold `group` where nobody looked for it.
    fn may_hide(&self, group: &GroupId) -> bool {
        self.floor > Sequence::NONE && self.asked.binary_search(group).is_err()
    }

    fn count_from(&self, sequence: Sequence) -> u64 {
        let dropped = self.kept.iter().rev().take_while(|(at, _)| *at >= sequence);
        dropped.map(|(_, table)| table.groups(Sequence::NONE).iter().count() as u64).sum()
    }

    fn question(&self) -> Question {
        Question { shard: self.shard, floor: self.floor, asked: self.asked.clone(), until: self.next_sequence }
    }
}

/// Asks for one more reading of a shard's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub shard: ShardId,
    /// The log is to be read up to but without this record, as in the first reading.
    pub until: Sequence,
    floor: Sequence,
    asked: Vec<GroupId>,
}

impl Question {
    /// To be fed all records from the log's start, and handed in as the answer.
    pub fn reading(&self) -> HeldGroups {
        let asked = self.asked.clone();
        HeldGroups { floor: self.floor, asked, is_first_reading: false, ..HeldGroups::new(self.shard) }
    }
}

/// Where a log is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupCut {
    /// The first record that goes.
    pub before: Sequence,
    pub records: u64,
    pub groups: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Ask(Vec<Question>),
    /// For each shard its cut, `None` where the log stays whole.
    Done(Vec<Option<GroupCut>>),
}

/// One start's search for the cut.
#[derive(Debug)]
pub struct ConsistentCut {
    held: Vec<HeldGroups>,
}

impl ConsistentCut {
    /// `held`: of all shards, in their order.
    pub fn new(held: Vec<HeldGroups>) -> Self {
        assert!(held.iter().enumerate().all(|(at, held)| held.shard.0 as usize == at), "shards come in order");
        ConsistentCut { held }
    }

    /// What is to be done next; after an `Ask`, once all its questions were answered.
    pub fn step(&self) -> Step {
        let holders = Holders::new(&self.held);
        let hidden = self.ask_for_hidden(&holders);
        if !hidden.is_empty() {
            return Step::Ask(hidden);
        }
        let ends = consistent_ends(&self.held, &holders);
        let below = self.ask_below_floors(&ends);
        if !below.is_empty() {
            return Step::Ask(below);
        }
        let cut = |held: &HeldGroups, end: Sequence| GroupCut {
            before: end,
            records: held.next_sequence.0 - end.0,
            groups: held.count_from(end),
        };
        let each = self.held.iter().zip(ends);
        Step::Done(each.map(|(held, end)| (end < held.next_sequence).then(|| cut(held, end))).collect())
    }

    /// `held`: made by the question's `reading`.
    pub fn answer(&mut self, held: HeldGroups) {
        let at = held.shard.0 as usize;
        assert_eq!(held.next_sequence, self.held[at].next_sequence, "the log was read as far as the first time");
        self.held[at] = held;
    }

    /// Groups that a participant's log is not known to hold, and may hold before its floor.
    fn ask_for_hidden(&self, holders: &Holders) -> Vec<Question> {
        let mut hidden: Vec<Vec<GroupId>> = vec![Vec::new(); self.held.len()];
        for (_, table) in self.held.iter().flat_map(|held| &held.kept) {
            for group in table.groups(Sequence::NONE).iter() {
                for participant in group.participants() {
                    let Some(held) = self.held.get(participant.0 as usize) else { continue };
                    if !holders.holds(participant, group.id) && held.may_hide(&group.id) {
                        hidden[participant.0 as usize].push(group.id);
                    }
                }
            }
        }
        let asking = self.held.iter().zip(hidden).filter(|(_, hidden)| !hidden.is_empty());
        let question = |(held, hidden): (&HeldGroups, Vec<GroupId>)| {
            let mut question = held.question();
            question.asked.extend(hidden);
            question.asked.sort_unstable();
            question.asked.dedup();
            question
        };
        asking.map(question).collect()
    }

    /// Logs that would be cut where their groups were not kept: what else is there may be lacking elsewhere then.
    fn ask_below_floors(&self, ends: &[Sequence]) -> Vec<Question> {
        let below = self.held.iter().zip(ends).filter(|(held, end)| **end <= held.floor);
        below.map(|(held, end)| Question { floor: end.previous(), ..held.question() }).collect()
    }
}

/// Which shards hold which groups in which records, sorted for look-ups.
struct Holders(Vec<(GroupId, ShardId, Sequence)>);

impl Holders {
    fn new(held: &[HeldGroups]) -> Self {
        let mut holders = Vec::new();
        for held in held {
            for (sequence, table) in &held.kept {
                let groups = table.groups(Sequence::NONE);
                holders.extend(groups.iter().map(|group| (group.id, held.shard, *sequence)));
            }
            holders.extend(held.found.iter().map(|(group, sequence)| (*group, held.shard, *sequence)));
        }
        holders.sort_unstable();
        Holders(holders)
    }

    fn of(&self, group: GroupId) -> &[(GroupId, ShardId, Sequence)] {
        let from = self.0.partition_point(|(id, ..)| *id < group);
        let count = self.0[from..].iter().take_while(|(id, ..)| *id == group).count();
        &self.0[from..from + count]
    }
    fn holds(&self, shard: ShardId, group: GroupId) -> bool {
        let from = self.0.partition_point(|(id, holder, _)| (*id, *holder) < (group, shard));
        self.0.get(from).is_some_and(|(id, holder, _)| (*id, *holder) == (group, shard))
    }
}

/// The largest consistent ends: each shard's log up to but without that record.
fn consistent_ends(held: &[HeldGroups], holders: &Holders) -> Vec<Sequence> {
    let mut ends = Ends { ends: held.iter().map(|held| held.next_sequence).collect(), lowered: Vec::new() };
    for held in held {
        for (sequence, table) in &held.kept {
            let is_complete = |id| move |participant| holders.holds(participant, id);
            if !table.groups(Sequence::NONE).iter().all(|group| group.participants().all(is_complete(group.id))) {
                ends.lower(held.shard, *sequence);
                // What comes behind goes with it.
                break;
            }
        }
    }
    // Each record is passed once, from the back, when its log's end has come to lie before it.
    let mut left: Vec<usize> = held.iter().map(|held| held.kept.len()).collect();
    while let Some(shard) = ends.lowered.pop() {
        let at = shard.0 as usize;
        while let Some((sequence, table)) = left[at].checked_sub(1).map(|last| &held[at].kept[last])
            && *sequence >= ends.ends[at]
        {
            left[at] -= 1;
            for group in table.groups(Sequence::NONE).iter() {
                holders.of(group.id).iter().for_each(|(_, holder, sequence)| ends.lower(*holder, *sequence));
            }
        }
    }
    ends.ends
}

struct Ends {
    ends: Vec<Sequence>,
    /// Shards whose end was lowered, and not looked at since.
    lowered: Vec<ShardId>,
}

impl Ends {
    fn lower(&mut self, shard: ShardId, before: Sequence) {
        let end = &mut self.ends[shard.0 as usize];
        if before < *end {
            *end = before;
            self.lowered.push(shard);
        }
    }
}
