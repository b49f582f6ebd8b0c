//! Transactions over several shards: who may run when, without I/O.
//!
//! A transaction is a list of commands that run as one: a MULTI block, a command whose keys are on several shards, or a run of
//! pipelined commands over several shards. Before any of it runs it holds *intents*, read or write, on all its keys at all
//! its shards; it lets them go as each shard has run its part. That is strict two-phase locking, so the order in which
//! transactions and single commands take effect agrees with real time (strict serializability).
//!
//! - `intents`: one shard's intents, and the lines of those that wait for them;
//! - `participant`: what a shard says to those that ask for intents;
//! - `acquisition`: one transaction's way to holding all of its intents, seen from the core of its connection.
//!
//! Rule against deadlock: who holds intents on one shard never waits on another for anybody older. It *yields* instead: it keeps
//! its place in the line where it waits and lets go of everything else. So among those who hold something, all waiting is
//! older for younger, and the oldest never has to yield.

mod acquisition;
mod intents;
mod participant;

pub use acquisition::{Acquisition, Ask, Step};
pub use intents::{Access, Claim, Standing};
pub use participant::{Participant, Verdict};

use crate::units::ShardId;

/// Identity of a transaction, and its rank: the smaller one is older and goes first. The core that coordinates it makes sure
/// that its own numbers grow; that those of different cores come from one clock makes it fair, not correct.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Age {
    pub number: u64,
    pub front: ShardId,
}
