//! Keys of any type, their deadlines, and whole databases.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    pub(super) fn keys(&mut self) -> Command {
        let prefix = self.prefix();
        let key = self.key_of(prefix);
        match self.rng.u32(..23) {
            0..5 => {
                let name = self.pick(["DEL", "UNLINK", "DEL", "EXISTS", "TOUCH"]);
                self.several(name)
            }
            5 => words(["TYPE"], [key]),
            6..9 => words([self.pick(["RENAME", "RENAMENX"])], [key, self.key_of(prefix)]),
            9..12 => {
                let mut args = words(["COPY"], [key, self.key_of(prefix)]);
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["DB"], [self.db()]));
                }
                if self.rng.bool() {
                    args.push(b"REPLACE".to_vec());
                }
                args
            }
            12 | 13 => words(["MOVE"], [key, self.db()]),
            14 => words(["OBJECT", self.pick(["ENCODING", "ENCODING", "ENCODING", "IDLETIME", "FREQ", "WHAT"])], [key]),
            15 | 16 => words(["OBJECT", "ENCODING"], [key]),
            17 => words(
                ["KEYS", self.pick(["*", "k?", "k[0-3]", "k[^0-3]", "k1*", "\\k1", "nothing*", "**1", "[k-l]1"])],
                [],
            ),
            18 => {
                let mut args = words(["SCAN", "0"], []);
                if self.rng.bool() {
                    args.extend(words(["MATCH", self.pick(["*", "k1*", "*[12]", "k?"])], []));
                }
                if self.rng.bool() {
                    args.extend(words(["COUNT", self.pick(["1", "5", "1000", "0", "-1", "x"])], []));
                }
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["TYPE", self.pick(["string", "STRING", "list", "hash", "set", "zset"])], []));
                }
                args
            }
            19..22 => {
                let mut args = words(["CARRY"], [key, self.key_of(prefix), self.lifetime()]);
                for option in ["REPLACE", "REPLACE", "ABSTTL", "IDLETIME 5", "FREQ 7", "FREQ 256", "WHAT"] {
                    if self.rng.u32(..if option == "REPLACE" { 2 } else { 12 }) == 0 {
                        args.extend(option.split(' ').map(|word| word.as_bytes().to_vec()));
                    }
                }
                args
            }
            _ => words(["RANDOMKEY"], []),
        }
    }

    pub(super) fn deadlines(&mut self) -> Command {
        let prefix = self.prefix();
        let key = self.key_of(prefix);
        match self.rng.u32(..12) {
            0..5 => {
                let name = self.pick(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]);
                let time = if name.ends_with("AT") { self.point_in_time(name) } else { self.ttl() };
                let mut args = words([name], [key, time]);
                for _ in 0..[0, 0, 1, 1, 1, 2][self.rng.usize(..6)] {
                    args.push(self.pick(["NX", "XX", "GT", "LT", "gt", "ZZ"]).into());
                }
                args
            }
            5..10 => words([self.pick(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"])], [key]),
            _ => words(["PERSIST"], [key]),
        }
    }

    pub(super) fn whole(&mut self) -> Command {
        match self.rng.u32(..40) {
            0..10 => words(["SELECT"], [self.db()]),
            10..20 => words(["DBSIZE"], []),
            20..24 => words(["SWAPDB"], [self.db(), self.db()]),
            24 => words(["FLUSHDB"], []),
            25 => words(["FLUSHALL", self.pick(["SYNC", "ASYNC", "LATER"])], []),
            _ => words(["SELECT", "0"], []),
        }
    }
}
