//! What the designs have in common: keys and their owners, operations, and what crosses a lane.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Keys of a transaction.
pub const TX_KEYS: usize = 4;

/// Ways to make a transaction over several shards one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Design {
    /// (a) Numbers from a global counter; a shard refuses a number below one that holds.
    Numbers,
    /// (a) with the two-message path of (d) for one remote participant.
    NumbersShort,
    /// (b) Shard by shard, ascending.
    ShardOrder,
    /// (c) Core 0 orders all; parts run as they arrive, replies wait until all before them have arrived.
    Sequencer,
    /// (d) Intents by age; a younger one that comes behind an older one lets go of what it holds elsewhere.
    Age,
    /// (e) Intents by age; a younger one waits behind an older one, and gives back what an older one comes for.
    GiveBack,
    /// Every part runs when it arrives. Wrong: there to show that the check sees it.
    Nothing,
    /// (c), replies don't wait. Wrong as well.
    SequencerAtOnce,
}

impl Design {
    pub const MEASURED: [Design; 6] =
        [Design::Numbers, Design::NumbersShort, Design::ShardOrder, Design::Sequencer, Design::Age, Design::GiveBack];

    pub fn name(self) -> &'static str {
        match self {
            Design::Numbers => "a numbers",
            Design::NumbersShort => "a' numbers, short",
            Design::ShardOrder => "b shard by shard",
            Design::Sequencer => "c sequencer",
            Design::Age => "d by age, yield",
            Design::GiveBack => "e by age, give back",
            Design::Nothing => "(no order at all)",
            Design::SequencerAtOnce => "(c, replies at once)",
        }
    }
}

/// Up to four numbers: the keys of a part, or their versions.
#[derive(Clone, Copy, Default)]
pub struct Four {
    len: u8,
    at: [u32; TX_KEYS],
}

impl Four {
    pub fn push(&mut self, number: u32) {
        self.at[self.len as usize] = number;
        self.len += 1;
    }
    pub fn as_slice(&self) -> &[u32] {
        &self.at[..self.len as usize]
    }
}

pub fn owner(key: u32, shards: usize) -> usize {
    key as usize % shards
}

/// An operation: its client's core, its client there, and how many that client had before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(u64);

impl OpId {
    pub fn new(front: usize, client: usize, serial: u64) -> Self {
        OpId(serial << 16 | (client as u64) << 8 | front as u64)
    }
    pub fn front(self) -> usize {
        (self.0 & 0xff) as usize
    }
    pub fn client(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }
    pub fn raw(self) -> u64 {
        self.0
    }
}

/// Place in a line: lower goes first. What the first number is depends on the design.
pub type Rank = (u64, u64);

/// What a shard is asked to hold.
#[derive(Clone, Copy)]
pub struct Request {
    pub op: OpId,
    pub rank: Rank,
    pub keys: Four,
    /// Told apart from earlier attempts by this.
    pub tag: u32,
    /// It holds nothing elsewhere, and so stands in nobody's way while it waits.
    pub alone: bool,
    /// Nothing else is missing: run as soon as granted, hold nothing.
    pub run: bool,
    /// All its keys are here.
    pub single: bool,
}

pub enum Message {
    Acquire(Request),
    Granted {
        op: OpId,
        tag: u32,
    },
    Yield {
        op: OpId,
        tag: u32,
    },
    Refused {
        op: OpId,
        tag: u32,
    },
    /// (e): an older one wants what this one holds.
    Wanted {
        op: OpId,
        tag: u32,
    },
    /// (e): it holds no longer, it waits.
    GiveBack(OpId),
    /// (e): don't run when granted, hold.
    DontRun {
        op: OpId,
        tag: u32,
    },
    WontRun {
        op: OpId,
        tag: u32,
    },
    Withdraw(OpId),
    Run(OpId),
    /// `depends`: the last number of the sequencer that it saw an effect of.
    Done {
        op: OpId,
        keys: Four,
        versions: Four,
        depends: u64,
    },
    /// To the sequencer.
    Order {
        op: OpId,
        keys: Four,
    },
    Ordered {
        op: OpId,
        number: u64,
        keys: Four,
    },
    /// To the sequencer: so many more of its messages have arrived.
    Arrived(usize),
    /// From the sequencer: everything up to this number has arrived everywhere.
    Settled(u64),
}

/// A hash table by small integers, which need no protection from their authors.
pub type Table<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

#[derive(Default)]
pub struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
    fn write_u64(&mut self, number: u64) {
        let wide = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_a5a5_a5a5;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
