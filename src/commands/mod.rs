//! The catalogue, and the commands of the connection and the server (those that don't belong to a shard).

pub mod catalog;
pub mod client;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
pub mod describe;
pub mod info;
pub mod latency;
pub mod memory;
pub mod persistence;
pub mod server;
#[cfg(test)]
mod tests;
pub mod transaction;

use crate::commands::catalog::CommandNumber;
use crate::core::{Core, Flow};
use crate::router::batch::ConnectionId;
use shards::call::Args;
use shards::error::{CommandError, CommandResult};
use shards::reply::{Protocol, Reply};
use shards::row::Row;

/// A server command: what it may touch is its core.
#[derive(Clone, Copy)]
pub enum ServerHandler {
    /// Runs on the connection's core.
    Here(fn(&mut ServerCall<'_>) -> CommandResult),
    /// `check` runs on the connection's core first; then every core does `part`, whose bytes are its own affair; then the
    /// connection's core makes the reply of them in `merge`, part 0 being shard 0's.
    Everywhere {
        check: fn(&mut ServerCall<'_>) -> CommandResult,
        part: fn(&mut Core, Args<'_>, &mut Vec<u8>),
        merge: fn(&mut ServerCall<'_>, &[Vec<u8>]) -> CommandResult,
    },
    /// Decides itself what becomes of its reply, and may have to be tried again later (EXEC).
    Flow(fn(&mut Core, ConnectionId, CommandNumber, Args<'_>) -> Flow),
}

/// What a server handler gets.
pub struct ServerCall<'a> {
    pub core: &'a mut Core,
    pub connection: ConnectionId,
    pub args: Args<'a>,
    pub out: &'a mut Vec<u8>,
    /// Lower-case full name of the row, for error texts.
    pub name: &'static str,
    /// For a merge: the protocol when the command came. The session may have changed it since.
    pub asked_in: Option<Protocol>,
}

impl ServerCall<'_> {
    pub fn reply(&mut self) -> Reply<'_> {
        let protocol = self.protocol();
        Reply::new(self.out, protocol)
    }
    /// Both at once, for replies about the catalogue.
    pub fn catalog_and_reply(&mut self) -> (&catalog::Catalog, Reply<'_>) {
        let protocol = self.protocol();
        (&self.core.catalog, Reply::new(self.out, protocol))
    }
    pub fn protocol(&self) -> Protocol {
        let session = || self.core.session(self.connection).expect("the caller's session outlives its call");
        self.asked_in.unwrap_or_else(|| session().protocol)
    }
    pub fn session(&mut self) -> &mut crate::session::Session {
        self.core.session_mut(self.connection).expect("the caller's session outlives its call")
    }
}

/// The reply of a HELP subcommand: `lines` say the other subcommands, each followed by indented lines about it.
pub fn help(call: &mut ServerCall<'_>, lines: &[&str]) -> CommandResult {
    let command = call.name.split('|').next().expect("a name has a first part").to_ascii_uppercase();
    let mut reply = call.reply();
    reply.array(lines.len() + 3);
    reply.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    This text.");
    Ok(())
}

/// The handler of a command that is nothing without a subcommand, which is always found before.
fn container(call: &mut ServerCall<'_>) -> CommandResult {
    Err(shards::error::CommandError::wrong_arity(call.name))
}

/// For commands that take what they get.
fn no_check(_call: &mut ServerCall<'_>) -> CommandResult {
    Ok(())
}

/// The parts of a command that just had to be done everywhere: OK.
fn all_done(call: &mut ServerCall<'_>, _parts: &[Vec<u8>]) -> CommandResult {
    call.reply().ok();
    Ok(())
}

/// The outcome of a handler that decides itself (`ServerHandler::Flow`): a refusal is its reply.
fn answer_refusal(
    core: &mut Core,
    connection: ConnectionId,
    number: CommandNumber,
    outcome: Result<Flow, CommandError>,
) -> Flow {
    outcome.unwrap_or_else(|error| {
        core.answer_error(connection, number, &error);
        Flow::Done
    })
}

/// Every family's table.
pub const FAMILIES: &[&[Row<ServerHandler>]] = &[
    connection::ROWS,
    client::ROWS,
    command::ROWS,
    config::ROWS,
    info::ROWS,
    latency::ROWS,
    memory::ROWS,
    debug::ROWS,
    persistence::ROWS,
    server::ROWS,
    transaction::ROWS,
];
