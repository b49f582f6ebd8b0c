//! MEMORY: what the process and its keys take. `MEMORY USAGE` is the shards' own row and joins these.

use super::ServerHandler::{Everywhere, Here};
use super::{ServerCall, ServerHandler, container, help, no_check};
use crate::admin::report::{Report, Reports};
use crate::core::Core;
use crate::runtime::process;
use shards::call::Args;
use shards::error::CommandResult;
use shards::row::{Row, Traits};

const fn row(
    name: &'static str,
    arity: i8,
    traits: Traits,
    summary: &'static str,
    handler: ServerHandler,
) -> Row<ServerHandler> {
    Row::new(name, arity, traits, handler).docs("server", "4.0.0", "O(1)", summary)
}

pub const ROWS: &[Row<ServerHandler>] =
    &[row("memory", -2, Traits::NONE, "Tells what memory is used for.", Here(container)).subcommands(&[
        row("memory|stats", 2, Traits::NONE, "Tells what memory is used for, in numbers.", STATS),
        row("memory|malloc-stats", 2, Traits::NONE, "What the allocator says of itself.", Here(malloc_stats)),
        row("memory|doctor", 2, Traits::NONE, "Advice on the use of memory.", Here(doctor)),
        row("memory|purge", 2, Traits::NONE, "Does nothing: unused memory goes back by itself.", Here(purge)),
        row("memory|help", 2, Traits::LOADING.and(Traits::STALE), "Lists the subcommands.", Here(usage)),
    ])];

const STATS: ServerHandler = Everywhere { check: no_check, part: report, merge: stats };

fn report(core: &mut Core, _args: Args<'_>, out: &mut Vec<u8>) {
    Report::of_counters(core).encode(out);
}

/// Names as in Redis, where there is such a number.
fn stats(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let reports = Reports::decode(parts);
    let usage = process::usage();
    let (used, data) = (usage.allocated_bytes, reports.total.get("keyspace_bytes"));
    let databases = 0..call.core.owner.keyspace.databases();
    let keys: u64 = databases.map(|db| reports.total.get(&format!("db/{db}/keys"))).sum();
    let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let numbers = [
        ("peak.allocated", usage.allocated_peak_bytes),
        ("total.allocated", used),
        ("aof.buffer", reports.total.get("wal_backlog_bytes")),
        ("overhead.total", used.saturating_sub(data)),
        ("keys.count", keys),
        ("keys.bytes-per-key", data / keys.max(1)),
        ("dataset.bytes", data),
        ("allocator.allocated", used),
        ("allocator.active", usage.active_bytes),
        ("allocator.resident", usage.mapped_bytes),
    ];
    let ratios = [
        ("dataset.percentage", 100.0 * ratio(data, used)),
        ("peak.percentage", 100.0 * ratio(used, usage.allocated_peak_bytes)),
        ("allocator-fragmentation.ratio", ratio(usage.active_bytes, used)),
        ("fragmentation", ratio(usage.resident_bytes, used)),
    ];
    let mut reply = call.reply();
    reply.map(numbers.len() + ratios.len());
    for (name, value) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(value as i64);
    }
    for (name, value) in ratios {
        reply.bulk(name.as_bytes());
        reply.double(value);
    }
    Ok(())
}

fn malloc_stats(call: &mut ServerCall<'_>) -> CommandResult {
    let usage = process::usage();
    let text = format!(
        "allocated: {}\nactive: {}\nmapped: {}\nresident: {}\n",
        usage.allocated_bytes, usage.active_bytes, usage.mapped_bytes, usage.resident_bytes
    );
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

/// Below this, proportions say nothing.
const WORTH_A_LOOK_BYTES: u64 = 64 << 20;

fn doctor(call: &mut ServerCall<'_>) -> CommandResult {
    let usage = process::usage();
    let text = if usage.allocated_bytes < WORTH_A_LOOK_BYTES {
        "Little memory is used: there is nothing to advise on.\n"
    } else if usage.active_bytes > usage.allocated_bytes / 2 * 3 {
        "More than a third of the memory in use is gaps between allocations: fragmentation, as after the removal of much data.\n"
    } else if usage.allocated_peak_bytes > usage.allocated_bytes / 2 * 3 {
        "Much more memory was used at its peak than now.\n"
    } else {
        "Nothing is wrong with the use of memory.\n"
    };
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

fn purge(call: &mut ServerCall<'_>) -> CommandResult {
    call.reply().ok();
    Ok(())
}

fn usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "DOCTOR",
            "    Advice on the use of memory.",
            "MALLOC-STATS",
            "    What the allocator says of itself.",
            "PURGE",
            "    Nothing: unused memory goes back by itself.",
            "STATS",
            "    What memory is used for, in numbers.",
            "USAGE <key> [SAMPLES <count>]",
            "    Bytes that a key and its value take. They are counted, so samples make no difference.",
        ],
    )
}
