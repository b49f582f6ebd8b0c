//! Commands of the connection itself.

use super::{ServerCall, ServerHandler};
use shards::error::CommandResult;
use shards::row::{Row, Traits};

pub const ROWS: &[Row<ServerHandler>] = &[Row::new(
    "ping",
    -1,
    Traits::FAST.and(Traits::CONNECTION),
    ServerHandler::Here(ping),
)
.docs("connection", "1.0.0", "O(1)", "Replies PONG, or the argument.")];

fn ping(call: &mut ServerCall<'_>) -> CommandResult {
    match call.args.get(1) {
        None => call.reply().simple("PONG"),
        Some(text) => call.reply().bulk(text),
    }
    Ok(())
}
