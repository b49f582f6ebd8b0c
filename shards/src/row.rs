//! A command is one row: name, arity, key positions, traits, how it spreads over shards, handler, documentation.
//!
//! The same row feeds arity checks, routing, ACL categories, COMMAND / COMMAND DOCS / COMMAND GETKEYS,
//! docs/commands.md and the per-command counters. `H` is the kind of handler: the shard's own (`Handler`),
//! or that of the server's connection commands.

use crate::call::{Args, Call};
use crate::error::CommandResult;
use crate::types::Need;

/// A handler of the shard. On `Err` the owner discards what was written to the reply and writes the error;
/// a handler that returns `Err` has made no edit.
pub type Handler = fn(&mut Call<'_>) -> CommandResult;

/// What a command does and needs, a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traits(pub u32);

impl Traits {
    pub const NONE: Traits = Traits(0);
    /// May change the keyspace (Redis flag `write`).
    pub const WRITE: Traits = Traits(1);
    /// Never changes the keyspace (`readonly`); asserted: the edit batch is unchanged after it.
    pub const READ: Traits = Traits(1 << 1);
    /// May use more memory: refused over maxmemory (`denyoom`).
    pub const DENY_OOM: Traits = Traits(1 << 2);
    /// O(1) or O(log n) (`fast`).
    pub const FAST: Traits = Traits(1 << 3);
    /// `admin`
    pub const ADMIN: Traits = Traits(1 << 4);
    /// `loading`: may run while the data is loaded.
    pub const LOADING: Traits = Traits(1 << 5);
    /// `stale`
    pub const STALE: Traits = Traits(1 << 6);
    /// `noscript`
    pub const NO_SCRIPT: Traits = Traits(1 << 7);
    /// May run before AUTH (`no_auth`).
    pub const NO_AUTH: Traits = Traits(1 << 8);
    /// `no_multi`
    pub const NO_MULTI: Traits = Traits(1 << 9);
    /// ACL category @dangerous.
    pub const DANGEROUS: Traits = Traits(1 << 10);
    /// ACL category @connection.
    pub const CONNECTION: Traits = Traits(1 << 11);
    /// Key positions depend on the arguments (`movablekeys`).
    pub const MOVABLE_KEYS: Traits = Traits(1 << 12);
    /// ACL category @keyspace.
    pub const KEYSPACE: Traits = Traits(1 << 13);
    /// `blocking`
    pub const BLOCKING: Traits = Traits(1 << 14);
    /// Looks at keys that it doesn't name (KEYS, SCAN, DBSIZE, SORT): waits for every unsettled edit.
    pub const WHOLE: Traits = Traits(1 << 15);
    pub const NO_ASYNC_LOADING: Traits = Traits(1 << 16);
    pub const SKIP_MONITOR: Traits = Traits(1 << 17);
    pub const SKIP_SLOWLOG: Traits = Traits(1 << 18);
    /// May reach keys of a database other than the connection's (COPY, MOVE).
    pub const OTHER_DATABASES: Traits = Traits(1 << 19);

    pub const fn has(self, other: Traits) -> bool {
        self.0 & other.0 == other.0
    }
    pub const fn and(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }
}

impl std::ops::BitOr for Traits {
    type Output = Traits;
    fn bitor(self, other: Traits) -> Traits {
        self.and(other)
    }
}

/// What a command does with the keys at a position (key specs of COMMAND INFO, later ACL).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyUse {
    Read,
    Write,
    ReadWrite,
    Overwrite,
    Remove,
}

/// Where a command's keys stand among its arguments.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    None,
    /// Every `step`-th argument from `first` to `last`; a negative `last` counts from the end (-1 = last
    /// argument), as in Redis' command table.
    Range {
        first: i8,
        last: i8,
        step: i8,
        usage: KeyUse,
    },
    /// A pair of positions used differently: source read or removed, destination overwritten (COPY, RENAME,
    /// BITOP's destination and sources).
    Two {
        first: (i8, KeyUse),
        rest: (i8, i8, KeyUse),
    },
    /// Positions found by a function: fills in argument indexes, or says that the arguments are invalid.
    Find {
        find: fn(&Args<'_>, &mut Vec<usize>) -> bool,
        usage: KeyUse,
    },
}

/// How the parts of a command that was spread over shards become one reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gather {
    /// Every part replies an integer: their sum (DEL, EXISTS, DBSIZE).
    Sum,
    /// Every part replies +OK (MSET, FLUSHALL); the first error wins.
    Ok,
    /// Every part replies an array with one element per key: put back in the order of the keys (MGET).
    InKeyOrder,
    /// Every part replies an array: all elements in one array (KEYS).
    Concat,
}

/// How a command spreads over shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Keys on one shard: runs there. Keys on several: their entries are fetched to a scratch keyspace, the
    /// same handler runs on that, and the edits it made go back to the owners (RENAME, COPY, BITOP).
    Keyed,
    /// Splits into one part per shard, each with its own keys (and what follows a key up to the next).
    Split(Gather),
    /// Runs on every shard with all its arguments.
    Every(Gather),
    /// SCAN: the cursor at argument 1 says which shard.
    Cursor,
    /// RANDOMKEY: a shard chosen at random, weighted by its number of keys.
    Any,
    /// Not for a shard: runs on the connection's core.
    Front,
}

/// One row of the command table.
#[derive(Clone, Copy)]
pub struct Row<H: 'static = Handler> {
    /// Lower case. For a subcommand: `parent|name`.
    pub name: &'static str,
    /// Number of arguments including the name; negative: at least that many (as in Redis).
    pub arity: i8,
    pub traits: Traits,
    pub keys: Keys,
    pub route: Route,
    pub handler: H,
    pub docs: Docs,
    /// What it needs of its keys' values where these are fetched from several shards.
    pub need: for<'a> fn(&Args<'a>) -> Need<'a>,
    /// Rows of the subcommands, when the second argument chooses the handler.
    pub subcommands: &'static [Row<H>],
}

/// What COMMAND DOCS and docs/commands.md print.
#[derive(Clone, Copy, Default)]
pub struct Docs {
    pub summary: &'static str,
    pub since: &'static str,
    pub group: &'static str,
    pub complexity: &'static str,
}

impl<H: Copy> Row<H> {
    /// A row with no keys that runs on the connection's core; chain the other methods to say otherwise.
    pub const fn new(name: &'static str, arity: i8, traits: Traits, handler: H) -> Self {
        let docs = Docs { summary: "", since: "1.0.0", group: "generic", complexity: "O(1)" };
        Row {
            name,
            arity,
            traits,
            keys: Keys::None,
            route: Route::Front,
            handler,
            docs,
            need: |_| Need::All,
            subcommands: &[],
        }
    }
    /// One key at argument 1.
    pub const fn key(self, usage: KeyUse) -> Self {
        self.keys(Keys::Range { first: 1, last: 1, step: 1, usage })
    }
    pub const fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self.route = Route::Keyed;
        self
    }
    /// After `keys`.
    pub const fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }
    pub const fn docs(
        mut self,
        group: &'static str,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Self {
        self.docs = Docs { summary, since, group, complexity };
        self
    }
    /// For a command that needs no more than a part of large values, and makes only changes to them.
    pub const fn need(mut self, need: for<'a> fn(&Args<'a>) -> Need<'a>) -> Self {
        self.need = need;
        self
    }
    pub const fn subcommands(mut self, rows: &'static [Row<H>]) -> Self {
        self.subcommands = rows;
        self
    }
    /// Whether `count` arguments (name included) fit the arity.
    pub const fn accepts(&self, count: usize) -> bool {
        if self.arity >= 0 { count == self.arity as usize } else { count >= (-(self.arity as i32)) as usize }
    }
    /// Appends the argument indexes of the keys to `out`. `false`: the arguments don't say where the keys are.
    pub fn find_keys(&self, args: &Args<'_>, out: &mut Vec<usize>) -> bool {
        let range = |first: i8, last: i8, step: i8, out: &mut Vec<usize>| {
            let last = if last < 0 { args.len() as isize + last as isize } else { last as isize };
            let mut at = first as isize;
            while at <= last && (at as usize) < args.len() {
                out.push(at as usize);
                at += step as isize;
            }
        };
        match self.keys {
            Keys::None => true,
            Keys::Range { first, last, step, .. } => {
                range(first, last, step, out);
                true
            }
            Keys::Two { first, rest } => {
                range(first.0, first.0, 1, out);
                range(rest.0, rest.1, 1, out);
                true
            }
            Keys::Find { find, .. } => find(args, out),
        }
    }
}
