//! The owner of one shard: runs calls against the keyspace and says which offset each reply depends on.
//!
//! Rule: a reply may be released once the log is committed up to the offset it waits for. A write waits for its own edits; a
//! read waits only when what it saw is not yet settled (`Tracker`).

use crate::call::{Args, Call, Limits};
use crate::keyspace::Keyspace;
use crate::random::Random;
use crate::reply::{Protocol, Reply};
use crate::row::{Row, Traits};
use crate::units::{Db, Now};

pub struct Owner {
    pub keyspace: Keyspace,
    pub random: Random,
    pub limits: Limits,
}

/// Who asks, and how the answer is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub db: Db,
    pub now: Now,
    pub protocol: Protocol,
}

impl Owner {
    pub fn new(databases: u16, seed: u64) -> Self {
        Owner { keyspace: Keyspace::new(databases, seed), random: Random::new(seed), limits: Limits::default() }
    }

    /// Runs one call of `row`, whose arity was checked, and appends its reply to `out`. Returns whether it made edits.
    pub fn execute(&mut self, row: &'static Row, args: Args<'_>, caller: Caller, out: &mut Vec<u8>) -> bool {
        let edits_before = self.keyspace.edit_count();
        let start = out.len();
        let mut call = Call {
            args,
            db: caller.db,
            now: caller.now,
            keyspace: &mut self.keyspace,
            reply: Reply::new(out, caller.protocol),
            random: &mut self.random,
            limits: &self.limits,
            name: row.name,
        };
        if let Err(error) = (row.handler)(&mut call) {
            call.reply.truncate(start);
            call.reply.error(&error);
        }
        let edited = self.keyspace.edit_count() != edits_before;
        assert!(!(edited && row.traits.has(Traits::READ)), "a read made an edit: {}", row.name);
        edited
    }
}
