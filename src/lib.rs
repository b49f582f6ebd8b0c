//! Shardis, the server around the shards.
