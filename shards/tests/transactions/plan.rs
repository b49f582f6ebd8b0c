//! What happens in a case: which transactions and single commands there are, what they touch and where they come from.
//! Nothing here changes while a case is explored.

use shards::transaction::{Access, Age, Claim};
use shards::units::ShardId;

/// Keys of one shard, one bit each; the last bit stands for all the keys that the case doesn't name.
pub type Keys = u64;
const ALL_KEYS: Keys = u64::MAX;

/// What somebody touches on one shard.
#[derive(Clone, Debug)]
pub struct Part {
    pub shard: usize,
    pub reads: Keys,
    pub writes: Keys,
    pub whole: bool,
}

impl Part {
    pub fn of(shard: usize, accesses: &[(u32, Access)]) -> Part {
        let mut part = Part { shard, reads: 0, writes: 0, whole: false };
        for (key, access) in accesses {
            match access {
                Access::Read => part.reads |= 1 << key,
                Access::Write => part.writes |= 1 << key,
            }
        }
        part
    }
    pub fn whole(shard: usize, access: Access) -> Part {
        let (reads, writes) = if access == Access::Write { (0, ALL_KEYS) } else { (ALL_KEYS, 0) };
        Part { shard, reads, writes, whole: true }
    }
    pub fn conflicts(&self, other: &Part) -> bool {
        self.writes & (other.reads | other.writes) != 0 || self.reads & other.writes != 0
    }
    pub fn claim(&self) -> Claim {
        let mut claim = Claim::default();
        if self.whole {
            claim.add_whole(if self.writes != 0 { Access::Write } else { Access::Read });
        } else {
            self.each_key(|key, access| claim.add(key_hash(self.shard, key), access));
        }
        claim.settle();
        claim
    }
    /// The key and access of a part of one key, which single commands look up without making a claim.
    pub fn lone_key(&self) -> Option<(u64, Access)> {
        let all = self.reads | self.writes;
        let access = if self.writes != 0 { Access::Write } else { Access::Read };
        (all.count_ones() == 1).then(|| (key_hash(self.shard, all.trailing_zeros()), access))
    }
    fn each_key(&self, mut each: impl FnMut(u32, Access)) {
        for key in (0..64).filter(|key| (self.reads | self.writes) >> key & 1 == 1) {
            each(key, if self.writes >> key & 1 == 1 { Access::Write } else { Access::Read });
        }
    }
}

fn key_hash(shard: usize, key: u32) -> u64 {
    (shard as u64 + 1) << 32 | key as u64
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A command of one shard: takes intents only to wait behind others.
    Single,
    /// A lone last participant runs on its grant.
    OneShot,
    /// All hold, all are looked at, then all run; or nobody does, if the first participant finds its watched keys changed.
    Watched { broken: bool },
    /// All hold, then all read, then all write, one after the other; all are let go at the end.
    Stepwise,
    /// May be given up at any time before it holds everything; runs as a watched one otherwise.
    Abandoned,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    pub front: usize,
    pub parts: Vec<Part>,
}

/// A deliberate mistake of the model's coordinators and shards, which the checks have to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    Nothing,
    RunsBeforeAllHold,
    ReleasesBeforeItRuns,
    ForgetsAKey,
    TakesOldAnswers,
    NeverYields,
    GrantsPastOthers,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// Requests and answers from one shard to another stay in order.
    Shared,
    /// Answers overtake requests and the other way round.
    Apart,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub shards: usize,
    pub keys: usize,
    /// By age: the first is the oldest. A front begins its transactions in this order, single commands come at any time.
    pub plans: Vec<Plan>,
    pub lanes: Lanes,
    /// Messages in one lane; what finds it full waits at its sender, and until it has left that front begins nothing.
    pub capacity: usize,
    /// Whether the server may be told to stop, after which nothing begins.
    pub may_stop: bool,
    pub planted: Planted,
    /// Checks only what a client could notice: results and hanging.
    pub from_outside: bool,
}

impl Case {
    pub fn new(shards: usize, keys: usize, plans: Vec<Plan>) -> Case {
        let (lanes, capacity) = (Lanes::Shared, usize::MAX);
        let planted = Planted::Nothing;
        Case { shards, keys, plans, lanes, capacity, may_stop: false, planted, from_outside: false }
    }
    pub fn age(&self, plan: usize) -> Age {
        Age { number: plan as u64 + 1, front: ShardId(self.plans[plan].front as u16) }
    }
}
