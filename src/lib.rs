//! Shardis, the server around the shards.

pub mod resp;
