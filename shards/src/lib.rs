//! One shard of the database: a pure, single-threaded, deterministic state machine.
//!
//! Events, the time and a seed come in; reply bytes, edits and wishes go out. Nothing here does I/O,
//! reads a clock, spawns a thread or logs: a call never suspends, so no half-done mutation can be seen.

pub mod call;
pub mod commands;
pub mod error;
pub mod glob;
pub mod keyspace;
pub mod numbers;
pub mod owner;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod random;
pub mod rdb;
pub mod reply;
pub mod row;
pub mod slot;
pub mod snapshot;
pub mod transaction;
pub mod types;
pub mod units;
pub mod unsettled;
pub mod waiting;
pub mod wal;
pub mod watches;
pub mod wire;
