//! Hashes, lists, sets and sorted sets.

use super::{Generator, words};
use crate::support::Command;
use fastrand::Rng;

impl Generator {
    pub(super) fn hashes(&mut self) -> Command {
        let key = self.key_of("h");
        let field = self.element();
        match self.rng.u32(..18) {
            0..5 => {
                let mut args = words([self.pick(["HSET", "HSET", "HMSET"])], [key]);
                for _ in 0..self.rng.usize(1..5) {
                    args.extend([self.element(), self.value()]);
                }
                args
            }
            5 => words(["HSETNX"], [key, field, self.value()]),
            6 => words([self.pick(["HGET", "HEXISTS", "HSTRLEN"])], [key, field]),
            7 => words(["HMGET"], [key, field, self.element()]),
            8 => words([self.pick(["HGETALL", "HKEYS", "HVALS", "HLEN"])], [key]),
            9 | 10 => words(["HDEL"], [key, field, self.element()]),
            11 | 12 => words(["HINCRBY"], [key, field, self.integer()]),
            13 => words(["HINCRBYFLOAT"], [key, field, self.float()]),
            14 => words(["HRANDFIELD"], [key, b"0".to_vec()]),
            15 => words(["OBJECT", "ENCODING"], [key]),
            16 => words(["HLEN"], [key]),
            _ => words(["HDEL"], [key, field]),
        }
    }

    pub(super) fn lists(&mut self) -> Command {
        let key = self.key_of("l");
        let side = |rng: &mut Rng| if rng.bool() { b"LEFT".to_vec() } else { b"right".to_vec() };
        match self.rng.u32(..24) {
            0..6 => {
                let mut args = words([self.pick(["LPUSH", "RPUSH", "LPUSH", "RPUSH", "LPUSHX", "RPUSHX"])], [key]);
                let count = self.rng.usize(1..6);
                args.extend((0..count).map(|_| self.element()).collect::<Vec<_>>());
                args
            }
            6..8 => words([self.pick(["LPOP", "RPOP"])], [key]),
            8 => words([self.pick(["LPOP", "RPOP"])], [key, self.small()]),
            9 => words(["LLEN"], [key]),
            10 => words(["LINDEX"], [key, self.index()]),
            11..14 => words(["LRANGE"], [key, self.index(), self.index()]),
            14 => words(["LSET"], [key, self.index(), self.value()]),
            15 => {
                let place = self.pick(["BEFORE", "AFTER", "after", "AT"]).into();
                words(["LINSERT"], [key, place, self.element(), self.value()])
            }
            16 => words(["LREM"], [key, self.small(), self.element()]),
            17 => words(["LTRIM"], [key, self.index(), self.index()]),
            18 => {
                let mut args = words(["LPOS"], [key, self.element()]);
                for name in ["RANK", "COUNT", "MAXLEN"] {
                    if self.rng.u32(..3) == 0 {
                        args.extend(words([name], [self.rng.i32(-3..5).to_string().into_bytes()]));
                    }
                }
                args
            }
            19 | 20 => {
                let (from, to) = (side(&mut self.rng), side(&mut self.rng));
                words(["LMOVE"], [key, self.key_of("l"), from, to])
            }
            21 => words(["RPOPLPUSH"], [key, self.key_of("l")]),
            22 => {
                let side = side(&mut self.rng);
                let mut args = words(["LMPOP", "2"], [key, self.key_of("l"), side]);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args
            }
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }

    pub(super) fn sets(&mut self) -> Command {
        let key = self.key_of("s");
        match self.rng.u32(..18) {
            0..6 => {
                let mut args = words(["SADD"], [key]);
                let count = self.rng.usize(1..6);
                args.extend((0..count).map(|_| self.element()).collect::<Vec<_>>());
                args
            }
            6 | 7 => words(["SREM"], [key, self.element(), self.element()]),
            8 => words(["SISMEMBER"], [key, self.element()]),
            9 => words(["SMISMEMBER"], [key, self.element(), self.element()]),
            10 => words([self.pick(["SCARD", "SMEMBERS", "SMEMBERS"])], [key]),
            11 => words(["SPOP", self.pick(["0", "100000", "-1"])], [key]),
            12 => words(["SMOVE"], [key, self.key_of("s"), self.element()]),
            13 => words([self.pick(["SINTER", "SUNION", "SDIFF"])], [key, self.key_of("s")]),
            14 | 15 => {
                let name = self.pick(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                words([name], [key, self.key_of("s"), self.key_of("s")])
            }
            16 => {
                let mut args = words(["SINTERCARD", "2"], [key, self.key_of("s")]);
                if self.rng.bool() {
                    args.extend(words(["LIMIT"], [self.small()]));
                }
                args
            }
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }

    pub(super) fn sorted_sets(&mut self) -> Command {
        let key = self.key_of("z");
        match self.rng.u32(..34) {
            0..7 => {
                let mut args = words(["ZADD"], [key]);
                for option in ["NX", "XX", "GT", "LT", "CH", "INCR"] {
                    if self.rng.u32(..8) == 0 {
                        args.push(option.into());
                    }
                }
                for _ in 0..self.rng.usize(1..5) {
                    args.extend([self.score(), self.element()]);
                }
                args
            }
            7 | 8 => words(["ZINCRBY"], [key, self.score(), self.element()]),
            9 | 10 => words(["ZREM"], [key, self.element(), self.element()]),
            11 => words([self.pick(["ZSCORE", "ZRANK", "ZREVRANK"])], [key, self.element()]),
            12 => words(["ZMSCORE"], [key, self.element(), self.element()]),
            13 => words([self.pick(["ZCOUNT", "ZREMRANGEBYSCORE"])], [key, self.score_limit(), self.score_limit()]),
            14..17 => {
                let mut args = words([self.pick(["ZRANGE", "ZREVRANGE"])], [key, self.index(), self.index()]);
                if self.rng.bool() {
                    args.push(b"WITHSCORES".to_vec());
                }
                args
            }
            17..20 => {
                let name = self.pick(["ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANGE", "ZRANGESTORE"]);
                let mut args = words([name], [key]);
                if name == "ZRANGESTORE" {
                    args.push(self.key_of("z"));
                }
                args.extend([self.score_limit(), self.score_limit()]);
                if name.ends_with("GE") || name.ends_with("STORE") {
                    args.push(b"BYSCORE".to_vec());
                    args.extend(self.rng.bool().then(|| b"REV".to_vec()));
                }
                if self.rng.u32(..3) == 0 {
                    args.push(b"withscores".to_vec());
                }
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["LIMIT"], [self.small(), self.small()]));
                }
                args
            }
            20 => words(["ZREMRANGEBYRANK"], [key, self.index(), self.index()]),
            21 => {
                let mut args = words([self.pick(["ZPOPMIN", "ZPOPMAX"])], [key]);
                if self.rng.bool() {
                    args.push(self.small());
                }
                args
            }
            22 => {
                let mut args = words(["ZMPOP", "2"], [key, self.key_of("z"), self.pick(["MIN", "max"]).into()]);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args
            }
            23 => words(["ZCARD"], [key]),
            24..29 => self.sorted_set_algebra(key),
            // Ranges by member mean something only where all scores are the same.
            29 | 30 => {
                words(["ZADD"], [self.key_of("y"), b"0".to_vec(), self.element(), b"0".to_vec(), self.element()])
            }
            31 => {
                let name = self.pick(["ZRANGEBYLEX", "ZREVRANGEBYLEX", "ZLEXCOUNT", "ZREMRANGEBYLEX"]);
                words([name], [self.key_of("y"), self.member_limit(), self.member_limit()])
            }
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }

    pub(super) fn sorted_set_algebra(&mut self, key: Vec<u8>) -> Command {
        let name = self.pick([
            "ZUNION",
            "ZINTER",
            "ZDIFF",
            "ZUNIONSTORE",
            "ZINTERSTORE",
            "ZDIFFSTORE",
            "ZINTERCARD",
            "ZUNION",
        ]);
        let mut args = words([name], []);
        if name.ends_with("STORE") {
            args.push(key);
        }
        args.push(b"2".to_vec());
        args.push(self.key_of("z"));
        args.push(if self.rng.u32(..4) == 0 { self.key_of("s") } else { self.key_of("z") });
        if self.rng.u32(..3) == 0 {
            args.extend(words(["WEIGHTS"], [self.score(), self.score()]));
        }
        if self.rng.u32(..3) == 0 {
            args.extend(words(["AGGREGATE", self.pick(["SUM", "MIN", "max", "AVG"])], []));
        }
        if self.rng.u32(..2) == 0 {
            args.push(b"WITHSCORES".to_vec());
        }
        args
    }
}
