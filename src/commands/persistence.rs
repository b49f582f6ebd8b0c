//! SAVE, BGSAVE, BGREWRITEAOF and LASTSAVE. What a snapshot is, is the core's (`core/snapshots.rs`).

use super::ServerHandler::{self, Everywhere, Flow as Decides, Here};
use super::catalog::CommandNumber;
use super::{ServerCall, answer_refusal};
use crate::core::{Asked, Core, Flow, UNDER_WAY};
use crate::router::batch::ConnectionId;
use shards::call::Args;
use shards::error::{CommandResult, SYNTAX};
use shards::row::{Row, Traits};
use shards::units::ShardId;

const ADMIN: Traits = Traits::ADMIN.and(Traits::NO_SCRIPT);

pub const ROWS: &[Row<ServerHandler>] = &[
    Row::new("save", 1, ADMIN.and(Traits::NO_MULTI), Decides(save)).docs(
        "server",
        "1.0.0",
        "O(N) for N keys",
        "Takes a snapshot and replies once it is on disk; other clients are served meanwhile.",
    ),
    Row::new("bgsave", -1, ADMIN, BGSAVE).docs(
        "server",
        "1.0.0",
        "O(1); the snapshot O(N) for N keys",
        "Begins a snapshot.",
    ),
    Row::new("bgrewriteaof", 1, ADMIN, BGREWRITEAOF).docs(
        "server",
        "1.0.0",
        "O(1); the snapshot O(N) for N keys",
        "Begins a snapshot, which takes the place of the log before it.",
    ),
    Row::new("backup", 2, ADMIN.and(Traits::NO_MULTI), Decides(backup)).docs(
        "server",
        "7.2.5",
        "O(N) for N keys",
        "Takes a snapshot and copies it to a directory of this name below backup-dir; replies once it is there.",
    ),
    Row::new("lastsave", 1, Traits::LOADING.and(Traits::STALE).and(Traits::FAST).and(Traits::ADMIN), Here(lastsave))
        .docs("server", "1.0.0", "O(1)", "When the last good snapshot was begun, in seconds since 1970."),
];

const BGSAVE: ServerHandler = Everywhere { check: check_bgsave, part: bgsave, merge: merge_bgsave };
const BGREWRITEAOF: ServerHandler = Everywhere { check: check_can_save, part: rewrite, merge: merge_rewrite };

fn save(core: &mut Core, connection: ConnectionId, number: CommandNumber, _args: Args<'_>) -> Flow {
    let outcome = core.save(connection);
    answer_refusal(core, connection, number, outcome)
}

fn backup(core: &mut Core, connection: ConnectionId, number: CommandNumber, args: Args<'_>) -> Flow {
    let outcome = core.back_up(connection, args.at(1));
    answer_refusal(core, connection, number, outcome)
}

fn check_can_save(call: &mut ServerCall<'_>) -> CommandResult {
    call.core.can_save()
}

fn check_bgsave(call: &mut ServerCall<'_>) -> CommandResult {
    let syntax = match call.args.len() {
        1 => true,
        2 => call.args.is(1, "schedule"),
        _ => false,
    };
    if syntax { call.core.can_save() } else { Err(SYNTAX) }
}

/// Shard 0 decides, and says how.
fn bgsave(core: &mut Core, args: Args<'_>, out: &mut Vec<u8>) {
    want(core, args.len() == 1, out);
}

fn rewrite(core: &mut Core, _args: Args<'_>, out: &mut Vec<u8>) {
    want(core, false, out);
}

fn want(core: &mut Core, only_if_idle: bool, out: &mut Vec<u8>) {
    if core.shard == ShardId(0) {
        out.push(match core.want_snapshot(only_if_idle) {
            Asked::Begins => BEGINS,
            Asked::UnderWay => IS_UNDER_WAY,
        });
    }
}

const BEGINS: u8 = 0;
const IS_UNDER_WAY: u8 = 1;

fn merge_bgsave(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    match (parts[0][0], call.args.len()) {
        (BEGINS, _) => call.reply().simple("Background saving started"),
        (_, 1) => return Err(UNDER_WAY),
        _ => call.reply().simple("Background saving scheduled"),
    }
    Ok(())
}

fn merge_rewrite(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    call.reply().simple(match parts[0][0] {
        BEGINS => "Background append only file rewriting started",
        _ => "Background append only file rewriting scheduled",
    });
    Ok(())
}

fn lastsave(call: &mut ServerCall<'_>) -> CommandResult {
    let wall_s = call.core.snapshots.last.wall_ms / 1_000;
    call.reply().integer(wall_s as i64);
    Ok(())
}
