//! The end of a transaction: its participants' answers become the replies of its commands, in the order of the requests.

use super::Core;
use super::coordinate::Transaction;
use crate::commands::catalog::Run;
use crate::commands::{ServerCall, ServerHandler};
use crate::router::batch::{ConnectionId, ran};
use crate::router::gather::{self, Ending};
use crate::router::program::Planned;
use crate::session::Closing;
use shards::call::Args;
use shards::reply::{Protocol, Reply};
use shards::units::{Offset, ShardId};
use shards::waiting::{Wait, append_at_once};
use smallvec::SmallVec;

/// How a shard's reply is appended to those before it.
type Append = fn(&[u8], Protocol, &mut Vec<u8>);

impl Core {
    /// The reply of a transaction of which everything has run.
    pub(super) fn reply_of(&mut self, transaction: &mut Transaction) -> Vec<u8> {
        let mut out = Vec::new();
        let commands = std::mem::take(&mut transaction.program.commands);
        if transaction.exec {
            Reply::new(&mut out, transaction.protocol).array(commands.len());
        }
        let answers = std::mem::take(&mut transaction.answers);
        out.reserve(answers.iter().map(Vec::len).sum());
        let (connection, protocol) = (transaction.connection, transaction.protocol);
        let add = if transaction.exec { append_at_once } else { append_as_it_is };
        self.assemble(connection, protocol, commands, &answers, (&transaction.scratched, add), &mut out);
        out
    }

    /// Appends the replies of commands, taking each from the answers that it was planned to come from. `scratched`: those of the
    /// scratch keyspace, and how a shard's reply is appended: inside MULTI nobody waits.
    pub(super) fn assemble(
        &mut self,
        connection: ConnectionId,
        protocol: Protocol,
        commands: Vec<Planned>,
        answers: &[Vec<u8>],
        (scratched, add): (&[u8], Append),
        out: &mut Vec<u8>,
    ) {
        let mut cursors = vec![ran::FIRST; answers.len()];
        let mut scratch_cursor = 0;
        let mut next_of = |part: u16| {
            let (reply, next) = ran::next(&answers[part as usize], cursors[part as usize]);
            cursors[part as usize] = next;
            reply
        };
        for planned in commands {
            match planned {
                Planned::One(part) => add(next_of(part), protocol, out),
                Planned::Joined { ending, order, parts } => {
                    let replies: Vec<&[u8]> = parts.iter().map(|&part| next_of(part)).collect();
                    self.conclude(connection, ending, &replies, &order, protocol, out);
                }
                Planned::Scratch => {
                    let (reply, next) = ran::next(scratched, scratch_cursor);
                    scratch_cursor = next;
                    add(reply, protocol, out);
                }
                Planned::Here { command, args } => self.run_server_here(connection, command, &args, out),
                Planned::Known(reply) => out.extend_from_slice(&reply),
            }
        }
    }

    fn run_server_here(&mut self, connection: ConnectionId, command: u16, args: &[Vec<u8>], out: &mut Vec<u8>) {
        if self.session(connection).is_none() {
            return;
        }
        let Run::Server(row) = self.catalog.get(command).run else { unreachable!("planned as a server's command") };
        let ServerHandler::Here(run) = row.handler else { unreachable!("planned to run here") };
        let (bytes, spans) = crate::router::program::copy_args(args.iter().map(Vec::as_slice));
        let start = out.len();
        let mut call =
            ServerCall { core: self, connection, args: Args::new(&bytes, &spans), out, name: row.name, asked_in: None };
        if let Err(error) = run(&mut call) {
            out.truncate(start);
            Reply::new(out, Protocol::Resp2).error(&error);
        }
        let failed = out.get(start) == Some(&b'-');
        self.latency.executed(command, self.ticks, failed.then_some(&out[start..]));
    }

    /// The reply goes out once the logs allow it; what followed on the connection may run at once.
    pub(super) fn reply_to_transaction(&mut self, transaction: &Transaction, reply: &[u8]) {
        if let Some(attempt) = &transaction.attempt {
            if let Some(wait) = Wait::in_place_of(reply) {
                return self.tried_in_vain(transaction.connection, transaction.slot, attempt.clone(), &wait);
            }
            self.leave_lines(transaction.connection);
        }
        if let Some(slot) = transaction.slot {
            let waits = transaction.waits.iter().filter(|(shard, until)| *until > self.written_by(*shard));
            let waits: SmallVec<[(ShardId, Offset); 2]> = waits.copied().collect();
            if waits.is_empty() {
                self.fill(transaction.connection, slot, reply, transaction.until);
            } else {
                self.wait_for_logs(transaction.connection, slot, reply.to_vec(), transaction.until, waits);
            }
        }
        self.unhold(transaction.connection);
    }

    /// What a session waited for is done: what followed it may run.
    pub(super) fn unhold(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_mut(connection) {
            session.held = false;
            // Not closed here: it may be in the midst of a run through its input, of which there is more.
            if session.input_ended || !session.input.is_empty() {
                self.mark_resumable(connection);
            }
            if self.session(connection).is_some_and(|session| session.closing != Closing::Open) {
                // The runtime waits for this to close it, and no reply may have told it to look.
                self.mark_dirty(connection);
            }
        }
    }

    /// Joins the replies of the parts of a command that was spread.
    pub(super) fn conclude<P: AsRef<[u8]>>(
        &mut self,
        connection: ConnectionId,
        ending: Ending,
        parts: &[P],
        order: &[u16],
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) {
        match ending {
            Ending::Gather(gather) => gather::join(gather, parts, order, protocol, out),
            Ending::Draw(draw) => gather::draw(parts, draw, protocol, out),
            Ending::Scan { shard, shards } => match gather::first_error(parts) {
                Some(error) => out.extend_from_slice(error),
                None => {
                    let rewrite = |local| gather::client_cursor(local, shard, shards);
                    gather::rewrite_cursor(parts[0].as_ref(), rewrite, protocol, out);
                }
            },
            Ending::Server { command, args } => {
                let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_ref().to_vec()).collect();
                self.merge(connection, protocol, command, &args, &parts, out);
            }
        }
    }
}

fn append_as_it_is(reply: &[u8], _: Protocol, out: &mut Vec<u8>) {
    out.extend_from_slice(reply);
}
