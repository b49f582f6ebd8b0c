//! Shardis, the server around the shards: what talks to clients, peers, disk and cores.

pub mod admin;
pub mod cli;
pub mod commands;
pub mod config;
pub mod core;
pub mod offline;
pub mod resp;
pub mod router;
pub mod runtime;
pub mod session;
