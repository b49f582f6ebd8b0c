//! Commands that need values from several shards at once (RENAME, COPY, BITOP, LCS, MSETNX...), without a
//! coordinator of their own: the entries of all keys are fetched into a scratch keyspace, the same handler that
//! serves one shard runs on it, and what became of each key goes home as edits.
//!
//! The session is held meanwhile, so its later commands see the effect. Puts go home before removals, so a crash
//! in between never loses a value. (Others may see a state in between: atomicity across shards needs intents.)

use super::Core;
use super::execute::ShardCall;
use super::intake::Flow;
use crate::commands::catalog::Run;
use crate::router::batch::{ConnectionId, Ticket, Work};
use crate::router::gather::{Assembly, Ending, Gathering};
use shards::call::Args;
use shards::keyspace::{Edit, Keyspace};
use shards::owner::{Caller, Owner};
use shards::reply::{Protocol, Reply};
use shards::row::Traits;
use shards::units::{Db, Offset, ShardId};
use std::collections::BTreeSet;

impl Core {
    /// Asks the owners for the entries of the command's keys.
    pub(super) fn assemble(&mut self, call: ShardCall<'_>, positions: &[usize]) -> Flow {
        let ShardCall { connection, number, row, args } = call;
        let mut keys: Vec<(ShardId, Vec<usize>)> = Vec::new();
        for &position in positions {
            let shard = self.shard_of(args.at(position));
            match keys.iter_mut().find(|(owner, _)| *owner == shard) {
                Some((_, own)) => own.push(position),
                None => keys.push((shard, vec![position])),
            }
        }
        if !keys.iter().all(|(shard, _)| self.has_credit(*shard)) {
            return Flow::Hold;
        }
        let assembly = Assembly { command: number, args: args.iter().map(<[u8]>::to_vec).collect() };
        let protocol = self.protocol(connection);
        let gathering = Gathering::new(Ending::Assemble(Box::new(assembly)), keys.len(), protocol);
        let slot = self.reserve_gathering(connection, gathering);
        let session = &mut self.sessions[connection.index as usize];
        session.held = true;
        let db = session.db;
        let all_databases = row.traits.has(Traits::OTHER_DATABASES);
        for (part, (shard, own)) in keys.into_iter().enumerate() {
            let ticket = Ticket { connection, slot, part: part as u16 };
            let own = own.iter().map(|&position| args.at(position));
            if shard == self.shard {
                let (bytes, spans) = super::execute::copy_args(own);
                let mut out = Vec::new();
                let until = self.fetch(db, all_databases, Args::new(&bytes, &spans), &mut out);
                self.deliver(ticket, &out, until);
            } else {
                self.call(shard, ticket, Work::Fetch { all_databases }, db, protocol, own);
            }
        }
        Flow::Done
    }

    /// The owner's side: the live entries of the keys, as `Put` edits one after the other.
    pub(super) fn fetch(&mut self, db: Db, all_databases: bool, keys: Args<'_>, out: &mut Vec<u8>) -> Offset {
        let databases = if all_databases { 0..self.owner.keyspace.databases() } else { db.0..db.0 + 1 };
        for db in databases.map(Db) {
            for key in keys.iter() {
                if self.owner.keyspace.peek(db, key, self.now).is_some() {
                    out.extend(self.owner.keyspace.export(db, key).expect("a live entry can be exported"));
                }
            }
        }
        self.log.unsettled_end(&self.owner)
    }

    /// The owner's side: makes the edits its own.
    pub(super) fn adopt(&mut self, mut edits: &[u8], out: &mut Vec<u8>) -> Offset {
        if let Some(error) = self.log.refusal(self.shard) {
            Reply::new(out, Protocol::Resp2).error(&error);
            return Offset(0);
        }
        while !edits.is_empty() {
            let used = self.owner.keyspace.adopt(edits).expect("edits made by a scratch keyspace");
            edits = &edits[used..];
        }
        Reply::new(out, Protocol::Resp2).ok();
        if !self.log.persistent {
            return Offset(0);
        }
        let until = self.log.end(&self.owner);
        self.log.note_adopted(until);
        until
    }

    /// All entries are here: runs the command on a scratch keyspace and sends home what became of the keys.
    #[allow(clippy::too_many_arguments)] // the fields of a gathering that is being taken apart
    pub(super) fn run_assembly(
        &mut self,
        connection: ConnectionId,
        slot: u64,
        assembly: Assembly,
        parts: &[Vec<u8>],
        protocol: Protocol,
        until: Offset,
        muted: bool,
    ) {
        let db = self.session(connection).map_or(Db(0), |session| session.db);
        let caller = Caller { db, now: self.now, protocol };
        let (reply, puts, removals) = self.run_scratch(&assembly, parts, caller);
        if puts.is_empty() && removals.is_empty() {
            self.unhold(connection);
            return self.fill(connection, slot, if muted { &[] } else { &reply }, until);
        }
        let (now, then) = if puts.is_empty() { (removals, Vec::new()) } else { (puts, removals) };
        self.settle(connection, slot, reply, now, then, until, muted);
    }

    fn run_scratch(&mut self, assembly: &Assembly, parts: &[Vec<u8>], caller: Caller) -> (Vec<u8>, Homeward, Homeward) {
        let Run::Shard(row) = self.catalog.get(assembly.command).run else {
            unreachable!("only shard commands are assembled")
        };
        let mut scratch = Owner::new(self.owner.keyspace.databases(), self.owner.random.next_u64());
        scratch.limits = self.owner.limits.clone();
        for part in parts {
            let mut edits = part.as_slice();
            while !edits.is_empty() {
                let used = scratch.keyspace.replay(edits).expect("edits exported by a keyspace");
                edits = &edits[used..];
            }
        }
        let (bytes, spans) = super::execute::copy_args(assembly.args.iter().map(Vec::as_slice));
        let mut reply = Vec::new();
        scratch.execute(row, Args::new(&bytes, &spans), caller, &mut reply);
        self.latency.executed(assembly.command, self.ticks, (reply.first() == Some(&b'-')).then_some(&reply));
        let edits = scratch.keyspace.take_edits(Vec::new());
        let (puts, removals) = self.homeward(&scratch.keyspace, &edits);
        (reply, puts, removals)
    }

    /// What became of every key that the edits touched, by owner: values to put, keys to remove.
    fn homeward(&self, scratch: &Keyspace, mut edits: &[u8]) -> (Homeward, Homeward) {
        let mut touched: BTreeSet<(Db, Vec<u8>)> = BTreeSet::new();
        while !edits.is_empty() {
            let (edit, used) = Edit::decode(edits).expect("a keyspace's own edits");
            touched.extend(edit.keys().into_iter().flatten().map(|(db, key)| (db, key.to_vec())));
            edits = &edits[used..];
        }
        let (mut puts, mut removals) = (Homeward::new(), Homeward::new());
        for (db, key) in &touched {
            let shard = self.shard_of(key);
            match scratch.export(*db, key) {
                Some(put) => append(&mut puts, shard, &put),
                None => append(&mut removals, shard, &Edit::Remove { db: *db, key }.encode_to_vec()),
            }
        }
        (puts, removals)
    }

    /// One round of edits on their way home; `then` is the next.
    #[allow(clippy::too_many_arguments)] // the fields of a gathering that is being taken apart
    pub(super) fn settle(
        &mut self,
        connection: ConnectionId,
        slot: u64,
        reply: Vec<u8>,
        now: Homeward,
        then: Homeward,
        until: Offset,
        muted: bool,
    ) {
        let mut gathering = Gathering::new(Ending::Settle { reply, then }, now.len(), Protocol::Resp2);
        (gathering.until, gathering.muted) = (until, muted);
        let session = self.session_mut(connection).expect("a held session stays until its command is done");
        session.replies.put_gathering(slot, gathering);
        for (part, (shard, edits)) in now.into_iter().enumerate() {
            let ticket = Ticket { connection, slot, part: part as u16 };
            if shard == self.shard {
                let mut out = Vec::new();
                let until = self.adopt(&edits, &mut out);
                self.deliver(ticket, &out, until);
            } else {
                // Past the credit if need be: the command has begun, and its session sends nothing else.
                self.call(shard, ticket, Work::Adopt, Db(0), Protocol::Resp2, std::iter::once(edits.as_slice()));
            }
        }
    }

    /// The command over several shards is done: what followed it may run.
    pub(super) fn unhold(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_mut(connection) {
            session.held = false;
            if session.gone {
                self.deferred_now -= session.deferred as usize;
                self.sessions.remove(connection.index as usize);
            } else if !session.input.is_empty() {
                self.mark_resumable(connection);
            } else {
                self.close_if_ended(connection);
            }
        }
    }
}

/// Edits by the shard that owns their keys.
type Homeward = Vec<(ShardId, Vec<u8>)>;

fn append(homeward: &mut Homeward, shard: ShardId, edit: &[u8]) {
    match homeward.iter_mut().find(|(owner, _)| *owner == shard) {
        Some((_, edits)) => edits.extend_from_slice(edit),
        None => homeward.push((shard, edit.to_vec())),
    }
}
