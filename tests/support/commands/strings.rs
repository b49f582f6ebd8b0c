//! Strings and bitmaps.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    pub(super) fn strings_write(&mut self) -> Command {
        let (key, value) = (self.key(), self.value());
        match self.rng.u32(..19) {
            0..4 => self.set(key, value),
            4 => words(["SETNX"], [key, value]),
            5 => words([self.pick(["SETEX", "PSETEX"])], [key, self.ttl(), value]),
            6 => words(["GETSET"], [key, value]),
            7 => words(["GETDEL"], [key]),
            8 => {
                let mut args = words(["GETEX"], [key]);
                self.expire_option(&mut args, &["PERSIST"]);
                args
            }
            9 => self.pairs("MSET"),
            10 => self.pairs("MSETNX"),
            11 | 12 => words(["APPEND"], [key, value]),
            13 | 14 => words(["SETRANGE"], [key, self.offset(), value]),
            15 => words([self.pick(["INCR", "DECR"])], [key]),
            16 | 17 => words([self.pick(["INCRBY", "DECRBY"])], [key, self.integer()]),
            _ => words(["INCRBYFLOAT"], [key, self.float()]),
        }
    }

    pub(super) fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Command {
        let mut args = words(["SET"], [key, value]);
        if self.rng.u32(..4) == 0 {
            args.push(self.pick(["NX", "XX", "nx"]).into());
        }
        if self.rng.u32(..5) == 0 {
            args.push(b"GET".to_vec());
        }
        if self.rng.u32(..3) == 0 {
            self.expire_option(&mut args, &["KEEPTTL"]);
        }
        args
    }

    pub(super) fn strings_read(&mut self) -> Command {
        let key = self.key();
        match self.rng.u32(..9) {
            0..3 => words(["GET"], [key]),
            3 => self.several("MGET"),
            4 => words(["STRLEN"], [key]),
            5 | 6 => words([self.pick(["GETRANGE", "SUBSTR"])], [key, self.index(), self.index()]),
            7 => words(["GET"], [self.key()]),
            _ => self.lcs(key),
        }
    }

    pub(super) fn lcs(&mut self, key: Vec<u8>) -> Command {
        let mut args = words(["LCS"], [key, self.key()]);
        if self.rng.bool() {
            args.push(self.pick(["LEN", "IDX"]).into());
        }
        if self.rng.u32(..3) == 0 {
            args.extend(words(["MINMATCHLEN"], [self.small()]));
        }
        if self.rng.u32(..3) == 0 {
            args.push(b"WITHMATCHLEN".to_vec());
        }
        args
    }

    pub(super) fn bitmaps(&mut self) -> Command {
        let key = self.key();
        match self.rng.u32(..12) {
            0 | 1 => words(["SETBIT"], [key, self.bit_offset(), self.pick(["0", "1", "1", "2"]).into()]),
            2 => words(["GETBIT"], [key, self.bit_offset()]),
            3 | 4 => {
                let mut args = words(["BITCOUNT"], [key]);
                self.bit_range(&mut args);
                args
            }
            5 | 6 => {
                let mut args = words(["BITPOS"], [key, self.pick(["0", "1", "0", "1", "2"]).into()]);
                match self.rng.u32(..3) {
                    0 => args.push(self.index()),
                    _ => self.bit_range(&mut args),
                }
                args
            }
            7 | 8 => {
                let operation = self.pick(["AND", "OR", "XOR", "NOT", "NOT", "and", "NAND"]);
                let mut args = words(["BITOP", operation], [key]);
                let sources = if operation == "NOT" { 1 } else { self.rng.usize(1..4) };
                args.extend((0..sources).map(|_| self.key()).collect::<Vec<_>>());
                args
            }
            9 => self.bitfield("BITFIELD_RO", true),
            _ => self.bitfield("BITFIELD", false),
        }
    }

    pub(super) fn bit_range(&mut self, args: &mut Command) {
        if self.rng.u32(..3) > 0 {
            args.extend([self.index(), self.index()]);
            if self.rng.bool() {
                args.push(self.pick(["BYTE", "BIT", "bit", "BITS"]).into());
            }
        }
    }

    pub(super) fn bitfield(&mut self, name: &str, read_only: bool) -> Command {
        let mut args = words([name], [self.key()]);
        for _ in 0..self.rng.usize(..4) {
            let sign = if self.rng.bool() { 'i' } else { 'u' };
            let odd = self.rng.u32(..20) == 0;
            let kind = format!("{sign}{}", self.rng.u32(if odd { 0..70 } else { 1..64 }));
            let hash = if self.rng.u32(..3) == 0 { "#" } else { "" };
            let at = format!("{hash}{}", self.rng.u32(..100));
            match self.rng.u32(..if read_only { 10 } else { 30 }) {
                0..9 => args.extend(words(["GET", &kind, &at], [])),
                9..20 => args.extend(words(["SET", &kind, &at], [self.integer()])),
                20..26 => args.extend(words(["INCRBY", &kind, &at], [self.integer()])),
                _ => args.extend(words(["OVERFLOW", self.pick(["WRAP", "SAT", "FAIL", "NONE"])], [])),
            }
        }
        args
    }
}
