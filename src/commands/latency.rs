//! LATENCY, and this server's own SHARDIS LATENCY: where time goes, over all cores.
//!
//! There is no latency monitor (events over a threshold): what Redis tells of one is answered as by a server that has
//! seen no event.

use super::ServerHandler::{Everywhere, Here};
use super::{ServerCall, ServerHandler, container, help, no_check};
use crate::admin::latency_text::{cumulative, table};
use crate::admin::report::{Report, Reports};
use crate::core::Core;
use shards::call::Args;
use shards::error::{CommandError, CommandResult};
use shards::row::{Row, Traits};

const ADMIN: Traits = Traits::ADMIN.and(Traits::NO_SCRIPT).and(Traits::LOADING).and(Traits::STALE);
const HELP: Traits = Traits::LOADING.and(Traits::STALE);

const fn row(
    name: &'static str,
    arity: i8,
    traits: Traits,
    since: &'static str,
    summary: &'static str,
    handler: ServerHandler,
) -> Row<ServerHandler> {
    Row::new(name, arity, traits, handler).docs("server", since, "O(N) for N commands", summary)
}

/// Commands of our own count in our own versions.
const SINCE_SHARDIS: &str = "0.1.0";

pub const ROWS: &[Row<ServerHandler>] = &[
    row("latency", -2, Traits::NONE, "2.8.13", "Tells where time goes.", Here(container)).subcommands(LATENCY),
    row("shardis", -2, Traits::NONE, SINCE_SHARDIS, "Looks inside this server.", Here(container)).subcommands(SHARDIS),
];

const HISTOGRAM: ServerHandler = Everywhere { check: no_check, part: histograms, merge: merge_histograms };
const RESET: ServerHandler = Everywhere { check: no_check, part: reset, merge: merge_reset };
const STAGES: ServerHandler = Everywhere { check: no_check, part: stages, merge: merge_stages };

const LATENCY: &[Row<ServerHandler>] = &[
    row("latency|histogram", -2, ADMIN, "7.0.0", "How long calls of commands took.", HISTOGRAM),
    row("latency|reset", -2, ADMIN, "2.8.13", "Forgets the histograms.", RESET),
    row("latency|latest", 2, ADMIN, "2.8.13", "The last event of each kind.", Here(nothing)),
    row("latency|history", 3, ADMIN, "2.8.13", "The events of a kind.", Here(nothing)),
    row("latency|graph", 3, ADMIN, "2.8.13", "The events of a kind as a picture.", Here(graph)),
    row("latency|doctor", 2, ADMIN, "2.8.13", "Advice on what to look at.", Here(doctor)),
    row("latency|help", 2, HELP, "2.8.13", "Lists the subcommands.", Here(latency_usage)),
];

const SHARDIS: &[Row<ServerHandler>] = &[
    row("shardis|latency", 2, ADMIN, SINCE_SHARDIS, "Where time goes: a table per core and stage.", STAGES),
    row("shardis|help", 2, HELP, SINCE_SHARDIS, "Lists the subcommands.", Here(shardis_usage)),
];

// ---- HISTOGRAM -----------------------------------------------------------------------------------------

fn histograms(core: &mut Core, _args: Args<'_>, out: &mut Vec<u8>) {
    let mut report = Report::default();
    report.add_command_histograms(core);
    report.encode(out);
}

fn merge_histograms(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let total = Reports::decode(parts).total;
    let names = call.args.from(2);
    let wanted = |name: &str| names.is_empty() || names.iter().any(|asked| is_asked_for(name, asked));
    let found: Vec<_> = total.histograms().filter(|(name, _)| wanted(name)).collect();
    let mut reply = call.reply();
    reply.map(found.len());
    for (name, latencies) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(latencies.len() as i64);
        reply.bulk(b"histogram_usec");
        let steps = cumulative(latencies);
        reply.map(steps.len());
        for (us, calls) in steps {
            reply.integer(us as i64);
            reply.integer(calls as i64);
        }
    }
    Ok(())
}

/// A command by its own name, or by its container's.
fn is_asked_for(name: &str, asked: &[u8]) -> bool {
    let container = name.split('|').next().expect("a name has a first part");
    [name, container].iter().any(|name| name.as_bytes().eq_ignore_ascii_case(asked))
}

/// Histograms of the commands named, or all. There are no events, which is what Redis resets and counts.
fn reset(core: &mut Core, args: Args<'_>, _out: &mut Vec<u8>) {
    let names = args.from(2);
    let wanted = |name: &str| names.is_empty() || names.iter().any(|asked| is_asked_for(name, asked));
    for command in core.catalog.iter().filter(|command| wanted(command.name())) {
        core.latency.reset_command(command.number);
    }
}

fn merge_reset(call: &mut ServerCall<'_>, _parts: &[Vec<u8>]) -> CommandResult {
    call.reply().integer(0);
    Ok(())
}

// ---- what the latency monitor would tell ---------------------------------------------------------------

fn nothing(call: &mut ServerCall<'_>) -> CommandResult {
    call.reply().array(0);
    Ok(())
}

fn graph(call: &mut ServerCall<'_>) -> CommandResult {
    let event = String::from_utf8_lossy(call.args.at(2));
    Err(CommandError::owned(format!("ERR No samples available for event '{event}'")))
}

fn doctor(call: &mut ServerCall<'_>) -> CommandResult {
    let text = "This server records no latency events, so there is none to advise on. SHARDIS LATENCY shows how long \
                each stage of a command takes on each core, LATENCY HISTOGRAM how long each command does.\n";
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

fn latency_usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "DOCTOR",
            "    Advice on what to look at.",
            "GRAPH <event>",
            "    The events of a kind as a picture.",
            "HISTOGRAM [<command> ...]",
            "    How many calls of the commands, or of all, took how long.",
            "HISTORY <event>",
            "    The events of a kind.",
            "LATEST",
            "    The last event of each kind.",
            "RESET [<command> ...]",
            "    Forget the histograms of the commands, or all.",
        ],
    )
}

// ---- SHARDIS -------------------------------------------------------------------------------------------

fn stages(core: &mut Core, _args: Args<'_>, out: &mut Vec<u8>) {
    Report::of_stages(core).encode(out);
}

fn merge_stages(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let text = table(&Reports::decode(parts));
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

fn shardis_usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "LATENCY",
            "    Percentiles per core of the stages of a command, in microseconds:",
            "    * parse: making requests of received bytes",
            "    * lane: on the way to the core that owns the key",
            "    * execute: the command itself",
            "    * wal_wait: from handing edits to the log until replies may go",
            "    * reply: until the kernel has taken the bytes",
        ],
    )
}
