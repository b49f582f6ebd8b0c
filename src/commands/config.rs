//! CONFIG: settings read and changed while the server runs.
//!
//! Every core has its own copy of all settings: a change is checked on the connection's core, then made on each.

use super::ServerHandler::{Everywhere, Here};
use super::{ServerCall, ServerHandler, all_done, container, help, no_check};
use crate::config::table::{self, SETTINGS};
use crate::core::Core;
use crate::runtime::config_file;
use shards::call::Args;
use shards::error::{CommandError, CommandResult};
use shards::glob::{self, Case};
use shards::row::{Row, Traits};
use shards::units::ShardId;

const ADMIN: Traits = Traits::ADMIN.and(Traits::NO_SCRIPT).and(Traits::LOADING).and(Traits::STALE);

const fn row(
    name: &'static str,
    arity: i8,
    traits: Traits,
    since: &'static str,
    summary: &'static str,
    handler: ServerHandler,
) -> Row<ServerHandler> {
    Row::new(name, arity, traits, handler).docs("server", since, "O(N) for N settings", summary)
}

pub const ROWS: &[Row<ServerHandler>] =
    &[row("config", -2, Traits::NONE, "2.0.0", "Looks after settings.", Here(container)).subcommands(SUBCOMMANDS)];

const SET: ServerHandler = Everywhere { check: check_set, part: set, merge: all_done };
const RESETSTAT: ServerHandler = Everywhere { check: no_check, part: resetstat, merge: all_done };

const SUBCOMMANDS: &[Row<ServerHandler>] = &[
    row("config|get", -3, ADMIN, "2.0.0", "Values of the settings that match a pattern.", Here(get)),
    row("config|set", -4, ADMIN, "2.0.0", "Changes settings, all or none.", SET),
    row("config|resetstat", 2, ADMIN, "2.0.0", "Sets the counters of INFO to zero.", RESETSTAT),
    row("config|rewrite", 2, ADMIN, "2.8.0", "Writes the settings to the configuration file.", Here(rewrite)),
    row("config|help", 2, Traits::LOADING.and(Traits::STALE), "5.0.0", "Lists the subcommands.", Here(usage)),
];

fn get(call: &mut ServerCall<'_>) -> CommandResult {
    let patterns: Vec<&[u8]> = call.args.from(2).iter().collect();
    let matches = |pattern: &[u8], name: &[u8]| glob::matches(pattern, name, Case::Sensitive);
    let found = call.core.settings.get(&patterns, matches);
    let mut reply = call.reply();
    reply.map(found.len());
    for (name, value) in &found {
        reply.bulk(name);
        reply.bulk(value);
    }
    Ok(())
}

/// Two clients may change a setting at the same time, and cores hear of it in different orders: so that all end with the
/// same value, a change carries its time, and yields to a later one.
fn check_set(call: &mut ServerCall<'_>) -> CommandResult {
    let pairs: Vec<&[u8]> = call.args.from(2).iter().collect();
    call.core.settings.clone().set_live(&pairs)?;
    let stamp = (call.core.ticks(), call.core.shard);
    call.core.appended = Some(encode_stamp(stamp));
    Ok(())
}

/// Clients that have authenticated stay so, whatever becomes of the password.
fn set(core: &mut Core, args: Args<'_>, _out: &mut Vec<u8>) {
    let last = args.len() - 1;
    let stamp = decode_stamp(args.at(last));
    let pairs: Vec<&[u8]> = args.from(2).iter().take(last - 2).collect();
    for pair in pairs.chunks(2) {
        let index = table::find(pair[0]).expect("checked where the command came in");
        let known = core.setting_stamps.entry(SETTINGS[index].name).or_default();
        if stamp >= *known {
            *known = stamp;
            core.settings.set_live(pair).expect("checked where the command came in, by the same rules");
        }
    }
    core.apply_config();
    if core.config.requirepass.is_empty() {
        core.sessions_mut().for_each(|session| session.authenticated = true);
    }
}

fn encode_stamp((ticks, shard): (u64, ShardId)) -> Vec<u8> {
    [&ticks.to_le_bytes()[..], &shard.0.to_le_bytes()].concat()
}

fn decode_stamp(bytes: &[u8]) -> (u64, ShardId) {
    let (ticks, shard) = bytes.split_at(size_of::<u64>());
    let ticks = u64::from_le_bytes(ticks.try_into().expect("the time is eight bytes"));
    (ticks, ShardId(u16::from_le_bytes(shard.try_into().expect("the shard is two bytes"))))
}

fn resetstat(core: &mut Core, _args: Args<'_>, _out: &mut Vec<u8>) {
    core.stats.reset();
    core.owner.keyspace.reset_lookups();
    core.latency.reset();
}

fn rewrite(call: &mut ServerCall<'_>) -> CommandResult {
    let Some(file) = &call.core.config_file else {
        return Err(CommandError::new("ERR The server is running without a config file"));
    };
    let settings = &call.core.settings;
    config_file::rewrite(file, |text| settings.rewrite(text))
        .map_err(|error| CommandError::owned(format!("ERR Rewriting config file: {error}")))?;
    call.reply().ok();
    Ok(())
}

fn usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "GET <pattern> [<pattern> ...]",
            "    Settings whose names match, and their values.",
            "RESETSTAT",
            "    Set the counters of INFO to zero.",
            "REWRITE",
            "    Write the settings to the configuration file.",
            "SET <setting> <value> [<setting> <value> ...]",
            "    Change settings, all or none.",
        ],
    )
}
