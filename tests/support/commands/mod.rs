//! Random commands: mostly valid, over few keys, so that they meet; some mangled. What they reply is the same on every server that is
//! right, but for what the tests that compare them know to depend on time, chance or the order of a hash table.

mod arguments;
mod collections;
mod keys;
mod strings;

use super::Command;
use fastrand::Rng;

pub struct Generator {
    pub rng: Rng,
    /// Whether MULTI and its kin come, too.
    pub transactions: bool,
}

impl Generator {
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
                out.extend((!is_scan(&command) && command[0] != b"BITFIELD").then_some(command));
            }
            if self.rng.u32(..10) == 0 {
                out.push(words(["UNWATCH"], []));
            }
        }
        out.push(words(["MULTI"], []));
        for _ in 0..self.rng.usize(..12) {
            // A full iteration takes several calls, and one mangled command spoils all the others.
            let command = if self.rng.u32(..40) == 0 { self.command() } else { self.valid() };
            out.extend((!is_scan(&command)).then_some(command));
        }
        if self.rng.u32(..40) == 0 {
            out.push(words([self.pick(["MULTI", "WATCH"]), "k1"], []));
        }
        out.push(words([self.pick(["EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "DISCARD"])], []));
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
        match self.rng.u32(..100) {
            0..14 => self.strings_write(),
            14..21 => self.strings_read(),
            21..30 => self.bitmaps(),
            30..41 => self.keys(),
            41..52 => self.deadlines(),
            52..62 => self.hashes(),
            62..73 => self.lists(),
            73..82 => self.sets(),
            82..97 => self.sorted_sets(),
            _ => self.whole(),
        }
    }

    fn mangle(&mut self, args: &mut Command) {
        let at = self.rng.usize(..args.len());
        if args[0] == b"SCAN" && at <= 1 {
            // Any number is a cursor to somewhere: nothing to compare.
            return;
        }
        if matches!(&args[0][..], b"SPOP" | b"HRANDFIELD") {
            // With another count, or none, the reply is chance.
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

/// A SCAN from the start, which the tests take for a whole iteration.
pub fn is_scan(args: &Command) -> bool {
    args[0].eq_ignore_ascii_case(b"SCAN") && args.get(1).is_some_and(|cursor| cursor == b"0")
}

pub fn words<const N: usize, const M: usize>(first: [&str; N], then: [Vec<u8>; M]) -> Command {
    first.iter().map(|word| word.as_bytes().to_vec()).chain(then).collect()
}
