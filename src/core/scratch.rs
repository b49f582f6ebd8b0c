//! Commands that need values from several shards at once (RENAME, COPY, BITOP, LCS, MSETNX...), without a coordinator of
//! their own: the entries of all keys are fetched into a scratch keyspace, the same handler that serves one shard runs on it,
//! and what became of each key goes home as edits. The transaction holds its intents on the keys all the while.

use super::Core;
use crate::commands::catalog::Run;
use crate::router::batch::ran;
use crate::router::program::ScratchCommand;
use shards::call::{Args, Limits, Sight};
use shards::keyspace::{Edit, Keyspace};
use shards::owner::{Caller, Owner};
use shards::reply::{Protocol, Reply};
use shards::types::Need;
use shards::units::{Db, Offset, ShardId};
use shards::waiting::is_wait;
use std::collections::BTreeSet;

/// Edits by the shard that owns their keys.
pub(super) type Homeward = Vec<(ShardId, Vec<u8>)>;

impl Core {
    /// The owner's side: the live entries of the keys, or what is needed of them, as edits one after the other. The first argument is
    /// the need, the others are the keys.
    pub(super) fn fetch(&mut self, db: Db, all_databases: bool, args: Args<'_>, out: &mut Vec<u8>) -> Offset {
        let (need, keys) = (Need::decode(args.at(0)), args.from(1));
        let databases = if all_databases { 0..self.owner.keyspace.databases() } else { db.0..db.0 + 1 };
        for db in databases.map(Db) {
            for key in keys.iter() {
                if self.owner.keyspace.peek(db, key, self.now).is_some() {
                    let edits = self.owner.keyspace.export_excerpt(db, key, need);
                    out.extend(edits.expect("a live entry can be exported"));
                }
            }
        }
        // Where they end that are not written, for whoever makes something of them.
        let end = self.log.end(&self.owner);
        if self.log.persistent && end > self.log.released { end } else { Offset(0) }
    }

    /// The owner's side: makes the edits its own. Whether the log takes them was asked when the intents were granted.
    pub(super) fn adopt(&mut self, mut edits: &[u8], out: &mut Vec<u8>) -> Offset {
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

    /// All entries are here: runs the commands on a scratch keyspace, one after the other, their replies to `replies` in the
    /// form of `ran`; what has to go home.
    pub(super) fn run_on_scratch(
        &mut self,
        commands: &[ScratchCommand],
        fetched: &[Vec<u8>],
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> Homeward {
        let mut scratch = Owner::new(self.owner.keyspace.databases(), self.owner.random.next_u64());
        scratch.limits = Limits { sight: Sight::Named, ..self.owner.limits.clone() };
        scratch.keyspace.set_thresholds(self.config.thresholds);
        for entries in fetched {
            scratch.keyspace.replay_all(entries).expect("edits exported by a keyspace");
        }
        for command in commands {
            let Run::Shard(row) = self.catalog.get(command.number).run else {
                unreachable!("only shard commands need a scratch keyspace")
            };
            let caller = Caller { db: command.db, now: self.now, protocol };
            let args = Args::new(&command.bytes, &command.spans);
            let (ticks, latency) = (self.ticks, &mut self.latency);
            ran::reply(replies, |out| {
                let start = out.len();
                scratch.execute(row, args, caller, out);
                let failed = out.get(start) == Some(&b'-');
                if !is_wait(&out[start..]) {
                    latency.executed(command.number, ticks, failed.then(|| &out[start..]));
                }
            });
        }
        let edits = scratch.keyspace.take_edits(Vec::new());
        self.homeward(&scratch.keyspace, &edits)
    }

    /// What became of every key that the edits touched, by owner: the edits themselves where each is about one key, as its owner
    /// has what they were made on (an element that was popped doesn't ship its whole list home); else values as they are now.
    fn homeward(&self, scratch: &Keyspace, edits: &[u8]) -> Homeward {
        let mut homeward = Homeward::new();
        let mut send = |key: &[u8], edit: &[u8]| {
            let shard = self.shard_of(key);
            match homeward.iter_mut().find(|(owner, _)| *owner == shard) {
                Some((_, edits)) => edits.extend_from_slice(edit),
                None => homeward.push((shard, edit.to_vec())),
            }
        };
        // What a splice or a deadline is for may lie there expired at home, and isn't on the scratch keyspace.
        let is_sent = |edit: &Edit<'_>| match edit {
            Edit::Put { .. } | Edit::PutCollection { .. } | Edit::Change { .. } | Edit::Remove { .. } => true,
            Edit::Splice { .. } | Edit::SetDeadline { .. } | Edit::Rename { .. } | Edit::Copy { .. } => false,
            Edit::Flush { .. } | Edit::FlushAll | Edit::Swap { .. } | Edit::Nothing => false,
        };
        if decoded(edits).all(|(edit, _)| is_sent(&edit)) {
            for (edit, bytes) in decoded(edits) {
                let [Some((_, key)), None] = edit.keys() else { unreachable!("these name one key") };
                send(key, bytes);
            }
            return homeward;
        }
        let keys = decoded(edits).flat_map(|(edit, _)| edit.keys()).flatten();
        let touched: BTreeSet<(Db, Vec<u8>)> = keys.map(|(db, key)| (db, key.to_vec())).collect();
        for (db, key) in &touched {
            let put = scratch.export(*db, key);
            let edit = put.unwrap_or_else(|| Edit::Remove { db: *db, key }.encode_to_vec());
            send(key, &edit);
        }
        homeward
    }
}

/// A keyspace's own edits, each with its bytes.
fn decoded(mut edits: &[u8]) -> impl Iterator<Item = (Edit<'_>, &[u8])> {
    std::iter::from_fn(move || {
        if edits.is_empty() {
            return None;
        }
        let (edit, used) = Edit::decode(edits).expect("a keyspace's own edits");
        let (bytes, rest) = edits.split_at(used);
        edits = rest;
        Some((edit, bytes))
    })
}
