//! MULTI, EXEC, DISCARD, WATCH and UNWATCH: the rows. What they do is the core's (`core/multi.rs`).

use super::ServerHandler::{self, Flow as Decides, Here};
use super::catalog::CommandNumber;
use super::{ServerCall, answer_refusal};
use crate::core::{Core, Flow};
use crate::router::batch::ConnectionId;
use shards::call::Args;
use shards::error::CommandResult;
use shards::row::{KeyUse, Keys, Row, Traits};

const BASE: Traits = Traits::FAST.and(Traits::NO_SCRIPT).and(Traits::LOADING).and(Traits::STALE);

pub const ROWS: &[Row<ServerHandler>] = &[
    Row::new("multi", 1, BASE, Here(multi)).docs(
        "transactions",
        "1.2.0",
        "O(1)",
        "Starts a transaction: what follows is queued until EXEC.",
    ),
    Row::new(
        "exec",
        1,
        Traits::NO_SCRIPT.and(Traits::LOADING).and(Traits::STALE).and(Traits::SKIP_SLOWLOG),
        Decides(exec),
    )
    .docs(
        "transactions",
        "1.2.0",
        "Depends on the commands",
        "Runs what was queued since MULTI as one, on whatever shards its keys are.",
    ),
    Row::new("discard", 1, BASE, Here(discard)).docs(
        "transactions",
        "2.0.0",
        "O(N) for N queued commands",
        "Forgets what was queued since MULTI.",
    ),
    Row::new("watch", -2, BASE, Decides(watch))
        .keys(Keys::Range { first: 1, last: -1, step: 1, usage: KeyUse::Read })
        .route(shards::row::Route::Front)
        .docs(
            "transactions",
            "2.2.0",
            "O(1) per key",
            "Makes the next EXEC run nothing if one of the keys is changed before.",
        ),
    Row::new("unwatch", 1, BASE, Here(unwatch)).docs(
        "transactions",
        "2.2.0",
        "O(1) per watched key",
        "Forgets all watched keys.",
    ),
];

fn multi(call: &mut ServerCall<'_>) -> CommandResult {
    call.core.multi(call.connection)?;
    call.reply().ok();
    Ok(())
}

fn discard(call: &mut ServerCall<'_>) -> CommandResult {
    call.core.discard(call.connection)?;
    call.reply().ok();
    Ok(())
}

fn unwatch(call: &mut ServerCall<'_>) -> CommandResult {
    call.core.stop_watching(call.connection);
    call.reply().ok();
    Ok(())
}

fn exec(core: &mut Core, connection: ConnectionId, number: CommandNumber, _args: Args<'_>) -> Flow {
    let outcome = core.exec(connection);
    answer_refusal(core, connection, number, outcome)
}

fn watch(core: &mut Core, connection: ConnectionId, number: CommandNumber, args: Args<'_>) -> Flow {
    let outcome = core.watch_keys(connection, args);
    answer_refusal(core, connection, number, outcome)
}
