//! What the integration tests share: servers in temp dirs of their own, a RESP client, and command scripts.
//!
//! Rule: everything that waits has a bound, and only processes started here are ever ended, by their pid.
//! `SHARDIS_TEST_SUBJECT=redis-server` puts redis-server in the place of our binary, to prove the harnesses themselves.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]
#![allow(dead_code, unused_imports, reason = "every test binary compiles this module and uses a part of it")]

pub mod client;
pub mod commands;
pub mod resp;
pub mod script;
pub mod server;
pub mod shard;

pub use client::{Client, Command};
pub use resp::Resp;
pub use server::{DataDir, Server};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// No single step of a test takes longer unless something hangs.
pub const HANG: Duration = Duration::from_secs(30);

/// An installed program. `None`, with a line for the reader, where it isn't installed; on CI that is a failure, because
/// a skipped comparison there would never be noticed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is not installed, and CI must not skip");
        println!("SKIPPED: {program} is not installed");
    }
    found
}

pub fn redis_server() -> Option<PathBuf> {
    installed("redis-server")
}

/// A number from the environment, for the long forms of tests.
pub fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// The seed of a random test: from the environment to repeat a run, else fresh. Always printed.
pub fn seed(name: &str) -> u64 {
    let seed = from_env(name, fastrand::u64(..));
    println!("{name}={seed}");
    seed
}

/// Polls until `done`, or panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "gave up after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
