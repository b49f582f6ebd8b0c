//! The catalogue, and the commands of the connection and the server (those that don't belong to a shard).

pub mod catalog;
pub mod connection;

use crate::core::Core;
use crate::router::batch::ConnectionId;
use shards::call::Args;
use shards::error::CommandResult;
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
}

/// What a server handler gets.
pub struct ServerCall<'a> {
    pub core: &'a mut Core,
    pub connection: ConnectionId,
    pub args: Args<'a>,
    pub out: &'a mut Vec<u8>,
    /// Lower-case full name of the row, for error texts.
    pub name: &'static str,
}

impl ServerCall<'_> {
    pub fn reply(&mut self) -> Reply<'_> {
        let protocol = self.session().protocol;
        Reply::new(self.out, protocol)
    }
    pub fn protocol(&self) -> Protocol {
        self.core.session(self.connection).expect("the caller's session outlives its call").protocol
    }
    pub fn session(&mut self) -> &mut crate::session::Session {
        self.core.session_mut(self.connection).expect("the caller's session outlives its call")
    }
}

/// Every family's table.
pub const FAMILIES: &[&[Row<ServerHandler>]] = &[connection::ROWS];
