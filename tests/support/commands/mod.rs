//! Random commands: mostly valid, over few keys, so that they meet; some mangled. What they reply is the same on every server that is
//! right, but for what the tests that compare them know to depend on time, chance or the order of a hash table.

mod arguments;
mod collections;
pub mod groups;
mod keys;
mod newer;
mod places;
mod sorting;
mod streams;
mod strings;

use super::{Command, Resp};
use fastrand::Rng;

pub struct Generator {
    pub rng: Rng,
    /// Whether MULTI and its kin come, too.
    pub transactions: bool,
    /// Whether what the oracle doesn't know comes, too.
    newer: bool,
    /// Ids of streams go up with it, slowly.
    stream_ms: u64,
}

impl Generator {
    pub fn new(seed: u64, transactions: bool) -> Self {
        Generator { rng: Rng::with_seed(seed), transactions, newer: false, stream_ms: 0 }
    }

    /// A command, or a whole transaction, now and then with a watch before it.
    pub fn some(&mut self, out: &mut Vec<Command>) {
        if !self.transactions || self.rng.u32(..12) > 0 {
            return out.push(self.command());
        }
        if self.rng.u32(..3) == 0 {
            out.push(self.several("WATCH"));
            for _ in 0..self.rng.usize(..3) {
                // A BITFIELD that fails may make a key of which Redis tells no watcher.
                let command = self.command();
                out.extend((is_one(&command) && command[0] != b"BITFIELD").then_some(command));
            }
            if self.rng.u32(..10) == 0 {
                out.push(words(["UNWATCH"], []));
            }
        }
        out.push(words(["MULTI"], []));
        for _ in 0..self.rng.usize(..12) {
            // A full iteration takes several calls, one mangled command spoils all the others, and SORT looks for no other keys
            // beside a command over several shards (docs/compatibility.md).
            let command = if self.rng.u32(..40) == 0 { self.command() } else { self.valid() };
            out.extend((is_one(&command) && !has_pattern(&command)).then_some(command));
        }
        if self.rng.u32(..40) == 0 {
            out.push(words([self.pick(["MULTI", "WATCH"]), "k1"], []));
        }
        out.push(words([self.pick(["EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "DISCARD"])], []));
    }

    /// A key of any type, or none.
    pub fn any_key(&mut self) -> Vec<u8> {
        let prefix = self.prefix();
        self.key_of(prefix)
    }

    pub fn command(&mut self) -> Command {
        let mut args = self.valid();
        if self.rng.u32(..100) < 3 {
            self.mangle(&mut args);
        }
        args
    }

    /// The family first, so that a family with few commands is as well covered as one with many.
    fn valid(&mut self) -> Command {
        if self.newer && self.rng.u32(..8) == 0 {
            return self.newer();
        }
        match self.rng.u32(..100) {
            0..11 => self.strings_write(),
            11..17 => self.strings_read(),
            17..24 => self.bitmaps(),
            24..34 => self.keys(),
            34..43 => self.deadlines(),
            43..52 => self.hashes(),
            52..61 => self.lists(),
            61..68 => self.sets(),
            68..79 => self.sorted_sets(),
            79..85 => self.places(),
            85..90 => self.sorting(),
            90..94 => self.streams(),
            94..97 => self.groups(),
            _ => self.whole(),
        }
    }

    fn mangle(&mut self, args: &mut Command) {
        let at = self.rng.usize(..args.len());
        if is_carry(args) {
            return;
        }
        if args[0] == b"SCAN" && at <= 1 {
            // Any number is a cursor to somewhere: nothing to compare.
            return;
        }
        if args[0] == b"XREAD" || args[0] == b"XADD" && at > 1 {
            // `+` is of 7.4, and some options of XADD are newer too; `*` is of the clock.
            return;
        }
        // With another count, or none, the reply is chance; another pattern may name keys of other shards; and those equally far
        // or heavy have no order.
        let is_exact = |name: &[u8]| !matches!(name, b"SPOP" | b"HRANDFIELD") && !name.starts_with(b"SORT");
        if !is_exact(&args[0]) {
            return;
        }
        match self.rng.u32(..4) {
            0 if args.len() > 1 => {
                args.remove(at.max(1));
            }
            1 => args.insert(at + 1, self.value()),
            // Not by a number, which could be a time so near that the two servers disagree on it.
            2 if at > 0 => args[at] = self.pick(["", "x", "1.5", "k1", "NX", "PX", "9223372036854775808"]).into(),
            _ => args.push(self.pick(["GET", "NX", "EX", "REPLACE", "1"]).into()),
        }
    }
}

/// `CARRY key to ttl ...` stands for a DUMP of one key, and a RESTORE of another with what it replied and the options; its reply is the
/// last one, or that of DUMP if there was no key.
pub fn is_carry(args: &Command) -> bool {
    args[0] == b"CARRY"
}

/// Does what `is_carry` says.
pub fn carry(args: &Command, mut call: impl FnMut(Command) -> Resp) -> Resp {
    match call(words(["DUMP"], [args[1].clone()])) {
        Resp::Bulk(payload) => {
            let mut restore = words(["RESTORE"], [args[2].clone(), args[3].clone(), payload]);
            restore.extend_from_slice(&args[4..]);
            call(restore)
        }
        other => other,
    }
}

/// A SCAN from the start, which the tests take for a whole iteration.
pub fn is_scan(args: &Command) -> bool {
    args[0].eq_ignore_ascii_case(b"SCAN") && args.get(1).is_some_and(|cursor| cursor == b"0")
}

/// Whether it stands for itself.
fn is_one(args: &Command) -> bool {
    !is_scan(args) && !is_carry(args)
}

/// Whether it is a SORT that looks for other keys.
fn has_pattern(args: &Command) -> bool {
    args[0].starts_with(b"SORT") && args.iter().any(|arg| arg.contains(&b'*'))
}

pub fn words<const N: usize, const M: usize>(first: [&str; N], then: [Vec<u8>; M]) -> Command {
    first.iter().map(|word| word.as_bytes().to_vec()).chain(then).collect()
}
