//! What each shard's log has to give up so that each transaction over several shards is in all of its logs or in none.
//!
//! Fed what each shard's valid log holds; says before which record each log is to be cut and which groups are to be
//! skipped in what is left, or which logs must be read once more before that can be said. The rule: with that done a group
//! counts on all of its participants or on none, nothing that is left builds on what is not, and nothing else is lost.
//!
//! A group that some participant's log lacks is *incomplete*. Until it is closed on a shard nothing in that shard's log
//! can build on it, as its keys are locked: it is enough to skip its own edits there. From the record on that closes it,
//! edits may build on it: the log is cut before that record, and the group, open again, is skipped in the rest.
//!
//! ```text
//! shard 0   ── g1 ── a ── c1 ── b ──┤        g1 is missing on shard 1: shard 0 is cut before c1, which closes it, and of
//! shard 1   ── x ──┤ ends                    the rest g1 alone is skipped; a stays
//! shard 2   ── g2 ── d ──┤                   g2 is in b's record: it has become incomplete, is open here, and skipped
//! ```
//!
//! Edits of whole databases can't be skipped and undone key by key: a group that has such ones counts as closed by its
//! own record, before which the log is cut.
//!
//! A cut can make further groups incomplete, so it goes on until nothing changes. Of any two sets of ends that leave no
//! incomplete group closed, the later end for each log is such a set, too: so there is one latest, whatever the order.
//!
//! Only groups behind a log's last settled mark are kept, as all before were out of danger. Two questions can lead back
//! there: whether a log holds a group that another one has not settled yet, and what becomes of groups behind the mark
//! that are incomplete after all (skipped and undone, when another participant has not done so yet). Both mean one more
//! reading of that log.

use super::group::{Group, GroupId, GroupTable, Groups};
use super::{Record, Sequence};
use crate::keyspace::Edit;
use crate::units::ShardId;
use std::collections::{BTreeSet, VecDeque};

/// The groups in one shard's valid log, as far as they matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldGroups {
    shard: ShardId,
    /// Groups of records up to this one are not kept, but for those in `found`.
    floor: Sequence,
    kept: VecDeque<Kept>,
    /// What another shard's log needs to know of records up to the floor, sorted.
    asked: Vec<GroupId>,
    found: Vec<(GroupId, Sequence)>,
    /// Whether the floor follows the settled marks.
    is_first_reading: bool,
    last: Sequence,
    first: Sequence,
    next_sequence: Sequence,
}

/// A record's groups.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    sequence: Sequence,
    table: GroupTable,
    /// Those with edits of whole databases.
    of_databases: Vec<GroupId>,
}

impl Kept {
    fn groups(&self) -> Groups<'_> {
        self.table.groups(Sequence::NONE)
    }
    /// Groups that this record must not outlive, if they are incomplete.
    fn stops(&self) -> impl Iterator<Item = GroupId> {
        self.groups().closed().chain(self.of_databases.iter().copied())
    }
}

impl HeldGroups {
    /// For the first reading of the log of `shard`, whose first record is `first`: what a snapshot holds comes before. Snapshots
    /// are of one moment on all shards, so no group is partly before and partly behind.
    pub fn new(shard: ShardId, first: Sequence) -> Self {
        HeldGroups {
            shard,
            floor: Sequence::NONE,
            kept: VecDeque::new(),
            asked: Vec::new(),
            found: Vec::new(),
            is_first_reading: true,
            last: Sequence::NONE,
            first,
            next_sequence: first,
        }
    }

    /// For a reading that trusts no settled mark: where records are missing that were on disk, another shard's mark may
    /// cover groups that are lost with them.
    pub fn trusting_no_mark(shard: ShardId, first: Sequence) -> Self {
        HeldGroups { is_first_reading: false, ..HeldGroups::new(shard, first) }
    }

    /// The next record of the log.
    pub fn take(&mut self, record: &Record<'_>) {
        let sequence = record.header().sequence;
        self.next_sequence = sequence.next();
        let Some(groups) = record.groups() else { return };
        if self.is_first_reading && groups.settled() > self.floor {
            self.floor = groups.settled();
            while self.kept.pop_front_if(|kept| kept.sequence <= self.floor).is_some() {}
        }
        if groups.is_empty() {
            return;
        }
        if groups.iter().next().is_some() {
            self.last = sequence;
        }
        if sequence > self.floor {
            let of_databases = groups.iter().filter(|group| changes_databases(&record.edits()[group.edits()]));
            let of_databases = of_databases.map(|group| group.id).collect();
            self.kept.push_back(Kept { sequence, table: groups.to_table(), of_databases });
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
        let dropped = self.kept.iter().rev().take_while(|kept| kept.sequence >= sequence);
        dropped.map(|kept| kept.groups().iter().count() as u64).sum()
    }

    fn question(&self) -> Question {
        let asked = self.asked.clone();
        Question { shard: self.shard, floor: self.floor, asked, first: self.first, until: self.next_sequence }
    }
}

/// Asks for one more reading of a shard's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub shard: ShardId,
    /// The log is to be read up to but without this record, as in the first reading.
    pub until: Sequence,
    first: Sequence,
    floor: Sequence,
    asked: Vec<GroupId>,
}

impl Question {
    /// To be fed all records from the log's start, and handed in as the answer.
    pub fn reading(&self) -> HeldGroups {
        let asked = self.asked.clone();
        HeldGroups { floor: self.floor, asked, is_first_reading: false, ..HeldGroups::new(self.shard, self.first) }
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

/// What a log has to give up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// `None` where the log keeps its end.
    pub cut: Option<GroupCut>,
    /// Groups in what is left whose edits don't count, sorted.
    pub skipped: Vec<GroupId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Ask(Vec<Question>),
    /// For each shard.
    Done(Vec<Verdict>),
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
        let holders = Places::holding(&self.held);
        let hidden = self.ask_for_hidden(&holders);
        if !hidden.is_empty() {
            return Step::Ask(hidden);
        }
        let agreement = Agreement::reach(&self.held, &holders);
        let below = self.ask_below_floors(&agreement);
        if !below.is_empty() {
            return Step::Ask(below);
        }
        Step::Done(self.held.iter().map(|held| agreement.verdict(held)).collect())
    }

    /// `held`: made by the question's `reading`.
    pub fn answer(&mut self, held: HeldGroups) {
        let at = held.shard.0 as usize;
        assert_eq!(held.next_sequence, self.held[at].next_sequence, "the log was read as far as the first time");
        self.held[at] = held;
    }

    /// Groups that a participant's log is not known to hold, and may hold before its floor.
    fn ask_for_hidden(&self, holders: &Places) -> Vec<Question> {
        let mut hidden: Vec<Vec<GroupId>> = vec![Vec::new(); self.held.len()];
        for kept in self.held.iter().flat_map(|held| &held.kept) {
            for group in kept.groups().iter() {
                for participant in group.participants() {
                    let Some(held) = self.held.get(participant.0 as usize) else { continue };
                    if !holders.has(group.id, participant) && held.may_hide(&group.id) {
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

    /// Logs that would be cut, or from which a group would be skipped, where their groups were not kept: what else is there
    /// may be lacking elsewhere then, and the group may have been closed.
    fn ask_below_floors(&self, agreement: &Agreement) -> Vec<Question> {
        let lowest = |held: &HeldGroups| {
            let skipped = held.found.iter().filter(|(group, _)| agreement.incomplete.contains(group));
            let end = agreement.ends[held.shard.0 as usize];
            skipped.map(|(_, sequence)| *sequence).chain((end <= held.floor).then_some(end)).min()
        };
        let below = self.held.iter().filter_map(|held| Some((held, lowest(held)?)));
        below.map(|(held, lowest)| Question { floor: lowest.previous(), ..held.question() }).collect()
    }
}

/// Groups and the records of shards' logs that have to do with them, sorted for look-ups.
struct Places(Vec<(GroupId, ShardId, Sequence)>);

impl Places {
    fn new(places: impl Iterator<Item = (GroupId, ShardId, Sequence)>) -> Self {
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        Places(places)
    }

    /// The records that hold the groups.
    fn holding(held: &[HeldGroups]) -> Self {
        let kept = |held: &'_ HeldGroups| {
            let shard = held.shard;
            let kept = held.kept.iter();
            let kept =
                kept.flat_map(move |kept| kept.groups().iter().map(move |group| (group.id, shard, kept.sequence)));
            kept.chain(held.found.iter().map(move |(group, sequence)| (*group, shard, *sequence))).collect::<Vec<_>>()
        };
        Places::new(held.iter().flat_map(kept))
    }

    /// The records that must go if the groups are incomplete.
    fn stopping(held: &[HeldGroups]) -> Self {
        let stops = |held: &'_ HeldGroups| {
            let shard = held.shard;
            let stops = held.kept.iter().flat_map(move |kept| kept.stops().map(move |id| (id, shard, kept.sequence)));
            stops.collect::<Vec<_>>()
        };
        Places::new(held.iter().flat_map(stops))
    }

    fn of(&self, group: GroupId) -> &[(GroupId, ShardId, Sequence)] {
        let from = self.0.partition_point(|(id, ..)| *id < group);
        let count = self.0[from..].iter().take_while(|(id, ..)| *id == group).count();
        &self.0[from..from + count]
    }
    fn has(&self, group: GroupId, shard: ShardId) -> bool {
        let from = self.0.partition_point(|(id, holder, _)| (*id, *holder) < (group, shard));
        self.0.get(from).is_some_and(|(id, holder, _)| (*id, *holder) == (group, shard))
    }
}

/// The latest ends of all logs that leave no incomplete group closed.
struct Agreement {
    /// Each shard's log up to but without that record.
    ends: Vec<Sequence>,
    incomplete: BTreeSet<GroupId>,
}

impl Agreement {
    fn reach(held: &[HeldGroups], holders: &Places) -> Agreement {
        let stops = Places::stopping(held);
        let mut ends: Vec<Sequence> = held.iter().map(|held| held.next_sequence).collect();
        let mut incomplete = BTreeSet::new();
        let mut lost: Vec<GroupId> = Vec::new();
        for kept in held.iter().flat_map(|held| &held.kept) {
            let is_held = |group: &Group<'_>| group.participants().all(|shard| holders.has(group.id, shard));
            lost.extend(kept.groups().iter().filter(|group| !is_held(group)).map(|group| group.id));
        }
        // Each record is passed once, from the back, when its log's end has come to lie before it.
        let mut left: Vec<usize> = held.iter().map(|held| held.kept.len()).collect();
        while let Some(group) = lost.pop() {
            if !incomplete.insert(group) {
                continue;
            }
            for (_, shard, stop) in stops.of(group) {
                let at = shard.0 as usize;
                ends[at] = ends[at].min(*stop);
                while let Some(kept) = left[at].checked_sub(1).map(|last| &held[at].kept[last])
                    && kept.sequence >= ends[at]
                {
                    left[at] -= 1;
                    lost.extend(kept.groups().iter().map(|group| group.id));
                }
            }
        }
        Agreement { ends, incomplete }
    }

    fn verdict(&self, held: &HeldGroups) -> Verdict {
        let end = self.ends[held.shard.0 as usize];
        let cut = || GroupCut { before: end, records: held.next_sequence.0 - end.0, groups: held.count_from(end) };
        let left = held.kept.iter().take_while(|kept| kept.sequence < end);
        let left = left.flat_map(|kept| kept.groups().iter().map(|group| group.id).collect::<Vec<_>>());
        let skipped: BTreeSet<GroupId> = left.filter(|group| self.incomplete.contains(group)).collect();
        Verdict { cut: (end < held.next_sequence).then(cut), skipped: skipped.into_iter().collect() }
    }
}

/// Whether some of the edits are about whole databases.
fn changes_databases(mut edits: &[u8]) -> bool {
    while !edits.is_empty() {
        // What can't be read is refused elsewhere; here it only must not pass for harmless.
        let Ok((edit, used)) = Edit::decode(edits) else { return true };
        match edit {
            Edit::Flush { .. } | Edit::FlushAll | Edit::Swap { .. } => return true,
            Edit::Put { .. }
            | Edit::PutCollection { .. }
            | Edit::Change { .. }
            | Edit::Copy { .. }
            | Edit::Remove { .. }
            | Edit::SetDeadline { .. }
            | Edit::Splice { .. }
            | Edit::Rename { .. }
            | Edit::Nothing => edits = &edits[used..],
        }
    }
    false
}
