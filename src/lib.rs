//! Shardis, the server around the shards.

pub mod cli;
pub mod config;
pub mod resp;
