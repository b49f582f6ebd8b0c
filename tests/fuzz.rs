//! Bytes and commands of anybody into a shard: payloads of RESTORE, and arguments of every command. Whatever they are, nothing
//! panics, memory and time stay in proportion, reads make no edit, and the edits give the same content elsewhere.
//!
//! `SHARDIS_FUZZ_SECONDS=600` for the long form of each, `SHARDIS_FUZZ_SEED=n` to repeat a run, `SHARDIS_FUZZ_KEEP=1` to add to
//! tests/corpora what showed something new. What is there is tried first; what breaks the rule is always added.
#![allow(clippy::disallowed_methods, reason = "how long to go on is a matter of real time")]

#[path = "fuzz/arguments.rs"]
mod arguments;
#[path = "fuzz/corpus.rs"]
mod corpus;
#[path = "fuzz/dictionary.rs"]
mod dictionary;
#[path = "fuzz/payloads.rs"]
mod payloads;
mod support;

use std::time::{Duration, Instant};

/// Of the whole process, at any time: the shards of the fuzzing are small.
const MEMORY_BYTES_MAX: u64 = 2 << 30;
/// One call is longer than that only if it hangs, or does what nobody asked for.
const CALL_MAX: Duration = Duration::from_secs(10);

#[test]
fn payloads_are_restored_or_refused() {
    let mut fuzzing = payloads::Payloads::new(support::seed("SHARDIS_FUZZ_SEED"));
    fuzzing.replay();
    let end = end();
    while Instant::now() < end {
        fuzzing.some();
        check_memory();
    }
    fuzzing.report();
}

#[test]
fn commands_with_any_arguments_are_run_or_refused() {
    let mut fuzzing = arguments::Arguments::new(support::seed("SHARDIS_FUZZ_SEED"));
    fuzzing.replay();
    let end = end();
    while Instant::now() < end {
        fuzzing.some();
        check_memory();
    }
    fuzzing.report();
}

fn end() -> Instant {
    Instant::now() + Duration::from_secs(support::from_env("SHARDIS_FUZZ_SECONDS", 3))
}

/// The most memory there ever was, also what was given back.
fn check_memory() {
    let status = std::fs::read_to_string("/proc/self/status").expect("tests run on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    assert!(kib << 10 <= MEMORY_BYTES_MAX, "{kib} KiB of memory were taken; see the seed above");
}

/// What `run` returns, or what it said when it panicked.
fn without_panic<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    match start.elapsed() {
        long if long > CALL_MAX => Err(format!("it took {long:?}")),
        _ => result,
    }
}
