//! INFO: every core reports, the connection's core writes the text.

use super::connection::REDIS_VERSION;
use super::{ServerCall, ServerHandler, no_check};
use crate::admin::info::{Facts, Section, text};
use crate::admin::report::{Report, Reports};
use crate::core::Core;
use crate::runtime::{clock, config_file, process};
use shards::call::Args;
use shards::error::CommandResult;
use shards::row::{Row, Traits};

const INFO: ServerHandler = ServerHandler::Everywhere { check: no_check, part, merge };

pub const ROWS: &[Row<ServerHandler>] = &[Row::new(
    "info",
    -1,
    Traits::LOADING.and(Traits::STALE).and(Traits::DANGEROUS),
    INFO,
)
.docs("server", "1.0.0", "O(1)", "Tells about the server, in sections.")];

fn part(core: &mut Core, args: Args<'_>, out: &mut Vec<u8>) {
    let mut report = Report::of_counters(core);
    if Section::chosen(args.from(1)).contains(&Section::Latencystats) {
        report.add_command_histograms(core);
    }
    report.encode(out);
}

fn merge(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let sections = Section::chosen(call.args.from(1));
    let core = &call.core;
    let facts = Facts {
        config: &core.config,
        config_file: core.config_file.as_deref().map_or_else(String::new, config_file::absolute),
        run_id: &core.run_id,
        shards: core.shards,
        uptime_ms: core.now.steady_ms.saturating_sub(core.started_ms),
        wall_us: clock::wall_us(),
        redis_version: REDIS_VERSION,
        usage: process::usage(),
        reports: Reports::decode(parts),
    };
    let text = text(&sections, &facts);
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}
